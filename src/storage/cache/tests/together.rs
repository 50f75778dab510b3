//! Several threads, and another process that looks or empties.

use super::*;
use crate::storage::cache::inspect::{State, list, purge, stat, verify};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;

#[test]
fn four_threads_store_load_and_remove_the_same_keys() {
    let mut place = Place::new();
    place.settings.max_bytes = 12 * 4096;
    let (cache, hits) = (place.open(), AtomicU64::new(0));
    thread::scope(|scope| {
        for thread in 0..4_u64 {
            let (cache, hits) = (&cache, &hits);
            scope.spawn(move || {
                let mut random = thread + 1;
                for _ in 0..1_500 {
                    random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    let key = format!("/{}", (random >> 33) % 16);
                    match (random >> 50) % 8 {
                        0..=2 => store(cache, &key),
                        3 => drop(cache.remove(key.as_bytes())),
                        4 if thread == 0 => drop(cache.tend()),
                        5 if thread == 1 && (random >> 56) == 0 => {
                            assert!(purge(cache.settings.dir.as_path(), None).is_ok());
                        }
                        _ => drop(hits.fetch_add(u64::from(load(cache, &key)), Relaxed)),
                    }
                }
            });
        }
    });
    assert!(hits.load(Relaxed) > 100);
    let stats = cache.stats();
    assert_eq!(stats.bad, 0);
    let verified = verify(place.dir(), None, &mut |entry| panic!("{entry:?}")).unwrap();
    assert_eq!(verified.good, place.files().len() as u64);
    assert!(stats.bytes <= place.settings.max_bytes && verified.good * 4096 <= stats.bytes);
}

#[test]
fn a_look_from_outside() {
    let place = Place::new();
    let cache = CacheDir::open(place.settings.clone()).unwrap();
    for key in ["/a", "/b", "/c"] {
        store(&cache, key);
    }
    let seen = stat(place.dir()).unwrap();
    assert_eq!((seen.objects, seen.bytes, seen.clean, seen.broken), (3, 3 * 4096, false, None));
    assert_eq!(seen.server, Some(std::process::id()));
    assert!(seen.oldest.unwrap() < 30 && seen.youngest <= seen.oldest);
    let mut keys = Vec::new();
    let only_b: inspect::Filter<'_> = &|key| key == b"/b";
    list(place.dir(), Some(only_b), &mut |entry| {
        assert!(entry.age.unwrap() < 30 && entry.size == 4096 && entry.state == State::Ok);
        keys.push(entry.key.to_vec());
    })
    .unwrap();
    assert_eq!(keys, [b"/b"]);
    let file = place.files().remove(0);
    let mut bytes = fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&file, bytes).unwrap();
    let mut shown = Vec::new();
    let verified = verify(place.dir(), None, &mut |entry| shown.push(entry.state)).unwrap();
    assert_eq!((verified.good, verified.damaged, shown), (2, 1, vec![State::Damaged]));
    assert_eq!(place.files().len(), 3, "nothing was repaired");
    drop(cache);
    assert_eq!(stat(place.dir()).unwrap().server, None);
}

#[test]
fn a_purge_from_outside_is_noticed() {
    let place = Place::new();
    let cache = place.open();
    for key in ["/a", "/b", "/c"] {
        store(&cache, key);
    }
    let epoch = cache.epoch();
    assert_eq!(purge(place.dir(), Some(&|key| key == b"/b")).unwrap(), 1);
    assert!(cache.age(b"/b").is_none() && load(&cache, "/a") && cache.epoch() != epoch);
    let epoch = cache.epoch();
    assert_eq!(purge(place.dir(), None).unwrap(), 2);
    assert!(cache.epoch() != epoch && !load(&cache, "/a") && !load(&cache, "/c"));
    assert!(place.files().is_empty() && cache.stats().objects == 0 && cache.stats().bytes == 0);
}

#[test]
fn a_look_at_what_is_broken() {
    let place = Place::new();
    let cache = place.open();
    store(&cache, "/a");
    drop(cache);
    fs::write(place.dir().join("index"), "x").unwrap();
    let seen = stat(place.dir()).unwrap();
    assert!(seen.broken.is_some() && seen.objects == 1 && seen.bytes == 4096);
    assert_eq!(verify(place.dir(), None, &mut |_| {}).unwrap().good, 1);
    assert_eq!(purge(place.dir(), None).unwrap(), 1);
    assert!(stat(place.folder.path()).is_err(), "no cache");
}
