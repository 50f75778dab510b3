//! What an app does apart from its sessions: it wakes some of them, hears about servers, and has errands run.

use crate::base::{Micros, Now};
use crate::engine::turn::{DialError, Drain, ServerId, SessionId, Side};

/// The app's affairs, for [`App::attend`](crate::engine::App::attend).
#[derive(Debug, Default)]
pub struct Chores {
    pub now: Now,
    pub drain: Drain,
    /// Another thread has woken the loop.
    pub woken: bool,
    /// What has happened since the last call.
    pub news: Vec<News>,
    /// Sessions that waited for something outside of their connections and can go on. Filled by the app. Those that are gone do no harm.
    pub wake: Vec<SessionId>,
    /// What the app wants done. Filled by the app.
    pub errands: Vec<Errand>,
    /// Servers to which an idle connection each is to be closed. Filled by the app.
    pub release: Vec<ServerId>,
}

impl Chores {
    /// A connection that the app takes for an idle one is no more, but the app has just put another one in its place: there is no news of that.
    pub fn forget_idle_gone(&mut self, server: ServerId) {
        let gone = News::IdleGone { server };
        if let Some(at) = self.news.iter().position(|news| *news == gone) {
            self.news.remove(at);
        }
    }
}

/// Something that concerns no session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// A server closed a connection that had been idle for so long.
    IdleClosed { server: ServerId, idle: Micros },
    /// An idle connection to the server is no more, whoever closed it; or there was none where one was to be released.
    IdleGone { server: ServerId },
    /// An errand is over.
    Errand { server: ServerId, outcome: Outcome },
}

/// A connection of the app's own, for one question and its answer. It is new, and closed afterwards.
#[derive(Clone, Debug)]
pub struct Errand {
    pub server: ServerId,
    /// What to send once connected; may be nothing.
    pub question: Vec<u8>,
    /// Is the answer complete? Asked when connected and after each read.
    pub enough: fn(&[u8]) -> bool,
    /// When there must be one.
    pub until: Micros,
}

/// How an errand ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There was no connection.
    Failed(DialError),
    /// What came in time: enough (the side is open still), or all until the end or the break.
    Answer { bytes: Vec<u8>, side: Side },
    /// Time was over.
    TimedOut,
}
