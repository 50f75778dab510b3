//! `pilb-origin` sends files: large ones, parts of them, listings and pages, and never what was there before.

use crate::house::{Program, Start, eventually};
use crate::wire::{Answer, Check, End, Framing, Pattern, Wire, get};
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

/// Nothing is kept of a file that was changed within the last ticks of the file system's clock. Waits that long.
pub fn settle(path: &Path) {
    let old = || path.metadata().unwrap().modified().unwrap() + Duration::from_millis(100) < SystemTime::now();
    eventually("the file is a moment old", || old().then_some(()));
}

/// Asks for a path with these field lines.
pub fn ask(client: &mut Wire, method: &str, target: &str, fields: &str) -> Answer {
    client.send(format!("{method} {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
    if method == "HEAD" { client.answer_to_head() } else { client.answer() }
}

fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (name, content) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
    }
    folder
}

fn origin(folder: &TempDir, args: &str) -> Program {
    Start::origin(folder.path()).args(args).run()
}

#[test]
fn large_files_come_byte_for_byte() {
    let folder = TempDir::new().unwrap();
    for (name, length) in [("16", 16 << 20), ("odd", (5 << 20) + 1), ("edge", (64 << 10) + 1)] {
        fs::write(folder.path().join(name), Pattern::bytes(7, length)).unwrap();
    }
    let origin = origin(&folder, "");
    let mut client = origin.client();
    // The second time it is at hand.
    for name in ["16", "odd", "edge", "16", "odd", "edge"] {
        let mut check = Check::new(7);
        client.send(get(&format!("/{name}")));
        let answer = client.answer_into(false, &mut |bytes| check.take(bytes)).unwrap();
        assert_eq!(answer.framing, Framing::Length(check.length), "{name}");
        assert_eq!(check.length, folder.path().join(name).metadata().unwrap().len(), "{name}");
    }
    assert!(origin.peak_mib() < 32, "{} MiB", origin.peak_mib());
}

#[test]
fn a_slow_reader_gets_all_of_it_and_holds_nobody_up() {
    let folder = folder(&[("big", &Pattern::bytes(3, 5 << 20)), ("small", b"quick")]);
    let origin = origin(&folder, "");
    let mut slow = origin.client();
    // Much less than the file: most of it waits in the server's hands. (Much less than a segment, and the kernel would stall.)
    socket2::SockRef::from(&slow.socket).set_recv_buffer_size(128 << 10).unwrap();
    slow.send(get("/big"));
    let head = slow.head().unwrap();
    assert_eq!(head.fields.get("content-length"), Some("5242880"));
    let (mut check, mut other, mut left) = (Check::new(3), origin.client(), 5u64 << 20);
    while left > 0 {
        let part = left.min(100_000);
        slow.body(Framing::Length(part), &mut |bytes| check.take(bytes)).unwrap();
        left -= part;
        assert_eq!(other.get("/small").text(), "quick");
    }
    assert_eq!(check.length, 5 << 20);
}

#[test]
fn parts_of_a_file() {
    let content = Pattern::bytes(5, 300_000);
    let folder = folder(&[("big", &content), ("small", b"0123456789")]);
    let origin = origin(&folder, "");
    let mut client = origin.client();
    for (range, from, to) in
        [("0-0", 0, 1), ("5-9", 5, 10), ("100000-299999", 100_000, 300_000), ("-7", 299_993, 300_000)]
    {
        let answer = ask(&mut client, "GET", "/big", &format!("Range: bytes={range}\r\n"));
        assert_eq!((answer.status, &answer.body[..]), (206, &content[from..to]), "{range}");
        let said = format!("bytes {from}-{}/300000", to - 1);
        assert_eq!(answer.field("content-range"), Some(said.as_str()));
    }
    let answer = ask(&mut client, "GET", "/small", "Range: bytes=10-\r\n");
    assert_eq!((answer.status, answer.field("content-range")), (416, Some("bytes */10")));
    let answer = ask(&mut client, "GET", "/small", "Range: bytes=0-1\r\nIf-Range: \"other\"\r\n");
    assert_eq!((answer.status, answer.text()), (200, "0123456789"));
    let head = ask(&mut client, "HEAD", "/small", "Range: bytes=0-1\r\n");
    assert_eq!((head.status, head.field("content-length")), (200, Some("10")), "a range is for GET only");
}

#[test]
fn several_parts_are_one_multipart_body() {
    let content = Pattern::bytes(6, 300_000);
    let folder = folder(&[("big", &content)]);
    let origin = origin(&folder, "");
    let mut client = origin.client();
    for _ in 0..2 {
        let answer = ask(&mut client, "GET", "/big", "Range: bytes=0-9,200000-289999,-5\r\n");
        assert_eq!(answer.status, 206);
        let media = answer.field("content-type").unwrap();
        let boundary = media.strip_prefix("multipart/byteranges; boundary=").unwrap().trim_matches('"');
        let mut expected = Vec::new();
        for (from, to) in [(0, 10), (200_000, 290_000), (299_995, 300_000)] {
            let preamble = format!(
                "\r\n--{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes {from}-{}/300000\r\n\r\n",
                to - 1
            );
            expected.extend_from_slice(preamble.as_bytes());
            expected.extend_from_slice(&content[from..to]);
        }
        expected.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        assert!(answer.body == expected, "{:?}", String::from_utf8_lossy(&answer.body[..400]));
    }
}

#[test]
fn head_tells_what_get_tells_and_a_tag_spares_the_body() {
    let text = "text ".repeat(20_000);
    let folder = folder(&[("large.txt", text.as_bytes()), ("small.txt", b"small")]);
    let origin = origin(&folder, "");
    let mut client = origin.client();
    for target in ["/large.txt", "/small.txt"] {
        for fields in ["", "Accept-Encoding: gzip\r\n"] {
            let whole = ask(&mut client, "GET", target, fields);
            let tag = whole.field("etag").unwrap();
            let head = ask(&mut client, "HEAD", target, fields);
            assert_eq!((head.status, head.body.len()), (200, 0));
            for name in ["etag", "content-type", "content-encoding", "last-modified", "vary"] {
                assert_eq!(head.field(name), whole.field(name), "{name} of {target}");
            }
            for method in ["GET", "HEAD"] {
                let again = ask(&mut client, method, target, &format!("{fields}If-None-Match: {tag}\r\n"));
                assert_eq!((again.status, again.field("etag")), (304, Some(tag)), "{target} {fields}");
            }
        }
    }
}

#[test]
fn a_compressed_file_beside_one_is_sent_in_its_place() {
    let folder = folder(&[("a.css", &b"body {}".repeat(100)), ("b.css", b"b")]);
    fs::write(folder.path().join("a.css.br"), "as brotli").unwrap();
    fs::write(folder.path().join("a.css.gz"), "as gzip").unwrap();
    let origin = origin(&folder, "");
    let mut client = origin.client();
    for (accept, coding, body) in [
        ("gzip", Some("gzip"), "as gzip"),
        ("gzip, br", Some("br"), "as brotli"),
        ("br;q=0.1, gzip", Some("gzip"), "as gzip"),
        ("br;q=0, gzip;q=0", None, &"body {}".repeat(100)),
    ] {
        let answer = ask(&mut client, "GET", "/a.css", &format!("Accept-Encoding: {accept}\r\n"));
        assert_eq!((answer.status, answer.field("content-encoding"), answer.text()), (200, coding, body), "{accept}");
        assert_eq!((answer.field("vary"), answer.field("cache-status")), (Some("Accept-Encoding"), None));
        assert!(answer.field("content-type").unwrap().starts_with("text/css"), "{accept}");
    }
    fs::remove_file(folder.path().join("a.css.gz")).unwrap();
    fs::remove_file(folder.path().join("a.css.br")).unwrap();
    let answer = ask(&mut client, "GET", "/a.css", "Accept-Encoding: identity\r\n");
    assert_eq!((answer.status, answer.field("content-encoding")), (200, None));
    let answer = ask(&mut client, "GET", "/a.css", "Accept-Encoding: gzip\r\n");
    assert!(answer.field("cache-status").unwrap().contains("fwd=miss"), "now it must be made");
}

#[test]
fn folders_are_listed_for_people_and_programs() {
    let folder =
        folder(&[("docs/a & b.txt", b"text"), ("docs/.hidden", b"x"), ("docs/sub/x", b"x"), ("in/index.html", b"i")]);
    let origin = origin(&folder, "--listing");
    let mut client = origin.client();
    let page = client.get("/docs/");
    assert_eq!((page.status, page.field("content-type")), (200, Some("text/html; charset=utf-8")));
    assert_eq!(page.field("vary"), Some("Accept"));
    let text = page.text();
    assert!(text.contains("a &amp; b.txt") && text.contains("sub/") && !text.contains("hidden"), "{text}");
    let list = ask(&mut client, "GET", "/docs/", "Accept: application/json\r\n");
    assert_eq!(list.field("content-type"), Some("application/json"));
    let list: serde_json::Value = serde_json::from_slice(&list.body).unwrap();
    let names: Vec<_> = list.as_array().unwrap().iter().map(|entry| entry["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["sub", "a & b.txt"]);
    assert_eq!((&list[0]["type"], &list[1]["size"]), (&"directory".into(), &4.into()));
    assert_eq!(client.get("/in/").text(), "i", "an index is no listing");
    assert_eq!(client.get("/docs").field("location"), Some("/docs/"));
    assert_eq!(client.get("/none/").status, 404);
    fs::write(folder.path().join("docs/new"), "n").unwrap();
    assert!(client.get("/docs/").text().contains("new"), "never a list of before");
}

#[test]
fn an_own_page_for_what_is_not_there() {
    let folder = folder(&[("404.html", b"<h1>nothing here</h1>"), ("a.txt", b"a")]);
    let origin = origin(&folder, "--not-found /404.html --cache-control max-age=60");
    let mut client = origin.client();
    for target in ["/none", "/none/", "/a.txt/x"] {
        let answer = client.get(target);
        assert_eq!((answer.status, answer.text()), (404, "<h1>nothing here</h1>"), "{target}");
        assert!(answer.field("content-type").unwrap().starts_with("text/html"));
        assert_eq!((answer.field("etag"), answer.field("cache-control")), (None, None), "{target}");
    }
    assert_eq!(ask(&mut client, "HEAD", "/none", "").field("content-length"), Some("21"));
    assert_eq!(ask(&mut client, "GET", "/none", "Range: bytes=0-3\r\nIf-None-Match: *\r\n").status, 404);
    assert_eq!(client.get("/404.html").status, 200);
    fs::write(folder.path().join("none"), "there").unwrap();
    assert_eq!(client.get("/none").text(), "there");
    fs::remove_file(folder.path().join("404.html")).unwrap();
    assert_eq!(client.get("/still-none").text(), "404 Not Found\n");
}

#[test]
fn cache_control_by_path_ending_or_for_all() {
    let folder = folder(&[("a.txt", b"a"), ("b.png", b"b"), ("assets/c.txt", b"c"), ("assets/d.png", b"d")]);
    let origin = Start::origin(folder.path())
        .args("--cache-control no-cache --cache-control .png=max-age=86400 --cache-control")
        .arg("/assets/=public, max-age=60")
        .run();
    let mut client = origin.client();
    for (target, value) in [
        ("/a.txt", "no-cache"),
        ("/b.png", "max-age=86400"),
        ("/assets/c.txt", "public, max-age=60"),
        ("/assets/d.png", "max-age=86400"),
    ] {
        let answer = client.get(target);
        assert_eq!(answer.field("cache-control"), Some(value), "{target}");
        let tag = answer.field("etag").unwrap();
        let again = ask(&mut client, "GET", target, &format!("If-None-Match: {tag}\r\n"));
        assert_eq!((again.status, again.field("cache-control")), (304, Some(value)), "{target}");
    }
    assert_eq!(client.get("/none").field("cache-control"), None);
}

#[test]
fn what_has_changed_is_never_sent_as_it_was() {
    const LARGE: usize = 100_000;
    let folder = TempDir::new().unwrap();
    let (file, new) = (folder.path().join("file.txt"), folder.path().join("new"));
    fs::write(&file, "").unwrap();
    let origin = origin(&folder, "");
    let mut client = origin.client();
    for round in 0..60u32 {
        // Of one length, so that only times and inodes tell.
        let text = format!("{round:04}").repeat(if round % 3 == 0 { LARGE / 4 } else { 100 });
        if round % 2 == 0 {
            fs::write(&file, &text).unwrap();
        } else {
            fs::write(&new, &text).unwrap();
            fs::rename(&new, &file).unwrap();
        }
        if round % 10 == 9 {
            settle(&file);
        }
        for fields in ["", "Accept-Encoding: gzip\r\n", "Accept-Encoding: gzip\r\n"] {
            let answer = ask(&mut client, "GET", "/file.txt", fields);
            assert!(plain(&answer) == text.as_bytes(), "round {round} {fields}");
        }
    }
    fs::remove_file(&file).unwrap();
    for fields in ["", "Accept-Encoding: gzip\r\n"] {
        assert_eq!(ask(&mut client, "GET", "/file.txt", fields).status, 404);
    }
}

/// The body without its coding.
pub fn plain(answer: &Answer) -> Vec<u8> {
    match answer.field("content-encoding") {
        None => answer.body.clone(),
        Some("gzip") => {
            let mut out = Vec::new();
            std::io::copy(&mut flate2::read::GzDecoder::new(&answer.body[..]), &mut out).unwrap();
            out
        }
        Some(other) => panic!("no {other} here"),
    }
}

#[test]
fn a_file_that_shrinks_while_it_is_sent_cuts_the_connection() {
    let folder = TempDir::new().unwrap();
    let file = fs::File::create(folder.path().join("big")).unwrap();
    file.set_len(256 << 20).unwrap();
    let mut origin = origin(&folder, "--access-log register.log");
    let mut client = origin.client();
    client.send(get("/big"));
    client.head().unwrap();
    let mut came = 0u64;
    client.body(Framing::Length(1 << 20), &mut |bytes| came += bytes.len() as u64).unwrap();
    file.set_len(2 << 20).unwrap();
    let end = client.body(Framing::Length((256 << 20) - came), &mut |bytes| came += bytes.len() as u64).unwrap_err();
    assert!(matches!(end, End::Cut | End::Reset) && came < 256 << 20, "{end:?} after {came}");
    assert_eq!(origin.client().get("/none").status, 404, "it serves on");
    origin.stop();
    assert_eq!(origin.log(2)[0].end, "file-cut(file-shrank)");
}
