//! Which series a target has had: to count those that are new, to name those with timestamps of their own, and to end
//! those of them that are gone.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use rustc_hash::FxBuildHasher;

use super::plan::Reading;
use super::transcode::HistogramSettings;
use crate::histogram::{marked, Histogram};
use crate::labels::Labels;
use crate::tsdb::columns::{ColumnSet, MISSING};
use crate::tsdb::{ABSENT, ABSENT_BITS, STALE};

/// A series, a time in milliseconds and a value, as the storage's general path takes them.
pub type Sample = (Labels, i64, f64);

/// Which columns the last successful scrape had, to count those that are new.
#[derive(Default)]
pub struct Present {
    columns: Option<Arc<ColumnSet>>,
    bits: Vec<u64>,
}

impl Present {
    /// Takes a reading's columns; returns how many the one before had not.
    pub fn update(&mut self, columns: &Arc<ColumnSet>, reading: &Reading) -> usize {
        let mut bits: Vec<u64> = reading
            .row
            .chunks(64)
            .map(|cells| cells.iter().enumerate().fold(0, |word, (i, v)| word | u64::from(v.to_bits() != ABSENT_BITS) << i))
            .collect();
        for sample in &reading.timed {
            bits[sample.slot as usize / 64] |= 1 << (sample.slot % 64);
        }
        if !self.columns.as_ref().is_some_and(|known| Arc::ptr_eq(known, columns)) {
            self.translate(columns, bits.len());
            self.columns = Some(columns.clone());
        }
        let added = bits.iter().zip(&self.bits).map(|(new, old)| (new & !old).count_ones() as usize).sum();
        self.bits = bits;
        added
    }

    /// The bits as another set's columns have them.
    fn translate(&mut self, columns: &Arc<ColumnSet>, words: usize) {
        let mut bits = vec![0; words];
        if let Some(known) = &self.columns {
            for (old, slot) in known.positions_in(columns).into_iter().enumerate() {
                if slot != MISSING && self.bits[old / 64] >> (old % 64) & 1 == 1 {
                    bits[slot as usize / 64] |= 1 << (slot % 64);
                }
            }
        }
        self.bits = bits;
    }
}

/// Samples with timestamps of their own, with their labels: a body mostly has the same ones in the same order.
#[derive(Default)]
pub struct TimedSamples {
    columns: Option<Arc<ColumnSet>>,
    slots: Vec<u32>,
    pub(super) samples: Vec<Sample>,
}

impl TimedSamples {
    pub fn fill(&mut self, columns: &Arc<ColumnSet>, target: &Labels, reading: &Reading) -> &[Sample] {
        if !self.columns.as_ref().is_some_and(|known| Arc::ptr_eq(known, columns)) {
            self.columns = Some(columns.clone());
            self.slots.clear();
            self.samples.clear();
        }
        self.slots.truncate(reading.timed.len());
        self.samples.truncate(reading.timed.len());
        for (i, timed) in reading.timed.iter().enumerate() {
            if self.slots.get(i) == Some(&timed.slot) {
                (self.samples[i].1, self.samples[i].2) = (timed.time_ms, timed.value);
                continue;
            }
            let column = &columns.columns[timed.slot as usize];
            let sample = (column.series(target), timed.time_ms, timed.value);
            self.slots.truncate(i);
            self.samples.truncate(i);
            self.slots.push(timed.slot);
            self.samples.push(sample);
        }
        &self.samples
    }
}

/// A series, a time in milliseconds and a histogram.
pub type HistogramSample = (Labels, i64, Arc<Histogram>);

/// Histograms of a body: they are no columns of the target's row, and their series end by themselves.
#[derive(Default)]
pub struct Histograms {
    columns: Option<Arc<ColumnSet>>,
    labels: HashMap<u32, Labels, FxBuildHasher>,
    /// Those of the last body that end once they are gone.
    present: Vec<u32>,
    tracked: Tracked,
}

impl Histograms {
    /// Takes what a reading has of these histograms out of it, as samples.
    pub fn take(
        &mut self,
        columns: &Arc<ColumnSet>,
        target: &Labels,
        reading: &mut Reading,
        histograms: Vec<Histogram>,
        settings: &HistogramSettings,
        time_ms: i64,
    ) -> Result<Taken, String> {
        if !self.columns.as_ref().is_some_and(|known| Arc::ptr_eq(known, columns)) {
            self.columns = Some(columns.clone());
            self.labels.clear();
            self.present.clear();
        }
        let mut histograms: Vec<Option<Histogram>> = histograms.into_iter().map(Some).collect();
        let mut found: Vec<(u32, i64, u32)> = Vec::new();
        for (slot, cell) in reading.row.iter_mut().enumerate() {
            if let Some(number) = marked(*cell) {
                found.push((slot as u32, time_ms, number));
                *cell = ABSENT;
            }
        }
        let slots = found.iter().map(|f| f.0).collect();
        reading.timed.retain(|timed| match marked(timed.value) {
            Some(number) => {
                found.push((timed.slot, timed.time_ms, number));
                false
            }
            None => true,
        });
        let mut taken = Taken { samples: Vec::with_capacity(found.len()), slots };
        for (slot, time_ms, number) in found {
            let Some(mut histogram) = histograms.get_mut(number as usize).and_then(Option::take) else { continue };
            settings.limit(&mut histogram)?;
            let labels = self.labels.entry(slot).or_insert_with(|| columns.columns[slot as usize].series(target));
            taken.samples.push((labels.clone(), time_ms, Arc::new(histogram)));
        }
        Ok(taken)
    }

    /// The ends of the series that the body before had and this one has not.
    pub fn ends(&mut self, taken: &Taken, all: bool, time_ms: i64) -> Vec<Sample> {
        let untimed = taken.slots.len();
        let as_before = if untimed > 0 { self.present == taken.slots } else { self.tracked.is_empty() };
        if as_before && (!all || taken.samples.len() == untimed) {
            return Vec::new();
        }
        self.present.clone_from(&taken.slots);
        let lasting = if all { taken.samples.len() } else { untimed };
        self.tracked.turn(taken.samples[..lasting].iter().map(|s| s.0.clone()).collect(), time_ms)
    }

    /// What another target that goes on with these series has to know: which ones there are.
    pub fn left(self) -> Histograms {
        Histograms { tracked: self.tracked, ..Histograms::default() }
    }

    /// The ends of all.
    pub fn end(&mut self, time_ms: i64) -> Vec<Sample> {
        self.present.clear();
        self.tracked.turn(HashSet::new(), time_ms)
    }
}

/// Histograms that were taken out of a reading: those with the scrape's time first.
#[derive(Default)]
pub struct Taken {
    pub samples: Vec<HistogramSample>,
    /// The columns of those with the scrape's time.
    slots: Vec<u32>,
}

impl Taken {
    /// Those with the scrape's time, by column.
    pub fn by_column(&self) -> impl Iterator<Item = (u32, &Histogram)> {
        self.slots.iter().copied().zip(self.samples.iter().map(|s| &*s.2))
    }

    /// Those that stood in the row.
    pub fn in_row(&self) -> usize {
        self.slots.len()
    }
}

/// Series with timestamps of their own that are to end once they are gone.
#[derive(Default)]
pub struct Tracked(HashSet<Labels>);

impl Tracked {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes those that are there now; returns the ends of those that were there before.
    pub fn turn(&mut self, present: HashSet<Labels>, time_ms: i64) -> Vec<Sample> {
        let known = std::mem::replace(&mut self.0, present);
        known.into_iter().filter(|series| !self.0.contains(series)).map(|series| (series, time_ms, STALE)).collect()
    }
}
