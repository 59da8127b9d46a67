//! The series of a data folder, wherever their samples lie, and what each takes: what an analysis needs to find the culprit.
//!
//! A sample that lies in two files counts in both: it takes room in both.
//!
//! Blocks, chunk files and the log are read as they lie (see `inspect`), without the folder's lock: a server that has no memory
//! left need not be stopped to be looked at. What blocks have already is not counted again in chunks, nor what chunks have in
//! the log, as at a start. Samples that are deleted but still there count: they take their room. A pack's or a chunk's
//! bytes are shared out by what each of its columns takes of it before compression.

use std::path::Path;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use numpy::{IntoPyArray, PyArray1};
use pyo3::prelude::*;
use rustc_hash::FxBuildHasher;

use super::block::{Block, PackReader};
use super::catalog::{self, Known};
use super::chunk::{within, Reading};
use super::chunkfile::{self, Sealed};
use super::codec::{count_samples, Decoder};
use super::columns::{Column, ColumnSet, ColumnSets};
use super::compaction::replaced;
use super::disk;
use super::frame;
use super::inspect::{columns_of, pack_of, reason, Of};
use super::matcher::Selector;
use super::openchunk::widen;
use super::python::{selectors, MatcherList};
use super::row;
use super::varint::Cursor;
use super::wal::{self, Record};
use super::{is_absent, Result, StorageError};
use crate::labels::{LabelSets, Labels, Str};

/// A series that no selector matches, in tables of places.
const UNWANTED: u32 = u32::MAX;
/// Blocks may be merged while they are looked for.
const TRIES: usize = 3;

type Map<K, V> = HashMap<K, V, FxBuildHasher>;

struct Series {
    labels: Labels,
    /// Which target's rows they come in; none for samples without rows.
    target: Option<u32>,
    first: i64,
    last: i64,
    samples: u64,
    bytes: f64,
    /// Whether some of its samples are in no block yet: those are what a server holds in memory.
    recent: bool,
}

/// What is found, and the tables that give each series one place.
#[derive(Default)]
pub struct Survey {
    selectors: Vec<Selector>,
    start: i64,
    end: i64,
    targets: Vec<(Str, Labels)>,
    target_numbers: Map<(Str, Labels), u32>,
    column_numbers: Map<Arc<Column>, u32>,
    /// By target and column.
    places: Map<(u32, u32), u32>,
    /// Of series without rows.
    loose: Map<Labels, u32>,
    series: Vec<Series>,
    losses: Vec<String>,
}

/// Samples of a series in one place.
struct Found {
    first: i64,
    last: i64,
    count: usize,
    bytes: f64,
    recent: bool,
}

impl Survey {
    fn target(&mut self, pool: &Str, labels: &Labels) -> u32 {
        let key = (pool.clone(), labels.clone());
        let next = self.targets.len() as u32;
        let number = *self.target_numbers.entry(key.clone()).or_insert(next);
        if number == next {
            self.targets.push(key);
        }
        number
    }

    fn column(&mut self, column: &Arc<Column>) -> u32 {
        let next = self.column_numbers.len() as u32;
        *self.column_numbers.entry(column.clone()).or_insert(next)
    }

    fn insert(&mut self, labels: Labels, target: Option<u32>) -> u32 {
        if !self.selectors.iter().any(|s| s.matches(&labels)) {
            return UNWANTED;
        }
        self.series.push(Series { labels, target, first: i64::MAX, last: i64::MIN, samples: 0, bytes: 0.0, recent: false });
        self.series.len() as u32 - 1
    }

    fn place(&mut self, target: u32, number: u32, column: &Column) -> u32 {
        if let Some(known) = self.places.get(&(target, number)) {
            return *known;
        }
        let labels = column.series(&self.targets[target as usize].1);
        let place = self.insert(labels, Some(target));
        self.places.insert((target, number), place);
        place
    }

    fn loose_place(&mut self, labels: &Labels) -> u32 {
        if let Some(known) = self.loose.get(labels) {
            return *known;
        }
        let place = self.insert(labels.clone(), None);
        self.loose.insert(labels.clone(), place);
        place
    }

    fn add(&mut self, place: u32, found: &Found) {
        if let Some(series) = self.series.get_mut(place as usize).filter(|_| found.count > 0) {
            (series.first, series.last) = (series.first.min(found.first), series.last.max(found.last));
            series.samples += found.count as u64;
            series.bytes += found.bytes;
            series.recent |= found.recent;
        }
    }

    /// Adds the rows of a column from a time on, as far as they lie in the window.
    fn add_values(&mut self, place: u32, times: &[i64], values: &[f64], from: i64, bytes: f64, recent: bool) {
        let rows = within(times, self.start.max(from), self.end);
        let share = bytes * rows.len() as f64 / times.len().max(1) as f64;
        let mut found = Found { first: i64::MAX, last: i64::MIN, count: 0, bytes: share, recent };
        for at in rows.filter(|at| !is_absent(values[*at])) {
            (found.first, found.last) = (found.first.min(times[at]), times[at]);
            found.count += 1;
        }
        self.add(place, &found);
    }

    fn add_block(&mut self, block: &Block, recent: &mut Map<Labels, Vec<i64>>) -> Result<()> {
        if block.span.to < self.start || block.span.from > self.end {
            return Ok(());
        }
        let index = block.index(0)?;
        let targets: Vec<u32> = index.groups.iter().map(|g| self.target(&g.pool, &g.labels)).collect();
        let columns: Vec<u32> = index.columns.iter().map(|c| self.column(c)).collect();
        let mut reader = PackReader::new(block, &index);
        let (mut decoder, mut values) = (Decoder::default(), Vec::new());
        let mut bad = u64::MAX;
        columns_of(&index, &mut |number, of| {
            let place = match &of {
                Of::Row { group, column, .. } => {
                    self.place(targets[*group], columns[*column as usize], &index.columns[*column as usize])
                }
                Of::Series { series, .. } => self.loose_place(&index.series[*series].labels),
                Of::Histograms { series, .. } => self.loose_place(&index.histograms[*series].labels),
            };
            let Some(pack) = pack_of(&index, number).filter(|p| place != UNWANTED && p.offset != bad) else { return Ok(()) };
            let mut read = || {
                let encoded = reader.column(number)?;
                let bytes = f64::from(pack.length) * encoded.len() as f64 / f64::from(pack.inflated.max(1));
                match of {
                    Of::Row { times, .. } => {
                        let whole = self.start <= times[0] && times[times.len() - 1] <= self.end;
                        if whole && count_samples(encoded, times.len())? == times.len() {
                            let (first, last) = (times[0], times[times.len() - 1]);
                            self.add(place, &Found { first, last, count: times.len(), bytes, recent: false });
                        } else {
                            decoder.decode(&mut Cursor::new(encoded), times.len(), &mut values)?;
                            self.add_values(place, times, &values, i64::MIN, bytes, false);
                        }
                    }
                    Of::Series { series, .. } | Of::Histograms { series, .. } => {
                        let all = if matches!(of, Of::Series { .. }) { &index.series } else { &index.histograms };
                        let times = of.read_times(encoded, &mut decoder)?;
                        if let Some(twice) = recent.get_mut(&all[series].labels) {
                            twice.retain(|t| times.binary_search(t).is_err());
                        }
                        self.add_values(place, &times, &vec![0.0; times.len()], i64::MIN, bytes, false);
                    }
                }
                Ok(())
            };
            if let Err(e) = read() {
                bad = pack.offset;
                self.losses.push(format!("{}: {}", block.path().display(), reason(e)));
            }
            Ok(())
        })
    }
}

/// What is in no block yet: told apart by ids, which the catalog explains.
struct Recent<'a> {
    known: &'a Known,
    frontier: i64,
    chunk_files: u64,
    /// The number and the time that a group's next row has at least.
    next: Map<u32, (u64, i64)>,
    /// Where the columns of a set have their series, for a group.
    places: Map<(u32, u32), Arc<[u32]>>,
    /// Samples without rows, by series: times, and bytes.
    loose: Map<u32, (Vec<i64>, f64)>,
}

impl Recent<'_> {
    fn places(&mut self, survey: &mut Survey, group: u32, set: &Arc<ColumnSet>) -> Option<Arc<[u32]>> {
        if let Some(known) = self.places.get(&(group, set.id)) {
            return Some(known.clone());
        }
        let (pool, labels) = self.known.groups.get(&group)?;
        let target = survey.target(pool, labels);
        let places = set.columns.iter().map(|column| {
            let number = survey.column(column);
            survey.place(target, number, column)
        });
        let places: Arc<[u32]> = places.collect();
        self.places.insert((group, set.id), places.clone());
        Some(places)
    }

    fn add_chunks(&mut self, survey: &mut Survey, number: u64, path: &Path) -> Result<()> {
        let mut decoder = Decoder::default();
        let losses = &mut Vec::new();
        chunkfile::examine(path, &mut |at, sealed| {
            let done = sealed.and_then(|sealed| match sealed {
                Sealed::Rows(chunk) => {
                    let next = self.next.entry(chunk.group).or_insert((0, i64::MIN));
                    *next = (next.0.max(chunk.first + u64::from(chunk.rows)), next.1.max(chunk.end));
                    let set = self.known.sets.get(&chunk.set_id).filter(|_| chunk.end >= self.frontier);
                    let Some((set, places)) = set.and_then(|s| Some((s, self.places(survey, chunk.group, s)?))) else {
                        return Ok(());
                    };
                    let opened = chunk.open()?;
                    let wanted: Vec<u32> = (0..set.len() as u32).filter(|c| places[*c as usize] != UNWANTED).collect();
                    let found = opened.slots(&wanted);
                    let share = chunk.mapped().size() as f64 / opened.count.max(1) as f64;
                    opened.read(found.iter().map(|f| f.1), Reading::Mapped, &mut decoder, &mut |at, values| {
                        let place = places[wanted[found[at].0] as usize];
                        survey.add_values(place, &opened.times, values, self.frontier, share, true);
                    })
                }
                Sealed::Series(chunk) => {
                    let compacted = if number <= self.chunk_files { self.frontier } else { i64::MIN };
                    let share = chunk.mapped().size() as f64 / chunk.entries.iter().map(|e| e.count).sum::<usize>().max(1) as f64;
                    let mut entries = chunk.entries.iter();
                    for pack in 0..chunk.pack_count() {
                        for (times, entry) in chunk.read_times(pack, &mut decoder)?.into_iter().zip(entries.by_ref()) {
                            let of = self.loose.entry(entry.series).or_default();
                            let before = of.0.len();
                            of.0.extend(times.into_iter().filter(|t| *t >= compacted));
                            of.1 += share * (of.0.len() - before) as f64;
                        }
                    }
                    Ok(())
                }
            });
            if let Err(e) = done {
                losses.push(format!("{} at byte {at}: {}", path.display(), reason(e)));
            }
            Ok(())
        })?;
        survey.losses.append(losses);
        Ok(())
    }

    fn add_log(&mut self, survey: &mut Survey, path: &Path, rows: &mut Map<u32, (u64, Arc<ColumnSet>, Vec<f64>)>) -> Result<()> {
        let lost = wal::replay(path, &mut |record| {
            match record {
                Record::Row(entry) => {
                    let Some(set) = self.known.sets.get(&entry.set) else { return Ok(()) };
                    let before = rows.remove(&entry.group).filter(|b| b.0 + 1 == entry.number);
                    let mut values = match (entry.full, before) {
                        (true, _) => vec![0.0; set.len()],
                        (false, Some(b)) if Arc::ptr_eq(&b.1, set) => b.2,
                        (false, Some(b)) => widen(&b.2, &b.1, set),
                        (false, None) => return Ok(()),
                    };
                    row::decode(entry.row, &mut values)?;
                    let next = self.next.get(&entry.group).copied().unwrap_or((0, i64::MIN));
                    let wanted = entry.number >= next.0 && entry.time > next.1 && entry.time >= self.frontier;
                    if let Some(places) = self.places(survey, entry.group, set).filter(|_| wanted) {
                        let share = entry.row.len() as f64 / set.len().max(1) as f64;
                        for (place, value) in places.iter().zip(&values) {
                            survey.add_values(*place, &[entry.time], &[*value], i64::MIN, share, true);
                        }
                    }
                    rows.insert(entry.group, (entry.number, set.clone(), values));
                }
                Record::Exemplars { .. } => {}
                Record::Histograms(samples) => {
                    for (series, time, histogram) in samples {
                        let of = self.loose.entry(series).or_default();
                        of.0.push(time);
                        of.1 += histogram.bytes() as f64;
                    }
                }
                Record::Samples(samples) => {
                    for (series, time, _) in samples {
                        let of = self.loose.entry(series).or_default();
                        of.0.push(time);
                        of.1 += 16.0;
                    }
                }
            }
            Ok(())
        })?;
        if lost > 0 {
            survey.losses.push(format!("{}: {lost} bytes cannot be read", path.display()));
        }
        Ok(())
    }
}

/// Told of how far it is: what is being read, how many are done, how many there are; false ends it.
type Tell<'a> = dyn FnMut(&str, usize, usize) -> bool + 'a;

/// What of the folder's blocks is to be read; fails when one goes away meanwhile.
fn blocks(folder: &Path, losses: &mut Vec<String>) -> Result<Vec<Arc<Block>>> {
    let mut found = Vec::new();
    for (number, path) in disk::numbered(folder, "block")? {
        match Block::open(number, &path) {
            Ok(block) => found.push(Arc::new(block)),
            Err(e @ StorageError::File { .. }) => return Err(e),
            Err(e) => losses.push(e.to_string()),
        }
    }
    let gone = replaced(&found);
    found.retain(|b| !gone.contains(&b.number));
    Ok(found)
}

/// Whether a file that cannot be opened is one that a server has deleted since: what it had is elsewhere by now.
fn deleted(error: &StorageError, path: &Path) -> bool {
    matches!(error, StorageError::File { .. }) && !path.exists()
}

pub fn survey(folder: &Path, selectors: Vec<Selector>, start: i64, end: i64, tell: &mut Tell<'_>) -> Result<Survey> {
    let mut survey = Survey { selectors, start, end, ..Survey::default() };
    // Chunk files first: what a server moves to blocks meanwhile is found in these.
    let chunk_files = disk::numbered(&folder.join("chunks"), "chunks")?;
    let segments = disk::numbered(&folder.join("wal"), "wal")?;
    let mut tries = 1..;
    let blocks = loop {
        survey.losses.clear();
        match blocks(&folder.join("blocks"), &mut survey.losses) {
            Err(_) if tries.next() < Some(TRIES) => {}
            other => break other?,
        }
    };
    let path = folder.join("catalog");
    let known = catalog::read(&path, &frame::read(&path)?, &ColumnSets::default()).or_else(|e| match e {
        StorageError::Corrupt { .. } => {
            survey.losses.push(e.to_string());
            Ok(Known::default())
        }
        other => Err(other),
    })?;
    let mut recent = Recent {
        known: &known,
        frontier: blocks.iter().map(|b| b.span.end).max().unwrap_or(i64::MIN),
        chunk_files: blocks.iter().map(|b| b.span.chunk_files).max().unwrap_or(0),
        next: Map::default(),
        places: Map::default(),
        loose: Map::default(),
    };
    let mut rows = Map::default();
    let total = chunk_files.len() + segments.len() + blocks.len();
    let files = chunk_files.iter().map(|f| (true, f)).chain(segments.iter().map(|f| (false, f)));
    for (done, (sealed, (number, path))) in files.enumerate() {
        if !tell(if sealed { "chunk file" } else { "log segment" }, done, total) {
            return Ok(survey);
        }
        let read = match sealed {
            true => recent.add_chunks(&mut survey, *number, path),
            false => recent.add_log(&mut survey, path, &mut rows),
        };
        match read {
            Err(e) if deleted(&e, path) => {}
            Err(e @ StorageError::Corrupt { .. }) => survey.losses.push(e.to_string()),
            other => other?,
        }
    }
    let mut times: Map<Labels, Vec<i64>> = Map::default();
    let mut bytes: Map<Labels, f64> = Map::default();
    // A series that paused may have had two ids.
    for (id, (found, size)) in recent.loose {
        if let Some(labels) = known.series.get(&id) {
            times.entry(labels.clone()).or_default().extend(found);
            *bytes.entry(labels.clone()).or_default() += size;
        }
    }
    for (labels, found) in &mut times {
        found.sort_unstable();
        found.dedup();
        if let Some(size) = bytes.get_mut(labels) {
            *size /= found.len().max(1) as f64;
        }
    }
    for (done, block) in blocks.iter().enumerate() {
        if !tell("block", chunk_files.len() + segments.len() + done, total) {
            return Ok(survey);
        }
        if let Err(e) = survey.add_block(block, &mut times) {
            survey.losses.push(format!("{}: {}", block.path().display(), reason(e)));
        }
        block.cool(i64::MAX);
    }
    for (labels, times) in times {
        let (place, share) = (survey.loose_place(&labels), bytes.get(&labels).copied().unwrap_or(0.0));
        let total = share * times.len() as f64;
        survey.add_values(place, &times, &vec![0.0; times.len()], i64::MIN, total, true);
    }
    survey.unite();
    Ok(survey)
}

impl Survey {
    fn label_names(&self) -> Vec<String> {
        let names = self.series.iter().flat_map(|s| s.labels.iter()).map(|pair| &pair.0);
        let names: HashSet<&Str, FxBuildHasher> = names.collect();
        let mut names: Vec<String> = names.into_iter().map(|n| n.to_string()).collect();
        names.sort_unstable();
        names
    }

    /// A series is its labels, whatever gave them: one that two targets have is one.
    fn unite(&mut self) {
        let mut places: Map<Labels, usize> = Map::default();
        let mut united: Vec<Series> = Vec::with_capacity(self.series.len());
        for series in std::mem::take(&mut self.series).into_iter().filter(|s| s.samples > 0) {
            let next = united.len();
            let at = *places.entry(series.labels.clone()).or_insert(next);
            if at == next {
                united.push(series);
                continue;
            }
            let one = &mut united[at];
            (one.first, one.last) = (one.first.min(series.first), one.last.max(series.last));
            one.samples += series.samples;
            one.bytes += series.bytes;
            one.recent |= series.recent;
        }
        united.sort_by(|a, b| a.labels.cmp(&b.labels));
        self.series = united;
    }
}

#[pyclass(frozen, name = "Survey", module = "bellbuoy._core")]
struct PySurvey {
    #[pyo3(get)]
    labels: Py<LabelSets>,
    #[pyo3(get)]
    target: Py<PyArray1<i64>>,
    #[pyo3(get)]
    first: Py<PyArray1<i64>>,
    #[pyo3(get)]
    last: Py<PyArray1<i64>>,
    #[pyo3(get)]
    samples: Py<PyArray1<i64>>,
    #[pyo3(get)]
    bytes: Py<PyArray1<f64>>,
    #[pyo3(get)]
    recent: Py<PyArray1<bool>>,
    #[pyo3(get)]
    pools: Vec<String>,
    #[pyo3(get)]
    targets: Py<LabelSets>,
    #[pyo3(get)]
    label_names: Vec<String>,
    #[pyo3(get)]
    losses: Vec<String>,
}

#[pyfunction]
#[pyo3(signature = (path, lists, start, end, *, progress = None))]
fn survey_series(
    py: Python<'_>,
    path: std::path::PathBuf,
    lists: Vec<MatcherList>,
    start: i64,
    end: i64,
    progress: Option<Py<PyAny>>,
) -> PyResult<PySurvey> {
    let selectors = selectors(lists)?;
    let mut failed = None;
    let mut tell = |what: &str, done: usize, all: usize| {
        if let Some(progress) = &progress {
            failed = Python::attach(|py| progress.call1(py, (what, done, all)).err());
        }
        failed.is_none()
    };
    let found = py.detach(|| survey(&path, selectors, start, end, &mut tell))?;
    if let Some(error) = failed {
        return Err(error);
    }
    let of = |value: fn(&Series) -> i64| found.series.iter().map(value).collect::<Vec<i64>>().into_pyarray(py).unbind();
    Ok(PySurvey {
        target: of(|s| s.target.map_or(-1, i64::from)),
        first: of(|s| s.first),
        last: of(|s| s.last),
        samples: of(|s| s.samples as i64),
        bytes: found.series.iter().map(|s| s.bytes).collect::<Vec<f64>>().into_pyarray(py).unbind(),
        recent: found.series.iter().map(|s| s.recent).collect::<Vec<bool>>().into_pyarray(py).unbind(),
        pools: found.targets.iter().map(|t| t.0.to_string()).collect(),
        targets: Py::new(py, LabelSets::new(found.targets.iter().map(|t| t.1.clone()).collect()))?,
        labels: Py::new(py, LabelSets::new(found.series.iter().map(|s| s.labels.clone()).collect()))?,
        label_names: found.label_names(),
        losses: found.losses,
    })
}

pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<PySurvey>()?;
    m.add_function(wrap_pyfunction!(survey_series, m)?)
}
