//! The life of `pilb-origin`.

use crate::access_log::{self, LogSetup};
use crate::base::time::SECOND;
use crate::config::origin::{OriginConfig, parse};
use crate::config::{Exit, LogTarget, explain_log};
use crate::net::{Settings as NetSettings, Worker};
use crate::origin::{Origin, Settings};
use crate::run::crew::{Crew, Rank};
use crate::run::{Listening, bind_all, format, sessions_per_worker, start_diagnostics, target};
use crate::storage::DirStore;
use std::ffi::OsString;
use std::process::ExitCode;

/// Runs the file server with these arguments (the program's name first) until it is told to end.
pub fn origin(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    match parse(args).and_then(|config| serve(&config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(exit) => exit.report("pilb-origin"),
    }
}

fn serve(config: &OriginConfig) -> Result<(), Exit> {
    start_diagnostics(config.verbosity);
    let workers = config.workers.count();
    let mut crew = Crew::new()?;
    let listening = bind_all(&config.listen, workers, config.limits.backlog)?;
    let setup = LogSetup { target: target(&config.access_log), format: format(config.log_format), servers: Vec::new() };
    let cannot_log = |error| match &config.access_log {
        LogTarget::File(path) => Exit::cannot_start(explain_log(path, &error)),
        _ => Exit::cannot_start(format!("cannot write the access log to standard output: {error}")),
    };
    let (log, sinks) = access_log::start(setup, workers).map_err(cannot_log)?;
    let team = crew.team(listening.by_worker)?;
    for (number, (recruit, sink)) in team.into_iter().zip(sinks).enumerate() {
        let cannot_open = |error| Exit::cannot_start(format!("cannot open --root {}: {error}", config.root.display()));
        let app = Origin::new(DirStore::new(&config.root).map_err(cannot_open)?, settings(config));
        let net = net_settings(config, workers);
        crew.start(Rank::Front, &format!("pilb-origin-{number}"), recruit, move |sys, remote| {
            Worker::new(app, sys, Vec::new(), Box::new(sink), remote, net)
        })?;
    }
    Listening::announce(&listening.addresses);
    log::info!("ready: {workers} worker(s), files of {}", config.root.display());
    let ended = crew.serve(&log);
    log.stop(access_log::STOP_DEADLINE);
    ended
}

fn settings(config: &OriginConfig) -> Settings {
    Settings {
        client_head: config.timeouts.head,
        client_idle: config.timeouts.idle,
        client_body: config.timeouts.body,
        client_write: config.timeouts.write,
        request: config.limits.request(),
        ..Settings::default()
    }
}

fn net_settings(config: &OriginConfig, workers: usize) -> NetSettings {
    NetSettings {
        buffer: config.limits.buffer_size,
        max_sessions: sessions_per_worker(config.limits.max_connections, workers, 2),
        idle_per_server: 0,
        drain: config.timeouts.drain,
        linger: 2 * SECOND,
    }
}
