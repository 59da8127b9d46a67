//! What is done with many histograms at once, as Python asks for it: `_core.pyi` says what each method does.
//!
//! Arrays are checked here, once, and the GIL is released for the loop. Results are new lists; histograms that did not
//! change are shared with the old one.

use std::sync::Arc;

use numpy::{Element, IntoPyArray, PyArray1, PyReadonlyArray1};
use pyo3::exceptions::{PyIndexError, PyValueError};
use pyo3::prelude::*;

use super::arithmetic::{Incompatible, Said};
use super::float::Float;
use super::python::PyHistogram;
use super::resets;
use super::sums::{Summed, Summer};
use super::view::View;
use super::windows::{interpolate, Grower, Kind, Remarks};
use super::{Counts, Hint, Histogram, Numbers, HINTS};

pub const INCOMPATIBLE: u16 = 1;
pub const COLLISION: u16 = 2;
pub const RECONCILED: u16 = 4;
pub const RECONCILED_SUM: u16 = 8;
pub const GAUGE: u16 = 16;
pub const NOT_GAUGE: u16 = 32;
pub const NONE: u16 = 64;
pub const NAN: u16 = 128;
pub const SKEWED: u16 = 256;

pub type Shared = Arc<Histogram>;
type Array<'py, T> = Bound<'py, PyArray1<T>>;
type Given<'py, T> = PyReadonlyArray1<'py, T>;
type Pairs<'py> = PyResult<(PyHistograms, Array<'py, u16>)>;

fn flag(is_set: bool, flag: u16) -> u16 {
    if is_set {
        flag
    } else {
        0
    }
}

fn view(of: &Shared) -> View<'_> {
    View::from(&**of)
}

fn slice<'a, T: Element>(given: &'a Given<'_, T>, name: &str) -> PyResult<&'a [T]> {
    given.as_slice().map_err(|_| PyValueError::new_err(format!("{name} is not contiguous: pass a copy")))
}

/// The slice, if it has so many.
fn matching<'a, T: Element>(given: &'a Given<'_, T>, name: &str, length: usize) -> PyResult<&'a [T]> {
    let found = slice(given, name)?;
    if found.len() == length {
        return Ok(found);
    }
    Err(PyValueError::new_err(format!("{name} has {} elements, not {length}", found.len())))
}

/// The windows `low..high` of an array of this length, none of them shorter than `least`.
fn windows(low: &[i64], high: &[i64], length: usize, least: usize) -> PyResult<Vec<std::ops::Range<usize>>> {
    let window = |(low, high): (&i64, &i64)| match (usize::try_from(*low), usize::try_from(*high)) {
        (Ok(low), Ok(high)) if high <= length && low.saturating_add(least) <= high => Ok(low..high),
        _ => Err(PyValueError::new_err(format!("{low}:{high} is no window of at least {least} of {length} numbers"))),
    };
    low.iter().zip(high).map(window).collect()
}

/// What a test says of each pair.
fn tested<'py>(py: Python<'py>, some: &[&Shared], others: &[&Shared], test: fn(View, View) -> bool) -> Array<'py, bool> {
    let found: Vec<bool> = py.detach(|| some.iter().zip(others).map(|(a, b)| test(view(a), view(b))).collect());
    found.into_pyarray(py)
}

fn said(result: Result<Said, Incompatible>) -> u16 {
    match result {
        Ok(said) => flag(said.collision, COLLISION) | flag(said.reconciled, RECONCILED),
        Err(Incompatible) => INCOMPATIBLE,
    }
}

fn remarked(of: Remarks) -> u16 {
    flag(of.incompatible, INCOMPATIBLE)
        | flag(of.reconciled, RECONCILED)
        | flag(of.reconciled_sum, RECONCILED_SUM)
        | flag(of.gauge, GAUGE)
        | flag(of.not_gauge, NOT_GAUGE)
        | flag(of.none, NONE)
}

/// Histograms of a selection, by number.
#[pyclass(frozen, name = "Histograms", module = "bellbuoy._core")]
pub struct PyHistograms(pub Vec<Shared>);

impl PyHistograms {
    /// Those with these numbers.
    fn numbered<'a>(&'a self, numbers: &[i64]) -> PyResult<Vec<&'a Shared>> {
        let find = |number: &i64| {
            let found = usize::try_from(*number).ok().and_then(|at| self.0.get(at));
            found.ok_or_else(|| PyValueError::new_err(format!("there is no histogram {number} of {}", self.0.len())))
        };
        numbers.iter().map(find).collect()
    }

    fn given<'a>(&'a self, numbers: &Given<'_, i64>) -> PyResult<Vec<&'a Shared>> {
        self.numbered(slice(numbers, "numbers")?)
    }

    fn changed<'a>(py: Python, from: Vec<&'a Shared>, change: impl Fn(usize, &mut Float) + Sync) -> PyHistograms {
        py.detach(|| {
            let mut float = Float::default();
            let make = |(at, one): (usize, &&'a Shared)| {
                float.load(view(one), false);
                change(at, &mut float);
                Arc::new(float.histogram())
            };
            PyHistograms(from.iter().enumerate().map(make).collect())
        })
    }

    fn combined<'py>(
        &self,
        py: Python<'py>,
        numbers: &Given<'py, i64>,
        other: &PyHistograms,
        other_numbers: &Given<'py, i64>,
        combine: fn(&mut Float, View) -> Result<Said, Incompatible>,
    ) -> Pairs<'py> {
        let left = self.given(numbers)?;
        let right = other.numbered(matching(other_numbers, "other_numbers", left.len())?)?;
        let (out, flags): (Vec<_>, Vec<_>) = py.detach(|| {
            let mut float = Float::default();
            let make = |(left, right): (&&Shared, &&Shared)| {
                float.load(view(left), false);
                let flags = said(combine(&mut float, view(right)));
                (Arc::new(float.histogram()), flags)
            };
            left.iter().zip(&right).map(make).unzip()
        });
        Ok((PyHistograms(out), flags.into_pyarray(py)))
    }

    fn summed<'py>(
        &self,
        py: Python<'py>,
        numbers: &Given<'py, i64>,
        low: &Given<'py, i64>,
        high: &Given<'py, i64>,
        sum: fn(&mut Summer, &[&Shared]) -> Summed,
    ) -> PyResult<(PyHistograms, Array<'py, u16>, Array<'py, i64>)> {
        let all = self.given(numbers)?;
        let low = slice(low, "low")?;
        let windows = windows(low, matching(high, "high", low.len())?, all.len(), 1)?;
        let (mut out, mut flags) = (Vec::with_capacity(windows.len()), Vec::with_capacity(windows.len()));
        let mut wheres = Vec::with_capacity(windows.len());
        py.detach(|| {
            let mut summer = Summer::default();
            for window in windows {
                let start = window.start;
                let summed = sum(&mut summer, &all[window]);
                flags.push(
                    flag(summed.collision, COLLISION)
                        | flag(summed.reconciled, RECONCILED)
                        | flag(summed.incompatible.is_some(), INCOMPATIBLE),
                );
                wheres.push(summed.incompatible.map_or(-1, |at| (start + at) as i64));
                out.push(summed.histogram);
            }
        });
        Ok((PyHistograms(out), flags.into_pyarray(py), wheres.into_pyarray(py)))
    }
}

#[pymethods]
impl PyHistograms {
    #[new]
    fn new(histograms: Vec<PyRef<'_, PyHistogram>>) -> PyHistograms {
        PyHistograms(histograms.iter().map(|h| h.0.clone()).collect())
    }

    fn __len__(&self) -> usize {
        self.0.len()
    }

    fn __getitem__(&self, number: usize) -> PyResult<PyHistogram> {
        let found = self.0.get(number).cloned();
        found.map(PyHistogram).ok_or_else(|| PyIndexError::new_err(format!("there is no histogram {number}")))
    }

    #[classattr]
    const INCOMPATIBLE: u16 = INCOMPATIBLE;
    #[classattr]
    const COLLISION: u16 = COLLISION;
    #[classattr]
    const RECONCILED: u16 = RECONCILED;
    #[classattr]
    const RECONCILED_SUM: u16 = RECONCILED_SUM;
    #[classattr]
    const GAUGE: u16 = GAUGE;
    #[classattr]
    const NOT_GAUGE: u16 = NOT_GAUGE;
    #[classattr]
    const NONE: u16 = NONE;
    #[classattr]
    const NAN: u16 = NAN;
    #[classattr]
    const SKEWED: u16 = SKEWED;

    #[staticmethod]
    fn concat(parts: Vec<PyRef<'_, PyHistograms>>) -> PyHistograms {
        PyHistograms(parts.iter().flat_map(|p| p.0.iter().cloned()).collect())
    }

    fn take(&self, numbers: Given<'_, i64>) -> PyResult<PyHistograms> {
        Ok(PyHistograms(self.given(&numbers)?.into_iter().cloned().collect()))
    }

    fn counts<'py>(&self, py: Python<'py>) -> Array<'py, f64> {
        self.0.iter().map(|h| view(h).count).collect::<Vec<_>>().into_pyarray(py)
    }

    fn sums<'py>(&self, py: Python<'py>) -> Array<'py, f64> {
        self.0.iter().map(|h| h.sum).collect::<Vec<_>>().into_pyarray(py)
    }

    fn schemas<'py>(&self, py: Python<'py>) -> Array<'py, i8> {
        self.0.iter().map(|h| h.schema).collect::<Vec<_>>().into_pyarray(py)
    }

    fn hints<'py>(&self, py: Python<'py>) -> Array<'py, u8> {
        self.0.iter().map(|h| h.hint as u8).collect::<Vec<_>>().into_pyarray(py)
    }

    fn weights<'py>(&self, py: Python<'py>) -> Array<'py, i64> {
        self.0.iter().map(|h| h.weight() as i64).collect::<Vec<_>>().into_pyarray(py)
    }

    fn with_hints(&self, py: Python<'_>, hints: Given<'_, u8>) -> PyResult<PyHistograms> {
        let hints = matching(&hints, "hints", self.0.len())?;
        let known = |hint: &u8| HINTS.get(usize::from(*hint)).copied();
        let known = |hint: &u8| known(hint).ok_or_else(|| PyValueError::new_err(format!("there is no hint {hint}")));
        let hints: Vec<Hint> = hints.iter().map(known).collect::<PyResult<_>>()?;
        let with = |(one, hint): (&Shared, Hint)| match one.hint == hint {
            true => Arc::clone(one),
            false => Arc::new(Histogram { hint, ..(**one).clone() }),
        };
        Ok(py.detach(|| PyHistograms(self.0.iter().zip(hints).map(with).collect())))
    }

    fn stats(&self, numbers: Given<'_, i64>) -> PyResult<PyHistograms> {
        let bare = |one: &Shared| {
            let counts = Counts::Floats(Numbers { count: view(one).count, ..Numbers::default() });
            let none = Histogram {
                schema: one.schema,
                hint: one.hint,
                zero_threshold: 0.0,
                sum: one.sum,
                positive: Box::default(),
                negative: Box::default(),
                custom: Box::default(),
                counts,
            };
            Arc::new(none)
        };
        Ok(PyHistograms(self.given(&numbers)?.into_iter().map(bare).collect()))
    }

    fn compact(&self, py: Python<'_>) -> PyHistograms {
        fn has_empty(side: super::view::Side) -> bool {
            side.spans.iter().skip(1).any(|s| s.offset <= 0)
                || side.spans.iter().any(|s| s.length == 0)
                || side.counts.iter().any(|c| c == 0.0)
        }
        py.detach(|| {
            let mut float = Float::default();
            let make = |one: &Shared| {
                if !has_empty(view(one).positive) && !has_empty(view(one).negative) {
                    return Arc::clone(one);
                }
                float.load(view(one), false);
                float.compact();
                Arc::new(float.histogram())
            };
            PyHistograms(self.0.iter().map(make).collect())
        })
    }

    fn texts(&self, numbers: Given<'_, i64>) -> PyResult<Vec<String>> {
        Ok(self.given(&numbers)?.into_iter().map(|h| view(h).to_string()).collect())
    }

    fn scale(&self, py: Python<'_>, numbers: Given<'_, i64>, factors: Given<'_, f64>) -> PyResult<PyHistograms> {
        let from = self.given(&numbers)?;
        let factors = matching(&factors, "factors", from.len())?;
        let scaled = |(one, factor): (&&Shared, &f64)| {
            let hint = if *factor < 0.0 { Hint::Gauge } else { one.hint };
            let counts = Counts::Floats(one.map_numbers(|c| c * factor));
            let (positive, negative, custom) = (one.positive.clone(), one.negative.clone(), one.custom.clone());
            Arc::new(Histogram { hint, sum: one.sum * factor, positive, negative, custom, counts, ..***one })
        };
        Ok(py.detach(|| PyHistograms(from.iter().zip(factors).map(scaled).collect())))
    }

    fn divide(&self, py: Python<'_>, numbers: Given<'_, i64>, divisors: Given<'_, f64>) -> PyResult<PyHistograms> {
        let from = self.given(&numbers)?;
        let divisors = matching(&divisors, "divisors", from.len())?;
        Ok(PyHistograms::changed(py, from, |at, float| float.divide(divisors[at])))
    }

    fn add<'py>(
        &self,
        py: Python<'py>,
        numbers: Given<'py, i64>,
        other: &PyHistograms,
        other_numbers: Given<'py, i64>,
    ) -> Pairs<'py> {
        self.combined(py, &numbers, other, &other_numbers, Float::add)
    }

    fn subtract<'py>(
        &self,
        py: Python<'py>,
        numbers: Given<'py, i64>,
        other: &PyHistograms,
        other_numbers: Given<'py, i64>,
    ) -> Pairs<'py> {
        self.combined(py, &numbers, other, &other_numbers, Float::subtract)
    }

    fn equal<'py>(
        &self,
        py: Python<'py>,
        numbers: Given<'py, i64>,
        other: &PyHistograms,
        other_numbers: Given<'py, i64>,
    ) -> PyResult<Array<'py, bool>> {
        let left = self.given(&numbers)?;
        let right = other.numbered(matching(&other_numbers, "other_numbers", left.len())?)?;
        Ok(tested(py, &left, &right, resets::equal))
    }

    fn resets<'py>(&self, py: Python<'py>, numbers: Given<'py, i64>, previous: Given<'py, i64>) -> PyResult<Array<'py, bool>> {
        let current = self.given(&numbers)?;
        let previous = self.numbered(matching(&previous, "previous", current.len())?)?;
        Ok(tested(py, &current, &previous, resets::was_reset))
    }

    fn interpolate<'py>(
        &self,
        py: Python<'py>,
        earlier: Given<'py, i64>,
        later: Given<'py, i64>,
        fractions: Given<'py, f64>,
        is_counter: Given<'py, bool>,
    ) -> Pairs<'py> {
        let earlier = self.given(&earlier)?;
        let later = self.numbered(matching(&later, "later", earlier.len())?)?;
        let fractions = matching(&fractions, "fractions", earlier.len())?;
        let is_counter = matching(&is_counter, "is_counter", earlier.len())?;
        let (out, flags): (Vec<_>, Vec<_>) = py.detach(|| {
            let mut float = Float::default();
            let make = |at: usize| {
                let found = interpolate(&mut float, view(earlier[at]), view(later[at]), fractions[at], is_counter[at]);
                let flags = match found {
                    Ok((difference, sum)) => flag(difference, RECONCILED) | flag(sum, RECONCILED_SUM),
                    Err(Incompatible) => INCOMPATIBLE,
                };
                (Arc::new(float.histogram()), flags)
            };
            (0..earlier.len()).map(make).unzip()
        });
        Ok((PyHistograms(out), flags.into_pyarray(py)))
    }

    #[allow(clippy::type_complexity)] // what it returns, as the stub says it
    fn total<'py>(
        &self,
        py: Python<'py>,
        numbers: Given<'py, i64>,
        low: Given<'py, i64>,
        high: Given<'py, i64>,
    ) -> PyResult<(PyHistograms, Array<'py, u16>, Array<'py, i64>)> {
        self.summed(py, &numbers, &low, &high, Summer::total)
    }

    #[allow(clippy::type_complexity)]
    fn mean<'py>(
        &self,
        py: Python<'py>,
        numbers: Given<'py, i64>,
        low: Given<'py, i64>,
        high: Given<'py, i64>,
    ) -> PyResult<(PyHistograms, Array<'py, u16>, Array<'py, i64>)> {
        self.summed(py, &numbers, &low, &high, Summer::mean)
    }

    #[pyo3(signature = (numbers, low, high, resets, *, is_counter))]
    fn rate<'py>(
        &self,
        py: Python<'py>,
        numbers: Given<'py, i64>,
        low: Given<'py, i64>,
        high: Given<'py, i64>,
        resets: Given<'py, bool>,
        is_counter: bool,
    ) -> Pairs<'py> {
        let all = self.given(&numbers)?;
        let low = slice(&low, "low")?;
        let windows = windows(low, matching(&high, "high", low.len())?, all.len(), 2)?;
        let resets = matching(&resets, "resets", all.len())?;
        let (out, flags): (Vec<_>, Vec<_>) = py.detach(|| {
            let mut grower = Grower::default();
            let kind = |h: &&Shared| Kind { schema: h.schema, is_gauge: h.hint == Hint::Gauge };
            let kinds: Vec<Kind> = all.iter().map(kind).collect();
            let make = |window: std::ops::Range<usize>| {
                let (of, kinds, resets) = (&all[window.clone()], &kinds[window.clone()], &resets[window]);
                let (grown, remarks) = grower.growth(of, kinds, resets, is_counter);
                (grown, remarked(remarks))
            };
            windows.into_iter().map(make).unzip()
        });
        Ok((PyHistograms(out), flags.into_pyarray(py)))
    }

    #[pyo3(signature = (numbers, times, low, high, starts, ends, *, is_counter, smoothed))]
    #[allow(clippy::too_many_arguments)] // columns of one table
    fn extended_rate<'py>(
        &self,
        py: Python<'py>,
        numbers: Given<'py, i64>,
        times: Given<'py, i64>,
        low: Given<'py, i64>,
        high: Given<'py, i64>,
        starts: Given<'py, i64>,
        ends: Given<'py, i64>,
        is_counter: bool,
        smoothed: bool,
    ) -> Pairs<'py> {
        let all = self.given(&numbers)?;
        let times = matching(&times, "times", all.len())?;
        let low = slice(&low, "low")?;
        let windows = windows(low, matching(&high, "high", low.len())?, all.len(), 1)?;
        let starts = matching(&starts, "starts", windows.len())?;
        let ends = matching(&ends, "ends", windows.len())?;
        let (out, flags): (Vec<_>, Vec<_>) = py.detach(|| {
            let mut grower = Grower::default();
            let make = |(at, window): (usize, std::ops::Range<usize>)| {
                let bounds = (starts[at], ends[at]);
                let (grown, remarks) = grower.extended(&all[window.clone()], &times[window], bounds, is_counter, smoothed);
                (grown, remarked(remarks))
            };
            windows.into_iter().enumerate().map(make).unzip()
        });
        Ok((PyHistograms(out), flags.into_pyarray(py)))
    }

    #[pyo3(signature = (numbers, bounds, *, upper))]
    fn trim(&self, py: Python<'_>, numbers: Given<'_, i64>, bounds: Given<'_, f64>, upper: bool) -> PyResult<PyHistograms> {
        let from = self.given(&numbers)?;
        let bounds = matching(&bounds, "bounds", from.len())?;
        Ok(PyHistograms::changed(py, from, |at, float| float.trim(bounds[at], upper)))
    }

    fn quantile<'py>(
        &self,
        py: Python<'py>,
        numbers: Given<'py, i64>,
        quantiles: Given<'py, f64>,
    ) -> PyResult<(Array<'py, f64>, Array<'py, u16>)> {
        let of = self.given(&numbers)?;
        let quantiles = matching(&quantiles, "quantiles", of.len())?;
        let (values, flags): (Vec<f64>, Vec<u16>) = py.detach(|| {
            let estimate = |(one, quantile): (&&Shared, &f64)| {
                let (value, doubts) = view(one).quantile(*quantile);
                (value, flag(doubts.nan, NAN) | flag(doubts.skewed, SKEWED))
            };
            of.iter().zip(quantiles).map(estimate).unzip()
        });
        Ok((values.into_pyarray(py), flags.into_pyarray(py)))
    }

    fn fraction<'py>(
        &self,
        py: Python<'py>,
        numbers: Given<'py, i64>,
        lower: Given<'py, f64>,
        upper: Given<'py, f64>,
    ) -> PyResult<(Array<'py, f64>, Array<'py, u16>)> {
        let of = self.given(&numbers)?;
        let (lower, upper) = (matching(&lower, "lower", of.len())?, matching(&upper, "upper", of.len())?);
        let (values, flags): (Vec<f64>, Vec<u16>) = py.detach(|| {
            let estimate = |at: usize| {
                let (value, doubts) = view(of[at]).fraction(lower[at], upper[at]);
                (value, flag(doubts.nan, NAN))
            };
            (0..of.len()).map(estimate).unzip()
        });
        Ok((values.into_pyarray(py), flags.into_pyarray(py)))
    }

    fn variance<'py>(&self, py: Python<'py>, numbers: Given<'py, i64>) -> PyResult<Array<'py, f64>> {
        let of = self.given(&numbers)?;
        let found: Vec<f64> = py.detach(|| of.iter().map(|h| view(h).variance()).collect());
        Ok(found.into_pyarray(py))
    }
}
