//! The life of `pilb-fast`.

use crate::access_log::{self, LogSetup};
use crate::base::time::SECOND;
use crate::config::balancing::Balance;
use crate::config::proxy::{ProxyConfig, parse};
use crate::config::{Exit, LogTarget, Server, explain_log, refuse_loops, resolve};
use crate::net::{Settings as NetSettings, Worker};
use crate::proxy::board::Board;
use crate::proxy::ledger::Block;
use crate::proxy::seats::Waker;
use crate::proxy::{Place, Proxy};
use crate::run::admin::{Books, Door, FILES};
use crate::run::crew::{Crew, Rank};
use crate::run::demo::Demo;
use crate::run::memory::Ceiling;
use crate::run::{Listening, bind_all, format, memory, policy, sessions_per_worker, start_diagnostics, target};
use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

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
    let ceiling = Ceiling::of(config.guard.max_memory);
    let backlog = config.limits.client.backlog;
    let backlog = ceiling.as_ref().map_or(backlog, |ceiling| ceiling.backlog(backlog, workers * config.listen.len()));
    let listening = bind_all(&config.listen, workers, backlog)?;
    let door = Door::open(config.admin.as_ref())?;
    let demo = if config.demo { Some(Demo::start(&mut crew)?) } else { None };
    let servers = demo.as_ref().map_or_else(|| resolve(&config.upstreams), |demo| Ok(demo.servers.clone()))?;
    refuse_loops("--listen", &config.listen, &servers)?;
    refuse_loops("--admin", config.admin.as_slice(), &servers)?;
    let names: Vec<String> = servers.iter().map(|server| server.name.clone()).collect();
    let setup = LogSetup { target: target(&config.access_log), format: format(config.log_format), servers: names };
    let cannot_log = |error| match &config.access_log {
        LogTarget::File(path) => Exit::cannot_start(explain_log(path, &error)),
        _ => Exit::cannot_start(format!("cannot write the access log to standard output: {error}")),
    };
    let (log, sinks) = access_log::start(setup, workers).map_err(cannot_log)?;
    let settings = policy::settings(config, &listening.addresses)?;
    let net = net_settings(config, workers, ceiling.as_ref());
    if let Some(ceiling) = ceiling {
        memory::watch(ceiling, settings.gate.room.clone());
    }
    let team = crew.team(listening.by_worker)?;
    let wakers = team.iter().map(|recruit| Box::new(recruit.waker()) as Waker).collect();
    let board = Arc::new(Board::new(servers.len()).limited(&settings.servers, wakers));
    let seed = u64::from_ne_bytes(policy::random()?);
    let blocks: Vec<_> = (0..workers).map(|_| Arc::new(Block::new(servers.len()))).collect();
    let books = Books::new(&servers, board.clone(), blocks.clone());
    for (number, (recruit, sink)) in team.into_iter().zip(sinks).enumerate() {
        let (settings, net) = (settings.clone(), net.clone());
        let addresses = servers.iter().map(|server| server.address.clone()).collect();
        let (known, board) = (policy::servers(&servers), board.clone());
        let block = door.as_ref().map(|_| blocks[number].clone());
        // Staggered, so that the workers' first requests do not all meet the first server.
        let place = Place { number, probes: number == 0, seed: seed.wrapping_add(number as u64) };
        crew.start(Rank::Front, &format!("pilb-{number}"), recruit, move |sys, remote| {
            let app = Proxy::one_of(settings, known, board, place).publishing(block);
            Worker::new(app, sys, addresses, Box::new(sink), remote, net)
        })?;
    }
    door.map(|door| door.serve(&mut crew, books)).transpose()?;
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
    let method = match &config.balancing.method {
        Balance::RoundRobin => "round robin over",
        Balance::Least => "the least busy of",
        Balance::TwoChoices => "the better of two of",
        Balance::Hash(_) => "by hash over",
    };
    log::info!("ready: {workers} worker(s), {method} {}; access log: {log}", list.join(", "));
}

fn net_settings(config: &ProxyConfig, workers: usize, ceiling: Option<&Ceiling>) -> NetSettings {
    let admin = config.admin.as_ref().map_or(0, |_| FILES);
    NetSettings {
        buffer: config.limits.client.buffer_size,
        buffers: ceiling.map_or(usize::MAX, |ceiling| ceiling.buffers(workers)),
        max_sessions: sessions_per_worker(config.limits.client.max_connections, workers, admin),
        idle_per_server: config.limits.max_idle,
        drain: config.timeouts.client.drain,
        linger: 2 * SECOND,
    }
}
