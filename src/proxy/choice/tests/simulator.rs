//! A world for the methods: clients that come by chance, servers that queue. It has a seed, so that each run is the same.
//!
//! Requests arrive as a Poisson process. A server works at a number of requests at a time, each for an exponentially
//! distributed time, and queues the others in order. The real [`Choice`] and [`Load`] do the rest.

use super::super::random::Random;
use super::super::{Asked, Choice, Load, Method};
use crate::base::Micros;
use crate::base::time::SECOND;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::ops::Range;
use xxhash_rust::xxh3::xxh3_64;

/// Keys that requests are for, all as popular.
const KEYS: u64 = 10_000;

/// A server of the world.
#[derive(Clone)]
pub struct Server {
    pub weight: u32,
    /// Requests that it works at at a time.
    pub places: usize,
    /// The mean time of one, from this moment on each.
    pub service: Vec<(Micros, Micros)>,
}

impl Server {
    pub fn steady(places: usize, service: Micros) -> Server {
        Server { weight: 100, places, service: vec![(0, service)] }
    }

    fn mean(&self, now: Micros) -> Micros {
        self.service.iter().rev().find(|(from, _)| *from <= now).unwrap().1
    }

    /// Requests a second that it can answer at the start.
    pub fn capacity(&self) -> f64 {
        self.places as f64 * SECOND as f64 / self.mean(0) as f64
    }
}

/// One answer.
pub struct Answer {
    pub at: Micros,
    pub server: usize,
    pub latency: Micros,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrival,
    Answer { server: usize, request: Request },
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Request {
    since: Micros,
    worker: usize,
}

struct World<'s> {
    servers: &'s [Server],
    /// What each worker knows of the servers.
    workers: Vec<(Choice, Vec<Load>)>,
    /// Requests that each server works at, and those that wait for it.
    queues: Vec<(usize, VecDeque<Request>)>,
    events: BinaryHeap<Reverse<(Micros, Event)>>,
    random: Random,
}

/// What `servers` answered to `rate` requests a second that came during `length` to `workers` workers, any of them.
pub fn run(method: Method, servers: &[Server], workers: usize, rate: f64, length: Micros, seed: u64) -> Vec<Answer> {
    let load = |(i, server): (usize, &Server)| Load::new(xxh3_64(&[i as u8]), server.weight);
    let worker = |i| {
        let loads = servers.iter().enumerate().map(load).collect();
        (Choice::new(method, servers.len(), i, seed + i as u64), loads)
    };
    let mut world = World {
        servers,
        workers: (0..workers).map(worker).collect(),
        queues: vec![(0, VecDeque::new()); servers.len()],
        events: BinaryHeap::new(),
        random: Random::new(!seed),
    };
    let mut answers = Vec::new();
    world.events.push(Reverse((0, Event::Arrival)));
    while let Some(Reverse((now, event))) = world.events.pop() {
        match event {
            Event::Arrival if now >= length => {}
            Event::Arrival => {
                world.arrived(now);
                let pause = world.chance((SECOND as f64 / rate) as Micros);
                world.events.push(Reverse((now + pause, Event::Arrival)));
            }
            Event::Answer { server, request } => {
                world.answered(server, request, now);
                answers.push(Answer { at: now, server, latency: now - request.since });
            }
        }
    }
    assert!(world.workers.iter().all(|(_, loads)| loads.iter().all(|load| load.in_flight == 0)));
    answers
}

impl World<'_> {
    fn arrived(&mut self, now: Micros) {
        let key = xxh3_64(&self.random.below(KEYS).to_le_bytes());
        let worker = self.random.below(self.workers.len() as u64) as usize;
        let (choice, loads) = &mut self.workers[worker];
        let uniform = loads.iter().all(|load| load.weight == loads[0].weight);
        let server = usize::from(choice.pick(loads, uniform, &Asked { now, key, ..Asked::default() }).unwrap());
        loads[server].in_flight += 1;
        let request = Request { since: now, worker };
        if self.queues[server].0 < self.servers[server].places {
            self.begin(server, request, now);
        } else {
            self.queues[server].1.push_back(request);
        }
    }

    fn begin(&mut self, server: usize, request: Request, now: Micros) {
        self.queues[server].0 += 1;
        let service = self.chance(self.servers[server].mean(now));
        self.events.push(Reverse((now + service, Event::Answer { server, request })));
    }

    fn answered(&mut self, server: usize, request: Request, now: Micros) {
        let load = &mut self.workers[request.worker].1[server];
        load.in_flight -= 1;
        load.observe(now - request.since, now);
        self.queues[server].0 -= 1;
        if let Some(next) = self.queues[server].1.pop_front() {
            self.begin(server, next, now);
        }
    }

    /// An exponentially distributed time with this mean.
    fn chance(&mut self, mean: Micros) -> Micros {
        let u = ((self.random.next() >> 12) as f64 + 0.5) / (1u64 << 52) as f64;
        (-u.ln() * mean as f64) as Micros
    }
}

/// The median, the 99th percentile and the mean of latencies, and the share of server `of`.
pub fn figures(answers: &[Answer], of: usize) -> (Micros, Micros, Micros, f64) {
    let mut sorted: Vec<Micros> = answers.iter().map(|answer| answer.latency).collect();
    sorted.sort_unstable();
    let count = sorted.len();
    let mean = sorted.iter().sum::<Micros>() / count as u64;
    (sorted[count / 2], sorted[count * 99 / 100], mean, share(answers, of, 0..Micros::MAX))
}

/// The share that a server had of the answers given within `span`.
pub fn share(answers: &[Answer], server: usize, span: Range<Micros>) -> f64 {
    let within: Vec<_> = answers.iter().filter(|answer| span.contains(&answer.at)).collect();
    within.iter().filter(|answer| answer.server == server).count() as f64 / within.len() as f64
}
