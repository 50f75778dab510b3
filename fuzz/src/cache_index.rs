//! The cache's index: does what a map does as long as nobody spoils its memory, and afterwards nothing worse than forgetting.

use pilb::cache::{Broken, Found, Index, Name, SavedClock, Writer};
use std::collections::{BTreeMap, BTreeSet};

const NAMES: u8 = 64;
/// Where the part of the header ends that says what the memory is.
const FIXED: usize = 40;

/// `data`: the capacity, then operations of four bytes.
pub fn run(data: &[u8]) {
    let [objects, operations @ ..] = data else { return };
    let objects = usize::from(*objects).max(1);
    // Aligned memory, as bytes.
    let mut memory = vec![0u8; Index::bytes_for(objects) + 8];
    let start = memory.as_ptr().align_offset(8);
    let memory = &mut memory[start..][..Index::bytes_for(objects)];
    assert!(Index::create(memory, objects, 7).is_ok());
    let mut world = World { model: Some(BTreeMap::new()), writer: Writer::default(), now: 1000, limit: 50_000 };
    for operation in operations.chunks_exact(4) {
        let [kind, a, b, c] = [operation[0], operation[1], operation[2], operation[3]];
        if kind >= 200 {
            world.spoil(memory, kind, [a, b, c]);
        }
        match Index::open(memory) {
            Ok(index) => world.operate(&index, kind, [a, b, c]),
            Err(broken) => world.anew(memory, objects, broken),
        }
    }
}

struct World {
    /// What was entered and not reported as gone. None as long as the memory is not to be trusted.
    model: Option<BTreeMap<Name, Found>>,
    writer: Writer,
    now: u32,
    limit: u64,
}

fn name(n: u8) -> Name {
    Name::of(&[n % NAMES])
}

impl World {
    /// Every way in which memory may be lost: a bit, a byte, a word, a page; anywhere, or where it hurts.
    fn spoil(&mut self, memory: &mut [u8], kind: u8, [a, b, c]: [u8; 3]) {
        self.model = None;
        let at = usize::from(a) << 8 | usize::from(b);
        let at = match kind % 4 {
            // The numbers of the header.
            0 => FIXED + at % 400,
            1 => at % 4096,
            _ => 4096 + at % (memory.len() - 4096),
        };
        let word = at / 8 * 8;
        match kind / 4 % 5 {
            0 => memory[at] ^= 1 << (c % 8),
            1 => memory[at] = c,
            2 => memory[word..word + 8].fill(c),
            3 => memory[word..].iter_mut().take(usize::from(c) * 8).for_each(|byte| *byte = 0),
            _ => memory.copy_within(word..word + 8, usize::from(c) * 8 % memory.len() / 8 * 8),
        }
    }

    fn anew(&mut self, memory: &mut [u8], objects: usize, broken: Broken) {
        assert!(self.model.is_none(), "broken by itself: {broken}");
        let index = Index::create(memory, objects, 7).expect("enough memory");
        assert_eq!((index.objects(), index.names().count()), (0, 0));
        self.model = Some(BTreeMap::new());
        self.writer = Writer::default();
    }

    fn operate(&mut self, index: &Index<'_>, kind: u8, [a, b, c]: [u8; 3]) {
        let mut gone = Vec::new();
        let w = &mut self.writer;
        match kind % 20 {
            0..8 => {
                let found = Found { made: self.now - u32::from(c), size: 1 << (b % 16) };
                index.insert(w, name(a), found, self.limit, &mut gone);
                if let Some(model) = &mut self.model {
                    model.insert(name(a), found);
                }
            }
            8..11 => index.touch(name(a)),
            11 => {
                let (was, known) =
                    (index.remove(name(a)), self.model.as_mut().map(|model| model.remove(&name(a)).is_some()));
                assert!(known.is_none_or(|known| known == was));
            }
            12 => index.evict(w, u64::from(a) << (b % 12), &mut gone),
            13 => index.sweep(w, self.now, u32::from(a), usize::from(b), &mut gone),
            14 => self.now += u32::from(a),
            15 => index.recount(w),
            16 if a < 32 => {
                index.clear(w);
                self.model = Some(BTreeMap::new());
            }
            17 => self.limit = 1 + (u64::from(a) << (b % 12)),
            _ => numbers(index, u64::from(a)),
        }
        assert!(gone.len() < 5000, "{} gone", gone.len());
        if let Some(model) = &mut self.model {
            model.retain(|name, _| !gone.contains(name));
            compare(index, model, self.now);
        } else {
            for n in 0..NAMES {
                assert!(index.find(name(n), self.now).is_none_or(|found| found.made <= self.now + 2));
            }
            assert!(index.names().count() < 1000);
            if kind % 20 == 15 {
                repaired(index);
            }
        }
    }
}

/// The index and the model agree, but for objects that a full bucket lost.
fn compare(index: &Index<'_>, model: &mut BTreeMap<Name, Found>, now: u32) {
    for n in 0..NAMES {
        let (found, known) = (index.find(name(n), now), model.get(&name(n)).copied());
        match found {
            Some(_) => assert_eq!(found, known, "object {n}"),
            None => drop(model.remove(&name(n))),
        }
    }
    assert_eq!(index.objects(), model.len() as u64);
    assert_eq!(index.bytes(), model.values().map(|found| found.size).sum::<u64>());
    let listed: BTreeSet<Name> = index.names().collect();
    assert!(listed.iter().eq(model.keys()), "the list");
}

/// After a recount the parts agree with each other.
fn repaired(index: &Index<'_>) {
    let listed: BTreeSet<Name> = index.names().collect();
    assert_eq!((listed.len(), index.objects()), (index.names().count(), listed.len() as u64));
}

fn numbers(index: &Index<'_>, n: u64) {
    let clock = SavedClock { cache_seconds: n, boot: 1, boot_seconds: 2, wall_seconds: 3 };
    index.save_clock(clock);
    assert_eq!(index.saved_clock(), Some(clock));
    let epoch = index.epoch();
    index.bump_epoch();
    assert_eq!(index.epoch(), epoch.wrapping_add(1));
    index.set_clean(n < 128);
    assert_eq!((index.was_clean(), index.id()), (n < 128, 7));
}
