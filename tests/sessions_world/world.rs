//! The loop's part: what `src/net/worker.rs` and `turn.rs` do, over sockets in memory, with every step checked.

use super::script::Mode;
use super::text::show;
use super::wire::{End, Lane, Link, Ours, Sock};
use pilb::base::buffer::HEADROOM;
use pilb::base::time::SECOND;
use pilb::base::{BufferPool, Micros, Now, Peer};
use pilb::engine::{
    AccessLog, AccessRecord, Again, App, Chores, Close, DialError, Drain, Effects, Flow, News, ServerId, SessionId,
    Side, Turn, Uplink, Wish,
};
use pilb::proxy::board::Board;
use pilb::proxy::{self, Place, Proxy, Settings};
use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::Arc;

/// What a broken rule says.
pub type Checked<T = ()> = Result<T, String>;

/// The wall clock when a world begins.
const START: Micros = 784_111_777 * SECOND;
/// Calls of the app in one turn.
const MAX_CALLS: usize = 16;
/// Of these, how many in a row may change nothing.
const MAX_IDLE_CALLS: usize = 3;
/// Batches in a row that may change nothing.
const MAX_IDLE_BATCHES: usize = 8;
const GULP: usize = 13;

/// Of one world.
#[derive(Clone, Debug)]
pub struct Config {
    pub proxy: Settings,
    pub servers: usize,
    /// So many of them, the last ones, are backups.
    pub backups: usize,
    pub start: usize,
    pub buffer: usize,
    pub buffers: usize,
    pub linger: Micros,
    pub drain: Micros,
    pub idle_per_server: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            proxy: Settings::default(),
            servers: 1,
            backups: 0,
            start: 0,
            buffer: 16 * 1024,
            buffers: usize::MAX,
            linger: 2 * SECOND,
            drain: 30 * SECOND,
            idle_per_server: 64,
        }
    }
}

#[derive(Default)]
struct Log {
    records: Vec<AccessRecord>,
}

impl AccessLog for Log {
    fn record(&mut self, record: &AccessRecord) {
        self.records.push(record.clone());
    }
}

/// What happened, in order. Neighbouring bytes of one direction are shown together, and so are those that are passed on one by one.
#[derive(Default)]
pub struct Transcript {
    lines: Vec<Line>,
}

struct Line {
    at: Micros,
    what: String,
    bytes: Vec<u8>,
}

impl Transcript {
    pub fn say(&mut self, at: Micros, what: impl Into<String>) {
        self.lines.push(Line { at, what: what.into(), bytes: Vec::new() });
    }

    fn bytes(&mut self, at: Micros, way: String, bytes: &[u8]) {
        let passing = |line: &&mut Line| line.at == at && !line.bytes.is_empty();
        match self.lines.iter_mut().rev().take(2).take_while(passing).find(|line| line.what == way) {
            Some(line) => line.bytes.extend_from_slice(bytes),
            None => self.lines.push(Line { at, what: way, bytes: bytes.to_vec() }),
        }
    }

    pub fn text(&self) -> String {
        let mut out = String::new();
        for Line { at, what, bytes } in &self.lines {
            let _ = write!(out, "    {:>10.3}s {what}", *at as f64 / SECOND as f64);
            let _ = if bytes.is_empty() { writeln!(out) } else { writeln!(out, " {}", show(bytes)) };
        }
        out
    }
}

/// A client connection.
pub struct Client {
    session: Option<<Proxy as App>::Session>,
    pub link: Link,
    reply: Lane,
    uplink: Attached,
    queued: bool,
    linger: Option<Micros>,
    /// When the app wants to be woken.
    armed: Option<Micros>,
    /// A dial was wished for since the last record.
    owes_record: bool,
    /// Bytes that records account for.
    logged_down: u64,
    /// What the script has last looked at.
    pub looked: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attached {
    None,
    To(usize),
    Failed(DialError),
}

/// What becomes of dials to a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dials {
    #[default]
    Ask,
    Accept,
    Refuse,
    NoSocket,
    /// The first try of the next dial fails for want of a descriptor.
    NoSocketOnce,
}

#[derive(Clone, Debug, Default)]
pub struct Server {
    pub dials: Dials,
    pub window: Option<usize>,
    pub answer: Option<String>,
    connections: usize,
}

/// How far a dial has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialed {
    Pending,
    Ok,
    Refused,
    Over,
}

/// A connection to a server.
pub struct Conn {
    pub server: usize,
    pub number: usize,
    pub link: Link,
    pub session: Option<usize>,
    connected: bool,
    reused: bool,
    pub dialed: Dialed,
    /// The script has said what becomes of the dial.
    pub expected: bool,
    pub looked: Vec<u8>,
    /// Requests that the server has not answered by itself yet, and answers it has not sent yet.
    unanswered: Vec<u8>,
    unsaid: VecDeque<u8>,
}

struct Idle {
    conn: usize,
    /// It is not handed out before.
    from: Micros,
    until: Micros,
}

/// See the module.
pub struct World {
    app: Proxy,
    config: Config,
    pub now: Now,
    pool: BufferPool,
    log: Log,
    /// Records that the script has expected.
    pub read_records: usize,
    pub clients: Vec<Option<Client>>,
    pub conns: Vec<Conn>,
    pub servers: Vec<Server>,
    idle: Vec<Idle>,
    /// What the app has not heard yet.
    news: Vec<News>,
    first: VecDeque<usize>,
    second: VecDeque<usize>,
    drain: Drain,
    drain_ends: Option<Micros>,
    attend_at: Micros,
    pub transcript: Transcript,
    pub mode: Mode,
    changes: u64,
}

impl World {
    pub fn new(config: &Config, mode: Mode) -> World {
        let server = |i| {
            let backup = i + config.backups >= config.servers;
            proxy::servers::Server { name: format!("server-{i}:80"), weight: 1, backup }
        };
        let servers = (0..config.servers).map(server).collect();
        let board = Arc::new(Board::new(config.servers).limited(&config.proxy.servers, vec![Box::new(|| {})]));
        let place = Place { number: config.start, probes: true, seed: 1 };
        World {
            app: Proxy::one_of(config.proxy.clone(), servers, board, place),
            config: config.clone(),
            now: Now { mono: 0, unix: START },
            pool: BufferPool::new(HEADROOM + config.buffer, 8).within(config.buffers),
            log: Log::default(),
            read_records: 0,
            clients: Vec::new(),
            conns: Vec::new(),
            servers: vec![Server::default(); config.servers],
            idle: Vec::new(),
            news: Vec::new(),
            first: VecDeque::new(),
            second: VecDeque::new(),
            drain: Drain::No,
            drain_ends: None,
            attend_at: 0,
            transcript: Transcript::default(),
            mode,
            changes: 0,
        }
    }

    pub fn say(&mut self, what: impl Into<String>) {
        self.transcript.say(self.now.mono, what);
    }

    fn gulp(&self) -> usize {
        if self.mode == Mode::ShortSends { GULP } else { usize::MAX }
    }

    // ---- what scripts do

    pub fn connect(&mut self, client: usize) {
        while self.clients.len() <= client {
            self.clients.push(None);
        }
        if self.clients[client].is_none() {
            let peer = Peer::Ip(([192, 0, 2, 7], 5000 + client as u16).into());
            self.say(format!("client {client} connects"));
            self.clients[client] = Some(Client {
                session: Some(self.app.open(peer, self.now)),
                link: Link::new(Sock::new(usize::MAX, self.gulp()), self.mode == Mode::AroundBuffers, true),
                reply: Lane::default(),
                uplink: Attached::None,
                queued: false,
                linger: None,
                armed: None,
                owes_record: false,
                logged_down: 0,
                looked: Vec::new(),
            });
            self.arm(client);
        }
    }

    pub fn client(&mut self, client: usize) -> &mut Client {
        self.connect(client);
        self.clients[client].as_mut().expect("connected above")
    }

    /// Bytes from a client. With `run` false the last ones wait for the next batch.
    pub fn client_sends(&mut self, client: usize, bytes: &[u8], run: bool) -> Checked {
        let step = if self.mode.client_by_bytes() { 1 } else { bytes.len().max(1) };
        let count = bytes.len().div_ceil(step);
        for (i, part) in bytes.chunks(step).enumerate() {
            self.transcript.bytes(self.now.mono, format!("client {client} -> proxy:"), part);
            self.client(client).link.sock.deliver(part);
            if run || i + 1 < count {
                self.run()?;
            }
        }
        Ok(())
    }

    /// Bytes from a server.
    pub fn upstream_sends(&mut self, conn: usize, bytes: &[u8], run: bool) -> Checked {
        let step = if self.mode.upstream_by_bytes() { 1 } else { bytes.len().max(1) };
        let count = bytes.len().div_ceil(step);
        for (i, part) in bytes.chunks(step).enumerate() {
            self.transcript.bytes(self.now.mono, format!("upstream {} -> proxy:", self.name(conn)), part);
            self.conns[conn].link.sock.deliver(part);
            if run || i + 1 < count {
                self.run()?;
            }
        }
        Ok(())
    }

    pub fn name(&self, conn: usize) -> String {
        format!("{}.{}", self.conns[conn].server, self.conns[conn].number)
    }

    /// Lets time pass, stopping wherever the loop would wake.
    pub fn pass_time(&mut self, span: Micros) -> Checked {
        let until = self.now.mono + span;
        self.run()?;
        loop {
            let at = self.next_wake().filter(|at| *at <= until).unwrap_or(until);
            self.now.unix += at - self.now.mono;
            self.now.mono = at;
            let (over, stays) = std::mem::take(&mut self.idle).into_iter().partition(|idle| idle.until <= at);
            self.idle = stays;
            for idle in over as Vec<Idle> {
                self.drop_idle(idle.conn);
            }
            for client in 0..self.clients.len() {
                // As the timers do: what was armed is a hint, the app is asked again.
                if self.armed(client).is_none_or(|armed| armed > at) {
                    continue;
                }
                self.arm(client);
                if self.armed(client).is_some_and(|armed| armed <= at) {
                    self.say(format!("deadline of client {client}"));
                    self.turn(client, true)?;
                    if self.armed(client).is_some_and(|armed| armed <= at) {
                        return Err("a passed deadline changed nothing: it is still in the past".to_owned());
                    }
                }
            }
            if self.drain_ends.is_some_and(|ends| ends <= at) {
                self.drain(Drain::Now)?;
            }
            self.run()?;
            if at == until {
                return Ok(());
            }
        }
    }

    fn next_wake(&self) -> Option<Micros> {
        let deadlines = (0..self.clients.len()).filter_map(|client| self.armed(client));
        let attend = Some(self.attend_at).filter(|at| *at > self.now.mono);
        deadlines.chain(self.idle.iter().map(|idle| idle.until)).chain(self.drain_ends).chain(attend).min()
    }

    pub fn drain(&mut self, drain: Drain) -> Checked {
        self.say(format!("drain: {drain:?}"));
        if self.drain == Drain::No {
            self.drain_ends = Some(self.now.mono + self.config.drain);
            for idle in std::mem::take(&mut self.idle) {
                self.drop_idle(idle.conn);
            }
        }
        if drain == Drain::Now {
            self.drain_ends = None;
        }
        self.drain = drain;
        for client in 0..self.clients.len() {
            if let Some(slot) = self.clients[client].as_mut() {
                slot.link.look();
            }
            self.queue(client, false);
        }
        self.run()
    }

    // ---- what scripts ask

    /// The next record that was not asked for yet.
    pub fn next_record(&mut self) -> Option<AccessRecord> {
        let record = self.log.records.get(self.read_records).cloned()?;
        self.read_records += 1;
        Some(record)
    }

    pub fn peek_record(&self) -> Option<&AccessRecord> {
        self.log.records.get(self.read_records)
    }

    pub fn is_gone(&self, client: usize) -> bool {
        self.slot(client).is_none_or(|slot| slot.session.is_none())
    }

    pub fn is_lingering(&self, client: usize) -> bool {
        self.slot(client).is_some_and(|slot| slot.session.is_some() && slot.linger.is_some())
    }

    /// Does the session wait for a request, holding nothing?
    pub fn is_waiting(&self, client: usize) -> bool {
        self.slot(client).is_some_and(|slot| {
            slot.session.is_some()
                && slot.linger.is_none()
                && slot.uplink == Attached::None
                && !slot.owes_record
                && !slot.link.flow.has_buffer()
                && !slot.reply.has_buffer()
        })
    }

    pub fn idle_count(&self) -> usize {
        self.idle.len()
    }

    pub fn is_idle(&self, conn: usize) -> bool {
        self.idle.iter().any(|idle| idle.conn == conn)
    }

    fn slot(&self, client: usize) -> Option<&Client> {
        self.clients.get(client)?.as_ref()
    }

    // ---- batches

    /// Serves until nothing happens any more.
    pub fn run(&mut self) -> Checked {
        let (mut changes, mut still) = (u64::MAX, 0);
        loop {
            self.mark_all();
            self.attend();
            if self.first.is_empty() && self.second.is_empty() {
                break;
            }
            still = if changes == self.changes { still + 1 } else { 0 };
            changes = self.changes;
            if still > MAX_IDLE_BATCHES {
                return Err(format!("spins: {still} batches without any change"));
            }
            for _ in 0..self.first.len() {
                if let Some(client) = self.first.pop_front() {
                    self.turn(client, false)?;
                }
            }
            for _ in 0..self.second.len() {
                if let Some(client) = self.second.pop_front() {
                    self.turn(client, false)?;
                }
            }
        }
        self.check()
    }

    /// The app's own affairs: here that is who waits in a queue.
    fn attend(&mut self) {
        let news = std::mem::take(&mut self.news);
        let mut chores = Chores { now: self.now, drain: self.drain, news, ..Chores::default() };
        self.attend_at = self.app.attend(&mut chores);
        for session in chores.wake {
            if self.clients[session.slot as usize].as_ref().is_some_and(|slot| slot.session.is_some()) {
                self.queue(session.slot as usize, true);
            }
        }
    }

    fn mark_all(&mut self) {
        for conn in 0..self.conns.len() {
            self.serve_by_itself(conn);
            self.mark_upstream(conn);
        }
        for client in 0..self.clients.len() {
            if let Some(slot) = self.clients[client].as_mut() {
                let news = std::mem::take(&mut slot.link.sock.news);
                if slot.session.is_some() && news.any() {
                    slot.link.note(news);
                    self.queue(client, false);
                }
            }
        }
    }

    fn mark_upstream(&mut self, key: usize) {
        let conn = &mut self.conns[key];
        let outcome = match conn.dialed {
            Dialed::Ok | Dialed::Refused => std::mem::replace(&mut conn.dialed, Dialed::Over),
            dialed => dialed,
        };
        let news = std::mem::take(&mut conn.link.sock.news);
        if conn.link.sock.ours == Ours::Closed || conn.link.sock.ours == Ours::Reset || outcome == Dialed::Pending {
            // What a server says before the dial is done is told then.
            conn.link.sock.news = if outcome == Dialed::Pending { news } else { Default::default() };
            return;
        }
        match outcome {
            Dialed::Ok => {
                conn.connected = true;
                conn.link.note(super::wire::News { writable: true, ..news });
            }
            Dialed::Refused => {
                let session = conn.session;
                self.drop_conn(key);
                if let Some(client) = session {
                    self.client(client).uplink = Attached::Failed(DialError::Refused);
                    self.queue(client, true);
                }
                return;
            }
            _ if !news.any() => return,
            _ => conn.link.note(news),
        }
        match self.conns[key].session {
            Some(client) => self.queue(client, true),
            None if news.readable || news.hangup => {
                self.idle.retain(|idle| idle.conn != key);
                self.drop_idle(key);
            }
            None => {}
        }
    }

    /// A server that answers by itself.
    fn serve_by_itself(&mut self, key: usize) {
        let conn = &mut self.conns[key];
        let Some(answer) = &self.servers[conn.server].answer else { return };
        conn.unanswered.append(&mut conn.link.sock.out);
        while let Some(end) = conn.unanswered.windows(4).position(|four| four == b"\r\n\r\n") {
            let head: Vec<u8> = conn.unanswered.drain(..end + 4).collect();
            let head = String::from_utf8_lossy(&head);
            let path = head.split(' ').nth(1).unwrap_or("");
            let filled = answer.replace("{path}", path).replace("{length}", &path.len().to_string());
            conn.unsaid.extend(super::text::bytes(&filled).unwrap_or_default());
        }
        let n = if self.mode.upstream_by_bytes() { conn.unsaid.len().min(1) } else { conn.unsaid.len() };
        if n > 0 {
            let part: Vec<u8> = conn.unsaid.drain(..n).collect();
            conn.link.sock.deliver(&part);
            self.changes += 1;
            self.transcript.bytes(self.now.mono, format!("upstream {} -> proxy:", self.name(key)), &part);
        }
    }

    fn queue(&mut self, client: usize, first: bool) {
        let Some(slot) = self.clients[client].as_mut() else { return };
        if !slot.queued && slot.session.is_some() {
            slot.queued = true;
            if first { self.first.push_back(client) } else { self.second.push_back(client) }
        }
    }

    // ---- a turn

    fn turn(&mut self, client: usize, expired: bool) -> Checked {
        let slot = self.client(client);
        slot.queued = false;
        if slot.session.is_none() {
            return Ok(());
        }
        if slot.linger.is_some() {
            self.linger(client, expired);
            return Ok(());
        }
        self.fill(client);
        let (mut expired, mut idle_calls) = (expired, 0);
        for _ in 0..MAX_CALLS {
            let (before, bytes) = (self.changes, self.odometer(client));
            let effects = self.advance(client, expired)?;
            expired = false;
            let decided = self.settle(client, effects.upstream)?;
            let news = self.flush(client, &effects);
            if let Some(close) = effects.close {
                return self.close(client, close);
            }
            if self.odometer(client) != bytes {
                self.changes += 1;
            }
            idle_calls = if before == self.changes { idle_calls + 1 } else { 0 };
            if idle_calls > MAX_IDLE_CALLS {
                return Err(format!("the app was called {idle_calls} times in a turn and nothing changed"));
            }
            let again = match effects.again {
                Again::No => false,
                Again::DownSent => self.down(client).drained(),
                Again::UpSent => self.client(client).link.flow.drained(),
            };
            if !(again || decided || news) {
                return self.rest(client);
            }
        }
        self.rest(client)?;
        self.queue(client, false);
        Ok(())
    }

    /// Changes whenever a byte moves.
    fn odometer(&self, client: usize) -> [u64; 6] {
        let Some(slot) = self.slot(client) else { return [0; 6] };
        let (up, down) = (&slot.link.flow, self.down(client));
        let lens = |flow: &Flow| ((flow.raw().len() as u64) << 32) | flow.ready().len() as u64;
        [up.taken(), up.given(), lens(up), down.taken(), down.given(), lens(down)]
    }

    fn down(&self, client: usize) -> &Flow {
        match &self.clients[client] {
            Some(Client { uplink: Attached::To(conn), .. }) => &self.conns[*conn].link.flow,
            Some(slot) => &slot.reply,
            None => unreachable!("asked for the flow of nobody"),
        }
    }

    fn fill(&mut self, client: usize) {
        let before = self.odometer(client);
        let Some(slot) = self.clients[client].as_mut() else { return };
        slot.link.fill(&mut self.pool);
        if let Attached::To(conn) = slot.uplink
            && self.conns[conn].connected
        {
            self.conns[conn].link.fill(&mut self.pool);
        }
        if before != self.odometer(client) {
            self.changes += 1;
        }
    }

    fn advance(&mut self, client: usize, expired: bool) -> Checked<Effects> {
        let records = self.log.records.len();
        let Some(slot) = self.clients[client].as_mut() else { return Err("no such client".to_owned()) };
        let (uplink, down) = match slot.uplink {
            Attached::None => (Uplink::None, &mut slot.reply),
            Attached::Failed(error) => (Uplink::Failed(error), &mut slot.reply),
            Attached::To(conn) => {
                let conn = &mut self.conns[conn];
                let fact = match conn.connected {
                    true => Uplink::Linked { reused: conn.reused, side: conn.link.side() },
                    false => Uplink::Dialing,
                };
                (fact, &mut conn.link.flow)
            }
        };
        let Some(session) = slot.session.as_mut() else { return Err("advance after close".to_owned()) };
        let mut turn = Turn {
            now: self.now,
            session: SessionId { slot: client as u32, generation: 0 },
            client: slot.link.side(),
            up: &mut slot.link.flow,
            down,
            uplink,
            expired,
            drain: self.drain,
            pool: &mut self.pool,
            log: &mut self.log,
            effects: Effects::default(),
        };
        self.app.advance(session, &mut turn);
        let effects = turn.effects;
        if let Wish::Dial { .. } = effects.upstream {
            slot.owes_record = true;
        }
        let new: Vec<AccessRecord> = self.log.records[records..].to_vec();
        if effects.upstream != Wish::Stay || effects.close.is_some() || !new.is_empty() {
            self.changes += 1;
        }
        for record in &new {
            self.note_record(client, record);
        }
        if new.len() > 1 {
            return Err("more than one exchange ended in one call".to_owned());
        }
        let more_wishes = effects.again != Again::No
            || effects.end_up
            || effects.end_down
            || matches!(effects.upstream, Wish::Dial { .. });
        match effects.close {
            Some(_) if more_wishes => Err(format!("wishes beside a close: {effects:?}")),
            _ => Ok(effects),
        }
    }

    fn note_record(&mut self, client: usize, record: &AccessRecord) {
        let told = format!(
            "record: {} {} server={:?} attempts={} up={} down={} head={} detail={:?}",
            record.status,
            record.end.word(),
            record.server,
            record.attempts,
            record.bytes_up,
            record.bytes_down,
            record.head_down,
            record.detail
        );
        self.say(told);
        let slot = self.client(client);
        slot.owes_record = false;
        slot.logged_down += record.bytes_down;
    }

    fn settle(&mut self, client: usize, wish: Wish) -> Checked<bool> {
        match wish {
            Wish::Stay => Ok(false),
            Wish::Drop => self.detach(client).map(|()| false),
            Wish::Park { idle, rest } => self.park(client, idle, rest).map(|()| false),
            Wish::Dial { server, fresh, limited } => {
                self.detach(client)?;
                self.client(client).reply.clear();
                Ok(self.dial(client, usize::from(server), fresh, limited))
            }
        }
    }

    fn take_upstream(&mut self, client: usize) -> Checked<Option<usize>> {
        let Some(slot) = self.clients[client].as_mut() else { return Ok(None) };
        let Attached::To(conn) = std::mem::replace(&mut slot.uplink, Attached::None) else { return Ok(None) };
        if !slot.reply.is_empty() {
            return Err("two flows hold bytes for the client at once".to_owned());
        }
        slot.reply.rest(&mut self.pool);
        slot.reply = std::mem::take(&mut self.conns[conn].link.flow);
        self.conns[conn].session = None;
        Ok(Some(conn))
    }

    fn detach(&mut self, client: usize) -> Checked {
        if let Some(conn) = self.take_upstream(client)? {
            self.drop_conn(conn);
        }
        Ok(())
    }

    /// Closes a connection that the app takes for an idle one.
    fn drop_idle(&mut self, conn: usize) {
        self.news.push(News::IdleGone { server: self.conns[conn].server as ServerId });
        self.drop_conn(conn);
    }

    fn drop_conn(&mut self, conn: usize) {
        self.say(format!("upstream {} is closed", self.name(conn)));
        self.conns[conn].session = None;
        self.conns[conn].link.sock.close();
    }

    fn park(&mut self, client: usize, idle: Micros, rest: Micros) -> Checked {
        let Some(key) = self.take_upstream(client)? else { return Err("park without a connection".to_owned()) };
        let conn = &mut self.conns[key];
        if idle == 0 || self.drain != Drain::No || !conn.link.is_quiet() {
            self.drop_idle(key);
            return Ok(());
        }
        conn.reused = true;
        let server = conn.server;
        self.say(format!("upstream {} is parked", self.name(key)));
        let now = self.now.mono;
        self.idle.push(Idle { conn: key, from: now + rest, until: now + idle });
        let mine = self.idle.iter().filter(|idle| self.conns[idle.conn].server == server).count();
        if mine > self.config.idle_per_server
            && let Some(oldest) = self.idle.iter().position(|idle| self.conns[idle.conn].server == server)
        {
            let surplus = self.idle.remove(oldest);
            self.drop_idle(surplus.conn);
        }
        Ok(())
    }

    /// True if it was decided at once.
    fn dial(&mut self, client: usize, server: usize, fresh: bool, limited: bool) -> bool {
        let now = self.now.mono;
        let reusable = self.idle.iter().rposition(|idle| self.conns[idle.conn].server == server && idle.from <= now);
        if let Some(at) = reusable.filter(|_| !fresh) {
            let idle = self.idle.remove(at);
            self.conns[idle.conn].session = Some(client);
            self.say(format!("client {client} uses upstream {}", self.name(idle.conn)));
            self.client(client).uplink = Attached::To(idle.conn);
            return true;
        }
        let mine = |idle: &Idle| self.conns[idle.conn].server == server;
        if let Some(longest) = self.idle.iter().position(mine).filter(|_| limited) {
            let idle = self.idle.remove(longest);
            self.drop_conn(idle.conn);
        }
        self.say(format!("dial to server {server}{}", if fresh { ", fresh" } else { "" }));
        let mut dials = self.servers[server].dials;
        if matches!(dials, Dials::NoSocket | Dials::NoSocketOnce) && !self.idle.is_empty() {
            // A socket that idles is worth less than one that is needed now.
            let idle = self.idle.remove(0);
            self.drop_idle(idle.conn);
            dials = if dials == Dials::NoSocketOnce { Dials::Ask } else { dials };
        }
        let failed = match dials {
            Dials::Ask | Dials::Accept => None,
            Dials::Refuse => Some(DialError::Refused),
            Dials::NoSocket | Dials::NoSocketOnce => Some(DialError::NoSocket),
        };
        if let Some(error) = failed {
            self.client(client).uplink = Attached::Failed(error);
            return true;
        }
        let scripted = &mut self.servers[server];
        let accepts = dials == Dials::Accept;
        let (number, window) = (scripted.connections, scripted.window.unwrap_or(usize::MAX));
        scripted.connections += 1;
        let key = self.conns.len();
        self.conns.push(Conn {
            server,
            number,
            link: Link::new(Sock::new(window, self.gulp()), self.mode == Mode::AroundBuffers, false),
            session: Some(client),
            connected: false,
            reused: false,
            dialed: if accepts { Dialed::Ok } else { Dialed::Pending },
            expected: accepts,
            looked: Vec::new(),
            unanswered: Vec::new(),
            unsaid: VecDeque::new(),
        });
        self.client(client).uplink = Attached::To(key);
        false
    }

    fn flush(&mut self, client: usize, effects: &Effects) -> bool {
        let now = self.now.mono;
        let Some(slot) = self.clients[client].as_mut() else { return false };
        if effects.end_down {
            slot.link.end_when_sent();
        }
        let mut news = false;
        let to_client = slot.link.sock.out.len();
        match slot.uplink {
            Attached::To(key) => {
                let conn = &mut self.conns[key];
                if effects.end_up {
                    conn.link.end_when_sent();
                }
                if conn.connected {
                    let before = conn.link.sock.out.len();
                    news |= conn.link.flush(&mut slot.link.flow);
                    let sent = &conn.link.sock.out[before..];
                    if !sent.is_empty() {
                        let way = format!("proxy -> upstream {}.{}:", conn.server, conn.number);
                        self.transcript.bytes(now, way, sent);
                    }
                }
                news |= slot.link.flush(&mut conn.link.flow);
            }
            _ => news |= slot.link.flush(&mut slot.reply),
        }
        let sent = &slot.link.sock.out[to_client..];
        if !sent.is_empty() {
            self.transcript.bytes(now, format!("proxy -> client {client}:"), sent);
        }
        news | slot.link.break_if_mute()
    }

    fn rest(&mut self, client: usize) -> Checked {
        let Some(slot) = self.clients[client].as_mut() else { return Ok(()) };
        let mut more = slot.link.is_readable() && slot.link.flow.has_room();
        slot.link.flow.rest(&mut self.pool);
        slot.reply.rest(&mut self.pool);
        if let Attached::To(conn) = slot.uplink {
            let conn = &mut self.conns[conn];
            more |= conn.connected && conn.link.is_readable() && conn.link.flow.has_room();
            conn.link.flow.rest(&mut self.pool);
        }
        if more {
            self.queue(client, false);
        }
        self.arm(client);
        match self.armed(client) {
            Some(at) if at > self.now.mono => Ok(()),
            at => Err(format!("after a turn the deadline is not in the future: {at:?}, now {}", self.now.mono)),
        }
    }

    /// Asks when the session must be woken.
    fn arm(&mut self, client: usize) {
        let Some(slot) = self.clients[client].as_mut() else { return };
        let Some(session) = slot.session.as_mut() else { return };
        let down = match slot.uplink {
            Attached::To(conn) => &self.conns[conn].link.flow,
            _ => &slot.reply,
        };
        slot.armed = match slot.linger {
            Some(until) => Some(until),
            None => self.app.deadline(session, self.now, &slot.link.flow, down),
        };
    }

    fn armed(&self, client: usize) -> Option<Micros> {
        self.slot(client).filter(|slot| slot.session.is_some())?.armed
    }

    fn close(&mut self, client: usize, close: Close) -> Checked {
        self.say(format!("client {client}: close, {close:?}"));
        self.detach(client)?;
        let linger = self.now.mono + self.config.linger;
        let Some(slot) = self.clients[client].as_mut() else { return Ok(()) };
        let side = slot.link.side();
        if close == Close::Finish && side != Side::Broken && !slot.reply.drained() {
            return Err("close before the answer was sent".to_owned());
        }
        let quiet = !slot.link.is_readable() && slot.link.flow.is_empty();
        match close {
            Close::Reset => {
                slot.link.sock.close();
                slot.link.sock.ours = Ours::Reset;
                self.remove(client)
            }
            Close::Finish if quiet => self.remove(client),
            _ if side == Side::Open => {
                slot.link.end_when_sent();
                slot.link.flush(&mut slot.reply);
                slot.linger = Some(linger);
                self.linger(client, false);
                Ok(())
            }
            _ => self.remove(client),
        }
    }

    fn linger(&mut self, client: usize, expired: bool) {
        let Some(slot) = self.clients[client].as_mut() else { return };
        if !expired && self.drain != Drain::Now {
            slot.link.flow.clear();
            slot.link.fill(&mut self.pool);
            slot.link.flow.clear();
            slot.link.flow.rest(&mut self.pool);
            slot.reply.rest(&mut self.pool);
            if slot.link.side() == Side::Open {
                if slot.link.is_readable() {
                    self.changes += 1;
                    self.queue(client, false);
                }
                return self.arm(client);
            }
        }
        let _ = self.remove(client);
    }

    fn remove(&mut self, client: usize) -> Checked {
        let Some(slot) = self.clients[client].as_mut() else { return Ok(()) };
        slot.session = None;
        if slot.link.sock.ours != Ours::Reset && slot.link.sock.end != Some(End::Reset) {
            slot.link.sock.close();
        }
        for flow in [&mut slot.link.flow, &mut slot.reply] {
            flow.clear();
            flow.rest(&mut self.pool);
        }
        let seen = slot.link.sock.ours;
        self.say(format!("session {client} is gone: {seen:?}"));
        Ok(())
    }

    // ---- what must always hold

    fn check(&self) -> Checked {
        let limits = &self.config.proxy;
        let most = 2 * HEADROOM + self.config.buffer.max(limits.request.head).max(limits.response.head);
        for (number, slot) in self.clients.iter().enumerate() {
            let Some(slot) = slot else { continue };
            let flows = [&slot.link.flow, self.down(number)];
            if let Some(flow) = flows.iter().find(|flow| flow.pending() > most) {
                return Err(format!("a flow of client {number} holds {} bytes", flow.pending()));
            }
            let nothing = slot.uplink == Attached::None
                && flows.iter().all(|flow| !flow.has_buffer() || (flow.raw().is_empty() && flow.drained()));
            if slot.session.is_none() || (nothing && slot.linger.is_none()) {
                self.check_idle(number, slot)?;
            }
        }
        for (key, conn) in self.conns.iter().enumerate() {
            let attached = |client| self.slot(client).is_some_and(|slot| slot.uplink == Attached::To(key));
            let open = !matches!(conn.link.sock.ours, Ours::Closed | Ours::Reset);
            if open && !conn.session.map_or(self.is_idle(key), attached) {
                return Err(format!("connection {} belongs to nobody", self.name(key)));
            }
        }
        Ok(())
    }

    /// A session that has nothing to do holds nothing and owes no record; what was sent is in the records.
    fn check_idle(&self, number: usize, slot: &Client) -> Checked {
        let flows = [&slot.link.flow, self.down(number)];
        if !flows.iter().all(|flow| !flow.has_buffer()) {
            return Err(format!("client {number} has nothing to do and holds a buffer"));
        }
        if slot.owes_record {
            return Err(format!("an exchange of client {number} ended without a record"));
        }
        let deafened = slot.link.sock.end == Some(End::Reset);
        if slot.logged_down != slot.link.sock.sent && !deafened {
            let sent = slot.link.sock.sent;
            return Err(format!("the records count {} bytes, client {number} was sent {sent}", slot.logged_down));
        }
        Ok(())
    }

    /// After the last line of a script: the end of the process must leave nothing behind.
    pub fn end(&mut self) -> Checked {
        self.drain(Drain::Now)?;
        if let Some(number) = (0..self.clients.len()).find(|client| !self.is_gone(*client)) {
            return Err(format!("session {number} outlives the process"));
        }
        match self.conns.iter().position(|conn| matches!(conn.link.sock.ours, Ours::Open | Ours::Ended)) {
            Some(conn) => Err(format!("connection {} outlives the process", self.name(conn))),
            None => Ok(()),
        }
    }
}
