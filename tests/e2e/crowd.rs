//! Many at once: nothing is mixed up, and they are cheap.

use crate::house::{eventually, proxy};
use crate::server::Server;
use crate::wire::{Pattern, post};
use std::io::Write;
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::thread;

/// On a busy machine it takes a while until it is a client's turn.
const PATIENT: &str = "--client-head-timeout 5m";

/// A body that says whose it is in every byte of it.
fn body(client: u64, nth: u64) -> Vec<u8> {
    let seed = client * 1000 + nth;
    Pattern::bytes(seed, 10 + (seed.wrapping_mul(7919) % 40_000) as usize)
}

#[test]
fn two_hundred_clients_get_their_own_bodies_back() {
    let server = Server::named("a");
    let other = Server::named("b");
    let proxy = proxy(&[&server, &other], &format!("--workers 2 {PATIENT}"));
    let clients: Vec<_> = (0..200)
        .map(|id| {
            let mut client = proxy.client();
            thread::spawn(move || {
                for nth in 0..5 {
                    let body = body(id, nth);
                    let mut sender = client.socket.twin();
                    let request = post(&format!("/{id}/{nth}"), &body);
                    let sending = thread::spawn(move || sender.write_all(&request).unwrap());
                    let answer = client.answer();
                    sending.join().unwrap();
                    assert_eq!(answer.status, 200);
                    assert!(answer.body == body, "client {id} got something else as its {nth}th answer");
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    assert_eq!(server.heads().len() + other.heads().len(), 1000);
}

#[test]
fn pipelining_clients_do_not_get_each_others_answers() {
    let server = Server::named("a");
    let proxy = proxy(&[&server], &format!("--workers 2 {PATIENT}"));
    let clients: Vec<_> = (0..30)
        .map(|id| {
            let mut client = proxy.client();
            thread::spawn(move || {
                let mut sender = client.socket.twin();
                let all: Vec<u8> = (0..20).flat_map(|nth| post("/", &body(id, nth))).collect();
                let sending = thread::spawn(move || sender.write_all(&all).unwrap());
                for nth in 0..20 {
                    assert!(client.answer().body == body(id, nth), "client {id}, answer {nth}");
                }
                sending.join().unwrap();
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
}

#[test]
fn a_thousand_idle_clients_are_cheap() {
    let server = Server::named("a");
    let proxy = proxy(&[&server], PATIENT);
    let mut clients: Vec<_> = (0..1000).map(|_| proxy.client()).collect();
    assert!(clients.iter_mut().all(|client| client.get("/").status == 200));
    // Served one after the other, they need one connection to the server.
    assert!(server.connections() < 50, "{}", server.connections());
    assert!(proxy.peak_mib() < 32, "{} MiB", proxy.peak_mib());
    let mut last = proxy.client();
    assert_eq!(last.get("/").status, 200);
}

#[test]
fn the_memory_of_a_burst_is_given_back() {
    const CLIENTS: usize = 600;
    let (go, word) = channel::<()>();
    let word = Mutex::new(word);
    let server = Server::start(move |visit| {
        if visit.head.target() == "/wait" {
            let _ = word.lock().unwrap().recv();
        }
        visit.reply("200 OK", "ok")
    });
    let proxy = proxy(&[&server], &format!("--access-log off {PATIENT}"));
    assert_eq!(proxy.client().get("/").status, 200);
    let before = proxy.memory_kib();
    let mut most = before;
    // First heads that do not end, then requests under way: each fills most of a buffer.
    for (target, end) in [("/", ""), ("/wait", "\r\n\r\n")] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\nX: {}{end}", "x".repeat(15_000));
        let mut clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let mut client = proxy.client();
                client.send(&request);
                client
            })
            .collect();
        let enough = before + 14 * CLIENTS as u64;
        eventually("all have arrived", || (proxy.memory_kib() > enough).then_some(()));
        most = most.max(proxy.memory_kib());
        if target == "/wait" {
            eventually("all have arrived at the server", || (server.heads().len() > CLIENTS).then_some(()));
            (0..CLIENTS).for_each(|_| go.send(()).unwrap());
            assert!(clients.iter_mut().all(|client| client.answer().status == 200));
        }
        drop(clients);
        eventually("all are gone", || (proxy.open_files() < 30).then_some(()));
    }
    // Some buffers are kept for the next ones, and so are the lists of what was there.
    eprintln!("{before} KiB before, {most} at the most, {} right after it", proxy.memory_kib());
    let enough = before + (most - before) / 3;
    eventually("the memory is given back", || (proxy.memory_kib() < enough).then_some(()));
}

#[test]
fn who_is_stuck_in_a_head_costs_little_more_than_what_was_sent() {
    const CLIENTS: usize = 800;
    let server = Server::named("a");
    let proxy = proxy(&[&server], &format!("--access-log off {PATIENT}"));
    let all_served = || {
        let mut clients: Vec<_> = (0..CLIENTS).map(|_| proxy.client()).collect();
        assert!(clients.iter_mut().all(|client| client.get("/").status == 200));
        clients
    };
    // Connections that only idle are what these are measured beside, and what the allocator holds is warm.
    let clients = all_served();
    let idle = proxy.memory_kib();
    drop(clients);
    eventually("all are gone", || (proxy.open_files() < 30).then_some(()));
    let mut clients = all_served();
    for piece in ["GET / HTTP/1.1\r\nHo", "st: a\r\n"] {
        clients.iter_mut().for_each(|client| client.send(piece));
        // Whoever comes after them is served after them.
        assert_eq!(proxy.client().get("/").status, 200);
    }
    let stuck = proxy.memory_kib();
    assert!(stuck < idle + 2 * CLIENTS as u64, "{idle} KiB with idle ones, {stuck} with stuck ones");
    clients.iter_mut().for_each(|client| client.send("\r\n"));
    assert!(clients.iter_mut().all(|client| client.answer().status == 200));
}
