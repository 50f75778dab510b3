//! Who comes in, and who goes for it: S3-FIFO.
//!
//! A newcomer waits in the small queue, a tenth of all. Whoever was of use there goes on to the main queue, who was not leaves, and a ghost
//! remembers his name: if he comes back soon, he goes to the main queue at once. There the oldest gets another round for each of the last
//! three uses. So a scan, however long, washes through the small queue only.
//!
//! Hit ratios in per cent, `cargo bench --bench eviction` (2,000,000 requests, 100,000 objects of 0.8 to 56 KB, limits in bytes):
//!
//! ```text
//! trace                cache   FIFO    LRU  CLOCK  SIEVE S3 >=2 S3 >=1  index   ring of SIEVE
//! Zipf 0.7               1 %   9.50  10.88  11.54  20.53  20.45  20.49  20.37   1608.8 places per object
//! Zipf 0.9               1 %  30.50  34.05  35.19  44.88  44.70  44.71  44.56   1170.1 places per object
//! Zipf 1.1               1 %  62.47  66.42  67.34  73.68  73.08  73.07  72.97   537.2 places per object
//! Zipf 0.9 and scans     1 %  29.89  33.33  34.44  44.52  43.84  43.84  43.72   1120.3 places per object
//! moving Zipf 0.9        1 %  30.06  33.08  33.99  29.48  36.78  37.29  37.41   159.2 places per object
//! Zipf 0.7              10 %  31.30  34.59  35.78  42.66  43.52  43.63  43.37   115.6 places per object
//! Zipf 0.9              10 %  56.28  60.36  61.45  66.58  67.03  67.11  66.94   67.0 places per object
//! Zipf 1.1              10 %  81.59  84.26  84.79  86.99  87.01  87.12  87.06   26.1 places per object
//! Zipf 0.9 and scans    10 %  46.16  49.02  49.65  55.81  56.25  56.42  56.28   88.6 places per object
//! moving Zipf 0.9       10 %  55.66  59.21  60.00  53.96  61.19  61.66  61.59   89.9 places per object
//! ```
//!
//! S3-FIFO has 10 to 90 per cent more hits than LRU where the cache is small or there are scans, and 3 to 26 per cent more elsewhere. SIEVE
//! is within one point of it, but when what is wanted moves: then it is below FIFO. And SIEVE lets objects go from the middle of its
//! queue: as a ring, that queue would need 26 to 1600 places per object, or be closed up all the time. S3-FIFO takes from the ends
//! only, and its rings have a place per object. One use suffices to be promoted (`S3 >=1`; the paper takes two). The index is at most 0.3 points
//! below the plain S3-FIFO: it rounds sizes up, and its ghosts live only where the table has room.

use super::index::{Found, Index, Writer, change};
use super::name::Name;
use super::word::{LARGEST, State, Word, class_of, size_of};
use std::sync::atomic::Ordering::{Acquire, Relaxed};

/// The small queue's share is one of so many parts.
const SMALL: u64 = 10;
/// How often an object of the small queue must have been of use to come to the main queue.
const PROMOTED: u64 = 1;
/// So many objects get another round before one goes that would get one as well: nobody waits for long.
const PATIENCE: u32 = 256;

/// An upper limit for everything that an index holds.
#[derive(Clone, Copy)]
struct Limit {
    objects: u64,
    bytes: u64,
}

impl Index<'_> {
    /// Enters an object whose file is in place. Afterwards the index holds `max_bytes` at most; `gone` gets the names of those
    /// whose files are to be deleted: the ones that had to go, those found gone before (removed, or pushed out of a full bucket), or
    /// the new one itself if it is larger than the limit.
    ///
    /// The next insertion may be of such a name again: the files are best deleted before it.
    pub fn insert(&self, w: &mut Writer, name: Name, found: Found, max_bytes: u64, gone: &mut Vec<Name>) {
        let class = class_of(found.size);
        let size = size_of(class);
        if name == Name::NONE || found.size > LARGEST || size > max_bytes {
            self.remove(name);
            gone.push(name);
            return;
        }
        let before = gone.len();
        self.tidy_main_ring(w, gone);
        if let Some((_, old)) = self.object(name) {
            let more = size.saturating_sub(old.size());
            self.make_room(
                Limit { objects: self.capacity() as u64, bytes: max_bytes - more.min(max_bytes) },
                max_bytes,
                gone,
            );
            let renew = |old: Word| {
                let word = Word::object(name, found.made, class, old.state() == State::Main);
                word.with_frequency(name, old.frequency() + 1)
            };
            if self.update(name, renew).is_some() {
                spare(name, before, gone);
                return;
            }
        }
        self.make_room(Limit { objects: self.capacity() as u64 - 1, bytes: max_bytes - size }, max_bytes, gone);
        let in_main = self.is_ghost(name);
        // First the ring, then the table: what the table holds, a ring names.
        self.enqueue(name, in_main, gone);
        let placed = self.place(name, Word::object(name, found.made, class, in_main));
        // An older place of the same name in a ring may just have been found empty.
        spare(name, before, gone);
        if !placed {
            gone.push(name);
        }
    }

    /// Lets objects go until no more than so many bytes are left.
    pub fn evict(&self, _: &mut Writer, max_bytes: u64, gone: &mut Vec<Name>) {
        self.make_room(Limit { objects: self.capacity() as u64, bytes: max_bytes }, max_bytes, gone);
    }

    fn make_room(&self, limit: Limit, max_bytes: u64, gone: &mut Vec<Name>) {
        let mut rounds = 0;
        // Each step takes a name out of a ring or gives it another round, and rounds are limited.
        let mut steps = (self.small.len() + self.main.len() * 2 + 16).saturating_mul(u64::from(PATIENCE));
        while (self.objects() > limit.objects || self.bytes() > limit.bytes) && steps > 0 {
            steps -= 1;
            let (small, main) = (self.small.len() > 0, self.main.len() > 0);
            let full = self.small.objects() > self.capacity() as u64 / SMALL || self.small.bytes() > max_bytes / SMALL;
            if small && (full || !main) {
                self.leave_small(false, gone);
            } else if main {
                rounds = if self.leave_main(rounds < PATIENCE, gone) { 0 } else { rounds + 1 };
            } else {
                // Nothing is left: the totals were wrong.
                self.small.set_totals(0, 0);
                self.main.set_totals(0, 0);
            }
        }
    }

    /// The oldest name of the small queue leaves it: for the main queue if it was of use or `spare` says so, else for good.
    fn leave_small(&self, spare: bool, gone: &mut Vec<Name>) {
        let Some(name) = self.small.oldest() else { return };
        match self.object(name) {
            Some((_, word)) if word.state() == State::Small => {
                if spare || word.frequency() >= PROMOTED {
                    self.push_main(name, gone);
                    self.update(name, |word| word.in_main(name).with_frequency(name, 0));
                } else {
                    self.dismiss(name, true, gone);
                }
            }
            Some(_) => {}
            None => report(name, gone),
        }
        self.small.drop_oldest();
    }

    /// The oldest name of the main queue leaves it, or begins another round, if those are still given. True if it left.
    fn leave_main(&self, rounds: bool, gone: &mut Vec<Name>) -> bool {
        let Some(name) = self.main.oldest() else { return true };
        match self.object(name) {
            Some((_, word)) if word.state() == State::Main => {
                if rounds && word.frequency() > 0 {
                    self.update(name, |word| word.with_frequency(name, word.frequency().saturating_sub(1)));
                    self.main.drop_oldest();
                    self.main.push(name);
                    return false;
                }
                self.dismiss(name, false, gone);
            }
            Some(_) => {}
            None => report(name, gone),
        }
        self.main.drop_oldest();
        true
    }

    /// An object goes.
    fn dismiss(&self, name: Name, to_ghost: bool, gone: &mut Vec<Name>) {
        let instead =
            if to_ghost { Word::ghost(name, self.header.ghosts().fetch_add(1, Relaxed)) } else { Word::EMPTY };
        if self.take(name, instead) {
            gone.push(name);
        }
    }

    fn push_main(&self, name: Name, gone: &mut Vec<Name>) {
        if !self.main.push(name) {
            self.leave_main(false, gone);
            self.main.push(name);
        }
    }

    fn enqueue(&self, name: Name, in_main: bool, gone: &mut Vec<Name>) {
        if in_main {
            self.push_main(name, gone);
        } else if !self.small.push(name) {
            // There is room for the object, only not here.
            self.leave_small(true, gone);
            self.small.push(name);
        }
    }

    /// Ghosts are remembered for as many evictions as there are objects.
    fn is_ghost_alive(&self, word: Word) -> bool {
        word.state() == State::Ghost && word.ghost_age(self.header.ghosts().load(Relaxed)) <= self.objects()
    }

    fn is_ghost(&self, name: Name) -> bool {
        let words = self.bucket(name).iter().map(|place| Word(place.load(Acquire)));
        words.into_iter().any(|word| word.is_of(name) && self.is_ghost_alive(word))
    }

    /// Writes a new object's word over the least valuable word of its bucket.
    fn place(&self, name: Name, word: Word) -> bool {
        let queue = self.queue_of(word);
        queue.add(word.size());
        for _ in 0..16 {
            let places = self.bucket(name).iter().map(|place| (place, Word(place.load(Acquire))));
            let Some((place, old)) = places.min_by_key(|(_, old)| self.value(name, *old)) else { break };
            if change(place, old, word) {
                if old.is_object() {
                    // Its name is in a ring still, and is reported when its turn comes.
                    self.queue_of(old).subtract(old.size());
                }
                return true;
            }
        }
        queue.subtract(word.size());
        false
    }

    /// How much a word of the bucket is worth to whom `name` would replace.
    fn value(&self, name: Name, word: Word) -> u64 {
        match word.state() {
            _ if word.is_of(name) => 0,
            State::Empty => 1,
            State::Ghost => 2 + (u64::MAX / 2 - word.ghost_age(self.header.ghosts().load(Relaxed))),
            State::Small => u64::MAX / 2 + 3 + word.frequency() * 2,
            State::Main => u64::MAX / 2 + 4 + word.frequency() * 2,
        }
    }

    /// Closes the holes of the main ring in time, if it has many and is nearly full.
    fn tidy_main_ring(&self, w: &mut Writer, gone: &mut Vec<Name>) {
        let (len, room) = (self.main.len(), self.main.room());
        if len > room - room / 8 && len.saturating_sub(self.main.objects()) > room / 32 {
            self.walk(w, None, 16, gone);
        }
    }
}

/// Takes a name back that was reported since there were `before` of them.
fn spare(name: Name, before: usize, gone: &mut Vec<Name>) {
    let mut at = before;
    while at < gone.len() {
        if gone[at] == name {
            gone.swap_remove(at);
        } else {
            at += 1;
        }
    }
}

/// A name in a ring that the table does not know.
fn report(name: Name, gone: &mut Vec<Name>) {
    if name != Name::NONE {
        gone.push(name);
    }
}
