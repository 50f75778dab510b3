//! The worker's end of the network: [`Io`] on a [`Net`]. Waiting is what makes the world go on.

use super::bytes::Bytes;
use super::net::{ConnId, Net, State, What};
use pilb::base::{Address, Micros, Now, Peer};
use pilb::net::io::{Event, Interest, Io, Token};
use rustix::io::Errno;
use std::cell::RefCell;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::rc::Rc;

/// Who lives at the other ends.
pub trait World {
    /// Something is due that is not the kernel's.
    fn happen(&mut self, net: &mut Net, what: What);

    /// The worker dials a server.
    fn dial(&mut self, net: &mut Net, address: &Address) -> Result<ConnId, Errno>;

    /// These bytes go to the peer now.
    fn sent(&mut self, net: &mut Net, conn: ConnId, bytes: &[u8]);
}

pub struct Sim<W> {
    pub net: Net,
    pub world: W,
    /// All workers wait, and nothing will ever happen.
    pub asleep: bool,
    /// By worker: until when it waits.
    rests: Vec<Micros>,
    /// By worker: when it looked at the clock last.
    looked: Vec<Micros>,
    /// Waits without time, event or any other change since something happened last.
    idle_turns: u32,
    seen: u64,
    /// Bytes on their way out.
    scratch: Vec<u8>,
}

impl<W> Sim<W> {
    pub fn new(net: Net, world: W) -> Sim<W> {
        let (rests, looked) = (vec![0; net.ends.len()], vec![net.now; net.ends.len()]);
        Sim { net, world, asleep: false, rests, looked, idle_turns: 0, seen: 0, scratch: Vec::new() }
    }
}

/// A worker waits so long for who is not sure to come, or is no more.
const FOR_EVER: Micros = Micros::MAX - 1;
const GONE: Micros = Micros::MAX;

/// Turns that may pass without anything changing.
const MOST_IDLE_TURNS: u32 = 100;

pub type Shared<W> = Rc<RefCell<Sim<W>>>;

pub struct SimIo<W> {
    pub sim: Shared<W>,
    pub worker: usize,
}

pub struct SimStream<W> {
    pub conn: ConnId,
    sim: Shared<W>,
    reset: bool,
}

impl<W> Drop for SimStream<W> {
    fn drop(&mut self) {
        self.sim.borrow_mut().net.close(self.conn, self.reset);
    }
}

pub struct SimPipe<W> {
    holds: Bytes,
    sim: Shared<W>,
}

impl<W> Drop for SimPipe<W> {
    fn drop(&mut self) {
        self.sim.borrow_mut().net.pipes -= 1;
    }
}

/// Ports of one client host.
const PORTS: usize = 60_000;

/// A client's address, by its connection.
pub fn address(conn: ConnId) -> SocketAddr {
    let [a, b] = ((conn / PORTS) as u16).to_be_bytes();
    SocketAddr::new(Ipv4Addr::new(10, 1, a, b).into(), 1000 + (conn % PORTS) as u16)
}

/// The connection of a client with this address.
pub fn connection_of(peer: &Peer) -> Option<ConnId> {
    match peer {
        Peer::Ip(SocketAddr::V4(address)) => {
            let [.., a, b] = address.ip().octets();
            Some(usize::from(u16::from_be_bytes([a, b])) * PORTS + usize::from(address.port()) - 1000)
        }
        _ => None,
    }
}

impl<W: World> Sim<W> {
    /// Everything that is due.
    fn run_due(&mut self) {
        while let Some(what) = self.net.due() {
            self.net.happen(what);
            if let What::Actor(_) | What::Dialed(_) = what {
                self.world.happen(&mut self.net, what);
            }
        }
    }

    /// After the worker's end: what is still under way arrives.
    pub fn settle(&mut self) {
        while let Some(moment) = self.net.next_moment() {
            self.net.pass(moment.saturating_sub(self.net.now));
            self.run_due();
        }
    }

    fn disturb(&mut self, worker: usize, events: &mut Vec<Event>) {
        let Net { random, weather, conns, .. } = &mut self.net;
        if random.chance(weather.spurious) && !conns.is_empty() {
            let id = random.below(conns.len() as u64) as usize;
            if conns[id].state == State::Open && conns[id].held {
                self.net.happen(What::Edge(id));
            }
        }
        self.net.collect(worker, events);
    }

    /// A worker's wait, which ends at once: that it had to sleep is seen in [`Sim::go_on`].
    fn wait(&mut self, worker: usize, events: &mut Vec<Event>, at_most: Option<Micros>) {
        // What it wants to wait is reckoned from when it looked at the clock; others have had their turns since.
        let until = at_most.map_or(FOR_EVER, |time| (self.looked[worker] + time).max(1));
        // Each has a processor of its own.
        let slow = self.net.weather.slow_loop / self.rests.len() as u64;
        let time = 1 + self.net.random.below(slow + 1);
        self.net.pass(time);
        self.run_due();
        self.disturb(worker, events);
        self.rests[worker] = 0;
        if at_most == Some(0) {
            return self.watch_for_spin(events.is_empty());
        }
        self.net.look_for_neglect(worker);
        if events.is_empty() {
            self.rests[worker] = until;
        }
    }

    /// Would this worker's wait end now? If not, it gets no turn: what nobody tells it, it does not see.
    pub fn is_awake(&self, worker: usize) -> bool {
        let rest = self.rests[worker];
        rest != GONE && (rest <= self.net.now || self.net.has_events(worker))
    }

    /// This worker has ended.
    pub fn ended(&mut self, worker: usize) {
        self.rests[worker] = GONE;
    }

    /// After each step of a worker: if now all of them wait, the world goes on to the next moment at which anything happens.
    pub fn go_on(&mut self) {
        if (0..self.rests.len()).any(|worker| self.is_awake(worker)) {
            return;
        }
        let until = self.rests.iter().copied().min().unwrap_or(GONE);
        let moment = self.net.next_moment().unwrap_or(FOR_EVER).min(until);
        if moment >= FOR_EVER {
            self.asleep = true;
            return;
        }
        self.idle_turns = 0;
        self.net.pass(moment.saturating_sub(self.net.now));
        self.run_due();
        if until <= self.net.now {
            let late = self.net.random.below(self.net.weather.lazy_wait + 1000);
            self.net.pass(late);
            self.run_due();
        }
    }

    fn watch_for_spin(&mut self, nothing: bool) {
        if !nothing || self.seen != self.net.moved {
            self.idle_turns = 0;
        }
        self.seen = self.net.moved;
        self.idle_turns += 1;
        if self.idle_turns > MOST_IDLE_TURNS {
            self.net.broke("no turn without progress", "the loop turns and turns and nothing changes");
        }
    }

    fn send(&mut self, conn: ConnId, bytes: &[u8], rest: &[u8]) -> Result<usize, Errno> {
        let n = self.net.sendable(conn, (bytes.len() + rest.len()) as u64, false)? as usize;
        for part in [&bytes[..n.min(bytes.len())], &rest[..n.saturating_sub(bytes.len())]] {
            self.world.sent(&mut self.net, conn, part);
        }
        self.net.sent(conn, n as u64);
        Ok(n)
    }
}

impl<W: World> Io for SimIo<W> {
    type Stream = SimStream<W>;
    type Pipe = SimPipe<W>;

    fn now(&mut self) -> Now {
        let Sim { net, looked, .. } = &mut *self.sim.borrow_mut();
        looked[self.worker] = net.now;
        Now { mono: net.now, unix: net.unix }
    }

    fn wait(&mut self, events: &mut Vec<Event>, at_most: Option<Micros>) -> io::Result<()> {
        events.clear();
        self.sim.borrow_mut().wait(self.worker, events, at_most);
        Ok(())
    }

    fn listeners(&self) -> u32 {
        1
    }

    fn accept(&mut self, _: u32) -> io::Result<(SimStream<W>, Peer)> {
        let mut sim = self.sim.borrow_mut();
        let conn = sim.net.accept(self.worker);
        sim.net.note(|| format!("accept: {}", said(&conn)));
        let conn = conn?;
        Ok((SimStream { conn, sim: self.sim.clone(), reset: false }, Peer::Ip(address(conn))))
    }

    fn close_listeners(&mut self) {
        self.sim.borrow_mut().net.close_listeners(self.worker);
    }

    fn dial(&mut self, address: &Address) -> io::Result<SimStream<W>> {
        let mut sim = self.sim.borrow_mut();
        let Sim { net, world, .. } = &mut *sim;
        let conn = if net.exhausted(1) { Err(Errno::MFILE) } else { world.dial(net, address) };
        net.note(|| format!("dial {address}: {}", said(&conn)));
        let conn = conn?;
        net.hold(conn, self.worker);
        Ok(SimStream { conn, sim: self.sim.clone(), reset: false })
    }

    fn connected(&mut self, stream: &SimStream<W>) -> io::Result<()> {
        match self.sim.borrow_mut().net.take_error(stream.conn) {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    fn watch(&mut self, stream: &mut SimStream<W>, token: Token, interest: Interest) -> io::Result<()> {
        self.sim.borrow_mut().net.watch(stream.conn, self.worker, token, interest);
        Ok(())
    }

    fn rewatch(&mut self, stream: &mut SimStream<W>, token: Token, interest: Interest) -> io::Result<()> {
        self.sim.borrow_mut().net.watch(stream.conn, self.worker, token, interest);
        Ok(())
    }

    fn recv(&mut self, stream: &mut SimStream<W>, into: &mut [u8]) -> io::Result<usize> {
        let net = &mut self.sim.borrow_mut().net;
        let n = net.readable(stream.conn, into.len() as u64, false);
        net.note(|| format!("c{} recv {}: {}", stream.conn, into.len(), said(&n)));
        Ok(net.take(stream.conn, n?).read(into))
    }

    fn send(&mut self, stream: &mut SimStream<W>, bytes: &[u8], rest: &[u8], _more: bool) -> io::Result<usize> {
        let mut sim = self.sim.borrow_mut();
        let n = sim.send(stream.conn, bytes, rest);
        sim.net.note(|| format!("c{} send {}: {} {}", stream.conn, bytes.len(), said(&n), first_line(bytes)));
        Ok(n?)
    }

    fn send_file(&mut self, _: &mut SimStream<W>, _: &OwnedFd, _: u64, _: usize) -> io::Result<(usize, bool)> {
        Err(Errno::NOSYS.into())
    }

    fn pipe(&mut self) -> io::Result<SimPipe<W>> {
        let net = &mut self.sim.borrow_mut().net;
        if net.random.chance(net.weather.no_pipe) || net.exhausted(2) {
            return Err(if net.random.chance(500) { Errno::MFILE.into() } else { io::ErrorKind::QuotaExceeded.into() });
        }
        net.pipes += 1;
        Ok(SimPipe { holds: Bytes::default(), sim: self.sim.clone() })
    }

    fn splice_in(&mut self, stream: &mut SimStream<W>, pipe: &mut SimPipe<W>, most: usize) -> io::Result<usize> {
        let net = &mut self.sim.borrow_mut().net;
        if net.weather.no_splice {
            return Err(Errno::INVAL.into());
        }
        let most = (most as u64).min((1 << 20) - pipe.holds.len());
        if most == 0 {
            return Err(Errno::AGAIN.into());
        }
        let n = net.readable(stream.conn, most, true);
        net.note(|| format!("c{} splice in {most}: {}", stream.conn, said(&n)));
        let n = n?;
        pipe.holds.append(net.take(stream.conn, n));
        Ok(n as usize)
    }

    fn splice_out(&mut self, pipe: &mut SimPipe<W>, stream: &mut SimStream<W>, most: usize) -> io::Result<usize> {
        let sim = &mut *self.sim.borrow_mut();
        let most = (most as u64).min(pipe.holds.len());
        if most == 0 {
            return Ok(0);
        }
        let n = sim.net.sendable(stream.conn, most, true);
        sim.net.note(|| format!("c{} splice out {most}: {}", stream.conn, said(&n)));
        let n = n?;
        sim.scratch.resize(n as usize, 0);
        pipe.holds.take(n).read(&mut sim.scratch);
        sim.world.sent(&mut sim.net, stream.conn, &sim.scratch);
        sim.net.sent(stream.conn, n);
        Ok(n as usize)
    }

    fn end(&mut self, stream: &SimStream<W>) {
        self.sim.borrow_mut().net.end(stream.conn);
    }

    fn reset(&mut self, mut stream: SimStream<W>) {
        stream.reset = true;
    }
}

/// For the trace.
fn said<T: std::fmt::Display>(result: &Result<T, Errno>) -> String {
    match result {
        Ok(value) => value.to_string(),
        Err(error) => format!("{:?}", error.kind()),
    }
}

fn first_line(bytes: &[u8]) -> String {
    let line = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let text: String =
        line.iter().take(60).map(|byte| if byte.is_ascii_graphic() { *byte as char } else { '.' }).collect();
    text
}
