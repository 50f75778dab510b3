//! The demo of the README: one command, three origins, a log.

use crate::house::{Program, Signal, Start};
use crate::wire::{Check, Wire, get};
use std::collections::HashMap;

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
}

#[test]
fn a_browser_gets_a_page_and_echo_shows_what_an_origin_gets_to_see() {
    let demo = demo();
    let mut client = demo.client();
    client.send("GET / HTTP/1.1\r\nHost: test.example\r\nAccept: text/html\r\n\r\n");
    let page = client.answer();
    assert!(page.field("content-type").unwrap().starts_with("text/html"));
    assert!(page.text().contains("origin-1"), "{}", page.text());
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
    assert_eq!(client.get("/nothing").status, 404);
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
