//! L0: what every other room stands on: moments, addresses, dates. Knows no clock, no socket, nothing of ours.

pub mod address;
pub mod buffer;
pub mod buffers;
pub mod content;
pub mod date;
pub mod json;
pub mod peer;
pub mod time;

pub use address::Address;
pub use buffers::{BufferPool, Size};
pub use content::{Content, Source};
pub use date::DateLine;
pub use peer::Peer;
pub use time::{Micros, Now};
