//! The servers as one worker sees them: who may be chosen and with which weight, what each has in flight, and who waits for one.

use crate::base::Micros;
use crate::base::time::SECOND;
use crate::engine::{Chores, Drain, News, Outcome, ServerId};
use crate::proxy::Place;
use crate::proxy::board::{Board, Notice};
use crate::proxy::choice::{Asked, Choice, KeyFrom, Load, Method, Tried};
use crate::proxy::health::{Change, Ejection, Fault, Health, Rules, State, may_eject};
use crate::proxy::idle::Idle;
use crate::proxy::ledger::Standing;
use crate::proxy::probe::{Check, Plan, Verdict, host_of};
use crate::proxy::prober::Prober;
use crate::proxy::queue::Queue;
use std::sync::Arc;

/// What is configured of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// As it is logged.
    pub name: String,
    /// How many requests it gets beside the others.
    pub weight: u32,
    /// It gets requests only while no other is up.
    pub backup: bool,
}

/// How servers are chosen and judged.
#[derive(Clone, Debug)]
pub struct Policy {
    pub method: Method,
    /// For [`Method::Hash`].
    pub key: KeyFrom,
    /// Connections that a server may have, idle ones too, from all workers; `None`: any number.
    pub most: Option<u32>,
    /// Requests that may wait for a server, in all workers.
    pub queue: usize,
    pub health: Rules,
    pub probes: Plan,
}

impl Default for Policy {
    fn default() -> Self {
        let (health, probes) = (Rules::default(), Plan { check: Check::Off, ..Plan::default() });
        Policy { method: Method::RoundRobin, key: KeyFrom::Address, most: None, queue: 1024, health, probes }
    }
}

/// Why there is no server for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Without {
    /// All are down.
    Down,
    /// All that are up have as much to do as they may.
    Room,
}

/// See the module.
#[derive(Debug)]
pub struct Servers {
    policy: Policy,
    list: Vec<Server>,
    loads: Vec<Load>,
    health: Vec<Health>,
    idle: Vec<Idle>,
    choice: Choice,
    /// All weights are equal and none is 0.
    uniform: bool,
    /// When weights change by time alone.
    refresh_at: Micros,
    board: Arc<Board>,
    /// Of the board: what was read last.
    version: u32,
    notices: Vec<Notice>,
    ejections: Vec<Ejection>,
    /// Who is to get no requests, of the board.
    drained: Vec<bool>,
    /// Weights were made anew since somebody asked.
    changed: bool,
    /// In the one worker that probes.
    prober: Option<Prober>,
    queue: Queue,
}

impl Servers {
    /// As one worker sees them.
    pub fn new(policy: Policy, list: Vec<Server>, board: Arc<Board>, place: Place) -> Servers {
        let count = list.len();
        let prober = if place.probes { Prober::new(&policy.probes, count, place.seed) } else { None };
        let load = |server: &Server| Load::new(id(&server.name), 0);
        let queue = Queue::new(board.seats(), count, place.number);
        let mut servers = Servers {
            choice: Choice::new(policy.method, count, place.number, place.seed),
            loads: list.iter().map(load).collect(),
            health: (0..count).map(|_| Health::default()).collect(),
            idle: (0..count).map(|_| Idle::default()).collect(),
            uniform: false,
            refresh_at: Micros::MAX,
            board,
            version: 0,
            notices: vec![Notice::default(); count],
            ejections: vec![Ejection::default(); count],
            drained: vec![false; count],
            changed: true,
            prober,
            queue,
            policy,
            list,
        };
        servers.refresh(0);
        servers
    }

    pub fn name(&self, server: ServerId) -> &str {
        self.list.get(usize::from(server)).map_or("", |server| &server.name)
    }

    /// What it is called in a request that names no host.
    pub fn host(&self, server: ServerId) -> &str {
        host_of(self.name(server))
    }

    /// Of the servers' names, in their order.
    pub fn ids(&self) -> impl Iterator<Item = u64> {
        self.loads.iter().map(|load| load.id)
    }

    pub fn key_from(&self) -> Option<&KeyFrom> {
        (self.policy.method == Method::Hash).then_some(&self.policy.key)
    }

    // ---- choosing

    /// A server for a request: `wanted` if that one may be chosen, and none that it was tried on before where there are others. The request is in
    /// flight with it from now on, until [`Servers::done`].
    pub fn pick(&mut self, asked: &Asked, wanted: Option<ServerId>) -> Result<ServerId, Without> {
        if self.version != self.board.version() {
            self.read_board(asked.now);
        }
        let hashed = self.policy.method == Method::Hash;
        let waits = self.queue.has_room();
        // Who belongs to a server waits for the seat of a connection that idles in another worker; others go where a seat is free.
        self.look_for_seats(waits && (hashed || wanted.is_some()));
        let may = |load: &Load| load.weight > 0 && !load.full;
        loop {
            let wanted = wanted.filter(|server| self.loads.get(usize::from(*server)).is_some_and(may));
            match wanted.or_else(|| self.choose(asked)) {
                Some(server) if self.begin(server) => return Ok(server),
                Some(server) if waits && (hashed || wanted.is_some()) && !self.queue.is_busy(server) => {
                    return Err(Without::Room);
                }
                // Another worker has just taken the last seat.
                Some(_) => {}
                None if self.loads.iter().any(|load| load.weight > 0) => return Err(Without::Room),
                None => return Err(Without::Down),
            }
        }
    }

    fn choose(&mut self, asked: &Asked) -> Option<ServerId> {
        let chosen = self.choice.pick(&self.loads, self.uniform, asked);
        if chosen.is_some() || asked.except.is_empty() {
            return chosen;
        }
        // Better wait for another one than take one that has failed.
        let other = |(at, load): (usize, &Load)| load.weight > 0 && !asked.except.has(at as ServerId);
        if self.loads.iter().enumerate().any(other) {
            return None;
        }
        self.choice.pick(&self.loads, self.uniform, &Asked { except: Tried::default(), ..*asked })
    }

    /// May the server get requests, apart from how many it has?
    pub fn is_up(&self, server: ServerId) -> bool {
        self.loads.get(usize::from(server)).is_some_and(|load| load.weight > 0)
    }

    /// A backup that may take a request which these have failed, while backups get none yet.
    pub fn stand_in(&mut self, failed: Tried, now: Micros) -> Option<ServerId> {
        self.look_for_seats(false);
        let free = |at: &usize| {
            self.list[*at].backup
                && !self.drained[*at]
                && !failed.has(*at as ServerId)
                && self.health[*at].state(now) == State::Up
                && !self.loads[*at].full
        };
        let least = (0..self.list.len()).filter(free).min_by_key(|at| self.loads[*at].in_flight)? as ServerId;
        self.begin(least).then_some(least)
    }

    /// Which servers are full. `soon`: those are not whose seats can be had soon.
    fn look_for_seats(&mut self, soon: bool) {
        if self.queue.has_limit() {
            let queue = &self.queue;
            let full = |server| if soon { queue.is_busy(server) } else { queue.is_full(server) };
            self.loads.iter_mut().zip(0..).for_each(|(load, server)| load.full = full(server));
        }
    }

    /// One more request is in flight, if it may be.
    fn begin(&mut self, server: ServerId) -> bool {
        let Some(load) = self.loads.get_mut(usize::from(server)) else { return false };
        load.full = !self.queue.take_seat(server);
        load.in_flight += u32::from(!load.full);
        !load.full
    }

    /// One less. Its connection is kept, or may be.
    pub fn done(&mut self, server: ServerId, kept: bool) {
        if let Some(load) = self.loads.get_mut(usize::from(server)) {
            debug_assert!(load.in_flight > 0, "a request ended twice");
            load.in_flight -= 1;
        }
        self.queue.done(server, kept);
    }

    /// Requests in flight with all servers.
    pub fn in_flight(&self) -> u64 {
        self.loads.iter().map(|load| u64::from(load.in_flight)).sum()
    }

    // ---- waiting

    /// May a server have so many connections only?
    pub fn has_limit(&self) -> bool {
        self.queue.has_limit()
    }

    pub fn queue(&mut self) -> &mut Queue {
        &mut self.queue
    }

    /// How many requests wait.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    // ---- health

    /// An exchange that wished for its connection at `began` got its whole answer, whose first byte came `within` so long.
    pub fn succeeded(&mut self, server: ServerId, began: Micros, within: Micros, now: Micros) {
        let index = usize::from(server);
        if let Some(change) = self.health.get_mut(index).and_then(|health| health.succeeded(began, now)) {
            self.announce(server, change, now);
        }
        if self.policy.method == Method::TwoChoices
            && let Some(load) = self.loads.get_mut(index)
        {
            load.observe(within, now);
        }
    }

    /// An exchange that wished for its connection at `began` was failed by the server. True if that ejects it.
    pub fn failed(&mut self, server: ServerId, fault: Fault, began: Micros, now: Micros) -> bool {
        if self.version != self.board.version() {
            self.read_board(now);
        }
        let index = usize::from(server);
        self.lapse(index, now);
        let may = self.may_eject(index, now);
        let Some(health) = self.health.get_mut(index) else { return false };
        let (board, seen, ejections) = (&self.board, self.version, &mut self.ejections);
        let eject = |ejection| {
            let ejects = may && board.eject(server, ejection, seen);
            if ejects {
                ejections[index] = ejection;
            }
            ejects
        };
        let Some(change) = health.failed(fault, began, now, &self.policy.health, eject) else { return false };
        self.announce(server, change, now);
        self.refresh(now);
        self.probe_soon(server, now);
        true
    }

    fn may_eject(&self, index: usize, now: Micros) -> bool {
        let Some(backup) = self.list.get(index).map(|server| server.backup) else { return false };
        // Backups count: they get its requests if there is nobody else. Who is drained gets none.
        let up = |at: usize| !self.drained[at] && self.health[at].share(now, &self.policy.health) > 0;
        let others_up = (0..self.list.len()).filter(|at| *at != index && up(*at)).count();
        let alike = || self.health.iter().zip(&self.list).filter(|(_, server)| server.backup == backup);
        let ejected = alike().filter(|(health, _)| matches!(health.state(now), State::Ejected { .. })).count();
        let backups_up = !backup && (0..self.list.len()).any(|at| self.list[at].backup && up(at));
        may_eject(alike().count(), ejected, others_up, backups_up)
    }

    /// It was ejected: a probe may know better.
    fn probe_soon(&mut self, server: ServerId, now: Micros) {
        if let Some(prober) = &mut self.prober {
            prober.hurry(server, now);
        }
    }

    /// How long a connection may idle that has just served; zero: not at all.
    pub fn idle_limit(&self, server: ServerId, setting: Micros, announced: Option<u64>, now: Micros) -> Micros {
        self.idle.get(usize::from(server)).map_or(0, |idle| idle.limit(setting, announced, now))
    }

    /// When a server may be there for a request that found none, in seconds.
    pub fn retry_after(&self) -> u64 {
        let probes = &self.policy.probes;
        if probes.kind().is_some() { (probes.interval / SECOND).max(1) } else { 1 }
    }

    // ---- for whoever looks on

    /// Have weights been made anew since this was asked last?
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Requests in flight with the server, and how it stands.
    pub fn standing(&self, server: ServerId, now: Micros) -> (u64, Standing) {
        let index = usize::from(server);
        let in_flight = self.loads.get(index).map_or(0, |load| u64::from(load.in_flight));
        let Some(health) = self.health.get(index) else { return (in_flight, Standing::default()) };
        let state = health.state(now);
        let (down, ejected) = (state == State::Down, matches!(state, State::Ejected { .. }));
        (in_flight, Standing { down, ejected, share: health.share(now, &self.policy.health) })
    }

    // ---- weights

    /// Weights anew.
    fn refresh(&mut self, now: Micros) {
        self.changed = true;
        let (rules, drained) = (&self.policy.health, &self.drained);
        let up = |at: usize, health: &[Health]| !drained[at] && health[at].share(now, rules) > 0;
        let count = self.list.len();
        let any = |backup: bool| (0..count).any(|at| self.list[at].backup == backup && up(at, &self.health));
        let mut first = any(false);
        if !first && !any(true) {
            // Better one that may fail than none.
            for at in (0..count).filter(|at| !self.drained[*at]) {
                first |= matches!(self.health[at].state(now), State::Ejected { .. }) && !self.list[at].backup;
                if let Some(change) = self.health[at].pardon(now) {
                    self.announce(at as ServerId, change, now);
                }
            }
        }
        for (at, load) in self.loads.iter_mut().enumerate() {
            let Server { weight, backup, .. } = self.list[at];
            let chosen = if first { !backup } else { backup };
            let share = if chosen && !drained[at] { self.health[at].share(now, rules) } else { 0 };
            if share > 0 && load.weight == 0 {
                load.forget();
            }
            load.weight = weight * share;
        }
        self.uniform = self.loads.iter().all(|load| load.weight == self.loads[0].weight && load.weight > 0);
        self.refresh_at = self.health.iter().filter_map(|health| health.next(now, rules)).min().unwrap_or(Micros::MAX);
        self.queue.offer();
    }

    /// What the probing worker has found, whom others have ejected, and who is to be left alone.
    fn read_board(&mut self, now: Micros) {
        self.version = self.board.version();
        let kind = self.policy.probes.kind();
        for at in 0..self.list.len() {
            let server = at as ServerId;
            self.drained[at] = self.board.is_drained(server);
            let notice = self.board.read(server);
            match kind.filter(|_| notice != self.notices[at]) {
                // The worker that probes tells of it.
                Some(kind) => {
                    self.notices[at] = notice;
                    self.health[at].follow(notice.down, notice.well, kind, now);
                }
                None => self.lapse(at, now),
            }
            // After the probes: if one has ended just this ejection, the next one ends it here.
            let ejection = self.board.ejection(server);
            if ejection != self.ejections[at] {
                self.ejections[at] = ejection;
                if self.health[at].follow_ejection(ejection, now, &self.policy.health) {
                    self.probe_soon(server, now);
                }
            }
        }
        self.refresh(now);
    }

    /// An ejection whose time is over ends. To be called before anything else may end it unheard.
    fn lapse(&mut self, at: usize, now: Micros) {
        if let Some(change) = self.health.get_mut(at).and_then(|health| health.lapse(now)) {
            self.announce(at as ServerId, change, now);
        }
    }

    /// For the log. What probes find is told by the worker that probes.
    fn announce(&self, server: ServerId, change: Change, now: Micros) {
        let name = self.name(server);
        match change {
            Change::Ejected { until, row } => {
                let span = (until - now) as f64 / SECOND as f64;
                let times = if row == 1 { "once".to_owned() } else { format!("{row} times in a row") };
                log::warn!("server {name} failed {times}: it gets no requests for {span} s");
            }
            Change::Up => log::info!("server {name} is up"),
            Change::Down => log::warn!("server {name} is down"),
        }
    }

    // ---- the worker's chores

    /// Hears about idle connections, has probes made, and wakes who waits. Returns when it has something to do next.
    pub fn attend(&mut self, chores: &mut Chores) -> Micros {
        let now = chores.now.mono;
        for news in &chores.news {
            match news {
                News::IdleClosed { server, idle } => {
                    if let Some(known) = self.idle.get_mut(usize::from(*server)) {
                        known.closed(*idle, now);
                    }
                }
                News::Errand { server, outcome } => self.probed(*server, outcome, now),
                News::IdleGone { .. } => {}
            }
        }
        if self.version != self.board.version() {
            self.read_board(now);
        }
        if now >= self.refresh_at {
            (0..self.list.len()).for_each(|at| self.lapse(at, now));
            self.refresh(now);
        }
        self.queue.attend(chores);
        let mut next = self.refresh_at;
        if let Some(prober) = self.prober.as_mut().filter(|_| chores.drain == Drain::No) {
            let list = &self.list;
            prober.set_out(chores, |server| list.get(usize::from(server)).map_or("", |server| &server.name));
            next = next.min(prober.next());
        }
        next
    }

    fn probed(&mut self, server: ServerId, outcome: &Outcome, now: Micros) {
        self.lapse(usize::from(server), now);
        let (Some(prober), Some(health)) = (&mut self.prober, self.health.get_mut(usize::from(server))) else { return };
        let verdict = prober.judge(outcome);
        let well = match verdict {
            Verdict::Well => true,
            Verdict::Bad(_) => false,
            Verdict::Unknown => return prober.done(server, now, health.pace()),
        };
        let change = health.probed(well, prober.kind(), now, &self.policy.health);
        prober.done(server, now, health.pace());
        let down = health.state(now) == State::Down;
        self.board.post(server, down, well);
        match (change, verdict) {
            (Some(Change::Down), Verdict::Bad(why)) => log::warn!("server {} is down: {why}", self.name(server)),
            (Some(change), _) => self.announce(server, change, now),
            (None, _) => {}
        }
        // What this worker posts it need not follow.
        if let Some(notice) = self.notices.get_mut(usize::from(server)) {
            *notice = self.board.read(server);
        }
        if change.is_some() {
            self.refresh(now);
        }
    }
}

/// Tells a server from others wherever it stands in the configuration.
fn id(name: &str) -> u64 {
    xxhash_rust::xxh3::xxh3_64(name.as_bytes())
}

#[cfg(test)]
mod tests;
