//! What all workers are told about servers: how the last probe of each ended, by the worker that probes; which of them were ejected, by
//! the worker that met their failures; and which are to get no requests, by the admin side.

use crate::engine::ServerId;
use crate::proxy::health::Ejection;
use crate::proxy::seats::{Seats, Waker};
use crate::proxy::servers::Policy;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

const DOWN: u32 = 1;
const WELL: u32 = 2;
const COUNT: u32 = 4;

/// See the module.
#[derive(Debug)]
pub struct Board {
    /// Changes whenever anything else does. Workers read it per request, and nobody writes it more often than probes end, servers are
    /// ejected and administrators decide.
    version: AtomicU32,
    words: Box<[AtomicU32]>,
    /// Of each server's last ejection: twice its end, and one more if only connecting had failed.
    ejections: Box<[AtomicU64]>,
    /// Held by whoever decides to eject.
    ejecting: Mutex<()>,
    drained: Box<[AtomicBool]>,
    /// If servers have a limit of connections.
    seats: Option<Arc<Seats>>,
}

/// How a server's last probe ended and what is thought of the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notice {
    pub down: bool,
    pub well: bool,
    /// A number for each probe; 0: there was none yet.
    pub count: u32,
}

impl Board {
    pub fn new(servers: usize) -> Board {
        let words = (0..servers).map(|_| AtomicU32::new(0)).collect();
        let ejections = (0..servers).map(|_| AtomicU64::new(0)).collect();
        let drained = (0..servers).map(|_| AtomicBool::new(false)).collect();
        Board { version: AtomicU32::new(0), words, ejections, ejecting: Mutex::new(()), drained, seats: None }
    }

    /// With the limit of connections per server that the policy may have, for as many workers as there are wakers.
    pub fn limited(mut self, policy: &Policy, wakers: Vec<Waker>) -> Board {
        let seats = |most| Arc::new(Seats::new(self.words.len(), most, policy.queue, wakers));
        self.seats = policy.most.map(seats);
        self
    }

    pub fn seats(&self) -> Option<Arc<Seats>> {
        self.seats.clone()
    }

    /// Changes when there is something new to read.
    pub fn version(&self) -> u32 {
        self.version.load(Ordering::Acquire)
    }

    pub fn read(&self, server: ServerId) -> Notice {
        let word = self.words.get(usize::from(server)).map_or(0, |word| word.load(Ordering::Relaxed));
        Notice { down: word & DOWN != 0, well: word & WELL != 0, count: word / COUNT }
    }

    /// The server's last ejection, which may be over.
    pub fn ejection(&self, server: ServerId) -> Ejection {
        let word = self.ejections.get(usize::from(server)).map_or(0, |word| word.load(Ordering::Relaxed));
        Ejection { until: word / 2, only_connects: word % 2 == 1 }
    }

    /// A worker that has read everything up to the version `seen` ejects the server. False, and nothing is done, if there is more to read:
    /// another worker may have ejected it, or so many others that this one has to stay.
    pub fn eject(&self, server: ServerId, ejection: Ejection, seen: u32) -> bool {
        let Some(word) = self.ejections.get(usize::from(server)) else { return false };
        let _one_at_a_time = self.ejecting.lock().unwrap_or_else(PoisonError::into_inner);
        if self.version() != seen {
            return false;
        }
        word.store(ejection.until * 2 + u64::from(ejection.only_connects), Ordering::Relaxed);
        self.version.fetch_add(1, Ordering::Release);
        true
    }

    /// Is the server to get no requests?
    pub fn is_drained(&self, server: ServerId) -> bool {
        self.drained.get(usize::from(server)).is_some_and(|drained| drained.load(Ordering::Relaxed))
    }

    /// From now on the server is to get no requests, or gets some again.
    pub fn drain(&self, server: ServerId, drained: bool) {
        if let Some(word) = self.drained.get(usize::from(server)) {
            word.store(drained, Ordering::Relaxed);
            self.version.fetch_add(1, Ordering::Release);
        }
    }

    /// Tells of one more probe. There is one writer.
    pub fn post(&self, server: ServerId, down: bool, well: bool) {
        let Some(word) = self.words.get(usize::from(server)) else { return };
        let count = (word.load(Ordering::Relaxed) / COUNT + 1) % (u32::MAX / COUNT);
        let flags = if down { DOWN } else { 0 } | if well { WELL } else { 0 };
        word.store((count.max(1) * COUNT) | flags, Ordering::Relaxed);
        self.version.fetch_add(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_posted_can_be_read_and_shows_by_the_version() {
        let board = Board::new(2);
        let before = board.version();
        assert_eq!(board.read(1), Notice::default());
        board.post(1, true, false);
        assert_ne!(board.version(), before);
        assert_eq!(board.read(1), Notice { down: true, well: false, count: 1 });
        board.post(1, false, true);
        assert_eq!((board.read(1), board.read(0).count), (Notice { down: false, well: true, count: 2 }, 0));
        assert_eq!(board.read(9), Notice::default());
    }

    #[test]
    fn whoever_has_read_all_may_eject_and_the_last_ejection_of_each_is_known() {
        let (board, first) = (Board::new(2), Ejection { until: 7, only_connects: true });
        let seen = board.version();
        assert!(board.eject(1, first, seen) && !board.eject(9, first, board.version()));
        assert_eq!((board.ejection(1), board.ejection(0).until), (first, 0));
        let second = Ejection { until: 9, only_connects: false };
        assert!(!board.eject(0, second, seen), "it does not know of the first one");
        assert!(board.eject(1, second, board.version()));
        assert_eq!((board.ejection(1), board.ejection(0).until), (second, 0));
    }

    #[test]
    fn who_is_drained_shows_beside_the_probes() {
        let board = Board::new(2);
        board.post(1, false, true);
        let before = board.version();
        board.drain(1, true);
        assert!(board.version() != before && board.is_drained(1) && !board.is_drained(0));
        assert_eq!(board.read(1), Notice { down: false, well: true, count: 1 });
        board.drain(1, false);
        board.drain(9, true);
        assert!(!board.is_drained(1) && !board.is_drained(9));
    }
}
