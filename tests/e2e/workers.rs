//! Several workers: they share clients, servers and limits, and end without losing anybody.

use crate::house::{Ended, Signal, Start, proxy};
use crate::server::Server;
use crate::wire::{Wire, get};
use std::thread;
use tempfile::TempDir;

/// On a busy machine it takes a while until it is a client's turn.
const PATIENT: &str = "--client-head-timeout 5m";

/// How many clients each worker has served, as it says at its end: served, handed over, taken in.
fn served(ended: &Ended) -> Vec<[usize; 3]> {
    let numbers = |line: &String| {
        let told = line.split_once(": served ")?.1;
        let numbers: Vec<usize> = told.split(' ').filter_map(|word| word.parse().ok()).collect();
        Some(<[usize; 3]>::try_from(numbers).unwrap_or_else(|_| panic!("{line}")))
    };
    ended.stderr.iter().filter_map(numbers).collect()
}

/// All clients of this program are there at its end: has no worker more than 1.3 times the mean?
fn check_shares(clients: usize, ended: &Ended) {
    let shares = served(ended);
    assert_eq!(shares.len(), 4, "{ended:?}");
    assert_eq!(shares.iter().map(|share| share[0]).sum::<usize>(), clients, "{shares:?}");
    let most = shares.iter().map(|share| share[0]).max().unwrap();
    assert!(4 * 10 * most <= 13 * clients, "{clients} clients: {shares:?}");
    let count = |index: usize| shares.iter().map(|share| share[index]).sum::<usize>();
    assert_eq!(count(1), count(2), "who is handed over is taken in: {shares:?}");
}

#[test]
fn four_workers_have_about_as_many_clients_each() {
    let server = Server::named("a");
    for clients in [20, 100, 400] {
        let mut proxy = proxy(&[&server], &format!("--workers 4 -v {PATIENT}"));
        let mut all: Vec<_> = (0..clients).map(|_| proxy.client()).collect();
        all.iter_mut().for_each(|client| client.send(get("/")));
        assert!(all.iter_mut().all(|client| client.answer().status == 200));
        // And on each of these connections it goes on.
        assert!(all.iter_mut().all(|client| client.get("/").status == 200));
        let ended = proxy.stop();
        check_shares(clients, &ended);
        assert_eq!(ended.log_totals(), (2 * clients as u64, 0));
    }
}

#[test]
fn the_clients_of_a_unix_socket_are_shared_as_well() {
    let (server, folder) = (Server::named("a"), TempDir::new().unwrap());
    let listen = format!("unix:{}", folder.path().join("proxy").display());
    let start = Start::proxy().to(&[&server]).args("--workers 4 -v").args(PATIENT);
    let mut proxy = start.arg("--listen").arg(listen).run();
    let mut clients: Vec<_> = (0..40).map(|_| proxy.client()).collect();
    assert!(clients.iter_mut().all(|client| client.get("/").status == 200));
    let ended = proxy.stop();
    check_shares(40, &ended);
    assert!(served(&ended).iter().map(|[_, handed_over, _]| handed_over).sum::<usize>() >= 27, "{ended:?}");
}

#[test]
fn every_place_is_used_wherever_the_clients_come_in() {
    let server = Server::named("a");
    let proxy = proxy(&[&server], &format!("--workers 4 --max-connections 40 {PATIENT}"));
    let mut clients: Vec<_> = (0..40).map(|_| proxy.client()).collect();
    assert!(clients.iter_mut().all(|client| client.get("/").status == 200));
    // Wherever one place becomes free, whoever waits gets it.
    for _ in 0..8 {
        let mut last = proxy.client();
        last.send(get("/"));
        drop(clients.remove(0));
        assert_eq!(last.answer().status, 200);
        clients.push(last);
    }
    assert!(clients.iter_mut().all(|client| client.get("/").status == 200));
}

#[test]
fn every_server_gets_its_share_from_all_workers() {
    const CLIENTS: usize = 24;
    const EACH: usize = 125;
    let servers = ["a", "b", "c"].map(Server::named);
    let proxy = proxy(&servers.each_ref(), &format!("--workers 4 {PATIENT}"));
    let client = || {
        let mut client = proxy.client();
        (0..EACH).for_each(|_| assert_eq!(client.get("/").status, 200));
    };
    thread::scope(|scope| (0..CLIENTS).for_each(|_| drop(scope.spawn(client))));
    let counts: Vec<_> = servers.iter().map(|server| server.heads().len()).collect();
    // Each worker's own rotation is exact: that is 4 of 1000 at the most.
    let (share, one_percent) = (CLIENTS * EACH / 3, CLIENTS * EACH / 300);
    assert!(counts.iter().all(|count| count.abs_diff(share) <= one_percent), "{counts:?}");
}

#[test]
fn one_worker_alternates_strictly_over_all_its_clients() {
    let servers = ["a", "b", "c"].map(Server::named);
    let proxy = proxy(&servers.each_ref(), "");
    let mut clients: Vec<_> = (0..5).map(|_| proxy.client()).collect();
    let names = (0..30).map(|nth| clients[nth % 5].get("/").text().to_owned()).collect::<String>();
    assert_eq!(names, "abc".repeat(10));
}

#[test]
fn who_comes_while_the_workers_are_told_to_end_is_served() {
    const CLIENTS: usize = 200;
    for _ in 0..5 {
        let server = Server::named("a");
        let mut proxy = proxy(&[&server], &format!("--workers 4 -v {PATIENT}"));
        // They find the clients and the signal at once: some hand over while others drain.
        let mut clients = proxy.while_stopped(|| {
            let mut clients: Vec<_> = (0..CLIENTS).map(|_| proxy.client()).collect();
            clients.iter_mut().for_each(|client| client.send(get("/")));
            proxy.signal(Signal::TERM);
            clients
        });
        assert!(clients.iter_mut().all(|client| client.answer().status == 200));
        clients.iter_mut().for_each(Wire::expect_end);
        drop(clients);
        let ended = proxy.wait();
        assert_eq!((ended.code(), ended.log_totals()), (0, (CLIENTS as u64, 0)));
        assert_eq!(served(&ended).iter().map(|[served, ..]| served).sum::<usize>(), CLIENTS, "{ended:?}");
    }
}
