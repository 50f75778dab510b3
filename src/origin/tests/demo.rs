//! The demo's pages.

use super::wire::{Answer, Item, Shelf, Wire};
use crate::origin::{DemoStore, Page, Store};

fn ask<S: Store + Clone>(store: &DemoStore<S>, request: &str) -> Answer {
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
const BROWSE: &str = "GET / HTTP/1.1\r\nHost: a\r\nAccept: application/xml, Text/HTML;q=0.9\r\n\r\n";

/// A demo in front of some files.
fn with_files() -> DemoStore<Shelf> {
    let shelf = Shelf::default().file(b"index.html", b"<h1>demo</h1>").file(b"echo", b"no").file(b"a/b.txt", b"inner");
    DemoStore::over("origin-2", shelf.with(b"a", Item::Directory).with(b"page", Item::Page(Page::default())))
}

#[test]
fn a_terminal_gets_a_line_that_counts() {
    let store = DemoStore::new("origin-2");
    let first = ask(&store, GET);
    assert_eq!(text(&first), "origin-2 answered (its 1st answer)\n");
    for line in ["Vary: Accept", "Cache-Control: no-store", "Content-Type: text/plain; charset=utf-8"] {
        assert!(first.has(line), "{line}");
    }
    ask(&store, &GET.replace("GET", "HEAD"));
    for nth in ["2nd", "3rd", "4th", "5th", "6th", "7th", "8th", "9th", "10th", "11th", "12th", "13th"] {
        assert_eq!(text(&ask(&store, GET)), format!("origin-2 answered (its {nth} answer)\n"));
    }
    for _ in 14..21 {
        ask(&store, GET);
    }
    assert_eq!(text(&ask(&store, GET)), "origin-2 answered (its 21st answer)\n");
}

#[test]
fn a_browser_gets_the_page_of_the_inner_store() {
    let store = with_files();
    assert_eq!(text(&ask(&store, GET)), "origin-2 answered (its 1st answer)\n");
    let page = ask(&store, BROWSE);
    assert_eq!(text(&page), "<h1>demo</h1>");
    assert!(page.has("Content-Type: text/html; charset=utf-8") && page.has("Vary: Accept"));
    assert!(page.has("Cache-Control: no-cache") && page.names("ETag"));
    let by_name = ask(&store, &GET.replace("/ ", "/index.html "));
    assert_eq!(text(&by_name), "<h1>demo</h1>");
    assert!(!by_name.names("Vary"));
    assert_eq!(ask(&DemoStore::new("origin-2"), BROWSE).status, 404);
}

#[test]
fn everything_else_is_of_the_inner_store() {
    let store = with_files();
    let get = |path: &str| ask(&store, &format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert_eq!(text(&get("/a/b.txt")), "inner");
    assert!(get("/a").has("Location: /a/"));
    assert_eq!(get("/x").status, 404);
    assert_eq!(text(&get("/echo")), "GET /echo HTTP/1.1\r\nHost: a\r\n");
    assert_eq!(get("/bytes/7").body, b"0123456");
    assert_eq!(get("/bytes/x").status, 404);
    assert_eq!(ask(&store, "POST /a/b.txt HTTP/1.1\r\nHost: a\r\n\r\n").status, 405);
}

#[test]
fn the_inner_store_may_take_its_time() {
    let shelf = Shelf { slow: true, ..Shelf::default().file(b"b.txt", b"inner") };
    let mut wire = Wire::new(DemoStore::over("origin-2", shelf));
    wire.send(b"GET /b.txt HTTP/1.1\r\nHost: a\r\n\r\n", usize::MAX);
    assert!(wire.received.is_empty());
    let mut woken = 0;
    while wire.wake() {
        woken += 1;
    }
    assert_eq!((woken > 0, text(&wire.answers(&[])[0])), (true, "inner"));
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
fn without_an_inner_store_everything_else_is_not_there() {
    let store = DemoStore::new("origin-2");
    for path in
        ["/x", "/bytes/", "/bytes/1x", "/bytes/+1", "/bytes/10737418241", "/bytes/99999999999999999999", "/echo/"]
    {
        let answer = ask(&store, &format!("GET {path} HTTP/1.1\r\nHost: localhost:8080\r\n\r\n"));
        assert_eq!(answer.status, 404, "{path}");
    }
    assert_eq!(ask(&store, "POST / HTTP/1.1\r\nHost: a\r\n\r\n").status, 405);
    assert_eq!(ask(&store, "GET / HTTP/1.1\r\n\r\n").status, 400);
}
