//! A histogram as a query reads it: counts are floats, whatever they are stored as, and nothing is copied.
//!
//! What changes histograms (`float`), compares them (`resets`) or estimates from them (`quantile`) takes views, of stored
//! histograms as well as of those that it has made itself.

use std::ops::Range;

use super::bounds::{self, exponential, Bucket};
use super::{indexes, Counts, Hint, Histogram, Span, CUSTOM_SCHEMA};

/// The counts of one side's buckets.
#[derive(Clone, Copy)]
pub enum Buckets<'a> {
    Integers(&'a [u64]),
    Floats(&'a [f64]),
}

impl<'a> Buckets<'a> {
    pub fn len(self) -> usize {
        match self {
            Buckets::Integers(counts) => counts.len(),
            Buckets::Floats(counts) => counts.len(),
        }
    }

    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    pub fn get(self, at: usize) -> f64 {
        match self {
            Buckets::Integers(counts) => counts.get(at).map_or(0.0, |c| *c as f64),
            Buckets::Floats(counts) => counts.get(at).copied().unwrap_or(0.0),
        }
    }

    pub fn iter(self) -> impl DoubleEndedIterator<Item = f64> + 'a {
        (0..self.len()).map(move |at| self.get(at))
    }

    pub fn append_to(self, out: &mut Vec<f64>) {
        match self {
            Buckets::Integers(counts) => out.extend(counts.iter().map(|c| *c as f64)),
            Buckets::Floats(counts) => out.extend_from_slice(counts),
        }
    }

    /// Changes each by that of the same place.
    pub fn zip(self, with: &mut [f64], change: impl Fn(&mut f64, f64)) {
        match self {
            Buckets::Integers(counts) => with.iter_mut().zip(counts).for_each(|(a, b)| change(a, *b as f64)),
            Buckets::Floats(counts) => with.iter_mut().zip(counts).for_each(|(a, b)| change(a, *b)),
        }
    }

    /// Changes each two by that of the same place.
    pub fn zip2(self, with: &mut [f64], also: &mut [f64], change: impl Fn(&mut f64, &mut f64, f64)) {
        let both = with.iter_mut().zip(also);
        match self {
            Buckets::Integers(counts) => both.zip(counts).for_each(|((a, b), c)| change(a, b, *c as f64)),
            Buckets::Floats(counts) => both.zip(counts).for_each(|((a, b), c)| change(a, b, *c)),
        }
    }

    pub fn slice(self, range: Range<usize>) -> Buckets<'a> {
        match self {
            Buckets::Integers(counts) => Buckets::Integers(counts.get(range).unwrap_or(&[])),
            Buckets::Floats(counts) => Buckets::Floats(counts.get(range).unwrap_or(&[])),
        }
    }

    /// The differences to those of the same places.
    pub fn minus(self, other: Buckets) -> Box<[f64]> {
        match (self, other) {
            (Buckets::Integers(a), Buckets::Integers(b)) => a.iter().zip(b).map(|(a, b)| *a as f64 - *b as f64).collect(),
            (Buckets::Floats(a), Buckets::Floats(b)) => a.iter().zip(b).map(|(a, b)| a - b).collect(),
            _ => self.iter().zip(other.iter()).map(|(a, b)| a - b).collect(),
        }
    }

    /// Whether any is below that of the same place.
    pub fn any_below(self, other: Buckets) -> bool {
        match (self, other) {
            (Buckets::Integers(a), Buckets::Integers(b)) => a.iter().zip(b).any(|(a, b)| (*a as f64) < (*b as f64)),
            (Buckets::Floats(a), Buckets::Floats(b)) => a.iter().zip(b).any(|(a, b)| a < b),
            _ => self.iter().zip(other.iter()).any(|(a, b)| a < b),
        }
    }
}

#[derive(Clone, Copy)]
pub struct Side<'a> {
    pub spans: &'a [Span],
    pub counts: Buckets<'a>,
}

impl<'a> Side<'a> {
    /// Every bucket that the spans describe, empty ones as well.
    pub fn iter(self) -> impl Iterator<Item = (i32, f64)> + 'a {
        indexes(self.spans).zip(self.counts.iter())
    }

    /// The index of the bucket at this place.
    pub fn index(self, place: usize) -> i32 {
        indexes(self.spans).nth(place).unwrap_or(i32::MAX)
    }
}

#[derive(Clone, Copy)]
pub struct View<'a> {
    pub schema: i8,
    pub hint: Hint,
    pub zero_threshold: f64,
    pub zero: f64,
    pub count: f64,
    pub sum: f64,
    pub custom: &'a [f64],
    pub positive: Side<'a>,
    pub negative: Side<'a>,
}

impl<'a> From<&'a Histogram> for View<'a> {
    fn from(h: &'a Histogram) -> View<'a> {
        let (count, zero, positive, negative) = match &h.counts {
            Counts::Integers(n) => {
                (n.count as f64, n.zero as f64, Buckets::Integers(&n.positive), Buckets::Integers(&n.negative))
            }
            Counts::Floats(n) => (n.count, n.zero, Buckets::Floats(&n.positive), Buckets::Floats(&n.negative)),
        };
        View {
            schema: h.schema,
            hint: h.hint,
            zero_threshold: h.zero_threshold,
            zero,
            count,
            sum: h.sum,
            custom: &h.custom,
            positive: Side { spans: &h.positive, counts: positive },
            negative: Side { spans: &h.negative, counts: negative },
        }
    }
}

impl View<'_> {
    pub fn is_custom(&self) -> bool {
        self.schema == CUSTOM_SCHEMA
    }

    /// Whether all buckets have the same bounds, so that counts can be paired by place.
    pub fn same_layout(&self, other: &View) -> bool {
        self.schema == other.schema
            && self.zero_threshold == other.zero_threshold
            && self.positive.spans == other.positive.spans
            && self.negative.spans == other.negative.spans
            && self.custom == other.custom
    }

    /// Whether the first buckets lie within the zero bucket.
    pub fn reaches_in(&self) -> bool {
        let inside = |side: Side| side.spans.first().is_some_and(|s| exponential(s.offset, self.schema) <= self.zero_threshold);
        !self.is_custom() && (inside(self.positive) || inside(self.negative))
    }

    /// A bucket as its index says, though it may reach into the zero bucket.
    pub fn raw_bucket(&self, index: i32, count: f64, negative: bool) -> Bucket {
        bounds::bucket(self.schema, self.custom, index, count, negative)
    }

    /// A bucket without what the zero bucket has of it.
    pub fn bucket(&self, index: i32, count: f64, negative: bool) -> Bucket {
        self.raw_bucket(index, count, negative).outside(self.zero_threshold)
    }

    pub fn zero_bucket(&self) -> Bucket {
        let (lower, upper) = (-self.zero_threshold, self.zero_threshold);
        Bucket { lower, upper, lower_inclusive: true, upper_inclusive: true, count: self.zero }
    }

    /// All buckets, from the lowest values to the highest; the zero bucket only if there is something in it.
    pub fn buckets(&self) -> impl Iterator<Item = Bucket> + '_ {
        let negative: Vec<(i32, f64)> = self.negative.iter().collect();
        let negative = negative.into_iter().rev().map(|(index, count)| self.bucket(index, count, true));
        let zero = (self.zero > 0.0).then(|| self.zero_bucket());
        negative.chain(zero).chain(self.positive.iter().map(|(index, count)| self.bucket(index, count, false)))
    }
}
