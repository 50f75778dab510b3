//! Bodies of all sizes, both ways, compared byte by byte; and where they wait when the other side does not take them.

use crate::house::proxy;
use crate::server::{Server, Then};
use crate::wire::{Check, End, Framing, Pattern, get, pour};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

const MIB: u64 = 1 << 20;
/// Lengths around everything that a buffer, a chunk or a counter may be the size of.
const SIZES: [u64; 12] = [0, 1, 15, 16, 1023, 1024, 16_383, 16_384, 16_385, 65_536, 65_537, MIB];
/// A connection that takes nothing for this long is taken for stalled. Were it only slow, nothing would be wrong.
const STALLED: Duration = Duration::from_secs(1);
/// No flow may hold more than its buffer, whatever goes through it.
const MOST_MIB: u64 = 32;

/// `GET /length/n` and `/chunked/n` and `/close/n` answer with n bytes of the pattern n, framed in that way.
fn source() -> Server {
    Server::start(|visit| {
        let length = visit.head.number();
        let kind = visit.head.target().to_owned();
        if kind.starts_with("/chunked/") {
            visit.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            let (mut pattern, mut left, mut size) = (Pattern::new(length), length, 1);
            while left > 0 {
                let mut chunk = vec![0; left.min(size) as usize];
                pattern.fill(&mut chunk);
                let line = format!("{:x}\r\n", chunk.len());
                left -= chunk.len() as u64;
                size = (size * 3).min(200_000);
                visit.send([line.as_bytes(), &chunk, b"\r\n"].concat());
            }
            return visit.send("0\r\n\r\n");
        }
        let close = kind.starts_with("/close/");
        let framing = if close { String::new() } else { format!("Content-Length: {length}\r\n") };
        visit.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n"));
        let sent = pour(&mut visit.wire.socket, length, length, STALLED, &mut |_| true);
        if sent.is_err() || close { Then::Close } else { Then::Next }
    })
}

/// Compares a body with the pattern that the last number of the target names, and answers with its length.
fn sink() -> Server {
    Server::start(|visit| {
        let mut check = Check::new(visit.head.number());
        visit.body_into(&mut |bytes| check.take(bytes));
        visit.reply("200 OK", check.length.to_string())
    })
}

#[test]
fn bodies_come_down_as_they_were_sent() {
    let server = source();
    let proxy = proxy(&[&server], "");
    let mut client = proxy.client();
    for kind in ["length", "chunked", "close"] {
        for length in SIZES {
            let mut check = Check::new(length);
            client.send(get(&format!("/{kind}/{length}")));
            let answer = client.answer_into(false, &mut |bytes| check.take(bytes)).unwrap();
            assert_eq!((answer.status, check.length), (200, length), "{kind}");
            if kind == "close" {
                client = proxy.client();
            }
        }
    }
}

#[test]
fn bodies_go_up_as_they_were_sent() {
    let server = sink();
    let proxy = proxy(&[&server], "");
    let mut client = proxy.client();
    for length in SIZES {
        let body = Pattern::bytes(length, length as usize);
        assert_eq!(client.post(&format!("/{length}"), &body).text(), length.to_string());
        client.send(format!("PUT /{length} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"));
        let mut size = 1;
        let mut rest = body.as_slice();
        while !rest.is_empty() {
            let (chunk, others) = rest.split_at(rest.len().min(size));
            client.send([format!("{:X}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
            (rest, size) = (others, (size * 2).min(100_000));
        }
        client.send("0\r\n\r\n");
        assert_eq!(client.answer().text(), length.to_string());
    }
    assert_eq!(server.connections(), 1);
}

#[test]
fn sixty_four_mebibytes_come_down() {
    let server = source();
    let proxy = proxy(&[&server], "");
    for kind in ["length", "chunked", "close"] {
        let mut check = Check::new(64 * MIB);
        let mut client = proxy.client();
        client.send(get(&format!("/{kind}/{}", 64 * MIB)));
        client.answer_into(false, &mut |bytes| check.take(bytes)).unwrap();
        assert_eq!(check.length, 64 * MIB, "{kind}");
    }
    assert!(proxy.peak_mib() < MOST_MIB, "{} MiB", proxy.peak_mib());
}

#[test]
fn sixty_four_mebibytes_go_up() {
    let server = sink();
    let proxy = proxy(&[&server], "");
    let mut client = proxy.client();
    let length = 64 * MIB;
    client.send(format!("POST /{length} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"));
    pour(&mut client.socket, length, length, STALLED, &mut |_| true).unwrap();
    assert_eq!(client.answer().text(), length.to_string());
    assert!(proxy.peak_mib() < MOST_MIB, "{} MiB", proxy.peak_mib());
}

#[test]
fn a_body_flows_both_ways_at_the_same_time() {
    let server = Server::start(|visit| {
        let mut answer = visit.wire.socket.twin();
        let length = visit.head.number();
        visit.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"));
        visit.body_into(&mut |bytes| {
            use std::io::Write;
            answer.write_all(bytes).unwrap();
        });
        Then::Next
    });
    let proxy = proxy(&[&server], "");
    let mut client = proxy.client();
    for length in [1, MIB, 32 * MIB] {
        let mut sender = client.socket.twin();
        let sending = thread::spawn(move || {
            use std::io::Write;
            let head = format!("POST /{length} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
            sender.write_all(head.as_bytes()).unwrap();
            pour(&mut sender, length, length, STALLED, &mut |_| true).unwrap();
        });
        let mut check = Check::new(length);
        let answer = client.answer_into(false, &mut |bytes| check.take(bytes)).unwrap();
        assert_eq!((answer.framing, check.length), (Framing::Length(length), length));
        sending.join().unwrap();
    }
    assert_eq!(server.connections(), 1);
}

#[test]
fn a_client_that_does_not_read_stops_the_server_and_costs_no_memory() {
    let length = 200 * MIB;
    let (tell, told) = channel();
    let server = Server::start(move |visit| {
        visit.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"));
        let tell = tell.clone();
        let sent = pour(&mut visit.wire.socket, 7, length, STALLED, &mut |sent| tell.send(sent).is_ok());
        if sent.is_ok() { Then::Next } else { Then::Close }
    });
    let proxy = proxy(&[&server], "");
    let mut client = proxy.client();
    client.send(get("/"));
    let sent = told.recv().unwrap();
    // What went is in the buffers of the two connections, which the kernel lets grow to a few MiB each.
    assert!(sent < 100 * MIB, "{sent} bytes went to a client that reads nothing");
    assert!(proxy.peak_mib() < MOST_MIB, "{} MiB", proxy.peak_mib());
    let mut check = Check::new(7);
    client.answer_into(false, &mut |bytes| check.take(bytes)).unwrap();
    assert_eq!(check.length, length);
    assert!(proxy.peak_mib() < MOST_MIB, "{} MiB", proxy.peak_mib());
    client.send(get("/"));
    assert_eq!(client.head().unwrap().fields.get("content-length"), Some(length.to_string().as_str()));
}

#[test]
fn a_server_that_does_not_read_stops_the_client_and_costs_no_memory() {
    let (go, gone) = channel::<()>();
    let gone = std::sync::Mutex::new(gone);
    let server = Server::start(move |visit| {
        // Nothing of the body is read until the test is over.
        let _ = gone.lock().unwrap().recv();
        let _ = visit;
        Then::Reset
    });
    let proxy = proxy(&[&server], "");
    for head in ["Content-Length: 999999999999", "Transfer-Encoding: chunked"] {
        let mut client = proxy.client();
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n"));
        if head.ends_with("chunked") {
            client.send("fffffffff\r\n");
        }
        let sent = pour(&mut client.socket, 7, u64::MAX, STALLED, &mut |_| false).unwrap();
        assert!(sent < 100 * MIB, "{sent} bytes went to a server that reads nothing");
        assert!(proxy.peak_mib() < MOST_MIB, "{} MiB", proxy.peak_mib());
        go.send(()).unwrap();
    }
}

#[test]
fn fifty_clients_that_do_not_read_cost_little_more_than_one() {
    let (tell, told) = channel();
    let server = Server::start(move |visit| {
        visit.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 100 * MIB));
        let tell = tell.clone();
        // Stalls again and again; once is enough to know.
        let mut first = true;
        let sent = pour(&mut visit.wire.socket, 7, 100 * MIB, STALLED, &mut |_| {
            if std::mem::take(&mut first) {
                tell.send(()).unwrap();
            }
            true
        });
        if sent.is_ok() { Then::Next } else { Then::Close }
    });
    let proxy = proxy(&[&server], "");
    let clients: Vec<_> = (0..50)
        .map(|_| {
            let mut client = proxy.client();
            // Little room in the client's kernel, so that the proxy feels it soon.
            socket2::SockRef::from(&client.socket).set_recv_buffer_size(4096).unwrap();
            client.send(get("/"));
            client
        })
        .collect();
    for _ in &clients {
        told.recv().unwrap();
    }
    assert!(proxy.peak_mib() < MOST_MIB, "{} MiB", proxy.peak_mib());
    drop(clients);
    crate::house::eventually("all is given back", || (proxy.open_files() < 20).then_some(()));
}

/// Answers with 64 MiB, and says when they are stuck.
fn stuck(kind: &'static str) -> (Server, std::sync::mpsc::Receiver<u64>) {
    let (tell, told) = channel();
    let server = Server::start(move |visit| {
        let length = 64 * MIB;
        match kind {
            "length" => visit.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n")),
            "chunk" => visit.send(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n")),
            "close" => visit.send("HTTP/1.1 200 OK\r\n\r\n"),
            _ => visit.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"),
        };
        let sent = pour(&mut visit.wire.socket, 7, length, STALLED, &mut |sent| tell.send(sent).is_ok());
        match kind {
            _ if sent.is_err() => Then::Close,
            "length" => Then::Next,
            "chunk" => visit.send("\r\n0\r\n\r\n"),
            _ => Then::Close,
        }
    });
    (server, told)
}

const UPGRADE: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n";

#[test]
fn much_content_goes_through_a_pipe_and_arrives_whole() {
    for kind in ["length", "chunk", "close", "tunnel"] {
        let (server, told) = stuck(kind);
        let mut proxy = proxy(&[&server], "");
        let before = proxy.pipe_ends();
        let mut client = proxy.client();
        client.send(if kind == "tunnel" { UPGRADE.to_owned() } else { get("/") });
        told.recv().unwrap();
        assert_eq!(proxy.pipe_ends(), before + 2, "{kind}: content waits in a pipe");
        let mut check = Check::new(7);
        if kind == "tunnel" {
            client.head().unwrap();
            let (came, _) = client.rest();
            check.take(&came);
        } else {
            client.answer_into(false, &mut |bytes| check.take(bytes)).unwrap();
        }
        assert_eq!(check.length, 64 * MIB, "{kind}");
        // A pipe that nobody needs is closed.
        crate::house::eventually("the pipe is closed", || (proxy.pipe_ends() == before).then_some(()));
        drop(client);
        proxy.stop();
        let down = proxy.log(1)[0].bytes("down");
        assert!((64 * MIB..64 * MIB + 300).contains(&down), "{kind}: {down} bytes logged");
    }
}

#[test]
fn a_client_that_leaves_a_pipe_full_leaves_nothing_to_the_next() {
    let (server, told) = stuck("length");
    let mut proxy = proxy(&[&server], "");
    let before = proxy.pipe_ends();
    let mut client = proxy.client();
    client.send(get("/"));
    told.recv().unwrap();
    client.socket.reset();
    drop(client);
    crate::house::eventually("the full pipe is closed", || (proxy.pipe_ends() == before).then_some(()));
    let mut client = proxy.client();
    client.send(get("/"));
    let mut check = Check::new(7);
    client.answer_into(false, &mut |bytes| check.take(bytes)).unwrap();
    assert_eq!(check.length, 64 * MIB);
    drop(client);
    proxy.stop();
    let ends: Vec<_> = proxy.log(2).iter().map(|line| line.end.clone()).collect();
    assert_eq!(ends, ["client-reset", "done"]);
}

#[test]
fn content_that_ends_in_a_pipe_too_early_is_cut() {
    for kind in ["length", "chunk"] {
        let server = Server::start(move |visit| {
            let framing = if kind == "chunk" {
                "Transfer-Encoding: chunked\r\n\r\n4000000"
            } else {
                "Content-Length: 67108864\r\n"
            };
            visit.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n"));
            let _ = pour(&mut visit.wire.socket, 7, 20 * MIB, STALLED, &mut |_| true);
            Then::Close
        });
        let mut proxy = proxy(&[&server], "");
        let mut client = proxy.client();
        client.send(get("/"));
        let mut check = Check::new(7);
        assert_eq!(client.answer_into(false, &mut |bytes| check.take(bytes)).unwrap_err(), End::Cut, "{kind}");
        assert_eq!(check.length, 20 * MIB, "{kind}: what came has gone on");
        drop(client);
        proxy.stop();
        assert_eq!(proxy.log(1)[0].end, "upstream-truncated", "{kind}");
    }
}

#[test]
fn a_chunk_over_the_limit_of_bodies_does_not_slip_by() {
    let server = sink();
    let mut proxy = proxy(&[&server], "--max-body 1m");
    let mut client = proxy.client();
    client.send("POST /7 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n800000\r\n");
    let mut sender = client.socket.twin();
    let sending = thread::spawn(move || pour(&mut sender, 7, 8 * MIB, STALLED, &mut |_| true));
    assert_eq!(client.answer().status, 413);
    drop(client);
    let _ = sending.join().unwrap();
    proxy.stop();
    let line = &proxy.log(1)[0];
    assert_eq!(line.end, "body-too-large");
    assert!(line.bytes("up") < 2 * MIB, "{}", line.text);
}

#[test]
fn where_no_pipe_can_be_had_content_is_copied() {
    let server = source();
    let proxy = proxy(&[&server], "");
    let mut client = proxy.client();
    assert_eq!(client.get("/length/1").status, 200);
    proxy.limit_open_files(proxy.open_files() as u64);
    let mut check = Check::new(20 * MIB);
    client.send(get(&format!("/length/{}", 20 * MIB)));
    client.answer_into(false, &mut |bytes| check.take(bytes)).unwrap();
    assert_eq!(check.length, 20 * MIB);
}
