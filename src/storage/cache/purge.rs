//! Emptying a cache, by the process that has it or by another one.
//!
//! First the entry goes, then the file: see `keep.rs` for what a store does that comes in between.

use crate::cache::Index;
use crate::storage::cache::dir::CacheDir;
use crate::storage::cache::files::{FOLDERS, Files, Found};
use crate::storage::cache::inspect::Filter;

impl CacheDir {
    /// Removes all objects; how many there were. Blocks on files. Copies of them are to be dropped: the epoch changes.
    pub fn purge(&self) -> u64 {
        purge(&self.files, Some(self.index()), None)
    }

    /// Removes the objects with these keys; how many there were. Blocks on files. The epoch changes for all: every worker may have copies
    /// at hand, be it of what is not in here any more.
    pub fn purge_keys(&self, keys: &[Vec<u8>]) -> u64 {
        let removed = keys.iter().filter(|key| self.remove(key)).count() as u64;
        self.index().bump_epoch();
        removed
    }
}

/// Removes the objects whose keys are chosen, or all.
pub(super) fn purge(files: &Files, index: Option<&Index<'_>>, choose: Option<Filter<'_>>) -> u64 {
    let mut removed = 0;
    for name in (0..FOLDERS).flat_map(|folder| files.names(folder)) {
        let chosen = choose.is_none_or(|choose| match files.peek(name) {
            Found::Good((_, key)) => choose(&key),
            _ => false,
        });
        if chosen {
            index.inspect(|index| {
                index.remove(name);
            });
            removed += u64::from(files.remove(name));
        }
    }
    let Some(index) = index else { return removed };
    if choose.is_none() {
        for name in index.names() {
            index.remove(name);
            files.remove(name);
        }
    }
    // Last: who drops his copies now finds nothing to make new ones from.
    index.bump_epoch();
    removed
}
