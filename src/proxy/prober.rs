//! Runs the probes: asks for errands when they are due, and judges what comes back. One worker does it for all.

use crate::base::Micros;
use crate::engine::{Chores, DialError, Errand, Outcome, ServerId, Side};
use crate::proxy::probe::{End, Kind, Pace, Plan, Schedule, Verdict, enough};

/// See the module.
#[derive(Debug)]
pub struct Prober {
    plan: Plan,
    kind: Kind,
    schedule: Schedule,
}

impl Prober {
    /// `None`: the plan is not to probe.
    pub fn new(plan: &Plan, servers: usize, seed: u64) -> Option<Prober> {
        let kind = plan.kind()?;
        Some(Prober { plan: plan.clone(), kind, schedule: Schedule::new(servers, plan.interval, seed) })
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Asks for the errands that are due.
    pub fn set_out<'n>(&mut self, chores: &mut Chores, name: impl Fn(ServerId) -> &'n str) {
        let now = chores.now.mono;
        while let Some(server) = self.schedule.due(now) {
            let question = self.plan.request(name(server)).unwrap_or_default();
            let done: fn(&[u8]) -> bool = if question.is_empty() { |_| true } else { enough };
            chores.errands.push(Errand { server, question, enough: done, until: now + self.plan.timeout });
        }
    }

    /// What an errand's end says of its server.
    pub fn judge(&self, outcome: &Outcome) -> Verdict {
        let (bytes, end): (&[u8], End) = match outcome {
            Outcome::Failed(DialError::NoSocket) => (b"", End::NoSocket),
            Outcome::Failed(DialError::Refused) => (b"", End::Refused),
            Outcome::TimedOut => (b"", End::Late),
            Outcome::Answer { bytes, side: Side::Open } => (bytes, End::Enough),
            Outcome::Answer { bytes, side: Side::Ended } => (bytes, End::Closed),
            Outcome::Answer { bytes, side: Side::Broken } => (bytes, End::Broken),
        };
        self.plan.verdict(bytes, end)
    }

    /// The server's probe is over; the next one comes at this pace.
    pub fn done(&mut self, server: ServerId, now: Micros, again: Pace) {
        self.schedule.done(server, now, again);
    }

    /// Something speaks against the server: it is asked soon.
    pub fn hurry(&mut self, server: ServerId, now: Micros) {
        self.schedule.hurry(server, now);
    }

    /// When the next probe is due.
    pub fn next(&self) -> Micros {
        self.schedule.next()
    }
}
