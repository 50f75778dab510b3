//! What a request is answered with: the head and any short body as bytes, and the file whose bytes follow.
//!
//! (Writing to a `Vec` cannot fail, so what `write!` returns is dropped.)

use crate::base::date::http_date;
use crate::base::time::SECOND;
use crate::base::{DateLine, Micros};
use crate::engine::CloseReason;
use crate::http1::encode::{self, Shape};
use crate::http1::{Method, RequestHead};
use crate::origin::condition::{self, ETag, Verdict};
use crate::origin::media::Media;
use crate::origin::path::RelativePath;
use crate::origin::store::{Meta, Opened, Page, Store};
use std::io::Write;

/// The file that a directory's path stands for.
const INDEX: &[u8] = b"index.html";
/// What may be done with every resource here (RFC 9110 §10.2.1).
const ALLOW: &[u8] = b"Allow: GET, HEAD, OPTIONS\r\n";
const PLAIN: Media = Media { name: "text/plain", charset: "; charset=utf-8" };

/// Where answers are written before they are put into a flow.
pub(super) struct Desk {
    out: Vec<u8>,
    date: DateLine,
    /// The field lines that the store wants on every answer.
    standing: Vec<u8>,
}

impl Desk {
    pub fn new(standing: Vec<u8>) -> Self {
        Desk { out: Vec::new(), date: DateLine::new(), standing }
    }

    /// A blank sheet for an answer given at `unix`.
    pub fn sheet(&mut self, unix: Micros, shape: Shape) -> Sheet<'_> {
        self.out.clear();
        Sheet { out: &mut self.out, date: self.date.at(unix), unix, standing: &self.standing, shape }
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
    pub file: Option<Sending<F>>,
}

/// A file being sent: its bytes from `offset` to `end` are still owed.
#[derive(Debug)]
pub(super) struct Sending<F> {
    pub file: F,
    pub offset: u64,
    pub end: u64,
}

/// Answers a well-formed request.
pub(super) fn respond<S: Store>(
    store: &mut S,
    path: &mut RelativePath,
    head: &RequestHead<'_, '_>,
    sheet: &mut Sheet<'_>,
) -> Reply<S::File> {
    match head.method {
        Method::Get | Method::Head => {}
        // Every resource allows the same, so neither `*` nor a path is looked at.
        Method::Options => return sheet.options(),
        _ => return sheet.plain(405, ""),
    }
    let (_, target) = head.target.forwarded(head.method);
    let question = memchr::memchr(b'?', target).unwrap_or(target.len());
    let (name, query) = target.split_at(question);
    if let Err(fault) = path.decode(name) {
        return sheet.plain(fault.status(), fault.word());
    }
    let index = path.is_directory();
    if index {
        path.push(INDEX);
    }
    match store.open(path, head) {
        Ok(Opened::File { file, meta }) => sheet.file(path, head, file, &meta),
        Ok(Opened::Page(page)) => sheet.made(&page),
        Ok(Opened::Directory) if index => sheet.plain(404, ""),
        Ok(Opened::Directory) => sheet.redirect(path, query),
        Err(error) => sheet.plain(error.status(), error.word()),
    }
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
        self.content(PLAIN, text().map(|piece| piece.len() as u64).sum());
        let head = self.end();
        if !self.shape.head {
            self.out.extend(text().flat_map(|piece| piece.bytes()));
        }
        Reply { status, head, end, detail, file: None }
    }

    /// A page for a request that was understood.
    fn plain<F>(&mut self, status: u16, detail: &'static str) -> Reply<F> {
        let end = if status == 400 { CloseReason::BadRequest } else { CloseReason::Done };
        self.page(status, end, detail)
    }

    /// A file, if the request's conditions let it (RFC 9110 §13).
    fn file<F>(&mut self, path: &RelativePath, head: &RequestHead<'_, '_>, file: F, meta: &Meta) -> Reply<F> {
        let (tag, modified) = (ETag::of(meta), condition::last_modified(meta));
        let status = match condition::judge(&head.fields, &tag, modified) {
            Verdict::Serve => 200,
            Verdict::NotModified => 304,
            Verdict::Failed => return self.plain(412, ""),
        };
        self.begin(status);
        if status == 200 {
            self.content(Media::of(path), meta.length);
            self.out.extend_from_slice(b"Accept-Ranges: none\r\n");
        }
        // A date later than that of the answer must not be sent (§8.8.2.1).
        let shown = modified.min(http_date(self.unix / SECOND));
        let _ = write!(self.out, "Last-Modified: {shown}\r\n");
        encode::field(self.out, "ETag", tag.as_bytes());
        let sent = status == 200 && !self.shape.head && meta.length > 0;
        let file = sent.then_some(Sending { file, offset: 0, end: meta.length });
        Reply { status, head: self.end(), end: CloseReason::Done, detail: "", file }
    }

    /// A page that the store made.
    fn made<F>(&mut self, page: &Page) -> Reply<F> {
        self.begin(page.status);
        self.content(Media { name: page.media, charset: "" }, page.body.len() as u64);
        self.out.extend_from_slice(page.fields.as_bytes());
        let head = self.end();
        if !self.shape.head {
            self.out.extend_from_slice(&page.body);
        }
        Reply { status: page.status, head, end: CloseReason::Done, detail: "", file: None }
    }

    /// To the same path with a slash, so that relative links of the directory's page lead into it.
    fn redirect<F>(&mut self, path: &RelativePath, query: &[u8]) -> Reply<F> {
        self.begin(301);
        // Only a path: the host is whatever the client called us. It begins with exactly one slash, so that it can name
        // no other host. The query is of visible ASCII, as every target is.
        let _ = write!(self.out, "Location: /{}/", path.encoded());
        self.out.extend_from_slice(query);
        self.out.extend_from_slice(b"\r\n");
        self.content(PLAIN, 0);
        Reply { status: 301, head: self.end(), end: CloseReason::Done, detail: "", file: None }
    }

    fn options<F>(&mut self) -> Reply<F> {
        self.begin(204);
        self.out.extend_from_slice(ALLOW);
        Reply { status: 204, head: self.end(), end: CloseReason::Done, detail: "", file: None }
    }

    // ---- the parts of a head

    fn begin(&mut self, status: u16) {
        encode::status_line(self.out, status, encode::reason(status).as_bytes());
        self.out.extend_from_slice(self.date);
        self.out.extend_from_slice(self.standing);
    }

    fn content(&mut self, media: Media, length: u64) {
        self.out.extend_from_slice(b"Content-Type: ");
        self.out.extend_from_slice(media.name.as_bytes());
        self.out.extend_from_slice(media.charset.as_bytes());
        self.out.extend_from_slice(b"\r\nContent-Length: ");
        encode::decimal(self.out, length);
        self.out.extend_from_slice(b"\r\n");
    }

    /// Ends the head, and tells its length.
    fn end(&mut self) -> usize {
        self.out.extend_from_slice(self.shape.persist.line());
        self.out.extend_from_slice(b"\r\n");
        self.out.len()
    }
}
