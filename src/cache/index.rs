//! Finds objects: a table of words in buckets of one cache line each, on memory that many threads and processes share.
//!
//! The memory: the header's page, the table, the small queue's ring, the main queue's ring. Each object of capacity has 32 bytes: 2.75
//! words of the table, a quarter of a name in the small ring, a name in the main one. So a bucket holds 2.9 objects on average
//! when the index is full, and with eight places loses one of 800; the free ones are for ghosts.
//!
//! What is found may be wrong only in this way: two names of one bucket that agree in 26 more bits are one object to the index (of a million
//! objects, a pair in 50 indexes). So the object's file tells its whole key, its own time and its checksum, and these decide.

use super::header::{Broken, HEADER_BYTES, HEADER_WORDS, Header, SavedClock};
use super::name::Name;
use super::ring::Queue;
use super::sweep::Cursor;
use super::word::{MOST_FREQUENT, State, Word};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use zerocopy::FromBytes;

/// One cache line.
pub(super) type Bucket = [AtomicU64; 8];

/// Smaller indexes have room for so many objects, too.
const LEAST: usize = 64;
/// Positions in the memory are numbers of 32 GiB at most, whatever a header says.
const MOST: usize = 1 << 30;
/// A change that others come in the way of so many times is given up. Only touches come in the way often, and a
/// frequency rises three times.
const TRIES: usize = 16;

/// What the index knows of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Found {
    /// In seconds of the cache's own clock.
    pub made: u32,
    /// Bytes, rounded up by at most 1/32.
    pub size: u64,
}

/// What the one writer of an index remembers between its calls. A lost one is no loss.
#[derive(Debug, Default)]
pub struct Writer {
    pub(super) cursor: Cursor,
}

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Index<'m> {
    pub(super) header: Header<'m>,
    pub(super) table: &'m [Bucket],
    pub(super) small: Queue<'m>,
    pub(super) main: Queue<'m>,
    capacity: usize,
}

/// How many buckets, names in the small ring, and names in the main one. The header takes its place from the small ring, so that many
/// objects need 32 bytes each with everything.
fn parts(objects: usize) -> [usize; 3] {
    let objects = objects.clamp(LEAST, MOST);
    let small = objects / 4 - (HEADER_BYTES / 8).min(objects / 1000);
    [objects / 32 * 11 + objects % 32 * 11 / 32, small, objects]
}

impl<'m> Index<'m> {
    /// Bytes of memory for an index of so many objects: 32 each, and up to a page more for a few.
    pub fn bytes_for(objects: usize) -> usize {
        let [buckets, small, main] = parts(objects);
        HEADER_BYTES + buckets * size_of::<Bucket>() + (small + main) * 8
    }

    /// Makes an empty index. `memory` starts at a multiple of 8 bytes, better of 64; what it holds is forgotten. The index is
    /// not clean until somebody says so.
    pub fn create(memory: &'m mut [u8], objects: usize, id: u64) -> Result<Index<'m>, Broken> {
        let words = words(memory)?;
        let index = Index::lay_out(words, objects as u64)?;
        index.header.format(objects, id);
        index.table.iter().flatten().for_each(|word| word.store(0, Relaxed));
        Ok(index)
    }

    /// An index that was made before. Reads the header only. Memory behind the end of the index is allowed.
    pub fn open(memory: &'m mut [u8]) -> Result<Index<'m>, Broken> {
        let words = words(memory)?;
        let header = Header(words.first_chunk().ok_or(Broken::TooShort)?);
        Index::lay_out(words, header.check()?)
    }

    fn lay_out(words: &'m [AtomicU64], capacity: u64) -> Result<Index<'m>, Broken> {
        let capacity = usize::try_from(capacity).ok().filter(|n| (1..=MOST).contains(n)).ok_or(Broken::BadCapacity)?;
        let [buckets, small, main] = parts(capacity);
        let (header, rest) = words.split_first_chunk::<HEADER_WORDS>().ok_or(Broken::TooShort)?;
        let (table, rest) = rest.split_at_checked(buckets * 8).ok_or(Broken::TooShort)?;
        let (small, rest) = rest.split_at_checked(small).ok_or(Broken::TooShort)?;
        let (main, _) = rest.split_at_checked(main).ok_or(Broken::TooShort)?;
        let header = Header(header);
        let (small, main) = (Queue::new(small, header.small()), Queue::new(main, header.main()));
        Ok(Index { header, table: table.as_chunks().0, small, main, capacity })
    }

    // ---- any thread of any process, at any moment

    /// Whether there is an object of this name. Touches one cache line, hit or miss.
    ///
    /// `now` is in seconds of the cache's clock. What was made after it, or 2^23 seconds before it or earlier, is not found.
    pub fn find(&self, name: Name, now: u32) -> Option<Found> {
        let (_, word) = self.object(name)?;
        Some(Found { made: word.made(now)?, size: word.size() })
    }

    /// Tells that an object was of use. Writes nothing if that is well known.
    pub fn touch(&self, name: Name) {
        if let Some((place, word)) = self.object(name)
            && word.frequency() < MOST_FREQUENT
        {
            // If somebody else was faster, the object was of use to him.
            let _ = change(place, word, word.with_frequency(name, word.frequency() + 1));
        }
    }

    /// Forgets an object. Its name stays in a ring and is reported as gone once more when its turn comes.
    pub fn remove(&self, name: Name) -> bool {
        self.take(name, Word::EMPTY)
    }

    /// Counts the occasions on which everything was declared stale.
    pub fn epoch(&self) -> u64 {
        self.header.epoch().load(Acquire)
    }

    pub fn bump_epoch(&self) {
        self.header.epoch().fetch_add(1, AcqRel);
    }

    pub fn objects(&self) -> u64 {
        self.small.objects().saturating_add(self.main.objects())
    }

    /// The sum of all sizes, as rounded up.
    pub fn bytes(&self) -> u64 {
        self.small.bytes().saturating_add(self.main.bytes())
    }

    /// The most objects that the index holds.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    pub fn id(&self) -> u64 {
        self.header.id()
    }

    /// Whether the one who wrote last said that he had finished.
    pub fn was_clean(&self) -> bool {
        self.header.was_clean()
    }

    pub fn set_clean(&self, clean: bool) {
        self.header.set_clean(clean);
    }

    /// What was saved last, if it was saved whole, else what was saved before.
    pub fn saved_clock(&self) -> Option<SavedClock> {
        self.header.saved_clock()
    }

    pub fn save_clock(&self, clock: SavedClock) {
        self.header.save_clock(clock);
    }

    // ---- for the rooms beside

    pub(super) fn bucket(&self, name: Name) -> &'m Bucket {
        &self.table[name.bucket(self.table.len())]
    }

    /// Where an object's word is, and the word.
    pub(super) fn object(&self, name: Name) -> Option<(&'m AtomicU64, Word)> {
        self.bucket(name).iter().map(|place| (place, Word(place.load(Acquire)))).find(|(_, word)| {
            // An object, and not a ghost.
            word.is_of(name) && word.is_object()
        })
    }

    /// Takes an object out of the table, leaving `instead`. False if there is none.
    pub(super) fn take(&self, name: Name, instead: Word) -> bool {
        for _ in 0..TRIES {
            let Some((place, word)) = self.object(name) else { return false };
            if change(place, word, instead) {
                self.queue_of(word).subtract(word.size());
                return true;
            }
        }
        false
    }

    /// Makes another word of an object's word; the totals follow. None if there is no such object.
    pub(super) fn update(&self, name: Name, with: impl Fn(Word) -> Word) -> Option<Word> {
        for _ in 0..TRIES {
            let (place, word) = self.object(name)?;
            let other = with(word);
            self.queue_of(other).add(other.size());
            if change(place, word, other) {
                self.queue_of(word).subtract(word.size());
                return Some(other);
            }
            self.queue_of(other).subtract(other.size());
        }
        None
    }

    pub(super) fn queue_of(&self, word: Word) -> &Queue<'m> {
        if word.state() == State::Main { &self.main } else { &self.small }
    }
}

/// The memory as words.
fn words(memory: &mut [u8]) -> Result<&[AtomicU64], Broken> {
    let whole = memory.len() / 8 * 8;
    let (memory, _) = memory.split_at_mut(whole);
    <[AtomicU64]>::mut_from_bytes(memory).map(|words| &*words).map_err(|_| Broken::Misaligned)
}

pub(super) fn change(place: &AtomicU64, from: Word, to: Word) -> bool {
    place.compare_exchange(from.0, to.0, AcqRel, Relaxed).is_ok()
}
