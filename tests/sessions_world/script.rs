//! Reads a file of scripts into lines to perform.

use super::text::range;

/// How the bytes of a script are delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    AsWritten,
    /// Each client byte alone.
    ClientBytes,
    /// Each server byte alone.
    UpstreamBytes,
    /// All sockets take at most a few bytes at once.
    ShortSends,
    /// Each byte alone, and content passes by the buffers wherever it may.
    AroundBuffers,
}

impl Mode {
    pub const ALL: [Mode; 5] =
        [Mode::AsWritten, Mode::ClientBytes, Mode::UpstreamBytes, Mode::ShortSends, Mode::AroundBuffers];

    pub fn client_by_bytes(self) -> bool {
        matches!(self, Mode::ClientBytes | Mode::AroundBuffers)
    }

    pub fn upstream_by_bytes(self) -> bool {
        matches!(self, Mode::UpstreamBytes | Mode::AroundBuffers)
    }

    pub fn name(self) -> &'static str {
        match self {
            Mode::AsWritten => "as-written",
            Mode::ClientBytes => "client-bytes",
            Mode::UpstreamBytes => "upstream-bytes",
            Mode::ShortSends => "short-sends",
            Mode::AroundBuffers => "around-buffers",
        }
    }
}

/// A line to perform.
#[derive(Clone, Debug)]
pub struct Step {
    pub line: usize,
    pub text: String,
    /// Happens in one batch with the next one.
    pub together: bool,
}

/// One script.
#[derive(Clone, Debug, Default)]
pub struct Script {
    pub name: String,
    pub line: usize,
    pub skip: Vec<Mode>,
    pub steps: Vec<Step>,
}

/// Reads all scripts of a file.
pub fn parse(source: &str) -> Result<Vec<Script>, String> {
    let mut scripts: Vec<Script> = Vec::new();
    let mut repeat: Option<(u64, u64, Vec<Step>)> = None;
    for (index, raw) in source.lines().enumerate() {
        let (line, text) = (index + 1, raw.trim());
        let fail = |what: &str| Err(format!("line {line}: {what}: {text}"));
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        if let Some(name) = text.strip_prefix("script:") {
            let name = name.trim().to_owned();
            if repeat.is_some() || scripts.iter().any(|script| script.name == name) {
                return fail("an open repeat, or a name used twice");
            }
            scripts.push(Script { name, line, ..Script::default() });
            continue;
        }
        let Some(script) = scripts.last_mut() else { return fail("before the first script") };
        if let Some(skip) = text.strip_prefix("skip ") {
            let Some((modes, _)) = skip.split_once(':') else { return fail("a skip needs a reason") };
            for word in modes.split(',') {
                match Mode::ALL.into_iter().find(|mode| mode.name() == word.trim()) {
                    Some(mode) => script.skip.push(mode),
                    None => return fail("unknown mode"),
                }
            }
        } else if let Some(times) = text.strip_prefix("repeat ") {
            let (from, to) = range(times)?;
            repeat = Some((from, to, Vec::new()));
        } else if text == "end" {
            let Some((from, to, body)) = repeat.take() else { return fail("no repeat to end") };
            for i in from..=to {
                let filled =
                    body.iter().map(|step| Step { text: step.text.replace("$i", &i.to_string()), ..step.clone() });
                script.steps.extend(filled);
            }
        } else {
            let steps = repeat.as_mut().map_or(&mut script.steps, |(_, _, body)| body);
            if let Some(more) = text.strip_prefix('|') {
                let Some(last) = steps.last_mut() else { return fail("nothing to continue") };
                last.text.push_str(more.strip_prefix(' ').unwrap_or(more));
            } else {
                let (together, text) = text.strip_prefix("+ ").map_or((false, text), |text| (true, text));
                steps.push(Step { line, text: text.to_owned(), together });
            }
        }
    }
    if repeat.is_some() { Err("a repeat without end".to_owned()) } else { Ok(scripts) }
}
