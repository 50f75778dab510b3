//! What the methods do in worlds where something is wrong.

use super::super::{Asked, Choice, Load, Method};
use super::simulator::{Server, figures, run, share};
use crate::base::Micros;
use crate::base::time::SECOND;
use std::collections::VecDeque;
use std::fmt::Write;

const METHODS: [Method; 4] = [Method::RoundRobin, Method::Least, Method::TwoChoices, Method::Hash];
const LOADS: [u32; 4] = [10, 50, 80, 95];
const MILLISECOND: Micros = 1000;
const SLOW: usize = 4;

/// Five servers with eight places, of which the last one is ten times slower.
fn one_is_slow() -> Vec<Server> {
    let mut servers = vec![Server::steady(8, 10 * MILLISECOND); 5];
    servers[SLOW] = Server::steady(8, 100 * MILLISECOND);
    servers
}

/// What `method` does there with this share of what the servers can do, in percent.
fn measured(method: Method, workers: usize, load: u32) -> (Micros, Micros, Micros, f64) {
    let servers = one_is_slow();
    let capacity: f64 = servers.iter().map(Server::capacity).sum();
    figures(&run(method, &servers, workers, capacity * f64::from(load) / 100.0, 30 * SECOND, 1), SLOW)
}

/// The table of the module's description, and the answer to whether it is in order.
#[test]
fn one_slow_server_is_felt_as_the_table_says() {
    let mut table = String::new();
    let ms = |time: Micros| {
        if time < 100 * MILLISECOND { format!("{:.1}", time as f64 / 1e3) } else { (time / 1000).to_string() }
    };
    for load in LOADS {
        let all = METHODS.map(|method| measured(method, 1, load));
        for (method, (median, p99, mean, share)) in METHODS.iter().zip(all) {
            let name = format!("{method:?}");
            let (median, p99, mean) = (ms(median), ms(p99), ms(mean));
            writeln!(
                table,
                "//! | {load:>3} % | {name:10} | {median:>7} | {p99:>7} | {mean:>7} | {:>13.1} % |",
                share * 100.0
            )
            .unwrap();
        }
        let [rotation, least, two, _] = all.map(|(_, p99, ..)| p99);
        assert!(least * 3 < rotation * 2 && two * 3 < rotation * 2, "at {load} %:\n{table}");
        assert!(load == 10 || (least * 10 < rotation && two * 10 < rotation), "at {load} %:\n{table}");
    }
    let kept: String = include_str!("../mod.rs")
        .lines()
        .filter(|l| l.starts_with("//! | ") && l.contains('%'))
        .map(|l| l.to_owned() + "\n")
        .collect();
    assert!(kept == table, "the table in choice/mod.rs should be:\n{table}");
}

#[test]
fn workers_that_know_nothing_of_each_other_avoid_a_slow_server_too() {
    for load in [10, 50] {
        let [rotation, least, two, hash] = METHODS.map(|method| measured(method, 8, load).1);
        assert!(least < rotation && two * 3 < rotation, "at {load} %: {rotation}, {least}, {two}, {hash}");
        assert!(
            load == 10 || (least * 10 < rotation && two * 20 < rotation),
            "at {load} %: {rotation}, {least}, {two}, {hash}"
        );
    }
}

#[test]
fn a_server_that_was_slow_for_a_while_gets_its_share_back() {
    let mut servers = vec![Server::steady(8, 10 * MILLISECOND); 5];
    servers[SLOW].service =
        vec![(0, 10 * MILLISECOND), (20 * SECOND, 100 * MILLISECOND), (40 * SECOND, 10 * MILLISECOND)];
    for method in [Method::Least, Method::TwoChoices] {
        let answers = run(method, &servers, 1, 1600.0, 100 * SECOND, 2);
        let part = |from: u64, to: u64| share(&answers, SLOW, from * SECOND..to * SECOND);
        let (before, during, after) = (part(10, 20), part(25, 40), part(80, 100));
        assert!((0.17..0.23).contains(&before), "{method:?}: {before} before");
        assert!(during < 0.10, "{method:?}: {during} while it was slow");
        assert!((0.17..0.23).contains(&after), "{method:?}: {after} after");
    }
}

/// With many requests in flight, the oldest of which is answered when the next one comes.
fn shares_under_load(method: Method, weights: &[u32]) -> Vec<f64> {
    const PICKS: usize = 50_000;
    let mut loads: Vec<Load> = weights.iter().map(|weight| Load::new(0, *weight)).collect();
    let (mut choice, mut in_flight, mut counts) =
        (Choice::new(method, weights.len(), 0, 3), VecDeque::new(), vec![0; weights.len()]);
    for load in &mut loads {
        load.observe(1000, 0);
    }
    for _ in 0..PICKS {
        let chosen = usize::from(choice.pick(&loads, false, &Asked::default()).unwrap());
        loads[chosen].in_flight += 1;
        counts[chosen] += 1;
        in_flight.push_back(chosen);
        if in_flight.len() > 700 {
            loads[in_flight.pop_front().unwrap()].in_flight -= 1;
        }
    }
    counts.into_iter().map(|count| f64::from(count) / PICKS as f64).collect()
}

#[test]
fn busy_servers_share_by_weight() {
    for method in [Method::Least, Method::TwoChoices] {
        for weights in [&[100, 100, 100][..], &[300, 200, 100, 100], &[500, 100]] {
            let total: u32 = weights.iter().sum();
            for (share, weight) in shares_under_load(method, weights).into_iter().zip(weights) {
                let wanted = f64::from(*weight) / f64::from(total);
                assert!((share - wanted).abs() < 0.02, "{method:?} {weights:?}: {share} of {wanted}");
            }
        }
    }
}

#[test]
fn idle_equals_are_taken_in_turn_by_rotation_and_least() {
    let loads = [Load::new(1, 100); 3];
    for method in [Method::RoundRobin, Method::Least] {
        for uniform in [true, false] {
            let mut choice = Choice::new(method, 3, 4, 0);
            let order: Vec<_> = (0..6).filter_map(|_| choice.pick(&loads, uniform, &Asked::default())).collect();
            assert_eq!(order, [1, 2, 0, 1, 2, 0], "{method:?}");
        }
    }
}
