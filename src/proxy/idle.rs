//! How long an idle connection to a server may be kept: as set, as the server announces, or less as it is seen to close them.
//!
//! The *idle-close race*: a server closes an idle connection while a request is on its way to it. A GET can be tried again; a POST that
//! may have been seen cannot, and its client gets a 502. So a connection must not be used around the moment at which its server closes
//! it. Where the server does not say when that is, it shows: its closes come again and again at one age.
//!
//! One age at three different moments is believed, and the limit becomes three quarters of it and a little less. Then no close is seen any
//! more, so nothing would tell that the server has become more patient: after a while without a close the limit is doubled, step by
//! step, up to what it would be without this. One close at the known age takes all of that back, and the next doubling waits
//! twice as long.
//!
//! Closes at one moment are one event. If their ages differ, it was no idle timeout but a restart, and teaches nothing.
//!
//! What this does *not* do is to go beyond the setting because nothing was closed within it. That nothing is closed at 4 s says nothing
//! about 5 s (Node's default), and each step further would be tried on somebody's POST; all there is to gain is a handshake for a
//! connection used less than every few seconds. A server that wants longer says so by `Keep-Alive: timeout`, or its operator by the
//! setting. (A connection kept beyond its limit only to see when it is closed, and never used, would be a safe way to learn more.)

use crate::base::Micros;
use crate::base::time::SECOND;

/// Closes within so long of the first are one moment.
const MOMENT: Micros = SECOND;
/// Moments at which an age must be seen.
const NEEDED: usize = 3;
/// Moments that are remembered.
const KEPT: usize = 6;
/// For how long, besides the time that the connections must idle for it.
const MEMORY: Micros = 300 * SECOND;
/// Without a close for so long, the limit is doubled. Grows up to `PATIENCE_MOST` where that proves wrong.
const PATIENCE: Micros = 60 * SECOND;
const PATIENCE_MOST: Micros = 3600 * SECOND;
/// A limit that grows from nothing begins with this.
const FIRST_STEP: Micros = SECOND / 4;
/// What is announced counts up to here.
const ANNOUNCED_MOST: u64 = 3600;

/// Closes at one moment.
#[derive(Clone, Copy, Debug)]
struct Moment {
    at: Micros,
    /// The ages of the connections that were closed.
    least: Micros,
    most: Micros,
}

/// What a server was seen to do.
#[derive(Clone, Copy, Debug)]
struct Learned {
    /// It closes connections that have idled for this long.
    age: Micros,
    /// When that was seen last.
    at: Micros,
    patience: Micros,
}

/// What one worker knows of one server. Ages and moments in microseconds.
#[derive(Clone, Debug, Default)]
pub struct Idle {
    learned: Option<Learned>,
    /// The last moments, the newest last.
    moments: Vec<Moment>,
}

impl Idle {
    /// How long a connection may idle that is put aside now: `setting`, or what the answer `announced` in seconds, or less as learned.
    /// Zero: not at all.
    pub fn limit(&self, setting: Micros, announced: Option<u64>, now: Micros) -> Micros {
        let most = match announced {
            // A second less than announced: the close may be on its way already.
            Some(seconds) => seconds.saturating_sub(1).min(ANNOUNCED_MOST) * SECOND,
            None => setting,
        };
        self.learned.map_or(most, |learned| most.min(learned.limit(now)))
    }

    /// The server has closed a connection (or has said something on it, as some do before they close) that had idled for `age`.
    pub fn closed(&mut self, age: Micros, now: Micros) {
        match &mut self.learned {
            Some(learned) if alike(learned.age, age) => learned.confirm(now),
            _ => self.learn(age, now),
        }
    }

    fn learn(&mut self, age: Micros, now: Micros) {
        match self.moments.last_mut() {
            Some(last) if now < last.at + MOMENT => {
                last.least = last.least.min(age);
                last.most = last.most.max(age);
            }
            _ => {
                if self.moments.len() == KEPT {
                    self.moments.remove(0);
                }
                self.moments.push(Moment { at: now, least: age, most: age });
            }
        }
        let Some(last) = self.moments.last().copied() else { return };
        let since = now.saturating_sub(MEMORY + age.saturating_mul(NEEDED as u64));
        let agree = |moment: &&Moment| {
            moment.at >= since && alike(moment.least, moment.most) && alike(moment.least, last.least)
        };
        // Connections in constant use are all young, so crashes look alike there. They have to happen as often as can be remembered.
        let needed = if last.least < SECOND { KEPT } else { NEEDED };
        if self.moments.iter().filter(agree).count() < needed {
            return;
        }
        let age = self.moments.iter().filter(agree).map(|moment| moment.least).min().unwrap_or(age);
        self.learned = Some(Learned { age, at: now, patience: PATIENCE });
        self.moments.clear();
    }
}

impl Learned {
    /// Three quarters of the age and a tenth of a second less, doubled as often as patience has run out since.
    fn limit(&self, now: Micros) -> Micros {
        let first = (self.age / 4 * 3).saturating_sub(SECOND / 10);
        match self.doublings(now) {
            0 => first,
            times => first.max(FIRST_STEP / 2).saturating_mul(1u64 << times.min(32)),
        }
    }

    fn doublings(&self, now: Micros) -> u64 {
        // A longer limit shows nothing before connections had the time to reach it.
        now.saturating_sub(self.at) / self.patience.max(3 * self.age)
    }

    /// Seen again. If the limit had grown, that was wrong, and is tried less soon the next time.
    fn confirm(&mut self, now: Micros) {
        if self.doublings(now) > 0 {
            self.patience = (2 * self.patience).min(PATIENCE_MOST);
        }
        self.at = now;
    }
}

/// The same timeout: within a tenth, or a fiftieth of a second.
fn alike(one: Micros, other: Micros) -> bool {
    one.abs_diff(other) <= (one.min(other) / 10).max(SECOND / 50)
}

#[cfg(test)]
mod tests;
