//! Which file a path names, and what becomes of it while it is sent.

use super::{Client, World, text};
use crate::engine::Close;
use crate::origin::StoreError;
use crate::storage::root::{Root, meaning};
use rustix::fs::{FileType, Mode, OFlags, mknodat, open};
use rustix::io::Errno;
use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

/// The same site looked up with openat2 and by walking.
fn both(mut world: World, check: impl Fn(&World, bool)) {
    for walk in [false, true] {
        world.walk = walk;
        check(&world, walk);
    }
}

#[test]
fn files_directories_and_indices() {
    both(World::new(), |world, _| {
        for (path, status, body) in [
            ("/", 200, "home"),
            ("/sub/", 200, "sub"),
            ("/sub/deep/a.txt", 200, "deep"),
            ("/sub", 301, ""),
            ("/sub/deep", 301, ""),
            ("/sub/deep/", 404, "404 Not Found\n"),
            ("/nothing", 404, "404 Not Found\n"),
            ("/index.html/", 404, "404 Not Found\n"),
            ("/index.html/x", 404, "404 Not Found\n"),
            ("/.env", 404, "404 Not Found\n"),
            ("/%2eenv", 404, "404 Not Found\n"),
            ("/%2e%2e/outside/secret", 400, "400 Bad Request: bad-request (dot-dot)\n"),
        ] {
            assert_eq!(text(&world.ask(path)), (status, body), "{path}");
            assert_eq!(text(&world.ask_with(path, "Accept-Encoding: gzip\r\n")), (status, body), "{path}");
        }
        let long = format!("/{}", "x".repeat(300));
        assert_eq!(world.ask(&long).status, 404);
        assert_eq!(world.ask(&"/x".repeat(3_000)).status, 404);
    });
}

#[test]
fn links_stay_below_the_root() {
    let world = World::new();
    let root = world.root();
    symlink("../outside/secret", root.join("out")).unwrap();
    symlink(world.folder.path().join("outside/secret"), root.join("absolute")).unwrap();
    symlink("../outside", root.join("dir")).unwrap();
    symlink("../../../../../../../../etc/passwd", root.join("far")).unwrap();
    symlink("/proc/self/root/etc/passwd", root.join("magic")).unwrap();
    symlink("loop", root.join("loop")).unwrap();
    symlink("nowhere", root.join("dangling")).unwrap();
    symlink("sub/deep/a.txt", root.join("inside")).unwrap();
    symlink("../index.html", root.join("sub/up")).unwrap();
    both(world, |world, walk| {
        for path in ["/out", "/absolute", "/dir/secret", "/dir", "/far", "/magic", "/loop", "/dangling"] {
            assert_eq!(text(&world.ask(path)), (404, "404 Not Found\n"), "{path}");
        }
        for (path, body) in [("/inside", "deep"), ("/sub/up", "home")] {
            let expected = if walk { (404, "404 Not Found\n") } else { (200, body) };
            assert_eq!(text(&world.ask(path)), expected, "{path}");
        }
    });
}

#[test]
fn special_files_are_not_there_and_never_block() {
    let world = World::new();
    let dir = open(world.root(), OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap();
    mknodat(&dir, "fifo", FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    let _listener = UnixListener::bind(world.root().join("socket")).unwrap();
    both(world, |world, _| {
        for path in ["/fifo", "/socket", "/fifo/"] {
            assert_eq!(world.ask(path).status, 404, "{path}");
        }
    });
}

#[test]
fn what_may_not_be_read_is_forbidden() {
    let world = World::new();
    let file = world.root().join("closed");
    fs::write(&file, "x").unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o000)).unwrap();
    // To root nothing is closed.
    let status = if fs::File::open(&file).is_ok() { 200 } else { 403 };
    both(world, |world, _| assert_eq!(world.ask("/closed").status, status));
    assert_eq!(meaning(Errno::ACCESS), StoreError::Forbidden);
    assert_eq!(meaning(Errno::MFILE), StoreError::Busy);
    assert_eq!(meaning(Errno::IO), StoreError::Failed);
}

#[test]
fn names_are_bytes() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let world = World::new();
    fs::write(world.root().join(OsStr::from_bytes(b"\xff\\ %41")), "odd").unwrap();
    assert_eq!(text(&world.ask("/%ff\\%20%2541")), (200, "odd"));
}

#[test]
fn what_is_at_hand_is_never_stale() {
    let world = World::new();
    let mut client = world.client();
    let file = world.root().join("index.html");
    super::settle(&file);
    assert_eq!(text(&client.ask("/")), (200, "home"));
    let first = client.ask("/").head;
    for change in [&(|| fs::write(&file, "HOME").unwrap()) as &dyn Fn(), &|| {
        fs::write(world.root().join("new"), "Home").unwrap();
        fs::rename(world.root().join("new"), &file).unwrap();
    }] {
        change();
        // The next batch of events.
        client.wire.after(1);
        let answer = client.ask("/");
        assert_eq!(answer.body, fs::read(&file).unwrap());
        assert_ne!(answer.head, first);
    }
    fs::remove_file(&file).unwrap();
    client.wire.after(1);
    assert_eq!(client.ask("/").status, 404);
}

#[test]
fn copies_of_a_file_have_one_tag() {
    let tag = |world: &World, path: &str| {
        let head = world.ask(path).head;
        head.lines().find(|line| line.starts_with("ETag: ")).unwrap().to_owned()
    };
    let (one, other) = (World::new(), World::new());
    for size in [10, 200_000] {
        one.write("copy", vec![b'x'; size]);
        other.write("copy2", vec![b'x'; size]);
        assert_eq!(tag(&one, "/copy"), tag(&other, "/copy2"));
    }
    assert_ne!(tag(&one, "/copy"), tag(&one, "/index.html"));
}

/// Begins to send a large file, lets `change` have its way with it, and goes on.
#[test]
fn parts_of_a_file_read_as_they_are_whatever_their_length() {
    let world = World::new();
    let content: Vec<u8> = (0..50_000_u32).flat_map(|n| n.to_le_bytes()).collect();
    world.write("big", &content);
    let mut client = world.client();
    for (from, to) in [(0, 0), (1000, 1999), (1000, 9191), (1000, 9192), (199_999, 199_999), (150_000, 250_000)] {
        let answer = client.ask_with("/big", &format!("Range: bytes={from}-{to}\r\n"));
        assert_eq!(answer.status, 206);
        assert!(answer.body == content[from..=to.min(199_999)], "{from}-{to}");
    }
}

fn change_while_sending(change: impl Fn(&Path)) -> Client {
    let world = World::new();
    let file = world.root().join("big");
    fs::write(&file, vec![b'x'; 200_000]).unwrap();
    let mut client = world.client();
    client.wire.window = 1;
    client.send("/big", "");
    while client.wire.received.is_empty() {
        client.news.recv().unwrap();
        client.wire.wake();
    }
    change(&file);
    client.wire.window = usize::MAX;
    client.wire.turn(false);
    client
}

#[test]
fn a_file_that_shrinks_is_cut_and_one_that_grows_or_goes_is_sent_as_it_was_announced() {
    let shrunk = change_while_sending(|file| {
        OpenOptions::new().write(true).open(file).unwrap().set_len(100_000).unwrap();
    });
    assert_eq!(shrunk.wire.close, Some(Close::Reset));
    assert_eq!(shrunk.wire.log.0[0].detail, "file-shrank");
    let grown = change_while_sending(|file| {
        OpenOptions::new().append(true).open(file).unwrap().write_all(b"more").unwrap();
    });
    let gone = change_while_sending(|file| fs::remove_file(file).unwrap());
    for client in [grown, gone] {
        assert_eq!(client.wire.close, None);
        assert!(client.wire.answers(&[])[0].body == [b'x'; 200_000]);
    }
}

#[test]
fn the_root_must_be_a_directory() {
    let world = World::new();
    assert!(Root::open(&world.root().join("index.html")).is_err());
    assert!(Root::open(&world.root().join("nowhere")).is_err());
}
