//! One target: when it is scraped, and what becomes of the answer.
//!
//! A target is one task. Its scrapes fall on a grid, `interval` wide and shifted by a hash of the target, so that targets
//! spread and keep their places over restarts; the first one does not wait for the grid. What discovery says of the target's
//! life arrives as a signal: a pod that terminates is scraped at once, and each second until it refuses, and then its series
//! end; one that never was up is no `up 0` as long as it is not ready.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hashbrown::HashSet;
use tokio::sync::watch;

use super::address::Address;
use super::connection::Connection;
use super::context::Context;
use super::exemplars;
use super::fetch::Answer;
use super::fetcherror::FetchError;
use super::grid::next_on_grid;
use super::plan::{Plan, Seen};
use super::pool::{count, Health, Pool, Shown, Signal, Status, Stop};
use super::series::{Histograms, Present, TimedSamples, Tracked};
use super::settings::Flags;
use super::starts::Starts;
use super::transcode::HistogramSettings;
use crate::labels::Labels;
use crate::tsdb::group::Group;

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
/// Bodies from this size on are read outside of the threads that drive other targets.
const LARGE_BODY_BYTES: usize = 2 << 20;
/// Body buffers that a pool keeps for its next scrapes.
const BUFFERS_MAX: usize = 16;

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
    pub(super) plan: Option<Arc<Plan>>,
    pub(super) seen: Seen,
    /// Successful scrapes in the window.
    pub(super) window_scrapes: u32,
    /// Lines have been gone for long: the next body is scanned in full, and they leave the plan.
    pub(super) prune: bool,
    pub(super) present: Present,
    pub(super) timed: TimedSamples,
    pub(super) tracked: Tracked,
    pub(super) histograms: Histograms,
    pub(super) exemplars: exemplars::Known,
    pub(super) starts: Starts,
    pub(super) kept: Vec<Connection>,
    pub(super) was_up: bool,
    /// The last scrape succeeded.
    pub(super) is_up: bool,
    pub(super) tries: u32,
    pub(super) last_ms: i64,
    /// A terminating target refused: nothing is left to scrape.
    pub(super) ended: bool,
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
        self.state.starts.fail(time_ms);
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
}
