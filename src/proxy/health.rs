//! One server's health as one worker sees it: passive ejection, active probes, and the slow start of a server that comes back.
//!
//! Two witnesses speak. *Exchanges* (passive): a row of failures ejects a server for a time that grows with each ejection; when it is over
//! the server is on trial. *Probes* (active): some failures in a row take a server down until some successes in a row bring it back.
//! A server is up until one of them proves otherwise. A probe's success does not end a row of failed exchanges: a server whose
//! health page works while its application does not is still ejected. What another worker's witnesses have brought about is followed.
//!
//! Nothing happens by itself here: the end of an ejection is seen by whoever asks with a later `now`, and [`Health::next`] says when to.

pub mod blame;
#[cfg(test)]
mod tests;

pub use blame::{Blame, Ending, blame};

use crate::base::Micros;
use crate::base::time::SECOND;
use crate::proxy::probe::{Kind, Pace};

/// When a server is bad, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Failed exchanges in a row that eject; 0: none do.
    pub failures: u32,
    /// The n-th ejection lasts n times as long; each such span in health makes n smaller by one.
    pub eject: Micros,
    /// But never longer than this.
    pub eject_most: Micros,
    /// Probes in a row that must succeed to bring a server up.
    pub rise: u32,
    /// Probes in a row that must fail to take one down.
    pub fall: u32,
    /// From a tenth of its weight to all of it, for a server that comes back; 0: at once.
    pub slow_start: Micros,
}

impl Default for Rules {
    fn default() -> Self {
        Rules { failures: 5, eject: 10 * SECOND, eject_most: 300 * SECOND, rise: 2, fall: 3, slow_start: 5 * SECOND }
    }
}

/// How far an exchange came before the server failed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Not even to a connection.
    Connect,
    /// To a connection, but to no good answer.
    Answer,
}

/// May a server be chosen?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    #[default]
    Up,
    /// Not before this moment.
    Ejected { until: Micros },
    /// Not before its probes succeed.
    Down,
}

/// What other workers must know of an ejection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ejection {
    pub until: Micros,
    /// Each failure that led to it was one to connect.
    pub only_connects: bool,
}

/// A line for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Up,
    Down,
    /// After so many failures in a row.
    Ejected {
        until: Micros,
        row: u32,
    },
}

/// May one more server be ejected? `ejected` of the `total` are already, and `others_up` could take its requests, some of them backups
/// perhaps. Never the last, and never more than half (but one of three), unless there are backups for just that.
pub fn may_eject(total: usize, ejected: usize, others_up: usize, backups_up: bool) -> bool {
    others_up > 0 && (backups_up || ejected < total / 2)
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Health {
    state: State,
    /// Exchanges that failed in a row.
    row: u32,
    /// All of that row failed to connect; once ejected, all of the row that led there.
    only_connects: bool,
    /// Back from an ejection, and no exchange has succeeded since.
    trial: bool,
    /// Another worker has ejected it, and tells of the end.
    follows: bool,
    /// How often it was ejected, as of `back`.
    times: u32,
    /// When it last came back; `None`: it has never been away.
    back: Option<Micros>,
    /// It was probed before.
    probed: bool,
    /// Probes in a row that spoke against its state.
    against: u32,
}

impl Health {
    /// The share of its weight that the server should get, in percent; 0: none, it may not be chosen.
    pub fn share(&self, now: Micros, rules: &Rules) -> u32 {
        let Some(back) = (match self.state(now) {
            State::Up => self.returned(),
            State::Ejected { .. } | State::Down => return 0,
        }) else {
            return 100;
        };
        let elapsed = now.saturating_sub(back);
        if elapsed >= rules.slow_start {
            return 100;
        }
        10 + (u128::from(elapsed) * 90 / u128::from(rules.slow_start)) as u32
    }

    /// The state at `now`: an ejection whose time is over has ended.
    pub fn state(&self, now: Micros) -> State {
        match self.state {
            State::Ejected { until } if until <= now => State::Up,
            state => state,
        }
    }

    /// When time alone will change the share: at the end of an ejection, or, as a slow start goes on, at each tenth of it.
    pub fn next(&self, now: Micros, rules: &Rules) -> Option<Micros> {
        let back = match self.state(now) {
            State::Down => return None,
            State::Ejected { until } => return Some(until),
            State::Up => self.returned()?,
        };
        let elapsed = now.saturating_sub(back);
        if elapsed >= rules.slow_start {
            return None;
        }
        let step = rules.slow_start.div_ceil(10);
        Some(back + ((elapsed / step + 1) * step).min(rules.slow_start))
    }

    /// Notes that an ejection's time is over. Every other method does so too; this one is for a log line.
    pub fn lapse(&mut self, now: Micros) -> Option<Change> {
        let follows = self.follows;
        match self.state {
            State::Ejected { until } if until <= now => Some(self.come_back(until, true)).filter(|_| !follows),
            _ => None,
        }
    }

    /// An exchange that wished for its connection at `began` was failed by the server. `eject`: if the server is to be ejected, may it be?
    pub fn failed(
        &mut self,
        fault: Fault,
        began: Micros,
        now: Micros,
        rules: &Rules,
        eject: impl FnOnce(Ejection) -> bool,
    ) -> Option<Change> {
        self.lapse(now);
        if !self.counts(began) {
            return None;
        }
        self.only_connects = fault == Fault::Connect && (self.row == 0 || self.only_connects);
        self.row = self.row.saturating_add(1);
        let enough = rules.failures > 0 && (self.trial || self.row >= rules.failures);
        let span = self.times_at(now, rules).saturating_add(1);
        let until = now + rules.eject.saturating_mul(u64::from(span)).min(rules.eject_most);
        let ejection = Ejection { until, only_connects: self.only_connects };
        if !(enough && eject(ejection)) {
            return None;
        }
        let row = self.row;
        self.leave(ejection, now, rules);
        Some(Change::Ejected { until, row })
    }

    /// Another worker has ejected it. True if that changes something here. An ejection that is known may have ended early and been followed
    /// by another one, unseen.
    pub fn follow_ejection(&mut self, ejection: Ejection, now: Micros, rules: &Rules) -> bool {
        self.lapse(now);
        let known = match self.state {
            State::Up => now,
            State::Ejected { until } => until,
            State::Down => return false,
        };
        if ejection.until <= known {
            return false;
        }
        self.leave(ejection, now, rules);
        self.follows = true;
        true
    }

    fn leave(&mut self, ejection: Ejection, now: Micros, rules: &Rules) {
        let times = self.times_at(now, rules);
        // More of them would not last longer, only be remembered longer.
        let most = rules.eject_most / rules.eject.max(1);
        self.times = times.saturating_add(1).min(u32::try_from(most).unwrap_or(u32::MAX)).max(times);
        self.state = State::Ejected { until: ejection.until };
        (self.row, self.trial, self.against) = (0, false, 0);
        self.only_connects = ejection.only_connects;
    }

    /// An exchange that wished for its connection at `began` got its whole answer. Returns what [`Health::lapse`] does.
    pub fn succeeded(&mut self, began: Micros, now: Micros) -> Option<Change> {
        let lapsed = self.lapse(now);
        if self.counts(began) {
            (self.row, self.trial) = (0, false);
        }
        lapsed
    }

    /// A probe succeeded (`well`) or not. The very first is decisive if it fails, as a server that is not there when the proxy starts
    /// should not be tried `fall` times.
    pub fn probed(&mut self, well: bool, kind: Kind, now: Micros, rules: &Rules) -> Option<Change> {
        self.lapse(now);
        let first = !std::mem::replace(&mut self.probed, true);
        let agrees = well == (self.state != State::Down);
        self.against = if agrees { 0 } else { self.against.saturating_add(1) };
        match self.state {
            State::Down if well && self.against >= rules.rise => Some(self.come_back(now, false)),
            State::Ejected { .. } if well && self.probe_ends_ejection(kind) => Some(self.come_back(now, true)),
            State::Up | State::Ejected { .. } if !well && (first || self.against >= rules.fall) => {
                if self.state == State::Up {
                    self.times = self.times_at(now, rules);
                }
                self.state = State::Down;
                (self.row, self.trial, self.against) = (0, false, 0);
                Some(Change::Down)
            }
            _ => None,
        }
    }

    /// Another worker has probed: what it thinks of the server, and how the last probe ended.
    pub fn follow(&mut self, down: bool, well: bool, kind: Kind, now: Micros) {
        self.lapse(now);
        match self.state {
            State::Down if !down => drop(self.come_back(now, false)),
            State::Ejected { .. } if well && self.probe_ends_ejection(kind) => drop(self.come_back(now, true)),
            State::Up | State::Ejected { .. } if down => {
                self.state = State::Down;
                (self.row, self.trial, self.against) = (0, false, 0);
            }
            _ => {}
        }
    }

    /// That a connection comes about says nothing about a server that accepts and then fails. That a page for checks is well is believed
    /// once: if requests fail again, the page does not speak for them.
    fn probe_ends_ejection(&self, kind: Kind) -> bool {
        self.only_connects || (kind == Kind::Http && self.times <= 1)
    }

    /// Ends an ejection for want of any other server: better one that may fail than none. It is on trial then.
    pub fn pardon(&mut self, now: Micros) -> Option<Change> {
        let follows = self.follows;
        match self.state {
            State::Ejected { until } => Some(self.come_back(until.min(now), true)).filter(|_| !follows),
            State::Up | State::Down => None,
        }
    }

    /// How soon the next probe should be: sooner while the last ones speak against the state.
    pub fn pace(&self) -> Pace {
        if self.against > 0 { Pace::Soon } else { Pace::Usual }
    }

    fn come_back(&mut self, at: Micros, trial: bool) -> Change {
        self.state = State::Up;
        self.back = Some(at);
        self.follows = false;
        (self.row, self.trial, self.against) = (0, trial, 0);
        Change::Up
    }

    /// Only what began since the server came back tells of it as it is now; what began before, or ends while it is away, is old news.
    fn counts(&self, began: Micros) -> bool {
        self.state == State::Up && self.back.is_none_or(|back| back <= began)
    }

    /// When it came back, also if nobody has noted it.
    fn returned(&self) -> Option<Micros> {
        match self.state {
            State::Ejected { until } => Some(until),
            State::Up | State::Down => self.back,
        }
    }

    /// The ejections that still count at `now`, in a state of health.
    fn times_at(&self, now: Micros, rules: &Rules) -> u32 {
        let well = now.saturating_sub(self.back.unwrap_or(now)) / rules.eject.max(1);
        self.times.saturating_sub(u32::try_from(well).unwrap_or(u32::MAX))
    }
}
