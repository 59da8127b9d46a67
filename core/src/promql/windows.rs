//! The samples that each step sees.

use std::ops::Range;

use super::Rows;

/// Flat samples: series i has `offsets[i]..offsets[i + 1]`.
#[derive(Clone, Copy)]
pub struct Samples<'a> {
    pub offsets: &'a [i64],
    pub times: &'a [i64],
    pub values: &'a [f64],
}

impl<'a> Samples<'a> {
    /// The samples, if each series lies within them.
    pub fn checked(offsets: &'a [i64], times: &'a [i64], values: &'a [f64]) -> Result<Samples<'a>, String> {
        if times.len() != values.len() || offsets.is_empty() {
            return Err(format!("BUG: {} offsets, {} times and {} values", offsets.len(), times.len(), values.len()));
        }
        if offsets[0] < 0 || offsets.windows(2).any(|w| w[0] > w[1]) || offsets[offsets.len() - 1] as usize > values.len() {
            return Err("BUG: an offset is outside of the samples".into());
        }
        Ok(Samples { offsets, times, values })
    }

    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn series(&self, i: usize) -> (&'a [i64], &'a [f64]) {
        let range = self.offsets[i] as usize..self.offsets[i + 1] as usize;
        (&self.times[range.clone()], &self.values[range])
    }
}

/// One window a step, `end - range < t <= end`; the ends never fall.
#[derive(Clone, Copy)]
pub struct Grid<'a> {
    pub ends: &'a [i64],
    pub range: i64,
}

impl<'a> Grid<'a> {
    pub fn checked(ends: &'a [i64], range: i64) -> Result<Grid<'a>, String> {
        if ends.windows(2).any(|w| w[0] > w[1]) || range < 0 {
            return Err("BUG: windows that go back in time".into());
        }
        Ok(Grid { ends, range })
    }

    /// The window of each step among a series' times.
    fn find(&self, times: &[i64], windows: &mut Vec<Range<usize>>) {
        windows.clear();
        let (mut low, mut high) = (0, 0);
        windows.extend(self.ends.iter().map(|end| {
            let start = end.saturating_sub(self.range);
            high = advance(times, high, *end);
            low = advance(times, low, start);
            low..high
        }));
    }
}

/// The first place from `at` on whose time is later.
fn advance(times: &[i64], mut at: usize, time: i64) -> usize {
    // Steps are near each other, or far: a few looks, then halving.
    for _ in 0..8 {
        if at >= times.len() || times[at] > time {
            return at;
        }
        at += 1;
    }
    at + times[at..].partition_point(|t| *t <= time)
}

/// A series, and what its steps see of it.
pub struct Series<'a> {
    pub times: &'a [i64],
    pub values: &'a [f64],
    pub grid: Grid<'a>,
}

/// Calls `series` with each series of the rows, its windows, and where its results go.
pub fn each_series<'a>(
    samples: Samples<'a>,
    grid: Grid<'a>,
    rows: Rows<'_>,
    mut series: impl FnMut(&Series<'a>, &[Range<usize>], &mut [f64], &mut [bool]),
) {
    let mut windows = Vec::with_capacity(grid.ends.len());
    let mut known: Option<&[i64]> = None;
    let steps = rows.steps.max(1);
    let out = rows.values.chunks_exact_mut(steps).zip(rows.present.chunks_exact_mut(steps));
    for (i, (out, present)) in rows.range.zip(out) {
        let (times, values) = samples.series(i);
        // Series that were scraped together have the same times.
        if known != Some(times) {
            grid.find(times, &mut windows);
            known = Some(times);
        }
        series(&Series { times, values, grid }, &windows, out, present);
    }
}

/// A function of each window that is not empty; None is no value.
pub fn each_window<'a>(samples: Samples<'a>, grid: Grid<'a>, rows: Rows<'_>, window: impl Fn(&[i64], &[f64]) -> Option<f64>) {
    each_series(samples, grid, rows, |series, windows, out, present| {
        for ((found, out), present) in windows.iter().zip(out).zip(present) {
            if found.is_empty() {
                continue;
            }
            if let Some(value) = window(&series.times[found.clone()], &series.values[found.clone()]) {
                (*out, *present) = (value, true);
            }
        }
    });
}
