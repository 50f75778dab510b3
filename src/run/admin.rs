//! The admin side's own worker: its listener, its few connections, and what it knows of the workers that serve clients.
//!
//! It has its thread and its places for itself, so that it answers while all places for clients are taken, while new clients are turned
//! away for want of memory, and while the others finish what runs.

use crate::admin::{Admin, ServerView, Settings, Snapshot, Source, State};
use crate::base::Address;
use crate::base::time::SECOND;
use crate::config::{Exit, Server, explain_bind};
use crate::engine::{AccessLog, AccessRecord, ServerId, ServerTotals, Totals};
use crate::net::listen::{Options, listen};
use crate::net::sys::Listener;
use crate::net::{Settings as NetSettings, Worker};
use crate::proxy::board::Board;
use crate::proxy::ledger::{Block, Standing};
use crate::run::crew::{Crew, Rank};
use std::sync::Arc;

/// Connections at once.
const PLACES: usize = 16;
/// Files that it may have open: its connections, its listener, what its loop needs.
pub(super) const FILES: usize = 2 * PLACES;

/// A listener of the admin side.
pub(super) struct Door {
    listener: Listener,
    /// Where it really is.
    address: Address,
}

impl Door {
    /// Listens there, if anywhere.
    pub(super) fn open(address: Option<&Address>) -> Result<Option<Door>, Exit> {
        let Some(address) = address else { return Ok(None) };
        let cannot = |error| Exit::cannot_start(explain_bind("--admin", address, &error));
        let options = Options { backlog: PLACES as i32, reuse_port: false };
        let listener = listen(address, options).map_err(cannot)?;
        let address = listener.address().map_err(cannot)?;
        Ok(Some(Door { listener, address }))
    }

    /// Starts the worker, after those that serve clients. It ends after them, too.
    pub(super) fn serve(self, crew: &mut Crew, mut books: Books) -> Result<(), Exit> {
        books.wake = Box::new(crew.waker(Rank::Front));
        let recruit = crew.single(vec![self.listener])?;
        let net = NetSettings {
            buffer: 16 * 1024,
            buffers: usize::MAX,
            max_sessions: PLACES,
            idle_per_server: 0,
            drain: SECOND,
            linger: 2 * SECOND,
        };
        crew.start(Rank::Back, "pilb-admin", recruit, move |sys, remote| {
            let app = Admin::new(books, Settings::default());
            Worker::new(app, sys, Vec::new(), Box::new(NoLog), remote, net)
        })?;
        match self.address {
            Address::Tcp(address) => log::info!("admin on http://{address}"),
            Address::Unix(_) => log::info!("admin on {}", self.address),
        }
        Ok(())
    }
}

/// The access log is about clients.
struct NoLog;

impl AccessLog for NoLog {
    fn record(&mut self, _: &AccessRecord) {}
}

/// What the workers have published.
pub(super) struct Books {
    servers: Vec<Server>,
    board: Arc<Board>,
    blocks: Vec<Arc<Block>>,
    /// Has the workers look at the board: those that have nothing to do would not.
    wake: Box<dyn Fn() + Send>,
}

impl Books {
    pub(super) fn new(servers: &[Server], board: Arc<Board>, blocks: Vec<Arc<Block>>) -> Books {
        Books { servers: servers.to_vec(), board, blocks, wake: Box::new(|| {}) }
    }

    fn view(&self, id: ServerId, server: &Server) -> ServerView {
        let (notice, drained) = (self.board.read(id), self.board.is_drained(id));
        let (mut totals, mut standings) = (ServerTotals::default(), Vec::new());
        for (numbers, standing) in self.blocks.iter().filter_map(|block| block.server(id)) {
            totals.add(&numbers);
            standings.push(standing);
        }
        let (state, share) = stands(drained, notice.down, &standings);
        ServerView {
            name: server.name.clone(),
            address: server.address.to_string(),
            weight: server.weight.into(),
            backup: server.backup,
            state,
            share,
            probe: (notice.count > 0).then_some(notice.well),
            totals,
        }
    }
}

/// How a server stands with all workers together, and the share of its weight that it has on average.
fn stands(drained: bool, down: bool, standings: &[Standing]) -> (State, u32) {
    if drained {
        return (State::Drained, 0);
    }
    if down {
        return (State::Down, 0);
    }
    // The board knows best. Who still believes that the server is down has had nothing to do since.
    let awake: Vec<&Standing> = standings.iter().filter(|standing| !standing.down).collect();
    let sum: u32 = awake.iter().map(|standing| standing.share).sum();
    let share = sum.checked_div(awake.len() as u32).unwrap_or(100);
    let state = match share {
        _ if awake.iter().any(|standing| standing.ejected) => State::Ejected,
        ..100 => State::Starting,
        _ => State::Up,
    };
    (state, share)
}

impl Source for Books {
    fn look(&self) -> Snapshot {
        let mut totals = Totals::default();
        self.blocks.iter().for_each(|block| totals.add(&block.totals()));
        Snapshot {
            draining: self.blocks.iter().any(|block| block.is_draining()),
            workers: self.blocks.len(),
            totals,
            servers: self.servers.iter().zip(0..).map(|(server, id)| self.view(id, server)).collect(),
        }
    }

    fn drain(&mut self, server: usize, drained: bool) {
        let Some((id, known)) = ServerId::try_from(server).ok().zip(self.servers.get(server)) else { return };
        if self.board.is_drained(id) != drained {
            let doing = if drained { "gets no more requests" } else { "gets requests again" };
            log::info!("server {} {doing}: told by the admin side", known.name);
        }
        self.board.drain(id, drained);
        (self.wake)();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn standing(down: bool, ejected: bool, share: u32) -> Standing {
        Standing { down, ejected, share }
    }

    #[test]
    fn workers_are_heard_but_for_what_the_board_knows_better() {
        let (up, ejected, down) = (standing(false, false, 100), standing(false, true, 0), standing(true, false, 0));
        assert_eq!(stands(false, false, &[up, up]), (State::Up, 100));
        assert_eq!(stands(false, false, &[up, ejected]), (State::Ejected, 50));
        assert_eq!(stands(false, false, &[ejected, ejected]), (State::Ejected, 0));
        assert_eq!(stands(false, false, &[up, standing(false, false, 40)]), (State::Starting, 70));
        assert_eq!(stands(false, true, &[up, down]), (State::Down, 0), "one has not heard of it");
        assert_eq!(stands(false, false, &[up, down]), (State::Up, 100), "one has not heard that it is over");
        assert_eq!(stands(false, false, &[down]), (State::Up, 100));
        assert_eq!(stands(true, true, &[up]), (State::Drained, 0));
    }

    #[test]
    fn a_server_is_drained_for_all_workers_and_they_are_woken() {
        let server = |name: &str| Server {
            name: name.to_owned(),
            address: Address::Tcp("127.0.0.1:1".parse().unwrap()),
            weight: 3,
            backup: false,
        };
        let board = Arc::new(Board::new(2));
        let blocks = vec![Arc::new(Block::new(2)), Arc::new(Block::new(2))];
        let mut books = Books::new(&[server("a"), server("b")], board.clone(), blocks);
        let woken = Arc::new(AtomicU32::new(0));
        let counter = woken.clone();
        books.wake = Box::new(move || {
            counter.fetch_add(1, Ordering::Relaxed);
        });
        books.drain(1, true);
        books.drain(7, true);
        assert!(board.is_drained(1) && !board.is_drained(0) && woken.load(Ordering::Relaxed) == 1);
        let snapshot = books.look();
        let states: Vec<_> = snapshot.servers.iter().map(|server| (server.state, server.share)).collect();
        assert_eq!(states, [(State::Up, 100), (State::Drained, 0)]);
        assert!(snapshot.is_healthy() && snapshot.workers == 2 && snapshot.servers[0].probe.is_none());
        books.drain(0, true);
        assert!(!books.look().is_healthy());
        books.drain(1, false);
        assert!(books.look().is_healthy());
        board.post(1, true, false);
        let server = &books.look().servers[1];
        assert_eq!((server.state, server.probe, server.weight), (State::Down, Some(false), 3));
    }
}
