//! The access log: its formats, its targets, and that it neither lies nor stands in the way.

use crate::house::{Line, Program, Signal, Start, proxy};
use crate::server::Server;
use crate::wire::{get, post};
use rustix::fs::{CWD, Mode, mkfifoat};
use serde_json::Value;
use std::fs;

fn text(proxy: &Program) -> String {
    fs::read_to_string(proxy.log_path()).unwrap()
}

/// An exchange, a refused request and one that names who asks, on one connection each; then the end.
fn three(args: &str) -> Program {
    let server = Server::named("a");
    let mut proxy = proxy(&[&server], args);
    assert_eq!(proxy.client().post("/form?x=1", b"hello").status, 200);
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\nHost: a\r\n\r\n");
    assert_eq!(client.answer().status, 400);
    drop(client);
    let mut client = proxy.client();
    client.send("GET /page HTTP/1.1\r\nHost: a\r\nReferer: http://r.example/\r\nUser-Agent: Test/1 (\"x\\\")\r\n\r\n");
    assert_eq!(client.answer().status, 200);
    drop(client);
    assert_eq!(proxy.stop().log_totals(), (3, 0));
    proxy
}

#[test]
fn the_default_format_has_named_columns() {
    let proxy = three("");
    let lines = proxy.log(3);
    let columns = |line: &Line| (line.client.clone(), line.status.clone(), line.end.clone(), line.request.clone());
    let owned = |a: &str, b: &str, c: &str, d: &str| (a.to_owned(), b.to_owned(), c.to_owned(), d.to_owned());
    assert_eq!(columns(&lines[0]), owned("127.0.0.1", "200", "done", "POST /form?x=1 HTTP/1.1"));
    assert_eq!(columns(&lines[1]), owned("127.0.0.1", "400", "bad-request(bare-lf)", "GET / HTTP/1.1"));
    assert_eq!(columns(&lines[2]), owned("127.0.0.1", "200", "done", "GET /page HTTP/1.1"));
    assert_eq!((lines[0].get("host"), lines[0].get("attempts"), lines[0].get("reused")), ("test.example", "1", "none"));
    assert_eq!((lines[1].get("upstream"), lines[1].get("attempts")), ("-", "0"));
    assert_eq!(lines[0].bytes("up"), post("/form?x=1", b"hello").len() as u64);
    assert!(lines[1].bytes("down") > 50);
    for line in &lines {
        for time in ["wait_head", "connect", "first_byte", "total"] {
            assert!(line.get(time).strip_suffix("us").unwrap().parse::<u64>().is_ok(), "{}", line.text);
        }
    }
}

#[test]
fn combined_is_what_log_analysers_read() {
    let proxy = three("--access-log-format combined");
    let text = text(&proxy);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 3);
    for line in &lines {
        let parts: Vec<_> = line.split('"').collect();
        assert_eq!(parts.len(), 7, "three quoted parts: {line}");
        let (client, time) = parts[0].split_once(" - - [").unwrap();
        assert_eq!(client, "127.0.0.1");
        let time = time.strip_suffix("] ").unwrap();
        let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
        let (month, shape) = (&shape[3..6], format!("{}Mon{}", &shape[..3], &shape[6..]));
        assert!("JanFebMarAprMayJunJulAugSepOctNovDec".contains(month), "{line}");
        assert_eq!(shape, "99/Mon/9999:99:99:99 +9999", "{line}");
    }
    let end = |line: &str| line.split_once("] ").unwrap().1.to_owned();
    assert_eq!(end(lines[0]), "\"POST /form?x=1 HTTP/1.1\" 200 5 \"-\" \"-\"");
    assert!(end(lines[1]).starts_with("\"GET / HTTP/1.1\" 400 "), "{}", lines[1]);
    assert_eq!(end(lines[2]), "\"GET /page HTTP/1.1\" 200 1 \"http://r.example/\" \"Test/1 (\\x22x\\x5C\\x22)\"");
}

#[test]
fn json_is_one_object_per_line_with_the_same_keys_always() {
    let proxy = three("--access-log-format json");
    let text = text(&proxy);
    let values: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(values.len(), 3);
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert!(values.iter().all(|value| keys(value) == keys(&values[0])));
    assert_eq!(
        (&values[0]["status"], &values[0]["end"], &values[0]["detail"]),
        (&200.into(), &"done".into(), &Value::Null)
    );
    assert_eq!(
        (&values[0]["request"], &values[0]["host"]),
        (&"POST /form?x=1 HTTP/1.1".into(), &"test.example".into())
    );
    assert_eq!(values[0]["bytes_up"], post("/form?x=1", b"hello").len());
    let body = values[0]["bytes_down"].as_u64().unwrap() - values[0]["bytes_down_head"].as_u64().unwrap();
    assert_eq!(body, 5);
    assert_eq!((&values[1]["end"], &values[1]["detail"]), (&"bad-request".into(), &"bare-lf".into()));
    assert_eq!((&values[1]["upstream"], &values[1]["host"]), (&Value::Null, &Value::Null));
    assert_eq!(
        (&values[2]["referer"], &values[2]["agent"]),
        (&"http://r.example/".into(), &r"Test/1 (\x22x\x5C\x22)".into())
    );
}

#[test]
fn a_dash_is_standard_output() {
    let server = Server::named("a");
    let mut proxy = proxy(&[&server], "--access-log - --access-log-format json");
    proxy.client().get("/1");
    // Without waiting for the end: somebody may be looking.
    proxy.stdout(|lines| lines.iter().any(|line| line.contains("GET /1 ")).then_some(()));
    proxy.client().get("/2");
    let ended = proxy.stop();
    assert_eq!((ended.stdout.len(), ended.log_totals()), (2, (2, 0)), "{ended:?}");
    assert!(ended.stdout.iter().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{ended:?}");
    assert_eq!(fs::read_dir(&proxy.folder).unwrap().count(), 0);
}

#[test]
fn off_is_off() {
    let server = Server::named("a");
    let mut proxy = proxy(&[&server], "--access-log off");
    assert_eq!(proxy.client().get("/").status, 200);
    let ended = proxy.stop();
    assert!(ended.stdout.is_empty());
    assert_eq!(fs::read_dir(&proxy.folder).unwrap().count(), 0);
}

#[test]
fn an_existing_log_is_continued() {
    let server = Server::named("a");
    let folder = tempfile::TempDir::new().unwrap();
    for round in 1..=2 {
        let mut proxy = Start::proxy().to(&[&server]).within(folder.path()).run();
        proxy.client().get("/");
        proxy.stop();
        assert_eq!(proxy.log(0).len(), round);
    }
}

/// Whatever a request holds, it gets one line of printable ASCII, and only that line's own columns.
#[test]
fn no_request_can_forge_a_line() {
    let forged = "2026-01-01T00:00:00.000Z 9.9.9.9 200 done";
    let attempts: &[Vec<u8>] = &[
        format!("GET /\r\n{forged} HTTP/1.1\r\nHost: a\r\n\r\n").into(),
        format!("GET /\n{forged} HTTP/1.1\r\nHost: a\r\n\r\n").into(),
        format!("GET /\r{forged} HTTP/1.1\r\nHost: a\r\n\r\n").into(),
        format!("{forged}\r\n\r\n").into(),
        b"GET /\" 200 done host=evil HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        b"GET /\x1b[2J HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        b"GET /\xff\xfe HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nHost: a b=c\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nHost: a\" x=\"\r\n\r\n".to_vec(),
        b"GET /%0d%0a%22 HTTP/1.1\r\nHost: a\r\nUser-Agent: \" \\\" %0a \\n \xff\r\nReferer: \"\r\n\r\n".to_vec(),
        b"GET /\\\" HTTP/1.1\r\nHost: a\r\nUser-Agent: x\ty\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec(),
    ];
    let server = Server::named("a");
    for format in ["pilb", "combined", "json"] {
        let mut proxy = proxy(&[&server], &format!("--access-log-format {format}"));
        for attempt in attempts {
            let mut client = proxy.client();
            client.send(attempt);
            client.answer();
        }
        proxy.stop();
        let text = text(&proxy);
        assert_eq!(text.lines().count(), attempts.len(), "{text}");
        for line in text.lines() {
            assert!(line.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{line}");
            assert!(!line.starts_with("2026-01-01"), "{line}");
            match format {
                "pilb" => assert_eq!(Line::parse(line).client, "127.0.0.1"),
                "combined" => {
                    assert_eq!((line.split('"').count(), line.starts_with("127.0.0.1 ")), (7, true), "{line}");
                }
                _ => assert_eq!(serde_json::from_str::<Value>(line).unwrap()["client"], "127.0.0.1"),
            }
        }
    }
}

#[test]
fn a_full_disk_costs_lines_and_nothing_else() {
    let server = Server::named("a");
    let mut proxy = proxy(&[&server], "--access-log /dev/full");
    for n in 0..5 {
        let mut client = proxy.client();
        (0..10).for_each(|_| assert_eq!(client.get(&format!("/{n}")).status, 200));
    }
    proxy.signal(Signal::USR1);
    assert_eq!(proxy.client().get("/").status, 200);
    let ended = proxy.stop();
    assert_eq!(ended.log_totals(), (0, 51), "{ended:?}");
}

#[test]
fn a_pipe_that_nobody_reads_holds_up_neither_requests_nor_the_end() {
    const REQUESTS: usize = 3000;
    let folder = tempfile::TempDir::new().unwrap();
    let fifo = folder.path().join("fifo");
    mkfifoat(CWD, &fifo, Mode::from_raw_mode(0o600)).unwrap();
    let server = Server::named("a");
    let mut proxy = Start::proxy().to(&[&server]).arg("--access-log").arg(&fifo).run();
    let mut client = proxy.client();
    // Far more lines than the pipe holds.
    (0..REQUESTS).for_each(|_| assert_eq!(client.get("/").status, 200));
    let (written, lost) = proxy.stop().log_totals();
    assert_eq!(written + lost, REQUESTS as u64);
    assert!(written > 100 && lost > 1000, "{written} written, {lost} lost");
}

#[test]
fn standard_output_that_nobody_reads_any_more_is_no_reason_to_end() {
    let server = Server::named("a");
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_pilb-fast"))
        .args(["--listen", "127.0.0.1:0", "--workers", "1", "--access-log", "-"])
        .args(["--upstream", &server.address.to_string()])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().unwrap()));
    let line = lines.find_map(|line| Some(line.ok()?.split_once("listening on ")?.1.to_owned())).unwrap();
    let address = crate::wire::Address::parse(&line);
    let served = (0..50).filter(|_| crate::wire::Wire::to(&address).get("/").status == 200).count();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(served, 50);
}

#[test]
fn every_exchange_is_either_written_or_counted_as_lost() {
    const CLIENTS: u64 = 8;
    const EACH: u64 = 1000;
    let server = Server::named("a");
    let mut proxy = proxy(&[&server], "--workers 2");
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let mut client = proxy.client();
            std::thread::spawn(move || {
                for _ in 0..EACH / 50 {
                    client.send(get("/").repeat(50));
                    (0..50).for_each(|_| assert_eq!(client.answer().status, 200));
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    let (written, lost) = proxy.stop().log_totals();
    assert_eq!(written + lost, CLIENTS * EACH);
    assert_eq!(proxy.log(0).len() as u64, written);
}

#[test]
fn a_client_that_leaves_has_its_line() {
    let server = Server::named("a");
    let mut proxy = proxy(&[&server], "");
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nUnfini");
    client.socket.end();
    client.rest();
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf");
    client.socket.end();
    client.rest();
    // Nothing was asked: that is no line.
    drop(proxy.client());
    proxy.stop();
    let ends: Vec<_> = proxy.log(2).iter().map(|line| (line.status.clone(), line.end.clone())).collect();
    assert_eq!(ends.len(), 2, "{ends:?}");
    assert!(ends.iter().all(|(status, end)| status == "-" && end == "client-closed"), "{ends:?}");
}

#[test]
fn the_origin_writes_the_same_log() {
    let folder = tempfile::TempDir::new().unwrap();
    fs::write(folder.path().join("a.txt"), "hello").unwrap();
    let mut origin = Start::origin(folder.path()).args("--access-log register.log").run();
    let mut client = origin.client();
    assert_eq!(client.get("/a.txt").status, 200);
    assert_eq!(client.get("/none").status, 404);
    drop(client);
    origin.stop();
    let lines = origin.log(2);
    assert_eq!((lines[0].status.as_str(), lines[0].request.as_str()), ("200", "GET /a.txt HTTP/1.1"));
    assert_eq!((lines[1].status.as_str(), lines[1].end.split('(').next()), ("404", Some("done")));
}
