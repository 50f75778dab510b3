//! A flow: one direction of a session, with one producer and one consumer.
//!
//! Bytes lie in a [`Buffer`], which a flow has only while there are any. Content that nobody needs to see can go around it: the app
//! grants so many bytes, the loop passes them by through a pipe. The pipe is filled only while the buffer is empty, and while it holds
//! anything nothing comes into the buffer: a flow's bytes have one order.

use crate::base::buffer::{Buffer, NoRoom};
use crate::base::{BufferPool, Content, Size};

/// See the module. A flow that holds no bytes holds no buffer either once [`Flow::rest`] was called.
#[derive(Debug, Default)]
pub struct Flow {
    buffer: Option<Box<Buffer>>,
    /// Bytes that may still come and pass by the buffer.
    granted: u32,
    /// Bytes that passed by and that the app has not heard of.
    unseen: u32,
    /// Of all that passed by, what is in the pipe.
    piped: u32,
    taken: u64,
    given: u64,
}

impl Flow {
    // ---- the producer's side

    /// The room for the next read, taking a buffer from `pool` if the flow has none. Empty when the flow is full.
    pub fn room(&mut self, pool: &mut BufferPool, size: Size) -> &mut [u8] {
        let buffer = self.buffer.get_or_insert_with(|| pool.take(size));
        if size == Size::Large && buffer.is_bare() {
            pool.enlarge(buffer);
        }
        if buffer.is_folded() {
            pool.unfold(buffer);
        }
        buffer.room()
    }

    /// `n` bytes were read into the room.
    pub fn filled(&mut self, n: usize) {
        if let Some(buffer) = &mut self.buffer {
            buffer.filled(n);
        }
        self.taken += n as u64;
        self.granted = self.granted.saturating_sub(n as u32);
    }

    /// May more come? Not while the pipe holds any.
    pub fn has_room(&self) -> bool {
        self.piped == 0 && self.buffer.as_ref().is_none_or(|buffer| buffer.has_room())
    }

    /// How many bytes may pass by the buffer now; none while it holds one that was not sent.
    pub fn may_pass_by(&self) -> usize {
        if self.buffer.as_ref().is_none_or(|buffer| buffer.is_through()) { self.granted as usize } else { 0 }
    }

    /// `n` of the bytes that may pass by have gone into the pipe. What was held for replay is let go.
    pub fn passed_by(&mut self, n: usize) {
        debug_assert!(n <= self.may_pass_by());
        self.release();
        self.granted -= n as u32;
        self.unseen += n as u32;
        self.piped += n as u32;
        self.taken += n as u64;
    }

    /// Puts bytes of our own making behind everything that is ready. Only for a flow without unjudged bytes.
    /// Returns how many fitted.
    pub fn push(&mut self, pool: &mut BufferPool, bytes: &[u8]) -> usize {
        debug_assert!(self.raw().is_empty(), "our own bytes would overtake received ones");
        let room = self.room(pool, Size::Small);
        let n = bytes.len().min(room.len());
        room[..n].copy_from_slice(&bytes[..n]);
        if let Some(buffer) = &mut self.buffer {
            buffer.filled(n);
            buffer.pass(n);
        }
        n
    }

    /// Puts content that lies elsewhere behind everything that is ready. Until it is sent the flow has no room. Only for a flow without
    /// unjudged bytes and without other content.
    pub fn append(&mut self, pool: &mut BufferPool, content: Content) {
        let buffer = self.buffer.get_or_insert_with(|| pool.take(Size::Small));
        self.taken += content.left();
        buffer.append(content);
    }

    /// Makes the buffer larger so that `bytes` unjudged ones fit (a head over the usual size).
    pub fn widen(&mut self, pool: &mut BufferPool, bytes: usize) {
        if let Some(buffer) = &mut self.buffer {
            pool.widen(buffer, bytes);
        }
    }

    /// Keeps the memory of a few unjudged bytes only, if the flow has no others: for who may wait long for the next ones.
    pub fn fold(&mut self, pool: &mut BufferPool) {
        if let Some(buffer) = &mut self.buffer {
            pool.fold(buffer);
        }
    }

    /// Does it keep a whole buffer?
    pub fn is_bulky(&self) -> bool {
        self.buffer.as_ref().is_some_and(|buffer| !buffer.is_folded())
    }

    // ---- judging, by the app

    /// What was received and not yet judged.
    pub fn raw(&self) -> &[u8] {
        self.buffer.as_ref().map_or(&[], |buffer| buffer.raw())
    }

    /// The next `n` unjudged bytes may be sent as they are.
    pub fn pass(&mut self, n: usize) {
        if let Some(buffer) = &mut self.buffer {
            buffer.pass(n);
        }
    }

    /// The next `n` unjudged bytes are dropped.
    pub fn skip(&mut self, n: usize) {
        self.replace(n, b"");
    }

    /// The next `n` unjudged bytes are sent as `with`, which is not longer.
    pub fn replace(&mut self, n: usize, with: &[u8]) {
        if let Some(buffer) = &mut self.buffer {
            buffer.replace(n, with);
        }
    }

    /// The next `n` unjudged bytes, a head, are sent as `with`, which may be longer. Everything before must have been sent.
    /// Fails if not even moving the rest makes room.
    pub fn rewrite(&mut self, n: usize, with: &[u8]) -> Result<(), NoRoom> {
        debug_assert!(self.drained());
        self.buffer.as_mut().map_or(Err(NoRoom), |buffer| buffer.rewrite(n, with))
    }

    /// The next `n` bytes to come are content: they may pass by the buffer. Replaces what was granted before. Only when all that
    /// came was judged.
    pub fn grant(&mut self, n: u64) {
        debug_assert!(n == 0 || self.raw().is_empty());
        self.granted = u32::try_from(n).unwrap_or(u32::MAX);
    }

    /// How many bytes have passed by since this was asked last.
    pub fn take_unseen(&mut self) -> u64 {
        u64::from(std::mem::take(&mut self.unseen))
    }

    // ---- the consumer's side

    /// What may be sent now, once the pipe is empty.
    pub fn ready(&self) -> &[u8] {
        self.buffer.as_ref().map_or(&[], |buffer| buffer.ready())
    }

    /// What is to be sent behind the ready bytes from where it lies.
    pub fn content(&self) -> Option<&Content> {
        self.buffer.as_ref().and_then(|buffer| buffer.content())
    }

    /// `n` bytes were sent: of the ready ones and, once there are no more of those, of the content behind them.
    pub fn sent(&mut self, n: usize) {
        debug_assert_eq!(self.piped, 0);
        if let Some(buffer) = &mut self.buffer {
            let ready = n.min(buffer.ready().len());
            buffer.sent(ready);
            if n > ready {
                buffer.sent_content(n - ready);
            }
        }
        self.given += n as u64;
    }

    /// The content ended before its length. Who put it here sees that less was given than was put.
    pub fn cut_content(&mut self) {
        if let Some(buffer) = &mut self.buffer {
            buffer.end_content();
        }
    }

    /// Bytes in the pipe, to be sent before what is ready.
    pub fn piped(&self) -> usize {
        self.piped as usize
    }

    /// `n` bytes of the pipe were sent.
    pub fn sent_piped(&mut self, n: usize) {
        debug_assert!(n <= self.piped());
        self.piped -= n as u32;
        self.given += n as u64;
    }

    /// Bytes that may be sent and were not: in the pipe, in the buffer, and behind it.
    pub fn unsent(&self) -> u64 {
        u64::from(self.piped) + self.ready().len() as u64 + self.content().map_or(0, Content::left)
    }

    /// Everything that may be sent was sent.
    pub fn drained(&self) -> bool {
        self.piped == 0 && self.buffer.as_ref().is_none_or(|buffer| buffer.drained())
    }

    // ---- replay

    /// From now on sent bytes are held, so that [`Flow::rewind`] can send them again.
    pub fn hold(&mut self) {
        if let Some(buffer) = &mut self.buffer {
            buffer.hold();
        }
    }

    /// Sent bytes need not be held any longer.
    pub fn release(&mut self) {
        if let Some(buffer) = &mut self.buffer {
            buffer.release();
        }
    }

    /// Can everything sent since [`Flow::hold`] be sent again?
    pub fn held(&self) -> bool {
        self.buffer.as_ref().is_some_and(|buffer| buffer.held())
    }

    /// Sends again what was sent since [`Flow::hold`].
    pub fn rewind(&mut self) {
        if let Some(buffer) = &mut self.buffer {
            buffer.rewind();
        }
    }

    // ---- as a whole

    /// No byte is in the flow, in whatever state.
    pub fn is_empty(&self) -> bool {
        self.piped == 0 && self.buffer.as_ref().is_none_or(|buffer| buffer.is_bare())
    }

    /// Does it hold a buffer, be it empty?
    pub fn has_buffer(&self) -> bool {
        self.buffer.is_some()
    }

    /// Bytes received and not yet judged, or judged and not yet sent.
    pub fn pending(&self) -> usize {
        self.raw().len() + self.unsent() as usize
    }

    /// Drops every byte.
    pub fn clear(&mut self) {
        (self.granted, self.piped) = (0, 0);
        if let Some(buffer) = &mut self.buffer {
            buffer.reset();
        }
    }

    /// Drops what could be sent; what was not judged stays.
    pub fn drop_ready(&mut self) {
        (self.granted, self.piped) = (0, 0);
        if let Some(buffer) = &mut self.buffer {
            buffer.drop_ready();
        }
    }

    /// Drops what was not judged.
    pub fn drop_raw(&mut self) {
        self.granted = 0;
        if let Some(buffer) = &mut self.buffer {
            buffer.drop_raw();
        }
    }

    /// Gives the buffer back if no byte is in it.
    pub fn rest(&mut self, pool: &mut BufferPool) {
        if let Some(buffer) = self.buffer.take_if(|buffer| buffer.is_bare()) {
            pool.give(buffer);
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::buffer::HEADROOM;

    fn pool() -> BufferPool {
        BufferPool::new(HEADROOM + 64, 4)
    }

    fn fill(flow: &mut Flow, pool: &mut BufferPool, bytes: &[u8]) -> usize {
        let room = flow.room(pool, Size::Small);
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
        assert!(!flow.has_room() && flow.room(&mut pool, Size::Small).is_empty());
        flow.sent(10);
        assert!(!flow.has_room());
        flow.sent(54);
        assert!(flow.has_room());
        assert_eq!(flow.room(&mut pool, Size::Small).len(), 64);
    }

    #[test]
    fn an_unjudged_rest_at_the_end_is_moved_to_the_front() {
        let (mut flow, mut pool) = (Flow::default(), pool());
        fill(&mut flow, &mut pool, &[b'a'; 64]);
        flow.pass(60);
        flow.sent(60);
        assert_eq!(fill(&mut flow, &mut pool, b"zz"), 2);
        assert_eq!(flow.raw(), b"aaaazz");
        flow.widen(&mut pool, 200);
        assert_eq!(fill(&mut flow, &mut pool, &[b'c'; 190]), 190);
    }

    #[test]
    fn a_folded_flow_goes_on_where_it_was() {
        let (mut flow, mut pool) = (Flow::default(), BufferPool::new(HEADROOM + 4096, 4));
        let size = |flow: &Flow| flow.buffer.as_ref().map(|buffer| buffer.size());
        for piece in [b"GET ", b"/ HT", b"TP/1"] {
            fill(&mut flow, &mut pool, piece);
            assert_eq!(size(&flow), Some(HEADROOM + 4096));
            flow.fold(&mut pool);
            flow.fold(&mut pool);
            assert!(flow.has_room());
            assert_eq!(size(&flow), Some(flow.raw().len()));
        }
        assert_eq!(flow.raw(), b"GET / HTTP/1");
        // Once the rest is there, its bytes are judged, sent and forgotten as those of any other.
        fill(&mut flow, &mut pool, b".1");
        flow.skip(4);
        flow.rewrite(10, b"a head that is longer").unwrap();
        assert_eq!((flow.ready(), flow.raw()), (&b"a head that is longer"[..], &b""[..]));
        flow.fold(&mut pool);
        assert_eq!(size(&flow), Some(HEADROOM + 4096), "what is to be sent stays where it is");
        flow.sent(21);
        flow.rest(&mut pool);
        assert_eq!(pool.spare(), 1);
    }

    #[test]
    fn a_folded_flow_can_be_passed_on_dropped_and_given_back() {
        let mut pool = BufferPool::new(HEADROOM + 4096, 4);
        for way in 0..3 {
            let mut flow = Flow::default();
            fill(&mut flow, &mut pool, b"abc");
            flow.fold(&mut pool);
            match way {
                0 => {
                    flow.pass(3);
                    assert_eq!(flow.ready(), b"abc");
                    flow.sent(3);
                }
                1 => flow.clear(),
                _ => {
                    flow.skip(3);
                    assert_eq!(fill(&mut flow, &mut pool, b"defg"), 4);
                    assert_eq!(flow.raw(), b"defg");
                    flow.drop_raw();
                }
            }
            flow.rest(&mut pool);
            assert!(flow.buffer.is_none(), "{way}");
        }
    }
}
