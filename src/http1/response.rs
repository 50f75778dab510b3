//! Judges a response head by the same rules as a request's.

use crate::http1::field::{Connection, FieldSpace, Fields, Known, field_fault, tokens, trim};
use crate::http1::framing::{Claims, Framing, Role, decimal};
use crate::http1::{Fault, Limits, Version};

/// What the answered request was, as far as it decides how the answer is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// It was HEAD: no body follows whatever the fields say.
    pub head: bool,
    /// It asked for a switch of protocols.
    pub upgrade: bool,
}

/// A response head that has only one reading.
pub struct ResponseHead<'s, 'b> {
    pub status: u16,
    pub version: Version,
    pub fields: Fields<'s, 'b>,
    pub framing: Framing,
    /// A Transfer-Encoding is there (also where no body follows).
    pub coded: bool,
    /// The Content-Length, likewise.
    pub length: Option<u64>,
    pub connection: Connection,
    /// The server lets its connection be used again.
    pub persist: bool,
    /// How long the server says it keeps an idle connection, in seconds (`Keep-Alive: timeout=5`).
    pub keep_alive: Option<u64>,
    /// Some field must not be passed on, or the status line is not canonical.
    pub must_rebuild: bool,
    pub has_date: bool,
    /// The reason phrase, maybe empty.
    pub reason: &'b [u8],
}

impl ResponseHead<'_, '_> {
    /// 1xx: another head follows.
    pub fn is_interim(&self) -> bool {
        self.status < 200 && self.status != 101
    }
}

/// Judges `bytes`, one whole head as [`crate::http1::HeadScan`] found it.
pub fn parse<'s, 'b>(
    bytes: &'b [u8],
    space: &'s mut FieldSpace<'b>,
    limits: &Limits,
    asked: Asked,
) -> Result<ResponseHead<'s, 'b>, Fault> {
    // httparse ignores empty lines before the status line and takes some status lines that are none.
    if !is_status_line(bytes) {
        return Err(Fault::BadStatusLine);
    }
    let FieldSpace { headers, known } = space;
    let mut response = httparse::Response::new(&mut []);
    let room = limits.fields.min(headers.len());
    let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut response,
        bytes,
        &mut headers[..room],
    );
    match parsed {
        Ok(httparse::Status::Complete(n)) if n == bytes.len() => {}
        Ok(_) => return Err(Fault::BadFieldName),
        Err(httparse::Error::Status | httparse::Error::Version | httparse::Error::Token | httparse::Error::NewLine) => {
            return Err(Fault::BadStatusLine);
        }
        Err(error) => return Err(field_fault(error)),
    }
    let (Some(status), Some(minor)) = (response.code, response.version) else { return Err(Fault::BadStatusLine) };
    if !(100..=599).contains(&status) {
        return Err(Fault::BadStatus);
    }
    if status == 101 && !asked.upgrade {
        return Err(Fault::UnaskedSwitch);
    }
    let version = if minor == 0 { Version::Http10 } else { Version::Http11 };
    let line_end = memchr::memchr(b'\r', bytes).unwrap_or(bytes.len());
    judge(
        ResponseHead {
            status,
            version,
            fields: Fields::classify(bytes, response.headers, known)?,
            framing: Framing::None,
            coded: false,
            length: None,
            connection: Connection::default(),
            persist: false,
            keep_alive: None,
            must_rebuild: version == Version::Http10 || bytes.get(12) != Some(&b' '),
            has_date: false,
            reason: bytes.get(13..line_end).unwrap_or(b""),
        },
        asked,
    )
}

/// `HTTP/1.x SP 3DIGIT` followed by SP or the line's end.
fn is_status_line(bytes: &[u8]) -> bool {
    let canonical = |start: &[u8]| bytes.starts_with(start);
    (canonical(b"HTTP/1.1 ") || canonical(b"HTTP/1.0 "))
        && bytes.get(9..12).is_some_and(|code| code.iter().all(u8::is_ascii_digit))
        && matches!(bytes.get(12), Some(b' ' | b'\r'))
}

fn judge<'s, 'b>(mut head: ResponseHead<'s, 'b>, asked: Asked) -> Result<ResponseHead<'s, 'b>, Fault> {
    let (mut claims, mut upgrades) = (Claims::default(), 0);
    for field in head.fields.iter() {
        match field.known {
            Known::ContentLength => {
                claims.content_length(field.value)?;
                // Not in 204 and 1xx (RFC 9110 §8.6).
                head.must_rebuild |= head.status == 204 || head.status < 200;
            }
            Known::TransferEncoding => {
                claims.transfer_encoding(field.value);
                head.must_rebuild |= head.status == 204 || head.status < 200 || field.value != b"chunked";
            }
            Known::Connection => {
                head.connection.collect(field.value);
                head.must_rebuild = true;
            }
            Known::KeepAlive => {
                head.keep_alive = timeout(field.value);
                head.must_rebuild = true;
            }
            Known::Upgrade => {
                upgrades += 1;
                head.must_rebuild = true;
            }
            Known::ProxyConnection | Known::Te => head.must_rebuild = true,
            Known::Date => head.has_date = true,
            _ => {}
        }
    }
    // A switch to nothing (RFC 9110 §15.2.2: the answer says to what).
    if head.status == 101 && upgrades == 0 {
        return Err(Fault::UnaskedSwitch);
    }
    let bodiless = asked.head || head.status < 200 || matches!(head.status, 204 | 304);
    head.framing = claims.ladder(Role::Response { bodiless }, head.version)?;
    head.coded = claims.has_coding();
    head.length = claims.length();
    let lasting = head.version == Version::Http11 || head.connection.keep_alive;
    head.persist = lasting && !head.connection.close && head.framing != Framing::UntilClose;
    Ok(head)
}

/// The `timeout` parameter of a Keep-Alive field.
fn timeout(value: &[u8]) -> Option<u64> {
    tokens(value).find_map(|parameter| {
        let equals = parameter.iter().position(|&byte| byte == b'=')?;
        let (name, value) = (trim(&parameter[..equals]), trim(&parameter[equals + 1..]));
        name.eq_ignore_ascii_case(b"timeout").then(|| decimal(value)).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: Asked = Asked { head: false, upgrade: false };

    fn fault(head: &str) -> Option<Fault> {
        parse(head.as_bytes(), &mut FieldSpace::new(), &Limits::RESPONSE, ASKED).err()
    }

    #[test]
    fn status_lines() {
        for good in
            ["HTTP/1.1 200 OK", "HTTP/1.1 200 ", "HTTP/1.1 200", "HTTP/1.0 404 Not Found", "HTTP/1.1 599 \u{e4}"]
        {
            assert_eq!(fault(&format!("{good}\r\n\r\n")), None, "{good}");
        }
        for bad in [
            "HTTP/1.1 20 OK",
            "HTTP/1.1 2000 OK",
            "HTTP/1.1  200 OK",
            "HTTP/2 200 OK",
            "200 OK",
            "HTTP/1.1 2x0 OK",
            "",
            "HTTP/1.1 200\tOK",
            "HTTP/1.1 200 \x01",
        ] {
            assert_eq!(fault(&format!("{bad}\r\n\r\n")), Some(Fault::BadStatusLine), "{bad}");
        }
        assert_eq!(fault("HTTP/1.1 600 X\r\n\r\n"), Some(Fault::BadStatus));
        assert_eq!(fault("HTTP/1.1 101 X\r\n\r\n"), Some(Fault::UnaskedSwitch));
    }

    #[test]
    fn facts_for_the_pool_and_the_rewriter() {
        let bytes = b"HTTP/1.1 200 OK\r\nKeep-Alive: max=5, timeout=7\r\nContent-Length: 3\r\n\r\n";
        let mut space = FieldSpace::new();
        let head = parse(bytes, &mut space, &Limits::RESPONSE, ASKED).unwrap();
        assert!(head.persist && head.must_rebuild && !head.has_date);
        assert_eq!((head.keep_alive, head.framing, head.reason), (Some(7), Framing::Length(3), &b"OK"[..]));
        let bytes = b"HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: 3\r\n\r\n";
        let mut space = FieldSpace::new();
        let head = parse(bytes, &mut space, &Limits::RESPONSE, ASKED).unwrap();
        assert!(!head.must_rebuild && head.has_date);
        let bytes = b"HTTP/1.0 200 OK\r\n\r\n";
        let mut space = FieldSpace::new();
        let head = parse(bytes, &mut space, &Limits::RESPONSE, ASKED).unwrap();
        assert!(!head.persist && head.framing == Framing::UntilClose);
    }
}
