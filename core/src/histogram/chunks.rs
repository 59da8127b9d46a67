//! A series' histograms as Prometheus's chunks, and back: where a chunk ends, and what all of its samples have in common.
//!
//! In a chunk all samples have one layout, and none after the first is a counter's reset: readers rely on it. So a chunk ends
//! where the schema, the zero threshold, the bounds or the kind change, before a reset, and behind stale markers; buckets
//! that only some of its samples have are empty in the others. `chunkcodec` knows the bits.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::chunkcodec::{decode, encode, Kind, Layout, Refused, Row};
use super::codec::BUCKETS_LIMIT;
use super::{indexes, Counts, Hint, Histogram, Numbers, Span, CUSTOM_SCHEMA};

/// A time and its histogram; None is a stale marker.
pub type Sample = (i64, Option<Arc<Histogram>>);

#[derive(Debug, PartialEq)]
pub struct Chunk {
    pub encoding: u8,
    pub samples: usize,
    pub bytes: Vec<u8>,
}

/// The chunks of some samples in time order, of at most so many each (1 to 65,535).
pub fn write(samples: &[Sample], limit: usize) -> Vec<Chunk> {
    let mut out = Vec::new();
    let mut rest = samples;
    let mut before: Option<&Histogram> = None;
    while !rest.is_empty() {
        let hint = rest[0].1.as_deref().map_or(Hint::Unknown, |first| hint_of(before, first));
        let follows = |pair: &&[Sample]| match (pair[0].1.as_deref(), pair[1].1.as_deref()) {
            // What ends a series has no layout; nothing goes on behind it.
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(known), Some(next)) => are_alike(known, next) && hint_of(Some(known), next) != Hint::Reset,
        };
        let count = 1 + rest.windows(2).take(limit - 1).take_while(follows).count();
        write_run(&rest[..count], hint, &mut out);
        before = rest[count - 1].1.as_deref();
        rest = &rest[count..];
    }
    out
}

/// The samples of a chunk. What is known of resets: none behind the first; of that, only what does not depend on which
/// chunk was before it.
pub fn read(encoding: u8, bytes: &[u8]) -> Result<Vec<Sample>, Refused> {
    let (hint, samples) = decode(encoding, bytes)?;
    let hints = [if hint == Hint::NotReset { Hint::Unknown } else { hint }];
    let later = if hint == Hint::Gauge { Hint::Gauge } else { Hint::NotReset };
    let hints = hints.into_iter().chain(std::iter::repeat(later));
    Ok(samples.into_iter().zip(hints).map(|((time, h), hint)| (time, h.map(|h| Arc::new(Histogram { hint, ..h })))).collect())
}

/// Whether two histograms may be in one chunk, as far as their forms go.
fn are_alike(a: &Histogram, b: &Histogram) -> bool {
    let same = |a: &[f64], b: &[f64]| a.iter().map(|v| v.to_bits()).eq(b.iter().map(|v| v.to_bits()));
    a.schema == b.schema
        && a.zero_threshold.to_bits() == b.zero_threshold.to_bits()
        && (a.hint == Hint::Gauge) == (b.hint == Hint::Gauge)
        && matches!(a.counts, Counts::Integers(_)) == matches!(b.counts, Counts::Integers(_))
        && (a.schema != CUSTOM_SCHEMA || same(&a.custom, &b.custom))
}

/// What is known of a histogram since the one before it.
fn hint_of(before: Option<&Histogram>, next: &Histogram) -> Hint {
    match (next.hint, before) {
        (Hint::Gauge | Hint::Reset, _) => next.hint,
        (_, Some(before)) if are_alike(before, next) => {
            let fell = match (&before.counts, &next.counts) {
                (Counts::Integers(a), Counts::Integers(b)) => fell(before, a, next, b),
                (Counts::Floats(a), Counts::Floats(b)) => fell(before, a, next, b),
                _ => return Hint::Unknown,
            };
            if fell {
                Hint::Reset
            } else {
                Hint::NotReset
            }
        }
        _ => Hint::Unknown,
    }
}

/// Whether any of the counts is less than before.
fn fell<T: Copy + Default + PartialOrd>(before: &Histogram, a: &Numbers<T>, next: &Histogram, b: &Numbers<T>) -> bool {
    let side = |a_spans: &[Span], a: &[T], b_spans: &[Span], b: &[T]| {
        if a_spans == b_spans {
            return a.iter().zip(b).any(|(a, b)| a > b);
        }
        let mut later = indexes(b_spans).zip(b).peekable();
        indexes(a_spans).zip(a).any(|(index, count)| {
            while later.next_if(|l| l.0 < index).is_some() {}
            let now = later.next_if(|l| l.0 == index).map_or(T::default(), |l| *l.1);
            *count > now
        })
    };
    a.count > b.count
        || a.zero > b.zero
        || side(&before.positive, &a.positive, &next.positive, &b.positive)
        || side(&before.negative, &a.negative, &next.negative, &b.negative)
}

/// Writes samples that may be in one chunk; in more, where their buckets together are too many.
fn write_run(samples: &[Sample], hint: Hint, out: &mut Vec<Chunk>) {
    let histograms: Vec<&Histogram> = samples.iter().filter_map(|s| s.1.as_deref()).collect();
    let layout = layout_of(&histograms);
    if samples.len() > 1 && [&layout.positive, &layout.negative].iter().any(|s| buckets(s) > BUCKETS_LIMIT) {
        let (one, two) = samples.split_at(samples.len() / 2);
        write_run(one, hint, out);
        let gauge = two[0].1.as_ref().is_some_and(|h| h.hint == Hint::Gauge);
        return write_run(two, if gauge { Hint::Gauge } else { Hint::NotReset }, out);
    }
    let floats = histograms.first().is_some_and(|h| matches!(h.counts, Counts::Floats(_)));
    let chunk = if floats {
        let of = |h: &Histogram| if let Counts::Floats(n) = &h.counts { n.clone() } else { h.numbers() };
        chunk(samples, &layout, hint, of)
    } else {
        let of = |h: &Histogram| if let Counts::Integers(n) = &h.counts { n.clone() } else { Numbers::default() };
        chunk(samples, &layout, hint, of)
    };
    out.push(chunk);
}

fn chunk<T: Kind>(samples: &[Sample], layout: &Layout, hint: Hint, of: impl Fn(&Histogram) -> Numbers<T>) -> Chunk {
    let row = |sample: &Sample| -> Row<T> {
        let fitted = |h: &Arc<Histogram>| {
            let numbers = of(h);
            let positive = spread(&h.positive, numbers.positive, &layout.positive);
            let negative = spread(&h.negative, numbers.negative, &layout.negative);
            (h.sum, Numbers { positive, negative, ..numbers })
        };
        (sample.0, sample.1.as_ref().map(fitted))
    };
    let rows: Vec<Row<T>> = samples.iter().map(row).collect();
    Chunk { encoding: T::ENCODING, samples: samples.len(), bytes: encode(layout, hint, &rows) }
}

fn buckets(spans: &[Span]) -> usize {
    spans.iter().map(|s| s.length as usize).sum()
}

/// A layout with all buckets of these.
fn layout_of(histograms: &[&Histogram]) -> Layout {
    let Some((first, rest)) = histograms.split_first() else { return Layout::default() };
    let all = |spans: fn(&Histogram) -> &[Span]| -> Box<[Span]> {
        if rest.iter().all(|h| spans(h) == spans(first)) {
            return spans(first).into();
        }
        let all: BTreeSet<i32> = histograms.iter().flat_map(|h| indexes(spans(h))).collect();
        super::packed(all.into_iter().map(|index| (index, true)), 0).0
    };
    Layout {
        schema: first.schema,
        zero_threshold: first.zero_threshold,
        positive: all(|h| &h.positive),
        negative: all(|h| &h.negative),
        custom: first.custom.clone(),
    }
}

/// Counts of some spans as counts of others that have all of these.
fn spread<T: Copy + Default>(spans: &[Span], counts: Box<[T]>, into: &[Span]) -> Box<[T]> {
    if spans == into {
        return counts;
    }
    let mut own = indexes(spans).zip(counts).peekable();
    indexes(into).map(|index| own.next_if(|o| o.0 == index).map_or(T::default(), |o| o.1)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::chunkcodec::{FLOATS, INTEGERS};
    use super::super::tests::{histograms, simple};
    use super::*;
    use proptest::prelude::*;

    fn sample(time: i64, buckets: &[(i32, u64)]) -> Sample {
        (time, Some(Arc::new(simple(buckets))))
    }

    fn with_hint((time, histogram): Sample, hint: Hint) -> Sample {
        (time, histogram.map(|h| Arc::new(Histogram { hint, ..Histogram::clone(&h) })))
    }

    /// All that a histogram says but for its hint, whatever its layout.
    fn told(histogram: &Histogram) -> (Vec<u8>, bool) {
        let mut plain = Histogram { hint: Hint::Unknown, ..histogram.clone() };
        plain.compact(0);
        let mut bytes = Vec::new();
        plain.encode(None, &mut bytes);
        (bytes, histogram.hint == Hint::Gauge)
    }

    fn read_all(chunks: &[Chunk]) -> Vec<Sample> {
        let samples = |chunk: &Chunk| {
            let samples = read(chunk.encoding, &chunk.bytes).unwrap();
            assert_eq!(samples.len(), chunk.samples);
            samples
        };
        chunks.iter().flat_map(samples).collect()
    }

    #[test]
    fn a_chunk_has_the_bits_that_prometheus_writes() {
        let samples = [sample(1, &[(0, 1), (2, 3)]), sample(3, &[(0, 2), (2, 3)])];
        let chunks = write(&samples, 120);
        assert_eq!(chunks.len(), 1);
        let bits: String = chunks[0].bytes.iter().map(|byte| format!("{byte:08b}")).collect();
        let want = [
            "0000000000000010", // two samples
            "00000000",         // nothing is known of resets
            "11111111",         // a threshold that is no power of two
            &format!("{:064b}", 1e-128f64.to_bits()),
            "0",     // schema 0
            "10010", // two positive spans: one bucket at 0, one behind a gap of one
            "10001",
            "0",
            "10001",
            "10001",
            "0",     // no negative one
            "10001", // time 1, count 4, zero count 0, sum 1.5
            "10100",
            "0",
            &format!("{:064b}", 1.5f64.to_bits()),
            "10001", // bucket 1, and two more in the next
            "10010",
            "10010", // time + 2, count + 1, zero count and sum as before
            "10001",
            "0",
            "0",
            "10001", // the first bucket one more, so the second one's distance is one less
            "10111",
        ];
        assert!(bits.trim_end_matches('0') == want.concat().trim_end_matches('0'), "{bits}");
    }

    #[test]
    fn a_chunk_ends_where_its_samples_cannot_be_told_together() {
        let check = |samples: &[Sample], want: &[(usize, Hint)]| {
            let chunks = write(samples, 3);
            let got: Vec<_> = chunks.iter().map(|c| (c.samples, decode(c.encoding, &c.bytes).unwrap().0)).collect();
            assert_eq!(got, want);
        };
        let one = |time: i64, count: u64| sample(time, &[(0, count)]);
        check(&[], &[]);
        check(&[one(0, 1), one(1, 2), one(2, 2), one(3, 3)], &[(3, Hint::Unknown), (1, Hint::NotReset)]);
        check(&[one(0, 2), one(1, 1)], &[(1, Hint::Unknown), (1, Hint::Reset)]);
        check(&[one(0, 2), with_hint(one(1, 3), Hint::Reset)], &[(1, Hint::Unknown), (1, Hint::Reset)]);
        check(&[one(0, 1), sample(1, &[(1, 2)])], &[(1, Hint::Unknown), (1, Hint::Reset)]);
        check(&[one(0, 1), sample(1, &[(-1, 2), (0, 1), (7, 2)])], &[(2, Hint::Unknown)]);
        check(&[one(0, 1), (1, None), (2, None), one(3, 4)], &[(3, Hint::Unknown), (1, Hint::Unknown)]);
        check(&[(0, None), one(1, 1)], &[(1, Hint::Unknown), (1, Hint::Unknown)]);
        let gauge = |time: i64, count: u64| with_hint(one(time, count), Hint::Gauge);
        check(&[gauge(0, 2), gauge(1, 1), one(2, 1)], &[(2, Hint::Gauge), (1, Hint::Unknown)]);
    }

    #[test]
    fn of_resets_a_reader_knows_what_the_chunk_itself_says() {
        let one = |time: i64, count: u64| sample(time, &[(0, count)]);
        let samples = [one(0, 1), one(1, 2), one(2, 3), one(3, 1), one(4, 1)];
        let read = read_all(&write(&samples, 2));
        let hints: Vec<Hint> = read.iter().filter_map(|s| s.1.as_ref()).map(|h| h.hint).collect();
        assert_eq!(hints, [Hint::Unknown, Hint::NotReset, Hint::Unknown, Hint::Reset, Hint::NotReset]);
    }

    #[test]
    fn what_is_no_chunk_is_refused() {
        let check = |encoding: u8, bytes: &[u8], want: &str| {
            let refused = read(encoding, bytes).unwrap_err();
            assert!(refused.contains(want), "{refused}");
        };
        let whole = write(&[sample(0, &[(0, 1)])], 120).remove(0).bytes;
        check(9, &whole, "no chunk of histograms");
        check(INTEGERS, &whole[..2], "too short to say");
        check(INTEGERS, &whole[..whole.len() - 1], "its bits end");
        check(FLOATS, &whole, "its bits end");
        let mut claims = super::super::bitstream::BitWriter::behind(vec![0, 1, 0]);
        claims.bits(0, 9); // no threshold, schema 0
        claims.unsigned(1);
        claims.unsigned(1 << 31);
        claims.signed(0);
        check(INTEGERS, &claims.into_bytes(), "too many buckets");
    }

    proptest! {
        #[test]
        fn histograms_come_back(all in prop::collection::vec((histograms(), 0..6u8, 0..1000i64), 1..20), limit in 1..6usize) {
            let mut samples: Vec<Sample> = Vec::new();
            let mut time = -5000;
            for (histogram, act, step) in all {
                time += step + 1;
                let before = samples.last().and_then(|s| s.1.clone());
                samples.push((time, match (act, before) {
                    (0, _) => None,
                    (1..=3, Some(before)) => {
                        // It grows, as counters do.
                        let mut next = Histogram::clone(&before);
                        match &mut next.counts {
                            Counts::Integers(n) => {
                                n.positive.iter_mut().for_each(|c| *c += 2);
                                n.count += 2 * n.positive.len() as u64;
                            }
                            Counts::Floats(n) => n.positive.iter_mut().for_each(|c| *c += 0.5),
                        }
                        next.check().is_ok().then(|| Arc::new(next))
                    }
                    _ => histogram.check().is_ok().then(|| Arc::new(histogram)),
                }));
            }
            let chunks = write(&samples, limit);
            prop_assert!(chunks.iter().all(|c| c.samples <= limit));
            let read = read_all(&chunks);
            prop_assert_eq!(read.len(), samples.len());
            for (got, want) in read.iter().zip(&samples) {
                prop_assert_eq!(got.0, want.0);
                prop_assert_eq!(got.1.as_ref().map(|h| told(h)), want.1.as_ref().map(|h| told(h)));
            }
            // What was read is written as it was.
            prop_assert_eq!(read_all(&write(&read, limit)).len(), read.len());
        }

        #[test]
        fn no_bytes_make_it_panic(encoding in 2u8..4, bytes in prop::collection::vec(any::<u8>(), 0..80), all in prop::collection::vec(histograms(), 1..4), at in any::<prop::sample::Index>(), with in 1u8..) {
            let _ = read(encoding, &bytes);
            let samples: Vec<Sample> = all.into_iter().enumerate().map(|(time, h)| (time as i64, Some(Arc::new(h)))).collect();
            for mut chunk in write(&samples, 120) {
                let at = at.index(chunk.bytes.len());
                chunk.bytes[at] ^= with;
                let _ = read(chunk.encoding, &chunk.bytes);
            }
        }
    }
}
