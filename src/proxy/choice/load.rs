//! What is known of a server when one is chosen.

use crate::base::Micros;
use crate::base::time::SECOND;
use crate::engine::ServerId;
use crate::proxy::choice::Tried;

/// In this time a latency that is not measured again falls to 1/e.
pub const TAU: Micros = 10 * SECOND;

/// The state of one server, as one worker sees it.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Tells servers apart whatever their order: a hash of the name. Two servers of one set have different ones.
    pub id: u64,
    /// How much it counts now: the configured weight x 100 x how far its slow start is. 0: not to be chosen.
    pub weight: u32,
    /// Requests that it owes an answer to.
    pub in_flight: u32,
    /// It has as many connections, from all workers, as it may.
    pub full: bool,
    /// Of the first byte, in microseconds: the peak, falling towards what came after it. 0: never measured.
    latency: f64,
    measured: Micros,
}

impl Load {
    pub fn new(id: u64, weight: u32) -> Load {
        Load { id, weight, in_flight: 0, full: false, latency: 0.0, measured: 0 }
    }

    /// An answer began `first_byte` after its request. A worse latency counts at once, a better one little by little:
    /// what is slow now is not excused by what was fast before. Not whole numbers, since at 100,000 answers a second each
    /// step down would be rounded away.
    pub fn observe(&mut self, first_byte: Micros, now: Micros) {
        let seen = first_byte.max(1) as f64;
        let kept = self.share_kept(now);
        self.latency = seen.max(self.latency * kept + seen * (1.0 - kept));
        self.measured = now;
    }

    /// Forgets what was measured: it is another server that comes back.
    pub fn forget(&mut self) {
        self.latency = 0.0;
    }

    /// What it counts as at `now`, in microseconds, 0 for unknown: without news it falls, so that a server that was slow gets
    /// another chance.
    pub fn latency(&self, now: Micros) -> f64 {
        if self.latency > 0.0 { self.latency * self.share_kept(now) } else { 0.0 }
    }

    fn share_kept(&self, now: Micros) -> f64 {
        (-(now.saturating_sub(self.measured) as f64) / TAU as f64).exp()
    }
}

/// Those that a request may go to.
#[derive(Clone, Copy)]
pub(super) struct Candidates<'l> {
    pub loads: &'l [Load],
    /// All weights are equal, and none is 0.
    pub uniform: bool,
    pub except: Tried,
}

impl<'l> Candidates<'l> {
    pub fn has(&self, index: usize) -> bool {
        self.loads.get(index).is_some_and(|load| !load.full && load.weight > 0 && !self.except.has(index as ServerId))
    }

    pub fn iter(&self) -> impl Iterator<Item = (usize, &'l Load)> + use<'_, 'l> {
        self.loads.iter().enumerate().filter(|(index, _)| self.has(*index))
    }

    /// All of them, beginning with number `first` where there is one.
    pub fn from(&self, first: usize) -> impl Iterator<Item = (usize, &'l Load)> + use<'_, 'l> {
        let count = self.loads.len();
        (first.min(count)..count)
            .chain(0..first.min(count))
            .filter(|index| self.has(*index))
            .map(|i| (i, &self.loads[i]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_rises_at_once_and_falls_with_time() {
        let mut load = Load::new(1, 100);
        assert_eq!(load.latency(5 * SECOND), 0.0, "unknown");
        load.observe(1000, SECOND);
        load.observe(50_000, SECOND);
        assert_eq!(load.latency(SECOND), 50_000.0);
        load.observe(1000, SECOND);
        assert_eq!(load.latency(SECOND), 50_000.0, "no time has passed");
        load.observe(1000, SECOND + TAU);
        let fallen = load.latency(SECOND + TAU);
        assert!((fallen - (1000.0 + 49_000.0 / std::f64::consts::E)).abs() < 1.0, "{fallen}");
        assert!(load.latency(SECOND + 2 * TAU) < fallen / 2.7, "nothing heard for long");
        load.forget();
        assert_eq!(load.latency(SECOND), 0.0);
    }

    #[test]
    fn latency_falls_at_a_hundred_thousand_answers_a_second() {
        let mut load = Load::new(1, 100);
        load.observe(1000, 0);
        (1..=1_000_000).for_each(|i| load.observe(100, i * 10));
        let fallen = load.latency(TAU);
        assert!((fallen - (100.0 + 900.0 / std::f64::consts::E)).abs() < 1.0, "{fallen}");
    }

    #[test]
    fn a_clock_that_stands_or_a_zero_do_no_harm() {
        let mut load = Load::new(1, 100);
        load.observe(0, 10);
        assert_eq!(load.latency(5), 1.0);
        load.observe(Micros::MAX, Micros::MAX);
        assert!(load.latency(0).is_finite());
    }
}
