//! The kernels as Python calls them; `_core.pyi` says what each does.

use numpy::ndarray::Array2;
use numpy::{IntoPyArray, PyArray2, PyReadonlyArray1, PyReadonlyArray2, PyReadwriteArray2};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::groups::Matrix;
use super::windows::{Grid, Samples};
use super::{over_time, share, Rows};

fn bug(text: impl Into<String>) -> PyErr {
    PyValueError::new_err(text.into())
}

#[pyfunction]
#[allow(clippy::too_many_arguments)]
fn window_function<'py>(
    py: Python<'py>,
    function: &str,
    offsets: PyReadonlyArray1<'py, i64>,
    timestamps: PyReadonlyArray1<'py, i64>,
    values: PyReadonlyArray1<'py, f64>,
    ends: PyReadonlyArray1<'py, i64>,
    range_ms: i64,
    first: usize,
    mut out: PyReadwriteArray2<'py, f64>,
    mut present: PyReadwriteArray2<'py, bool>,
) -> PyResult<()> {
    let samples = Samples::checked(offsets.as_slice()?, timestamps.as_slice()?, values.as_slice()?).map_err(bug)?;
    let grid = Grid::checked(ends.as_slice()?, range_ms).map_err(bug)?;
    let (rows, steps) = (out.as_array().nrows(), out.as_array().ncols());
    let range = first..first + rows;
    let (out, present) = (out.as_slice_mut()?, present.as_slice_mut()?);
    if range.end > samples.len() || steps != grid.ends.len() || present.len() != out.len() {
        return Err(bug("BUG: rows, steps and what is written do not fit"));
    }
    let known = py.detach(|| {
        let known = std::sync::atomic::AtomicBool::new(true);
        share(Rows { range, steps, values: out, present }, |rows| {
            known.fetch_and(over_time::run(function, samples, grid, rows), std::sync::atomic::Ordering::Relaxed);
        });
        known.into_inner()
    });
    if known {
        return Ok(());
    }
    Err(bug(format!("BUG: no function {function}")))
}

type Aggregated<'py> = (Bound<'py, PyArray2<f64>>, Bound<'py, PyArray2<bool>>);

#[pyfunction]
fn aggregate_groups<'py>(
    py: Python<'py>,
    operator: &str,
    groups: PyReadonlyArray1<'py, i64>,
    count: usize,
    values: PyReadonlyArray2<'py, f64>,
    present: PyReadonlyArray2<'py, bool>,
) -> PyResult<Aggregated<'py>> {
    let steps = values.as_array().ncols();
    let (groups, values, present) = (groups.as_slice()?, values.as_slice()?, present.as_slice()?);
    if values.len() != groups.len() * steps || present.len() != values.len() {
        return Err(bug("BUG: values, presence and groups do not fit"));
    }
    if groups.iter().any(|g| usize::try_from(*g).map_or(true, |g| g >= count)) {
        return Err(bug("BUG: a group is outside of them"));
    }
    let matrix = Matrix { values, present, steps, groups, count };
    let (values, present) =
        py.detach(|| matrix.aggregate(operator)).ok_or_else(|| bug(format!("BUG: no operator {operator}")))?;
    let shaped = |error| bug(format!("BUG: {error}"));
    let values = Array2::from_shape_vec((count, steps), values).map_err(shaped)?;
    let present = Array2::from_shape_vec((count, steps), present).map_err(shaped)?;
    Ok((values.into_pyarray(py), present.into_pyarray(py)))
}

pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(window_function, m)?)?;
    m.add_function(wrap_pyfunction!(aggregate_groups, m)?)
}
