//! The fuzz targets without a fuzzer: each runs over its kept corpus in `fuzz/corpus/` and over some mutations of it.
//!
//! `PILB_SEED=n` makes other mutations, `PILB_MUTATIONS=n` so many of each target. An input that fails is printed; kept under a telling
//! name in the corpus it is tried for good.
#![allow(clippy::panic, clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "../fuzz/src/lib.rs"]
mod targets;

use std::path::{Path, PathBuf};

/// Mutations of each target, as many as a debug build does in a second or so.
const MUTATIONS: usize = 4000;
/// What the corpus may grow to. libFuzzer's own is many times as large, and is not kept.
const MOST_FILES: usize = 60;
const MOST_BYTES: usize = 4096;

#[test]
fn cache_index() {
    exercise("cache_index");
}

#[test]
fn chunked_body() {
    exercise("chunked_body");
}

#[test]
fn exchange() {
    exercise("exchange");
}

#[test]
fn file_request() {
    exercise("file_request");
}

#[test]
fn parse_request() {
    exercise("parse_request");
}

#[test]
fn parse_response() {
    exercise("parse_response");
}

#[test]
fn path() {
    exercise("path");
}

#[test]
fn preface() {
    exercise("preface");
}

#[test]
fn every_target_has_a_small_corpus_and_a_binary() {
    for (name, _) in targets::TARGETS {
        let files = corpus(name);
        assert!(!files.is_empty() && files.len() <= MOST_FILES, "{name}: {} files", files.len());
        for (file, bytes) in files {
            assert!(bytes.len() < MOST_BYTES, "{}: {} bytes", file.display(), bytes.len());
        }
        let binary = root().join("fuzz_targets").join(name).with_extension("rs");
        assert!(binary.is_file(), "{} is missing", binary.display());
    }
    let folders = std::fs::read_dir(root().join("corpus")).unwrap().count();
    assert_eq!(folders, targets::TARGETS.len(), "a corpus without a target");
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// The kept inputs of a target, in the order of their names.
fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = root().join("corpus").join(name);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|file| (file.clone(), std::fs::read(file).unwrap())).collect()
}

fn exercise(name: &str) {
    let (_, run) = targets::TARGETS.iter().find(|(known, _)| *known == name).unwrap();
    let files = corpus(name);
    for (file, bytes) in &files {
        attempt(&file.display().to_string(), bytes, *run);
    }
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let seed = number("PILB_SEED").unwrap_or(1);
    let inputs: Vec<Vec<u8>> = files.into_iter().map(|(_, bytes)| bytes).collect();
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    for round in 0..number("PILB_MUTATIONS").map_or(MUTATIONS, |n| n as usize) {
        attempt(&format!("PILB_SEED={seed}, mutation {round}"), &mutated(&inputs, &mut dice), *run);
    }
}

/// Runs a target; if it fails, tells with what.
fn attempt(origin: &str, bytes: &[u8], run: fn(&[u8])) {
    struct Told<'a>(&'a str, &'a [u8]);
    impl Drop for Told<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("the input was b\"{}\"\n({})", self.1.escape_ascii(), self.0);
            }
        }
    }
    let told = Told(origin, bytes);
    run(bytes);
    drop(told);
}

/// xorshift64*.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % sides.max(1)
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.roll(of.len())]
    }
}

const WORDS: [&str; 24] = [
    "\r\n",
    "\n",
    "\r",
    " ",
    ":",
    ",",
    ";",
    "0",
    "1",
    "\0",
    "\r\n\r\n",
    "0\r\n\r\n",
    "Content-Length: 2\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Connection: close\r\n",
    "Host: h\r\n",
    "HTTP/1.0",
    "|e",
    "|E",
    "|R",
    "|T",
    "|w3",
    "|I",
    "|m",
];

/// One of the inputs, a little spoilt.
fn mutated(inputs: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = dice.pick(inputs).clone();
    for _ in 0..=dice.roll(4) {
        let at = dice.roll(bytes.len() + 1);
        let to = (at + dice.roll(16)).min(bytes.len());
        match dice.roll(7) {
            0 => drop(bytes.drain(at..to)),
            1 => drop(bytes.splice(at..at, dice.pick(&WORDS).bytes())),
            2 => drop(bytes.splice(at..to, dice.pick(&WORDS).bytes())),
            3 => {
                let copied = bytes[at..to].to_vec();
                let there = dice.roll(bytes.len() + 1);
                drop(bytes.splice(there..there, copied));
            }
            4 => {
                let other = dice.pick(inputs);
                let from = dice.roll(other.len() + 1);
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << dice.roll(8);
                }
            }
        }
    }
    bytes
}
