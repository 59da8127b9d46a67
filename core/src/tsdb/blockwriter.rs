//! Writing a block: the parts of many groups, turned round by metric.
//!
//! Chunks hold one group's columns each, and a block wants one metric's of all groups. What lies between would not fit in
//! memory for a large server, so it is done in slabs: some metrics (or some groups of one large metric) at a time, each
//! read from all parts, encoded anew in runs of up to 480 rows, and written in the block's order. Parts that are such
//! runs already are copied as they are. `blockplan` has the slabs, `blockseries` what does not come in rows, `blockfile` the file.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::block::{Block, Index, Span};
use super::blockfile::BlockFile;
use super::blockplan::Plan;
use super::blockseries::write_series;
use super::chunk::SealedChunk;
use super::disk;
use super::loose::SealedSeries;
use super::tombstones::Tombstones;
use super::Result;
use crate::histogram::Histogram;
use crate::labels::{Labels, Str, NAME};

/// Where rows of a group come from.
pub enum Source {
    Chunk { chunk: Arc<SealedChunk>, rows: Range<usize> },
    Run { block: usize, group: usize, run: usize },
}

/// Rows of a group, later ones than those of the part before.
pub struct Part {
    pub times: Vec<i64>,
    pub source: Source,
}

pub struct GroupParts {
    pub pool: Str,
    pub labels: Labels,
    pub parts: Vec<Part>,
}

/// Where samples of a series that does not come in rows come from.
pub enum SeriesSource {
    Chunk(Arc<SealedSeries>, usize),
    Block { block: usize, series: usize },
}

/// Such a series, and the times of it that belong to the block: from <= t < until.
pub struct SeriesParts {
    pub labels: Labels,
    pub sources: Vec<SeriesSource>,
    pub from: i64,
    pub until: i64,
}

/// What goes into a block.
#[derive(Default)]
pub struct Input {
    pub groups: Vec<GroupParts>,
    pub series: Vec<SeriesParts>,
    /// Those of whose samples these are histograms.
    pub histograms: Vec<SeriesParts>,
    /// What `Source::Run` refers to.
    pub blocks: Vec<(Arc<Block>, Arc<Index>)>,
}

/// Writes the block to `path`, durably, without what is deleted. Of the span, the caller gives what is not in the samples.
pub fn write(path: &Path, span: Span, mut input: Input, tombstones: &Tombstones) -> Result<()> {
    input.groups.retain(|g| !g.parts.is_empty());
    input.groups.sort_by(|a, b| (&a.pool, &a.labels).cmp(&(&b.pool, &b.labels)));
    // Within a metric in the order given: neighbours of a body lie in one pack of their chunks.
    let by_name = |a: &SeriesParts, b: &SeriesParts| a.labels.get(NAME).cmp(&b.labels.get(NAME));
    input.series.sort_by(by_name);
    input.histograms.sort_by(by_name);
    let temporary = path.with_extension("new");
    let done = BlockFile::create(&temporary, !input.histograms.is_empty()).and_then(|mut writer| {
        let plan = Plan::new(&input, tombstones)?;
        let mut index = plan.index(&input);
        for slab in plan.slabs() {
            plan.write_slab(&input, &slab, &mut index, &mut writer)?;
        }
        index.series_first = writer.columns;
        index.series = write_series::<f64>(&input.series, &input, tombstones, &mut writer)?;
        index.histograms_first = writer.columns;
        index.histograms = write_series::<Arc<Histogram>>(&input.histograms, &input, tombstones, &mut writer)?;
        writer.finish(index, span)
    });
    let folder = path.parent().unwrap_or(Path::new("."));
    let done = done.and_then(|()| disk::rename(&temporary, path)).and_then(|()| disk::sync_folder(folder));
    if let Err(e) = done {
        // The error counts; what stays behind is found out at the next start.
        let _ = disk::remove(&temporary);
        let _ = disk::remove(path);
        return Err(e);
    }
    Ok(())
}
