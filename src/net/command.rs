//! What a worker is told from outside, and how it ends.

use crate::engine::{App, Drain};
use crate::net::io::Io;
use crate::net::worker::Worker;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// What a worker is told from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Command {
    /// Serve.
    Run = 0,
    /// Accept no more, finish what runs, end.
    Drain = 1,
    /// End at once.
    Stop = 2,
}

/// The other end of a worker's ear.
#[derive(Clone)]
pub struct Remote {
    command: Arc<AtomicU8>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

impl Remote {
    /// `wake` ends the worker's wait.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Remote {
        Remote { command: Arc::new(AtomicU8::new(Command::Run as u8)), wake: Arc::new(wake) }
    }

    pub fn tell(&self, command: Command) {
        self.command.store(command as u8, Ordering::Release);
        self.wake();
    }

    /// Has the worker look at what it is told, at who is handed over to it, and at what its app may have waited for.
    pub fn wake(&self) {
        (self.wake)();
    }

    pub(super) fn heard(&self) -> Command {
        match self.command.load(Ordering::Acquire) {
            0 => Command::Run,
            1 => Command::Drain,
            _ => Command::Stop,
        }
    }
}

impl<A: App, I: Io> Worker<A, I> {
    /// Begins to drain, or to stop.
    pub(super) fn obey(&mut self, command: Command) {
        let drain = match command {
            Command::Run => return,
            Command::Drain => Drain::Finish,
            Command::Stop => Drain::Now,
        };
        if self.drain == Drain::No {
            // Who has connected is served; who comes now gets refused by the kernel and can go elsewhere.
            self.ready.fill(true);
            if let Some(share) = &self.share {
                share.close();
            }
            while self.accepts() {
                self.accept();
            }
            self.io.close_listeners();
            self.ready.fill(false);
            self.drain_ends = self.now.mono.saturating_add(self.settings.drain);
            self.idle.clear(&mut self.expired);
            self.drop_expired();
            self.errands.clear();
        }
        // Woken for a late client, it is told again to finish, perhaps after the time for that.
        if self.drain != Drain::Now {
            self.drain = drain;
        }
        let slots: Vec<u32> = self.sessions.iter().map(|(slot, _)| slot as u32).collect();
        for slot in slots {
            // A request that has arrived but was not announced yet is still served.
            self.sessions[slot as usize].client.look();
            self.queue(slot, false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Micros, Now, Peer};
    use crate::engine::{AccessLog, AccessRecord, Close, Flow, Turn};
    use crate::net::share::{Place, Share};
    use crate::net::sys::{Stream, Sys};
    use crate::net::worker::{NEVER, Settings};
    use mio::net::UnixStream;
    use std::time::Instant;

    struct NoLog;

    impl AccessLog for NoLog {
        fn record(&mut self, _: &AccessRecord) {}
    }

    /// Has nothing to say, and goes when it is told that the end is near.
    struct Silent;

    impl App for Silent {
        type Session = ();

        fn open(&mut self, _: Peer, _: Now) {}

        fn advance(&mut self, (): &mut (), turn: &mut Turn<'_>) {
            turn.effects.close = (turn.drain != Drain::No).then_some(Close::Finish);
        }

        fn deadline(&self, (): &mut (), _: Now, _: &Flow, _: &Flow) -> Option<Micros> {
            None
        }
    }

    /// A worker, its ear, and the part of another one that has taken a place with it.
    fn promised() -> (Worker<Silent, Sys>, Remote, Share<Stream>) {
        let sys = Sys::new(Vec::new(), Instant::now()).unwrap();
        let waker = sys.waker();
        let remote = Remote::new(move || waker.wake().unwrap());
        let mut shares = Share::among(&[Remote::new(|| {}), remote.clone()]).into_iter();
        let (giver, own) = (shares.next().unwrap(), shares.next());
        let settings = Settings {
            buffer: 4096,
            buffers: usize::MAX,
            max_sessions: 9,
            idle_per_server: 0,
            drain: NEVER,
            linger: 0,
        };
        let worker = Worker::new(Silent, sys, Vec::new(), Box::new(NoLog), remote.clone(), settings).sharing(own);
        assert_eq!([giver.enter(9), giver.enter(9)], [Some(Place::Here), Some(Place::With(1))]);
        (worker, remote, giver)
    }

    #[test]
    fn a_worker_that_drains_waits_for_who_is_on_the_way() {
        let (mut worker, remote, mut giver) = promised();
        remote.tell(Command::Drain);
        assert!(worker.step().unwrap(), "one is still to come");
        let (stream, _client) = UnixStream::pair().unwrap();
        assert!(giver.hand_over(1, (Stream::Unix(stream), Peer::Unix)).is_ok());
        assert!(!worker.step().unwrap());
        assert_eq!(worker.served, 1);
    }

    #[test]
    fn nobody_came_after_all_and_the_worker_ends() {
        let (mut worker, remote, giver) = promised();
        remote.tell(Command::Drain);
        assert!(worker.step().unwrap());
        giver.leave(Place::With(1));
        assert!(!worker.step().unwrap());
        assert_eq!(worker.served, 0);
    }

    #[test]
    fn told_to_stop_a_worker_is_not_softened_by_a_late_client() {
        let (mut worker, remote, mut giver) = promised();
        remote.tell(Command::Drain);
        worker.step().unwrap();
        // The time for it is over.
        worker.obey(Command::Stop);
        let (stream, _client) = UnixStream::pair().unwrap();
        assert!(giver.hand_over(1, (Stream::Unix(stream), Peer::Unix)).is_ok());
        assert!(!worker.step().unwrap());
        assert_eq!(worker.drain, Drain::Now);
    }
}
