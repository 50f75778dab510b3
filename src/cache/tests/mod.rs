//! The index against a model, under corruption, and among threads.

mod corruption;
mod model;
mod policy;
mod threads;

use super::{Found, Index, Name, Writer};

/// Memory for an index, aligned.
pub(super) fn memory(objects: usize) -> Vec<u64> {
    vec![0; Index::bytes_for(objects) / 8]
}

pub(super) fn bytes(memory: &mut [u64]) -> &mut [u8] {
    zerocopy::IntoBytes::as_mut_bytes(memory)
}

pub(super) fn name(n: u64) -> Name {
    Name::of(&n.to_le_bytes())
}

const ENOUGH: u64 = u64::MAX;

#[test]
fn a_million_objects_are_found_in_32_bytes_each() {
    const MILLION: u64 = 1_000_000;
    let mut memory = memory(MILLION as usize);
    assert!(memory.len() * 8 <= 32_000_000, "{} bytes", memory.len() * 8);
    let index = Index::create(bytes(&mut memory), MILLION as usize, 7).unwrap();
    let (mut w, mut gone) = (Writer::default(), Vec::new());
    for n in 0..MILLION {
        index.insert(&mut w, name(n), Found { made: 100, size: 1000 }, ENOUGH, &mut gone);
    }
    let found = (0..MILLION).filter(|&n| index.find(name(n), 100) == Some(Found { made: 100, size: 1008 })).count();
    assert!(found >= 995_000, "{found}");
    assert!(gone.len() <= MILLION as usize - found, "only what a full bucket lost is gone: {}", gone.len());
    let index = Index::open(bytes(&mut memory)).unwrap();
    assert_eq!((index.objects(), index.bytes()), (found as u64, found as u64 * 1008));
    let false_hits = (MILLION..MILLION + 100_000).filter(|&n| index.find(name(n), 100).is_some()).count();
    assert_eq!(false_hits, 0);
}

#[test]
fn over_the_limit_the_least_useful_goes_and_is_reported() {
    let mut memory = memory(1000);
    let index = Index::create(bytes(&mut memory), 1000, 7).unwrap();
    let (mut w, mut gone) = (Writer::default(), Vec::new());
    for n in 0..10_000 {
        index.insert(&mut w, name(n), Found { made: 5, size: 64 }, 6400, &mut gone);
        (0..5).for_each(|n| index.touch(name(n)));
        assert!(index.find(name(n), 5).is_some() && index.bytes() <= 6400 && index.objects() <= 100);
    }
    assert!((0..5).all(|n| index.find(name(n), 5).is_some()));
    assert_eq!(index.objects() as usize + gone.len(), 10_000);
    assert!(gone.iter().all(|&name| index.find(name, 5).is_none()));
    index.evict(&mut w, 640, &mut gone);
    assert_eq!((index.bytes(), index.names().count()), (640, 10));
    index.evict(&mut w, 0, &mut gone);
    assert_eq!((index.bytes(), index.objects(), gone.len()), (0, 0, 10_000));
    index.insert(&mut w, name(1), Found { made: 5, size: 6500 }, 6400, &mut gone);
    assert_eq!((index.objects(), gone.pop()), (0, Some(name(1))), "larger than the limit");
}

#[test]
fn expired_objects_are_swept_and_holes_close() {
    let mut memory = memory(1000);
    let index = Index::create(bytes(&mut memory), 1000, 7).unwrap();
    let (mut w, mut gone) = (Writer::default(), Vec::new());
    for n in 0..1000u64 {
        index.insert(&mut w, name(n), Found { made: n as u32, size: 64 }, ENOUGH, &mut gone);
    }
    let before = gone.len();
    for _ in 0..20 {
        index.sweep(&mut w, 1000, 100, 100, &mut gone);
    }
    assert_eq!(index.objects(), (900..1000).filter(|&n| index.find(name(n), 1000).is_some()).count() as u64);
    assert!(index.objects() > 95 && gone.len() >= 1000 - before - 105);
    assert_eq!(index.names().count() as u64, index.objects());
    // No hole is left.
    assert_eq!(index.small.len() + index.main.len(), index.objects());
    index.clear(&mut w);
    assert_eq!((index.objects(), index.bytes(), index.names().count()), (0, 0, 0));
}

#[test]
fn a_recount_repairs_totals_and_rings() {
    let mut memory = memory(200);
    let index = Index::create(bytes(&mut memory), 200, 7).unwrap();
    let (mut w, mut gone) = (Writer::default(), Vec::new());
    for n in 0..300 {
        index.insert(&mut w, name(n), Found { made: 1, size: n }, ENOUGH, &mut gone);
        index.remove(name(n / 2));
    }
    let totals = (index.objects(), index.bytes());
    let mut names: Vec<Name> = index.names().collect();
    index.small.set_totals(9, 1 << 60);
    index.main.set_totals(1 << 63, 7);
    index.recount(&mut w);
    assert_eq!((index.objects(), index.bytes()), totals);
    assert_eq!(index.small.len() + index.main.len(), totals.0);
    names.dedup();
    assert_eq!(index.names().collect::<Vec<Name>>(), names);
    // What no ring names is not kept.
    index.small.clear();
    index.main.clear();
    index.recount(&mut w);
    assert_eq!((index.objects(), (0..300).filter(|&n| index.find(name(n), 1).is_some()).count()), (0, 0));
}
