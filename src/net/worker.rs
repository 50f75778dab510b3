//! The loop: wait, mark links ready, queue their sessions once, give each queued session one turn.

use crate::base::buffer::HEADROOM;
use crate::base::{Address, BufferPool, Micros, Now, Peer};
use crate::engine::{AccessLog, App, Chores, DialError, Drain, News, ServerId, SessionId};
use crate::net::accept::ROOM_PAUSE;
use crate::net::command::{Command, Remote};
use crate::net::errand::Errands;
use crate::net::io::{Event, GENERATIONS, Io, Token};
use crate::net::lane::{Lane, Pipes, Stock};
use crate::net::link::Link;
use crate::net::memory;
use crate::net::pool::{Idle, IdlePool};
use crate::net::share::{Share, Tally};
use crate::net::timer::{Entry, Wheel};
use slab::Slab;
use std::collections::VecDeque;
use std::io;
use std::thread;

/// No deadline.
pub(super) const NEVER: Micros = Micros::MAX;
/// Clients that get a turn before the loop looks for answers again. Who waits here holds no server connection, so the fewer begin at once,
/// the fewer connections serve them all and the warmer those are.
const LOT: usize = 32;
/// Between two looks at connections to servers that idled too long.
const SWEEP: Micros = 500_000;
/// Unused buffers a worker keeps.
const SPARE_BUFFERS: usize = 64;
/// Bytes of a large buffer (see [`crate::net::lane`]), and how many a worker has at most.
const LARGE: usize = HEADROOM + 144 * 1024;
const MOST_LARGE: usize = 64;

/// Limits of one worker.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Bytes that one direction of a session may hold.
    pub buffer: usize,
    /// Bytes for the buffers of all sessions: when half of them are in use, requests are turned away.
    pub buffers: usize,
    /// Client connections at once; more wait to be accepted.
    pub max_sessions: usize,
    /// Idle connections kept per server.
    pub idle_per_server: usize,
    /// How long running exchanges may go on after [`Command::Drain`].
    pub drain: Micros,
    /// How long a refused client may go on sending before its connection is closed.
    pub linger: Micros,
}

/// A client connection in the loop.
pub(super) struct Slot<A: App, I: Io> {
    pub app: A::Session,
    /// Its flow is the session's up flow.
    pub client: Link<I::Stream, I::Pipe>,
    /// The down flow while no upstream link fills one: our own answers, and what a parked link left unsent.
    pub reply: Lane<I::Pipe>,
    pub uplink: Attached,
    pub generation: u32,
    pub queued: bool,
    /// It is closing: what still comes is read and forgotten until `armed`.
    pub lingers: bool,
    /// The earliest wheel entry that wakes this session, or [`NEVER`]; and a later one, which is still in the wheel and serves again once
    /// this one has come.
    pub armed: Micros,
    pub later: Micros,
}

/// Bytes of user memory that an idle client connection of this app costs, besides its entry in the wheel.
pub fn session_size<A: App, I: Io>() -> usize {
    size_of::<Slot<A, I>>()
}

/// A session's upstream link.
#[derive(Clone, Copy, Debug)]
pub(super) enum Attached {
    None,
    To(u32),
    Failed(DialError),
}

/// A connection to a server.
pub(super) struct Upstream<I: Io> {
    /// Its flow is the down flow of the session it serves.
    pub link: Link<I::Stream, I::Pipe>,
    pub server: ServerId,
    pub generation: u32,
    /// Whose it is; `None`: idle in the pool.
    pub session: Option<u32>,
    pub connected: bool,
    /// It has served before.
    pub reused: bool,
}

/// What a worker holds at a moment. For tests that look for leaks: what nobody needs any more must be given back, not only forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Client connections, the lingering ones included.
    pub sessions: usize,
    /// Clients that were accepted, but have no place yet: one at the most.
    pub waiting: usize,
    /// Connections to servers: being made, in use, and idle.
    pub upstreams: usize,
    /// Of these, the idle ones.
    pub idle: usize,
    /// Buffers and pipes that are in use now.
    pub lent_buffers: usize,
    pub lent_pipes: usize,
    /// Sessions that wait for their turn.
    pub queued: usize,
    /// Errands that the app is having run.
    pub errands: usize,
}

/// One event loop with all it owns.
pub struct Worker<A: App, I: Io> {
    pub(super) app: A,
    pub(super) io: I,
    pub(super) sessions: Slab<Slot<A, I>>,
    pub(super) upstreams: Slab<Upstream<I>>,
    pub(super) idle: IdlePool,
    pub(super) servers: Vec<Address>,
    pub(super) stock: Stock<I::Pipe>,
    pub(super) wheel: Wheel,
    /// Sessions whose server spoke go first: they finish work, the others begin some.
    pub(super) first: VecDeque<u32>,
    pub(super) second: VecDeque<u32>,
    pub(super) now: Now,
    pub(super) log: Box<dyn AccessLog + Send>,
    pub(super) settings: Settings,
    pub(super) drain: Drain,
    remote: Remote,
    /// With the other workers; `None` for one alone.
    pub(super) share: Option<Share<I::Stream>>,
    /// Clients so far.
    pub(super) served: u64,
    events: Vec<Event>,
    pub(super) chores: Chores,
    /// When the app wants to see to them.
    attend_at: Micros,
    pub(super) errands: Errands<I>,
    due: Vec<Entry>,
    pub(super) expired: Vec<Idle>,
    /// Which listeners may have a client waiting.
    pub(super) ready: Vec<bool>,
    pub(super) accept_after: Micros,
    /// A client that was accepted, but has no place yet.
    pub(super) waiting: Option<(I::Stream, Peer)>,
    /// When idle clients may be told again to make room, and when that may be said again.
    pub(super) room_after: Micros,
    pub(super) shortage_after: Micros,
    next_sweep: Micros,
    pub(super) drain_ends: Micros,
    generation: u32,
}

impl<A: App, I: Io> Worker<A, I> {
    pub fn new(
        app: A,
        mut io: I,
        servers: Vec<Address>,
        log: Box<dyn AccessLog + Send>,
        remote: Remote,
        settings: Settings,
    ) -> Self {
        let now = io.now();
        let ready = vec![false; io.listeners() as usize];
        let buffers = BufferPool::new(HEADROOM + settings.buffer, SPARE_BUFFERS).with_large(LARGE, MOST_LARGE);
        let buffers = buffers.within(settings.buffers);
        Worker {
            app,
            idle: IdlePool::new(servers.len(), settings.idle_per_server),
            stock: Stock { buffers, pipes: Pipes::among(settings.max_sessions) },
            wheel: Wheel::new(now.mono),
            io,
            servers,
            sessions: Slab::new(),
            upstreams: Slab::new(),
            first: VecDeque::new(),
            second: VecDeque::new(),
            now,
            log,
            settings,
            drain: Drain::No,
            remote,
            share: None,
            served: 0,
            events: Vec::new(),
            chores: Chores::default(),
            attend_at: 0,
            errands: Errands::new(),
            due: Vec::new(),
            expired: Vec::new(),
            ready,
            accept_after: 0,
            waiting: None,
            room_after: 0,
            shortage_after: 0,
            next_sweep: 0,
            drain_ends: NEVER,
            generation: 0,
        }
    }

    /// Shares its clients with the other workers.
    pub fn sharing(self, share: Option<Share<I::Stream>>) -> Self {
        Worker { share, ..self }
    }

    /// Serves until told to end and done.
    pub fn run(mut self) -> io::Result<()> {
        while self.step()? {}
        let Tally { handed_over, taken_in } = self.share.as_ref().map(Share::tally).unwrap_or_default();
        let (thread, served) = (thread::current(), self.served);
        let name = thread.name().unwrap_or("a worker");
        log::debug!("{name}: served {served} clients, {handed_over} handed over, {taken_in} taken in");
        Ok(())
    }

    /// One batch. False when the worker was told to end and nothing is left.
    pub fn step(&mut self) -> io::Result<bool> {
        let at_most = self.may_wait();
        let mut events = std::mem::take(&mut self.events);
        self.io.wait(&mut events, at_most)?;
        self.now = self.io.now();
        for event in &events {
            self.mark(event);
        }
        self.events = events;
        self.oblige();
        self.accept();
        self.run_queue();
        self.run_timers();
        self.errands.expire(self.now.mono, &mut self.io, &mut self.chores.news);
        self.attend();
        self.sweep();
        let on_the_way = || self.share.as_ref().is_some_and(|share| !share.is_empty());
        Ok(self.drain == Drain::No || !self.sessions.is_empty() || self.waiting.is_some() || on_the_way())
    }

    /// Counts what the worker holds; between two steps. Nothing on the hot path keeps these counts up.
    pub fn census(&self) -> Census {
        Census {
            sessions: self.sessions.len(),
            waiting: usize::from(self.waiting.is_some()),
            upstreams: self.upstreams.len(),
            idle: self.idle.len(),
            lent_buffers: self.stock.buffers.lent(),
            lent_pipes: self.stock.pipes.lent(),
            queued: self.first.len() + self.second.len(),
            errands: self.errands.len(),
        }
    }

    /// What the app holds is its own business; a test may ask it.
    pub fn app(&self) -> &A {
        &self.app
    }

    fn may_wait(&self) -> Option<Micros> {
        if !self.first.is_empty() || !self.second.is_empty() || !self.chores.news.is_empty() || self.accepts() {
            return Some(0);
        }
        let mut until = self.wheel.next().unwrap_or(NEVER).min(self.drain_ends);
        until = until.min(self.attend_at).min(self.errands.due);
        if self.accept_after > self.now.mono {
            until = until.min(self.accept_after);
        } else if self.waiting.is_some() {
            // All places are taken. Where one becomes free by itself, or who has become idle, nobody says.
            until = until.min(self.now.mono + ROOM_PAUSE);
        }
        if !self.idle.is_empty() || self.stock.buffers.had_burst() || self.stock.pipes.wants_sweep() {
            until = until.min(self.next_sweep);
        }
        (until != NEVER).then(|| until.saturating_sub(self.now.mono))
    }

    fn mark(&mut self, event: &Event) {
        match event.token {
            Token::Listener(index) => {
                if let Some(ready) = self.ready.get_mut(index as usize) {
                    *ready = true;
                }
            }
            Token::Waker => {
                self.take_in();
                self.chores.woken = true;
                self.attend();
                self.obey(self.remote.heard());
            }
            Token::Session { slot, generation } => match self.sessions.get_mut(slot as usize) {
                Some(session) if session.generation == generation => {
                    session.client.note(event);
                    self.queue(slot, false);
                }
                _ => {}
            },
            Token::Uplink { slot, generation } => match self.upstreams.get_mut(slot as usize) {
                Some(upstream) if upstream.generation == generation => self.mark_upstream(slot, event),
                _ => {}
            },
            Token::Errand { slot, generation } => {
                self.errands.note(slot, generation, event, &mut self.io, &mut self.chores.news);
            }
        }
    }

    /// Lets the app see to its own affairs: queues the sessions that can go on, and sets out on errands.
    fn attend(&mut self) {
        (self.chores.now, self.chores.drain) = (self.now, self.drain);
        self.attend_at = self.app.attend(&mut self.chores);
        self.chores.woken = false;
        self.chores.news.clear();
        for at in 0..self.chores.wake.len() {
            let SessionId { slot, generation } = self.chores.wake[at];
            if self.sessions.get(slot as usize).is_some_and(|session| session.generation == generation) {
                self.queue(slot, true);
            }
        }
        self.chores.wake.clear();
        while let Some(errand) = self.chores.errands.pop() {
            let generation = self.next_generation();
            let address = self.servers.get(usize::from(errand.server)).filter(|_| self.drain == Drain::No);
            self.errands.start(errand, address, generation, &mut self.io, &mut self.chores.news);
        }
        while let Some(server) = self.chores.release.pop() {
            match self.idle.longest(server) {
                Some(idle) => self.drop_idle(idle.slot),
                None => self.chores.news.push(News::IdleGone { server }),
            }
        }
    }

    /// Closes a connection that the app takes for an idle one.
    pub(super) fn drop_idle(&mut self, slot: u32) {
        let Upstream { server, .. } = self.upstreams.remove(slot as usize);
        self.chores.news.push(News::IdleGone { server });
    }

    fn mark_upstream(&mut self, slot: u32, event: &Event) {
        let upstream = &mut self.upstreams[slot as usize];
        upstream.link.note(event);
        match upstream.session {
            // An idle connection that closes or speaks is of no use, and must be gone before anybody picks it.
            None if event.readable || event.hangup => {
                let (server, idle) = (upstream.server, self.idle.remove(upstream.server, slot));
                self.chores.news.extend(idle.filter(|_| event.hangup).map(|idle| {
                    let idle = self.now.mono.saturating_sub(idle.since);
                    News::IdleClosed { server, idle }
                }));
                self.drop_idle(slot);
            }
            None => {}
            Some(session) => {
                if !upstream.connected && (event.writable || event.hangup) {
                    match self.io.connected(upstream.link.stream()) {
                        Ok(()) => upstream.connected = true,
                        Err(error) => {
                            self.upstreams.remove(slot as usize);
                            self.sessions[session as usize].uplink = Attached::Failed(dial_error(&error));
                        }
                    }
                }
                self.queue(session, true);
            }
        }
    }

    /// A session gets one turn per batch, however much happened to it.
    pub(super) fn queue(&mut self, slot: u32, first: bool) {
        let session = &mut self.sessions[slot as usize];
        if !session.queued {
            session.queued = true;
            if first { self.first.push_back(slot) } else { self.second.push_back(slot) }
        }
    }

    fn run_queue(&mut self) {
        // Who is queued again while the queue runs comes with the next batch, after new events were seen.
        for _ in 0..self.first.len() {
            if let Some(slot) = self.first.pop_front() {
                self.turn(slot, false);
            }
        }
        for _ in 0..self.second.len().min(LOT) {
            if let Some(slot) = self.second.pop_front() {
                self.turn(slot, false);
            }
        }
    }

    fn run_timers(&mut self) {
        let mut due = std::mem::take(&mut self.due);
        self.wheel.expire(self.now.mono, &mut due);
        for entry in due.drain(..) {
            let Entry { slot, generation, .. } = entry;
            match self.sessions.get_mut(slot as usize) {
                Some(session) if session.generation == generation && session.armed == entry.at => {
                    // One that is due as well may have come before this one, and was passed over.
                    let later = std::mem::replace(&mut session.later, NEVER);
                    session.armed = if later > self.now.mono { later } else { NEVER };
                    let due = session.lingers || self.deadline(slot) <= self.now.mono;
                    if due { self.turn(slot, true) } else { self.arm(slot) }
                }
                _ => {}
            }
        }
        self.due = due;
    }

    fn sweep(&mut self) {
        if self.now.mono >= self.next_sweep {
            self.next_sweep = self.now.mono + SWEEP;
            self.idle.expire(self.now.mono, &mut self.expired);
            self.drop_expired();
            self.stock.pipes.sweep();
            if self.stock.buffers.burst_is_over() {
                self.shrink();
                memory::give_back();
            }
        }
        if self.now.mono >= self.drain_ends {
            self.drain_ends = NEVER;
            self.obey(Command::Stop);
            self.run_queue();
        }
    }

    /// Lets go of the room that only a burst needed.
    fn shrink(&mut self) {
        self.sessions.shrink_to_fit();
        self.upstreams.shrink_to_fit();
        self.idle.shrink();
        self.wheel.shrink();
        self.first.shrink_to(LOT);
        self.second.shrink_to(LOT);
    }

    pub(super) fn drop_expired(&mut self) {
        while let Some(idle) = self.expired.pop() {
            self.drop_idle(idle.slot);
        }
    }

    pub(super) fn next_generation(&mut self) -> u32 {
        self.generation = (self.generation + 1) % GENERATIONS;
        self.generation
    }
}

/// Which failures are this machine's and which the server's.
pub(super) fn dial_error(error: &io::Error) -> DialError {
    if no_socket(error) { DialError::NoSocket } else { DialError::Refused }
}

/// Has this machine no socket to give?
pub(super) fn no_socket(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let ours = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::ADDRNOTAVAIL, Errno::AGAIN];
    Errno::from_io_error(error).is_some_and(|errno| ours.contains(&errno))
}
