//! `pilb-origin`: the files below a folder and nothing else, alone and behind the proxy.

use crate::house::{Program, Signal, Start};
use crate::wire::{Check, Pattern, get};
use std::fs;
use std::os::unix::fs::symlink;
use tempfile::TempDir;

/// A folder with a root in it, and something beside the root that nobody may see.
fn site() -> TempDir {
    let folder = TempDir::new().unwrap();
    for (name, text) in [
        ("root/index.html", "<h1>home</h1>"),
        ("root/style.css", "body {}"),
        ("root/data.json", "{}"),
        ("root/noext", "?"),
        ("root/empty", ""),
        ("root/a b.txt", "space"),
        ("root/docs/index.html", "docs"),
        ("root/docs/page.txt", "page"),
        ("root/bare/file", "x"),
        ("root/.env", "SECRET"),
        ("root/.git/config", "SECRET"),
        ("outside/secret", "SECRET"),
    ] {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    symlink("../outside/secret", folder.path().join("root/link")).unwrap();
    symlink("/etc/passwd", folder.path().join("root/passwd")).unwrap();
    symlink("../outside", folder.path().join("root/dir")).unwrap();
    folder
}

fn origin(site: &TempDir) -> Program {
    Start::origin(&site.path().join("root")).run()
}

#[test]
fn files_have_their_type_their_length_and_a_date() {
    let site = site();
    let origin = origin(&site);
    let mut client = origin.client();
    for (path, media, body) in [
        ("/index.html", "text/html", "<h1>home</h1>"),
        ("/style.css", "text/css", "body {}"),
        ("/data.json", "application/json", "{}"),
        ("/noext", "application/octet-stream", "?"),
        ("/empty", "application/octet-stream", ""),
        ("/a%20b.txt", "text/plain", "space"),
        ("/docs/page.txt?query=ignored", "text/plain", "page"),
    ] {
        let answer = client.get(path);
        assert_eq!((answer.status, answer.text()), (200, body), "{path}");
        assert!(answer.field("content-type").unwrap().starts_with(media), "{path}");
        for name in ["date", "last-modified", "etag"] {
            assert!(answer.head.fields.has(name), "{path} has no {name}");
        }
    }
}

#[test]
fn folders_have_an_index_or_nothing() {
    let site = site();
    let origin = origin(&site);
    let mut client = origin.client();
    assert_eq!(client.get("/").text(), "<h1>home</h1>");
    assert_eq!(client.get("/docs/").text(), "docs");
    let moved = client.get("/docs?x=y");
    assert_eq!((moved.status, moved.field("location")), (301, Some("/docs/?x=y")));
    assert_eq!(client.get("/bare/").status, 404, "no list of what is there");
}

#[test]
fn what_is_not_there_is_404() {
    let site = site();
    let origin = origin(&site);
    let mut client = origin.client();
    for path in ["/none", "/docs/none", "/none/", "/index.html/", "/index.html/x", "/%ff"] {
        let answer = client.get(path);
        assert_eq!((answer.status, answer.text()), (404, "404 Not Found\n"), "{path}");
    }
    assert_eq!(client.get("/").status, 200, "on the same connection");
}

#[test]
fn no_way_leads_out_of_the_root() {
    let site = site();
    let origin = origin(&site);
    for path in [
        "/../outside/secret",
        "/docs/../../outside/secret",
        "/%2e%2e/outside/secret",
        "/%2e%2e%2foutside%2fsecret",
        "/..%2foutside/secret",
        "/.%2e/outside/secret",
        "/%252e%252e/outside/secret",
        "/..%5coutside%5csecret",
        "/..\\outside\\secret",
        "/..;/outside/secret",
        "/docs/..%00/../outside/secret",
        "/index.html%00.png",
        "//outside/secret",
        "//etc/passwd",
        "/./../outside/secret",
        "/link",
        "/passwd",
        "/dir/secret",
        "/.env",
        "/%2eenv",
        "/.git/config",
        "/docs/%c0%ae%c0%ae/outside/secret",
    ] {
        let mut client = origin.client();
        let answer = client.get(path);
        assert!([400, 404].contains(&answer.status), "{path}: {}", answer.status);
        assert!(!answer.text().contains("SECRET") && !answer.text().contains("root:"), "{path}");
    }
    // Absolute targets and odd ones take the same way.
    let mut client = origin.client();
    client.send("GET http://a/../outside/secret HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!([400, 404].contains(&client.answer().status));
    assert!(origin.client().get("/a%zz").status == 400);
}

#[test]
fn what_the_client_has_already_is_304() {
    let site = site();
    let origin = origin(&site);
    let mut client = origin.client();
    let first = client.get("/index.html");
    let (tag, date) = (first.field("etag").unwrap(), first.field("last-modified").unwrap());
    for (condition, status) in [
        (format!("If-None-Match: {tag}"), 304),
        (format!("If-None-Match: \"other\", W/{tag}"), 304),
        ("If-None-Match: *".to_owned(), 304),
        ("If-None-Match: \"other\"".to_owned(), 200),
        (format!("If-Modified-Since: {date}"), 304),
        ("If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT".to_owned(), 200),
        (format!("If-None-Match: \"other\"\r\nIf-Modified-Since: {date}"), 200),
        (format!("If-Match: {tag}"), 200),
        ("If-Match: \"other\"".to_owned(), 412),
    ] {
        client.send(format!("GET /index.html HTTP/1.1\r\nHost: a\r\n{condition}\r\n\r\n"));
        let answer = client.answer();
        assert_eq!(answer.status, status, "{condition}");
        if status == 304 {
            assert_eq!((answer.field("etag"), answer.body.len()), (Some(tag), 0));
        }
    }
    fs::write(site.path().join("root/new"), "changed").unwrap();
    fs::rename(site.path().join("root/new"), site.path().join("root/index.html")).unwrap();
    client.send(format!("GET /index.html HTTP/1.1\r\nHost: a\r\nIf-None-Match: {tag}\r\n\r\n"));
    let answer = client.answer();
    assert_eq!((answer.status, answer.text()), (200, "changed"));
}

#[test]
fn methods() {
    let site = site();
    let origin = origin(&site);
    let mut client = origin.client();
    client.send("HEAD /index.html HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = client.answer_to_head();
    assert_eq!((head.status, head.field("content-length")), (200, Some("13")));
    client.send("OPTIONS /index.html HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(client.answer().field("allow").unwrap().contains("GET"));
    let refused = client.post("/index.html", b"new content");
    assert_eq!((refused.status, refused.field("allow").is_some()), (405, true));
    assert_eq!(client.get("/index.html").text(), "<h1>home</h1>", "the body of the refused request was no request");
    client.send("DELETE /index.html HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.answer().status, 405);
    assert!(site.path().join("root/index.html").exists());
}

#[test]
fn a_large_file_through_the_proxy_is_the_same_file() {
    const LENGTH: usize = 64 << 20;
    let site = site();
    fs::write(site.path().join("root/big"), Pattern::bytes(1, LENGTH)).unwrap();
    let origins = [origin(&site), origin(&site)];
    let mut start = Start::proxy();
    for origin in &origins {
        start = start.arg("--upstream").arg(origin.address().to_string());
    }
    let proxy = start.run();
    for program in [&origins[0], &origins[1], &proxy, &proxy] {
        let mut check = Check::new(1);
        let mut client = program.client();
        client.send(get("/big"));
        client.answer_into(false, &mut |bytes| check.take(bytes)).unwrap();
        assert_eq!(check.length, LENGTH as u64);
        assert!(program.peak_mib() < 32, "{} MiB", program.peak_mib());
    }
}

#[test]
fn pipelined_requests_for_files_are_answered_in_order() {
    let site = site();
    let origin = origin(&site);
    let mut client = origin.client();
    let paths = ["/style.css", "/none", "/docs/page.txt", "/data.json"];
    let all: String = (0..40).map(|n| get(paths[n % 4])).collect();
    client.send(all);
    for n in 0..40 {
        assert_eq!(client.answer().text(), ["body {}", "404 Not Found\n", "page", "{}"][n % 4]);
    }
}

#[test]
fn it_ends_in_good_order() {
    let site = site();
    fs::File::create(site.path().join("root/big")).unwrap().set_len(50 << 20).unwrap();
    let mut origin = origin(&site);
    let mut idle = origin.client();
    idle.get("/");
    let mut busy = origin.client();
    busy.send(get("/big"));
    busy.head().unwrap();
    origin.signal(Signal::TERM);
    idle.expect_end();
    let mut came = 0;
    busy.body(crate::wire::Framing::Length(50 << 20), &mut |bytes| came += bytes.len()).unwrap();
    assert_eq!(came, 50 << 20);
    assert_eq!(origin.wait().code(), 0);
}

#[test]
fn requests_are_judged_as_strictly_as_by_the_proxy() {
    let site = site();
    let origin = origin(&site);
    for (request, status) in [
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\nHost: a\n\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        ("GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505),
    ] {
        let mut client = origin.client();
        client.send(request);
        let answer = client.answer();
        assert_eq!((answer.status, answer.says_close()), (status, true), "{request:?}");
    }
}
