//! Files of a data folder as they lie: what is in them, what of it is whole, and where it is not.
//!
//! A look and nothing but: no lock is taken, nothing is written, renamed or deleted, so it may be had of a folder whose
//! server is at work as of one that no server opens any more. Blocks never change; all else is read as a copy, since its
//! owner may add to it or cut its end meanwhile. Beside a server the end of a file may be half written: who asks looks again.
//! Each file is read alone; whether ids of one are known to another is left to who has the facts of both.

use std::path::Path;
use std::sync::Arc;

use hashbrown::HashSet;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::block::{Block, Entry, Index, Pack, PackReader};
use super::blockseries::read_entry;
use super::catalog;
use super::chunk::Reading;
use super::chunkfile::{self, Sealed};
use super::codec::Decoder;
use super::columns::ColumnSets;
use super::frame::{self, Frames, FRAME_BYTES, HEADER_BYTES};
use super::tombstones;
use super::varint::Cursor;
use super::wal::{self, Record};
use super::{is_absent, Result, StorageError};
use crate::histogram::Histogram;

/// Metrics that a damage names; there may be hundreds in a pack.
const NAMED_METRICS: usize = 3;

/// What a file is and has.
#[derive(Default)]
pub struct Facts {
    pub numbers: Vec<(&'static str, i64)>,
    /// Ids that it refers to, or, of a catalog, that it knows.
    pub ids: [HashSet<u32>; 3],
    /// Where something is not whole, and what.
    pub damage: Vec<(u64, String)>,
}

const IDS: [&str; 3] = ["groups", "sets", "series"];
const GROUPS: usize = 0;
const SETS: usize = 1;
const SERIES: usize = 2;

impl Facts {
    fn lost(&mut self, at: u64, reason: impl Into<String>) {
        self.damage.push((at, reason.into()));
    }
}

/// The times of the first and the last of some samples.
struct Times(i64, i64);

impl Times {
    fn none() -> Times {
        Times(i64::MAX, i64::MIN)
    }

    fn cover(&mut self, first: i64, last: i64) {
        (self.0, self.1) = (self.0.min(first), self.1.max(last));
    }

    fn put(&self, facts: &mut Facts) {
        if self.0 <= self.1 {
            facts.numbers.extend([("first", self.0), ("last", self.1)]);
        }
    }
}

/// The reason alone: who asks knows the file.
pub fn reason(error: StorageError) -> String {
    match error {
        StorageError::Corrupt { reason, .. } => reason,
        other => other.to_string(),
    }
}

/// The facts of a file; `deep` reads all of it and not just its index or heads. Fails when the file cannot be read at all.
pub fn examine(kind: &str, path: &Path, deep: bool) -> Result<Facts> {
    let mut facts = Facts::default();
    let done = match kind {
        "block" => block(path, deep, &mut facts),
        "chunks" => chunks(path, deep, &mut facts),
        "log" => log(path, &mut facts),
        "catalog" => known(path, &mut facts),
        _ => deletions(path, &mut facts),
    };
    match done {
        Err(e @ (StorageError::Corrupt { .. } | StorageError::Newer { .. })) => facts.lost(0, reason(e)),
        other => other?,
    }
    Ok(facts)
}

/// What one column of a block belongs to.
pub enum Of<'a> {
    Row { group: usize, column: u32, times: &'a [i64] },
    Series { series: usize, entry: &'a Entry },
    Histograms { series: usize, entry: &'a Entry },
}

impl Of<'_> {
    /// The times of an entry of a series that does not come in rows.
    pub fn read_times(&self, bytes: &[u8], decoder: &mut Decoder) -> Result<Vec<i64>> {
        Ok(match self {
            Of::Row { times, .. } => times.to_vec(),
            Of::Series { entry, .. } => read_entry::<f64>(bytes, entry, decoder)?.into_iter().map(|s| s.0).collect(),
            Of::Histograms { entry, .. } => {
                read_entry::<Arc<Histogram>>(bytes, entry, decoder)?.into_iter().map(|s| s.0).collect()
            }
        })
    }
}

/// Gives each column of a block, in the order of their numbers.
pub fn columns_of(index: &Index, each: &mut dyn FnMut(u64, Of<'_>) -> Result<()>) -> Result<()> {
    for (m, (range, _)) in index.metrics.iter().enumerate() {
        for (group, mut number) in index.bases(m, &index.places(m)).into_iter().enumerate() {
            let of = &index.groups[group];
            let set = &index.sets[of.set as usize];
            for &column in &set[Index::in_set(set, range)] {
                for run in &of.runs {
                    each(number, Of::Row { group, column, times: &run.times })?;
                    number += 1;
                }
            }
        }
    }
    for (series, mut number) in index.series_bases().into_iter().enumerate() {
        for entry in &index.series[series].entries {
            each(number, Of::Series { series, entry })?;
            number += 1;
        }
    }
    for (series, mut number) in index.histogram_bases().into_iter().enumerate() {
        for entry in &index.histograms[series].entries {
            each(number, Of::Histograms { series, entry })?;
            number += 1;
        }
    }
    Ok(())
}

/// The pack that has a column.
pub fn pack_of(index: &Index, number: u64) -> Option<&Pack> {
    let at = index.packs.partition_point(|p| p.first <= number).checked_sub(1)?;
    index.packs.get(at).filter(|p| number - p.first < u64::from(p.columns))
}

fn block(path: &Path, deep: bool, facts: &mut Facts) -> Result<()> {
    let block = Block::open(0, path)?;
    let span = &block.span;
    facts.numbers.extend([("start", span.start), ("end", span.end), ("samples", span.samples as i64)]);
    Times(span.from, span.to).put(facts);
    facts.numbers.push(("index_bytes", block.index_size() as i64));
    let index = block.index(0)?;
    let in_rows: usize = index.groups.iter().map(|g| index.sets[g.set as usize].len()).sum();
    let series = in_rows + index.series.len() + index.histograms.len();
    facts.numbers.extend([
        ("series", series as i64),
        ("metrics", index.metrics.len() as i64),
        ("packs", index.packs.len() as i64),
    ]);
    if !deep {
        return Ok(());
    }
    let (mut reader, mut decoder, mut values) = (PackReader::new(&block, &index), Decoder::default(), Vec::new());
    let (mut samples, mut bad) = (0u64, HashSet::new());
    columns_of(&index, &mut |number, of| {
        let Some(pack) = pack_of(&index, number) else {
            if bad.insert(u64::MAX) {
                facts.lost(0, "the index has columns that are in no pack");
            }
            return Ok(());
        };
        if bad.contains(&pack.offset) {
            return Ok(());
        }
        let read = reader.column(number).and_then(|bytes| match of {
            Of::Row { times, .. } => {
                decoder.decode(&mut Cursor::new(bytes), times.len(), &mut values)?;
                Ok(values.iter().filter(|v| !is_absent(**v)).count())
            }
            other => Ok(other.read_times(bytes, &mut decoder)?.len()),
        });
        match read {
            Ok(count) => samples += count as u64,
            Err(_) => {
                bad.insert(pack.offset);
                facts.lost(
                    pack.offset,
                    format!("a pack of {} bytes is damaged: samples of {}", pack.length, metrics_in(&index, pack)),
                );
            }
        }
        Ok(())
    })?;
    if bad.is_empty() && samples != span.samples {
        facts.lost(0, format!("it says that it has {} samples, and has {samples}", span.samples));
    }
    Ok(())
}

fn metrics_in(index: &Index, pack: &Pack) -> String {
    let end = pack.first + u64::from(pack.columns);
    let mut names: Vec<&str> = Vec::new();
    for (m, (range, first)) in index.metrics.iter().enumerate() {
        let next = index.metrics.get(m + 1).map_or(index.series_first, |n| n.1);
        if *first < end && next > pack.first {
            names.push(index.columns[range.start as usize].name());
        }
    }
    let without_rows = index.series.iter().zip(index.series_bases());
    for (series, first) in without_rows.chain(index.histograms.iter().zip(index.histogram_bases())) {
        if first < end && first + series.entries.len() as u64 > pack.first && names.last() != Some(&series.name()) {
            names.push(series.name());
        }
    }
    let more = names.len().saturating_sub(NAMED_METRICS);
    names.truncate(NAMED_METRICS);
    let named = names.join(", ");
    if more > 0 {
        format!("{named} and {more} more metrics")
    } else {
        named
    }
}

fn chunks(path: &Path, deep: bool, facts: &mut Facts) -> Result<()> {
    let (mut count, mut samples, mut times, mut decoder) = (0i64, 0i64, Times::none(), Decoder::default());
    chunkfile::examine(path, &mut |at, sealed| {
        let counted = sealed.and_then(|sealed| {
            count += 1;
            match sealed {
                Sealed::Rows(chunk) => {
                    facts.ids[GROUPS].insert(chunk.group);
                    facts.ids[SETS].insert(chunk.set_id);
                    times.cover(chunk.start, chunk.end);
                    let opened = chunk.open()?;
                    if !deep {
                        return Ok(opened.count * chunk.rows as usize);
                    }
                    let mut found = 0;
                    opened.read(0..opened.count, Reading::Mapped, &mut decoder, &mut |_, values| {
                        found += values.iter().filter(|v| !is_absent(**v)).count();
                    })?;
                    Ok(found)
                }
                Sealed::Series(chunk) => {
                    facts.ids[SERIES].extend(chunk.entries.iter().map(|e| e.series));
                    times.cover(chunk.start, chunk.end);
                    if deep {
                        (0..chunk.pack_count()).try_for_each(|p| chunk.read_times(p, &mut decoder).map(|_| ()))?;
                    }
                    Ok(chunk.entries.iter().map(|e| e.count).sum())
                }
            }
        });
        match counted {
            Ok(found) => samples += found as i64,
            Err(e) => facts.lost(at, reason(e)),
        }
        Ok(())
    })?;
    facts.numbers.extend([("chunks", count), ("samples", samples)]);
    times.put(facts);
    Ok(())
}

/// Gives each whole frame to `each`; what lies between them, or is refused, is damage. Returns how many were taken.
fn frames(bytes: &[u8], facts: &mut Facts, each: &mut dyn FnMut(&[u8], &mut Facts) -> Result<()>) -> i64 {
    let (mut at, mut whole) = (HEADER_BYTES, 0);
    let gap = |from: usize, to: usize, facts: &mut Facts| {
        if from < to {
            facts.lost(from as u64, format!("{} bytes are no whole frame", to - from));
        }
    };
    for (start, payload) in Frames::new(bytes) {
        gap(at, start - FRAME_BYTES, facts);
        at = start + payload.len();
        match each(payload, facts) {
            Ok(()) => whole += 1,
            Err(e) => facts.lost((start - FRAME_BYTES) as u64, reason(e)),
        }
    }
    gap(at, bytes.len(), facts);
    whole
}

fn log(path: &Path, facts: &mut Facts) -> Result<()> {
    let bytes = frame::read(path)?;
    frame::check_header(frame::WAL, &bytes, path)?;
    let (mut rows, mut samples, mut times) = (0, 0, Times::none());
    let whole = frames(&bytes, facts, &mut |payload, facts| {
        wal::replay_frame(payload, &mut |record| {
            match record {
                Record::Row(row) => {
                    rows += 1;
                    facts.ids[GROUPS].insert(row.group);
                    facts.ids[SETS].insert(row.set);
                    times.cover(row.time, row.time);
                }
                Record::Histograms(all) => {
                    samples += all.len() as i64;
                    all.iter().for_each(|(series, time, _)| {
                        facts.ids[SERIES].insert(*series);
                        times.cover(*time, *time);
                    });
                }
                // They name their series in full, and are no samples.
                Record::Exemplars { .. } => {}
                Record::Samples(all) => {
                    samples += all.len() as i64;
                    all.iter().for_each(|(series, time, _)| {
                        facts.ids[SERIES].insert(*series);
                        times.cover(*time, *time);
                    });
                }
            }
            Ok(())
        })
    });
    facts.numbers.extend([("frames", whole), ("rows", rows), ("samples", samples)]);
    times.put(facts);
    Ok(())
}

fn known(path: &Path, facts: &mut Facts) -> Result<()> {
    let bytes = frame::read(path)?;
    let known = catalog::read(path, &bytes, &ColumnSets::default())?;
    let whole = frames(&bytes, facts, &mut |_, _| Ok(()));
    let between = facts.damage.len();
    if known.lost > 0 && between == 0 {
        facts.lost(0, format!("{} bytes of entries cannot be understood", known.lost));
    }
    let counts = [known.groups.len(), known.sets.len(), known.series.len()];
    facts.numbers.push(("frames", whole));
    facts.numbers.extend(IDS.into_iter().zip(counts.map(|c| c as i64)));
    facts.ids = [known.groups.into_keys().collect(), known.sets.into_keys().collect(), known.series.into_keys().collect()];
    Ok(())
}

fn deletions(path: &Path, facts: &mut Facts) -> Result<()> {
    let bytes = frame::read(path)?;
    frame::check_header(frame::TOMBSTONES, &bytes, path)?;
    let mut known = tombstones::Known::default();
    let whole = frames(&bytes, facts, &mut |payload, _| tombstones::read(payload, &mut known));
    facts.numbers.extend([("frames", whole), ("series", known.len() as i64)]);
    Ok(())
}

#[pyfunction]
#[pyo3(signature = (kind, path, *, deep = false))]
fn inspect_file<'py>(py: Python<'py>, kind: &str, path: std::path::PathBuf, deep: bool) -> PyResult<Bound<'py, PyDict>> {
    if !["block", "chunks", "log", "catalog", "tombstones"].contains(&kind) {
        return Err(PyValueError::new_err(format!("BUG: there are no files of kind {kind:?}")));
    }
    let facts = py.detach(|| examine(kind, &path, deep))?;
    let (out, ids) = (PyDict::new(py), PyDict::new(py));
    facts.numbers.into_iter().try_for_each(|(name, value)| out.set_item(name, value))?;
    for (name, of) in IDS.into_iter().zip(facts.ids) {
        ids.set_item(name, of.into_iter().collect::<std::collections::HashSet<u32>>())?;
    }
    out.set_item("ids", ids)?;
    out.set_item("damage", facts.damage)?;
    Ok(out)
}

pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(inspect_file, m)?)
}
