//! Whom a request comes from, if proxies that we trust stand between: X-Forwarded-For, read from its end.
//!
//! Each proxy appends whom it saw. What trusted ones appended is true; what stands before the first untrusted address is what a stranger
//! claims, and is not looked at. The client is the last address that no trusted proxy has; where nothing readable stands, it is the last
//! one that somebody trusted told of.

use crate::base::Peer;
use crate::proxy::limits::Networks;
use std::net::IpAddr;

/// The proxies that may tell whom they speak for.
#[derive(Clone, Debug, Default)]
pub struct Trusted {
    pub networks: Networks,
    /// Clients of a Unix socket, which are on this machine, are trusted, too.
    pub unix: bool,
}

/// What a request tells of its origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The client; None if it came through a Unix socket and nobody says more.
    pub client: Option<IpAddr>,
    /// The peer is trusted: its X-Forwarded-* fields may go on to the server. Otherwise they must be replaced.
    pub keep: bool,
}

impl Trusted {
    /// Nobody is.
    pub fn is_empty(&self) -> bool {
        !self.unix && self.networks.is_empty()
    }

    pub fn trusts(&self, peer: Peer) -> bool {
        peer.ip().map_or(self.unix, |ip| self.networks.contains(ip))
    }

    /// `values` are those of all X-Forwarded-For fields in their order, each a list.
    pub fn client<'v>(&self, peer: Peer, values: impl Iterator<Item = &'v [u8]>) -> Seen {
        let own = peer.ip();
        if !self.trusts(peer) {
            return Seen { client: own, keep: false };
        }
        // From left to right: an address counts only as long as nothing but trusted ones comes after it.
        let mut client = None;
        for element in values.flat_map(|value| value.split(|&byte| byte == b',')).map(<[u8]>::trim_ascii) {
            client = match address(element) {
                _ if element.is_empty() => client,
                None => None,
                Some(ip) if self.networks.contains(ip) => client.or(Some(ip)),
                Some(ip) => Some(ip),
            };
        }
        Seen { client: client.or(own), keep: true }
    }
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`.
fn address(element: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(element).ok()?;
    let (ip, port): (IpAddr, _) = if let Some(rest) = text.strip_prefix('[') {
        let (ip, port) = rest.split_once(']')?;
        (IpAddr::V6(ip.parse().ok()?), port)
    } else if let Some(colon) = text.find(':').filter(|_| text.contains('.') && !text.starts_with(':')) {
        // With a dot and a colon it is IPv4 with a port, or IPv6 that ends like IPv4.
        match text[..colon].parse() {
            Ok(ip) => (IpAddr::V4(ip), &text[colon..]),
            Err(_) => (IpAddr::V6(text.parse().ok()?), ""),
        }
    } else {
        (text.parse().ok()?, "")
    };
    let digits = port.strip_prefix(':').unwrap_or("0");
    let good = (port.is_empty() || port.starts_with(':')) && digits.bytes().all(|byte| byte.is_ascii_digit());
    (good && digits.parse::<u16>().is_ok()).then_some(ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn trusted() -> Trusted {
        let networks = ["10.0.0.0/8", "2001:db8:1::/48"].map(|net| net.parse().unwrap());
        Trusted { networks: Networks::new(networks), unix: true }
    }

    fn seen(peer: &str, values: &[&str]) -> Seen {
        let peer = if peer == "unix" { Peer::Unix } else { Peer::Ip(format!("{peer}:5000").parse().unwrap()) };
        trusted().client(peer, values.iter().map(|value| value.as_bytes()))
    }

    #[test]
    fn addresses_come_in_several_forms() {
        for (text, ip) in [
            ("192.0.2.1", "192.0.2.1"),
            ("192.0.2.1:80", "192.0.2.1"),
            ("192.0.2.1:65535", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8::192.0.2.1", "2001:db8::c000:201"),
            ("::1", "::1"),
        ] {
            assert_eq!(address(text.as_bytes()), Some(ip.parse().unwrap()), "{text}");
        }
        for text in [
            "",
            "unknown",
            "_hidden",
            "192.0.2",
            "192.0.2.01",
            "192.0.2.1:",
            "192.0.2.1:65536",
            "192.0.2.1:+1",
            "192.0.2.1:1:2",
            "192.0.2.1 ",
            "[192.0.2.1]:80",
            "[::1",
            "[::1]80",
            "::1]:80",
            "fe80::1%eth0",
            "\"192.0.2.1\"",
            "é",
        ] {
            assert_eq!(address(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn the_client_is_the_last_address_that_no_trusted_proxy_has() {
        for (peer, values, client, keep) in [
            // A stranger may say what it likes.
            ("192.0.2.9", &["10.0.0.1"][..], "192.0.2.9", false),
            ("10.0.0.1", &[], "10.0.0.1", true),
            ("10.0.0.1", &["192.0.2.1"], "192.0.2.1", true),
            ("10.0.0.1", &["6.6.6.6, 192.0.2.1, 10.0.0.2"], "192.0.2.1", true),
            ("10.0.0.1", &["6.6.6.6", "192.0.2.1:99", "[2001:db8:1::5]:80, 10.0.0.2"], "192.0.2.1", true),
            // Only proxies: the one that began.
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3", true),
            // What cannot be read ends the walk.
            ("10.0.0.1", &["192.0.2.1, unknown"], "10.0.0.1", true),
            ("10.0.0.1", &["192.0.2.1, garbage, 10.0.0.3, 10.0.0.2"], "10.0.0.3", true),
            ("10.0.0.1", &[" , 192.0.2.1 ,, ", ""], "192.0.2.1", true),
        ] {
            assert_eq!(seen(peer, values), Seen { client: Some(client.parse().unwrap()), keep }, "{peer} {values:?}");
        }
    }

    #[test]
    fn a_unix_socket_is_trusted_if_the_settings_say_so() {
        assert_eq!(seen("unix", &["192.0.2.1"]).client, Some("192.0.2.1".parse().unwrap()));
        assert_eq!(seen("unix", &[]), Seen { client: None, keep: true });
        let none = Trusted::default().client(Peer::Unix, [&b"192.0.2.1"[..]].into_iter());
        assert_eq!(none, Seen { client: None, keep: false });
    }

    /// The walk from the right, as it is described.
    fn walked(peer: IpAddr, list: &[&str]) -> IpAddr {
        let mut last = peer;
        for element in list.iter().rev().filter(|element| !element.is_empty()) {
            let Some(ip) = address(element.as_bytes()) else { break };
            last = ip;
            if !trusted().networks.contains(ip) {
                break;
            }
        }
        last
    }

    proptest! {
        #[test]
        fn one_pass_from_the_left_finds_what_a_walk_from_the_right_does(
            list in proptest::collection::vec(
                proptest::sample::select(vec!["10.0.0.2", "10.0.0.3:1", "192.0.2.1", "192.0.2.2", "junk", ""]), 0..8),
            cut in 0..8usize,
        ) {
            let (first, second) = list.split_at(cut.min(list.len()));
            let values = [first.join(","), second.join(" , ")];
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            let peer = "10.0.0.1".parse().unwrap();
            prop_assert_eq!(seen("10.0.0.1", &values).client, Some(walked(peer, &list)));
        }
    }
}
