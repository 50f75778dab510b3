//! The first page of an index: what it is, and the few numbers that belong to all of it.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use xxhash_rust::xxh3::xxh3_64;

pub const HEADER_BYTES: usize = 4096;
pub const HEADER_WORDS: usize = HEADER_BYTES / 8;

/// Read as a number, so that a machine of the other byte order sees another one.
const MAGIC: u64 = u64::from_le_bytes(*b"PILBidx\n");
const VERSION: u64 = 1;
/// A word that no flipped bit makes.
const CLEAN: u64 = 0x636c_6561_6e21_9d5b;

// Where the words are. What is written often has cache lines of its own.
const AT_MAGIC: usize = 0;
const AT_VERSION: usize = 1;
const AT_CAPACITY: usize = 2;
const AT_ID: usize = 3;
const AT_CHECK: usize = 4;
const AT_CLEAN: usize = 5;
const AT_EPOCH: usize = 8;
const AT_CLOCKS: [usize; 2] = [16, 24];
const AT_GHOSTS: usize = 32;
/// Head, tail, objects, bytes.
const AT_SMALL: usize = 40;
const AT_MAIN: usize = 48;

/// Why a memory is no index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// Less than a header, or than the header says.
    TooShort,
    /// The memory does not start at a multiple of eight bytes.
    Misaligned,
    NotAnIndex,
    OtherByteOrder,
    OtherVersion,
    BadHeader,
    /// No index has, or can have, so many objects.
    BadCapacity,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Broken::TooShort => "the index is cut short",
            Broken::Misaligned => "the index is not aligned",
            Broken::NotAnIndex => "this is no index",
            Broken::OtherByteOrder => "the index is of a machine with the other byte order",
            Broken::OtherVersion => "the index is of another version",
            Broken::BadHeader => "the index's header is damaged",
            Broken::BadCapacity => "an index cannot hold so many objects",
        })
    }
}

impl std::error::Error for Broken {}

/// The cache's clock at one moment, beside other clocks at that moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SavedClock {
    pub cache_seconds: u64,
    /// A hash of the system's boot identity.
    pub boot: u64,
    pub boot_seconds: u64,
    pub wall_seconds: u64,
}

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Header<'m>(pub &'m [AtomicU64; HEADER_WORDS]);

impl<'m> Header<'m> {
    /// Writes all of it, the magic last.
    pub fn format(self, capacity: usize, id: u64) {
        self.0.iter().for_each(|word| word.store(0, Relaxed));
        let fixed = [MAGIC, VERSION, capacity as u64, id];
        for at in (AT_VERSION..=AT_ID).rev() {
            self.0[at].store(fixed[at], Relaxed);
        }
        self.0[AT_CHECK].store(sum(&fixed), Relaxed);
        self.0[AT_MAGIC].store(MAGIC, Release);
    }

    /// The capacity, if this is the header of an index.
    pub fn check(self) -> Result<u64, Broken> {
        let fixed = [AT_MAGIC, AT_VERSION, AT_CAPACITY, AT_ID].map(|at| self.0[at].load(Acquire));
        match fixed[AT_MAGIC] {
            MAGIC => {}
            other if other == MAGIC.swap_bytes() => return Err(Broken::OtherByteOrder),
            _ => return Err(Broken::NotAnIndex),
        }
        if fixed[AT_VERSION] != VERSION {
            return Err(Broken::OtherVersion);
        }
        if self.0[AT_CHECK].load(Relaxed) != sum(&fixed) {
            return Err(Broken::BadHeader);
        }
        Ok(fixed[AT_CAPACITY])
    }

    pub fn id(self) -> u64 {
        self.0[AT_ID].load(Relaxed)
    }

    pub fn epoch(self) -> &'m AtomicU64 {
        &self.0[AT_EPOCH]
    }

    /// Counts the ghosts that were ever made.
    pub fn ghosts(self) -> &'m AtomicU64 {
        &self.0[AT_GHOSTS]
    }

    /// Head, tail, objects and bytes of the small queue.
    pub fn small(self) -> [&'m AtomicU64; 4] {
        std::array::from_fn(|at| &self.0[AT_SMALL + at])
    }

    /// Head, tail, objects and bytes of the main queue.
    pub fn main(self) -> [&'m AtomicU64; 4] {
        std::array::from_fn(|at| &self.0[AT_MAIN + at])
    }

    pub fn was_clean(self) -> bool {
        self.0[AT_CLEAN].load(Acquire) == CLEAN
    }

    pub fn set_clean(self, clean: bool) {
        self.0[AT_CLEAN].store(if clean { CLEAN } else { 0 }, Release);
    }

    /// The number and the clock that a slot holds, if it was written whole.
    fn slot(self, at: usize) -> Option<(u64, SavedClock)> {
        let words: [u64; 6] = std::array::from_fn(|word| self.0[at + word].load(Acquire));
        let [number, cache_seconds, boot, boot_seconds, wall_seconds, check] = words;
        let clock = SavedClock { cache_seconds, boot, boot_seconds, wall_seconds };
        (check == sum(&words[..5])).then_some((number, clock))
    }

    /// What was saved last.
    pub fn saved_clock(self) -> Option<SavedClock> {
        let slots = AT_CLOCKS.map(|at| self.slot(at));
        slots.into_iter().flatten().max_by_key(|(number, _)| *number).map(|(_, clock)| clock)
    }

    /// Writes into the slot that does not hold what was saved last, so a torn save loses only itself.
    pub fn save_clock(self, clock: SavedClock) {
        let numbers = AT_CLOCKS.map(|at| self.slot(at).map(|(number, _)| number));
        let at = AT_CLOCKS[usize::from(numbers[0] > numbers[1])];
        let number = numbers.into_iter().flatten().max().unwrap_or(0).saturating_add(1);
        let values = [number, clock.cache_seconds, clock.boot, clock.boot_seconds, clock.wall_seconds];
        self.0[at + 5].store(0, Release);
        for (word, value) in values.iter().enumerate() {
            self.0[at + word].store(*value, Release);
        }
        self.0[at + 5].store(sum(&values), Release);
    }
}

/// The checksum of words as they lie in memory; never that of zeros alone by being zero.
fn sum(words: &[u64]) -> u64 {
    let mut bytes = [0; 40];
    for (bytes, word) in bytes.chunks_exact_mut(8).zip(words) {
        bytes.copy_from_slice(&word.to_ne_bytes());
    }
    xxh3_64(&bytes).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> [AtomicU64; HEADER_WORDS] {
        std::array::from_fn(|_| AtomicU64::new(7))
    }

    fn clock(n: u64) -> SavedClock {
        SavedClock { cache_seconds: n, boot: 5, boot_seconds: n + 1, wall_seconds: n + 2 }
    }

    #[test]
    fn a_header_tells_what_is_wrong_with_it() {
        let page = page();
        let header = Header(&page);
        assert_eq!(header.check(), Err(Broken::NotAnIndex));
        header.format(1000, 77);
        assert_eq!((header.check(), header.id(), header.was_clean()), (Ok(1000), 77, false));
        for (at, broken) in [(0, Broken::NotAnIndex), (1, Broken::OtherVersion), (2, Broken::BadHeader)] {
            page[at].fetch_xor(1 << 20, Relaxed);
            assert_eq!(header.check(), Err(broken));
            page[at].fetch_xor(1 << 20, Relaxed);
        }
        for at in [3, 4] {
            page[at].fetch_xor(1, Relaxed);
            assert_eq!(header.check(), Err(Broken::BadHeader));
            page[at].fetch_xor(1, Relaxed);
        }
        page[0].store(MAGIC.swap_bytes(), Relaxed);
        assert_eq!(header.check(), Err(Broken::OtherByteOrder));
    }

    #[test]
    fn only_a_whole_word_says_clean() {
        let page = page();
        let header = Header(&page);
        header.format(1000, 77);
        header.set_clean(true);
        assert!(header.was_clean());
        for bit in 0..64 {
            page[AT_CLEAN].fetch_xor(1 << bit, Relaxed);
            assert!(!header.was_clean());
            page[AT_CLEAN].fetch_xor(1 << bit, Relaxed);
        }
        header.set_clean(false);
        assert!(!header.was_clean());
    }

    #[test]
    fn a_torn_save_of_the_clock_leaves_the_one_before() {
        let page = page();
        let header = Header(&page);
        header.format(1000, 77);
        assert_eq!(header.saved_clock(), None);
        for n in 1..10 {
            header.save_clock(clock(n));
            assert_eq!(header.saved_clock(), Some(clock(n)));
            let newest = AT_CLOCKS[usize::from(n % 2 == 0)];
            for word in &page[newest..newest + 6] {
                word.fetch_xor(1 << n, Relaxed);
                assert_eq!(header.saved_clock(), (n > 1).then(|| clock(n - 1)), "{n}");
                word.fetch_xor(1 << n, Relaxed);
            }
        }
        page[AT_CLOCKS[0]..AT_CLOCKS[1] + 6].iter().for_each(|word| word.store(0, Relaxed));
        assert_eq!(header.saved_clock(), None);
    }
}
