//! Lines on their way to the target: whole ones, and of the first one perhaps a part that is out already.

use std::collections::VecDeque;

/// Room that is kept once everything is out; a burst's surplus goes back to the allocator.
const KEPT: usize = 256 * 1024;

/// Rendered lines in order. Knows where each ends, so that it can tell how many a target has taken whole.
#[derive(Debug, Default)]
pub struct Pending {
    bytes: Vec<u8>,
    /// Bytes of the first line that are out.
    sent: usize,
    lines: VecDeque<Line>,
    /// Bytes that have left `bytes` for good. Lines' ends are counted from there, so that they need not move with the bytes.
    gone: u64,
}

#[derive(Clone, Copy, Debug)]
struct Line {
    /// Where it ends, in bytes since the very first line.
    end: u64,
    /// Stands for a record, not for a gap.
    counts: bool,
}

impl Pending {
    /// Appends a line that `render` writes, with its line end. `counts` if it stands for a record.
    pub fn push(&mut self, counts: bool, render: impl FnOnce(&mut Vec<u8>)) {
        render(&mut self.bytes);
        debug_assert!(self.bytes.ends_with(b"\n"));
        self.lines.push_back(Line { end: self.gone + self.bytes.len() as u64, counts });
    }

    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Lines held.
    #[cfg(test)]
    pub fn lines(&self) -> usize {
        self.lines.len()
    }

    /// Bytes held.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// How many bytes have gone out, all in all; less after a [`Pending::rewind`].
    pub fn position(&self) -> u64 {
        self.gone + self.sent as u64
    }

    /// What goes out next.
    pub fn unsent(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// The part of the first line that is out.
    pub fn sent(&self) -> &[u8] {
        &self.bytes[..self.sent]
    }

    /// The next `n` bytes are out. Returns how many records' lines became complete by that.
    pub fn advance(&mut self, n: usize) -> u64 {
        debug_assert!(n <= self.unsent().len());
        let out = self.position() + n as u64;
        let (mut whole, mut records) = (self.gone, 0);
        while let Some(line) = self.lines.front().filter(|line| line.end <= out) {
            (whole, records) = (line.end, records + u64::from(line.counts));
            self.lines.pop_front();
        }
        self.sent = (out - whole) as usize;
        self.forget((whole - self.gone) as usize);
        records
    }

    /// Takes back the part of the first line that is out, so that it will be sent again whole. Returns whether there was one.
    pub fn rewind(&mut self) -> bool {
        std::mem::take(&mut self.sent) > 0
    }

    /// Gives everything up. Returns how many records' lines are lost by that.
    pub fn abandon(&mut self) -> u64 {
        let lost = self.lines.iter().filter(|line| line.counts).count();
        self.lines.clear();
        self.sent = 0;
        self.forget(self.bytes.len());
        lost as u64
    }

    fn forget(&mut self, n: usize) {
        self.gone += n as u64;
        if n < self.bytes.len() {
            self.bytes.drain(..n);
            return;
        }
        self.bytes.clear();
        self.bytes.shrink_to(KEPT);
        self.lines.shrink_to(KEPT / 64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending() -> Pending {
        let mut pending = Pending::default();
        for (text, counts) in [("one\n", true), ("# gap\n", false), ("three\n", true)] {
            pending.push(counts, |out| out.extend_from_slice(text.as_bytes()));
        }
        pending
    }

    #[test]
    fn only_whole_lines_of_records_are_counted() {
        let mut pending = pending();
        assert_eq!(pending.advance(3), 0);
        assert_eq!((pending.sent(), pending.unsent()), (b"one".as_slice(), b"\n# gap\nthree\n".as_slice()));
        assert_eq!(pending.advance(1), 1);
        assert_eq!((pending.sent(), pending.unsent()), (b"".as_slice(), b"# gap\nthree\n".as_slice()));
        assert_eq!(pending.advance(8), 0);
        assert_eq!((pending.sent(), pending.unsent()), (b"th".as_slice(), b"ree\n".as_slice()));
        pending.push(true, |out| out.extend_from_slice(b"four\n"));
        assert_eq!((pending.len(), pending.is_empty()), (11, false));
        assert_eq!(pending.advance(9), 2);
        assert!(pending.is_empty() && pending.unsent().is_empty() && pending.sent().is_empty());
    }

    #[test]
    fn everything_at_once_counts_like_byte_by_byte() {
        let mut whole = pending();
        assert_eq!(whole.advance(whole.len()), 2);
        let mut piecemeal = pending();
        assert_eq!((0..16).map(|_| piecemeal.advance(1)).sum::<u64>(), 2);
        assert!(whole.is_empty() && piecemeal.is_empty());
    }

    #[test]
    fn a_line_that_was_begun_can_be_sent_again_whole() {
        let mut pending = pending();
        pending.advance(6);
        assert_eq!(pending.position(), 6);
        assert!(pending.rewind() && !pending.rewind());
        assert_eq!(pending.position(), 4);
        assert_eq!(pending.unsent(), b"# gap\nthree\n");
        assert_eq!(pending.advance(12), 1);
    }

    #[test]
    fn abandoned_records_are_counted_once_and_big_buffers_freed() {
        let mut pending = pending();
        pending.advance(5);
        assert_eq!((pending.abandon(), pending.abandon(), pending.len()), (1, 0, 0));
        pending.push(true, |out| out.resize(8 * KEPT, b'\n'));
        assert_eq!(pending.advance(8 * KEPT), 1);
        assert!(pending.bytes.capacity() <= KEPT, "{}", pending.bytes.capacity());
    }
}
