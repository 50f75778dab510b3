//! L4: the access log: one line for each exchange, and for each request that was refused or never completed.
//!
//! ```text
//!  worker ─record─▶ [ ring ] ─┐
//!  worker ─record─▶ [ ring ] ─┼─▶ writer thread: render ▸ [ pending lines ] ─write─▶ file, FIFO or stdout
//!  worker ─record─▶ [ ring ] ─┘
//! ```
//!
//! A worker copies its record into its ring and goes on; if the ring is full, the record is dropped and counted. The
//! writer comes by every 25 ms, or so often that the rings stay three quarters empty, and writes every 64 KiB or when a
//! line has waited for 25 ms. Nothing that the target does reaches a worker. While the target fails, 1 MiB of lines is
//! kept and tried again each round; what comes after that is lost. As soon as it works again, a *gap line* tells how many
//! lines are missing, from when to when and why. Lines are never merged: after a failure the writer looks where the file
//! ends and goes on there, or on a new line. Lines of one worker are in order, those of several are interleaved in batches.
//!
//! A FIFO may wait for its reader: it takes 64 KiB meanwhile. Standard output is used as it is; if it is a pipe that nobody
//! reads, the writer waits in its write, and the rings fill.
//!
//! # The formats
//!
//! All times are UTC. Bytes of the request are hostile: those that are not printable ASCII, the double quote and the
//! backslash are written as `\xHH`; in bare columns the space too. So every line is one line of ASCII, and only the
//! proxy's own quotes are quotes. What was too long to be kept whole ends in `...`; what is not there is `-`. The client
//! is its IP address without a port, or `unix:`.
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
//! Fifteen columns with one space between them, so that `cut -d' '` and `awk` can split them: time, client, status (`-`
//! if none was sent), how it ended (a word of [`CloseReason`](crate::engine::CloseReason), and in parentheses what exactly
//! was wrong), ten that say their names, and last the request line in double quotes, the only column that may have spaces
//! in it. `up` and `down` are bytes from and to the client with their heads; `reused` names the connections that had
//! served before: `none`, `client`, `upstream`, `both`. `wait_head` runs from the first byte of the head to its last,
//! `connect` and `first_byte` from there to a connection to the server and to the first byte of its answer, `total` from
//! the first byte of the head to the last of the answer. Lines that begin with `#` are comments: the gaps.
//!
//! `combined` is what Apache and nginx write, for GoAccess, AWStats and their like. The size is the body's; it is `-` for
//! none, as is the status. A gap is a line of valid syntax that names neither client nor request, so that no analyser
//! takes it for a visit.
//!
//! ```text
//! 192.0.2.7 - - [23/Nov/2026:20:41:00 +0000] "GET /index.html HTTP/1.1" 200 5000 "http://example.org/" "curl/8.5"
//! - - - [23/Nov/2026:20:41:12 +0000] "-" - - "-" "pilb gap: 17 lines lost between … and …: ring-full 17, write-failed 0"
//! ```
//!
//! `json` has one object per line, always with the same keys in the same order. What is not there is `null`; a string's
//! value is the text, escapes included, that the other formats show. A gap is an object with the keys `time` and `gap`.
//!
//! ```text
//! {"time":"2026-11-23T20:41:00.123Z","client":"192.0.2.7","status":200,"end":"done","detail":null,"request":"GET /index.html HTTP/1.1","host":"example.org","referer":null,"agent":"curl/8.5","upstream":"10.0.0.3:8080","attempts":1,"bytes_up":312,"bytes_down":5120,"bytes_down_head":120,"wait_head_us":12,"connect_us":0,"first_byte_us":1840,"total_us":2210,"client_reused":true,"upstream_reused":true}
//! {"time":"2026-11-23T20:41:12.000Z","gap":{"lost":17,"from":"2026-11-23T20:41:11.950Z","to":"2026-11-23T20:41:12.000Z","ring_full":17,"write_failed":0,"why":null}}
//! ```

pub mod format;
pub mod gap;
mod pending;
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
/// The target is opened here: if it cannot be, nothing is started, and the error is the system's own
/// (the configuration's `explain_log` says what to do about it).
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

#[cfg(test)]
mod tests {
    use super::testing::{Answer, Fake, gaps, push, requests, torn};
    use super::*;
    use rustix::io::Errno;
    use std::fs;
    use std::io::Read;
    use std::path::Path;

    /// For tests in which the target takes everything.
    const PATIENCE: Duration = Duration::from_secs(60);

    fn pilb() -> Formatter {
        Formatter::new(Format::Pilb, &[])
    }

    fn file(path: &Path) -> LogSetup {
        LogSetup { target: Target::File(path.to_owned()), format: Format::Pilb, servers: vec![] }
    }

    fn consistent(totals: LogTotals) -> bool {
        totals.produced == totals.written + totals.dropped + totals.write_failed
    }

    #[test]
    fn everything_that_was_handed_over_is_in_the_file_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("register.log");
        let (handle, mut logs) = start(file(&path), 2).unwrap();
        push(&mut logs[0], 0..100);
        push(&mut logs[1], 100..150);
        let totals = handle.stop(PATIENCE);
        assert_eq!(totals, LogTotals { produced: 150, written: 150, dropped: 0, write_failed: 0 });
        let mut seen = requests(&fs::read(&path).unwrap());
        seen.sort_unstable();
        assert_eq!(seen, Vec::from_iter(0..150));
    }

    #[test]
    fn a_missing_folder_is_an_error_at_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let error = start(file(&folder.path().join("none/register.log")), 1).unwrap_err();
        assert_eq!(Errno::from_io_error(&error), Some(Errno::NOENT));
        let error = start(file(folder.path()), 1).unwrap_err();
        assert_eq!(Errno::from_io_error(&error), Some(Errno::ISDIR));
    }

    #[test]
    fn a_log_that_is_off_has_a_handle_too() {
        let setup = LogSetup { target: Target::Off, format: Format::Json, servers: vec![] };
        let (handle, mut logs) = start(setup, 3).unwrap();
        assert_eq!((handle.0.is_none(), logs.len()), (true, 3));
        push(&mut logs[2], 0..10);
        handle.reopen();
        assert_eq!((handle.totals(), handle.stop(PATIENCE)), (LogTotals::default(), LogTotals::default()));
    }

    #[test]
    fn a_handle_that_is_dropped_ends_the_writer_which_writes_what_it_has() {
        let sink = Fake::new();
        let (handle, mut logs) = launch(sink.clone(), "test".into(), pilb(), 1, 64).unwrap();
        push(&mut logs[0], 0..3);
        let LogHandle(Some(Running { commands, totals, .. })) = handle else { panic!("a log is running") };
        drop(commands);
        assert_eq!(totals.recv().unwrap().written, 3);
        assert_eq!(requests(&sink.held()), [0, 1, 2]);
    }

    #[test]
    fn renaming_under_load_loses_and_tears_no_line() {
        const RECORDS_EACH: u64 = 4000;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("register.log");
        let (handle, logs) = start(file(&path), 2).unwrap();
        let workers: Vec<_> = (0u64..)
            .zip(logs)
            .map(|(worker, mut log)| {
                thread::spawn(move || {
                    for n in 0..RECORDS_EACH {
                        let number = worker * RECORDS_EACH + n;
                        push(&mut log, number..number + 1);
                        if n % 64 == 0 {
                            thread::yield_now();
                        }
                    }
                })
            })
            .collect();
        let mut turn = 0;
        while workers.iter().any(|worker| !worker.is_finished()) {
            // It is not there if the writer has not come to the last request yet.
            if fs::rename(&path, folder.path().join(format!("register.log.{turn}"))).is_ok() {
                turn += 1;
                handle.reopen();
            }
            thread::yield_now();
        }
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        let totals = handle.stop(PATIENCE);
        assert_eq!((totals.written, totals.produced), (2 * RECORDS_EACH, 2 * RECORDS_EACH));
        assert!(turn > 0 && path.exists());
        let mut seen = vec![];
        for entry in fs::read_dir(folder.path()).unwrap() {
            let content = fs::read(entry.unwrap().path()).unwrap();
            assert!(torn(&content).is_empty() && content.last().is_none_or(|byte| *byte == b'\n'));
            seen.extend(requests(&content));
        }
        seen.sort_unstable();
        assert_eq!(seen, Vec::from_iter(0..2 * RECORDS_EACH));
    }

    #[test]
    fn counts_agree_under_tiny_rings_busy_workers_and_a_target_that_stumbles() {
        const RECORDS_EACH: u64 = 20_000;
        let sink = Fake::new();
        sink.plan((0..300).map(|n| match n % 4 {
            0 => Answer::Fail(Errno::NOSPC),
            1 => Answer::Take(n * 7),
            2 => Answer::Full,
            _ => Answer::Take(usize::MAX),
        }));
        let (handle, logs) = launch(sink.clone(), "test".into(), pilb(), 4, 8).unwrap();
        let workers: Vec<_> = logs
            .into_iter()
            .map(|mut log| thread::spawn(move || (0..RECORDS_EACH).for_each(|n| push(&mut log, n..n + 1))))
            .collect();
        for _ in 0..20 {
            handle.reopen();
            thread::yield_now();
        }
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        sink.heal();
        let totals = handle.stop(PATIENCE);
        assert_eq!(totals.produced, 4 * RECORDS_EACH);
        assert!(consistent(totals) && totals.dropped > 0 && totals.written > 0, "{totals:?}");
        let files = sink.files();
        assert_eq!(files.iter().map(|file| requests(file).len() as u64).sum::<u64>(), totals.written);
        let told: u64 = files.iter().flat_map(|file| gaps(file)).map(|(ring_full, _)| ring_full).sum();
        assert_eq!(told, totals.dropped);
    }

    /// A pipe that nobody reads: it takes 300 bytes, then a write lasts until the test lets go of its end.
    struct Stuck {
        room: usize,
        full: Sender<()>,
        release: Receiver<()>,
    }

    impl Sink for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let n = std::mem::take(&mut self.room).min(bytes.len());
            if n > 0 {
                return Ok(n);
            }
            self.full.send(()).unwrap();
            let _ = self.release.recv();
            Err(io::Error::from(Errno::PIPE))
        }

        fn reopen(&mut self) -> io::Result<()> {
            Ok(())
        }

        fn tail(&mut self, _: usize) -> Option<Vec<u8>> {
            None
        }
    }

    #[test]
    fn a_writer_that_is_stuck_does_not_keep_the_process_from_ending() {
        let ((full, is_full), (let_go, release)) = (channel(), channel::<()>());
        let sink = Stuck { room: 300, full, release };
        let (handle, mut logs) = launch(sink, "test".into(), pilb(), 1, 64).unwrap();
        push(&mut logs[0], 0..4);
        handle.reopen();
        is_full.recv().unwrap();
        push(&mut logs[0], 4..30);
        let totals = LogTotals { produced: 30, written: 1, dropped: 0, write_failed: 0 };
        assert_eq!(handle.totals(), totals);
        assert_eq!(handle.stop(Duration::ZERO), LogTotals { write_failed: 29, ..totals });
        drop(let_go);
    }

    #[test]
    fn at_the_end_a_full_target_is_waited_for_until_the_deadline_and_no_longer() {
        for (deadline, written) in [(PATIENCE, 3), (Duration::ZERO, 0)] {
            let sink = Fake::new();
            sink.plan([Answer::Full; 20]);
            let (mut log, outlet) = ring(8);
            push(&mut log, 0..3);
            let writer = Writer::new(sink, "test".into(), vec![outlet], pilb(), 0);
            let (commands, orders) = channel();
            commands.send(Command::Stop { until: Instant::now() + deadline }).unwrap();
            let totals = work(writer, &orders);
            assert_eq!(totals, LogTotals { produced: 3, written, dropped: 0, write_failed: 3 - written });
        }
    }

    #[test]
    fn a_fifo_that_nobody_reads_holds_up_neither_the_start_nor_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fifo");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
        let (handle, mut logs) = start(file(&path), 1).unwrap();
        push(&mut logs[0], 0..4000);
        let totals = handle.stop(Duration::ZERO);
        assert!(consistent(totals) && totals.produced == 4000, "{totals:?}");
        // A pipe holds 64 KiB, that is some hundred lines.
        assert!(totals.written > 100 && totals.write_failed > 1000, "{totals:?}");
    }

    #[test]
    fn a_fifo_gets_every_line_once_it_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fifo");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
        let (mut log, outlet) = ring(RECORDS);
        let mut writer = Writer::new(FileSink::open(&path).unwrap(), "fifo".into(), vec![outlet], pilb(), 0);
        push(&mut log, 0..2000);
        let mut reader = fs::File::open(&path).unwrap();
        let mut got = vec![];
        while !writer.finish(0) {
            let mut some = [0; 10_000];
            let n = reader.read(&mut some).unwrap();
            got.extend_from_slice(&some[..n]);
        }
        assert_eq!(writer.close().written, 2000);
        // The writer was the last one that had it open for writing.
        reader.read_to_end(&mut got).unwrap();
        assert_eq!((requests(&got), torn(&got).len()), (Vec::from_iter(0..2000), 0));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_fails_every_line_and_nothing_else() {
        let (handle, mut logs) = start(file(Path::new("/dev/full")), 1).unwrap();
        push(&mut logs[0], 0..100);
        handle.reopen();
        let totals = handle.stop(PATIENCE);
        assert_eq!(totals, LogTotals { produced: 100, written: 0, dropped: 0, write_failed: 100 });
    }
}
