//! Where lines go: a file, a FIFO, or standard output.

use rustix::fs::OFlags;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The writer's target. Tests have others that fail.
pub trait Sink {
    /// Hands over as many bytes as the target takes at once. `WouldBlock` means "not now"; other errors mean trouble.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Opens the target again by its name, because the old one was renamed. After an error the old one is still in use.
    fn reopen(&mut self) -> io::Result<()>;

    /// The last bytes that the target holds, `most` at most; `None` if it cannot be read back.
    fn tail(&mut self, most: usize) -> Option<Vec<u8>>;
}

/// A file by its path, or standard output.
#[derive(Debug)]
pub struct FileSink {
    file: File,
    path: Option<PathBuf>,
}

impl FileSink {
    /// Opens or creates a file to append to.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(FileSink { file: open(path)?, path: Some(path.to_owned()) })
    }

    /// Standard output, past any buffer. It blocks if it is a pipe that nobody reads.
    pub fn stdout() -> io::Result<Self> {
        let file = io::stdout().as_fd().try_clone_to_owned()?.into();
        Ok(FileSink { file, path: None })
    }
}

impl Sink for FileSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn reopen(&mut self) -> io::Result<()> {
        if let Some(path) = &self.path {
            self.file = open(path)?;
        }
        Ok(())
    }

    fn tail(&mut self, most: usize) -> Option<Vec<u8>> {
        let metadata = self.file.metadata().ok()?;
        if !metadata.is_file() {
            return None;
        }
        let n = metadata.len().min(most as u64);
        let mut tail = vec![0; n as usize];
        self.file.read_exact_at(&mut tail, metadata.len() - n).ok()?;
        Some(tail)
    }
}

/// For reading too: so that the end of the file can be seen, and because a FIFO opened for both neither makes the opening
/// wait for a reader nor breaks when its reader leaves. `NONBLOCK` lets a FIFO that is full say so; it means nothing to a file.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).custom_flags(OFlags::NONBLOCK.bits() as i32);
    match options.clone().read(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => options.open(path),
        opened => opened,
    }
}

/// An error in words, without the number that the standard library adds.
pub fn reason(error: &io::Error) -> String {
    let mut text = error.to_string();
    if let Some(at) = text.find(" (os error ") {
        text.truncate(at);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn appends_and_sees_the_end_of_what_it_appends_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("register.log");
        fs::write(&path, "old").unwrap();
        let mut sink = FileSink::open(&path).unwrap();
        assert_eq!(sink.tail(1).unwrap(), b"d");
        assert_eq!(sink.write(b"new\n").unwrap(), 4);
        assert_eq!((sink.tail(2).unwrap(), sink.tail(99).unwrap()), (b"w\n".to_vec(), b"oldnew\n".to_vec()));
        assert_eq!(fs::read(&path).unwrap(), b"oldnew\n");
        fs::write(&path, "").unwrap();
        assert_eq!(sink.tail(4).unwrap(), b"");
    }

    #[test]
    fn reopening_follows_the_name_and_keeps_the_old_file_if_it_cannot() {
        let folder = tempfile::tempdir().unwrap();
        let (path, old) = (folder.path().join("log/register.log"), folder.path().join("old.log"));
        fs::create_dir(folder.path().join("log")).unwrap();
        let mut sink = FileSink::open(&path).unwrap();
        fs::rename(&path, &old).unwrap();
        fs::remove_dir(folder.path().join("log")).unwrap();
        assert_eq!(sink.reopen().unwrap_err().kind(), io::ErrorKind::NotFound);
        sink.write(b"a\n").unwrap();
        assert_eq!(fs::read(&old).unwrap(), b"a\n");
        fs::create_dir(folder.path().join("log")).unwrap();
        sink.reopen().unwrap();
        sink.write(b"b\n").unwrap();
        assert_eq!((fs::read(&old).unwrap(), fs::read(&path).unwrap()), (b"a\n".to_vec(), b"b\n".to_vec()));
    }

    #[test]
    fn a_fifo_without_a_reader_neither_blocks_nor_breaks() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fifo");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
        let mut sink = FileSink::open(&path).unwrap();
        assert_eq!(sink.tail(1), None);
        let full = (0..).find_map(|_| sink.write(&[b'x'; 4096]).err()).unwrap();
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        sink.reopen().unwrap();
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_device_says_so_in_words() {
        let mut sink = FileSink::open(Path::new("/dev/full")).unwrap();
        assert_eq!(reason(&sink.write(b"x\n").unwrap_err()), "No space left on device");
        assert_eq!(sink.tail(1), None);
    }
}
