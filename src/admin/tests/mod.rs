//! The admin side without sockets: what is asked, what is answered, and that programs can read it.

use crate::admin::{Admin, ServerView, Settings, Snapshot, Source, State};
use crate::base::buffer::HEADROOM;
use crate::base::{BufferPool, Now, Peer, Size};
use crate::engine::{
    AccessLog, AccessRecord, Again, App, Close, CloseReason, Drain, Effects, Flow, ServerTotals, SessionId, Side,
    Totals, Turn, Uplink,
};

/// Two servers, one of which has a name that would break out of any quotes.
#[derive(Clone, Default)]
struct Known(Snapshot);

const NASTY: &str = "b\"\\\n é/x:80";

fn known() -> Known {
    let server = |name: &str, state, share, backup| ServerView {
        name: name.to_owned(),
        address: "10.0.0.1:80".to_owned(),
        weight: 3,
        backup,
        state,
        share,
        probe: backup.then_some(false),
        totals: ServerTotals { requests: 7, failures: 2, ejections: 1, in_flight: 4 },
    };
    let mut totals = Totals::default();
    (totals.retries, totals.opened, totals.closed, totals.waiting) = (5, 12, 9, 6);
    for (status, end) in [(200, CloseReason::Done), (200, CloseReason::Done), (502, CloseReason::BadResponse)] {
        let mut record = AccessRecord::new(0, Peer::Unix);
        (record.status, record.end, record.bytes_up, record.bytes_down) = (status, end, 10, 100);
        record.total = 1500;
        totals.record(&record);
    }
    let servers = vec![server("a:80", State::Starting, 60, false), server(NASTY, State::Down, 0, true)];
    Known(Snapshot { draining: false, workers: 2, totals, servers })
}

impl Source for Known {
    fn look(&self) -> Snapshot {
        self.0.clone()
    }

    fn drain(&mut self, server: usize, drained: bool) {
        self.0.servers[server].state = if drained { State::Drained } else { State::Up };
    }
}

struct NoLog;

impl AccessLog for NoLog {
    fn record(&mut self, _: &AccessRecord) {}
}

/// A connection.
struct Stage {
    admin: Admin<Known>,
    session: super::Session,
    up: Flow,
    down: Flow,
    pool: BufferPool,
    client: Side,
    drain: Drain,
    expired: bool,
}

impl Stage {
    fn new(known: Known) -> Stage {
        let mut admin = Admin::new(known, Settings::default());
        let session = admin.open(Peer::Unix, Now::default());
        let pool = BufferPool::new(HEADROOM + 16 * 1024, 4);
        let (up, down) = (Flow::default(), Flow::default());
        Stage { admin, session, up, down, pool, client: Side::Open, drain: Drain::No, expired: false }
    }

    /// The client sends this; what it gets, and how the connection ends, if it does.
    fn say(&mut self, bytes: &str) -> (String, Option<Close>) {
        let room = self.up.room(&mut self.pool, Size::Small);
        room[..bytes.len()].copy_from_slice(bytes.as_bytes());
        self.up.filled(bytes.len());
        let mut got = String::new();
        for _ in 0..100 {
            let effects = self.advance();
            got += &self.take();
            if effects.close.is_some() || effects.again == Again::No {
                return (got, effects.close);
            }
        }
        panic!("it does not come to rest: {got}");
    }

    fn advance(&mut self) -> Effects {
        let mut turn = Turn {
            now: Now { mono: 5, unix: 784_111_777_000_000 },
            session: SessionId::default(),
            up: &mut self.up,
            down: &mut self.down,
            client: self.client,
            uplink: Uplink::None,
            expired: self.expired,
            drain: self.drain,
            pool: &mut self.pool,
            log: &mut NoLog,
            effects: Effects::default(),
        };
        self.admin.advance(&mut self.session, &mut turn);
        turn.effects
    }

    /// What is on its way to the client.
    fn take(&mut self) -> String {
        let content = self.down.content().and_then(|content| content.bytes()).unwrap_or_default();
        let bytes = [self.down.ready(), content].concat();
        self.down.sent(bytes.len());
        String::from_utf8(bytes).unwrap()
    }
}

fn ask(request: &str) -> String {
    Stage::new(known()).say(&format!("{request} HTTP/1.1\r\nHost: a\r\n\r\n")).0
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}

#[test]
fn places_and_methods() {
    for (request, begins, has) in [
        ("GET /", "HTTP/1.1 200 OK\r\n", "GET  /metrics "),
        ("GET /?x", "HTTP/1.1 200 OK\r\n", "a:80"),
        ("GET http://b/healthz", "HTTP/1.1 200 OK\r\n", "\r\n\r\nok\n"),
        ("GET /servers", "HTTP/1.1 200 OK\r\n", "Content-Type: application/json\r\n"),
        ("GET /metrics", "HTTP/1.1 200 OK\r\n", "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"),
        ("GET /nothing", "HTTP/1.1 404 Not Found\r\n", "/healthz"),
        ("GET /servers/", "HTTP/1.1 404 Not Found\r\n", ""),
        ("GET /servers/a:80/drain", "HTTP/1.1 405 Method Not Allowed\r\n", "\r\nAllow: POST\r\n"),
        ("POST /metrics", "HTTP/1.1 405 Method Not Allowed\r\n", "\r\nAllow: GET, HEAD\r\n"),
        ("DELETE /", "HTTP/1.1 405 Method Not Allowed\r\n", "\r\nAllow: GET, HEAD\r\n"),
        ("POST /servers/c/drain", "HTTP/1.1 404 Not Found\r\n", "see /servers"),
        ("POST /servers/a:80/away", "HTTP/1.1 404 Not Found\r\n", ""),
        ("GET x", "HTTP/1.1 400 Bad Request\r\n", "(bad-target)"),
        ("CONNECT a:80", "HTTP/1.1 405 Method Not Allowed\r\n", ""),
        ("OPTIONS *", "HTTP/1.1 200 OK\r\n", "\r\nAllow: GET, HEAD, POST\r\n"),
    ] {
        let answer = ask(request);
        assert!(answer.starts_with(begins) && answer.contains(has), "{request}: {answer}");
        let length = format!("\r\nContent-Length: {}\r\n", body(&answer).len());
        assert!(answer.contains(&length) && answer.contains("\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n"), "{answer}");
    }
}

#[test]
fn the_servers_as_json() {
    let answer = ask("GET /servers");
    let read: serde_json::Value = serde_json::from_str(body(&answer)).unwrap();
    let expected = serde_json::json!({"servers": [
        {"name": "a:80", "address": "10.0.0.1:80", "weight": 3, "backup": false, "state": "starting", "share": 60,
         "probe": null, "in_flight": 4, "requests": 7, "failures": 2, "ejections": 1},
        {"name": NASTY, "address": "10.0.0.1:80", "weight": 3, "backup": true, "state": "down", "share": 0,
         "probe": "bad", "in_flight": 4, "requests": 7, "failures": 2, "ejections": 1},
    ]});
    assert_eq!(read, expected);
    let mut none = Stage::new(Known::default());
    let answer = none.say("GET /servers HTTP/1.1\r\nHost: a\r\n\r\n").0;
    let read: serde_json::Value = serde_json::from_str(body(&answer)).unwrap();
    assert_eq!(read, serde_json::json!({"servers": []}));
}

#[test]
fn the_metrics_are_those_of_the_golden_file() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/metrics.txt");
    let answer = ask("GET /metrics");
    let text = body(&answer).replace(env!("CARGO_PKG_VERSION"), "VERSION");
    if std::env::var_os("PILB_BLESS").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(path).unwrap(), "PILB_BLESS=1 writes the file anew");
}

/// Each family is announced once before its lines, each line is told once, and what counts says so by its name.
#[test]
fn the_metrics_are_well_formed() {
    let answer = ask("GET /metrics");
    let (mut family, mut kind) = (String::new(), "");
    let (mut seen, mut lines) = (Vec::new(), std::collections::HashSet::new());
    for line in body(&answer).lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            family = help.split(' ').next().unwrap().to_owned();
            assert!(!seen.contains(&family) && help.len() > family.len() + 5, "{line}");
            seen.push(family.clone());
        } else if let Some(told) = line.strip_prefix("# TYPE ") {
            let (name, of) = told.split_once(' ').unwrap();
            assert_eq!(name, family);
            assert_eq!(of == "counter", name.ends_with("_total"), "{line}");
            kind = of;
        } else {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().is_ok() && lines.insert(name.to_owned()), "{line}");
            let ends: &[&str] = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
            let rest = name.split('{').next().unwrap().strip_prefix(family.as_str());
            assert!(rest.is_some_and(|rest| ends.contains(&rest)), "{line}");
            assert!(family.starts_with("pilb_") && ["counter", "gauge", "histogram"].contains(&kind), "{line}");
        }
    }
    assert!(lines.len() > 60 && answer.contains("{server=\"b\\\"\\\\\\n é/x:80\"}"), "{answer}");
}

#[test]
fn a_server_is_taken_out_and_put_back() {
    let mut stage = Stage::new(known());
    let (answer, _) = stage.say("POST /servers/b%22%5C%0A%20%C3%A9%2Fx:80/drain HTTP/1.1\r\nHost: a\r\n\r\n");
    let read: serde_json::Value = serde_json::from_str(body(&answer)).unwrap();
    assert_eq!((&read["name"], &read["state"]), (&NASTY.into(), &"drained".into()));
    assert_eq!(stage.admin.source.0.servers[0].state, State::Starting);
    let (answer, close) =
        stage.say("POST /servers/b%22%5C%0a%20%c3%a9/x:80/ready HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    assert!(answer.contains("\"state\":\"up\"") && close.is_none(), "{answer}");
}

#[test]
fn pages_in_browsers_may_not_do_that() {
    for (field, status) in [
        ("Origin: http://a", 403),
        ("Origin: http://evil.example", 403),
        ("origin: null", 403),
        ("Sec-Fetch-Site: same-origin", 403),
        ("Sec-Fetch-Mode: cors", 200),
        ("X: y", 200),
    ] {
        let mut stage = Stage::new(known());
        let (answer, _) = stage.say(&format!("POST /servers/a:80/drain HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n"));
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{field}: {answer}");
        assert_eq!(stage.admin.source.0.servers[0].state == State::Drained, status == 200);
    }
}

#[test]
fn health_is_a_server_that_is_up_and_a_process_that_goes_on() {
    let mut ill = known();
    ill.0.servers[0].share = 0;
    let mut ending = known();
    ending.0.draining = true;
    for (known, status, why) in [(known(), 200, "ok"), (ill, 503, "no server is up"), (ending, 503, "it is ending")] {
        let (answer, _) = Stage::new(known).say("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.contains(why), "{answer}");
    }
}

#[test]
fn connections_are_used_again_unless_something_speaks_against_it() {
    let two = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\nHEAD /metrics HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut stage = Stage::new(known());
    let (answers, close) = stage.say(&format!("\r\n{two}"));
    assert!(answers.matches("HTTP/1.1 200 OK").count() == 2 && answers.ends_with("\r\n\r\n") && close.is_none());
    assert!(!answers.contains("Connection:"), "{answers}");
    for (fields, close, says) in [
        ("HTTP/1.1\r\nHost: a\r\nConnection: close", Close::Finish, "close"),
        ("HTTP/1.0", Close::Finish, "close"),
        ("HTTP/1.1\r\nHost: a\r\nContent-Length: 5", Close::Linger, "close"),
        ("HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked", Close::Linger, "close"),
        ("HTTP/1.1\r\nHost: a\r\nHost: a", Close::Linger, "close"),
    ] {
        let (answer, how) = Stage::new(known()).say(&format!("GET /healthz {fields}\r\n\r\n"));
        assert!(answer.contains(&format!("\r\nConnection: {says}\r\n")), "{fields}: {answer}");
        assert_eq!(how, Some(close), "{fields}");
    }
    let (answer, close) = Stage::new(known()).say("GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert!(answer.contains("\r\nConnection: keep-alive\r\n") && close.is_none(), "{answer}");
}

#[test]
fn heads_come_in_pieces_too_late_or_too_large() {
    let mut stage = Stage::new(known());
    assert_eq!(stage.say("GET /heal"), (String::new(), None));
    assert!(stage.say("thz HTTP/1.1\r\nHost: a\r\n\r\n").0.ends_with("\r\n\r\nok\n"));
    assert_eq!(stage.say("GET "), (String::new(), None));
    stage.expired = true;
    let (answer, close) = stage.say("/");
    assert!(answer.starts_with("HTTP/1.1 408 ") && close == Some(Close::Linger), "{answer}");
    let mut stage = Stage::new(known());
    let (answer, close) = stage.say(&format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(15_000)));
    assert!(answer.is_empty() && close.is_none());
    assert!(stage.up.has_room());
    let (answer, close) = stage.say(&"x".repeat(1300));
    assert!(answer.is_empty() && close.is_none());
    let room = stage.up.room(&mut stage.pool, Size::Small).len();
    let (answer, close) = stage.say(&"x".repeat(room));
    assert!(answer.starts_with("HTTP/1.1 431 ") && close == Some(Close::Linger), "{answer}");
}

#[test]
fn who_has_nothing_to_ask_goes_when_it_is_time() {
    for (client, drain, expired, goes) in [
        (Side::Open, Drain::No, false, false),
        (Side::Ended, Drain::No, false, true),
        (Side::Broken, Drain::No, false, true),
        (Side::Open, Drain::Leave, false, true),
        (Side::Open, Drain::No, true, true),
    ] {
        let mut stage = Stage { client, drain, expired, ..Stage::new(known()) };
        assert_eq!(stage.advance().close.is_some(), goes, "{client:?} {drain:?} {expired}");
    }
}

#[test]
fn an_answer_that_nobody_takes_is_given_up() {
    let mut stage = Stage::new(known());
    let room = stage.up.room(&mut stage.pool, Size::Small);
    let request = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n";
    room[..request.len()].copy_from_slice(request);
    stage.up.filled(request.len());
    assert_eq!(stage.advance().close, None);
    let now = Now { mono: 9, unix: 0 };
    let (write, session) = (Settings::default().write, &mut stage.session);
    assert_eq!(session.deadline(&Settings::default(), now, &stage.down), 5 + write, "since it was made");
    stage.down.sent(100);
    assert_eq!(session.deadline(&Settings::default(), now, &stage.down), 9 + write, "since something was taken");
    assert_eq!(stage.advance().close, None);
    stage.expired = true;
    assert_eq!(stage.advance().close, Some(Close::Reset));
}
