//! One request, one answer: a table, each row run with its bytes arriving whole, one by one, and in odd pieces.

use super::wire::{Answer, Item, Shelf, Wire};
use crate::engine::record::Part;
use crate::engine::{Close, CloseReason};
use crate::origin::{Page, StoreError};

const TAG: &str = "\"6-2ebc98a1.0\"";
const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

fn shelf() -> Shelf {
    let page = Page { status: 200, media: "text/plain", fields: "X-Made: yes\r\n", body: b"made".to_vec() };
    Shelf::default()
        .file(b"index.html", b"<h1>home</h1>")
        .file(b"a.txt", b"hello\n")
        .file(b"empty.bin", b"")
        .file(b"sub/index.html", b"sub")
        .with(b"sub", Item::Directory)
        .with(b"bare", Item::Directory)
        .with(b"odd/index.html", Item::Directory)
        .with(b"\\evil.example", Item::Directory)
        .with(b"\r\n", Item::Directory)
        .with(b"secret", Item::Error(StoreError::Forbidden))
        .with(b"busy", Item::Error(StoreError::Busy))
        .with(b"broken", Item::Error(StoreError::Failed))
        .with(b"made", Item::Page(page))
        .file(b"a b.txt", b"spaced")
        .file(b"%2e%2e", b"a name of six bytes")
        .file(b"back\\slash", b"back")
        .file(b"\xff\xfe", b"not text")
        .file(b".env", b"PASSWORD")
        .file(b"etc/passwd", b"root")
        .file(b"../etc/passwd", b"ROOT")
        .file(b".well-known/x", b"known")
}

/// Sends `request` by steps, and returns the one answer, how the connection ended, and the log's words.
fn ask(request: &[u8], step: usize) -> (Answer, Option<Close>, CloseReason, &'static str) {
    let mut wire = Wire::new(shelf());
    wire.send(request, step);
    let answers = wire.answers(&[request.starts_with(b"HEAD")]);
    assert_eq!((answers.len(), wire.log.0.len()), (1, 1), "{}", request.escape_ascii());
    let record = &wire.log.0[0];
    assert_eq!(record.status, answers[0].status);
    assert_eq!(record.bytes_down, wire.received.len() as u64);
    assert_eq!(record.head_down as usize, answers[0].head.len());
    let first = request.split(|byte| b"\r\n".contains(byte)).find(|line| !line.is_empty()).unwrap();
    assert!(first.starts_with(record.part(Part::Line)));
    (answers[0].clone(), wire.close, record.end, record.detail)
}

/// The answer, which must be the same however the bytes arrive. The steps are not longer than what a refusal would
/// still read.
fn same_by_all_steps(request: &[u8]) -> (Answer, Option<Close>, CloseReason, &'static str) {
    let whole = ask(request, usize::MAX);
    for step in [1, 7] {
        assert_eq!(ask(request, step), whole, "{} by {step}", request.escape_ascii());
    }
    whole
}

fn get(target: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: a.example\r\n\r\n").into_bytes()
}

#[test]
fn paths() {
    for (target, status, body) in [
        ("/", 200, "<h1>home</h1>"),
        ("/index.html", 200, "<h1>home</h1>"),
        ("/a.txt", 200, "hello\n"),
        ("/a.txt?v=1", 200, "hello\n"),
        ("/a.txt?../../x%00", 200, "hello\n"),
        ("/?", 200, "<h1>home</h1>"),
        ("/%61.txt", 200, "hello\n"),
        ("/%41.txt", 404, "404 Not Found\n"),
        ("/a%20b.txt", 200, "spaced"),
        ("/%252e%252e", 200, "a name of six bytes"),
        ("/back\\slash", 200, "back"),
        ("/back%5cslash", 200, "back"),
        ("/%ff%fe", 200, "not text"),
        ("/empty.bin", 200, ""),
        ("/sub/", 200, "sub"),
        ("/.well-known/x", 200, "known"),
        ("/etc/passwd", 200, "root"),
        ("/made", 200, "made"),
        ("/nothing", 404, "404 Not Found\n"),
        ("/a.txt/", 404, "404 Not Found\n"),
        ("/bare/", 404, "404 Not Found\n"),
        ("/odd/", 404, "404 Not Found\n"),
        ("/secret", 403, "403 Forbidden\n"),
        ("/busy", 503, "503 Service Unavailable: store-busy\n"),
        ("/broken", 500, "500 Internal Server Error: store-failed\n"),
        ("http://other.example/a.txt", 200, "hello\n"),
        ("http://other.example", 200, "<h1>home</h1>"),
        ("http://other.example?x", 200, "<h1>home</h1>"),
        // Hidden, though the store has it, and doubled slashes: not there.
        ("/.env", 404, "404 Not Found\n"),
        ("/%2eenv", 404, "404 Not Found\n"),
        ("/./a.txt", 404, "404 Not Found\n"),
        ("/sub/.", 404, "404 Not Found\n"),
        ("//a.txt", 404, "404 Not Found\n"),
        ("/sub//index.html", 404, "404 Not Found\n"),
        ("//", 404, "404 Not Found\n"),
        ("/..\\etc\\passwd", 404, "404 Not Found\n"),
        // Escapes: the store would say ROOT.
        ("/../etc/passwd", 400, "400 Bad Request: bad-request (dot-dot)\n"),
        ("/sub/../etc/passwd", 400, "400 Bad Request: bad-request (dot-dot)\n"),
        ("/%2e%2e/etc/passwd", 400, "400 Bad Request: bad-request (dot-dot)\n"),
        ("/.%2e/etc/passwd", 400, "400 Bad Request: bad-request (dot-dot)\n"),
        ("/%2E./etc/passwd", 400, "400 Bad Request: bad-request (dot-dot)\n"),
        ("/..", 400, "400 Bad Request: bad-request (dot-dot)\n"),
        ("/sub/..", 400, "400 Bad Request: bad-request (dot-dot)\n"),
        ("http://a.example/../etc/passwd", 400, "400 Bad Request: bad-request (dot-dot)\n"),
        ("/..%2fetc/passwd", 400, "400 Bad Request: bad-request (encoded-slash)\n"),
        ("/%2e%2e%2fetc%2fpasswd", 400, "400 Bad Request: bad-request (encoded-slash)\n"),
        ("/etc%2Fpasswd", 400, "400 Bad Request: bad-request (encoded-slash)\n"),
        ("/a.txt%00", 400, "400 Bad Request: bad-request (nul-in-path)\n"),
        ("/a.txt%00.png", 400, "400 Bad Request: bad-request (nul-in-path)\n"),
        ("/%zz", 400, "400 Bad Request: bad-request (bad-escape)\n"),
        ("/%", 400, "400 Bad Request: bad-request (bad-escape)\n"),
        ("/%c0%ae%c0%ae/etc/passwd", 404, "404 Not Found\n"),
    ] {
        let (answer, close, end, _) = same_by_all_steps(&get(target));
        assert_eq!((answer.status, std::str::from_utf8(&answer.body).unwrap()), (status, body), "{target}");
        assert_eq!(close, None, "{target}: the request was well framed, the connection goes on");
        assert_eq!(end == CloseReason::BadRequest, status == 400, "{target}");
    }
}

#[test]
fn directories_without_their_slash() {
    for (target, location) in [
        ("/sub", "/sub/"),
        ("/sub?a=b&c", "/sub/?a=b&c"),
        ("http://other.example/sub", "/sub/"),
        ("/\\evil.example", "/%5Cevil.example/"),
        ("/%5cevil.example?//x", "/%5Cevil.example/?//x"),
        ("/%0d%0a", "/%0D%0A/"),
    ] {
        let (answer, close, ..) = same_by_all_steps(&get(target));
        assert_eq!(answer.status, 301, "{target}");
        assert!(answer.has(&format!("Location: {location}")), "{target}: {}", answer.head);
        assert_eq!((answer.body.len(), close), (0, None));
    }
}

#[test]
fn the_fields_of_a_file() {
    let (answer, ..) = same_by_all_steps(&get("/a.txt"));
    for line in [
        "HTTP/1.1 200 OK",
        "Date: Fri, 15 Jan 2027 08:00:00 GMT",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Length: 6",
        "Accept-Ranges: bytes",
        &format!("Last-Modified: {MODIFIED}"),
        &format!("ETag: {TAG}"),
    ] {
        assert!(answer.has(line), "{line} in {}", answer.head);
    }
    assert!(!answer.names("Connection"));
    let (head, ..) = same_by_all_steps(b"HEAD /a.txt HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((head.head, head.body), (answer.head, Vec::new()));
    let (missing, ..) = same_by_all_steps(b"HEAD /nothing HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(missing.status == 404 && missing.has("Content-Length: 14") && missing.body.is_empty());
    let (made, ..) = same_by_all_steps(b"HEAD /made HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(made.has("X-Made: yes") && made.has("Content-Length: 4") && made.body.is_empty());
}

#[test]
fn conditions() {
    for (method, path, field, status) in [
        ("GET", "/a.txt", format!("If-None-Match: {TAG}"), 304),
        ("HEAD", "/a.txt", format!("If-None-Match: {TAG}"), 304),
        ("GET", "/a.txt", format!("If-None-Match: \"x\", W/{TAG}"), 304),
        ("GET", "/a.txt", "If-None-Match: *".to_owned(), 304),
        ("GET", "/a.txt", "If-None-Match: \"x\"".to_owned(), 200),
        ("GET", "/a.txt", format!("If-Modified-Since: {MODIFIED}"), 304),
        ("GET", "/a.txt", "If-Modified-Since: Sun, 06 Nov 1994 08:49:36 GMT".to_owned(), 200),
        ("GET", "/a.txt", "If-Match: \"x\"".to_owned(), 412),
        ("HEAD", "/a.txt", "If-Match: \"x\"".to_owned(), 412),
        ("GET", "/a.txt", format!("If-Match: {TAG}"), 200),
        ("GET", "/a.txt", "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:36 GMT".to_owned(), 412),
        // Conditions count only where the answer would be 200 (RFC 9110 §13.2.1).
        ("GET", "/nothing", "If-None-Match: *".to_owned(), 404),
        ("GET", "/sub", "If-Match: \"x\"".to_owned(), 301),
        ("OPTIONS", "/a.txt", "If-Match: \"x\"".to_owned(), 204),
        ("DELETE", "/a.txt", "If-Match: \"x\"".to_owned(), 405),
    ] {
        let (answer, close, ..) =
            same_by_all_steps(format!("{method} {path} HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n").as_bytes());
        assert_eq!((answer.status, close), (status, None), "{method} {path} {field}");
        if status == 304 {
            assert!(answer.has(&format!("ETag: {TAG}")) && answer.has(&format!("Last-Modified: {MODIFIED}")));
            assert!(answer.names("Date") && !answer.names("Content-Length") && !answer.names("Content-Type"));
        }
    }
}

#[test]
fn other_methods() {
    for (line, status) in [
        ("OPTIONS *", 204),
        ("OPTIONS /a.txt", 204),
        ("OPTIONS /../x", 204),
        ("OPTIONS http://a.example", 204),
        ("POST /a.txt", 405),
        ("PUT /new", 405),
        ("DELETE /a.txt", 405),
        ("PATCH /a.txt", 405),
        ("PROPFIND /", 405),
        ("get /a.txt", 405),
    ] {
        let (answer, close, ..) = same_by_all_steps(format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        assert_eq!((answer.status, close), (status, None), "{line}");
        assert!(answer.has("Allow: GET, HEAD, OPTIONS"), "{line}");
        assert_eq!(answer.names("Content-Length"), status != 204, "{line}");
    }
}

#[test]
fn what_is_refused() {
    use CloseReason::*;
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(8 * 1024));
    let endless = "x".repeat(17 * 1024);
    let large = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(17 * 1024));
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(100));
    for (request, status, end, detail) in [
        ("GET / HTTP/1.1\r\n\r\n", 400, BadRequest, "no-host"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, BadRequest, "many-hosts"),
        ("GET / HTTP/1.1\nHost: a\n\n", 400, BadRequest, "bare-lf"),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400, BadRequest, "bad-request-line"),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400, BadRequest, "bad-field-name"),
        ("GET /a\u{e4} HTTP/1.1\r\nHost: a\r\n\r\n", 400, BadRequest, "bad-target"),
        ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400, BadRequest, "bad-target"),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505, BadVersion, "unknown-version"),
        ("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 405, BadMethod, "trace"),
        ("CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 405, BadMethod, "connect"),
        ("GET / HTTP/1.1\r\nHost: a\r\nExpect: x\r\n\r\n", 417, BadExpectation, "bad-expectation"),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
            BadRequest,
            "length-and-coding",
        ),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501, BadCoding, "unknown-transfer-coding"),
        (&long, 414, TargetTooLong, "target-too-long"),
        (&endless, 414, TargetTooLong, "target-too-long"),
        (&large, 431, HeadTooLarge, "head-too-large"),
        (&many, 431, HeadTooLarge, "too-many-fields"),
    ] {
        let (answer, close, logged, word) = same_by_all_steps(request.as_bytes());
        assert_eq!((answer.status, logged, word), (status, end, detail), "{}", &request[..request.len().min(60)]);
        assert_eq!(close, Some(Close::Linger), "{detail}");
        assert!(answer.has("Connection: close"), "{detail}");
        assert_eq!(answer.names("Allow"), status == 405, "{detail}");
        let text = String::from_utf8(answer.body).unwrap();
        assert!(text.starts_with(&status.to_string()) && text.contains(end.word()) && text.contains(detail), "{text}");
    }
}

#[test]
fn versions_and_persistence() {
    for (line, fields, connection, closes) in [
        ("GET /a.txt HTTP/1.1", "Host: a\r\n", None, false),
        ("GET /a.txt HTTP/1.1", "Host: a\r\nConnection: keep-alive\r\n", None, false),
        ("GET /a.txt HTTP/1.1", "Host: a\r\nConnection: close\r\n", Some("Connection: close"), true),
        ("GET /a.txt HTTP/1.0", "", Some("Connection: close"), true),
        ("GET /a.txt HTTP/1.0", "Connection: keep-alive\r\n", Some("Connection: keep-alive"), false),
        ("GET /nothing HTTP/1.0", "Connection: keep-alive\r\n", Some("Connection: keep-alive"), false),
        ("OPTIONS * HTTP/1.0", "Connection: keep-alive\r\n", Some("Connection: keep-alive"), false),
    ] {
        let (answer, close, end, _) = same_by_all_steps(format!("{line}\r\n{fields}\r\n").as_bytes());
        assert!(answer.head.starts_with("HTTP/1.1 "));
        assert_eq!(close, closes.then_some(Close::Finish), "{line} {fields}");
        assert_eq!(end, CloseReason::Done);
        match connection {
            Some(field) => assert!(answer.has(field), "{line} {fields}"),
            None => assert!(!answer.names("Connection"), "{line} {fields}"),
        }
    }
}
