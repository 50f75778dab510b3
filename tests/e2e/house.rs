//! Programs: started in a folder of their own, looked at from outside, and gone with the test that started them.

use crate::server::{Place, Server};
use crate::wire::{Address, Wire};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, kill_process, prlimit, setrlimit};
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub use rustix::process::Signal;

/// How long anything is waited for before the test fails. Far more than it takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Looks again and again until there is something to see.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < until, "waited for {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// All tests share one process, and some have a thousand connections: it takes as many open files as it may have.
fn allow_many_files() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    // If it may not, a test that needs more says so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

/// What a program has written to one of its outputs.
#[derive(Default)]
struct Output {
    lines: Mutex<(Vec<String>, bool)>,
    news: Condvar,
}

impl Output {
    fn of(pipe: impl Read + Send + 'static) -> Arc<Output> {
        let output = Arc::new(Output::default());
        let ours = Arc::clone(&output);
        thread::spawn(move || {
            for line in BufReader::new(pipe).split(b'\n') {
                let Ok(line) = line else { break };
                ours.lines.lock().unwrap().0.push(String::from_utf8_lossy(&line).into_owned());
                ours.news.notify_all();
            }
            ours.lines.lock().unwrap().1 = true;
            ours.news.notify_all();
        });
        output
    }

    /// Waits until `enough` finds something in the lines, or there will be no more lines.
    fn wait<T>(&self, mut enough: impl FnMut(&[String], bool) -> Option<T>) -> Option<T> {
        let mut found = None;
        let lines = self.lines.lock().unwrap();
        let look = |state: &mut (Vec<String>, bool)| {
            found = enough(&state.0, state.1);
            found.is_none() && !state.1
        };
        drop(self.news.wait_timeout_while(lines, PATIENCE, look).unwrap());
        found
    }

    fn all(&self) -> Vec<String> {
        self.lines.lock().unwrap().0.clone()
    }
}

/// How a program is to be started.
pub struct Start {
    binary: &'static str,
    args: Vec<OsString>,
    folder: Option<PathBuf>,
    open_files: Option<u32>,
    environment: Vec<(&'static str, OsString)>,
}

/// A proxy for these servers, with one worker on a port that the system chooses unless `args` say otherwise.
pub fn proxy(servers: &[&Server], args: &str) -> Program {
    Start::proxy().to(servers).args(args).run()
}

impl Start {
    pub fn proxy() -> Start {
        Start::binary(env!("CARGO_BIN_EXE_pilb-fast"))
    }

    /// Where nothing else is said, its cache is the folder `cache` in the folder of its own that it runs in.
    pub fn origin(root: &Path) -> Start {
        Start::binary(env!("CARGO_BIN_EXE_pilb-origin")).arg("--root").arg(root)
    }

    /// `pilb-origin cache` with this command.
    pub fn cache(command: &str) -> Start {
        Start::binary(env!("CARGO_BIN_EXE_pilb-origin")).arg("cache").arg(command)
    }

    fn binary(binary: &'static str) -> Start {
        Start { binary, args: Vec::new(), folder: None, open_files: None, environment: Vec::new() }
    }

    pub fn arg(mut self, arg: impl Into<OsString>) -> Start {
        self.args.push(arg.into());
        self
    }

    /// Arguments with spaces between them.
    pub fn args(mut self, args: &str) -> Start {
        self.args.extend(args.split_whitespace().map(OsString::from));
        self
    }

    /// A server with a weight.
    pub fn weighing(self, server: &Server, weight: u32) -> Start {
        self.arg("--upstream").arg(format!("{}={weight}", server.address))
    }

    pub fn at(self, places: &[&Place]) -> Start {
        places.iter().fold(self, |start, place| start.arg("--upstream").arg(place.address.to_string()))
    }

    pub fn to(self, servers: &[&Server]) -> Start {
        servers.iter().fold(self, |start, server| start.arg("--upstream").arg(server.address.to_string()))
    }

    pub fn within(mut self, folder: &Path) -> Start {
        self.folder = Some(folder.to_owned());
        self
    }

    /// Sets a variable of its environment.
    pub fn variable(mut self, name: &'static str, value: impl Into<OsString>) -> Start {
        self.environment.push((name, value.into()));
        self
    }

    /// Lets the program have this many open files at the most.
    pub fn open_files(mut self, most: u32) -> Start {
        self.open_files = Some(most);
        self
    }

    fn told(&self, option: &str) -> usize {
        self.args.iter().filter(|arg| *arg == option).count()
    }

    fn spawn(mut self) -> Program {
        allow_many_files();
        let own = TempDir::new().unwrap();
        let folder = self.folder.take().unwrap_or_else(|| own.path().to_owned());
        let mut command = match self.open_files {
            None => Command::new(self.binary),
            Some(most) => {
                let mut shell = Command::new("sh");
                shell.arg("-c").arg(format!("ulimit -n {most}; exec \"$0\" \"$@\"")).arg(self.binary);
                shell
            }
        };
        command.args(&self.args).current_dir(&folder).env_remove("RUST_LOG").env_remove("RUST_BACKTRACE");
        // Temporary files of a program that is killed go with its folder.
        command.env("TMPDIR", own.path());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout = Output::of(child.stdout.take().unwrap());
        let stderr = Output::of(child.stderr.take().unwrap());
        Program { child, own, folder, stdout, stderr, addresses: Vec::new() }
    }

    /// Starts it and waits until it listens.
    pub fn run(mut self) -> Program {
        if self.told("--listen") == 0 {
            self = self.args("--listen 127.0.0.1:0");
        }
        if self.told("--workers") == 0 {
            self = self.args("--workers 1");
        }
        let expected = self.told("--listen");
        let mut program = self.spawn();
        let listening = program.stderr.wait(|lines, _| {
            let found: Vec<_> = lines.iter().filter_map(|line| line.split_once("listening on ")).collect();
            let addresses = || found.iter().map(|(_, address)| Address::parse(address.trim())).collect::<Vec<_>>();
            (found.len() == expected).then(addresses)
        });
        program.addresses = listening.unwrap_or_else(|| panic!("it does not listen: {:?}", program.stderr.all()));
        program
    }

    /// Starts what is expected to end by itself.
    pub fn end(self) -> Ended {
        let mut program = self.spawn();
        program.wait()
    }
}

/// A program that ran.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: Vec<String>,
    pub stderr: Vec<String>,
}

impl Ended {
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| panic!("a signal ended it: {self:?}"))
    }

    /// The access log's totals as they were told at the end: written, lost.
    pub fn log_totals(&self) -> (u64, u64) {
        let line = self.stderr.iter().rev().find_map(|line| line.split_once("access log: "));
        let (_, totals) = line.unwrap_or_else(|| panic!("no totals: {self:?}"));
        let number = |word: &str| {
            let before = totals.split_once(word).unwrap_or_else(|| panic!("no {word}: {totals}")).0.trim_end();
            before.rsplit([' ', ',']).next().unwrap().parse().unwrap()
        };
        (number("written"), number("lost"))
    }
}

/// A program that runs.
pub struct Program {
    child: Child,
    #[expect(dead_code, reason = "the folder goes when the program is gone")]
    own: TempDir,
    pub folder: PathBuf,
    stdout: Arc<Output>,
    stderr: Arc<Output>,
    pub addresses: Vec<Address>,
}

impl Program {
    pub fn address(&self) -> &Address {
        &self.addresses[0]
    }

    /// A new connection.
    pub fn client(&self) -> Wire {
        Wire::to(self.address())
    }

    /// Where its admin side is.
    pub fn admin(&self) -> Address {
        let told = self.stderr.wait(|lines, _| {
            let line = lines.iter().find_map(|line| line.split_once("admin on "))?.1.trim();
            Some(Address::parse(line.strip_prefix("http://").unwrap_or(line)))
        });
        told.unwrap_or_else(|| panic!("it has no admin side: {:?}", self.stderr.all()))
    }

    pub fn port(&self) -> u16 {
        match self.address() {
            Address::Tcp(address) => address.port(),
            Address::Unix(path) => panic!("{} has no port", path.display()),
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until standard output is as wanted.
    pub fn stdout<T>(&self, mut enough: impl FnMut(&[String]) -> Option<T>) -> T {
        let found = self.stdout.wait(|lines, _| enough(lines));
        found.unwrap_or_else(|| panic!("not on standard output: {:#?}", self.stdout.all()))
    }

    /// Waits until standard error is as wanted.
    pub fn stderr<T>(&self, mut enough: impl FnMut(&[String]) -> Option<T>) -> T {
        let found = self.stderr.wait(|lines, _| enough(lines));
        found.unwrap_or_else(|| panic!("not on standard error: {:#?}", self.stderr.all()))
    }

    /// Waits until it has said this so many times on standard error.
    pub fn says(&self, what: &str, times: usize) {
        self.stderr(|lines| (lines.iter().filter(|line| line.contains(what)).count() >= times).then_some(()));
    }

    /// A new connection from this address of ours, such as 127.0.0.7.
    pub fn client_from(&self, ip: &str) -> Wire {
        Wire::from(ip, self.address())
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> Ended {
        let child = &mut self.child;
        let status = eventually("the program ends", || child.try_wait().unwrap());
        // The outputs end with the program, but their threads may be a little behind.
        let lines = |output: &Output| output.wait(|lines, done| done.then(|| lines.to_vec())).unwrap();
        Ended { status, stdout: lines(&self.stdout), stderr: lines(&self.stderr) }
    }

    /// Has it end in good order.
    pub fn stop(&mut self) -> Ended {
        self.signal(Signal::TERM);
        let ended = self.wait();
        assert_eq!(ended.code(), 0, "{ended:?}");
        ended
    }

    /// Does something while the program stands still, so that it finds all of it at once.
    pub fn while_stopped<T>(&self, act: impl FnOnce() -> T) -> T {
        self.signal(Signal::STOP);
        eventually("it stands still", || self.stands_still().then_some(()));
        let done = act();
        self.signal(Signal::CONT);
        done
    }

    // ---- seen from outside

    /// Has every thread stopped? The first one, which /proc/PID/stat tells of, may have stopped long before a worker has.
    fn stands_still(&self) -> bool {
        fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap().all(|task| {
            let stat = fs::read_to_string(task.unwrap().path().join("stat")).unwrap();
            stat.rsplit_once(')').unwrap().1.trim_start().starts_with('T')
        })
    }

    /// A line of /proc/PID/status in KiB.
    fn status_kib(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap()
    }

    /// The most memory that it ever had, in MiB.
    pub fn peak_mib(&self) -> u64 {
        self.status_kib("VmHWM:") / 1024
    }

    /// Memory of its own that it has now, in KiB.
    pub fn memory_kib(&self) -> u64 {
        self.status_kib("RssAnon:")
    }

    /// Processor time used so far.
    pub fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        let after_name = stat.rsplit_once(')').unwrap().1;
        let ticks: u64 = after_name.split_whitespace().skip(11).take(2).map(|n| n.parse::<u64>().unwrap()).sum();
        // /proc counts in hundredths of a second on every Linux.
        Duration::from_millis(10 * ticks)
    }

    /// How often its workers have waited for something so far.
    pub fn waits(&self) -> u64 {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
        let waits = |task: std::io::Result<fs::DirEntry>| {
            let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
            let is_worker =
                status.lines().any(|line| line.starts_with("Name:\tpilb-0") || line.starts_with("Name:\tpilb-1"));
            let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
            is_worker.then(|| line.trim().parse::<u64>().unwrap())
        };
        tasks.filter_map(waits).sum()
    }

    pub fn open_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// Ends of pipes that it has open.
    pub fn pipe_ends(&self) -> usize {
        let files = fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap();
        // One that was closed meanwhile is none.
        let target = |file: std::io::Result<fs::DirEntry>| fs::read_link(file.unwrap().path()).unwrap_or_default();
        files.map(target).filter(|target| target.to_string_lossy().starts_with("pipe:")).count()
    }

    /// From now on it may have so many open files; what it has, it keeps.
    pub fn limit_open_files(&self, most: u64) {
        let limit = Rlimit { current: Some(most), maximum: Some(most) };
        prlimit(Some(Pid::from_child(&self.child)), Resource::Nofile, limit).unwrap();
    }

    // ---- the access log in its folder

    pub fn log_path(&self) -> PathBuf {
        self.folder.join("register.log")
    }

    /// The log's lines, once there are at least so many.
    pub fn log(&self, at_least: usize) -> Vec<Line> {
        let path = self.log_path();
        eventually("lines in the access log", || {
            let lines = lines_of(&path);
            (lines.len() >= at_least).then_some(lines)
        })
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- standard error of the program:\n{}", self.stderr.all().join("\n"));
        }
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The whole lines of an access log in the format `pilb`.
pub fn lines_of(path: &Path) -> Vec<Line> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let whole = text.rfind('\n').map_or(0, |at| at + 1);
    text[..whole].lines().filter(|line| !line.starts_with('#')).map(Line::parse).collect()
}

/// A line of the access log, column by column.
#[derive(Clone, Debug)]
pub struct Line {
    pub text: String,
    pub client: String,
    pub status: String,
    pub end: String,
    named: Vec<(String, String)>,
    pub request: String,
}

impl Line {
    /// Fifteen columns with one space between them, of which ten have names.
    pub fn parse(text: &str) -> Line {
        let columns: Vec<_> = text.splitn(15, ' ').collect();
        assert_eq!(columns.len(), 15, "{text}");
        assert!(text.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{text}");
        let split = |column: &str| {
            let (name, value) = column.split_once('=').unwrap_or_else(|| panic!("{column} of {text}"));
            (name.to_owned(), value.to_owned())
        };
        let time = columns[0].as_bytes();
        assert!(time.len() == 24 && time[10] == b'T' && time[23] == b'Z', "{text}");
        Line {
            text: text.to_owned(),
            client: columns[1].to_owned(),
            status: columns[2].to_owned(),
            end: columns[3].to_owned(),
            named: columns[4..14].iter().map(|column| split(column)).collect(),
            request: columns[14].trim_matches('"').to_owned(),
        }
    }

    pub fn get(&self, name: &str) -> &str {
        let found = self.named.iter().find(|(known, _)| known == name);
        &found.unwrap_or_else(|| panic!("no {name} in {}", self.text)).1
    }

    pub fn bytes(&self, name: &str) -> u64 {
        self.get(name).strip_suffix('B').unwrap().parse().unwrap()
    }
}
