//! How clients come in: from the listeners of this worker, or handed over by another one.

use crate::base::{Micros, Peer};
use crate::engine::App;
use crate::net::io::{Io, Token};
use crate::net::lane::Lane;
use crate::net::link::Link;
use crate::net::share::{Place, Share};
use crate::net::worker::{Attached, NEVER, Slot, Worker, no_socket};
use std::io;

/// Clients accepted from one listener before others get their turn.
const ACCEPT_BUDGET: usize = 64;
/// How long accepting pauses when descriptors have run out.
const ACCEPT_PAUSE: Micros = 100_000;
/// How soon a worker that has no place for a client looks for one again.
pub(super) const ROOM_PAUSE: Micros = 100_000;
/// Of so many clients one has to go when a place is needed, so that not each newcomer costs a search.
const SHED_PART: usize = 256;
/// How often it is said that places are short.
const SHORTAGE_PAUSE: Micros = 60_000_000;

impl<A: App, I: Io> Worker<A, I> {
    /// Is there more to accept at once? With one waiting for a place, only when there is one.
    pub(super) fn accepts(&self) -> bool {
        let most = self.settings.max_sessions;
        let comes = self.waiting.is_some() || (self.ready.contains(&true) && self.now.mono >= self.accept_after);
        let room = || self.share.as_ref().map_or(self.sessions.len() < most, |share| share.has_room(most));
        comes && (self.waiting.is_none() || room())
    }

    /// Takes a place for one more client, if there is one.
    fn enter(&self) -> Option<Place> {
        let most = self.settings.max_sessions;
        match &self.share {
            None => (self.sessions.len() < most).then_some(Place::Here),
            Some(share) => share.enter(most),
        }
    }

    /// Gives a place back.
    pub(super) fn leave(&self, place: Place) {
        if let Some(share) = &self.share {
            share.leave(place);
        }
    }

    pub(super) fn accept(&mut self) {
        if !self.seat_waiting() {
            return;
        }
        for listener in 0..self.ready.len() {
            let mut budget = ACCEPT_BUDGET;
            while self.ready[listener] && budget > 0 && self.now.mono >= self.accept_after {
                budget -= 1;
                match self.enter() {
                    Some(place) => self.accept_from(listener as u32, Some(place)),
                    None => {
                        self.accept_from(listener as u32, None);
                        if !self.seat_waiting() {
                            return;
                        }
                    }
                }
            }
        }
    }

    /// Somebody was accepted for whom there was no place: looks for one. False if there is none still.
    fn seat_waiting(&mut self) -> bool {
        let Some(client) = self.waiting.take() else { return true };
        let mut place = self.enter();
        if place.is_none() {
            self.tell_of_shortage();
            place = self.room_here_or_elsewhere().then(|| self.enter()).flatten();
        }
        if let Some(place) = place {
            self.seat(client, place);
            return true;
        }
        self.waiting = Some(client);
        false
    }

    /// Makes room, or has others make some, of which this worker hears. False if there is none yet.
    fn room_here_or_elsewhere(&mut self) -> bool {
        if self.now.mono < self.room_after {
            return false;
        }
        let made = self.make_room();
        if !made {
            self.share.iter().for_each(|share| share.ask_for_room(share.own()));
        }
        made
    }

    /// Makes room for a client of a worker that can make none, or passes the question on. Once all events are known: who has something to
    /// say does not idle.
    pub(super) fn oblige(&mut self) {
        let Some(asker) = self.share.as_ref().and_then(Share::asker) else { return };
        let made = self.make_room();
        self.share.iter().for_each(|share| if made { share.wake(asker) } else { share.ask_for_room(asker) });
    }

    fn tell_of_shortage(&mut self) {
        if self.now.mono >= self.shortage_after {
            self.shortage_after = self.now.mono + SHORTAGE_PAUSE;
            let most = self.settings.max_sessions;
            log::warn!(
                "all {most} places for clients are taken: idle ones have to go (raise --max-connections or ulimit -n)"
            );
        }
    }

    /// A place or a descriptor is needed: those that only linger have to go, or else the clients that have been idle the longest after an
    /// answer have to finish. (Who has had none yet is about to ask, or meets its own deadline.) False if there is nobody.
    fn make_room(&mut self) -> bool {
        if self.now.mono < self.room_after {
            return false;
        }
        let part = 1 + self.sessions.len() / SHED_PART;
        let lingering = self.sessions.iter().filter(|(_, slot)| slot.lingers);
        let lingering: Vec<u32> = lingering.map(|(slot, _)| slot as u32).take(part).collect();
        if !lingering.is_empty() {
            lingering.into_iter().for_each(|slot| drop(self.remove(slot)));
            return true;
        }
        let idle = |slot: &Slot<A, I>| {
            let (up, down, alone) = (&slot.client.lane.flow, &slot.reply.flow, matches!(slot.uplink, Attached::None));
            alone && !slot.lingers && down.given() > 0 && up.is_empty() && down.is_empty()
        };
        let slots: Vec<u32> =
            self.sessions.iter().filter(|(_, slot)| idle(slot)).map(|(slot, _)| slot as u32).collect();
        let mut by_age: Vec<(Micros, u32)> = slots.into_iter().map(|slot| (self.deadline(slot), slot)).collect();
        let some = part.min(by_age.len());
        if some < by_age.len() {
            by_age.select_nth_unstable(some);
        }
        by_age[..some].iter().for_each(|(_, slot)| self.make_leave(*slot));
        if some == 0 {
            self.room_after = self.now.mono + ROOM_PAUSE;
        }
        some > 0
    }

    fn accept_from(&mut self, listener: u32, place: Option<Place>) {
        let error = match (self.io.accept(listener), place) {
            (Ok(client), Some(place)) => return self.seat(client, place),
            (Ok(client), None) => {
                self.waiting = Some(client);
                return;
            }
            (Err(error), _) => error,
        };
        if let Some(place) = place {
            self.leave(place);
        }
        match error.kind() {
            io::ErrorKind::WouldBlock => self.ready[listener as usize] = false,
            // The client gave up while it waited.
            io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted => {}
            _ if no_socket(&error) && self.spare_socket() => {}
            _ => {
                log::warn!("cannot accept ({error}); trying again in {} ms", ACCEPT_PAUSE / 1000);
                self.accept_after = self.now.mono + ACCEPT_PAUSE;
            }
        }
    }

    /// Descriptors have run out. A connection to a server that idles is worth less than a client, and a client that idles as well.
    fn spare_socket(&mut self) -> bool {
        match self.idle.oldest() {
            Some(idle) => self.drop_idle(idle.slot),
            None => return self.make_room(),
        }
        true
    }

    /// Brings a client to its place.
    fn seat(&mut self, client: (I::Stream, Peer), place: Place) {
        let kept = match (place, &mut self.share) {
            (Place::With(other), Some(share)) => share.hand_over(other, client),
            _ => Err(client),
        };
        if let Err((stream, peer)) = kept {
            self.open(stream, peer);
        }
    }

    /// Serves those whom other workers have handed over.
    pub(super) fn take_in(&mut self) {
        while let Some((stream, peer)) = self.share.as_mut().and_then(Share::take_in) {
            self.open(stream, peer);
        }
    }

    fn open(&mut self, stream: I::Stream, peer: Peer) {
        let generation = self.next_generation();
        let mut client = Link::accepted(stream);
        let entry = self.sessions.vacant_entry();
        let slot = entry.key() as u32;
        if let Err(error) = client.watch(&mut self.io, Token::Session { slot, generation }) {
            log::warn!("cannot watch a new client ({error})");
            return self.leave(Place::Here);
        }
        self.served += 1;
        entry.insert(Slot {
            // Last: what a session takes when it is opened it gives back only when it ends.
            app: self.app.open(peer, self.now),
            client,
            reply: Lane::default(),
            uplink: Attached::None,
            generation,
            queued: false,
            lingers: false,
            armed: NEVER,
            later: NEVER,
        });
        // Under load the request is mostly here already: it needs no event of its own.
        self.sessions[slot as usize].client.look();
        self.queue(slot, false);
        self.arm(slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Micros, Now};
    use crate::engine::{AccessLog, AccessRecord, Close, Drain, Flow, Turn};
    use crate::net::sys::{Listener, Sys};
    use crate::net::{Remote, Settings};
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpStream};
    use std::sync::Arc;
    use std::time::Instant;

    struct NoLog;

    impl AccessLog for NoLog {
        fn record(&mut self, _: &AccessRecord) {}
    }

    /// Wants nobody.
    struct Refusing;

    impl App for Refusing {
        type Session = ();

        fn open(&mut self, _: Peer, _: Now) {}

        fn advance(&mut self, (): &mut (), turn: &mut Turn<'_>) {
            turn.effects.close = Some(Close::Linger);
        }

        fn deadline(&self, (): &mut (), _: Now, _: &Flow, _: &Flow) -> Option<Micros> {
            None
        }
    }

    /// Answers each byte but `p`s, which come before a question, with one, and goes when it has to.
    struct Answering;

    impl App for Answering {
        type Session = ();

        fn open(&mut self, _: Peer, _: Now) {}

        fn advance(&mut self, (): &mut (), turn: &mut Turn<'_>) {
            let mut bytes = turn.up.raw().to_vec();
            turn.up.skip(bytes.len());
            bytes.retain(|byte| *byte != b'p');
            if turn.down.push(turn.pool, &bytes) == 0 && turn.drain == Drain::Leave {
                turn.effects.close = Some(Close::Finish);
            }
        }

        fn deadline(&self, (): &mut (), _: Now, _: &Flow, _: &Flow) -> Option<Micros> {
            Some(NEVER - 1)
        }
    }

    /// A worker with so many places, and where it listens.
    fn worker<A: App>(app: A, max_sessions: usize, remote: Remote) -> (Worker<A, Sys>, SocketAddr, Arc<mio::Waker>) {
        let listener = mio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = listener.local_addr().unwrap();
        let sys = Sys::new(vec![Listener::Tcp(listener)], Instant::now()).unwrap();
        let (waker, linger) = (sys.waker(), 3_600_000_000);
        let settings =
            Settings { buffer: 4096, buffers: usize::MAX, max_sessions, idle_per_server: 0, drain: NEVER, linger };
        (Worker::new(app, sys, Vec::new(), Box::new(NoLog), remote, settings), address, waker)
    }

    #[test]
    fn who_was_refused_and_only_lingers_makes_room() {
        let (mut worker, address, _) = worker(Refusing, 1, Remote::new(|| {}));
        let _clients = [1, 2, 3].map(|served| {
            let client = TcpStream::connect(address).unwrap();
            while worker.served < served {
                worker.step().unwrap();
            }
            client
        });
        assert_eq!(worker.census().sessions, 1);
    }

    #[test]
    fn who_is_about_to_ask_makes_no_room() {
        let (mut worker, address, _) = worker(Answering, 1, Remote::new(|| {}));
        let mut client = TcpStream::connect(address).unwrap();
        client.write_all(b"p").unwrap();
        while worker.sessions.iter().all(|(_, slot)| slot.client.lane.flow.taken() == 0) {
            worker.step().unwrap();
        }
        let _newcomer = TcpStream::connect(address).unwrap();
        while worker.waiting.is_none() && worker.served == 1 {
            worker.step().unwrap();
        }
        assert_eq!(worker.served, 1);
    }

    /// Four workers with a place each: two clients have said nothing, two idle after an answer.
    #[test]
    fn who_idles_with_another_worker_makes_room_and_only_one() {
        type Four = [(Worker<Answering, Sys>, SocketAddr, Arc<mio::Waker>); 4];
        let remotes = [(); 4].map(|()| Remote::new(|| {}));
        let mut shares = Share::among(&remotes).into_iter();
        let mut workers: Four = remotes.map(|remote| {
            let (worker, address, waker) = worker(Answering, 1, remote);
            (worker.sharing(shares.next()), address, waker)
        });
        let addresses = [0, 1, 2, 3].map(|at| workers[at].1);
        let mut turns = |done: &dyn Fn(&Four) -> bool| {
            // Nobody has to sleep: each looks again as if woken.
            while !done(&workers) {
                for (worker, _, waker) in &mut workers {
                    waker.wake().unwrap();
                    worker.step().unwrap();
                }
            }
        };
        let answered =
            |workers: &Four, at: usize| workers[at].0.sessions.iter().any(|(_, slot)| slot.reply.flow.given() == 1);
        let mut clients = [0, 1, 2, 3].map(|at| {
            let mut client = TcpStream::connect(addresses[at]).unwrap();
            turns(&|workers| workers[at].0.served == 1);
            if at >= 2 {
                client.write_all(b"x").unwrap();
                turns(&|workers| answered(workers, at));
            }
            client
        });
        let _newcomer = TcpStream::connect(addresses[0]).unwrap();
        turns(&|workers| workers[2].0.served == 2);
        let mut said = Vec::new();
        clients[2].read_to_end(&mut said).unwrap();
        assert_eq!(said, b"x");
        clients[3].write_all(b"y").unwrap();
        turns(&|workers| workers[3].0.sessions.iter().any(|(_, slot)| slot.reply.flow.given() == 2));
    }
}
