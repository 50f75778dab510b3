//! Finds the end of a head or trailer section, however the bytes arrive, looking at each byte once.

use crate::http1::Fault;
use memchr::memchr_iter;

/// How far the search for the empty line has come. One per section; [`HeadScan::default`] begins anew.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeadScan {
    line: u32,
    scanned: u32,
}

impl HeadScan {
    /// The length of the section with its empty line, or `None` if it has not come yet. `bytes` begins where the section does and
    /// only ever grows between calls. Each LF must follow a CR, so that no later reader can see other lines than this one.
    pub fn end(&mut self, bytes: &[u8]) -> Result<Option<usize>, Fault> {
        let from = self.scanned as usize;
        let mut line = self.line as usize;
        for offset in memchr_iter(b'\n', &bytes[from..]) {
            let lf = from + offset;
            if lf == line || bytes[lf - 1] != b'\r' {
                return Err(Fault::BareLf);
            }
            if lf == line + 1 {
                return Ok(Some(lf + 1));
            }
            line = lf + 1;
        }
        self.line = line as u32;
        self.scanned = bytes.len() as u32;
        Ok(None)
    }

    /// Has the first line not ended yet?
    pub fn in_first_line(&self) -> bool {
        self.line == 0
    }
}

/// Whole empty lines at the start of `bytes` (RFC 9112 §2.2 asks servers to ignore them before a request line), at most `most`.
pub fn leading_empty_lines(bytes: &[u8], most: usize) -> usize {
    let mut at = 0;
    while at < 2 * most && bytes[at..].starts_with(b"\r\n") {
        at += 2;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_end_whole_and_byte_by_byte() {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nrest";
        assert_eq!(HeadScan::default().end(head), Ok(Some(27)));
        let mut scan = HeadScan::default();
        for n in 0..27 {
            assert_eq!(scan.end(&head[..n]), Ok(None), "{n}");
        }
        assert_eq!(scan.end(&head[..27]), Ok(Some(27)));
        assert_eq!(HeadScan::default().end(b"\r\n"), Ok(Some(2)));
    }

    #[test]
    fn refuses_a_bare_lf_at_once() {
        for bad in [&b"\n"[..], b"GET / HTTP/1.1\n", b"a\r\n\n", b"a: b\r\n\r\r\n\n"] {
            assert_eq!(HeadScan::default().end(bad), Err(Fault::BareLf), "{bad:?}");
        }
    }

    #[test]
    fn counts_only_whole_empty_lines() {
        assert_eq!(leading_empty_lines(b"\r\n\r\nGET", 8), 4);
        assert_eq!(leading_empty_lines(b"\r\n\r\nGET", 1), 2);
        assert_eq!(leading_empty_lines(b"\r", 8), 0);
    }
}
