//! What PromQL does once a sample or once a cell of its grid, in one pass and without the GIL.
//!
//! Samples come as `select` gives them: series i has `offsets[i]..offsets[i + 1]` of flat times and values. Matrices are
//! [series, steps], values and presence apart. `windows` finds the samples of each step, `over_time` and `rates` make
//! one number of each window, `groups` makes rows of a group one. What each means stands in Python's `promql`, in numpy,
//! which is used for all that is not here and which tests compare these with. Work of some size is done by two threads.

pub mod groups;
pub mod over_time;
pub mod python;
pub mod rates;
pub mod sums;
pub mod windows;

use std::ops::Range;
use std::sync::OnceLock;

/// Cells that are worth a thread.
const CELLS_A_THREAD: usize = 1 << 15;
/// More threads take time from other queries, and from scrapes.
const MOST_THREADS: usize = 2;

/// A part of the rows of a matrix that is written.
pub struct Rows<'a> {
    pub range: Range<usize>,
    pub steps: usize,
    pub values: &'a mut [f64],
    pub present: &'a mut [bool],
}

/// How many threads do work that is worth so many.
pub fn threads(worth: usize) -> usize {
    // Asking costs as much as a small query: it reads files.
    static MOST: OnceLock<usize> = OnceLock::new();
    let most = MOST.get_or_init(|| std::thread::available_parallelism().map_or(1, |n| n.get()).min(MOST_THREADS));
    worth.clamp(1, *most)
}

/// Calls `work` with all rows, or on threads with a share of them each.
pub fn share(rows: Rows<'_>, work: impl Fn(Rows<'_>) + Sync) {
    let threads = threads(rows.values.len() / CELLS_A_THREAD).min(rows.range.len().max(1));
    if threads < 2 {
        return work(rows);
    }
    let each = rows.range.len().div_ceil(threads);
    let Rows { range, steps, values, present } = rows;
    let parts = values.chunks_mut(each * steps).zip(present.chunks_mut(each * steps));
    let mut parts: Vec<Rows<'_>> = parts
        .enumerate()
        .map(|(i, (values, present))| {
            let first = range.start + i * each;
            Rows { range: first..(first + each).min(range.end), steps, values, present }
        })
        .collect();
    let Some(own) = parts.pop() else { return };
    let work = &work;
    std::thread::scope(|scope| {
        for part in parts {
            scope.spawn(move || work(part));
        }
        work(own);
    });
}
