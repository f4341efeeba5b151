//! A storage in memory that fails where a test tells it to.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::storage::{Storage, StorageFile};

/// A disk in memory. Clones share it. It is deterministic: every call that changes the disk has a
/// number, from 0, and a [`Fault`] may be set on any of them.
#[derive(Debug, Clone, Default)]
pub struct MemoryStorage {
    disk: Arc<Mutex<Disk>>,
}

/// What goes wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The call fails and changes nothing.
    Fail,
    /// An append writes this many bytes and then fails; any other call just fails.
    Torn(usize),
    /// A sync says that it was done and makes nothing durable; any other call does what it should.
    LostSync,
    /// Like `Torn`, and every later call fails too: the process or the machine is gone.
    Crash(usize),
}

/// An open file of a [`MemoryStorage`].
#[derive(Debug)]
pub struct MemoryFile {
    disk: Arc<Mutex<Disk>>,
    name: String,
}

/// Holds the writer's lock of a [`MemoryStorage`].
#[derive(Debug)]
pub struct MemoryLock(Arc<Mutex<Disk>>);

#[derive(Debug, Default)]
struct Disk {
    files: BTreeMap<String, Content>,
    /// Files whose removal a power cut undoes.
    removed: BTreeMap<String, Content>,
    /// What was in files that are removed: who has one open reads on, as from a real disk.
    unlinked: BTreeMap<String, Content>,
    locked: bool,
    calls: u64,
    faults: BTreeMap<u64, Fault>,
    crashed: bool,
    full: bool,
    stalled: bool,
}

#[derive(Debug, Clone, Default)]
struct Content {
    bytes: Vec<u8>,
    /// How many of the bytes a power cut leaves.
    durable: usize,
    /// Whether a power cut leaves the name.
    named: bool,
}

impl MemoryStorage {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a fault on the call with this number.
    pub fn set_fault(&self, call: u64, fault: Fault) {
        self.disk().faults.insert(call, fault);
    }

    /// While it is full, appends write nothing and fail.
    pub fn set_full(&self, full: bool) {
        self.disk().full = full;
    }

    /// While it is stalled, appends do not return.
    pub fn set_stalled(&self, stalled: bool) {
        self.disk().stalled = stalled;
    }

    /// How many calls have tried to change the disk: creations, appends, syncs, cuts, removals.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.disk().calls
    }

    /// The disk as a new process finds it after this one was killed: every byte that was written.
    #[must_use]
    pub fn after_kill(&self) -> Self {
        let files = self.disk().files.clone();
        Self { disk: Arc::new(Mutex::new(Disk { files, ..Disk::default() })) }
    }

    /// The disk after a power cut: of what was not synced, the first `kept` bytes of each file are
    /// there, and names that were not synced only if `kept` is not zero; if it is, names whose removal
    /// was not synced are there again.
    #[must_use]
    pub fn after_power_cut(&self, kept: usize) -> Self {
        let mut files = self.disk().files.clone();
        files.retain(|_, content| content.named || kept > 0);
        if kept == 0 {
            for (name, content) in &self.disk().removed {
                files.entry(name.clone()).or_insert_with(|| content.clone());
            }
        }
        for content in files.values_mut() {
            content.bytes.truncate(content.durable.saturating_add(kept));
            (content.durable, content.named) = (content.bytes.len(), true);
        }
        Self { disk: Arc::new(Mutex::new(Disk { files, ..Disk::default() })) }
    }

    /// The bytes of a file; empty if there is none.
    #[must_use]
    pub fn bytes(&self, name: &str) -> Vec<u8> {
        self.disk().files.get(name).map(|content| content.bytes.clone()).unwrap_or_default()
    }

    /// Replaces the bytes of a file, durably.
    pub fn set_bytes(&self, name: &str, bytes: Vec<u8>) {
        let content = Content { durable: bytes.len(), bytes, named: true };
        self.disk().files.insert(name.to_owned(), content);
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        lock(&self.disk)
    }
}

fn lock(disk: &Mutex<Disk>) -> MutexGuard<'_, Disk> {
    disk.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Disk {
    /// Counts a call; its fault, as the number of bytes that an append still writes.
    fn call(&mut self) -> Result<(), usize> {
        let fault = self.faults.get(&self.calls).copied();
        self.calls += 1;
        if self.crashed {
            return Err(0);
        }
        match fault {
            None | Some(Fault::LostSync) => Ok(()),
            Some(Fault::Fail) => Err(0),
            Some(Fault::Torn(written)) => Err(written),
            Some(Fault::Crash(written)) => {
                self.crashed = true;
                Err(written)
            }
        }
    }

    /// A call that makes things durable: whether it does.
    fn sync(&mut self) -> io::Result<bool> {
        let lost = self.faults.get(&self.calls) == Some(&Fault::LostSync);
        self.change().map(|()| !lost)
    }

    fn change(&mut self) -> io::Result<()> {
        self.call().map_err(|_| injected())
    }

    fn content(&mut self, name: &str) -> io::Result<&mut Content> {
        self.files.get_mut(name).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// What a file that was opened holds, be it removed since.
    fn opened(&mut self, name: &str) -> io::Result<&Content> {
        let content = self.files.get(name).or_else(|| self.unlinked.get(name));
        content.ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

fn injected() -> io::Error {
    io::Error::other("injected fault")
}

impl Storage for MemoryStorage {
    type File = MemoryFile;
    type Lock = MemoryLock;

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.disk().files.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<MemoryFile> {
        let mut disk = self.disk();
        disk.change()?;
        let content = disk.files.entry(name.to_owned()).or_default();
        if !content.bytes.is_empty() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        drop(disk);
        self.open(name)
    }

    fn open(&self, name: &str) -> io::Result<MemoryFile> {
        self.disk().content(name)?;
        Ok(MemoryFile { disk: Arc::clone(&self.disk), name: name.to_owned() })
    }

    fn open_append(&self, name: &str) -> io::Result<MemoryFile> {
        self.open(name)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut disk = self.disk();
        disk.change()?;
        let content = disk.content(name)?.clone();
        disk.files.remove(name);
        disk.unlinked.insert(name.to_owned(), content.clone());
        if content.named {
            disk.removed.insert(name.to_owned(), content);
        }
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut disk = self.disk();
        if disk.sync()? {
            disk.removed.clear();
            disk.files.values_mut().for_each(|content| content.named = true);
        }
        Ok(())
    }

    fn lock(&self) -> io::Result<Option<MemoryLock>> {
        let mut disk = self.disk();
        let taken = std::mem::replace(&mut disk.locked, true);
        Ok((!taken).then(|| MemoryLock(Arc::clone(&self.disk))))
    }
}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        lock(&self.0).locked = false;
    }
}

impl StorageFile for MemoryFile {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        let mut disk = lock(&self.disk);
        while disk.stalled {
            drop(disk);
            std::thread::sleep(std::time::Duration::from_millis(1));
            disk = lock(&self.disk);
        }
        if disk.full {
            disk.calls += 1;
            return Err(io::ErrorKind::StorageFull.into());
        }
        let outcome = disk.call();
        let written = outcome.err().map_or(bytes.len(), |torn| torn.min(bytes.len()));
        disk.content(&self.name)?.bytes.extend_from_slice(&bytes[..written]);
        outcome.map_err(|_| injected())
    }

    fn sync(&self) -> io::Result<()> {
        let mut disk = lock(&self.disk);
        let done = disk.sync()?;
        let content = disk.content(&self.name)?;
        if done {
            content.durable = content.bytes.len();
        }
        Ok(())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut disk = lock(&self.disk);
        let bytes = &disk.opened(&self.name)?.bytes;
        let rest = usize::try_from(offset).ok().and_then(|at| bytes.get(at..)).unwrap_or(&[]);
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(lock(&self.disk).opened(&self.name)?.bytes.len() as u64)
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        let mut disk = lock(&self.disk);
        disk.change()?;
        let content = disk.content(&self.name)?;
        content.bytes.truncate(usize::try_from(length).unwrap_or(usize::MAX));
        content.durable = content.durable.min(content.bytes.len());
        Ok(())
    }
}
