//! The seam itself: what the loop tells an app in a turn, and what the app may wish for.

use crate::base::{BufferPool, Micros, Now, Peer};
use crate::engine::chores::Chores;
use crate::engine::flow::Flow;
use crate::engine::record::AccessLog;

/// An application on the loop: the proxy, or the origin, which never dials. Dispatched statically.
pub trait App {
    /// What the app keeps per client connection.
    type Session;

    /// A client has connected.
    fn open(&mut self, peer: Peer, now: Now) -> Self::Session;

    /// Something may have changed. Judges what the flows hold and says what it wishes for in `turn.effects`.
    fn advance(&mut self, session: &mut Self::Session, turn: &mut Turn<'_>);

    /// When the session must be woken even if nothing happens. Asked at each turn's end, when what could be sent was sent: what has
    /// moved in this turn is progress, and may put the deadline off.
    fn deadline(&self, session: &mut Self::Session, now: Now, up: &Flow, down: &Flow) -> Option<Micros>;

    /// The app's affairs apart from its sessions. Called after each batch of events, when another thread has woken the loop, and at
    /// the moment that it returned last (0 at first), if that comes earlier.
    fn attend(&mut self, _chores: &mut Chores) -> Micros {
        Micros::MAX
    }
}

/// Which session it is: unique for as long as anybody may remember it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SessionId {
    pub slot: u32,
    pub generation: u32,
}

/// A server of the pool, by its number.
pub type ServerId = u16;

/// What is known of the incoming half of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Side {
    /// More may come.
    #[default]
    Open,
    /// The peer has ended its stream cleanly; all its bytes are in the flow.
    Ended,
    /// The connection broke; what came before is in the flow.
    Broken,
}

/// The session's connection to a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Uplink {
    /// None was asked for, or it was parked or dropped.
    #[default]
    None,
    /// Being connected.
    Dialing,
    /// Connected; `reused` if it has served an exchange before.
    Linked { reused: bool, side: Side },
    /// The dial failed; there is no connection.
    Failed(DialError),
}

/// Why there is no connection to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DialError {
    /// Refused, reset or unreachable.
    Refused,
    /// Descriptors, ports or memory have run out on this side.
    NoSocket,
}

/// How far the end of the process has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Drain {
    /// It has not begun.
    #[default]
    No,
    /// No further request after this exchange, or for a client without one, after the next, if it comes soon.
    Finish,
    /// As before, but a client without an exchange goes at once: its place is needed.
    Leave,
    /// The drain time is over: end at once.
    Now,
}

/// The facts of a turn, the flows, and the wishes.
pub struct Turn<'a> {
    pub now: Now,
    /// The session itself, for [`Chores::wake`].
    pub session: SessionId,
    /// Filled by the client, drained by the upstream.
    pub up: &'a mut Flow,
    /// Filled by the upstream (or by the app), drained by the client.
    pub down: &'a mut Flow,
    pub client: Side,
    pub uplink: Uplink,
    /// The session's deadline has passed.
    pub expired: bool,
    pub drain: Drain,
    pub pool: &'a mut BufferPool,
    pub log: &'a mut dyn AccessLog,
    pub effects: Effects,
}

/// What an app asks the loop to do once it returns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    pub upstream: Wish,
    /// Call again in this turn if this has come true by then.
    pub again: Again,
    /// End our half of the upstream connection once the up flow is sent.
    pub end_up: bool,
    /// End our half of the client connection once the down flow is sent.
    pub end_down: bool,
    /// The session is over. The app is not called again.
    pub close: Option<Close>,
}

/// When an app wants to be called once more before the turn ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Again {
    /// It has nothing more to do now.
    #[default]
    No,
    /// The down flow has been sent.
    DownSent,
    /// The up flow has been sent.
    UpSent,
}

/// What should become of the upstream connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wish {
    /// Nothing.
    #[default]
    Stay,
    /// Get one to this server (dropping any present one): an idle one, or with `fresh` only a new one. If connections to it are `limited`, a
    /// new one takes the place of an idle one, if there is any.
    Dial { server: ServerId, fresh: bool, limited: bool },
    /// It is clean: keep it for another exchange, at most `idle` long, but hand it out only after it has rested for `rest`.
    Park { idle: Micros, rest: Micros },
    /// Close it.
    Drop,
}

/// How a client connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// Nothing is owed and nothing more is expected from the client.
    Finish,
    /// Send what is owed and end our half, but read on for a while, so that the client gets the answer before the reset that its unread bytes would cause.
    Linger,
    /// Reset at once: an answer without a known length must not look complete.
    Reset,
}
