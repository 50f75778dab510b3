//! How a connection lives and ends: pipelining, bodies, large files, timeouts, broken peers, the drain.

use super::wire::{Item, Shelf, Wire};
use crate::base::time::SECOND;
use crate::engine::record::Part;
use crate::engine::{App, Chores, Close, CloseReason, Drain, Side};
use crate::origin::{Session, StoreError};

fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: a.example\r\nReferer: r\r\nUser-Agent: u\r\n\r\n").into_bytes()
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 % 251) as u8).collect()
}

fn shelf() -> Shelf {
    Shelf::default()
        .file(b"a", b"AAA")
        .file(b"b", b"BB")
        .file(b"big", &pattern(1_000_000))
        .with(b"cut", Item::File { bytes: pattern(50_000), missing: 1 })
        .with(b"gone", Item::File { bytes: Vec::new(), missing: 10 })
        .with(b"busy", Item::Error(StoreError::Busy))
}

fn wire() -> Wire<Shelf> {
    Wire::new(shelf())
}

fn statuses<S: crate::origin::Store>(wire: &Wire<S>) -> Vec<u16> {
    wire.answers(&[]).iter().map(|answer| answer.status).collect()
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let requests = [
        get("/a"),
        get("/none"),
        b"\r\n".to_vec(),
        get("/b"),
        b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nxyz".to_vec(),
        get("/big"),
        get("/a"),
    ]
    .concat();
    for step in [1, 100, usize::MAX] {
        for window in [1, 1000, usize::MAX] {
            let mut wire = wire();
            wire.window = window;
            let sent = wire.send(&requests, step);
            while wire.held() > 0 {
                wire.turn(false);
            }
            assert_eq!(sent, requests.len());
            assert_eq!(statuses(&wire), [200, 404, 200, 405, 200, 200], "{step} {window}");
            assert_eq!((wire.close, wire.log.0.len()), (None, 6));
            let first = &wire.log.0[0];
            assert_eq!((first.part(Part::Line), first.part(Part::Host)), (&b"GET /a HTTP/1.1"[..], &b"a.example"[..]));
            assert_eq!((first.part(Part::Referer), first.part(Part::UserAgent)), (&b"r"[..], &b"u"[..]));
            assert_eq!(
                wire.log.0.iter().map(|record| record.client_reused).collect::<Vec<_>>(),
                [false, true, true, true, true, true]
            );
            assert_eq!(wire.log.0.iter().map(|record| record.bytes_up).sum::<u64>(), requests.len() as u64 - 2);
            assert_eq!(wire.log.0.iter().map(|record| record.bytes_down).sum::<u64>(), wire.received.len() as u64);
        }
    }
}

#[test]
fn answers_that_come_later_come_in_order() {
    let requests = [get("/a"), get("/none"), get("/big"), get("/busy"), get("/b")].concat();
    for step in [1, 100, usize::MAX] {
        for window in [1000, usize::MAX] {
            let mut wire = Wire::new(Shelf { slow: true, ..shelf() });
            wire.window = window;
            wire.send(&requests, step);
            while wire.wake() || wire.held() > 0 {
                wire.turn(false);
            }
            assert_eq!(statuses(&wire), [200, 404, 200, 503, 200], "{step} {window}");
            assert!(wire.answers(&[])[2].body == pattern(1_000_000));
            assert_eq!((wire.close, wire.log.0.len()), (None, 5));
        }
    }
}

#[test]
fn who_waits_for_the_store_waits_no_longer_than_its_time_and_may_leave() {
    let waiting = || {
        let mut wire = Wire::new(Shelf { slow: true, ..shelf() });
        wire.send(&get("/a"), usize::MAX);
        assert!(wire.received.is_empty() && wire.close.is_none());
        wire
    };
    let mut late = waiting();
    assert_eq!(late.wait(), 30);
    assert_eq!((statuses(&late), late.close), (vec![503], Some(Close::Linger)));
    assert_eq!(late.log.0[0].end, CloseReason::StoreTimeout);
    let mut gone = waiting();
    gone.ends(Side::Broken);
    assert_eq!((gone.close, gone.log.0[0].end), (Some(Close::Reset), CloseReason::ClientReset));
    assert!(!gone.wake(), "the store was told");
    let mut half = waiting();
    half.ends(Side::Ended);
    while half.wake() {}
    assert_eq!((statuses(&half), half.close), (vec![200], Some(Close::Finish)));
    let mut drained = waiting();
    drained.drain = Drain::Now;
    drained.turn(false);
    assert_eq!((drained.close, drained.log.0[0].end), (Some(Close::Reset), CloseReason::Drained));
}

#[test]
fn who_waits_for_content_is_not_blamed_and_never_takes_a_part_for_the_whole() {
    for request in [get("/made"), get("/big"), b"GET /made HTTP/1.0\r\n\r\n".to_vec()] {
        let mut wire = Wire::new(Shelf { slow: true, ..shelf().with(b"made", Item::Growing(pattern(100_000))) });
        wire.send(&request, usize::MAX);
        assert!(wire.wake() && wire.wake() && wire.received.len() > 1000 && wire.close.is_none());
        assert_eq!(wire.wait(), 30);
        assert_eq!((wire.close, wire.log.0[0].end), (Some(Close::Reset), CloseReason::StoreTimeout));
        assert!(!wire.wake(), "the store was told");
    }
}

#[test]
fn content_may_come_slowly_for_as_long_as_it_comes() {
    let mut wire = Wire::new(Shelf { slow: true, ..shelf() });
    wire.send(&get("/big"), usize::MAX);
    while wire.log.0.is_empty() && wire.wake() {
        wire.after(20 * SECOND);
        if wire.deadline() <= wire.now.mono {
            wire.turn(true);
        }
    }
    assert_eq!((wire.close, wire.log.0[0].end), (None, CloseReason::Done));
    assert!(wire.answers(&[])[0].body == pattern(1_000_000));
}

#[test]
fn what_was_found_for_a_request_that_is_refused_after_all_is_let_go() {
    let mut wire = Wire::new(Shelf { slow: true, ..shelf() });
    wire.send(b"GET /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", usize::MAX);
    wire.origin.attend(&mut Chores { woken: true, ..Chores::default() });
    wire.send(b"no length\r\n", usize::MAX);
    assert_eq!((statuses(&wire), wire.close), (vec![400], Some(Close::Linger)));
    assert_eq!(wire.origin.shop.store.waiting, None);
}

#[test]
fn the_time_that_the_store_takes_is_not_the_heads() {
    let mut wire = Wire::new(Shelf { slow: true, ..shelf() });
    let (first, rest) = (&get("/a")[..9], &get("/a")[9..]);
    wire.send(first, usize::MAX);
    wire.after(2 * SECOND);
    wire.send(rest, usize::MAX);
    wire.after(5 * SECOND);
    while wire.wake() {}
    assert_eq!((wire.log.0[0].wait_head, wire.log.0[0].total), (2 * SECOND, 7 * SECOND));
}

#[test]
fn content_whose_length_is_not_known_comes_in_chunks_or_ends_with_the_connection() {
    for slow in [false, true] {
        for len in [0, 5, 7_000, 300_000] {
            let shelf =
                Shelf { slow, ..Shelf::default().with(b"made", Item::Growing(pattern(len))).file(b"a", b"AAA") };
            let mut wire = Wire::new(shelf);
            wire.window = 5_000;
            wire.send(&[get("/made"), get("/a")].concat(), usize::MAX);
            while wire.wake() || wire.held() > 0 {
                wire.turn(false);
            }
            let answers = wire.answers(&[]);
            assert!(answers[0].has("Transfer-Encoding: chunked") && !answers[0].names("Content-Length"));
            assert!(answers[0].body == pattern(len), "{len}");
            assert_eq!((answers[1].body.as_slice(), wire.close), (&b"AAA"[..], None));
            let mut old = Wire::new(Shelf::default().with(b"made", Item::Growing(pattern(len))));
            old.send(b"GET /made HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", usize::MAX);
            let answer = old.answers(&[]).remove(0);
            assert!(
                answer.has("Connection: close") && !answer.names("Transfer-Encoding") && answer.body == pattern(len)
            );
            assert!(old.close.is_some());
            // A head alone says nothing that its connection does not do.
            let mut head = Wire::new(Shelf::default().with(b"made", Item::Growing(pattern(len))));
            head.send(b"HEAD /made HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", usize::MAX);
            assert_eq!((head.answers(&[true])[0].has("Connection: close"), head.close), (false, None));
        }
    }
}

#[test]
fn a_large_file_goes_through_small_buffers_byte_for_byte() {
    for size in [64, 5_000, 16 * 1024] {
        let mut wire = Wire::with_buffers(shelf(), size);
        wire.window = 3_000;
        wire.send(&get("/big"), 50);
        while wire.log.0.is_empty() {
            assert!(wire.held() <= size + crate::base::buffer::HEADROOM);
            wire.turn(false);
        }
        let answers = wire.answers(&[]);
        assert!(answers[0].body == pattern(1_000_000), "{size}");
        assert_eq!(wire.close, None);
    }
}

#[test]
fn a_file_that_shrank_is_cut_and_one_that_cannot_be_opened_is_not() {
    let mut wire = wire();
    wire.send(&get("/cut"), usize::MAX);
    assert_eq!(wire.close, Some(Close::Reset));
    assert!(wire.received.len() < 50_400);
    let record = &wire.log.0[0];
    assert_eq!((record.status, record.end, record.detail), (200, CloseReason::FileCut, "file-shrank"));
    let mut wire = self::wire();
    wire.send(&get("/gone"), usize::MAX);
    assert_eq!((wire.close, wire.log.0[0].bytes_down), (Some(Close::Reset), 0));
    let mut wire = self::wire();
    wire.send(&[get("/busy"), get("/a")].concat(), usize::MAX);
    assert_eq!((statuses(&wire), wire.log.0[0].end), (vec![503, 200], CloseReason::StoreBusy));
}

#[test]
fn request_bodies_are_dropped_and_the_next_request_is_found_behind_them() {
    let chunked =
        "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nGET /\r\n0\r\nX: y\r\n\r\n";
    let sized = "GET /b HTTP/1.1\r\nHost: a\r\nContent-Length: 19\r\n\r\nGET /c HTTP/1.1\r\n\r\n";
    let large = format!("PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n{}", "x".repeat(1_000_000));
    for step in [1, 20_000] {
        let mut wire = wire();
        for request in [chunked, sized, &large, "GET /a HTTP/1.1\r\nHost: a\r\n\r\n"] {
            wire.send(request.as_bytes(), step);
        }
        assert_eq!(statuses(&wire), [405, 200, 405, 200], "{step}");
        assert_eq!(wire.log.0[2].bytes_up, large.len() as u64);
        assert_eq!(wire.close, None);
    }
}

#[test]
fn a_body_over_the_limit_ends_the_connection_after_the_answer() {
    let mut wire = wire();
    wire.send(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1048577\r\n\r\n", usize::MAX);
    assert_eq!((statuses(&wire), wire.close), (vec![405], Some(Close::Linger)));
    assert!(wire.answers(&[])[0].has("Connection: close"));
    let mut wire = self::wire();
    wire.send(b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", usize::MAX);
    let chunk = ["8000\r\n".as_bytes(), &[b'x'; 0x8000], b"\r\n"].concat();
    let mut sent = 0;
    while wire.close.is_none() {
        sent += wire.send(&chunk, usize::MAX);
    }
    assert!((1_048_576..1_120_000).contains(&sent), "{sent}");
    assert_eq!((statuses(&wire), wire.close), (vec![405], Some(Close::Linger)));
}

#[test]
fn who_waits_for_100_gets_the_final_answer_and_the_end() {
    let mut wire = wire();
    wire.send(b"POST /a HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n", 1);
    assert_eq!((statuses(&wire), wire.close), (vec![405], Some(Close::Linger)));
    let mut wire = self::wire();
    wire.send(b"GET /a HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n", 1);
    assert_eq!((statuses(&wire), wire.close), (vec![200], None));
}

#[test]
fn a_malformed_body_is_refused_or_ends_the_connection() {
    let request = b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX";
    let mut whole = wire();
    whole.send(request, usize::MAX);
    assert_eq!((statuses(&whole), whole.close), (vec![400], Some(Close::Linger)));
    let mut pieces = wire();
    pieces.send(request, 1);
    assert_eq!((statuses(&pieces), pieces.close), (vec![405], Some(Close::Linger)));
    for wire in [whole, pieces] {
        let record = &wire.log.0[0];
        assert_eq!((record.end, record.detail), (CloseReason::BadRequestBody, "bad-chunk-end"));
        assert_eq!(record.part(Part::Host), b"a");
    }
}

#[test]
fn nothing_after_a_refused_or_last_request_is_answered() {
    for (first, status) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], 400),
        (b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 200),
        (b"GET /a HTTP/1.0\r\n\r\n", 200),
    ] {
        let mut wire = wire();
        wire.send(&[first, &get("/b")].concat(), usize::MAX);
        assert_eq!((statuses(&wire), wire.close), (vec![status], Some(Close::Linger)));
        assert_eq!(wire.log.0.len(), 1);
    }
}

#[test]
fn deadlines_of_a_client_that_says_nothing() {
    let mut silent = wire();
    assert_eq!(silent.wait(), 10);
    assert_eq!((silent.close, silent.log.0.len()), (Some(Close::Finish), 0));
    let mut idle = wire();
    idle.send(&get("/a"), usize::MAX);
    assert_eq!(idle.wait(), 75);
    assert_eq!((idle.close, idle.log.0.len()), (Some(Close::Finish), 1));
}

#[test]
fn a_head_must_be_whole_in_time_however_it_trickles() {
    for served in [false, true] {
        let mut wire = wire();
        if served {
            wire.send(&get("/b"), usize::MAX);
            wire.after(50 * SECOND);
        }
        wire.send(b"GET /a HT", 3);
        for byte in b"TP/" {
            wire.after(3 * SECOND);
            wire.send(&[*byte], 1);
            assert_eq!(wire.close, None);
        }
        assert_eq!(wire.wait(), 1);
        assert_eq!(wire.close, Some(Close::Linger));
        let record = wire.log.0.last().unwrap();
        assert_eq!((record.status, record.end, record.total), (408, CloseReason::ClientHeadTimeout, 10 * SECOND));
        assert_eq!((record.part(Part::Line), record.bytes_up), (&b"GET /a HTTP/"[..], 12));
    }
}

#[test]
fn a_deadline_that_meets_the_last_byte_does_not_count() {
    let mut wire = wire();
    let request = get("/a");
    wire.send(&request[..request.len() - 1], usize::MAX);
    wire.after(10 * SECOND);
    wire.send(b"\n", 1);
    assert_eq!((statuses(&wire), wire.close), (vec![200], None));
    wire.turn(true);
    assert_eq!(wire.close, None, "the loop's word is stale");
}

#[test]
fn a_stalled_body_ends_the_connection() {
    let mut wire = wire();
    wire.send(b"PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab", usize::MAX);
    assert_eq!(statuses(&wire), [405]);
    wire.after(29 * SECOND);
    wire.send(b"c", 1);
    assert_eq!(wire.wait(), 30);
    assert_eq!((wire.close, wire.log.0[0].end), (Some(Close::Linger), CloseReason::ClientBodyTimeout));
}

#[test]
fn a_client_that_does_not_read_is_reset_and_a_slow_one_is_not() {
    let mut wire = wire();
    wire.window = 10;
    wire.send(&get("/big"), usize::MAX);
    for _ in 0..5 {
        wire.wait();
        assert_eq!(wire.close, None);
    }
    wire.window = 0;
    wire.wait();
    assert_eq!(wire.wait(), 30);
    assert_eq!(wire.close, Some(Close::Reset));
    let record = &wire.log.0[0];
    assert_eq!((record.end, record.bytes_down), (CloseReason::ClientWriteTimeout, wire.received.len() as u64));
}

#[test]
fn clients_that_end_or_break() {
    // (what they sent, how they end) -> (statuses, close, reasons in the log)
    let half = b"GET /a HTTP".to_vec();
    let waiting = b"PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab".to_vec();
    use CloseReason::*;
    for (bytes, how, expected, close, reasons) in [
        (Vec::new(), Side::Ended, vec![], Close::Finish, vec![]),
        (Vec::new(), Side::Broken, vec![], Close::Finish, vec![]),
        (b"\r\n\r".to_vec(), Side::Ended, vec![], Close::Finish, vec![]),
        (half.clone(), Side::Ended, vec![], Close::Finish, vec![ClientClosed]),
        (half, Side::Broken, vec![], Close::Reset, vec![ClientReset]),
        (get("/a"), Side::Ended, vec![200], Close::Finish, vec![Done]),
        (get("/a"), Side::Broken, vec![200], Close::Finish, vec![Done]),
        (waiting.clone(), Side::Ended, vec![405], Close::Finish, vec![ClientClosed]),
        (waiting, Side::Broken, vec![405], Close::Reset, vec![ClientReset]),
    ] {
        let mut wire = wire();
        wire.send(&bytes, usize::MAX);
        wire.ends(how);
        assert_eq!((statuses(&wire), wire.close), (expected, Some(close)), "{} {how:?}", bytes.escape_ascii());
        assert_eq!(wire.log.0.iter().map(|record| record.end).collect::<Vec<_>>(), reasons);
    }
}

#[test]
fn who_ends_with_its_requests_still_gets_its_answers() {
    let mut wire = wire();
    wire.window = 0;
    wire.send(&[get("/a"), get("/big"), get("/b")].concat(), usize::MAX);
    wire.ends(Side::Ended);
    assert_eq!(wire.close, None);
    wire.window = usize::MAX;
    wire.turn(false);
    assert_eq!((statuses(&wire), wire.close), (vec![200, 200, 200], Some(Close::Finish)));
}

#[test]
fn the_drain_lets_exchanges_finish_and_idle_clients_go() {
    let mut idle = wire();
    idle.send(&get("/a"), usize::MAX);
    idle.drain = Drain::Finish;
    idle.turn(false);
    assert_eq!(idle.close, Some(Close::Finish));

    let mut late = wire();
    let request = get("/a");
    late.send(&request[..9], usize::MAX);
    late.drain = Drain::Finish;
    late.turn(false);
    assert_eq!(late.close, None, "a request on its way is awaited");
    late.send(&request[9..], usize::MAX);
    assert_eq!((statuses(&late), late.close), (vec![200], Some(Close::Finish)));
    assert!(late.answers(&[])[0].has("Connection: close"));

    let mut slow = wire();
    slow.window = 1;
    slow.send(&get("/big"), usize::MAX);
    slow.drain = Drain::Finish;
    slow.turn(false);
    assert_eq!(slow.close, None);
    slow.drain = Drain::Now;
    slow.turn(false);
    assert_eq!((slow.close, slow.log.0[0].end), (Some(Close::Reset), CloseReason::Drained));

    let mut early = wire();
    early.send(b"GET", usize::MAX);
    early.drain = Drain::Now;
    early.turn(false);
    assert_eq!((early.close, early.log.0[0].end), (Some(Close::Finish), CloseReason::Drained));
}

#[test]
fn an_idle_session_is_small_and_a_request_costs_few_calls() {
    assert!(size_of::<Session<()>>() <= 128, "{}", size_of::<Session<()>>());
    let mut wire = wire();
    wire.send(&get("/a"), usize::MAX);
    assert_eq!(wire.calls, 2, "one to answer, one to find that the answer was sent");
}
