//! Worlds made by hand: what a seed has found once, and what is to be seen on its own.

use super::book::{Answer, Plan, Shape, Wrong};
use super::client::{Manner, Pace};
use super::make::get;
use super::net::Net;
use super::random::Random;
use super::run::{End, Setup, world};
use super::weather::Weather;
use super::world::{Fate, Place};
use pilb::base::time::SECOND;
use pilb::engine::CloseReason;

/// Plays a scene and expects that no rule breaks.
fn play(setup: &Setup, fill: impl FnOnce(&mut Place, &mut Net)) -> End {
    let end = world(1, setup, true, Random::new(1), fill);
    assert_eq!(end.broken, None, "\n{}", end.trace.join("\n"));
    end
}

fn post(n: u64) -> Plan {
    Plan { method: "POST", shape: Shape::Length(n), ..get(10) }
}

fn answered(plan: Plan, change: impl FnOnce(&mut Answer)) -> Plan {
    let mut plan = plan;
    change(&mut plan.answer);
    plan
}

fn ends(end: &End) -> Vec<CloseReason> {
    end.ends.iter().map(|(_, end)| *end).collect()
}

/// Requests of the long run, and by how many clients.
const REQUESTS: usize = 100_000;
const CLIENTS: usize = 50;

#[test]
fn an_upstream_that_ends_idle_connections_after_5_s_costs_no_request_in_100_000() {
    let setup =
        Setup { servers: 1, weather: Weather { latency: 2000, ..Weather::calm() }, turns: 1_000_000, ..Setup::calm() };
    let end = world(5, &setup, false, Random::new(5), |place, net| {
        place.idle_close = Some(5 * SECOND);
        let mut random = Random::new(55);
        for _ in 0..CLIENTS {
            let plans = (0..REQUESTS / CLIENTS).map(|_| {
                let plan = if random.chance(500) { get(100) } else { post(20) };
                Plan { think: random.below(9 * SECOND), ..plan }
            });
            place.client(net, net.now, Manner::default(), plans.collect());
        }
    });
    assert_eq!((end.broken, end.ends.len()), (None, REQUESTS));
    let failed = end.ends.iter().filter(|(status, end)| *status != 200 || *end != CloseReason::Done).count();
    assert_eq!(failed, 0);
}

#[test]
fn an_end_that_comes_with_an_interim_answer_is_not_slept_over() {
    let cut = Wrong::Cut { after: super::server::INTERIM.len() as u64, reset: false };
    let end = play(&Setup::calm(), |place, net| {
        let plan = answered(get(10), |answer| (answer.interims, answer.wrong) = (1, cut));
        place.client(net, 0, Manner::default(), vec![plan]);
    });
    assert_eq!(ends(&end), [CloseReason::UpstreamClosed]);
}

#[test]
fn a_refused_dial_is_tried_on_another_server_whatever_the_method() {
    for fate in [Fate::Refuses, Fate::RefusesAtOnce, Fate::Hangs] {
        let end = play(&Setup::calm(), |place, net| {
            place.fates = vec![fate, Fate::Accepts];
            place.client(net, 0, Manner::default(), vec![post(50)]);
        });
        assert_eq!(ends(&end), [CloseReason::Done], "{fate:?}");
    }
}

#[test]
fn a_post_on_a_connection_that_dies_is_not_sent_again_a_get_is() {
    for (second, ended) in [(get(10), CloseReason::Done), (post(10), CloseReason::UpstreamClosed)] {
        let setup = Setup { servers: 1, ..Setup::calm() };
        let end = play(&setup, |place, net| {
            let second = answered(second, |answer| answer.wrong = Wrong::Cut { after: 0, reset: false });
            place.client(net, 0, Manner::default(), vec![get(10), second]);
        });
        assert_eq!(ends(&end), [CloseReason::Done, ended]);
    }
}

#[test]
fn a_client_that_goes_in_the_midst_of_spliced_content_leaves_no_byte_to_the_next_one() {
    let end = play(&Setup { servers: 1, ..Setup::calm() }, |place, net| {
        let leaves = Manner { resets_after: Some(700_000), ..Manner::default() };
        let pace = Pace::Slow { most: 50_000, every: 1000 };
        place.client(net, 0, Manner { reads: pace, ..leaves }, vec![get(3_000_000)]);
        place.client(net, 3 * SECOND, Manner::default(), vec![get(2_000_000), get(900_000)]);
    });
    assert_eq!(ends(&end), [CloseReason::ClientReset, CloseReason::Done, CloseReason::Done]);
}

#[test]
fn a_refused_upload_gets_its_answer_before_the_connection_goes() {
    let end = play(&Setup::calm(), |place, net| {
        let plan = answered(post(2_000_000), |answer| {
            (answer.status, answer.early, answer.close) = (404, true, true);
        });
        place.client(net, 0, Manner::default(), vec![plan]);
    });
    assert_eq!(end.ends[0].0, 404);
}

#[test]
fn half_an_answer_does_not_look_whole_because_its_client_ends_its_upload() {
    let setup = Setup { weather: Weather { server_slow: 1000, ..Weather::calm() }, ..Setup::calm() };
    let end = play(&setup, |place, net| {
        let plan = Plan { old: true, close: true, ..post(100_000) };
        let plan = answered(plan, |answer| (answer.early, answer.shape) = (true, Shape::Chunked(3_000_000)));
        let sends = Pace::Slow { most: 500, every: 10_000 };
        place.client(net, 0, Manner { sends, ends_after: Some(60_000), ..Manner::default() }, vec![plan]);
    });
    assert_eq!((end.ends[0].0, ends(&end)), (200, vec![CloseReason::ClientClosed]));
}

#[test]
fn bytes_behind_an_answer_are_never_the_next_one() {
    for n in [1, 100, 5000, 200_000] {
        let setup = Setup { servers: 1, weather: Weather { pieces: true, ..Weather::calm() }, ..Setup::calm() };
        let end = play(&setup, |place, net| {
            let spoilt = answered(get(200_000), |answer| answer.wrong = Wrong::Extra(n));
            place.client(net, 0, Manner::default(), vec![spoilt, get(5), get(5)]);
        });
        assert_eq!(end.ends.iter().filter(|(status, _)| *status == 200).count(), 3, "{n}");
    }
}

#[test]
fn what_was_pipelined_behind_the_last_answer_does_not_cost_that_answer() {
    let end = play(&Setup::calm(), |place, net| {
        let last = answered(get(100), |answer| answer.shape = Shape::UntilClose(100));
        place.client(net, 0, Manner { depth: 2, ..Manner::default() }, vec![last, post(200_000)]);
    });
    assert_eq!(ends(&end), [CloseReason::Done]);
}

#[test]
fn a_reset_that_only_a_send_has_met_is_no_end_of_an_answer() {
    let weather = Weather { late_event: 500, small_batches: true, pieces: true, ..Weather::calm() };
    let setup = Setup { weather, ..Setup::calm() };
    for seed in 0..100 {
        let end = world(seed, &setup, true, Random::new(seed), |place, net| {
            let plan = answered(post(400_000), |answer| {
                (answer.early, answer.shape) = (true, Shape::UntilClose(50_000));
                answer.wrong = Wrong::Cut { after: 20_000, reset: true };
            });
            let sends = Pace::Slow { most: 5000, every: 500 };
            place.client(net, 0, Manner { sends, ..Manner::default() }, vec![plan]);
        });
        assert_eq!(end.broken, None, "\n{}", end.trace.join("\n"));
    }
}
