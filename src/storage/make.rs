//! Answers that take work: found in the cache, joined while somebody makes them, or made.

use crate::origin::coding::Coding;
use crate::origin::condition::ETag;
use crate::origin::media::Media;
use crate::origin::path::INDEX;
use crate::origin::store::{Cached, Facts, Vary};
use crate::origin::{RelativePath, StoreError};
use crate::storage::compress::compress;
use crate::storage::flight::{End, Flight, Pilot};
use crate::storage::loaded::{Body, Kept, Loaded, Source, unix_now};
use crate::storage::pool::Kind;
use crate::storage::site::Site;
use rustix::io::{pread, retry_on_intr};
use std::io::{self, Read};
use std::sync::Arc;
use xxhash_rust::xxh3::Xxh3;

/// What is kept besides content codings, as it stands at the start of a key.
pub(super) const HASH: &str = "hash";
pub(super) const LIST_HTML: &str = "list-html";
pub(super) const LIST_JSON: &str = "list-json";

/// The cache's key of what is made of a file or directory. Names have no NUL, but may have anything else.
pub(super) fn key_of(what: &str, name: &[u8]) -> Vec<u8> {
    [what.as_bytes(), b" /", name].concat()
}

/// What is made of which file or directory, by the key.
pub fn kind_and_name(key: &[u8]) -> Option<(&str, &[u8])> {
    let space = memchr::memchr(b' ', key)?;
    let kind = std::str::from_utf8(&key[..space]).ok()?;
    Some((kind, key[space + 1..].strip_prefix(b"/")?))
}

/// The names of all that a path means: a directory's is also that of its index.
pub fn names_of(path: &RelativePath) -> Vec<Vec<u8>> {
    let name = path.as_bytes();
    let index = path.is_directory().then(|| [name, INDEX].concat());
    [name.to_vec()].into_iter().chain(index).collect()
}

/// The keys of all that may be kept of a path.
pub(super) fn keys_of(path: &RelativePath) -> Vec<Vec<u8>> {
    let codings = Coding::ALL.iter().map(|coding| coding.token());
    let kinds: Vec<&str> = codings.chain([HASH, LIST_HTML, LIST_JSON]).collect();
    let names = names_of(path);
    names.iter().flat_map(|name| kinds.iter().map(|what| key_of(what, name))).collect()
}

/// A file in a content coding.
pub(super) fn coded(site: &Arc<Site>, source: Source, coding: Coding) -> Result<Loaded, StoreError> {
    let facts = Facts {
        status: 200,
        length: None,
        tag: None,
        modified: Some(source.stamp.modified.0),
        media: Media::of(&source.name),
        coding: Some(coding),
        varies: Vary::Coding,
        fields: "",
        cached: Cached::Not,
    };
    let key = key_of(coding.token(), &source.name);
    if let Some(loaded) = kept(site, &key, &source, facts) {
        return Ok(loaded);
    }
    // The tag goes out before the last byte is made.
    let hash = site.hash(&source)?.unwrap_or_default();
    let facts = Facts { tag: Some(ETag::of_content(hash, Some(coding))), ..facts };
    let fields = hash.to_le_bytes().to_vec();
    Ok(made(site, key, source, facts, fields, move |source, pilot| {
        let mut reader = Reader::of(source);
        compress(coding, &mut reader, pilot)?;
        // What was read is what the tag says, whatever has become of the file: another one may have taken its name, or it grows.
        if reader.hasher.digest128() == hash { Ok(()) } else { Err(changed()) }
    }))
}

fn changed() -> io::Error {
    io::Error::other("the file changed meanwhile")
}

/// The answer from the cache.
pub(super) fn kept(site: &Site, key: &[u8], source: &Source, facts: Facts) -> Option<Loaded> {
    let cache = site.cache.as_ref()?;
    let epoch = cache.epoch();
    let found = cache.load(key, source.stamp.fingerprint())?;
    let hash = found.object.fields.try_into().ok().map(u128::from_le_bytes);
    let facts = Facts {
        length: Some(found.object.body.len() as u64),
        tag: hash.map(|hash| ETag::of_content(hash, facts.coding)),
        cached: Cached::Hit { age: found.age, left: cache.ttl().saturating_sub(found.age) },
        ..facts
    };
    Some(Loaded {
        facts,
        body: Body::of(&found.object.body),
        guards: Arc::new([source.guard()]),
        kept: Some(Kept { key: key.into(), made: found.object.made, epoch }),
        lasts: !source.stamp.is_fresh(unix_now()),
    })
}

/// The answer that `make` makes, unless somebody makes it already.
pub(super) fn made(
    site: &Arc<Site>,
    key: Vec<u8>,
    source: Source,
    facts: Facts,
    fields: Vec<u8>,
    make: impl FnOnce(&Source, &mut Pilot<'_>) -> io::Result<()> + Send + 'static,
) -> Loaded {
    // Who asks for a file that has changed does not want what is made of the former one.
    let what = [&key[..], b"\0", &source.stamp.fingerprint().to_le_bytes()].concat();
    let (flight, joined) = site.flights.join(&what);
    let guards = Arc::new([source.guard()]);
    if !joined {
        let (site_of_job, flight) = (site.clone(), flight.clone());
        site.run(Kind::Work, move || {
            let end = fly(&site_of_job, &key, &source, fields, &flight, make);
            // First nobody can join any more, then it ends: who comes between finds it in the cache.
            site_of_job.flights.landed(&what);
            flight.finish(end);
        });
    }
    let facts = Facts { cached: Cached::Made { stored: false, joined }, ..facts };
    Loaded { facts, body: Body::Growing(flight), guards, kept: None, lasts: false }
}

fn fly(
    site: &Site,
    key: &[u8],
    source: &Source,
    fields: Vec<u8>,
    flight: &Arc<Flight>,
    make: impl FnOnce(&Source, &mut Pilot<'_>) -> io::Result<()>,
) -> End {
    let mut pilot = Pilot::new(flight);
    // Between a look into the cache and the start of this flight another one may have landed.
    let found = site.cache.as_ref().and_then(|cache| cache.load(key, source.stamp.fingerprint()));
    let done = match &found {
        Some(found) => io::copy(&mut &found.object.body[..], &mut pilot).map(drop),
        None => make(source, &mut pilot),
    };
    match done {
        Ok(()) => {
            pilot.land();
            let stored = found.is_some() || site.keep(key, source, fields, flight.concat());
            End::Whole { stored }
        }
        Err(error) => {
            log::warn!("cannot make {}: {error}", String::from_utf8_lossy(key));
            End::Failed
        }
    }
}

/// A file from its start to where its end was when it was opened.
pub(super) struct Reader<'a> {
    source: &'a Source,
    at: u64,
    /// Has seen what was read.
    pub hasher: Xxh3,
}

impl<'a> Reader<'a> {
    pub fn of(source: &'a Source) -> Reader<'a> {
        Reader { source, at: 0, hasher: Xxh3::new() }
    }
}

impl Read for Reader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = into.len().min((self.source.stamp.length - self.at) as usize);
        let n = retry_on_intr(|| pread(&self.source.file, &mut into[..most], self.at))?;
        self.hasher.update(&into[..n]);
        self.at += n as u64;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::root::Root;
    use crate::storage::{Options, Pool};
    use std::fs;
    use std::sync::mpsc::{Sender, channel};

    struct Ear(Sender<()>);

    impl crate::storage::flight::Listener for Ear {
        fn moved(&self, _flight: &Arc<Flight>) {
            let _ = self.0.send(());
        }

        fn worker(&self) -> usize {
            0
        }
    }

    fn landed(flight: &Arc<Flight>) -> End {
        let (tell, told) = channel();
        flight.listen(Arc::new(Ear(tell)));
        while flight.progress().1 == End::Open {
            told.recv().unwrap();
        }
        flight.progress().1
    }

    #[test]
    fn a_file_is_made_as_it_was_when_it_was_opened_or_not_at_all() {
        let text = b"some text, ".repeat(5_000);
        for (change, whole) in [("grow", true), ("replace", true), ("cut", false), ("overwrite", false)] {
            let folder = tempfile::TempDir::new().unwrap();
            let path = folder.path().join("a.txt");
            fs::write(&path, &text).unwrap();
            let root = Root::open(folder.path()).unwrap();
            let site = Site::of(root, Options::default(), None, Pool::start(1, 1).unwrap());
            let (open, gate) = channel::<()>();
            // Nothing is made before the file has changed, but its tag is there.
            site.run(Kind::Work, move || gate.recv().unwrap());
            let source = site.source(b"a.txt".to_vec()).unwrap().unwrap();
            let loaded = coded(&site, source, Coding::Gzip).unwrap();
            match change {
                "grow" => fs::write(&path, [&text[..], b"more"].concat()).unwrap(),
                "replace" => {
                    fs::write(folder.path().join("b.txt"), "another one").unwrap();
                    fs::rename(folder.path().join("b.txt"), &path).unwrap();
                }
                "cut" => fs::write(&path, &text[..1_000]).unwrap(),
                _ => fs::write(&path, vec![b'x'; text.len()]).unwrap(),
            }
            open.send(()).unwrap();
            let Body::Growing(flight) = &loaded.body else { panic!("it is not made") };
            assert_eq!(landed(flight), if whole { End::Whole { stored: false } } else { End::Failed }, "{change}");
            let mut read = Vec::new();
            let done = flate2::read::GzDecoder::new(&flight.concat()[..]).read_to_end(&mut read);
            assert!(!whole || (done.is_ok() && read == text), "{change}");
        }
    }
}
