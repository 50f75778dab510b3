//! The life of `pilb-fast`.

use crate::access_log::{self, LogSetup};
use crate::base::time::SECOND;
use crate::config::proxy::{Forwarded as ConfigForwarded, ProxyConfig, parse};
use crate::config::{Exit, LogTarget, Server, explain_log, refuse_loops, resolve};
use crate::net::{Settings as NetSettings, Worker};
use crate::proxy::{Forwarded, Proxy, Settings};
use crate::run::crew::{Crew, Rank};
use crate::run::demo::Demo;
use crate::run::{Listening, bind_all, format, sessions_per_worker, start_diagnostics, target};
use std::ffi::OsString;
use std::process::ExitCode;

/// Runs the proxy with these arguments (the program's name first) until it is told to end.
pub fn proxy(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    match parse(args).and_then(|config| serve(&config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(exit) => exit.report("pilb-fast"),
    }
}

fn serve(config: &ProxyConfig) -> Result<(), Exit> {
    start_diagnostics(config.verbosity);
    // In the demo strict alternation is what there is to see, so one worker does it all.
    let workers = if config.demo { 1 } else { config.workers.count() };
    let mut crew = Crew::new()?;
    let listening = bind_all(&config.listen, workers, config.limits.client.backlog)?;
    let demo = if config.demo { Some(Demo::start(&mut crew)?) } else { None };
    let servers = demo.as_ref().map_or_else(|| resolve(&config.upstreams), |demo| Ok(demo.servers.clone()))?;
    refuse_loops(&config.listen, &servers)?;
    let names: Vec<String> = servers.iter().map(|server| server.name.clone()).collect();
    let setup =
        LogSetup { target: target(&config.access_log), format: format(config.log_format), servers: names.clone() };
    let cannot_log = |error| match &config.access_log {
        LogTarget::File(path) => Exit::cannot_start(explain_log(path, &error)),
        _ => Exit::cannot_start(format!("cannot write the access log to standard output: {error}")),
    };
    let (log, sinks) = access_log::start(setup, workers).map_err(cannot_log)?;
    let team = crew.team(listening.by_worker)?;
    for (number, (recruit, sink)) in team.into_iter().zip(sinks).enumerate() {
        let (settings, net) = (settings(config), net_settings(config, workers));
        let addresses = servers.iter().map(|server| server.address.clone()).collect();
        let names = names.clone();
        crew.start(Rank::Front, &format!("pilb-{number}"), recruit, move |sys, remote| {
            // Staggered, so that the workers' first requests do not all meet the first server.
            let app = Proxy::new(settings, names, number);
            Worker::new(app, sys, addresses, Box::new(sink), remote, net)
        })?;
    }
    Listening::announce(&listening.addresses);
    announce(config, &servers, workers);
    if let Some(demo) = &demo {
        demo.invite(&listening.addresses, &config.access_log);
    }
    let ended = crew.serve(&log);
    drop(demo);
    let totals = log.stop(access_log::STOP_DEADLINE);
    log::info!("access log: {} written, {} lost", totals.written, totals.dropped + totals.write_failed);
    ended
}

fn announce(config: &ProxyConfig, servers: &[Server], workers: usize) {
    let list: Vec<String> = servers.iter().map(|server| server.address.to_string()).collect();
    let log = match &config.access_log {
        LogTarget::File(path) => path.display().to_string(),
        LogTarget::Stdout => "standard output".to_owned(),
        LogTarget::Off => "off".to_owned(),
    };
    log::info!("ready: {workers} worker(s), round robin over {}; access log: {log}", list.join(", "));
}

fn settings(config: &ProxyConfig) -> Settings {
    let (times, limits) = (&config.timeouts, &config.limits);
    Settings {
        client_head: times.client.head,
        client_idle: times.client.idle,
        client_body: times.client.body,
        client_write: times.client.write,
        upstream_connect: times.upstream_connect,
        upstream_response: times.upstream_response,
        upstream_read: times.upstream_read,
        upstream_idle: times.upstream_idle,
        tunnel_idle: times.tunnel_idle,
        request: limits.request(),
        response: limits.response(),
        max_body: limits.client.max_body,
        forwarded: match config.forwarded {
            ConfigForwarded::Append => Forwarded::Append,
            ConfigForwarded::Replace => Forwarded::Replace,
            ConfigForwarded::Off => Forwarded::Off,
        },
        retries: config.retries,
    }
}

fn net_settings(config: &ProxyConfig, workers: usize) -> NetSettings {
    NetSettings {
        buffer: config.limits.client.buffer_size,
        max_sessions: sessions_per_worker(config.limits.client.max_connections, workers, 2, 0),
        idle_per_server: config.limits.max_idle,
        drain: config.timeouts.client.drain,
        linger: 2 * SECOND,
    }
}
