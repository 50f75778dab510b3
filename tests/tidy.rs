//! The house's order as a test: who may import whom, what only the outer layers may touch, and that every room says what it is for.
#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

use std::fs;
use std::path::{Path, PathBuf};

/// Each room, and the rooms of ours that it may name (besides itself).
const ROOMS: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("http1", &["base"]),
    ("engine", &["base"]),
    ("cache", &["base"]),
    ("proxy", &["base", "http1", "engine"]),
    ("origin", &["base", "http1", "engine"]),
    ("admin", &["base", "http1", "engine"]),
    ("net", &["base", "engine"]),
    ("storage", &["base", "cache", "engine", "http1", "origin"]),
    ("access_log", &["base", "engine"]),
    ("config", &["base", "http1"]),
    ("run", &["base", "http1", "engine", "proxy", "origin", "admin", "net", "storage", "access_log", "config"]),
];

/// Rooms without sockets, clocks, files or threads.
const PURE: &[&str] = &["base", "http1", "engine", "cache", "proxy", "origin", "admin"];

/// What they therefore may not mention.
const IMPURE: &[&str] = &[
    "mio::",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "UnixListener",
    "std::thread",
    "std::fs",
    "Instant::now",
    "SystemTime",
    "Rc<",
    "RefCell",
    "std::env",
    "rustix::",
    "socket2::",
];

/// The files that may be unsafe: two at most.
const UNSAFE: &[&str] = &["net/memory.rs", "storage/cache/map.rs"];

/// What nobody may.
const BANNED: &[&str] = &["todo!(", "unimplemented!(", "dbg!(", "#[ignore]"];

/// The complaints about one file (of which all is `tests` or only its end), each with its line number.
fn complaints(room: &str, tests: bool, text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    if !text.starts_with("//!") {
        found.push((1, "no //! line that says what the file is for".to_owned()));
    }
    let allowed = ROOMS.iter().find(|(name, _)| *name == room).map_or(&[][..], |(_, allowed)| allowed);
    let mut in_tests = tests;
    for (index, line) in text.lines().enumerate() {
        let mut complain = |what: String| found.push((index + 1, what));
        in_tests |= line.starts_with("#[cfg(test)]");
        let code = line.split("//").next().unwrap_or("");
        for other in code.match_indices("crate::").map(|(at, _)| &code[at + 7..]) {
            let named = ROOMS.iter().map(|(name, _)| *name).find(|name| {
                other
                    .strip_prefix(name)
                    .is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
            });
            if let Some(named) = named.filter(|named| *named != room && !allowed.contains(named)) {
                complain(format!("{room} may not know {named}"));
            }
        }
        BANNED
            .iter()
            .filter(|word| code.contains(**word))
            .for_each(|word| complain(format!("{word} is not for this house")));
        if PURE.contains(&room) && !in_tests {
            IMPURE
                .iter()
                .filter(|word| code.contains(**word))
                .for_each(|word| complain(format!("{word} in a pure room")));
        }
    }
    found
}

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

#[test]
fn the_house_is_in_order() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut files, mut all) = (Vec::new(), String::new());
    sources(&root, &mut files);
    assert!(files.len() > 50, "only {} sources found", files.len());
    for path in files {
        let inner = path.strip_prefix(&root).unwrap();
        let first = inner.components().next().unwrap().as_os_str().to_str().unwrap();
        let room = first.strip_suffix(".rs").unwrap_or(first);
        let text = fs::read_to_string(&path).unwrap();
        let is_unsafe = text.contains("unsafe {") || text.contains("unsafe fn") || text.contains("unsafe impl");
        if is_unsafe && !UNSAFE.contains(&inner.to_str().unwrap()) {
            all += &format!("src/{}: unsafe\n", inner.display());
        }
        for (line, what) in complaints(room, inner.components().any(|part| part.as_os_str() == "tests"), &text) {
            all += &format!("src/{}:{line}: {what}\n", inner.display());
        }
    }
    assert!(all.is_empty(), "\n{all}");
}

#[test]
fn every_rule_can_be_broken() {
    let head = "//! A room.\n";
    for (room, code, complaint) in [
        ("base", "use crate::engine::Flow;", "base may not know engine"),
        ("proxy", "use crate::net::Worker;", "proxy may not know net"),
        ("admin", "use crate::proxy::Proxy;", "admin may not know proxy"),
        ("net", "let x = crate::proxy::Proxy::new();", "net may not know proxy"),
        ("http1", "let now = Instant::now();", "Instant::now in a pure room"),
        ("engine", "use std::fs;", "std::fs in a pure room"),
        ("net", "todo!()", "todo!( is not for this house"),
    ] {
        assert_eq!(complaints(room, false, &format!("{head}{code}\n")), [(2, complaint.to_owned())], "{code}");
    }
    assert_eq!(complaints("net", false, "use std::fs;\n").len(), 1, "a file without a head line");
    assert_eq!(
        complaints("proxy", false, &format!("{head}use crate::http1::Fault;\n#[cfg(test)]\nuse std::fs;\n")),
        []
    );
    assert_eq!(complaints("base", false, &format!("{head}// crate::net is far away\n")), []);
}
