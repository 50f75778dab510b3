//! L3: the admin side as a pure application: says over HTTP how the proxy is doing, and takes servers out of service and back.
//!
//! `session` reads requests, `desk` answers them with what a [`Source`] knows, `metrics` and `page` write it down. It knows
//! neither the proxy nor its threads. Nobody is asked who they are: whoever reaches its address may do all of this.

mod desk;
mod metrics;
mod page;
mod session;
#[cfg(test)]
mod tests;

pub use session::Session;

use crate::base::time::SECOND;
use crate::base::{DateLine, Micros, Now, Peer};
use crate::engine::{App, Flow, ServerTotals, Totals, Turn};
use crate::http1::Limits;

/// Who knows how the proxy is doing.
pub trait Source {
    /// What there is to tell now.
    fn look(&self) -> Snapshot;

    /// From now on the server of this place in [`Snapshot::servers`] is to get no requests, or gets some again.
    fn drain(&mut self, server: usize, drained: bool);
}

/// The proxy at one moment, as far as numbers of several threads can be of one.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// It has been told to end.
    pub draining: bool,
    pub workers: usize,
    pub totals: Totals,
    pub servers: Vec<ServerView>,
}

/// A server as the admin side shows it.
#[derive(Clone, Debug)]
pub struct ServerView {
    /// No two have the same.
    pub name: String,
    pub address: String,
    pub weight: u32,
    pub backup: bool,
    pub state: State,
    /// How much of its weight it has on average of all workers, in percent.
    pub share: u32,
    /// How its last probe ended: `Some(true)` if well.
    pub probe: Option<bool>,
    pub totals: ServerTotals,
}

/// What may become of a request for a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Up,
    /// It came back lately and does not get its whole share yet.
    Starting,
    /// Left out for a while by some workers at least, for failing requests.
    Ejected,
    /// Its probes fail.
    Down,
    /// Taken out of service here.
    Drained,
}

impl State {
    pub fn word(self) -> &'static str {
        match self {
            State::Up => "up",
            State::Starting => "starting",
            State::Ejected => "ejected",
            State::Down => "down",
            State::Drained => "drained",
        }
    }
}

impl ServerView {
    /// May it get requests at all?
    pub fn is_up(&self) -> bool {
        self.share > 0 && !matches!(self.state, State::Down | State::Drained)
    }
}

impl Snapshot {
    /// Should somebody who shares clients out send some here?
    pub fn is_healthy(&self) -> bool {
        !self.draining && self.servers.iter().any(ServerView::is_up)
    }
}

/// Times and limits, all times in microseconds.
#[derive(Clone, Debug)]
pub struct Settings {
    /// For a whole request head.
    pub head: Micros,
    /// Between requests.
    pub idle: Micros,
    /// For a client that takes nothing of its answer.
    pub write: Micros,
    pub request: Limits,
}

impl Default for Settings {
    fn default() -> Self {
        let request = Limits { target: 2048, ..Limits::REQUEST };
        Settings { head: 10 * SECOND, idle: 75 * SECOND, write: 30 * SECOND, request }
    }
}

/// The admin side.
pub struct Admin<S: Source> {
    source: S,
    settings: Settings,
    date: DateLine,
    /// Where heads are written before they are laid into a flow.
    scratch: Vec<u8>,
}

impl<S: Source> Admin<S> {
    pub fn new(source: S, settings: Settings) -> Self {
        Admin { source, settings, date: DateLine::new(), scratch: Vec::new() }
    }
}

impl<S: Source> App for Admin<S> {
    type Session = Session;

    fn open(&mut self, _peer: Peer, now: Now) -> Session {
        Session::new(now)
    }

    fn advance(&mut self, session: &mut Session, turn: &mut Turn<'_>) {
        session.advance(self, turn);
    }

    fn deadline(&self, session: &mut Session, now: Now, _up: &Flow, down: &Flow) -> Option<Micros> {
        Some(session.deadline(&self.settings, now, down))
    }
}
