//! The command line of `pilb-fast`.

use crate::base::{Address, Micros};
use crate::config::balancing::{Balancing, BalancingOptions};
use crate::config::chain::{Chain, ChainOptions};
use crate::config::common::{
    self, ClientLimits, ClientTimeouts, Common, LogFormat, LogTarget, Messages, Program, Workers,
};
use crate::config::guard::{Guard, GuardOptions};
use crate::config::health::{Health, HealthOptions};
use crate::config::{Exit, UpstreamSpec, address, values};
use crate::http1;
use clap::{Args, Parser, ValueEnum};
use std::ffi::OsString;

const PROGRAM: Program =
    Program { listen: "127.0.0.1:8080", access_log: "register.log", examples: EXAMPLES, manual: MANUAL, notes: NOTES };

const USAGE: &str = "pilb-fast --upstream SERVER[,SERVER...] [OPTIONS]
       pilb-fast --demo [OPTIONS]";

const EXAMPLES: &str = "Examples:
  pilb-fast --demo
  pilb-fast --upstream 127.0.0.1:3000
  pilb-fast --listen 0.0.0.0:80 --upstream a,b,c
  pilb-fast --upstream a=3,b --backup c --balance least";

const MANUAL: &str = "Examples:
  See it work, with servers of its own:
    pilb-fast --demo

  Forward http://127.0.0.1:8080 to a program on this machine:
    pilb-fast --upstream 127.0.0.1:3000

  Share the clients of port 80 out to port 80 of three servers:
    pilb-fast --listen 0.0.0.0:80 --upstream a,b,c

  A server thrice as strong as the other, each asked for /health, a third one
  for when both are down; 100 requests at a time for each, others wait:
    pilb-fast --upstream a=3,b --backup c --balance least \\
      --health-check /health --server-connections 100

  Behind a trusted proxy that tells of its clients by X-Forwarded-For:
    pilb-fast --listen :80 --upstream a,b --trusted-proxies 10.0.0.7

  Behind one that tells by the PROXY protocol; each client held to a rate:
    pilb-fast --listen :80 --upstream a,b --proxy-protocol 10.0.0.7 \\
      --client-rate 100/s

  IPv4, IPv6 and a socket in front; two servers and a socket behind; JSON log:
    pilb-fast --listen :80 --listen '[::]:80' --listen unix:/run/pilb.sock \\
      --upstream '10.0.0.7:8080,[2001:db8::7]:8080,unix:/run/app.sock' \\
      --access-log /var/log/pilb.log --access-log-format json

Values:
  SERVER   host[:port], [IPv6][:port] or unix:/path; port 80 if left out. Behind
           it =N, a weight of 1 to 256 (1 if left out). A name is looked up
           once, at the start; each of its addresses is a server of its own.
  MODE     append adds the client to what the request already says (a proxy
           behind trusted ones); replace says only what is known here (a proxy
           that faces the world); off adds nothing. With --trusted-proxies it is
           append for those and replace for all others.
  METHOD   round-robin (rr): each in turn. least (leastconn): the one with the
           fewest requests for its weight. two-choices (p2c): the less congested
           of two drawn by lot. hash: the same server for the same KEY.
  NETWORK  10.0.0.0/8, 2001:db8::/32, an IP address, or the word unix for those
           who come by a Unix socket.
  LIST     statuses and ranges of them, 8 at most: 200,204,300-399
  RATE     a whole number and /s, /m or /h: 100/s, 600/m. At once come as many
           as in a second, at least 10, at most the number; or --client-burst.";

const NOTES: &str = "
Notes:
  --deny wins over --allow. They and --client-connections look at the address
  that a connection comes from, or that its PROXY header names; --client-rate at
  the one that a trusted proxy tells of. Clients by a Unix socket have none, and
  no limit. IPv6 clients count by their network of 64 bits.
  Connections from a NETWORK of --proxy-protocol have to begin with a PROXY
  header (v1 or v2); from elsewhere, such a header is a bad request.
  With --send-proxy each request has a connection to a server of its own, as it
  tells of one client: none is kept, so that servers see more of them.
  Health checks come on top of --server-connections: leave them one.
  Without --sticky-key, cookies are valid until this process ends; several
  proxies before the same servers need the same key, of 16 bytes or more.
  --admin shows what goes on here to whoever asks, and takes servers out of
  service for them: choose an address that the world does not reach.
";

/// What is done with the fields that tell a server about the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Forwarded {
    /// Add this client to what the request already says.
    Append,
    /// Say only what is known here, whatever the request says.
    Replace,
    /// Leave the fields as they came.
    Off,
}

/// How long everybody may take, in microseconds.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
#[command(next_help_heading = "Timeouts")]
pub struct Timeouts {
    #[command(flatten)]
    pub client: ClientTimeouts,
    /// Connecting to a server
    #[arg(long = "upstream-connect-timeout", value_name = "TIME", default_value = "3s", value_parser = values::timeout)]
    pub upstream_connect: Micros,
    /// Until the first byte of a server's answer
    #[arg(long = "upstream-response-timeout", value_name = "TIME")]
    #[arg(default_value = "60s", value_parser = values::timeout)]
    pub upstream_response: Micros,
    /// Between two reads of a server's answer
    #[arg(long = "upstream-read-timeout", value_name = "TIME", default_value = "60s", value_parser = values::timeout)]
    pub upstream_read: Micros,
    /// An unused connection to a server
    ///
    /// Unless the server announces another time (`Keep-Alive: timeout`).
    #[arg(long = "upstream-idle-timeout", value_name = "TIME", default_value = "4s", value_parser = values::timeout)]
    pub upstream_idle: Micros,
    /// A tunnel (WebSocket) that nothing passes
    #[arg(long = "tunnel-idle-timeout", value_name = "TIME", default_value = "1h", value_parser = values::timeout)]
    pub tunnel_idle: Micros,
}

/// How much there may be of everything.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
#[command(next_help_heading = "Limits")]
pub struct Limits {
    #[command(flatten)]
    pub client: ClientLimits,
    /// Bytes of an answer's head; more get 502
    #[arg(long, value_name = "SIZE", default_value = "32k", value_parser = common::head_size)]
    pub max_response_head: usize,
    /// Unused connections kept per server and worker
    ///
    /// With 0 none is kept.
    #[arg(long, value_name = "N", default_value = "1024", value_parser = idle_connections)]
    pub max_idle: usize,
}

impl Limits {
    /// The limits of a request head.
    pub fn request(&self) -> http1::Limits {
        self.client.request()
    }

    /// The limits of the head of a server's answer.
    pub fn response(&self) -> http1::Limits {
        http1::Limits { head: self.max_response_head, fields: self.client.max_fields, target: 0 }
    }
}

/// What `pilb-fast` was told to do: each value is within its bounds, and they agree with one another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyConfig {
    /// One or more, all different.
    pub listen: Vec<Address>,
    /// Where the status page is, if anywhere; none of `listen`.
    pub admin: Option<Address>,
    /// One or more, all different, names not looked up yet; none with `demo`. Backups are last, and never alone.
    pub upstreams: Vec<UpstreamSpec>,
    pub workers: Workers,
    pub access_log: LogTarget,
    pub log_format: LogFormat,
    pub timeouts: Timeouts,
    pub limits: Limits,
    pub forwarded: Forwarded,
    /// Further servers that a request may be tried on, 0 to 3.
    pub retries: u8,
    pub chain: Chain,
    pub balancing: Balancing,
    pub health: Health,
    pub guard: Guard,
    /// Run with servers of its own.
    pub demo: bool,
    /// -1 for errors only, 0, 1 for more, 2 for everything.
    pub verbosity: i8,
}

/// A fast and strict HTTP/1.1 reverse proxy and load balancer
#[derive(Parser)]
#[command(name = "pilb-fast", version, override_usage = USAGE)]
struct Cli {
    /// Servers to forward to, as host, host:port or host=weight; may be repeated
    #[arg(long, value_name = "SERVER,...", value_delimiter = ',', value_parser = address::upstream)]
    #[arg(help_heading = "Serving")]
    upstream: Vec<UpstreamSpec>,

    /// Servers for when none of the others is up
    #[arg(long, value_name = "SERVER,...", value_delimiter = ',', value_parser = address::backup)]
    #[arg(help_heading = "Serving")]
    backup: Vec<UpstreamSpec>,

    /// Start servers of its own to forward to, and look around
    #[arg(long, help_heading = "Serving")]
    demo: bool,

    /// Where to show a status page and metrics [default: nowhere]
    #[arg(long, value_name = "ADDRESS", value_parser = admin, help_heading = "Serving")]
    admin: Option<Address>,

    #[command(flatten)]
    common: Common,

    /// What to do with X-Forwarded-*: append, replace or off
    #[arg(
        long,
        value_name = "MODE",
        default_value = "append",
        hide_possible_values = true,
        help_heading = "Forwarding"
    )]
    forwarded: Forwarded,

    /// Other servers to try, 0 to 3, if repeating is safe
    #[arg(long, value_name = "N", default_value = "1", value_parser = retries, help_heading = "Forwarding")]
    retries: u8,

    #[command(flatten)]
    chain: ChainOptions,

    #[command(flatten)]
    balancing: BalancingOptions,

    #[command(flatten)]
    health: HealthOptions,

    #[command(flatten)]
    guard: GuardOptions,

    #[command(flatten)]
    timeouts: Timeouts,

    #[command(flatten)]
    limits: Limits,

    #[command(flatten)]
    messages: Messages,
}

fn retries(text: &str) -> Result<u8, String> {
    values::number(text, 0, 3).map(|number| number as u8)
}

fn admin(text: &str) -> Result<Address, String> {
    if text.contains(',') { Err("one address only: leave the others out".to_owned()) } else { address::listen(text) }
}

fn idle_connections(text: &str) -> Result<usize, String> {
    values::number(text, 0, 65_535)
}

/// Reads the command line, whose first argument is the program's name.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<ProxyConfig, Exit> {
    let cli: Cli = common::read(&PROGRAM, args)?;
    check(cli).map_err(Exit::usage)
}

fn check(cli: Cli) -> Result<ProxyConfig, String> {
    let (workers, listen) = (cli.common.workers, cli.common.listen()?);
    check_admin(cli.admin.as_ref(), &listen)?;
    cli.limits.client.check(workers)?;
    let health = cli.health.check(cli.retries)?;
    if let Some(backup) = cli.backup.first().filter(|_| health.check.is_none() && health.eject.is_none()) {
        return Err(format!(
            "--backup {} would never be used: with --health-check off and --eject-after 0 no server counts as down",
            backup.written
        ));
    }
    Ok(ProxyConfig {
        log_format: cli.common.log_format()?,
        verbosity: cli.messages.verbosity(),
        upstreams: servers(cli.demo, cli.upstream, cli.backup)?,
        chain: cli.chain.check(cli.forwarded)?,
        balancing: cli.balancing.check()?,
        guard: cli.guard.check(cli.limits.client.max_connections)?,
        access_log: cli.common.access_log,
        admin: cli.admin,
        timeouts: cli.timeouts,
        limits: cli.limits,
        forwarded: cli.forwarded,
        retries: cli.retries,
        demo: cli.demo,
        listen,
        workers,
        health,
    })
}

/// The servers, backups last. Each place is there once.
fn servers(demo: bool, upstreams: Vec<UpstreamSpec>, backups: Vec<UpstreamSpec>) -> Result<Vec<UpstreamSpec>, String> {
    let option = |spec: &UpstreamSpec| if spec.backup { "--backup" } else { "--upstream" };
    let only_backups = upstreams.is_empty();
    let all: Vec<UpstreamSpec> = upstreams.into_iter().chain(backups).collect();
    match (demo, all.as_slice()) {
        (true, [first, ..]) => {
            Err(format!("--demo brings its own servers: leave out --demo or {} {}", option(first), first.written))
        }
        (false, []) => {
            Err("no servers to forward to: add --upstream host:port, or --demo to see it work; see --help".to_owned())
        }
        (false, [first, ..]) if only_backups => Err(format!(
            "--backup is for when no other server is up, and there is no other: write --upstream {}",
            first.written
        )),
        _ => refuse_twice(&all).map(|()| all),
    }
}

fn refuse_twice(servers: &[UpstreamSpec]) -> Result<(), String> {
    for (index, spec) in servers.iter().enumerate() {
        match servers[..index].iter().find(|other| other.place == spec.place) {
            Some(other) if other.backup == spec.backup => {
                let option = if spec.backup { "--backup" } else { "--upstream" };
                return Err(format!("{option} '{}' is given twice: name each server once", spec.written));
            }
            Some(other) => {
                let (backup, other) = (&spec.written, &other.written);
                return Err(format!("--backup '{backup}' is --upstream '{other}', too: name each server once"));
            }
            None => {}
        }
    }
    Ok(())
}

/// Clients are not to find the status page, nor its readers the servers.
fn check_admin(admin: Option<&Address>, listen: &[Address]) -> Result<(), String> {
    let Some(admin) = admin else { return Ok(()) };
    match listen.iter().find(|ours| overlap(admin, ours)) {
        Some(ours) => {
            let what = if matches!(ours, Address::Tcp(_)) { "port" } else { "address" };
            Err(format!("--admin '{admin}' is where clients come in (--listen {ours}): choose another {what}"))
        }
        None => Ok(()),
    }
}

/// Whether two listeners would share connections. A port that the system chooses is free.
fn overlap(one: &Address, other: &Address) -> bool {
    match (one, other) {
        (Address::Tcp(one), Address::Tcp(other)) => {
            let all = one.is_ipv4() == other.is_ipv4() && (one.ip().is_unspecified() || other.ip().is_unspecified());
            one.port() != 0 && one.port() == other.port() && (all || one.ip() == other.ip())
        }
        (one, other) => one == other,
    }
}

#[cfg(test)]
mod tests;
