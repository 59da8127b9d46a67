//! What one block holds, and no other: an archive writes each block once, so it must not have what lies over it elsewhere.
//!
//! A query sees all blocks as one; here a late block's samples stand for themselves. Deleted samples are left out.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::block::{Block, BlockSeries, Index, PackReader};
use super::blockwriter::read_entry;
use super::chunk::within;
use super::codec::Decoder;
use super::found::Selected;
use super::storage::Inner;
use super::tombstones::is_deleted;
use super::varint::Cursor;
use super::{is_absent, Result, StorageError};
use crate::labels::{Labels, Str};

/// A block and its index.
pub struct Extract {
    block: Arc<Block>,
    index: Arc<Index>,
}

impl Inner {
    pub fn blocks(&self) -> Vec<Arc<Block>> {
        self.layout.read().blocks.clone()
    }

    /// None when there is no such block, or no more: blocks are merged.
    pub fn extract(&self, number: u64) -> Result<Option<Extract>> {
        let block = self.blocks().into_iter().find(|b| b.number == number);
        block.map(|block| Ok(Extract { index: block.index(self.now())?, block })).transpose()
    }
}

impl Extract {
    /// The names of its metrics, sorted.
    pub fn metrics(&self) -> Vec<String> {
        let rows = self.index.metrics.iter().map(|m| self.index.columns[m.0.start as usize].name());
        let mut names: Vec<String> = rows.chain(self.index.series.iter().map(BlockSeries::name)).map(str::to_owned).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The names of its labels, sorted.
    pub fn label_names(&self) -> Vec<String> {
        let index = &self.index;
        let all = index.columns.iter().map(|c| &c.own);
        let all = all.chain(index.groups.iter().map(|g| &g.labels)).chain(index.series.iter().map(|s| &s.labels));
        let names: std::collections::BTreeSet<&Str> = all.flat_map(Labels::iter).map(|pair| &pair.0).collect();
        names.into_iter().map(|n| n.to_string()).collect()
    }

    /// The samples of a metric with start <= t <= end; of those at one time the first counts.
    pub fn select(&self, storage: &Inner, name: &str, start: i64, end: i64, limit: usize) -> Result<Selected> {
        let index = &self.index;
        let (mut reader, mut decoder, mut values) = (PackReader::new(&self.block, index), Decoder::default(), Vec::new());
        let mut found: BTreeMap<Labels, Vec<(i64, f64)>> = BTreeMap::new();
        let mut total = 0;
        let mut add = |labels: Labels, samples: &mut dyn Iterator<Item = (i64, f64)>| {
            let deleted = storage.tombstones.of(&labels);
            let kept = samples.filter(|s| !is_absent(s.1) && !deleted.as_ref().is_some_and(|spans| is_deleted(spans, s.0)));
            let mut kept = kept.peekable();
            if kept.peek().is_some() {
                let of = found.entry(labels).or_default();
                let before = of.len();
                of.extend(kept);
                total += of.len() - before;
            }
            if limit > 0 && total > limit {
                Err(StorageError::TooMany { limit })
            } else {
                Ok(())
            }
        };
        for metric in index.of_metric(Some(name)) {
            let range = &index.metrics[metric].0;
            for (group, mut number) in index.groups.iter().zip(index.bases(metric, &index.places(metric))) {
                let set = &index.sets[group.set as usize];
                for column in &set[Index::in_set(set, range)] {
                    let labels = index.columns[*column as usize].series(&group.labels);
                    for run in &group.runs {
                        let rows = within(&run.times, start, end);
                        if !rows.is_empty() {
                            decoder.decode(&mut Cursor::new(reader.column(number)?), run.times.len(), &mut values)?;
                            add(labels.clone(), &mut rows.map(|at| (run.times[at], values[at])))?;
                        }
                        number += 1;
                    }
                }
            }
        }
        let bases = index.series_bases();
        for at in index.series_of(Some(name)) {
            let series = &index.series[at];
            for (number, entry) in (bases[at]..).zip(&series.entries) {
                if entry.start <= end && entry.end >= start {
                    let samples = read_entry(reader.column(number)?, entry, &mut decoder)?;
                    add(series.labels.clone(), &mut samples.into_iter().filter(|s| s.0 >= start && s.0 <= end))?;
                }
            }
        }
        let mut out = Selected { offsets: vec![0], ..Selected::default() };
        for (labels, mut samples) in found {
            if samples.windows(2).any(|w| w[0].0 >= w[1].0) {
                samples.sort_by_key(|s| s.0);
                samples.dedup_by_key(|s| s.0);
            }
            out.labels.push(labels);
            out.times.extend(samples.iter().map(|s| s.0));
            out.values.extend(samples.iter().map(|s| s.1));
            out.offsets.push(out.times.len() as i64);
        }
        Ok(out)
    }
}
