//! The bytes of a histogram: by itself, or as the difference to the one before it in its series.
//!
//! ```text
//! flags:   bit 0 the layout is that of the histogram before │ bit 1 float counts │ bits 2–3 hint
//! layout:  schema, one byte │ zero threshold, 8 bytes │ positive spans, negative spans: count, then offset (signed) and
//!          length of each │ bounds of its own: count, 8 bytes each                               (absent with bit 0)
//! then:    sum │ count, zero count, positive buckets, negative buckets
//! ```
//! With bit 0 each number is the difference to the same one before; without, buckets are differences to their neighbours.
//! Whole numbers differ by a signed number; floats by the XOR of their bits, with its bytes turned round, so that what
//! ends in zeros is short.

use super::{Counts, Hint, Histogram, Numbers, Span, CUSTOM_SCHEMA, HINTS, SCHEMA_MAX, SCHEMA_MIN};
use crate::tsdb::varint::{put, put_signed, Cursor};
use crate::tsdb::{Result, StorageError};

/// Buckets that a histogram may have; more is damage.
pub const BUCKETS_LIMIT: usize = 1 << 16;

fn damaged(reason: &str) -> StorageError {
    StorageError::corrupt("a histogram", reason)
}

/// A number as the difference to another.
pub trait Number: Copy + Default {
    fn put(self, before: Self, out: &mut Vec<u8>);
    fn read(before: Self, cursor: &mut Cursor<'_>) -> Result<Self>;
}

impl Number for u64 {
    fn put(self, before: u64, out: &mut Vec<u8>) {
        put_signed(out, self.wrapping_sub(before) as i64);
    }

    fn read(before: u64, cursor: &mut Cursor<'_>) -> Result<u64> {
        Ok(before.wrapping_add(cursor.signed()? as u64))
    }
}

impl Number for f64 {
    fn put(self, before: f64, out: &mut Vec<u8>) {
        put(out, (self.to_bits() ^ before.to_bits()).swap_bytes());
    }

    fn read(before: f64, cursor: &mut Cursor<'_>) -> Result<f64> {
        Ok(f64::from_bits(before.to_bits() ^ cursor.varint()?.swap_bytes()))
    }
}

impl<T: Number> Numbers<T> {
    fn put(&self, before: Option<&Numbers<T>>, out: &mut Vec<u8>) {
        self.count.put(before.map_or(T::default(), |b| b.count), out);
        self.zero.put(before.map_or(T::default(), |b| b.zero), out);
        for (counts, before) in [(&self.positive, before.map(|b| &b.positive)), (&self.negative, before.map(|b| &b.negative))] {
            let mut neighbour = T::default();
            for (at, count) in counts.iter().enumerate() {
                count.put(before.map_or(neighbour, |b| b[at]), out);
                neighbour = *count;
            }
        }
    }

    fn read(lengths: [usize; 2], before: Option<&Numbers<T>>, cursor: &mut Cursor<'_>) -> Result<Numbers<T>> {
        let count = T::read(before.map_or(T::default(), |b| b.count), cursor)?;
        let zero = T::read(before.map_or(T::default(), |b| b.zero), cursor)?;
        let mut side = |length: usize, before: Option<&Box<[T]>>| -> Result<Box<[T]>> {
            let mut counts: Vec<T> = Vec::with_capacity(length.min(1024));
            for at in 0..length {
                let neighbour = counts.last().copied().unwrap_or_default();
                counts.push(T::read(before.map_or(neighbour, |b| b[at]), cursor)?);
            }
            Ok(counts.into())
        };
        let positive = side(lengths[0], before.map(|b| &b.positive))?;
        let negative = side(lengths[1], before.map(|b| &b.negative))?;
        Ok(Numbers { count, zero, positive, negative })
    }
}

fn put_spans(spans: &[Span], out: &mut Vec<u8>) {
    put(out, spans.len() as u64);
    for span in spans {
        put_signed(out, i64::from(span.offset));
        put(out, u64::from(span.length));
    }
}

fn read_spans(cursor: &mut Cursor<'_>) -> Result<Box<[Span]>> {
    (0..cursor.count()?)
        .map(|_| {
            let offset = i32::try_from(cursor.signed()?).map_err(|_| damaged("a span's offset is too large"))?;
            Ok(Span { offset, length: cursor.number()? })
        })
        .collect()
}

fn length(spans: &[Span]) -> Result<usize> {
    let all: u64 = spans.iter().map(|s| u64::from(s.length)).sum();
    usize::try_from(all).ok().filter(|l| *l <= BUCKETS_LIMIT).ok_or_else(|| damaged("it claims too many buckets"))
}

impl Histogram {
    fn has_layout_of(&self, other: &Histogram) -> bool {
        let same = |a: &[f64], b: &[f64]| a.iter().map(|v| v.to_bits()).eq(b.iter().map(|v| v.to_bits()));
        self.schema == other.schema
            && self.zero_threshold.to_bits() == other.zero_threshold.to_bits()
            && self.positive == other.positive
            && self.negative == other.negative
            && same(&self.custom, &other.custom)
            && matches!(self.counts, Counts::Floats(_)) == matches!(other.counts, Counts::Floats(_))
    }

    /// Writes the histogram; with one before it in its series, as the difference to that where both have one layout. Its
    /// spans must have as many buckets as it has counts.
    pub fn encode(&self, before: Option<&Histogram>, out: &mut Vec<u8>) {
        let before = before.filter(|b| self.has_layout_of(b));
        let floats = matches!(self.counts, Counts::Floats(_));
        out.push(u8::from(before.is_some()) | u8::from(floats) << 1 | (self.hint as u8) << 2);
        if before.is_none() {
            out.push(self.schema as u8);
            out.extend_from_slice(&self.zero_threshold.to_bits().to_le_bytes());
            put_spans(&self.positive, out);
            put_spans(&self.negative, out);
            put(out, self.custom.len() as u64);
            self.custom.iter().for_each(|b| out.extend_from_slice(&b.to_bits().to_le_bytes()));
        }
        Number::put(self.sum, before.map_or(0.0, |b| b.sum), out);
        match (&self.counts, before.map(|b| &b.counts)) {
            (Counts::Integers(n), Some(Counts::Integers(before))) => n.put(Some(before), out),
            (Counts::Floats(n), Some(Counts::Floats(before))) => n.put(Some(before), out),
            (Counts::Integers(n), _) => n.put(None, out),
            (Counts::Floats(n), _) => n.put(None, out),
        }
    }

    /// Reads what `encode` wrote, with the same one before it.
    pub fn decode(before: Option<&Histogram>, cursor: &mut Cursor<'_>) -> Result<Histogram> {
        let flags = cursor.byte()?;
        if flags > 15 {
            return Err(damaged("it has flags that are unknown"));
        }
        let (floats, hint): (bool, Hint) = (flags & 2 != 0, HINTS[usize::from(flags >> 2)]);
        let before = match (flags & 1, before) {
            (0, _) => None,
            (_, Some(before)) if matches!(before.counts, Counts::Floats(_)) == floats => Some(before),
            _ => return Err(damaged("it builds on one that is missing")),
        };
        let (schema, zero_threshold, positive, negative, custom) = match before {
            Some(b) => (b.schema, b.zero_threshold, b.positive.clone(), b.negative.clone(), b.custom.clone()),
            None => {
                let schema = cursor.byte()? as i8;
                if schema != CUSTOM_SCHEMA && !(SCHEMA_MIN..=SCHEMA_MAX).contains(&schema) {
                    return Err(damaged("its schema is unknown"));
                }
                let zero_threshold = f64::from_bits(cursor.u64()?);
                let (positive, negative) = (read_spans(cursor)?, read_spans(cursor)?);
                let custom: Result<Box<[f64]>> = (0..cursor.count()?).map(|_| Ok(f64::from_bits(cursor.u64()?))).collect();
                (schema, zero_threshold, positive, negative, custom?)
            }
        };
        let lengths = [length(&positive)?, length(&negative)?];
        let sum = Number::read(before.map_or(0.0, |b| b.sum), cursor)?;
        let counts = match (floats, before.map(|b| &b.counts)) {
            (false, Some(Counts::Integers(before))) => Counts::Integers(Numbers::read(lengths, Some(before), cursor)?),
            (true, Some(Counts::Floats(before))) => Counts::Floats(Numbers::read(lengths, Some(before), cursor)?),
            (false, _) => Counts::Integers(Numbers::read(lengths, None, cursor)?),
            (true, _) => Counts::Floats(Numbers::read(lengths, None, cursor)?),
        };
        Ok(Histogram { schema, hint, zero_threshold, sum, positive, negative, custom, counts })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{histograms, simple};
    use super::*;
    use proptest::prelude::*;

    fn encoded(all: &[Histogram]) -> Vec<u8> {
        let mut out = Vec::new();
        for (at, histogram) in all.iter().enumerate() {
            histogram.encode(at.checked_sub(1).map(|b| &all[b]), &mut out);
        }
        out
    }

    fn decoded(bytes: &[u8], count: usize) -> Result<Vec<Histogram>> {
        let mut cursor = Cursor::new(bytes);
        let mut out: Vec<Histogram> = Vec::new();
        for _ in 0..count {
            out.push(Histogram::decode(out.last(), &mut cursor)?);
        }
        Ok(out)
    }

    /// Equal bit by bit: NaNs are not equal to themselves.
    fn bits(all: &[Histogram]) -> Vec<Vec<u8>> {
        all.iter().map(|h| encoded(std::slice::from_ref(h))).collect()
    }

    #[test]
    fn a_histogram_that_hardly_changed_is_short() {
        let buckets = |more: u64| (0..40).map(|i| (i, 1000 * i as u64 + 1000 + more)).collect::<Vec<_>>();
        let all = [simple(&buckets(0)), simple(&buckets(1))];
        let (one, both) = (encoded(&all[..1]).len(), encoded(&all).len());
        assert!(one < 130 && both - one < 50, "{one} {both}");
        assert_eq!(decoded(&encoded(&all), 2).unwrap(), all);
    }

    proptest! {
        #[test]
        fn histograms_come_back(first in histograms(), all in prop::collection::vec((histograms(), any::<bool>(), any::<u64>()), 0..5)) {
            let mut series = vec![first];
            for (other, keeps, value) in all {
                let mut next = if keeps { series[series.len() - 1].clone() } else { other };
                if let Counts::Integers(n) = &mut next.counts {
                    n.count = value;
                    n.positive.iter_mut().for_each(|c| *c = c.wrapping_add(value));
                }
                next.sum = f64::from_bits(value);
                series.push(next);
            }
            let bytes = encoded(&series);
            prop_assert_eq!(bits(&decoded(&bytes, series.len()).unwrap()), bits(&series));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..80), all in prop::collection::vec(histograms(), 1..3), at in any::<prop::sample::Index>(), with in 1u8..) {
            let _ = decoded(&bytes, 3);
            let mut bytes = encoded(&all);
            let at = at.index(bytes.len());
            bytes[at] ^= with;
            if let Ok(read) = decoded(&bytes, all.len()) {
                for histogram in read.iter().filter(|h| h.check().is_ok()) {
                    histogram.clone().reduce(SCHEMA_MIN);
                    histogram.buckets();
                }
            }
        }
    }
}
