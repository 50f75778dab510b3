//! Where the key of a request comes from, by which its server is chosen.

use super::cookie;
use crate::http1::request::RequestHead;
use crate::http1::target::Target;
use std::net::IpAddr;
use xxhash_rust::xxh3::xxh3_64;

/// What the requests for one server have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyFrom {
    /// The client's address; of an IPv6 address the network of 64 bits, since a client has all of it to choose from.
    Address,
    /// The target's path, without the query.
    Path,
    /// The first field with this name.
    Header(String),
    /// The first cookie with this name.
    Cookie(String),
}

impl KeyFrom {
    /// A request without the field or cookie has the key of its client's address; clients without an address share one.
    pub fn key(&self, head: &RequestHead<'_, '_>, client: Option<IpAddr>) -> u64 {
        let found = match self {
            KeyFrom::Address => None,
            KeyFrom::Path => Some(path(&head.target)),
            KeyFrom::Header(name) => head.fields.find(name),
            KeyFrom::Cookie(name) => cookie::values(head.fields.named("cookie"), name.as_bytes()).next(),
        };
        found.filter(|bytes| !bytes.is_empty()).map_or_else(|| of_address(client), xxh3_64)
    }
}

fn path<'b>(target: &Target<'b>) -> &'b [u8] {
    let whole = match *target {
        Target::Origin(bytes) => bytes,
        Target::Absolute { rest, .. } => rest,
        Target::Asterisk => b"*",
    };
    match whole.split(|&byte| byte == b'?').next() {
        Some([]) | None => b"/",
        Some(path) => path,
    }
}

fn of_address(client: Option<IpAddr>) -> u64 {
    match client.map(|ip| ip.to_canonical()) {
        Some(IpAddr::V4(ip)) => xxh3_64(&ip.octets()),
        Some(IpAddr::V6(ip)) => xxh3_64(&ip.octets()[..8]),
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::Limits;
    use crate::http1::field::FieldSpace;
    use crate::http1::request;

    fn key(from: &KeyFrom, head: &str, client: &str) -> u64 {
        let bytes = format!("{head}\r\nHost: a\r\n\r\n").replace('\n', "\r\n").replace("\r\r", "\r");
        let mut space = FieldSpace::new();
        from.key(&request::parse(bytes.as_bytes(), &mut space, &Limits::REQUEST).unwrap(), client.parse().ok())
    }

    #[test]
    fn addresses_by_network() {
        let of = |client| key(&KeyFrom::Address, "GET / HTTP/1.1", client);
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.1"));
        assert_eq!(of("no address"), 0);
    }

    #[test]
    fn paths_without_query_and_authority() {
        let of = |target| key(&KeyFrom::Path, &format!("GET {target} HTTP/1.1"), "192.0.2.1");
        assert_eq!(of("/a?b"), of("/a"));
        assert_eq!(of("http://a/a?c?d"), of("/a"));
        assert_eq!(of("http://a"), of("/"));
        assert_eq!(of("http://a?x"), of("/"));
        assert_ne!(of("/a"), of("/A"));
        assert_ne!(key(&KeyFrom::Path, "OPTIONS * HTTP/1.1", ""), of("/"));
    }

    #[test]
    fn fields_and_cookies_and_what_stands_in_for_them() {
        let header = KeyFrom::Header("x-user".to_owned());
        let cookie = KeyFrom::Cookie("id".to_owned());
        let of = |from, fields: &str| key(from, &format!("GET / HTTP/1.1{fields}"), "192.0.2.1");
        let address = of(&KeyFrom::Address, "");
        assert_eq!(of(&header, "\nX-User: ann"), xxh3_64(b"ann"));
        assert_eq!(of(&cookie, "\nCookie: a=b; id=ann\nCookie: id=bob"), xxh3_64(b"ann"));
        assert_eq!(of(&cookie, "\nCookie: a=b\ncookie: id=\"bob\""), xxh3_64(b"bob"));
        for (from, fields) in [(&header, ""), (&header, "\nX-User:"), (&cookie, ""), (&cookie, "\nCookie: id=; ID=x")] {
            assert_eq!(of(from, fields), address, "{fields}");
        }
    }
}
