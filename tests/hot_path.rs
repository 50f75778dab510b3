//! The hot path's rules that a test can hold (strace holds the rest, see `loadtest/syscalls`): no allocation per request in the
//! whole worker, real sockets included, and small idle sessions.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test says so by failing")]

use pilb::base::{Address, Peer};
use pilb::engine::{AccessLog, AccessRecord};
use pilb::net::listen::{Options, listen};
use pilb::net::sys::Sys;
use pilb::net::{Remote, Settings as NetSettings, Worker};
use pilb::proxy::ledger::Block;
use pilb::proxy::{Proxy, Settings};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Instant;

const REQUEST: &[u8] = b"GET /x HTTP/1.1\r\nHost: a.example\r\nUser-Agent: test\r\nAccept: */*\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello";

struct NoLog;

impl AccessLog for NoLog {
    fn record(&mut self, _: &AccessRecord) {}
}

/// A worker between a client and a server, all driven by one thread, so that every allocation is counted.
struct World {
    worker: Worker<Proxy, Sys>,
    server: TcpListener,
    client: TcpStream,
}

impl World {
    fn new() -> World {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        server.set_nonblocking(true).unwrap();
        let anywhere = Address::Tcp("127.0.0.1:0".parse().unwrap());
        let listener = listen(&anywhere, Options { backlog: 8, reuse_port: false }).unwrap();
        let Address::Tcp(address) = listener.address().unwrap() else { panic!("not TCP") };
        let io = Sys::new(vec![listener], Instant::now()).unwrap();
        let settings = NetSettings {
            buffer: 16384,
            buffers: usize::MAX,
            max_sessions: 8,
            idle_per_server: 8,
            drain: 1_000_000,
            linger: 1_000_000,
        };
        let app = Proxy::new(Settings::default(), vec!["server".into()], 0).publishing(Some(Arc::new(Block::new(1))));
        let servers = vec![Address::Tcp(server.local_addr().unwrap())];
        let worker = Worker::new(app, io, servers, Box::new(NoLog), Remote::new(|| {}), settings);
        let client = TcpStream::connect(address).unwrap();
        client.set_nonblocking(true).unwrap();
        World { worker, server, client }
    }

    /// One exchange over the connection to the server, which is made by the first one.
    fn exchange(&mut self, upstream: &mut Option<TcpStream>) {
        let mut buffer = [0; 4096];
        self.client.write_all(REQUEST).unwrap();
        // Each step waits for an event, and there is always one to come: the request, the connection, the answer.
        while upstream.is_none() {
            self.worker.step().unwrap();
            *upstream = self.server.accept().ok().map(|(stream, _)| stream);
            upstream.iter().for_each(|stream| stream.set_nonblocking(true).unwrap());
        }
        let server = upstream.as_mut().unwrap();
        let mut got = 0;
        while !buffer[..got].ends_with(b"\r\n\r\n") {
            self.worker.step().unwrap();
            got += server.read(&mut buffer[got..]).unwrap_or(0);
        }
        server.write_all(ANSWER).unwrap();
        let mut got = 0;
        while !buffer[..got].ends_with(b"hello") {
            self.worker.step().unwrap();
            got += self.client.read(&mut buffer[got..]).unwrap_or(0);
        }
    }
}

#[test]
fn a_keep_alive_request_allocates_nothing() {
    let (mut world, mut upstream) = (World::new(), None);
    (0..100).for_each(|_| world.exchange(&mut upstream));
    let counted = allocation_counter::measure(|| (0..200).for_each(|_| world.exchange(&mut upstream)));
    assert_eq!(counted.count_total, 0, "{counted:?}");
    // The counter does count.
    let counted = allocation_counter::measure(|| drop(std::hint::black_box(vec![0u8; 10])));
    assert_eq!(counted.count_total, 1);
}

#[test]
fn an_idle_client_costs_at_most_256_bytes() {
    assert!(
        pilb::net::worker::session_size::<Proxy, Sys>() <= 256,
        "{}",
        pilb::net::worker::session_size::<Proxy, Sys>()
    );
    assert!(size_of::<Peer>() <= 32);
}
