//! The series of a block that do not come in rows: read from chunks and other blocks, one after the other, and written.

use std::sync::Arc;

use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;

use super::block::{Block, BlockSeries, Entry, Index, PackReader};
use super::blockfile::BlockFile;
use super::blockplan::RUN_ROWS;
use super::blockwriter::{Input, SeriesParts, SeriesSource};
use super::codec::{Decoder, Encoder};
use super::packs::PACK_ENTRIES;
use super::sample::Sample;
use super::tombstones::{is_deleted, Tombstones};
use super::varint::Cursor;
use super::Result;

pub(super) fn write_series<T: Sample>(
    all: &[SeriesParts],
    input: &Input,
    tombstones: &Tombstones,
    writer: &mut BlockFile,
) -> Result<Vec<BlockSeries>> {
    let mut encoder = Encoder::default();
    let mut reader = SeriesReader::<T>::new(&input.blocks);
    let mut written = Vec::new();
    for one in all {
        let mut samples = reader.samples(one)?;
        if let Some(spans) = tombstones.of(&one.labels) {
            samples.retain(|s| !is_deleted(&spans, s.0));
        }
        let mut entries = Vec::new();
        for part in samples.chunks(RUN_ROWS) {
            let mut bytes = Vec::new();
            T::encode(part, &mut encoder, &mut bytes);
            writer.column(&bytes)?;
            writer.samples += part.len() as u64;
            entries.push(Entry { count: part.len() as u32, start: part[0].0, end: part[part.len() - 1].0 });
        }
        if !entries.is_empty() {
            written.push(BlockSeries { labels: one.labels.clone(), entries });
        }
    }
    Ok(written)
}

/// The series of one inflated pack.
type SeriesPack<T> = Vec<Vec<(i64, T)>>;

/// Reads series from their sources; neighbours of one pack inflate it once.
struct SeriesReader<'a, T> {
    blocks: Vec<(PackReader<'a>, &'a Index, Vec<u64>)>,
    /// The last pack of each chunk, by the chunk's address.
    packs: HashMap<usize, (usize, SeriesPack<T>), FxBuildHasher>,
    decoder: Decoder,
}

impl<'a, T: Sample> SeriesReader<'a, T> {
    fn new(blocks: &'a [(Arc<Block>, Arc<Index>)]) -> SeriesReader<'a, T> {
        let opened = |(block, index): &'a (Arc<Block>, Arc<Index>)| (PackReader::new(block, index), &**index, T::bases_of(index));
        let blocks = blocks.iter().map(opened).collect();
        SeriesReader { blocks, packs: HashMap::default(), decoder: Decoder::default() }
    }

    /// All samples in time order; of equal times the first source's.
    fn samples(&mut self, series: &SeriesParts) -> Result<Vec<(i64, T)>> {
        let mut out: Vec<(i64, T)> = Vec::new();
        let wanted = |s: &(i64, T)| s.0 >= series.from && s.0 < series.until;
        for source in &series.sources {
            match source {
                SeriesSource::Chunk(chunk, at) => {
                    let pack = at / PACK_ENTRIES;
                    let known = self.packs.entry(Arc::as_ptr(chunk) as usize).or_insert((usize::MAX, Vec::new()));
                    if known.0 != pack {
                        *known = (pack, chunk.read_pack(pack, &mut self.decoder)?);
                    }
                    out.extend(known.1[at % PACK_ENTRIES].iter().filter(|s| wanted(s)).cloned());
                }
                SeriesSource::Block { block, series } => {
                    let (reader, index, bases) = &mut self.blocks[*block];
                    let entries = &T::of_block(index)[*series].entries;
                    for (number, entry) in (bases[*series]..).zip(entries) {
                        let samples = read_entry::<T>(reader.column(number)?, entry, &mut self.decoder)?;
                        out.extend(samples.into_iter().filter(|s| wanted(s)));
                    }
                }
            }
        }
        if !out.windows(2).all(|w| w[0].0 < w[1].0) {
            out.sort_by_key(|s| s.0);
            out.dedup_by_key(|s| s.0);
        }
        Ok(out)
    }
}

/// The samples of an entry of a block's series.
pub fn read_entry<T: Sample>(bytes: &[u8], entry: &Entry, decoder: &mut Decoder) -> Result<Vec<(i64, T)>> {
    T::decode(&mut Cursor::new(bytes), entry.count as usize, decoder)
}
