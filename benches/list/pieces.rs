//! The pieces of an exchange: the HTTP/1 engine, rewriting, relaying, the flow, and what the loop keeps (pool, wheel), the log.

use super::{Part, REQUEST, RESPONSE};
use pilb::access_log::ring::ring;
use pilb::access_log::{Format, Formatter};
use pilb::base::buffer::HEADROOM;
use pilb::base::{BufferPool, DateLine, Peer, Size};
use pilb::engine::record::Part as Text;
use pilb::engine::{AccessLog, AccessRecord, Flow};
use pilb::http1::encode::{self, Persist, Shape};
use pilb::http1::field::FieldSpace;
use pilb::http1::response::{self, Asked};
use pilb::http1::target::Target;
use pilb::http1::{Body, Framing, HeadScan, Limits, Method, chunk, request, trailer};
use pilb::net::pool::{Idle, IdlePool};
use pilb::net::timer::{Entry, Wheel};
use pilb::origin::RelativePath;
use pilb::proxy::Forwarded;
use pilb::proxy::choice::{Asked as Wanted, Choice, Load, Method as Choose, Sticky};
use pilb::proxy::relay::{Chunks, relay};
use pilb::proxy::rewrite::{self, Toward};
use std::hint::black_box;

pub const PARTS: &[Part] = &[
    Part { group: "head", name: "scan", bytes: None, make: scan },
    Part { group: "head", name: "scan, in pieces of 64", bytes: None, make: scan_pieces },
    Part { group: "head", name: "parse request", bytes: None, make: || parse_request(REQUEST) },
    Part { group: "head", name: "parse short request", bytes: None, make: || parse_request(SHORT) },
    Part { group: "head", name: "parse and rewrite request", bytes: None, make: || rewrite_request(REQUEST) },
    Part { group: "head", name: "parse and rewrite absolute form", bytes: None, make: || rewrite_request(ABSOLUTE) },
    Part { group: "head", name: "parse response", bytes: None, make: parse_response },
    Part { group: "head", name: "parse and rewrite response", bytes: None, make: || rewrite_response(RESPONSE, true) },
    Part { group: "head", name: "parse and pass response", bytes: None, make: || rewrite_response(DATED, false) },
    Part { group: "head", name: "judge target", bytes: None, make: target },
    Part { group: "head", name: "write error page", bytes: None, make: error_page },
    Part {
        group: "body",
        name: "relay length",
        bytes: Some(15 << 10),
        make: || relayed(Framing::Length(u64::MAX), b"", b"", Chunks::Keep),
    },
    Part {
        group: "body",
        name: "relay canonical chunks",
        bytes: Some(15 << 10),
        make: || relayed(Framing::Chunked, b"400\r\n", b"\r\n", Chunks::Keep),
    },
    Part {
        group: "body",
        name: "relay chunks with extensions",
        bytes: Some(15 << 10),
        make: || relayed(Framing::Chunked, b"0400;a=b\r\n", b"\r\n", Chunks::Keep),
    },
    Part {
        group: "body",
        name: "strip chunks",
        bytes: Some(15 << 10),
        make: || relayed(Framing::Chunked, b"400\r\n", b"\r\n", Chunks::Strip),
    },
    Part { group: "body", name: "read chunk line", bytes: None, make: chunk_line },
    Part { group: "body", name: "write chunk line", bytes: None, make: write_chunk_line },
    Part { group: "body", name: "filter trailers", bytes: None, make: trailers },
    Part { group: "flow", name: "fill, pass, send 1 KiB", bytes: None, make: flow_passes },
    Part { group: "flow", name: "rewrite a head", bytes: None, make: flow_rewrites },
    Part { group: "loop", name: "park and take a connection", bytes: None, make: idle_pool },
    Part { group: "loop", name: "enter and expire a deadline", bytes: None, make: wheel },
    Part { group: "loop", name: "lend a buffer", bytes: None, make: buffers },
    Part { group: "choice", name: "rotation, 3 servers", bytes: None, make: || pick(Choose::RoundRobin, 3, true) },
    Part { group: "choice", name: "rotation, 100 servers", bytes: None, make: || pick(Choose::RoundRobin, 100, true) },
    Part { group: "choice", name: "weighted, 3 servers", bytes: None, make: || pick(Choose::RoundRobin, 3, false) },
    Part { group: "choice", name: "weighted, 100 servers", bytes: None, make: || pick(Choose::RoundRobin, 100, false) },
    Part { group: "choice", name: "least, 3 servers", bytes: None, make: || pick(Choose::Least, 3, true) },
    Part { group: "choice", name: "least, 100 servers", bytes: None, make: || pick(Choose::Least, 100, true) },
    Part { group: "choice", name: "two choices, 3 servers", bytes: None, make: || pick(Choose::TwoChoices, 3, true) },
    Part {
        group: "choice",
        name: "two choices, 100 servers",
        bytes: None,
        make: || pick(Choose::TwoChoices, 100, true),
    },
    Part { group: "choice", name: "hash, 3 servers", bytes: None, make: || pick(Choose::Hash, 3, true) },
    Part { group: "choice", name: "hash, 100 servers", bytes: None, make: || pick(Choose::Hash, 100, true) },
    Part { group: "choice", name: "weighted hash, 100 servers", bytes: None, make: || pick(Choose::Hash, 100, false) },
    Part { group: "choice", name: "note a latency", bytes: None, make: observe },
    Part { group: "choice", name: "find a sticky cookie", bytes: None, make: sticky },
    Part { group: "loop", name: "date line, same second", bytes: None, make: || date(0) },
    Part { group: "loop", name: "date line, next second", bytes: None, make: || date(1_000_000) },
    Part { group: "origin", name: "judge path", bytes: None, make: path },
    Part { group: "log", name: "hand over", bytes: None, make: hand_over },
    Part { group: "log", name: "format pilb", bytes: None, make: || log_line(Format::Pilb) },
    Part { group: "log", name: "format combined", bytes: None, make: || log_line(Format::Combined) },
    Part { group: "log", name: "format json", bytes: None, make: || log_line(Format::Json) },
];

const SHORT: &[u8] = b"GET /1024 HTTP/1.1\r\nHost: localhost\r\nUser-Agent: lean\r\nAccept: */*\r\n\r\n";
const ABSOLUTE: &[u8] = b"GET http://www.example.com:8080/index.html HTTP/1.1\r\nHost: other.example\r\nUser-Agent: lean\r\nAccept: */*\r\n\r\n";
/// An answer that may pass as it lies there.
const DATED: &[u8] = b"HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nServer: bench\r\nContent-Type: text/html; charset=utf-8\r\n\
    Content-Length: 1024\r\nETag: \"abc\"\r\n\r\n";
const DATE: &[u8] = b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
const GET: Asked = Asked { head: false, upgrade: false };
const SILENT: Toward = Toward { persist: Persist::Silent, strip_chunks: false };

fn peer() -> Peer {
    Peer::Ip(([192, 0, 2, 7], 50000).into())
}

// ---- heads

fn scan() -> Box<dyn FnMut()> {
    Box::new(|| {
        let found = HeadScan::default().end(black_box(REQUEST));
        assert_eq!(found, Ok(Some(REQUEST.len())));
    })
}

fn scan_pieces() -> Box<dyn FnMut()> {
    Box::new(|| {
        let mut scan = HeadScan::default();
        let mut ends = (64..REQUEST.len()).step_by(64);
        assert!(ends.all(|end| scan.end(black_box(&REQUEST[..end])) == Ok(None)));
        assert_eq!(scan.end(black_box(REQUEST)), Ok(Some(REQUEST.len())));
    })
}

fn parse_request(head: &'static [u8]) -> Box<dyn FnMut()> {
    Box::new(move || {
        let mut space = FieldSpace::new();
        let parsed = request::parse(black_box(head), &mut space, &Limits::REQUEST);
        assert!(parsed.is_ok_and(|head| black_box(head).persist));
    })
}

fn rewrite_request(head: &'static [u8]) -> Box<dyn FnMut()> {
    let mut out = Vec::with_capacity(4096);
    Box::new(move || {
        out.clear();
        let mut space = FieldSpace::new();
        if let Ok(head) = request::parse(black_box(head), &mut space, &Limits::REQUEST) {
            rewrite::request(&mut out, &head, peer(), Forwarded::Append, "fallback");
        }
        assert!(!black_box(&out).is_empty());
    })
}

fn parse_response() -> Box<dyn FnMut()> {
    Box::new(|| {
        let mut space = FieldSpace::new();
        let parsed = response::parse(black_box(RESPONSE), &mut space, &Limits::RESPONSE, GET);
        assert!(parsed.is_ok_and(|head| black_box(head).persist));
    })
}

/// `rebuilt`: whether anything must be written.
fn rewrite_response(head: &'static [u8], rebuilt: bool) -> Box<dyn FnMut()> {
    let mut out = Vec::with_capacity(4096);
    Box::new(move || {
        out.clear();
        let mut space = FieldSpace::new();
        let parsed = response::parse(black_box(head), &mut space, &Limits::RESPONSE, GET);
        assert!(parsed.is_ok_and(|head| rewrite::response(&mut out, &head, SILENT, DATE, b"") == rebuilt));
        black_box(&out);
    })
}

fn target() -> Box<dyn FnMut()> {
    Box::new(|| {
        let judged = Target::parse(Method::Get, black_box(b"/index.html?a=b&c=%20d"));
        assert!(judged.is_ok());
    })
}

fn error_page() -> Box<dyn FnMut()> {
    let mut out = Vec::with_capacity(4096);
    Box::new(move || {
        out.clear();
        let shape = Shape { head: false, persist: Persist::Close };
        black_box(encode::answer(&mut out, 400, shape, DATE, b"", "400 Bad Request\n"));
    })
}

// ---- bodies

/// Fifteen times 1 KiB of content, each between what begins and what ends a chunk.
fn relayed(framing: Framing, begin: &[u8], end: &[u8], chunks: Chunks) -> Box<dyn FnMut()> {
    let input = [begin, &[b'x'; 1024], end].concat().repeat(15);
    let mut pool = BufferPool::new(HEADROOM + 16 * 1024, 4);
    let (mut flow, mut scratch) = (Flow::default(), Vec::new());
    Box::new(move || {
        let mut body = Body::new(framing);
        flow.room(&mut pool, Size::Small)[..input.len()].copy_from_slice(&input);
        flow.filled(input.len());
        let mut taken = 0;
        assert!(relay(&mut body, (&mut flow, &mut pool), chunks, u64::MAX, &mut scratch, &mut taken).is_ok());
        flow.clear();
    })
}

fn chunk_line() -> Box<dyn FnMut()> {
    Box::new(|| assert_eq!(chunk::parse_line(black_box(b"4000")), Ok(0x4000)))
}

fn write_chunk_line() -> Box<dyn FnMut()> {
    Box::new(|| {
        black_box(chunk::Line::of(black_box(0x4000)).as_bytes());
    })
}

fn trailers() -> Box<dyn FnMut()> {
    let mut out = Vec::with_capacity(4096);
    Box::new(move || {
        out.clear();
        let section = b"Server-Timing: db;dur=53\r\nContent-Length: 7\r\nX-Checksum: 0123456789abcdef\r\n\r\n";
        assert!(trailer::filter(black_box(section), &mut out).is_ok());
    })
}

// ---- flows

fn flow_passes() -> Box<dyn FnMut()> {
    let mut pool = BufferPool::new(HEADROOM + 16 * 1024, 4);
    let mut flow = Flow::default();
    Box::new(move || {
        black_box(flow.room(&mut pool, Size::Small));
        flow.filled(1024);
        flow.pass(1024);
        flow.sent(black_box(flow.ready()).len());
        flow.rest(&mut pool);
    })
}

fn flow_rewrites() -> Box<dyn FnMut()> {
    let mut pool = BufferPool::new(HEADROOM + 16 * 1024, 4);
    let mut flow = Flow::default();
    let longer = [REQUEST, &[b'x'; 100]].concat();
    Box::new(move || {
        black_box(flow.room(&mut pool, Size::Small));
        flow.filled(REQUEST.len());
        assert!(flow.rewrite(REQUEST.len(), black_box(&longer)).is_ok());
        flow.sent(black_box(flow.ready()).len());
        flow.rest(&mut pool);
    })
}

// ---- what the loop keeps

fn idle_pool() -> Box<dyn FnMut()> {
    let mut pool = IdlePool::new(3, 64);
    for slot in 0..32 {
        pool.put(1, Idle { slot, since: 0, from: 0, until: 1000 });
    }
    Box::new(move || {
        black_box(pool.put(1, Idle { slot: 99, since: 0, from: 0, until: 1000 }));
        assert!(black_box(pool.take(1, 500)).is_some());
    })
}

/// A tick of the wheel: a deadline is entered, and the one from ten seconds ago comes due.
fn wheel() -> Box<dyn FnMut()> {
    let (mut now, mut due, mut wheel) = (0, Vec::new(), Wheel::new(0));
    let mut tick = move || {
        now += 1 << 16;
        wheel.insert(Entry { at: now + 10_000_000, slot: 1, generation: 1 });
        wheel.expire(now, &mut due);
        black_box(wheel.next());
        due.clear();
    };
    (0..2000).for_each(|_| tick());
    Box::new(tick)
}

fn buffers() -> Box<dyn FnMut()> {
    let mut pool = BufferPool::new(HEADROOM + 16 * 1024, 4);
    Box::new(move || {
        let buffer = black_box(pool.take(Size::Small));
        pool.give(buffer);
    })
}

// ---- choosing a server

fn loads(count: u64, uniform: bool) -> Vec<Load> {
    let load =
        |i: u64| Load::new((i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15), if uniform { 100 } else { 100 + i as u32 });
    let mut loads: Vec<Load> = (0..count).map(load).collect();
    loads.iter_mut().zip(0..).for_each(|(load, i)| load.observe(1000 + i, i));
    loads
}

fn pick(method: Choose, count: u64, uniform: bool) -> Box<dyn FnMut()> {
    let (loads, mut choice) = (loads(count, uniform), Choice::new(method, count as usize, 0, 1));
    let mut asked = Wanted { now: 1_000_000, ..Wanted::default() };
    Box::new(move || {
        asked.key = asked.key.wrapping_add(0x2545_f491_4f6c_dd1d);
        black_box(choice.pick(black_box(&loads), uniform, &asked));
    })
}

fn observe() -> Box<dyn FnMut()> {
    let (mut load, mut now) = (Load::new(1, 100), 0);
    Box::new(move || {
        now += 10;
        black_box(&mut load).observe(1000, now);
    })
}

fn sticky() -> Box<dyn FnMut()> {
    let sticky = Sticky::new("srv", b"sixteen secrets!", 0..3);
    let mut field = Vec::new();
    sticky.set(&mut field, 2);
    let cookie =
        [b"a=b; session=0123456789abcdef; ", &field[12..field.iter().position(|b| *b == b';').unwrap_or(0)]].concat();
    Box::new(move || assert_eq!(sticky.find([black_box(&cookie[..])].into_iter()), Some(2)))
}

fn date(step: u64) -> Box<dyn FnMut()> {
    let (mut line, mut unix) = (DateLine::new(), 1_700_000_000_000_000);
    Box::new(move || {
        unix += step;
        black_box(line.at(unix));
    })
}

fn path() -> Box<dyn FnMut()> {
    let mut path = RelativePath::default();
    Box::new(move || assert_eq!(path.decode(black_box(b"/static/css/a%20name/site.css")), Ok(())))
}

// ---- the log

fn record() -> AccessRecord {
    let mut record = AccessRecord::new(1_700_000_000_000_000, peer());
    record.set(Text::Line, b"GET /index.html?a=b HTTP/1.1");
    record.set(Text::Host, b"www.example.com");
    record.set(Text::UserAgent, b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0)");
    (record.status, record.server, record.attempts) = (200, Some(1), 1);
    record
}

fn hand_over() -> Box<dyn FnMut()> {
    let (record, (mut log, mut outlet)) = (record(), ring(4096));
    Box::new(move || {
        log.record(black_box(&record));
        outlet.begin();
        assert_eq!(outlet.take(1, |_| {}), 1);
    })
}

fn log_line(format: Format) -> Box<dyn FnMut()> {
    let servers: Vec<String> = (0..3).map(|i| format!("10.0.0.{i}:80")).collect();
    let (record, mut formatter, mut out) = (record(), Formatter::new(format, &servers), Vec::with_capacity(4096));
    Box::new(move || {
        out.clear();
        formatter.render(black_box(&record), &mut out);
        black_box(&out);
    })
}
