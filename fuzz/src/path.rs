//! Request paths of the origin: what was decoded names something below the root, and nothing else.

use super::show;
use pilb::origin::RelativePath;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

/// `data`: a path as it stands in a request target.
pub fn run(data: &[u8]) {
    let mut path = RelativePath::default();
    if path.decode(data).is_err() {
        assert!(path.as_bytes().is_empty(), "something is left of {}", show(data));
        return;
    }
    let bytes = path.as_bytes();
    let shown = || format!("{} became {}", show(data), show(bytes));
    assert!(!bytes.contains(&0), "NUL: {}", shown());
    assert!(!bytes.starts_with(b"/"), "absolute: {}", shown());
    let segments: Vec<&[u8]> = bytes.split(|&byte| byte == b'/').collect();
    for (at, segment) in segments.iter().enumerate() {
        let last = at + 1 == segments.len();
        assert!(last || !segment.is_empty(), "an empty segment: {}", shown());
        let hidden = segment.starts_with(b".") && !(at == 0 && *segment == b".well-known");
        assert!(!hidden, "a hidden segment: {}", shown());
    }
    assert!(path.segments().eq(segments.iter().copied()), "{}", shown());
    assert_eq!(path.is_directory(), bytes.is_empty() || bytes.ends_with(b"/"), "{}", shown());
    // As the standard library sees it, it goes down only.
    let below = Path::new(OsStr::from_bytes(bytes));
    assert!(below.components().all(|part| matches!(part, Component::Normal(_))), "leads away: {}", shown());
    // Slashes are separators before decoding or not at all.
    let slashes = |bytes: &[u8]| bytes.iter().filter(|&&byte| byte == b'/').count();
    assert_eq!(slashes(bytes), slashes(data) - usize::from(data.starts_with(b"/")), "another depth: {}", shown());
    // Written as a URI it means the same.
    let encoded = format!("/{}", path.encoded());
    let mut again = RelativePath::default();
    assert_eq!(again.decode(encoded.as_bytes()), Ok(()), "{encoded}: {}", shown());
    assert_eq!(again.as_bytes(), bytes, "{encoded}: {}", shown());
    assert!(encoded.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~/%".contains(&byte)), "{encoded}");
    let folder = path.folder();
    assert!(folder.is_directory() && bytes.starts_with(folder.as_bytes()), "another folder: {}", shown());
}
