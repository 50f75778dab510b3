//! Finds a server for an exchange: the first one, one after a wait in the queue, and another one after a failure.

use crate::base::Micros;
use crate::engine::{CloseReason, ServerId, Turn, Uplink, Wish};
use crate::http1::Fault;
use crate::http1::request::RequestHead;
use crate::proxy::Shop;
use crate::proxy::choice::{Asked, Tried};
use crate::proxy::exchange::{Exchange, Hold, Stage};
use crate::proxy::failure::Failure;
use crate::proxy::servers::{Servers, Without};
use std::net::IpAddr;

impl Exchange {
    /// The server for a new request, or `None` if it is to wait for one.
    pub(super) fn choose(
        &mut self,
        head: &RequestHead<'_, '_>,
        client: Option<IpAddr>,
        shop: &mut Shop,
        now: Micros,
    ) -> Result<Option<ServerId>, Failure> {
        self.key = shop.servers.key_from().map_or(0, |from| from.key(head, client));
        self.wanted = shop.sticky.as_ref().and_then(|sticky| sticky.find(head.fields.named("cookie")));
        let asked = Asked { now, key: self.key, except: self.tried };
        let queued = !shop.servers.queue().is_empty();
        let choice = if queued { Err(Without::Room) } else { shop.servers.pick(&asked, self.wanted) };
        match choice {
            Ok(server) => Ok(Some(server)),
            Err(Without::Room) if shop.servers.queue().has_room() => Ok(None),
            Err(Without::Room) => Err(Failure::new(CloseReason::QueueFull)),
            Err(Without::Down) => Err(shop.no_upstream()),
        }
    }

    /// Does the client's cookie name a server that remains its own: the one that has answered, or one that only had too much to do?
    pub(super) fn keeps_its_server(&self, servers: &Servers) -> bool {
        let is_up = |own| !self.tried.has(own) && servers.is_up(own);
        self.wanted.is_some_and(|own| own == self.server || is_up(own))
    }

    /// Lays the new head in `shop.scratch` over the one of `len` bytes, and wishes for a connection to the server, or waits for one.
    pub(super) fn set_out(&mut self, server: Option<ServerId>, len: usize, shop: &mut Shop, turn: &mut Turn<'_>) {
        if turn.up.rewrite(len, &shop.scratch).is_err() {
            server.into_iter().for_each(|server| shop.servers.done(server, true));
            turn.up.skip(len);
            self.persist = false;
            return self.fail(Failure::of_request(Fault::HeadTooLarge), shop, turn);
        }
        if self.method.is_idempotent() {
            turn.up.hold();
        }
        match server {
            Some(server) => self.dial(server, shop.settings.send_preface.is_some(), shop, turn),
            None => self.join_queue(shop, turn),
        }
    }

    fn join_queue(&mut self, shop: &mut Shop, turn: &Turn<'_>) {
        self.stage = Stage::Queued;
        self.queued = Some(turn.now.mono);
        shop.servers.queue().join(turn.session);
        shop.ledger.touch();
    }

    /// Who waits no more, for whatever reason, leaves the queue.
    pub(super) fn leave_queue(&mut self, shop: &mut Shop, turn: &Turn<'_>) {
        if self.stage != Stage::Queued && self.queued.take().is_some() {
            shop.servers.queue().leave(turn.session);
        }
    }

    /// The request waits for a server: is it its turn, and is there one?
    pub(super) fn look_for_room(&mut self, shop: &mut Shop, turn: &mut Turn<'_>) {
        if !shop.servers.queue().is_first(turn.session) {
            return;
        }
        let asked = Asked { now: turn.now.mono, key: self.key, except: self.tried };
        let wanted = self.wanted.filter(|wanted| !self.tried.has(*wanted));
        let fresh = shop.settings.send_preface.is_some() || self.record.attempts > 0;
        let mut choice = shop.servers.pick(&asked, wanted);
        if choice == Err(Without::Room) && !self.tried.is_empty() && shop.servers.queue().others_wait() {
            // Those behind it may have use for just the servers that have failed it: it takes one of them rather than holding up all.
            choice = shop.servers.pick(&Asked { except: Tried::default(), ..asked }, None);
        }
        match choice {
            Ok(server) => self.dial(server, fresh, shop, turn),
            Err(Without::Room) => shop.servers.queue().ask_others(),
            Err(Without::Down) => self.fail(shop.no_upstream(), shop, turn),
        }
    }

    /// Wishes for a connection to `server`, with which the request is in flight already.
    pub(super) fn dial(&mut self, server: ServerId, fresh: bool, shop: &mut Shop, turn: &mut Turn<'_>) {
        debug_assert!(self.hold == Hold::Nothing);
        shop.ledger.touch();
        self.hold = Hold::Connection;
        self.stage = Stage::Connecting;
        self.server = server;
        self.dialed = turn.now.mono;
        self.progress = turn.now.mono;
        self.before = self.record.server.replace(server);
        self.record.attempts += 1;
        turn.uplink = Uplink::None;
        turn.effects.upstream = Wish::Dial { server, fresh, limited: shop.servers.has_limit() };
    }

    /// The server has nothing more to do with it. Is its connection kept?
    pub(super) fn let_go(&mut self, kept: bool, shop: &mut Shop) {
        let hold = std::mem::take(&mut self.hold);
        if hold != Hold::Nothing {
            shop.servers.done(self.server, kept || hold == Hold::Seat);
            shop.ledger.touch();
        }
    }

    /// Wishes the connection to the server away; a dial that was only wished for in this very call was none.
    pub(super) fn drop_upstream(&mut self, turn: &mut Turn<'_>) {
        if let Wish::Dial { .. } = turn.effects.upstream {
            self.record.attempts -= 1;
            self.record.server = self.before;
            // The seat may be that of an idle connection, which nobody has touched.
            self.hold = Hold::Seat;
        }
        turn.effects.upstream = Wish::Drop;
    }

    /// Tries another server, or, where there is no other, a backup, or this one once more on a new connection. Not after a byte of an answer,
    /// and only if nothing of the request was sent or all of it can be sent again (RFC 9110 §9.2.2): held are only idempotent ones.
    pub(super) fn dial_again(&mut self, shop: &mut Shop, turn: &mut Turn<'_>) -> bool {
        let untouched = turn.up.given() == self.given_before;
        let exhausted = self.record.attempts > shop.settings.retries.saturating_add(u8::from(self.stale));
        if exhausted || self.record.first_byte != 0 || !(untouched || turn.up.held()) {
            return false;
        }
        // This very request must not keep its server, if that has a limit, from being chosen again.
        self.let_go(false, shop);
        let reused = self.record.upstream_reused;
        // That an idle connection died says little of its server. Where a client belongs to a server, that one is asked once more.
        let same = (reused && shop.has_affinity()).then_some(self.server);
        let except = self.tried.and(self.server);
        if !reused {
            self.tried = except;
        }
        let asked = Asked { now: turn.now.mono, key: self.key, except };
        let next = match shop.servers.pick(&asked, same) {
            Ok(server) if reused || !self.tried.has(server) => Some(server),
            Ok(server) => {
                // None of the others is up, as far as this request can tell.
                shop.servers.done(server, true);
                let Some(backup) = shop.servers.stand_in(self.tried, turn.now.mono) else { return false };
                Some(backup)
            }
            Err(Without::Room) if shop.servers.queue().has_room() => None,
            Err(_) => return false,
        };
        // What a new connection dies of may be that servers have too much to do already.
        if !reused && !shop.budget.may_retry(turn.now.mono) {
            next.into_iter().for_each(|server| shop.servers.done(server, true));
            return false;
        }
        self.stale |= next.is_some() && same == next;
        if turn.up.held() {
            turn.up.rewind();
        }
        self.record.upstream_reused = false;
        shop.ledger.retried(self.server);
        match next {
            Some(server) => self.dial(server, true, shop, turn),
            None => {
                turn.effects.upstream = Wish::Drop;
                turn.uplink = Uplink::None;
                self.join_queue(shop, turn);
            }
        }
        true
    }
}
