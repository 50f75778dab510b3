//! How workers share new clients: the one with clearly more than the mean hands a new one over, once.
//!
//! The kernel deals connections out to the listeners of a port by a hash, which is even for very many only; a Unix socket has one
//! listener at all. So each client takes a *place* with the worker that is to serve it, before it is accepted, and keeps it until it
//! is closed. The counts of places are all that workers share. They change per client, never per request.
//!
//! As the giver takes the place with the receiver, a burst does not overshoot, and nobody has more clients than the limit. And a
//! worker that drains sees by its own count whether a client is still on the way to it: none is lost.

use crate::base::Peer;
use crate::net::Remote;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SendError, Sender, channel};

/// In a count of places: this worker drains, and others may take none with it any more.
const CLOSED: usize = 1 << (usize::BITS - 1);

/// How many clients a worker has or is about to get, on a cache line of its own (on two: processors fetch them in pairs).
#[derive(Debug, Default)]
#[repr(align(128))]
struct Places(AtomicUsize);

/// What all know of a worker.
struct Seat<S> {
    places: Places,
    /// One more than the number of a worker that has a client for whom there is no place; 0: none has asked.
    asked: AtomicUsize,
    inbox: Sender<(S, Peer)>,
    remote: Remote,
}

/// One worker's part in the sharing.
pub struct Share<S> {
    own: usize,
    seats: Arc<[Seat<S>]>,
    inbox: Receiver<(S, Peer)>,
    tally: Tally,
}

/// How many clients a worker gave to others and was given by others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub handed_over: u64,
    pub taken_in: u64,
}

/// Where a client has its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Here,
    /// With the worker of this number.
    With(usize),
}

impl<S> Share<S> {
    /// The parts of the workers with these ears, in their order.
    pub fn among(remotes: &[Remote]) -> Vec<Share<S>> {
        let seat = |remote: &Remote| {
            let (sender, inbox) = channel();
            (
                Seat { places: Places::default(), asked: AtomicUsize::new(0), inbox: sender, remote: remote.clone() },
                inbox,
            )
        };
        let (seats, inboxes): (Vec<_>, Vec<_>) = remotes.iter().map(seat).unzip();
        let seats: Arc<[Seat<S>]> = seats.into();
        let part = |(own, inbox)| Share { own, seats: Arc::clone(&seats), inbox, tally: Tally::default() };
        inboxes.into_iter().enumerate().map(part).collect()
    }

    /// Takes a place for a client that is about to be accepted, with the worker that is to serve it. `None` if all are taken: `most` with
    /// each worker.
    pub(super) fn enter(&self, most: usize) -> Option<Place> {
        let step = choose(self.counts(), most)?;
        if step > 0 {
            let other = (self.own + step) % self.seats.len();
            if take(&self.seats[other].places, |count| count < most) {
                return Some(Place::With(other));
            }
            // Somebody was quicker, or it drains by now.
        }
        take(&self.seats[self.own].places, |count| count & !CLOSED < most).then_some(Place::Here)
    }

    /// Would [`Share::enter`] find a place?
    pub(super) fn has_room(&self, most: usize) -> bool {
        choose(self.counts(), most).is_some()
    }

    /// A worker has a client for whom there is no place, and nobody here can make room: perhaps the next one can. So each is asked in its
    /// turn, and no more clients have to go than come.
    pub(super) fn ask_for_room(&self, asker: usize) {
        let next = (self.own + 1) % self.seats.len();
        if next != asker {
            self.seats[next].asked.store(asker + 1, Ordering::Release);
            self.seats[next].remote.wake();
        }
    }

    /// The worker that has asked for room, if one has. It wants to hear when there is some.
    pub(super) fn asker(&self) -> Option<usize> {
        let asked = &self.seats[self.own].asked;
        if asked.load(Ordering::Relaxed) == 0 { None } else { asked.swap(0, Ordering::Acquire).checked_sub(1) }
    }

    pub(super) fn wake(&self, worker: usize) {
        if let Some(seat) = self.seats.get(worker) {
            seat.remote.wake();
        }
    }

    pub(super) fn own(&self) -> usize {
        self.own
    }

    /// Gives a place back: nobody came, or the client is gone.
    pub(super) fn leave(&self, place: Place) {
        let number = if let Place::With(other) = place { other } else { self.own };
        let seat = &self.seats[number];
        let before = seat.places.0.fetch_sub(1, Ordering::Relaxed);
        debug_assert_ne!(before & !CLOSED, 0, "a place was given back twice");
        if before & CLOSED != 0 && place != Place::Here {
            // It may be waiting for just this, to end.
            seat.remote.wake();
        }
    }

    /// Hands a client over to the worker with which it has its place. If that one is gone, the client is returned and has its place here.
    pub(super) fn hand_over(&mut self, to: usize, client: (S, Peer)) -> Result<(), (S, Peer)> {
        let seat = &self.seats[to];
        match seat.inbox.send(client) {
            Ok(()) => {
                seat.remote.wake();
                self.tally.handed_over += 1;
                Ok(())
            }
            Err(SendError(client)) => {
                self.seats[self.own].places.0.fetch_add(1, Ordering::Relaxed);
                self.leave(Place::With(to));
                Err(client)
            }
        }
    }

    /// A client that was handed over to this worker.
    pub(super) fn take_in(&mut self) -> Option<(S, Peer)> {
        let client = self.inbox.try_recv().ok()?;
        self.tally.taken_in += 1;
        Some(client)
    }

    /// From now on nobody takes a place with this worker. Who has one may still be on the way.
    pub(super) fn close(&self) {
        self.seats[self.own].places.0.fetch_or(CLOSED, Ordering::Relaxed);
    }

    /// Has nobody a place with this worker?
    pub(super) fn is_empty(&self) -> bool {
        self.seats[self.own].places.0.load(Ordering::Relaxed) & !CLOSED == 0
    }

    pub(super) fn tally(&self) -> Tally {
        self.tally
    }

    /// The counts, this worker's own first.
    fn counts(&self) -> impl Iterator<Item = usize> {
        let (before, from) = self.seats.split_at(self.own);
        from.iter().chain(before).map(|seat| seat.places.0.load(Ordering::Relaxed))
    }
}

/// Counts one more if it may be.
fn take(places: &Places, may: impl Fn(usize) -> bool) -> bool {
    places.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| may(count).then_some(count + 1)).is_ok()
}

/// The rule: who serves one more client, given how many each worker has, the one that could accept it first.
///
/// It stays (0) unless that one would then have more than 9/8 of the mean and a half; otherwise it goes to the worker that has least. As the
/// client that takes a worker's last place would leave those behind it in the queue of its listener, that one goes elsewhere as well, if
/// it can. `None`: nobody has room.
fn choose(counts: impl Iterator<Item = usize>, most: usize) -> Option<usize> {
    let (mut workers, mut all, mut here) = (0, 1, 0);
    let mut least: Option<(usize, usize)> = None;
    for (step, count) in counts.enumerate() {
        workers += 1;
        all += count & !CLOSED;
        if step == 0 {
            here = count & !CLOSED;
        } else if count < most && least.is_none_or(|(_, least)| count < least) {
            least = Some((step, count));
        }
    }
    // here + 1 > all / workers * 9 / 8 + 1 / 2
    let clearly_more = 4 * workers * (2 * here + 1) > 9 * all;
    match least {
        Some((step, _)) if here >= most => Some(step),
        Some((step, least)) if least < here && (clearly_more || here + 1 == most) => Some(step),
        _ => (here < most).then_some(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANY: usize = 100_000;

    /// Parts of so many workers, and how often each was woken.
    fn team(workers: usize) -> (Vec<Share<u32>>, Vec<Arc<AtomicUsize>>) {
        let woken: Vec<Arc<AtomicUsize>> = (0..workers).map(|_| Arc::default()).collect();
        let remote = |count: &Arc<AtomicUsize>| {
            let count = Arc::clone(count);
            Remote::new(move || {
                count.fetch_add(1, Ordering::Relaxed);
            })
        };
        (Share::among(&woken.iter().map(remote).collect::<Vec<_>>()), woken)
    }

    fn counts(share: &Share<u32>) -> Vec<usize> {
        share.seats.iter().map(|seat| seat.places.0.load(Ordering::Relaxed)).collect()
    }

    /// A hash of the kernel's kind: as good as chance.
    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: usize) -> usize {
            self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (self.0 >> 33) as usize % bound
        }
    }

    /// Clients that come and go, by the rule.
    struct Day {
        loads: Vec<usize>,
        random: Random,
        handed_over: usize,
    }

    impl Day {
        fn arrive(&mut self) {
            let (workers, own) = (self.loads.len(), self.random.below(self.loads.len()));
            let step = choose(self.loads.iter().cycle().skip(own).take(workers).copied(), MANY).unwrap();
            self.loads[(own + step) % workers] += 1;
            self.handed_over += usize::from(step > 0);
        }

        /// Any of the clients, each as likely as the other.
        fn go(&mut self) {
            let mut nth = self.random.below(self.loads.iter().sum());
            let load = self.loads.iter_mut().find(|load| {
                let here = nth < **load;
                nth = nth.saturating_sub(**load);
                here
            });
            *load.unwrap() -= 1;
        }

        /// Has nobody more than so many times the mean? Fewer than 20 cannot be spread so well: as well as they can be.
        fn check(&self, times: f64) {
            let (most, all) = (*self.loads.iter().max().unwrap(), self.loads.iter().sum::<usize>());
            let mean = all as f64 / self.loads.len() as f64;
            let allowed = if all < 20 { mean.ceil().max(mean * times + 0.5) } else { mean * times };
            assert!(most as f64 <= allowed, "{all} clients: {:?}", self.loads);
        }
    }

    #[test]
    fn clients_that_come_by_chance_are_spread_evenly() {
        for workers in [2, 4, 8] {
            for seed in 0..20 {
                let mut day = Day { loads: vec![0; workers], random: Random(seed), handed_over: 0 };
                for _ in 0..2000 {
                    day.arrive();
                    day.check(1.3);
                }
                // Chance does nearly all of it.
                assert!(day.handed_over < 100, "{} by {workers}, seed {seed}", day.handed_over);
            }
        }
    }

    #[test]
    fn clients_that_go_by_chance_leave_no_lasting_unevenness() {
        for workers in [2, 4, 8] {
            for seed in 0..20 {
                for clients in [20, 100, 400, 2000] {
                    let mut day = Day { loads: vec![0; workers], random: Random(seed), handed_over: 0 };
                    (0..clients).for_each(|_| day.arrive());
                    // Half of them go and others come, again and again.
                    for _ in 0..10 {
                        (0..clients / 2).for_each(|_| day.go());
                        (0..clients / 2).for_each(|_| day.arrive());
                        day.check(1.3);
                    }
                }
            }
        }
    }

    #[test]
    fn the_rule_by_example() {
        let whither = |counts: &[usize], most| choose(counts.iter().copied(), most);
        // Alone, or no more than others: it stays.
        assert_eq!(whither(&[0], 1), Some(0));
        assert_eq!(whither(&[0, 0, 0, 0], 9), Some(0));
        assert_eq!(whither(&[5, 4, 6, 4], 9), Some(0));
        assert_eq!(whither(&[110, 100, 100, 100], 999), Some(0));
        // Clearly more: to the one with least, of several to the next one, so that givers do not all choose the same.
        assert_eq!(whither(&[1, 0], 9), Some(1));
        assert_eq!(whither(&[1, 0, 0, 0], 9), Some(1));
        assert_eq!(whither(&[6, 5, 4, 4], 9), Some(2));
        // The last place is kept as long as there are others, so that who waits behind is not stuck.
        assert_eq!(whither(&[8, 8, 7, 7], 9), Some(2));
        assert_eq!(whither(&[8, 9, 8, 8], 9), Some(0));
        // Full, or draining: not chosen.
        assert_eq!(whither(&[9, 9, 8, 9], 9), Some(2));
        assert_eq!(whither(&[9, 9, CLOSED, 9], 9), None);
        assert_eq!(whither(&[6, CLOSED | 1, 4, 4], 9), Some(2));
        // Who drains takes in what its listener still has.
        assert_eq!(whither(&[CLOSED | 3, CLOSED | 2], 9), Some(0));
        assert_eq!(whither(&[9, 9], 9), None);
    }

    #[test]
    fn a_client_handed_over_has_one_place_and_it_is_the_receivers() {
        let (mut team, woken) = team(2);
        assert_eq!(team[0].enter(9), Some(Place::Here));
        assert_eq!(team[0].enter(9), Some(Place::With(1)));
        assert_eq!(counts(&team[0]), [1, 1], "the receiver's at once");
        team[0].hand_over(1, (7, Peer::Unix)).unwrap();
        assert_eq!(woken[1].load(Ordering::Relaxed), 1);
        assert_eq!(team[1].take_in(), Some((7, Peer::Unix)));
        assert_eq!(team[1].take_in(), None);
        assert_eq!([team[0].tally().handed_over, team[1].tally().taken_in], [1, 1]);
        team[1].leave(Place::Here);
        team[0].leave(Place::Here);
        assert!(team.iter().all(Share::is_empty));
    }

    #[test]
    fn nobody_gets_more_than_the_limit() {
        let (team, _) = team(3);
        let places: Vec<_> = (0..6).map(|_| team[0].enter(2).unwrap()).collect();
        assert_eq!(counts(&team[0]), [2, 2, 2], "{places:?}");
        assert!(!team[0].has_room(2) && team[0].enter(2).is_none());
        team[2].leave(Place::Here);
        assert!(team[0].has_room(2));
        assert_eq!(team[0].enter(2), Some(Place::With(2)), "full here, room there");
    }

    #[test]
    fn who_drains_is_not_chosen_and_sees_who_is_on_the_way() {
        let (mut team, woken) = team(2);
        assert_eq!([team[0].enter(9), team[0].enter(9)], [Some(Place::Here), Some(Place::With(1))]);
        team[1].close();
        assert!(!team[1].is_empty(), "one is on the way");
        assert_eq!(team[0].enter(9), Some(Place::Here));
        team[0].hand_over(1, (7, Peer::Unix)).unwrap();
        assert!(team[1].take_in().is_some());
        team[1].leave(Place::Here);
        assert!(team[1].is_empty());
        assert_eq!(woken[1].load(Ordering::Relaxed), 1);
    }

    #[test]
    fn who_is_gone_gets_nobody() {
        let (mut team, _) = team(2);
        drop(team.pop());
        assert_eq!([team[0].enter(9), team[0].enter(9)], [Some(Place::Here), Some(Place::With(1))]);
        assert_eq!(team[0].hand_over(1, (7, Peer::Unix)), Err((7, Peer::Unix)));
        assert_eq!((counts(&team[0]), team[0].tally().handed_over), (vec![2, 0], 0));
    }

    #[test]
    fn a_place_given_back_wakes_who_waits_to_end() {
        let (team, woken) = team(2);
        assert_eq!([team[0].enter(9), team[0].enter(9)], [Some(Place::Here), Some(Place::With(1))]);
        team[1].close();
        // There was nobody to accept after all.
        team[0].leave(Place::With(1));
        assert!(team[1].is_empty());
        assert_eq!(woken[1].load(Ordering::Relaxed), 1);
    }
}
