//! A client connection without sockets: the loop's four steps over two flows, and a store in memory.

use crate::base::buffer::HEADROOM;
use crate::base::time::SECOND;
use crate::base::{BufferPool, Micros, Now, Peer, Size};
use crate::engine::{AccessLog, AccessRecord, Again, App, Close, Drain, Effects, Flow, SessionId, Side, Turn, Uplink};
use crate::http1::field::FieldSpace;
use crate::http1::response::{self, Asked};
use crate::http1::{Framing, HeadScan, Limits, RequestHead};
use crate::origin::{Meta, Opened, Origin, Page, RelativePath, Session, Settings, Store, StoreError};
use std::collections::BTreeMap;

/// The wall clock when a [`Wire`] is made: Fri, 15 Jan 2027 08:00:00 GMT.
pub const START: Micros = 1_800_000_000 * SECOND;

/// Content in memory.
#[derive(Default)]
pub struct Shelf {
    pub files: BTreeMap<Vec<u8>, Item>,
}

#[derive(Clone)]
pub enum Item {
    /// Bytes, and how many more are announced than are there.
    File {
        bytes: Vec<u8>,
        missing: u64,
    },
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

/// The facts of every file on a shelf but its length.
pub fn meta(length: u64) -> Meta {
    Meta { length, seconds: 784_111_777, nanos: 0, inode: 7 }
}

impl Store for Shelf {
    type File = Vec<u8>;

    fn open(&mut self, path: &RelativePath, _head: &RequestHead<'_, '_>) -> Result<Opened<Vec<u8>>, StoreError> {
        match self.files.get(path.as_bytes()).cloned().ok_or(StoreError::NotFound)? {
            Item::File { bytes, missing } => Ok(Opened::File { meta: meta(bytes.len() as u64 + missing), file: bytes }),
            Item::Directory => Ok(Opened::Directory),
            Item::Page(page) => Ok(Opened::Page(page)),
            Item::Error(error) => Err(error),
        }
    }

    fn read(&mut self, file: &mut Vec<u8>, offset: u64, into: &mut [u8]) -> Result<usize, StoreError> {
        let rest = &file[usize::try_from(offset).unwrap()..];
        // Reads shorter than asked for are the rule of the house here.
        let n = rest.len().min(into.len()).min(7_000);
        into[..n].copy_from_slice(&rest[..n]);
        Ok(n)
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
        let ready = self.down.ready();
        let n = ready.len().min(self.window);
        self.received.extend_from_slice(&ready[..n]);
        self.down.sent(n);
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
        let body = match head.framing {
            Framing::None => 0,
            Framing::Length(n) => usize::try_from(n).unwrap(),
            other => panic!("an answer framed by {other:?}"),
        };
        let text = String::from_utf8(bytes[..len].to_vec()).unwrap();
        (Answer { status: head.status, head: text, body: bytes[len..len + body].to_vec() }, len + body)
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
