//! What both programs understand: where to listen, workers, the log, how long a client may take, how much it may send.
//! The structs are the configuration and, by their attributes, the options and the help.

use crate::base::{Address, Micros};
use crate::config::{Exit, address, usage, values};
use crate::http1;
use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Arg, ArgAction, Args, Command, CommandFactory, FromArgMatches, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;
use std::thread;

/// Workers that a process has at the most.
const MAX_WORKERS: usize = 256;

/// Headings of the options that `-h` leaves to `--help`.
const DETAILS: [&str; 5] = ["Timeouts", "Limits", "Balancing", "Health", "Guard"];

/// Options below these headings that `-h` shows nevertheless.
const ESSENTIALS: [&str; 2] = ["balance", "health_check"];

/// How many event loops run, each on a thread of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workers {
    /// One per core that this process may use.
    Auto,
    /// 1 to 256.
    Count(usize),
}

impl Workers {
    /// The number to start.
    pub fn count(self) -> usize {
        match self {
            Workers::Auto => thread::available_parallelism().map_or(1, |cores| cores.get().min(MAX_WORKERS)),
            Workers::Count(count) => count,
        }
    }

    fn parse(text: &str) -> Result<Workers, String> {
        match text {
            "auto" => Ok(Workers::Auto),
            _ => {
                values::number(text, 1, MAX_WORKERS).map(Workers::Count).map_err(|error| format!("{error}, or 'auto'"))
            }
        }
    }
}

/// Where the access log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    File(PathBuf),
    Stdout,
    Off,
}

impl LogTarget {
    fn parse(text: OsString) -> Result<LogTarget, String> {
        match text.to_str() {
            Some("") => Err("the path is missing: write a path, '-' for standard output or 'off'".to_string()),
            Some("-") => Ok(LogTarget::Stdout),
            Some("off") => Ok(LogTarget::Off),
            _ => Ok(LogTarget::File(PathBuf::from(text))),
        }
    }
}

/// How a line of the access log looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Made for reading.
    #[default]
    Pilb,
    /// The format that Apache and nginx call so.
    Combined,
    /// One JSON object per line.
    Json,
}

/// Where clients come in, who serves them, and who writes it down.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// Where to accept clients; may be repeated
    #[arg(long, value_name = "ADDRESS", value_parser = address::listen, help_heading = "Serving")]
    listen: Vec<Address>,

    /// Event loops, 1 to 256; auto: one per core
    #[arg(long, value_name = "N|auto", default_value = "auto", value_parser = Workers::parse, help_heading = "Serving")]
    pub workers: Workers,

    /// A file, - (standard output) or off
    #[arg(long, value_name = "PATH", value_parser = log_target(), help_heading = "Log")]
    pub access_log: LogTarget,

    /// How a line of it looks: pilb, combined or json [default: pilb]
    #[arg(long, value_name = "FORMAT", hide_possible_values = true, help_heading = "Log")]
    access_log_format: Option<LogFormat>,
}

impl Common {
    /// Where to listen. An address that is there twice is an error, unless the system chooses its port.
    pub fn listen(&self) -> Result<Vec<Address>, String> {
        for (index, address) in self.listen.iter().enumerate() {
            let chosen = matches!(address, Address::Tcp(addr) if addr.port() == 0);
            if !chosen && self.listen[..index].contains(address) {
                return Err(format!("--listen '{address}' is given twice: keep one"));
            }
        }
        Ok(self.listen.clone())
    }

    /// The format of the log. Choosing one for a log that is off is an error.
    pub fn log_format(&self) -> Result<LogFormat, String> {
        if self.access_log == LogTarget::Off && self.access_log_format.is_some() {
            return Err(
                "--access-log-format is given, but the access log is off: add --access-log PATH or leave it out"
                    .to_string(),
            );
        }
        Ok(self.access_log_format.unwrap_or_default())
    }
}

/// What the program says while it runs, and instead of running.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Other")]
pub struct Messages {
    /// Say more on standard error: -v or -vv; RUST_LOG, where set, wins
    #[arg(short, long, action = ArgAction::Count)]
    verbose: u8,

    /// Say nothing on standard error but errors
    #[arg(short, long, conflicts_with = "verbose")]
    quiet: bool,

    /// Show the most used options (-h) or all of them (--help)
    // Both are clap's short help, which has a line per option; `finish` decides what it lists.
    #[arg(short, long, action = ArgAction::HelpShort)]
    help: Option<bool>,

    /// Show the version
    #[arg(short = 'V', long, action = ArgAction::Version)]
    version: Option<bool>,
}

impl Messages {
    /// -1 for errors only, 0, 1 for more, 2 for everything.
    pub fn verbosity(&self) -> i8 {
        match (self.quiet, self.verbose) {
            (true, _) => -1,
            (false, 0) => 0,
            (false, 1) => 1,
            (false, _) => 2,
        }
    }
}

/// How long a client may take, and how long the process waits for its clients when it is told to end, in microseconds.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
#[command(next_help_heading = "Timeouts")]
pub struct ClientTimeouts {
    /// A request head, first byte to last
    #[arg(long = "client-head-timeout", value_name = "TIME", default_value = "10s", value_parser = values::timeout)]
    pub head: Micros,
    /// Between two requests on a connection
    #[arg(long = "client-idle-timeout", value_name = "TIME", default_value = "75s", value_parser = values::timeout)]
    pub idle: Micros,
    /// Between two reads of a request body
    #[arg(long = "client-body-timeout", value_name = "TIME", default_value = "30s", value_parser = values::timeout)]
    pub body: Micros,
    /// A client that takes nothing of its answer
    #[arg(long = "client-write-timeout", value_name = "TIME", default_value = "30s", value_parser = values::timeout)]
    pub write: Micros,
    /// Requests under way when it is told to end
    #[arg(long = "drain-timeout", value_name = "TIME", default_value = "30s", value_parser = values::timeout_or_none)]
    pub drain: Micros,
}

/// How much a client may send, and how many clients there may be. A body without a limit is [`u64::MAX`]; the number of
/// connections is `None` if it is to be derived from the limit of open files.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
#[command(next_help_heading = "Limits")]
pub struct ClientLimits {
    /// Bytes of a request head; more get 431
    #[arg(long, value_name = "SIZE", default_value = "16k", value_parser = head_size)]
    pub max_head: usize,
    /// Fields of a head; more get 431
    #[arg(long, value_name = "N", default_value = "100", value_parser = fields)]
    pub max_fields: usize,
    /// Bytes of a request target; more get 414
    #[arg(long, value_name = "SIZE", default_value = "8k", value_parser = target_size)]
    pub max_target: usize,
    /// Bytes of a request body; more get 413
    #[arg(long, value_name = "SIZE|off", default_value = "off", value_parser = values::size_or_off)]
    pub max_body: u64,
    /// Bytes of the buffer of each direction
    #[arg(long, value_name = "SIZE", default_value = "16k", value_parser = buffer_size)]
    pub buffer_size: usize,
    /// Waiting connections per listener and worker
    #[arg(long, value_name = "N", default_value = "4096", value_parser = backlog)]
    pub backlog: usize,
    /// Clients at a time; auto: by the open-file limit
    #[arg(long, value_name = "N|auto", default_value = "auto", value_parser = max_connections)]
    // Spelled out, as clap reads a bare `Option` as "may be left out".
    pub max_connections: std::option::Option<usize>,
}

impl ClientLimits {
    /// The limits of a request head.
    pub fn request(&self) -> http1::Limits {
        http1::Limits { head: self.max_head, fields: self.max_fields, target: self.max_target }
    }

    /// Refuses limits that contradict one another.
    pub fn check(&self, workers: Workers) -> Result<(), String> {
        if self.max_target > self.max_head {
            return Err(format!(
                "--max-target ({}) is more than --max-head ({}), which includes it: lower the one or raise the other",
                self.max_target, self.max_head
            ));
        }
        match (workers, self.max_connections) {
            (Workers::Count(workers), Some(most)) if most < workers => Err(format!(
                "--max-connections {most} leaves some of the {workers} workers without any: raise it or lower --workers"
            )),
            _ => Ok(()),
        }
    }
}

/// Bytes that a head may be allowed to have.
pub fn head_size(text: &str) -> Result<usize, String> {
    values::memory(text, 1 << 10, 1 << 20)
}

fn target_size(text: &str) -> Result<usize, String> {
    values::memory(text, 64, 1 << 20)
}

fn buffer_size(text: &str) -> Result<usize, String> {
    values::memory(text, 4 << 10, 1 << 20)
}

fn fields(text: &str) -> Result<usize, String> {
    values::number(text, 1, http1::MAX_FIELDS)
}

fn backlog(text: &str) -> Result<usize, String> {
    values::number(text, 1, 65_535)
}

fn log_target() -> impl TypedValueParser<Value = LogTarget> {
    OsStringValueParser::new().try_map(LogTarget::parse)
}

fn max_connections(text: &str) -> Result<Option<usize>, String> {
    match text {
        "auto" | "0" => Ok(None),
        _ => values::number(text, 1, 10_000_000).map(Some).map_err(|error| format!("{error}, or 'auto'")),
    }
}

/// Where the two programs differ in what they share.
pub struct Program {
    /// The default of `--listen`.
    pub listen: &'static str,
    /// The default of `--access-log`.
    pub access_log: &'static str,
    /// What follows the options in `-h`.
    pub examples: &'static str,
    /// What follows the options in `--help`, before [`VALUES`].
    pub manual: &'static str,
    /// What follows the values in `--help`.
    pub notes: &'static str,
}

/// The values that both programs know, as `--help` explains them.
const VALUES: &str = "
  ADDRESS  IP:port, [IPv6]:port, :port (all IPv4 interfaces, as 0.0.0.0:port)
           or unix:/path. Port 0 lets the system choose.
  FORMAT   pilb is made for reading; combined is what Apache and nginx call so;
           json is one object per line.
  TIME     a whole number and ms, s, m or h: 500ms, 10s, 2m, 1h
  SIZE     bytes, or a whole number and k, m or g (powers of 1024): 16k, 1m, 2g
";

const EXIT_STATUS: &str = "
Exit status:
  0 after a clean end, 1 if it cannot start, 2 if the command line is wrong.";

/// Reads the arguments, the program's name being the first of them.
pub fn read<C: CommandFactory + FromArgMatches>(
    program: &Program,
    args: impl IntoIterator<Item = OsString>,
) -> Result<C, Exit> {
    let args: Vec<OsString> = args.into_iter().collect();
    let all = args.iter().any(|arg| arg == "--help");
    let found = finish(C::command(), program, all).try_get_matches_from(args);
    found.and_then(|found| C::from_arg_matches(&found)).map_err(|error| usage::exit(&error))
}

/// The command with what is the same for both programs. Help lists the details if `all` is to be shown.
fn finish(command: Command, program: &Program, all: bool) -> Command {
    let after = if all {
        format!("{}{VALUES}{}{EXIT_STATUS}", program.manual, program.notes)
    } else {
        program.examples.to_string()
    };
    command
        .disable_help_flag(true)
        .disable_version_flag(true)
        .allow_negative_numbers(true)
        .max_term_width(100)
        .after_help(after)
        .mut_arg("listen", |arg| arg.default_value(program.listen))
        .mut_arg("access_log", |arg| arg.required(false).default_value(program.access_log))
        .mut_args(|arg| {
            let detail = arg.get_help_heading().is_some_and(|heading| DETAILS.contains(&heading));
            let hidden = detail && !all && !ESSENTIALS.contains(&arg.get_id().as_str());
            Arg::hide_short_help(arg, hidden)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn automatic_workers_are_at_least_one_and_at_most_the_limit() {
        assert!((1..=MAX_WORKERS).contains(&Workers::Auto.count()));
        assert_eq!(Workers::Count(7).count(), 7);
    }
}
