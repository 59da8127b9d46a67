//! Many histograms at once, as files of others have them: what Python calls to export and to import. `_core.pyi` says more.

use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use super::python::PyHistograms;
use super::{chunks, mark, marked, view, Counts};
use crate::tsdb::{is_stale, STALE};

const SAMPLES_MAX: usize = u16::MAX as usize;

fn number_of(histograms: &PyHistograms, value: f64) -> PyResult<usize> {
    let number = marked(value).map(|n| n as usize).filter(|n| *n < histograms.0.len());
    number.ok_or_else(|| PyValueError::new_err(format!("{value} stands for none of {} histograms", histograms.0.len())))
}

/// Encoding, samples, bytes.
type Chunk<'py> = (u8, usize, Bound<'py, PyBytes>);

#[pyfunction]
fn encode_histogram_chunks<'py>(
    py: Python<'py>,
    timestamps: PyReadonlyArray1<'py, i64>,
    values: PyReadonlyArray1<'py, f64>,
    histograms: &PyHistograms,
    max_samples: usize,
) -> PyResult<Vec<Chunk<'py>>> {
    let (times, values) = (timestamps.as_array(), values.as_array());
    if times.len() != values.len() || !(1..=SAMPLES_MAX).contains(&max_samples) {
        let (times, values) = (times.len(), values.len());
        return Err(PyValueError::new_err(format!(
            "{times} timestamps, {values} values, {max_samples} samples a chunk: give one value each, and 1 to {SAMPLES_MAX}"
        )));
    }
    let sample = |(time, value): (&i64, &f64)| -> PyResult<chunks::Sample> {
        let stale = is_stale(*value);
        Ok((*time, if stale { None } else { Some(histograms.0[number_of(histograms, *value)?].clone()) }))
    };
    let samples: Vec<chunks::Sample> = times.iter().zip(values).map(sample).collect::<PyResult<_>>()?;
    let chunks = py.detach(|| chunks::write(&samples, max_samples));
    Ok(chunks.into_iter().map(|c| (c.encoding, c.samples, PyBytes::new(py, &c.bytes))).collect())
}

type Decoded<'py> = (Bound<'py, PyArray1<i64>>, Bound<'py, PyArray1<f64>>, PyHistograms);

#[pyfunction]
fn decode_histogram_chunk<'py>(py: Python<'py>, encoding: u8, data: &[u8]) -> PyResult<Decoded<'py>> {
    let samples = py.detach(|| chunks::read(encoding, data)).map_err(PyValueError::new_err)?;
    let mut histograms = Vec::new();
    let (mut times, mut values) = (Vec::with_capacity(samples.len()), Vec::with_capacity(samples.len()));
    for (time, histogram) in samples {
        times.push(time);
        // A chunk has 65,535 samples at most.
        values.push(if histogram.is_some() { mark(histograms.len() as u32) } else { STALE });
        histograms.extend(histogram);
    }
    Ok((times.into_pyarray(py), values.into_pyarray(py), PyHistograms(histograms)))
}

/// Buckets of many histograms behind each other.
#[derive(Default)]
struct Side {
    offsets: Vec<i64>,
    indexes: Vec<i32>,
    counts: Vec<f64>,
}

impl Side {
    fn add(&mut self, side: view::Side<'_>) {
        for (index, count) in side.iter().filter(|b| b.1 != 0.0) {
            self.indexes.push(index);
            self.counts.push(count);
        }
        self.offsets.push(self.indexes.len() as i64);
    }

    fn put(self, py: Python<'_>, name: &str, out: &Bound<'_, PyDict>) -> PyResult<()> {
        out.set_item(format!("{name}_offsets"), self.offsets.into_pyarray(py))?;
        out.set_item(format!("{name}_indexes"), self.indexes.into_pyarray(py))?;
        out.set_item(format!("{name}_counts"), self.counts.into_pyarray(py))
    }
}

#[pyfunction]
fn histogram_columns<'py>(
    py: Python<'py>,
    histograms: &PyHistograms,
    values: PyReadonlyArray1<'py, f64>,
) -> PyResult<Bound<'py, PyDict>> {
    let values = values.as_array();
    let numbers: Vec<usize> = values.iter().map(|value| number_of(histograms, *value)).collect::<PyResult<_>>()?;
    let of = || numbers.iter().map(|number| &*histograms.0[*number]);
    let side = || Side { offsets: vec![0], ..Side::default() };
    let (mut positive, mut negative) = (side(), side());
    let (mut counts, mut zeros) = (Vec::with_capacity(numbers.len()), Vec::with_capacity(numbers.len()));
    let (mut bounds, mut bound_offsets) = (Vec::new(), vec![0i64]);
    for one in of() {
        let view = view::View::from(one);
        counts.push(view.count);
        zeros.push(view.zero);
        positive.add(view.positive);
        negative.add(view.negative);
        bounds.extend_from_slice(&one.custom);
        bound_offsets.push(bounds.len() as i64);
    }
    let out = PyDict::new(py);
    out.set_item("count", counts.into_pyarray(py))?;
    out.set_item("zero_count", zeros.into_pyarray(py))?;
    out.set_item("sum", of().map(|h| h.sum).collect::<Vec<_>>().into_pyarray(py))?;
    out.set_item("schema", of().map(|h| h.schema).collect::<Vec<_>>().into_pyarray(py))?;
    out.set_item("zero_threshold", of().map(|h| h.zero_threshold).collect::<Vec<_>>().into_pyarray(py))?;
    out.set_item("hint", of().map(|h| h.hint as u8).collect::<Vec<_>>().into_pyarray(py))?;
    let is_float = of().map(|h| matches!(h.counts, Counts::Floats(_)));
    out.set_item("is_float", is_float.collect::<Vec<bool>>().into_pyarray(py))?;
    positive.put(py, "positive", &out)?;
    negative.put(py, "negative", &out)?;
    out.set_item("custom_offsets", bound_offsets.into_pyarray(py))?;
    out.set_item("custom_values", bounds.into_pyarray(py))?;
    Ok(out)
}

pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(encode_histogram_chunks, m)?)?;
    m.add_function(wrap_pyfunction!(decode_histogram_chunk, m)?)?;
    m.add_function(wrap_pyfunction!(histogram_columns, m)?)
}
