//! The command line of `pilb-origin cache`: looks into a cache's directory, and empties it.

use crate::base::Micros;
use crate::base::time::SECOND;
use crate::config::{Exit, cache, usage};
use clap::{ArgAction, CommandFactory, FromArgMatches, Parser, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;

const USAGE: &str = "pilb-origin cache stat|list|verify|purge DIR [PATH] [OPTIONS]";

const MANUAL: &str = "Commands:
  stat    Its size, its age, and which process serves from it
  list    What is kept, path by path
  verify  Reads all that is kept and compares it with its checksums
  purge   Drops what is kept; a server that has the cache open makes it anew from then on

DIR is what --cache-dir named when the server was started ('cache' if nothing did). It may be in
use. PATH is the path of a URL, as /css/a.css, and means all that is kept of it; that of a folder,
as /docs/, means its listing and its index.html. Without a PATH everything is meant.

Examples:
  pilb-origin cache stat cache
  pilb-origin cache list /var/cache/pilb --cache-ttl 60s
  pilb-origin cache verify cache --json
  pilb-origin cache purge cache /css/a.css
  pilb-origin cache purge cache

Exit status:
  0 if it was done, 1 if it cannot be done or verify found something bad, 2 if the command line is
  wrong or DIR is no cache.";

/// What to do with which cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheCommand {
    pub action: Action,
    pub dir: PathBuf,
    /// The path of a URL, as it was written.
    pub path: Option<String>,
    pub json: bool,
    /// Whole seconds, if they were told: the directory does not know them.
    pub ttl: Option<u32>,
}

/// See [`CacheCommand`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Action {
    Stat,
    List,
    Verify,
    Purge,
}

/// Look into the directory where a pilb-origin keeps its answers, and empty it
#[derive(Parser)]
#[command(name = "pilb-origin cache", override_usage = USAGE, after_help = MANUAL)]
struct Cli {
    // Judged by hand: what is missing or too much is better said in whole sentences.
    #[arg(hide = true, num_args = 0..)]
    words: Vec<OsString>,

    /// Write JSON, for programs (stat, list, verify)
    #[arg(long)]
    json: bool,

    /// The server's --cache-ttl: shows how long each answer is still good (list)
    #[arg(long, value_name = "TIME", value_parser = cache::ttl)]
    cache_ttl: Option<Micros>,

    /// Show this help
    #[arg(short, long, action = ArgAction::Help)]
    help: Option<bool>,
}

/// Reads the arguments, of which the first is the word `cache`.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<CacheCommand, Exit> {
    let command = Cli::command().disable_help_flag(true).max_term_width(100);
    let found = command.try_get_matches_from(args);
    let cli = found.and_then(|found| Cli::from_arg_matches(&found)).map_err(|error| usage::exit(&error))?;
    check(cli).map_err(Exit::usage)
}

fn check(cli: Cli) -> Result<CacheCommand, String> {
    let mut words = cli.words.into_iter();
    let Some(word) = words.next() else { return Err("say what to do: stat, list, verify or purge; see --help".into()) };
    let shown = word.to_string_lossy();
    let action = Action::from_str(&shown, false)
        .map_err(|_| format!("'{shown}' is no command: write stat, list, verify or purge"))?;
    let Some(dir) = words.next().filter(|dir| !dir.is_empty()) else {
        return Err(format!("the directory is missing: write pilb-origin cache {shown} DIR, such as 'cache'"));
    };
    let path = words.next().map(path).transpose()?;
    if let Some(extra) = words.next() {
        let extra = extra.to_string_lossy();
        return Err(format!("'{extra}' is one argument too many: write a space in a path as %20"));
    }
    match action {
        Action::Stat if path.is_some() => return Err("stat takes no PATH: it is about the whole directory".into()),
        Action::Purge if cli.json => return Err("purge has no --json: it says how many were dropped".into()),
        Action::List => {}
        _ if cli.cache_ttl.is_some() => return Err("--cache-ttl is for list only: leave it out".into()),
        _ => {}
    }
    let ttl = cli.cache_ttl.map(|ttl| u32::try_from(ttl / SECOND).unwrap_or(u32::MAX));
    Ok(CacheCommand { action, dir: dir.into(), path, json: cli.json, ttl })
}

fn path(word: OsString) -> Result<String, String> {
    let shown = word.to_string_lossy().into_owned();
    match word.into_string() {
        Ok(path) if path.starts_with('/') => Ok(path),
        Ok(path) => Err(format!("'{path}' is no path of a URL: begin it with a slash, such as /index.html")),
        Err(_) => Err(format!("'{shown}' is not UTF-8: write other bytes as in a URL, %ff")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(line: &str) -> Result<CacheCommand, Exit> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn a_command_a_directory_and_perhaps_a_path() {
        let of = |action, path: Option<&str>, json, ttl| {
            Ok(CacheCommand { action, dir: "d".into(), path: path.map(str::to_owned), json, ttl })
        };
        assert_eq!(run("cache stat d"), of(Action::Stat, None, false, None));
        assert_eq!(run("cache list d /a%20b --cache-ttl 2m"), of(Action::List, Some("/a%20b"), false, Some(120)));
        assert_eq!(run("cache verify --json d"), of(Action::Verify, None, true, None));
        assert_eq!(run("cache purge d /"), of(Action::Purge, Some("/"), false, None));
    }

    #[test]
    fn complaints_are_one_line_and_say_what_to_write() {
        for (line, words) in [
            ("cache", "say what to do: stat, list, verify or purge"),
            ("cache empty d", "'empty' is no command"),
            ("cache stat", "the directory is missing: write pilb-origin cache stat DIR"),
            ("cache stat d /a", "stat takes no PATH"),
            ("cache list d a", "'a' is no path of a URL: begin it with a slash"),
            ("cache list d /a b", "'b' is one argument too many"),
            ("cache purge d --json", "purge has no --json"),
            ("cache stat d --cache-ttl 60s", "--cache-ttl is for list only"),
            ("cache list d --cache-ttl 60", "--cache-ttl '60': a time without its unit"),
            ("cache list d --jsno", "unknown option '--jsno'; did you mean '--json'?"),
            ("cache list d --root x", "unknown option '--root'"),
        ] {
            let exit = run(line).unwrap_err();
            assert_eq!((exit.code, exit.to_stdout), (2, false), "{line}");
            assert!(exit.message.contains(words) && !exit.message.contains('\n'), "{line}: {}", exit.message);
        }
    }

    #[test]
    fn help_fits_the_screen() {
        for line in ["cache -h", "cache --help", "cache list --help"] {
            let exit = run(line).unwrap_err();
            assert_eq!((exit.code, exit.to_stdout), (0, true));
            assert!(exit.message.contains("Examples:") && exit.message.contains("--json"), "{}", exit.message);
            assert!(exit.message.lines().all(|line| line.chars().count() <= 100), "{}", exit.message);
        }
    }
}
