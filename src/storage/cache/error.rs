//! What can go wrong with a cache's directory, in words for whoever started the program.

use rustix::io::Errno;
use std::path::PathBuf;
use std::{fmt, io};

/// Why a directory is not opened as a cache.
#[derive(Debug)]
pub enum OpenError {
    /// Another process has it.
    InUse { dir: PathBuf, pid: Option<u32> },
    /// It has something in it and was not made by us.
    Foreign { dir: PathBuf },
    /// A call of the system failed.
    Failed { doing: &'static str, path: PathBuf, error: io::Error },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::InUse { dir, pid } => {
                write!(f, "the cache directory {} is in use by ", dir.display())?;
                match pid {
                    Some(pid) => write!(f, "process {pid}")?,
                    None => f.write_str("another process")?,
                }
                f.write_str("; give each server a --cache-dir of its own")
            }
            OpenError::Foreign { dir } => write!(
                f,
                "{} is not empty and no cache directory of pilb-origin; give an empty or a new one as --cache-dir",
                dir.display()
            ),
            OpenError::Failed { doing, path, error } => {
                write!(f, "cannot {doing} {}: {error}", path.display())?;
                match kind(error) {
                    NotStored::Full => f.write_str("; make room, or lower --cache-max-size"),
                    NotStored::ReadOnly => f.write_str("; make it writable, or give another --cache-dir"),
                    _ => Ok(()),
                }
            }
        }
    }
}

impl std::error::Error for OpenError {}

/// Why an answer was not kept.
#[derive(Debug)]
pub enum NotStored {
    /// The disk, or the quota.
    Full,
    ReadOnly,
    /// For a file, or for this cache.
    TooLarge,
    /// Storing pauses after a failure, or the cache is closed.
    Off,
    Failed(io::Error),
}

impl fmt::Display for NotStored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotStored::Full => f.write_str("the disk is full"),
            NotStored::ReadOnly => f.write_str("it cannot be written to"),
            NotStored::TooLarge => f.write_str("the answer is too large"),
            NotStored::Off => f.write_str("storing pauses"),
            NotStored::Failed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for NotStored {}

impl From<io::Error> for NotStored {
    fn from(error: io::Error) -> NotStored {
        match kind(&error) {
            NotStored::Failed(_) => NotStored::Failed(error),
            known => known,
        }
    }
}

impl From<Errno> for NotStored {
    fn from(error: Errno) -> NotStored {
        io::Error::from(error).into()
    }
}

fn kind(error: &io::Error) -> NotStored {
    match Errno::from_io_error(error) {
        Some(Errno::NOSPC | Errno::DQUOT) => NotStored::Full,
        Some(Errno::ROFS | Errno::ACCESS | Errno::PERM) => NotStored::ReadOnly,
        _ => NotStored::Failed(io::ErrorKind::Other.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_what_where_and_what_to_do() {
        let dir = PathBuf::from("/var/cache/x");
        let failed = |errno: Errno| OpenError::Failed { doing: "make", path: dir.clone(), error: errno.into() };
        for (error, text) in [
            (OpenError::InUse { dir: dir.clone(), pid: Some(7) }, "/var/cache/x is in use by process 7; give each"),
            (OpenError::InUse { dir: dir.clone(), pid: None }, "/var/cache/x is in use by another process; give each"),
            (OpenError::Foreign { dir: dir.clone() }, "/var/cache/x is not empty and no cache directory"),
            (failed(Errno::NOSPC), "cannot make /var/cache/x: No space left on device (os error 28); make room"),
            (failed(Errno::ROFS), "cannot make /var/cache/x: Read-only file system (os error 30); make it writable"),
            (failed(Errno::IO), "cannot make /var/cache/x: Input/output error (os error 5)"),
        ] {
            let said = error.to_string();
            assert!(said.contains(text), "{said}");
        }
    }

    #[test]
    fn errors_of_the_system_have_their_meaning() {
        for (errno, meaning) in [
            (Errno::NOSPC, "the disk is full"),
            (Errno::DQUOT, "the disk is full"),
            (Errno::ROFS, "it cannot be written to"),
            (Errno::ACCESS, "it cannot be written to"),
            (Errno::IO, "Input/output error (os error 5)"),
        ] {
            assert_eq!(NotStored::from(errno).to_string(), meaning);
        }
    }
}
