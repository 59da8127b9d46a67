//! The time-series database: what a scrape yields goes in as a row of a group, what a query selects comes out as arrays.
//!
//! * `columns`: the sorted series of a body, interned and shared by all targets that expose the same.
//! * `row`: a row as the difference to its predecessor; the form of both the log and the open chunk.
//! * `codec`: many rows of one column, small; the form of sealed chunks.
//! * `openchunk`, `leaf`: rows while they are being added, in memory. `chunk`, `chunkfile`: columns once sealed, in files that
//!   are mapped.
//! * `block`, `compaction`: what is older, regrouped by metric; how chunks become blocks, and blocks larger. `blockwriter`: how one
//!   is written, by `blockplan`, `blockseries` and `blockfile`.
//! * `group`: one target's rows. `loose`: samples that do not come in rows: explicit timestamps, remote writes, histograms.
//!   `sample`: numbers and histograms, as far as they differ there.
//! * `exemplars`: single observations that stand for a series.
//! * `packs`, `texts`, `bits`, `varint`: what files are made of.
//! * `disk`: every change of files and names, and what makes them durable.
//! * `frame`, `catalog`, `wal`: files that survive a kill: what the ids mean, and what is not sealed yet.
//! * `tombstones`: what was deleted.
//! * `storage`: opens, replays, commits, retires. `select`, `gather`, `found`: finds series, reads
//!   their chunks, puts samples together.
//! * `memory`: what was freed goes back.
//! * `inspect`: the files as they lie, whole or not. `survey`: the series in them, and what each takes.
//! * `extract`: what one block holds.
//! * `python`: all of this, as `_core.pyi` has it.

pub mod bits;
pub mod block;
pub mod blockfile;
pub mod blockplan;
pub mod blockseries;
pub mod blockwriter;
pub mod catalog;
pub mod chunk;
pub mod chunkfile;
pub mod codec;
pub mod columns;
pub mod compaction;
pub mod disk;
pub mod exemplars;
pub mod extract;
pub mod found;
pub mod frame;
pub mod gather;
pub mod group;
pub mod inspect;
pub mod leaf;
pub mod loose;
pub mod matcher;
pub mod memory;
pub mod openchunk;
pub mod packs;
#[cfg(test)]
mod power;
pub mod python;
pub mod row;
pub mod sample;
pub mod select;
pub mod storage;
pub mod survey;
pub mod texts;
pub mod tombstones;
pub mod varint;
pub mod wal;

use std::path::{Path, PathBuf};

/// A stale marker: the series ends here. The bits are those of Prometheus, so that markers can be exchanged.
pub const STALE_BITS: u64 = 0x7ff0_0000_0000_0002;
/// What a NaN that carries no meaning is stored as.
pub const NAN_BITS: u64 = 0x7ff8_0000_0000_0001;
/// Marks a column without a sample in a row. No sample can have it: rows come from parsers and rules, which give
/// `NAN_BITS` for every NaN that is not a stale marker, and foreign samples do not come in rows.
pub const ABSENT_BITS: u64 = 0x7ff0_0000_6162_7374;

pub const STALE: f64 = f64::from_bits(STALE_BITS);
pub const ABSENT: f64 = f64::from_bits(ABSENT_BITS);

#[inline(always)]
pub fn is_absent(value: f64) -> bool {
    value.to_bits() == ABSENT_BITS
}

#[inline(always)]
pub fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE_BITS
}

/// Whether the column has a value that a query may see.
#[inline(always)]
pub fn is_live(value: f64) -> bool {
    !is_absent(value) && !is_stale(value)
}

/// Why the storage cannot do what was asked; says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    #[error("cannot {action} {path}: {reason}")]
    File { action: &'static str, path: PathBuf, reason: String },
    #[error("cannot open {path}: another process uses this data folder ({reason}); stop it, or choose another folder")]
    Locked { path: PathBuf, reason: String },
    #[error("cannot read {what}: {reason}")]
    Corrupt { what: String, reason: String },
    #[error("cannot read {what}: {reason}; use the newer one that wrote it")]
    Newer { what: String, reason: String },
    #[error("cannot take more samples: {bytes} bytes wait to be written to {path}; free space on its disk")]
    Full { path: PathBuf, bytes: usize },
    #[error("cannot select: more than {limit} samples match; narrow the selector or the time, or raise --query.max-samples")]
    TooMany { limit: usize },
    #[error("cannot append: the storage is closed")]
    Closed,
    #[error("cannot read the regular expression {pattern:?}: {reason}")]
    Pattern { pattern: String, reason: String },
}

impl StorageError {
    pub fn file(action: &'static str, path: &Path, error: &std::io::Error) -> StorageError {
        let cure = match error.kind() {
            std::io::ErrorKind::PermissionDenied => "; let this process's user write there",
            std::io::ErrorKind::StorageFull => "; free space on its disk",
            _ => "",
        };
        StorageError::File { action, path: path.to_owned(), reason: format!("{error}{cure}") }
    }

    pub fn corrupt(what: impl Into<String>, reason: impl Into<String>) -> StorageError {
        StorageError::Corrupt { what: what.into(), reason: reason.into() }
    }
}

pub type Result<T> = std::result::Result<T, StorageError>;
