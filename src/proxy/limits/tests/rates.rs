//! The table of rates, beside the algorithm on a map.

use super::client;
use crate::base::Micros;
use crate::base::time::SECOND;
use crate::proxy::limits::{Rate, Rates};
use proptest::prelude::*;
use std::collections::HashMap;

#[test]
fn a_burst_passes_at_once_and_then_one_per_interval() {
    let (table, rate) = (Rates::new(1000, 1), Rate::new(10, SECOND, 5));
    let admitted = |now, asked| (0..asked).filter(|_| table.ask(client(1), now, rate).is_ok()).count();
    assert_eq!(admitted(1_000, 100), 5);
    assert_eq!(table.ask(client(1), 1_000, rate), Err(100_000));
    assert_eq!(table.ask(client(1), 100_999, rate), Err(1));
    assert_eq!(admitted(101_000, 100), 1);
    assert_eq!(admitted(401_000, 100), 3);
    assert_eq!(admitted(99 * SECOND, 100), 5);
    assert_eq!(table.ask(client(2), 99 * SECOND, rate), Ok(()));
}

#[test]
fn who_comes_when_it_was_told_to_is_admitted() {
    for (requests, period, burst) in [(1, SECOND, 1), (3, SECOND, 1), (7, 60 * SECOND, 20), (1_000_000, SECOND, 1)] {
        let (table, rate) = (Rates::new(8, 1), Rate::new(requests, period, burst));
        let mut now = 5;
        for _ in 0..200 {
            if let Err(wait) = table.ask(client(1), now, rate) {
                assert!(wait > 0 && wait <= rate.interval());
                assert!(wait == 1 || table.ask(client(1), now + wait - 1, rate).is_err());
                now += wait;
                assert_eq!(table.ask(client(1), now, rate), Ok(()));
            }
        }
        assert!(now >= 5 + (200 - u64::from(burst)) / 2 * rate.interval());
    }
}

#[test]
fn extreme_rates_are_cut_to_what_can_be_told() {
    for (rate, wait) in [
        (Rate::new(0, u64::MAX, u32::MAX), 1 << 40),
        (Rate::new(1, u64::MAX, 1), 1 << 40),
        (Rate::new(u32::MAX, 0, 0), 1),
    ] {
        let table = Rates::new(8, 1);
        assert_eq!((table.ask(client(1), u64::MAX, rate), table.ask(client(1), u64::MAX, rate)), (Ok(()), Err(wait)));
    }
    let (table, rate) = (Rates::new(8, 1), Rate::new(1, SECOND, u32::MAX));
    assert!((0..1000).all(|_| table.ask(client(1), 0, rate).is_ok()));
    assert_eq!(Rate::new(3, SECOND, 1).interval(), 333_334, "rounded so that never more than the rate pass");
}

#[test]
fn times_go_round_after_fifty_days_and_nobody_notices() {
    let (table, rate) = (Rates::new(8, 1), Rate::new(1, SECOND, 2));
    let turn: Micros = 1 << 42;
    for (now, admitted) in [(turn - 500_000, 2), (turn, 0), (turn + 500_000, 1), (turn * 3 / 2, 2), (turn * 2 - 1, 2)] {
        let passed = (0..9).filter(|_| table.ask(client(1), now, rate).is_ok()).count();
        assert_eq!(passed, admitted, "at {now}");
    }
}

#[test]
fn the_most_demanding_are_forgotten_last() {
    let (table, rate) = (Rates::new(8, 1), Rate::new(1, SECOND, 100));
    assert_eq!(table.places(), 8);
    while table.ask(client(0), 0, rate).is_ok() {}
    // Far more newcomers than places, each with one request.
    for n in 1..1000 {
        assert_eq!(table.ask(client(n), u64::from(n), rate), Ok(()));
    }
    assert!(table.ask(client(0), 1000, rate).is_err());
}

#[test]
fn another_rate_holds_at_once() {
    let (table, slow) = (Rates::new(8, 1), Rate::new(1, 3600 * SECOND, 100));
    while table.ask(client(0), 0, slow).is_ok() {}
    let fast = Rate::new(10, SECOND, 1);
    assert_eq!(table.ask(client(0), 1, fast), Ok(()), "a debt of hours means nothing at this rate");
    assert_eq!(table.ask(client(0), 1, fast), Err(100_000));
}

proptest! {
    #[test]
    fn the_table_admits_as_the_algorithm_does(
        requests in 1..50u32,
        burst in 1..10u32,
        steps in proptest::collection::vec((0..6u32, 0..300_000u64), 0..300),
    ) {
        // Six clients always have a place.
        let (table, rate) = (Rates::new(8, 3), Rate::new(requests, SECOND, burst));
        let tolerance = (u64::from(burst) - 1) * rate.interval();
        let (mut model, mut admitted): (HashMap<u32, Micros>, HashMap<u32, u64>) = Default::default();
        let mut now = 1_000_000;
        for (n, later) in steps {
            now += later / 4;
            let time = model.get(&n).copied().unwrap_or(0).max(now);
            let expected = if time - now > tolerance { Err(time - now - tolerance) } else { Ok(()) };
            prop_assert_eq!(table.ask(client(n), now, rate), expected);
            if expected.is_ok() {
                model.insert(n, time + rate.interval());
                *admitted.entry(n).or_default() += 1;
            }
        }
        let most = u64::from(burst) + (now - 1_000_000) / rate.interval();
        prop_assert!(admitted.values().all(|admitted| *admitted <= most));
    }

    #[test]
    fn clocks_that_differ_admit_no_more(
        moments in proptest::collection::vec(0..5 * SECOND, 1..200),
        requests in 1..200u32,
        burst in 1..10u32,
    ) {
        let (table, rate) = (Rates::new(8, 3), Rate::new(requests, SECOND, burst));
        let admitted = moments.iter().filter(|now| table.ask(client(1), 9 * SECOND + **now, rate).is_ok()).count();
        let elapsed = moments.iter().max().unwrap() - moments.iter().min().unwrap();
        prop_assert!(admitted as u64 <= u64::from(burst) + elapsed / rate.interval());
    }
}
