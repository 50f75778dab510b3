//! The files of the objects: where they are, how they come to be there whole, and how they are read back.
//!
//! The object of the name `abcdef0123456789` is `objects/ab/cdef0123456789`. It is written in `tmp` and renamed.
//! Nothing is synced: what a loss of power leaves half written fails its checksum and is a miss.

use crate::cache::Name;
use crate::storage::cache::home::{FILE, FOLDER, PLAIN};
use crate::storage::cache::object::{HEADER, Header, LIMIT, Object};
use rustix::buffer::spare_capacity;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, fstat, mkdirat, openat, renameat, statat, unlinkat};
use rustix::io::{Errno, retry_on_intr};
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const DRAFTS: &str = "tmp";
const OBJECTS: &str = "objects";
/// An empty file that is there while an index is made from the objects.
const REBUILDING: &str = "rebuilding";
/// The number of folders in `objects`.
pub(super) const FOLDERS: usize = 256;

/// See the module.
#[derive(Debug)]
pub(super) struct Files {
    root: OwnedFd,
    drafts: AtomicU64,
}

/// What a file was found to be.
#[derive(Debug)]
pub(super) enum Found<T> {
    Good(T),
    Missing,
    /// Not what was written there.
    Bad,
    /// It could not be read now, which says nothing about it.
    Unread(io::Error),
}

/// A whole file that has not its name yet. Dropped, it is gone.
#[derive(Debug)]
pub(super) struct Draft<'f> {
    files: &'f Files,
    path: String,
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        // After `publish` there is none.
        let _ = unlinkat(&self.files.root, &*self.path, AtFlags::empty());
    }
}

/// Below the cache's directory.
pub(super) fn path(name: Name) -> String {
    format!("{OBJECTS}/{:02x}/{:014x}", name.0 >> 56, name.0 & ((1 << 56) - 1))
}

impl Files {
    pub fn new(root: OwnedFd) -> Files {
        Files { root, drafts: AtomicU64::new(0) }
    }

    pub fn root(&self) -> &OwnedFd {
        &self.root
    }

    /// Makes the folders and removes what a killed process left half written.
    pub fn prepare(&self) -> io::Result<()> {
        for folder in [DRAFTS, OBJECTS] {
            self.folder(folder)?;
        }
        let drafts = openat(&self.root, DRAFTS, OFlags::RDONLY | OFlags::DIRECTORY | PLAIN, Mode::empty())?;
        for entry in Dir::read_from(&drafts)? {
            let entry = entry?;
            if !entry.file_name().to_bytes().starts_with(b".") {
                let _ = unlinkat(&drafts, entry.file_name(), AtFlags::empty());
            }
        }
        Ok(())
    }

    fn folder(&self, path: &str) -> rustix::io::Result<()> {
        match mkdirat(&self.root, path, FOLDER) {
            Err(Errno::EXIST) => Ok(()),
            other => other,
        }
    }

    /// There is nothing in the folder of objects.
    pub fn is_empty(&self) -> bool {
        let Ok(objects) = openat(&self.root, OBJECTS, OFlags::RDONLY | OFlags::DIRECTORY | PLAIN, Mode::empty()) else {
            return true;
        };
        let mut entries = Dir::new(objects).into_iter().flatten().flatten();
        entries.all(|entry| entry.file_name().to_bytes().starts_with(b"."))
    }

    /// Notes that the index does not know all objects yet, for the case that this process does not live to change it.
    pub fn set_rebuilding(&self, yes: bool) {
        let _ = if yes {
            openat(&self.root, REBUILDING, PLAIN | OFlags::WRONLY | OFlags::CREATE, FILE).map(drop)
        } else {
            unlinkat(&self.root, REBUILDING, AtFlags::empty())
        };
    }

    pub fn is_rebuilding(&self) -> bool {
        statat(&self.root, REBUILDING, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// A new file in `tmp` for whatever is to be renamed.
    pub fn draft(&self) -> io::Result<(Draft<'_>, File)> {
        let path = format!("{DRAFTS}/{}", self.drafts.fetch_add(1, Relaxed));
        let flags = PLAIN | OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        let file = match openat(&self.root, &*path, flags, FILE) {
            // Somebody removed the folder.
            Err(Errno::NOENT) => {
                self.folder(DRAFTS)?;
                openat(&self.root, &*path, flags, FILE)?
            }
            file => file?,
        };
        Ok((Draft { files: self, path }, file.into()))
    }

    /// Gives a draft its name, in place of what had it.
    pub fn publish(&self, draft: &Draft<'_>, name: Name) -> io::Result<()> {
        let path = path(name);
        match self.rename(draft, &path) {
            Err(Errno::NOENT) => {
                self.folder(OBJECTS)?;
                self.folder(&path[..OBJECTS.len() + 3])?;
                Ok(self.rename(draft, &path)?)
            }
            other => Ok(other?),
        }
    }

    pub fn rename(&self, draft: &Draft<'_>, path: &str) -> rustix::io::Result<()> {
        renameat(&self.root, &*draft.path, &self.root, path)
    }

    /// The whole object, proven by its checksum.
    pub fn read(&self, name: Name) -> Found<Object> {
        match self.front(name, LIMIT as usize) {
            Found::Good((bytes, _)) => Object::read(bytes).map_or(Found::Bad, Found::Good),
            Found::Missing => Found::Missing,
            Found::Bad => Found::Bad,
            Found::Unread(error) => Found::Unread(error),
        }
    }

    /// The object's header and key: a file of the right size under the right name. Its body may be anything.
    pub fn peek(&self, name: Name) -> Found<(Header, Vec<u8>)> {
        let (bytes, size) = match self.front(name, 4096) {
            Found::Good(front) => front,
            Found::Missing => return Found::Missing,
            Found::Bad => return Found::Bad,
            Found::Unread(error) => return Found::Unread(error),
        };
        let Some(header) = Header::parse(&bytes).filter(|header| header.file_size() == size) else { return Found::Bad };
        let end = HEADER + header.key as usize;
        let bytes = if end <= bytes.len() {
            bytes
        } else {
            match self.front(name, end) {
                Found::Good((bytes, again)) if bytes.len() == end && again == size => bytes,
                Found::Unread(error) => return Found::Unread(error),
                _ => return Found::Bad,
            }
        };
        let key = bytes[HEADER..end].to_vec();
        if Name::of(&key) == name { Found::Good((header, key)) } else { Found::Bad }
    }

    /// Up to `most` bytes from a file's beginning, and the file's size.
    fn front(&self, name: Name, most: usize) -> Found<(Vec<u8>, u64)> {
        let read = || -> io::Result<Option<(Vec<u8>, u64)>> {
            let file = openat(&self.root, path(name), PLAIN, Mode::empty())?;
            let stat = fstat(&file)?;
            let size = u64::try_from(stat.st_size).unwrap_or(0);
            if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || size > LIMIT {
                return Ok(None);
            }
            let wanted = (size as usize).min(most);
            let mut bytes = Vec::with_capacity(wanted);
            while bytes.len() < wanted {
                if retry_on_intr(|| rustix::io::read(&file, spare_capacity(&mut bytes)))? == 0 {
                    return Ok(None);
                }
            }
            bytes.truncate(wanted);
            Ok(Some((bytes, size)))
        };
        match read() {
            Ok(Some(front)) => Found::Good(front),
            Ok(None) => Found::Bad,
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::NOENT | Errno::NOTDIR) => Found::Missing,
                Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::ACCESS | Errno::PERM) => Found::Unread(error),
                // It is a link or no file, or the disk cannot read it.
                _ => Found::Bad,
            },
        }
    }

    /// Removes an object's file; was there one?
    pub fn remove(&self, name: Name) -> bool {
        unlinkat(&self.root, path(name), AtFlags::empty()).is_ok()
    }

    /// The names of the files in one of the [`FOLDERS`]. Others than objects' are left out.
    pub fn names(&self, folder: usize) -> Vec<Name> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | PLAIN;
        let Ok(dir) = openat(&self.root, format!("{OBJECTS}/{folder:02x}"), flags, Mode::empty()) else {
            return Vec::new();
        };
        let Ok(entries) = Dir::new(dir) else { return Vec::new() };
        let parse = |text: &[u8]| {
            let rest = u64::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok()?;
            (text.len() == 14).then_some(Name((folder as u64) << 56 | rest))
        };
        entries.filter_map(|entry| parse(entry.ok()?.file_name().to_bytes())).collect()
    }
}

/// What a file of so many bytes takes from the disk.
pub(super) fn on_disk(size: u64) -> u64 {
    size.next_multiple_of(4096)
}
