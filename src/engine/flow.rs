//! A flow: one direction of a session, a buffer with one producer and one consumer.
//!
//! ```text
//!   0       HEADROOM   kept        start      ready       raw        tail       len
//!   │ room for a longer │ sent, held │ may be   │ gap      │ received, │ room      │
//!   │ head              │ for replay │ sent now │ (unused) │ not judged│ to fill   │
//! ```
//!
//! The bytes a socket filled in are the bytes the other socket drains: judging moves `raw` and `ready` forward in place.
//! A rewritten head is laid *in front of* what follows it, a shortened chunk line leaves a gap; a body byte moves only when
//! a gap before it must be closed. Invariant: `kept <= start <= ready <= raw <= tail <= len`.

use crate::base::BufferPool;

/// Space in front of the first byte, so that a head that grows by our fields needs nothing moved.
pub const HEADROOM: usize = 1024;

/// See the module. A flow that holds no bytes holds no buffer either once [`Flow::rest`] was called.
#[derive(Debug, Default)]
pub struct Flow {
    bytes: Box<[u8]>,
    kept: u32,
    start: u32,
    ready: u32,
    raw: u32,
    tail: u32,
    held: bool,
    taken: u64,
    given: u64,
}

impl Flow {
    // ---- the producer's side

    /// The room for the next read, taking a buffer from `pool` if the flow has none. Empty when the flow is full.
    pub fn room(&mut self, pool: &mut BufferPool) -> &mut [u8] {
        if self.bytes.is_empty() {
            self.bytes = pool.take();
            self.place_at(HEADROOM);
        } else if self.kept == self.tail {
            self.place_at(HEADROOM);
        } else if self.tail() == self.bytes.len() {
            self.compact();
        }
        &mut self.bytes[self.tail as usize..]
    }

    /// `n` bytes were read into the room.
    pub fn filled(&mut self, n: usize) {
        self.tail += n as u32;
        self.taken += n as u64;
        debug_assert!(self.tail() <= self.bytes.len());
    }

    /// Would [`Flow::room`] give any?
    pub fn has_room(&self) -> bool {
        self.bytes.is_empty() || self.kept == self.tail || self.tail() < self.bytes.len() || self.compactable()
    }

    /// Puts bytes of our own making behind everything that is ready. Only for a flow without unjudged bytes.
    /// Returns how many fitted.
    pub fn push(&mut self, pool: &mut BufferPool, bytes: &[u8]) -> usize {
        debug_assert_eq!(self.raw, self.tail, "our own bytes would overtake received ones");
        let room = self.room(pool);
        let n = bytes.len().min(room.len());
        room[..n].copy_from_slice(&bytes[..n]);
        self.tail += n as u32;
        self.pass(n);
        n
    }

    /// Makes the buffer larger so that `bytes` unjudged ones fit (a head over the usual size).
    pub fn widen(&mut self, bytes: usize) {
        let len = HEADROOM + bytes;
        if self.bytes.len() < len {
            let mut wide = vec![0; len].into_boxed_slice();
            wide[..self.bytes.len()].copy_from_slice(&self.bytes);
            self.bytes = wide;
        }
        if self.tail() == self.bytes.len() {
            self.compact();
        }
    }

    // ---- judging, by the app

    /// What was received and not yet judged.
    pub fn raw(&self) -> &[u8] {
        &self.bytes[self.raw as usize..self.tail as usize]
    }

    /// The next `n` unjudged bytes may be sent as they are.
    pub fn pass(&mut self, n: usize) {
        debug_assert!(n <= self.raw().len());
        if self.start == self.ready && !self.held {
            self.place_ready_at(self.raw);
        } else if self.ready != self.raw {
            let raw = self.raw as usize;
            self.bytes.copy_within(raw..raw + n, self.ready as usize);
        }
        self.ready += n as u32;
        self.raw += n as u32;
    }

    /// The next `n` unjudged bytes are dropped.
    pub fn skip(&mut self, n: usize) {
        self.replace(n, b"");
    }

    /// The next `n` unjudged bytes are sent as `with`, which is not longer.
    pub fn replace(&mut self, n: usize, with: &[u8]) {
        debug_assert!(n <= self.raw().len() && with.len() <= n);
        self.raw += n as u32;
        if self.start == self.ready && !self.held {
            self.place_ready_at(self.raw - with.len() as u32);
        }
        let at = self.ready as usize;
        self.bytes[at..at + with.len()].copy_from_slice(with);
        self.ready += with.len() as u32;
    }

    /// The next `n` unjudged bytes, a head, are sent as `with`, which may be longer. Everything before must have been sent.
    /// Fails if not even moving the rest makes room.
    pub fn rewrite(&mut self, n: usize, with: &[u8]) -> Result<(), NoRoom> {
        debug_assert!(n <= self.raw().len() && self.start == self.ready && !self.held);
        let mut end = self.raw as usize + n;
        if end < with.len() {
            let shift = with.len() - end;
            if self.tail() + shift > self.bytes.len() {
                return Err(NoRoom);
            }
            self.bytes.copy_within(end..self.tail as usize, end + shift);
            end += shift;
            self.tail += shift as u32;
        }
        let at = end - with.len();
        self.bytes[at..end].copy_from_slice(with);
        self.kept = at as u32;
        self.start = at as u32;
        self.ready = end as u32;
        self.raw = end as u32;
        self.check();
        Ok(())
    }

    // ---- the consumer's side

    /// What may be sent now.
    pub fn ready(&self) -> &[u8] {
        &self.bytes[self.start as usize..self.ready as usize]
    }

    /// `n` of the ready bytes were sent.
    pub fn sent(&mut self, n: usize) {
        self.start += n as u32;
        self.given += n as u64;
        if !self.held {
            self.kept = self.start;
            self.close_gap();
        }
        self.check();
    }

    /// Everything that may be sent was sent.
    pub fn drained(&self) -> bool {
        self.start == self.ready
    }

    // ---- replay

    /// From now on sent bytes are held, so that [`Flow::rewind`] can send them again.
    pub fn hold(&mut self) {
        self.held = true;
    }

    /// Sent bytes need not be held any longer.
    pub fn release(&mut self) {
        self.held = false;
        self.kept = self.start;
        self.close_gap();
    }

    /// Can everything sent since [`Flow::hold`] be sent again?
    pub fn held(&self) -> bool {
        self.held
    }

    /// Sends again what was sent since [`Flow::hold`].
    pub fn rewind(&mut self) {
        debug_assert!(self.held);
        self.start = self.kept;
    }

    // ---- as a whole

    /// No byte is in the flow, in whatever state.
    pub fn is_empty(&self) -> bool {
        self.kept == self.tail
    }

    /// Bytes received and not yet judged, or judged and not yet sent.
    pub fn pending(&self) -> usize {
        (self.tail - self.raw + self.ready - self.start) as usize
    }

    /// Drops every byte.
    pub fn clear(&mut self) {
        self.held = false;
        self.kept = self.tail;
        self.start = self.tail;
        self.ready = self.tail;
        self.raw = self.tail;
    }

    /// Drops what could be sent; what was not judged stays.
    pub fn drop_ready(&mut self) {
        self.held = false;
        self.kept = self.raw;
        self.start = self.raw;
        self.ready = self.raw;
    }

    /// Drops what was not judged.
    pub fn drop_raw(&mut self) {
        self.tail = self.raw;
        self.close_gap();
    }

    /// Gives the buffer back if no byte is in it.
    pub fn rest(&mut self, pool: &mut BufferPool) {
        if self.kept == self.tail && !self.bytes.is_empty() {
            pool.give(std::mem::take(&mut self.bytes));
            self.place_at(0);
        }
    }

    /// Bytes that ever came in.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// Bytes that ever went out.
    pub fn given(&self) -> u64 {
        self.given
    }

    // ---- inside

    fn tail(&self) -> usize {
        self.tail as usize
    }

    fn place_at(&mut self, at: usize) {
        let at = at.min(self.bytes.len()) as u32;
        (self.kept, self.start, self.ready, self.raw, self.tail) = (at, at, at, at, at);
    }

    /// With nothing left to send, what a shortened line left unused is no part of the flow any more.
    fn close_gap(&mut self) {
        if self.start == self.ready && !self.held {
            self.place_ready_at(self.raw);
        }
    }

    fn place_ready_at(&mut self, at: u32) {
        (self.kept, self.start, self.ready) = (at, at, at);
    }

    /// Compacting pays when much is gained, or when it is the only way to make a head fit.
    fn compactable(&self) -> bool {
        let gain = (self.start as usize).saturating_sub(HEADROOM);
        gain > 0 && (self.start == self.ready || gain >= self.bytes.len() / 4)
    }

    /// Moves what is in the flow to the front. Held bytes are let go: the room is needed by bytes that were not sent yet.
    fn compact(&mut self) {
        if !self.compactable() {
            return;
        }
        self.release();
        let (from, shift) = (self.start as usize, self.start - HEADROOM.min(self.start as usize) as u32);
        self.bytes.copy_within(from..self.tail as usize, from - shift as usize);
        self.kept -= shift;
        self.start -= shift;
        self.ready -= shift;
        self.raw -= shift;
        self.tail -= shift;
        self.check();
    }

    fn check(&self) {
        debug_assert!(self.kept <= self.start, "{self:?}");
        debug_assert!(self.start <= self.ready, "{self:?}");
        debug_assert!(self.ready <= self.raw, "{self:?}");
        debug_assert!(self.raw <= self.tail, "{self:?}");
        debug_assert!(self.tail as usize <= self.bytes.len(), "{self:?}");
    }
}

/// A rewritten head found no room in the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoom;

#[cfg(test)]
mod tests {
    use super::*;

    fn pool() -> BufferPool {
        BufferPool::new(HEADROOM + 64, 4)
    }

    fn fill(flow: &mut Flow, pool: &mut BufferPool, bytes: &[u8]) -> usize {
        let room = flow.room(pool);
        let n = bytes.len().min(room.len());
        room[..n].copy_from_slice(&bytes[..n]);
        flow.filled(n);
        n
    }

    #[test]
    fn a_grown_head_is_laid_before_its_body_without_moving_it() {
        let (mut flow, mut pool) = (Flow::default(), pool());
        fill(&mut flow, &mut pool, b"headBODY");
        flow.rewrite(4, b"longer head ").unwrap();
        flow.pass(4);
        assert_eq!(flow.ready(), b"longer head BODY");
        flow.sent(16);
        assert!(flow.is_empty() && flow.drained());
        flow.rest(&mut pool);
        assert_eq!((pool.spare(), flow.taken(), flow.given()), (1, 8, 16));
    }

    #[test]
    fn a_head_that_outgrows_the_headroom_moves_the_rest_or_fails() {
        let (mut flow, mut pool) = (Flow::default(), pool());
        fill(&mut flow, &mut pool, b"abBODY");
        let long = vec![b'h'; HEADROOM + 10];
        flow.rewrite(2, &long).unwrap();
        flow.pass(4);
        assert!(flow.ready().ends_with(b"hBODY") && flow.ready().len() == HEADROOM + 14);
        let mut flow = Flow::default();
        fill(&mut flow, &mut pool, &[b'x'; 64]);
        assert_eq!(flow.rewrite(2, &long), Err(NoRoom));
    }

    #[test]
    fn replaced_lines_leave_a_gap_that_bytes_close_over() {
        let (mut flow, mut pool) = (Flow::default(), pool());
        fill(&mut flow, &mut pool, b"5;a=b\r\nhello\r\n");
        flow.replace(7, b"5\r\n");
        flow.pass(7);
        assert_eq!(flow.ready(), b"5\r\nhello\r\n");
        flow.sent(2);
        fill(&mut flow, &mut pool, b"xxxYY");
        flow.skip(3);
        flow.pass(2);
        assert_eq!(flow.ready(), b"\nhello\r\nYY");
    }

    #[test]
    fn a_shortened_last_line_leaves_no_buffer_behind() {
        let (mut flow, mut pool) = (Flow::default(), pool());
        fill(&mut flow, &mut pool, b"x000\r\n");
        flow.pass(1);
        flow.replace(5, b"0\r\n");
        flow.sent(4);
        assert!(flow.is_empty());
        flow.rest(&mut pool);
        assert_eq!(pool.spare(), 1);
    }

    #[test]
    fn held_bytes_can_be_sent_again_until_room_is_needed() {
        let (mut flow, mut pool) = (Flow::default(), pool());
        fill(&mut flow, &mut pool, b"request");
        flow.hold();
        flow.pass(7);
        flow.sent(7);
        assert!(!flow.is_empty() && flow.drained());
        flow.rewind();
        assert_eq!(flow.ready(), b"request");
        flow.sent(7);
        assert_eq!(fill(&mut flow, &mut pool, &[b'b'; 64]), 57);
        flow.pass(57);
        flow.sent(57);
        assert!(flow.has_room());
        assert_eq!(fill(&mut flow, &mut pool, b"more"), 4);
        assert!(!flow.held(), "room was needed, so replay is off");
    }

    #[test]
    fn a_full_flow_has_no_room_until_enough_was_sent() {
        let (mut flow, mut pool) = (Flow::default(), pool());
        fill(&mut flow, &mut pool, &[b'a'; 64]);
        flow.pass(64);
        assert!(!flow.has_room() && flow.room(&mut pool).is_empty());
        flow.sent(10);
        assert!(!flow.has_room());
        flow.sent(54);
        assert!(flow.has_room());
        assert_eq!(flow.room(&mut pool).len(), 64);
    }

    #[test]
    fn an_unjudged_rest_at_the_end_is_moved_to_the_front() {
        let (mut flow, mut pool) = (Flow::default(), pool());
        fill(&mut flow, &mut pool, &[b'a'; 64]);
        flow.pass(60);
        flow.sent(60);
        assert_eq!(fill(&mut flow, &mut pool, b"zz"), 2);
        assert_eq!(flow.raw(), b"aaaazz");
        flow.widen(200);
        assert_eq!(fill(&mut flow, &mut pool, &[b'c'; 190]), 190);
    }
}
