//! A disk that is full: a small tmpfs in a mount namespace of its own, where the machine lets us make one.

use super::*;
use std::fmt::Write as _;

const CHILD: &str = "PILB_TEST_CACHE_FULL";
const DONE: &str = "the disk was full and all was well";

/// What happens on a file system of 2 MiB.
fn on_a_small_disk(disk: &Path) {
    let mut place = Place::new();
    place.settings.dir = disk.join("too-large");
    place.settings.max_objects = 1 << 20;
    let error = place.try_open().unwrap_err().to_string();
    assert!(error.contains("cannot make an index in") && error.contains("; make room"), "{error}");
    fs::remove_dir_all(&place.settings.dir).unwrap();

    place.settings.dir = disk.join("cache");
    place.settings.max_objects = 1_000;
    let cache = place.open();
    let mut key = String::new();
    let mut stored = Vec::new();
    let refused = loop {
        key.clear();
        write!(key, "/{}", stored.len()).unwrap();
        let body = body(&key);
        let mut object = Object { key: key.clone().into(), source: SOURCE, fields: b"f: 1".to_vec(), body, made: 0 };
        match cache.store(&mut object) {
            Ok(()) => stored.push(key.clone()),
            Err(why) => break why,
        }
    };
    assert!(matches!(refused, NotStored::Full), "{refused}");
    assert!(matches!(cache.store(&mut Object::default()), Err(NotStored::Off)));
    assert!(stored.len() > 100 && stored.iter().all(|key| load(&cache, key)), "it serves on");
    assert_eq!(place.files().len(), stored.len(), "nothing half written is left");
    place.hands.pass(2);
    assert!(matches!(cache.store(&mut Object::default()), Err(NotStored::Full)), "it tries again");
    for key in &stored[..10] {
        assert!(cache.remove(key.as_bytes()));
    }
    place.hands.pass(2);
    store(&cache, "/room again");
    assert!(load(&cache, "/room again") && !cache.stats().off);
}

#[test]
fn a_full_disk_stops_storing_and_nothing_else() {
    if let Some(disk) = std::env::var_os(CHILD) {
        on_a_small_disk(Path::new(&disk));
        return eprintln!("{DONE}");
    }
    let folder = TempDir::new().unwrap();
    let name = concat!(module_path!(), "::a_full_disk_stops_storing_and_nothing_else").split_once("::").unwrap().1;
    let script = r#"mount -t tmpfs -o size=2m none "$1" || exit 77; exec "$0" --exact "$2" --nocapture"#;
    let output = Command::new("unshare")
        .args(["-Urm", "sh", "-c", script])
        .args([std::env::current_exe().unwrap().as_os_str(), folder.path().as_os_str(), name.as_ref()])
        .env(CHILD, folder.path())
        .output();
    let Ok(output) = output else { return eprintln!("left out: there is no unshare(1)") };
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    if text.contains("unshare: ") || output.status.code() == Some(77) {
        return eprintln!("left out: {text}");
    }
    assert!(output.status.success() && text.contains(DONE), "{text}");
}
