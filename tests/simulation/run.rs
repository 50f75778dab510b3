//! Runs a world to its end, one turn after the other, and says which rule broke first.

use super::io::{Sim, SimIo};
use super::judge::{Judge, show};
use super::net::Net;
use super::random::Random;
use super::taps::Broken;
use super::weather::Weather;
use super::world::{Place, Town};
use pilb::base::Address;
use pilb::base::buffer::HEADROOM;
use pilb::base::time::SECOND;
use pilb::engine::{AccessLog, AccessRecord, CloseReason};
use pilb::net::{Census, Command, Remote, Settings as NetSettings, Share, Worker};
use pilb::proxy::board::Board;
use pilb::proxy::choice::Method;
use pilb::proxy::probe::Check;
use pilb::proxy::seats::Waker;
use pilb::proxy::servers::Server;
use pilb::proxy::{Place as At, Proxy, Settings};
use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

/// Limits and sizes of one world.
#[derive(Clone, Debug)]
pub struct Setup {
    pub weather: Weather,
    /// Turns that it may take.
    pub turns: u64,
    pub servers: usize,
    pub workers: usize,
    pub proxy: Settings,
    pub net: NetSettings,
}

impl Setup {
    pub fn calm() -> Setup {
        Setup {
            weather: Weather::calm(),
            turns: 100_000,
            servers: 2,
            workers: 1,
            proxy: Settings { tunnel_idle: 90 * SECOND, ..Settings::default() },
            net: NetSettings {
                buffer: 16 * 1024,
                buffers: usize::MAX,
                max_sessions: 1000,
                idle_per_server: 64,
                drain: 30 * SECOND,
                linger: 2 * SECOND,
            },
        }
    }

    fn of(random: &mut Random) -> Setup {
        let mut setup = Setup { weather: Weather::of(random), ..Setup::calm() };
        setup.servers = random.within(1, 3) as usize;
        setup.net.buffer = *random.pick(&[512, 4096, 16 * 1024, 16 * 1024]);
        setup.net.max_sessions = *random.pick(&[1000, 1000, 1000, 2]);
        setup.net.idle_per_server = *random.pick(&[64, 64, 1, 0]);
        setup.proxy.retry_percent = 100;
        let policy = &mut setup.proxy.servers;
        policy.method = *random.pick(&[Method::RoundRobin, Method::Least, Method::TwoChoices, Method::Hash]);
        policy.most = *random.pick(&[None, None, None, Some(1), Some(2)]);
        policy.queue = *random.pick(&[1024, 1024, 1]);
        policy.health.failures = *random.pick(&[0, 0, 5, 1]);
        policy.health.slow_start = *random.pick(&[0, 5 * SECOND]);
        policy.probes.check = random.pick(&[Check::Off, Check::Off, Check::Tcp]).clone();
        policy.probes.interval = *random.pick(&[SECOND / 5, 5 * SECOND]);
        if setup.weather.window.1 <= 20_000 {
            // What takes hours is not to consist of probes.
            policy.probes.interval = 5 * SECOND;
        }
        setup
    }

    /// In some worlds there is memory for few buffers, and in some there are several workers.
    fn special(mut self, random: &mut Random) -> Setup {
        if random.chance(80) {
            self.net.buffers = (HEADROOM + self.net.buffer) * random.within(2, 10) as usize;
        }
        self.workers = *random.pick(&[1, 1, 1, 2, 3]);
        self
    }
}

/// How a world ended.
pub struct End {
    pub broken: Option<String>,
    pub trace: Vec<String>,
    pub turns: u64,
    /// Status and end of each record.
    pub ends: Vec<(u16, CloseReason)>,
}

struct Sink(Sender<AccessRecord>);

impl AccessLog for Sink {
    fn record(&mut self, record: &AccessRecord) {
        let _ = self.0.send(record.clone());
    }
}

type Sut = Worker<Proxy, SimIo<Place>>;

/// The workers with their proxies in this world: the one place that knows how they are made. With who tells them, and what they share.
fn build(sim: &Rc<RefCell<Town>>, setup: &Setup) -> (Vec<Sut>, Receiver<AccessRecord>, Arc<Board>) {
    let server = |number| Server { name: format!("server-{number}"), weight: 1, backup: false };
    let servers: Vec<Server> = (0..setup.servers).map(server).collect();
    let address = |server| Address::Tcp(SocketAddr::new(Ipv4Addr::new(10, 2, 0, 1).into(), server as u16));
    let addresses: Vec<Address> = (0..setup.servers).map(address).collect();
    let wakers: Vec<_> = sim.borrow().net.ends.iter().map(|end| end.waker.clone()).collect();
    let wake = |waker: &Arc<AtomicBool>| {
        let waker = waker.clone();
        move || waker.store(true, Ordering::SeqCst)
    };
    let seats = wakers.iter().map(|waker| Box::new(wake(waker)) as Waker).collect();
    let board = Arc::new(Board::new(setup.servers).limited(&setup.proxy.servers, seats));
    let (sender, receiver) = channel();
    let remotes: Vec<Remote> = wakers.iter().map(|waker| Remote::new(wake(waker))).collect();
    let mut shares = Share::among(&remotes).into_iter();
    let worker = |(number, remote): (usize, &Remote)| {
        let place = At { number, probes: number == 0, seed: 1 + number as u64 };
        let app = Proxy::one_of(setup.proxy.clone(), servers.clone(), board.clone(), place);
        let (io, log) = (SimIo { sim: sim.clone(), worker: number }, Box::new(Sink(sender.clone())));
        let worker = Worker::new(app, io, addresses.clone(), log, remote.clone(), setup.net.clone());
        worker.sharing(shares.next().filter(|_| setup.workers > 1))
    };
    let workers = remotes.iter().enumerate().map(worker).collect();
    sim.borrow_mut().world.remotes = remotes;
    (workers, receiver, board)
}

/// All workers' counts together.
fn sum(all: impl Iterator<Item = Census>) -> Census {
    let add = |a: Census, b: Census| Census {
        sessions: a.sessions + b.sessions,
        waiting: a.waiting + b.waiting,
        upstreams: a.upstreams + b.upstreams,
        idle: a.idle + b.idle,
        lent_buffers: a.lent_buffers + b.lent_buffers,
        lent_pipes: a.lent_pipes + b.lent_pipes,
        queued: a.queued + b.queued,
        errands: a.errands + b.errands,
    };
    all.reduce(add).unwrap_or_default()
}

/// The world of a seed.
pub fn seed(seed: u64, trace: bool) -> End {
    let mut random = Random::new(seed);
    let setup = Setup::of(&mut random).special(&mut Random::new(!seed));
    world(seed, &setup, trace, random, |place, net| place.populate(net))
}

/// A world as `fill` makes it.
pub fn world(
    seed: u64,
    setup: &Setup,
    trace: bool,
    mut random: Random,
    fill: impl FnOnce(&mut Place, &mut Net),
) -> End {
    let mut net = Net::new(random.split(), setup.weather.clone(), setup.workers, trace);
    let mut place = Place::new(seed, random.split());
    net.note(|| format!("{setup:?}"));
    fill(&mut place, &mut net);
    let sim = Rc::new(RefCell::new(Sim::new(net, place)));
    let (workers, receiver, board) = build(&sim, setup);
    let judge = Judge::new(setup.proxy.clone(), setup.servers, &setup.net, board.seats());
    let workers = workers.into_iter().enumerate().collect();
    let mut run = Run {
        sim,
        workers,
        receiver,
        judge,
        turns: 0,
        most_turns: setup.turns * 8 * setup.workers as u64,
        ends: Vec::new(),
    };
    let result = run.play();
    run.workers.clear();
    let sim = run.sim.borrow();
    let broken = sim.net.broken.clone().or(result.err().map(|(rule, what)| format!("{rule}: {what}")));
    End { broken, trace: sim.net.trace.clone().unwrap_or_default(), turns: run.turns, ends: run.ends }
}

struct Run {
    sim: Rc<RefCell<Town>>,
    /// Those that have not ended, with their numbers.
    workers: Vec<(usize, Sut)>,
    receiver: Receiver<AccessRecord>,
    judge: Judge,
    turns: u64,
    most_turns: u64,
    ends: Vec<(u16, CloseReason)>,
}

impl Run {
    fn play(&mut self) -> Result<(), Broken> {
        let (mut told, mut next) = (false, 0);
        while !self.workers.is_empty() {
            next %= self.workers.len();
            let (number, worker) = &mut self.workers[next];
            let number = *number;
            next += 1;
            if self.sim.borrow().is_awake(number) {
                let goes_on = worker.step().map_err(|error| ("the loop goes on", error.to_string()))?;
                self.after()?;
                if !goes_on {
                    next -= 1;
                    drop(self.workers.remove(next));
                    self.sim.borrow_mut().ended(number);
                }
            }
            self.sim.borrow_mut().go_on();
            let census = self.census();
            if !self.workers.is_empty() && self.is_asleep(told) {
                if told || census.sessions + census.upstreams > 0 {
                    return Err(("everything ends by its own events", format!("it waits for ever, with {census:?}")));
                }
                told = true;
                self.sim.borrow().world.remotes.iter().for_each(|remote| remote.tell(Command::Drain));
            }
        }
        self.judge.all_given_back()?;
        let mut sim = self.sim.borrow_mut();
        sim.settle();
        self.judge.finish(&sim.net, &sim.world.book)
    }

    fn is_asleep(&self, told: bool) -> bool {
        let mut sim = self.sim.borrow_mut();
        // One that probes its servers never sleeps.
        let probes = self.judge.settings.servers.probes.kind().is_some();
        // Who is handed over is in no worker's count.
        let alone = sim.net.held.is_empty() && sim.net.backlog.is_empty() && sim.world.all_came();
        std::mem::take(&mut sim.asleep) || (alone && probes && !told)
    }

    fn census(&self) -> Census {
        sum(self.workers.iter().map(|(_, worker)| worker.census()))
    }

    fn after(&mut self) -> Result<(), Broken> {
        self.turns += 1;
        let census = self.census();
        let Sim { net, world, .. } = &mut *self.sim.borrow_mut();
        for record in self.receiver.try_iter() {
            net.note(|| format!("record {}", show(&record)));
            self.ends.push((record.status, record.end));
            self.judge.record(net, &mut world.book, &record)?;
        }
        self.judge.count(net, &census, self.workers.len())?;
        let holds = self.workers.iter().map(|(_, worker)| worker.app().holds());
        let (in_flight, waiting) = holds.fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1));
        // Who is queued may not have heard yet that its dial has failed.
        let owed = in_flight as usize <= census.upstreams + census.queued
            && (census.sessions > 0 || (in_flight, waiting) == (0, 0));
        if !owed {
            return Err(("nothing leaks", format!("{in_flight} in flight, {waiting} waiting, with {census:?}")));
        }
        self.judge.wait(net, waiting)?;
        self.judge.look(net, &world.book, &census)?;
        if self.turns > self.most_turns {
            return Err(("everything ends", format!("not after {} turns", self.turns)));
        }
        match net.broken.is_some() {
            // It is told from there.
            true => Err(("", String::new())),
            false => Ok(()),
        }
    }
}
