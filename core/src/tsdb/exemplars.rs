//! Exemplars: single observations, such as one request with its trace, that stand for a series at a time.
//!
//! The last ones of all series are held in memory; the oldest make room. Each is logged when it comes. A segment of the log
//! that is to be deleted may have some that are still held: before that all of them are logged again, in one record that says
//! so and makes a replay forget those before it. So the log alone brings them back, and stays short.
//!
//! Of a series they come in the order of their times, then values, then labels: what repeats the last one is no news, what
//! lies before it is refused.
//!
//! ```text
//! of each:  labels of the series | own labels | time, signed | 1 if the target told the time, else 0 | value (8 bytes)
//! ```

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use hashbrown::HashMap;
use parking_lot::Mutex;
use rustc_hash::FxBuildHasher;

use super::matcher::Selector;
use super::texts::{put_labels, read_labels};
use super::varint::{put, put_signed, Cursor};
use super::wal::Wal;
use super::Result;
use crate::labels::{Labels, Strings};

#[derive(Clone, Debug)]
pub struct Exemplar {
    pub labels: Labels,
    pub value: f64,
    pub time_ms: i64,
    /// The time is the target's word and not the scrape's.
    pub is_timed: bool,
}

impl Exemplar {
    /// Whether it says what another one says. The times of two that were told none do not count: they are scrapes'.
    fn repeats(&self, other: &Exemplar) -> bool {
        (self.time_ms == other.time_ms || !(self.is_timed || other.is_timed))
            && self.value.total_cmp(&other.value).is_eq()
            && self.labels == other.labels
    }

    fn order(&self, other: &Exemplar) -> Ordering {
        (self.time_ms.cmp(&other.time_ms))
            .then_with(|| self.value.total_cmp(&other.value))
            .then_with(|| self.labels.cmp(&other.labels))
    }
}

/// The exemplars of all series.
pub struct Exemplars {
    /// As many are held; 0 takes none.
    limit: usize,
    state: Mutex<State>,
    pub appended: AtomicU64,
    pub out_of_order: AtomicU64,
}

struct State {
    /// Of each series, oldest first; no series without one.
    series: HashMap<Labels, VecDeque<Exemplar>, FxBuildHasher>,
    /// The series of each, in the order in which they came.
    order: VecDeque<Labels>,
    /// The log segment of the oldest record that is needed; `u64::MAX` when none is.
    segment: u64,
}

enum Added {
    New,
    Known,
    OutOfOrder,
}

/// What is held: exemplars, series with some, seconds of the oldest one's time.
pub struct Size {
    pub exemplars: usize,
    pub series: usize,
    pub oldest_seconds: i64,
}

impl State {
    fn add(&mut self, series: &Labels, exemplar: &Exemplar) -> Added {
        if let Some(last) = self.series.get(series).and_then(VecDeque::back) {
            if exemplar.repeats(last) {
                return Added::Known;
            }
            if exemplar.order(last).is_lt() {
                return Added::OutOfOrder;
            }
        }
        let known = self.series.get_key_value(series).map_or_else(|| series.clone(), |(known, _)| known.clone());
        self.series.entry(known.clone()).or_default().push_back(exemplar.clone());
        self.order.push_back(known);
        Added::New
    }

    fn drop_oldest(&mut self) {
        let Some(series) = self.order.pop_front() else { return };
        let Some(held) = self.series.get_mut(&series) else { return };
        held.pop_front();
        if held.is_empty() {
            self.series.remove(&series);
        }
    }

    /// All, in the order in which they came.
    fn all(&self) -> impl Iterator<Item = (&Labels, &Exemplar)> {
        let mut next: HashMap<&Labels, usize, FxBuildHasher> = HashMap::default();
        self.order.iter().filter_map(move |series| {
            let at = next.entry(series).or_default();
            *at += 1;
            Some((series, self.series.get(series)?.get(*at - 1)?))
        })
    }

    /// Returns the segment that they went to; `u64::MAX` when there are none.
    fn log_all(&self, wal: &Wal) -> Result<u64> {
        let mut records = Vec::new();
        self.all().for_each(|(series, exemplar)| put_exemplar(&mut records, series, exemplar));
        match self.order.len() {
            0 => Ok(u64::MAX),
            count => wal.exemplars(true, count as u64, &records),
        }
    }
}

impl Exemplars {
    pub fn new(limit: usize) -> Exemplars {
        let state = State { series: HashMap::default(), order: VecDeque::new(), segment: u64::MAX };
        Exemplars { limit, state: Mutex::new(state), appended: AtomicU64::new(0), out_of_order: AtomicU64::new(0) }
    }

    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Takes those that are new and logs them. Returns how many.
    pub fn append(&self, exemplars: &[(Labels, Exemplar)], wal: &Wal) -> Result<u64> {
        if self.limit == 0 {
            return Ok(0);
        }
        let (mut records, mut added) = (Vec::new(), 0);
        // Held while they are logged: a replay meets those of a series in the same order.
        let mut state = self.state.lock();
        for (series, exemplar) in exemplars {
            match state.add(series, exemplar) {
                Added::New => {
                    put_exemplar(&mut records, series, exemplar);
                    added += 1;
                }
                Added::Known => {}
                Added::OutOfOrder => {
                    self.out_of_order.fetch_add(1, Relaxed);
                }
            }
        }
        while state.order.len() > self.limit {
            state.drop_oldest();
        }
        if added > 0 {
            let segment = wal.exemplars(false, added, &records)?;
            state.segment = state.segment.min(segment);
            self.appended.fetch_add(added, Relaxed);
        }
        Ok(added)
    }

    /// Takes what a log's record has.
    pub fn restore(&self, are_all: bool, exemplars: &[(Labels, Exemplar)], segment: u64) {
        if self.limit == 0 {
            return;
        }
        let mut state = self.state.lock();
        if are_all {
            (state.series, state.order, state.segment) = (HashMap::default(), VecDeque::new(), u64::MAX);
        }
        for (series, exemplar) in exemplars {
            state.add(series, exemplar);
            if state.order.len() > self.limit {
                state.drop_oldest();
            }
        }
        state.segment = state.segment.min(segment);
    }

    /// The oldest segment of the log that is needed.
    pub fn needed_segment(&self) -> u64 {
        self.state.lock().segment
    }

    /// Logs all that are held again, so that no record before is needed.
    pub fn log_all(&self, wal: &Wal) -> Result<()> {
        let mut state = self.state.lock();
        state.segment = state.log_all(wal)?;
        Ok(())
    }

    /// Logs all that are held in a log of a folder of its own.
    pub fn copy(&self, wal: &Wal) -> Result<()> {
        self.state.lock().log_all(wal).map(|_| ())
    }

    /// Forgets those before this time.
    pub fn retire(&self, before: i64) {
        let mut state = self.state.lock();
        let oldest = |state: &State| state.all().next().map(|(_, exemplar)| exemplar.time_ms);
        while oldest(&state).is_some_and(|time| time < before) {
            state.drop_oldest();
        }
    }

    /// Those with start <= t <= end of the series that match any of the selectors, by series in the order of their labels.
    pub fn select(&self, selectors: &[Selector], start: i64, end: i64) -> Vec<(Labels, Vec<Exemplar>)> {
        let state = self.state.lock();
        let mut found: Vec<(Labels, Vec<Exemplar>)> = Vec::new();
        for (series, held) in &state.series {
            let (first, last) = (held.partition_point(|e| e.time_ms < start), held.partition_point(|e| e.time_ms <= end));
            if first < last && selectors.iter().any(|s| s.matches(series)) {
                found.push((series.clone(), held.range(first..last).cloned().collect()));
            }
        }
        drop(state);
        found.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        found
    }

    pub fn size(&self) -> Size {
        let state = self.state.lock();
        let oldest_seconds = state.all().next().map_or(0, |(_, exemplar)| exemplar.time_ms.div_euclid(1000));
        Size { exemplars: state.order.len(), series: state.series.len(), oldest_seconds }
    }
}

fn put_exemplar(out: &mut Vec<u8>, series: &Labels, exemplar: &Exemplar) {
    put_labels(out, series);
    put_labels(out, &exemplar.labels);
    put_signed(out, exemplar.time_ms);
    put(out, u64::from(exemplar.is_timed));
    out.extend_from_slice(&exemplar.value.to_bits().to_le_bytes());
}

/// So many exemplars of a record.
pub fn read(cursor: &mut Cursor<'_>, count: usize) -> Result<Vec<(Labels, Exemplar)>> {
    let mut strings = Strings::default();
    let mut one = || {
        let series = read_labels(cursor, &mut strings)?;
        let labels = read_labels(cursor, &mut strings)?;
        let (time_ms, is_timed) = (cursor.signed()?, cursor.varint()? == 1);
        Ok((series, Exemplar { labels, value: f64::from_bits(cursor.u64()?), time_ms, is_timed }))
    };
    (0..count).map(|_| one()).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::tsdb::storage::{Options, Storage};

    /// A series' label, an exemplar's label, its value and time: how a test sees one.
    type Seen = (String, String, f64, i64);

    fn labels(name: &str, value: &str) -> Labels {
        Labels::from_pairs(vec![(name.into(), value.into())])
    }

    fn one(series: &str, trace: &str, value: f64, time_ms: i64) -> (Labels, Exemplar) {
        (labels("__name__", series), Exemplar { labels: labels("trace_id", trace), value, time_ms, is_timed: true })
    }

    fn open(folder: &std::path::Path, limit: usize) -> Storage {
        let options = Options {
            retention: Duration::from_secs(400 * 86400 * 365),
            retention_bytes: 0,
            commit_interval: Duration::from_secs(3600),
            chunk_rows: 4,
            exemplars: limit,
        };
        Storage::open(folder, options, &mut |_, _, _| {}).unwrap()
    }

    /// By series, in the order of their times.
    fn held(storage: &Storage) -> Vec<Seen> {
        let all = Selector::new(Vec::new()).unwrap();
        let found = storage.inner.exemplars.select(&[all], i64::MIN, i64::MAX);
        let flat = found.into_iter().flat_map(|(series, held)| held.into_iter().map(move |e| (series.clone(), e)));
        let text = |labels: &Labels, name: &str| labels.get(name).unwrap_or("").to_owned();
        flat.map(|(s, e)| (text(&s, "__name__"), text(&e.labels, "trace_id"), e.value, e.time_ms)).collect()
    }

    #[test]
    fn what_repeats_the_last_is_no_news_and_what_lies_before_it_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let storage = open(folder.path(), 10);
        let check = |new: (Labels, Exemplar), added: u64, refused: u64| {
            let before = storage.inner.exemplars.out_of_order.load(Relaxed);
            assert_eq!(storage.append_exemplars(std::slice::from_ref(&new)).unwrap(), added, "{new:?}");
            assert_eq!(storage.inner.exemplars.out_of_order.load(Relaxed) - before, refused, "{new:?}");
        };
        check(one("a", "x", 1.0, 10), 1, 0);
        check(one("a", "x", 1.0, 10), 0, 0);
        check(one("a", "x", 0.5, 10), 0, 1);
        check(one("a", "w", 1.0, 10), 0, 1);
        check(one("a", "x", 1.0, 9), 0, 1);
        check(one("a", "y", 1.0, 10), 1, 0);
        check(one("b", "x", 1.0, 9), 1, 0);
        check(one("a", "y", f64::NAN, 11), 1, 0);
        check(one("a", "y", f64::NAN, 11), 0, 0);
        // That of a scrape is another scrape's.
        let untimed = |time: i64| (labels("__name__", "c"), Exemplar { is_timed: false, ..one("c", "x", 1.0, time).1 });
        check(untimed(10), 1, 0);
        check(untimed(20), 0, 0);
        check(one("c", "x", 1.0, 20), 1, 0);
    }

    #[test]
    fn none_are_taken_where_none_shall_be_held() {
        let folder = tempfile::tempdir().unwrap();
        let storage = open(folder.path(), 0);
        assert_eq!(storage.append_exemplars(&[one("a", "x", 1.0, 10)]).unwrap(), 0);
        assert_eq!(held(&storage), []);
        assert_eq!(storage.inner.wal.waiting(), 0);
    }

    #[test]
    fn they_outlive_the_log_segments_that_they_came_in() {
        let folder = tempfile::tempdir().unwrap();
        let mut want = Vec::new();
        for turn in 0..5i64 {
            let storage = open(folder.path(), 3);
            assert_eq!(held(&storage), want);
            storage.append_exemplars(&[one("a", "x", 1.0, turn), one("b", &turn.to_string(), 2.0, turn)]).unwrap();
            want = held(&storage);
            storage.inner.wal.roll();
            storage.flush().unwrap();
            storage.inner.tidy().unwrap();
            assert_eq!(std::fs::read_dir(folder.path().join("wal")).unwrap().count(), 1, "{turn}");
        }
        assert_eq!(want.len(), 3);
        let snapshot = tempfile::tempdir().unwrap();
        let storage = open(folder.path(), 3);
        storage.inner.snapshot(snapshot.path()).unwrap();
        assert_eq!(held(&open(snapshot.path(), 3)), want);
    }

    #[test]
    fn those_past_the_retention_are_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let storage = open(folder.path(), 9);
        storage.append_exemplars(&[one("a", "x", 1.0, 1), one("b", "x", 1.0, 2), one("a", "y", 1.0, 3)]).unwrap();
        storage.inner.exemplars.retire(3);
        assert_eq!(held(&storage), [("a".to_owned(), "y".to_owned(), 1.0, 3)]);
        let size = storage.inner.exemplars.size();
        assert_eq!((size.exemplars, size.series, size.oldest_seconds), (1, 1, 0));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]
        #[test]
        fn what_is_held_is_the_last_of_what_was_taken_after_a_restart_too(
            told in prop::collection::vec((0..4u8, 0..3u8, -2.0..2.0f64, 0..50i64, 0..12u8), 1..80), limit in 1..9usize
        ) {
            let folder = tempfile::tempdir().unwrap();
            let mut storage = open(folder.path(), limit);
            let mut model: VecDeque<Seen> = VecDeque::new();
            for (series, trace, value, time, then) in told {
                let seen = (series.to_string(), trace.to_string(), value, time);
                let last = model.iter().rev().find(|m| m.0 == seen.0).cloned();
                let is_new = last.is_none_or(|l| (l.3, l.2, l.1) < (seen.3, seen.2, seen.1.clone()));
                let (labels, exemplar) = one(&seen.0, &seen.1, value, time);
                prop_assert_eq!(storage.append_exemplars(&[(labels, exemplar)]).unwrap(), u64::from(is_new));
                if is_new {
                    model.push_back(seen);
                    model.drain(..model.len().saturating_sub(limit));
                }
                match then {
                    0 => {
                        storage.inner.wal.roll();
                        storage.flush().unwrap();
                    }
                    1 => storage.inner.tidy().unwrap(),
                    2 => {
                        storage.close().unwrap();
                        drop(storage);
                        storage = open(folder.path(), limit);
                    }
                    _ => {}
                }
                let mut want: Vec<Seen> = model.iter().cloned().collect();
                want.sort_by(|a, b| a.0.cmp(&b.0));
                prop_assert_eq!(held(&storage), want);
            }
        }

        #[test]
        fn damage_is_an_error_and_no_panic(bytes: Vec<u8>) {
            let _ = read(&mut Cursor::new(&bytes), bytes.len());
        }
    }
}
