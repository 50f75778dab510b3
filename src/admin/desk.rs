//! What each request gets: where it leads, whether it may, and what is said.

use crate::admin::{Source, metrics, page};
use crate::http1::request::{Method, RequestHead};
use crate::http1::target::Target;
use percent_encoding::percent_decode;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// An answer without its head.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub status: u16,
    /// Further field lines.
    pub fields: &'static str,
    pub kind: &'static str,
    pub body: String,
}

impl Reply {
    pub fn error(status: u16, why: &str) -> Reply {
        Reply { status, fields: "", kind: TEXT, body: format!("{status} {why}\n") }
    }

    fn text(body: String) -> Reply {
        Reply { status: 200, fields: "", kind: TEXT, body }
    }
}

/// Where a request leads.
enum Place<'p> {
    Page,
    Health,
    Servers,
    Metrics,
    /// Takes the server of this name (as it was sent) out of service, or back.
    Drain(&'p [u8], bool),
}

impl Place<'_> {
    fn of(path: &[u8]) -> Option<Place<'_>> {
        match path {
            b"/" => Some(Place::Page),
            b"/healthz" => Some(Place::Health),
            b"/servers" => Some(Place::Servers),
            b"/metrics" => Some(Place::Metrics),
            _ => {
                let rest = path.strip_prefix(b"/servers/")?;
                let drain = rest.strip_suffix(b"/drain").map(|name| Place::Drain(name, true));
                drain.or_else(|| rest.strip_suffix(b"/ready").map(|name| Place::Drain(name, false)))
            }
        }
    }
}

/// Answers a request.
pub(super) fn answer<S: Source>(source: &mut S, head: &RequestHead<'_, '_>) -> Reply {
    let target = match head.target {
        Target::Origin(bytes) => bytes,
        Target::Absolute { rest: [], .. } => b"/",
        Target::Absolute { rest, .. } => rest,
        Target::Asterisk => return Reply { fields: "Allow: GET, HEAD, POST\r\n", ..Reply::text(String::new()) },
    };
    let path = target.split(|byte| *byte == b'?').next().unwrap_or(target);
    let reads = matches!(head.method, Method::Get | Method::Head);
    match Place::of(path) {
        None => Reply::error(404, "Not Found: there are /, /healthz, /servers and /metrics"),
        Some(Place::Drain(name, drained)) => match head.method_name {
            b"POST" => drain(source, name, drained, head),
            _ => Reply { fields: "Allow: POST\r\n", ..Reply::error(405, "Method Not Allowed: this is for POST") },
        },
        Some(_) if !reads => {
            Reply { fields: "Allow: GET, HEAD\r\n", ..Reply::error(405, "Method Not Allowed: this is for GET") }
        }
        Some(Place::Page) => Reply::text(page::text(&source.look())),
        Some(Place::Health) if source.look().is_healthy() => Reply::text("ok\n".to_owned()),
        Some(Place::Health) if source.look().draining => Reply::error(503, "Service Unavailable: it is ending"),
        Some(Place::Health) => Reply::error(503, "Service Unavailable: no server is up"),
        Some(Place::Servers) => Reply { kind: JSON, ..Reply::text(page::servers(&source.look())) },
        Some(Place::Metrics) => Reply { kind: metrics::KIND, ..Reply::text(metrics::text(&source.look())) },
    }
}

fn drain<S: Source>(source: &mut S, name: &[u8], drained: bool, head: &RequestHead<'_, '_>) -> Reply {
    if is_by_a_page(head) {
        return Reply::error(403, "Forbidden: a page in a browser may not do this; use curl -X POST");
    }
    let name: Vec<u8> = percent_decode(name).collect();
    let Some(at) = source.look().servers.iter().position(|server| server.name.as_bytes() == name) else {
        return Reply::error(404, "Not Found: no server has this name; see /servers");
    };
    source.drain(at, drained);
    let mut body = String::new();
    source.look().servers.iter().skip(at).take(1).for_each(|server| page::server(&mut body, server));
    body.push('\n');
    Reply { kind: JSON, ..Reply::text(body) }
}

/// Was the request made by a page? None of ours does, and a browser would do it for any page that its user looks at; under a name that
/// was made to lead here it would even look like ours.
fn is_by_a_page(head: &RequestHead<'_, '_>) -> bool {
    const SIGNS: [&str; 2] = ["origin", "sec-fetch-site"];
    head.fields.iter().any(|field| SIGNS.iter().any(|sign| field.name.eq_ignore_ascii_case(sign.as_bytes())))
}
