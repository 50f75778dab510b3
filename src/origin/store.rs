//! What the origin asks of whoever has the content: files in a directory, or pages made on the spot.

use crate::http1::RequestHead;
use crate::origin::path::RelativePath;

/// A source of content. The origin owns paths, conditions and HTTP; the store owns names, bytes and their dates.
///
/// Both calls may block for now. Nothing of the origin's state changes between asking and being answered: a request
/// stays unjudged in its flow until `open` has answered, a `read` names its own offset. So an answer "not yet" can be
/// added to both without another change than to return from the turn.
pub trait Store {
    /// An open file. Dropped when its answer was sent or given up.
    type File;

    /// Finds what `path`, which is no directory's, names. The request's head is for pages that depend on it.
    ///
    /// # Errors
    /// Why there is nothing to send.
    fn open(&mut self, path: &RelativePath, head: &RequestHead<'_, '_>) -> Result<Opened<Self::File>, StoreError>;

    /// Reads bytes of `file` at `offset`: how many were put at the start of `into`, 0 at the end of the file.
    ///
    /// # Errors
    /// The bytes cannot be had; the answer will be cut.
    fn read(&mut self, file: &mut Self::File, offset: u64, into: &mut [u8]) -> Result<usize, StoreError>;

    /// Field lines, each with its CRLF, that every answer carries. Asked once.
    fn fields(&self) -> Vec<u8> {
        Vec::new()
    }
}

/// What a path names.
#[derive(Debug)]
pub enum Opened<F> {
    /// A regular file.
    File { file: F, meta: Meta },
    /// A directory, asked for without its slash.
    Directory,
    /// Something made for this request.
    Page(Page),
}

/// The facts of a file at the moment it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// Bytes.
    pub length: u64,
    /// Last modification: seconds since the Unix epoch, and nanoseconds of that second.
    pub seconds: i64,
    pub nanos: u32,
    /// Tells two files with the same name, length and date apart.
    pub inode: u64,
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
            StoreError::Busy => 503,
            StoreError::Failed => 500,
        }
    }

    /// The word in the access log and on the page.
    pub fn word(self) -> &'static str {
        match self {
            StoreError::NotFound => "not-found",
            StoreError::Forbidden => "forbidden",
            StoreError::Busy => "store-busy",
            StoreError::Failed => "store-failed",
        }
    }
}
