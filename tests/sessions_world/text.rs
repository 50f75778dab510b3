//! Byte strings and patterns as scripts write them.

/// A piece of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    Bytes(Vec<u8>),
    /// Anything without an empty line.
    WithinHead,
    /// Anything.
    Any,
}

/// Byte `at` of the endless noise: no period that a shifted or repeated block could hide in.
pub fn noise(at: u64) -> u8 {
    let mixed = at.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed ^ (mixed >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40) as u8
}

/// Reads a PATTERN.
pub fn pattern(text: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    read(text, true, &mut pieces)?;
    Ok(pieces)
}

/// Reads a TEXT.
pub fn bytes(text: &str) -> Result<Vec<u8>, String> {
    let mut pieces = Vec::new();
    read(text, false, &mut pieces)?;
    let mut out = Vec::new();
    for piece in pieces {
        if let Piece::Bytes(bytes) = piece {
            out.extend_from_slice(&bytes);
        }
    }
    Ok(out)
}

fn push(pieces: &mut Vec<Piece>, bytes: &[u8]) {
    match pieces.last_mut() {
        Some(Piece::Bytes(last)) => last.extend_from_slice(bytes),
        _ => pieces.push(Piece::Bytes(bytes.to_vec())),
    }
}

fn read(mut text: &str, wild: bool, pieces: &mut Vec<Piece>) -> Result<(), String> {
    while let Some(first) = text.chars().next() {
        if wild && text.starts_with("....") {
            pieces.push(Piece::Any);
            text = &text[4..];
        } else if wild && text.starts_with("...") {
            pieces.push(Piece::WithinHead);
            text = &text[3..];
        } else if first == '\\' {
            let (byte, len) = escape(text)?;
            push(pieces, &[byte]);
            text = &text[len..];
        } else if first == '{' {
            let end = text.find('}').ok_or("a { without }")?;
            braces(&text[1..end], wild, pieces)?;
            text = &text[end + 1..];
        } else {
            push(pieces, &text.as_bytes()[..first.len_utf8()]);
            text = &text[first.len_utf8()..];
        }
    }
    Ok(())
}

fn escape(text: &str) -> Result<(u8, usize), String> {
    Ok(match text.as_bytes().get(1) {
        Some(b'r') => (b'\r', 2),
        Some(b'n') => (b'\n', 2),
        Some(b't') => (b'\t', 2),
        Some(b'\\') => (b'\\', 2),
        Some(b'x') => {
            let byte = text.get(2..4).and_then(|hex| u8::from_str_radix(hex, 16).ok());
            (byte.ok_or("\\x needs two hex digits")?, 4)
        }
        _ => return Err(format!("unknown escape in {text:?}")),
    })
}

fn braces(inner: &str, wild: bool, pieces: &mut Vec<Piece>) -> Result<(), String> {
    if let Some(each) = inner.strip_prefix("each ") {
        let (range, body) = each.split_once('|').ok_or("{each 1..9|text}")?;
        let (from, to) = self::range(range)?;
        for i in from..=to {
            read(&body.replace("$i", &i.to_string()), wild, pieces)?;
        }
    } else if let Some(count) = inner.strip_suffix(" bytes") {
        let (from, to) = match count.split_once("..") {
            Some((from, to)) => (number(from)?, number(to)?),
            None => (0, number(count)?),
        };
        push(pieces, &(from..to).map(noise).collect::<Vec<_>>());
    } else {
        let (unit, count) = inner.rsplit_once('*').ok_or_else(|| format!("what is {{{inner}}}?"))?;
        let count = usize::try_from(number(count)?).map_err(|error| error.to_string())?;
        push(pieces, &bytes(unit)?.repeat(count));
    }
    Ok(())
}

/// `1..9`, both included.
pub fn range(text: &str) -> Result<(u64, u64), String> {
    let (from, to) = text.trim().split_once("..").ok_or_else(|| format!("not a range: {text}"))?;
    Ok((number(from)?, number(to)?))
}

pub fn number(text: &str) -> Result<u64, String> {
    text.trim().parse().map_err(|_| format!("not a number: {text:?}"))
}

/// Does the whole of `bytes` fit the pattern?
pub fn fits(pieces: &[Piece], bytes: &[u8]) -> bool {
    match pieces.split_first() {
        None => bytes.is_empty(),
        Some((Piece::Bytes(literal), rest)) => bytes.starts_with(literal) && fits(rest, &bytes[literal.len()..]),
        Some((wild, rest)) => {
            let limit = match wild {
                Piece::Any => bytes.len(),
                // The wildcard may take the first CR LF CR of an empty line, not the whole.
                _ => bytes.windows(4).position(|four| four == b"\r\n\r\n").map_or(bytes.len(), |at| at + 3),
            };
            (0..=limit).any(|n| fits(rest, &bytes[n..]))
        }
    }
}

/// Bytes as a script would write them; the middle of long ones is left out.
pub fn show(bytes: &[u8]) -> String {
    const START: usize = 230;
    const END: usize = 20;
    if bytes.len() <= START + END {
        return plain(bytes);
    }
    let (start, end) = (plain(&bytes[..START]), plain(&bytes[bytes.len() - END..]));
    format!("{start}  [{} bytes more]  {end}", bytes.len() - START - END)
}

fn plain(bytes: &[u8]) -> String {
    let mut out = String::new();
    for &byte in bytes {
        match byte {
            b'\r' => out.push_str("\\r"),
            b'\n' => out.push_str("\\n"),
            b' '..=b'~' => out.push(byte as char),
            byte => out.push_str(&format!("\\x{byte:02x}")),
        }
    }
    out
}

/// Pattern pieces as a script would write them.
pub fn show_pattern(pieces: &[Piece]) -> String {
    let one = |piece: &Piece| match piece {
        Piece::Bytes(bytes) => show(bytes),
        Piece::WithinHead => "...".to_owned(),
        Piece::Any => "....".to_owned(),
    };
    pieces.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(wanted: &str, bytes: &str) -> bool {
        fits(&pattern(wanted).unwrap(), bytes.as_bytes())
    }

    #[test]
    fn texts_expand() {
        assert_eq!(bytes(r"a\r\n\x00{ab*2}{each 1..3|$i,}").unwrap(), b"a\r\n\0abab1,2,3,");
        assert_eq!(bytes("{0..9 bytes}").unwrap()[3..], bytes("{3..9 bytes}").unwrap());
        assert!(bytes("{x").is_err() && bytes(r"\q").is_err());
    }

    #[test]
    fn a_wildcard_ends_at_an_empty_line() {
        assert!(matches(r"A...\r\n\r\nB", "A1\r\n2\r\n\r\nB"));
        assert!(!matches(r"A...\r\n\r\nB", "A1\r\n\r\nx\r\n\r\nB"));
        assert!(matches(r"A....B", "A1\r\n\r\nx\r\n\r\nB"));
        assert!(!matches("A", "AB") && matches("", "") && matches("...", ""));
    }
}
