//! Little-endian numbers and counted bytes.

use crate::Unsound;

/// Takes values from the front of some bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taker<'a>(pub(crate) &'a [u8]);

impl<'a> Taker<'a> {
    pub(crate) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Unsound> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Unsound)?;
        self.0 = rest;
        Ok(taken)
    }

    /// A length of four bytes and that many bytes.
    pub(crate) fn counted(&mut self) -> Result<&'a [u8], Unsound> {
        let length = self.u32()?;
        self.bytes(length as usize)
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, Unsound> {
        std::str::from_utf8(self.counted()?).map_err(|_| Unsound)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Unsound> {
        self.bytes(N)?.try_into().map_err(|_| Unsound)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Unsound> {
        self.array().map(u8::from_le_bytes)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Unsound> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Unsound> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Unsound> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn i64(&mut self) -> Result<i64, Unsound> {
        self.array().map(i64::from_le_bytes)
    }

    pub(crate) fn size(&mut self) -> Result<usize, Unsound> {
        usize::try_from(self.u64()?).map_err(|_| Unsound)
    }
}

/// Appends a length of four bytes and the bytes. What comes from a record fits: a record has at most
/// 16 MiB.
pub(crate) fn put_counted(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).expect("a part of a record is under 16 MiB");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(bytes);
}
