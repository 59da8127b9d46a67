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

use std::path::Path;
use std::sync::Arc;

use hashbrown::HashSet;

use super::block::{Block, BlockSeries, Span};
use super::blockwriter::{write, GroupParts, Input, Part, SeriesParts, SeriesSource, Source};
use super::chunk::within;
use super::disk;
use super::loose::SealedPiece;
use super::matcher::Selector;
use super::storage::Inner;
use super::wal::Wal;
use super::{select, Result, StorageError};
use crate::labels::Labels;

/// The span of a fresh block.
pub const BLOCK_MILLISECONDS: i64 = 2 * 3600 * 1000;
/// How long after its span a block is made: groups that are slow may still add to it.
pub const SETTLED_MILLISECONDS: i64 = 30 * 60 * 1000;
/// Blocks grow by this factor.
const GROWTH: i64 = 3;
/// No block spans more, nor a tenth of the retention: what is past its time goes by whole blocks.
const SPAN_LIMIT_MILLISECONDS: i64 = 31 * 86400 * 1000;
/// The span of a block of late samples: it answers for none as a whole.
const LATE: i64 = i64::MIN;
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
        for (_, path) in disk::numbered(folder, "new")? {
            disk::remove(&path)?;
        }
        let found = disk::numbered(folder, "block")?;
        let next = found.last().map_or(1, |f| f.0 + 1);
        let mut blocks: Vec<Arc<Block>> = Vec::new();
        for (number, path) in found {
            match Block::open(number, &path) {
                Ok(block) => blocks.push(Arc::new(block)),
                Err(e @ StorageError::Corrupt { .. }) => {
                    let aside = path.with_extension("damaged");
                    disk::rename(&path, &aside)?;
                    lost(format!("{e}; the file is kept as {}", aside.display()));
                }
                Err(e) => return Err(e),
            }
        }
        let replaced = replaced(&blocks);
        for block in blocks.iter().filter(|b| replaced.contains(&b.number)) {
            block.delete()?;
        }
        blocks.retain(|b| !replaced.contains(&b.number));
        let frontier = blocks.iter().map(|b| b.span.end).max().unwrap_or(LATE);
        let chunk_files = blocks.iter().map(|b| b.span.chunk_files).max().unwrap_or(0);
        Ok(Layout { blocks, frontier, chunk_files, next })
    }

    fn take_number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }
}

/// The numbers of the blocks that others replace.
pub fn replaced(blocks: &[Arc<Block>]) -> HashSet<u64> {
    let mut replaced: HashSet<u64> = blocks.iter().flat_map(|b| b.span.sources.iter().copied()).collect();
    // One whose writer was told of an error though it was whole was written again, with all that it has.
    let covers =
        |new: &Block, old: &Block| new.number > old.number && new.span.start <= old.span.start && new.span.end >= old.span.end;
    let regular: Vec<&Arc<Block>> = blocks.iter().filter(|b| b.span.end != LATE).collect();
    replaced.extend(regular.iter().filter(|old| regular.iter().any(|new| covers(new, old))).map(|b| b.number));
    replaced
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
        self.wal.roll();
        self.commit()?;
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
            let (histograms, floats): (Vec<_>, Vec<_>) = pieces.into_iter().partition(|p| p.0.has_histograms());
            let labels = &series.labels;
            for (input, from, until) in [(&mut regular, start, end), (&mut late, i64::MIN, start)] {
                input.series.extend(parts_within(labels, &floats, from, until));
                input.histograms.extend(parts_within(labels, &histograms, from, until));
            }
        }
        let mut made = Vec::new();
        if !late.series.is_empty() || !late.histograms.is_empty() {
            // Its end is no frontier: it says nothing of what lies between its samples.
            let span = Span { start: LATE, end: LATE, ..Span::default() };
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
        write(&path, span, input, &self.tombstones)?;
        Ok(Arc::new(Block::open(number, &path)?))
    }

    /// Blocks to merge into one: those of the first larger span that is past, or late ones when they are many.
    fn mergeable(&self) -> Option<Vec<Arc<Block>>> {
        let layout = self.layout.read();
        let (late, regular): (Vec<_>, Vec<_>) = layout.blocks.iter().cloned().partition(|b| b.span.end == LATE);
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
        let (mut series, mut histograms) = (Places::new(), Places::new());
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
            gather(&index.series, b, &mut series, &mut input.series);
            gather(&index.histograms, b, &mut histograms, &mut input.histograms);
            input.blocks.push((block.clone(), index));
        }
        let span = Span {
            start: ordered.iter().map(|b| b.span.start).min().unwrap_or(LATE),
            end: ordered.iter().map(|b| b.span.end).max().unwrap_or(LATE),
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

    /// Hides all samples with start <= t <= end of the series that match; returns how many series have some. Samples that
    /// come later are there to be seen.
    pub fn delete(&self, selectors: &[Selector], start: i64, end: i64) -> Result<usize> {
        let Some((first, last)) = self.time_range() else { return Ok(0) };
        let (start, end) = (start.max(first), end.min(last));
        let series = select::series(self, selectors, start, end)?;
        let deleted: Vec<(Labels, i64, i64)> = series.into_iter().map(|labels| (labels, start, end)).collect();
        if !deleted.is_empty() {
            self.tombstones.add(&deleted)?;
        }
        Ok(deleted.len())
    }

    /// Writes blocks that hold deleted samples anew, without them; returns how many.
    pub fn clean(&self) -> Result<usize> {
        let _alone = self.compacting.lock();
        let (blocks, frontier) = {
            let layout = self.layout.read();
            (layout.blocks.clone(), layout.frontier)
        };
        let touched: Vec<_> = blocks.into_iter().filter(|b| self.tombstones.touch(b.span.from, b.span.to)).collect();
        touched.iter().try_for_each(|block| self.merge(std::slice::from_ref(block)))?;
        // A start would find in the log what is in blocks no more, and nothing that hides it.
        self.wal.roll();
        self.commit()?;
        self.seal_all()?;
        let groups = self.groups.read().all.clone();
        self.cut_log(&groups, self.wal.segment())?;
        // What is still in chunks stays hidden until it is in a block.
        let oldest = self.loose.time_range().map_or(i64::MAX, |r| r.0);
        self.tombstones.forget(frontier.min(oldest))?;
        Ok(touched.len())
    }

    /// The times of the first and the last sample; None when there is none.
    pub fn time_range(&self) -> Option<(i64, i64)> {
        let blocks: Vec<_> = self.layout.read().blocks.iter().map(|b| (b.span.from, b.span.to)).collect();
        let groups = self.groups.read().all.clone();
        let chunks = groups.iter().filter_map(|g| g.time_range()).chain(self.loose.time_range());
        let ranges = blocks.into_iter().filter(|b| b.0 <= b.1).chain(chunks);
        ranges.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }

    /// All that was appended until now as a data folder of its own, made of links: it takes room only as far as this one
    /// deletes what they share.
    pub fn snapshot(&self, target: &Path) -> Result<()> {
        let _alone = self.compacting.lock();
        self.seal_all()?;
        self.commit()?;
        self.files.roll()?;
        for folder in ["wal", "chunks", "blocks"].map(|name| target.join(name)) {
            disk::create_folder(&folder)?;
        }
        let files = self.files.paths().into_iter().map(|path| ("chunks", path));
        let blocks = self.layout.read().blocks.iter().map(|b| ("blocks", b.path().to_owned())).collect::<Vec<_>>();
        for (folder, path) in files.chain(blocks) {
            let link = target.join(folder).join(path.file_name().unwrap_or_default());
            disk::link(&path, &link)?;
        }
        self.copy_catalog(&target.join("catalog"))?;
        self.tombstones.copy(&target.join("tombstones"))?;
        let wal = Wal::open(&target.join("wal"), Vec::new())?;
        self.exemplars.copy(&wal)?;
        wal.commit(&mut || Ok(()))?;
        ["chunks", "blocks"].iter().try_for_each(|name| disk::sync_folder(&target.join(name)))
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
            let needed = block.span.end == layout.frontier && block.span.end != LATE;
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

/// What of a series' sealed pieces lies in the bounds: from <= t < until; None when that is nothing.
fn parts_within(labels: &Labels, pieces: &[SealedPiece], from: i64, until: i64) -> Option<SeriesParts> {
    let overlapping = pieces.iter().filter(|(c, at)| c.entries[*at].start < until && c.entries[*at].end >= from);
    let sources: Vec<_> = overlapping.map(|(c, at)| SeriesSource::Chunk(c.clone(), *at)).collect();
    (!sources.is_empty()).then(|| SeriesParts { labels: labels.clone(), sources, from, until })
}

/// Where each series stands in a list.
type Places = hashbrown::HashMap<Labels, usize>;

/// Adds the series of a block, the one with this number, to those of the blocks before.
fn gather(all: &[BlockSeries], block: usize, places: &mut Places, out: &mut Vec<SeriesParts>) {
    for (series, one) in all.iter().enumerate() {
        let next = out.len();
        let at = *places.entry(one.labels.clone()).or_insert(next);
        if at == next {
            let (from, until) = (i64::MIN, i64::MAX);
            out.push(SeriesParts { labels: one.labels.clone(), sources: Vec::new(), from, until });
        }
        out[at].sources.push(SeriesSource::Block { block, series });
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::histogram::tests::simple;
    use crate::histogram::{marked, Counts};
    use crate::tsdb::columns::Column;
    use crate::tsdb::found::Selected;
    use crate::tsdb::select::select;
    use crate::tsdb::storage::{Options, Storage};
    use crate::tsdb::{is_stale, ABSENT};

    const MINUTE: i64 = 60_000;

    #[derive(Clone, Debug)]
    enum Act {
        /// A row of a group, so many minutes later, with these of its columns.
        Row {
            group: usize,
            minutes: i64,
            columns: u8,
        },
        /// A sample of a series without rows, so many minutes before or after the last row of all.
        Sample {
            series: usize,
            minutes: i64,
        },
        /// A histogram of such a series.
        Histogram {
            series: usize,
            minutes: i64,
        },
        Seal,
        Compact {
            everything: bool,
        },
        Reopen,
        /// Of the metric "a", so many minutes before the last row.
        Delete {
            from: i64,
            to: i64,
        },
        Clean,
    }

    fn acts() -> impl Strategy<Value = Vec<Act>> {
        let row = (0..3usize, 1..40i64, any::<u8>()).prop_map(|(group, minutes, columns)| Act::Row { group, minutes, columns });
        let sample = (0..3usize, -600..10i64).prop_map(|(series, minutes)| Act::Sample { series, minutes });
        let histogram = (0..2usize, -600..10i64).prop_map(|(series, minutes)| Act::Histogram { series, minutes });
        let act = prop_oneof![
            20 => row, 4 => sample, 4 => histogram, 1 => Just(Act::Seal), 2 => any::<bool>().prop_map(|everything| Act::Compact { everything }),
            1 => Just(Act::Reopen), 1 => (0..400i64, 0..400i64).prop_map(|(from, to)| Act::Delete { from: from.max(to), to: from.min(to) }),
            1 => Just(Act::Clean)
        ];
        prop::collection::vec(act, 1..120)
    }

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        Labels::from_pairs(pairs.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect())
    }

    fn column(i: usize) -> Column {
        let (name, code) = [("a", "1"), ("a", "2"), ("b", "1"), ("c", "1"), ("c", "2"), ("c", "3"), ("d", "1"), ("e", "1")][i];
        Column { own: labels(&[("__name__", name), ("code", code)]), dropped: Box::default() }
    }

    fn open(folder: &Path) -> Storage {
        let options = Options {
            retention: Duration::from_secs(400 * 86400 * 365),
            retention_bytes: 0,
            commit_interval: Duration::from_secs(3600),
            chunk_rows: 5,
            exemplars: 0,
        };
        Storage::open(folder, options, &mut |_, _, _| {}).unwrap()
    }

    type Samples = BTreeMap<Labels, BTreeMap<i64, u64>>;

    /// A value's bits, or how often the histogram was observed, from the other end.
    fn told(found: &Selected, value: f64) -> u64 {
        match marked(value).map(|number| &found.histograms[number as usize].counts) {
            Some(Counts::Integers(n)) => u64::MAX - n.count,
            Some(Counts::Floats(_)) => panic!("a float histogram"),
            None => value.to_bits(),
        }
    }

    fn stored(storage: &Storage, matcher: (&str, &str, &str), start: i64, end: i64) -> Samples {
        let (name, operator, value) = matcher;
        let selector = Selector::new(vec![(name.into(), operator.into(), value.into())]).unwrap();
        let found = select(&storage.inner, &selector, start, end, 0).unwrap();
        let mut out = Samples::new();
        for (i, series) in found.labels.iter().enumerate() {
            let span = found.offsets[i] as usize..found.offsets[i + 1] as usize;
            assert!(found.times[span.clone()].windows(2).all(|w| w[0] < w[1]));
            // Stale markers depend on what a restart remembers; their own tests look at them.
            let live = span.filter(|at| !is_stale(found.values[*at])).map(|at| (found.times[at], told(&found, found.values[at])));
            let live: BTreeMap<i64, u64> = live.collect();
            if !live.is_empty() {
                assert!(out.insert(series.clone(), live).is_none(), "a series stands twice");
            }
        }
        out
    }

    fn check(storage: &Storage, model: &Samples, middle: i64) {
        for matcher in [("__name__", "=~", ".+"), ("__name__", "=", "c"), ("g", "=", "1"), ("code", "!=", "1")] {
            for (start, end) in [(i64::MIN / 2, i64::MAX / 2), (middle - 200 * MINUTE, middle), (middle, middle + 90 * MINUTE)] {
                let selector = Selector::new(vec![(matcher.0.into(), matcher.1.into(), matcher.2.into())]).unwrap();
                let mut want: Samples = model.clone();
                want.retain(|labels, _| selector.matches(labels));
                want.values_mut().for_each(|samples| samples.retain(|t, _| *t >= start && *t <= end));
                want.retain(|_, samples| !samples.is_empty());
                assert_eq!(stored(storage, matcher, start, end), want, "{matcher:?} {start} {end}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
        #[test]
        fn what_is_compacted_and_merged_reads_as_it_did(acts in acts()) {
            let folder = tempfile::tempdir().unwrap();
            let mut storage = open(folder.path());
            let mut model = Samples::new();
            let (mut now, mut value) = (1000 * BLOCK_MILLISECONDS, 0.0);
            for act in acts {
                match act {
                    Act::Row { group, minutes, columns } => {
                        now += minutes * MINUTE;
                        value += 1.0;
                        let target = labels(&[("g", &group.to_string())]);
                        let of = storage.group("pool", &target).unwrap();
                        let (set, at) = storage.intern_columns((group..8).map(column).collect()).unwrap();
                        let mut row = vec![ABSENT; set.len()];
                        for (k, place) in at.iter().enumerate().filter(|(k, _)| columns >> k & 1 == 1) {
                            row[*place as usize] = value + k as f64 / 10.0;
                            let series = column(group + k).series(&target);
                            model.entry(series).or_default().insert(now, row[*place as usize].to_bits());
                        }
                        storage.append(&of, now, &set, &row).unwrap();
                    }
                    Act::Sample { series, minutes } => {
                        value += 1.0;
                        let series = labels(&[("__name__", ["c", "x", "y"][series]), ("g", "loose")]);
                        let time = now + minutes * MINUTE;
                        let first = *model.entry(series.clone()).or_default().entry(time).or_insert(value.to_bits());
                        storage.append_samples(&[(series, time, value)]).unwrap();
                        prop_assert!(first == value.to_bits() || value > 0.0);
                    }
                    Act::Histogram { series, minutes } => {
                        value += 1.0;
                        let series = labels(&[("__name__", ["c", "z"][series]), ("g", "hist")]);
                        let time = now + minutes * MINUTE;
                        let count = value as u64;
                        model.entry(series.clone()).or_default().entry(time).or_insert(u64::MAX - count);
                        let histogram = simple(&[(count as i32 % 7, count - count / 3), (9, count / 3)]);
                        storage.append_histograms(&[(series, time, Arc::new(histogram))]).unwrap();
                    }
                    Act::Seal => storage.inner.seal_all().unwrap(),
                    Act::Compact { everything } => {
                        storage.inner.compact(if everything { -BLOCK_MILLISECONDS } else { SETTLED_MILLISECONDS }).unwrap();
                        check(&storage, &model, now - 100 * MINUTE);
                    }
                    Act::Delete { from, to } => {
                        let (start, end) = (now - from * MINUTE, now - to * MINUTE);
                        let selector = Selector::new(vec![("__name__".into(), "=".into(), "a".into())]).unwrap();
                        storage.inner.delete(&[selector], start, end).unwrap();
                        let of_metric = model.iter_mut().filter(|m| m.0.get("__name__") == Some("a"));
                        of_metric.for_each(|(_, samples)| samples.retain(|t, _| *t < start || *t > end));
                        check(&storage, &model, now - 100 * MINUTE);
                    }
                    Act::Clean => {
                        storage.inner.clean().unwrap();
                        check(&storage, &model, now - 100 * MINUTE);
                    }
                    Act::Reopen => {
                        storage.close().unwrap();
                        drop(storage);
                        storage = open(folder.path());
                        prop_assert_eq!(storage.inner.losses.lock().clone(), Vec::<String>::new());
                        check(&storage, &model, now - 100 * MINUTE);
                    }
                }
            }
            check(&storage, &model, now - 100 * MINUTE);
        }
    }
}
