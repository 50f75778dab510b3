//! The origin driven through its turns in memory: what clients get, whole and byte by byte, and when connections end.

mod demo;
mod life;
mod listing;
mod noise;
mod requests;
pub(crate) mod wire;
