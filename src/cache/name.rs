//! What an object of the cache is called: a hash of its key, which is kept on disk and so is one fixed hash.

use std::fmt;
use xxhash_rust::xxh3::xxh3_64;

/// The name of an object. Two keys may have one name, so an object's file tells its whole key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(pub u64);

impl Name {
    /// No object has this name: it stands for a hole in a ring.
    pub(super) const NONE: Name = Name(0);

    pub fn of(key: &[u8]) -> Name {
        Name(xxh3_64(key).max(1))
    }

    /// One of `buckets`, chosen by the upper bits; a word's tag is the lower ones.
    pub(super) fn bucket(self, buckets: usize) -> usize {
        ((u128::from(self.0) * buckets as u128) >> 64) as usize
    }
}

/// Sixteen hexadecimal digits.
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_same_for_ever() {
        assert_eq!(Name::of(b"GET /index.html").to_string(), "75beb458a060ec08");
        assert_ne!(Name::of(b""), Name::NONE);
    }

    #[test]
    fn every_bucket_is_in_reach_and_none_beyond() {
        assert_eq!(Name(u64::MAX).bucket(7), 6);
        assert_eq!(Name(0).bucket(7), 0);
        let mut seen = [0; 7];
        (0..7000u64).for_each(|n| seen[Name::of(&n.to_le_bytes()).bucket(7)] += 1);
        assert!(seen.iter().all(|&count| (900..1100).contains(&count)), "{seen:?}");
    }
}
