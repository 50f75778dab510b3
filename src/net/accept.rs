//! How clients come in: from the listeners of this worker, or handed over by another one.

use crate::base::{Micros, Peer};
use crate::engine::App;
use crate::net::io::{Io, Token};
use crate::net::lane::Lane;
use crate::net::link::Link;
use crate::net::share::{Place, Share};
use crate::net::worker::{Attached, NEVER, Slot, Worker};
use std::io;

/// Clients accepted from one listener before others get their turn.
const ACCEPT_BUDGET: usize = 64;
/// How long accepting pauses when descriptors have run out.
const ACCEPT_PAUSE: Micros = 100_000;

impl<A: App, I: Io> Worker<A, I> {
    /// Is a client waiting that may come in now?
    pub(super) fn accepts(&self) -> bool {
        let most = self.settings.max_sessions;
        self.ready.contains(&true)
            && self.now.mono >= self.accept_after
            && self.share.as_ref().map_or(self.sessions.len() < most, |share| share.has_room(most))
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
        for listener in 0..self.ready.len() {
            let mut budget = ACCEPT_BUDGET;
            while self.ready[listener] && budget > 0 && self.now.mono >= self.accept_after {
                let Some(place) = self.enter() else { return };
                budget -= 1;
                self.accept_from(listener as u32, place);
            }
        }
    }

    fn accept_from(&mut self, listener: u32, place: Place) {
        let error = match self.io.accept(listener) {
            Ok(client) => return self.seat(client, place),
            Err(error) => error,
        };
        self.leave(place);
        match error.kind() {
            io::ErrorKind::WouldBlock => self.ready[listener as usize] = false,
            // The client gave up while it waited.
            io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted => {}
            _ => {
                log::warn!("cannot accept ({error}); trying again in {} ms", ACCEPT_PAUSE / 1000);
                self.accept_after = self.now.mono + ACCEPT_PAUSE;
            }
        }
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
        let app = self.app.open(peer, self.now);
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
            app,
            client,
            reply: Lane::default(),
            uplink: Attached::None,
            generation,
            queued: false,
            lingers: false,
            armed: NEVER,
        });
        // Under load the request is mostly here already: it needs no event of its own.
        self.sessions[slot as usize].client.look();
        self.queue(slot, false);
        self.arm(slot);
    }
}
