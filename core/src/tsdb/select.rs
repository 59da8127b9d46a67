//! Finds the series that match and gathers their samples into flat arrays.
//!
//! The index has two levels: a selector is asked once for each column set and once for each target; a column matches for
//! a target when the target satisfies what the column leaves open. Their product is never written out. What matched is
//! read chunk by chunk, each column once. A series of one piece is copied as it lies; one of several pieces (a pod made
//! anew, a target scraped twice, samples of the general path) is merged in time, and of equal times the earlier wins.

use std::sync::Arc;

use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;

use super::block::{Block, Index, PackReader};
use super::blockwriter::read_entry;
use super::chunk::{within, Reading};
use super::codec::Decoder;
use super::columns::{Column, ColumnSet};
use super::group::{Group, GroupView};
use super::loose::{LooseSeries, LooseView};
use super::matcher::Selector;
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

/// Samples of one series from one place, in time order.
struct Piece {
    times: Vec<i64>,
    values: Vec<f64>,
}

impl Piece {
    fn without(self, spans: &[(i64, i64)]) -> Piece {
        let kept = self.times.into_iter().zip(self.values).filter(|(t, _)| !is_deleted(spans, *t));
        let (times, values) = kept.unzip();
        Piece { times, values }
    }
}

/// Columns of one set that match, and what each leaves open.
type Matched = Vec<(u32, u64)>;

/// What a selector says of column sets, remembered for one query.
struct SetIndex<'a> {
    selector: &'a Selector,
    /// By address; the set is held, so that no other can take it.
    known: HashMap<*const ColumnSet, (Arc<ColumnSet>, Arc<Matched>), FxBuildHasher>,
}

impl SetIndex<'_> {
    fn new(selector: &Selector) -> SetIndex<'_> {
        SetIndex { selector, known: HashMap::default() }
    }

    fn matched(&mut self, set: &Arc<ColumnSet>) -> Arc<Matched> {
        let selector = self.selector;
        let matched = || {
            let range = selector.metric().map_or(0..set.len(), |name| set.of_metric(name));
            Arc::new(range.filter_map(|i| selector.residue(&set.columns[i]).map(|r| (i as u32, r))).collect())
        };
        self.known.entry(Arc::as_ptr(set)).or_insert_with(|| (set.clone(), matched())).1.clone()
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

/// Series as they are found, each once.
struct Found<'a> {
    tombstones: &'a Tombstones,
    any_deleted: bool,
    /// Of each series what is deleted.
    deleted: Vec<Option<Spans>>,
    by_labels: HashMap<Labels, usize, FxBuildHasher>,
    pieces: Vec<Vec<Piece>>,
    samples: usize,
    histograms: Vec<Arc<Histogram>>,
}

impl<'a> Found<'a> {
    fn new(tombstones: &'a Tombstones) -> Found<'a> {
        let any_deleted = !tombstones.is_empty();
        Found {
            tombstones,
            any_deleted,
            deleted: Vec::new(),
            by_labels: HashMap::default(),
            pieces: Vec::new(),
            samples: 0,
            histograms: Vec::new(),
        }
    }

    fn series(&mut self, labels: Labels) -> usize {
        let next = self.pieces.len();
        let at = *self.by_labels.entry(labels.clone()).or_insert(next);
        if at == next {
            self.pieces.push(Vec::new());
            if self.any_deleted {
                self.deleted.push(self.tombstones.of(&labels));
            }
        }
        at
    }

    fn add(&mut self, labels: usize, mut piece: Piece) {
        if let Some(Some(spans)) = self.deleted.get(labels) {
            piece = piece.without(spans);
            if piece.times.is_empty() {
                return;
            }
        }
        self.samples += piece.times.len();
        self.pieces[labels].push(piece);
    }
}

/// All samples with start <= t <= end of the series that match.
pub fn select(inner: &Inner, selector: &Selector, start: i64, end: i64, limit: usize) -> Result<Selected> {
    let mut found = Found::new(&inner.tombstones);
    let mut index = SetIndex::new(selector);
    let mut decoder = Decoder::default();
    let check = |found: &Found<'_>| {
        if limit > 0 && found.samples > limit {
            Err(StorageError::TooMany { limit })
        } else {
            Ok(())
        }
    };
    let picture = picture(inner, &mut index, start, end);
    for block in &picture.blocks {
        select_block(block, inner.now(), selector, start, end, &mut decoder, &mut found, &check)?;
    }
    for (group, satisfied, view) in &picture.groups {
        // The series of this group that were met already, by column.
        let mut series: HashMap<*const Column, usize, FxBuildHasher> = HashMap::default();
        let mut series_of = |found: &mut Found<'_>, column: &Arc<Column>| {
            *series.entry(Arc::as_ptr(column)).or_insert_with(|| found.series(column.series(&group.labels)))
        };
        for chunk in &view.sealed {
            let Some(set) = &chunk.set else { continue };
            let opened = chunk.open()?;
            let columns: Vec<(u32, usize)> =
                index.wanted(set, *satisfied).into_iter().filter_map(|c| opened.slot(c).map(|s| (c, s))).collect();
            let rows = within(&opened.times, picture.start, end);
            let slots: Vec<usize> = columns.iter().map(|c| c.1).collect();
            opened.read(&slots, Reading::Mapped, &mut decoder, &mut |at, values| {
                if let Some(piece) = piece(&opened.times[rows.clone()], &values[rows.clone()]) {
                    let labels = series_of(&mut found, &set.columns[columns[at].0 as usize]);
                    found.add(labels, piece);
                }
            })?;
            check(&found)?;
        }
        let Some((open, set)) = view.open.as_ref().and_then(|o| o.set().map(|s| (o, s))) else {
            continue;
        };
        let columns = index.wanted(set, *satisfied);
        let rows = within(&open.times, picture.start, end);
        let values = open.read(&columns)?;
        for (values, column) in values.chunks_exact(open.len()).zip(&columns) {
            if let Some(piece) = piece(&open.times[rows.clone()], &values[rows.clone()]) {
                let labels = series_of(&mut found, &set.columns[*column as usize]);
                found.add(labels, piece);
            }
        }
        check(&found)?;
    }
    for (series, view) in picture.loose {
        for (chunk, at) in &view.floats.sealed {
            let samples = chunk.read(*at, &mut decoder)?;
            let first = start.max(chunk.compacted());
            add_loose(&mut found, &series.labels, samples.into_iter().filter(|s| s.0 >= first && s.0 <= end));
        }
        add_loose(&mut found, &series.labels, view.floats.open.into_iter());
        for (chunk, at) in &view.histograms.sealed {
            let samples = chunk.read(*at, &mut decoder)?;
            let first = start.max(chunk.compacted());
            add_histograms(&mut found, &series.labels, samples.into_iter().filter(|s| s.0 >= first && s.0 <= end))?;
            check(&found)?;
        }
        add_histograms(&mut found, &series.labels, view.histograms.open.into_iter())?;
        check(&found)?;
    }
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
        let matched: Vec<(u32, u64)> =
            columns.clone().filter_map(|c| selector.residue(&index.columns[c as usize]).map(|r| (c, r))).collect();
        if matched.is_empty() {
            continue;
        }
        // Where the matching columns stand in each set, counted from its first column of the metric.
        let mut places: Vec<Option<Vec<(usize, u32, u64)>>> = vec![None; index.sets.len()];
        for ((g, group), base) in index.groups.iter().enumerate().zip(index.bases(metric)) {
            let set = &index.sets[group.set as usize];
            let places = places[group.set as usize].get_or_insert_with(|| {
                let of_metric = &set[Index::in_set(set, &columns)];
                matched.iter().filter_map(|(c, r)| of_metric.binary_search(c).ok().map(|at| (at, *c, *r))).collect()
            });
            for (at, column, residue) in places.iter() {
                if residue & !satisfied[g] == 0 {
                    out.push(Want { number: base + (at * group.runs.len()) as u64, group: g, column: *column });
                }
            }
        }
    }
    out
}

#[allow(clippy::too_many_arguments)] // all that `select` has at hand
fn select_block(
    block: &Block,
    now: i64,
    selector: &Selector,
    start: i64,
    end: i64,
    decoder: &mut Decoder,
    found: &mut Found<'_>,
    check: &dyn Fn(&Found<'_>) -> Result<()>,
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
            if let Some(piece) = piece(&run.times[rows.clone()], &values[rows]) {
                let labels = || index.columns[want.column as usize].series(&group.labels);
                let at = *series.get_or_insert_with(|| found.series(labels()));
                found.add(at, piece);
            }
        }
        check(found)?;
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
                add_loose(found, &series.labels, samples.into_iter().filter(|s| s.0 >= start && s.0 <= end));
            }
        }
        check(found)?;
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
                add_histograms(found, &series.labels, samples.into_iter().filter(|s| s.0 >= start && s.0 <= end))?;
                check(found)?;
            }
        }
    }
    Ok(())
}

fn add_loose(found: &mut Found<'_>, labels: &Labels, samples: impl Iterator<Item = (i64, f64)>) {
    // Foreign NaNs may be any.
    let own = |(time, value): (i64, f64)| (time, if marked(value).is_some() { f64::from_bits(NAN_BITS) } else { value });
    let (times, values): (Vec<i64>, Vec<f64>) = samples.map(own).unzip();
    if !times.is_empty() {
        let at = found.series(labels.clone());
        found.add(at, Piece { times, values });
    }
}

fn add_histograms(found: &mut Found<'_>, labels: &Labels, samples: impl Iterator<Item = (i64, Arc<Histogram>)>) -> Result<()> {
    let mut piece = Piece { times: Vec::new(), values: Vec::new() };
    for (time, histogram) in samples {
        let number = u32::try_from(found.histograms.len()).map_err(|_| StorageError::TooMany { limit: u32::MAX as usize })?;
        found.samples += histogram.weight() - 1;
        found.histograms.push(histogram);
        piece.times.push(time);
        piece.values.push(mark(number));
    }
    if !piece.times.is_empty() {
        let at = found.series(labels.clone());
        found.add(at, piece);
    }
    Ok(())
}

/// The rows in which a column has a sample; None when there is none.
fn piece(times: &[i64], values: &[f64]) -> Option<Piece> {
    if values.iter().all(|v| !is_absent(*v)) {
        return (!times.is_empty()).then(|| Piece { times: times.to_vec(), values: values.to_vec() });
    }
    let (times, values): (Vec<i64>, Vec<f64>) =
        times.iter().zip(values).filter(|(_, v)| !is_absent(**v)).map(|(t, v)| (*t, *v)).unzip();
    (!times.is_empty()).then_some(Piece { times, values })
}

fn assemble(found: Found<'_>) -> Selected {
    let Found { by_labels, mut pieces, histograms, .. } = found;
    let samples = pieces.iter().flatten().map(|p| p.times.len()).sum();
    let mut out = Selected { histograms, ..Selected::default() };
    let mut order: Vec<(Labels, usize)> = by_labels.into_iter().filter(|(_, at)| !pieces[*at].is_empty()).collect();
    order.sort_unstable_by_key(|o| o.1);
    out.times.reserve(samples);
    out.values.reserve(samples);
    out.offsets.push(0);
    for (labels, at) in order {
        let mut parts = std::mem::take(&mut pieces[at]);
        parts.sort_by_key(|p| p.times[0]);
        if parts.windows(2).all(|w| w[0].times[w[0].times.len() - 1] < w[1].times[0]) {
            for part in &parts {
                out.times.extend_from_slice(&part.times);
                out.values.extend_from_slice(&part.values);
            }
        } else {
            merge(parts, &mut out);
        }
        out.labels.push(labels);
        out.offsets.push(out.times.len() as i64);
    }
    out
}

/// The general path: samples of all pieces in time order; of equal times the first wins.
fn merge(parts: Vec<Piece>, out: &mut Selected) {
    let mut all: Vec<(i64, f64)> = parts.into_iter().flat_map(|p| p.times.into_iter().zip(p.values)).collect();
    all.sort_by_key(|s| s.0);
    all.dedup_by_key(|s| s.0);
    // A stale marker of one source is no end while another goes on: at equal times it loses, otherwise it stands.
    out.times.extend(all.iter().map(|s| s.0));
    out.values.extend(all.iter().map(|s| s.1));
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
            for column in index.wanted(set, *satisfied) {
                let known = &set.columns[column as usize];
                let Some(slot) = opened.slot(column).filter(|_| !met.contains(&Arc::as_ptr(known))) else { continue };
                if whole {
                    // A chunk has only columns with a sample.
                    met.insert(Arc::as_ptr(known));
                    each(Some(known), &group.labels);
                } else {
                    unsure.push((slot, known));
                }
            }
            let slots: Vec<usize> = unsure.iter().map(|u| u.0).collect();
            opened.read(&slots, Reading::Mapped, &mut decoder, &mut |at, values| {
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
        let rows = within(&open.times, picture.start, end);
        let values = open.read(&columns)?;
        for (values, column) in values.chunks_exact(open.len()).zip(&columns) {
            if values[rows.clone()].iter().any(|v| !is_absent(*v)) {
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
