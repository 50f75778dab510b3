//! One request and its answer, from the judged head to the line in the access log.

use crate::base::{BufferPool, Now, Peer, Size};
use crate::engine::record::Part;
use crate::engine::{AccessRecord, CloseReason, Flow};
use crate::http1::{Body, Fault, Framing, Known, Piece, RequestHead};
use crate::origin::answer::{Reply, Sending};
use crate::origin::store::Store;

/// An exchange under way. Boxed and used again, since it quotes its request in full.
#[derive(Debug)]
pub(super) struct Exchange<F> {
    pub record: AccessRecord,
    /// The request's body, of which every byte is dropped: nothing here takes one.
    pub body: Body,
    /// The connection may be used again.
    pub persist: bool,
    /// When the first byte of the request was seen.
    begun: Now,
    /// What of the head and a short body found no room in the flow yet, from `owed_at` on.
    owed: Vec<u8>,
    owed_at: usize,
    /// The file whose bytes follow.
    file: Option<Sending<F>>,
    /// What the down flow had given before.
    given_before: u64,
}

/// The file has fewer bytes than its answer announced, or they cannot be read. The word tells which. Such an answer is
/// neither padded nor ended as if it were complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut(pub &'static str);

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
            file: None,
            given_before: given,
        }
    }

    /// The same, in the place of one that was completed.
    pub fn renew(&mut self, client: Peer, begun: Now, given: u64) {
        self.record.reset(begun.unix, client);
        self.body = Body::new(Framing::None);
        self.persist = false;
        self.begun = begun;
        self.given_before = given;
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
        self.file = None;
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
        let n = down.push(pool, bytes);
        self.owed.extend_from_slice(&bytes[n..]);
        self.file = reply.file;
    }

    /// Everything of the answer is in the flow or gone.
    pub fn owes_nothing(&self) -> bool {
        self.owed_at == self.owed.len() && self.file.is_none()
    }

    /// Puts into the flow what has room there.
    ///
    /// # Errors
    /// [`Cut`]: the file ended early or could not be read.
    pub fn fill<S: Store<File = F>>(
        &mut self,
        store: &mut S,
        down: &mut Flow,
        pool: &mut BufferPool,
    ) -> Result<(), Cut> {
        if self.owed_at < self.owed.len() {
            self.owed_at += down.push(pool, &self.owed[self.owed_at..]);
            if self.owed_at < self.owed.len() {
                return Ok(());
            }
        }
        while let Some(sending) = &mut self.file {
            let room = down.room(pool, Size::Large);
            let left = usize::try_from(sending.end - sending.offset).unwrap_or(usize::MAX);
            let most = room.len().min(left);
            if most == 0 {
                return Ok(());
            }
            let n = match store.read(&mut sending.file, sending.offset, &mut room[..most]) {
                Ok(0) => return Err(Cut("file-shrank")),
                Ok(n) => n,
                Err(error) => return Err(Cut(error.word())),
            };
            down.filled(n);
            down.pass(n);
            sending.offset += n as u64;
            if sending.offset == sending.end {
                self.file = None;
            }
        }
        Ok(())
    }
}

/// How many of the unread `bytes` belong to the body.
pub(super) fn body_part(body: &mut Body, bytes: &[u8]) -> Result<usize, Fault> {
    let mut at = 0;
    loop {
        match body.next(&bytes[at..])? {
            Piece::NeedMore | Piece::End => return Ok(at),
            Piece::Data(n) | Piece::Chunk { len: n, .. } | Piece::LastChunk { len: n } | Piece::Trailers { len: n } => {
                at += n;
            }
            Piece::ChunkEnd => at += 2,
        }
    }
}
