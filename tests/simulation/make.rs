//! Makes plans: who asks for what, how, and what goes wrong. Nothing here depends on what happens later.

use super::book::{Answer, Plan, Shape, Wrong};
use super::client::{Manner, Pace};
use super::random::Random;
use super::weather::Weather;
use pilb::base::Micros;
use pilb::base::time::SECOND;

/// A plain GET and its answer of so many bytes.
pub fn get(n: u64) -> Plan {
    Plan {
        method: "GET",
        old: false,
        close: false,
        shape: Shape::None,
        chunk: 1000,
        pad: 0,
        trailer: false,
        expect: false,
        upgrade: false,
        think: 0,
        answer: Answer {
            status: 200,
            shape: Shape::Length(n),
            interims: 0,
            continues: false,
            early: false,
            close: false,
            announces: None,
            old: false,
            think: 0,
            wrong: Wrong::Nothing,
            wrong_times: 1,
        },
    }
}

fn size(random: &mut Random, weather: &Weather) -> u64 {
    // Tiny windows and slow ways make large bodies last too long.
    let most = weather.window.1.saturating_mul(50).min(3_000_000);
    if random.chance(weather.large) { random.within(most / 20, most) } else { random.skewed(most.min(30_000)) }
}

pub fn plan(random: &mut Random, weather: &Weather) -> Plan {
    let mut plan = get(0);
    let methods: &[&'static str] = &["GET", "GET", "GET", "POST", "POST", "PUT", "HEAD", "DELETE", "PATCH", "OPTIONS"];
    plan.method = *random.pick(methods);
    plan.old = random.chance(weather.old);
    plan.close = random.chance(60);
    plan.chunk = 1 + random.skewed(40_000);
    let pad = weather.window.1.saturating_mul(15).min(9000);
    plan.pad = if random.chance(80) { random.skewed(pad) as usize } else { 0 };
    plan.trailer = random.chance(300);
    let n = size(random, weather);
    let with_body = matches!(plan.method, "POST" | "PUT" | "PATCH") || random.chance(50);
    plan.shape = match random.below(3) {
        _ if !with_body => Shape::None,
        0 if !plan.old && n / plan.chunk < 500 => Shape::Chunked(n),
        _ => Shape::Length(n),
    };
    plan.expect = plan.shape != Shape::None && !plan.old && random.chance(150);
    plan.think = if random.chance(300) { random.skewed(6 * SECOND) } else { 0 };
    plan.answer = answer(random, weather, &plan);
    if random.chance(60) && !plan.old {
        plan.upgrade = true;
        (plan.method, plan.shape, plan.expect, plan.close) = ("GET", Shape::None, false, false);
        plan.answer.old = false;
        plan.answer.shape = Shape::Length(size(random, weather));
        plan.chunk = size(random, weather);
        if random.chance(800) {
            plan.answer.status = 101;
            (plan.answer.early, plan.answer.continues) = (false, false);
        } else {
            // Refused: an answer like any other.
            plan.answer.status = 200;
        }
    }
    plan
}

fn answer(random: &mut Random, weather: &Weather, plan: &Plan) -> Answer {
    let n = size(random, weather);
    let old = random.chance(80);
    let shape = match random.below(8) {
        _ if random.chance(weather.until_close) => Shape::UntilClose(n),
        0 => Shape::None,
        1 | 2 if !old && n / plan.chunk < 500 => Shape::Chunked(n),
        _ => Shape::Length(n),
    };
    let has_body = plan.shape != Shape::None;
    Answer {
        status: *random.pick(&[200, 200, 200, 200, 201, 204, 304, 404, 500]),
        shape,
        interims: if random.chance(weather.interims) { random.within(1, 3) as u8 } else { 0 },
        continues: plan.expect && random.chance(700),
        early: has_body && random.chance(weather.server_early),
        close: random.chance(weather.closes),
        announces: random.chance(150).then(|| random.within(1, 20)),
        old,
        think: if random.chance(300) { random.skewed(2 * SECOND) } else { 0 },
        wrong: wrong(random, weather, n),
        wrong_times: random.within(1, 2) as u32,
    }
}

/// Bytes of an interim answer.
const INTERIM: u64 = super::server::INTERIM.len() as u64;

fn wrong(random: &mut Random, weather: &Weather, n: u64) -> Wrong {
    // Before anything, behind the interim answers, anywhere.
    let after = match random.below(10) {
        0..3 => 0,
        3..5 => INTERIM * random.within(1, 2),
        _ => random.skewed(n + 300),
    };
    if random.chance(weather.server_reset) {
        Wrong::Cut { after, reset: random.chance(500) }
    } else if random.chance(weather.server_stuck) {
        Wrong::Stall { after }
    } else if random.chance(weather.server_wrong) {
        match random.below(5) {
            // Which takes for ever where a window has room for a few bytes.
            4 if weather.window.1 > 100 => Wrong::Endless(random.skewed(20_000)),
            0 => Wrong::Garbage(1 + random.skewed(40_000)),
            1 => Wrong::Mutated(random.next()),
            2 => Wrong::Extra(1 + random.skewed(5000)),
            _ => Wrong::Short(1 + random.skewed(5000)),
        }
    } else {
        Wrong::Nothing
    }
}

pub fn manner(random: &mut Random, weather: &Weather) -> Manner {
    let slow = weather.client_slow;
    let mut pace = || {
        if random.chance(slow) {
            Pace::Slow { most: 10 + random.skewed(100_000), every: 500 + random.skewed(100_000) }
        } else {
            Pace::Whole
        }
    };
    let mut manner = Manner { sends: pace(), reads: pace(), ..Manner::default() };
    if random.chance(weather.client_stuck) {
        let stuck = Pace::StuckAfter(random.skewed(30_000));
        if random.chance(500) { manner.sends = stuck } else { manner.reads = stuck }
    }
    manner.depth = if random.chance(weather.pipelines) { *random.pick(&[2, 5]) } else { 1 };
    manner.deaf = random.chance(50);
    if random.chance(weather.client_stuck / 2) {
        manner.sends = Pace::Trickle { every: 1000 + random.skewed(9 * SECOND) };
    }
    manner.resets_after = random.chance(weather.client_reset).then(|| random.skewed(60_000));
    if !matches!(manner.sends, Pace::StuckAfter(_)) && random.chance(weather.client_ends) {
        manner.ends_after = Some(random.skewed(60_000));
    }
    manner.half_closes = random.chance(100);
    manner.stays = random.chance(150);
    manner.hostile = random.chance(weather.client_hostile);
    manner
}

/// When a server ends a connection that idles.
pub fn idle_close(random: &mut Random, weather: &Weather) -> Option<Micros> {
    random.chance(weather.idle_close).then(|| random.skewed(8 * SECOND))
}
