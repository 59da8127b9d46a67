//! A group: all rows of one target, or of one rule.
//!
//! The last row is held decoded; a new one becomes a record in the open chunk and in the log. A column that had a value
//! and has none in the next row gets one stale marker and is absent from then on. The group's set holds at least the
//! columns of the rows in its open chunk: a target that comes with another set gets the union, and what was absent for a
//! whole chunk leaves it with the seal.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::Arc;

use parking_lot::Mutex;

use super::chunk::{Reading, SealedChunk};
use super::codec::Decoder;
use super::columns::{ColumnSet, MISSING};
use super::openchunk::{widen, OpenChunk, Record};
use super::storage::Inner;
use super::wal::Row;
use super::{is_absent, is_live, Result, ABSENT, STALE};
use crate::labels::{Labels, Str};

pub struct Group {
    pub id: u32,
    pub pool: Str,
    pub labels: Labels,
    state: Mutex<State>,
}

#[derive(Default)]
pub struct State {
    /// Number of the next row.
    next: u64,
    last_time: Option<i64>,
    /// The last row, in the group's set.
    set: Option<Arc<ColumnSet>>,
    row: Vec<f64>,
    /// The set that appends come with, and where its columns stand in the group's.
    given: Option<(Arc<ColumnSet>, Vec<u32>)>,
    open: OpenChunk,
    sealed: Vec<Arc<SealedChunk>>,
    /// The log segment that holds the group's last record.
    segment: u64,
    /// When the last row came, by the storage's clock.
    touched: i64,
}

/// What an append did.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Samples stored, stale markers not counted.
    pub samples: u64,
    /// Series that the row before did not have.
    pub added: u64,
    /// The time was not later than the last row's: nothing was stored.
    pub rejected: bool,
}

/// A reader's picture of a group.
pub struct GroupView {
    pub sealed: Vec<Arc<SealedChunk>>,
    pub open: Option<OpenChunk>,
}

impl Group {
    pub fn new(id: u32, pool: Str, labels: Labels) -> Group {
        Group { id, pool, labels, state: Mutex::default() }
    }

    /// Stores a row: a value, or `ABSENT`, for each column of the set.
    pub(super) fn append(&self, storage: &Inner, time: i64, columns: &Arc<ColumnSet>, values: &[f64]) -> Result<Appended> {
        debug_assert_eq!(columns.len(), values.len());
        let mut state = self.state.lock();
        if state.last_time.is_some_and(|last| time <= last) {
            storage.counters.rejected.fetch_add(1, Relaxed);
            return Ok(Appended { rejected: true, ..Appended::default() });
        }
        if state.set.is_none() {
            state.recall()?;
        }
        let set = state.fit(storage, columns)?;
        let mut next = vec![ABSENT; set.len()];
        match &state.given {
            Some((given, places)) if Arc::ptr_eq(given, columns) => {
                places.iter().zip(values).for_each(|(at, v)| next[*at as usize] = *v)
            }
            _ => next.copy_from_slice(values),
        }
        let mut done = Appended::default();
        for (old, new) in state.row.iter().zip(&mut next) {
            if !is_absent(*new) {
                done.samples += 1;
                done.added += u64::from(!is_live(*old));
            } else if is_live(*old) {
                *new = STALE;
            }
        }
        self.store(storage, &mut state, time, &set, next)?;
        Ok(done)
    }

    /// Ends all series of the group at this time: the target is gone. What is open is sealed, for nothing may come to fill it
    /// up, and the last row is let go: of pods that come and go nothing stays in memory but their chunks.
    pub(super) fn end(&self, storage: &Inner, time: i64) -> Result<()> {
        let mut state = self.state.lock();
        let (Some(set), Some(last)) = (state.set.clone(), state.last_time) else {
            return Ok(());
        };
        let next: Vec<f64> = state.row.iter().map(|v| if is_live(*v) { STALE } else { ABSENT }).collect();
        if next.iter().all(|v| is_absent(*v)) {
            return Ok(());
        }
        self.store(storage, &mut state, time.max(last + 1), &set, next)?;
        if !state.open.is_empty() {
            self.seal_state(storage, &mut state)?;
        }
        (state.set, state.given, state.row) = (None, None, Vec::new());
        Ok(())
    }

    /// Whether the last row is known to have no value, or is not known at all.
    pub fn is_ended(&self) -> bool {
        !self.state.lock().row.iter().any(|v| is_live(*v))
    }

    /// Writes the next row to the log and the open chunk. The state changes only when the log has taken it.
    fn store(&self, storage: &Inner, state: &mut State, time: i64, set: &Arc<ColumnSet>, next: Vec<f64>) -> Result<()> {
        if time < storage.frontier() {
            return self.store_late(storage, state, time, set, next);
        }
        let mut record = Record::default();
        let mut full;
        loop {
            let segment = storage.wal.segment();
            full = segment != state.segment || state.open.is_empty();
            record.encode(if full { &[] } else { &state.row }, &next);
            let entry = Row { group: self.id, number: state.next, full, time, set: set.id, row: &record.bytes };
            if storage.wal.row(segment, &entry)? {
                state.segment = segment;
                break;
            }
        }
        if full && !state.open.is_empty() {
            record.encode(&state.row, &next);
        }
        state.push(time, set, next, &record)?;
        state.touched = storage.now();
        if state.open.len() >= storage.rows_of(self.id, state.sealed.is_empty()) {
            self.seal_state(storage, state)?;
        }
        Ok(())
    }

    /// Blocks reach further than this time: the samples take the general path, which brings them into a block of their own.
    /// The open chunk is sealed, as it was for those blocks: the row does not come into it, and the next is a full one.
    fn store_late(&self, storage: &Inner, state: &mut State, time: i64, set: &ColumnSet, next: Vec<f64>) -> Result<()> {
        if !state.open.is_empty() {
            self.seal_state(storage, state)?;
        }
        let present = set.columns.iter().zip(&next).filter(|(_, v)| !is_absent(**v));
        let samples: Vec<(Labels, i64, f64)> = present.map(|(c, v)| (c.series(&self.labels), time, *v)).collect();
        storage.append_uncounted(&samples)?;
        state.row = next;
        state.last_time = Some(time);
        Ok(())
    }

    /// Seals the open chunk if nothing came for so long that its log should go.
    pub(super) fn seal_if_idle(&self, storage: &Inner, touched_before: i64, segment_before: u64) -> Result<()> {
        let mut state = self.state.lock();
        if !state.open.is_empty() && (state.touched < touched_before || state.open.segment < segment_before) {
            self.seal_state(storage, &mut state)?;
        }
        Ok(())
    }

    fn seal_state(&self, storage: &Inner, state: &mut State) -> Result<()> {
        let sealed = storage.seal(&state.open, self.id)?;
        state.sealed.push(sealed);
        state.open = OpenChunk::starting_at(state.next);
        // The next append decides anew which columns the group has.
        state.given = None;
        Ok(())
    }

    /// The oldest log segment that this group needs; None when all is sealed.
    pub fn needed_segment(&self) -> Option<u64> {
        let state = self.state.lock();
        (!state.open.is_empty()).then_some(state.open.segment)
    }

    /// Drops chunks that blocks have taken over, or whose file is gone; false when nothing is left.
    pub fn retire(&self, compacted: i64) -> bool {
        let mut state = self.state.lock();
        state.sealed.retain(|c| c.end >= compacted && !c.mapped().file.retired.load(Relaxed));
        !state.sealed.is_empty() || !state.open.is_empty()
    }

    /// The chunks with rows in the bounds of whose sets `wanted` wants something.
    pub fn view(&self, start: i64, end: i64, wanted: &mut dyn FnMut(&Arc<ColumnSet>) -> bool) -> GroupView {
        let state = self.state.lock();
        let overlapping = state.sealed.iter().filter(|c| c.start <= end && c.end >= start);
        let sealed = overlapping.filter(|c| c.set.as_ref().is_some_and(&mut *wanted)).cloned().collect();
        let times = state.open.times();
        let overlaps = times.first().is_some_and(|t| *t <= end) && times.last().is_some_and(|t| *t >= start);
        let open = overlaps && state.open.set().is_some_and(wanted);
        GroupView { sealed, open: open.then(|| state.open.clone()) }
    }

    /// The sealed chunks with rows in the bounds.
    pub fn sealed(&self, start: i64, end: i64) -> Vec<Arc<SealedChunk>> {
        self.state.lock().sealed.iter().filter(|c| c.start <= end && c.end >= start).cloned().collect()
    }

    /// Seals the open chunk if it has a row before this time.
    pub(super) fn seal_before(&self, storage: &Inner, time: i64) -> Result<()> {
        let mut state = self.state.lock();
        if state.open.times().first().is_some_and(|t| *t < time) {
            self.seal_state(storage, &mut state)?;
        }
        Ok(())
    }

    /// The time of the last row.
    pub fn last_time(&self) -> Option<i64> {
        self.state.lock().last_time
    }

    /// The series that have a value in the last row, and the bytes of the open chunk.
    pub fn size(&self) -> (usize, usize, usize) {
        let state = self.state.lock();
        (state.row.iter().filter(|v| is_live(**v)).count(), state.open.bytes() + state.row.capacity() * 8, state.sealed.len())
    }

    /// The times of the first and the last row that are still held.
    pub fn time_range(&self) -> Option<(i64, i64)> {
        let state = self.state.lock();
        let first = state.sealed.iter().map(|c| c.start).chain(state.open.times().first().copied()).min()?;
        Some((first, state.last_time.unwrap_or(first)))
    }

    // --- what replay does

    /// Takes a chunk that was found in a file; what lies before the frontier is in a block.
    pub fn restore_sealed(&self, chunk: SealedChunk, frontier: i64) {
        let mut state = self.state.lock();
        state.next = state.next.max(chunk.first + u64::from(chunk.rows));
        state.open.first = state.next;
        state.last_time = state.last_time.max(Some(chunk.end));
        if chunk.end >= frontier {
            state.sealed.push(Arc::new(chunk));
        }
    }

    /// Takes a row from the log, in the set that it was written with. Rows that chunks have already are passed over.
    pub(super) fn restore_row(
        &self,
        storage: &Inner,
        number: u64,
        time: i64,
        set: &Arc<ColumnSet>,
        values: &[f64],
        segment: u64,
    ) -> Result<()> {
        let mut state = self.state.lock();
        if number < state.next || state.last_time.is_some_and(|last| time <= last) || time < storage.frontier() {
            // Sealed already, or in a block. It is still the predecessor of the next row.
            if number + 1 >= state.next {
                state.next = number + 1;
                state.last_time = state.last_time.max(Some(time));
                state.set = Some(set.clone());
                state.row = values.to_vec();
            }
            return Ok(());
        }
        state.next = number;
        if state.open.is_empty() {
            state.open.first = number;
            state.open.segment = segment;
        }
        if state.open.set().is_some_and(|open| !Arc::ptr_eq(open, set) && open.positions_in(set).contains(&MISSING)) {
            // Damage in between took the row that made the set larger; a new chunk needs no such row.
            self.seal_state(storage, &mut state)?;
            state.open.segment = segment;
        }
        if state.set.as_ref().is_none_or(|s| !Arc::ptr_eq(s, set)) {
            state.row = state.set.as_ref().map_or_else(|| vec![ABSENT; set.len()], |s| widen(&state.row, s, set));
            state.set = Some(set.clone());
        }
        let mut record = Record::default();
        record.encode(if state.open.is_empty() { &[] } else { &state.row }, values);
        state.push(time, set, values.to_vec(), &record)?;
        state.segment = 0;
        if state.open.len() >= storage.rows_of(self.id, state.sealed.is_empty()) {
            self.seal_state(storage, &mut state)?;
        }
        Ok(())
    }
}

impl State {
    fn push(&mut self, time: i64, set: &Arc<ColumnSet>, next: Vec<f64>, record: &Record) -> Result<()> {
        if self.open.is_empty() {
            self.open.segment = self.open.segment.max(self.segment);
        }
        self.open.push(time, set, record)?;
        self.row = next;
        self.last_time = Some(time);
        self.next += 1;
        Ok(())
    }

    /// After a restart that found nothing of the group in the log: the last row, from the last chunk.
    fn recall(&mut self) -> Result<()> {
        let Some((chunk, set)) = self.sealed.last().and_then(|c| c.set.clone().map(|set| (c.clone(), set))) else {
            return Ok(());
        };
        let opened = chunk.open()?;
        let columns = opened.slots(&(0..set.len() as u32).collect::<Vec<u32>>());
        let mut row = vec![ABSENT; set.len()];
        opened.read(columns.iter().map(|c| c.1), Reading::Mapped, &mut Decoder::default(), &mut |at, values| {
            row[columns[at].0] = values[values.len() - 1];
        })?;
        (self.row, self.set) = (row, Some(set));
        Ok(())
    }

    /// Makes the group's set hold these columns, and the last row fit it. Returns the set.
    fn fit(&mut self, storage: &Inner, columns: &Arc<ColumnSet>) -> Result<Arc<ColumnSet>> {
        if let (Some((given, _)), Some(set)) = (&self.given, &self.set) {
            if Arc::ptr_eq(given, columns) {
                return Ok(set.clone());
            }
        }
        let Some(set) = self.set.clone() else {
            self.row = vec![ABSENT; columns.len()];
            self.set = Some(columns.clone());
            return Ok(columns.clone());
        };
        // An open chunk keeps all its columns; between chunks those that have ended may go.
        let fresh = self.open.is_empty();
        let row = &self.row;
        let needed = storage.sets.union(&set, |i| !fresh || is_live(row[i]), columns, &mut |e| storage.record(&e))?;
        if !Arc::ptr_eq(&needed, &set) {
            let mut moved = vec![ABSENT; needed.len()];
            let places = set.positions_in(&needed);
            self.row.iter().zip(&places).filter(|(_, p)| **p != MISSING).for_each(|(v, p)| moved[*p as usize] = *v);
            self.row = moved;
            self.set = Some(needed.clone());
        }
        self.given = Some((columns.clone(), columns.positions_in(&needed)));
        Ok(needed)
    }
}
