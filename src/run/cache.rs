//! `pilb-origin cache`: what a cache's directory holds, shown to people or programs, proven, or dropped.

use crate::base::json::quoted;
use crate::config::Exit;
use crate::config::cache_command::{Action, CacheCommand, parse};
use crate::origin::RelativePath;
use crate::origin::listing::human;
use crate::origin::path::encoded;
use crate::storage::cache::OpenError;
use crate::storage::cache::inspect::{self, Entry, Filter, Stat, State, Verified};
use crate::storage::{kind_and_name, names_of};
use std::ffi::OsString;
use std::fmt::{Arguments, Display};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;

/// What `verify` ends with if something is bad.
const BAD: u8 = 1;

/// Runs the command with these arguments, the word `cache` first.
pub(super) fn cache(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut page = Page { to: &mut BufWriter::new(io::stdout().lock()), failed: None };
    let done = parse(args).and_then(|command| run(&command, &mut page));
    match done.and_then(|code| page.end().map(|()| code)) {
        Ok(code) => ExitCode::from(code),
        Err(exit) => exit.report("pilb-origin cache"),
    }
}

fn run(command: &CacheCommand, page: &mut Page<'_>) -> Result<u8, Exit> {
    let names = command.path.as_deref().map(names).transpose()?;
    let chosen = |key: &[u8]| match (&names, kind_and_name(key)) {
        (Some(names), Some((_, name))) => names.iter().any(|wanted| wanted == name),
        _ => false,
    };
    let filter: Option<Filter<'_>> = if names.is_some() { Some(&chosen) } else { None };
    let dir = &command.dir;
    let cannot = |error| explain(dir, &error);
    match command.action {
        Action::Stat => {
            let stat = inspect::stat(dir).map_err(cannot)?;
            if command.json { stat_json(page, &stat) } else { stat_text(page, dir, &stat) }
        }
        Action::List => {
            let mut rows = Vec::new();
            inspect::list(dir, filter, &mut |entry| rows.push(Row::of(entry, command.ttl))).map_err(cannot)?;
            rows.sort_unstable_by(|a, b| (&a.path, &a.kind).cmp(&(&b.path, &b.kind)));
            if command.json { rows_json(page, &rows) } else { list_text(page, &rows, command.ttl.is_some()) }
        }
        Action::Verify => {
            let index = inspect::stat(dir).map_err(cannot)?.broken;
            let mut rows = Vec::new();
            let counts = inspect::verify(dir, filter, &mut |entry| rows.push(Row::of(entry, None))).map_err(cannot)?;
            let verdict = Verdict { counts, index, rows };
            if command.json {
                verdict.json(page);
            } else {
                verdict.text(page);
            }
            return Ok(if verdict.is_bad() { BAD } else { 0 });
        }
        Action::Purge => {
            let dropped = inspect::purge(dir, filter).map_err(cannot)?;
            page.line(format_args!("{dropped} dropped"));
        }
    }
    Ok(0)
}

/// The names of files and folders whose answers a URL's path means.
fn names(path: &str) -> Result<Vec<Vec<u8>>, Exit> {
    let mut relative = RelativePath::default();
    match relative.decode(path.as_bytes()) {
        Ok(()) => Ok(names_of(&relative)),
        Err(fault) => Err(Exit::usage(format!("'{path}' is no path that could be served ({})", fault.word()))),
    }
}

/// What is wrong with the directory, for somebody who has not started a server.
fn explain(dir: &Path, error: &OpenError) -> Exit {
    let shown = dir.display();
    let advice = "name what --cache-dir named when the server was started, or 'cache' in its folder";
    match error {
        OpenError::Foreign { .. } => Exit::usage(format!("'{shown}' is no cache directory of pilb-origin: {advice}")),
        OpenError::Failed { error, .. } if error.kind() == ErrorKind::NotFound => {
            Exit::usage(format!("'{shown}' does not exist: {advice}"))
        }
        OpenError::Failed { error, .. } if error.kind() == ErrorKind::NotADirectory => {
            Exit::usage(format!("'{shown}' is not a folder: {advice}"))
        }
        OpenError::Failed { doing, error, .. } if error.kind() == ErrorKind::PermissionDenied => Exit::cannot_start(
            format!("cannot {doing} '{shown}': {error}; become the user that the server runs as, or root"),
        ),
        other => Exit::cannot_start(other.to_string()),
    }
}

/// Standard output. What follows a failure to write is dropped.
struct Page<'w> {
    to: &'w mut dyn Write,
    failed: Option<io::Error>,
}

impl Page<'_> {
    fn line(&mut self, text: Arguments<'_>) {
        if self.failed.is_none() {
            self.failed = writeln!(self.to, "{text}").err();
        }
    }

    /// Whoever closes a pipe early has seen enough; a disk that is full is an error.
    fn end(&mut self) -> Result<(), Exit> {
        match self.failed.take().or_else(|| self.to.flush().err()) {
            Some(error) if error.kind() != ErrorKind::BrokenPipe => {
                Err(Exit::cannot_start(format!("cannot write to standard output: {error}")))
            }
            _ => Ok(()),
        }
    }
}

/// An object as it is shown.
struct Row {
    kind: String,
    /// Of the URL; nothing if the file does not tell.
    path: Option<String>,
    file: String,
    size: u64,
    age: Option<u32>,
    left: Option<u32>,
    state: State,
}

impl Row {
    fn of(entry: &Entry<'_>, ttl: Option<u32>) -> Row {
        let known = kind_and_name(entry.key);
        Row {
            kind: known.map_or("?", |(kind, _)| kind).to_owned(),
            path: known.map(|(_, name)| format!("/{}", encoded(name))),
            file: entry.file(),
            size: entry.size,
            age: entry.age,
            left: ttl.zip(entry.age).map(|(ttl, age)| ttl.saturating_sub(age)),
            state: entry.state,
        }
    }

    fn json(&self) -> String {
        let path = self.path.as_deref().map(quoted);
        format!(
            "{{\"kind\":{},\"path\":{},\"file\":{},\"size\":{},\"age\":{},\"left\":{},\"state\":\"{}\"}}",
            quoted(&self.kind),
            or_null(path.as_ref()),
            quoted(&self.file),
            self.size,
            or_null(self.age.as_ref()),
            or_null(self.left.as_ref()),
            word(self.state)
        )
    }
}

fn word(state: State) -> &'static str {
    match state {
        State::Ok => "ok",
        State::Damaged => "damaged",
        State::Orphan => "orphan",
        State::Unread => "unreadable",
    }
}

fn or_null(value: Option<&impl Display>) -> String {
    value.map_or("null".to_owned(), ToString::to_string)
}

// ---- list

fn list_text(page: &mut Page<'_>, rows: &[Row], with_left: bool) {
    let span = |seconds: Option<u32>| seconds.map_or("-".to_owned(), span);
    let left = |text: &str| if with_left { format!("  {text:>5}") } else { String::new() };
    page.line(format_args!("{:<9}  {:>8}  {:>5}{}  PATH", "KIND", "SIZE", "AGE", left("LEFT")));
    for row in rows {
        let path = row.path.as_deref().unwrap_or(&row.file);
        let state = if row.state == State::Ok { String::new() } else { format!("  ({})", word(row.state)) };
        let (size, age, left) = (human(row.size), span(row.age), left(&span(row.left)));
        page.line(format_args!("{:<9}  {size:>8}  {age:>5}{left}  {path}{state}", row.kind));
    }
}

fn rows_json(page: &mut Page<'_>, rows: &[Row]) {
    page.line(format_args!("["));
    for (at, row) in rows.iter().enumerate() {
        let comma = if at + 1 < rows.len() { "," } else { "" };
        page.line(format_args!("{}{comma}", row.json()));
    }
    page.line(format_args!("]"));
}

/// `59s`, `12m`, `30h`, `9d`.
fn span(seconds: u32) -> String {
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

// ---- stat

fn stat_text(page: &mut Page<'_>, dir: &Path, stat: &Stat) {
    let server = stat.server.map_or("none".to_owned(), |pid| format!("process {pid}"));
    let index = match (&stat.broken, stat.server, stat.clean) {
        (Some(why), ..) => format!("no good ({why}); the next server makes it anew from the objects"),
        (None, Some(_), _) => "in use".to_owned(),
        (None, None, true) => "in order".to_owned(),
        (None, None, false) => "not closed by the last server; the next one looks through the objects".to_owned(),
    };
    let of = if stat.capacity > 0 { format!(" of {}", stat.capacity) } else { String::new() };
    let ages = stat.youngest.zip(stat.oldest);
    let ages = ages.map_or("-".to_owned(), |(young, old)| format!("{} to {}", span(young), span(old)));
    page.line(format_args!("directory  {}", dir.display()));
    page.line(format_args!("server     {server}"));
    page.line(format_args!("objects    {}{of}", stat.objects));
    page.line(format_args!("size       {}", human(stat.bytes)));
    page.line(format_args!("age        {ages}"));
    page.line(format_args!("index      {index}"));
}

fn stat_json(page: &mut Page<'_>, stat: &Stat) {
    page.line(format_args!(
        "{{\"objects\":{},\"capacity\":{},\"bytes\":{},\"youngest\":{},\"oldest\":{},\"server\":{},\"clean\":{},\"broken\":{}}}",
        stat.objects,
        stat.capacity,
        stat.bytes,
        or_null(stat.youngest.as_ref()),
        or_null(stat.oldest.as_ref()),
        or_null(stat.server.as_ref()),
        stat.clean,
        or_null(stat.broken.as_deref().map(quoted).as_ref())
    ));
}

// ---- verify

struct Verdict {
    counts: Verified,
    /// Why the index is no good.
    index: Option<String>,
    /// The objects that are not in order.
    rows: Vec<Row>,
}

impl Verdict {
    /// What a crash leaves (files without entries, entries without files) is no damage: it is never served.
    fn is_bad(&self) -> bool {
        self.counts.damaged + self.counts.unread > 0 || self.index.is_some()
    }

    fn text(&self, page: &mut Page<'_>) {
        for row in &self.rows {
            let path = row.path.as_deref().unwrap_or("?");
            page.line(format_args!("{:<10}  {}  {:<9}  {path}", word(row.state), row.file, row.kind));
        }
        if let Some(why) = &self.index {
            page.line(format_args!("the index is no good: {why}"));
        }
        let Verified { good, damaged, orphans, unread, dangling } = self.counts;
        page.line(format_args!("{good} good, {damaged} damaged, {unread} unreadable"));
        if orphans + dangling > 0 {
            page.line(format_args!(
                "{orphans} without an entry in the index, {dangling} entries without a file: left by a crash, harmless"
            ));
        }
        if damaged > 0 {
            page.line(format_args!("what is damaged is never served: it is made anew when somebody asks for it"));
        }
    }

    fn json(&self, page: &mut Page<'_>) {
        let Verified { good, damaged, orphans, unread, dangling } = self.counts;
        let rows: Vec<String> = self.rows.iter().map(Row::json).collect();
        page.line(format_args!(
            "{{\"good\":{good},\"damaged\":{damaged},\"unreadable\":{unread},\"orphans\":{orphans},\"dangling\":{dangling},\
             \"broken\":{},\"objects\":[{}]}}",
            or_null(self.index.as_deref().map(quoted).as_ref()),
            rows.join(",")
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(path: Option<&str>, state: State) -> Row {
        let path = path.map(str::to_owned);
        Row { kind: "gzip".into(), path, file: "objects/0a/1".into(), size: 4096, age: Some(61), left: None, state }
    }

    fn shown(show: impl Fn(&mut Page<'_>)) -> String {
        let mut out = Vec::new();
        show(&mut Page { to: &mut out, failed: None });
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn columns_stand_below_their_names() {
        let rows = [row(Some("/a%20b"), State::Ok), row(None, State::Damaged)];
        assert_eq!(
            shown(|page| list_text(page, &rows, false)),
            "KIND           SIZE    AGE  PATH\n\
             gzip        4.0 KiB    61s  /a%20b\n\
             gzip        4.0 KiB    61s  objects/0a/1  (damaged)\n"
        );
        assert!(shown(|page| list_text(page, &rows, true)).starts_with("KIND           SIZE    AGE   LEFT  PATH\n"));
    }

    #[test]
    fn json_is_json() {
        let rows = vec![row(Some("/\"a\\"), State::Ok), row(None, State::Unread)];
        let parse = |text: String| serde_json::from_str::<serde_json::Value>(&text).unwrap();
        let list = parse(shown(|page| rows_json(page, &rows)));
        assert_eq!((&list[0]["path"], &list[1]["path"]), (&"/\"a\\".into(), &serde_json::Value::Null));
        assert_eq!((&list[0]["age"], &list[1]["state"]), (&61.into(), &"unreadable".into()));
        assert_eq!(parse(shown(|page| rows_json(page, &[]))), serde_json::json!([]));
        let counts = Verified { good: 1, ..Verified::default() };
        let verdict = parse(shown(|page| Verdict { counts, index: Some("\n".into()), rows: Vec::new() }.json(page)));
        assert_eq!((&verdict["good"], &verdict["broken"]), (&1.into(), &"\n".into()));
        let stat = parse(shown(|page| stat_json(page, &Stat::default())));
        assert_eq!((&stat["objects"], &stat["server"]), (&0.into(), &serde_json::Value::Null));
    }

    #[test]
    fn a_reader_that_leaves_is_no_error_and_a_full_disk_is_one() {
        let mut sink = io::sink();
        let mut page = Page { to: &mut sink, failed: Some(ErrorKind::BrokenPipe.into()) };
        assert!(page.end().is_ok());
        page.failed = Some(ErrorKind::StorageFull.into());
        assert_eq!(page.end().unwrap_err().code, 1);
    }
}
