//! Level 4: the real binaries over real sockets. Everything else in these tests is the standard library: the servers are
//! threads, the clients read strictly, and every wait is for an event.
//!
//! `house` starts programs and looks at them from outside, `wire` speaks HTTP without any leniency, `server` is whom the
//! proxy forwards to; each other module is a group of tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "all of it is test code")]

#[path = "e2e/house.rs"]
mod house;
#[path = "e2e/server.rs"]
mod server;
#[path = "e2e/wire.rs"]
mod wire;

#[path = "e2e/admin.rs"]
mod admin;
#[path = "e2e/balancing.rs"]
mod balancing;
#[path = "e2e/bodies.rs"]
mod bodies;
#[path = "e2e/chain.rs"]
mod chain;
#[path = "e2e/crowd.rs"]
mod crowd;
#[path = "e2e/demo.rs"]
mod demo;
#[path = "e2e/drain.rs"]
mod drain;
#[path = "e2e/ending.rs"]
mod ending;
#[path = "e2e/faults.rs"]
mod faults;
#[path = "e2e/files.rs"]
mod files;
#[path = "e2e/guard.rs"]
mod guard;
#[path = "e2e/health.rs"]
mod health;
#[path = "e2e/kept.rs"]
mod kept;
#[path = "e2e/limits.rs"]
mod limits;
#[path = "e2e/log.rs"]
mod log;
#[path = "e2e/origin.rs"]
mod origin;
#[path = "e2e/places.rs"]
mod places;
#[path = "e2e/relay.rs"]
mod relay;
#[path = "e2e/start.rs"]
mod start;
#[path = "e2e/waiting.rs"]
mod waiting;
#[path = "e2e/workers.rs"]
mod workers;
