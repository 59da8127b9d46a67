//! What can be estimated from buckets: quantiles, the part between two values, the variance.
//!
//! Within a bucket observations are taken to be spread evenly: on a logarithmic scale in exponential buckets, on a linear
//! one in custom buckets and in the zero bucket. If there are only positive buckets, the zero bucket starts at 0, if only
//! negative ones, it ends there. Observations of NaN are counted, but are in no bucket; the sum is NaN then.

use super::bounds::Bucket;
use super::float::Kept;
use super::view::View;

/// What is to be said of an estimate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Doubts {
    /// A quantile is among the NaN observations; a fraction does not count them.
    pub nan: bool,
    /// NaN observations were taken to be above all others.
    pub skewed: bool,
}

impl Bucket {
    /// How much of it lies below a value within.
    pub fn fraction_below(&self, value: f64, linear: bool) -> f64 {
        if linear {
            return (value - self.lower) / (self.upper - self.lower);
        }
        let (lower, upper, at) = (self.lower.abs().log2(), self.upper.abs().log2(), value.abs().log2());
        if value > 0.0 {
            (at - lower) / (upper - lower)
        } else {
            1.0 - (at - upper) / (lower - upper)
        }
    }
}

/// Where a bucket is.
#[derive(Clone, Copy)]
enum Place {
    Negative(usize),
    Zero,
    Positive(usize),
}

impl View<'_> {
    fn places(&self) -> impl DoubleEndedIterator<Item = (Place, f64)> + '_ {
        let count = self.negative.counts.len();
        let negative = (0..count).rev().map(|at| (Place::Negative(at), self.negative.counts.get(at)));
        let zero = (self.zero > 0.0).then_some((Place::Zero, self.zero));
        let positive = (0..self.positive.counts.len()).map(|at| (Place::Positive(at), self.positive.counts.get(at)));
        negative.chain(zero).chain(positive)
    }

    fn at(&self, place: Place, count: f64) -> Bucket {
        match place {
            Place::Negative(at) => self.bucket(self.negative.index(at), count, true),
            Place::Zero => self.zero_bucket(),
            Place::Positive(at) => self.bucket(self.positive.index(at), count, false),
        }
    }

    /// The zero bucket, if it is that, without the side on which there are no buckets.
    fn one_sided(&self, mut bucket: Bucket) -> Bucket {
        match (self.negative.counts.is_empty(), self.positive.counts.is_empty()) {
            (true, false) => bucket.lower = 0.0,
            (false, true) => bucket.upper = 0.0,
            _ => {}
        }
        bucket
    }

    /// The value below which this part of the observations lies.
    pub fn quantile(&self, quantile: f64) -> (f64, Doubts) {
        let sure = Doubts::default();
        if quantile < 0.0 {
            return (f64::NEG_INFINITY, sure);
        }
        if quantile > 1.0 {
            return (f64::INFINITY, sure);
        }
        if self.count == 0.0 || quantile.is_nan() {
            return (f64::NAN, sure);
        }
        // Counted from the nearer end; but what is NaN is missing at the upper one.
        let may_be_nan = self.sum.is_nan();
        let forward = may_be_nan || quantile < 0.5;
        let rank = if forward { quantile } else { 1.0 - quantile } * self.count;
        let (mut count, mut found) = (0.0, None);
        let mut places = self.places();
        while let Some((place, inside)) = if forward { places.next() } else { places.next_back() } {
            found = Some((place, inside));
            count += inside;
            if inside != 0.0 && count >= rank {
                break;
            }
        }
        let none = Bucket { lower: 0.0, upper: 0.0, lower_inclusive: false, upper_inclusive: false, count: 0.0 };
        let mut bucket = found.map_or(none, |(place, inside)| self.at(place, inside));
        if !self.is_custom() {
            if bucket.lower < 0.0 && bucket.upper > 0.0 {
                bucket = self.one_sided(bucket);
            }
        } else if bucket.lower == f64::NEG_INFINITY {
            if bucket.upper <= 0.0 {
                return (bucket.upper, sure);
            }
            bucket.lower = 0.0;
        } else if bucket.upper == f64::INFINITY {
            return (bucket.lower, sure);
        }
        // Rounding may have made more of them than there are.
        count = if count > self.count { self.count } else { count };
        if count < rank {
            return if may_be_nan { (f64::NAN, Doubts { nan: true, ..sure }) } else { (bucket.upper, sure) };
        }
        let within = if forward { rank - (count - bucket.count) } else { count - rank };
        let skewed = may_be_nan && places.fold(count, |all, (_, count)| all + count) < self.count;
        let doubts = Doubts { skewed, ..sure };
        let fraction = within / bucket.count;
        if self.is_custom() || (bucket.lower <= 0.0 && bucket.upper >= 0.0) {
            return (bucket.lower + (bucket.upper - bucket.lower) * fraction, doubts);
        }
        let (lower, upper) = (bucket.lower.abs().log2(), bucket.upper.abs().log2());
        let value = if bucket.lower > 0.0 {
            (lower + (upper - lower) * fraction).exp2()
        } else {
            -(upper + (lower - upper) * (1.0 - fraction)).exp2()
        };
        (value, doubts)
    }

    /// The part of the observations that lies between the two.
    pub fn fraction(&self, lower: f64, upper: f64) -> (f64, Doubts) {
        let sure = Doubts::default();
        if self.count == 0.0 || lower.is_nan() || upper.is_nan() {
            return (f64::NAN, sure);
        }
        if lower >= upper {
            return (0.0, sure);
        }
        let (mut count, mut rank) = (0.0, 0.0);
        let (mut lower_rank, mut upper_rank) = (None, None);
        let mut buckets = self.buckets();
        for mut bucket in buckets.by_ref() {
            count += bucket.count;
            let mut linear = true;
            if self.is_custom() {
                if bucket.lower == f64::NEG_INFINITY && bucket.upper > 0.0 {
                    bucket.lower = 0.0;
                }
            } else if bucket.lower <= 0.0 && bucket.upper >= 0.0 {
                bucket = self.one_sided(bucket);
            } else {
                linear = false;
            }
            // Nothing is known of how they are spread towards minus infinity: all of them are below.
            let up_to = |value: f64| match linear && bucket.lower == f64::NEG_INFINITY {
                true => bucket.count,
                false => rank + bucket.count * bucket.fraction_below(value, linear),
            };
            for (value, found) in [(lower, &mut lower_rank), (upper, &mut upper_rank)] {
                if found.is_none() && bucket.lower >= value {
                    *found = Some(rank);
                }
            }
            for (value, found) in [(lower, &mut lower_rank), (upper, &mut upper_rank)] {
                if found.is_none() && bucket.lower < value && bucket.upper > value {
                    *found = Some(up_to(value));
                }
            }
            if lower_rank.is_some() && upper_rank.is_some() {
                break;
            }
            rank += bucket.count;
        }
        let mut doubts = sure;
        if self.sum.is_nan() {
            count = buckets.fold(count, |all, b| all + b.count);
            doubts.nan = count < self.count;
        } else {
            count = self.count;
        }
        let bounded = |rank: Option<f64>| rank.map_or(count, |r| if r > count { count } else { r });
        ((bounded(upper_rank) - bounded(lower_rank)) / self.count, doubts)
    }

    /// The mean square of the distances from the mean, each bucket's observations taken to be in its middle.
    pub fn variance(&self) -> f64 {
        let mean = self.sum / self.count;
        let mut sum = Kept::default();
        for bucket in self.buckets().filter(|b| b.count != 0.0) {
            let middle = if self.is_custom() {
                (bucket.upper + bucket.lower) / 2.0
            } else if bucket.lower <= 0.0 && bucket.upper >= 0.0 {
                0.0
            } else {
                (bucket.upper * bucket.lower).sqrt() * if bucket.upper < 0.0 { -1.0 } else { 1.0 }
            };
            let distance = middle - mean;
            sum.add(bucket.count * distance * distance);
        }
        (sum.value + sum.rest) / self.count
    }
}
