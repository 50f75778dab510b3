//! L3: the origin server as a pure application: answers requests from a [`Store`], and never dials.
//!
//! `session` waits for heads and carries exchanges to their end; `answer` decides what a request gets, with the
//! help of [`path`] (which name it means), `condition` (whether the client has it already) and `media`;
//! `exchange` feeds the answer to the flow; [`store`] is the seam to the content. [`demo`] is a store that needs no
//! files.

mod answer;
mod condition;
pub mod demo;
mod exchange;
mod media;
pub mod path;
mod session;
pub mod store;
#[cfg(test)]
pub(crate) mod tests;

pub use demo::DemoStore;
pub use path::RelativePath;
pub use session::Session;
pub use store::{Meta, Opened, Page, Store, StoreError};

use crate::base::time::SECOND;
use crate::base::{Micros, Now, Peer};
use crate::engine::{App, Flow, Turn};
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
            max_drained: 1024 * 1024,
        }
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

    fn deadline(&self, session: &mut Self::Session, _now: Now, _up: &Flow, down: &Flow) -> Option<Micros> {
        Some(session.deadline(&self.shop.settings, down))
    }
}
