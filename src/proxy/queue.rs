//! The limit of connections per server as one worker sees it: its idle connections, and its requests that wait until a server has room, in the
//! order in which they came. Between workers that order holds as well: see [`crate::proxy::seats`].

use crate::engine::{Chores, News, ServerId, SessionId};
use crate::proxy::seats::Seats;
use std::collections::VecDeque;
use std::sync::Arc;

/// See the module.
///
/// Nobody is handed a place: when there may be one, the first is woken and looks. It stays the first until it says that it leaves, and
/// whoever comes meanwhile stands behind it. So a session that ends while it is woken loses nobody's place.
#[derive(Debug)]
pub struct Queue {
    waiting: VecDeque<(SessionId, u64)>,
    /// Without a limit nobody ever waits.
    seats: Option<Arc<Seats>>,
    /// By server: the idle connections, each of which has a seat. A connection that could not be kept, or is no more, counts until the loop
    /// says so.
    idle: Vec<usize>,
    worker: usize,
    /// There may be room: the first is to look.
    offered: bool,
}

impl Queue {
    /// That of worker number `worker`, for so many servers.
    pub fn new(seats: Option<Arc<Seats>>, servers: usize, worker: usize) -> Queue {
        Queue { waiting: VecDeque::new(), seats, idle: vec![0; servers], worker, offered: false }
    }

    // ---- seats

    pub fn has_limit(&self) -> bool {
        self.seats.is_some()
    }

    /// Is there no seat with the server, for this worker?
    pub fn is_full(&self, server: ServerId) -> bool {
        let idle = self.idle.get(usize::from(server)).is_some_and(|idle| *idle > 0);
        self.seats.as_ref().is_some_and(|seats| !idle && seats.is_full(server))
    }

    /// Is there none to be had soon either: is each in use, if not by this worker?
    pub fn is_busy(&self, server: ServerId) -> bool {
        self.is_full(server) && self.seats.as_ref().is_some_and(|seats| seats.is_busy(server))
    }

    /// Takes one, an idle connection's if there is any.
    pub fn take_seat(&mut self, server: ServerId) -> bool {
        self.seats.is_none() || self.take_idle(server) || self.seats.as_ref().is_some_and(|seats| seats.take(server))
    }

    /// A request is done with its connection. The seat stays with that if it is `kept`.
    pub fn done(&mut self, server: ServerId, kept: bool) {
        let Some(seats) = &self.seats else { return };
        match self.idle.get_mut(usize::from(server)) {
            Some(idle) if kept => {
                *idle += 1;
                seats.idles(self.worker, server);
                self.look();
            }
            _ => {
                seats.give(server);
                self.offer();
            }
        }
    }

    fn idle_gone(&mut self, server: ServerId) {
        if self.take_idle(server) {
            self.done(server, false);
        }
    }

    fn take_idle(&mut self, server: ServerId) -> bool {
        match self.idle.get_mut(usize::from(server)) {
            Some(idle) if *idle > 0 => {
                *idle -= 1;
                self.seats.iter().for_each(|seats| seats.idles_no_more(self.worker, server));
                true
            }
            _ => false,
        }
    }

    // ---- who waits

    /// Does nobody wait, in any worker?
    pub fn is_empty(&self) -> bool {
        self.seats.as_ref().is_none_or(|seats| !seats.anybody_waits())
    }

    /// May one more wait?
    pub fn has_room(&self) -> bool {
        self.seats.as_ref().is_some_and(|seats| seats.has_room())
    }

    /// Stands behind the others.
    pub fn join(&mut self, session: SessionId) {
        debug_assert!(self.waiting.iter().all(|(waiting, _)| *waiting != session));
        let Some(seats) = &self.seats else { return };
        let (ticket, others) = seats.join();
        self.waiting.push_back((session, ticket));
        self.show_first();
        if others == 1 {
            // The first one may wait for one server only, as long as it waits alone.
            return self.offer();
        }
        // A seat that became free just now was offered to nobody.
        self.look();
    }

    /// Is somebody behind the first one, in whichever worker?
    pub fn others_wait(&self) -> bool {
        self.seats.as_ref().is_some_and(|seats| seats.others_wait())
    }

    /// Is it this session's turn?
    pub fn is_first(&self, session: SessionId) -> bool {
        self.waiting.front().is_some_and(|(first, _)| *first == session) && self.next() == Some(self.worker)
    }

    /// The first one has looked, and there is no room: perhaps other workers can make some.
    pub fn ask_others(&self) {
        self.seats.iter().for_each(|seats| seats.ask_for(self.worker));
    }

    /// How many wait in this worker.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// The session waits no more, whether it has found a server or not. The next one is to look.
    pub fn leave(&mut self, session: SessionId) {
        if let Some(at) = self.waiting.iter().position(|(waiting, _)| *waiting == session) {
            self.waiting.remove(at);
            self.seats.iter().for_each(|seats| seats.leave());
            self.show_first();
            self.offer();
        }
    }

    /// A server may have room now: the next one is to look, in whichever worker it waits.
    pub fn offer(&mut self) {
        match self.next() {
            Some(worker) if worker == self.worker => self.offered = true,
            Some(worker) => self.seats.iter().for_each(|seats| seats.wake(worker)),
            None => {}
        }
    }

    /// Hears about idle connections, has one of each server closed if the next request waits in another worker, and wakes who is to look here.
    pub fn attend(&mut self, chores: &mut Chores) {
        if self.seats.is_none() {
            return;
        }
        for news in &chores.news {
            if let News::IdleGone { server } = news {
                self.idle_gone(*server);
            }
        }
        if chores.woken {
            self.look();
        }
        if self.next().is_some_and(|worker| worker != self.worker) {
            // A server that has a seat free needs none of this worker's.
            let full = |server| self.seats.as_ref().is_some_and(|seats| seats.is_full(server));
            let idle = self.idle.iter().zip(0..).filter(|(idle, server)| **idle > 0 && full(*server));
            chores.release.extend(idle.map(|(_, server)| server));
        }
        if std::mem::take(&mut self.offered) {
            chores.wake.extend(self.waiting.front().map(|(session, _)| session));
        }
    }

    /// There may be room of which nobody has told this worker.
    fn look(&mut self) {
        self.offered |= self.next() == Some(self.worker);
    }

    /// In which worker the next one waits.
    fn next(&self) -> Option<usize> {
        self.seats.as_ref()?.next()
    }

    fn show_first(&self) {
        let first = self.waiting.front().map(|(_, ticket)| *ticket);
        self.seats.iter().for_each(|seats| seats.show(self.worker, first));
    }
}

/// A worker that ends takes no seat with it: others may wait for those of its idle connections.
impl Drop for Queue {
    fn drop(&mut self) {
        for server in 0..self.idle.len() as ServerId {
            while self.take_idle(server) {
                self.done(server, false);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::seats::Waker;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn session(slot: u32) -> SessionId {
        SessionId { slot, generation: 1 }
    }

    /// Who is woken in a batch, and to which servers idle connections are released.
    fn attend(queue: &mut Queue, woken: bool, news: &[News]) -> (Vec<u32>, Vec<ServerId>) {
        let mut chores = Chores { woken, news: news.to_vec(), ..Chores::default() };
        queue.attend(&mut chores);
        (chores.wake.into_iter().map(|session| session.slot).collect(), chores.release)
    }

    fn woken(queue: &mut Queue) -> Vec<u32> {
        attend(queue, false, &[]).0
    }

    /// A queue per worker, which share a seat with each of two servers, and how often each was woken by another one.
    fn queues(workers: usize) -> (Vec<Queue>, Vec<Arc<AtomicUsize>>) {
        let calls: Vec<Arc<AtomicUsize>> = (0..workers).map(|_| Arc::default()).collect();
        let waker = |calls: &Arc<AtomicUsize>| {
            let calls = calls.clone();
            Box::new(move || _ = calls.fetch_add(1, Ordering::SeqCst)) as Waker
        };
        let seats = Arc::new(Seats::new(2, 1, 3, calls.iter().map(waker).collect()));
        ((0..workers).map(|worker| Queue::new(Some(seats.clone()), 2, worker)).collect(), calls)
    }

    #[test]
    fn first_come_first_served_and_who_leaves_lets_the_next_one_look() {
        let (mut queues, _) = queues(1);
        let queue = &mut queues[0];
        [1, 2, 3].iter().for_each(|slot| queue.join(session(*slot)));
        assert!(!queue.has_room(), "three are enough");
        assert_eq!(woken(queue), [1], "who has just come looks once more");
        assert_eq!(woken(queue), [0; 0], "there is no room yet");
        queue.offer();
        assert_eq!((woken(queue), woken(queue)), (vec![1], vec![]));
        assert!(queue.is_first(session(1)) && !queue.is_first(session(2)));
        queue.leave(session(2));
        assert_eq!(woken(queue), [1], "one that gave up passes the offer on");
        queue.leave(session(1));
        assert_eq!(woken(queue), [3]);
        queue.leave(session(3));
        queue.leave(session(3));
        assert!(queue.is_empty() && woken(queue).is_empty());
    }

    #[test]
    fn workers_take_turns_in_the_order_in_which_their_requests_came() {
        let (mut queues, calls) = queues(2);
        let [a, b] = &mut queues[..] else { unreachable!() };
        a.join(session(1));
        b.join(session(1));
        a.join(session(2));
        assert_eq!(calls[0].load(Ordering::SeqCst), 1, "that it is not alone any more");
        assert_eq!((woken(a), woken(b)), (vec![1], vec![]), "the first looks");
        assert!(a.is_first(session(1)) && !b.is_first(session(1)) && !b.is_empty() && !b.has_room());
        b.offer();
        assert_eq!((calls[0].load(Ordering::SeqCst), attend(b, true, &[]).0), (2, vec![]), "what b has is for a");
        assert_eq!(attend(a, true, &[]).0, [1]);
        a.leave(session(1));
        assert_eq!((calls[1].load(Ordering::SeqCst), woken(a)), (1, vec![]), "now for b");
        assert_eq!(attend(b, true, &[]).0, [1]);
        assert!(b.is_first(session(1)) && !a.is_first(session(2)));
        b.leave(session(1));
        assert_eq!((calls[0].load(Ordering::SeqCst), attend(a, true, &[]).0), (3, vec![2]));
        a.leave(session(2));
        assert!(a.is_empty() && b.is_empty());
    }

    #[test]
    fn an_idle_connection_has_a_seat_which_goes_to_whoever_waits() {
        let (mut queues, calls) = queues(2);
        let [a, b] = &mut queues[..] else { unreachable!() };
        assert!(a.take_seat(0) && a.is_full(0) && !b.take_seat(0));
        a.done(0, true);
        assert!(!a.is_full(0) && b.is_full(0) && a.take_seat(0), "a may use it again");
        b.join(session(7));
        b.ask_others();
        assert_eq!(calls[0].load(Ordering::SeqCst), 0, "a has none that is idle");
        a.done(0, true);
        assert_eq!(attend(a, false, &[]), (vec![], vec![0]));
        assert!(b.is_full(0), "not before it is closed");
        assert_eq!(attend(a, false, &[News::IdleGone { server: 0 }]), (vec![], vec![]));
        assert_eq!((calls[1].load(Ordering::SeqCst), attend(b, true, &[]).0), (1, vec![7]));
        assert!(b.take_seat(0) && a.is_full(0));
        b.leave(session(7));
        assert!(a.take_seat(1));
        a.done(1, true);
        b.join(session(8));
        b.ask_others();
        assert_eq!((calls[0].load(Ordering::SeqCst), attend(a, true, &[]).1), (1, vec![1]), "perhaps that one will do");
        let none = [News::IdleGone { server: 0 }, News::IdleGone { server: 1 }, News::IdleGone { server: 1 }];
        attend(a, false, &none);
        assert!(!a.is_full(1) && b.is_full(0), "news of one that is in use already");
    }

    #[test]
    fn only_seats_of_full_servers_are_of_use_to_who_waits() {
        let seats = Arc::new(Seats::new(2, 2, 3, vec![Box::new(|| {}), Box::new(|| {})]));
        let [mut a, mut b] = [0, 1].map(|worker| Queue::new(Some(seats.clone()), 2, worker));
        assert!(a.take_seat(0) && a.take_seat(0) && a.take_seat(1));
        [0, 0, 1].into_iter().for_each(|server| a.done(server, true));
        assert!(b.is_full(0) && !b.is_busy(0) && !b.is_full(1));
        b.join(session(1));
        assert_eq!(attend(&mut a, true, &[]).1, [0], "closing the one to server 1 helps nobody");
    }

    #[test]
    fn a_worker_that_ends_leaves_its_seats_to_the_others() {
        let (mut queues, calls) = queues(2);
        let mut ends = queues.remove(0);
        let stays = &mut queues[0];
        assert!(ends.take_seat(0));
        ends.done(0, true);
        stays.join(session(1));
        drop(ends);
        assert_eq!((calls[1].load(Ordering::SeqCst), attend(stays, true, &[]).0), (1, vec![1]));
        assert!(stays.take_seat(0));
    }

    #[test]
    fn without_a_limit_nobody_waits() {
        let mut queue = Queue::new(None, 1, 0);
        queue.offer();
        assert!(queue.is_empty() && !queue.has_room() && woken(&mut queue).is_empty());
        assert!(queue.take_seat(0) && !queue.is_full(0));
        queue.done(0, true);
        assert!(attend(&mut queue, true, &[News::IdleGone { server: 0 }]).1.is_empty());
    }
}
