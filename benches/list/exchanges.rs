//! Whole exchanges: through the worker with its loop, and through the applications alone.

use super::world::{Talk, World};
use super::{Part, REQUEST, RESPONSE};
use pilb::base::buffer::HEADROOM;
use pilb::base::{BufferPool, Now, Peer, Size};
use pilb::engine::{AccessLog, AccessRecord, App, Drain, Effects, Flow, SessionId, Side, Turn, Uplink};
use pilb::origin::{DemoStore, Origin, Settings as OriginSettings};
use pilb::proxy::{Proxy, Settings};

pub const PARTS: &[Part] = &[
    Part { group: "worker", name: "request", bytes: None, make: || worker(1, small()) },
    Part { group: "worker", name: "request, 64 clients", bytes: None, make: || worker(64, small()) },
    Part { group: "worker", name: "request, 1000 clients", bytes: None, make: || worker(1000, small()) },
    Part { group: "worker", name: "answer of 64 KiB", bytes: Some(64 << 10), make: || worker(1, large_answer()) },
    Part { group: "worker", name: "upload of 64 KiB", bytes: Some(64 << 10), make: || worker(1, upload()) },
    Part { group: "app", name: "proxy: exchange", bytes: None, make: proxied },
    Part { group: "app", name: "proxy: refusal", bytes: None, make: refused },
    Part {
        group: "app",
        name: "origin: 1 KiB",
        bytes: None,
        make: || served(b"GET /bytes/1024 HTTP/1.1\r\nHost: a\r\n\r\n"),
    },
    Part { group: "app", name: "origin: 404", bytes: None, make: || served(b"GET /none HTTP/1.1\r\nHost: a\r\n\r\n") },
];

const BUFFER: usize = HEADROOM + 16 * 1024;
const NOW: Now = Now { mono: 1_000_000, unix: 1_700_000_000_000_000 };

fn peer() -> Peer {
    Peer::Ip(([192, 0, 2, 7], 50000).into())
}

fn worker(clients: usize, talk: Talk) -> Box<dyn FnMut()> {
    let mut world = World::new(clients, talk);
    Box::new(move || world.request())
}

/// A message with a body of so many bytes behind a head that ends in the body's length.
fn with_body(head: &str, bytes: usize) -> &'static [u8] {
    let mut message = format!("{head}Content-Length: {bytes}\r\n\r\n").into_bytes();
    message.resize(message.len() + bytes - 1, b'x');
    message.push(b'.');
    message.leak()
}

const ANSWER: &str = "HTTP/1.1 200 OK\r\nServer: bench\r\nContent-Type: text/plain\r\nETag: \"abc\"\r\n";

fn small() -> Talk {
    Talk { request: REQUEST, answer: with_body(ANSWER, 1024) }
}

fn large_answer() -> Talk {
    Talk { request: REQUEST, answer: with_body(ANSWER, 64 << 10) }
}

fn upload() -> Talk {
    let request = with_body("POST /upload HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: bench\r\n", 64 << 10);
    Talk { request, answer: with_body(ANSWER, 1024) }
}

/// Counts records.
struct Count(u64);

impl AccessLog for Count {
    fn record(&mut self, _: &AccessRecord) {
        self.0 += 1;
    }
}

/// An application with one client, and the flows that the loop would fill and drain.
struct Stage<A: App> {
    app: A,
    session: A::Session,
    up: Flow,
    down: Flow,
    pool: BufferPool,
    log: Count,
}

impl<A: App> Stage<A> {
    fn new(mut app: A) -> Self {
        let session = app.open(peer(), NOW);
        let pool = BufferPool::new(BUFFER, 4);
        Stage { app, session, up: Flow::default(), down: Flow::default(), pool, log: Count(0) }
    }

    fn hear(&mut self, bytes: &[u8]) {
        fill(&mut self.up, &mut self.pool, bytes);
    }

    fn advance(&mut self, uplink: Uplink) -> Effects {
        let mut turn = Turn {
            now: NOW,
            session: SessionId::default(),
            up: &mut self.up,
            down: &mut self.down,
            client: Side::Open,
            uplink,
            expired: false,
            drain: Drain::No,
            pool: &mut self.pool,
            log: &mut self.log,
            effects: Effects::default(),
        };
        self.app.advance(&mut self.session, &mut turn);
        turn.effects
    }

    /// Everything ready is sent to the client, and the app looks again.
    fn answer(&mut self) -> Effects {
        self.down.sent(self.down.ready().len());
        let effects = self.advance(Uplink::None);
        self.up.rest(&mut self.pool);
        self.down.rest(&mut self.pool);
        effects
    }
}

fn fill(flow: &mut Flow, pool: &mut BufferPool, bytes: &[u8]) {
    flow.room(pool, Size::Small)[..bytes.len()].copy_from_slice(bytes);
    flow.filled(bytes.len());
}

fn proxy() -> Stage<Proxy> {
    Stage::new(Proxy::new(Settings::default(), vec!["a".into(), "b".into(), "c".into()], 0))
}

/// A keep-alive exchange on a reused connection, as the loop drives it.
fn proxied() -> Box<dyn FnMut()> {
    let mut stage = proxy();
    let answer = [RESPONSE, &[b'x'; 1024]].concat();
    Box::new(move || {
        let before = stage.log.0;
        stage.hear(REQUEST);
        stage.advance(Uplink::None);
        stage.up.sent(stage.up.ready().len());
        fill(&mut stage.down, &mut stage.pool, &answer);
        stage.advance(Uplink::Linked { reused: true, side: Side::Open });
        stage.answer();
        assert_eq!(stage.log.0, before + 1, "the exchange was not completed");
    })
}

/// A client that sends two lengths gets 400 and is closed; the next one comes.
fn refused() -> Box<dyn FnMut()> {
    let mut stage = proxy();
    let request = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx";
    Box::new(move || {
        stage.session = stage.app.open(peer(), NOW);
        stage.hear(request);
        stage.advance(Uplink::None);
        let close = stage.answer().close;
        assert!(close.is_some(), "the request was not refused");
        stage.up.clear();
        stage.up.rest(&mut stage.pool);
    })
}

fn served(request: &'static [u8]) -> Box<dyn FnMut()> {
    let mut stage = Stage::new(Origin::new(DemoStore::new("bench"), OriginSettings::default()));
    Box::new(move || {
        let before = stage.log.0;
        stage.hear(request);
        stage.advance(Uplink::None);
        stage.answer();
        assert_eq!(stage.log.0, before + 1, "the request was not served");
    })
}
