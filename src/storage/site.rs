//! A site: the files below a root, and what is made of them. Shared by all workers; everything here may wait, and runs in the pool.

use crate::origin::coding::{Accept, Coding};
use crate::origin::media::Media;
use crate::origin::store::Facts;
use crate::origin::{RelativePath, StoreError};
use crate::storage::cache::{CacheDir, Object};
use crate::storage::flight::Flights;
use crate::storage::loaded::{Body, Guard, IN_MEMORY, Loaded, Loading, Source, opened, plain, read_whole, unix_now};
use crate::storage::pool::{Kind, Pool};
use crate::storage::root::{Root, Stamp, meaning};
use crate::storage::{folder, make};
use rustix::fs::{FileType, fstat};
use rustix::io::{Errno, ReadWriteFlags, pread, preadv2};
use std::io::{self, IoSliceMut, Read};
use std::path::Path;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_128;

/// A file that is no larger is read in less time than its hash is found in the cache.
const READ_AT_ONCE: u64 = 64 * 1024;
/// Of larger files, those up to this have an entity tag made of their content. It is the limit of what is compressed, too.
const HASHED: u64 = 32 << 20;
/// Compressing less gains nothing: with its head it is one packet anyway.
const WORTH_COMPRESSING: u64 = 256;

/// What a site does besides sending its files.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Compresses what has no compressed file beside it.
    pub compress: bool,
    /// A directory without index.html is listed.
    pub listing: bool,
    /// The page for what is not there.
    pub not_found: Option<RelativePath>,
}

/// See the module.
pub struct Site {
    pub(super) root: Root,
    pub(super) options: Options,
    pub(super) cache: Option<Arc<CacheDir>>,
    pub(super) flights: Flights,
    pub(super) pool: Pool,
}

/// What is wanted of a site.
#[derive(Clone, Debug)]
pub(super) struct Want {
    pub path: RelativePath,
    /// It stands for the directory that it is in.
    pub index: bool,
    pub accept: Accept,
    /// A listing should be JSON.
    pub json: bool,
}

impl Site {
    /// The site below `root`.
    ///
    /// # Errors
    /// `root` is no directory, or it cannot be opened.
    pub fn open(root: &Path, options: Options, cache: Option<Arc<CacheDir>>, pool: Pool) -> io::Result<Arc<Site>> {
        Ok(Site::of(Root::open(root)?, options, cache, pool))
    }

    pub(super) fn of(root: Root, options: Options, cache: Option<Arc<CacheDir>>, pool: Pool) -> Arc<Site> {
        Arc::new(Site { root, options, cache, flights: Flights::default(), pool })
    }

    /// Finds or begins what is wanted.
    pub(super) fn load(self: &Arc<Self>, want: &Want) -> Result<Loading, StoreError> {
        let mut missing = match self.load_file(want.path.as_bytes(), want.accept) {
            Err(StoreError::NotFound) => Guard::absent(want.path.as_bytes()),
            Ok(Loading::Directory) if want.index => return Err(StoreError::NotFound),
            found => return found,
        };
        if want.index && self.options.listing {
            match self.load_listing(want, &missing) {
                // Once there is the folder, it is listed, though there is no index yet.
                Err(StoreError::NotFound) => missing = Guard::absent(want.path.folder().as_bytes()),
                listed => return listed,
            }
        }
        let page = self.options.not_found.as_ref().ok_or(StoreError::NotFound)?;
        match self.load_file(page.as_bytes(), want.accept) {
            Ok(Loading::Loaded(loaded)) => {
                let facts = Facts { status: 404, tag: None, modified: None, ..loaded.facts };
                let guards = loaded.guards.iter().cloned().chain([missing]).collect();
                Ok(Loading::loaded(Loaded { facts, guards, ..Arc::unwrap_or_clone(loaded) }))
            }
            _ => Err(StoreError::NotFound),
        }
    }

    /// The best form of a file: a compressed one beside it, one compressed here, or the file itself.
    fn load_file(self: &Arc<Self>, name: &[u8], accept: Accept) -> Result<Loading, StoreError> {
        let Some(source) = self.source(name.to_vec())? else { return Ok(Loading::Directory) };
        for coding in accept.order() {
            let beside = self.source([name, coding.file_suffix().as_bytes()].concat());
            if let Ok(Some(beside)) = beside
                && beside.stamp.modified >= source.stamp.modified
            {
                return self.load_plain(&beside, Some((coding, &source))).map(Loading::loaded);
            }
        }
        let media = Media::of(name);
        let identity = accept.identity();
        let worth = media.compressible() && source.stamp.length >= WORTH_COMPRESSING;
        match accept.order().next() {
            Some(coding) if self.options.compress && source.stamp.length <= HASHED && (worth || !identity) => {
                make::coded(self, source, coding).map(Loading::loaded)
            }
            _ if identity => self.load_plain(&source, None).map(Loading::loaded),
            _ => Err(StoreError::NotAcceptable),
        }
    }

    /// A file as it is; `coded`: it is a coded form of another file.
    fn load_plain(&self, file: &Source, coded: Option<(Coding, &Source)>) -> Result<Loaded, StoreError> {
        let coding = coded.map(|(coding, _)| coding);
        let (body, hash) = if file.stamp.length <= IN_MEMORY {
            let bytes = read_whole(file.stamp.length, |into, at| pread(&file.file, into, at))?;
            let hash = xxh3_128(&bytes);
            (Body::Memory(bytes.into()), Some(hash))
        } else {
            (Body::file(file.file.clone()), self.hash(file)?)
        };
        Ok(plain(file, coded.map(|(_, source)| source), coding, body, hash))
    }

    /// The hash of a file's content, unless it is too large for that.
    pub(super) fn hash(&self, source: &Source) -> Result<Option<u128>, StoreError> {
        if source.stamp.length > HASHED {
            return Ok(None);
        }
        let key = make::key_of(make::HASH, &source.name);
        let cache = self.cache.as_ref().filter(|_| source.stamp.length > READ_AT_ONCE);
        let kept = cache.and_then(|cache| cache.load(&key, source.stamp.fingerprint()));
        if let Some(hash) = kept.and_then(|kept| kept.object.body.try_into().ok()) {
            return Ok(Some(u128::from_le_bytes(hash)));
        }
        let mut reader = make::Reader::of(source);
        let mut buffer = vec![0; 128 * 1024];
        while reader.read(&mut buffer).map_err(|_| StoreError::Failed)? > 0 {}
        let hash = reader.hasher.digest128();
        if cache.is_some() {
            self.keep(&key, source, Vec::new(), hash.to_le_bytes().to_vec());
        }
        Ok(Some(hash))
    }

    /// Puts what was made of a source into the cache. Not if the source has just changed: the next change might not show. True if it
    /// is there now.
    pub(super) fn keep(&self, key: &[u8], source: &Source, fields: Vec<u8>, body: Vec<u8>) -> bool {
        let Some(cache) = &self.cache else { return false };
        if source.stamp.is_fresh(unix_now()) || !source.is_unchanged() {
            return false;
        }
        let mut object = Object { key: key.to_vec(), source: source.stamp.fingerprint(), made: 0, fields, body };
        cache.store(&mut object).is_ok()
    }

    /// Opens a regular file. `None`: it is a directory.
    pub(super) fn source(&self, name: Vec<u8>) -> Result<Option<Source>, StoreError> {
        let file = self.root.find(&name).map_err(meaning)?;
        opened(name, file)
    }

    fn load_listing(self: &Arc<Self>, want: &Want, no_index: &Guard) -> Result<Loading, StoreError> {
        let folder = want.path.folder();
        let name = folder.as_bytes().to_vec();
        let file = self.root.find(if name.is_empty() { b"." } else { &name }).map_err(meaning)?;
        let stamp = Stamp::of(&fstat(&file).map_err(meaning)?);
        if stamp.kind != FileType::Directory {
            return Err(StoreError::NotFound);
        }
        let source = Source { name, file: Arc::new(file), stamp };
        let mut loaded = folder::listed(self, source, folder, want.json);
        loaded.guards = loaded.guards.iter().chain([no_index]).cloned().collect();
        Ok(Loading::loaded(loaded))
    }

    /// Does a job where waiting does no harm.
    pub(super) fn run(&self, kind: Kind, job: impl FnOnce() + Send + 'static) {
        self.pool.run(kind, job);
    }
}

/// A file as it is, if all that can be said without waiting: it is small and in memory. `None`: ask the pool.
pub(super) fn at_once(root: &Root, name: &[u8]) -> Option<Result<Loading, StoreError>> {
    let file = match root.find_now(name) {
        Ok(file) => file,
        Err(Errno::AGAIN) => return None,
        Err(error) => return Some(Err(meaning(error))),
    };
    let source = match opened(name.to_vec(), file) {
        Ok(Some(source)) => source,
        Ok(None) => return Some(Ok(Loading::Directory)),
        Err(error) => return Some(Err(error)),
    };
    if source.stamp.length > IN_MEMORY {
        return None;
    }
    let now = |into: &mut [u8], at| preadv2(&source.file, &mut [IoSliceMut::new(into)], at, ReadWriteFlags::NOWAIT);
    let bytes = read_whole(source.stamp.length, now).ok()?;
    let hash = xxh3_128(&bytes);
    Some(Ok(Loading::loaded(plain(&source, None, None, Body::Memory(bytes.into()), Some(hash)))))
}
