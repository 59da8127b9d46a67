//! What one block holds, and no other: an archive writes each block once, so it must not have what lies over it elsewhere.
//!
//! A query sees all blocks as one; here a late block's samples stand for themselves. Deleted samples are left out.

use std::sync::Arc;

use super::block::{Block, BlockSeries, Index};
use super::found::Selected;
use super::matcher::Selector;
use super::select::select_of_block;
use super::storage::Inner;
use super::Result;
use crate::labels::{Labels, Str, NAME};

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
    /// Those of its series that do not come in rows.
    fn series(&self) -> impl Iterator<Item = &BlockSeries> {
        self.index.series.iter().chain(&self.index.histograms)
    }

    /// The names of its metrics, sorted.
    pub fn metrics(&self) -> Vec<String> {
        let rows = self.index.metrics.iter().map(|m| self.index.columns[m.0.start as usize].name());
        let mut names: Vec<String> = rows.chain(self.series().map(BlockSeries::name)).map(str::to_owned).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The names of its labels, sorted.
    pub fn label_names(&self) -> Vec<String> {
        let index = &self.index;
        let all = index.columns.iter().map(|c| &c.own);
        let all = all.chain(index.groups.iter().map(|g| &g.labels)).chain(self.series().map(|s| &s.labels));
        let names: std::collections::BTreeSet<&Str> = all.flat_map(Labels::iter).map(|pair| &pair.0).collect();
        names.into_iter().map(|n| n.to_string()).collect()
    }

    /// The samples of a metric with start <= t <= end.
    pub fn select(&self, storage: &Inner, name: &str, start: i64, end: i64, limit: usize) -> Result<Selected> {
        let selector = Selector::new(vec![(NAME.to_owned(), "=".to_owned(), name.to_owned())])?;
        select_of_block(storage, &self.block, &selector, start, end, limit)
    }
}
