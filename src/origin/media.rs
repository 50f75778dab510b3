//! The media type of a file, by its name's extension.

use crate::origin::path::RelativePath;

/// A Content-Type value in two parts: the type, and its charset parameter or nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Media {
    pub name: &'static str,
    pub charset: &'static str,
}

impl Media {
    /// The type of a file with this path; `application/octet-stream` if its extension says nothing (RFC 9110 §8.3).
    pub fn of(path: &RelativePath) -> Media {
        let guess = path.extension().and_then(|extension| mime_guess::from_ext(extension).first_raw());
        let name = guess.unwrap_or("application/octet-stream");
        Media { name, charset: if is_text(name) { "; charset=utf-8" } else { "" } }
    }
}

/// Types whose bytes a browser decodes by a charset.
fn is_text(name: &str) -> bool {
    const OTHERS: [&str; 4] = ["application/javascript", "application/json", "application/xml", "image/svg+xml"];
    name.starts_with("text/") || OTHERS.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_of_a_web_site() {
        for (path, value) in [
            ("/index.html", "text/html; charset=utf-8"),
            ("/a.CSS", "text/css; charset=utf-8"),
            ("/a.js", "text/javascript; charset=utf-8"),
            ("/a.mjs", "application/javascript; charset=utf-8"),
            ("/a.json", "application/json; charset=utf-8"),
            ("/a.svg", "image/svg+xml; charset=utf-8"),
            ("/a.txt", "text/plain; charset=utf-8"),
            ("/a.png", "image/png"),
            ("/a.woff2", "font/woff2"),
            ("/a.wasm", "application/wasm"),
            ("/a.tar.gz", "application/gzip"),
            ("/a.unheard-of", "application/octet-stream"),
            ("/a.%ff", "application/octet-stream"),
            ("/LICENSE", "application/octet-stream"),
            ("/a.d/b", "application/octet-stream"),
        ] {
            let mut relative = RelativePath::default();
            relative.decode(path.as_bytes()).unwrap();
            let media = Media::of(&relative);
            assert_eq!(format!("{}{}", media.name, media.charset), value, "{path}");
        }
    }
}
