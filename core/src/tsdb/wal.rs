//! The log: what a restart needs to rebuild the rows that are not yet sealed in chunk files.
//!
//! Appends add records to a buffer; a commit compresses the buffer into one frame and syncs it, so the commit interval is
//! the most that a kill can lose. Segments are numbered; one is deleted when nothing unsealed is left in it. A group's
//! first record in each segment is full, so that a segment reads without its predecessor.
//!
//! ```text
//! frame payload:  length of the records, u32 LE | the records, zstd
//! record 1, row:      group | row number << 1 | full | time, signed | column set | length | the row (see row.rs)
//! record 2, samples:  count | series, time (signed), value (8 bytes) of each
//! record 3, histograms:  count | series, time (signed), histogram by itself (see histogram/codec.rs) of each
//! record 4, exemplars:  1 if these are all that are held, else 0 | count | each (see exemplars.rs)
//! ```

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::Arc;

use parking_lot::Mutex;

use super::disk;
use super::exemplars::{self, Exemplar};
use super::frame::{self, FrameFile, Frames};
use super::varint::{put, put_signed, Cursor};
use super::{Result, StorageError};
use crate::histogram::Histogram;
use crate::labels::Labels;

/// A segment that reached this is closed.
const SEGMENT_BYTES: u64 = 64 << 20;
/// Records that wait to be written; past this the writer does not keep up, or its disk is full.
const BUFFER_LIMIT_BYTES: usize = 256 << 20;
const LEVEL: i32 = 1;

pub struct Row<'a> {
    pub group: u32,
    pub number: u64,
    pub full: bool,
    pub time: i64,
    pub set: u32,
    pub row: &'a [u8],
}

pub enum Record<'a> {
    Row(Row<'a>),
    Samples(Vec<(u32, i64, f64)>),
    Histograms(Vec<(u32, i64, Arc<Histogram>)>),
    Exemplars { are_all: bool, exemplars: Vec<(Labels, Exemplar)> },
}

/// Where records wait. Locked for the time of a copy only.
struct Front {
    buffer: Vec<u8>,
    /// The segment that the buffer's records will go to.
    segment: u64,
}

/// The file. Locked while it is written and synced.
struct Back {
    file: FrameFile,
    /// Records of this file's segment that could not be written yet.
    pending: Vec<u8>,
    /// Whether the front is already in the next segment.
    rolling: bool,
    /// Bytes of closed segments, by number.
    closed: Vec<(u64, u64)>,
    segment: u64,
}

pub struct Wal {
    folder: PathBuf,
    front: Mutex<Front>,
    back: Mutex<Back>,
    pub bytes_written: AtomicU64,
    /// The next commit closes the segment, however short it is.
    roll: AtomicBool,
}

impl Wal {
    /// Starts the segment behind those that are there.
    pub fn open(folder: &Path, closed: Vec<(u64, u64)>) -> Result<Wal> {
        let segment = closed.last().map_or(1, |s| s.0 + 1);
        let file = FrameFile::create(frame::WAL, &segment_path(folder, segment))?;
        disk::sync_folder(folder)?;
        Ok(Wal {
            folder: folder.to_owned(),
            front: Mutex::new(Front { buffer: Vec::new(), segment }),
            back: Mutex::new(Back { file, pending: Vec::new(), rolling: false, closed, segment }),
            bytes_written: AtomicU64::new(0),
            roll: AtomicBool::new(false),
        })
    }

    /// The segment that the next record goes to.
    pub fn segment(&self) -> u64 {
        self.front.lock().segment
    }

    /// Adds a row's record to the segment given. False when the log is in the next one by now: the record must be made
    /// anew, full. Fails when too much waits to be written.
    pub fn row(&self, segment: u64, row: &Row<'_>) -> Result<bool> {
        let mut front = self.front.lock();
        if front.segment != segment {
            return Ok(false);
        }
        self.check_room(&front)?;
        let out = &mut front.buffer;
        put(out, 1);
        put(out, u64::from(row.group));
        put(out, row.number << 1 | u64::from(row.full));
        put_signed(out, row.time);
        put(out, u64::from(row.set));
        put(out, row.row.len() as u64);
        out.extend_from_slice(row.row);
        Ok(true)
    }

    /// Adds samples; returns the segment that they went to.
    pub fn samples(&self, samples: &[(u32, i64, f64)]) -> Result<u64> {
        let mut front = self.front.lock();
        self.check_room(&front)?;
        let out = &mut front.buffer;
        put(out, 2);
        put(out, samples.len() as u64);
        for (series, time, value) in samples {
            put(out, u64::from(*series));
            put_signed(out, *time);
            out.extend_from_slice(&value.to_bits().to_le_bytes());
        }
        Ok(front.segment)
    }

    /// Adds exemplars, encoded; returns the segment that they went to. `are_all`: those before them are not needed.
    pub fn exemplars(&self, are_all: bool, count: u64, exemplars: &[u8]) -> Result<u64> {
        let mut front = self.front.lock();
        self.check_room(&front)?;
        let out = &mut front.buffer;
        put(out, 4);
        put(out, u64::from(are_all));
        put(out, count);
        out.extend_from_slice(exemplars);
        Ok(front.segment)
    }

    /// Adds histograms; returns the segment that they went to.
    pub fn histograms(&self, samples: &[(u32, i64, Arc<Histogram>)]) -> Result<u64> {
        let mut front = self.front.lock();
        self.check_room(&front)?;
        let out = &mut front.buffer;
        put(out, 3);
        put(out, samples.len() as u64);
        for (series, time, histogram) in samples {
            put(out, u64::from(*series));
            put_signed(out, *time);
            histogram.encode(None, out);
        }
        Ok(front.segment)
    }

    fn check_room(&self, front: &Front) -> Result<()> {
        if front.buffer.len() < BUFFER_LIMIT_BYTES {
            return Ok(());
        }
        Err(StorageError::Full { path: self.folder.clone(), bytes: front.buffer.len() })
    }

    /// Bytes that wait to be written.
    pub fn waiting(&self) -> usize {
        self.front.lock().buffer.len()
    }

    /// Makes durable what was added before the call. `before` runs ahead of each write. What cannot be written waits for
    /// the next call.
    pub fn commit(&self, before: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        let mut back = self.back.lock();
        let back = &mut *back;
        // What an earlier call could not write goes first, and is not all there is.
        let mut taken = false;
        loop {
            if back.pending.is_empty() && !back.rolling {
                back.pending = std::mem::take(&mut self.front.lock().buffer);
                taken = true;
            }
            before()?;
            if !back.pending.is_empty() {
                let framed = compress(&back.pending)?;
                back.file.append(&framed)?;
                self.bytes_written.fetch_add(framed.len() as u64, Relaxed);
                back.pending.clear();
            }
            back.file.sync()?;
            if back.rolling {
                let file = FrameFile::create(frame::WAL, &segment_path(&self.folder, back.segment + 1))?;
                disk::sync_folder(&self.folder)?;
                back.closed.push((back.segment, back.file.length()));
                back.segment += 1;
                back.file = file;
                back.rolling = false;
            } else if back.file.length() >= SEGMENT_BYTES || self.roll.swap(false, Relaxed) {
                let mut front = self.front.lock();
                back.pending = std::mem::take(&mut front.buffer);
                front.segment += 1;
                back.rolling = true;
            } else if taken {
                return Ok(());
            }
        }
    }

    /// Has the next commit start a segment: what is sealed from then on needs none of those before.
    pub fn roll(&self) {
        self.roll.store(true, Relaxed);
    }

    /// The oldest segment that is there.
    pub fn oldest_segment(&self) -> u64 {
        let back = self.back.lock();
        back.closed.first().map_or(back.segment, |s| s.0)
    }

    /// Deletes the closed segments before this one.
    pub fn truncate(&self, needed: u64) -> Result<()> {
        let mut back = self.back.lock();
        while let Some(&(number, _)) = back.closed.first().filter(|s| s.0 < needed) {
            let path = segment_path(&self.folder, number);
            disk::remove(&path)?;
            back.closed.remove(0);
        }
        Ok(())
    }

    /// Bytes of all segments, and how many there are.
    pub fn size(&self) -> (u64, usize) {
        let back = self.back.lock();
        (back.file.length() + back.closed.iter().map(|s| s.1).sum::<u64>(), back.closed.len() + 1)
    }
}

fn segment_path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:08}.wal"))
}

fn compress(records: &[u8]) -> Result<Vec<u8>> {
    let mut payload = (records.len() as u32).to_le_bytes().to_vec();
    let packed = zstd::bulk::compress(records, LEVEL).map_err(|e| StorageError::corrupt("log records", e.to_string()))?;
    payload.extend_from_slice(&packed);
    let mut framed = Vec::with_capacity(payload.len() + frame::FRAME_BYTES);
    frame::put_frame(&mut framed, &payload);
    Ok(framed)
}

/// The segments in a folder, ascending.
pub fn segments(folder: &Path) -> Result<Vec<(u64, PathBuf)>> {
    disk::numbered(folder, "wal")
}

/// Fails if a newer program wrote the segment; whatever else is wrong with it is found by `replay`.
pub fn check(path: &Path) -> Result<()> {
    let mut head = Vec::new();
    let read = File::open(path).and_then(|f| f.take(frame::HEADER_BYTES as u64).read_to_end(&mut head));
    read.map_err(|e| StorageError::file("read", path, &e))?;
    match frame::check_header(frame::WAL, &head, path) {
        Err(e @ StorageError::Newer { .. }) => Err(e),
        _ => Ok(()),
    }
}

/// Gives each record of a segment to `each`; returns how many bytes were damaged.
pub fn replay(path: &Path, each: &mut dyn FnMut(Record<'_>) -> Result<()>) -> Result<usize> {
    let bytes = frame::read(path)?;
    if bytes.len() < frame::HEADER_BYTES {
        // Killed while the segment was being made: nothing was in it.
        return Ok(bytes.len());
    }
    frame::check_header(frame::WAL, &bytes, path)?;
    let mut frames = Frames::new(&bytes);
    let mut bad = 0;
    for (_, payload) in frames.by_ref() {
        if replay_frame(payload, each).is_err() {
            bad += payload.len();
        }
    }
    Ok(frames.lost + bad)
}

/// Gives each record of one frame to `each`.
pub fn replay_frame(payload: &[u8], each: &mut dyn FnMut(Record<'_>) -> Result<()>) -> Result<()> {
    let mut cursor = Cursor::new(payload);
    let length = cursor.u32()? as usize;
    let records =
        zstd::bulk::decompress(&payload[4..], length).map_err(|e| StorageError::corrupt("log records", e.to_string()))?;
    let mut cursor = Cursor::new(&records);
    while !cursor.is_done() {
        match cursor.varint()? {
            1 => {
                let group = cursor.number()?;
                let number = cursor.varint()?;
                let time = cursor.signed()?;
                let set = cursor.number()?;
                let length = cursor.count()?;
                each(Record::Row(Row {
                    group,
                    number: number >> 1,
                    full: number & 1 == 1,
                    time,
                    set,
                    row: cursor.take(length)?,
                }))?;
            }
            2 => {
                let count = cursor.count()?;
                let samples: Result<Vec<_>> =
                    (0..count).map(|_| Ok((cursor.number()?, cursor.signed()?, f64::from_bits(cursor.u64()?)))).collect();
                each(Record::Samples(samples?))?;
            }
            4 => {
                let are_all = cursor.varint()? == 1;
                let count = cursor.count()?;
                each(Record::Exemplars { are_all, exemplars: exemplars::read(&mut cursor, count)? })?;
            }
            3 => {
                let count = cursor.count()?;
                let samples: Result<Vec<_>> = (0..count)
                    .map(|_| Ok((cursor.number()?, cursor.signed()?, Arc::new(Histogram::decode(None, &mut cursor)?))))
                    .collect();
                each(Record::Histograms(samples?))?;
            }
            kind => return Err(StorageError::corrupt("log records", format!("record kind {kind} is unknown"))),
        }
    }
    Ok(())
}
