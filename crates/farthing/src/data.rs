//! The data directory: the secret for fingerprints, and the journal.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use facts::{Exchange, Gap};
use journal::{Body, DirStorage, Missing, Record};
use ledger::Ledger;
use quantity::{HashKey, Period};
use warehouse::{End, Passed, Pruned, Warehouse, WarehouseError};

/// A data directory. Only its owner may look into it.
#[derive(Debug, Clone)]
pub(crate) struct DataDir(PathBuf);

/// What journal and archive hold.
#[derive(Debug, Default)]
pub(crate) struct Read {
    /// Records in the journal.
    pub(crate) records: u64,
    /// Exchanges that are settled; without those of which the archive keeps sums alone.
    pub(crate) settled: u64,
    /// Records of prices.
    pub(crate) prices: u64,
    /// Adjustments of settled attempts.
    pub(crate) adjustments: u64,
    /// Exchanges that it does not have.
    pub(crate) gaps: Vec<Gap>,
    /// Exchanges that are admitted and not settled.
    pub(crate) ledger: Ledger,
    /// Records of kinds that this version does not know.
    pub(crate) unknown: u64,
    /// Segments that were pruned.
    pub(crate) pruned: Vec<Pruned>,
    /// What is missing, and ends that are no whole record.
    pub(crate) end: End,
}

impl DataDir {
    /// A directory that is there or is made, with mode 0700.
    pub(crate) fn create(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .with_context(|| format!("cannot make the data directory `{shown}`"))?;
        let cannot = || format!("cannot look into the data directory `{shown}`");
        let mode = fs::metadata(path).with_context(cannot)?.mode();
        if mode & 0o077 != 0 {
            bail!(
                "the data directory `{shown}` has mode {:04o}, so that others can look into it; \
                 expected 0700\n\nhint: chmod 700 {shown}",
                mode & 0o777
            );
        }
        Ok(Self(path.to_owned()))
    }

    /// A directory that must be there.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        if !path.join("journal").is_dir() {
            bail!(
                "there is no journal in `{}`\n\nhint: `farthing serve` and `farthing demo` make \
                 one; --data-dir names another directory",
                path.display()
            );
        }
        Ok(Self(path.to_owned()))
    }

    /// The secret for fingerprints, made on first use.
    pub(crate) fn key(&self) -> anyhow::Result<HashKey> {
        let path = self.0.join("fingerprint.key");
        let shown = path.display().to_string();
        let mut key = [0; 32];
        match fs::read(&path) {
            Ok(bytes) => {
                key = bytes.as_slice().try_into().with_context(|| {
                    format!("`{shown}`: expected 32 bytes, found {}", bytes.len())
                })?;
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                getrandom::fill(&mut key).context("the system gives no random numbers")?;
                // Under its name it is whole, even if we are killed here.
                let new = self.0.join("fingerprint.key.new");
                let mut options = OpenOptions::new();
                let options = options.write(true).create(true).truncate(true).mode(0o600);
                let cannot = || format!("cannot make `{shown}`");
                let mut file = options.open(&new).with_context(cannot)?;
                file.write_all(&key).with_context(cannot)?;
                file.sync_all().with_context(cannot)?;
                fs::rename(&new, &path).with_context(cannot)?;
            }
            Err(error) => return Err(error).with_context(|| format!("cannot read `{shown}`")),
        }
        Ok(HashKey::new(key))
    }

    /// The journal's storage, for its writer.
    pub(crate) fn journal_to_write(&self) -> anyhow::Result<DirStorage> {
        let path = self.0.join("journal");
        let shown = path.display().to_string();
        DirStorage::create(path).with_context(|| format!("cannot make `{shown}`"))
    }

    /// The warehouse of journal and archive. Its own folder may be deleted at any time.
    pub(crate) fn warehouse(&self) -> anyhow::Result<Warehouse<DirStorage>> {
        let path = self.0.join("journal");
        let shown = path.display().to_string();
        let storage = DirStorage::open(path).with_context(|| format!("cannot read `{shown}`"))?;
        let archive = DirStorage::later(self.archive());
        Ok(Warehouse::new(self.0.join("warehouse"), storage, archive))
    }

    /// Where what is kept of pruned segments is.
    pub(crate) fn archive(&self) -> PathBuf {
        self.0.join("archive")
    }

    /// Keeps what the journal cannot take any more, for the next gateway to put there.
    pub(crate) fn keep_gap(&self, gap: &Gap) -> anyhow::Result<()> {
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(self.gap_file())?;
        file.write_all(&Record::seal(gap)?)?;
        Ok(file.sync_all()?)
    }

    /// What a gateway kept that could not write to the journal; `None` also if that is not whole.
    pub(crate) fn kept_gap(&self) -> Option<Gap> {
        match Record::unseal(&fs::read(self.gap_file()).ok()?)?.body {
            Body::Gap(gap) => Some(gap),
            _ => None,
        }
    }

    /// What was kept is on the journal.
    pub(crate) fn forget_gap(&self) {
        // One that stays is found on the journal by the next start.
        let _ = fs::remove_file(self.gap_file());
    }

    fn gap_file(&self) -> PathBuf {
        self.0.join("gap.record")
    }

    /// Where records are missing in the middle of the journal.
    pub(crate) fn missing(&self) -> anyhow::Result<Vec<Missing>> {
        let end = self.warehouse()?.each(|_| Ok::<(), WarehouseError>(()))?;
        Ok(end.missing)
    }

    /// An error in the journal's records, with what is missing there, which may well be its cause.
    pub(crate) fn explained(&self, error: anyhow::Error) -> anyhow::Error {
        let missing = self.missing().unwrap_or_default();
        if missing.is_empty() {
            return error;
        }
        let missing: Vec<String> = missing.iter().map(Missing::to_string).collect();
        error.context(format!("records are missing in the journal: {}", missing.join("; ")))
    }

    /// Reads journal and archive through the ledger.
    pub(crate) fn read(&self) -> anyhow::Result<Read> {
        self.read_all().map_err(|error| self.explained(error))
    }

    fn read_all(&self) -> anyhow::Result<Read> {
        let mut read = Read::default();
        read.end = self.warehouse()?.each(|passed| {
            let record = match passed {
                Passed::Pruned(pruned) => {
                    read.pruned.push(*pruned);
                    return anyhow::Ok(());
                }
                Passed::Record(record) => record,
            };
            // What is kept of a pruned segment is none of the journal's.
            let kept = read.pruned.last().is_some_and(|pruned| pruned.holds(record));
            read.records += u64::from(!kept);
            match record.decode()?.body {
                Body::Admitted(admission) => read.ledger.admit(admission)?,
                Body::Dispatched(dispatch) => read.ledger.dispatch(dispatch)?,
                Body::AttemptEnded(end) => read.ledger.end(end)?,
                Body::Settled(settlement) => {
                    read.ledger.settle(settlement)?;
                    read.settled += 1;
                }
                Body::Price(_) => read.prices += 1,
                Body::Adjusted(adjustment) => {
                    read.ledger.adjust(&adjustment)?;
                    read.adjustments += 1;
                }
                Body::Gap(gap) => read.gaps.push(gap),
                Body::Unknown { .. } => read.unknown += 1,
            }
            Ok(())
        })?;
        Ok(read)
    }

    /// Every exchange that was admitted in a period, is settled and counts, in the order in which they settled.
    /// What is left out is told on stderr.
    pub(crate) fn each_exchange(
        &self,
        period: Period,
        mut take: impl FnMut(&Exchange),
    ) -> anyhow::Result<()> {
        let mut ledger = Ledger::default();
        let mut pruned = 0_u64;
        let each = self.warehouse()?.each(|passed| {
            let record = match passed {
                Passed::Record(record) => record,
                Passed::Pruned(_) => {
                    pruned += 1;
                    return anyhow::Ok(());
                }
            };
            match record.decode()?.body {
                Body::Admitted(admission) => ledger.admit(admission)?,
                Body::Dispatched(dispatch) => ledger.dispatch(dispatch)?,
                Body::AttemptEnded(end) => ledger.end(end)?,
                Body::Settled(settlement) => {
                    let exchange = ledger.settle(settlement)?;
                    if period.contains(exchange.admission.at) && exchange.is_counted() {
                        take(&exchange);
                    }
                }
                _ => {}
            }
            Ok(())
        });
        each.map_err(|error| self.explained(error))?;
        if pruned > 0 {
            eprintln!(
                "farthing: {pruned} segments of the journal were pruned; of their exchanges sums are kept, not each \
                 one: they are left out"
            );
        }
        if ledger.open() > 0 {
            eprintln!("farthing: {} exchanges are not settled; they are left out", ledger.open());
        }
        Ok(())
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}
