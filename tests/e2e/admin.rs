//! The admin side: its numbers are right, servers are taken out and put back without a loss, and it answers when nobody else does.

use crate::house::{Program, Signal, Start, eventually};
use crate::server::{Server, Then};
use crate::wire::{Wire, get, post};
use serde_json::Value;
use std::net::TcpListener;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use tempfile::TempDir;

fn start(servers: &[&Server], args: &str) -> Program {
    Start::proxy().to(servers).args("--admin 127.0.0.1:0").args(args).run()
}

/// What one question gets.
fn ask(proxy: &Program, target: &str) -> (u16, String) {
    let answer = Wire::to(&proxy.admin()).get(target);
    (answer.status, answer.text().to_owned())
}

/// The sum of the lines of a family whose labels contain this.
fn metric(proxy: &Program, family: &str, label: &str) -> u64 {
    let (status, text) = ask(proxy, "/metrics");
    assert_eq!(status, 200);
    let lines = text.lines().filter(|line| !line.starts_with('#') && line.contains(label));
    let ours = lines.filter(|line| line.split(['{', ' ']).next() == Some(family));
    let values: Vec<u64> = ours.map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect();
    assert!(!values.is_empty(), "no {family} with {label}: {text}");
    values.iter().sum()
}

/// The row of a server in /servers.
fn row(proxy: &Program, server: &Server) -> Value {
    let read: Value = serde_json::from_str(&ask(proxy, "/servers").1).unwrap();
    let rows = read["servers"].as_array().unwrap();
    let name = server.address.to_string();
    rows.iter().find(|row| row["name"] == name.as_str()).unwrap_or_else(|| panic!("no {name}: {read}")).clone()
}

fn tell(proxy: &Program, server: &Server, what: &str) -> Value {
    let answer = Wire::to(&proxy.admin()).post(&format!("/servers/{}/{what}", server.address), b"");
    assert_eq!(answer.status, 200, "{}", answer.text());
    serde_json::from_str(answer.text()).unwrap()
}

#[test]
fn clients_that_break_off_in_their_head_are_counted_once() {
    let server = Server::named("a");
    let proxy = start(&[&server], "");
    let mut stays = proxy.client();
    assert_eq!(stays.get("/").status, 200);
    for _ in 0..3 {
        proxy.client().send("GET / HT");
    }
    eventually("all three are over", || {
        (metric(&proxy, "pilb_request_ends_total", "end=\"client-closed\"") == 3).then_some(())
    });
    assert_eq!(metric(&proxy, "pilb_client_connections", ""), 1);
    assert_eq!(stays.get("/").status, 200);
}

#[test]
fn the_numbers_of_all_workers_add_up() {
    let (one, two) = (Server::named("a"), Server::named("b"));
    let proxy = start(&[&one, &two], "--workers 2");
    let mut clients: Vec<_> = (0..8).map(|_| proxy.client()).collect();
    for client in &mut clients {
        (0..5).for_each(|_| assert_eq!(client.get("/").status, 200));
    }
    clients[0].send("GET / HTTP/1.1\r\n\r\n");
    assert_eq!(clients[0].answer().status, 400);
    clients.truncate(5);
    eventually("all are counted", || {
        let done =
            metric(&proxy, "pilb_requests_total", "2xx") == 40 && metric(&proxy, "pilb_client_connections", "") == 4;
        (done && metric(&proxy, "pilb_requests_total", "4xx") == 1).then_some(())
    });
    assert_eq!(metric(&proxy, "pilb_request_ends_total", "end=\"done\""), 40);
    assert_eq!(metric(&proxy, "pilb_request_ends_total", "end=\"bad-request\""), 1);
    assert_eq!(metric(&proxy, "pilb_server_requests_total", ""), 40);
    assert_eq!(metric(&proxy, "pilb_client_connections_opened_total", ""), 8);
    assert_eq!(metric(&proxy, "pilb_server_requests_in_flight", ""), 0);
    assert_eq!(metric(&proxy, "pilb_workers", ""), 2);
    let bytes: u64 = proxy.log(41).iter().map(|line| line.bytes("down")).sum();
    assert_eq!(metric(&proxy, "pilb_response_bytes_total", ""), bytes);
    let rows = [row(&proxy, &one), row(&proxy, &two)];
    assert_eq!(rows.iter().map(|row| row["requests"].as_u64().unwrap()).sum::<u64>(), 40);
    assert!(rows.iter().all(|row| row["state"] == "up" && row["failures"] == 0 && row["probe"].is_null()), "{rows:?}");
    assert!(ask(&proxy, "/").1.contains(&one.address.to_string()));
}

#[test]
fn what_runs_and_what_fails_is_seen() {
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let slow = Server::start(move |visit| {
        // No word: the test is over.
        let _ = wait.lock().unwrap().recv();
        visit.reply("200 OK", "slow")
    });
    let failing = Server::start(|_| Then::Reset);
    let proxy = start(&[&slow, &failing], "--retries 0 --eject-after 2 --eject-time 5m");
    let mut waiting = proxy.client();
    waiting.send(get("/"));
    eventually("it is in flight", || (row(&proxy, &slow)["in_flight"] == 1).then_some(()));
    (0..2).for_each(|_| go.send(()).unwrap());
    assert_eq!(waiting.answer().status, 200);
    let mut client = proxy.client();
    let statuses: Vec<_> = (0..3).map(|_| client.get("/").status).collect();
    assert_eq!(statuses, [502, 200, 502]);
    let row = eventually("it is ejected", || Some(row(&proxy, &failing)).filter(|row| row["state"] == "ejected"));
    assert_eq!((&row["share"], &row["ejections"]), (&Value::from(0), &Value::from(1)));
    assert_eq!((&row["failures"], &row["requests"]), (&Value::from(2), &Value::from(2)));
    assert_eq!(metric(&proxy, "pilb_server_up", ""), 1);
}

#[test]
fn servers_are_taken_out_and_put_back_and_no_request_is_lost() {
    let (one, two) = (Server::named("a"), Server::named("b"));
    let proxy = start(&[&one, &two], "--workers 2");
    let (over, asked) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = proxy.client();
                    while !over.load(Ordering::Relaxed) {
                        assert_eq!(client.get("/").status, 200);
                        asked.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        let more = |n| {
            let until = asked.load(Ordering::Relaxed) + n;
            eventually("requests go on", || (asked.load(Ordering::Relaxed) >= until).then_some(()));
        };
        for _ in 0..5 {
            more(50);
            assert_eq!(tell(&proxy, &one, "drain")["state"], "drained");
            // One per client may be on its way, unseen.
            let most = one.heads().len() + clients.len();
            more(100);
            let before = one.heads().len();
            assert!(before <= most, "{before} of {most}: it gets some after all");
            assert_eq!(tell(&proxy, &one, "ready")["state"], "up");
            eventually("it gets some again", || (one.heads().len() > before).then_some(()));
        }
        over.store(true, Ordering::Relaxed);
        clients.into_iter().for_each(|client| client.join().unwrap());
    });
    assert_eq!(one.heads().len() + two.heads().len(), asked.load(Ordering::Relaxed) as usize);
}

#[test]
fn a_sticky_client_of_a_drained_server_goes_elsewhere() {
    let (one, two) = (Server::named("a"), Server::named("b"));
    let proxy = start(&[&one, &two], "--sticky-cookie pilb");
    let mut client = proxy.client();
    let answer = client.get("/");
    let cookie = answer.field("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let request = format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\n\r\n");
    let mut again = || {
        client.send(&request);
        let answer = client.answer();
        (answer.text().to_owned(), answer.field("set-cookie").is_some())
    };
    let first = answer.text().to_owned();
    assert_eq!(again(), (first.clone(), false));
    tell(&proxy, if first == "a" { &one } else { &two }, "drain");
    let (other, told) = again();
    assert!(other != first && told);
    tell(&proxy, if first == "a" { &one } else { &two }, "ready");
    assert_eq!(again().0, first);
}

#[test]
fn with_all_servers_drained_there_is_none() {
    let server = Server::named("a");
    let mut proxy = start(&[&server], "");
    assert_eq!(ask(&proxy, "/healthz"), (200, "ok\n".to_owned()));
    tell(&proxy, &server, "drain");
    assert_eq!(ask(&proxy, "/healthz").0, 503);
    assert_eq!(proxy.client().get("/").status, 503);
    assert_eq!(proxy.log(1)[0].end, "no-upstream");
    tell(&proxy, &server, "ready");
    assert_eq!((proxy.client().get("/").status, ask(&proxy, "/healthz").0), (200, 200));
    proxy.stop();
}

/// Who waits for a server that is drained meanwhile is told so at once, and who waits for room gets it from one that is back.
#[test]
fn requests_that_wait_hear_of_it() {
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let slow = Server::start(move |visit| {
        // No word: the test is over.
        let _ = wait.lock().unwrap().recv();
        visit.reply("200 OK", "slow")
    });
    let other = Server::named("other");
    let proxy = start(&[&slow, &other], "--server-connections 1 --queue-timeout 5m");
    tell(&proxy, &other, "drain");
    let mut clients = [proxy.client(), proxy.client()];
    clients.iter_mut().for_each(|client| client.send(get("/")));
    eventually("one waits", || (metric(&proxy, "pilb_requests_waiting", "") == 1).then_some(()));
    tell(&proxy, &other, "ready");
    eventually("nobody waits", || (metric(&proxy, "pilb_requests_waiting", "") == 0).then_some(()));
    tell(&proxy, &other, "drain");
    let mut third = proxy.client();
    third.send(get("/"));
    eventually("one waits", || (metric(&proxy, "pilb_requests_waiting", "") == 1).then_some(()));
    tell(&proxy, &slow, "drain");
    assert_eq!(third.answer().status, 503);
    drop(go);
    let mut texts: Vec<_> = clients.iter_mut().map(|client| client.answer().text().to_owned()).collect();
    texts.sort();
    assert_eq!(texts, ["other", "slow"]);
}

#[test]
fn health_follows_the_servers() {
    // A path is not taken by anybody else meanwhile, as a port might be.
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("server");
    let server = Server::at_path(&path, |visit| visit.reply("200 OK", "here"));
    let probes = "--workers 2 --health-check tcp --health-interval 100ms --health-timeout 50ms --slow-start 0s";
    let proxy = start(&[&server], probes);
    eventually("it was probed", || (row(&proxy, &server)["probe"] == "well").then_some(()));
    assert_eq!(ask(&proxy, "/healthz").0, 200);
    drop(server);
    std::fs::remove_file(&path).unwrap();
    eventually("it is down", || (ask(&proxy, "/healthz").0 == 503).then_some(()));
    assert_eq!(metric(&proxy, "pilb_server_up", ""), 0);
    let server = Server::at_path(&path, |visit| visit.reply("200 OK", "back"));
    eventually("it is up again", || (ask(&proxy, "/healthz").0 == 200).then_some(()));
    assert_eq!(proxy.client().get("/").text(), "back");
    assert_eq!(row(&proxy, &server)["state"], "up");
}

#[test]
fn it_has_places_of_its_own() {
    let server = Server::named("a");
    let proxy = start(&[&server], "--max-connections 2 --client-head-timeout 5m");
    // In the middle of a request nobody is idle.
    let mut clients = [proxy.client(), proxy.client()];
    clients.iter_mut().for_each(|client| client.send("GET / HTTP/1.1\r\n"));
    let mut third = proxy.client();
    third.send(get("/"));
    eventually("all places are taken", || (metric(&proxy, "pilb_client_connections", "") == 2).then_some(()));
    assert_eq!(ask(&proxy, "/healthz").0, 200);
    assert_eq!(third.peek(), 0);
    // And it has no more of them than it needs: who is idle makes room.
    let mut crowd: Vec<_> = (0..24).map(|_| Wire::to(&proxy.admin())).collect();
    assert!(crowd.iter_mut().all(|client| client.get("/healthz").status == 200));
    clients[0].send("Host: a\r\n\r\n");
    assert_eq!(clients[0].answer().status, 200);
}

#[test]
fn it_can_be_asked_until_the_last_client_is_served() {
    let (tell, arrived) = channel();
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let server = Server::start(move |visit| {
        tell.send(()).unwrap();
        // No word: the test is over.
        let _ = wait.lock().unwrap().recv();
        visit.reply("200 OK", "late")
    });
    let mut proxy = start(&[&server], "--workers 2");
    let mut client = proxy.client();
    client.send(get("/"));
    arrived.recv().unwrap();
    proxy.signal(Signal::TERM);
    eventually("it says that it ends", || (ask(&proxy, "/healthz").0 == 503).then_some(()));
    assert_eq!(metric(&proxy, "pilb_draining", ""), 1);
    assert_eq!(metric(&proxy, "pilb_server_requests_in_flight", ""), 1);
    go.send(()).unwrap();
    assert_eq!(client.answer().text(), "late");
    let ended = proxy.wait();
    assert_eq!((ended.code(), ended.log_totals()), (0, (1, 0)));
}

#[test]
fn by_a_unix_socket_and_as_http_wants_it() {
    let (folder, server) = (TempDir::new().unwrap(), Server::named("a"));
    let socket = format!("unix:{}", folder.path().join("admin").display());
    let proxy = Start::proxy().to(&[&server]).arg("--admin").arg(&socket).run();
    assert_eq!(proxy.admin().to_string(), socket);
    let mut client = Wire::to(&proxy.admin());
    for (request, status) in [
        (get("/healthz"), 200),
        (get("/none"), 404),
        (get("/servers/x/drain"), 405),
        ("POST /servers/x/drain HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 404),
        (get("/metrics"), 200),
    ] {
        client.send(&request);
        let answer = client.answer();
        assert_eq!((answer.status, answer.says_close()), (status, false), "{request}");
    }
    client.send("HEAD /metrics HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(client.answer_to_head().body.is_empty());
    client.send(post("/servers/x/drain", &[b'x'; 100_000]));
    assert!(client.answer().says_close());
    let mut client = Wire::to(&proxy.admin());
    client.send("GET / HTTP/1.1\r\n\r\n");
    assert_eq!(client.answer().status, 400);
    client.expect_end();
}

/// When nothing happens, nothing is done: the last numbers were told, and nobody wakes up to tell them again.
#[test]
fn an_idle_process_sleeps() {
    let server = Server::named("a");
    let proxy = start(&[&server], "--workers 2 --client-idle-timeout 5m");
    let mut client = proxy.client();
    assert_eq!(client.get("/").status, 200);
    eventually("it is counted", || (metric(&proxy, "pilb_requests_total", "2xx") == 1).then_some(()));
    // The connection to the server is kept for some seconds.
    eventually("it is quiet", || {
        let before = proxy.waits();
        thread::sleep(std::time::Duration::from_secs(1));
        (proxy.waits() == before).then_some(())
    });
}

#[test]
fn an_address_that_is_not_to_be_had_is_explained() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let ended = Start::proxy().args(&format!("--listen 127.0.0.1:0 --upstream 127.0.0.1:9 --admin {address}")).end();
    assert_eq!((ended.code(), ended.stderr.len()), (1, 1), "{ended:?}");
    assert!(ended.stderr[0].contains("is in use") && ended.stderr[0].contains("--admin"), "{ended:?}");
    let ended = Start::proxy().args("--listen 127.0.0.1:0 --upstream 127.0.0.1:9 --admin 127.0.0.1:9").end();
    assert!(ended.code() != 0 && ended.stderr.iter().all(|line| line.contains("--admin")), "{ended:?}");
}
