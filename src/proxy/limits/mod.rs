//! What keeps one client, or too many of them, from taking what belongs to all: who may come in, how often, how slowly.
//!
//! [`gate`] asks the others and gives the answer its word and status: [`networks`] tells who may come at all, [`connections`] and
//! [`rates`] are tables of clients that all workers share, of fixed size and without locks. [`preface`] and [`trusted`] find out whom
//! a connection or request comes from when another proxy stands before this one; [`pace`] finds out who is too slow.

pub mod client;
pub mod connections;
pub mod gate;
pub mod networks;
pub mod pace;
pub mod preface;
pub mod rates;
pub mod trusted;

pub use client::Client;
pub use connections::{Connections, Entry, Ticket};
pub use gate::{Gate, Room};
pub use networks::{Access, Networks};
pub use pace::{Least, Pace};
pub use preface::{PrefaceFault, Source, Version};
pub use rates::{Rate, Rates};
pub use trusted::{Seen, Trusted};

#[cfg(test)]
mod tests;
