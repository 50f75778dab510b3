//! What epoll tells each worker, and when.

use super::{Net, State, event};
use pilb::net::io::{Event, Interest, Token};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What the kernel has for one worker, apart from its connections. They all share one listener.
pub struct WorkerEnd {
    pub listens: bool,
    pub(super) listener_woken: bool,
    pub waker: Arc<AtomicBool>,
    pub(super) stale: Vec<Event>,
}

impl WorkerEnd {
    pub(super) fn new() -> WorkerEnd {
        WorkerEnd { listens: true, listener_woken: false, waker: Arc::default(), stale: Vec::new() }
    }
}

impl Net {
    /// What epoll tells a worker of now.
    pub fn collect(&mut self, worker: usize, events: &mut Vec<Event>) {
        let end = &mut self.ends[worker];
        if std::mem::take(&mut end.listener_woken) {
            events.push(event(Token::Listener(0), true, false, false));
        }
        if end.waker.swap(false, Ordering::SeqCst) {
            events.push(event(Token::Waker, true, false, false));
        }
        let late = self.weather.late_event;
        let most = if self.weather.small_batches { 1 + self.random.below(4) as usize } else { usize::MAX };
        for id in std::mem::take(&mut self.ready) {
            if self.conns[id].worker != worker {
                // What was closed is nobody's any more.
                self.ready.extend(self.conns[id].held.then_some(id));
                continue;
            }
            let waits = self.random.chance(late) || events.len() >= most;
            let conn = &mut self.conns[id];
            let Some(token) = conn.token.filter(|_| conn.held && conn.woken) else { continue };
            if waits {
                self.ready.push(id);
                continue;
            }
            conn.woken = false;
            let (readable, hangup) = (conn.readable(), conn.hangup());
            let writable = conn.writable() && (conn.interest == Interest::Both || conn.state == State::Dead);
            if readable || writable || hangup {
                events.push(event(token, readable, writable, hangup));
            }
        }
        events.append(&mut self.ends[worker].stale);
        if self.weather.shuffle {
            for at in (1..events.len()).rev() {
                events.swap(at, self.random.below(at as u64 + 1) as usize);
            }
        }
    }

    /// Is there anything that would end this worker's wait?
    pub fn has_events(&self, worker: usize) -> bool {
        let end = &self.ends[worker];
        let woken = end.listener_woken || !end.stale.is_empty() || end.waker.load(Ordering::SeqCst);
        woken || self.ready.iter().any(|id| self.conns[*id].held && self.conns[*id].worker == worker)
    }

    /// A worker is about to wait: what does it leave lying about?
    pub fn look_for_neglect(&mut self, worker: usize) {
        let now = self.now;
        for id in &self.held {
            let conn = &mut self.conns[*id];
            if conn.worker != worker {
                continue;
            }
            if conn.token.is_some() && conn.is_spoken_for() {
                conn.unread_since.get_or_insert(now);
            } else {
                conn.unread_since = None;
            }
        }
    }
}
