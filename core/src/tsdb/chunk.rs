//! Chunks: some rows of one group. Open while rows are added, as a log of records; sealed as columns.
//!
//! An open chunk is short (48 rows), so that it is small and read quickly. Its column set may grow on the way: each
//! record is the difference to its predecessor in the set of its time. Sealing turns it into columns, leaves out those
//! that never had a sample, and compresses them in packs, so that reading one metric inflates little else.
//!
//! ```text
//! sealed chunk:  head | packs
//! head:   length u32 LE | crc32 u32 LE | kind 1 | group | first row number | column set | rows, times (see codec.rs) |
//!         count of columns, each as gap to the one before | count of packs, then of each: length inflated, length, crc32
//! pack:   64 columns (see codec.rs), zstd
//! ```

use std::ops::Range;
use std::sync::Arc;

use super::chunkfile::Mapped;
use super::codec::{self, Decoder, Encoder};
use super::columns::{ColumnSet, MISSING};
use super::row;
use super::varint::{put, Cursor};
use super::{is_absent, Result, StorageError, ABSENT};

pub const PACK_COLUMNS: usize = 64;
/// No chunk has more rows; a head that claims more is damaged.
pub const ROWS_LIMIT: usize = 4096;
const LEVEL: i32 = 3;

/// Rows while they are being added. Cloning is how a reader takes a picture of it.
#[derive(Clone, Default)]
pub struct OpenChunk {
    /// Number of the first row, in the group's count.
    pub first: u64,
    pub times: Vec<i64>,
    /// The set from a row on; a later set holds all columns of those before.
    sets: Vec<(usize, Arc<ColumnSet>)>,
    log: Vec<u8>,
    /// The log segment that holds the first row.
    pub segment: u64,
}

impl OpenChunk {
    /// An empty one, whose first row will have this number.
    pub fn starting_at(first: u64) -> OpenChunk {
        OpenChunk { first, ..OpenChunk::default() }
    }

    pub fn len(&self) -> usize {
        self.times.len()
    }

    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    pub fn set(&self) -> Option<&Arc<ColumnSet>> {
        self.sets.last().map(|s| &s.1)
    }

    pub fn bytes(&self) -> usize {
        self.log.capacity() + self.times.capacity() * 8
    }

    /// Adds a row's record: the difference to the row before it in the same set; of the first of a chunk, a full one.
    pub fn push(&mut self, time: i64, set: &Arc<ColumnSet>, record: &[u8]) {
        if self.set().is_none_or(|s| !Arc::ptr_eq(s, set)) {
            self.sets.push((self.times.len(), set.clone()));
        }
        self.log.extend_from_slice(record);
        self.times.push(time);
    }

    /// The values of some columns of the last set, one after the other, each with a value for every row.
    pub fn read(&self, columns: &[u32]) -> Result<Vec<f64>> {
        let rows = self.len();
        let mut out = vec![ABSENT; columns.len() * rows];
        let Some(last) = self.set() else {
            return Ok(out);
        };
        let mut cursor = Cursor::new(&self.log);
        let mut values: Vec<f64> = Vec::new();
        for (part, (start, set)) in self.sets.iter().enumerate() {
            let end = self.sets.get(part + 1).map_or(rows, |next| next.0);
            values = match part {
                0 => vec![0.0; set.len()],
                _ => widen(&values, &self.sets[part - 1].1, set),
            };
            // Where the wanted columns stand in this part's set.
            let wanted: Vec<u32> = if Arc::ptr_eq(set, last) {
                columns.to_vec()
            } else {
                let mut back = vec![MISSING; last.len()];
                set.positions_in(last)
                    .iter()
                    .enumerate()
                    .filter(|(_, p)| **p != MISSING)
                    .for_each(|(i, p)| back[*p as usize] = i as u32);
                columns.iter().map(|c| back[*c as usize]).collect()
            };
            for at in *start..end {
                row::decode(&mut cursor, &mut values)?;
                for (k, &column) in wanted.iter().enumerate() {
                    if column != MISSING {
                        out[k * rows + at] = values[column as usize];
                    }
                }
            }
        }
        Ok(out)
    }

    /// The chunk as it goes to a file, and the columns that it has.
    pub fn seal(&self, group: u32, encoder: &mut Encoder) -> Result<Vec<u8>> {
        let set = self.set().ok_or_else(|| StorageError::corrupt("an open chunk", "BUG: it is sealed without a row"))?;
        let rows = self.len();
        let all: Vec<u32> = (0..set.len() as u32).collect();
        let values = self.read(&all)?;
        let column = |i: usize| &values[i * rows..(i + 1) * rows];
        let used: Vec<usize> = (0..set.len()).filter(|i| column(*i).iter().any(|v| !is_absent(*v))).collect();
        let mut head = vec![1];
        put(&mut head, u64::from(group));
        put(&mut head, self.first);
        put(&mut head, u64::from(set.id));
        codec::encode_integers(&self.times, &mut head);
        let mut packs = Packs::default();
        let mut last = 0;
        put(&mut head, used.len() as u64);
        for &i in &used {
            put(&mut head, (i - last) as u64);
            last = i;
        }
        for pack in used.chunks(PACK_COLUMNS) {
            packs.raw.clear();
            pack.iter().for_each(|i| encoder.encode(column(*i), &mut packs.raw));
            packs.close()?;
        }
        Ok(packs.finish(head))
    }
}

/// A row in a larger set.
pub fn widen(values: &[f64], from: &ColumnSet, to: &ColumnSet) -> Vec<f64> {
    let mut out = vec![ABSENT; to.len()];
    for (value, at) in values.iter().zip(from.positions_in(to)) {
        if at != MISSING {
            out[at as usize] = *value;
        }
    }
    out
}

/// Compressed packs and their table, for chunks of either kind.
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
        let mut out = Vec::with_capacity(8 + head.len() + self.body.len());
        out.extend_from_slice(&(head.len() as u32).to_le_bytes());
        out.extend_from_slice(&crc32fast::hash(&head).to_le_bytes());
        out.extend_from_slice(&head);
        out.extend_from_slice(&self.body);
        out
    }
}

/// Where one pack lies, relative to the chunk's start.
#[derive(Clone, Copy)]
pub struct Pack {
    pub start: u32,
    pub length: u32,
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

    /// Its bytes, of those of its chunk.
    pub fn mapped<'a>(&self, chunk: &'a Mapped) -> Result<&'a [u8]> {
        let bytes = chunk.bytes().get(self.start as usize..self.end());
        bytes.ok_or_else(|| StorageError::corrupt("a chunk", "a pack lies outside"))
    }

    pub fn copied(&self, chunk: &Mapped) -> Result<Vec<u8>> {
        chunk.copy(self.start as usize..self.end())
    }

    pub fn inflate(&self, packed: &[u8]) -> Result<Vec<u8>> {
        if crc32fast::hash(packed) != self.crc {
            return Err(StorageError::corrupt("a chunk", "the checksum of a pack is wrong"));
        }
        zstd::bulk::decompress(packed, self.inflated as usize).map_err(|e| StorageError::corrupt("a pack", e.to_string()))
    }
}

/// A sealed chunk, of which little is in memory: the head is read again for each use, the packs stay in the mapped file.
pub struct SealedChunk {
    pub group: u32,
    pub first: u64,
    pub set_id: u32,
    /// What the set id means; filled in by whoever reads the file.
    pub set: Option<Arc<ColumnSet>>,
    pub rows: u32,
    pub start: i64,
    pub end: i64,
    head_end: u32,
    bytes: Mapped,
}

/// A chunk's head, and how to read what it describes.
pub struct OpenedChunk<'a> {
    pub times: Vec<i64>,
    /// The columns that it has, as positions in its set. All of them: empty.
    columns: Vec<u32>,
    count: usize,
    packs: Vec<Pack>,
    bytes: &'a Mapped,
}

impl SealedChunk {
    /// Reads and checks the head behind its kind byte; says also where the chunk ends.
    pub fn parse(cursor: &mut Cursor<'_>, head_end: usize, bytes: Mapped) -> Result<SealedChunk> {
        let (group, first, set_id) = (cursor.number()?, cursor.varint()?, cursor.number()?);
        let opened = OpenedChunk::parse(cursor, head_end, &bytes)?;
        if opened.times.is_empty() || opened.times.windows(2).any(|w| w[0] >= w[1]) {
            return Err(StorageError::corrupt("a chunk", "its times do not ascend"));
        }
        if opened.packs.len() != opened.count.div_ceil(PACK_COLUMNS) {
            return Err(StorageError::corrupt("a chunk", "it has too few packs"));
        }
        let (start, end) = (opened.times[0], opened.times[opened.times.len() - 1]);
        let rows = opened.times.len() as u32;
        let bytes = bytes.trimmed(opened.packs.last().map_or(head_end, Pack::end));
        Ok(SealedChunk { group, first, set_id, set: None, rows, start, end, head_end: head_end as u32, bytes })
    }

    pub fn mapped(&self) -> &Mapped {
        &self.bytes
    }

    pub fn open(&self) -> Result<OpenedChunk<'_>> {
        let head = self.bytes.bytes().get(8..self.head_end as usize).unwrap_or(&[]);
        let mut cursor = Cursor::new(head);
        // Kind, group, number and set are known.
        cursor.byte()?;
        for _ in 0..3 {
            cursor.varint()?;
        }
        OpenedChunk::parse(&mut cursor, self.head_end as usize, &self.bytes)
    }

    /// Whether all packs are whole.
    pub fn verify(&self) -> Result<()> {
        let opened = self.open()?;
        opened.packs.iter().try_for_each(|p| p.inflate(p.mapped(&self.bytes)?).map(|_| ()))
    }
}

impl<'a> OpenedChunk<'a> {
    fn parse(cursor: &mut Cursor<'_>, head_end: usize, bytes: &'a Mapped) -> Result<OpenedChunk<'a>> {
        let times = codec::decode_integers(cursor, ROWS_LIMIT)?;
        let count = cursor.count()?;
        let mut columns = Vec::with_capacity(count);
        let mut at = 0u32;
        for _ in 0..count {
            at = at.checked_add(cursor.number()?).ok_or_else(|| StorageError::corrupt("a chunk", "a column lies outside"))?;
            columns.push(at);
        }
        if columns.last().is_some_and(|l| *l as usize + 1 == count) {
            columns = Vec::new();
        }
        Ok(OpenedChunk { times, columns, count, packs: read_packs(cursor, head_end)?, bytes })
    }

    /// Where a column of the set stands among this chunk's.
    pub fn slot(&self, column: u32) -> Option<usize> {
        if self.columns.is_empty() {
            return Some(column as usize).filter(|c| *c < self.count);
        }
        self.columns.binary_search(&column).ok()
    }

    /// Whether it has each column up to its last one.
    pub fn is_full(&self) -> bool {
        self.columns.is_empty()
    }

    pub fn count(&self) -> usize {
        self.count
    }

    /// Reads slots, which must ascend, and gives each with its values for all rows. Copies what it reads from the file
    /// when it is read only once: pages that are mapped count as this process's memory until the kernel needs them.
    pub fn read(&self, slots: &[usize], how: Reading, decoder: &mut Decoder, each: &mut dyn FnMut(usize, &[f64])) -> Result<()> {
        let mut values = Vec::new();
        let mut at = 0;
        while at < slots.len() {
            let pack = slots[at] / PACK_COLUMNS;
            let end = at + slots[at..].partition_point(|s| s / PACK_COLUMNS == pack);
            let inflated = match how {
                Reading::Mapped => self.packs[pack].inflate(self.packs[pack].mapped(self.bytes)?)?,
                Reading::Once => self.packs[pack].inflate(&self.packs[pack].copied(self.bytes)?)?,
            };
            let mut cursor = Cursor::new(&inflated);
            let mut slot = pack * PACK_COLUMNS;
            for (wanted, &target) in slots.iter().enumerate().take(end).skip(at) {
                while slot <= target {
                    decoder.decode(&mut cursor, self.times.len(), &mut values)?;
                    slot += 1;
                }
                each(wanted, &values);
            }
            at = end;
        }
        Ok(())
    }
}

/// How a chunk's bytes are got.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    Mapped,
    Once,
}

/// The indexes of ascending times that lie within the bounds; none when these cross.
pub fn within(times: &[i64], start: i64, end: i64) -> Range<usize> {
    let first = times.partition_point(|t| *t < start);
    first..times.partition_point(|t| *t <= end).max(first)
}
