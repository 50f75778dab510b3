//! What each pure part of an exchange costs: parsing, rewriting, relaying, the whole exchange without sockets, the log.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pilb::access_log::{Format, Formatter};
use pilb::base::{BufferPool, Now, Peer};
use pilb::engine::flow::HEADROOM;
use pilb::engine::record::Part;
use pilb::engine::{AccessLog, AccessRecord, App, Drain, Effects, Flow, Side, Turn, Uplink};
use pilb::http1::field::FieldSpace;
use pilb::http1::response::{self, Asked};
use pilb::http1::{Body, Framing, HeadScan, Limits, request};
use pilb::proxy::relay::{Chunks, relay};
use pilb::proxy::rewrite::{self, Toward};
use pilb::proxy::{Forwarded, Proxy, Settings};
use std::hint::black_box;

const REQUEST: &[u8] = b"GET /index.html?a=b HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0)\r\n\
    Accept: text/html,application/xhtml+xml\r\nAccept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br\r\nConnection: keep-alive\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nServer: bench\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: 1024\r\nETag: \"abc\"\r\n\r\n";

fn peer() -> Peer {
    Peer::Ip(([192, 0, 2, 7], 50000).into())
}

fn heads(c: &mut Criterion) {
    let mut group = c.benchmark_group("head");
    group.throughput(Throughput::Elements(1));
    group.bench_function("scan", |b| b.iter(|| HeadScan::default().end(black_box(REQUEST))));
    group.bench_function("parse request", |b| {
        b.iter(|| {
            let mut space = FieldSpace::new();
            request::parse(black_box(REQUEST), &mut space, &Limits::REQUEST).map(|head| head.persist)
        });
    });
    let mut out = Vec::with_capacity(4096);
    group.bench_function("parse and rewrite request", |b| {
        b.iter(|| {
            out.clear();
            let mut space = FieldSpace::new();
            if let Ok(head) = request::parse(black_box(REQUEST), &mut space, &Limits::REQUEST) {
                rewrite::request(&mut out, &head, peer(), Forwarded::Append, "fallback");
            }
            out.len()
        });
    });
    group.bench_function("parse and rewrite response", |b| {
        let toward = Toward { persist: pilb::http1::encode::Persist::Silent, strip_chunks: false };
        b.iter(|| {
            out.clear();
            let mut space = FieldSpace::new();
            let asked = Asked { head: false, upgrade: false };
            if let Ok(head) = response::parse(black_box(RESPONSE), &mut space, &Limits::RESPONSE, asked) {
                rewrite::response(&mut out, &head, toward, b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n");
            }
            out.len()
        });
    });
    group.finish();
}

fn bodies(c: &mut Criterion) {
    let mut group = c.benchmark_group("relay 16 KiB");
    let chunk = [b"400\r\n".to_vec(), vec![b'x'; 1024], b"\r\n".to_vec()].concat();
    let extended = [b"0400;a=b\r\n".to_vec(), vec![b'x'; 1024], b"\r\n".to_vec()].concat();
    let inputs = [
        ("length", Framing::Length(u64::MAX), vec![b'x'; 15 * 1024]),
        ("canonical chunks", Framing::Chunked, chunk.repeat(15)),
        ("chunks with extensions", Framing::Chunked, extended.repeat(15)),
    ];
    let mut pool = BufferPool::new(HEADROOM + 16 * 1024, 4);
    for (name, framing, input) in inputs {
        group.throughput(Throughput::Bytes(input.len() as u64));
        let (mut flow, mut scratch) = (Flow::default(), Vec::new());
        group.bench_function(name, |b| {
            b.iter(|| {
                let mut body = Body::new(framing);
                flow.room(&mut pool)[..input.len()].copy_from_slice(&input);
                flow.filled(input.len());
                let mut taken = 0;
                let relayed = relay(&mut body, &mut flow, Chunks::Keep, &mut scratch, &mut taken);
                flow.clear();
                relayed.is_ok()
            });
        });
    }
    group.finish();
}

/// Counts records.
struct Count(u64);

impl AccessLog for Count {
    fn record(&mut self, _: &AccessRecord) {
        self.0 += 1;
    }
}

/// A whole keep-alive exchange as the loop drives it, without the system calls.
fn exchange(c: &mut Criterion) {
    let mut app = Proxy::new(Settings::default(), vec!["a".into(), "b".into(), "c".into()], 0);
    let mut pool = BufferPool::new(HEADROOM + 16 * 1024, 4);
    let now = Now { mono: 1_000_000, unix: 1_700_000_000_000_000 };
    let mut session = app.open(peer(), now);
    let (mut up, mut down, mut log) = (Flow::default(), Flow::default(), Count(0));
    let answer = [RESPONSE.to_vec(), vec![b'x'; 1024]].concat();
    let mut advance = |up: &mut Flow, down: &mut Flow, uplink: Uplink| {
        let mut turn = Turn {
            now,
            up,
            down,
            client: Side::Open,
            uplink,
            expired: false,
            drain: Drain::No,
            pool: &mut pool,
            log: &mut log,
            effects: Effects::default(),
        };
        app.advance(&mut session, &mut turn);
        turn.effects
    };
    let mut spare = BufferPool::new(HEADROOM + 16 * 1024, 4);
    c.bench_function("exchange without sockets", |b| {
        b.iter(|| {
            up.room(&mut spare)[..REQUEST.len()].copy_from_slice(REQUEST);
            up.filled(REQUEST.len());
            advance(&mut up, &mut down, Uplink::None);
            up.sent(up.ready().len());
            down.room(&mut spare)[..answer.len()].copy_from_slice(&answer);
            down.filled(answer.len());
            advance(&mut up, &mut down, Uplink::Linked { reused: true, side: Side::Open });
            down.sent(down.ready().len());
            advance(&mut up, &mut down, Uplink::None);
            up.rest(&mut spare);
            down.rest(&mut spare);
        });
    });
    assert!(log.0 > 0, "no exchange was completed");
}

fn access_log(c: &mut Criterion) {
    let mut record = AccessRecord::new(1_700_000_000_000_000, peer());
    record.set(Part::Line, b"GET /index.html?a=b HTTP/1.1");
    record.set(Part::Host, b"www.example.com");
    record.set(Part::UserAgent, b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0)");
    (record.status, record.server, record.attempts) = (200, Some(1), 1);
    let servers: Vec<String> = (0..3).map(|i| format!("10.0.0.{i}:80")).collect();
    let mut group = c.benchmark_group("log line");
    group.throughput(Throughput::Elements(1));
    for (name, format) in [("pilb", Format::Pilb), ("combined", Format::Combined), ("json", Format::Json)] {
        let (mut formatter, mut out) = (Formatter::new(format, &servers), Vec::with_capacity(4096));
        group.bench_function(name, |b| {
            b.iter(|| {
                out.clear();
                formatter.render(black_box(&record), &mut out);
                out.len()
            });
        });
    }
    let (mut log, mut outlet) = pilb::access_log::ring::ring(4096);
    group.bench_function("hand over", |b| {
        b.iter(|| {
            log.record(black_box(&record));
            outlet.begin();
            outlet.take(1, |_| {})
        });
    });
    group.finish();
}

criterion_group!(benches, heads, bodies, exchange, access_log);
criterion_main!(benches);
