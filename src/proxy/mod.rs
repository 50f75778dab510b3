//! L3: the proxy as a pure application: judges requests, chooses servers, relays, and says how each exchange ended.
//!
//! [`session`] waits for heads and begins exchanges; [`exchange`] carries one request and its response; [`answer`] reads what the
//! server says; [`failure`] decides what a fault, a lost connection or a deadline means; [`rewrite`] makes heads fit for the next hop;
//! `placing` finds a server for an exchange.
//!
//! [`servers`] knows the servers: [`choice`] says which one gets a request, [`health`] who is fit for one, [`prober`] asks them and
//! [`board`] tells other workers, [`seats`] counts what servers may have in flight, [`queue`] is for requests that find no seat. [`limits`] says who may come in and how often.
//! [`ledger`] counts.

pub mod answer;
pub mod board;
pub mod budget;
pub mod choice;
pub mod exchange;
pub mod failure;
pub mod health;
pub mod idle;
pub mod ledger;
pub mod limits;
mod placing;
pub mod probe;
pub mod prober;
pub mod queue;
pub mod relay;
pub mod rewrite;
pub mod seats;
pub mod servers;
pub mod session;

use crate::base::time::SECOND;
use crate::base::{DateLine, Micros, Now, Peer};
use crate::engine::{App, Chores, CloseReason, Flow, ServerId, Turn};
use crate::http1::Limits;
use board::Board;
use budget::Budget;
use choice::Sticky;
use exchange::Exchange;
use failure::Failure;
use ledger::{Block, Ledger};
use limits::{Gate, Trusted, Version};
use servers::{Policy, Server, Servers};
use session::Session;
use std::net::SocketAddr;
use std::sync::Arc;

/// What to do with `X-Forwarded-For`, `-Proto` and `-Host` that a client sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarded {
    /// The client's address is appended to -For; the other two are set.
    Append,
    /// As before, but the other two are set only where they are missing: for a request from a proxy that is believed.
    Believe,
    /// All three are set to what this proxy saw.
    Replace,
    /// They pass as they came.
    Off,
}

impl Forwarded {
    /// Where it is known which proxies are to be believed: for a request that comes from one, or not.
    fn believing(self, believed: bool) -> Forwarded {
        match self {
            Forwarded::Append if believed => Forwarded::Believe,
            Forwarded::Append => Forwarded::Replace,
            other => other,
        }
    }
}

/// Times and limits of the proxy; all times in microseconds.
#[derive(Clone, Debug)]
pub struct Settings {
    /// For a whole request head, from its first byte; a new connection's first byte must come within as long.
    pub client_head: Micros,
    /// Between requests.
    pub client_idle: Micros,
    /// Between two reads of a request body, and in all for as long as it comes slower than `min_rate`.
    pub client_body: Micros,
    /// Between two writes to a client that takes its answer slowly, and in all for as long as it takes it slower than `min_rate`.
    pub client_write: Micros,
    /// Bytes per second; 0: any rate will do.
    pub min_rate: u32,
    /// Until a server has room for a request.
    pub queue: Micros,
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
    /// At most so many percent of the requests of late are tried again.
    pub retry_percent: u32,
    /// How servers are chosen and judged.
    pub servers: Policy,
    /// A cookie that keeps a client with its server.
    pub sticky: Option<StickyRule>,
    /// Who may come in, and how often.
    pub gate: Gate,
    /// Proxies before this one whose X-Forwarded-For is believed, if any.
    pub trusted: Trusted,
    /// Whose connections begin with the PROXY protocol.
    pub prefaces: Trusted,
    /// Connections to servers begin with the PROXY protocol, and name this address as the one that the client reached.
    pub send_preface: Option<(Version, Option<SocketAddr>)>,
}

/// The sticky cookie's name, and the key that its values are made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StickyRule {
    pub name: String,
    pub key: [u8; 16],
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
            min_rate: 100,
            queue: 5 * SECOND,
            forwarded: Forwarded::Append,
            retries: 1,
            retry_percent: 20,
            servers: Policy::default(),
            sticky: None,
            gate: Gate::default(),
            trusted: Trusted::default(),
            prefaces: Trusted::default(),
            send_preface: None,
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
    servers: Servers,
    ledger: Ledger,
    budget: Budget,
    sticky: Option<Sticky>,
    date: DateLine,
    /// Where heads are written before they are laid into a flow.
    scratch: Vec<u8>,
    /// A field that an answer gets besides its own.
    extra: Vec<u8>,
    /// Exchanges to be used again, so that a request allocates nothing.
    #[expect(clippy::vec_box, reason = "between list and session a box moves as one word, an exchange as a kilobyte")]
    free: Vec<Box<Exchange>>,
}

impl Shop {
    /// How long a server's connection may idle after this answer: not at all where it names a client in its preface.
    fn idle_limit(&self, server: ServerId, announced: Option<u64>, now: Micros) -> Micros {
        match self.settings.send_preface {
            Some(_) => 0,
            None => self.servers.idle_limit(server, self.settings.upstream_idle, announced, now),
        }
    }

    /// Does it matter which server a client's request goes to?
    fn has_affinity(&self) -> bool {
        self.sticky.is_some() || self.servers.key_from().is_some()
    }

    /// There is no server for a request.
    fn no_upstream(&self) -> Failure {
        Failure { retry_after: self.servers.retry_after(), ..Failure::new(CloseReason::NoUpstream) }
    }
}

/// Unused exchanges kept per worker.
const KEPT_EXCHANGES: usize = 256;

impl Proxy {
    /// The only worker's proxy, for servers with these names that are all alike; a server's number is its place among them. `start`
    /// staggers the rotation.
    pub fn new(settings: Settings, names: Vec<String>, start: usize) -> Self {
        let alike = |name| Server { name, weight: 1, backup: false };
        let servers: Vec<Server> = names.into_iter().map(alike).collect();
        let board = Arc::new(Board::new(servers.len()).limited(&settings.servers, vec![Box::new(|| {})]));
        Self::one_of(settings, servers, board, Place { number: start, probes: true, seed: 1 })
    }

    /// The proxy of one of several workers, which share the board.
    pub fn one_of(settings: Settings, servers: Vec<Server>, board: Arc<Board>, place: Place) -> Self {
        let servers = Servers::new(settings.servers.clone(), servers, board, place);
        let scratch = Vec::with_capacity(settings.response.head.max(settings.request.head) + 2048);
        let sticky = settings.sticky.as_ref().map(|rule| Sticky::new(&rule.name, &rule.key, servers.ids()));
        let (budget, ledger) = (Budget::new(settings.retry_percent), Ledger::new(servers.ids().count()));
        let (date, extra, free) = (DateLine::new(), Vec::new(), Vec::with_capacity(KEPT_EXCHANGES));
        Proxy { shop: Shop { settings, servers, ledger, budget, sticky, date, scratch, extra, free } }
    }

    /// Copies what it counts there, if anywhere.
    pub fn publishing(mut self, block: Option<Arc<Block>>) -> Self {
        self.shop.ledger.publish_to(block);
        self
    }

    /// What is in its hands, for a test to see that nothing is left over: requests in flight with servers, and waiting for one.
    pub fn holds(&self) -> (u64, usize) {
        (self.shop.servers.in_flight(), self.shop.servers.waiting())
    }
}

/// A worker among others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Staggers the rotation.
    pub number: usize,
    /// It probes the servers for all.
    pub probes: bool,
    /// For what is left to chance.
    pub seed: u64,
}

impl App for Proxy {
    type Session = Session;

    fn open(&mut self, peer: Peer, now: Now) -> Session {
        self.shop.ledger.opened();
        Session::new(&self.shop.settings, peer, now)
    }

    fn advance(&mut self, session: &mut Session, turn: &mut Turn<'_>) {
        session.advance(&mut self.shop, turn);
    }

    fn attend(&mut self, chores: &mut Chores) -> Micros {
        let Shop { servers, ledger, .. } = &mut self.shop;
        servers.attend(chores).min(ledger.attend(servers, chores))
    }

    fn deadline(&self, session: &mut Session, now: Now, up: &Flow, down: &Flow) -> Option<Micros> {
        Some(session.deadline(&self.shop.settings, now, up, down))
    }
}
