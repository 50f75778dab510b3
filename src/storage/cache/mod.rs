//! A directory of cached answers that no crash, no damage and no other process can make serve a wrong byte.
//!
//! ```text
//! CACHEDIR.TAG      whose directory this is
//! lock              held by the one process that serves from it; its process id
//! index             what there is, mapped into memory (see crate::cache)
//! clock             the cache's clock, in case the index is lost
//! objects/ab/cd...  one file an answer, with its key, its source and a checksum
//! tmp               files that are being written
//! rebuilding        there while an index is made from the objects
//! ```
//!
//! Any number of threads share a [`CacheDir`], one of which calls [`CacheDir::tend`] about once a second. Others look in
//! from outside by [`inspect`].
//!
//! The index is believed in nothing but absence: what it points to is proven by the object's file itself. So a broken
//! index costs hits and no more, and it can be made anew from the files.

mod clock;
mod dir;
mod error;
mod files;
mod home;
pub mod inspect;
mod keep;
mod map;
mod object;
mod purge;
mod shelf;
#[cfg(test)]
mod tests;
mod trouble;
mod walk;

pub use dir::{CacheDir, Settings, Stats};
pub use error::{NotStored, OpenError};
pub use keep::Loaded;
pub use object::Object;
