//! Writes what this engine says itself: status lines and small whole answers.

use crate::base::date::DateLine;

/// The reason phrase of a status (RFC 9110 §15), or `""`.
pub fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        200 => "OK",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        304 => "Not Modified",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

/// `HTTP/1.1 SP status SP reason CRLF`.
pub fn status_line(out: &mut Vec<u8>, status: u16, reason: &[u8]) {
    out.extend_from_slice(b"HTTP/1.1 ");
    decimal(out, u64::from(status));
    out.push(b' ');
    out.extend_from_slice(reason);
    out.extend_from_slice(b"\r\n");
}

/// A number in decimal.
pub fn decimal(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// `name: value CRLF`.
pub fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// How a small answer is framed for its client.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// The request was HEAD: the body is announced and left out.
    pub head: bool,
    /// What to say about the connection.
    pub persist: Persist,
}

/// The Connection field of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persist {
    /// HTTP/1.1 goes on without a word.
    Silent,
    /// `Connection: keep-alive`, for HTTP/1.0 clients that asked for it.
    KeepAlive,
    /// `Connection: close`.
    Close,
}

impl Persist {
    /// The field line, maybe empty.
    pub fn line(self) -> &'static [u8] {
        match self {
            Persist::Silent => b"",
            Persist::KeepAlive => b"Connection: keep-alive\r\n",
            Persist::Close => b"Connection: close\r\n",
        }
    }
}

/// A whole answer with a short text as its body; `fields` are whole lines. Returns the length of the head.
pub fn answer(out: &mut Vec<u8>, status: u16, shape: Shape, date: &[u8], fields: &[u8], text: &str) -> usize {
    debug_assert_eq!(date.len(), DateLine::LEN);
    let start = out.len();
    status_line(out, status, reason(status).as_bytes());
    out.extend_from_slice(date);
    out.extend_from_slice(fields);
    out.extend_from_slice(b"Content-Type: text/plain; charset=utf-8\r\nContent-Length: ");
    decimal(out, text.len() as u64);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(shape.persist.line());
    out.extend_from_slice(b"\r\n");
    let head = out.len() - start;
    if !shape.head {
        out.extend_from_slice(text.as_bytes());
    }
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_reads_back() {
        let mut out = Vec::new();
        let date = b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
        let head =
            answer(&mut out, 503, Shape { head: false, persist: Persist::Close }, date, b"Retry-After: 1\r\n", "no\n");
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("HTTP/1.1 503 Service Unavailable\r\nDate: "));
        assert!(text.ends_with("Content-Length: 3\r\nConnection: close\r\n\r\nno\n"));
        assert_eq!(&text[head..], "no\n");
    }
}
