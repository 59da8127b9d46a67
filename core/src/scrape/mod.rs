//! Scraping: from a URL to a row of a scrape group.
//!
//! * `scraper`: the pools that Python sets, and a task for each target. `settings`: what Python says of them.
//! * `target`: when one target is scraped, and what becomes of the answer.
//! * `fetch`: gets the body, over `tls` where the URL says so.
//! * `text`: scans it. `plan`: walks it. `context`, `labeling`: make plans of lines. `metadata`: reads comments.

pub mod context;
pub mod fetch;
pub mod labeling;
pub mod metadata;
pub mod plan;
pub mod scraper;
pub mod settings;
pub mod target;
pub mod text;
pub mod tls;

use pyo3::prelude::*;

pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<scraper::Scraper>()
}
