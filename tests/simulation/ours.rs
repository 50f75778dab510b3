//! The worker's end of connections: what its kernel lets it do, and how it may be hindered.

use super::{ConnId, Fin, Net, State, What, event};
use crate::bytes::Bytes;
use pilb::net::io::{Interest, Token};
use rustix::io::Errno;

impl Net {
    /// Are all descriptors in use?
    pub fn exhausted(&self, wanted: usize) -> bool {
        self.held.len() + 2 * self.pipes + wanted > self.weather.descriptors
    }

    pub fn accept(&mut self, worker: usize) -> Result<ConnId, Errno> {
        let Some(first) = self.backlog.front().copied() else { return Err(Errno::AGAIN) };
        if self.exhausted(1) {
            return Err(Errno::MFILE);
        }
        if self.random.chance(self.weather.accept_error) {
            let error =
                *self.random.pick(&[Errno::CONNABORTED, Errno::NFILE, Errno::MFILE, Errno::INTR, Errno::NOBUFS]);
            if error == Errno::CONNABORTED {
                self.backlog.pop_front();
                self.conns[first].state = State::Dead;
                self.at(self.now, What::ResetPeer(first));
            }
            self.moved += 1;
            return Err(error);
        }
        self.backlog.pop_front();
        self.hold(first, worker);
        let conn = &mut self.conns[first];
        if conn.state == State::Backlog {
            conn.state = State::Open;
        }
        conn.begun = self.now;
        Ok(first)
    }

    /// The worker has a stream of it from now on.
    pub fn hold(&mut self, id: ConnId, worker: usize) {
        let conn = &mut self.conns[id];
        (conn.held, conn.worker) = (true, worker);
        self.held.push(id);
        self.held_clients += usize::from(self.conns[id].server.is_none());
        self.most_clients = self.most_clients.max(self.held_clients);
        self.moved += 1;
    }

    pub fn close_listeners(&mut self, worker: usize) {
        self.ends[worker].listens = false;
        if self.listens() {
            return;
        }
        for id in std::mem::take(&mut self.backlog) {
            self.conns[id].state = State::Dead;
            self.at(self.now, What::ResetPeer(id));
        }
    }

    /// The error of a dial, asked for when its event came.
    pub fn take_error(&mut self, id: ConnId) -> Option<Errno> {
        self.conns[id].error.take()
    }

    pub fn watch(&mut self, id: ConnId, worker: usize, token: Token, interest: Interest) {
        let conn = &mut self.conns[id];
        // It may have been accepted by another one.
        conn.worker = worker;
        (conn.token, conn.interest) = (Some(token), interest);
        // Adding and changing look at what is there already.
        if !conn.woken && conn.state != State::Dialing {
            conn.woken = true;
            self.ready.push(id);
        }
    }

    /// What comes before every read and write.
    fn hinder(&mut self, id: ConnId) -> Result<(), Errno> {
        if self.random.chance(self.weather.eintr) {
            return Err(Errno::INTR);
        }
        if self.conns[id].state == State::Dialing {
            return Err(Errno::AGAIN);
        }
        Ok(())
    }

    /// How many bytes a read takes now; 0 is the end. `splice`: a short one says nothing, and no edge is owed after it.
    pub fn readable(&mut self, id: ConnId, most: u64, splice: bool) -> Result<u64, Errno> {
        self.hinder(id)?;
        let random = &mut self.random;
        let conn = &mut self.conns[id];
        let there = conn.in_arrived.len();
        if there == 0 {
            if conn.in_fin == Fin::Arrived {
                return Ok(0);
            }
            return match (conn.error.take(), conn.state) {
                (Some(error), _) => Err(error),
                (None, State::Dead) => Ok(0),
                (None, _) => Err(Errno::AGAIN),
            };
        }
        if random.chance(self.weather.eagain) {
            conn.hidden = true;
            let at = self.now + random.below(2000);
            self.at(at, What::Edge(id));
            return Err(Errno::AGAIN);
        }
        let mut n = there.min(most);
        let short = if splice { self.weather.short_splice } else { self.weather.short_read };
        if random.chance(short) {
            n = random.within(1, n);
            if n < there && !splice {
                // As if the rest had come just afterwards.
                self.edge(id);
            }
        }
        Ok(n)
    }

    /// Takes so many bytes of what has come.
    pub fn take(&mut self, id: ConnId, n: u64) -> Bytes {
        let now = self.now;
        let conn = &mut self.conns[id];
        let bytes = conn.in_arrived.take(n);
        conn.hidden = false;
        conn.received += n;
        conn.stamps.touch(now);
        if let Some(since) = conn.unread_since.take() {
            conn.neglect = Some((since, now));
        }
        self.moved += 1;
        if conn.peer_nospace && conn.peer_open {
            conn.peer_nospace = false;
            self.wake_peer(id);
        }
        bytes
    }

    /// How many bytes a write takes now.
    pub fn sendable(&mut self, id: ConnId, most: u64, splice: bool) -> Result<u64, Errno> {
        self.hinder(id)?;
        let random = &mut self.random;
        let conn = &mut self.conns[id];
        if let Some(error) = conn.error.take() {
            return Err(error);
        }
        if conn.state != State::Open || conn.out_fin != Fin::Open {
            return Err(Errno::PIPE);
        }
        let room = conn.room_out();
        if room == 0 || (random.chance(self.weather.eagain) && most > 0) {
            conn.nospace = true;
            if room > 0 {
                let at = self.now + random.below(2000);
                self.at(at, What::Edge(id));
            }
            return Err(Errno::AGAIN);
        }
        let mut n = most.min(room);
        if splice && random.chance(self.weather.short_splice) {
            n = random.within(1, n);
        } else if n < most {
            conn.nospace = true;
        } else if !splice && n > 1 && random.chance(self.weather.short_write) {
            n = random.within(1, n - 1);
            conn.nospace = true;
            let at = self.now + random.below(2000);
            self.at(at, What::Edge(id));
        }
        Ok(n)
    }

    /// So many bytes go out.
    pub fn sent(&mut self, id: ConnId, n: u64) {
        let now = self.now;
        let conn = &mut self.conns[id];
        conn.out_flight += n;
        conn.sent += n;
        conn.stamps.touch(now);
        self.moved += 1;
        self.send_off_out(id);
    }

    pub fn end(&mut self, id: ConnId) {
        let conn = &mut self.conns[id];
        if conn.out_fin == Fin::Open && conn.state == State::Open {
            conn.out_fin = Fin::Sent;
            self.moved += 1;
            self.note(|| format!("c{id} proxy ends"));
            self.send_off_out(id);
        }
    }

    /// The worker lets go of its stream; `reset`: with a reset.
    pub fn close(&mut self, id: ConnId, reset: bool) {
        self.moved += 1;
        self.held.retain(|held| *held != id);
        self.held_clients -= usize::from(self.conns[id].server.is_none());
        let stale = self.random.chance(self.weather.stale_event);
        let now = self.now;
        let conn = &mut self.conns[id];
        conn.held = false;
        conn.closed = now;
        if stale && let Some(token) = conn.token {
            let worker = conn.worker;
            self.ends[worker].stale.push(event(token, true, true, self.random.chance(300)));
        }
        let conn = &mut self.conns[id];
        conn.late = (conn.woken || conn.hidden) && !reset && !conn.in_arrived.is_empty();
        (conn.token, conn.woken) = (None, false);
        match conn.state {
            State::Open => {}
            // Who is being dialed is given up.
            _ => return conn.state = State::Dead,
        }
        if reset || !conn.in_arrived.is_empty() {
            conn.reset_by_worker = true;
            conn.state = State::Dead;
            let survives = self.random.within(0, conn.out_flight);
            (conn.out_flight, conn.out_arrived) = (0, conn.out_arrived + survives);
            self.note(|| format!("c{id} proxy resets"));
            let at = self.travel(id);
            self.at(at, What::ResetPeer(id));
        } else {
            self.end(id);
            self.note(|| format!("c{id} proxy closes"));
            if !self.conns[id].in_flight.is_empty() {
                self.send_off_in(id);
            }
        }
    }
}
