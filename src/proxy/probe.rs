//! Active probes: what is asked of a server, what its answer means, and whom to ask when. The connections are the loop's.

use crate::base::Micros;
use crate::base::time::SECOND;
use crate::engine::ServerId;
use crate::http1::field::FieldSpace;
use crate::http1::response::{self, Asked};
use crate::http1::target::is_authority;
use crate::http1::{self, Body, HeadScan, Limits, Piece};
use std::fmt;

/// As much of an answer is looked at; its status counts all the same.
pub const MOST: usize = 64 * 1024;
/// Interim answers before the one that counts.
const MAX_INTERIM: usize = 16;

/// What a probe asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Check {
    /// Nothing: there are no probes.
    Off,
    /// That a connection comes about.
    #[default]
    Tcp,
    /// That GET of this path has a status within one of these ranges, ends included.
    Http { path: String, statuses: Vec<(u16, u16)> },
}

/// What a probe can tell, at best.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Tcp,
    Http,
}

/// How servers are probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub check: Check,
    /// From the begin of one probe to that of the next, give or take a tenth.
    pub interval: Micros,
    /// For all of a probe.
    pub timeout: Micros,
    /// What connections to servers begin with (the PROXY protocol), or nothing.
    pub preface: Vec<u8>,
}

impl Default for Plan {
    fn default() -> Self {
        Plan { check: Check::default(), interval: 5 * SECOND, timeout: 2 * SECOND, preface: Vec::new() }
    }
}

/// How a probe's connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// [`enough`] said so, or a connection was all that was asked for.
    Enough,
    /// The server ended its stream.
    Closed,
    /// The connection broke.
    Broken,
    /// The timeout passed.
    Late,
    /// There was no connection.
    Refused,
    /// This machine had no socket for it.
    NoSocket,
}

/// What a probe has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Well,
    Bad(Bad),
    /// Nothing about the server: the probe itself failed.
    Unknown,
}

/// What is wrong with a server. Shown as it follows `server 192.0.2.1:80 is down: `.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bad {
    Refused,
    Late,
    Silent,
    Early,
    Malformed(http1::Fault),
    Status(u16),
}

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bad::Refused => f.write_str("health check was refused a connection"),
            Bad::Late => f.write_str("health check was not answered in time"),
            Bad::Silent => f.write_str("health check got no answer"),
            Bad::Early => f.write_str("health check got an answer that ended early"),
            Bad::Malformed(fault) => write!(f, "health check got a malformed answer ({})", fault.word()),
            Bad::Status(status) => write!(f, "health check got {status}"),
        }
    }
}

/// The host that a server of this name is called in requests: the path of a Unix socket is none.
pub fn host_of(name: &str) -> &str {
    if is_authority(name.as_bytes()) { name } else { "localhost" }
}

impl Plan {
    /// `None`: there are no probes.
    pub fn kind(&self) -> Option<Kind> {
        match self.check {
            Check::Off => None,
            Check::Tcp => Some(Kind::Tcp),
            Check::Http { .. } => Some(Kind::Http),
        }
    }

    /// What a probe sends to the server of that name; `None`: nothing, a connection is all.
    pub fn request(&self, name: &str) -> Option<Vec<u8>> {
        let Check::Http { path, .. } = &self.check else { return None };
        let host = host_of(name);
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: pilb-fast (health check)\r\nAccept: */*\r\nConnection: close\r\n\r\n"
        );
        Some([&self.preface, head.as_bytes()].concat())
    }

    /// What the bytes that came until the `end` say.
    pub fn verdict(&self, bytes: &[u8], end: End) -> Verdict {
        match (end, &self.check) {
            (End::NoSocket, _) => Verdict::Unknown,
            (End::Refused, _) => Verdict::Bad(Bad::Refused),
            (End::Late, _) => Verdict::Bad(Bad::Late),
            (_, Check::Off) => Verdict::Unknown,
            (_, Check::Tcp) => Verdict::Well,
            (_, Check::Http { statuses, .. }) => match judge(bytes, end, statuses) {
                Ok(()) => Verdict::Well,
                Err(bad) => Verdict::Bad(bad),
            },
        }
    }
}

fn judge(bytes: &[u8], end: End, statuses: &[(u16, u16)]) -> Result<(), Bad> {
    let read = read(bytes).map_err(Bad::Malformed)?;
    let Some(status) = read.status else {
        return Err(if bytes.is_empty() { Bad::Silent } else { Bad::Early });
    };
    // The status says more than how the answer ended.
    if !statuses.iter().any(|(from, to)| (*from..=*to).contains(&status)) {
        return Err(Bad::Status(status));
    }
    let whole = read.whole || bytes.len() >= MOST || (read.until_close && end == End::Closed);
    if whole { Ok(()) } else { Err(Bad::Early) }
}

/// Need no more bytes be read? The answer is whole or malformed, or as much has come as is looked at.
pub fn enough(bytes: &[u8]) -> bool {
    bytes.len() >= MOST || read(bytes).map_or(true, |read| read.whole)
}

/// What has come of an answer.
#[derive(Clone, Copy, Default)]
struct Read {
    /// Its head is there.
    status: Option<u16>,
    whole: bool,
    until_close: bool,
}

/// Reads as the proxy does: what is malformed there is malformed here.
fn read(bytes: &[u8]) -> Result<Read, http1::Fault> {
    let mut rest = bytes;
    for _ in 0..=MAX_INTERIM {
        let Some(len) = HeadScan::default().end(rest)? else {
            return if rest.len() < Limits::RESPONSE.head {
                Ok(Read::default())
            } else {
                Err(http1::Fault::HeadTooLarge)
            };
        };
        let mut space = FieldSpace::new();
        let asked = Asked { head: false, upgrade: false };
        let head = response::parse(&rest[..len], &mut space, &Limits::RESPONSE, asked)?;
        let (interim, status) = (head.is_interim(), head.status);
        let mut body = Body::new(head.framing);
        rest = &rest[len..];
        if !interim {
            let until_close = body.is_until_close();
            return Ok(Read { status: Some(status), whole: is_whole(&mut body, rest)?, until_close });
        }
    }
    Err(http1::Fault::TooManyInterim)
}

fn is_whole(body: &mut Body, mut bytes: &[u8]) -> Result<bool, http1::Fault> {
    loop {
        let len = match body.next(bytes)? {
            Piece::End => return Ok(true),
            Piece::NeedMore => return Ok(false),
            Piece::Data(len) | Piece::Chunk { len, .. } | Piece::LastChunk { len } | Piece::Trailers { len } => len,
            Piece::ChunkEnd => 2,
        };
        bytes = &bytes[len..];
    }
}

/// Can this be asked for? An absolute path, maybe with a query, of the bytes that a target may have.
pub fn is_path(path: &str) -> bool {
    path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#')
}

/// How soon a server is probed again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// After the interval.
    Usual,
    /// After a fifth of it: its state may be about to change.
    Soon,
}

/// Whom to probe when. Each server's probes keep their own time, off by a random tenth, so that those of several workers and proxies
/// do not meet.
#[derive(Clone, Debug)]
pub struct Schedule {
    interval: Micros,
    servers: Vec<Timing>,
    /// When the first of them is due.
    soonest: Micros,
    random: u64,
}

#[derive(Clone, Copy, Debug)]
struct Timing {
    /// When its last probe began.
    began: Micros,
    /// `Micros::MAX`: one is under way.
    due: Micros,
}

impl Schedule {
    /// For so many servers, all due at once.
    pub fn new(servers: usize, interval: Micros, seed: u64) -> Schedule {
        let soonest = if servers == 0 { Micros::MAX } else { 0 };
        // Mixed, since workers count their seeds; and a xorshift needs one bit.
        let random = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        Schedule { interval, servers: vec![Timing { began: 0, due: 0 }; servers], soonest, random }
    }

    /// A server whose probe should begin now; to be asked until there is none. It counts as under way until [`Schedule::done`].
    pub fn due(&mut self, now: Micros) -> Option<ServerId> {
        if now < self.soonest {
            return None;
        }
        let server = self.servers.iter().position(|server| server.due <= now);
        if let Some(server) = server {
            self.servers[server] = Timing { began: now, due: Micros::MAX };
        }
        self.soonest = self.servers.iter().map(|server| server.due).min().unwrap_or(Micros::MAX);
        server.map(|server| server as ServerId)
    }

    /// When to ask [`Schedule::due`] again; `Micros::MAX`: not before the next [`Schedule::done`].
    pub fn next(&self) -> Micros {
        self.soonest
    }

    /// The server's probe has ended.
    pub fn done(&mut self, server: ServerId, now: Micros, again: Pace) {
        let span = self.span(again);
        if let Some(timing) = self.servers.get_mut(usize::from(server)) {
            timing.due = (timing.began + span).max(now);
            self.soonest = self.soonest.min(timing.due);
        }
    }

    /// Something speaks against the server (it was ejected, say): its next probe comes soon, if none is under way.
    pub fn hurry(&mut self, server: ServerId, now: Micros) {
        let span = self.span(Pace::Soon);
        if let Some(timing) = self.servers.get_mut(usize::from(server))
            && timing.due != Micros::MAX
        {
            timing.due = timing.due.min(now + span);
            self.soonest = self.soonest.min(timing.due);
        }
    }

    /// The span of a pace, give or take a tenth.
    fn span(&mut self, pace: Pace) -> Micros {
        let span = match pace {
            Pace::Usual => self.interval,
            Pace::Soon => self.interval / 5,
        };
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        span - span / 10 + (self.random >> 11) % (span / 5 + 1)
    }
}

#[cfg(test)]
mod tests;
