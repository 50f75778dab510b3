//! Networks as people write them: `10.0.0.0/8`, one address, or `unix` for whoever comes by a Unix socket.

use ipnet::IpNet;
use std::net::IpAddr;

/// One entry of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Network {
    /// Clients of a listener that is a Unix socket, which have no address.
    Unix,
    Ip(IpNet),
}

/// A list: whoever one of its entries names is on it. Clients that come as IPv4 through IPv6 are IPv4 here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    pub unix: bool,
    /// In the order in which they were named, each once, without bits behind the prefix; no IPv4 mapped to IPv6.
    pub ip: Vec<IpNet>,
}

impl Networks {
    /// Nobody is on it.
    pub fn is_empty(&self) -> bool {
        !self.unix && self.ip.is_empty()
    }
}

impl FromIterator<Network> for Networks {
    fn from_iter<I: IntoIterator<Item = Network>>(entries: I) -> Networks {
        let mut list = Networks::default();
        for entry in entries {
            match entry {
                Network::Unix => list.unix = true,
                Network::Ip(net) if list.ip.contains(&net) => {}
                Network::Ip(net) => list.ip.push(net),
            }
        }
        list
    }
}

impl Network {
    /// `address/prefix`, an address alone, or `unix`.
    pub fn parse(text: &str) -> Result<Network, String> {
        let text = text.trim();
        match text {
            "" => return Err("an empty network: remove the comma that is too much".to_owned()),
            "unix" => return Ok(Network::Unix),
            _ => {}
        }
        let (ip, prefix) = text.split_once('/').map_or((text, None), |(ip, prefix)| (ip, Some(prefix)));
        let ip: IpAddr = ip.parse().map_err(|_| why_no_address(text, ip))?;
        let net = match prefix {
            None => IpNet::from(ip),
            Some(prefix) => with_prefix(ip, prefix)?,
        };
        match mapped(net) {
            Some(ipv4) => Err(format!("IPv4 clients are known by their IPv4 address: write '{}'", show(ipv4))),
            None => Ok(Network::Ip(net)),
        }
    }
}

fn with_prefix(ip: IpAddr, prefix: &str) -> Result<IpNet, String> {
    let most = if ip.is_ipv4() { 32 } else { 128 };
    if let Some(length) = prefix.parse().ok().and_then(|mask| ipnet::ip_mask_to_prefix(mask).ok()) {
        return Err(format!("a network's length is a number: write '{ip}/{length}'"));
    }
    // `u8::from_str` takes a sign, a prefix has none.
    let digits = prefix.bytes().all(|b| b.is_ascii_digit());
    let net = prefix.parse().ok().filter(|_| digits).and_then(|length| IpNet::new(ip, length).ok());
    let net = net.ok_or_else(|| format!("'/{prefix}' is not the length of a network: write /0 to /{most}"))?;
    if net.trunc() == net {
        Ok(net)
    } else {
        Err(format!("more bits than its /{prefix}: write '{}' for the network, '{ip}' for the address", net.trunc()))
    }
}

/// The same as a network of IPv4, if it is one that IPv6 sockets show (`::ffff:192.0.2.0/120`): it would match nobody.
fn mapped(net: IpNet) -> Option<IpNet> {
    let IpNet::V6(net) = net else { return None };
    let ipv4 = net.addr().to_ipv4_mapped()?;
    IpNet::new(ipv4.into(), net.prefix_len().checked_sub(96)?).ok()
}

/// As one would write it: an address without its length.
fn show(net: IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() { net.addr().to_string() } else { net.to_string() }
}

fn why_no_address(text: &str, ip: &str) -> String {
    let inside = ip.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if let Ok(socket) = ip.parse::<std::net::SocketAddr>() {
        format!("a network has no port: write '{}'", socket.ip())
    } else if let Some(inside) = inside.filter(|inside| inside.parse::<IpAddr>().is_ok()) {
        format!("no brackets are needed here: write '{}'", text.replace(ip, inside))
    } else if text.starts_with("unix:") {
        "clients by a Unix socket are the one word 'unix'".to_owned()
    } else {
        "not a network: write 10.0.0.0/8, 2001:db8::/32, an IP address or 'unix'".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_addresses_and_sockets() {
        let cases = [
            ("10.0.0.0/8", "10.0.0.0/8"),
            (" 192.0.2.7 ", "192.0.2.7/32"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("::1", "::1/128"),
            ("::/0", "::/0"),
        ];
        for (text, shown) in cases {
            assert_eq!(Network::parse(text), Ok(Network::Ip(shown.parse().unwrap())), "{text}");
        }
        assert_eq!(Network::parse("unix"), Ok(Network::Unix));
    }

    #[test]
    fn wrong_networks_say_what_to_write() {
        let cases = [
            ("", "an empty network: remove the comma that is too much"),
            ("10.0.0.1/8", "more bits than its /8: write '10.0.0.0/8' for the network, '10.0.0.1' for the address"),
            ("fe80::1/64", "more bits than its /64: write 'fe80::/64' for the network, 'fe80::1' for the address"),
            ("10.0.0.0/33", "'/33' is not the length of a network: write /0 to /32"),
            ("::/129", "'/129' is not the length of a network: write /0 to /128"),
            ("10.0.0.0/+8", "'/+8' is not the length of a network: write /0 to /32"),
            ("10.0.0.0/", "'/' is not the length of a network: write /0 to /32"),
            ("10.0.0.0/255.0.0.0", "a network's length is a number: write '10.0.0.0/8'"),
            ("192.0.2.7:80", "a network has no port: write '192.0.2.7'"),
            ("[::1]:80", "a network has no port: write '::1'"),
            ("[2001:db8::]/32", "no brackets are needed here: write '2001:db8::/32'"),
            ("::ffff:192.0.2.7", "IPv4 clients are known by their IPv4 address: write '192.0.2.7'"),
            ("::ffff:10.0.0.0/104", "IPv4 clients are known by their IPv4 address: write '10.0.0.0/8'"),
            ("unix:/run/a", "clients by a Unix socket are the one word 'unix'"),
        ];
        for (text, message) in cases {
            assert_eq!(Network::parse(text).unwrap_err(), message, "{text}");
        }
        for text in ["10.0.0", "10.*", "localhost", "10.0.0.0-10.0.0.9", "all", "10", "fe80::1%2", "/8"] {
            assert!(Network::parse(text).unwrap_err().starts_with("not a network"), "{text}");
        }
    }

    #[test]
    fn a_list_has_each_network_once() {
        let entries = ["10.0.0.0/8", "unix", "::1", "10.0.0.0/8", "unix"];
        let list: Networks = entries.iter().map(|text| Network::parse(text).unwrap()).collect();
        assert!(list.unix && list.ip.len() == 2 && !list.is_empty());
        assert!(Networks::default().is_empty());
    }
}
