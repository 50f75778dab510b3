//! Many readers, removers and one writer at once: nobody sees a mixture, and no total is wrong in the end.

use super::{bytes, memory, name};
use crate::cache::word::{class_of, size_of};
use crate::cache::{Found, Index, Writer};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
#[cfg(test)]
use std::thread;

const NAMES: u64 = 500;
const NOW: u32 = 100_000;

/// The size belongs to the name and the time, so that a mixture of two states would be seen.
fn object(n: u64, round: u64) -> Found {
    Found { made: NOW - 1 - round as u32, size: size_of(class_of((n * 31 + round * 1000) % 50_000)) }
}

fn check(index: &Index<'_>, n: u64) -> bool {
    let Some(found) = index.find(name(n), NOW) else { return false };
    assert_eq!(found, object(n, u64::from(NOW - 1 - found.made)), "object {n}");
    true
}

#[test]
fn readers_see_whole_objects_while_others_write() {
    let mut memory = memory(300);
    let index = Index::create(bytes(&mut memory), 300, 7).unwrap();
    let done = AtomicBool::new(false);
    let hits = thread::scope(|scope| {
        let reader = |seed: u64| {
            let (index, done) = (&index, &done);
            move || {
                let (mut n, mut hits) = (seed, 0);
                while !done.load(Relaxed) {
                    n = (n * 7 + 1) % NAMES;
                    hits += u64::from(check(index, n));
                    index.touch(name(n));
                    if n % 16 == seed % 16 {
                        index.remove(name(n));
                    }
                }
                hits
            }
        };
        let readers: Vec<_> = (0..3).map(|seed| scope.spawn(reader(seed))).collect();
        let (mut w, mut gone) = (Writer::default(), Vec::new());
        for step in 0..30_000u64 {
            let n = step * 13 % NAMES;
            index.insert(&mut w, name(n), object(n, step / NAMES), 4_000_000, &mut gone);
            if step % 100 == 0 {
                index.sweep(&mut w, NOW, 40, 50, &mut gone);
                assert!(gone.len() < 1000);
                gone.clear();
            }
        }
        done.store(true, Relaxed);
        readers.into_iter().map(|reader| reader.join().unwrap()).sum::<u64>()
    });
    assert!(hits > 0);
    let held: Vec<u64> = (0..NAMES).filter(|&n| check(&index, n)).collect();
    let sizes = held.iter().filter_map(|&n| index.find(name(n), NOW)).map(|found| found.size);
    assert_eq!((index.objects(), index.bytes()), (held.len() as u64, sizes.sum::<u64>()));
}
