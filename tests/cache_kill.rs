//! A cache whose process is killed again and again, at any moment: what is found afterwards is right.
//!
//! Takes about two minutes: `cargo test --test cache_kill -- --ignored --nocapture`.
#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

use pilb::storage::cache::{CacheDir, Object, Settings, inspect};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

const CHILD: &str = "PILB_TEST_CACHE_KILL";
const ROUNDS: u64 = 200;
const KEYS: u64 = 1_500;

struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

fn settings(dir: &Path) -> Settings {
    // Less room than the keys would take, so that there is eviction as well.
    Settings { dir: dir.to_owned(), ttl: 3_600, max_bytes: 12 << 20, max_objects: 1_000 }
}

/// The source that a key has most of the time.
fn source(key: &[u8]) -> u128 {
    u128::from(xxh3_64(key)) * 3
}

/// The only right body: a few bytes or many, none like another one's.
fn body(key: &[u8], source: u128) -> Vec<u8> {
    let seed = xxh3_64_with_seed(key, source as u64);
    let length = if seed.is_multiple_of(50) { 300_000 } else { seed % 20_000 };
    (0..length.div_ceil(8)).flat_map(|word| (seed ^ word.wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_le_bytes()).collect()
}

/// Is there an answer? It must be the right one.
fn found(cache: &CacheDir, key: &[u8], source: u128) -> bool {
    let Some(loaded) = cache.load(key, source) else { return false };
    let object = loaded.object;
    assert!(object.key == key && object.source == source, "another object");
    assert!(object.fields == key && object.body == body(key, source), "another body");
    true
}

/// Stores and loads until somebody ends it.
fn child(dir: &Path) {
    let cache = CacheDir::open(settings(dir)).unwrap();
    thread::scope(|scope| {
        for thread in 0..4 {
            let cache = &cache;
            scope.spawn(move || {
                let mut random = Random(u64::from(std::process::id()) * 4 + thread);
                loop {
                    let key = format!("/file/{}", random.below(KEYS)).into_bytes();
                    let source = source(&key) + u128::from(random.below(32) == 0);
                    match random.below(16) {
                        0..6 => {
                            let body = body(&key, source);
                            let _ = cache.store(&mut Object { key: key.clone(), source, fields: key, body, made: 0 });
                        }
                        6 => drop(cache.remove(&key)),
                        7 if thread == 0 => drop(cache.tend()),
                        8 if random.below(400) == 0 => assert!(cache.purge() < 1 << 20),
                        _ => assert!(found(cache, &key, source) || cache.now() > 0),
                    }
                }
            });
        }
    });
}

/// Now and then, the disk lies as well.
fn damage(dir: &Path, round: u64, random: &mut Random) {
    let index = dir.join("index");
    match round % 20 {
        5 => {
            let mut bytes = fs::read(&index).unwrap();
            for _ in 0..64 {
                let at = random.below(bytes.len() as u64) as usize;
                bytes[at] ^= 1 << random.below(8);
            }
            fs::write(&index, bytes).unwrap();
        }
        10 => fs::File::options().write(true).open(&index).unwrap().set_len(random.below(30_000)).unwrap(),
        15 => fs::remove_file(&index).unwrap(),
        _ => {}
    }
}

#[test]
#[ignore = "takes two minutes"]
fn killed_at_any_moment_it_serves_no_wrong_byte() {
    if let Some(dir) = std::env::var_os(CHILD) {
        return child(Path::new(&dir));
    }
    let folder = TempDir::new().unwrap();
    let dir = folder.path().join("cache");
    let mut random = Random(std::env::var("PILB_SEED").map_or(1, |seed| seed.parse().unwrap()));
    let (mut hits, mut bad, mut orphans, mut damages) = (0, 0, 0, 0);
    let (mut slowest_open, mut slowest_hit) = (Duration::ZERO, Duration::ZERO);
    for round in 1..=ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "killed_at_any_moment_it_serves_no_wrong_byte"])
            .env(CHILD, &dir)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        thread::sleep(Duration::from_millis(5 + random.below(196)));
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself in round {round}");
        child.kill().unwrap();
        child.wait().unwrap();
        if dir.join("index").exists() {
            damages += u64::from(round % 20 != 0 && round % 5 == 0);
            damage(&dir, round, &mut random);
        }
        let begun = Instant::now();
        let cache = CacheDir::open(settings(&dir)).unwrap();
        slowest_open = slowest_open.max(begun.elapsed());
        // Every other time the next child gets the directory with its orphans.
        if round % 2 == 0 {
            while cache.tend() {}
        }
        let begun = Instant::now();
        for number in 0..KEYS {
            let key = format!("/file/{number}").into_bytes();
            if found(&cache, &key, source(&key)) {
                if hits == 0 {
                    slowest_hit = slowest_hit.max(begun.elapsed());
                }
                hits += 1;
            }
        }
        let stats = cache.stats();
        (bad, orphans) = (bad + stats.bad, orphans + stats.orphans);
        if stats.rebuilding {
            continue;
        }
        let mut on_disk = 0;
        inspect::list(&dir, None, &mut |entry| on_disk += entry.size).unwrap();
        assert!(on_disk <= settings(&dir).max_bytes, "{on_disk} bytes on the disk after round {round}");
    }
    let cache = CacheDir::open(settings(&dir)).unwrap();
    while cache.tend() {}
    let left = inspect::verify(&dir, None, &mut |entry| eprintln!("{entry:?}")).unwrap();
    eprintln!(
        "{ROUNDS} kills, {damages} damaged indices: {hits} answers found, none wrong; {bad} bad files and {orphans} \
         orphans removed; slowest open {slowest_open:?}, first hit {slowest_hit:?} later; left: {left:?}"
    );
    assert_eq!((left.orphans, left.damaged), (0, 0));
    assert!(hits > 1_000, "the test tests something");
}
