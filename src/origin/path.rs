//! Request paths: decoded once, judged once, and from then on a name that cannot leave the root.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, percent_encode};
use std::fmt;

/// The file that a directory's path stands for.
pub const INDEX: &[u8] = b"index.html";
/// The only segment with a leading dot that is served, and only as the first one (RFC 8615).
const WELL_KNOWN: &[u8] = b".well-known";

/// What stays as it is in a URI path: unreserved characters and the separator (RFC 3986 §2.3, §3.3).
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// A path below the root: segments joined by `/`, none of them empty, `..`, or hidden, none with a `/` or NUL inside.
/// Any other byte may occur: a file name is bytes, not text. Made only by [`RelativePath::decode`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RelativePath {
    bytes: Vec<u8>,
}

/// Why a request path names nothing here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathFault {
    /// `%` without two hex digits.
    BadEscape,
    /// `%00`: no file name has it, and whoever reads names as C strings is cut short by it.
    Nul,
    /// `%2F`: a slash that would become a separator only after decoding.
    EncodedSlash,
    /// A `..` segment under any encoding. Clients resolve their dots before they ask (RFC 3986 §5.2.4); who sends them
    /// probes.
    DotDot,
    /// `//`: one resource has one name, so that caches and rules in front of this server see the same paths as it does.
    EmptySegment,
    /// A segment that begins with a dot (`.git`, `.env`, also a lone `.`).
    Hidden,
}

impl PathFault {
    /// 400 for a path that is malformed, 404 for one that is merely not there.
    pub fn status(self) -> u16 {
        match self {
            PathFault::BadEscape | PathFault::Nul | PathFault::EncodedSlash | PathFault::DotDot => 400,
            PathFault::EmptySegment | PathFault::Hidden => 404,
        }
    }

    /// The word in the access log and on the page.
    pub fn word(self) -> &'static str {
        match self {
            PathFault::BadEscape => "bad-escape",
            PathFault::Nul => "nul-in-path",
            PathFault::EncodedSlash => "encoded-slash",
            PathFault::DotDot => "dot-dot",
            PathFault::EmptySegment => "empty-segment",
            PathFault::Hidden => "hidden",
        }
    }
}

impl RelativePath {
    /// Becomes the path of a request target, given without its query. After a fault it is the root.
    pub fn decode(&mut self, path: &[u8]) -> Result<(), PathFault> {
        self.bytes.clear();
        let judged = self.append(path.strip_prefix(b"/").unwrap_or(path));
        if judged.is_err() {
            self.bytes.clear();
        }
        judged
    }

    fn append(&mut self, path: &[u8]) -> Result<(), PathFault> {
        let mut segments = path.split(|&byte| byte == b'/').peekable();
        while let Some(segment) = segments.next() {
            let start = self.bytes.len();
            // Only the last segment may be empty: it is what follows the slash of a directory.
            if segment.is_empty() && segments.peek().is_some() {
                return Err(PathFault::EmptySegment);
            }
            if !has_whole_escapes(segment) {
                return Err(PathFault::BadEscape);
            }
            self.bytes.extend(percent_decode(segment));
            judge(&self.bytes[start..], start == 0)?;
            if segments.peek().is_some() {
                self.bytes.push(b'/');
            }
        }
        Ok(())
    }

    /// The name below the root, without a leading slash; empty for the root itself.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The root, or a path that ended in a slash.
    pub fn is_directory(&self) -> bool {
        matches!(self.bytes.last(), None | Some(b'/'))
    }

    /// The segments, of which a directory's last one is empty.
    pub fn segments(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.split(|&byte| byte == b'/')
    }

    /// Goes down from a directory to its file `name`.
    pub(super) fn push(&mut self, name: &[u8]) {
        debug_assert!(self.is_directory() && judge(name, false).is_ok());
        self.bytes.extend_from_slice(name);
    }

    /// The directory that it is in.
    pub fn folder(&self) -> RelativePath {
        let end = memchr::memrchr(b'/', &self.bytes).map_or(0, |slash| slash + 1);
        RelativePath { bytes: self.bytes[..end].to_vec() }
    }

    /// The path as it stands in a URI, without a leading slash. Encoded anew, so that no byte of it can mean anything
    /// else: neither a second slash at the start nor a backslash that a browser would take for one.
    pub fn encoded(&self) -> impl fmt::Display {
        encoded(&self.bytes)
    }
}

/// A name below the root as it stands in a URI.
pub fn encoded(name: &[u8]) -> impl fmt::Display {
    percent_encode(name, PATH)
}

/// Judges one decoded segment.
fn judge(segment: &[u8], first: bool) -> Result<(), PathFault> {
    if segment.contains(&0) {
        Err(PathFault::Nul)
    } else if segment.contains(&b'/') {
        Err(PathFault::EncodedSlash)
    } else if segment == b".." {
        Err(PathFault::DotDot)
    } else if segment.first() == Some(&b'.') && !(first && segment == WELL_KNOWN) {
        Err(PathFault::Hidden)
    } else {
        Ok(())
    }
}

/// Is every `%` followed by two hex digits? (The decoder would let others pass as they are.)
fn has_whole_escapes(segment: &[u8]) -> bool {
    memchr::memchr_iter(b'%', segment)
        .all(|at| segment.get(at + 1..at + 3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(path: &[u8]) -> Result<Vec<u8>, PathFault> {
        let mut relative = RelativePath::default();
        relative.decode(path)?;
        Ok(relative.as_bytes().to_vec())
    }

    #[test]
    fn names_are_decoded_once_and_may_be_any_bytes() {
        for (path, name) in [
            (&b"/"[..], &b""[..]),
            (b"", b""),
            (b"/a", b"a"),
            (b"/a/", b"a/"),
            (b"/a/b.c", b"a/b.c"),
            (b"/%61%2Eb", b"a.b"),
            (b"/%2561", b"%61"),
            (b"/%252e%252e/x", b"%2e%2e/x"),
            (b"/%ff%C3", b"\xff\xc3"),
            (b"/a%20b+c", b"a b+c"),
            (b"/a\\..\\b", b"a\\..\\b"),
            (b"/a%5c", b"a\\"),
            (b"/a..b/c..", b"a..b/c.."),
            (b"/a;b=c", b"a;b=c"),
            (b"/.well-known/acme", b".well-known/acme"),
        ] {
            assert_eq!(decoded(path).as_deref(), Ok(name), "{path:?}");
        }
    }

    #[test]
    fn no_encoding_of_an_escape_gets_through() {
        use PathFault::*;
        for (path, fault) in [
            ("/..", DotDot),
            ("/../etc/passwd", DotDot),
            ("/a/../b", DotDot),
            ("/a/..", DotDot),
            ("/a/../", DotDot),
            ("/%2e%2e/x", DotDot),
            ("/.%2E/x", DotDot),
            ("/%2e./x", DotDot),
            ("/%2e%2e%2fx", EncodedSlash),
            ("/..%2fx", EncodedSlash),
            ("/a%2Fb", EncodedSlash),
            ("/%2f", EncodedSlash),
            ("/a%00.html", Nul),
            ("/%00", Nul),
            ("/%", BadEscape),
            ("/%2", BadEscape),
            ("/%zz", BadEscape),
            ("/%u002e", BadEscape),
            ("/a%2/e", BadEscape),
            ("//", EmptySegment),
            ("//etc/passwd", EmptySegment),
            ("/a//b", EmptySegment),
            ("/a//", EmptySegment),
            ("/.", Hidden),
            ("/./a", Hidden),
            ("/.git/config", Hidden),
            ("/a/.env", Hidden),
            ("/%2eenv", Hidden),
            ("/...", Hidden),
            ("/..;/x", Hidden),
            ("/..\\x", Hidden),
            ("/a/.well-known/x", Hidden),
            ("/.well-known.txt", Hidden),
        ] {
            assert_eq!(decoded(path.as_bytes()), Err(fault), "{path}");
        }
    }

    #[test]
    fn a_path_goes_back_into_a_uri_without_a_second_meaning() {
        let mut path = RelativePath::default();
        path.decode(b"/%5cevil.example/a%20b%25%0d%0a").unwrap();
        assert_eq!(path.encoded().to_string(), "%5Cevil.example/a%20b%25%0D%0A");
        path.decode(b"/x/y.tar.gz").unwrap();
        assert_eq!(path.folder().as_bytes(), b"x/");
        path.decode(b"/y").unwrap();
        assert!(path.folder().as_bytes().is_empty() && path.folder().is_directory());
        assert!(path.decode(b"/a//").is_err() && path.is_directory() && path.as_bytes().is_empty());
    }
}
