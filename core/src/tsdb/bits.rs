//! Bits in bytes, the first bit lowest: which columns changed, which are there.

/// Appends a bit for each value.
pub fn put(out: &mut Vec<u8>, values: impl ExactSizeIterator<Item = bool>) {
    let (start, count) = (out.len(), values.len());
    out.resize(start + count.div_ceil(8), 0);
    values.enumerate().filter(|v| v.1).for_each(|(i, _)| out[start + i / 8] |= 1 << (i % 8));
}

#[inline(always)]
pub fn is_set(bits: &[u8], at: usize) -> bool {
    bits.get(at / 8).is_some_and(|byte| byte >> (at % 8) & 1 == 1)
}

/// Counts the bits that are set before ascending places, each bit once.
pub struct Ranks<'a> {
    bits: &'a [u8],
    counted: usize,
    count: usize,
}

impl<'a> Ranks<'a> {
    pub fn new(bits: &'a [u8]) -> Ranks<'a> {
        Ranks { bits, counted: 0, count: 0 }
    }

    fn word(&self, k: usize) -> u64 {
        let bytes = self.bits.get(k * 8..).unwrap_or(&[]);
        match bytes.first_chunk() {
            Some(eight) => u64::from_le_bytes(*eight),
            None => bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)),
        }
    }

    /// How many bits are set before this one, which is not before the one asked for last.
    pub fn before(&mut self, at: usize) -> usize {
        debug_assert!(at >= self.counted);
        let below = |bit: usize| (1u64 << (bit % 64)) - 1;
        while self.counted / 64 < at / 64 {
            self.count += (self.word(self.counted / 64) & !below(self.counted)).count_ones() as usize;
            self.counted = (self.counted / 64 + 1) * 64;
        }
        if at > self.counted {
            self.count += (self.word(at / 64) & below(at) & !below(self.counted)).count_ones() as usize;
            self.counted = at;
        }
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ranks_are_the_counts_of_bits_before(values in prop::collection::vec(any::<bool>(), 0..300), mut places: Vec<u8>) {
            let mut bits = Vec::new();
            put(&mut bits, values.iter().copied());
            places.sort_unstable();
            let mut ranks = Ranks::new(&bits);
            for at in places.into_iter().map(usize::from).filter(|at| *at < values.len()) {
                prop_assert_eq!(is_set(&bits, at), values[at]);
                prop_assert_eq!(ranks.before(at), values[..at].iter().filter(|v| **v).count());
            }
        }
    }
}
