//! The one who writes: takes records from all rings, renders them, and gets the lines to the target whatever it does.
//!
//! A [`Writer`] has no thread and no clock of its own; [`crate::access_log::start`] gives it both.

use crate::access_log::format::Formatter;
use crate::access_log::gap::Gap;
use crate::access_log::pending::Pending;
use crate::access_log::ring::RingOutlet;
use crate::access_log::sink::{Sink, reason};
use crate::base::Micros;
use crate::base::time::SECOND;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Lines are written when there are this many bytes of them, or when the oldest would otherwise have to wait for too long.
const BATCH: usize = 64 * 1024;
/// Bytes of lines that are kept while the target takes nothing. Later ones are lost.
const KEEP: usize = 1024 * 1024;
/// Records taken from one ring before it is the next one's turn.
const PER_TURN: usize = 64;
/// The longest pause between two rounds. A record waits in its ring for one at most, and its line for one more:
/// it is in the file after 100 ms.
pub const PARK_MAX: Micros = 50_000;
const PARK_MIN: Micros = 1_000;

/// What became of the records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogTotals {
    /// Records handed over by the workers.
    pub produced: u64,
    /// Lines that the target has taken whole.
    pub written: u64,
    /// Records that found their worker's ring full, or came after the writer had left.
    pub dropped: u64,
    /// Records that were taken from a ring but could not be written.
    pub write_failed: u64,
}

/// The writer's counters, for others to see.
#[derive(Debug, Default)]
pub struct Progress {
    written: AtomicU64,
    write_failed: AtomicU64,
}

impl Progress {
    /// Lines written, and records that could not be.
    pub fn read(&self) -> (u64, u64) {
        (self.written.load(Relaxed), self.write_failed.load(Relaxed))
    }
}

/// How the target took the last write.
#[derive(Debug, PartialEq, Eq)]
enum Health {
    Good,
    /// It is full until somebody reads. Worth trying again after a pause.
    NotNow {
        retry: Micros,
    },
    /// It answered with this error.
    Failing(String),
}

impl Health {
    fn why(&self) -> &str {
        match self {
            Health::Good => "",
            Health::NotNow { .. } => "not read fast enough",
            Health::Failing(why) => why,
        }
    }
}

/// Gets records from the rings to the target.
#[derive(Debug)]
pub struct Writer<S> {
    sink: S,
    /// What the target is called in messages.
    name: String,
    rings: Vec<RingOutlet>,
    formatter: Formatter,
    pending: Pending,
    /// [`KEEP`], but less in tests.
    keep: usize,
    health: Health,
    /// The target's end has to be looked at before the next write: it may be within a line.
    unsure: bool,
    /// A line end is owed before the next line: the target ends within a line that will not be continued.
    owes_newline: bool,
    /// Lost, and not yet told of in the log.
    gap: Gap,
    /// When it was last told.
    told: Micros,
    /// Since when the oldest pending line has been waiting.
    waiting: Option<Micros>,
    last_round: Micros,
    park: Micros,
    written: u64,
    write_failed: u64,
    progress: Arc<Progress>,
}

impl<S: Sink> Writer<S> {
    /// A writer that begins its work at `now`, as all moments here in Unix time.
    pub fn new(sink: S, name: String, rings: Vec<RingOutlet>, formatter: Formatter, now: Micros) -> Self {
        Writer {
            sink,
            name,
            rings,
            formatter,
            pending: Pending::default(),
            keep: KEEP,
            health: Health::Good,
            unsure: true,
            owes_newline: false,
            gap: Gap::default(),
            told: 0,
            waiting: None,
            last_round: now,
            park: PARK_MAX,
            written: 0,
            write_failed: 0,
            progress: Arc::default(),
        }
    }

    /// Counters that follow the work.
    pub fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    /// One round: empties the rings, and writes if it is time to. Returns how long to pause before the next one.
    pub fn round(&mut self, now: Micros) -> Micros {
        self.collect(now);
        // A log that loses lines all the time tells so once a second.
        if now.abs_diff(self.told) >= SECOND {
            self.tell(now);
        }
        if self.is_due(now) {
            let well = self.flush();
            if well && self.gap.lost() > 0 && now.abs_diff(self.told) >= SECOND {
                self.tell(now);
                self.flush();
            }
        }
        if let Health::NotNow { retry } = self.health {
            self.park = self.park.min(retry);
        }
        self.publish();
        self.park
    }

    /// Writes what there is, then opens the target again by its name. If that fails, goes on with the old one.
    pub fn reopen(&mut self, now: Micros) {
        self.write_all(now);
        match self.sink.reopen() {
            Ok(()) => {
                // What the old target did not take goes to the new one, from the beginning of a line on.
                self.unsure = true;
                self.write_all(now);
            }
            Err(error) => {
                log::error!(
                    "access log {}: cannot open it again: {}; going on in the old file",
                    self.name,
                    reason(&error)
                );
            }
        }
        self.publish();
    }

    /// A last round before [`Writer::close`]. False if another one may help: the target is only full just now.
    pub fn finish(&mut self, now: Micros) -> bool {
        self.write_all(now);
        self.publish();
        !matches!(self.health, Health::NotNow { .. })
    }

    /// Ends the work: what has not been written is lost.
    pub fn close(mut self) -> LogTotals {
        self.write_failed += self.pending.abandon();
        self.publish();
        let mut totals = LogTotals { written: self.written, write_failed: self.write_failed, ..LogTotals::default() };
        for ring in &self.rings {
            let (queued, dropped) = ring.counts().read();
            // A worker that is still at work may have queued a record since, or not have counted its last one yet.
            let queued = queued.max(ring.taken());
            totals.produced += queued + dropped;
            totals.dropped += queued - ring.taken() + dropped;
        }
        totals
    }

    fn write_all(&mut self, now: Micros) {
        self.collect(now);
        self.tell(now);
        // After the lines that were kept comes what was lost behind them.
        if self.flush() && self.gap.lost() > 0 {
            self.tell(now);
            self.flush();
        }
    }

    /// Renders all records that are in the rings now, writing whenever a batch is full.
    fn collect(&mut self, now: Micros) {
        let mut fullest = (0, 1);
        for ring in &mut self.rings {
            fullest = fullest.max((ring.begin(), ring.capacity()));
        }
        self.park = pace(self.park, fullest);
        let mut tried_in_vain = false;
        let mut more = true;
        while more {
            more = false;
            for index in 0..self.rings.len() {
                more |= self.take_from(index);
                if self.pending.len() >= BATCH && !tried_in_vain {
                    tried_in_vain = !self.flush();
                }
            }
        }
        self.notice_drops(now);
        if !self.pending.is_empty() {
            self.waiting.get_or_insert(now);
        }
    }

    /// One ring's turn. False if it has nothing left for this round.
    fn take_from(&mut self, index: usize) -> bool {
        let Writer { rings, pending, keep, formatter, gap, health, write_failed, .. } = self;
        let taken = rings[index].take(PER_TURN, |record| {
            if pending.len() < *keep {
                pending.push(true, |out| formatter.render(record, out));
            } else {
                *write_failed += 1;
                gap.add_write_failed(record.unix, health.why());
            }
        });
        taken == PER_TURN
    }

    fn notice_drops(&mut self, now: Micros) {
        let dropped: u64 = self.rings.iter_mut().map(RingOutlet::new_drops).sum();
        if dropped > 0 {
            self.gap.add_ring_full(dropped, self.last_round, now);
        }
        self.last_round = now;
    }

    /// Puts what was lost into the log, if the target takes lines: while it does not, more may be lost.
    fn tell(&mut self, now: Micros) {
        if self.gap.lost() == 0 || self.health != Health::Good {
            return;
        }
        let gap = std::mem::take(&mut self.gap);
        log::warn!(
            "access log {}: lost lines: ring-full {}, write-failed {}",
            self.name,
            gap.ring_full,
            gap.write_failed
        );
        self.pending.push(false, |out| self.formatter.render_gap(&gap, now, out));
        self.waiting.get_or_insert(now);
        self.told = now;
    }

    fn is_due(&self, now: Micros) -> bool {
        // The wall clock may have been set back; then the line has waited for who knows how long.
        let waits_too_long = |since: Micros| now.abs_diff(since) + self.park >= PARK_MAX;
        self.health != Health::Good || self.waiting.is_some_and(waits_too_long)
    }

    /// Writes everything that is pending. False if the target did not take it all.
    fn flush(&mut self) -> bool {
        if self.pending.is_empty() {
            return true;
        }
        if self.unsure {
            self.look_at_the_end();
        }
        let before = self.pending.position();
        match self.write_pending() {
            Ok(()) => {
                if let Health::Failing(_) = self.health {
                    log::warn!("access log {}: writing again", self.name);
                }
                self.health = Health::Good;
                self.waiting = None;
                true
            }
            Err(error) => {
                self.note_failure(&error, self.pending.position() > before);
                false
            }
        }
    }

    fn write_pending(&mut self) -> io::Result<()> {
        if self.owes_newline {
            write_some(&mut self.sink, b"\n")?;
            self.owes_newline = false;
        }
        while !self.pending.is_empty() {
            let n = write_some(&mut self.sink, self.pending.unsent())?;
            self.written += self.pending.advance(n);
            // The next write may block for good; whoever ends the process then wants to know how far this came.
            self.publish();
        }
        Ok(())
    }

    fn note_failure(&mut self, error: &io::Error, took_some: bool) {
        if error.kind() == io::ErrorKind::WouldBlock {
            // A pipe is small: one that is being read is soon empty again, one that is not need not be asked often.
            let retry = match self.health {
                Health::NotNow { retry } if !took_some => PARK_MAX.min(2 * retry),
                _ => PARK_MIN,
            };
            // The other end has the beginning of the line and will get the rest.
            self.health = Health::NotNow { retry };
            return;
        }
        let why = reason(error);
        if !matches!(&self.health, Health::Failing(before) if *before == why) {
            log::warn!("access log {}: cannot write: {why}; keeping 1 MiB of lines, later ones are lost", self.name);
        }
        self.health = Health::Failing(why);
        self.unsure = true;
    }

    /// Decides how to go on where it is not sure that the target ends with what was written last: it may be an old file
    /// with a torn end, a new one, one that was emptied to make room, or have swallowed an unknown part of a failed write.
    fn look_at_the_end(&mut self) {
        self.unsure = false;
        let begun = self.pending.sent().len();
        match self.sink.tail(begun.max(1)) {
            // It ends with the part of the line that was written: the rest can follow.
            Some(tail) if begun > 0 && tail == self.pending.sent() => {}
            Some(tail) => {
                self.pending.rewind();
                self.owes_newline = tail.last().is_some_and(|byte| *byte != b'\n');
            }
            None => self.owes_newline |= self.pending.rewind(),
        }
    }

    fn publish(&self) {
        self.progress.written.store(self.written, Relaxed);
        self.progress.write_failed.store(self.write_failed, Relaxed);
    }
}

/// The next pause: so long that the fullest ring, which now holds `(records, of so many)`, will be a quarter full after it.
/// So there is room for a burst of four times the load, and a quiet log costs next to nothing.
fn pace(park: Micros, (records, room): (usize, usize)) -> Micros {
    (park * room as u64 / (4 * records.max(1) as u64)).clamp(PARK_MIN, PARK_MAX)
}

/// Writes at least one byte.
fn write_some<S: Sink>(sink: &mut S, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match sink.write(bytes) {
            Ok(0) => return Err(io::Error::new(io::ErrorKind::WriteZero, "it takes nothing")),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
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
        assert_eq!(pace(10_000, (512, 4096)), 20_000);
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
        assert_eq!(pauses, [1, 2, 4, 1, 2, 4, 8, 16, 32, 50, 50]);
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
        for (old, begin) in
            [(b"2026-11-2".as_slice(), b"2026-11-2\n2".as_slice()), (b"whole\n", b"whole\n2"), (b"", b"2")]
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
        assert!(
            text.contains(" 12 lines lost between 2026-11-23T20:41:00.000Z and 2026-11-23T20:41:01.000Z: "),
            "{text}"
        );
        assert!(writer.finish(at));
        assert_eq!(gaps(&sink.held()), [(3, 0), (12, 0), (9, 0)]);
        let text = String::from_utf8(sink.held()).unwrap();
        assert!(
            text.contains(" 9 lines lost between 2026-11-23T20:41:01.000Z and 2026-11-23T20:41:01.750Z: "),
            "{text}"
        );
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
                let told =
                    files.iter().flat_map(|file| gaps(file)).fold((0, 0), |sum, gap| (sum.0 + gap.0, sum.1 + gap.1));
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
}
