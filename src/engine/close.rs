//! Why an exchange or a connection ended: one table, used by the access log, the counters and the error pages alike.

/// Whose doing the end was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guilty {
    Nobody,
    Client,
    Upstream,
    Proxy,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident, $word:literal, $guilty:ident;)*) => {
        /// The end of an exchange or connection.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        pub enum CloseReason { $($(#[$doc])* $name,)* }

        impl CloseReason {
            /// Every reason, in the table's order.
            pub const ALL: &'static [CloseReason] = &[$(CloseReason::$name,)*];

            /// The word in the access log, the counters and the error page.
            pub fn word(self) -> &'static str {
                match self { $(CloseReason::$name => $word,)* }
            }

            /// Whose doing it was.
            pub fn guilty(self) -> Guilty {
                match self { $(CloseReason::$name => Guilty::$guilty,)* }
            }
        }
    };
}

// A table is the one thing a macro says better than a function: name, word and guilt of a reason stand on one line.
reasons! {
    /// The response went out whole.
    #[default] Done, "done", Nobody;
    /// The proxy answered by itself as the protocol asks (OPTIONS with Max-Forwards: 0).
    Local, "local", Nobody;
    /// A tunnel ended after both sides had closed.
    TunnelDone, "tunnel-done", Nobody;
    /// Nothing happened in a tunnel for too long.
    TunnelIdle, "tunnel-idle", Nobody;
    /// The drain time was over before the exchange was.
    Drained, "drained", Proxy;
    /// The client closed before its request was complete.
    ClientClosed, "client-closed", Client;
    /// The client's connection broke.
    ClientReset, "client-reset", Client;
    /// The head did not come in time (408).
    ClientHeadTimeout, "client-head-timeout", Client;
    /// The body stalled (408).
    ClientBodyTimeout, "client-body-timeout", Client;
    /// The client did not read the answer.
    ClientWriteTimeout, "client-write-timeout", Client;
    /// The request is malformed or ambiguous (400).
    BadRequest, "bad-request", Client;
    /// The request's body is malformed (400).
    BadRequestBody, "bad-request-body", Client;
    /// Head or fields over the limit (431).
    HeadTooLarge, "head-too-large", Client;
    /// Target over the limit (414).
    TargetTooLong, "target-too-long", Client;
    /// Body over the limit (413).
    BodyTooLarge, "body-too-large", Client;
    /// A version of HTTP that is not spoken here (505).
    BadVersion, "bad-version", Client;
    /// A transfer coding that is not spoken here (501).
    BadCoding, "bad-coding", Client;
    /// CONNECT or TRACE (405).
    BadMethod, "bad-method", Client;
    /// An expectation other than 100-continue (417).
    BadExpectation, "bad-expectation", Client;
    /// The client's address is in a list of those that may not come, or in none of those that may (403).
    ClientDenied, "client-denied", Client;
    /// The client's address has as many connections as it may (429).
    ClientConnections, "client-connections", Client;
    /// The client's address asks more often than it may (429).
    ClientRate, "client-rate", Client;
    /// The connection did not begin with the PROXY protocol as it should (closed without an answer).
    BadPreface, "bad-preface", Client;
    /// The process has as much memory as it may (503).
    MemoryLow, "memory-low", Proxy;
    /// Too many requests wait for a server already (503).
    QueueFull, "queue-full", Proxy;
    /// No server had room for the request in time (503).
    QueueTimeout, "queue-timeout", Proxy;
    /// No server could be chosen (503).
    NoUpstream, "no-upstream", Proxy;
    /// The server refused the connection or cannot be reached (502).
    UpstreamRefused, "upstream-refused", Upstream;
    /// The connection was not made in time (504).
    UpstreamConnectTimeout, "upstream-connect-timeout", Upstream;
    /// Descriptors or ports have run out on this machine (503).
    UpstreamNoSocket, "upstream-no-socket", Proxy;
    /// The server closed before it answered (502).
    UpstreamClosed, "upstream-closed", Upstream;
    /// The connection to the server broke (502, or cut).
    UpstreamReset, "upstream-reset", Upstream;
    /// The server did not take the request in time (504).
    UpstreamWriteTimeout, "upstream-write-timeout", Upstream;
    /// The server did not begin to answer in time (504).
    UpstreamTimeout, "upstream-timeout", Upstream;
    /// The answer stalled (cut).
    UpstreamReadTimeout, "upstream-read-timeout", Upstream;
    /// The answer's head is malformed or ambiguous (502).
    BadResponse, "bad-response", Upstream;
    /// The answer's body is malformed (cut).
    BadResponseBody, "bad-response-body", Upstream;
    /// The answer ended before its length (cut).
    UpstreamTruncated, "upstream-truncated", Upstream;
    /// Descriptors or memory for the file have run out (503).
    StoreBusy, "store-busy", Proxy;
    /// The disk or the file system failed (500).
    StoreFailed, "store-failed", Proxy;
    /// The file system did not answer in time (503).
    StoreTimeout, "store-timeout", Proxy;
    /// A file became shorter while it was sent (cut).
    FileCut, "file-cut", Proxy;
}

impl CloseReason {
    /// The reason that goes with the status of a refused request head.
    pub fn of_refusal(status: u16) -> CloseReason {
        match status {
            405 => CloseReason::BadMethod,
            414 => CloseReason::TargetTooLong,
            417 => CloseReason::BadExpectation,
            431 => CloseReason::HeadTooLarge,
            501 => CloseReason::BadCoding,
            505 => CloseReason::BadVersion,
            _ => CloseReason::BadRequest,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn words_are_unique_and_fit_a_log_column() {
        let words: HashSet<_> = CloseReason::ALL.iter().map(|r| r.word()).collect();
        assert_eq!(words.len(), CloseReason::ALL.len());
        assert!(words.iter().all(|w| w.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')));
        assert_eq!(CloseReason::default(), CloseReason::Done);
        assert_eq!(CloseReason::BadResponse.guilty(), Guilty::Upstream);
    }
}
