//! The pairs of a Cookie field (RFC 6265 §4.2), read from any bytes.

use crate::http1::field::trim;

/// The values of the cookies with this name, in order, from the values of all Cookie fields. Without quotes around.
pub(super) fn values<'v>(fields: impl Iterator<Item = &'v [u8]>, name: &[u8]) -> impl Iterator<Item = &'v [u8]> {
    fields.flat_map(pairs).filter_map(move |pair| {
        let value = trim(trim(pair).strip_prefix(name)?).strip_prefix(b"=")?;
        Some(unquoted(trim(value)))
    })
}

/// What lies between semicolons. Cookies can be long, so many bytes are looked at at a time.
fn pairs(field: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(field);
    std::iter::from_fn(move || {
        let whole = rest?;
        let end = memchr::memchr(b';', whole);
        rest = end.map(|end| &whole[end + 1..]);
        Some(&whole[..end.unwrap_or(whole.len())])
    })
}

fn unquoted(value: &[u8]) -> &[u8] {
    match value {
        [b'"', inner @ .., b'"'] => inner,
        _ => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_found_in_any_order_and_number() {
        let found = |fields: &[&'static str]| -> Vec<&[u8]> {
            values(fields.iter().map(|field| field.as_bytes()), b"a").collect()
        };
        assert_eq!(found(&["a=1"]), [b"1"]);
        assert_eq!(found(&["b=1; a=2;a=3", "aa=4; a = \"5\""]), [b"2", b"3", b"5"]);
        assert_eq!(found(&["a=; a=\"\"; a=\"; a==x"]), [&b""[..], b"", b"\"", b"=x"]);
        assert_eq!(found(&["A=1; ; a; =a; xa=1; ab=1", ""]), [b""; 0]);
    }
}
