//! What the cache does about trouble: it says it once, not a thousand times, and tries again later.

use crate::storage::cache::error::NotStored;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Whether answers are stored. After a failure that the next one would meet as well, it pauses for a second.
#[derive(Debug, Default)]
pub(super) struct Storing {
    /// The second of the last failure and one more; 0 while all is well.
    failed: AtomicU64,
}

impl Storing {
    pub fn pauses(&self, now: u32) -> bool {
        let failed = self.failed.load(Relaxed);
        // That second may have been about to end, so the next one is waited for as well.
        failed != 0 && u64::from(now) <= failed
    }

    pub fn failed(&self, why: &NotStored, now: u32, dir: &Path) {
        if self.failed.swap(u64::from(now) + 1, Relaxed) == 0 {
            log::warn!("answers are not kept in {}: {why}; trying again every second", dir.display());
        }
    }

    pub fn works(&self, dir: &Path) {
        if self.failed.load(Relaxed) != 0 && self.failed.swap(0, Relaxed) != 0 {
            log::info!("answers are kept in {} again", dir.display());
        }
    }

    pub fn is_off(&self) -> bool {
        self.failed.load(Relaxed) != 0
    }
}

/// Lets one message a second through.
#[derive(Debug, Default)]
pub(super) struct Notices {
    last: AtomicU64,
}

impl Notices {
    pub fn due(&self, now: u32) -> bool {
        let now = u64::from(now) + 1;
        self.last.load(Relaxed) != now && self.last.swap(now, Relaxed) != now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn storing_pauses_for_at_least_a_second_and_goes_on() {
        let (storing, dir) = (Storing::default(), Path::new("x"));
        assert!(!storing.pauses(0) && !storing.is_off());
        storing.failed(&NotStored::Full, 7, dir);
        assert!(storing.pauses(7) && storing.pauses(8) && !storing.pauses(9) && storing.is_off());
        storing.failed(&NotStored::Full, 9, dir);
        assert!(storing.pauses(10) && !storing.pauses(11));
        storing.works(dir);
        assert!(!storing.pauses(9) && !storing.is_off());
    }

    #[test]
    fn a_second_has_one_notice() {
        let notices = Notices::default();
        let due: Vec<bool> = [0, 0, 1, 1, 2].into_iter().map(|now| notices.due(now)).collect();
        assert_eq!(due, [true, false, true, false, true]);
    }
}
