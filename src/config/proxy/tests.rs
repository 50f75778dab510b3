//! The command line of `pilb-fast` as people and mistakes write it.

use super::*;
use crate::base::time::SECOND;
use crate::config::Networks;
use crate::config::balancing::{Balance, Ceiling, HashBy, Sticky};
use crate::config::chain::SendProxy;
use crate::config::guard::{ClientRate, MaxMemory};
use crate::config::health::{Check, Eject, Probe};
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
fn defaults_of_what_guards_and_balances() {
    let config = demo("");
    let balancing = Balancing { method: Balance::RoundRobin, sticky: None, slow_start: 5 * SECOND, ceiling: None };
    assert_eq!(config.balancing, balancing);
    let check = Check { probe: Probe::Tcp, interval: 5 * SECOND, timeout: 2 * SECOND, rise: 2, fall: 3 };
    let eject = Eject { after: 5, time: 10 * SECOND };
    assert_eq!(config.health, Health { check: None, eject: Some(eject), retry_budget: 20 });
    assert_eq!(demo("--health-check tcp").health.check, Some(check));
    let nobody = Networks::default;
    let guard = Guard {
        min_rate: Some(100),
        client_connections: None,
        client_rate: None,
        allow: nobody(),
        deny: nobody(),
        max_memory: MaxMemory::Auto,
    };
    assert_eq!(config.guard, guard);
    assert_eq!(config.chain, Chain { trusted: nobody(), proxy_protocol: nobody(), send_proxy: None });
    assert_eq!(config.admin, None);
}

#[test]
fn the_help_tells_the_defaults_that_depend_on_other_options() {
    let said = "--eject-time 10s --retry-budget 20 --access-log-format pilb --health-check off";
    assert_eq!(demo(said), demo(""));
    let check = "--health-check tcp";
    let told = "--health-interval 5s --health-timeout 2s --health-rise 2 --health-fall 3";
    assert_eq!(demo(&format!("{check} {told}")), demo(check));
    let page = "--health-check /up";
    assert_eq!(demo(&format!("{page} --health-status 200-399")), demo(page));
    let ceiling = "--server-connections 300";
    assert_eq!(demo(&format!("{ceiling} --queue 1024 --queue-timeout 5s")), demo(ceiling));
    assert_eq!(demo("--balance hash --hash-by address"), demo("--balance hash"));
    let long = help("--help");
    for default in ["5s", "2s", "2", "3", "10s", "20", "pilb", "200-399", "1024", "address"] {
        assert!(long.split_whitespace().collect::<Vec<_>>().join(" ").contains(&format!("[default: {default}]")));
    }
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
fn every_option_of_balance_and_health_takes_its_value() {
    let config = demo(
        "--balance hash --hash-by cookie:sid --sticky-cookie srv --sticky-key /etc/key --slow-start 0s \
         --server-connections 7 --queue 0 --health-check /up?x=1 --health-status 200,204,300-399 \
         --health-interval 100ms --health-timeout 50ms --health-rise 1 --health-fall 10 --eject-after 100 \
         --eject-time 1m --retry-budget 100",
    );
    let balancing = Balancing {
        method: Balance::Hash(HashBy::Cookie("sid".to_owned())),
        sticky: Some(Sticky { cookie: "srv".to_owned(), key: Some(PathBuf::from("/etc/key")) }),
        slow_start: 0,
        ceiling: Some(Ceiling { requests: 7, queue: 0, wait: 5 * SECOND }),
    };
    assert_eq!(config.balancing, balancing);
    let probe = Probe::Http { path: "/up?x=1".to_owned(), statuses: vec![200..=200, 204..=204, 300..=399] };
    let check = Check { probe, interval: SECOND / 10, timeout: SECOND / 20, rise: 1, fall: 10 };
    let eject = Eject { after: 100, time: 60 * SECOND };
    assert_eq!(config.health, Health { check: Some(check), eject: Some(eject), retry_budget: 100 });
}

#[test]
fn every_option_of_guard_and_chain_takes_its_value() {
    let config = demo(
        "--admin unix:/run/admin --min-rate off --client-connections 10 --client-rate 600/m --client-burst 50 \
         --allow 10.0.0.0/8,unix --allow ::1 --deny 10.1.0.0/16 --max-memory 1g --trusted-proxies unix,10.0.0.7 \
         --proxy-protocol 10.0.0.8/31 --send-proxy v2",
    );
    let ip = |list: &[&str]| list.iter().map(|net| net.parse().unwrap()).collect::<Vec<ipnet::IpNet>>();
    let guard = Guard {
        min_rate: None,
        client_connections: Some(10),
        client_rate: Some(ClientRate { requests: 600, per: 60 * SECOND, burst: 50 }),
        allow: Networks { unix: true, ip: ip(&["10.0.0.0/8", "::1/128"]) },
        deny: Networks { unix: false, ip: ip(&["10.1.0.0/16"]) },
        max_memory: MaxMemory::Bytes(1 << 30),
    };
    assert_eq!(config.guard, guard);
    let chain = Chain {
        trusted: Networks { unix: true, ip: ip(&["10.0.0.7/32"]) },
        proxy_protocol: Networks { unix: false, ip: ip(&["10.0.0.8/31"]) },
        send_proxy: Some(SendProxy::V2),
    };
    assert_eq!(config.chain, chain);
    assert_eq!(config.admin, Some(Address::Unix("/run/admin".into())));
}

#[test]
fn servers_have_weights_and_backups_come_last() {
    let config = run("--backup d,e=2 --upstream a=3,b --upstream unix:/run/c=9").unwrap();
    let found: Vec<_> =
        config.upstreams.iter().map(|spec| (spec.place.to_string(), spec.weight, spec.backup)).collect();
    let expected =
        [("a:80", 3, false), ("b:80", 1, false), ("unix:/run/c", 9, false), ("d:80", 1, true), ("e:80", 2, true)];
    assert_eq!(found, expected.map(|(place, weight, backup)| (place.to_owned(), weight, backup)));
}

#[test]
fn policies_have_short_names() {
    let names = [
        ("round-robin rr", Balance::RoundRobin),
        ("least least-connections leastconn least-conn", Balance::Least),
        ("two-choices p2c", Balance::TwoChoices),
        ("hash", Balance::Hash(HashBy::Address)),
    ];
    for (names, method) in names {
        for name in names.split(' ') {
            assert_eq!(demo(&format!("--balance {name}")).balancing.method, method, "{name}");
        }
    }
}

#[test]
fn what_is_off_is_not_there() {
    assert_eq!(demo("--health-check off").health.check, None);
    assert_eq!(demo("--eject-after 0").health.eject, None);
    assert_eq!(demo("--max-memory off").guard.max_memory, MaxMemory::Off);
    // A check is over before the next, without being told so.
    let check = demo("--health-check tcp --health-interval 500ms").health.check.unwrap();
    assert_eq!((check.interval, check.timeout), (SECOND / 2, SECOND / 2));
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
        ("--backup", "https://a a=0 a=257 a,"),
        ("--admin", "8080 localhost:80 :1,:2 off unix:"),
        ("--trusted-proxies", "10.0.0.1/8 10.0.0.0/8, ::/129 all unix:/a"),
        ("--proxy-protocol", "10.0.0.1/8 10.0.0.0/33 any"),
        ("--send-proxy", "v3 1 on"),
        ("--balance", "random rrr"),
        ("--hash-by", "ip header header:a(b cookie: path:x"),
        ("--sticky-cookie", "a=b a;b"),
        ("--slow-start", "5 169h"),
        ("--server-connections", "0 1000001 off"),
        ("--queue", "-1 1000001"),
        ("--queue-timeout", "5 0s"),
        ("--health-check", "on http http://a/ health /a#b"),
        ("--health-status", "2xx 99 600 399-200 200,"),
        ("--health-interval", "5 99ms"),
        ("--health-timeout", "2 0s"),
        ("--health-rise", "0 11"),
        ("--health-fall", "0 11"),
        ("--eject-after", "101 never"),
        ("--eject-time", "10 0s"),
        ("--retry-budget", "101 20%"),
        ("--min-rate", "0 2g none"),
        ("--client-connections", "0 off"),
        ("--client-rate", "100 100/d 0/s off"),
        ("--client-burst", "0 1000001"),
        ("--allow", "10.0.0.1/8 10.0.0 localhost"),
        ("--deny", "10.0.0.1/8 10.0.0 localhost"),
        ("--max-memory", "1m 0 lots"),
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
fn servers_that_are_none_or_too_many_are_refused() {
    let cases = [
        ("--demo --backup a", "--demo brings its own servers: leave out --demo or --backup a"),
        ("--backup a", "--backup is for when no other server is up, and there is no other: write --upstream a"),
        ("--upstream a=1,a=2", "--upstream 'a=2' is given twice: name each server once"),
        ("--upstream a --backup b,B", "--backup 'B' is given twice: name each server once"),
        ("--upstream a=3 --backup a:80", "--backup 'a:80' is --upstream 'a=3', too: name each server once"),
        (
            "--upstream a --backup b --health-check off --eject-after 0",
            "--backup b would never be used: with --health-check off and --eject-after 0 no server counts as down",
        ),
        (
            "--demo --listen :80 --admin 127.0.0.1:80",
            "--admin '127.0.0.1:80' is where clients come in (--listen 0.0.0.0:80): choose another port",
        ),
        (
            "--demo --admin :8080",
            "--admin '0.0.0.0:8080' is where clients come in (--listen 127.0.0.1:8080): choose another port",
        ),
        (
            "--demo --listen unix:/run/a --admin unix:/run/a",
            "--admin 'unix:/run/a' is where clients come in (--listen unix:/run/a): choose another address",
        ),
        ("--demo --admin :1 --admin :2", "--admin is given twice: keep one"),
    ];
    for (line, message) in cases {
        assert_eq!(complaint(line), message);
    }
    for line in
        ["--listen :80 --admin [::1]:80", "--listen :0 --admin :0", "--listen 127.0.0.1:80 --admin 127.0.0.2:80"]
    {
        assert!(demo(line).admin.is_some());
    }
}

#[test]
fn options_without_effect_are_refused() {
    let cases = [
        ("--hash-by path", "--hash-by needs --balance hash: add it, or leave --hash-by out"),
        ("--sticky-key k", "--sticky-key signs the cookie of --sticky-cookie: add it, or leave --sticky-key out"),
        (
            "--queue 5",
            "--queue is for requests that wait because of --server-connections: add it, or leave --queue out",
        ),
        (
            "--queue-timeout 5s",
            "--queue-timeout is for requests that wait because of --server-connections: \
             add it, or leave --queue-timeout out",
        ),
        (
            "--server-connections 5 --queue 0 --queue-timeout 5s",
            "--queue-timeout is given, but with --queue 0 no request waits: leave one of them out",
        ),
        ("--health-status 200", "--health-status needs a page to ask for: add --health-check /path, or leave it out"),
        (
            "--health-check /up --health-status 200,201,202,203,204,205,206,207,208",
            "--health-status has 9 entries: write 8 at most, ranges such as 200-399",
        ),
        (
            "--health-check off --health-rise 2",
            "--health-rise is given, but no check: add --health-check tcp or a path, or leave it out",
        ),
        (
            "--health-check tcp --health-interval 1s --health-timeout 1500ms",
            "--health-timeout (1500ms) is more than --health-interval (1s), when the next check is due: \
             lower the one or raise the other",
        ),
        (
            "--eject-after 0 --eject-time 5s",
            "--eject-time is given, but with --eject-after 0 no server rests: leave one of them out",
        ),
        (
            "--retries 0 --retry-budget 5",
            "--retry-budget is given, but with --retries 0 nothing is retried: leave one of them out",
        ),
        ("--client-burst 5", "--client-burst needs --client-rate: add it, or leave --client-burst out"),
        (
            "--max-connections 10 --client-connections 11",
            "--client-connections 11 is more than --max-connections 10 has for all clients: \
             lower the one or raise the other",
        ),
        ("--allow unix --deny unix", "'unix' is in both --allow and --deny: keep one"),
        ("--allow ::1 --deny ::1/128", "'::1/128' is in both --allow and --deny: keep one"),
        (
            "--allow 10.1.0.0/16 --deny 10.0.0.0/8",
            "--allow '10.1.0.0/16' has no effect within --deny '10.0.0.0/8': \
             leave one out (--allow alone denies others)",
        ),
        (
            "--trusted-proxies ::1 --forwarded replace",
            "--trusted-proxies says whose X-Forwarded-* is believed, and with --forwarded replace nobody's is: \
             leave one of them out",
        ),
    ];
    for (line, message) in cases {
        assert_eq!(complaint(&format!("--demo {line}")), message);
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
        ("--balance rand", "--balance 'rand': not one of round-robin, least, two-choices, hash"),
        ("--send-proxy", "--send-proxy needs a value: one of v1, v2"),
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
    assert!(run("--access-log", bytes(b"")).unwrap_err().message.starts_with("--access-log '': the path is missing"));
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
    let details = ["Guard:", "Timeouts:", "Limits:", "Values:", "Notes:", "Exit status:"];
    for heading in ["Serving:", "Log:", "Forwarding:", "Balancing:", "Health:", "Other:"] {
        assert!(long.contains(&format!("\n{heading}\n")) && short.contains(heading), "{heading}");
    }
    for heading in details {
        assert!(long.contains(&format!("\n{heading}\n")) && !short.contains(heading), "{heading}");
    }
    for (option, shown) in [("--balance", true), ("--health-check", true), ("--hash-by", false), ("--allow", false)] {
        assert_eq!(short.contains(&format!("{option} ")), shown, "{option}");
    }
    assert!(short.lines().count() <= long.lines().count() / 2, "{short}");
}

#[test]
fn what_follows_the_options_fits_into_80_columns() {
    for line in [USAGE, EXAMPLES, MANUAL, NOTES].iter().flat_map(|text| text.lines()) {
        assert!(line.chars().count() <= 80, "{line}");
    }
}

#[test]
fn every_option_of_the_help_is_an_option() {
    let long = help("--help");
    let options = long.lines().filter_map(|line| line.trim_start().strip_prefix("--"));
    let names: Vec<_> = options.filter_map(|rest| rest.split([' ', '=']).next()).collect();
    assert!(names.contains(&"max-response-head") && names.contains(&"client-burst") && names.contains(&"listen"));
    for name in names {
        assert!(!matches!(run(&format!("--{name}")), Err(exit) if exit.message.starts_with("unknown")), "{name}");
    }
}

#[test]
fn the_version() {
    assert_eq!(help("--version"), format!("pilb-fast {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(help("-V"), help("--version"));
}
