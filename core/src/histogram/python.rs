//! Histograms as Python sees them: immutable, with absolute float counts. `_core.pyi` says what each attribute is.

use std::sync::Arc;

use numpy::{IntoPyArray, PyArray1};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

pub use super::columns::PyHistograms;
use super::{Counts, Hint, Histogram, Numbers, Span, HINTS};

const HINT_NAMES: [&str; 4] = ["unknown", "reset", "not_reset", "gauge"];

#[pyclass(frozen, name = "Histogram", module = "bellbuoy._core")]
pub struct PyHistogram(pub Arc<Histogram>);

type Spans = Vec<(i32, u32)>;

fn spans(spans: Spans) -> Box<[Span]> {
    spans.into_iter().map(|(offset, length)| Span { offset, length }).collect()
}

fn pairs(spans: &[Span]) -> Spans {
    spans.iter().map(|s| (s.offset, s.length)).collect()
}

fn whole(values: &[f64]) -> Option<Box<[u64]>> {
    let exact = |v: &f64| (v.fract() == 0.0 && (0.0..9e15).contains(v)).then_some(*v as u64);
    values.iter().map(exact).collect()
}

#[pymethods]
impl PyHistogram {
    #[new]
    #[pyo3(signature = (*, schema, count, sum, zero_threshold = 0.0, zero_count = 0.0, positive_spans = Vec::new(), positive_buckets = Vec::new(), negative_spans = Vec::new(), negative_buckets = Vec::new(), custom_values = Vec::new(), counter_reset_hint = "unknown", is_float = false))]
    #[allow(clippy::too_many_arguments)] // a value with its fields
    fn new(
        schema: i8,
        count: f64,
        sum: f64,
        zero_threshold: f64,
        zero_count: f64,
        positive_spans: Spans,
        positive_buckets: Vec<f64>,
        negative_spans: Spans,
        negative_buckets: Vec<f64>,
        custom_values: Vec<f64>,
        counter_reset_hint: &str,
        is_float: bool,
    ) -> PyResult<PyHistogram> {
        let hint = HINT_NAMES.iter().position(|n| *n == counter_reset_hint).ok_or_else(|| {
            PyValueError::new_err(format!("counter_reset_hint is {counter_reset_hint:?}: use one of {}", HINT_NAMES.join(", ")))
        })?;
        let counts = if is_float {
            let (positive, negative) = (positive_buckets.into(), negative_buckets.into());
            Counts::Floats(Numbers { count, zero: zero_count, positive, negative })
        } else {
            let numbers = whole(&[count, zero_count]).zip(whole(&positive_buckets)).zip(whole(&negative_buckets));
            let Some(((heads, positive), negative)) = numbers else {
                return Err(PyValueError::new_err("a count is no whole number of at least 0: set is_float"));
            };
            Counts::Integers(Numbers { count: heads[0], zero: heads[1], positive, negative })
        };
        let histogram = Histogram {
            schema,
            hint: HINTS[hint],
            zero_threshold,
            sum,
            positive: spans(positive_spans),
            negative: spans(negative_spans),
            custom: custom_values.into(),
            counts,
        };
        histogram.check().map_err(PyValueError::new_err)?;
        if histogram.bucket_count() > super::codec::BUCKETS_LIMIT {
            return Err(PyValueError::new_err(format!("it has over {} buckets", super::codec::BUCKETS_LIMIT)));
        }
        Ok(PyHistogram(Arc::new(histogram)))
    }

    #[getter]
    fn schema(&self) -> i8 {
        self.0.schema
    }

    #[getter]
    fn zero_threshold(&self) -> f64 {
        self.0.zero_threshold
    }

    #[getter]
    fn zero_count(&self) -> f64 {
        self.0.numbers().zero
    }

    #[getter]
    fn count(&self) -> f64 {
        self.0.numbers().count
    }

    #[getter]
    fn sum(&self) -> f64 {
        self.0.sum
    }

    #[getter]
    fn positive_spans(&self) -> Spans {
        pairs(&self.0.positive)
    }

    #[getter]
    fn negative_spans(&self) -> Spans {
        pairs(&self.0.negative)
    }

    #[getter]
    fn positive_buckets<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f64>> {
        self.0.numbers().positive.into_vec().into_pyarray(py)
    }

    #[getter]
    fn negative_buckets<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f64>> {
        self.0.numbers().negative.into_vec().into_pyarray(py)
    }

    #[getter]
    fn custom_values<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f64>> {
        self.0.custom.to_vec().into_pyarray(py)
    }

    #[getter]
    fn counter_reset_hint(&self) -> &'static str {
        HINT_NAMES[self.0.hint as usize]
    }

    #[getter]
    fn is_float(&self) -> bool {
        matches!(self.0.counts, Counts::Floats(_))
    }

    /// `(lower, upper, lower inclusive, upper inclusive, count)` of all buckets that are not empty, ascending.
    fn buckets(&self) -> Vec<(f64, f64, bool, bool, f64)> {
        let all = self.0.buckets();
        all.iter().map(|b| (b.lower, b.upper, b.lower_inclusive, b.upper_inclusive, b.count)).collect()
    }

    fn __eq__(&self, other: &PyHistogram) -> bool {
        let bytes = |h: &Histogram| {
            let mut out = Vec::new();
            h.encode(None, &mut out);
            out
        };
        bytes(&self.0) == bytes(&other.0)
    }

    fn __hash__(&self) -> u64 {
        self.0.sum.to_bits() ^ self.0.numbers().count.to_bits()
    }

    fn __repr__(&self) -> String {
        let numbers = self.0.numbers();
        format!("Histogram(schema={}, count={}, sum={}, buckets={:?})", self.0.schema, numbers.count, self.0.sum, self.buckets())
    }
}

/// The number of a hint's variant is its place in `HINTS`.
const _: () = assert!(Hint::Gauge as usize == 3);

pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add("HISTOGRAM_MARK", super::MARK)?;
    m.add_class::<PyHistogram>()?;
    m.add_class::<PyHistograms>()
}
