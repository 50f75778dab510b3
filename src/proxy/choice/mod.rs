//! Which server gets the next request: the methods, what they know of the servers, where a hash key comes from, sticky cookies.
//!
//! Each worker has its own [`Choice`] and its own [`Load`]s, and chooses by what it sees. Every method leaves out servers of weight 0, full
//! ones, and those that have failed the request.
//!
//! What a slow server does to the clients under each method, in milliseconds: five servers work at eight requests at a time each, four
//! of them for 10 ms on average and one for 100 ms (exponentially distributed; requests come as a Poisson process, for 30 s, for 10,000
//! keys). The load is a share of what all five can do, of which the slow one's part is 2.4 %. A test makes this table anew.
//!
//! | load  | method     |  median |     p99 |    mean | to the slow one |
//! |-------|------------|---------|---------|---------|-----------------|
//! |  10 % | RoundRobin |     9.4 |     319 |    31.4 |          20.0 % |
//! |  10 % | Least      |     7.5 |     155 |    14.3 |           4.6 % |
//! |  10 % | TwoChoices |     7.1 |    50.1 |    10.4 |           0.4 % |
//! |  10 % | Hash       |     8.8 |     264 |    23.8 |          15.7 % |
//! |  50 % | RoundRobin |     9.9 |   86321 |    8987 |          20.0 % |
//! |  50 % | Least      |     7.3 |     116 |    12.9 |           3.1 % |
//! |  50 % | TwoChoices |     7.0 |    50.4 |    10.6 |           0.5 % |
//! |  50 % | Hash       |     7.6 |     206 |    16.7 |           4.8 % |
//! |  80 % | RoundRobin |    10.1 |  157624 |   16642 |          20.0 % |
//! |  80 % | Least      |     7.5 |     112 |    13.1 |           2.9 % |
//! |  80 % | TwoChoices |     7.9 |    52.0 |    11.4 |           0.7 % |
//! |  80 % | Hash       |     9.4 |     241 |    18.1 |           3.0 % |
//! |  95 % | RoundRobin |    11.1 |  189899 |   20005 |          20.0 % |
//! |  95 % | Least      |    12.3 |     170 |    18.7 |           2.6 % |
//! |  95 % | TwoChoices |    14.4 |    67.8 |    18.1 |           1.0 % |
//! |  95 % | Hash       |    21.5 |     415 |    33.6 |           2.6 % |
//!
//! In a rotation the slow server gets its fifth whatever becomes of it: above a load of 12 % that is more than it can do, and its queue
//! grows for as long as the load lasts.

mod cookie;
mod hash;
mod key;
mod load;
mod random;
mod rotation;
mod sticky;
mod two;

#[cfg(test)]
mod tests;

pub use hash::SPARE;
pub use key::KeyFrom;
pub use load::{Load, TAU};
pub use sticky::{Sticky, key_of};

use crate::base::Micros;
use crate::engine::ServerId;
use load::Candidates;
use random::Random;
use rotation::Rotation;

/// How a server is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Each in turn, as often as its weight says.
    RoundRobin,
    /// The one with the least (requests in flight + 1) / weight; of equals each in turn. With little to do, that is the one with
    /// the most weight.
    Least,
    /// The better of two by latency and requests in flight.
    TwoChoices,
    /// The same for the same key, unless it has too much to do.
    Hash,
}

/// For which request one is chosen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked {
    pub now: Micros,
    /// For [`Method::Hash`], from [`KeyFrom`].
    pub key: u64,
    /// They have failed it.
    pub except: Tried,
}

/// Servers that have failed a request: as many as it may be tried on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tried {
    servers: [ServerId; MOST_TRIED],
    count: u8,
}

/// One, and three more.
const MOST_TRIED: usize = 4;

impl Tried {
    pub fn add(&mut self, server: ServerId) {
        if !self.has(server)
            && let Some(place) = self.servers.get_mut(usize::from(self.count))
        {
            *place = server;
            self.count += 1;
        }
    }

    /// The same and this one.
    pub fn and(mut self, server: ServerId) -> Tried {
        self.add(server);
        self
    }

    pub fn has(&self, server: ServerId) -> bool {
        self.servers[..usize::from(self.count)].contains(&server)
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// A method and what it remembers. A choice allocates nothing.
#[derive(Debug)]
pub struct Choice {
    method: Method,
    rotation: Rotation,
    random: Random,
}

impl Choice {
    /// For `servers` servers; `start` staggers the rotations of workers, and `seed` their chance.
    pub fn new(method: Method, servers: usize, start: usize, seed: u64) -> Choice {
        Choice { method, rotation: Rotation::new(servers, start), random: Random::new(seed) }
    }

    pub fn method(&self) -> Method {
        self.method
    }

    /// The server for the next request: a number into `loads`, which are as many as in [`Choice::new`]. `uniform` says that all weights
    /// are equal and none is 0. None if no server may be chosen.
    #[inline]
    pub fn pick(&mut self, loads: &[Load], uniform: bool, asked: &Asked) -> Option<ServerId> {
        debug_assert!(!uniform || loads.iter().all(|load| load.weight == loads[0].weight && load.weight > 0));
        if uniform
            && self.method == Method::RoundRobin
            && let Some(index) = self.rotation.turn(loads, asked.except)
        {
            return Some(index as ServerId);
        }
        self.search(&Candidates { loads, uniform, except: asked.except }, asked)
    }

    #[inline(never)]
    fn search(&mut self, candidates: &Candidates<'_>, asked: &Asked) -> Option<ServerId> {
        let chosen = match self.method {
            Method::RoundRobin => self.rotation.pick(candidates),
            Method::Least => self.least(candidates),
            Method::TwoChoices => two::pick(candidates, &mut self.random, asked.now),
            Method::Hash => hash::pick(candidates, asked.key),
        };
        chosen.map(|index| index as ServerId)
    }

    fn least(&mut self, candidates: &Candidates<'_>) -> Option<usize> {
        let loads = candidates.loads;
        let cost = |this: usize, other: usize| (u64::from(loads[this].in_flight) + 1) * u64::from(loads[other].weight);
        self.rotation.best(candidates, |a, b| cost(a, b) < cost(b, a))
    }
}
