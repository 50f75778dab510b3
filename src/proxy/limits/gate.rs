//! Whether a new client may come in, and whether one that is in may ask: the first objection decides.

use crate::base::time::SECOND;
use crate::base::{Micros, Peer};
use crate::engine::CloseReason;
use crate::proxy::failure::Failure;
use crate::proxy::limits::{Access, Client, Connections, Entry, Rate, Rates, Ticket};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering::Relaxed;

/// The limits of one listener. Copies share the tables.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    pub access: Access,
    /// New connections that memory allows for. Set by whoever watches the memory, again and again.
    pub room: Arc<Room>,
    /// The most open connections per client, and where they are counted.
    pub connections: Option<(u32, Arc<Connections>)>,
    /// The most requests per client, and where they are counted.
    pub rate: Option<(Rate, Arc<Rates>)>,
}

/// New connections that may still come in. Without a limit, more than will ever come.
#[derive(Debug)]
pub struct Room(AtomicI64);

impl Default for Room {
    fn default() -> Room {
        Room(AtomicI64::new(i64::MAX))
    }
}

impl Room {
    /// From now on so many.
    pub fn set(&self, connections: i64) {
        self.0.store(connections, Relaxed);
    }

    /// One more, if it may be.
    fn take(&self) -> bool {
        self.0.fetch_sub(1, Relaxed) > 0
    }
}

impl Gate {
    /// A new connection, once it is known whom it comes from (after its preface, if there is one). The ticket is to be given to
    /// [`Gate::leave`] when the connection is over. Clients of a Unix socket have no address to be judged by.
    pub fn enter(&self, peer: Peer) -> Result<Ticket, Failure> {
        let ip = peer.ip();
        if ip.map_or(self.access.no_unix, |ip| !self.access.permits(ip)) {
            return Err(Failure::new(CloseReason::ClientDenied));
        }
        if !self.room.take() {
            return Err(Failure::new(CloseReason::MemoryLow));
        }
        let (Some(ip), Some((most, table))) = (ip, &self.connections) else { return Ok(Ticket::default()) };
        match table.enter(Client::of(ip), *most) {
            Entry::Entered(ticket) => Ok(ticket),
            Entry::Refused => Err(Failure::new(CloseReason::ClientConnections)),
        }
    }

    /// The connection is over.
    pub fn leave(&self, ticket: &mut Ticket) {
        if let Some((_, table)) = &self.connections {
            table.leave(ticket);
        }
    }

    /// A request of a client: of the connection's, or of the one that a trusted proxy speaks for.
    pub fn ask(&self, client: Option<IpAddr>, now: Micros) -> Result<(), Failure> {
        let (Some(ip), Some((rate, table))) = (client, &self.rate) else { return Ok(()) };
        let again =
            |wait: Micros| Failure { retry_after: wait.div_ceil(SECOND), ..Failure::new(CloseReason::ClientRate) };
        table.ask(Client::of(ip), now, *rate).map_err(again)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Guilty;
    use crate::proxy::limits::Networks;

    fn peer(ip: &str) -> Peer {
        Peer::Ip(format!("{ip}:5000").parse().unwrap())
    }

    fn gate() -> Gate {
        let deny = Networks::new(["203.0.113.0/24".parse().unwrap()]);
        Gate {
            access: Access { deny, ..Access::default() },
            connections: Some((2, Arc::new(Connections::new(64, 1)))),
            rate: Some((Rate::new(2, 3 * SECOND, 2), Arc::new(Rates::new(64, 1)))),
            ..Gate::default()
        }
    }

    fn told<T>(result: Result<T, Failure>) -> Option<(u16, &'static str, u64)> {
        result.err().map(|failure| (failure.status, failure.reason.word(), failure.retry_after))
    }

    #[test]
    fn the_first_objection_decides() {
        let gate = gate();
        assert!(gate.enter(peer("192.0.2.1")).unwrap().counts() && gate.enter(peer("192.0.2.1")).is_ok());
        let full = Some((429, "client-connections", 1));
        assert_eq!(told(gate.enter(peer("192.0.2.1"))), full);
        gate.room.set(0);
        assert_eq!(told(gate.enter(peer("192.0.2.1"))), Some((503, "memory-low", 1)));
        assert_eq!(told(gate.enter(peer("203.0.113.9"))), Some((403, "client-denied", 1)));
        assert_eq!(told(gate.enter(peer("[::ffff:203.0.113.9]"))), Some((403, "client-denied", 1)));
        gate.room.set(2);
        assert_eq!(told(gate.enter(peer("192.0.2.1"))), full);
        assert_eq!(told(gate.enter(peer("192.0.2.2"))), None);
    }

    #[test]
    fn memory_has_room_for_so_many_until_somebody_looks_again() {
        let gate = Gate::default();
        gate.room.set(2);
        let enter = || gate.enter(peer("192.0.2.1")).is_ok();
        assert_eq!([enter(), enter(), enter(), enter()], [true, true, false, false]);
        gate.room.set(1);
        assert_eq!([enter(), enter()], [true, false]);
    }

    #[test]
    fn who_leaves_makes_room_once() {
        let gate = gate();
        let (mut first, _second) = (gate.enter(peer("192.0.2.1")).unwrap(), gate.enter(peer("192.0.2.1")).unwrap());
        gate.leave(&mut first);
        gate.leave(&mut first);
        assert!(gate.enter(peer("192.0.2.1")).is_ok() && gate.enter(peer("192.0.2.1")).is_err());
    }

    #[test]
    fn who_asks_too_often_is_told_when_to_come_again() {
        let (gate, ip) = (gate(), peer("192.0.2.1").ip());
        assert_eq!((gate.ask(ip, 0), gate.ask(ip, 0)), (Ok(()), Ok(())));
        assert_eq!(told(gate.ask(ip, 0)), Some((429, "client-rate", 2)), "in 1.5 s");
        assert_eq!(told(gate.ask(ip, SECOND)), Some((429, "client-rate", 1)), "in 0.5 s");
        assert_eq!(gate.ask(ip, 3 * SECOND / 2), Ok(()));
        assert_eq!(gate.ask(peer("192.0.2.2").ip(), SECOND), Ok(()));
    }

    #[test]
    fn without_limits_and_without_an_address_everybody_may_come() {
        let (none, gate) = (Gate::default(), gate());
        for _ in 0..100 {
            assert_eq!(none.enter(peer("192.0.2.1")), Ok(Ticket::default()));
            assert_eq!(none.ask(peer("192.0.2.1").ip(), 0), Ok(()));
            assert_eq!(gate.enter(Peer::Unix), Ok(Ticket::default()));
            assert_eq!(gate.ask(None, 0), Ok(()));
        }
        let shut = Gate { access: Access { no_unix: true, ..Access::default() }, ..Gate::default() };
        assert_eq!(told(shut.enter(Peer::Unix)), Some((403, "client-denied", 1)));
        assert!(shut.enter(peer("192.0.2.1")).is_ok());
        assert_eq!(size_of::<Ticket>(), 4);
    }

    #[test]
    fn the_word_says_whose_doing_it_is() {
        for reason in [CloseReason::ClientDenied, CloseReason::ClientConnections, CloseReason::ClientRate] {
            assert_eq!(reason.guilty(), Guilty::Client);
        }
        assert_eq!(CloseReason::MemoryLow.guilty(), Guilty::Proxy);
    }
}
