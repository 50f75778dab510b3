//! The command line of `pilb-origin`.

use crate::base::Address;
use crate::config::Exit;
use crate::config::cache::CacheOptions;
use crate::config::common::{
    self, ClientLimits, ClientTimeouts, Common, LogFormat, LogTarget, Messages, Program, Workers,
};
use crate::config::files::FilesOptions;
use clap::Parser;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

const PROGRAM: Program =
    Program { listen: "127.0.0.1:8081", access_log: "off", examples: EXAMPLES, manual: MANUAL, notes: "" };

const USAGE: &str = "pilb-origin --root DIR [OPTIONS]
       pilb-origin cache stat|list|verify|purge DIR [PATH]";

const EXAMPLES: &str = "Examples:
  pilb-origin --root ./public
  pilb-origin --listen 0.0.0.0:80 --root /srv/www --access-log -";

const MANUAL: &str = "Examples:
  Serve a folder as http://127.0.0.1:8081:
    pilb-origin --root ./public

  Serve it to everybody, with an access log on standard output:
    pilb-origin --listen 0.0.0.0:80 --root /srv/www --access-log -

  List folders, show an own page for what is not there, let browsers keep
  images for a day:
    pilb-origin --root ./public --listing --not-found /404.html \\
      --cache-control '.png=max-age=86400'

  Look into the cache, also while it is in use, and empty it:
    pilb-origin cache stat cache
    pilb-origin cache purge cache /index.html

  Two of them behind a proxy:
    pilb-origin --listen 127.0.0.1:8081 --root /srv/www \\
      --cache-dir /var/cache/pilb-1
    pilb-origin --listen 127.0.0.1:8082 --root /srv/www \\
      --cache-dir /var/cache/pilb-2
    pilb-fast --upstream 127.0.0.1:8081,127.0.0.1:8082

Values:";

/// What `pilb-origin` was told to do: each value is within its bounds, and they agree with one another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginConfig {
    /// One or more, all different.
    pub listen: Vec<Address>,
    /// A folder; it was there when the command line was read.
    pub root: PathBuf,
    pub files: FilesOptions,
    pub cache: CacheOptions,
    pub workers: Workers,
    pub access_log: LogTarget,
    pub log_format: LogFormat,
    pub timeouts: ClientTimeouts,
    pub limits: ClientLimits,
    /// -1 for errors only, 0, 1 for more, 2 for everything.
    pub verbosity: i8,
}

/// A small and fast static file server, made to stand behind pilb-fast
#[derive(Parser)]
#[command(name = "pilb-origin", version, override_usage = USAGE)]
struct Cli {
    /// The folder whose files are served
    #[arg(long, value_name = "DIR", help_heading = "Serving")]
    root: PathBuf,

    #[command(flatten)]
    files: FilesOptions,

    #[command(flatten)]
    cache: CacheOptions,

    #[command(flatten)]
    common: Common,

    #[command(flatten)]
    timeouts: ClientTimeouts,

    #[command(flatten)]
    limits: ClientLimits,

    #[command(flatten)]
    messages: Messages,
}

/// Reads the command line, whose first argument is the program's name.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<OriginConfig, Exit> {
    let cli: Cli = common::read(&PROGRAM, args)?;
    check(cli).map_err(Exit::usage)
}

fn check(cli: Cli) -> Result<OriginConfig, String> {
    check_root(&cli.root)?;
    cli.cache.check(&cli.root)?;
    cli.limits.check(cli.common.workers)?;
    Ok(OriginConfig {
        listen: cli.common.listen()?,
        log_format: cli.common.log_format()?,
        verbosity: cli.messages.verbosity(),
        workers: cli.common.workers,
        access_log: cli.common.access_log,
        root: cli.root,
        files: cli.files,
        cache: cli.cache,
        timeouts: cli.timeouts,
        limits: cli.limits,
    })
}

fn check_root(root: &Path) -> Result<(), String> {
    let shown = root.display();
    match root.metadata() {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(format!("--root '{shown}' is not a folder: name the folder that the files are in")),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Err(format!("--root '{shown}' does not exist: create it, or name another folder"))
        }
        Err(error) => {
            Err(format!("--root '{shown}' cannot be used ({error}): check its permissions, or name another folder"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::SECOND;
    use crate::http1;

    fn run(line: &str) -> Result<OriginConfig, Exit> {
        parse(["pilb-origin"].into_iter().chain(line.split_whitespace()).map(OsString::from))
    }

    fn complaint(line: &str) -> String {
        let exit = run(line).unwrap_err();
        assert_eq!((exit.code, exit.to_stdout), (2, false), "{line}");
        assert!(!exit.message.contains('\n'), "{line}");
        exit.message
    }

    #[test]
    fn a_folder_and_the_defaults() {
        let config = run("--root /").unwrap();
        assert_eq!(config.listen, [Address::Tcp("127.0.0.1:8081".parse().unwrap())]);
        assert_eq!(config.root, PathBuf::from("/"));
        assert_eq!((config.workers, config.verbosity), (Workers::Auto, 0));
        assert_eq!((config.access_log, config.log_format), (LogTarget::Off, LogFormat::Pilb));
        assert_eq!((config.timeouts.head, config.timeouts.idle), (10 * SECOND, 75 * SECOND));
        assert_eq!((config.timeouts.body, config.timeouts.write), (30 * SECOND, 30 * SECOND));
        assert_eq!(config.limits.request(), http1::Limits::REQUEST);
    }

    #[test]
    fn it_takes_the_shared_options_and_only_those() {
        let config =
            run("--listen :1 --root / --workers 2 --access-log - --access-log-format json --max-head 8k -q").unwrap();
        assert_eq!((config.workers, config.verbosity), (Workers::Count(2), -1));
        assert_eq!((config.access_log, config.log_format), (LogTarget::Stdout, LogFormat::Json));
        assert_eq!(config.limits.max_head, 8 << 10);
        for option in ["--upstream", "--demo", "--retries", "--forwarded", "--max-response-head"] {
            assert!(complaint(option).starts_with(&format!("unknown option '{option}'")), "{option}");
        }
        assert_eq!(
            complaint("--root / --access-log-format json"),
            "--access-log-format is given, but the access log is off: add --access-log PATH or leave it out"
        );
        assert!(complaint("--root / --max-head 4k").starts_with("--max-target (8192) is more than --max-head (4096)"));
    }

    #[test]
    fn the_root_is_a_folder_that_exists() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "x").unwrap();
        let (file, none) = (file.display(), folder.path().join("none"));
        assert_eq!(complaint(""), "--root <DIR> is missing; see --help");
        assert_eq!(
            complaint(&format!("--root {file}")),
            format!("--root '{file}' is not a folder: name the folder that the files are in")
        );
        for path in [none.display().to_string(), format!("{file}/x")] {
            assert_eq!(
                complaint(&format!("--root {path}")),
                format!("--root '{path}' does not exist: create it, or name another folder")
            );
        }
    }

    #[test]
    fn help_and_version() {
        for flag in ["-h", "--help"] {
            let exit = run(flag).unwrap_err();
            assert_eq!((exit.code, exit.to_stdout), (0, true));
            let words = exit.message.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(words.contains("Examples: ") && words.contains("[default: 127.0.0.1:8081]"));
            assert!(exit.message.lines().all(|line| line.chars().count() <= 100), "{}", exit.message);
        }
        assert_eq!(run("-V").unwrap_err().message, format!("pilb-origin {}\n", env!("CARGO_PKG_VERSION")));
    }
}
