//! L4: the loop and everything it owns: sockets, readiness, pools, deadlines. The only system calls and clock reads on the data path.
//!
//! [`worker`] waits and queues; `accept` lets clients in; `command` tells it to end; [`turn`] is what happens to one session: fill, advance, settle, flush; `errand` runs
//! the app's own. All work on any [`io::Io`]:
//! the real one is [`sys::Sys`] on mio, tests bring their own.

mod accept;
mod command;
mod errand;
pub mod io;
pub mod lane;
pub mod link;
pub mod listen;
mod memory;
pub mod pool;
pub mod share;
pub mod sys;
pub mod timer;
pub mod turn;
pub mod worker;

pub use command::{Command, Remote};
pub use memory::keep_little;
pub use share::Share;
pub use worker::{Census, Settings, Worker};
