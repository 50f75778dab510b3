//! L1: the HTTP/1 engine without I/O: bytes in, values out (RFC 9110, RFC 9112). Imports `base` only.
//!
//! A message is read in three steps: [`scan::HeadScan`] finds the end of its head, [`request::parse`] or
//! [`response::parse`] judges it, [`body::Body`] tells piece by piece what of the following bytes is content.
//! Whatever could be read in two ways is a [`Fault`]. [`cycle::Cycle`] knows when the next message may begin.

pub mod body;
pub mod chunk;
pub mod cycle;
pub mod encode;
pub mod fault;
pub mod field;
pub mod framing;
pub mod request;
pub mod response;
pub mod scan;
pub mod target;
pub mod trailer;

pub use body::{Body, Piece};
pub use cycle::Cycle;
pub use fault::Fault;
pub use field::{Fields, Known};
pub use framing::Framing;
pub use request::{Method, RequestHead};
pub use response::ResponseHead;
pub use scan::HeadScan;

/// Fields a head or a trailer section may have at the very most, whatever the configured limit.
pub const MAX_FIELDS: usize = 128;

/// How large a message's head may be. Over `head` or `fields` is 431, over `target` 414 (for a response both mean 502).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the whole head with its last line end.
    pub head: usize,
    /// Field lines, at most [`MAX_FIELDS`].
    pub fields: usize,
    /// Bytes of the request target.
    pub target: usize,
}

impl Limits {
    pub const REQUEST: Limits = Limits { head: 16 * 1024, fields: 100, target: 8 * 1024 };
    pub const RESPONSE: Limits = Limits { head: 32 * 1024, fields: 100, target: 0 };
}

/// A version this engine speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    Http10,
    Http11,
}
