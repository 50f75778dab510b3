//! Servers that may have only so many requests at a time, and the requests that wait for one: their order, their limits, who leaves.

use crate::house::{Program, Signal, Start, eventually, proxy};
use crate::server::{Place, Server, Then};
use crate::wire::{Framing, Wire, get, post};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;

/// A server of which every answer waits for a word, and the two ends of that: this target has arrived, it may be answered.
fn held_server() -> (Server, Receiver<String>, Sender<()>) {
    let (tell, arrived) = channel();
    let (go, word) = channel();
    let word = Mutex::new(word);
    let server = Server::start(move |visit| {
        visit.body();
        let target = visit.head.target().to_owned();
        tell.send(target.clone()).unwrap();
        // No word: the test is over.
        if word.lock().unwrap().recv().is_err() {
            return Then::Close;
        }
        visit.reply("200 OK", target)
    });
    (server, arrived, go)
}

/// What was sent before has been looked at by the only worker: it takes its clients in the order in which they spoke.
fn looked_at(proxy: &Program) {
    let mut client = proxy.client();
    client.send("nonsense\r\n\r\n");
    assert_eq!(client.answer().status, 400);
}

/// A client that asks for this, and waits by the time this returns.
fn waiting(proxy: &Program, target: &str) -> Wire {
    let mut client = proxy.client();
    client.send(get(target));
    looked_at(proxy);
    client
}

#[test]
fn who_waits_is_served_in_the_order_of_coming() {
    let (server, arrived, go) = held_server();
    let mut proxy = proxy(&[&server], "--server-connections 1");
    let mut clients: Vec<Wire> = (0..6).map(|n| waiting(&proxy, &format!("/{n}"))).collect();
    assert_eq!(arrived.recv().unwrap(), "/0");
    for (n, client) in clients.iter_mut().enumerate() {
        assert!(arrived.try_recv().is_err(), "one at a time");
        go.send(()).unwrap();
        assert_eq!(client.answer().text(), format!("/{n}"));
        if n < 5 {
            assert_eq!(arrived.recv().unwrap(), format!("/{}", n + 1));
        }
    }
    drop(clients);
    proxy.stop();
    assert!(proxy.log(12).iter().filter(|line| line.status == "200").all(|line| line.end == "done"));
}

#[test]
fn a_request_with_a_body_waits_as_well() {
    let server = Server::named("a");
    let (held, arrived, go) = held_server();
    drop(server);
    let proxy = proxy(&[&held], "--server-connections 1");
    let mut first = waiting(&proxy, "/first");
    assert_eq!(arrived.recv().unwrap(), "/first");
    let mut second = proxy.client();
    second.send(post("/second", &vec![b'x'; 300_000]).split_at(100).0);
    looked_at(&proxy);
    go.send(()).unwrap();
    assert_eq!(first.answer().status, 200);
    let rest = post("/second", &vec![b'x'; 300_000]);
    second.send(&rest[100..]);
    assert_eq!(arrived.recv().unwrap(), "/second");
    go.send(()).unwrap();
    assert_eq!(second.answer().text(), "/second");
}

#[test]
fn who_waits_for_too_long_is_told_to_come_again() {
    let (server, arrived, go) = held_server();
    let mut proxy = proxy(&[&server], "--server-connections 1 --queue-timeout 100ms");
    let mut first = waiting(&proxy, "/first");
    assert_eq!(arrived.recv().unwrap(), "/first");
    let mut late = proxy.client();
    let answer = late.get("/late");
    assert_eq!((answer.status, answer.field("retry-after").is_some()), (503, true), "{answer:?}");
    assert!(answer.text().contains("queue-timeout"), "{}", answer.text());
    // The one that is served may take its time.
    go.send(()).unwrap();
    assert_eq!(first.answer().status, 200);
    go.send(()).unwrap();
    assert_eq!(proxy.client().get("/next").text(), "/next");
    drop((first, late));
    proxy.stop();
    assert!(proxy.log(4).iter().any(|line| (line.status.as_str(), line.end.as_str()) == ("503", "queue-timeout")));
    let seen: Vec<_> = server.heads().iter().map(|head| head.target().to_owned()).collect();
    assert_eq!(seen, ["/first", "/next"]);
}

#[test]
fn a_full_queue_turns_away_at_once() {
    for queue in [0, 2] {
        let (server, arrived, go) = held_server();
        let start = Start::proxy().to(&[&server]).args("--server-connections 1");
        let mut proxy = start.args(&format!("--queue {queue}")).run();
        let mut clients: Vec<Wire> = (0..=queue).map(|n| waiting(&proxy, &format!("/{n}"))).collect();
        let mut refused = proxy.client();
        let answer = refused.get("/refused");
        assert_eq!((answer.status, answer.field("retry-after").is_some()), (503, true), "{answer:?}");
        assert!(answer.text().contains("queue-full"), "{}", answer.text());
        for client in &mut clients {
            arrived.recv().unwrap();
            go.send(()).unwrap();
            assert_eq!(client.answer().status, 200);
        }
        go.send(()).unwrap();
        assert_eq!(proxy.client().get("/later").status, 200);
        drop((clients, refused));
        proxy.stop();
        assert!(proxy.log(3).iter().any(|line| line.end == "queue-full"));
    }
}

#[test]
fn who_leaves_the_queue_does_not_reach_a_server_nor_keep_a_place() {
    let (server, arrived, go) = held_server();
    let mut proxy = proxy(&[&server], "--server-connections 1 --queue 2");
    let mut first = waiting(&proxy, "/first");
    assert_eq!(arrived.recv().unwrap(), "/first");
    for _ in 0..10 {
        let leaves = waiting(&proxy, "/leaves");
        // Who only ends its own half may still want the answer.
        leaves.socket.reset();
        drop(leaves);
        looked_at(&proxy);
    }
    let mut stays = [waiting(&proxy, "/stays/0"), waiting(&proxy, "/stays/1")];
    go.send(()).unwrap();
    assert_eq!(first.answer().status, 200);
    for (n, client) in stays.iter_mut().enumerate() {
        assert_eq!(arrived.recv().unwrap(), format!("/stays/{n}"));
        go.send(()).unwrap();
        assert_eq!(client.answer().status, 200);
    }
    drop((first, stays));
    proxy.stop();
    let gone = proxy.log(13).iter().filter(|line| line.request.contains("/leaves")).count();
    assert_eq!(gone, 10, "each has its line");
}

#[test]
fn the_place_of_a_request_that_fails_is_free_again() {
    let server = Server::start(|_| Then::Reset);
    let proxy = proxy(&[&server], "--server-connections 1 --eject-after 0 --retries 0 --queue-timeout 5m");
    // In turn and all at once.
    for _ in 0..5 {
        assert_eq!(proxy.client().post("/", b"x").status, 502);
    }
    let mut clients: Vec<Wire> = (0..20).map(|_| waiting(&proxy, "/")).collect();
    assert!(clients.iter_mut().all(|client| client.answer().status == 502));
}

#[test]
fn a_request_whose_connection_was_dead_has_its_place_for_another_try() {
    // The second request on each connection finds it dead.
    let server = Server::start(|visit| if visit.nth == 1 { Then::Reset } else { visit.reply("200 OK", "a") });
    let proxy = proxy(&[&server], "--server-connections 1 --queue-timeout 5m");
    let mut client = proxy.client();
    let statuses: Vec<_> = (0..20).map(|_| client.get("/").status).collect();
    assert_eq!(statuses, [200; 20]);
    // Also while others wait.
    let mut clients: Vec<Wire> = (0..20).map(|_| waiting(&proxy, "/")).collect();
    assert!(clients.iter_mut().all(|client| client.answer().status == 200));
}

#[test]
fn who_waits_for_another_server_than_the_one_that_failed_it_holds_up_nobody() {
    let (held, arrived, _go) = held_server();
    let failed = AtomicUsize::new(0);
    let flaky = Server::start(move |visit| match failed.fetch_add(1, Ordering::SeqCst) {
        0 => Then::Reset,
        _ => visit.reply("200 OK", "flaky"),
    });
    let proxy = proxy(&[&held, &flaky], "--server-connections 1 --eject-after 0 --queue-timeout 5m");
    let _first = waiting(&proxy, "/held");
    assert_eq!(arrived.recv().unwrap(), "/held");
    let mut retried = waiting(&proxy, "/retried");
    eventually("it was failed", || (flaky.heads().len() == 1).then_some(()));
    let mut other = proxy.client();
    assert_eq!((other.get("/").text(), retried.answer().text()), ("flaky", "flaky"));
}

#[test]
fn no_server_has_more_than_it_may_however_many_workers_there_are() {
    const EACH: usize = 25;
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let server = {
        let (now, most) = (Arc::clone(&now), Arc::clone(&most));
        Server::start(move |visit| {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            thread::yield_now();
            // Before the answer, as the proxy may be quicker than this thread is.
            now.fetch_sub(1, Ordering::SeqCst);
            visit.reply("200 OK", "a")
        })
    };
    let proxy = proxy(&[&server], "--server-connections 4 --workers 2 --queue-timeout 5m");
    let client = || {
        let mut client = proxy.client();
        (0..EACH).for_each(|n| assert_eq!(client.get(&format!("/{n}")).status, 200));
    };
    thread::scope(|scope| (0..20).for_each(|_| drop(scope.spawn(client))));
    assert_eq!(server.heads().len(), 20 * EACH);
    assert!(most.load(Ordering::SeqCst) <= 4, "{most:?} at a time");
}

/// A server that serves one connection until it ends, and only then the next one.
fn one_at_a_time() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let mut line = String::new();
            while stream.read_line(&mut line).is_ok_and(|n| n > 0) {
                if line == "\r\n" {
                    stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
                }
                line.clear();
            }
        }
    });
    address
}

#[test]
fn an_idle_connection_of_one_worker_makes_room_for_a_request_of_another_one() {
    let args = "--server-connections 1 --workers 2 --upstream-idle-timeout 1h --queue-timeout 5m -v";
    let mut proxy = Start::proxy().arg("--upstream").arg(one_at_a_time()).args(args).run();
    let mut clients: Vec<Wire> = (0..8).map(|_| proxy.client()).collect();
    for _ in 0..5 {
        assert!(clients.iter_mut().all(|client| client.get("/").text() == "ok"));
    }
    drop(clients);
    let ended = proxy.stop();
    assert!(!ended.stderr.iter().any(|line| line.contains(": served 0 clients")), "each worker has some: {ended:?}");
}

#[test]
fn who_waits_when_the_process_is_told_to_end_is_still_served() {
    let (server, arrived, go) = held_server();
    let mut proxy = proxy(&[&server], "--server-connections 1");
    let mut clients: Vec<Wire> = (0..3).map(|n| waiting(&proxy, &format!("/{n}"))).collect();
    assert_eq!(arrived.recv().unwrap(), "/0");
    proxy.signal(Signal::TERM);
    eventually("new clients are refused", || proxy.address().connect().is_err().then_some(()));
    for (n, client) in clients.iter_mut().enumerate() {
        if n > 0 {
            assert_eq!(arrived.recv().unwrap(), format!("/{n}"));
        }
        go.send(()).unwrap();
        let answer = client.answer();
        assert_eq!((answer.text(), answer.says_close()), (format!("/{n}").as_str(), true));
        client.expect_end();
    }
    assert_eq!(proxy.wait().code(), 0);
}

#[test]
fn who_waits_for_servers_that_go_down_is_told_at_once() {
    let (place, (tell, arrived)) = (Place::new(), channel());
    let server = place.serve(move |visit| {
        tell.send(()).unwrap();
        // It ends when the server does.
        let _ = visit.wire.body(Framing::UntilClose, &mut |_| {});
        Then::Close
    });
    let check = "--health-check tcp --health-interval 100ms --health-fall 1 --queue-timeout 5m --retries 0";
    let proxy = Start::proxy().at(&[&place]).args("--server-connections 1").args(check).run();
    let mut first = waiting(&proxy, "/first");
    arrived.recv().unwrap();
    let mut others: Vec<Wire> = (0..3).map(|n| waiting(&proxy, &format!("/{n}"))).collect();
    drop(server);
    assert_eq!(first.answer().status, 502);
    for client in &mut others {
        let answer = client.answer();
        assert!(matches!(answer.status, 502 | 503), "{answer:?}");
    }
    proxy.says("is down", 1);
    let answer = proxy.client().get("/");
    assert_eq!((answer.status, answer.text().contains("no-upstream")), (503, true));
}
