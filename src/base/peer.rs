//! Who is at the other end of a client connection.

use std::fmt;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};

/// The address a client connection came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    Ip(SocketAddr),
    /// A Unix socket: its clients have no address.
    Unix,
}

impl Peer {
    /// The address without the port; an IPv4 address that came through an IPv6 socket is shown as IPv4.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Peer::Ip(addr) => Some(addr.ip().to_canonical()),
            Peer::Unix => None,
        }
    }
}

/// Appends the address as text; an IPv4 address without `fmt`, since one is written for each request.
pub fn write_ip(out: &mut Vec<u8>, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => {
            for (index, octet) in ip.octets().into_iter().enumerate() {
                if index > 0 {
                    out.push(b'.');
                }
                out.extend_from_slice(itoa::Buffer::new().format(octet).as_bytes());
            }
        }
        // Writing to a Vec cannot fail.
        IpAddr::V6(ip) => drop(write!(out, "{ip}")),
    }
}

impl fmt::Display for Peer {
    /// `192.0.2.1:5000`, `[2001:db8::1]:5000`, `unix:`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Ip(addr) => SocketAddr::new(addr.ip().to_canonical(), addr.port()).fmt(f),
            Peer::Unix => f.write_str("unix:"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_addresses_are_shown_as_ipv4() {
        let peer = Peer::Ip("[::ffff:192.0.2.7]:80".parse().unwrap());
        assert_eq!(peer.to_string(), "192.0.2.7:80");
        assert_eq!(peer.ip().unwrap().to_string(), "192.0.2.7");
        assert_eq!(Peer::Unix.to_string(), "unix:");
        for ip in ["192.0.2.7", "0.10.200.255", "2001:db8::1"] {
            let mut out = Vec::new();
            write_ip(&mut out, ip.parse().unwrap());
            assert_eq!(out, ip.as_bytes());
        }
    }
}
