//! The world that the `exchange` target puts a proxy into: clients one after another, servers, a clock; and the loop of `net/turn.rs` and
//! `net/link.rs` in memory. Everything that happens to a client connection is kept in a [`Story`].

use super::show;
use super::story::{Attempt, Story};
use pilb::base::buffer::HEADROOM;
use pilb::base::{BufferPool, Micros, Now, Peer, Size};
use pilb::engine::{
    AccessLog, AccessRecord, Again, App, Close, DialError, Drain, Effects, Flow, ServerId, SessionId, Side, Turn,
    Uplink, Wish,
};
use pilb::proxy::{Proxy, Settings};
use std::collections::VecDeque;

/// Calls of the app in one turn, as in the loop.
const MAX_CALLS: usize = 16;
/// Connections kept per server, as in the loop.
const MAX_IDLE: usize = 4;

/// One end of a connection: ours. The script plays the other.
#[derive(Default)]
pub struct Link {
    pub flow: Flow,
    /// Sent by the peer and not yet read.
    pub inbox: VecDeque<u8>,
    /// How the peer's stream ends behind the inbox.
    pub coming: Side,
    side: Side,
    /// What we read and wrote so far.
    pub read: Vec<u8>,
    pub written: Vec<u8>,
    /// Bytes that the socket still takes; `None`: any number.
    pub credit: Option<usize>,
    /// Sending fails from now on.
    pub fails: bool,
    mute: bool,
    half: Half,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Half {
    #[default]
    Open,
    Ending,
    Ended,
}

impl Link {
    fn readable(&self) -> bool {
        self.side == Side::Open && (!self.inbox.is_empty() || self.coming != Side::Open)
    }

    fn fill(&mut self, pool: &mut BufferPool) {
        while self.readable() {
            let room = self.flow.room(pool, Size::Small);
            if room.is_empty() {
                return;
            }
            let n = room.len().min(self.inbox.len());
            if n == 0 {
                self.side = if self.mute { Side::Broken } else { self.coming };
                return;
            }
            for (slot, byte) in room.iter_mut().zip(self.inbox.drain(..n)) {
                *slot = byte;
                self.read.push(byte);
            }
            self.flow.filled(n);
        }
    }

    /// Sends what `flow` holds. True if our half was ended just now.
    fn flush(&mut self, flow: &mut Flow) -> bool {
        while !flow.drained() && !self.mute && self.half != Half::Ended {
            if self.fails {
                self.mute = true;
                break;
            }
            let n = flow.ready().len().min(self.credit.unwrap_or(usize::MAX));
            if n == 0 {
                break;
            }
            self.written.extend_from_slice(&flow.ready()[..n]);
            flow.sent(n);
            self.credit = self.credit.map(|credit| credit - n);
        }
        let ends = self.half == Half::Ending && flow.drained();
        if ends {
            self.half = Half::Ended;
        }
        ends
    }

    fn end_when_sent(&mut self) {
        if self.half == Half::Open {
            self.half = Half::Ending;
        }
    }

    fn is_quiet(&self) -> bool {
        self.side == Side::Open && !self.readable() && !self.mute && self.half == Half::Open
    }

    /// The connection breaks, and with it what was on its way to us.
    pub fn reset(&mut self) {
        self.inbox.clear();
        self.coming = Side::Broken;
        self.fails = true;
    }
}

pub struct Upstream {
    pub link: Link,
    server: ServerId,
    connected: bool,
    reused: bool,
    /// When it may be used while idle.
    from_until: (Micros, Micros),
    /// Where the present exchange's bytes begin in what was written and read.
    from: (usize, usize),
}

enum Uplinked {
    None,
    To(Box<Upstream>),
    Failed(DialError),
}

/// What became of a dial that the script has not decided yet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Dials {
    /// Connected by the next event.
    Succeed,
    /// Left in the air.
    Wait,
}

#[derive(Default)]
struct Records(Vec<AccessRecord>);

impl AccessLog for Records {
    fn record(&mut self, record: &AccessRecord) {
        self.0.push(record.clone());
    }
}

pub struct World {
    proxy: Proxy,
    pool: BufferPool,
    pub now: Now,
    /// When the loop last looked at the clock.
    seen: Micros,
    pub drain: Drain,
    session: <Proxy as App>::Session,
    pub client: Link,
    reply: Flow,
    uplink: Uplinked,
    idle: Vec<Upstream>,
    log: Records,
    story: Story,
    pub dials: Dials,
    /// The next dial fails at once.
    pub next_dial: Option<DialError>,
    /// Calls that the app may still get before this counts as a spin.
    budget: usize,
    limit: usize,
}

impl World {
    pub fn new(settings: Settings, servers: usize, buffer: usize) -> World {
        let now = Now { mono: 1_000_000_000_000, unix: 1_700_000_000_000_000 };
        let limit = 2 * (settings.request.head + settings.response.head + buffer) + HEADROOM + 16 * 1024;
        let retries = settings.retries;
        let names = (0..servers).map(|n| format!("server-{n}.example:80")).collect();
        let mut proxy = Proxy::new(settings, names, 0);
        let session = proxy.open(Peer::Unix, now);
        World {
            proxy,
            pool: BufferPool::new(HEADROOM + buffer, 4),
            now,
            seen: now.mono,
            drain: Drain::No,
            session,
            client: Link::default(),
            reply: Flow::default(),
            uplink: Uplinked::None,
            idle: Vec::new(),
            log: Records::default(),
            story: Story { retries, ..Story::default() },
            dials: Dials::Succeed,
            next_dial: None,
            budget: 0,
            limit,
        }
    }

    // ---- what the script can do to it, besides what is public

    /// The server that serves the session now.
    pub fn server(&mut self) -> Option<&mut Link> {
        match &mut self.uplink {
            Uplinked::To(upstream) => Some(&mut upstream.link),
            _ => None,
        }
    }

    /// The pending dial comes to its end.
    pub fn dialed(&mut self, result: Result<(), DialError>) {
        if let Uplinked::To(upstream) = &mut self.uplink
            && !upstream.connected
        {
            match result {
                Ok(()) => upstream.connected = true,
                // As in the loop: the link is gone, and so is what it held, which is nothing.
                Err(error) => self.uplink = Uplinked::Failed(error),
            }
        }
    }

    /// Idle connections end. Unnoticed, they are found dead when they are used.
    pub fn end_idle(&mut self, coming: Side, noticed: bool) {
        if noticed {
            self.idle.clear();
        }
        for upstream in &mut self.idle {
            match coming {
                Side::Broken => upstream.link.reset(),
                _ => upstream.link.coming = coming,
            }
        }
    }

    /// When the session will be woken.
    pub fn deadline(&mut self) -> Micros {
        let down = match &self.uplink {
            Uplinked::To(upstream) => &upstream.link.flow,
            _ => &self.reply,
        };
        match self.proxy.deadline(&mut self.session, self.now, &self.client.flow, down) {
            Some(at) => at,
            None => panic!("a session without a deadline"),
        }
    }

    // ---- the loop

    /// One event, and everything that follows from it without another. The story, if it ended the client's connection.
    pub fn happen(&mut self) -> Option<Story> {
        let unread = |link: &Link| link.inbox.len() + link.flow.pending();
        let server = match &self.uplink {
            Uplinked::To(upstream) => unread(&upstream.link),
            _ => self.reply.pending(),
        };
        self.budget = 100 + 2 * (unread(&self.client) + server);
        let due = self.now.mono > self.seen && self.deadline() <= self.now.mono;
        self.seen = self.now.mono;
        let before = self.traces();
        let close = self.turns(due);
        if let Some(close) = close {
            return Some(self.end(close));
        }
        assert!(!due || self.traces() != before, "a deadline has passed, and nothing comes of it");
        assert!(self.deadline() > self.now.mono, "the deadline has passed before anybody could keep it");
        self.nothing_stalls();
        None
    }

    /// What changes when a session does something.
    fn traces(&self) -> impl PartialEq + use<> {
        let attached = matches!(self.uplink, Uplinked::To(_));
        (self.story.records.len(), self.story.dials.len(), self.client.written.len(), self.down().pending(), attached)
    }

    fn turns(&mut self, expired: bool) -> Option<Close> {
        let mut expired = expired;
        loop {
            let (close, queued) = self.turn(expired);
            expired = false;
            if close.is_some() {
                return close;
            }
            let connects = matches!(&self.uplink, Uplinked::To(upstream) if !upstream.connected);
            if connects && self.dials == Dials::Succeed {
                self.dialed(Ok(()));
            } else if !queued {
                assert_ne!(self.drain, Drain::Now, "drained, and still there");
                return None;
            }
        }
    }

    /// One turn. How the connection ends, if it does, and whether the session is queued again.
    fn turn(&mut self, expired: bool) -> (Option<Close>, bool) {
        self.fill();
        let mut expired = expired;
        for _ in 0..MAX_CALLS {
            let effects = self.advance(expired);
            expired = false;
            let decided = self.settle(effects.upstream);
            let news = self.flush(&effects);
            self.check_flows();
            if let Some(close) = effects.close {
                return (Some(close), false);
            }
            let again = match effects.again {
                Again::No => false,
                Again::DownSent => self.down().drained(),
                Again::UpSent => self.client.flow.drained(),
            };
            if !(again || decided || news) {
                if !self.has_more() {
                    self.rest();
                    return (None, false);
                }
                self.fill();
            }
        }
        self.rest();
        (None, true)
    }

    fn down(&self) -> &Flow {
        match &self.uplink {
            Uplinked::To(upstream) => &upstream.link.flow,
            _ => &self.reply,
        }
    }

    fn advance(&mut self, expired: bool) -> Effects {
        assert!(self.budget > 0, "it spins; client sent {}", show(&self.client.read));
        self.budget -= 1;
        let (uplink, down) = match &mut self.uplink {
            Uplinked::None => (Uplink::None, &mut self.reply),
            Uplinked::Failed(error) => (Uplink::Failed(*error), &mut self.reply),
            Uplinked::To(upstream) => {
                let fact = match upstream.connected {
                    true => Uplink::Linked { reused: upstream.reused, side: upstream.link.side },
                    false => Uplink::Dialing,
                };
                (fact, &mut upstream.link.flow)
            }
        };
        let mut turn = Turn {
            now: self.now,
            session: SessionId::default(),
            up: &mut self.client.flow,
            down,
            client: self.client.side,
            uplink,
            expired,
            drain: self.drain,
            pool: &mut self.pool,
            log: &mut self.log,
            effects: Effects::default(),
        };
        self.proxy.advance(&mut self.session, &mut turn);
        let effects = turn.effects;
        let records = std::mem::take(&mut self.log.0);
        assert!(records.len() <= 1, "two exchanges in one call");
        self.story.closed_by_a_record = !records.is_empty();
        for record in records {
            self.story.records.push((record, self.client.written.len()));
            assert!(self.down().drained() || self.client.side == Side::Broken, "logged before it was sent");
        }
        effects
    }

    /// The exchange at hand, counted from the client's first.
    fn exchange(&self) -> usize {
        self.story.records.len()
    }

    fn settle(&mut self, wish: Wish) -> bool {
        match wish {
            Wish::Stay => false,
            Wish::Drop => {
                self.take_upstream(false);
                false
            }
            Wish::Park { idle, rest } => {
                let Some(mut upstream) = self.take_upstream(true) else { return false };
                if idle > 0 && self.drain == Drain::No && upstream.link.is_quiet() {
                    upstream.reused = true;
                    upstream.from_until = (self.now.mono + rest, self.now.mono + idle);
                    self.idle.push(upstream);
                    if self.idle.len() > MAX_IDLE {
                        self.idle.remove(0);
                    }
                }
                false
            }
            Wish::Dial { server, fresh, .. } => {
                self.take_upstream(false);
                assert!(self.reply.is_empty(), "an answer is forgotten over another dial");
                self.reply.clear();
                self.dial(server, fresh)
            }
        }
    }

    /// The upstream connection is the session's no longer; what it holds for the client is.
    fn take_upstream(&mut self, parked: bool) -> Option<Upstream> {
        let exchange = match self.story.closed_by_a_record {
            true => self.exchange() - 1,
            false => self.exchange(),
        };
        let Uplinked::To(mut upstream) = std::mem::replace(&mut self.uplink, Uplinked::None) else { return None };
        assert!(self.reply.is_empty(), "two flows have something for the client");
        self.reply.rest(&mut self.pool);
        self.reply = std::mem::take(&mut upstream.link.flow);
        let (written, read) = upstream.from;
        self.story.attempts.push(Attempt {
            exchange,
            connected: upstream.connected,
            sent: upstream.link.written[written..].to_vec(),
            received: upstream.link.read[read..].to_vec(),
            side: upstream.link.side,
            parked,
        });
        Some(*upstream)
    }

    fn dial(&mut self, server: ServerId, fresh: bool) -> bool {
        self.story.dials.push(self.exchange());
        let now = self.now.mono;
        let rested = |idle: &Upstream| idle.server == server && idle.from_until.0 <= now;
        while !fresh && let Some(at) = self.idle.iter().rposition(rested) {
            let mut upstream = self.idle.remove(at);
            if upstream.from_until.1 > now {
                upstream.from = (upstream.link.written.len(), upstream.link.read.len());
                self.uplink = Uplinked::To(Box::new(upstream));
                return true;
            }
        }
        if let Some(error) = self.next_dial.take() {
            self.uplink = Uplinked::Failed(error);
            return true;
        }
        let link = Link::default();
        let upstream = Upstream { link, server, connected: false, reused: false, from_until: (0, 0), from: (0, 0) };
        self.uplink = Uplinked::To(Box::new(upstream));
        false
    }

    fn flush(&mut self, effects: &Effects) -> bool {
        if effects.end_down {
            self.client.end_when_sent();
        }
        let mut news = false;
        match &mut self.uplink {
            Uplinked::To(upstream) => {
                let Upstream { link, connected, .. } = &mut **upstream;
                if effects.end_up {
                    link.end_when_sent();
                }
                if *connected {
                    news |= link.flush(&mut self.client.flow);
                    if link.mute && link.side == Side::Open && link.coming == Side::Open {
                        // Reading tells what happened.
                        link.coming = Side::Broken;
                    }
                }
                news |= self.client.flush(&mut link.flow);
            }
            _ => news |= self.client.flush(&mut self.reply),
        }
        if self.client.mute && self.client.side != Side::Broken {
            self.client.side = Side::Broken;
            news = true;
        }
        news
    }

    fn fill(&mut self) {
        self.client.fill(&mut self.pool);
        if let Uplinked::To(upstream) = &mut self.uplink
            && upstream.connected
        {
            upstream.link.fill(&mut self.pool);
        }
    }

    /// May more be read, and is there room for it?
    fn has_more(&self) -> bool {
        let server = match &self.uplink {
            Uplinked::To(upstream) => upstream.connected && upstream.link.readable() && upstream.link.flow.has_room(),
            _ => false,
        };
        server || (self.client.readable() && self.client.flow.has_room())
    }

    /// Buffers without bytes go back.
    fn rest(&mut self) {
        self.client.flow.rest(&mut self.pool);
        self.reply.rest(&mut self.pool);
        if let Uplinked::To(upstream) = &mut self.uplink {
            upstream.link.flow.rest(&mut self.pool);
        }
    }

    // ---- what must hold at any time

    fn check_flows(&self) {
        for flow in [&self.client.flow, self.down(), &self.reply] {
            assert_eq!(flow.pending(), flow.raw().len() + flow.ready().len());
            assert_eq!(flow.drained(), flow.ready().is_empty());
            assert!(!flow.is_empty() || flow.pending() == 0);
            assert!(flow.pending() <= self.limit, "{} bytes in a flow", flow.pending());
        }
    }

    /// Where something waits to be read and there is no room for it, somebody else must be to blame.
    fn nothing_stalls(&self) {
        let Uplinked::To(upstream) = &self.uplink else { return };
        let stuck = |link: &Link| link.readable() && !link.flow.has_room() && link.flow.drained();
        if !upstream.connected {
            return;
        }
        let written = &upstream.link.written[upstream.from.0..];
        let request = || self.story.request_is_whole(written);
        let answer = || self.story.answer_is_whole(written, &upstream.link.read[upstream.from.1..]);
        let up = stuck(&self.client) && upstream.link.flow.drained();
        assert!(!up || request(), "the request stalls: {}", show(&self.client.read));
        assert!(!stuck(&upstream.link) || answer(), "the answer stalls: {}", show(&upstream.link.read));
    }

    // ---- the end of a client

    fn end(&mut self, close: Close) -> Story {
        self.take_upstream(false);
        let mut story = std::mem::take(&mut self.story);
        if self.client.side == Side::Open && close != Close::Reset {
            self.client.flush(&mut self.reply);
        }
        let broken = self.client.side == Side::Broken;
        assert!(broken || close == Close::Reset || self.reply.drained(), "closed before all was sent");
        story.close = Some(close);
        story.broken = broken;
        self.reply.clear();
        self.reply.rest(&mut self.pool);
        self.client.flow.clear();
        self.client.flow.rest(&mut self.pool);
        let client = std::mem::take(&mut self.client);
        (story.sent, story.got) = (client.read, client.written);
        self.story.retries = story.retries;
        self.drain = Drain::No;
        self.session = self.proxy.open(Peer::Unix, self.now);
        story
    }

    /// The client's story so far, at the end of the script.
    pub fn so_far(mut self) -> Story {
        self.story.sent = std::mem::take(&mut self.client.read);
        self.story.got = std::mem::take(&mut self.client.written);
        self.story
    }
}
