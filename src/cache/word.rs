//! A word of the table: all that is known of one object, in 64 bits, so that no change of it can be seen half done.
//!
//! From the lowest bit: state 2, frequency 2, size class 10, made 24, tag 16, check 10. The tag is the lowest bits of the name. The
//! check covers the other bits and the name (and by the name the bucket): a word passes for another name, or after some of its bits
//! were spoilt, once in 2^10, for another name of the same bucket once in 2^26; after a single bit was flipped, never. A ghost
//! remembers the name of an object that is gone; it has a sequence number in place of class and time.

use super::name::Name;

const FREQUENCY: u32 = 2;
const CLASS: u32 = 4;
const MADE: u32 = 14;
const TAG: u32 = 38;
const CHECK: u32 = 54;
const PAYLOAD: u64 = (1 << CHECK) - 1;
/// A ghost's number has the bits from the frequency to the time.
const SEQUENCE: u64 = (1 << (TAG - FREQUENCY)) - 1;

/// What a frequency may rise to.
pub const MOST_FREQUENT: u64 = 3;
/// Seconds are kept modulo this.
const MADE_BITS: u32 = TAG - MADE;
/// What was made so many seconds ago or more is not known to be past or future.
pub const HORIZON: u32 = 1 << (MADE_BITS - 1);
/// Seconds that a clock which was read a moment earlier may be behind.
const AHEAD: u32 = 2;

/// What a word tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Empty,
    /// An object in the small queue.
    Small,
    /// An object in the main queue.
    Main,
    Ghost,
}

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word(pub u64);

impl Word {
    pub const EMPTY: Word = Word(0);

    fn seal(name: Name, payload: u64) -> Word {
        let tagged = payload & !(0xffff << TAG) | (name.0 & 0xffff) << TAG;
        Word(tagged | check(name, tagged) << CHECK)
    }

    /// A new object, in the small queue or the main one.
    pub fn object(name: Name, made: u32, class: u64, in_main: bool) -> Word {
        let state = if in_main { State::Main } else { State::Small };
        let made = u64::from(made) & ((1 << MADE_BITS) - 1);
        Word::seal(name, state as u64 | class << CLASS | made << MADE)
    }

    pub fn ghost(name: Name, sequence: u64) -> Word {
        Word::seal(name, State::Ghost as u64 | (sequence & SEQUENCE) << FREQUENCY)
    }

    /// Is this about `name`, and as it was written?
    pub fn is_of(self, name: Name) -> bool {
        (self.0 >> TAG) & 0xffff == name.0 & 0xffff
            && self.0 & 3 != State::Empty as u64
            && self.0 >> CHECK == check(name, self.0 & PAYLOAD)
    }

    pub fn state(self) -> State {
        match self.0 & 3 {
            0 => State::Empty,
            1 => State::Small,
            2 => State::Main,
            _ => State::Ghost,
        }
    }

    pub fn is_object(self) -> bool {
        matches!(self.state(), State::Small | State::Main)
    }

    pub fn frequency(self) -> u64 {
        (self.0 >> FREQUENCY) & MOST_FREQUENT
    }

    /// Bytes, as far as a class tells them. Only objects have a size.
    pub fn size(self) -> u64 {
        if self.is_object() { size_of((self.0 >> CLASS) & 0x3ff) } else { 0 }
    }

    /// How many ghosts were made after this one, of `made` altogether.
    pub fn ghost_age(self, made: u64) -> u64 {
        made.wrapping_sub(self.0 >> FREQUENCY) & SEQUENCE
    }

    /// The moment at which the object was made. None if that is in the future or beyond the horizon.
    pub fn made(self, now: u32) -> Option<u32> {
        let age = now.wrapping_sub((self.0 >> MADE) as u32) & ((1 << MADE_BITS) - 1);
        let ahead = (1 << MADE_BITS) - age;
        if ahead <= AHEAD { now.checked_add(ahead) } else { now.checked_sub(age).filter(|_| age < HORIZON) }
    }

    pub fn with_frequency(self, name: Name, frequency: u64) -> Word {
        Word::seal(name, self.0 & PAYLOAD & !(3 << FREQUENCY) | frequency.min(MOST_FREQUENT) << FREQUENCY)
    }

    pub fn in_main(self, name: Name) -> Word {
        Word::seal(name, self.0 & PAYLOAD & !3 | State::Main as u64)
    }
}

/// No ten bits of the factor in a row are alike. So the upper ten bits of a product change with any single bit among the lower
/// 54 of what is multiplied.
fn check(name: Name, payload: u64) -> u64 {
    ((payload ^ name.0) & PAYLOAD).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> CHECK
}

/// The largest size that has a class: 63 GiB.
pub const LARGEST: u64 = 63 << 30;

/// The least class that holds so many bytes: below 32 exact, then 32 steps per doubling, so at most 1/32 too large.
pub fn class_of(size: u64) -> u64 {
    if size < 32 {
        return size;
    }
    let size = size.min(LARGEST);
    let shift = u64::from(58 - size.leading_zeros());
    let steps = size.div_ceil(1 << shift);
    // 64 steps are 32 of the next doubling.
    (shift << 5) + steps
}

pub fn size_of(class: u64) -> u64 {
    if class < 32 { class } else { (32 + (class & 31)) << ((class >> 5) - 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_rounded_up_by_a_32nd_at_most() {
        assert!((0..=64).all(|size| size_of(class_of(size)) == size));
        let mut size = 1u64;
        while size < LARGEST - size / 7 {
            for size in [size - 1, size, size + 1] {
                let known = size_of(class_of(size));
                assert!(known >= size && known - size <= size / 32, "{size} became {known}");
                assert_eq!(class_of(known), class_of(size));
            }
            size += size / 7 + 1;
        }
        assert_eq!((class_of(LARGEST), size_of(1023)), (1023, LARGEST));
        assert_eq!(class_of(u64::MAX), 1023);
    }

    #[test]
    fn a_word_tells_what_was_put_into_it() {
        let name = Name::of(b"a");
        let word = Word::object(name, 0x0512_3456, class_of(1000), false);
        assert!(word.is_of(name) && !word.is_of(Name::of(b"b")));
        assert_eq!((word.state(), word.frequency(), word.size()), (State::Small, 0, 1008));
        assert_eq!(word.made(0x0512_3460), Some(0x0512_3456));
        let word = word.with_frequency(name, 9).in_main(name);
        assert!(word.is_of(name) && word.is_object());
        assert_eq!((word.state(), word.frequency(), word.size()), (State::Main, 3, 1008));
        assert_eq!(word.made(0x0512_3460), Some(0x0512_3456));
        let ghost = Word::ghost(name, u64::MAX - 1);
        assert!(ghost.is_of(name) && !ghost.is_object());
        assert_eq!((ghost.state(), ghost.size(), ghost.ghost_age(5)), (State::Ghost, 0, 7));
    }

    #[test]
    fn the_future_and_the_far_past_are_unknown() {
        let name = Name::of(b"a");
        let made = |made: u32, now| Word::object(name, made, 0, true).made(now);
        assert_eq!(made(1000, 1000), Some(1000));
        assert_eq!(made(1000, 998), Some(1000), "a clock that was read earlier");
        assert_eq!(made(1000, 997), None);
        assert_eq!(made(1000, 1000 + HORIZON - 1), Some(1000));
        assert_eq!(made(1000, 1000 + HORIZON), None);
        assert_eq!(made(u32::MAX, u32::MAX), Some(u32::MAX));
        assert_eq!(made(u32::MAX, 0), None, "a clock that starts anew");
        assert_eq!(made(5, u32::MAX), None);
    }

    #[test]
    fn no_single_flip_goes_unnoticed_and_foreign_words_rarely() {
        let mut passed = 0;
        for n in 0..2000u64 {
            let name = Name::of(&n.to_le_bytes());
            let word = Word::object(name, n as u32 * 77, n % 1024, n % 2 == 0).with_frequency(name, n % 4);
            assert!((0..64).all(|bit| !Word(word.0 ^ 1 << bit).is_of(name)), "{n}");
            // Any bits but those of the tag.
            for m in 0..50u64 {
                let noise = Name::of(&(n * 50 + m + 10_000).to_le_bytes()).0 & !(0xffff << TAG);
                passed += usize::from(Word(word.0 ^ noise).is_of(name));
            }
        }
        assert!((30..200).contains(&passed), "{passed} of 100000, 75 expected");
        assert!(!Word(0).is_of(Name::of(b"a")) && !Word(0).is_of(Name::NONE));
    }
}
