//! Looking into a cache's directory from outside, also while a server has it: for the command line.
//!
//! Everything but [`purge`] only reads, and changes neither the index nor a file.

use crate::cache::{Index, Name};
use crate::storage::cache::clock::{self, Clock, Time};
use crate::storage::cache::dir::CLOCK;
use crate::storage::cache::error::OpenError;
use crate::storage::cache::files::{FOLDERS, Files, Found, on_disk, path};
use crate::storage::cache::home;
use crate::storage::cache::purge as removal;
use crate::storage::cache::shelf::{Purpose, Shelf, Unusable};
use std::path::Path;

/// Chooses keys.
pub type Filter<'f> = &'f dyn Fn(&[u8]) -> bool;

/// A cache at a glance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    /// Why the index is no good; then the figures are those of the files.
    pub broken: Option<String>,
    pub objects: u64,
    /// On the disk.
    pub bytes: u64,
    pub capacity: u64,
    /// Ages in seconds.
    pub youngest: Option<u32>,
    pub oldest: Option<u32>,
    /// The last server left it in order.
    pub clean: bool,
    /// The process that serves from it.
    pub server: Option<u32>,
}

/// An object's file.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'k> {
    /// Empty if the file does not tell.
    pub key: &'k [u8],
    /// Its name in hex is its file's.
    pub name: u64,
    /// On the disk.
    pub size: u64,
    pub age: Option<u32>,
    pub state: State,
}

impl Entry<'_> {
    /// The path of its file below the directory.
    pub fn file(&self) -> String {
        path(Name(self.name))
    }
}

/// What an object is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Ok,
    /// Not what was written: a load would remove it.
    Damaged,
    /// The index does not know it: the walk after the next unclean end would remove it.
    Orphan,
    /// It cannot be read by whoever asks.
    Unread,
}

/// What [`verify`] counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    pub good: u64,
    pub damaged: u64,
    pub orphans: u64,
    pub unread: u64,
    /// Entries of the index without a file: a load would remove them.
    pub dangling: u64,
}

struct View {
    files: Files,
    index: Result<Shelf, Unusable>,
    clock: Option<Clock>,
}

impl View {
    fn open(dir: &Path, purpose: Purpose) -> Result<View, OpenError> {
        let files = Files::new(home::visit(dir)?);
        let index = Shelf::open(&files, purpose);
        let kept = || clock::from_line(&home::small_text(files.root(), CLOCK).ok()??);
        let saved = index.as_ref().ok().and_then(|shelf| shelf.index.saved_clock()).or_else(kept);
        let clock = saved.map(|saved| Clock::resume(Time::system(), Some(saved)));
        Ok(View { files, index, clock })
    }

    fn index(&self) -> Option<&Index<'static>> {
        self.index.as_ref().ok().map(|shelf| &shelf.index)
    }

    fn now(&self) -> Option<u32> {
        self.clock.as_ref().map(Clock::now)
    }

    fn age(&self, made: u32) -> Option<u32> {
        self.now().map(|now| now.saturating_sub(made))
    }

    /// Looks at every file, into its body too if `whole`.
    fn each(&self, filter: Option<Filter<'_>>, whole: bool, show: &mut dyn FnMut(&Entry<'_>)) {
        for name in (0..FOLDERS).flat_map(|folder| self.files.names(folder)) {
            let known = || self.index().is_none_or(|index| index.find(name, self.now().unwrap_or(0)).is_some());
            let damaged = whole && matches!(self.files.read(name), Found::Bad);
            let state = |bad| match bad {
                true => State::Damaged,
                false if known() => State::Ok,
                false => State::Orphan,
            };
            let (key, size, age, state) = match self.files.peek(name) {
                Found::Good((header, key)) => (key, on_disk(header.file_size()), self.age(header.made), state(damaged)),
                Found::Bad => (Vec::new(), 0, None, State::Damaged),
                Found::Unread(_) => (Vec::new(), 0, None, State::Unread),
                Found::Missing => continue,
            };
            if filter.is_none_or(|filter| filter(&key)) {
                show(&Entry { key: &key, name: name.0, size, age, state });
            }
        }
    }
}

/// The figures of a cache.
///
/// # Errors
/// The directory cannot be opened, or it is no cache.
pub fn stat(dir: &Path) -> Result<Stat, OpenError> {
    let view = View::open(dir, Purpose::Look)?;
    let mut stat = Stat { server: home::holder(view.files.root()), ..Stat::default() };
    let mut age = |age: Option<u32>| {
        stat.youngest = stat.youngest.into_iter().chain(age).min();
        stat.oldest = stat.oldest.into_iter().chain(age).max();
    };
    match &view.index {
        Ok(shelf) => {
            let index = &shelf.index;
            let now = view.now().unwrap_or(0);
            let made = |name: Name| index.find(name, now).map(|found| found.made);
            index.names().filter_map(made).for_each(|made| age(view.age(made)));
            (stat.objects, stat.bytes) = (index.objects(), index.bytes());
            (stat.capacity, stat.clean) = (index.capacity() as u64, index.was_clean());
        }
        Err(why) => {
            let (mut objects, mut bytes) = (0, 0);
            view.each(None, false, &mut |entry| {
                (objects, bytes) = (objects + 1, bytes + entry.size);
                age(entry.age);
            });
            (stat.objects, stat.bytes) = (objects, bytes);
            stat.broken = Some(match why {
                Unusable::Broken(why) => why.clone(),
                _ => "there is none".to_owned(),
            });
        }
    }
    Ok(stat)
}

/// Shows the objects, of which the filter chooses some. Their bodies are not looked at.
///
/// # Errors
/// The directory cannot be opened, or it is no cache.
pub fn list(dir: &Path, filter: Option<Filter<'_>>, show: &mut dyn FnMut(&Entry<'_>)) -> Result<(), OpenError> {
    View::open(dir, Purpose::Look)?.each(filter, false, show);
    Ok(())
}

/// Reads every object and shows those that are not in order.
///
/// # Errors
/// The directory cannot be opened, or it is no cache.
pub fn verify(dir: &Path, filter: Option<Filter<'_>>, show: &mut dyn FnMut(&Entry<'_>)) -> Result<Verified, OpenError> {
    let view = View::open(dir, Purpose::Look)?;
    let mut verified = Verified::default();
    view.each(filter, true, &mut |entry| {
        let count = match entry.state {
            State::Ok => &mut verified.good,
            State::Damaged => &mut verified.damaged,
            State::Orphan => &mut verified.orphans,
            State::Unread => &mut verified.unread,
        };
        *count += 1;
        if entry.state != State::Ok {
            show(entry);
        }
    });
    let missing = |name: &Name| matches!(view.files.peek(*name), Found::Missing);
    if let (Some(index), None) = (view.index(), filter) {
        verified.dangling = index.names().filter(missing).count() as u64;
    }
    Ok(verified)
}

/// Removes the objects that the filter chooses, or all, and tells the server that has them in memory. How many.
///
/// # Errors
/// The directory cannot be opened, or it is no cache.
pub fn purge(dir: &Path, filter: Option<Filter<'_>>) -> Result<u64, OpenError> {
    let view = View::open(dir, Purpose::Change)?;
    home::may_change(view.files.root(), dir)?;
    Ok(removal::purge(&view.files, view.index(), filter))
}
