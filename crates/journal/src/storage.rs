//! Where a journal lives: a directory, or memory in tests.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// A flat directory of append-only files, and one lock.
pub trait Storage {
    /// An open file.
    type File: StorageFile;
    /// Holds the lock until it is dropped.
    type Lock;

    /// The names of all files, in any order.
    ///
    /// # Errors
    /// Of the storage.
    fn list(&self) -> io::Result<Vec<String>>;

    /// A new file to append to. One that is there and empty counts as new, so that a creation that
    /// failed half-way can be tried again.
    ///
    /// # Errors
    /// `AlreadyExists` if it has content; others of the storage.
    fn create(&self, name: &str) -> io::Result<Self::File>;

    /// An existing file to read.
    ///
    /// # Errors
    /// Of the storage.
    fn open(&self, name: &str) -> io::Result<Self::File>;

    /// An existing file to read and append to.
    ///
    /// # Errors
    /// Of the storage.
    fn open_append(&self, name: &str) -> io::Result<Self::File>;

    /// Removes a file; one that is open stays readable to whoever has it open.
    ///
    /// # Errors
    /// Of the storage.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes created and removed names durable.
    ///
    /// # Errors
    /// Of the storage; whether names are durable is then unknown.
    fn sync_dir(&self) -> io::Result<()>;

    /// The lock of the one writer; `None` while another holds it.
    ///
    /// # Errors
    /// Of the storage.
    fn lock(&self) -> io::Result<Option<Self::Lock>>;
}

/// A file of a [`Storage`]. Shared by the thread that appends and the thread that syncs.
pub trait StorageFile {
    /// Writes all the bytes at the end.
    ///
    /// # Errors
    /// Of the storage; any part of the bytes may then be at the end.
    fn append(&self, bytes: &[u8]) -> io::Result<()>;

    /// Makes everything appended before this call durable.
    ///
    /// # Errors
    /// Of the storage; bytes not yet durable may then be lost, and a later success means nothing.
    fn sync(&self) -> io::Result<()>;

    /// Reads up to `buffer.len()` bytes from `offset`; 0 at the end.
    ///
    /// # Errors
    /// Of the storage.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Its length in bytes.
    ///
    /// # Errors
    /// Of the storage.
    fn length(&self) -> io::Result<u64>;

    /// Cuts it to this length.
    ///
    /// # Errors
    /// Of the storage.
    fn truncate(&self, length: u64) -> io::Result<()>;
}

/// A directory of the file system: the one place of the journal that touches it.
#[derive(Debug, Clone)]
pub struct DirStorage {
    path: PathBuf,
    may_be_missing: bool,
}

/// Only the owner may enter the directory: a journal says who asked for what.
const DIR_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
const LOCK_FILE: &str = "lock";

impl DirStorage {
    /// A directory to write to; made, with its parents and for its owner only, if it is missing.
    ///
    /// # Errors
    /// Of the file system.
    pub fn create(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        DirBuilder::new().recursive(true).mode(DIR_MODE).create(&path)?;
        Self::open(path)
    }

    /// An existing directory to read.
    ///
    /// # Errors
    /// `NotADirectory`; others of the file system.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        if fs::metadata(&path)?.is_dir() {
            Ok(Self { path, may_be_missing: false })
        } else {
            Err(io::ErrorKind::NotADirectory.into())
        }
    }

    /// A directory that may be missing: it has no files then, and is made with the first of them.
    pub fn later(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), may_be_missing: true }
    }

    fn make(&self) -> io::Result<()> {
        if self.may_be_missing {
            DirBuilder::new().recursive(true).mode(DIR_MODE).create(&self.path)?;
            // The name of the directory is made durable too.
            if let Some(parent) = self.path.parent() {
                File::open(parent)?.sync_all()?;
            }
        }
        Ok(())
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Storage for DirStorage {
    type File = File;
    type Lock = File;

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        let entries = match fs::read_dir(&self.path) {
            Err(error) if self.may_be_missing && error.kind() == io::ErrorKind::NotFound => {
                return Ok(names);
            }
            entries => entries?,
        };
        for entry in entries {
            // A name that is not UTF-8 is none of ours.
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<File> {
        self.make()?;
        let path = self.path.join(name);
        let file = append_options().create(true).mode(FILE_MODE).open(path)?;
        if file.length()? > 0 {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        Ok(file)
    }

    fn open(&self, name: &str) -> io::Result<File> {
        File::open(self.path.join(name))
    }

    fn open_append(&self, name: &str) -> io::Result<File> {
        append_options().open(self.path.join(name))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    fn lock(&self) -> io::Result<Option<File>> {
        self.make()?;
        let path = self.path.join(LOCK_FILE);
        let file = append_options().create(true).mode(FILE_MODE).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

fn append_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).append(true);
    options
}

impl StorageFile for File {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        let mut file = self;
        file.write_all(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match std::os::unix::fs::FileExt::read_at(self, buffer, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }

    fn length(&self) -> io::Result<u64> {
        self.metadata().map(|metadata| metadata.len())
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }
}
