//! The demo's pages.

use super::wire::{Answer, Wire};
use crate::origin::DemoStore;

fn ask(store: &DemoStore, request: &str) -> Answer {
    let mut wire = Wire::new(store.clone());
    wire.send(request.as_bytes(), usize::MAX);
    let answer = wire.answers(&[request.starts_with("HEAD")]).remove(0);
    assert!(answer.has("X-Origin: origin-2"), "{}", answer.head);
    answer
}

fn text(answer: &Answer) -> &str {
    std::str::from_utf8(&answer.body).unwrap()
}

const GET: &str = "GET / HTTP/1.1\r\nHost: localhost:8080\r\nAccept: */*\r\n\r\n";

#[test]
fn a_terminal_gets_a_line_and_a_browser_a_page() {
    let store = DemoStore::new("origin-2");
    let first = ask(&store, GET);
    assert_eq!(text(&first), "origin-2 answered (its 1st answer)\n");
    for line in ["Vary: Accept", "Cache-Control: no-store", "Content-Type: text/plain; charset=utf-8"] {
        assert!(first.has(line), "{line}");
    }
    ask(&store, &GET.replace("GET", "HEAD"));
    let page = ask(&store, "GET / HTTP/1.1\r\nHost: a'b&c\r\nAccept: application/xml, Text/HTML;q=0.9\r\n\r\n");
    assert!(page.has("Content-Type: text/html; charset=utf-8") && page.has("Vary: Accept"));
    for part in ["<h1>origin-2</h1>", "its 2nd answer", "http://a&#39;b&amp;c/echo", "Ask again"] {
        assert!(text(&page).contains(part), "{part}");
    }
    assert!(!text(&page).contains("{{") && !text(&page).contains("src="), "self-contained");
    for nth in ["3rd", "4th", "5th", "6th", "7th", "8th", "9th", "10th", "11th", "12th", "13th"] {
        assert_eq!(text(&ask(&store, GET)), format!("origin-2 answered (its {nth} answer)\n"));
    }
    for _ in 14..21 {
        ask(&store, GET);
    }
    assert_eq!(text(&ask(&store, GET)), "origin-2 answered (its 21st answer)\n");
}

#[test]
fn generated_bodies_are_whole() {
    let store = DemoStore::new("origin-2");
    for n in [0, 1, 63, 64, 65, 16_000, 100_001] {
        let answer = ask(&store, &format!("GET /bytes/{n} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!((answer.status, answer.body.len()), (200, n));
        let line = b"0123456789 abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXY\n";
        assert!(answer.body.iter().enumerate().all(|(i, byte)| *byte == line[i % 64]), "{n}");
    }
    let huge = ask(&store, "HEAD /bytes/10737418240 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(huge.status == 200 && huge.has("Content-Length: 10737418240"));
}

#[test]
fn the_echo_shows_what_arrived() {
    let request = "GET /echo?q HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1\r\nvia: 1.1 pilb\r\n\r\n";
    let answer = ask(&DemoStore::new("origin-2"), request);
    assert_eq!(text(&answer), request.strip_suffix("\r\n").unwrap());
    assert!(answer.has("X-Content-Type-Options: nosniff"));
    let bare = ask(&DemoStore::new("origin-2"), "GET /echo HTTP/1.0\r\n\r\n");
    assert_eq!(text(&bare), "GET /echo HTTP/1.0\r\n");
}

#[test]
fn everything_else_is_told_what_there_is() {
    let store = DemoStore::new("origin-2");
    for path in
        ["/x", "/bytes/", "/bytes/1x", "/bytes/+1", "/bytes/10737418241", "/bytes/99999999999999999999", "/echo/"]
    {
        let answer = ask(&store, &format!("GET {path} HTTP/1.1\r\nHost: localhost:8080\r\n\r\n"));
        assert_eq!(answer.status, 404, "{path}");
        for shown in ["http://localhost:8080/", "/echo", "/bytes/N"] {
            assert!(text(&answer).contains(shown), "{path}");
        }
    }
    assert_eq!(ask(&store, "POST / HTTP/1.1\r\nHost: a\r\n\r\n").status, 405);
    assert_eq!(ask(&store, "GET / HTTP/1.1\r\n\r\n").status, 400);
}
