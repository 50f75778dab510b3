//! L4: files for the origin: what reads them, and the only syscalls that do.

pub mod dir;

pub use dir::DirStore;
