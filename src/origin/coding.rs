//! Content codings, and which of them a client takes (RFC 9110 §8.4.1, §12.5.3).

use crate::http1::Fields;
use crate::http1::field::{is_token, tokens, trim};

/// A content coding that this server has. Their order is its preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Coding {
    Zstd,
    Brotli,
    Gzip,
}

impl Coding {
    pub const ALL: [Coding; 3] = [Coding::Zstd, Coding::Brotli, Coding::Gzip];

    /// Its name in Content-Encoding.
    pub fn token(self) -> &'static str {
        match self {
            Coding::Zstd => "zstd",
            Coding::Brotli => "br",
            Coding::Gzip => "gzip",
        }
    }

    /// What the name of a file coded beforehand ends with.
    pub fn file_suffix(self) -> &'static str {
        match self {
            Coding::Zstd => ".zst",
            Coding::Brotli => ".br",
            Coding::Gzip => ".gz",
        }
    }

    /// What its entity tags end with.
    pub fn tag_suffix(self) -> &'static str {
        match self {
            Coding::Zstd => "-zst",
            Coding::Brotli => "-br",
            Coding::Gzip => "-gz",
        }
    }
}

/// Elements of a list that are looked at. Clients send half a dozen.
pub(super) const MOST_ELEMENTS: usize = 32;
/// The weight of an element that gives none: 1, in thousandths.
const FULL: u16 = 1000;

/// What the Accept-Encoding lines of a request say. Weights are in thousandths; none where nothing was said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accept {
    /// In the order of [`Coding::ALL`].
    codings: [Option<u16>; 3],
    identity: Option<u16>,
    /// `*`: whatever is not named.
    others: Option<u16>,
}

impl Accept {
    /// Without the field no coding is taken, though any might be (§12.5.3): who does not ask may not understand. Malformed
    /// elements are passed over; of two for one coding the last one counts.
    pub fn of(fields: &Fields<'_, '_>) -> Accept {
        let mut accept = Accept::default();
        let lines = fields.iter().filter(|field| field.name.eq_ignore_ascii_case(b"accept-encoding"));
        for element in lines.flat_map(|line| tokens(line.value)).take(MOST_ELEMENTS) {
            accept.take(element);
        }
        accept
    }

    fn take(&mut self, element: &[u8]) {
        let Some((name, weight)) = weighted(element) else { return };
        let is = |token: &str| name.eq_ignore_ascii_case(token.as_bytes());
        let slot = match name.len() {
            1 if is("*") => &mut self.others,
            2 if is("br") => &mut self.codings[Coding::Brotli as usize],
            4 if is("gzip") => &mut self.codings[Coding::Gzip as usize],
            4 if is("zstd") => &mut self.codings[Coding::Zstd as usize],
            6 if is("x-gzip") => &mut self.codings[Coding::Gzip as usize],
            8 if is("identity") => &mut self.identity,
            _ => return,
        };
        *slot = Some(weight);
    }

    /// The codings that may be sent and are liked at least as well as none: the best first, those liked alike in this server's
    /// order.
    pub fn order(&self) -> impl Iterator<Item = Coding> + use<> {
        let least = self.identity.or(self.others).unwrap_or(0).max(1);
        let weights = self.codings.map(|weight| weight.or(self.others).unwrap_or(0));
        let mut order = Coding::ALL;
        order.sort_by_key(|&coding| u16::MAX - weights[coding as usize]);
        order.into_iter().filter(move |&coding| weights[coding as usize] >= least)
    }

    /// All that matters of it in a number: the order, and whether identity is fine.
    pub fn code(&self) -> u8 {
        let order = self.order().fold(0, |code, coding| code << 2 | (coding as u8 + 1));
        order | u8::from(self.identity()) << 7
    }

    /// May the content be sent as it is? It may, unless it is refused by name or by `*` (§12.5.3).
    pub fn identity(&self) -> bool {
        self.identity.or(self.others) != Some(0)
    }
}

/// An element `name` or `name;q=0.5`: its name and its weight in thousandths (§12.4.2). None if it is malformed.
fn weighted(element: &[u8]) -> Option<(&[u8], u16)> {
    let Some(semicolon) = memchr::memchr(b';', element) else {
        return is_token(element).then_some((element, FULL));
    };
    let name = trim(&element[..semicolon]);
    let weight = weight(trim(&element[semicolon + 1..]))?;
    is_token(name).then_some((name, weight))
}

/// `q=0.5` in thousandths; a number from 0 to 1 with at most three decimals.
pub(super) fn weight(parameter: &[u8]) -> Option<u16> {
    let ([b'q' | b'Q', b'=', whole @ (b'0' | b'1')], rest) = parameter.split_at_checked(3)? else { return None };
    let decimals = match rest {
        [] => rest,
        [b'.', decimals @ ..] if decimals.len() <= 3 => decimals,
        _ => return None,
    };
    let mut value = u16::from(whole - b'0');
    for place in 0..3 {
        let digit = *decimals.get(place).unwrap_or(&b'0');
        value = value * 10 + digit.is_ascii_digit().then(|| u16::from(digit - b'0'))?;
    }
    (value <= FULL).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::field::FieldSpace;
    use crate::http1::{Limits, request};
    use proptest::prelude::*;

    fn parsed(fields: &[u8]) -> Option<Accept> {
        let bytes = [b"GET / HTTP/1.1\r\nHost: a\r\n", fields, b"\r\n"].concat();
        let mut space = FieldSpace::new();
        Some(Accept::of(&request::parse(&bytes, &mut space, &Limits::REQUEST).ok()?.fields))
    }

    /// The tokens in order, and `identity` at the end if that may be sent.
    fn taken(fields: &str) -> String {
        let accept = parsed(fields.as_bytes()).unwrap();
        let identity = accept.identity().then_some("identity");
        accept.order().map(Coding::token).chain(identity).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_clients_really_send() {
        for (value, expected) in [
            ("gzip, deflate, br, zstd", "zstd br gzip identity"),
            ("gzip, deflate, br", "br gzip identity"),
            ("gzip, deflate", "gzip identity"),
            ("gzip,deflate", "gzip identity"),
            ("gzip", "gzip identity"),
            ("identity", "identity"),
            ("identity;q=1, *;q=0", "identity"),
            ("deflate, gzip, br, zstd", "zstd br gzip identity"),
            ("gzip;q=1.0,deflate;q=0.6,identity;q=0.3", "gzip identity"),
            ("gzip, x-gzip, deflate", "gzip identity"),
        ] {
            assert_eq!(taken(&format!("Accept-Encoding: {value}\r\n")), expected, "{value}");
        }
    }

    #[test]
    fn weights_decide_and_ties_go_to_the_server() {
        for (value, expected) in [
            ("", "identity"),
            (",", "identity"),
            ("*", "zstd br gzip identity"),
            ("*;q=0", ""),
            ("*;q=0, gzip", "gzip"),
            ("identity;q=0", ""),
            ("identity;q=0, br", "br"),
            ("*;q=0, identity;q=0.1", "identity"),
            ("gzip;q=0", "identity"),
            ("gzip;q=0, *", "zstd br identity"),
            ("zstd;q=0.1, br;q=0.3, gzip;q=0.2", "br gzip zstd identity"),
            ("gzip, br;q=0.999, zstd;q=0.001", "gzip br zstd identity"),
            ("gzip;q=0.5, identity", "identity"),
            ("gzip;q=0.5, identity;q=0.5", "gzip identity"),
            ("gzip;q=0.2, *;q=0.5", "zstd br identity"),
            ("GZIP;Q=0.5", "gzip identity"),
            ("X-GZip", "gzip identity"),
            ("gzip ;\tq=0.7", "gzip identity"),
            ("br;q=0, br", "br identity"),
        ] {
            assert_eq!(taken(&format!("accept-encoding: {value}\r\n")), expected, "{value}");
        }
        assert_eq!(taken(""), "identity");
        assert_eq!(taken("Accept-Encoding: gzip;q=0.1\r\nAccept-Encoding: br\r\n"), "br gzip identity");
    }

    #[test]
    fn malformed_elements_are_passed_over() {
        for bad in [
            "br;q=",
            "br;q=2",
            "br;q=1.001",
            "br;q=0.1234",
            "br;q=.5",
            "br;q=-1",
            "br;q=0,5x",
            "br;q=1e0",
            "br;q = 1",
            "br;",
            "br;p=1",
            "br;q=1;q=1",
            "b r",
            "\"br\"",
            ";q=1",
            "br;q=\u{bd}",
            "br=1",
            "brr",
            "br;q=0.5.",
        ] {
            assert_eq!(taken(&format!("Accept-Encoding: gzip, {bad}\r\n")), "gzip identity", "{bad}");
        }
        for good in ["br;q=1", "br;q=1.", "br;q=1.0", "br;q=1.000"] {
            assert_eq!(taken(&format!("Accept-Encoding: {good}\r\n")), "br identity", "{good}");
        }
        let many = "a,".repeat(MOST_ELEMENTS - 1);
        assert_eq!(taken(&format!("Accept-Encoding: {many}br,gzip\r\n")), "br identity");
    }

    #[test]
    fn names_and_suffixes() {
        let all: Vec<_> =
            Coding::ALL.iter().map(|c| format!("{} a{} x{}", c.token(), c.file_suffix(), c.tag_suffix())).collect();
        assert_eq!(all, ["zstd a.zst x-zst", "br a.br x-br", "gzip a.gz x-gz"]);
        assert!(Coding::ALL.iter().enumerate().all(|(at, &coding)| coding as usize == at));
    }

    #[test]
    fn looking_allocates_nothing() {
        let bytes = b"GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip, deflate, br;q=0.9, *;q=0.1\r\n\r\n";
        let mut space = FieldSpace::new();
        let head = request::parse(bytes, &mut space, &Limits::REQUEST).unwrap();
        let counted = allocation_counter::measure(|| {
            let accept = Accept::of(&head.fields);
            assert!(accept.order().eq([Coding::Gzip, Coding::Brotli, Coding::Zstd]) && accept.identity());
        });
        assert_eq!(counted.count_total, 0);
    }

    proptest! {
        #[test]
        fn any_value_gives_codings_once_each(value in "([a-z*;=, .01q-]|gzip|br|zstd|identity|;q=0\\.[0-9]){0,40}") {
            let accept = parsed(format!("Accept-Encoding: {value}\r\n").as_bytes()).unwrap();
            let mut order: Vec<_> = accept.order().collect();
            order.sort();
            order.dedup();
            prop_assert_eq!(order.len(), accept.order().count());
        }

        #[test]
        fn no_bytes_panic(value: Vec<u8>) {
            if let Some(accept) = parsed(&[b"Accept-Encoding: ", &value[..], b"\r\n"].concat()) {
                prop_assert!(accept.order().count() <= 3);
            }
        }
    }
}
