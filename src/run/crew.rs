//! The threads of a process and what ends them: workers, the signals, the first failure.

use crate::access_log::LogHandle;
use crate::config::Exit;
use crate::engine::App;
use crate::net::sys::{Listener, Stream, Sys};
use crate::net::{Command, Remote, Share, Worker};
use crate::run::cores::{self, Core};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Instant;

/// What the main thread waits for.
enum News {
    Signal(i32),
    /// A worker's loop has ended.
    Ended(Rank, io::Result<()>),
}

/// In which order workers end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rank {
    /// It faces the clients, and ends first.
    Front,
    /// It is needed until the front's own end (the demo's origins, the admin side).
    Back,
}

/// Running workers.
pub(super) struct Crew {
    news: Receiver<News>,
    tell: Sender<News>,
    remotes: Vec<(Rank, Remote)>,
    start: Instant,
}

/// A worker that may start: its world, its ear, its part in sharing the clients, and the core that it has for itself.
pub(super) struct Recruit {
    sys: Sys,
    remote: Remote,
    share: Option<Share<Stream>>,
    core: Option<Core>,
}

impl Recruit {
    /// Wakes it, once it has been started.
    pub(super) fn waker(&self) -> impl Fn() + Send + Sync + 'static {
        let remote = self.remote.clone();
        move || remote.wake()
    }
}

impl Crew {
    /// Takes over the signals that end or turn the log, before any thread that could get them otherwise.
    pub(super) fn new() -> Result<Crew, Exit> {
        let (tell, news) = channel();
        let cannot = |error: io::Error| Exit::cannot_start(format!("cannot handle signals: {error}"));
        // A terminal that closes, or who knows QUIT from elsewhere as the gentle one, should cut nobody's request.
        let mut signals = Signals::new([SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1]).map_err(cannot)?;
        let signal_news = tell.clone();
        spawn("pilb-signals", move || {
            for signal in signals.forever() {
                if signal_news.send(News::Signal(signal)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Crew { news, tell, remotes: Vec::new(), start: Instant::now() })
    }

    /// A worker that has these listeners to itself.
    pub(super) fn single(&self, listeners: Vec<Listener>) -> Result<Recruit, Exit> {
        let cannot = |error: io::Error| Exit::cannot_start(format!("cannot start a worker: {error}"));
        let sys = Sys::new(listeners, self.start).map_err(cannot)?;
        let waker = sys.waker();
        let remote = Remote::new(move || {
            if let Err(error) = waker.wake() {
                log::error!("cannot wake a worker: {error}");
            }
        });
        Ok(Recruit { sys, remote, share: None, core: None })
    }

    /// A worker for each of these sets of listeners. Several share the clients, and the cores if those are as many.
    pub(super) fn team(&self, by_worker: Vec<Vec<Listener>>) -> Result<Vec<Recruit>, Exit> {
        let single = |listeners| self.single(listeners);
        let mut team = by_worker.into_iter().map(single).collect::<Result<Vec<Recruit>, Exit>>()?;
        if team.len() > 1 {
            let remotes: Vec<Remote> = team.iter().map(|recruit| recruit.remote.clone()).collect();
            team.iter_mut().zip(Share::among(&remotes)).for_each(|(recruit, share)| recruit.share = Some(share));
        }
        let cores = cores::one_each(&cores::allowed(), team.len());
        team.iter_mut().zip(cores).for_each(|(recruit, core)| recruit.core = Some(core));
        Ok(team)
    }

    /// Starts a worker on its own thread; `build` makes it from its world and its ear.
    pub(super) fn start<A, F>(&mut self, rank: Rank, name: &str, recruit: Recruit, build: F) -> Result<(), Exit>
    where
        A: App,
        F: FnOnce(Sys, Remote) -> Worker<A, Sys> + Send + 'static,
    {
        let Recruit { sys, remote, share, core } = recruit;
        self.remotes.push((rank, remote.clone()));
        let leave = Leave { tell: self.tell.clone(), rank, ended: Err(io::Error::other("it panicked")) };
        spawn(name, move || {
            // First, so that what the worker allocates is near its core.
            core.into_iter().for_each(cores::stay_on);
            leave.with(build(sys, remote).sharing(share).run());
        })
    }

    /// Wakes all workers of this rank that have been started so far.
    pub(super) fn waker(&self, wanted: Rank) -> impl Fn() + Send + 'static {
        let ours = self.remotes.iter().filter(|(rank, _)| *rank == wanted);
        let remotes: Vec<Remote> = ours.map(|(_, remote)| remote.clone()).collect();
        move || remotes.iter().for_each(Remote::wake)
    }

    /// Serves until a signal or a failure, then drains; a second signal ends at once. The log is turned on SIGUSR1.
    pub(super) fn serve(self, log: &LogHandle) -> Result<(), Exit> {
        let count = |wanted| self.remotes.iter().filter(|(rank, _)| *rank == wanted).count();
        let (mut front, mut back, mut asked) = (count(Rank::Front), count(Rank::Back), 0);
        while front + back > 0 {
            match self.news.recv() {
                Ok(News::Signal(SIGUSR1)) => log.reopen(),
                Ok(News::Signal(_)) => {
                    asked += 1;
                    let command = if asked == 1 { Command::Drain } else { Command::Stop };
                    let doing =
                        if asked == 1 { "finishing what runs; once more ends at once" } else { "ending at once" };
                    log::info!("told to end: {doing}");
                    self.tell_all(Rank::Front, command);
                }
                Ok(News::Ended(Rank::Front, Ok(()))) => {
                    front -= 1;
                    if front == 0 {
                        self.tell_all(Rank::Back, Command::Stop);
                    }
                }
                Ok(News::Ended(Rank::Back, Ok(()))) => back -= 1,
                Ok(News::Ended(_, Err(error))) => return Err(Exit::cannot_start(format!("a worker failed: {error}"))),
                Err(_) => return Err(Exit::cannot_start("all workers are gone")),
            }
        }
        Ok(())
    }

    fn tell_all(&self, wanted: Rank, command: Command) {
        self.remotes.iter().filter(|(rank, _)| *rank == wanted).for_each(|(_, remote)| remote.tell(command));
    }
}

/// Says that a worker has ended, however it came to that.
struct Leave {
    tell: Sender<News>,
    rank: Rank,
    ended: io::Result<()>,
}

impl Leave {
    fn with(mut self, ended: io::Result<()>) {
        self.ended = ended;
    }
}

impl Drop for Leave {
    fn drop(&mut self) {
        let ended = std::mem::replace(&mut self.ended, Ok(()));
        // Nobody listens any more only when the process is about to be gone.
        let _ = self.tell.send(News::Ended(self.rank, ended));
    }
}

/// Threads are not joined: each says by itself when it ends.
fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), Exit> {
    let cannot = |error| Exit::cannot_start(format!("cannot start thread {name}: {error}"));
    thread::Builder::new().name(name.to_owned()).spawn(body).map(drop).map_err(cannot)
}
