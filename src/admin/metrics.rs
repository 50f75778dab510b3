//! The numbers as Prometheus reads them: its text format 0.0.4.
//!
//! As many lines as there are reasons and servers, whatever clients send: nothing of a request is in a label.

use crate::admin::{ServerView, Snapshot};
use crate::base::Micros;
use crate::base::time::SECOND;
use crate::engine::{CloseReason, Guilty, Totals};
use std::fmt::{Display, Write};

pub(super) const KIND: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Of statuses.
const CLASSES: [&str; 7] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx", "other"];

/// All of them.
pub(super) fn text(snapshot: &Snapshot) -> String {
    let mut sheet = Sheet(String::with_capacity(8192));
    process(&mut sheet, snapshot);
    requests(&mut sheet, snapshot);
    servers(&mut sheet, &snapshot.servers);
    sheet.0
}

fn process(sheet: &mut Sheet, snapshot: &Snapshot) {
    sheet.family("pilb_build_info", "gauge", "What runs here.");
    sheet.line("pilb_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    sheet.single("pilb_workers", "gauge", "Threads that serve clients.", snapshot.workers);
    sheet.single("pilb_draining", "gauge", "1 if the process has been told to end.", u8::from(snapshot.draining));
    let totals = &snapshot.totals;
    let open = totals.opened.saturating_sub(totals.closed);
    sheet.single("pilb_client_connections", "gauge", "Clients connected now.", open);
    sheet.single("pilb_client_connections_opened_total", "counter", "Clients that have connected.", totals.opened);
}

fn requests(sheet: &mut Sheet, snapshot: &Snapshot) {
    let totals = &snapshot.totals;
    sheet.family("pilb_requests_total", "counter", "Requests that are over, by the class of the status sent.");
    for (class, name) in CLASSES.iter().enumerate() {
        sheet.line("pilb_requests_total", &[("status", name)], totals.of_class(class));
    }
    sheet.family("pilb_request_ends_total", "counter", "Requests that are over, by how and by whose doing.");
    for reason in CloseReason::ALL {
        let guilty = match reason.guilty() {
            Guilty::Nobody => "nobody",
            Guilty::Client => "client",
            Guilty::Upstream => "upstream",
            Guilty::Proxy => "proxy",
        };
        let labels = [("end", reason.word()), ("guilty", guilty)];
        sheet.line("pilb_request_ends_total", &labels, totals.of_end(*reason));
    }
    times(sheet, totals);
    let up = "Bytes of requests that came from clients, heads included.";
    sheet.single("pilb_request_bytes_total", "counter", up, totals.bytes_up);
    let down = "Bytes of answers that went to clients, heads included.";
    sheet.single("pilb_response_bytes_total", "counter", down, totals.bytes_down);
    sheet.single("pilb_retries_total", "counter", "Requests that were tried once more.", totals.retries);
    sheet.single("pilb_requests_waiting", "gauge", "Requests that wait until a server has room.", totals.waiting);
}

fn times(sheet: &mut Sheet, totals: &Totals) {
    let help = "From the first byte of a request to the last one of its answer. A tunnel counts with all its time.";
    sheet.family("pilb_request_duration_seconds", "histogram", help);
    let seconds = |micros: Micros| micros as f64 / SECOND as f64;
    let (name, all) = ("pilb_request_duration_seconds_bucket", totals.exchanges());
    for (longest, count) in totals.within() {
        sheet.line(name, &[("le", &seconds(longest).to_string())], count);
    }
    sheet.line(name, &[("le", "+Inf")], all);
    sheet.line("pilb_request_duration_seconds_sum", &[], seconds(totals.time));
    sheet.line("pilb_request_duration_seconds_count", &[], all);
}

fn servers(sheet: &mut Sheet, servers: &[ServerView]) {
    type Number = fn(&ServerView) -> u64;
    let families: [(&str, &str, &str, Number); 8] = [
        ("pilb_server_requests_total", "counter", "Requests that it was given and that are over.", |server| {
            server.totals.requests
        }),
        ("pilb_server_failures_total", "counter", "Requests that it failed.", |server| server.totals.failures),
        ("pilb_server_ejections_total", "counter", "How often it was left out for failing.", |server| {
            server.totals.ejections
        }),
        ("pilb_server_requests_in_flight", "gauge", "Requests that it owes an answer to.", |server| {
            server.totals.in_flight
        }),
        ("pilb_server_up", "gauge", "1 if it may get requests.", |server| server.is_up().into()),
        ("pilb_server_drained", "gauge", "1 if it was taken out of service.", |server| {
            (server.state == crate::admin::State::Drained).into()
        }),
        ("pilb_server_share_percent", "gauge", "How much of its weight it has.", |server| server.share.into()),
        ("pilb_server_weight", "gauge", "How many requests it is to get beside the others.", |server| {
            server.weight.into()
        }),
    ];
    for (name, kind, help, number) in families {
        sheet.family(name, kind, help);
        for server in servers {
            sheet.line(name, &[("server", &server.name)], number(server));
        }
    }
}

/// What was written so far. Writing to a String cannot fail.
struct Sheet(String);

impl Sheet {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn line(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (at, (label, text)) in labels.iter().enumerate() {
            self.0.push(if at == 0 { '{' } else { ',' });
            let _ = write!(self.0, "{label}=\"");
            for c in text.chars() {
                match c {
                    '\n' => self.0.push_str("\\n"),
                    '"' | '\\' => self.0.extend(['\\', c]),
                    c => self.0.push(c),
                }
            }
            self.0.push('"');
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }

    /// A family of one line.
    fn single(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.line(name, &[], value);
    }
}
