//! Errands: the app's own connections to servers, such as health checks. One question, its answer, and it is closed.

use crate::base::{Address, Micros};
use crate::engine::{DialError, Errand, News, Outcome, Side};
use crate::net::io::{Event, Interest, Io, Token};
use crate::net::worker::{NEVER, dial_error};
use slab::Slab;
use std::io::ErrorKind;

/// An answer is not read any further than this.
const MOST: usize = 64 * 1024;
/// Bytes read at once.
const PIECE: usize = 4096;

/// The errands that a worker is on.
pub(super) struct Errands<I: Io> {
    running: Slab<Running<I>>,
    /// When to look at their deadlines: at the earliest of them, or before.
    pub due: Micros,
}

struct Running<I: Io> {
    errand: Errand,
    stream: I::Stream,
    generation: u32,
    connected: bool,
    /// Its time was over at the last look.
    overdue: bool,
    sent: usize,
    answer: Vec<u8>,
}

impl<I: Io> Errands<I> {
    pub fn new() -> Self {
        Errands { running: Slab::new(), due: NEVER }
    }

    pub fn len(&self) -> usize {
        self.running.len()
    }

    /// Sets out. That it failed at once is news as well.
    pub fn start(&mut self, errand: Errand, to: Option<&Address>, generation: u32, io: &mut I, news: &mut Vec<News>) {
        let server = errand.server;
        let mut fail = |error| news.push(News::Errand { server, outcome: Outcome::Failed(error) });
        let Some(address) = to else { return fail(DialError::Refused) };
        let mut stream = match io.dial(address) {
            Ok(stream) => stream,
            Err(error) => return fail(dial_error(&error)),
        };
        let entry = self.running.vacant_entry();
        let token = Token::Errand { slot: entry.key() as u32, generation };
        if io.watch(&mut stream, token, Interest::Both).is_err() {
            return fail(DialError::NoSocket);
        }
        self.due = self.due.min(errand.until);
        entry.insert(Running {
            errand,
            stream,
            generation,
            connected: false,
            overdue: false,
            sent: 0,
            answer: Vec::new(),
        });
    }

    /// Goes on with one of which an event tells.
    pub fn note(&mut self, slot: u32, generation: u32, event: &Event, io: &mut I, news: &mut Vec<News>) {
        let Some(running) = self.running.get_mut(slot as usize).filter(|running| running.generation == generation)
        else {
            return;
        };
        if let Some(outcome) = running.go_on(event, io) {
            self.end(slot as usize, outcome, io, news);
        }
    }

    /// Ends those whose time is over, and still is at the next look: if it was this process that stood still, what has come meanwhile is
    /// heard first.
    pub fn expire(&mut self, now: Micros, io: &mut I, news: &mut Vec<News>) {
        if now < self.due {
            return;
        }
        let mut late = Vec::new();
        for (slot, running) in self.running.iter_mut().filter(|(_, running)| running.errand.until <= now) {
            if std::mem::replace(&mut running.overdue, true) {
                late.push(slot);
            }
        }
        for slot in late {
            self.end(slot, Outcome::TimedOut, io, news);
        }
        self.due = self.running.iter().map(|(_, running)| running.errand.until).min().unwrap_or(NEVER);
    }

    /// Drops all of them.
    pub fn clear(&mut self) {
        self.running.clear();
        self.due = NEVER;
    }

    fn end(&mut self, slot: usize, outcome: Outcome, io: &mut I, news: &mut Vec<News>) {
        let Running { errand, stream, .. } = self.running.remove(slot);
        // Whatever is still unread is not wanted, and a port that waits for it is of no use.
        io.reset(stream);
        news.push(News::Errand { server: errand.server, outcome });
    }
}

impl<I: Io> Running<I> {
    fn go_on(&mut self, event: &Event, io: &mut I) -> Option<Outcome> {
        if !self.connected {
            if !event.writable && !event.hangup {
                return None;
            }
            if let Err(error) = io.connected(&self.stream) {
                return Some(Outcome::Failed(dial_error(&error)));
            }
            self.connected = true;
        }
        self.ask(io);
        self.listen(io)
    }

    /// A failed send shows when reading.
    fn ask(&mut self, io: &mut I) {
        while self.sent < self.errand.question.len() {
            match io.send(&mut self.stream, &self.errand.question[self.sent..], &[], false) {
                Ok(n) => self.sent += n,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    fn listen(&mut self, io: &mut I) -> Option<Outcome> {
        let mut piece = [0; PIECE];
        let side = loop {
            if (self.errand.enough)(&self.answer) || self.answer.len() >= MOST {
                break Side::Open;
            }
            match io.recv(&mut self.stream, &mut piece) {
                Ok(0) => break Side::Ended,
                Ok(n) => self.answer.extend_from_slice(&piece[..n]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break Side::Broken,
            }
        };
        Some(Outcome::Answer { bytes: std::mem::take(&mut self.answer), side })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::SECOND;
    use crate::base::{Now, Peer};
    use crate::engine::{AccessLog, AccessRecord, App, Chores, Flow, Turn};
    use crate::net::sys::Sys;
    use crate::net::{Remote, Settings, Worker};
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::Instant;

    struct NoLog;

    impl AccessLog for NoLog {
        fn record(&mut self, _: &AccessRecord) {}
    }

    /// Runs one errand, again whenever it was done, and tells how each ended.
    struct Asker {
        question: &'static str,
        within: Micros,
        running: bool,
        told: Sender<Outcome>,
    }

    impl App for Asker {
        type Session = ();

        fn open(&mut self, _: Peer, _: Now) {}

        fn advance(&mut self, (): &mut (), _: &mut Turn<'_>) {}

        fn deadline(&self, (): &mut (), _: Now, _: &Flow, _: &Flow) -> Option<Micros> {
            None
        }

        fn attend(&mut self, chores: &mut Chores) -> Micros {
            for news in &chores.news {
                if let News::Errand { server: 0, outcome } = news {
                    self.told.send(outcome.clone()).unwrap();
                    self.running = false;
                }
            }
            if !self.running {
                self.running = true;
                let (question, until) = (self.question.into(), chores.now.mono + self.within);
                let enough: fn(&[u8]) -> bool = |bytes| bytes.ends_with(b".");
                chores.errands.push(Errand { server: 0, question, enough, until });
            }
            NEVER
        }
    }

    fn asker(question: &'static str, within: Micros, server: &TcpListener) -> (Worker<Asker, Sys>, Receiver<Outcome>) {
        let sys = Sys::new(Vec::new(), Instant::now()).unwrap();
        let (told, hear) = channel();
        let app = Asker { question, within, running: false, told };
        let servers = vec![Address::Tcp(server.local_addr().unwrap())];
        let settings =
            Settings { buffer: 4096, buffers: usize::MAX, max_sessions: 1, idle_per_server: 0, drain: 0, linger: 0 };
        (Worker::new(app, sys, servers, Box::new(NoLog), Remote::new(|| {}), settings), hear)
    }

    fn next(worker: &mut Worker<Asker, Sys>, hear: &Receiver<Outcome>) -> Outcome {
        loop {
            worker.step().unwrap();
            if let Ok(outcome) = hear.try_recv() {
                return outcome;
            }
        }
    }

    #[test]
    fn an_answer_is_read_until_it_is_enough_or_ends() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let (mut worker, hear) = asker("how?", 600 * SECOND, &server);
        for (said, more, side) in [("well.", true, Side::Open), ("we", false, Side::Ended)] {
            worker.step().unwrap();
            let (mut stream, _) = server.accept().unwrap();
            stream.write_all(said.as_bytes()).unwrap();
            if !more {
                stream.shutdown(std::net::Shutdown::Write).unwrap();
            }
            let outcome = next(&mut worker, &hear);
            assert_eq!(outcome, Outcome::Answer { bytes: said.into(), side });
            let mut asked = [0; 4];
            stream.read_exact(&mut asked).unwrap();
            assert_eq!(&asked, b"how?");
        }
    }

    #[test]
    fn a_unix_server_whose_queue_is_full_is_not_our_want_of_sockets() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server");
        let server = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
        server.bind(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
        server.listen(1).unwrap();
        let mut sys = Sys::new(Vec::new(), Instant::now()).unwrap();
        let mut waiting = Vec::new();
        let error = loop {
            match sys.dial(&Address::Unix(path.clone())) {
                Ok(stream) => waiting.push(stream),
                Err(error) => break error,
            }
            assert!(waiting.len() < 100);
        };
        assert_eq!(dial_error(&error), DialError::Refused, "{error}, with {} in its queue", waiting.len());
    }

    #[test]
    fn one_that_gets_no_answer_ends_in_time_and_a_closed_port_at_once() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let (mut worker, hear) = asker("how?", 1000, &server);
        assert!(matches!(next(&mut worker, &hear), Outcome::TimedOut));
        worker.app.within = 600 * SECOND;
        // The one that is running again has its old deadline still.
        assert!(matches!(next(&mut worker, &hear), Outcome::TimedOut));
        drop(server);
        assert!(matches!(next(&mut worker, &hear), Outcome::Answer { .. } | Outcome::Failed(_)));
        assert_eq!(next(&mut worker, &hear), Outcome::Failed(DialError::Refused));
    }
}
