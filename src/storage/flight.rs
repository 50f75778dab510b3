//! Answers being made: whoever asks for one that is under way joins it, and takes its bytes as they come.
//!
//! A flight is a growing list of pieces. One thread of the pool makes them; sessions of any worker read them at their own pace.
//! Workers that listen are told when there is more. The lock is held to look or to add a piece, never while anything is made.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of a piece, but for the last one.
const PIECE: usize = 64 * 1024;

/// Tells a worker that a flight has moved.
pub trait Listener: Send + Sync {
    fn moved(&self, flight: &Arc<Flight>);
    /// The worker, to tell it once only.
    fn worker(&self) -> usize;
}

/// See the module.
#[derive(Default)]
pub struct Flight {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Each with the offset of its first byte.
    pieces: Vec<(u64, Arc<[u8]>)>,
    total: u64,
    end: End,
    listeners: Vec<Arc<dyn Listener>>,
}

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum End {
    /// More will come.
    #[default]
    Open,
    /// All bytes are there. `stored`: the cache has them.
    Whole { stored: bool },
    /// It could not be made to its end.
    Failed,
}

/// What a flight has at an offset.
#[derive(Debug)]
pub enum Look {
    /// A piece, and where in it the offset is.
    Piece(Arc<[u8]>, u64),
    /// Nothing yet.
    Wait,
    /// The offset is its end.
    End,
    Failed,
}

impl Flight {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes so far, and whether there will be more.
    pub fn progress(&self) -> (u64, End) {
        let state = self.state();
        (state.total, state.end)
    }

    pub fn look(&self, offset: u64) -> Look {
        let state = self.state();
        if offset < state.total {
            let after = state.pieces.partition_point(|(start, _)| *start <= offset);
            if let Some((start, piece)) = after.checked_sub(1).and_then(|index| state.pieces.get(index)) {
                return Look::Piece(piece.clone(), offset - start);
            }
        }
        match state.end {
            End::Open => Look::Wait,
            End::Whole { .. } => Look::End,
            End::Failed => Look::Failed,
        }
    }

    /// Has a worker told of every piece, and of the end. One that listens already is told once all the same.
    pub fn listen(&self, listener: Arc<dyn Listener>) {
        let mut state = self.state();
        if state.end == End::Open && !state.listeners.iter().any(|other| other.worker() == listener.worker()) {
            state.listeners.push(listener);
        }
    }

    fn add(self: &Arc<Self>, bytes: &[u8]) {
        let mut state = self.state();
        let start = state.total;
        state.pieces.push((start, Arc::from(bytes)));
        state.total += bytes.len() as u64;
        let listeners = state.listeners.clone();
        drop(state);
        listeners.iter().for_each(|listener| listener.moved(self));
    }

    /// All bytes, one after the other.
    pub fn concat(&self) -> Vec<u8> {
        let state = self.state();
        let mut whole = Vec::with_capacity(state.total as usize);
        state.pieces.iter().for_each(|(_, piece)| whole.extend_from_slice(piece));
        whole
    }

    /// Says how it ended.
    pub fn finish(self: &Arc<Self>, end: End) {
        let mut state = self.state();
        state.end = end;
        let listeners = std::mem::take(&mut state.listeners);
        drop(state);
        listeners.iter().for_each(|listener| listener.moved(self));
    }
}

/// Puts what is made into a flight, piece by piece.
pub struct Pilot<'a> {
    flight: &'a Arc<Flight>,
    /// The piece being filled.
    rest: Vec<u8>,
}

impl<'a> Pilot<'a> {
    pub fn new(flight: &'a Arc<Flight>) -> Self {
        Pilot { flight, rest: Vec::new() }
    }

    /// Adds the last piece.
    pub fn land(self) {
        if !self.rest.is_empty() {
            self.flight.add(&self.rest);
        }
    }
}

impl Write for Pilot<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = bytes.len().min(PIECE - self.rest.len());
        self.rest.extend_from_slice(&bytes[..n]);
        if self.rest.len() == PIECE {
            self.flight.add(&self.rest);
            self.rest.clear();
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The flights that are in the air, by what they make. Shared by all workers; asked only where nothing is kept.
#[derive(Default)]
pub struct Flights {
    flights: Mutex<HashMap<Vec<u8>, Arc<Flight>>>,
}

impl Flights {
    fn table(&self) -> MutexGuard<'_, HashMap<Vec<u8>, Arc<Flight>>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The flight that makes this, and whether it was in the air already. If not, the caller makes it.
    pub fn join(&self, what: &[u8]) -> (Arc<Flight>, bool) {
        let mut table = self.table();
        if let Some(flight) = table.get(what) {
            return (flight.clone(), true);
        }
        let flight = Arc::<Flight>::default();
        table.insert(what.to_vec(), flight.clone());
        (flight, false)
    }

    /// It has ended: who asks from now on begins another one.
    pub fn landed(&self, what: &[u8]) {
        self.table().remove(what);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[derive(Default)]
    struct Ear(AtomicUsize);

    impl Listener for Ear {
        fn moved(&self, _flight: &Arc<Flight>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
        fn worker(&self) -> usize {
            std::ptr::from_ref(self).addr()
        }
    }

    fn read(flight: &Flight) -> (Vec<u8>, String) {
        let mut bytes = Vec::new();
        loop {
            match flight.look(bytes.len() as u64) {
                Look::Piece(piece, skip) => bytes.extend_from_slice(&piece[skip as usize..]),
                other => return (bytes, format!("{other:?}")),
            }
        }
    }

    #[test]
    fn readers_see_what_there_is_so_far_and_the_end() {
        let (flight, content) = (Arc::<Flight>::default(), vec![7; PIECE + 5]);
        let ear = Arc::new(Ear::default());
        flight.listen(ear.clone());
        flight.listen(ear.clone());
        let mut pilot = Pilot::new(&flight);
        pilot.write_all(&content).unwrap();
        assert_eq!(read(&flight), (content[..PIECE].to_vec(), "Wait".to_owned()));
        pilot.land();
        assert_eq!(read(&flight), (content.clone(), "Wait".to_owned()));
        flight.finish(End::Whole { stored: true });
        assert_eq!(read(&flight), (content.clone(), "End".to_owned()));
        assert_eq!((flight.concat(), flight.progress()), (content, (PIECE as u64 + 5, End::Whole { stored: true })));
        assert_eq!(ear.0.load(Ordering::Relaxed), 3, "two pieces and the end");
    }

    #[test]
    fn a_failed_flight_says_so_behind_its_bytes() {
        let flight = Arc::<Flight>::default();
        flight.add(b"half");
        flight.finish(End::Failed);
        assert_eq!(read(&flight), (b"half".to_vec(), "Failed".to_owned()));
    }

    #[test]
    fn who_asks_while_it_is_in_the_air_joins() {
        let flights = Flights::default();
        let (first, joined) = flights.join(b"a");
        assert!(!joined);
        let (second, joined) = flights.join(b"a");
        assert!(joined && Arc::ptr_eq(&first, &second));
        assert!(!flights.join(b"b").1);
        flights.landed(b"a");
        assert!(!flights.join(b"a").1);
    }
}
