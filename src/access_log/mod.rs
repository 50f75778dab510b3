//! L4: the access log: one line for each exchange, and for each request that was refused or never completed.
//!
//! ```text
//!  worker ─record─▶ [ ring ] ─┐
//!  worker ─record─▶ [ ring ] ─┼─▶ writer thread: render ▸ [ pending lines ] ─write─▶ file, FIFO or stdout
//!  worker ─record─▶ [ ring ] ─┘
//! ```
//!
//! A worker copies its record into its ring and goes on; if the ring is full, the record is dropped and counted. The writer
//! comes by every 50 ms, or so often that the rings stay three quarters empty, and writes every 64 KiB or when a line has
//! waited for 50 ms. Nothing that the target does reaches a worker. While the target fails, 1 MiB of lines is kept and tried again
//! each round; what comes after that is lost. As soon as it works again, a *gap line* tells how many lines are missing, from
//! when to when and why. A line is never torn or merged: after a failure the writer looks where the file ends and goes on there,
//! or on a new line. Lines of one worker are in order; those of several workers are interleaved in batches.
//!
//! # The formats
//!
//! All times are UTC. Bytes of the request are hostile: those that are not printable ASCII, the double quote and the backslash
//! are written as `\xHH`; in bare columns the space too. So every line is one line of ASCII, and only the proxy's
//! own quotes are quotes. What was too long to be kept whole ends in `...`; what is not there is `-`.
//!
//! `pilb`, the default, reads like a sentence: *at this time, this client got 200, done, from example.org…*
//!
//! ```text
//! 2026-11-23T20:41:00.123Z 192.0.2.7 200 done host=example.org upstream=10.0.0.3:8080 attempts=1 up=312B down=5120B wait_head=12us connect=0us first_byte=1840us total=2210us reused=both "GET /index.html HTTP/1.1"
//! 2026-11-23T20:41:00.456Z 198.51.100.9 400 bad-request(bare-lf) host=- upstream=- attempts=0 up=40B down=178B wait_head=8us connect=0us first_byte=0us total=31us reused=none "GET / HTTP/1.1"
//! 2026-11-23T20:41:10.789Z 198.51.100.9 408 client-head-timeout host=- upstream=- attempts=0 up=0B down=178B wait_head=0us connect=0us first_byte=0us total=10000210us reused=none -
//! # 2026-11-23T20:41:12.000Z gap: 17 lines lost between 2026-11-23T20:41:11.950Z and 2026-11-23T20:41:12.000Z: ring-full 17, write-failed 0
//! ```
//!
//! Fifteen columns with one space between them, so that `cut -d' '` and `awk` can split them: time, client, status (`-` if
//! none was sent), how it ended (a word of [`CloseReason`](crate::engine::CloseReason), and in parentheses what exactly was wrong),
//! ten that say their names, and last the request line in double quotes, the only column that may have spaces in it. `up` and `down` are bytes from and to
//! the client with their heads; `reused` names the connections that had served before: `none`, `client`, `upstream`, `both`.
//! `wait_head` runs from the first byte of the head to its last, `connect` and `first_byte` from there to a connection
//! to the server and to the first byte of its answer, `total` from the first byte of the head to the last of the answer.
//! Lines that begin with `#` are comments: the gaps.
//!
//! `combined` is what Apache and nginx write, for GoAccess, AWStats and their like. The size is the body's, `-` for none, as is the status.
//! A gap is a line of valid syntax that names neither client nor request, so that no analyser takes it for a visit.
//!
//! ```text
//! 192.0.2.7 - - [23/Nov/2026:20:41:00 +0000] "GET /index.html HTTP/1.1" 200 5000 "http://example.org/" "curl/8.5"
//! - - - [23/Nov/2026:20:41:12 +0000] "-" - - "-" "pilb gap: 17 lines lost between … and …: ring-full 17, write-failed 0"
//! ```
//!
//! `json` has one object per line, always with the same keys in the same order. What is not there is `null`; a string's value is the text, escapes
//! included, that the other formats show. A gap is an object with the keys `time` and `gap`.
//!
//! ```text
//! {"time":"2026-11-23T20:41:00.123Z","client":"192.0.2.7","status":200,"end":"done","detail":null,"request":"GET /index.html HTTP/1.1","host":"example.org","referer":null,"agent":"curl/8.5","upstream":"10.0.0.3:8080","attempts":1,"bytes_up":312,"bytes_down":5120,"bytes_down_head":120,"wait_head_us":12,"connect_us":0,"first_byte_us":1840,"total_us":2210,"client_reused":true,"upstream_reused":true}
//! {"time":"2026-11-23T20:41:12.000Z","gap":{"lost":17,"from":"2026-11-23T20:41:11.950Z","to":"2026-11-23T20:41:12.000Z","ring_full":17,"write_failed":0,"why":null}}
//! ```

pub mod format;
pub mod gap;
pub mod pending;
pub mod ring;
pub mod sink;
#[cfg(test)]
mod testing;
mod text;
pub mod writer;

pub use format::{Format, Formatter};
pub use ring::RingLog;
pub use writer::LogTotals;

use crate::base::Micros;
use ring::{Counts, RECORDS, RingOutlet, ring};
use sink::{FileSink, Sink};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use writer::{PARK_MAX, Progress, Writer};

/// How long [`LogHandle::stop`] should usually wait for a target that takes nothing.
pub const STOP_DEADLINE: Duration = Duration::from_secs(2);
/// Pause between two tries to write the rest at the end.
const RETRY: Duration = Duration::from_millis(5);
/// What the handle waits beyond the deadline for a writer that is just giving up.
const GRACE: Duration = Duration::from_millis(100);

/// Where the lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A file, created if missing and appended to, or a FIFO.
    File(PathBuf),
    Stdout,
    /// Nowhere: records are neither kept nor counted.
    Off,
}

/// What to log, and how.
#[derive(Clone, Debug)]
pub struct LogSetup {
    pub target: Target,
    pub format: Format,
    /// The servers' names, in the order of their numbers.
    pub servers: Vec<String>,
}

/// Opens the target and starts the writer. Returns its handle and a log for each worker.
///
/// The target is opened here: if it cannot be, nothing is started, and the error tells the path and what to do.
pub fn start(setup: LogSetup, workers: usize) -> io::Result<(LogHandle, Vec<RingLog>)> {
    let LogSetup { target, format, servers } = setup;
    let (sink, name) = match target {
        Target::File(path) => (FileSink::open(&path)?, path.display().to_string()),
        Target::Stdout => (FileSink::stdout()?, "stdout".to_owned()),
        Target::Off => return Ok((LogHandle(None), (0..workers).map(|_| RingLog::off()).collect())),
    };
    launch(sink, name, Formatter::new(format, &servers), workers, RECORDS)
}

/// [`start`] with any sink, and rings for `records` records.
pub fn launch<S: Sink + Send + 'static>(
    sink: S,
    name: String,
    formatter: Formatter,
    workers: usize,
    records: usize,
) -> io::Result<(LogHandle, Vec<RingLog>)> {
    let (logs, outlets): (Vec<RingLog>, Vec<RingOutlet>) = (0..workers).map(|_| ring(records)).unzip();
    let counts = outlets.iter().map(|outlet| Arc::clone(outlet.counts())).collect();
    let writer = Writer::new(sink, name, outlets, formatter, unix_now());
    let progress = writer.progress();
    let (commands, orders) = channel();
    let (report, totals) = channel();
    thread::Builder::new().name("pilb-log".to_owned()).spawn(move || {
        // If nobody waits for the totals, nobody wants them.
        let _ = report.send(work(writer, &orders));
    })?;
    Ok((LogHandle(Some(Running { commands, totals, counts, progress })), logs))
}

#[derive(Debug)]
enum Command {
    Reopen,
    Stop { until: Instant },
}

/// The writer thread's life. The pause between two rounds ends early when a command comes.
fn work<S: Sink>(mut writer: Writer<S>, orders: &Receiver<Command>) -> LogTotals {
    let mut park: Micros = PARK_MAX;
    let until = loop {
        match orders.recv_timeout(Duration::from_micros(park)) {
            Err(RecvTimeoutError::Timeout) => park = writer.round(unix_now()),
            Ok(Command::Reopen) => writer.reopen(unix_now()),
            Ok(Command::Stop { until }) => break until,
            Err(RecvTimeoutError::Disconnected) => break Instant::now(),
        }
    };
    while !writer.finish(unix_now()) && Instant::now() < until {
        thread::sleep(RETRY);
    }
    writer.close()
}

fn unix_now() -> Micros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_micros() as Micros
}

/// The running log, for the main thread. If it is dropped without [`LogHandle::stop`], the writer writes what it has and ends.
#[derive(Debug)]
pub struct LogHandle(Option<Running>);

#[derive(Debug)]
struct Running {
    commands: Sender<Command>,
    totals: Receiver<LogTotals>,
    counts: Vec<Arc<Counts>>,
    progress: Arc<Progress>,
}

impl LogHandle {
    /// Has the target opened again by its name, after it was renamed: what came before goes to the old file. Does not wait.
    pub fn reopen(&self) {
        if let Some(running) = &self.0 {
            // Without a writer there is nothing to reopen.
            let _ = running.commands.send(Command::Reopen);
        }
    }

    /// The counts so far. What is on its way is already among the produced, and nowhere else yet.
    pub fn totals(&self) -> LogTotals {
        let Some(running) = &self.0 else { return LogTotals::default() };
        let (written, write_failed) = running.progress.read();
        let (queued, dropped) = running.read_counts();
        LogTotals { produced: queued.max(written + write_failed) + dropped, written, dropped, write_failed }
    }

    /// Has everything written that the workers have handed over, and ends the writer.
    ///
    /// A target that is full just now (a FIFO or pipe that is not read) is given until `deadline`; lines that it has not taken
    /// by then, and lines that a failing target did not take at once, count as lost. Call it when the workers have ended: what they
    /// hand over later counts as dropped, or not at all. Always `produced == written + dropped + write_failed`.
    pub fn stop(self, deadline: Duration) -> LogTotals {
        let Some(running) = &self.0 else { return LogTotals::default() };
        let _ = running.commands.send(Command::Stop { until: Instant::now() + deadline });
        if let Ok(totals) = running.totals.recv_timeout(deadline + GRACE) {
            return totals;
        }
        // It is stuck in a write. It dies with the process, and what it had is lost.
        let totals = self.totals();
        LogTotals { write_failed: totals.produced - totals.dropped - totals.written, ..totals }
    }
}

impl Running {
    fn read_counts(&self) -> (u64, u64) {
        self.counts.iter().map(|counts| counts.read()).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }
}
