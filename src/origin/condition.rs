//! Validators and conditional requests (RFC 9110 §8.8, §13).

use crate::base::date::http_date;
use crate::http1::Fields;
use crate::http1::field::trim;
use crate::origin::coding::Coding;
use httpdate::HttpDate;

/// A strong entity tag with its quotes. Each coding of a file is a representation of its own, and so has its own tag
/// (RFC 9110 §8.8.3.3).
#[derive(Clone, Copy, Debug)]
pub struct ETag {
    bytes: [u8; ETag::MOST],
    len: usize,
}

impl ETag {
    /// Two numbers of 64 bits, one of 32, two separators, the longest suffix, two quotes.
    const MOST: usize = 2 * 16 + 8 + 2 + 4 + 2;

    /// By a hash of the content before coding: `"hash-coding"`. The same wherever the same bytes are served.
    pub fn of_content(hash: u128, coding: Option<Coding>) -> ETag {
        Self::build(coding, |tag| tag.hex(hash, 32))
    }

    /// By length and date: `"length-seconds.nanos-coding"`. No inode, so that copies of a file that kept its date have one
    /// tag on all servers behind a balancer.
    pub fn of_facts(length: u64, seconds: i64, nanos: u32, coding: Option<Coding>) -> ETag {
        Self::build(coding, |tag| {
            tag.number(length);
            tag.push(b'-');
            tag.number(seconds as u64);
            tag.push(b'.');
            tag.number(u64::from(nanos));
        })
    }

    fn build(coding: Option<Coding>, fill: impl FnOnce(&mut ETag)) -> ETag {
        let mut tag = ETag { bytes: [0; Self::MOST], len: 0 };
        tag.push(b'"');
        fill(&mut tag);
        for &byte in coding.map_or("", Coding::tag_suffix).as_bytes() {
            tag.push(byte);
        }
        tag.push(b'"');
        tag
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn number(&mut self, value: u64) {
        self.hex(u128::from(value), (16 - value.leading_zeros() / 4).max(1));
    }

    fn hex(&mut self, value: u128, digits: u32) {
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
pub fn last_modified(seconds: i64) -> HttpDate {
    http_date(u64::try_from(seconds).unwrap_or(0))
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

/// Evaluates the conditions in the order of RFC 9110 §13.2.2; its steps are numbered. Step 5 is
/// [`range_holds`], for what is served. Content without a tag matches none but `*`, and a date says nothing about content
/// without one.
pub fn judge(fields: &Fields<'_, '_>, tag: Option<&ETag>, modified: Option<HttpDate>) -> Verdict {
    let conditional = |name: &[u8]| name.get(..3).is_some_and(|start| start.eq_ignore_ascii_case(b"if-"));
    if !fields.iter().any(|field| conditional(field.name)) {
        return Verdict::Serve;
    }
    let is_ours = |other: &[u8]| tag.is_some_and(|tag| other == tag.as_bytes());
    if fields.find("if-match").is_some() {
        // 1. Strong comparison (§13.1.1): a weak tag matches nothing.
        if !matches(fields, "if-match", |weak, other| !weak && is_ours(other)) {
            return Verdict::Failed;
        }
    } else if date(fields, "if-unmodified-since").is_some_and(|date| modified.is_some_and(|modified| modified > date)) {
        // 2.
        return Verdict::Failed;
    }
    if fields.find("if-none-match").is_some() {
        // 3. Weak comparison (§13.1.2).
        if matches(fields, "if-none-match", |_, other| is_ours(other)) {
            return Verdict::NotModified;
        }
    } else if date(fields, "if-modified-since").is_some_and(|date| modified.is_some_and(|modified| modified <= date)) {
        // 4.
        return Verdict::NotModified;
    }
    Verdict::Serve
}

/// Step 5: does If-Range let the Range of a GET be looked at (§13.1.5)? `modified` is what Last-Modified says, `now` the Date of
/// the answer. A field that is malformed, or there twice, counts as one that does not hold: the whole is always right.
pub fn range_holds(fields: &Fields<'_, '_>, tag: &ETag, modified: HttpDate, now: HttpDate) -> bool {
    let mut lines = lines(fields, "if-range");
    match (lines.next(), lines.next()) {
        (None, _) => true,
        // Strong comparison: ours is strong, and `W/` makes the other unlike it.
        (Some(value), None) if value.ends_with(b"\"") => value == tag.as_bytes(),
        // A file may change twice within a second: a date is a strong validator only when its second is over (§8.8.2.2).
        (Some(value), None) => parse_date(value).is_some_and(|date| date == modified && modified < now),
        _ => false,
    }
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
    parse_date(first)
}

/// Any of the three formats (§5.6.7).
fn parse_date(value: &[u8]) -> Option<HttpDate> {
    std::str::from_utf8(value).ok()?.parse().ok()
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

    const MODIFIED: i64 = 784_111_777;
    const TAG: &str = "\"1f-2ebc98a1.10\"";
    const EXACT: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";

    fn with<T>(fields: &str, look: impl FnOnce(&Fields<'_, '_>) -> T) -> T {
        let bytes = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let mut space = FieldSpace::new();
        look(&request::parse(bytes.as_bytes(), &mut space, &Limits::REQUEST).unwrap().fields)
    }

    fn verdict(fields: &str) -> Verdict {
        with(fields, |fields| judge(fields, Some(&tag()), Some(last_modified(MODIFIED))))
    }

    fn tag() -> ETag {
        ETag::of_facts(0x1f, MODIFIED, 16, None)
    }

    #[test]
    fn moments_before_1970_show_as_its_start() {
        assert_eq!(last_modified(-1).to_string(), "Thu, 01 Jan 1970 00:00:00 GMT");
    }

    #[test]
    fn content_without_a_tag_or_date_matches_only_what_anything_matches() {
        let bare = |fields: &str| with(fields, |fields| judge(fields, None, None));
        assert_eq!(bare("If-None-Match: *\r\n"), Verdict::NotModified);
        assert_eq!(bare("If-None-Match: \"\"\r\n"), Verdict::Serve);
        assert_eq!(bare("If-Match: \"x\"\r\n"), Verdict::Failed);
        assert_eq!(bare(&format!("If-Modified-Since: {EXACT}\r\n")), Verdict::Serve);
        assert_eq!(bare(&format!("If-Unmodified-Since: {EXACT}\r\n")), Verdict::Serve);
    }

    #[test]
    fn tags_of_content_and_of_facts_tell_codings_apart() {
        let text = |tag: ETag| String::from_utf8(tag.as_bytes().to_vec()).unwrap();
        let hash = 0x0123_4567_89ab_cdef_0011_2233_4455_6677;
        assert_eq!(text(ETag::of_content(hash, None)), "\"0123456789abcdef0011223344556677\"");
        assert_eq!(text(ETag::of_content(0xf, Some(Coding::Zstd))), format!("\"{:031}f-zst\"", 0));
        assert_eq!(text(ETag::of_facts(0x1f, 784_111_777, 16, None)), "\"1f-2ebc98a1.10\"");
        assert_eq!(text(ETag::of_facts(0, 0, 0, Some(Coding::Brotli))), "\"0-0.0-br\"");
        let most = ETag::of_facts(u64::MAX, -1, u32::MAX, Some(Coding::Gzip));
        assert_eq!(text(most), "\"ffffffffffffffff-ffffffffffffffff.ffffffff-gz\"");
        let longest = ETag::of_facts(u64::MAX, -1, u32::MAX, Some(Coding::Zstd));
        assert_eq!(longest.as_bytes().len(), ETag::MOST);
    }

    #[test]
    fn if_range_holds_for_this_very_representation_only() {
        let later = http_date(784_111_778);
        for (fields, expected) in [
            (String::new(), true),
            (format!("If-Range: {TAG}\r\n"), true),
            (format!("if-range: \t{TAG} \r\n"), true),
            (format!("If-Range: W/{TAG}\r\n"), false),
            ("If-Range: \"x\"\r\n".to_owned(), false),
            ("If-Range: *\r\n".to_owned(), false),
            ("If-Range:\r\n".to_owned(), false),
            ("If-Range: \"\r\n".to_owned(), false),
            (format!("If-Range: {TAG}, {TAG}\r\n"), false),
            (format!("If-Range: {TAG}\r\nIf-Range: {TAG}\r\n"), false),
            (format!("If-Range: {EXACT}\r\n"), true),
            ("If-Range: Sunday, 06-Nov-94 08:49:37 GMT\r\n".to_owned(), true),
            ("If-Range: Sun Nov  6 08:49:37 1994\r\n".to_owned(), true),
            (format!("If-Range: {BEFORE}\r\n"), false),
            ("If-Range: Sun, 06 Nov 1994 08:49:38 GMT\r\n".to_owned(), false),
            ("If-Range: soon\r\n".to_owned(), false),
        ] {
            let holds = |now| with(&fields, |fields| range_holds(fields, &tag(), last_modified(MODIFIED), now));
            assert_eq!(holds(later), expected, "{fields}");
            // Within the second of the change no date holds.
            let dated = fields.contains("GMT") || fields.contains("1994");
            assert_eq!(holds(last_modified(MODIFIED)), expected && !dated, "{fields}");
        }
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
