//! What is done now and then: expiry, repair after a crash, emptying, listing.

use super::index::{Index, Writer};
use super::name::Name;
use super::ring::Queue;
use super::word::{State, Word};
use std::sync::atomic::Ordering::{Acquire, Relaxed};

/// Where the walk through the rings is: names are read at one position and written, without the holes between them, at another
/// one; what is in between are holes.
#[derive(Debug, Default)]
pub(super) struct Cursor {
    in_main: bool,
    under_way: bool,
    read: u64,
    write: u64,
}

impl Cursor {
    /// Follows a queue whose oldest names may have left meanwhile.
    fn follow(&mut self, (tail, head): (u64, u64)) {
        if self.under_way && (tail..=head).contains(&self.read) {
            self.write = self.write.clamp(tail, self.read);
        } else {
            *self = Cursor { in_main: self.in_main, under_way: true, read: tail, write: tail };
        }
    }
}

/// What is expired.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expiry {
    now: u32,
    ttl: u32,
}

impl Expiry {
    /// What has no time is expired as well: nobody finds it.
    fn has(self, word: Word) -> bool {
        word.made(self.now).is_none_or(|made| self.now.saturating_sub(made) > self.ttl)
    }
}

impl Index<'_> {
    /// Looks at the next so many names of the rings and lets the objects go that are older than `ttl`. Goes on where it stopped the
    /// last time, round and round. Must come round within 2^23 seconds, or what is as old as that becomes young again.
    pub fn sweep(&self, w: &mut Writer, now: u32, ttl: u32, steps: usize, gone: &mut Vec<Name>) {
        self.walk(w, Some(Expiry { now, ttl }), steps, gone);
    }

    /// Walks through the rings and closes their holes.
    pub(super) fn walk(&self, w: &mut Writer, expiry: Option<Expiry>, steps: usize, gone: &mut Vec<Name>) {
        let cursor = &mut w.cursor;
        for _ in 0..steps {
            let queue = if cursor.in_main { &self.main } else { &self.small };
            let (tail, head) = queue.span();
            cursor.follow((tail, head));
            if cursor.read == head {
                if cursor.write != head {
                    queue.set_span((tail, cursor.write));
                }
                *cursor = Cursor { in_main: !cursor.in_main, ..Cursor::default() };
                continue;
            }
            let name = queue.get(cursor.read);
            if self.stays(name, cursor.in_main, expiry, gone) {
                if cursor.read != cursor.write {
                    queue.set(cursor.write, name);
                    queue.set(cursor.read, Name::NONE);
                }
                cursor.write += 1;
            } else {
                queue.set(cursor.read, Name::NONE);
            }
            cursor.read += 1;
        }
    }

    /// Does a name belong into the ring where it is?
    fn stays(&self, name: Name, in_main: bool, expiry: Option<Expiry>, gone: &mut Vec<Name>) -> bool {
        if name == Name::NONE {
            return false;
        }
        match self.object(name) {
            Some((_, word)) if (word.state() == State::Main) != in_main => false,
            Some((_, word)) if expiry.is_some_and(|expiry| expiry.has(word)) => {
                if self.take(name, Word::EMPTY) {
                    gone.push(name);
                }
                false
            }
            Some(_) => true,
            None => {
                gone.push(name);
                false
            }
        }
    }

    /// Forgets everything.
    pub fn clear(&self, w: &mut Writer) {
        self.table.iter().flatten().for_each(|word| word.store(0, Relaxed));
        self.small.clear();
        self.main.clear();
        *w = Writer::default();
    }

    /// Puts table, rings and totals right after a crash: what a ring does not name is not in the table, and what the table does not hold
    /// no ring names. For the time before others are let in; looks at everything.
    pub fn recount(&self, w: &mut Writer) {
        let mut named = vec![0u8; self.table.len()];
        for (queue, in_main) in [(&self.small, false), (&self.main, true)] {
            let (objects, bytes) = self.confirm(queue, in_main, &mut named);
            queue.set_totals(objects, bytes);
        }
        for (bucket, named) in self.table.iter().zip(&named) {
            for (at, place) in bucket.iter().enumerate() {
                // A ghost needs no ring.
                if named & 1 << at == 0 && Word(place.load(Acquire)).state() != State::Ghost {
                    place.store(0, Relaxed);
                }
            }
        }
        *w = Writer::default();
    }

    /// Keeps the names of a ring that the table confirms, each once, and marks their words. How many and how much they are.
    fn confirm(&self, queue: &Queue<'_>, in_main: bool, named: &mut [u8]) -> (u64, u64) {
        let (tail, head) = queue.span();
        let (mut read, mut write, mut bytes) = (tail, tail, 0u64);
        while read != head {
            let name = queue.get(read);
            read += 1;
            let bucket = name.bucket(self.table.len());
            // The first one, which is what a reader finds.
            let words = self.table[bucket].iter().map(|place| Word(place.load(Acquire))).enumerate();
            let mut objects = words.filter(|(_, word)| word.is_of(name) && word.is_object());
            let (Some((at, word)), true) = (objects.next(), name != Name::NONE) else { continue };
            if (word.state() == State::Main) == in_main && named[bucket] & 1 << at == 0 {
                named[bucket] |= 1 << at;
                bytes = bytes.saturating_add(word.size());
                queue.set(write, name);
                write += 1;
            }
        }
        queue.set_span((tail, write));
        (write - tail, bytes)
    }

    /// The objects that both a ring and the table know, the oldest of each queue first. While others write, one may come twice.
    pub fn names(&self) -> impl Iterator<Item = Name> + '_ {
        let of = move |queue: Queue<'_>, in_main: bool| {
            let (tail, head) = queue.span();
            (tail..head).map(move |at| (at, in_main))
        };
        of(self.small, false).chain(of(self.main, true)).filter_map(move |(at, in_main)| {
            let name = if in_main { &self.main } else { &self.small }.get(at);
            let (_, word) = self.object(name)?;
            (name != Name::NONE && (word.state() == State::Main) == in_main).then_some(name)
        })
    }
}
