//! Sealed chunks: some rows of one group as columns, those left out that never had a sample.
//!
//! They live for some hours, until they are in blocks, and are read often: each column lies by itself, behind a table of
//! where each starts, so that reading one reads little else. A checksum goes over 64 columns at a time.
//!
//! ```text
//! sealed chunk:  length of the head u32 LE | crc32 of the head u32 LE | head | columns (see codec.rs)
//! head:   kind 1 | group | first row number | column set | rows, times (see codec.rs)
//!         | columns of the set | how many are here, and if not all: a bit for each
//!         | bytes of the columns | crc32 of each 64 columns, u32 LE | where each column starts, u16 LE; u32 LE past 64 KiB
//! ```

use std::borrow::Cow;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::Arc;

use super::bits::{self, is_set, Ranks};
use super::chunkfile::Mapped;
use super::codec::{self, Decoder, Encoder};
use super::columns::ColumnSet;
use super::packs::join;
use super::varint::{put, Cursor};
use super::{is_absent, Result, StorageError};

/// Columns that have a checksum together.
const CHECKED_COLUMNS: usize = 64;
/// No chunk has more rows; a head that claims more is damaged.
pub const ROWS_LIMIT: usize = 4096;

/// Rows as a chunk: of each column of the set the values of all rows, one column after the other.
pub fn encode(group: u32, first: u64, set: &ColumnSet, times: &[i64], values: &[f64], encoder: &mut Encoder) -> Vec<u8> {
    let mut head = vec![1];
    put(&mut head, u64::from(group));
    put(&mut head, first);
    put(&mut head, u64::from(set.id));
    codec::encode_integers(times, &mut head);
    let (mut body, mut starts, mut crcs) = (Vec::new(), Vec::new(), Vec::new());
    let mut checked = 0;
    let columns: Vec<&[f64]> = values.chunks_exact(times.len()).collect();
    let is_used = |column: &&[f64]| column.iter().any(|v| !is_absent(*v));
    let present: Vec<bool> = columns.iter().map(is_used).collect();
    for column in columns.iter().zip(&present).filter(|c| *c.1).map(|c| c.0) {
        if starts.len() % CHECKED_COLUMNS == 0 && !starts.is_empty() {
            crcs.push(crc32fast::hash(&body[checked..]));
            checked = body.len();
        }
        starts.push(body.len() as u32);
        encoder.encode(column, &mut body);
    }
    if !starts.is_empty() {
        crcs.push(crc32fast::hash(&body[checked..]));
    }
    put(&mut head, columns.len() as u64);
    put(&mut head, starts.len() as u64);
    if starts.len() < columns.len() {
        bits::put(&mut head, present.iter().copied());
    }
    put(&mut head, body.len() as u64);
    crcs.iter().for_each(|crc| head.extend_from_slice(&crc.to_le_bytes()));
    let width = start_bytes(body.len());
    starts.iter().for_each(|start| head.extend_from_slice(&start.to_le_bytes()[..width]));
    join(&head, &body)
}

/// Bytes that say where a column starts.
fn start_bytes(body: usize) -> usize {
    if body <= 1 << 16 {
        2
    } else {
        4
    }
}

/// A sealed chunk, of which little is in memory: the head is read again for each use, the columns stay in the mapped file.
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
    /// Columns that are here.
    count: u32,
    bytes: Mapped,
    /// A bit for each of the first parts of which the checksum was found right: what is mapped does not change.
    checked: AtomicU64,
}

/// Columns that have a checksum together, and where the first of them starts.
type Part<'a> = (Cow<'a, [u8]>, usize);

/// A chunk's head, and how to read what it describes.
pub struct OpenedChunk<'a> {
    pub times: Vec<i64>,
    columns: usize,
    /// How many of them it has, and which; all of them: None.
    pub count: usize,
    present: Option<&'a [u8]>,
    body: Range<usize>,
    crcs: &'a [u8],
    starts: &'a [u8],
    bytes: &'a Mapped,
    checked: Option<&'a AtomicU64>,
}

impl SealedChunk {
    /// Reads and checks the head behind its kind byte; says also where the chunk ends.
    pub fn parse(cursor: &mut Cursor<'_>, head_end: usize, bytes: Mapped) -> Result<SealedChunk> {
        let (group, first, set_id) = (cursor.number()?, cursor.varint()?, cursor.number()?);
        let opened = OpenedChunk::parse(&mut cursor.clone(), head_end, &bytes, &mut Decoder::default(), Vec::new())?;
        if opened.times.is_empty() || opened.times.windows(2).any(|w| w[0] >= w[1]) {
            return Err(damaged("its times do not ascend"));
        }
        let (start, end) = (opened.times[0], opened.times[opened.times.len() - 1]);
        let (rows, count, body_end) = (opened.times.len() as u32, opened.count as u32, opened.body.end);
        let bytes = bytes.trimmed(body_end);
        Ok(SealedChunk {
            group,
            first,
            set_id,
            set: None,
            rows,
            start,
            end,
            head_end: head_end as u32,
            count,
            bytes,
            checked: AtomicU64::new(0),
        })
    }

    pub fn mapped(&self) -> &Mapped {
        &self.bytes
    }

    pub fn open(&self) -> Result<OpenedChunk<'_>> {
        self.open_with(&mut Decoder::default(), Vec::new())
    }

    /// The same with memory for the times that is at hand.
    pub fn open_with(&self, decoder: &mut Decoder, times: Vec<i64>) -> Result<OpenedChunk<'_>> {
        let head = self.bytes.bytes().get(8..self.head_end as usize).unwrap_or(&[]);
        let mut cursor = Cursor::new(head);
        // Kind, group, number and set are known.
        cursor.byte()?;
        for _ in 0..3 {
            cursor.varint()?;
        }
        let opened = OpenedChunk::parse(&mut cursor, self.head_end as usize, &self.bytes, decoder, times)?;
        Ok(OpenedChunk { checked: Some(&self.checked), ..opened })
    }

    /// Touches what reading a column of its set will need: first what says where it is, then the column.
    pub fn touch(&self, column: usize, columns: usize, places: bool) -> u8 {
        let (bytes, body) = (self.bytes.bytes(), self.head_end as usize);
        let byte = |at: usize| *bytes.get(at).unwrap_or(&0);
        let (count, width) = (self.count as usize, start_bytes(bytes.len().saturating_sub(body)));
        // Where some are missing, about there.
        let slot = if count < columns { column * count / columns } else { column };
        let place = (body + slot * width).saturating_sub(count * width);
        if places {
            return byte(8) ^ byte(72) ^ byte(place);
        }
        let start = (0..width).rev().fold(0, |start, i| start << 8 | usize::from(byte(place + i)));
        byte(body + start) ^ byte(body + start + 64)
    }

    /// Whether all columns are whole.
    pub fn verify(&self) -> Result<()> {
        let opened = self.open()?;
        (0..opened.count.div_ceil(CHECKED_COLUMNS)).try_for_each(|part| opened.part(part, Reading::Mapped).map(|_| ()))
    }
}

fn damaged(reason: &str) -> StorageError {
    StorageError::corrupt("a chunk", reason)
}

impl<'a> OpenedChunk<'a> {
    fn parse(
        cursor: &mut Cursor<'a>,
        head_end: usize,
        bytes: &'a Mapped,
        decoder: &mut Decoder,
        mut times: Vec<i64>,
    ) -> Result<OpenedChunk<'a>> {
        decoder.integers(cursor, ROWS_LIMIT, &mut times)?;
        let (columns, count) = (cursor.number()? as usize, cursor.number()? as usize);
        if count > columns {
            return Err(damaged("it has more columns than its set"));
        }
        let present = if count < columns { Some(cursor.take(columns.div_ceil(8))?) } else { None };
        let body = cursor.number()? as usize;
        let crcs = cursor.take(count.div_ceil(CHECKED_COLUMNS) * 4)?;
        let starts = cursor.take(count * start_bytes(body))?;
        Ok(OpenedChunk { times, columns, count, present, body: head_end..head_end + body, crcs, starts, bytes, checked: None })
    }

    /// Where columns of the set, which must ascend, stand among this chunk's: of each that it has its index in the list given,
    /// and its slot.
    pub fn slots(&self, columns: &[u32]) -> Vec<(usize, usize)> {
        let given = columns.iter().map(|c| *c as usize).enumerate().filter(|(_, c)| *c < self.columns);
        match self.present {
            None => given.collect(),
            Some(present) => {
                let mut ranks = Ranks::new(present);
                given.filter(|(_, c)| is_set(present, *c)).map(|(i, c)| (i, ranks.before(c))).collect()
            }
        }
    }

    /// For each column of the set whether the chunk has it.
    pub fn has(&self, column: usize) -> bool {
        column < self.columns && self.present.is_none_or(|present| is_set(present, column))
    }

    /// Where a slot's column starts; behind the last one, where that ends.
    fn start(&self, slot: usize) -> Result<usize> {
        let width = start_bytes(self.body.len());
        let start = match self.starts.get(slot * width..(slot + 1) * width) {
            None => self.body.len(),
            Some(bytes) => bytes.iter().rev().fold(0, |start, byte| start << 8 | usize::from(*byte)),
        };
        if start > self.body.len() {
            return Err(damaged("a column lies outside"));
        }
        Ok(start)
    }

    /// Columns that have a checksum together.
    fn part(&self, part: usize, how: Reading) -> Result<Part<'a>> {
        let (start, end) = (self.start(part * CHECKED_COLUMNS)?, self.start((part + 1) * CHECKED_COLUMNS)?);
        let range = self.body.start + start..self.body.start + end;
        let bytes = match how {
            Reading::Mapped => Cow::Borrowed(self.bytes.bytes().get(range).ok_or_else(|| damaged("a column lies outside"))?),
            Reading::Once => Cow::Owned(self.bytes.copy(range)?),
        };
        // What is copied may have been read from the disk anew.
        let checked = self.checked.filter(|_| part < 64 && matches!(how, Reading::Mapped));
        if checked.is_none_or(|bits| bits.load(Relaxed) >> part & 1 == 0) {
            if self.crcs.get(part * 4..part * 4 + 4) != Some(&crc32fast::hash(&bytes).to_le_bytes()) {
                return Err(damaged("the checksum of its columns is wrong"));
            }
            checked.inspect(|bits| {
                bits.fetch_or(1 << part, Relaxed);
            });
        }
        Ok((bytes, start))
    }

    /// Reads slots, which must ascend, and gives each with its values for all rows. Copies what it reads from the file
    /// when it is read only once: pages that are mapped count as this process's memory until the kernel needs them.
    pub fn read(
        &self,
        slots: impl Iterator<Item = usize>,
        how: Reading,
        decoder: &mut Decoder,
        each: &mut dyn FnMut(usize, &[f64]),
    ) -> Result<()> {
        let mut values = std::mem::take(&mut decoder.column);
        let mut known: Option<(usize, Part<'a>)> = None;
        for (at, slot) in slots.enumerate() {
            let part = slot / CHECKED_COLUMNS;
            let (bytes, start) = match known.take().filter(|k| k.0 == part) {
                Some(same) => same.1,
                None => self.part(part, how)?,
            };
            let column = self.start(slot)?.checked_sub(start).and_then(|at| bytes.get(at..));
            let column = column.ok_or_else(|| damaged("a column lies outside"))?;
            decoder.decode(&mut Cursor::new(column), self.times.len(), &mut values)?;
            each(at, &values);
            known = Some((part, (bytes, start)));
        }
        decoder.column = values;
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
