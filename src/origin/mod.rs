//! L3: the origin server as a pure application: answers requests from a [`Store`], and never dials.
//!
//! `session` waits for heads and carries exchanges to their end; `answer` decides what a request gets, with the
//! help of [`path`] (which name it means), `condition` (whether the client has it already) and `media`;
//! `exchange` feeds the answer to the flow; [`store`] is the seam to the content. [`demo`] is a store that says its
//! name, in front of another one.

mod answer;
pub mod coding;
pub mod condition;
pub mod demo;
mod exchange;
pub mod listing;
pub mod media;
pub mod path;
pub mod range;
mod sending;
mod session;
pub mod store;
#[cfg(test)]
pub(crate) mod tests;

pub use coding::Coding;
pub use demo::DemoStore;
pub use path::RelativePath;
pub use session::Session;
pub use store::{Ask, Facts, Opened, Page, Piece, Purge, Store, StoreError};

use crate::base::time::SECOND;
use crate::base::{Micros, Now, Peer};
use crate::engine::{App, Chores, Flow, Turn};
use crate::http1::Limits;
use answer::Desk;
use exchange::Exchange;

/// Times and limits of the origin; all times in microseconds.
#[derive(Clone, Debug)]
pub struct Settings {
    /// For a whole request head, from its first byte, or from the connection's start for the first one.
    pub client_head: Micros,
    /// Between requests.
    pub client_idle: Micros,
    /// Between two reads of a request body.
    pub client_body: Micros,
    /// Between two writes to a client that takes its answer slowly.
    pub client_write: Micros,
    pub request: Limits,
    /// For the store to find what is asked for.
    pub store: Micros,
    /// A PURGE that came through a proxy on this machine counts, as if its sender were on this machine as well.
    pub proxied_purge: bool,
    /// Which answers get which Cache-Control.
    pub cache_control: Vec<Rule>,
    /// Content of a request body, in bytes, that is read and dropped to keep the connection. After more the connection
    /// ends.
    pub max_drained: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            client_head: 10 * SECOND,
            client_idle: 75 * SECOND,
            client_body: 30 * SECOND,
            client_write: 30 * SECOND,
            request: Limits::REQUEST,
            store: 30 * SECOND,
            proxied_purge: false,
            cache_control: Vec::new(),
            max_drained: 1024 * 1024,
        }
    }
}

/// A Cache-Control value, and the files whose answers get it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub files: Files,
    pub value: String,
}

/// Some of the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Files {
    All,
    /// Those whose path begins so; no leading slash.
    Below(String),
    /// Those whose name ends so.
    Ending(String),
}

impl Rule {
    /// The rule that says most about a file: the one for an ending, then that for the longest beginning, then that for all.
    fn of<'r>(rules: &'r [Rule], path: &RelativePath) -> Option<&'r Rule> {
        let bytes = path.as_bytes();
        let weight = |rule: &Rule| match &rule.files {
            Files::All => Some(0),
            Files::Below(start) => bytes.starts_with(start.as_bytes()).then_some(1 + start.len()),
            Files::Ending(end) => bytes.ends_with(end.as_bytes()).then_some(usize::MAX / 2 + end.len()),
        };
        rules
            .iter()
            .filter_map(|rule| Some((weight(rule)?, rule)))
            .max_by_key(|(weight, _)| *weight)
            .map(|found| found.1)
    }
}

/// The origin server of one worker.
pub struct Origin<S: Store> {
    shop: Shop<S>,
}

/// What every session of a worker works with.
pub(crate) struct Shop<S: Store> {
    store: S,
    settings: Settings,
    /// The path of the request at hand.
    path: RelativePath,
    desk: Desk,
    /// Exchanges to be used again, so that a request allocates none.
    free: Vec<Box<Exchange<S::File>>>,
}

/// Unused exchanges kept per worker.
const KEPT_EXCHANGES: usize = 256;

impl<S: Store> Origin<S> {
    /// An origin server of the content of `store`.
    pub fn new(store: S, settings: Settings) -> Self {
        let desk = Desk::new(store.fields());
        Origin { shop: Shop { store, settings, path: RelativePath::default(), desk, free: Vec::new() } }
    }
}

impl<S: Store> App for Origin<S> {
    type Session = Session<S::File>;

    fn open(&mut self, peer: Peer, now: Now) -> Self::Session {
        Session::new(peer, now)
    }

    fn advance(&mut self, session: &mut Self::Session, turn: &mut Turn<'_>) {
        session.advance(&mut self.shop, turn);
    }

    fn attend(&mut self, chores: &mut Chores) -> Micros {
        if chores.woken {
            self.shop.store.woken(&mut chores.wake);
        }
        Micros::MAX
    }

    fn deadline(&self, session: &mut Self::Session, _now: Now, _up: &Flow, down: &Flow) -> Option<Micros> {
        Some(session.deadline(&self.shop.settings, down))
    }
}
