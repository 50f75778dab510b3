//! What a worker has at hand: answers that were looked up before, in two generations, so that what is asked for again stays and what was
//! asked for once goes, without a list to be kept in order.

use crate::base::Micros;
use foldhash::fast::RandomState;
use std::collections::HashMap;

/// Something kept weighs its bytes.
pub trait Weigh {
    fn weight(&self) -> usize;
}

/// See the module.
pub struct Hot<V> {
    young: HashMap<Box<[u8]>, V, RandomState>,
    old: HashMap<Box<[u8]>, V, RandomState>,
    weight: usize,
    /// Of one generation.
    most: usize,
    most_entries: usize,
    /// When the young became young.
    since: Micros,
    latest: Micros,
}

/// A generation grows old after this, so that files nobody asks for are not held open.
const LIFE: Micros = 10_000_000;
/// What an entry weighs besides its content.
const OVERHEAD: usize = 256;

impl<V: Weigh> Hot<V> {
    /// Keeps about so many bytes, and so many entries (each may hold a file open).
    pub fn new(most: usize, most_entries: usize) -> Self {
        Hot {
            young: HashMap::default(),
            old: HashMap::default(),
            weight: 0,
            most: most / 2,
            most_entries: (most_entries / 2).max(1),
            since: 0,
            latest: 0,
        }
    }

    pub fn get(&mut self, key: &[u8]) -> Option<&mut V> {
        if !self.young.contains_key(key) {
            if self.is_full() {
                // Being asked for makes nothing young beyond the limit.
                return self.old.get_mut(key);
            }
            let (key, value) = self.old.remove_entry(key)?;
            self.add(key, value);
        }
        self.young.get_mut(key)
    }

    pub fn insert(&mut self, key: &[u8], value: V, now: Micros) {
        if self.is_full() || now.saturating_sub(self.since) >= LIFE {
            self.grow_old(now);
        }
        self.remove(key);
        self.add(key.into(), value);
    }

    /// The latest moment that it was told of.
    pub fn now(&self) -> Micros {
        self.latest
    }

    /// Lets the young grow old if that is due.
    pub fn tend(&mut self, now: Micros) {
        self.latest = now;
        if now.saturating_sub(self.since) >= LIFE {
            self.grow_old(now);
        }
    }

    pub fn remove(&mut self, key: &[u8]) {
        if let Some(value) = self.young.remove(key) {
            self.weight = self.weight.saturating_sub(value.weight() + key.len() + OVERHEAD);
        }
        self.old.remove(key);
    }

    fn is_full(&self) -> bool {
        self.weight >= self.most || self.young.len() >= self.most_entries
    }

    fn add(&mut self, key: Box<[u8]>, value: V) {
        self.weight += value.weight() + key.len() + OVERHEAD;
        self.young.insert(key, value);
    }

    fn grow_old(&mut self, now: Micros) {
        self.old = std::mem::take(&mut self.young);
        self.weight = 0;
        self.since = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Weigh for usize {
        fn weight(&self) -> usize {
            *self
        }
    }

    #[test]
    fn what_is_asked_for_again_stays_and_the_rest_goes() {
        let mut hot = Hot::new(4000, 100);
        hot.insert(b"hot", 500, 0);
        for n in 0..100 {
            hot.insert(format!("once {n}").as_bytes(), 500, 0);
            assert!(hot.get(b"hot").is_some(), "{n}");
        }
        assert!(hot.get(b"once 1").is_none() && hot.get(b"once 99").is_some());
        assert!(hot.young.len() + hot.old.len() < 12, "{} and {}", hot.young.len(), hot.old.len());
    }

    #[test]
    fn what_nobody_asks_for_goes_with_time_and_what_is_removed_at_once() {
        let mut hot = Hot::new(1 << 20, 100);
        hot.insert(b"a", 1, 0);
        hot.tend(LIFE);
        assert!(hot.old.contains_key(&b"a"[..]));
        hot.tend(2 * LIFE);
        assert!(hot.get(b"a").is_none());
        hot.insert(b"b", 1, 2 * LIFE);
        hot.remove(b"b");
        assert!(hot.get(b"b").is_none() && hot.weight == 0);
    }

    #[test]
    fn entries_are_limited_whatever_they_weigh() {
        let mut hot = Hot::new(1 << 30, 10);
        (0..1000).for_each(|n| hot.insert(format!("{n}").as_bytes(), 0, 0));
        assert!(hot.young.len() + hot.old.len() <= 10);
        // Not even if all of them are asked for between one new one and the next.
        for n in 0..1000 {
            (0..=n).for_each(|n| assert!(hot.get(format!("{n}").as_bytes()).is_none_or(|weight| *weight == 0)));
            hot.insert(format!("{n}").as_bytes(), 0, 0);
        }
        assert!(hot.young.len() + hot.old.len() <= 10, "{}", hot.young.len() + hot.old.len());
    }
}
