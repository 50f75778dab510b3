//! A cookie that keeps a client with its server.
//!
//! Its value is a keyed hash of the server's id and the cookie's name: 32 hex digits that only the holder of the key can make, so a
//! client can come back to its server but not aim at another one, and that tell nobody which servers there are. The values of a set of
//! servers are made once; a request only compares. Whoever has the same key (other workers, this program after a restart, another
//! proxy in front of the same servers) knows the same cookies.

use super::cookie;
use crate::engine::ServerId;
use siphasher::sip128::{Hasher128, SipHasher24};
use std::hash::Hasher;

/// The cookies of a set of servers.
#[derive(Clone, Debug)]
pub struct Sticky {
    name: String,
    /// One per server: its cookie's value.
    tags: Vec<[u8; DIGITS]>,
}

const DIGITS: usize = 32;

/// A key for cookies made of a secret of any length.
pub fn key_of(secret: &[u8]) -> [u8; 16] {
    let mut hasher = SipHasher24::new();
    hasher.write(secret);
    hasher.finish128().as_u128().to_le_bytes()
}

impl Sticky {
    /// `ids`: of the servers, in the order of their numbers, as in [`super::Load::id`].
    pub fn new(name: &str, key: &[u8; 16], ids: impl Iterator<Item = u64>) -> Sticky {
        let tag = |id: u64| {
            let mut hasher = SipHasher24::new_with_key(key);
            hasher.write(&id.to_le_bytes());
            hasher.write(name.as_bytes());
            hex(hasher.finish128().as_u128())
        };
        Sticky { name: name.to_owned(), tags: ids.map(tag).collect() }
    }

    /// The server that a client's cookie names, from the values of its Cookie fields: the first of ours that holds. Whether the
    /// server may be chosen now is another question.
    pub fn find<'v>(&self, fields: impl Iterator<Item = &'v [u8]>) -> Option<ServerId> {
        let mut values = cookie::values(fields, self.name.as_bytes());
        let index = values.find_map(|value| self.tags.iter().position(|tag| tag == value))?;
        Some(index as ServerId)
    }

    /// Appends the field that keeps the client with this server until its browser is closed.
    pub fn set(&self, out: &mut Vec<u8>, server: ServerId) {
        let Some(tag) = self.tags.get(usize::from(server)) else { return };
        out.extend_from_slice(b"Set-Cookie: ");
        out.extend_from_slice(self.name.as_bytes());
        out.push(b'=');
        out.extend_from_slice(tag);
        out.extend_from_slice(b"; Path=/; HttpOnly; SameSite=Lax\r\n");
    }
}

fn hex(number: u128) -> [u8; DIGITS] {
    std::array::from_fn(|place| b"0123456789abcdef"[(number >> (4 * (DIGITS - 1 - place))) as usize & 15])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: [u8; 16] = *b"sixteen secrets!";

    fn sticky(name: &str) -> Sticky {
        Sticky::new(name, &KEY, [11, 22, 33].into_iter())
    }

    fn value(sticky: &Sticky, server: ServerId) -> String {
        let mut out = Vec::new();
        sticky.set(&mut out, server);
        let line = String::from_utf8(out).unwrap();
        let rest = line.strip_prefix(&format!("Set-Cookie: {}=", sticky.name)).unwrap();
        rest.strip_suffix("; Path=/; HttpOnly; SameSite=Lax\r\n").unwrap().to_owned()
    }

    fn find(sticky: &Sticky, fields: &[&str]) -> Option<ServerId> {
        sticky.find(fields.iter().map(|field| field.as_bytes()))
    }

    #[test]
    fn a_client_comes_back_to_its_server() {
        let sticky = sticky("srv");
        for server in 0..3 {
            let value = value(&sticky, server);
            assert_eq!(value.len(), 32);
            assert_eq!(find(&sticky, &[&format!("a=b; srv={value}")]), Some(server));
            assert_eq!(find(&sticky, &["x=y", &format!("srv=\"{}\"; c=d", value)]), Some(server));
        }
        let reordered = Sticky::new("srv", &KEY, [33, 11].into_iter());
        assert_eq!(find(&reordered, &[&format!("srv={}", value(&sticky, 0))]), Some(1), "by id, not by place");
        assert_eq!(find(&reordered, &[&format!("srv={}", value(&sticky, 1))]), None, "its server is gone");
        let mut out = Vec::new();
        sticky.set(&mut out, 3);
        assert_eq!(out, b"", "no such server");
    }

    #[test]
    fn the_first_cookie_that_holds_wins() {
        let sticky = sticky("srv");
        let (one, two) = (value(&sticky, 1), value(&sticky, 2));
        assert_eq!(find(&sticky, &[&format!("srv=forged; srv={one}; srv={two}")]), Some(1));
        assert_eq!(find(&sticky, &["srv=", &format!("srv={two}"), &format!("srv={one}")]), Some(2));
    }

    #[test]
    fn only_the_key_and_the_name_make_a_cookie() {
        let ours = sticky("srv");
        let other_key = Sticky::new("srv", b"sixteen others!!", [11].into_iter());
        let renamed = value(&sticky("other"), 0);
        for forged in [value(&other_key, 0), renamed, "0".repeat(32), format!("{:032x}", 11), "+".repeat(32)] {
            assert_eq!(find(&ours, &[&format!("srv={forged}")]), None, "{forged}");
        }
        // Cookies out there must hold after an update of the program: the value is what it was.
        assert_eq!(value(&ours, 0), "29238b31aae70121ba64a38f80d46d52");
    }

    proptest! {
        #[test]
        fn any_bytes_do_no_harm(bytes: Vec<u8>, cut in 0usize..80) {
            let sticky = sticky("srv");
            prop_assert_eq!(sticky.find([&bytes[..]].into_iter()), None);
            let whole = format!("srv={}", value(&sticky, 0));
            let most = [&whole.as_bytes()[..cut.min(whole.len())], &bytes].concat();
            let _ = sticky.find([&most[..]].into_iter());
        }
    }
}
