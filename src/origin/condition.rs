//! Validators and conditional requests (RFC 9110 §8.8, §13).

use crate::base::date::http_date;
use crate::http1::Fields;
use crate::http1::field::trim;
use crate::origin::store::Meta;
use httpdate::HttpDate;

/// A strong entity tag with its quotes: `"inode-length-seconds.nanos"`, each in hex. Files that differ in any of them
/// differ.
#[derive(Clone, Copy, Debug)]
pub struct ETag {
    bytes: [u8; ETag::MOST],
    len: usize,
}

impl ETag {
    /// Three numbers of 64 bits, one of 32, three separators, two quotes.
    const MOST: usize = 3 * 16 + 8 + 3 + 2;

    pub fn of(meta: &Meta) -> ETag {
        let mut tag = ETag { bytes: [0; Self::MOST], len: 0 };
        tag.push(b'"');
        tag.hex(meta.inode);
        tag.push(b'-');
        tag.hex(meta.length);
        tag.push(b'-');
        tag.hex(meta.seconds as u64);
        tag.push(b'.');
        tag.hex(u64::from(meta.nanos));
        tag.push(b'"');
        tag
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn hex(&mut self, value: u64) {
        let digits = (16 - value.leading_zeros() / 4).max(1);
        for digit in (0..digits).rev() {
            self.push(b"0123456789abcdef"[(value >> (4 * digit)) as usize & 15]);
        }
    }

    fn push(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }
}

/// When a file changed, as HTTP can say it. Moments before 1970 show as its start.
pub fn last_modified(meta: &Meta) -> HttpDate {
    http_date(u64::try_from(meta.seconds).unwrap_or(0))
}

/// What the conditions of a GET or HEAD make of an answer that would be 200 without them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Serve,
    /// 304.
    NotModified,
    /// 412.
    Failed,
}

/// Evaluates the conditions in the order of RFC 9110 §13.2.2; its steps are numbered. (Step 5, If-Range, comes with
/// ranges.)
pub fn judge(fields: &Fields<'_, '_>, tag: &ETag, modified: HttpDate) -> Verdict {
    let conditional = |name: &[u8]| name.get(..3).is_some_and(|start| start.eq_ignore_ascii_case(b"if-"));
    if !fields.iter().any(|field| conditional(field.name)) {
        return Verdict::Serve;
    }
    if fields.find("if-match").is_some() {
        // 1. Strong comparison (§13.1.1): a weak tag matches nothing.
        if !matches(fields, "if-match", |weak, other| !weak && other == tag.as_bytes()) {
            return Verdict::Failed;
        }
    } else if date(fields, "if-unmodified-since").is_some_and(|date| modified > date) {
        // 2.
        return Verdict::Failed;
    }
    if fields.find("if-none-match").is_some() {
        // 3. Weak comparison (§13.1.2).
        if matches(fields, "if-none-match", |_, other| other == tag.as_bytes()) {
            return Verdict::NotModified;
        }
    } else if date(fields, "if-modified-since").is_some_and(|date| modified <= date) {
        // 4.
        return Verdict::NotModified;
    }
    Verdict::Serve
}

/// The values of all lines of a field that `http1` has no word for.
fn lines<'b>(fields: &Fields<'_, 'b>, name: &str) -> impl Iterator<Item = &'b [u8]> {
    fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name.as_bytes())).map(|field| field.value)
}

/// Is a line `*`, which any file matches, or does one hold a tag that `same` (told whether it is weak) accepts?
fn matches(fields: &Fields<'_, '_>, name: &str, same: impl Fn(bool, &[u8]) -> bool) -> bool {
    lines(fields, name).any(|value| value == b"*" || tags(value).any(|(weak, tag)| same(weak, tag)))
}

/// The one date of a field. None if it is no date or there are more than one: then the field is ignored (§13.1.3,
/// §13.1.4).
fn date(fields: &Fields<'_, '_>, name: &str) -> Option<HttpDate> {
    let mut lines = lines(fields, name);
    let (first, None) = (lines.next()?, lines.next()) else { return None };
    std::str::from_utf8(first).ok()?.parse().ok()
}

/// The entity tags of a list, each whether it is weak and its opaque part with the quotes (§8.8.3). Commas may stand
/// inside of a tag, so the list is not split at them. Ends at the first malformed element.
fn tags(value: &[u8]) -> impl Iterator<Item = (bool, &[u8])> {
    let mut rest = value;
    std::iter::from_fn(move || {
        rest = trim(rest);
        while let [b',', after @ ..] = rest {
            rest = trim(after);
        }
        let weak = rest.starts_with(b"W/");
        let quoted = if weak { &rest[2..] } else { rest };
        let inside = quoted.strip_prefix(b"\"")?;
        let end = memchr::memchr(b'"', inside)? + 2;
        rest = &quoted[end..];
        Some((weak, &quoted[..end]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::field::FieldSpace;
    use crate::http1::{Limits, request};

    const META: Meta = Meta { length: 0x1f, seconds: 784_111_777, nanos: 16, inode: 0xa };
    const TAG: &str = "\"a-1f-2ebc98a1.10\"";
    const EXACT: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";

    fn verdict(fields: &str) -> Verdict {
        let bytes = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let mut space = FieldSpace::new();
        let head = request::parse(bytes.as_bytes(), &mut space, &Limits::REQUEST).unwrap();
        judge(&head.fields, &ETag::of(&META), last_modified(&META))
    }

    #[test]
    fn a_tag_tells_every_fact_of_a_file() {
        assert_eq!(std::str::from_utf8(ETag::of(&META).as_bytes()), Ok(TAG));
        let most = Meta { length: u64::MAX, seconds: -1, nanos: u32::MAX, inode: u64::MAX };
        assert_eq!(ETag::of(&most).as_bytes().len(), ETag::MOST);
        assert_eq!(last_modified(&most).to_string(), "Thu, 01 Jan 1970 00:00:00 GMT");
    }

    #[test]
    fn if_none_match_compares_weakly_and_wins_over_the_date() {
        use Verdict::*;
        for (value, expected) in [
            (TAG.to_owned(), NotModified),
            (format!("W/{TAG}"), NotModified),
            ("*".to_owned(), NotModified),
            (format!("\"x,y\", W/\"z\" ,, {TAG}"), NotModified),
            (format!(", {TAG},"), NotModified),
            ("\"x\"".to_owned(), Serve),
            (format!("\"x {TAG}"), Serve),
            (format!("w/{TAG}"), Serve),
            (TAG.trim_matches('"').to_owned(), Serve),
            (String::new(), Serve),
        ] {
            assert_eq!(verdict(&format!("If-None-Match: {value}\r\n")), expected, "{value}");
            assert_eq!(
                verdict(&format!("if-none-match: {value}\r\nIf-Modified-Since: {EXACT}\r\n")),
                expected,
                "{value}"
            );
        }
        assert_eq!(verdict(&format!("If-None-Match: \"x\"\r\nIf-None-Match: {TAG}\r\n")), NotModified);
    }

    #[test]
    fn dates_are_compared_by_the_second() {
        use Verdict::*;
        for (fields, expected) in [
            (format!("If-Modified-Since: {EXACT}\r\n"), NotModified),
            (format!("If-Modified-Since: {BEFORE}\r\n"), Serve),
            ("If-Modified-Since: Sunday, 06-Nov-94 08:49:37 GMT\r\n".to_owned(), NotModified),
            ("If-Modified-Since: yesterday\r\n".to_owned(), Serve),
            (format!("If-Modified-Since: {EXACT}\r\nIf-Modified-Since: {EXACT}\r\n"), Serve),
            (format!("If-Unmodified-Since: {EXACT}\r\n"), Serve),
            (format!("If-Unmodified-Since: {BEFORE}\r\n"), Failed),
            ("If-Unmodified-Since: \u{e4}\r\n".to_owned(), Serve),
        ] {
            assert_eq!(verdict(&fields), expected, "{fields}");
        }
    }

    #[test]
    fn if_match_compares_strongly_and_comes_first() {
        use Verdict::*;
        for (fields, expected) in [
            (format!("If-Match: {TAG}\r\n"), Serve),
            ("If-Match: *\r\n".to_owned(), Serve),
            (format!("If-Match: W/{TAG}\r\n"), Failed),
            ("If-Match: \"x\"\r\n".to_owned(), Failed),
            (format!("If-Match: \"x\", {TAG}\r\nIf-Unmodified-Since: {BEFORE}\r\n"), Serve),
            (format!("If-Match: \"x\"\r\nIf-None-Match: {TAG}\r\n"), Failed),
            (format!("If-Match: {TAG}\r\nIf-None-Match: {TAG}\r\n"), NotModified),
            (format!("If-Unmodified-Since: {EXACT}\r\nIf-Modified-Since: {EXACT}\r\n"), NotModified),
        ] {
            assert_eq!(verdict(&fields), expected, "{fields}");
        }
    }
}
