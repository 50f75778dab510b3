//! What was lost, and the line that says so once lines can be written again.

use crate::access_log::format::Format;
use crate::access_log::text::{self, Clock};
use crate::base::Micros;

/// Lines that are missing in the log, and the period they are from (Unix time).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gap {
    /// Records that found their worker's ring full.
    pub ring_full: u64,
    /// Records that came while the target took nothing and the buffer was full.
    pub write_failed: u64,
    /// Not before this moment.
    pub from: Micros,
    /// Not after this moment.
    pub to: Micros,
    /// What the target said, or empty.
    pub why: String,
}

impl Gap {
    /// All lines that are missing.
    pub fn lost(&self) -> u64 {
        self.ring_full + self.write_failed
    }

    /// Counts records that were dropped before a full ring, between two moments.
    pub fn add_ring_full(&mut self, lost: u64, from: Micros, to: Micros) {
        self.widen(from, to);
        self.ring_full += lost;
    }

    /// Counts a record of the moment `at` that could not be kept until the target works again.
    pub fn add_write_failed(&mut self, at: Micros, why: &str) {
        self.widen(at, at);
        self.write_failed += 1;
        if self.why != why {
            self.why.clear();
            self.why.push_str(why);
        }
    }

    fn widen(&mut self, from: Micros, to: Micros) {
        if self.lost() == 0 {
            (self.from, self.to) = (from, to);
        }
        self.from = self.from.min(from);
        self.to = self.to.max(to);
    }

    /// Appends the line without its end.
    ///
    /// In `combined` it is a line of valid syntax with `-` for the client and the request, so that log analysers can split it
    /// and, as it names no client, do not take it for a visit.
    pub(super) fn render(&self, format: Format, clock: &mut Clock, now: Micros, out: &mut Vec<u8>) {
        match format {
            Format::Pilb => {
                out.extend_from_slice(b"# ");
                clock.iso(out, now);
                out.extend_from_slice(b" gap: ");
                self.sentence(clock, out);
            }
            Format::Combined => {
                out.extend_from_slice(b"- - - [");
                clock.common(out, now);
                out.extend_from_slice(b"] \"-\" - - \"-\" \"pilb gap: ");
                self.sentence(clock, out);
                out.push(b'"');
            }
            Format::Json => self.json(clock, now, out),
        }
    }

    /// `12 lines lost between … and …: ring-full 5, write-failed 7: No space left on device`
    fn sentence(&self, clock: &mut Clock, out: &mut Vec<u8>) {
        text::number(out, self.lost());
        out.extend_from_slice(if self.lost() == 1 { b" line" } else { b" lines" });
        out.extend_from_slice(b" lost between ");
        clock.iso(out, self.from);
        out.extend_from_slice(b" and ");
        clock.iso(out, self.to);
        out.extend_from_slice(b": ring-full ");
        text::number(out, self.ring_full);
        out.extend_from_slice(b", write-failed ");
        text::number(out, self.write_failed);
        if !self.why.is_empty() {
            out.extend_from_slice(b": ");
            text::quoted(out, self.why.as_bytes());
        }
    }

    fn json(&self, clock: &mut Clock, now: Micros, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"time\":\"");
        clock.iso(out, now);
        out.extend_from_slice(b"\",\"gap\":{\"lost\":");
        text::number(out, self.lost());
        out.extend_from_slice(b",\"from\":\"");
        clock.iso(out, self.from);
        out.extend_from_slice(b"\",\"to\":\"");
        clock.iso(out, self.to);
        out.extend_from_slice(b"\",\"ring_full\":");
        text::number(out, self.ring_full);
        out.extend_from_slice(b",\"write_failed\":");
        text::number(out, self.write_failed);
        out.extend_from_slice(b",\"why\":");
        if self.why.is_empty() {
            out.extend_from_slice(b"null");
        } else {
            out.push(b'"');
            text::json(out, self.why.as_bytes());
            out.push(b'"');
        }
        out.extend_from_slice(b"}}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::SECOND;
    use serde_json::{Value, json};

    const AT: Micros = 1_795_466_460_000_000;

    fn gap() -> Gap {
        let mut gap = Gap::default();
        gap.add_ring_full(5, AT + SECOND, AT + 2 * SECOND);
        gap.add_write_failed(AT + 3 * SECOND, "Broken pipe");
        gap.add_write_failed(AT, "No space left on \"device\"");
        gap
    }

    fn line(gap: &Gap, format: Format) -> String {
        let mut out = Vec::new();
        gap.render(format, &mut Clock::new(), AT + 9 * SECOND, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn it_says_how_many_when_and_why() {
        assert_eq!(
            line(&gap(), Format::Pilb),
            "# 2026-11-23T20:41:09.000Z gap: 7 lines lost between 2026-11-23T20:41:00.000Z and 2026-11-23T20:41:03.000Z: \
             ring-full 5, write-failed 2: No space left on \\x22device\\x22"
        );
        let mut one = Gap::default();
        one.add_ring_full(1, AT, AT);
        assert!(line(&one, Format::Pilb).contains("gap: 1 line lost"));
        assert!(line(&one, Format::Pilb).ends_with("ring-full 1, write-failed 0"));
        assert!(line(&one, Format::Json).contains("\"why\":null"));
    }

    #[test]
    fn parsers_of_combined_and_json_can_read_it() {
        let combined = line(&gap(), Format::Combined);
        let quoted: Vec<_> = combined.split('"').collect();
        assert_eq!(quoted[..5], ["- - - [23/Nov/2026:20:41:09 +0000] ", "-", " - - ", "-", " "]);
        assert!(quoted[5].starts_with("pilb gap: 7 lines lost between ") && quoted[6].is_empty() && quoted.len() == 7);
        assert_eq!(
            serde_json::from_str::<Value>(&line(&gap(), Format::Json)).unwrap(),
            json!({"time": "2026-11-23T20:41:09.000Z", "gap": {
                "lost": 7, "from": "2026-11-23T20:41:00.000Z", "to": "2026-11-23T20:41:03.000Z",
                "ring_full": 5, "write_failed": 2, "why": "No space left on \\x22device\\x22",
            }})
        );
    }
}
