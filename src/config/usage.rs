//! What clap found wrong, said in one line.

use crate::config::Exit;
use clap::error::{ContextKind, ContextValue, Error, ErrorKind};
use std::error::Error as _;

/// Help and the version as they are, everything else as one line.
pub fn exit(error: &Error) -> Exit {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Exit::shown(error.render().to_string()),
        _ => Exit::usage(complaint(error)),
    }
}

fn complaint(error: &Error) -> String {
    let argument = text(error, ContextKind::InvalidArg);
    let value = text(error, ContextKind::InvalidValue);
    let known = text(error, ContextKind::ValidValue);
    let (option, placeholder) = argument.split_once(' ').unwrap_or((&argument, "VALUE"));
    match error.kind() {
        ErrorKind::UnknownArgument => unknown(&argument, &text(error, ContextKind::SuggestedArg)),
        ErrorKind::InvalidValue if value.is_empty() && known.is_empty() => {
            format!("{option} needs a value: write {option} {placeholder}")
        }
        ErrorKind::InvalidValue if value.is_empty() => format!("{option} needs a value: one of {known}"),
        ErrorKind::InvalidValue => {
            let hint = did_you_mean(&text(error, ContextKind::SuggestedValue)).unwrap_or_default();
            format!("{option} '{value}': not one of {known}{hint}")
        }
        ErrorKind::ValueValidation => match error.source() {
            Some(source) => format!("{option} '{value}': {source}"),
            None => format!("{option} '{value}': not a value of this option; see --help"),
        },
        ErrorKind::ArgumentConflict => conflict(option, &text(error, ContextKind::PriorArg)),
        ErrorKind::MissingRequiredArgument => format!("{argument} is missing; see --help"),
        ErrorKind::TooManyValues => format!("{option} takes no value: leave '{value}' out"),
        ErrorKind::InvalidUtf8 => "an argument is not UTF-8 text: only paths may be other bytes".to_string(),
        _ => first_line(error),
    }
}

fn unknown(argument: &str, suggestion: &str) -> String {
    if argument.starts_with('-') {
        let hint = did_you_mean(suggestion).unwrap_or_else(|| "; see --help".to_string());
        return format!("unknown option '{argument}'{hint}");
    }
    format!("'{argument}' belongs to no option: put an option before it, or remove the space if it goes on a list")
}

fn conflict(option: &str, prior: &str) -> String {
    // The two are shown as in the help: "--workers <N>", "--verbose...".
    let [option, prior] = [option, prior].map(|arg| arg.split(' ').next().unwrap_or(arg).trim_end_matches('.'));
    if prior.is_empty() || prior == option {
        format!("{option} is given twice: keep one")
    } else {
        format!("{option} and {prior} contradict each other: keep one")
    }
}

fn did_you_mean(suggestion: &str) -> Option<String> {
    (!suggestion.is_empty()).then(|| format!("; did you mean '{suggestion}'?"))
}

/// A piece of what clap knows of the error, lists with commas; empty if it knows nothing.
fn text(error: &Error, kind: ContextKind) -> String {
    match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(list)) => list.join(", "),
        _ => String::new(),
    }
}

fn first_line(error: &Error) -> String {
    let text = error.render().to_string();
    let line = text.lines().next().unwrap_or_default();
    format!("{}; see --help", line.strip_prefix("error: ").unwrap_or(line))
}
