//! Level 3 of the tests: the real worker and the real proxy in a network that lives in memory, as a seed makes it (`tests/simulation/`).
//! Clients and servers are honest, slow, stuck, broken or hostile, the kernel refuses what it may refuse, clocks jump; the rules hold
//! all the same: see `judge` and `taps`.
//!
//! `PILB_SEED=n` replays one seed and prints what happened (with `-- --nocapture replay`), `PILB_SEEDS=a..b` runs a range on all cores.
//! A seed means another world whenever the generator changes: what one has found is kept as a scene (`scenes`) or a script.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "PILB_SEED prints what happened")]

#[path = "simulation/book.rs"]
mod book;
#[path = "simulation/bytes.rs"]
mod bytes;
#[path = "simulation/client.rs"]
mod client;
#[path = "simulation/io.rs"]
mod io;
#[path = "simulation/judge.rs"]
mod judge;
#[path = "simulation/make.rs"]
mod make;
#[path = "simulation/message.rs"]
mod message;
#[path = "simulation/net.rs"]
mod net;
#[path = "simulation/random.rs"]
mod random;
#[path = "simulation/run.rs"]
mod run;
#[path = "simulation/scenes.rs"]
mod scenes;
#[path = "simulation/server.rs"]
mod server;
#[path = "simulation/taps.rs"]
mod taps;
#[path = "simulation/weather.rs"]
mod weather;
#[path = "simulation/world.rs"]
mod world;

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Seeds of a usual run, by thread.
const USUAL: [Range<u64>; 2] = [0..1000, 1000..2000];
/// Lines of the trace that a failure prints.
const LAST: usize = 60;
/// Failures after which a range is given up.
const MOST: u64 = 20;

/// What is wrong with a seed, if anything.
fn failure(seed: u64) -> Option<String> {
    let ended = catch_unwind(AssertUnwindSafe(|| run::seed(seed, false)));
    let broken = match ended {
        Ok(end) => end.broken?,
        Err(panic) => panic_text(&*panic),
    };
    let trace = catch_unwind(AssertUnwindSafe(|| run::seed(seed, true))).map_or_else(|_| Vec::new(), |end| end.trace);
    let from = trace.len().saturating_sub(LAST);
    let replay = format!("PILB_SEED={seed} cargo test --test simulation -- --nocapture replay");
    Some(format!("seed {seed}: {broken}\n{}\nseed {seed}: {broken}\nreplay: {replay}\n", trace[from..].join("\n")))
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panic: {}", text.unwrap_or("?"))
}

/// Runs the seeds until one fails.
fn run_all(seeds: Range<u64>) {
    for seed in seeds {
        if let Some(text) = failure(seed) {
            panic!("{text}");
        }
    }
}

fn wanted(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

#[test]
fn seeds_of_the_first_half() {
    if wanted("PILB_SEED").is_none() && wanted("PILB_SEEDS").is_none() {
        run_all(USUAL[0].clone());
    }
}

#[test]
fn seeds_of_the_second_half() {
    if wanted("PILB_SEED").is_none() && wanted("PILB_SEEDS").is_none() {
        run_all(USUAL[1].clone());
    }
}

#[test]
fn replay() {
    if let Some(seed) = wanted("PILB_SEED") {
        let seed = seed.parse().expect("PILB_SEED is a number");
        let end = run::seed(seed, true);
        println!("{}", end.trace.join("\n"));
        println!("seed {seed}: {} turns, {} records", end.turns, end.ends.len());
        assert_eq!(end.broken, None);
    }
    if let Some(seeds) = wanted("PILB_SEEDS") {
        let (from, to) = seeds.split_once("..").expect("PILB_SEEDS is a..b");
        run_range(from.parse().expect("a number")..to.parse().expect("a number"));
    }
}

/// Shares a range among as many threads as there are cores, and says how far it is.
fn run_range(seeds: Range<u64>) {
    let (next, failed, start) = (AtomicU64::new(seeds.start), AtomicU64::new(0), Instant::now());
    let work = || {
        while failed.load(Ordering::Relaxed) < MOST {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            if let Some(text) = failure(seed) {
                failed.fetch_add(1, Ordering::Relaxed);
                println!("{text}");
            } else if seed % 10_000 == 9_999 {
                println!("up to {seed}: {:.0} seeds/s", (seed - seeds.start) as f64 / start.elapsed().as_secs_f64());
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    assert_eq!(failed.into_inner(), 0, "so many seeds have failed, see above");
}
