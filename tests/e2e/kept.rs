//! What `pilb-origin` makes it makes once and keeps: hits, joint makings, purges, restarts, damage, other processes.

use crate::files::{ask, plain, settle};
use crate::house::{Ended, Program, Signal, Start, eventually};
use crate::wire::{Answer, Framing, Pattern, Wire};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const GZIP: &str = "Accept-Encoding: gzip\r\n";

/// A folder with a root, of files that were not changed just now, and a place for a cache beside it.
struct Site {
    folder: TempDir,
}

impl Site {
    /// `a.txt` and `b.txt`, worth compressing.
    fn new() -> Site {
        let site = Site { folder: TempDir::new().unwrap() };
        fs::create_dir(site.root()).unwrap();
        site.put("b.txt", &text("b"));
        site.put("a.txt", &text("a"));
        settle(&site.root().join("a.txt"));
        site
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    fn cache(&self) -> PathBuf {
        self.folder.path().join("kept")
    }

    fn put(&self, name: &str, content: &str) {
        fs::write(self.root().join(name), content).unwrap();
    }

    fn start(&self) -> Start {
        Start::origin(&self.root()).arg("--cache-dir").arg(self.cache())
    }

    fn run(&self) -> Program {
        self.start().run()
    }

    /// The only object's file.
    fn object(&self) -> PathBuf {
        let files: Vec<PathBuf> = files(&self.cache().join("objects")).collect();
        assert_eq!(files.len(), 1, "{files:?}");
        files[0].clone()
    }

    fn cli(&self, command: &str) -> Ended {
        let mut words = command.split_whitespace();
        let start = Start::cache(words.next().unwrap()).arg(self.cache());
        words.fold(start, |start, word| start.arg(word)).end()
    }

    fn cli_json(&self, command: &str) -> serde_json::Value {
        let ended = self.cli(&format!("{command} --json"));
        serde_json::from_str(&ended.stdout.join("\n")).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
    }
}

fn files(objects: &Path) -> impl Iterator<Item = PathBuf> {
    let folders: Vec<_> = fs::read_dir(objects).into_iter().flatten().collect();
    folders
        .into_iter()
        .flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap())
        .map(|file| file.unwrap().path())
}

fn text(word: &str) -> String {
    format!("{word} is a word; ").repeat(400)
}

/// Text that does not compress too well: half of it stays.
fn hex(seed: u64, length: usize) -> String {
    Pattern::bytes(seed, length / 2).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn status(answer: &Answer) -> &str {
    answer.field("cache-status").unwrap_or("")
}

fn is_hit(answer: &Answer) -> bool {
    status(answer).starts_with("pilb-origin; hit; ttl=")
}

/// Asks for it in gzip until it comes from the cache.
fn keep(client: &mut Wire, target: &str) -> Answer {
    eventually("it is kept", || Some(ask(client, "GET", target, GZIP)).filter(is_hit))
}

#[test]
fn what_is_made_is_kept_and_says_so() {
    let site = Site::new();
    let origin = site.run();
    let mut client = origin.client();
    let first = ask(&mut client, "GET", "/a.txt", GZIP);
    assert_eq!((first.status, first.field("content-encoding")), (200, Some("gzip")));
    assert_eq!((status(&first), first.field("age")), ("pilb-origin; fwd=miss; stored", None));
    let tag = first.field("etag").unwrap();
    for _ in 0..3 {
        let again = ask(&mut client, "GET", "/a.txt", GZIP);
        assert!(is_hit(&again), "{}", status(&again));
        let age: u32 = again.field("age").unwrap().parse().unwrap();
        let left: u32 = status(&again).rsplit('=').next().unwrap().parse().unwrap();
        assert_eq!((age + left, again.field("etag")), (60, Some(tag)));
        assert!(plain(&again) == text("a").as_bytes() && again.body == first.body);
        assert_eq!(again.framing, Framing::Length(first.body.len() as u64));
    }
    let spared = ask(&mut client, "GET", "/a.txt", &format!("{GZIP}If-None-Match: {tag}\r\n"));
    assert_eq!((spared.status, spared.field("etag")), (304, Some(tag)));
    let uncoded = client.get("/a.txt");
    assert_eq!((uncoded.field("cache-status"), uncoded.text()), (None, &text("a")[..]), "no work, no cache");
    assert_ne!(uncoded.field("etag"), Some(tag));
    assert!(site.cache().join("index").is_file(), "it is where it was told to be");
}

#[test]
fn what_is_being_made_is_sent_as_it_comes() {
    let site = Site::new();
    let origin = site.run();
    // How fast it is made nobody knows, so another one is made until one was begun to be sent before its end.
    for (version, framing) in [("1.1", Framing::Chunked), ("1.0", Framing::UntilClose)] {
        eventually("an answer of unknown length", || {
            let text = hex(fastrand(), 6 << 20);
            site.put("big.txt", &text);
            let mut client = origin.client();
            client.send(format!("GET /big.txt HTTP/{version}\r\nHost: a\r\n{GZIP}\r\n"));
            let answer = client.answer();
            assert!(plain(&answer) == text.as_bytes(), "{version}");
            if answer.framing == Framing::UntilClose {
                assert!(answer.says_close());
            }
            (answer.framing == framing).then_some(())
        });
    }
}

/// A new number each time.
fn fastrand() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0)
}

#[test]
fn fifty_clients_that_ask_at_once_have_it_made_once() {
    for workers in [1, 2] {
        let site = Site::new();
        let text = hex(1, 4 << 20);
        site.put("big.txt", &text);
        settle(&site.root().join("big.txt"));
        let origin = site.start().args(&format!("--workers {workers}")).run();
        let mut clients: Vec<Wire> = (0..50).map(|_| origin.client()).collect();
        let request = format!("GET /big.txt HTTP/1.1\r\nHost: a\r\n{GZIP}\r\n");
        origin.while_stopped(|| clients.iter_mut().for_each(|client| client.send(&request)));
        let answers: Vec<Answer> = clients.iter_mut().map(Wire::answer).collect();
        let made = answers.iter().filter(|answer| {
            let status = status(answer);
            assert!(status.contains("fwd=miss") || is_hit(answer), "{status}");
            status.contains("fwd=miss") && !status.contains("collapsed")
        });
        assert_eq!(made.count(), 1, "{workers} workers");
        assert!(answers.iter().all(|answer| answer.body == answers[0].body), "{workers} workers");
        assert!(plain(&answers[0]) == text.as_bytes());
    }
}

#[test]
fn a_purge_from_this_machine_drops_it_for_every_worker() {
    let site = Site::new();
    let origin = site.start().args("--workers 2").run();
    // As many that both workers have some.
    let mut clients: Vec<Wire> = (0..16).map(|_| origin.client()).collect();
    for what in ["/a.txt", "/"] {
        for client in &mut clients {
            keep(client, "/a.txt");
            keep(client, "/b.txt");
        }
        // From now on nothing is kept, so that what is a hit is what was there before.
        fs::remove_dir(site.cache().join("tmp")).unwrap();
        fs::write(site.cache().join("tmp"), "").unwrap();
        let purged = ask(&mut clients[0], "PURGE", what, "");
        assert_eq!(purged.status, 200);
        assert_eq!(purged.text(), if what == "/" { "2 dropped\n" } else { "1 dropped\n" });
        for client in &mut clients {
            let answer = ask(client, "GET", "/a.txt", GZIP);
            assert!(status(&answer).contains("fwd=miss"), "{}", status(&answer));
            assert!(plain(&answer) == text("a").as_bytes());
            assert_eq!(is_hit(&ask(client, "GET", "/b.txt", GZIP)), what != "/");
        }
        fs::remove_file(site.cache().join("tmp")).unwrap();
        fs::create_dir(site.cache().join("tmp")).unwrap();
    }
}

#[test]
fn a_purge_for_somebody_else_is_refused() {
    let site = Site::new();
    let origin = site.run();
    let proxy = Start::proxy().arg("--upstream").arg(origin.address().to_string()).run();
    keep(&mut origin.client(), "/a.txt");
    let refused = ask(&mut proxy.client(), "PURGE", "/a.txt", "");
    assert_eq!((refused.status, refused.field("allow")), (405, Some("GET, HEAD, OPTIONS")));
    assert!(is_hit(&ask(&mut origin.client(), "GET", "/a.txt", GZIP)));
    let none = Start::origin(&site.root()).args("--cache-dir off").run();
    assert_eq!(ask(&mut none.client(), "PURGE", "/", "").status, 404);
    assert!(!none.folder.join("cache").exists());
}

#[test]
fn a_folder_is_purged_with_its_index_and_its_listing() {
    let site = Site::new();
    fs::create_dir(site.root().join("in")).unwrap();
    site.put("in/index.html", &text("index"));
    settle(&site.root().join("in/index.html"));
    let origin = site.start().arg("--listing").run();
    let mut client = origin.client();
    keep(&mut client, "/in/");
    assert_eq!(ask(&mut client, "PURGE", "/in/", "").text(), "1 dropped\n");
    keep(&mut client, "/");
    assert_eq!(site.cli("purge /").stdout, ["1 dropped"]);
    assert!(status(&ask(&mut client, "GET", "/", GZIP)).contains("fwd=miss"));
}

#[test]
fn what_is_kept_outlives_the_process() {
    let site = Site::new();
    for signal in [Signal::TERM, Signal::KILL] {
        let mut origin = site.run();
        let before = keep(&mut origin.client(), "/a.txt");
        origin.signal(signal);
        origin.wait();
        let origin = site.run();
        let after = ask(&mut origin.client(), "GET", "/a.txt", GZIP);
        assert!(is_hit(&after) && after.field("age").is_some(), "{signal:?}: {}", status(&after));
        assert_eq!((after.field("etag"), &after.body), (before.field("etag"), &before.body));
        // What changed meanwhile is not what was kept.
        drop(origin);
        site.put("a.txt", &text("c"));
        settle(&site.root().join("a.txt"));
        let origin = site.run();
        assert!(plain(&ask(&mut origin.client(), "GET", "/a.txt", GZIP)) == text("c").as_bytes());
        site.put("a.txt", &text("a"));
        settle(&site.root().join("a.txt"));
    }
}

/// It ends with this code and one line that contains these words.
fn complains(ended: &Ended, code: i32, words: &[&str]) {
    assert_eq!((ended.code(), ended.stderr.len(), ended.stdout.len()), (code, 1, 0), "{ended:#?}");
    for word in words {
        assert!(ended.stderr[0].contains(word), "{word:?} should be in: {}", ended.stderr[0]);
    }
}

#[test]
fn a_directory_is_for_one_process() {
    let site = Site::new();
    let origin = site.run();
    let pid = format!("in use by process {}; give", origin.pid());
    complains(&site.start().args("--listen 127.0.0.1:0").end(), 1, &["pilb-origin: the cache directory", &pid]);
    drop(origin);
    assert_eq!(ask(&mut site.run().client(), "GET", "/a.txt", GZIP).status, 200, "a killed one holds nothing");
}

#[test]
fn directories_that_cannot_be_a_cache() {
    let site = Site::new();
    let start = |dir: &Path| Start::origin(&site.root()).args("--listen 127.0.0.1:0 --cache-dir").arg(dir);
    let below = site.root().join("cache");
    complains(&start(&below).end(), 2, &["--cache-dir", "lies below --root"]);
    complains(&start(&site.root()).end(), 2, &["lies below --root"]);
    let through = site.folder.path().join("link");
    std::os::unix::fs::symlink(site.root(), &through).unwrap();
    complains(&start(&through.join("x")).end(), 2, &["lies below --root"]);
    let file = site.folder.path().join("file");
    fs::write(&file, "x").unwrap();
    complains(&start(&file).end(), 1, &["file"]);
    complains(&start(&file.join("x")).end(), 1, &["cannot make"]);
    let others = TempDir::new().unwrap();
    fs::write(others.path().join("letter"), "x").unwrap();
    complains(&start(others.path()).end(), 1, &["no cache directory of pilb-origin"]);
    assert!(!below.exists() && fs::read_dir(others.path()).unwrap().count() == 1, "nothing is left behind");

    // A folder that nobody named must not keep the files from being served.
    let mut origin = Start::origin(&site.root()).within(&site.root()).run();
    let answer = ask(&mut origin.client(), "GET", "/a.txt", GZIP);
    assert!(plain(&answer) == text("a").as_bytes() && status(&answer) == "pilb-origin; fwd=miss");
    let ended = origin.stop();
    assert!(ended.stderr.iter().any(|line| line.contains("WARN") && line.contains("below --root")), "{ended:?}");
    assert!(!below.exists());
}

#[test]
fn a_cache_that_cannot_be_written_to_does_not_stop_the_files() {
    let site = Site::new();
    let mut origin = site.run();
    let mut client = origin.client();
    keep(&mut client, "/a.txt");
    // A file in the folder's place fails for root as well.
    fs::remove_dir(site.cache().join("tmp")).unwrap();
    fs::write(site.cache().join("tmp"), "").unwrap();
    for _ in 0..3 {
        let answer = ask(&mut client, "GET", "/b.txt", GZIP);
        assert!(plain(&answer) == text("b").as_bytes());
        assert_eq!(status(&answer), "pilb-origin; fwd=miss");
        assert!(is_hit(&ask(&mut client, "GET", "/a.txt", GZIP)), "what is there is served");
    }
    fs::remove_file(site.cache().join("tmp")).unwrap();
    fs::create_dir(site.cache().join("tmp")).unwrap();
    keep(&mut client, "/b.txt");
    let said = origin.stop().stderr;
    let count = |words: &str| said.iter().filter(|line| line.contains(words)).count();
    assert_eq!((count("answers are not kept in"), count("are kept in")), (1, 1), "{said:#?}");
}

#[test]
fn a_flipped_byte_is_never_served_and_verify_finds_it() {
    let site = Site::new();
    // With a server that has it, and without one; in the body and in the header.
    for (live, from_end) in [(true, 40), (false, 40), (true, usize::MAX), (false, usize::MAX)] {
        let mut origin = site.run();
        keep(&mut origin.client(), "/a.txt");
        if !live {
            origin.stop();
        }
        let file = site.object();
        let mut bytes = fs::read(&file).unwrap();
        let at = bytes.len().saturating_sub(from_end);
        bytes[at] ^= 4;
        fs::write(&file, bytes).unwrap();
        let verified = site.cli("verify");
        assert_eq!(verified.code(), 1, "{verified:?}");
        let name = file.strip_prefix(site.cache()).unwrap().to_str().unwrap();
        let line = verified.stdout[0].as_str();
        assert!(line.starts_with("damaged") && line.contains(name), "{line}");
        assert_eq!(line.ends_with("gzip       /a.txt"), from_end == 40, "{line}");
        let json = site.cli_json("verify");
        assert_eq!((&json["good"], &json["damaged"]), (&0.into(), &1.into()), "{json}");
        if live {
            // What it has in memory is right; a new process has only the file.
            assert!(plain(&ask(&mut origin.client(), "GET", "/a.txt", GZIP)) == text("a").as_bytes());
            origin.stop();
        }
        let mut origin = site.run();
        let answer = ask(&mut origin.client(), "GET", "/a.txt", GZIP);
        assert!(plain(&answer) == text("a").as_bytes() && !is_hit(&answer), "{}", status(&answer));
        keep(&mut origin.client(), "/a.txt");
        let verified = site.cli("verify");
        assert_eq!((verified.code(), verified.stdout[0].as_str()), (0, "1 good, 0 damaged, 0 unreadable"));
        origin.stop();
        assert_eq!(site.cli("purge").stdout, ["1 dropped"]);
    }
}

#[test]
fn the_command_line_shows_what_is_kept() {
    let site = Site::new();
    site.put("c d.txt", &text("c"));
    settle(&site.root().join("c d.txt"));
    let mut origin = site.run();
    let mut client = origin.client();
    keep(&mut client, "/a.txt");
    keep(&mut client, "/c%20d.txt");
    for live in [true, false] {
        let stat = site.cli_json("stat");
        let server = if live { origin.pid().into() } else { serde_json::Value::Null };
        assert_eq!((&stat["objects"], &stat["capacity"], &stat["server"]), (&2.into(), &100_000.into(), &server));
        assert_eq!((&stat["clean"], &stat["broken"]), (&(!live).into(), &serde_json::Value::Null));
        let shown = site.cli("stat").stdout.join("\n");
        assert!(shown.contains("objects    2 of 100000"), "{shown}");
        let server = if live { format!("server     process {}", origin.pid()) } else { "server     none".to_owned() };
        assert!(shown.contains(&server) && shown.contains(if live { "in use" } else { "in order" }), "{shown}");

        let list = site.cli("list --cache-ttl 60s");
        assert_eq!((list.code(), list.stdout.len()), (0, 3), "{list:?}");
        assert!(list.stdout[0].ends_with("AGE   LEFT  PATH"), "{list:?}");
        assert!(list.stdout[1].starts_with("gzip") && list.stdout[1].ends_with("s  /a.txt"), "{list:?}");
        assert!(list.stdout[2].ends_with("s  /c%20d.txt"), "{list:?}");
        let one = site.cli_json("list /c%20d.txt --cache-ttl 60s");
        assert_eq!((one.as_array().unwrap().len(), &one[0]["path"]), (1, &"/c%20d.txt".into()));
        assert_eq!(one[0]["age"].as_u64().unwrap() + one[0]["left"].as_u64().unwrap(), 60, "{one}");
        assert_eq!(site.cli_json("list /none"), serde_json::json!([]));
        let verified = site.cli("verify");
        assert_eq!((verified.code(), verified.stdout[0].as_str()), (0, "2 good, 0 damaged, 0 unreadable"));
        if live {
            origin.stop();
        }
    }
}

#[test]
fn the_command_line_empties_it_under_a_running_server() {
    let site = Site::new();
    let mut origin = site.start().args("--workers 2").run();
    let mut clients: Vec<Wire> = (0..16).map(|_| origin.client()).collect();
    for (command, dropped, others) in [("purge /a.txt", "1 dropped", true), ("purge", "2 dropped", false)] {
        for client in &mut clients {
            keep(client, "/a.txt");
            keep(client, "/b.txt");
        }
        fs::remove_dir(site.cache().join("tmp")).unwrap();
        fs::write(site.cache().join("tmp"), "").unwrap();
        let purged = site.cli(command);
        assert_eq!((purged.code(), &purged.stdout[..]), (0, &[dropped.to_owned()][..]), "{purged:?}");
        for client in &mut clients {
            let answer = ask(client, "GET", "/a.txt", GZIP);
            assert!(status(&answer).contains("fwd=miss"), "{command}: {}", status(&answer));
            assert_eq!(is_hit(&ask(client, "GET", "/b.txt", GZIP)), others, "{command}");
        }
        fs::remove_file(site.cache().join("tmp")).unwrap();
        fs::create_dir(site.cache().join("tmp")).unwrap();
    }
    keep(&mut clients[0], "/a.txt");
    origin.stop();
    assert_eq!(site.cli("purge /none").stdout, ["0 dropped"]);
    assert_eq!(site.cli("purge").stdout, ["1 dropped"]);
    let origin = site.run();
    assert!(!is_hit(&ask(&mut origin.client(), "GET", "/a.txt", GZIP)));
}

#[test]
fn the_command_line_says_what_is_wrong() {
    let site = Site::new();
    for command in ["stat", "list", "verify", "purge"] {
        complains(&site.cli(command), 2, &["pilb-origin cache: ", "does not exist", "--cache-dir"]);
        let root = Start::cache(command).arg(site.root()).end();
        complains(&root, 2, &["is no cache directory of pilb-origin", "--cache-dir"]);
        let file = Start::cache(command).arg(site.root().join("a.txt")).end();
        complains(&file, 2, &["is not a folder"]);
        assert!(!site.cache().exists(), "looking makes nothing");
    }
    complains(&Start::cache("list").arg(site.root()).arg("/../x").end(), 2, &["/../x", "dot-dot"]);
    complains(&Start::cache("show").arg(site.root()).end(), 2, &["'show' is no command"]);
    let help = Start::cache("--help").end();
    assert_eq!((help.code(), help.stderr.len()), (0, 0));
    assert!(help.stdout.iter().any(|line| line.trim() == "pilb-origin cache stat cache"), "{help:?}");
}
