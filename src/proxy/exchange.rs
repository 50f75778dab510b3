//! One request and its response: the stages, the request's body, and the end that is logged.

use crate::base::{Micros, Now, Peer};
use crate::engine::{
    AccessRecord, Again, Close, CloseReason, Drain, Effects, Flow, ServerId, Side, Turn, Uplink, Wish,
};
use crate::http1::cycle::{Cycle, Event, Half};
use crate::http1::encode::{self, Persist, Shape};
use crate::http1::request::{Method, RequestHead};
use crate::http1::{Body, Framing, HeadScan, Version};
use crate::proxy::choice::Tried;
use crate::proxy::failure::{Failure, Waits};
use crate::proxy::limits::{Least, Pace};
use crate::proxy::relay::{Chunks, relay};
use crate::proxy::{Settings, Shop};

/// What an exchange has of a server, with which it counts as in flight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Hold {
    #[default]
    Nothing,
    /// A connection, or the wish for one.
    Connection,
    /// Its seat only: the wish was taken back before anybody heard of it.
    Seat,
}

/// How far an exchange has come; named for what it awaits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// A server with room for one more request.
    Queued,
    /// A connection to the server.
    Connecting,
    /// The head of the answer.
    Awaiting,
    /// The rest of the answer, or of the request if the answer came first.
    Answering,
    /// 101 went through; the end of both directions.
    Tunnel,
    /// The answer is complete on our side; that the client takes it. Then the connection ends so, or goes on.
    Delivering(Option<Close>),
    /// Nothing: it is logged and done.
    Over(Option<Close>),
}

/// An exchange. Boxed and used again, since a session without one should be small.
pub struct Exchange {
    pub(super) record: AccessRecord,
    pub(super) stage: Stage,
    pub(super) cycle: Cycle,
    pub(super) method: Method,
    /// The client speaks HTTP/1.0.
    pub(super) old_client: bool,
    /// The client's connection may go on after this exchange.
    pub(super) persist: bool,
    /// The client waits for 100 (Continue).
    pub(super) expects: bool,
    pub(super) upgrade: bool,
    pub(super) request: Body,
    pub(super) response: Body,
    /// For the answer's head.
    pub(super) scan: HeadScan,
    pub(super) interim: u8,
    pub(super) chunks: Chunks,
    /// If the answer is complete first, the rest of the request still goes to the server.
    pub(super) finish_request: bool,
    /// How long the server's connection may idle afterwards; `None`: it must close.
    pub(super) reuse: Option<Micros>,
    /// How long it must rest before it is used again.
    pub(super) rest: Micros,
    pub(super) server: ServerId,
    /// What it has of that server.
    pub(super) hold: Hold,
    /// The server of the attempt before.
    pub(super) before: Option<ServerId>,
    /// For consistent hashing.
    pub(super) key: u64,
    /// The server that the client's cookie names.
    pub(super) wanted: Option<ServerId>,
    /// The first try went to an idle connection that had died, and the second to the same server.
    pub(super) stale: bool,
    /// Servers that have failed it.
    pub(super) tried: Tried,
    /// Since when it waits in the queue.
    pub(super) queued: Option<Micros>,
    /// Since when the server cannot go on because the client does not take the answer, and whether that ever lasted.
    pub(super) blocked: Option<Micros>,
    pub(super) held_up: bool,
    /// Moments, monotonic: head complete, last dial, last byte moved.
    pub(super) judged: Micros,
    pub(super) dialed: Micros,
    pub(super) progress: Micros,
    /// What is waited for, and how much of it had come at the last look.
    watched: (Waits, u64),
    /// How slow the client may still be.
    pace: Pace,
    /// What the client's flow had given away when this exchange began.
    pub(super) given_before: u64,
}

impl Exchange {
    pub(super) fn new(peer: Peer) -> Exchange {
        Exchange {
            record: AccessRecord::new(0, peer),
            stage: Stage::Connecting,
            cycle: Cycle::default(),
            method: Method::Other,
            old_client: false,
            persist: false,
            expects: false,
            upgrade: false,
            request: Body::new(Framing::None),
            response: Body::new(Framing::None),
            scan: HeadScan::default(),
            interim: 0,
            chunks: Chunks::Keep,
            finish_request: true,
            reuse: None,
            rest: 0,
            server: 0,
            hold: Hold::Nothing,
            before: None,
            key: 0,
            wanted: None,
            stale: false,
            tried: Tried::default(),
            queued: None,
            blocked: None,
            held_up: false,
            judged: 0,
            dialed: 0,
            progress: 0,
            watched: (Waits::Connect, 0),
            pace: Pace::new(0),
            given_before: 0,
        }
    }

    /// Begins anew, for a head whose first byte came `waited` ago. Nothing of the last exchange may be left.
    pub(super) fn reset(&mut self, peer: Peer, turn: &Turn<'_>, waited: Micros) {
        let now = turn.now.mono;
        self.record.reset(turn.now.unix.saturating_sub(waited), peer);
        self.record.wait_head = waited;
        (self.stage, self.cycle) = (Stage::Connecting, Cycle::default());
        (self.method, self.old_client, self.persist) = (Method::Other, false, false);
        (self.expects, self.upgrade) = (false, false);
        (self.request, self.response) = (Body::new(Framing::None), Body::new(Framing::None));
        (self.scan, self.interim, self.chunks) = (HeadScan::default(), 0, Chunks::Keep);
        (self.reuse, self.rest, self.server) = (None, 0, 0);
        debug_assert!(self.hold == Hold::Nothing, "a server still counts it as in flight");
        (self.key, self.wanted, self.stale, self.tried) = (0, None, false, Tried::default());
        debug_assert!(self.queued.is_none(), "it waits in the queue still");
        (self.blocked, self.held_up) = (None, false);
        (self.judged, self.dialed, self.progress) = (now, now, now);
        (self.watched, self.given_before) = ((Waits::Connect, 0), turn.up.given());
        self.finish_request = true;
    }

    /// Keeps of the request what is needed once its bytes are gone.
    pub(super) fn take_head(&mut self, head: &RequestHead<'_, '_>, len: usize) {
        self.method = head.method;
        self.old_client = head.version == Version::Http10;
        self.persist = head.persist;
        self.expects = head.expect_continue;
        self.upgrade = head.upgrade;
        self.request = Body::new(head.framing);
        self.record.bytes_up = len as u64;
        self.cycle.request(if self.request.is_done() { Event::BareHead } else { Event::HeadAndBody });
    }

    /// One step: facts in, judgement, wishes out.
    pub(super) fn advance(&mut self, shop: &mut Shop, turn: &mut Turn<'_>) {
        self.count_unseen(turn);
        if turn.drain == Drain::Now && !matches!(self.stage, Stage::Over(_)) {
            self.end_now(CloseReason::Drained, Close::Reset, turn);
        } else if turn.expired && self.watched == self.look(turn.up, turn.down) {
            // Nothing came with this last look either.
            self.on_deadline(shop, turn);
        }
        match self.stage {
            Stage::Queued | Stage::Connecting | Stage::Awaiting | Stage::Answering => {
                self.take_request(shop, turn);
                self.take_answer(shop, turn);
            }
            Stage::Tunnel | Stage::Delivering(_) | Stage::Over(_) => {}
        }
        // What came behind the two heads belongs to the tunnel already, an end as well.
        if self.stage == Stage::Tunnel {
            self.tunnel(turn);
        }
        self.leave_queue(shop, turn);
        match turn.effects.upstream {
            Wish::Park { .. } => self.let_go(true, shop),
            Wish::Drop => self.let_go(false, shop),
            Wish::Stay | Wish::Dial { .. } => {}
        }
        self.close_if_over(shop, turn);
    }

    /// Content that passed by the buffers counts before anything else is judged.
    fn count_unseen(&mut self, turn: &mut Turn<'_>) {
        let (up, down) = (turn.up.take_unseen(), turn.down.take_unseen());
        self.request.pass(up);
        self.response.pass(down);
        self.record.bytes_up += up;
        self.record.bytes_down += down;
        self.expects &= up == 0;
    }

    fn close_if_over(&mut self, shop: &mut Shop, turn: &mut Turn<'_>) {
        match self.stage {
            Stage::Delivering(_) if turn.client == Side::Broken => {
                self.end_now(CloseReason::ClientReset, Close::Finish, turn);
            }
            Stage::Delivering(close) if turn.down.drained() => self.stage = Stage::Over(close),
            Stage::Delivering(_) => turn.effects.again = Again::DownSent,
            _ => {}
        }
        if let Stage::Over(_) = self.stage {
            self.record.total = self.record.wait_head + (turn.now.mono - self.judged);
            self.record.bytes_down = self.record.bytes_down.saturating_sub(turn.down.unsent());
            self.record.head_down =
                self.record.head_down.min(u32::try_from(self.record.bytes_down).unwrap_or(u32::MAX));
            shop.ledger.record(&self.record);
            turn.log.record(&self.record);
        }
    }

    /// Only what is waited for counts: a client that sends, but does not take its answer, makes no progress.
    pub(super) fn note_progress(&mut self, settings: &Settings, now: Now, up: &Flow, down: &Flow) {
        let (waits, moved) = self.look(up, down);
        let (before, had) = self.watched;
        if (waits, moved) == self.watched {
            return;
        }
        let grace = if waits == Waits::ClientBody { settings.client_body } else { settings.client_write };
        let least = Least { grace, rate: settings.min_rate };
        if waits == before {
            self.pace.moved(moved - had, now.mono - self.progress, least);
        } else {
            self.pace = Pace::new(least.grace);
        }
        self.watched = (waits, moved);
        self.progress = now.mono;
    }

    /// When the client was too slow, if nothing more moves.
    pub(super) fn client_deadline(&self) -> Micros {
        self.progress + self.pace.left()
    }

    /// What is waited for, and how much of it has ever moved.
    fn look(&self, up: &Flow, down: &Flow) -> (Waits, u64) {
        let waits = self.waits_for(up, down);
        let moved = match waits {
            Waits::Queue | Waits::Connect => 0,
            Waits::ClientBody => up.taken(),
            Waits::ClientWrite => down.given(),
            Waits::UpstreamWrite => up.given(),
            Waits::Response | Waits::Read => down.taken(),
            Waits::Tunnel => up.taken() + up.given() + down.taken() + down.given(),
        };
        (waits, moved)
    }

    /// Passes on what has come of the request's body.
    fn take_request(&mut self, shop: &mut Shop, turn: &mut Turn<'_>) {
        if self.cycle.request == Half::Body {
            let before = self.record.bytes_up;
            let (most, taken) = (shop.settings.max_body, &mut self.record.bytes_up);
            let relayed = relay(&mut self.request, (turn.up, turn.pool), Chunks::Keep, most, &mut shop.scratch, taken);
            self.expects &= self.record.bytes_up == before;
            if let Err(fault) = relayed {
                return self.fail(Failure::of_request_body(fault), shop, turn);
            }
            if self.request.content() > shop.settings.max_body {
                return self.fail(Failure::new(CloseReason::BodyTooLarge), shop, turn);
            }
            if self.request.is_done() {
                self.cycle.request(Event::End);
            }
        }
        match turn.client {
            // A client told that the rest is not wanted may well end its half, and still gets its answer (RFC 9112 §9.5).
            Side::Ended if self.cycle.request == Half::Body && self.finish_request => {
                if self.cycle.response == Half::Done {
                    // The answer is complete, and still owed.
                    self.record.end = CloseReason::ClientClosed;
                    self.finish_request = false;
                } else {
                    self.end_now(CloseReason::ClientClosed, Close::Finish, turn);
                }
            }
            Side::Broken => self.end_now(CloseReason::ClientReset, Close::Finish, turn),
            _ => {}
        }
    }

    /// Everything stops here; what was not sent is not sent any more.
    pub(super) fn end_now(&mut self, reason: CloseReason, close: Close, turn: &mut Turn<'_>) {
        // What ended it first stays: that a refused client then resets is no news.
        if self.record.end == CloseReason::Done {
            self.record.end = reason;
        }
        self.record.bytes_down = self.record.bytes_down.saturating_sub(turn.down.unsent());
        if self.record.bytes_down == 0 {
            // The answer was made, but none of it was sent.
            (self.record.status, self.record.head_down) = (0, 0);
        }
        turn.up.clear();
        turn.down.clear();
        self.drop_upstream(turn);
        turn.effects = Effects { upstream: Wish::Drop, ..Effects::default() };
        // A plain close would be the end of an answer that has no other.
        let lies = self.cycle.response == Half::Body && self.ends_by_close();
        self.stage = Stage::Over(Some(if lies { Close::Reset } else { close }));
    }

    /// To the client, the answer ends with the connection.
    pub(super) fn ends_by_close(&self) -> bool {
        self.response.is_until_close() || self.chunks == Chunks::Strip
    }

    /// The server has done what was asked of it.
    pub(super) fn praise(&self, shop: &mut Shop, turn: &Turn<'_>) {
        let within = (self.judged + self.record.first_byte).saturating_sub(self.dialed);
        shop.servers.succeeded(self.server, self.dialed, within, turn.now.mono);
    }

    /// The answer is complete in the flow: what becomes of the two connections?
    pub(super) fn finish(&mut self, shop: &mut Shop, turn: &mut Turn<'_>) {
        self.praise(shop, turn);
        let whole = self.cycle.request == Half::Done;
        let open = matches!(turn.uplink, Uplink::Linked { side: Side::Open, .. });
        // Bytes after a complete answer are nobody's (RFC 9112 §9.3): that connection is not used again.
        let clean = whole && open && turn.up.drained() && turn.down.raw().is_empty();
        turn.effects.upstream = match self.reuse {
            Some(idle) if clean => Wish::Park { idle, rest: self.rest },
            _ => Wish::Drop,
        };
        turn.down.drop_raw();
        turn.up.drop_ready();
        self.stage = Stage::Delivering(match (self.persist, whole) {
            (true, true) => None,
            (false, true) => Some(Close::Finish),
            (_, false) => Some(Close::Linger),
        });
    }

    /// An answer of our own. None may have begun.
    pub(super) fn answer_locally(&mut self, failure: &Failure, shop: &mut Shop, turn: &mut Turn<'_>) {
        let status = failure.status;
        self.record.status = status;
        self.record.end = failure.reason;
        let whole = self.cycle.request == Half::Done;
        self.persist &= whole && turn.drain == Drain::No;
        let persist = match (self.persist, self.old_client) {
            (false, _) => Persist::Close,
            (true, true) => Persist::KeepAlive,
            (true, false) => Persist::Silent,
        };
        let retry_after;
        let fields: &[u8] = match status {
            200 | 405 => b"Allow: GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH\r\n",
            429 | 503 => {
                retry_after = format!("Retry-After: {}\r\n", failure.retry_after);
                retry_after.as_bytes()
            }
            _ => b"",
        };
        shop.scratch.clear();
        let shape = Shape { head: self.method == Method::Head, persist };
        let date = shop.date.at(turn.now.unix);
        self.record.head_down = encode::answer(&mut shop.scratch, status, shape, date, fields, &failure.text()) as u32;
        turn.down.clear();
        let sent = turn.down.push(turn.pool, &shop.scratch);
        debug_assert_eq!(sent, shop.scratch.len());
        self.record.bytes_down += sent as u64;
        if whole {
            turn.up.drop_ready();
        } else {
            turn.up.clear();
        }
        // To wait for the client costs memory, which is what is short.
        let at_once = whole || failure.reason == CloseReason::MemoryLow;
        let close = if at_once { Close::Finish } else { Close::Linger };
        self.stage = Stage::Delivering((!self.persist).then_some(close));
    }

    /// Bytes without messages, both ways, until both sides have ended.
    fn tunnel(&mut self, turn: &mut Turn<'_>) {
        for (flow, bytes) in [(&mut *turn.up, &mut self.record.bytes_up), (turn.down, &mut self.record.bytes_down)] {
            let seen = flow.raw().len();
            flow.pass(seen);
            flow.grant(u64::MAX);
            *bytes += seen as u64;
        }
        let server = match turn.uplink {
            Uplink::Linked { side, .. } => side,
            _ => Side::Broken,
        };
        match (turn.client, server) {
            (Side::Broken, _) => self.end_now(CloseReason::ClientReset, Close::Reset, turn),
            (_, Side::Broken) => self.end_now(CloseReason::UpstreamReset, Close::Reset, turn),
            (Side::Ended, Side::Ended) if turn.up.drained() && turn.down.drained() => {
                self.end_now(CloseReason::TunnelDone, Close::Finish, turn);
            }
            (client, server) => {
                turn.effects.end_up = client == Side::Ended;
                turn.effects.end_down = server == Side::Ended;
            }
        }
    }
}
