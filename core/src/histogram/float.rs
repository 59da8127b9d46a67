//! A histogram that is being computed: a float histogram that changes in place, and is used again for the next one.
//!
//! Sums are compensated (Neumaier's variant of Kahan's): beside each number stands what rounding has taken from it, the
//! *rest*, and both are added in the end. Rests have the layout of the counts. `arithmetic` adds to it; here is what needs
//! no second histogram.

use std::cell::RefCell;

use super::view::{Buckets, Side, View};
use super::{indexes, Counts, Hint, Histogram, Numbers, Span, CUSTOM_SCHEMA};

/// A number with what rounding took from it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Kept {
    pub value: f64,
    pub rest: f64,
}

impl Kept {
    #[inline(always)]
    pub fn add(&mut self, by: f64) {
        // Without a branch, so that a compiler can do several at once.
        let sum = self.value + by;
        let (large, small) = if self.value.abs() >= by.abs() { (self.value, by) } else { (by, self.value) };
        let rest = self.rest + ((large - sum) + small);
        self.rest = if sum.is_infinite() { 0.0 } else { rest };
        self.value = sum;
    }

    /// With or without keeping the rest.
    #[inline(always)]
    pub fn grow(&mut self, by: f64, compensated: bool) {
        if compensated {
            self.add(by);
        } else {
            self.value += by;
        }
    }
}

/// The buckets of one side.
#[derive(Clone, Debug, Default)]
pub struct Counted {
    pub spans: Vec<Span>,
    pub counts: Vec<f64>,
    /// As many as counts where sums are compensated, else none.
    pub rests: Vec<f64>,
    next: i64,
}

impl Counted {
    pub fn clear(&mut self) {
        self.spans.clear();
        self.counts.clear();
        self.rests.clear();
        self.next = 0;
    }

    pub fn load(&mut self, side: Side, compensated: bool) {
        self.clear();
        self.spans.extend_from_slice(side.spans);
        side.counts.append_to(&mut self.counts);
        if compensated {
            self.rests.resize(self.counts.len(), 0.0);
        }
    }

    fn copy(&mut self, other: &Counted) {
        self.clear();
        self.spans.extend_from_slice(&other.spans);
        self.counts.extend_from_slice(&other.counts);
        self.rests.extend_from_slice(&other.rests);
    }

    pub fn view(&self) -> Side<'_> {
        Side { spans: &self.spans, counts: Buckets::Floats(&self.counts) }
    }

    pub fn rest(&self, place: usize) -> f64 {
        self.rests.get(place).copied().unwrap_or(0.0)
    }

    pub fn kept(&self, place: usize) -> Kept {
        Kept { value: self.counts[place], rest: self.rest(place) }
    }

    pub fn set(&mut self, place: usize, kept: Kept) {
        self.counts[place] = kept.value;
        if let Some(rest) = self.rests.get_mut(place) {
            *rest = kept.rest;
        }
    }

    /// One more bucket, above those that there are since `clear`.
    pub fn push(&mut self, index: i32, kept: Kept, compensated: bool) {
        let index = i64::from(index);
        match self.spans.last_mut() {
            Some(last) if index == self.next => last.length += 1,
            _ => self.spans.push(Span { offset: (index - self.next) as i32, length: 1 }),
        }
        self.next = index + 1;
        self.counts.push(kept.value);
        if compensated {
            self.rests.push(kept.rest);
        }
    }

    fn is_empty(&self, place: usize) -> bool {
        self.counts[place] == 0.0 && self.rest(place) == 0.0
    }

    /// Without empty buckets, and each span as long as it can be.
    pub fn compact(&mut self) {
        let compacted = self.spans.iter().skip(1).all(|s| s.offset > 0) && self.spans.iter().all(|s| s.length > 0);
        if compacted && !(0..self.counts.len()).any(|at| self.is_empty(at)) {
            return;
        }
        let compensated = !self.rests.is_empty();
        spare(|packed| {
            for (place, index) in indexes(&self.spans).enumerate().take(self.counts.len()) {
                if !self.is_empty(place) {
                    packed.push(index, self.kept(place), compensated);
                }
            }
            std::mem::swap(self, packed);
        });
    }

    /// Merges buckets, `2^shift` into one.
    pub fn reduce(&mut self, shift: u32, compensated: bool) {
        spare(|merged| {
            let mut last = None;
            for (place, index) in indexes(&self.spans).enumerate().take(self.counts.len()) {
                let (index, kept) = (coarser(index, shift), self.kept(place));
                if last == Some(index) {
                    let at = merged.counts.len() - 1;
                    let mut sum = merged.kept(at);
                    sum.grow(kept.value, compensated);
                    if compensated {
                        sum.add(kept.rest);
                    }
                    merged.set(at, sum);
                } else {
                    merged.push(index, kept, compensated);
                    last = Some(index);
                }
            }
            std::mem::swap(self, merged);
        });
    }

    pub fn each(&mut self, change: impl Fn(&mut f64) + Copy) {
        self.counts.iter_mut().chain(&mut self.rests).for_each(change);
    }
}

/// The index in a schema so much coarser of the bucket that has the one of this index in it.
pub fn coarser(index: i32, shift: u32) -> i32 {
    (index.saturating_sub(1) >> shift.min(31)) + 1
}

/// With buckets that were allocated before.
pub fn spare<R>(with: impl FnOnce(&mut Counted) -> R) -> R {
    thread_local!(static SPARE: RefCell<Counted> = RefCell::default());
    SPARE.with(|spare| {
        let mut counted = spare.take();
        counted.clear();
        let out = with(&mut counted);
        spare.replace(counted);
        out
    })
}

/// A histogram that changes.
#[derive(Clone, Debug, Default)]
pub struct Float {
    pub schema: i8,
    pub hint: Hint,
    pub zero_threshold: f64,
    pub zero: Kept,
    pub count: Kept,
    pub sum: Kept,
    pub positive: Counted,
    pub negative: Counted,
    pub custom: Vec<f64>,
    /// Whether sums are compensated.
    pub compensated: bool,
}

impl Float {
    /// Becomes that histogram.
    pub fn load(&mut self, view: View, compensated: bool) {
        let kept = |value| Kept { value, rest: 0.0 };
        self.schema = view.schema;
        self.hint = view.hint;
        self.zero_threshold = view.zero_threshold;
        (self.zero, self.count, self.sum) = (kept(view.zero), kept(view.count), kept(view.sum));
        self.compensated = compensated;
        self.positive.load(view.positive, compensated);
        self.negative.load(view.negative, compensated);
        self.custom.clear();
        self.custom.extend_from_slice(view.custom);
    }

    /// Becomes the same.
    pub fn copy(&mut self, other: &Float) {
        self.schema = other.schema;
        self.hint = other.hint;
        self.zero_threshold = other.zero_threshold;
        (self.zero, self.count, self.sum) = (other.zero, other.count, other.sum);
        self.compensated = other.compensated;
        self.positive.copy(&other.positive);
        self.negative.copy(&other.negative);
        self.custom.clone_from(&other.custom);
    }

    pub fn is_custom(&self) -> bool {
        self.schema == CUSTOM_SCHEMA
    }

    pub fn view(&self) -> View<'_> {
        View {
            schema: self.schema,
            hint: self.hint,
            zero_threshold: self.zero_threshold,
            zero: self.zero.value,
            count: self.count.value,
            sum: self.sum.value,
            custom: &self.custom,
            positive: self.positive.view(),
            negative: self.negative.view(),
        }
    }

    /// As it is kept from now on.
    pub fn histogram(&self) -> Histogram {
        Histogram {
            schema: self.schema,
            hint: self.hint,
            zero_threshold: self.zero_threshold,
            sum: self.sum.value,
            positive: self.positive.spans[..].into(),
            negative: self.negative.spans[..].into(),
            custom: self.custom[..].into(),
            counts: Counts::Floats(Numbers {
                count: self.count.value,
                zero: self.zero.value,
                positive: self.positive.counts[..].into(),
                negative: self.negative.counts[..].into(),
            }),
        }
    }

    fn each(&mut self, change: impl Fn(&mut f64) + Copy) {
        for kept in [&mut self.zero, &mut self.count, &mut self.sum] {
            change(&mut kept.value);
            change(&mut kept.rest);
        }
        self.positive.each(change);
        self.negative.each(change);
    }

    pub fn scale(&mut self, factor: f64) {
        self.each(|v| *v *= factor);
        if factor < 0.0 {
            self.hint = Hint::Gauge;
        }
    }

    pub fn divide(&mut self, divisor: f64) {
        if divisor == 0.0 {
            // The rests would become NaN; what is infinite has none.
            for kept in [&mut self.zero, &mut self.count, &mut self.sum] {
                *kept = Kept { value: kept.value / divisor, rest: 0.0 };
            }
            self.positive.clear();
            self.negative.clear();
            return;
        }
        self.each(|v| *v /= divisor);
        if divisor < 0.0 {
            self.hint = Hint::Gauge;
        }
    }

    pub fn compact(&mut self) {
        self.positive.compact();
        self.negative.compact();
    }

    /// Merges buckets until the schema is this one, or as coarse.
    pub fn reduce(&mut self, schema: i8) {
        if self.is_custom() || self.schema <= schema {
            return;
        }
        let shift = (i32::from(self.schema) - i32::from(schema)) as u32;
        self.positive.reduce(shift, self.compensated);
        self.negative.reduce(shift, self.compensated);
        self.schema = schema;
    }

    /// Adds the rests to what they are of.
    pub fn settle(&mut self) {
        fn both(side: &mut Counted) {
            side.counts.iter_mut().zip(&side.rests).for_each(|(count, rest)| *count += rest);
            side.rests.clear();
        }
        for kept in [&mut self.zero, &mut self.count, &mut self.sum] {
            *kept = Kept { value: kept.value + kept.rest, rest: 0.0 };
        }
        both(&mut self.positive);
        both(&mut self.negative);
        self.compensated = false;
    }

    /// Whether it left the range of numbers.
    pub fn overflows(&self) -> bool {
        let all = [self.zero.value, self.count.value, self.sum.value];
        let mut all = all.iter().chain(&self.positive.counts).chain(&self.negative.counts).chain(&self.custom);
        all.any(|v| v.is_infinite())
    }
}
