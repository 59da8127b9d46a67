//! A block's file while it is written: columns go into packs, packs to the file, and the index behind them.

use std::path::Path;

use super::block::{encode_tail, Index, IndexPlace, Pack, Span};
use super::disk::DiskFile;
use super::frame::{header, BLOCK, HEADER_BYTES, HISTOGRAMS};
use super::varint::put;
use super::{Result, StorageError};

/// A pack is closed at this size, or at so many columns.
const PACK_BYTES: usize = 32 << 10;
const PACK_COLUMNS: usize = 1024;
const LEVEL: i32 = 3;

/// The file, and the pack that is being filled.
pub(super) struct BlockFile {
    file: DiskFile,
    offset: u64,
    packs: Vec<Pack>,
    lengths: Vec<u8>,
    raw: Vec<u8>,
    waiting: u32,
    /// Columns so far.
    pub(super) columns: u64,
    pub(super) samples: u64,
    /// The file says that it has histograms.
    histograms: bool,
}

impl BlockFile {
    pub(super) fn create(path: &Path, histograms: bool) -> Result<BlockFile> {
        let mut out = BlockFile {
            file: DiskFile::create(path)?,
            offset: 0,
            packs: Vec::new(),
            lengths: Vec::new(),
            raw: Vec::new(),
            waiting: 0,
            columns: 0,
            samples: 0,
            histograms,
        };
        let mut head = header(BLOCK);
        head[8] = if histograms { HISTOGRAMS as u8 } else { 0 };
        out.put(&head)?;
        debug_assert_eq!(out.offset, HEADER_BYTES as u64);
        Ok(out)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_at(bytes, self.offset)?;
        self.offset += bytes.len() as u64;
        Ok(())
    }

    pub(super) fn column(&mut self, bytes: &[u8]) -> Result<()> {
        put(&mut self.lengths, bytes.len() as u64);
        self.raw.extend_from_slice(bytes);
        self.waiting += 1;
        self.columns += 1;
        if self.raw.len() >= PACK_BYTES || self.waiting as usize >= PACK_COLUMNS {
            self.close_pack()?;
        }
        Ok(())
    }

    fn close_pack(&mut self) -> Result<()> {
        if self.waiting == 0 {
            return Ok(());
        }
        let mut whole = std::mem::take(&mut self.lengths);
        whole.extend_from_slice(&self.raw);
        self.raw.clear();
        let packed = zstd::bulk::compress(&whole, LEVEL).map_err(|e| StorageError::corrupt("a pack", e.to_string()))?;
        self.packs.push(Pack {
            offset: self.offset,
            length: packed.len() as u32,
            inflated: whole.len() as u32,
            crc: crc32fast::hash(&packed),
            first: self.columns - u64::from(self.waiting),
            columns: self.waiting,
        });
        self.waiting = 0;
        self.put(&packed)
    }

    pub(super) fn finish(mut self, mut index: Index, span: Span) -> Result<()> {
        self.close_pack()?;
        index.packs = std::mem::take(&mut self.packs);
        let runs = index.groups.iter().flat_map(|g| &g.runs).map(|r| (r.times[0], r.times[r.times.len() - 1]));
        let entries = index.series.iter().chain(&index.histograms).flat_map(|s| &s.entries).map(|e| (e.start, e.end));
        let (from, to) = runs.chain(entries).fold((i64::MAX, i64::MIN), |a, b| (a.0.min(b.0), a.1.max(b.1)));
        let raw = index.encode(self.histograms);
        let packed = zstd::bulk::compress(&raw, LEVEL).map_err(|e| StorageError::corrupt("an index", e.to_string()))?;
        let place = IndexPlace {
            offset: self.offset,
            length: packed.len() as u64,
            inflated: raw.len() as u64,
            crc: crc32fast::hash(&packed),
        };
        self.put(&packed)?;
        let span = Span { from, to, samples: self.samples, ..span };
        self.put(&encode_tail(&span, &place))?;
        self.file.sync()
    }
}
