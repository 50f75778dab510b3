//! L3: the proxy as a pure application: judges requests, chooses servers, relays, and says how each exchange ended.
//!
//! [`session`] waits for heads and begins exchanges; [`exchange`] carries one request and its response; [`answer`] reads what the
//! server says; [`failure`] decides what a fault, a lost connection or a deadline means; [`rewrite`] makes heads fit for the next hop.

pub mod answer;
pub mod balance;
pub mod budget;
pub mod choice;
pub mod exchange;
pub mod failure;
pub mod health;
pub mod idle;
pub mod probe;
pub mod relay;
pub mod rewrite;
pub mod session;

use crate::base::time::SECOND;
use crate::base::{DateLine, Micros, Now, Peer};
use crate::engine::{App, Flow, Turn};
use crate::http1::Limits;
use balance::RoundRobin;
use exchange::Exchange;
use session::Session;

/// What to do with `X-Forwarded-For`, `-Proto` and `-Host` that a client sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarded {
    /// The client's address is appended to -For; the other two are set.
    Append,
    /// All three are set to what this proxy saw.
    Replace,
    /// They pass as they came.
    Off,
}

/// Times and limits of the proxy; all times in microseconds.
#[derive(Clone, Debug)]
pub struct Settings {
    /// For a whole request head, from its first byte; a new connection's first byte must come within as long.
    pub client_head: Micros,
    /// Between requests.
    pub client_idle: Micros,
    /// Between two reads of a request body.
    pub client_body: Micros,
    /// Between two writes to a client that takes its answer slowly.
    pub client_write: Micros,
    /// For a connection to a server.
    pub upstream_connect: Micros,
    /// From the end of the request to the first byte of the answer.
    pub upstream_response: Micros,
    /// Between two reads of an answer, or two writes of a request.
    pub upstream_read: Micros,
    /// For an idle connection to a server that announces nothing else.
    pub upstream_idle: Micros,
    /// For a tunnel in which nothing moves.
    pub tunnel_idle: Micros,
    pub request: Limits,
    pub response: Limits,
    /// Largest request body, in bytes of content.
    pub max_body: u64,
    pub forwarded: Forwarded,
    /// Further servers that a request may be tried on.
    pub retries: u8,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            client_head: 10 * SECOND,
            client_idle: 75 * SECOND,
            client_body: 30 * SECOND,
            client_write: 30 * SECOND,
            upstream_connect: 3 * SECOND,
            upstream_response: 60 * SECOND,
            upstream_read: 60 * SECOND,
            upstream_idle: 4 * SECOND,
            tunnel_idle: 3600 * SECOND,
            request: Limits::REQUEST,
            response: Limits::RESPONSE,
            max_body: u64::MAX,
            forwarded: Forwarded::Append,
            retries: 1,
        }
    }
}

/// The proxy of one worker.
pub struct Proxy {
    shop: Shop,
}

/// What every session of a worker works with.
pub(crate) struct Shop {
    settings: Settings,
    balance: RoundRobin,
    /// The servers as the user wrote them, for a request without a host.
    names: Vec<String>,
    date: DateLine,
    /// Where heads are written before they are laid into a flow.
    scratch: Vec<u8>,
    /// Exchanges to be used again, so that a request allocates nothing.
    #[expect(clippy::vec_box, reason = "between list and session a box moves as one word, an exchange as a kilobyte")]
    free: Vec<Box<Exchange>>,
}

/// Unused exchanges kept per worker.
const KEPT_EXCHANGES: usize = 256;

impl Proxy {
    /// A proxy for the servers with these names; a server's number is its place among them. `start` staggers the rotation.
    pub fn new(settings: Settings, names: Vec<String>, start: usize) -> Self {
        let balance = RoundRobin::new(names.len(), start);
        let scratch = Vec::with_capacity(settings.response.head.max(settings.request.head) + 2048);
        let free = Vec::with_capacity(KEPT_EXCHANGES);
        Proxy { shop: Shop { settings, balance, names, date: DateLine::new(), scratch, free } }
    }
}

impl App for Proxy {
    type Session = Session;

    fn open(&mut self, peer: Peer, now: Now) -> Session {
        Session::new(peer, now)
    }

    fn advance(&mut self, session: &mut Session, turn: &mut Turn<'_>) {
        session.advance(&mut self.shop, turn);
    }

    fn deadline(&self, session: &mut Session, now: Now, up: &Flow, down: &Flow) -> Option<Micros> {
        Some(session.deadline(&self.shop.settings, now, up, down))
    }
}
