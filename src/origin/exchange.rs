//! One request and its answer, from the judged head to the line in the access log.

use crate::base::{BufferPool, Content, Now, Peer};
use crate::engine::record::Part;
use crate::engine::{AccessRecord, CloseReason, Flow, SessionId};
use crate::http1::{self, Body, Fault, Framing, Known, RequestHead};
use crate::origin::answer::Reply;
use crate::origin::sending::{Next, Sending};
use crate::origin::store::{Piece, Store};

/// An exchange under way. Boxed and used again, since it quotes its request in full.
#[derive(Debug)]
pub(super) struct Exchange<F> {
    pub record: AccessRecord,
    /// The request's body, of which every byte is dropped: nothing here takes one.
    pub body: Body,
    /// The connection may be used again.
    pub persist: bool,
    /// When the first byte of the request was seen.
    pub begun: Now,
    /// What of the head, a short body or a frame found no room in the flow yet, from `owed_at` on.
    owed: Vec<u8>,
    owed_at: usize,
    /// The content that follows.
    content: Option<Sending<F>>,
    /// What the down flow had given before, and what was put into it since.
    given_before: u64,
    put: u64,
}

/// The file has fewer bytes than its answer announced, or they cannot be read. The word tells which. Such an answer is
/// neither padded nor ended as if it were complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut(pub &'static str);

/// Content that is no longer is copied behind its head: one small message is cheaper than two pieces.
const COPIED: u64 = 8 * 1024;

impl<F> Exchange<F> {
    /// An exchange of `client` whose first byte was seen at `begun`, on a down flow that has given `given` bytes
    /// before.
    pub fn new(client: Peer, begun: Now, given: u64) -> Self {
        Exchange {
            record: AccessRecord::new(begun.unix, client),
            body: Body::new(Framing::None),
            persist: false,
            begun,
            owed: Vec::new(),
            owed_at: 0,
            content: None,
            given_before: given,
            put: 0,
        }
    }

    /// The same, in the place of one that was completed.
    pub fn renew(&mut self, client: Peer, begun: Now, given: u64) {
        self.record.reset(begun.unix, client);
        self.body = Body::new(Framing::None);
        self.persist = false;
        self.begun = begun;
        self.given_before = given;
        self.put = 0;
    }

    // ---- what is said of it

    /// Quotes a request for the log, parts in the record's order.
    pub fn quote(&mut self, head: &RequestHead<'_, '_>) {
        let first = |known| head.fields.values(known).next().unwrap_or_default();
        self.record.set(Part::Line, head.line);
        self.record.set(Part::Host, head.host.unwrap_or_default());
        self.record.set(Part::Referer, first(Known::Referer));
        self.record.set(Part::UserAgent, first(Known::UserAgent));
    }

    /// Quotes the first line of what may be no request at all.
    pub fn quote_line(&mut self, bytes: &[u8]) {
        let end = memchr::memchr2(b'\r', b'\n', bytes).unwrap_or(bytes.len());
        self.record.set(Part::Line, &bytes[..end]);
    }

    /// Notes why it ends badly. The first reason stays: what follows from it is not news.
    pub fn blame(&mut self, end: CloseReason, detail: &'static str) {
        if self.record.end == CloseReason::Done {
            self.record.end = end;
            self.record.detail = detail;
        }
    }

    /// Completes the record as things stand, and lets go of everything else.
    pub fn close(&mut self, now: Now, down: &Flow) -> &AccessRecord {
        self.content = None;
        self.owed = Vec::new();
        self.owed_at = 0;
        let record = &mut self.record;
        record.bytes_down = down.given() - self.given_before;
        record.head_down = record.head_down.min(u32::try_from(record.bytes_down).unwrap_or(u32::MAX));
        record.total = now.mono - self.begun.mono;
        record
    }

    // ---- the request's body

    /// Drops what `up` holds of the body. Over `most` bytes of content the connection will not be used again.
    pub fn drop_body(&mut self, up: &mut Flow, most: u64) {
        match body_part(&mut self.body, up.raw()) {
            Ok(n) => {
                self.record.bytes_up += n as u64;
                self.persist &= self.body.content() <= most;
                up.skip(n);
            }
            Err(fault) => {
                self.blame(CloseReason::BadRequestBody, fault.word());
                self.ignore_the_rest();
                self.drop_body(up, most);
            }
        }
    }

    /// Whatever else the client sends is dropped without a look: nothing in it can be told apart any more.
    pub fn ignore_the_rest(&mut self) {
        self.persist = false;
        self.body = Body::new(Framing::UntilClose);
    }

    // ---- the answer

    /// Begins to send an answer that starts with `bytes`.
    pub fn send(&mut self, bytes: &[u8], reply: Reply<F>, down: &mut Flow, pool: &mut BufferPool) {
        self.record.status = reply.status;
        self.record.head_down = reply.head as u32;
        self.blame(reply.end, reply.detail);
        self.persist &= !reply.content.as_ref().is_some_and(Sending::is_until_close);
        let n = down.push(pool, bytes);
        self.put += n as u64;
        self.owed.extend_from_slice(&bytes[n..]);
        self.content = reply.content;
    }

    /// Everything of the answer is in the flow or gone.
    pub fn owes_nothing(&self) -> bool {
        self.owed_at == self.owed.len() && self.content.is_none()
    }

    /// Puts into the flow what has room there.
    ///
    /// # Errors
    /// [`Cut`]: the content ended early or could not be had.
    pub fn fill<S: Store<File = F>>(
        &mut self,
        store: &mut S,
        session: SessionId,
        down: &mut Flow,
        pool: &mut BufferPool,
    ) -> Result<(), Cut> {
        if down.drained() && down.given() - self.given_before < self.put {
            return Err(Cut("file-shrank"));
        }
        while self.pay(down, pool) && down.content().is_none() {
            let Some(sending) = &mut self.content else { break };
            let (at, most) = match sending.next() {
                Next::Bytes { at, most } => (at, most),
                Next::Text(text) => {
                    self.owe(&text);
                    continue;
                }
                Next::Through => {
                    self.content = None;
                    break;
                }
            };
            match store.piece(&mut sending.file, at, most, session) {
                Ok(Piece::Here(content)) => {
                    if !self.put_content(content, down, pool) {
                        break;
                    }
                }
                Ok(Piece::Wait) => break,
                Ok(Piece::End) => {
                    let last = sending.ended().ok_or(Cut("file-shrank"))?;
                    self.owe(last);
                }
                Err(error) => return Err(Cut(error.word())),
            }
        }
        Ok(())
    }

    fn owe(&mut self, bytes: &[u8]) {
        self.owed.clear();
        self.owed_at = 0;
        self.owed.extend_from_slice(bytes);
    }

    /// Puts what is owed into the flow. True if that was all.
    fn pay(&mut self, down: &mut Flow, pool: &mut BufferPool) -> bool {
        if self.owed_at < self.owed.len() {
            let n = down.push(pool, &self.owed[self.owed_at..]);
            self.owed_at += n;
            self.put += n as u64;
        }
        self.owed_at == self.owed.len()
    }

    /// Puts a piece of content into the flow or behind it. False if there was no room for it, or for the line before it.
    fn put_content(&mut self, content: Content, down: &mut Flow, pool: &mut BufferPool) -> bool {
        let Some(sending) = &mut self.content else { return false };
        if let Some(line) = sending.chunk_line(content.left()) {
            self.owe(&line);
            if !self.pay(down, pool) {
                return false;
            }
        }
        let n = match content.bytes() {
            Some(bytes) if bytes.len() as u64 <= COPIED => down.push(pool, bytes) as u64,
            _ => {
                let n = content.left();
                down.append(pool, content);
                n
            }
        };
        self.put += n;
        if let Some(sending) = &mut self.content {
            sending.moved(n);
        }
        n > 0
    }
}

/// How many of the unread `bytes` belong to the body.
pub(super) fn body_part(body: &mut Body, bytes: &[u8]) -> Result<usize, Fault> {
    let mut at = 0;
    loop {
        match body.next(&bytes[at..])? {
            http1::Piece::NeedMore | http1::Piece::End => return Ok(at),
            http1::Piece::Data(n)
            | http1::Piece::Chunk { len: n, .. }
            | http1::Piece::LastChunk { len: n }
            | http1::Piece::Trailers { len: n } => {
                at += n;
            }
            http1::Piece::ChunkEnd => at += 2,
        }
    }
}
