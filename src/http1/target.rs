//! Request targets (RFC 9112 §3.2) and authorities (RFC 3986 §3.2).

use crate::http1::{Fault, Method};

/// Longest host name with a port that is worth forwarding: 253 bytes of DNS name, or an address literal, `:` and five digits.
pub const MAX_AUTHORITY: usize = 260;

/// A request target, taken apart as far as a proxy needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'b> {
    /// `/path?query`, forwarded as it came.
    Origin(&'b [u8]),
    /// `http://authority/path?query`. The authority becomes the Host; `rest` begins with `/`, `?` or is empty.
    Absolute { authority: &'b [u8], rest: &'b [u8] },
    /// `*`, with OPTIONS.
    Asterisk,
}

impl<'b> Target<'b> {
    /// Judges the target of a request with this method.
    pub fn parse(method: Method, bytes: &'b [u8]) -> Result<Self, Fault> {
        // Without a way out in between, the compiler looks at many bytes at a time.
        if bytes.iter().fold(false, |bad, &byte| bad | !byte.is_ascii_graphic() | (byte == b'#')) {
            return Err(Fault::BadTarget);
        }
        match bytes {
            [b'/', ..] => Ok(Target::Origin(bytes)),
            b"*" if method == Method::Options => Ok(Target::Asterisk),
            _ => Self::absolute(bytes),
        }
    }

    fn absolute(bytes: &'b [u8]) -> Result<Self, Fault> {
        let after = |scheme: &[u8]| {
            bytes
                .get(..scheme.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
                .then(|| &bytes[scheme.len()..])
        };
        let hierarchy = after(b"http://").or_else(|| after(b"https://")).ok_or(Fault::BadTarget)?;
        let end = hierarchy.iter().position(|byte| b"/?".contains(byte)).unwrap_or(hierarchy.len());
        let (authority, rest) = hierarchy.split_at(end);
        if is_authority(authority) { Ok(Target::Absolute { authority, rest }) } else { Err(Fault::BadTarget) }
    }

    /// The target as it is forwarded, in two pieces: what must be put before, and the bytes as they came.
    pub fn forwarded(&self, method: Method) -> (&'static [u8], &'b [u8]) {
        match *self {
            Target::Origin(bytes) => (b"", bytes),
            Target::Asterisk => (b"*", b""),
            Target::Absolute { rest: [], .. } if method == Method::Options => (b"*", b""),
            Target::Absolute { rest: rest @ [b'/', ..], .. } => (b"", rest),
            Target::Absolute { rest, .. } => (b"/", rest),
        }
    }
}

/// `uri-host [":" port]` without userinfo, and not empty (RFC 9110 §4.2.1: an http URI without a host is invalid).
pub fn is_authority(bytes: &[u8]) -> bool {
    if bytes.is_empty() || bytes.len() > MAX_AUTHORITY {
        return false;
    }
    if bytes[0] == b'[' {
        let Some(close) = bytes.iter().position(|&byte| byte == b']') else { return false };
        return is_ip_literal(&bytes[1..close]) && is_port_part(&bytes[close + 1..]);
    }
    let colon = bytes.iter().position(|&byte| byte == b':').unwrap_or(bytes.len());
    let (host, port) = bytes.split_at(colon);
    is_reg_name(host) && is_port_part(port)
}

fn is_ip_literal(bytes: &[u8]) -> bool {
    let text = std::str::from_utf8(bytes).unwrap_or("");
    text.parse::<std::net::Ipv6Addr>().is_ok()
}

/// unreserved and sub-delims of RFC 3986 §2, without the comma, which separates list elements in a field value.
const REG_NAME: [bool; 256] = {
    let (mut table, others) = ([false; 256], b"-._~!$&'()*+;=");
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut i = 0;
    while i < others.len() {
        table[others[i] as usize] = true;
        i += 1;
    }
    table
};

/// `reg-name` of RFC 3986 §3.2.2 (an IPv4 address is one, too), with whole percent-escapes only.
fn is_reg_name(host: &[u8]) -> bool {
    let mut rest = host;
    while let Some(at) = rest.iter().position(|&byte| !REG_NAME[usize::from(byte)]) {
        match &rest[at..] {
            [b'%', high, low, after @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => rest = after,
            _ => return false,
        }
    }
    !host.is_empty()
}

fn is_port_part(bytes: &[u8]) -> bool {
    match bytes {
        [] => true,
        [b':', digits @ ..] => {
            digits.len() <= 5
                && digits.iter().all(u8::is_ascii_digit)
                && digits.iter().fold(0u32, |sum, byte| sum * 10 + u32::from(byte - b'0')) <= 65535
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_and_what_is_forwarded() {
        let forwarded = |method, bytes: &'static [u8]| {
            let (before, rest) = Target::parse(method, bytes)?.forwarded(method);
            Ok::<_, Fault>([before, rest].concat())
        };
        assert_eq!(forwarded(Method::Get, b"/a%zz?b").unwrap(), b"/a%zz?b");
        assert_eq!(forwarded(Method::Get, b"HTTP://a:80/x").unwrap(), b"/x");
        assert_eq!(forwarded(Method::Get, b"https://a?q").unwrap(), b"/?q");
        assert_eq!(forwarded(Method::Get, b"http://a").unwrap(), b"/");
        assert_eq!(forwarded(Method::Options, b"http://a").unwrap(), b"*");
        assert_eq!(forwarded(Method::Options, b"*").unwrap(), b"*");
        for bad in [
            &b""[..],
            b"*",
            b"a:80",
            b"x",
            b"ftp://a/",
            b"http://",
            b"http:///x",
            b"http://u@a/",
            b"/a b",
            b"/#f",
            b"/\xff",
            b"/\x7f",
        ] {
            assert_eq!(forwarded(Method::Get, bad.to_vec().leak()), Err(Fault::BadTarget), "{bad:?}");
        }
    }

    #[test]
    fn authorities() {
        for good in ["a", "a.example:8080", "127.0.0.1", "[::1]", "[2001:db8::1]:443", "a:", "a%20b", "a_b"] {
            assert!(is_authority(good.as_bytes()), "{good}");
        }
        for bad in [
            "", ":80", "a b", "a,b", "a/b", "u@a", "a:65536", "a:8x", "[::1", "[x]", "[]", "a:80:80", "a%2", "[::1]x",
            "a\\b",
        ] {
            assert!(!is_authority(bad.as_bytes()), "{bad}");
        }
        assert!(!is_authority(&[b'a'; MAX_AUTHORITY + 1]));
    }
}
