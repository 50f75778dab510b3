//! L2: the seam between pure applications (proxy, origin) and the loop that owns the sockets.
//!
//! ```text
//!  client ──read──▶ [ up   flow ] ──write──▶ upstream
//!  client ◀─write── [ down flow ] ◀──read── upstream
//! ```
//!
//! The loop fills flows, calls [`App::advance`] with a [`Turn`], performs the [`Effects`] and sends what the flows hold.
//! Nothing here knows a socket, a clock or HTTP.

pub mod chores;
pub mod close;
pub mod counts;
pub mod flow;
pub mod record;
pub mod turn;

pub use chores::{Chores, Errand, News, Outcome};
pub use close::{CloseReason, Guilty};
pub use counts::{ServerTotals, Totals};
pub use flow::Flow;
pub use record::{AccessLog, AccessRecord};
pub use turn::{Again, App, Close, DialError, Drain, Effects, ServerId, SessionId, Side, Turn, Uplink, Wish};
