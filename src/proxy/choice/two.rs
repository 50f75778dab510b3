//! The power of two choices: of two servers drawn by weight, the one that is expected to answer sooner.
//!
//! That is the one with less latency x (requests in flight + 1) / weight. Drawing two rather than looking at all keeps a herd of
//! workers from running to the one server that looks best at the moment.

use super::load::{Candidates, Load};
use super::random::Random;
use crate::base::Micros;

pub(super) fn pick(candidates: &Candidates<'_>, random: &mut Random, now: Micros) -> Option<usize> {
    let (first, second) = match equals(candidates, random) {
        Some(two) => two,
        None => by_weight(candidates, random)?,
    };
    let loads = candidates.loads;
    Some(if is_less(&loads[second], &loads[first], now) { second } else { first })
}

/// Two different ones where all weigh the same: none needs to be looked at but these two. None if it is not so simple.
fn equals(candidates: &Candidates<'_>, random: &mut Random) -> Option<(usize, usize)> {
    let count = candidates.loads.len() as u64;
    if !candidates.uniform || count < 2 {
        return None;
    }
    let first = random.below(count);
    let other = random.below(count - 1);
    let second = if other >= first { other + 1 } else { other };
    let two = (first as usize, second as usize);
    (candidates.has(two.0) && candidates.has(two.1)).then_some(two)
}

/// Two different ones, or twice the same if there is only one.
fn by_weight(candidates: &Candidates<'_>, random: &mut Random) -> Option<(usize, usize)> {
    let total: u64 = candidates.iter().map(|(_, load)| u64::from(load.weight)).sum();
    let first = drawn(candidates, None, random, total)?;
    let rest = total - u64::from(candidates.loads[first].weight);
    Some((first, drawn(candidates, Some(first), random, rest).unwrap_or(first)))
}

/// One of the candidates but `without`, which weigh `total` together.
fn drawn(candidates: &Candidates<'_>, without: Option<usize>, random: &mut Random, total: u64) -> Option<usize> {
    if total == 0 {
        return None;
    }
    let mut at = random.below(total);
    let mut others = candidates.iter().filter(|(index, _)| Some(*index) != without);
    others.find_map(|(index, load)| {
        let weight = u64::from(load.weight);
        let found = at < weight;
        at = at.wrapping_sub(weight);
        found.then_some(index)
    })
}

/// Does `a` cost less than `b`? A server that was never measured and has nothing in flight costs nothing, so that it is tried; one
/// that was never measured but owes answers counts as quick as the other, so that one that never answers does not draw them all.
fn is_less(a: &Load, b: &Load, now: Micros) -> bool {
    let known = |load: &Load, other: &Load| match load.latency(now) {
        0.0 if load.in_flight > 0 => other.latency(now).max(1.0),
        latency => latency,
    };
    let cost =
        |load: &Load, other: &Load| known(load, other) * (f64::from(load.in_flight) + 1.0) * f64::from(other.weight);
    cost(a, b) < cost(b, a)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::choice::Tried;

    fn share(loads: &[Load], uniform: bool) -> Vec<u32> {
        let candidates = Candidates { loads, uniform, except: Tried::default() };
        let (mut random, mut counts) = (Random::new(7), vec![0; loads.len()]);
        (0..10_000).filter_map(|_| pick(&candidates, &mut random, 0)).for_each(|index| counts[index] += 1);
        counts
    }

    #[test]
    fn the_worst_is_never_chosen_and_the_best_most_often() {
        let mut loads = [Load::new(1, 100); 4];
        for (index, load) in loads.iter_mut().enumerate() {
            load.observe(1000 * (index as u64 + 1), 0);
        }
        for uniform in [true, false] {
            let counts = share(&loads, uniform);
            assert!((4800..5200).contains(&counts[0]) && counts[3] == 0, "{counts:?}");
        }
        loads[0].in_flight = 9;
        assert_eq!(share(&loads, true)[0], 0);
    }

    #[test]
    fn a_new_server_is_tried_but_not_drowned() {
        let mut loads = [Load::new(1, 100); 2];
        loads[0].observe(1000, 0);
        loads[0].in_flight = 3;
        assert_eq!(share(&loads, true), [0, 10_000], "never tried");
        loads[1].in_flight = 4;
        assert_eq!(share(&loads, true), [10_000, 0], "it has not answered yet and owes more than the other");
    }
}
