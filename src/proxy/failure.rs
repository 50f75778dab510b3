//! What a fault, a lost connection or a passed deadline means: another try, an error page, or a cut.

use crate::base::time::SECOND;
use crate::base::{Micros, Now};
use crate::engine::{Close, CloseReason, DialError, Flow, Guilty, Side, Turn};
use crate::http1::cycle::{Event, Half};
use crate::http1::{Fault, encode};
use crate::proxy::exchange::{Exchange, Stage};
use crate::proxy::health::{Blame, Ending, blame};
use crate::proxy::{Settings, Shop};

/// Why an exchange fails, in the log's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    pub reason: CloseReason,
    /// The exact fault, or empty.
    pub detail: &'static str,
    /// The status it deserves if no answer has begun.
    pub status: u16,
    /// With 429 and 503: seconds after which it makes sense to come again.
    pub retry_after: u64,
}

impl Failure {
    pub fn new(reason: CloseReason) -> Failure {
        let status = match reason {
            CloseReason::Local => 200,
            CloseReason::ClientHeadTimeout | CloseReason::ClientBodyTimeout => 408,
            CloseReason::BodyTooLarge => 413,
            CloseReason::ClientDenied => 403,
            CloseReason::ClientConnections | CloseReason::ClientRate => 429,
            CloseReason::NoUpstream | CloseReason::UpstreamNoSocket | CloseReason::Drained => 503,
            CloseReason::MemoryLow | CloseReason::QueueFull | CloseReason::QueueTimeout => 503,
            CloseReason::FileCut => 500,
            CloseReason::UpstreamConnectTimeout | CloseReason::UpstreamTimeout | CloseReason::UpstreamWriteTimeout => {
                504
            }
            _ if reason.guilty() == Guilty::Upstream => 502,
            _ => 400,
        };
        Failure { reason, detail: "", status, retry_after: 1 }
    }

    fn with(reason: CloseReason, fault: Fault, status: u16) -> Failure {
        Failure { detail: fault.word(), status, ..Failure::new(reason) }
    }

    /// A head that is refused.
    pub fn of_request(fault: Fault) -> Failure {
        Failure::with(CloseReason::of_refusal(fault.status()), fault, fault.status())
    }

    /// A body that is refused.
    pub fn of_request_body(fault: Fault) -> Failure {
        Failure::with(CloseReason::BadRequestBody, fault, 400)
    }

    pub fn of_response(fault: Fault) -> Failure {
        Failure::with(CloseReason::BadResponse, fault, 502)
    }

    pub fn of_response_body(fault: Fault) -> Failure {
        Failure::with(CloseReason::BadResponseBody, fault, 502)
    }

    /// The text of the error page: status, reason, the log's word, the fault. None for what is no error.
    pub(super) fn text(&self) -> String {
        if self.status == 200 {
            return String::new();
        }
        let detail = if self.detail.is_empty() { String::new() } else { format!(" ({})", self.detail) };
        format!("{} {}: {}{detail}\n", self.status, encode::reason(self.status), self.reason.word())
    }
}

/// No server gives up a client sooner.
const HELD_UP: Micros = SECOND;

/// Whom an exchange waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waits {
    Queue,
    Connect,
    ClientBody,
    ClientWrite,
    UpstreamWrite,
    Response,
    Read,
    Tunnel,
}

impl Exchange {
    /// Ends the exchange as the failure deserves, and remembers the server's part in it.
    pub(super) fn fail(&mut self, failure: Failure, shop: &mut Shop, turn: &mut Turn<'_>) {
        self.blame(failure.reason, failure.detail, shop, turn);
        self.give_up(failure, shop, turn);
    }

    /// What the end of a try says about the server.
    fn blame(&self, reason: CloseReason, detail: &'static str, shop: &mut Shop, turn: &Turn<'_>) {
        let asked = self.cycle.request == Half::Done && turn.up.drained();
        let answering = self.cycle.response != Half::Head;
        let tunnel = self.stage == Stage::Tunnel;
        let (reused, held_up) = (self.record.upstream_reused, self.held_up || self.is_blocked(turn.now.mono));
        let ending = Ending { reason, detail, reused, asked, answering, held_up, tunnel };
        if let Blame::Server(fault) = blame(&ending) {
            let ejected = shop.servers.failed(self.server, fault, self.dialed, turn.now.mono);
            shop.ledger.failed(self.server, ejected);
        }
    }

    /// Has the server had to wait for the client for long enough to give up?
    fn is_blocked(&self, now: Micros) -> bool {
        self.blocked.is_some_and(|since| now - since >= HELD_UP)
    }

    fn note_blocked(&mut self, now: Micros, down: &Flow) {
        if self.stage == Stage::Answering && !down.has_room() {
            self.blocked = self.blocked.or(Some(now));
        } else {
            self.held_up |= self.is_blocked(now);
            self.blocked = None;
        }
    }

    /// A page if no answer has begun, else a cut that does not look like an end.
    fn give_up(&mut self, failure: Failure, shop: &mut Shop, turn: &mut Turn<'_>) {
        if let Stage::Delivering(_) | Stage::Over(_) = self.stage {
            return;
        }
        self.drop_upstream(turn);
        self.record.detail = failure.detail;
        let gone = turn.client == Side::Broken || (turn.client == Side::Ended && self.cycle.request != Half::Done);
        if gone && failure.reason.guilty() == Guilty::Client {
            return self.end_now(failure.reason, Close::Finish, turn);
        }
        self.take_back(turn);
        if self.cycle.response == Half::Head && turn.down.drained() {
            self.answer_locally(&failure, shop, turn);
        } else {
            self.cut(failure.reason, turn);
        }
    }

    /// An answer that only a reset could cut, and of which the client has been sent nothing, has not begun: a page says more than a reset,
    /// and a reset would also cost what is still on its way of an earlier answer.
    fn take_back(&mut self, turn: &mut Turn<'_>) {
        let unseen = self.record.bytes_down == turn.down.unsent();
        if self.cycle.response == Half::Body && self.ends_by_close() && unseen {
            turn.down.clear();
            (self.cycle.response, self.record.bytes_down) = (Half::Head, 0);
        }
    }

    /// The answer has begun and cannot be completed. Its length, or the missing last chunk, shows that; where only the
    /// connection's end would, a reset does.
    fn cut(&mut self, reason: CloseReason, turn: &mut Turn<'_>) {
        self.record.end = reason;
        let complete = self.cycle.response == Half::Done;
        if !complete && (self.ends_by_close() || self.cycle.response == Half::Head) {
            return self.end_now(reason, Close::Reset, turn);
        }
        if !complete {
            self.cycle.response(Event::Break);
        }
        turn.down.drop_raw();
        turn.up.clear();
        self.stage = Stage::Delivering(Some(Close::Linger));
    }

    /// The connection to the server ended before a byte of the answer came.
    pub(super) fn lost(&mut self, side: Side, shop: &mut Shop, turn: &mut Turn<'_>) {
        let reason = if side == Side::Ended { CloseReason::UpstreamClosed } else { CloseReason::UpstreamReset };
        self.retry_or(reason, shop, turn);
    }

    /// No connection to the server came about.
    pub(super) fn dial_failed(&mut self, error: DialError, shop: &mut Shop, turn: &mut Turn<'_>) {
        match error {
            DialError::NoSocket => self.fail(Failure::new(CloseReason::UpstreamNoSocket), shop, turn),
            DialError::Refused => self.retry_or(CloseReason::UpstreamRefused, shop, turn),
        }
    }

    /// This try has failed before a byte of an answer came.
    fn retry_or(&mut self, reason: CloseReason, shop: &mut Shop, turn: &mut Turn<'_>) {
        self.blame(reason, "", shop, turn);
        if !self.dial_again(shop, turn) {
            self.give_up(Failure::new(reason), shop, turn);
        }
    }

    /// When the exchange must be looked at if nothing happens.
    pub(super) fn deadline(&mut self, settings: &Settings, now: Now, up: &Flow, down: &Flow) -> Micros {
        self.note_progress(settings, now, up, down);
        self.note_blocked(now.mono, down);
        match self.waits_for(up, down) {
            Waits::Queue => self.queued.unwrap_or(self.judged) + settings.queue,
            Waits::Connect => self.dialed + settings.upstream_connect,
            Waits::ClientBody | Waits::ClientWrite => self.client_deadline(),
            Waits::UpstreamWrite | Waits::Read => self.progress + settings.upstream_read,
            Waits::Response => self.progress + settings.upstream_response,
            Waits::Tunnel => self.progress + settings.tunnel_idle,
        }
    }

    pub(super) fn waits_for(&self, up: &Flow, down: &Flow) -> Waits {
        match self.stage {
            Stage::Queued => Waits::Queue,
            Stage::Connecting => Waits::Connect,
            Stage::Tunnel => Waits::Tunnel,
            _ if !down.drained() => Waits::ClientWrite,
            Stage::Delivering(_) | Stage::Over(_) => Waits::ClientWrite,
            Stage::Awaiting | Stage::Answering if !up.drained() => Waits::UpstreamWrite,
            // Who expects 100 (Continue) rightly waits for the server, and nobody waits for a rest that is not wanted.
            _ if self.cycle.request == Half::Body && !self.expects && self.finish_request => Waits::ClientBody,
            Stage::Awaiting => Waits::Response,
            Stage::Answering => Waits::Read,
        }
    }

    pub(super) fn on_deadline(&mut self, shop: &mut Shop, turn: &mut Turn<'_>) {
        let reason = match self.waits_for(turn.up, turn.down) {
            Waits::Queue => CloseReason::QueueTimeout,
            Waits::Connect => return self.retry_or(CloseReason::UpstreamConnectTimeout, shop, turn),
            Waits::ClientBody => CloseReason::ClientBodyTimeout,
            Waits::ClientWrite => return self.end_now(CloseReason::ClientWriteTimeout, Close::Reset, turn),
            Waits::UpstreamWrite => CloseReason::UpstreamWriteTimeout,
            Waits::Response => CloseReason::UpstreamTimeout,
            Waits::Read => CloseReason::UpstreamReadTimeout,
            Waits::Tunnel => {
                // What was not taken is lost, and a plain close would not show that.
                let whole = turn.up.drained() && turn.down.drained();
                return self.end_now(CloseReason::TunnelIdle, if whole { Close::Finish } else { Close::Reset }, turn);
            }
        };
        self.fail(Failure::new(reason), shop, turn);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_fitting_status_and_text() {
        for reason in CloseReason::ALL {
            let failure = Failure::new(*reason);
            assert!(!encode::reason(failure.status).is_empty(), "{reason:?}");
            assert_eq!(
                failure.status == 502 || failure.status == 504,
                reason.guilty() == Guilty::Upstream,
                "{reason:?}"
            );
        }
        let text = Failure::of_request(Fault::BareLf).text();
        assert_eq!(text, "400 Bad Request: bad-request (bare-lf)\n");
    }
}
