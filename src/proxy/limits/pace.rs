//! A least rate for a peer that sends or takes a body: time in which we wait for it is drawn from a credit, bytes fill it up.
//!
//! Who keeps the rate lives for ever; who does not, dies when the credit is spent, however regularly its single bytes come. Time in which
//! we do not wait for the peer (because the other side is slow) costs it nothing.

use crate::base::Micros;
use crate::base::time::SECOND;

/// What a peer must do at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Least {
    /// The credit that it begins with, and the most that it can have: how long a peer may be silent.
    pub grace: Micros,
    /// Bytes per second. With 0 any byte gives the whole grace again: then this is a limit for the time between two bytes.
    pub rate: u32,
}

/// How much longer a peer may be slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    left: Micros,
}

impl Pace {
    pub fn new(grace: Micros) -> Pace {
        Pace { left: grace }
    }

    /// After we had waited for the peer so long, so many bytes moved (or none: we stop waiting for it).
    pub fn moved(&mut self, bytes: u64, waited: Micros, least: Least) {
        let left = self.left.saturating_sub(waited);
        let gain = match (bytes, u64::from(least.rate)) {
            (0, _) => 0,
            (_, 0) => least.grace,
            (bytes, rate) => bytes.saturating_mul(SECOND).div_ceil(rate),
        };
        self.left = left.saturating_add(gain).min(least.grace);
    }

    /// How much longer we wait for a byte, from the moment we begin to.
    pub fn left(self) -> Micros {
        self.left
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MILLI: Micros = SECOND / 1000;

    /// A peer of which `bytes` come every `every`: the moment at which it is cut, if that is within a day.
    fn life(bytes: u64, every: Micros, least: Least) -> Option<Micros> {
        let (mut pace, mut now) = (Pace::new(least.grace), 0);
        while now < 86_400 * SECOND {
            if pace.left() < every {
                return Some(now + pace.left());
            }
            now += every;
            pace.moved(bytes, every, least);
        }
        None
    }

    #[test]
    fn peers_and_their_fates() {
        let least = Least { grace: 10 * SECOND, rate: 500 };
        for (peer, bytes, every, fate) in [
            ("mute", 0, SECOND, Some(10 * SECOND)),
            ("a byte every 9 s", 1, 9 * SECOND, Some(10 * SECOND + 2 * MILLI)),
            ("a byte every second", 1, SECOND, Some(10 * SECOND + 20 * MILLI)),
            ("half the rate", 250, SECOND, Some(19_500 * MILLI)),
            ("just below the rate", 499, SECOND, Some(4_501 * SECOND)),
            ("the rate", 500, SECOND, None),
            ("twice the rate", 1000, SECOND, None),
            ("the rate in single bytes", 1, 2 * MILLI, None),
            ("the rate in lumps", 4500, 9 * SECOND, None),
            ("lumps that are too rare", 1 << 30, 11 * SECOND, Some(10 * SECOND)),
        ] {
            let life = life(bytes, every, least);
            let close = match (life, fate) {
                (Some(life), Some(fate)) => life.abs_diff(fate) <= fate / 500,
                (life, fate) => life == fate,
            };
            assert!(close, "{peer}: {life:?}, not {fate:?}");
        }
    }

    #[test]
    fn without_a_rate_it_is_the_time_between_two_bytes_that_counts() {
        let least = Least { grace: 30 * SECOND, rate: 0 };
        assert_eq!(life(1, 29 * SECOND, least), None);
        assert_eq!(life(1, 31 * SECOND, least), Some(30 * SECOND));
    }

    #[test]
    fn nothing_overflows_and_the_state_is_one_word() {
        assert_eq!(size_of::<Pace>(), 8);
        let mut pace = Pace::new(u64::MAX);
        pace.moved(u64::MAX, 1, Least { grace: u64::MAX, rate: 1 });
        assert_eq!(pace.left(), u64::MAX);
        pace.moved(0, u64::MAX, Least { grace: 5, rate: u32::MAX });
        assert_eq!(pace.left(), 0);
    }

    proptest! {
        #[test]
        fn who_lives_long_sent_enough(
            moves in proptest::collection::vec((0..2000u64, 0..3 * SECOND), 1..200),
            rate in 1..5000u32,
            grace in 1..20 * SECOND,
        ) {
            let least = Least { grace, rate };
            let (mut pace, mut bytes, mut time) = (Pace::new(grace), 0, 0);
            for (count, &(more, waited)) in moves.iter().enumerate() {
                if waited > pace.left() {
                    break;
                }
                (bytes, time) = (bytes + more, time + waited);
                pace.moved(more, waited, least);
                prop_assert!(pace.left() <= grace);
                let owed = time.saturating_sub(grace + count as u64 + 1);
                prop_assert!(bytes * SECOND / u64::from(rate) >= owed, "{bytes} bytes in {time}");
            }
        }
    }
}
