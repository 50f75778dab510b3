//! Signals: the end in good order, the end at once, and the turning of the log.

use crate::house::{Program, Signal, Start, eventually, lines_of, proxy};
use crate::server::{Server, Then};
use crate::wire::{End, Wire, get, post};
use std::fs;
use std::io::ErrorKind;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

/// A server whose answer to `/slow` waits for a word, and the two ends of that: it has arrived, it may go on.
fn slow_server() -> (Server, Receiver<()>, Sender<()>) {
    let (tell, arrived) = channel();
    let (go, word) = channel();
    let word = Mutex::new(word);
    let server = Server::start(move |visit| {
        let body = visit.body();
        if visit.head.target() == "/slow" {
            tell.send(()).unwrap();
            // No word: the test is over.
            if word.lock().unwrap().recv().is_err() {
                return Then::Close;
            }
        }
        visit.reply("200 OK", if body.is_empty() { b"done".to_vec() } else { body })
    });
    (server, arrived, go)
}

fn is_refused(proxy: &Program) -> bool {
    match proxy.address().connect() {
        Err(error) => error.kind() == ErrorKind::ConnectionRefused,
        // It was in the queue of a listener that just closes.
        Ok(_) => false,
    }
}

/// A client whose connection waits for its next request.
fn idle(proxy: &Program) -> Wire {
    let mut client = proxy.client();
    assert_eq!(client.get("/").status, 200);
    client
}

#[test]
fn an_end_without_work_is_immediate_and_clean() {
    let server = Server::named("a");
    for signal in [Signal::TERM, Signal::INT] {
        let mut proxy = proxy(&[&server], "");
        let mut idle = idle(&proxy);
        let mut silent = proxy.client();
        proxy.signal(signal);
        idle.expect_end();
        silent.expect_end();
        let ended = proxy.wait();
        assert_eq!((ended.code(), ended.log_totals()), (0, (1, 0)));
    }
}

#[test]
fn what_runs_is_finished_while_idle_connections_close_and_new_ones_are_refused() {
    let (server, arrived, go) = slow_server();
    let mut proxy = proxy(&[&server], "");
    let mut idle = idle(&proxy);
    let mut busy = proxy.client();
    busy.send(get("/slow"));
    arrived.recv().unwrap();
    proxy.signal(Signal::TERM);
    idle.expect_end();
    eventually("new clients are refused", || is_refused(&proxy).then_some(()));
    assert!(proxy.is_running());
    go.send(()).unwrap();
    let answer = busy.answer();
    assert_eq!((answer.text(), answer.says_close()), ("done", true));
    busy.expect_end();
    let ended = proxy.wait();
    assert_eq!((ended.code(), ended.log_totals()), (0, (2, 0)));
    assert!(proxy.log(2).iter().all(|line| line.end == "done"));
}

#[test]
fn an_upload_that_runs_is_finished() {
    let server = Server::named("a");
    let mut proxy = proxy(&[&server], "");
    let mut idle = idle(&proxy);
    let mut busy = proxy.client();
    let request = post("/", &[b'x'; 300_000]);
    let (first, rest) = request.split_at(100_000);
    busy.send(first);
    eventually("it has arrived", || (server.heads().len() == 2).then_some(()));
    proxy.signal(Signal::TERM);
    idle.expect_end();
    busy.send(rest);
    let answer = busy.answer();
    assert_eq!((answer.body.len(), answer.says_close()), (300_000, true));
    assert_eq!(proxy.wait().code(), 0);
}

#[test]
fn a_request_that_is_still_coming_in_is_served() {
    let server = Server::named("a");
    let mut proxy = proxy(&[&server], "");
    let mut idle = idle(&proxy);
    let mut half = proxy.client();
    half.send("GET / HTTP/1.1\r\nHo");
    // This one's end shows that the one before it has been read, as both were there before the signal.
    proxy.signal(Signal::TERM);
    idle.expect_end();
    half.send("st: a\r\n\r\n");
    let answer = half.answer();
    assert_eq!((answer.status, answer.says_close()), (200, true));
    half.expect_end();
    assert_eq!(proxy.wait().code(), 0);
}

#[test]
fn a_second_signal_ends_at_once() {
    for second in [Signal::TERM, Signal::INT] {
        let (server, arrived, _go) = slow_server();
        let mut proxy = proxy(&[&server], "");
        let mut idle = idle(&proxy);
        let mut busy = proxy.client();
        busy.send(get("/slow"));
        arrived.recv().unwrap();
        proxy.signal(Signal::TERM);
        idle.expect_end();
        proxy.signal(second);
        let ended = proxy.wait();
        assert_eq!(ended.code(), 0, "{ended:?}");
        assert!(busy.head().is_err(), "an answer that there is none");
        let lines = proxy.log(2);
        assert_eq!((lines.len(), lines[1].end.as_str(), ended.log_totals()), (2, "drained", (2, 0)));
    }
}

#[test]
fn the_drain_time_has_an_end() {
    let (server, arrived, _go) = slow_server();
    let mut proxy = proxy(&[&server], "--drain-timeout 100ms");
    let mut busy = proxy.client();
    busy.send(get("/slow"));
    arrived.recv().unwrap();
    proxy.signal(Signal::TERM);
    let ended = proxy.wait();
    assert_eq!((ended.code(), ended.log_totals()), (0, (1, 0)));
    assert!(matches!(busy.head(), Err(End::Reset | End::Closed)));
    assert_eq!(proxy.log(1)[0].end, "drained");
}

#[test]
fn a_tunnel_does_not_outlive_the_drain_time() {
    let server = Server::start(|visit| {
        visit.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n");
        while let Ok(byte) = visit.wire.body(crate::wire::Framing::Length(1), &mut |_| {}) {
            drop(byte);
            visit.send("!");
        }
        Then::Close
    });
    let mut proxy = proxy(&[&server], "--drain-timeout 200ms");
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n");
    assert_eq!(client.answer().status, 101);
    client.send("?");
    client.expect(b"!");
    proxy.signal(Signal::TERM);
    let ended = proxy.wait();
    assert_eq!((ended.code(), proxy.log(1)[0].end.as_str()), (0, "drained"));
    let (_, _) = client.rest();
}

#[test]
fn pipelined_requests_behind_the_last_one_are_not_half_served() {
    let (server, arrived, go) = slow_server();
    let mut proxy = proxy(&[&server], "");
    let mut idle = idle(&proxy);
    let mut busy = proxy.client();
    busy.send(format!("{}{}{}", get("/slow"), get("/2"), get("/3")));
    arrived.recv().unwrap();
    proxy.signal(Signal::TERM);
    idle.expect_end();
    go.send(()).unwrap();
    let answer = busy.answer();
    assert_eq!((answer.text(), answer.says_close()), ("done", true));
    // The client was told that the connection closes: what it had sent ahead was not served, and it can tell.
    busy.socket.end();
    busy.expect_end();
    assert_eq!(server.heads().len(), 2, "one of the idle client, one of the busy one");
    assert_eq!(proxy.wait().code(), 0);
}

#[test]
fn workers_end_together() {
    let server = Server::named("a");
    let mut proxy = proxy(&[&server], "--workers 4");
    let mut clients: Vec<_> = (0..40).map(|_| idle(&proxy)).collect();
    proxy.signal(Signal::TERM);
    clients.iter_mut().for_each(Wire::expect_end);
    let ended = proxy.wait();
    assert_eq!((ended.code(), ended.log_totals()), (0, (40, 0)));
}

#[test]
fn usr1_goes_on_in_a_new_file_after_a_rename() {
    let server = Server::named("a");
    let mut proxy = proxy(&[&server], "");
    let mut client = proxy.client();
    (0..3).for_each(|n| drop(client.get(&format!("/old/{n}"))));
    assert_eq!(proxy.log(3).len(), 3);
    let old = proxy.folder.join("register.log.1");
    fs::rename(proxy.log_path(), &old).unwrap();
    // Until it is told, it goes on in the old file, whatever that is called now.
    client.get("/old/3");
    eventually("a fourth line in the old file", || (lines_of(&old).len() == 4).then_some(()));
    assert!(!proxy.log_path().exists());
    proxy.signal(Signal::USR1);
    eventually("the new file", || proxy.log_path().exists().then_some(()));
    (0..2).for_each(|n| drop(client.get(&format!("/new/{n}"))));
    let ended = proxy.stop();
    assert_eq!(ended.log_totals(), (6, 0));
    let requests = |path| lines_of(path).into_iter().map(|line| line.request).collect::<Vec<_>>();
    let expected = |name: &str, n| (0..n).map(|n| format!("GET /{name}/{n} HTTP/1.1")).collect::<Vec<_>>();
    assert_eq!((requests(&old), requests(&proxy.log_path())), (expected("old", 4), expected("new", 2)));
}

#[test]
fn no_line_is_lost_or_torn_while_the_log_is_turned_under_load() {
    const CLIENTS: usize = 4;
    const EACH: usize = 500;
    let server = Server::named("a");
    let mut proxy = proxy(&[&server], "--workers 2");
    let clients: Vec<_> = (0..CLIENTS)
        .map(|id| {
            let mut client = proxy.client();
            thread::spawn(move || (0..EACH).for_each(|n| assert_eq!(client.get(&format!("/{id}/{n}")).status, 200)))
        })
        .collect();
    let mut turns = 0;
    while turns < 3 || clients.iter().any(|client| !client.is_finished()) {
        // It is not there while the signal before this one is on its way.
        if fs::rename(proxy.log_path(), proxy.folder.join(format!("register.log.{turns}"))).is_ok() {
            turns += 1;
            proxy.signal(Signal::USR1);
        }
        thread::yield_now();
    }
    clients.into_iter().for_each(|client| client.join().unwrap());
    assert_eq!(proxy.stop().log_totals(), ((CLIENTS * EACH) as u64, 0));
    let mut requests = Vec::new();
    for file in fs::read_dir(&proxy.folder).unwrap() {
        let path = file.unwrap().path();
        assert!(fs::read(&path).unwrap().last().is_none_or(|byte| *byte == b'\n'));
        requests.extend(lines_of(&path).into_iter().map(|line| line.request));
    }
    requests.sort();
    requests.dedup();
    assert_eq!(requests.len(), CLIENTS * EACH, "over {turns} turns");
}

#[test]
fn usr1_does_not_end_a_program_without_a_log() {
    let server = Server::named("a");
    let mut proxy = proxy(&[&server], "--access-log off");
    proxy.signal(Signal::USR1);
    assert_eq!(proxy.client().get("/").status, 200);
    proxy.stop();
    let folder = tempfile::TempDir::new().unwrap();
    let mut origin = Start::origin(folder.path()).run();
    origin.signal(Signal::USR1);
    assert_eq!(origin.client().get("/").status, 404);
    origin.stop();
}
