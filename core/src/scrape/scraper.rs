//! The scraper as Python holds it: pools of targets, each set whole.
//!
//! Setting a pool compares it with what runs: targets that stay go on untouched, changed flags reach them as a signal, those
//! that are gone end in stale markers. Runs on threads of its own; Python waits, without the GIL, only for targets that stop.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::time::Duration;

use hashbrown::HashMap;
use parking_lot::Mutex;
use pyo3::exceptions::{PyConnectionError, PyKeyError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::address::Address;
use super::context::Context;
use super::fetch::Client;
use super::grid::spread;
use super::labeling::ContextKey;
use super::metadata::{self, Metadata};
use super::plan::Plan;
use super::pool::{Counters, Pool, Shown, Signal, Stop};
use super::settings::{PoolSettings, TargetSettings};
use super::target::{no_answer, State, Target};
use super::transcode::HistogramSettings;
use crate::labels::{Labels, Strings};
use crate::tsdb::python::PyStorage;
use crate::tsdb::storage::Storage;

/// How long closing waits for what still runs.
const CLOSE_WAIT: Duration = Duration::from_secs(5);

/// A target that runs.
struct Running {
    pool: Arc<Pool>,
    interval: Duration,
    timeout: Duration,
    histograms: HistogramSettings,
    signal: watch::Sender<Signal>,
    shown: Arc<Shown>,
    task: JoinHandle<State>,
}

impl Running {
    /// Whether it does what these settings ask for.
    fn is_same(&self, target: &TargetSettings, pool: &Arc<Pool>) -> bool {
        Arc::ptr_eq(&self.pool, pool)
            && (self.interval, self.timeout, self.histograms) == (target.interval, target.timeout, target.histograms)
    }

    fn stop(self, how: Stop) -> JoinHandle<State> {
        self.signal.send_modify(|s| s.stop = Some(how));
        self.task
    }
}

struct RunningPool {
    /// What Python said, to tell whether it says something else now.
    said: String,
    shared: Arc<Pool>,
    contexts: HashMap<ContextKey, Weak<Context>>,
    targets: HashMap<(String, Labels), Running>,
}

impl RunningPool {
    /// The context of targets with these labels, shared with all that relabeling cannot tell from them.
    fn context(&mut self, labels: &Labels) -> Arc<Context> {
        let labeling = &self.shared.settings.labeling;
        let key = ContextKey::new(labeling, labels);
        if let Some(known) = self.contexts.get(&key).and_then(Weak::upgrade) {
            return known;
        }
        let new = Arc::new(Context::new(labeling.clone(), labels.clone()));
        self.contexts.insert(key, Arc::downgrade(&new));
        new
    }
}

struct Engine {
    storage: Arc<Storage>,
    counters: Arc<Counters>,
    runtime: Runtime,
    pools: BTreeMap<String, RunningPool>,
}

impl Engine {
    fn set_pool(&mut self, name: &str, said: String, settings: PoolSettings, targets: Vec<TargetSettings>) -> Result<(), String> {
        let mut stopped = Vec::new();
        let mut old = HashMap::new();
        let mut pool = match self.pools.remove(name) {
            Some(mut pool) if pool.said == said => {
                std::mem::swap(&mut old, &mut pool.targets);
                pool
            }
            other => {
                let client = Client::new(settings.fetch.clone()).map_err(|e| format!("pool {name}: {e}"));
                let client = match (client, other) {
                    (Ok(client), None) => client,
                    (Ok(client), Some(mut pool)) => {
                        std::mem::swap(&mut old, &mut pool.targets);
                        client
                    }
                    (Err(reason), other) => {
                        // What ran goes on.
                        self.pools.extend(other.map(|pool| (name.to_owned(), pool)));
                        return Err(reason);
                    }
                };
                let (storage, counters) = (self.storage.clone(), self.counters.clone());
                let shared = Pool { settings, client, storage, counters, buffers: Mutex::default() };
                RunningPool { said, shared: Arc::new(shared), contexts: HashMap::new(), targets: HashMap::new() }
            }
        };
        let mut starting = Vec::new();
        for target in targets {
            let key = (target.url.clone(), target.labels.clone());
            if pool.targets.contains_key(&key) {
                continue;
            }
            match old.remove(&key) {
                Some(running) if running.is_same(&target, &pool.shared) => {
                    running.signal.send_if_modified(|s| std::mem::replace(&mut s.flags, target.flags) != target.flags);
                    pool.targets.insert(key, running);
                }
                other => {
                    starting.push((target, other.map(|running| running.stop(Stop::Leave))));
                }
            }
        }
        stopped.extend(old.into_values().map(|running| running.stop(Stop::End)));
        self.wait(stopped);
        let mut failed = None;
        for (target, before) in starting {
            let state = self.wait(before.into_iter().collect()).pop().unwrap_or_default();
            match self.start(name, &mut pool, &target, state) {
                Ok(running) => {
                    pool.targets.insert((target.url, target.labels), running);
                }
                Err(reason) => failed = Some(reason),
            }
        }
        pool.contexts.retain(|_, context| context.strong_count() > 0);
        self.pools.insert(name.to_owned(), pool);
        failed.map_or(Ok(()), Err)
    }

    fn start(&self, name: &str, pool: &mut RunningPool, target: &TargetSettings, state: State) -> Result<Running, String> {
        let group = self.storage.group(name, &target.labels).map_err(|e| format!("pool {name}: {e}"))?;
        let context = pool.context(&target.labels);
        let (signal, receiver) = watch::channel(Signal { flags: target.flags, stop: None });
        let shown = Arc::new(Shown::default());
        let new = Target {
            pool: pool.shared.clone(),
            url: target.url.clone(),
            address: target.address.clone(),
            interval: target.interval,
            timeout: target.timeout,
            histograms: target.histograms,
            spread: spread(&target.url, &target.labels),
            labels: target.labels.clone(),
            group,
            context,
            signal: receiver,
            shown: shown.clone(),
            state,
        };
        let task = self.runtime.spawn(new.run());
        let pool = pool.shared.clone();
        let TargetSettings { interval, timeout, histograms, .. } = *target;
        Ok(Running { pool, interval, timeout, histograms, signal, shown, task })
    }

    /// Until these targets have stopped: who goes on with a series must be the only one that appends to it. Gives what they
    /// left.
    fn wait(&self, stopped: Vec<JoinHandle<State>>) -> Vec<State> {
        self.runtime.block_on(async {
            let mut left = Vec::new();
            for task in stopped {
                // A task that broke has stopped as well.
                left.extend(task.await.ok());
            }
            left
        })
    }

    fn stop_all(&mut self, targets: HashMap<(String, Labels), Running>, how: Stop) {
        let stopped = targets.into_values().map(|running| running.stop(how)).collect();
        self.wait(stopped);
    }
}

#[pyclass(frozen, module = "bellbuoy._core")]
pub struct Scraper {
    counters: Arc<Counters>,
    /// None once it is closed.
    engine: Mutex<Option<Engine>>,
}

impl Scraper {
    /// The engine for as long as the function runs, without the GIL.
    fn with_engine<T: Send>(&self, py: Python<'_>, f: impl FnOnce(&mut Engine) -> T + Send) -> PyResult<T> {
        let done = py.detach(|| self.engine.lock().as_mut().map(f));
        done.ok_or_else(|| PyRuntimeError::new_err("the scraper is closed"))
    }
}

#[pymethods]
impl Scraper {
    #[new]
    #[pyo3(signature = (storage, *, threads = 2))]
    fn new(storage: &Bound<'_, PyStorage>, threads: usize) -> PyResult<Scraper> {
        if threads == 0 {
            return Err(PyValueError::new_err("threads is 0: scraping needs at least one"));
        }
        let runtime = Builder::new_multi_thread().worker_threads(threads).thread_name("scrape").enable_all().build();
        let runtime = runtime.map_err(|e| PyRuntimeError::new_err(format!("cannot start {threads} threads: {e}")))?;
        let storage = storage.get().storage.clone();
        let counters: Arc<Counters> = Arc::default();
        let engine = Engine { storage, counters: counters.clone(), runtime, pools: BTreeMap::new() };
        Ok(Scraper { counters, engine: Mutex::new(Some(engine)) })
    }

    fn set_pool(&self, py: Python<'_>, name: &str, settings: &Bound<'_, PyAny>, targets: &Bound<'_, PyAny>) -> PyResult<()> {
        let said = settings.repr()?.to_string();
        let settings = PoolSettings::from_python(name, settings)?;
        let mut strings = Strings::default();
        let targets: PyResult<Vec<TargetSettings>> =
            targets.try_iter()?.map(|target| TargetSettings::from_python(name, &settings, &target?, &mut strings)).collect();
        let targets = targets?;
        self.with_engine(py, |engine| engine.set_pool(name, said, settings, targets))?.map_err(PyValueError::new_err)
    }

    fn remove_pool(&self, py: Python<'_>, name: &str) -> PyResult<()> {
        self.with_engine(py, |engine| {
            if let Some(pool) = engine.pools.remove(name) {
                engine.stop_all(pool.targets, Stop::End);
            }
        })
    }

    fn targets<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let all = self.with_engine(py, |engine| {
            let mut all = Vec::new();
            for (name, pool) in &engine.pools {
                for ((url, labels), running) in &pool.targets {
                    let status = running.shown.status.lock().clone();
                    all.push((name.clone(), url.clone(), labels.clone(), running.interval, running.timeout, status));
                }
            }
            all.sort_by(|a, b| (&a.0, &a.1, &a.2).cmp(&(&b.0, &b.1, &b.2)));
            all
        })?;
        let list = PyList::empty(py);
        for (pool, url, labels, interval, timeout, status) in all {
            let dict = PyDict::new(py);
            dict.set_item("pool", pool)?;
            dict.set_item("url", url)?;
            dict.set_item("labels", labels.to_dict(py)?)?;
            dict.set_item("health", status.health.text())?;
            dict.set_item("last_error", status.last_error)?;
            dict.set_item("last_scrape", status.last_scrape_ms)?;
            dict.set_item("duration_seconds", status.duration_seconds)?;
            dict.set_item("samples", status.samples)?;
            dict.set_item("series", status.series)?;
            dict.set_item("series_dropped", status.series_dropped)?;
            dict.set_item("interval_seconds", interval.as_secs_f64())?;
            dict.set_item("timeout_seconds", timeout.as_secs_f64())?;
            list.append(dict)?;
        }
        Ok(list)
    }

    #[allow(clippy::type_complexity)]
    fn metadata(&self, py: Python<'_>) -> PyResult<Vec<(String, String, String, String, String, String)>> {
        self.with_engine(py, |engine| {
            let mut all = Vec::new();
            // Equal plans are read once.
            let mut read: HashMap<*const Plan, Vec<Metadata>> = HashMap::new();
            let mut held = Vec::new();
            for (name, pool) in &engine.pools {
                for ((url, _), running) in &pool.targets {
                    let Some(plan) = running.shown.plan.lock().clone() else {
                        continue;
                    };
                    for m in read.entry(Arc::as_ptr(&plan)).or_insert_with(|| metadata::read(&plan)).iter() {
                        all.push((name.clone(), url.clone(), m.metric.clone(), m.kind.clone(), m.help.clone(), m.unit.clone()));
                    }
                    // As long as it is held, nothing else has its address.
                    held.push(plan);
                }
            }
            all
        })
    }

    fn stats(&self, py: Python<'_>) -> PyResult<BTreeMap<&'static str, u64>> {
        let counters = &self.counters;
        let mut stats: BTreeMap<&'static str, u64> = [
            ("scrapes", &counters.scrapes),
            ("scrapes_failed", &counters.scrapes_failed),
            ("samples_scraped", &counters.samples_scraped),
            ("samples_appended", &counters.samples_appended),
            ("samples_duplicate", &counters.samples_duplicate),
            ("samples_rejected", &counters.samples_rejected),
            ("samples_over_budget", &counters.samples_over_budget),
            ("exemplars", &counters.exemplars),
            ("exemplars_rejected", &counters.exemplars_rejected),
            ("wire_bytes", &counters.wire_bytes),
            ("body_bytes", &counters.body_bytes),
            ("plan_hits", &counters.plan_hits),
            ("plan_misses", &counters.plan_misses),
        ]
        .map(|(name, counter)| (name, counter.load(Relaxed)))
        .into();
        let (targets, plans, plan_bytes) = self.with_engine(py, |engine| {
            let targets = engine.pools.values().map(|p| p.targets.len()).sum::<usize>();
            let contexts = engine.pools.values().flat_map(|p| p.contexts.values()).filter_map(Weak::upgrade);
            let plans = contexts.map(|c| c.plan_count()).fold((0, 0), |sum, (count, bytes)| (sum.0 + count, sum.1 + bytes));
            (targets, plans.0, plans.1)
        })?;
        stats.extend([("targets", targets as u64), ("plans", plans as u64), ("plan_bytes", plan_bytes as u64)]);
        Ok(stats)
    }

    #[pyo3(signature = (pool, url, labels, *, limit))]
    fn look<'py>(
        &self,
        py: Python<'py>,
        pool: &str,
        url: &str,
        labels: &Bound<'py, PyAny>,
        limit: usize,
    ) -> PyResult<Bound<'py, PyDict>> {
        let labels = Labels::from_mapping(labels, &mut Strings::default())?;
        let found = self.with_engine(py, |engine| {
            let running = engine.pools.get(pool).and_then(|p| p.targets.get(&(url.to_owned(), labels)));
            running.map(|r| (r.pool.clone(), r.timeout, engine.runtime.handle().clone()))
        })?;
        let (pool, timeout, runtime) =
            found.ok_or_else(|| PyKeyError::new_err(format!("{pool} has no target {url} with these labels")))?;
        let to = Address::parse(url).map_err(PyValueError::new_err)?;
        // On the scraper's threads: when it closes meanwhile, the task is dropped and nobody waits for it.
        let (done, answer) = oneshot::channel();
        runtime.spawn(async move {
            let looked = match tokio::time::timeout(timeout, pool.client.look(&to, timeout, limit)).await {
                Ok(looked) => looked.map_err(|e| e.text),
                Err(_) => Err(no_answer(timeout)),
            };
            // Whoever asked may be gone.
            let _ = done.send(looked);
        });
        let looked = py.detach(|| answer.blocking_recv()).unwrap_or_else(|_| Err("the scraper is closed".into()));
        let looked = looked.map_err(PyConnectionError::new_err)?;
        let dict = PyDict::new(py);
        dict.set_item("status", looked.status)?;
        dict.set_item("version", looked.version)?;
        dict.set_item("content_type", looked.content_type)?;
        dict.set_item("encoding", looked.encoding)?;
        dict.set_item("wire_bytes", looked.wire_bytes)?;
        dict.set_item("body", PyBytes::new(py, &looked.body))?;
        dict.set_item("truncated", looked.truncated)?;
        Ok(dict)
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| {
            let Some(mut engine) = self.engine.lock().take() else {
                return;
            };
            for pool in std::mem::take(&mut engine.pools).into_values() {
                engine.stop_all(pool.targets, Stop::Leave);
            }
            engine.runtime.shutdown_timeout(CLOSE_WAIT);
        });
    }
}

impl Drop for Scraper {
    fn drop(&mut self) {
        if let Some(engine) = self.engine.lock().take() {
            engine.runtime.shutdown_background();
        }
    }
}
