//! Deadlines: a wheel of lazily kept entries.
//!
//! A session's deadline moves with every byte, the wheel does not: an entry is only made when a deadline is *earlier* than the one
//! that is armed, and when an entry comes due the session is asked for its true deadline. So a busy session touches the wheel
//! about once per timeout, not once per request. (One FIFO per class of timeout would need its entries in order, which a late
//! re-arm breaks.)

use crate::base::Micros;

/// A tick is 2^16 microseconds, about 66 ms.
const TICK_BITS: u32 = 16;
const SLOTS: usize = 1024;
/// Room for so many entries is kept in a slot.
const KEPT: usize = 64;

/// See the module.
#[derive(Debug)]
pub struct Wheel {
    slots: Vec<Vec<Entry>>,
    /// One bit per slot that is not empty.
    busy: [u64; SLOTS / 64],
    /// The first tick that was not looked at yet.
    tick: u64,
}

/// Which session wanted to be woken, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub at: Micros,
    pub slot: u32,
    pub generation: u32,
}

impl Wheel {
    pub fn new(now: Micros) -> Wheel {
        Wheel { slots: (0..SLOTS).map(|_| Vec::new()).collect(), busy: [0; SLOTS / 64], tick: now >> TICK_BITS }
    }

    /// Enters a wake-up. It comes up to a tick late, never early.
    pub fn insert(&mut self, entry: Entry) {
        let due = (entry.at >> TICK_BITS) + 1;
        // What lies beyond the horizon is put there and looked at again.
        let tick = due.clamp(self.tick, self.tick + SLOTS as u64 - 1);
        let slot = tick as usize % SLOTS;
        self.slots[slot].push(entry);
        self.busy[slot / 64] |= 1 << (slot % 64);
    }

    /// Moves all entries that are due at `now` to `due`.
    pub fn expire(&mut self, now: Micros, due: &mut Vec<Entry>) {
        let until = now >> TICK_BITS;
        let mut early = Vec::new();
        while self.tick <= until {
            let slot = self.tick as usize % SLOTS;
            if self.busy[slot / 64] & 1 << (slot % 64) != 0 {
                self.busy[slot / 64] &= !(1 << (slot % 64));
                let mut entries = std::mem::take(&mut self.slots[slot]);
                for entry in entries.drain(..) {
                    if entry.at <= now { due.push(entry) } else { early.push(entry) }
                }
                // What a burst has left here would stay for good, and the next one hits another slot.
                if entries.capacity() <= KEPT {
                    self.slots[slot] = entries;
                }
            }
            self.tick += 1;
        }
        early.into_iter().for_each(|entry| self.insert(entry));
    }

    /// Lets go of the room that only a burst needed.
    pub fn shrink(&mut self) {
        self.slots.iter_mut().for_each(Vec::shrink_to_fit);
    }

    /// How many entries there are.
    #[cfg(test)]
    pub(super) fn entries(&self) -> usize {
        self.slots.iter().map(Vec::len).sum()
    }

    /// The moment at which [`Wheel::expire`] has something to look at.
    pub fn next(&self) -> Option<Micros> {
        let start = self.tick as usize % SLOTS;
        // The words in the order of time, the first one once more at the end for the slots before `start`.
        for step in 0..=self.busy.len() {
            let word = (start / 64 + step) % self.busy.len();
            let mut bits = self.busy[word];
            if step == 0 {
                bits &= u64::MAX << (start % 64);
            }
            if bits != 0 {
                let slot = word * 64 + bits.trailing_zeros() as usize;
                let ahead = (slot + SLOTS - start) % SLOTS;
                return Some((self.tick + ahead as u64) << TICK_BITS);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::SECOND;

    fn entry(at: Micros) -> Entry {
        Entry { at, slot: at as u32, generation: 0 }
    }

    #[test]
    fn entries_come_due_in_time_never_early() {
        let mut random = 1u64;
        let mut wheel = Wheel::new(5 * SECOND);
        let mut wanted: Vec<Micros> = (0..2000)
            .map(|_| {
                random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                5 * SECOND + random % (300 * SECOND)
            })
            .collect();
        wanted.iter().for_each(|at| wheel.insert(entry(*at)));
        let (mut got, mut due) = (Vec::new(), Vec::new());
        while let Some(now) = wheel.next() {
            wheel.expire(now, &mut due);
            for entry in due.drain(..) {
                assert!(entry.at <= now && now - entry.at <= 2 << TICK_BITS, "{} at {now}", entry.at);
                got.push(entry.at);
            }
        }
        got.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(got, wanted);
    }

    /// Found by a soak: each storm of clients that reset left its room in other slots, a third of a megabyte.
    #[test]
    fn a_burst_leaves_little_room_behind() {
        let (mut wheel, mut due) = (Wheel::new(0), Vec::new());
        for burst in 0..200 {
            let now = burst * 700_000;
            (0..1000).for_each(|i| wheel.insert(entry(now + i)));
            wheel.expire(now + SECOND, &mut due);
            due.clear();
        }
        let room: usize = wheel.slots.iter().map(Vec::capacity).sum();
        assert!(room <= 4 * KEPT, "{room}");
    }

    #[test]
    fn a_past_moment_is_due_at_the_next_tick() {
        let mut wheel = Wheel::new(10 * SECOND);
        wheel.insert(entry(0));
        let next = wheel.next().unwrap();
        assert!(next <= 10 * SECOND + (1 << TICK_BITS));
        let mut due = Vec::new();
        wheel.expire(next, &mut due);
        assert_eq!(due, [entry(0)]);
        assert_eq!(wheel.next(), None);
    }
}
