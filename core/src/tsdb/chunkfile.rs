//! Files of sealed chunks. They are appended to, then mapped and read as they lie, and deleted as a whole when all in
//! them is older than the retention.
//!
//! ```text
//! file:  header (see frame.rs) | chunk…
//! ```
//! Each chunk's head has its own length and checksum, and each pack another: opening a file reads heads only. The file
//! being written is mapped at its full size from the start; its unwritten rest is a hole, which no reader touches.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::Arc;

use memmap2::{Mmap, MmapMut};
use parking_lot::Mutex;

use super::chunk::SealedChunk;
use super::disk::{self, DiskFile};
use super::frame::{check_header, header, CHUNKS, HEADER_BYTES};
use super::loose::SealedSeries;
use super::varint::Cursor;
use super::{Result, StorageError};

/// A file that reached this is closed.
const FILE_BYTES: u64 = if cfg!(test) { 32 << 10 } else { 128 << 20 };
/// A file older than this is closed, so that retention has files to delete.
const FILE_MILLISECONDS: i64 = 2 * 3600 * 1000;

/// One file, mapped. Its newest and oldest times decide when it goes.
pub struct ChunkFile {
    pub number: u64,
    path: PathBuf,
    file: File,
    map: Mmap,
    used: AtomicU64,
    newest: AtomicI64,
    oldest: AtomicI64,
    /// Set when the file was deleted; chunks in it are no longer listed.
    pub retired: AtomicBool,
}

/// Bytes of a mapped file that keep it mapped.
#[derive(Clone)]
pub struct Mapped {
    pub file: Arc<ChunkFile>,
    start: u64,
    length: u64,
}

impl Mapped {
    pub fn bytes(&self) -> &[u8] {
        &self.file.map[self.start as usize..(self.start + self.length) as usize]
    }

    pub fn size(&self) -> u64 {
        self.length
    }

    /// Some of the bytes, read from the file and not through the mapping.
    pub fn copy(&self, range: Range<usize>) -> Result<Vec<u8>> {
        if range.end as u64 > self.length {
            return Err(StorageError::corrupt("a chunk", "a pack lies outside"));
        }
        let mut out = vec![0; range.len()];
        let read = self.file.file.read_exact_at(&mut out, self.start + range.start as u64);
        read.map_err(|e| StorageError::file("read", &self.file.path, &e))?;
        Ok(out)
    }
}

/// What a chunk file holds.
pub enum Sealed {
    Rows(SealedChunk),
    Series(SealedSeries),
}

impl ChunkFile {
    fn map(number: u64, path: &Path, file: &File, used: u64) -> Result<ChunkFile> {
        // SAFETY: the folder is locked against other processes, and a file is truncated only where nothing was written.
        let map = unsafe { Mmap::map(file) }.map_err(|e| StorageError::file("map", path, &e))?;
        let file = file.try_clone().map_err(|e| StorageError::file("open", path, &e))?;
        Ok(ChunkFile::of(number, path, file, map, used))
    }

    fn of(number: u64, path: &Path, file: File, map: Mmap, used: u64) -> ChunkFile {
        ChunkFile {
            number,
            path: path.to_owned(),
            file,
            map,
            used: AtomicU64::new(used),
            newest: AtomicI64::new(i64::MIN),
            oldest: AtomicI64::new(i64::MAX),
            retired: AtomicBool::new(false),
        }
    }

    pub fn newest(&self) -> i64 {
        self.newest.load(Relaxed)
    }

    pub fn bytes(&self) -> u64 {
        self.used.load(Relaxed)
    }

    fn covers(&self, start: i64, end: i64) {
        self.oldest.fetch_min(start, Relaxed);
        self.newest.fetch_max(end, Relaxed);
    }

    /// The chunk that starts here and where the next one does; None at the end of what was written.
    fn chunk_at(self: &Arc<ChunkFile>, start: u64) -> Result<Option<(Sealed, u64)>> {
        let damaged = |reason: &str| StorageError::corrupt(format!("{} at byte {start}", self.path.display()), reason);
        let rest = self.map.get(start as usize..).unwrap_or(&[]);
        let mut cursor = Cursor::new(rest);
        if rest.len() < 8 {
            return Ok(None);
        }
        let (length, crc) = (cursor.u32()? as usize, cursor.u32()?);
        if length == 0 && crc == 0 {
            return Ok(None);
        }
        let head = cursor.take(length).map_err(|_| damaged("the head of a chunk is cut off"))?;
        if crc32fast::hash(head) != crc {
            return Err(damaged("the checksum of a chunk's head is wrong"));
        }
        // The packs' lengths stand at the end of the head: parse once to learn how long the chunk is.
        let whole = Mapped { file: self.clone(), start, length: rest.len() as u64 };
        let sealed = parse(head, 8 + length, whole)?;
        let (end, first, last) = match &sealed {
            Sealed::Rows(chunk) => (chunk.mapped().size(), chunk.start, chunk.end),
            Sealed::Series(chunk) => (chunk.mapped().size(), chunk.start, chunk.end),
        };
        if end > rest.len() as u64 {
            return Err(damaged("a chunk is cut off"));
        }
        self.covers(first, last);
        Ok(Some((sealed, start + end)))
    }
}

/// Gives each chunk of a file with its place to `each`; what is no chunk is the last. It reads a copy: another process may
/// write to the file, or cut it.
pub fn examine(path: &Path, each: &mut dyn FnMut(u64, Result<Sealed>) -> Result<()>) -> Result<()> {
    let failed = |e: &std::io::Error| StorageError::file("read", path, e);
    let mut file = File::open(path).map_err(|e| failed(&e))?;
    let length = file.metadata().map_err(|e| failed(&e))?.len() as usize;
    let mut copy = MmapMut::map_anon(length.max(HEADER_BYTES)).map_err(|e| failed(&e))?;
    let mut read = 0;
    while read < length {
        match file.read(&mut copy[read..length]).map_err(|e| failed(&e))? {
            0 => break,
            more => read += more,
        }
    }
    let map = copy.make_read_only().map_err(|e| failed(&e))?;
    check_header(CHUNKS, &map[..read.min(HEADER_BYTES)], path)?;
    let number = path.file_stem().and_then(|s| s.to_str()).and_then(|s| s.parse().ok()).unwrap_or(0);
    let copied = Arc::new(ChunkFile::of(number, path, file, map, length as u64));
    let mut at = HEADER_BYTES as u64;
    loop {
        match copied.chunk_at(at) {
            Ok(None) => {
                // What is no chunk yet is a hole.
                let rest = &copied.map[at as usize..];
                if rest.iter().any(|b| *b != 0) {
                    let reason = format!("{} bytes are no chunk", rest.len());
                    return each(at, Err(StorageError::corrupt(path.display().to_string(), reason)));
                }
                return Ok(());
            }
            Ok(Some((sealed, next))) => {
                each(at, Ok(sealed))?;
                at = next;
            }
            Err(e) => return each(at, Err(e)),
        }
    }
}

fn parse(head: &[u8], head_end: usize, whole: Mapped) -> Result<Sealed> {
    let mut cursor = Cursor::new(head);
    match cursor.byte()? {
        1 => SealedChunk::parse(&mut cursor, head_end, whole).map(Sealed::Rows),
        kind @ (2 | 3) => SealedSeries::parse(kind, &mut cursor, head_end, whole).map(Sealed::Series),
        kind => Err(StorageError::corrupt("a chunk", format!("kind {kind} is unknown"))),
    }
}

impl Mapped {
    /// The first bytes of these.
    pub fn trimmed(&self, length: usize) -> Mapped {
        Mapped { file: self.file.clone(), start: self.start, length: length as u64 }
    }
}

struct Writing {
    file: DiskFile,
    mapped: Arc<ChunkFile>,
    since: i64,
    dirty: bool,
}

/// All chunk files of a folder.
pub struct ChunkFiles {
    folder: PathBuf,
    /// The next file's number: none comes twice, since blocks say up to which file they reach.
    next: AtomicU64,
    files: Mutex<Vec<Arc<ChunkFile>>>,
    writing: Mutex<Option<Writing>>,
}

impl ChunkFiles {
    /// Opens the folder; gives each chunk, in the order they were written, to `each`, and each damage to `lost`. Numbers up
    /// to `before` have been used.
    pub fn open(
        folder: &Path,
        before: u64,
        each: &mut dyn FnMut(Sealed) -> Result<()>,
        lost: &mut dyn FnMut(String),
    ) -> Result<ChunkFiles> {
        for (_, path) in disk::numbered(folder, "new")? {
            disk::remove(&path)?;
        }
        let found = disk::numbered(folder, "chunks")?;
        let last = found.last().map(|f| f.0);
        let mut files = Vec::new();
        for (number, path) in found {
            match Self::read(number, &path, Some(number) == last, each, lost) {
                Ok(file) => files.push(file),
                Err(e @ StorageError::Corrupt { .. }) => {
                    let aside = path.with_extension("damaged");
                    disk::rename(&path, &aside)?;
                    lost(format!("{e}; the file is kept as {}", aside.display()));
                }
                Err(e) => return Err(e),
            }
        }
        let next = AtomicU64::new(last.unwrap_or(0).max(before) + 1);
        Ok(ChunkFiles { folder: folder.to_owned(), next, files: Mutex::new(files), writing: Mutex::new(None) })
    }

    fn read(
        number: u64,
        path: &Path,
        verify: bool,
        each: &mut dyn FnMut(Sealed) -> Result<()>,
        lost: &mut dyn FnMut(String),
    ) -> Result<Arc<ChunkFile>> {
        let file = File::open(path).map_err(|e| StorageError::file("open", path, &e))?;
        let length = file.metadata().map_err(|e| StorageError::file("read", path, &e))?.len();
        if length < HEADER_BYTES as u64 {
            return Err(StorageError::corrupt(path.display().to_string(), "it is shorter than its header"));
        }
        let mapped = Arc::new(ChunkFile::map(number, path, &file, length)?);
        check_header(CHUNKS, &mapped.map, path)?;
        let mut at = HEADER_BYTES as u64;
        loop {
            match mapped.chunk_at(at) {
                Ok(None) => break,
                Ok(Some((sealed, next))) => {
                    // Only the newest file can hold packs that were never synced; what they held is in the log.
                    let whole = if verify { sealed.verify() } else { Ok(()) };
                    match whole {
                        Ok(()) => each(sealed)?,
                        Err(e) => lost(format!("{e} ({} at byte {at})", path.display())),
                    }
                    at = next;
                }
                Err(e) => {
                    lost(format!("{e}; what lies behind it in the file is left out"));
                    break;
                }
            }
        }
        mapped.used.store(at, Relaxed);
        Ok(mapped)
    }

    /// Appends a chunk and gives it back as readers see it. Durable after `sync`.
    pub fn append(&self, bytes: &[u8], now: i64) -> Result<Sealed> {
        let mut writing = self.writing.lock();
        let full = writing
            .as_ref()
            .is_some_and(|w| w.mapped.bytes() + bytes.len() as u64 > FILE_BYTES || now - w.since > FILE_MILLISECONDS);
        if full || writing.is_none() {
            self.close(&mut writing)?;
            *writing = Some(self.create(now, bytes.len() as u64)?);
        }
        let Some(w) = writing.as_mut() else {
            return Err(StorageError::corrupt("chunk files", "BUG: none is open"));
        };
        let start = w.mapped.bytes();
        w.file.write_at(bytes, start)?;
        w.dirty = true;
        let (sealed, next) = w
            .mapped
            .chunk_at(start)?
            .ok_or_else(|| StorageError::corrupt("chunk files", "BUG: what was written is not there"))?;
        w.mapped.used.store(next, Relaxed);
        Ok(sealed)
    }

    fn create(&self, now: i64, room: u64) -> Result<Writing> {
        let number = self.next.fetch_add(1, Relaxed);
        let path = self.folder.join(format!("{number:08}.chunks"));
        // Nobody sees it without its header.
        let fresh = path.with_extension("new");
        let file = DiskFile::create(&fresh)?;
        file.write_at(&header(CHUNKS), 0)?;
        file.set_length(HEADER_BYTES as u64 + FILE_BYTES.max(room))?;
        disk::rename(&fresh, &path)?;
        let file = DiskFile::open(&path)?;
        disk::sync_folder(&self.folder)?;
        let mapped = Arc::new(ChunkFile::map(number, &path, file.file(), HEADER_BYTES as u64)?);
        self.files.lock().push(mapped.clone());
        Ok(Writing { file, mapped, since: now, dirty: true })
    }

    fn close(&self, writing: &mut Option<Writing>) -> Result<()> {
        // Kept open when that fails: what is not synced must not be forgotten.
        if let Some(w) = writing.as_ref() {
            w.file.set_length(w.mapped.bytes())?;
            w.file.sync()?;
        }
        *writing = None;
        Ok(())
    }

    /// Makes durable what was appended.
    pub fn sync(&self) -> Result<()> {
        if let Some(w) = self.writing.lock().as_mut().filter(|w| w.dirty) {
            w.file.sync()?;
            w.dirty = false;
        }
        Ok(())
    }

    /// Closes the file being written; returns the number of the last file.
    pub fn roll(&self) -> Result<u64> {
        self.finish()?;
        Ok(self.next.load(Relaxed) - 1)
    }

    pub fn paths(&self) -> Vec<PathBuf> {
        self.files.lock().iter().map(|f| f.path.clone()).collect()
    }

    /// Deletes the files up to this number that hold nothing from this time on: it is in blocks.
    pub fn retire_compacted(&self, through: u64, before: i64) -> Result<()> {
        let mut files = self.files.lock();
        let (gone, kept): (Vec<_>, Vec<_>) = files.iter().cloned().partition(|f| f.number <= through && f.newest() < before);
        for file in gone {
            disk::remove(&file.path)?;
            file.retired.store(true, Relaxed);
        }
        *files = kept;
        Ok(())
    }

    pub fn finish(&self) -> Result<()> {
        self.close(&mut self.writing.lock())
    }

    /// Deletes files that hold nothing newer than `before`, then the oldest ones until at most `limit` bytes are left (0:
    /// no limit). The one being written stays. Returns how many went; their chunks are marked as retired.
    pub fn retire(&self, before: i64, limit: u64) -> Result<usize> {
        let current = self.writing.lock().as_ref().map(|w| w.mapped.number);
        let mut files = self.files.lock();
        let mut total: u64 = files.iter().map(|f| f.bytes()).sum();
        let mut gone = 0;
        while let Some(file) = files.first().cloned() {
            let expired = file.newest() < before || (limit > 0 && total > limit);
            if !expired || Some(file.number) == current {
                break;
            }
            disk::remove(&file.path)?;
            file.retired.store(true, Relaxed);
            total -= file.bytes();
            files.remove(0);
            gone += 1;
        }
        Ok(gone)
    }

    /// Bytes of all files, and how many there are.
    pub fn size(&self) -> (u64, usize) {
        let files = self.files.lock();
        (files.iter().map(|f| f.bytes()).sum(), files.len())
    }
}

impl Sealed {
    fn verify(&self) -> Result<()> {
        match self {
            Sealed::Rows(chunk) => chunk.verify(),
            Sealed::Series(chunk) => chunk.verify(),
        }
    }
}
