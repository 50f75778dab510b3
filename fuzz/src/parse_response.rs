//! Response heads: found, judged, made fit for the client, and judged again as the client will.

use super::parse_request::{frame, scan};
use super::reference::{self, Way};
use super::show;
use pilb::base::DateLine;
use pilb::http1::encode::Persist;
use pilb::http1::field::FieldSpace;
use pilb::http1::response::{self, Asked, ResponseHead};
use pilb::http1::scan::HeadScan;
use pilb::http1::{Framing, Limits, MAX_FIELDS};
use pilb::proxy::rewrite::{self, Toward};

const NEXT_HOP: Limits = Limits { head: 64 * 1024, fields: MAX_FIELDS, target: 0 };

/// `data`: what a server sent first.
pub fn run(data: &[u8]) {
    let Some(len) = scan(data) else { return };
    for asked in [(false, false), (true, false), (false, true), (true, true)] {
        let asked = Asked { head: asked.0, upgrade: asked.1 };
        let mut space = FieldSpace::new();
        let Ok(head) = response::parse(&data[..len], &mut space, &Limits::RESPONSE, asked) else { continue };
        agrees_with_the_reference(&head, data, asked);
        for toward in ways(&head) {
            forwarded(&head, data, asked, toward);
        }
    }
}

fn agrees_with_the_reference(head: &ResponseHead<'_, '_>, data: &[u8], asked: Asked) {
    let Some(naive) = reference::response(data, asked.head) else { panic!("accepted what has no end: {}", show(data)) };
    assert_eq!(naive.head.len, head.fields.bytes.len(), "another end: {}", show(data));
    assert_eq!(naive.status, head.status, "another status: {}", show(data));
    assert_eq!(naive.frame, Some(frame(head.framing)), "another frame: {}", show(data));
    assert_eq!(naive.head.has("date"), head.has_date, "{}", show(data));
    assert!(!head.persist || head.framing != Framing::UntilClose, "persists until it closes: {}", show(data));
}

/// All that the proxy may want to make of it: interim heads and switches pass, an answer without a length ends its connection.
fn ways(head: &ResponseHead<'_, '_>) -> Vec<Toward> {
    let silent = Toward { persist: Persist::Silent, strip_chunks: false };
    if head.status < 200 {
        return vec![silent];
    }
    let mut ways = Vec::new();
    for strip_chunks in [false, true] {
        let endless = head.framing == Framing::UntilClose || (strip_chunks && head.framing == Framing::Chunked);
        for persist in [Persist::Silent, Persist::KeepAlive, Persist::Close] {
            if (persist == Persist::Close || !endless) && (!strip_chunks || head.coded) {
                ways.push(Toward { persist, strip_chunks });
            }
        }
    }
    ways
}

fn forwarded(head: &ResponseHead<'_, '_>, data: &[u8], asked: Asked, toward: Toward) {
    let mut out = Vec::new();
    if !rewrite::response(&mut out, head, toward, DateLine::new().at(0), b"") {
        assert!(out.is_empty());
        out.extend_from_slice(head.fields.bytes);
    }
    let shown = || format!("{} became {} for {asked:?} {toward:?}", show(data), show(&out));
    reference::strict_head(&out, Way::ToClient);
    assert_eq!(HeadScan::default().end(&out), Ok(Some(out.len())), "another end: {}", shown());
    let mut space = FieldSpace::new();
    let again = match response::parse(&out, &mut space, &NEXT_HOP, asked) {
        Ok(again) => again,
        Err(fault) => panic!("{fault:?} in {}", shown()),
    };
    assert_eq!((again.status, again.reason), (head.status, head.reason), "{}", shown());
    let framing = match head.framing {
        Framing::Chunked if toward.strip_chunks => Framing::UntilClose,
        framing => framing,
    };
    assert_eq!(again.framing, framing, "{}", shown());
    assert!(!toward.strip_chunks || !again.coded, "{}", shown());
    if !head.is_interim() {
        assert_eq!(again.persist, toward.persist != Persist::Close, "{}", shown());
        assert_eq!(again.connection.keep_alive, toward.persist == Persist::KeepAlive, "{}", shown());
    }
    only_what_must_go_is_gone(head.fields.bytes, &out);
}

const OURS: [&str; 5] = ["connection", "content-length", "date", "transfer-encoding", "upgrade"];

fn only_what_must_go_is_gone(before: &[u8], after: &[u8]) {
    let (Some(before), Some(after)) = (reference::head(before), reference::head(after)) else { return };
    let nominated = before.list("connection");
    let own = |name: &str| OURS.contains(&name);
    let one_hop = |name: &str| ["keep-alive", "proxy-connection", "te"].contains(&name);
    let hop = |name: &str| one_hop(name) || nominated.iter().any(|n| n == name);
    let kept = |head: &reference::Head<'_>| {
        let kept = head.fields.iter().filter(|(name, _)| !own(name) && !hop(name));
        kept.map(|(name, value)| (name.clone(), value.to_vec())).collect::<Vec<_>>()
    };
    assert_eq!(kept(&before), kept(&after), "fields were lost or invented");
    for (name, _) in &after.fields {
        assert!(own(name) || !hop(name), "{name} is for one hop");
    }
}
