//! What a fault, a lost connection or a passed deadline means: another try, an error page, or a cut.

use crate::base::{Micros, Now};
use crate::engine::{Close, CloseReason, DialError, Flow, Guilty, Side, Turn};
use crate::http1::cycle::{Event, Half};
use crate::http1::{Fault, encode};
use crate::proxy::exchange::{Exchange, Stage};
use crate::proxy::{Settings, Shop};

/// Why an exchange fails, in the log's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    pub reason: CloseReason,
    /// The exact fault, or empty.
    pub detail: &'static str,
    /// The status it deserves if no answer has begun.
    pub status: u16,
}

impl Failure {
    pub fn new(reason: CloseReason) -> Failure {
        let status = match reason {
            CloseReason::ClientHeadTimeout | CloseReason::ClientBodyTimeout => 408,
            CloseReason::BodyTooLarge => 413,
            CloseReason::NoUpstream | CloseReason::UpstreamNoSocket | CloseReason::Drained => 503,
            CloseReason::FileCut => 500,
            CloseReason::UpstreamConnectTimeout | CloseReason::UpstreamTimeout | CloseReason::UpstreamWriteTimeout => {
                504
            }
            _ if reason.guilty() == Guilty::Upstream => 502,
            _ => 400,
        };
        Failure { reason, detail: "", status }
    }

    /// A head that is refused.
    pub fn of_request(fault: Fault) -> Failure {
        Failure { reason: CloseReason::of_refusal(fault.status()), detail: fault.word(), status: fault.status() }
    }

    /// A body that is refused.
    pub fn of_request_body(fault: Fault) -> Failure {
        Failure { reason: CloseReason::BadRequestBody, detail: fault.word(), status: 400 }
    }

    pub fn of_response(fault: Fault) -> Failure {
        Failure { reason: CloseReason::BadResponse, detail: fault.word(), status: 502 }
    }

    pub fn of_response_body(fault: Fault) -> Failure {
        Failure { reason: CloseReason::BadResponseBody, detail: fault.word(), status: 502 }
    }

    /// The text of the error page: status, reason, the log's word, the fault.
    fn text(&self) -> String {
        let detail = if self.detail.is_empty() { String::new() } else { format!(" ({})", self.detail) };
        format!("{} {}: {}{detail}\n", self.status, encode::reason(self.status), self.reason.word())
    }
}

/// Whom an exchange waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waits {
    Connect,
    ClientBody,
    ClientWrite,
    UpstreamWrite,
    Response,
    Read,
    Tunnel,
}

impl Exchange {
    /// Ends the exchange as the failure deserves: a page if no answer has begun, else a cut that does not look like an end.
    pub(super) fn fail(&mut self, failure: Failure, shop: &mut Shop, turn: &mut Turn<'_>) {
        if let Stage::Delivering(_) | Stage::Over(_) = self.stage {
            return;
        }
        self.drop_upstream(turn);
        self.record.detail = failure.detail;
        let gone = turn.client == Side::Broken || (turn.client == Side::Ended && self.cycle.request != Half::Done);
        if gone && failure.reason.guilty() == Guilty::Client {
            return self.end_now(failure.reason, Close::Finish, turn);
        }
        if self.cycle.response == Half::Head && turn.down.drained() {
            self.answer_locally(failure.status, failure.reason, &failure.text(), shop, turn);
        } else {
            self.cut(failure.reason, turn);
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
        // A connection that was idle may die of it just as we use it; a new one that dies tells something about the request.
        if self.record.upstream_reused && self.dial_again(shop, turn) {
            return;
        }
        let reason = if side == Side::Ended { CloseReason::UpstreamClosed } else { CloseReason::UpstreamReset };
        self.fail(Failure::new(reason), shop, turn);
    }

    /// No connection to the server came about.
    pub(super) fn dial_failed(&mut self, error: DialError, shop: &mut Shop, turn: &mut Turn<'_>) {
        let reason = match error {
            DialError::NoSocket => CloseReason::UpstreamNoSocket,
            DialError::Refused if self.dial_again(shop, turn) => return,
            DialError::Refused => CloseReason::UpstreamRefused,
        };
        self.fail(Failure::new(reason), shop, turn);
    }

    /// Tries another server, or, where there is no other, this one once more on a new connection. Not after a byte of an answer,
    /// and only if nothing of the request was sent or all of it can be sent again (RFC 9110 §9.2.2): held are only idempotent ones.
    fn dial_again(&mut self, shop: &mut Shop, turn: &mut Turn<'_>) -> bool {
        let untouched = turn.up.given() == self.given_before;
        let exhausted = u32::from(self.record.attempts) > u32::from(shop.settings.retries);
        if exhausted || self.record.first_byte != 0 || !(untouched || turn.up.held()) {
            return false;
        }
        let Some(server) = shop.balance.pick(Some(self.server)) else { return false };
        if server == self.server && !self.record.upstream_reused {
            return false;
        }
        if turn.up.held() {
            turn.up.rewind();
        }
        self.record.upstream_reused = false;
        self.dial(server, true, turn);
        true
    }

    /// When the exchange must be looked at if nothing happens.
    pub(super) fn deadline(&mut self, settings: &Settings, now: Now, up: &Flow, down: &Flow) -> Micros {
        self.note_progress(now, up, down);
        match self.waits_for(up, down) {
            Waits::Connect => self.dialed + settings.upstream_connect,
            Waits::ClientBody => self.progress + settings.client_body,
            Waits::ClientWrite => self.progress + settings.client_write,
            Waits::UpstreamWrite | Waits::Read => self.progress + settings.upstream_read,
            Waits::Response => self.progress + settings.upstream_response,
            Waits::Tunnel => self.progress + settings.tunnel_idle,
        }
    }

    pub(super) fn waits_for(&self, up: &Flow, down: &Flow) -> Waits {
        match self.stage {
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
            Waits::Connect if self.dial_again(shop, turn) => return,
            Waits::Connect => CloseReason::UpstreamConnectTimeout,
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
