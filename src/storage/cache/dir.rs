//! A directory of cached answers, opened for serving.

use crate::cache::{Index, Name, SavedClock, Writer};
use crate::storage::cache::clock::{self, Clock, Time};
use crate::storage::cache::error::OpenError;
use crate::storage::cache::files::Files;
use crate::storage::cache::home::{self, FILE, PLAIN};
use crate::storage::cache::shelf::{Purpose, Shelf, Shelves, Unusable};
use crate::storage::cache::trouble::{Notices, Storing};
use crate::storage::cache::walk::Walk;
use rustix::fd::OwnedFd;
use rustix::fs::{OFlags, openat};
use rustix::io::pwrite;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

/// The file in which the clock outlives an index.
pub(super) const CLOCK: &str = "clock";
/// An object may be made this much ahead of a clock that was read a moment ago; what is further ahead was made by another
/// clock. (The index knows the same.)
const AHEAD: u32 = 2;
/// As many names can be changed at once.
const STRIPES: usize = 64;
/// So many entries are looked at while nobody can store.
const SWEEP: usize = 1024;
/// How long one part of what [`CacheDir::tend`] does goes on.
pub(super) const SLICE: Duration = Duration::from_millis(20);

/// Where the cache is, and how much it may keep for how long.
#[derive(Clone, Debug)]
pub struct Settings {
    pub dir: PathBuf,
    /// Seconds.
    pub ttl: u32,
    /// On the disk. On top of it come files that are being written, and after a crash those that were not looked
    /// through yet.
    pub max_bytes: u64,
    pub max_objects: usize,
}

/// See the module. Shared by threads; every method that says so blocks on files.
#[derive(Debug)]
pub struct CacheDir {
    pub(super) settings: Settings,
    pub(super) files: Files,
    /// The lock on the directory.
    held: Mutex<OwnedFd>,
    /// Another process has the directory, because somebody removed the lock's file.
    taken: AtomicBool,
    clock: Clock,
    shelves: Shelves,
    writer: Mutex<Writer>,
    stripes: [Mutex<()>; STRIPES],
    pub(super) walk: Mutex<Option<Walk>>,
    pub(super) storing: Storing,
    pub(super) notices: Notices,
    /// Read for as long as something is stored or tended to.
    closed: RwLock<bool>,
    pub(super) counts: Counts,
}

/// What happened since it was opened.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub hits: AtomicU64,
    pub misses: AtomicU64,
    pub stored: AtomicU64,
    pub not_stored: AtomicU64,
    pub evicted: AtomicU64,
    pub expired: AtomicU64,
    pub bad: AtomicU64,
    pub orphans: AtomicU64,
    pub lost: AtomicU64,
}

/// Figures of a cache: what it holds, and what happened since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub objects: u64,
    pub bytes: u64,
    pub capacity: u64,
    pub hits: u64,
    pub misses: u64,
    pub stored: u64,
    pub not_stored: u64,
    /// For want of room.
    pub evicted: u64,
    /// Too old, or made from something that has changed.
    pub expired: u64,
    /// Files that were not what was written.
    pub bad: u64,
    /// Files without an entry in the index.
    pub orphans: u64,
    /// Indices that were lost while in use.
    pub lost: u64,
    /// The files are being looked through.
    pub rebuilding: bool,
    /// Storing fails at the moment.
    pub off: bool,
}

impl CacheDir {
    /// Opens the directory, which is made if it is not there, and holds it for as long as the value lives. Takes the
    /// same time however many objects there are.
    ///
    /// # Errors
    /// Another process has it, it is somebody else's, or a call of the system failed.
    pub fn open(settings: Settings) -> Result<CacheDir, OpenError> {
        CacheDir::open_at(settings, Time::system())
    }

    /// The same by a time that is given.
    pub(super) fn open_at(settings: Settings, time: Time) -> Result<CacheDir, OpenError> {
        let (root, held) = home::take(&settings.dir)?;
        let files = Files::new(root);
        let Parts { kept_clock, shelf, walk } = Parts::find(&files, &settings).map_err(|(doing, error)| {
            let path = settings.dir.clone();
            OpenError::Failed { doing, path, error }
        })?;
        let saved = shelf.index.saved_clock().or(kept_clock);
        shelf.index.set_clean(false);
        let cache = CacheDir {
            settings,
            files,
            held: Mutex::new(held),
            taken: AtomicBool::new(false),
            clock: Clock::resume(time, saved),
            shelves: Shelves::new(shelf),
            writer: Mutex::default(),
            stripes: [const { Mutex::new(()) }; STRIPES],
            walk: Mutex::new(walk),
            storing: Storing::default(),
            notices: Notices::default(),
            closed: RwLock::new(false),
            counts: Counts::default(),
        };
        cache.save_clock();
        Ok(cache)
    }

    /// The cache's own clock.
    pub fn now(&self) -> u32 {
        self.clock.now()
    }

    pub fn ttl(&self) -> u32 {
        self.settings.ttl
    }

    /// Changes when somebody, another process too, has emptied the cache: who holds copies of what was loaded under
    /// another epoch has to drop them. (To be read before the load that the copy comes from.)
    pub fn epoch(&self) -> u64 {
        self.index().epoch().wrapping_add(self.counts.lost.load(Relaxed) << 32)
    }

    /// What needs doing about once a second: saves the clock, removes what expired, makes a new index if it was lost,
    /// and goes on with looking through the files. Short, but it blocks on files. True if there is more to do at once.
    pub fn tend(&self) -> bool {
        let Some(_open) = self.while_open() else { return false };
        // If it is taken, somebody else tends to all this.
        let Ok(mut walk) = self.walk.try_lock() else { return false };
        self.save_clock();
        if self.still_ours() && (self.is_lost() || self.shelves.newest().is_unlinked()) {
            self.replace_index(&mut walk);
        }
        self.sweep();
        self.walk_on(&mut walk)
    }

    /// Removes what expired, as far as the index is looked through in a short time.
    fn sweep(&self) {
        let begun = Instant::now();
        let oldest_fresh = self.ttl().saturating_sub(1);
        for _ in 0..self.settings.max_objects.div_ceil(32 * SWEEP) {
            let mut gone = Vec::new();
            self.change(|index, writer| index.sweep(writer, self.now(), oldest_fresh, SWEEP, &mut gone));
            self.counts.expired.fetch_add(self.drop_files(&gone), Relaxed);
            if begun.elapsed() > SLICE {
                break;
            }
        }
    }

    /// Stores nothing from now on, waits for what is being stored, and marks the index as one that was left in order.
    pub fn close(&self) {
        let mut closed = self.closed.write().unwrap_or_else(PoisonError::into_inner);
        *closed = true;
        self.save_clock();
        if lock(&self.walk).is_none() && !self.is_lost() {
            self.index().set_clean(true);
        }
    }

    pub fn stats(&self) -> Stats {
        let (index, counts) = (self.index(), &self.counts);
        let count = |count: &AtomicU64| count.load(Relaxed);
        Stats {
            objects: index.objects(),
            bytes: index.bytes(),
            capacity: index.capacity() as u64,
            hits: count(&counts.hits),
            misses: count(&counts.misses),
            stored: count(&counts.stored),
            not_stored: count(&counts.not_stored),
            evicted: count(&counts.evicted),
            expired: count(&counts.expired),
            bad: count(&counts.bad),
            orphans: count(&counts.orphans),
            lost: count(&counts.lost),
            // It is taken for as long as a slice lasts.
            rebuilding: self.walk.try_lock().map_or(true, |walk| walk.is_some()),
            off: self.storing.is_off() || self.is_lost(),
        }
    }

    pub(super) fn index(&self) -> &Index<'static> {
        &self.shelves.newest().index
    }

    /// Does something that only one thread at a time may do to the index.
    pub(super) fn change<R>(&self, what: impl FnOnce(&Index<'static>, &mut Writer) -> R) -> R {
        let mut writer = lock(&self.writer);
        // Another index takes its place under this lock as well.
        what(self.index(), &mut writer)
    }

    /// Held by whoever changes the file of a name, so that file and entry change together. Nobody holds two of them.
    pub(super) fn stripe(&self, name: Name) -> MutexGuard<'_, ()> {
        lock(&self.stripes[name.0 as usize % STRIPES])
    }

    /// None if it is closed; else it is not as long as the value lives.
    pub(super) fn while_open(&self) -> Option<RwLockReadGuard<'_, bool>> {
        let closed = self.closed.read().unwrap_or_else(PoisonError::into_inner);
        (!*closed).then_some(closed)
    }

    /// What is entered into the index now is kept nowhere.
    pub(super) fn is_lost(&self) -> bool {
        self.shelves.newest().is_lost() || self.taken.load(Relaxed)
    }

    /// How old something is, by the clock; None if it is older than it may be, or was never made.
    pub(super) fn fresh(&self, made: u32, now: u32) -> Option<u32> {
        if made > now && made - now > AHEAD {
            return None;
        }
        Some(now.saturating_sub(made)).filter(|age| *age < self.settings.ttl)
    }

    fn save_clock(&self) {
        let saved = self.clock.save();
        self.index().save_clock(saved);
        // By its name each time, for somebody may have emptied the directory.
        let file = openat(self.files.root(), CLOCK, PLAIN | OFlags::WRONLY | OFlags::CREATE, FILE);
        let _ = file.and_then(|file| pwrite(file, clock::to_line(&saved).as_bytes(), 0));
    }

    /// Is the lock still the directory's? If somebody removed it, with all the rest as a rule, there is a new one.
    fn still_ours(&self) -> bool {
        let mut held = lock(&self.held);
        if !home::is_unlinked(&held) {
            return true;
        }
        match home::hold(self.files.root(), &self.settings.dir) {
            Ok(again) => *held = again,
            Err(error) => {
                if self.notices.due(self.now()) {
                    log::warn!("nothing is kept any more: {error}");
                }
                self.taken.store(true, Relaxed);
                return false;
            }
        }
        self.taken.store(false, Relaxed);
        true
    }

    fn replace_index(&self, walk: &mut Option<Walk>) {
        let dir = self.settings.dir.display();
        match Shelf::create(&self.files, self.settings.max_objects) {
            Ok(shelf) => {
                log::warn!("{dir}: the index was damaged or removed while in use; it is made anew from the objects");
                self.files.set_rebuilding(true);
                *walk = Some(Walk::rebuild());
                let mut writer = lock(&self.writer);
                self.shelves.push(shelf);
                *writer = Writer::default();
                self.counts.lost.fetch_add(1, Relaxed);
            }
            Err(error) if self.notices.due(self.now()) => {
                log::warn!("{dir}: the index was damaged or removed while in use, and none can be made: {error}");
            }
            Err(_) => {}
        }
    }
}

/// What is in a directory that is ours.
struct Parts {
    kept_clock: Option<SavedClock>,
    shelf: Shelf,
    walk: Option<Walk>,
}

impl Parts {
    /// Finds or makes them; else, what could not be done to the directory.
    fn find(files: &Files, settings: &Settings) -> Result<Parts, (&'static str, io::Error)> {
        files.prepare().map_err(|error| ("write to", error))?;
        let kept = home::small_text(files.root(), CLOCK).map_err(|error| ("read the clock in", error))?;
        let kept_clock = kept.and_then(|line| clock::from_line(&line));
        let (shelf, walk) = shelf(files, settings).map_err(|error| ("make an index in", error))?;
        Ok(Parts { kept_clock, shelf, walk })
    }
}

/// The index that is there, or a new one; and a walk if there is a reason to look through the files.
fn shelf(files: &Files, settings: &Settings) -> io::Result<(Shelf, Option<Walk>)> {
    let dir = settings.dir.display();
    let empty = files.is_empty();
    let why = match Shelf::open(files, Purpose::Serve(settings.max_objects)) {
        Ok(shelf) => {
            let walk = if files.is_rebuilding() {
                Some(Walk::rebuild())
            } else {
                (!shelf.index.was_clean()).then(Walk::clean_up)
            };
            return Ok((shelf, walk));
        }
        Err(Unusable::Missing) if empty => None,
        Err(Unusable::Missing) => Some("there is no index".to_owned()),
        Err(Unusable::Resized) => Some("the index has another size".to_owned()),
        Err(Unusable::Broken(why)) => Some(format!("the index is no good ({why})")),
    };
    if let Some(why) = why {
        log::warn!("{dir}: {why}; it is made anew from the objects");
    }
    files.set_rebuilding(!empty);
    let walk = (!empty).then(Walk::rebuild);
    Ok((Shelf::create(files, settings.max_objects)?, walk))
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
