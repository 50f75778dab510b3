//! What a request is answered with: the head and any short body as bytes, and the content that follows.
//!
//! (Writing to a `Vec` cannot fail, so what `write!` returns is dropped.)

use crate::base::date::http_date;
use crate::base::time::SECOND;
use crate::base::{DateLine, Micros, Now};
use crate::engine::{CloseReason, SessionId};
use crate::http1::encode::{self, Persist, Shape};
use crate::http1::{Fields, Method, RequestHead, Version};
use crate::origin::Rule;
use crate::origin::coding::Accept;
use crate::origin::condition::{self, Verdict};
use crate::origin::media::Media;
use crate::origin::path::{INDEX, RelativePath};
use crate::origin::range::{self, Multipart, Part, Parts, Ranges};
use crate::origin::sending::Sending;
use crate::origin::store::{Ask, Cached, Facts, Opened, Page, Purge, Store, StoreError, Vary};
use std::hash::{BuildHasher, RandomState};
use std::io::Write;

/// What may be done with every resource here (RFC 9110 §10.2.1).
const ALLOW: &[u8] = b"Allow: GET, HEAD, OPTIONS\r\n";
const PLAIN: Media = Media { name: "text/plain", charset: "; charset=utf-8" };
/// This cache's name in Cache-Status (RFC 9211).
const CACHE: &[u8] = b"Cache-Status: pilb-origin";

/// Where answers are written before they are put into a flow.
pub(super) struct Desk {
    out: Vec<u8>,
    date: DateLine,
    /// The field lines that the store wants on every answer.
    standing: Vec<u8>,
    /// Draws the boundaries of multipart bodies, which nobody who writes content can foresee.
    random: RandomState,
    drawn: u64,
}

impl Desk {
    pub fn new(standing: Vec<u8>) -> Self {
        Desk { out: Vec::new(), date: DateLine::new(), standing, random: RandomState::new(), drawn: 0 }
    }

    /// A blank sheet for an answer given at `unix` to a client of HTTP/`version`.
    pub fn sheet<'a>(&'a mut self, unix: Micros, shape: Shape, version: Version, rules: &'a [Rule]) -> Sheet<'a> {
        self.out.clear();
        self.drawn += 1;
        Sheet {
            out: &mut self.out,
            date: self.date.at(unix),
            unix,
            standing: &self.standing,
            shape,
            version,
            rules,
            boundary: (&self.random, self.drawn),
        }
    }

    /// What was written on the last sheet.
    pub fn written(&self) -> &[u8] {
        &self.out
    }
}

/// One answer being written, and what every answer of this moment says.
pub(super) struct Sheet<'a> {
    out: &'a mut Vec<u8>,
    date: &'a [u8],
    unix: Micros,
    standing: &'a [u8],
    shape: Shape,
    version: Version,
    rules: &'a [Rule],
    boundary: (&'a RandomState, u64),
}

/// An answer, of which the sheet holds the beginning.
#[derive(Debug)]
pub(super) struct Reply<F> {
    pub status: u16,
    /// Bytes of the sheet that are the head.
    pub head: usize,
    /// How an exchange with this answer ends if nothing goes wrong any more.
    pub end: CloseReason,
    /// What exactly was wrong, or empty.
    pub detail: &'static str,
    pub content: Option<Sending<F>>,
}

/// Who asks, and when.
pub(super) struct Asker {
    pub session: SessionId,
    pub now: Now,
    /// It is a PURGE of somebody who may empty the cache.
    pub purge: bool,
}

/// Answers a well-formed request. `None`: the store does not know yet.
pub(super) fn respond<S: Store>(
    store: &mut S,
    path: &mut RelativePath,
    head: &RequestHead<'_, '_>,
    asker: &Asker,
    sheet: &mut Sheet<'_>,
) -> Option<Reply<S::File>> {
    match head.method {
        Method::Get | Method::Head => {}
        // Every resource allows the same, so neither `*` nor a path is looked at.
        Method::Options => return Some(sheet.options()),
        _ if asker.purge => {}
        _ => return Some(sheet.plain(405, "")),
    }
    let (_, target) = head.target.forwarded(head.method);
    let question = memchr::memchr(b'?', target).unwrap_or(target.len());
    let (name, query) = target.split_at(question);
    if let Err(fault) = path.decode(name) {
        return Some(sheet.plain(fault.status(), fault.word()));
    }
    if asker.purge {
        return match store.purge(path, asker.session) {
            Purge::Wait => None,
            Purge::NoCache => Some(sheet.plain(404, "no-cache")),
            Purge::Dropped(answers) => Some(sheet.purged(answers)),
        };
    }
    let index = path.is_directory();
    if index {
        path.push(INDEX);
    }
    let accept = Accept::of(&head.fields);
    match store.open(&Ask { path, index, head, accept, session: asker.session, now: asker.now }) {
        Ok(Opened::Wait) => None,
        Ok(Opened::File { file, facts }) => Some(sheet.file(path, head, file, &facts)),
        Ok(Opened::Page(page)) => Some(sheet.made(&page)),
        Ok(Opened::Directory) if index => Some(sheet.plain(404, "")),
        Ok(Opened::Directory) => Some(sheet.redirect(path, query)),
        Err(StoreError::Busy) => Some(sheet.page(503, CloseReason::StoreBusy, "")),
        Err(StoreError::Failed) => Some(sheet.page(500, CloseReason::StoreFailed, "")),
        Err(error) => Some(sheet.plain(error.status(), error.word())),
    }
}

/// What of a file is sent.
enum Portion {
    Whole,
    One(Part),
    Many(Box<Parts>),
}

impl Sheet<'_> {
    /// A page that says a status and, of an exchange that ends badly, the words of the access log. A 404 says nothing
    /// more: what is hidden must look like what is not there.
    pub fn page<F>(&mut self, status: u16, end: CloseReason, detail: &'static str) -> Reply<F> {
        let words: [&str; 5] = match (end, detail) {
            (CloseReason::Done, _) => [""; 5],
            (end, "") => [": ", end.word(), "", "", ""],
            (end, detail) => [": ", end.word(), " (", detail, ")"],
        };
        let mut digits = itoa::Buffer::new();
        let line = [digits.format(status), " ", encode::reason(status)];
        let text = || line.iter().chain(&words).chain(&["\n"]);
        self.begin(status);
        if status == 405 {
            // RFC 9110 §15.5.6.
            self.out.extend_from_slice(ALLOW);
        }
        self.media(PLAIN);
        self.length(text().map(|piece| piece.len() as u64).sum());
        let head = self.end();
        if !self.shape.head {
            self.out.extend(text().flat_map(|piece| piece.bytes()));
        }
        Reply { status, head, end, detail, content: None }
    }

    /// A page for a request that was understood.
    fn plain<F>(&mut self, status: u16, detail: &'static str) -> Reply<F> {
        let end = if status == 400 { CloseReason::BadRequest } else { CloseReason::Done };
        self.page(status, end, detail)
    }

    // ---- files

    /// A file, if the request's conditions let it (RFC 9110 §13), and as much of it as is asked for (§14).
    fn file<F>(&mut self, path: &RelativePath, head: &RequestHead<'_, '_>, file: F, facts: &Facts) -> Reply<F> {
        if facts.status != 200 {
            return self.content(path, file, facts, facts.status, &Portion::Whole);
        }
        match condition::judge(&head.fields, facts.tag.as_ref(), facts.modified.map(condition::last_modified)) {
            Verdict::Serve => {}
            Verdict::NotModified => return self.not_modified(path, facts),
            Verdict::Failed => return self.plain(412, ""),
        }
        let portion = match (head.method, facts.length) {
            (Method::Get, Some(length)) if self.ranges_count(&head.fields, facts) => {
                match range::wanted(&head.fields, length) {
                    Ranges::Whole => Portion::Whole,
                    Ranges::Unsatisfiable => return self.unsatisfiable(length),
                    Ranges::Parts(parts) => match parts.as_slice() {
                        [part] => Portion::One(*part),
                        _ => Portion::Many(Box::new(parts)),
                    },
                }
            }
            _ => Portion::Whole,
        };
        let status = if matches!(portion, Portion::Whole) { 200 } else { 206 };
        self.content(path, file, facts, status, &portion)
    }

    fn ranges_count(&self, fields: &Fields<'_, '_>, facts: &Facts) -> bool {
        let (Some(tag), Some(seconds)) = (&facts.tag, facts.modified) else { return false };
        condition::range_holds(fields, tag, condition::last_modified(seconds), http_date(self.unix / SECOND))
    }

    fn content<F>(&mut self, path: &RelativePath, file: F, facts: &Facts, status: u16, portion: &Portion) -> Reply<F> {
        self.begin(status);
        let sending = match (portion, facts.length) {
            (Portion::One(part), Some(length)) => {
                self.media(facts.media);
                range::content_range(self.out, *part, length);
                self.length(part.length());
                Sending::new(file, part.start, part.end)
            }
            (Portion::Many(parts), Some(length)) => {
                let (random, drawn) = self.boundary;
                let boundary = u128::from(random.hash_one(drawn)) << 64 | u128::from(random.hash_one((drawn, 0)));
                let multipart = Multipart::new(boundary, facts.media, length);
                multipart.content_type(self.out);
                self.length(multipart.total(parts));
                Sending::parts(file, parts, &multipart)
            }
            (_, Some(length)) => {
                self.media(facts.media);
                self.length(length);
                Sending::new(file, 0, length)
            }
            (_, None) => {
                self.media(facts.media);
                self.growing(file)
            }
        };
        if let Some(coding) = facts.coding {
            encode::field(self.out, "Content-Encoding", coding.token().as_bytes());
        }
        if facts.tag.is_some() {
            self.out.extend_from_slice(b"Accept-Ranges: bytes\r\n");
        }
        self.out.extend_from_slice(facts.fields.as_bytes());
        self.validators(path, facts);
        let head = self.end();
        let content = (!self.shape.head && !sending.is_through()).then_some(sending);
        Reply { status, head, end: CloseReason::Done, detail: "", content }
    }

    /// What a client that has the content already still needs to know (§15.4.5).
    fn not_modified<F>(&mut self, path: &RelativePath, facts: &Facts) -> Reply<F> {
        self.begin(304);
        self.validators(path, facts);
        Reply { status: 304, head: self.end(), end: CloseReason::Done, detail: "", content: None }
    }

    fn unsatisfiable<F>(&mut self, length: u64) -> Reply<F> {
        self.begin(416);
        range::unsatisfied(self.out, length);
        self.length(0);
        Reply { status: 416, head: self.end(), end: CloseReason::Done, detail: "", content: None }
    }

    fn validators(&mut self, path: &RelativePath, facts: &Facts) {
        if let Some(seconds) = facts.modified {
            // A date later than that of the answer must not be sent (§8.8.2.1).
            let shown = condition::last_modified(seconds).min(http_date(self.unix / SECOND));
            let _ = write!(self.out, "Last-Modified: {shown}\r\n");
        }
        if let Some(tag) = &facts.tag {
            encode::field(self.out, "ETag", tag.as_bytes());
        }
        self.out.extend_from_slice(match facts.varies {
            Vary::Nothing => b"",
            Vary::Coding => b"Vary: Accept-Encoding\r\n",
            Vary::Media => b"Vary: Accept\r\n",
        });
        if facts.status == 200
            && let Some(rule) = Rule::of(self.rules, path)
        {
            encode::field(self.out, "Cache-Control", rule.value.as_bytes());
        }
        self.cached(facts.cached);
    }

    fn cached(&mut self, cached: Cached) {
        let made = match cached {
            Cached::Not => return,
            Cached::Hit { age, left } => {
                self.out.extend_from_slice(b"Age: ");
                encode::decimal(self.out, u64::from(age));
                self.out.extend_from_slice(b"\r\n");
                self.out.extend_from_slice(CACHE);
                self.out.extend_from_slice(b"; hit; ttl=");
                return self.number_line(u64::from(left));
            }
            Cached::Made { stored: false, joined: false } => &b"; fwd=miss\r\n"[..],
            Cached::Made { stored: false, joined: true } => b"; fwd=miss; collapsed\r\n",
            Cached::Made { stored: true, joined: false } => b"; fwd=miss; stored\r\n",
            Cached::Made { stored: true, joined: true } => b"; fwd=miss; stored; collapsed\r\n",
        };
        self.out.extend_from_slice(CACHE);
        self.out.extend_from_slice(made);
    }

    // ---- other answers

    /// A page that the store made.
    fn made<F>(&mut self, page: &Page) -> Reply<F> {
        self.begin(page.status);
        self.media(Media { name: page.media, charset: "" });
        self.length(page.body.len() as u64);
        self.out.extend_from_slice(page.fields.as_bytes());
        let head = self.end();
        if !self.shape.head {
            self.out.extend_from_slice(&page.body);
        }
        Reply { status: page.status, head, end: CloseReason::Done, detail: "", content: None }
    }

    /// To the same path with a slash, so that relative links of the directory's page lead into it.
    fn redirect<F>(&mut self, path: &RelativePath, query: &[u8]) -> Reply<F> {
        self.begin(301);
        // Only a path: the host is whatever the client called us. It begins with exactly one slash, so that it can name
        // no other host. The query is of visible ASCII, as every target is.
        let _ = write!(self.out, "Location: /{}/", path.encoded());
        self.out.extend_from_slice(query);
        self.out.extend_from_slice(b"\r\n");
        self.media(PLAIN);
        self.length(0);
        Reply { status: 301, head: self.end(), end: CloseReason::Done, detail: "", content: None }
    }

    fn options<F>(&mut self) -> Reply<F> {
        self.begin(204);
        self.out.extend_from_slice(ALLOW);
        Reply { status: 204, head: self.end(), end: CloseReason::Done, detail: "", content: None }
    }

    /// How many kept answers a PURGE has dropped.
    fn purged<F>(&mut self, dropped: u64) -> Reply<F> {
        let text = format!("{dropped} dropped\n");
        self.begin(200);
        self.media(PLAIN);
        self.length(text.len() as u64);
        let head = self.end();
        self.out.extend_from_slice(text.as_bytes());
        Reply { status: 200, head, end: CloseReason::Done, detail: "", content: None }
    }

    // ---- the parts of a head

    fn begin(&mut self, status: u16) {
        encode::status_line(self.out, status, encode::reason(status).as_bytes());
        self.out.extend_from_slice(self.date);
        self.out.extend_from_slice(self.standing);
    }

    fn media(&mut self, media: Media) {
        self.out.extend_from_slice(b"Content-Type: ");
        self.out.extend_from_slice(media.name.as_bytes());
        self.out.extend_from_slice(media.charset.as_bytes());
        self.out.extend_from_slice(b"\r\n");
    }

    fn length(&mut self, length: u64) {
        self.out.extend_from_slice(b"Content-Length: ");
        self.number_line(length);
    }

    /// The end of a line that ends in a number.
    fn number_line(&mut self, number: u64) {
        encode::decimal(self.out, number);
        self.out.extend_from_slice(b"\r\n");
    }

    /// Content whose length is not known yet: in chunks, or for HTTP/1.0 until the connection ends.
    fn growing<F>(&mut self, file: F) -> Sending<F> {
        if self.version == Version::Http11 {
            self.out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
            return Sending::in_chunks(file);
        }
        if !self.shape.head {
            self.shape.persist = Persist::Close;
        }
        Sending::until_close(file)
    }

    /// Ends the head, and tells its length.
    fn end(&mut self) -> usize {
        self.out.extend_from_slice(self.shape.persist.line());
        self.out.extend_from_slice(b"\r\n");
        self.out.len()
    }
}
