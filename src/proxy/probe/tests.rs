//! Answers that are well, answers that are not, and the times of probes.

use super::*;
use proptest::prelude::*;

fn http() -> Plan {
    let check = Check::Http { path: "/health?full".to_owned(), statuses: vec![(200, 299), (301, 301)] };
    Plan { check, ..Plan::default() }
}

fn closed(bytes: &str) -> Verdict {
    http().verdict(bytes.as_bytes(), End::Closed)
}

#[test]
fn the_request_names_the_server_and_asks_for_one_answer_only() {
    let request = String::from_utf8(http().request("a.example:81").unwrap()).unwrap();
    let expected = "GET /health?full HTTP/1.1\r\nHost: a.example:81\r\nUser-Agent: pilb-fast (health check)\r\n\
                    Accept: */*\r\nConnection: close\r\n\r\n";
    assert_eq!(request, expected);
    let mut space = FieldSpace::new();
    assert!(http1::request::parse(request.as_bytes(), &mut space, &Limits::REQUEST).is_ok());
}

#[test]
fn the_preface_comes_first_and_only_before_a_question() {
    let plan = Plan { preface: b"PROXY UNKNOWN\r\n".to_vec(), ..http() };
    assert!(plan.request("a").unwrap().starts_with(b"PROXY UNKNOWN\r\nGET /health"));
    assert_eq!(Plan { check: Check::Tcp, ..plan }.request("a"), None);
}

#[test]
fn a_unix_socket_is_asked_as_localhost() {
    let request = String::from_utf8(http().request("unix:/run/app.sock").unwrap()).unwrap();
    assert!(request.contains("\r\nHost: localhost\r\n"), "{request}");
}

#[test]
fn a_tcp_probe_sends_nothing_and_wants_a_connection() {
    let plan = Plan::default();
    assert_eq!((plan.request("a"), plan.kind()), (None, Some(Kind::Tcp)));
    assert_eq!(plan.verdict(b"", End::Enough), Verdict::Well);
    assert_eq!(plan.verdict(b"", End::Refused), Verdict::Bad(Bad::Refused));
    assert_eq!(plan.verdict(b"", End::Late), Verdict::Bad(Bad::Late));
    assert_eq!(Plan { check: Check::Off, ..plan }.kind(), None);
}

#[test]
fn want_of_a_socket_here_says_nothing_about_the_server() {
    assert_eq!(http().verdict(b"", End::NoSocket), Verdict::Unknown);
    assert_eq!(Plan::default().verdict(b"", End::NoSocket), Verdict::Unknown);
}

#[test]
fn a_status_within_a_range_is_well() {
    for status in [200, 204, 299, 301] {
        assert_eq!(closed(&format!("HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n")), Verdict::Well, "{status}");
    }
    for status in [199 + 101, 302, 404, 503] {
        let answer = format!("HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(closed(&answer), Verdict::Bad(Bad::Status(status)), "{status}");
    }
}

#[test]
fn interim_answers_are_passed_over_but_not_without_end() {
    let interim = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    assert_eq!(closed(&format!("{interim}HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")), Verdict::Well);
    assert_eq!(closed(&interim.repeat(30)), Verdict::Bad(Bad::Malformed(http1::Fault::TooManyInterim)));
}

#[test]
fn an_answer_must_be_whole() {
    for (answer, expected) in [
        ("", Verdict::Bad(Bad::Silent)),
        ("HTTP/1.1 200 OK\r\n", Verdict::Bad(Bad::Early)),
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", Verdict::Bad(Bad::Early)),
        ("HTTP/1.1 503 x\r\nContent-Length: 3\r\n\r\n", Verdict::Bad(Bad::Status(503))),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", Verdict::Bad(Bad::Early)),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", Verdict::Well),
        ("HTTP/1.0 200 OK\r\n\r\nok", Verdict::Well),
    ] {
        assert_eq!(closed(answer), expected, "{answer:?}");
    }
    assert_eq!(http().verdict(b"HTTP/1.0 200 OK\r\n\r\nok", End::Broken), Verdict::Bad(Bad::Early));
}

#[test]
fn a_malformed_answer_is_bad_as_it_is_for_a_client() {
    for (answer, fault) in [
        ("SSH-2.0-OpenSSH_9.2\r\n\r\n", http1::Fault::BadStatusLine),
        ("HTTP/1.1 200 OK\n\n", http1::Fault::BareLf),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", http1::Fault::ManyLengths),
    ] {
        assert_eq!(closed(answer), Verdict::Bad(Bad::Malformed(fault)), "{answer:?}");
        assert!(enough(answer.as_bytes()), "{answer:?}");
    }
    let endless = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(Limits::RESPONSE.head));
    assert!(enough(endless.as_bytes()));
    assert_eq!(closed(&endless), Verdict::Bad(Bad::Malformed(http1::Fault::HeadTooLarge)));
}

#[test]
fn reading_ends_with_the_answer_or_at_64_kib() {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    for n in 0..answer.len() {
        assert!(!enough(&answer[..n]), "{n}");
    }
    assert!(enough(answer));
    let mut large = b"HTTP/1.0 200 OK\r\n\r\n".to_vec();
    large.resize(MOST - 1, b'x');
    assert!(!enough(&large), "its end is the connection's");
    large.push(b'x');
    assert!(enough(&large));
    assert_eq!(http().verdict(&large, End::Enough), Verdict::Well);
}

#[test]
fn words_fit_the_log_line() {
    assert_eq!(Bad::Status(503).to_string(), "health check got 503");
    assert_eq!(Bad::Malformed(http1::Fault::BareLf).to_string(), "health check got a malformed answer (bare-lf)");
}

#[test]
fn only_absolute_paths_can_be_asked_for() {
    assert!(is_path("/") && is_path("/a?b=c%20d"));
    assert!(!is_path("") && !is_path("a") && !is_path("/a b") && !is_path("/a#b") && !is_path("/\u{e9}"));
    assert!(!is_path("/a\r\nX: y"));
}

fn all_due(schedule: &mut Schedule, now: Micros) -> Vec<ServerId> {
    std::iter::from_fn(|| schedule.due(now)).collect()
}

#[test]
fn the_first_round_is_at_once() {
    let mut schedule = Schedule::new(3, 5 * SECOND, 7);
    assert_eq!(schedule.next(), 0);
    assert_eq!(all_due(&mut schedule, 10), [0, 1, 2]);
    assert_eq!((schedule.next(), all_due(&mut schedule, 100 * SECOND)), (Micros::MAX, vec![]), "all are under way");
    assert_eq!(Schedule::new(0, SECOND, 7).next(), Micros::MAX);
}

#[test]
fn the_next_probe_begins_an_interval_after_the_last_began_give_or_take_a_tenth() {
    let (mut schedule, mut spans) = (Schedule::new(1, 5 * SECOND, 7), Vec::new());
    let mut now = 0;
    for _ in 0..1000 {
        assert_eq!(schedule.due(now), Some(0));
        schedule.done(0, now + SECOND, Pace::Usual);
        assert_eq!(schedule.due(schedule.next() - 1), None);
        spans.push(schedule.next() - now);
        now = schedule.next();
    }
    let (least, most) = (*spans.iter().min().unwrap(), *spans.iter().max().unwrap());
    assert!((4_500_000..4_600_000).contains(&least) && (5_400_000..=5_500_000).contains(&most), "{least} {most}");
}

#[test]
fn in_transition_the_next_probe_comes_five_times_sooner_but_never_two_at_once() {
    let mut schedule = Schedule::new(1, 5 * SECOND, 7);
    assert_eq!(schedule.due(0), Some(0));
    schedule.done(0, 10, Pace::Soon);
    let next = schedule.next();
    assert!((900_000..=1_100_000).contains(&next), "{next}");
    assert_eq!(schedule.due(next), Some(0));
    schedule.done(0, next + 2 * SECOND, Pace::Soon);
    assert_eq!(schedule.next(), next + 2 * SECOND, "the probe took longer than the pace: at once");
}

#[test]
fn a_server_in_doubt_is_probed_soon() {
    let mut schedule = Schedule::new(2, 5 * SECOND, 7);
    assert_eq!(all_due(&mut schedule, 0), [0, 1]);
    schedule.hurry(0, 5);
    assert_eq!(schedule.next(), Micros::MAX, "one is under way");
    schedule.done(0, 10, Pace::Usual);
    schedule.hurry(0, 20);
    assert!((900_000..=1_100_020).contains(&schedule.next()), "{}", schedule.next());
    let before = schedule.next();
    schedule.hurry(0, before - 1);
    assert_eq!(schedule.next(), before, "it is not put off");
    schedule.hurry(9, 0);
    schedule.done(9, 0, Pace::Soon);
    assert_eq!(schedule.next(), before, "nobody's business");
    assert_eq!((schedule.due(before - 1), schedule.due(before)), (None, Some(0)));
}

#[test]
fn workers_do_not_probe_in_step() {
    let firsts: std::collections::HashSet<_> = (0..16)
        .map(|seed| {
            let mut schedule = Schedule::new(1, 5 * SECOND, seed);
            schedule.due(0);
            schedule.done(0, 0, Pace::Usual);
            schedule.next()
        })
        .collect();
    assert_eq!(firsts.len(), 16);
}

proptest! {
    #[test]
    fn any_bytes_have_a_verdict_and_what_is_enough_stays_so(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let answer = [&b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"[..], &bytes].concat();
        for whole in [&bytes, &answer] {
            let first = (0..=whole.len()).find(|n| enough(&whole[..*n]));
            for n in first.unwrap_or(whole.len() + 1)..=whole.len() {
                prop_assert!(enough(&whole[..n]));
            }
            http().verdict(whole, End::Closed);
        }
    }

    #[test]
    fn no_server_is_forgotten_and_none_probed_twice_at_once(
        seed in any::<u64>(),
        steps in prop::collection::vec((0..4u16, any::<bool>(), 0..3 * SECOND), 0..200),
    ) {
        let (mut schedule, mut now, mut running) = (Schedule::new(4, 5 * SECOND, seed), 0, [false; 4]);
        for (server, soon, span) in steps {
            now += span;
            while let Some(due) = schedule.due(now) {
                prop_assert!(!std::mem::replace(&mut running[usize::from(due)], true));
            }
            prop_assert!(schedule.next() > now);
            if std::mem::take(&mut running[usize::from(server)]) {
                schedule.done(server, now, if soon { Pace::Soon } else { Pace::Usual });
            }
            prop_assert!(schedule.next() <= now + 5_500_000 || running == [true; 4]);
        }
    }
}

#[test]
fn a_probe_begins_as_connections_to_servers_do() {
    let plan = Plan { preface: b"PROXY UNKNOWN\r\n".to_vec(), ..http() };
    let request = plan.request("192.0.2.1:80").unwrap();
    assert!(request.starts_with(b"PROXY UNKNOWN\r\nGET /"));
    assert_eq!(Plan { check: Check::Tcp, ..plan }.request("192.0.2.1:80"), None, "a connection is all");
}
