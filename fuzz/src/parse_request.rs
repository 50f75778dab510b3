//! Request heads: found, judged, rewritten, and judged again as the server will.

use super::reference::{self, Frame, Way};
use super::show;
use pilb::base::Peer;
use pilb::http1::field::FieldSpace;
use pilb::http1::request::{self, RequestHead};
use pilb::http1::scan::{HeadScan, leading_empty_lines};
use pilb::http1::{Fault, Framing, Limits, MAX_FIELDS, Version};
use pilb::proxy::{Forwarded, rewrite};
use std::net::{Ipv4Addr, SocketAddr};

/// What a server behind us may see: our fields come on top of the limits.
const NEXT_HOP: Limits = Limits { head: 64 * 1024, fields: MAX_FIELDS, target: 32 * 1024 };
const FALLBACK: &str = "fallback.example:8080";

/// `data`: what a client sent first.
pub fn run(data: &[u8]) {
    let bytes = &data[leading_empty_lines(data, 8)..];
    let Some(len) = scan(bytes) else { return };
    let mut space = FieldSpace::new();
    let Ok(head) = request::parse(&bytes[..len], &mut space, &Limits::REQUEST) else { return };
    agrees_with_the_reference(&head, bytes);
    for forwarded in [Forwarded::Append, Forwarded::Replace, Forwarded::Off] {
        for peer in [Peer::Ip(SocketAddr::from((Ipv4Addr::LOCALHOST, 5000))), Peer::Unix] {
            rewritten(&head, bytes, peer, forwarded);
        }
    }
}

/// The length of the head, found in the same place however the bytes come.
pub(super) fn scan(bytes: &[u8]) -> Option<usize> {
    let whole = HeadScan::default().end(bytes);
    let mut scan = HeadScan::default();
    let mut pieces: Result<Option<usize>, Fault> = Ok(None);
    for seen in 0..=bytes.len() {
        pieces = scan.end(&bytes[..seen]);
        if pieces != Ok(None) {
            break;
        }
    }
    assert_eq!(whole, pieces, "whole and byte by byte: {}", show(bytes));
    whole.ok().flatten()
}

fn agrees_with_the_reference(head: &RequestHead<'_, '_>, bytes: &[u8]) {
    let Some(naive) = reference::request(bytes) else { panic!("accepted what has no end: {}", show(bytes)) };
    assert_eq!(naive.head.len, head.fields.bytes.len(), "another end: {}", show(bytes));
    assert_eq!((naive.method, naive.head.line), (head.method_name, head.line), "{}", show(bytes));
    assert_eq!(naive.modern, head.version == Version::Http11, "{}", show(bytes));
    assert_eq!(naive.frame, Some(frame(head.framing)), "another frame: {}", show(bytes));
    let (target, host) = naive.forwarded();
    let (before, rest) = head.target.forwarded(head.method);
    assert_eq!(target, [before, rest].concat(), "another target: {}", show(bytes));
    assert_eq!(host.as_deref(), head.host, "another host: {}", show(bytes));
}

pub(super) fn frame(framing: Framing) -> Frame {
    match framing {
        Framing::None => Frame::Bare,
        Framing::Length(length) => Frame::Length(length),
        Framing::Chunked => Frame::Chunked,
        Framing::UntilClose => Frame::UntilClose,
    }
}

/// The head as it goes on: strict in form, and the same request to the next reader.
fn rewritten(head: &RequestHead<'_, '_>, bytes: &[u8], peer: Peer, forwarded: Forwarded) {
    let mut out = Vec::new();
    rewrite::request(&mut out, head, peer, forwarded, FALLBACK);
    let shown = || format!("{} became {}", show(bytes), show(&out));
    reference::strict_head(&out, Way::ToServer);
    assert_eq!(HeadScan::default().end(&out), Ok(Some(out.len())), "another end: {}", shown());
    let mut space = FieldSpace::new();
    let again = match request::parse(&out, &mut space, &NEXT_HOP) {
        Ok(again) => again,
        Err(fault) => panic!("{fault:?} in {}", shown()),
    };
    let (before, rest) = head.target.forwarded(head.method);
    assert_eq!((again.method, again.method_name), (head.method, head.method_name), "{}", shown());
    let (again_before, again_rest) = again.target.forwarded(again.method);
    assert_eq!([again_before, again_rest].concat(), [before, rest].concat(), "{}", shown());
    assert_eq!(again.host, head.host.or(Some(FALLBACK.as_bytes())), "{}", shown());
    assert_eq!((again.version, again.framing), (Version::Http11, head.framing), "{}", shown());
    assert_eq!((again.upgrade, again.expect_continue), (head.upgrade, head.expect_continue), "{}", shown());
    assert_eq!(again.trailers, head.trailers && !head.upgrade, "{}", shown());
    assert!(again.persist, "{}", shown());
    let hops = head.max_forwards.map(|hops| hops.saturating_sub(1));
    assert_eq!(again.max_forwards, hops, "{}", shown());
    only_what_must_go_is_gone(head.fields.bytes, &out, forwarded);
}

/// Names that this proxy writes anew, or must keep for the message's own sake.
const OURS: [&str; 10] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "max-forwards",
    "te",
    "transfer-encoding",
    "upgrade",
    "via",
    "http2-settings",
];

/// Fields named by Connection are gone; all others are there, as they came and in their order.
fn only_what_must_go_is_gone(before: &[u8], after: &[u8], forwarded: Forwarded) {
    let (Some(before), Some(after)) = (reference::head(before), reference::head(after)) else { return };
    let nominated = before.list("connection");
    // Whom a client's word could make forget who asked is not forgetful: these pass even if they are named.
    let own = |name: &str| OURS.contains(&name) || name.starts_with("x-forwarded-");
    let hop = |name: &str| ["keep-alive", "proxy-connection"].contains(&name) || nominated.iter().any(|n| n == name);
    let kept = |head: &reference::Head<'_>| {
        let kept = head.fields.iter().filter(|(name, _)| !own(name) && !hop(name));
        kept.map(|(name, value)| (name.clone(), value.to_vec())).collect::<Vec<_>>()
    };
    assert_eq!(kept(&before), kept(&after), "fields were lost or invented");
    for (name, _) in &after.fields {
        assert!(own(name) || !hop(name), "{name} is for one hop");
    }
    if forwarded == Forwarded::Off {
        for name in ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"] {
            assert_eq!(before.values(name), after.values(name), "{name} was touched");
        }
    } else {
        assert_eq!(after.values("x-forwarded-proto"), [b"http"]);
        assert!(after.values("x-forwarded-for").len() <= 1 && after.values("x-forwarded-host").len() <= 1);
    }
}
