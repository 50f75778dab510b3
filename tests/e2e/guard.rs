//! Who may come, how many at a time and how often, how slow they may be, and what memory they may take.

use crate::files::ask;
use crate::house::{Line, Start, eventually, proxy};
use crate::server::{Server, Then};
use crate::wire::{Address, Answer, End, Framing, Wire, get, post};
use socket2::SockRef;
use std::io::Write;
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

/// The status, and whether the page has this word.
fn told(answer: &Answer, word: &str) -> (u16, bool) {
    (answer.status, answer.text().contains(word))
}

fn seconds(answer: &Answer) -> u64 {
    answer.field("retry-after").unwrap_or_else(|| panic!("no Retry-After: {answer:?}")).parse().unwrap()
}

// ---- how many

#[test]
fn an_address_has_only_so_many_connections_until_one_is_over() {
    let server = Server::named("a");
    let mut proxy = proxy(&[&server], "--client-connections 2 --workers 2");
    let mut in_time = [proxy.client_from("127.0.0.7"), proxy.client_from("127.0.0.7")];
    assert!(in_time.iter_mut().all(|client| client.get("/").status == 200));
    let mut late = proxy.client_from("127.0.0.7");
    let answer = late.get("/");
    assert_eq!(told(&answer, "client-connections"), (429, true), "{answer:?}");
    assert!(seconds(&answer) >= 1 && answer.says_close());
    late.expect_end();
    assert_eq!(proxy.client_from("127.0.0.8").get("/").status, 200, "others have connections of their own");
    assert!(in_time.iter_mut().all(|client| client.get("/").status == 200), "who is in stays in");
    let [stays, goes] = in_time;
    drop(goes);
    let again = eventually("there is room again", || {
        let mut client = proxy.client_from("127.0.0.7");
        (client.get("/").status == 200).then_some(client)
    });
    assert_eq!(proxy.client_from("127.0.0.7").get("/").status, 429);
    drop((stays, again, late));
    proxy.stop();
    assert!(proxy.log(1).iter().all(|line| (line.status == "429") == (line.end == "client-connections")));
}

#[test]
fn a_client_that_one_worker_hands_to_another_counts_once() {
    let server = Server::named("a");
    let args = "--client-connections 24 --workers 4 --client-head-timeout 5m";
    let mut proxy = proxy(&[&server], args);
    for round in 0..3 {
        let mut clients: Vec<_> = (0..24).map(|_| proxy.client_from("127.0.0.7")).collect();
        if round == 0 {
            assert!(clients.iter_mut().all(|client| client.get("/").status == 200));
            assert_eq!(proxy.client_from("127.0.0.7").get("/").status, 429);
        } else {
            // Those of the round before may be on their way out.
            clients.retain_mut(|client| client.get("/").status == 200);
        }
        eventually("all that are left have a place", || {
            while clients.len() < 24 {
                let mut client = proxy.client_from("127.0.0.7");
                if client.get("/").status != 200 {
                    return None;
                }
                clients.push(client);
            }
            Some(())
        });
        assert_eq!(proxy.client_from("127.0.0.7").get("/").status, 429);
    }
    proxy.stop();
}

#[test]
fn many_that_come_and_go_leave_nothing_behind() {
    let server = Server::named("a");
    let proxy = proxy(&[&server], "--client-connections 3");
    for n in 0..60 {
        let mut client = proxy.client_from("127.0.0.7");
        match n % 4 {
            0 => client.send(get("/")),
            1 => client.send("nonsense\r\n\r\n"),
            2 => client.socket.reset(),
            _ => client.send("GET / HTTP/1.1\r\nHo"),
        }
    }
    eventually("all three places are free", || {
        let mut clients: Vec<_> = (0..3).map(|_| proxy.client_from("127.0.0.7")).collect();
        clients.iter_mut().all(|client| client.get("/").status == 200).then_some(())
    });
}

// ---- how often

#[test]
fn an_address_may_ask_only_so_often() {
    let server = Server::named("a");
    let mut proxy = proxy(&[&server], "--client-rate 60/h --client-burst 5 --workers 2");
    // On whichever connections.
    let mut client = proxy.client_from("127.0.0.7");
    assert!((0..3).all(|_| client.get("/").status == 200));
    assert!((0..2).all(|_| proxy.client_from("127.0.0.7").get("/").status == 200));
    let answer = client.get("/more");
    assert_eq!(told(&answer, "client-rate"), (429, true), "{answer:?}");
    let wait = seconds(&answer);
    assert!((50..=60).contains(&wait), "one a minute: come again in {wait} s");
    assert_eq!(proxy.client_from("127.0.0.7").get("/more").status, 429);
    assert_eq!(proxy.client_from("127.0.0.8").get("/").status, 200, "others are not concerned");
    drop(client);
    proxy.stop();
    assert_eq!(server.heads().iter().filter(|head| head.target() == "/more").count(), 0);
    assert_eq!(proxy.log(8).iter().filter(|line| line.end == "client-rate").count(), 2);
}

#[test]
fn who_waits_may_ask_again() {
    let server = Server::named("a");
    let proxy = proxy(&[&server], "--client-rate 10/s --client-burst 1");
    let mut client = proxy.client();
    let mut refused = 0;
    for _ in 0..3 {
        // A burst of one: the second of two that come together is too much.
        client.send([get("/"), get("/")].concat());
        let (first, second) = (client.answer(), client.answer());
        refused += [first, second].iter().filter(|answer| answer.status == 429).count();
        eventually("its turn", || (client.get("/").status == 200).then_some(()));
        eventually("its turn", || (client.get("/").status == 200).then_some(()));
    }
    assert!(refused >= 3, "{refused}");
}

#[test]
fn clients_of_a_trusted_proxy_are_counted_one_by_one() {
    let server = Server::named("a");
    let proxy = proxy(&[&server], "--client-rate 2/h --trusted-proxies 127.0.0.1");
    let mut trusted = proxy.client_from("127.0.0.1");
    let mut ask_for = |ip: &str| ask(&mut trusted, "GET", "/", &format!("X-Forwarded-For: {ip}\r\n")).status;
    for ip in ["192.0.2.1", "192.0.2.2", "203.0.113.9, 192.0.2.3"] {
        assert_eq!([ask_for(ip), ask_for(ip), ask_for(ip)], [200, 200, 429], "{ip}");
    }
    assert_eq!(ask_for("198.51.100.4, 192.0.2.3"), 429, "what a client says of itself does not help");
    // Whoever is not trusted counts as itself whatever it says.
    let mut other = proxy.client_from("127.0.0.2");
    let statuses: Vec<_> =
        (0..3).map(|n| ask(&mut other, "GET", "/", &format!("X-Forwarded-For: 192.0.2.{n}\r\n")).status).collect();
    assert_eq!(statuses, [200, 200, 429]);
}

// ---- who

#[test]
fn lists_decide_who_is_served() {
    let server = Server::named("a");
    let cases = [
        ("--allow 127.0.0.2,127.0.0.4/31", ["127.0.0.2", "127.0.0.5"], ["127.0.0.1", "127.0.0.6"]),
        ("--deny 127.0.0.2,127.0.0.4/31", ["127.0.0.1", "127.0.0.6"], ["127.0.0.2", "127.0.0.5"]),
        ("--allow 127.0.0.0/30 --deny 127.0.0.2", ["127.0.0.1", "127.0.0.3"], ["127.0.0.2", "127.0.0.5"]),
    ];
    for (lists, served, refused) in cases {
        let mut proxy = proxy(&[&server], lists);
        let seen = server.heads().len();
        for ip in refused {
            let mut client = proxy.client_from(ip);
            let answer = client.get("/");
            assert_eq!(told(&answer, "client-denied"), (403, true), "{lists} {ip}");
            client.expect_end();
        }
        assert_eq!(server.heads().len(), seen, "{lists}");
        assert!(served.iter().all(|ip| proxy.client_from(ip).get("/").status == 200), "{lists}");
        proxy.stop();
        assert_eq!(proxy.log(4).iter().filter(|line| line.end == "client-denied").count(), 2);
    }
}

#[test]
fn clients_of_a_unix_socket_are_on_the_lists_as_unix() {
    let (server, folder) = (Server::named("a"), TempDir::new().unwrap());
    for (nth, (lists, unix, tcp)) in [
        ("--deny unix", 403, 200),
        ("--allow unix", 200, 403),
        ("--allow 127.0.0.1", 403, 200),
        ("--allow 127.0.0.1,unix", 200, 200),
        ("--deny 127.0.0.1", 200, 403),
    ]
    .into_iter()
    .enumerate()
    {
        let listen = format!("unix:{}", folder.path().join(nth.to_string()).display());
        let start = Start::proxy().to(&[&server]).args("--listen 127.0.0.1:0 --listen");
        let proxy = start.arg(listen).args(lists).run();
        let [one, other] = &proxy.addresses[..] else { panic!("{:?}", proxy.addresses) };
        let (by_tcp, by_unix) = if matches!(one, Address::Tcp(_)) { (one, other) } else { (other, one) };
        let statuses = (Wire::to(by_unix).get("/").status, Wire::to(by_tcp).get("/").status);
        assert_eq!(statuses, (unix, tcp), "{lists}");
    }
}

#[test]
fn who_is_refused_in_the_middle_of_an_upload_still_gets_the_answer() {
    let server = Server::named("a");
    let large = post("/", &vec![b'x'; 3_000_000]);
    for (args, status) in [("--deny 127.0.0.7", 403), ("--client-rate 1/h", 429), ("--client-connections 1", 429)] {
        let proxy = proxy(&[&server], args);
        let mut first = proxy.client_from("127.0.0.7");
        first.get("/");
        for _ in 0..5 {
            let mut client = proxy.client_from("127.0.0.7");
            let mut half = client.socket.twin();
            let large = &large;
            let answer = thread::scope(|scope| {
                // What is not taken any more fails at some point.
                scope.spawn(move || half.write_all(large));
                client.answer()
            });
            assert_eq!(answer.status, status, "{args}");
        }
    }
}

// ---- how slow, and how much memory

#[test]
fn a_body_that_drips_is_cut_although_it_never_stops() {
    let server = Server::named("a");
    let mut proxy = proxy(&[&server], "--client-body-timeout 300ms --min-rate 10k");
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n");
    // A byte every 10 ms never lets 300 ms pass.
    let mut sent = 0;
    while client.peek() == 0 {
        // Once it is answered, it may be closed.
        let _ = client.socket.write_all(b"x");
        thread::sleep(Duration::from_millis(10));
        sent += 1;
        assert!(sent < 3000, "it goes on and on");
    }
    assert_eq!(client.answer().status, 408);
    drop(client);
    proxy.stop();
    assert_eq!(proxy.log(1)[0].end, "client-body-timeout");
}

#[test]
fn a_client_that_sips_its_answer_is_cut_although_it_never_stops() {
    let server = Server::start(|visit| {
        visit.send("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n");
        let poured = crate::wire::pour(&mut visit.wire.socket, 1, 100_000_000, crate::house::PATIENCE, &mut |_| true);
        if poured.is_ok() { Then::Next } else { Then::Close }
    });
    let mut proxy = proxy(&[&server], "--client-write-timeout 500ms --min-rate 50m");
    let mut client = proxy.client();
    SockRef::from(&client.socket).set_recv_buffer_size(8192).unwrap();
    client.send(get("/"));
    client.head().unwrap();
    let mut left = 100_000_000u64;
    let end = loop {
        let sip = left.min(2000);
        match client.body(Framing::Length(sip), &mut |_| {}) {
            Ok(_) => left -= sip,
            Err(end) => break end,
        }
        assert!(left > 0, "it was let to take all of it");
        thread::sleep(Duration::from_millis(5));
    };
    assert!(matches!(end, End::Reset | End::Cut));
    proxy.stop();
    assert_eq!(proxy.log(1)[0].end, "client-write-timeout");
}

#[test]
fn who_would_take_too_much_memory_is_turned_away_and_the_others_are_served() {
    let server = Server::named("a");
    let mut proxy = proxy(&[&server], "--max-memory 32m --max-head 1m --client-head-timeout 5m");
    let large = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(900_000));
    let mut heavy = Vec::new();
    for _ in 0..40 {
        let mut client = proxy.client();
        // It may be turned away by now.
        let _ = client.socket.write_all(large.as_bytes());
        heavy.push(client);
        assert_eq!(proxy.client().get("/").status, 200);
    }
    let refused = |line: &Line| line.status == "503" && line.end == "memory-low";
    let lines = proxy.log(75);
    assert!(lines.iter().filter(|line| refused(line)).count() >= 35, "{lines:?}");
    drop(heavy);
    proxy.stop();
}
