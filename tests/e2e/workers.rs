//! Several workers: they share clients, servers, limits and cores, and end without losing anybody.

use crate::house::{Ended, Program, Signal, Start, eventually, proxy};
use crate::server::Server;
use crate::wire::{Wire, get};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::fs;
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
    // In the middle of a request nobody has to make room.
    clients.iter_mut().for_each(|client| client.send(format!("{}GET / HTTP/1.1\r\n", get("/"))));
    assert!(clients.iter_mut().all(|client| client.answer().status == 200));
    // Wherever one place becomes free, whoever waits gets it.
    for _ in 0..8 {
        let mut last = proxy.client();
        last.send(format!("{}GET / HTTP/1.1\r\n", get("/")));
        drop(clients.remove(0));
        assert_eq!(last.answer().status, 200);
        clients.push(last);
    }
    clients.iter_mut().for_each(|client| client.send("Host: a\r\n\r\n"));
    assert!(clients.iter_mut().all(|client| client.answer().status == 200));
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

// ---- cores

fn cores(set: &CpuSet) -> Vec<usize> {
    (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect()
}

/// The cores on which each worker of a program may run.
fn cores_of_workers(program: &Program) -> Vec<Vec<usize>> {
    let tasks = fs::read_dir(format!("/proc/{}/task", program.pid())).unwrap().map(|task| task.unwrap());
    let is_worker = |name: &str| name.trim().strip_prefix("pilb-").is_some_and(|rest| rest.parse::<usize>().is_ok());
    let mut workers: Vec<_> =
        tasks.filter(|task| is_worker(&fs::read_to_string(task.path().join("comm")).unwrap())).collect();
    workers.sort_by_key(|task| fs::read_to_string(task.path().join("comm")).unwrap());
    let allowed = |task: &fs::DirEntry| {
        let thread = task.file_name().to_str().unwrap().parse().unwrap();
        cores(&sched_getaffinity(rustix::process::Pid::from_raw(thread)).unwrap())
    };
    workers.iter().map(allowed).collect()
}

#[test]
fn each_worker_has_a_core_of_its_own_if_there_are_as_many() {
    let server = Server::named("a");
    let allowed = cores(&sched_getaffinity(None).unwrap());
    let mut expected: Vec<Vec<usize>> = allowed.iter().map(|core| vec![*core]).collect();
    let proxy = proxy(&[&server], &format!("--workers {}", allowed.len().min(256)));
    eventually("each is on its core", || {
        let mut workers = cores_of_workers(&proxy);
        workers.sort();
        expected.sort();
        (workers == expected || allowed.len() > 256).then_some(())
    });
    assert_eq!(proxy.client().get("/").status, 200);
}

#[test]
fn nobody_is_kept_on_a_core_with_more_workers_than_cores_or_one() {
    let server = Server::named("a");
    let allowed = sched_getaffinity(None).unwrap();
    let proxy = proxy(&[&server], &format!("--workers {} -v", cores(&allowed).len().min(255) + 1));
    assert_eq!(proxy.client().get("/").status, 200);
    let workers = cores_of_workers(&proxy);
    assert!(workers.len() > 1 && workers.iter().all(|worker| *worker == cores(&allowed)), "{workers:?}");
    // A program started by a thread that may use one core only may use no other, and has one worker.
    let one = cores(&allowed)[0];
    let single = thread::scope(|scope| {
        let start = || {
            let mut only = CpuSet::new();
            only.set(one);
            sched_setaffinity(None, &only).unwrap();
            Start::proxy().to(&[&server]).args("--workers auto -v").run()
        };
        scope.spawn(start).join().unwrap()
    });
    assert_eq!(single.client().get("/").status, 200);
    assert_eq!(cores_of_workers(&single), [[one]]);
}
