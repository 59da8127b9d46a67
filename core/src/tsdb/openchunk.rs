//! An open chunk: the rows of one group that are being added, as a log of records.
//!
//! It is short (120 rows), so that it is small and read quickly. Its column set may grow on the way: each record is the
//! difference to its predecessor in the set of its time. Reading some columns passes over the rest. Rows are turned into
//! leaves, which are columns, 24 at a time.

use std::ops::Range;
use std::sync::Arc;

use super::chunk;
use super::codec::{Decoder, Encoder};
use super::columns::{ColumnSet, MISSING};
use super::leaf::Leaf;
use super::row;
use super::{Result, StorageError, ABSENT};

/// Rows of a leaf. With fewer, constant columns cost more than as differences; with more, walking the rows behind the last
/// leaf is what a reader waits for.
const LEAF_ROWS: usize = 24;

/// A row's record, and its marks.
#[derive(Default)]
pub struct Record {
    pub bytes: Vec<u8>,
    marks: Vec<u32>,
}

impl Record {
    /// Becomes the record that turns a row into its successor; an empty one is a row of zeros.
    pub fn encode(&mut self, before: &[f64], row: &[f64]) {
        self.bytes.clear();
        self.marks.clear();
        row::encode(&mut self.bytes, &mut self.marks, before, row);
    }
}

/// Rows while they are being added. Cloning is how a reader takes a picture: it shares the rows, and an append that comes
/// while somebody reads them copies them first.
#[derive(Clone, Default)]
pub struct OpenChunk {
    /// Number of the first row, in the group's count.
    pub first: u64,
    /// The log segment that holds the first row.
    pub segment: u64,
    rows: Arc<Rows>,
}

#[derive(Clone, Default)]
struct Rows {
    times: Vec<i64>,
    /// The first rows.
    leaves: Vec<Arc<Leaf>>,
    /// How many these are.
    leaved: usize,
    /// The set of the rows behind them, from one on; a later set holds all columns of those before.
    sets: Vec<(usize, Arc<ColumnSet>)>,
    /// Of each row behind the leaves its marks, four bytes each, and its record.
    log: Vec<u8>,
    /// Where each of these ends in the log.
    ends: Vec<u32>,
}

impl OpenChunk {
    /// An empty one, whose first row will have this number.
    pub fn starting_at(first: u64) -> OpenChunk {
        OpenChunk { first, ..OpenChunk::default() }
    }

    pub fn times(&self) -> &[i64] {
        &self.rows.times
    }

    pub fn len(&self) -> usize {
        self.rows.times.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.times.is_empty()
    }

    pub fn set(&self) -> Option<&Arc<ColumnSet>> {
        self.rows.sets.last().map(|s| &s.1)
    }

    pub fn bytes(&self) -> usize {
        let Rows { times, leaves, log, ends, .. } = &*self.rows;
        leaves.iter().map(|leaf| leaf.bytes()).sum::<usize>() + log.capacity() + times.capacity() * 8 + ends.capacity() * 4
    }

    /// Adds a row's record: the difference to the row before it in the same set; of the first of a chunk, a full one.
    pub fn push(&mut self, time: i64, set: &Arc<ColumnSet>, record: &Record) -> Result<()> {
        if self.rows.ends.len() >= LEAF_ROWS {
            self.turn()?;
        }
        let rows = Arc::make_mut(&mut self.rows);
        if rows.sets.last().is_none_or(|s| !Arc::ptr_eq(&s.1, set)) {
            rows.sets.push((rows.times.len(), set.clone()));
        }
        record.marks.iter().for_each(|mark| rows.log.extend_from_slice(&mark.to_le_bytes()));
        rows.log.extend_from_slice(&record.bytes);
        rows.ends.push(rows.log.len() as u32);
        rows.times.push(time);
        Ok(())
    }

    /// Makes the rows behind the last leaf another one.
    fn turn(&mut self) -> Result<()> {
        let Some(set) = self.set().cloned() else { return Ok(()) };
        let (first, end) = (self.rows.leaved, self.len());
        let all: Vec<u32> = (0..set.len() as u32).collect();
        let values = self.read(&all, first..end, &mut Decoder::default())?;
        let rows = Arc::make_mut(&mut self.rows);
        rows.leaves.push(Arc::new(Leaf::encode(&set, end - first, &values)));
        rows.leaved = end;
        rows.sets = vec![(end, set)];
        rows.log.clear();
        rows.ends.clear();
        Ok(())
    }

    /// The values of some columns of the last set, which must ascend, in some rows: one column after the other.
    pub fn read(&self, columns: &[u32], rows: Range<usize>, decoder: &mut Decoder) -> Result<Vec<f64>> {
        let mut out = vec![ABSENT; columns.len() * rows.len()];
        let Some(last) = self.set().filter(|_| !columns.is_empty()) else {
            return Ok(out);
        };
        let mut values = self.read_leaves(columns, &rows, last, decoder, &mut out)?;
        let Rows { leaved, sets, log, ends, .. } = &*self.rows;
        for (part, (start, set)) in sets.iter().enumerate() {
            let end = sets.get(part + 1).map_or(self.len(), |next| next.0).min(rows.end);
            // Where the wanted columns stand in this part's set, and which of them they are.
            let wanted: Vec<(u32, usize)> =
                columns.iter().enumerate().filter_map(|(k, column)| last.place_in_part(*column, set).map(|at| (at, k))).collect();
            for at in *start..end {
                let (marks, record) = row_of(log, ends, at - leaved, set.len());
                row::decode_some(record, |i| mark_of(marks, i * 4), set.len(), &wanted, &mut values)?;
                if at >= rows.start {
                    wanted.iter().for_each(|(_, k)| out[k * rows.len() + at - rows.start] = values[*k]);
                }
            }
            if part == 0 && *leaved == 0 {
                // A column that comes later has no value before.
                let mut known = wanted.iter().map(|w| w.1).peekable();
                (0..columns.len()).filter(|k| known.next_if_eq(k).is_none()).for_each(|k| values[k] = ABSENT);
            }
        }
        Ok(out)
    }

    /// The same of the rows in leaves. Returns what the next row is a difference to: the last row of the leaves, or zeros.
    fn read_leaves(
        &self,
        columns: &[u32],
        rows: &Range<usize>,
        set: &ColumnSet,
        decoder: &mut Decoder,
        out: &mut [f64],
    ) -> Result<Vec<f64>> {
        let mut last = vec![if self.rows.leaved > 0 { ABSENT } else { 0.0 }; columns.len()];
        let (mut start, mut values) = (0, std::mem::take(&mut decoder.column));
        for leaf in &self.rows.leaves {
            let end = start + leaf.rows;
            let read = rows.start.clamp(start, end)..rows.end.clamp(start, end);
            let is_last = end == self.rows.leaved;
            for (k, column) in columns.iter().enumerate().filter(|_| is_last || !read.is_empty()) {
                let Some(place) = set.place_in_part(*column, &leaf.set) else { continue };
                leaf.decode(place as usize, decoder, &mut values)?;
                if !read.is_empty() {
                    let to = k * rows.len() + read.start - rows.start;
                    out[to..to + read.len()].copy_from_slice(&values[read.start - start..read.end - start]);
                }
                last[k] = values.last().copied().filter(|_| is_last).unwrap_or(ABSENT);
            }
            start = end;
        }
        decoder.column = values;
        Ok(last)
    }

    /// Touches what reading a column of the last set will need: first what says where its values are, then those.
    pub fn touch(&self, column: usize, places: bool) -> u8 {
        let Rows { leaves, sets, log, ends, .. } = &*self.rows;
        let columns = sets.last().map_or(0, |last| last.1.len());
        let touched = leaves.iter().fold(0, |touched, leaf| touched ^ leaf.touch(column, places));
        (0..ends.len()).fold(touched, |touched, at| {
            let start = if at == 0 { 0 } else { ends[at - 1] as usize };
            let byte = |at: usize| log.get(start + at).unwrap_or(&0);
            let marks = row::marks_of(columns) * 4;
            if places {
                touched ^ byte(0) ^ byte(marks + column / 8) ^ byte(marks + columns.div_ceil(8))
            } else {
                let place = marks + row::place_of(column, columns, |i| mark_of(log, start + i * 4));
                touched ^ byte(place) ^ byte(place + 64)
            }
        })
    }

    /// The chunk as it goes to a file.
    pub fn seal(&self, group: u32, encoder: &mut Encoder) -> Result<Vec<u8>> {
        let set = self.set().ok_or_else(|| StorageError::corrupt("an open chunk", "BUG: it is sealed without a row"))?;
        let all: Vec<u32> = (0..set.len() as u32).collect();
        let values = self.read(&all, 0..self.len(), &mut Decoder::default())?;
        Ok(chunk::encode(group, self.first, set, self.times(), &values, encoder))
    }
}

/// A row's marks and its record.
fn row_of<'a>(log: &'a [u8], ends: &[u32], at: usize, columns: usize) -> (&'a [u8], &'a [u8]) {
    let start = if at == 0 { 0 } else { ends[at - 1] as usize };
    log[start..ends[at] as usize].split_at(row::marks_of(columns) * 4)
}

fn mark_of(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|mark| mark.first_chunk()).map_or(0, |mark| u32::from_le_bytes(*mark))
}

/// A row in a larger set.
pub fn widen(values: &[f64], from: &ColumnSet, to: &ColumnSet) -> Vec<f64> {
    let mut out = vec![ABSENT; to.len()];
    for (value, at) in values.iter().zip(from.positions_in(to)) {
        if at != MISSING {
            out[at as usize] = *value;
        }
    }
    out
}
