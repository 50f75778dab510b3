//! The clients, the servers and the operator around one proxy, as one seed makes them.

use super::book::{Book, Line};
use super::client::{Client, Manner};
use super::io::{Sim, World};
use super::make;
use super::net::{ActorId, Conn, ConnId, Net, State, What};
use super::random::Random;
use super::server::Server;
use super::taps::Broken;
use super::weather::Weather;
use pilb::base::time::SECOND;
use pilb::base::{Address, Micros};
use pilb::net::{Command, Remote};
use rustix::io::Errno;

pub enum Actor {
    Client(Box<Client>),
    Server(Box<Server>),
    /// Tells the worker something.
    Operator(Command),
}

/// What dials to a server become of, for scenes that want it exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Accepts,
    Refuses,
    RefusesAtOnce,
    Hangs,
}

pub struct Place {
    pub book: Book,
    pub actors: Vec<Option<Actor>>,
    /// Of the workers.
    pub remotes: Vec<Remote>,
    /// The fates of the next dials; then they are as the weather is.
    pub fates: Vec<Fate>,
    /// When servers end idle connections; `None`: as the weather is.
    pub idle_close: Option<Micros>,
    random: Random,
}

impl Place {
    pub fn new(seed: u64, random: Random) -> Place {
        Place {
            book: Book::new(seed),
            actors: Vec::new(),
            remotes: Vec::new(),
            fates: Vec::new(),
            idle_close: None,
            random,
        }
    }

    pub fn add(&mut self, net: &mut Net, at: Micros, actor: Actor) -> ActorId {
        self.actors.push(Some(actor));
        net.at(at, What::Actor(self.actors.len() - 1));
        self.actors.len() - 1
    }

    pub fn client(&mut self, net: &mut Net, at: Micros, manner: Manner, plans: Vec<super::book::Plan>) -> ActorId {
        let exchanges = plans.into_iter().map(|plan| self.book.plan(plan)).collect();
        let client = Client::new(self.random.split(), manner, exchanges);
        self.add(net, at, Actor::Client(Box::new(client)))
    }

    /// Fills the place as the weather is.
    pub fn populate(&mut self, net: &mut Net) {
        let weather = net.weather.clone();
        let clients = self.random.within(1, 6);
        let mut end = net.now;
        for _ in 0..clients {
            let count = 1 + self.random.skewed(5);
            let plans = (0..count).map(|_| make::plan(&mut self.random, &weather)).collect();
            let manner = make::manner(&mut self.random, &weather);
            let at = net.now + self.random.skewed(3 * SECOND);
            end = end.max(at);
            self.client(net, at, manner, plans);
        }
        self.trouble(net, &weather);
    }

    fn trouble(&mut self, net: &mut Net, weather: &Weather) {
        let soon = |random: &mut Random, now| now + random.skewed(20 * SECOND);
        if self.random.chance(weather.commands) {
            let at = soon(&mut self.random, net.now);
            let first = if self.random.chance(700) { Command::Drain } else { Command::Stop };
            self.add(net, at, Actor::Operator(first));
            if self.random.chance(300) {
                let at = at + self.random.skewed(20 * SECOND);
                self.add(net, at, Actor::Operator(Command::Stop));
            }
        }
        if self.random.chance(weather.leaps) {
            let at = soon(&mut self.random, net.now);
            net.at(at, What::Leap(self.random.skewed(400 * SECOND)));
        }
        if weather.wall_jumps {
            for _ in 0..3 {
                let at = soon(&mut self.random, net.now);
                let by = self.random.skewed(100_000 * SECOND) as i64;
                net.at(at, What::WallJump(if self.random.chance(500) { by } else { -by }));
            }
        }
    }

    /// Is no client still to come?
    pub fn all_came(&self) -> bool {
        let to_come = |actor: &Actor| matches!(actor, Actor::Client(client) if client.is_to_come());
        !self.actors.iter().flatten().any(to_come)
    }

    fn fate(&mut self, weather: &Weather) -> Fate {
        if !self.fates.is_empty() {
            return self.fates.remove(0);
        }
        if self.random.chance(weather.dial_refused) {
            if self.random.chance(300) { Fate::RefusesAtOnce } else { Fate::Refuses }
        } else if self.random.chance(weather.dial_hangs) {
            Fate::Hangs
        } else {
            Fate::Accepts
        }
    }

    /// The server's side of a dial.
    fn dialed(&mut self, net: &mut Net, conn: ConnId) {
        if net.conns[conn].state != State::Dialing || !net.conns[conn].held {
            return;
        }
        net.conns[conn].state = State::Open;
        let idle = self.idle_close.or_else(|| make::idle_close(&mut self.random, &net.weather));
        let server = Server::new(conn, self.random.split(), net, idle);
        let actor = self.add(net, net.now, Actor::Server(Box::new(server)));
        net.conns[conn].owner = Some(actor);
        net.happen(What::Edge(conn));
    }

    fn tell(&mut self, net: &mut Net, command: Command) {
        net.note(|| format!("the worker is told to {command:?}"));
        match command {
            Command::Stop => self.book.stopped = self.book.stopped.or(Some(net.now)),
            _ => self.book.drained = self.book.drained.or(Some(net.now)),
        }
        self.remotes.iter().for_each(|remote| remote.tell(command));
    }
}

impl World for Place {
    fn happen(&mut self, net: &mut Net, what: What) {
        match what {
            What::Dialed(conn) => self.dialed(net, conn),
            What::Actor(id) => {
                let Some(mut actor) = self.actors[id].take() else { return };
                match &mut actor {
                    Actor::Client(client) => client.act(id, net, &mut self.book),
                    Actor::Server(server) => server.act(id, net, &mut self.book),
                    Actor::Operator(command) => self.tell(net, *command),
                }
                self.actors[id] = Some(actor);
            }
            _ => {}
        }
    }

    fn dial(&mut self, net: &mut Net, address: &Address) -> Result<ConnId, Errno> {
        let number = match address {
            Address::Tcp(address) => address.port(),
            Address::Unix(_) => 0,
        };
        if net.random.chance(net.weather.dial_error) {
            self.book.no_sockets.push(net.now);
            return Err(*net.random.pick(&[Errno::MFILE, Errno::ADDRNOTAVAIL, Errno::AGAIN, Errno::NOBUFS]));
        }
        let fate = self.fate(&net.weather.clone());
        if fate == Fate::RefusesAtOnce {
            self.book.refusals.push(net.now);
            return Err(Errno::NETUNREACH);
        }
        let conn = net.connection(Some(number), State::Dialing, None);
        self.book.lines.insert(conn, Line::default());
        let at = net.now + net.random.below(net.weather.latency + 1);
        match fate {
            Fate::Accepts => net.at(at, What::Dialed(conn)),
            Fate::Hangs => self.book.hangs.push(net.now),
            _ => {
                self.book.refusals.push(net.now);
                net.at(at, What::ResetWorker(conn));
            }
        }
        Ok(conn)
    }

    fn sent(&mut self, net: &mut Net, conn: ConnId, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if let Err((rule, what)) = self.show(net, conn, bytes) {
            net.broke(rule, &what);
        }
    }
}

impl Place {
    fn show(&mut self, net: &Net, conn: ConnId, bytes: &[u8]) -> Result<(), Broken> {
        let book = &mut self.book;
        if net.conns[conn].server.is_none() {
            let Some(mut tap) = book.stories.get_mut(&conn).map(|story| std::mem::take(&mut story.tap)) else {
                return Ok(());
            };
            let result = tap.feed(book, conn, bytes);
            if let Some(story) = book.stories.get_mut(&conn) {
                story.tap = tap;
            }
            return result;
        }
        let Some(line) = book.lines.get_mut(&conn) else { return Ok(()) };
        let unclean = unclean(line, &net.conns[conn]);
        if line.tap.is_between() {
            line.read_before = net.conns[conn].received;
        }
        let mut tap = std::mem::take(&mut line.tap);
        let result = tap.feed(book, net, conn, bytes, unclean);
        if let Some(line) = book.lines.get_mut(&conn) {
            line.tap = tap;
        }
        result
    }
}

/// Why no request may begin on this connection, if it may not.
fn unclean(line: &Line, conn: &Conn) -> Option<&'static str> {
    if line.tap.asked.last().is_some_and(|asked| asked.end.is_none()) {
        return Some("the last one has not ended");
    }
    if !line.dirty && conn.received < line.owed {
        return Some("its answer was not read");
    }
    if line.right > 0 && conn.received > line.right && !line.tap.asked.is_empty() && !line.unsure {
        return Some("bytes were read behind its answer");
    }
    (!line.tap.asked.is_empty() && conn.is_spoken_for()).then_some("it had spoken or ended, and the worker knew")
}

pub type Town = Sim<Place>;
