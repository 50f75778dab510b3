//! A directory as a store: every name is looked up below its root, and the kernel keeps it there.
//!
//! With `openat2` (Linux 5.6) symbolic links are followed as long as they stay below the root; one that leads out, be
//! it by `..` or by an absolute path, is not found. Without it no symbolic link is followed at all.

use crate::http1::RequestHead;
use crate::origin::{Meta, Opened, RelativePath, Store, StoreError};
use rustix::fd::OwnedFd;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, open, openat, openat2};
use rustix::io::{Errno, pread, retry_on_intr};
use std::io;
use std::path::Path;

/// For reading, without ever waiting: the open of a FIFO would last until somebody writes to it. (Regular files ignore
/// NONBLOCK.)
const READ: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);
/// A directory to look further in.
const LOOK: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS);
/// A lookup that raced with a rename somewhere says EAGAIN, and may be tried again (openat2(2)).
const TRIES: u32 = 8;

/// The files below a directory. Read with blocking calls.
#[derive(Debug)]
pub struct DirStore {
    root: OwnedFd,
    /// The kernel has `openat2`.
    beneath: bool,
}

impl DirStore {
    /// The files below `root`. The directory is held open: it may be renamed, and its place taken, without this store
    /// following.
    ///
    /// # Errors
    /// `root` is no directory, or it cannot be opened.
    pub fn new(root: &Path) -> io::Result<Self> {
        let root = open(root, LOOK, Mode::empty())?;
        // Where the call is unknown or filtered out, ENOSYS or EPERM says so.
        let beneath = openat2(&root, ".", LOOK, Mode::empty(), BENEATH).is_ok();
        Ok(DirStore { root, beneath })
    }

    fn find(&self, path: &RelativePath) -> rustix::io::Result<OwnedFd> {
        if !self.beneath {
            return self.walk(path);
        }
        let mut tries = 0;
        loop {
            tries += 1;
            match openat2(&self.root, path.as_bytes(), READ, Mode::empty(), BENEATH) {
                Err(Errno::INTR | Errno::AGAIN) if tries < TRIES => {}
                found => return found,
            }
        }
    }

    /// From directory to directory, none of which may be a symbolic link.
    fn walk(&self, path: &RelativePath) -> rustix::io::Result<OwnedFd> {
        let mut below: Option<OwnedFd> = None;
        let mut segments = path.segments().peekable();
        while let Some(segment) = segments.next() {
            let flags = if segments.peek().is_some() { LOOK } else { READ } | OFlags::NOFOLLOW;
            let at = below.as_ref().unwrap_or(&self.root);
            below = Some(retry_on_intr(|| openat(at, segment, flags, Mode::empty()))?);
        }
        below.ok_or(Errno::NOENT)
    }
}

impl Store for DirStore {
    type File = OwnedFd;

    fn open(&mut self, path: &RelativePath, _head: &RequestHead<'_, '_>) -> Result<Opened<OwnedFd>, StoreError> {
        let file = self.find(path).map_err(meaning)?;
        let stat = fstat(&file).map_err(meaning)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {}
            FileType::Directory => return Ok(Opened::Directory),
            // FIFOs, devices, sockets: nothing that can be sent as it is.
            _ => return Err(StoreError::NotFound),
        }
        let meta = Meta {
            length: u64::try_from(stat.st_size).unwrap_or(0),
            seconds: stat.st_mtime,
            nanos: stat.st_mtime_nsec as u32,
            inode: stat.st_ino,
        };
        Ok(Opened::File { file, meta })
    }

    fn read(&mut self, file: &mut OwnedFd, offset: u64, into: &mut [u8]) -> Result<usize, StoreError> {
        retry_on_intr(|| pread(&*file, &mut *into, offset)).map_err(meaning)
    }
}

/// What an error of the system means for a client.
fn meaning(error: Errno) -> StoreError {
    match error {
        // XDEV: out of the root. LOOP: too many links, or one where none is followed. NXIO, NODEV: a socket, a device
        // without a driver.
        Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG | Errno::LOOP | Errno::XDEV | Errno::NXIO | Errno::NODEV => {
            StoreError::NotFound
        }
        Errno::ACCESS | Errno::PERM => StoreError::Forbidden,
        Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::AGAIN | Errno::INTR => StoreError::Busy,
        _ => StoreError::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Close;
    use crate::origin::tests::wire::{Answer, Wire};
    use rustix::fs::mknodat;
    use std::fs::{self, OpenOptions, Permissions};
    use std::io::Write;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;
    use tempfile::TempDir;

    /// A folder with a root in it, and something beside the root that must never be seen.
    fn site() -> TempDir {
        let folder = TempDir::new().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("root/sub/deep")).unwrap();
        fs::create_dir_all(at("outside")).unwrap();
        for (name, text) in [
            ("root/index.html", "home"),
            ("root/sub/index.html", "sub"),
            ("root/sub/deep/a.txt", "deep"),
            ("root/.env", "PASSWORD"),
            ("outside/secret", "SECRET"),
        ] {
            fs::write(at(name), text).unwrap();
        }
        folder
    }

    /// A store on the site's root, looking up with `openat2` or by walking.
    fn store(site: &TempDir, beneath: bool) -> DirStore {
        let mut store = DirStore::new(&site.path().join("root")).unwrap();
        store.beneath &= beneath;
        store
    }

    fn ask(site: &TempDir, beneath: bool, path: &str) -> Answer {
        let mut wire = Wire::new(store(site, beneath));
        wire.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes(), usize::MAX);
        wire.answers(&[]).remove(0)
    }

    fn text(answer: &Answer) -> (u16, &str) {
        (answer.status, std::str::from_utf8(&answer.body).unwrap())
    }

    #[test]
    fn files_directories_and_indices() {
        let site = site();
        for beneath in [true, false] {
            for (path, status, body) in [
                ("/", 200, "home"),
                ("/sub/", 200, "sub"),
                ("/sub/deep/a.txt", 200, "deep"),
                ("/sub", 301, ""),
                ("/sub/deep", 301, ""),
                ("/sub/deep/", 404, "404 Not Found\n"),
                ("/nothing", 404, "404 Not Found\n"),
                ("/index.html/", 404, "404 Not Found\n"),
                ("/index.html/x", 404, "404 Not Found\n"),
                ("/.env", 404, "404 Not Found\n"),
                ("/%2eenv", 404, "404 Not Found\n"),
                ("/%2e%2e/outside/secret", 400, "400 Bad Request: bad-request (dot-dot)\n"),
            ] {
                assert_eq!(text(&ask(&site, beneath, path)), (status, body), "{path}");
            }
            let long = format!("/{}", "x".repeat(300));
            assert_eq!(ask(&site, beneath, &long).status, 404);
            assert_eq!(ask(&site, beneath, &"/x".repeat(3_000)).status, 404);
        }
    }

    #[test]
    fn links_stay_below_the_root() {
        let site = site();
        let root = site.path().join("root");
        symlink("../outside/secret", root.join("out")).unwrap();
        symlink(site.path().join("outside/secret"), root.join("absolute")).unwrap();
        symlink("../outside", root.join("dir")).unwrap();
        symlink("../../../../../../../../etc/passwd", root.join("far")).unwrap();
        symlink("/proc/self/root/etc/passwd", root.join("magic")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        symlink("nowhere", root.join("dangling")).unwrap();
        symlink("sub/deep/a.txt", root.join("inside")).unwrap();
        symlink("../index.html", root.join("sub/up")).unwrap();
        for beneath in [true, false] {
            for path in ["/out", "/absolute", "/dir/secret", "/dir", "/far", "/magic", "/loop", "/dangling"] {
                assert_eq!(text(&ask(&site, beneath, path)), (404, "404 Not Found\n"), "{path}");
            }
        }
        for (path, body) in [("/inside", "deep"), ("/sub/up", "home")] {
            assert_eq!(ask(&site, false, path).status, 404, "no link is followed by walking");
            if store(&site, true).beneath {
                assert_eq!(text(&ask(&site, true, path)), (200, body), "{path}");
            }
        }
    }

    #[test]
    fn special_files_are_not_there_and_never_block() {
        let site = site();
        let root = site.path().join("root");
        let dir = open(&root, LOOK, Mode::empty()).unwrap();
        mknodat(&dir, "fifo", FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        let _listener = UnixListener::bind(root.join("socket")).unwrap();
        for beneath in [true, false] {
            for path in ["/fifo", "/socket", "/fifo/"] {
                assert_eq!(ask(&site, beneath, path).status, 404, "{path}");
            }
        }
    }

    #[test]
    fn what_may_not_be_read_is_forbidden() {
        let site = site();
        let file = site.path().join("root/closed");
        fs::write(&file, "x").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o000)).unwrap();
        // To root nothing is closed.
        let status = if fs::File::open(&file).is_ok() { 200 } else { 403 };
        for beneath in [true, false] {
            assert_eq!(ask(&site, beneath, "/closed").status, status);
        }
        assert_eq!(meaning(Errno::ACCESS), StoreError::Forbidden);
        assert_eq!(meaning(Errno::MFILE), StoreError::Busy);
        assert_eq!(meaning(Errno::IO), StoreError::Failed);
    }

    #[test]
    fn names_are_bytes() {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt;
        let site = site();
        fs::write(site.path().join("root").join(OsStr::from_bytes(b"\xff\\ %41")), "odd").unwrap();
        assert_eq!(text(&ask(&site, true, "/%ff\\%20%2541")), (200, "odd"));
    }

    #[test]
    fn a_tag_changes_with_the_file() {
        let site = site();
        let file = site.path().join("root/index.html");
        let tag = || {
            let head = ask(&site, true, "/").head;
            head.lines().find(|line| line.starts_with("ETag: ")).unwrap().to_owned()
        };
        let first = tag();
        assert_eq!(tag(), first);
        fs::write(site.path().join("root/new"), "HOME").unwrap();
        fs::rename(site.path().join("root/new"), &file).unwrap();
        assert_ne!(tag(), first, "another file with the same name and length");
    }

    /// Begins to send a large file, lets `change` have its way with it, and goes on.
    fn change_while_sending(change: impl Fn(&Path)) -> Wire<DirStore> {
        let site = site();
        let file = site.path().join("root/big");
        fs::write(&file, vec![b'x'; 200_000]).unwrap();
        let mut wire = Wire::new(store(&site, true));
        wire.window = 1;
        wire.send(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n", usize::MAX);
        change(&file);
        wire.window = usize::MAX;
        wire.turn(false);
        wire
    }

    #[test]
    fn a_file_that_shrinks_is_cut_and_one_that_grows_or_goes_is_sent_as_it_was_announced() {
        let shrunk = change_while_sending(|file| {
            OpenOptions::new().write(true).open(file).unwrap().set_len(100_000).unwrap();
        });
        assert_eq!(shrunk.close, Some(Close::Reset));
        let grown = change_while_sending(|file| {
            OpenOptions::new().append(true).open(file).unwrap().write_all(b"more").unwrap();
        });
        let gone = change_while_sending(|file| fs::remove_file(file).unwrap());
        for wire in [grown, gone] {
            assert_eq!(wire.close, None);
            assert!(wire.answers(&[])[0].body == [b'x'; 200_000]);
        }
    }

    #[test]
    fn the_root_must_be_a_directory() {
        let site = site();
        assert!(DirStore::new(&site.path().join("root/index.html")).is_err());
        assert!(DirStore::new(&site.path().join("nowhere")).is_err());
    }
}
