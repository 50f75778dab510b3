//! Servers that are not well: how it is found out by checks and by requests, what clients see of it, and how a server comes back.

use crate::house::{Program, Start, eventually, proxy};
use crate::server::{Place, Server, Then};
use crate::wire::{End, Wire, get, post};
use std::net::{Shutdown, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::thread;

const OFTEN: &str = "--health-interval 100ms --slow-start 0s";

fn names(client: &mut Wire, requests: usize) -> String {
    (0..requests).map(|_| client.get("/").text().to_owned()).collect()
}

/// Lines of the access log so far, of which none needed a second try.
fn check_first_tries(proxy: &Program, at_least: usize) {
    let lines = proxy.log(at_least);
    assert!(lines.iter().all(|line| line.get("attempts") == "1"), "{lines:#?}");
}

// ---- checks

#[test]
fn a_server_that_is_not_there_is_known_before_the_second_check_and_comes_back() {
    let (place, good) = (Place::new(), Server::named("b"));
    // With a long interval only the first check can have told.
    let later = Start::proxy().at(&[&place]).to(&[&good]).args("--health-check tcp --health-interval 1h").run();
    later.says(&format!("server {} is down: health check was refused a connection", place.address), 1);
    assert_eq!(names(&mut later.client(), 10), "b".repeat(10));
    check_first_tries(&later, 10);
    let often = Start::proxy().at(&[&place]).to(&[&good]).args("--health-check tcp").args(OFTEN).run();
    often.says("is down", 1);
    let server = place.named("a");
    often.says(&format!("server {} is up", place.address), 1);
    let both = names(&mut often.client(), 10);
    assert_eq!(both.matches('a').count(), 5, "{both}");
    drop(server);
    often.says("is down", 2);
    assert_eq!(names(&mut often.client(), 10), "b".repeat(10));
}

#[test]
fn the_status_of_a_page_decides() {
    let status = Arc::new(AtomicU16::new(500));
    let server = {
        let status = Arc::clone(&status);
        Server::start(move |visit| visit.reply(&format!("{} Told", status.load(Ordering::SeqCst)), "text"))
    };
    let asked = |list: &str| {
        let start = Start::proxy().to(&[&server]).args("--health-check /health?deep=1 --health-fall 2");
        start.args("--health-interval 500ms").args(list).run()
    };
    let (usual, special) = (asked(""), asked("--health-status 204,404-405"));
    let is = |proxy: &Program, what: &str, times| proxy.says(&format!("server {} is {what}", server.address), times);
    is(&usual, "down: health check got 500", 1);
    is(&special, "down: health check got 500", 1);
    status.store(204, Ordering::SeqCst);
    is(&usual, "up", 1);
    is(&special, "up", 1);
    status.store(404, Ordering::SeqCst);
    is(&usual, "down: health check got 404", 1);
    status.store(399, Ordering::SeqCst);
    is(&usual, "up", 2);
    is(&special, "down: health check got 399", 1);
    status.store(405, Ordering::SeqCst);
    is(&special, "up", 2);
    let probe = server.heads()[0].clone();
    assert_eq!((probe.method(), probe.target()), ("GET", "/health?deep=1"));
    assert_eq!(probe.fields.get("host"), Some(server.address.to_string().as_str()));
    assert!(!probe.fields.has("x-forwarded-for"), "it comes from nobody");
}

#[test]
fn answers_that_are_none_speak_against_a_server() {
    let answers: [(&str, &str); 8] = [
        ("", "got no answer"),
        ("HTTP/1.1 200 O", "ended early"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", "ended early"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n", "ended early"),
        ("SSH-2.0-OpenSSH_9.6\r\n\r\n", "malformed"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "malformed"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "malformed"),
        ("HTTP/1.1 100 Continue\r\n\r\n", "ended early"),
    ];
    let servers = answers.map(|(answer, _)| Server::start(move |visit| visit.send_and_close(answer)));
    let good = Server::named("g");
    let all: Vec<&Server> = servers.iter().chain([&good]).collect();
    let proxy = Start::proxy().to(&all).args("--health-check /h --health-interval 5m --health-timeout 1m").run();
    for (server, (answer, why)) in servers.iter().zip(answers) {
        let line = proxy.stderr(|lines| {
            let name = format!("server {} is down: ", server.address);
            lines.iter().find(|line| line.contains(&name)).cloned()
        });
        assert!(line.contains(why), "{answer:?}: {line}");
    }
    assert_eq!(names(&mut proxy.client(), 20), "g".repeat(20));
    check_first_tries(&proxy, 20);
}

#[test]
fn a_server_that_hangs_is_down_and_costs_nothing() {
    // It is connected to, and never accepts.
    let hanging = TcpListener::bind("127.0.0.1:0").unwrap();
    let dripping = Server::start(|visit| {
        while visit.send("HTTP/1.1 100 Continue\r\n\r\n") == Then::Next {
            thread::yield_now();
        }
        Then::Close
    });
    let good = Server::named("g");
    let hung = hanging.local_addr().unwrap().to_string();
    let check = "--health-check / --health-interval 500ms";
    let proxy = Start::proxy().arg("--upstream").arg(&hung).to(&[&dripping, &good]).args(check).run();
    proxy.says(&format!("server {hung} is down: health check was not answered in time"), 1);
    proxy.says(&format!("server {} is down", dripping.address), 1);
    assert_eq!(names(&mut proxy.client(), 20), "g".repeat(20));
    // Each check's connection goes with the check.
    let probes = dripping.connections() + 2;
    eventually("more checks", || (dripping.connections() >= probes).then_some(()));
    assert!(proxy.open_files() < 40, "{} open files", proxy.open_files());
}

#[test]
fn without_any_server_there_is_a_503_at_once_and_it_ends_when_one_is_back() {
    let places = [Place::new(), Place::new()];
    let start = Start::proxy().at(&[&places[0], &places[1]]).args("--health-check tcp --workers 2");
    let mut proxy = start.args(OFTEN).run();
    proxy.says("is down", 2);
    let mut client = proxy.client();
    for _ in 0..3 {
        let answer = client.get("/");
        assert_eq!(answer.status, 503);
        assert!(answer.field("retry-after").unwrap().parse::<u32>().is_ok_and(|seconds| seconds >= 1));
        assert!(answer.text().contains("no-upstream"), "{}", answer.text());
        assert!(!answer.says_close(), "the client has done nothing wrong");
    }
    assert_eq!(proxy.client().post("/", b"with a body").status, 503);
    let _server = places[1].named("b");
    proxy.says("is up", 1);
    assert_eq!(names(&mut client, 4), "bbbb");
    drop(client);
    proxy.stop();
    let lines = proxy.log(8);
    let none = lines.iter().filter(|line| line.end == "no-upstream" && line.get("attempts") == "0").count();
    assert_eq!(none, 4, "{lines:?}");
}

#[test]
fn all_workers_go_by_the_checks_of_one() {
    let (place, good) = (Place::new(), Server::named("b"));
    let server = place.named("a");
    let check = "--health-check tcp --health-rise 1 --health-fall 1 --workers 4 --client-head-timeout 5m";
    let start = Start::proxy().at(&[&place]).to(&[&good]).args(check).args(OFTEN);
    let proxy = start.args("--eject-after 0").run();
    let mut clients: Vec<Wire> = (0..24).map(|_| proxy.client()).collect();
    assert!(clients.iter_mut().all(|client| names(client, 1).len() == 1));
    drop(server);
    proxy.says("is down", 1);
    let before = proxy.log(24).len();
    assert!(clients.iter_mut().all(|client| names(client, 2) == "bb"));
    let lines = proxy.log(before + 48);
    assert!(lines[before..].iter().all(|line| line.get("attempts") == "1"));
    let _server = place.named("a");
    proxy.says("is up", 1);
    let all: String = clients.iter_mut().map(|client| names(client, 4)).collect();
    // Each worker's own rotation is exact.
    assert!(all.matches('a').count().abs_diff(48) <= 4, "{all}");
}

// ---- requests that fail

/// A server that never answers a request, on no connection.
fn bad() -> Server {
    Server::start(|visit| {
        visit.body();
        Then::Close
    })
}

/// Requests that are not repeated, one by one: their statuses.
fn posts(proxy: &Program, requests: usize) -> Vec<u16> {
    let mut client = proxy.client();
    (0..requests).map(|_| client.post("/", b"x").status).collect()
}

#[test]
fn who_fails_five_times_in_a_row_rests_and_returns() {
    let (bad, good) = (bad(), Server::named("g"));
    let rests = proxy(&[&bad, &good], "");
    let statuses = posts(&rests, 40);
    assert_eq!(statuses.iter().filter(|status| **status == 502).count(), 5, "{statuses:?}");
    assert_eq!(bad.heads().len(), 5);
    rests.says(&format!("server {} failed 5 times in a row", bad.address), 1);
    drop(rests);
    // A short rest: it is tried again, and one more failure is enough. The next rest is longer.
    let returns = proxy(&[&bad, &good], "--eject-after 2 --eject-time 200ms --slow-start 0s");
    posts(&returns, 4);
    returns.says("failed 2 times in a row: it gets no requests for 0.2 s", 1);
    let tried = bad.heads().len();
    eventually("it is tried again", || {
        assert!(posts(&returns, 1).len() == 1);
        (bad.heads().len() > tried).then_some(())
    });
    returns.says("failed once: it gets no requests for 0.4 s", 1);
    assert_eq!(bad.heads().len(), tried + 1);
}

#[test]
fn a_success_in_between_begins_the_row_anew() {
    let count = AtomicUsize::new(0);
    // Four failures, a success, and so on.
    let moody = Server::start(move |visit| {
        visit.body();
        if count.fetch_add(1, Ordering::SeqCst) % 5 == 4 { visit.reply("500 Oh", "m") } else { Then::Reset }
    });
    let good = Server::named("g");
    let mut proxy = proxy(&[&moody, &good], "");
    let statuses = posts(&proxy, 60);
    assert_eq!(statuses.iter().filter(|status| **status == 502).count(), 24, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 500).count(), 6, "an answer is an answer");
    assert!(!proxy.stop().stderr.iter().any(|line| line.contains("in a row")));
}

#[test]
fn the_last_one_never_rests_nor_do_more_than_half() {
    let alone = bad();
    let mut single = proxy(&[&alone], "");
    assert_eq!(posts(&single, 30), [502; 30], "better one that may fail than none");
    assert!(!single.stop().stderr.iter().any(|line| line.contains("in a row")));
    let (bads, good) = ([bad(), bad(), bad()], Server::named("g"));
    let mut four = proxy(&[&bads[0], &bads[1], &bads[2], &good], "--eject-time 5m");
    let statuses = posts(&four, 100);
    let rest = statuses[60..].iter().filter(|status| **status == 502).count();
    assert_eq!(rest, 20, "two are left, and one of them is bad: {statuses:?}");
    let resting = four.stop().stderr.iter().filter(|line| line.contains("in a row")).count();
    assert_eq!(resting, 2);
}

#[test]
fn what_clients_do_wrong_is_not_the_servers_fault() {
    let server = || {
        Server::start(|visit| match visit.head.target() {
            "/large" => {
                let large = format!("HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n{}", "x".repeat(100_000));
                visit.send(large);
                let sent =
                    crate::wire::pour(&mut visit.wire.socket, 1, 49_900_000, crate::house::PATIENCE, &mut |_| true);
                if sent.is_ok() { Then::Next } else { Then::Close }
            }
            _ => visit.reply("200 OK", "a"),
        })
    };
    let servers = [server(), server()];
    let mut proxy =
        proxy(&[&servers[0], &servers[1]], "--eject-after 2 --client-body-timeout 100ms --client-write-timeout 100ms");
    let wrongs: [(&str, bool); 7] = [
        // An upload that breaks off, one that stalls until it is too late, one whose body is no body.
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf", false),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf", true),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", true),
        // No requests at all.
        ("nonsense\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", true),
        // Answers that are not waited for, or not taken.
        ("GET /large HTTP/1.1\r\nHost: a\r\n\r\n", false),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", false),
    ];
    for (request, waits) in wrongs {
        for n in 0..8 {
            let mut client = proxy.client();
            client.send(request);
            if waits {
                assert!(matches!(client.answer().status, 400 | 408), "{request}");
            } else if n % 2 == 0 {
                client.socket.reset();
            }
        }
    }
    // These do not read, and are cut.
    let mut stuck: Vec<Wire> = (0..4).map(|_| proxy.client()).collect();
    stuck.iter_mut().for_each(|client| client.send(get("/large")));
    // A reset may overtake its request.
    proxy.log(4 * 8 + 3 * 4 + 4);
    drop(stuck);
    let both = (0..10).map(|_| proxy.client().get("/").status).filter(|status| *status == 200).count();
    assert_eq!(both, 10);
    let ended = proxy.stop();
    assert!(!ended.stderr.iter().any(|line| line.contains("in a row")), "{:#?}", ended.stderr);
}

#[test]
fn connections_that_servers_closed_while_unused_are_nobodys_failure() {
    // Two requests on each connection, then it ends without a word.
    let closing = || {
        Server::start(|visit| {
            let then = visit.reply("200 OK", "a");
            if visit.nth == 1 { Then::Close } else { then }
        })
    };
    let servers = [closing(), closing()];
    let mut proxy = proxy(&[&servers[0], &servers[1]], "--eject-after 1");
    let mut client = proxy.client();
    assert!((0..200).all(|_| client.get("/").status == 200));
    drop(client);
    let ended = proxy.stop();
    assert!(!ended.stderr.iter().any(|line| line.contains("in a row")), "{:#?}", ended.stderr);
}

// ---- retries

#[test]
fn retries_are_within_their_budget() {
    let (place, good) = (Place::new(), Server::named("g"));
    // At least three a second, of ten seconds: 30.
    for (budget, least, most) in [(0, 0, 0), (100, 200, 200), (20, 30, 150)] {
        let start = Start::proxy().at(&[&place]).to(&[&good]).args("--eject-after 0");
        let mut proxy = start.args(&format!("--retry-budget {budget}")).run();
        let mut client = proxy.client();
        let statuses: Vec<_> = (0..200).map(|_| client.get("/").status).collect();
        drop(client);
        proxy.stop();
        let lines = proxy.log(200);
        let retried = lines.iter().filter(|line| line.get("attempts") == "2").count();
        assert_eq!(statuses.contains(&502), budget < 100, "{budget} %");
        assert!((least..=most).contains(&retried), "{retried} at {budget} %");
        assert!(lines.iter().all(|line| line.status == "200" || line.end == "upstream-refused"));
    }
}

#[test]
fn a_request_that_may_have_been_seen_is_not_repeated() {
    let (bads, good) = ([bad(), bad()], Server::named("g"));
    let proxy = proxy(&[&bads[0], &bads[1], &good], "--eject-after 0 --retries 3");
    let mut client = proxy.client();
    for request in [post("/once", b"x"), b"PATCH /once HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n".to_vec()] {
        for _ in 0..9 {
            client.send(&request);
            assert!(matches!(client.try_answer(false), Ok(answer) if matches!(answer.status, 200 | 502)));
        }
    }
    let seen: usize = bads.iter().chain([&good]).map(|server| server.heads().len()).sum();
    assert_eq!(seen, 18, "each once");
    assert!((0..9).all(|_| client.get("/").status == 200), "but others are");
}

#[test]
fn a_connection_broken_by_the_server_in_mid_answer_counts() {
    let bad = Server::start(|visit| {
        visit.body();
        visit.send_and_close("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    });
    let good = Server::named("g");
    let proxy = proxy(&[&bad, &good], "--eject-after 3 --eject-time 5m");
    let cut = |_| {
        let mut client = proxy.client();
        client.send(post("/", b"x"));
        matches!(client.try_answer(false), Err(End::Cut | End::Reset))
    };
    assert_eq!((0..20).map(cut).filter(|cut| *cut).count(), 3);
    proxy.says("failed 3 times in a row", 1);
    bad.cut_all(Shutdown::Both);
}
