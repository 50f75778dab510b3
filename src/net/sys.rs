//! The real world: mio on epoll, non-blocking sockets, the system's clocks.

use crate::base::{Address, Micros, Now, Peer};
use crate::net::io::{Event, Interest, Io, Token};
use mio::event::Source;
use mio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use rustix::fs::{fstat, sendfile};
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, recv, send, sendmsg};
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with, splice};
use socket2::SockRef;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Events taken from the kernel per wait.
const BATCH: usize = 1024;

/// A listening socket.
#[derive(Debug)]
pub enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A connected socket.
#[derive(Debug)]
pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// What a pipe should hold. Where the system allows less to this user, less must do, but not less than a pipe usually holds.
const PIPE: usize = 1 << 20;
const PIPE_LEAST: usize = 64 * 1024;

/// Both ends of a pipe.
#[derive(Debug)]
pub struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

/// One worker's epoll instance with its listeners.
pub struct Sys {
    poll: mio::Poll,
    events: mio::Events,
    listeners: Vec<Listener>,
    waker: Arc<mio::Waker>,
    start: Instant,
}

impl Sys {
    /// Watches the listeners. Moments are counted from `start`.
    pub fn new(mut listeners: Vec<Listener>, start: Instant) -> io::Result<Sys> {
        let poll = mio::Poll::new()?;
        for (index, listener) in listeners.iter_mut().enumerate() {
            let token = mio::Token(Token::Listener(index as u32).pack());
            let source: &mut dyn Source = match listener {
                Listener::Tcp(listener) => listener,
                Listener::Unix(listener) => listener,
            };
            source.register(poll.registry(), token, mio::Interest::READABLE)?;
        }
        let waker = Arc::new(mio::Waker::new(poll.registry(), mio::Token(Token::Waker.pack()))?);
        Ok(Sys { poll, events: mio::Events::with_capacity(BATCH), listeners, waker, start })
    }

    /// Lets another thread end a wait.
    pub fn waker(&self) -> Arc<mio::Waker> {
        self.waker.clone()
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Stream::Tcp(stream) => stream.as_fd(),
            Stream::Unix(stream) => stream.as_fd(),
        }
    }
}

impl Stream {
    fn source(&mut self) -> &mut dyn Source {
        match self {
            Stream::Tcp(stream) => stream,
            Stream::Unix(stream) => stream,
        }
    }
}

fn interest(interest: Interest) -> mio::Interest {
    match interest {
        Interest::Read => mio::Interest::READABLE,
        Interest::Both => mio::Interest::READABLE | mio::Interest::WRITABLE,
    }
}

impl Io for Sys {
    type Stream = Stream;
    type Pipe = Pipe;

    fn now(&mut self) -> Now {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Now { mono: self.start.elapsed().as_micros() as Micros, unix: unix.as_micros() as Micros }
    }

    fn wait(&mut self, events: &mut Vec<Event>, at_most: Option<Micros>) -> io::Result<()> {
        events.clear();
        match self.poll.poll(&mut self.events, at_most.map(Duration::from_micros)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            result => result?,
        }
        events.extend(self.events.iter().map(|event| Event {
            token: Token::unpack(event.token().0),
            readable: event.is_readable(),
            writable: event.is_writable(),
            hangup: event.is_read_closed() || event.is_write_closed() || event.is_error(),
        }));
        Ok(())
    }

    fn listeners(&self) -> u32 {
        self.listeners.len() as u32
    }

    fn accept(&mut self, listener: u32) -> io::Result<(Stream, Peer)> {
        match self.listeners.get(listener as usize) {
            Some(Listener::Tcp(listener)) => {
                // Without delay because its listener is.
                let (stream, address) = listener.accept()?;
                Ok((Stream::Tcp(stream), Peer::Ip(address)))
            }
            Some(Listener::Unix(listener)) => Ok((Stream::Unix(listener.accept()?.0), Peer::Unix)),
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn close_listeners(&mut self) {
        self.listeners.clear();
    }

    fn dial(&mut self, address: &Address) -> io::Result<Stream> {
        match address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect(*address)?;
                let _ = stream.set_nodelay(true);
                Ok(Stream::Tcp(stream))
            }
            Address::Unix(path) => match UnixStream::connect(path) {
                // The server accepts nobody and its queue is full: nothing of ours is.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(io::ErrorKind::ConnectionRefused.into()),
                result => result.map(Stream::Unix),
            },
        }
    }

    fn connected(&mut self, stream: &Stream) -> io::Result<()> {
        let error = match stream {
            Stream::Tcp(stream) => stream.take_error()?,
            Stream::Unix(stream) => stream.take_error()?,
        };
        error.map_or(Ok(()), Err)
    }

    fn watch(&mut self, stream: &mut Stream, token: Token, what: Interest) -> io::Result<()> {
        stream.source().register(self.poll.registry(), mio::Token(token.pack()), interest(what))
    }

    fn rewatch(&mut self, stream: &mut Stream, token: Token, what: Interest) -> io::Result<()> {
        stream.source().reregister(self.poll.registry(), mio::Token(token.pack()), interest(what))
    }

    fn recv(&mut self, stream: &mut Stream, into: &mut [u8]) -> io::Result<usize> {
        Ok(recv(stream, into, RecvFlags::empty())?.0)
    }

    fn send(&mut self, stream: &mut Stream, bytes: &[u8], rest: &[u8], more: bool) -> io::Result<usize> {
        let flags = if more { SendFlags::NOSIGNAL | SendFlags::MORE } else { SendFlags::NOSIGNAL };
        if rest.is_empty() {
            return Ok(send(stream, bytes, flags)?);
        }
        let both = [IoSlice::new(bytes), IoSlice::new(rest)];
        Ok(sendmsg(stream, &both, &mut SendAncillaryBuffer::default(), flags)?)
    }

    fn send_file(
        &mut self,
        stream: &mut Stream,
        file: &OwnedFd,
        offset: u64,
        most: usize,
    ) -> io::Result<(usize, bool)> {
        let mut end = offset;
        let n = sendfile(stream, file, Some(&mut end), most)?;
        // A short one has met a full socket, or the end of a file that became shorter. Trying again would tell as well, but costs a walk
        // over sixteen pages.
        let full = n > 0 && n < most && fstat(file)?.st_size as u64 > offset + n as u64;
        Ok((n, full))
    }

    fn pipe(&mut self) -> io::Result<Pipe> {
        let (read, write) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
        // Over the system's limit for this user a pipe gets a page or two, and cannot be made larger.
        if fcntl_setpipe_size(&write, PIPE).is_err() && fcntl_getpipe_size(&write)? < PIPE_LEAST {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        Ok(Pipe { read, write })
    }

    fn splice_in(&mut self, stream: &mut Stream, pipe: &mut Pipe, most: usize) -> io::Result<usize> {
        Ok(splice(stream, None, &pipe.write, None, most, SpliceFlags::NONBLOCK | SpliceFlags::MOVE)?)
    }

    fn splice_out(&mut self, pipe: &mut Pipe, stream: &mut Stream, most: usize) -> io::Result<usize> {
        Ok(splice(&pipe.read, None, stream, None, most, SpliceFlags::NONBLOCK | SpliceFlags::MOVE)?)
    }

    fn end(&mut self, stream: &Stream) {
        let _ = match stream {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
        };
    }

    fn reset(&mut self, stream: Stream) {
        if let Stream::Tcp(stream) = stream {
            let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        }
    }
}
