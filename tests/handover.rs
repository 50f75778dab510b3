//! Two workers in the hands of one thread, so that a client is where a test wants it: on its way from one to the other.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test says so by failing")]

use pilb::base::Address;
use pilb::engine::{AccessLog, AccessRecord};
use pilb::net::listen::{Options, listen};
use pilb::net::sys::{Listener, Sys};
use pilb::net::{Command, Remote, Settings as NetSettings, Share, Worker};
use pilb::origin::{DemoStore, Origin, Settings};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";

struct NoLog;

impl AccessLog for NoLog {
    fn record(&mut self, _: &AccessRecord) {}
}

/// Two workers that share clients; the first has the only listener, and is the giver.
struct World {
    giver: Worker<Origin<DemoStore>, Sys>,
    taker: Worker<Origin<DemoStore>, Sys>,
    /// Of the taker.
    remote: Remote,
    address: SocketAddr,
}

fn world(listeners: Vec<Listener>) -> (Sys, Remote) {
    let sys = Sys::new(listeners, Instant::now()).unwrap();
    let waker = sys.waker();
    (sys, Remote::new(move || waker.wake().unwrap()))
}

impl World {
    fn new() -> World {
        let anywhere = Address::Tcp("127.0.0.1:0".parse().unwrap());
        let listener = listen(&anywhere, Options { backlog: 8, reuse_port: false }).unwrap();
        let Address::Tcp(address) = listener.address().unwrap() else { panic!("not TCP") };
        let worlds = [world(vec![listener]), world(Vec::new())];
        let remotes = worlds.each_ref().map(|(_, remote)| remote.clone());
        let mut shares = Share::among(&remotes).into_iter();
        let [giver, taker] = worlds.map(|(sys, remote)| {
            let settings = NetSettings {
                buffer: 16384,
                buffers: usize::MAX,
                max_sessions: 8,
                idle_per_server: 0,
                drain: 60_000_000,
                linger: 60_000_000,
            };
            let app = Origin::new(DemoStore::new("origin"), Settings::default());
            Worker::new(app, sys, Vec::new(), Box::new(NoLog), remote, settings).sharing(shares.next())
        });
        let [_, remote] = remotes;
        World { giver, taker, remote, address }
    }

    /// Clients that have sent a request.
    fn clients<const N: usize>(&self) -> [TcpStream; N] {
        [(); N].map(|()| {
            let mut client = TcpStream::connect(self.address).unwrap();
            client.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
            client.write_all(REQUEST).unwrap();
            client
        })
    }
}

/// Reads an answer and whether the connection ends behind it.
fn answer(client: &mut TcpStream, ends: bool) -> String {
    let (mut text, mut buffer) = (String::new(), [0; 4096]);
    while ends || !text.ends_with("answer)\n") {
        match client.read(&mut buffer).unwrap() {
            0 => break,
            n => text += std::str::from_utf8(&buffer[..n]).unwrap(),
        }
    }
    assert!(text.starts_with("HTTP/1.1 200 ") && text.ends_with("answer)\n"), "{text}");
    assert_eq!(text.contains("Connection: close\r\n"), ends, "{text}");
    text
}

#[test]
fn who_is_handed_over_is_served_by_the_other() {
    let mut world = World::new();
    let [mut first, mut second] = world.clients();
    world.giver.step().unwrap();
    // Of two clients at one worker, the second goes to the other.
    world.taker.step().unwrap();
    answer(&mut second, false);
    answer(&mut first, false);
}

#[test]
fn who_is_on_the_way_when_a_worker_is_told_to_drain_is_served() {
    let mut world = World::new();
    let [_first, second, _third, fourth] = world.clients();
    world.giver.step().unwrap();
    // The taker learns of both at once.
    world.remote.tell(Command::Drain);
    while world.taker.step().unwrap() {}
    [second, fourth].iter_mut().for_each(|client| drop(answer(client, true)));
}

#[test]
fn a_worker_that_has_ended_gets_nobody() {
    let mut world = World::new();
    world.remote.tell(Command::Drain);
    assert!(!world.taker.step().unwrap());
    let mut clients: [_; 4] = world.clients();
    world.giver.step().unwrap();
    clients.iter_mut().for_each(|client| drop(answer(client, false)));
}

#[test]
fn told_to_stop_a_worker_closes_who_is_on_the_way() {
    let mut world = World::new();
    let [_first, mut second] = world.clients();
    world.giver.step().unwrap();
    world.remote.tell(Command::Stop);
    while world.taker.step().unwrap() {}
    drop(world.taker);
    // With what could be answered at once, or with a reset as its request was not read: it is not left waiting.
    let end = second.read_to_end(&mut Vec::new());
    assert!(end.as_ref().map_or_else(|error| error.kind() == ErrorKind::ConnectionReset, |_| true), "{end:?}");
}
