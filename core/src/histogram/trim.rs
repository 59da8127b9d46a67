//! A histogram without its observations above, or below, a value.
//!
//! The bucket that the value lies in is divided, as quantiles do it. The sum is estimated anew from the middles of what is
//! left. How observations are spread in a bucket without an end is not known: such a one goes rather than stays.

use super::bounds::Bucket;
use super::float::Float;
use super::view::View;

impl Float {
    /// Cuts off what is above the bound if `upper`, else what is below.
    pub fn trim(&mut self, bound: f64, upper: bool) {
        let (mut count, mut sum, mut any) = (0.0, 0.0, false);
        let mut filled = [false; 2];
        for negative in [false, true] {
            let view = self.view();
            let side = if negative { view.negative } else { view.positive };
            let kept: Vec<(usize, f64)> = side
                .iter()
                .enumerate()
                .filter(|(_, (_, inside))| *inside != 0.0)
                .map(|(place, (index, inside))| {
                    filled[usize::from(negative)] = true;
                    let bucket = view.raw_bucket(index, inside, negative);
                    let (kept, middle) = kept_of(&view, bucket, bound, upper, negative);
                    count += kept;
                    sum += middle * kept;
                    (place, kept)
                })
                .collect();
            let counts = if negative { &mut self.negative.counts } else { &mut self.positive.counts };
            for (place, kept) in kept {
                any |= counts[place] != kept;
                counts[place] = kept;
            }
        }
        if self.zero.value > 0.0 {
            let [positive, negative] = filled;
            let mut bucket = self.view().zero_bucket();
            match (negative, positive) {
                (true, false) => bucket.upper = 0.0,
                (false, true) => bucket.lower = 0.0,
                _ => {}
            }
            let (kept, middle) = kept_of_zero(bucket, bound, upper);
            any |= self.zero.value != kept;
            self.zero.value = kept;
            count += kept;
            sum += middle * kept;
        }
        if any {
            (self.count.value, self.sum.value) = (count, sum);
            self.compact();
        }
    }
}

/// How many stay, and the value that they have in the middle.
fn kept_of(view: &View, bucket: Bucket, bound: f64, upper: bool, negative: bool) -> (f64, f64) {
    let linear = view.is_custom();
    let (all, divided) = match upper {
        true => (bucket.upper <= bound, bucket.lower < bound),
        false => (bucket.lower >= bound, bucket.upper > bound),
    };
    if all {
        return (bucket.count, middle(bucket.lower, bucket.upper, negative, linear));
    }
    if !divided {
        return (0.0, 0.0);
    }
    if bucket.lower == f64::NEG_INFINITY || bucket.upper == f64::INFINITY {
        return kept_of_endless(bucket, bound, upper);
    }
    let below = if bound <= bucket.lower {
        0.0
    } else if bound >= bucket.upper {
        bucket.count
    } else {
        bucket.count * bucket.fraction_below(bound, linear)
    };
    match upper {
        true => (below, middle(bucket.lower, bound, negative, linear)),
        false => (bucket.count - below, middle(bound, bucket.upper, negative, linear)),
    }
}

fn kept_of_endless(bucket: Bucket, bound: f64, upper: bool) -> (f64, f64) {
    let finite = |v: f64| if v.is_infinite() { 0.0 } else { v };
    let Bucket { lower: from, upper: to, count, .. } = bucket;
    if from == f64::NEG_INFINITY {
        // If it ends above 0, it is taken to start there.
        let starts_at_zero = to > 0.0 && to.is_finite();
        return match upper {
            true if bound >= to => (count, 0.0),
            true if bound > 0.0 && starts_at_zero => (count * bound / to, bound / 2.0),
            true if to <= 0.0 => (count, bound),
            false if bound <= from => (count, 0.0),
            false if bound >= 0.0 && to > bound && to.is_finite() => (count * (1.0 - bound / to), (bound + to) / 2.0),
            _ => (0.0, finite(to)),
        };
    }
    if !upper && bound >= from {
        return (count, bound);
    }
    (0.0, finite(from))
}

fn kept_of_zero(bucket: Bucket, bound: f64, upper: bool) -> (f64, f64) {
    let Bucket { lower: from, upper: to, count, .. } = bucket;
    let (all, nothing) = ((count, (from + to) / 2.0), (0.0, 0.0));
    if bound <= from {
        return if upper { nothing } else { all };
    }
    if bound >= to {
        return if upper { all } else { nothing };
    }
    match upper {
        true => (count * ((bound - from) / (to - from)), (from + bound) / 2.0),
        false => (count * ((to - bound) / (to - from)), (bound + to) / 2.0),
    }
}

fn middle(lower: f64, upper: f64, negative: bool, linear: bool) -> f64 {
    match (lower.is_infinite(), upper.is_infinite()) {
        (true, true) => 0.0,
        (true, false) if upper > 0.0 => upper / 2.0,
        (true, false) => upper,
        (false, true) => lower,
        _ if linear => (lower + upper) / 2.0,
        _ => (lower * upper).abs().sqrt() * if negative { -1.0 } else { 1.0 },
    }
}
