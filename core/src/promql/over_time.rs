//! Functions of the values of a window: `sum_over_time` and its like, and what a selector sees.

use super::sums::{mean_of, sum_of, Sum};
use super::windows::{each_series, each_window, Grid, Samples};
use super::{rates, Rows};
use crate::tsdb::is_stale;

/// The function by its name in PromQL, or what a selector sees for none. False: the core does not have it.
pub fn run(function: &str, samples: Samples<'_>, grid: Grid<'_>, rows: Rows<'_>) -> bool {
    let seconds = |time: i64| Some(time as f64 / 1000.0);
    match function {
        "" => latest(samples, grid, rows),
        "count_over_time" => each_window(samples, grid, rows, |_, values| Some(values.len() as f64)),
        "present_over_time" => each_window(samples, grid, rows, |_, _| Some(1.0)),
        "first_over_time" => each_window(samples, grid, rows, |_, values| values.first().copied()),
        "last_over_time" => each_window(samples, grid, rows, |_, values| values.last().copied()),
        "ts_of_first_over_time" => each_window(samples, grid, rows, |times, _| times.first().and_then(|t| seconds(*t))),
        "ts_of_last_over_time" => each_window(samples, grid, rows, |times, _| times.last().and_then(|t| seconds(*t))),
        "sum_over_time" => each_window(samples, grid, rows, |_, values| Some(sum_of(values))),
        "avg_over_time" => each_window(samples, grid, rows, |_, values| Some(mean_of(values))),
        "max_over_time" => each_window(samples, grid, rows, |_, values| values.iter().copied().reduce(f64::max)),
        "min_over_time" => each_window(samples, grid, rows, |_, values| values.iter().copied().reduce(f64::min)),
        "stddev_over_time" => each_window(samples, grid, rows, |_, values| Some(variance(values).sqrt())),
        "stdvar_over_time" => each_window(samples, grid, rows, |_, values| Some(variance(values))),
        _ => return rates::run(function, samples, grid, rows),
    }
    true
}

/// The population variance (Welford's method, compensated).
fn variance(values: &[f64]) -> f64 {
    let (mut average, mut squares) = (Sum::default(), Sum::default());
    for (at, value) in values.iter().enumerate() {
        let delta = value - (average.total + average.lost);
        average.add(delta / (at + 1) as f64);
        squares.add(delta * (value - (average.total + average.lost)));
    }
    (squares.total + squares.lost) / values.len() as f64
}

/// The newest sample of each window, unless it is a stale marker.
fn latest(samples: Samples<'_>, grid: Grid<'_>, rows: Rows<'_>) {
    each_series(samples, grid, rows, |series, windows, out, present| {
        for ((found, out), present) in windows.iter().zip(out).zip(present) {
            if let Some(value) = series.values[found.clone()].last() {
                (*out, *present) = (*value, !is_stale(*value));
            }
        }
    });
}
