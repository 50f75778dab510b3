//! The file of the index, made and opened, and the index in use: when it is lost another one takes its place, while
//! readers that still look into the old one find nothing there.

use crate::cache::Index;
use crate::storage::cache::files::Files;
use crate::storage::cache::home::{self, PLAIN};
use crate::storage::cache::map::{self, Watch};
use rustix::fd::OwnedFd;
use rustix::fs::{FallocateFlags, Mode, OFlags, fallocate, openat};
use rustix::io::Errno;
use std::collections::hash_map::RandomState;
use std::fs::File;
use std::hash::BuildHasher;
use std::io::{self, Write};
use std::sync::OnceLock;

pub(super) const INDEX: &str = "index";

/// An index and the state of its memory.
#[derive(Debug)]
pub(super) struct Shelf {
    pub index: Index<'static>,
    id: u64,
    watch: Watch,
    file: OwnedFd,
}

/// What an index is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To serve from one of so many objects.
    Serve(usize),
    Look,
    Change,
}

/// Why there is no index to go on with.
#[derive(Debug)]
pub(super) enum Unusable {
    Missing,
    /// It has another size than one of so many objects.
    Resized,
    /// Why not.
    Broken(String),
}

impl Shelf {
    fn new(index: Index<'static>, watch: Watch, file: File) -> Shelf {
        Shelf { id: index.id(), index, watch, file: file.into() }
    }

    /// Its file was cut, or something else was written over it.
    pub fn is_lost(&self) -> bool {
        self.watch.lost() || self.index.id() != self.id
    }

    /// Another one is found under its name, or none. Asks the system.
    pub fn is_unlinked(&self) -> bool {
        home::is_unlinked(&self.file)
    }

    pub fn open(files: &Files, purpose: Purpose) -> Result<Shelf, Unusable> {
        let broken = |error: io::Error| Unusable::Broken(error.to_string());
        let access = if purpose == Purpose::Look { OFlags::RDONLY } else { OFlags::RDWR };
        let file = match openat(files.root(), INDEX, PLAIN | access, Mode::empty()) {
            Err(Errno::NOENT) => return Err(Unusable::Missing),
            file => File::from(file.map_err(|error| broken(error.into()))?),
        };
        let size = file.metadata().map_err(broken)?.len();
        if let Purpose::Serve(objects) = purpose
            && Index::bytes_for(objects) as u64 != size
        {
            return Err(Unusable::Resized);
        }
        let map = if purpose == Purpose::Look { map::private } else { map::shared };
        let (memory, watch) = map(&file).map_err(broken)?;
        let index = Index::open(memory).map_err(|why| Unusable::Broken(why.to_string()))?;
        Ok(Shelf::new(index, watch, file))
    }

    /// Makes a new file, with an index of nothing, in place of what was there.
    pub fn create(files: &Files, objects: usize) -> io::Result<Shelf> {
        let (draft, mut file) = files.draft()?;
        let size = Index::bytes_for(objects) as u64;
        // Its blocks are taken now: a store to a mapped page has no way to say that the disk is full.
        match fallocate(&file, FallocateFlags::empty(), 0, size) {
            Err(Errno::OPNOTSUPP) => zeros(&mut file, size)?,
            result => result?,
        }
        let (memory, watch) = map::shared(&file)?;
        let id = RandomState::new().hash_one(std::process::id());
        let index = Index::create(memory, objects, id).map_err(|why| io::Error::other(why.to_string()))?;
        files.rename(&draft, INDEX)?;
        Ok(Shelf::new(index, watch, file))
    }
}

/// The shelves one after another, the newest in use. There are as many as an index was lost, which is hardly ever.
#[derive(Debug)]
pub(super) struct Shelves {
    shelf: Shelf,
    next: OnceLock<Box<Shelves>>,
}

impl Shelves {
    pub fn new(shelf: Shelf) -> Shelves {
        Shelves { shelf, next: OnceLock::new() }
    }

    fn last(&self) -> &Shelves {
        let mut last = self;
        while let Some(next) = last.next.get() {
            last = next;
        }
        last
    }

    pub fn newest(&self) -> &Shelf {
        &self.last().shelf
    }

    pub fn push(&self, shelf: Shelf) {
        let mut shelves = Box::new(Shelves::new(shelf));
        while let Err(back) = self.last().next.set(shelves) {
            shelves = back;
        }
    }
}

fn zeros(file: &mut File, size: u64) -> io::Result<()> {
    let block = [0; 1 << 16];
    let mut left = size as usize;
    while left > 0 {
        let now = left.min(block.len());
        file.write_all(&block[..now])?;
        left -= now;
    }
    Ok(())
}
