//! A client connection: waits for a request's head, begins its exchange, and sees it through to the log.

use crate::base::{Micros, Now, Peer};
use crate::engine::record::Part;
use crate::engine::{Again, Close, CloseReason, Drain, Flow, Side, Turn};
use crate::http1::body::MAX_TRAILERS;
use crate::http1::encode::{Persist, Shape};
use crate::http1::field::FieldSpace;
use crate::http1::{Body, Fault, Framing, HeadScan, Method, RequestHead, Version, request, scan};
use crate::origin::answer::{Asker, Reply, respond};
use crate::origin::exchange::{Cut, Exchange, body_part};
use crate::origin::store::Store;
use crate::origin::{KEPT_EXCHANGES, Settings, Shop};

/// Empty lines before a request that are ignored (RFC 9112 §2.2).
const EMPTY_LINES: u8 = 8;

/// What the origin keeps per client connection.
pub struct Session<F> {
    peer: Peer,
    /// The request being answered; without one, the session waits for a head.
    exchange: Option<Box<Exchange<F>>>,
    scan: HeadScan,
    /// Empty lines that may still come before the awaited head.
    empty_lines: u8,
    /// When the first byte of the awaited head was seen.
    begun: Option<Now>,
    /// Its head is here, and the store looks for what it asks for.
    asks: bool,
    /// A request was answered before.
    served: bool,
    /// The moment from which the present deadline counts, and how far things were by then.
    since: Micros,
    moved: Moved,
}

/// What counts as progress of an exchange: bytes that the client took or, once it has taken its whole answer, bytes that
/// it sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moved {
    Given(u64),
    Taken(u64),
}

/// Who is waited for while an exchange is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaited {
    /// The client is to take what is ready.
    Reader,
    /// The client is to send the rest of its request.
    Sender,
    /// The store is to go on with the answer.
    Store,
}

impl Awaited {
    fn of<F>(exchange: &Exchange<F>, down: &Flow) -> Awaited {
        match (down.drained(), exchange.owes_nothing()) {
            (false, _) => Awaited::Reader,
            (true, true) => Awaited::Sender,
            (true, false) => Awaited::Store,
        }
    }
}

/// What follows from a look at an exchange.
enum Step {
    /// It goes on.
    Wait,
    /// It is complete, and another one may follow.
    Done,
    /// It is over, and the connection with it.
    Over(Close),
}

/// A request that gets an error page and is the last one on its connection.
struct Refusal {
    status: u16,
    end: CloseReason,
    detail: &'static str,
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Refusal { status: fault.status(), end: CloseReason::of_refusal(fault.status()), detail: fault.word() }
    }
}

impl<F> Session<F> {
    pub(super) fn new(peer: Peer, now: Now) -> Self {
        Session {
            peer,
            exchange: None,
            scan: HeadScan::default(),
            empty_lines: EMPTY_LINES,
            begun: None,
            asks: false,
            served: false,
            since: now.mono,
            moved: Moved::Taken(0),
        }
    }

    /// When the client has been waited for long enough, in microseconds of the monotonic clock. A stalled reader is
    /// noticed between one and two spans after its last byte, because what the loop sends after a turn is seen in the
    /// next one.
    pub(super) fn deadline(&self, settings: &Settings, down: &Flow) -> Micros {
        let span = match self.exchange.as_ref().map(|exchange| Awaited::of(exchange, down)) {
            Some(Awaited::Reader) => settings.client_write,
            Some(Awaited::Sender) => settings.client_body,
            Some(Awaited::Store) => settings.store,
            None if self.asks => settings.store,
            None if self.served && self.begun.is_none() => settings.client_idle,
            None => settings.client_head,
        };
        self.since.saturating_add(span)
    }

    /// Has the deadline really passed? The loop's word may be older than what came in this turn.
    fn expired(&self, settings: &Settings, turn: &Turn<'_>) -> bool {
        turn.expired && turn.now.mono >= self.deadline(settings, turn.down)
    }

    /// One call: an exchange under way is looked at, else the next head is looked for; then what is owed is put into
    /// the flow.
    pub(super) fn advance<S: Store<File = F>>(&mut self, shop: &mut Shop<S>, turn: &mut Turn<'_>) {
        if self.exchange.is_none() {
            self.receive(shop, turn);
        } else {
            match self.look(&shop.settings, turn) {
                Step::Wait => {}
                Step::Done => {
                    self.finish(shop, turn);
                    // What was pipelined, or an end, is looked at in the next call: one exchange a call keeps calls
                    // short.
                    let more = !turn.up.raw().is_empty() || turn.client != Side::Open || turn.drain != Drain::No;
                    turn.effects.again = if more { Again::DownSent } else { Again::No };
                }
                Step::Over(close) => self.end(close, shop, turn),
            }
        }
        self.fill(shop, turn);
    }

    // ---- an exchange under way

    fn look(&mut self, settings: &Settings, turn: &mut Turn<'_>) -> Step {
        let Some(exchange) = &mut self.exchange else { return Step::Wait };
        exchange.drop_body(turn.up, settings.max_drained);
        if !exchange.body.is_done() {
            make_room(turn, settings.request.head.max(MAX_TRAILERS));
        }
        if turn.client == Side::Ended && !exchange.body.is_done() && !exchange.body.is_until_close() {
            exchange.blame(CloseReason::ClientClosed, "");
            exchange.ignore_the_rest();
        }
        if turn.down.drained() && exchange.owes_nothing() {
            if !exchange.persist {
                // Unread bytes would make the system reset the connection, and the client might lose the answer (RFC
                // 9112 §9.6).
                let clean = turn.client != Side::Open || (exchange.body.is_done() && turn.up.raw().is_empty());
                return Step::Over(if clean { Close::Finish } else { Close::Linger });
            }
            if exchange.body.is_done() {
                return Step::Done;
            }
        }
        let cut = match (turn.client, turn.drain) {
            (Side::Broken, _) => CloseReason::ClientReset,
            (_, Drain::Now) => CloseReason::Drained,
            _ => return self.stalled(settings, turn),
        };
        exchange.blame(cut, "");
        Step::Over(Close::Reset)
    }

    fn stalled(&mut self, settings: &Settings, turn: &Turn<'_>) -> Step {
        let Some(exchange) = &self.exchange else { return Step::Wait };
        let awaited = Awaited::of(exchange, turn.down);
        let moved = match awaited {
            Awaited::Sender => Moved::Taken(turn.up.taken()),
            Awaited::Reader | Awaited::Store => Moved::Given(turn.down.given()),
        };
        if moved != self.moved {
            self.moved = moved;
            self.since = turn.now.mono;
        }
        if !self.expired(settings, turn) {
            return Step::Wait;
        }
        let (end, close) = match awaited {
            Awaited::Reader => (CloseReason::ClientWriteTimeout, Close::Reset),
            Awaited::Sender => (CloseReason::ClientBodyTimeout, Close::Linger),
            // A clean end would make a part look like the whole.
            Awaited::Store => (CloseReason::StoreTimeout, Close::Reset),
        };
        if let Some(exchange) = &mut self.exchange {
            exchange.blame(end, "");
        }
        Step::Over(close)
    }

    fn fill<S: Store<File = F>>(&mut self, shop: &mut Shop<S>, turn: &mut Turn<'_>) {
        let Some(exchange) = &mut self.exchange else { return };
        let owed = !exchange.owes_nothing();
        if let Err(Cut(word)) = exchange.fill(&mut shop.store, turn.session, turn.down, turn.pool) {
            exchange.blame(CloseReason::FileCut, word);
            self.end(Close::Reset, shop, turn);
        } else if !turn.down.drained() || (owed && exchange.owes_nothing()) {
            turn.effects.again = Again::DownSent;
        }
    }

    /// Hands the exchange's record over. The session waits for the next head.
    fn finish<S: Store<File = F>>(&mut self, shop: &mut Shop<S>, turn: &mut Turn<'_>) {
        let Some(mut exchange) = self.exchange.take() else { return };
        if !exchange.owes_nothing() {
            shop.store.forget(turn.session);
        }
        turn.log.record(exchange.close(turn.now, turn.down));
        if shop.free.len() < KEPT_EXCHANGES {
            shop.free.push(exchange);
        }
        *self = Session { served: true, ..Session::new(self.peer, turn.now) };
    }

    /// Ends the connection and any exchange on it.
    fn end<S: Store<File = F>>(&mut self, close: Close, shop: &mut Shop<S>, turn: &mut Turn<'_>) {
        self.finish(shop, turn);
        if close == Close::Reset {
            // What the record does not count must not be sent any more.
            turn.down.clear();
        }
        turn.effects.close = Some(close);
    }

    // ---- waiting for a head

    fn receive<S: Store<File = F>>(&mut self, shop: &mut Shop<S>, turn: &mut Turn<'_>) {
        self.skip_empty_lines(turn.up);
        let raw = turn.up.raw();
        if matches!(raw, [] | [b'\r']) {
            if turn.client != Side::Open || turn.drain != Drain::No || self.expired(&shop.settings, turn) {
                turn.up.clear();
                turn.effects.close = Some(Close::Finish);
            }
            return;
        }
        if self.begun.is_none() {
            self.begun = Some(turn.now);
            if self.served {
                self.since = turn.now.mono;
            }
        }
        if self.asks && self.stops_asking(shop, turn) {
            return;
        }
        let raw = turn.up.raw();
        let most = shop.settings.request.head;
        let judged = match self.scan.end(raw) {
            Err(fault) => Err(fault.into()),
            Ok(Some(len)) if len <= most => self.begin(len, shop, turn),
            Ok(None) if raw.len() < most => self.wait_for_head(shop, turn),
            Ok(None) if self.scan.in_first_line() => Err(Fault::TargetTooLong.into()),
            Ok(_) => Err(Fault::HeadTooLarge.into()),
        };
        if let Err(refusal) = judged {
            self.refuse(&refusal, shop, turn);
        }
    }

    /// Ends the wait for the store if nobody waits any more, or if it has lasted too long.
    fn stops_asking<S: Store<File = F>>(&mut self, shop: &mut Shop<S>, turn: &mut Turn<'_>) -> bool {
        let late = self.expired(&shop.settings, turn);
        let (end, close) = match (turn.client, turn.drain) {
            (Side::Broken, _) => (CloseReason::ClientReset, Close::Reset),
            (_, Drain::Now) => (CloseReason::Drained, Close::Reset),
            _ if late => (CloseReason::StoreTimeout, Close::Linger),
            _ => return false,
        };
        if late {
            self.refuse(&Refusal { status: 503, end, detail: "" }, shop, turn);
        } else {
            shop.store.forget(turn.session);
            self.give_up(end, close, shop, turn);
        }
        true
    }

    fn skip_empty_lines(&mut self, up: &mut Flow) {
        let skipped = scan::leading_empty_lines(up.raw(), usize::from(self.empty_lines));
        if skipped > 0 {
            up.skip(skipped);
            self.empty_lines -= (skipped / 2) as u8;
            self.scan = HeadScan::default();
        }
    }

    /// The head has begun and is not here whole.
    fn wait_for_head<S: Store<File = F>>(&mut self, shop: &mut Shop<S>, turn: &mut Turn<'_>) -> Result<(), Refusal> {
        match turn.client {
            Side::Ended => self.give_up(CloseReason::ClientClosed, Close::Finish, shop, turn),
            Side::Broken => self.give_up(CloseReason::ClientReset, Close::Reset, shop, turn),
            Side::Open if turn.drain == Drain::Now => self.give_up(CloseReason::Drained, Close::Finish, shop, turn),
            Side::Open if self.expired(&shop.settings, turn) => {
                return Err(Refusal { status: 408, end: CloseReason::ClientHeadTimeout, detail: "" });
            }
            Side::Open => {
                make_room(turn, shop.settings.request.head);
                // The rest may never come.
                turn.up.fold(turn.pool);
            }
        }
        Ok(())
    }

    /// Nobody waits for an answer to this beginning of a request: it only goes to the log.
    fn give_up<S: Store<File = F>>(&mut self, end: CloseReason, close: Close, shop: &mut Shop<S>, turn: &mut Turn<'_>) {
        let mut exchange = self.new_exchange(shop, turn);
        exchange.quote_line(turn.up.raw());
        exchange.record.bytes_up = turn.up.raw().len() as u64;
        exchange.blame(end, "");
        self.exchange = Some(exchange);
        self.end(close, shop, turn);
    }

    // ---- beginning an exchange

    /// The first `len` received bytes are a head: judges and answers it.
    fn begin<S: Store<File = F>>(
        &mut self,
        len: usize,
        shop: &mut Shop<S>,
        turn: &mut Turn<'_>,
    ) -> Result<(), Refusal> {
        let (bytes, rest) = turn.up.raw().split_at(len);
        let mut space = FieldSpace::new();
        let head = request::parse(bytes, &mut space, &shop.settings.request)?;
        if self.asks && !shop.store.has_news(turn.session) {
            return Ok(());
        }
        let mut exchange = self.new_exchange(shop, turn);
        exchange.quote(&head);
        exchange.body = Body::new(head.framing);
        // What has come of the body is judged before anything is answered.
        let read = match body_part(&mut exchange.body, rest) {
            Ok(part) => len + part,
            Err(fault) => {
                self.exchange = Some(exchange);
                return Err(Refusal { end: CloseReason::BadRequestBody, ..Refusal::from(fault) });
            }
        };
        exchange.persist = keeps(&head, &exchange.body, &shop.settings) && turn.drain == Drain::No;
        let shape = Shape { head: head.method == Method::Head, persist: connection(head.version, exchange.persist) };
        let purge = is_purge(&head) && self.is_local() && (shop.settings.proxied_purge || !came_by_proxy(&head));
        let asker = Asker { session: turn.session, now: turn.now, purge };
        let mut sheet = shop.desk.sheet(turn.now.unix, shape, head.version, &shop.settings.cache_control);
        let Some(reply) = respond(&mut shop.store, &mut shop.path, &head, &asker, &mut sheet) else {
            self.wait_for_store(exchange, shop, turn);
            return Ok(());
        };
        turn.up.skip(read);
        exchange.record.bytes_up = read as u64;
        self.answer(exchange, reply, shop, turn);
        Ok(())
    }

    /// Is the other end of the connection on this machine?
    fn is_local(&self) -> bool {
        self.peer.ip().is_none_or(|ip| ip.is_loopback())
    }

    /// The request stays in its flow unread, and is looked at again when the store has news.
    fn wait_for_store<S: Store<File = F>>(&mut self, exchange: Box<Exchange<F>>, shop: &mut Shop<S>, turn: &Turn<'_>) {
        shop.free.push(exchange);
        if !self.asks {
            self.asks = true;
            self.since = turn.now.mono;
        }
    }

    /// Answers with an error page, after which the connection ends. All that came belongs to the refused request.
    fn refuse<S: Store<File = F>>(&mut self, refusal: &Refusal, shop: &mut Shop<S>, turn: &mut Turn<'_>) {
        if self.asks {
            // Found or not, nobody comes for it any more.
            shop.store.forget(turn.session);
        }
        let mut exchange = match self.exchange.take() {
            Some(exchange) => exchange,
            None => {
                let mut exchange = self.new_exchange(shop, turn);
                exchange.quote_line(turn.up.raw());
                exchange
            }
        };
        exchange.ignore_the_rest();
        exchange.drop_body(turn.up, 0);
        let to_head = exchange.record.part(Part::Line).starts_with(b"HEAD ");
        let shape = Shape { head: to_head, persist: Persist::Close };
        let reply = shop.desk.sheet(turn.now.unix, shape, Version::Http11, &[]).page(
            refusal.status,
            refusal.end,
            refusal.detail,
        );
        self.answer(exchange, reply, shop, turn);
    }

    /// The sheet holds the beginning of the answer.
    fn answer<S: Store<File = F>>(
        &mut self,
        mut exchange: Box<Exchange<F>>,
        reply: Reply<F>,
        shop: &mut Shop<S>,
        turn: &mut Turn<'_>,
    ) {
        let head = exchange.begun.mono + exchange.record.wait_head;
        exchange.record.first_byte = turn.now.mono.saturating_sub(head);
        exchange.send(shop.desk.written(), reply, turn.down, turn.pool);
        self.exchange = Some(exchange);
        self.asks = false;
        self.since = turn.now.mono;
    }

    fn new_exchange<S: Store<File = F>>(&self, shop: &mut Shop<S>, turn: &Turn<'_>) -> Box<Exchange<F>> {
        let begun = self.begun.unwrap_or(turn.now);
        let given = turn.down.given();
        let mut exchange = match shop.free.pop() {
            Some(mut exchange) => {
                exchange.renew(self.peer, begun, given);
                exchange
            }
            None => Box::new(Exchange::new(self.peer, begun, given)),
        };
        exchange.record.client_reused = self.served;
        // What the store took to find it is not the client's time.
        let whole = if self.asks { self.since } else { turn.now.mono };
        exchange.record.wait_head = whole.saturating_sub(begun.mono);
        exchange
    }
}

fn is_purge(head: &RequestHead<'_, '_>) -> bool {
    head.line.starts_with(b"PURGE ")
}

/// Does the request say that it comes from further away than its connection?
fn came_by_proxy(head: &RequestHead<'_, '_>) -> bool {
    const SIGNS: [&str; 4] = ["via", "forwarded", "x-forwarded-for", "x-real-ip"];
    let is_sign = |name: &[u8]| SIGNS.iter().any(|sign| name.eq_ignore_ascii_case(sign.as_bytes()));
    head.fields.iter().any(|field| is_sign(field.name))
}

/// May another request follow this one?
fn keeps(head: &RequestHead<'_, '_>, body: &Body, settings: &Settings) -> bool {
    let announced = if let Framing::Length(length) = head.framing { length } else { body.content() };
    // Who waits for 100 (Continue) and gets a final answer may or may not send the body (RFC 9110 §10.1.1), so nothing
    // after it can be told apart.
    let certain = body.is_done() || !head.expect_continue;
    head.persist && certain && announced <= settings.max_drained
}

/// What an answer says about the connection (RFC 9112 §9.3).
fn connection(version: Version, persist: bool) -> Persist {
    match (persist, version) {
        (false, _) => Persist::Close,
        (true, Version::Http10) => Persist::KeepAlive,
        (true, Version::Http11) => Persist::Silent,
    }
}

/// A message part that must be seen whole may be larger than the buffer.
fn make_room(turn: &mut Turn<'_>, bytes: usize) {
    if !turn.up.has_room() {
        turn.up.widen(turn.pool, bytes);
    }
}
