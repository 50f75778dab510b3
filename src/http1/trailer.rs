//! Trailer sections (RFC 9110 §6.5): the same grammar as heads, but what frames, routes, authorises or describes the message stays out.

use crate::http1::body::TRAILER_LIMITS;
use crate::http1::field::{Fields, Known, field_fault};
use crate::http1::{Fault, MAX_FIELDS};

/// Names that are dropped from trailers (RFC 9110 §6.5.1), besides all `If-*` and `X-Forwarded-*`. Lower case, sorted.
const FORBIDDEN: &[&str] = &[
    "age",
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "expect",
    "expires",
    "forwarded",
    "host",
    "keep-alive",
    "location",
    "max-forwards",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "retry-after",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "vary",
    "via",
    "warning",
    "www-authenticate",
];

/// Writes the trailer section `bytes`, whole with its empty line, to `out` as it may be forwarded.
pub fn filter(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
    if bytes != b"\r\n" {
        let mut known = [Known::Other; MAX_FIELDS];
        let mut lines = [httparse::EMPTY_HEADER; TRAILER_LIMITS.fields];
        let count = match httparse::parse_headers(bytes, &mut lines).map_err(field_fault)? {
            httparse::Status::Complete((n, lines)) if n == bytes.len() => lines.len(),
            _ => return Err(Fault::BadFieldName),
        };
        let fields = Fields::classify(bytes, &lines[..count], &mut known)?;
        for field in fields.iter().filter(|field| is_allowed(field.name)) {
            out.extend_from_slice(&bytes[field.start..field.end]);
        }
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}

fn is_allowed(name: &[u8]) -> bool {
    let starts = |with: &str| name.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with.as_bytes()));
    !starts("if-")
        && !starts("x-forwarded-")
        && !FORBIDDEN.iter().any(|word| name.eq_ignore_ascii_case(word.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forwarded(section: &str) -> Result<String, Fault> {
        let mut out = Vec::new();
        filter(section.as_bytes(), &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn keeps_harmless_fields_and_drops_the_rest() {
        assert_eq!(forwarded("\r\n").unwrap(), "\r\n");
        let section = "Server-Timing: x\r\nContent-Length: 5\r\nHOST: b\r\nIf-Match: *\r\nDigest: y\r\n\r\n";
        assert_eq!(forwarded(section).unwrap(), "Server-Timing: x\r\nDigest: y\r\n\r\n");
        assert_eq!(forwarded("A : b\r\n\r\n"), Err(Fault::BadFieldName));
        assert_eq!(forwarded("A: \x01\r\n\r\n"), Err(Fault::BadFieldValue));
        assert_eq!(forwarded(": b\r\n\r\n"), Err(Fault::BadFieldName));
        assert_eq!(forwarded(&("A: b\r\n".repeat(101) + "\r\n")), Err(Fault::TooManyFields));
    }
}
