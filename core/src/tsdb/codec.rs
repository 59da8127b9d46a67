//! A column of many rows in few bytes.
//!
//! Nine of ten columns are integers or short decimals: they are scaled, differenced zero to two times, whichever is
//! smallest, and bit-packed, with the few values that need more bits set apart. The rest is XORed with its predecessor
//! and laid out in byte planes, of which those of zeros are left out, for zstd, which a block puts over many columns at once.
//!
//! ```text
//! column:  tag | [presence] | body
//! tag:     bit 7 set: presence follows; bits 4-6: kind; bits 0-3: decimal exponent
//! presence: a bit for each row that has a sample, then a bit for each row that is a stale marker; the body holds the rest
//! kind 0: nothing (no plain value)     kind 1: one value for all rows: eight bytes
//! kind 2: one integer for all rows     kind 3, 4, 5: integers, differenced 0, 1, 2 times
//! kind 6: XOR with the value before: which planes of bytes are not all zero, a bit each, and these planes
//! ```

use super::bits::{self, is_set};
use super::varint::{put, put_signed, unzigzag, zigzag, Cursor};
use super::{is_absent, is_live, is_stale, Result, StorageError, ABSENT, STALE};

const EMPTY: u8 = 0;
const CONSTANT: u8 = 1;
const CONSTANT_INTEGER: u8 = 2;
const PLAIN: u8 = 3;
const DELTA: u8 = 4;
const DELTA2: u8 = 5;
const XOR: u8 = 6;
const PRESENCE: u8 = 0x80;
/// What an exception costs in bits, about: its position and its upper bits.
const EXCEPTION_BITS: usize = 24;

const POWERS: [f64; 13] = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12];
/// Beyond this the double holds no exact integer with room for differences.
const INTEGER_LIMIT: f64 = 4.5e15;

/// Memory that encoding reuses from column to column.
#[derive(Default)]
pub struct Encoder {
    values: Vec<f64>,
    integers: Vec<i64>,
    packed: [Vec<u64>; 3],
}

impl Encoder {
    /// Appends one column; `rows` may hold `ABSENT` and `STALE`.
    pub fn encode(&mut self, rows: &[f64], out: &mut Vec<u8>) {
        if rows.iter().all(|v| is_live(*v)) {
            self.body(rows, 0, out);
            return;
        }
        let tag = out.len();
        out.push(0);
        bits::put(out, rows.iter().map(|v| !is_absent(*v)));
        bits::put(out, rows.iter().map(|v| is_stale(*v)));
        let mut values = std::mem::take(&mut self.values);
        values.clear();
        values.extend(rows.iter().filter(|v| is_live(**v)));
        let at = out.len();
        self.body(&values, PRESENCE, out);
        // The body writes its tag first; it belongs before the presence.
        out[tag] = out.remove(at);
        self.values = values;
    }

    fn body(&mut self, values: &[f64], flag: u8, out: &mut Vec<u8>) {
        let tag = |out: &mut Vec<u8>, kind: u8, exponent: usize| out.push(flag | kind << 4 | exponent as u8);
        let Some(&first) = values.first() else {
            return tag(out, EMPTY, 0);
        };
        let exponent = decimals(values);
        if values.iter().all(|v| v.to_bits() == first.to_bits()) {
            match exponent {
                Some(e) => {
                    tag(out, CONSTANT_INTEGER, e);
                    put_signed(out, scale(first, e));
                }
                None => {
                    tag(out, CONSTANT, 0);
                    out.extend_from_slice(&first.to_bits().to_le_bytes());
                }
            }
            return;
        }
        let Some(e) = exponent else {
            tag(out, XOR, 0);
            return put_planes(out, values);
        };
        self.integers.clear();
        self.integers.extend(values.iter().map(|v| scale(*v, e)));
        let integers = &self.integers;
        let least = integers.iter().copied().min().unwrap_or(0);
        let [plain, delta, delta2] = &mut self.packed;
        plain.clear();
        plain.extend(integers.iter().map(|v| (v - least) as u64));
        delta.clear();
        delta.extend(integers.windows(2).map(|w| zigzag(w[1] - w[0])));
        delta2.clear();
        delta2.extend(integers.windows(3).map(|w| zigzag(w[2] - 2 * w[1] + w[0])));
        let (plain_width, plain_cost) = width(plain);
        let (delta_width, delta_cost) = width(delta);
        let (delta2_width, delta2_cost) = width(delta2);
        if plain_cost <= delta_cost && plain_cost <= delta2_cost {
            tag(out, PLAIN, e);
            put_signed(out, least);
            pack(out, plain, plain_width);
        } else if delta_cost <= delta2_cost {
            tag(out, DELTA, e);
            put_signed(out, integers[0]);
            pack(out, delta, delta_width);
        } else {
            tag(out, DELTA2, e);
            put_signed(out, integers[0]);
            put_signed(out, integers[1] - integers[0]);
            pack(out, delta2, delta2_width);
        }
    }
}

/// How many rows of an encoded column have a sample.
pub fn count_samples(column: &[u8], rows: usize) -> Result<usize> {
    let mut cursor = Cursor::new(column);
    if cursor.byte()? & PRESENCE == 0 {
        return Ok(rows);
    }
    Ok(cursor.take(rows.div_ceil(8))?.iter().map(|b| b.count_ones() as usize).sum())
}

/// Memory that decoding reuses from column to column.
#[derive(Default)]
pub struct Decoder {
    packed: Vec<u64>,
    values: Vec<f64>,
    /// For who reads one column after the other.
    pub column: Vec<f64>,
}

impl Decoder {
    /// As `decode_integers`, replacing what `out` held.
    pub fn integers(&mut self, cursor: &mut Cursor<'_>, limit: usize, out: &mut Vec<i64>) -> Result<()> {
        read_integers(cursor, limit, &mut self.packed, out)
    }

    /// Reads one column of `count` rows, replacing what `out` held.
    pub fn decode(&mut self, cursor: &mut Cursor<'_>, count: usize, out: &mut Vec<f64>) -> Result<()> {
        out.clear();
        let tag = cursor.byte()?;
        if tag & PRESENCE == 0 {
            return self.body(tag, cursor, count, out);
        }
        let bytes = count.div_ceil(8);
        let (present, stale) = (cursor.take(bytes)?, cursor.take(bytes)?);
        let plain = (0..count).filter(|i| is_set(present, *i) && !is_set(stale, *i)).count();
        let mut values = std::mem::take(&mut self.values);
        values.clear();
        let read = self.body(tag & !PRESENCE, cursor, plain, &mut values);
        let mut next = values.iter();
        if read.is_ok() {
            out.extend((0..count).map(|i| match (is_set(present, i), is_set(stale, i)) {
                (false, _) => ABSENT,
                (true, true) => STALE,
                (true, false) => next.next().copied().unwrap_or(ABSENT),
            }));
        }
        self.values = values;
        read
    }

    fn body(&mut self, tag: u8, cursor: &mut Cursor<'_>, count: usize, out: &mut Vec<f64>) -> Result<()> {
        let exponent = usize::from(tag & 0xf);
        let divisor = *POWERS.get(exponent).ok_or_else(|| StorageError::corrupt("a column", "its exponent is too large"))?;
        if exponent == 0 {
            self.kind(tag >> 4, cursor, count, |integer| integer as f64, out)
        } else {
            self.kind(tag >> 4, cursor, count, |integer| integer as f64 / divisor, out)
        }
    }

    /// Compiled for whole numbers and for decimals apart: dividing costs as much as all the rest.
    #[inline(always)]
    fn kind(
        &mut self,
        kind: u8,
        cursor: &mut Cursor<'_>,
        count: usize,
        value: impl Fn(i64) -> f64,
        out: &mut Vec<f64>,
    ) -> Result<()> {
        match kind {
            EMPTY if count == 0 => {}
            CONSTANT => {
                let v = f64::from_bits(cursor.u64()?);
                out.resize(count, v);
            }
            CONSTANT_INTEGER => {
                let v = value(cursor.signed()?);
                out.resize(count, v);
            }
            PLAIN => {
                let least = cursor.signed()?;
                unpack(cursor, count, &mut self.packed)?;
                out.extend(self.packed.iter().map(|p| value(least.wrapping_add(*p as i64))));
            }
            DELTA => {
                let mut v = cursor.signed()?;
                unpack(cursor, count.saturating_sub(1), &mut self.packed)?;
                out.push(value(v));
                for p in &self.packed {
                    v = v.wrapping_add(unzigzag(*p));
                    out.push(value(v));
                }
            }
            DELTA2 => {
                let mut v = cursor.signed()?;
                let mut delta = cursor.signed()?;
                unpack(cursor, count.saturating_sub(2), &mut self.packed)?;
                out.push(value(v));
                v = v.wrapping_add(delta);
                out.push(value(v));
                for p in &self.packed {
                    delta = delta.wrapping_add(unzigzag(*p));
                    v = v.wrapping_add(delta);
                    out.push(value(v));
                }
            }
            XOR => {
                let kept = cursor.byte()?;
                self.packed.clear();
                self.packed.resize(count, 0);
                for plane in (0..8).filter(|p| kept >> p & 1 == 1) {
                    let bytes = cursor.take(count)?;
                    self.packed.iter_mut().zip(bytes).for_each(|(bits, byte)| *bits |= u64::from(*byte) << (8 * plane));
                }
                let mut before = 0u64;
                out.extend(self.packed.iter().map(|bits| {
                    before ^= bits;
                    f64::from_bits(before)
                }));
            }
            kind => return Err(StorageError::corrupt("a column", format!("kind {kind} with {count} values is unknown"))),
        }
        if out.len() == count {
            return Ok(());
        }
        Err(StorageError::corrupt("a column", format!("it has {} values for {count} rows", out.len())))
    }
}

/// The same coding for whole numbers, such as times.
pub fn encode_integers(values: &[i64], out: &mut Vec<u8>) {
    put(out, values.len() as u64);
    let Some(&first) = values.first() else { return };
    put_signed(out, first);
    let delta = values.get(1).map_or(0, |v| v.wrapping_sub(first));
    put_signed(out, delta);
    let rest: Vec<u64> =
        values.windows(3).map(|w| zigzag(w[2].wrapping_sub(w[1]).wrapping_sub(w[1].wrapping_sub(w[0])))).collect();
    pack(out, &rest, width(&rest).0);
}

pub fn decode_integers(cursor: &mut Cursor<'_>, limit: usize) -> Result<Vec<i64>> {
    let mut out = Vec::new();
    read_integers(cursor, limit, &mut Vec::new(), &mut out)?;
    Ok(out)
}

fn read_integers(cursor: &mut Cursor<'_>, limit: usize, packed: &mut Vec<u64>, out: &mut Vec<i64>) -> Result<()> {
    let count = cursor.varint()? as usize;
    if count > limit {
        return Err(StorageError::corrupt("a list of numbers", format!("it claims {count} of at most {limit}")));
    }
    out.clear();
    out.reserve(count);
    if count == 0 {
        return Ok(());
    }
    let mut value = cursor.signed()?;
    let mut delta = cursor.signed()?;
    unpack(cursor, count.saturating_sub(2), packed)?;
    out.push(value);
    if count > 1 {
        value = value.wrapping_add(delta);
        out.push(value);
    }
    for p in packed.iter() {
        delta = delta.wrapping_add(unzigzag(*p));
        value = value.wrapping_add(delta);
        out.push(value);
    }
    Ok(())
}

fn put_planes(out: &mut Vec<u8>, values: &[f64]) {
    let mut before = 0;
    let bits: Vec<u64> = values.iter().map(|v| std::mem::replace(&mut before, v.to_bits()) ^ v.to_bits()).collect();
    let used = bits.iter().fold(0, |all, b| all | b);
    let kept = (0..8).filter(|plane| used >> (8 * plane) & 0xff != 0);
    out.push(kept.clone().fold(0, |mask, plane| mask | 1 << plane));
    for plane in kept {
        out.extend(bits.iter().map(|b| (b >> (8 * plane)) as u8));
    }
}

fn scale(value: f64, exponent: usize) -> i64 {
    (value * POWERS[exponent]).round() as i64
}

/// The smallest exponent at which every value is a whole number and comes back exactly.
fn decimals(values: &[f64]) -> Option<usize> {
    let exact = |value: f64, e: usize| {
        let scaled = (value * POWERS[e]).round();
        // As an integer, minus zero would lose its sign.
        let signed_zero = scaled == 0.0 && value.is_sign_negative();
        scaled.abs() < INTEGER_LIMIT && !signed_zero && (scaled / POWERS[e]).to_bits() == value.to_bits()
    };
    let mut exponent = 0;
    for &value in values {
        while !exact(value, exponent) {
            exponent += 1;
            if exponent == POWERS.len() {
                return None;
            }
        }
    }
    values.iter().all(|v| exact(*v, exponent)).then_some(exponent)
}

/// The width that packs the numbers smallest, and the bits that takes.
fn width(values: &[u64]) -> (u32, usize) {
    if values.is_empty() {
        return (0, 0);
    }
    let mut with_width = [0usize; 65];
    values.iter().for_each(|v| with_width[64 - v.leading_zeros() as usize] += 1);
    let mut best = (64, usize::MAX);
    let mut exceptions = 0;
    for w in (0..=64).rev() {
        let cost = values.len() * w + exceptions * (EXCEPTION_BITS + 8);
        if cost < best.1 {
            best = (w as u32, cost);
        }
        exceptions += with_width[w];
    }
    best
}

/// width | exceptions: count, then gap and upper bits of each | the lower bits of all, packed
fn pack(out: &mut Vec<u8>, values: &[u64], width: u32) {
    out.push(width as u8);
    let low = if width == 64 { u64::MAX } else { (1 << width) - 1 };
    let exceptions: Vec<usize> = (0..values.len()).filter(|i| values[*i] > low).collect();
    put(out, exceptions.len() as u64);
    let mut last = 0;
    for i in exceptions {
        put(out, (i - last) as u64);
        put(out, values[i] >> width);
        last = i;
    }
    let (mut pending, mut have) = (0u128, 0);
    for v in values {
        pending |= u128::from(v & low) << have;
        have += width;
        while have >= 8 {
            out.push(pending as u8);
            pending >>= 8;
            have -= 8;
        }
    }
    if have > 0 {
        out.push(pending as u8);
    }
}

fn unpack(cursor: &mut Cursor<'_>, count: usize, out: &mut Vec<u64>) -> Result<()> {
    let width = u32::from(cursor.byte()?);
    if width > 64 {
        return Err(StorageError::corrupt("packed numbers", format!("their width is {width} bits")));
    }
    let exceptions = cursor.count()?;
    let mut patches = Vec::with_capacity(exceptions);
    let mut at = 0usize;
    for _ in 0..exceptions {
        at = at.saturating_add(cursor.varint()? as usize);
        patches.push((at, cursor.varint()?));
    }
    let bits = count.checked_mul(width as usize).ok_or_else(|| StorageError::corrupt("packed numbers", "they are too many"))?;
    let bytes = cursor.take(bits.div_ceil(8))?;
    let low = if width == 64 { u64::MAX } else { (1 << width) - 1 };
    out.clear();
    out.reserve(count);
    // Eight narrow numbers lie within eight bytes, so one load is enough for them.
    let mut eights = 0;
    if width <= 8 {
        while eights + 8 <= count {
            let Some(eight) = bytes[eights / 8 * width as usize..].first_chunk() else { break };
            let all = u64::from_le_bytes(*eight);
            out.extend((0..8).map(|k| all >> (k * width) & low));
            eights += 8;
        }
    }
    // A number of up to 57 bits lies within the eight bytes from its first bit on, as long as there are eight.
    let whole = if width <= 57 && bytes.len() >= 8 { ((bytes.len() - 8) * 8 / width.max(1) as usize + 1).min(count) } else { 0 };
    let whole = whole.max(eights);
    out.extend((eights..whole).map(|i| {
        let bit = i * width as usize;
        bytes[bit / 8..].first_chunk().map_or(0, |eight| u64::from_le_bytes(*eight) >> (bit % 8)) & low
    }));
    let (mut next, mut pending, mut have) = (whole * width as usize / 8, 0u128, 0u32);
    let skipped = (whole * width as usize % 8) as u32;
    if skipped > 0 {
        (pending, have, next) = (u128::from(bytes[next]) >> skipped, 8 - skipped, next + 1);
    }
    for _ in whole..count {
        while have < width {
            pending |= u128::from(bytes[next]) << have;
            next += 1;
            have += 8;
        }
        out.push(pending as u64 & low);
        pending >>= width;
        have -= width;
    }
    for (at, high) in patches {
        let value = out.get_mut(at).ok_or_else(|| StorageError::corrupt("packed numbers", "an exception lies outside"))?;
        *value |= high.checked_shl(width).unwrap_or(0);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn column() -> impl Strategy<Value = Vec<f64>> {
        let mixed = prop_oneof![
            any::<f64>(),
            any::<i32>().prop_map(f64::from),
            Just(ABSENT),
            Just(STALE),
            Just(-0.0),
            Just(f64::INFINITY)
        ];
        prop_oneof![
            prop::collection::vec(mixed, 1..130),
            prop::collection::vec(0i64..1000, 1..130).prop_map(|steps| steps
                .iter()
                .scan(0, |sum, s| {
                    *sum += s;
                    Some(*sum as f64)
                })
                .collect()),
            prop::collection::vec(any::<i32>().prop_map(|v| f64::from(v) / 1000.0), 1..130),
            (any::<f64>(), 1usize..130).prop_map(|(v, n)| vec![v; n]),
        ]
    }

    proptest! {
        #[test]
        fn every_column_comes_back_bit_for_bit(columns in prop::collection::vec(column(), 1..4)) {
            let mut out = Vec::new();
            let mut encoder = Encoder::default();
            columns.iter().for_each(|c| encoder.encode(c, &mut out));
            let mut cursor = Cursor::new(&out);
            let (mut decoder, mut got) = (Decoder::default(), Vec::new());
            for column in &columns {
                decoder.decode(&mut cursor, column.len(), &mut got).unwrap();
                prop_assert_eq!(got.iter().map(|v| v.to_bits()).collect::<Vec<_>>(), column.iter().map(|v| v.to_bits()).collect::<Vec<_>>());
            }
            prop_assert!(cursor.is_done());
        }

        #[test]
        fn integers_come_back(values: Vec<i64>) {
            let mut out = Vec::new();
            encode_integers(&values, &mut out);
            prop_assert_eq!(decode_integers(&mut Cursor::new(&out), values.len()).unwrap(), values);
        }

        #[test]
        fn damage_is_an_error_and_no_panic(bytes: Vec<u8>, count in 0usize..200) {
            let _ = Decoder::default().decode(&mut Cursor::new(&bytes), count, &mut Vec::new());
            let _ = decode_integers(&mut Cursor::new(&bytes), count);
        }
    }

    #[test]
    fn a_counter_costs_a_fraction_of_a_byte_a_row() {
        let mut out = Vec::new();
        let counter: Vec<f64> = (0..480).map(|i| f64::from(i * 15)).collect();
        Encoder::default().encode(&counter, &mut out);
        assert!(out.len() < 12, "{}", out.len());
    }
}
