//! The cache's index with a million objects.

use super::Part;
use pilb::cache::{Found, Index, Name, Writer};
use std::hint::black_box;
use zerocopy::IntoBytes;

pub const PARTS: &[Part] = &[
    Part { group: "cache", name: "find, hit", bytes: None, make: || find(0) },
    Part { group: "cache", name: "find, miss", bytes: None, make: || find(OBJECTS) },
    Part { group: "cache", name: "find and touch", bytes: None, make: touch },
    Part { group: "cache", name: "insert and remove", bytes: None, make: insert_and_remove },
    Part { group: "cache", name: "insert and evict", bytes: None, make: insert_and_evict },
    Part { group: "cache", name: "sweep 100 names", bytes: None, make: sweep },
    Part { group: "cache", name: "open", bytes: None, make: open },
];

const OBJECTS: u64 = 1_000_000;
const NOW: u32 = 1000;

fn name(n: u64) -> Name {
    Name::of(&n.to_ne_bytes())
}

fn enter(index: &Index<'_>, w: &mut Writer, n: u64, gone: &mut Vec<Name>) {
    index.insert(w, name(n), Found { made: NOW, size: 10_000 }, u64::MAX, gone);
}

/// An index that holds `0..OBJECTS`, but for the few that full buckets lost.
fn full() -> (Index<'static>, Writer) {
    let memory = vec![0u64; Index::bytes_for(OBJECTS as usize) / 8].leak();
    let Ok(index) = Index::create(memory.as_mut_bytes(), OBJECTS as usize, 1) else { unreachable!("enough memory") };
    let mut w = Writer::default();
    (0..OBJECTS).for_each(|n| enter(&index, &mut w, n, &mut Vec::new()));
    (index, w)
}

/// A name in no order, so that each is far from the one before. The hash is part of the time.
fn find(from: u64) -> Box<dyn FnMut()> {
    let ((index, _), mut n) = (full(), 0);
    Box::new(move || {
        n = (n + 1) % OBJECTS;
        black_box(index.find(black_box(name(from + n)), NOW));
    })
}

fn touch() -> Box<dyn FnMut()> {
    let ((index, _), mut n) = (full(), 0);
    Box::new(move || {
        n = (n + 1) % OBJECTS;
        let name = black_box(name(n));
        if black_box(index.find(name, NOW)).is_some() {
            index.touch(name);
        }
    })
}

fn insert_and_remove() -> Box<dyn FnMut()> {
    let ((index, mut w), mut n, mut gone) = (full(), OBJECTS, Vec::new());
    index.evict(&mut w, 9_000_000_000, &mut gone);
    Box::new(move || {
        n += 1;
        gone.clear();
        enter(&index, &mut w, n, &mut gone);
        index.remove(name(n));
    })
}

/// Each object that comes makes another one go.
fn insert_and_evict() -> Box<dyn FnMut()> {
    let ((index, mut w), mut n, mut gone) = (full(), OBJECTS, Vec::new());
    Box::new(move || {
        n += 1;
        gone.clear();
        enter(&index, &mut w, n, &mut gone);
        black_box(&gone);
    })
}

fn sweep() -> Box<dyn FnMut()> {
    let ((index, mut w), mut gone) = (full(), Vec::new());
    Box::new(move || {
        gone.clear();
        index.sweep(&mut w, NOW, 60, 100, &mut gone);
    })
}

fn open() -> Box<dyn FnMut()> {
    let memory = vec![0u64; Index::bytes_for(OBJECTS as usize) / 8].leak();
    assert!(Index::create(memory.as_mut_bytes(), OBJECTS as usize, 1).is_ok());
    Box::new(move || assert!(Index::open(memory.as_mut_bytes()).is_ok_and(|index| black_box(index).objects() == 0)))
}
