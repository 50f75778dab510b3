//! The real worker with the real proxy in a world without a kernel: sockets are slices, a batch of events is what the last one caused,
//! and the clock goes on by a bit with each batch. So a request costs here what it costs in user space, to the instruction, every time.

use pilb::access_log::ring::{RingOutlet, ring};
use pilb::base::{Address, Micros, Now, Peer};
use pilb::engine::AccessLog;
use pilb::net::io::{Event, Interest, Io, Token};
use pilb::net::{Remote, Settings as NetSettings, Worker};
use pilb::proxy::{Proxy, Settings};
use std::cell::Cell;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

/// What clients ask and what servers answer. Whoever got the last byte of it in a read got it all: no head ends in a body's last byte.
#[derive(Clone, Copy)]
pub struct Talk {
    pub request: &'static [u8],
    pub answer: &'static [u8],
}

/// One end of a connection: ours. The other end talks.
struct Socket {
    token: Option<Token>,
    is_client: bool,
    inbox: &'static [u8],
}

struct Memory {
    talk: Talk,
    sockets: Vec<Socket>,
    /// Clients that have not connected yet.
    coming: usize,
    events: Vec<Event>,
    now: Now,
    answered: Rc<Cell<u64>>,
}

impl Memory {
    fn add(&mut self, is_client: bool) -> usize {
        let inbox = if is_client { self.talk.request } else { b"" };
        self.sockets.push(Socket { token: None, is_client, inbox });
        self.sockets.len() - 1
    }

    fn happen(&mut self, token: Option<Token>, readable: bool, writable: bool) {
        self.events.extend(token.map(|token| Event { token, readable, writable, hangup: false }));
    }
}

impl Io for Memory {
    type Stream = usize;
    /// The bytes in it, of which only the last one was kept.
    type Pipe = Option<u8>;

    fn now(&mut self) -> Now {
        self.now
    }

    fn wait(&mut self, events: &mut Vec<Event>, _at_most: Option<Micros>) -> io::Result<()> {
        assert!(!self.events.is_empty(), "everybody waits for somebody else");
        events.clear();
        events.append(&mut self.events);
        self.now.mono += 20;
        self.now.unix += 20;
        Ok(())
    }

    fn listeners(&self) -> u32 {
        1
    }

    fn accept(&mut self, _listener: u32) -> io::Result<(usize, Peer)> {
        if self.coming == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.coming -= 1;
        Ok((self.add(true), Peer::Ip(([192, 0, 2, 7], 50000).into())))
    }

    fn close_listeners(&mut self) {}

    fn dial(&mut self, _address: &Address) -> io::Result<usize> {
        Ok(self.add(false))
    }

    fn connected(&mut self, _stream: &usize) -> io::Result<()> {
        Ok(())
    }

    fn watch(&mut self, stream: &mut usize, token: Token, _interest: Interest) -> io::Result<()> {
        let socket = &mut self.sockets[*stream];
        socket.token = Some(token);
        let is_client = socket.is_client;
        self.happen(Some(token), is_client, !is_client);
        Ok(())
    }

    fn rewatch(&mut self, _stream: &mut usize, _token: Token, _interest: Interest) -> io::Result<()> {
        Ok(())
    }

    fn recv(&mut self, stream: &mut usize, into: &mut [u8]) -> io::Result<usize> {
        let inbox = &mut self.sockets[*stream].inbox;
        if inbox.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let (now, later) = inbox.split_at(into.len().min(inbox.len()));
        // Copying is the kernel's work. Heads lie within the first bytes, the rest is body, which nobody looks at but its last byte.
        let head = now.len().min(512);
        into[..head].copy_from_slice(&now[..head]);
        into[now.len() - 1] = now[now.len() - 1];
        *inbox = later;
        Ok(now.len())
    }

    fn send_file(&mut self, _: &mut usize, _: &OwnedFd, _: u64, _: usize) -> io::Result<(usize, bool)> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn send(&mut self, stream: &mut usize, bytes: &[u8], _rest: &[u8], _more: bool) -> io::Result<usize> {
        let Talk { request, answer } = self.talk;
        let socket = &mut self.sockets[*stream];
        let (listens_to, says) = if socket.is_client { (answer, request) } else { (request, answer) };
        if bytes.last() == listens_to.last() {
            socket.inbox = says;
            let (token, is_client) = (socket.token, socket.is_client);
            self.answered.set(self.answered.get() + u64::from(is_client));
            self.happen(token, true, false);
        }
        Ok(bytes.len())
    }

    fn pipe(&mut self) -> io::Result<Option<u8>> {
        Ok(None)
    }

    fn splice_in(&mut self, stream: &mut usize, pipe: &mut Option<u8>, most: usize) -> io::Result<usize> {
        let inbox = &mut self.sockets[*stream].inbox;
        let (now, later) = inbox.split_at(most.min(inbox.len()));
        *pipe = Some(*now.last().ok_or(io::ErrorKind::WouldBlock)?);
        *inbox = later;
        Ok(now.len())
    }

    fn splice_out(&mut self, pipe: &mut Option<u8>, stream: &mut usize, most: usize) -> io::Result<usize> {
        let last = pipe.take().ok_or(io::ErrorKind::WouldBlock)?;
        self.send(stream, &[last], &[], false).map(|_| most)
    }

    fn end(&mut self, _stream: &usize) {}

    fn reset(&mut self, _stream: usize) {}
}

/// A worker with so many clients that ask for ever.
pub struct World {
    worker: Worker<Proxy, Memory>,
    answered: Rc<Cell<u64>>,
    awaited: u64,
    outlet: RingOutlet,
}

impl World {
    pub fn new(clients: usize, talk: Talk) -> World {
        let answered = Rc::new(Cell::new(0));
        let now = Now { mono: 1_000_000, unix: 1_700_000_000_000_000 };
        let listening = Event { token: Token::Listener(0), readable: true, writable: false, hangup: false };
        let io = Memory {
            talk,
            sockets: Vec::new(),
            coming: clients,
            events: vec![listening],
            now,
            answered: Rc::clone(&answered),
        };
        let names: Vec<String> = (1..4).map(|n| format!("10.0.0.{n}:80")).collect();
        let servers = (1..4).map(|n| Address::Tcp(([10, 0, 0, n], 80).into())).collect();
        let settings = NetSettings {
            buffer: 16384,
            buffers: usize::MAX,
            max_sessions: 4096,
            idle_per_server: 64,
            drain: 1_000_000,
            linger: 1_000_000,
        };
        let (log, outlet) = ring(4096);
        let log: Box<dyn AccessLog + Send> = Box::new(log);
        let worker =
            Worker::new(Proxy::new(Settings::default(), names, 0), io, servers, log, Remote::new(|| {}), settings);
        let mut world = World { worker, answered, awaited: 0, outlet };
        // Until connections are made and buffers are warm.
        (0..8 * clients).for_each(|_| world.request());
        world
    }

    /// Goes on until one more request was answered. Its log record is taken from the ring.
    pub fn request(&mut self) {
        self.awaited += 1;
        while self.answered.get() < self.awaited {
            assert!(matches!(self.worker.step(), Ok(true)), "the worker has ended");
        }
        self.outlet.begin();
        self.outlet.take(1, |_| {});
    }
}
