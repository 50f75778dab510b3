//! What can be wrong with a message, each with its word for the log and the status it deserves as a request.

/// A reason to refuse a message. As a response, any of them means 502.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// A line ends in LF without CR (RFC 9112 §2.2 allows it, smuggling lives on it).
    BareLf,
    /// A request line that is not `method SP target SP version CRLF`.
    BadRequestLine,
    /// A version that is not `HTTP/` digit `.` digit.
    BadVersion,
    /// A well-formed version other than 1.0 and 1.1.
    UnknownVersion,
    /// A target with bytes outside `!`..`~`, a fragment, or a form that its method does not allow.
    BadTarget,
    TargetTooLong,
    HeadTooLarge,
    TooManyFields,
    /// An empty or non-token name, a space before the colon, a missing colon, a folded line (RFC 9112 §5).
    BadFieldName,
    /// A control byte in a value (RFC 9110 §5.5).
    BadFieldValue,
    NoHost,
    ManyHosts,
    /// A Host that is no `uri-host [":" port]`.
    BadHost,
    /// Content-Length that is not 1*DIGIT below 2^64.
    BadLength,
    ManyLengths,
    /// Transfer-Encoding and Content-Length in one message (RFC 9112 §6.1).
    LengthAndCoding,
    /// Transfer-Encoding in HTTP/1.0.
    CodingInHttp10,
    /// Transfer-Encoding repeated, empty, malformed, or with `chunked` anywhere but once at the end.
    BadCoding,
    /// A transfer coding other than chunked.
    UnknownCoding,
    /// CONNECT: this is no forward proxy.
    Connect,
    /// TRACE would send credentials back (RFC 9110 §9.3.8).
    Trace,
    /// An expectation other than 100-continue.
    BadExpectation,
    BadMaxForwards,
    /// A chunk size that is not 1*16HEXDIG, or is followed by junk.
    BadChunkSize,
    ChunkLineTooLong,
    /// A chunk extension outside the grammar of RFC 9112 §7.1.1.
    BadChunkExtension,
    /// Chunk data not followed by CRLF.
    BadChunkEnd,
    /// Far more framing than content.
    ChunkOverhead,
    TrailersTooLarge,
    /// A status line that is not `HTTP/1.x SP 3DIGIT [SP reason] CRLF`.
    BadStatusLine,
    /// A status outside 100..=599.
    BadStatus,
    /// 101 for a request that asked for no upgrade.
    UnaskedSwitch,
    /// More 1xx answers than one request deserves.
    TooManyInterim,
}

impl Fault {
    /// The word in the access log and on the error page.
    pub fn word(self) -> &'static str {
        match self {
            Fault::BareLf => "bare-lf",
            Fault::BadRequestLine => "bad-request-line",
            Fault::BadVersion => "bad-version",
            Fault::UnknownVersion => "unknown-version",
            Fault::BadTarget => "bad-target",
            Fault::TargetTooLong => "target-too-long",
            Fault::HeadTooLarge => "head-too-large",
            Fault::TooManyFields => "too-many-fields",
            Fault::BadFieldName => "bad-field-name",
            Fault::BadFieldValue => "bad-field-value",
            Fault::NoHost => "no-host",
            Fault::ManyHosts => "many-hosts",
            Fault::BadHost => "bad-host",
            Fault::BadLength => "bad-content-length",
            Fault::ManyLengths => "many-content-lengths",
            Fault::LengthAndCoding => "length-and-coding",
            Fault::CodingInHttp10 => "coding-in-http-1.0",
            Fault::BadCoding => "bad-transfer-encoding",
            Fault::UnknownCoding => "unknown-transfer-coding",
            Fault::Connect => "connect",
            Fault::Trace => "trace",
            Fault::BadExpectation => "bad-expectation",
            Fault::BadMaxForwards => "bad-max-forwards",
            Fault::BadChunkSize => "bad-chunk-size",
            Fault::ChunkLineTooLong => "chunk-line-too-long",
            Fault::BadChunkExtension => "bad-chunk-extension",
            Fault::BadChunkEnd => "bad-chunk-end",
            Fault::ChunkOverhead => "chunk-overhead",
            Fault::TrailersTooLarge => "trailers-too-large",
            Fault::BadStatusLine => "bad-status-line",
            Fault::BadStatus => "bad-status",
            Fault::UnaskedSwitch => "unasked-switch",
            Fault::TooManyInterim => "too-many-interim",
        }
    }

    /// The status that answers a request with this fault.
    pub fn status(self) -> u16 {
        match self {
            Fault::TargetTooLong => 414,
            Fault::HeadTooLarge | Fault::TooManyFields => 431,
            Fault::UnknownVersion => 505,
            Fault::UnknownCoding => 501,
            Fault::Connect | Fault::Trace => 405,
            Fault::BadExpectation => 417,
            _ => 400,
        }
    }
}
