//! A buffer with one producer and one consumer, and the places in it up to which each has come.
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
//!
//! Content that lies elsewhere, in memory or in a file, can follow what is ready: it is sent from where it lies, and nothing comes into
//! the buffer before it is through.
//!
//! Who waits long for the rest of a few bytes can fold the buffer: it takes no more memory than they do until there is something to do.

use crate::base::content::Content;

/// Space in front of the first byte, so that a head that grows by our fields needs nothing moved.
pub const HEADROOM: usize = 1024;
/// More bytes than these are not folded.
const FOLDED_MOST: usize = 1024;

/// See the module.
#[derive(Debug)]
pub struct Buffer {
    bytes: Box<[u8]>,
    kept: u32,
    start: u32,
    ready: u32,
    raw: u32,
    tail: u32,
    held: bool,
    content: Option<Content>,
    /// Its size unfolded; 0 if it is not folded.
    full: u32,
    /// Which of the pool's it is, for the pool.
    pub(super) is_large: bool,
}

impl Buffer {
    /// Room for `len` bytes, the headroom included.
    pub fn new(len: usize) -> Buffer {
        let mut buffer = Buffer {
            bytes: vec![0; len].into_boxed_slice(),
            kept: 0,
            start: 0,
            ready: 0,
            raw: 0,
            tail: 0,
            held: false,
            content: None,
            full: 0,
            is_large: false,
        };
        buffer.reset();
        buffer
    }

    /// Its bytes, the headroom included.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// As if new.
    pub fn reset(&mut self) {
        self.held = false;
        self.content = None;
        self.place_at(HEADROOM);
    }

    /// No byte is in it, not even for replay, and none follows.
    pub fn is_bare(&self) -> bool {
        self.kept == self.tail && self.content.is_none()
    }

    /// All that came was judged and sent.
    pub fn is_through(&self) -> bool {
        self.start == self.tail && self.content.is_none()
    }

    // ---- the producer's side

    /// The room for the next read; empty when the buffer is full.
    pub fn room(&mut self) -> &mut [u8] {
        debug_assert!(!self.is_folded());
        if self.content.is_some() {
            return &mut [];
        }
        if self.is_bare() {
            self.place_at(HEADROOM);
        } else if self.tail() == self.bytes.len() {
            self.compact();
        }
        &mut self.bytes[self.tail as usize..]
    }

    /// `n` bytes were put into the room.
    pub fn filled(&mut self, n: usize) {
        self.tail += n as u32;
        debug_assert!(self.tail() <= self.bytes.len());
    }

    /// Would [`Buffer::room`] give any?
    pub fn has_room(&self) -> bool {
        self.full > 0
            || self.content.is_none() && (self.is_bare() || self.tail() < self.bytes.len() || self.compactable())
    }

    /// Content that is sent behind everything that is ready. All that came was judged.
    pub fn append(&mut self, content: Content) {
        debug_assert!(self.raw().is_empty() && self.content.is_none() && !self.held);
        self.content = Some(content);
    }

    /// Makes the buffer larger so that `bytes` unjudged ones fit (a head over the usual size).
    pub fn widen(&mut self, bytes: usize) {
        debug_assert!(!self.is_folded());
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

    /// Keeps the memory of a few unjudged bytes only, if nothing else is in it. It has `full` bytes once it is unfolded.
    pub fn fold(&mut self, full: usize) {
        let len = self.raw().len();
        // Once it is unfolded there must be the headroom, and room for more.
        let few = len <= FOLDED_MOST && HEADROOM + len < full;
        if self.full > 0 || self.kept != self.raw || self.content.is_some() || !few {
            return;
        }
        self.full = full as u32;
        self.bytes = self.raw().into();
        self.place_at(0);
        self.tail = len as u32;
    }

    pub fn is_folded(&self) -> bool {
        self.full > 0
    }

    /// Makes room for more again.
    #[cold]
    pub fn unfold(&mut self) {
        let full = std::mem::take(&mut self.full) as usize;
        let mut wide = vec![0; full].into_boxed_slice();
        let from = HEADROOM;
        wide[from..from + self.bytes.len()].copy_from_slice(&self.bytes);
        self.bytes = wide;
        for at in [&mut self.kept, &mut self.start, &mut self.ready, &mut self.raw, &mut self.tail] {
            *at += from as u32;
        }
        self.check();
    }

    // ---- judging

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
        debug_assert!(n <= self.raw().len() && self.drained() && !self.held && !self.is_folded());
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

    /// What follows the ready bytes.
    pub fn content(&self) -> Option<&Content> {
        self.content.as_ref()
    }

    /// `n` bytes of the content were sent, after all that was ready.
    pub fn sent_content(&mut self, n: usize) {
        debug_assert!(self.ready().is_empty());
        self.content.take_if(|content| content.advance(n));
    }

    /// The content has no more bytes, whatever it was thought to have.
    pub fn end_content(&mut self) {
        self.content = None;
    }

    /// `n` of the ready bytes were sent.
    pub fn sent(&mut self, n: usize) {
        self.start += n as u32;
        if !self.held {
            self.kept = self.start;
            self.close_gap();
        }
        self.check();
    }

    /// Sent bytes need not be held any longer.
    pub fn release(&mut self) {
        self.held = false;
        self.kept = self.start;
        self.close_gap();
    }

    /// Sends again what was sent since [`Buffer::hold`].
    pub fn rewind(&mut self) {
        debug_assert!(self.held);
        self.start = self.kept;
    }

    /// Drops what could be sent; what was not judged stays.
    pub fn drop_ready(&mut self) {
        self.held = false;
        self.content = None;
        self.kept = self.raw;
        self.start = self.raw;
        self.ready = self.raw;
    }

    /// Drops what was not judged.
    pub fn drop_raw(&mut self) {
        self.tail = self.raw;
        self.close_gap();
    }

    /// From now on sent bytes are held, so that [`Buffer::rewind`] can send them again.
    pub fn hold(&mut self) {
        self.held = true;
    }

    /// Can everything sent since [`Buffer::hold`] be sent again?
    pub fn held(&self) -> bool {
        self.held
    }

    /// Everything that may be sent was sent.
    pub fn drained(&self) -> bool {
        self.start == self.ready && self.content.is_none()
    }

    // ---- inside

    fn tail(&self) -> usize {
        self.tail as usize
    }

    fn place_at(&mut self, at: usize) {
        let at = at.min(self.bytes.len()) as u32;
        (self.kept, self.start, self.ready, self.raw, self.tail) = (at, at, at, at, at);
    }

    /// With nothing left to send, what a shortened line left unused is no part of the buffer any more.
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

    /// Moves what is in it to the front. Held bytes are let go: the room is needed by bytes that were not sent yet.
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
