//! The demo of the README: one command, three origins, a log.

use crate::house::{Program, Signal, Start};
use crate::wire::{Check, Wire, get};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn demo() -> Program {
    Start::proxy().arg("--demo").run()
}

/// The line that `/` of a demo origin answers with: its name.
fn who(text: &str) -> String {
    text.split_whitespace().next().unwrap().to_owned()
}

#[test]
fn six_requests_show_each_of_three_origins_twice_and_leave_six_lines() {
    let mut demo = demo();
    let names: Vec<_> = (0..6)
        .map(|_| {
            let answer = demo.client().get("/");
            assert_eq!(answer.status, 200);
            assert_eq!(answer.field("x-origin"), Some(who(answer.text()).as_str()));
            who(answer.text())
        })
        .collect();
    assert_eq!(names[..3], names[3..], "strictly one after the other");
    let times = names.iter().fold(HashMap::new(), |mut times, name| {
        *times.entry(name.as_str()).or_insert(0) += 1;
        times
    });
    assert_eq!(times, HashMap::from([("origin-1", 2), ("origin-2", 2), ("origin-3", 2)]));
    let ended = demo.stop();
    let lines = demo.log(6);
    assert_eq!(lines.len(), 6);
    for (line, name) in lines.iter().zip(&names) {
        assert_eq!((line.client.as_str(), line.status.as_str(), line.end.as_str()), ("127.0.0.1", "200", "done"));
        assert_eq!(
            (line.get("upstream"), line.get("host"), line.get("attempts")),
            (name.as_str(), "test.example", "1")
        );
        assert_eq!(line.request, "GET / HTTP/1.1");
    }
    assert_eq!(ended.log_totals(), (6, 0));
}

#[test]
fn the_terminal_says_what_to_open_and_where_the_log_is() {
    let demo = demo();
    let base = format!("http://127.0.0.1:{}/", demo.port());
    demo.stdout(|lines| lines.iter().any(|line| line.contains(&base)).then_some(()));
    demo.stdout(|lines| lines.iter().any(|line| line.contains("register.log")).then_some(()));
    demo.stdout(|lines| lines.iter().any(|line| line.contains("--compressed") && line.contains(&base)).then_some(()));
}

/// The demo's folder, as the terminal names it.
fn folder(demo: &Program) -> PathBuf {
    let named = |line: &String| line.trim_start().strip_prefix("files ").map(|path| PathBuf::from(path.trim()));
    demo.stdout(|lines| lines.iter().find_map(named))
}

/// Files below a folder.
fn files(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { files(&path) } else { 1 }).sum()
}

#[test]
fn each_origin_misses_once_and_hits_from_then_on() {
    let temporary = TempDir::new().unwrap();
    let mut demo = Start::proxy().arg("--demo").variable("TMPDIR", temporary.path()).run();
    let mut client = demo.client();
    let coded = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: test.example\r\nAccept-Encoding: gzip\r\n\r\n");
    let answers: Vec<_> = (0..6)
        .map(|_| {
            client.send(coded("/story.txt"));
            client.answer()
        })
        .collect();
    for (at, answer) in answers.iter().enumerate() {
        let field = |name| answer.field(name).unwrap_or_else(|| panic!("{at}: no {name} in {answer:?}"));
        assert_eq!((answer.status, field("content-encoding")), (200, "gzip"));
        assert_eq!(field("x-origin"), format!("origin-{}", at % 3 + 1));
        assert_eq!((field("etag"), &answer.body), (answers[0].field("etag").unwrap(), &answers[0].body));
        if at < 3 {
            assert_eq!((field("cache-status"), answer.field("age")), ("pilb-origin; fwd=miss; stored", None));
        } else {
            assert!(field("cache-status").starts_with("pilb-origin; hit; ttl="), "{at}: {answer:?}");
            assert!(field("age").parse::<u32>().unwrap() < 60);
        }
    }
    let folder = folder(&demo);
    assert_eq!(folder.parent(), Some(temporary.path()));
    for number in 1..=3 {
        assert!(files(&folder.join(format!("cache-{number}/objects"))) > 0, "origin-{number}");
    }
    client.send("PURGE /story.txt HTTP/1.1\r\nHost: test.example\r\n\r\n");
    assert_eq!(client.answer().field("x-origin"), Some("origin-1"));
    for cached in ["hit", "hit", "fwd=miss"] {
        client.send(coded("/story.txt"));
        assert!(client.answer().field("cache-status").unwrap().contains(cached), "{cached}");
    }
    demo.stop();
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0);
}

#[test]
fn without_a_place_for_its_files_it_says_so() {
    let temporary = TempDir::new().unwrap();
    let missing = temporary.path().join("missing");
    let ended = Start::proxy().args("--demo --listen 127.0.0.1:0").variable("TMPDIR", &missing).end();
    assert_eq!(ended.code(), 1);
    let sentence = format!("cannot make a folder for the demo in {}: No such file", missing.display());
    assert!(ended.stderr.iter().any(|line| line.contains(&sentence)), "{ended:?}");
}

#[test]
fn a_browser_gets_a_page_and_echo_shows_what_an_origin_gets_to_see() {
    let demo = demo();
    let mut client = demo.client();
    client.send("GET / HTTP/1.1\r\nHost: test.example\r\nAccept: text/html\r\n\r\n");
    let page = client.answer();
    assert!(page.field("content-type").unwrap().starts_with("text/html"));
    assert!(page.text().contains("Three origins, three caches"), "{}", page.text());
    assert_eq!(page.field("x-origin"), Some("origin-1"));
    let echo = client.get("/echo");
    assert!(echo.text().starts_with("GET /echo HTTP/1.1\r\nHost: test.example\r\n"), "{}", echo.text());
    assert!(echo.text().contains("X-Forwarded-For: 127.0.0.1\r\n"), "{}", echo.text());
    assert!(echo.text().contains("Via: 1.1 pilb\r\n"), "{}", echo.text());
}

#[test]
fn bytes_are_as_many_as_asked_for() {
    let demo = demo();
    let mut client = demo.client();
    for length in [0, 1, 63, 64, 65, 1_000_000] {
        let answer = client.get(&format!("/bytes/{length}"));
        assert_eq!((answer.status, answer.body.len()), (200, length));
        let lines = answer.body.chunks(64);
        assert!(lines.clone().all(|line| line == &answer.body[..line.len()]), "{length}");
    }
    let lost = client.get("/nothing");
    assert_eq!(lost.status, 404);
    assert!(lost.text().contains("/bytes/N"));
    let listed = client.get("/shelf/");
    assert!(listed.text().contains("href=\"ring.svg\""), "{}", listed.text());
}

#[test]
fn control_c_finishes_what_runs_and_ends_with_0() {
    let mut demo = demo();
    let mut client = demo.client();
    assert_eq!(client.get("/").status, 200);
    // It is in the middle of an answer that the client has not read yet.
    let mut slow = Wire::new(demo.address().connect().unwrap());
    slow.send(get("/bytes/30000000"));
    assert!(slow.head().unwrap().line.starts_with("HTTP/1.1 200"));
    demo.signal(Signal::INT);
    client.expect_end();
    assert!(demo.is_running());
    let mut came = 0;
    let mut count = |bytes: &[u8]| came += bytes.len();
    slow.body(crate::wire::Framing::Length(30_000_000), &mut count).unwrap();
    assert_eq!(came, 30_000_000);
    let ended = demo.wait();
    assert_eq!(ended.code(), 0);
    assert_eq!(ended.log_totals(), (2, 0));
}

#[test]
fn check_notices_a_wrong_byte() {
    let mut bytes = crate::wire::Pattern::bytes(1, 100);
    let mut check = Check::new(1);
    check.take(&bytes[..33]);
    check.take(&bytes[33..]);
    bytes[50] ^= 1;
    let wrong = std::panic::catch_unwind(|| Check::new(1).take(&bytes));
    assert!(wrong.is_err());
}
