//! Exemplars of OpenMetrics: read when one is new, for the storage.
//!
//! A body repeats the exemplar of each bucket until there is another, so a target remembers what it has read by a hash of
//! the text. One that cannot be read costs itself and not the scrape.

use std::hash::Hasher;
use std::sync::Arc;

use hashbrown::HashMap;
use rustc_hash::{FxBuildHasher, FxHasher};

use super::plan::{Reading, OVER_BUDGET};
use super::starts;
use super::text::{self, Format};
use crate::labels::{Labels, Str};
use crate::tsdb::columns::{ColumnSet, MISSING};
use crate::tsdb::exemplars::Exemplar;

/// As OpenMetrics has it, in characters of names and values.
const LABELS_LENGTH_MAX: usize = 128;

/// What a target has read of its exemplars, by column.
#[derive(Default)]
pub struct Known {
    columns: Option<Arc<ColumnSet>>,
    /// A hash of the last text.
    texts: HashMap<u32, u64, FxBuildHasher>,
    /// The newest time, of lines that may have several: one that is no newer has been there before.
    newest_ms: HashMap<u32, i64, FxBuildHasher>,
}

impl Known {
    /// The exemplars of a body that are new, and how many could not be read. With `starts`, a line may say when its series began
    /// before them.
    pub fn fresh(
        &mut self,
        columns: &Arc<ColumnSet>,
        target: &Labels,
        (body, format, starts): (&[u8], Format, bool),
        reading: &Reading,
        time_ms: i64,
    ) -> (Vec<(Labels, Exemplar)>, usize) {
        self.move_to(columns);
        let (mut fresh, mut unread) = (Vec::new(), 0);
        for (slot, place) in &reading.exemplars {
            let (slot, text) = (*slot, &body[place.clone()]);
            let text = if starts { starts::split(text).1 } else { text };
            if slot >= OVER_BUDGET || (starts && text.is_empty()) {
                continue;
            }
            let mut hasher = FxHasher::default();
            hasher.write(text);
            let hash = hasher.finish();
            if self.texts.insert(slot, hash) == Some(hash) {
                continue;
            }
            let Ok(all) = read_all(text, format) else {
                unread += 1;
                continue;
            };
            let several = all.len() > 1 || format == Format::Protobuf;
            let before_ms = self.newest_ms.get(&slot).copied().filter(|_| several);
            for (labels, value, own_ms) in all {
                if let (Some(own_ms), true) = (own_ms, several) {
                    if before_ms.is_some_and(|before_ms| own_ms <= before_ms) {
                        continue;
                    }
                    let newest_ms = self.newest_ms.entry(slot).or_insert(own_ms);
                    *newest_ms = own_ms.max(*newest_ms);
                }
                let series = columns.columns[slot as usize].series(target);
                let (time_ms, is_timed) = (own_ms.unwrap_or(time_ms), own_ms.is_some());
                fresh.push((series, Exemplar { labels, value, time_ms, is_timed }));
            }
        }
        (fresh, unread)
    }

    fn move_to(&mut self, columns: &Arc<ColumnSet>) {
        if self.columns.as_ref().is_some_and(|known| Arc::ptr_eq(known, columns)) {
            return;
        }
        if let Some(known) = self.columns.replace(columns.clone()) {
            let moved = known.positions_in(columns);
            let (texts, newest_ms) = (std::mem::take(&mut self.texts), std::mem::take(&mut self.newest_ms));
            let place = |slot: u32| moved.get(slot as usize).copied().filter(|new| *new != MISSING);
            self.texts = texts.into_iter().filter_map(|(slot, hash)| Some((place(slot)?, hash))).collect();
            self.newest_ms = newest_ms.into_iter().filter_map(|(slot, ms)| Some((place(slot)?, ms))).collect();
        }
    }
}

/// An exemplar's labels, value and time.
pub type Read = (Labels, f64, Option<i64>);

/// One exemplar: `{trace_id="x"} 0.5 1700000000.25`.
pub fn read(text: &[u8], format: Format) -> Result<Read, String> {
    match read_first(text, format)? {
        (one, []) => Ok(one),
        _ => Err("expected nothing behind the exemplar".into()),
    }
}

/// One or several, as lines of histograms have them: ` # ` stands between.
fn read_all(text: &[u8], format: Format) -> Result<Vec<Read>, String> {
    let (first, mut rest) = read_first(text, format)?;
    let mut all = vec![first];
    while !rest.is_empty() {
        let (next, behind) = read_first(rest, format)?;
        all.push(next);
        rest = behind;
    }
    Ok(all)
}

/// The exemplar that the text begins with, and the text from the next one on.
fn read_first(text: &[u8], format: Format) -> Result<(Read, &[u8]), String> {
    let (pairs, rest) = text::read_labels(text)?;
    if pairs.iter().any(|(name, _)| name == crate::labels::NAME) {
        return Err("a label has no name".into());
    }
    let length: usize = pairs.iter().map(|(name, value)| name.chars().count() + value.chars().count()).sum();
    if length > LABELS_LENGTH_MAX {
        return Err(format!("its labels have {length} characters: at most {LABELS_LENGTH_MAX} are taken"));
    }
    let rest = rest.trim_ascii_start();
    let (value, end) = text::read_value(rest).ok_or("expected a number after the labels")?;
    let (time, rest_of_all) = match memchr::memmem::find(&rest[end..], b" # {") {
        Some(at) => (rest[end..end + at].trim_ascii(), &rest[end + at + 3..]),
        None => (rest[end..].trim_ascii(), &[][..]),
    };
    let time_ms = match (time.is_empty(), text::read_timestamp(time, format)) {
        (true, _) => None,
        (false, Some((time_ms, length))) if length == time.len() => Some(time_ms),
        _ => return Err("expected a timestamp after the value".into()),
    };
    if !matches!(rest.get(end), None | Some(b' ' | b'\t' | b'\r')) {
        return Err("expected a number after the labels".into());
    }
    let pairs = pairs.into_iter().map(|(name, value)| (Str::from(name), Str::from(value))).collect();
    Ok(((Labels::from_pairs(pairs), value, time_ms), rest_of_all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exemplar_has_labels_a_value_and_perhaps_a_time() {
        let check = |text: &str, labels: &[(&str, &str)], value: f64, time_ms: Option<i64>| {
            let pairs = labels.iter().map(|(n, v)| (Str::from(*n), Str::from(*v))).collect();
            assert_eq!(read(text.as_bytes(), Format::OpenMetrics), Ok((Labels::from_pairs(pairs), value, time_ms)), "{text}");
        };
        check("{trace_id=\"a\"} 0.5", &[("trace_id", "a")], 0.5, None);
        check("{} 1", &[], 1.0, None);
        check("{a=\"}\",\"b.c\"=\"d\"} 1e3 12.5", &[("a", "}"), ("b.c", "d")], 1000.0, Some(12_500));
    }

    #[test]
    fn what_is_no_exemplar_is_refused() {
        let long = format!("{{a=\"{}\"}} 1", "x".repeat(128));
        for text in
            ["", "a 1", "{a=\"b\"}", "{a=\"b\"} x", "{a=\"b\"} 1x", "{a=\"b\"} 1 x", "{\"a\"} 1", "{a=\"b\",a=\"c\"} 1", &long]
        {
            assert!(read(text.as_bytes(), Format::OpenMetrics).is_err(), "{text}");
        }
    }

    #[test]
    fn a_histogram_has_several() {
        let text = b"{a=\" # {\"} 1 12 # {} 2 # {b=\"c\"} 3 15";
        let got = read_all(text, Format::Protobuf).unwrap();
        assert_eq!(got.iter().map(|e| (e.1, e.2)).collect::<Vec<_>>(), [(1.0, Some(12)), (2.0, None), (3.0, Some(15))]);
        assert!(read(text, Format::Protobuf).is_err());
    }
}
