//! Lists of networks, and who may come in.

use ipnet::IpNet;
use std::net::IpAddr;

/// A set of addresses given as networks: ranges in order that neither overlap nor touch, so that ten thousand of them cost 14 steps.
///
/// An IPv4 address that is written as an IPv6 one (`::ffff:192.0.2.1`) is an IPv4 address, in the list as well as where it is looked
/// for. So `::/0` means every IPv6 client, and no IPv4 client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

impl Networks {
    /// The addresses of all these networks. Bits of an address behind its network's length do not matter.
    pub fn new(networks: impl IntoIterator<Item = IpNet>) -> Networks {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for network in networks {
            match (network.network(), network.broadcast()) {
                (IpAddr::V4(first), IpAddr::V4(last)) => v4.push((first.to_bits(), last.to_bits())),
                (IpAddr::V6(first), IpAddr::V6(last)) => match (first.to_ipv4_mapped(), last.to_ipv4_mapped()) {
                    (Some(first), Some(last)) => v4.push((first.to_bits(), last.to_bits())),
                    _ => v6.push((first.to_bits(), last.to_bits())),
                },
                // A network's ends are of one kind.
                _ => {}
            }
        }
        Networks { v4: merged(v4, |end| end.checked_add(1)), v6: merged(v6, |end| end.checked_add(1)) }
    }

    pub fn contains(&self, ip: IpAddr) -> bool {
        match ip.to_canonical() {
            IpAddr::V4(ip) => holds(&self.v4, ip.to_bits()),
            IpAddr::V6(ip) => holds(&self.v6, ip.to_bits()),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }
}

/// Sorts ranges (first and last address) and makes one of those that overlap or touch.
fn merged<T: Copy + Ord>(mut ranges: Vec<(T, T)>, next: impl Fn(T) -> Option<T>) -> Vec<(T, T)> {
    ranges.sort_unstable();
    ranges.dedup_by(|later, earlier| {
        let meets = next(earlier.1).is_none_or(|next| later.0 <= next);
        if meets {
            earlier.1 = earlier.1.max(later.1);
        }
        meets
    });
    ranges.shrink_to_fit();
    ranges
}

fn holds<T: Copy + Ord>(ranges: &[(T, T)], address: T) -> bool {
    let after = ranges.partition_point(|range| range.0 <= address);
    after > 0 && address <= ranges[after - 1].1
}

/// Who may come in. Deny wins: which of two networks is the narrower one does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Nobody else may; `None`: everybody may.
    pub allow: Option<Networks>,
    /// Who may not, even if it is allowed.
    pub deny: Networks,
    /// Clients of a Unix socket, which have no address, may not.
    pub no_unix: bool,
}

impl Access {
    pub fn permits(&self, ip: IpAddr) -> bool {
        !self.deny.contains(ip) && self.allow.as_ref().is_none_or(|allow| allow.contains(ip))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn networks(list: &str) -> Networks {
        Networks::new(list.split_whitespace().map(|net| net.parse().unwrap()))
    }

    #[test]
    fn addresses_are_found_at_both_ends_of_their_networks_and_not_beyond() {
        let list = networks("10.0.0.0/8 192.168.1.7/32 2001:db8::/32 ::1/128 172.16.5.9/12");
        for (ip, inside) in [
            ("9.255.255.255", false),
            ("10.0.0.0", true),
            ("10.255.255.255", true),
            ("11.0.0.0", false),
            ("172.16.0.0", true),
            ("172.31.255.255", true),
            ("192.168.1.6", false),
            ("192.168.1.7", true),
            ("192.168.1.8", false),
            ("::ffff:10.1.2.3", true),
            ("::10.1.2.3", false),
            ("2001:db7:ffff::", false),
            ("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", true),
            ("2001:db9::", false),
            ("::1", true),
            ("::2", false),
        ] {
            assert_eq!(list.contains(ip.parse().unwrap()), inside, "{ip}");
        }
        assert!(!Networks::default().contains("::1".parse().unwrap()) && Networks::default().is_empty());
    }

    #[test]
    fn everything_of_one_kind_is_nothing_of_the_other() {
        let (four, six) = ("192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap());
        assert!(networks("0.0.0.0/0").contains(four) && !networks("0.0.0.0/0").contains(six));
        assert!(networks("::/0").contains(six) && !networks("::/0").contains(four));
        assert_eq!(networks("::ffff:10.0.0.0/104"), networks("10.0.0.0/8"));
    }

    #[test]
    fn networks_that_overlap_or_touch_become_one() {
        assert_eq!(networks("10.0.0.0/9 10.128.0.0/9 10.1.0.0/16 10.0.0.0/9"), networks("10.0.0.0/8"));
        assert_eq!(networks("0.0.0.0/0 255.255.255.255/32"), networks("0.0.0.0/0"));
        assert_eq!(networks("::/1 8000::/1 ::/0"), networks("::/0"));
    }

    #[test]
    fn deny_wins_and_a_list_of_allowed_ones_shuts_out_the_others() {
        let permits = |allow: &str, deny: &str, ip: &str| {
            let allow = Some(networks(allow)).filter(|allow| !allow.is_empty());
            Access { allow, deny: networks(deny), no_unix: false }.permits(ip.parse().unwrap())
        };
        assert!(permits("", "", "192.0.2.1"));
        assert!(permits("", "10.0.0.0/8", "192.0.2.1") && !permits("", "10.0.0.0/8", "10.1.1.1"));
        assert!(permits("10.0.0.0/8", "", "10.1.1.1") && !permits("10.0.0.0/8", "", "192.0.2.1"));
        assert!(!permits("10.1.1.1/32", "10.0.0.0/8", "10.1.1.1"), "though the allowed one is narrower");
        assert!(!permits("10.0.0.0/8", "", "2001:db8::1"), "an allowed IPv4 network shuts out IPv6");
        let unix_only = Access { allow: Some(Networks::default()), ..Access::default() };
        assert!(!unix_only.permits(IpAddr::from([192, 0, 2, 1])), "a list of nobody with an address is a list");
    }

    #[test]
    fn ten_thousand_networks_are_one_list() {
        let list = Networks::new((0..10_000u32).map(|n| {
            let ip = IpAddr::from((n * 1024).to_be_bytes());
            IpNet::new(ip, 24).unwrap()
        }));
        assert_eq!(list.v4.len(), 10_000);
        assert!(list.contains(IpAddr::from((9_999 * 1024 + 255u32).to_be_bytes())));
        assert!(!list.contains(IpAddr::from((9_999 * 1024 + 256u32).to_be_bytes())));
    }

    proptest! {
        #[test]
        fn a_list_finds_what_its_networks_contain(
            nets in proptest::collection::vec((0..64u32, 24..=32u8, any::<bool>()), 0..20),
            asked in proptest::collection::vec((0..16_384u32, any::<bool>()), 20),
        ) {
            let address = |n: u32, six: bool| -> IpAddr {
                if six { (0x2001_0db8_u128 << 96 | u128::from(n)).to_be_bytes().into() } else { n.to_be_bytes().into() }
            };
            let nets: Vec<IpNet> = nets
                .into_iter()
                .map(|(n, len, six)| IpNet::new(address(n * 251, six), if six { len + 96 } else { len }).unwrap())
                .collect();
            let list = Networks::new(nets.iter().copied());
            for (n, six) in asked {
                let ip = address(n, six);
                prop_assert_eq!(list.contains(ip), nets.iter().any(|net| net.contains(&ip)));
            }
        }
    }
}
