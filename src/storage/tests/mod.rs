//! A site as its clients see it: files on a disk, the pool's threads, a session without a socket.

mod codings;
mod names;

use crate::origin::tests::wire::{Answer, Wire};
use crate::storage::cache::{self, CacheDir};
use crate::storage::root::Root;
use crate::storage::{DirStore, Options, Pool, Site};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use tempfile::TempDir;

/// A folder with a root in it, and something beside the root that must never be seen.
pub struct World {
    folder: TempDir,
    options: Options,
    cache: Option<Arc<CacheDir>>,
    /// Names are looked up by walking, without openat2.
    walk: bool,
}

/// A client connection to a site.
struct Client {
    wire: Wire<DirStore>,
    news: Receiver<()>,
}

impl World {
    fn new() -> World {
        let folder = TempDir::new().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("root/sub/deep")).unwrap();
        fs::create_dir_all(at("outside")).unwrap();
        for (name, text) in [
            ("root/index.html", "home"),
            ("root/sub/index.html", "sub"),
            ("root/sub/deep/a.txt", "deep"),
            ("root/.env", "PASSWORD"),
            ("outside/secret", "SECRET"),
        ] {
            fs::write(at(name), text).unwrap();
        }
        World { folder, options: Options::default(), cache: None, walk: false }
    }

    fn with(mut self, options: Options) -> World {
        self.options = options;
        self
    }

    /// With a cache beside the root, whose answers last so long.
    fn caching(mut self, ttl: u32) -> World {
        let dir = self.folder.path().join("cache");
        let settings = cache::Settings { dir, ttl, max_bytes: 1 << 20, max_objects: 100 };
        self.cache = Some(Arc::new(CacheDir::open(settings).unwrap()));
        self
    }

    fn root(&self) -> std::path::PathBuf {
        self.folder.path().join("root")
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.root().join(name), content).unwrap();
    }

    fn site(&self) -> Arc<Site> {
        let root = Root::open(&self.root()).unwrap().by_walking(self.walk);
        Site::of(root, self.options.clone(), self.cache.clone(), Pool::start(2, 1).unwrap())
    }

    fn client(&self) -> Client {
        Client::of(self.site())
    }

    /// The answer to a GET with these fields.
    fn ask_with(&self, path: &str, fields: &str) -> Answer {
        self.client().ask_with(path, fields)
    }

    fn ask(&self, path: &str) -> Answer {
        self.ask_with(path, "")
    }
}

impl Client {
    fn of(site: Arc<Site>) -> Client {
        let (tell, news) = channel();
        let store = DirStore::new(site, 100, move || {
            // Nobody listens any more once the test is over.
            let _ = tell.send(());
        });
        Client { wire: Wire::new(store), news }
    }

    fn send(&mut self, path: &str, fields: &str) {
        self.wire.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n").as_bytes(), usize::MAX);
    }

    /// Waits for news of the pool until the log has so many lines.
    fn finish(&mut self, exchanges: usize) {
        while self.wire.log.0.len() < exchanges && self.wire.close.is_none() {
            self.news.recv().unwrap();
            self.wire.wake();
        }
    }

    fn ask_with(&mut self, path: &str, fields: &str) -> Answer {
        let before = self.wire.log.0.len();
        self.send(path, fields);
        self.finish(before + 1);
        self.wire.answers(&[]).pop().unwrap()
    }

    fn ask(&mut self, path: &str) -> Answer {
        self.ask_with(path, "")
    }
}

fn text(answer: &Answer) -> (u16, &str) {
    (answer.status, std::str::from_utf8(&answer.body).unwrap())
}

/// A file that has not just been changed, so that what is made of it may be kept.
fn settle(path: &Path) {
    // The clock of file times has ticks: as soon as a new file has a later one, the other is old enough.
    let changed = |path: &Path| fs::metadata(path).unwrap().modified().unwrap();
    let probe = path.with_extension("probe");
    loop {
        fs::write(&probe, "").unwrap();
        if changed(&probe).duration_since(changed(path)).is_ok_and(|since| since.as_millis() > 100) {
            break;
        }
        std::thread::yield_now();
    }
    fs::remove_file(probe).unwrap();
}
