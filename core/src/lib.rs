//! The loops of Bellbuoy that run once a sample.
//!
//! A scrape's body flows from `scrape` (fetch, text, scan plan, relabeling) into `tsdb` (groups, chunks, log) and is
//! read by `tsdb::select` into flat arrays, which `promql` in Python evaluates and `json` prints. Python sees the classes
//! and functions registered here, typed in `_core.pyi`; everything else is private. The GIL is released in every call
//! that works on samples, and no panic crosses the border: input is checked, invariants say `BUG`.

use pyo3::prelude::*;

pub mod histogram;
pub mod json;
pub mod labels;
pub mod pattern;
pub mod promql;
pub mod relabel;
pub mod scrape;
pub mod tsdb;

#[pymodule]
fn _core(m: &Bound<'_, PyModule>) -> PyResult<()> {
    labels::register(m)?;
    pattern::register(m)?;
    histogram::python::register(m)?;
    histogram::exports::register(m)?;
    json::register(m)?;
    promql::python::register(m)?;
    relabel::register(m)?;
    scrape::register(m)?;
    tsdb::python::register(m)?;
    Ok(())
}
