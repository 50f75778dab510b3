//! Chunked bodies: the same pieces, content and fault in whatever portions the bytes come, and the same as the reference reads.

use super::reference::{self, End};
use super::show;
use pilb::base::buffer::HEADROOM;
use pilb::base::{BufferPool, Size};
use pilb::engine::Flow;
use pilb::http1::body::MAX_TRAILERS;
use pilb::http1::chunk::MAX_LINE;
use pilb::http1::{Body, Fault, Framing, Piece, trailer};
use pilb::proxy::relay::{Chunks, relay};

/// What was read, however it was cut.
#[derive(Debug, Default, PartialEq, Eq)]
struct Read {
    content: Vec<u8>,
    /// The canonical line of each chunk, and where it and its data began.
    chunks: Vec<(usize, Vec<u8>)>,
    trailers: Vec<u8>,
    /// Bytes taken in.
    used: usize,
    done: bool,
    fault: Option<Fault>,
}

/// `data`: a byte that decides how the rest, a chunked body with something behind it, is cut.
pub fn run(data: &[u8]) {
    let Some((&seed, bytes)) = data.split_first() else { return };
    let whole = read(bytes, &mut Cut::new(0));
    for seed in [1, seed] {
        let pieces = read(bytes, &mut Cut::new(seed));
        assert!(same(&whole, &pieces, bytes), "{whole:?}\nbut in pieces ({seed})\n{pieces:?}\nof {}", show(bytes));
    }
    agrees_with_the_reference(&whole, bytes);
    for (size, seed) in [(64 * 1024, 0), (48, 1), (48, seed), (600, seed)] {
        relayed(&whole, bytes, size, &mut Cut::new(seed));
    }
}

/// Past a limit it may depend on the portions which fault is seen first; that there is one may not.
fn same(whole: &Read, pieces: &Read, bytes: &[u8]) -> bool {
    let long = bytes.len() - whole.used >= MAX_LINE || bytes.len() - whole.used >= MAX_TRAILERS;
    if long && whole.fault.is_some() && pieces.fault.is_some() {
        return whole.content == pieces.content;
    }
    whole == pieces
}

/// Portions: all at once, byte by byte, or as a seed will have it.
struct Cut {
    seed: u8,
    state: u32,
}

impl Cut {
    fn new(seed: u8) -> Cut {
        Cut { seed, state: u32::from(seed) }
    }

    fn next(&mut self) -> usize {
        match self.seed {
            0 => usize::MAX,
            1 => 1,
            _ => {
                self.state = self.state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                // Mostly small, sometimes large.
                let bits = self.state >> 24;
                if bits.is_multiple_of(8) { 1 + bits as usize } else { 1 + bits as usize % 7 }
            }
        }
    }
}

fn read(bytes: &[u8], cut: &mut Cut) -> Read {
    let (mut body, mut read) = (Body::new(Framing::Chunked), Read::default());
    let (mut seen, mut chunk_ends) = (0, 0);
    for calls in 0.. {
        assert!(calls <= 4 * bytes.len() + 4, "no progress in {}", show(bytes));
        let at = read.used;
        let len = match body.next(&bytes[at..seen]) {
            Err(fault) => {
                read.fault = Some(fault);
                break;
            }
            Ok(Piece::End) => break,
            Ok(Piece::NeedMore) if seen == bytes.len() => break,
            Ok(Piece::NeedMore) => {
                seen = seen.saturating_add(cut.next()).min(bytes.len());
                continue;
            }
            Ok(Piece::Data(n)) => {
                assert!(n > 0, "empty data in {}", show(bytes));
                read.content.extend_from_slice(&bytes[at..at + n]);
                n
            }
            Ok(Piece::Chunk { len, line }) => {
                assert_eq!(chunk_ends, read.chunks.len(), "a chunk within a chunk of {}", show(bytes));
                read.chunks.push((at, line.as_bytes().to_vec()));
                len
            }
            Ok(Piece::ChunkEnd) => {
                chunk_ends += 1;
                2
            }
            Ok(Piece::LastChunk { len }) => len,
            Ok(Piece::Trailers { len }) => {
                read.trailers = bytes[at..at + len].to_vec();
                len
            }
        };
        assert!(at + len <= seen, "took bytes that had not come of {}", show(bytes));
        read.used += len;
    }
    read.done = body.is_done();
    assert_eq!(body.content(), read.content.len() as u64, "another count for {}", show(bytes));
    read
}

fn agrees_with_the_reference(read: &Read, bytes: &[u8]) {
    let naive = reference::chunked(bytes);
    let shown = || format!("{read:?}\n{naive:?}\nof {}", show(bytes));
    match read.fault {
        None => {
            assert_ne!(naive.end, End::Bad, "accepted: {}", shown());
            assert_eq!((read.done, &read.content), (naive.end == End::Whole, &naive.content), "{}", shown());
            if read.done {
                assert_eq!((read.used, &read.trailers[..]), (naive.used, naive.trailers), "{}", shown());
            }
        }
        Some(Fault::ChunkLineTooLong | Fault::ChunkOverhead | Fault::TrailersTooLarge) => {
            assert!(naive.content.starts_with(&read.content), "{}", shown());
        }
        Some(_) => {
            assert_eq!((naive.end, &naive.content), (End::Bad, &read.content), "refused: {}", shown());
        }
    }
}

/// The body through a flow of `size` bytes: canonical or bare, it holds the same content, and stops where reading stopped.
fn relayed(read: &Read, bytes: &[u8], size: usize, cut: &mut Cut) {
    let trailers_fault = if read.done { trailer::filter(&read.trailers, &mut Vec::new()).err() } else { None };
    if read.done {
        let fields = reference::is_section(&read.trailers);
        assert_eq!(fields, matches!(trailers_fault, None | Some(Fault::TooManyFields)), "{}", show(&read.trailers));
    }
    for chunks in [Chunks::Keep, Chunks::Strip] {
        let (out, done, fault, left) = through_a_flow(bytes, size, cut, chunks);
        let shown = || format!("{} became {}, {read:?} {fault:?}", show(bytes), show(&out));
        let any = bytes.len() - read.used >= MAX_LINE;
        assert!(any || fault == read.fault.or(trailers_fault), "another fault: {}", shown());
        assert_eq!(fault.is_some(), read.fault.or(trailers_fault).is_some(), "another fault: {}", shown());
        if chunks == Chunks::Strip {
            assert_eq!(out, read.content, "{}", shown());
            continue;
        }
        let again = reference::chunked(&out);
        assert_ne!(again.end, End::Bad, "malformed: {}", shown());
        assert_eq!(again.content, read.content, "{}", shown());
        assert_eq!(again.end == End::Whole, done && fault.is_none(), "{}", shown());
        if again.end == End::Whole {
            assert_eq!(again.used, out.len(), "{}", shown());
            assert_eq!(left, &bytes[read.used..], "what follows was touched: {}", shown());
            assert!(reference::is_section(again.trailers), "{}", shown());
            harmless_trailers_are_left(&read.trailers, again.trailers);
        }
        // Sizes in lower case and without leading zeros, no extensions.
        let sizes = canonical(&out);
        assert!(sizes, "not canonical: {}", shown());
    }
}

/// Nothing that frames, routes or authorises; of what came, in its order, and all that means nothing.
fn harmless_trailers_are_left(came: &[u8], left: &[u8]) {
    let (came, left) = ([b"\r\n", came].concat(), [b"\r\n", left].concat());
    let (Some(came), Some(left)) = (reference::head(&came), reference::head(&left)) else { return };
    for name in ["content-length", "transfer-encoding", "host", "connection", "te", "trailer", "authorization", "via"] {
        assert!(!left.has(name), "{name} in trailers");
    }
    let mut rest = left.fields.iter().peekable();
    for field in &came.fields {
        let kept = rest.next_if_eq(&field).is_some();
        assert!(kept || !field.0.starts_with("x-t"), "{} was lost", field.0);
    }
    assert!(rest.next().is_none(), "trailers were invented");
}

fn canonical(mut out: &[u8]) -> bool {
    while let Some(end) = out.windows(2).position(|two| two == b"\r\n") {
        let line = &out[..end];
        let digits = line.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let size = std::str::from_utf8(line).ok().and_then(|text| usize::from_str_radix(text, 16).ok());
        match size {
            Some(0) => return line == b"0",
            Some(size) if digits && line[0] != b'0' => {
                out = out.get(end + 2..).and_then(|rest| rest.get(size.saturating_add(2)..)).unwrap_or(b"");
            }
            _ => return false,
        }
    }
    true
}

/// What came out, whether the body was done, the fault, and what was left unread.
fn through_a_flow(bytes: &[u8], size: usize, cut: &mut Cut, chunks: Chunks) -> (Vec<u8>, bool, Option<Fault>, Vec<u8>) {
    let mut pool = BufferPool::new(HEADROOM + size, 2);
    let (mut flow, mut body, mut scratch) = (Flow::default(), Body::new(Framing::Chunked), Vec::new());
    let (mut out, mut at) = (Vec::new(), 0);
    let (mut fault, mut taken) = (None, 0);
    for steps in 0.. {
        assert!(steps <= 8 * bytes.len() + 16, "no progress in {}", show(bytes));
        if fault.is_none() && flow.has_room() && at < bytes.len() {
            let room = flow.room(&mut pool, Size::Small);
            assert!(!room.is_empty(), "has room and has none: {}", show(bytes));
            let n = room.len().min(cut.next()).min(bytes.len() - at);
            room[..n].copy_from_slice(&bytes[at..at + n]);
            flow.filled(n);
            at += n;
        }
        if fault.is_none() {
            fault = relay(&mut body, (&mut flow, &mut pool), chunks, u64::MAX, &mut scratch, &mut taken).err();
        }
        let n = flow.ready().len().min(cut.next());
        out.extend_from_slice(&flow.ready()[..n]);
        flow.sent(n);
        let over = fault.is_some() || body.is_done() || at == bytes.len();
        if over && flow.drained() {
            break;
        }
    }
    let left = [flow.raw(), &bytes[at..]].concat();
    assert_eq!(taken, (bytes.len() - left.len()) as u64, "another count of bytes: {}", show(bytes));
    (out, body.is_done(), fault, left)
}
