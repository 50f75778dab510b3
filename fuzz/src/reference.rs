//! A second opinion: naive readers of HTTP/1.1 messages, written apart from the library and for nothing but clarity.
//!
//! They are lax where it does not matter which way a message is taken, and say so where it does: a frame that could be read in two ways
//! is `None`. What this proxy *writes* is held against [`strict_head`] instead.

use super::show;

/// A head, split at its CRLFs and colons.
pub struct Head<'b> {
    pub line: &'b [u8],
    /// Names in lower case; values without the spaces and tabs around them.
    pub fields: Vec<(String, &'b [u8])>,
    /// With the empty line.
    pub len: usize,
}

/// The head that `bytes` begin with, if it is there whole.
pub fn head(bytes: &[u8]) -> Option<Head<'_>> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let mut lines = lines(&bytes[..end]).into_iter();
    let line = lines.next().unwrap_or(b"");
    Some(Head { line, fields: lines.map(field).collect(), len: end + 4 })
}

/// Split at each CRLF.
fn lines(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut lines = Vec::new();
    while let Some(at) = bytes.windows(2).position(|two| two == b"\r\n") {
        lines.push(&bytes[..at]);
        bytes = &bytes[at + 2..];
    }
    lines.push(bytes);
    lines
}

fn field(line: &[u8]) -> (String, &[u8]) {
    let colon = line.iter().position(|&byte| byte == b':').unwrap_or(line.len());
    let name = String::from_utf8_lossy(&line[..colon]).to_ascii_lowercase();
    (name, trim(line.get(colon + 1..).unwrap_or(b"")))
}

fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

impl<'b> Head<'b> {
    pub fn values(&self, name: &str) -> Vec<&'b [u8]> {
        self.fields.iter().filter(|(known, _)| known == name).map(|(_, value)| *value).collect()
    }

    pub fn has(&self, name: &str) -> bool {
        !self.values(name).is_empty()
    }

    /// The elements of a list field, in lower case.
    pub fn list(&self, name: &str) -> Vec<String> {
        let values = self.values(name);
        let elements = values.iter().flat_map(|value| value.split(|&byte| byte == b','));
        elements.map(|element| String::from_utf8_lossy(trim(element)).to_ascii_lowercase()).collect()
    }
}

/// Where a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    Bare,
    Length(u64),
    Chunked,
    UntilClose,
}

/// What the fields say, or `None` if it is not one thing. `otherwise`: without a word from them.
fn frame(head: &Head<'_>, modern: bool, otherwise: Frame) -> Option<Frame> {
    match (&head.values("transfer-encoding")[..], &head.values("content-length")[..]) {
        ([], []) => Some(otherwise),
        ([], [length]) if !length.is_empty() && length.iter().all(u8::is_ascii_digit) => {
            std::str::from_utf8(length).ok()?.parse().ok().map(Frame::Length)
        }
        ([coding], []) if modern && coding.eq_ignore_ascii_case(b"chunked") => Some(Frame::Chunked),
        _ => None,
    }
}

/// A request's head, naively understood.
pub struct Request<'b> {
    pub head: Head<'b>,
    pub method: &'b [u8],
    pub target: &'b [u8],
    /// HTTP/1.1.
    pub modern: bool,
    pub frame: Option<Frame>,
}

pub fn request(bytes: &[u8]) -> Option<Request<'_>> {
    let head = head(bytes)?;
    let mut words = head.line.split(|&byte| byte == b' ');
    let (method, target) = (words.next().unwrap_or(b""), words.next().unwrap_or(b""));
    let modern = words.next() == Some(b"HTTP/1.1");
    let frame = frame(&head, modern, Frame::Bare);
    Some(Request { head, method, target, modern, frame })
}

impl Request<'_> {
    /// The target and the host as the next hop should see them.
    pub fn forwarded(&self) -> (Vec<u8>, Option<Vec<u8>>) {
        let host = self.head.values("host").first().map(|host| host.to_vec());
        let Some(scheme) = self.target.windows(3).position(|three| three == b"://") else {
            return (self.target.to_vec(), host);
        };
        if self.target.starts_with(b"/") {
            return (self.target.to_vec(), host);
        }
        let rest = &self.target[scheme + 3..];
        let end = rest.iter().position(|byte| b"/?".contains(byte)).unwrap_or(rest.len());
        let path = match &rest[end..] {
            [] if self.method == b"OPTIONS" => b"*".to_vec(),
            path if path.starts_with(b"/") => path.to_vec(),
            query => [b"/", query].concat(),
        };
        (path, Some(rest[..end].to_vec()))
    }
}

/// A response's head, naively understood.
pub struct Response<'b> {
    pub head: Head<'b>,
    pub status: u16,
    pub frame: Option<Frame>,
}

pub fn response(bytes: &[u8], to_head: bool) -> Option<Response<'_>> {
    let head = head(bytes)?;
    let modern = head.line.starts_with(b"HTTP/1.1 ");
    let digits = std::str::from_utf8(head.line.get(9..12).unwrap_or(b"")).unwrap_or("");
    let status = digits.parse().unwrap_or(0);
    let said = frame(&head, modern, Frame::UntilClose);
    let bare = to_head || status < 200 || status == 204 || status == 304;
    let frame = said.map(|said| if bare { Frame::Bare } else { said });
    Some(Response { head, status, frame })
}

/// How far a body could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Whole,
    /// More must come.
    Partial,
    /// It is no body of that frame.
    Bad,
}

/// A body, read from the bytes behind its head.
#[derive(Debug, PartialEq, Eq)]
pub struct Body<'b> {
    pub content: Vec<u8>,
    /// Bytes of it with all framing. Meaningful when whole.
    pub used: usize,
    /// The lines between the last chunk and the empty line, with it.
    pub trailers: &'b [u8],
    pub end: End,
}

/// `closed`: the connection has ended cleanly behind `bytes`.
pub fn body(frame: Frame, bytes: &[u8], closed: bool) -> Body<'_> {
    let plain = |len: usize, whole: bool| {
        let end = if whole { End::Whole } else { End::Partial };
        Body { content: bytes[..len].to_vec(), used: len, trailers: b"", end }
    };
    match frame {
        Frame::Bare => plain(0, true),
        Frame::Length(length) => match usize::try_from(length) {
            Ok(length) if length <= bytes.len() => plain(length, true),
            _ => plain(bytes.len(), false),
        },
        Frame::UntilClose => plain(bytes.len(), closed),
        Frame::Chunked => chunked(bytes),
    }
}

/// RFC 9112 §7.1, with CRLF as the only line end, no "bad whitespace" and at most 16 digits.
pub fn chunked(bytes: &[u8]) -> Body<'_> {
    let (mut content, mut at) = (Vec::new(), 0);
    let end = loop {
        let line = match line(&bytes[at..]) {
            Ok(Some(line)) => line,
            Ok(None) => break End::Partial,
            Err(()) => break End::Bad,
        };
        let Some(size) = chunk_size(line) else { break End::Bad };
        at += line.len() + 2;
        if size == 0 {
            let from = at;
            loop {
                match self::line(&bytes[at..]) {
                    Ok(Some(line)) => at += line.len() + 2,
                    Ok(None) => return Body { content, used: at, trailers: b"", end: End::Partial },
                    Err(()) => return Body { content, used: at, trailers: b"", end: End::Bad },
                }
                if bytes[..at].ends_with(b"\r\n\r\n") {
                    return Body { content, used: at, trailers: &bytes[from..at], end: End::Whole };
                }
            }
        }
        let have = usize::try_from(size).unwrap_or(usize::MAX).min(bytes.len() - at);
        content.extend_from_slice(&bytes[at..at + have]);
        at += have;
        if (have as u64) < size {
            break End::Partial;
        }
        match &bytes[at..] {
            [] | [b'\r'] => break End::Partial,
            [b'\r', b'\n', ..] => at += 2,
            _ => break End::Bad,
        }
    };
    Body { content, used: at, trailers: b"", end }
}

/// The first line without its CRLF; an error if it ends in a bare LF.
fn line(bytes: &[u8]) -> Result<Option<&[u8]>, ()> {
    let Some(lf) = bytes.iter().position(|&byte| byte == b'\n') else { return Ok(None) };
    bytes[..lf].strip_suffix(b"\r").map(Some).ok_or(())
}

fn chunk_size(line: &[u8]) -> Option<u64> {
    let text: String = line.iter().map(|&byte| char::from(byte)).collect();
    let (size, extensions) = match text.split_once(';') {
        Some((size, extensions)) => (size, Some(extensions)),
        None => (&text[..], None),
    };
    if size.len() > 16 || !size.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let size = u64::from_str_radix(size, 16).ok()?;
    extensions.is_none_or(is_extensions).then_some(size)
}

/// What stands behind the first semicolon of a chunk line.
fn is_extensions(text: &str) -> bool {
    let mut rest = text.chars().peekable();
    loop {
        let mut name = 0;
        while rest.next_if(|&c| is_tchar(c)).is_some() {
            name += 1;
        }
        let mut value = 1;
        if rest.next_if_eq(&'=').is_some() {
            value = 0;
            if rest.next_if_eq(&'"').is_some() {
                loop {
                    match rest.next() {
                        Some('"') => break,
                        Some('\\') if rest.next().is_some_and(is_text) => {}
                        Some(c) if c != '\\' && is_text(c) => {}
                        _ => return false,
                    }
                }
                value = 1;
            } else {
                while rest.next_if(|&c| is_tchar(c)).is_some() {
                    value += 1;
                }
            }
        }
        if name == 0 || value == 0 {
            return false;
        }
        match rest.next() {
            None => return true,
            Some(';') => {}
            Some(_) => return false,
        }
    }
}

fn is_tchar(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

/// Bytes, seen as Latin-1: no controls but the tab.
fn is_text(c: char) -> bool {
    c == '\t' || (c >= ' ' && c != '\x7f')
}

/// Is every line of a section `token ":" text`? Without its empty line's CRLF it may be empty.
pub fn is_section(section: &[u8]) -> bool {
    let Some(section) = section.strip_suffix(b"\r\n") else { return false };
    section.is_empty()
        || section.strip_suffix(b"\r\n").is_some_and(|section| {
            lines(section).into_iter().all(|line| {
                let colon = line.iter().position(|&byte| byte == b':').unwrap_or(0);
                colon > 0
                    && line[..colon].iter().all(|&byte| is_tchar(char::from(byte)))
                    && line[colon..].iter().all(|&byte| is_text(char::from(byte)))
            })
        })
}

/// Which way a message that we wrote goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    ToServer,
    ToClient,
}

/// Holds a head that we wrote against everything a recipient could stumble over.
pub fn strict_head(bytes: &[u8], way: Way) {
    let shown = || show(bytes);
    let Some(head) = head(bytes) else { panic!("a head without an end: {}", shown()) };
    assert_eq!(head.len, bytes.len(), "something behind the head: {}", shown());
    for (at, &byte) in bytes.iter().enumerate() {
        match byte {
            b'\r' => assert_eq!(bytes.get(at + 1), Some(&b'\n'), "bare CR at {at}: {}", shown()),
            b'\n' => assert!(at > 0 && bytes[at - 1] == b'\r', "bare LF at {at}: {}", shown()),
            byte => assert!(is_text(char::from(byte)), "control byte at {at}: {}", shown()),
        }
    }
    let section = &bytes[head.line.len() + 2..];
    assert!(is_section(section), "malformed fields: {}", shown());
    let count = |name: &str| head.values(name).len();
    let (lengths, codings) = (count("content-length"), count("transfer-encoding"));
    assert!(lengths + codings <= 1, "framed twice: {}", shown());
    assert!(head.values("transfer-encoding").iter().all(|coding| coding == b"chunked"), "odd coding: {}", shown());
    for name in ["keep-alive", "proxy-connection", "http2-settings"] {
        assert!(!head.has(name), "{name} is for one hop: {}", shown());
    }
    let connection = head.values("connection");
    match (way, &connection[..]) {
        (_, []) => assert!(!head.has("upgrade") && !head.has("te"), "unannounced: {}", shown()),
        (_, [b"Upgrade"]) => assert!(head.has("upgrade") && !head.has("te"), "odd upgrade: {}", shown()),
        (Way::ToServer, [b"TE"]) => {
            assert_eq!(head.values("te"), [b"trailers"], "odd TE: {}", shown());
            assert!(!head.has("upgrade"), "odd TE: {}", shown());
        }
        (Way::ToClient, [b"close" | b"keep-alive"]) => {
            assert!(!head.has("upgrade") && !head.has("te"), "unannounced: {}", shown());
        }
        _ => panic!("odd Connection: {}", shown()),
    }
    match way {
        Way::ToServer => strict_request(&head, bytes),
        Way::ToClient => strict_response(&head, bytes),
    }
}

fn strict_request(head: &Head<'_>, bytes: &[u8]) {
    let words: Vec<&[u8]> = head.line.split(|&byte| byte == b' ').collect();
    let [method, target, version] = words[..] else { panic!("no request line: {}", show(bytes)) };
    let token = !method.is_empty() && method.iter().all(|&byte| is_tchar(char::from(byte)));
    assert!(token, "no method: {}", show(bytes));
    assert!(target.starts_with(b"/") || (target == b"*" && method == b"OPTIONS"), "no target: {}", show(bytes));
    assert!(target.iter().all(|byte| matches!(byte, b'!'..=b'~')), "no target: {}", show(bytes));
    assert_eq!(version, b"HTTP/1.1", "{}", show(bytes));
    let hosts = head.values("host");
    assert!(hosts.len() == 1 && !hosts[0].is_empty(), "not one Host: {}", show(bytes));
    assert_eq!(head.values("via").len(), 1, "not one Via: {}", show(bytes));
    assert!(head.values("expect").iter().all(|value| value.eq_ignore_ascii_case(b"100-continue")), "{}", show(bytes));
}

fn strict_response(head: &Head<'_>, bytes: &[u8]) {
    let line = head.line;
    assert!(line.starts_with(b"HTTP/1.1 ") && line.get(12) == Some(&b' '), "no status line: {}", show(bytes));
    let status = &line[9..12];
    assert!(matches!(status, [b'1'..=b'5', b'0'..=b'9', b'0'..=b'9']), "no status: {}", show(bytes));
    if status[0] == b'1' || status == b"204" {
        assert!(
            !head.has("content-length") && !head.has("transfer-encoding"),
            "framed without a body: {}",
            show(bytes)
        );
    }
    let switching = head.list("connection").contains(&"upgrade".to_owned());
    assert_eq!(status == b"101", switching, "switching or not: {}", show(bytes));
    assert!(status[0] == b'1' || head.has("date"), "no date: {}", show(bytes));
    assert!(status[0] != b'1' || switching || !head.has("connection"), "an interim end: {}", show(bytes));
}
