//! The demo's three embedded origins, which have a folder for as long as they run, and what the terminal says.
//!
//! Each is a real one: it serves the files of the folder's `site`, and keeps what it makes of them in a cache of its own.

mod folder;
mod site;

use crate::access_log::RingLog;
use crate::base::Address;
use crate::base::time::SECOND;
use crate::config::{Exit, LogTarget, Server};
use crate::net::listen::{Options, listen};
use crate::net::{Settings, Worker};
use crate::origin::{DemoStore, Origin, RelativePath, Settings as OriginSettings};
use crate::run::crew::{Crew, Rank};
use crate::run::origin::tend;
use crate::storage::cache::{self, CacheDir};
use crate::storage::{DirStore, Options as SiteOptions, Pool, Site};
use folder::Folder;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// In seconds. The page counts it down.
const TTL: u32 = 60;
/// What is made of a file that has just changed is not kept, since the next change might not show. After this a file counts as old.
const SETTLED: Duration = Duration::from_millis(50);

/// The site has fewer.
const FILES_AT_HAND: usize = 100;

/// The running origins. When it is dropped, their folder goes with it.
pub(super) struct Demo {
    pub servers: Vec<Server>,
    caches: Vec<Arc<CacheDir>>,
    folder: Folder,
}

impl Demo {
    /// Starts the origins on ports that the system chooses.
    pub fn start(crew: &mut Crew) -> Result<Demo, Exit> {
        let parent = std::env::temp_dir();
        let cannot_make =
            |error| Exit::cannot_start(format!("cannot make a folder for the demo in {}: {error}", parent.display()));
        let folder = Folder::below(&parent).map_err(cannot_make)?;
        let cannot_write = |error| {
            Exit::cannot_start(format!("cannot write the demo's files to {}: {error}", folder.path().display()))
        };
        site::write(&folder.path().join("site")).map_err(cannot_write)?;
        let written = Instant::now();
        let mut demo = Demo { servers: Vec::new(), caches: Vec::new(), folder };
        (1..=3).try_for_each(|number| demo.start_one(crew, number))?;
        thread::sleep(SETTLED.saturating_sub(written.elapsed()));
        Ok(demo)
    }

    fn start_one(&mut self, crew: &mut Crew, number: u32) -> Result<(), Exit> {
        let name = format!("origin-{number}");
        let cannot = |error: io::Error| Exit::cannot_start(format!("cannot start the demo's {name}: {error}"));
        let anywhere = Address::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let listener = listen(&anywhere, Options { backlog: 128, reuse_port: false }).map_err(cannot)?;
        let address = listener.address().map_err(cannot)?;
        let cache = self.open_cache(number)?;
        let pool = Pool::start(1, 1).map_err(cannot)?;
        let site = Site::open(&self.folder.path().join("site"), site_options(), Some(cache), pool).map_err(cannot)?;
        let app_name = name.clone();
        let recruit = crew.single(vec![listener])?;
        crew.start(Rank::Back, &name, recruit, move |sys, remote| {
            let ear = remote.clone();
            // The page empties the caches through the proxy.
            let settings = OriginSettings { proxied_purge: true, ..OriginSettings::default() };
            let files = DirStore::new(site, FILES_AT_HAND, move || ear.wake());
            let app = Origin::new(DemoStore::over(&app_name, files), settings);
            Worker::new(app, sys, Vec::new(), Box::new(RingLog::off()), remote, net_settings())
        })?;
        self.servers.push(Server { name, address, weight: 1, backup: false });
        Ok(())
    }

    fn open_cache(&mut self, number: u32) -> Result<Arc<CacheDir>, Exit> {
        let settings = cache::Settings {
            dir: self.folder.path().join(format!("cache-{number}")),
            ttl: TTL,
            max_bytes: 64 << 20,
            max_objects: 1000,
        };
        let cache = CacheDir::open(settings).map_err(|error| Exit::cannot_start(error.to_string()))?;
        let cache = Arc::new(cache);
        tend(&cache)?;
        self.caches.push(cache.clone());
        Ok(cache)
    }

    /// Says what to open and what to try.
    pub fn invite(&self, bound: &[Address], log: &LogTarget) {
        let Some(Address::Tcp(address)) = bound.iter().find(|address| matches!(address, Address::Tcp(_))) else {
            return;
        };
        let log = match log {
            LogTarget::File(path) => format!("tail -f {}", path.display()),
            LogTarget::Stdout => "the lines below".to_owned(),
            LogTarget::Off => "off".to_owned(),
        };
        let text = format!(
            "
  pilb-fast serves three demo origins, each with a cache of its own

    open   {base}/            who answers, and what comes from a cache
    try    curl -s {base}/
           curl -s {base}/echo      what an origin gets to see
           curl -s {base}/bytes/1000000 | wc -c
           curl -s --compressed -o /dev/null -D - {base}/story.txt
                                              six times: three misses, then three hits
    watch  {log}
    files  {folder}

  Ctrl-C finishes what runs, removes the files and ends.

",
            base = format_args!("http://{address}"),
            folder = self.folder.path().display()
        );
        // A closed standard output is no reason not to serve.
        let _ = io::stdout().write_all(text.as_bytes());
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // Nothing is stored any more from now on: the folder (dropped next) stays empty once it is.
        self.caches.iter().for_each(|cache| cache.close());
    }
}

fn site_options() -> SiteOptions {
    let mut page = RelativePath::default();
    let known = page.decode(site::NOT_FOUND.as_bytes()).is_ok();
    SiteOptions { compress: true, listing: true, not_found: known.then_some(page) }
}

fn net_settings() -> Settings {
    Settings {
        buffer: 16 * 1024,
        buffers: usize::MAX,
        max_sessions: 1024,
        idle_per_server: 0,
        drain: 30 * SECOND,
        linger: 2 * SECOND,
    }
}
