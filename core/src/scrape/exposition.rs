//! A whole body as Python reads it: the samples as they stand, without a target. For checks and for tests; scrapes walk plans.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use std::sync::Arc;

use super::exemplars;
use super::negotiation::format_of;
use super::plan::PlanError;
use super::protobuf;
use super::text::{self, Format, Pairs, TextError};
use super::transcode::{HistogramSettings, Transcoded};
use crate::histogram::marked;
use crate::histogram::python::PyHistogram;

/// Native histograms, and the classic ones that they also are.
const ALL: HistogramSettings =
    HistogramSettings { native: true, always_classic: true, convert: false, bucket_limit: 0, schema_max: 8 };

#[derive(IntoPyObject)]
enum Value {
    Number(f64),
    Histogram(PyHistogram),
}

/// Labels, value, time, and the exemplar: its labels, value and time.
type Sample = (Pairs, Value, Option<i64>, Option<(Pairs, f64, Option<i64>)>);

fn read(body: &[u8], format: Format) -> Result<Vec<Sample>, PlanError> {
    let made = match format {
        Format::Protobuf => protobuf::read(body, &ALL, false).map_err(PlanError::Limit)?,
        _ => Transcoded::default(),
    };
    let body = if format == Format::Protobuf { &made.text } else { body };
    let histograms: Vec<_> = made.histograms.into_iter().map(Arc::new).collect();
    let lines = text::scan_with(body, format, histograms.len()).map_err(PlanError::Text)?;
    let read = lines.iter().map(|line| {
        let key = &body[line.key.start as usize..line.key.end as usize];
        let fail = |reason: String| PlanError::Text(TextError::at(body, line.key.start as usize, reason));
        let labels = text::read_key(key, line.family).map_err(fail)?;
        let exemplar = line.exemplar.as_ref().and_then(|at| {
            let (labels, value, time_ms) = exemplars::read(&body[at.start as usize..at.end as usize], format).ok()?;
            let pairs = labels.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
            Some((pairs, value, time_ms))
        });
        let value = match marked(line.value) {
            Some(number) => Value::Histogram(PyHistogram(histograms[number as usize].clone())),
            None => Value::Number(line.value),
        };
        Ok((labels, value, line.timestamp_ms, exemplar))
    });
    read.collect()
}

#[pyfunction]
#[pyo3(signature = (body, content_type))]
fn read_exposition(py: Python<'_>, body: &[u8], content_type: &str) -> PyResult<Vec<Sample>> {
    let format = format_of(content_type, None).map_err(PyValueError::new_err)?;
    py.detach(|| read(body, format)).map_err(|e| PyValueError::new_err(e.to_string()))
}

pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(read_exposition, m)?)
}
