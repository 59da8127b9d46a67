//! The catalog: what the ids in logs and chunks mean.
//!
//! One file of frames, each with entries; it only grows while the server runs, and is written anew at a start when much of
//! it is about series that are gone. It is synced before any log that refers to it, and written before any chunk that
//! does, so a kill leaves no id without its meaning. Blocks need no catalog.
//!
//! ```text
//! frame payload:    texts (see texts.rs) | entry…                (all numbers are varints)
//! entry 1, group:   id | name of its pool | labels
//! entry 2, column:  id | own labels | count, names of dropped target labels
//! entry 3, set:     id | base set + 1, or 0
//!                   | count, places of columns that the base has and this has not, each as gap to the one before
//!                   | count of stretches of columns that this has and the base has not, of each: columns of the base
//!                     before it, since the stretch before | length | ids, each as difference to the one before
//! entry 4, series:  id | labels                                  (of samples that do not come in rows)
//! ```

use std::path::Path;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use rustc_hash::FxBuildHasher;

use super::columns::{Column, ColumnSet, ColumnSets};
use super::disk;
use super::frame::{self, FrameFile, Frames};
use super::texts::Texts;
use super::varint::{put, put_signed, Cursor};
use super::{Result, StorageError};
use crate::labels::{Labels, Str, Strings};

pub enum Entry<'a> {
    Group { id: u32, pool: &'a str, labels: &'a Labels },
    Column { id: u32, column: &'a Column },
    Set { id: u32, base: Option<(u32, &'a [u32])>, ids: &'a [u32] },
    Series { id: u32, labels: &'a Labels },
}

impl Entry<'_> {
    fn put(&self, texts: &mut Texts, out: &mut Vec<u8>) {
        match self {
            Entry::Group { id, pool, labels } => {
                put(out, 1);
                put(out, u64::from(*id));
                texts.text(out, pool);
                texts.labels(out, labels);
            }
            Entry::Column { id, column } => {
                put(out, 2);
                put(out, u64::from(*id));
                texts.labels(out, &column.own);
                put(out, column.dropped.len() as u64);
                column.dropped.iter().for_each(|n| texts.text(out, n));
            }
            Entry::Set { id, base, ids } => {
                put(out, 3);
                put(out, u64::from(*id));
                let (base_id, base_ids) = base.map_or((0, &[] as &[u32]), |b| (u64::from(b.0) + 1, b.1));
                put(out, base_id);
                put_difference(out, base_ids, ids);
            }
            Entry::Series { id, labels } => {
                put(out, 4);
                put(out, u64::from(*id));
                texts.labels(out, labels);
            }
        }
    }
}

/// How a set differs from its base. What both have stands in the same order in both.
fn put_difference(out: &mut Vec<u8>, base: &[u32], ids: &[u32]) {
    let old: HashSet<u32> = base.iter().copied().collect();
    let new: HashSet<u32> = if base.is_empty() { HashSet::new() } else { ids.iter().copied().collect() };
    let gone: Vec<usize> = (0..base.len()).filter(|i| !new.contains(&base[*i])).collect();
    put(out, gone.len() as u64);
    let mut last = 0;
    for place in gone {
        put(out, (place - last) as u64);
        last = place;
    }
    let is_new = |stretch: &[u32]| !old.contains(&stretch[0]);
    let stretches: Vec<&[u32]> = ids.chunk_by(|a, b| old.contains(a) == old.contains(b)).collect();
    put(out, stretches.iter().filter(|s| is_new(s)).count() as u64);
    let (mut kept, mut id) = (0, 0);
    for stretch in stretches {
        if !is_new(stretch) {
            kept = stretch.len();
            continue;
        }
        put(out, std::mem::take(&mut kept) as u64);
        put(out, stretch.len() as u64);
        for next in stretch {
            put_signed(out, i64::from(*next) - i64::from(id));
            id = *next;
        }
    }
}

/// The catalog's file while the storage is open.
pub struct Catalog {
    file: FrameFile,
    /// Entries of the next frame, and the texts that they refer to.
    entries: Vec<u8>,
    texts: Texts,
}

impl Catalog {
    pub fn record(&mut self, entry: &Entry<'_>) {
        entry.put(&mut self.texts, &mut self.entries);
    }

    /// Writes all that was recorded: a kill does not lose it any more.
    pub fn write(&mut self) -> Result<()> {
        if !self.entries.is_empty() {
            let mut framed = Vec::new();
            frame::put_frame(&mut framed, &self.texts.payload(&self.entries));
            self.file.append(&framed)?;
            self.entries = Vec::new();
            self.texts = Texts::default();
        }
        Ok(())
    }

    /// Makes all that was recorded durable.
    pub fn commit(&mut self) -> Result<()> {
        self.write()?;
        self.file.sync()
    }

    pub fn bytes(&self) -> u64 {
        self.file.length() + self.entries.len() as u64
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
        let (mut entries, mut texts) = (Vec::new(), Texts::default());
        let mut put = |entry: Entry<'_>| {
            entry.put(&mut texts, &mut entries);
            if entries.len() >= FRAME_ENTRIES_BYTES {
                frame::put_frame(&mut bytes, &texts.payload(&entries));
                entries.clear();
                texts = Texts::default();
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
            frame::put_frame(&mut bytes, &texts.payload(&entries));
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

/// What a column takes of the file, about: as many are expected, so that their table is not made again and again.
const COLUMN_BYTES: usize = 32;
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
    /// Where the last whole frame ends.
    good_end: usize,
}

/// Reads the catalog in a folder, or starts one.
pub fn open(path: &Path, sets: &ColumnSets) -> Result<(Catalog, Known)> {
    if !path.exists() {
        let file = FrameFile::create_whole(frame::CATALOG, path)?;
        return Ok((Catalog { file, entries: Vec::new(), texts: Texts::default() }, Known::default()));
    }
    let mut bytes = frame::read(path)?;
    let mended = frame::mend_header(frame::CATALOG, &mut bytes, path)?;
    let mut known = read(path, &bytes, sets)?;
    known.lost += mended;
    if known.lost > 0 {
        sets.skip_ids(LOST_IDS);
        frame::keep_damaged(path)?;
    }
    if mended > 0 {
        disk::replace(path, &bytes[..known.good_end])?;
    }
    let file = FrameFile::resume(path, known.good_end)?;
    Ok((Catalog { file, entries: Vec::new(), texts: Texts::default() }, known))
}

/// What a catalog's bytes say.
pub fn read(path: &Path, bytes: &[u8], sets: &ColumnSets) -> Result<Known> {
    let mut known = Known::default();
    let mut strings = Strings::default();
    let mut columns = HashMap::default();
    frame::check_header(frame::CATALOG, bytes, path)?;
    sets.expect_columns(bytes.len() / COLUMN_BYTES);
    let mut frames = Frames::new(bytes);
    for (_, payload) in frames.by_ref() {
        let mut cursor = Cursor::new(payload);
        let Ok(texts) = Texts::read(&mut cursor, &mut strings) else {
            known.lost += payload.len();
            continue;
        };
        let mut reader = Reader { texts, columns: &mut columns, column_sets: sets };
        while !cursor.is_done() {
            if reader.entry(&mut cursor, &mut known).is_err() {
                // What builds on a lost entry is lost with it; the rest of the frame cannot be told apart from it.
                known.lost += payload.len() - cursor.at().min(payload.len() - 1);
                break;
            }
        }
    }
    known.lost += frames.lost;
    known.good_end = frames.good_end;
    Ok(known)
}

/// Reads the entries of a frame.
struct Reader<'a> {
    texts: Texts,
    columns: &'a mut HashMap<u32, (Arc<Column>, u32), FxBuildHasher>,
    column_sets: &'a ColumnSets,
}

impl Reader<'_> {
    fn entry(&mut self, cursor: &mut Cursor<'_>, known: &mut Known) -> Result<()> {
        let kind = cursor.varint()?;
        let id = cursor.number()?;
        match kind {
            1 => {
                let pool = self.texts.read_text(cursor)?;
                known.groups.insert(id, (pool, self.texts.read_labels(cursor)?));
            }
            2 => {
                let own = self.texts.read_labels(cursor)?;
                let dropped: Result<Vec<Str>> = (0..cursor.count()?).map(|_| self.texts.read_text(cursor)).collect();
                let column = self.column_sets.restore_column(id, Column { own, dropped: dropped?.into() });
                self.columns.insert(id, column);
            }
            3 => {
                let base = match cursor.number()?.checked_sub(1) {
                    None => None,
                    Some(base) => Some(known.sets.get(&base).cloned().ok_or_else(|| lost(id, &format!("set {base}")))?),
                };
                let columns = self.columns_of(id, base.as_deref(), cursor)?;
                known.sets.insert(id, self.column_sets.restore_set(id, columns));
            }
            4 => {
                let labels = self.texts.read_labels(cursor)?;
                known.series.insert(id, labels);
            }
            _ => return Err(StorageError::corrupt("the catalog", format!("entry kind {kind} is unknown"))),
        }
        Ok(())
    }

    /// The columns of a set, in their order.
    fn columns_of(&self, id: u32, base: Option<&ColumnSet>, cursor: &mut Cursor<'_>) -> Result<Vec<(Arc<Column>, u32)>> {
        let mut gone = HashSet::new();
        let mut place = 0u64;
        for _ in 0..cursor.count()? {
            place = place.saturating_add(cursor.varint()?);
            gone.insert(place);
        }
        let kept = base.into_iter().flat_map(|b| b.columns.iter().zip(&b.ids)).zip(0u64..);
        let mut kept = kept.filter(|(_, place)| !gone.contains(place)).map(|((column, id), _)| (column.clone(), *id));
        let mut out = Vec::new();
        let mut next = 0i64;
        for _ in 0..cursor.count()? {
            out.extend(kept.by_ref().take(cursor.number()? as usize));
            for _ in 0..cursor.count()? {
                next = next.saturating_add(cursor.signed()?);
                let column = u32::try_from(next).ok().and_then(|next| self.columns.get(&next));
                out.push(column.cloned().ok_or_else(|| lost(id, "a column"))?);
            }
        }
        out.extend(kept);
        Ok(out)
    }
}

fn lost(set: u32, what: &str) -> StorageError {
    StorageError::corrupt("the catalog", format!("column set {set} builds on {what}, which is lost"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn column(number: u32) -> Column {
        let name = format!("{number:03}");
        Column { own: Labels::from_pairs(vec![("__name__".into(), name.as_str().into())]), dropped: Box::new([]) }
    }

    proptest! {
        #[test]
        fn sets_come_back_in_their_order(wanted in prop::collection::vec(prop::collection::btree_set(0u32..40, 0..40), 1..6)) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("catalog");
            let sets = ColumnSets::default();
            let (mut catalog, _) = open(&path, &ColumnSets::default()).unwrap();
            let mut made: Vec<Arc<ColumnSet>> = Vec::new();
            for (i, numbers) in wanted.iter().enumerate() {
                // Backwards, so that ids do not ascend.
                let columns = numbers.iter().rev().map(|n| column(*n)).collect();
                let mut record = |e: Entry<'_>| { catalog.record(&e); Ok(()) };
                let set = sets.intern(columns, &mut record).unwrap().0;
                let base = made.get(i / 2).cloned().unwrap_or_else(|| set.clone());
                made.push(sets.union(&base, |at| at % 3 > 0, &set, &mut record).unwrap());
                made.push(set);
                if i % 2 == 1 {
                    catalog.commit().unwrap();
                }
            }
            catalog.commit().unwrap();
            drop(catalog);
            let (_, known) = open(&path, &ColumnSets::default()).unwrap();
            prop_assert_eq!(known.lost, 0);
            let ids: BTreeSet<u32> = made.iter().map(|s| s.id).collect();
            prop_assert_eq!(known.sets.len(), ids.len());
            for set in made {
                prop_assert_eq!(&known.sets[&set.id].columns, &set.columns);
                prop_assert_eq!(&known.sets[&set.id].ids, &set.ids);
            }
        }
    }
}
