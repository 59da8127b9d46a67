//! What a query finds: series, each once, and their samples piece by piece; at the end each series' pieces in time order.
//!
//! A series of one piece, or of pieces that follow each other, is copied as it lies. Of several (a pod made anew, a target
//! scraped twice, samples of the general path) samples are merged in time, and of equal times the one found first wins,
//! which is the one stored first. Several threads may find, each for itself: they count samples together, and what they
//! found is joined in the order of their parts. Where samples come from is `select`'s.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::Arc;

use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;

use super::tombstones::{is_deleted, Spans, Tombstones};
use super::{is_absent, memory, Result, StorageError, NAN_BITS};
use crate::histogram::{mark, marked, Histogram};
use crate::labels::Labels;

/// How many samples a query has found so far, on all its threads, and may find; a histogram counts as many as its buckets.
pub struct Budget {
    used: AtomicUsize,
    limit: usize,
}

impl Budget {
    /// A limit of zero is none.
    pub fn new(limit: usize) -> Budget {
        Budget { used: AtomicUsize::new(0), limit: if limit > 0 { limit } else { usize::MAX } }
    }

    fn take(&self, count: usize) -> Result<()> {
        if self.used.fetch_add(count, Relaxed).saturating_add(count) > self.limit {
            return Err(StorageError::TooMany { limit: self.limit });
        }
        Ok(())
    }
}

/// Series and their samples: series i has `offsets[i]..offsets[i + 1]`.
#[derive(Default)]
pub struct Selected {
    pub labels: Vec<Labels>,
    pub offsets: Vec<i64>,
    pub times: Vec<i64>,
    /// That of a histogram is its mark: `histogram::marked` tells its number in `histograms`.
    pub values: Vec<f64>,
    pub histograms: Vec<Arc<Histogram>>,
}

/// Samples of one series from one place, in time order: where they lie among all that was found.
#[derive(Clone, Copy)]
struct Piece {
    series: usize,
    start: usize,
    end: usize,
}

/// Series as they are found, each once, and their samples one piece after the other.
pub struct Found<'a> {
    budget: &'a Budget,
    tombstones: &'a Tombstones,
    any_deleted: bool,
    /// Of each series what is deleted.
    deleted: Vec<Option<Spans>>,
    by_labels: HashMap<Labels, usize, FxBuildHasher>,
    pieces: Vec<Piece>,
    times: Vec<i64>,
    values: Vec<f64>,
    histograms: Vec<Arc<Histogram>>,
}

impl<'a> Found<'a> {
    pub fn new(tombstones: &'a Tombstones, budget: &'a Budget) -> Found<'a> {
        Found {
            budget,
            tombstones,
            any_deleted: !tombstones.is_empty(),
            deleted: Vec::new(),
            by_labels: HashMap::default(),
            pieces: Vec::new(),
            times: Vec::new(),
            values: Vec::new(),
            histograms: Vec::new(),
        }
    }

    /// Another one of the same query.
    pub fn beside(&self) -> Found<'a> {
        Found::new(self.tombstones, self.budget)
    }

    /// Makes room for so many series.
    pub fn expect(&mut self, series: usize) {
        self.by_labels.reserve(series);
    }

    /// Makes room for so many samples more.
    pub fn reserve(&mut self, more: usize) {
        let more = more.min(self.budget.limit.saturating_sub(self.times.len()));
        memory::reserve(&mut self.times, more);
        memory::reserve(&mut self.values, more);
    }

    pub fn series(&mut self, labels: Labels) -> usize {
        let next = self.by_labels.len();
        let deleted = &mut self.deleted;
        *self.by_labels.entry(labels).or_insert_with_key(|labels| {
            if self.any_deleted {
                deleted.push(self.tombstones.of(labels));
            }
            next
        })
    }

    /// Adds the rows in which a column has a sample, or all samples of a list.
    pub fn add(&mut self, series: usize, times: &[i64], values: &[f64]) -> Result<()> {
        let start = self.times.len();
        match self.deleted.get(series) {
            Some(Some(spans)) => {
                let left = times.iter().zip(values).filter(|(t, v)| !is_absent(**v) && !is_deleted(spans, **t));
                left.for_each(|(t, v)| {
                    self.times.push(*t);
                    self.values.push(*v);
                });
            }
            _ if values.iter().fold(true, |all, v| all & !is_absent(*v)) => {
                self.times.extend_from_slice(times);
                self.values.extend_from_slice(values);
            }
            _ => times.iter().zip(values).filter(|(_, v)| !is_absent(**v)).for_each(|(t, v)| {
                self.times.push(*t);
                self.values.push(*v);
            }),
        }
        let end = self.times.len();
        if end > start {
            self.budget.take(end - start)?;
            self.pieces.push(Piece { series, start, end });
        }
        Ok(())
    }

    pub fn add_loose(&mut self, labels: &Labels, samples: impl Iterator<Item = (i64, f64)>) -> Result<()> {
        // Foreign NaNs may be any.
        let own = |(time, value): (i64, f64)| (time, if marked(value).is_some() { f64::from_bits(NAN_BITS) } else { value });
        let (times, values): (Vec<i64>, Vec<f64>) = samples.map(own).unzip();
        if times.is_empty() {
            return Ok(());
        }
        let series = self.series(labels.clone());
        self.add(series, &times, &values)
    }

    pub fn add_histograms(&mut self, labels: &Labels, samples: impl Iterator<Item = (i64, Arc<Histogram>)>) -> Result<()> {
        let (mut times, mut values) = (Vec::new(), Vec::new());
        for (time, histogram) in samples {
            let number = u32::try_from(self.histograms.len()).map_err(|_| StorageError::TooMany { limit: u32::MAX as usize })?;
            self.budget.take(histogram.weight() - 1)?;
            self.histograms.push(histogram);
            times.push(time);
            values.push(mark(number));
        }
        if times.is_empty() {
            return Ok(());
        }
        let series = self.series(labels.clone());
        self.add(series, &times, &values)
    }

    /// Numbers the series anew, in their own order.
    pub fn sort(&mut self) {
        let mut sorted: Vec<(Labels, usize)> = self.by_labels.drain().collect();
        sorted.sort_unstable();
        let mut place = vec![0; sorted.len()];
        sorted.iter().enumerate().for_each(|(at, series)| place[series.1] = at);
        self.pieces.iter_mut().for_each(|piece| piece.series = place[piece.series]);
        self.by_labels = sorted.into_iter().enumerate().map(|(at, series)| (series.0, at)).collect();
    }

    /// Adds what another has found, behind what this one has.
    pub fn join(&mut self, other: Found<'_>) -> Result<()> {
        let labels = by_number(other.by_labels);
        self.expect(labels.len());
        let series: Vec<usize> = labels.into_iter().flatten().map(|labels| self.series(labels)).collect();
        let start = self.times.len();
        let moved = |p: Piece| Piece { series: series[p.series], start: start + p.start, end: start + p.end };
        self.pieces.extend(other.pieces.into_iter().map(moved));
        self.times.extend_from_slice(&other.times);
        if other.histograms.is_empty() {
            self.values.extend_from_slice(&other.values);
            return Ok(());
        }
        let first = self.histograms.len();
        if u32::try_from(first + other.histograms.len()).is_err() {
            return Err(StorageError::TooMany { limit: u32::MAX as usize });
        }
        self.values.extend(other.values.into_iter().map(|v| marked(v).map_or(v, |number| mark(first as u32 + number))));
        self.histograms.extend(other.histograms);
        Ok(())
    }
}

/// The label sets in the order of their numbers; there is one for each.
fn by_number(by_labels: HashMap<Labels, usize, FxBuildHasher>) -> Vec<Option<Labels>> {
    let mut labels = vec![None; by_labels.len()];
    by_labels.into_iter().for_each(|(of, at)| labels[at] = Some(of));
    labels
}

/// Brings pieces into the order of series, and of their first times within each: by counting, since there are many and
/// those of a series were mostly found in order.
fn by_series(pieces: &mut Vec<Piece>, count: usize, times: &[i64]) {
    let mut ends = vec![0; count + 1];
    pieces.iter().for_each(|p| ends[p.series + 1] += 1);
    for i in 0..count {
        ends[i + 1] += ends[i];
    }
    let mut order = vec![0; pieces.len()];
    for (i, piece) in pieces.iter().enumerate() {
        order[ends[piece.series]] = i;
        ends[piece.series] += 1;
    }
    let mut sorted: Vec<Piece> = order.into_iter().map(|i| pieces[i]).collect();
    for parts in sorted.chunk_by_mut(|a, b| a.series == b.series) {
        if parts.windows(2).any(|w| times[w[0].start] > times[w[1].start]) {
            parts.sort_by_key(|p| times[p.start]);
        }
    }
    *pieces = sorted;
}

/// The pieces of each series in time order, one series after the other. Often they were found so.
pub fn assemble(found: Found<'_>) -> Selected {
    let Found { by_labels, mut pieces, times, values, histograms, .. } = found;
    let mut labels = by_number(by_labels);
    let follows = |a: &Piece, b: &Piece| a.series < b.series || (a.series == b.series && times[a.end - 1] < times[b.start]);
    let in_order = pieces.windows(2).all(|w| follows(&w[0], &w[1]));
    let mut out = Selected { offsets: vec![0], histograms, ..Selected::default() };
    if !in_order {
        by_series(&mut pieces, labels.len(), &times);
        memory::reserve(&mut out.times, times.len());
        memory::reserve(&mut out.values, times.len());
    }
    for parts in pieces.chunk_by(|a, b| a.series == b.series) {
        out.labels.extend(labels[parts[0].series].take());
        if in_order {
            out.offsets.push(parts[parts.len() - 1].end as i64);
            continue;
        }
        if parts.windows(2).all(|w| follows(&w[0], &w[1])) {
            for part in parts {
                out.times.extend_from_slice(&times[part.start..part.end]);
                out.values.extend_from_slice(&values[part.start..part.end]);
            }
        } else {
            // The general path: samples of all pieces in time order; of equal times the one that was found first wins, which
            // is the one that was stored first.
            let mut all: Vec<usize> = parts.iter().flat_map(|p| p.start..p.end).collect();
            all.sort_unstable_by_key(|i| (times[*i], *i));
            all.dedup_by_key(|i| times[*i]);
            out.times.extend(all.iter().map(|i| times[*i]));
            out.values.extend(all.iter().map(|i| values[*i]));
        }
        out.offsets.push(out.times.len() as i64);
    }
    if in_order {
        (out.times, out.values) = (times, values);
    }
    out
}
