//! What one worker counts: numbers of its own, copied now and then to a block that other threads may read.
//!
//! Counting is adding: nothing is shared, locked or allocated per request. A copy is made when the worker sees to its affairs and
//! something has changed, at most every [`PAUSE`]. A reader sees each number as it once was, though not all of one moment.

use crate::base::Micros;
use crate::engine::{AccessRecord, Chores, Drain, ServerId, ServerTotals, Totals};
use crate::proxy::servers::Servers;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Between two copies.
pub const PAUSE: Micros = 200_000;

/// How a server stands with one worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Its probes failed, as far as this worker has heard.
    pub down: bool,
    /// It is left out for a while, since it failed requests of this worker.
    pub ejected: bool,
    /// How much of its weight it has, in percent.
    pub share: u32,
}

impl Standing {
    fn word(self) -> u64 {
        u64::from(self.down) << 33 | u64::from(self.ejected) << 32 | u64::from(self.share)
    }

    fn read(word: u64) -> Standing {
        Standing { down: word >> 33 & 1 == 1, ejected: word >> 32 & 1 == 1, share: word as u32 }
    }
}

/// What a worker has published.
#[derive(Debug)]
pub struct Block {
    /// The worker has been told to end.
    draining: AtomicBool,
    totals: Box<[AtomicU64]>,
    /// Of each server its numbers and its standing.
    servers: Box<[[AtomicU64; SERVER]]>,
}

const SERVER: usize = ServerTotals::WORDS + 1;

impl Block {
    pub fn new(servers: usize) -> Block {
        let whole = Standing { share: 100, ..Standing::default() };
        let server = || std::array::from_fn(|at| AtomicU64::new(if at == SERVER - 1 { whole.word() } else { 0 }));
        Block {
            draining: AtomicBool::new(false),
            totals: Totals::default().words().map(AtomicU64::new).collect(),
            servers: (0..servers).map(|_| server()).collect(),
        }
    }

    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    pub fn totals(&self) -> Totals {
        Totals::read(&mut self.totals.iter().map(|word| word.load(Ordering::Relaxed)))
    }

    /// `None`: there is no such server.
    pub fn server(&self, server: ServerId) -> Option<(ServerTotals, Standing)> {
        let words = self.servers.get(usize::from(server))?.each_ref().map(|word| word.load(Ordering::Relaxed));
        let [numbers @ .., standing] = words;
        Some((ServerTotals::read(numbers), Standing::read(standing)))
    }

    fn write(&self, totals: &Totals, servers: impl Iterator<Item = (ServerTotals, Standing)>) {
        let store = |(word, value): (&AtomicU64, u64)| word.store(value, Ordering::Relaxed);
        self.totals.iter().zip(totals.words()).for_each(store);
        for (words, (numbers, standing)) in self.servers.iter().zip(servers) {
            words.iter().zip(numbers.words().into_iter().chain([standing.word()])).for_each(store);
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Ledger {
    totals: Totals,
    servers: Vec<ServerTotals>,
    /// Something was counted since the last copy.
    changed: bool,
    /// Where copies go; `None`: nobody reads.
    block: Option<Arc<Block>>,
    /// When the next copy may be made.
    next: Micros,
}

impl Ledger {
    pub fn new(servers: usize) -> Ledger {
        let servers = vec![ServerTotals::default(); servers];
        Ledger { totals: Totals::default(), servers, changed: true, block: None, next: 0 }
    }

    /// Copies go there from now on.
    pub fn publish_to(&mut self, block: Option<Arc<Block>>) {
        self.block = block;
    }

    /// An exchange is over.
    pub fn record(&mut self, record: &AccessRecord) {
        self.totals.record(record);
        if let Some(server) = record.server.and_then(|server| self.servers.get_mut(usize::from(server))) {
            server.requests += 1;
        }
        self.changed = true;
    }

    /// A request that this server did not answer is tried again.
    pub fn retried(&mut self, server: ServerId) {
        self.totals.retries += 1;
        if let Some(server) = self.servers.get_mut(usize::from(server)) {
            server.requests += 1;
        }
    }

    /// A failure counts against the server, and may have ejected it.
    pub fn failed(&mut self, server: ServerId, ejected: bool) {
        if let Some(server) = self.servers.get_mut(usize::from(server)) {
            server.failures += 1;
            server.ejections += u64::from(ejected);
        }
        self.changed = true;
    }

    /// A client has connected.
    pub fn opened(&mut self) {
        self.totals.opened += 1;
        self.changed = true;
    }

    /// A client's connection is over.
    pub fn closed(&mut self) {
        self.totals.closed += 1;
        self.changed = true;
    }

    /// What the servers or the queue have at hand has changed.
    pub fn touch(&mut self) {
        self.changed = true;
    }

    /// Makes a copy if it is time for one. Returns when it will be.
    pub fn attend(&mut self, servers: &mut Servers, chores: &Chores) -> Micros {
        let Some(block) = &self.block else { return Micros::MAX };
        let (now, ends) = (chores.now.mono, chores.drain != Drain::No);
        self.changed |= servers.take_changed();
        if ends {
            block.draining.store(true, Ordering::Relaxed);
        } else if self.changed && now < self.next {
            return self.next;
        }
        if self.changed {
            // Whoever ends does not know which copy is the last one.
            self.totals.waiting = servers.waiting() as u64;
            let numbers = self.servers.iter().zip(0..).map(|(known, server)| {
                let (in_flight, standing) = servers.standing(server, now);
                (ServerTotals { in_flight, ..*known }, standing)
            });
            block.write(&self.totals, numbers);
            (self.changed, self.next) = (false, now + PAUSE);
        }
        Micros::MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Now, Peer};
    use crate::proxy::Place;
    use crate::proxy::board::Board;
    use crate::proxy::choice::Asked;
    use crate::proxy::servers::{Policy, Server};

    fn world() -> (Ledger, Arc<Block>, Servers) {
        let names = ["a", "b"].map(|name| Server { name: name.into(), weight: 1, backup: false });
        let place = Place { number: 0, probes: false, seed: 1 };
        let servers = Servers::new(Policy::default(), names.to_vec(), Arc::new(Board::new(2)), place);
        let (mut ledger, block) = (Ledger::new(2), Arc::new(Block::new(2)));
        ledger.publish_to(Some(block.clone()));
        (ledger, block, servers)
    }

    fn at(mono: Micros, drain: Drain) -> Chores {
        Chores { now: Now { mono, unix: 0 }, drain, ..Chores::default() }
    }

    fn exchange(server: Option<ServerId>) -> AccessRecord {
        let mut record = AccessRecord::new(0, Peer::Unix);
        (record.status, record.server) = (200, server);
        record
    }

    #[test]
    fn copies_are_made_of_what_has_changed_and_not_too_often() {
        let (mut ledger, block, mut servers) = world();
        assert_eq!(ledger.attend(&mut servers, &at(5, Drain::No)), Micros::MAX);
        ledger.record(&exchange(Some(1)));
        assert_eq!(ledger.attend(&mut servers, &at(6, Drain::No)), 5 + PAUSE, "there was a copy just now");
        assert_eq!(block.totals().exchanges(), 0);
        assert_eq!(ledger.attend(&mut servers, &at(5 + PAUSE, Drain::No)), Micros::MAX);
        assert_eq!((block.totals().exchanges(), block.server(1).unwrap().0.requests), (1, 1));
        // Nothing new, so nobody is to be woken again.
        assert_eq!(ledger.attend(&mut servers, &at(9 * PAUSE, Drain::No)), Micros::MAX);
        ledger.record(&exchange(None));
        assert_eq!(ledger.attend(&mut servers, &at(9 * PAUSE, Drain::No)), Micros::MAX, "at once after a pause");
        assert_eq!((block.totals().exchanges(), block.server(1).unwrap().0.requests), (2, 1));
    }

    #[test]
    fn whoever_ends_leaves_its_last_numbers() {
        let (mut ledger, block, mut servers) = world();
        ledger.attend(&mut servers, &at(5, Drain::No));
        assert!(!block.is_draining());
        ledger.opened();
        ledger.attend(&mut servers, &at(6, Drain::Finish));
        assert!(block.is_draining() && block.totals().opened == 1);
        ledger.closed();
        ledger.attend(&mut servers, &at(7, Drain::Finish));
        assert_eq!(block.totals().closed, 1);
    }

    #[test]
    fn each_try_counts_for_the_server_that_had_it() {
        let (mut ledger, block, mut servers) = world();
        assert_eq!(servers.pick(&Asked::default(), Some(1)), Ok(1));
        ledger.failed(0, false);
        ledger.failed(0, true);
        ledger.retried(0);
        ledger.record(&exchange(Some(1)));
        ledger.record(&exchange(Some(9)));
        ledger.attend(&mut servers, &at(5, Drain::No));
        let (first, second) = (block.server(0).unwrap().0, block.server(1).unwrap().0);
        assert_eq!(first, ServerTotals { requests: 1, failures: 2, ejections: 1, in_flight: 0 });
        assert_eq!(second, ServerTotals { requests: 1, in_flight: 1, ..ServerTotals::default() });
        assert_eq!((block.totals().retries, block.server(2)), (1, None));
    }

    #[test]
    fn how_a_server_stands_comes_back_as_it_was() {
        for standing in [
            Standing { down: true, ejected: false, share: 0 },
            Standing { down: false, ejected: true, share: 0 },
            Standing { down: false, ejected: false, share: 100 },
        ] {
            assert_eq!(Standing::read(standing.word()), standing);
        }
        let (mut ledger, block, mut servers) = world();
        assert_eq!(block.server(0).unwrap().1.share, 100, "before the first copy");
        ledger.attend(&mut servers, &at(5, Drain::No));
        assert_eq!(block.server(0).unwrap().1, Standing { share: 100, ..Standing::default() });
    }
}
