//! Which eviction finds most: `cargo bench --bench eviction` prints hit ratios of the known ones, written down in the plainest way, and of the
//! real index, on the same seeded traces. Objects have different sizes, and the limit is one of bytes.
#![expect(clippy::print_stdout, reason = "a table is what it is for")]

use pilb::cache::{Found, Index, Name, Writer};
use std::collections::{BTreeMap, VecDeque};
use zerocopy::IntoBytes;

const OBJECTS: usize = 100_000;
const REQUESTS: usize = 2_000_000;

/// splitmix64, of one number.
fn mix(n: u64) -> u64 {
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        (mix(self.0) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// From 0.8 to 56 KB.
fn size(key: usize) -> u64 {
    let hash = mix(key as u64 + 1_000_000_007);
    400 + (400 << (hash % 8)) + hash / 8 % 4000
}

// ---- traces

/// Ranks by Zipf's law.
struct Zipf(Vec<f64>);

impl Zipf {
    fn new(exponent: f64) -> Zipf {
        let mut sum = 0.0;
        let mut sums: Vec<f64> = (1..=OBJECTS).map(|rank| (rank as f64).powf(-exponent)).collect();
        sums.iter_mut().for_each(|weight| {
            sum += *weight;
            *weight = sum;
        });
        Zipf(sums)
    }

    fn rank(&self, dice: &mut Dice) -> usize {
        let at = dice.roll() * self.0.last().copied().unwrap_or(1.0);
        self.0.partition_point(|sum| *sum < at).min(OBJECTS - 1)
    }
}

fn zipf(exponent: f64) -> Vec<usize> {
    let (zipf, mut dice) = (Zipf::new(exponent), Dice(1));
    (0..REQUESTS).map(|_| zipf.rank(&mut dice)).collect()
}

/// After every 100000 requests by Zipf's law a scan of so many objects that nobody else asks for.
fn scans(length: usize) -> Vec<usize> {
    let (zipf, mut dice, mut scanned, mut trace) = (Zipf::new(0.9), Dice(2), 0, Vec::new());
    while trace.len() < REQUESTS {
        trace.extend((0..100_000).map(|_| zipf.rank(&mut dice)));
        trace.extend((scanned..scanned + length).map(|n| OBJECTS + n % OBJECTS));
        scanned += length;
    }
    trace.truncate(REQUESTS);
    trace
}

/// The most wanted object is another one every 50 requests.
fn moving() -> Vec<usize> {
    let (zipf, mut dice) = (Zipf::new(0.9), Dice(3));
    (0..REQUESTS).map(|n| (zipf.rank(&mut dice) + n / 50) % OBJECTS).collect()
}

// ---- caches

trait Cache {
    /// True is a hit; after a miss the object is in.
    fn ask(&mut self, key: usize) -> bool;
}

/// What the plain ones have in common: where an object is (0: nowhere), how useful it was, how much there is.
struct Known {
    place: Vec<u8>,
    used: Vec<u8>,
    bytes: u64,
    limit: u64,
}

impl Known {
    fn new(limit: u64) -> Known {
        Known { place: vec![0; 2 * OBJECTS], used: vec![0; 2 * OBJECTS], bytes: 0, limit }
    }

    fn hit(&mut self, key: usize, most: u8) -> bool {
        self.used[key] = (self.used[key] + 1).min(most);
        self.place[key] != 0
    }

    fn enter(&mut self, key: usize, place: u8) {
        (self.place[key], self.used[key]) = (place, 0);
        self.bytes += size(key);
    }

    fn leave(&mut self, key: usize) {
        self.place[key] = 0;
        self.bytes -= size(key);
    }

    fn full(&self, key: usize) -> bool {
        self.bytes + size(key) > self.limit
    }
}

/// A queue in which those that were of use up to `most` times go round so often. FIFO is `most` 0, CLOCK 1.
struct Clock(Known, VecDeque<usize>, u8);

impl Cache for Clock {
    fn ask(&mut self, key: usize) -> bool {
        let Clock(known, queue, most) = self;
        if known.hit(key, *most) {
            return true;
        }
        while known.full(key) {
            let Some(old) = queue.pop_front() else { break };
            if known.used[old] > 0 {
                known.used[old] -= 1;
                queue.push_back(old);
            } else {
                known.leave(old);
            }
        }
        known.enter(key, 1);
        queue.push_back(key);
        false
    }
}

/// All in the order in which they came (SIEVE, which has a hand) or were asked for (LRU, whose hand is always at the oldest).
struct Ordered {
    known: Known,
    order: BTreeMap<usize, usize>,
    stamps: Vec<usize>,
    clock: usize,
    hand: usize,
    lru: bool,
    /// The longest ring that this order would have needed, in places per object.
    ring: f64,
}

impl Ordered {
    fn new(limit: u64, lru: bool) -> Ordered {
        let (known, stamps) = (Known::new(limit), vec![0; 2 * OBJECTS]);
        Ordered { known, order: BTreeMap::new(), stamps, clock: 0, hand: 0, lru, ring: 1.0 }
    }

    fn append(&mut self, key: usize) {
        (self.clock, self.stamps[key]) = (self.clock + 1, self.clock);
        self.order.insert(self.stamps[key], key);
    }
}

impl Cache for Ordered {
    fn ask(&mut self, key: usize) -> bool {
        if self.known.hit(key, u8::from(!self.lru)) {
            if self.lru {
                self.order.remove(&self.stamps[key]);
                self.append(key);
            }
            return true;
        }
        while self.known.full(key) {
            let next = self.order.range(self.hand..).next().or_else(|| self.order.first_key_value());
            let Some((&stamp, &old)) = next else { break };
            // From the newest the hand goes back to the oldest, whoever comes meanwhile.
            self.hand = self.order.range(stamp + 1..).next().map_or(0, |(stamp, _)| *stamp);
            if std::mem::take(&mut self.known.used[old]) == 0 {
                self.order.remove(&stamp);
                self.known.leave(old);
            }
        }
        self.known.enter(key, 1);
        self.append(key);
        let oldest = self.order.first_key_value().map_or(0, |(stamp, _)| *stamp);
        self.ring = self.ring.max((self.clock - oldest) as f64 / self.order.len() as f64);
        false
    }
}

/// As in the paper: a tenth for newcomers, ghosts as many as the main queue has objects; promoted at two uses, or at `.4`.
struct S3Fifo(Known, [VecDeque<usize>; 2], VecDeque<(usize, u32)>, Vec<u32>, u8, u64);

impl S3Fifo {
    fn new(limit: u64, promoted: u8) -> S3Fifo {
        S3Fifo(Known::new(limit), Default::default(), VecDeque::new(), vec![0; 2 * OBJECTS], promoted, 0)
    }

    fn evict(&mut self) {
        let S3Fifo(known, [small, main], ghosts, ghost, promoted, small_bytes) = self;
        if *small_bytes > known.limit / 10 || main.is_empty() {
            let Some(old) = small.pop_front() else { return };
            *small_bytes -= size(old);
            if known.used[old] >= *promoted {
                (known.place[old], known.used[old]) = (2, 0);
                return main.push_back(old);
            }
            known.leave(old);
            ghost[old] += 1;
            ghosts.push_back((old, ghost[old]));
            while ghosts.len() > main.len().max(1) {
                let Some((old, mark)) = ghosts.pop_front() else { return };
                ghost[old] = if ghost[old] == mark { 0 } else { ghost[old] };
            }
        } else if let Some(old) = main.pop_front() {
            if known.used[old] > 0 {
                known.used[old] -= 1;
                return main.push_back(old);
            }
            known.leave(old);
        }
    }
}

impl Cache for S3Fifo {
    fn ask(&mut self, key: usize) -> bool {
        if self.0.hit(key, 3) {
            return true;
        }
        while self.0.full(key) {
            self.evict();
        }
        let known_ghost = std::mem::take(&mut self.3[key]) > 0;
        self.0.enter(key, 1 + u8::from(known_ghost));
        self.1[usize::from(known_ghost)].push_back(key);
        self.5 += if known_ghost { 0 } else { size(key) };
        false
    }
}

/// The one that is built in.
struct Real(Index<'static>, Writer, u64, Vec<Name>);

impl Cache for Real {
    fn ask(&mut self, key: usize) -> bool {
        let Real(index, writer, limit, gone) = self;
        let name = Name::of(&key.to_le_bytes());
        let hit = index.find(name, 1).is_some();
        if hit {
            index.touch(name);
        } else {
            index.insert(writer, name, Found { made: 1, size: size(key) }, *limit, gone);
            gone.clear();
        }
        hit
    }
}

/// An index of half as many objects again as fit.
fn real(limit: u64) -> Option<Real> {
    let mean = (0..OBJECTS).map(size).sum::<u64>() / OBJECTS as u64;
    let objects = (limit / mean * 3 / 2) as usize;
    let memory = vec![0u64; Index::bytes_for(objects) / 8].leak();
    Some(Real(Index::create(memory.as_mut_bytes(), objects, 1).ok()?, Writer::default(), limit, Vec::new()))
}

fn ratio(cache: &mut dyn Cache, trace: &[usize]) -> f64 {
    100.0 * trace.iter().filter(|key| cache.ask(**key)).count() as f64 / trace.len() as f64
}

fn main() {
    let total: u64 = (0..OBJECTS).map(size).sum();
    println!("hit ratio in per cent: {REQUESTS} requests for {OBJECTS} objects of {} MB", total / 1_000_000);
    println!(
        "{:20}{:>6}{:>7}{:>7}{:>7}{:>7}{:>7}{:>7}{:>7}   ring of SIEVE",
        "trace", "cache", "FIFO", "LRU", "CLOCK", "SIEVE", "S3 >=2", "S3 >=1", "index"
    );
    for share in [1, 10] {
        let limit = total * share / 100;
        let longer = OBJECTS * share as usize * 2 / 100;
        for (name, trace) in [
            ("Zipf 0.7", zipf(0.7)),
            ("Zipf 0.9", zipf(0.9)),
            ("Zipf 1.1", zipf(1.1)),
            ("Zipf 0.9 and scans", scans(longer)),
            ("moving Zipf 0.9", moving()),
        ] {
            let queue = |most| Clock(Known::new(limit), VecDeque::new(), most);
            let mut sieve = Ordered::new(limit, false);
            let mut row: Vec<f64> = vec![
                ratio(&mut queue(0), &trace),
                ratio(&mut Ordered::new(limit, true), &trace),
                ratio(&mut queue(1), &trace),
                ratio(&mut sieve, &trace),
                ratio(&mut S3Fifo::new(limit, 2), &trace),
                ratio(&mut S3Fifo::new(limit, 1), &trace),
            ];
            row.extend(real(limit).map(|mut real| ratio(&mut real, &trace)));
            let row: String = row.iter().map(|ratio| format!("{ratio:7.2}")).collect();
            println!("{name:20}{:>6}{row}   {:.1} places per object", format!("{share} %"), sieve.ring);
        }
    }
}
