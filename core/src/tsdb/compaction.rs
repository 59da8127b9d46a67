//! Compaction: chunks become blocks, small blocks become large ones, and what is past its time goes.
//!
//! ```text
//! time ──▶  … blocks │ frontier │ sealed chunks, open chunks │ now
//! ```
//! What lies before the frontier is in blocks, what lies behind it in chunks. Two hours are compacted at a time, half an
//! hour after they ended: all open chunks that began in them are sealed, all rows and samples go into a block, and then the
//! frontier moves and the chunks are dropped, in one step for readers. A row that comes too late for that takes the general
//! path. Samples before the frontier that are in no block yet (late rows, explicit old timestamps) go into a block of
//! their own, which may lie over others: readers merge.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hashbrown::HashSet;

use super::block::{Block, Span};
use super::blockwriter::{write, GroupParts, Input, Part, SeriesParts, SeriesSource, Source};
use super::chunk::within;
use super::storage::Inner;
use super::{Result, StorageError};

/// The span of a fresh block.
pub const BLOCK_MILLISECONDS: i64 = 2 * 3600 * 1000;
/// How long after its span a block is made: groups that are slow may still add to it.
pub const SETTLED_MILLISECONDS: i64 = 30 * 60 * 1000;
/// Blocks grow by this factor.
const GROWTH: i64 = 3;
/// No block spans more, nor a tenth of the retention: what is past its time goes by whole blocks.
const SPAN_LIMIT_MILLISECONDS: i64 = 31 * 86400 * 1000;
/// Blocks of late samples; more are merged into one.
const LATE_LIMIT: usize = 8;
/// An index that nobody asked for in this time is forgotten.
const COOL_MILLISECONDS: i64 = 10 * 60 * 1000;

/// All blocks, and up to where they reach.
pub struct Layout {
    /// In the order of their numbers.
    pub blocks: Vec<Arc<Block>>,
    /// The end of the last regular block; `i64::MIN` before there is one.
    pub frontier: i64,
    /// Samples of chunk files up to this number are in blocks as far as they lie before the frontier.
    pub chunk_files: u64,
    next: u64,
}

impl Layout {
    /// Opens the blocks of a folder. Damaged ones are set aside; those that others replace are deleted.
    pub fn open(folder: &Path, lost: &mut dyn FnMut(String)) -> Result<Layout> {
        let mut found: Vec<(u64, PathBuf)> = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(|e| StorageError::file("list", folder, &e))? {
            let path = entry.map_err(|e| StorageError::file("list", folder, &e))?.path();
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("");
            if name.ends_with(".new") {
                std::fs::remove_file(&path).map_err(|e| StorageError::file("delete", &path, &e))?;
            } else if let Some(number) = name.strip_suffix(".block").and_then(|n| n.parse().ok()) {
                found.push((number, path));
            }
        }
        found.sort();
        let next = found.last().map_or(1, |f| f.0 + 1);
        let mut blocks: Vec<Arc<Block>> = Vec::new();
        for (number, path) in found {
            match Block::open(number, &path) {
                Ok(block) => blocks.push(Arc::new(block)),
                Err(e @ StorageError::Corrupt { .. }) => {
                    let aside = path.with_extension("damaged");
                    std::fs::rename(&path, &aside).map_err(|e| StorageError::file("rename", &path, &e))?;
                    lost(format!("{e}; the file is kept as {}", aside.display()));
                }
                Err(e) => return Err(e),
            }
        }
        let replaced: HashSet<u64> = blocks.iter().flat_map(|b| b.span.sources.iter().copied()).collect();
        for block in blocks.iter().filter(|b| replaced.contains(&b.number)) {
            block.delete()?;
        }
        blocks.retain(|b| !replaced.contains(&b.number));
        let frontier = blocks.iter().map(|b| b.span.end).max().unwrap_or(i64::MIN);
        let chunk_files = blocks.iter().map(|b| b.span.chunk_files).max().unwrap_or(0);
        Ok(Layout { blocks, frontier, chunk_files, next })
    }

    fn take_number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }
}

fn floor(time: i64, width: i64) -> i64 {
    time.div_euclid(width) * width
}

impl Inner {
    /// Compacts all spans that are settled (or all there is), and merges blocks. Returns how many blocks it wrote.
    pub fn compact(&self, settled_milliseconds: i64) -> Result<usize> {
        let _alone = self.compacting.lock();
        let mut written = 0;
        while let Some(end) = self.settled(settled_milliseconds) {
            written += self.compact_until(end)?;
        }
        while let Some(sources) = self.mergeable() {
            self.merge(&sources)?;
            written += 1;
        }
        let before = self.now() - COOL_MILLISECONDS;
        self.layout.read().blocks.iter().for_each(|b| b.cool(before));
        Ok(written)
    }

    /// The end of the next span that all groups have left; None when there is none yet.
    fn settled(&self, settled_milliseconds: i64) -> Option<i64> {
        let groups = self.groups.read().all.clone();
        let frontier = self.layout.read().frontier;
        let first = groups.iter().filter_map(|g| g.time_range()).map(|r| r.0.max(frontier)).min();
        let Some((first, latest)) = first.zip(groups.iter().filter_map(|g| g.last_time()).max()) else {
            // Timestamps that do not come from our clock decide only where there are no others.
            let (_, latest) = self.loose.time_range()?;
            let end = floor(latest.min(self.now()).saturating_sub(settled_milliseconds), BLOCK_MILLISECONDS);
            return (end > frontier).then_some(end);
        };
        let end = floor(first, BLOCK_MILLISECONDS) + BLOCK_MILLISECONDS;
        (latest >= end.saturating_add(settled_milliseconds)).then_some(end)
    }

    fn compact_until(&self, end: i64) -> Result<usize> {
        let (before, mut number) = {
            let mut layout = self.layout.write();
            (layout.frontier, layout.take_number())
        };
        // From here on no group takes a row before the end; what comes late is sealed with the other samples.
        self.set_frontier(end);
        let groups = self.groups.read().all.clone();
        groups.iter().try_for_each(|g| g.seal_before(self, end))?;
        self.seal_loose()?;
        let chunk_files = self.files.roll()?;
        // What is older than this and in no row was late already when it came.
        let start = before.max(end - BLOCK_MILLISECONDS);
        let mut regular = Input::default();
        for group in &groups {
            let parts: Result<Vec<Part>> =
                group.sealed(before, end - 1).into_iter().map(|chunk| part(chunk, before, end)).collect();
            let parts = parts?.into_iter().filter(|p| !p.times.is_empty()).collect();
            regular.groups.push(GroupParts { pool: group.pool.clone(), labels: group.labels.clone(), parts });
        }
        let mut late = Input::default();
        for (series, pieces) in self.loose.sealed(chunk_files) {
            let pieces: Vec<_> = pieces.into_iter().filter(|(c, at)| c.entries[*at].end >= c.compacted()).collect();
            let within = |from: i64, until: i64| {
                let overlapping = pieces.iter().filter(|(c, at)| c.entries[*at].start < until && c.entries[*at].end >= from);
                SeriesParts {
                    labels: series.labels.clone(),
                    sources: overlapping.map(|(c, at)| SeriesSource::Chunk(c.clone(), *at)).collect(),
                    from,
                    until,
                }
            };
            regular.series.push(within(start, end));
            late.series.push(within(i64::MIN, start));
        }
        regular.series.retain(|s| !s.sources.is_empty());
        late.series.retain(|s| !s.sources.is_empty());
        let mut made = Vec::new();
        if !late.series.is_empty() {
            // Its end is no frontier: it says nothing of what lies between its samples.
            let span = Span { start: i64::MIN, end: i64::MIN, ..Span::default() };
            made.push(self.write_block(number, span, late)?);
            number = self.layout.write().take_number();
        }
        let span = Span { start, end, chunk_files, ..Span::default() };
        // Written even if nothing is in it: it says how far the blocks reach.
        made.push(self.write_block(number, span, regular)?);
        let count = made.len();
        {
            let mut layout = self.layout.write();
            layout.blocks.extend(made);
            layout.frontier = end;
            layout.chunk_files = chunk_files;
            for (_, pieces) in self.loose.sealed(chunk_files) {
                pieces.iter().for_each(|(chunk, _)| chunk.set_compacted(end));
            }
            self.retire(end);
        }
        self.files.retire_compacted(chunk_files, end)?;
        self.cut_log(&groups, self.wal.segment())?;
        drop(groups);
        self.retire(end);
        Ok(count)
    }

    fn write_block(&self, number: u64, span: Span, input: Input) -> Result<Arc<Block>> {
        let path = self.block_folder.join(format!("{number:08}.block"));
        write(&path, span, input)?;
        Ok(Arc::new(Block::open(number, &path)?))
    }

    /// Blocks to merge into one: those of the first larger span that is past, or late ones when they are many.
    fn mergeable(&self) -> Option<Vec<Arc<Block>>> {
        let layout = self.layout.read();
        let (late, regular): (Vec<_>, Vec<_>) = layout.blocks.iter().cloned().partition(|b| b.span.end == i64::MIN);
        if late.len() > LATE_LIMIT {
            return Some(late);
        }
        let retention = self.options.retention.as_millis() as i64;
        let mut width = BLOCK_MILLISECONDS * GROWTH;
        while width <= SPAN_LIMIT_MILLISECONDS.min(retention / 10) {
            for block in &regular {
                let start = floor(block.span.start, width);
                let end = start + width;
                let inside: Vec<Arc<Block>> =
                    regular.iter().filter(|b| b.span.start >= start && b.span.end <= end).cloned().collect();
                if inside.len() > 1 && end <= layout.frontier {
                    return Some(inside);
                }
            }
            width *= GROWTH;
        }
        None
    }

    fn merge(&self, sources: &[Arc<Block>]) -> Result<()> {
        let now = self.now();
        let mut input = Input::default();
        let mut groups: hashbrown::HashMap<_, usize> = hashbrown::HashMap::new();
        let mut series: hashbrown::HashMap<_, usize> = hashbrown::HashMap::new();
        let mut ordered = sources.to_vec();
        ordered.sort_by_key(|b| (b.span.start, b.number));
        for (b, block) in ordered.iter().enumerate() {
            let index = block.index(now)?;
            for (g, group) in index.groups.iter().enumerate() {
                let next = input.groups.len();
                let at = *groups.entry((group.pool.clone(), group.labels.clone())).or_insert(next);
                if at == next {
                    let (pool, labels) = (group.pool.clone(), group.labels.clone());
                    input.groups.push(GroupParts { pool, labels, parts: Vec::new() });
                }
                let run = |(r, run): (usize, &super::block::Run)| Part {
                    times: run.times.clone(),
                    source: Source::Run { block: b, group: g, run: r },
                };
                input.groups[at].parts.extend(group.runs.iter().enumerate().map(run));
            }
            for (s, one) in index.series.iter().enumerate() {
                let next = input.series.len();
                let at = *series.entry(one.labels.clone()).or_insert(next);
                if at == next {
                    let (from, until) = (i64::MIN, i64::MAX);
                    input.series.push(SeriesParts { labels: one.labels.clone(), sources: Vec::new(), from, until });
                }
                input.series[at].sources.push(SeriesSource::Block { block: b, series: s });
            }
            input.blocks.push((block.clone(), index));
        }
        let span = Span {
            start: ordered.iter().map(|b| b.span.start).min().unwrap_or(i64::MIN),
            end: ordered.iter().map(|b| b.span.end).max().unwrap_or(i64::MIN),
            chunk_files: ordered.iter().map(|b| b.span.chunk_files).max().unwrap_or(0),
            sources: ordered.iter().map(|b| b.number).collect(),
            ..Span::default()
        };
        let number = self.layout.write().take_number();
        let merged = self.write_block(number, span, input)?;
        {
            let mut layout = self.layout.write();
            layout.blocks.retain(|b| !ordered.iter().any(|o| o.number == b.number));
            layout.blocks.push(merged);
        }
        ordered.iter().try_for_each(|b| b.delete())
    }

    /// Deletes blocks that hold nothing newer than `before`, then the oldest until all take at most `limit` bytes together
    /// with `others` (0: no limit). Returns how many went.
    pub fn retire_blocks(&self, before: i64, limit: u64, others: u64) -> Result<usize> {
        let mut layout = self.layout.write();
        let mut kept = layout.blocks.clone();
        kept.sort_by_key(|b| b.span.to);
        let mut total: u64 = others + kept.iter().map(|b| b.bytes()).sum::<u64>();
        let mut gone = Vec::new();
        for block in kept {
            // The last regular one says how far the blocks reach.
            let needed = block.span.end == layout.frontier && block.span.end != i64::MIN;
            if !needed && (block.span.to < before || (limit > 0 && total > limit)) {
                block.delete()?;
                total -= block.bytes();
                gone.push(block.number);
            }
        }
        layout.blocks.retain(|b| !gone.contains(&b.number));
        Ok(gone.len())
    }
}

/// The rows of a chunk that lie in the bounds: before <= t < end.
fn part(chunk: Arc<super::chunk::SealedChunk>, before: i64, end: i64) -> Result<Part> {
    let mut times = chunk.open()?.times;
    let rows = within(&times, before, end - 1);
    times.truncate(rows.end);
    times.drain(..rows.start);
    Ok(Part { times, source: Source::Chunk { chunk, rows } })
}
