//! A link: a socket, what is known of its readiness, and the flow it fills. Readiness is set and cleared here only.

use crate::base::Size;
use crate::engine::Side;
use crate::net::io::{Event, Interest, Io, Token};
use crate::net::lane::{Filling, Lane, SPLICE_LEAST, Sent, Stock};
use std::io::ErrorKind;

/// A read that brings so much tells of more, where nothing else tells how much is to come.
const BULK: usize = 16 * 1024;

/// See the module.
#[derive(Debug)]
pub struct Link<S, P> {
    stream: S,
    /// What the socket filled in.
    pub lane: Lane<P>,
    /// The buffer that the next bytes deserve.
    size: Size,
    /// The last read brought much: more of it will come.
    bulk: bool,
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

impl<S, P> Link<S, P> {
    /// To a client that was just accepted: it can be written to, and sends little until it has shown otherwise.
    pub fn accepted(stream: S) -> Self {
        Link::new(stream, Size::Small, Interest::Read, true)
    }

    /// To a server that is being connected.
    pub fn dialed(stream: S) -> Self {
        Link::new(stream, Size::Large, Interest::Both, false)
    }

    fn new(stream: S, size: Size, watched: Interest, writable: bool) -> Self {
        Link {
            stream,
            lane: Lane::default(),
            size,
            bulk: false,
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
    pub fn watch<I: Io<Stream = S, Pipe = P>>(&mut self, io: &mut I, token: Token) -> std::io::Result<()> {
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

    /// The peer may have taken something that no event has told of yet: of a large send buffer the kernel tells only once a third of it
    /// is free. Try at the next flush.
    pub fn try_sending(&mut self) {
        self.writable = true;
    }

    pub fn side(&self) -> Side {
        self.side
    }

    /// May there be more to read, as far as the socket goes?
    pub fn is_readable(&self) -> bool {
        self.readable && self.side == Side::Open
    }

    pub fn stream(&self) -> &S {
        &self.stream
    }

    pub fn into_stream(self) -> S {
        self.stream
    }

    /// Reads until the socket is drained, the flow is full, or `budget` bytes have come; returns how many have. A read shorter than
    /// its room means drained, unless an end was announced. (Not so at a TCP urgent mark: who sends out-of-band data waits for the
    /// next event. And not so with splice, which stops for reasons of its own.)
    pub fn fill<I: Io<Stream = S, Pipe = P>>(&mut self, io: &mut I, stock: &mut Stock<P>, budget: usize) -> usize {
        let mut taken = 0;
        while taken < budget && self.is_readable() && self.lane.flow.piped() == 0 {
            let result = match self.passes_by().then(|| self.lane.pass_by(&mut self.stream, io, stock)) {
                Some(Filling::Got(result)) => result.inspect(|n| self.passed(*n)),
                Some(Filling::NoPipe) | None => {
                    let room = self.lane.flow.room(&mut stock.buffers, self.size);
                    if room.is_empty() {
                        return taken;
                    }
                    let asked = room.len();
                    io.recv(&mut self.stream, room).inspect(|n| self.filled(*n, asked))
                }
            };
            match result {
                Ok(0) => self.end_of_stream(),
                Ok(n) => taken += n,
                // After a failed send there is nothing to wait for: what came in spite of it has been read.
                Err(error) if error.kind() == ErrorKind::WouldBlock && self.mute => self.side = Side::Broken,
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.readable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.side = Side::Broken,
            }
        }
        taken
    }

    /// Is what comes next worth a pipe? Where its length is not known, only if it has come in bulk lately.
    fn passes_by(&self) -> bool {
        let n = self.lane.flow.may_pass_by();
        n >= SPLICE_LEAST && (n < u32::MAX as usize || self.bulk)
    }

    fn passed(&mut self, n: usize) {
        self.bulk = n >= BULK;
        if n >= SPLICE_LEAST {
            // The next message may be as long: the less of it is copied before the pipe, the better.
            self.size = Size::Small;
        }
    }

    fn filled(&mut self, n: usize, asked: usize) {
        self.lane.flow.filled(n);
        self.bulk = n >= BULK;
        self.readable = n == asked || self.hangup || self.mute;
        if n == asked {
            self.size = Size::Large;
        }
    }

    fn end_of_stream(&mut self) {
        // After a failed send the reset may already have been reported there; an end that follows is none.
        self.side = if self.mute { Side::Broken } else { Side::Ended };
    }

    /// Sends what the lane has ready, as far as the socket takes it, and ends our half if that was wanted.
    /// Returns true if the half was ended just now, or the link broke.
    pub fn flush<I: Io<Stream = S, Pipe = P>>(&mut self, io: &mut I, lane: &mut Lane<P>, token: Token) -> bool {
        while !lane.flow.drained() && self.writable && !self.mute && self.half != Half::Ended {
            match lane.send(&mut self.stream, io) {
                Ok(Sent::All) => {}
                Ok(Sent::Part) => self.writable = false,
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    self.mute = true;
                    // Reading tells what happened, and may still find an answer.
                    self.readable = true;
                }
            }
        }
        if !lane.flow.drained() && !self.writable && !self.mute && self.watched == Interest::Read {
            self.watched = Interest::Both;
            if io.rewatch(&mut self.stream, token, Interest::Both).is_err() {
                self.side = Side::Broken;
                return true;
            }
        }
        let ends = self.half == Half::Ending && lane.flow.drained();
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
    pub fn is_quiet<I: Io<Stream = S, Pipe = P>>(&mut self, io: &mut I) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::BufferPool;
    use crate::net::lane::Pipes;
    use crate::net::sys::{Stream, Sys};
    use std::io::Write;
    use std::net::Shutdown;
    use std::os::unix::net::UnixStream;
    use std::time::Instant;

    #[test]
    fn a_send_that_fails_without_an_event_breaks_the_link_once_all_that_came_was_read() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        ours.shutdown(Shutdown::Write).unwrap();
        theirs.write_all(b"answer").unwrap();
        let mut io = Sys::new(Vec::new(), Instant::now()).unwrap();
        let mut stock = Stock { buffers: BufferPool::new(4096, 2), pipes: Pipes::among(1) };
        let mut link = Link::accepted(Stream::Unix(mio::net::UnixStream::from_std(ours)));
        let (token, mut lane) = (Token::Session { slot: 0, generation: 0 }, Lane::default());
        link.watch(&mut io, token).unwrap();
        lane.flow.push(&mut stock.buffers, b"request");
        link.flush(&mut io, &mut lane, token);
        assert!(link.is_readable() && link.side() == Side::Open, "reading tells");
        assert_eq!(link.fill(&mut io, &mut stock, usize::MAX), 6);
        assert_eq!((link.side(), link.lane.flow.raw()), (Side::Broken, &b"answer"[..]));
    }
}
