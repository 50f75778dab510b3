//! The same server for the same key: rendezvous hashing with weights and bounded loads.
//!
//! Each server has a score for the key, and the highest wins. A server that goes takes only its own keys along, spread over the
//! others, and gets the same ones when it returns; the order of the servers plays no part. With u, a hash of key and server
//! between 0 and 1, the score is -weight / ln u: then each server has the share of keys that its weight says, and a weight that
//! changes moves only the keys that it must. Equal weights need no logarithm, since then the larger u has the larger score.
//!
//! A key that everybody wants would still drown its server. So the winner is the highest that has not more in flight than its share
//! of all that is, and a quarter more (Mirrokni et al., Consistent Hashing with Bounded Loads, 2016), and [`SPARE`].

use super::load::{Candidates, Load};

/// What a server may have in flight beyond the bound. Without this a second request for a key would leave its server
/// whenever there is little to do: with ten requests on ten servers, the bound is two.
pub const SPARE: u32 = 4;

pub(super) fn pick(candidates: &Candidates<'_>, key: u64) -> Option<usize> {
    let (mut weights, mut in_flight) = (0, 1);
    for (_, load) in candidates.iter() {
        weights += u128::from(load.weight);
        in_flight += u128::from(load.in_flight);
    }
    // One at least is free: not all can have more than their share.
    let free = |load: &Load| {
        u128::from(load.in_flight.saturating_sub(SPARE)) * 4 * weights < 5 * in_flight * u128::from(load.weight)
    };
    let those = candidates.iter().filter(|(_, load)| free(load));
    if candidates.uniform {
        highest(those.map(|(index, load)| (index, mixed(key, load.id))))
    } else {
        highest(those.map(|(index, load)| (index, score(mixed(key, load.id), load.weight))))
    }
}

fn highest<S: PartialOrd>(mut scores: impl Iterator<Item = (usize, S)>) -> Option<usize> {
    let first = scores.next()?;
    Some(scores.fold(first, |best, other| if other.1 > best.1 { other } else { best }).0)
}

fn score(hash: u64, weight: u32) -> f64 {
    // Strictly between 0 and 1, by the 52 bits that a float can tell apart there.
    let u = ((hash >> 12) as f64 + 0.5) / (1u64 << 52) as f64;
    -f64::from(weight) / u.ln()
}

/// A hash of a key and a server, both of which are hashes already: the halves of their product, folded, twice.
fn mixed(key: u64, id: u64) -> u64 {
    let fold = |a: u64, b: u64| {
        let product = u128::from(a) * u128::from(b);
        product as u64 ^ (product >> 64) as u64
    };
    let once = fold(key ^ 0x9e37_79b9_7f4a_7c15, id ^ 0xd6e8_feb8_6659_fd93);
    fold(once ^ 0xa076_1d64_78bd_642f ^ id, 0xe703_7ed1_a0b4_28db)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::choice::Tried;
    use std::collections::BTreeMap;
    use xxhash_rust::xxh3::xxh3_64;

    const KEYS: u64 = 50_000;

    fn servers(weights: &[u32]) -> Vec<Load> {
        weights.iter().enumerate().map(|(i, w)| Load::new(xxh3_64(format!("10.0.0.{i}:80").as_bytes()), *w)).collect()
    }

    fn place(loads: &[Load], uniform: bool) -> Vec<u64> {
        let candidates = Candidates { loads, uniform, except: Tried::default() };
        (0..KEYS).map(|key| loads[pick(&candidates, xxh3_64(&key.to_le_bytes())).unwrap()].id).collect()
    }

    fn shares(places: &[u64]) -> BTreeMap<u64, f64> {
        places.iter().fold(BTreeMap::new(), |mut shares, id| {
            *shares.entry(*id).or_default() += 1.0 / KEYS as f64;
            shares
        })
    }

    #[test]
    fn shares_follow_the_weights() {
        for weights in [&[100; 5][..], &[500, 300, 200, 100], &[1; 64], &[100, 1]] {
            let loads = servers(weights);
            let total: u32 = weights.iter().sum();
            let shares = shares(&place(&loads, false));
            for load in &loads {
                let (share, wanted) = (shares[&load.id], f64::from(load.weight) / f64::from(total));
                assert!((share - wanted).abs() < 0.01 + 0.02 * wanted, "{share} of {wanted} in {weights:?}");
            }
        }
    }

    #[test]
    fn equal_weights_need_no_logarithm() {
        let loads = servers(&[100; 9]);
        assert_eq!(place(&loads, true), place(&loads, false));
    }

    #[test]
    fn the_order_of_the_servers_plays_no_part() {
        for weights in [&[100; 7][..], &[500, 300, 200, 100]] {
            let mut loads = servers(weights);
            let before = place(&loads, false);
            loads.reverse();
            loads.rotate_left(2);
            assert_eq!(place(&loads, false), before);
        }
    }

    #[test]
    fn a_server_that_goes_takes_only_its_keys_and_gets_the_same_back() {
        for weights in [&[100; 10][..], &[500, 300, 200, 100]] {
            let mut loads = servers(weights);
            let (all, gone) = (place(&loads, false), loads[1]);
            loads[1].weight = 0;
            let without = place(&loads, false);
            let moved = all.iter().zip(&without).filter(|(a, b)| a != b).count() as f64 / KEYS as f64;
            let (share, total) = (f64::from(gone.weight), f64::from(weights.iter().sum::<u32>()));
            assert!(all.iter().zip(&without).all(|(a, b)| a == b || *a == gone.id), "only its keys move");
            assert!((moved - share / total).abs() < 0.01, "{moved} moved");
            // What it leaves goes to the others by their weights.
            let shares = shares(&without);
            for load in loads.iter().filter(|load| load.weight > 0) {
                let wanted = f64::from(load.weight) / (total - share);
                assert!((shares[&load.id] - wanted).abs() < 0.015);
            }
            loads[1] = gone;
            assert_eq!(place(&loads, false), all);
            // In a slow start its own keys come back bit by bit, and no other one moves.
            loads[1].weight /= 10;
            let slow = place(&loads, false);
            assert!(slow.iter().zip(&all).zip(&without).all(|((slow, all), without)| slow == all || slow == without));
            assert!(slow.contains(&gone.id));
        }
    }

    #[test]
    fn no_server_has_more_than_its_bound_however_popular_a_key_is() {
        let mut loads = servers(&[300, 200, 100, 100]);
        let mut spread = std::collections::BTreeSet::new();
        for total in 0..2000u32 {
            let index = {
                let candidates = Candidates { loads: &loads, uniform: false, except: Tried::default() };
                pick(&candidates, 42).unwrap()
            };
            spread.insert(index);
            loads[index].in_flight += 1;
            let bound = 1.25 * f64::from(total + 1) * f64::from(loads[index].weight) / 700.0;
            assert!(f64::from(loads[index].in_flight) <= bound + 1.0 + f64::from(SPARE));
        }
        assert_eq!(spread.len(), 4);
    }
}
