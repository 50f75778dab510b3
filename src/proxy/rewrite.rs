//! Makes a head fit for the next hop: hop-by-hop fields out (RFC 9110 §7.6.1), ours in, the rest copied in runs.

use crate::base::Peer;
use crate::base::peer::write_ip;
use crate::http1::encode::{self, Persist};
use crate::http1::field::Field;
use crate::http1::request::RequestHead;
use crate::http1::response::ResponseHead;
use crate::http1::target::Target;
use crate::http1::{Fields, Framing, Known, Version};
use crate::proxy::Forwarded;

/// The name this proxy gives itself in Via.
const PSEUDONYM: &[u8] = b"pilb";

/// Writes the head of a request as it goes to the server. `fallback_host` serves an HTTP/1.0 request that names none.
pub fn request(out: &mut Vec<u8>, head: &RequestHead<'_, '_>, peer: Peer, forwarded: Forwarded, fallback_host: &str) {
    let plain = matches!(head.target, Target::Origin(_)) && head.version == Version::Http11;
    if plain {
        out.extend_from_slice(head.line);
        out.extend_from_slice(b"\r\n");
    } else {
        let (before, rest) = head.target.forwarded(head.method);
        for part in [head.method_name, b" ", before, rest, b" HTTP/1.1\r\n"] {
            out.extend_from_slice(part);
        }
    }
    let absolute = matches!(head.target, Target::Absolute { .. });
    if absolute || head.host.is_none() {
        encode::field(out, "Host", head.host.unwrap_or(fallback_host.as_bytes()));
    }
    copy_runs(out, &head.fields, |field| drop_from_request(head, field, forwarded, absolute));
    own_request_fields(out, head, peer, forwarded);
    out.extend_from_slice(b"\r\n");
}

fn drop_from_request(head: &RequestHead<'_, '_>, field: &Field<'_>, forwarded: Forwarded, absolute: bool) -> bool {
    match field.known {
        Known::Connection | Known::KeepAlive | Known::ProxyConnection | Known::Te | Known::Upgrade => true,
        Known::Http2Settings | Known::Via => true,
        Known::Host => absolute,
        Known::Expect => !head.expect_continue,
        Known::XForwardedFor => forwarded != Forwarded::Off,
        Known::XForwardedProto | Known::XForwardedHost => !matches!(forwarded, Forwarded::Off | Forwarded::Believe),
        Known::MaxForwards => head.max_forwards.is_some(),
        Known::TransferEncoding => field.value != b"chunked",
        Known::ContentLength => false,
        _ => head.connection.names && head.fields.nominated(field.name),
    }
}

fn own_request_fields(out: &mut Vec<u8>, head: &RequestHead<'_, '_>, peer: Peer, forwarded: Forwarded) {
    if head.framing == Framing::Chunked && head.fields.values(Known::TransferEncoding).all(|value| value != b"chunked")
    {
        encode::field(out, "Transfer-Encoding", b"chunked");
    }
    if let Some(hops) = head.max_forwards {
        out.extend_from_slice(b"Max-Forwards: ");
        encode::decimal(out, hops.saturating_sub(1));
        out.extend_from_slice(b"\r\n");
    }
    if forwarded != Forwarded::Off {
        forwarded_fields(out, head, peer, forwarded);
    }
    list(out, b"Via: ", head.fields.values(Known::Via));
    out.extend_from_slice(if head.version == Version::Http10 { b"1.0 " } else { b"1.1 " });
    out.extend_from_slice(PSEUDONYM);
    out.extend_from_slice(b"\r\n");
    if head.upgrade {
        out.extend_from_slice(b"Connection: Upgrade\r\n");
        head.fields.values(Known::Upgrade).for_each(|value| encode::field(out, "Upgrade", value));
    } else if head.trailers {
        out.extend_from_slice(b"Connection: TE\r\nTE: trailers\r\n");
    }
}

fn forwarded_fields(out: &mut Vec<u8>, head: &RequestHead<'_, '_>, peer: Peer, forwarded: Forwarded) {
    let given = head.fields.values(Known::XForwardedFor).filter(|_| forwarded != Forwarded::Replace);
    let before = out.len();
    list(out, b"X-Forwarded-For: ", given);
    match peer.ip() {
        Some(ip) => {
            write_ip(out, ip);
            out.extend_from_slice(b"\r\n");
        }
        // A Unix socket's client has no address to add.
        None if out.ends_with(b", ") => {
            out.truncate(out.len() - 2);
            out.extend_from_slice(b"\r\n");
        }
        None => out.truncate(before),
    }
    let told = |field| forwarded == Forwarded::Believe && head.fields.values(field).next().is_some();
    if !told(Known::XForwardedProto) {
        out.extend_from_slice(b"X-Forwarded-Proto: http\r\n");
    }
    if let Some(host) = head.host.filter(|_| !told(Known::XForwardedHost)) {
        encode::field(out, "X-Forwarded-Host", host);
    }
}

/// A field's name and, each followed by `", "`, the values it has so far.
fn list<'b>(out: &mut Vec<u8>, name: &[u8], values: impl Iterator<Item = &'b [u8]>) {
    out.extend_from_slice(name);
    for value in values.filter(|value| !value.is_empty()) {
        out.extend_from_slice(value);
        out.extend_from_slice(b", ");
    }
}

/// How an answer goes to its client.
#[derive(Clone, Copy, Debug)]
pub struct Toward {
    pub persist: Persist,
    /// Chunk framing is removed, so its announcement must go as well.
    pub strip_chunks: bool,
}

/// Writes the head of a response as it goes to the client, or returns false if it may pass as it lies there.
/// `extra` are further lines, or none.
pub fn response(out: &mut Vec<u8>, head: &ResponseHead<'_, '_>, toward: Toward, date: &[u8], extra: &[u8]) -> bool {
    let loses_date = head.connection.names && head.fields.nominated(b"date");
    let add_date = (!head.has_date || loses_date) && head.status >= 200;
    let rebuild = head.must_rebuild || add_date || toward.persist != Persist::Silent || toward.strip_chunks;
    let rebuild = rebuild || !extra.is_empty();
    if !rebuild {
        return false;
    }
    encode::status_line(out, head.status, head.reason);
    if add_date {
        out.extend_from_slice(date);
    }
    copy_runs(out, &head.fields, |field| drop_from_response(head, field, toward));
    let bodiless = head.status == 204 || head.status < 200;
    if head.coded && !bodiless && !toward.strip_chunks {
        encode::field(out, "Transfer-Encoding", b"chunked");
    }
    if head.status == 101 {
        out.extend_from_slice(b"Connection: Upgrade\r\n");
    }
    out.extend_from_slice(extra);
    out.extend_from_slice(toward.persist.line());
    out.extend_from_slice(b"\r\n");
    true
}

fn drop_from_response(head: &ResponseHead<'_, '_>, field: &Field<'_>, toward: Toward) -> bool {
    match field.known {
        Known::Connection | Known::KeepAlive | Known::ProxyConnection | Known::Te => true,
        Known::Upgrade => head.status != 101,
        // Written anew, or out of place.
        Known::TransferEncoding => true,
        Known::ContentLength => head.status == 204 || head.status < 200 || toward.strip_chunks,
        _ => head.connection.names && head.fields.nominated(field.name),
    }
}

/// Copies the field lines that are not dropped, neighbours together.
fn copy_runs(out: &mut Vec<u8>, fields: &Fields<'_, '_>, dropped: impl Fn(&Field<'_>) -> bool) {
    let mut run = fields.start();
    for field in fields.iter() {
        if dropped(&field) {
            out.extend_from_slice(&fields.bytes[run..field.start]);
            run = field.end;
        }
    }
    out.extend_from_slice(&fields.bytes[run..fields.end()]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::field::FieldSpace;
    use crate::http1::response::Asked;
    use crate::http1::{Limits, request as req, response as resp};

    fn peer() -> Peer {
        Peer::Ip("192.0.2.7:5000".parse().unwrap())
    }

    fn rewritten(head: &str, forwarded: Forwarded) -> String {
        let (mut space, mut out) = (FieldSpace::new(), Vec::new());
        let head = req::parse(head.as_bytes(), &mut space, &Limits::REQUEST).unwrap();
        request(&mut out, &head, peer(), forwarded, "fallback:80");
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn requests_lose_hop_by_hop_fields_and_gain_ours() {
        let head = "GET /a HTTP/1.1\r\nHost: h\r\nConnection: close, X-Secret\r\nX-Secret: 1\r\nX-Forwarded-For: 10.0.0.1\r\nTE: gzip, trailers\r\nAccept: */*\r\n\r\n";
        assert_eq!(
            rewritten(head, Forwarded::Append),
            "GET /a HTTP/1.1\r\nHost: h\r\nAccept: */*\r\nX-Forwarded-For: 10.0.0.1, 192.0.2.7\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: h\r\nVia: 1.1 pilb\r\nConnection: TE\r\nTE: trailers\r\n\r\n"
        );
        assert!(rewritten(head, Forwarded::Replace).contains("\r\nX-Forwarded-For: 192.0.2.7\r\n"));
        assert!(rewritten(head, Forwarded::Off).contains("\r\nX-Forwarded-For: 10.0.0.1\r\n"));
    }

    #[test]
    fn a_nominated_frame_is_not_removed() {
        let head = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nConnection: content-length, host\r\n\r\n";
        let out = rewritten(head, Forwarded::Append);
        assert!(out.contains("\r\nContent-Length: 3\r\n") && out.contains("\r\nHost: h\r\n"));
    }

    #[test]
    fn absolute_targets_and_old_versions() {
        let out = rewritten("GET http://real/x HTTP/1.1\r\nHost: fake\r\n\r\n", Forwarded::Append);
        assert!(out.starts_with("GET /x HTTP/1.1\r\nHost: real\r\n") && !out.contains("fake"));
        let out = rewritten("GET / HTTP/1.0\r\n\r\n", Forwarded::Append);
        assert!(out.starts_with("GET / HTTP/1.1\r\nHost: fallback:80\r\n") && out.contains("Via: 1.0 pilb\r\n"));
        let out = rewritten("OPTIONS * HTTP/1.1\r\nHost: h\r\nMax-Forwards: 3\r\n\r\n", Forwarded::Append);
        assert!(out.starts_with("OPTIONS * HTTP/1.1\r\n") && out.contains("Max-Forwards: 2\r\n"));
    }

    fn answered(head: &str, toward: Toward) -> Option<String> {
        let (mut space, mut out) = (FieldSpace::new(), Vec::new());
        let asked = Asked { head: false, upgrade: true };
        let head = resp::parse(head.as_bytes(), &mut space, &Limits::RESPONSE, asked).unwrap();
        response(&mut out, &head, toward, b"Date: now\r\n", b"").then(|| String::from_utf8(out).unwrap())
    }

    #[test]
    fn responses_pass_untouched_or_are_rebuilt() {
        let silent = Toward { persist: Persist::Silent, strip_chunks: false };
        assert_eq!(answered("HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: 1\r\n\r\n", silent), None);
        assert_eq!(
            answered("HTTP/1.0 200\r\nConnection: keep-alive, x\r\nX: y\r\nContent-Length: 1\r\n\r\n", silent).unwrap(),
            "HTTP/1.1 200 \r\nDate: now\r\nContent-Length: 1\r\n\r\n"
        );
        let old = Toward { persist: Persist::Close, strip_chunks: true };
        assert_eq!(
            answered("HTTP/1.1 200 OK\r\nDate: x\r\nTransfer-Encoding: chunked\r\n\r\n", old).unwrap(),
            "HTTP/1.1 200 OK\r\nDate: x\r\nConnection: close\r\n\r\n"
        );
        assert_eq!(
            answered("HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n", silent).unwrap(),
            "HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
        );
    }
}
