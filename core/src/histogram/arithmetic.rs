//! Sums and differences of histograms, whose buckets are made the same first.
//!
//! The coarser schema wins, and the wider zero bucket; one that would end inside a filled bucket is widened to that one's
//! end. Custom bounds are cut down to those that both have. Where the buckets are the same already, which is nearly
//! always, nothing but numbers is touched.

use std::cell::RefCell;

use super::bounds::{exponential, Bucket};
use super::float::{spare, Counted, Float, Kept};
use super::view::{Buckets, Side, View};
use super::{indexes, Hint, Span};

/// Exponential and custom buckets: there is no sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incompatible;

/// What there is to say of a sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// One was reset, the other was not.
    pub collision: bool,
    /// Custom bounds were cut down.
    pub reconciled: bool,
}

impl Float {
    pub fn add(&mut self, other: View) -> Result<Said, Incompatible> {
        self.combine(other, false)
    }

    pub fn subtract(&mut self, other: View) -> Result<Said, Incompatible> {
        self.combine(other, true)
    }

    fn combine(&mut self, other: View, negative: bool) -> Result<Said, Incompatible> {
        if self.is_custom() != other.is_custom() {
            return Err(Incompatible);
        }
        let sign = if negative { -1.0 } else { 1.0 };
        let compensated = self.compensated;
        let mut said = Said { collision: self.take_hint(other.hint), reconciled: false };
        if !self.is_custom() {
            let zero = self.share_zero_bucket(other);
            self.zero.grow(sign * zero.value, compensated);
            if compensated {
                self.zero.add(sign * zero.rest);
            }
        }
        self.count.grow(sign * other.count, compensated);
        self.sum.grow(sign * other.sum, compensated);
        if self.is_custom() {
            if self.custom == other.custom {
                self.positive.combine(other.positive, &[], None, sign, compensated);
            } else {
                said.reconciled = true;
                self.cut_down(other, sign);
            }
            return Ok(said);
        }
        self.reduce(other.schema);
        let shift = (i32::from(other.schema) - i32::from(self.schema)).max(0) as u32;
        let within = Some((self.schema, self.zero_threshold));
        for (mine, theirs) in [(&mut self.positive, other.positive), (&mut self.negative, other.negative)] {
            if shift == 0 {
                mine.combine(theirs, &[], within, sign, compensated);
            } else {
                let mut merged = Counted::default();
                merged.load(theirs, compensated);
                merged.reduce(shift, compensated);
                mine.combine(merged.view(), &merged.rests, within, sign, compensated);
            }
        }
        Ok(said)
    }

    /// The hint of a sum; true where one tells of a reset and the other of none.
    fn take_hint(&mut self, other: Hint) -> bool {
        let collision = matches!((self.hint, other), (Hint::Reset, Hint::NotReset) | (Hint::NotReset, Hint::Reset));
        if self.hint != other {
            self.hint = match (self.hint, other) {
                (Hint::Gauge, _) | (_, Hint::Gauge) => Hint::Gauge,
                _ => Hint::Unknown,
            };
        }
        collision
    }

    /// Widens the zero bucket until it is a possible one of both, and returns what the other then has in its.
    fn share_zero_bucket(&mut self, other: View) -> Kept {
        let (mut zero, mut threshold) = (Kept { value: other.zero, rest: 0.0 }, other.zero_threshold);
        // Each turn widens one of the two; a NaN, which no stored threshold is, ends it.
        while threshold != self.zero_threshold && !threshold.is_nan() && !self.zero_threshold.is_nan() {
            if self.zero_threshold > threshold {
                (zero, threshold) = widened(other, self.zero_threshold, None);
            }
            if threshold > self.zero_threshold {
                let rests = (self.zero.rest, &self.positive, &self.negative);
                let (mine, wide) = widened(self.view(), threshold, self.compensated.then_some(rests));
                let rest = if self.compensated { mine.rest } else { 0.0 };
                (self.zero, self.zero_threshold) = (Kept { value: mine.value, rest }, wide);
                self.empty_zero_bucket();
            }
        }
        zero
    }

    /// Removes the buckets that the zero bucket has now.
    fn empty_zero_bucket(&mut self) {
        for side in [&mut self.positive, &mut self.negative] {
            let inside = |index: i32| exponential(index.saturating_sub(1), self.schema) < self.zero_threshold;
            let count = indexes(&side.spans).take_while(|i| inside(*i)).count().min(side.counts.len());
            for place in 0..count {
                side.set(place, Kept::default());
            }
            side.compact();
        }
    }

    /// The sum of two with different custom bounds, in those bounds that both have.
    fn cut_down(&mut self, other: View, sign: f64) {
        let common: Vec<f64> = common_bounds(&self.custom, other.custom);
        let mut sums = vec![Kept::default(); common.len() + 1];
        let place = |bounds: &[f64], index: i32| match usize::try_from(index).ok().and_then(|at| bounds.get(at)) {
            Some(bound) => common.partition_point(|c| c < bound),
            None => common.len(),
        };
        for (at, (index, count)) in self.positive.view().iter().enumerate() {
            let sum = &mut sums[place(&self.custom, index)];
            sum.add(count);
            sum.add(self.positive.rest(at));
        }
        for (index, count) in other.positive.iter() {
            sums[place(other.custom, index)].add(sign * count);
        }
        self.positive.clear();
        for (index, sum) in (0..).zip(sums) {
            if sum.value != 0.0 || sum.rest != 0.0 {
                self.positive.push(index, sum, self.compensated);
            }
        }
        self.custom = common;
    }
}

/// The bounds that both have.
pub fn common_bounds(one: &[f64], other: &[f64]) -> Vec<f64> {
    let (mut a, mut b) = (one.iter().copied().peekable(), other.iter().copied().peekable());
    let mut common = Vec::new();
    while let (Some(x), Some(y)) = (a.peek().copied(), b.peek().copied()) {
        if x == y {
            common.push(x);
        }
        if x <= y {
            a.next();
        }
        // Whatever is no number is left behind, too.
        if x >= y || x.is_nan() || y.is_nan() {
            b.next();
        }
    }
    common
}

/// What the zero bucket would hold if it were so wide, and how wide it must be not to end inside a filled bucket.
///
/// Its rest counts with `rests`, those of a compensated histogram.
pub fn widened(of: View, threshold: f64, rests: Option<(f64, &Counted, &Counted)>) -> (Kept, f64) {
    let mut threshold = threshold;
    let mut zero = Kept { value: of.zero, rest: rests.map_or(0.0, |r| r.0) };
    if threshold == of.zero_threshold {
        return (zero, threshold);
    }
    'again: loop {
        zero.value = of.zero;
        let sides = [(false, of.positive, rests.map(|r| r.1)), (true, of.negative, rests.map(|r| r.2))];
        for (is_negative, side, rests) in sides {
            for (place, (index, count)) in side.iter().enumerate() {
                // By distance from zero, on either side.
                let Bucket { lower: near, upper: far, .. } = of.raw_bucket(index, count, false);
                if near >= threshold {
                    break;
                }
                zero.add(count);
                if let Some(rests) = rests {
                    zero.add(rests.rest(place));
                }
                if far > threshold {
                    if count != 0.0 {
                        threshold = far;
                        if is_negative {
                            // The positive side has to be looked at anew.
                            continue 'again;
                        }
                    }
                    break;
                }
            }
        }
        return (zero, threshold);
    }
}

impl Counted {
    /// Adds the other's buckets, by index; with their rests, if there are any.
    ///
    /// `within` is the schema and the zero bucket's width: what of the other lies in it was added to the zero bucket.
    fn combine(&mut self, other: Side, rests: &[f64], within: Option<(i8, f64)>, sign: f64, compensated: bool) {
        let inside = |index: i32| within.is_some_and(|(schema, threshold)| exponential(index, schema) <= threshold);
        let skipped = indexes(other.spans).take_while(|i| inside(*i)).count();
        if skipped == 0 && rests.is_empty() && self.combine_spans(other, sign, compensated) {
            return;
        }
        spare(|merged| {
            let mut mine = indexes(&self.spans).zip(0..self.counts.len()).peekable();
            for (at, (index, count)) in other.iter().enumerate().skip(skipped) {
                while let Some((before, place)) = mine.next_if(|(i, _)| *i < index) {
                    merged.push(before, self.kept(place), compensated);
                }
                let (count, rest) = (sign * count, sign * rests.get(at).copied().unwrap_or(0.0));
                let kept = match mine.next_if(|(i, _)| *i == index) {
                    Some((_, place)) => {
                        let mut kept = self.kept(place);
                        kept.grow(count, compensated);
                        if rest != 0.0 {
                            kept.add(rest);
                        }
                        kept
                    }
                    None => Kept { value: count, rest },
                };
                merged.push(index, kept, compensated);
            }
            for (after, place) in mine {
                merged.push(after, self.kept(place), compensated);
            }
            std::mem::swap(self, merged);
        });
    }

    /// As `combine`, a span at a time; false where the other has buckets that are not here.
    fn combine_spans(&mut self, other: Side, sign: f64, compensated: bool) -> bool {
        if self.spans[..] == *other.spans {
            self.combine_from(0, other.counts, sign, compensated);
            return true;
        }
        PLACES.with_borrow_mut(|places| {
            if !self.contains(other.spans, places) {
                return false;
            }
            let mut from = 0;
            for (place, span) in places.iter().zip(other.spans) {
                let to = (from + span.length as usize).min(other.counts.len());
                self.combine_from(*place, other.counts.slice(from..to), sign, compensated);
                from = to;
            }
            true
        })
    }

    /// Whether each of these spans lies within one of those here, and where.
    fn contains(&self, spans: &[Span], places: &mut Vec<usize>) -> bool {
        fn reach(spans: &[Span]) -> impl Iterator<Item = std::ops::Range<i64>> + '_ {
            let mut next = 0;
            spans.iter().map(move |span| {
                let start = next + i64::from(span.offset);
                next = start + i64::from(span.length);
                start..next
            })
        }
        places.clear();
        let mut mine = reach(&self.spans);
        let (mut current, mut place) = (0..0, 0);
        for theirs in reach(spans) {
            while current.end < theirs.end {
                place += (current.end - current.start) as usize;
                match mine.next() {
                    Some(next) => current = next,
                    None => return false,
                }
            }
            if current.start > theirs.start {
                return false;
            }
            places.push(place + (theirs.start - current.start) as usize);
        }
        true
    }

    /// Adds as many counts, from this place on.
    fn combine_from(&mut self, place: usize, counts: Buckets, sign: f64, compensated: bool) {
        let Some(mine) = self.counts.get_mut(place..) else { return };
        if !compensated {
            return counts.zip(mine, |mine, theirs| *mine += sign * theirs);
        }
        let Some(rests) = self.rests.get_mut(place..) else { return };
        counts.zip2(mine, rests, |mine, rest, theirs| {
            let mut kept = Kept { value: *mine, rest: *rest };
            kept.add(sign * theirs);
            (*mine, *rest) = (kept.value, kept.rest);
        });
    }
}

thread_local!(static PLACES: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) });

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::super::resets::{equal, was_reset};
    use super::super::sums::Summer;
    use super::super::tests::histograms;
    use super::super::windows::{interpolate, Grower, Kind};
    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        /// Stored files may be damaged so that checksums still match: what comes of such histograms is anything, but it comes.
        #[test]
        fn whatever_a_histogram_is_nothing_panics(
            of in prop::collection::vec(histograms().prop_map(Arc::new), 1..4),
            values in (any::<f64>(), any::<f64>(), 0.0..1.0f64),
            resets in prop::collection::vec(any::<bool>(), 4),
            flags in any::<(bool, bool)>(),
        ) {
            let all: Vec<&Arc<_>> = of.iter().collect();
            let kind = |h: &Arc<super::super::Histogram>| Kind { schema: h.schema, is_gauge: h.hint == Hint::Gauge };
            let kinds: Vec<Kind> = of.iter().map(kind).collect();
            let (one, other) = (View::from(&*of[0]), View::from(&*of[of.len() - 1]));
            let mut float = Float::default();
            for compensated in [false, true] {
                float.load(one, compensated);
                let _ = float.subtract(other);
                float.scale(values.0);
                float.divide(values.1);
                float.trim(values.0, flags.0);
                float.compact();
                float.settle();
                let _ = equal(float.view(), View::from(&float.histogram()));
            }
            let _ = interpolate(&mut float, one, other, values.2, flags.0);
            let _ = was_reset(one, other);
            let _ = (one.quantile(values.2), one.fraction(values.0, values.1), one.variance(), one.to_string());
            let mut summer = Summer::default();
            let _ = (summer.total(&all), summer.mean(&all));
            let mut grower = Grower::default();
            let _ = grower.growth(&all, &kinds, &resets, flags.0);
            let _ = grower.extended(&all, &[0, 10, 20], (5, 15), flags.0, flags.1);
        }
    }
}
