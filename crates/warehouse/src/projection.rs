//! A projection: its layout, and reading it.
//!
//! | bytes | content |
//! |---|---|
//! | 0..8 | `FARTHCOL` |
//! | 8..10 | format, u16 |
//! | 10..12 | zero |
//! | 12..16 | length of the directory, u32 |
//! | 16..20 | CRC-32C of bytes 0..16 and of the directory, u32 |
//! | 20.. | the directory, then the blocks |
//!
//! The directory says which records are covered: writer id and first sequence of the segment, offset
//! of the end in it, sequence of the next record (u64 each), offset (u64) and checksum (u32) of the
//! last one. Then how many rows there are, the admission times of the first and last exchange (i64
//! nanoseconds), how many records were missing in between, how many were of unknown kinds (u64 each),
//! how many blocks there are (u32), and for each block its number (u16), width (u8), zero (u8),
//! CRC-32C (u32), base (i128), count of values, and offset of its bytes behind the directory (u64
//! each). All integers are little-endian.
//!
//! | block | content |
//! |---|---|
//! | 1 | when the exchange was admitted, in nanoseconds since the Unix epoch |
//! | 2 | records of exchanges that are not whole in what is covered, prices, adjustments and gaps |
//! | 3..7 | of attempts that ran on an upstream paid by the hour: row, begin, end, useful tokens |
//! | 16.. | codes of the labels, by dimension ([`labels`](crate::labels)) |
//! | 48.. | dictionaries of the labels |
//! | 256.. | measures ([`flat`](crate::flat)) |
//!
//! A row is an attempt, or an exchange that ended before any. Blocks of bytes are columns of width 1;
//! a block that is not there is all zeros, or no bytes. Blocks may share their bytes.

use std::collections::BTreeMap;

use journal::{Previous, StorageFile, StreamPosition};
use quantity::{UnixTime, WriterId};

use crate::Unsound;
use crate::bytes::Taker;
use crate::column::Column;

/// Raised whenever the same records would be projected to other bytes: by a change of the layout, or
/// of what `facts` takes a measure or a dimension to mean. Projections of another format are made anew;
/// those in the archive cannot be: who raises it makes [`Projection::open_kept`] read the archive's of
/// the formats before, with what they cannot know as unknown.
pub(crate) const FORMAT: u16 = 11;
/// The first format that an archive may have. Later ones keep more kinds of records as they are; no
/// segment was pruned that held records of kinds which its projection did not know. Format 9 has more
/// measures behind the others, of costs that providers told: of those before none was kept. Format 10 has
/// regions and format 11 providers, of which those before know nothing.
const FIRST_KEPT: u16 = 6;

const MAGIC: &[u8; 8] = b"FARTHCOL";
const HEADER: usize = 20;
/// Far more rows than a segment of 64 MiB can hold, and few enough to make room for.
const MOST_ROWS: usize = 1 << 22;
/// Far more than any money, and so little that the sum of all rows fits.
const MOST_BASE: u128 = 1 << 100;

pub(crate) const ADMITTED_AT: u16 = 1;
pub(crate) const LOOSE: u16 = 2;
pub(crate) const BUSY_ROW: u16 = 3;
pub(crate) const BUSY_FROM: u16 = 4;
pub(crate) const BUSY_UNTIL: u16 = 5;
pub(crate) const BUSY_USEFUL: u16 = 6;
pub(crate) const CODES: u16 = 16;
pub(crate) const DICTIONARIES: u16 = 48;
pub(crate) const MEASURES: u16 = 256;

/// What a projection says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    /// Where the records that it covers end.
    pub(crate) position: StreamPosition,
    pub(crate) rows: usize,
    /// Admission of the first and the last exchange in its rows.
    pub(crate) span: (UnixTime, UnixTime),
    /// Records missing between those covered.
    pub(crate) missing: u64,
    /// Records of kinds that this version does not know.
    pub(crate) unknown: u64,
}

#[derive(Debug, Clone, Copy)]
struct Block {
    width: u8,
    checksum: u32,
    base: i128,
    count: usize,
    offset: u64,
}

/// Where the bytes are.
pub(crate) enum Source {
    File(Box<dyn StorageFile + Send + Sync>),
    Memory(Vec<u8>),
}

/// A projection that is open. Its head is sound; each block is checked when it is read.
pub(crate) struct Projection {
    source: Source,
    pub(crate) head: Head,
    blocks: BTreeMap<u16, Block>,
    /// Where the blocks begin.
    data: u64,
}

/// The bytes of a projection.
pub(crate) fn encode(head: &Head, columns: &[(u16, Column)]) -> Vec<u8> {
    let mut data: Vec<u8> = Vec::new();
    let mut blocks: Vec<(u16, &Column, Block)> = Vec::new();
    for (number, column) in columns.iter().filter(|(_, column)| !column.is_zero()) {
        let checksum = crc32c::crc32c(&column.bytes);
        // Most attempts are priced, and at list price: the columns that say so are the same bytes.
        let same = blocks
            .iter()
            .find(|(_, other, block)| block.checksum == checksum && other.bytes == column.bytes);
        let offset = same.map_or(data.len() as u64, |(_, _, block)| block.offset);
        if same.is_none() {
            data.extend_from_slice(&column.bytes);
        }
        let Column { base, width, count, .. } = *column;
        blocks.push((*number, column, Block { width, checksum, base, count, offset }));
    }
    let Head { position, rows, span: (first, last), missing, unknown } = head;
    let previous = position.previous.unwrap_or(Previous { offset: 0, checksum: 0 });
    let mut directory = Vec::new();
    for number in [position.writer.0, position.segment, position.offset, position.next_sequence] {
        directory.extend_from_slice(&number.to_le_bytes());
    }
    directory.extend_from_slice(&previous.offset.to_le_bytes());
    directory.extend_from_slice(&previous.checksum.to_le_bytes());
    directory.extend_from_slice(&(*rows as u64).to_le_bytes());
    directory.extend_from_slice(&first.nanos().to_le_bytes());
    directory.extend_from_slice(&last.nanos().to_le_bytes());
    directory.extend_from_slice(&missing.to_le_bytes());
    directory.extend_from_slice(&unknown.to_le_bytes());
    directory.extend_from_slice(&u32::try_from(blocks.len()).unwrap_or(0).to_le_bytes());
    for (number, _, block) in &blocks {
        directory.extend_from_slice(&number.to_le_bytes());
        directory.extend_from_slice(&[block.width, 0]);
        directory.extend_from_slice(&block.checksum.to_le_bytes());
        directory.extend_from_slice(&block.base.to_le_bytes());
        directory.extend_from_slice(&(block.count as u64).to_le_bytes());
        directory.extend_from_slice(&block.offset.to_le_bytes());
    }
    let mut out = Vec::with_capacity(HEADER + directory.len() + data.len());
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&FORMAT.to_le_bytes());
    out.extend_from_slice(&[0, 0]);
    let length = u32::try_from(directory.len()).expect("a few hundred blocks");
    out.extend_from_slice(&length.to_le_bytes());
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&out), &directory);
    out.extend_from_slice(&checksum.to_le_bytes());
    out.extend_from_slice(&directory);
    out.extend_from_slice(&data);
    out
}

impl Source {
    fn length(&self) -> Result<u64, Unsound> {
        match self {
            Self::File(file) => file.length().map_err(|_| Unsound),
            Self::Memory(bytes) => Ok(bytes.len() as u64),
        }
    }

    /// Reads bytes that must be there; `length` has been compared with that of the source.
    fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>, Unsound> {
        match self {
            Self::Memory(bytes) => {
                let start = usize::try_from(offset).map_err(|_| Unsound)?;
                let end = start.checked_add(length).ok_or(Unsound)?;
                bytes.get(start..end).map(<[u8]>::to_vec).ok_or(Unsound)
            }
            Self::File(file) => {
                let mut bytes = vec![0; length];
                let mut filled = 0;
                while filled < length {
                    match file.read_at(offset + filled as u64, &mut bytes[filled..]) {
                        Ok(0) | Err(_) => return Err(Unsound),
                        Ok(count) => filled += count,
                    }
                }
                Ok(bytes)
            }
        }
    }
}

impl Projection {
    /// Reads the directory of a projection that could be made anew.
    pub(crate) fn open(source: Source) -> Result<Self, Unsound> {
        Self::open_of(source, FORMAT)
    }

    /// Reads the directory of one in the archive, which cannot.
    pub(crate) fn open_kept(source: Source) -> Result<Self, Unsound> {
        Self::open_of(source, FIRST_KEPT)
    }

    fn open_of(source: Source, first: u16) -> Result<Self, Unsound> {
        let whole = source.length()?;
        if whole < HEADER as u64 {
            return Err(Unsound);
        }
        let header = source.read(0, HEADER)?;
        let mut taker = Taker(&header);
        let magic = taker.bytes(MAGIC.len())?;
        let format = taker.u16()?;
        let _zero = taker.u16()?;
        let length = taker.u32()?;
        let checksum = taker.u32()?;
        let data = HEADER as u64 + u64::from(length);
        if magic != MAGIC || !(first..=FORMAT).contains(&format) || data > whole {
            return Err(Unsound);
        }
        let directory = source.read(HEADER as u64, length as usize)?;
        if crc32c::crc32c_append(crc32c::crc32c(&header[..16]), &directory) != checksum {
            return Err(Unsound);
        }
        let mut taker = Taker(&directory);
        let head = head(&mut taker)?;
        if head.rows > MOST_ROWS {
            return Err(Unsound);
        }
        let blocks = blocks(&mut taker, whole - data)?;
        Ok(Self { source, head, blocks, data })
    }

    /// The column with this number.
    pub(crate) fn column(&self, number: u16, count: usize) -> Result<Column, Unsound> {
        let Some(block) = self.blocks.get(&number) else { return Ok(Column::zeros(count)) };
        if block.count != count {
            return Err(Unsound);
        }
        self.read(block)
    }

    /// The bytes of a block of bytes.
    pub(crate) fn bytes(&self, number: u16) -> Result<Vec<u8>, Unsound> {
        let Some(block) = self.blocks.get(&number) else { return Ok(Vec::new()) };
        if (block.width, block.base) == (1, 0) { Ok(self.read(block)?.bytes) } else { Err(Unsound) }
    }

    /// How many values a column has.
    pub(crate) fn count(&self, number: u16) -> usize {
        self.blocks.get(&number).map_or(0, |block| block.count)
    }

    /// Where the bytes of a column are, its base and width: the same for columns that are the same.
    pub(crate) fn identity(&self, number: u16) -> Option<(u64, i128, u8)> {
        self.blocks.get(&number).map(|block| (block.offset, block.base, block.width))
    }

    fn read(&self, block: &Block) -> Result<Column, Unsound> {
        let Block { width, checksum, base, count, offset } = *block;
        let bytes = self.source.read(self.data + offset, count * usize::from(width))?;
        if crc32c::crc32c(&bytes) != checksum {
            return Err(Unsound);
        }
        Ok(Column { base, width, count, bytes })
    }
}

fn head(taker: &mut Taker<'_>) -> Result<Head, Unsound> {
    let (writer, segment) = (WriterId(taker.u64()?), taker.u64()?);
    let (offset, next_sequence) = (taker.u64()?, taker.u64()?);
    let previous = Previous { offset: taker.u64()?, checksum: taker.u32()? };
    // No record begins where a segment does.
    let previous = Some(previous).filter(|previous| previous.offset > 0);
    Ok(Head {
        position: StreamPosition { writer, segment, offset, next_sequence, previous },
        rows: taker.size()?,
        span: (UnixTime::from_nanos(taker.i64()?), UnixTime::from_nanos(taker.i64()?)),
        missing: taker.u64()?,
        unknown: taker.u64()?,
    })
}

fn blocks(taker: &mut Taker<'_>, room: u64) -> Result<BTreeMap<u16, Block>, Unsound> {
    let mut blocks = BTreeMap::new();
    for _ in 0..taker.u32()? {
        let (number, width, _zero) = (taker.u16()?, taker.u8()?, taker.u8()?);
        let checksum = taker.u32()?;
        let base = i128::from_le_bytes(taker.array()?);
        let (count, offset) = (taker.size()?, taker.u64()?);
        let length = (count as u64).checked_mul(u64::from(width)).ok_or(Unsound)?;
        let end = offset.checked_add(length).ok_or(Unsound)?;
        let endless = (width == 0 && count > MOST_ROWS) || base.unsigned_abs() > MOST_BASE;
        if !matches!(width, 0..=8 | 16) || end > room || endless {
            return Err(Unsound);
        }
        blocks.insert(number, Block { width, checksum, base, count, offset });
    }
    if taker.0.is_empty() { Ok(blocks) } else { Err(Unsound) }
}
