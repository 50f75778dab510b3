//! Many workers at once: no limit is passed at any moment, nothing is lost, and everybody gets what is due.

use super::client;
use crate::base::time::SECOND;
use crate::proxy::limits::{Connections, Entry, Rate, Rates, Ticket};
use std::sync::Barrier;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicU64, AtomicUsize};
#[cfg(test)]
use std::thread;

const WORKERS: u64 = 4;

#[test]
fn never_more_connections_than_the_limit_are_open_at_once() {
    const MOST: u32 = 3;
    const CLIENTS: u32 = 6;
    let table = Connections::new(8, 1);
    let open: Vec<AtomicUsize> = (0..CLIENTS).map(|_| AtomicUsize::new(0)).collect();
    let entered = AtomicUsize::new(0);
    thread::scope(|scope| {
        for worker in 0..WORKERS {
            let (table, open, entered) = (&table, &open, &entered);
            scope.spawn(move || {
                let mut held: Vec<(u32, Ticket)> = Vec::new();
                let mut dice = worker + 1;
                for _ in 0..40_000 {
                    dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let n = (dice >> 33) as u32 % CLIENTS;
                    if held.len() > 6 || (dice >> 60 < 8 && !held.is_empty()) {
                        let (n, mut ticket) = held.swap_remove((dice >> 40) as usize % held.len());
                        open[n as usize].fetch_sub(1, SeqCst);
                        table.leave(&mut ticket);
                    } else if let Entry::Entered(ticket) = table.enter(client(n), MOST) {
                        // Of six clients each has a place, unless one that is just begun has two.
                        let counts = ticket.counts();
                        let now = open[n as usize].fetch_add(usize::from(counts), SeqCst) + usize::from(counts);
                        assert!(now <= MOST as usize, "{now} of client {n}");
                        entered.fetch_add(1, SeqCst);
                        if counts {
                            held.push((n, ticket));
                        }
                    }
                }
                held.iter_mut().for_each(|(n, ticket)| {
                    open[*n as usize].fetch_sub(1, SeqCst);
                    table.leave(ticket);
                });
            });
        }
    });
    assert!(entered.load(SeqCst) > 1000);
    assert!((0..CLIENTS).all(|n| table.of(client(n)) == 0) && table.clients() == 0);
}

#[test]
fn a_client_that_all_workers_meet_at_the_same_moment_has_one_limit() {
    let table = Connections::new(64, 1);
    let barrier = Barrier::new(WORKERS as usize);
    let admitted: Vec<AtomicU64> = (0..3000).map(|_| AtomicU64::new(0)).collect();
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                for (n, admitted) in admitted.iter().enumerate() {
                    barrier.wait();
                    let entry = table.enter(client(n as u32), 2);
                    admitted.fetch_add(u64::from(entry != Entry::Refused), SeqCst);
                    barrier.wait();
                    if let Entry::Entered(mut ticket) = entry {
                        table.leave(&mut ticket);
                    }
                }
            });
        }
    });
    assert!(admitted.iter().all(|admitted| admitted.load(SeqCst) <= 2));
    assert_eq!(table.clients(), 0);
}

#[test]
fn no_rate_is_passed_but_by_one_per_worker() {
    let (table, rate) = (Rates::new(8, 1), Rate::new(1000, SECOND, 10));
    let barrier = Barrier::new(WORKERS as usize);
    let rounds = 500u32;
    let admitted: Vec<AtomicU64> = (0..rounds).map(|_| AtomicU64::new(0)).collect();
    thread::scope(|scope| {
        for worker in 0..WORKERS {
            let (table, barrier, admitted) = (&table, &barrier, &admitted);
            scope.spawn(move || {
                for (n, admitted) in admitted.iter().enumerate() {
                    barrier.wait();
                    // 50 ms of this client, each worker with a clock of its own; the clients of earlier rounds make room.
                    let start = SECOND * (n as u64 + 1) + worker * 7;
                    for step in 0..100 {
                        let passed = table.ask(client(n as u32), start + step * 500, rate).is_ok();
                        admitted.fetch_add(u64::from(passed), SeqCst);
                    }
                }
            });
        }
    });
    for admitted in &admitted {
        let (admitted, due) = (admitted.load(SeqCst), 10 + (99 * 500 + WORKERS * 7) / 1000);
        assert!((due - 2..=due + WORKERS - 1).contains(&admitted), "{admitted} of {due}");
    }
}
