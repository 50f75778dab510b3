//! What the access log is told of an exchange: one value of fixed size, so that handing it over is a copy.

use crate::base::{Micros, Peer};
use crate::engine::close::CloseReason;
use crate::engine::turn::ServerId;

/// Where finished records go. The loop's side of the log; it never waits.
pub trait AccessLog {
    /// Hands a copy over, or counts it as lost.
    fn record(&mut self, record: &AccessRecord);
}

/// Bytes of text in a record: request line, Host, Referer and User-Agent together.
pub const TEXT: usize = 640;
const PARTS: usize = 4;

/// A piece of the request that the record quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Part {
    /// The request line as the client sent it, without its line end.
    Line,
    /// The host the request is for.
    Host,
    Referer,
    UserAgent,
}

/// One exchange, or one attempt at a request that was refused or never completed.
#[derive(Clone, Debug)]
pub struct AccessRecord {
    /// When the request's first byte was seen, or the connection gave up waiting: wall clock.
    pub unix: Micros,
    pub client: Peer,
    /// The status sent to the client, 0 if none was.
    pub status: u16,
    /// Bytes of this request that came from the client, head and body.
    pub bytes_up: u64,
    /// Bytes of this answer that went to the client, head and body.
    pub bytes_down: u64,
    /// Of these, the head's.
    pub head_down: u32,
    /// The server that answered or failed last.
    pub server: Option<ServerId>,
    /// Connections tried for this request.
    pub attempts: u8,
    /// From the first byte of the head to its last.
    pub wait_head: Micros,
    /// From the head to a connection to the server.
    pub connect: Micros,
    /// From the head to the first byte of the answer's head; 0 if there was none.
    pub first_byte: Micros,
    /// From the first byte of the head to the last byte of the answer.
    pub total: Micros,
    /// The request was not the first one on its client connection.
    pub client_reused: bool,
    /// The server's connection had served before.
    pub upstream_reused: bool,
    pub end: CloseReason,
    /// What exactly was wrong ("bare-lf"), or empty.
    pub detail: &'static str,
    text: [u8; TEXT],
    ends: [u16; PARTS],
    cut: [bool; PARTS],
}

impl AccessRecord {
    pub fn new(unix: Micros, client: Peer) -> Self {
        AccessRecord {
            unix,
            client,
            status: 0,
            bytes_up: 0,
            bytes_down: 0,
            head_down: 0,
            server: None,
            attempts: 0,
            wait_head: 0,
            connect: 0,
            first_byte: 0,
            total: 0,
            client_reused: false,
            upstream_reused: false,
            end: CloseReason::Done,
            detail: "",
            text: [0; TEXT],
            ends: [0; PARTS],
            cut: [false; PARTS],
        }
    }

    /// Makes the record a new one without touching its text bytes.
    pub fn reset(&mut self, unix: Micros, client: Peer) {
        self.unix = unix;
        self.client = client;
        (self.status, self.bytes_up, self.bytes_down, self.head_down) = (0, 0, 0, 0);
        (self.server, self.attempts) = (None, 0);
        (self.wait_head, self.connect, self.first_byte, self.total) = (0, 0, 0, 0);
        (self.client_reused, self.upstream_reused) = (false, false);
        (self.end, self.detail) = (CloseReason::Done, "");
        (self.ends, self.cut) = ([0; PARTS], [false; PARTS]);
    }

    /// Quotes a part. Parts are set in their order; what does not fit is cut and marked as cut.
    pub fn set(&mut self, part: Part, bytes: &[u8]) {
        let index = part as usize;
        let start = if index == 0 { 0 } else { usize::from(self.ends[index - 1]) };
        // A long request line leaves something for the parts behind it.
        let limit = TEXT - 96 * (PARTS - 1 - index);
        let n = bytes.len().min(limit.saturating_sub(start));
        self.text[start..start + n].copy_from_slice(&bytes[..n]);
        for end in &mut self.ends[index..] {
            *end = (start + n) as u16;
        }
        self.cut[index] = n < bytes.len();
    }

    /// The bytes of a part as they came: hostile until escaped.
    pub fn part(&self, part: Part) -> &[u8] {
        let index = part as usize;
        let start = if index == 0 { 0 } else { usize::from(self.ends[index - 1]) };
        &self.text[start..usize::from(self.ends[index])]
    }

    /// Was the part too long to be kept whole?
    pub fn is_cut(&self, part: Part) -> bool {
        self.cut[part as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_kept_in_order_and_cut_at_the_limit() {
        let mut record = AccessRecord::new(0, Peer::Unix);
        record.set(Part::Line, b"GET / HTTP/1.1");
        record.set(Part::Host, b"a.example");
        record.set(Part::UserAgent, b"curl/8");
        assert_eq!(record.part(Part::Line), b"GET / HTTP/1.1");
        assert_eq!(record.part(Part::Host), b"a.example");
        assert_eq!(record.part(Part::Referer), b"");
        assert_eq!(record.part(Part::UserAgent), b"curl/8");
        record.reset(1, Peer::Unix);
        record.set(Part::Line, &[b'x'; 2 * TEXT]);
        record.set(Part::Host, &[b'h'; 40]);
        assert!(record.is_cut(Part::Line) && !record.is_cut(Part::Host));
        assert_eq!(record.part(Part::Line).len(), TEXT - 3 * 96);
        assert_eq!(record.part(Part::Host), [b'h'; 40]);
        assert!(size_of::<AccessRecord>() <= 832, "{}", size_of::<AccessRecord>());
    }
}
