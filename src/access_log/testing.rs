//! For the tests of this room: a target that does as it is told, and readers of what was written.

use crate::access_log::ring::RingLog;
use crate::access_log::sink::Sink;
use crate::base::Peer;
use crate::engine::record::{AccessLog, AccessRecord, Part};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

/// What a target does with a write.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    /// Takes so many bytes.
    Take(usize),
    /// Takes nothing now.
    Full,
    Fail(Errno),
    /// Takes so many bytes and fails.
    Swallow(usize, Errno),
}

/// A file in memory. Does what is planned, then takes everything.
#[derive(Clone)]
pub struct Fake(Arc<Mutex<State>>);

struct State {
    /// The renamed ones, and last the current one.
    files: Vec<Vec<u8>>,
    plan: VecDeque<Answer>,
    sizes: Vec<usize>,
    readable: bool,
    reopens: bool,
}

impl Fake {
    pub fn new() -> Self {
        let state = State { files: vec![vec![]], plan: VecDeque::new(), sizes: vec![], readable: true, reopens: true };
        Fake(Arc::new(Mutex::new(state)))
    }

    /// Like a pipe.
    pub fn unreadable() -> Self {
        let fake = Fake::new();
        fake.state().readable = false;
        fake
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// What to do with the next writes.
    pub fn plan(&self, answers: impl IntoIterator<Item = Answer>) {
        let answers = Vec::from_iter(answers);
        self.state().plan.extend(answers);
    }

    /// From now on it takes everything.
    pub fn heal(&self) {
        self.state().plan.clear();
    }

    pub fn refuse_to_reopen(&self) {
        self.state().reopens = false;
    }

    /// What the current file holds.
    pub fn held(&self) -> Vec<u8> {
        self.state().files.last().unwrap().clone()
    }

    pub fn files(&self) -> Vec<Vec<u8>> {
        self.state().files.clone()
    }

    /// Somebody else changes the file.
    pub fn replace(&self, content: &[u8]) {
        *self.state().files.last_mut().unwrap() = content.to_vec();
    }

    /// Bytes taken by each write that took some.
    pub fn sizes(&self) -> Vec<usize> {
        self.state().sizes.clone()
    }

    pub fn writes(&self) -> usize {
        self.state().sizes.len()
    }
}

impl Sink for Fake {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.state();
        let (n, result) = match state.plan.pop_front() {
            None => (bytes.len(), Ok(())),
            Some(Answer::Take(n)) => (n.min(bytes.len()), Ok(())),
            Some(Answer::Full) => (0, Err(Errno::AGAIN)),
            Some(Answer::Fail(error)) => (0, Err(error)),
            Some(Answer::Swallow(n, error)) => (n, Err(error)),
        };
        state.files.last_mut().unwrap().extend_from_slice(&bytes[..n]);
        if n > 0 {
            state.sizes.push(n);
        }
        Ok(result.map(|()| n)?)
    }

    fn reopen(&mut self) -> io::Result<()> {
        let mut state = self.state();
        if !state.reopens {
            return Err(io::Error::from(Errno::NOENT));
        }
        state.files.push(vec![]);
        Ok(())
    }

    fn tail(&mut self, most: usize) -> Option<Vec<u8>> {
        let state = self.state();
        let file = state.files.last().unwrap();
        state.readable.then(|| file[file.len().saturating_sub(most)..].to_vec())
    }
}

/// Hands over records for `GET /n`.
pub fn push(log: &mut RingLog, numbers: Range<u64>) {
    for n in numbers {
        let mut record = AccessRecord::new(1_795_466_460_000_000 + n, Peer::Ip("192.0.2.7:5000".parse().unwrap()));
        record.set(Part::Line, format!("GET /{n} HTTP/1.1").as_bytes());
        log.record(&record);
    }
}

/// The number in a line of `pilb` format that is whole.
fn request(line: &str) -> Option<u64> {
    let (before, request) = line.strip_suffix(" HTTP/1.1\"\n")?.split_once(" \"GET /")?;
    (before.starts_with("2026-11-23T") && before.split(' ').count() == 14).then(|| request.parse().ok())?
}

/// What a gap line says: `ring-full` and `write-failed`.
fn gap(line: &str) -> Option<(u64, u64)> {
    let (_, numbers) = line.strip_prefix("# ")?.strip_suffix('\n')?.split_once(": ring-full ")?;
    let (ring_full, rest) = numbers.split_once(", write-failed ")?;
    Some((ring_full.parse().ok()?, rest.split(':').next()?.parse().ok()?))
}

fn lines(file: &[u8]) -> Vec<&str> {
    std::str::from_utf8(file).unwrap().split_inclusive('\n').collect()
}

/// The numbers of the requests that are there whole.
pub fn requests(file: &[u8]) -> Vec<u64> {
    lines(file).into_iter().filter_map(request).collect()
}

pub fn gaps(file: &[u8]) -> Vec<(u64, u64)> {
    lines(file).into_iter().filter_map(gap).collect()
}

/// Lines that are neither a whole request nor a gap.
pub fn torn(file: &[u8]) -> Vec<&str> {
    lines(file).into_iter().filter(|line| request(line).is_none() && gap(line).is_none()).collect()
}
