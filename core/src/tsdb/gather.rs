//! Reads the chunks of groups in which something matches.
//!
//! A group's chunks are read one after the other, of each the columns that are wanted; what they have is gathered and handed
//! to `found` series by series. Bytes that will be needed are touched for some groups at once, ahead of their use, since
//! waiting for memory is most of what reading a column costs. What is wanted, `select` knows.

use std::sync::Arc;

use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;

use super::chunk::{within, Reading, SealedChunk};
use super::codec::Decoder;
use super::columns::{Column, ColumnSet};
use super::found::Found;
use super::group::Group;
use super::select::{PicturedGroup, SetIndex};
use super::{is_absent, Result};

/// Groups whose chunks are fetched at once, ahead of their use.
const FETCHED_GROUPS: usize = 8;

/// Reads groups into `found`: their samples with start <= t <= end.
pub fn read_groups(groups: &[PicturedGroup], index: &SetIndex<'_>, start: i64, end: i64, found: &mut Found<'_>) -> Result<()> {
    let (mut decoder, mut times, mut gathered) = (Decoder::default(), Vec::new(), Gathered::default());
    for batch in groups.chunks(FETCHED_GROUPS) {
        fetch(batch, index);
        for (group, satisfied, view) in batch {
            let mut reader = GroupReader::new(group, *satisfied);
            for chunk in &view.sealed {
                let Some(set) = &chunk.set else { continue };
                reader.turn_to(set, index);
                let opened = chunk.open_with(&mut decoder, std::mem::take(&mut times))?;
                let rows = within(&opened.times, start, end);
                let slots = opened.slots(&reader.columns);
                gathered.times(&opened.times[rows.clone()]);
                let mut added = Ok(());
                opened.read(slots.iter().map(|s| s.1), Reading::Mapped, &mut decoder, &mut |at, values| {
                    if added.is_ok() {
                        added = reader.gather(found, slots[at].0, &values[rows.clone()], &mut gathered);
                    }
                })?;
                added?;
                times = opened.times;
            }
            if let Some((open, set)) = view.open.as_ref().and_then(|o| o.set().map(|s| (o, s))) {
                reader.turn_to(set, index);
                let rows = within(open.times(), start, end);
                let values = open.read(&reader.columns, rows.clone(), &mut decoder)?;
                gathered.times(&open.times()[rows.clone()]);
                for (at, values) in values.chunks_exact(rows.len().max(1)).enumerate() {
                    reader.gather(found, at, values, &mut gathered)?;
                }
            }
            gathered.give(found)?;
        }
    }
    Ok(())
}

/// How many series and samples groups have within the bounds, about: series are those of the newest chunk, and rows are
/// taken to be evenly spread.
pub fn expected(groups: &[PicturedGroup], index: &SetIndex<'_>, start: i64, end: i64) -> (usize, usize) {
    let rows_of = |chunk: &SealedChunk| {
        let (within, all) = (end.min(chunk.end) - start.max(chunk.start), chunk.end - chunk.start);
        (chunk.rows as usize).min(1 + (f64::from(chunk.rows) * within as f64 / all.max(1) as f64) as usize)
    };
    groups.iter().fold((0, 0), |(series, samples), (_, satisfied, view)| {
        let sealed = view.sealed.iter().filter_map(|chunk| Some((chunk.set.as_ref()?, rows_of(chunk))));
        let open = view.open.as_ref().and_then(|open| Some((open.set()?, within(open.times(), start, end).len())));
        let (mut known, mut own): (Option<(&Arc<ColumnSet>, usize)>, usize) = (None, 0);
        for (set, rows) in sealed.chain(open) {
            let count = match known {
                Some((last, count)) if Arc::ptr_eq(last, set) => count,
                _ => index.wanted(set, *satisfied).count(),
            };
            known = Some((set, count));
            own += count * rows;
        }
        (series + known.map_or(0, |k| k.1), samples + own)
    })
}

/// Touches what reading these groups will need, all at once: one after the other, each byte would be waited for. What says
/// where the rest lies comes first.
fn fetch(groups: &[PicturedGroup], index: &SetIndex<'_>) {
    let mut touched = 0;
    for places in [true, false] {
        for (_, satisfied, view) in groups {
            let first = |set: &Arc<ColumnSet>| index.wanted(set, *satisfied).next();
            for chunk in &view.sealed {
                if let Some((set, column)) = chunk.set.as_ref().and_then(|set| Some((set, first(set)?))) {
                    touched ^= chunk.touch(column as usize, set.len(), places);
                }
            }
            if let Some((open, column)) = view.open.as_ref().and_then(|open| Some((open, first(open.set()?)?))) {
                touched ^= open.touch(column as usize, places);
            }
        }
    }
    std::hint::black_box(touched);
}

/// The columns of a group that are read, in the set of the chunk that is being read, and their series as far as they are
/// known.
struct GroupReader<'a> {
    group: &'a Group,
    satisfied: u64,
    set: Option<&'a Arc<ColumnSet>>,
    columns: Vec<u32>,
    series: Vec<Option<usize>>,
    /// The series of columns of any set.
    met: HashMap<*const Column, usize, FxBuildHasher>,
}

impl<'a> GroupReader<'a> {
    fn new(group: &'a Group, satisfied: u64) -> GroupReader<'a> {
        GroupReader { group, satisfied, set: None, columns: Vec::new(), series: Vec::new(), met: HashMap::default() }
    }

    fn turn_to(&mut self, set: &'a Arc<ColumnSet>, index: &SetIndex<'_>) {
        if self.set.is_some_and(|known| Arc::ptr_eq(known, set)) {
            return;
        }
        self.set = Some(set);
        self.columns = index.wanted(set, self.satisfied).collect();
        let met = |column: &u32| self.met.get(&Arc::as_ptr(&set.columns[*column as usize])).copied();
        self.series = self.columns.iter().map(met).collect();
    }

    /// Keeps a column's values, for the times that were gathered last, until the group is read.
    fn gather(&mut self, found: &mut Found<'_>, at: usize, values: &[f64], gathered: &mut Gathered) -> Result<()> {
        let (Some(set), Some(known)) = (self.set, self.series.get_mut(at)) else { return Ok(()) };
        if known.is_none() && values.iter().all(|v| is_absent(*v)) {
            return Ok(());
        }
        let series = *known.get_or_insert_with(|| {
            let column = &set.columns[self.columns[at] as usize];
            let series = found.series(column.series(&self.group.labels));
            self.met.insert(Arc::as_ptr(column), series);
            series
        });
        gathered.values(series, values);
        if gathered.values.len() < GATHERED_VALUES {
            return Ok(());
        }
        gathered.give_values(found)
    }
}

/// A group with more is handed over in pieces: memory is bounded, and limits are looked at.
const GATHERED_VALUES: usize = 1 << 20;

/// What chunks of one group have, chunk by chunk, to be handed over series by series: samples of a series that is in no
/// other group then lie as they are wanted.
#[derive(Default)]
struct Gathered {
    times: Vec<i64>,
    values: Vec<f64>,
    /// Where the times of the chunk that is read begin.
    chunk: usize,
    /// Series, and where its times and values begin, and how many there are.
    parts: Vec<(usize, usize, usize, usize)>,
}

impl Gathered {
    /// Of the columns that come now.
    fn times(&mut self, times: &[i64]) {
        self.chunk = self.times.len();
        self.times.extend_from_slice(times);
    }

    fn values(&mut self, series: usize, values: &[f64]) {
        self.parts.push((series, self.chunk, self.values.len(), values.len()));
        self.values.extend_from_slice(values);
    }

    fn give(&mut self, found: &mut Found<'_>) -> Result<()> {
        self.give_values(found)?;
        self.times.clear();
        Ok(())
    }

    fn give_values(&mut self, found: &mut Found<'_>) -> Result<()> {
        self.parts.sort_unstable_by_key(|p| (p.0, p.2));
        for (series, times, values, count) in self.parts.drain(..) {
            found.add(series, &self.times[times..times + count], &self.values[values..values + count])?;
        }
        self.values.clear();
        Ok(())
    }
}
