//! Scraping: from an URL to a row of a scrape group.
//!
//! `scraper` keeps the pools that Python sets, and the task of each target; `target` says when to scrape and what becomes of
//! the answer; `fetch` gets the body; `plan` and `text` read it; `metadata` reads its comments; `settings` is what Python says.

pub mod plan;
pub mod metadata;
pub mod text;
