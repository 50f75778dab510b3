//! Nonsense, seeded: whatever bytes come, however they come and however slowly the answers are taken, the session
//! neither panics nor spins, says only whole answers, ends in time, and logs each exchange once.

use super::wire::{Shelf, Wire};
use crate::engine::record::Part;
use crate::engine::{Close, Side};

/// What clients say, to be cut up, repeated and damaged.
const PHRASES: [&str; 16] = [
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /big HTTP/1.1\r\nHost: a\r\n\r\n",
    "HEAD /a HTTP/1.1\r\nHost: a\r\nIf-None-Match: \"x\", W/\"y\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
    "PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n",
    "GET /%2e%2e/%2f HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "5;a=b\r\nhello\r\n",
    "0\r\n\r\n",
    "0\r\nX: y\r\n\r\n",
    "0123456789",
    "\r\n",
    "\n",
    "Expect: 100-continue\r\n",
    "GET ",
    "\0\u{e4}:%",
];

/// A xorshift generator: the same noise on every machine.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides as u64) as usize
    }
}

fn noise(dice: &mut Dice) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..=dice.roll(8) {
        bytes.extend_from_slice(PHRASES[dice.roll(PHRASES.len())].as_bytes());
    }
    for _ in 0..dice.roll(3) {
        let at = dice.roll(bytes.len().max(1));
        match dice.roll(3) {
            0 => bytes.insert(at, dice.roll(256) as u8),
            1 => bytes.truncate(at),
            _ => drop(bytes.drain(at..bytes.len().min(at + 1))),
        }
    }
    bytes
}

#[test]
fn whatever_comes_is_answered_whole_and_logged_once() {
    for seed in 1..4_000 {
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15 ^ seed);
        let shelf = Shelf::default().file(b"index.html", b"home").file(b"a", b"A").file(b"big", &[b'b'; 3_000]);
        let mut wire = Wire::with_buffers(shelf, [64, 300, 16_384][dice.roll(3)]);
        wire.window = [0, 1, 200, usize::MAX][dice.roll(4)];
        let bytes = noise(&mut dice);
        wire.send(&bytes, 1 + dice.roll(100));
        if dice.roll(2) == 0 {
            wire.ends([Side::Ended, Side::Broken][dice.roll(2)]);
        }
        // Nothing more comes from the client but the reading of what it was sent, a window at a time.
        let mut waits = 0;
        while wire.close.is_none() {
            wire.wait();
            waits += 1;
            assert!(waits < 20_000, "seed {seed} goes on for ever");
        }
        let answered = wire.log.0.iter().filter(|record| record.status != 0).count();
        let down: u64 = wire.log.0.iter().map(|record| record.bytes_down).sum();
        assert_eq!(down, wire.received.len() as u64, "seed {seed}");
        if wire.close != Some(Close::Reset) {
            let heads: Vec<bool> = wire.log.0.iter().map(|record| is_head(record.part(Part::Line))).collect();
            assert_eq!(wire.answers(&heads).len(), answered, "seed {seed}: {}", bytes.escape_ascii());
        }
    }
}

fn is_head(line: &[u8]) -> bool {
    line.starts_with(b"HEAD ")
}
