//! A network and its kernel, in memory: connections with two ways, windows, latency, ends and resets, and epoll's true rules about edges.
//!
//! The worker's end of a connection is used through [`super::io::SimIo`], the peer's end through the `peer_` functions. What the worker
//! sends is shown to the world when it is sent and is only a count from there on.

mod epoll;
mod ours;
mod peer;

use self::epoll::WorkerEnd;
use super::bytes::Bytes;
use super::random::Random;
use super::weather::Weather;
use pilb::base::Micros;
use pilb::net::io::{Event, Interest, Token};
use rustix::io::Errno;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet, VecDeque};

pub type ConnId = usize;
pub type ActorId = usize;

/// What is to happen at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// Bytes for the worker arrive.
    In(ConnId),
    /// Bytes for the peer arrive.
    Out(ConnId),
    ResetWorker(ConnId),
    ResetPeer(ConnId),
    Dialed(ConnId),
    /// An edge without a cause of its own: the one that is owed after an EAGAIN, or a spurious one.
    Edge(ConnId),
    Actor(ActorId),
    /// The process stood still.
    Leap(Micros),
    /// The wall clock was set.
    WallJump(i64),
}

/// Where the end of a way is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd)]
pub enum Fin {
    #[default]
    Open,
    Sent,
    Arrived,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Being dialed, and what will become of it.
    Dialing,
    /// Waits to be accepted.
    Backlog,
    Open,
    /// Broken: reset, or never made.
    Dead,
}

/// When bytes moved last.
#[derive(Clone, Copy, Debug)]
pub struct Stamps {
    last: Micros,
    before: Micros,
}

impl Stamps {
    fn touch(&mut self, now: Micros) {
        if self.last < now {
            (self.before, self.last) = (self.last, now);
        }
    }

    /// When bytes moved last before this very moment.
    pub fn until(&self, now: Micros) -> Micros {
        if self.last < now { self.last } else { self.before }
    }
}

/// One connection.
pub struct Conn {
    /// The server that was dialed; `None`: a client's.
    pub server: Option<u16>,
    pub state: State,
    /// A worker has a stream of it: this one.
    pub held: bool,
    worker: usize,
    pub peer_open: bool,
    pub owner: Option<ActorId>,
    latency: Micros,
    window_in: u64,
    window_out: u64,
    in_flight: Bytes,
    in_arrived: Bytes,
    pub in_fin: Fin,
    out_flight: u64,
    out_arrived: u64,
    pub out_fin: Fin,
    in_due: bool,
    out_due: bool,
    error: Option<Errno>,
    pub peer_reset: bool,
    token: Option<Token>,
    interest: Interest,
    woken: bool,
    /// What has come does not show yet: a read said so, and an edge will follow.
    hidden: bool,
    nospace: bool,
    peer_nospace: bool,
    // ---- what is known afterwards
    pub begun: Micros,
    /// Bytes that went through the worker's hands.
    pub received: u64,
    pub sent: u64,
    pub stamps: Stamps,
    /// Since when the worker waits although it could read here and was told so.
    pub unread_since: Option<Micros>,
    /// From when to when it did so last.
    pub neglect: Option<(Micros, Micros)>,
    pub reset_by_worker: bool,
    /// Bytes came when the worker had closed, or before it could know of them.
    pub late: bool,
    pub closed: Micros,
}

impl Conn {
    /// The worker was told of something that it has not read.
    pub fn is_spoken_for(&self) -> bool {
        self.readable() && !self.woken && !self.hidden
    }

    /// What a slow reader must take at once: a socket tells of room only when a third of its window is free, so whoever takes less for
    /// half a minute looks stuck.
    pub fn least_read(&self) -> u64 {
        self.window_out / 200
    }

    pub fn peer_unread(&self) -> u64 {
        self.out_arrived
    }

    fn room_out(&self) -> u64 {
        self.window_out.saturating_sub(self.out_flight + self.out_arrived)
    }

    fn room_in(&self) -> u64 {
        self.window_in.saturating_sub(self.in_flight.len() + self.in_arrived.len())
    }

    fn readable(&self) -> bool {
        self.state == State::Dead
            || (self.state == State::Open && (!self.in_arrived.is_empty() || self.in_fin == Fin::Arrived))
    }

    fn writable(&self) -> bool {
        match self.state {
            State::Dead => true,
            State::Open => self.out_fin != Fin::Open || 3 * self.room_out() >= self.window_out,
            State::Dialing | State::Backlog => false,
        }
    }

    fn hangup(&self) -> bool {
        self.state == State::Dead || (self.state == State::Open && self.in_fin == Fin::Arrived)
    }
}

pub struct Net {
    pub now: Micros,
    pub unix: Micros,
    pub random: Random,
    pub weather: Weather,
    pub conns: Vec<Conn>,
    /// Those of which a worker has a stream.
    pub held: Vec<ConnId>,
    /// Of these, the clients'.
    pub held_clients: usize,
    /// The most of them there ever were.
    pub most_clients: usize,
    pub backlog: VecDeque<ConnId>,
    pub ends: Vec<WorkerEnd>,
    heap: BinaryHeap<Reverse<(Micros, u64, What)>>,
    /// The actors' entries in it, each moment once.
    alarms: HashSet<(Micros, ActorId)>,
    order: u64,
    ready: Vec<ConnId>,
    /// Grows with everything that happens.
    pub moved: u64,
    pub pipes: usize,
    /// The longest stretch that the process stood still, and when that ended last.
    pub leapt: Option<(Micros, Micros)>,
    pub trace: Option<Vec<String>>,
    /// The first rule that was broken.
    pub broken: Option<String>,
}

impl Net {
    pub fn new(random: Random, weather: Weather, workers: usize, trace: bool) -> Net {
        Net {
            now: 1_000_000,
            unix: 1_700_000_000_000_000,
            random,
            weather,
            conns: Vec::new(),
            held: Vec::new(),
            held_clients: 0,
            most_clients: 0,
            backlog: VecDeque::new(),
            ends: (0..workers).map(|_| WorkerEnd::new()).collect(),
            heap: BinaryHeap::new(),
            alarms: HashSet::new(),
            order: 0,
            ready: Vec::new(),
            moved: 0,
            pipes: 0,
            leapt: None,
            trace: trace.then(Vec::new),
            broken: None,
        }
    }

    pub fn note(&mut self, what: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>12.6} {}", self.now as f64 / 1e6, what()));
        }
    }

    pub fn broke(&mut self, rule: &str, what: &str) {
        self.note(|| format!("BROKEN {rule}: {what}"));
        self.broken.get_or_insert_with(|| format!("{rule}: {what}"));
    }

    // ---- time

    pub fn at(&mut self, when: Micros, what: What) {
        let when = when.max(self.now);
        if let What::Actor(actor) = what
            && !self.alarms.insert((when, actor))
        {
            return;
        }
        self.order += 1;
        self.heap.push(Reverse((when, self.order, what)));
    }

    pub fn next_moment(&self) -> Option<Micros> {
        self.heap.peek().map(|Reverse((at, ..))| *at)
    }

    /// Takes what is due.
    pub fn due(&mut self) -> Option<What> {
        if self.next_moment()? > self.now {
            return None;
        }
        let Reverse((when, _, what)) = self.heap.pop()?;
        if let What::Actor(actor) = what {
            self.alarms.remove(&(when, actor));
        }
        Some(what)
    }

    /// Moves the clocks on.
    pub fn pass(&mut self, time: Micros) {
        self.now += time;
        self.unix += time;
    }

    fn travel(&mut self, conn: ConnId) -> Micros {
        let latency = self.conns[conn].latency;
        self.now + latency / 2 + self.random.below(latency / 2 + 1)
    }

    /// What the kernel does by itself. Anything else is the world's business.
    pub fn happen(&mut self, what: What) {
        self.moved += 1;
        match what {
            What::In(conn) => self.arrive_in(conn),
            What::Out(conn) => self.arrive_out(conn),
            What::ResetWorker(conn) => {
                let dialing = self.conns[conn].state == State::Dialing;
                self.kill(conn, if dialing { Errno::CONNREFUSED } else { Errno::CONNRESET });
            }
            What::ResetPeer(conn) => self.reset_reaches_peer(conn),
            What::Edge(conn) => self.edge(conn),
            What::Leap(time) => {
                self.note(|| format!("the process stands still for {} s", time as f64 / 1e6));
                self.pass(time);
                let longest = self.leapt.map_or(0, |(longest, _)| longest);
                self.leapt = Some((longest.max(time), self.now));
            }
            What::WallJump(by) => self.unix = self.unix.saturating_add_signed(by),
            What::Dialed(_) | What::Actor(_) => {}
        }
    }

    // ---- connections

    pub fn connection(&mut self, server: Option<u16>, state: State, owner: Option<ActorId>) -> ConnId {
        let (low, high) = self.weather.window;
        let latency = self.weather.latency;
        self.conns.push(Conn {
            server,
            state,
            held: false,
            worker: 0,
            peer_open: true,
            owner,
            latency: self.random.within(latency / 4, latency),
            window_in: self.random.within(low, high),
            window_out: self.random.within(low, high),
            in_flight: Bytes::default(),
            in_arrived: Bytes::default(),
            in_fin: Fin::Open,
            out_flight: 0,
            out_arrived: 0,
            out_fin: Fin::Open,
            in_due: false,
            out_due: false,
            error: None,
            peer_reset: false,
            token: None,
            interest: Interest::Read,
            woken: false,
            hidden: false,
            nospace: false,
            peer_nospace: false,
            begun: self.now,
            received: 0,
            sent: 0,
            stamps: Stamps { last: self.now, before: self.now },
            unread_since: None,
            neglect: None,
            reset_by_worker: false,
            late: false,
            closed: 0,
        });
        self.conns.len() - 1
    }

    fn arrive_in(&mut self, id: ConnId) {
        let pieces = self.weather.pieces;
        let conn = &mut self.conns[id];
        conn.in_due = false;
        if conn.state == State::Dead {
            return;
        }
        if !conn.held && conn.state == State::Open {
            // Nobody is there to take it.
            if !conn.in_flight.is_empty() {
                conn.late = true;
                conn.in_flight = Bytes::default();
                conn.state = State::Dead;
                let at = self.travel(id);
                self.at(at, What::ResetPeer(id));
            }
            return;
        }
        let all = conn.in_flight.len();
        let n = if pieces && all > 0 { self.random.within(1, all) } else { all };
        let came = conn.in_flight.take(n);
        conn.in_arrived.append(came);
        if conn.in_flight.is_empty() && conn.in_fin == Fin::Sent {
            conn.in_fin = Fin::Arrived;
        }
        if !conn.in_flight.is_empty() {
            self.send_off_in(id);
        }
        self.wake(id, false);
    }

    fn send_off_in(&mut self, id: ConnId) {
        if !std::mem::replace(&mut self.conns[id].in_due, true) {
            let at = self.travel(id);
            self.at(at, What::In(id));
        }
    }

    fn arrive_out(&mut self, id: ConnId) {
        let pieces = self.weather.pieces;
        let conn = &mut self.conns[id];
        conn.out_due = false;
        if !conn.peer_open {
            if conn.out_flight > 0 && conn.state == State::Open {
                // The peer has closed: its kernel resets.
                let at = self.travel(id);
                self.at(at, What::ResetWorker(id));
            }
            conn_gone(&mut self.conns[id]);
            return;
        }
        let all = conn.out_flight;
        let n = if pieces && all > 0 { self.random.within(1, all) } else { all };
        conn.out_flight -= n;
        conn.out_arrived += n;
        if conn.out_flight == 0 && conn.out_fin == Fin::Sent {
            conn.out_fin = Fin::Arrived;
        }
        if conn.out_flight > 0 {
            self.send_off_out(id);
        }
        self.wake_peer(id);
    }

    fn send_off_out(&mut self, id: ConnId) {
        if !std::mem::replace(&mut self.conns[id].out_due, true) {
            let at = self.travel(id);
            self.at(at, What::Out(id));
        }
    }

    /// A reset arrives, or a dial fails.
    pub fn kill(&mut self, id: ConnId, error: Errno) {
        let eats = self.weather.reset_eats;
        let conn = &mut self.conns[id];
        if conn.state == State::Dead {
            return;
        }
        let closing = conn.in_fin == Fin::Arrived;
        conn.state = State::Dead;
        conn.error = Some(if closing && error == Errno::CONNRESET { Errno::PIPE } else { error });
        conn.in_flight = Bytes::default();
        conn.out_flight = 0;
        if eats && !conn.in_arrived.is_empty() {
            // Never silently: the reset is what is read then.
            (conn.in_arrived, conn.in_fin, conn.error) = (Bytes::default(), Fin::Open, Some(error));
        }
        self.note(|| format!("c{id} breaks: {error}"));
        self.wake(id, true);
    }

    fn reset_reaches_peer(&mut self, id: ConnId) {
        let eats = self.weather.reset_eats;
        let conn = &mut self.conns[id];
        conn.peer_reset = true;
        conn.out_flight = 0;
        if eats {
            conn.out_arrived = 0;
        }
        self.note(|| format!("c{id} a reset reaches the peer"));
        self.wake_peer(id);
    }

    fn wake_peer(&mut self, id: ConnId) {
        if let Some(actor) = self.conns[id].owner {
            self.at(self.now, What::Actor(actor));
        }
    }

    // ---- edges

    /// Something has happened to the worker's end; `space`: it is only that there is room to send.
    fn wake(&mut self, id: ConnId, both: bool) {
        let conn = &mut self.conns[id];
        if conn.held && conn.token.is_some() && (both || conn.readable()) && !conn.woken {
            conn.woken = true;
            self.ready.push(id);
        }
    }

    fn wake_for_space(&mut self, id: ConnId) {
        let conn = &mut self.conns[id];
        if conn.nospace && conn.writable() {
            conn.nospace = false;
            if conn.held && conn.token.is_some() && conn.interest == Interest::Both && !conn.woken {
                conn.woken = true;
                self.ready.push(id);
            }
        }
    }

    fn edge(&mut self, id: ConnId) {
        self.conns[id].hidden = false;
        self.wake_for_space(id);
        if self.conns[id].state != State::Dialing {
            self.wake(id, true);
        }
    }
}

/// Nobody is at the other end.
fn conn_gone(conn: &mut Conn) {
    conn.out_flight = 0;
}

fn event(token: Token, readable: bool, writable: bool, hangup: bool) -> Event {
    Event { token, readable, writable, hangup }
}
