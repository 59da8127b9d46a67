//! How much a histogram grew within a window: what `rate`, `increase` and `delta` extrapolate from.
//!
//! Of a window's samples only the first and the last are subtracted; what lies between matters where a counter was reset,
//! since what was lost then is added again, and for its schema: the result has the coarsest that the window knew.
//!
//! Windows of `anchored` and `smoothed` selectors reach past their bounds: to the last sample before the start, or to the
//! neighbours on both sides, between which the histogram at the bound itself is interpolated.

use std::sync::Arc;

use super::arithmetic::Incompatible;
use super::float::Float;
use super::resets::was_reset;
use super::view::View;
use super::{Counts, Hint, Histogram, Numbers, Span, CUSTOM_SCHEMA};

/// What is to be said of a rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Remarks {
    pub incompatible: bool,
    /// Custom bounds differed in a difference.
    pub reconciled: bool,
    /// Custom bounds differed in a sum.
    pub reconciled_sum: bool,
    pub gauge: bool,
    pub not_gauge: bool,
    /// The window has nothing to start from, or to end at.
    pub none: bool,
}

/// What has to be known of every sample in a window: beside one another, since windows overlap and there are many.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    pub schema: i8,
    pub is_gauge: bool,
}

type Shared = Arc<Histogram>;

fn view(of: &Shared) -> View<'_> {
    View::from(&**of)
}

/// As if nothing had been counted in this one's buckets.
fn emptied(view: View) -> View {
    const NO_SPANS: &[Span] = &[];
    let side = super::view::Side { spans: NO_SPANS, counts: super::view::Buckets::Floats(&[]) };
    View { hint: Hint::Unknown, zero_threshold: 0.0, zero: 0.0, count: 0.0, sum: 0.0, positive: side, negative: side, ..view }
}

/// Where rates are made, one after the other.
#[derive(Default)]
pub struct Grower {
    result: Float,
    left: Float,
    right: Float,
    correction: Float,
}

impl Grower {
    /// How much it grew; of each sample `kinds` has the schema and whether it is a gauge, `resets` whether there was a
    /// reset before it. There are at least two.
    pub fn growth(&mut self, of: &[&Shared], kinds: &[Kind], resets: &[bool], is_counter: bool) -> (Shared, Remarks) {
        let mut remarks = Remarks::default();
        let ([first, .., last], Some(second)) = (of, of.get(1)) else {
            return (Arc::new(Float::default().histogram()), Remarks { none: true, ..remarks });
        };
        let nothing = |remarks: Remarks| (Arc::clone(first), Remarks { incompatible: true, ..remarks });
        let reset = |place: usize| resets.get(place).copied().unwrap_or(false);
        let is_gauge = |one: &Shared| one.hint == Hint::Gauge;
        remarks.gauge = is_counter && (is_gauge(first) || is_gauge(last));
        // What was counted before a reset is not looked at, however it was.
        let mut previous = view(first);
        if is_counter && reset(1) {
            previous = emptied(view(second));
        }
        let is_custom = previous.is_custom();
        if view(last).is_custom() != is_custom {
            return nothing(remarks);
        }
        let mut schema = last.schema.min(previous.schema);
        if is_counter {
            let between = kinds.get(1..kinds.len().saturating_sub(1)).unwrap_or(&[]);
            if between.iter().any(|k| (k.schema == CUSTOM_SCHEMA) != is_custom) {
                return nothing(Remarks::default());
            }
            remarks.gauge |= between.iter().any(|k| k.is_gauge);
            schema = between.iter().fold(schema, |s, k| s.min(k.schema));
        } else {
            remarks.not_gauge = !is_gauge(first) || !is_gauge(last);
        }
        if schema == last.schema && !(is_counter && resets.iter().skip(1).any(|r| *r)) {
            if let Some(grown) = plain_difference(view(last), previous) {
                return (Arc::new(grown), remarks);
            }
        }
        self.result.load(view(last), false);
        self.result.reduce(schema);
        match self.result.subtract(previous) {
            Ok(said) => remarks.reconciled |= said.reconciled,
            Err(Incompatible) => return nothing(Remarks::default()),
        }
        if is_counter {
            for (place, current) in of.iter().enumerate().skip(1) {
                // Of what was emptied nothing was lost; only its hint can still say so, to no effect on the numbers.
                let lost = if place == 1 && reset(1) { current.hint == Hint::Reset } else { reset(place) };
                if lost {
                    match self.result.add(previous) {
                        Ok(said) => remarks.reconciled_sum |= said.reconciled,
                        Err(Incompatible) => return nothing(Remarks::default()),
                    }
                }
                previous = view(current);
            }
        }
        self.result.hint = Hint::Gauge;
        self.result.compact();
        (Arc::new(self.result.histogram()), remarks)
    }

    /// How much it grew between the two times, of samples that reach past them. There is at least one.
    pub fn extended(
        &mut self,
        of: &[&Shared],
        times: &[i64],
        bounds: (i64, i64),
        is_counter: bool,
        smoothed: bool,
    ) -> (Shared, Remarks) {
        let mut remarks = Remarks::default();
        let (start, end) = bounds;
        let none = || (Arc::new(Float::default().histogram()), Remarks { none: true, ..Remarks::default() });
        let Some(mut last) = of.len().min(times.len()).checked_sub(1) else { return none() };
        let first = times[..last].partition_point(|t| *t <= start).saturating_sub(1);
        if smoothed {
            last = times[..last].partition_point(|t| *t < end);
        }
        if times[last] <= start || (smoothed && times[first] > end) || first > last {
            return none();
        }
        let nothing = |remarks: Remarks| (Arc::clone(of[first]), Remarks { incompatible: true, ..remarks });
        let is_custom = view(of[first]).is_custom();
        for one in &of[first..=last] {
            if view(one).is_custom() != is_custom {
                return nothing(remarks);
            }
            remarks.gauge |= is_counter && one.hint == Hint::Gauge;
        }
        let mut failed = false;
        let mut between = |out: &mut Float, place: usize, at: i64| {
            let part = (at - times[place]) as f64 / (times[place + 1] - times[place]) as f64;
            if at == times[place] || at == times[place + 1] {
                out.load(view(of[if at == times[place] { place } else { place + 1 }]), false);
                return;
            }
            match interpolate(out, view(of[place]), view(of[place + 1]), part, is_counter) {
                Ok((difference, sum)) => {
                    remarks.reconciled |= difference;
                    remarks.reconciled_sum |= sum;
                }
                Err(Incompatible) => failed = true,
            }
        };
        let starts_between = smoothed && times[first] < start;
        if starts_between && first + 1 < of.len() {
            between(&mut self.left, first, start);
        } else {
            self.left.load(view(of[first]), false);
        }
        if smoothed && last > 0 && times[last] > end {
            between(&mut self.right, last - 1, end);
        } else {
            self.right.load(view(of[last]), false);
        }
        if failed {
            return nothing(remarks);
        }
        remarks.not_gauge = !is_counter && (self.left.hint != Hint::Gauge || self.right.hint != Hint::Gauge);
        self.result.copy(&self.right);
        match self.result.subtract(self.left.view()) {
            Ok(said) => remarks.reconciled |= said.reconciled,
            Err(Incompatible) => return nothing(remarks),
        }
        if is_counter {
            match self.lost(&of[..=last], first, starts_between) {
                Ok((false, _)) => {}
                Ok((true, reconciled)) => match self.result.add(self.correction.view()) {
                    Ok(said) => remarks.reconciled_sum |= said.reconciled || reconciled,
                    Err(Incompatible) => return nothing(remarks),
                },
                Err(Incompatible) => return nothing(remarks),
            }
        }
        self.result.hint = Hint::Gauge;
        self.result.compact();
        (Arc::new(self.result.histogram()), remarks)
    }

    /// What resets took between left and right, if there were any; and whether custom bounds differed.
    fn lost(&mut self, of: &[&Shared], first: usize, starts_between: bool) -> Result<(bool, bool), Incompatible> {
        let last = of.len() - 1;
        let (mut any, mut reconciled) = (false, false);
        let mut next = first + 1;
        let mut previous: Option<View> = None;
        if starts_between && of.get(next).is_some_and(|after| was_reset(view(after), view(of[first]))) {
            // Interpolating has seen to this one.
            previous = Some(view(of[next]));
            next += 1;
        }
        if next > last {
            return Ok((false, false));
        }
        let (left, right) = (&self.left, &self.right);
        let correction = &mut self.correction;
        let mut take = |lost: View| -> Result<(), Incompatible> {
            if any {
                reconciled |= correction.add(lost)?.reconciled;
            } else {
                correction.load(lost, false);
                any = true;
            }
            Ok(())
        };
        for one in &of[next..last] {
            let before = previous.unwrap_or_else(|| left.view());
            if was_reset(view(one), before) {
                take(before)?;
            }
            previous = Some(view(one));
        }
        let before = previous.unwrap_or_else(|| left.view());
        if was_reset(right.view(), before) {
            take(before)?;
        }
        Ok((any, reconciled))
    }
}

/// The difference, as a gauge, if all buckets have the same bounds and none is left empty.
fn plain_difference(last: View, first: View) -> Option<Histogram> {
    if !last.same_layout(&first) || last.reaches_in() {
        return None;
    }
    let positive = last.positive.counts.minus(first.positive.counts);
    let negative = last.negative.counts.minus(first.negative.counts);
    let is_packed = |spans: &[Span]| spans.iter().skip(1).all(|s| s.offset > 0 && s.length > 0);
    if positive.iter().chain(&negative).any(|c| *c == 0.0) || !is_packed(last.positive.spans) || !is_packed(last.negative.spans) {
        return None;
    }
    Some(Histogram {
        schema: last.schema,
        hint: Hint::Gauge,
        zero_threshold: last.zero_threshold,
        sum: last.sum - first.sum,
        positive: last.positive.spans.into(),
        negative: last.negative.spans.into(),
        custom: last.custom.into(),
        counts: Counts::Floats(Numbers { count: last.count - first.count, zero: last.zero - first.zero, positive, negative }),
    })
}

/// What lies between two; says whether custom bounds differed in the difference, and in the sum.
pub fn interpolate(
    out: &mut Float,
    earlier: View,
    later: View,
    part: f64,
    is_counter: bool,
) -> Result<(bool, bool), Incompatible> {
    out.load(later, false);
    if is_counter && was_reset(later, earlier) {
        out.scale(part);
        return Ok((false, false));
    }
    let difference = out.subtract(earlier)?.reconciled;
    out.scale(part);
    Ok((difference, out.add(earlier)?.reconciled))
}
