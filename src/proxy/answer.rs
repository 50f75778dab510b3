//! What the server says: connected or not, interim heads, the head, the body.

use crate::base::Micros;
use crate::base::time::SECOND;
use crate::engine::{Again, CloseReason, Drain, Side, Turn, Uplink};
use crate::http1::cycle::{Event, Half, Next};
use crate::http1::encode::Persist;
use crate::http1::field::FieldSpace;
use crate::http1::response::{self, Asked, ResponseHead};
use crate::http1::{Body, Fault, Framing, HeadScan};
use crate::proxy::Shop;
use crate::proxy::exchange::{Exchange, Stage};
use crate::proxy::failure::Failure;
use crate::proxy::relay::{Chunks, relay};
use crate::proxy::rewrite::{self, Toward};

/// Interim answers that one request may get.
const MAX_INTERIM: u8 = 16;
/// How long a connection rests after an answer that announced a body where none may be (to HEAD, with 204 and 304).
const SUSPECT_REST: Micros = SECOND / 10;

impl Exchange {
    /// Looks at the server's side of the exchange.
    pub(super) fn take_answer(&mut self, shop: &mut Shop, turn: &mut Turn<'_>) {
        match (self.stage, turn.uplink) {
            (Stage::Queued, _) => self.look_for_room(shop, turn),
            (Stage::Connecting, Uplink::Failed(error)) => self.dial_failed(error, shop, turn),
            (Stage::Connecting, Uplink::Linked { reused, .. }) => {
                self.record.upstream_reused = reused;
                self.record.connect = if reused { 0 } else { turn.now.mono - self.judged };
                self.stage = Stage::Awaiting;
                self.await_head(shop, turn);
            }
            (Stage::Awaiting, _) => self.await_head(shop, turn),
            (Stage::Answering, _) => self.take_body(shop, turn),
            _ => {}
        }
    }

    fn await_head(&mut self, shop: &mut Shop, turn: &mut Turn<'_>) {
        let side = server_side(turn);
        if side != Side::Open && !turn.down.drained() {
            // An interim head is on its way; a page may follow it, a cut must not overtake it.
            turn.effects.again = Again::DownSent;
            return;
        }
        if turn.down.raw().is_empty() {
            if side != Side::Open {
                self.lost(side, shop, turn);
            }
            return;
        }
        if self.is_unasked(turn) {
            return self.lost(Side::Broken, shop, turn);
        }
        if self.record.first_byte == 0 {
            self.record.first_byte = (turn.now.mono - self.judged).max(1);
            turn.up.release();
        }
        let limit = shop.settings.response.head;
        match self.scan.end(turn.down.raw()) {
            Ok(Some(len)) if len <= limit => self.take_head_of_answer(len, shop, turn),
            Ok(None) if turn.down.raw().len() < limit => match side {
                Side::Open => {
                    if !turn.down.has_room() {
                        turn.down.widen(turn.pool, limit);
                    }
                }
                Side::Ended => self.fail(Failure::new(CloseReason::UpstreamTruncated), shop, turn),
                Side::Broken => self.fail(Failure::new(CloseReason::UpstreamReset), shop, turn),
            },
            _ if !turn.down.drained() => turn.effects.again = Again::DownSent,
            Ok(_) => self.fail(Failure::of_response(Fault::HeadTooLarge), shop, turn),
            Err(fault) => self.fail(Failure::of_response(fault), shop, turn),
        }
    }

    /// Bytes on a connection that was idle, before any of this request was sent: whatever they are, they are no answer to it.
    fn is_unasked(&self, turn: &Turn<'_>) -> bool {
        self.record.upstream_reused && turn.up.given() == self.given_before
    }

    fn take_head_of_answer(&mut self, len: usize, shop: &mut Shop, turn: &mut Turn<'_>) {
        // A head is laid over bytes that were sent; an interim head before it must be on its way first.
        if !turn.down.drained() {
            turn.effects.again = Again::DownSent;
            return;
        }
        let asked = Asked { head: self.method == crate::http1::Method::Head, upgrade: self.upgrade };
        let mut space = FieldSpace::new();
        let head = match response::parse(&turn.down.raw()[..len], &mut space, &shop.settings.response, asked) {
            Ok(head) => head,
            Err(fault) => return self.fail(Failure::of_response(fault), shop, turn),
        };
        let idle = shop.idle_limit(self.server, head.keep_alive, turn.now.mono);
        let pass = self.judge(&head, idle, turn.drain);
        let Ok(toward) = pass else { return self.fail(Failure::of_response(Fault::TooManyInterim), shop, turn) };
        let interim = head.is_interim();
        shop.scratch.clear();
        shop.extra.clear();
        if let Some(sticky) = shop.sticky.as_ref().filter(|_| !interim && !self.keeps_its_server(&shop.servers)) {
            sticky.set(&mut shop.extra, self.server);
        }
        let (date, extra) = (shop.date.at(turn.now.unix), &shop.extra);
        let rebuilt = toward.is_some_and(|toward| rewrite::response(&mut shop.scratch, &head, toward, date, extra));
        match (toward, rebuilt) {
            (None, _) => turn.down.skip(len),
            (Some(_), false) => turn.down.pass(len),
            (Some(_), true) => {
                if turn.down.rewrite(len, &shop.scratch).is_err() {
                    return self.fail(Failure::of_response(Fault::HeadTooLarge), shop, turn);
                }
            }
        }
        self.record.bytes_down += turn.down.ready().len() as u64;
        if interim {
            self.scan = HeadScan::default();
            // An end that came with it is looked at as well: nothing else will tell of it again.
            if !turn.down.raw().is_empty() || server_side(turn) != Side::Open {
                turn.effects.again = Again::DownSent;
            }
        } else {
            self.record.head_down = turn.down.ready().len() as u32;
            self.begin_body(shop, turn);
        }
    }

    /// Draws the consequences of a head. `Ok(None)`: it is not for this client.
    fn judge(&mut self, head: &ResponseHead<'_, '_>, idle: Micros, drain: Drain) -> Result<Option<Toward>, Fault> {
        let silent = Toward { persist: Persist::Silent, strip_chunks: false };
        if head.is_interim() {
            self.cycle.response(Event::Interim);
            self.interim += 1;
            self.expects &= head.status != 100;
            return if self.interim > MAX_INTERIM {
                Err(Fault::TooManyInterim)
            } else {
                Ok((!self.old_client).then_some(silent))
            };
        }
        self.record.status = head.status;
        if head.status == 101 {
            self.cycle.response(Event::Switch);
            self.cycle.request(Event::Switch);
            return Ok(Some(silent));
        }
        let strip = self.old_client && head.coded;
        // Who closes after its answer, or gives it instead of a 100, does not want the rest.
        self.finish_request = head.persist && !self.expects;
        self.persist &=
            drain == Drain::No && head.framing != Framing::UntilClose && !(strip && head.framing == Framing::Chunked);
        self.persist &= self.finish_request || self.cycle.request == Half::Done;
        self.chunks = if strip { Chunks::Strip } else { Chunks::Keep };
        self.reuse = (head.persist && idle > 0).then_some(idle);
        // A body that must not be there is often sent all the same, and would be the next answer. Let it show itself first.
        self.rest = if head.framing == Framing::None && (head.coded || head.length.is_some_and(|n| n > 0)) {
            SUSPECT_REST
        } else {
            0
        };
        self.response = Body::new(head.framing);
        self.cycle.response(if self.response.is_done() { Event::BareHead } else { Event::HeadAndBody });
        let persist = match (self.persist, self.old_client) {
            (false, _) => Persist::Close,
            (true, true) => Persist::KeepAlive,
            (true, false) => Persist::Silent,
        };
        Ok(Some(Toward { persist, strip_chunks: strip }))
    }

    fn begin_body(&mut self, shop: &mut Shop, turn: &mut Turn<'_>) {
        if self.cycle.next() == Next::Tunnel {
            self.stage = Stage::Tunnel;
            // However the tunnel ends is between the two.
            self.praise(shop, turn);
            turn.up.release();
        } else {
            self.stage = Stage::Answering;
            self.take_body(shop, turn);
        }
    }

    fn take_body(&mut self, shop: &mut Shop, turn: &mut Turn<'_>) {
        let side = server_side(turn);
        if self.cycle.response == Half::Body {
            let before = turn.down.ready().len();
            let relayed =
                relay(&mut self.response, (turn.down, turn.pool), self.chunks, u64::MAX, &mut shop.scratch, &mut 0);
            self.record.bytes_down += (turn.down.ready().len() - before) as u64;
            if let Err(fault) = relayed {
                return self.fail(Failure::of_response_body(fault), shop, turn);
            }
            match side {
                _ if self.response.is_done() => {}
                Side::Open => return,
                Side::Ended if self.response.is_until_close() => {}
                Side::Ended => return self.fail(Failure::new(CloseReason::UpstreamTruncated), shop, turn),
                Side::Broken => return self.fail(Failure::new(CloseReason::UpstreamReset), shop, turn),
            }
            self.cycle.response(Event::End);
        }
        match self.cycle.next() {
            // The server may still want the rest of the request; if it is gone, nobody does.
            Next::FinishRequest if self.finish_request && side == Side::Open => {}
            Next::Again if self.finish_request && !turn.up.drained() && side == Side::Open => {
                turn.effects.again = Again::UpSent;
            }
            Next::Wait | Next::Tunnel => {}
            Next::Again | Next::FinishRequest | Next::Close => self.finish(shop, turn),
        }
    }
}

fn server_side(turn: &Turn<'_>) -> Side {
    match turn.uplink {
        Uplink::Linked { side, .. } => side,
        Uplink::None | Uplink::Dialing => Side::Open,
        Uplink::Failed(_) => Side::Broken,
    }
}
