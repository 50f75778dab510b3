//! A client connection without sockets: the loop's four steps over two flows, and a store in memory.

use crate::base::buffer::HEADROOM;
use crate::base::time::SECOND;
use crate::base::{BufferPool, Content, Micros, Now, Peer, Size, Source};
use crate::engine::{
    AccessLog, AccessRecord, Again, App, Chores, Close, Drain, Effects, Flow, SessionId, Side, Turn, Uplink,
};
use crate::http1::field::FieldSpace;
use crate::http1::response::{self, Asked};
use crate::http1::{self, Body, Framing, HeadScan, Limits};
use crate::origin::condition::ETag;
use crate::origin::media::Media;
use crate::origin::store::{Cached, Vary};
use crate::origin::{Ask, Facts, Opened, Origin, Page, Piece, Session, Settings, Store, StoreError};
use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

/// The wall clock when a [`Wire`] is made: Fri, 15 Jan 2027 08:00:00 GMT.
pub const START: Micros = 1_800_000_000 * SECOND;

/// Content in memory.
#[derive(Clone, Default)]
pub struct Shelf {
    pub files: BTreeMap<Vec<u8>, Item>,
    /// Every question is answered by "not yet" first.
    pub slow: bool,
    /// Who waits, and whether it was woken.
    pub waiting: Option<(SessionId, bool)>,
}

#[derive(Clone)]
pub enum Item {
    /// Bytes, and how many more are announced than are there.
    File {
        bytes: Vec<u8>,
        missing: u64,
    },
    /// Bytes whose number nobody knows before the last of them.
    Growing(Vec<u8>),
    Directory,
    Page(Page),
    Error(StoreError),
}

impl Shelf {
    pub fn with(mut self, name: &[u8], item: Item) -> Self {
        self.files.insert(name.to_vec(), item);
        self
    }

    pub fn file(self, name: &[u8], bytes: &[u8]) -> Self {
        self.with(name, Item::File { bytes: bytes.to_vec(), missing: 0 })
    }
}

/// When every file on a shelf was modified.
pub const MODIFIED: i64 = 784_111_777;

/// The facts of a file on a shelf.
pub fn facts(path: &[u8], length: u64) -> Facts {
    Facts {
        status: 200,
        length: Some(length),
        tag: Some(ETag::of_facts(length, MODIFIED, 0, None)),
        modified: Some(MODIFIED),
        media: Media::of(path),
        coding: None,
        varies: Vary::Nothing,
        fields: "",
        cached: Cached::Not,
    }
}

impl Store for Shelf {
    type File = Arc<[u8]>;

    fn open(&mut self, ask: &Ask<'_, '_, '_>) -> Result<Opened<Arc<[u8]>>, StoreError> {
        let path = ask.path.as_bytes();
        if self.slow && self.waiting != Some((ask.session, true)) {
            self.waiting = Some((ask.session, false));
            return Ok(Opened::Wait);
        }
        self.waiting = None;
        match self.files.get(path).cloned().ok_or(StoreError::NotFound)? {
            Item::File { bytes, missing } => {
                Ok(Opened::File { facts: facts(path, bytes.len() as u64 + missing), file: bytes.into() })
            }
            Item::Growing(bytes) => {
                Ok(Opened::File { facts: Facts { length: None, ..facts(path, 0) }, file: bytes.into() })
            }
            Item::Directory => Ok(Opened::Directory),
            Item::Page(page) => Ok(Opened::Page(page)),
            Item::Error(error) => Err(error),
        }
    }

    fn piece(&mut self, file: &mut Arc<[u8]>, offset: u64, most: u64, session: SessionId) -> Result<Piece, StoreError> {
        if self.slow && self.waiting != Some((session, true)) {
            self.waiting = Some((session, false));
            return Ok(Piece::Wait);
        }
        self.waiting = None;
        // Pieces shorter than asked for are the rule of the house here, some copied, some not.
        let most = most.min(if self.files.len().is_multiple_of(2) { 7_000 } else { 70_000 });
        let content = Content::new(Source::Memory(file.clone()), offset, offset.saturating_add(most));
        Ok(content.map_or(Piece::End, Piece::Here))
    }

    fn has_news(&self, session: SessionId) -> bool {
        self.waiting != Some((session, false))
    }

    fn forget(&mut self, _session: SessionId) {
        self.waiting = None;
    }

    fn woken(&mut self, sessions: &mut Vec<SessionId>) {
        if let Some((session, ready @ false)) = &mut self.waiting {
            *ready = true;
            sessions.push(*session);
        }
    }
}

#[derive(Default)]
pub struct Log(pub Vec<AccessRecord>);

impl AccessLog for Log {
    fn record(&mut self, record: &AccessRecord) {
        self.0.push(record.clone());
    }
}

/// One connection to an origin.
pub struct Wire<S: Store> {
    pub origin: Origin<S>,
    session: Session<S::File>,
    up: Flow,
    down: Flow,
    pool: BufferPool,
    pub log: Log,
    pub now: Now,
    pub client: Side,
    pub drain: Drain,
    /// Bytes that the client takes per flush.
    pub window: usize,
    /// What the client has received.
    pub received: Vec<u8>,
    pub close: Option<Close>,
    /// Calls of the app.
    pub calls: usize,
}

impl<S: Store> Wire<S> {
    pub fn new(store: S) -> Self {
        Self::with_buffers(store, 16 * 1024)
    }

    pub fn with_buffers(store: S, size: usize) -> Self {
        let now = Now { mono: 5 * SECOND, unix: START };
        let mut origin = Origin::new(store, Settings::default());
        let session = origin.open(Peer::Unix, now);
        Wire {
            origin,
            session,
            up: Flow::default(),
            down: Flow::default(),
            pool: BufferPool::new(HEADROOM + size, 4),
            log: Log::default(),
            now,
            client: Side::Open,
            drain: Drain::No,
            window: usize::MAX,
            received: Vec::new(),
            close: None,
            calls: 0,
        }
    }

    /// The client sends bytes, at most `step` of them arriving at a time. Returns how many were read before the
    /// connection was over or would take no more.
    pub fn send(&mut self, bytes: &[u8], step: usize) -> usize {
        let mut at = 0;
        while at < bytes.len() && self.close.is_none() {
            let room = self.up.room(&mut self.pool, Size::Small);
            let n = room.len().min(step).min(bytes.len() - at);
            room[..n].copy_from_slice(&bytes[at..at + n]);
            self.up.filled(n);
            at += n;
            self.turn(false);
            if n == 0 && !self.up.has_room() {
                break;
            }
        }
        at
    }

    /// The client's half of the connection ends.
    pub fn ends(&mut self, how: Side) {
        self.client = how;
        self.turn(false);
    }

    /// One turn of the loop, its filling excepted.
    pub fn turn(&mut self, expired: bool) {
        let mut expired = expired;
        for _ in 0..100_000 {
            if self.close.is_some() {
                return;
            }
            let effects = self.advance(expired);
            expired = false;
            self.flush();
            if let Some(close) = effects.close {
                assert!(close == Close::Reset || self.down.drained(), "{close:?} with bytes left to send");
                self.close = Some(close);
                return;
            }
            if !(effects.again == Again::DownSent && self.down.drained()) {
                self.up.rest(&mut self.pool);
                self.down.rest(&mut self.pool);
                return;
            }
        }
        panic!("the session spins");
    }

    fn advance(&mut self, expired: bool) -> Effects {
        self.calls += 1;
        let logged = self.log.0.len();
        let mut turn = Turn {
            now: self.now,
            session: SessionId::default(),
            up: &mut self.up,
            down: &mut self.down,
            client: self.client,
            uplink: Uplink::None,
            expired,
            drain: self.drain,
            pool: &mut self.pool,
            log: &mut self.log,
            effects: Effects::default(),
        };
        self.origin.advance(&mut self.session, &mut turn);
        let effects = turn.effects;
        assert!(self.log.0.len() <= logged + 1, "more than one exchange in a turn");
        effects
    }

    fn flush(&mut self) {
        let mut left = self.window;
        while left > 0 && !self.down.drained() {
            let ready = self.down.ready();
            let n = match self.down.content().filter(|_| ready.is_empty()) {
                None => {
                    let n = ready.len().min(left);
                    self.received.extend_from_slice(&ready[..n]);
                    n
                }
                Some(content) => match (content.bytes(), content.source()) {
                    (Some(bytes), _) => {
                        let n = bytes.len().min(left);
                        self.received.extend_from_slice(&bytes[..n]);
                        n
                    }
                    (None, Source::File(file)) => read_at(file, content, left, &mut self.received),
                    (None, Source::Memory(_)) => 0,
                },
            };
            match n {
                0 => self.down.cut_content(),
                n => self.down.sent(n),
            }
            left -= n;
        }
    }

    /// Gives the store's news to the session, if there are any.
    pub fn wake(&mut self) -> bool {
        let mut chores = Chores { woken: true, ..Chores::default() };
        self.origin.attend(&mut chores);
        if !chores.wake.is_empty() {
            self.turn(false);
        }
        !chores.wake.is_empty()
    }

    pub fn deadline(&mut self) -> Micros {
        self.origin.deadline(&mut self.session, self.now, &self.up, &self.down).unwrap()
    }

    pub fn after(&mut self, span: Micros) {
        self.now.mono += span;
        self.now.unix += span;
    }

    /// Nothing happens until the deadline. Returns the seconds that it took.
    pub fn wait(&mut self) -> u64 {
        let span = self.deadline() - self.now.mono;
        self.after(span);
        self.turn(true);
        span / SECOND
    }

    /// Bytes of buffers in use.
    pub fn held(&self) -> usize {
        self.up.pending() + self.down.pending()
    }

    /// What was received, as answers to requests that were HEAD or not.
    pub fn answers(&self, heads: &[bool]) -> Vec<Answer> {
        let mut rest = &self.received[..];
        let mut heads = heads.iter();
        let mut answers = Vec::new();
        while !rest.is_empty() {
            let (answer, n) = Answer::read(rest, *heads.next().unwrap_or(&false));
            answers.push(answer);
            rest = &rest[n..];
        }
        answers
    }
}

/// A body without its framing, and how many bytes it took.
fn read_body(framing: Framing, bytes: &[u8]) -> (Vec<u8>, usize) {
    let (mut body, mut content, mut at) = (Body::new(framing), Vec::new(), 0);
    while !body.is_done() {
        match body.next(&bytes[at..]).unwrap() {
            http1::Piece::Data(n) => {
                content.extend_from_slice(&bytes[at..at + n]);
                at += n;
            }
            http1::Piece::Chunk { len: n, .. }
            | http1::Piece::LastChunk { len: n }
            | http1::Piece::Trailers { len: n } => at += n,
            http1::Piece::ChunkEnd => at += 2,
            http1::Piece::End => break,
            http1::Piece::NeedMore => {
                assert!(body.is_until_close(), "the body is cut");
                break;
            }
        }
    }
    (content, at)
}

/// What sendfile would do.
fn read_at(file: &Arc<OwnedFd>, content: &Content, most: usize, into: &mut Vec<u8>) -> usize {
    let mut file = std::fs::File::open(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap();
    file.seek(SeekFrom::Start(content.at())).unwrap();
    file.take(content.left().min(most as u64)).read_to_end(into).unwrap()
}

/// An answer as the client sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    fn read(bytes: &[u8], to_head: bool) -> (Answer, usize) {
        let len = HeadScan::default().end(bytes).unwrap().expect("a whole head");
        let mut space = FieldSpace::new();
        let asked = Asked { head: to_head, upgrade: false };
        let head = response::parse(&bytes[..len], &mut space, &Limits::RESPONSE, asked).unwrap();
        let (body, n) = read_body(head.framing, &bytes[len..]);
        let text = String::from_utf8(bytes[..len].to_vec()).unwrap();
        (Answer { status: head.status, head: text, body }, len + n)
    }

    /// Is the field line there?
    pub fn has(&self, line: &str) -> bool {
        self.head.split("\r\n").any(|other| other == line)
    }

    /// Is a field with this name there?
    pub fn names(&self, name: &str) -> bool {
        self.head.split("\r\n").any(|line| line.split(':').next() == Some(name))
    }
}
