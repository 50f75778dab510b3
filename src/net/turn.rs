//! One turn of one session: fill, advance, settle, flush; then it waits, is queued again, or is gone.

use crate::base::Micros;
use crate::engine::{
    Again, App, Close, DialError, Drain, Effects, Flow, ServerId, SessionId, Side, Turn, Uplink, Wish,
};
use crate::net::io::{Io, Token};
use crate::net::link::Link;
use crate::net::pool::Idle;
use crate::net::share::Place;
use crate::net::timer::Entry;
use crate::net::worker::{Attached, NEVER, Slot, Upstream, Worker, dial_error};
use std::io;

/// Calls of the app in one turn, before others get theirs.
const MAX_CALLS: usize = 16;
/// Bytes read in one turn, about.
const BUDGET: usize = 1 << 20;

impl<A: App, I: Io> Worker<A, I> {
    pub(super) fn turn(&mut self, slot: u32, expired: bool) {
        let Some(session) = self.sessions.get_mut(slot as usize) else { return };
        session.queued = false;
        if session.lingers {
            return self.linger(slot, expired);
        }
        let mut budget = BUDGET;
        self.fill(slot, &mut budget);
        if expired {
            self.try_sending(slot);
        }
        let mut expired = expired;
        for _ in 0..MAX_CALLS {
            let effects = self.advance(slot, expired);
            expired = false;
            let decided = self.settle(slot, effects.upstream);
            let news = self.flush(slot, &effects);
            if let Some(close) = effects.close {
                return self.close(slot, close);
            }
            let again = match effects.again {
                Again::No => false,
                Again::DownSent => self.down(slot).drained(),
                Again::UpSent => self.sessions[slot as usize].client.lane.flow.drained(),
            };
            if !(again || decided || news) {
                if !self.has_more(slot) {
                    return self.rest(slot);
                }
                if budget == 0 {
                    break;
                }
                self.fill(slot, &mut budget);
            }
        }
        self.rest(slot);
        self.queue(slot, false);
    }

    /// One turn in which a client that has nothing to do goes.
    pub(super) fn make_leave(&mut self, slot: u32) {
        let before = std::mem::replace(&mut self.drain, Drain::Leave);
        self.turn(slot, false);
        self.drain = before;
    }

    fn token(&self, slot: u32) -> Token {
        Token::Session { slot, generation: self.sessions[slot as usize].generation }
    }

    fn down(&self, slot: u32) -> &Flow {
        let session = &self.sessions[slot as usize];
        match session.uplink {
            Attached::To(upstream) => &self.upstreams[upstream as usize].link.lane.flow,
            _ => &session.reply.flow,
        }
    }

    /// Reads from both sockets, and takes what came from the budget.
    fn fill(&mut self, slot: u32, budget: &mut usize) {
        let session = &mut self.sessions[slot as usize];
        let mut taken = session.client.fill(&mut self.io, &mut self.stock, *budget);
        if let Attached::To(upstream) = session.uplink {
            let upstream = &mut self.upstreams[upstream as usize];
            if upstream.connected {
                taken += upstream.link.fill(&mut self.io, &mut self.stock, *budget);
            }
        }
        *budget = budget.saturating_sub(taken);
    }

    fn advance(&mut self, slot: u32, expired: bool) -> Effects {
        let session = &mut self.sessions[slot as usize];
        let (uplink, down) = match session.uplink {
            Attached::None => (Uplink::None, &mut session.reply.flow),
            Attached::Failed(error) => (Uplink::Failed(error), &mut session.reply.flow),
            Attached::To(upstream) => {
                let upstream = &mut self.upstreams[upstream as usize];
                let fact = match upstream.connected {
                    true => Uplink::Linked { reused: upstream.reused, side: upstream.link.side() },
                    false => Uplink::Dialing,
                };
                (fact, &mut upstream.link.lane.flow)
            }
        };
        let client = session.client.side();
        let mut turn = Turn {
            now: self.now,
            session: SessionId { slot, generation: session.generation },
            up: &mut session.client.lane.flow,
            down,
            client,
            uplink,
            expired,
            drain: self.drain,
            pool: &mut self.stock.buffers,
            log: &mut *self.log,
            effects: Effects::default(),
        };
        self.app.advance(&mut session.app, &mut turn);
        turn.effects
    }

    // ---- settle: the upstream link

    /// Performs the wish. True if a dial was decided at once, for good or bad: the app's deadline depends on which.
    fn settle(&mut self, slot: u32, wish: Wish) -> bool {
        match wish {
            Wish::Stay => false,
            Wish::Drop => {
                self.detach(slot);
                false
            }
            Wish::Park { idle, rest } => {
                self.park(slot, idle, rest);
                false
            }
            Wish::Dial { server, fresh, limited } => {
                self.detach(slot);
                self.sessions[slot as usize].reply.clear(&mut self.stock);
                self.dial(slot, server, fresh, limited)
            }
        }
    }

    /// Takes the session's upstream link away and lets what it holds for the client be the session's own.
    fn take_upstream(&mut self, slot: u32) -> Option<u32> {
        let session = &mut self.sessions[slot as usize];
        let Attached::To(upstream) = session.uplink else {
            session.uplink = Attached::None;
            return None;
        };
        session.uplink = Attached::None;
        debug_assert!(session.reply.flow.is_empty());
        session.reply.rest(&mut self.stock);
        session.reply = std::mem::take(&mut self.upstreams[upstream as usize].link.lane);
        Some(upstream)
    }

    fn detach(&mut self, slot: u32) {
        if let Some(upstream) = self.take_upstream(slot) {
            self.upstreams.remove(upstream as usize);
        }
    }

    fn park(&mut self, slot: u32, idle: Micros, rest: Micros) {
        let Some(key) = self.take_upstream(slot) else { return };
        let upstream = &mut self.upstreams[key as usize];
        if idle == 0 || self.drain != Drain::No || !upstream.link.is_quiet(&mut self.io) {
            return self.drop_idle(key);
        }
        upstream.session = None;
        upstream.reused = true;
        let server = upstream.server;
        let now = self.now.mono;
        let idle = Idle { slot: key, since: now, from: now + rest, until: now + idle };
        if let Some(surplus) = self.idle.put(server, idle) {
            self.drop_idle(surplus.slot);
        }
    }

    fn dial(&mut self, slot: u32, server: ServerId, fresh: bool, limited: bool) -> bool {
        while !fresh && let Some(idle) = self.idle.take(server, self.now.mono) {
            if idle.until > self.now.mono {
                self.upstreams[idle.slot as usize].session = Some(slot);
                self.sessions[slot as usize].uplink = Attached::To(idle.slot);
                return true;
            }
            self.drop_idle(idle.slot);
        }
        if limited {
            match self.idle.longest(server) {
                Some(idle) => drop(self.upstreams.remove(idle.slot as usize)),
                None => self.chores.forget_idle_gone(server),
            }
        }
        let result = self.dial_new(slot, server);
        let failed = matches!(result, Attached::Failed(_));
        self.sessions[slot as usize].uplink = result;
        failed
    }

    fn try_dialing(&mut self, server: ServerId) -> io::Result<I::Stream> {
        let address = self.servers.get(usize::from(server)).ok_or(io::ErrorKind::NotFound)?;
        self.io.dial(address)
    }

    fn dial_new(&mut self, slot: u32, server: ServerId) -> Attached {
        let mut dialed = self.try_dialing(server);
        if dialed.as_ref().is_err_and(|error| dial_error(error) == DialError::NoSocket)
            && let Some(idle) = self.idle.oldest()
        {
            // A socket that idles is worth less than one that is needed now.
            self.drop_idle(idle.slot);
            dialed = self.try_dialing(server);
        }
        let stream = match dialed {
            Ok(stream) => stream,
            Err(error) => return Attached::Failed(dial_error(&error)),
        };
        let generation = self.next_generation();
        let mut link = Link::dialed(stream);
        let entry = self.upstreams.vacant_entry();
        let key = entry.key() as u32;
        if link.watch(&mut self.io, Token::Uplink { slot: key, generation }).is_err() {
            return Attached::Failed(DialError::NoSocket);
        }
        entry.insert(Upstream { link, server, generation, session: Some(slot), connected: false, reused: false });
        Attached::To(key)
    }

    // ---- flush

    /// Sends what the flows hold. True if something happened that the app should look at in this turn.
    fn flush(&mut self, slot: u32, effects: &Effects) -> bool {
        let token = self.token(slot);
        let session = &mut self.sessions[slot as usize];
        if effects.end_down {
            session.client.end_when_sent();
        }
        let mut news = false;
        match session.uplink {
            Attached::To(key) => {
                let Upstream { link, connected, generation, .. } = &mut self.upstreams[key as usize];
                if effects.end_up {
                    link.end_when_sent();
                }
                if *connected {
                    let token = Token::Uplink { slot: key, generation: *generation };
                    news |= link.flush(&mut self.io, &mut session.client.lane, token);
                }
                news |= session.client.flush(&mut self.io, &mut link.lane, token);
            }
            _ => news |= session.client.flush(&mut self.io, &mut session.reply, token),
        }
        news | session.client.break_if_mute()
    }

    /// Before a peer is called too slow: is there really no room for more?
    fn try_sending(&mut self, slot: u32) {
        let session = &mut self.sessions[slot as usize];
        session.client.try_sending();
        if let Attached::To(key) = session.uplink
            && let Upstream { link, connected: true, .. } = &mut self.upstreams[key as usize]
        {
            link.try_sending();
        }
        self.flush(slot, &Effects::default());
    }

    // ---- after the turn

    /// Gives empty buffers back, queues the session again if more can be read, and arms its deadline.
    fn rest(&mut self, slot: u32) {
        if self.has_more(slot) {
            self.queue(slot, false);
        }
        let session = &mut self.sessions[slot as usize];
        session.client.lane.rest(&mut self.stock);
        session.reply.rest(&mut self.stock);
        if let Attached::To(key) = session.uplink {
            self.upstreams[key as usize].link.lane.rest(&mut self.stock);
        }
        self.arm(slot);
    }

    /// May more be read, and is there room for it?
    fn has_more(&self, slot: u32) -> bool {
        let session = &self.sessions[slot as usize];
        let server = match session.uplink {
            Attached::To(key) => {
                let Upstream { link, connected, .. } = &self.upstreams[key as usize];
                *connected && link.is_readable() && link.lane.flow.has_room()
            }
            _ => false,
        };
        server || (session.client.is_readable() && session.client.lane.flow.has_room())
    }

    /// When the session must be woken.
    pub(super) fn deadline(&mut self, slot: u32) -> Micros {
        let session = &mut self.sessions[slot as usize];
        let down = match session.uplink {
            Attached::To(upstream) => &self.upstreams[upstream as usize].link.lane.flow,
            _ => &session.reply.flow,
        };
        self.app.deadline(&mut session.app, self.now, &session.client.lane.flow, down).unwrap_or(NEVER)
    }

    /// Makes sure that the session is woken by its deadline. Touches the wheel only if nothing wakes it earlier already.
    pub(super) fn arm(&mut self, slot: u32) {
        let at = self.deadline(slot);
        if at < self.sessions[slot as usize].armed {
            self.wake_at(slot, at);
        }
    }

    fn wake_at(&mut self, slot: u32, at: Micros) {
        let session = &mut self.sessions[slot as usize];
        if session.later == NEVER {
            session.later = session.armed;
        }
        session.armed = at;
        self.wheel.insert(Entry { at, slot, generation: session.generation });
    }

    // ---- closing

    fn close(&mut self, slot: u32, close: Close) {
        self.detach(slot);
        let session = &mut self.sessions[slot as usize];
        let quiet = !session.client.is_readable() && session.client.lane.flow.is_empty();
        match close {
            Close::Reset => {
                if let Some(session) = self.remove(slot) {
                    self.io.reset(session.client.into_stream());
                }
            }
            Close::Finish if quiet => drop(self.remove(slot)),
            // Closing over unread bytes resets the connection, and the reset may overtake our last answer.
            _ if session.client.side() == Side::Open => {
                let token = self.token(slot);
                let session = &mut self.sessions[slot as usize];
                session.client.end_when_sent();
                session.client.flush(&mut self.io, &mut session.reply, token);
                let at = self.now.mono + self.settings.linger;
                session.lingers = true;
                self.wake_at(slot, at);
                self.linger(slot, false);
            }
            _ => drop(self.remove(slot)),
        }
    }

    /// Reads and forgets, until the client ends or its time is over.
    fn linger(&mut self, slot: u32, expired: bool) {
        let session = &mut self.sessions[slot as usize];
        if !expired && self.drain != Drain::Now {
            session.client.lane.clear(&mut self.stock);
            session.client.fill(&mut self.io, &mut self.stock, BUDGET);
            session.client.lane.clear(&mut self.stock);
            session.reply.rest(&mut self.stock);
            if session.client.side() == Side::Open {
                if session.client.is_readable() {
                    self.queue(slot, false);
                }
                return;
            }
        }
        drop(self.remove(slot));
    }

    pub(super) fn remove(&mut self, slot: u32) -> Option<Slot<A, I>> {
        let mut session = self.sessions.try_remove(slot as usize)?;
        self.leave(Place::Here);
        for lane in [&mut session.client.lane, &mut session.reply] {
            lane.clear(&mut self.stock);
        }
        Some(session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Now, Peer};
    use crate::engine::{AccessLog, AccessRecord};
    use crate::net::sys::{Listener, Sys};
    use crate::net::{Remote, Settings};
    use std::io::Read;
    use std::net::{SocketAddr, TcpStream};
    use std::time::Instant;

    struct NoLog;

    impl AccessLog for NoLog {
        fn record(&mut self, _: &AccessRecord) {}
    }

    /// Sends as much as goes, and notes how much had gone whenever its deadline, a moment later, has passed.
    #[derive(Default)]
    struct Gusher {
        gone: Vec<u64>,
    }

    impl App for Gusher {
        /// When it expires.
        type Session = Micros;

        fn open(&mut self, _: Peer, now: Now) -> Micros {
            now.mono + 1000
        }

        fn advance(&mut self, until: &mut Micros, turn: &mut Turn<'_>) {
            if turn.expired {
                *until = turn.now.mono + 1000;
                self.gone.push(turn.down.given());
            }
            if turn.down.has_room() {
                turn.down.push(turn.pool, &[b'x'; 16 * 1024]);
                turn.effects.again = Again::DownSent;
            }
        }

        fn deadline(&self, until: &mut Micros, _: Now, _: &Flow, _: &Flow) -> Option<Micros> {
            Some(*until)
        }
    }

    /// A worker with this app, and its only client.
    fn alone<A: App>(app: A) -> (Worker<A, Sys>, TcpStream) {
        let listener = mio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.set_nodelay(true).unwrap();
        let sys = Sys::new(vec![Listener::Tcp(listener)], Instant::now()).unwrap();
        let settings = Settings {
            buffer: 16 * 1024,
            buffers: usize::MAX,
            max_sessions: 9,
            idle_per_server: 0,
            drain: NEVER,
            linger: 0,
        };
        (Worker::new(app, sys, Vec::new(), Box::new(NoLog), Remote::new(|| {}), settings), client)
    }

    #[test]
    fn what_a_slow_client_has_taken_is_seen_at_its_deadline_though_no_event_tells_of_it() {
        let (mut worker, mut client) = alone(Gusher::default());
        // Until the send buffer is full, also by how much the kernel lets it grow.
        while worker.app.gone.iter().rev().take(20).filter(|gone| worker.app.gone.last() == Some(gone)).count() < 20 {
            worker.step().unwrap();
        }
        let full = *worker.app.gone.last().unwrap();
        // Less than a third of it.
        let mut taken = vec![0; (full / 8) as usize];
        client.read_exact(&mut taken).unwrap();
        let looks = worker.app.gone.len();
        while worker.app.gone.len() < looks + 50 && worker.app.gone.last() == Some(&full) {
            worker.step().unwrap();
        }
        assert!(worker.app.gone.last() > Some(&full), "{full} bytes had gone, and then no more");
    }

    /// Each byte gives it a moment, and after that it may wait for an hour: as with a request to a server that is dialed for it, and the idle
    /// client afterwards.
    struct Moody;

    impl App for Moody {
        type Session = Micros;

        fn open(&mut self, _: Peer, now: Now) -> Micros {
            now.mono + 3_600_000_000
        }

        fn advance(&mut self, until: &mut Micros, turn: &mut Turn<'_>) {
            let came = turn.up.raw().len();
            turn.up.skip(came);
            if came > 0 {
                *until = turn.now.mono + 1000;
            } else if turn.expired {
                *until = turn.now.mono + 3_600_000_000;
            }
        }

        fn deadline(&self, until: &mut Micros, _: Now, _: &Flow, _: &Flow) -> Option<Micros> {
            Some(*until)
        }
    }

    #[test]
    fn the_wheel_does_not_grow_with_each_request_of_a_client() {
        let (mut worker, mut client) = alone(Moody);
        worker.step().unwrap();
        for _ in 0..20 {
            std::io::Write::write_all(&mut client, b"x").unwrap();
            // The byte, and the deadline that follows it.
            worker.step().unwrap();
            worker.step().unwrap();
        }
        assert!(worker.wheel.entries() <= 3, "{} entries for one client", worker.wheel.entries());
    }
}
