//! L5: a command line made into a checked configuration. A mistake ends in one line: what is wrong, where, what to do.
//!
//! [`proxy::parse`] and [`origin::parse`] read the arguments, [`resolve()`] looks names up, [`refuse_loops`] finds a
//! proxy that would forward to itself. [`explain_bind`] and [`explain_log`] say why a socket or a log cannot be opened.
//! No variable of the environment is read here.

mod address;
pub mod balancing;
pub mod cache;
pub mod cache_command;
pub mod chain;
mod common;
mod explain;
pub mod files;
pub mod guard;
pub mod health;
mod network;
pub mod origin;
pub mod proxy;
mod resolve;
mod usage;
mod values;

pub use address::{Place, UpstreamSpec};
pub use common::{ClientLimits, ClientTimeouts, LogFormat, LogTarget, Workers};
pub use explain::{explain_bind, explain_log};
pub use network::Networks;
pub use origin::OriginConfig;
pub use proxy::{Forwarded, ProxyConfig};
pub use resolve::{Server, refuse_loops, resolve, resolve_with};

use std::io::{self, Write};
use std::process::ExitCode;

/// Why a program ends before it serves, or instead of serving.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// 0: what was asked for was shown. 1: cannot start. 2: the command line is wrong.
    pub code: u8,
    /// Help or the version as they are to be shown, else one line without the program's name and without a line end.
    pub message: String,
    /// Whether the message is the answer (standard output) or a complaint (standard error).
    pub to_stdout: bool,
}

impl Exit {
    /// Help or the version: code 0, on standard output.
    pub fn shown(text: String) -> Exit {
        Exit { code: 0, message: text, to_stdout: true }
    }

    /// The command line asks for something unknown, contradictory or impossible: code 2.
    pub fn usage(message: impl AsRef<str>) -> Exit {
        Exit { code: 2, message: one_line(message.as_ref()), to_stdout: false }
    }

    /// The command line is right, but the machine does not allow it: code 1.
    pub fn cannot_start(message: impl AsRef<str>) -> Exit {
        Exit { code: 1, message: one_line(message.as_ref()), to_stdout: false }
    }

    /// Says it: the text as it is on standard output, or `program: message` on standard error.
    pub fn report(&self, program: &str) -> ExitCode {
        // With nobody left to read it (a closed pipe) there is nobody to tell either.
        let _ = if self.to_stdout {
            io::stdout().write_all(self.message.as_bytes())
        } else {
            writeln!(io::stderr(), "{program}: {}", self.message)
        };
        ExitCode::from(self.code)
    }
}

/// The text with its control characters escaped: whatever an argument holds, an error stays on its line.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.trim_end().chars() {
        if c.is_control() { line.extend(c.escape_default()) } else { line.push(c) }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_stays_on_its_line_and_help_stays_as_it_is() {
        let exit = Exit::usage("--listen 'a\nb\u{1b}[1m': no\n");
        assert_eq!(exit, Exit { code: 2, message: r"--listen 'a\nb\u{1b}[1m': no".to_string(), to_stdout: false });
        assert_eq!(Exit::cannot_start("é").message, "é");
        assert_eq!(Exit::cannot_start("x").code, 1);
        assert_eq!(Exit::shown("a\nb\n".into()), Exit { code: 0, message: "a\nb\n".into(), to_stdout: true });
    }
}
