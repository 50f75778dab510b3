//! A directory as a store: every name is looked up below its root, and the kernel keeps it there.
//!
//! With `openat2` (Linux 5.6) symbolic links are followed as long as they stay below the root; one that leads out, be it by `..` or
//! by an absolute path, is not found. Without it no symbolic link is followed at all.

use crate::http1::RequestHead;
use crate::origin::{Meta, Opened, RelativePath, Store, StoreError};
use rustix::fd::OwnedFd;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, open, openat, openat2};
use rustix::io::{Errno, pread, retry_on_intr};
use std::io;
use std::path::Path;

/// For reading, without ever waiting: the open of a FIFO would last until somebody writes to it. (Regular files ignore NONBLOCK.)
const READ: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);
/// A directory to look further in.
const LOOK: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS);
/// A lookup that raced with a rename somewhere says EAGAIN, and may be tried again (openat2(2)).
const TRIES: u32 = 8;

/// The files below a directory. Read with blocking calls.
#[derive(Debug)]
pub struct DirStore {
    root: OwnedFd,
    /// The kernel has `openat2`.
    beneath: bool,
}

impl DirStore {
    /// The files below `root`. The directory is held open: it may be renamed, and its place taken, without this store following.
    ///
    /// # Errors
    /// `root` is no directory, or it cannot be opened.
    pub fn new(root: &Path) -> io::Result<Self> {
        let root = open(root, LOOK, Mode::empty())?;
        // Where the call is unknown or filtered out, ENOSYS or EPERM says so.
        let beneath = openat2(&root, ".", LOOK, Mode::empty(), BENEATH).is_ok();
        Ok(DirStore { root, beneath })
    }

    fn find(&self, path: &RelativePath) -> rustix::io::Result<OwnedFd> {
        if !self.beneath {
            return self.walk(path);
        }
        let mut tries = 0;
        loop {
            tries += 1;
            match openat2(&self.root, path.as_bytes(), READ, Mode::empty(), BENEATH) {
                Err(Errno::INTR | Errno::AGAIN) if tries < TRIES => {}
                found => return found,
            }
        }
    }

    /// From directory to directory, none of which may be a symbolic link.
    fn walk(&self, path: &RelativePath) -> rustix::io::Result<OwnedFd> {
        let mut below: Option<OwnedFd> = None;
        let mut segments = path.segments().peekable();
        while let Some(segment) = segments.next() {
            let flags = if segments.peek().is_some() { LOOK } else { READ } | OFlags::NOFOLLOW;
            let at = below.as_ref().unwrap_or(&self.root);
            below = Some(retry_on_intr(|| openat(at, segment, flags, Mode::empty()))?);
        }
        below.ok_or(Errno::NOENT)
    }
}

impl Store for DirStore {
    type File = OwnedFd;

    fn open(&mut self, path: &RelativePath, _head: &RequestHead<'_, '_>) -> Result<Opened<OwnedFd>, StoreError> {
        let file = self.find(path).map_err(meaning)?;
        let stat = fstat(&file).map_err(meaning)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {}
            FileType::Directory => return Ok(Opened::Directory),
            // FIFOs, devices, sockets: nothing that can be sent as it is.
            _ => return Err(StoreError::NotFound),
        }
        let meta = Meta {
            length: u64::try_from(stat.st_size).unwrap_or(0),
            seconds: stat.st_mtime,
            nanos: stat.st_mtime_nsec as u32,
            inode: stat.st_ino,
        };
        Ok(Opened::File { file, meta })
    }

    fn read(&mut self, file: &mut OwnedFd, offset: u64, into: &mut [u8]) -> Result<usize, StoreError> {
        retry_on_intr(|| pread(&*file, &mut *into, offset)).map_err(meaning)
    }
}

/// What an error of the system means for a client.
fn meaning(error: Errno) -> StoreError {
    match error {
        // XDEV: out of the root. LOOP: too many links, or one where none is followed. NXIO, NODEV: a socket, a device without a driver.
        Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG | Errno::LOOP | Errno::XDEV | Errno::NXIO | Errno::NODEV => {
            StoreError::NotFound
        }
        Errno::ACCESS | Errno::PERM => StoreError::Forbidden,
        Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::AGAIN | Errno::INTR => StoreError::Busy,
        _ => StoreError::Failed,
    }
}
