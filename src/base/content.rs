//! Content that is sent from where it lies: bytes that several answers share, or a part of an open file.
//!
//! Whoever holds a piece of content holds what it lies in. That no byte is copied into a flow's buffer is the point of it.

use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Where content lies.
#[derive(Clone, Debug)]
pub enum Source {
    Memory(Arc<[u8]>),
    /// Only handed on here; reading and sending it is the loop's business.
    File(Arc<OwnedFd>),
}

/// The bytes of a source from `at` to `end`, of which there is at least one.
#[derive(Clone, Debug)]
pub struct Content {
    source: Source,
    at: u64,
    end: u64,
}

impl Content {
    /// `None` for no bytes at all. What would lie behind the end of memory is left out.
    pub fn new(source: Source, at: u64, end: u64) -> Option<Content> {
        let end = match &source {
            Source::Memory(bytes) => end.min(bytes.len() as u64),
            Source::File(_) => end,
        };
        (at < end).then_some(Content { source, at, end })
    }

    pub fn source(&self) -> &Source {
        &self.source
    }

    /// The offset of the next byte to be sent.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Bytes that are still to be sent.
    pub fn left(&self) -> u64 {
        self.end - self.at
    }

    /// What is to be sent, if it lies in memory.
    pub fn bytes(&self) -> Option<&[u8]> {
        match &self.source {
            Source::Memory(bytes) => bytes.get(self.at as usize..self.end as usize),
            Source::File(_) => None,
        }
    }

    /// `n` bytes were sent. True if they were the last ones.
    pub fn advance(&mut self, n: usize) -> bool {
        debug_assert!(n as u64 <= self.left());
        self.at += n as u64;
        self.at >= self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_sent_piece_by_piece_and_never_has_more_than_there_is() {
        let memory = Source::Memory(Arc::from(&b"0123456789"[..]));
        assert!(Content::new(memory.clone(), 3, 3).is_none());
        assert!(Content::new(memory.clone(), 10, 99).is_none());
        let mut content = Content::new(memory, 3, 99).unwrap();
        assert_eq!(content.bytes(), Some(&b"3456789"[..]));
        assert!(!content.advance(6));
        assert_eq!((content.bytes(), content.left()), (Some(&b"9"[..]), 1));
        assert!(content.advance(1));
    }
}
