//! The methods in a simulated world, and their promises for any servers.

mod promises;
mod simulator;
mod worlds;
