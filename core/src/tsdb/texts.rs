//! Texts of labels in files: each stands once, before what refers to it by its number.
//!
//! ```text
//! count, then each text | what refers to them
//! labels:  count, then the numbers of name and value of each
//! ```
//! Where labels stand alone, in a record of the log, name and value stand there in full.

use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;

use super::varint::{put, put_text, Cursor};
use super::{Result, StorageError};
use crate::labels::{Labels, Str, Strings};

#[derive(Default)]
pub struct Texts {
    numbers: HashMap<Str, u32, FxBuildHasher>,
    order: Vec<Str>,
}

impl Texts {
    pub fn text(&mut self, out: &mut Vec<u8>, text: &str) {
        let next = self.order.len() as u32;
        let number = match self.numbers.get(text) {
            Some(known) => *known,
            None => {
                let text: Str = text.into();
                self.numbers.insert(text.clone(), next);
                self.order.push(text);
                next
            }
        };
        put(out, u64::from(number));
    }

    pub fn labels(&mut self, out: &mut Vec<u8>, labels: &Labels) {
        put(out, labels.len() as u64);
        for (name, value) in labels.iter() {
            self.text(out, name);
            self.text(out, value);
        }
    }

    /// The texts, and behind them what refers to them.
    pub fn payload(&self, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(body.len() + self.order.len() * 16);
        put(&mut out, self.order.len() as u64);
        self.order.iter().for_each(|t| put_text(&mut out, t));
        out.extend_from_slice(body);
        out
    }

    /// Reads the texts; `strings` holds those that are in memory already.
    pub fn read(cursor: &mut Cursor<'_>, strings: &mut Strings) -> Result<Texts> {
        let order: Result<Vec<Str>> = (0..cursor.count()?).map(|_| Ok(strings.intern(cursor.text()?))).collect();
        Ok(Texts { order: order?, ..Texts::default() })
    }

    pub fn read_text(&self, cursor: &mut Cursor<'_>) -> Result<Str> {
        let text = self.order.get(cursor.number()? as usize).cloned();
        text.ok_or_else(|| StorageError::corrupt("labels", "a text is missing"))
    }

    pub fn read_labels(&self, cursor: &mut Cursor<'_>) -> Result<Labels> {
        let pairs: Result<Vec<(Str, Str)>> =
            (0..cursor.count()?).map(|_| Ok((self.read_text(cursor)?, self.read_text(cursor)?))).collect();
        Ok(Labels::from_pairs(pairs?))
    }
}

pub fn put_labels(out: &mut Vec<u8>, labels: &Labels) {
    put(out, labels.len() as u64);
    for (name, value) in labels.iter() {
        put_text(out, name);
        put_text(out, value);
    }
}

pub fn read_labels(cursor: &mut Cursor<'_>, strings: &mut Strings) -> Result<Labels> {
    let pairs: Result<Vec<(Str, Str)>> =
        (0..cursor.count()?).map(|_| Ok((strings.intern(cursor.text()?), strings.intern(cursor.text()?)))).collect();
    Ok(Labels::from_pairs(pairs?))
}
