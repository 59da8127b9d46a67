//! Deleted samples: which series, and from when to when.
//!
//! A deletion is written down and hides the samples at once; blocks that are written from then on leave them out, and
//! `clean` has all blocks written anew. A deletion reaches to the last sample that a series has at its time: what comes
//! later is there to be seen.
//!
//! ```text
//! file of frames (see frame.rs); payload:  texts (see texts.rs) | count | labels, start, end (signed) of each
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::RwLock;
use rustc_hash::FxBuildHasher;

use super::disk;
use super::frame::{self, FrameFile, Frames};
use super::texts::Texts;
use super::varint::{put, put_signed, Cursor};
use super::{Result, StorageError, ABSENT};
use crate::labels::{Labels, Strings};

/// Spans of deleted samples, both ends included; sorted, none touches another.
pub type Spans = Arc<[(i64, i64)]>;

/// What is deleted of each series.
pub type Known = HashMap<Labels, Spans, FxBuildHasher>;

/// All deletions of a storage.
pub struct Tombstones {
    path: PathBuf,
    known: RwLock<Known>,
}

impl Tombstones {
    pub fn open(path: &Path, lost: &mut dyn FnMut(String)) -> Result<Tombstones> {
        let mut known = HashMap::default();
        if path.exists() {
            let mut bytes = frame::read(path)?;
            let mended = frame::mend_header(frame::TOMBSTONES, &mut bytes, path)?;
            let mut frames = Frames::new(&bytes);
            let mut damaged = 0;
            for (_, payload) in frames.by_ref() {
                if read(payload, &mut known).is_err() {
                    damaged += payload.len();
                }
            }
            damaged += frames.lost + mended;
            if damaged > 0 {
                let aside = frame::keep_damaged(path)?;
                lost(format!(
                    "{damaged} bytes of {} were damaged; what they deleted can be seen again; a copy is kept as {}",
                    path.display(),
                    aside.display()
                ));
            }
            if mended > 0 {
                disk::replace(path, &bytes)?;
            }
        }
        Ok(Tombstones { path: path.to_owned(), known: RwLock::new(known) })
    }

    pub fn is_empty(&self) -> bool {
        self.known.read().is_empty()
    }

    pub fn count(&self) -> usize {
        self.known.read().len()
    }

    /// What is deleted of a series; None is nothing.
    pub fn of(&self, labels: &Labels) -> Option<Spans> {
        self.known.read().get(labels).cloned()
    }

    /// Whether anything between these times is deleted.
    pub fn touch(&self, from: i64, to: i64) -> bool {
        self.known.read().values().any(|spans| spans.iter().any(|s| s.0 <= to && s.1 >= from))
    }

    /// Deletes, durably.
    pub fn add(&self, deleted: &[(Labels, i64, i64)]) -> Result<()> {
        let mut known = self.known.write();
        let mut file = match self.path.exists() {
            true => FrameFile::resume(&self.path, self.path.metadata().map_or(0, |m| m.len()) as usize)?,
            false => FrameFile::create_whole(frame::TOMBSTONES, &self.path)?,
        };
        let mut framed = Vec::new();
        for part in deleted.chunks(PART) {
            frame::put_frame(&mut framed, &encode(part));
        }
        file.append(&framed)?;
        file.sync()?;
        self.path.parent().map_or(Ok(()), disk::sync_folder)?;
        deleted.iter().for_each(|(labels, start, end)| insert(&mut known, labels.clone(), *start, *end));
        Ok(())
    }

    /// A durable copy of the file, if there is one.
    pub fn copy(&self, target: &Path) -> Result<()> {
        let _still = self.known.read();
        match self.path.exists() {
            true => disk::replace(target, &frame::read(&self.path)?),
            false => Ok(()),
        }
    }

    /// Forgets what is deleted before this time, since it is nowhere any more.
    pub fn forget(&self, before: i64) -> Result<()> {
        let mut known = self.known.write();
        let mut left: HashMap<Labels, Spans, FxBuildHasher> = HashMap::default();
        for (labels, spans) in known.iter() {
            for (start, end) in spans.iter().filter(|s| s.1 >= before) {
                insert(&mut left, labels.clone(), (*start).max(before), *end);
            }
        }
        if left == *known {
            return Ok(());
        }
        let all: Vec<(Labels, i64, i64)> =
            left.iter().flat_map(|(labels, spans)| spans.iter().map(|s| (labels.clone(), s.0, s.1))).collect();
        let mut bytes = frame::header(frame::TOMBSTONES).to_vec();
        all.chunks(PART).for_each(|part| frame::put_frame(&mut bytes, &encode(part)));
        disk::replace(&self.path, &bytes)?;
        *known = left;
        Ok(())
    }
}

/// Deletions that share a frame.
const PART: usize = 10_000;

fn encode(deleted: &[(Labels, i64, i64)]) -> Vec<u8> {
    let (mut out, mut texts) = (Vec::new(), Texts::default());
    put(&mut out, deleted.len() as u64);
    for (labels, start, end) in deleted {
        texts.labels(&mut out, labels);
        put_signed(&mut out, *start);
        put_signed(&mut out, *end);
    }
    texts.payload(&out)
}

/// Adds what a frame says.
pub fn read(payload: &[u8], known: &mut Known) -> Result<()> {
    let mut cursor = Cursor::new(payload);
    let texts = Texts::read(&mut cursor, &mut Strings::default())?;
    for _ in 0..cursor.count()? {
        let labels = texts.read_labels(&mut cursor)?;
        let (start, end) = (cursor.signed()?, cursor.signed()?);
        if start > end {
            return Err(StorageError::corrupt("a deletion", "it ends before it starts"));
        }
        insert(known, labels, start, end);
    }
    Ok(())
}

fn insert(known: &mut HashMap<Labels, Spans, FxBuildHasher>, labels: Labels, start: i64, end: i64) {
    let before = known.get(&labels).map_or(&[][..], |s| s);
    let mut all: Vec<(i64, i64)> = before.iter().copied().chain([(start, end)]).collect();
    all.sort_unstable();
    let mut merged: Vec<(i64, i64)> = Vec::with_capacity(all.len());
    for span in all {
        match merged.last_mut() {
            Some(last) if span.0 <= last.1.saturating_add(1) => last.1 = last.1.max(span.1),
            _ => merged.push(span),
        }
    }
    known.insert(labels, merged.into());
}

/// Whether a time is in one of the spans.
pub fn is_deleted(spans: &[(i64, i64)], time: i64) -> bool {
    let at = spans.partition_point(|s| s.1 < time);
    spans.get(at).is_some_and(|s| s.0 <= time)
}

/// Takes the deleted samples out of a column.
pub fn blank(spans: &[(i64, i64)], times: &[i64], values: &mut [f64]) {
    for (time, value) in times.iter().zip(values) {
        if is_deleted(spans, *time) {
            *value = ABSENT;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(name: &str) -> Labels {
        Labels::from_pairs(vec![("__name__".into(), name.into())])
    }

    #[test]
    fn deletions_come_back_and_spans_that_touch_are_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tombstones");
        let open = || Tombstones::open(&path, &mut |loss| panic!("{loss}")).unwrap();
        let tombstones = open();
        tombstones.add(&[(series("a"), 10, 20), (series("b"), -5, 5)]).unwrap();
        tombstones.add(&[(series("a"), 40, 50)]).unwrap();
        tombstones.add(&[(series("a"), 21, 30)]).unwrap();
        for tombstones in [tombstones, open()] {
            assert_eq!(tombstones.of(&series("a")).unwrap()[..], [(10, 30), (40, 50)]);
            assert_eq!(tombstones.of(&series("c")), None);
            let spans = tombstones.of(&series("a")).unwrap();
            let deleted: Vec<i64> = (8..52).filter(|t| is_deleted(&spans, *t)).collect();
            assert_eq!(deleted, (10..=30).chain(40..=50).collect::<Vec<_>>());
            assert!(tombstones.touch(30, 39) && !tombstones.touch(31, 39));
        }
        open().forget(25).unwrap();
        assert_eq!(open().of(&series("a")).unwrap()[..], [(25, 30), (40, 50)]);
        assert_eq!(open().count(), 1);
    }
}
