//! Servers that fail: what the client sees, what is tried again, and what never is.

use crate::house::{PATIENCE, Start, eventually, proxy};
use crate::server::{Server, Then, Visit};
use crate::wire::{Check, End, Framing, get, post};
use socket2::{Domain, Socket, Type};
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tempfile::TempDir;

/// A port that is taken and refuses everybody, for as long as the socket lives.
fn refusing() -> (OwnedFd, String) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap().to_string();
    (socket.into(), address)
}

/// A port on which connections are never made: its queue is full. The streams are in it.
fn black_hole() -> (OwnedFd, Vec<TcpStream>, String) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let mut queue = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
        queue.push(stream);
        assert!(queue.len() < 100, "the queue has no end");
    }
    (socket.into(), queue, address.to_string())
}

/// A server of which `fail` is every answer.
fn failing(fail: impl Fn(&mut Visit<'_>) -> Then + Send + Sync + 'static) -> Server {
    Server::start(fail)
}

#[test]
fn an_answer_that_breaks_off_never_looks_complete() {
    let server = failing(|visit| {
        let (how, framing) = visit.head.target()[1..].split_once('-').unwrap();
        let how = if how == "reset" { Then::Reset } else { Then::Close };
        match framing {
            "length" => visit.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this"),
            "chunked" => visit.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nonly this\r\n"),
            "within-chunk" => visit.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nonly this"),
            _ => visit.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nonly this\r\n0\r\nX: y"),
        };
        how
    });
    let mut proxy = proxy(&[&server], "");
    let mut expected = 0;
    for how in ["close", "reset"] {
        for framing in ["length", "chunked", "within-chunk", "within-trailers"] {
            let mut client = proxy.client();
            client.send(get(&format!("/{how}-{framing}")));
            let end = client.try_answer(false).unwrap_err();
            assert!(matches!(end, End::Cut | End::Reset), "{how} {framing}: {end:?}");
            expected += 1;
        }
    }
    proxy.stop();
    let lines = proxy.log(expected);
    assert_eq!(lines.len(), expected);
    for line in &lines {
        let word = if line.request.contains("reset") { "upstream-reset" } else { "upstream-truncated" };
        // A reset may overtake the last bytes, but a close is a close.
        assert!(line.end == word || (word == "upstream-reset" && line.status == "502"), "{}", line.text);
    }
}

#[test]
fn an_answer_that_only_the_connections_end_would_end_is_reset_when_it_breaks() {
    let server = failing(|visit| {
        visit.send("HTTP/1.1 200 OK\r\n\r\nsome of it");
        // Its end must not be the first thing that the proxy sees.
        visit.wire.expect(b"go on");
        Then::Reset
    });
    let proxy = proxy(&[&server], "");
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n");
    assert_eq!(client.head().unwrap().line, "HTTP/1.1 200 OK");
    client.expect(b"some of it");
    client.send("go on");
    assert_eq!(client.rest().1, End::Reset, "a clean end would be a lie");
}

#[test]
fn an_old_client_sees_a_broken_answer_as_well() {
    // Chunks are unpacked for HTTP/1.0, so only the connection's end tells it that the answer is complete.
    let server = failing(|visit| {
        visit.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nonly this\r\n");
        // An end that came with the first bytes would be answered with a 502, as nothing is on its way yet.
        visit.wire.expect(b"go on");
        Then::Close
    });
    let proxy = proxy(&[&server], "");
    let mut client = proxy.client();
    client.send("POST / HTTP/1.0\r\nHost: a\r\nContent-Length: 100\r\n\r\n");
    assert_eq!(client.head().unwrap().line, "HTTP/1.1 200 OK");
    client.expect(b"only this");
    client.send("go on");
    assert_eq!(client.rest().1, End::Reset, "a clean end would be a lie");
}

#[test]
fn a_server_killed_in_mid_answer_is_noticed() {
    let folder = TempDir::new().unwrap();
    let length: u64 = 300 << 20;
    fs::File::create(folder.path().join("big")).unwrap().set_len(length).unwrap();
    let origin = Start::origin(folder.path()).run();
    let mut proxy = Start::proxy().arg("--upstream").arg(origin.address().to_string()).run();
    let mut client = proxy.client();
    client.send(get("/big"));
    let head = client.head().unwrap();
    assert_eq!(head.fields.get("content-length"), Some(length.to_string().as_str()));
    let mut came = 0;
    client.body(Framing::Length(1 << 20), &mut |bytes| came += bytes.len() as u64).unwrap();
    // The program is killed when it is dropped.
    drop(origin);
    let end = client.body(Framing::Length(length - came), &mut |bytes| came += bytes.len() as u64).unwrap_err();
    assert!(matches!(end, End::Cut | End::Reset) && came < length, "{end:?} after {came} bytes");
    assert_eq!(proxy.client().get("/").status, 502);
    proxy.stop();
    let lines = proxy.log(2);
    assert!(["upstream-reset", "upstream-truncated"].contains(&lines[0].end.as_str()), "{}", lines[0].text);
    assert_eq!((lines[0].status.as_str(), lines[1].end.as_str()), ("200", "upstream-refused"));
}

#[test]
fn who_refuses_is_passed_over_whatever_the_method() {
    let (_socket, refusing) = refusing();
    let good = Server::named("good");
    let mut proxy = Start::proxy().arg("--upstream").arg(refusing).to(&[&good]).run();
    for _ in 0..4 {
        assert_eq!(proxy.client().get("/").text(), "good");
        assert_eq!(proxy.client().post("/", b"body").text(), "body");
        let mut client = proxy.client();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n");
        client.send("1\r\nc\r\n0\r\n\r\n");
        assert_eq!(client.answer().text(), "abc");
    }
    assert_eq!(good.heads().len(), 12);
    proxy.stop();
    let lines = proxy.log(12);
    assert!(lines.iter().any(|line| line.get("attempts") == "2"), "{lines:?}");
    assert!(lines.iter().all(|line| line.get("upstream") == good.address.to_string()));
}

#[test]
fn a_large_body_survives_a_server_that_refuses() {
    let (_socket, refusing) = refusing();
    let good = Server::start(|visit| {
        let mut check = Check::new(3);
        visit.body_into(&mut |bytes| check.take(bytes));
        visit.reply("200 OK", check.length.to_string())
    });
    let proxy = Start::proxy().arg("--upstream").arg(refusing).to(&[&good]).run();
    for _ in 0..2 {
        let length: u64 = 5_000_000;
        let mut client = proxy.client();
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"));
        crate::wire::pour(&mut client.socket, 3, length, PATIENCE, &mut |_| true).unwrap();
        assert_eq!(client.answer().text(), length.to_string());
    }
}

#[test]
fn if_all_refuse_it_is_502_at_once() {
    let (_a, first) = refusing();
    let (_b, second) = refusing();
    let mut proxy = Start::proxy().arg("--upstream").arg(format!("{first},{second}")).run();
    let mut client = proxy.client();
    for _ in 0..3 {
        let answer = client.get("/");
        assert_eq!((answer.status, answer.text()), (502, "502 Bad Gateway: upstream-refused\n"));
        assert!(!answer.says_close(), "the client's connection is not to blame");
    }
    drop(client);
    proxy.stop();
    assert!(proxy.log(3).iter().all(|line| line.end == "upstream-refused" && line.get("attempts") == "2"));
}

#[test]
fn without_retries_there_are_none() {
    let (_socket, refusing) = refusing();
    let good = Server::named("good");
    let proxy = Start::proxy().arg("--upstream").arg(refusing).to(&[&good]).args("--retries 0").run();
    let statuses: Vec<_> = (0..4).map(|_| proxy.client().get("/").status).collect();
    assert_eq!(statuses, [502, 200, 502, 200]);
}

/// A server that answers the first request on a connection and, when the second one has come, closes without a word.
fn once_per_connection(then: Then) -> Server {
    Server::start(move |visit| {
        visit.body();
        if visit.nth == 0 { visit.reply("200 OK", "ok") } else { then }
    })
}

#[test]
fn a_get_is_sent_again_if_its_used_connection_dies() {
    for then in [Then::Close, Then::Reset] {
        let server = once_per_connection(then);
        let mut proxy = proxy(&[&server], "");
        let mut client = proxy.client();
        for n in 0..10 {
            assert_eq!(client.get(&format!("/{n}")).status, 200, "{n}");
        }
        client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
        assert_eq!(client.answer().status, 200);
        client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.answer_to_head().status, 200);
        drop(client);
        proxy.stop();
        let attempts: Vec<_> = proxy.log(12).iter().map(|line| line.get("attempts").to_owned()).collect();
        assert_eq!((attempts[0].as_str(), attempts[1..].iter().all(|n| n == "2")), ("1", true), "{attempts:?}");
        // Each but the first has arrived twice: on the connection that died, and on a new one.
        assert_eq!(server.heads().len(), 23);
    }
}

#[test]
fn a_post_is_never_sent_twice() {
    for then in [Then::Close, Then::Reset] {
        let server = once_per_connection(then);
        let mut proxy = proxy(&[&server], "");
        let mut client = proxy.client();
        assert_eq!(client.get("/warm").status, 200);
        let answer = client.post("/order", b"one piece");
        assert_eq!(answer.status, 502);
        let orders = server.heads().iter().filter(|head| head.target() == "/order").count();
        assert_eq!(orders, 1, "it was sent {orders} times");
        drop(client);
        proxy.stop();
        let line = &proxy.log(2)[1];
        assert!(["upstream-closed", "upstream-reset"].contains(&line.end.as_str()), "{}", line.text);
        assert_eq!(line.get("attempts"), "1");
    }
}

#[test]
fn a_request_that_kills_connections_is_sent_to_one_other_server_at_most() {
    let servers = [0, 1, 2].map(|_| failing(|_| Then::Close));
    let proxy = proxy(&servers.each_ref(), "");
    let sent = || servers.iter().map(|server| server.heads().len()).sum::<usize>();
    assert_eq!((proxy.client().get("/poison").status, sent()), (502, 2));
    // One that must not be repeated is not.
    assert_eq!((proxy.client().post("/poison", b"x").status, sent()), (502, 3));
}

#[test]
fn idle_connections_that_close_at_any_moment_cost_no_request() {
    // It closes right after each answer without having said so: the close races with the next request.
    let server = Server::start(|visit| {
        visit.reply("200 OK", "ok");
        Then::Close
    });
    let proxy = proxy(&[&server], "--workers 2");
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let mut client = proxy.client();
            std::thread::spawn(move || (0..300).filter(|_| client.get("/").status == 200).count())
        })
        .collect();
    let served: usize = clients.into_iter().map(|client| client.join().unwrap()).sum();
    assert_eq!(served, 1200);
}

#[test]
fn a_connection_that_its_server_has_closed_is_not_used_for_a_post() {
    // Here the close has long arrived before the next request: nothing is left to chance.
    let server = Server::named("a");
    let proxy = proxy(&[&server], "");
    let mut client = proxy.client();
    for n in 1..=20 {
        assert_eq!(client.post("/", b"x").status, 200);
        let before = proxy.open_files();
        server.cut_all(std::net::Shutdown::Both);
        eventually("the proxy has dropped the idle connection", || (proxy.open_files() < before).then_some(()));
        assert_eq!(server.connections(), n);
    }
}

#[test]
fn an_idle_connection_that_closes_as_the_next_request_comes_costs_not_even_a_post() {
    // The close and the request are found at once, and the close must be looked at first.
    let server = Server::named("a");
    let proxy = proxy(&[&server], "");
    let mut client = proxy.client();
    let mut other = proxy.client();
    for n in 1..=20 {
        assert_eq!(client.post("/", b"x").status, 200, "{n}");
        proxy.while_stopped(|| {
            // In either order.
            if n % 2 == 0 {
                client.send(post("/", b"same"));
                other.send(post("/", b"other"));
                server.cut_all(std::net::Shutdown::Both);
            } else {
                server.cut_all(std::net::Shutdown::Both);
                other.send(post("/", b"other"));
                client.send(post("/", b"same"));
            }
        });
        assert_eq!([client.answer().text(), other.answer().text()], ["same", "other"], "{n}");
    }
}

#[test]
fn an_idle_connection_that_speaks_is_not_used() {
    let (tell, told) = std::sync::mpsc::channel();
    let server = Server::start(move |visit| {
        visit.reply("200 OK", "ok");
        tell.send(visit.wire.socket.twin()).unwrap();
        Then::Next
    });
    let proxy = proxy(&[&server], "");
    let mut client = proxy.client();
    for n in 0..20 {
        assert_eq!(client.get("/").text(), "ok", "{n}");
        let mut idle = told.recv().unwrap();
        proxy.while_stopped(|| {
            client.send(get("/"));
            let unasked = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 6\r\n\r\npoison";
            std::io::Write::write_all(&mut idle, unasked).unwrap();
        });
        assert_eq!(client.answer().text(), "ok", "{n}");
        drop(told.recv().unwrap());
    }
}

#[test]
fn bytes_behind_a_complete_answer_reach_nobody() {
    let server = Server::start(|visit| {
        if visit.nth > 0 {
            return visit.reply("200 OK", "the same connection was used again");
        }
        visit.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
    });
    let proxy = proxy(&[&server], "");
    let mut client = proxy.client();
    for _ in 0..5 {
        assert_eq!(client.get("/").text(), "ok");
    }
    assert_eq!(server.connections(), 5);
}

#[test]
fn malformed_answers_are_502_and_their_connection_is_dropped() {
    let answers: &[&str] = &[
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        "HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX : y\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n",
        "HTTP/2 200 OK\r\nContent-Length: 0\r\n\r\n",
        "SSH-2.0-OpenSSH_9.6\r\n\r\n",
        "hello",
        "",
    ];
    let server = Server::start(|visit| {
        let nth = visit.head.number() as usize;
        visit.send_and_close(answers[nth])
    });
    let mut proxy = proxy(&[&server], "");
    let mut client = proxy.client();
    for (nth, answer) in answers.iter().enumerate() {
        let got = client.get(&format!("/{nth}"));
        assert_eq!((got.status, got.says_close()), (502, false), "{answer:?}");
    }
    drop(client);
    proxy.stop();
    for (line, answer) in proxy.log(answers.len()).iter().zip(answers) {
        let whole = answer.ends_with("\n\r\n") || answer.ends_with("\n\n") || answer.ends_with("abc");
        assert_eq!(line.end.starts_with("bad-response("), whole, "{answer:?}: {}", line.text);
    }
}

#[test]
fn a_server_that_says_nothing_is_given_up() {
    let (go, gone) = std::sync::mpsc::channel::<()>();
    let gone = std::sync::Mutex::new(gone);
    let server = failing(move |visit| {
        if visit.head.target() == "/begins" {
            visit.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhal");
        }
        let _ = gone.lock().unwrap().recv();
        Then::Close
    });
    let times = "--upstream-response-timeout 200ms --upstream-read-timeout 200ms";
    let mut proxy = proxy(&[&server], times);
    let mut client = proxy.client();
    let answer = client.get("/silent");
    assert_eq!((answer.status, answer.text()), (504, "504 Gateway Timeout: upstream-timeout\n"));
    client.send(get("/begins"));
    assert_eq!(client.try_answer(false).unwrap_err(), End::Cut);
    drop(client);
    proxy.stop();
    let ends: Vec<_> = proxy.log(2).iter().map(|line| line.end.clone()).collect();
    assert_eq!(ends, ["upstream-timeout", "upstream-read-timeout"]);
    drop(go);
}

#[test]
fn who_does_not_take_connections_is_passed_over() {
    let (_socket, _queue, hole) = black_hole();
    let good = Server::named("good");
    let times = "--upstream-connect-timeout 200ms";
    let proxy = Start::proxy().arg("--upstream").arg(&hole).to(&[&good]).args(times).run();
    for _ in 0..2 {
        assert_eq!(proxy.client().get("/").text(), "good");
        assert_eq!(proxy.client().post("/", b"body").text(), "body");
    }
    let mut alone = Start::proxy().arg("--upstream").arg(&hole).args(times).run();
    assert_eq!(alone.client().get("/").text(), "504 Gateway Timeout: upstream-connect-timeout\n");
    alone.stop();
}

#[test]
fn a_server_that_comes_back_is_used_again() {
    let (socket, address) = refusing();
    let mut proxy = Start::proxy().arg("--upstream").arg(&address).run();
    let mut client = proxy.client();
    assert_eq!(client.get("/").status, 502);
    // The same socket, which begins to listen now.
    let socket = Socket::from(socket);
    socket.listen(16).unwrap();
    let listener = std::net::TcpListener::from(socket);
    let serving = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut wire = crate::wire::Wire::new(crate::wire::Socket::Tcp(stream));
        wire.head().unwrap();
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nback");
        wire.rest();
    });
    assert_eq!(client.get("/").text(), "back");
    drop(client);
    proxy.stop();
    serving.join().unwrap();
}

#[test]
fn a_client_that_leaves_takes_its_request_with_it() {
    let (tell, told) = std::sync::mpsc::channel();
    let server = failing(move |visit| {
        tell.send("came").unwrap();
        visit.wire.rest();
        tell.send("gone").unwrap();
        Then::Close
    });
    let mut proxy = proxy(&[&server], "");
    let client = {
        let mut client = proxy.client();
        client.send(get("/"));
        assert_eq!(told.recv().unwrap(), "came");
        client
    };
    client.socket.reset();
    drop(client);
    // Nobody wants the answer any more, so the server is told.
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), "gone");
    proxy.stop();
    assert_eq!(proxy.log(1)[0].end, "client-reset");
}

#[test]
fn nothing_is_left_of_a_thousand_small_failures() {
    let count = Arc::new(AtomicUsize::new(0));
    let server = {
        let count = Arc::clone(&count);
        failing(move |visit| match count.fetch_add(1, Ordering::SeqCst) % 5 {
            0 => Then::Close,
            1 => Then::Reset,
            2 => visit.send_and_close("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx"),
            3 => visit.send_and_close("garbage\r\n\r\n"),
            _ => visit.reply("200 OK", "ok"),
        })
    };
    let proxy = proxy(&[&server], "");
    let mut idle = proxy.client();
    idle.get("/");
    let before = proxy.open_files();
    for n in 0..1000 {
        let mut client = proxy.client();
        client.send(get("/"));
        if n % 3 == 0 {
            client.socket.reset();
        } else {
            // An answer or none: both are fine here.
            let _ = client.try_answer(false);
        }
    }
    eventually("descriptors are given back", || (proxy.open_files() <= before + 2).then_some(()));
    assert!(proxy.peak_mib() < 32, "{} MiB", proxy.peak_mib());
}

#[test]
fn a_slow_answer_on_a_used_connection_is_no_slow_connection() {
    let (go, word) = std::sync::mpsc::channel::<()>();
    let word = std::sync::Mutex::new(word);
    let server = Server::start(move |visit| {
        if visit.head.target() == "/slow" {
            let _ = word.lock().unwrap().recv();
        }
        visit.reply("200 OK", "ok")
    });
    let proxy = proxy(&[&server], "--upstream-connect-timeout 100ms --client-head-timeout 600ms");
    let mut client = proxy.client();
    assert_eq!(client.get("/").status, 200);
    client.send(get("/slow"));
    eventually("the server has the request", || (server.heads().len() == 2).then_some(()));
    // The clock: this client is cut when the time for connecting has long been over.
    let mut clock = proxy.client();
    clock.send("GET / HTTP/1.1\r\n");
    assert_eq!(clock.answer().status, 408);
    go.send(()).unwrap();
    let answer = client.answer();
    assert_eq!((answer.status, answer.text()), (200, "ok"));
    assert_eq!(server.heads().len(), 2, "it was asked once");
}
