//! Random operations, beside a map that does the same.

use super::{bytes, memory, name};
use crate::cache::word::{class_of, size_of};
use crate::cache::{Found, Index, Name, Writer};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// What can be done, with the number of a name where one is meant.
#[derive(Clone, Debug)]
enum Step {
    Insert { n: u64, age: u32, size: u64 },
    Touch(u64),
    Remove(u64),
    Evict(u64),
    Sweep { ttl: u32, steps: usize },
    Tick(u32),
    Recount,
    Clear,
}

fn step(names: u64, limit: u64) -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..names, 0..100u32, 0..limit / 4).prop_map(|(n, age, size)| Step::Insert { n, age, size }),
        1 => (0..names, 0..limit * 2).prop_map(|(n, size)| Step::Insert { n, age: 0, size }),
        6 => (0..names).prop_map(Step::Touch),
        4 => (0..names).prop_map(Step::Remove),
        1 => (0..limit).prop_map(Step::Evict),
        2 => (0..200u32, 0..60usize).prop_map(|(ttl, steps)| Step::Sweep { ttl, steps }),
        2 => (0..50u32).prop_map(Step::Tick),
        1 => Just(Step::Recount),
        1 => prop_oneof![9 => Just(Step::Touch(0)), 1 => Just(Step::Clear)],
    ]
}

struct Pair<'m> {
    index: Index<'m>,
    writer: Writer,
    model: BTreeMap<Name, Found>,
    /// Pushed out of a full bucket, and not reported yet.
    lost: BTreeSet<Name>,
    names: u64,
    limit: u64,
    now: u32,
}

impl Pair<'_> {
    fn take(&mut self, step: &Step) {
        let (index, mut gone) = (self.index, Vec::new());
        match *step {
            Step::Insert { n, age, size } => {
                let found = Found { made: self.now - age, size };
                index.insert(&mut self.writer, name(n), found, self.limit, &mut gone);
                self.lost.remove(&name(n));
                let known = Found { size: size_of(class_of(size)), ..found };
                self.model.insert(name(n), known);
                assert_eq!(gone.contains(&name(n)), known.size > self.limit, "only what is too large is not kept");
                assert!(index.bytes() <= self.limit && index.objects() <= index.capacity() as u64);
            }
            Step::Touch(n) => index.touch(name(n)),
            Step::Remove(n) => assert_eq!(index.remove(name(n)), self.model.remove(&name(n)).is_some()),
            Step::Evict(limit) => {
                index.evict(&mut self.writer, limit, &mut gone);
                assert!(index.bytes() <= limit);
            }
            Step::Sweep { ttl, steps } => index.sweep(&mut self.writer, self.now, ttl, steps, &mut gone),
            Step::Tick(seconds) => self.now += seconds,
            Step::Recount => {
                index.recount(&mut self.writer);
                // A recount closes the holes, and so their names are not reported any more.
                self.lost.clear();
            }
            Step::Clear => {
                index.clear(&mut self.writer);
                self.model.clear();
                self.lost.clear();
            }
        }
        for gone in gone {
            assert_eq!(index.find(gone, self.now), None, "gone and there");
            self.model.remove(&gone);
            self.lost.remove(&gone);
        }
        self.compare();
    }

    /// The index holds what the model holds. What it lost without a word is few, and it says so later.
    fn compare(&mut self) {
        for name in (0..self.names).map(name) {
            let (found, known) = (self.index.find(name, self.now), self.model.get(&name).copied());
            if found.is_none() && known.is_some() {
                self.model.remove(&name);
                self.lost.insert(name);
            } else {
                assert_eq!(found, known);
            }
        }
        assert_eq!(self.index.objects(), self.model.len() as u64);
        assert_eq!(self.index.bytes(), self.model.values().map(|found| found.size).sum::<u64>());
        let listed: BTreeSet<Name> = self.index.names().collect();
        assert!(listed.iter().eq(self.model.keys()), "the list");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_index_does_what_a_map_does(
        objects in 1..120usize,
        names in 1..400u64,
        limit in 1..100_000u64,
        shuffled in vec(any::<prop::sample::Index>(), 0..300),
        seed in vec(step(400, 100_000), 64),
    ) {
        let mut memory = memory(objects);
        let index = Index::create(bytes(&mut memory), objects, 7).unwrap();
        let (model, lost) = (BTreeMap::new(), BTreeSet::new());
        let mut pair = Pair { index, writer: Writer::default(), model, lost, names, limit, now: 1_000_000 };
        for at in shuffled {
            let step = match at.get(&seed).clone() {
                Step::Insert { n, age, size } => Step::Insert { n: n % names, age, size: size % (limit * 2) },
                Step::Touch(n) => Step::Touch(n % names),
                Step::Remove(n) => Step::Remove(n % names),
                other => other,
            };
            pair.take(&step);
        }
        // Two whole rounds, of which the first may begin anywhere.
        pair.take(&Step::Sweep { ttl: 1 << 22, steps: 1000 });
        prop_assert!(pair.lost.is_empty(), "never reported: {:?}", pair.lost);
    }
}

#[test]
fn full_buckets_lose_few() {
    let mut memory = memory(1000);
    let index = Index::create(bytes(&mut memory), 1000, 7).unwrap();
    let (mut w, mut gone) = (Writer::default(), Vec::new());
    let mut lost = 0;
    for n in 0..50_000u64 {
        index.insert(&mut w, name(n), Found { made: 1, size: 1 }, u64::MAX, &mut gone);
        // The index counts itself: what it does not hold when it is full was pushed out of a bucket.
        lost += u64::from(n > 2000 && index.objects() < 1000);
    }
    assert!(lost < 25_000, "{lost}");
    assert!(index.objects() >= 990, "{}", index.objects());
    assert_eq!(index.names().count() as u64, index.objects());
    let reported: BTreeSet<Name> = gone.iter().copied().collect();
    assert!(reported.len() as u64 + index.objects() <= 50_000);
}
