//! Judges a request head: tokenised by httparse, then held against RFC 9110 and 9112.

use crate::http1::field::{Connection, FieldSpace, Fields, Known, field_fault, tokens};
use crate::http1::framing::{Claims, Framing, Role, decimal};
use crate::http1::target::{Target, is_authority};
use crate::http1::{Fault, Limits, Version};

/// A method as far as a proxy cares. Methods are case-sensitive tokens; unknown ones are forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Get,
    Head,
    Options,
    Put,
    Delete,
    Connect,
    Trace,
    /// POST, PATCH and every other one, none of which may be sent twice.
    Other,
}

impl Method {
    pub fn of(name: &[u8]) -> Method {
        match name {
            b"GET" => Method::Get,
            b"HEAD" => Method::Head,
            b"OPTIONS" => Method::Options,
            b"PUT" => Method::Put,
            b"DELETE" => Method::Delete,
            b"CONNECT" => Method::Connect,
            b"TRACE" => Method::Trace,
            _ => Method::Other,
        }
    }

    /// May a request be repeated without asking? (RFC 9110 §9.2.2)
    pub fn is_idempotent(self) -> bool {
        matches!(self, Method::Get | Method::Head | Method::Options | Method::Put | Method::Delete)
    }
}

/// A request head that has only one reading.
pub struct RequestHead<'s, 'b> {
    pub method: Method,
    pub method_name: &'b [u8],
    pub target: Target<'b>,
    pub version: Version,
    /// The host it is for: the target's authority, else the Host field. None only in HTTP/1.0.
    pub host: Option<&'b [u8]>,
    /// The request line without its line end.
    pub line: &'b [u8],
    pub fields: Fields<'s, 'b>,
    pub framing: Framing,
    pub connection: Connection,
    /// The connection may be used for another request.
    pub persist: bool,
    /// The client waits for 100 (Continue) before it sends the body.
    pub expect_continue: bool,
    /// The client asks to switch protocols, and we would let it.
    pub upgrade: bool,
    /// The client takes trailers (`TE: trailers`).
    pub trailers: bool,
    /// Max-Forwards of an OPTIONS request.
    pub max_forwards: Option<u64>,
}

/// Judges `bytes`, one whole head as [`crate::http1::HeadScan`] found it, without empty lines before it.
pub fn parse<'s, 'b>(
    bytes: &'b [u8],
    space: &'s mut FieldSpace<'b>,
    limits: &Limits,
) -> Result<RequestHead<'s, 'b>, Fault> {
    let line = request_line(bytes, limits)?;
    let FieldSpace { headers, known } = space;
    let mut request = httparse::Request::new(&mut []);
    let room = limits.fields.min(headers.len());
    match request.parse_with_uninit_headers(bytes, &mut headers[..room]) {
        Ok(httparse::Status::Complete(n)) if n == bytes.len() => {}
        Ok(_) => return Err(Fault::BadFieldName),
        Err(error) => return Err(head_fault(error, line)),
    }
    let (Some(name), Some(path), Some(minor)) = (request.method, request.path, request.version) else {
        return Err(Fault::BadRequestLine);
    };
    let method = Method::of(name.as_bytes());
    let version = if minor == 0 { Version::Http10 } else { Version::Http11 };
    // httparse would let more than one space pass between the parts only where it was told to; hold it to that.
    if line.len() != name.len() + path.len() + 10 {
        return Err(Fault::BadRequestLine);
    }
    match method {
        Method::Connect => return Err(Fault::Connect),
        Method::Trace => return Err(Fault::Trace),
        _ => {}
    }
    let target = Target::parse(method, path.as_bytes())?;
    let fields = Fields::classify(bytes, request.headers, known)?;
    judge(RequestHead {
        method,
        method_name: name.as_bytes(),
        target,
        version,
        host: None,
        line,
        fields,
        framing: Framing::None,
        connection: Connection::default(),
        persist: false,
        expect_continue: false,
        upgrade: false,
        trailers: false,
        max_forwards: None,
    })
}

/// The first line, if its target is within the limit. Its length is judged before its grammar: the last word tells.
fn request_line<'b>(bytes: &'b [u8], limits: &Limits) -> Result<&'b [u8], Fault> {
    let end = memchr::memchr(b'\r', bytes).unwrap_or(bytes.len());
    let line = &bytes[..end];
    if line.len() > limits.target {
        let mut words = line.split(|&byte| byte == b' ');
        if words.nth(1).is_some_and(|target| target.len() > limits.target) {
            return Err(Fault::TargetTooLong);
        }
    }
    Ok(line)
}

fn judge<'s, 'b>(mut head: RequestHead<'s, 'b>) -> Result<RequestHead<'s, 'b>, Fault> {
    let mut claims = Claims::default();
    let (mut hosts, mut expectations, mut h2c, mut upgrades) = (0, 0, false, 0);
    for field in head.fields.iter() {
        match field.known {
            Known::Host => {
                hosts += 1;
                head.host = Some(field.value);
            }
            Known::ContentLength => claims.content_length(field.value)?,
            Known::TransferEncoding => claims.transfer_encoding(field.value),
            Known::Connection => head.connection.collect(field.value),
            Known::Expect => {
                expectations += 1;
                head.expect_continue = field.value.eq_ignore_ascii_case(b"100-continue");
            }
            Known::Upgrade => {
                upgrades += 1;
                h2c |= tokens(field.value).any(|token| token.eq_ignore_ascii_case(b"h2c"));
            }
            Known::Te => head.trailers |= tokens(field.value).any(|token| token.eq_ignore_ascii_case(b"trailers")),
            Known::MaxForwards if head.method == Method::Options => {
                let hops = decimal(field.value).filter(|_| head.max_forwards.is_none());
                head.max_forwards = Some(hops.ok_or(Fault::BadMaxForwards)?);
            }
            _ => {}
        }
    }
    judge_host(&mut head, hosts)?;
    if expectations > 1 || (expectations == 1 && !head.expect_continue) {
        return Err(Fault::BadExpectation);
    }
    head.framing = claims.ladder(Role::Request, head.version)?;
    let modern = head.version == Version::Http11;
    // An expectation in HTTP/1.0 is ignored (RFC 9110 §10.1.1), and nobody waits where no body follows.
    head.expect_continue &= modern && head.framing != Framing::None;
    // A switch while a body is on its way, or to cleartext HTTP/2, is not for this proxy (RFC 9110 §7.8 lets it ignore the wish).
    head.upgrade = modern && upgrades == 1 && head.connection.upgrade && !h2c && head.framing == Framing::None;
    head.persist = !head.connection.close && (modern || head.connection.keep_alive);
    Ok(head)
}

/// Exactly one Host in HTTP/1.1 (RFC 9112 §3.2), a valid one; the target's authority wins over it (§3.2.2).
fn judge_host(head: &mut RequestHead<'_, '_>, hosts: usize) -> Result<(), Fault> {
    match hosts {
        0 if head.version == Version::Http11 => return Err(Fault::NoHost),
        0 | 1 => {}
        _ => return Err(Fault::ManyHosts),
    }
    if head.host.is_some_and(|host| !is_authority(host)) {
        return Err(Fault::BadHost);
    }
    if let Target::Absolute { authority, .. } = head.target {
        head.host = Some(authority);
    }
    Ok(())
}

fn head_fault(error: httparse::Error, line: &[u8]) -> Fault {
    match error {
        httparse::Error::Version => version_fault(line),
        httparse::Error::Token | httparse::Error::NewLine => Fault::BadRequestLine,
        httparse::Error::Status => Fault::BadRequestLine,
        error => field_fault(error),
    }
}

/// Why is the version not 1.0 or 1.1: because it is another one, or none at all?
fn version_fault(line: &[u8]) -> Fault {
    let parts: [&[u8]; 3] = {
        let mut words = line.split(|&byte| byte == b' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some(method), Some(target), Some(version), None) => [method, target, version],
            _ => return Fault::BadRequestLine,
        }
    };
    if parts[1].is_empty() {
        return Fault::BadRequestLine;
    }
    match parts[2] {
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
            Fault::UnknownVersion
        }
        _ => Fault::BadVersion,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(head: &str) -> Option<Fault> {
        parse(head.as_bytes(), &mut FieldSpace::new(), &Limits::REQUEST).err()
    }

    #[test]
    fn a_plain_request() {
        let bytes = b"GET /x?y HTTP/1.1\r\nHost: a.example\r\nConnection: close, X\r\n\r\n";
        let mut space = FieldSpace::new();
        let head = parse(bytes, &mut space, &Limits::REQUEST).unwrap();
        assert_eq!((head.method, head.target, head.framing), (Method::Get, Target::Origin(b"/x?y"), Framing::None));
        assert_eq!(head.host, Some(&b"a.example"[..]));
        assert!(!head.persist && head.connection.names && head.fields.nominated(b"x"));
        assert_eq!(head.line, b"GET /x?y HTTP/1.1");
    }

    #[test]
    fn request_lines() {
        for (line, expected) in [
            ("GET / HTTP/2.0", Fault::UnknownVersion),
            ("GET / HTTP/1.2", Fault::UnknownVersion),
            ("GET / HTTP/1", Fault::BadVersion),
            ("GET / HTTQ/1.1", Fault::BadVersion),
            ("GET  / HTTP/1.1", Fault::BadRequestLine),
            ("CONNECT a:80 HTTP/1.1", Fault::Connect),
            ("TRACE / HTTP/1.1", Fault::Trace),
            ("G@T / HTTP/1.1", Fault::BadRequestLine),
            (" GET / HTTP/1.1", Fault::BadRequestLine),
            ("GET /#x HTTP/1.1", Fault::BadTarget),
        ] {
            assert_eq!(fault(&format!("{line}\r\nHost: a\r\n\r\n")), Some(expected), "{line}");
        }
    }

    #[test]
    fn fields_and_limits() {
        for (fields, expected) in [
            ("", Some(Fault::NoHost)),
            ("Host: a\r\nHost: a\r\n", Some(Fault::ManyHosts)),
            ("Host: a b\r\n", Some(Fault::BadHost)),
            ("Host : a\r\n", Some(Fault::BadFieldName)),
            ("Host: a\r\n x\r\n", Some(Fault::BadFieldName)),
            ("Host: a\r\nX: \x01\r\n", Some(Fault::BadFieldValue)),
            ("Host: a\r\n: x\r\n", Some(Fault::BadFieldName)),
            ("Host: a\r\nX\r\n", Some(Fault::BadFieldName)),
            ("Host: a\r\nExpect: x\r\n", Some(Fault::BadExpectation)),
            ("Host: a\r\nX: \t\u{e4}\r\n", None),
        ] {
            assert_eq!(fault(&format!("GET / HTTP/1.1\r\n{fields}\r\n")), expected, "{fields}");
        }
        let many = "X: y\r\n".repeat(100);
        assert_eq!(fault(&format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n")), Some(Fault::TooManyFields));
        let long = "a".repeat(8192);
        assert_eq!(fault(&format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n")), Some(Fault::TargetTooLong));
    }
}
