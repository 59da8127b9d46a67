//! A row as its difference to the row before: the record of the log and of open chunks.
//!
//! ```text
//! record:  changed columns, one bit each, (n + 7) / 8 bytes | count of values in full | for each changed column a code
//!          | the values in full: their bits, eight bytes each
//! code:    varint c:  c & 1 == 0  the integer changed by zigzag(c >> 1)
//!                     c & 3 == 1  the value in hundredths changed by zigzag(c >> 2)
//!                     c == 3      the next of the values in full
//!                     c == 7      absent from here on
//!                     c == 11     a stale marker
//! ```
//! A full record is the difference to a row of zeros. The codes are varints and nothing else, so that those of columns that
//! nobody asks for are passed over eight bytes at a time; in memory, marks say where those of each 128 columns begin.

use super::bits::{is_set, Ranks};
use super::varint::{put, unzigzag, zigzag, Cursor};
use super::{Result, StorageError, ABSENT, ABSENT_BITS, STALE, STALE_BITS};

const RAW: u64 = 3;
const GONE: u64 = 7;
const ENDS: u64 = 11;

#[inline(always)]
fn is_integer(value: f64) -> bool {
    value.abs() < 9.007e15 && ((value as i64) as f64).to_bits() == value.to_bits()
}

/// The value in hundredths, if that is exact and reversible.
#[inline(always)]
fn hundredths(value: f64) -> Option<i64> {
    let scaled = (value * 100.0).round();
    (scaled.abs() < 1e15 && scaled != 0.0 && scaled / 100.0 == value).then_some(scaled as i64)
}

/// Columns from one mark to the next.
const MARKED: usize = 128;

/// How many marks a row has: none is needed for its first columns.
pub fn marks_of(columns: usize) -> usize {
    columns.saturating_sub(1) / MARKED
}

/// Appends the record that turns `before` into `row`; an empty `before` is a row of zeros. Appends also its marks: where the
/// codes of each 128 columns begin, behind the first ones.
pub fn encode(out: &mut Vec<u8>, marks: &mut Vec<u32>, before: &[f64], row: &[f64]) {
    debug_assert!(before.is_empty() || before.len() == row.len());
    let count = row.len();
    let bits = out.len();
    out.resize(bits + count.div_ceil(8), 0);
    let (mut codes, mut raw) = (Vec::with_capacity(count / 2), Vec::new());
    for (k, eight) in row.chunks(8).enumerate() {
        if k > 0 && k % (MARKED / 8) == 0 {
            marks.push(codes.len() as u32);
        }
        let old = if before.is_empty() { &[0.0; 8][..eight.len()] } else { &before[k * 8..k * 8 + eight.len()] };
        let mut changed = 0u8;
        for (i, (a, b)) in old.iter().zip(eight).enumerate() {
            changed |= u8::from(a.to_bits() != b.to_bits()) << i;
        }
        out[bits + k] = changed;
        while changed != 0 {
            let i = changed.trailing_zeros() as usize;
            changed &= changed - 1;
            encode_change(&mut codes, &mut raw, old[i], eight[i]);
        }
    }
    put(out, (raw.len() / 8) as u64);
    out.extend_from_slice(&codes);
    out.extend_from_slice(&raw);
}

#[inline(always)]
fn encode_change(codes: &mut Vec<u8>, raw: &mut Vec<u8>, from: f64, to: f64) {
    if is_integer(from) && is_integer(to) {
        return put(codes, zigzag(to as i64 - from as i64) << 1);
    }
    match to.to_bits() {
        ABSENT_BITS => return put(codes, GONE),
        STALE_BITS => return put(codes, ENDS),
        _ => {}
    }
    if let (Some(from), Some(to)) = (hundredths(from), hundredths(to)) {
        return put(codes, zigzag(to - from) << 2 | 1);
    }
    put(codes, RAW);
    raw.extend_from_slice(&to.to_bits().to_le_bytes());
}

/// A record's parts: the bits of its columns, the values in full, and a cursor at the codes.
fn parts<'a>(record: &'a [u8], columns: usize) -> Result<(&'a [u8], &'a [u8], Cursor<'a>)> {
    let mut cursor = Cursor::new(record);
    let bits = cursor.take(columns.div_ceil(8))?;
    let raw_bytes = cursor.count()?.saturating_mul(8);
    let rest = cursor.rest();
    let end = rest.len().checked_sub(raw_bytes).ok_or_else(|| StorageError::corrupt("a row", "it is cut off"))?;
    let (codes, raw) = rest.split_at(end);
    Ok((bits, raw, Cursor::new(codes)))
}

/// About where the code of a column stands in its record.
pub fn place_of(column: usize, columns: usize, marks: impl Fn(usize) -> u32) -> usize {
    let mark = (column / MARKED).checked_sub(1).map_or(0, |i| marks(i) as usize);
    columns.div_ceil(8) + 1 + mark
}

/// Turns `row` into its successor. A full record wants a row of zeros.
pub fn decode(record: &[u8], row: &mut [f64]) -> Result<()> {
    let (bits, raw, mut codes) = parts(record, row.len())?;
    let mut raw = Cursor::new(raw);
    for (k, &changed) in bits.iter().enumerate() {
        let mut changed = changed;
        while changed != 0 {
            let i = k * 8 + changed.trailing_zeros() as usize;
            changed &= changed - 1;
            let value = row.get_mut(i).ok_or_else(|| StorageError::corrupt("a row", "it has more columns than its set"))?;
            let code = codes.varint()?;
            *value = if code == RAW { f64::from_bits(raw.u64()?) } else { decode_change(code, *value)? };
        }
    }
    if !codes.is_done() || !raw.is_done() {
        return Err(StorageError::corrupt("a row", "it has more codes than columns that changed"));
    }
    Ok(())
}

/// The same for some columns of a row, given by where they stand in it (ascending) and in `values`; passes over the others.
/// Columns that did not change cost a bit.
pub fn decode_some(
    record: &[u8],
    marks: impl Fn(usize) -> u32,
    columns: usize,
    wanted: &[(u32, usize)],
    values: &mut [f64],
) -> Result<()> {
    let (bits, raw, whole) = parts(record, columns)?;
    // Where the reader stands: behind the code of which column, and how many codes behind the last mark.
    let (mut codes, mut ranks, mut read, mut part) = (whole.clone(), Ranks::new(bits), 0, 0);
    // Values in full, and up to where in the codes they are counted.
    let (mut full, mut from) = (0, whole.clone());
    for (column, at) in wanted {
        let column = *column as usize;
        if !is_set(bits, column) {
            continue;
        }
        if column / MARKED != part {
            part = column / MARKED;
            codes = whole.clone();
            codes.take(marks(part - 1) as usize)?;
            ranks = Ranks::new(bits.get(part * MARKED / 8..).unwrap_or(&[]));
            read = 0;
        }
        let rank = ranks.before(column % MARKED);
        codes.pass_varints(rank - read)?;
        read = rank + 1;
        let value = values.get_mut(*at).ok_or_else(|| StorageError::corrupt("a row", "BUG: a column has no place"))?;
        let passed = codes.at() - from.at();
        let code = codes.varint()?;
        *value = if code == RAW {
            full += count_full(from.rest().get(..passed).unwrap_or(&[]));
            from = codes.clone();
            let value = f64::from_bits(Cursor::new(raw.get(full * 8..).unwrap_or(&[])).u64()?);
            full += 1;
            value
        } else {
            decode_change(code, *value)?
        };
    }
    Ok(())
}

/// How many codes say that a value stands in full.
fn count_full(codes: &[u8]) -> usize {
    memchr::memchr_iter(RAW as u8, codes).filter(|at| *at == 0 || codes[at - 1] < 0x80).count()
}

#[inline(always)]
fn decode_change(code: u64, from: f64) -> Result<f64> {
    Ok(match code {
        _ if code & 1 == 0 => (from as i64).wrapping_add(unzigzag(code >> 1)) as f64,
        _ if code & 3 == 1 => ((from * 100.0).round() as i64).wrapping_add(unzigzag(code >> 2)) as f64 / 100.0,
        GONE => ABSENT,
        ENDS => STALE,
        _ => return Err(StorageError::corrupt("a row", format!("it has the unknown code {code}"))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tsdb::NAN_BITS;
    use proptest::prelude::*;

    fn value() -> impl Strategy<Value = f64> {
        prop_oneof![
            any::<f64>(),
            any::<i32>().prop_map(f64::from),
            any::<i64>().prop_map(|v| v as f64),
            any::<i32>().prop_map(|v| f64::from(v) / 100.0),
            Just(-0.0),
            Just(ABSENT),
            Just(STALE),
            Just(f64::from_bits(NAN_BITS)),
            Just(f64::INFINITY),
        ]
    }

    proptest! {
        #[test]
        fn every_row_comes_back_bit_for_bit(rows in prop::collection::vec(prop::collection::vec(value(), 19), 1..5)) {
            let mut got = vec![0.0; 19];
            for (i, row) in rows.iter().enumerate() {
                let mut out = Vec::new();
                encode(&mut out, &mut Vec::new(), if i == 0 { &[] } else { &rows[i - 1] }, row);
                decode(&out, &mut got).unwrap();
                prop_assert_eq!(got.iter().map(|v| v.to_bits()).collect::<Vec<_>>(), row.iter().map(|v| v.to_bits()).collect::<Vec<_>>());
            }
        }

        #[test]
        fn some_columns_are_as_in_the_whole_row(
            rows in prop::collection::vec(prop::collection::vec(prop_oneof![3 => Just(1.0), 1 => value()], 300), 1..4),
            wanted in prop::collection::vec(any::<bool>(), 300),
        ) {
            let wanted: Vec<(u32, usize)> = (0..300).filter(|i| wanted[*i as usize]).enumerate().map(|(k, i)| (i, k)).collect();
            let mut got = vec![0.0; wanted.len()];
            for (i, row) in rows.iter().enumerate() {
                let (mut out, mut marks) = (Vec::new(), Vec::new());
                encode(&mut out, &mut marks, if i == 0 { &[] } else { &rows[i - 1] }, row);
                prop_assert_eq!(marks.len(), marks_of(300));
                decode_some(&out, |i| marks[i], 300, &wanted, &mut got).unwrap();
                for (column, at) in &wanted {
                    prop_assert_eq!(got[*at].to_bits(), row[*column as usize].to_bits());
                }
            }
        }

        #[test]
        fn damage_is_an_error_and_no_panic(bytes: Vec<u8>) {
            let mut row = vec![1.0; 11];
            let _ = decode(&bytes, &mut row);
            let _ = decode_some(&bytes, |_| 3, 200, &[(2, 0), (9, 1), (150, 2)], &mut row);
        }
    }
}
