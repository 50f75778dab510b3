//! The rules of health, each by its name, and what must hold whatever happens.

use super::*;
use proptest::prelude::*;

const RULES: Rules =
    Rules { failures: 5, eject: 10 * SECOND, eject_most: 300 * SECOND, rise: 2, fall: 3, slow_start: 0 };
const SLOW: Rules = Rules { slow_start: 20 * SECOND, ..RULES };
const S: Micros = SECOND;

/// Fails `count` times in a row at `now`.
fn fail(health: &mut Health, count: u32, now: Micros) -> Option<Micros> {
    (0..count).fold(None, |_, _| match health.failed(Fault::Answer, now, now, &RULES, |_| true) {
        Some(Change::Ejected { until, .. }) => Some(until),
        _ => None,
    })
}

fn ejected(until: Micros) -> Option<Micros> {
    Some(until)
}

/// A server that a failed probe took down at `now`.
fn down(now: Micros) -> Health {
    let mut health = Health::default();
    assert_eq!(health.probed(false, Kind::Tcp, now, &RULES), Some(Change::Down));
    health
}

#[test]
fn a_server_is_up_until_proven_otherwise() {
    let health = Health::default();
    assert_eq!((health.share(0, &SLOW), health.state(0), health.next(0, &SLOW)), (100, State::Up, None));
}

#[test]
fn five_failures_in_a_row_eject_for_ten_seconds() {
    let mut health = Health::default();
    assert_eq!(fail(&mut health, 4, S), None);
    assert_eq!(health.share(S, &RULES), 100);
    assert_eq!(fail(&mut health, 1, S), ejected(11 * S));
    assert_eq!((health.share(11 * S - 1, &RULES), health.next(2 * S, &RULES)), (0, Some(11 * S)));
    assert_eq!((health.share(11 * S, &RULES), health.state(11 * S)), (100, State::Up));
    assert_eq!((health.lapse(11 * S - 1), health.lapse(11 * S)), (None, Some(Change::Up)));
    assert_eq!(health.lapse(11 * S), None);
}

#[test]
fn one_success_for_anybody_ends_a_row() {
    let mut health = Health::default();
    for round in 0..100 {
        assert_eq!(fail(&mut health, 4, round), None);
        health.succeeded(round, round);
    }
    assert_eq!(health.state(100), State::Up);
}

#[test]
fn a_probe_that_succeeds_does_not_end_a_row() {
    let mut health = Health::default();
    fail(&mut health, 4, S);
    assert_eq!(health.probed(true, Kind::Http, S, &RULES), None);
    assert_eq!(fail(&mut health, 1, S), ejected(11 * S));
}

#[test]
fn no_failures_eject_where_ejection_is_off() {
    let mut health = Health::default();
    let off = Rules { failures: 0, ..RULES };
    assert!((0..100).all(|now| health.failed(Fault::Connect, now, now, &off, |_| true).is_none()));
}

#[test]
fn at_most_half_of_the_pool_is_ejected_and_never_the_last() {
    for (total, most) in [(0, 0), (1, 0), (2, 1), (3, 1), (4, 2), (5, 2), (10, 5)] {
        let ejected = (0..total).find(|ejected| !may_eject(total, *ejected, total - 1 - ejected, false)).unwrap_or(0);
        assert_eq!(ejected, most, "of {total}");
    }
    assert!(!may_eject(10, 0, 0, false), "nine are down");
    assert!(may_eject(10, 0, 1, false));
}

#[test]
fn a_server_that_may_not_be_ejected_stays_and_goes_with_the_next_failure_once_it_may() {
    let mut health = Health::default();
    assert!((0..9).all(|now| health.failed(Fault::Answer, now, now, &RULES, |_| false).is_none()));
    assert_eq!(health.share(9, &RULES), 100);
    assert_eq!(fail(&mut health, 1, S), ejected(11 * S));
}

#[test]
fn on_trial_the_next_failure_ejects_at_once_and_for_longer() {
    let mut health = Health::default();
    fail(&mut health, 5, 0);
    assert_eq!(fail(&mut health, 1, 10 * S), ejected(30 * S));
    assert_eq!(fail(&mut health, 1, 30 * S), ejected(60 * S));
}

#[test]
fn a_success_on_trial_makes_a_server_whole() {
    let mut health = Health::default();
    fail(&mut health, 5, 0);
    health.succeeded(10 * S, 10 * S);
    assert_eq!(fail(&mut health, 4, 10 * S), None);
    assert_eq!(fail(&mut health, 1, 10 * S), ejected(30 * S), "but it is the second ejection lately");
}

#[test]
fn each_ejection_time_in_health_forgives_one_ejection() {
    let mut health = Health::default();
    fail(&mut health, 5, 0);
    fail(&mut health, 1, 10 * S);
    fail(&mut health, 1, 30 * S);
    health.succeeded(60 * S, 60 * S);
    assert_eq!(fail(&mut health.clone(), 5, 79 * S), ejected(79 * S + 30 * S), "one of three is forgiven");
    assert_eq!(fail(&mut health.clone(), 5, 80 * S), ejected(80 * S + 20 * S), "two of three");
    assert_eq!(fail(&mut health, 5, 1000 * S), ejected(1010 * S), "all, and not more than all");
}

#[test]
fn the_time_before_a_server_went_down_forgives_and_the_time_it_was_down_does_not() {
    for (healthy, expected) in [(30, 10), (9, 20)] {
        let mut health = Health::default();
        health.probed(true, Kind::Tcp, 0, &RULES);
        fail(&mut health, 5, 0);
        let went = (10 + healthy) * S;
        (0..3).for_each(|_| assert_ne!(health.probed(false, Kind::Tcp, went, &RULES), Some(Change::Up)));
        assert_eq!(health.state(went), State::Down);
        let back = went + 500 * S;
        (0..2).for_each(|_| assert_ne!(health.probed(true, Kind::Tcp, back, &RULES), Some(Change::Down)));
        assert_eq!(fail(&mut health, 5, back), ejected(back + expected * S), "after {healthy} s in health");
    }
}

#[test]
fn no_ejection_is_longer_than_five_minutes_and_a_long_past_does_not_grow() {
    let (mut health, mut now) = (Health::default(), 0);
    for _ in 0..100 {
        fail(&mut health, 5, now);
        let State::Ejected { until } = health.state(now) else { panic!("not ejected") };
        assert!(until - now <= 300 * S);
        now = until;
    }
    health.succeeded(now, now);
    assert_eq!(fail(&mut health, 5, now + 290 * S), ejected(now + 290 * S + 20 * S));
}

#[test]
fn what_began_before_an_ejection_tells_nothing_after_it() {
    let mut health = Health::default();
    fail(&mut health, 5, S);
    for now in [2 * S, 12 * S] {
        assert_eq!(
            health.failed(Fault::Answer, S, now, &RULES, |_| true),
            None,
            "it failed at {now}, but began before"
        );
        health.succeeded(S, now);
    }
    assert_eq!(fail(&mut health, 1, 12 * S), ejected(32 * S), "the late success has not ended the trial");
}

#[test]
fn the_very_first_probe_is_decisive_if_it_fails() {
    let mut health = Health::default();
    assert_eq!(health.probed(false, Kind::Tcp, 0, &RULES), Some(Change::Down));
    assert_eq!((health.share(1, &RULES), health.state(1), health.next(1, &RULES)), (0, State::Down, None));
}

#[test]
fn three_failed_probes_take_a_server_down_and_two_good_ones_bring_it_back() {
    let mut health = Health::default();
    let mut probe = |well| (health.probed(well, Kind::Tcp, S, &RULES), health.pace());
    assert_eq!(probe(true), (None, Pace::Usual));
    assert_eq!(probe(false), (None, Pace::Soon));
    assert_eq!(probe(false), (None, Pace::Soon));
    assert_eq!(probe(true), (None, Pace::Usual), "a success begins the count anew");
    assert_eq!(probe(false), (None, Pace::Soon));
    assert_eq!(probe(false), (None, Pace::Soon));
    assert_eq!(probe(false), (Some(Change::Down), Pace::Usual));
    assert_eq!(probe(true), (None, Pace::Soon));
    assert_eq!(probe(false), (None, Pace::Usual), "and so does a failure");
    assert_eq!(probe(true), (None, Pace::Soon));
    assert_eq!(probe(true), (Some(Change::Up), Pace::Usual));
}

#[test]
fn exchanges_say_nothing_about_a_server_that_is_down() {
    let mut health = down(S);
    assert_eq!(fail(&mut health, 9, 2 * S), None);
    health.succeeded(2 * S, 2 * S);
    assert_eq!((health.state(1000 * S), health.pardon(3 * S)), (State::Down, None));
}

#[test]
fn a_server_back_from_being_down_is_whole() {
    let mut health = down(0);
    health.probed(true, Kind::Tcp, S, &RULES);
    assert_eq!(health.probed(true, Kind::Tcp, S, &RULES), Some(Change::Up));
    assert_eq!(fail(&mut health, 4, 2 * S), None);
}

#[test]
fn an_http_probe_that_succeeds_ends_an_ejection_and_a_trial_follows() {
    let mut health = Health::default();
    fail(&mut health, 5, S);
    assert_eq!(health.probed(true, Kind::Http, 3 * S, &RULES), Some(Change::Up));
    assert_eq!(health.share(3 * S, &RULES), 100);
    assert_eq!(fail(&mut health, 1, 3 * S), ejected(23 * S));
}

#[test]
fn a_tcp_probe_that_succeeds_ends_only_an_ejection_for_want_of_connections() {
    let mut refused = Health::default();
    (0..5)
        .for_each(|_| assert!(refused.failed(Fault::Connect, S, S, &RULES, |_| true).is_none_or(|c| c != Change::Up)));
    assert_eq!(refused.probed(true, Kind::Tcp, 2 * S, &RULES), Some(Change::Up));
    let mut mixed = Health::default();
    for number in 0..5 {
        let fault = if number == 2 { Fault::Answer } else { Fault::Connect };
        mixed.failed(fault, S, S, &RULES, |_| true);
    }
    assert_eq!(mixed.probed(true, Kind::Tcp, 2 * S, &RULES), None);
    assert_eq!(mixed.state(2 * S), State::Ejected { until: 11 * S });
}

#[test]
fn an_ejected_server_whose_probes_fail_is_down_and_does_not_come_back_by_time() {
    let mut health = Health::default();
    health.probed(true, Kind::Http, 0, &RULES);
    fail(&mut health, 5, S);
    let changes = [2, 3, 4].map(|at| health.probed(false, Kind::Http, at * S, &RULES));
    assert_eq!(changes, [None, None, Some(Change::Down)]);
    assert_eq!(health.state(1000 * S), State::Down);
}

#[test]
fn an_ejected_server_is_pardoned_when_no_other_is_left() {
    let mut health = Health::default();
    assert_eq!(health.pardon(0), None, "it is up");
    fail(&mut health, 5, S);
    assert_eq!((health.pardon(2 * S), health.state(2 * S)), (Some(Change::Up), State::Up));
    assert_eq!(health.failed(Fault::Answer, 2 * S, 2 * S, &RULES, |_| false), None, "the last stays whatever it does");
    assert_eq!(fail(&mut health, 1, 3 * S), ejected(23 * S), "and is still on trial when it is not the last");
}

#[test]
fn a_server_that_comes_back_starts_slowly() {
    let mut health = down(0);
    health.probed(true, Kind::Tcp, 0, &SLOW);
    health.probed(true, Kind::Tcp, 100 * S, &SLOW);
    let shares = [100, 101, 110, 119, 120, 500].map(|at| health.share(at * S, &SLOW));
    assert_eq!(shares, [10, 14, 55, 95, 100, 100]);
    let nexts = [100, 101, 102, 119, 120].map(|at| health.next(at * S, &SLOW));
    assert_eq!(nexts, [Some(102 * S), Some(102 * S), Some(104 * S), Some(120 * S), None]);
    assert_eq!((health.share(100 * S, &RULES), health.next(100 * S, &RULES)), (100, None), "unless it need not");
}

#[test]
fn the_slow_start_after_an_ejection_counts_from_its_end_whoever_notes_it() {
    let mut health = Health::default();
    fail(&mut health, 5, 0);
    assert_eq!((health.share(10 * S, &SLOW), health.next(10 * S, &SLOW)), (10, Some(12 * S)));
    let noted = &mut health.clone();
    noted.lapse(25 * S);
    assert_eq!((health.share(25 * S, &SLOW), noted.share(25 * S, &SLOW)), (77, 77));
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Failed(bool, bool, Micros),
    Succeeded(Micros),
    Probed(bool, bool),
    Pardon,
    Lapse,
    Pass(Micros),
}

fn event() -> impl Strategy<Value = Event> {
    let age = 0..30 * S;
    prop_oneof![
        6 => (any::<bool>(), any::<bool>(), age.clone()).prop_map(|(c, may, age)| Event::Failed(c, may, age)),
        2 => age.prop_map(Event::Succeeded),
        3 => (any::<bool>(), any::<bool>()).prop_map(|(well, http)| Event::Probed(well, http)),
        1 => Just(Event::Pardon),
        1 => Just(Event::Lapse),
        3 => (0..60 * S).prop_map(Event::Pass),
    ]
}

fn rules() -> impl Strategy<Value = Rules> {
    (0..6u32, 1..20 * S, 0..4u32, 0..4u32, prop_oneof![Just(0), Just(1), 0..40 * S]).prop_map(
        |(failures, eject, rise, fall, slow_start)| Rules {
            failures,
            eject,
            eject_most: 300 * S,
            rise,
            fall,
            slow_start,
        },
    )
}

fn happen(health: &mut Health, event: Event, now: &mut Micros, rules: &Rules) -> Option<Change> {
    match event {
        Event::Failed(connect, may, age) => {
            let fault = if connect { Fault::Connect } else { Fault::Answer };
            let change = health.failed(fault, now.saturating_sub(age), *now, rules, |_| may);
            assert!(change.is_none() || (may && rules.failures > 0));
            change
        }
        Event::Succeeded(age) => {
            health.succeeded(now.saturating_sub(age), *now);
            None
        }
        Event::Probed(well, http) => health.probed(well, if http { Kind::Http } else { Kind::Tcp }, *now, rules),
        Event::Pardon => health.pardon(*now),
        Event::Lapse => health.lapse(*now),
        Event::Pass(span) => {
            *now += span;
            None
        }
    }
}

proptest! {
    #[test]
    fn whatever_happens_share_state_and_next_tell_the_same_story(
        rules in rules(),
        events in prop::collection::vec(event(), 0..200),
    ) {
        let (mut health, mut now) = (Health::default(), 0);
        for event in events {
            let change = happen(&mut health, event, &mut now, &rules);
            let (state, share, next) = (health.state(now), health.share(now, &rules), health.next(now, &rules));
            match change {
                Some(Change::Up) => prop_assert_eq!(state, State::Up),
                Some(Change::Down) => prop_assert_eq!(state, State::Down),
                Some(Change::Ejected { until, .. }) => prop_assert_eq!(state, State::Ejected { until }),
                None => {}
            }
            let fits = if state == State::Up { (10..=100).contains(&share) } else { share == 0 };
            prop_assert!(fits, "{:?} with a share of {}", state, share);
            if let State::Ejected { until } = state {
                prop_assert!(until > now && until - now <= 300 * S, "ejected at {} until {}", now, until);
            }
            match next {
                Some(at) => {
                    prop_assert!(at > now, "next is {} at {}", at, now);
                    prop_assert!(health.share(at, &rules) >= share, "time alone takes nothing away");
                }
                None => prop_assert_eq!(health.share(now + 1000 * S, &rules), share),
            }
        }
    }

    #[test]
    fn a_pool_that_only_exchanges_judge_is_never_more_than_half_ejected_and_never_empty(
        size in 1..7usize,
        failures in prop::collection::vec((0..7usize, 0..3 * S), 0..300),
    ) {
        let (mut pool, mut now) = (vec![Health::default(); size], 0);
        for (server, span) in failures {
            now += span;
            let gone = pool.iter().filter(|health| health.share(now, &RULES) == 0).count();
            let server = server % size;
            let up = usize::from(pool[server].share(now, &RULES) > 0);
            let may = may_eject(size, gone, size - gone - up, false);
            pool[server].failed(Fault::Connect, now, now, &RULES, |_| may);
            let gone = pool.iter().filter(|health| health.share(now, &RULES) == 0).count();
            prop_assert!(gone <= size / 2 && gone < size, "{} of {}", gone, size);
        }
    }
}

#[test]
fn who_follows_an_ejection_leaves_its_words_to_the_one_who_ejected() {
    let (mut one, mut other) = (Health::default(), Health::default());
    fail(&mut one, 5, S);
    let ejection = Ejection { until: 11 * S, only_connects: false };
    assert!(other.follow_ejection(ejection, 2 * S, &RULES) && !other.follow_ejection(ejection, 2 * S, &RULES));
    assert_eq!(other.state(2 * S), State::Ejected { until: 11 * S });
    assert_eq!((other.lapse(11 * S), one.lapse(11 * S)), (None, Some(Change::Up)));
    assert!(!other.follow_ejection(ejection, 11 * S, &RULES), "it is over");
    assert_eq!(fail(&mut other, 1, 12 * S), ejected(32 * S), "on trial, and for the second time");
    assert_eq!(other.lapse(32 * S), Some(Change::Up));
}

#[test]
fn who_has_not_heard_that_an_ejection_ended_early_follows_the_next_one_all_the_same() {
    let (mut one, mut other) = (Health::default(), Health::default());
    fail(&mut one, 5, S);
    other.follow_ejection(Ejection { until: 11 * S, only_connects: false }, 2 * S, &RULES);
    one.pardon(3 * S);
    assert_eq!(fail(&mut one, 1, 4 * S), ejected(24 * S));
    assert!(other.follow_ejection(Ejection { until: 24 * S, only_connects: false }, 5 * S, &RULES));
    assert_eq!(other.state(12 * S), one.state(12 * S));
}
