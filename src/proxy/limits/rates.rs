//! How often each client may ask: a table that all workers share, and the generic cell rate algorithm on one word per client.
//!
//! A word is a client's tag (22 bits) and its *theoretical arrival time* (42 bits of microseconds, 50 days, so compared modulo that):
//! the moment at which all it has asked is paid off. Who asks pays one interval; who would owe more than the burst is refused
//! and told when to come again. A time that has passed says as much as no entry at all, so the client whose time is oldest makes room for
//! a newcomer; the most demanding clients of a set are forgotten last. With 22 bits, a client of a full table shares a word with
//! another one with a chance of 1 in 600,000.
//!
//! An entry is made *before* the first request is paid: workers that make one of the same client at the same moment see both when they look
//! again, and remove one. So each client is admitted at most `burst + elapsed / interval` times while it has an entry, and once more per
//! other worker that was under way at the moment it was made. Workers' clocks may differ: `elapsed` is from the earliest to the latest.

use super::client::{Client, PLACES, Set, Table};
use crate::base::Micros;
use crate::base::time::SECOND;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;

const TIME_BITS: u32 = 42;
const TIME: u64 = (1 << TIME_BITS) - 1;
const TAG_BITS: u32 = 64 - TIME_BITS;
/// The longest debt, 12 days: far less than half of what the time's bits tell apart.
const MOST_SPAN: Micros = 1 << 40;
/// Moments of workers differ by less: they are read once per batch. Who is further behind takes a debt for nonsense.
const SKEW: Micros = 10 * SECOND;
/// Who is overtaken by others so many times is let through: it is not the one who asks too often.
const TRIES: usize = 64;

/// So many requests in a time, and how many of them at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Between two requests, on average.
    interval: Micros,
    /// How far ahead of the clock a client's time may be before it asks: `(burst - 1) * interval`.
    tolerance: Micros,
}

impl Rate {
    /// `requests` per `period`, `burst` of them at once (at least one). The interval is in whole microseconds, rounded up. A debt may be
    /// 12 days at most: a longer interval or a larger burst is cut to that.
    pub fn new(requests: u32, period: Micros, burst: u32) -> Rate {
        let interval = period.div_ceil(u64::from(requests.max(1))).clamp(1, MOST_SPAN);
        let tolerance = interval.saturating_mul(u64::from(burst.max(1)) - 1).min(MOST_SPAN - interval);
        Rate { interval, tolerance }
    }

    /// Between two requests, on average.
    pub fn interval(self) -> Micros {
        self.interval
    }
}

/// See the module.
#[derive(Debug)]
pub struct Rates {
    table: Table,
}

impl Rates {
    /// A table with places for so many clients, 8 bytes each. `seed` is a secret.
    pub fn new(clients: usize, seed: u64) -> Rates {
        Rates { table: Table::new(clients, seed, TAG_BITS) }
    }

    /// May a client ask once more? If not: how long until it may. A refused request costs nothing.
    pub fn ask(&self, client: Client, now: Micros, rate: Rate) -> Result<(), Micros> {
        let spot = self.table.spot(client);
        let set = self.table.set(&spot);
        for _ in 0..TRIES {
            let Some((place, word)) = find(set, spot.tag, now, rate) else { continue };
            let ahead = ahead(word, now, rate);
            if ahead > rate.tolerance {
                return Err(ahead - rate.tolerance);
            }
            if swap(place, word, seal(spot.tag, now.wrapping_add(ahead + rate.interval))) {
                return Ok(());
            }
        }
        Ok(())
    }

    pub fn places(&self) -> usize {
        self.table.places()
    }
}

fn seal(tag: u64, time: Micros) -> u64 {
    tag << TIME_BITS | time & TIME
}

fn swap(place: &AtomicU64, from: u64, to: u64) -> bool {
    place.compare_exchange(from, to, SeqCst, SeqCst).is_ok()
}

/// How far a word's time is ahead of `now`; 0 if it has passed. What no client can owe is a time of 50 days ago, or of another rate.
fn ahead(word: u64, now: Micros, rate: Rate) -> Micros {
    let ahead = (word & TIME).wrapping_sub(now) & TIME;
    if ahead <= rate.tolerance + rate.interval + SKEW { ahead } else { 0 }
}

/// How long ago a word's time was; 0 if it is still to come. A free place is older than all.
fn age(word: u64, now: Micros, rate: Rate) -> Micros {
    if word == 0 {
        return Micros::MAX;
    }
    if ahead(word, now, rate) > 0 { 0 } else { now.wrapping_sub(word) & TIME }
}

/// The client's entry. None if it was just made, or if it had two of which one was just removed: look again.
fn find(set: &Set, tag: u64, now: Micros, rate: Rate) -> Option<(&AtomicU64, u64)> {
    let words: [u64; PLACES] = std::array::from_fn(|place| set.0[place].load(SeqCst));
    let mut own = set.0.iter().zip(words).filter(|(_, word)| word >> TIME_BITS == tag);
    let Some(first) = own.next() else {
        make(set, &words, tag, now, rate);
        return None;
    };
    let Some(second) = own.next() else { return Some(first) };
    let lesser = if ahead(second.1, now, rate) > ahead(first.1, now, rate) { first } else { second };
    swap(lesser.0, lesser.1, 0);
    None
}

/// Makes an entry that owes nothing yet, in the place of the one that owes least.
fn make(set: &Set, words: &[u64; PLACES], tag: u64, now: Micros, rate: Rate) {
    let key = |word: u64| (age(word, now, rate), Micros::MAX - ahead(word, now, rate));
    if let Some((place, word)) = set.0.iter().zip(*words).max_by_key(|(_, word)| key(*word)) {
        swap(place, word, seal(tag, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_entries_of_one_client_the_one_that_owes_more_stays() {
        let (client, now, rate) = (Client::V4([192, 0, 2, 1]), SECOND, Rate::new(1, SECOND, 1));
        for (owes, nothing) in [(2, 6), (6, 2)] {
            let rates = Rates::new(8, 1);
            let spot = rates.table.spot(client);
            let set = rates.table.set(&spot);
            set.0[nothing].store(seal(spot.tag, now), SeqCst);
            set.0[owes].store(seal(spot.tag, now + SECOND / 2), SeqCst);
            assert_eq!(rates.ask(client, now, rate), Err(SECOND / 2));
            assert_eq!((rates.table.taken(), set.0[nothing].load(SeqCst)), (1, 0));
        }
    }

    #[test]
    fn who_saw_an_older_set_makes_an_entry_that_owes_nothing_and_is_removed() {
        let (client, now, rate) = (Client::V4([192, 0, 2, 1]), SECOND, Rate::new(1, SECOND, 1));
        let rates = Rates::new(8, 1);
        let spot = rates.table.spot(client);
        assert_eq!(rates.ask(client, now, rate), Ok(()));
        // It saw the set full, but for one place other than the one that was taken.
        let mut seen = [seal(1 + spot.tag % 2, now); PLACES];
        seen[0] = 0;
        let taken = rates.table.set(&spot).0.iter().position(|word| word.load(SeqCst) != 0);
        seen.swap(0, (taken.unwrap() + 1) % PLACES);
        make(rates.table.set(&spot), &seen, spot.tag, now, rate);
        assert_eq!(rates.table.taken(), 2);
        assert_eq!((rates.ask(client, now, rate), rates.table.taken()), (Err(SECOND), 1));
    }
}
