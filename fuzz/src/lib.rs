//! Fuzz targets: plain functions over bytes that need the library's public API only.
//!
//! `cargo +nightly fuzz run parse_request` lets libFuzzer loose on one of them (plain `cargo fuzz run` works inside `fuzz/`, whose
//! toolchain file chooses nightly; from the root, on stable, `cargo fuzz run -s none parse_request` does without the sanitizer).
//! `tests/fuzz_corpus.rs` includes this file and runs every target over `corpus/` and some mutations of it with each `cargo test`.
//! A target returns, or panics with what is wrong.

pub mod cache_index;
pub mod chunked_body;
pub mod exchange;
pub mod file_request;
pub mod parse_request;
pub mod parse_response;
pub mod path;
pub mod preface;
pub mod reference;
pub mod story;
pub mod world;

/// A fuzz target.
pub type Target = fn(&[u8]);

/// Every target by its name, which is also that of its folder in `corpus/`.
pub const TARGETS: [(&str, Target); 8] = [
    ("cache_index", cache_index::run),
    ("chunked_body", chunked_body::run),
    ("exchange", exchange::run),
    ("file_request", file_request::run),
    ("parse_request", parse_request::run),
    ("parse_response", parse_response::run),
    ("path", path::run),
    ("preface", preface::run),
];

/// Bytes for a panic's message: the whole of what is short, both ends of what is long.
pub fn show(bytes: &[u8]) -> String {
    if bytes.len() <= 600 {
        return format!("\"{}\"", bytes.escape_ascii());
    }
    let (start, end) = (&bytes[..400], &bytes[bytes.len() - 200..]);
    format!("\"{}\" ({} bytes) \"{}\"", start.escape_ascii(), bytes.len(), end.escape_ascii())
}
