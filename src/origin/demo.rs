//! A store that needs no files: an origin that says its name, for trying out what a proxy does with several of them.
//!
//! `/` tells who answered and how many times, `/echo` shows the request as it arrived, `/bytes/N` is a body of N bytes.

use crate::http1::{Method, RequestHead};
use crate::origin::path::RelativePath;
use crate::origin::store::{Meta, Opened, Page, Store, StoreError};
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The page for browsers; `{{name}}`, `{{nth}}` and `{{host}}` stand for what is filled in.
const PAGE: &str = include_str!("demo.html");
/// The body of `/bytes/N`: lines that tell where in them one is, again and again.
const LINE: &[u8; 64] = b"0123456789 abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXY\n";
/// The largest N: 10 GiB.
const MOST_BYTES: u64 = 10 << 30;
/// The generated content never changes: since 1 January 2026.
const CHANGED: i64 = 1_767_225_600;

const HTML: &str = "text/html; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";
/// Every answer is a new one, even to a cache that would keep it otherwise.
const FRESH: &str = "Cache-Control: no-store\r\n";
const FRESH_BY_ACCEPT: &str = "Cache-Control: no-store\r\nVary: Accept\r\n";
/// Nothing that a client sent may be taken for a page.
const FRESH_ECHO: &str = "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n";

/// See the module. Clones share the name and the count, so that each worker of one origin can have its own.
#[derive(Clone, Debug)]
pub struct DemoStore {
    name: String,
    answers: Arc<AtomicU64>,
}

impl DemoStore {
    /// The store of the origin called `name`: letters, digits and `-`, since it goes into fields and pages as it is.
    pub fn new(name: &str) -> Self {
        debug_assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'));
        DemoStore { name: name.to_owned(), answers: Arc::default() }
    }

    /// `/`, for a browser or for a terminal. Only GET counts as an answer.
    fn front(&self, head: &RequestHead<'_, '_>) -> Page {
        let asked = u64::from(head.method == Method::Get);
        let nth = Nth(self.answers.fetch_add(asked, Ordering::Relaxed) + asked).to_string();
        let (media, body) = if wants_html(head) {
            let page = PAGE.replace("{{name}}", &self.name).replace("{{nth}}", &nth);
            (HTML, page.replace("{{host}}", &escaped(host(head))))
        } else {
            (TEXT, format!("{} answered (its {nth} answer)\n", self.name))
        };
        Page { status: 200, media, fields: FRESH_BY_ACCEPT, body: body.into_bytes() }
    }

    fn not_here(&self, head: &RequestHead<'_, '_>) -> Page {
        let host = host(head);
        let mut body = format!("404 Not Found: {} has only these:\n\n", self.name);
        for (path, what) in [
            ("/", "who answered"),
            ("/echo", "your request as it arrived here"),
            ("/bytes/N", "a body of N bytes, up to 10737418240"),
        ] {
            // Writing to a String cannot fail.
            let _ = writeln!(body, "  http://{host}{path:10} {what}");
        }
        Page { status: 404, media: TEXT, fields: FRESH, body: body.into_bytes() }
    }
}

impl Store for DemoStore {
    /// A generated body needs nothing but its offset.
    type File = ();

    fn open(&mut self, path: &RelativePath, head: &RequestHead<'_, '_>) -> Result<Opened<()>, StoreError> {
        let page = match path.as_bytes() {
            b"index.html" => self.front(head),
            b"echo" => Page { status: 200, media: TEXT, fields: FRESH_ECHO, body: echo(head) },
            other => match bytes_wanted(other) {
                Some(length) => {
                    return Ok(Opened::File { file: (), meta: Meta { length, seconds: CHANGED, nanos: 0, inode: 0 } });
                }
                None => self.not_here(head),
            },
        };
        Ok(Opened::Page(page))
    }

    fn read(&mut self, _file: &mut (), offset: u64, into: &mut [u8]) -> Result<usize, StoreError> {
        let (start, rest) = into.split_at_mut(into.len().min(LINE.len() - (offset % 64) as usize));
        start.copy_from_slice(&LINE[(offset % 64) as usize..][..start.len()]);
        for piece in rest.chunks_mut(LINE.len()) {
            piece.copy_from_slice(&LINE[..piece.len()]);
        }
        Ok(into.len())
    }

    fn fields(&self) -> Vec<u8> {
        format!("X-Origin: {}\r\n", self.name).into_bytes()
    }
}

/// N of `bytes/N`.
fn bytes_wanted(path: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(path.strip_prefix(b"bytes/")?).ok()?;
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|&length| plain && length <= MOST_BYTES)
}

/// The request's head as it came.
fn echo(head: &RequestHead<'_, '_>) -> Vec<u8> {
    let fields = &head.fields.bytes[head.fields.start()..head.fields.end()];
    [head.line, b"\r\n", fields].concat()
}

fn wants_html(head: &RequestHead<'_, '_>) -> bool {
    head.fields
        .iter()
        .filter(|field| field.name.eq_ignore_ascii_case(b"accept"))
        .any(|field| memchr::memmem::find(&field.value.to_ascii_lowercase(), b"text/html").is_some())
}

/// What the client calls this server.
fn host<'b>(head: &RequestHead<'_, 'b>) -> &'b str {
    head.host.and_then(|host| std::str::from_utf8(host).ok()).unwrap_or("localhost")
}

/// Text in HTML or in an attribute of it: a host may hold `&` and `'`.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('\'', "&#39;").replace('"', "&quot;").replace('<', "&lt;")
}

/// An ordinal in English.
struct Nth(u64);

impl std::fmt::Display for Nth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ending = match (self.0 % 100, self.0 % 10) {
            (11..=13, _) => "th",
            (_, 1) => "st",
            (_, 2) => "nd",
            (_, 3) => "rd",
            _ => "th",
        };
        write!(f, "{}{ending}", self.0)
    }
}
