//! What a power cut, and a disk that fails for a moment, leave behind: tried at every change of the disk of a run.
//!
//! The run opens a folder, appends rows, samples, histograms and exemplars, commits, seals, compacts, merges, restarts. Whatever the point at which
//! the disk fails, every sample that a commit acknowledged is there afterwards, and none that was not appended.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::columns::Column;
use super::compaction::{BLOCK_MILLISECONDS, SETTLED_MILLISECONDS};
use super::disk::faults::{self, Fails};
use super::exemplars::Exemplar;
use super::matcher::Selector;
use super::select::select;
use super::storage::{Options, Storage};
use super::{is_stale, Result};
use crate::histogram::marked;
use crate::histogram::tests::simple;
use crate::labels::Labels;

/// Values by series and time. An exemplar counts as a sample with the labels of both.
type Samples = BTreeMap<(Labels, i64), u64>;

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect())
}

fn open(folder: &Path) -> Result<Storage> {
    let options = Options {
        retention: Duration::from_secs(400 * 86400 * 365),
        retention_bytes: 0,
        commit_interval: Duration::from_secs(3600),
        chunk_rows: 4,
        exemplars: 1000,
    };
    Storage::open(folder, options, &mut |_, _, _| {})
}

/// What was appended, and what of it a commit acknowledged.
#[derive(Default)]
struct Told {
    appended: Samples,
    acknowledged: Samples,
}

impl Told {
    /// Does as a server would: what fails is tried again at the next turn, or is lost and known to be.
    fn run(&mut self, folder: &Path) -> Result<()> {
        let mut storage = open(folder)?;
        let mut waiting = Samples::new();
        for turn in 0..46i64 {
            let time = 1000 * BLOCK_MILLISECONDS + turn * 20 * 60_000;
            for group in 0..2 {
                let target = labels(&[("g", &group.to_string())]);
                let columns: Vec<Column> = (0..3 + (turn as usize + group) % 2)
                    .map(|i| Column {
                        own: labels(&[("__name__", &format!("m{}", i / 2)), ("i", &i.to_string())]),
                        dropped: Box::default(),
                    })
                    .collect();
                let row: Vec<f64> = (0..columns.len()).map(|i| (turn * 10) as f64 + i as f64).collect();
                let keys: Vec<(Labels, i64)> = columns.iter().map(|c| (c.series(&target), time)).collect();
                let samples: Vec<_> = keys.into_iter().zip(row.iter().map(|v| v.to_bits())).collect();
                self.appended.extend(samples.iter().cloned());
                let append = || {
                    let of = storage.group("p", &target)?;
                    let (set, at) = storage.intern_columns(columns.clone())?;
                    let mut ordered = row.clone();
                    at.iter().zip(&row).for_each(|(place, v)| ordered[*place as usize] = *v);
                    storage.append(&of, time, &set, &ordered)
                };
                if append().is_ok() {
                    waiting.extend(samples);
                }
            }
            let late = (labels(&[("__name__", "late")]), time - (turn % 5) * 3_600_000 - turn);
            self.appended.insert(late.clone(), (turn as f64).to_bits());
            if storage.append_samples(&[(late.0.clone(), late.1, turn as f64)]).is_ok() {
                waiting.insert(late, (turn as f64).to_bits());
            }
            let (series, of_trace) = (labels(&[("__name__", "m0")]), labels(&[("trace", &turn.to_string())]));
            let seen = (Labels::merge(&series, &of_trace, &[]), time);
            self.appended.insert(seen.clone(), (turn as f64).to_bits());
            let exemplar = Exemplar { labels: of_trace, value: turn as f64, time_ms: time, is_timed: true };
            if storage.append_exemplars(&[(series, exemplar)]).is_ok() {
                waiting.insert(seen, (turn as f64).to_bits());
            }
            let histogram = (labels(&[("__name__", "distribution")]), time - (turn % 7) * 1_800_000);
            let count = u64::MAX - turn as u64;
            self.appended.insert(histogram.clone(), count);
            let value = Arc::new(simple(&[(turn as i32, turn as u64)]));
            if storage.append_histograms(&[(histogram.0.clone(), histogram.1, value)]).is_ok() {
                waiting.insert(histogram, count);
            }
            if turn % 3 == 2 && storage.flush().is_ok() {
                self.acknowledged.append(&mut waiting);
            }
            match turn {
                // An error is the next turn's, as it is the background thread's.
                12 | 24 | 36 => drop(storage.inner.compact(SETTLED_MILLISECONDS)),
                18 => drop(storage.inner.tidy()),
                29 => {
                    if storage.close().is_ok() {
                        self.acknowledged.append(&mut waiting);
                    }
                    drop(storage);
                    storage = open(folder)?;
                    waiting.clear();
                }
                40 => drop(storage.inner.compact(-BLOCK_MILLISECONDS)),
                _ => {}
            }
        }
        if storage.close().is_ok() {
            self.acknowledged.append(&mut waiting);
        }
        Ok(())
    }

    fn check(&self, folder: &Path, what: &str) {
        let storage = open(folder).unwrap_or_else(|e| panic!("{what}: {e}"));
        let selector = Selector::new(vec![("__name__".into(), "=~".into(), ".+".into())]).unwrap();
        let found = select(&storage.inner, &selector, i64::MIN / 2, i64::MAX / 2, 0).unwrap();
        let mut stored = Samples::new();
        for (i, series) in found.labels.iter().enumerate() {
            for at in found.offsets[i] as usize..found.offsets[i + 1] as usize {
                if !is_stale(found.values[at]) {
                    let value = match marked(found.values[at]).map(|number| found.histograms[number as usize].numbers().count) {
                        Some(count) => u64::MAX - count as u64,
                        None => found.values[at].to_bits(),
                    };
                    stored.insert((series.clone(), found.times[at]), value);
                }
            }
        }
        for (series, held) in storage.inner.exemplars.select(&[selector], i64::MIN, i64::MAX) {
            stored.extend(held.iter().map(|e| ((Labels::merge(&series, &e.labels, &[]), e.time_ms), e.value.to_bits())));
        }
        let missing: Vec<_> = self.acknowledged.iter().filter(|(k, v)| stored.get(*k) != Some(*v)).collect();
        assert!(
            missing.is_empty(),
            "{what}: {} acknowledged samples are lost: {:?}",
            missing.len(),
            &missing[..missing.len().min(3)]
        );
        let invented: Vec<_> = stored.iter().filter(|(k, v)| self.appended.get(*k) != Some(*v)).collect();
        assert!(invented.is_empty(), "{what}: samples are invented: {:?}", &invented[..invented.len().min(3)]);
    }
}

/// The run with a disk that fails so; afterwards the machine loses its power. Returns how many changes there were.
fn power_cut(fails: Fails) -> u64 {
    let (before, after) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    faults::watch(before.path(), fails);
    let mut told = Told::default();
    // A disk that fails while the folder is opened refuses it; what was acknowledged before is there all the same.
    let _ = told.run(before.path());
    let changes = faults::changes(before.path());
    faults::crash(before.path(), after.path());
    told.check(after.path(), &format!("{fails:?}"));
    if let Fails::Never = fails {
        assert_eq!(told.appended.len(), told.acknowledged.len());
    }
    changes
}

/// Every change when told so (`make crash`), else some.
fn step() -> usize {
    match std::env::var_os("BELLBUOY_EVERY_CHANGE") {
        Some(_) => 1,
        None => 7,
    }
}

#[test]
fn what_a_commit_acknowledged_survives_a_power_cut_at_any_change() {
    let changes = power_cut(Fails::Never);
    assert!(changes > 150, "{changes}");
    (1..=changes).step_by(step()).for_each(|at| {
        power_cut(Fails::From(at));
    });
}

#[test]
fn what_a_commit_acknowledged_survives_any_one_change_that_fails() {
    let changes = power_cut(Fails::Never);
    (1..=changes).step_by(step()).for_each(|at| {
        power_cut(Fails::Once(at));
    });
}
