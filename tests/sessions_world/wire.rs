//! A socket in memory, and a link on it that behaves as `src/net/link.rs` does.

use pilb::base::{BufferPool, Size};
use pilb::engine::{Flow, Side};
use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};

/// How a peer's stream ends, once its bytes were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Fin,
    Reset,
}

/// What the peer sees of our end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ours {
    #[default]
    Open,
    /// Our half is ended, we still read.
    Ended,
    Closed,
    Reset,
}

/// Events not yet told to the loop.
#[derive(Clone, Copy, Debug, Default)]
pub struct News {
    pub readable: bool,
    pub writable: bool,
    pub hangup: bool,
}

impl News {
    pub fn any(self) -> bool {
        self.readable || self.writable || self.hangup
    }
}

/// See the module.
#[derive(Debug)]
pub struct Sock {
    /// From the peer, not yet read.
    pub inbox: VecDeque<u8>,
    pub end: Option<End>,
    /// What the socket takes before it would block.
    pub space: usize,
    /// What it takes at once.
    pub gulp: usize,
    /// For the peer, not yet looked at by the script.
    pub out: Vec<u8>,
    pub sent: u64,
    pub ours: Ours,
    /// The peer has closed: bytes sent to it are lost, and a reset comes back.
    pub deaf: bool,
    pub news: News,
}

impl Sock {
    pub fn new(space: usize, gulp: usize) -> Sock {
        Sock {
            inbox: VecDeque::new(),
            end: None,
            space,
            gulp,
            out: Vec::new(),
            sent: 0,
            ours: Ours::Open,
            deaf: false,
            news: News::default(),
        }
    }

    /// The peer sends.
    pub fn deliver(&mut self, bytes: &[u8]) {
        if self.end.is_none() {
            self.inbox.extend(bytes);
            self.news.readable = true;
        }
    }

    /// The peer ends its stream.
    pub fn finish(&mut self, end: End) {
        if self.end != Some(End::Reset) {
            self.end = Some(end);
            (self.news.readable, self.news.hangup) = (true, true);
        }
    }

    /// The peer takes so many bytes from now on.
    pub fn open_window(&mut self, space: usize) {
        self.news.writable |= space > self.space;
        self.space = space;
    }

    fn recv(&mut self, into: &mut [u8]) -> Recv {
        let n = self.inbox.len().min(into.len());
        for (slot, byte) in into.iter_mut().zip(self.inbox.drain(..n)) {
            *slot = byte;
        }
        match self.end {
            _ if n > 0 => Recv::Bytes(n),
            Some(End::Fin) => Recv::Bytes(0),
            Some(End::Reset) => Recv::Error,
            None => Recv::WouldBlock,
        }
    }

    /// `None`: the connection is broken.
    fn send(&mut self, bytes: &[u8]) -> Option<usize> {
        if self.end == Some(End::Reset) {
            return None;
        }
        if self.deaf {
            self.finish(End::Reset);
            self.sent += bytes.len() as u64;
            return Some(bytes.len());
        }
        let n = bytes.len().min(self.space).min(self.gulp);
        self.out.extend_from_slice(&bytes[..n]);
        self.sent += n as u64;
        self.space -= n;
        // A socket that took a gulp takes another one soon.
        self.news.writable |= n == self.gulp && self.space > 0;
        Some(n)
    }

    /// Closed by us. Over unread bytes that is a reset.
    pub fn close(&mut self) {
        let rude = !self.inbox.is_empty();
        self.ours = if rude { Ours::Reset } else { Ours::Closed };
    }
}

enum Recv {
    Bytes(usize),
    WouldBlock,
    Error,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Half {
    Open,
    Ending,
    Ended,
}

/// A flow and its pipe, as in `src/net/lane.rs`.
#[derive(Debug, Default)]
pub struct Lane {
    flow: Flow,
    pipe: VecDeque<u8>,
}

impl Deref for Lane {
    type Target = Flow;

    fn deref(&self) -> &Flow {
        &self.flow
    }
}

impl DerefMut for Lane {
    fn deref_mut(&mut self) -> &mut Flow {
        &mut self.flow
    }
}

impl Lane {
    /// What the app has dropped is gone from the pipe as well.
    fn forget(&mut self) {
        if self.flow.piped() == 0 {
            self.pipe.clear();
        }
    }

    /// `None`: the connection is broken.
    fn send(&mut self, sock: &mut Sock) -> Option<bool> {
        self.forget();
        if self.flow.piped() > 0 {
            let n = sock.send(self.pipe.make_contiguous())?;
            self.pipe.drain(..n);
            self.flow.sent_piped(n);
            return Some(self.pipe.is_empty());
        }
        let asked = self.flow.ready().len();
        let n = sock.send(self.flow.ready())?;
        self.flow.sent(n);
        Some(n == asked)
    }
}

/// A socket, its readiness, and the flow it fills.
#[derive(Debug)]
pub struct Link {
    pub sock: Sock,
    pub flow: Lane,
    /// Whatever may pass by the buffer does.
    around: bool,
    side: Side,
    readable: bool,
    writable: bool,
    hangup: bool,
    mute: bool,
    half: Half,
}

impl Link {
    pub fn new(sock: Sock, around: bool, writable: bool) -> Link {
        Link {
            sock,
            flow: Lane::default(),
            around,
            side: Side::Open,
            readable: false,
            writable,
            hangup: false,
            mute: false,
            half: Half::Open,
        }
    }

    pub fn note(&mut self, news: News) {
        self.readable |= news.readable || news.hangup;
        self.writable |= news.writable;
        self.hangup |= news.hangup;
    }

    pub fn look(&mut self) {
        self.readable = true;
    }

    pub fn side(&self) -> Side {
        self.side
    }

    pub fn is_readable(&self) -> bool {
        self.readable && self.side == Side::Open
    }

    pub fn fill(&mut self, pool: &mut BufferPool) {
        while self.is_readable() && self.flow.piped() == 0 {
            let passes = self.flow.may_pass_by();
            if self.around && passes > 0 {
                self.flow.forget();
                let mut piece = vec![0; passes.min(64)];
                match self.sock.recv(&mut piece) {
                    Recv::Bytes(0) => self.side = if self.mute { Side::Broken } else { Side::Ended },
                    Recv::Bytes(n) => {
                        self.flow.passed_by(n);
                        self.flow.pipe.extend(&piece[..n]);
                    }
                    Recv::WouldBlock => self.readable = false,
                    Recv::Error => self.side = Side::Broken,
                }
                continue;
            }
            let room = self.flow.room(pool, Size::Small);
            if room.is_empty() {
                return;
            }
            let asked = room.len();
            match self.sock.recv(room) {
                Recv::Bytes(0) => self.side = if self.mute { Side::Broken } else { Side::Ended },
                Recv::Bytes(n) => {
                    self.flow.filled(n);
                    self.readable = n == asked || self.hangup;
                }
                Recv::WouldBlock => self.readable = false,
                Recv::Error => self.side = Side::Broken,
            }
        }
    }

    /// True if our half was ended just now.
    pub fn flush(&mut self, flow: &mut Lane) -> bool {
        while !flow.drained() && self.writable && !self.mute && self.half != Half::Ended {
            match flow.send(&mut self.sock) {
                Some(all) => self.writable = all,
                None => {
                    self.mute = true;
                    self.readable = true;
                }
            }
        }
        let ends = self.half == Half::Ending && flow.drained();
        if ends {
            self.half = Half::Ended;
            self.sock.ours = Ours::Ended;
        }
        ends
    }

    pub fn break_if_mute(&mut self) -> bool {
        let news = self.mute && self.side != Side::Broken;
        if news {
            self.side = Side::Broken;
        }
        news
    }

    pub fn end_when_sent(&mut self) {
        if self.half == Half::Open {
            self.half = Half::Ending;
        }
    }

    pub fn is_quiet(&mut self) -> bool {
        if self.is_readable() {
            let drained = matches!(self.sock.recv(&mut [0]), Recv::WouldBlock);
            self.readable = false;
            if !drained {
                self.side = Side::Broken;
            }
        }
        self.side == Side::Open && !self.hangup && !self.mute && self.half == Half::Open
    }
}
