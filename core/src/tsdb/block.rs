//! Blocks: all samples of a span of time in one file that never changes, regrouped by metric.
//!
//! Chunks come as scrapes do, target by target. A block turns that round: all columns of one metric over all targets lie
//! side by side, so that a query reads what it asks for and little else. A block says itself what its series are; it
//! needs no catalog, and can be copied, linked and deleted as a whole. Its index is read when a query first needs it.
//!
//! ```text
//! file:     header (see frame.rs) | packs | index, zstd | tail
//! pack:     lengths of its columns, varints | the columns (see codec.rs); zstd over both
//! columns:  of rows:   by metric, then group, then column, then run
//!           of series: one for each entry: times, then values; series of numbers first, then those of histograms
//! tail:     start, end, from, to, samples, chunk files, sources | offset, length, length inflated, crc32 of the index
//!           | length of the above u32 LE | crc32 of the above u32 LE | "BBUOYEND"
//! ```
//! `start` and `end` bound the span that the block answers for, `from` and `to` the samples that it has.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::Arc;

use memmap2::Mmap;
use parking_lot::Mutex;

use super::codec;
use super::columns::Column;
use super::disk;
use super::frame::{check_header, BLOCK, HEADER_BYTES, HISTOGRAMS};
use super::texts::Texts;
use super::varint::{put, put_signed, Cursor};
use super::{Result, StorageError};
use crate::labels::{Labels, Str, Strings, NAME};

const END_MARK: &[u8; 8] = b"BBUOYEND";
const END_BYTES: usize = 16;
/// No run has more rows; an index that claims more is damaged.
pub const RUN_ROWS_LIMIT: usize = 4096;
/// An index that claims to be longer is damage.
const INDEX_LIMIT: usize = 4 << 30;

/// What is known of a block without its index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// The span that the block answers for: start <= t < end.
    pub start: i64,
    pub end: i64,
    /// The times of its first and last sample.
    pub from: i64,
    pub to: i64,
    pub samples: u64,
    /// All chunk files up to this number are in this block or those before it, as far as they lie before its end.
    pub chunk_files: u64,
    /// Numbers of the blocks that this one replaces.
    pub sources: Vec<u64>,
}

/// Rows of a group that were encoded together.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    pub times: Vec<i64>,
}

/// A group's part of a block.
#[derive(Clone, Debug)]
pub struct BlockGroup {
    pub pool: Str,
    pub labels: Labels,
    pub set: u32,
    pub runs: Vec<Run>,
}

/// Samples of a series that does not come in rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Entry {
    pub count: u32,
    pub start: i64,
    pub end: i64,
}

#[derive(Clone, Debug)]
pub struct BlockSeries {
    pub labels: Labels,
    pub entries: Vec<Entry>,
}

impl BlockSeries {
    pub fn name(&self) -> &str {
        self.labels.get(NAME).unwrap_or("")
    }
}

/// Columns that are compressed together.
#[derive(Clone, Copy, Debug)]
pub struct Pack {
    pub offset: u64,
    pub length: u32,
    pub inflated: u32,
    pub crc: u32,
    /// The number of its first column, in the block's order.
    pub first: u64,
    pub columns: u32,
}

/// What a block's packs mean.
#[derive(Default)]
pub struct Index {
    /// Sorted, each once.
    pub columns: Vec<Arc<Column>>,
    /// For each metric: its columns, and the number of the first thing of it in the packs.
    pub metrics: Vec<(Range<u32>, u64)>,
    /// Sets as ascending positions in `columns`.
    pub sets: Vec<Arc<[u32]>>,
    pub groups: Vec<BlockGroup>,
    pub series: Vec<BlockSeries>,
    /// The number of the first series' first entry in the packs.
    pub series_first: u64,
    /// Series whose samples are histograms; in files that say so.
    pub histograms: Vec<BlockSeries>,
    /// The number of their first entry in the packs.
    pub histograms_first: u64,
    pub packs: Vec<Pack>,
}

impl Index {
    /// The metrics (as indexes into `metrics`) that a name, or any, can mean.
    pub fn of_metric(&self, name: Option<&str>) -> Range<usize> {
        let Some(name) = name else { return 0..self.metrics.len() };
        let name_of = |m: &(Range<u32>, u64)| self.columns[m.0.start as usize].name();
        let at = self.metrics.partition_point(|m| name_of(m) < name);
        at..at + usize::from(self.metrics.get(at).is_some_and(|m| name_of(m) == name))
    }

    /// The number in the packs of each group's first column of a metric, given where its columns stand in each set.
    pub fn bases(&self, metric: usize, places: &[Range<usize>]) -> Vec<u64> {
        let mut at = self.metrics[metric].1;
        let count = |group: &BlockGroup| (places[group.set as usize].len() * group.runs.len()) as u64;
        let counted = self.groups.iter().map(|g| {
            at += count(g);
            at - count(g)
        });
        counted.collect()
    }

    /// Where a metric's columns stand in each set.
    pub fn places(&self, metric: usize) -> Vec<Range<usize>> {
        self.sets.iter().map(|set| Index::in_set(set, &self.metrics[metric].0)).collect()
    }

    /// The number in the packs of each series' first entry.
    pub fn series_bases(&self) -> Vec<u64> {
        entry_bases(&self.series, self.series_first)
    }

    /// The same of series of histograms.
    pub fn histogram_bases(&self) -> Vec<u64> {
        entry_bases(&self.histograms, self.histograms_first)
    }

    /// The series of one metric, or all.
    pub fn series_of(&self, name: Option<&str>) -> Range<usize> {
        of_name(&self.series, name)
    }

    /// The same of series of histograms.
    pub fn histograms_of(&self, name: Option<&str>) -> Range<usize> {
        of_name(&self.histograms, name)
    }

    /// Where a metric's columns stand in a set.
    pub fn in_set(set: &[u32], columns: &Range<u32>) -> Range<usize> {
        set.partition_point(|c| *c < columns.start)..set.partition_point(|c| *c < columns.end)
    }

    pub fn bytes(&self) -> usize {
        let rows: usize = self.groups.iter().flat_map(|g| &g.runs).map(|r| r.times.len() * 8 + 24).sum();
        let sets: usize = self.sets.iter().map(|s| s.len() * 4 + 16).sum();
        self.columns.len() * 120 + rows + sets + self.packs.len() * 32 + (self.series.len() + self.histograms.len()) * 160
    }

    pub fn encode(&self, histograms: bool) -> Vec<u8> {
        let mut texts = Texts::default();
        let mut out = Vec::new();
        put(&mut out, self.columns.len() as u64);
        for column in &self.columns {
            texts.labels(&mut out, &column.own);
            put(&mut out, column.dropped.len() as u64);
            column.dropped.iter().for_each(|n| texts.text(&mut out, n));
        }
        put(&mut out, self.metrics.len() as u64);
        let mut before = 0;
        for (columns, first) in &self.metrics {
            put(&mut out, u64::from(columns.end - columns.start));
            put(&mut out, first - before);
            before = *first;
        }
        put(&mut out, self.sets.len() as u64);
        for set in &self.sets {
            put_ascending(&mut out, set);
        }
        put(&mut out, self.groups.len() as u64);
        for group in &self.groups {
            texts.text(&mut out, &group.pool);
            texts.labels(&mut out, &group.labels);
            put(&mut out, u64::from(group.set));
            put(&mut out, group.runs.len() as u64);
            group.runs.iter().for_each(|run| codec::encode_integers(&run.times, &mut out));
        }
        put_series(&mut out, &mut texts, self.series_first, &self.series);
        if histograms {
            put_series(&mut out, &mut texts, self.histograms_first, &self.histograms);
        }
        put(&mut out, self.packs.len() as u64);
        for pack in &self.packs {
            put(&mut out, u64::from(pack.length));
            put(&mut out, u64::from(pack.inflated));
            put(&mut out, u64::from(pack.columns));
            out.extend_from_slice(&pack.crc.to_le_bytes());
        }
        texts.payload(&out)
    }

    fn decode(bytes: &[u8], histograms: bool) -> Result<Index> {
        let mut cursor = Cursor::new(bytes);
        let texts = Texts::read(&mut cursor, &mut Strings::default())?;
        let mut index = Index::default();
        for _ in 0..cursor.count()? {
            let own = texts.read_labels(&mut cursor)?;
            let dropped: Result<Vec<Str>> = (0..cursor.count()?).map(|_| texts.read_text(&mut cursor)).collect();
            index.columns.push(Arc::new(Column { own, dropped: dropped?.into() }));
        }
        let (mut column, mut first) = (0u32, 0u64);
        for _ in 0..cursor.count()? {
            let count = cursor.number()?;
            first = first.saturating_add(cursor.varint()?);
            let end = column.checked_add(count).filter(|e| count > 0 && *e as usize <= index.columns.len());
            let end = end.ok_or_else(|| damaged("a metric has no or too many columns"))?;
            index.metrics.push((column..end, first));
            column = end;
        }
        for _ in 0..cursor.count()? {
            let set = read_ascending(&mut cursor)?;
            if set.last().is_some_and(|l| *l as usize >= index.columns.len()) {
                return Err(damaged("a column set has a column that there is not"));
            }
            index.sets.push(set.into());
        }
        for _ in 0..cursor.count()? {
            let pool = texts.read_text(&mut cursor)?;
            let labels = texts.read_labels(&mut cursor)?;
            let set = cursor.number()?;
            if set as usize >= index.sets.len() {
                return Err(damaged("a group has a column set that there is not"));
            }
            let runs: Result<Vec<Run>> =
                (0..cursor.count()?).map(|_| Ok(Run { times: codec::decode_integers(&mut cursor, RUN_ROWS_LIMIT)? })).collect();
            let runs = runs?;
            if runs.iter().any(|r| r.times.is_empty() || r.times.windows(2).any(|w| w[0] >= w[1])) {
                return Err(damaged("a group's times do not ascend"));
            }
            index.groups.push(BlockGroup { pool, labels, set, runs });
        }
        (index.series_first, index.series) = read_series(&mut cursor, &texts)?;
        if histograms {
            (index.histograms_first, index.histograms) = read_series(&mut cursor, &texts)?;
        }
        let (mut offset, mut first) = (HEADER_BYTES as u64, 0u64);
        for _ in 0..cursor.count()? {
            let (length, inflated, columns, crc) = (cursor.number()?, cursor.number()?, cursor.number()?, cursor.u32()?);
            index.packs.push(Pack { offset, length, inflated, crc, first, columns });
            offset += u64::from(length);
            first += u64::from(columns);
        }
        Ok(index)
    }
}

fn damaged(reason: &str) -> StorageError {
    StorageError::corrupt("a block's index", reason)
}

fn entry_bases(series: &[BlockSeries], first: u64) -> Vec<u64> {
    let mut at = first;
    let counted = series.iter().map(|s| {
        at += s.entries.len() as u64;
        at - s.entries.len() as u64
    });
    counted.collect()
}

fn of_name(series: &[BlockSeries], name: Option<&str>) -> Range<usize> {
    let Some(name) = name else { return 0..series.len() };
    let start = series.partition_point(|s| s.name() < name);
    start..start + series[start..].partition_point(|s| s.name() == name)
}

fn put_series(out: &mut Vec<u8>, texts: &mut Texts, first: u64, all: &[BlockSeries]) {
    put(out, first);
    put(out, all.len() as u64);
    for series in all {
        texts.labels(out, &series.labels);
        put(out, series.entries.len() as u64);
        for entry in &series.entries {
            put(out, u64::from(entry.count));
            put_signed(out, entry.start);
            put(out, entry.end.wrapping_sub(entry.start) as u64);
        }
    }
}

fn read_series(cursor: &mut Cursor<'_>, texts: &Texts) -> Result<(u64, Vec<BlockSeries>)> {
    let first = cursor.varint()?;
    let mut all = Vec::new();
    for _ in 0..cursor.count()? {
        let labels = texts.read_labels(cursor)?;
        let entries: Result<Vec<Entry>> = (0..cursor.count()?)
            .map(|_| {
                let (count, start) = (cursor.number()?, cursor.signed()?);
                Ok(Entry { count, start, end: start.wrapping_add(cursor.varint()? as i64) })
            })
            .collect();
        all.push(BlockSeries { labels, entries: entries? });
    }
    Ok((first, all))
}

fn put_ascending(out: &mut Vec<u8>, numbers: &[u32]) {
    put(out, numbers.len() as u64);
    let mut before = 0;
    for n in numbers {
        put(out, u64::from(n - before));
        before = *n;
    }
}

fn read_ascending(cursor: &mut Cursor<'_>) -> Result<Vec<u32>> {
    let mut at = 0u32;
    let mut out = Vec::new();
    for i in 0..cursor.count()? {
        let gap = cursor.number()?;
        at = at.checked_add(gap).filter(|_| i == 0 || gap > 0).ok_or_else(|| damaged("positions do not ascend"))?;
        out.push(at);
    }
    Ok(out)
}

/// Where the index lies, from the tail.
#[derive(Clone, Copy)]
pub struct IndexPlace {
    pub offset: u64,
    pub length: u64,
    pub inflated: u64,
    pub crc: u32,
}

pub fn encode_tail(span: &Span, place: &IndexPlace) -> Vec<u8> {
    let mut out = Vec::new();
    [span.start, span.end, span.from, span.to].iter().for_each(|t| put_signed(&mut out, *t));
    [span.samples, span.chunk_files, span.sources.len() as u64].iter().for_each(|n| put(&mut out, *n));
    span.sources.iter().for_each(|n| put(&mut out, *n));
    [place.offset, place.length, place.inflated].iter().for_each(|n| put(&mut out, *n));
    out.extend_from_slice(&place.crc.to_le_bytes());
    let (length, crc) = (out.len() as u32, crc32fast::hash(&out));
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(END_MARK);
    out
}

fn decode_tail(bytes: &[u8]) -> Result<(Span, IndexPlace)> {
    let cut = || damaged("its tail is damaged or cut off");
    let end = bytes.len().checked_sub(END_BYTES).ok_or_else(cut)?;
    let mut cursor = Cursor::new(&bytes[end..]);
    let (length, crc) = (cursor.u32()? as usize, cursor.u32()?);
    let tail = end.checked_sub(length).map(|start| &bytes[start..end]).ok_or_else(cut)?;
    if &bytes[end + 8..] != END_MARK || crc32fast::hash(tail) != crc {
        return Err(cut());
    }
    let mut cursor = Cursor::new(tail);
    let mut span = Span {
        start: cursor.signed()?,
        end: cursor.signed()?,
        from: cursor.signed()?,
        to: cursor.signed()?,
        samples: cursor.varint()?,
        chunk_files: cursor.varint()?,
        sources: Vec::new(),
    };
    for _ in 0..cursor.count()? {
        span.sources.push(cursor.varint()?);
    }
    let place = IndexPlace { offset: cursor.varint()?, length: cursor.varint()?, inflated: cursor.varint()?, crc: cursor.u32()? };
    Ok((span, place))
}

/// A block that is there to be read.
pub struct Block {
    pub number: u64,
    pub span: Span,
    path: PathBuf,
    map: Mmap,
    place: IndexPlace,
    /// Some of its samples are histograms.
    histograms: bool,
    index: Mutex<Option<Arc<Index>>>,
    /// When the index was last asked for, by the storage's clock.
    asked: AtomicI64,
}

impl Block {
    pub fn open(number: u64, path: &Path) -> Result<Block> {
        let file = File::open(path).map_err(|e| StorageError::file("open", path, &e))?;
        // SAFETY: the folder is locked against other processes, and a block is never written to.
        let map = unsafe { Mmap::map(&file) }.map_err(|e| StorageError::file("map", path, &e))?;
        let histograms = check_header(BLOCK, &map, path)? & HISTOGRAMS != 0;
        let named = |e: StorageError| StorageError::corrupt(format!("block {}", path.display()), e.to_string());
        let (span, place) = decode_tail(&map).map_err(named)?;
        let (path, asked) = (path.to_owned(), AtomicI64::new(i64::MIN));
        let block = Block { number, span, path, map, place, histograms, index: Mutex::default(), asked };
        let index = block.index_bytes().map_err(named)?;
        if crc32fast::hash(index) != place.crc || place.inflated as usize > INDEX_LIMIT {
            return Err(named(damaged("its checksum is wrong")));
        }
        Ok(block)
    }

    fn index_bytes(&self) -> Result<&[u8]> {
        let end = self.place.offset.checked_add(self.place.length);
        let range = end.map(|end| self.place.offset as usize..end as usize);
        range.and_then(|r| self.map.get(r)).ok_or_else(|| damaged("it lies outside of the file"))
    }

    fn named(&self, error: &StorageError) -> StorageError {
        StorageError::corrupt(
            format!("block {}", self.path.display()),
            format!("{error}; move the file away to go on without it"),
        )
    }

    pub fn bytes(&self) -> u64 {
        self.map.len() as u64
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of the file that are index.
    pub fn index_size(&self) -> u64 {
        self.place.length
    }

    /// Deletes the file. Whoever reads the block still can.
    pub fn delete(&self) -> Result<()> {
        disk::remove(&self.path)
    }

    /// The index, read now if nobody has asked for it lately.
    pub fn index(&self, now: i64) -> Result<Arc<Index>> {
        self.asked.store(now, Relaxed);
        let mut known = self.index.lock();
        if let Some(index) = &*known {
            return Ok(index.clone());
        }
        let read = || {
            let raw = zstd::bulk::decompress(self.index_bytes()?, self.place.inflated as usize);
            Index::decode(&raw.map_err(|e| damaged(&e.to_string()))?, self.histograms)
        };
        let index = Arc::new(read().map_err(|e| self.named(&e))?);
        *known = Some(index.clone());
        Ok(index)
    }

    /// Forgets the index when nobody has asked for it since.
    pub fn cool(&self, before: i64) {
        if self.asked.load(Relaxed) < before {
            self.index.lock().take();
        }
    }

    /// A pack as it was before compression.
    pub fn pack(&self, pack: &Pack) -> Result<Vec<u8>> {
        let range = pack.offset as usize..(pack.offset + u64::from(pack.length)) as usize;
        let inflate = || {
            let packed = self.map.get(range).ok_or_else(|| damaged("a pack lies outside of the file"))?;
            if crc32fast::hash(packed) != pack.crc {
                return Err(damaged("the checksum of a pack is wrong"));
            }
            zstd::bulk::decompress(packed, pack.inflated as usize).map_err(|e| damaged(&e.to_string()))
        };
        inflate().map_err(|e| self.named(&e))
    }

    /// Whether all packs are whole.
    pub fn verify(&self, now: i64) -> Result<()> {
        self.index(now)?.packs.iter().try_for_each(|p| self.pack(p).map(|_| ()))
    }
}

/// Reads columns of a block by number. Ascending numbers inflate each pack once.
pub struct PackReader<'a> {
    block: &'a Block,
    index: &'a Index,
    /// The pack that is inflated, and where its columns lie in it.
    current: usize,
    bytes: Vec<u8>,
    starts: Vec<u32>,
}

impl<'a> PackReader<'a> {
    pub fn new(block: &'a Block, index: &'a Index) -> PackReader<'a> {
        PackReader { block, index, current: usize::MAX, bytes: Vec::new(), starts: Vec::new() }
    }

    /// The encoded column with this number.
    pub fn column(&mut self, number: u64) -> Result<&[u8]> {
        let packs = &self.index.packs;
        let at = packs.partition_point(|p| p.first <= number).wrapping_sub(1);
        let pack = packs.get(at).filter(|p| number - p.first < u64::from(p.columns));
        let pack = pack.ok_or_else(|| self.block.named(&damaged("a column is in no pack")))?;
        if self.current != at {
            self.bytes = self.block.pack(pack)?;
            self.starts = column_starts(&self.bytes, pack.columns as usize).map_err(|e| self.block.named(&e))?;
            self.current = at;
        }
        let slot = (number - pack.first) as usize;
        Ok(&self.bytes[self.starts[slot] as usize..self.starts[slot + 1] as usize])
    }
}

/// Where each column of an inflated pack starts, and the last one's end.
pub fn column_starts(pack: &[u8], columns: usize) -> Result<Vec<u32>> {
    let mut cursor = Cursor::new(pack);
    let lengths: Result<Vec<u32>> = (0..columns).map(|_| cursor.number()).collect();
    let mut at = cursor.at() as u64;
    let mut starts = vec![at as u32];
    for length in lengths? {
        at += u64::from(length);
        starts.push(at as u32);
    }
    if at != pack.len() as u64 {
        return Err(damaged("a pack's lengths are not those of its columns"));
    }
    Ok(starts)
}
