//! What the origin asks of whoever has the content: files in a directory, answers made of them, or pages made on the spot.

use crate::base::{Content, Now};
use crate::engine::SessionId;
use crate::http1::RequestHead;
use crate::origin::coding::{Accept, Coding};
use crate::origin::condition::ETag;
use crate::origin::media::Media;
use crate::origin::path::RelativePath;

/// A source of content. The origin owns paths, conditions, ranges and HTTP; the store owns names, bytes and their dates.
///
/// Nothing here waits. What would take time is begun and answered by "not yet": the session is named in a later
/// [`Store::woken`], and asks again. Nothing of the origin's state has changed meanwhile: a request stays unjudged in its
/// flow until `open` has answered, a `piece` names its own offset.
pub trait Store {
    /// An open file or made answer. Dropped when it was sent or given up.
    type File;

    /// Finds what is asked for.
    ///
    /// # Errors
    /// Why there is nothing to send.
    fn open(&mut self, ask: &Ask<'_, '_, '_>) -> Result<Opened<Self::File>, StoreError>;

    /// The next bytes of `file` at `offset`: one or more, at most `most`.
    ///
    /// # Errors
    /// The bytes cannot be had; the answer will be cut.
    fn piece(&mut self, file: &mut Self::File, offset: u64, most: u64, session: SessionId)
    -> Result<Piece, StoreError>;

    /// Is there any use in asking again for a session that was told "not yet"?
    fn has_news(&self, _session: SessionId) -> bool {
        true
    }

    /// The session does not wait any more, and nothing that was begun for it alone is needed.
    fn forget(&mut self, _session: SessionId) {}

    /// Adds the sessions that were told "not yet" and may ask again.
    fn woken(&mut self, _sessions: &mut Vec<SessionId>) {}

    /// Drops what was made and kept of `path` (of everything, if that is empty).
    fn purge(&mut self, _path: &RelativePath, _session: SessionId) -> Purge {
        Purge::NoCache
    }

    /// Field lines, each with its CRLF, that every answer carries. Asked once.
    fn fields(&self) -> Vec<u8> {
        Vec::new()
    }
}

/// What is asked for.
pub struct Ask<'a, 'h, 'b> {
    /// A file's name: of a directory's path its `index.html`.
    pub path: &'a RelativePath,
    /// The path was a directory's.
    pub index: bool,
    /// For pages that depend on more than the path.
    pub head: &'a RequestHead<'h, 'b>,
    pub accept: Accept,
    /// Who asks, and is to be woken.
    pub session: SessionId,
    pub now: Now,
}

/// What a path names.
#[derive(Debug)]
pub enum Opened<F> {
    /// Content with all its facts.
    File { file: F, facts: Facts },
    /// A directory, asked for without its slash.
    Directory,
    /// Something made for this request.
    Page(Page),
    /// Not known yet.
    Wait,
}

impl<F> Opened<F> {
    /// The same with another kind of file, for a store that passes on what an inner one has.
    pub fn map<G>(self, into: impl FnOnce(F) -> G) -> Opened<G> {
        match self {
            Opened::File { file, facts } => Opened::File { file: into(file), facts },
            Opened::Directory => Opened::Directory,
            Opened::Page(page) => Opened::Page(page),
            Opened::Wait => Opened::Wait,
        }
    }
}

/// Bytes of a file.
#[derive(Debug)]
pub enum Piece {
    Here(Content),
    /// Not here yet.
    Wait,
    /// There are no more.
    End,
}

/// What became of a purge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purge {
    /// Nothing is ever kept here.
    NoCache,
    /// It is under way.
    Wait,
    /// So many answers are gone.
    Dropped(u64),
}

/// What is known of content before its first byte.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// 200, or 404 for a page that stands for what is not there. Only a 200 has conditions and ranges.
    pub status: u16,
    /// Bytes, in its content coding. `None` while it is being made.
    pub length: Option<u64>,
    pub tag: Option<ETag>,
    /// Last modification: seconds since the Unix epoch.
    pub modified: Option<i64>,
    pub media: Media,
    pub coding: Option<Coding>,
    pub varies: Vary,
    /// More field lines, each with its CRLF.
    pub fields: &'static str,
    pub cached: Cached,
}

/// What of the request, besides its target, decided what the answer is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Vary {
    #[default]
    Nothing,
    /// Accept-Encoding.
    Coding,
    /// Accept.
    Media,
}

/// What the cache had to do with it (RFC 9211).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cached {
    /// Nothing: it took no work.
    #[default]
    Not,
    /// It was kept: made so many seconds ago, and good for so many more.
    Hit { age: u32, left: u32 },
    /// It was made now. `joined`: for somebody else, who asked first.
    Made { stored: bool, joined: bool },
}

/// A whole small answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    pub status: u16,
    /// The Content-Type value.
    pub media: &'static str,
    /// More field lines, each with its CRLF.
    pub fields: &'static str,
    pub body: Vec<u8>,
}

/// Why there is no content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// No regular file or directory has this name below the root.
    NotFound,
    /// It is there, and this process may not read it.
    Forbidden,
    /// There is no form of it that the client accepts.
    NotAcceptable,
    /// Descriptors or memory have run out; later it may work.
    Busy,
    /// The disk or the file system failed.
    Failed,
}

impl StoreError {
    /// The status of the answer.
    pub fn status(self) -> u16 {
        match self {
            StoreError::NotFound => 404,
            StoreError::Forbidden => 403,
            StoreError::NotAcceptable => 406,
            StoreError::Busy => 503,
            StoreError::Failed => 500,
        }
    }

    /// The word in the access log and on the page.
    pub fn word(self) -> &'static str {
        match self {
            StoreError::NotFound => "not-found",
            StoreError::Forbidden => "forbidden",
            StoreError::NotAcceptable => "not-acceptable",
            StoreError::Busy => "store-busy",
            StoreError::Failed => "store-failed",
        }
    }
}
