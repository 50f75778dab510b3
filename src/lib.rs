//! `pilb`: an HTTP/1.1 reverse proxy (`pilb-fast`) and its file server (`pilb-origin`).
//!
//! Layers, each knowing only those above it in this list: [`base`]; [`http1`], [`engine`] and [`cache`], all pure;
//! [`proxy`], [`origin`] and [`admin`], pure applications of them; [`net`], [`storage`] and [`access_log`], which own sockets, files and threads;
//! [`config`] and [`run`], which put a process together. `tests/tidy.rs` holds the layers apart.

pub mod access_log;
pub mod admin;
pub mod base;
pub mod cache;
pub mod config;
pub mod engine;
pub mod http1;
pub mod net;
pub mod origin;
pub mod proxy;
pub mod run;
pub mod storage;
