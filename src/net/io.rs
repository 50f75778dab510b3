//! What the loop needs of an operating system. Real in [`crate::net::sys`]; a test may give it another world.

use crate::base::{Address, Micros, Now, Peer};
use std::io;
use std::os::fd::OwnedFd;

/// What an event is about: a kind, a slot, and the slot's generation, so that an event for a former tenant is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token {
    Listener(u32),
    /// Another thread has something to say.
    Waker,
    Session {
        slot: u32,
        generation: u32,
    },
    Uplink {
        slot: u32,
        generation: u32,
    },
    /// A connection of the app's own.
    Errand {
        slot: u32,
        generation: u32,
    },
}

const KIND_BITS: u32 = 3;
const GENERATION_BITS: u32 = 29;

/// Generations wrap here; a stale event would have to outlive half a billion connections in its slot.
pub const GENERATIONS: u32 = 1 << GENERATION_BITS;

impl Token {
    /// As the one word that epoll carries.
    pub fn pack(self) -> usize {
        let (kind, generation, slot) = match self {
            Token::Listener(index) => (0, 0, index),
            Token::Waker => (1, 0, 0),
            Token::Session { slot, generation } => (2, generation, slot),
            Token::Uplink { slot, generation } => (3, generation, slot),
            Token::Errand { slot, generation } => (4, generation, slot),
        };
        ((kind as usize) << (64 - KIND_BITS)) | ((generation as usize) << 32) | slot as usize
    }

    pub fn unpack(word: usize) -> Token {
        let slot = word as u32;
        let generation = (word >> 32) as u32 & (GENERATIONS - 1);
        match word >> (64 - KIND_BITS) {
            0 => Token::Listener(slot),
            1 => Token::Waker,
            2 => Token::Session { slot, generation },
            3 => Token::Uplink { slot, generation },
            _ => Token::Errand { slot, generation },
        }
    }
}

/// Something happened; edge-triggered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    pub token: Token,
    pub readable: bool,
    pub writable: bool,
    /// The peer has ended its side, or the connection broke: reads must go on until they say which.
    pub hangup: bool,
}

/// What a stream is watched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    Read,
    Both,
}

/// The world of one worker.
pub trait Io {
    type Stream;
    /// A pipe between two streams.
    type Pipe;

    /// The clocks. Read once per wait.
    fn now(&mut self) -> Now;

    /// Replaces `events` by what happened, waiting at most so long (`None`: for ever).
    fn wait(&mut self, events: &mut Vec<Event>, at_most: Option<Micros>) -> io::Result<()>;

    /// How many listeners there are.
    fn listeners(&self) -> u32;

    /// The next client of a listener, non-blocking and without delay.
    fn accept(&mut self, listener: u32) -> io::Result<(Self::Stream, Peer)>;

    /// Accepts no more.
    fn close_listeners(&mut self);

    /// Begins to connect. Whether it worked tells an event, and then [`Io::connected`].
    fn dial(&mut self, address: &Address) -> io::Result<Self::Stream>;

    fn connected(&mut self, stream: &Self::Stream) -> io::Result<()>;

    /// Watches a new stream.
    fn watch(&mut self, stream: &mut Self::Stream, token: Token, interest: Interest) -> io::Result<()>;

    /// Watches for something else.
    fn rewatch(&mut self, stream: &mut Self::Stream, token: Token, interest: Interest) -> io::Result<()>;

    fn recv(&mut self, stream: &mut Self::Stream, into: &mut [u8]) -> io::Result<usize>;

    /// Sends bytes, and then those of `rest` (which may be none) in the same call. `more`: others follow at once, these may wait for them.
    fn send(&mut self, stream: &mut Self::Stream, bytes: &[u8], rest: &[u8], more: bool) -> io::Result<usize>;

    /// Sends at most `most` bytes of a file from `offset` on, and tells whether the socket is full then; 0 is the end of the file. Should
    /// not wait for a disk: see to it before that the bytes are in memory.
    fn send_file(
        &mut self,
        stream: &mut Self::Stream,
        file: &OwnedFd,
        offset: u64,
        most: usize,
    ) -> io::Result<(usize, bool)>;

    /// A large pipe, empty.
    fn pipe(&mut self) -> io::Result<Self::Pipe>;

    /// Moves at most `most` received bytes into the pipe; 0 is the end of the stream. `WouldBlock`: nothing has come, or the pipe is full.
    fn splice_in(&mut self, stream: &mut Self::Stream, pipe: &mut Self::Pipe, most: usize) -> io::Result<usize>;

    /// Sends at most `most` bytes out of the pipe.
    fn splice_out(&mut self, pipe: &mut Self::Pipe, stream: &mut Self::Stream, most: usize) -> io::Result<usize>;

    /// Ends our half. Errors mean that the connection is gone, which reads will tell.
    fn end(&mut self, stream: &Self::Stream);

    /// Closes with a reset.
    fn reset(&mut self, stream: Self::Stream);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_packing() {
        for token in [
            Token::Listener(3),
            Token::Waker,
            Token::Session { slot: u32::MAX, generation: GENERATIONS - 1 },
            Token::Uplink { slot: 0, generation: 1 },
            Token::Errand { slot: 7, generation: GENERATIONS - 1 },
        ] {
            assert_eq!(Token::unpack(token.pack()), token);
        }
    }
}
