//! What `pilb-origin` does with files besides sending them.

use clap::Args;

/// See the module.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
#[command(next_help_heading = "Files")]
pub struct FilesOptions {
    /// List folders that have no index.html, as a page or as JSON
    #[arg(long)]
    pub listing: bool,

    /// The page for what is not there: a path below the root
    #[arg(long, value_name = "PATH", value_parser = below_root)]
    pub not_found: Option<String>,

    /// Cache-Control of answers; may be repeated
    ///
    /// For all files, or for those below a path (/assets/=...) or with an ending (.png=...).
    #[arg(long, value_name = "[FILES=]VALUE", value_parser = HeaderRule::parse)]
    pub cache_control: Vec<HeaderRule>,

    /// Send files only as they are, or compressed as they lie beside them (.zst, .br, .gz)
    #[arg(long)]
    pub no_compress: bool,
}

/// A field value, and the files whose answers get it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderRule {
    pub files: Files,
    pub value: String,
}

/// Some of the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Files {
    All,
    /// A path below the root, without its leading slash.
    Below(String),
    Ending(String),
}

impl HeaderRule {
    /// `VALUE`, `/path=VALUE` or `.ending=VALUE`.
    fn parse(text: &str) -> Result<HeaderRule, String> {
        let (files, value) = match text.split_once('=') {
            Some((files, value)) if files.starts_with('/') => (Files::Below(files[1..].to_owned()), value),
            Some((files, value)) if files.starts_with('.') => (Files::Ending(files.to_owned()), value),
            // A value has an equals sign of its own.
            _ => (Files::All, text),
        };
        let value = value.trim();
        if value.is_empty() {
            return Err("the value is missing: write for example max-age=3600 or /assets/=max-age=3600".to_owned());
        }
        if !value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
            return Err("a field value is of visible ASCII characters and spaces".to_owned());
        }
        Ok(HeaderRule { files, value: value.to_owned() })
    }
}

fn below_root(text: &str) -> Result<String, String> {
    match text.strip_prefix('/').unwrap_or(text) {
        "" => Err("name a file below the root, such as /404.html".to_owned()),
        path if path.ends_with('/') => Err("this names a folder: name a file, such as /404.html".to_owned()),
        path => Ok(path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_by_path_ending_or_for_all() {
        let rule = |files, value: &str| Ok(HeaderRule { files, value: value.to_owned() });
        assert_eq!(HeaderRule::parse("max-age=60, public"), rule(Files::All, "max-age=60, public"));
        assert_eq!(HeaderRule::parse("no-store"), rule(Files::All, "no-store"));
        assert_eq!(HeaderRule::parse("/a/= max-age=1"), rule(Files::Below("a/".to_owned()), "max-age=1"));
        assert_eq!(HeaderRule::parse(".css=immutable"), rule(Files::Ending(".css".to_owned()), "immutable"));
        for wrong in ["", " ", "/a=", ".css= ", "a\r\nSet-Cookie: x", "\u{e4}"] {
            assert!(HeaderRule::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_page_is_a_file() {
        assert_eq!([below_root("/404.html"), below_root("a/b.html")], [Ok("404.html".into()), Ok("a/b.html".into())]);
        assert!(["", "/", "/a/"].iter().all(|path| below_root(path).is_err()));
    }
}
