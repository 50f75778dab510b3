//! Tells content from framing, piece by piece, without touching a byte.

use crate::http1::chunk::{self, Line};
use crate::http1::{Fault, Framing, HeadScan, Limits};
use memchr::memchr;

/// Trailer sections over this size are refused.
pub const MAX_TRAILERS: usize = 8 * 1024;
/// Framing bytes that chunked content may have beyond 16 bytes a chunk and as many as the content has:
/// enough for an honest sender, too little to make the proxy work for nothing.
const MAX_EXCESS: u64 = 16 * 1024;

/// What the next unread bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Nothing more can be said until more bytes come.
    NeedMore,
    /// So many bytes of content.
    Data(usize),
    /// So many bytes of chunk framing, to be passed on as this line.
    Chunk { len: usize, line: Line },
    /// The CRLF that ends a chunk's data.
    ChunkEnd,
    /// The last chunk's line, so many bytes: `0 CRLF` to the next hop.
    LastChunk { len: usize },
    /// The trailer section with its empty line, so many bytes.
    Trailers { len: usize },
    /// The message is complete; following bytes are not part of it.
    End,
}

/// The reading of one body.
#[derive(Clone, Copy, Debug)]
pub struct Body {
    state: State,
    /// Content bytes seen so far.
    content: u64,
    /// Framing beyond what the content justifies.
    excess: u64,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Done,
    Length(u64),
    UntilClose,
    ChunkLine { scanned: u32 },
    ChunkData(u64),
    ChunkEnd,
    Trailers(HeadScan),
}

impl Body {
    pub fn new(framing: Framing) -> Body {
        let state = match framing {
            Framing::None | Framing::Length(0) => State::Done,
            Framing::Length(n) => State::Length(n),
            Framing::Chunked => State::ChunkLine { scanned: 0 },
            Framing::UntilClose => State::UntilClose,
        };
        Body { state, content: 0, excess: 0 }
    }

    /// The whole message was seen.
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Its end is the connection's.
    pub fn is_until_close(&self) -> bool {
        matches!(self.state, State::UntilClose)
    }

    /// Content bytes seen so far.
    pub fn content(&self) -> u64 {
        self.content
    }

    /// So many bytes of content come next, whatever they are: nothing of them needs to be looked at.
    pub fn ahead(&self) -> u64 {
        match self.state {
            State::Length(left) | State::ChunkData(left) => left,
            State::UntilClose => u64::MAX,
            State::Done | State::ChunkLine { .. } | State::ChunkEnd | State::Trailers(_) => 0,
        }
    }

    /// `n` bytes of content, not more than [`Body::ahead`], have gone by.
    pub fn pass(&mut self, n: u64) {
        self.content += n;
        self.excess = self.excess.saturating_sub(n);
        if let State::Length(left) | State::ChunkData(left) = &mut self.state {
            debug_assert!(n <= *left);
            *left = left.saturating_sub(n);
        }
        match self.state {
            State::Length(0) => self.state = State::Done,
            State::ChunkData(0) => self.state = State::ChunkEnd,
            _ => {}
        }
    }

    /// What the first of the unread `bytes` are. They count as read, except with [`Piece::NeedMore`] and [`Piece::End`]: the next call
    /// gets the bytes behind them. Between two calls that need more, `bytes` only grows.
    pub fn next(&mut self, bytes: &[u8]) -> Result<Piece, Fault> {
        if let State::Done = self.state {
            return Ok(Piece::End);
        }
        if bytes.is_empty() {
            return Ok(Piece::NeedMore);
        }
        match self.state {
            State::Done => Ok(Piece::End),
            State::Length(_) | State::ChunkData(_) | State::UntilClose => {
                let n = bytes.len().min(usize::try_from(self.ahead()).unwrap_or(usize::MAX));
                self.pass(n as u64);
                Ok(Piece::Data(n))
            }
            State::ChunkEnd => self.chunk_end(bytes),
            State::ChunkLine { .. } => self.chunk_line(bytes),
            State::Trailers(_) => self.trailers(bytes),
        }
    }

    fn chunk_line(&mut self, bytes: &[u8]) -> Result<Piece, Fault> {
        let State::ChunkLine { scanned } = &mut self.state else { return Ok(Piece::NeedMore) };
        let from = *scanned as usize;
        let Some(lf) = memchr(b'\n', &bytes[from..]).map(|at| from + at) else {
            *scanned = bytes.len() as u32;
            return if bytes.len() < chunk::MAX_LINE { Ok(Piece::NeedMore) } else { Err(Fault::ChunkLineTooLong) };
        };
        if lf == 0 || bytes[lf - 1] != b'\r' {
            return Err(Fault::BareLf);
        }
        let len = lf + 1;
        if len > chunk::MAX_LINE {
            return Err(Fault::ChunkLineTooLong);
        }
        let size = chunk::parse_line(&bytes[..lf - 1])?;
        self.excess += (len as u64).saturating_sub(16);
        if self.excess > MAX_EXCESS {
            return Err(Fault::ChunkOverhead);
        }
        if size == 0 {
            self.state = State::Trailers(HeadScan::default());
            return Ok(Piece::LastChunk { len });
        }
        self.state = State::ChunkData(size);
        Ok(Piece::Chunk { len, line: Line::of(size) })
    }

    fn chunk_end(&mut self, bytes: &[u8]) -> Result<Piece, Fault> {
        match bytes {
            [b'\r', b'\n', ..] => {
                self.state = State::ChunkLine { scanned: 0 };
                Ok(Piece::ChunkEnd)
            }
            [b'\r'] => Ok(Piece::NeedMore),
            _ => Err(Fault::BadChunkEnd),
        }
    }

    fn trailers(&mut self, bytes: &[u8]) -> Result<Piece, Fault> {
        let State::Trailers(scan) = &mut self.state else { return Ok(Piece::NeedMore) };
        match scan.end(bytes)? {
            Some(len) if len <= MAX_TRAILERS => {
                self.state = State::Done;
                Ok(Piece::Trailers { len })
            }
            None if bytes.len() < MAX_TRAILERS => Ok(Piece::NeedMore),
            _ => Err(Fault::TrailersTooLarge),
        }
    }
}

/// The limits of a trailer section.
pub const TRAILER_LIMITS: Limits = Limits { head: MAX_TRAILERS, fields: 100, target: 0 };

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads `bytes` as they come in steps of `step`; the content, and what was left unread.
    fn read(framing: Framing, bytes: &[u8], step: usize) -> Result<(Vec<u8>, bool, usize), Fault> {
        let (mut body, mut content, mut at) = (Body::new(framing), Vec::new(), 0);
        let mut seen = 0;
        loop {
            let (len, data) = match body.next(&bytes[at..seen])? {
                Piece::End => return Ok((content, true, bytes.len() - at)),
                Piece::NeedMore if seen == bytes.len() => return Ok((content, false, bytes.len() - at)),
                Piece::NeedMore => {
                    seen = (seen + step).min(bytes.len());
                    continue;
                }
                Piece::Data(n) => (n, true),
                Piece::Chunk { len, .. } | Piece::LastChunk { len } | Piece::Trailers { len } => (len, false),
                Piece::ChunkEnd => (2, false),
            };
            if data {
                content.extend_from_slice(&bytes[at..at + len]);
            }
            at += len;
        }
    }

    #[test]
    fn lengths_and_chunks_whole_and_in_pieces() {
        for step in [1, 2, 7, 1000] {
            assert_eq!(read(Framing::Length(5), b"helloNEXT", step), Ok((b"hello".to_vec(), true, 4)));
            let chunked = b"5;a=b\r\nhello\r\n1\r\n!\r\n0\r\nX: y\r\n\r\nNEXT";
            assert_eq!(read(Framing::Chunked, chunked, step), Ok((b"hello!".to_vec(), true, 4)), "{step}");
            assert_eq!(read(Framing::Chunked, b"0\r\n\r\n", step), Ok((vec![], true, 0)));
            assert_eq!(read(Framing::UntilClose, b"abc", step), Ok((b"abc".to_vec(), false, 0)));
            assert_eq!(read(Framing::None, b"NEXT", step), Ok((vec![], true, 4)));
        }
    }

    #[test]
    fn content_may_go_by_unseen() {
        let mut body = Body::new(Framing::Length(10));
        assert_eq!((body.next(b"abc"), body.ahead()), (Ok(Piece::Data(3)), 7));
        body.pass(7);
        assert!(body.is_done() && body.content() == 10 && body.ahead() == 0);
        let mut body = Body::new(Framing::Chunked);
        assert_eq!(body.ahead(), 0);
        assert!(matches!(body.next(b"5\r\n"), Ok(Piece::Chunk { len: 3, .. })));
        body.pass(5);
        assert_eq!((body.ahead(), body.next(b"\r\n")), (0, Ok(Piece::ChunkEnd)));
        let mut body = Body::new(Framing::UntilClose);
        body.pass(1 << 40);
        assert_eq!((body.ahead(), body.is_done(), body.content()), (u64::MAX, false, 1 << 40));
    }

    #[test]
    fn faults_are_found_however_they_come() {
        for step in [1, 3, 1000] {
            for (bytes, fault) in [
                (&b"5\nhello\r\n0\r\n\r\n"[..], Fault::BareLf),
                (b"5\r\nhelloX0\r\n\r\n", Fault::BadChunkEnd),
                (b"5\r\nhello\r\r", Fault::BadChunkEnd),
                (b"5\r\nhello\n0\r\n\r\n", Fault::BadChunkEnd),
                (b"x\r\n", Fault::BadChunkSize),
                (b"0\r\nX: y\n\r\n", Fault::BareLf),
            ] {
                assert_eq!(read(Framing::Chunked, bytes, step), Err(fault), "{bytes:?} by {step}");
            }
        }
    }

    #[test]
    fn framing_without_content_is_bounded() {
        let padded = format!("1;{}\r\nx\r\n", "a".repeat(1000)).repeat(20);
        assert_eq!(read(Framing::Chunked, padded.as_bytes(), 100_000), Err(Fault::ChunkOverhead));
        let honest = "1;abcd=efgh\r\nx\r\n".repeat(100_000);
        assert!(read(Framing::Chunked, honest.as_bytes(), honest.len()).is_ok());
        let long = [b'1'; chunk::MAX_LINE];
        assert_eq!(read(Framing::Chunked, &long, 1), Err(Fault::ChunkLineTooLong));
        let trailers = [b"0\r\n".to_vec(), b"A: b\r\n".repeat(2000)].concat();
        assert_eq!(read(Framing::Chunked, &trailers, 100_000), Err(Fault::TrailersTooLarge));
    }
}
