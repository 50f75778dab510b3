//! A directory's files by name: every name is looked up below the root, and the kernel keeps it there.
//!
//! With `openat2` (Linux 5.6) symbolic links are followed as long as they stay below the root; one that leads out, be
//! it by `..` or by an absolute path, is not found. Without it no symbolic link is followed at all. Names that the kernel
//! has at hand can be looked up without waiting for a disk (RESOLVE_CACHED, Linux 5.12).

use crate::base::Micros;
use crate::origin::StoreError;
use rustix::fd::OwnedFd;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat, fstat, open, openat, openat2};
use rustix::io::{Errno, retry_on_intr};
use std::io;
use std::path::Path;
use xxhash_rust::xxh3::xxh3_128;

/// For reading, without ever waiting: the open of a FIFO would last until somebody writes to it. (Regular files ignore
/// NONBLOCK.)
const READ: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);
/// A directory to look further in.
const LOOK: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
/// Only to see what is there.
const SEE: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);
const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS);
const AT_HAND: ResolveFlags = BENEATH.union(ResolveFlags::CACHED);
/// A lookup that raced with a rename somewhere says EAGAIN, and may be tried again (openat2(2)).
const TRIES: u32 = 8;

/// See the module.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
    /// The kernel has `openat2`.
    beneath: bool,
}

impl Root {
    /// The directory is held open: it may be renamed, and its place taken, without this following.
    ///
    /// # Errors
    /// `path` is no directory, or it cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        let fd = open(path, LOOK, Mode::empty())?;
        // Where the call is unknown or filtered out, ENOSYS or EPERM says so.
        let beneath = openat2(&fd, ".", LOOK, Mode::empty(), BENEATH).is_ok();
        Ok(Root { fd, beneath })
    }

    #[cfg(test)]
    pub(super) fn by_walking(self, walk: bool) -> Self {
        Root { beneath: self.beneath && !walk, ..self }
    }

    /// Opens what has this name, for reading. May wait for a disk.
    pub fn find(&self, name: &[u8]) -> Result<OwnedFd, Errno> {
        if !self.beneath {
            return self.walk(name);
        }
        let mut tries = 0;
        loop {
            tries += 1;
            match openat2(&self.fd, name, READ, Mode::empty(), BENEATH) {
                Err(Errno::INTR | Errno::AGAIN) if tries < TRIES => {}
                found => return found,
            }
        }
    }

    /// The facts of what has this name.
    pub fn see(&self, name: &[u8]) -> Result<Stat, Errno> {
        // Without openat2 no link is followed, so whoever asks (about a link) gets nothing.
        let seen = openat2(&self.fd, name, SEE, Mode::empty(), BENEATH)?;
        fstat(seen)
    }

    /// Opens it without waiting. `AGAIN`: it cannot be said at once.
    pub fn find_now(&self, name: &[u8]) -> Result<OwnedFd, Errno> {
        self.now(name, READ)
    }

    /// What has this name now, without waiting. `AGAIN`: it cannot be said at once.
    pub fn see_now(&self, name: &[u8]) -> Result<Stamp, Errno> {
        Ok(Stamp::of(&fstat(self.now(name, SEE)?)?))
    }

    fn now(&self, name: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        if !self.beneath {
            return Err(Errno::AGAIN);
        }
        openat2(&self.fd, name, flags, Mode::empty(), AT_HAND).map_err(|error| match error {
            // An older kernel does not know the flag.
            Errno::INVAL | Errno::INTR => Errno::AGAIN,
            other => other,
        })
    }

    /// From directory to directory, none of which may be a symbolic link.
    fn walk(&self, name: &[u8]) -> Result<OwnedFd, Errno> {
        let mut below: Option<OwnedFd> = None;
        let mut segments = name.split(|&byte| byte == b'/').peekable();
        while let Some(segment) = segments.next() {
            let last = segments.peek().is_none();
            let flags = if last { READ } else { LOOK } | OFlags::NOFOLLOW;
            let at = below.as_ref().unwrap_or(&self.fd);
            // The name of a directory to be listed ends in a slash; the root's is empty.
            let segment = if segment.is_empty() && last { b"." } else { segment };
            below = Some(retry_on_intr(|| openat(at, segment, flags, Mode::empty()))?);
        }
        below.ok_or(Errno::NOENT)
    }
}

/// The facts that tell whether a file is still the same: device, inode, length, and when content and inode changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub kind: FileType,
    pub length: u64,
    /// Last modification, in seconds and nanoseconds.
    pub modified: (i64, u32),
    changed: (i64, u32),
    place: (u64, u64),
}

/// A change that is no older may be followed by another one that leaves every fact as it is: the kernel's clock for file times
/// has ticks.
const TICKS: Micros = 40_000;
/// The same where a file system keeps whole seconds (FAT: every other one).
const SECONDS: Micros = 2_500_000;

impl Stamp {
    pub fn of(stat: &Stat) -> Stamp {
        Stamp {
            kind: FileType::from_raw_mode(stat.st_mode),
            length: u64::try_from(stat.st_size).unwrap_or(0),
            modified: (stat.st_mtime, stat.st_mtime_nsec as u32),
            changed: (stat.st_ctime, stat.st_ctime_nsec as u32),
            place: (stat.st_dev, stat.st_ino),
        }
    }

    /// All of it in one number, the same at the next start.
    pub fn fingerprint(&self) -> u128 {
        let parts = [
            self.length,
            self.modified.0 as u64,
            u64::from(self.modified.1),
            self.changed.0 as u64,
            u64::from(self.changed.1),
            self.place.0,
            self.place.1,
        ];
        xxh3_128(&parts.map(u64::to_le_bytes).concat())
    }

    /// Did it change so lately (or in what the clock calls the future) that what was read may not be what it ended up as?
    pub fn is_fresh(&self, unix: Micros) -> bool {
        let micros = |(seconds, nanos): (i64, u32)| {
            Micros::try_from(seconds).unwrap_or(0).saturating_mul(1_000_000) + Micros::from(nanos / 1000)
        };
        // A moment without a fraction tells of one: where fractions are kept, none is the exception.
        let ticks = if self.changed.1 == 0 { SECONDS } else { TICKS };
        micros(self.changed).saturating_add(ticks) > unix && micros(self.changed) < unix.saturating_add(ticks)
    }
}

/// What an error of the system means for a client.
pub fn meaning(error: Errno) -> StoreError {
    match error {
        // XDEV: out of the root. LOOP: too many links, or one where none is followed. NXIO, NODEV: a socket, a device
        // without a driver.
        Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG | Errno::LOOP | Errno::XDEV | Errno::NXIO | Errno::NODEV => {
            StoreError::NotFound
        }
        Errno::ACCESS | Errno::PERM => StoreError::Forbidden,
        Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::AGAIN | Errno::INTR => StoreError::Busy,
        _ => StoreError::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_fresh_for_as_long_as_the_next_one_might_not_show() {
        const AT: Micros = 1_000_000_000;
        let stamp = |nanos| Stamp {
            kind: FileType::RegularFile,
            length: 1,
            modified: (1000, nanos),
            changed: (1000, nanos),
            place: (1, 1),
        };
        let fine = [0, TICKS, SECONDS].map(|later| stamp(1).is_fresh(AT + later));
        assert_eq!(fine, [true, false, false]);
        let whole_seconds = [0, TICKS, 2_000_000, SECONDS].map(|later| stamp(0).is_fresh(AT + later));
        assert_eq!(whole_seconds, [true, true, true, false]);
        assert!(!stamp(1).is_fresh(AT - SECONDS), "in the future by far: the clock was set back");
    }
}
