//! Finds the series that match and reads their samples.
//!
//! The index has two levels: a selector is asked once for each column set and once for each target; a column matches for
//! a target when the target satisfies what the column leaves open. Their product is never written out. What matched is
//! read chunk by chunk, each column once, by as many threads as there are processors; `found` puts it together.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;

use super::block::{Block, Index, PackReader};
use super::blockseries::read_entry;
use super::chunk::{within, Reading};
use super::codec::Decoder;
use super::columns::{Column, ColumnSet};
use super::found::{assemble, Budget, Found, Selected};
use super::gather::{expected, read_groups};
use super::group::{Group, GroupView};
use super::loose::{LooseSeries, LooseView};
use super::matcher::Selector;
use super::storage::Inner;
use super::varint::Cursor;
use super::{is_absent, Result};
use crate::labels::{Labels, Str};

/// Columns of one set that match, and what each leaves open.
type Matched = Vec<(u32, u64)>;

/// What a selector says of column sets, remembered for one query.
pub struct SetIndex<'a> {
    selector: &'a Selector,
    /// By address; the set is held, so that no other can take it.
    known: HashMap<usize, (Arc<ColumnSet>, Matched), FxBuildHasher>,
    /// Where the metric's columns stand, in all sets that have the same metrics; these are held with the sets.
    places: HashMap<usize, Range<usize>, FxBuildHasher>,
}

impl SetIndex<'_> {
    fn new(selector: &Selector) -> SetIndex<'_> {
        SetIndex { selector, known: HashMap::default(), places: HashMap::default() }
    }

    /// The columns of a set that match.
    fn matched(&mut self, set: &Arc<ColumnSet>) -> &Matched {
        let SetIndex { selector, known, places } = self;
        let mut matched = || {
            let of_metric =
                |name: &str| places.entry(address(&set.metrics)).or_insert_with(|| set.metrics.of_metric(name)).clone();
            let range = selector.metric().map_or(0..set.len(), of_metric);
            range.filter_map(|i| selector.residue(&set.columns[i]).map(|r| (i as u32, r))).collect()
        };
        &known.entry(address(set)).or_insert_with(|| (set.clone(), matched())).1
    }

    /// The columns of a set that match for a target that satisfies these matchers. The set is one that was met.
    pub fn wanted(&self, set: &Arc<ColumnSet>, satisfied: u64) -> impl Iterator<Item = u32> + '_ {
        let known = self.known.get(&address(set)).map_or(&[][..], |known| &known.1);
        known.iter().filter(move |m| m.1 & !satisfied == 0).map(|m| m.0)
    }
}

fn address<T>(shared: &Arc<T>) -> usize {
    Arc::as_ptr(shared) as usize
}

/// A group, which of the matchers its labels satisfy, and its chunks.
pub type PicturedGroup = (Arc<Group>, u64, GroupView);

/// All that a query has to look at, taken at one moment: no compaction moves samples in between.
struct Picture {
    blocks: Vec<Arc<Block>>,
    /// Groups with chunks in which something matches.
    groups: Vec<PicturedGroup>,
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

/// All samples with start <= t <= end of the series that match.
pub fn select(inner: &Inner, selector: &Selector, start: i64, end: i64, limit: usize) -> Result<Selected> {
    let budget = Budget::new(limit);
    let mut found = Found::new(&inner.tombstones, &budget);
    let mut index = SetIndex::new(selector);
    let mut decoder = Decoder::default();
    let picture = picture(inner, &mut index, start, end);
    for block in &picture.blocks {
        select_block(block, inner.now(), selector, start, end, &mut found)?;
    }
    let (index, first) = (&index, picture.start);
    let expected = expected(&picture.groups, index, first, end);
    in_parts(&picture.groups, expected, &mut found, &|groups, found| read_groups(groups, index, first, end, found))?;
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
    let budget = Budget::new(limit);
    let mut found = Found::new(&inner.tombstones, &budget);
    select_block(block, inner.now(), selector, start, end, &mut found)?;
    found.sort();
    Ok(assemble(found))
}

/// Fewer than this are read faster than another thread is started.
const PART_ITEMS: usize = 192;
/// With fewer samples a series most of the work is with labels, which would be done again where parts are joined.
const PART_DEPTH: usize = 16;
/// More threads than this for one query would leave too little to the others.
const THREADS_LIMIT: usize = 4;

fn threads() -> usize {
    static COUNT: OnceLock<usize> = OnceLock::new();
    *COUNT.get_or_init(|| std::thread::available_parallelism().map_or(1, |n| n.get().min(THREADS_LIMIT)))
}

/// Reads a list in parts, each on a thread of its own, and joins what they found in the order of the list. Of about so many
/// series and samples there is room from the start.
fn in_parts<'a, T: Sync>(
    items: &[T],
    (series, samples): (usize, usize),
    found: &mut Found<'a>,
    read: &(impl Fn(&[T], &mut Found<'a>) -> Result<()> + Sync),
) -> Result<()> {
    let is_deep = samples >= PART_DEPTH * series;
    let parts = if is_deep { (items.len() / PART_ITEMS).clamp(1, threads()) } else { 1 };
    found.expect(series);
    found.reserve(samples);
    let (own, others) = items.split_at(items.len().div_ceil(parts));
    std::thread::scope(|scope| {
        let start = |part| {
            let mut beside = found.beside();
            beside.expect(series / parts);
            beside.reserve(samples / parts);
            let work = move || read(part, &mut beside).map(|()| beside);
            (part, std::thread::Builder::new().name("select".into()).spawn_scoped(scope, work))
        };
        let started: Vec<_> = others.chunks(own.len().max(1)).map(start).collect();
        read(own, found)?;
        for (part, thread) in started {
            match thread {
                Ok(thread) => found.join(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?)?,
                // No thread is to be had: slower, but as right.
                Err(_) => read(part, found)?,
            }
        }
        Ok(())
    })
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

fn read_columns(block: &Block, index: &Index, wants: &[Want], start: i64, end: i64, found: &mut Found<'_>) -> Result<()> {
    let mut decoder = Decoder::default();
    let mut reader = PackReader::new(block, index);
    let mut values = Vec::new();
    for want in wants {
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
    Ok(())
}

fn select_block(block: &Block, now: i64, selector: &Selector, start: i64, end: i64, found: &mut Found<'_>) -> Result<()> {
    let index = block.index(now)?;
    let wants = wants(&index, selector);
    let mut rows: HashMap<usize, usize, FxBuildHasher> = HashMap::default();
    let mut rows_of = |want: &Want| {
        let runs = &index.groups[want.group].runs;
        *rows.entry(want.group).or_insert_with(|| runs.iter().map(|run| within(&run.times, start, end).len()).sum())
    };
    let expected = (wants.len(), wants.iter().map(&mut rows_of).sum());
    in_parts(&wants, expected, found, &|wants, found| read_columns(block, &index, wants, start, end, found))?;
    let mut decoder = Decoder::default();
    let mut reader = PackReader::new(block, &index);
    let bases = index.series_bases();
    for at in index.series_of(selector.metric()) {
        let series = &index.series[at];
        if !selector.matches(&series.labels) {
            continue;
        }
        for (number, entry) in (bases[at]..).zip(&series.entries) {
            if entry.start <= end && entry.end >= start {
                let samples = read_entry(reader.column(number)?, entry, &mut decoder)?;
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
                let samples = read_entry(reader.column(number)?, entry, &mut decoder)?;
                found.add_histograms(&series.labels, samples.into_iter().filter(|s| s.0 >= start && s.0 <= end))?;
            }
        }
    }
    Ok(())
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
            let columns: Vec<u32> = index.wanted(set, *satisfied).collect();
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
        let mut columns: Vec<u32> = index.wanted(set, *satisfied).collect();
        columns.retain(|c| !met.contains(&Arc::as_ptr(&set.columns[*c as usize])));
        let rows = within(open.times(), picture.start, end);
        let values = open.read(&columns, rows.clone(), &mut decoder)?;
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
