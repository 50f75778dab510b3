//! From what was configured to what the proxy works with.

use crate::base::time::SECOND;
use crate::base::{Address, Micros, Peer};
use crate::config::balancing::{Balance, HashBy};
use crate::config::chain::SendProxy;
use crate::config::health::Probe;
use crate::config::proxy::{Forwarded as ConfigForwarded, ProxyConfig};
use crate::config::{Exit, Networks as ConfigNetworks, Server as ConfigServer};
use crate::proxy::choice::{KeyFrom, Method, key_of};
use crate::proxy::health::Rules;
use crate::proxy::limits::{Access, Connections, Gate, Networks, Rate, Rates, Trusted, Version, preface};
use crate::proxy::probe::{Check, Plan};
use crate::proxy::servers::{Policy, Server};
use crate::proxy::{Forwarded, Settings, StickyRule};
use rustix::rand::{GetRandomFlags, getrandom};
use std::sync::Arc;

/// Clients that the tables of limits have room for. (Of 8 bytes each.)
const CLIENTS: usize = 65_536;
/// The longest ejection, as a multiple of the first.
const EJECT_MOST: Micros = 30;

/// The servers as the proxy knows them.
pub(super) fn servers(servers: &[ConfigServer]) -> Vec<Server> {
    let server = |server: &ConfigServer| Server {
        name: server.name.clone(),
        weight: u32::from(server.weight),
        backup: server.backup,
    };
    servers.iter().map(server).collect()
}

/// What each worker goes by. `reached` is where clients reach this proxy.
pub(super) fn settings(config: &ProxyConfig, reached: &[Address]) -> Result<Settings, Exit> {
    let (times, limits, chain) = (&config.timeouts, &config.limits, &config.chain);
    Ok(Settings {
        client_head: times.client.head,
        client_idle: times.client.idle,
        client_body: times.client.body,
        client_write: times.client.write,
        min_rate: config.guard.min_rate.map_or(0, |rate| u32::try_from(rate).unwrap_or(u32::MAX)),
        queue: config.balancing.ceiling.map_or(0, |ceiling| ceiling.wait),
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
        retry_percent: u32::from(config.health.retry_budget),
        servers: policy(config),
        sticky: sticky(config)?,
        gate: gate(config)?,
        trusted: trusted(&chain.trusted),
        prefaces: trusted(&chain.proxy_protocol),
        send_preface: chain.send_proxy.map(|written| {
            let tcp = reached.iter().find_map(|address| match address {
                Address::Tcp(address) => Some(*address),
                Address::Unix(_) => None,
            });
            (version(written), tcp)
        }),
    })
}

fn version(send: SendProxy) -> Version {
    match send {
        SendProxy::V1 => Version::One,
        SendProxy::V2 => Version::Two,
    }
}

fn policy(config: &ProxyConfig) -> Policy {
    let balancing = &config.balancing;
    let (method, key) = match &balancing.method {
        Balance::RoundRobin => (Method::RoundRobin, KeyFrom::Address),
        Balance::Least => (Method::Least, KeyFrom::Address),
        Balance::TwoChoices => (Method::TwoChoices, KeyFrom::Address),
        Balance::Hash(by) => (Method::Hash, key_from(by)),
    };
    let most = balancing.ceiling.map(|ceiling| ceiling.requests);
    let queue = balancing.ceiling.map_or(0, |ceiling| ceiling.queue as usize);
    let (check, eject) = (config.health.check.as_ref(), config.health.eject);
    let health = Rules {
        failures: eject.map_or(0, |eject| u32::from(eject.after)),
        eject: eject.map_or(SECOND, |eject| eject.time),
        eject_most: eject.map_or(SECOND, |eject| eject.time).saturating_mul(EJECT_MOST),
        rise: check.map_or(1, |check| u32::from(check.rise)),
        fall: check.map_or(1, |check| u32::from(check.fall)),
        slow_start: balancing.slow_start,
    };
    let mut preface = Vec::new();
    if let Some(written) = config.chain.send_proxy {
        // The proxy speaks for itself.
        preface::write(&mut preface, version(written), Peer::Unix, None);
    }
    let probes = check.map_or(Plan { check: Check::Off, ..Plan::default() }, |check| Plan {
        check: match &check.probe {
            Probe::Tcp => Check::Tcp,
            Probe::Http { path, statuses } => Check::Http {
                path: path.clone(),
                statuses: statuses.iter().map(|range| (*range.start(), *range.end())).collect(),
            },
        },
        interval: check.interval,
        timeout: check.timeout,
        preface,
    });
    Policy { method, key, most, queue, health, probes }
}

fn key_from(by: &HashBy) -> KeyFrom {
    match by {
        HashBy::Address => KeyFrom::Address,
        HashBy::Path => KeyFrom::Path,
        HashBy::Header(name) => KeyFrom::Header(name.clone()),
        HashBy::Cookie(name) => KeyFrom::Cookie(name.clone()),
    }
}

fn sticky(config: &ProxyConfig) -> Result<Option<StickyRule>, Exit> {
    let Some(sticky) = &config.balancing.sticky else { return Ok(None) };
    let key = match sticky.read_key()? {
        Some(secret) => key_of(&secret),
        // Clients find their servers again only until the next start.
        None => random()?,
    };
    Ok(Some(StickyRule { name: sticky.cookie.clone(), key }))
}

fn gate(config: &ProxyConfig) -> Result<Gate, Exit> {
    let guard = &config.guard;
    let seed = || random::<8>().map(u64::from_ne_bytes);
    let connections = |most| Ok((most, Arc::new(Connections::new(CLIENTS, seed()?))));
    let rate = |rate: crate::config::guard::ClientRate| {
        Ok((Rate::new(rate.requests, rate.per, rate.burst), Arc::new(Rates::new(CLIENTS, seed()?))))
    };
    Ok(Gate {
        access: access(&guard.allow, &guard.deny),
        connections: guard.client_connections.map(connections).transpose()?,
        rate: guard.client_rate.map(rate).transpose()?,
        ..Gate::default()
    })
}

fn access(allow: &ConfigNetworks, deny: &ConfigNetworks) -> Access {
    let everybody = allow.is_empty();
    Access {
        allow: (!everybody).then(|| networks(allow)),
        deny: networks(deny),
        no_unix: deny.unix || !(everybody || allow.unix),
    }
}

fn networks(list: &ConfigNetworks) -> Networks {
    Networks::new(list.ip.iter().copied())
}

fn trusted(list: &ConfigNetworks) -> Trusted {
    Trusted { networks: networks(list), unix: list.unix }
}

/// Bytes that nobody can guess.
pub(super) fn random<const N: usize>() -> Result<[u8; N], Exit> {
    let mut bytes = [0; N];
    match getrandom(&mut bytes, GetRandomFlags::empty()) {
        Ok(n) if n == N => Ok(bytes),
        Ok(_) => Err(Exit::cannot_start("the system gave too few random bytes")),
        Err(error) => Err(Exit::cannot_start(format!("the system gave no random bytes: {error}"))),
    }
}
