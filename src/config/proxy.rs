//! The command line of `pilb-fast`.

use crate::base::{Address, Micros};
use crate::config::common::{
    self, ClientLimits, ClientTimeouts, Common, LogFormat, LogTarget, Messages, Program, Workers,
};
use crate::config::{Exit, UpstreamSpec, address, values};
use crate::http1;
use clap::{Args, Parser, ValueEnum};
use std::ffi::OsString;

const PROGRAM: Program =
    Program { listen: "127.0.0.1:8080", access_log: "register.log", examples: EXAMPLES, manual: MANUAL };

const USAGE: &str = "pilb-fast --upstream SERVER[,SERVER...] [OPTIONS]
       pilb-fast --demo [OPTIONS]";

const EXAMPLES: &str = "Examples:
  pilb-fast --demo
  pilb-fast --upstream 127.0.0.1:3000
  pilb-fast --listen 0.0.0.0:80 --upstream a,b,c";

const MANUAL: &str = "Examples:
  See it work, with servers of its own:
    pilb-fast --demo

  Forward http://127.0.0.1:8080 to a program on this machine:
    pilb-fast --upstream 127.0.0.1:3000

  Share the clients of port 80 out to port 80 of three servers:
    pilb-fast --listen 0.0.0.0:80 --upstream a,b,c

  IPv4, IPv6 and a socket in front; two servers and a socket behind; the log as JSON:
    pilb-fast --listen :80 --listen '[::]:80' --listen unix:/run/pilb.sock \\
      --upstream '10.0.0.7:8080,[2001:db8::7]:8080' --upstream unix:/run/app.sock \\
      --access-log /var/log/pilb.log --access-log-format json

Values:
  SERVER   host[:port], [IPv6][:port] or unix:/path; port 80 if left out. A name is looked up once,
           at the start, and each of its addresses is a server of its own.
  MODE     append adds the client to what the request already says (a proxy behind trusted ones);
           replace says only what is known here (a proxy that faces the world); off adds nothing.";

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
    /// One or more, all different, names not looked up yet; none with `demo`.
    pub upstreams: Vec<UpstreamSpec>,
    pub workers: Workers,
    pub access_log: LogTarget,
    pub log_format: LogFormat,
    pub timeouts: Timeouts,
    pub limits: Limits,
    pub forwarded: Forwarded,
    /// Further servers that a request may be tried on, 0 to 3.
    pub retries: u8,
    /// Run with servers of its own.
    pub demo: bool,
    /// -1 for errors only, 0, 1 for more, 2 for everything.
    pub verbosity: i8,
}

/// A fast and strict HTTP/1.1 reverse proxy and load balancer
#[derive(Parser)]
#[command(name = "pilb-fast", version, override_usage = USAGE)]
struct Cli {
    /// Servers to forward to, as host or host:port; may be repeated
    #[arg(long, value_name = "SERVER,...", value_delimiter = ',', value_parser = address::upstream)]
    #[arg(help_heading = "Serving")]
    upstream: Vec<UpstreamSpec>,

    /// Start servers of its own to forward to, and look around
    #[arg(long, help_heading = "Serving")]
    demo: bool,

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
    retries: usize,

    #[command(flatten)]
    timeouts: Timeouts,

    #[command(flatten)]
    limits: Limits,

    #[command(flatten)]
    messages: Messages,
}

fn retries(text: &str) -> Result<usize, String> {
    values::number(text, 0, 3)
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
    match (cli.demo, cli.upstream.as_slice()) {
        (false, []) => {
            return Err(
                "no servers to forward to: add --upstream host:port, or --demo to see it work; see --help".into()
            );
        }
        (true, [first, ..]) => {
            return Err(format!("--demo brings its own servers: leave out --demo or --upstream {}", first.written));
        }
        _ => {}
    }
    for (index, spec) in cli.upstream.iter().enumerate() {
        if cli.upstream[..index].iter().any(|other| other.place == spec.place) {
            return Err(format!("--upstream '{}' is given twice: name each server once", spec.written));
        }
    }
    cli.limits.client.check(cli.common.workers)?;
    Ok(ProxyConfig {
        listen: cli.common.listen()?,
        log_format: cli.common.log_format()?,
        verbosity: cli.messages.verbosity(),
        workers: cli.common.workers,
        access_log: cli.common.access_log,
        upstreams: cli.upstream,
        timeouts: cli.timeouts,
        limits: cli.limits,
        forwarded: cli.forwarded,
        retries: cli.retries as u8,
        demo: cli.demo,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::SECOND;
    use std::path::PathBuf;

    fn run(line: &str) -> Result<ProxyConfig, Exit> {
        parse(["pilb-fast"].into_iter().chain(line.split_whitespace()).map(OsString::from))
    }

    /// The configuration of a demo with these options.
    fn demo(line: &str) -> ProxyConfig {
        run(&format!("--demo {line}")).unwrap_or_else(|exit| panic!("{line}: {}", exit.message))
    }

    /// The complaint about these options, which is one line.
    fn complaint(line: &str) -> String {
        let exit = run(line).unwrap_err();
        assert_eq!((exit.code, exit.to_stdout), (2, false), "{line}");
        assert!(!exit.message.contains('\n') && !exit.message.is_empty(), "{line}: {}", exit.message);
        exit.message
    }

    fn help(flag: &str) -> String {
        let exit = run(flag).unwrap_err();
        assert_eq!((exit.code, exit.to_stdout), (0, true));
        exit.message
    }

    #[test]
    fn the_command_of_the_issue() {
        let config = run("--listen 0.0.0.0:80 --upstream a,b,c").unwrap();
        assert_eq!(config.listen, [Address::Tcp("0.0.0.0:80".parse().unwrap())]);
        let servers: Vec<_> = config.upstreams.iter().map(|spec| spec.place.to_string()).collect();
        assert_eq!(servers, ["a:80", "b:80", "c:80"]);
        assert!(!config.demo);
    }

    #[test]
    fn defaults_are_those_of_the_design() {
        let config = demo("");
        assert_eq!(config.listen, [Address::Tcp("127.0.0.1:8080".parse().unwrap())]);
        assert_eq!(config.workers, Workers::Auto);
        assert_eq!(config.access_log, LogTarget::File(PathBuf::from("register.log")));
        assert_eq!(config.log_format, LogFormat::Pilb);
        assert_eq!((config.forwarded, config.retries, config.verbosity), (Forwarded::Append, 1, 0));
        let client = ClientTimeouts {
            head: 10 * SECOND,
            idle: 75 * SECOND,
            body: 30 * SECOND,
            write: 30 * SECOND,
            drain: 30 * SECOND,
        };
        let timeouts = Timeouts {
            client,
            upstream_connect: 3 * SECOND,
            upstream_response: 60 * SECOND,
            upstream_read: 60 * SECOND,
            upstream_idle: 4 * SECOND,
            tunnel_idle: 3600 * SECOND,
        };
        assert_eq!(config.timeouts, timeouts);
        assert_eq!(config.limits.request(), http1::Limits::REQUEST);
        assert_eq!(config.limits.response(), http1::Limits::RESPONSE);
        let client = &config.limits.client;
        assert_eq!((client.max_body, client.buffer_size, client.backlog), (u64::MAX, 16 << 10, 4096));
        assert_eq!((client.max_connections, config.limits.max_idle), (None, 1024));
    }

    #[test]
    fn every_option_takes_its_value() {
        let config = demo(
            "--listen :1 --listen [::1]:2 --listen unix:/run/p.sock --workers 256 --access-log - \
             --access-log-format json \
             --forwarded replace --retries 3 --client-head-timeout 1ms --client-idle-timeout 2ms \
             --client-body-timeout 3ms --client-write-timeout 4ms --drain-timeout 0s --upstream-connect-timeout 5ms \
             --upstream-response-timeout 6ms --upstream-read-timeout 7ms --upstream-idle-timeout 8ms \
             --tunnel-idle-timeout 9ms --max-head 1m --max-fields 128 --max-target 1m --max-body 2g --buffer-size 1m \
             --backlog 1 --max-connections 1000 --max-response-head 1k --max-idle 0 -vv",
        );
        let listen: Vec<_> = config.listen.iter().map(Address::to_string).collect();
        assert_eq!(listen, ["0.0.0.0:1", "[::1]:2", "unix:/run/p.sock"]);
        assert_eq!(config.workers, Workers::Count(256));
        assert_eq!((config.access_log, config.log_format), (LogTarget::Stdout, LogFormat::Json));
        assert_eq!((config.forwarded, config.retries, config.verbosity), (Forwarded::Replace, 3, 2));
        let Timeouts { client, upstream_connect, upstream_response, upstream_read, upstream_idle, tunnel_idle } =
            config.timeouts;
        let upstream = [upstream_connect, upstream_response, upstream_read, upstream_idle, tunnel_idle];
        assert_eq!([client.head, client.idle, client.body, client.write, client.drain], [1000, 2000, 3000, 4000, 0]);
        assert_eq!(upstream, [5000, 6000, 7000, 8000, 9000]);
        let limits = config.limits;
        assert_eq!(limits.request(), http1::Limits { head: 1 << 20, fields: 128, target: 1 << 20 });
        assert_eq!(limits.response(), http1::Limits { head: 1 << 10, fields: 128, target: 0 });
        assert_eq!((limits.client.max_body, limits.client.buffer_size), (2 << 30, 1 << 20));
        assert_eq!((limits.client.backlog, limits.client.max_connections, limits.max_idle), (1, Some(1000), 0));
    }

    #[test]
    fn other_ways_to_write_values() {
        assert_eq!(demo("--access-log off").access_log, LogTarget::Off);
        assert_eq!(demo("--access-log ./off").access_log, LogTarget::File(PathBuf::from("./off")));
        assert_eq!(demo("--workers=auto").workers, Workers::Auto);
        assert_eq!(demo("--max-body off").limits.client.max_body, u64::MAX);
        assert_eq!(demo("--max-connections 0").limits.client.max_connections, None);
        assert_eq!(demo("--max-connections auto").limits.client.max_connections, None);
        assert_eq!(demo("--access-log-format combined").log_format, LogFormat::Combined);
        assert_eq!(demo("--forwarded off").forwarded, Forwarded::Off);
        assert_eq!([demo("-q").verbosity, demo("-v").verbosity, demo("-vvvv").verbosity], [-1, 1, 2]);
        assert_eq!(demo("--listen :0 --listen :0").listen.len(), 2);
        let config = run("--upstream unix:/run/a,http://b:81/ --upstream [::1]").unwrap();
        let servers: Vec<_> = config.upstreams.iter().map(|spec| spec.place.to_string()).collect();
        assert_eq!(servers, ["unix:/run/a", "b:81", "[::1]:80"]);
        assert_eq!(config.upstreams[1].written, "http://b:81/");
    }

    #[test]
    fn every_option_refuses_what_it_cannot_be() {
        let cases = [
            ("--listen", "8080 localhost:80 0.0.0.0:99999 unix: :80,:81"),
            ("--upstream", "https://a a/b a:0 a,,b a, ::1 [x] a:b unix:"),
            ("--workers", "0 257 -1 two 1.5"),
            ("--access-log-format", "nginx PILB"),
            ("--forwarded", "yes 1"),
            ("--retries", "4 -1 off"),
            ("--client-head-timeout", "10 0s 169h 1.5s off"),
            ("--client-idle-timeout", "10 0s"),
            ("--client-body-timeout", "10 0s"),
            ("--client-write-timeout", "10 0s"),
            ("--drain-timeout", "0 169h"),
            ("--upstream-connect-timeout", "3 0ms"),
            ("--upstream-response-timeout", "3 0ms"),
            ("--upstream-read-timeout", "3 0ms"),
            ("--upstream-idle-timeout", "3 0ms"),
            ("--tunnel-idle-timeout", "3 0ms"),
            ("--max-head", "1023 2m 16kb -1"),
            ("--max-fields", "0 129 1k"),
            ("--max-target", "63 2m"),
            ("--max-body", "0 none 1t"),
            ("--buffer-size", "4095 2m"),
            ("--backlog", "0 65536"),
            ("--max-connections", "10000001 all"),
            ("--max-response-head", "1023 2m"),
            ("--max-idle", "65536 off"),
        ];
        for (option, values) in cases {
            for value in values.split(' ') {
                let message = complaint(&format!("{option} {value}"));
                assert!(message.starts_with(&format!("{option} '")), "{message}");
                assert!(message.contains(": "), "{message}");
                let missing = complaint(option);
                assert!(missing.starts_with(&format!("{option} needs a value: ")), "{missing}");
            }
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let cases = [
            ("", "no servers to forward to: add --upstream host:port, or --demo to see it work; see --help"),
            ("--demo --upstream a", "--demo brings its own servers: leave out --demo or --upstream a"),
            ("--upstream a,A:80", "--upstream 'A:80' is given twice: name each server once"),
            ("--demo --listen :80 --listen 0.0.0.0:80", "--listen '0.0.0.0:80' is given twice: keep one"),
            ("--demo --workers 1 --workers 2", "--workers is given twice: keep one"),
            ("--demo -q -v", "--quiet and --verbose contradict each other: keep one"),
            (
                "--demo --max-target 32k",
                "--max-target (32768) is more than --max-head (16384), which includes it: \
                 lower the one or raise the other",
            ),
            (
                "--demo --workers 4 --max-connections 3",
                "--max-connections 3 leaves some of the 4 workers without any: raise it or lower --workers",
            ),
            (
                "--demo --access-log off --access-log-format json",
                "--access-log-format is given, but the access log is off: add --access-log PATH or leave it out",
            ),
        ];
        for (line, message) in cases {
            assert_eq!(complaint(line), message);
        }
    }

    #[test]
    fn what_clap_refuses_is_one_line_too() {
        let cases = [
            ("--lisen :80", "unknown option '--lisen'; did you mean '--listen'?"),
            ("--zzz", "unknown option '--zzz'; see --help"),
            ("-x", "unknown option '-x'; see --help"),
            ("--listen --demo", "--listen needs a value: write --listen <ADDRESS>"),
            ("--forwarded", "--forwarded needs a value: one of append, replace, off"),
            ("--forwarded ad", "--forwarded 'ad': not one of append, replace, off"),
            ("--forwarded apend", "--forwarded 'apend': not one of append, replace, off; did you mean 'append'?"),
            ("--demo=1", "--demo takes no value: leave '1' out"),
            ("--workers=", "--workers '': not a whole number: write 1 to 256, or 'auto'"),
            (
                "--upstream a, b",
                "'b' belongs to no option: put an option before it, or remove the space if it goes on a list",
            ),
        ];
        for (line, message) in cases {
            assert_eq!(complaint(line), message);
        }
    }

    #[test]
    fn strange_bytes_are_paths_or_one_line() {
        use std::os::unix::ffi::OsStringExt;
        let bytes = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        let run =
            |option: &str, value| parse(["pilb-fast", "--demo", option].map(OsString::from).into_iter().chain([value]));
        let log = run("--access-log", bytes(b"\xff.log")).unwrap().access_log;
        assert_eq!(log, LogTarget::File(PathBuf::from(bytes(b"\xff.log"))));
        let message = run("--listen", bytes(b"\xff")).unwrap_err().message;
        assert_eq!(message, "an argument is not UTF-8 text: only paths may be other bytes");
        let message = run("--listen", bytes(b"a\nb")).unwrap_err().message;
        assert!(message.starts_with(r"--listen 'a\nb': "), "{message}");
        assert!(
            run("--access-log", bytes(b"")).unwrap_err().message.starts_with("--access-log '': the path is missing")
        );
    }

    #[test]
    fn help_is_short_or_complete_and_fits() {
        let (short, long) = (help("-h"), help("--help"));
        for text in [&short, &long] {
            // However wide the terminal of the tests is.
            let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(words.contains("Examples: ") && words.contains("pilb-fast --listen 0.0.0.0:80 --upstream a,b,c"));
            assert!(words.contains("[default: 127.0.0.1:8080]") && words.contains("[default: register.log]"));
            assert!(text.ends_with('\n'));
            for line in text.lines() {
                assert!(line.chars().count() <= 100, "{line}");
            }
        }
        for heading in ["Serving:", "Log:", "Forwarding:", "Timeouts:", "Limits:", "Other:", "Values:", "Exit status:"]
        {
            let detail = !["Serving:", "Log:", "Forwarding:", "Other:"].contains(&heading);
            assert!(long.contains(&format!("\n{heading}\n")), "{heading}");
            assert_eq!(short.contains(heading), !detail, "{heading}");
        }
        assert!(short.lines().count() <= long.lines().count() / 2, "{short}");
    }

    #[test]
    fn every_option_of_the_help_is_an_option() {
        let long = help("--help");
        let options = long.lines().filter_map(|line| line.trim_start().strip_prefix("--"));
        let names: Vec<_> = options.filter_map(|rest| rest.split([' ', '=']).next()).collect();
        assert!(names.contains(&"max-response-head") && names.contains(&"listen"));
        for name in names {
            assert!(!matches!(run(&format!("--{name}")), Err(exit) if exit.message.starts_with("unknown")), "{name}");
        }
    }

    #[test]
    fn the_version() {
        assert_eq!(help("--version"), format!("pilb-fast {}\n", env!("CARGO_PKG_VERSION")));
        assert_eq!(help("-V"), help("--version"));
    }
}
