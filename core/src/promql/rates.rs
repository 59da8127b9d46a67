//! What counters and gauges did in a window: `rate` and its like.

use std::ops::Range;

use super::windows::{each_series, each_window, Grid, Samples, Series};
use super::Rows;

/// The function by its name in PromQL, if it is one of these.
pub fn run(function: &str, samples: Samples<'_>, grid: Grid<'_>, rows: Rows<'_>) -> bool {
    match function {
        "rate" => extrapolated::<true, true>(samples, grid, rows),
        "increase" => extrapolated::<true, false>(samples, grid, rows),
        "delta" => extrapolated::<false, false>(samples, grid, rows),
        "irate" => each_window(samples, grid, rows, |times, values| {
            let (seconds, previous, newest) = last_two(times, values)?;
            Some(if newest < previous { newest } else { newest - previous } / seconds)
        }),
        "idelta" => each_window(samples, grid, rows, |times, values| {
            let (_, previous, newest) = last_two(times, values)?;
            Some(newest - previous)
        }),
        "changes" => each_window(samples, grid, rows, |_, values| {
            let changed = |w: &&[f64]| w[0] != w[1] && !(w[0].is_nan() && w[1].is_nan());
            Some(values.windows(2).filter(changed).count() as f64)
        }),
        "resets" => each_window(samples, grid, rows, |_, values| Some(values.windows(2).filter(|w| w[1] < w[0]).count() as f64)),
        _ => return false,
    }
    true
}

/// Seconds between the last two samples, and their values.
fn last_two(times: &[i64], values: &[f64]) -> Option<(f64, f64, f64)> {
    let n = values.len().checked_sub(2)?;
    let seconds = (times[n + 1] - times[n]) as f64 / 1000.0;
    (seconds != 0.0).then(|| (seconds, values[n], values[n + 1]))
}

/// The change over the window, extrapolated to its ends as far as samples make likely.
fn extrapolated<const COUNTER: bool, const RATE: bool>(samples: Samples<'_>, grid: Grid<'_>, rows: Rows<'_>) {
    let mut resets: Vec<usize> = Vec::new();
    each_series(samples, grid, rows, |series, windows, out, present| {
        if COUNTER {
            resets.clear();
            resets.extend(series.values.windows(2).enumerate().filter(|(_, w)| w[1] < w[0]).map(|(i, _)| i + 1));
        }
        let mut first_reset = 0;
        for (step, found) in windows.iter().enumerate() {
            if found.len() < 2 {
                continue;
            }
            let (first, last) = (found.start, found.end - 1);
            let mut change = series.values[last] - series.values[first];
            while COUNTER && first_reset < resets.len() && resets[first_reset] <= first {
                first_reset += 1;
            }
            for reset in resets[first_reset..].iter().take_while(|r| **r <= last) {
                change += series.values[reset - 1];
            }
            (out[step], present[step]) = (change * factor::<COUNTER, RATE>(series, found, step, change), true);
        }
    });
}

/// How much more than between its first and last sample happened in a window, if it went on so.
fn factor<const COUNTER: bool, const RATE: bool>(series: &Series<'_>, found: &Range<usize>, step: usize, change: f64) -> f64 {
    let (first, last) = (series.times[found.start], series.times[found.end - 1]);
    let (end, range) = (series.grid.ends[step], series.grid.range);
    let sampled = (last - first) as f64 / 1000.0;
    let average = sampled / (found.len() - 1) as f64;
    let threshold = average * 1.1;
    let mut to_start = (first - (end - range)) as f64 / 1000.0;
    let mut to_end = (end - last) as f64 / 1000.0;
    if to_start >= threshold {
        to_start = average / 2.0;
    }
    if to_end >= threshold {
        to_end = average / 2.0;
    }
    let value = series.values[found.start];
    if COUNTER && change > 0.0 && value >= 0.0 {
        // A counter is not extrapolated to below zero.
        let to_zero = sampled * (value / change);
        if to_zero < to_start {
            to_start = to_zero;
        }
    }
    let factor = (sampled + to_start + to_end) / sampled;
    if RATE {
        factor / (range as f64 / 1000.0)
    } else {
        factor
    }
}
