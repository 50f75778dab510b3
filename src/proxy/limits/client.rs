//! Whom limits count as one client, and the table in which clients are found: sets of one cache line each.

use std::net::IpAddr;
use std::sync::atomic::AtomicU64;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// One client: an IPv4 address, or all of an IPv6 network of 64 bits, since whoever has one address of it has them all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Client {
    V4([u8; 4]),
    V6([u8; 8]),
}

impl Client {
    /// An IPv4 address that came through an IPv6 socket is an IPv4 address.
    pub fn of(ip: IpAddr) -> Client {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Client::V4(ip.octets()),
            IpAddr::V6(ip) => {
                let [a, b, c, d, e, f, g, h, ..] = ip.octets();
                Client::V6([a, b, c, d, e, f, g, h])
            }
        }
    }
}

/// Places in a set.
pub(super) const PLACES: usize = 8;

/// One cache line: all that is read to find a client.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct Set(pub [AtomicU64; PLACES]);

/// Where a client is looked for.
pub(super) struct Spot {
    /// The number of its set.
    pub set: usize,
    /// What tells it from the others there. Never 0.
    pub tag: u64,
}

/// A table of words, one of a client, in sets. A word of 0 is a free place.
#[derive(Debug)]
pub(super) struct Table {
    sets: Box<[Set]>,
    seed: u64,
    tag_bits: u32,
}

/// Tickets number the places in 32 bits.
const MOST_SETS: usize = 1 << 24;

impl Table {
    /// Room for so many clients at least. All of it is allocated here.
    pub fn new(clients: usize, seed: u64, tag_bits: u32) -> Table {
        let sets = clients.div_ceil(PLACES).clamp(1, MOST_SETS);
        Table { sets: (0..sets).map(|_| Set::default()).collect(), seed, tag_bits }
    }

    /// Who does not know the seed cannot tell which clients share a set.
    pub fn spot(&self, client: Client) -> Spot {
        let hash = match client {
            Client::V4(octets) => xxh3_64_with_seed(&octets, self.seed),
            Client::V6(octets) => xxh3_64_with_seed(&octets, self.seed),
        };
        // The set comes from the upper bits, the tag from the lower ones.
        let set = (u128::from(hash) * self.sets.len() as u128) >> 64;
        Spot { set: set as usize, tag: (hash & ((1 << self.tag_bits) - 1)).max(1) }
    }

    pub fn set(&self, spot: &Spot) -> &Set {
        &self.sets[spot.set]
    }

    /// The place with this number: `set * PLACES + place`.
    pub fn place(&self, number: u32) -> Option<&AtomicU64> {
        let number = number as usize;
        self.sets.get(number / PLACES).map(|set| &set.0[number % PLACES])
    }

    pub fn places(&self) -> usize {
        self.sets.len() * PLACES
    }

    /// Places that are not free.
    pub fn taken(&self) -> usize {
        let words = self.sets.iter().flat_map(|set| &set.0);
        words.filter(|word| word.load(std::sync::atomic::Ordering::Relaxed) != 0).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_an_ipv4_address_or_a_64_bit_network() {
        let client = |ip: &str| Client::of(ip.parse().unwrap());
        assert_eq!(client("192.0.2.1"), client("::ffff:192.0.2.1"));
        assert_ne!(client("192.0.2.1"), client("192.0.2.2"));
        assert_eq!(client("2001:db8::1"), client("2001:db8::ffff:1:2:3"));
        assert_ne!(client("2001:db8::1"), client("2001:db8:0:1::1"));
    }

    #[test]
    fn clients_spread_over_the_sets_differently_with_each_seed() {
        let (one, other) = (Table::new(8000, 1, 22), Table::new(8000, 2, 22));
        assert_eq!((one.places(), one.taken(), size_of::<Set>()), (8000, 0, 64));
        let mut per_set = vec![0; 1000];
        let mut same = 0;
        for n in 0..8000u32 {
            let client = Client::V4(n.to_be_bytes());
            let spot = one.spot(client);
            per_set[spot.set] += 1;
            same += usize::from(other.spot(client).set == spot.set);
            assert!(spot.tag > 0 && spot.tag < 1 << 22);
        }
        assert!(per_set.iter().all(|&n| n < 30), "{:?}", per_set.iter().max());
        assert!(same < 40, "{same} are in the same set with another seed");
    }
}
