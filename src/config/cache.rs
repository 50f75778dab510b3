//! Where and how `pilb-origin` keeps what it made.

use crate::base::Micros;
use crate::base::time::SECOND;
use crate::config::values;
use clap::Args;
use std::path::{Path, PathBuf};

/// See the module.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
#[command(next_help_heading = "Cache")]
pub struct CacheOptions {
    /// Where answers that took work are kept [default: cache]
    ///
    /// Compressed files, listings, hashes. `off`: nowhere.
    #[arg(long, value_name = "DIR|off", value_parser = CachePlace::parse)]
    cache_dir: Option<CachePlace>,

    /// How long an answer is used before it is made again
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = ttl)]
    pub cache_ttl: Micros,

    /// Bytes that the kept answers may take
    #[arg(long, value_name = "SIZE", default_value = "1g", value_parser = max_size)]
    pub cache_max_size: u64,

    /// Answers that may be kept; each takes 32 bytes of the index
    #[arg(long, value_name = "N", default_value = "100000", value_parser = max_objects)]
    pub cache_max_objects: usize,
}

/// A folder for the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CachePlace {
    Off,
    Dir(PathBuf),
}

/// The folder that is used if none was named.
const DEFAULT: &str = "cache";

impl CachePlace {
    fn parse(text: &str) -> Result<CachePlace, String> {
        match text {
            "" => Err("the folder is missing: write a path, or 'off'".to_owned()),
            "off" => Ok(CachePlace::Off),
            path => Ok(CachePlace::Dir(PathBuf::from(path))),
        }
    }
}

impl CacheOptions {
    /// The folder, and whether it was named on the command line; nothing if there is to be no cache.
    pub fn place(&self) -> Option<(&Path, bool)> {
        match &self.cache_dir {
            None => Some((Path::new(DEFAULT), false)),
            Some(CachePlace::Off) => None,
            Some(CachePlace::Dir(path)) => Some((path, true)),
        }
    }

    /// Whole seconds.
    pub fn ttl(&self) -> u32 {
        u32::try_from(self.cache_ttl / SECOND).unwrap_or(u32::MAX)
    }

    /// A cache that clients could read file by file is a mistake.
    pub fn check(&self, root: &Path) -> Result<(), String> {
        match self.place() {
            Some((dir, true)) if lies_below(dir, root) => Err(format!(
                "--cache-dir '{}' lies below --root '{}', where clients could read it: name a folder elsewhere",
                dir.display(),
                root.display()
            )),
            _ => Ok(()),
        }
    }
}

/// Is a folder, which may not be there yet, the root or below it?
pub fn lies_below(dir: &Path, root: &Path) -> bool {
    let Ok(root) = root.canonicalize() else { return false };
    // Of what is not there yet, the part that is.
    let absolute = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    let there = absolute.ancestors().find_map(|part| part.canonicalize().ok());
    there.is_some_and(|dir| dir.starts_with(root))
}

pub(super) fn ttl(text: &str) -> Result<Micros, String> {
    let time = values::timeout(text)?;
    if time < SECOND { Err("too short: at least 1s, or use --cache-dir off".to_owned()) } else { Ok(time) }
}

fn max_size(text: &str) -> Result<u64, String> {
    values::size(text, 64 << 10, 1 << 50)
}

fn max_objects(text: &str) -> Result<usize, String> {
    values::number(text, 16, 100_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_below_the_root_is_seen_even_before_it_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("www");
        std::fs::create_dir(&root).unwrap();
        for (dir, below) in [("www", true), ("www/cache", true), ("www/a/b", true), ("cache", false), ("www2", false)] {
            assert_eq!(lies_below(&folder.path().join(dir), &root), below, "{dir}");
        }
        std::os::unix::fs::symlink(&root, folder.path().join("link")).unwrap();
        assert!(lies_below(&folder.path().join("link/cache"), &root));
    }
}
