//! The tables of clients beside simple models and under threads, and prefaces.

mod connections;
mod preface;
mod rates;
mod threads;

use super::Client;

/// Client number `n`.
fn client(n: u32) -> Client {
    Client::V4(n.to_be_bytes())
}
