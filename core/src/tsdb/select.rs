//! Finds the series that match and gathers their samples into flat arrays.
//!
//! The index has two levels: a selector is asked once for each column set and once for each target; a column matches for
//! a target when the target satisfies what the column leaves open. Their product is never written out. What matched is
//! read chunk by chunk, each column once. A series of one piece is copied as it lies; one of several pieces (a pod made
//! anew, a target scraped twice, samples of the general path) is merged in time, and of equal times the earlier wins.

use std::ops::Range;
use std::sync::Arc;

use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;

use super::block::{Block, Index, PackReader};
use super::blockseries::read_entry;
use super::chunk::{within, Reading};
use super::codec::Decoder;
use super::columns::{Column, ColumnSet, Metrics};
use super::group::{Group, GroupView};
use super::loose::{LooseSeries, LooseView};
use super::matcher::Selector;
use super::openchunk::OpenChunk;
use super::storage::Inner;
use super::tombstones::{is_deleted, Spans, Tombstones};
use super::varint::Cursor;
use super::{is_absent, Result, StorageError, NAN_BITS};
use crate::histogram::{mark, marked, Histogram};
use crate::labels::{Labels, Str, NAME};

/// Series and their samples: series i has `offsets[i]..offsets[i + 1]`.
#[derive(Default)]
pub struct Selected {
    pub labels: Vec<Labels>,
    pub offsets: Vec<i64>,
    pub times: Vec<i64>,
    /// That of a histogram is its mark: `histogram::marked` tells its number in `histograms`.
    pub values: Vec<f64>,
    pub histograms: Vec<Arc<Histogram>>,
}

/// Samples of one series from one place, in time order: where they lie among all that was found.
struct Piece {
    series: usize,
    start: usize,
    end: usize,
}

/// Columns of one set that match, and what each leaves open.
type Matched = Vec<(u32, u64)>;

/// What a selector says of column sets, remembered for one query.
struct SetIndex<'a> {
    selector: &'a Selector,
    /// By address; the set is held, so that no other can take it.
    known: HashMap<*const ColumnSet, (Arc<ColumnSet>, Arc<Matched>), FxBuildHasher>,
    /// Where the metric's columns stand, in all sets that have the same metrics; these are held with the sets.
    places: HashMap<*const Metrics, Range<usize>, FxBuildHasher>,
}

impl SetIndex<'_> {
    fn new(selector: &Selector) -> SetIndex<'_> {
        SetIndex { selector, known: HashMap::default(), places: HashMap::default() }
    }

    fn matched(&mut self, set: &Arc<ColumnSet>) -> Arc<Matched> {
        let SetIndex { selector, known, places } = self;
        let mut matched = || {
            let of_metric =
                |name: &str| places.entry(Arc::as_ptr(&set.metrics)).or_insert_with(|| set.metrics.of_metric(name)).clone();
            let range = selector.metric().map_or(0..set.len(), of_metric);
            Arc::new(range.filter_map(|i| selector.residue(&set.columns[i]).map(|r| (i as u32, r))).collect())
        };
        known.entry(Arc::as_ptr(set)).or_insert_with(|| (set.clone(), matched())).1.clone()
    }

    /// How many of a set's columns match for a target that satisfies these matchers.
    fn count(&mut self, set: &Arc<ColumnSet>, satisfied: u64) -> usize {
        self.matched(set).iter().filter(|m| m.1 & !satisfied == 0).count()
    }

    /// The columns of a set that match for a target that satisfies these matchers.
    fn wanted(&mut self, set: &Arc<ColumnSet>, satisfied: u64) -> Vec<u32> {
        self.matched(set).iter().filter(|m| m.1 & !satisfied == 0).map(|m| m.0).collect()
    }
}

/// All that a query has to look at, taken at one moment: no compaction moves samples in between.
struct Picture {
    blocks: Vec<Arc<Block>>,
    /// Groups with chunks in which something matches.
    groups: Vec<(Arc<Group>, u64, GroupView)>,
    loose: Vec<(Arc<LooseSeries>, LooseView)>,
    /// The first time of rows that are not in blocks.
    start: i64,
}

fn picture(inner: &Inner, index: &mut SetIndex<'_>, start: i64, end: i64) -> Picture {
    let selector = index.selector;
    let layout = inner.layout.read();
    let blocks = layout.blocks.iter().filter(|b| b.span.from <= end && b.span.to >= start).cloned().collect();
    let first = start.max(layout.frontier);
    let groups = inner.groups.read().all.clone();
    let groups = groups
        .into_iter()
        .map(|group| {
            let satisfied = selector.satisfied(&group.labels);
            let view = group.view(first, end, &mut |set| index.matched(set).iter().any(|m| m.1 & !satisfied == 0));
            (group, satisfied, view)
        })
        .filter(|(_, _, view)| view.open.is_some() || !view.sealed.is_empty())
        .collect();
    let matching = inner.loose.candidates(selector.metric()).into_iter().filter(|s| selector.matches(&s.labels));
    let loose = matching.map(|s| (s.view(start, end), s)).map(|(view, s)| (s, view)).collect();
    Picture { blocks, groups, loose, start: first }
}

/// Series as they are found, each once, and their samples one piece after the other.
struct Found<'a> {
    tombstones: &'a Tombstones,
    any_deleted: bool,
    /// Of each series what is deleted.
    deleted: Vec<Option<Spans>>,
    by_labels: HashMap<Labels, usize, FxBuildHasher>,
    pieces: Vec<Piece>,
    times: Vec<i64>,
    values: Vec<f64>,
    histograms: Vec<Arc<Histogram>>,
    /// What histograms count beyond one sample each.
    weight: usize,
    limit: usize,
}

impl<'a> Found<'a> {
    fn new(tombstones: &'a Tombstones, limit: usize) -> Found<'a> {
        let limit = if limit > 0 { limit } else { usize::MAX };
        Found {
            tombstones,
            any_deleted: !tombstones.is_empty(),
            deleted: Vec::new(),
            by_labels: HashMap::default(),
            pieces: Vec::new(),
            times: Vec::new(),
            values: Vec::new(),
            histograms: Vec::new(),
            weight: 0,
            limit,
        }
    }

    fn series(&mut self, labels: Labels) -> usize {
        let next = self.by_labels.len();
        let deleted = &mut self.deleted;
        *self.by_labels.entry(labels).or_insert_with_key(|labels| {
            if self.any_deleted {
                deleted.push(self.tombstones.of(labels));
            }
            next
        })
    }

    /// Adds the rows in which a column has a sample, or all samples of a list.
    fn add(&mut self, series: usize, times: &[i64], values: &[f64]) -> Result<()> {
        let start = self.times.len();
        match self.deleted.get(series) {
            Some(Some(spans)) => {
                let left = times.iter().zip(values).filter(|(t, v)| !is_absent(**v) && !is_deleted(spans, **t));
                left.for_each(|(t, v)| {
                    self.times.push(*t);
                    self.values.push(*v);
                });
            }
            _ if values.iter().fold(true, |all, v| all & !is_absent(*v)) => {
                self.times.extend_from_slice(times);
                self.values.extend_from_slice(values);
            }
            _ => times.iter().zip(values).filter(|(_, v)| !is_absent(**v)).for_each(|(t, v)| {
                self.times.push(*t);
                self.values.push(*v);
            }),
        }
        let end = self.times.len();
        if end.saturating_add(self.weight) > self.limit {
            return Err(StorageError::TooMany { limit: self.limit });
        }
        if end > start {
            self.pieces.push(Piece { series, start, end });
        }
        Ok(())
    }

    fn add_loose(&mut self, labels: &Labels, samples: impl Iterator<Item = (i64, f64)>) -> Result<()> {
        // Foreign NaNs may be any.
        let own = |(time, value): (i64, f64)| (time, if marked(value).is_some() { f64::from_bits(NAN_BITS) } else { value });
        let (times, values): (Vec<i64>, Vec<f64>) = samples.map(own).unzip();
        if times.is_empty() {
            return Ok(());
        }
        let series = self.series(labels.clone());
        self.add(series, &times, &values)
    }

    fn add_histograms(&mut self, labels: &Labels, samples: impl Iterator<Item = (i64, Arc<Histogram>)>) -> Result<()> {
        let (mut times, mut values) = (Vec::new(), Vec::new());
        for (time, histogram) in samples {
            let number = u32::try_from(self.histograms.len()).map_err(|_| StorageError::TooMany { limit: u32::MAX as usize })?;
            self.weight += histogram.weight() - 1;
            self.histograms.push(histogram);
            times.push(time);
            values.push(mark(number));
        }
        if times.is_empty() {
            return Ok(());
        }
        let series = self.series(labels.clone());
        self.add(series, &times, &values)
    }
}

/// The columns of a group that are read, in the set of the chunk that is being read, and their series as far as they are
/// known.
struct GroupReader<'a> {
    group: &'a Group,
    satisfied: u64,
    set: Option<&'a Arc<ColumnSet>>,
    columns: Vec<u32>,
    series: Vec<Option<usize>>,
    /// The series of columns of any set.
    met: HashMap<*const Column, usize, FxBuildHasher>,
}

impl<'a> GroupReader<'a> {
    fn new(group: &'a Group, satisfied: u64) -> GroupReader<'a> {
        GroupReader { group, satisfied, set: None, columns: Vec::new(), series: Vec::new(), met: HashMap::default() }
    }

    fn turn_to(&mut self, set: &'a Arc<ColumnSet>, index: &mut SetIndex<'_>) {
        if self.set.is_some_and(|known| Arc::ptr_eq(known, set)) {
            return;
        }
        self.set = Some(set);
        self.columns = index.wanted(set, self.satisfied);
        let met = |column: &u32| self.met.get(&Arc::as_ptr(&set.columns[*column as usize])).copied();
        self.series = self.columns.iter().map(met).collect();
    }

    fn add(&mut self, found: &mut Found<'_>, at: usize, times: &[i64], values: &[f64]) -> Result<()> {
        let (Some(set), Some(known)) = (self.set, self.series.get_mut(at)) else { return Ok(()) };
        if known.is_none() && values.iter().all(|v| is_absent(*v)) {
            return Ok(());
        }
        let series = *known.get_or_insert_with(|| {
            let column = &set.columns[self.columns[at] as usize];
            let series = found.series(column.series(&self.group.labels));
            self.met.insert(Arc::as_ptr(column), series);
            series
        });
        found.add(series, times, values)
    }
}

/// All samples with start <= t <= end of the series that match.
pub fn select(inner: &Inner, selector: &Selector, start: i64, end: i64, limit: usize) -> Result<Selected> {
    let mut found = Found::new(&inner.tombstones, limit);
    let mut index = SetIndex::new(selector);
    let mut decoder = Decoder::default();
    let picture = picture(inner, &mut index, start, end);
    let mut times = Vec::new();
    let newest = |view: &GroupView| {
        let open = view.open.as_ref().and_then(OpenChunk::set);
        open.or_else(|| view.sealed.last().and_then(|chunk| chunk.set.as_ref())).cloned()
    };
    let newest_sets = picture.groups.iter().filter_map(|(_, satisfied, view)| newest(view).map(|set| (set, *satisfied)));
    let expected = newest_sets.map(|(set, satisfied)| index.count(&set, satisfied)).sum();
    found.by_labels.reserve(expected);
    for block in &picture.blocks {
        select_block(block, inner.now(), selector, start, end, &mut decoder, &mut found)?;
    }
    for (group, satisfied, view) in &picture.groups {
        let mut reader = GroupReader::new(group, *satisfied);
        for chunk in &view.sealed {
            let Some(set) = &chunk.set else { continue };
            reader.turn_to(set, &mut index);
            let opened = chunk.open_with(&mut decoder, std::mem::take(&mut times))?;
            let rows = within(&opened.times, picture.start, end);
            let slots = opened.slots(&reader.columns);
            let mut added = Ok(());
            opened.read(slots.iter().map(|s| s.1), Reading::Mapped, &mut decoder, &mut |at, values| {
                if added.is_ok() {
                    added = reader.add(&mut found, slots[at].0, &opened.times[rows.clone()], &values[rows.clone()]);
                }
            })?;
            added?;
            times = opened.times;
        }
        if let Some((open, set)) = view.open.as_ref().and_then(|o| o.set().map(|s| (o, s))) {
            reader.turn_to(set, &mut index);
            let rows = within(open.times(), picture.start, end);
            let values = open.read(&reader.columns, rows.clone())?;
            for (at, values) in values.chunks_exact(rows.len().max(1)).enumerate() {
                reader.add(&mut found, at, &open.times()[rows.clone()], values)?;
            }
        }
    }
    for (series, view) in picture.loose {
        for (chunk, at) in &view.floats.sealed {
            let samples = chunk.read(*at, &mut decoder)?;
            let first = start.max(chunk.compacted());
            found.add_loose(&series.labels, samples.into_iter().filter(|s| s.0 >= first && s.0 <= end))?;
        }
        found.add_loose(&series.labels, view.floats.open.into_iter())?;
        for (chunk, at) in &view.histograms.sealed {
            let samples = chunk.read(*at, &mut decoder)?;
            let first = start.max(chunk.compacted());
            found.add_histograms(&series.labels, samples.into_iter().filter(|s| s.0 >= first && s.0 <= end))?;
        }
        found.add_histograms(&series.labels, view.histograms.open.into_iter())?;
    }
    Ok(assemble(found))
}

/// What one block has of the series that match, sorted by series; of what it has twice the first counts.
pub fn select_of_block(
    inner: &Inner,
    block: &Block,
    selector: &Selector,
    start: i64,
    end: i64,
    limit: usize,
) -> Result<Selected> {
    let mut found = Found::new(&inner.tombstones, limit);
    select_block(block, inner.now(), selector, start, end, &mut Decoder::default(), &mut found)?;
    let mut sorted: Vec<(Labels, usize)> = found.by_labels.drain().collect();
    sorted.sort_unstable();
    let mut place = vec![0; sorted.len()];
    sorted.iter().enumerate().for_each(|(at, series)| place[series.1] = at);
    found.pieces.iter_mut().for_each(|piece| piece.series = place[piece.series]);
    found.by_labels = sorted.into_iter().enumerate().map(|(at, series)| (series.0, at)).collect();
    Ok(assemble(found))
}

/// A column of a block's group that matches.
struct Want {
    /// Its first run's number in the packs.
    number: u64,
    group: usize,
    column: u32,
}

/// Columns of a block that match, in the order of the packs.
fn wants(index: &Index, selector: &Selector) -> Vec<Want> {
    let satisfied: Vec<u64> = index.groups.iter().map(|g| selector.satisfied(&g.labels)).collect();
    let mut out = Vec::new();
    for metric in index.of_metric(selector.metric()) {
        let columns = index.metrics[metric].0.clone();
        let residues: Vec<Option<u64>> = columns.clone().map(|c| selector.residue(&index.columns[c as usize])).collect();
        if residues.iter().all(Option::is_none) {
            continue;
        }
        let places = index.places(metric);
        for ((g, group), base) in index.groups.iter().enumerate().zip(index.bases(metric, &places)) {
            let of_metric = &index.sets[group.set as usize][places[group.set as usize].clone()];
            for (number, column) in (base..).step_by(group.runs.len().max(1)).zip(of_metric) {
                if residues[(column - columns.start) as usize].is_some_and(|r| r & !satisfied[g] == 0) {
                    out.push(Want { number, group: g, column: *column });
                }
            }
        }
    }
    out
}

fn select_block(
    block: &Block,
    now: i64,
    selector: &Selector,
    start: i64,
    end: i64,
    decoder: &mut Decoder,
    found: &mut Found<'_>,
) -> Result<()> {
    let index = block.index(now)?;
    let mut reader = PackReader::new(block, &index);
    let mut values = Vec::new();
    for want in wants(&index, selector) {
        let group = &index.groups[want.group];
        let mut series = None;
        for (number, run) in (want.number..).zip(&group.runs) {
            let rows = within(&run.times, start, end);
            if rows.is_empty() {
                continue;
            }
            decoder.decode(&mut Cursor::new(reader.column(number)?), run.times.len(), &mut values)?;
            let values = &values[rows.clone()];
            if series.is_some() || values.iter().any(|v| !is_absent(*v)) {
                let labels = || index.columns[want.column as usize].series(&group.labels);
                let at = *series.get_or_insert_with(|| found.series(labels()));
                found.add(at, &run.times[rows], values)?;
            }
        }
    }
    let bases = index.series_bases();
    for at in index.series_of(selector.metric()) {
        let series = &index.series[at];
        if !selector.matches(&series.labels) {
            continue;
        }
        for (number, entry) in (bases[at]..).zip(&series.entries) {
            if entry.start <= end && entry.end >= start {
                let samples = read_entry(reader.column(number)?, entry, decoder)?;
                found.add_loose(&series.labels, samples.into_iter().filter(|s| s.0 >= start && s.0 <= end))?;
            }
        }
    }
    let bases = index.histogram_bases();
    for at in index.histograms_of(selector.metric()) {
        let series = &index.histograms[at];
        if !selector.matches(&series.labels) {
            continue;
        }
        for (number, entry) in (bases[at]..).zip(&series.entries) {
            if entry.start <= end && entry.end >= start {
                let samples = read_entry(reader.column(number)?, entry, decoder)?;
                found.add_histograms(&series.labels, samples.into_iter().filter(|s| s.0 >= start && s.0 <= end))?;
            }
        }
    }
    Ok(())
}

/// The pieces of each series in time order, one series after the other. Often they were found so.
fn assemble(found: Found<'_>) -> Selected {
    let Found { by_labels, mut pieces, times, values, histograms, .. } = found;
    let mut labels: Vec<Option<Labels>> = vec![None; by_labels.len()];
    by_labels.into_iter().for_each(|(of, at)| labels[at] = Some(of));
    let follows = |a: &Piece, b: &Piece| a.series < b.series || (a.series == b.series && times[a.end - 1] < times[b.start]);
    let in_order = pieces.windows(2).all(|w| follows(&w[0], &w[1]));
    let mut out = Selected { offsets: vec![0], histograms, ..Selected::default() };
    if !in_order {
        pieces.sort_by_key(|p| (p.series, times[p.start]));
        out.times.reserve(times.len());
        out.values.reserve(times.len());
    }
    for parts in pieces.chunk_by(|a, b| a.series == b.series) {
        out.labels.extend(labels[parts[0].series].take());
        if in_order {
            out.offsets.push(parts[parts.len() - 1].end as i64);
            continue;
        }
        if parts.windows(2).all(|w| follows(&w[0], &w[1])) {
            for part in parts {
                out.times.extend_from_slice(&times[part.start..part.end]);
                out.values.extend_from_slice(&values[part.start..part.end]);
            }
        } else {
            // The general path: samples of all pieces in time order; of equal times the one that was found first wins, which
            // is the one that was stored first.
            let mut all: Vec<usize> = parts.iter().flat_map(|p| p.start..p.end).collect();
            all.sort_unstable_by_key(|i| (times[*i], *i));
            all.dedup_by_key(|i| times[*i]);
            out.times.extend(all.iter().map(|i| times[*i]));
            out.values.extend(all.iter().map(|i| values[*i]));
        }
        out.offsets.push(out.times.len() as i64);
    }
    if in_order {
        (out.times, out.values) = (times, values);
    }
    out
}

/// The series that have a sample in the range, without reading the samples where a chunk tells.
pub fn series(inner: &Inner, selectors: &[Selector], start: i64, end: i64) -> Result<Vec<Labels>> {
    let mut all = hashbrown::HashSet::with_hasher(FxBuildHasher);
    for selector in selectors {
        each_series(inner, selector, start, end, &mut |column, target| {
            all.insert(column.map_or_else(|| target.clone(), |c| c.series(target)));
        })?;
    }
    let mut out: Vec<Labels> = all.into_iter().collect();
    out.sort_unstable();
    Ok(out)
}

/// Label names, or the values of one, answered from the two levels: targets and column sets, not series by series.
pub fn label_values(inner: &Inner, name: Option<&str>, selectors: &[Selector], start: i64, end: i64) -> Result<Vec<Str>> {
    let mut all: hashbrown::HashSet<Str, FxBuildHasher> = hashbrown::HashSet::default();
    let mut take = |labels: &Labels, column: Option<&Column>| {
        for (n, v) in labels.iter() {
            // A target's label counts only where the column does not hide it.
            let hidden = column.is_some_and(|c| c.own.get(n).is_some() || c.dropped.contains(n));
            let wanted = if name.is_none() { n } else { v };
            if !hidden && name.is_none_or(|name| name == &**n) && !all.contains(wanted) {
                all.insert(wanted.clone());
            }
        }
    };
    for selector in selectors {
        each_series(inner, selector, start, end, &mut |column, target| {
            take(target, column);
            if let Some(column) = column {
                take(&column.own, None);
            }
        })?;
    }
    let mut out: Vec<Str> = all.into_iter().collect();
    out.sort_unstable();
    Ok(out)
}

/// Calls back with each column and target that match and have a sample in the range, and for loose series with their
/// labels alone. What blocks have counts as a whole: a series of a run that the range touches has a sample in it.
fn each_series(
    inner: &Inner,
    selector: &Selector,
    start: i64,
    end: i64,
    each: &mut dyn FnMut(Option<&Column>, &Labels),
) -> Result<()> {
    let mut index = SetIndex::new(selector);
    let mut decoder = Decoder::default();
    let picture = picture(inner, &mut index, start, end);
    for block in &picture.blocks {
        let index = block.index(inner.now())?;
        for want in wants(&index, selector) {
            let group = &index.groups[want.group];
            if group.runs.iter().any(|r| !within(&r.times, start, end).is_empty()) {
                each(Some(&index.columns[want.column as usize]), &group.labels);
            }
        }
        for series in &index.series[index.series_of(selector.metric())] {
            if selector.matches(&series.labels) && series.entries.iter().any(|e| e.start <= end && e.end >= start) {
                each(None, &series.labels);
            }
        }
        for series in &index.histograms[index.histograms_of(selector.metric())] {
            if selector.matches(&series.labels) && series.entries.iter().any(|e| e.start <= end && e.end >= start) {
                each(None, &series.labels);
            }
        }
    }
    for (group, satisfied, view) in &picture.groups {
        let mut met: hashbrown::HashSet<*const Column, FxBuildHasher> = hashbrown::HashSet::default();
        for chunk in &view.sealed {
            let Some(set) = &chunk.set else { continue };
            let opened = chunk.open()?;
            let rows = within(&opened.times, picture.start, end);
            let whole = rows.len() == opened.times.len();
            let mut unsure = Vec::new();
            let columns = index.wanted(set, *satisfied);
            for (at, slot) in opened.slots(&columns) {
                let known = &set.columns[columns[at] as usize];
                if met.contains(&Arc::as_ptr(known)) {
                    continue;
                }
                if whole {
                    // A chunk has only columns with a sample.
                    met.insert(Arc::as_ptr(known));
                    each(Some(known), &group.labels);
                } else {
                    unsure.push((slot, known));
                }
            }
            opened.read(unsure.iter().map(|u| u.0), Reading::Mapped, &mut decoder, &mut |at, values| {
                if values[rows.clone()].iter().any(|v| !is_absent(*v)) && met.insert(Arc::as_ptr(unsure[at].1)) {
                    each(Some(unsure[at].1), &group.labels);
                }
            })?;
        }
        let Some((open, set)) = view.open.as_ref().and_then(|o| o.set().map(|s| (o, s))) else {
            continue;
        };
        let mut columns = index.wanted(set, *satisfied);
        columns.retain(|c| !met.contains(&Arc::as_ptr(&set.columns[*c as usize])));
        let rows = within(open.times(), picture.start, end);
        let values = open.read(&columns, rows.clone())?;
        for (values, column) in values.chunks_exact(rows.len().max(1)).zip(&columns) {
            if values.iter().any(|v| !is_absent(*v)) {
                each(Some(&set.columns[*column as usize]), &group.labels);
            }
        }
    }
    for (series, view) in &picture.loose {
        if !view.is_empty() {
            each(None, &series.labels);
        }
    }
    Ok(())
}

/// Metrics by how many live series they have.
pub fn metrics_by_name(inner: &Inner) -> HashMap<String, u64> {
    let mut counts: HashMap<String, u64> = HashMap::new();
    for group in inner.groups.read().all.iter() {
        group.each_live(|column| *counts.entry_ref(column.name()).or_default() += 1);
    }
    for series in inner.loose.candidates(None) {
        *counts.entry_ref(series.labels.get(NAME).unwrap_or("")).or_default() += 1;
    }
    counts
}
