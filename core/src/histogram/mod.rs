//! Native histograms: one sample that is a whole distribution.
//!
//! Buckets are counted by index: `spans` say which indexes there are, and the counts stand side by side. What an index means
//! is said by the schema: powers of two cut finer or coarser (-4 to 8), or bounds of the histogram's own (-53). However a
//! histogram came, it has one form here: absolute counts, whole numbers as `u64` where they were whole. Exposed integer
//! histograms have each count as the difference to the one before, and a float holds whole numbers up to 2^53 only; absolute
//! `u64` loses nothing, is compared and added without a running sum, and becomes floats when a query reads it.
//!
//! `bounds` knows the buckets' limits, `codec` the bytes of the disk, `python` what Python sees of one; `chunks` is Prometheus's
//! form of a series of them (`chunkcodec` its bits, made of `bitstream`'s numbers), `exports` how Python takes them out.
//!
//! Queries compute with float histograms. They read any by a `view`; `float` is one that changes, `arithmetic` sums and
//! differences of two, `sums` those of many, `windows` how much one grew, `resets` whether it started anew, `quantile` what
//! is estimated from buckets, `trim` what is cut off, `text` how it reads. `columns` is all that for Python, a list at a time.

mod arithmetic;
pub mod bitstream;
pub mod bounds;
pub mod chunkcodec;
pub mod chunks;
pub mod codec;
mod columns;
pub mod exports;
mod float;
pub mod python;
mod quantile;
mod resets;
mod sums;
mod text;
mod trim;
mod view;
mod windows;

/// The schema of histograms that bring their own bounds.
pub const CUSTOM_SCHEMA: i8 = -53;
pub const SCHEMA_MIN: i8 = -4;
pub const SCHEMA_MAX: i8 = 8;
/// Finer schemas than are stored: their buckets are merged when they come.
pub const SCHEMA_RESERVED_MAX: i8 = 52;

/// The upper half of a NaN that stands for a histogram in an array of values; the lower half is its number in a list beside
/// it. No sample has it: what comes from outside with such a NaN is given another.
const MARK: u64 = 0x7ff4_6869;

/// The value that stands for the histogram with this number.
pub fn mark(number: u32) -> f64 {
    f64::from_bits(MARK << 32 | u64::from(number))
}

/// The number of the histogram that a value stands for.
#[inline(always)]
pub fn marked(value: f64) -> Option<u32> {
    let bits = value.to_bits();
    (bits >> 32 == MARK).then_some(bits as u32)
}

/// What is known of the count since the sample before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hint {
    #[default]
    Unknown,
    Reset,
    NotReset,
    /// Counts may fall: it is no counter.
    Gauge,
}

pub const HINTS: [Hint; 4] = [Hint::Unknown, Hint::Reset, Hint::NotReset, Hint::Gauge];

/// Neighbouring buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// From the end of the span before; of the first one, its first index.
    pub offset: i32,
    pub length: u32,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Numbers<T> {
    pub count: T,
    pub zero: T,
    pub positive: Box<[T]>,
    pub negative: Box<[T]>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Counts {
    Integers(Numbers<u64>),
    Floats(Numbers<f64>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    pub schema: i8,
    pub hint: Hint,
    pub zero_threshold: f64,
    pub sum: f64,
    pub positive: Box<[Span]>,
    pub negative: Box<[Span]>,
    /// Upper bounds, of the custom schema only; one more bucket reaches to infinity.
    pub custom: Box<[f64]>,
    pub counts: Counts,
}

/// The index of each bucket that the spans describe.
pub fn indexes(spans: &[Span]) -> impl Iterator<Item = i32> + '_ {
    let mut next = 0i64;
    spans.iter().flat_map(move |span| {
        let start = next + i64::from(span.offset);
        next = start + i64::from(span.length);
        (start..next).map(|i| i.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32)
    })
}

/// Spans and counts without empty buckets, but for gaps of up to so many between two that are not.
fn packed<T: Copy + Default + PartialEq>(buckets: impl Iterator<Item = (i32, T)>, gap: i64) -> (Box<[Span]>, Box<[T]>) {
    let (mut spans, mut counts): (Vec<Span>, Vec<T>) = (Vec::new(), Vec::new());
    let mut next = 0i64;
    for (index, count) in buckets.filter(|b| b.1 != T::default()) {
        let index = i64::from(index);
        match spans.last_mut() {
            Some(last) if (0..=gap).contains(&(index - next)) => {
                last.length += (index - next + 1) as u32;
                counts.resize(counts.len() + (index - next) as usize, T::default());
            }
            _ => spans.push(Span { offset: (index - next) as i32, length: 1 }),
        }
        counts.push(count);
        next = index + 1;
    }
    (spans.into(), counts.into())
}

fn merged<T: Copy + Default + PartialEq>(
    spans: &[Span],
    counts: &[T],
    shift: u32,
    sum: fn(T, T) -> T,
) -> (Box<[Span]>, Box<[T]>) {
    let mut out: Vec<(i32, T)> = Vec::with_capacity(counts.len());
    for (index, count) in indexes(spans).zip(counts) {
        let target = (index.saturating_sub(1) >> shift) + 1;
        match out.last_mut() {
            Some(last) if last.0 == target => last.1 = sum(last.1, *count),
            _ => out.push((target, *count)),
        }
    }
    packed(out.into_iter(), 0)
}

impl<T: Copy + Default + PartialEq> Numbers<T> {
    fn map<U>(&self, f: impl Fn(T) -> U) -> Numbers<U> {
        let all = |side: &[T]| side.iter().map(|c| f(*c)).collect();
        Numbers { count: f(self.count), zero: f(self.zero), positive: all(&self.positive), negative: all(&self.negative) }
    }
}

impl Histogram {
    /// The counts as a query has them.
    pub fn numbers(&self) -> Numbers<f64> {
        self.map_numbers(|c| c)
    }

    fn map_numbers(&self, change: impl Fn(f64) -> f64) -> Numbers<f64> {
        match &self.counts {
            Counts::Integers(n) => n.map(|c| change(c as f64)),
            Counts::Floats(n) => n.map(change),
        }
    }

    /// A stale marker: the series ends here.
    pub fn is_stale(&self) -> bool {
        crate::tsdb::is_stale(self.sum)
    }

    pub fn bucket_count(&self) -> usize {
        match &self.counts {
            Counts::Integers(n) => n.positive.len() + n.negative.len(),
            Counts::Floats(n) => n.positive.len() + n.negative.len(),
        }
    }

    /// What it takes in memory.
    pub fn bytes(&self) -> usize {
        let spans = self.positive.len() + self.negative.len();
        std::mem::size_of::<Histogram>() + 8 * (self.bucket_count() + spans + self.custom.len())
    }

    /// As many samples as it counts for, where samples are limited.
    pub fn weight(&self) -> usize {
        self.bytes().div_ceil(16)
    }

    /// Without empty buckets, but for gaps of up to so many.
    pub fn compact(&mut self, gap: i64) {
        fn side<T: Copy + Default + PartialEq>(spans: &mut Box<[Span]>, counts: &mut Box<[T]>, gap: i64) {
            let (packed_spans, packed_counts) = packed(indexes(spans).zip(counts.iter().copied()), gap);
            (*spans, *counts) = (packed_spans, packed_counts);
        }
        match &mut self.counts {
            Counts::Integers(n) => {
                side(&mut self.positive, &mut n.positive, gap);
                side(&mut self.negative, &mut n.negative, gap);
            }
            Counts::Floats(n) => {
                side(&mut self.positive, &mut n.positive, gap);
                side(&mut self.negative, &mut n.negative, gap);
            }
        }
    }

    /// Merges buckets until the schema is this one, or as coarse.
    pub fn reduce(&mut self, schema: i8) {
        if self.schema == CUSTOM_SCHEMA || self.schema <= schema {
            return;
        }
        let shift = (self.schema - schema) as u32;
        fn side<T: Copy + Default + PartialEq>(spans: &mut Box<[Span]>, counts: &mut Box<[T]>, shift: u32, sum: fn(T, T) -> T) {
            let (merged_spans, merged_counts) = merged(spans, counts, shift.min(31), sum);
            (*spans, *counts) = (merged_spans, merged_counts);
        }
        match &mut self.counts {
            Counts::Integers(n) => {
                // What was not checked yet may not fit; then it does not add up any more.
                side(&mut self.positive, &mut n.positive, shift, u64::saturating_add);
                side(&mut self.negative, &mut n.negative, shift, u64::saturating_add);
            }
            Counts::Floats(n) => {
                side(&mut self.positive, &mut n.positive, shift, |a, b| a + b);
                side(&mut self.negative, &mut n.negative, shift, |a, b| a + b);
            }
        }
        self.schema = schema;
    }

    /// Merges buckets until there are at most so many; false where that cannot be.
    pub fn limit(&mut self, buckets: usize) -> bool {
        while self.bucket_count() > buckets {
            if self.schema == CUSTOM_SCHEMA || self.schema <= SCHEMA_MIN {
                return false;
            }
            self.reduce(self.schema - 1);
        }
        true
    }

    /// Whether it is a histogram that can be stored; the error is what Prometheus says.
    pub fn check(&self) -> Result<(), String> {
        let (positive, negative) = match &self.counts {
            Counts::Integers(n) => (n.positive.len(), n.negative.len()),
            Counts::Floats(n) => (n.positive.len(), n.negative.len()),
        };
        let numbers = self.numbers();
        if self.schema == CUSTOM_SCHEMA {
            check_custom(&self.custom, &self.positive, positive).map_err(|e| format!("custom buckets: {e}"))?;
            for (wrong, said) in [
                (numbers.zero != 0.0, "must have zero count of 0"),
                (self.zero_threshold != 0.0, "must have zero threshold of 0"),
                (!self.negative.is_empty(), "must not have negative spans"),
                (negative > 0, "must not have negative buckets"),
            ] {
                if wrong {
                    return Err(format!("custom buckets: {said}"));
                }
            }
        } else if (SCHEMA_MIN..=SCHEMA_MAX).contains(&self.schema) {
            check_spans(&self.positive, positive).map_err(|e| format!("positive side: {e}"))?;
            check_spans(&self.negative, negative).map_err(|e| format!("negative side: {e}"))?;
            if !self.custom.is_empty() {
                return Err("histogram with exponential schema must not have custom bounds".into());
            }
        } else {
            return Err(bad_schema(i32::from(self.schema)));
        }
        match &self.counts {
            Counts::Integers(n) => {
                let all = n.positive.iter().chain(&n.negative).fold(u128::from(n.zero), |sum, c| sum + u128::from(*c));
                let count = u128::from(n.count);
                let said = if self.sum.is_nan() && all > count {
                    "histogram's observation count should be at least the number of observations found in the buckets"
                } else if !self.sum.is_nan() && all != count {
                    "histogram's observation count should equal the number of observations found in the buckets (in absence of NaN)"
                } else {
                    return Ok(());
                };
                Err(format!("{all} observations found in buckets, but the Count field is {count}: {said}"))
            }
            Counts::Floats(n) => {
                for (side, counts) in [("negative", &n.negative), ("positive", &n.positive)] {
                    if let Some((at, count)) = counts.iter().enumerate().find(|(_, c)| **c < 0.0) {
                        return Err(format!(
                            "{side} side: bucket number {} has observation count of {count}: histogram has a bucket whose observation count is negative",
                            at + 1
                        ));
                    }
                }
                if n.zero < 0.0 {
                    return Err(format!(
                        "zero bucket has observation count of {}: histogram has a bucket whose observation count is negative",
                        n.zero
                    ));
                }
                if n.count < 0.0 {
                    return Err(format!("observation count is  {}: histogram's observation count is negative", n.count));
                }
                Ok(())
            }
        }
    }
}

pub fn bad_schema(schema: i32) -> String {
    format!(
        "histogram has an invalid schema, which must be between {SCHEMA_MIN} and {SCHEMA_MAX} for exponential buckets, or {CUSTOM_SCHEMA} for custom buckets, got schema {schema}"
    )
}

fn check_spans(spans: &[Span], buckets: usize) -> Result<(), String> {
    let (mut all, mut end) = (0u64, 0i64);
    for (at, span) in spans.iter().enumerate() {
        if at > 0 && span.offset < 0 {
            return Err(format!(
                "span number {} with offset {}: histogram has a span whose offset is negative",
                at + 1,
                span.offset
            ));
        }
        all += u64::from(span.length);
        end += i64::from(span.offset) + i64::from(span.length);
        if span.offset == i32::MIN || end - 1 > i64::from(i32::MAX) {
            return Err(format!(
                "span number {} ends at bucket index {}: histogram has a span whose bucket index is out of range",
                at + 1,
                end - 1
            ));
        }
    }
    check_lengths(all, buckets)
}

fn check_lengths(spans: u64, buckets: usize) -> Result<(), String> {
    if spans == buckets as u64 {
        return Ok(());
    }
    Err(format!(
        "spans need {spans} buckets, have {buckets} buckets: histogram spans specify different number of buckets than provided"
    ))
}

fn check_custom(bounds: &[f64], spans: &[Span], buckets: usize) -> Result<(), String> {
    if bounds.iter().any(|b| b.is_nan()) {
        return Err("histogram custom bounds must not be NaN".into());
    }
    if let Some(pair) = bounds.windows(2).find(|w| w[1] <= w[0]) {
        return Err(format!(
            "previous bound is {:.6} and current is {:.6}: histogram custom bounds must be in strictly increasing order",
            pair[0], pair[1]
        ));
    }
    if bounds.last() == Some(&f64::INFINITY) {
        return Err("last +Inf bound must not be explicitly defined: histogram custom bounds must be finite".into());
    }
    let (mut all, mut reach) = (0u64, 0u64);
    for (at, span) in spans.iter().enumerate() {
        let offset = u64::try_from(span.offset).map_err(|_| {
            format!("span number {} with offset {}: histogram has a span whose offset is negative", at + 1, span.offset)
        })?;
        all += u64::from(span.length);
        reach += offset + u64::from(span.length);
    }
    check_lengths(all, buckets)?;
    if bounds.len() as u64 + 1 < reach {
        return Err(format!(
            "only {} custom bounds defined which is insufficient to cover total span length of {reach}: histogram custom bounds are too few",
            bounds.len()
        ));
    }
    Ok(())
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An integer histogram of schema 0 whose positive buckets these are, by index.
    pub fn simple(buckets: &[(i32, u64)]) -> Histogram {
        let (positive, counts) = packed(buckets.iter().copied(), 0);
        let count = counts.iter().sum();
        Histogram {
            schema: 0,
            hint: Hint::Unknown,
            zero_threshold: 1e-128,
            sum: 1.5,
            positive,
            negative: Box::default(),
            custom: Box::default(),
            counts: Counts::Integers(Numbers { count, positive: counts, ..Numbers::default() }),
        }
    }

    fn spans() -> impl Strategy<Value = Box<[Span]>> {
        prop::collection::vec((-40..60i32, 0..6u32), 0..5).prop_map(|spans| {
            let fixed = |(at, (offset, length)): (usize, (i32, u32))| Span {
                offset: if at == 0 { offset } else { offset.abs() },
                length,
            };
            spans.into_iter().enumerate().map(fixed).collect()
        })
    }

    fn float() -> impl Strategy<Value = f64> {
        prop_oneof![any::<f64>(), Just(f64::NAN), Just(f64::INFINITY), Just(0.0), (0..1000i32).prop_map(f64::from)]
    }

    /// Histograms of all kinds; not all of them pass `check`.
    pub fn histograms() -> impl Strategy<Value = Histogram> {
        let head = (-5..10i8, 0..4usize, float(), float(), any::<bool>());
        (head, spans(), spans(), prop::collection::vec(float(), 0..6), any::<bool>(), any::<u64>()).prop_map(
            |((schema, hint, zero_threshold, sum, small), positive, negative, custom, integers, seed)| {
                let schema = if schema < SCHEMA_MIN { CUSTOM_SCHEMA } else { schema.min(SCHEMA_MAX) };
                let custom: Box<[f64]> = if schema == CUSTOM_SCHEMA { custom.into() } else { Box::default() };
                let mut state = seed;
                let mut next = || {
                    state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    if small {
                        state >> 58
                    } else {
                        state
                    }
                };
                let length = |spans: &[Span]| spans.iter().map(|s| s.length as usize).sum::<usize>();
                let (count, zero) = (next(), next());
                let mut side = |spans: &[Span]| (0..length(spans)).map(|_| next()).collect::<Box<[u64]>>();
                let numbers = Numbers { count, zero, positive: side(&positive), negative: side(&negative) };
                let counts = if integers { Counts::Integers(numbers) } else { Counts::Floats(numbers.map(|c| c as f64 / 8.0)) };
                Histogram { schema, hint: HINTS[hint], zero_threshold, sum, positive, negative, custom, counts }
            },
        )
    }

    #[test]
    fn spans_say_which_buckets_there_are() {
        let spans = [Span { offset: -2, length: 2 }, Span { offset: 3, length: 1 }, Span { offset: 0, length: 2 }];
        assert_eq!(indexes(&spans).collect::<Vec<_>>(), [-2, -1, 3, 4, 5]);
    }

    #[test]
    fn empty_buckets_go_and_gaps_stay_as_wide_as_allowed() {
        let check = |gap: i64, spans: &[(i32, u32)], counts: &[u64]| {
            let mut histogram = simple(&[]);
            histogram.positive = [Span { offset: -1, length: 7 }].into();
            histogram.counts = Counts::Integers(Numbers { positive: [0, 4, 0, 0, 5, 6, 0].into(), ..Numbers::default() });
            histogram.compact(gap);
            let Counts::Integers(n) = &histogram.counts else { panic!() };
            assert_eq!(&n.positive[..], counts);
            assert_eq!(histogram.positive.iter().map(|s| (s.offset, s.length)).collect::<Vec<_>>(), spans);
        };
        check(0, &[(0, 1), (2, 2)], &[4, 5, 6]);
        check(1, &[(0, 1), (2, 2)], &[4, 5, 6]);
        check(2, &[(0, 5)], &[4, 0, 0, 5, 6]);
    }

    #[test]
    fn buckets_are_merged_until_they_are_few_enough() {
        let mut histogram = simple(&[(0, 1), (1, 2), (2, 3), (3, 4), (8, 5)]);
        assert!(histogram.limit(3));
        assert_eq!(histogram.schema, -2);
        let upper: Vec<(f64, f64)> = histogram.buckets().iter().map(|b| (b.upper, b.count)).collect();
        assert_eq!(upper, [(1.0, 1.0), (16.0, 9.0), (256.0, 5.0)]);
        assert!(!histogram.limit(0));
        let mut custom = Histogram { schema: CUSTOM_SCHEMA, ..simple(&[(0, 1), (1, 1)]) };
        assert!(!custom.limit(1));
    }

    #[test]
    fn what_does_not_add_up_is_refused() {
        let check = |change: &dyn Fn(&mut Histogram), want: &str| {
            let mut histogram = simple(&[(0, 1), (1, 2)]);
            histogram.zero_threshold = 0.0;
            histogram.check().unwrap();
            change(&mut histogram);
            let got = histogram.check().unwrap_err();
            assert!(got.contains(want), "{got}");
        };
        let with_count = |h: &mut Histogram, count: u64| {
            if let Counts::Integers(n) = &mut h.counts {
                n.count = count;
            }
        };
        check(
            &|h| with_count(h, 4),
            "3 observations found in buckets, but the Count field is 4: histogram's observation count should equal",
        );
        check(&|h| (h.sum, _) = (f64::NAN, with_count(h, 2)), "should be at least");
        check(&|h| h.schema = 9, "histogram has an invalid schema, which must be between -4 and 8");
        check(&|h| h.positive = Box::default(), "positive side: spans need 0 buckets, have 2 buckets");
        check(&|h| h.custom = [1.0].into(), "must not have custom bounds");
        check(&|h| h.schema = CUSTOM_SCHEMA, "only 0 custom bounds defined");
        check(&|h| (h.schema, h.custom) = (CUSTOM_SCHEMA, [2.0, 1.0].into()), "strictly increasing");
    }

    #[test]
    fn a_mark_stands_for_a_number() {
        assert_eq!(marked(mark(7)), Some(7));
        assert_eq!(marked(mark(u32::MAX)), Some(u32::MAX));
        assert!(mark(0).is_nan());
        for value in [1.0, f64::NAN, crate::tsdb::STALE, crate::tsdb::ABSENT] {
            assert_eq!(marked(value), None);
        }
    }
}
