//! The peer's end of connections: what clients and servers do with their sockets.

use super::{ActorId, ConnId, Fin, Net, State, What};
use crate::bytes::Bytes;

impl Net {
    /// Does any worker accept clients?
    pub fn listens(&self) -> bool {
        self.ends.iter().any(|end| end.listens)
    }

    /// A client connects. `None`: nobody listens, or too many wait.
    pub fn peer_connect(&mut self, owner: ActorId) -> Option<ConnId> {
        if !self.listens() || self.backlog.len() >= 64 {
            return None;
        }
        let id = self.connection(None, State::Backlog, Some(owner));
        self.backlog.push_back(id);
        self.ends.iter_mut().for_each(|end| end.listener_woken = end.listens);
        self.moved += 1;
        Some(id)
    }

    /// Sends the first bytes of `bytes`, at most `most` and as many as the window takes.
    pub fn peer_send(&mut self, id: ConnId, bytes: &mut Bytes, most: u64) -> u64 {
        let conn = &mut self.conns[id];
        if conn.in_fin != Fin::Open || !conn.peer_open || conn.peer_reset {
            return 0;
        }
        let n = bytes.len().min(conn.room_in()).min(most);
        conn.peer_nospace = n < bytes.len();
        if n > 0 {
            let taken = bytes.take(n);
            conn.in_flight.append(taken);
            self.send_off_in(id);
        }
        n
    }

    /// Takes what has come, at most `most` bytes.
    pub fn peer_read(&mut self, id: ConnId, most: u64) -> u64 {
        let conn = &mut self.conns[id];
        let n = conn.out_arrived.min(most);
        conn.out_arrived -= n;
        if n > 0 {
            self.wake_for_space(id);
        }
        n
    }

    /// All that the worker sent was read, and it has ended its half.
    pub fn peer_at_end(&self, id: ConnId) -> bool {
        let conn = &self.conns[id];
        conn.out_arrived == 0 && conn.out_fin == Fin::Arrived
    }

    pub fn peer_end(&mut self, id: ConnId) {
        let conn = &mut self.conns[id];
        if conn.in_fin == Fin::Open && conn.peer_open && !conn.peer_reset {
            conn.in_fin = Fin::Sent;
            self.note(|| format!("c{id} peer ends"));
            self.send_off_in(id);
        }
    }

    pub fn peer_close(&mut self, id: ConnId) {
        if !self.conns[id].peer_open {
            return;
        }
        if self.conns[id].out_arrived > 0 {
            return self.peer_break(id);
        }
        self.peer_end(id);
        self.conns[id].peer_open = false;
        self.note(|| format!("c{id} peer closes"));
        if self.conns[id].out_flight > 0 {
            self.send_off_out(id);
        }
    }

    /// The peer resets. What it has sent may be lost.
    pub fn peer_break(&mut self, id: ConnId) {
        let conn = &mut self.conns[id];
        if !conn.peer_open {
            return;
        }
        conn.peer_open = false;
        self.note(|| format!("c{id} peer resets"));
        let conn = &mut self.conns[id];
        if conn.peer_reset {
            return;
        }
        let survives = self.random.within(0, conn.in_flight.len());
        conn.in_flight.truncate(survives);
        if conn.in_fin == Fin::Sent && survives == 0 {
            conn.in_fin = Fin::Open;
        }
        conn.out_arrived = 0;
        let came = conn.in_flight.take(survives);
        conn.in_arrived.append(came);
        self.wake(id, false);
        let at = self.travel(id);
        self.at(at, What::ResetWorker(id));
    }
}
