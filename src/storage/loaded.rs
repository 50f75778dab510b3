//! What was found: an answer, where its bytes are, and what it stands on.

use crate::base::Micros;
use crate::origin::StoreError;
use crate::origin::coding::Coding;
use crate::origin::condition::ETag;
use crate::origin::media::Media;
use crate::origin::store::{Cached, Facts, Vary};
use crate::storage::flight::Flight;
use crate::storage::root::{Root, Stamp, meaning};
use rustix::fd::OwnedFd;
use rustix::fs::{FileType, MemfdFlags, fstat, fstatfs, memfd_create};
use rustix::io::{Errno, pwrite, retry_on_intr};
use std::io;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// What is no larger is sent from memory, in one piece with its head. Of larger files sending the pages costs less than copying them:
/// of 64 KiB 0.65 of nginx's CPU time, where copying took 1.36.
pub(super) const IN_MEMORY: u64 = 8 * 1024;

/// What was found.
#[derive(Clone)]
pub(super) enum Loading {
    Directory,
    Loaded(Arc<Loaded>),
}

impl Loading {
    pub fn loaded(loaded: Loaded) -> Loading {
        Loading::Loaded(Arc::new(loaded))
    }

    /// The same for somebody else, who asked later.
    pub fn joined(self) -> Loading {
        match self {
            Loading::Loaded(loaded) if matches!(loaded.facts.cached, Cached::Made { joined: false, .. }) => {
                let cached = Cached::Made { stored: false, joined: true };
                let facts = Facts { cached, ..loaded.facts };
                Loading::loaded(Loaded { facts, ..Arc::unwrap_or_clone(loaded) })
            }
            other => other,
        }
    }
}

/// An answer, ready or under way.
#[derive(Clone)]
pub(super) struct Loaded {
    pub facts: Facts,
    pub body: Body,
    /// It is right as long as these hold.
    pub guards: Arc<[Guard]>,
    /// It lies in the cache.
    pub kept: Option<Kept>,
    /// It may be used again while the guards hold.
    pub lasts: bool,
}

/// Where the bytes of an answer are.
#[derive(Clone)]
pub enum Body {
    Memory(Arc<[u8]>),
    /// `resident`: no byte of it can be anywhere but in memory.
    File {
        file: Arc<OwnedFd>,
        resident: bool,
    },
    Growing(Arc<Flight>),
}

/// What must be found under a name: this file, or nothing.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    pub name: Box<[u8]>,
    pub stamp: Option<Stamp>,
}

/// An object of the cache.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub key: Arc<[u8]>,
    /// In seconds of the cache's clock.
    pub made: u32,
    /// Of the cache before it was loaded: in another one it counts no more.
    pub epoch: u64,
}

impl Body {
    /// An open file that is sent from where it is.
    pub fn file(file: Arc<OwnedFd>) -> Body {
        const TMPFS: i64 = 0x0102_1994;
        let resident = fstatfs(&file).is_ok_and(|system| system.f_type == TMPFS);
        Body::File { file, resident }
    }

    /// Bytes of ours. More than a few are put where the system can send them from without copying, and nobody else can
    /// change them.
    pub fn of(bytes: &[u8]) -> Body {
        if bytes.len() as u64 > IN_MEMORY
            && let Ok(file) = anonymous(bytes)
        {
            return Body::File { file: Arc::new(file), resident: true };
        }
        Body::Memory(bytes.into())
    }
}

/// A file without a name, in memory.
fn anonymous(bytes: &[u8]) -> io::Result<OwnedFd> {
    let file = memfd_create("pilb-answer", MemfdFlags::CLOEXEC)?;
    let mut at = 0;
    while at < bytes.len() {
        at += retry_on_intr(|| pwrite(&file, &bytes[at..], at as u64))?;
    }
    Ok(file)
}

impl Guard {
    fn is(name: &[u8], stamp: Stamp) -> Guard {
        Guard { name: name.into(), stamp: Some(stamp) }
    }

    pub fn absent(name: &[u8]) -> Guard {
        Guard { name: name.into(), stamp: None }
    }

    /// Does it hold now? Not if that cannot be said at once.
    pub fn holds(&self, root: &Root) -> bool {
        match root.see_now(&self.name) {
            Ok(stamp) => self.stamp == Some(stamp),
            Err(error) => self.stamp.is_none() && error != Errno::AGAIN && meaning(error) == StoreError::NotFound,
        }
    }
}

/// A regular file that was opened.
pub(super) struct Source {
    pub name: Vec<u8>,
    pub file: Arc<OwnedFd>,
    pub stamp: Stamp,
}

impl Source {
    /// Are the facts of the open file still those that were seen first?
    pub fn is_unchanged(&self) -> bool {
        fstat(&self.file).is_ok_and(|stat| Stamp::of(&stat) == self.stamp)
    }

    pub fn guard(&self) -> Guard {
        Guard::is(if self.name.is_empty() { b"." } else { &self.name }, self.stamp)
    }
}

/// What an open file is. `None`: a directory.
pub(super) fn opened(name: Vec<u8>, file: OwnedFd) -> Result<Option<Source>, StoreError> {
    let stamp = Stamp::of(&fstat(&file).map_err(meaning)?);
    match stamp.kind {
        FileType::RegularFile => Ok(Some(Source { name, file: Arc::new(file), stamp })),
        FileType::Directory => Ok(None),
        // FIFOs, devices, sockets: nothing that can be sent as it is.
        _ => Err(StoreError::NotFound),
    }
}

/// The answer that sends a file as it is.
pub(super) fn plain(
    file: &Source,
    of: Option<&Source>,
    coding: Option<Coding>,
    body: Body,
    hash: Option<u128>,
) -> Loaded {
    let stamp = &file.stamp;
    let (seconds, nanos) = stamp.modified;
    let tag = match hash {
        Some(hash) => ETag::of_content(hash, coding),
        None => ETag::of_facts(stamp.length, seconds, nanos, coding),
    };
    let source = of.unwrap_or(file);
    let media = Media::of(&source.name);
    let facts = Facts {
        status: 200,
        length: Some(stamp.length),
        tag: Some(tag),
        modified: Some(source.stamp.modified.0),
        media,
        coding,
        varies: if coding.is_some() || media.compressible() { Vary::Coding } else { Vary::Nothing },
        fields: "",
        cached: Cached::Not,
    };
    let lasts = !stamp.is_fresh(unix_now()) && file.is_unchanged();
    let guards = of.map(Source::guard).into_iter().chain([file.guard()]).collect();
    Loaded { facts, body, guards, kept: None, lasts }
}

/// All bytes of a small file.
pub(super) fn read_whole(
    length: u64,
    read: impl Fn(&mut [u8], u64) -> Result<usize, Errno>,
) -> Result<Vec<u8>, StoreError> {
    let mut bytes = vec![0; length as usize];
    let mut at = 0;
    while at < bytes.len() {
        match retry_on_intr(|| read(&mut bytes[at..], at as u64)).map_err(meaning)? {
            // It became shorter meanwhile.
            0 => return Err(StoreError::Failed),
            n => at += n,
        }
    }
    Ok(bytes)
}

/// The wall clock.
pub(super) fn unix_now() -> Micros {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as Micros)
}
