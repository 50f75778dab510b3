//! Field lines: the names that mean something to a proxy, and the facts collected from them in one pass.

use crate::http1::{Fault, MAX_FIELDS};
use httparse::Header;
use std::mem::MaybeUninit;

/// A field this engine or the proxy acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    Other,
    Connection,
    ContentLength,
    Date,
    Expect,
    Host,
    Http2Settings,
    KeepAlive,
    MaxForwards,
    ProxyConnection,
    Referer,
    Te,
    TransferEncoding,
    Upgrade,
    UserAgent,
    Via,
    XForwardedFor,
    XForwardedHost,
    XForwardedProto,
}

/// The meaning of a field name, by length first: most names fall out at the first comparison.
pub fn classify(name: &[u8]) -> Known {
    let is = |wanted: &str| name.eq_ignore_ascii_case(wanted.as_bytes());
    match name.len() {
        2 if is("te") => Known::Te,
        3 if is("via") => Known::Via,
        4 if is("host") => Known::Host,
        4 if is("date") => Known::Date,
        6 if is("expect") => Known::Expect,
        7 if is("upgrade") => Known::Upgrade,
        7 if is("referer") => Known::Referer,
        10 if is("connection") => Known::Connection,
        10 if is("keep-alive") => Known::KeepAlive,
        10 if is("user-agent") => Known::UserAgent,
        12 if is("max-forwards") => Known::MaxForwards,
        14 if is("content-length") => Known::ContentLength,
        14 if is("http2-settings") => Known::Http2Settings,
        15 if is("x-forwarded-for") => Known::XForwardedFor,
        16 if is("proxy-connection") => Known::ProxyConnection,
        16 if is("x-forwarded-host") => Known::XForwardedHost,
        17 if is("transfer-encoding") => Known::TransferEncoding,
        17 if is("x-forwarded-proto") => Known::XForwardedProto,
        _ => Known::Other,
    }
}

/// Room for the fields of one head, on the caller's stack.
pub struct FieldSpace<'b> {
    pub(super) headers: [MaybeUninit<Header<'b>>; MAX_FIELDS],
    pub(super) known: [Known; MAX_FIELDS],
}

impl FieldSpace<'_> {
    pub fn new() -> Self {
        FieldSpace { headers: [const { MaybeUninit::uninit() }; MAX_FIELDS], known: [Known::Other; MAX_FIELDS] }
    }
}

impl Default for FieldSpace<'_> {
    fn default() -> Self {
        Self::new()
    }
}

/// The fields of a head, each with its meaning, and their place in the head's bytes.
#[derive(Clone, Copy)]
pub struct Fields<'s, 'b> {
    /// The bytes the fields lie in.
    pub bytes: &'b [u8],
    headers: &'s [Header<'b>],
    known: &'s [Known],
}

/// One field line.
#[derive(Clone, Copy, Debug)]
pub struct Field<'b> {
    pub known: Known,
    pub name: &'b [u8],
    /// Without the whitespace around it.
    pub value: &'b [u8],
    /// Where its line begins in [`Fields::bytes`].
    pub start: usize,
    /// Where the next line begins.
    pub end: usize,
}

impl<'s, 'b> Fields<'s, 'b> {
    /// Classifies `headers`, which lie in `bytes` (a head or section up to and with its empty line).
    pub(super) fn classify(bytes: &'b [u8], headers: &'s [Header<'b>], known: &'s mut [Known]) -> Result<Self, Fault> {
        for (header, known) in headers.iter().zip(known.iter_mut()) {
            if header.name.is_empty() {
                return Err(Fault::BadFieldName);
            }
            *known = classify(header.name.as_bytes());
        }
        Ok(Fields { bytes, headers, known })
    }

    /// Where the field lines begin.
    pub fn start(&self) -> usize {
        self.headers.first().map_or(self.end(), |header| self.offset(header.name.as_bytes()))
    }

    /// Where the empty line begins.
    pub fn end(&self) -> usize {
        self.bytes.len() - 2
    }

    pub fn len(&self) -> usize {
        self.headers.len()
    }

    pub fn is_empty(&self) -> bool {
        self.headers.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = Field<'b>> + use<'s, 'b> {
        let this = *self;
        (0..this.headers.len()).map(move |i| Field {
            known: this.known[i],
            name: this.headers[i].name.as_bytes(),
            value: this.headers[i].value,
            start: this.offset(this.headers[i].name.as_bytes()),
            end: this.headers.get(i + 1).map_or(this.end(), |next| this.offset(next.name.as_bytes())),
        })
    }

    /// The values of all lines of one field.
    pub fn values(&self, wanted: Known) -> impl Iterator<Item = &'b [u8]> + use<'s, 'b> {
        let this = *self;
        (0..this.headers.len()).filter(move |&i| this.known[i] == wanted).map(move |i| this.headers[i].value)
    }

    /// The value of the first line with this name, for fields that are not [`Known`].
    pub fn find(&self, name: &str) -> Option<&'b [u8]> {
        self.named(name).next()
    }

    /// The values of all lines with this name, for fields that are not [`Known`].
    pub fn named(&self, name: &str) -> impl Iterator<Item = &'b [u8]> {
        self.headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
    }

    /// Does a Connection field name this one? (RFC 9110 §7.6.1)
    pub fn nominated(&self, name: &[u8]) -> bool {
        self.values(Known::Connection).flat_map(tokens).any(|token| token.eq_ignore_ascii_case(name))
    }

    fn offset(&self, part: &[u8]) -> usize {
        part.as_ptr() as usize - self.bytes.as_ptr() as usize
    }
}

/// The elements of a comma-separated list, without the whitespace around them. Empty elements are shown.
pub fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(trim)
}

/// Without the spaces and tabs around it.
pub fn trim(bytes: &[u8]) -> &[u8] {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = bytes.iter().position(|b| !blank(b)).unwrap_or(bytes.len());
    let end = bytes.iter().rposition(|b| !blank(b)).map_or(start, |last| last + 1);
    &bytes[start..end]
}

/// `token` of RFC 9110 §5.6.2: 1*tchar.
pub fn is_token(bytes: &[u8]) -> bool {
    let tchar = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    !bytes.is_empty() && bytes.iter().all(tchar)
}

/// What the Connection fields say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connection {
    pub close: bool,
    pub keep_alive: bool,
    pub upgrade: bool,
    /// Other fields are named, to be removed.
    pub names: bool,
}

impl Connection {
    pub(super) fn collect(&mut self, value: &[u8]) {
        for token in tokens(value) {
            if token.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if token.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if token.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade = true;
            } else if !token.is_empty() {
                self.names = true;
            }
        }
    }
}

/// httparse's errors in this house's words, for field lines.
pub(super) fn field_fault(error: httparse::Error) -> Fault {
    match error {
        httparse::Error::TooManyHeaders => Fault::TooManyFields,
        httparse::Error::HeaderValue => Fault::BadFieldValue,
        _ => Fault::BadFieldName,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_in_any_case() {
        assert_eq!(classify(b"CONTENT-length"), Known::ContentLength);
        assert_eq!(classify(b"x-Forwarded-Proto"), Known::XForwardedProto);
        assert_eq!(classify(b"X-Forwarded-Prot0"), Known::Other);
        assert_eq!(classify(b""), Known::Other);
    }

    #[test]
    fn lists_and_tokens() {
        let list: Vec<_> = tokens(b" a ,,b\t").collect();
        assert_eq!(list, [&b"a"[..], b"", b"b"]);
        assert!(is_token(b"x-y") && !is_token(b"") && !is_token(b"a b") && !is_token("ä".as_bytes()));
        let mut connection = Connection::default();
        connection.collect(b"Keep-Alive, Upgrade");
        assert_eq!(connection, Connection { keep_alive: true, upgrade: true, ..Connection::default() });
        connection.collect(b"x-secret, close");
        assert!(connection.close && connection.names);
    }
}
