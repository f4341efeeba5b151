//! The directory of projections: the one place of the warehouse that touches the file system.
//!
//! A projection is written under a name of its own, synced, and renamed to the name of its segment.
//! Whoever builds the same one at the same time writes the same bytes; the last rename wins and nobody
//! sees half of one. What a crash leaves is a file of which nobody asks, or none.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use journal::Segment;

use crate::projection::{Projection, Source};

/// Only the owner may look: projections say who asked for what, as the journal does.
const DIR_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
pub(crate) const EXTENSION: &str = ".columns";

/// Tells the temporary files of this process apart.
static TEMPORARY: AtomicU64 = AtomicU64::new(0);

/// A directory of projections, made when the first one is stored.
#[derive(Debug, Clone)]
pub(crate) struct Shelf(pub(crate) PathBuf);

impl Shelf {
    /// The projection of a segment, if there is one and its head is sound.
    pub(crate) fn open(&self, segment: &Segment) -> Option<Projection> {
        let file = File::open(self.0.join(name(segment))).ok()?;
        Projection::open(Source::File(Box::new(file))).ok()
    }

    /// Stores the projection of a segment in place of the one before.
    pub(crate) fn store(&self, segment: &Segment, bytes: &[u8]) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(DIR_MODE).create(&self.0)?;
        let name = name(segment);
        let number = TEMPORARY.fetch_add(1, Relaxed);
        let temporary = self.0.join(format!("{name}.{}-{number}.tmp", std::process::id()));
        let mut options = OpenOptions::new();
        let written = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(FILE_MODE)
            .open(&temporary)
            .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_data()))
            .and_then(|()| fs::rename(&temporary, self.0.join(name)))
            .and_then(|()| File::open(&self.0)?.sync_all());
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    /// Removes what is of no use: projections of segments that are gone, and what crashes left of
    /// those that are stored by now. One that is being written elsewhere may go too; its builder then
    /// fails to rename it, and it is made another time.
    pub(crate) fn tidy(&self, segments: &[Segment]) {
        let Ok(entries) = fs::read_dir(&self.0) else { return };
        let names: BTreeSet<String> =
            entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        let known: BTreeSet<String> = segments.iter().map(name).collect();
        for found in &names {
            let Some((stem, rest)) = found.split_once(EXTENSION) else { continue };
            let wanted = format!("{stem}{EXTENSION}");
            let temporary = rest.ends_with(".tmp") && names.contains(&wanted);
            if !known.contains(&wanted) || temporary {
                let _ = fs::remove_file(self.0.join(found));
            }
        }
    }
}

/// The name of the segment with another extension.
pub(crate) fn name(segment: &Segment) -> String {
    let file = segment.file_name();
    let stem = file.rsplit_once('.').map_or(file.as_str(), |(stem, _)| stem);
    format!("{stem}{EXTENSION}")
}
