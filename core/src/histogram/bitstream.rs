//! Bits behind each other, the highest first, and the numbers that Prometheus's chunks of histograms are made of.
//!
//! ```text
//! number:  0 │ 10 3 bits │ 110 6 │ 1110 9 │ 11110 12 │ 111110 18 │ 1111110 25 │ 11111110 56 │ 11111111 64 bits
//!          (of a signed one: the lowest bits, so that all but the smallest half of a width are there)
//! float:   0 as the one before │ 10 bits in the last window │ 11, leading zeros 5 bits, length 6 bits (0: 64), bits
//! ```

/// How many bits follow each mark, shortest mark first.
const WIDTHS: [u32; 8] = [3, 6, 9, 12, 18, 25, 56, 64];

/// The bits end before the number does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CutOff;

#[derive(Default)]
pub struct BitWriter {
    bytes: Vec<u8>,
    /// Bits of the last byte that are not written yet.
    free: u32,
}

impl BitWriter {
    /// Writes behind these bytes.
    pub fn behind(bytes: Vec<u8>) -> BitWriter {
        BitWriter { bytes, free: 0 }
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// The lowest bits of a value, at most 64.
    pub fn bits(&mut self, value: u64, mut count: u32) {
        while count > 0 {
            if self.free == 0 {
                self.bytes.push(0);
                self.free = 8;
            }
            let take = count.min(self.free);
            count -= take;
            self.free -= take;
            let part = (value >> count) as u8 & (0xff >> (8 - take));
            if let Some(last) = self.bytes.last_mut() {
                *last |= part << self.free;
            }
        }
    }

    /// A mark of so many ones, and the lowest bits behind it.
    fn marked(&mut self, width: usize, value: u64) {
        let ones = width as u32 + 1;
        let (mark, length) = if ones < 8 { (0xfe, ones + 1) } else { (0xff, 8) };
        self.bits(mark, length);
        self.bits(value, WIDTHS[width]);
    }

    pub fn unsigned(&mut self, value: u64) {
        if value == 0 {
            return self.bits(0, 1);
        }
        let width = WIDTHS.iter().position(|w| 64 - value.leading_zeros() <= *w).unwrap_or(7);
        self.marked(width, value);
    }

    pub fn signed(&mut self, value: i64) {
        if value == 0 {
            return self.bits(0, 1);
        }
        let fits = |w: &u32| *w == 64 || (-(1i64 << (w - 1)) < value && value <= 1i64 << (w - 1));
        self.marked(WIDTHS.iter().position(fits).unwrap_or(7), value as u64);
    }
}

pub struct BitReader<'a> {
    bytes: &'a [u8],
    /// The next bit.
    at: usize,
}

impl<'a> BitReader<'a> {
    pub fn new(bytes: &'a [u8]) -> BitReader<'a> {
        BitReader { bytes, at: 0 }
    }

    /// How many bits are left.
    pub fn left(&self) -> usize {
        self.bytes.len() * 8 - self.at
    }

    pub fn bits(&mut self, mut count: u32) -> Result<u64, CutOff> {
        if count as usize > self.left() {
            return Err(CutOff);
        }
        let mut value = 0u64;
        while count > 0 {
            let within = (self.at % 8) as u32;
            let take = count.min(8 - within);
            let part = self.bytes[self.at / 8] << within >> (8 - take);
            value = value << take | u64::from(part);
            self.at += take as usize;
            count -= take;
        }
        Ok(value)
    }

    /// The width that a mark says; none for zero.
    fn width(&mut self) -> Result<Option<u32>, CutOff> {
        let mut ones = 0;
        while ones < 8 && self.bits(1)? == 1 {
            ones += 1;
        }
        Ok((ones as usize).checked_sub(1).map(|at| WIDTHS[at]))
    }

    pub fn unsigned(&mut self) -> Result<u64, CutOff> {
        self.width()?.map_or(Ok(0), |width| self.bits(width))
    }

    pub fn signed(&mut self) -> Result<i64, CutOff> {
        let Some(width) = self.width()? else { return Ok(0) };
        let bits = self.bits(width)?;
        // The upper half of a width is negative, but for its first number.
        let negative = width < 64 && bits > 1 << (width - 1);
        Ok(if negative { bits.wrapping_sub(1 << width) } else { bits } as i64)
    }
}

/// A float that is written again and again, each time as what changed.
#[derive(Clone, Copy, Debug)]
pub struct Xor {
    bits: u64,
    leading: u32,
    trailing: u32,
    /// No window was said yet.
    fresh: bool,
}

impl Xor {
    pub fn new(value: f64) -> Xor {
        Xor { bits: value.to_bits(), leading: 0, trailing: 0, fresh: true }
    }

    /// The bits of the last one.
    pub fn value(&self) -> u64 {
        self.bits
    }

    pub fn put(&mut self, value: f64, out: &mut BitWriter) {
        let change = value.to_bits() ^ self.bits;
        self.bits = value.to_bits();
        if change == 0 {
            return out.bits(0, 1);
        }
        let (leading, trailing) = (change.leading_zeros().min(31), change.trailing_zeros());
        if !self.fresh && leading >= self.leading && trailing >= self.trailing {
            out.bits(0b10, 2);
            return out.bits(change >> self.trailing, 64 - self.leading - self.trailing);
        }
        (self.leading, self.trailing, self.fresh) = (leading, trailing, false);
        let length = 64 - leading - trailing;
        out.bits(0b11, 2);
        out.bits(u64::from(leading), 5);
        out.bits(u64::from(length % 64), 6);
        out.bits(change >> trailing, length);
    }

    pub fn read(&mut self, from: &mut BitReader<'_>) -> Result<f64, CutOff> {
        if from.bits(1)? == 1 {
            if from.bits(1)? == 1 {
                let leading = from.bits(5)? as u32;
                let length = match from.bits(6)? as u32 {
                    0 => 64,
                    length => length,
                };
                // A window past the number's end is none.
                self.trailing = (64 - leading).checked_sub(length).ok_or(CutOff)?;
                self.leading = leading;
            }
            self.bits ^= from.bits(64 - self.leading - self.trailing)? << self.trailing;
        }
        Ok(f64::from_bits(self.bits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Numbers of all lengths.
    fn numbers() -> impl Strategy<Value = u64> {
        (any::<u64>(), 0u32..64).prop_map(|(value, shift)| value >> shift)
    }

    #[test]
    fn the_edges_of_each_width_have_their_marks() {
        let check = |value: i64, bits: usize| {
            let mut out = BitWriter::default();
            out.signed(value);
            out.bits(1, 1);
            let bytes = out.into_bytes();
            let mut reader = BitReader::new(&bytes);
            assert_eq!(reader.signed(), Ok(value));
            assert_eq!(bytes.len() * 8 - reader.left(), bits, "{value}");
        };
        check(0, 1);
        for (width, bits) in [(3, 5), (6, 9), (9, 13), (12, 17), (18, 24), (25, 32), (56, 64)] {
            let half = 1i64 << (width - 1);
            check(half, bits);
            check(1 - half, bits);
        }
        check(-(1 << 55), 72);
        check(i64::MIN, 72);
    }

    proptest! {
        #[test]
        fn numbers_come_back(values in prop::collection::vec((numbers(), any::<bool>(), 1u32..65), 0..40)) {
            let mut out = BitWriter::behind(vec![7]);
            let mut float = Xor::new(0.5);
            for (value, negative, width) in &values {
                out.unsigned(*value);
                out.signed(if *negative { (*value as i64).wrapping_neg() } else { *value as i64 });
                out.bits(*value, *width);
                float.put(f64::from_bits(*value), &mut out);
            }
            let bytes = out.into_bytes();
            prop_assert_eq!(bytes[0], 7);
            let mut reader = BitReader::new(&bytes[1..]);
            let mut float = Xor::new(0.5);
            for (value, negative, width) in &values {
                prop_assert_eq!(reader.unsigned(), Ok(*value));
                prop_assert_eq!(reader.signed(), Ok(if *negative { (*value as i64).wrapping_neg() } else { *value as i64 }));
                prop_assert_eq!(reader.bits(*width), Ok(*value & (u64::MAX >> (64 - width))));
                prop_assert_eq!(float.read(&mut reader).map(f64::to_bits), Ok(*value));
            }
            prop_assert!(reader.left() < 8);
        }
    }
}
