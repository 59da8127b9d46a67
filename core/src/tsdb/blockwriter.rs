//! Writing a block: the parts of many groups, turned round by metric.
//!
//! Chunks hold one group's columns each, and a block wants one metric's of all groups. What lies between would not fit in
//! memory for a large server, so it is done in slabs: some metrics (or some groups of one large metric) at a time, each
//! read from all parts, encoded anew in runs of up to 480 rows, and written in the block's order. Parts that are such
//! runs already are copied as they are.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;

use super::block::{encode_tail, Block, BlockGroup, BlockSeries, Entry, Index, IndexPlace, Pack, PackReader, Run, Span};
use super::chunk::{Reading, SealedChunk};
use super::codec::{self, Decoder, Encoder};
use super::columns::{Column, MISSING};
use super::disk::{self, DiskFile};
use super::frame::{header, BLOCK, HEADER_BYTES, HISTOGRAMS};
use super::loose::SealedSeries;
use super::packs::PACK_ENTRIES;
use super::sample::Sample;
use super::tombstones::{blank, is_deleted, Spans, Tombstones};
use super::varint::{put, Cursor};
use super::{is_absent, Result, StorageError, ABSENT};
use crate::histogram::Histogram;
use crate::labels::{Labels, Str, NAME};

/// Rows that are encoded together: more compress no better, fewer cost bytes.
pub const RUN_ROWS: usize = 480;
/// A pack is closed at this size, or at so many columns.
const PACK_BYTES: usize = 32 << 10;
const PACK_COLUMNS: usize = 1024;
/// Values that a slab may hold; they take about half a byte each.
const SLAB_CELLS: usize = 32 << 20;
const LEVEL: i32 = 3;

/// Where rows of a group come from.
pub enum Source {
    Chunk { chunk: Arc<SealedChunk>, rows: Range<usize> },
    Run { block: usize, group: usize, run: usize },
}

/// Rows of a group, later ones than those of the part before.
pub struct Part {
    pub times: Vec<i64>,
    pub source: Source,
}

pub struct GroupParts {
    pub pool: Str,
    pub labels: Labels,
    pub parts: Vec<Part>,
}

/// Where samples of a series that does not come in rows come from.
pub enum SeriesSource {
    Chunk(Arc<SealedSeries>, usize),
    Block { block: usize, series: usize },
}

/// Such a series, and the times of it that belong to the block: from <= t < until.
pub struct SeriesParts {
    pub labels: Labels,
    pub sources: Vec<SeriesSource>,
    pub from: i64,
    pub until: i64,
}

/// What goes into a block.
#[derive(Default)]
pub struct Input {
    pub groups: Vec<GroupParts>,
    pub series: Vec<SeriesParts>,
    /// Those of whose samples these are histograms.
    pub histograms: Vec<SeriesParts>,
    /// What `Source::Run` refers to.
    pub blocks: Vec<(Arc<Block>, Arc<Index>)>,
}

/// Writes the block to `path`, durably, without what is deleted. Of the span, the caller gives what is not in the samples.
pub fn write(path: &Path, span: Span, mut input: Input, tombstones: &Tombstones) -> Result<()> {
    input.groups.retain(|g| !g.parts.is_empty());
    input.groups.sort_by(|a, b| (&a.pool, &a.labels).cmp(&(&b.pool, &b.labels)));
    // Within a metric in the order given: neighbours of a body lie in one pack of their chunks.
    let by_name = |a: &SeriesParts, b: &SeriesParts| a.labels.get(NAME).cmp(&b.labels.get(NAME));
    input.series.sort_by(by_name);
    input.histograms.sort_by(by_name);
    let temporary = path.with_extension("new");
    let done = Writer::create(&temporary, !input.histograms.is_empty()).and_then(|mut writer| {
        let plan = Plan::new(&input, tombstones)?;
        let mut index = plan.index(&input);
        for slab in plan.slabs() {
            plan.write_slab(&input, &slab, &mut index, &mut writer)?;
        }
        index.series_first = writer.columns;
        index.series = write_series::<f64>(&input.series, &input, tombstones, &mut writer)?;
        index.histograms_first = writer.columns;
        index.histograms = write_series::<Arc<Histogram>>(&input.histograms, &input, tombstones, &mut writer)?;
        writer.finish(index, span)
    });
    let folder = path.parent().unwrap_or(Path::new("."));
    let done = done.and_then(|()| disk::rename(&temporary, path)).and_then(|()| disk::sync_folder(folder));
    if let Err(e) = done {
        // The error counts; what stays behind is found out at the next start.
        let _ = disk::remove(&temporary);
        let _ = disk::remove(path);
        return Err(e);
    }
    Ok(())
}

/// Rows of one group that are encoded together.
struct PlannedRun {
    parts: Range<usize>,
    rows: usize,
}

struct PlannedGroup {
    set: usize,
    runs: Vec<PlannedRun>,
}

/// Where an encoded column stands in the block's order: metric, group, place in the group's set, run.
type Place = (u32, u32, u32, u32);
/// A run of a source: block, group, run.
type RunKey = (usize, usize, usize);

/// Some columns of some groups: as much as fits in memory, in the block's order.
struct Slab {
    metrics: Range<usize>,
    groups: Range<usize>,
}

/// Which columns there are, and where each goes.
struct Plan<'a> {
    /// None when nothing is deleted.
    tombstones: Option<&'a Tombstones>,
    columns: Vec<Arc<Column>>,
    metrics: Vec<Range<u32>>,
    sets: Vec<Arc<[u32]>>,
    groups: Vec<PlannedGroup>,
    /// For each set of the sources the block's number of each of its columns; `MISSING` where no part has it.
    numbers: HashMap<SetKey, Arc<[u32]>, FxBuildHasher>,
}

/// A column set of a source, by its address.
type SetKey = (usize, usize);

impl Source {
    fn set_key(&self, input: &Input) -> SetKey {
        match self {
            Source::Chunk { chunk, .. } => (usize::MAX, chunk.set.as_ref().map_or(0, |s| Arc::as_ptr(s) as usize)),
            Source::Run { block, group, .. } => (*block, input.blocks[*block].1.groups[*group].set as usize),
        }
    }

    fn columns(&self, input: &Input) -> Vec<Arc<Column>> {
        match self {
            Source::Chunk { chunk, .. } => chunk.set.as_ref().map_or_else(Vec::new, |s| s.columns.to_vec()),
            Source::Run { block, group, .. } => {
                let index = &input.blocks[*block].1;
                index.sets[index.groups[*group].set as usize].iter().map(|c| index.columns[*c as usize].clone()).collect()
            }
        }
    }
}

impl<'a> Plan<'a> {
    fn new(input: &Input, tombstones: &'a Tombstones) -> Result<Plan<'a>> {
        // Which columns of each set have a sample in some part, over all and for each group.
        let mut used: HashMap<SetKey, Vec<bool>, FxBuildHasher> = HashMap::default();
        let mut columns_of: HashMap<SetKey, Vec<Arc<Column>>, FxBuildHasher> = HashMap::default();
        let mut used_by_group: Vec<Vec<(SetKey, Vec<bool>)>> = Vec::with_capacity(input.groups.len());
        for group in &input.groups {
            let mut of_group: Vec<(SetKey, Vec<bool>)> = Vec::new();
            for part in &group.parts {
                let key = part.source.set_key(input);
                let columns = columns_of.entry(key).or_insert_with(|| part.source.columns(input));
                let at = of_group.iter().position(|g| g.0 == key).unwrap_or_else(|| {
                    of_group.push((key, vec![false; columns.len()]));
                    of_group.len() - 1
                });
                match &part.source {
                    Source::Chunk { chunk, .. } => {
                        let opened = chunk.open()?;
                        let of = &mut of_group[at].1;
                        (0..of.len()).for_each(|c| of[c] |= opened.has(c));
                    }
                    Source::Run { .. } => of_group[at].1.fill(true),
                }
            }
            for (key, of) in &of_group {
                let all = used.entry(*key).or_insert_with(|| vec![false; of.len()]);
                all.iter_mut().zip(of).for_each(|(a, b)| *a |= b);
            }
            used_by_group.push(of_group);
        }
        let mut distinct: HashMap<Arc<Column>, u32, FxBuildHasher> = HashMap::default();
        for (key, columns) in &columns_of {
            let of = &used[key];
            for (column, _) in columns.iter().zip(of).filter(|(_, used)| **used) {
                if !distinct.contains_key(column) {
                    distinct.insert(column.clone(), 0);
                }
            }
        }
        let mut columns: Vec<Arc<Column>> = distinct.keys().cloned().collect();
        columns.sort_unstable();
        columns.iter().enumerate().for_each(|(i, c)| {
            distinct.insert(c.clone(), i as u32);
        });
        let number = |column: &Arc<Column>| distinct.get(column).copied().unwrap_or(MISSING);
        let numbers: HashMap<SetKey, Arc<[u32]>, FxBuildHasher> =
            columns_of.iter().map(|(key, columns)| (*key, columns.iter().map(number).collect())).collect();
        let mut known: HashMap<Arc<[u32]>, usize, FxBuildHasher> = HashMap::default();
        let mut sets: Vec<Arc<[u32]>> = Vec::new();
        let mut groups = Vec::with_capacity(input.groups.len());
        for (group, of_group) in input.groups.iter().zip(&used_by_group) {
            let mut all: Vec<u32> = of_group
                .iter()
                .flat_map(|(key, of)| numbers[key].iter().zip(of).filter(|(_, used)| **used).map(|(n, _)| *n))
                .collect();
            if of_group.len() > 1 {
                all.sort_unstable();
                all.dedup();
            }
            let next = sets.len();
            let set = match known.get(&*all) {
                Some(set) => *set,
                None => {
                    let all: Arc<[u32]> = all.into();
                    known.insert(all.clone(), next);
                    sets.push(all);
                    next
                }
            };
            groups.push(PlannedGroup { set, runs: runs(&group.parts) });
        }
        let mut metrics: Vec<Range<u32>> = Vec::new();
        for (i, column) in columns.iter().enumerate() {
            match metrics.last_mut() {
                Some(last) if columns[last.start as usize].name() == column.name() => last.end += 1,
                _ => metrics.push(i as u32..i as u32 + 1),
            }
        }
        let tombstones = Some(tombstones).filter(|t| !t.is_empty());
        Ok(Plan { tombstones, columns, metrics, sets, groups, numbers })
    }

    fn index(&self, input: &Input) -> Index {
        let group = |(planned, given): (&PlannedGroup, &GroupParts)| BlockGroup {
            pool: given.pool.clone(),
            labels: given.labels.clone(),
            set: planned.set as u32,
            runs: planned
                .runs
                .iter()
                .map(|r| Run { times: given.parts[r.parts.clone()].iter().flat_map(|p| p.times.iter().copied()).collect() })
                .collect(),
        };
        Index {
            columns: self.columns.clone(),
            sets: self.sets.clone(),
            groups: self.groups.iter().zip(&input.groups).map(group).collect(),
            ..Index::default()
        }
    }

    fn slabs(&self) -> Vec<Slab> {
        let rows: Vec<usize> = self.groups.iter().map(|g| g.runs.iter().map(|r| r.rows).sum()).collect();
        let mut rows_of_set = vec![0usize; self.sets.len()];
        self.groups.iter().zip(&rows).for_each(|(g, rows)| rows_of_set[g.set] += rows);
        let cells = |metric: &Range<u32>| -> usize {
            self.sets.iter().zip(&rows_of_set).map(|(set, rows)| Index::in_set(set, metric).len() * rows).sum()
        };
        let mut slabs: Vec<Slab> = Vec::new();
        let mut room = 0usize;
        for (m, metric) in self.metrics.iter().enumerate() {
            let needed = cells(metric);
            if needed > SLAB_CELLS {
                let (mut start, mut sum) = (0, 0);
                for (g, group) in self.groups.iter().enumerate() {
                    let of_group = Index::in_set(&self.sets[group.set], metric).len() * rows[g];
                    if sum > 0 && sum + of_group > SLAB_CELLS {
                        slabs.push(Slab { metrics: m..m + 1, groups: start..g });
                        (start, sum) = (g, 0);
                    }
                    sum += of_group;
                }
                slabs.push(Slab { metrics: m..m + 1, groups: start..self.groups.len() });
                room = 0;
            } else if needed <= room {
                room -= needed;
                if let Some(last) = slabs.last_mut() {
                    last.metrics.end = m + 1;
                }
            } else {
                slabs.push(Slab { metrics: m..m + 1, groups: 0..self.groups.len() });
                room = SLAB_CELLS - needed;
            }
        }
        slabs
    }

    fn write_slab(&self, input: &Input, slab: &Slab, index: &mut Index, writer: &mut Writer) -> Result<()> {
        let columns = self.metrics[slab.metrics.start].start..self.metrics[slab.metrics.end - 1].end;
        let fetched = self.fetch(input, slab, &columns)?;
        let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
        let mut bytes: Vec<u8> = Vec::new();
        let mut made: Vec<(Place, Range<usize>)> = Vec::new();
        let mut matrix: Vec<f64> = Vec::new();
        let mut values: Vec<f64> = Vec::new();
        for g in slab.groups.clone() {
            let (planned, given) = (&self.groups[g], &input.groups[g]);
            let set = &self.sets[planned.set];
            let places = Index::in_set(set, &columns);
            if places.is_empty() {
                continue;
            }
            let wanted = &set[places.clone()];
            let deleted: Vec<Option<Spans>> = self.tombstones.map_or_else(Vec::new, |t| {
                wanted.iter().map(|n| t.of(&self.columns[*n as usize].series(&given.labels))).collect()
            });
            for (r, run) in planned.runs.iter().enumerate() {
                let parts = &given.parts[run.parts.clone()];
                let alone = match parts {
                    [Part { source: Source::Run { block, group, run }, .. }] => Some((*block, *group, *run)),
                    _ => None,
                };
                if alone.is_none() {
                    matrix.clear();
                    matrix.resize(wanted.len() * run.rows, ABSENT);
                    let mut row = 0;
                    for part in parts {
                        let mut put = |number: u32, values: &[f64]| {
                            if let Ok(place) = wanted.binary_search(&number) {
                                matrix[place * run.rows + row..][..values.len()].copy_from_slice(values);
                            }
                        };
                        match &part.source {
                            Source::Chunk { chunk, rows } => {
                                let numbers = &self.numbers[&part.source.set_key(input)];
                                let opened = chunk.open()?;
                                let in_slab = |c: &u32| columns.contains(&numbers[*c as usize]);
                                let of_slab: Vec<u32> = (0..numbers.len() as u32).filter(in_slab).collect();
                                let found = opened.slots(&of_slab);
                                let slots = found.iter().map(|f| f.1);
                                opened.read(slots, Reading::Once, &mut decoder, &mut |at, values| {
                                    put(numbers[of_slab[found[at].0] as usize], &values[rows.clone()]);
                                })?;
                            }
                            Source::Run { block, group, run } => {
                                for (number, encoded) in fetched.of(*block, *group, *run) {
                                    decoder.decode(&mut Cursor::new(encoded), part.times.len(), &mut values)?;
                                    put(number, &values);
                                }
                            }
                        }
                        row += part.times.len();
                    }
                }
                let mut copied = alone.into_iter().flat_map(|(b, g, r)| fetched.of(b, g, r)).peekable();
                for (k, number) in wanted.iter().enumerate() {
                    let start = bytes.len();
                    let spans = deleted.get(k).and_then(Option::as_ref);
                    let encoded = if alone.is_some() {
                        while copied.next_if(|c| c.0 < *number).is_some() {}
                        copied.next_if(|c| c.0 == *number).map(|c| c.1)
                    } else {
                        None
                    };
                    match (encoded, spans) {
                        (Some(encoded), None) => {
                            bytes.extend_from_slice(encoded);
                            writer.samples += codec::count_samples(encoded, run.rows)? as u64;
                        }
                        (encoded, spans) => {
                            match encoded {
                                Some(encoded) => decoder.decode(&mut Cursor::new(encoded), run.rows, &mut values)?,
                                None if alone.is_some() => values = vec![ABSENT; run.rows],
                                None => {
                                    values.clear();
                                    values.extend_from_slice(&matrix[k * run.rows..(k + 1) * run.rows]);
                                }
                            }
                            if let Some(spans) = spans {
                                blank(spans, &index.groups[g].runs[r].times, &mut values);
                            }
                            encoder.encode(&values, &mut bytes);
                            writer.samples += values.iter().filter(|v| !is_absent(**v)).count() as u64;
                        }
                    }
                    let metric = self.metrics.partition_point(|m| m.end <= *number) as u32;
                    made.push(((metric, g as u32, (places.start + k) as u32, r as u32), start..bytes.len()));
                }
            }
        }
        made.sort_unstable_by_key(|m| m.0);
        for ((metric, ..), range) in made {
            if index.metrics.len() <= metric as usize {
                index.metrics.push((self.metrics[metric as usize].clone(), writer.columns));
            }
            writer.column(&bytes[range])?;
        }
        Ok(())
    }

    /// What a slab takes from other blocks, each pack of them inflated once.
    fn fetch(&self, input: &Input, slab: &Slab, columns: &Range<u32>) -> Result<Fetched> {
        let mut fetched = Fetched::default();
        // Block, number in it; group, run, and number here.
        let mut wants: Vec<(usize, u64, (usize, usize), u32)> = Vec::new();
        let mut bases: HashMap<(usize, usize), Vec<u64>, FxBuildHasher> = HashMap::default();
        for part in input.groups[slab.groups.clone()].iter().flat_map(|g| &g.parts) {
            let Source::Run { block, group, run } = part.source else { continue };
            let index = &input.blocks[block].1;
            let of_group = &index.groups[group];
            let (set, numbers) = (&index.sets[of_group.set as usize], &self.numbers[&part.source.set_key(input)]);
            let places = numbers.partition_point(|n| *n < columns.start)..numbers.partition_point(|n| *n < columns.end);
            for place in places {
                let metric = index.metrics.partition_point(|m| m.0.end <= set[place]);
                let first = bases.entry((block, metric)).or_insert_with(|| index.bases(metric, &index.places(metric)))[group];
                let within = place - Index::in_set(set, &index.metrics[metric].0).start;
                let number = first + (within * of_group.runs.len() + run) as u64;
                wants.push((block, number, (group, run), numbers[place]));
            }
        }
        wants.sort_unstable();
        let mut start = 0;
        while start < wants.len() {
            let block = wants[start].0;
            let end = start + wants[start..].partition_point(|w| w.0 == block);
            let (file, index) = &input.blocks[block];
            let mut reader = PackReader::new(file, index);
            for (_, number, (group, run), here) in &wants[start..end] {
                let encoded = reader.column(*number)?;
                let at = fetched.bytes.len();
                fetched.bytes.extend_from_slice(encoded);
                fetched.columns.entry((block, *group, *run)).or_default().push((*here, at..fetched.bytes.len()));
            }
            start = end;
        }
        fetched.columns.values_mut().for_each(|c| c.sort_unstable_by_key(|c| c.0));
        Ok(fetched)
    }
}

/// Encoded columns of other blocks, by block, group and run; each with its number here.
#[derive(Default)]
struct Fetched {
    bytes: Vec<u8>,
    columns: HashMap<RunKey, Vec<(u32, Range<usize>)>, FxBuildHasher>,
}

impl Fetched {
    fn of(&self, block: usize, group: usize, run: usize) -> impl Iterator<Item = (u32, &[u8])> {
        let all = self.columns.get(&(block, group, run)).map_or(&[][..], Vec::as_slice);
        all.iter().map(|(number, range)| (*number, &self.bytes[range.clone()]))
    }
}

/// Neighbouring parts, as long as they fit in one run.
fn runs(parts: &[Part]) -> Vec<PlannedRun> {
    let mut out: Vec<PlannedRun> = Vec::new();
    for (i, part) in parts.iter().enumerate() {
        match out.last_mut() {
            Some(last) if last.rows + part.times.len() <= RUN_ROWS => {
                last.parts.end = i + 1;
                last.rows += part.times.len();
            }
            _ => out.push(PlannedRun { parts: i..i + 1, rows: part.times.len() }),
        }
    }
    out
}

fn write_series<T: Sample>(
    all: &[SeriesParts],
    input: &Input,
    tombstones: &Tombstones,
    writer: &mut Writer,
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

/// The file, and the pack that is being filled.
struct Writer {
    file: DiskFile,
    offset: u64,
    packs: Vec<Pack>,
    lengths: Vec<u8>,
    raw: Vec<u8>,
    waiting: u32,
    /// Columns so far.
    columns: u64,
    samples: u64,
    /// The file says that it has histograms.
    histograms: bool,
}

impl Writer {
    fn create(path: &Path, histograms: bool) -> Result<Writer> {
        let mut out = Writer {
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

    fn column(&mut self, bytes: &[u8]) -> Result<()> {
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

    fn finish(mut self, mut index: Index, span: Span) -> Result<()> {
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
