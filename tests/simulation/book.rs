//! What was planned, and what truly happened: every exchange, every connection, and whom to blame for what went wrong.

use super::bytes::Bytes;
use super::net::ConnId;
use super::random::mix;
use super::taps::{ClientTap, ServerTap};
use pilb::base::Micros;
use pilb::engine::AccessRecord;
use std::collections::{BTreeMap, HashMap};

/// Blames that explain a timeout.
pub const STALLS: &str = "its answer stalls";
pub const SHORT: &str = "its answer is shorter than announced";

pub type ExchangeId = usize;

/// How a body is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    None,
    Length(u64),
    Chunked(u64),
    /// Answers only.
    UntilClose(u64),
}

impl Shape {
    pub fn content(self) -> u64 {
        match self {
            Shape::None => 0,
            Shape::Length(n) | Shape::Chunked(n) | Shape::UntilClose(n) => n,
        }
    }
}

/// What the server does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    Nothing,
    /// Ends (or resets) after so many bytes of its answer; 0 is before it.
    Cut {
        after: u64,
        reset: bool,
    },
    Stall {
        after: u64,
    },
    Garbage(u64),
    Mutated(u64),
    /// Bytes behind the answer.
    Extra(u64),
    /// Announces more than it has.
    Short(u64),
    /// A head that is too long, or has too many others before it.
    Endless(u64),
}

/// How a request is answered.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub shape: Shape,
    pub interims: u8,
    /// Answers `Expect` with 100.
    pub continues: bool,
    /// Answers when the head is there.
    pub early: bool,
    pub close: bool,
    /// `Keep-Alive: timeout`.
    pub announces: Option<u64>,
    pub old: bool,
    pub think: Micros,
    pub wrong: Wrong,
    /// Attempts that the wrong hits; later ones go well.
    pub wrong_times: u32,
}

/// A request and its answer as they should be.
#[derive(Clone, Debug)]
pub struct Plan {
    pub method: &'static str,
    pub old: bool,
    /// `Connection: close`, or in HTTP/1.0 no `keep-alive`.
    pub close: bool,
    pub shape: Shape,
    /// Bytes per chunk.
    pub chunk: u64,
    /// A field of so many bytes is in both heads.
    pub pad: usize,
    /// Chunked bodies have a trailer.
    pub trailer: bool,
    pub expect: bool,
    pub upgrade: bool,
    /// Think time before it.
    pub think: Micros,
    pub answer: Answer,
}

impl Plan {
    pub fn is_idempotent(&self) -> bool {
        !matches!(self.method, "POST" | "PATCH")
    }

    /// Does the client mean to go on after this? What the answer will be like it cannot know.
    pub fn goes_on(&self) -> bool {
        !self.close && !self.upgrade
    }

    /// May the client's connection go on after this?
    pub fn persists(&self) -> bool {
        self.goes_on() && !matches!(self.answer.shape, Shape::UntilClose(_))
    }
}

#[derive(Debug)]
pub struct Exchange {
    pub plan: Plan,
    pub client: ConnId,
    /// Its place among those of its connection.
    pub index: usize,
    pub token: String,
    /// Some bytes of it were changed on the way: what it means is not known.
    pub wild: bool,
    /// The client's head was on the wire.
    pub begun: Option<Micros>,
    /// Upstream connections that got bytes of it.
    pub carried: Vec<ConnId>,
    /// The answer that was sent is not the planned one.
    pub wild_answer: bool,
    /// A server sent the whole answer, with so much content.
    pub answered: Option<u64>,
    pub attempts_answered: u32,
    pub blames: Vec<&'static str>,
    pub record: Option<AccessRecord>,
}

impl Exchange {
    /// What its content is made of.
    pub fn request_key(&self, id: ExchangeId) -> u64 {
        2 * id as u64
    }

    pub fn answer_key(&self, id: ExchangeId) -> u64 {
        2 * id as u64 + 1
    }

    pub fn line(&self) -> String {
        format!("{} /{} HTTP/1.{}", self.plan.method, self.token, u8::from(!self.plan.old))
    }

    /// Head and body as the client sends them.
    pub fn request(&self, id: ExchangeId) -> (Bytes, Bytes) {
        let plan = &self.plan;
        let mut head = format!("{}\r\nHost: sim\r\n", self.line());
        match (plan.upgrade, plan.old, plan.close) {
            (true, ..) => head += "Connection: upgrade\r\nUpgrade: noise\r\n",
            (_, true, false) => head += "Connection: keep-alive\r\n",
            (_, false, true) => head += "Connection: close\r\n",
            _ => {}
        }
        if plan.pad > 0 {
            head += &format!("X-Pad: {}\r\n", "p".repeat(plan.pad));
        }
        if plan.expect {
            head += "Expect: 100-continue\r\n";
        }
        match plan.shape {
            Shape::Length(n) => head += &format!("Content-Length: {n}\r\n"),
            Shape::Chunked(_) => head += "Transfer-Encoding: chunked\r\n",
            Shape::None | Shape::UntilClose(_) => {}
        }
        head += "\r\n";
        let mut bytes = Bytes::default();
        bytes.text(head.as_bytes());
        (bytes, content(plan.shape, self.request_key(id), plan))
    }
}

/// A body as it is sent.
pub fn content(shape: Shape, key: u64, plan: &Plan) -> Bytes {
    let mut bytes = Bytes::default();
    match shape {
        Shape::None => {}
        Shape::Length(n) | Shape::UntilClose(n) => bytes.noise(key, 0, n),
        Shape::Chunked(n) => {
            let mut at = 0;
            while at < n {
                let piece = plan.chunk.max(1).min(n - at);
                bytes.text(format!("{piece:X}\r\n").as_bytes());
                bytes.noise(key, at, piece);
                bytes.text(b"\r\n");
                at += piece;
            }
            bytes.text(if plan.trailer { b"0;last\r\nX-Trailer: t\r\n\r\n" } else { b"0\r\n\r\n" });
        }
    }
    bytes
}

/// A client connection.
#[derive(Debug, Default)]
pub struct Story {
    pub exchanges: Vec<ExchangeId>,
    pub tap: ClientTap,
    /// How many records there were, and the bytes to the client that they tell of.
    pub records: usize,
    pub down: u64,
    /// What the client did that may end anything.
    pub blames: Vec<&'static str>,
    /// It sends what it likes.
    pub wild: bool,
    /// What of the answers the client has read, and whether it reads all that comes at once.
    pub received: u64,
    pub hasty: bool,
    /// Several requests may be under way at once.
    pub pipelines: bool,
    /// Bytes that the client has put on the wire, and of these the ends of whole requests.
    pub wrote: u64,
    pub request_ends: Vec<u64>,
}

/// A connection to a server.
#[derive(Debug, Default)]
pub struct Line {
    pub tap: ServerTap,
    /// The server ended it while it idled, or behind an answer that did not say so.
    pub idle_closed: bool,
    /// The server sent what nobody asked for: who comes after is not to blame.
    pub dirty: bool,
    /// Where its answers end is not known.
    pub unsure: bool,
    /// The server says nothing on it any more.
    pub stuck: bool,
    /// Bytes that the server has put on the wire for whole answers.
    pub owed: u64,
    /// Of these, where the last answer rightly ends; what follows is nobody's.
    pub right: u64,
    /// What the worker had read when the current request began.
    pub read_before: u64,
}

#[derive(Default)]
pub struct Book {
    pub seed: u64,
    pub exchanges: Vec<Exchange>,
    pub stories: BTreeMap<ConnId, Story>,
    pub lines: BTreeMap<ConnId, Line>,
    tokens: HashMap<String, ExchangeId>,
    /// Dials that were refused, and that hung, and when.
    pub refusals: Vec<Micros>,
    pub hangs: Vec<Micros>,
    pub no_sockets: Vec<Micros>,
    pub drained: Option<Micros>,
    pub stopped: Option<Micros>,
}

impl Book {
    pub fn new(seed: u64) -> Book {
        Book { seed, ..Book::default() }
    }

    pub fn plan(&mut self, plan: Plan) -> ExchangeId {
        let id = self.exchanges.len();
        let token = format!("{id:x}-{:08x}", mix(self.seed ^ id as u64) as u32);
        self.tokens.insert(token.clone(), id);
        self.exchanges.push(Exchange {
            plan,
            client: 0,
            index: 0,
            token,
            wild: false,
            begun: None,
            carried: Vec::new(),
            wild_answer: false,
            answered: None,
            attempts_answered: 0,
            blames: Vec::new(),
            record: None,
        });
        id
    }

    pub fn find(&self, token: &str) -> Option<ExchangeId> {
        self.tokens.get(token).copied()
    }

    /// The exchange of a request line or target.
    pub fn find_in(&self, line: &str) -> Option<ExchangeId> {
        let target = line.split(' ').nth(1)?;
        self.find(target.strip_prefix('/')?)
    }

    /// The client begins to send it.
    pub fn begin(&mut self, id: ExchangeId, client: ConnId, now: Micros) {
        let story = self.stories.entry(client).or_default();
        let exchange = &mut self.exchanges[id];
        (exchange.client, exchange.index, exchange.begun) = (client, story.exchanges.len(), Some(now));
        exchange.wild = story.wild;
        story.exchanges.push(id);
    }

    pub fn blame(&mut self, id: ExchangeId, why: &'static str) {
        self.exchanges[id].blames.push(why);
    }
}
