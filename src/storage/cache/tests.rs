//! Tests of the whole directory, by a time that the tests set.

mod damage;
mod full;
mod together;

use crate::storage::cache::clock::tests::Hands;
use crate::storage::cache::{CacheDir, NotStored, Object, OpenError, Settings, inspect};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

const TTL: u32 = 60;
const SOURCE: u128 = 7 << 100;
const DAY: i64 = 86_400;

/// A folder for a cache, and a time for it.
struct Place {
    folder: TempDir,
    hands: Hands,
    settings: Settings,
    boot: u64,
}

impl Place {
    fn new() -> Place {
        let folder = TempDir::new().unwrap();
        let dir = folder.path().join("cache");
        let settings = Settings { dir, ttl: TTL, max_bytes: 1 << 30, max_objects: 1_000 };
        Place { folder, hands: Hands::new(), settings, boot: 1 }
    }

    fn open(&self) -> CacheDir {
        self.try_open().unwrap()
    }

    fn try_open(&self) -> Result<CacheDir, OpenError> {
        CacheDir::open_at(self.settings.clone(), self.hands.time(self.boot))
    }

    fn dir(&self) -> &Path {
        &self.settings.dir
    }

    /// All object files, in order.
    fn files(&self) -> Vec<PathBuf> {
        let folders = fs::read_dir(self.dir().join("objects")).unwrap();
        let mut files: Vec<PathBuf> = folders
            .flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap())
            .map(|file| file.unwrap().path())
            .collect();
        files.sort();
        files
    }

    fn file(&self) -> PathBuf {
        let mut files = self.files();
        assert_eq!(files.len(), 1);
        files.remove(0)
    }
}

fn body(key: &str) -> Vec<u8> {
    format!("the body of {key}").repeat(20).into_bytes()
}

fn store(cache: &CacheDir, key: &str) {
    let mut object = Object { key: key.into(), source: SOURCE, made: 0, fields: b"f: 1".to_vec(), body: body(key) };
    cache.store(&mut object).unwrap();
    assert_eq!(object.made, cache.now());
}

/// Is there an answer, which must be the right one?
fn load(cache: &CacheDir, key: &str) -> bool {
    let Some(loaded) = cache.load(key.as_bytes(), SOURCE) else { return false };
    let object = loaded.object;
    assert!(object.key == key.as_bytes() && object.source == SOURCE && object.fields == b"f: 1");
    assert!(object.body == body(key));
    true
}

/// Tends until there is nothing to do.
fn finish(cache: &CacheDir) {
    while cache.tend() {}
    assert!(!cache.stats().rebuilding);
}

#[test]
fn what_is_stored_is_loaded_until_it_expires() {
    let place = Place::new();
    let cache = place.open();
    assert!(cache.age(b"/a").is_none() && !load(&cache, "/a"));
    store(&cache, "/a");
    store(&cache, "/b");
    place.hands.pass(u64::from(TTL) - 1);
    cache.touch(b"/a");
    assert_eq!(cache.age(b"/a"), Some(TTL - 1));
    assert_eq!(cache.load(b"/a", SOURCE).unwrap().age, TTL - 1);
    store(&cache, "/b");
    place.hands.pass(1);
    assert!(cache.age(b"/a").is_none() && !load(&cache, "/a"));
    assert!(load(&cache, "/b"));
    assert_eq!(place.files().len(), 1, "the expired file is gone");
    let stats = cache.stats();
    assert_eq!((stats.objects, stats.bytes, stats.hits, stats.misses, stats.stored), (1, 4096, 2, 2, 3));
}

#[test]
fn another_source_is_another_answer() {
    let place = Place::new();
    let cache = place.open();
    store(&cache, "/a");
    assert!(cache.load(b"/a", SOURCE + 1).is_none());
    assert!(place.files().is_empty() && cache.age(b"/a").is_none());
}

#[test]
fn the_sweep_removes_what_nobody_asks_for() {
    let place = Place::new();
    let cache = place.open();
    (0..50).for_each(|number| store(&cache, &format!("/{number}")));
    place.hands.pass(u64::from(TTL));
    store(&cache, "/new");
    for _ in 0..64 {
        cache.tend();
    }
    assert_eq!((place.files().len(), cache.stats().objects), (1, 1));
    assert!(load(&cache, "/new"));
}

#[test]
fn it_goes_on_after_a_clean_and_after_an_unclean_end() {
    let place = Place::new();
    for (round, closes) in [true, false, true].into_iter().enumerate() {
        let cache = place.open();
        (0..round).for_each(|round| assert!(load(&cache, &format!("/{round}"))));
        store(&cache, &format!("/{round}"));
        if closes {
            finish(&cache);
            cache.close();
            let late = cache.store(&mut Object::default());
            assert!(matches!(late, Err(NotStored::Off)));
        }
        drop(cache);
        assert_eq!(inspect::stat(place.dir()).unwrap().clean, closes);
        place.hands.pass(1);
    }
}

#[test]
fn the_bytes_on_the_disk_stay_below_the_limit() {
    let mut place = Place::new();
    place.settings.max_bytes = 40 * 4096;
    let cache = place.open();
    for number in 0..200 {
        store(&cache, &format!("/{number}"));
        let on_disk = place.files().len() as u64 * 4096;
        assert!(on_disk <= place.settings.max_bytes && cache.stats().bytes == on_disk, "after {number}: {on_disk}");
    }
    assert!(load(&cache, "/199"));
    let mut large = Object { body: vec![0; 40 * 4096], ..Object::default() };
    assert!(matches!(cache.store(&mut large), Err(NotStored::TooLarge)));
}

#[test]
fn removing_and_purging() {
    let place = Place::new();
    let cache = place.open();
    for key in ["/a", "/b", "/c"] {
        store(&cache, key);
    }
    assert!(cache.remove(b"/a") && !cache.remove(b"/a") && !load(&cache, "/a"));
    let epoch = cache.epoch();
    assert_eq!(cache.purge(), 2);
    assert_ne!(cache.epoch(), epoch);
    assert!(!load(&cache, "/b") && place.files().is_empty() && cache.stats().objects == 0);
    store(&cache, "/b");
    assert!(load(&cache, "/b"));
}

#[test]
fn a_wall_clock_that_jumps_neither_empties_the_cache_nor_makes_it_immortal() {
    for (reboots, days) in [(false, 3), (false, -3), (true, -3), (true, 0)] {
        let mut place = Place::new();
        let cache = place.open();
        store(&cache, "/a");
        place.hands.turn_wall(days * DAY);
        place.hands.pass(10);
        assert_eq!(cache.age(b"/a"), Some(10));
        cache.close();
        drop(cache);
        place.hands.turn_wall(days * DAY);
        place.boot += u64::from(reboots);
        place.hands.pass(10);
        let cache = place.open();
        let elapsed = if days < 0 && reboots { 10 } else { 20 };
        assert_eq!(cache.age(b"/a"), Some(elapsed));
        assert!(load(&cache, "/a"));
        place.hands.pass(u64::from(TTL - elapsed));
        assert!(!load(&cache, "/a"));
    }
}

#[test]
fn after_days_switched_off_all_is_expired() {
    let mut place = Place::new();
    let cache = place.open();
    store(&cache, "/a");
    cache.close();
    drop(cache);
    place.boot = 2;
    place.hands.turn_wall(3 * DAY);
    assert!(!load(&place.open(), "/a"));
}

#[test]
fn one_process_at_a_time() {
    const CHILD: &str = "PILB_TEST_CACHE_IN_USE";
    if let Some(dir) = std::env::var_os(CHILD) {
        let settings = Settings { dir: dir.into(), ttl: TTL, max_bytes: 1 << 20, max_objects: 10 };
        return eprintln!("{}", CacheDir::open(settings).unwrap_err());
    }
    let place = Place::new();
    let cache = place.open();
    let pid = std::process::id();
    assert!(matches!(place.try_open(), Err(OpenError::InUse { pid: Some(other), .. }) if other == pid));
    let name = concat!(module_path!(), "::one_process_at_a_time").split_once("::").unwrap().1;
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(CHILD, place.dir())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let said = format!("the cache directory {} is in use by process {pid}; give", place.dir().display());
    assert!(text.contains(&said), "{text}");
    drop(cache);
    assert!(place.try_open().is_ok());
}

#[test]
fn a_directory_of_others_is_refused() {
    let mut place = Place::new();
    fs::write(place.folder.path().join("precious"), "x").unwrap();
    place.settings.dir = place.folder.path().to_owned();
    assert!(matches!(place.try_open(), Err(OpenError::Foreign { .. })));
    assert_eq!(fs::read_dir(place.dir()).unwrap().count(), 1, "nothing was put into it");
}

#[test]
fn storing_that_fails_pauses_and_goes_on() {
    let place = Place::new();
    let cache = place.open();
    store(&cache, "/a");
    // A file in the folder's place fails for root as well.
    fs::remove_dir(place.dir().join("tmp")).unwrap();
    fs::write(place.dir().join("tmp"), "").unwrap();
    let mut object = Object::default();
    assert!(matches!(cache.store(&mut object), Err(NotStored::Failed(_))));
    fs::remove_file(place.dir().join("tmp")).unwrap();
    assert!(matches!(cache.store(&mut object), Err(NotStored::Off)));
    assert!(cache.stats().off && load(&cache, "/a"), "what is there is served");
    place.hands.pass(2);
    store(&cache, "/b");
    assert!(!cache.stats().off && load(&cache, "/b"));
}

#[test]
fn folders_that_somebody_removed_come_back() {
    let place = Place::new();
    let cache = place.open();
    store(&cache, "/a");
    fs::remove_dir_all(place.dir().join("objects")).unwrap();
    fs::remove_dir_all(place.dir().join("tmp")).unwrap();
    assert!(!load(&cache, "/a"));
    store(&cache, "/a");
    assert!(load(&cache, "/a"));
}

#[test]
fn long_keys_and_empty_answers() {
    let place = Place::new();
    let cache = place.open();
    let long = "/k".repeat(9_000);
    store(&cache, &long);
    let mut empty = Object { key: b"/empty".to_vec(), ..Object::default() };
    cache.store(&mut empty).unwrap();
    assert!(load(&cache, &long) && cache.load(b"/empty", 0).unwrap().object == empty);
    assert_eq!(inspect::purge(place.dir(), Some(&|key| key == long.as_bytes())).unwrap(), 1);
    assert!(!load(&cache, &long) && cache.load(b"/empty", 0).is_some());
}
