//! Memory that others spoil between operations: no panic, no endless loop, and hardly ever a wrong answer.

use super::{bytes, memory, name};
use crate::cache::header::HEADER_BYTES;
use crate::cache::word::{class_of, size_of};
use crate::cache::{Broken, Found, Index, Name, SavedClock, Writer};
use std::collections::{HashMap, HashSet};

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(1);
        Name::of(&self.0.to_le_bytes()).0 % sides
    }
}

/// Spoils a few places behind `from`.
fn spoil(bytes: &mut [u8], from: usize, dice: &mut Dice) {
    for _ in 0..=dice.roll(4) {
        let at = from + dice.roll((bytes.len() - from) as u64) as usize;
        let word = at / 8 * 8;
        match dice.roll(6) {
            0 | 1 => bytes[at] ^= 1 << dice.roll(8),
            2 => bytes[at] = dice.roll(256) as u8,
            3 => bytes[word..word + 8].fill(0),
            4 => bytes[word..word + 8].copy_from_slice(&dice.roll(u64::MAX).to_ne_bytes()),
            _ => {
                // A torn page: half of a bucket or more is as it never was.
                let end = (word + 8 * dice.roll(40) as usize).min(bytes.len());
                let with = [0, 0xff, 0x55][dice.roll(3) as usize];
                bytes[word..end].fill(with);
            }
        }
    }
}

/// Anything, on names of few.
fn operate(index: &Index<'_>, w: &mut Writer, dice: &mut Dice, past: &mut HashMap<Name, HashSet<Found>>) {
    let (now, name, mut gone) = (1000 + dice.roll(50) as u32, name(dice.roll(150)), Vec::new());
    match dice.roll(16) {
        0..8 => {
            let (made, size) = (now - dice.roll(100) as u32, dice.roll(2000));
            index.insert(w, name, Found { made, size }, 60_000, &mut gone);
            past.entry(name).or_default().insert(Found { made, size: size_of(class_of(size)) });
        }
        8..10 => index.touch(name),
        10 => drop(index.remove(name)),
        11 => index.evict(w, dice.roll(60_000), &mut gone),
        12 => index.sweep(w, now, 80, dice.roll(100) as usize, &mut gone),
        13 => index.save_clock(SavedClock { cache_seconds: 1, boot: 2, boot_seconds: 3, wall_seconds: 4 }),
        14 if dice.roll(8) == 0 => index.recount(w),
        _ => drop(index.names().count()),
    }
    assert!(gone.len() < 2000);
}

#[test]
fn a_spoilt_index_answers_with_what_was_once_true_or_not_at_all() {
    let (mut dice, mut spoilt, mut wrong) = (Dice(1), 0, 0);
    for _ in 0..40 {
        let (mut memory, mut w, mut past) = (memory(100), Writer::default(), HashMap::new());
        Index::create(bytes(&mut memory), 100, 7).unwrap();
        for _ in 0..200 {
            // Only the head of the header is checked once and for all.
            spoil(bytes(&mut memory), 40, &mut dice);
            spoilt += 1;
            let index = Index::open(bytes(&mut memory)).unwrap();
            (0..dice.roll(8)).for_each(|_| operate(&index, &mut w, &mut dice, &mut past));
            for name in (0..150).map(name) {
                let found = index.find(name, 1050);
                wrong +=
                    usize::from(found.is_some_and(|found| !past.get(&name).is_some_and(|all| all.contains(&found))));
            }
            assert!(index.saved_clock().is_none_or(|clock| clock.wall_seconds == 4));
        }
        // A repair makes it whole.
        let index = Index::open(bytes(&mut memory)).unwrap();
        index.recount(&mut w);
        let listed: HashSet<Name> = index.names().collect();
        assert_eq!((listed.len(), index.objects()), (index.names().count(), listed.len() as u64));
        index.evict(&mut w, 0, &mut Vec::new());
        assert_eq!((index.objects(), index.bytes(), index.names().count()), (0, 0, 0));
    }
    assert!(wrong * 200 < spoilt, "{wrong} wrong answers after {spoilt} damages");
}

#[test]
fn single_flips_in_the_table_are_misses_always() {
    let mut memory = memory(100);
    let index = Index::create(bytes(&mut memory), 100, 7).unwrap();
    let mut w = Writer::default();
    for n in 0..100u64 {
        index.insert(&mut w, name(n), Found { made: 900 + n as u32, size: n * 100 }, u64::MAX, &mut Vec::new());
    }
    let answers = |memory: &mut [u64]| {
        let index = Index::open(bytes(memory)).unwrap();
        (0..200).map(|n| index.find(name(n), 1000)).collect::<Vec<_>>()
    };
    let before = answers(&mut memory);
    let table = HEADER_BYTES / 8..HEADER_BYTES / 8 + 34 * 8;
    for (word, bit) in table.flat_map(|word| (0..64).map(move |bit| (word, bit))) {
        memory[word] ^= 1 << bit;
        let after = answers(&mut memory);
        let changed: Vec<_> = before.iter().zip(&after).filter(|(before, after)| before != after).collect();
        assert!(changed.len() <= 1 && changed.iter().all(|(_, after)| after.is_none()), "word {word} bit {bit}");
        memory[word] ^= 1 << bit;
    }
    assert_eq!(before.iter().flatten().count(), index_objects(&mut memory));
}

fn index_objects(memory: &mut [u64]) -> usize {
    Index::open(bytes(memory)).unwrap().objects() as usize
}

#[test]
fn what_is_no_index_is_not_opened() {
    let mut whole = memory(100);
    let bytes = bytes(&mut whole);
    assert_eq!(Index::open(bytes).unwrap_err(), Broken::NotAnIndex, "zeros");
    Index::create(bytes, 100, 7).unwrap();
    for len in (0..bytes.len()).step_by(7) {
        assert_eq!(Index::open(&mut bytes[..len]).unwrap_err(), Broken::TooShort, "{len}");
    }
    assert_eq!(Index::open(&mut bytes[1..]).unwrap_err(), Broken::Misaligned);
    for (bit, at) in (0..40).flat_map(|at| (0..8).map(move |bit| (bit, at))) {
        bytes[at] ^= 1 << bit;
        assert!(Index::open(bytes).is_err(), "byte {at}");
        bytes[at] ^= 1 << bit;
    }
    assert_eq!(Index::open(bytes).unwrap().id(), 7);
    assert_eq!(Index::create(bytes, 0, 7).unwrap_err(), Broken::BadCapacity);
    assert_eq!(Index::create(bytes, usize::MAX, 7).unwrap_err(), Broken::BadCapacity);
    assert_eq!(Index::create(bytes, 200, 7).unwrap_err(), Broken::TooShort);
}
