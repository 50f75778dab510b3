//! Tests of the writer, with a target in memory that does as it is told, and a clock that stands where it is put.

use super::*;
use crate::access_log::format::Format;
use crate::access_log::ring::{RingLog, ring};
use crate::access_log::testing::{Answer::*, Fake, gaps, push, requests, torn};
use rustix::io::Errno;

const T0: Micros = 1_795_466_460_000_000;

fn writer(sink: &Fake, rings: usize, records: usize) -> (Writer<Fake>, Vec<RingLog>) {
    let (logs, outlets): (Vec<_>, Vec<_>) = (0..rings).map(|_| ring(records)).unzip();
    (Writer::new(sink.clone(), "test".into(), outlets, Formatter::new(Format::Pilb, &[]), T0), logs)
}

fn consistent(totals: LogTotals) -> bool {
    totals.produced == totals.written + totals.dropped + totals.write_failed
}

#[test]
fn a_quiet_log_is_written_each_round_and_rests_for_the_longest_pause() {
    let sink = Fake::new();
    let (mut writer, mut logs) = writer(&sink, 1, 64);
    assert_eq!(writer.round(T0), PARK_MAX);
    assert_eq!(sink.writes(), 0);
    push(&mut logs[0], 0..3);
    assert_eq!(writer.round(T0), PARK_MAX);
    assert_eq!((requests(&sink.held()), sink.writes()), (vec![0, 1, 2], 1));
    assert_eq!(writer.progress().read(), (3, 0));
    assert_eq!(writer.close(), LogTotals { produced: 3, written: 3, dropped: 0, write_failed: 0 });
}

#[test]
fn the_pause_follows_the_fullest_ring() {
    assert_eq!(pace(PARK_MAX, (0, 4096)), PARK_MAX);
    assert_eq!(pace(PARK_MAX, (1024, 4096)), PARK_MAX);
    assert_eq!(pace(PARK_MAX, (4096, 4096)), PARK_MAX / 4);
    assert_eq!(pace(10_000, (2048, 4096)), 5_000);
    assert_eq!(pace(10_000, (768, 4096)), 13_333);
    assert_eq!(pace(10_000, (0, 4096)), 20_000);
    assert_eq!(pace(PARK_MIN, (4096, 4096)), PARK_MIN);
    let (mut writer, mut logs) = writer(&Fake::new(), 2, 100);
    push(&mut logs[0], 0..10);
    push(&mut logs[1], 0..50);
    assert_eq!(writer.round(T0), PARK_MAX / 2);
}

#[test]
fn a_busy_log_is_written_in_batches_of_whole_lines() {
    let sink = Fake::new();
    let (mut writer, mut logs) = writer(&sink, 1, 4096);
    push(&mut logs[0], 0..2000);
    assert!(writer.finish(T0));
    let sizes = sink.sizes();
    let (last, full) = sizes.split_last().unwrap();
    assert!(full.len() >= 4 && full.iter().all(|size| (BATCH..2 * BATCH).contains(size)), "{sizes:?}");
    assert!(*last > 0);
    let mut end = 0;
    for size in &sizes {
        end += size;
        assert_eq!(sink.held()[end - 1], b'\n');
    }
    assert_eq!(requests(&sink.held()), Vec::from_iter(0..2000));
}

#[test]
fn between_short_pauses_lines_are_gathered_but_not_for_longer_than_the_longest_pause() {
    let sink = Fake::new();
    let (mut writer, mut logs) = writer(&sink, 1, 40);
    push(&mut logs[0], 0..40);
    let park = writer.round(T0);
    assert_eq!((park, sink.writes()), (PARK_MAX / 4, 0));
    push(&mut logs[0], 40..50);
    assert_eq!((writer.round(T0 + park), sink.writes()), (park, 0));
    push(&mut logs[0], 50..60);
    assert_eq!((writer.round(T0 + 3 * park), sink.writes()), (park, 1));
    assert_eq!(requests(&sink.held()).len(), 60);
    push(&mut logs[0], 60..70);
    assert_eq!((writer.round(T0 + 4 * park), sink.writes()), (park, 1));
    // A clock that was set back does not keep lines waiting.
    push(&mut logs[0], 70..80);
    assert_eq!((writer.round(T0 - 3600 * SECOND), sink.writes()), (park, 2));
    assert_eq!(requests(&sink.held()).len(), 80);
}

#[test]
fn rings_take_turns() {
    let sink = Fake::new();
    let (mut writer, mut logs) = writer(&sink, 2, 1000);
    push(&mut logs[0], 0..1000);
    push(&mut logs[1], 1000..1010);
    assert!(writer.finish(T0));
    let order = requests(&sink.held());
    assert_eq!(order[PER_TURN..PER_TURN + 10], Vec::from_iter(1000..1010));
    assert_eq!(order.len(), 1010);
}

#[test]
fn short_writes_and_interruptions_change_nothing() {
    let (plain, choppy) = (Fake::new(), Fake::new());
    choppy.plan((0..300).map(|n| if n % 3 == 0 { Fail(Errno::INTR) } else { Take(n % 40 + 1) }));
    for sink in [&plain, &choppy] {
        let (mut writer, mut logs) = writer(sink, 1, 256);
        push(&mut logs[0], 0..40);
        writer.round(T0);
        assert_eq!(writer.close().written, 40);
    }
    assert_eq!(plain.held(), choppy.held());
    assert!(choppy.writes() > 100);
}

#[test]
fn a_target_that_is_full_just_now_gets_the_rest_later() {
    let sink = Fake::unreadable();
    let (mut writer, mut logs) = writer(&sink, 1, 64);
    sink.plan([Take(300), Full, Full, Take(1), Full]);
    push(&mut logs[0], 0..4);
    writer.round(T0);
    assert_eq!(
        (sink.held().len(), writer.health.why(), writer.progress().read()),
        (300, "not read fast enough", (1, 0))
    );
    assert!(!writer.finish(T0));
    push(&mut logs[0], 4..5);
    writer.round(T0);
    assert!(writer.finish(T0));
    assert_eq!(requests(&sink.held()), [0, 1, 2, 3, 4]);
    assert!(torn(&sink.held()).is_empty());
}

#[test]
fn a_pipe_that_is_read_is_tried_again_soon_and_one_that_is_not_seldom() {
    let sink = Fake::unreadable();
    let (mut writer, mut logs) = writer(&sink, 1, 64);
    sink.plan([Take(300), Full, Full, Full, Take(1), Full]);
    sink.plan([Full; 9]);
    push(&mut logs[0], 0..4);
    let pauses: Vec<_> = (0..11).map(|_| writer.round(T0) / PARK_MIN).collect();
    assert_eq!(pauses, [1, 2, 4, 1, 2, 4, 8, 16, 25, 25, 25]);
}

#[test]
fn a_failing_target_keeps_what_fits_and_the_gap_line_tells_the_rest() {
    let sink = Fake::new();
    let (mut writer, mut logs) = writer(&sink, 1, 256);
    writer.keep = 2000;
    sink.plan([Fail(Errno::NOSPC); 3]);
    push(&mut logs[0], 0..3);
    writer.round(T0);
    push(&mut logs[0], 3..30);
    assert!(writer.finish(T0), "an end should not wait for a broken target");
    let kept = writer.pending.lines();
    assert!((5..30).contains(&kept), "{kept}");
    assert_eq!(writer.write_failed, 30 - kept as u64);
    push(&mut logs[0], 30..31);
    writer.round(T0 + 1);
    assert!(sink.held().is_empty());
    push(&mut logs[0], 31..32);
    writer.round(T0 + 2);
    push(&mut logs[0], 32..33);
    writer.round(T0 + 3);
    let mut expected = Vec::from_iter(0..kept as u64);
    expected.push(32);
    assert_eq!(requests(&sink.held()), expected);
    let text = String::from_utf8(sink.held()).unwrap();
    let lost = 32 - kept;
    let gap = text.lines().nth(kept).unwrap();
    assert!(gap.starts_with(&format!("# 2026-11-23T20:41:00.000Z gap: {lost} lines lost between ")), "{gap}");
    assert!(gap.ends_with(&format!(": ring-full 0, write-failed {lost}: No space left on device")), "{gap}");
    let totals = writer.close();
    assert_eq!((totals.produced, totals.write_failed), (33, lost as u64));
    assert!(consistent(totals));
}

#[test]
fn a_line_cut_by_a_failure_is_continued_where_the_target_can_be_read() {
    let sink = Fake::new();
    let (mut writer, mut logs) = writer(&sink, 1, 64);
    sink.plan([Take(300), Fail(Errno::NOSPC), Fail(Errno::NOSPC), Take(5), Fail(Errno::NOSPC)]);
    push(&mut logs[0], 0..4);
    for _ in 0..4 {
        writer.round(T0);
    }
    assert_eq!((requests(&sink.held()), torn(&sink.held()).len()), (vec![0, 1, 2, 3], 0));
    assert_eq!(writer.close().written, 4);
}

#[test]
fn a_line_cut_by_a_failure_begins_again_where_the_target_was_emptied_or_added_to() {
    for (between, whole) in [(b"".as_slice(), 3), (b"somebody else's\n", 3), (b"half a li", 3)] {
        let sink = Fake::new();
        let (mut writer, mut logs) = writer(&sink, 1, 64);
        sink.plan([Take(300), Fail(Errno::NOSPC)]);
        push(&mut logs[0], 0..4);
        writer.round(T0);
        sink.replace(between);
        writer.round(T0);
        let rest = sink.held();
        let rest = rest.strip_prefix(between).unwrap();
        let rest = if between.ends_with(b"li") { rest.strip_prefix(b"\n").unwrap() } else { rest };
        assert_eq!((requests(rest).len(), torn(rest).len()), (whole, 0), "{}", String::from_utf8_lossy(rest));
        assert_eq!(writer.close().written, 4);
    }
}

#[test]
fn a_line_cut_by_a_failure_begins_again_on_a_line_of_its_own_where_the_target_cannot_be_read() {
    let sink = Fake::unreadable();
    let (mut writer, mut logs) = writer(&sink, 1, 64);
    sink.plan([Take(300), Fail(Errno::PIPE), Fail(Errno::PIPE)]);
    push(&mut logs[0], 0..4);
    for _ in 0..3 {
        writer.round(T0);
    }
    assert_eq!((requests(&sink.held()), torn(&sink.held()).len()), (vec![0, 1, 2, 3], 1));
    assert_eq!(sink.held()[300], b'\n');
    push(&mut logs[0], 4..5);
    writer.round(T0);
    assert_eq!((requests(&sink.held()).len(), torn(&sink.held()).len()), (5, 1));
    assert_eq!(writer.close().written, 5);
}

#[test]
fn a_failed_write_that_took_some_bytes_nonetheless_does_not_merge_lines() {
    let sink = Fake::new();
    let (mut writer, mut logs) = writer(&sink, 1, 64);
    sink.plan([Swallow(300, Errno::IO)]);
    push(&mut logs[0], 0..2);
    writer.round(T0);
    writer.round(T0);
    assert_eq!((requests(&sink.held()), torn(&sink.held()).len()), (vec![0, 0, 1], 1));
}

#[test]
fn a_torn_line_of_an_earlier_process_is_ended_first() {
    for (old, begin) in [(b"2026-11-2".as_slice(), b"2026-11-2\n2".as_slice()), (b"whole\n", b"whole\n2"), (b"", b"2")]
    {
        let sink = Fake::new();
        sink.replace(old);
        let (mut writer, mut logs) = writer(&sink, 1, 64);
        push(&mut logs[0], 0..1);
        writer.round(T0);
        assert!(sink.held().starts_with(begin));
    }
}

#[test]
fn a_full_ring_is_told_of_at_once_and_then_once_a_second() {
    let sink = Fake::new();
    let (mut writer, mut logs) = writer(&sink, 2, 4);
    let mut at = T0;
    for step in 0..8 {
        push(&mut logs[0], step * 10..step * 10 + 7);
        push(&mut logs[1], 0..0);
        writer.round(at);
        at += SECOND / 4;
    }
    assert_eq!(gaps(&sink.held()), [(3, 0), (12, 0)]);
    let text = String::from_utf8(sink.held()).unwrap();
    assert!(text.contains(" 12 lines lost between 2026-11-23T20:41:00.000Z and 2026-11-23T20:41:01.000Z: "), "{text}");
    assert!(writer.finish(at));
    assert_eq!(gaps(&sink.held()), [(3, 0), (12, 0), (9, 0)]);
    let text = String::from_utf8(sink.held()).unwrap();
    assert!(text.contains(" 9 lines lost between 2026-11-23T20:41:01.000Z and 2026-11-23T20:41:01.750Z: "), "{text}");
    assert_eq!(writer.close(), LogTotals { produced: 56, written: 32, dropped: 24, write_failed: 0 });
}

#[test]
fn reopening_finishes_the_old_file_and_begins_the_new_one_with_a_whole_line() {
    let sink = Fake::new();
    let (mut writer, mut logs) = writer(&sink, 1, 64);
    push(&mut logs[0], 0..2);
    writer.round(T0);
    push(&mut logs[0], 2..4);
    writer.reopen(T0);
    push(&mut logs[0], 4..6);
    sink.plan([Take(100), Fail(Errno::NOSPC), Fail(Errno::NOSPC)]);
    writer.round(T0);
    writer.reopen(T0);
    let files = sink.files();
    assert_eq!(requests(&files[0]), [0, 1, 2, 3]);
    assert_eq!((requests(&files[1]).len(), torn(&files[1]).len()), (0, 1));
    assert_eq!((requests(&files[2]), torn(&files[2]).len()), (vec![4, 5], 0));
    assert_eq!(files[2][0], b'2');
    sink.refuse_to_reopen();
    writer.reopen(T0);
    push(&mut logs[0], 6..7);
    writer.round(T0);
    assert_eq!(requests(&sink.held()), [4, 5, 6]);
    assert_eq!(writer.close().written, 7);
}

#[test]
fn records_that_come_after_the_last_round_count_as_dropped() {
    let sink = Fake::new();
    let (mut writer, mut logs) = writer(&sink, 1, 64);
    push(&mut logs[0], 0..2);
    assert!(writer.finish(T0));
    push(&mut logs[0], 2..5);
    assert_eq!(writer.close(), LogTotals { produced: 5, written: 2, dropped: 3, write_failed: 0 });
}

/// Whatever the target does: each record is exactly one of written, dropped, failed; what is written is there whole and once;
/// and the gap lines account for every loss that they could still tell of.
#[test]
fn nothing_is_lost_uncounted_under_a_random_target() {
    for seed in 0..200 {
        let sink = Fake::new();
        let (mut writer, mut logs) = writer(&sink, 3, 16);
        writer.keep = 4000;
        let mut random = fastrand_like(seed);
        let (mut produced, mut at) = (0, T0);
        for _ in 0..60 {
            for log in &mut logs {
                let n = random() % 24;
                push(log, produced..produced + n);
                produced += n;
            }
            sink.plan((0..random() % 3).map(|_| match random() % 4 {
                0 => Full,
                1 => Fail(Errno::NOSPC),
                2 => Fail(Errno::INTR),
                _ => Take((random() % 3000) as usize),
            }));
            at += random() % SECOND;
            match random() % 20 {
                0 => writer.reopen(at),
                1 => drop(writer.finish(at)),
                _ => drop(writer.round(at)),
            }
        }
        let at_rest = random() % 2 == 1;
        if at_rest {
            sink.heal();
            assert!(writer.finish(at));
        }
        let totals = writer.close();
        assert!(consistent(totals) && totals.produced == produced, "seed {seed}: {totals:?}");
        let files = sink.files();
        let mut seen: Vec<u64> = files.iter().flat_map(|file| requests(file)).collect();
        assert_eq!(seen.len() as u64, totals.written, "seed {seed}");
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len() as u64, totals.written, "seed {seed}");
        // A line may end in a file that was renamed while it failed, nowhere else.
        for file in &files {
            let ended = file.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            assert!(torn(&file[..ended]).is_empty(), "seed {seed}");
        }
        if at_rest {
            let told = files.iter().flat_map(|file| gaps(file)).fold((0, 0), |sum, gap| (sum.0 + gap.0, sum.1 + gap.1));
            assert_eq!(told, (totals.dropped, totals.write_failed), "seed {seed}");
        }
    }
}

/// A sequence of numbers that only its seed decides.
fn fastrand_like(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    }
}
