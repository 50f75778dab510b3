//! Which server gets the next request.

use crate::engine::ServerId;

/// Each server in turn, strictly.
#[derive(Debug)]
pub struct RoundRobin {
    count: usize,
    next: usize,
}

impl RoundRobin {
    /// A rotation over `count` servers that begins with number `start` modulo `count`.
    pub fn new(count: usize, start: usize) -> Self {
        RoundRobin { count, next: if count == 0 { 0 } else { start % count } }
    }

    /// The next server; not `except` unless it is the only one.
    pub fn pick(&mut self, except: Option<ServerId>) -> Option<ServerId> {
        if self.count == 0 {
            return None;
        }
        let mut chosen = self.step();
        if self.count > 1 && Some(chosen) == except {
            chosen = self.step();
        }
        Some(chosen)
    }

    fn step(&mut self) -> ServerId {
        let chosen = self.next;
        self.next = if chosen + 1 == self.count { 0 } else { chosen + 1 };
        chosen as ServerId
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alternates_strictly_and_avoids_the_one_that_failed() {
        let mut three = RoundRobin::new(3, 4);
        let picks: Vec<_> = (0..6).filter_map(|_| three.pick(None)).collect();
        assert_eq!(picks, [1, 2, 0, 1, 2, 0]);
        assert_eq!(three.pick(Some(1)), Some(2));
        assert_eq!(RoundRobin::new(1, 0).pick(Some(0)), Some(0));
        assert_eq!(RoundRobin::new(0, 0).pick(None), None);
    }
}
