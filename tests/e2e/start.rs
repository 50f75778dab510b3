//! The start, and why there is none: every complaint is one line, and nothing is left behind.

use crate::house::{Ended, Start};
use crate::server::Server;
use std::fs;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use tempfile::TempDir;

/// It ends with this code and one line, which begins with the program's name and contains all of `words`.
fn complains(start: Start, program: &str, code: i32, words: &[&str]) -> Ended {
    let ended = start.end();
    assert_eq!(ended.code(), code, "{ended:?}");
    assert_eq!((ended.stderr.len(), ended.stdout.len()), (1, 0), "one line on standard error: {ended:#?}");
    let line = &ended.stderr[0];
    assert!(line.starts_with(&format!("{program}: ")), "{line}");
    assert!(line.bytes().all(|byte| byte >= b' '), "{line}");
    for word in words {
        assert!(line.contains(word), "{word:?} should be in: {line}");
    }
    ended
}

#[test]
fn a_wrong_command_line_is_one_line_and_exit_2() {
    for (args, words) in [
        ("", &["--upstream", "--demo"][..]),
        ("--demo --upstream 127.0.0.1:9", &["--demo", "--upstream", "127.0.0.1:9"]),
        ("--demo --no-such-option", &["--no-such-option"]),
        ("--demo --listne :1", &["--listne", "--listen"]),
        ("--demo --listen 8080", &["--listen", "8080"]),
        ("--demo --listen 127.0.0.1:99999", &["--listen", "99999"]),
        ("--demo --listen localhost:8080", &["--listen", "localhost"]),
        ("--demo --listen 127.0.0.1:1 --listen 127.0.0.1:1", &["--listen", "twice"]),
        ("--demo --workers 0", &["--workers"]),
        ("--demo --workers two", &["--workers", "two"]),
        ("--demo --client-head-timeout 10", &["--client-head-timeout", "10s"]),
        ("--demo --client-head-timeout 0s", &["--client-head-timeout"]),
        ("--demo --max-head 1tb", &["--max-head", "1tb"]),
        ("--demo --max-head 4k --max-target 8k", &["--max-head", "--max-target"]),
        ("--demo --access-log", &["--access-log"]),
        ("--demo --access-log off --access-log-format json", &["--access-log-format"]),
        ("--demo --access-log-format xml", &["xml"]),
        ("--demo -q -v", &["--quiet", "--verbose"]),
        ("--demo extra", &["extra"]),
        ("--upstream 127.0.0.1:0", &["--upstream", "port 0"]),
        ("--upstream https://127.0.0.1:443", &["TLS"]),
        ("--upstream 127.0.0.1:9,127.0.0.1:9", &["twice"]),
        ("--upstream 127.0.0.1:9/path", &["path"]),
        ("--upstream a,,b", &["comma"]),
        ("--upstream 127.0.0.1:9 --retries 9", &["--retries"]),
    ] {
        let folder = TempDir::new().unwrap();
        complains(Start::proxy().args(args).within(folder.path()), "pilb-fast", 2, words);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "{args} left something behind");
    }
}

#[test]
fn the_demo_brings_its_own_servers() {
    let start = Start::proxy().args("--demo --upstream 127.0.0.1:9");
    complains(start, "pilb-fast", 2, &["--demo brings its own servers"]);
}

#[test]
fn hostile_arguments_stay_on_their_line() {
    let start = Start::proxy().args("--demo --listen").arg("a\nb\u{1b}[31m\r");
    complains(start, "pilb-fast", 2, &["--listen"]);
}

#[test]
fn help_and_version_are_answers() {
    for (args, words) in [("--help", "--client-head-timeout"), ("-h", "--upstream"), ("--version", "pilb-fast ")] {
        let ended = Start::proxy().args(args).end();
        assert_eq!((ended.code(), ended.stderr.len()), (0, 0), "{args}");
        assert!(ended.stdout.iter().any(|line| line.contains(words)), "{args}: {ended:?}");
    }
}

#[test]
fn a_port_in_use_is_one_line_and_exit_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    // With several workers the port is shared among them, but not with somebody else.
    for workers in ["1", "2"] {
        let args = format!("--demo --listen {address} --workers {workers}");
        let words = [&*address.to_string(), "in use", "--listen"];
        complains(Start::proxy().args(&args), "pilb-fast", 1, &words);
        let server = Server::named("a");
        let args = format!("--listen {address} --workers {workers}");
        complains(Start::proxy().to(&[&server]).args(&args), "pilb-fast", 1, &words);
    }
}

#[test]
fn two_proxies_with_several_workers_do_not_share_a_port() {
    let server = Server::named("a");
    let first = crate::house::proxy(&[&server], "--workers 2");
    let args = format!("--listen {} --workers 2", first.address());
    complains(Start::proxy().to(&[&server]).args(&args), "pilb-fast", 1, &["in use"]);
    assert_eq!(first.client().get("/").status, 200);
}

#[test]
fn the_second_of_two_addresses_that_is_taken_ends_the_start() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let args = format!("--demo --listen 127.0.0.1:0 --listen {}", taken.local_addr().unwrap());
    complains(Start::proxy().args(&args), "pilb-fast", 1, &["in use"]);
}

#[test]
fn a_name_without_an_address_is_one_line_and_exit_1() {
    let start = Start::proxy().args("--listen 127.0.0.1:0 --upstream no-such-host.invalid:80");
    complains(start, "pilb-fast", 1, &["no-such-host.invalid"]);
}

#[test]
fn a_log_that_cannot_be_written_is_one_line_and_exit_1() {
    let folder = TempDir::new().unwrap();
    let missing = folder.path().join("none/register.log");
    let start = |path| Start::proxy().args("--demo --listen 127.0.0.1:0 --access-log").arg(path);
    complains(start(missing.as_os_str()), "pilb-fast", 1, &["none", "--access-log"]);
    complains(start(folder.path().as_os_str()), "pilb-fast", 1, &["folder", "--access-log"]);
}

#[test]
fn a_proxy_does_not_forward_to_itself() {
    let folder = TempDir::new().unwrap();
    let socket = format!("unix:{}", folder.path().join("s").display());
    let start = Start::proxy().arg("--listen").arg(&socket).arg("--upstream").arg(&socket);
    let ended = start.end();
    assert_eq!(ended.code(), 2, "{ended:?}");
    assert!(ended.stderr.last().unwrap().contains("this proxy itself"), "{ended:?}");
}

#[test]
fn a_socket_in_use_is_refused_and_a_stale_one_is_taken_over() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("s");
    let server = Server::named("a");
    let start = || Start::proxy().to(&[&server]).arg("--listen").arg(format!("unix:{}", path.display()));
    let live = UnixListener::bind(&path).unwrap();
    complains(start(), "pilb-fast", 1, &["exists"]);
    drop(live);
    // Its file is still there, but nobody listens: what a process leaves behind that was killed.
    assert!(path.exists());
    let proxy = start().run();
    assert_eq!(proxy.client().get("/").status, 200);
}

#[test]
fn the_origins_complaints_are_one_line_too() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "x").unwrap();
    complains(Start::origin(&folder.path().join("none")), "pilb-origin", 2, &["--root", "none"]);
    complains(Start::origin(&file), "pilb-origin", 2, &["--root", "not a folder"]);
    complains(Start::origin(folder.path()).args("--upstream a"), "pilb-origin", 2, &["--upstream"]);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    complains(Start::origin(folder.path()).arg("--listen").arg(&listen), "pilb-origin", 1, &["in use"]);
}
