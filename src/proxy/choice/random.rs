//! Chance for the choices: a small generator with a seed (xorshift64*), so that a run can be repeated.

#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    /// Any seed is fine, 0 too.
    pub fn new(seed: u64) -> Random {
        Random((seed ^ 0x9e37_79b9_7f4a_7c15).max(1))
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_spread_evenly_and_repeatable() {
        for seed in [0, 1, 0x9e37_79b9_7f4a_7c15, u64::MAX] {
            let (mut random, mut same, mut counts) = (Random::new(seed), Random::new(seed), [0; 10]);
            for _ in 0..100_000 {
                let number = random.below(10);
                assert_eq!(number, same.below(10));
                counts[number as usize] += 1;
            }
            assert!(counts.iter().all(|count| (9_500..10_500).contains(count)), "{counts:?}");
        }
    }
}
