//! Bytes under way. Content is noise that says by itself whose it is and where it belongs, so it travels as three numbers and is only
//! written out when somebody reads it.

use super::random::mix;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::OnceLock;

/// The noise repeats after so many bytes: a prime, so that no lost buffer or page of a usual size goes unseen.
const PERIOD: u64 = 65_521;

fn noise() -> &'static [u8] {
    static NOISE: OnceLock<Vec<u8>> = OnceLock::new();
    NOISE.get_or_init(|| (0..PERIOD).map(|at| mix(at) as u8).collect())
}

fn place(key: u64, at: u64) -> usize {
    (((key % PERIOD) * 7919 + at) % PERIOD) as usize
}

/// Writes the noise of `key` from `at` on.
fn write_noise(key: u64, at: u64, mut into: &mut [u8]) {
    let mut from = place(key, at);
    while !into.is_empty() {
        let n = into.len().min(noise().len() - from);
        into[..n].copy_from_slice(&noise()[from..from + n]);
        (into, from) = (&mut into[n..], 0);
    }
}

/// Are these the bytes of `key` from `at` on?
pub fn is_noise(key: u64, at: u64, mut bytes: &[u8]) -> bool {
    let mut from = place(key, at);
    while !bytes.is_empty() {
        let n = bytes.len().min(noise().len() - from);
        if bytes[..n] != noise()[from..from + n] {
            return false;
        }
        (bytes, from) = (&bytes[n..], 0);
    }
    true
}

#[derive(Clone, Debug)]
enum Piece {
    Text { text: Rc<[u8]>, from: usize },
    Noise { key: u64, at: u64, len: u64 },
}

impl Piece {
    fn len(&self) -> u64 {
        match self {
            Piece::Text { text, from } => (text.len() - from) as u64,
            Piece::Noise { len, .. } => *len,
        }
    }

    /// Takes the first `n` bytes off.
    fn split(&mut self, n: u64) -> Piece {
        match self {
            Piece::Text { text, from } => {
                let first = Rc::from(&text[*from..*from + n as usize]);
                *from += n as usize;
                Piece::Text { text: first, from: 0 }
            }
            Piece::Noise { key, at, len } => {
                let first = Piece::Noise { key: *key, at: *at, len: n };
                (*at, *len) = (*at + n, *len - n);
                first
            }
        }
    }
}

/// A queue of bytes.
#[derive(Clone, Debug, Default)]
pub struct Bytes {
    pieces: VecDeque<Piece>,
    len: u64,
}

impl Bytes {
    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn push(&mut self, piece: Piece) {
        if piece.len() > 0 {
            self.len += piece.len();
            self.pieces.push_back(piece);
        }
    }

    pub fn text(&mut self, text: &[u8]) {
        self.push(Piece::Text { text: Rc::from(text), from: 0 });
    }

    pub fn noise(&mut self, key: u64, at: u64, len: u64) {
        self.push(Piece::Noise { key, at, len });
    }

    pub fn append(&mut self, other: Bytes) {
        other.pieces.into_iter().for_each(|piece| self.push(piece));
    }

    /// Takes the first `n` bytes off.
    pub fn take(&mut self, n: u64) -> Bytes {
        let mut taken = Bytes::default();
        let n = n.min(self.len);
        while taken.len < n
            && let Some(first) = self.pieces.front_mut()
        {
            let left = n - taken.len;
            if first.len() <= left {
                self.len -= first.len();
                taken.pieces.extend(self.pieces.pop_front().inspect(|piece| taken.len += piece.len()));
            } else {
                self.len -= left;
                taken.push(first.split(left));
            }
        }
        taken
    }

    /// Keeps the first `n` bytes only.
    pub fn truncate(&mut self, n: u64) {
        *self = self.take(n);
    }

    /// Moves the first bytes into memory, as many as fit.
    pub fn read(&mut self, into: &mut [u8]) -> usize {
        let mut done = 0;
        for piece in self.take(into.len() as u64).pieces {
            let n = piece.len() as usize;
            match piece {
                Piece::Text { text, from } => into[done..done + n].copy_from_slice(&text[from..]),
                Piece::Noise { key, at, .. } => write_noise(key, at, &mut into[done..done + n]),
            }
            done += n;
        }
        done
    }

    /// All of it as it is read.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut all = vec![0; self.len as usize];
        self.clone().read(&mut all);
        all
    }
}
