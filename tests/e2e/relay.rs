//! Exchanges as they should be: what arrives at the server, what comes back, and what becomes of the two connections.

use crate::house::{Start, proxy};
use crate::server::{Server, Then};
use crate::wire::{End, Framing, get, post};
use std::fmt::Write;
use std::sync::mpsc::channel;

/// Answers `/n` with the n and nothing else.
fn counter() -> Server {
    Server::start(|visit| {
        let target = visit.head.target().to_owned();
        visit.reply("200 OK", target)
    })
}

#[test]
fn requests_share_one_connection_on_either_side() {
    let server = counter();
    let mut proxy = proxy(&[&server], "");
    let mut client = proxy.client();
    for n in 0..20 {
        let answer = client.get(&format!("/{n}"));
        assert_eq!((answer.status, answer.text()), (200, format!("/{n}").as_str()));
        assert!(!answer.says_close());
    }
    assert_eq!(server.connections(), 1);
    proxy.stop();
    let lines = proxy.log(20);
    assert_eq!(lines[0].get("reused"), "none");
    assert!(lines[1..].iter().all(|line| line.get("reused") == "both"));
}

#[test]
fn clients_one_after_the_other_share_a_connection_to_the_server() {
    let server = counter();
    let mut proxy = proxy(&[&server], "");
    for n in 0..10 {
        let mut client = proxy.client();
        client.send(format!("GET /{n} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"));
        let answer = client.answer();
        assert!(answer.says_close());
        assert_eq!(answer.text(), format!("/{n}"));
        client.expect_end();
    }
    assert_eq!(server.connections(), 1);
    proxy.stop();
    assert!(proxy.log(10)[1..].iter().all(|line| line.get("reused") == "upstream"));
}

#[test]
fn servers_take_turns_also_on_one_client_connection() {
    let servers = ["a", "b", "c"].map(Server::named);
    let proxy = proxy(&servers.each_ref(), "");
    let mut client = proxy.client();
    let names: Vec<_> = (0..9).map(|_| client.get("/").text().to_owned()).collect();
    assert_eq!(names, ["a", "b", "c", "a", "b", "c", "a", "b", "c"]);
}

#[test]
fn fifty_pipelined_requests_are_answered_in_their_order() {
    let server = Server::start(|visit| {
        let body = visit.body();
        let text = format!("{} {}", visit.head.target(), String::from_utf8(body).unwrap());
        visit.reply("200 OK", text)
    });
    let proxy = proxy(&[&server], "");
    let mut client = proxy.client();
    let mut all = Vec::new();
    for n in 0..50 {
        match n % 3 {
            0 => all.extend(get(&format!("/{n}")).into_bytes()),
            1 => all.extend(post(&format!("/{n}"), format!("body {n}").as_bytes())),
            _ => all.extend(
                format!("PUT /{n} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nbody {}\r\n1\r\n{}\r\n0\r\n\r\n", n / 10, n % 10)
                    .into_bytes(),
            ),
        }
    }
    client.send(&all);
    for n in 0..50 {
        let body = match n % 3 {
            0 => String::new(),
            1 => format!("body {n}"),
            _ => format!("body {}{}", n / 10, n % 10),
        };
        assert_eq!(client.answer().text(), format!("/{n} {body}"));
    }
    // And it goes on after that.
    assert_eq!(client.get("/more").text(), "/more ");
}

#[test]
fn a_request_may_come_byte_by_byte() {
    let server = Server::named("a");
    let proxy = proxy(&[&server], "");
    let mut client = proxy.client();
    for byte in post("/x", b"slow but sure") {
        client.send([byte]);
    }
    let answer = client.answer();
    assert_eq!((answer.status, answer.text()), (200, "slow but sure"));
}

#[test]
fn an_answer_may_come_byte_by_byte() {
    let server = Server::start(|visit| {
        let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-T: 1\r\n\r\n";
        answer.bytes().map(|byte| visit.send([byte])).last().unwrap()
    });
    let proxy = proxy(&[&server], "");
    let mut client = proxy.client();
    for _ in 0..3 {
        let answer = client.get("/");
        assert_eq!((answer.text(), answer.trailers.get("x-t")), ("hello", Some("1")));
    }
    assert_eq!(server.connections(), 1);
}

#[test]
fn an_answer_to_head_has_a_length_and_no_body() {
    let server = Server::start(|visit| match visit.head.method() {
        "HEAD" => visit.send("HTTP/1.1 200 OK\r\nContent-Length: 12345\r\nX-A: b\r\n\r\n"),
        _ => visit.reply("200 OK", "body"),
    });
    let proxy = proxy(&[&server], "");
    let mut client = proxy.client();
    for _ in 0..3 {
        client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
        let head = client.answer_to_head();
        assert_eq!((head.field("content-length"), head.field("x-a")), (Some("12345"), Some("b")));
        assert_eq!(client.get("/").text(), "body");
    }
}

#[test]
fn a_body_that_must_not_be_there_is_nobodys_answer() {
    // Servers that send a body after HEAD or 304 are common enough; whoever comes next on that connection must not get it.
    let server = Server::start(|visit| match (visit.head.method(), visit.head.target()) {
        ("HEAD", _) | (_, "/304") => {
            let line = if visit.head.method() == "HEAD" { "200 OK" } else { "304 Not Modified" };
            let poison = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";
            visit.send(format!("HTTP/1.1 {line}\r\nContent-Length: {}\r\n\r\n{poison}", poison.len()))
        }
        _ => visit.reply("200 OK", "right"),
    });
    let proxy = proxy(&[&server], "");
    let mut client = proxy.client();
    for _ in 0..10 {
        client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.answer_to_head().status, 200);
        assert_eq!(client.get("/").text(), "right");
        assert_eq!(client.get("/304").status, 304);
        assert_eq!(proxy.client().get("/").text(), "right");
    }
}

#[test]
fn answers_without_a_body_end_with_their_head() {
    let server = Server::start(|visit| match visit.head.target() {
        "/204" => visit.send("HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n"),
        "/304" => visit.send("HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n"),
        _ => visit.reply("200 OK", ""),
    });
    let proxy = proxy(&[&server], "");
    let mut client = proxy.client();
    for target in ["/204", "/304", "/200", "/204"] {
        let answer = client.get(target);
        assert_eq!(answer.status.to_string(), target[1..]);
        assert!(answer.body.is_empty());
    }
    assert_eq!(server.connections(), 1);
}

#[test]
fn chunks_and_trailers_go_through_both_ways() {
    let server = Server::start(|visit| {
        let mut body = Vec::new();
        let trailers = visit.body_into(&mut |bytes| body.extend_from_slice(bytes));
        assert!(visit.head.fields.get("transfer-encoding") == Some("chunked"));
        let mut answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Digest\r\n\r\n".to_vec();
        for piece in body.chunks(7) {
            answer.extend(format!("{:04X};ext=\"a b\"\r\n", piece.len()).bytes());
            answer.extend_from_slice(piece);
            answer.extend(b"\r\n");
        }
        answer.extend(format!("000\r\nDigest: {}\r\n\r\n", trailers.get("digest").unwrap_or("none")).bytes());
        visit.send(answer)
    });
    let proxy = proxy(&[&server], "");
    let mut client = proxy.client();
    let body: String = (0..500).map(|n| n.to_string()).collect();
    for size in [1, 3, 1000] {
        let mut request = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\n\r\n".to_owned();
        for piece in body.as_bytes().chunks(size) {
            write!(request, "{:x};x=y\r\n{}\r\n", piece.len(), std::str::from_utf8(piece).unwrap()).unwrap();
        }
        request += "0\r\nDigest: abc\r\n\r\n";
        client.send(request);
        // The reader accepts no extension and no leading zero: chunk lines are the proxy's own.
        let answer = client.answer();
        assert_eq!((answer.framing, answer.trailers.get("digest")), (Framing::Chunked, Some("abc")));
        assert_eq!(answer.text(), body);
    }
}

#[test]
fn the_body_waits_for_100_continue() {
    let (tell, told) = channel();
    let server = Server::start(move |visit| {
        assert_eq!(visit.head.fields.get("expect"), Some("100-continue"));
        tell.send(()).unwrap();
        visit.send("HTTP/1.1 100 Continue\r\n\r\n");
        let body = visit.body();
        visit.reply("201 Created", body)
    });
    let proxy = proxy(&[&server], "");
    let mut client = proxy.client();
    for _ in 0..3 {
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
        told.recv().unwrap();
        assert_eq!(client.answer().status, 100);
        client.send("hello");
        let answer = client.answer();
        assert_eq!((answer.status, answer.text()), (201, "hello"));
    }
    assert_eq!(server.connections(), 1);
}

#[test]
fn a_refusal_instead_of_100_continue_ends_the_connection() {
    // Whether the body follows is the client's choice, so nothing after it can be told apart.
    let server = Server::start(|visit| {
        visit.send_and_close("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nno\n")
    });
    let proxy = proxy(&[&server], "");
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    let answer = client.answer();
    assert_eq!((answer.status, answer.text(), answer.says_close()), (413, "no\n", true));
    client.socket.end();
    client.expect_end();
}

#[test]
fn early_hints_come_before_the_answer() {
    let server = Server::start(|visit| {
        visit.send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n");
        visit.send("HTTP/1.1 103 Early Hints\r\nLink: </b.css>; rel=preload\r\n\r\n");
        visit.reply("200 OK", "page")
    });
    let proxy = proxy(&[&server], "");
    let mut client = proxy.client();
    for _ in 0..2 {
        let hints = [client.get("/"), client.answer()];
        assert!(hints.iter().all(|hint| hint.status == 103));
        assert_eq!(hints[1].field("link"), Some("</b.css>; rel=preload"));
        assert_eq!(client.answer().text(), "page");
    }
    // An old client would take a 103 for the answer.
    let mut old = proxy.client();
    old.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n");
    assert_eq!(old.answer().text(), "page");
}

#[test]
fn an_upgrade_makes_a_tunnel_whose_halves_end_one_by_one() {
    let server = Server::start(|visit| {
        assert_eq!(visit.head.fields.get("upgrade"), Some("echo/1"));
        assert!(visit.head.fields.get("connection").unwrap().eq_ignore_ascii_case("upgrade"));
        visit.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo/1\r\nConnection: Upgrade\r\n\r\nfirst ");
        if visit.head.target() == "/server-ends-first" {
            visit.wire.socket.end();
            let (came, end) = visit.wire.rest();
            assert_eq!((String::from_utf8(came).unwrap(), end), ("early late".to_owned(), End::Closed));
        } else {
            visit.wire.expect(b"early ");
            visit.send("early ");
            let (came, _) = visit.wire.rest();
            visit.send(came);
            visit.send(" bye");
        }
        Then::Close
    });
    let mut proxy = proxy(&[&server], "");
    let upgrade = |target| {
        format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: echo/1\r\n\r\nearly ")
    };
    let mut client = proxy.client();
    client.send(upgrade("/client-ends-first"));
    assert_eq!(client.answer().status, 101);
    client.expect(b"first early ");
    client.send(vec![b'x'; 100_000]);
    client.socket.end();
    let (came, end) = client.rest();
    assert_eq!((came.len(), end), (100_004, End::Closed));
    assert!(came.ends_with(b"x bye"));

    let mut client = proxy.client();
    client.send(upgrade("/server-ends-first"));
    assert_eq!(client.answer().status, 101);
    let (came, end) = client.rest();
    assert_eq!((came, end), (b"first ".to_vec(), End::Closed));
    client.send("late");
    drop(client);
    let lines = proxy.log(2);
    assert!(lines.iter().all(|line| line.status == "101" && line.end == "tunnel-done"), "{lines:?}");
    assert!(lines[0].bytes("up") > 100_000 && lines[0].bytes("down") > 100_000);
    proxy.stop();
}

#[test]
fn a_tunnel_may_end_as_it_begins() {
    let (arrived, told) = channel();
    let (go, word) = channel::<()>();
    let (ready, word) = (std::sync::Mutex::new(arrived), std::sync::Mutex::new(word));
    let server = Server::start(move |visit| {
        ready.lock().unwrap().send(()).unwrap();
        word.lock().unwrap().recv().unwrap();
        visit.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nhello");
        visit.wire.socket.end();
        ready.lock().unwrap().send(()).unwrap();
        assert_eq!(visit.wire.rest(), (b"early late".to_vec(), End::Closed));
        Then::Close
    });
    let mut proxy = proxy(&[&server], "");
    let upgrade = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nearly ";
    // The server's 101, its first bytes and its end are found at once.
    let mut client = proxy.client();
    client.send(upgrade);
    told.recv().unwrap();
    proxy.while_stopped(|| {
        go.send(()).unwrap();
        told.recv().unwrap();
    });
    assert_eq!(client.answer().status, 101);
    assert_eq!(client.rest(), (b"hello".to_vec(), End::Closed));
    client.send("late");
    client.socket.end();
    // The client's end is there before the 101.
    let mut client = proxy.client();
    client.send(format!("{upgrade}late"));
    client.socket.end();
    told.recv().unwrap();
    go.send(()).unwrap();
    told.recv().unwrap();
    assert_eq!(client.answer().status, 101);
    assert_eq!(client.rest(), (b"hello".to_vec(), End::Closed));
    assert!(proxy.log(2).iter().all(|line| line.end == "tunnel-done"));
    proxy.stop();
}

#[test]
fn an_upgrade_that_the_server_does_not_want_is_a_plain_exchange() {
    let server = Server::named("plain");
    let proxy = proxy(&[&server], "");
    let mut client = proxy.client();
    for _ in 0..2 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
        assert_eq!(client.answer().text(), "plain");
    }
}

#[test]
fn what_was_sent_behind_a_refused_upgrade_is_the_next_request() {
    let server = counter();
    let proxy = proxy(&[&server], "");
    let mut client = proxy.client();
    let upgrade = "GET /1 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    client.send(format!("{upgrade}{}", get("/2")));
    assert_eq!([client.answer().text(), client.answer().text()], ["/1", "/2"]);
}

#[test]
fn a_101_that_nobody_asked_for_is_an_error() {
    let server = Server::start(|visit| {
        visit.send_and_close("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n")
    });
    let mut proxy = proxy(&[&server], "");
    assert_eq!(proxy.client().get("/").status, 502);
    proxy.stop();
    assert_eq!(proxy.log(1)[0].end, "bad-response(unasked-switch)");
}

#[test]
fn an_old_client_gets_an_answer_that_it_understands() {
    let server = Server::start(|visit| match visit.head.target() {
        "/chunked" => {
            visit.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
        }
        _ => visit.reply("200 OK", "abcde"),
    });
    let proxy = proxy(&[&server], "");
    let mut old = proxy.client();
    old.send("GET /chunked HTTP/1.0\r\n\r\n");
    let answer = old.answer();
    assert_eq!((answer.framing, answer.text()), (Framing::UntilClose, "abcde"));
    assert!(!answer.head.fields.has("transfer-encoding"));

    let mut old = proxy.client();
    old.send("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(old.answer().text(), "abcde");
    old.expect_end();

    let mut kept = proxy.client();
    for _ in 0..3 {
        kept.send("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n");
        let answer = kept.answer();
        assert_eq!(answer.text(), "abcde");
        assert!(answer.field("connection").unwrap().eq_ignore_ascii_case("keep-alive"));
    }
}

#[test]
fn an_old_server_is_asked_in_http_1_1_and_its_answer_ends_with_its_connection() {
    let server = Server::start(|visit| {
        assert!(visit.head.line.ends_with(" HTTP/1.1"));
        visit.send_and_close("HTTP/1.0 200 OK\r\nServer: old\r\n\r\nall there is")
    });
    let mut proxy = proxy(&[&server], "");
    for _ in 0..3 {
        let mut client = proxy.client();
        let answer = client.get("/");
        assert_eq!((answer.text(), answer.field("server")), ("all there is", Some("old")));
        client.expect_end();
    }
    assert_eq!(server.connections(), 3);
    proxy.stop();
    assert!(proxy.log(3).iter().all(|line| line.end == "done"));
}

#[test]
fn the_server_learns_who_asked_and_nothing_that_is_only_between_client_and_proxy() {
    let server = Server::named("a");
    let append = proxy(&[&server], "");
    append.client().send(
        "GET /a%20b?c=%zz HTTP/1.1\r\nHost: shop.example:8080\r\nConnection: close, X-Secret\r\nX-Secret: 1\r\n\
         Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: gzip\r\nX-Forwarded-For: 10.0.0.1\r\n\
         Via: 1.0 front\r\nCookie: a=b\r\n\r\n",
    );
    let head = crate::house::eventually("the request", || server.heads().pop());
    assert_eq!(head.line, "GET /a%20b?c=%zz HTTP/1.1");
    for (name, value) in [
        ("host", Some("shop.example:8080")),
        ("cookie", Some("a=b")),
        ("x-forwarded-for", Some("10.0.0.1, 127.0.0.1")),
        ("x-forwarded-proto", Some("http")),
        ("x-forwarded-host", Some("shop.example:8080")),
        ("via", Some("1.0 front, 1.1 pilb")),
        ("connection", None),
        ("x-secret", None),
        ("keep-alive", None),
        ("proxy-connection", None),
        ("te", None),
    ] {
        assert_eq!(head.fields.get(name), value, "{name}");
    }
    for (mode, expected) in [("replace", "127.0.0.1"), ("off", "10.0.0.1")] {
        let proxy = proxy(&[&server], &format!("--forwarded {mode}"));
        let mut client = proxy.client();
        client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 10.0.0.1\r\n\r\n");
        client.answer();
        assert_eq!(server.heads().last().unwrap().fields.get("x-forwarded-for"), Some(expected), "{mode}");
    }
}

#[test]
fn the_client_gets_the_servers_fields_without_those_of_its_connection() {
    let server = Server::start(|visit| {
        let fields =
            "Connection: X-Hop, keep-alive\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n";
        visit.reply_with("200 Fine, thanks", fields, "x")
    });
    let proxy = proxy(&[&server], "");
    let answer = proxy.client().get("/");
    assert_eq!(answer.head.line, "HTTP/1.1 200 Fine, thanks");
    assert_eq!(answer.head.fields.all("set-cookie").collect::<Vec<_>>(), ["a", "b"]);
    for name in ["connection", "keep-alive", "x-hop"] {
        assert!(!answer.head.fields.has(name), "{name}");
    }
    assert!(answer.field("date").unwrap().ends_with(" GMT"), "a date where there is none");
}

#[test]
fn the_target_wins_over_the_host() {
    let server = Server::named("a");
    let proxy = proxy(&[&server], "");
    let mut client = proxy.client();
    client.send("GET http://real.example/x HTTP/1.1\r\nHost: other.example\r\n\r\n");
    assert_eq!(client.answer().status, 200);
    let head = server.heads().pop().unwrap();
    assert_eq!((head.line.as_str(), head.fields.get("host")), ("GET /x HTTP/1.1", Some("real.example")));
}

#[test]
fn what_has_two_readings_is_refused_and_never_seen_by_the_server() {
    let server = Server::named("a");
    let mut proxy = proxy(&[&server], "");
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let cases: &[(&str, u16)] = &[
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501),
        ("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        ("GET / HTTP/1.1\nHost: a\n\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n folded\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        ("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", 405),
        ("GET / HTTP/1.1\r\nHost: a\r\nExpect: more\r\n\r\n", 417),
    ];
    for (request, status) in cases {
        let mut client = proxy.client();
        client.send(format!("{request}{smuggled}"));
        let answer = client.answer();
        assert_eq!((answer.status, answer.says_close()), (*status, true), "{request:?}");
        client.socket.end();
        client.expect_end();
    }
    assert!(server.heads().is_empty(), "{:?}", server.heads());
    proxy.stop();
    let lines = proxy.log(cases.len());
    assert_eq!(lines.len(), cases.len(), "one line each, and none for what came behind");
    for (line, (request, status)) in lines.iter().zip(cases) {
        assert_eq!(line.status, status.to_string(), "{request:?}");
        assert!(line.end.ends_with(')'), "the exact fault is named: {}", line.text);
    }
}

#[test]
fn a_bad_chunk_is_refused_and_the_server_never_gets_an_end() {
    let (tell, told) = channel();
    let server = Server::start(move |visit| {
        let mut body = Vec::new();
        // The strict reader would have it that the body was cut short, and that is right.
        let trailers = visit.body_into(&mut |bytes| body.extend_from_slice(bytes));
        tell.send((body, trailers)).unwrap();
        Then::Close
    });
    let mut proxy = proxy(&[&server], "");
    for bad in ["5\nhello\r\n", "5\r\nhelloX\r\n", "+5\r\nhello\r\n", "g\r\n", "5;a=\"\n\"\r\nhello\r\n"] {
        let mut client = proxy.client();
        client.send(format!(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n{bad}0\r\n\r\n"
        ));
        let answer = client.answer();
        assert_eq!((answer.status, answer.says_close()), (400, true), "{bad:?}");
    }
    proxy.stop();
    assert!(proxy.log(5).iter().all(|line| line.end.starts_with("bad-request-body(")));
    for (body, trailers) in told.try_iter() {
        assert!(trailers.0.is_empty() && body.starts_with(b"abc"), "{body:?}");
    }
}

#[test]
fn an_early_answer_reaches_a_client_that_is_still_sending() {
    let server = Server::start(|visit| {
        visit.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 3\r\nConnection: close\r\n\r\nno\n");
        // A server that is polite enough to read on for a while.
        visit.wire.socket.end();
        visit.wire.rest();
        Then::Close
    });
    let proxy = proxy(&[&server], "");
    let mut client = proxy.client();
    let mut sender = client.socket.twin();
    let sending = std::thread::spawn(move || {
        use std::io::Write;
        let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n";
        sender.write_all(head.as_bytes()).unwrap();
        let block = [b'x'; 65536];
        // Until nobody takes it any more.
        while sender.write_all(&block).is_ok() {}
    });
    let answer = client.answer();
    assert_eq!((answer.status, answer.text(), answer.says_close()), (403, "no\n", true));
    client.socket.shut(std::net::Shutdown::Both);
    sending.join().unwrap();
}

#[test]
fn a_client_that_ends_its_half_after_the_request_gets_its_answer() {
    let server = Server::named("a");
    let proxy = proxy(&[&server], "");
    let mut client = proxy.client();
    client.send(post("/", b"half"));
    client.socket.end();
    assert_eq!(client.answer().text(), "half");
    client.expect_end();
}

#[test]
fn empty_lines_before_a_request_do_not_matter() {
    let server = counter();
    let proxy = Start::proxy().to(&[&server]).run();
    let mut client = proxy.client();
    client.send(format!("\r\n{}\r\n\r\n{}", get("/1"), get("/2")));
    assert_eq!([client.answer().text(), client.answer().text()], ["/1", "/2"]);
}
