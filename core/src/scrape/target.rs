//! One target: when it is scraped, and what becomes of the answer.
//!
//! A target is one task. Its scrapes fall on a grid, `interval` wide and shifted by a hash of the target, so that targets
//! spread and keep their places over restarts; the first one does not wait for the grid. What discovery says of the target's
//! life arrives as a signal: a pod that terminates is scraped at once, and each second until it refuses, and then its series
//! end; one that never was up is no `up 0` as long as it is not ready.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hashbrown::HashSet;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::address::Address;
use super::connection::Connection;
use super::context::Context;
use super::convert::convert;
use super::exemplars;
use super::fetch::{Answer, Client, FetchError};
use super::plan::{Body, Plan, PlanError, Reading, Seen, REPORT};
use super::protobuf;
use super::series::{self, Histograms, Present, TimedSamples, Tracked};
use super::settings::{Flags, PoolSettings};
use super::text::Format;
use super::transcode::{HistogramSettings, Transcoded};
use crate::labels::Labels;
use crate::tsdb::columns::{Column, ColumnSet};
use crate::tsdb::group::Group;
use crate::tsdb::storage::Storage;
use crate::tsdb::StorageError;

/// A scrape that starts this close to its place on the grid gets the grid's timestamp: even distances compress better.
const TOLERANCE_MS: i64 = 2;
/// A target is first scraped within this time, however long its interval; spread over it, since many may start at once.
const FIRST_SCRAPE_WITHIN_MS: i64 = 1000;
/// The interval of targets that may be gone soon, or up soon.
const HASTE_MS: i64 = 1000;
/// A target that was up and fails may be a pod that ends, and its process be faster than the word of its end: that is waited
/// for so long, or for an interval, before the failure counts. A pod's end takes the way of API server, operator and poll;
/// that of a job's pod also kubelet's, which looks each second.
const WORD_WITHIN_MS: u64 = 3000;
/// How often a target that never was up and is not ready is tried in haste; afterwards at its interval.
const HASTY_TRIES: u32 = 60;
/// After so many scrapes, lines that none of them had leave the scan plan.
const WINDOW_SCRAPES: u32 = 100;
/// Bodies from this size on are read outside of the threads that drive other targets.
const LARGE_BODY_BYTES: usize = 2 << 20;
/// Body buffers that a pool keeps for its next scrapes.
const BUFFERS_MAX: usize = 16;

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

fn count(counter: &AtomicU64, by: usize) {
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
    fn intern(&self) -> impl Fn(Vec<Column>) -> Result<(Arc<ColumnSet>, Vec<u32>), StorageError> + '_ {
        |columns| self.storage.intern_columns(columns)
    }
}

/// What others may look at while the target runs.
#[derive(Default)]
pub struct Shown {
    pub status: Mutex<Status>,
    pub plan: Mutex<Option<Arc<Plan>>>,
}

pub struct Target {
    pub pool: Arc<Pool>,
    pub url: String,
    pub address: Address,
    pub interval: Duration,
    pub timeout: Duration,
    pub histograms: HistogramSettings,
    /// The target's place on the grid, before it is taken modulo the interval.
    pub spread: u64,
    pub labels: Labels,
    pub group: Arc<Group>,
    pub context: Arc<Context>,
    pub signal: watch::Receiver<Signal>,
    pub shown: Arc<Shown>,
    pub state: State,
}

/// What a target remembers from scrape to scrape.
#[derive(Default)]
pub struct State {
    plan: Option<Arc<Plan>>,
    seen: Seen,
    /// Successful scrapes in the window.
    window_scrapes: u32,
    /// Lines have been gone for long: the next body is scanned in full, and they leave the plan.
    prune: bool,
    present: Present,
    timed: TimedSamples,
    tracked: Tracked,
    histograms: Histograms,
    exemplars: exemplars::Known,
    kept: Vec<Connection>,
    was_up: bool,
    /// The last scrape succeeded.
    is_up: bool,
    tries: u32,
    last_ms: i64,
    /// A terminating target refused: nothing is left to scrape.
    ended: bool,
}

impl State {
    /// For a target that goes on with the same series by other settings: those that do not come in rows, whose ends nobody
    /// else knows of. A group remembers its own.
    fn left(self) -> State {
        let State { tracked, histograms, last_ms, .. } = self;
        State { tracked, histograms: histograms.left(), last_ms, ..State::default() }
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn now_ms() -> i64 {
    now().as_millis() as i64
}

/// What is said of a target that is too slow.
pub fn no_answer(timeout: Duration) -> String {
    format!("no answer within {} s (scrape timeout)", timeout.as_secs_f64())
}

/// FNV-1a: equal in every version and process, so that a target keeps its place.
pub fn spread(url: &str, labels: &Labels) -> u64 {
    let pairs = labels.iter().flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]);
    let bytes = std::iter::once(url.as_bytes()).chain(pairs).flat_map(|part| part.iter().chain(&[0xff]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

/// The first time after `after_ms` on a grid of this width and shift.
fn next_on_grid(after_ms: i64, width_ms: i64, spread: u64) -> i64 {
    let shift = (spread % width_ms as u64) as i64;
    (after_ms - shift).div_euclid(width_ms) * width_ms + shift + width_ms
}

impl Target {
    /// Scrapes until the signal says stop. What is returned is for whoever goes on with the target.
    pub async fn run(mut self) -> State {
        // Whoever stops a target does not wait for its scrape.
        let mut stop = self.signal.clone();
        let stopped = async move { stop.wait_for(|s| s.stop.is_some()).await.map(|s| s.stop) };
        tokio::select! {
            biased;
            stop = stopped => {
                if let Ok(Some(Stop::End)) = stop {
                    self.end();
                }
            }
            () = self.scrape_forever() => {}
        }
        self.state.left()
    }

    async fn scrape_forever(&mut self) {
        let mut at_once = true;
        let mut flags = self.signal.borrow_and_update().flags;
        let start_ms = now_ms();
        let mut due_ms = start_ms;
        loop {
            if self.state.ended {
                // What comes back after its end is scraped again.
                if self.signal.changed().await.is_err() {
                    return;
                }
                let new = self.signal.borrow_and_update().flags;
                self.state.ended = new.terminating;
                (flags, at_once) = (new, !new.terminating);
                continue;
            }
            let width_ms = self.width_ms(flags);
            let now_ms = now_ms();
            // The clock may have been set back; a grid never waits longer than its width.
            let after = if due_ms > now_ms + width_ms { now_ms } else { due_ms.max(now_ms) };
            let grid_ms = next_on_grid(after, width_ms, self.spread);
            let next_ms = match (at_once, flags.terminating || self.state.tries > 0) {
                (false, _) => grid_ms,
                (true, true) => now_ms,
                (true, false) => grid_ms.min(start_ms + (self.spread % FIRST_SCRAPE_WITHIN_MS as u64) as i64).max(now_ms),
            };
            let wait = Duration::from_millis(next_ms.max(0) as u64).saturating_sub(now());
            tokio::select! {
                biased;
                changed = self.signal.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let new = self.signal.borrow_and_update().flags;
                    let became_ready = flags.not_ready && !new.not_ready && !self.state.was_up;
                    at_once |= became_ready || (new.terminating && !flags.terminating);
                    flags = new;
                    continue;
                }
                () = tokio::time::sleep(wait) => {}
            }
            at_once = false;
            due_ms = next_ms;
            self.scrape(next_ms, flags).await;
            // A signal that came meanwhile counts as well, and a change since the scrape began must not be lost.
            if self.signal.has_changed().unwrap_or(false) {
                let new = self.signal.borrow_and_update().flags;
                let became_ready = flags.not_ready && !new.not_ready && !self.state.was_up;
                at_once = became_ready || (new.terminating && !flags.terminating);
                flags = new;
            }
        }
    }

    fn width_ms(&self, flags: Flags) -> i64 {
        let interval_ms = (self.interval.as_millis() as i64).max(1);
        let starting = flags.not_ready && !self.state.was_up && self.state.tries < HASTY_TRIES;
        if flags.every_second || flags.terminating || starting {
            interval_ms.min(HASTE_MS)
        } else {
            interval_ms
        }
    }

    fn end(&mut self) {
        let time_ms = now_ms().max(self.state.last_ms + 1);
        if let Err(e) = self.pool.storage.end(&self.group, time_ms) {
            self.shown.status.lock().last_error = format!("cannot end the target's series: {e}");
        }
        if let Err(e) = self.track(time_ms, HashSet::new()).and_then(|()| self.end_histograms(time_ms)) {
            self.shown.status.lock().last_error = format!("cannot end the target's series: {e}");
        }
        self.state.last_ms = time_ms;
    }

    async fn scrape(&mut self, due_ms: i64, flags: Flags) {
        let started = Instant::now();
        let now_ms = now_ms();
        let tolerance = TOLERANCE_MS.min(self.interval.as_millis() as i64 / 100);
        let time_ms = if (now_ms - due_ms).abs() <= tolerance { due_ms } else { now_ms };
        self.state.tries = self.state.tries.saturating_add(1);
        let mut body = self.pool.buffers.lock().pop().unwrap_or_default();
        let pool = self.pool.clone();
        let get = pool.client.get(&self.address, self.timeout, &mut self.state.kept, &mut body);
        let got: Result<Answer, FetchError> = match tokio::time::timeout(self.timeout, get).await {
            Ok(got) => got,
            Err(_) => Err(FetchError::new(no_answer(self.timeout))),
        };
        let refused = matches!(&got, Err(e) if e.refused);
        // As Prometheus says it: the size of a body that was too long is not known.
        let body_bytes = match &got {
            Ok(_) => body.len() as f64,
            Err(e) if e.past_limit => -1.0,
            Err(_) => 0.0,
        };
        let counters = &pool.counters;
        count(&counters.scrapes, 1);
        let taken = got.map_err(|e| e.text).and_then(|answer| {
            count(&counters.wire_bytes, answer.wire_bytes);
            count(&counters.body_bytes, body.len());
            let large = body.len() >= LARGE_BODY_BYTES;
            let mut take = || self.take(&body, &answer, time_ms, started);
            if large {
                tokio::task::block_in_place(take)
            } else {
                take()
            }
        });
        // Neither one outsized body nor a burst of scrapes keeps its memory.
        if body.capacity() < LARGE_BODY_BYTES {
            let mut buffers = pool.buffers.lock();
            if buffers.len() < BUFFERS_MAX {
                buffers.push(body);
            }
        }
        let duration_seconds = started.elapsed().as_secs_f64();
        let mut status = Status { last_scrape_ms: time_ms, duration_seconds, ..Status::default() };
        match taken {
            Ok(taken) => {
                (self.state.was_up, self.state.is_up) = (true, true);
                (status.health, status.samples) = (Health::Up, taken.samples);
                (status.series, status.series_dropped) = (taken.series, taken.series_dropped);
            }
            Err(reason) => {
                count(&counters.scrapes_failed, 1);
                let logged = pool.settings.failures.as_ref().map(|log| log.write(time_ms, &self.url, &reason));
                (status.health, status.last_error) = (Health::Down, reason);
                if let Some(Err(e)) = logged {
                    status.last_error = format!("{}; and {e}", status.last_error);
                }
                let flags = if self.state.is_up { self.word_of_the_end().await } else { flags };
                self.state.is_up = false;
                if flags.terminating {
                    if refused {
                        self.end();
                        self.state.ended = true;
                    }
                } else if !flags.not_ready || self.state.was_up {
                    if let Err(e) = self.append_failure(time_ms, duration_seconds, body_bytes) {
                        status.last_error = format!("{}; and cannot store that: {e}", status.last_error);
                    }
                }
            }
        }
        *self.shown.status.lock() = status;
    }

    /// What discovery says now, or, where it says nothing of an end, in a moment. A target that is taken away meanwhile ends
    /// in `run`.
    async fn word_of_the_end(&mut self) -> Flags {
        let mut signal = self.signal.clone();
        let patience = Duration::from_millis(WORD_WITHIN_MS).min(self.interval);
        // Silence is an answer too.
        let _ = tokio::time::timeout(patience, signal.wait_for(|s| s.flags.terminating)).await;
        let flags = signal.borrow().flags;
        flags
    }

    /// Reads a body and appends it.
    fn take(&mut self, body: &[u8], answer: &Answer, time_ms: i64, started: Instant) -> Result<Taken, String> {
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
                let known = &mut self.state.exemplars;
                let (fresh, unread) = known.fresh(&plan.columns, &self.labels, (body, answer.format), reading, time_ms);
                count(&counters.exemplars, fresh.len());
                count(&counters.exemplars_rejected, unread);
                self.pool.storage.append_exemplars(&fresh).map_err(|e| e.to_string())?;
            }
            Ok(Taken { samples, series: kept, series_dropped: reading.over_budget })
        })
    }

    /// Ends those series with timestamps of their own that are not there any more.
    fn track(&mut self, time_ms: i64, present: HashSet<Labels>) -> Result<(), StorageError> {
        let ends = self.state.tracked.turn(present, time_ms);
        if ends.is_empty() {
            return Ok(());
        }
        self.pool.storage.append_samples(&ends).map(|_| ())
    }

    /// The body as plans walk it, where it is not so already.
    fn transcode(&self, body: &[u8], format: Format) -> Result<Option<Transcoded>, String> {
        let settings = &self.histograms;
        match format {
            Format::Protobuf => protobuf::read(body, settings).map(Some),
            _ if settings.convert => convert(body, format, settings.always_classic).map(Some).map_err(|e| e.to_string()),
            _ => Ok(None),
        }
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

    fn end_histograms(&mut self, time_ms: i64) -> Result<(), StorageError> {
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
    fn append_failure(&mut self, time_ms: i64, duration_seconds: f64, body_bytes: f64) -> Result<(), PlanError> {
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
struct Taken {
    samples: usize,
    /// Left after relabeling, and within the budget.
    series: usize,
    series_dropped: usize,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grid_is_as_wide_as_the_interval_and_shifted() {
        let check = |after: i64, width: i64, spread: u64, want: i64| assert_eq!(next_on_grid(after, width, spread), want);
        check(0, 10, 3, 3);
        check(3, 10, 3, 13);
        check(2, 10, 13, 3);
        check(1_000_000, 15_000, 7, 1_005_007);
        for after in 0..50 {
            let next = next_on_grid(after, 7, 25);
            assert!(next > after && next <= after + 7 && next % 7 == 4);
        }
    }

    #[test]
    fn the_spread_of_a_target_never_changes() {
        let labels = Labels::from_pairs(vec![("job".into(), "a".into())]);
        assert_eq!(spread("http://a/metrics", &labels), spread("http://a/metrics", &labels));
        assert_ne!(spread("http://a/metrics", &labels), spread("http://b/metrics", &labels));
        assert_eq!(spread("", &Labels::empty()) % 1000, (0xcbf2_9ce4_8422_2325u64 ^ 0xff).wrapping_mul(0x100_0000_01b3) % 1000);
    }
}
