//! Passes a body through its flow: content stays where it lies, chunk framing is made canonical around it.

use crate::base::BufferPool;
use crate::engine::Flow;
use crate::http1::{Body, Fault, Piece, trailer};

/// What becomes of chunk framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunks {
    /// Canonical lines, filtered trailers.
    Keep,
    /// Only the content goes on (to an HTTP/1.0 client).
    Strip,
}

/// Judges all that has come, and adds to `taken` the received bytes that were taken in. The body tells whether it is done. Content that
/// comes next, but for what would make it longer than `most`, may pass by the buffer.
pub fn relay(
    body: &mut Body,
    (flow, pool): (&mut Flow, &mut BufferPool),
    chunks: Chunks,
    most: u64,
    scratch: &mut Vec<u8>,
    taken: &mut u64,
) -> Result<(), Fault> {
    loop {
        let (len, with): (usize, &[u8]) = match &body.next(flow.raw())? {
            Piece::End => return Ok(()),
            Piece::NeedMore => {
                make_room(flow, pool);
                flow.grant(body.ahead().min(most.saturating_sub(body.content())));
                return Ok(());
            }
            Piece::Data(n) => {
                flow.pass(*n);
                *taken += *n as u64;
                continue;
            }
            Piece::ChunkEnd => (2, b"\r\n"),
            Piece::LastChunk { len } => (*len, b"0\r\n"),
            Piece::Chunk { len, line } => {
                scratch.clear();
                scratch.extend_from_slice(line.as_bytes());
                (*len, scratch)
            }
            Piece::Trailers { len } => {
                scratch.clear();
                trailer::filter(&flow.raw()[..*len], scratch)?;
                (*len, scratch)
            }
        };
        match chunks {
            Chunks::Keep => flow.replace(len, with),
            Chunks::Strip => flow.skip(len),
        }
        *taken += len as u64;
    }
}

/// A chunk line or trailer section that does not fit a small buffer gets a larger one, within the limits that its reader sets.
fn make_room(flow: &mut Flow, pool: &mut BufferPool) {
    if !flow.raw().is_empty() && flow.drained() && !flow.has_room() {
        flow.widen(pool, 2 * flow.raw().len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Size;
    use crate::http1::Framing;

    fn relayed(input: &[u8], step: usize, chunks: Chunks) -> Result<(String, bool, String), Fault> {
        let (mut pool, mut flow, mut scratch) = (BufferPool::new(1024 + 4096, 1), Flow::default(), Vec::new());
        let (mut body, mut out) = (Body::new(Framing::Chunked), Vec::new());
        for part in input.chunks(step) {
            flow.room(&mut pool, Size::Small)[..part.len()].copy_from_slice(part);
            flow.filled(part.len());
            relay(&mut body, (&mut flow, &mut pool), chunks, u64::MAX, &mut scratch, &mut 0)?;
            out.extend_from_slice(flow.ready());
            flow.sent(flow.ready().len());
        }
        let rest = String::from_utf8(flow.raw().to_vec()).unwrap();
        Ok((String::from_utf8(out).unwrap(), body.is_done(), rest))
    }

    #[test]
    fn framing_becomes_canonical_or_vanishes() {
        let input = b"0005;x=y\r\nhello\r\nA\r\n0123456789\r\n000\r\nHost: x\r\nDigest: y\r\n\r\nNEXT";
        for step in [1, 2, 3, 5, 1000] {
            let kept = relayed(input, step, Chunks::Keep).unwrap();
            let canonical = "5\r\nhello\r\na\r\n0123456789\r\n0\r\nDigest: y\r\n\r\n";
            assert_eq!(kept, (canonical.to_owned(), true, "NEXT".to_owned()), "{step}");
            let stripped = relayed(input, step, Chunks::Strip).unwrap();
            assert_eq!(stripped, ("hello0123456789".to_owned(), true, "NEXT".to_owned()), "{step}");
        }
    }

    #[test]
    fn what_passes_by_is_counted_and_bounded() {
        let (mut pool, mut flow, mut taken) = (BufferPool::new(1024 + 64, 1), Flow::default(), 0);
        let mut body = Body::new(Framing::Length(100));
        let mut step = |flow: &mut Flow, most| {
            let unseen = flow.take_unseen();
            body.pass(unseen);
            taken += unseen;
            relay(&mut body, (flow, &mut BufferPool::new(1, 1)), Chunks::Keep, most, &mut Vec::new(), &mut taken)
        };
        flow.room(&mut pool, Size::Small)[..10].copy_from_slice(b"0123456789");
        flow.filled(10);
        step(&mut flow, 50).unwrap();
        assert_eq!(flow.may_pass_by(), 0, "ten bytes must be sent first");
        flow.sent(10);
        assert_eq!(flow.may_pass_by(), 40, "a body of more than 50 must be seen");
        flow.passed_by(40);
        assert!(!flow.drained() && flow.unsent() == 40);
        step(&mut flow, 100).unwrap();
        flow.sent_piped(40);
        assert_eq!((flow.drained(), flow.may_pass_by(), flow.given()), (true, 50, 50));
        flow.passed_by(50);
        step(&mut flow, 100).unwrap();
        assert!(body.is_done());
        assert_eq!((taken, flow.may_pass_by()), (100, 0));
    }
}
