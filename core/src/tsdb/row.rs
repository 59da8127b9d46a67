//! A row as its difference to the row before: the record of the log and of open chunks.
//!
//! ```text
//! record:  changed columns, one bit each, (n + 7) / 8 bytes | for each changed column a code
//! code:    varint c:  c & 1 == 0  the integer changed by zigzag(c >> 1)
//!                     c & 3 == 1  the value in hundredths changed by zigzag(c >> 2)
//!                     c == 3      eight bytes follow: the bits of the value
//!                     c == 7      absent from here on
//!                     c == 11     a stale marker
//! ```
//! A full record is the difference to a row of zeros.

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

/// Appends the record that turns `before` into `row`; an empty `before` is a row of zeros.
pub fn encode(out: &mut Vec<u8>, before: &[f64], row: &[f64]) {
    debug_assert!(before.is_empty() || before.len() == row.len());
    let count = row.len();
    let bits = out.len();
    out.resize(bits + count.div_ceil(8), 0);
    for (k, eight) in row.chunks(8).enumerate() {
        let old = if before.is_empty() { &[0.0; 8][..eight.len()] } else { &before[k * 8..k * 8 + eight.len()] };
        let mut changed = 0u8;
        for (i, (a, b)) in old.iter().zip(eight).enumerate() {
            changed |= u8::from(a.to_bits() != b.to_bits()) << i;
        }
        out[bits + k] = changed;
        while changed != 0 {
            let i = changed.trailing_zeros() as usize;
            changed &= changed - 1;
            encode_change(out, old[i], eight[i]);
        }
    }
}

#[inline(always)]
fn encode_change(out: &mut Vec<u8>, from: f64, to: f64) {
    if is_integer(from) && is_integer(to) {
        return put(out, zigzag(to as i64 - from as i64) << 1);
    }
    match to.to_bits() {
        ABSENT_BITS => return put(out, GONE),
        STALE_BITS => return put(out, ENDS),
        _ => {}
    }
    if let (Some(from), Some(to)) = (hundredths(from), hundredths(to)) {
        return put(out, zigzag(to - from) << 2 | 1);
    }
    put(out, RAW);
    out.extend_from_slice(&to.to_bits().to_le_bytes());
}

/// Turns `row` into its successor. A full record wants a row of zeros.
pub fn decode(cursor: &mut Cursor<'_>, row: &mut [f64]) -> Result<()> {
    let bits = cursor.take(row.len().div_ceil(8))?;
    for (k, &changed) in bits.iter().enumerate() {
        let mut changed = changed;
        while changed != 0 {
            let i = k * 8 + changed.trailing_zeros() as usize;
            changed &= changed - 1;
            let value = row.get_mut(i).ok_or_else(|| StorageError::corrupt("a row", "it has more columns than its set"))?;
            *value = decode_change(cursor, *value)?;
        }
    }
    Ok(())
}

#[inline(always)]
fn decode_change(cursor: &mut Cursor<'_>, from: f64) -> Result<f64> {
    let code = cursor.varint()?;
    Ok(match code {
        _ if code & 1 == 0 => (from as i64).wrapping_add(unzigzag(code >> 1)) as f64,
        _ if code & 3 == 1 => ((from * 100.0).round() as i64).wrapping_add(unzigzag(code >> 2)) as f64 / 100.0,
        RAW => f64::from_bits(cursor.u64()?),
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
            let mut out = Vec::new();
            for (i, row) in rows.iter().enumerate() {
                encode(&mut out, if i == 0 { &[] } else { &rows[i - 1] }, row);
            }
            let mut cursor = Cursor::new(&out);
            let mut got = vec![0.0; 19];
            for row in &rows {
                decode(&mut cursor, &mut got).unwrap();
                prop_assert_eq!(got.iter().map(|v| v.to_bits()).collect::<Vec<_>>(), row.iter().map(|v| v.to_bits()).collect::<Vec<_>>());
            }
            prop_assert!(cursor.is_done());
        }

        #[test]
        fn damage_is_an_error_and_no_panic(bytes: Vec<u8>) {
            let mut row = vec![1.0; 11];
            let _ = decode(&mut Cursor::new(&bytes), &mut row);
        }
    }
}
