//! A link: a socket, what is known of its readiness, and the flow it fills. Readiness is set and cleared here only.

use crate::base::BufferPool;
use crate::engine::{Flow, Side};
use crate::net::io::{Event, Interest, Io, Token};
use std::io::ErrorKind;

/// See the module.
#[derive(Debug)]
pub struct Link<S> {
    stream: S,
    /// What the socket filled in.
    pub flow: Flow,
    side: Side,
    readable: bool,
    writable: bool,
    /// An event told of an end: a short read does not mean drained, the end is still to be read.
    hangup: bool,
    /// A send failed: nothing can be sent any more.
    mute: bool,
    half: Half,
    watched: Interest,
}

/// Our half of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Half {
    Open,
    /// To be ended once everything is sent.
    Ending,
    Ended,
}

impl<S> Link<S> {
    /// A link that is watched like this. A socket just accepted can be written to; one that is being connected cannot.
    pub fn new(stream: S, watched: Interest, writable: bool) -> Link<S> {
        Link {
            stream,
            flow: Flow::default(),
            side: Side::Open,
            readable: false,
            writable,
            hangup: false,
            mute: false,
            half: Half::Open,
            watched,
        }
    }

    /// Begins to watch the socket.
    pub fn watch<I: Io<Stream = S>>(&mut self, io: &mut I, token: Token) -> std::io::Result<()> {
        io.watch(&mut self.stream, token, self.watched)
    }

    /// What an event says.
    pub fn note(&mut self, event: &Event) {
        self.readable |= event.readable || event.hangup;
        self.writable |= event.writable;
        self.hangup |= event.hangup;
    }

    /// Something may have come that no event has told of yet: look at the next fill.
    pub fn look(&mut self) {
        self.readable = true;
    }

    pub fn side(&self) -> Side {
        self.side
    }

    /// May there be more to read?
    pub fn is_readable(&self) -> bool {
        self.readable && self.side == Side::Open
    }

    pub fn stream(&self) -> &S {
        &self.stream
    }

    pub fn into_stream(self) -> S {
        self.stream
    }

    /// Reads until the socket is drained or the flow is full. A read shorter than its room means drained, unless an end was announced.
    /// (Not so at a TCP urgent mark: who sends out-of-band data waits for the next event.)
    pub fn fill<I: Io<Stream = S>>(&mut self, io: &mut I, pool: &mut BufferPool) {
        while self.is_readable() {
            let room = self.flow.room(pool);
            if room.is_empty() {
                return;
            }
            let asked = room.len();
            match io.recv(&mut self.stream, room) {
                Ok(0) => self.end_of_stream(),
                Ok(n) => {
                    self.flow.filled(n);
                    self.readable = n == asked || self.hangup;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.readable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.side = Side::Broken,
            }
        }
    }

    fn end_of_stream(&mut self) {
        // After a failed send the reset may already have been reported there; an end that follows is none.
        self.side = if self.mute { Side::Broken } else { Side::Ended };
    }

    /// Sends what `flow` has ready, as far as the socket takes it, and ends our half if that was wanted.
    /// Returns true if the half was ended just now.
    pub fn flush<I: Io<Stream = S>>(&mut self, io: &mut I, flow: &mut Flow, token: Token) -> bool {
        while !flow.drained() && self.writable && !self.mute && self.half != Half::Ended {
            let ready = flow.ready();
            let asked = ready.len();
            match io.send(&mut self.stream, ready) {
                Ok(n) => {
                    flow.sent(n);
                    self.writable = n == asked;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    self.mute = true;
                    // Reading tells what happened, and may still find an answer.
                    self.readable = true;
                }
            }
        }
        if !flow.drained() && !self.writable && !self.mute && self.watched == Interest::Read {
            self.watched = Interest::Both;
            if io.rewatch(&mut self.stream, token, Interest::Both).is_err() {
                self.side = Side::Broken;
            }
        }
        let ends = self.half == Half::Ending && flow.drained();
        if ends {
            self.half = Half::Ended;
            io.end(&self.stream);
        }
        ends
    }

    /// For a link whose answers matter to nobody: a failed send is its end. True if that is news.
    pub fn break_if_mute(&mut self) -> bool {
        let news = self.mute && self.side != Side::Broken;
        if news {
            self.side = Side::Broken;
        }
        news
    }

    /// Our half is to be ended once everything is sent.
    pub fn end_when_sent(&mut self) {
        if self.half == Half::Open {
            self.half = Half::Ending;
        }
    }

    /// Is the socket certainly drained, open and in order? Looks once where it is not known.
    pub fn is_quiet<I: Io<Stream = S>>(&mut self, io: &mut I) -> bool {
        if self.is_readable() {
            let mut probe = [0];
            let drained =
                io.recv(&mut self.stream, &mut probe).is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
            self.readable = false;
            if !drained {
                self.side = Side::Broken;
            }
        }
        self.side == Side::Open && !self.hangup && !self.mute && self.half == Half::Open
    }
}
