//! A chunk of histograms as Prometheus keeps it: samples of one layout, each as the difference of differences to those before.
//!
//! ```text
//! count u16 │ flags: the upper two bits say reset, not reset (01), gauge (11), unknown (00) │ bits from here on:
//! layout:   zero threshold: one byte (0, or the exponent + 243), or 255 and 64 bits │ schema, signed │ positive spans,
//!           negative spans: count, then length and offset (signed) of each │ of the custom schema: bounds, each in
//!           thousandths + 1, or 0 and 64 bits
//! integers: first time, signed │ count │ zero count │ sum, 64 bits │ each bucket, signed, less the one before it
//!           then: what changed of the changes of time, count, zero count, signed │ sum, as a float │ of each bucket's delta
//! floats:   first time, signed │ count, zero count, sum, buckets, 64 bits each
//!           then: what changed of the change of time │ count, zero count, sum, buckets, each as a float
//! ```
//! (bitstream.rs has numbers and floats.) A stale marker is a sample whose sum is one; it has no buckets, and only such
//! follow it. What a layout must hold is for `chunks` to say.

use super::bitstream::{BitReader, BitWriter, CutOff, Xor};
use super::codec::BUCKETS_LIMIT;
use super::{Counts, Hint, Histogram, Numbers, Span, CUSTOM_SCHEMA};
use crate::tsdb::{is_stale, STALE};

/// The encodings' numbers.
pub const INTEGERS: u8 = 2;
pub const FLOATS: u8 = 3;
const HEAD_BYTES: usize = 3;
/// Bounds up to here are written in thousandths.
const THOUSANDTHS_MAX: f64 = 33_554_430.0;

/// Spans and bounds that the samples of a chunk may have together: each sample has its own.
const LAYOUTS_LIMIT: usize = 1 << 24;

/// Why bytes are no chunk.
pub type Refused = &'static str;

impl From<CutOff> for Refused {
    fn from(_: CutOff) -> Refused {
        "its bits end before its last sample, or are none of this encoding"
    }
}

/// What all samples of a chunk share. By default: that of stale markers alone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Layout {
    pub schema: i8,
    pub zero_threshold: f64,
    pub positive: Box<[Span]>,
    pub negative: Box<[Span]>,
    pub custom: Box<[f64]>,
}

/// A time, and counts with the sum of their observations; None for a stale marker. Counts fit the layout.
pub type Row<T> = (i64, Option<(f64, Numbers<T>)>);

fn put_threshold(value: f64, out: &mut BitWriter) {
    // Powers of two have no other bits than their exponent's; 1023 is 2^0, which is written as 0.5 * 2^1.
    let exponent = (value.to_bits() >> 52) as i64 - 1022;
    match value.to_bits() {
        0 => out.bits(0, 8),
        _ if value.to_bits() & ((1 << 52) - 1) == 0 && (-242..=11).contains(&exponent) => out.bits((exponent + 243) as u64, 8),
        _ => {
            out.bits(255, 8);
            out.bits(value.to_bits(), 64);
        }
    }
}

fn read_threshold(from: &mut BitReader<'_>) -> Result<f64, CutOff> {
    Ok(match from.bits(8)? {
        0 => 0.0,
        255 => f64::from_bits(from.bits(64)?),
        exponent => f64::from_bits((exponent + 1022 - 243) << 52),
    })
}

fn put_bound(value: f64, out: &mut BitWriter) {
    let thousandths = (value * 1000.0).round();
    if (0.0..=THOUSANDTHS_MAX).contains(&(value * 1000.0)) && (thousandths / 1000.0).to_bits() == value.to_bits() {
        return out.unsigned(thousandths as u64 + 1);
    }
    out.bits(0, 1);
    out.bits(value.to_bits(), 64);
}

fn read_bound(from: &mut BitReader<'_>) -> Result<f64, CutOff> {
    Ok(match from.unsigned()? {
        0 => f64::from_bits(from.bits(64)?),
        thousandths => (thousandths - 1) as f64 / 1000.0,
    })
}

impl Layout {
    fn put(&self, out: &mut BitWriter) {
        put_threshold(self.zero_threshold, out);
        out.signed(i64::from(self.schema));
        for spans in [&self.positive, &self.negative] {
            out.unsigned(spans.len() as u64);
            for span in spans {
                out.unsigned(u64::from(span.length));
                out.signed(i64::from(span.offset));
            }
        }
        if self.schema == CUSTOM_SCHEMA {
            out.unsigned(self.custom.len() as u64);
            self.custom.iter().for_each(|bound| put_bound(*bound, out));
        }
    }

    fn read(from: &mut BitReader<'_>) -> Result<Layout, Refused> {
        let zero_threshold = read_threshold(from)?;
        let schema = i8::try_from(from.signed()?).map_err(|_| "its schema is unknown")?;
        let mut spans = || -> Result<Box<[Span]>, Refused> {
            let (count, mut out, mut buckets) = (counted(from)?, Vec::new(), 0);
            for _ in 0..count {
                let length = u32::try_from(from.unsigned()?).map_err(|_| "a span is too long")?;
                let offset = i32::try_from(from.signed()?).map_err(|_| "a span's offset is too large")?;
                buckets += length as usize;
                if buckets > BUCKETS_LIMIT {
                    return Err("it claims too many buckets");
                }
                out.push(Span { offset, length });
            }
            Ok(out.into())
        };
        let (positive, negative) = (spans()?, spans()?);
        let custom = match schema {
            CUSTOM_SCHEMA => (0..counted(from)?).map(|_| read_bound(from)).collect::<Result<_, _>>()?,
            _ => Box::default(),
        };
        Ok(Layout { schema, zero_threshold, positive, negative, custom })
    }

    /// How many buckets each side has.
    fn lengths(&self) -> [usize; 2] {
        [&self.positive, &self.negative].map(|spans| spans.iter().map(|s| s.length as usize).sum())
    }
}

/// How many of something follow; each takes a bit at least, so more than are left is a lie.
fn counted(from: &mut BitReader<'_>) -> Result<usize, Refused> {
    let count = from.unsigned()?;
    usize::try_from(count).ok().filter(|c| *c <= from.left()).ok_or("it is too short for what it says to have")
}

/// How counts of a kind are written, each with what was written of it before.
pub trait Kind: Copy + Default {
    const ENCODING: u8;
    /// What is remembered of a number.
    type Before: Copy;

    fn first(value: Self, neighbour: Self, out: &mut BitWriter) -> Self::Before;
    fn put(before: &mut Self::Before, value: Self, neighbour: Self, out: &mut BitWriter);
    fn read_first(neighbour: Self, from: &mut BitReader<'_>) -> Result<(Self, Self::Before), CutOff>;
    fn read(before: &mut Self::Before, neighbour: Self, from: &mut BitReader<'_>) -> Result<Self, CutOff>;
    /// The same of counts and zero counts, which have no neighbours.
    fn first_alone(value: Self, out: &mut BitWriter) -> Self::Before;
    fn read_first_alone(from: &mut BitReader<'_>) -> Result<(Self, Self::Before), CutOff>;
    /// The count of a stale marker: what keeps it as it was, where that is shorter.
    fn put_stale(before: &mut Self::Before, out: &mut BitWriter);
    fn counts(numbers: Numbers<Self>) -> Counts;
}

/// A whole number, and by how much it grew.
#[derive(Clone, Copy)]
pub struct Grown {
    value: u64,
    delta: u64,
}

impl Kind for u64 {
    const ENCODING: u8 = INTEGERS;
    type Before = Grown;

    fn first(value: u64, neighbour: u64, out: &mut BitWriter) -> Grown {
        let value = value.wrapping_sub(neighbour);
        out.signed(value as i64);
        Grown { value, delta: 0 }
    }

    fn put(before: &mut Grown, value: u64, neighbour: u64, out: &mut BitWriter) {
        let value = value.wrapping_sub(neighbour);
        let delta = value.wrapping_sub(before.value);
        out.signed(delta.wrapping_sub(before.delta) as i64);
        *before = Grown { value, delta };
    }

    fn read_first(neighbour: u64, from: &mut BitReader<'_>) -> Result<(u64, Grown), CutOff> {
        let value = from.signed()? as u64;
        Ok((value.wrapping_add(neighbour), Grown { value, delta: 0 }))
    }

    fn read(before: &mut Grown, neighbour: u64, from: &mut BitReader<'_>) -> Result<u64, CutOff> {
        before.delta = before.delta.wrapping_add(from.signed()? as u64);
        before.value = before.value.wrapping_add(before.delta);
        Ok(before.value.wrapping_add(neighbour))
    }

    fn first_alone(value: u64, out: &mut BitWriter) -> Grown {
        out.unsigned(value);
        Grown { value, delta: 0 }
    }

    fn read_first_alone(from: &mut BitReader<'_>) -> Result<(u64, Grown), CutOff> {
        let value = from.unsigned()?;
        Ok((value, Grown { value, delta: 0 }))
    }

    fn put_stale(_: &mut Grown, out: &mut BitWriter) {
        out.bits(0, 1);
    }

    fn counts(numbers: Numbers<u64>) -> Counts {
        Counts::Integers(numbers)
    }
}

impl Kind for f64 {
    const ENCODING: u8 = FLOATS;
    type Before = Xor;

    fn first(value: f64, _: f64, out: &mut BitWriter) -> Xor {
        Self::first_alone(value, out)
    }

    fn put(before: &mut Xor, value: f64, _: f64, out: &mut BitWriter) {
        before.put(value, out);
    }

    fn read_first(_: f64, from: &mut BitReader<'_>) -> Result<(f64, Xor), CutOff> {
        Self::read_first_alone(from)
    }

    fn read(before: &mut Xor, _: f64, from: &mut BitReader<'_>) -> Result<f64, CutOff> {
        before.read(from)
    }

    fn first_alone(value: f64, out: &mut BitWriter) -> Xor {
        out.bits(value.to_bits(), 64);
        Xor::new(value)
    }

    fn read_first_alone(from: &mut BitReader<'_>) -> Result<(f64, Xor), CutOff> {
        let value = f64::from_bits(from.bits(64)?);
        Ok((value, Xor::new(value)))
    }

    fn put_stale(before: &mut Xor, out: &mut BitWriter) {
        before.put(0.0, out);
    }

    fn counts(numbers: Numbers<f64>) -> Counts {
        Counts::Floats(numbers)
    }
}

/// Writes rows of this layout, 1 to 65,535 of them, in time order.
pub fn encode<T: Kind>(layout: &Layout, hint: Hint, rows: &[Row<T>]) -> Vec<u8> {
    let flags = match hint {
        Hint::Unknown => 0,
        Hint::NotReset => 1,
        Hint::Reset => 2,
        Hint::Gauge => 3u8,
    };
    let count = rows.len() as u16;
    let mut out = BitWriter::behind(vec![(count >> 8) as u8, count as u8, flags << 6]);
    layout.put(&mut out);
    let Some((first, rest)) = rows.split_first() else { return out.into_bytes() };
    out.signed(first.0);
    let (sum, numbers) = first.1.clone().unwrap_or((STALE, Numbers::default()));
    let mut count = T::first_alone(numbers.count, &mut out);
    let mut zero = T::first_alone(numbers.zero, &mut out);
    out.bits(sum.to_bits(), 64);
    let mut sum = Xor::new(sum);
    let mut sides = [&numbers.positive, &numbers.negative].map(|side| {
        let mut neighbour = T::default();
        side.iter().map(|value| T::first(*value, std::mem::replace(&mut neighbour, *value), &mut out)).collect::<Vec<_>>()
    });
    let mut time = Grown { value: first.0 as u64, delta: 0 };
    for (at, row) in rest {
        u64::put(&mut time, *at as u64, 0, &mut out);
        let Some((row_sum, numbers)) = row else {
            T::put_stale(&mut count, &mut out);
            T::put_stale(&mut zero, &mut out);
            sum.put(STALE, &mut out);
            continue;
        };
        T::put(&mut count, numbers.count, T::default(), &mut out);
        T::put(&mut zero, numbers.zero, T::default(), &mut out);
        sum.put(*row_sum, &mut out);
        for (before, side) in sides.iter_mut().zip([&numbers.positive, &numbers.negative]) {
            let mut neighbour = T::default();
            for (before, value) in before.iter_mut().zip(side) {
                T::put(before, *value, std::mem::replace(&mut neighbour, *value), &mut out);
            }
        }
    }
    out.into_bytes()
}

/// What a chunk says of resets, and its samples' times and histograms.
pub type Decoded = (Hint, Vec<(i64, Option<Histogram>)>);

/// A chunk's hint and samples; None is a stale marker. Each histogram adds up; its hint is for the caller to say.
pub fn decode(encoding: u8, bytes: &[u8]) -> Result<Decoded, Refused> {
    match encoding {
        INTEGERS => decode_kind::<u64>(bytes),
        FLOATS => decode_kind::<f64>(bytes),
        _ => Err("it is no chunk of histograms"),
    }
}

fn decode_kind<T: Kind>(bytes: &[u8]) -> Result<Decoded, Refused> {
    let Some((head, body)) = bytes.split_first_chunk::<HEAD_BYTES>() else {
        return Err("it is too short to say how many samples it has");
    };
    let rows = usize::from(u16::from_be_bytes([head[0], head[1]]));
    let hint = [Hint::Unknown, Hint::NotReset, Hint::Reset, Hint::Gauge][usize::from(head[2] >> 6)];
    let mut from = BitReader::new(body);
    let mut out = Vec::new();
    if rows == 0 {
        return Ok((hint, out));
    }
    let layout = Layout::read(&mut from)?;
    if rows * (layout.positive.len() + layout.negative.len() + layout.custom.len()) > LAYOUTS_LIMIT {
        return Err("its samples would take too much memory");
    }
    let lengths = layout.lengths();
    let first = from.signed()?;
    let (count, mut count_before) = T::read_first_alone(&mut from)?;
    let (zero, mut zero_before) = T::read_first_alone(&mut from)?;
    let mut sum = Xor::new(f64::from_bits(from.bits(64)?));
    let mut sides: [Vec<T::Before>; 2] = Default::default();
    let mut counts: [Box<[T]>; 2] = Default::default();
    for (side, length) in lengths.into_iter().enumerate() {
        let mut neighbour = T::default();
        let mut values = Vec::new();
        for _ in 0..length {
            let (value, before) = T::read_first(neighbour, &mut from)?;
            values.push(value);
            sides[side].push(before);
            neighbour = value;
        }
        counts[side] = values.into();
    }
    let made = |sum: f64, count: T, zero: T, [positive, negative]: [Box<[T]>; 2]| -> Result<Option<Histogram>, Refused> {
        if is_stale(sum) {
            return Ok(None);
        }
        let Layout { schema, zero_threshold, positive: positive_spans, negative: negative_spans, custom } = layout.clone();
        let counts = T::counts(Numbers { count, zero, positive, negative });
        let (positive, negative) = (positive_spans, negative_spans);
        let mut histogram = Histogram { schema, hint: Hint::Unknown, zero_threshold, sum, positive, negative, custom, counts };
        if (super::SCHEMA_MAX..=super::SCHEMA_RESERVED_MAX).contains(&schema) {
            histogram.reduce(super::SCHEMA_MAX);
        }
        histogram.check().map_err(|_| "one of its histograms does not add up")?;
        Ok(Some(histogram))
    };
    let first_sum = f64::from_bits(sum.value());
    out.push((first, made(first_sum, count, zero, counts)?));
    let mut time = Grown { value: first as u64, delta: 0 };
    for _ in 1..rows {
        let at = u64::read(&mut time, 0, &mut from)? as i64;
        let count = T::read(&mut count_before, T::default(), &mut from)?;
        let zero = T::read(&mut zero_before, T::default(), &mut from)?;
        let sum = sum.read(&mut from)?;
        let mut counts: [Box<[T]>; 2] = Default::default();
        if !is_stale(sum) {
            for (side, befores) in sides.iter_mut().enumerate() {
                let mut neighbour = T::default();
                let mut read = |before: &mut T::Before| -> Result<T, CutOff> {
                    neighbour = T::read(before, neighbour, &mut from)?;
                    Ok(neighbour)
                };
                counts[side] = befores.iter_mut().map(&mut read).collect::<Result<_, _>>()?;
            }
        }
        out.push((at, made(sum, count, zero, counts)?));
    }
    Ok((hint, out))
}
