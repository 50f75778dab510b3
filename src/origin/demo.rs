//! An origin that says its name, for trying out what a proxy does with several of them: a store in front of another one.
//!
//! For terminals `/` tells who answered and how many times; `/echo` shows the request as it arrived, `/bytes/N` is a body of N
//! bytes. Everything else, `/` for browsers too, is the inner store's.

use crate::base::{Content, Source};
use crate::engine::SessionId;
use crate::http1::{Method, RequestHead};
use crate::origin::condition::ETag;
use crate::origin::media::Media;
use crate::origin::path::RelativePath;
use crate::origin::store::{Ask, Cached, Facts, Opened, Page, Piece, Purge, Store, StoreError, Vary};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The body of `/bytes/N`: lines that tell where in them one is, again and again.
const LINE: &[u8; 64] = b"0123456789 abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXY\n";
/// The largest N: 10 GiB.
const MOST_BYTES: u64 = 10 << 30;
/// The generated content never changes: since 1 January 2026.
const CHANGED: i64 = 1_767_225_600;

const TEXT: &str = "text/plain; charset=utf-8";
/// Every answer is a new one, even to a cache that would keep it otherwise.
const FRESH_BY_ACCEPT: &str = "Cache-Control: no-store\r\nVary: Accept\r\n";
/// Nothing that a client sent may be taken for a page.
const FRESH_ECHO: &str = "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n";
/// A browser may keep the page, but must ask whether it still holds.
const PAGE_BY_ACCEPT: &str = "Cache-Control: no-cache\r\nVary: Accept\r\n";

/// See the module. Clones share the name and the count, so that each worker of one origin can have its own.
#[derive(Clone, Debug)]
pub struct DemoStore<S = NoFiles> {
    name: String,
    answers: Arc<AtomicU64>,
    /// Many of the lines that a generated body is made of.
    lines: Arc<[u8]>,
    inner: S,
}

/// What is sent: a body made here, which needs nothing but its offset, or what the inner store has.
#[derive(Debug)]
pub enum DemoFile<F> {
    Made,
    Inner(F),
}

impl DemoStore {
    /// The store of the origin called `name`, with nothing but what is made here.
    pub fn new(name: &str) -> Self {
        DemoStore::over(name, NoFiles)
    }
}

impl<S> DemoStore<S> {
    /// The store of the origin called `name`, in front of `inner`. A name has letters, digits and `-`, since it goes into fields as
    /// it is.
    pub fn over(name: &str, inner: S) -> Self {
        debug_assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'));
        DemoStore { name: name.to_owned(), answers: Arc::default(), lines: LINE.repeat(4096).into(), inner }
    }

    /// `/` for a terminal. Only GET counts as an answer.
    fn front(&self, head: &RequestHead<'_, '_>) -> Page {
        let asked = u64::from(head.method == Method::Get);
        let nth = Nth(self.answers.fetch_add(asked, Ordering::Relaxed) + asked);
        let body = format!("{} answered (its {nth} answer)\n", self.name).into_bytes();
        Page { status: 200, media: TEXT, fields: FRESH_BY_ACCEPT, body }
    }
}

impl<S: Store> Store for DemoStore<S> {
    type File = DemoFile<S::File>;

    fn open(&mut self, ask: &Ask<'_, '_, '_>) -> Result<Opened<Self::File>, StoreError> {
        let head = ask.head;
        let opened = match ask.path.as_bytes() {
            b"index.html" if ask.index && !wants_html(head) => return Ok(Opened::Page(self.front(head))),
            b"index.html" if ask.index => by_accept(self.inner.open(ask)?),
            b"echo" => {
                return Ok(Opened::Page(Page { status: 200, media: TEXT, fields: FRESH_ECHO, body: echo(head) }));
            }
            other => match bytes_wanted(other) {
                Some(length) => return Ok(Opened::File { file: DemoFile::Made, facts: generated(length) }),
                None => self.inner.open(ask)?,
            },
        };
        Ok(opened.map(DemoFile::Inner))
    }

    fn piece(
        &mut self,
        file: &mut Self::File,
        offset: u64,
        most: u64,
        session: SessionId,
    ) -> Result<Piece, StoreError> {
        match file {
            DemoFile::Inner(file) => self.inner.piece(file, offset, most, session),
            DemoFile::Made => {
                let start = offset % LINE.len() as u64;
                let end = start.saturating_add(most);
                Ok(Content::new(Source::Memory(self.lines.clone()), start, end).map_or(Piece::End, Piece::Here))
            }
        }
    }

    fn has_news(&self, session: SessionId) -> bool {
        self.inner.has_news(session)
    }

    fn forget(&mut self, session: SessionId) {
        self.inner.forget(session);
    }

    fn woken(&mut self, sessions: &mut Vec<SessionId>) {
        self.inner.woken(sessions);
    }

    fn purge(&mut self, path: &RelativePath, session: SessionId) -> Purge {
        self.inner.purge(path, session)
    }

    fn fields(&self) -> Vec<u8> {
        [format!("X-Origin: {}\r\n", self.name).into_bytes(), self.inner.fields()].concat()
    }
}

/// A store that has nothing.
#[derive(Clone, Copy, Debug)]
pub struct NoFiles;

impl Store for NoFiles {
    type File = Infallible;

    fn open(&mut self, _ask: &Ask<'_, '_, '_>) -> Result<Opened<Infallible>, StoreError> {
        Err(StoreError::NotFound)
    }

    fn piece(&mut self, file: &mut Infallible, _: u64, _: u64, _: SessionId) -> Result<Piece, StoreError> {
        match *file {}
    }
}

/// What is at `/` depends on whether a browser asks.
fn by_accept<F>(opened: Opened<F>) -> Opened<F> {
    match opened {
        Opened::File { file, facts } if facts.status == 200 => {
            Opened::File { file, facts: Facts { fields: PAGE_BY_ACCEPT, ..facts } }
        }
        other => other,
    }
}

fn generated(length: u64) -> Facts {
    Facts {
        status: 200,
        length: Some(length),
        tag: Some(ETag::of_facts(length, CHANGED, 0, None)),
        modified: Some(CHANGED),
        media: Media { name: "application/octet-stream", charset: "" },
        coding: None,
        varies: Vary::Nothing,
        fields: "",
        cached: Cached::Not,
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
