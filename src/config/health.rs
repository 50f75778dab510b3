//! How it is found out that a server is not well, and what a retry may cost: the options, and what they come to.

use crate::base::Micros;
use crate::base::time::SECOND;
use crate::config::values;
use clap::Args;
use std::ops::RangeInclusive;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Nothing if servers are not asked.
    pub check: Option<Check>,
    /// Nothing if failed requests do not count against a server.
    pub eject: Option<Eject>,
    /// Retries in percent of the requests, 0 to 100.
    pub retry_budget: u8,
}

/// Servers are asked at regular times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    pub probe: Probe,
    pub interval: Micros,
    /// No longer than the interval.
    pub timeout: Micros,
    /// Good answers in a row that make a server up, 1 to 10.
    pub rise: u8,
    /// Bad answers in a row that make it down, 1 to 10.
    pub fall: u8,
}

/// How a server is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// A connection is all that is wanted.
    Tcp,
    Http {
        /// The target of a GET in origin-form, with its query if there is one.
        path: String,
        /// What a healthy server answers: 1 to 8 ranges within 200 to 599.
        statuses: Vec<RangeInclusive<u16>>,
    },
}

/// Servers whose requests fail get none for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Eject {
    /// Failures in a row, 1 to 100.
    pub after: u8,
    /// How long the first time.
    pub time: Micros,
}

const STATUSES: RangeInclusive<u16> = 200..=399;
const MAX_RANGES: usize = 8;
const LONGEST_PATH: usize = 1024;
const INTERVAL: Micros = 5 * SECOND;
const SHORTEST_INTERVAL: Micros = SECOND / 10;
const TIMEOUT: Micros = 2 * SECOND;
const RISE: u8 = 2;
const FALL: u8 = 3;
const EJECT_TIME: Micros = 10 * SECOND;
const RETRY_BUDGET: u8 = 20;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Method {
    Off,
    Tcp,
    Path(String),
}

/// What is written on the command line. Options that depend on others have no default of clap's, so that it is seen
/// whether they were given; their help names the default.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Health")]
pub struct HealthOptions {
    /// How servers are checked: off, tcp or a path to GET
    #[arg(long, value_name = "off|tcp|/PATH", default_value = "off", value_parser = Method::parse)]
    health_check: Method,

    /// What a healthy one answers [default: 200-399]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = statuses)]
    health_status: Vec<RangeInclusive<u16>>,

    /// Between two checks of a server [default: 5s]
    #[arg(long, value_name = "TIME", value_parser = interval)]
    health_interval: Option<Micros>,

    /// Until a check has failed [default: 2s]
    #[arg(long, value_name = "TIME", value_parser = values::timeout)]
    health_timeout: Option<Micros>,

    /// Good checks in a row until it is up [default: 2]
    #[arg(long, value_name = "N", value_parser = streak)]
    health_rise: Option<u8>,

    /// Bad checks in a row until it is down [default: 3]
    #[arg(long, value_name = "N", value_parser = streak)]
    health_fall: Option<u8>,

    /// Failed requests in a row until it rests; 0: never
    #[arg(long, value_name = "N", default_value = "5", value_parser = percent)]
    eject_after: u8,

    /// How long it rests the first time [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = values::timeout)]
    eject_time: Option<Micros>,

    /// Retries, in percent of requests [default: 20]
    #[arg(long, value_name = "N", value_parser = percent)]
    retry_budget: Option<u8>,
}

impl HealthOptions {
    /// What they come to, with this many retries of a request. Options without effect are refused.
    pub fn check(self, retries: u8) -> Result<Health, String> {
        let eject = match (self.eject_after, self.eject_time) {
            (0, Some(_)) => {
                return Err(
                    "--eject-time is given, but with --eject-after 0 no server rests: leave one of them out".into()
                );
            }
            (0, None) => None,
            (after, time) => Some(Eject { after, time: time.unwrap_or(EJECT_TIME) }),
        };
        if retries == 0 && self.retry_budget.is_some() {
            return Err(
                "--retry-budget is given, but with --retries 0 nothing is retried: leave one of them out".into()
            );
        }
        let retry_budget = self.retry_budget.unwrap_or(RETRY_BUDGET);
        Ok(Health { check: self.probing()?, eject, retry_budget })
    }

    fn probing(self) -> Result<Option<Check>, String> {
        let details = [
            ("--health-interval", self.health_interval.is_some()),
            ("--health-timeout", self.health_timeout.is_some()),
            ("--health-rise", self.health_rise.is_some()),
            ("--health-fall", self.health_fall.is_some()),
        ];
        let given = details.iter().find(|(_, given)| *given);
        let probe = match (self.health_check, given) {
            (Method::Off | Method::Tcp, _) if !self.health_status.is_empty() => {
                return Err("--health-status needs a page to ask for: add --health-check /path, or leave it out".into());
            }
            (Method::Off, Some((option, _))) => {
                return Err(format!(
                    "{option} is given, but no check: add --health-check tcp or a path, or leave it out"
                ));
            }
            (Method::Off, None) => return Ok(None),
            (Method::Tcp, _) => Probe::Tcp,
            (Method::Path(path), _) => Probe::Http { path, statuses: all_statuses(self.health_status)? },
        };
        let interval = self.health_interval.unwrap_or(INTERVAL);
        let timeout = self.health_timeout.unwrap_or(TIMEOUT.min(interval));
        if timeout > interval {
            let [timeout, interval] = [timeout, interval].map(values::show_time);
            return Err(format!(
                "--health-timeout ({timeout}) is more than --health-interval ({interval}), when the next check is due: \
                 lower the one or raise the other"
            ));
        }
        let (rise, fall) = (self.health_rise.unwrap_or(RISE), self.health_fall.unwrap_or(FALL));
        Ok(Some(Check { probe, interval, timeout, rise, fall }))
    }
}

/// Those that were given, or the default.
fn all_statuses(given: Vec<RangeInclusive<u16>>) -> Result<Vec<RangeInclusive<u16>>, String> {
    match given.len() {
        0 => Ok(vec![STATUSES]),
        1..=MAX_RANGES => Ok(given),
        count => {
            Err(format!("--health-status has {count} entries: write {MAX_RANGES} at most, ranges such as 200-399"))
        }
    }
}

impl Method {
    fn parse(text: &str) -> Result<Method, String> {
        match text {
            "off" => return Ok(Method::Off),
            "tcp" => return Ok(Method::Tcp),
            _ => {}
        }
        if let Some((_, rest)) = text.split_once("://") {
            let path = rest.split_once('/').map_or("", |(_, path)| path);
            Err(format!("every server is asked for the same page: write its path alone, '/{path}'"))
        } else if !text.starts_with('/') {
            Err("not a check: write tcp, a path such as /health, or off".to_owned())
        } else if text.len() > LONGEST_PATH {
            Err(format!("too long: a path has at most {LONGEST_PATH} bytes, this one has {}", text.len()))
        } else if !text.bytes().all(|b| b.is_ascii_graphic() && b != b'#') {
            Err("a path is of visible ASCII characters: write others as %XX, and no '#'".to_owned())
        } else {
            Ok(Method::Path(text.to_owned()))
        }
    }
}

/// `200` or `200-399`.
fn statuses(text: &str) -> Result<RangeInclusive<u16>, String> {
    let wrong = |_| "not a final status: write 200 to 599, or a range such as 200-399".to_owned();
    let status = |text: &str| values::number(text.trim(), 200, 599).map(|number| number as u16).map_err(wrong);
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (status(first)?, status(last)?);
    if first > last { Err(format!("the wrong way round: write {last}-{first}")) } else { Ok(first..=last) }
}

fn interval(text: &str) -> Result<Micros, String> {
    let time = values::timeout(text)?;
    if time < SHORTEST_INTERVAL { Err("too short: at least 100ms".to_owned()) } else { Ok(time) }
}

fn streak(text: &str) -> Result<u8, String> {
    values::number(text, 1, 10).map(|number| number as u8)
}

fn percent(text: &str) -> Result<u8, String> {
    values::number(text, 0, 100).map(|number| number as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks() {
        assert_eq!(Method::parse("off"), Ok(Method::Off));
        assert_eq!(Method::parse("tcp"), Ok(Method::Tcp));
        assert_eq!(Method::parse("/health?full=1"), Ok(Method::Path("/health?full=1".to_owned())));
        let cases = [
            ("on", "not a check: write tcp, a path such as /health, or off"),
            ("", "not a check: write tcp, a path such as /health, or off"),
            ("http://a:81/up", "every server is asked for the same page: write its path alone, '/up'"),
            ("http://a", "every server is asked for the same page: write its path alone, '/'"),
            ("/a b", "a path is of visible ASCII characters: write others as %XX, and no '#'"),
            ("/a\r\nx: y", "a path is of visible ASCII characters: write others as %XX, and no '#'"),
            ("/a#b", "a path is of visible ASCII characters: write others as %XX, and no '#'"),
            ("/\u{e4}", "a path is of visible ASCII characters: write others as %XX, and no '#'"),
        ];
        for (text, message) in cases {
            assert_eq!(Method::parse(text).unwrap_err(), message, "{text}");
        }
        let long = Method::parse(&"/".repeat(1025)).unwrap_err();
        assert_eq!(long, "too long: a path has at most 1024 bytes, this one has 1025");
    }

    #[test]
    fn statuses_are_single_or_ranges() {
        assert_eq!(statuses("204"), Ok(204..=204));
        assert_eq!(statuses(" 200-399"), Ok(200..=399));
        assert_eq!(statuses("200-599"), Ok(200..=599));
        assert_eq!(statuses("399-200").unwrap_err(), "the wrong way round: write 200-399");
        for text in ["", "99", "600", "2xx", "200-", "-200", "200-299-300", "ok"] {
            assert!(statuses(text).unwrap_err().starts_with("not a final status: write 200 to 599"), "{text}");
        }
    }
}
