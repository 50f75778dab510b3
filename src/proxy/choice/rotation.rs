//! Servers in turn: strictly where all weights are equal, else smooth weighted round robin.
//!
//! The smooth kind is nginx's: at each choice every candidate gains its weight, the richest is chosen and pays what all gained.
//! So over as many choices as the weights add up to, each server comes exactly as often as its weight says, and spread out
//! (`a b a c a` rather than `a a a b c`). Ties go to the next one after the server that was chosen last. With that, equal weights
//! make a strict rotation, and a number that says whose turn it is stands for all the accounts: that is the short way, which costs
//! the same for any number of servers.

use super::load::{Candidates, Load};
use crate::engine::ServerId;
use crate::proxy::choice::Tried;

#[derive(Debug)]
pub(super) struct Rotation {
    /// Whose turn it is, among equals.
    next: usize,
    credit: Vec<i64>,
    /// The accounts are kept, rather than all even.
    kept: bool,
}

impl Rotation {
    /// For `count` servers, beginning with number `start` modulo `count`.
    pub fn new(count: usize, start: usize) -> Rotation {
        Rotation { next: start.checked_rem(count).unwrap_or(0), credit: vec![0; count], kept: false }
    }

    pub fn pick(&mut self, candidates: &Candidates<'_>) -> Option<usize> {
        if candidates.uniform { self.strict(candidates) } else { self.smooth(candidates) }
    }

    /// The best of the candidates, the first in turn of several that are equally good.
    pub fn best(&mut self, candidates: &Candidates<'_>, better: impl Fn(usize, usize) -> bool) -> Option<usize> {
        let mut all = candidates.from(self.next).map(|(index, _)| index);
        let first = all.next()?;
        let best = all.fold(first, |best, index| if better(index, best) { index } else { best });
        self.next = best + 1;
        Some(best)
    }

    /// Among equals, whose turn it is: the shortest way, for the case that nothing is amiss. None: look at the others, too.
    #[inline]
    pub fn turn(&mut self, loads: &[Load], except: Tried) -> Option<usize> {
        let chosen = self.next;
        let free = loads.get(chosen).is_some_and(|load| !load.full);
        if !free || except.has(chosen as ServerId) {
            return None;
        }
        self.kept = false;
        self.next = if chosen + 1 == loads.len() { 0 } else { chosen + 1 };
        Some(chosen)
    }

    fn strict(&mut self, candidates: &Candidates<'_>) -> Option<usize> {
        self.kept = false;
        let count = candidates.loads.len();
        for _ in 0..=count {
            let chosen = self.next;
            self.next = if chosen + 1 >= count { 0 } else { chosen + 1 };
            if candidates.has(chosen) {
                return Some(chosen);
            }
        }
        None
    }

    fn smooth(&mut self, candidates: &Candidates<'_>) -> Option<usize> {
        if !self.kept {
            self.credit.fill(0);
            self.kept = true;
        }
        let mut total = 0;
        let mut best: Option<(usize, i64)> = None;
        for (index, load) in candidates.from(self.next) {
            let Some(credit) = self.credit.get_mut(index) else { continue };
            let weight = i64::from(load.weight);
            total += weight;
            *credit += weight;
            if best.is_none_or(|(_, most)| *credit > most) {
                best = Some((index, *credit));
            }
        }
        let (chosen, _) = best?;
        self.credit[chosen] -= total;
        self.next = chosen + 1;
        Some(chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loads(weights: &[u32]) -> Vec<Load> {
        weights.iter().map(|weight| Load::new(0, *weight)).collect()
    }

    fn order(rotation: &mut Rotation, weights: &[u32], uniform: bool, picks: usize) -> Vec<usize> {
        let loads = loads(weights);
        let candidates = Candidates { loads: &loads, uniform, except: Tried::default() };
        (0..picks).filter_map(|_| rotation.pick(&candidates)).collect()
    }

    #[test]
    fn equal_servers_alternate_strictly_from_a_staggered_start() {
        assert_eq!(order(&mut Rotation::new(3, 4), &[100; 3], true, 7), [1, 2, 0, 1, 2, 0, 1]);
        assert!(order(&mut Rotation::new(0, 4), &[], true, 1).is_empty());
    }

    #[test]
    fn weights_are_met_exactly_over_a_period_and_spread_out() {
        assert_eq!(order(&mut Rotation::new(3, 0), &[5, 1, 1], false, 7), [0, 0, 1, 0, 2, 0, 0]);
        for (weights, start) in [(&[300, 200, 100][..], 0), (&[7, 5, 3, 2, 1, 1], 3), (&[1, 1000, 37], 1)] {
            let period = weights.iter().sum::<u32>() as usize;
            let order = order(&mut Rotation::new(weights.len(), start), weights, false, 2 * period);
            for half in order.chunks(period) {
                for (index, weight) in weights.iter().enumerate() {
                    assert_eq!(half.iter().filter(|pick| **pick == index).count(), *weight as usize, "{weights:?}");
                }
            }
        }
    }

    #[test]
    fn the_short_way_and_the_accounts_give_one_order() {
        for start in 0..5 {
            let (mut short, mut long, mut both) =
                (Rotation::new(5, start), Rotation::new(5, start), Rotation::new(5, start));
            let wanted = order(&mut short, &[100; 5], true, 60);
            assert_eq!(order(&mut long, &[100; 5], false, 60), wanted);
            let mixed: Vec<usize> =
                (0..60).flat_map(|i| order(&mut both, &[100; 5], i % 7 < 3 || i % 11 == 0, 1)).collect();
            assert_eq!(mixed, wanted);
        }
    }

    #[test]
    fn a_server_that_goes_and_returns_leaves_a_rotation_of_the_others() {
        let mut rotation = Rotation::new(3, 0);
        assert_eq!(order(&mut rotation, &[100; 3], true, 4), [0, 1, 2, 0]);
        assert_eq!(order(&mut rotation, &[100, 0, 100], false, 4), [2, 0, 2, 0]);
        assert_eq!(order(&mut rotation, &[100; 3], true, 4), [1, 2, 0, 1]);
    }
}
