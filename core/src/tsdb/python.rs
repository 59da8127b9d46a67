//! The storage as Python holds it. Shapes, units and errors stand in `_core.pyi`.

use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::Arc;
use std::time::Duration;

use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1};
use parking_lot::Mutex;
use pyo3::exceptions::{PyKeyError, PyOverflowError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::block::Block;
use super::columns::Column;
use super::compaction::{BLOCK_MILLISECONDS, SETTLED_MILLISECONDS};
use super::exemplars::Exemplar;
use super::extract::Extract;
use super::found::Selected;
use super::group::Group;
use super::matcher::Selector;
use super::select;
use super::storage::{Options, Storage};
use super::{StorageError, ABSENT_BITS, NAN_BITS, STALE_BITS};
use crate::histogram::python::{PyHistogram, PyHistograms};
use crate::labels::{LabelSets, Labels, Strings};

mod exception {
    use pyo3::create_exception;
    use pyo3::exceptions::PyException;
    create_exception!(bellbuoy._core, StorageError, PyException, "The data folder cannot be used, or a write failed.");
}

impl From<StorageError> for PyErr {
    fn from(error: StorageError) -> PyErr {
        match error {
            StorageError::TooMany { .. } => PyOverflowError::new_err(error.to_string()),
            StorageError::Pattern { .. } => PyValueError::new_err(error.to_string()),
            _ => exception::StorageError::new_err(error.to_string()),
        }
    }
}

pub(super) type MatcherList = Vec<(String, String, String)>;
/// An exemplar: its labels, value and time.
type Told<'py> = (Bound<'py, PyDict>, f64, i64);

fn selector(matchers: MatcherList) -> PyResult<Selector> {
    if let Some((name, operator, _)) = matchers.iter().find(|m| !["=", "!=", "=~", "!~"].contains(&&*m.1)) {
        return Err(PyValueError::new_err(format!("matcher of {name:?} has operator {operator:?}: use =, !=, =~ or !~")));
    }
    Ok(Selector::new(matchers)?)
}

pub(super) fn selectors(lists: Vec<MatcherList>) -> PyResult<Vec<Selector>> {
    // No selector at all selects everything.
    let lists = if lists.is_empty() { vec![Vec::new()] } else { lists };
    lists.into_iter().map(selector).collect()
}

#[pyclass(frozen, name = "Storage", module = "bellbuoy._core")]
pub struct PyStorage {
    pub storage: Arc<Storage>,
}

#[pyclass(frozen, module = "bellbuoy._core")]
struct Selection {
    #[pyo3(get)]
    labels: Py<LabelSets>,
    #[pyo3(get)]
    offsets: Py<PyArray1<i64>>,
    #[pyo3(get)]
    timestamps: Py<PyArray1<i64>>,
    #[pyo3(get)]
    values: Py<PyArray1<f64>>,
    #[pyo3(get)]
    histograms: Py<PyHistograms>,
}

impl Selection {
    fn new(py: Python<'_>, found: Selected) -> PyResult<Selection> {
        Ok(Selection {
            labels: Py::new(py, LabelSets::new(found.labels))?,
            offsets: found.offsets.into_pyarray(py).unbind(),
            timestamps: found.times.into_pyarray(py).unbind(),
            values: found.values.into_pyarray(py).unbind(),
            histograms: Py::new(py, PyHistograms(found.histograms))?,
        })
    }
}

impl PyStorage {
    fn extract(&self, number: u64) -> PyResult<Extract> {
        let found = self.storage.inner.extract(number)?;
        found.ok_or_else(|| PyKeyError::new_err(format!("there is no block {number}, or no more: blocks are merged")))
    }
}

fn seconds(name: &str, value: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(value)
        .map_err(|_| PyValueError::new_err(format!("{name} is {value}: give seconds, not negative")))
}

#[pymethods]
impl PyStorage {
    #[new]
    #[allow(clippy::too_many_arguments)] // each a keyword in Python
    #[pyo3(signature = (path, *, retention_seconds = 15.0 * 86400.0, retention_bytes = 0, commit_seconds = 1.0, chunk_rows = 120, exemplars = 100_000, progress = None))]
    fn new(
        py: Python<'_>,
        path: PathBuf,
        retention_seconds: f64,
        retention_bytes: u64,
        commit_seconds: f64,
        chunk_rows: usize,
        exemplars: usize,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<PyStorage> {
        if !(1..=super::chunk::ROWS_LIMIT).contains(&chunk_rows) {
            return Err(PyValueError::new_err(format!("chunk_rows is {chunk_rows}: choose 1 to {}", super::chunk::ROWS_LIMIT)));
        }
        let options = Options {
            retention: seconds("retention_seconds", retention_seconds)?,
            retention_bytes,
            commit_interval: seconds("commit_seconds", commit_seconds)?,
            chunk_rows,
            exemplars,
        };
        let mut failed = None;
        let mut tell = |what: &str, done: usize, all: usize| {
            let Some(progress) = progress.as_ref().filter(|_| failed.is_none()) else { return };
            failed = Python::attach(|py| progress.call1(py, (what, done, all)).err());
        };
        let storage = py.detach(|| Storage::open(&path, options, &mut tell))?;
        match failed {
            Some(error) => Err(error),
            None => Ok(PyStorage { storage: Arc::new(storage) }),
        }
    }

    #[pyo3(signature = (matchers, start, end, *, max_samples = 0))]
    fn select(&self, py: Python<'_>, matchers: MatcherList, start: i64, end: i64, max_samples: usize) -> PyResult<Selection> {
        let selector = selector(matchers)?;
        let found = py.detach(|| select::select(&self.storage.inner, &selector, start, end, max_samples))?;
        Selection::new(py, found)
    }

    /// All blocks, as `_core.pyi` has them.
    fn blocks<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let dict = |block: Arc<Block>| {
            let (out, span) = (PyDict::new(py), &block.span);
            for (name, value) in [("start", span.start), ("end", span.end), ("first", span.from), ("last", span.to)] {
                out.set_item(name, value)?;
            }
            out.set_item("number", block.number)?;
            out.set_item("samples", span.samples)?;
            out.set_item("sources", span.sources.clone())?;
            Ok(out)
        };
        self.storage.inner.blocks().into_iter().map(dict).collect()
    }

    fn block_metrics(&self, py: Python<'_>, number: u64) -> PyResult<Vec<String>> {
        py.detach(|| Ok(self.extract(number)?.metrics()))
    }

    fn block_label_names(&self, py: Python<'_>, number: u64) -> PyResult<Vec<String>> {
        py.detach(|| Ok(self.extract(number)?.label_names()))
    }

    #[pyo3(signature = (number, name, start, end, *, max_samples = 0))]
    fn block_select(
        &self,
        py: Python<'_>,
        number: u64,
        name: &str,
        start: i64,
        end: i64,
        max_samples: usize,
    ) -> PyResult<Selection> {
        let found =
            py.detach(|| PyResult::Ok(self.extract(number)?.select(&self.storage.inner, name, start, end, max_samples)?))?;
        Selection::new(py, found)
    }

    #[pyo3(name = "series")]
    fn all_series(&self, py: Python<'_>, selectors_: Vec<MatcherList>, start: i64, end: i64) -> PyResult<LabelSets> {
        let selectors = selectors(selectors_)?;
        Ok(LabelSets::new(py.detach(|| select::series(&self.storage.inner, &selectors, start, end))?))
    }

    fn label_names(&self, py: Python<'_>, selectors_: Vec<MatcherList>, start: i64, end: i64) -> PyResult<Vec<String>> {
        let selectors = selectors(selectors_)?;
        let names = py.detach(|| select::label_values(&self.storage.inner, None, &selectors, start, end))?;
        Ok(names.iter().map(|n| n.to_string()).collect())
    }

    fn label_values(
        &self,
        py: Python<'_>,
        name: String,
        selectors_: Vec<MatcherList>,
        start: i64,
        end: i64,
    ) -> PyResult<Vec<String>> {
        let selectors = selectors(selectors_)?;
        let values = py.detach(|| select::label_values(&self.storage.inner, Some(&name), &selectors, start, end))?;
        Ok(values.iter().map(|v| v.to_string()).collect())
    }

    fn exemplars<'py>(
        &self,
        py: Python<'py>,
        selectors_: Vec<MatcherList>,
        start: i64,
        end: i64,
    ) -> PyResult<Vec<(Bound<'py, PyDict>, Vec<Told<'py>>)>> {
        let selectors = selectors(selectors_)?;
        let found = py.detach(|| self.storage.inner.exemplars.select(&selectors, start, end));
        let told = |one: &Exemplar| -> PyResult<Told<'py>> { Ok((one.labels.to_dict(py)?, one.value, one.time_ms)) };
        found.iter().map(|(series, held)| Ok((series.to_dict(py)?, held.iter().map(told).collect::<PyResult<_>>()?))).collect()
    }

    fn append(
        &self,
        py: Python<'_>,
        labels: &LabelSets,
        timestamps: PyReadonlyArray1<'_, i64>,
        values: PyReadonlyArray1<'_, f64>,
    ) -> PyResult<u64> {
        let (times, values) = (timestamps.as_array(), values.as_array());
        if times.len() != labels.sets.len() || values.len() != labels.sets.len() {
            let text = format!(
                "{} label sets, {} timestamps and {} values: give one of each for a sample",
                labels.sets.len(),
                times.len(),
                values.len()
            );
            return Err(PyValueError::new_err(text));
        }
        let samples: Vec<(Labels, i64, f64)> =
            labels.sets.iter().zip(times.iter().zip(values)).map(|(l, (t, v))| (l.clone(), *t, *v)).collect();
        Ok(py.detach(|| self.storage.append_samples(&samples))?)
    }

    fn append_histograms(
        &self,
        py: Python<'_>,
        labels: &LabelSets,
        timestamps: PyReadonlyArray1<'_, i64>,
        histograms: Vec<PyRef<'_, PyHistogram>>,
    ) -> PyResult<u64> {
        let times = timestamps.as_array();
        if times.len() != labels.sets.len() || histograms.len() != labels.sets.len() {
            let (sets, times, histograms) = (labels.sets.len(), times.len(), histograms.len());
            return Err(PyValueError::new_err(format!(
                "{sets} label sets, {times} timestamps and {histograms} histograms: give one of each for a sample"
            )));
        }
        let samples: Vec<_> =
            labels.sets.iter().zip(times.iter().zip(&histograms)).map(|(l, (t, h))| (l.clone(), *t, h.0.clone())).collect();
        Ok(py.detach(|| self.storage.append_histograms(&samples))?)
    }

    #[pyo3(signature = (name, labels = None))]
    fn writer(&self, name: &str, labels: Option<&Bound<'_, PyAny>>) -> PyResult<Writer> {
        let target = labels.map_or_else(|| Ok(Labels::empty()), |l| Labels::from_mapping(l, &mut Strings::default()))?;
        let group = self.storage.group(name, &target)?;
        Ok(Writer { storage: self.storage.clone(), group, columns: Mutex::default() })
    }

    fn flush(&self, py: Python<'_>) -> PyResult<()> {
        Ok(py.detach(|| self.storage.flush())?)
    }

    fn seal(&self, py: Python<'_>) -> PyResult<()> {
        Ok(py.detach(|| self.storage.inner.seal_all())?)
    }

    /// What a background pass does, now: seals what is idle, cuts the log, retires what is past its time.
    fn tidy(&self, py: Python<'_>) -> PyResult<()> {
        Ok(py.detach(|| self.storage.inner.tidy())?)
    }

    /// Moves to blocks what is settled, or all there is, and merges blocks; returns how many it wrote.
    #[pyo3(signature = (*, everything = false))]
    fn compact(&self, py: Python<'_>, everything: bool) -> PyResult<usize> {
        let settled = if everything { -BLOCK_MILLISECONDS } else { SETTLED_MILLISECONDS };
        Ok(py.detach(|| self.storage.inner.compact(settled))?)
    }

    /// What was damaged or left out when the folder was opened, in words.
    fn losses(&self) -> Vec<String> {
        self.storage.inner.losses.lock().clone()
    }

    /// Why the last background commit failed; None when it did not.
    fn last_error(&self) -> Option<String> {
        self.storage.inner.last_error.lock().clone()
    }

    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let inner = &self.storage.inner;
        let (mut live, mut open_bytes, mut chunks) = (0, 0, 0);
        let groups = inner.groups.read().all.clone();
        py.detach(|| {
            for group in &groups {
                let (series, bytes, sealed) = group.size();
                live += series;
                open_bytes += bytes;
                chunks += sealed;
            }
        });
        let (sets, columns) = inner.sets.sweep();
        let (wal_bytes, segments, chunk_bytes, files, catalog_bytes) = inner.disk();
        let blocks: Vec<u64> = inner.layout.read().blocks.iter().map(|b| b.bytes()).collect();
        let counters = &inner.counters;
        let exemplars = inner.exemplars.size();
        let out = PyDict::new(py);
        for (name, value) in [
            ("series", (live + inner.loose.count()) as u64),
            ("loose_series", inner.loose.count() as u64),
            ("groups", groups.len() as u64),
            ("column_sets", sets as u64),
            ("columns", columns as u64),
            ("chunks", chunks as u64),
            ("open_bytes", open_bytes as u64),
            ("open_loose_samples", inner.loose.open_samples()),
            ("samples_appended", counters.samples.load(Relaxed)),
            ("samples_duplicate", counters.duplicates.load(Relaxed)),
            ("rows_out_of_order", counters.rejected.load(Relaxed)),
            ("exemplars", exemplars.exemplars as u64),
            ("exemplars_limit", inner.exemplars.limit() as u64),
            ("exemplars_series", exemplars.series as u64),
            ("exemplars_oldest_timestamp_seconds", exemplars.oldest_seconds.max(0) as u64),
            ("exemplars_appended", inner.exemplars.appended.load(Relaxed)),
            ("exemplars_out_of_order", inner.exemplars.out_of_order.load(Relaxed)),
            ("wal_bytes", wal_bytes),
            ("wal_bytes_written", inner.wal.bytes_written.load(Relaxed)),
            ("wal_segments", segments as u64),
            ("wal_waiting_bytes", inner.wal.waiting() as u64),
            ("chunk_bytes", chunk_bytes),
            ("chunk_files", files as u64),
            ("blocks", blocks.len() as u64),
            ("block_bytes", blocks.iter().sum::<u64>()),
            ("catalog_bytes", catalog_bytes),
            ("commits", counters.commits.load(Relaxed)),
            ("commit_failures", counters.commit_failures.load(Relaxed)),
            ("lost_bytes", counters.lost_bytes.load(Relaxed)),
        ] {
            out.set_item(name, value)?;
        }
        Ok(out)
    }

    /// The times of the first and the last sample; None when there is none.
    fn time_range(&self, py: Python<'_>) -> Option<(i64, i64)> {
        py.detach(|| self.storage.inner.time_range())
    }

    /// Hides the samples with start <= t <= end of the series that match any of the selectors; returns how many series.
    #[pyo3(name = "delete")]
    fn delete_series(&self, py: Python<'_>, lists: Vec<MatcherList>, start: i64, end: i64) -> PyResult<usize> {
        if lists.is_empty() {
            return Err(PyValueError::new_err("cannot delete without a selector: give one, such as {job=\"x\"}"));
        }
        let selectors = selectors(lists)?;
        Ok(py.detach(|| self.storage.inner.delete(&selectors, start, end))?)
    }

    /// Writes the blocks that hold deleted samples anew, without them; returns how many.
    fn clean(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(py.detach(|| self.storage.inner.clean())?)
    }

    /// All that was appended until now as a data folder of its own, on the same disk.
    fn snapshot(&self, py: Python<'_>, target: PathBuf) -> PyResult<()> {
        Ok(py.detach(|| self.storage.inner.snapshot(&target))?)
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        Ok(py.detach(|| self.storage.close())?)
    }
}

/// The columns of the last append, so that an equal result finds its set, and the same one without comparing.
type LastColumns = Option<(Py<LabelSets>, Arc<super::columns::ColumnSet>, Vec<u32>)>;

#[pyclass(frozen, module = "bellbuoy._core")]
struct Writer {
    storage: Arc<Storage>,
    group: Arc<Group>,
    columns: Mutex<LastColumns>,
}

#[pymethods]
impl Writer {
    fn append(
        &self,
        py: Python<'_>,
        timestamp: i64,
        labels: &Bound<'_, LabelSets>,
        values: PyReadonlyArray1<'_, f64>,
    ) -> PyResult<u64> {
        let (given, labels, values) = (labels.clone().unbind(), labels.get(), values.as_array());
        if values.len() != labels.sets.len() {
            return Err(PyValueError::new_err(format!(
                "{} values for {} label sets: give one for each",
                values.len(),
                labels.sets.len()
            )));
        }
        let stored = py.detach(|| {
            let mut last = self.columns.lock();
            if last.as_ref().is_none_or(|l| !l.0.is(&given) && l.0.get().sets != labels.sets) {
                let columns = labels.sets.iter().map(|l| Column { own: l.clone(), dropped: Box::new([]) }).collect();
                let (set, places) = self.storage.intern_columns(columns)?;
                *last = Some((given, set, places));
            }
            let Some((_, set, places)) = last.as_ref() else {
                return Ok(0);
            };
            let mut row = vec![f64::from_bits(ABSENT_BITS); set.len()];
            for (at, value) in places.iter().zip(values) {
                let slot = &mut row[*at as usize];
                if slot.to_bits() == ABSENT_BITS {
                    *slot = match value.to_bits() {
                        STALE_BITS | ABSENT_BITS => *value,
                        _ if value.is_nan() => f64::from_bits(NAN_BITS),
                        _ => *value,
                    };
                }
            }
            self.storage.append(&self.group, timestamp, set, &row).map(|done| done.samples)
        });
        Ok(stored?)
    }
}

pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<PyStorage>()?;
    m.add_class::<Selection>()?;
    super::inspect::register(m)?;
    super::survey::register(m)?;
    m.add_class::<Writer>()?;
    m.add("StorageError", m.py().get_type::<exception::StorageError>())?;
    m.add("STALE_BITS", STALE_BITS)?;
    m.add("ABSENT_BITS", ABSENT_BITS)
}
