//! The threads of a process and what ends them: workers, the signals, the first failure.

use crate::access_log::LogHandle;
use crate::config::Exit;
use crate::engine::App;
use crate::net::sys::{Listener, Sys};
use crate::net::{Command, Remote, Worker};
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Instant;

/// What the main thread waits for.
enum News {
    Signal(i32),
    /// A worker's loop has ended.
    Ended(io::Result<()>),
}

/// Running workers.
pub(super) struct Crew {
    news: Receiver<News>,
    tell: Sender<News>,
    remotes: Vec<Remote>,
    threads: Vec<JoinHandle<()>>,
    start: Instant,
}

impl Crew {
    /// Takes over the signals that end or turn the log, before any thread that could get them otherwise.
    pub(super) fn new() -> Result<Crew, Exit> {
        let (tell, news) = channel();
        let cannot = |error: io::Error| Exit::cannot_start(format!("cannot handle signals: {error}"));
        let mut signals = Signals::new([SIGTERM, SIGINT, SIGUSR1]).map_err(cannot)?;
        let signal_news = tell.clone();
        spawn("pilb-signals", move || {
            for signal in signals.forever() {
                if signal_news.send(News::Signal(signal)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Crew { news, tell, remotes: Vec::new(), threads: Vec::new(), start: Instant::now() })
    }

    /// Starts a worker on its own thread; `build` makes it from its world and its ear.
    pub(super) fn start<A, F>(&mut self, name: &str, listeners: Vec<Listener>, build: F) -> Result<(), Exit>
    where
        A: App,
        F: FnOnce(Sys, Remote) -> Worker<A, Sys> + Send + 'static,
    {
        let cannot = |error: io::Error| Exit::cannot_start(format!("cannot start {name}: {error}"));
        let sys = Sys::new(listeners, self.start).map_err(cannot)?;
        let waker = sys.waker();
        let remote = Remote::new(move || {
            if let Err(error) = waker.wake() {
                log::error!("cannot wake a worker: {error}");
            }
        });
        self.remotes.push(remote.clone());
        let tell = self.tell.clone();
        self.threads.push(spawn(name, move || {
            let ended = build(sys, remote).run();
            // Nobody listens any more only when the process is about to be gone.
            let _ = tell.send(News::Ended(ended));
        })?);
        Ok(())
    }

    /// Serves until a signal or a failure, then drains; a second signal ends at once. The log is turned on SIGUSR1.
    pub(super) fn serve(self, log: &LogHandle) -> Result<(), Exit> {
        let (mut running, mut asked) = (self.threads.len(), 0);
        while running > 0 {
            match self.news.recv() {
                Ok(News::Signal(SIGUSR1)) => log.reopen(),
                Ok(News::Signal(_)) => {
                    asked += 1;
                    let command = if asked == 1 { Command::Drain } else { Command::Stop };
                    let doing =
                        if asked == 1 { "finishing what runs; once more ends at once" } else { "ending at once" };
                    log::info!("told to end: {doing}");
                    self.remotes.iter().for_each(|remote| remote.tell(command));
                }
                Ok(News::Ended(Ok(()))) => running -= 1,
                Ok(News::Ended(Err(error))) => return Err(Exit::cannot_start(format!("a worker failed: {error}"))),
                Err(_) => return Err(Exit::cannot_start("all workers are gone")),
            }
        }
        for thread in self.threads {
            if thread.join().is_err() {
                return Err(Exit::cannot_start("a worker panicked"));
            }
        }
        Ok(())
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Exit> {
    let cannot = |error| Exit::cannot_start(format!("cannot start thread {name}: {error}"));
    thread::Builder::new().name(name.to_owned()).spawn(body).map_err(cannot)
}
