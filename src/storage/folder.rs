//! Directories as answers: their entries are looked at once and listed.

use crate::origin::RelativePath;
use crate::origin::listing::{self, Entry};
use crate::origin::media::Media;
use crate::origin::store::{Cached, Facts, Vary};
use crate::storage::flight::Pilot;
use crate::storage::loaded::{Loaded, Source};
use crate::storage::make;
use crate::storage::site::Site;
use rustix::fs::{AtFlags, Dir, FileType, Stat, statat};
use std::io::{self, Write};
use std::sync::Arc;

/// Entries that are listed. A page with more is of no use to anybody.
const MOST: usize = 20_000;

/// The listing of an open directory.
pub(super) fn listed(site: &Arc<Site>, source: Source, folder: RelativePath, json: bool) -> Loaded {
    let media = if json {
        Media { name: "application/json", charset: "" }
    } else {
        Media { name: "text/html", charset: "; charset=utf-8" }
    };
    let facts = Facts {
        status: 200,
        length: None,
        tag: None,
        // The directory's date says nothing about the lengths and dates of its files, which the listing shows.
        modified: None,
        media,
        coding: None,
        varies: Vary::Media,
        fields: if json { "" } else { listing::FIELDS },
        cached: Cached::Not,
    };
    let key = make::key_of(if json { make::LIST_JSON } else { make::LIST_HTML }, &source.name);
    if let Some(loaded) = make::kept(site, &key, &source, facts) {
        return loaded;
    }
    let root = site.clone();
    make::made(site, key, source, facts, Vec::new(), move |source, pilot| list(&root, source, &folder, json, pilot))
}

fn list(site: &Site, source: &Source, folder: &RelativePath, json: bool, pilot: &mut Pilot<'_>) -> io::Result<()> {
    let mut entries = Vec::new();
    for found in Dir::read_from(&source.file)? {
        let found = found?;
        let name = found.file_name().to_bytes();
        if !name.starts_with(b".") && entries.len() < MOST {
            entries.extend(look(site, source, name));
        }
    }
    let text = if json { listing::json(&entries) } else { listing::html(folder, &entries) };
    pilot.write_all(text.as_bytes())
}

/// A file or directory with this name. What could not be asked for either is left out.
fn look(site: &Site, source: &Source, name: &[u8]) -> Option<Entry> {
    let mut stat = statat(&source.file, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    if kind(&stat) == FileType::Symlink {
        // Followed only as far as a request would follow it.
        stat = site.root.see(&[&source.name, name].concat()).ok()?;
    }
    let directory = kind(&stat) == FileType::Directory;
    (directory || kind(&stat) == FileType::RegularFile).then(|| Entry {
        name: name.to_vec(),
        directory,
        length: u64::try_from(stat.st_size).unwrap_or(0),
        modified: stat.st_mtime,
    })
}

fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}
