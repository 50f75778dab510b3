//! The fields by which a client chooses what of a file it gets: ranges, codings, conditions, and the kind of a listing.

use super::show;
use pilb::base::date::http_date;
use pilb::http1::field::FieldSpace;
use pilb::http1::{Fields, Limits, request};
use pilb::origin::RelativePath;
use pilb::origin::coding::{Accept, Coding};
use pilb::origin::condition::{self, ETag, Verdict};
use pilb::origin::listing::{self, Entry};
use pilb::origin::media::Media;
use pilb::origin::range::{self, MOST_PARTS, Multipart, Part, Parts, Ranges};

/// When the file changed, and the moment of the answer.
const MODIFIED: u64 = 784_111_777;

/// `data`: on its first line the length of a file, then field lines. A newline stands for CRLF.
pub fn run(data: &[u8]) {
    let (first, lines) = data.split_at(data.iter().position(|&byte| byte == b'\n').map_or(data.len(), |at| at + 1));
    let length = std::str::from_utf8(first).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(1000);
    let mut bytes = b"GET / HTTP/1.1\r\nHost: a\r\n".to_vec();
    for line in lines.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
        bytes.extend_from_slice(line);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    let mut space = FieldSpace::new();
    if let Ok(head) = request::parse(&bytes, &mut space, &Limits::REQUEST) {
        ranges(&head.fields, length);
        codings(&head.fields);
        conditions(&head.fields);
        let json = listing::wants_json(&head.fields);
        assert!(!json || has(&head.fields, "accept"), "JSON without being asked for: {}", show(data));
    }
    names(lines);
}

fn has(fields: &Fields<'_, '_>, name: &str) -> bool {
    fields.find(name).is_some()
}

fn ranges(fields: &Fields<'_, '_>, length: u64) {
    let shown = || show(fields.bytes);
    match range::wanted(fields, length) {
        Ranges::Whole => {}
        _ if length == 0 || !has(fields, "range") => {
            panic!("a part of what is not asked for, or of nothing: {}", shown())
        }
        Ranges::Unsatisfiable => {}
        Ranges::Parts(parts) => {
            let list = parts.as_slice();
            assert!((1..=MOST_PARTS).contains(&list.len()), "{list:?}: {}", shown());
            let mut sorted = list.to_vec();
            sorted.sort_by_key(|part| part.start);
            assert!(sorted.iter().all(|part| part.start < part.end && part.end <= length), "{list:?}: {}", shown());
            assert!(sorted.windows(2).all(|pair| pair[0].end < pair[1].start), "{list:?} touch: {}", shown());
            let total: u64 = list.iter().map(|part| part.length()).sum();
            assert!(total < length || list.len() == 1, "{list:?} are the whole: {}", shown());
            frames(&parts, length, total);
        }
    }
}

/// The length of a multipart body that is announced is that which is sent.
fn frames(parts: &Parts, length: u64, total: u64) {
    let media = Media { name: "text/plain", charset: "; charset=utf-8" };
    let multipart = Multipart::new(0x1234, media, length);
    let mut out = Vec::new();
    parts.as_slice().iter().for_each(|&part: &Part| multipart.preamble(&mut out, part));
    multipart.close(&mut out);
    assert_eq!(multipart.total(parts), total.saturating_add(out.len() as u64), "{parts:?} of {length}");
}

fn codings(fields: &Fields<'_, '_>) {
    let accept = Accept::of(fields);
    let mut order: Vec<Coding> = accept.order().collect();
    for coding in &order {
        let named = |value: &[u8]| {
            let value = value.to_ascii_lowercase();
            value.contains(&b'*') || value.windows(coding.token().len()).any(|part| part == coding.token().as_bytes())
        };
        let mut lines = fields.iter().filter(|field| field.name.eq_ignore_ascii_case(b"accept-encoding"));
        assert!(lines.any(|line| named(line.value)), "{coding:?} unasked: {}", show(fields.bytes));
    }
    order.sort();
    order.dedup();
    assert_eq!(order.len(), accept.order().count(), "a coding twice: {}", show(fields.bytes));
    assert!(accept.identity() || has(fields, "accept-encoding"), "{}", show(fields.bytes));
}

fn conditions(fields: &Fields<'_, '_>) {
    let tag = ETag::of_facts(1000, MODIFIED as i64, 0, None);
    let (modified, now) = (http_date(MODIFIED), http_date(MODIFIED + 1));
    let judged = condition::judge(fields, Some(&tag), Some(modified));
    let holds = condition::range_holds(fields, &tag, modified, now);
    let conditional = ["if-match", "if-none-match", "if-modified-since", "if-unmodified-since"];
    assert!(judged == Verdict::Serve || conditional.iter().any(|name| has(fields, name)), "{}", show(fields.bytes));
    assert!(holds || has(fields, "if-range"), "{}", show(fields.bytes));
    // A date holds no longer when its second has not passed; a tag holds as before.
    let early = condition::range_holds(fields, &tag, modified, modified);
    assert!(holds || !early, "{}", show(fields.bytes));
}

/// The lines as names in a directory: each link of the page leads to one of them, and back to nothing else.
fn names(lines: &[u8]) {
    let mut entries: Vec<Entry> = Vec::new();
    for name in lines.split(|&byte| byte == b'\n').filter(|name| !name.is_empty() && !name.contains(&b'/')) {
        if !name.contains(&0) {
            entries.push(Entry { name: name.to_vec(), directory: name.len() % 2 == 0, length: 1, modified: -1 });
        }
    }
    let page = listing::html(&RelativePath::default(), &entries);
    let mut linked = Vec::new();
    for link in page.split("<a").skip(1) {
        let target = link.split("href=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or("//");
        let mut path = RelativePath::default();
        assert_eq!(path.decode(format!("/{target}").as_bytes()), Ok(()), "{target}");
        linked.push(path.as_bytes().strip_suffix(b"/").unwrap_or(path.as_bytes()).to_vec());
    }
    let mut expected: Vec<Vec<u8>> = entries.iter().map(|entry| entry.name.clone()).collect();
    expected.retain(|name| !name.starts_with(b"."));
    linked.sort();
    expected.sort();
    assert_eq!(linked, expected, "{}", show(lines));
    assert_eq!(listing::json(&entries).matches("\"modified\":\"1970-01-01T00:00:00Z\"").count(), expected.len());
}
