//! L4: files. What the origin sends, what it makes of it, and where it keeps that.
//!
//! [`dir`] is a worker's store. It asks [`site`], which all workers share and which may wait, in the threads of [`pool`]; [`root`] finds
//! names below the site's root; `make`, `compress` and `folder` make answers that take work, [`flight`]s let several clients have them
//! at once, and the cache keeps them.

pub mod cache;
mod compress;
pub mod dir;
pub mod flight;
mod folder;
mod hot;
pub mod loaded;
mod make;
pub mod pool;
pub mod root;
pub mod site;
#[cfg(test)]
mod tests;

pub use dir::DirStore;
pub use make::{kind_and_name, names_of};
pub use pool::Pool;
pub use site::{Options, Site};
