//! Content on its way: which bytes of a file are still owed, and what stands before, between and behind them.

use crate::origin::range::{Multipart, Parts};

/// A file being sent, of which not all bytes are in the flow yet.
#[derive(Debug)]
pub(super) struct Sending<F> {
    pub file: F,
    /// The bytes that come next: from here to before there.
    at: u64,
    end: u64,
    framing: Framing,
    /// What follows the present run of bytes, the last thing first.
    then: Vec<Segment>,
}

/// How the client learns where the content ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    /// Its length was announced.
    Length,
    /// Chunk by chunk; so many bytes of the present one are still to come, or none was begun.
    Chunks { left: u64 },
    /// The connection ends with it.
    Close,
}

/// A piece of a multipart body.
#[derive(Debug)]
enum Segment {
    Text(Vec<u8>),
    Bytes { start: u64, end: u64 },
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Send bytes of the file from this offset, at most so many.
    Bytes { at: u64, most: u64 },
    /// Send this.
    Text(Vec<u8>),
    /// All is sent.
    Through,
}

impl<F> Sending<F> {
    /// A run of bytes whose length was announced.
    pub fn new(file: F, start: u64, end: u64) -> Self {
        Sending { file, at: start, end, framing: Framing::Length, then: Vec::new() }
    }

    /// Several runs, as multipart/byteranges.
    pub fn parts(file: F, parts: &Parts, multipart: &Multipart) -> Self {
        let mut then = Vec::with_capacity(2 * parts.as_slice().len() + 1);
        let mut close = Vec::new();
        multipart.close(&mut close);
        then.push(Segment::Text(close));
        for part in parts.as_slice().iter().rev() {
            let mut preamble = Vec::new();
            multipart.preamble(&mut preamble, *part);
            then.push(Segment::Bytes { start: part.start, end: part.end });
            then.push(Segment::Text(preamble));
        }
        Sending { file, at: 0, end: 0, framing: Framing::Length, then }
    }

    /// All of a file that may still grow.
    pub fn in_chunks(file: F) -> Self {
        Sending { file, at: 0, end: u64::MAX, framing: Framing::Chunks { left: 0 }, then: Vec::new() }
    }

    /// The same for a client that does not know chunks.
    pub fn until_close(file: F) -> Self {
        Sending { file, at: 0, end: u64::MAX, framing: Framing::Close, then: Vec::new() }
    }

    /// The connection's end is the end of the content.
    pub fn is_until_close(&self) -> bool {
        self.framing == Framing::Close
    }

    pub fn is_through(&self) -> bool {
        self.at == self.end && self.then.is_empty()
    }

    pub fn next(&mut self) -> Next {
        if self.at == self.end {
            match self.then.pop() {
                None => return Next::Through,
                Some(Segment::Text(text)) => return Next::Text(text),
                Some(Segment::Bytes { start, end }) => (self.at, self.end) = (start, end),
            }
        }
        let left = match self.framing {
            Framing::Chunks { left } if left > 0 => left,
            _ => u64::MAX,
        };
        Next::Bytes { at: self.at, most: left.min(self.end - self.at) }
    }

    /// Must a chunk be begun before so many bytes of content? Then this is its first line.
    pub fn chunk_line(&mut self, content: u64) -> Option<Vec<u8>> {
        let first = self.at == 0;
        match &mut self.framing {
            Framing::Chunks { left } if *left == 0 => {
                *left = content;
                let end_of_former = if first { "" } else { "\r\n" };
                Some(format!("{end_of_former}{content:x}\r\n").into_bytes())
            }
            _ => None,
        }
    }

    /// So many bytes of content are in the flow now.
    pub fn moved(&mut self, n: u64) {
        self.at += n;
        if let Framing::Chunks { left } = &mut self.framing {
            *left -= n.min(*left);
        }
    }

    /// The file has no more bytes. What ends the content, or nothing where bytes were announced that are not there.
    pub fn ended(&mut self) -> Option<&'static [u8]> {
        let last: &[u8] = match self.framing {
            Framing::Length => return None,
            Framing::Chunks { .. } if self.at == 0 => b"0\r\n\r\n",
            Framing::Chunks { .. } => b"\r\n0\r\n\r\n",
            Framing::Close => b"",
        };
        self.end = self.at;
        Some(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_framed_and_ended() {
        let mut sending = Sending::in_chunks(());
        assert_eq!(sending.next(), Next::Bytes { at: 0, most: u64::MAX });
        assert_eq!(sending.chunk_line(26).unwrap(), b"1a\r\n");
        sending.moved(20);
        assert_eq!(sending.next(), Next::Bytes { at: 20, most: 6 });
        assert_eq!(sending.chunk_line(6), None, "it was begun");
        sending.moved(6);
        assert_eq!(sending.chunk_line(1).unwrap(), b"\r\n1\r\n");
        sending.moved(1);
        assert_eq!(sending.ended().unwrap(), b"\r\n0\r\n\r\n");
        assert!(sending.is_through() && sending.next() == Next::Through);
        assert_eq!(Sending::in_chunks(()).ended().unwrap(), b"0\r\n\r\n");
        assert_eq!(Sending::new((), 0, 5).ended(), None, "it was cut");
    }
}
