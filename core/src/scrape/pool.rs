//! What the targets of a pool share, and what others may know of each: its state, and sums over all.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::Arc;

use parking_lot::Mutex;

use super::fetch::Client;
use super::plan::Plan;
use super::settings::{Flags, PoolSettings};
use crate::tsdb::columns::{Column, ColumnSet};
use crate::tsdb::storage::Storage;
use crate::tsdb::StorageError;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The target is gone: its series end.
    End,
    /// Somebody else goes on with it, or the program ends.
    Leave,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signal {
    pub flags: Flags,
    pub stop: Option<Stop>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    #[default]
    Unknown,
    Up,
    Down,
}

impl Health {
    pub fn text(self) -> &'static str {
        match self {
            Health::Unknown => "unknown",
            Health::Up => "up",
            Health::Down => "down",
        }
    }
}

/// What the last scrape came to.
#[derive(Clone, Debug, Default)]
pub struct Status {
    pub health: Health,
    pub last_error: String,
    /// 0 before the first scrape.
    pub last_scrape_ms: i64,
    pub duration_seconds: f64,
    pub samples: usize,
    pub series: usize,
    /// Series that the budget has no room for.
    pub series_dropped: usize,
}

/// Sums over all targets.
#[derive(Default)]
pub struct Counters {
    pub scrapes: AtomicU64,
    pub scrapes_failed: AtomicU64,
    pub samples_scraped: AtomicU64,
    pub samples_appended: AtomicU64,
    pub samples_duplicate: AtomicU64,
    pub samples_rejected: AtomicU64,
    pub samples_over_budget: AtomicU64,
    pub exemplars: AtomicU64,
    pub exemplars_rejected: AtomicU64,
    pub wire_bytes: AtomicU64,
    pub body_bytes: AtomicU64,
    pub plan_hits: AtomicU64,
    pub plan_misses: AtomicU64,
}

pub(super) fn count(counter: &AtomicU64, by: usize) {
    counter.fetch_add(by as u64, Relaxed);
}

/// What the targets of a pool share.
pub struct Pool {
    pub settings: PoolSettings,
    pub client: Client,
    pub storage: Arc<Storage>,
    pub counters: Arc<Counters>,
    /// Body buffers, used again.
    pub buffers: Mutex<Vec<Vec<u8>>>,
}

impl Pool {
    pub(super) fn intern(&self) -> impl Fn(Vec<Column>) -> Result<(Arc<ColumnSet>, Vec<u32>), StorageError> + '_ {
        |columns| self.storage.intern_columns(columns)
    }
}

/// What others may look at while the target runs.
#[derive(Default)]
pub struct Shown {
    pub status: Mutex<Status>,
    pub plan: Mutex<Option<Arc<Plan>>>,
}
