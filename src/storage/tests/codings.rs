//! Compressed forms, listings, the page for what is not there; kept and made once.

use super::{Client, World, settle, text};
use crate::origin::tests::wire::Answer;
use crate::origin::{Coding, RelativePath};
use crate::storage::Options;
use crate::storage::pool::Kind;
use std::fs;
use std::io::{Read, Write};
use std::sync::mpsc::channel;

/// Text that shrinks, but not to nothing.
fn prose(len: usize) -> Vec<u8> {
    (0..).flat_map(|n: u32| format!("{} ", n.wrapping_mul(2_654_435_761) % 9973).into_bytes()).take(len).collect()
}

fn plain(coding: Coding, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match coding {
        Coding::Zstd => out = zstd::decode_all(bytes).unwrap(),
        Coding::Brotli => drop(brotli::Decompressor::new(bytes, 4096).read_to_end(&mut out).unwrap()),
        Coding::Gzip => drop(flate2::read::GzDecoder::new(bytes).read_to_end(&mut out).unwrap()),
    }
    out
}

fn compressing() -> World {
    let world = World::new().with(Options { compress: true, ..Options::default() });
    world.write("a.txt", prose(20_000));
    world.write("large.txt", prose(2_000_000));
    world.write("a.png", prose(20_000));
    world.write("short.txt", "short");
    ["a.txt", "large.txt"].iter().for_each(|name| settle(&world.root().join(name)));
    world
}

fn accept(codings: &str) -> String {
    format!("Accept-Encoding: {codings}\r\n")
}

/// Until it comes from the cache: what was made is stored while the first answer is under way.
fn until_hit(client: &mut Client, path: &str, fields: &str) -> Answer {
    loop {
        let answer = client.ask_with(path, fields);
        if answer.head.contains("; hit; ttl=") {
            return answer;
        }
    }
}

#[test]
fn every_coding_reads_back_at_any_length() {
    let world = compressing().caching(60);
    let mut client = world.client();
    for coding in Coding::ALL {
        for name in ["a.txt", "large.txt"] {
            let content = fs::read(world.root().join(name)).unwrap();
            for _ in 0..2 {
                let answer = client.ask_with(&format!("/{name}"), &accept(coding.token()));
                assert!(answer.has(&format!("Content-Encoding: {}", coding.token())), "{}", answer.head);
                assert!(answer.has("Vary: Accept-Encoding"));
                assert!(answer.body.len() < content.len() / 2, "{} of {}", answer.body.len(), content.len());
                assert!(plain(coding, &answer.body) == content, "{name} {coding:?}");
            }
        }
    }
}

#[test]
fn a_hit_says_so_and_is_the_same_answer() {
    let world = compressing().caching(60);
    let mut client = world.client();
    let made = client.ask_with("/a.txt", &accept("gzip"));
    assert!(made.head.contains("Cache-Status: pilb-origin; fwd=miss; stored\r\n"), "{}", made.head);
    assert!(!made.names("Age"));
    let hit = client.ask_with("/a.txt", &accept("gzip"));
    assert!(hit.head.contains("Cache-Status: pilb-origin; hit; ttl=") && hit.names("Age"), "{}", hit.head);
    assert_eq!(hit.body, made.body);
    // Another worker, or the next process, finds it on the disk.
    let other = world.client().ask_with("/a.txt", &accept("gzip"));
    assert!(other.head.contains("; hit; ttl=") && other.body == hit.body, "{}", other.head);
    let tag = |answer: &Answer| answer.head.lines().find(|line| line.starts_with("ETag")).unwrap().to_owned();
    assert!(tag(&made) == tag(&hit) && tag(&made) == tag(&other) && tag(&made).ends_with("-gz\""));
    let tag = tag(&hit).replace("ETag", "If-None-Match");
    let same = client.ask_with("/a.txt", &format!("{}{tag}\r\n", accept("gzip")));
    assert!(same.status == 304 && same.has("Vary: Accept-Encoding") && same.names("Age"), "{}", same.head);
    let range = client.ask_with("/a.txt", &format!("{}Range: bytes=10-19\r\n", accept("gzip")));
    assert_eq!((range.status, &range.body[..]), (206, &hit.body[10..20]), "ranges are of the coded bytes");
}

#[test]
fn what_is_short_or_does_not_shrink_or_is_not_wanted_is_sent_as_it_is() {
    let world = compressing().caching(60);
    for (path, fields) in [
        ("/short.txt", accept("gzip")),
        ("/a.png", accept("gzip")),
        ("/a.txt", String::new()),
        ("/a.txt", accept("identity")),
        ("/a.txt", accept("gzip;q=0.1, identity")),
        ("/a.txt", accept("compress")),
    ] {
        let answer = world.ask_with(path, &fields);
        assert!(!answer.names("Content-Encoding") && !answer.names("Cache-Status"), "{path} {fields}");
        assert!(answer.body == fs::read(world.root().join(&path[1..])).unwrap());
    }
    assert_eq!(world.ask_with("/a.png", &accept("identity;q=0")).status, 406);
    let forced = world.ask_with("/a.png", &accept("gzip, identity;q=0"));
    assert!(forced.has("Content-Encoding: gzip"), "nothing else is accepted: {}", forced.head);
    let off = World::new();
    off.write("a.txt", prose(20_000));
    assert!(!off.ask_with("/a.txt", &accept("gzip")).names("Content-Encoding"));
}

#[test]
fn a_file_compressed_beforehand_comes_first_unless_it_is_older_than_its_source() {
    let world = compressing().caching(60);
    world.write("a.txt.gz", "made beforehand");
    let mut client = world.client();
    let answer = client.ask_with("/a.txt", &accept("gzip, br, zstd"));
    assert_eq!(text(&answer), (200, "made beforehand"));
    assert!(answer.has("Content-Encoding: gzip") && answer.has("Content-Type: text/plain; charset=utf-8"));
    assert!(!answer.names("Cache-Status"));
    settle(&world.root().join("a.txt.gz"));
    world.write("a.txt", prose(30_000));
    client.wire.after(1);
    let answer = client.ask_with("/a.txt", &accept("gzip"));
    assert!(plain(Coding::Gzip, &answer.body) == prose(30_000));
}

#[test]
fn a_changed_file_is_compressed_anew() {
    let world = compressing().caching(60);
    let mut client = world.client();
    until_hit(&mut client, "/a.txt", &accept("br"));
    world.write("a.txt", prose(40_000));
    client.wire.after(1);
    let answer = client.ask_with("/a.txt", &accept("br"));
    assert!(plain(Coding::Brotli, &answer.body) == prose(40_000));
}

#[test]
fn many_who_ask_at_once_get_what_is_made_once() {
    let world = compressing().caching(60);
    let site = world.site();
    let mut clients: Vec<Client> = (0..20).map(|_| Client::of(site.clone())).collect();
    clients.iter_mut().for_each(|client| client.send("/large.txt", &accept("zstd")));
    let mut made = 0;
    for client in &mut clients {
        client.finish(1);
        let answer = client.wire.answers(&[]).remove(0);
        assert!(plain(Coding::Zstd, &answer.body) == prose(2_000_000));
        made += usize::from(!answer.head.contains("collapsed") && !answer.head.contains("hit"));
    }
    assert_eq!(made, 1);
}

#[test]
fn who_leaves_while_it_is_made_takes_nothing_from_the_others() {
    let world = compressing().caching(60);
    let site = world.site();
    let (mut first, mut second) = (Client::of(site.clone()), Client::of(site));
    first.send("/large.txt", &accept("br"));
    second.send("/large.txt", &accept("br"));
    first.wire.ends(crate::engine::Side::Broken);
    assert!(first.wire.close.is_some());
    second.finish(1);
    assert!(plain(Coding::Brotli, &second.wire.answers(&[])[0].body) == prose(2_000_000));
}

#[test]
fn folders_are_listed_if_that_is_wanted() {
    let world = World::new().with(Options { listing: true, ..Options::default() }).caching(60);
    world.write("sub/deep/b<i>.txt", "b");
    settle(&world.root().join("sub/deep/b<i>.txt"));
    let mut client = world.client();
    let page = client.ask("/sub/deep/");
    let html = std::str::from_utf8(&page.body).unwrap();
    assert!(page.has("Content-Type: text/html; charset=utf-8") && page.has("Vary: Accept"), "{}", page.head);
    assert!(html.contains("a.txt") && html.contains("b&lt;i&gt;.txt") && !html.contains("probe"), "{html}");
    let hit = until_hit(&mut client, "/sub/deep/", "");
    assert_eq!(hit.body, page.body);
    let json = client.ask_with("/sub/deep/", "Accept: application/json\r\n");
    assert!(json.has("Content-Type: application/json"));
    let list: serde_json::Value = serde_json::from_slice(&json.body).unwrap();
    assert_eq!(list.as_array().unwrap().len(), 2);
    assert_eq!(text(&client.ask("/sub/")), (200, "sub"), "an index comes first");
    assert!(client.ask("/sub/deep").has("Location: /sub/deep/"));
    // A new file shows at once: the directory has changed.
    world.write("sub/deep/c.txt", "c");
    client.wire.after(1);
    assert!(String::from_utf8_lossy(&client.ask("/sub/deep/").body).contains("c.txt"));
    assert_eq!(World::new().ask("/sub/deep/").status, 404, "not if it is not wanted");
}

#[test]
fn what_is_not_there_has_a_page_of_its_own() {
    let mut page = RelativePath::default();
    page.decode(b"/404.html").unwrap();
    let world = World::new().with(Options { not_found: Some(page), ..Options::default() });
    let mut client = world.client();
    assert_eq!(text(&client.ask("/nothing")), (404, "404 Not Found\n"), "the page is not there either");
    world.write("404.html", "nothing here");
    client.wire.after(1);
    for fields in ["", "If-None-Match: *\r\n", "Range: bytes=0-1\r\n"] {
        let answer = client.ask_with("/nothing", fields);
        assert_eq!(text(&answer), (404, "nothing here"));
        assert!(answer.has("Content-Type: text/html; charset=utf-8") && !answer.names("ETag"), "{}", answer.head);
    }
    assert_eq!(text(&client.ask("/404.html")), (200, "nothing here"));
    world.write("nothing", "something");
    client.wire.after(1);
    assert_eq!(text(&client.ask("/nothing")), (200, "something"));
}

#[test]
fn a_purge_drops_what_was_kept() {
    let world = compressing().caching(60);
    let mut client = world.client();
    let purge = |client: &mut Client, target: &str| {
        let before = client.wire.log.0.len();
        client.wire.send(format!("PURGE {target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes(), usize::MAX);
        client.finish(before + 1);
        String::from_utf8(client.wire.answers(&[]).pop().unwrap().body).unwrap()
    };
    for target in ["/a.txt", "/"] {
        until_hit(&mut client, "/a.txt", &accept("gzip"));
        assert_eq!(purge(&mut client, target), "1 dropped\n");
        assert!(client.ask_with("/a.txt", &accept("gzip")).head.contains("fwd=miss"), "{target}");
    }
    assert_eq!(purge(&mut client, "/nothing"), "0 dropped\n");
    // Whoever asks through a proxy on this machine is not on this machine.
    for field in ["Via: 1.1 pilb", "X-Forwarded-For: 192.0.2.1"] {
        let request = format!("PURGE / HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n");
        let mut client = world.client();
        client.wire.send(request.as_bytes(), usize::MAX);
        assert_eq!(client.wire.answers(&[])[0].status, 405, "{field}");
    }
}

#[test]
fn a_folder_and_the_file_that_would_be_its_index_are_two_things() {
    let mut page = RelativePath::default();
    page.decode(b"/404.html").unwrap();
    let world = World::new().with(Options { listing: true, not_found: Some(page), ..Options::default() }).caching(60);
    world.write("404.html", "nothing here");
    settle(&world.root().join("404.html"));
    let mut client = world.client();
    for _ in 0..2 {
        assert_eq!(text(&client.ask("/sub/deep/index.html")), (404, "nothing here"));
        assert_eq!(client.ask("/sub/deep/").status, 200);
        until_hit(&mut client, "/sub/deep/", "");
    }
}

#[test]
fn a_folder_that_was_not_there_is_listed_once_it_is() {
    let mut page = RelativePath::default();
    page.decode(b"/404.html").unwrap();
    let world = World::new().with(Options { listing: true, not_found: Some(page), ..Options::default() });
    world.write("404.html", "nothing here");
    settle(&world.root().join("404.html"));
    let mut client = world.client();
    assert_eq!(client.ask("/new/").status, 404);
    assert_eq!(client.ask("/new/").status, 404);
    fs::create_dir(world.root().join("new")).unwrap();
    // Somebody has looked for its index: that there is none can be said without waiting.
    assert!(fs::metadata(world.root().join("new/index.html")).is_err());
    client.wire.after(1);
    assert_eq!(client.ask("/new/").status, 200);
}

#[test]
fn a_purge_reaches_what_other_workers_have_at_hand_and_the_index_of_a_folder() {
    let world = compressing().caching(60);
    world.write("sub/index.html", prose(20_000));
    settle(&world.root().join("sub/index.html"));
    let site = world.site();
    let (mut one, mut other) = (Client::of(site.clone()), Client::of(site));
    for path in ["/a.txt", "/sub/"] {
        until_hit(&mut one, path, &accept("gzip"));
        until_hit(&mut other, path, &accept("gzip"));
        let before = one.wire.log.0.len();
        one.wire.send(format!("PURGE {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes(), usize::MAX);
        one.finish(before + 1);
        assert_eq!(text(one.wire.answers(&[]).last().unwrap()), (200, "1 dropped\n"), "{path}");
        assert!(other.ask_with(path, &accept("gzip")).head.contains("fwd=miss"), "{path}");
    }
}

#[test]
fn a_file_that_grows_while_it_is_compressed_is_sent_as_far_as_it_was() {
    let world = compressing();
    let site = world.site();
    let (open, gate) = channel::<()>();
    site.run(Kind::Work, move || gate.recv().unwrap());
    let mut client = Client::of(site);
    client.send("/large.txt", &accept("zstd"));
    // It is known what is to be compressed.
    client.news.recv().unwrap();
    client.wire.wake();
    fs::OpenOptions::new().append(true).open(world.root().join("large.txt")).unwrap().write_all(b"more").unwrap();
    open.send(()).unwrap();
    client.finish(1);
    let answer = client.wire.answers(&[]).remove(0);
    assert!(answer.status == 200 && plain(Coding::Zstd, &answer.body) == prose(2_000_000), "{}", answer.head);
}

#[test]
fn a_file_that_is_overwritten_while_it_is_compressed_is_not_taken_for_what_it_was() {
    let world = compressing();
    let site = world.site();
    let (open, gate) = channel::<()>();
    site.run(Kind::Work, move || gate.recv().unwrap());
    let mut client = Client::of(site);
    client.send("/a.txt", &accept("zstd"));
    client.news.recv().unwrap();
    client.wire.wake();
    world.write("a.txt", vec![b'x'; 20_000]);
    open.send(()).unwrap();
    client.finish(1);
    assert_eq!(client.wire.answers(&[])[0].status, 500);
}
