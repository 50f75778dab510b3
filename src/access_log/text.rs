//! The small pieces of a log line: escaped bytes, numbers, addresses and moments. Nothing here allocates per record.

use crate::base::date::http_date;
use crate::base::{Micros, Peer, peer::write_ip, time::SECOND};
use std::fmt::Write as _;

/// Which bytes stand for themselves; every other one is written as `\xHH`.
type Plain = [bool; 256];

/// For text in double quotes: printable ASCII but the quote and the backslash.
const QUOTED: Plain = plain(b' ');
/// For a bare column: the same without the space, so that no value can add a column.
const COLUMN: Plain = plain(b'!');

const fn plain(first: u8) -> Plain {
    let mut table = [false; 256];
    let mut byte = first;
    while byte <= b'~' {
        table[byte as usize] = byte != b'"' && byte != b'\\';
        byte += 1;
    }
    table
}

/// Appends hostile bytes as text that fits between double quotes.
pub fn quoted(out: &mut Vec<u8>, bytes: &[u8]) {
    escape(out, bytes, &QUOTED, b"\\x");
}

/// Appends hostile bytes as one word.
pub fn column(out: &mut Vec<u8>, bytes: &[u8]) {
    escape(out, bytes, &COLUMN, b"\\x");
}

/// Appends hostile bytes as the inside of a JSON string whose value is what [`quoted`] would have written.
pub fn json(out: &mut Vec<u8>, bytes: &[u8]) {
    escape(out, bytes, &QUOTED, b"\\\\x");
}

fn escape(out: &mut Vec<u8>, mut bytes: &[u8], plain: &Plain, prefix: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    loop {
        let run = bytes.iter().position(|byte| !plain[usize::from(*byte)]).unwrap_or(bytes.len());
        out.extend_from_slice(&bytes[..run]);
        let Some(byte) = bytes.get(run) else { return };
        out.extend_from_slice(prefix);
        out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        bytes = &bytes[run + 1..];
    }
}

/// Appends a decimal number.
pub fn number(out: &mut Vec<u8>, value: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends the client's address without its port; `unix:` for a client without an address, as nginx does.
pub fn client(out: &mut Vec<u8>, peer: &Peer) {
    match peer.ip() {
        Some(ip) => write_ip(out, ip),
        None => out.extend_from_slice(b"unix:"),
    }
}

/// The current second as text, rendered again only when the second changes.
#[derive(Debug)]
pub struct Clock {
    second: u64,
    /// `2026-11-23T20:41:00`
    iso: String,
    /// `23/Nov/2026:20:41:00 +0000`
    common: String,
    /// `Mon, 23 Nov 2026 20:41:00 GMT`, of which the two above are made.
    http: String,
}

impl Clock {
    pub fn new() -> Self {
        let mut clock = Clock { second: 0, iso: String::new(), common: String::new(), http: String::new() };
        clock.render();
        clock
    }

    /// Appends UTC time with milliseconds: `2026-11-23T20:41:00.123Z`.
    pub fn iso(&mut self, out: &mut Vec<u8>, unix: Micros) {
        self.turn_to(unix);
        let millis = (unix % SECOND / 1000) as u16;
        out.extend_from_slice(self.iso.as_bytes());
        out.push(b'.');
        for place in [100, 10, 1] {
            out.push(b'0' + (millis / place % 10) as u8);
        }
        out.push(b'Z');
    }

    /// Appends the time of the common log format: `23/Nov/2026:20:41:00 +0000`.
    pub fn common(&mut self, out: &mut Vec<u8>, unix: Micros) {
        self.turn_to(unix);
        out.extend_from_slice(self.common.as_bytes());
    }

    fn turn_to(&mut self, unix: Micros) {
        if unix / SECOND != self.second {
            self.second = unix / SECOND;
            self.render();
        }
    }

    fn render(&mut self) {
        const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
        self.http.clear();
        self.iso.clear();
        self.common.clear();
        // Writing to a String cannot fail.
        let _ = write!(self.http, "{}", http_date(self.second));
        let (day, name, year, time) = (&self.http[5..7], &self.http[8..11], &self.http[12..16], &self.http[17..25]);
        let month = MONTHS.find(name).unwrap_or_default() / 3 + 1;
        let _ = write!(self.iso, "{year}-{month:02}-{day}T{time}");
        let _ = write!(self.common, "{day}/{name}/{year}:{time} +0000");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(render: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        render(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn bytes_that_could_forge_a_line_are_escaped() {
        assert_eq!(made(|out| quoted(out, b"GET /a?b=c~ HTTP/1.1")), "GET /a?b=c~ HTTP/1.1");
        assert_eq!(
            made(|out| quoted(out, b"a\r\n\"b\\\0\x7f\xc3\xbc\x1b[")),
            r"a\x0D\x0A\x22b\x5C\x00\x7F\xC3\xBC\x1B["
        );
        assert_eq!(made(|out| column(out, b"a b\t")), r"a\x20b\x09");
        assert_eq!(made(|out| json(out, b"a b\"\xff")), r"a b\\x22\\xFF");
        assert_eq!(made(|out| quoted(out, b"")), "");
    }

    #[test]
    fn every_byte_comes_out_printable_and_can_be_read_back() {
        let all: Vec<u8> = (0..=255).collect();
        for escape in [quoted, column] {
            let text = made(|out| escape(out, &all));
            assert!(text.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'"'), "{text}");
            assert_eq!(unescape(&text), all);
        }
        let inside = made(|out| json(out, &all));
        let value: String = serde_json::from_str(&format!("\"{inside}\"")).unwrap();
        assert_eq!(value, made(|out| quoted(out, &all)));
    }

    fn unescape(text: &str) -> Vec<u8> {
        let mut pieces = text.split('\\');
        let mut bytes = pieces.next().unwrap().as_bytes().to_vec();
        for piece in pieces {
            bytes.push(u8::from_str_radix(piece.get(1..3).unwrap(), 16).unwrap());
            bytes.extend_from_slice(&piece.as_bytes()[3..]);
        }
        bytes
    }

    #[test]
    fn addresses_have_no_port() {
        let of = |text: &str| made(|out| client(out, &Peer::Ip(text.parse().unwrap())));
        assert_eq!(of("192.0.2.107:5000"), "192.0.2.107");
        assert_eq!(of("[2001:db8::1]:5000"), "2001:db8::1");
        assert_eq!(of("[::ffff:0.0.0.7]:1"), "0.0.0.7");
        assert_eq!(made(|out| client(out, &Peer::Unix)), "unix:");
    }

    #[test]
    fn the_clock_follows_the_second_in_both_directions() {
        let mut clock = Clock::new();
        let mut iso = |unix| made(|out| clock.iso(out, unix));
        assert_eq!(iso(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(iso(1_795_466_460_123_999), "2026-11-23T20:41:00.123Z");
        assert_eq!(iso(1_795_466_461_000_000), "2026-11-23T20:41:01.000Z");
        assert_eq!(iso(1_795_466_460_009_000), "2026-11-23T20:41:00.009Z");
        assert_eq!(iso(951_782_400_000_000), "2000-02-29T00:00:00.000Z");
        assert!(iso(u64::MAX).starts_with("9999-12-31T23:59:59."));
        assert_eq!(made(|out| clock.common(out, 1_795_466_460_123_999)), "23/Nov/2026:20:41:00 +0000");
    }

    #[test]
    fn every_month_has_its_number() {
        let mut clock = Clock::new();
        for month in 1..=12u64 {
            // Somewhere in the middle of that month of 1970.
            let unix = ((month - 1) * 30 + 15) * 24 * 3600 * SECOND;
            assert_eq!(made(|out| clock.iso(out, unix))[5..7], format!("{month:02}"));
        }
    }
}
