//! From a record to a line: the formats `pilb`, `combined` and `json`. The module's doc shows one line of each.

use crate::access_log::gap::Gap;
use crate::access_log::text::{self, Clock};
use crate::base::Micros;
use crate::engine::record::{AccessRecord, Part};

/// How a line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Named columns, one space between them, the request last.
    #[default]
    Pilb,
    /// The combined format of Apache and nginx.
    Combined,
    /// One JSON object per line.
    Json,
}

/// Renders lines. Owns what can be prepared once: the servers' names as escaped text, the current second as text.
#[derive(Debug)]
pub struct Formatter {
    format: Format,
    servers: Vec<Vec<u8>>,
    clock: Clock,
}

impl Formatter {
    /// `servers` are the names behind the records' server numbers, in their order.
    pub fn new(format: Format, servers: &[String]) -> Self {
        let escape = if format == Format::Json { text::json } else { text::column };
        let escaped = |name: &String| {
            let mut out = Vec::new();
            escape(&mut out, name.as_bytes());
            out
        };
        Formatter { format, servers: servers.iter().map(escaped).collect(), clock: Clock::new() }
    }

    /// Appends the record's line with its line end.
    pub fn render(&mut self, record: &AccessRecord, out: &mut Vec<u8>) {
        match self.format {
            Format::Pilb => self.pilb(record, out),
            Format::Combined => self.combined(record, out),
            Format::Json => self.json(record, out),
        }
        out.push(b'\n');
    }

    /// Appends the line that tells at `now` (Unix time) what was lost.
    pub fn render_gap(&mut self, gap: &Gap, now: Micros, out: &mut Vec<u8>) {
        gap.render(self.format, &mut self.clock, now, out);
        out.push(b'\n');
    }

    fn pilb(&mut self, record: &AccessRecord, out: &mut Vec<u8>) {
        self.clock.iso(out, record.unix);
        out.push(b' ');
        text::client(out, &record.client);
        out.push(b' ');
        number_or_dash(out, record.status.into());
        out.push(b' ');
        out.extend_from_slice(record.end.word().as_bytes());
        if !record.detail.is_empty() {
            out.push(b'(');
            text::column(out, record.detail.as_bytes());
            out.push(b')');
        }
        out.extend_from_slice(b" host=");
        part_or_dash(out, record, Part::Host, text::column);
        out.extend_from_slice(b" upstream=");
        self.server_or(record, b"-", out);
        counted(out, b" attempts=", record.attempts.into(), b"");
        counted(out, b" up=", record.bytes_up, b"B");
        counted(out, b" down=", record.bytes_down, b"B");
        counted(out, b" wait_head=", record.wait_head, b"us");
        counted(out, b" connect=", record.connect, b"us");
        counted(out, b" first_byte=", record.first_byte, b"us");
        counted(out, b" total=", record.total, b"us");
        out.extend_from_slice(match (record.client_reused, record.upstream_reused) {
            (false, false) => b" reused=none ".as_slice(),
            (true, false) => b" reused=client ",
            (false, true) => b" reused=upstream ",
            (true, true) => b" reused=both ",
        });
        if record.part(Part::Line).is_empty() && !record.is_cut(Part::Line) {
            out.push(b'-');
        } else {
            in_quotes(out, record, Part::Line);
        }
    }

    fn combined(&mut self, record: &AccessRecord, out: &mut Vec<u8>) {
        text::client(out, &record.client);
        out.extend_from_slice(b" - - [");
        self.clock.common(out, record.unix);
        out.extend_from_slice(b"] ");
        in_quotes(out, record, Part::Line);
        out.push(b' ');
        number_or_dash(out, record.status.into());
        out.push(b' ');
        number_or_dash(out, record.bytes_down.saturating_sub(record.head_down.into()));
        out.push(b' ');
        in_quotes(out, record, Part::Referer);
        out.push(b' ');
        in_quotes(out, record, Part::UserAgent);
    }

    fn json(&mut self, record: &AccessRecord, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"time\":\"");
        self.clock.iso(out, record.unix);
        out.extend_from_slice(b"\",\"client\":\"");
        text::client(out, &record.client);
        out.extend_from_slice(b"\",\"status\":");
        match record.status {
            0 => out.extend_from_slice(b"null"),
            status => text::number(out, status),
        }
        out.extend_from_slice(b",\"end\":\"");
        out.extend_from_slice(record.end.word().as_bytes());
        out.extend_from_slice(b"\",\"detail\":");
        string_or_null(out, record.detail.as_bytes(), false);
        for (key, part) in [
            (b",\"request\":".as_slice(), Part::Line),
            (b",\"host\":", Part::Host),
            (b",\"referer\":", Part::Referer),
            (b",\"agent\":", Part::UserAgent),
        ] {
            out.extend_from_slice(key);
            string_or_null(out, record.part(part), record.is_cut(part));
        }
        out.extend_from_slice(b",\"upstream\":");
        if record.server.is_some() {
            out.push(b'"');
            self.server_or(record, b"", out);
            out.push(b'"');
        } else {
            out.extend_from_slice(b"null");
        }
        counted(out, b",\"attempts\":", record.attempts.into(), b"");
        counted(out, b",\"bytes_up\":", record.bytes_up, b"");
        counted(out, b",\"bytes_down\":", record.bytes_down, b"");
        counted(out, b",\"bytes_down_head\":", record.head_down.into(), b"");
        counted(out, b",\"wait_head_us\":", record.wait_head, b"");
        counted(out, b",\"connect_us\":", record.connect, b"");
        counted(out, b",\"first_byte_us\":", record.first_byte, b"");
        counted(out, b",\"total_us\":", record.total, b"");
        boolean(out, b",\"client_reused\":", record.client_reused);
        boolean(out, b",\"upstream_reused\":", record.upstream_reused);
        out.push(b'}');
    }

    /// The server's name; its number if it has no name; `none` if no server was chosen.
    fn server_or(&self, record: &AccessRecord, none: &[u8], out: &mut Vec<u8>) {
        match record.server {
            None => out.extend_from_slice(none),
            Some(id) => match self.servers.get(usize::from(id)) {
                Some(name) => out.extend_from_slice(name),
                None => counted(out, b"#", id.into(), b""),
            },
        }
    }
}

/// What follows a part that was too long to be kept whole.
const CUT: &[u8] = b"...";

fn part_or_dash(out: &mut Vec<u8>, record: &AccessRecord, part: Part, escape: fn(&mut Vec<u8>, &[u8])) {
    let (bytes, cut) = (record.part(part), record.is_cut(part));
    escape(out, bytes);
    if cut {
        out.extend_from_slice(CUT);
    } else if bytes.is_empty() {
        out.push(b'-');
    }
}

fn in_quotes(out: &mut Vec<u8>, record: &AccessRecord, part: Part) {
    out.push(b'"');
    part_or_dash(out, record, part, text::quoted);
    out.push(b'"');
}

fn string_or_null(out: &mut Vec<u8>, bytes: &[u8], cut: bool) {
    if bytes.is_empty() && !cut {
        out.extend_from_slice(b"null");
        return;
    }
    out.push(b'"');
    text::json(out, bytes);
    if cut {
        out.extend_from_slice(CUT);
    }
    out.push(b'"');
}

fn number_or_dash(out: &mut Vec<u8>, value: u64) {
    match value {
        0 => out.push(b'-'),
        value => text::number(out, value),
    }
}

fn counted(out: &mut Vec<u8>, name: &[u8], value: u64, unit: &[u8]) {
    out.extend_from_slice(name);
    text::number(out, value);
    out.extend_from_slice(unit);
}

fn boolean(out: &mut Vec<u8>, name: &[u8], value: bool) {
    out.extend_from_slice(name);
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Peer;
    use crate::engine::CloseReason;
    use serde_json::{Value, json};

    const AT: Micros = 1_795_466_460_123_456;

    fn served() -> AccessRecord {
        let mut record = AccessRecord::new(AT, Peer::Ip("192.0.2.7:5000".parse().unwrap()));
        (record.status, record.bytes_up, record.bytes_down, record.head_down) = (200, 312, 5120, 120);
        (record.server, record.attempts) = (Some(1), 2);
        (record.wait_head, record.connect, record.first_byte, record.total) = (12, 340, 1840, 2210);
        (record.client_reused, record.upstream_reused) = (true, false);
        record.set(Part::Line, b"GET /index.html HTTP/1.1");
        record.set(Part::Host, b"example.org");
        record.set(Part::Referer, b"http://example.org/?q=\"x\"");
        record.set(Part::UserAgent, b"curl/8.5");
        record
    }

    /// Nothing of a request had come when the time for its head was over.
    fn silent() -> AccessRecord {
        let mut record = AccessRecord::new(AT, Peer::Unix);
        record.end = CloseReason::ClientClosed;
        record
    }

    fn refused() -> AccessRecord {
        let mut record = AccessRecord::new(AT, Peer::Ip("[2001:db8::1]:5000".parse().unwrap()));
        (record.status, record.bytes_down, record.head_down) = (400, 150, 150);
        (record.end, record.detail) = (CloseReason::BadRequest, "bare-lf");
        record.set(Part::Line, b"GET / HTTP/1.1\" 200\n1.2.3.4 - -");
        record.set(Part::Host, b"a b=c\\");
        record
    }

    fn cut() -> AccessRecord {
        let mut record = AccessRecord::new(AT, Peer::Unix);
        record.set(Part::Line, &[b'a'; 1000]);
        record.set(Part::Host, &[b'h'; 100]);
        record.set(Part::UserAgent, &[b'\xff'; 500]);
        record
    }

    fn line(format: Format, record: &AccessRecord) -> String {
        let mut formatter = Formatter::new(format, &["web-0".into(), "10.0.0.3:8080".into()]);
        let mut out = b"before\n".to_vec();
        formatter.render(record, &mut out);
        let text = String::from_utf8(out).unwrap();
        let line = text.strip_prefix("before\n").unwrap().strip_suffix('\n').unwrap();
        assert!(line.bytes().all(|b| (b' '..=b'~').contains(&b)), "{line}");
        line.to_owned()
    }

    #[test]
    fn pilb_lines_have_named_columns_and_the_request_last() {
        assert_eq!(
            line(Format::Pilb, &served()),
            "2026-11-23T20:41:00.123Z 192.0.2.7 200 done host=example.org upstream=10.0.0.3:8080 attempts=2 up=312B \
             down=5120B wait_head=12us connect=340us first_byte=1840us total=2210us reused=client \
             \"GET /index.html HTTP/1.1\""
        );
        assert_eq!(
            line(Format::Pilb, &silent()),
            "2026-11-23T20:41:00.123Z unix: - client-closed host=- upstream=- attempts=0 up=0B down=0B wait_head=0us \
             connect=0us first_byte=0us total=0us reused=none -"
        );
        assert_eq!(
            line(Format::Pilb, &refused()),
            "2026-11-23T20:41:00.123Z 2001:db8::1 400 bad-request(bare-lf) host=a\\x20b=c\\x5C upstream=- attempts=0 \
             up=0B down=150B wait_head=0us connect=0us first_byte=0us total=0us reused=none \
             \"GET / HTTP/1.1\\x22 200\\x0A1.2.3.4 - -\""
        );
        for record in [served(), silent(), refused(), cut()] {
            let line = line(Format::Pilb, &record);
            let columns: Vec<_> = line.splitn(15, ' ').collect();
            assert!(columns[4..14].iter().all(|column| column.contains('=')), "{columns:?}");
            assert!(columns[14] == "-" || columns[14].starts_with('"') && columns[14].ends_with('"'), "{columns:?}");
        }
    }

    #[test]
    fn all_four_ways_of_reuse_have_a_word() {
        for (client, upstream, word) in
            [(false, false, "none"), (true, false, "client"), (false, true, "upstream"), (true, true, "both")]
        {
            let mut record = served();
            (record.client_reused, record.upstream_reused) = (client, upstream);
            assert!(line(Format::Pilb, &record).contains(&format!(" reused={word} \"")));
        }
    }

    #[test]
    fn combined_is_what_apache_writes() {
        assert_eq!(
            line(Format::Combined, &served()),
            "192.0.2.7 - - [23/Nov/2026:20:41:00 +0000] \"GET /index.html HTTP/1.1\" 200 5000 \
             \"http://example.org/?q=\\x22x\\x22\" \"curl/8.5\""
        );
        assert_eq!(line(Format::Combined, &silent()), "unix: - - [23/Nov/2026:20:41:00 +0000] \"-\" - - \"-\" \"-\"");
        assert_eq!(
            line(Format::Combined, &refused()),
            "2001:db8::1 - - [23/Nov/2026:20:41:00 +0000] \"GET / HTTP/1.1\\x22 200\\x0A1.2.3.4 - -\" 400 - \"-\" \"-\""
        );
    }

    #[test]
    fn json_lines_are_objects_with_stable_keys() {
        let expected = json!({
            "time": "2026-11-23T20:41:00.123Z", "client": "192.0.2.7", "status": 200, "end": "done", "detail": null,
            "request": "GET /index.html HTTP/1.1", "host": "example.org", "agent": "curl/8.5",
            "referer": r"http://example.org/?q=\x22x\x22", "upstream": "10.0.0.3:8080", "attempts": 2,
            "bytes_up": 312, "bytes_down": 5120, "bytes_down_head": 120, "wait_head_us": 12, "connect_us": 340,
            "first_byte_us": 1840, "total_us": 2210, "client_reused": true, "upstream_reused": false,
        });
        assert_eq!(serde_json::from_str::<Value>(&line(Format::Json, &served())).unwrap(), expected);
        for record in [silent(), refused(), cut()] {
            let value: Value = serde_json::from_str(&line(Format::Json, &record)).unwrap();
            let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
            assert_eq!(keys(&value), keys(&expected));
        }
        let value: Value = serde_json::from_str(&line(Format::Json, &silent())).unwrap();
        assert_eq!(
            (&value["status"], &value["request"], &value["upstream"]),
            (&Value::Null, &Value::Null, &Value::Null)
        );
        let value: Value = serde_json::from_str(&line(Format::Json, &refused())).unwrap();
        assert_eq!((value["end"].as_str(), value["detail"].as_str()), (Some("bad-request"), Some("bare-lf")));
    }

    #[test]
    fn cut_parts_are_marked_in_every_format() {
        let (pilb, combined, json) =
            (line(Format::Pilb, &cut()), line(Format::Combined, &cut()), line(Format::Json, &cut()));
        assert!(pilb.ends_with("aaa...\"") && pilb.contains("hhh... upstream"), "{pilb}");
        assert!(combined.contains("aaa...\" - -") && combined.ends_with("\\xFF...\""), "{combined}");
        let value: Value = serde_json::from_str(&json).unwrap();
        assert!(value["request"].as_str().unwrap().ends_with("aaa..."), "{json}");
        assert!(value["agent"].as_str().unwrap().ends_with("\\xFF..."), "{json}");
        assert_eq!(value["referer"], Value::Null);
    }

    #[test]
    fn a_server_without_a_name_shows_its_number_and_names_cannot_forge_columns() {
        let mut record = served();
        record.server = Some(7);
        assert!(line(Format::Pilb, &record).contains(" upstream=#7 "));
        assert!(line(Format::Json, &record).contains("\"upstream\":\"#7\""));
        let mut out = Vec::new();
        record.server = Some(0);
        Formatter::new(Format::Pilb, &["a b\n".into()]).render(&record, &mut out);
        assert!(String::from_utf8(out).unwrap().contains(r" upstream=a\x20b\x0A "));
    }
}
