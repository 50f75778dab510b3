//! A walk over all object files, a slice at a time: after an unclean end it removes files without an entry, and for an
//! index that is new it enters the objects that are there.

use crate::cache::{Found as Entry, Index, Name};
use crate::storage::cache::dir::{CacheDir, SLICE};
use crate::storage::cache::files::{FOLDERS, Files, Found, on_disk};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

/// Where a walk is.
#[derive(Debug)]
pub(super) struct Walk {
    /// Files without an entry get one, rather than being removed.
    enters: bool,
    begun: bool,
    folder: usize,
    names: Vec<Name>,
    kept: u64,
    removed: u64,
}

impl Walk {
    /// Removes what the index does not know.
    pub fn clean_up() -> Walk {
        Walk { enters: false, begun: false, folder: 0, names: Vec::new(), kept: 0, removed: 0 }
    }

    /// Enters what the index does not know.
    pub fn rebuild() -> Walk {
        Walk { enters: true, ..Walk::clean_up() }
    }

    fn next(&mut self, files: &Files) -> Option<Name> {
        while self.names.is_empty() && self.folder < FOLDERS {
            self.names = files.names(self.folder);
            self.folder += 1;
        }
        self.names.pop()
    }
}

impl CacheDir {
    /// Goes on with the walk; is there more of it?
    pub(super) fn walk_on(&self, place: &mut Option<Walk>) -> bool {
        let Some(walk) = place else { return false };
        if !walk.begun {
            walk.begun = true;
            self.change(Index::recount);
        }
        let begun = Instant::now();
        while begun.elapsed() < SLICE && !self.is_lost() {
            let Some(name) = walk.next(&self.files) else {
                let (dir, kept, removed) = (self.settings.dir.display(), walk.kept, walk.removed);
                log::info!("{dir}: looked through the objects: {kept} kept, {removed} removed");
                self.files.set_rebuilding(false);
                *place = None;
                return false;
            };
            if self.judge(name, walk.enters) {
                walk.kept += 1;
            } else {
                walk.removed += 1;
            }
        }
        true
    }

    /// Makes entry and file agree; is the file kept?
    fn judge(&self, name: Name, enters: bool) -> bool {
        let mut gone = Vec::new();
        let keep = {
            let _stripe = self.stripe(name);
            let now = self.now();
            let header = match self.files.peek(name) {
                Found::Good((header, _)) => Some(header),
                Found::Bad => None,
                // Removed since, or to be judged by the next load.
                Found::Missing | Found::Unread(_) => return true,
            };
            let known = self.index().find(name, now);
            let entry = header.map(|header| Entry { made: header.made, size: on_disk(header.file_size()) });
            let wrong = match entry {
                None => Some(&self.counts.bad),
                Some(entry) if self.fresh(entry.made, now).is_none() => Some(&self.counts.expired),
                Some(entry) if known.is_some_and(|known| same_size(known.size, entry.size)) => None,
                Some(entry) if known.is_none() && enters => {
                    self.change(|index, writer| {
                        index.insert(writer, name, entry, self.settings.max_bytes, &mut gone);
                    });
                    self.index().find(name, now).is_none().then_some(&self.counts.evicted)
                }
                Some(_) => Some(&self.counts.orphans),
            };
            if let Some(count) = wrong {
                count.fetch_add(1, Relaxed);
                self.drop(name);
            }
            wrong.is_none()
        };
        self.counts.evicted.fetch_add(self.drop_files(&gone), Relaxed);
        keep
    }
}

/// An index may round sizes up by a 32nd.
fn same_size(known: u64, size: u64) -> bool {
    (size..=size + size / 32).contains(&known)
}
