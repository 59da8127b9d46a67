//! What becomes of a target's answer: the body is read by the scan plan, and what it says goes to the storage. Numbers are
//! the target's row; histograms, samples with timestamps of their own and exemplars go their own ways, and end by themselves.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Instant;

use hashbrown::HashSet;

use super::convert::convert;
use super::created::attach;
use super::fetch::Answer;
use super::plan::{Body, Plan, PlanError, Reading, REPORT};
use super::pool::count;
use super::protobuf;
use super::series;
use super::starts::{Scrape, Zeros};
use super::target::Target;
use super::text::{Format, TextError};
use super::transcode::Transcoded;
use crate::labels::Labels;
use crate::tsdb::columns::ColumnSet;
use crate::tsdb::StorageError;

/// After so many scrapes, lines that none of them had leave the scan plan.
const WINDOW_SCRAPES: u32 = 100;

impl Target {
    /// Reads a body and appends it.
    pub(super) fn take(&mut self, body: &[u8], answer: &Answer, time_ms: i64, started: Instant) -> Result<Taken, String> {
        with_reading(|reading| {
            let body_bytes = body.len() as f64;
            let made = self.transcode(body, answer.format)?;
            let (body, given) = match &made {
                Some(made) => (&made.text[..], &made.histograms[..]),
                None => (body, &[][..]),
            };
            let histograms = given.len();
            let honor_timestamps = self.pool.settings.honor_timestamps;
            let of = Body { text: body, format: answer.format, histograms, honor_timestamps };
            let plan = self.read(&of, reading).map_err(|e| e.to_string())?;
            let pool = self.pool.clone();
            let settings = &pool.settings;
            let (samples, kept) = (reading.lines, reading.kept());
            if settings.sample_limit > 0 && kept > settings.sample_limit {
                return Err("sample limit exceeded".to_owned());
            }
            let added = self.state.present.update(&plan.columns, reading);
            let in_row = kept - reading.timed.len();
            let native = match given {
                [] => series::Taken::default(),
                given => {
                    let (held, limits) = (&mut self.state.histograms, &self.histograms);
                    held.take(&plan.columns, &self.labels, reading, given.to_vec(), limits, time_ms)?
                }
            };
            let in_row = in_row - native.in_row();
            let relabeled = kept + reading.over_budget;
            let mut report = [0.0; REPORT.len()];
            report[..5].copy_from_slice(&[1.0, started.elapsed().as_secs_f64(), samples as f64, relabeled as f64, added as f64]);
            self.fill_extra(&mut report, body_bytes, reading.over_budget);
            fill_report(&plan, reading, &report);
            let counters = self.pool.counters.clone();
            count(&counters.samples_over_budget, reading.over_budget);
            count(&counters.samples_scraped, samples);
            count(&counters.samples_duplicate, reading.duplicates);
            if settings.start_timestamps {
                let (columns, target) = (&plan.columns, &self.labels);
                let scrape = Scrape { columns, target, body, reading, histograms: &native, time_ms };
                let before_ms = self.group.last_time();
                let zeros = self.state.starts.zeros(&scrape, before_ms, &pool.storage.inner);
                self.append_zeros(zeros.map_err(|e| e.to_string())?).map_err(|e| e.to_string())?;
            }
            match self.append(time_ms, &plan.columns, &reading.row).map_err(|e| e.to_string())? {
                true => count(&counters.samples_appended, in_row),
                false => count(&counters.samples_rejected, in_row),
            }
            self.append_histograms(native, time_ms).map_err(|e| e.to_string())?;
            if !reading.timed.is_empty() {
                let samples = self.state.timed.fill(&plan.columns, &self.labels, reading);
                let stored = self.pool.storage.append_samples(samples).map_err(|e| e.to_string())? as usize;
                count(&counters.samples_appended, stored);
                count(&counters.samples_rejected, samples.len().saturating_sub(stored));
            }
            if self.pool.settings.track_timestamps_staleness && !(reading.timed.is_empty() && self.state.tracked.is_empty()) {
                let timed = &self.state.timed.samples[..reading.timed.len()];
                let present = timed.iter().map(|s| s.0.clone()).collect();
                self.track(time_ms, present).map_err(|e| e.to_string())?;
            }
            if !reading.exemplars.is_empty() {
                let (known, starts) = (&mut self.state.exemplars, settings.start_timestamps);
                let (fresh, unread) = known.fresh(&plan.columns, &self.labels, (body, answer.format, starts), reading, time_ms);
                count(&counters.exemplars, fresh.len());
                count(&counters.exemplars_rejected, unread);
                self.pool.storage.append_exemplars(&fresh).map_err(|e| e.to_string())?;
            }
            Ok(Taken { samples, series: kept, series_dropped: reading.over_budget })
        })
    }

    /// Ends those series with timestamps of their own that are not there any more.
    pub(super) fn track(&mut self, time_ms: i64, present: HashSet<Labels>) -> Result<(), StorageError> {
        let ends = self.state.tracked.turn(present, time_ms);
        if ends.is_empty() {
            return Ok(());
        }
        self.pool.storage.append_samples(&ends).map(|_| ())
    }

    /// The body as plans walk it, where it is not so already.
    fn transcode(&self, body: &[u8], format: Format) -> Result<Option<Transcoded>, String> {
        let (settings, starts) = (&self.histograms, self.pool.settings.start_timestamps);
        let fail = |e: TextError| e.to_string();
        let attached = match format {
            Format::Protobuf => return protobuf::read(body, settings, starts).map(Some),
            Format::OpenMetrics if starts => Some(attach(body).map_err(fail)?),
            _ => None,
        };
        if !settings.convert {
            return Ok(attached);
        }
        let body = attached.as_ref().map_or(body, |attached| &attached.text);
        convert(body, format, settings.always_classic).map(Some).map_err(fail)
    }

    fn append_zeros(&mut self, zeros: Zeros) -> Result<(), StorageError> {
        let Zeros { floats, histograms } = zeros;
        let (mut stored, all) = (0, floats.len() + histograms.len());
        if !floats.is_empty() {
            stored += self.pool.storage.append_samples(&floats)? as usize;
        }
        if !histograms.is_empty() {
            stored += self.pool.storage.append_histograms(&histograms)? as usize;
        }
        let counters = &self.pool.counters;
        count(&counters.samples_appended, stored);
        count(&counters.samples_rejected, all.saturating_sub(stored));
        Ok(())
    }

    fn append_histograms(&mut self, taken: series::Taken, time_ms: i64) -> Result<(), StorageError> {
        if !taken.samples.is_empty() {
            let stored = self.pool.storage.append_histograms(&taken.samples)? as usize;
            let counters = &self.pool.counters;
            count(&counters.samples_appended, stored);
            count(&counters.samples_rejected, taken.samples.len().saturating_sub(stored));
        }
        let all = self.pool.settings.track_timestamps_staleness;
        let ends = self.state.histograms.ends(&taken, all, time_ms);
        if !ends.is_empty() {
            self.pool.storage.append_samples(&ends)?;
        }
        Ok(())
    }

    pub(super) fn end_histograms(&mut self, time_ms: i64) -> Result<(), StorageError> {
        let ends = self.state.histograms.end(time_ms);
        if ends.is_empty() {
            return Ok(());
        }
        self.pool.storage.append_samples(&ends).map(|_| ())
    }

    fn fill_extra(&self, report: &mut [f64; REPORT.len()], body_bytes: f64, dropped: usize) {
        report[5] = self.timeout.as_secs_f64();
        report[6] = self.pool.settings.sample_limit as f64;
        report[7] = body_bytes;
        report[8] = dropped as f64;
    }

    /// Walks the body by the plan, or scans it and has a new plan.
    fn read(&mut self, body: &Body<'_>, reading: &mut Reading) -> Result<Arc<Plan>, PlanError> {
        let state = &mut self.state;
        let known = state.plan.clone().filter(|_| !state.prune);
        let walked = known.filter(|plan| plan.walk(body, reading, &mut state.seen).is_ok());
        let plan = match walked {
            Some(plan) => {
                count(&self.pool.counters.plan_hits, 1);
                plan
            }
            None => {
                count(&self.pool.counters.plan_misses, 1);
                let intern = self.pool.intern();
                let plan = self.context.scan(state.plan.as_deref(), body, reading, &mut state.seen, &intern)?;
                state.plan = Some(plan.clone());
                state.prune = false;
                *self.shown.plan.lock() = Some(plan.clone());
                plan
            }
        };
        state.window_scrapes += 1;
        if state.window_scrapes == WINDOW_SCRAPES {
            state.window_scrapes = 0;
            state.prune = state.seen.turn();
        }
        Ok(plan)
    }

    /// A row that says only that the scrape failed.
    pub(super) fn append_failure(&mut self, time_ms: i64, duration_seconds: f64, body_bytes: f64) -> Result<(), PlanError> {
        let plan = match &self.state.plan {
            Some(plan) => plan.clone(),
            None => self.context.empty(&self.pool.intern())?,
        };
        with_reading(|reading| {
            reading.start(plan.columns.columns.len());
            let mut report = [0.0; REPORT.len()];
            report[1] = duration_seconds;
            self.fill_extra(&mut report, body_bytes, 0);
            fill_report(&plan, reading, &report);
            self.append(time_ms, &plan.columns, &reading.row)
        })?;
        self.state.starts.fail(time_ms);
        self.track(time_ms, HashSet::new())?;
        self.end_histograms(time_ms)?;
        Ok(())
    }

    /// False when the group has a row as new: another target of the pool has the same labels.
    fn append(&mut self, time_ms: i64, columns: &Arc<ColumnSet>, row: &[f64]) -> Result<bool, StorageError> {
        let done = self.pool.storage.append(&self.group, time_ms, columns, row)?;
        self.state.last_ms = time_ms;
        Ok(!done.rejected)
    }
}

/// What came of a body.
pub(super) struct Taken {
    pub(super) samples: usize,
    /// Left after relabeling, and within the budget.
    pub(super) series: usize,
    pub(super) series_dropped: usize,
}

fn fill_report(plan: &Plan, reading: &mut Reading, values: &[f64; REPORT.len()]) {
    for (slot, value) in plan.report.iter().zip(values) {
        if let Some(cell) = reading.row.get_mut(*slot as usize) {
            *cell = *value;
        }
    }
}

/// A row as wide as the widest body is kept by each thread, not by each target.
fn with_reading<T>(f: impl FnOnce(&mut Reading) -> T) -> T {
    thread_local!(static READING: RefCell<Reading> = RefCell::default());
    READING.with_borrow_mut(f)
}
