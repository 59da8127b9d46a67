//! A leaf: some rows of an open chunk as columns, in memory.
//!
//! Rows come one by one and are kept as differences to the row before, which is small and quick to add to; but whoever wants
//! one column walks through all of them. So the rows behind are turned into columns, a few dozen at a time, in the same
//! coding as sealed chunks: a column is then a few bytes in one place.

use std::sync::Arc;

use super::codec::{Decoder, Encoder};
use super::columns::ColumnSet;
use super::varint::Cursor;
use super::{Result, StorageError};

pub struct Leaf {
    /// Holds all columns of its rows.
    pub set: Arc<ColumnSet>,
    pub rows: usize,
    /// Where each column starts.
    starts: Box<[u32]>,
    body: Box<[u8]>,
}

impl Leaf {
    /// Of so many rows: of each column of the set all values, one column after the other.
    pub fn encode(set: &Arc<ColumnSet>, rows: usize, values: &[f64]) -> Leaf {
        let (mut encoder, mut body, mut starts) = (Encoder::default(), Vec::new(), Vec::with_capacity(set.len()));
        for column in values.chunks_exact(rows.max(1)) {
            starts.push(body.len() as u32);
            encoder.encode(column, &mut body);
        }
        Leaf { set: set.clone(), rows, starts: starts.into(), body: body.into() }
    }

    /// One column's values, replacing what `out` held.
    pub fn decode(&self, column: usize, decoder: &mut Decoder, out: &mut Vec<f64>) -> Result<()> {
        let column = self.starts.get(column).and_then(|start| self.body.get(*start as usize..));
        let column = column.ok_or_else(|| StorageError::corrupt("an open chunk", "BUG: a leaf lacks a column"))?;
        decoder.decode(&mut Cursor::new(column), self.rows, out)
    }

    pub fn bytes(&self) -> usize {
        self.body.len() + self.starts.len() * 4
    }

    /// Touches what reading a column will need: first what says where it is, then the column.
    pub fn touch(&self, column: usize, places: bool) -> u8 {
        let start = self.starts.get(column).map_or(0, |start| *start as usize);
        if places {
            start as u8
        } else {
            *self.body.get(start).unwrap_or(&0)
        }
    }
}
