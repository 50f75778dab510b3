//! A cached answer as the bytes of a file: a header of fixed size, the key, the fields, the body, a checksum over all.
//!
//! The header has a checksum of its own, so that a walk over many files need not read their bodies. Numbers are little
//! endian. Whoever changes anything here raises [`VERSION`]: files of another version are misses.

use std::io::{self, Write};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

const MAGIC: [u8; 8] = *b"pilbobj\n";
const VERSION: u32 = 1;
/// Magic, version, made, key's and fields' length (u32 each), body's length (u64), source (u128), checksum (u64).
pub(super) const HEADER: usize = 56;
/// xxh3-128 of everything before it.
const SUM: usize = 16;
/// No file is larger, and a larger one is not read.
pub(super) const LIMIT: u64 = 64 << 20;
/// Up to here a file is written by one call, which costs a copy.
const AT_ONCE: usize = 256 << 10;

/// A cached answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Object {
    pub key: Vec<u8>,
    /// What the answer was made from; with another one it is no answer.
    pub source: u128,
    /// When, by the cache's clock. Set when it is stored.
    pub made: u32,
    pub fields: Vec<u8>,
    pub body: Vec<u8>,
}

/// The facts of a file's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub made: u32,
    pub key: u32,
    fields: u32,
    body: u64,
    source: u128,
}

impl Header {
    /// None if these are not the first bytes of an object's file as it was written.
    pub fn parse(bytes: &[u8]) -> Option<Header> {
        let (facts, sum) = bytes.get(..HEADER)?.split_at(HEADER - 8);
        if xxh3_64(facts).to_le_bytes() != sum || facts[..8] != MAGIC || u32_at(facts, 8) != VERSION {
            return None;
        }
        let header = Header {
            made: u32_at(facts, 12),
            key: u32_at(facts, 16),
            fields: u32_at(facts, 20),
            body: u64_at(facts, 24),
            source: u128::from(u64_at(facts, 32)) | u128::from(u64_at(facts, 40)) << 64,
        };
        (header.file_size() <= LIMIT).then_some(header)
    }

    fn bytes(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..8].copy_from_slice(&MAGIC);
        let words = [VERSION, self.made, self.key, self.fields];
        words.iter().zip(bytes[8..24].chunks_mut(4)).for_each(|(word, at)| at.copy_from_slice(&word.to_le_bytes()));
        bytes[24..32].copy_from_slice(&self.body.to_le_bytes());
        bytes[32..48].copy_from_slice(&self.source.to_le_bytes());
        let sum = xxh3_64(&bytes[..48]);
        bytes[48..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// The whole file's size, which must be the file's.
    pub fn file_size(&self) -> u64 {
        let front = HEADER as u64 + u64::from(self.key) + u64::from(self.fields) + SUM as u64;
        front.saturating_add(self.body)
    }
}

impl Object {
    fn header(&self) -> Option<Header> {
        let header = Header {
            made: self.made,
            key: u32::try_from(self.key.len()).ok()?,
            fields: u32::try_from(self.fields.len()).ok()?,
            body: self.body.len() as u64,
            source: self.source,
        };
        (header.file_size() <= LIMIT).then_some(header)
    }

    /// The size of its file, None if that is over the limit.
    pub(super) fn file_size(&self) -> Option<u64> {
        Some(self.header()?.file_size())
    }

    pub(super) fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let header = self.header().ok_or(io::ErrorKind::FileTooLarge)?;
        let mut front = Vec::with_capacity(HEADER + self.key.len() + self.fields.len());
        front.extend_from_slice(&header.bytes());
        front.extend_from_slice(&self.key);
        front.extend_from_slice(&self.fields);
        let mut sum = Xxh3::new();
        sum.update(&front);
        sum.update(&self.body);
        let sum = sum.digest128().to_le_bytes();
        if self.body.len() > AT_ONCE {
            to.write_all(&front)?;
            to.write_all(&self.body)?;
            return to.write_all(&sum);
        }
        front.reserve_exact(self.body.len() + SUM);
        front.extend_from_slice(&self.body);
        front.extend_from_slice(&sum);
        to.write_all(&front)
    }

    /// The object that these bytes, a whole file, are. None unless they are as they were written.
    pub(super) fn read(mut bytes: Vec<u8>) -> Option<Object> {
        let header = Header::parse(&bytes)?;
        if header.file_size() != bytes.len() as u64 {
            return None;
        }
        let end = bytes.len() - SUM;
        let mut sum = Xxh3::new();
        sum.update(&bytes[..end]);
        if sum.digest128().to_le_bytes() != bytes[end..] {
            return None;
        }
        let fields = HEADER + header.key as usize;
        let body = fields + header.fields as usize;
        let (key, fields) = (bytes[HEADER..fields].to_vec(), bytes[fields..body].to_vec());
        bytes.truncate(end);
        bytes.drain(..body);
        Some(Object { key, source: header.source, made: header.made, fields, body: bytes })
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn object(key: &str, body: &[u8]) -> Object {
        Object {
            key: key.into(),
            source: 0x0123_4567_89ab_cdef_0011_2233_4455_6677,
            made: 0x0807_0605,
            fields: b"type: text\r\n".to_vec(),
            body: body.to_vec(),
        }
    }

    fn file(object: &Object) -> Vec<u8> {
        let mut bytes = Vec::new();
        object.write(&mut bytes).unwrap();
        assert_eq!(object.file_size(), Some(bytes.len() as u64));
        bytes
    }

    #[test]
    fn what_is_written_is_read() {
        for body in [vec![], vec![7; 1], vec![8; AT_ONCE], vec![9; AT_ONCE + 1]] {
            let object = object("/a b", &body);
            let bytes = file(&object);
            assert_eq!(Header::parse(&bytes), object.header());
            assert_eq!(Object::read(bytes), Some(object));
        }
        assert_eq!(Object::read(file(&Object::default())), Some(Object::default()));
    }

    #[test]
    fn the_layout_is_the_one_on_disk() {
        let bytes = file(&object("k", b"b"));
        assert_eq!(&bytes[..8], b"pilbobj\n");
        assert_eq!(bytes[8..24], [1, 0, 0, 0, 5, 6, 7, 8, 1, 0, 0, 0, 12, 0, 0, 0]);
        assert_eq!(bytes[24..40], [1, 0, 0, 0, 0, 0, 0, 0, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0]);
        assert_eq!(&bytes[56..70], b"ktype: text\r\nb");
        assert_eq!(xxhash_rust::xxh3::xxh3_128(&bytes[..70]).to_le_bytes(), bytes[70..]);
    }

    #[test]
    fn no_flipped_bit_and_no_missing_or_added_byte_is_an_object() {
        let bytes = file(&object("/key", b"a body"));
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut wrong = bytes.clone();
                wrong[at] ^= 1 << bit;
                assert_eq!(Object::read(wrong), None, "bit {bit} of byte {at}");
            }
            assert_eq!(Object::read(bytes[..at].to_vec()), None, "{at} bytes");
        }
        assert_eq!(Object::read([&bytes[..], b"x"].concat()), None);
    }

    #[test]
    fn lengths_over_the_limit_are_no_header() {
        let mut header = object("k", b"").header().unwrap();
        for body in [LIMIT, u64::MAX] {
            header.body = body;
            assert_eq!(Header::parse(&header.bytes()), None);
        }
        let large = Object { body: vec![0; LIMIT as usize], ..Object::default() };
        assert_eq!(large.file_size(), None);
        assert!(large.write(&mut Vec::new()).is_err());
    }

    #[test]
    fn a_full_disk_says_so() {
        let mut full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let error = object("k", b"b").write(&mut full).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
    }
}
