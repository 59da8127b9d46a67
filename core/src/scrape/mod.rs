//! Scraping: from a URL to a row of a scrape group.
//!
//! * `scraper`: the pools that Python sets, and a task for each target. `settings`: what Python says of them.
//! * `target`: one target's scrapes, at their places on the `grid`; `pool`: what targets share. `intake`: what becomes of an
//!   answer. `series`: which ones a target has had.
//! * `fetch`: gets the body from an `address` over a `connection`, with `tls`, `credentials`, `oauth` and a `proxy` where the
//!   pool says so; `inflate`s it, and knows its format by `negotiation`. `fetcherror`: why there is none.
//! * `text`: scans it. `plan`: walks it. `context`, `labeling`: make plans of lines. `metadata`: reads comments.
//! * `transcode`: bodies that are no text, or whose classic histograms are to be native: `protobuf` (of `wire`
//!   and `family`), `convert`.
//! * `exposition`: a whole body for Python, to check it.
//! * `starts`: when counters began; of OpenMetrics by `created`.
//! * `exemplars`: reads those that are new. `failures`: the log of scrapes that failed.

pub mod address;
pub mod connection;
pub mod context;
pub mod convert;
pub mod created;
pub mod credentials;
pub mod exemplars;
pub mod exposition;
pub mod failures;
pub mod family;
pub mod fetch;
pub mod fetcherror;
pub mod grid;
pub mod inflate;
pub mod intake;
pub mod labeling;
pub mod metadata;
pub mod negotiation;
pub mod oauth;
pub mod plan;
pub mod pool;
pub mod protobuf;
pub mod proxy;
pub mod scraper;
pub mod series;
pub mod settings;
pub mod starts;
pub mod target;
pub mod text;
pub mod tls;
pub mod transcode;
pub mod wire;

use pyo3::prelude::*;

pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<scraper::Scraper>()?;
    exposition::register(m)?;
    proxy::register(m)
}
