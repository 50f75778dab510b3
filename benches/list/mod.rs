//! The parts that are measured, each defined once for two drivers: `parts.rs` takes times (criterion), `instructions.rs` counts
//! instructions. A part is a closure that does one operation; what it needs is made before.

mod cache;
mod exchanges;
mod pieces;
mod world;

/// Something that is measured.
#[derive(Clone, Copy)]
pub struct Part {
    pub group: &'static str,
    pub name: &'static str,
    /// Bytes of content that one operation handles, where that says something.
    pub bytes: Option<u64>,
    /// Makes the operation, which does the same each time.
    pub make: fn() -> Box<dyn FnMut()>,
}

/// All of them, from the whole to the small.
pub fn parts() -> Vec<Part> {
    [exchanges::PARTS, pieces::PARTS, cache::PARTS].concat()
}

/// A browser's request.
const REQUEST: &[u8] = b"GET /index.html?a=b HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0)\r\n\
    Accept: text/html,application/xhtml+xml\r\nAccept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br\r\nConnection: keep-alive\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef\r\n\r\n";
/// The head of an answer without a Date, which the proxy must add.
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nServer: bench\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: 1024\r\nETag: \"abc\"\r\n\r\n";
