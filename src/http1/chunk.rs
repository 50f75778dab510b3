//! Chunk lines (RFC 9112 §7.1): read strictly, written canonically.

use crate::http1::Fault;
use crate::http1::field::is_token;

/// Longest chunk line with its extensions and line end.
pub const MAX_LINE: usize = 4096;

/// A chunk line in its canonical form: lower-case hex without leading zeros, CRLF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    bytes: [u8; 18],
    len: u8,
}

impl Line {
    /// The line that announces `size` bytes.
    pub fn of(size: u64) -> Line {
        let digits = (16 - size.leading_zeros() as usize / 4).max(1);
        let mut bytes = [0; 18];
        for (i, slot) in bytes[..digits].iter_mut().enumerate() {
            let nibble = (size >> (4 * (digits - 1 - i))) & 15;
            *slot = b"0123456789abcdef"[nibble as usize];
        }
        bytes[digits..digits + 2].copy_from_slice(b"\r\n");
        Line { bytes, len: digits as u8 + 2 }
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// The size that a whole chunk line, given without its CRLF, announces.
pub fn parse_line(line: &[u8]) -> Result<u64, Fault> {
    let digits = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
    // 16 digits are all that fit u64; more zeros would be legal and are never sent by honest peers.
    if digits == 0 || digits > 16 {
        return Err(Fault::BadChunkSize);
    }
    let hex = |byte: &u8| u64::from((*byte as char).to_digit(16).unwrap_or(0));
    let size = line[..digits].iter().fold(0, |sum, byte| sum << 4 | hex(byte));
    match &line[digits..] {
        [] => {}
        [b';', ..] => extensions(&line[digits..])?,
        _ => return Err(Fault::BadChunkSize),
    }
    Ok(size)
}

/// `*( ";" chunk-ext-name [ "=" chunk-ext-val ] )`. The grammar's optional "bad whitespace" is not let through.
fn extensions(mut rest: &[u8]) -> Result<(), Fault> {
    const BAD: Fault = Fault::BadChunkExtension;
    let token = |bytes: &[u8]| bytes.iter().position(|byte| !is_token(&[*byte])).unwrap_or(bytes.len());
    while let [b';', after @ ..] = rest {
        let name = token(after);
        if name == 0 {
            return Err(BAD);
        }
        rest = &after[name..];
        if let [b'=', value @ ..] = rest {
            let len = if value.first() == Some(&b'"') { quoted_string(value).ok_or(BAD)? } else { token(value) };
            if len == 0 {
                return Err(BAD);
            }
            rest = &value[len..];
        }
    }
    if rest.is_empty() { Ok(()) } else { Err(BAD) }
}

/// The length of the quoted-string that `bytes` begins with (RFC 9110 §5.6.4), control bytes refused even when escaped.
fn quoted_string(bytes: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' if bytes.get(at + 1).is_some_and(|byte| is_text(*byte)) => at += 2,
            b'\\' => return None,
            byte if is_text(*byte) => at += 1,
            _ => return None,
        }
    }
}

fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_lines() {
        for (size, text) in [(0, "0\r\n"), (15, "f\r\n"), (16, "10\r\n"), (u64::MAX, "ffffffffffffffff\r\n")] {
            assert_eq!(Line::of(size).as_bytes(), text.as_bytes());
        }
    }

    #[test]
    fn sizes_and_extensions() {
        for (line, size) in
            [("5", 5), ("00F", 15), ("a;x", 10), ("1;x=y;z=\"a;\\\" b\"", 1), ("ffffffffffffffff", u64::MAX)]
        {
            assert_eq!(parse_line(line.as_bytes()), Ok(size), "{line}");
        }
        for bad in ["", " 5", "5 ", "0x5", "+5", "-1", "5,", "g", "11111111111111111", "5\r", "5\t;x"] {
            assert_eq!(parse_line(bad.as_bytes()), Err(Fault::BadChunkSize), "{bad:?}");
        }
        for bad in [
            "5;",
            "5;=x",
            "5;a=",
            "5;a=\"x",
            "5;a=\"x\\\"",
            "5; a",
            "5;a b",
            "5;a=\"\x01\"",
            "5;a\r",
            "5;a=\"x\"y",
            "5;\n",
        ] {
            assert_eq!(parse_line(bad.as_bytes()), Err(Fault::BadChunkExtension), "{bad:?}");
        }
    }
}
