//! The `Date` field, rendered once per second (RFC 9110 §6.6.1).

use crate::base::time::{Micros, SECOND};
use std::fmt::Write;
use std::time::{Duration, UNIX_EPOCH};

/// `Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n`, kept until the second changes.
#[derive(Debug)]
pub struct DateLine {
    second: u64,
    line: String,
}

impl DateLine {
    /// The line's length, which never changes.
    pub const LEN: usize = 37;

    pub fn new() -> Self {
        DateLine { second: u64::MAX, line: String::with_capacity(Self::LEN) }
    }

    /// The whole line with its CRLF for the wall-clock moment `unix`.
    pub fn at(&mut self, unix: Micros) -> &[u8] {
        let second = unix / SECOND;
        if second != self.second {
            self.second = second;
            self.line.clear();
            // Writing to a String cannot fail.
            let _ = write!(self.line, "Date: {}\r\n", http_date(second));
        }
        self.line.as_bytes()
    }
}

impl Default for DateLine {
    fn default() -> Self {
        Self::new()
    }
}

/// An IMF-fixdate of a Unix second, as a displayable value. Seconds past the year 9999 show as its end.
pub fn http_date(unix_second: u64) -> httpdate::HttpDate {
    const END_OF_9999: u64 = 253_402_300_799;
    httpdate::HttpDate::from(UNIX_EPOCH + Duration::from_secs(unix_second.min(END_OF_9999)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_the_rfc_example_and_follows_the_clock() {
        let mut line = DateLine::new();
        assert_eq!(line.at(784_111_777 * SECOND), b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n");
        assert_eq!(line.at(784_111_777 * SECOND + 999_999).len(), DateLine::LEN);
        assert_eq!(line.at(784_111_778 * SECOND), b"Date: Sun, 06 Nov 1994 08:49:38 GMT\r\n");
        assert_eq!(line.at(u64::MAX).len(), DateLine::LEN);
    }
}
