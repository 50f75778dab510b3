//! How long a body is: the one ladder of RFC 9112 §6.3, for requests and responses.

use crate::http1::field::{is_token, tokens, trim};
use crate::http1::{Fault, Version};

/// Where a message's body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    None,
    /// After so many bytes.
    Length(u64),
    /// After the last chunk and the trailers.
    Chunked,
    /// With the connection; responses only.
    UntilClose,
}

/// Which side's message it is, and what its ladder depends on besides the fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Request,
    /// `bodiless`: to HEAD, or 1xx, 204, 304.
    Response {
        bodiless: bool,
    },
}

/// What the fields say about framing, collected line by line.
#[derive(Clone, Copy, Debug, Default)]
pub struct Claims {
    length: Option<u64>,
    coding: Option<Coding>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Chunked,
    Unknown,
    Bad,
}

impl Claims {
    /// A Content-Length line (RFC 9110 §8.6): 1*DIGIT, once.
    pub fn content_length(&mut self, value: &[u8]) -> Result<(), Fault> {
        if self.length.is_some() {
            return Err(Fault::ManyLengths);
        }
        self.length = Some(decimal(value).ok_or(Fault::BadLength)?);
        Ok(())
    }

    /// A Transfer-Encoding line. Two of them are one too many: recipients differ in how they join them.
    pub fn transfer_encoding(&mut self, value: &[u8]) {
        self.coding = Some(if self.coding.is_some() { Coding::Bad } else { coding(value) });
    }

    /// Is there a Transfer-Encoding?
    pub fn has_coding(&self) -> bool {
        self.coding.is_some()
    }

    /// The length that was announced, whether or not a body follows.
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// The ladder. Its numbers are those of RFC 9112 §6.3; what can be taken in two ways is refused before the first rung,
    /// so that a bodiless message cannot carry it on either.
    pub fn ladder(&self, role: Role, version: Version) -> Result<Framing, Fault> {
        // 3. Both is a smuggler's message, whichever would win.
        if self.coding.is_some() && self.length.is_some() {
            return Err(Fault::LengthAndCoding);
        }
        if self.coding.is_some() && version == Version::Http10 {
            return Err(Fault::CodingInHttp10);
        }
        // 4. A coding that does not end in chunked has no end; one that we do not know, no meaning.
        match self.coding {
            Some(Coding::Bad) => return Err(Fault::BadCoding),
            Some(Coding::Unknown) => return Err(Fault::UnknownCoding),
            Some(Coding::Chunked) | None => {}
        }
        Ok(match (role, self.coding, self.length) {
            // 1. (2. is CONNECT, which ends before it gets here.)
            (Role::Response { bodiless: true }, _, _) => Framing::None,
            (_, Some(_), _) => Framing::Chunked,
            // 5. was refused while collecting. 6.
            (_, None, Some(length)) => Framing::Length(length),
            // 7.
            (Role::Request, None, None) => Framing::None,
            // 8.
            (Role::Response { .. }, None, None) => Framing::UntilClose,
        })
    }
}

fn coding(value: &[u8]) -> Coding {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Coding::Chunked;
    }
    let count = tokens(value).count();
    let bad = tokens(value).enumerate().any(|(i, coding)| {
        // A coding may have parameters (RFC 9112 §7); chunked has none, and is the last.
        let name = trim(coding.split(|&byte| byte == b';').next().unwrap_or(b""));
        let misplaced = name.eq_ignore_ascii_case(b"chunked") && (i + 1 < count || name.len() < coding.len());
        misplaced || !is_token(name)
    });
    if bad { Coding::Bad } else { Coding::Unknown }
}

/// 1*DIGIT below 2^64.
pub fn decimal(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0u64, |sum, byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 { None } else { sum.checked_mul(10)?.checked_add(u64::from(digit)) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ladder(role: Role, version: Version, lengths: &[&str], codings: &[&str]) -> Result<Framing, Fault> {
        let mut claims = Claims::default();
        for length in lengths {
            claims.content_length(length.as_bytes())?;
        }
        for coding in codings {
            claims.transfer_encoding(coding.as_bytes());
        }
        claims.ladder(role, version)
    }

    #[test]
    fn every_rung_for_requests() {
        let request = |lengths: &[&str], codings: &[&str]| ladder(Role::Request, Version::Http11, lengths, codings);
        assert_eq!(request(&[], &[]), Ok(Framing::None));
        assert_eq!(request(&["5"], &[]), Ok(Framing::Length(5)));
        assert_eq!(request(&["18446744073709551615"], &[]), Ok(Framing::Length(u64::MAX)));
        assert_eq!(request(&[], &["Chunked"]), Ok(Framing::Chunked));
        assert_eq!(request(&["5"], &["chunked"]), Err(Fault::LengthAndCoding));
        assert_eq!(request(&["5", "5"], &[]), Err(Fault::ManyLengths));
        for bad in ["", "+5", "-1", "0x5", "5,5", "5 5", "18446744073709551616", "5."] {
            assert_eq!(request(&[bad], &[]), Err(Fault::BadLength), "{bad}");
        }
        for bad in ["", ",chunked", "chunked,", "chunked, chunked", "chunked, gzip", "chunked;q=1", "\"chunked\""] {
            assert_eq!(request(&[], &[bad]), Err(Fault::BadCoding), "{bad}");
        }
        for unknown in ["gzip, chunked", "x-foo;a=b, chunked", "identity", "xchunked", "gzip"] {
            assert_eq!(request(&[], &[unknown]), Err(Fault::UnknownCoding), "{unknown}");
        }
        assert_eq!(request(&[], &["chunked", "chunked"]), Err(Fault::BadCoding));
        assert_eq!(ladder(Role::Request, Version::Http10, &[], &["chunked"]), Err(Fault::CodingInHttp10));
    }

    #[test]
    fn responses_differ_in_the_first_and_last_rung_only() {
        let answer = Role::Response { bodiless: false };
        let bodiless = Role::Response { bodiless: true };
        assert_eq!(ladder(answer, Version::Http11, &[], &[]), Ok(Framing::UntilClose));
        assert_eq!(ladder(bodiless, Version::Http11, &["5"], &[]), Ok(Framing::None));
        assert_eq!(ladder(bodiless, Version::Http11, &[], &["chunked"]), Ok(Framing::None));
        assert_eq!(ladder(bodiless, Version::Http11, &["5"], &["chunked"]), Err(Fault::LengthAndCoding));
        assert_eq!(ladder(answer, Version::Http10, &[], &["chunked"]), Err(Fault::CodingInHttp10));
    }
}
