//! Requests that wait until a server has room, in the order in which they came.

use crate::engine::SessionId;
use std::collections::VecDeque;

/// See the module.
///
/// Nobody is handed a place: when there may be one, the first is woken and looks. It stays the first until it says that it leaves, and
/// whoever comes meanwhile stands behind it. So a session that ends while it is woken loses nobody's place.
#[derive(Debug)]
pub struct Queue {
    waiting: VecDeque<SessionId>,
    most: usize,
    /// There may be room: the first is to look.
    offered: bool,
}

impl Queue {
    pub fn new(most: usize) -> Queue {
        Queue { waiting: VecDeque::new(), most, offered: false }
    }

    /// Does anybody wait?
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// May one more wait?
    pub fn has_room(&self) -> bool {
        self.waiting.len() < self.most
    }

    /// Stands behind the others.
    pub fn join(&mut self, session: SessionId) {
        debug_assert!(self.has_room() && !self.waiting.contains(&session));
        self.waiting.push_back(session);
    }

    /// Is it this session's turn?
    pub fn is_first(&self, session: SessionId) -> bool {
        self.waiting.front() == Some(&session)
    }

    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// The session waits no more, whether it has found a server or not. The next one is to look.
    pub fn leave(&mut self, session: SessionId) {
        if let Some(at) = self.waiting.iter().position(|waiting| *waiting == session) {
            self.waiting.remove(at);
            self.offered = true;
        }
    }

    /// A server may have room now.
    pub fn offer(&mut self) {
        self.offered = true;
    }

    /// Adds who is to look for room.
    pub fn wake(&mut self, wake: &mut Vec<SessionId>) {
        if std::mem::take(&mut self.offered) {
            wake.extend(self.waiting.front());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(slot: u32) -> SessionId {
        SessionId { slot, generation: 1 }
    }

    fn woken(queue: &mut Queue) -> Vec<u32> {
        let mut wake = Vec::new();
        queue.wake(&mut wake);
        wake.into_iter().map(|session| session.slot).collect()
    }

    #[test]
    fn first_come_first_served_and_who_leaves_lets_the_next_one_look() {
        let mut queue = Queue::new(3);
        [1, 2, 3].iter().for_each(|slot| queue.join(session(*slot)));
        assert!(!queue.has_room(), "three are enough");
        assert_eq!(woken(&mut queue), [0; 0], "there is no room yet");
        queue.offer();
        assert_eq!((woken(&mut queue), woken(&mut queue)), (vec![1], vec![]));
        assert!(queue.is_first(session(1)) && !queue.is_first(session(2)));
        queue.leave(session(2));
        assert_eq!(woken(&mut queue), [1], "one that gave up passes the offer on");
        queue.leave(session(1));
        assert_eq!(woken(&mut queue), [3]);
        queue.leave(session(3));
        queue.leave(session(3));
        assert!(queue.is_empty() && woken(&mut queue).is_empty());
    }
}
