//! Limits of time, size and number, each with what happens at it.

use crate::house::{Start, eventually, proxy};
use crate::server::{Server, Then};
use crate::wire::{End, Wire, get};
use std::io::Write;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn a_head_that_comes_drop_by_drop_is_answered_with_408() {
    let server = Server::named("a");
    let mut proxy = proxy(&[&server], "--client-head-timeout 300ms");
    let mut client = proxy.client();
    let mut sender = client.socket.twin();
    let dripping = thread::spawn(move || {
        let _ = sender.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n");
        // A new field every few milliseconds, for as long as somebody takes it: it never stalls and never ends.
        while sender.write_all(b"X: y\r\n").is_ok() {
            thread::sleep(Duration::from_millis(20));
        }
    });
    let answer = client.answer();
    assert_eq!((answer.status, answer.says_close()), (408, true));
    assert_eq!(answer.text(), "408 Request Timeout: client-head-timeout\n");
    drop(client);
    dripping.join().unwrap();
    assert!(server.heads().is_empty());
    proxy.stop();
    let line = &proxy.log(1)[0];
    assert_eq!((line.status.as_str(), line.end.as_str()), ("408", "client-head-timeout"));
}

#[test]
fn a_connection_that_says_nothing_is_closed_without_a_word() {
    let server = Server::named("a");
    let mut proxy = proxy(&[&server], "--client-head-timeout 200ms --client-idle-timeout 200ms");
    proxy.client().expect_end();
    let mut client = proxy.client();
    assert_eq!(client.get("/").status, 200);
    client.expect_end();
    // Nobody asked for anything, so there is nothing to answer or to log.
    proxy.stop();
    assert_eq!(proxy.log(1).len(), 1);
}

#[test]
fn slow_heads_on_many_connections_do_not_slow_others() {
    let server = Server::named("a");
    let proxy = proxy(&[&server], "--client-head-timeout 500ms");
    let mut slow: Vec<_> = (0..200)
        .map(|_| {
            let mut client = proxy.client();
            client.send("GET / HTTP/1.1\r\nHost: a\r\nX: ");
            client
        })
        .collect();
    let mut good = proxy.client();
    (0..100).for_each(|_| assert_eq!(good.get("/").status, 200));
    for client in &mut slow {
        assert_eq!(client.answer().status, 408);
    }
    assert_eq!(good.get("/").status, 200);
    drop(slow);
    eventually("all of them are gone", || (proxy.open_files() < 30).then_some(()));
}

#[test]
fn a_body_that_stalls_is_answered_with_408() {
    let server = Server::start(|visit| {
        visit.body();
        Then::Close
    });
    let mut proxy = proxy(&[&server], "--client-body-timeout 200ms");
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf");
    let answer = client.answer();
    assert_eq!((answer.status, answer.says_close()), (408, true));
    proxy.stop();
    assert_eq!(proxy.log(1)[0].end, "client-body-timeout");
}

#[test]
fn a_client_that_does_not_take_its_answer_is_cut_off() {
    let (tell, told) = channel();
    let server = Server::start(move |visit| {
        visit.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
        let cut = crate::wire::pour(&mut visit.wire.socket, 1, 1_000_000_000, crate::house::PATIENCE, &mut |_| false);
        tell.send(cut.is_err()).unwrap();
        Then::Close
    });
    let mut proxy = proxy(&[&server], "--client-write-timeout 300ms");
    let mut client = proxy.client();
    client.send(get("/"));
    assert!(told.recv().unwrap(), "the server should be told that nobody listens");
    let end = client.try_answer(false).unwrap_err();
    assert!(matches!(end, End::Cut | End::Reset), "{end:?}");
    proxy.stop();
    assert_eq!(proxy.log(1)[0].end, "client-write-timeout");
}

#[test]
fn sizes_have_their_statuses() {
    let server = Server::named("a");
    let mut proxy = proxy(&[&server], "--max-head 4k --max-target 2k --max-fields 10 --max-body 1k");
    let field = |n: usize| format!("X: {}\r\n", "x".repeat(n));
    let cases = [
        (format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(2000)), 200, "done"),
        (format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(2100)), 414, "target-too-long"),
        (format!("GET /{}", "x".repeat(100_000)), 414, "target-too-long"),
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", field(3900)), 200, "done"),
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", field(4100)), 431, "head-too-large"),
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{}", field(100_000)), 431, "head-too-large"),
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", field(1).repeat(9)), 200, "done"),
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", field(1).repeat(10)), 431, "head-too-large"),
        (format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1024\r\n\r\n{}", "x".repeat(1024)), 200, "done"),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1025\r\n\r\n".to_owned(), 413, "body-too-large"),
        (
            format!(
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n401\r\n{}\r\n0\r\n\r\n",
                "x".repeat(1025)
            ),
            413,
            "body-too-large",
        ),
    ];
    for (request, status, _) in &cases {
        let mut client = proxy.client();
        let mut sender = client.socket.twin();
        let bytes = request.clone();
        let sending = thread::spawn(move || sender.write_all(bytes.as_bytes()).is_ok());
        let answer = client.answer();
        assert_eq!(answer.status, *status, "{}", &request[..60]);
        assert_eq!(answer.says_close(), *status != 200);
        drop(client);
        sending.join().unwrap();
    }
    proxy.stop();
    for (line, (request, _, end)) in proxy.log(cases.len()).iter().zip(&cases) {
        assert_eq!(line.end.split('(').next(), Some(*end), "{}", &request[..60]);
    }
}

#[test]
fn an_answers_head_has_a_limit_too() {
    let server = Server::start(|visit| {
        let size = visit.head.number() as usize;
        visit.reply_with("200 OK", &format!("X: {}\r\n", "x".repeat(size)), "ok")
    });
    let proxy = proxy(&[&server], "--max-response-head 8k");
    let mut client = proxy.client();
    for (size, status) in [(8000, 200), (8200, 502), (60_000, 502), (10, 200)] {
        assert_eq!(client.get(&format!("/{size}")).status, status, "{size}");
    }
}

#[test]
fn clients_over_the_limit_wait_for_a_place_while_all_others_are_busy() {
    let server = Server::named("a");
    let proxy = proxy(&[&server], "--max-connections 2");
    let mut first = proxy.client();
    let mut second = proxy.client();
    assert_eq!((first.get("/").status, second.get("/").status), (200, 200));
    // In the middle of a request nobody is idle.
    first.send("GET / HTTP/1.1\r\n");
    second.send("GET / HTTP/1.1\r\n");
    let mut third = proxy.client();
    third.send(get("/third"));
    for _ in 0..50 {
        first.send("Host: a\r\n\r\nGET / HTTP/1.1\r\n");
        assert_eq!(first.answer().status, 200);
    }
    assert_eq!(third.peek(), 0);
    assert!(server.heads().iter().all(|head| head.target() == "/"));
    drop(first);
    assert_eq!(third.answer().status, 200);
    drop((second, third));
    // Again and again: no place is ever lost.
    for _ in 0..20 {
        let mut pair = [proxy.client(), proxy.client()];
        assert!(pair.iter_mut().all(|client| client.get("/").status == 200));
    }
}

#[test]
fn the_client_that_is_idle_the_longest_makes_room() {
    let server = Server::named("a");
    let proxy = proxy(&[&server], "--max-connections 3");
    let mut clients: Vec<_> = (0..3).map(|_| proxy.client()).collect();
    assert!(clients.iter_mut().all(|client| client.get("/").status == 200));
    clients[1].send("GET / HTTP/1.1\r\n");
    assert_eq!(clients[0].get("/").status, 200);
    // The second one is busy, the first one was served just now.
    let mut newcomer = proxy.client();
    assert_eq!(newcomer.get("/").status, 200);
    clients[2].expect_end();
    clients[1].send("Host: a\r\n\r\n");
    assert_eq!((clients[1].answer().status, clients[0].get("/").status), (200, 200));
}

/// With 40 descriptors and the limit that follows from them, everybody gets an answer, one after the other.
#[test]
fn a_hundred_clients_with_few_descriptors_are_all_served() {
    let server = Server::named("a");
    let proxy = Start::proxy().to(&[&server]).open_files(40).run();
    let clients: Vec<_> = (0..100).map(|_| proxy.client()).collect();
    let served: Vec<_> = clients
        .into_iter()
        .map(|mut client| thread::spawn(move || client.get("/").status))
        .collect::<Vec<_>>()
        .into_iter()
        .map(|client| client.join().unwrap())
        .collect();
    assert!(served.iter().all(|status| *status == 200), "{served:?}");
}

/// Accepting pauses without spinning, who has a place is served or told to come again, and when it is over everything is as before.
#[test]
fn descriptors_that_run_out_are_survived_without_spinning() {
    let server = Server::named("a");
    let proxy = proxy(&[&server], "--client-head-timeout 5m");
    let mut early = proxy.client();
    assert_eq!(early.get("/").status, 200);
    // Once it serves, so that no limit of clients follows from it.
    proxy.limit_open_files(40);
    let clients: Vec<_> = (0..100).map(|_| proxy.client()).collect();
    eventually("all descriptors are in use", || (proxy.open_files() >= 39).then_some(()));
    // Nothing happens now, so nothing should be done.
    let (before, since) = (proxy.cpu(), Instant::now());
    thread::sleep(Duration::from_secs(1));
    let (used, passed) = (proxy.cpu() - before, since.elapsed());
    assert!(used < passed / 4, "{used:?} of {passed:?}");
    // Who was there before may have had to make room, as it was idle.
    early.send(get("/"));
    let status = early.try_answer(false).map_or(0, |answer| answer.status);
    assert!([0, 200, 503].contains(&status), "{status}");
    let asking: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            thread::spawn(move || {
                client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
                client.answer().status
            })
        })
        .collect();
    let statuses: Vec<_> = asking.into_iter().map(|client| client.join().unwrap()).collect();
    let served = statuses.iter().filter(|status| **status == 200).count();
    assert!(statuses.iter().all(|status| [200, 503].contains(status)), "{statuses:?}");
    assert!(served >= 1, "{statuses:?}");
    drop(early);
    eventually("it is as before", || (proxy.client().get("/").status == 200).then_some(()));
    let mut client: Wire = proxy.client();
    (0..20).for_each(|_| assert_eq!(client.get("/").status, 200));
}

#[test]
fn unused_connections_to_servers_make_way_for_new_clients() {
    let servers: Vec<_> = (0..20).map(|_| Server::named("a")).collect();
    let servers: Vec<_> = servers.iter().collect();
    let proxy = proxy(&servers, "--upstream-idle-timeout 1h --client-idle-timeout 1h");
    let mut first = proxy.client();
    assert!((0..20).all(|_| first.get("/").status == 200));
    // Once it serves, so that no limit of clients follows from it.
    proxy.limit_open_files(proxy.open_files() as u64);
    let mut clients: Vec<_> = (0..10).map(|_| proxy.client()).collect();
    assert!(clients.iter_mut().all(|client| [200, 503].contains(&client.get("/").status)));
}

#[test]
fn unused_connections_to_servers_make_way_when_descriptors_run_out() {
    // Each of these servers would have its idle connection kept, and there are not enough descriptors for all of them.
    let servers: Vec<_> = (0..40).map(|_| Server::named("a")).collect();
    let servers: Vec<_> = servers.iter().collect();
    let proxy = Start::proxy().to(&servers).open_files(40).run();
    let mut client = proxy.client();
    let statuses: Vec<_> = (0..80).map(|_| client.get("/").status).collect();
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
}
