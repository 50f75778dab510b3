//! Idle connections to servers: per server, last in first out, so that a few stay hot and the rest may end.

use crate::base::Micros;
use crate::engine::ServerId;
use std::collections::VecDeque;

/// The idle connections of one worker, by server. Holds slots of uplinks, not the uplinks.
#[derive(Debug)]
pub struct IdlePool {
    servers: Vec<VecDeque<Idle>>,
    per_server: usize,
    count: usize,
}

/// An idle uplink's slot, since when it idles, from when it may be used, and until when it may idle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Idle {
    pub slot: u32,
    pub since: Micros,
    pub from: Micros,
    pub until: Micros,
}

impl IdlePool {
    pub fn new(servers: usize, per_server: usize) -> IdlePool {
        IdlePool { servers: vec![VecDeque::new(); servers], per_server, count: 0 }
    }

    /// Of the uplinks to this server that have rested, the one that idled the shortest.
    pub fn take(&mut self, server: ServerId, now: Micros) -> Option<Idle> {
        let list = self.servers.get_mut(usize::from(server))?;
        // Nearly always the last one.
        let at = list.iter().rposition(|idle| idle.from <= now)?;
        self.count -= 1;
        list.remove(at)
    }

    /// The uplink of any server that idled the longest there.
    pub fn oldest(&mut self) -> Option<Idle> {
        let idle = self.servers.iter_mut().find_map(VecDeque::pop_front)?;
        self.count -= 1;
        Some(idle)
    }

    /// Of the uplinks to this server, the one that idled the longest, rested or not.
    pub fn longest(&mut self, server: ServerId) -> Option<Idle> {
        let idle = self.servers.get_mut(usize::from(server))?.pop_front()?;
        self.count -= 1;
        Some(idle)
    }

    /// Keeps an uplink. Returns the one that must close if that is one too many: the longest idle one.
    pub fn put(&mut self, server: ServerId, idle: Idle) -> Option<Idle> {
        let Some(list) = self.servers.get_mut(usize::from(server)) else { return Some(idle) };
        list.push_back(idle);
        self.count += 1;
        if list.len() <= self.per_server {
            return None;
        }
        self.count -= 1;
        list.pop_front()
    }

    /// Forgets an uplink that has closed or spoken.
    pub fn remove(&mut self, server: ServerId, slot: u32) -> Option<Idle> {
        let list = self.servers.get_mut(usize::from(server))?;
        let at = list.iter().position(|idle| idle.slot == slot)?;
        self.count -= 1;
        list.remove(at)
    }

    /// Moves all uplinks that have idled long enough to `expired`.
    pub fn expire(&mut self, now: Micros, expired: &mut Vec<Idle>) {
        for list in &mut self.servers {
            list.retain(|idle| {
                let stays = idle.until > now;
                if !stays {
                    expired.push(*idle);
                }
                stays
            });
        }
        self.count -= expired.len();
    }

    /// Moves every uplink to `expired`.
    pub fn clear(&mut self, expired: &mut Vec<Idle>) {
        self.expire(Micros::MAX, expired);
    }

    /// Lets go of the room that only a burst needed.
    pub fn shrink(&mut self) {
        self.servers.iter_mut().for_each(VecDeque::shrink_to_fit);
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many uplinks idle here.
    pub fn len(&self) -> usize {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_in_first_out_bounded_and_expiring() {
        let mut pool = IdlePool::new(2, 2);
        let idle = |slot| Idle { slot, since: 0, from: 0, until: 100 * Micros::from(slot) };
        assert_eq!(pool.put(0, idle(1)), None);
        assert_eq!(pool.put(0, idle(2)), None);
        assert_eq!(pool.put(0, idle(3)), Some(idle(1)));
        assert_eq!(pool.take(1, 0), None);
        assert_eq!(pool.take(0, 0), Some(idle(3)));
        assert_eq!(pool.put(1, idle(4)), None);
        assert_eq!(pool.remove(1, 9), None);
        let mut expired = Vec::new();
        pool.expire(200, &mut expired);
        assert_eq!(expired, [idle(2)]);
        assert_eq!(pool.remove(1, 4), Some(idle(4)));
        assert!(pool.is_empty());
    }

    #[test]
    fn who_must_rest_is_passed_over_until_then() {
        let mut pool = IdlePool::new(1, 4);
        let (rested, resting) =
            (Idle { slot: 1, since: 0, from: 0, until: 99 }, Idle { slot: 2, since: 0, from: 50, until: 99 });
        pool.put(0, rested);
        pool.put(0, resting);
        assert_eq!(pool.take(0, 49), Some(rested));
        assert_eq!(pool.take(0, 49), None);
        assert_eq!(pool.longest(0), Some(resting));
        assert_eq!(pool.longest(0), None);
        pool.put(0, resting);
        assert_eq!(pool.take(0, 50), Some(resting));
        assert_eq!(pool.oldest(), None);
    }
}
