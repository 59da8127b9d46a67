//! The catalog: what the ids in logs and chunks mean.
//!
//! One file of frames, each with entries; it only grows while the server runs, and is written anew at a start when much of
//! it is about series that are gone. It is synced before any log that refers to it, and written before any chunk that
//! does, so a kill leaves no id without its meaning. Blocks need no catalog.
//!
//! ```text
//! entry 1, group:   id | name of its pool | labels
//! entry 2, column:  id | own labels | count, names of dropped target labels
//! entry 3, set:     id | base set + 1, or 0 | count, ids that the base has and this has not | count, ids that this has alone
//! entry 4, series:  id | labels                                  (of samples that do not come in rows)
//! labels:           count, then name and value of each           (all numbers are varints, texts have their length first)
//! ```

use std::path::Path;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

use super::columns::{Column, ColumnSet, ColumnSets};
use super::disk;
use super::frame::{self, FrameFile, Frames};
use super::varint::{put, put_text, Cursor};
use super::{Result, StorageError};
use crate::labels::{Labels, Str, Strings};

pub enum Entry<'a> {
    Group { id: u32, pool: &'a str, labels: &'a Labels },
    Column { id: u32, column: &'a Column },
    Set { id: u32, base: Option<(u32, &'a [u32])>, ids: &'a [u32] },
    Series { id: u32, labels: &'a Labels },
}

impl Entry<'_> {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Entry::Group { id, pool, labels } => {
                put(out, 1);
                put(out, u64::from(*id));
                put_text(out, pool);
                put_labels(out, labels);
            }
            Entry::Column { id, column } => {
                put(out, 2);
                put(out, u64::from(*id));
                put_labels(out, &column.own);
                put(out, column.dropped.len() as u64);
                column.dropped.iter().for_each(|n| put_text(out, n));
            }
            Entry::Set { id, base, ids } => {
                put(out, 3);
                put(out, u64::from(*id));
                let (base_id, base_ids) = base.map_or((0, &[] as &[u32]), |b| (u64::from(b.0) + 1, b.1));
                let old: HashSet<u32> = base_ids.iter().copied().collect();
                let new: HashSet<u32> = ids.iter().copied().collect();
                put(out, base_id);
                let mut list = |ids: Vec<u32>| {
                    put(out, ids.len() as u64);
                    ids.iter().for_each(|i| put(out, u64::from(*i)));
                };
                list(base_ids.iter().copied().filter(|i| !new.contains(i)).collect());
                list(ids.iter().copied().filter(|i| !old.contains(i)).collect());
            }
            Entry::Series { id, labels } => {
                put(out, 4);
                put(out, u64::from(*id));
                put_labels(out, labels);
            }
        }
    }
}

pub fn put_labels(out: &mut Vec<u8>, labels: &Labels) {
    put(out, labels.len() as u64);
    for (name, value) in labels.iter() {
        put_text(out, name);
        put_text(out, value);
    }
}

/// The catalog's file while the storage is open.
pub struct Catalog {
    file: FrameFile,
    buffer: Vec<u8>,
}

impl Catalog {
    pub fn record(&mut self, entry: &Entry<'_>) {
        entry.put(&mut self.buffer);
    }

    /// Writes all that was recorded: a kill does not lose it any more.
    pub fn write(&mut self) -> Result<()> {
        if !self.buffer.is_empty() {
            let mut framed = Vec::with_capacity(self.buffer.len() + frame::FRAME_BYTES);
            frame::put_frame(&mut framed, &self.buffer);
            self.file.append(&framed)?;
            self.buffer.clear();
        }
        Ok(())
    }

    /// Makes all that was recorded durable.
    pub fn commit(&mut self) -> Result<()> {
        self.write()?;
        self.file.sync()
    }

    pub fn bytes(&self) -> u64 {
        self.file.length() + self.buffer.len() as u64
    }

    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Writes the file anew with what is used, if that is less than half of it.
    pub fn shrink(&mut self, known: &Known, used: &Used) -> Result<()> {
        let all = known.groups.len() + known.sets.len() + known.series.len();
        if all <= SMALL || used.count() * 2 > all {
            return Ok(());
        }
        let path = self.file.path().to_owned();
        let mut bytes = frame::header(frame::CATALOG).to_vec();
        let mut entries = Vec::new();
        let mut put = |entry: Entry<'_>| {
            entry.put(&mut entries);
            if entries.len() >= FRAME_ENTRIES_BYTES {
                frame::put_frame(&mut bytes, &entries);
                entries.clear();
            }
        };
        for (id, (pool, labels)) in known.groups.iter().filter(|g| used.groups.contains(g.0)) {
            put(Entry::Group { id: *id, pool, labels });
        }
        let mut written = HashSet::new();
        for (id, set) in known.sets.iter().filter(|s| used.sets.contains(s.0)) {
            for (column, id) in set.columns.iter().zip(&set.ids).filter(|c| written.insert(*c.1)) {
                put(Entry::Column { id: *id, column });
            }
            put(Entry::Set { id: *id, base: None, ids: &set.ids });
        }
        for (id, labels) in known.series.iter().filter(|s| used.series.contains(s.0)) {
            put(Entry::Series { id: *id, labels });
        }
        if !entries.is_empty() {
            frame::put_frame(&mut bytes, &entries);
        }
        disk::replace(&path, &bytes)?;
        self.file = FrameFile::resume(&path, bytes.len())?;
        Ok(())
    }
}

/// Ids that chunks or the log refer to.
#[derive(Default)]
pub struct Used {
    pub groups: HashSet<u32>,
    pub sets: HashSet<u32>,
    pub series: HashSet<u32>,
}

impl Used {
    fn count(&self) -> usize {
        self.groups.len() + self.sets.len() + self.series.len()
    }
}

/// Entries that are not worth writing a file for.
const SMALL: usize = 1000;
const FRAME_ENTRIES_BYTES: usize = 1 << 20;

/// After damage, ids that lost entries may have had are not given out again.
pub const LOST_IDS: u32 = 1 << 20;

/// What a catalog says.
#[derive(Default)]
pub struct Known {
    pub groups: HashMap<u32, (Str, Labels)>,
    pub sets: HashMap<u32, Arc<ColumnSet>>,
    pub series: HashMap<u32, Labels>,
    /// Bytes that were damaged and passed over.
    pub lost: usize,
}

/// Reads the catalog in a folder, or starts one.
pub fn open(path: &Path, sets: &ColumnSets) -> Result<(Catalog, Known)> {
    let mut known = Known::default();
    if !path.exists() {
        let file = FrameFile::create_whole(frame::CATALOG, path)?;
        return Ok((Catalog { file, buffer: Vec::new() }, known));
    }
    let mut bytes = frame::read(path)?;
    let mended = frame::mend_header(frame::CATALOG, &mut bytes, path)?;
    let mut reader = Reader { columns: HashMap::new(), strings: Strings::default(), column_sets: sets };
    let mut frames = Frames::new(&bytes);
    for (_, payload) in frames.by_ref() {
        let mut cursor = Cursor::new(payload);
        while !cursor.is_done() {
            if reader.entry(&mut cursor, &mut known).is_err() {
                // What builds on a lost entry is lost with it; the rest of the frame cannot be told apart from it.
                known.lost += payload.len() - cursor.at().min(payload.len() - 1);
                break;
            }
        }
    }
    known.lost += frames.lost + mended;
    if known.lost > 0 {
        sets.skip_ids(LOST_IDS);
        frame::keep_damaged(path)?;
    }
    if mended > 0 {
        disk::replace(path, &bytes[..frames.good_end])?;
    }
    let file = FrameFile::resume(path, frames.good_end)?;
    Ok((Catalog { file, buffer: Vec::new() }, known))
}

struct Reader<'a> {
    columns: HashMap<u32, Arc<Column>>,
    strings: Strings,
    column_sets: &'a ColumnSets,
}

impl Reader<'_> {
    fn entry(&mut self, cursor: &mut Cursor<'_>, known: &mut Known) -> Result<()> {
        let kind = cursor.varint()?;
        let id = cursor.number()?;
        match kind {
            1 => {
                let pool = self.strings.intern(cursor.text()?);
                let labels = self.labels(cursor)?;
                known.groups.insert(id, (pool, labels));
            }
            2 => {
                let own = self.labels(cursor)?;
                let dropped: Result<Vec<Str>> = (0..cursor.count()?).map(|_| Ok(self.strings.intern(cursor.text()?))).collect();
                let column = self.column_sets.restore_column(id, Column { own, dropped: dropped?.into() });
                self.columns.insert(id, column);
            }
            3 => {
                let base = cursor.number()?;
                let mut ids: HashSet<u32> = match base.checked_sub(1) {
                    None => HashSet::new(),
                    Some(base) => match known.sets.get(&base) {
                        Some(set) => set.ids.iter().copied().collect(),
                        None => {
                            return Err(StorageError::corrupt(
                                "the catalog",
                                format!("column set {id} builds on {base}, which is lost"),
                            ))
                        }
                    },
                };
                for _ in 0..cursor.count()? {
                    ids.remove(&cursor.number()?);
                }
                for _ in 0..cursor.count()? {
                    ids.insert(cursor.number()?);
                }
                let columns: Option<Vec<_>> = ids.iter().map(|i| self.columns.get(i).map(|c| (c.clone(), *i))).collect();
                let mut columns = columns
                    .ok_or_else(|| StorageError::corrupt("the catalog", format!("column set {id} has a column that is lost")))?;
                columns.sort();
                known.sets.insert(id, self.column_sets.restore_set(id, columns));
            }
            4 => {
                let labels = self.labels(cursor)?;
                known.series.insert(id, labels);
            }
            _ => return Err(StorageError::corrupt("the catalog", format!("entry kind {kind} is unknown"))),
        }
        Ok(())
    }

    fn labels(&mut self, cursor: &mut Cursor<'_>) -> Result<Labels> {
        read_labels(cursor, &mut self.strings)
    }
}

pub fn read_labels(cursor: &mut Cursor<'_>, strings: &mut Strings) -> Result<Labels> {
    let pairs: Result<Vec<(Str, Str)>> =
        (0..cursor.count()?).map(|_| Ok((strings.intern(cursor.text()?), strings.intern(cursor.text()?)))).collect();
    Ok(Labels::from_pairs(pairs?))
}
