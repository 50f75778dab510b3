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
/// The longest pause between two rounds. A record waits in its ring for one at most, and its line for one more. A longer one would
/// not do: the load may come out of nothing, and in this time 160 000 requests a second do not fill a ring.
pub const PARK_MAX: Micros = 25_000;
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
/// So there is room for a burst of four times the load, and a quiet log costs next to nothing. A lull may be a worker's stumble, so
/// the pause grows by steps.
fn pace(park: Micros, (records, room): (usize, usize)) -> Micros {
    (park * room as u64 / (4 * records.max(1) as u64)).min(2 * park).clamp(PARK_MIN, PARK_MAX)
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
mod tests;
