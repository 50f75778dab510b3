//! Holds the rooms of the house apart: reads the sources and fails on an import or a call that does not belong where it stands.
//!
//! The table below is the one of the README: who may know whom. Below it are the marks of the outside world (sockets, files, threads,
//! clocks) that the pure rooms must not bear, and a few rules of housekeeping for all sources. Every finding is shown as `file:line`.
//! The checker is no parser: it knows comments, literals, `use` trees, paths and braces, which is enough for honest code.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;

/// Each room with those it may import from.
const ROOMS: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("http1", &["base"]),
    ("engine", &["base"]),
    ("cache", &["base"]),
    ("proxy", &["http1", "engine", "base"]),
    ("origin", &["http1", "engine", "cache", "base"]),
    ("net", &["engine", "base"]),
    // Of `origin` the trait that it implements; of `http1` the request that the trait shows to a store.
    ("storage", &["origin", "http1", "base"]),
    ("access_log", &["engine", "base"]),
    ("config", &["base", "http1"]),
    ("run", &["base", "http1", "engine", "cache", "proxy", "origin", "net", "storage", "access_log", "config"]),
    ("bin", &["run"]),
];

/// Rooms that may touch the world. All others are pure.
const WORLDLY: &[&str] = &["net", "storage", "access_log", "config", "run", "bin"];

/// Names that show the world wherever they stand in a path.
const WORLD: &[&str] = &[
    "mio",
    "socket2",
    "rustix",
    "libc",
    "memmap2",
    "signal_hook",
    "TcpListener",
    "TcpStream",
    "UdpSocket",
    "UnixDatagram",
    "UnixListener",
    "UnixStream",
    "SystemTime",
    "Rc",
    "RefCell",
];

/// Paths that show the world, from their beginning.
const WORLD_PATHS: &[&[&str]] = &[
    &["std", "fs"],
    &["std", "thread"],
    &["std", "process"],
    &["std", "env"],
    &["std", "net", "*"],
    &["std", "os", "unix", "net"],
    &["std", "os", "fd"],
    &["Instant", "now"],
    &["std", "time", "Instant", "now"],
];

/// What tests beside pure code may use of it: files, for what they compare with.
const FOR_TESTS: &[&[&str]] = &[&["std", "fs"], &["std", "env"]];

/// The files that may say `unsafe`, at most two.
const UNSAFE: &[&str] = &[];

const WIDTH: usize = 120;

// ---- the tests

#[test]
fn rooms_import_only_from_those_below() {
    none(|source| imports(source, ROOMS));
}

#[test]
fn pure_rooms_know_no_world() {
    none(world);
}

#[test]
fn every_file_says_what_it_is_for() {
    none(headless);
}

#[test]
fn no_line_is_too_wide() {
    none(wide);
}

#[test]
fn nothing_is_left_undone() {
    none(undone);
}

#[test]
fn nothing_is_unsafe() {
    assert!(UNSAFE.len() <= 2, "two files at most");
    none(|source| unsafety(source, UNSAFE));
}

fn none(check: impl Fn(&Source) -> Vec<Finding>) {
    let sources = sources();
    assert!(sources.len() > 20, "where are the sources?");
    let findings: Vec<String> =
        sources.iter().flat_map(|source| check(source).into_iter().map(|finding| finding.show(source))).collect();
    assert!(findings.is_empty(), "\n{}\n({} findings)", findings.join("\n"), findings.len());
}

// ---- the rules

struct Finding {
    at: usize,
    what: String,
}

impl Finding {
    fn show(&self, source: &Source) -> String {
        let line = 1 + source.text[..self.at].bytes().filter(|&byte| byte == b'\n').count();
        format!("{}:{line}: {}", source.name, self.what)
    }
}

fn imports(source: &Source, rooms: &[(&str, &[&str])]) -> Vec<Finding> {
    let Some(room) = source.room() else { return Vec::new() };
    let allowed = |room: &str| rooms.iter().find(|(name, _)| *name == room).map(|(_, allowed)| *allowed);
    let Some(direct) = allowed(room) else {
        return vec![Finding { at: 0, what: format!("a room that the table does not know: {room}") }];
    };
    // Tests may look through a room into those that it stands on.
    let indirect: BTreeSet<&str> = direct.iter().flat_map(|room| allowed(room).unwrap_or(&[])).copied().collect();
    let mut findings = Vec::new();
    for path in &source.paths {
        let Some(other) = source.room_of(path) else { continue };
        let known = other == room || direct.contains(&other);
        if !known && !(source.in_test(path.at) && indirect.contains(other)) {
            findings.push(Finding { at: path.at, what: format!("{room} must not know {other}") });
        }
    }
    findings
}

fn world(source: &Source) -> Vec<Finding> {
    if source.room().is_none_or(|room| WORLDLY.contains(&room)) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for path in &source.paths {
        let starts =
            |with: &&[&str]| path.parts.len() >= with.len() && path.parts.iter().zip(*with).all(|(a, b)| a == b);
        let named = path.parts.iter().any(|part| WORLD.contains(&&part[..]));
        let excused = source.in_test(path.at) && FOR_TESTS.iter().any(|with| starts(with));
        if (named || WORLD_PATHS.iter().any(|with| starts(with))) && !excused {
            findings.push(Finding { at: path.at, what: format!("{} in a pure room", path.parts.join("::")) });
        }
    }
    findings
}

fn headless(source: &Source) -> Vec<Finding> {
    let says =
        source.text.lines().next().is_some_and(|line| line.strip_prefix("//! ").is_some_and(|rest| rest.len() > 9));
    if says {
        Vec::new()
    } else {
        vec![Finding { at: 0, what: "no //! line that says what the file is for".to_owned() }]
    }
}

/// Over the edge may go what cannot be broken: a literal, or the row of a table.
fn wide(source: &Source) -> Vec<Finding> {
    let (mut at, mut findings) = (0, Vec::new());
    for line in source.text.split_inclusive('\n') {
        let width = line.trim_end().chars().count();
        if width > WIDTH {
            let edge = at + line.char_indices().nth(WIDTH).map_or(0, |(offset, _)| offset);
            let table = line.trim_start().trim_start_matches(['/', '!']).trim_start().starts_with('|');
            if source.kinds[edge] != Kind::Literal && !table {
                findings.push(Finding { at, what: format!("{width} columns, {WIDTH} at most") });
            }
        }
        at += line.len();
    }
    findings
}

fn undone(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (at, word) in source.words() {
        let rest = &source.code[at + word.len()..];
        let called = rest.trim_start().starts_with('!') && !rest.trim_start().starts_with("!=");
        if ["todo", "unimplemented", "dbg"].contains(&word) && called {
            findings.push(Finding { at, what: format!("{word}!") });
        }
        let before: String = source.code[..at].chars().rev().filter(|c| !c.is_whitespace()).take(2).collect();
        if word == "ignore" && before == "[#" && rest.trim_start().starts_with(']') {
            findings.push(Finding { at, what: "a test is ignored without a reason".to_owned() });
        }
    }
    findings
}

fn unsafety(source: &Source, allowed: &[&str]) -> Vec<Finding> {
    let words = source.words().filter(|(_, word)| *word == "unsafe" && !allowed.contains(&&source.name[..]));
    words.map(|(at, _)| Finding { at, what: "unsafe".to_owned() }).collect()
}

// ---- reading

/// What a byte of a source is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Code,
    Comment,
    Literal,
}

struct Source {
    /// From the root, with slashes.
    name: String,
    text: String,
    kinds: Vec<Kind>,
    /// The text with blanks for all that is not code.
    code: String,
    /// What is compiled for tests only.
    tests: Vec<Range<usize>>,
    /// The bodies of inline modules.
    modules: Vec<Range<usize>>,
    paths: Vec<PathSeen>,
}

/// A path as it is meant: `use a::{b, c}` is two of them.
struct PathSeen {
    at: usize,
    parts: Vec<String>,
}

/// All Rust sources of the package and of its fuzz targets.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut names = Vec::new();
    for folder in ["src", "tests", "benches", "fuzz/src", "fuzz/fuzz_targets"] {
        collect(root, folder, &mut names);
    }
    names.sort();
    let mut sources: Vec<Source> = names
        .into_iter()
        .map(|name| {
            let text = std::fs::read_to_string(root.join(&name)).unwrap();
            Source::new(name, text)
        })
        .collect();
    let test_modules: Vec<String> = sources.iter().flat_map(Source::test_modules).collect();
    for source in &mut sources {
        let below = |module: &String| {
            let rest = source.name.strip_prefix(&module[..]);
            rest.is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
        };
        if test_modules.iter().any(below) {
            source.tests = std::iter::once(0..source.text.len()).collect();
        }
    }
    sources
}

fn collect(root: &Path, folder: &str, names: &mut Vec<String>) {
    let Ok(entries) = std::fs::read_dir(root.join(folder)) else { return };
    for entry in entries {
        let entry = entry.unwrap();
        let name = format!("{folder}/{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            collect(root, &name, names);
        } else if name.ends_with(".rs") {
            names.push(name);
        }
    }
}

impl Source {
    fn new(name: impl Into<String>, text: impl Into<String>) -> Source {
        let (name, text) = (name.into(), text.into());
        let kinds = kinds(text.as_bytes());
        let code: Vec<u8> = text
            .bytes()
            .zip(&kinds)
            .map(|(byte, kind)| if *kind == Kind::Code || byte == b'\n' { byte } else { b' ' })
            .collect();
        // Only whole characters are blanked, except where code itself is not ASCII.
        let code = String::from_utf8(code).unwrap();
        let mut source = Source { name, text, kinds, code, tests: Vec::new(), modules: Vec::new(), paths: Vec::new() };
        source.tests = source.marked("#[cfg(test)]");
        source.modules = source.inline_modules();
        source.paths = paths(&source.code);
        source
    }

    /// The room that the file stands in; none for the door (`src/lib.rs`) and for all that is not in the house.
    fn room(&self) -> Option<&str> {
        let inside = self.name.strip_prefix("src/")?;
        let room = inside.split('/').next()?;
        let room = room.strip_suffix(".rs").unwrap_or(room);
        (room != "lib").then_some(room)
    }

    /// The room that a path leads into, if it leads out of the crate's root.
    fn room_of<'p>(&self, path: &'p PathSeen) -> Option<&'p str> {
        let [first, rest @ ..] = &path.parts[..] else { return None };
        if first == "crate" || first == "pilb" {
            return rest.first().map(|room| &room[..]).filter(|room| *room != "self");
        }
        let ups = path.parts.iter().take_while(|part| *part == "super").count();
        let nested = self.modules.iter().filter(|body| body.contains(&path.at)).count();
        (ups > 0 && ups >= self.depth() + nested).then(|| path.parts.get(ups).map(|room| &room[..])).flatten()
    }

    /// How many modules deep the file is below the root.
    fn depth(&self) -> usize {
        let inside = self.name.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
        inside.split('/').count()
    }

    fn in_test(&self, at: usize) -> bool {
        self.tests.iter().any(|range| range.contains(&at))
    }

    /// The items behind an attribute.
    fn marked(&self, attribute: &str) -> Vec<Range<usize>> {
        let starts = self.code.match_indices(attribute).map(|(at, _)| at);
        starts.map(|at| at..item_end(&self.code, at + attribute.len())).collect()
    }

    fn inline_modules(&self) -> Vec<Range<usize>> {
        let mods = self.words().filter(|(_, word)| *word == "mod");
        let bodies = mods.filter_map(|(at, _)| {
            let open = at + self.code[at..].find(['{', ';'])?;
            self.code[open..].starts_with('{').then(|| open..item_end(&self.code, at))
        });
        bodies.collect()
    }

    /// Modules in files of their own that are declared for tests only, as the beginning of those files' names.
    fn test_modules(&self) -> Vec<String> {
        let here = self.name.trim_end_matches(".rs").trim_end_matches("/mod").trim_end_matches("/lib");
        let declared = self.tests.iter().filter_map(|range| {
            let item = self.code[range.clone()].strip_suffix(';')?;
            let name = item.rsplit_once("mod ")?.1.trim();
            Some(format!("{here}/{name}"))
        });
        declared.collect()
    }

    fn words(&self) -> impl Iterator<Item = (usize, &str)> {
        words(&self.code)
    }
}

/// Where the item that begins at or behind `at` ends: with the brace that closes its first one, or with a semicolon before any.
fn item_end(code: &str, at: usize) -> usize {
    let mut depth = 0;
    for (offset, byte) in code[at..].bytes().enumerate() {
        match byte {
            b'{' | b'(' | b'[' => depth += 1,
            b'}' | b')' | b']' => {
                depth -= 1;
                if depth == 0 && byte == b'}' {
                    return at + offset + 1;
                }
            }
            b';' if depth == 0 => return at + offset + 1,
            _ => {}
        }
    }
    code.len()
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii()
}

/// Identifiers and keywords with their places.
fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let bytes = code.as_bytes();
        while at < bytes.len() && !is_word(bytes[at]) {
            at += 1;
        }
        let start = at;
        while at < bytes.len() && is_word(bytes[at]) {
            at += 1;
        }
        (start < at).then(|| (start, &code[start..at]))
    })
}

/// Every path in the code, those of `use` declarations as each of them is meant.
fn paths(code: &str) -> Vec<PathSeen> {
    let (mut found, mut at) = (Vec::new(), 0);
    for (start, word) in words(code) {
        if start < at {
            continue;
        }
        if word == "use" {
            at = use_tree(code, start + word.len(), &[], &mut found);
            continue;
        }
        let (mut parts, mut end) = (vec![word.to_owned()], start + word.len());
        while let Some(rest) = code[end..].strip_prefix("::") {
            let Some((0, next)) = words(rest).next() else { break };
            parts.push(next.to_owned());
            end += 2 + next.len();
        }
        at = end;
        found.push(PathSeen { at: start, parts });
    }
    found
}

/// Reads `a::b`, `a::{...}`, `a::*` or `a as b` at `at`, below `prefix`. Returns where it ends.
fn use_tree(code: &str, mut at: usize, prefix: &[String], found: &mut Vec<PathSeen>) -> usize {
    let bytes = code.as_bytes();
    let mut parts = prefix.to_vec();
    let mut start = None;
    while at < bytes.len() {
        match bytes[at] {
            b'{' => {
                at += 1;
                while at < bytes.len() && bytes[at] != b'}' {
                    at = use_tree(code, at, &parts, found);
                    at += usize::from(bytes.get(at) == Some(&b','));
                }
                return at + 1;
            }
            b'*' => {
                parts.push("*".to_owned());
                start = start.or(Some(at));
                at += 1;
            }
            b',' | b';' | b'}' => break,
            byte if is_word(byte) => {
                let (_, word) = words(&code[at..]).next().unwrap();
                if word == "as" {
                    at += code[at..].find([',', ';', '}']).unwrap_or(code.len() - at);
                    break;
                }
                start = start.or(Some(at));
                parts.push(word.to_owned());
                at += word.len();
            }
            _ => at += 1,
        }
    }
    if let Some(at) = start {
        found.push(PathSeen { at, parts });
    }
    at
}

/// Tells code from comments and literals.
fn kinds(text: &[u8]) -> Vec<Kind> {
    let mut kinds = vec![Kind::Code; text.len()];
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let fresh = at == 0 || !is_word(text[at - 1]);
        let (len, kind) = if rest.starts_with(b"//") {
            (rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len()), Kind::Comment)
        } else if rest.starts_with(b"/*") {
            (block_comment(rest), Kind::Comment)
        } else if rest[0] == b'"' {
            (quoted(rest, b'"'), Kind::Literal)
        } else if let Some(len) = raw_string(rest).filter(|_| fresh) {
            (len, Kind::Literal)
        } else if rest[0] == b'\'' && is_char(rest) {
            (quoted(rest, b'\''), Kind::Literal)
        } else {
            (1, Kind::Code)
        };
        kinds[at..at + len].fill(kind);
        at += len;
    }
    kinds
}

fn block_comment(text: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        if text[at..].starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if text[at..].starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

/// The length of the literal that begins with this quote.
fn quoted(text: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < text.len() && text[at] != quote {
        at += if text[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(text.len())
}

/// The length of `r"..."`, `br#"..."#` and their kin.
fn raw_string(text: &[u8]) -> Option<usize> {
    let start =
        text.iter().position(|&byte| byte == b'r').filter(|&at| at <= 1 && (at == 0 || b"bc".contains(&text[0])))?;
    let hashes = text[start + 1..].iter().take_while(|&&byte| byte == b'#').count();
    let open = start + 1 + hashes;
    if text.get(open) != Some(&b'"') {
        return None;
    }
    let close = [&b"\""[..], &b"#".repeat(hashes)].concat();
    let end = text[open + 1..].windows(close.len()).position(|window| window == close)?;
    Some(open + 1 + end + close.len())
}

/// Is this quote a character's, not a lifetime's?
fn is_char(text: &[u8]) -> bool {
    match text.get(1) {
        Some(b'\\') => true,
        Some(first) => {
            let width = first.leading_ones().max(1) as usize;
            text.get(1 + width) == Some(&b'\'')
        }
        None => false,
    }
}

// ---- the checker, checked

/// The findings of a rule in a file with this name and text.
fn found(check: impl Fn(&Source) -> Vec<Finding>, name: &str, text: &str) -> Vec<String> {
    let source = Source::new(name, text);
    check(&source).iter().map(|finding| finding.show(&source)).collect()
}

#[test]
fn forbidden_imports_are_found_however_they_are_written() {
    let found = |name: &str, text: &str| found(|source| imports(source, ROOMS), name, text);
    for (name, text) in [
        ("src/base/x.rs", "use crate::http1::Fault;"),
        ("src/http1/mod.rs", "use crate::{base::Now, engine::Flow};"),
        ("src/proxy/x.rs", "fn f() { crate::net::worker::run() }"),
        ("src/proxy/x.rs", "use super::super::origin;"),
        ("src/proxy/x.rs", "mod tests {\n use super::super::super::net::Io;\n}"),
        ("src/proxy/mod.rs", "pub use super::net as other;"),
        ("src/net/x.rs", "use crate::{\n    base::{Now, Peer},\n    proxy::{self, Proxy},\n};"),
        ("src/origin/x.rs", "#[cfg(test)]\nmod tests { use crate::proxy::Proxy; }"),
        ("src/config.rs", "use super::run;"),
        ("src/bin/x.rs", "fn main() { pilb::net::go() }"),
        ("src/cellar/x.rs", ""),
        ("src/proxy/x.rs", "use crate::*;"),
    ] {
        assert_eq!(found(name, text).len(), 1, "{name}: {text}: {:?}", found(name, text));
    }
    for (name, text) in [
        ("src/base/x.rs", "// crate::http1\nconst X: &str = \"crate::net\"; use crate::base::Now;"),
        ("src/proxy/x.rs", "use super::rewrite;\nmod tests { use super::super::relay; }"),
        ("src/proxy/x.rs", "use crate::{base::Now, engine::Flow, http1::{self, Body}};"),
        ("src/storage/x.rs", "#[cfg(test)]\nmod tests { use crate::engine::Close; }"),
        ("src/bin/x.rs", "fn main() { pilb::run::proxy() }"),
        ("src/lib.rs", "pub mod net; use crate::net::X;"),
        ("tests/x.rs", "use pilb::net::X;"),
    ] {
        assert_eq!(found(name, text), [""; 0], "{name}: {text}");
    }
    assert_eq!(found("src/base/x.rs", "\n\nuse crate::net;"), ["src/base/x.rs:3: base must not know net"]);
    let untested = found("src/storage/x.rs", "use crate::engine::Close;");
    assert_eq!(untested, ["src/storage/x.rs:1: storage must not know engine"]);
}

#[test]
fn the_world_is_found_in_pure_rooms_only() {
    for bad in [
        "use mio::Token;",
        "use std::net::TcpStream;",
        "use std::net::{IpAddr, UdpSocket};",
        "use std::net::*;",
        "use std::{fmt, fs};",
        "use std::{collections::{self, HashMap}, thread};",
        "fn f() { std::fs::read(\"x\"); }",
        "use std::os::unix::net::UnixStream;",
        "fn f() { let now = Instant::now(); }",
        "fn f() { let now = std::time::Instant::now(); }",
        "use std::time::SystemTime;",
        "struct S { x: Rc<u8> }",
        "struct S { x: std::cell::RefCell<u8> }",
        "use std::rc::Rc as Shared;",
        "#[cfg(test)]\nmod tests { use std::thread; }",
        "#[cfg(test)]\nmod tests { use std::net::TcpStream; }",
        "#[cfg(test)]\nmod tests {}\nfn f() { std::fs::read(\"x\"); }",
    ] {
        assert_eq!(found(world, "src/proxy/x.rs", bad).len(), 1, "{bad}: {:?}", found(world, "src/proxy/x.rs", bad));
        assert_eq!(found(world, "src/net/x.rs", bad), [""; 0], "{bad}");
        assert_eq!(found(world, "tests/x.rs", bad), [""; 0], "{bad}");
    }
    for good in [
        "use std::net::{IpAddr, Ipv6Addr, SocketAddr};",
        "use std::time::{Duration, UNIX_EPOCH};",
        "use std::sync::Arc; struct Rcs; fn mio_like() {}",
        "/// Not std::fs, nor Instant::now.\nconst X: &str = r#\"std::thread \"quoted\" mio\"#; // RefCell",
        "fn f<'a>(x: &'a str) -> char { '\"' } /* std::fs /* RefCell */ mio */",
        "#[cfg(test)]\nmod tests { fn f() { std::fs::read(\"golden\"); } }",
    ] {
        assert_eq!(found(world, "src/proxy/x.rs", good), [""; 0], "{good}");
    }
}

#[test]
fn housekeeping_is_checked() {
    assert_eq!(found(headless, "src/x.rs", "use a::b;").len(), 1);
    assert_eq!(found(headless, "src/x.rs", "//! \n").len(), 1);
    assert_eq!(found(headless, "src/x.rs", "").len(), 1);
    assert_eq!(found(headless, "src/x.rs", "//! A room for tests.\n"), [""; 0]);

    let long = "x".repeat(WIDTH);
    assert_eq!(found(wide, "src/x.rs", &format!("a\n// {long}\n")), ["src/x.rs:2: 123 columns, 120 at most"]);
    assert_eq!(found(wide, "src/x.rs", &format!("let {long} = 1;")).len(), 1);
    assert_eq!(found(wide, "src/x.rs", &format!("let x = \"{long}\";")), [""; 0]);
    assert_eq!(found(wide, "src/x.rs", &format!("//! | {long} |\n{long}\n")), [""; 0]);
    assert_eq!(found(wide, "src/x.rs", &"\u{e4}".repeat(WIDTH)), [""; 0]);

    for bad in ["todo!()", "fn f() { unimplemented!(\"x\") }", "dbg!(x)", "#[ignore]\nfn f() {}", "# [ ignore ]"] {
        assert_eq!(found(undone, "tests/x.rs", bad).len(), 1, "{bad}");
    }
    for good in ["// todo!()", "let todo = 1; todo != 2", "#[ignore = \"needs a net\"]", "\"dbg!(x)\"", "a.ignore[0]"] {
        assert_eq!(found(undone, "tests/x.rs", good), [""; 0], "{good}");
    }

    let unsafety = |text: &str| found(|source| unsafety(source, &["src/net/allowed.rs"]), "src/net/x.rs", text);
    assert_eq!(unsafety("fn f() { unsafe { g() } }").len(), 1);
    assert_eq!(unsafety("unsafe impl Send for X {}").len(), 1);
    assert_eq!(unsafety("#![forbid(unsafe_code)] // unsafe"), [""; 0]);
    let allowed = Source::new("src/net/allowed.rs", "unsafe fn f() {}");
    assert!(super_allowed(&allowed));
}

fn super_allowed(source: &Source) -> bool {
    unsafety(source, &["src/net/allowed.rs"]).is_empty()
}

#[test]
fn files_that_are_declared_for_tests_count_as_tests() {
    let parent = Source::new("src/origin/mod.rs", "mod a;\n#[cfg(test)]\npub(crate) mod tests;\nmod b;");
    assert_eq!(parent.test_modules(), ["src/origin/tests"]);
    assert_eq!(Source::new("src/lib.rs", "#[cfg(test)] mod testing;").test_modules(), ["src/testing"]);
}
