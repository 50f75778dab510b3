//! A client connection between exchanges: waits for a head, judges it, begins or refuses.

use crate::base::{Micros, Now, Peer};
use crate::engine::record::{AccessRecord, Part};
use crate::engine::{Again, Close, CloseReason, Drain, Flow, Side, Turn};
use crate::http1::field::FieldSpace;
use crate::http1::framing::Framing;
use crate::http1::request::{self, Method, RequestHead};
use crate::http1::scan::leading_empty_lines;
use crate::http1::{Fault, HeadScan, Known};
use crate::proxy::exchange::{Exchange, Stage};
use crate::proxy::failure::Failure;
use crate::proxy::{KEPT_EXCHANGES, Settings, Shop, rewrite};

/// Empty lines that may precede a request line.
const EMPTY_LINES: u8 = 8;

/// What the proxy keeps per client connection; small, since most of them are idle.
pub struct Session {
    peer: Peer,
    /// Since when this state lasts.
    since: Micros,
    served: u32,
    /// Empty lines that came before the request line.
    blank: u8,
    state: State,
}

enum State {
    /// Awaits the first byte of a request.
    Idle,
    /// Awaits the end of its head.
    Head(HeadScan),
    /// An exchange is on its way.
    Busy(Box<Exchange>),
}

impl Session {
    pub(super) fn new(peer: Peer, now: Now) -> Session {
        Session { peer, since: now.mono, served: 0, blank: 0, state: State::Idle }
    }

    pub(super) fn advance(&mut self, shop: &mut Shop, turn: &mut Turn<'_>) {
        let State::Busy(exchange) = &mut self.state else { return self.await_head(shop, turn) };
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
            State::Idle if self.served == 0 => self.since + settings.client_head,
            State::Idle => self.since + settings.client_idle,
            State::Head(_) => self.since + settings.client_head,
            State::Busy(exchange) => exchange.deadline(settings, now, up, down),
        }
    }

    fn await_head(&mut self, shop: &mut Shop, turn: &mut Turn<'_>) {
        if let State::Idle = self.state {
            let blank = leading_empty_lines(turn.up.raw(), usize::from(EMPTY_LINES - self.blank));
            turn.up.skip(blank);
            self.blank += (blank / 2) as u8;
            if matches!(turn.up.raw(), [] | [b'\r']) {
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
        if turn.client != Side::Open || turn.expired || turn.drain != Drain::No {
            turn.up.clear();
            turn.effects.close = Some(Close::Finish);
        }
    }

    fn await_more(&mut self, shop: &mut Shop, turn: &mut Turn<'_>) {
        let reason = match turn.client {
            Side::Ended => CloseReason::ClientClosed,
            Side::Broken => CloseReason::ClientReset,
            Side::Open if turn.expired => CloseReason::ClientHeadTimeout,
            Side::Open if turn.drain == Drain::Now => CloseReason::Drained,
            Side::Open => {
                if !turn.up.has_room() {
                    turn.up.widen(shop.settings.request.head);
                }
                return;
            }
        };
        self.fail(Failure::new(reason), shop, turn);
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
        self.advance(shop, turn);
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
        if matches!(head.framing, Framing::Length(n) if n > shop.settings.max_body) {
            exchange.fail(Failure::new(CloseReason::BodyTooLarge), shop, turn);
        } else if head.max_forwards == Some(0) {
            // The last hop answers (RFC 9110 §7.6.2).
            turn.up.skip(len);
            exchange.answer_locally(200, CloseReason::Local, "", shop, turn);
        } else if let Some(server) = shop.balance.pick(None) {
            shop.scratch.clear();
            let fallback = shop.names.get(usize::from(server)).map_or("", String::as_str);
            rewrite::request(&mut shop.scratch, &head, self.peer, shop.settings.forwarded, fallback);
            if turn.up.rewrite(len, &shop.scratch).is_err() {
                return self.refuse(Fault::HeadTooLarge, shop, turn);
            }
            if exchange.method.is_idempotent() {
                turn.up.hold();
            }
            exchange.dial(server, false, turn);
        } else {
            turn.up.skip(len);
            exchange.fail(Failure::new(CloseReason::NoUpstream), shop, turn);
        }
        self.run(exchange, shop, turn);
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
