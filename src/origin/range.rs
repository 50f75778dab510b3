//! Byte ranges (RFC 9110 §14): what a Range field asks for, and the fields and frames of the answer.
//!
//! Ranges are defined for GET alone (§14.2): the caller does not ask here for any other method.

use crate::http1::Fields;
use crate::http1::encode::decimal;
use crate::http1::field::tokens;
use crate::origin::media::Media;
use std::cmp::Ordering;

/// Parts of one answer at most. Who asks for more, after those that touch were joined, gets the whole (§14.2, §17.15).
pub const MOST_PARTS: usize = 16;

/// Bytes of a representation from `start` to before `end`; never empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Part {
    pub start: u64,
    pub end: u64,
}

impl Part {
    pub fn length(self) -> u64 {
        self.end - self.start
    }

    /// Do the two overlap, or does one begin where the other ends?
    fn touches(self, other: Part) -> bool {
        self.start <= other.end && other.start <= self.end
    }
}

/// What to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "lives on the stack for the length of a request, and must not allocate")]
pub enum Ranges {
    /// All of it, as if there were no Range.
    Whole,
    /// 206 with one part, or with several as multipart/byteranges.
    Parts(Parts),
    /// 416.
    Unsatisfiable,
}

/// One to [`MOST_PARTS`] parts that do not touch, in the order in which they were asked for.
#[derive(Clone, Copy, Debug)]
pub struct Parts {
    parts: [Part; MOST_PARTS],
    len: usize,
}

impl PartialEq for Parts {
    fn eq(&self, other: &Parts) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for Parts {}

impl Parts {
    pub fn as_slice(&self) -> &[Part] {
        &self.parts[..self.len]
    }

    /// Takes in one more, joined with all that it touches at the place of the first of them (§15.3.7.2). Parts that did
    /// not touch it do not touch the joined one either. False if there is no room.
    fn add(&mut self, mut part: Part) -> bool {
        let (mut kept, mut place) = (0, None);
        for at in 0..self.len {
            let old = self.parts[at];
            if old.touches(part) {
                part = Part { start: part.start.min(old.start), end: part.end.max(old.end) };
                if place.is_some() {
                    continue;
                }
                place = Some(kept);
            }
            self.parts[kept] = old;
            kept += 1;
        }
        let place = place.unwrap_or(kept);
        let Some(slot) = self.parts.get_mut(place) else { return false };
        *slot = part;
        self.len = kept.max(place + 1);
        true
    }
}

/// What the Range field of a GET asks of a representation of `length` bytes. Another unit, a syntax error and a second
/// Range line are ignored, as §14.2 lets one. So is any range of nothing at all: no Content-Range could describe it.
pub fn wanted(fields: &Fields<'_, '_>, length: u64) -> Ranges {
    let mut lines = fields.iter().filter(|field| field.name.eq_ignore_ascii_case(b"range"));
    match (lines.next(), lines.next()) {
        (Some(line), None) if length > 0 => judge(line.value, length).unwrap_or(Ranges::Whole),
        _ => Ranges::Whole,
    }
}

/// None for whatever is to be ignored.
fn judge(value: &[u8], length: u64) -> Option<Ranges> {
    let equals = memchr::memchr(b'=', value)?;
    let (unit, set) = (&value[..equals], &value[equals + 1..]);
    if !unit.eq_ignore_ascii_case(b"bytes") {
        return None;
    }
    let mut parts = Parts { parts: [Part::default(); MOST_PARTS], len: 0 };
    let (mut asked, mut satisfiable) = (0, 0);
    for spec in tokens(set).filter(|spec| !spec.is_empty()) {
        asked += 1;
        if let Some(part) = parse(spec)?.part(length) {
            satisfiable += 1;
            if !parts.add(part) {
                return None;
            }
        }
    }
    let total: u64 = parts.as_slice().iter().map(|part| part.length()).sum();
    match (asked, satisfiable) {
        (0, _) => None,
        (_, 0) => Some(Ranges::Unsatisfiable),
        // Players ask for `bytes=0-` to learn whether they can seek: one range is answered as one, even if it is all.
        (_, 1) => Some(Ranges::Parts(parts)),
        _ if total == length => Some(Ranges::Whole),
        _ => Some(Ranges::Parts(parts)),
    }
}

/// A range as it was asked for. Numbers larger than any length count as the largest one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spec {
    From(u64),
    /// Up to and with the second.
    Between(u64, u64),
    Last(u64),
}

impl Spec {
    /// None if no byte of the representation is meant.
    fn part(self, length: u64) -> Option<Part> {
        let part = match self {
            Spec::From(start) => Part { start, end: length },
            Spec::Between(start, last) => Part { start, end: last.saturating_add(1).min(length) },
            Spec::Last(count) => Part { start: length - count.min(length), end: length },
        };
        (part.start < part.end).then_some(part)
    }
}

/// `1-2`, `1-` or `-2` (§14.1.1).
fn parse(spec: &[u8]) -> Option<Spec> {
    let dash = memchr::memchr(b'-', spec)?;
    let (first, last) = (&spec[..dash], &spec[dash + 1..]);
    match (first.is_empty(), last.is_empty()) {
        (true, true) => None,
        (true, false) => Some(Spec::Last(number(last)?)),
        (false, true) => Some(Spec::From(number(first)?)),
        (false, false) => {
            let between = Spec::Between(number(first)?, number(last)?);
            (compare(first, last) != Ordering::Greater).then_some(between)
        }
    }
}

/// Digits, as many as there are.
fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0u64, |value, &digit| {
        digit.is_ascii_digit().then(|| value.saturating_mul(10).saturating_add(u64::from(digit - b'0')))
    })
}

/// Compares digits as numbers of any size.
fn compare(a: &[u8], b: &[u8]) -> Ordering {
    let significant = |digits: &[u8]| digits.iter().position(|&digit| digit != b'0').unwrap_or(digits.len());
    let (a, b) = (&a[significant(a)..], &b[significant(b)..]);
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

/// The Content-Range line of a part of a representation of `length` bytes.
pub fn content_range(out: &mut Vec<u8>, part: Part, length: u64) {
    out.extend_from_slice(b"Content-Range: bytes ");
    decimal(out, part.start);
    out.push(b'-');
    decimal(out, part.end - 1);
    out.push(b'/');
    decimal(out, length);
    out.extend_from_slice(b"\r\n");
}

/// The Content-Range line of a 416.
pub fn unsatisfied(out: &mut Vec<u8>, length: u64) {
    out.extend_from_slice(b"Content-Range: bytes */");
    decimal(out, length);
    out.extend_from_slice(b"\r\n");
}

/// The frames of a multipart/byteranges body (§14.6): before each part its [`Multipart::preamble`], after the last one
/// [`Multipart::close`].
#[derive(Clone, Copy, Debug)]
pub struct Multipart {
    boundary: [u8; 32],
    media: Media,
    length: u64,
}

impl Multipart {
    /// For parts of a representation of `length` bytes and this type. Nothing in them may look like `boundary`, so it is
    /// drawn at random, or made from what the writer of the content cannot foresee.
    pub fn new(boundary: u128, media: Media, length: u64) -> Self {
        let mut digits = [0; 32];
        for (at, digit) in digits.iter_mut().enumerate() {
            *digit = b"0123456789abcdef"[(boundary >> (4 * (31 - at))) as usize & 15];
        }
        Multipart { boundary: digits, media, length }
    }

    /// The Content-Type line of the answer.
    pub fn content_type(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"Content-Type: multipart/byteranges; boundary=");
        out.extend_from_slice(&self.boundary);
        out.extend_from_slice(b"\r\n");
    }

    /// What stands before the bytes of `part`.
    pub fn preamble(&self, out: &mut Vec<u8>, part: Part) {
        out.extend_from_slice(b"\r\n--");
        out.extend_from_slice(&self.boundary);
        out.extend_from_slice(b"\r\nContent-Type: ");
        out.extend_from_slice(self.media.name.as_bytes());
        out.extend_from_slice(self.media.charset.as_bytes());
        out.extend_from_slice(b"\r\n");
        content_range(out, part, self.length);
        out.extend_from_slice(b"\r\n");
    }

    /// What stands after the bytes of the last part.
    pub fn close(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\r\n--");
        out.extend_from_slice(&self.boundary);
        out.extend_from_slice(b"--\r\n");
    }

    /// The length of the whole body.
    pub fn total(&self, parts: &Parts) -> u64 {
        let mut frames = "\r\n----\r\n".len() + self.boundary.len();
        let fixed = "\r\n--\r\nContent-Type: \r\nContent-Range: bytes -/\r\n\r\n".len() + self.boundary.len();
        for part in parts.as_slice() {
            frames += fixed + self.media.name.len() + self.media.charset.len();
            frames += digits(part.start) + digits(part.end - 1) + digits(self.length);
        }
        let content: u64 = parts.as_slice().iter().map(|part| part.length()).sum();
        content.saturating_add(frames as u64)
    }
}

/// How many decimal digits a number has.
fn digits(value: u64) -> usize {
    value.checked_ilog10().map_or(1, |log| log as usize + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::field::FieldSpace;
    use crate::http1::{Limits, request};
    use proptest::prelude::*;

    fn parsed(fields: &str, length: u64) -> Ranges {
        let bytes = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let mut space = FieldSpace::new();
        let head = request::parse(bytes.as_bytes(), &mut space, &Limits::REQUEST).unwrap();
        wanted(&head.fields, length)
    }

    fn range(value: &str, length: u64) -> Ranges {
        parsed(&format!("Range: {value}\r\n"), length)
    }

    fn parts(list: &[(u64, u64)]) -> Ranges {
        let mut parts = Parts { parts: [Part::default(); MOST_PARTS], len: list.len() };
        for (slot, &(start, end)) in parts.parts.iter_mut().zip(list) {
            *slot = Part { start, end };
        }
        Ranges::Parts(parts)
    }

    #[test]
    fn one_range() {
        const HUGE: &str = "99999999999999999999999999999999999999";
        for (value, expected) in [
            ("bytes=0-0", parts(&[(0, 1)])),
            ("bytes=2-5", parts(&[(2, 6)])),
            ("bytes=002-05", parts(&[(2, 6)])),
            ("bytes=9-", parts(&[(9, 10)])),
            ("bytes=0-", parts(&[(0, 10)])),
            ("bytes=0-9", parts(&[(0, 10)])),
            ("bytes=5-100", parts(&[(5, 10)])),
            ("bytes=-1", parts(&[(9, 10)])),
            ("bytes=-100", parts(&[(0, 10)])),
            ("BYTES=0-1", parts(&[(0, 2)])),
            ("bytes=18446744073709551615-18446744073709551615", Ranges::Unsatisfiable),
            ("bytes=5-18446744073709551615", parts(&[(5, 10)])),
            (&format!("bytes=1-{HUGE}"), parts(&[(1, 10)])),
            (&format!("bytes=-{HUGE}"), parts(&[(0, 10)])),
            (&format!("bytes={HUGE}-"), Ranges::Unsatisfiable),
            (&format!("bytes={HUGE}-{HUGE}"), Ranges::Unsatisfiable),
            (&format!("bytes={HUGE}9-{HUGE}8"), Ranges::Whole),
            ("bytes=10-", Ranges::Unsatisfiable),
            ("bytes=-0", Ranges::Unsatisfiable),
        ] {
            assert_eq!(range(value, 10), expected, "{value}");
        }
    }

    #[test]
    fn what_is_malformed_is_ignored() {
        for value in [
            "",
            "bytes",
            "bytes=",
            "bytes= , ,",
            "bytes=-",
            "bytes=--1",
            "bytes=5-2",
            "bytes=0-1,5-2",
            "bytes=0-1,x",
            "bytes=0-1-2",
            "bytes=+1-2",
            "bytes=0x1-2",
            "bytes=0 -1",
            "bytes=0- 1",
            "bytes =0-1",
            "bytes:0-1",
            "lines=0-1",
            "0-1",
            "bytes=0-1;2-3",
            "bytes=\u{b2}-",
        ] {
            assert_eq!(range(value, 10), Ranges::Whole, "{value}");
        }
        assert_eq!(parsed("", 10), Ranges::Whole);
        assert_eq!(parsed("Range: bytes=0-1\r\nRange: bytes=0-1\r\n", 10), Ranges::Whole);
        for value in ["bytes=0-", "bytes=-5", "bytes=5-", "bytes=-0"] {
            assert_eq!(range(value, 0), Ranges::Whole, "{value} of nothing");
        }
    }

    #[test]
    fn several_ranges_are_joined_where_they_touch() {
        for (value, expected) in [
            ("bytes=0-1,4-5", parts(&[(0, 2), (4, 6)])),
            ("bytes= 0-1\t,, ,4-5 ,", parts(&[(0, 2), (4, 6)])),
            ("bytes=4-5,0-1", parts(&[(4, 6), (0, 2)])),
            ("bytes=0-1,2-3", parts(&[(0, 4)])),
            ("bytes=6-7,0-3,2-6", parts(&[(0, 8)])),
            ("bytes=8-8,2-2,5-5,3-4", parts(&[(8, 9), (2, 6)])),
            ("bytes=2-2,8-8,4-4,1-5", parts(&[(1, 6), (8, 9)])),
            ("bytes=0-0,-1", parts(&[(0, 1), (9, 10)])),
            ("bytes=0-0,10-,-0", parts(&[(0, 1)])),
            ("bytes=10-,11-", Ranges::Unsatisfiable),
            ("bytes=0-4,5-9", Ranges::Whole),
            ("bytes=0-,0-,0-", Ranges::Whole),
        ] {
            assert_eq!(range(value, 10), expected, "{value}");
        }
    }

    #[test]
    fn more_parts_than_sixteen_are_the_whole() {
        let set = |count: u64| (0..count).map(|at| format!("{}-{0},", 2 * at)).collect::<String>();
        let list: Vec<_> = (0..16).map(|at| (2 * at, 2 * at + 1)).collect();
        assert_eq!(range(&format!("bytes={}", set(16)), 100), parts(&list));
        assert_eq!(range(&format!("bytes={}", set(17)), 100), Ranges::Whole);
        let touching: String = (0..500).map(|at| format!("{at}-{at},")).collect();
        assert_eq!(range(&format!("bytes={touching}"), 1000), parts(&[(0, 500)]));
        // The sixteenth and last place can still be joined with.
        assert_eq!(range(&format!("bytes={}30-31", set(16)), 100), parts(&[&list[..15], &[(30, 32)]].concat()));
    }

    #[test]
    fn fields_of_answers() {
        let mut out = Vec::new();
        content_range(&mut out, Part { start: 0, end: 1 }, 10);
        unsatisfied(&mut out, u64::MAX);
        let expected = "Content-Range: bytes 0-0/10\r\nContent-Range: bytes */18446744073709551615\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn a_multipart_body_reads_back() {
        let media = Media { name: "text/plain", charset: "; charset=utf-8" };
        let multipart = Multipart::new(0xab << 120, media, 10);
        let Ranges::Parts(parts) = range("bytes=0-1,-1", 10) else { panic!() };
        let mut out = Vec::new();
        multipart.content_type(&mut out);
        assert_eq!(out, format!("Content-Type: multipart/byteranges; boundary=ab{:030}\r\n", 0).into_bytes());
        let body = assembled(&multipart, &parts, b"0123456789");
        let frame = |range: &str, content: &str| {
            let head = format!("Content-Type: text/plain; charset=utf-8\r\nContent-Range: bytes {range}/10");
            format!("\r\n--ab{:030}\r\n{head}\r\n\r\n{content}", 0)
        };
        let expected = format!("{}{}\r\n--ab{:030}--\r\n", frame("0-1", "01"), frame("9-9", "9"), 0);
        assert_eq!(String::from_utf8(body).unwrap(), expected);
    }

    fn assembled(multipart: &Multipart, parts: &Parts, content: &[u8]) -> Vec<u8> {
        let mut body = Vec::new();
        for &part in parts.as_slice() {
            multipart.preamble(&mut body, part);
            body.extend_from_slice(&content[part.start as usize..part.end as usize]);
        }
        multipart.close(&mut body);
        body
    }

    /// The naive answer: the set of wanted bytes as bits. None is "ignored".
    fn bits(specs: &[(Option<u8>, Option<u8>)], length: u64) -> Option<u64> {
        let mut set = 0;
        for &(first, last) in specs {
            let wanted = |at: u64| match (first.map(u64::from), last.map(u64::from)) {
                (None, last) => at + last.unwrap_or(0) >= length,
                (Some(first), last) => at >= first && last.is_none_or(|last| at <= last),
            };
            if (first, last) == (None, None) || first.zip(last).is_some_and(|(first, last)| last < first) {
                return None;
            }
            set |= (0..length).filter(|&at| wanted(at)).map(|at| 1u64 << at).sum::<u64>();
        }
        Some(set)
    }

    proptest! {
        #[test]
        fn ranges_agree_with_a_set_of_bits(
            specs in prop::collection::vec((prop::option::of(0u8..70), prop::option::weighted(0.8, 0u8..70)), 1..6),
            length in 1u64..64,
        ) {
            let text = |number: Option<u8>| number.map(|number| number.to_string()).unwrap_or_default();
            let list: Vec<_> = specs.iter().map(|&(first, last)| format!("{}-{}", text(first), text(last))).collect();
            let got = range(&format!("bytes={}", list.join(", ")), length);
            let set = bits(&specs, length);
            match got {
                Ranges::Whole => prop_assert!(set.is_none_or(|set| set == (1 << length) - 1)),
                Ranges::Unsatisfiable => prop_assert_eq!(set, Some(0)),
                Ranges::Parts(parts) => {
                    let ones = |part: &Part| (part.start..part.end).map(|at| 1u64 << at).sum::<u64>();
                    prop_assert_eq!(Some(parts.as_slice().iter().map(ones).sum::<u64>()), set);
                    let mut sorted = parts.as_slice().to_vec();
                    sorted.sort_by_key(|part| part.start);
                    prop_assert!(sorted.windows(2).all(|pair| pair[0].end < pair[1].start), "{sorted:?}");
                    // The first asked for and satisfiable comes in the first part.
                    let first = specs.iter().find_map(|&spec| bits(&[spec], length).filter(|&set| set != 0));
                    prop_assert_eq!(ones(&parts.as_slice()[0]) & first.unwrap(), first.unwrap());
                }
            }
        }

        #[test]
        fn the_length_of_a_multipart_body_is_exact(
            specs in prop::collection::vec((0u64..12_000, 0u64..40), 1..16),
            length in 1usize..12_000,
            boundary: u128,
        ) {
            let set: String = specs.iter().map(|(start, more)| format!("{start}-{},", start + more)).collect();
            let content = vec![b'x'; length];
            let media = Media { name: "image/png", charset: "" };
            let multipart = Multipart::new(boundary, media, length as u64);
            if let Ranges::Parts(parts) = range(&format!("bytes={set}"), length as u64) {
                prop_assert_eq!(multipart.total(&parts), assembled(&multipart, &parts, &content).len() as u64);
            }
        }
    }
}
