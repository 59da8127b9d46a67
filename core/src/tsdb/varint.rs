//! Numbers and texts in files: LEB128, zigzag, length-prefixed. Readers take a cursor and never trust a length.

use super::{Result, StorageError};

pub fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub fn put_signed(out: &mut Vec<u8>, value: i64) {
    put(out, zigzag(value));
}

pub fn put_text(out: &mut Vec<u8>, text: &str) {
    put(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

#[inline(always)]
pub fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

#[inline(always)]
pub fn unzigzag(value: u64) -> i64 {
    ((value >> 1) as i64) ^ -((value & 1) as i64)
}

/// Reads forward through bytes that may be damaged.
#[derive(Clone)]
pub struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { bytes, at: 0 }
    }

    pub fn at(&self) -> usize {
        self.at
    }

    /// What has not been read.
    pub fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    pub fn is_done(&self) -> bool {
        self.at >= self.bytes.len()
    }

    #[inline(always)]
    pub fn byte(&mut self) -> Result<u8> {
        let byte = *self.bytes.get(self.at).ok_or_else(short)?;
        self.at += 1;
        Ok(byte)
    }

    pub fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(count).filter(|e| *e <= self.bytes.len()).ok_or_else(short)?;
        let out = &self.bytes[self.at..end];
        self.at = end;
        Ok(out)
    }

    #[inline(always)]
    pub fn varint(&mut self) -> Result<u64> {
        let mut value = 0u64;
        let mut shift = 0;
        loop {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
            shift += 7;
            if shift > 63 {
                return Err(StorageError::corrupt("a number", "it has more than 64 bits"));
            }
        }
    }

    /// Passes over numbers without reading them: a number ends with the first byte that has no upper bit.
    #[inline]
    pub fn pass_varints(&mut self, mut count: usize) -> Result<()> {
        const UPPER: u64 = 0x8080_8080_8080_8080;
        while let Some(eight) = self.bytes[self.at..].first_chunk() {
            let ends = (!u64::from_le_bytes(*eight) & UPPER) >> 7;
            // Adds the eight bytes, each 0 or 1.
            let ended = (ends.wrapping_mul(0x0101_0101_0101_0101) >> 56) as usize;
            if ended >= count {
                break;
            }
            count -= ended;
            self.at += 8;
        }
        for _ in 0..count {
            while self.byte()? >= 0x80 {}
        }
        Ok(())
    }

    pub fn signed(&mut self) -> Result<i64> {
        Ok(unzigzag(self.varint()?))
    }

    /// A count of things that take at least one byte each, so that damage cannot ask for endless memory.
    pub fn count(&mut self) -> Result<usize> {
        let count = self.varint()?;
        if count > (self.bytes.len() - self.at) as u64 {
            return Err(short());
        }
        Ok(count as usize)
    }

    pub fn number(&mut self) -> Result<u32> {
        u32::try_from(self.varint()?).map_err(|_| StorageError::corrupt("a number", "it has more than 32 bits"))
    }

    pub fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| short())
    }

    pub fn text(&mut self) -> Result<&'a str> {
        let count = self.count()?;
        std::str::from_utf8(self.take(count)?).map_err(|e| StorageError::corrupt("a text", e.to_string()))
    }
}

fn short() -> StorageError {
    StorageError::corrupt("bytes", "they end too early")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_come_back(a: u64, b: i64, text: String) {
            let mut out = Vec::new();
            put(&mut out, a);
            put_signed(&mut out, b);
            put_text(&mut out, &text);
            let mut cursor = Cursor::new(&out);
            prop_assert_eq!(cursor.varint().unwrap(), a);
            prop_assert_eq!(cursor.signed().unwrap(), b);
            prop_assert_eq!(cursor.text().unwrap(), text);
            prop_assert!(cursor.is_done());
        }

        #[test]
        fn numbers_are_passed_over(numbers in prop::collection::vec(any::<u64>().prop_map(|n| n >> (n % 64)), 0..40)) {
            let mut out = Vec::new();
            numbers.iter().for_each(|n| put(&mut out, *n));
            for (i, number) in numbers.iter().enumerate() {
                let mut cursor = Cursor::new(&out);
                cursor.pass_varints(i).unwrap();
                prop_assert_eq!(cursor.varint().unwrap(), *number);
            }
            prop_assert!(Cursor::new(&out).pass_varints(numbers.len() + 1).is_err());
        }

        #[test]
        fn damage_is_an_error_and_no_panic(bytes: Vec<u8>) {
            let mut cursor = Cursor::new(&bytes);
            let _ = cursor.text();
            let _ = cursor.varint();
            let _ = cursor.u64();
        }
    }
}
