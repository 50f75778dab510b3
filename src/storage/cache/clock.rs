//! The cache's own clock: whole seconds that pass while the cache is in use, whatever is done to the wall clock.
//!
//! While it runs it follows CLOCK_BOOTTIME, which nobody can set and which counts sleep. From run to run on one boot
//! as well. Only across a boot the wall clock is asked how long that took; if it went back, no time has passed.

use crate::cache::SavedClock;
use rustix::time::{ClockId, clock_gettime};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use xxhash_rust::xxh3::xxh3_64;

/// A boottime that goes back by less is a reading that came late; by more, another clock (a restored container).
const LATE: u32 = 10;

/// What the clocks of the system say.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    pub boot_seconds: u64,
    pub wall_seconds: u64,
}

/// Where the time comes from.
pub struct Time {
    /// Differs from boot to boot; 0 is unknown.
    pub boot: u64,
    pub read: Box<dyn Fn() -> Reading + Send + Sync>,
}

impl Time {
    /// The system's time.
    pub fn system() -> Time {
        let boot = std::fs::read("/proc/sys/kernel/random/boot_id").map_or(0, |id| xxh3_64(&id));
        let seconds = |clock| u64::try_from(clock_gettime(clock).tv_sec).unwrap_or(0);
        let read =
            move || Reading { boot_seconds: seconds(ClockId::Boottime), wall_seconds: seconds(ClockId::Realtime) };
        Time { boot, read: Box::new(read) }
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Time").field("boot", &self.boot).finish_non_exhaustive()
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Clock {
    time: Time,
    /// The cache's seconds in the low half, the boottime at which they were counted in the high one.
    state: AtomicU64,
}

impl Clock {
    /// Goes on from where the clock was saved; starts at 1 if it never was.
    pub fn resume(time: Time, saved: Option<SavedClock>) -> Clock {
        let reading = (time.read)();
        let seconds = saved.map_or(1, |saved| {
            let elapsed = if saved.boot == time.boot && time.boot != 0 {
                reading.boot_seconds.saturating_sub(saved.boot_seconds)
            } else {
                reading.wall_seconds.saturating_sub(saved.wall_seconds)
            };
            saved.cache_seconds.saturating_add(elapsed)
        });
        let seconds = u32::try_from(seconds).unwrap_or(u32::MAX);
        Clock { time, state: AtomicU64::new(pack(low(reading.boot_seconds), seconds)) }
    }

    /// Never goes back.
    pub fn now(&self) -> u32 {
        self.at((self.time.read)().boot_seconds)
    }

    fn at(&self, boot_seconds: u64) -> u32 {
        let boot = low(boot_seconds);
        let mut state = self.state.load(Relaxed);
        loop {
            let (last, seconds) = ((state >> 32) as u32, state as u32);
            if boot <= last && last - boot < LATE {
                return seconds;
            }
            let next = seconds.saturating_add(boot.saturating_sub(last));
            match self.state.compare_exchange_weak(state, pack(boot, next), Relaxed, Relaxed) {
                Ok(_) => return next,
                Err(other) => state = other,
            }
        }
    }

    /// What [`Clock::resume`] needs.
    pub fn save(&self) -> SavedClock {
        let Reading { boot_seconds, wall_seconds } = (self.time.read)();
        let cache_seconds = u64::from(self.at(boot_seconds));
        SavedClock { cache_seconds, boot: self.time.boot, boot_seconds, wall_seconds }
    }
}

/// Seconds since boot fit 32 bits for 136 years.
fn low(seconds: u64) -> u32 {
    u32::try_from(seconds).unwrap_or(u32::MAX)
}

fn pack(boot: u32, seconds: u32) -> u64 {
    u64::from(boot) << 32 | u64::from(seconds)
}

/// A saved clock as a line of text, for the file beside the index that outlives it.
pub(super) fn to_line(saved: &SavedClock) -> String {
    let SavedClock { cache_seconds, boot, boot_seconds, wall_seconds } = saved;
    let numbers = format!("{cache_seconds:016x} {boot:016x} {boot_seconds:016x} {wall_seconds:016x}");
    format!("{numbers} {:016x}\n", xxh3_64(numbers.as_bytes()))
}

/// None if a single digit is wrong.
pub(super) fn from_line(line: &str) -> Option<SavedClock> {
    let (numbers, sum) = line.strip_suffix('\n')?.rsplit_once(' ')?;
    if u64::from_str_radix(sum, 16).ok()? != xxh3_64(numbers.as_bytes()) {
        return None;
    }
    let mut numbers = numbers.split(' ').map(|number| u64::from_str_radix(number, 16).ok());
    let mut next = || numbers.next().flatten();
    Some(SavedClock { cache_seconds: next()?, boot: next()?, boot_seconds: next()?, wall_seconds: next()? })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::sync::Arc;

    const DAYS: u64 = 86_400;

    /// A time that tests set.
    #[derive(Clone, Debug)]
    pub struct Hands {
        pub boot: Arc<AtomicU64>,
        pub wall: Arc<AtomicU64>,
    }

    impl Hands {
        pub fn new() -> Hands {
            Hands { boot: Arc::new(AtomicU64::new(1_000)), wall: Arc::new(AtomicU64::new(20_000 * DAYS)) }
        }

        pub fn pass(&self, seconds: u64) {
            self.boot.fetch_add(seconds, Relaxed);
            self.wall.fetch_add(seconds, Relaxed);
        }

        pub fn turn_wall(&self, by: i64) {
            self.wall.fetch_add(by as u64, Relaxed);
        }

        pub fn time(&self, boot: u64) -> Time {
            let hands = self.clone();
            let read =
                move || Reading { boot_seconds: hands.boot.load(Relaxed), wall_seconds: hands.wall.load(Relaxed) };
            Time { boot, read: Box::new(read) }
        }
    }

    #[test]
    fn the_wall_clock_means_nothing_while_it_runs() {
        let hands = Hands::new();
        let clock = Clock::resume(hands.time(1), None);
        assert_eq!(clock.now(), 1);
        for days in [3, -6] {
            hands.turn_wall(days * DAYS as i64);
            hands.pass(5);
        }
        assert_eq!(clock.now(), 11);
    }

    #[test]
    fn a_restart_on_the_same_boot_counts_by_the_boottime() {
        for days in [-3, 0, 3] {
            let hands = Hands::new();
            let saved = Clock::resume(hands.time(1), None).save();
            hands.turn_wall(days * DAYS as i64);
            hands.pass(50);
            assert_eq!(Clock::resume(hands.time(1), Some(saved)).now(), 51);
            hands.boot.store(10, Relaxed);
            assert_eq!(Clock::resume(hands.time(1), Some(saved)).now(), 1, "no time passes backwards");
        }
    }

    #[test]
    fn across_a_boot_the_wall_clock_counts_and_never_backwards() {
        for (days, then) in [(-3, 1), (0, 101), (3, 101 + 3 * DAYS as u32)] {
            let hands = Hands::new();
            let saved = Clock::resume(hands.time(1), None).save();
            hands.pass(100);
            hands.boot.store(7, Relaxed);
            hands.turn_wall(days * DAYS as i64);
            for boot in [2, 0] {
                let clock = Clock::resume(hands.time(boot), Some(saved));
                assert_eq!(clock.now(), then);
                hands.boot.fetch_add(4, Relaxed);
                assert_eq!(clock.now(), then + 4);
                hands.boot.store(7, Relaxed);
            }
        }
    }

    #[test]
    fn a_boottime_that_goes_back_stops_the_clock_for_a_moment_only() {
        let hands = Hands::new();
        let clock = Clock::resume(hands.time(1), None);
        hands.boot.store(998, Relaxed);
        assert_eq!(clock.now(), 1, "a late reading");
        hands.boot.store(1_001, Relaxed);
        assert_eq!(clock.now(), 2);
        hands.boot.store(30, Relaxed);
        assert_eq!(clock.now(), 2);
        hands.boot.store(35, Relaxed);
        assert_eq!(clock.now(), 7);
        hands.boot.store(u64::MAX, Relaxed);
        assert_eq!(clock.now(), u32::MAX - 28);
    }

    #[test]
    fn a_line_with_a_wrong_digit_is_none() {
        let saved = SavedClock { cache_seconds: 1, boot: u64::MAX, boot_seconds: 3, wall_seconds: 4 };
        let line = to_line(&saved);
        let read = from_line(&line).unwrap();
        assert_eq!(format!("{read:?}"), format!("{saved:?}"));
        for at in 0..line.len() {
            let mut wrong = line.clone().into_bytes();
            wrong[at] ^= 1;
            assert!(std::str::from_utf8(&wrong).ok().and_then(from_line).is_none());
            assert!(from_line(&line[..at]).is_none());
        }
    }
}
