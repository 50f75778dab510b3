//! Who gets the next request: weights, backups, the methods, keys, sticky cookies, and the slow start of one that comes back.

use crate::files::ask;
use crate::house::{Program, Start, eventually, proxy};
use crate::server::{Place, Server, Then};
use crate::wire::{Answer, Wire, get};
use std::collections::BTreeSet;
use std::fs;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

/// One check is enough, and whoever comes back counts in full at once.
const QUICK: &str =
    "--health-check tcp --health-interval 100ms --health-rise 1 --health-fall 1 --slow-start 0s --eject-after 0";

/// Who answers, request by request.
fn names(client: &mut Wire, requests: usize) -> String {
    (0..requests).map(|_| client.get("/").text().to_owned()).collect()
}

fn count(names: &str, name: char) -> usize {
    names.chars().filter(|known| *known == name).count()
}

/// Servers whose answers to `/hold` wait for a word; on arrival of such a request its server's name is told.
fn holding<const N: usize>(names: [&'static str; N]) -> ([Server; N], Receiver<&'static str>, Sender<()>) {
    let (tell, arrived) = channel();
    let (go, word) = channel();
    let word = Arc::new(Mutex::new(word));
    let servers = names.map(|name| {
        let (tell, word) = (tell.clone(), Arc::clone(&word));
        Server::start(move |visit| {
            if visit.head.target() == "/hold" {
                tell.send(name).unwrap();
                // No word: the test is over.
                if word.lock().unwrap().recv().is_err() {
                    return Then::Close;
                }
            }
            visit.reply("200 OK", name)
        })
    });
    (servers, arrived, go)
}

// ---- in turn

#[test]
fn weights_are_kept_exactly_and_spread_out() {
    let servers = ["a", "b", "c"].map(Server::named);
    let [a, b, c] = &servers;
    for (weights, longest) in [([3, 1, 0], "aaaa"), ([5, 1, 1], "aaaaa"), ([2, 2, 1], "aa")] {
        let start = Start::proxy().weighing(a, weights[0]).weighing(b, weights[1]);
        let proxy = if weights[2] > 0 { start.weighing(c, weights[2]) } else { start }.run();
        let mut clients = [proxy.client(), proxy.client()];
        let all: usize = weights.iter().map(|weight| *weight as usize).sum();
        let came: String = (0..8 * all).map(|nth| names(&mut clients[nth % 2], 1)).collect();
        for window in came.as_bytes().windows(all) {
            let window = std::str::from_utf8(window).unwrap();
            let counts = ['a', 'b', 'c'].map(|name| count(window, name) as u32);
            assert_eq!(counts, weights, "{window} of {came}");
        }
        assert!(!came.contains(longest), "{came}");
    }
}

#[test]
fn a_backup_serves_only_while_all_others_are_down() {
    let places = [Place::new(), Place::new()];
    let (mut a, mut b, c) = (Some(places[0].named("a")), Some(places[1].named("b")), Server::named("c"));
    let start = Start::proxy().at(&[&places[0], &places[1]]).arg("--backup").arg(c.address.to_string());
    let proxy = start.args(QUICK).run();
    let mut client = proxy.client();
    assert_eq!(count(&names(&mut client, 20), 'c'), 0);
    a.take();
    proxy.says("is down", 1);
    assert_eq!(names(&mut client, 10), "b".repeat(10), "one of the others is enough");
    b.take();
    proxy.says("is down", 2);
    assert_eq!(names(&mut client, 10), "c".repeat(10));
    b = Some(places[1].named("b"));
    proxy.says("is up", 1);
    assert_eq!(names(&mut client, 10), "b".repeat(10), "it is left as soon as one is back");
    a = Some(places[0].named("a"));
    proxy.says("is up", 2);
    let both = names(&mut client, 20);
    assert_eq!((count(&both, 'a'), count(&both, 'b')), (10, 10));
    drop((a, b));
}

#[test]
fn a_backup_takes_over_from_the_only_server_when_that_rests() {
    let (place, backup) = (Place::new(), Server::named("b"));
    let start = Start::proxy().at(&[&place]).arg("--backup").arg(backup.address.to_string());
    let proxy = start.args("--eject-after 3 --eject-time 5m --retries 0").run();
    let mut client = proxy.client();
    let statuses: Vec<_> = (0..10).map(|_| client.get("/").status).collect();
    assert!(statuses[3..].iter().all(|status| *status == 200), "{statuses:?}");
}

#[test]
fn a_request_that_the_only_server_fails_is_tried_on_the_backup() {
    let (place, backup) = (Place::new(), Server::named("b"));
    let start = Start::proxy().at(&[&place]).arg("--backup").arg(backup.address.to_string());
    let proxy = start.args("--eject-after 100").run();
    let mut client = proxy.client();
    assert_eq!(names(&mut client, 10), "b".repeat(10));
    let _server = place.named("a");
    assert_eq!(names(&mut client, 10), "a".repeat(10), "but only then");
}

// ---- the least busy

#[test]
fn least_passes_over_a_server_that_is_busy() {
    let (servers, arrived, go) = holding(["a", "b"]);
    let proxy = proxy(&servers.each_ref(), "--balance least");
    let mut busy = proxy.client();
    busy.send(get("/hold"));
    let (slow, quick) = if arrived.recv().unwrap() == "a" { ("a", "b") } else { ("b", "a") };
    let mut client = proxy.client();
    assert_eq!(names(&mut client, 20), quick.repeat(20));
    go.send(()).unwrap();
    assert_eq!(busy.answer().text(), slow);
    assert_eq!(count(&names(&mut client, 20), 'a'), 10, "among equals they take turns");
}

#[test]
fn least_counts_by_weight() {
    let (servers, arrived, _go) = holding(["a", "b"]);
    let proxy = Start::proxy().weighing(&servers[0], 3).weighing(&servers[1], 1).args("--balance leastconn").run();
    let mut clients = Vec::new();
    for round in 1..=3 {
        let mut came = String::new();
        for _ in 0..4 {
            let mut client = proxy.client();
            client.send(get("/hold"));
            clients.push(client);
            came += arrived.recv().unwrap();
        }
        assert_eq!(count(&came, 'a'), 3, "round {round}: {came}");
    }
}

#[test]
fn two_choices_find_out_who_is_slow() {
    let slow = Server::start(|visit| {
        thread::sleep(Duration::from_millis(300));
        visit.reply("200 OK", "s")
    });
    let quick = [Server::named("a"), Server::named("b")];
    let proxy = proxy(&[&quick[0], &slow, &quick[1]], "--balance two-choices");
    let came = names(&mut proxy.client(), 100);
    assert!(count(&came, 's') <= 2, "once it is known, it never is the better one: {came}");
    assert!(came.contains('a') && came.contains('b'), "{came}");
}

// ---- by a key

/// Who answers for each of 40 keys, which `place` puts into the target or the fields.
fn by_key(client: &mut Wire, place: fn(usize) -> (String, String)) -> Vec<String> {
    let one = |key| {
        let (target, fields) = place(key);
        ask(client, "GET", &target, &fields).text().to_owned()
    };
    (0..40).map(one).collect()
}

#[test]
fn the_same_key_finds_the_same_server_whoever_asks_whichever_proxy() {
    let servers = ["a", "b", "c"].map(Server::named);
    let [a, b, c] = &servers;
    let path = |key| (format!("/{key}?x=1"), String::new());
    let header = |key| ("/".to_owned(), format!("X-User: user{key}\r\n"));
    let cookie = |key| ("/".to_owned(), format!("Cookie: other=1; sid=s{key}\r\n"));
    for (by, place) in [("path", path as fn(usize) -> _), ("header:x-user", header), ("cookie:sid", cookie)] {
        let proxies = [[a, b, c], [c, a, b]].map(|order| proxy(&order, &format!("--balance hash --hash-by {by}")));
        let first = by_key(&mut proxies[0].client(), place);
        assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), 3, "each server has some: {first:?}");
        for proxy in &proxies {
            assert_eq!(by_key(&mut proxy.client_from("127.0.0.9"), place), first, "{by}");
        }
    }
    // The query is not part of the path, and who has no cookie goes by address.
    let proxy = proxy(&[a, b, c], "--balance hash --hash-by path");
    let mut client = proxy.client();
    assert!((0..20).all(|n| client.get(&format!("/p?{n}")).text() == client.get("/p").text()));
}

#[test]
fn the_same_client_finds_the_same_server() {
    let servers = ["a", "b", "c"].map(Server::named);
    let proxy = proxy(&servers.each_ref(), "--balance hash --workers 2");
    let mut all = String::new();
    for last in 10..40 {
        let ip = format!("127.0.0.{last}");
        let came: String = (0..3).map(|_| names(&mut proxy.client_from(&ip), 2)).collect();
        assert_eq!(came, came[..1].repeat(6), "{ip}");
        all += &came[..1];
    }
    assert!(['a', 'b', 'c'].iter().all(|name| all.contains(*name)), "{all}");
}

#[test]
fn only_the_keys_of_a_server_that_is_down_move_and_they_come_back() {
    let (place, others) = (Place::new(), [Server::named("b"), Server::named("c")]);
    let server = place.named("a");
    let start = Start::proxy().at(&[&place]).to(&others.each_ref());
    let proxy = start.args("--balance hash --hash-by path").args(QUICK).run();
    let path = |key| (format!("/{key}"), String::new());
    let mut client = proxy.client();
    let before = by_key(&mut client, path);
    drop(server);
    proxy.says("is down", 1);
    let without = by_key(&mut client, path);
    assert!(before.iter().zip(&without).all(|(was, is)| was == is || was == "a"), "{before:?} {without:?}");
    let moved: BTreeSet<_> = before.iter().zip(&without).filter(|(was, _)| *was == "a").map(|(_, is)| is).collect();
    assert_eq!(moved.len(), 2, "what it leaves is shared: {without:?}");
    let _server = place.named("a");
    proxy.says("is up", 1);
    assert_eq!(by_key(&mut client, path), before);
}

// ---- sticky cookies

/// The cookie that an answer sets, as a client sends it back.
fn cookie(answer: &Answer) -> Option<&str> {
    let set: Vec<_> = answer.head.fields.all("set-cookie").filter(|value| value.starts_with("lb=")).collect();
    assert!(set.len() <= 1, "{set:?}");
    set.first().map(|value| value.split(';').next().unwrap())
}

fn with_cookie(client: &mut Wire, cookie: &str) -> Answer {
    ask(client, "GET", "/", &format!("Cookie: a=b; {cookie}; c=d\r\n"))
}

#[test]
fn a_sticky_cookie_is_set_once_and_honoured() {
    let servers = ["a", "b", "c"].map(|name| {
        Server::start(move |visit| {
            // The proxy's cookie stands beside the server's own.
            visit.reply_with("200 OK", "Set-Cookie: own=1\r\n", name)
        })
    });
    let proxy = proxy(&servers.each_ref(), "--sticky-cookie lb --workers 2");
    for _ in 0..6 {
        let first = proxy.client().get("/");
        let own = cookie(&first).unwrap().to_owned();
        assert!(first.head.fields.all("set-cookie").any(|value| value == "own=1"));
        assert!(!own.contains(&servers[0].address.to_string()), "it tells nobody where the servers are");
        for _ in 0..4 {
            let again = with_cookie(&mut proxy.client(), &own);
            assert_eq!((again.text(), cookie(&again)), (first.text(), None));
        }
    }
}

#[test]
fn a_cookie_that_is_not_ours_is_as_none() {
    let servers = ["a", "b"].map(Server::named);
    let proxy = proxy(&servers.each_ref(), "--sticky-cookie lb");
    let mut client = proxy.client();
    let true_one = cookie(&client.get("/")).unwrap().to_owned();
    let (digits, last) = true_one.split_at(true_one.len() - 1);
    let forged = format!("{digits}{}", if last == "0" { "1" } else { "0" });
    let upper = format!("lb={}x", true_one[3..].to_uppercase());
    for wrong in [&forged, digits, &upper, "lb=", "lb=;lb=\"", "LB=a", "lb", "lb=0", &"lb=a".repeat(500)] {
        let came: Vec<_> = (0..4).map(|_| with_cookie(&mut client, wrong)).collect();
        let names: String = came.iter().map(Answer::text).collect();
        assert_eq!(count(&names, 'a'), 2, "they take turns: {names} {wrong}");
        assert!(came.iter().all(|answer| cookie(answer).is_some()), "and it is given a true one: {wrong}");
    }
}

#[test]
fn who_sticks_to_a_server_that_is_down_moves_and_is_given_another_cookie() {
    let (place, other) = (Place::new(), Server::named("b"));
    let server = place.named("a");
    let start = Start::proxy().at(&[&place]).to(&[&other]);
    let proxy = start.args("--sticky-cookie lb").args(QUICK).run();
    let mut client = proxy.client();
    let first = eventually("one of a", || Some(client.get("/")).filter(|answer| answer.text() == "a"));
    let old = cookie(&first).unwrap();
    drop(server);
    // Also before it is known: the request is tried elsewhere.
    let moved = with_cookie(&mut client, old);
    let new = cookie(&moved).unwrap();
    assert_eq!((moved.text(), new == old), ("b", false));
    assert_eq!(cookie(&with_cookie(&mut client, new)), None);
    proxy.says("is down", 1);
    assert_eq!(cookie(&with_cookie(&mut client, old)), Some(new));
    let _server = place.named("a");
    proxy.says("is up", 1);
    assert_eq!(with_cookie(&mut client, old).text(), "a", "the old one is still true");
    assert_eq!(with_cookie(&mut client, new).text(), "b");
}

#[test]
fn who_waited_and_met_another_server_keeps_its_own() {
    let (([a], a_holds, _a), ([b], b_holds, b_goes)) = (holding(["a"]), holding(["b"]));
    let proxy = proxy(&[&a, &b], "--sticky-cookie lb --server-connections 1 --queue-timeout 5m");
    let mut clients = [proxy.client(), proxy.client(), proxy.client()];
    let first = clients.iter_mut().map(|client| client.get("/")).find(|answer| answer.text() == "a").unwrap();
    let own = cookie(&first).unwrap();
    clients[0].send(get("/hold"));
    clients[1].send(get("/hold"));
    assert_eq!((a_holds.recv().unwrap(), b_holds.recv().unwrap()), ("a", "b"));
    clients[2].send(format!("GET / HTTP/1.1\r\nHost: x\r\nCookie: {own}\r\n\r\n"));
    // By now it waits: the only worker takes its clients in the order in which they spoke.
    assert_eq!(ask(&mut proxy.client(), "GET", "*", "").status, 400);
    b_goes.send(()).unwrap();
    let answer = clients[2].answer();
    assert_eq!((answer.text(), cookie(&answer)), ("b", None));
}

#[test]
fn proxies_with_the_same_key_know_each_others_cookies() {
    let (servers, folder) = (["a", "b", "c"].map(Server::named), TempDir::new().unwrap());
    let [a, b, c] = &servers;
    let keyed = |order: [&Server; 3], key: &str| -> Program {
        let path = folder.path().join(key);
        fs::write(&path, format!("{key}, a secret of some length\n")).unwrap();
        Start::proxy().to(&order).args("--sticky-cookie lb").arg("--sticky-key").arg(path).run()
    };
    let (one, two, other) = (keyed([a, b, c], "key"), keyed([b, c, a], "key"), keyed([a, b, c], "another"));
    for _ in 0..3 {
        let first = one.client().get("/");
        let own = cookie(&first).unwrap();
        for _ in 0..3 {
            let again = with_cookie(&mut two.client(), own);
            assert_eq!((again.text(), cookie(&again)), (first.text(), None));
        }
        assert!((0..3).all(|_| cookie(&with_cookie(&mut other.client(), own)).is_some()), "another key");
    }
}

// ---- slow start

#[test]
fn who_comes_back_begins_with_a_small_share() {
    let (place, other) = (Place::new(), Server::named("b"));
    let check = "--health-check tcp --health-interval 100ms --health-rise 1 --slow-start 1h";
    let proxy = Start::proxy().at(&[&place]).to(&[&other]).args(check).run();
    proxy.says("is down", 1);
    let mut client = proxy.client();
    assert_eq!(names(&mut client, 10), "b".repeat(10));
    let _server = place.named("a");
    proxy.says("is up", 1);
    let came = names(&mut client, 100);
    assert!((5..=15).contains(&count(&came, 'a')), "{came}");
}

#[test]
fn and_grows_to_its_full_share() {
    let (place, other) = (Place::new(), Server::named("b"));
    let check = "--health-check tcp --health-interval 100ms --health-rise 1 --slow-start 300ms";
    let proxy = Start::proxy().at(&[&place]).to(&[&other]).args(check).run();
    proxy.says("is down", 1);
    let _server = place.named("a");
    let mut client = proxy.client();
    eventually("they take turns", || (count(&names(&mut client, 100), 'a') == 50).then_some(()));
    assert_eq!(count(&names(&mut client, 100), 'a'), 50, "and from now on always");
}
