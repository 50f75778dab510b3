//! L5: puts a process together: configuration, sockets, log, workers, signals; and takes it apart in order.
//!
//! Nothing is half-started: names are resolved, every listener is bound and the log is open before the first worker runs.

mod admin;
mod cache;
mod cores;
mod crew;
mod demo;
mod memory;
mod origin;
mod policy;
mod proxy;

pub use origin::origin;
pub use proxy::proxy;

use crate::access_log::{Format, Target};
use crate::base::Address;
use crate::config::{Exit, LogFormat, LogTarget, explain_bind};
use crate::net::lane::SESSIONS_PER_PIPE;
use crate::net::listen::{Options, listen};
use crate::net::sys::Listener;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Diagnostics on standard error: what RUST_LOG says, else by `-v` and `-q`.
fn start_diagnostics(verbosity: i8) {
    let level = match verbosity {
        ..0 => "error",
        0 => "info",
        1 => "debug",
        _ => "trace",
    };
    let mut builder = env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(level));
    builder.format_target(false).format_timestamp_millis();
    // A second start in one process (tests) keeps the first one's logger.
    let _ = builder.try_init();
}

/// Open listeners.
struct Listening {
    by_worker: Vec<Vec<Listener>>,
    /// Where they really are (port 0 got a number).
    addresses: Vec<Address>,
}

impl Listening {
    /// Says so. To be called when everything else that may fail has worked.
    fn announce(addresses: &[Address]) {
        addresses.iter().for_each(|address| log::info!("listening on {address}"));
    }
}

/// The listeners of each worker: every worker has its own socket on each TCP address, the kernel spreads clients over them,
/// and they even it out. A Unix socket has no such sharing: the first worker gets it, and hands clients over.
fn bind_all(addresses: &[Address], workers: usize, backlog: usize) -> Result<Listening, Exit> {
    let options = Options { backlog: i32::try_from(backlog).unwrap_or(i32::MAX), reuse_port: workers > 1 };
    let mut all: Vec<Vec<Listener>> = (0..workers).map(|_| Vec::new()).collect();
    let mut bound_to = Vec::new();
    for address in addresses {
        let cannot = |error| Exit::cannot_start(explain_bind("--listen", address, &error));
        if options.reuse_port && matches!(address, Address::Tcp(_)) {
            // Shared ports are shared with other processes as well: find out first whether one has it.
            listen(address, Options { reuse_port: false, ..options }).map_err(cannot)?;
        }
        let first = listen(address, options).map_err(cannot)?;
        let bound = first.address().map_err(cannot)?;
        all[0].push(first);
        if let Address::Tcp(_) = bound {
            for others in &mut all[1..] {
                others.push(listen(&bound, options).map_err(cannot)?);
            }
        }
        bound_to.push(bound);
    }
    Ok(Listening { by_worker: all, addresses: bound_to })
}

/// Raises the limit of open files as far as this process may, and returns it.
fn open_files() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let limit = getrlimit(Resource::Nofile).current;
    limit.map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX))
}

/// How many clients each worker may have: so many that every one of them can have its server connection (or its file) as well, and some
/// of them a pipe; or as told, which may be more, since most clients are idle. `others` more are open besides.
fn sessions_per_worker(told: Option<usize>, workers: usize, others: usize) -> usize {
    let safe = clients_within(open_files(), others);
    let most = most_told(safe);
    if let Some(told) = told.filter(|told| *told > most) {
        log::warn!(
            "--max-connections {told} needs more open files than allowed: {most} it is (raise the limit with ulimit -n)"
        );
    } else if let Some(told) = told.filter(|told| *told > safe) {
        log::info!("--max-connections {told}: with this limit of open files {safe} of them can be served at once");
    }
    (told.unwrap_or(safe).min(most) / workers).max(1)
}

/// Who is told to may go beyond the safe number of clients, if a third of the files is left for what these ask for.
fn most_told(safe: usize) -> usize {
    safe + safe / 2
}

/// So many clients have room within this limit of open files.
fn clients_within(files: usize, others: usize) -> usize {
    // Listeners, logs, what wakes the workers. Of a limit as low as 64 they get a part only: with all of it a single client would be left.
    const OTHERS: usize = 64;
    let files_of_a_group = SESSIONS_PER_PIPE * 2 + 2;
    let left = files.saturating_sub(OTHERS.min(files / 4) + others);
    (left / files_of_a_group).saturating_mul(SESSIONS_PER_PIPE)
}

fn target(config: &LogTarget) -> Target {
    match config {
        LogTarget::File(path) => Target::File(path.clone()),
        LogTarget::Stdout => Target::Stdout,
        LogTarget::Off => Target::Off,
    }
}

fn format(config: LogFormat) -> Format {
    match config {
        LogFormat::Pilb => Format::Pilb,
        LogFormat::Combined => Format::Combined,
        LogFormat::Json => Format::Json,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_low_limit_of_open_files_leaves_room_for_more_than_one_client() {
        assert_eq!(clients_within(64, 0), 16);
        // A server that keeps files at hand may have none left; a worker has one place at the least.
        assert_eq!(clients_within(64, 64), 0);
    }

    #[test]
    fn all_clients_have_room_with_a_server_connection_each() {
        for files in [64, 100, 256, 1024, 20_000, 1 << 20] {
            let clients = clients_within(files, 0);
            let others = files - clients * 2 - clients / SESSIONS_PER_PIPE * 2;
            assert!(others >= 16, "{files}: {others}");
            assert!(files - most_told(clients) >= files / 4);
        }
    }
}
