//! What is kept of pruned segments: their projections, and the manifest that says what was pruned.
//! Unlike all other projections these are the truth, for their segments are gone.
//!
//! The manifest is a text of one line for each pruned segment: writer id, its first sequence and the
//! one after its last, its bytes and their CRC-32C, bytes and CRC-32C of its projection, when it was
//! pruned, and the CRC-32C of the line so far. It only grows. A segment is pruned from the moment on
//! at which its line is whole; until then what is kept of it counts for nothing.

use std::io;

use journal::{RawRecord, Storage, StorageFile};
use quantity::{UnixTime, WriterId};

use crate::projection::{FORMAT, Projection, Source};
use crate::shelf::{EXTENSION, name};
use crate::{Segment, WarehouseError};

const MANIFEST: &str = "manifest";
const TITLE: &str = "farthing archive 1\n";

/// A segment that was pruned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pruned {
    /// The stream it belongs to.
    pub writer: WriterId,
    /// The sequence of its first record.
    pub first_sequence: u64,
    /// The sequence after its last record.
    pub next_sequence: u64,
    /// How many bytes it had.
    pub bytes: u64,
    /// Their CRC-32C.
    pub checksum: u32,
    /// How many bytes are kept of it.
    pub kept_bytes: u64,
    /// Their CRC-32C.
    pub kept_checksum: u32,
    /// When it was pruned.
    pub at: UnixTime,
}

/// The archive's directory, which may be missing until something is pruned.
#[derive(Debug)]
pub(crate) struct Archive<S>(pub(crate) S);

impl Pruned {
    /// How many records it had.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.next_sequence - self.first_sequence
    }

    /// Whether a record is one of them.
    #[must_use]
    pub fn holds(&self, record: &RawRecord<'_>) -> bool {
        let sequences = self.first_sequence..self.next_sequence;
        record.writer == self.writer && sequences.contains(&record.sequence)
    }

    pub(crate) fn segment(&self) -> Segment {
        Segment::sealed(self.writer, self.first_sequence)
    }

    fn line(&self) -> String {
        let Self { writer, first_sequence, next_sequence, bytes, .. } = self;
        let Self { checksum, kept_bytes, kept_checksum, at, .. } = self;
        let line = format!(
            "{:016x} {first_sequence} {next_sequence} {bytes} {checksum:08x} {kept_bytes} \
             {kept_checksum:08x} {at}",
            writer.0
        );
        let sum = crc32c::crc32c(line.as_bytes());
        format!("{line} {sum:08x}\n")
    }

    fn parse(line: &str) -> Option<Self> {
        let (line, sum) = line.strip_suffix('\n')?.rsplit_once(' ')?;
        if sum != format!("{:08x}", crc32c::crc32c(line.as_bytes())) {
            return None;
        }
        let mut words = line.split(' ');
        let mut next = || words.next();
        let hex = |word: &str| u32::from_str_radix(word, 16).ok();
        let pruned = Self {
            writer: WriterId(u64::from_str_radix(next()?, 16).ok()?),
            first_sequence: next()?.parse().ok()?,
            next_sequence: next()?.parse().ok()?,
            bytes: next()?.parse().ok()?,
            checksum: hex(next()?)?,
            kept_bytes: next()?.parse().ok()?,
            kept_checksum: hex(next()?)?,
            at: next()?.parse().ok()?,
        };
        (pruned.first_sequence <= pruned.next_sequence).then_some(pruned)
    }
}

/// What a manifest says, and how many of its bytes are whole lines: what follows is what a crash left
/// of the last append.
fn parse(bytes: &[u8]) -> Result<(Vec<Pruned>, usize), WarehouseError> {
    let (mut pruned, mut sound) = (Vec::new(), 0);
    for (number, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let text = str::from_utf8(line).unwrap_or_default();
        match (number, Pruned::parse(text)) {
            (0, _) if text == TITLE => {}
            (1.., Some(one)) => pruned.push(one),
            _ if line.last() != Some(&b'\n') => break,
            _ => {
                let problem = format!("line {} is not what was written", number + 1);
                return Err(damaged(MANIFEST, problem));
            }
        }
        sound += line.len();
    }
    Ok((pruned, sound))
}

impl<S: Storage<File: Send + Sync + 'static>> Archive<S> {
    /// What was pruned so far, in the order in which it was.
    pub(crate) fn pruned(&self) -> Result<Vec<Pruned>, WarehouseError> {
        Ok(parse(&self.manifest()?)?.0)
    }

    /// What is kept of a segment. Its head is sound and what the manifest promises.
    pub(crate) fn open(&self, pruned: &Pruned) -> Result<Projection, WarehouseError> {
        let name = name(&pruned.segment());
        let file = self.0.open(&name).map_err(|error| damaged(&name, error.to_string()))?;
        let projection = Projection::open_kept(Source::File(Box::new(file))).ok();
        let whole = projection.filter(|projection| {
            let position = &projection.head.position;
            (position.writer, position.segment, position.next_sequence)
                == (pruned.writer, pruned.first_sequence, pruned.next_sequence)
        });
        whole.ok_or_else(|| {
            let expected = "the projection that the manifest names, of format";
            damaged(&name, format!("expected {expected} {FORMAT}, found other bytes"))
        })
    }

    /// Reads all that is kept of a segment, to see that it is what was written.
    pub(crate) fn verify(&self, pruned: &Pruned) -> Result<(), WarehouseError> {
        let name = name(&pruned.segment());
        let bytes = read(&self.0, &name).map_err(|error| damaged(&name, error.to_string()))?;
        let found = (bytes.len() as u64, crc32c::crc32c(&bytes));
        let expected = (pruned.kept_bytes, pruned.kept_checksum);
        if found == expected {
            return Ok(());
        }
        let say = |(bytes, sum): (u64, u32)| format!("{bytes} bytes with checksum {sum:08x}");
        Err(damaged(&name, format!("expected {}, found {}", say(expected), say(found))))
    }

    /// The lock of the one who prunes.
    pub(crate) fn lock(&self) -> Result<S::Lock, WarehouseError> {
        let lock = self.0.lock().map_err(cannot("lock", MANIFEST))?;
        lock.ok_or_else(|| WarehouseError::Refused("another process prunes this journal".into()))
    }

    /// Cuts what a crash left of the manifest's last line, and removes projections that no line names.
    pub(crate) fn tidy(&self, pruned: &[Pruned]) -> Result<(), WarehouseError> {
        let manifest = self.manifest()?;
        let (_, sound) = parse(&manifest)?;
        if sound < manifest.len() {
            let file = self.0.open_append(MANIFEST).map_err(cannot("open", MANIFEST))?;
            file.truncate(sound as u64).map_err(cannot("cut", MANIFEST))?;
        }
        let wanted: Vec<String> = pruned.iter().map(|pruned| name(&pruned.segment())).collect();
        for found in self.0.list().map_err(cannot("list", "archive"))? {
            if found.ends_with(EXTENSION) && !wanted.contains(&found) {
                self.0.remove(&found).map_err(cannot("remove", &found))?;
            }
        }
        Ok(())
    }

    /// Keeps the projection of a segment that is about to be pruned, and reads it back from the disk.
    /// Nothing of the segment may have been kept before: see [`tidy`](Self::tidy).
    pub(crate) fn keep(&self, segment: &Segment, bytes: &[u8]) -> Result<(), WarehouseError> {
        let name = name(segment);
        let file = self.0.create(&name).map_err(cannot("create", &name))?;
        file.append(bytes).map_err(cannot("write", &name))?;
        file.sync().map_err(cannot("sync", &name))?;
        self.0.sync_dir().map_err(cannot("sync", "archive"))?;
        let written = read(&self.0, &name).map_err(cannot("read", &name))?;
        if written == bytes {
            return Ok(());
        }
        Err(damaged(&name, "what was written does not come back".to_owned()))
    }

    /// Notes that a segment is pruned: from here on what was kept of it counts.
    pub(crate) fn note(&self, pruned: &Pruned) -> Result<(), WarehouseError> {
        let cannot = |action| cannot(action, MANIFEST);
        let (file, title) = if self.manifest()?.is_empty() {
            (self.0.create(MANIFEST).map_err(cannot("create"))?, TITLE)
        } else {
            (self.0.open_append(MANIFEST).map_err(cannot("open"))?, "")
        };
        let line = format!("{title}{}", pruned.line());
        file.append(line.as_bytes()).map_err(cannot("append to"))?;
        file.sync().map_err(cannot("sync"))?;
        self.0.sync_dir().map_err(cannot("sync"))
    }

    fn manifest(&self) -> Result<Vec<u8>, WarehouseError> {
        match read(&self.0, MANIFEST) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            read => read.map_err(cannot("read", MANIFEST)),
        }
    }
}

/// The whole content of a file.
pub(crate) fn read<S: Storage>(storage: &S, name: &str) -> io::Result<Vec<u8>> {
    let file = storage.open(name)?;
    let length = usize::try_from(file.length()?).map_err(io::Error::other)?;
    let (mut bytes, mut filled) = (vec![0; length], 0);
    while filled < length {
        match file.read_at(filled as u64, &mut bytes[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

fn damaged(file: &str, problem: String) -> WarehouseError {
    WarehouseError::Archive { file: file.to_owned(), problem }
}

fn cannot(action: &'static str, file: &str) -> impl FnOnce(io::Error) -> WarehouseError {
    let file = file.to_owned();
    move |source| WarehouseError::Storage { action, file, source }
}
