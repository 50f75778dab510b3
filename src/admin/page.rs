//! The status page for people, and the servers as JSON for programs.

use crate::admin::{ServerView, Snapshot};
use crate::base::json::quote;
use std::fmt::Write;

// Writing to a String cannot fail: what `write!` says about it is dropped.

/// The page.
pub(super) fn text(snapshot: &Snapshot) -> String {
    let Snapshot { draining, workers, totals, servers } = snapshot;
    let mut out = format!("pilb-fast {}", env!("CARGO_PKG_VERSION"));
    out += if *draining { ", ending\n\n" } else { "\n\n" };
    let open = totals.opened.saturating_sub(totals.closed);
    let _ = writeln!(out, "clients   {open} connected, {} in all; {workers} worker(s)", totals.opened);
    let _ = write!(out, "requests  {}:", totals.exchanges());
    for (class, name) in [(2, "2xx"), (3, "3xx"), (4, "4xx"), (5, "5xx")] {
        let _ = write!(out, " {} {name},", totals.of_class(class));
    }
    let _ = writeln!(out, " {} tried again, {} waiting for a server\n", totals.retries, totals.waiting);
    let width = servers.iter().map(|server| server.name.chars().count()).max().unwrap_or(0).clamp(6, 48);
    let _ = writeln!(
        out,
        "{:width$}  {:8}  {:>6}  {:>5}  {:>9}  {:>10}  {:>8}",
        "server", "state", "weight", "share", "in flight", "requests", "failures"
    );
    for server in servers {
        let ServerView { name, state, weight, share, totals, .. } = server;
        let _ = writeln!(
            out,
            "{name:width$}  {:8}  {weight:>6}  {share:>4}%  {:>9}  {:>10}  {:>8}{}",
            state.word(),
            totals.in_flight,
            totals.requests,
            totals.failures,
            if server.backup { "  backup" } else { "" }
        );
    }
    out + "\nGET  /healthz              200 while requests can be served, else 503\n\
           GET  /servers              the servers as JSON\n\
           GET  /metrics              all numbers for Prometheus\n\
           POST /servers/NAME/drain   no further requests for this server\n\
           POST /servers/NAME/ready   requests for this server again\n"
}

/// `{"servers":[...]}`, a line per server.
pub(super) fn servers(snapshot: &Snapshot) -> String {
    let mut out = String::from("{\"servers\":[");
    for (at, view) in snapshot.servers.iter().enumerate() {
        out += if at == 0 { "\n" } else { ",\n" };
        server(&mut out, view);
    }
    out += "\n]}\n";
    out
}

/// One of them.
pub(super) fn server(out: &mut String, view: &ServerView) {
    let ServerView { name, address, weight, backup, state, share, probe, totals } = view;
    out.push_str("{\"name\":");
    quote(out, name);
    out.push_str(",\"address\":");
    quote(out, address);
    let probe = match probe {
        None => "null",
        Some(true) => "\"well\"",
        Some(false) => "\"bad\"",
    };
    let _ = write!(
        out,
        ",\"weight\":{weight},\"backup\":{backup},\"state\":\"{}\",\"share\":{share},\"probe\":{probe},\
         \"in_flight\":{},\"requests\":{},\"failures\":{},\"ejections\":{}}}",
        state.word(),
        totals.in_flight,
        totals.requests,
        totals.failures,
        totals.ejections
    );
}
