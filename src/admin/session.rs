//! A connection to the admin side: waits for a head, answers it, and waits for the next one.

use crate::admin::desk::{Reply, answer};
use crate::admin::{Admin, Settings, Source};
use crate::base::{Content, DateLine, Micros, Now, Source as Lies};
use crate::engine::{Again, Close, Drain, Flow, Side, Turn};
use crate::http1::encode::{self, Persist, Shape};
use crate::http1::field::FieldSpace;
use crate::http1::scan::leading_empty_lines;
use crate::http1::{Fault, Framing, HeadScan, Method, Version, request};
use std::sync::Arc;

/// Empty lines before a request that are ignored (RFC 9112 §2.2).
const EMPTY_LINES: u8 = 8;

/// What is kept per connection.
pub struct Session {
    state: State,
    /// Since when this state lasts or, while an answer is sent, since when nothing of it was taken.
    since: Micros,
    /// What the client had taken by then.
    given: u64,
    blank: u8,
    served: bool,
}

enum State {
    Idle,
    /// Awaits the end of a head.
    Head(HeadScan),
    /// An answer is on its way; what becomes of the connection afterwards.
    Answering(Option<Close>),
}

impl Session {
    pub(super) fn new(now: Now) -> Session {
        Session { state: State::Idle, since: now.mono, given: 0, blank: 0, served: false }
    }

    /// When the client has been waited for long enough.
    pub(super) fn deadline(&mut self, settings: &Settings, now: Now, down: &Flow) -> Micros {
        let span = match self.state {
            State::Idle if self.served => settings.idle,
            State::Idle | State::Head(_) => settings.head,
            State::Answering(_) => {
                if down.given() != self.given {
                    (self.given, self.since) = (down.given(), now.mono);
                }
                settings.write
            }
        };
        self.since + span
    }

    pub(super) fn advance<S: Source>(&mut self, admin: &mut Admin<S>, turn: &mut Turn<'_>) {
        if turn.client == Side::Broken || turn.drain == Drain::Now {
            return leave(Close::Finish, turn);
        }
        match self.state {
            State::Answering(close) => self.go_on(close, turn),
            State::Idle | State::Head(_) => self.receive(admin, turn),
        }
    }

    fn go_on(&mut self, close: Option<Close>, turn: &mut Turn<'_>) {
        if !turn.down.drained() {
            if turn.expired && turn.down.given() == self.given {
                leave(Close::Reset, turn);
            }
            return;
        }
        match close {
            Some(close) => turn.effects.close = Some(close),
            None => {
                (self.state, self.since, self.served) = (State::Idle, turn.now.mono, true);
                // What was pipelined, or an end, is looked at in the next call.
                let more = !turn.up.raw().is_empty() || turn.client != Side::Open || turn.drain != Drain::No;
                turn.effects.again = if more { Again::DownSent } else { Again::No };
            }
        }
    }

    fn receive<S: Source>(&mut self, admin: &mut Admin<S>, turn: &mut Turn<'_>) {
        if let State::Idle = self.state {
            let blank = leading_empty_lines(turn.up.raw(), usize::from(EMPTY_LINES - self.blank));
            turn.up.skip(blank);
            self.blank += (blank / 2) as u8;
            if matches!(turn.up.raw(), [] | [b'\r']) {
                if turn.client != Side::Open || turn.expired || turn.drain != Drain::No {
                    leave(Close::Finish, turn);
                }
                return;
            }
            (self.blank, self.state, self.since) = (0, State::Head(HeadScan::default()), turn.now.mono);
            turn.expired = false;
        }
        let State::Head(scan) = &mut self.state else { return };
        let (raw, most) = (turn.up.raw(), admin.settings.request.head);
        match scan.end(raw) {
            Ok(Some(len)) if len <= most => self.begin(len, admin, turn),
            Ok(None) if raw.len() < most => self.await_more(admin, turn),
            Ok(_) => self.refuse(Fault::HeadTooLarge, admin, turn),
            Err(fault) => self.refuse(fault, admin, turn),
        }
    }

    fn await_more<S: Source>(&mut self, admin: &mut Admin<S>, turn: &mut Turn<'_>) {
        if turn.client == Side::Ended {
            leave(Close::Finish, turn);
        } else if turn.expired {
            let shape = Shape { head: false, persist: Persist::Close };
            turn.up.clear();
            self.send(&Reply::error(408, "Request Timeout"), shape, Some(Close::Linger), admin, turn);
        } else if !turn.up.has_room() {
            turn.up.widen(turn.pool, admin.settings.request.head);
        }
    }

    fn refuse<S: Source>(&mut self, fault: Fault, admin: &mut Admin<S>, turn: &mut Turn<'_>) {
        let status = fault.status();
        let reply = Reply::error(status, &format!("{} ({})", encode::reason(status), fault.word()));
        let shape = Shape { head: turn.up.raw().starts_with(b"HEAD "), persist: Persist::Close };
        turn.up.clear();
        self.send(&reply, shape, Some(Close::Linger), admin, turn);
    }

    /// The first `len` bytes are a head.
    fn begin<S: Source>(&mut self, len: usize, admin: &mut Admin<S>, turn: &mut Turn<'_>) {
        let mut space = FieldSpace::new();
        let head = match request::parse(&turn.up.raw()[..len], &mut space, &admin.settings.request) {
            Ok(head) => head,
            Err(fault) => return self.refuse(fault, admin, turn),
        };
        let reply = answer(&mut admin.source, &head);
        // Nothing here takes a body, and what is not read cannot be told from the next request.
        let whole = matches!(head.framing, Framing::None | Framing::Length(0));
        let persist = match (head.persist && whole && turn.drain == Drain::No, head.version) {
            (false, _) => Persist::Close,
            (true, Version::Http10) => Persist::KeepAlive,
            (true, Version::Http11) => Persist::Silent,
        };
        let shape = Shape { head: head.method == Method::Head, persist };
        turn.up.skip(len);
        // Unread bytes would make the system reset the connection, and the client might lose the answer.
        let close = if whole && turn.up.raw().is_empty() { Close::Finish } else { Close::Linger };
        let close = (persist == Persist::Close).then_some(close);
        if close.is_some() {
            turn.up.clear();
        }
        self.send(&reply, shape, close, admin, turn);
    }

    fn send<S: Source>(
        &mut self,
        reply: &Reply,
        shape: Shape,
        close: Option<Close>,
        admin: &mut Admin<S>,
        turn: &mut Turn<'_>,
    ) {
        (self.state, self.since, self.given) = (State::Answering(close), turn.now.mono, turn.down.given());
        admin.scratch.clear();
        head(&mut admin.scratch, reply, shape, admin.date.at(turn.now.unix));
        let sent = turn.down.push(turn.pool, &admin.scratch);
        debug_assert_eq!(sent, admin.scratch.len(), "a head is shorter than a buffer");
        let body: Arc<[u8]> = Arc::from(reply.body.as_bytes());
        let length = body.len() as u64;
        if let Some(content) = Content::new(Lies::Memory(body), 0, length).filter(|_| !shape.head) {
            turn.down.append(turn.pool, content);
        }
        turn.effects.again = Again::DownSent;
    }
}

/// The end, whatever is left.
fn leave(close: Close, turn: &mut Turn<'_>) {
    turn.up.clear();
    turn.down.clear();
    turn.effects.close = Some(close);
}

fn head(out: &mut Vec<u8>, reply: &Reply, shape: Shape, date: &[u8]) {
    debug_assert_eq!(date.len(), DateLine::LEN);
    encode::status_line(out, reply.status, encode::reason(reply.status).as_bytes());
    out.extend_from_slice(date);
    out.extend_from_slice(reply.fields.as_bytes());
    encode::field(out, "Content-Type", reply.kind.as_bytes());
    out.extend_from_slice(b"Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nContent-Length: ");
    encode::decimal(out, reply.body.len() as u64);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(shape.persist.line());
    out.extend_from_slice(b"\r\n");
}
