//! Which ends of exchanges speak against a server, which for it, and which say nothing about it.
//!
//! The rule: *a server is not called bad for a client's fault.* So whatever a client can bring about by what it sends or does not send,
//! or by how it reads, is nobody's, even where a server's fault can look the same: a server that is really bad fails harmless requests
//! too, and those count. What remains are requests that are harmless as HTTP and yet make an application crash or hang; from outside
//! they cannot be told from its own failure. Against those stand the row (one success for anybody ends it), and that never more than half
//! of the pool is ejected and never the last.

use crate::engine::CloseReason;
use crate::http1;
use crate::proxy::health::Fault;

/// What the end of an exchange, or of one try of it, says about the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    Server(Fault),
    Nobody,
    Success,
}

/// What must be known of an exchange, or of one try of it, at its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ending {
    pub reason: CloseReason,
    /// The word of the exact fault, or empty.
    pub detail: &'static str,
    /// The connection had served an exchange before.
    pub reused: bool,
    /// The whole request had been given to the server.
    pub asked: bool,
    /// The whole head of the answer had come.
    pub answering: bool,
    /// The client had kept it waiting, by not taking the answer.
    pub held_up: bool,
    /// It had become a tunnel.
    pub tunnel: bool,
}

/// Judges an end. Statuses do not matter: a 500 is an application's answer.
pub fn blame(end: &Ending) -> Blame {
    // A connection that was idle may die of that, or still hold what an answer before left on it (a body after HEAD). A server that
    // is bad shows it on a new connection next.
    let stale = end.reused && !end.answering;
    let server = Blame::Server(Fault::Answer);
    match end.reason {
        CloseReason::Done | CloseReason::TunnelDone | CloseReason::TunnelIdle => Blame::Success,
        // No client has a part in these.
        CloseReason::UpstreamRefused | CloseReason::UpstreamConnectTimeout => Blame::Server(Fault::Connect),
        // What goes through a tunnel is between the two, and so is its end.
        CloseReason::UpstreamReset | CloseReason::UpstreamClosed if end.tunnel => Blame::Success,
        // Who gives up a request that stalls, or does not want the rest of it, may close, and a close before all was read is a reset.
        // So may who gives up a client that does not take the answer.
        CloseReason::UpstreamClosed | CloseReason::UpstreamReset | CloseReason::UpstreamTruncated
            if stale || !end.asked || end.held_up =>
        {
            Blame::Nobody
        }
        CloseReason::UpstreamClosed | CloseReason::UpstreamReset | CloseReason::UpstreamTruncated => server,
        // A body kept back until a 100 (Continue) that this server never sends: both wait.
        CloseReason::UpstreamTimeout if !end.asked => Blame::Nobody,
        CloseReason::UpstreamTimeout => server,
        // Not said of an answer that the client does not take; see `waits_for`.
        CloseReason::UpstreamReadTimeout => server,
        // A redirect that repeats a long target may be as large as a client wants.
        CloseReason::BadResponse if stale || end.detail == http1::Fault::HeadTooLarge.word() => Blame::Nobody,
        CloseReason::BadResponse | CloseReason::BadResponseBody => server,
        // Only uploads larger than all buffers between can end so. The client chooses how much it sends and to which page, and
        // to take it slowly is the server's only way to hold it off. One that hangs is silent to small requests too.
        CloseReason::UpstreamWriteTimeout => Blame::Nobody,
        // Ours.
        CloseReason::UpstreamNoSocket | CloseReason::NoUpstream | CloseReason::Drained | CloseReason::Local => {
            Blame::Nobody
        }
        // The client's, and those of the file server. A client that gave up waiting may have been impatient.
        _ => Blame::Nobody,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Guilty;

    /// A request sent whole on a new connection, without an answer yet.
    fn ending(reason: CloseReason) -> Ending {
        Ending { reason, asked: true, ..Ending::default() }
    }

    const ANSWER: Blame = Blame::Server(Fault::Answer);

    #[test]
    fn a_server_that_fails_a_plain_request_on_a_new_connection_is_blamed() {
        for (reason, expected) in [
            (CloseReason::UpstreamRefused, Blame::Server(Fault::Connect)),
            (CloseReason::UpstreamConnectTimeout, Blame::Server(Fault::Connect)),
            (CloseReason::UpstreamClosed, ANSWER),
            (CloseReason::UpstreamReset, ANSWER),
            (CloseReason::UpstreamTimeout, ANSWER),
            (CloseReason::BadResponse, ANSWER),
        ] {
            assert_eq!(blame(&ending(reason)), expected, "{reason:?}");
        }
    }

    #[test]
    fn a_server_that_breaks_off_its_answer_is_blamed_also_on_a_reused_connection() {
        for reason in [
            CloseReason::UpstreamReset,
            CloseReason::UpstreamTruncated,
            CloseReason::UpstreamReadTimeout,
            CloseReason::BadResponseBody,
        ] {
            for reused in [false, true] {
                assert_eq!(blame(&Ending { reused, answering: true, ..ending(reason) }), ANSWER, "{reason:?}");
            }
        }
    }

    #[test]
    fn a_server_that_gives_up_a_client_that_reads_nothing_is_not_blamed() {
        for reason in [CloseReason::UpstreamReset, CloseReason::UpstreamTruncated] {
            assert_eq!(blame(&Ending { answering: true, held_up: true, ..ending(reason) }), Blame::Nobody);
        }
    }

    #[test]
    fn a_whole_answer_is_a_success_whatever_its_status_and_however_it_was_asked() {
        for asked in [false, true] {
            assert_eq!(blame(&Ending { asked, ..ending(CloseReason::Done) }), Blame::Success);
        }
        assert_eq!(blame(&ending(CloseReason::TunnelDone)), Blame::Success);
        assert_eq!(blame(&ending(CloseReason::TunnelIdle)), Blame::Success);
    }

    #[test]
    fn only_ends_that_the_table_lays_to_the_server_are_ever_its_fault() {
        for reason in CloseReason::ALL.iter().copied().filter(|reason| reason.guilty() != Guilty::Upstream) {
            for bits in 0..32u8 {
                let [reused, asked, answering, held_up, tunnel] = [1, 2, 4, 8, 16].map(|bit| bits & bit != 0);
                let end = Ending { reason, detail: "", reused, asked, answering, held_up, tunnel };
                assert!(!matches!(blame(&end), Blame::Server(_)), "{end:?}");
            }
        }
    }

    #[test]
    fn a_reused_connection_that_died_idle_is_nobodys_fault() {
        for reason in [CloseReason::UpstreamClosed, CloseReason::UpstreamReset] {
            assert_eq!(blame(&Ending { reused: true, ..ending(reason) }), Blame::Nobody, "{reason:?}");
        }
    }

    #[test]
    fn a_silent_server_is_blamed_on_a_reused_connection_too() {
        assert_eq!(blame(&Ending { reused: true, ..ending(CloseReason::UpstreamTimeout) }), ANSWER);
    }

    /// What a client can do to make a server look bad, one by one.
    #[test]
    fn what_a_hostile_client_can_provoke_is_nobodys_fault() {
        let stalled = |reason| Ending { asked: false, ..ending(reason) };
        for (end, how) in [
            (stalled(CloseReason::UpstreamClosed), "stalls its upload until the server hangs up"),
            (stalled(CloseReason::UpstreamReset), "stalls its upload until the server resets"),
            (
                Ending { answering: true, ..stalled(CloseReason::UpstreamReset) },
                "uploads too much: the reset destroys the 413, or the 408",
            ),
            (Ending { answering: true, ..stalled(CloseReason::UpstreamTruncated) }, "the same, and the 413 comes half"),
            (stalled(CloseReason::UpstreamTimeout), "waits for a 100 that this server does not send"),
            (stalled(CloseReason::UpstreamWriteTimeout), "uploads more to a slow page than it can take"),
            (stalled(CloseReason::ClientBodyTimeout), "stalls its upload for longer than we wait"),
            (stalled(CloseReason::BadRequestBody), "sends a malformed body"),
            (stalled(CloseReason::ClientReset), "resets within its upload"),
            (ending(CloseReason::ClientReset), "resets while it waits"),
            (Ending { answering: true, ..ending(CloseReason::ClientWriteTimeout) }, "does not read the answer"),
            (
                Ending { reused: true, detail: "bad-status-line", ..ending(CloseReason::BadResponse) },
                "asks with HEAD a page that sends a body all the same: the next exchange finds it",
            ),
            (
                Ending { reused: true, ..ending(CloseReason::UpstreamTruncated) },
                "the same, and the connection ends within what looks like a head",
            ),
            (
                Ending { detail: http1::Fault::HeadTooLarge.word(), ..ending(CloseReason::BadResponse) },
                "has a long target or cookie repeated in the answer's head",
            ),
        ] {
            assert_eq!(blame(&end), Blame::Nobody, "{how}: {end:?}");
        }
        // Breaks the protocol of its tunnel until the server resets: the switch was answered well.
        for reason in [CloseReason::UpstreamReset, CloseReason::UpstreamClosed] {
            assert_eq!(blame(&Ending { answering: true, tunnel: true, ..ending(reason) }), Blame::Success);
        }
    }

    /// Known, and held by the row and by `may_eject` only (`one_success_for_anybody_ends_a_row`).
    #[test]
    fn a_harmless_looking_request_that_makes_an_application_hang_or_crash_counts() {
        assert_eq!(blame(&ending(CloseReason::UpstreamTimeout)), ANSWER, "a page that takes longer than we wait");
        assert_eq!(blame(&ending(CloseReason::UpstreamReset)), ANSWER, "a page that crashes the worker process");
        assert_eq!(blame(&ending(CloseReason::UpstreamClosed)), ANSWER, "a firewall that hangs up on some targets");
        assert_eq!(
            blame(&Ending { detail: "bad-field-value", ..ending(CloseReason::BadResponse) }),
            ANSWER,
            "a page that lets a query into its head"
        );
    }
}
