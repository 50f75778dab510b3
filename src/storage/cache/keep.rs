//! Loading, storing and removing objects.
//!
//! The entry of the index is published before the file gets its name: whoever is killed in between leaves an entry
//! without a file, which is a miss, and no file that nobody knows. Another process may empty the cache at any moment:
//! it removes an entry and then the file, and a store looks once more for its entry when its file is there.

use crate::cache::{Found as Entry, Name};
use crate::storage::cache::dir::CacheDir;
use crate::storage::cache::error::NotStored;
use crate::storage::cache::files::{Found, on_disk};
use crate::storage::cache::object::Object;
use std::io;
use std::sync::atomic::Ordering::Relaxed;

/// An object that is fresh.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub object: Object,
    /// Seconds.
    pub age: u32,
}

/// Why a file is no answer.
enum Not {
    Missing,
    /// Expired, or made from something else.
    Stale,
    Bad,
    /// Nothing is known about it.
    Unread(io::Error),
}

impl CacheDir {
    /// The age of the object in seconds, by the index alone: it may turn out to be none when it is loaded. Takes no
    /// lock and touches no file.
    pub fn age(&self, key: &[u8]) -> Option<u32> {
        let now = self.now();
        self.fresh(self.index().find(Name::of(key), now)?.made, now)
    }

    /// Notes a use of the object, so that it is kept longer than others when room is short.
    pub fn touch(&self, key: &[u8]) {
        self.index().touch(Name::of(key));
    }

    /// The object, if it is fresh and made from `source`; that was a use of it. Blocks on files. What is found to be no
    /// answer is removed.
    pub fn load(&self, key: &[u8], source: u128) -> Option<Loaded> {
        let (name, now) = (Name::of(key), self.now());
        let loaded = self.index().find(name, now).and_then(|_| {
            let first = self.fetch(name, key, source, now);
            first.or_else(|_| self.fetch_or_remove(name, key, source)).ok()
        });
        if loaded.is_some() {
            self.index().touch(name);
            self.counts.hits.fetch_add(1, Relaxed);
        } else {
            self.counts.misses.fetch_add(1, Relaxed);
        }
        loaded
    }

    fn fetch(&self, name: Name, key: &[u8], source: u128, now: u32) -> Result<Loaded, Not> {
        match self.files.read(name) {
            // Two keys of one name are as good as impossible.
            Found::Good(object) if object.key != key => Err(Not::Bad),
            Found::Good(object) if object.source != source => Err(Not::Stale),
            Found::Good(object) => self.fresh(object.made, now).map(|age| Loaded { object, age }).ok_or(Not::Stale),
            Found::Missing => Err(Not::Missing),
            Found::Bad => Err(Not::Bad),
            Found::Unread(error) => Err(Not::Unread(error)),
        }
    }

    /// Looks again while nobody stores under this name, and if it is no answer then, removes it.
    fn fetch_or_remove(&self, name: Name, key: &[u8], source: u128) -> Result<Loaded, ()> {
        let _stripe = self.stripe(name);
        // What was stored since the first look must not seem to be of the future.
        let now = self.now();
        let not = match self.fetch(name, key, source, now) {
            Ok(loaded) => return Ok(loaded),
            Err(not) => not,
        };
        let dir = self.settings.dir.display();
        match not {
            Not::Unread(error) => {
                if self.notices.due(now) {
                    log::warn!("{dir}: an object cannot be read: {error}");
                }
                return Err(());
            }
            Not::Bad => {
                self.counts.bad.fetch_add(1, Relaxed);
                if self.notices.due(now) {
                    log::warn!("{dir}: object {:016x} is damaged; it is removed", name.0);
                }
            }
            Not::Stale => {
                self.counts.expired.fetch_add(1, Relaxed);
            }
            Not::Missing => {}
        }
        self.drop(name);
        Err(())
    }

    /// Keeps the object, whose `made` is set, in place of an older one. Blocks on files.
    ///
    /// # Errors
    /// Why it was not kept. What was there under its key may be gone.
    pub fn store(&self, object: &mut Object) -> Result<(), NotStored> {
        let now = self.now();
        let result = self.try_store(object, now);
        match &result {
            Ok(()) => {
                self.counts.stored.fetch_add(1, Relaxed);
                self.storing.works(&self.settings.dir);
                return result;
            }
            Err(NotStored::TooLarge | NotStored::Off) => {}
            Err(why) => self.storing.failed(why, now, &self.settings.dir),
        }
        self.counts.not_stored.fetch_add(1, Relaxed);
        result
    }

    fn try_store(&self, object: &mut Object, now: u32) -> Result<(), NotStored> {
        let size = object.file_size().map(on_disk).filter(|size| *size <= self.settings.max_bytes);
        let entry = Entry { made: now, size: size.ok_or(NotStored::TooLarge)? };
        let _open = self.while_open().ok_or(NotStored::Off)?;
        if self.is_lost() || self.storing.pauses(now) {
            return Err(NotStored::Off);
        }
        object.made = now;
        let (draft, mut file) = self.files.draft()?;
        object.write(&mut file)?;
        let (name, mut gone) = (Name::of(&object.key), Vec::new());
        let published = {
            let _stripe = self.stripe(name);
            self.change(|index, writer| index.insert(writer, name, entry, self.settings.max_bytes, &mut gone));
            // Renamed onto another file, ext4 would write a new one to the disk at once, in case the old one was
            // dear to somebody: a store took 30 times as long.
            self.files.remove(name);
            let published = self.files.publish(&draft, name);
            if published.is_err() {
                self.index().remove(name);
            }
            // Removed by another process, or by the index itself: see the module.
            if self.index().find(name, now).is_none() {
                self.files.remove(name);
            }
            published
        };
        self.counts.evicted.fetch_add(self.drop_files(&gone), Relaxed);
        Ok(published?)
    }

    /// Removes the object; was there one? Blocks on files.
    pub fn remove(&self, key: &[u8]) -> bool {
        let name = Name::of(key);
        let _stripe = self.stripe(name);
        self.drop(name)
    }

    /// Removes file and entry, whose stripe is held; was there one? The file first: an entry without one is harmless.
    pub(super) fn drop(&self, name: Name) -> bool {
        let file = self.files.remove(name);
        self.index().remove(name) || file
    }

    /// Removes the files of entries that are gone; how many there were. (An index may tell of an entry twice.)
    pub(super) fn drop_files(&self, gone: &[Name]) -> u64 {
        let mut removed = 0;
        for name in gone {
            let _stripe = self.stripe(*name);
            // It may have been stored again since.
            if self.index().find(*name, self.now()).is_none() {
                removed += u64::from(self.files.remove(*name));
            }
        }
        removed
    }
}
