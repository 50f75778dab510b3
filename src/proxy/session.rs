//! A client connection between exchanges: waits for a head, judges it, begins or refuses.

use crate::base::time::SECOND;
use crate::base::{Micros, Now, Peer};
use crate::engine::record::{AccessRecord, Part};
use crate::engine::{Again, Close, CloseReason, Drain, Flow, ServerId, Side, Turn};
use crate::http1::field::FieldSpace;
use crate::http1::framing::Framing;
use crate::http1::request::{self, Method, RequestHead};
use crate::http1::scan::leading_empty_lines;
use crate::http1::{Fault, HeadScan, Known};
use crate::proxy::exchange::{Exchange, Stage};
use crate::proxy::failure::Failure;
use crate::proxy::limits::{Seen, Source, Ticket, preface};
use crate::proxy::{KEPT_EXCHANGES, Settings, Shop, rewrite};
use std::net::SocketAddr;

/// Empty lines that may precede a request line.
const EMPTY_LINES: u8 = 8;

/// How long a client without a request may still bring one once the process drains. It may be about to, and a connection that closes
/// just then looks like a failure.
const LEAVE: Micros = SECOND;

/// What the proxy keeps per client connection; small, since most of them are idle.
pub struct Session {
    peer: Peer,
    /// Since when this state lasts.
    since: Micros,
    served: u32,
    /// Empty lines that came before the request line.
    blank: u8,
    /// It counts as one of its client's connections.
    ticket: Ticket,
    state: State,
}

enum State {
    /// Awaits what the proxy before this one says about the connection; not for long if the process drains.
    Preface { leaving: bool },
    /// May not come in.
    Refused(Box<Failure>),
    /// Awaits the first byte of a request.
    Idle,
    /// As before, but the process drains: the next request is the last one.
    Leaving,
    /// Awaits the end of its head.
    Head(HeadScan),
    /// An exchange is on its way.
    Busy(Box<Exchange>),
}

impl Session {
    pub(super) fn new(settings: &Settings, peer: Peer, now: Now) -> Session {
        let ticket = Ticket::default();
        let state = State::Preface { leaving: false };
        let mut session = Session { peer, since: now.mono, served: 0, blank: 0, ticket, state };
        if !settings.prefaces.trusts(peer) {
            session.come_from(peer, settings);
        }
        session
    }

    /// It is known whom the connection comes from: may it?
    fn come_from(&mut self, peer: Peer, settings: &Settings) {
        self.peer = peer;
        self.state = match settings.gate.enter(peer) {
            Ok(ticket) => {
                self.ticket = ticket;
                State::Idle
            }
            Err(failure) => State::Refused(Box::new(failure)),
        };
    }

    pub(super) fn advance(&mut self, shop: &mut Shop, turn: &mut Turn<'_>) {
        self.step(shop, turn);
        if turn.effects.close.is_some() {
            shop.settings.gate.leave(&mut self.ticket);
            shop.ledger.closed();
        }
    }

    fn step(&mut self, shop: &mut Shop, turn: &mut Turn<'_>) {
        match &self.state {
            State::Preface { .. } => self.await_preface(shop, turn),
            State::Refused(failure) => self.fail(**failure, shop, turn),
            State::Idle | State::Leaving | State::Head(_) => self.await_head(shop, turn),
            State::Busy(_) => self.go_on(shop, turn),
        }
    }

    fn go_on(&mut self, shop: &mut Shop, turn: &mut Turn<'_>) {
        let State::Busy(exchange) = &mut self.state else { return };
        exchange.advance(shop, turn);
        let Stage::Over(close) = exchange.stage else { return };
        self.served = self.served.saturating_add(1);
        if let State::Busy(exchange) = std::mem::replace(&mut self.state, State::Idle)
            && shop.free.len() < KEPT_EXCHANGES
        {
            shop.free.push(exchange);
        }
        self.since = turn.now.mono;
        turn.effects.close = close;
        // What was pipelined, or an end, is looked at next: one exchange a call keeps calls short.
        let more = !turn.up.raw().is_empty() || turn.client != Side::Open || turn.drain != Drain::No;
        if close.is_none() && more {
            turn.effects.again = Again::DownSent;
        }
    }

    /// When the session must be looked at again.
    pub(super) fn deadline(&mut self, settings: &Settings, now: Now, up: &Flow, down: &Flow) -> Micros {
        match &mut self.state {
            State::Preface { leaving: false } | State::Refused(_) => self.since + settings.client_head,
            State::Idle if self.served == 0 => self.since + settings.client_head,
            State::Idle => self.since + settings.client_idle,
            State::Leaving | State::Preface { leaving: true } => self.since + LEAVE,
            State::Head(_) => self.since + settings.client_head,
            State::Busy(exchange) => exchange.deadline(settings, now, up, down),
        }
    }

    fn await_preface(&mut self, shop: &mut Shop, turn: &mut Turn<'_>) {
        match preface::read(turn.up.raw()) {
            Ok(Some((len, source))) => {
                turn.up.skip(len);
                let peer = match source {
                    Source::Client(address) => Peer::Ip(address),
                    Source::Unix => Peer::Unix,
                    Source::Local => self.peer,
                };
                self.come_from(peer, &shop.settings);
                self.step(shop, turn);
            }
            // A probe connects and goes.
            Ok(None) if turn.up.raw().is_empty() => self.stay_idle(turn),
            Ok(None) => {
                if turn.drain == Drain::Finish && matches!(self.state, State::Preface { leaving: false }) {
                    (self.state, self.since) = (State::Preface { leaving: true }, turn.now.mono);
                }
                if let Some(reason) = self.waits_in_vain(shop, turn) {
                    self.end_unanswered(reason, "", shop, turn);
                }
            }
            Err(fault) => self.end_unanswered(CloseReason::BadPreface, fault.word(), shop, turn),
        }
    }

    /// Whoever speaks otherwise is not answered: it may not even speak HTTP.
    fn end_unanswered(&mut self, reason: CloseReason, detail: &'static str, shop: &mut Shop, turn: &mut Turn<'_>) {
        let mut exchange = self.exchange(shop, turn);
        exchange.record.bytes_up = turn.up.raw().len() as u64;
        exchange.record.detail = detail;
        exchange.end_now(reason, Close::Finish, turn);
        self.run(exchange, shop, turn);
    }

    fn await_head(&mut self, shop: &mut Shop, turn: &mut Turn<'_>) {
        if let State::Idle | State::Leaving = self.state {
            let blank = leading_empty_lines(turn.up.raw(), usize::from(EMPTY_LINES - self.blank));
            turn.up.skip(blank);
            self.blank += (blank / 2) as u8;
            if matches!(turn.up.raw(), [] | [b'\r']) {
                turn.up.fold(turn.pool);
                return self.stay_idle(turn);
            }
            self.blank = 0;
            self.state = State::Head(HeadScan::default());
            self.since = turn.now.mono;
        }
        let State::Head(scan) = &mut self.state else { return };
        let limits = &shop.settings.request;
        let raw = turn.up.raw();
        match scan.end(raw) {
            Ok(Some(len)) if len <= limits.head => self.begin(len, shop, turn),
            Ok(None) if scan.in_first_line() && target_len(raw) > limits.target => {
                self.refuse(Fault::TargetTooLong, shop, turn);
            }
            Ok(None) if raw.len() < limits.head => self.await_more(shop, turn),
            Ok(_) => self.refuse(Fault::HeadTooLarge, shop, turn),
            Err(fault) => self.refuse(fault, shop, turn),
        }
    }

    fn stay_idle(&mut self, turn: &mut Turn<'_>) {
        if turn.client != Side::Open || turn.expired || matches!(turn.drain, Drain::Leave | Drain::Now) {
            turn.up.clear();
            turn.effects.close = Some(Close::Finish);
        } else if turn.drain == Drain::Finish {
            let leaving = match self.state {
                State::Idle => State::Leaving,
                State::Preface { leaving: false } => State::Preface { leaving: true },
                _ => return,
            };
            self.state = leaving;
            self.since = turn.now.mono;
        }
    }

    fn await_more(&mut self, shop: &mut Shop, turn: &mut Turn<'_>) {
        if let Some(reason) = self.waits_in_vain(shop, turn) {
            self.fail(Failure::new(reason), shop, turn);
        }
    }

    /// Why the rest of what has begun will not come, or cannot be waited for.
    fn waits_in_vain(&self, shop: &Shop, turn: &mut Turn<'_>) -> Option<CloseReason> {
        match turn.client {
            Side::Ended => return Some(CloseReason::ClientClosed),
            Side::Broken => return Some(CloseReason::ClientReset),
            Side::Open if turn.expired => return Some(CloseReason::ClientHeadTimeout),
            Side::Open if turn.drain == Drain::Now => return Some(CloseReason::Drained),
            Side::Open => {}
        }
        if !turn.up.has_room() {
            turn.up.widen(turn.pool, shop.settings.request.head);
        }
        // It may never come.
        turn.up.fold(turn.pool);
        (turn.up.is_bulky() && turn.pool.is_short()).then_some(CloseReason::MemoryLow)
    }

    fn refuse(&mut self, fault: Fault, shop: &mut Shop, turn: &mut Turn<'_>) {
        self.fail(Failure::of_request(fault), shop, turn);
    }

    /// The request ends before it was one.
    fn fail(&mut self, failure: Failure, shop: &mut Shop, turn: &mut Turn<'_>) {
        let mut exchange = self.exchange(shop, turn);
        exchange.record.bytes_up = turn.up.raw().len() as u64;
        let line = turn.up.raw().split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or(b"");
        exchange.record.set(Part::Line, line);
        if line.starts_with(b"HEAD ") {
            // Whatever else is wrong with it, its answer has no content (RFC 9110 §9.3.2).
            exchange.method = Method::Head;
        }
        exchange.fail(failure, shop, turn);
        self.run(exchange, shop, turn);
    }

    fn exchange(&self, shop: &mut Shop, turn: &Turn<'_>) -> Box<Exchange> {
        let mut exchange = shop.free.pop().unwrap_or_else(|| Box::new(Exchange::new(self.peer)));
        let waited = turn.now.mono - self.since;
        exchange.reset(self.peer, turn, waited);
        exchange.record.client_reused = self.served > 0;
        exchange
    }

    /// Lets the exchange take its first step, so that what it wished for at birth is complete.
    fn run(&mut self, exchange: Box<Exchange>, shop: &mut Shop, turn: &mut Turn<'_>) {
        // The deadline that may have passed was the head's; the exchange has its own.
        turn.expired = false;
        self.state = State::Busy(exchange);
        self.go_on(shop, turn);
    }

    /// Whom the request comes from.
    fn seen(&self, head: &RequestHead<'_, '_>, settings: &Settings) -> Seen {
        if settings.trusted.is_empty() {
            return Seen { client: self.peer.ip(), keep: true };
        }
        settings.trusted.client(self.peer, head.fields.values(Known::XForwardedFor))
    }

    fn begin(&mut self, len: usize, shop: &mut Shop, turn: &mut Turn<'_>) {
        let mut space = FieldSpace::new();
        let head = match request::parse(&turn.up.raw()[..len], &mut space, &shop.settings.request) {
            Ok(head) => head,
            Err(fault) => return self.refuse(fault, shop, turn),
        };
        let mut exchange = self.exchange(shop, turn);
        quote(&mut exchange.record, &head);
        exchange.take_head(&head, len);
        let verdict = match turn.pool.is_short() {
            true => Err(Failure::new(CloseReason::MemoryLow)),
            false => self.judge(&mut exchange, &head, shop, turn.now.mono),
        };
        match verdict {
            Ok(server) => exchange.set_out(server, len, shop, turn),
            Err(failure) => {
                turn.up.skip(len);
                exchange.fail(failure, shop, turn);
            }
        }
        self.run(exchange, shop, turn);
    }

    /// What becomes of a request that is well-formed: the server that it goes to (`None`: it waits for one), or an answer of our own. If it
    /// goes to one, its new head is in `shop.scratch`.
    fn judge(
        &self,
        exchange: &mut Exchange,
        head: &RequestHead<'_, '_>,
        shop: &mut Shop,
        now: Micros,
    ) -> Result<Option<ServerId>, Failure> {
        let seen = self.seen(head, &shop.settings);
        if seen.client != self.peer.ip() {
            exchange.record.client = seen.client.map_or(Peer::Unix, |ip| Peer::Ip(SocketAddr::new(ip, 0)));
        }
        shop.settings.gate.ask(seen.client, now)?;
        if matches!(head.framing, Framing::Length(n) if n > shop.settings.max_body) {
            return Err(Failure::new(CloseReason::BodyTooLarge));
        }
        if head.max_forwards == Some(0) {
            // The last hop answers (RFC 9110 §7.6.2).
            return Err(Failure::new(CloseReason::Local));
        }
        let server = exchange.choose(head, seen.client, shop, now)?;
        shop.budget.request(now);
        shop.scratch.clear();
        if let Some((version, reached)) = shop.settings.send_preface {
            preface::write(&mut shop.scratch, version, exchange.record.client, reached);
        }
        let Settings { trusted, forwarded, .. } = &shop.settings;
        let forwarded = if trusted.is_empty() { *forwarded } else { forwarded.believing(seen.keep) };
        let fallback = if head.host.is_some() { "" } else { shop.servers.host(server.unwrap_or(0)) };
        rewrite::request(&mut shop.scratch, head, self.peer, forwarded, fallback);
        Ok(server)
    }
}

/// The length of the target in a request line that has not ended.
fn target_len(line: &[u8]) -> usize {
    let after = |bytes: &[u8]| memchr::memchr(b' ', bytes);
    after(line).map_or(0, |space| {
        let target = &line[space + 1..];
        after(target).unwrap_or(target.len())
    })
}

/// What the log will quote of the request. In the order of the parts.
fn quote(record: &mut AccessRecord, head: &RequestHead<'_, '_>) {
    record.set(Part::Line, head.line);
    record.set(Part::Host, head.host.unwrap_or(b""));
    record.set(Part::Referer, head.fields.values(Known::Referer).next().unwrap_or(b""));
    record.set(Part::UserAgent, head.fields.values(Known::UserAgent).next().unwrap_or(b""));
}
