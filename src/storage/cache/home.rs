//! A cache's directory: whose it is, and who is in it.
//!
//! It is marked by a `CACHEDIR.TAG` (which backup programs know) and held by a `flock` on `lock`, in which stands the
//! holder's process id. A directory with something in it and without the mark is somebody else's.

use crate::storage::cache::error::OpenError;
use rustix::fd::OwnedFd;
use rustix::fs::{Dir, FlockOperation, Mode, OFlags, flock, fstat, ftruncate, major, minor, open, openat};
use rustix::io::{Errno, pwrite};
use std::fs::{DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// Flags of every file of ours: none is a link, and no FIFO in its place stops us.
pub(super) const PLAIN: OFlags = OFlags::CLOEXEC.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);
pub(super) const FILE: Mode = Mode::from_raw_mode(0o600);
pub(super) const FOLDER: Mode = Mode::from_raw_mode(0o700);

const TAG: &str = "CACHEDIR.TAG";
const MARK: &str = "Signature: 8a477f597d28d172789f06886806bc55
# Made by pilb-origin, which empties and refills this directory as it likes.
# See https://bford.info/cachedir/ for what this file is good for.
";
/// What an empty directory may have in it.
const NOTHING: &str = "lost+found";
const LOCK: &str = "lock";

/// Opens the directory, which is made if it is not there, and takes it. It is ours as long as the second value lives.
pub(super) fn take(dir: &Path) -> Result<(OwnedFd, OwnedFd), OpenError> {
    let failed = |doing, error: io::Error| OpenError::Failed { doing, path: dir.to_owned(), error };
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| failed("make", error))?;
    let root = root(dir).map_err(|error| failed("open", error))?;
    if !marked(&root).map_err(|error| failed("read", error))?
        && !vacant(&root).map_err(|error| failed("read", error))?
    {
        return Err(OpenError::Foreign { dir: dir.to_owned() });
    }
    let lock = hold(&root, dir)?;
    Ok((root, lock))
}

/// Marks the directory, which is ours to take, and locks it.
pub(super) fn hold(root: &OwnedFd, dir: &Path) -> Result<OwnedFd, OpenError> {
    let failed = |doing, error: io::Error| OpenError::Failed { doing, path: dir.to_owned(), error };
    let write = |name, flags| openat(root, name, PLAIN | OFlags::RDWR | OFlags::CREATE | flags, FILE);
    if !marked(root).map_err(|error| failed("read", error))? {
        let tag = write(TAG, OFlags::TRUNC).map_err(io::Error::from);
        tag.and_then(|tag| File::from(tag).write_all(MARK.as_bytes())).map_err(|error| failed("write to", error))?;
    }
    let lock = write(LOCK, OFlags::empty()).map_err(|error| failed("write to", error.into()))?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Err(OpenError::InUse { dir: dir.to_owned(), pid: written(root) }),
        Err(error) => return Err(failed("lock", error.into())),
    }
    let pid = format!("{}\n", std::process::id());
    ftruncate(&lock, 0)
        .and_then(|()| pwrite(&lock, pid.as_bytes(), 0))
        .map_err(|error| failed("write to", error.into()))?;
    Ok(lock)
}

/// Nobody finds the file by a name any more.
pub(super) fn is_unlinked(file: &OwnedFd) -> bool {
    fstat(file).is_ok_and(|stat| stat.st_nlink == 0)
}

/// May whoever asks change what is in the directory?
pub(super) fn may_change(root: &OwnedFd, dir: &Path) -> Result<(), OpenError> {
    match openat(root, LOCK, PLAIN | OFlags::RDWR, Mode::empty()) {
        Ok(_) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(OpenError::Failed { doing: "change", path: dir.to_owned(), error: error.into() }),
    }
}

/// Opens a directory that is marked, and takes nothing.
pub(super) fn visit(dir: &Path) -> Result<OwnedFd, OpenError> {
    let failed = |error: io::Error| OpenError::Failed { doing: "open", path: dir.to_owned(), error };
    let root = root(dir).map_err(failed)?;
    if marked(&root).map_err(failed)? { Ok(root) } else { Err(OpenError::Foreign { dir: dir.to_owned() }) }
}

/// The process that has the directory. (It is found among the locks of the system: trying the lock could be in the
/// way of a server that starts.)
pub(super) fn holder(root: &OwnedFd) -> Option<u32> {
    let pid = written(root)?;
    let stat = fstat(openat(root, LOCK, PLAIN, Mode::empty()).ok()?).ok()?;
    let inode = format!("{:02x}:{:02x}:{}", major(stat.st_dev), minor(stat.st_dev), stat.st_ino);
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    let held = locks.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).any(|line| {
        // Some file systems have one device number for stat and another one here.
        let same = line.get(5).is_some_and(|at| *at == inode || at.rsplit(':').next() == inode.rsplit(':').next());
        line.get(1) == Some(&"FLOCK") && line.get(4).and_then(|at| at.parse().ok()) == Some(pid) && same
    });
    held.then_some(pid)
}

fn root(dir: &Path) -> io::Result<OwnedFd> {
    Ok(open(dir, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// The whole of a small text file; None if there is none.
pub(super) fn small_text(root: &OwnedFd, name: &str) -> io::Result<Option<String>> {
    let file = match openat(root, name, PLAIN, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(None),
        file => File::from(file?),
    };
    let mut text = Vec::new();
    file.take(1024).read_to_end(&mut text)?;
    Ok(Some(String::from_utf8_lossy(&text).into_owned()))
}

fn marked(root: &OwnedFd) -> io::Result<bool> {
    Ok(small_text(root, TAG)?.is_some_and(|text| text == MARK))
}

/// Nothing is in it, or the beginning of a mark whose writer was killed.
fn vacant(root: &OwnedFd) -> io::Result<bool> {
    for entry in Dir::read_from(root)? {
        match entry?.file_name().to_bytes() {
            b"." | b".." => {}
            name if name == NOTHING.as_bytes() => {}
            name if name == TAG.as_bytes() => {
                if !MARK.starts_with(&small_text(root, TAG)?.unwrap_or_default()) {
                    return Ok(false);
                }
            }
            _ => return Ok(false),
        }
    }
    Ok(true)
}

/// The process id in the lock's file.
fn written(root: &OwnedFd) -> Option<u32> {
    small_text(root, LOCK).ok()??.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use tempfile::TempDir;

    #[test]
    fn a_directory_is_made_marked_and_held() {
        let folder = TempDir::new().unwrap();
        let dir = folder.path().join("a/b");
        let (root, lock) = take(&dir).unwrap();
        let mode = |path: &str| fs::metadata(dir.join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("."), mode(TAG), mode(LOCK)), (0o700, 0o600, 0o600));
        let pid = std::process::id();
        assert_eq!((written(&root), holder(&root)), (Some(pid), Some(pid)));
        assert!(matches!(take(&dir), Err(OpenError::InUse { pid: Some(other), .. }) if other == pid));
        drop(lock);
        assert_eq!(holder(&visit(&dir).unwrap()), None);
        assert!(take(&dir).is_ok());
    }

    #[test]
    fn a_directory_of_somebody_else_is_left_alone() {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("letter"), "x").unwrap();
        assert!(matches!(take(folder.path()), Err(OpenError::Foreign { .. })));
        fs::write(folder.path().join(TAG), &MARK[..44]).unwrap();
        assert!(matches!(take(folder.path()), Err(OpenError::Foreign { .. })));
        assert!(matches!(visit(folder.path()), Err(OpenError::Foreign { .. })));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
        assert!(matches!(take(&folder.path().join("letter")), Err(OpenError::Failed { .. })));
        assert!(matches!(visit(&folder.path().join("none")), Err(OpenError::Failed { .. })));
    }

    #[test]
    fn a_new_volume_and_half_a_mark_are_vacant() {
        for length in [0, 1, MARK.len() - 1, MARK.len()] {
            let folder = TempDir::new().unwrap();
            fs::create_dir(folder.path().join(NOTHING)).unwrap();
            fs::write(folder.path().join(TAG), &MARK[..length]).unwrap();
            assert!(take(folder.path()).is_ok());
            assert_eq!(fs::read_to_string(folder.path().join(TAG)).unwrap(), MARK);
        }
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join(TAG), "Signature: of another kind").unwrap();
        assert!(matches!(take(folder.path()), Err(OpenError::Foreign { .. })));
    }
}
