//! When counters began: a sample of 0 at that time, so that their first increase is seen.
//!
//! A line that `protobuf` or `created` wrote says it behind its value, before its exemplars: ` # @1700000000123`. Such a zero is
//! stored if it lies before the scrape and behind all that the series has. A target knows when its series last changed; of
//! one that was never scraped the storage is asked, once, since its series may have been another's.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use rustc_hash::FxBuildHasher;

use super::plan::{Reading, OVER_BUDGET};
use super::series::{HistogramSample, Sample, Taken};
use crate::histogram::{Counts, Hint, Histogram, Numbers};
use crate::labels::{Labels, NAME};
use crate::tsdb::columns::{ColumnSet, MISSING};
use crate::tsdb::matcher::Selector;
use crate::tsdb::select;
use crate::tsdb::storage::Inner;
use crate::tsdb::Result;

/// What stands behind a line's value: when its series began, in milliseconds, and its exemplars.
pub fn split(text: &[u8]) -> (Option<i64>, &[u8]) {
    let Some(rest) = text.strip_prefix(b"@") else { return (None, text) };
    let length = rest.iter().position(|b| !matches!(b, b'0'..=b'9' | b'-')).unwrap_or(rest.len());
    let start_ms = std::str::from_utf8(&rest[..length]).ok().and_then(|digits| digits.parse().ok());
    (start_ms, rest[length..].strip_prefix(b" # ").unwrap_or_default())
}

/// What a scrape looks like to those who ask when its series began.
pub struct Scrape<'a> {
    pub columns: &'a Arc<ColumnSet>,
    pub target: &'a Labels,
    pub body: &'a [u8],
    pub reading: &'a Reading,
    pub histograms: &'a Taken,
    pub time_ms: i64,
}

/// The beginnings that a target has said, by column.
#[derive(Default)]
pub struct Starts {
    columns: Option<Arc<ColumnSet>>,
    known: HashMap<u32, i64, FxBuildHasher>,
    /// When the target's series last got a sample, or their ends.
    changed_ms: Option<i64>,
    /// There was a scrape since.
    live: bool,
}

/// A series that began, and its zero.
#[derive(Default)]
pub struct Zeros {
    pub floats: Vec<Sample>,
    pub histograms: Vec<HistogramSample>,
}

impl Starts {
    /// The zeros that a scrape calls for; `before_ms` is when the target's group last had a row, if that is known.
    pub fn zeros(&mut self, scrape: &Scrape<'_>, before_ms: Option<i64>, storage: &Inner) -> Result<Zeros> {
        let is_first = self.columns.is_none();
        self.move_to(scrape.columns);
        let floor_ms = self.changed_ms.or(before_ms);
        (self.changed_ms, self.live) = (Some(scrape.time_ms), true);
        let frontier_ms = storage.frontier();
        let mut sure = Vec::new();
        let mut doubtful: Vec<(u32, i64, Labels)> = Vec::new();
        for (slot, place) in &scrape.reading.exemplars {
            let (Some(start_ms), true) = (split(&scrape.body[place.clone()]).0, *slot < OVER_BUDGET) else { continue };
            let known_ms = self.known.insert(*slot, start_ms);
            if known_ms == Some(start_ms) || start_ms >= scrape.time_ms || start_ms < frontier_ms {
                continue;
            }
            let series = scrape.columns.columns[*slot as usize].series(scrape.target);
            if floor_ms.is_some_and(|floor_ms| start_ms > floor_ms) {
                sure.push((*slot, start_ms, series));
            } else if known_ms.is_none() && (floor_ms.is_none() || !is_first) {
                // Of a target that goes on after a restart there would be many, and none is new.
                doubtful.push((*slot, start_ms, series));
            }
        }
        let found = without_samples(doubtful, scrape, storage)?;
        let mut zeros = Zeros::default();
        if sure.is_empty() && found.is_empty() {
            return Ok(zeros);
        }
        let of_histograms: HashMap<u32, &Histogram, FxBuildHasher> = scrape.histograms.by_column().collect();
        for (slot, start_ms, series) in sure.into_iter().chain(found) {
            match of_histograms.get(&slot) {
                Some(like) if like.hint == Hint::Gauge => {}
                Some(like) => zeros.histograms.push((series, start_ms, Arc::new(empty(like)))),
                None => zeros.floats.push((series, start_ms, 0.0)),
            }
        }
        Ok(zeros)
    }

    /// The target failed: its series end with this, if they have not yet.
    pub fn fail(&mut self, time_ms: i64) {
        if std::mem::take(&mut self.live) {
            self.changed_ms = Some(time_ms);
        }
    }

    fn move_to(&mut self, columns: &Arc<ColumnSet>) {
        if self.columns.as_ref().is_some_and(|known| Arc::ptr_eq(known, columns)) {
            return;
        }
        if let Some(known) = self.columns.replace(columns.clone()) {
            let moved = known.positions_in(columns);
            let place = |slot: u32| moved.get(slot as usize).copied().filter(|new| *new != MISSING);
            let all = std::mem::take(&mut self.known);
            self.known = all.into_iter().filter_map(|(slot, ms)| Some((place(slot)?, ms))).collect();
        }
    }
}

/// Those of the series that have no sample between their beginning and the scrape. One with other labels than its target's
/// cannot be asked for with the rest: it counts as having some.
fn without_samples(all: Vec<(u32, i64, Labels)>, scrape: &Scrape<'_>, storage: &Inner) -> Result<Vec<(u32, i64, Labels)>> {
    let Some(first_ms) = all.iter().map(|one| one.1).min() else { return Ok(all) };
    let equal = |pair: &(crate::labels::Str, crate::labels::Str)| (pair.0.to_string(), "=".to_owned(), pair.1.to_string());
    let mut matchers: Vec<_> = scrape.target.iter().map(equal).collect();
    if let [one] = &all[..] {
        // Mostly it is one label value that was not there before.
        matchers.extend(one.2.get(NAME).map(|name| (NAME.to_owned(), "=".to_owned(), name.to_owned())));
    }
    let selector = Selector::new(matchers)?;
    let held: HashSet<Labels> = select::series(storage, &[selector], first_ms, scrape.time_ms - 1)?.into_iter().collect();
    let is_own = |series: &Labels| scrape.target.iter().all(|(name, value)| series.get(name) == Some(value));
    Ok(all.into_iter().filter(|one| is_own(&one.2) && !held.contains(&one.2)).collect())
}

/// The same histogram before its first observation.
fn empty(like: &Histogram) -> Histogram {
    let counts = match &like.counts {
        Counts::Integers(_) => Counts::Integers(Numbers::default()),
        Counts::Floats(_) => Counts::Floats(Numbers::default()),
    };
    let (positive, negative, custom) = (Box::default(), Box::default(), like.custom.clone());
    Histogram { hint: Hint::Reset, sum: 0.0, positive, negative, custom, counts, ..like.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_stands_before_the_exemplars() {
        let check = |text: &str, want: (Option<i64>, &str)| assert_eq!(split(text.as_bytes()), (want.0, want.1.as_bytes()));
        check("@12", (Some(12), ""));
        check("@-5 # {} 1", (Some(-5), "{} 1"));
        check("{} 1 # @5", (None, "{} 1 # @5"));
        check("@x # {} 1", (None, ""));
        check("@99999999999999999999", (None, ""));
    }
}
