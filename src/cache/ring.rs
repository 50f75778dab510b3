//! A queue of the index: names in the order in which they came, in a ring, and how much they are.
//!
//! A ring may hold the name of an object that is gone, or of one that has moved to the other ring: who takes a name out asks the
//! table. Positions count up for ever; whatever they are, they are brought into bounds each time they are read.

use super::name::Name;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// Positions end here.
const FAR: u64 = 1 << 62;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Queue<'m> {
    names: &'m [AtomicU64],
    head: &'m AtomicU64,
    tail: &'m AtomicU64,
    objects: &'m AtomicU64,
    bytes: &'m AtomicU64,
}

impl<'m> Queue<'m> {
    /// `numbers`: head, tail, objects, bytes.
    pub fn new(names: &'m [AtomicU64], numbers: [&'m AtomicU64; 4]) -> Queue<'m> {
        let [head, tail, objects, bytes] = numbers;
        Queue { names, head, tail, objects, bytes }
    }

    /// From the oldest name's position to the next one's; never more than there is room for, and far from where numbers end.
    pub fn span(&self) -> (u64, u64) {
        let (tail, mut head) = (self.tail.load(Relaxed), self.head.load(Relaxed));
        let len = head.wrapping_sub(tail).min(self.room());
        if !(len..FAR).contains(&head) {
            // Nobody counts so far: the number was spoilt.
            head = head.checked_rem(self.room()).unwrap_or(0) + self.room();
        }
        (head - len, head)
    }

    pub fn len(&self) -> u64 {
        let (tail, head) = self.span();
        head - tail
    }

    pub fn room(&self) -> u64 {
        self.names.len() as u64
    }

    fn at(&self, position: u64) -> Option<&'m AtomicU64> {
        self.names.get(position.checked_rem(self.room())? as usize)
    }

    pub fn get(&self, position: u64) -> Name {
        self.at(position).map_or(Name::NONE, |name| Name(name.load(Relaxed)))
    }

    pub fn set(&self, position: u64, name: Name) {
        if let Some(place) = self.at(position) {
            place.store(name.0, Relaxed);
        }
    }

    /// False if it is full.
    pub fn push(&self, name: Name) -> bool {
        let (tail, head) = self.span();
        let fits = head - tail < self.room();
        if fits {
            self.set(head, name);
            self.set_span((tail, head + 1));
        }
        fits
    }

    /// The oldest name, which may be a hole.
    pub fn oldest(&self) -> Option<Name> {
        let (tail, head) = self.span();
        (tail != head).then(|| self.get(tail))
    }

    /// Lets go of the oldest name.
    pub fn drop_oldest(&self) {
        let (tail, head) = self.span();
        if tail != head {
            self.set_span((tail + 1, head));
        }
    }

    /// Holds the names between two positions only.
    pub fn set_span(&self, (tail, head): (u64, u64)) {
        self.tail.store(tail, Relaxed);
        self.head.store(head, Relaxed);
    }

    pub fn clear(&self) {
        self.set_span((0, 0));
        self.set_totals(0, 0);
    }

    // Others take away while one adds, so a total may be below zero for a moment.

    pub fn objects(&self) -> u64 {
        (self.objects.load(Relaxed) as i64).max(0) as u64
    }

    pub fn bytes(&self) -> u64 {
        (self.bytes.load(Relaxed) as i64).max(0) as u64
    }

    pub fn add(&self, size: u64) {
        self.objects.fetch_add(1, Relaxed);
        self.bytes.fetch_add(size, Relaxed);
    }

    pub fn subtract(&self, size: u64) {
        self.objects.fetch_sub(1, Relaxed);
        self.bytes.fetch_sub(size, Relaxed);
    }

    pub fn set_totals(&self, objects: u64, bytes: u64) {
        self.objects.store(objects, Relaxed);
        self.bytes.store(bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_leave_in_the_order_in_which_they_came() {
        let names: [AtomicU64; 3] = Default::default();
        let numbers: [AtomicU64; 4] = Default::default();
        let queue = Queue::new(&names, numbers.each_ref());
        for start in [0, 17, FAR - 2, u64::MAX - 1] {
            numbers[..2].iter().for_each(|number| number.store(start, Relaxed));
            assert_eq!(queue.oldest(), None);
            assert!(queue.push(Name(1)) && queue.push(Name(2)));
            assert_eq!((queue.len(), queue.oldest()), (2, Some(Name(1))));
            queue.drop_oldest();
            assert_eq!(queue.oldest(), Some(Name(2)));
            queue.set_span((start, start));
            assert_eq!(queue.oldest(), None);
            queue.drop_oldest();
            assert!((0..3).all(|n| queue.push(Name(n))) && !queue.push(Name(9)));
        }
    }

    #[test]
    fn any_positions_are_brought_into_bounds() {
        let names: [AtomicU64; 3] = Default::default();
        let numbers: [AtomicU64; 4] = Default::default();
        let queue = Queue::new(&names, numbers.each_ref());
        for (head, tail) in [(5, 9), (u64::MAX, 0), (0, u64::MAX - 9), (9, 5)] {
            numbers[0].store(head, Relaxed);
            numbers[1].store(tail, Relaxed);
            assert_eq!(queue.len(), 3, "{head} {tail}");
            (0..3).for_each(|_| queue.drop_oldest());
            assert_eq!((queue.len(), queue.oldest()), (0, None));
            assert!(queue.push(Name(1)));
        }
        queue.subtract(5);
        assert_eq!((queue.objects(), queue.bytes()), (0, 0));
    }
}
