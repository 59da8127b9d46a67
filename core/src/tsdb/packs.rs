//! Packs: many small things compressed together, each pack with a checksum of its own.
//!
//! ```text
//! table:  count, then of each: length inflated, length, crc32 (4 bytes)
//! ```

use super::chunkfile::Mapped;
use super::varint::{put, Cursor};
use super::{Result, StorageError};

/// Things in a pack.
pub const PACK_ENTRIES: usize = 64;
const LEVEL: i32 = 3;

/// Packs while they are being made, and their table.
#[derive(Default)]
pub struct Packs {
    pub raw: Vec<u8>,
    table: Vec<u8>,
    count: u64,
    body: Vec<u8>,
}

impl Packs {
    /// Compresses what is in `raw` as the next pack.
    pub fn close(&mut self) -> Result<()> {
        let packed = zstd::bulk::compress(&self.raw, LEVEL).map_err(|e| StorageError::corrupt("a pack", e.to_string()))?;
        put(&mut self.table, self.raw.len() as u64);
        put(&mut self.table, packed.len() as u64);
        self.table.extend_from_slice(&crc32fast::hash(&packed).to_le_bytes());
        self.body.extend_from_slice(&packed);
        self.count += 1;
        Ok(())
    }

    /// The whole chunk: its head with the table, its length and checksum before it, the packs behind.
    pub fn finish(self, mut head: Vec<u8>) -> Vec<u8> {
        put(&mut head, self.count);
        head.extend_from_slice(&self.table);
        join(&head, &self.body)
    }
}

/// A chunk of its head and what the head describes: length and checksum of the head stand before it.
pub fn join(head: &[u8], body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(8 + head.len() + body.len());
    out.extend_from_slice(&(head.len() as u32).to_le_bytes());
    out.extend_from_slice(&crc32fast::hash(head).to_le_bytes());
    out.extend_from_slice(head);
    out.extend_from_slice(body);
    out
}

/// Where one pack lies, relative to the chunk's start.
#[derive(Clone, Copy)]
pub struct Pack {
    start: u32,
    length: u32,
    inflated: u32,
    crc: u32,
}

pub fn read_packs(cursor: &mut Cursor<'_>, head_end: usize) -> Result<Vec<Pack>> {
    let mut start = head_end as u32;
    let count = cursor.count()?;
    let mut packs = Vec::with_capacity(count);
    for _ in 0..count {
        let (inflated, length, crc) = (cursor.number()?, cursor.number()?, cursor.u32()?);
        packs.push(Pack { start, length, inflated, crc });
        start = start.checked_add(length).ok_or_else(|| StorageError::corrupt("a chunk", "it is too long"))?;
    }
    Ok(packs)
}

impl Pack {
    pub fn end(&self) -> usize {
        self.start as usize + self.length as usize
    }

    /// Its content, read through the mapping of its chunk.
    pub fn inflate(&self, chunk: &Mapped) -> Result<Vec<u8>> {
        let packed = chunk.bytes().get(self.start as usize..self.end());
        let packed = packed.ok_or_else(|| StorageError::corrupt("a chunk", "a pack lies outside"))?;
        if crc32fast::hash(packed) != self.crc {
            return Err(StorageError::corrupt("a chunk", "the checksum of a pack is wrong"));
        }
        zstd::bulk::decompress(packed, self.inflated as usize).map_err(|e| StorageError::corrupt("a pack", e.to_string()))
    }
}
