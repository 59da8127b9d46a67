//! Which columns of which groups go where in a block, and the slabs in which they are read, encoded anew and written: all
//! parts of some metrics, or of some groups of a large one, as much as fits in memory.

use std::ops::Range;
use std::sync::Arc;

use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;

use super::block::{BlockGroup, Index, PackReader, Run};
use super::blockfile::BlockFile;
use super::blockwriter::{GroupParts, Input, Part, Source};
use super::chunk::Reading;
use super::codec::{self, Decoder, Encoder};
use super::columns::{Column, MISSING};
use super::tombstones::{blank, Spans, Tombstones};
use super::varint::Cursor;
use super::{is_absent, Result, ABSENT};

/// Rows that are encoded together: more compress no better, fewer cost bytes.
pub const RUN_ROWS: usize = 480;
/// Values that a slab may hold; they take about half a byte each.
const SLAB_CELLS: usize = 32 << 20;

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
pub(super) struct Slab {
    metrics: Range<usize>,
    groups: Range<usize>,
}

/// Which columns there are, and where each goes.
pub(super) struct Plan<'a> {
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
    pub(super) fn new(input: &Input, tombstones: &'a Tombstones) -> Result<Plan<'a>> {
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

    pub(super) fn index(&self, input: &Input) -> Index {
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

    pub(super) fn slabs(&self) -> Vec<Slab> {
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

    pub(super) fn write_slab(&self, input: &Input, slab: &Slab, index: &mut Index, writer: &mut BlockFile) -> Result<()> {
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
