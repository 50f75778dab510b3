//! L2: the index of an on-disk cache, on plain memory. Pure: whoever maps a file into memory, and writes the objects' own files,
//! is elsewhere.
//!
//! [`index`] finds objects and is what others see; [`header`] is its first page, `word` all that is known of one object, `ring`
//! a queue of names. `evict` is who comes in and who goes, `sweep` what is done now and then: expiry, repair, listing. [`name`] is
//! what an object is called.
//!
//! Many threads and processes may read and remove at any moment, without a lock; one at a time may write. Whatever the memory
//! holds, nothing here panics or loops, and what is not surely an entry of the index is a miss.

mod evict;
pub mod header;
pub mod index;
pub mod name;
mod ring;
mod sweep;
#[cfg(test)]
mod tests;
mod word;

pub use header::{Broken, SavedClock};
pub use index::{Found, Index, Writer};
pub use name::Name;
