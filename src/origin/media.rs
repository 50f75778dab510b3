//! The media type of a file, by its name's extension, and whether compressing that type is worth the work.

/// A Content-Type value in two parts: the type, and its charset parameter or nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Media {
    pub name: &'static str,
    pub charset: &'static str,
}

/// Where the table of the library is older than the registry of media types, or says nothing.
const NEWER: [(&str, &str); 11] = [
    ("cjs", "text/javascript"), // RFC 9239
    ("ico", "image/vnd.microsoft.icon"),
    ("map", "application/json"), // ECMA-426: a source map
    ("mjs", "text/javascript"),
    ("mkv", "video/matroska"), // RFC 9559
    ("otf", "font/otf"),       // RFC 8081
    ("toml", "application/toml"),
    ("woff", "font/woff"),
    ("yaml", "application/yaml"), // RFC 9512
    ("yml", "application/yaml"),
    ("zst", "application/zstd"), // RFC 8878
];

impl Media {
    /// The type of a file with this name or path; `application/octet-stream` if its extension says nothing (RFC 9110 §8.3).
    pub fn of(path: &[u8]) -> Media {
        let guess = extension(path).and_then(|extension| {
            let newer = NEWER.iter().find(|(name, _)| name.eq_ignore_ascii_case(extension));
            newer.map(|&(_, media)| media).or_else(|| mime_guess::from_ext(extension).first_raw())
        });
        let name = guess.unwrap_or("application/octet-stream");
        Media { name, charset: if is_text(name) { "; charset=utf-8" } else { "" } }
    }

    /// Do bytes of this type usually shrink? Images, video, packed fonts and archives are compressed already.
    pub fn compressible(&self) -> bool {
        const OTHERS: [&str; 20] = [
            "application/javascript",
            "application/json",
            "application/rtf",
            "application/sql",
            "application/toml",
            "application/vnd.ms-fontobject",
            "application/wasm",
            "application/x-javascript",
            "application/x-sh",
            "application/x-tar",
            "application/xml",
            "application/xml-dtd",
            "application/yaml",
            "font/collection",
            "font/otf",
            "font/ttf",
            "image/bmp",
            "image/vnd.microsoft.icon",
            "image/x-icon",
            "model/gltf-binary",
        ];
        let text = self.name.starts_with("text/") || self.name.ends_with("+xml") || self.name.ends_with("+json");
        text || OTHERS.binary_search(&self.name).is_ok()
    }
}

/// What follows the last dot of the last segment, if it is text.
fn extension(path: &[u8]) -> Option<&str> {
    let name = path.rsplit(|&byte| byte == b'/').next()?;
    let dot = memchr::memrchr(b'.', name)?;
    std::str::from_utf8(&name[dot + 1..]).ok()
}

/// Types whose bytes a browser decodes by a charset.
fn is_text(name: &str) -> bool {
    const OTHERS: [&str; 4] = ["application/javascript", "application/json", "application/xml", "image/svg+xml"];
    name.starts_with("text/") || OTHERS.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn media(path: &str) -> Media {
        Media::of(path.as_bytes())
    }

    #[test]
    fn extensions_of_a_web_site() {
        for (path, value) in [
            ("/index.html", "text/html; charset=utf-8"),
            ("/a.CSS", "text/css; charset=utf-8"),
            ("/a.js", "text/javascript; charset=utf-8"),
            ("/a.mjs", "text/javascript; charset=utf-8"),
            ("/a.MJS", "text/javascript; charset=utf-8"),
            ("/a.json", "application/json; charset=utf-8"),
            ("/a.js.map", "application/json; charset=utf-8"),
            ("/a.svg", "image/svg+xml; charset=utf-8"),
            ("/a.txt", "text/plain; charset=utf-8"),
            ("/README.md", "text/markdown; charset=utf-8"),
            ("/a.webmanifest", "application/manifest+json"),
            ("/a.png", "image/png"),
            ("/a.avif", "image/avif"),
            ("/a.webp", "image/webp"),
            ("/favicon.ico", "image/vnd.microsoft.icon"),
            ("/a.ttf", "font/ttf"),
            ("/a.otf", "font/otf"),
            ("/a.woff", "font/woff"),
            ("/a.woff2", "font/woff2"),
            ("/a.wasm", "application/wasm"),
            ("/a.tar.gz", "application/gzip"),
            ("/a.tar.zst", "application/zstd"),
            ("/a.unheard-of", "application/octet-stream"),
            ("/a.\u{fffd}", "application/octet-stream"),
            ("/LICENSE", "application/octet-stream"),
            ("/a.d/b", "application/octet-stream"),
        ] {
            let media = media(path);
            assert_eq!(format!("{}{}", media.name, media.charset), value, "{path}");
        }
    }

    #[test]
    fn what_shrinks() {
        for extension in [
            "html",
            "css",
            "js",
            "mjs",
            "json",
            "map",
            "xml",
            "svg",
            "txt",
            "md",
            "csv",
            "wasm",
            "ttf",
            "otf",
            "ico",
            "jsonld",
            "webmanifest",
            "rss",
            "atom",
            "xhtml",
            "geojson",
            "vtt",
            "yaml",
            "toml",
            "eot",
            "tar",
            "sh",
            "glb",
        ] {
            assert!(media(&format!("/a.{extension}")).compressible(), "{extension}");
        }
        for extension in [
            "png",
            "jpg",
            "gif",
            "webp",
            "avif",
            "woff",
            "woff2",
            "mp4",
            "webm",
            "mp3",
            "ogg",
            "zip",
            "gz",
            "br",
            "zst",
            "7z",
            "xz",
            "bz2",
            "pdf",
            "docx",
            "jar",
            "unheard-of",
            "bin",
            "mkv",
        ] {
            assert!(!media(&format!("/a.{extension}")).compressible(), "{extension}");
        }
    }

    #[test]
    fn newer_types_are_needed_and_lists_are_in_order() {
        assert!(NEWER.is_sorted());
        for (extension, name) in NEWER {
            let old = mime_guess::from_ext(extension).first_raw();
            assert!(old != Some(name), "{extension} is known by now");
        }
    }
}
