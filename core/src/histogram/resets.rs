//! Whether a counter was reset between two samples, and whether two samples are the same.
//!
//! A counter's buckets never fall. If its resolution fell or its zero bucket became wider, the previous sample is read as
//! if it had been so then; the opposite comes with a reset only.

use std::iter::Peekable;

use super::arithmetic::{common_bounds, widened};
use super::bounds::exponential;
use super::float::coarser;
use super::view::{Side, View};
use super::{Hint, Span};

/// Whether the counter was reset after the previous sample. A hint that says so or not is believed.
pub fn was_reset(current: View, previous: View) -> bool {
    match current.hint {
        Hint::Reset => return true,
        Hint::NotReset => return false,
        Hint::Unknown | Hint::Gauge => {}
    }
    if current.count < previous.count {
        return true;
    }
    if current.same_layout(&previous) && !current.reaches_in() {
        return current.zero < previous.zero
            || current.positive.counts.any_below(previous.positive.counts)
            || current.negative.counts.any_below(previous.negative.counts);
    }
    if current.is_custom() {
        if !previous.is_custom() {
            return true;
        }
        if current.custom != previous.custom {
            return fell_in_common(current, previous);
        }
    }
    if current.schema > previous.schema || current.zero_threshold < previous.zero_threshold {
        return true;
    }
    let (zero, threshold) = widened(previous, current.zero_threshold, None);
    if threshold != current.zero_threshold || current.zero < zero.value {
        return true;
    }
    fell(current, current.positive, previous, previous.positive) || fell(current, current.negative, previous, previous.negative)
}

/// Whether a bucket of one side fell.
fn fell(current: View, now: Side, previous: View, before: Side) -> bool {
    let shift = (i32::from(previous.schema) - i32::from(current.schema)).max(0) as u32;
    let inside = |index: i32| {
        !current.is_custom() && current.zero_threshold != 0.0 && exponential(index, current.schema) <= current.zero_threshold
    };
    let mut now = now.iter().skip_while(|(index, _)| inside(*index)).peekable();
    let before = merged(before.iter().map(|(index, count)| (coarser(index, shift), count)));
    for (index, count) in before.skip_while(|(index, _)| inside(*index)) {
        while now.next_if(|(i, _)| *i < index).is_some() {}
        let fell = match now.peek() {
            Some((i, n)) if *i == index => *n < count,
            _ => count != 0.0,
        };
        if fell {
            return true;
        }
    }
    false
}

/// Neighbours with one index as one.
fn merged(buckets: impl Iterator<Item = (i32, f64)>) -> impl Iterator<Item = (i32, f64)> {
    let mut buckets = buckets.peekable();
    std::iter::from_fn(move || {
        let (index, mut sum) = buckets.next()?;
        while let Some((_, count)) = buckets.next_if(|(i, _)| *i == index) {
            sum += count;
        }
        Some((index, sum))
    })
}

/// Whether fewer were counted between two neighbouring bounds that both have.
fn fell_in_common(current: View, previous: View) -> bool {
    fn up_to(buckets: &mut Peekable<impl Iterator<Item = (f64, f64)>>, bound: f64) -> f64 {
        let mut sum = 0.0;
        while let Some((_, count)) = buckets.next_if(|(upper, _)| *upper <= bound) {
            sum += count;
        }
        sum
    }
    fn uppers<'a>(of: View<'a>) -> impl Iterator<Item = (f64, f64)> + 'a {
        of.positive.iter().map(move |(index, count)| (of.raw_bucket(index, count, false).upper, count))
    }
    let (mut now, mut before) = (uppers(current).peekable(), uppers(previous).peekable());
    let bounds = common_bounds(current.custom, previous.custom);
    bounds.into_iter().chain([f64::INFINITY]).any(|bound| up_to(&mut now, bound) < up_to(&mut before, bound))
}

/// Whether two are the same, bit for bit, but for their hints. Empty buckets count.
pub fn equal(one: View, other: View) -> bool {
    fn spans(spans: &[Span]) -> impl Iterator<Item = (i64, u32)> + '_ {
        let mut offset = 0;
        spans.iter().filter_map(move |span| {
            offset += i64::from(span.offset);
            (span.length > 0).then(|| (std::mem::take(&mut offset), span.length))
        })
    }
    let side = |a: Side, b: Side| {
        let bits = |(a, b): (f64, f64)| a.to_bits() == b.to_bits();
        a.counts.len() == b.counts.len() && spans(a.spans).eq(spans(b.spans)) && a.counts.iter().zip(b.counts.iter()).all(bits)
    };
    one.schema == other.schema
        && one.count.to_bits() == other.count.to_bits()
        && one.sum.to_bits() == other.sum.to_bits()
        && one.custom == other.custom
        && one.zero_threshold == other.zero_threshold
        && one.zero.to_bits() == other.zero.to_bits()
        && side(one.positive, other.positive)
        && side(one.negative, other.negative)
}
