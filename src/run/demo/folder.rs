//! A folder that is there for as long as the value is.

use std::fs::{self, DirBuilder};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{self, Path, PathBuf};

/// Names that are tried. One is taken only if somebody guessed it.
const TRIES: u32 = 16;

/// See the module.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
}

impl Folder {
    /// A new folder below `parent`, which others may write to: its name cannot be foreseen, what has that name already (be it a
    /// link) is never used, and nobody else can look into it.
    pub fn below(parent: &Path) -> io::Result<Folder> {
        let parent = path::absolute(parent)?;
        let random = RandomState::new();
        for number in 0..TRIES {
            let path = parent.join(format!("pilb-demo-{:016x}", random.hash_one(number)));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Folder { path }),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(ErrorKind::AlreadyExists.into())
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        match fs::remove_dir_all(&self.path) {
            // Somebody was faster.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => log::warn!("cannot remove {}: {error}", self.path.display()),
            Ok(()) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use tempfile::TempDir;

    #[test]
    fn it_is_new_and_private_and_goes_with_all_that_is_in_it() {
        let parent = TempDir::new().unwrap();
        let (one, other) = (Folder::below(parent.path()).unwrap(), Folder::below(parent.path()).unwrap());
        assert_ne!(one.path(), other.path());
        assert!(one.path().is_absolute() && one.path().starts_with(parent.path()));
        assert_eq!(fs::metadata(one.path()).unwrap().permissions().mode() & 0o777, 0o700);
        fs::create_dir(one.path().join("a")).unwrap();
        fs::write(one.path().join("a/b"), "c").unwrap();
        let gone = one.path().to_owned();
        drop(one);
        assert!(!gone.exists() && other.path().exists());
        fs::remove_dir(other.path()).unwrap();
        drop(other);
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }

    #[test]
    fn without_a_parent_there_is_none() {
        let parent = TempDir::new().unwrap();
        let error = Folder::below(&parent.path().join("missing")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
}
