//! What is learned and what is not, and a server that closes without a word, simulated.

use super::*;
use proptest::prelude::*;

const SETTING: Micros = 4 * SECOND;
const MS: Micros = SECOND / 1000;

/// What a server is known for that closes after `age`, seen at `times` moments ten seconds apart from zero.
fn seen(age: Micros, times: u64) -> Idle {
    let mut idle = Idle::default();
    (0..times).for_each(|time| idle.closed(age + time * 3 * MS, time * 10 * SECOND));
    idle
}

#[test]
fn the_setting_holds_until_something_better_is_known() {
    assert_eq!(Idle::default().limit(SETTING, None, 0), SETTING);
    assert_eq!(seen(2 * SECOND, 2).limit(SETTING, None, 20 * SECOND), SETTING, "twice is chance");
}

#[test]
fn what_is_announced_holds_less_a_second_and_up_to_an_hour() {
    for (announced, expected) in [(0, 0), (1, 0), (5, 4), (75, 74), (3601, 3600), (u64::MAX, 3600)] {
        assert_eq!(Idle::default().limit(SETTING, Some(announced), 0), expected * SECOND, "{announced}");
    }
}

#[test]
fn an_age_seen_at_three_moments_is_learned() {
    let idle = seen(2 * SECOND, 3);
    assert_eq!(idle.limit(SETTING, None, 20 * SECOND), 1400 * MS);
    assert_eq!(idle.limit(SETTING, Some(60), 20 * SECOND), 1400 * MS, "whatever it announces");
    assert_eq!(idle.limit(SECOND, None, 20 * SECOND), SECOND, "never more than the setting");
}

#[test]
fn a_server_that_closes_at_once_gets_no_idle_connections() {
    assert_eq!(seen(MS, 6).limit(SETTING, None, 20 * SECOND), 0);
    assert_eq!(seen(MS, 5).limit(SETTING, None, 20 * SECOND), SETTING, "they may have been crashes");
}

#[test]
fn crashes_of_a_busy_server_are_no_timeout() {
    let mut idle = Idle::default();
    for (moment, age) in [(60, 3), (120, 41), (180, 17)] {
        idle.closed(age * MS, moment * SECOND);
    }
    assert_eq!(idle.limit(SETTING, None, 200 * SECOND), SETTING);
}

#[test]
fn ages_far_apart_are_no_timeout() {
    let mut idle = Idle::default();
    for (moment, age) in [(0, 500), (10, 2000), (20, 3500), (30, 1000), (40, 2500), (50, 3000)] {
        idle.closed(age * MS, moment * SECOND);
    }
    assert_eq!(idle.limit(SETTING, None, 50 * SECOND), SETTING);
}

#[test]
fn closes_at_one_moment_teach_nothing() {
    let mut idle = Idle::default();
    (0..100).for_each(|n| idle.closed(2 * SECOND, n * MS));
    assert_eq!(idle.limit(SETTING, None, SECOND), SETTING);
}

#[test]
fn restarts_teach_nothing_however_often() {
    let mut idle = Idle::default();
    for restart in 0..20 {
        // Every age is among them, so at each restart the same ones.
        (0..40).for_each(|n| idle.closed(n * 100 * MS, restart * 10 * SECOND + n));
    }
    assert_eq!(idle.limit(SETTING, None, 200 * SECOND), SETTING);
}

#[test]
fn what_was_seen_long_ago_does_not_count() {
    let mut idle = seen(2 * SECOND, 2);
    idle.closed(2 * SECOND, 400 * SECOND);
    assert_eq!(idle.limit(SETTING, None, 400 * SECOND), SETTING);
}

#[test]
fn without_a_close_the_limit_doubles_each_minute_up_to_the_setting() {
    let idle = seen(2 * SECOND, 3);
    let limits = [20, 79, 80, 139, 140, 100_000_000].map(|at| idle.limit(SETTING, None, at * SECOND));
    assert_eq!(limits, [1400 * MS, 1400 * MS, 2800 * MS, 2800 * MS, SETTING, SETTING]);
    assert!(seen(MS, 3).limit(SETTING, None, 80 * SECOND) > 0, "also from nothing");
}

#[test]
fn one_close_at_the_known_age_takes_it_back_and_the_next_try_waits_longer() {
    let mut idle = seen(2 * SECOND, 3);
    idle.closed(2 * SECOND, 100 * SECOND);
    let limits = [100, 219, 220].map(|at| idle.limit(SETTING, None, at * SECOND));
    assert_eq!(limits, [1400 * MS, 1400 * MS, 2800 * MS]);
    idle.closed(2 * SECOND, 230 * SECOND);
    idle.closed(2 * SECOND, 231 * SECOND);
    assert_eq!(idle.limit(SETTING, None, 231 * SECOND + 239 * SECOND), 1400 * MS);
    assert_eq!(idle.limit(SETTING, None, 231 * SECOND + 240 * SECOND), 2800 * MS, "not twice for one try");
}

#[test]
fn a_server_that_becomes_less_patient_is_learned_anew() {
    let mut idle = seen(2 * SECOND, 3);
    (3..6).for_each(|time| idle.closed(SECOND, time * 10 * SECOND));
    assert_eq!(idle.limit(SETTING, None, 50 * SECOND), 650 * MS);
}

#[test]
fn a_long_timeout_behind_a_longer_announcement_is_learned_too() {
    let mut idle = Idle::default();
    (1..4).for_each(|time| idle.closed(350 * SECOND, time * 360 * SECOND));
    let now = 3 * 360 * SECOND;
    assert_eq!(idle.limit(SETTING, Some(3600), now), 262_400 * MS);
    assert_eq!(idle.limit(SETTING, Some(3600), now + 1000 * SECOND), 262_400 * MS, "a minute would show nothing");
}

proptest! {
    #[test]
    fn the_limit_is_never_over_what_was_set_or_announced(
        closes in prop::collection::vec((0..10 * SECOND, 0..100 * SECOND), 0..50),
        announced in prop::option::of(any::<u64>()),
    ) {
        let (mut idle, mut now) = (Idle::default(), 0);
        let most = idle.limit(SETTING, announced, 0);
        for (age, span) in closes {
            now += span;
            idle.closed(age, now);
            prop_assert!(idle.limit(SETTING, announced, now) <= most);
            prop_assert!(idle.moments.len() <= KEPT);
        }
        prop_assert_eq!(idle.limit(SETTING, announced, now + 1_000_000 * SECOND), most);
    }
}

/// How close to the close a use is a race.
const NEAR: Micros = 10 * MS;

/// A pool of idle connections, the newest used first, to a server that closes each after `timeout` without a word.
struct Simulation {
    timeout: Micros,
    setting: Micros,
    learns: bool,
    /// The longest time between two requests.
    think: Micros,
    idle: Idle,
    /// When each was put aside, and how long it may idle.
    pool: Vec<(Micros, Micros)>,
    now: Micros,
    random: u64,
}

impl Simulation {
    fn new(timeout: Micros, setting: Micros, learns: bool, seed: u64) -> Simulation {
        let (idle, pool) = (Idle::default(), Vec::new());
        let (think, random) = (timeout * 3 / 2, seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        Simulation { timeout, setting, learns, think, idle, pool, now: 0, random }
    }

    fn below(&mut self, most: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) % most
    }

    /// What the two ends do to idle connections until now.
    fn tidy(&mut self) {
        let (now, timeout) = (self.now, self.timeout);
        let mut closes: Vec<_> = Vec::new();
        self.pool.retain(|(parked, limit)| {
            let until = parked + (*limit).min(timeout);
            // The news of a close takes its time: so long, the connection looks good.
            let news = if timeout < *limit { NEAR } else { 0 };
            if until + news <= now && timeout < *limit {
                closes.push(parked + timeout);
            }
            until + news > now
        });
        closes.sort_unstable();
        closes.into_iter().for_each(|at| self.idle.closed(timeout, at));
    }

    /// So many requests, each a random time after the last; how many met a close?
    fn races(&mut self, requests: u32) -> u32 {
        let mut races = 0;
        for _ in 0..requests {
            self.now += self.below(self.think);
            self.tidy();
            if let Some((parked, _)) = self.pool.pop() {
                races += u32::from((self.now - parked).abs_diff(self.timeout) < NEAR);
            }
            // Now and then two at once, so that there is more than one connection.
            if self.below(4) == 0 {
                self.park();
            }
            self.park();
        }
        races
    }

    fn park(&mut self) {
        let limit = if self.learns { self.idle.limit(self.setting, None, self.now) } else { self.setting };
        if limit > 0 {
            self.pool.push((self.now, limit));
        }
    }
}

const SEEDS: std::ops::Range<u64> = 1..6;

#[test]
fn a_server_that_closes_after_two_seconds_is_learned_within_a_hundred_requests_and_then_rarely_met() {
    let (mut before, mut first, mut after) = (0, 0, 0);
    for seed in SEEDS {
        before += Simulation::new(2 * SECOND, SETTING, false, seed).races(100_000);
        let mut learning = Simulation::new(2 * SECOND, SETTING, true, seed);
        first += learning.races(100);
        assert!(learning.idle.learned.is_some());
        after += learning.races(99_900);
    }
    eprintln!(
        "closes after 2 s, setting 4 s, 500,000 requests: {before} races; learning: {first} in the first 500, {after} later"
    );
    assert!(before > 2500 && first <= 15 && after * 50 < before, "{before}, {first}, {after}");
}

#[test]
fn a_server_that_closes_after_five_seconds_is_never_met_with_the_setting_of_four() {
    for seed in SEEDS {
        assert_eq!(Simulation::new(5 * SECOND, SETTING, true, seed).races(100_000), 0);
    }
}

#[test]
fn a_server_that_closes_after_five_seconds_is_learned_where_the_setting_is_too_long() {
    let (mut before, mut after) = (0, 0);
    for seed in SEEDS {
        before += Simulation::new(5 * SECOND, 30 * SECOND, false, seed).races(100_000);
        after += Simulation::new(5 * SECOND, 30 * SECOND, true, seed).races(100_000);
    }
    eprintln!("closes after 5 s, setting 30 s, 500,000 requests: {before} races; learning: {after}");
    assert!(after * 20 <= before, "{after} of {before}");
}
