//! Limits against abuse: how little, how much and how often, and who at all. The options, and what they come to.

use crate::base::Micros;
use crate::base::time::SECOND;
use crate::config::network::{Network, Networks};
use crate::config::values;
use clap::Args;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    /// Bytes per second of a body that a client has to send or take; nothing if it may be as slow as it likes.
    pub min_rate: Option<u64>,
    /// Connections at a time per client address; nothing for any number. Clients by a Unix socket have none.
    pub client_connections: Option<u32>,
    /// Nothing if a client may ask as often as it likes.
    pub client_rate: Option<ClientRate>,
    /// Only these are served; everybody if it is empty.
    pub allow: Networks,
    /// These are not served, even if they are on the other list.
    pub deny: Networks,
    pub max_memory: MaxMemory,
}

/// Requests that a client address may send over time, and at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientRate {
    /// 1 or more, in the time `per`.
    pub requests: u32,
    /// A second, a minute or an hour.
    pub per: Micros,
    /// Requests at once, 1 or more.
    pub burst: u32,
}

/// How much memory the process may take before it turns new clients away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaxMemory {
    /// 75 % of what the control group allows, if it has a limit.
    Auto,
    Off,
    /// Bytes.
    Bytes(u64),
}

/// What is written on the command line. The burst has no default of clap's, so that it is seen whether it was given.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Guard")]
pub struct GuardOptions {
    /// Bytes of a body per second; slower clients are cut
    #[arg(long, value_name = "SIZE|off", default_value = "100", value_parser = min_rate)]
    // Spelled out, as clap reads a bare `Option` as "may be left out".
    min_rate: std::option::Option<u64>,

    /// Connections per client address [default: any number]
    #[arg(long, value_name = "N", value_parser = client_connections)]
    client_connections: Option<u32>,

    /// Requests per client address, as 100/s; more get 429
    #[arg(long, value_name = "RATE", value_parser = rate)]
    client_rate: Option<Rate>,

    /// How many of them at once [default: see RATE]
    #[arg(long, value_name = "N", value_parser = requests)]
    client_burst: Option<u32>,

    /// Serve these clients only
    #[arg(long, value_name = "NETWORK,...", value_delimiter = ',', value_parser = Network::parse)]
    allow: Vec<Network>,

    /// Do not serve these clients
    #[arg(long, value_name = "NETWORK,...", value_delimiter = ',', value_parser = Network::parse)]
    deny: Vec<Network>,

    /// Over it, new clients get 503; auto: by the cgroup
    #[arg(long, value_name = "SIZE|auto|off", default_value = "auto", value_parser = MaxMemory::parse)]
    max_memory: MaxMemory,
}

/// Requests, and the time in which they may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rate {
    requests: u32,
    per: Micros,
}

impl Rate {
    /// A second's worth, as a page asks for more than one thing at once at least 10, but never more than the rate names:
    /// `5/m` are five.
    fn burst(self) -> u32 {
        let seconds = u32::try_from(self.per / SECOND).unwrap_or(u32::MAX);
        self.requests.div_ceil(seconds.max(1)).max(BURST).min(self.requests)
    }
}

/// What a client may ask for at once, however low its rate.
const BURST: u32 = 10;

/// The process itself takes some, and a ceiling below it would turn everybody away.
const LEAST_MEMORY: u64 = 32 << 20;

impl GuardOptions {
    /// What they come to, with so many clients in all. Options without effect are refused.
    pub fn check(self, max_connections: Option<usize>) -> Result<Guard, String> {
        if let (Some(one), Some(all)) = (self.client_connections, max_connections)
            && one as usize > all
        {
            return Err(format!(
                "--client-connections {one} is more than --max-connections {all} has for all clients: \
                 lower the one or raise the other"
            ));
        }
        let client_rate = match (self.client_rate, self.client_burst) {
            (None, Some(_)) => {
                return Err("--client-burst needs --client-rate: add it, or leave --client-burst out".to_owned());
            }
            (rate, burst) => rate.map(|rate| ClientRate {
                requests: rate.requests,
                per: rate.per,
                burst: burst.unwrap_or_else(|| rate.burst()),
            }),
        };
        let (allow, deny): (Networks, Networks) = (self.allow.into_iter().collect(), self.deny.into_iter().collect());
        refuse_hidden(&allow, &deny)?;
        Ok(Guard {
            min_rate: self.min_rate,
            client_connections: self.client_connections,
            client_rate,
            allow,
            deny,
            max_memory: self.max_memory,
        })
    }
}

/// Refuses to allow what is denied as a whole.
fn refuse_hidden(allow: &Networks, deny: &Networks) -> Result<(), String> {
    if allow.unix && deny.unix {
        return Err("'unix' is in both --allow and --deny: keep one".to_owned());
    }
    for net in &allow.ip {
        match deny.ip.iter().find(|denied| denied.contains(net)) {
            Some(denied) if denied == net => return Err(format!("'{net}' is in both --allow and --deny: keep one")),
            Some(denied) => {
                return Err(format!(
                    "--allow '{net}' has no effect within --deny '{denied}': leave one out (--allow alone denies others)"
                ));
            }
            None => {}
        }
    }
    Ok(())
}

impl MaxMemory {
    fn parse(text: &str) -> Result<MaxMemory, String> {
        match text {
            "auto" => Ok(MaxMemory::Auto),
            "off" => Ok(MaxMemory::Off),
            _ => values::size(text, LEAST_MEMORY, 1 << 50)
                .map(MaxMemory::Bytes)
                .map_err(|error| format!("{error}, or 'auto' or 'off'")),
        }
    }
}

fn min_rate(text: &str) -> Result<Option<u64>, String> {
    match text {
        "off" => Ok(None),
        "0" => Err("no rate at all: write 'off' for no limit, or a size such as 100".to_owned()),
        _ => values::size(text, 1, 1 << 30).map(Some).map_err(|error| format!("{error}, or 'off'")),
    }
}

/// `100/s`, `600/m`, `1000/h`.
fn rate(text: &str) -> Result<Rate, String> {
    let Some((number, unit)) = text.split_once('/') else {
        return Err(format!("not a rate: write a number and /s, /m or /h, such as {}", example(text)));
    };
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(format!("'/{unit}' is no unit of a rate: use /s, /m or /h")),
    };
    Ok(Rate { requests: requests(number)?, per: seconds * SECOND })
}

/// The number that was meant, if there is one.
fn example(text: &str) -> String {
    requests(text).map_or_else(|_| "100/s".to_owned(), |number| format!("{number}/s"))
}

fn requests(text: &str) -> Result<u32, String> {
    values::number(text, 1, 1_000_000).map(|number| number as u32)
}

fn client_connections(text: &str) -> Result<u32, String> {
    values::number(text, 1, 1_000_000).map(|number| number as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_per_second_minute_or_hour() {
        let cases = [("100/s", 1, 100, 100), ("3/s", 1, 3, 3), ("60000/m", 60, 60_000, 1000), ("601/m", 60, 601, 11)];
        let low = [("600/m", 60, 600, 10), ("1000/h", 3600, 1000, 10), ("5/m", 60, 5, 5), ("1/h", 3600, 1, 1)];
        for (text, seconds, requests, burst) in cases.into_iter().chain(low) {
            let rate = rate(text).unwrap();
            assert_eq!((rate.requests, rate.per, rate.burst()), (requests, seconds * SECOND, burst), "{text}");
        }
    }

    #[test]
    fn wrong_rates_say_how_to_write_them() {
        let cases = [
            ("100", "not a rate: write a number and /s, /m or /h, such as 100/s"),
            ("7", "not a rate: write a number and /s, /m or /h, such as 7/s"),
            ("off", "not a rate: write a number and /s, /m or /h, such as 100/s"),
            ("10/d", "'/d' is no unit of a rate: use /s, /m or /h"),
            ("10/10s", "'/10s' is no unit of a rate: use /s, /m or /h"),
            ("0/s", "out of range: write 1 to 1000000"),
            ("1.5/s", "not a whole number: write 1 to 1000000"),
        ];
        for (text, message) in cases {
            assert_eq!(rate(text).unwrap_err(), message, "{text}");
        }
    }

    #[test]
    fn memory_and_slowness() {
        assert_eq!(MaxMemory::parse("1g"), Ok(MaxMemory::Bytes(1 << 30)));
        assert_eq!(MaxMemory::parse("1m").unwrap_err(), "too small: at least 32m, or 'auto' or 'off'");
        assert_eq!([min_rate("off"), min_rate("1k")], [Ok(None), Ok(Some(1024))]);
        assert!(min_rate("0").unwrap_err().contains("'off'"));
    }
}
