//! How many connections each server may have, over all workers, and whose request is the next where some have to wait.
//!
//! Each connection takes a seat, whether a request is in flight on it or it is idle: a server that has a thread for each connection must not
//! have more. An idle one's seat is its worker's, who uses it again or, if the next request waits elsewhere, closes the connection.
//!
//! Requests wait in the queue of their worker. Here each worker shows the ticket of its first one, and the lowest of these is the next: only
//! it may take a seat, so that no worker's requests starve beside another's. Whoever gives a seat back, or is the next no longer, has the next
//! one look. And whoever begins to wait looks once more: a seat that was given back before its ticket could be seen is free then, since
//! all of this has one order for all threads (SeqCst): one shows itself and then looks for seats, the other gives a seat and then looks who
//! waits.

use crate::engine::ServerId;
use std::fmt;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize};

/// Ends a worker's wait.
pub type Waker = Box<dyn Fn() + Send + Sync>;

/// The ticket of a worker in which nobody waits.
const NOBODY: u64 = u64::MAX;

/// See the module.
pub struct Seats {
    most: u32,
    taken: Box<[AtomicU32]>,
    /// Of these, how many are idle connections'.
    idle: Box<[AtomicU32]>,
    most_waiting: usize,
    waiting: AtomicUsize,
    tickets: AtomicU64,
    /// By worker: the ticket of its first one, and how many idle connections it has.
    first: Box<[AtomicU64]>,
    keeps: Box<[AtomicUsize]>,
    wakers: Vec<Waker>,
}

impl Seats {
    /// At most `most` for each server, and so many requests that wait for one. There is a worker for each waker.
    pub fn new(servers: usize, most: u32, most_waiting: usize, wakers: Vec<Waker>) -> Seats {
        Seats {
            most,
            taken: (0..servers).map(|_| AtomicU32::new(0)).collect(),
            idle: (0..servers).map(|_| AtomicU32::new(0)).collect(),
            most_waiting,
            waiting: AtomicUsize::new(0),
            tickets: AtomicU64::new(0),
            first: wakers.iter().map(|_| AtomicU64::new(NOBODY)).collect(),
            keeps: wakers.iter().map(|_| AtomicUsize::new(0)).collect(),
            wakers,
        }
    }

    // ---- seats

    pub fn is_full(&self, server: ServerId) -> bool {
        self.taken(server) >= self.most
    }

    /// How many are taken; all, if there is no such server.
    pub fn taken(&self, server: ServerId) -> u32 {
        self.taken.get(usize::from(server)).map_or(u32::MAX, |taken| taken.load(SeqCst))
    }

    /// Takes a seat with the server, if one is free.
    pub fn take(&self, server: ServerId) -> bool {
        let more = |taken| (taken < self.most).then_some(taken + 1);
        self.taken.get(usize::from(server)).is_some_and(|taken| taken.fetch_update(SeqCst, SeqCst, more).is_ok())
    }

    /// Gives it back. The next one is to look then.
    pub fn give(&self, server: ServerId) {
        if let Some(taken) = self.taken.get(usize::from(server)) {
            let before = taken.fetch_sub(1, SeqCst);
            debug_assert!(before > 0, "a seat was given back twice");
        }
    }

    /// Has each seat a request? Those of idle connections can be had soon, whichever worker's they are.
    pub fn is_busy(&self, server: ServerId) -> bool {
        let idle = self.idle.get(usize::from(server)).map_or(0, |idle| idle.load(SeqCst));
        self.taken(server).saturating_sub(idle) >= self.most
    }

    /// A connection of this worker is idle from now on.
    pub fn idles(&self, worker: usize, server: ServerId) {
        if let (Some(keeps), Some(idle)) = (self.keeps.get(worker), self.idle.get(usize::from(server))) {
            keeps.fetch_add(1, SeqCst);
            idle.fetch_add(1, SeqCst);
        }
    }

    /// One less.
    pub fn idles_no_more(&self, worker: usize, server: ServerId) {
        if let (Some(keeps), Some(idle)) = (self.keeps.get(worker), self.idle.get(usize::from(server))) {
            keeps.fetch_sub(1, SeqCst);
            idle.fetch_sub(1, SeqCst);
        }
    }

    /// Somebody waits in this worker: has the others look whether their idle connections can go.
    pub fn ask_for(&self, worker: usize) {
        for (other, keeps) in self.keeps.iter().enumerate() {
            if other != worker && keeps.load(SeqCst) > 0 {
                self.wake(other);
            }
        }
    }

    // ---- who waits for one

    pub fn anybody_waits(&self) -> bool {
        self.waiting.load(SeqCst) > 0
    }

    /// Do more than this one wait?
    pub fn others_wait(&self) -> bool {
        self.waiting.load(SeqCst) > 1
    }

    /// May one more wait? Where several workers ask at once, some more may.
    pub fn has_room(&self) -> bool {
        self.waiting.load(SeqCst) < self.most_waiting
    }

    /// One more waits: its ticket, and how many wait already.
    pub fn join(&self) -> (u64, usize) {
        let others = self.waiting.fetch_add(1, SeqCst);
        (self.tickets.fetch_add(1, SeqCst), others)
    }

    /// One less.
    pub fn leave(&self) {
        self.waiting.fetch_sub(1, SeqCst);
    }

    /// Shows the ticket of the first one that waits in this worker.
    pub fn show(&self, worker: usize, ticket: Option<u64>) {
        if let Some(first) = self.first.get(worker) {
            first.store(ticket.unwrap_or(NOBODY), SeqCst);
        }
    }

    /// In which worker the next one waits.
    pub fn next(&self) -> Option<usize> {
        let tickets = self.first.iter().map(|first| first.load(SeqCst)).enumerate();
        tickets.filter(|(_, ticket)| *ticket != NOBODY).min_by_key(|(_, ticket)| *ticket).map(|(worker, _)| worker)
    }

    /// Has that worker's first one look.
    pub fn wake(&self, worker: usize) {
        if let Some(wake) = self.wakers.get(worker) {
            wake();
        }
    }
}

impl fmt::Debug for Seats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seats").field("most", &self.most).field("taken", &self.taken).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::thread;

    fn seats(most: u32, workers: usize) -> Seats {
        Seats::new(2, most, 3, (0..workers).map(|_| Box::new(|| {}) as Waker).collect())
    }

    #[test]
    fn there_are_no_more_seats_than_that_whoever_takes_them() {
        let seats = Arc::new(seats(10, 1));
        let takers = (0..4).map(|_| {
            let seats = seats.clone();
            thread::spawn(move || (0..100).filter(|_| seats.take(0)).count())
        });
        let taken: usize = takers.collect::<Vec<_>>().into_iter().map(|taker| taker.join().unwrap()).sum();
        assert_eq!(taken, 10);
        assert!(seats.is_full(0) && !seats.is_full(1) && seats.is_full(2), "there is no third server");
        seats.give(0);
        assert!(!seats.is_full(0) && seats.take(0) && !seats.take(0) && !seats.take(2));
    }

    #[test]
    fn the_lowest_ticket_is_the_next() {
        let seats = seats(1, 3);
        assert_eq!((seats.next(), seats.anybody_waits()), (None, false));
        let tickets = [seats.join(), seats.join(), seats.join()];
        assert!(seats.anybody_waits() && !seats.has_room());
        seats.show(2, Some(tickets[0].0));
        seats.show(0, Some(tickets[1].0));
        assert_eq!(seats.next(), Some(2));
        seats.leave();
        seats.show(2, Some(tickets[2].0));
        assert_eq!((seats.next(), seats.has_room()), (Some(0), true));
        seats.show(0, None);
        assert_eq!(seats.next(), Some(2));
    }
}
