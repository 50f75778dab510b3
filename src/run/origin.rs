//! The life of `pilb-origin`.

use crate::access_log::{self, LogSetup};
use crate::base::time::SECOND;
use crate::config::cache::lies_below;
use crate::config::files::{Files as ConfigFiles, HeaderRule};
use crate::config::origin::{OriginConfig, parse};
use crate::config::{Exit, LogTarget, explain_log};
use crate::net::{Settings as NetSettings, Worker, keep_little};
use crate::origin::{Files, Origin, RelativePath, Rule, Settings};
use crate::run;
use crate::run::crew::{Crew, Rank};
use crate::run::{Listening, bind_all, format, open_files, sessions_per_worker, start_diagnostics, target};
use crate::storage::cache::{self, CacheDir};
use crate::storage::{DirStore, Options, Pool, Site};
use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Threads that wait for disks. Compressors have one per worker.
const IO_THREADS: usize = 4;
/// Between two looks after the cache.
const TEND: Duration = Duration::from_secs(1);

/// Runs the file server with these arguments (the program's name first) until it is told to end; or `pilb-origin cache`.
pub fn origin(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    if args.get(1).is_some_and(|word| word == "cache") {
        return run::cache::cache(args.into_iter().skip(1));
    }
    match parse(args).and_then(|config| serve(&config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(exit) => exit.report("pilb-origin"),
    }
}

fn serve(config: &OriginConfig) -> Result<(), Exit> {
    start_diagnostics(config.verbosity);
    keep_little();
    let workers = config.workers.count();
    let mut crew = Crew::new()?;
    let listening = bind_all(&config.listen, workers, config.limits.backlog)?;
    let setup = LogSetup { target: target(&config.access_log), format: format(config.log_format), servers: Vec::new() };
    let cannot_log = |error| match &config.access_log {
        LogTarget::File(path) => Exit::cannot_start(explain_log(path, &error)),
        _ => Exit::cannot_start(format!("cannot write the access log to standard output: {error}")),
    };
    let (log, sinks) = access_log::start(setup, workers).map_err(cannot_log)?;
    let cache = open_cache(config)?;
    let site = open_site(config, workers, cache.clone())?;
    let team = crew.team(listening.by_worker)?;
    let at_hand = files_at_hand(workers);
    for (number, (recruit, sink)) in team.into_iter().zip(sinks).enumerate() {
        let (site, settings, net) = (site.clone(), settings(config), net_settings(config, workers));
        crew.start(Rank::Front, &format!("pilb-origin-{number}"), recruit, move |sys, remote| {
            let ear = remote.clone();
            let app = Origin::new(DirStore::new(site, at_hand, move || ear.wake()), settings);
            Worker::new(app, sys, Vec::new(), Box::new(sink), remote, net)
        })?;
    }
    Listening::announce(&listening.addresses);
    let kept = config.cache.place().filter(|_| cache.is_some());
    let kept = kept.map_or("no cache".to_owned(), |(dir, _)| format!("cache in {}", dir.display()));
    log::info!("ready: {workers} worker(s), files of {}, {kept}", config.root.display());
    let ended = crew.serve(&log);
    cache.inspect(|cache| cache.close());
    log.stop(access_log::STOP_DEADLINE);
    ended
}

/// The cache, with a thread that looks after it. A folder that was not named must not keep the files from being served.
fn open_cache(config: &OriginConfig) -> Result<Option<Arc<CacheDir>>, Exit> {
    let Some((dir, named)) = config.cache.place() else { return Ok(None) };
    if lies_below(dir, &config.root) {
        log::warn!(
            "no cache: ./{} would lie below --root, where clients could read it; name one by --cache-dir",
            dir.display()
        );
        return Ok(None);
    }
    let settings = cache::Settings {
        dir: dir.to_owned(),
        ttl: config.cache.ttl(),
        max_bytes: config.cache.cache_max_size,
        max_objects: config.cache.cache_max_objects,
    };
    let cache = match CacheDir::open(settings) {
        Ok(cache) => Arc::new(cache),
        Err(error) if named => return Err(Exit::cannot_start(error.to_string())),
        Err(error) => {
            log::warn!("no cache: {error}");
            return Ok(None);
        }
    };
    tend(&cache)?;
    Ok(Some(cache))
}

/// Has a thread look after the cache.
pub(super) fn tend(cache: &Arc<CacheDir>) -> Result<(), Exit> {
    let tended = cache.clone();
    let tend = move || {
        loop {
            if !tended.tend() {
                thread::sleep(TEND);
            }
        }
    };
    let cannot = |error| Exit::cannot_start(format!("cannot start a thread for the cache: {error}"));
    thread::Builder::new().name("pilb-cache".to_owned()).spawn(tend).map(drop).map_err(cannot)
}

fn open_site(config: &OriginConfig, workers: usize, cache: Option<Arc<CacheDir>>) -> Result<Arc<Site>, Exit> {
    let not_found = match &config.files.not_found {
        None => None,
        Some(path) => {
            let mut page = RelativePath::default();
            let wrong = |_| Exit::usage(format!("--not-found '{path}' is no path that could be served"));
            page.decode(path.as_bytes()).map_err(wrong)?;
            Some(page)
        }
    };
    let options = Options { compress: !config.files.no_compress, listing: config.files.listing, not_found };
    let cannot_thread = |error| Exit::cannot_start(format!("cannot start the threads that read files: {error}"));
    let pool = Pool::start(IO_THREADS, workers).map_err(cannot_thread)?;
    let cannot_open = |error| Exit::cannot_start(format!("cannot open --root {}: {error}", config.root.display()));
    Site::open(&config.root, options, cache, pool).map_err(cannot_open)
}

fn rule(rule: &HeaderRule) -> Rule {
    let files = match &rule.files {
        ConfigFiles::All => Files::All,
        ConfigFiles::Below(path) => Files::Below(path.clone()),
        ConfigFiles::Ending(ending) => Files::Ending(ending.clone()),
    };
    Rule { files, value: rule.value.clone() }
}

fn settings(config: &OriginConfig) -> Settings {
    Settings {
        client_head: config.timeouts.head,
        client_idle: config.timeouts.idle,
        client_body: config.timeouts.body,
        client_write: config.timeouts.write,
        request: config.limits.request(),
        cache_control: config.files.cache_control.iter().map(rule).collect(),
        ..Settings::default()
    }
}

/// How many files a worker may keep open for the next who asks for them.
fn files_at_hand(workers: usize) -> usize {
    (open_files() / 8 / workers).clamp(16, 4096)
}

fn net_settings(config: &OriginConfig, workers: usize) -> NetSettings {
    NetSettings {
        buffer: config.limits.buffer_size,
        buffers: usize::MAX,
        max_sessions: sessions_per_worker(config.limits.max_connections, workers, files_at_hand(workers) * workers),
        idle_per_server: 0,
        drain: config.timeouts.drain,
        linger: 2 * SECOND,
    }
}
