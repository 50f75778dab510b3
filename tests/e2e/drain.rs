//! The end under load: no request that was sent goes without its answer, and whoever idles is sent home.

use crate::house::{Program, Signal, eventually, proxy};
use crate::server::{Server, Then};
use crate::wire::{Framing, Wire, get, post};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread;

const PATIENT: &str = "--client-head-timeout 5m";

/// New clients are refused: it has begun to end.
fn ends(proxy: &Program) {
    eventually("new clients are refused", || proxy.address().connect().is_err().then_some(()));
}

/// A server with every kind of answer: of known length, in chunks, and until its connection's end.
fn server() -> Server {
    Server::start(|visit| {
        let body = visit.body();
        match visit.head.number() % 8 {
            0..4 => visit.reply("200 OK", if body.is_empty() { b"length".to_vec() } else { body }),
            4..6 => visit.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nchunks\r\n0\r\n\r\n"),
            6 => visit.reply("304 Not Modified", ""),
            _ => visit.reply("200 OK", vec![b'x'; 200_000]),
        }
    })
}

/// Sends one request after the other until it is told that the connection closes. Returns how many there were.
fn go_on(mut client: Wire, answers: &AtomicUsize) -> usize {
    for nth in 0.. {
        let target = format!("/{nth}");
        let answer = if nth % 3 == 1 { client.post(&target, &vec![b'y'; nth * 100]) } else { client.get(&target) };
        assert!(matches!(answer.status, 200 | 304), "{answer:?}");
        answers.fetch_add(1, Ordering::SeqCst);
        if answer.says_close() {
            client.expect_end();
            return nth + 1;
        }
    }
    unreachable!()
}

#[test]
fn clients_that_never_pause_get_an_answer_to_each_request() {
    const CLIENTS: usize = 12;
    for round in 0..3 {
        let servers = [server(), server()];
        let mut proxy = proxy(&[&servers[0], &servers[1]], &format!("--workers 2 {PATIENT}"));
        let answers = AtomicUsize::new(0);
        let total: usize = thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS)
                .map(|_| {
                    let client = proxy.client();
                    let answers = &answers;
                    scope.spawn(move || go_on(client, answers))
                })
                .collect();
            eventually("all run", || (answers.load(Ordering::SeqCst) >= CLIENTS * (10 + 7 * round)).then_some(()));
            proxy.signal(Signal::TERM);
            clients.into_iter().map(|client| client.join().unwrap()).sum()
        });
        let ended = proxy.wait();
        assert_eq!((ended.code(), ended.log_totals()), (0, (total as u64, 0)));
        let lines = proxy.log(total);
        assert!(lines.iter().all(|line| line.end == "done"), "{lines:#?}");
        let seen: usize = servers.iter().map(|server| server.heads().len()).sum();
        assert_eq!(seen, total, "each reached a server, once");
    }
}

#[test]
fn who_is_about_to_send_when_it_ends_is_still_served() {
    let server = Server::named("a");
    let mut proxy = proxy(&[&server], &format!("--workers 2 {PATIENT}"));
    let mut clients: Vec<Wire> = (0..20).map(|_| proxy.client()).collect();
    // Half of them have had a request before, half have never sent a byte.
    assert!(clients[..10].iter_mut().all(|client| client.get("/").status == 200));
    proxy.while_stopped(|| {
        proxy.signal(Signal::TERM);
        clients.iter_mut().for_each(|client| client.send(get("/last")));
    });
    // A worker may have served some before it was told.
    for client in &mut clients {
        assert_eq!(client.answer().status, 200);
        client.expect_end();
    }
    let ended = proxy.wait();
    assert_eq!((ended.code(), ended.log_totals()), (0, (30, 0)));
}

#[test]
fn one_request_is_served_after_the_signal_and_idle_clients_are_closed() {
    let server = Server::named("a");
    let mut proxy = proxy(&[&server], PATIENT);
    let (mut idle, mut silent, mut last) = (proxy.client(), proxy.client(), proxy.client());
    assert_eq!(idle.get("/").status, 200);
    assert_eq!(last.get("/").status, 200);
    proxy.signal(Signal::TERM);
    ends(&proxy);
    last.send(get("/last"));
    // On a busy machine it may have come too late, and then there is no answer at all.
    match last.try_answer(false) {
        Ok(answer) => {
            assert_eq!((answer.status, answer.says_close()), (200, true));
            last.expect_end();
        }
        Err(end) => assert_eq!(server.heads().len(), 2, "{end:?}"),
    }
    idle.expect_end();
    silent.expect_end();
    assert_eq!(proxy.wait().code(), 0);
}

#[test]
fn an_old_client_that_keeps_its_connection_is_told_as_well() {
    let server = Server::named("a");
    let mut proxy = proxy(&[&server], PATIENT);
    let mut client = proxy.client();
    let request = "GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n";
    client.send(request);
    assert_eq!(client.answer().field("connection"), Some("keep-alive"));
    proxy.while_stopped(|| {
        proxy.signal(Signal::TERM);
        client.send(request);
    });
    let answer = client.answer();
    // The worker may not have been told yet.
    assert!(matches!(answer.field("connection"), Some("close" | "keep-alive")));
    client.expect_end();
    assert_eq!(proxy.wait().code(), 0);
}

#[test]
fn uploads_that_run_over_many_clients_are_finished() {
    let server = Server::named("a");
    let mut proxy = proxy(&[&server], &format!("--workers 2 {PATIENT}"));
    let request = post("/", &[b'z'; 100_000]);
    let (first, rest) = request.split_at(50_000);
    let mut clients: Vec<Wire> = (0..20).map(|_| proxy.client()).collect();
    clients.iter_mut().for_each(|client| client.send(first));
    eventually("all have arrived", || (server.heads().len() == 20).then_some(()));
    proxy.signal(Signal::TERM);
    ends(&proxy);
    for client in &mut clients {
        client.send(rest);
        let answer = client.answer();
        assert_eq!((answer.body.len(), answer.says_close()), (100_000, true));
    }
    assert_eq!(proxy.wait().code(), 0);
}

#[test]
fn who_has_not_even_said_whom_it_speaks_for_does_not_hold_up_the_end() {
    let server = Server::named("a");
    let args = "--proxy-protocol 127.0.0.1 --drain-timeout 5m";
    let mut proxy = proxy(&[&server], &format!("{args} {PATIENT}"));
    let (mut silent, mut known, mut late) = (proxy.client(), proxy.client(), proxy.client());
    known.send("PROXY TCP4 192.0.2.1 127.0.0.1 1 80\r\n");
    proxy.while_stopped(|| {
        proxy.signal(Signal::TERM);
        late.send(format!("PROXY TCP4 192.0.2.1 127.0.0.1 1 80\r\n{}", get("/")));
    });
    assert_eq!(late.answer().status, 200);
    late.expect_end();
    silent.expect_end();
    known.expect_end();
    assert_eq!(proxy.wait().code(), 0);
}

#[test]
fn a_check_under_way_does_not_hold_up_the_end() {
    let (tell, arrived) = channel();
    let hanging = Server::start(move |visit| {
        tell.send(()).unwrap();
        let _ = visit.wire.body(Framing::UntilClose, &mut |_| {});
        Then::Close
    });
    let mut proxy = proxy(&[&hanging], "--health-check / --health-interval 1h --health-timeout 1h");
    arrived.recv().unwrap();
    let ended = proxy.stop();
    assert!(!ended.stderr.iter().any(|line| line.contains("is down")), "{ended:?}");
}
