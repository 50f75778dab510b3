//! Whatever happens to the files, no other bytes than those that were stored are loaded.

use super::*;
use crate::cache::{Found, Name};
use std::fs::OpenOptions;
use std::os::unix::fs::symlink;

#[test]
fn no_flipped_byte_of_an_object_is_served() {
    let place = Place::new();
    let cache = place.open();
    store(&cache, "/a");
    let (file, right) = (place.file(), fs::read(place.file()).unwrap());
    for at in 0..right.len() {
        store(&cache, "/a");
        let mut wrong = right.clone();
        wrong[at] ^= 0x10;
        fs::write(&file, wrong).unwrap();
        assert!(!load(&cache, "/a"), "byte {at}");
        assert!(!file.exists() && cache.age(b"/a").is_none(), "file and entry are gone");
    }
    assert_eq!(cache.stats().bad, right.len() as u64);
}

#[test]
fn no_truncated_object_is_served() {
    let place = Place::new();
    let cache = place.open();
    store(&cache, "/a");
    let right = fs::read(place.file()).unwrap();
    for length in 0..right.len() {
        store(&cache, "/a");
        fs::write(place.file(), &right[..length]).unwrap();
        assert!(!load(&cache, "/a"), "{length} bytes");
    }
}

#[test]
fn a_file_in_the_place_of_another_one_is_not_served() {
    let place = Place::new();
    let cache = place.open();
    store(&cache, "/a");
    store(&cache, "/b");
    let files = place.files();
    let (first, second) = (fs::read(&files[0]).unwrap(), fs::read(&files[1]).unwrap());
    fs::write(&files[0], second).unwrap();
    fs::write(&files[1], first).unwrap();
    assert!(!load(&cache, "/a") && !load(&cache, "/b"));
    assert!(place.files().is_empty());
}

#[test]
fn what_is_no_file_is_not_served() {
    let place = Place::new();
    let cache = place.open();
    store(&cache, "/a");
    let file = place.file();
    let elsewhere = place.folder.path().join("elsewhere");
    fs::rename(&file, &elsewhere).unwrap();
    symlink(&elsewhere, &file).unwrap();
    assert!(!load(&cache, "/a"));
    assert!(elsewhere.exists() && place.files().is_empty());
    store(&cache, "/a");
    fs::remove_file(&file).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &file, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    assert!(!load(&cache, "/a") && place.files().is_empty());
}

/// What may have happened to an index while nobody looked.
type Damage = fn(&Path);

fn damages() -> Vec<(&'static str, Damage)> {
    vec![
        ("gone", |index| fs::remove_file(index).unwrap()),
        ("empty", |index| fs::write(index, "").unwrap()),
        ("zeroed", |index| fs::write(index, vec![0; fs::metadata(index).unwrap().len() as usize]).unwrap()),
        ("foreign", |index| fs::write(index, "not an index\n".repeat(1000)).unwrap()),
        ("foreign, of the same size", |index| {
            fs::write(index, vec![0x5a; fs::metadata(index).unwrap().len() as usize]).unwrap();
        }),
        ("half", |index| {
            let size = fs::metadata(index).unwrap().len() / 2;
            OpenOptions::new().write(true).open(index).unwrap().set_len(size).unwrap();
        }),
        ("a folder", |index| {
            fs::remove_file(index).unwrap();
            fs::create_dir(index).unwrap();
        }),
    ]
}

#[test]
fn a_broken_index_is_made_anew_from_the_objects() {
    for (what, damage) in damages() {
        let place = Place::new();
        let cache = place.open();
        store(&cache, "/old");
        place.hands.pass(30);
        (0..20).for_each(|number| store(&cache, &format!("/{number}")));
        place.hands.pass(10);
        cache.close();
        drop(cache);
        damage(&place.dir().join("index"));
        if what == "a folder" {
            assert!(matches!(place.try_open(), Err(OpenError::Failed { .. })));
            continue;
        }
        fs::write(place.files().remove(0).with_file_name("00000000000000"), "no object").unwrap();
        place.hands.pass(20);
        let cache = place.open();
        store(&cache, "/new");
        assert!(load(&cache, "/new"), "{what}: it serves at once");
        finish(&cache);
        assert!((0..20).all(|number| load(&cache, &format!("/{number}"))), "{what}");
        assert_eq!(cache.age(b"/0"), Some(30), "{what}: the clock goes on");
        assert!(!load(&cache, "/old"), "{what}: it is expired");
        assert_eq!((place.files().len(), cache.stats().objects, cache.stats().bytes), (21, 21, 21 * 4096), "{what}");
    }
}

#[test]
fn an_index_and_a_clock_that_are_both_lost_leave_nothing() {
    let place = Place::new();
    let cache = place.open();
    place.hands.pass(100);
    store(&cache, "/a");
    drop(cache);
    fs::write(place.dir().join("index"), "").unwrap();
    fs::write(place.dir().join("clock"), "0").unwrap();
    let cache = place.open();
    finish(&cache);
    assert!(cache.age(b"/a").is_none() && place.files().is_empty(), "nobody knows how old it is");
}

#[test]
fn an_interrupted_rebuild_begins_again() {
    let place = Place::new();
    let cache = place.open();
    (0..20).for_each(|number| store(&cache, &format!("/{number}")));
    drop(cache);
    fs::remove_file(place.dir().join("index")).unwrap();
    let cache = place.open();
    cache.close();
    drop(cache);
    let cache = place.open();
    finish(&cache);
    assert!((0..20).all(|number| load(&cache, &format!("/{number}"))));
    cache.close();
    drop(cache);
    assert!(!place.open().stats().rebuilding);
}

#[test]
fn another_number_of_objects_is_another_index() {
    let mut place = Place::new();
    store(&place.open(), "/a");
    place.settings.max_objects = 100_000;
    let cache = place.open();
    finish(&cache);
    assert!(load(&cache, "/a"));
}

#[test]
fn a_kill_between_entry_and_file_is_a_miss() {
    let place = Place::new();
    let cache = place.open();
    let name = Name::of(b"/a");
    let entry = Found { made: cache.now(), size: 4096 };
    cache.change(|index, writer| index.insert(writer, name, entry, 1 << 30, &mut Vec::new()));
    assert_eq!(cache.age(b"/a"), Some(0));
    drop(cache);
    assert_eq!(inspect::verify(place.dir(), None, &mut |_| {}).unwrap().dangling, 1);
    let cache = place.open();
    finish(&cache);
    assert!(!load(&cache, "/a"));
    assert!(cache.age(b"/a").is_none() && cache.stats().objects == 0);
}

#[test]
fn a_kill_between_entry_and_file_of_another_size_leaves_neither() {
    let place = Place::new();
    let cache = place.open();
    store(&cache, "/a");
    let entry = Found { made: cache.now(), size: 3 * 4096 };
    cache.change(|index, writer| index.insert(writer, Name::of(b"/a"), entry, 1 << 30, &mut Vec::new()));
    drop(cache);
    let cache = place.open();
    finish(&cache);
    assert!(cache.age(b"/a").is_none() && place.files().is_empty() && cache.stats().bytes == 0);
}

#[test]
fn orphans_and_leftovers_are_removed_after_an_unclean_end() {
    let place = Place::new();
    let cache = place.open();
    store(&cache, "/b");
    drop(cache);
    let elsewhere = Place::new();
    store(&elsewhere.open(), "/a");
    let orphan = place.dir().join(elsewhere.file().strip_prefix(elsewhere.dir()).unwrap());
    fs::create_dir_all(orphan.parent().unwrap()).unwrap();
    fs::copy(elsewhere.file(), orphan).unwrap();
    fs::write(place.dir().join("tmp/7"), "half an obj").unwrap();
    assert_eq!(inspect::verify(place.dir(), None, &mut |_| {}).unwrap().orphans, 1);
    let cache = place.open();
    assert_eq!(fs::read_dir(place.dir().join("tmp")).unwrap().count(), 0);
    finish(&cache);
    assert_eq!((place.files().len(), cache.stats().orphans), (1, 1));
    assert!(load(&cache, "/b") && !load(&cache, "/a"));
}

#[test]
fn an_index_damaged_in_use_is_replaced() {
    let cut: Damage = |index| OpenOptions::new().write(true).open(index).unwrap().set_len(0).unwrap();
    let overwrite: Damage = |index| {
        let size = fs::metadata(index).unwrap().len() as usize;
        let file = OpenOptions::new().write(true).open(index).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &vec![0x77; size], 0).unwrap();
    };
    let remove: Damage = |index| fs::remove_file(index).unwrap();
    for (damage, at_once) in [(cut, true), (overwrite, true), (remove, false)] {
        let place = Place::new();
        let cache = place.open();
        (0..20).for_each(|number| store(&cache, &format!("/{number}")));
        damage(&place.dir().join("index"));
        if at_once {
            assert!(!load(&cache, "/0"));
            assert!(matches!(cache.store(&mut Object::default()), Err(NotStored::Off)));
        }
        cache.tend();
        store(&cache, "/new");
        finish(&cache);
        assert!((0..20).all(|number| load(&cache, &format!("/{number}"))) && load(&cache, "/new"));
        assert_eq!(cache.stats().lost, 1);
        cache.close();
        drop(cache);
        let cache = place.open();
        assert!(load(&cache, "/new") && !cache.stats().rebuilding);
    }
}

/// Removes what is in the folder.
fn empty(dir: &Path) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.unwrap();
    }
}

#[test]
fn a_directory_emptied_in_use_is_taken_again() {
    let place = Place::new();
    let cache = place.open();
    store(&cache, "/a");
    let epoch = cache.epoch();
    empty(place.dir());
    assert!(!load(&cache, "/a"));
    store(&cache, "/b");
    finish(&cache);
    assert_ne!(cache.epoch(), epoch);
    assert!(load(&cache, "/b") && matches!(place.try_open(), Err(OpenError::InUse { .. })));
    assert_eq!(inspect::verify(place.dir(), None, &mut |_| {}).unwrap().good, 1);
    drop(cache);
    assert!(load(&place.open(), "/b"));
}

#[test]
fn a_directory_emptied_and_taken_by_another_is_left_to_it() {
    let place = Place::new();
    let first = place.open();
    empty(place.dir());
    let second = place.open();
    first.tend();
    assert!(matches!(first.store(&mut Object::default()), Err(NotStored::Off)));
    store(&second, "/a");
    first.tend();
    assert!(load(&second, "/a"));
    drop(second);
    first.tend();
    store(&first, "/b");
    finish(&first);
    assert!(load(&first, "/a") && load(&first, "/b"));
}
