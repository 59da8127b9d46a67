//! The storage in a folder: opens and replays it, commits the log, seals, cuts and retires.
//!
//! ```text
//! lock           held by the process that uses the folder
//! catalog        what ids mean                      (catalog.rs)
//! wal/N.wal      rows and samples not yet sealed    (wal.rs)
//! chunks/N.chunks  sealed chunks                    (chunkfile.rs)
//! blocks/N.block   what is older                    (block.rs, compaction.rs)
//! ```
//! A thread of its own commits at an interval and tidies up. An append waits for a lock of its group and for the copy of
//! a record, never for a disk.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hashbrown::HashMap;
use parking_lot::{Condvar, Mutex, RwLock};
use rustc_hash::FxBuildHasher;

use super::catalog::{self, Catalog, Entry, Used};
use super::chunk::SealedChunk;
use super::chunkfile::{ChunkFiles, Sealed};
use super::codec::Encoder;
use super::columns::{Column, ColumnSet, ColumnSets};
use super::compaction::{Layout, BLOCK_MILLISECONDS, SETTLED_MILLISECONDS};
use super::disk;
use super::exemplars::{Exemplar, Exemplars};
use super::frame;
use super::group::{Appended, Group};
use super::loose::{LooseSeries, LooseStore};
use super::memory;
use super::openchunk::{widen, OpenChunk};
use super::row;
use super::sample::Sample;
use super::tombstones::Tombstones;
use super::wal::{self, Record, Wal};
use super::{Result, StorageError, STALE};
use crate::histogram::Histogram;
use crate::labels::{Labels, Str};

#[derive(Clone, Debug)]
pub struct Options {
    pub retention: Duration,
    pub retention_bytes: u64,
    pub commit_interval: Duration,
    pub chunk_rows: usize,
    /// How many exemplars are held; 0 takes none.
    pub exemplars: usize,
}

/// How often the thread looks for what to seal, cut and retire.
const TIDY_INTERVAL: Duration = Duration::from_secs(30);
/// Queries that are repeated fill arenas again within seconds. With 200,000 series it took less than a millisecond.
const GIVE_BACK_INTERVAL: Duration = Duration::from_secs(5);
/// So many times as long as it took: never more than half a hundredth of a processor.
const GIVE_BACK_PAUSE: u32 = 200;
/// A group without a new row for this long is sealed, so that the log need not keep it.
const IDLE_MILLISECONDS: i64 = 10 * 60 * 1000;
/// Open samples of the general path, at least; more are sealed. And how many of each series: few would cost as much again
/// in heads.
const LOOSE_LIMIT: u64 = 1 << 18;
const LOOSE_SAMPLES: u64 = 32;
/// Closed segments that may wait for slow groups before those are sealed for them.
const SEGMENTS_LIMIT: u64 = 8;

#[derive(Default)]
pub struct Counters {
    pub samples: AtomicU64,
    pub rejected: AtomicU64,
    pub duplicates: AtomicU64,
    pub chunks: AtomicU64,
    pub commits: AtomicU64,
    pub commit_failures: AtomicU64,
    pub lost_bytes: AtomicU64,
}

pub struct Inner {
    pub options: Options,
    pub sets: ColumnSets,
    pub wal: Wal,
    pub counters: Counters,
    pub loose: LooseStore,
    pub exemplars: Exemplars,
    pub groups: RwLock<Groups>,
    pub layout: RwLock<Layout>,
    /// Held by the one who compacts.
    pub compacting: Mutex<()>,
    pub block_folder: PathBuf,
    pub tombstones: Tombstones,
    pub files: ChunkFiles,
    /// Groups take no row before this: it is, or soon will be, in blocks.
    frontier: AtomicI64,
    catalog: Mutex<Catalog>,
    encoder: Mutex<Encoder>,
    /// What was damaged at the start, in words.
    pub losses: Mutex<Vec<String>>,
    pub last_error: Mutex<Option<String>>,
    closed: AtomicBool,
    /// Held while the storage is open.
    lock: Mutex<Option<File>>,
}

#[derive(Default)]
pub struct Groups {
    pub all: Vec<Arc<Group>>,
    by_key: HashMap<(Str, Labels), Arc<Group>, FxBuildHasher>,
    next_id: u32,
}

/// A storage that is open. Dropping it commits and releases the folder.
pub struct Storage {
    pub inner: Arc<Inner>,
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Told of how far opening is: what is being read, how many are done, how many there are.
pub type Progress<'a> = dyn FnMut(&str, usize, usize) + 'a;

impl Storage {
    pub fn open(folder: &Path, options: Options, progress: &mut Progress<'_>) -> Result<Storage> {
        memory::keep_little();
        let inner = Arc::new(open(folder, options, progress)?);
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let (worker, signal) = (inner.clone(), stop.clone());
        let thread = std::thread::Builder::new().name("storage".into()).spawn(move || work(&worker, &signal));
        let thread = thread.map_err(|e| StorageError::file("start a thread for", folder, &e))?;
        Ok(Storage { inner, stop, thread: Mutex::new(Some(thread)) })
    }

    /// The group of a target, made if it is new. Groups are known by pool and labels, across restarts too.
    pub fn group(&self, pool: &str, labels: &Labels) -> Result<Arc<Group>> {
        self.inner.group(pool, labels)
    }

    /// The set of these columns, and where each of them stands in it.
    pub fn intern_columns(&self, columns: Vec<Column>) -> Result<(Arc<ColumnSet>, Vec<u32>)> {
        self.inner.intern_columns(columns)
    }

    /// Stores a row of a group.
    pub fn append(&self, group: &Group, time: i64, columns: &Arc<ColumnSet>, row: &[f64]) -> Result<Appended> {
        self.inner.append(group, time, columns, row)
    }

    /// Ends the series of a group whose target is gone.
    pub fn end(&self, group: &Group, time: i64) -> Result<()> {
        group.end(&self.inner, time)
    }

    /// Stores samples by the general path; returns how many were new.
    pub fn append_samples(&self, samples: &[(Labels, i64, f64)]) -> Result<u64> {
        self.inner.append_samples(samples)
    }

    /// Stores exemplars of series; returns how many were new.
    pub fn append_exemplars(&self, exemplars: &[(Labels, Exemplar)]) -> Result<u64> {
        self.inner.check_open()?;
        self.inner.exemplars.append(exemplars, &self.inner.wal)
    }

    /// Stores histograms; returns how many were new. Each must have passed `Histogram::check`.
    pub fn append_histograms(&self, samples: &[(Labels, i64, Arc<Histogram>)]) -> Result<u64> {
        self.inner.append_histograms(samples)
    }

    /// Makes durable all that was appended.
    pub fn flush(&self) -> Result<()> {
        self.inner.commit()
    }

    /// Stops the thread, commits, releases the folder. Nothing can be appended from here on.
    pub fn close(&self) -> Result<()> {
        *self.stop.0.lock() = true;
        self.stop.1.notify_all();
        if let Some(thread) = self.thread.lock().take() {
            let _ = thread.join();
        }
        if self.inner.closed.swap(true, Relaxed) {
            return Ok(());
        }
        let done = self.inner.commit().and_then(|()| self.inner.files.finish());
        self.inner.lock.lock().take();
        done
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        if let Err(e) = self.close() {
            *self.inner.last_error.lock() = Some(e.to_string());
        }
    }
}

fn work(inner: &Inner, stop: &(Mutex<bool>, Condvar)) {
    let mut tidied = Instant::now();
    let mut give_back_at = tidied + GIVE_BACK_INTERVAL;
    let mut stopped = stop.0.lock();
    while !*stopped {
        stop.1.wait_for(&mut stopped, inner.options.commit_interval);
        if *stopped {
            return;
        }
        drop(stopped);
        let mut done = inner.commit();
        if tidied.elapsed() >= TIDY_INTERVAL {
            tidied = Instant::now();
            done = done.and_then(|()| inner.tidy()).and_then(|()| inner.compact(SETTLED_MILLISECONDS).map(|_| ()));
        }
        if Instant::now() >= give_back_at {
            let began = Instant::now();
            memory::give_back();
            give_back_at = Instant::now() + GIVE_BACK_INTERVAL.max(began.elapsed() * GIVE_BACK_PAUSE);
        }
        if let Err(e) = done {
            inner.counters.commit_failures.fetch_add(1, Relaxed);
            *inner.last_error.lock() = Some(e.to_string());
        } else {
            *inner.last_error.lock() = None;
        }
        stopped = stop.0.lock();
    }
}

impl Inner {
    /// Milliseconds since 1970.
    pub fn now(&self) -> i64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
    }

    /// Rows after which a group's chunk is sealed; the first is shorter by chance, so that seals spread over time.
    pub fn rows_of(&self, group: u32, first: bool) -> usize {
        let rows = self.options.chunk_rows;
        if !first || rows < 4 {
            return rows;
        }
        let half = rows / 2;
        half + (group.wrapping_mul(0x9e37_79b9) >> 16) as usize % (rows - half)
    }

    pub fn record(&self, entry: &Entry<'_>) -> Result<()> {
        self.catalog.lock().record(entry);
        Ok(())
    }

    pub fn intern_columns(&self, columns: Vec<Column>) -> Result<(Arc<ColumnSet>, Vec<u32>)> {
        self.sets.intern(columns, &mut |e| self.record(&e))
    }

    pub fn group(&self, pool: &str, labels: &Labels) -> Result<Arc<Group>> {
        let key = (Str::from(pool), labels.clone());
        if let Some(known) = self.groups.read().by_key.get(&key) {
            return Ok(known.clone());
        }
        let mut groups = self.groups.write();
        if let Some(known) = groups.by_key.get(&key) {
            return Ok(known.clone());
        }
        let id = groups.next_id;
        self.record(&Entry::Group { id, pool, labels })?;
        let group = groups.insert(id, key.0, key.1);
        Ok(group)
    }

    pub fn append(&self, group: &Group, time: i64, columns: &Arc<ColumnSet>, row: &[f64]) -> Result<Appended> {
        if row.len() != columns.len() {
            let reason = format!("BUG: {} values for {} columns", row.len(), columns.len());
            return Err(StorageError::corrupt("a row", reason));
        }
        self.check_open()?;
        let done = group.append(self, time, columns, row)?;
        self.counters.samples.fetch_add(done.samples, Relaxed);
        Ok(done)
    }

    fn check_open(&self) -> Result<()> {
        if self.closed.load(Relaxed) {
            return Err(StorageError::Closed);
        }
        Ok(())
    }

    pub fn append_samples(&self, samples: &[(Labels, i64, f64)]) -> Result<u64> {
        self.check_open()?;
        let added = self.append_uncounted(samples)?;
        self.counters.samples.fetch_add(added, Relaxed);
        self.counters.duplicates.fetch_add(samples.len() as u64 - added, Relaxed);
        Ok(added)
    }

    /// The same, for who counts the samples.
    pub fn append_uncounted(&self, samples: &[(Labels, i64, f64)]) -> Result<u64> {
        let series: Vec<_> = samples.iter().map(|s| self.loose_series(&s.0)).collect();
        let entries: Vec<(u32, i64, f64)> = samples.iter().zip(&series).map(|(s, series)| (series.id, s.1, s.2)).collect();
        let appending = self.loose.appending();
        let segment = self.wal.samples(&entries)?;
        let added = entries.iter().zip(&series).filter(|(e, s)| s.add(e.1, e.2)).count() as u64;
        self.loose.added(added, segment);
        drop(appending);
        Ok(added)
    }

    fn loose_series(&self, labels: &Labels) -> Arc<LooseSeries> {
        self.loose.series(labels, &mut |id| self.catalog.lock().record(&Entry::Series { id, labels }))
    }

    pub fn append_histograms(&self, samples: &[(Labels, i64, Arc<Histogram>)]) -> Result<u64> {
        self.check_open()?;
        // One that ends its series is a stale marker like any other.
        let (ends, samples): (Vec<_>, Vec<_>) = samples.iter().partition(|s| s.2.is_stale());
        let ends: Vec<_> = ends.into_iter().map(|(labels, time, _)| (labels.clone(), *time, STALE)).collect();
        let mut added = if ends.is_empty() { 0 } else { self.append_uncounted(&ends)? };
        let series: Vec<_> = samples.iter().map(|s| self.loose_series(&s.0)).collect();
        let entries: Vec<_> = samples.iter().zip(&series).map(|(s, series)| (series.id, s.1, s.2.clone())).collect();
        let appending = self.loose.appending();
        let segment = self.wal.histograms(&entries)?;
        let mut weight = 0;
        for ((_, time, histogram), series) in entries.into_iter().zip(&series) {
            let its = Sample::weight(&histogram);
            if series.add(time, histogram) {
                (added, weight) = (added + 1, weight + its);
            }
        }
        self.loose.added(weight, segment);
        drop(appending);
        self.counters.samples.fetch_add(added, Relaxed);
        self.counters.duplicates.fetch_add((samples.len() + ends.len()) as u64 - added, Relaxed);
        Ok(added)
    }

    /// Writes an open chunk to a file, as columns.
    pub fn seal(&self, open: &OpenChunk, group: u32) -> Result<Arc<SealedChunk>> {
        let bytes = open.seal(group, &mut self.encoder.lock())?;
        match self.append_chunk(&bytes)? {
            Sealed::Rows(mut chunk) => {
                chunk.set = open.set().cloned();
                self.counters.chunks.fetch_add(1, Relaxed);
                Ok(Arc::new(chunk))
            }
            Sealed::Series(_) => Err(StorageError::corrupt("a chunk", "BUG: rows were read back as series")),
        }
    }

    /// Appends a chunk to a file, behind what its ids mean: a kill in between must not leave ids that others get.
    fn append_chunk(&self, bytes: &[u8]) -> Result<Sealed> {
        self.catalog.lock().write()?;
        self.files.append(bytes, self.now())
    }

    pub fn commit(&self) -> Result<()> {
        self.wal.commit(&mut || self.catalog.lock().commit())?;
        self.counters.commits.fetch_add(1, Relaxed);
        Ok(())
    }

    pub fn frontier(&self) -> i64 {
        self.frontier.load(Relaxed)
    }

    pub fn set_frontier(&self, time: i64) {
        self.frontier.store(time, Relaxed);
    }

    pub fn seal_loose(&self) -> Result<()> {
        self.loose.seal(self.wal.segment(), &mut self.encoder.lock(), &mut |bytes| match self.append_chunk(bytes)? {
            Sealed::Series(chunk) => Ok(Arc::new(chunk)),
            Sealed::Rows(_) => Err(StorageError::corrupt("a chunk", "BUG: series were read back as rows")),
        })
    }

    /// Seals every open chunk and log.
    pub fn seal_all(&self) -> Result<()> {
        let groups = self.groups.read().all.clone();
        groups.iter().try_for_each(|g| g.seal_if_idle(self, i64::MAX, 0))?;
        self.seal_loose()
    }

    /// Seals what is idle, cuts the log, deletes what is past its time, forgets what nobody holds.
    pub fn tidy(&self) -> Result<()> {
        let groups = self.groups.read().all.clone();
        let segment = self.wal.segment();
        let oldest = segment.saturating_sub(SEGMENTS_LIMIT);
        let idle = self.now() - IDLE_MILLISECONDS;
        groups.iter().try_for_each(|g| g.seal_if_idle(self, idle, oldest))?;
        let limit = LOOSE_LIMIT.max(LOOSE_SAMPLES * self.loose.count() as u64);
        if self.loose.open_samples() > limit || self.loose.needed_segment() < oldest {
            self.seal_loose()?;
        }
        self.cut_log(&groups, segment)?;
        drop(groups);
        let before = self.now().saturating_sub(self.options.retention.as_millis() as i64);
        let ((wal, _), (chunks, _)) = (self.wal.size(), self.files.size());
        self.retire_blocks(before, self.options.retention_bytes, wal + chunks)?;
        let alone = self.layout.read().blocks.is_empty();
        self.files.retire(before, if alone { self.options.retention_bytes } else { 0 })?;
        self.retire(self.layout.read().frontier);
        self.exemplars.retire(before);
        Ok(())
    }

    /// A durable copy of the catalog as it is.
    pub fn copy_catalog(&self, target: &Path) -> Result<()> {
        let mut catalog = self.catalog.lock();
        catalog.commit()?;
        disk::replace(target, &frame::read(catalog.path())?)
    }

    /// Deletes log segments of which all is sealed and durable.
    pub fn cut_log(&self, groups: &[Arc<Group>], segment: u64) -> Result<()> {
        let needed = groups
            .iter()
            .filter_map(|g| g.needed_segment())
            .min()
            .unwrap_or(segment)
            .min(segment)
            .min(self.loose.needed_segment());
        if self.wal.oldest_segment() < needed && self.exemplars.needed_segment() < needed {
            self.exemplars.log_all(&self.wal)?;
        }
        // Sets, ids and exemplars first, then the chunks that use them, then the log that they replace.
        self.commit()?;
        self.files.sync()?;
        self.wal.truncate(needed)
    }

    /// Forgets chunks that are gone or in blocks, and whoever has nothing left.
    pub fn retire(&self, frontier: i64) {
        let mut groups = self.groups.write();
        let Groups { all, by_key, .. } = &mut *groups;
        all.retain(|group| {
            let left = group.retire(frontier);
            // One that paused knows what its last row had. Held by the two tables only: nobody is about to append.
            let recent = !group.is_ended() && group.last_time().is_some_and(|t| t.saturating_add(BLOCK_MILLISECONDS) >= frontier);
            if left || recent || Arc::strong_count(group) > 2 {
                return true;
            }
            let key = (group.pool.clone(), group.labels.clone());
            if by_key.get(&key).is_some_and(|known| Arc::ptr_eq(known, group)) {
                by_key.remove(&key);
            }
            false
        });
        drop(groups);
        self.loose.retire();
        self.sets.sweep();
    }

    /// Bytes and counts of what lies on the disk: log bytes, segments, chunk bytes, chunk files, catalog bytes.
    pub fn disk(&self) -> (u64, usize, u64, usize, u64) {
        let ((wal, segments), (chunks, files)) = (self.wal.size(), self.files.size());
        (wal, segments, chunks, files, self.catalog.lock().bytes())
    }
}

impl Groups {
    fn insert(&mut self, id: u32, pool: Str, labels: Labels) -> Arc<Group> {
        self.next_id = self.next_id.max(id + 1);
        let group = Arc::new(Group::new(id, pool.clone(), labels.clone()));
        self.all.push(group.clone());
        self.by_key.insert((pool, labels), group.clone());
        group
    }
}

/// Takes the folder, reads what is in it, replays the log.
fn open(folder: &Path, options: Options, progress: &mut Progress<'_>) -> Result<Inner> {
    let [wal_folder, chunk_folder, block_folder] = ["wal", "chunks", "blocks"].map(|name| folder.join(name));
    for path in [folder, &wal_folder, &chunk_folder, &block_folder] {
        disk::create_folder(path)?;
    }
    disk::sync_folder(folder)?;
    let lock = take_lock(folder)?;
    let sets = ColumnSets::default();
    let (catalog, known) = catalog::open(&folder.join("catalog"), &sets)?;
    let loose = LooseStore::new();
    let mut groups = Groups::default();
    let mut losses = Vec::new();
    if known.lost > 0 {
        losses.push(format!(
            "{} bytes of {} were damaged; series that they described are left out, and a copy is kept beside it",
            known.lost,
            folder.join("catalog").display()
        ));
        groups.next_id = catalog::LOST_IDS;
        loose.skip_ids(catalog::LOST_IDS);
    }
    let mut ids: Vec<u32> = known.groups.keys().copied().collect();
    ids.sort_unstable();
    let mut by_id: HashMap<u32, Arc<Group>, FxBuildHasher> = HashMap::default();
    for id in ids {
        let (pool, labels) = known.groups[&id].clone();
        by_id.insert(id, groups.insert(id, pool, labels));
    }
    for (id, labels) in &known.series {
        loose.restore(*id, labels.clone());
    }
    let mut used = Used::default();
    progress("block", 0, 0);
    let layout = Layout::open(&block_folder, &mut |loss| losses.push(loss))?;
    let tombstones = Tombstones::open(&folder.join("tombstones"), &mut |loss| losses.push(loss))?;
    let mut without_meaning = 0u64;
    progress("chunk file", 0, 0);
    let files = ChunkFiles::open(
        &chunk_folder,
        layout.chunk_files,
        &mut |sealed| {
            match sealed {
                Sealed::Rows(mut chunk) => {
                    used.groups.insert(chunk.group);
                    used.sets.insert(chunk.set_id);
                    chunk.set = known.sets.get(&chunk.set_id).cloned();
                    match by_id.get(&chunk.group).filter(|_| chunk.set.is_some()) {
                        Some(group) => group.restore_sealed(chunk, layout.frontier),
                        None => without_meaning += 1,
                    }
                }
                Sealed::Series(chunk) => {
                    if chunk.mapped().file.number <= layout.chunk_files {
                        chunk.set_compacted(layout.frontier);
                    }
                    let chunk = Arc::new(chunk);
                    for (at, entry) in chunk.entries.iter().enumerate() {
                        used.series.insert(entry.series);
                        match loose.by_id(entry.series) {
                            Some(series) => series.add_sealed(chunk.clone(), at),
                            None => without_meaning += 1,
                        }
                    }
                }
            }
            Ok(())
        },
        &mut |loss| losses.push(loss),
    )?;
    if without_meaning > 0 {
        losses.push(format!(
            "{without_meaning} chunks in {} belong to series that the catalog does not know; they are left out",
            chunk_folder.display()
        ));
    }
    let segments = wal::segments(&wal_folder)?;
    // Before anything is written: what a newer program left behind stays as it is.
    segments.iter().try_for_each(|(_, path)| wal::check(path))?;
    let sizes: Vec<(u64, u64)> = segments.iter().map(|(n, path)| (*n, std::fs::metadata(path).map_or(0, |m| m.len()))).collect();
    let exemplars = Exemplars::new(options.exemplars);
    let inner = Inner {
        options,
        wal: Wal::open(&wal_folder, sizes)?,
        counters: Counters::default(),
        loose,
        exemplars,
        groups: RwLock::new(groups),
        sets,
        frontier: AtomicI64::new(layout.frontier),
        layout: RwLock::new(layout),
        compacting: Mutex::new(()),
        block_folder,
        tombstones,
        files,
        catalog: Mutex::new(catalog),
        encoder: Mutex::default(),
        losses: Mutex::new(losses),
        last_error: Mutex::default(),
        closed: AtomicBool::new(false),
        lock: Mutex::new(Some(lock)),
    };
    replay(&inner, &segments, &by_id, &known.sets, &mut used, progress)?;
    // An id whose meaning is lost must not become somebody else's.
    used.sets.iter().for_each(|id| inner.sets.pass_set(*id));
    used.series.iter().for_each(|id| inner.loose.pass_id(*id));
    {
        let mut groups = inner.groups.write();
        groups.next_id = used.groups.iter().fold(groups.next_id, |next, id| next.max(id.saturating_add(1)));
    }
    inner.catalog.lock().shrink(&known, &used)?;
    // What the catalog has forgotten must not be found in memory.
    drop((known, by_id));
    inner.retire(inner.frontier());
    Ok(inner)
}

/// A group's row while the log is read: the number of the row, its set and its values.
struct Replayed {
    number: u64,
    set: Arc<ColumnSet>,
    values: Vec<f64>,
}

fn replay(
    inner: &Inner,
    segments: &[(u64, PathBuf)],
    groups: &HashMap<u32, Arc<Group>, FxBuildHasher>,
    sets: &HashMap<u32, Arc<ColumnSet>>,
    used: &mut Used,
    progress: &mut Progress<'_>,
) -> Result<()> {
    let mut rows: HashMap<u32, Replayed, FxBuildHasher> = HashMap::default();
    for (done, (number, path)) in segments.iter().enumerate() {
        progress("log segment", done, segments.len());
        let mut orphans = 0u64;
        let mut each = |record: Record<'_>| {
            match record {
                Record::Row(entry) => {
                    used.groups.insert(entry.group);
                    used.sets.insert(entry.set);
                    let (Some(group), Some(set)) = (groups.get(&entry.group), sets.get(&entry.set)) else {
                        orphans += 1;
                        return Ok(());
                    };
                    let before = rows.remove(&entry.group).filter(|b| b.number + 1 == entry.number);
                    let mut values = match (entry.full, before) {
                        (true, _) => vec![0.0; set.len()],
                        (false, Some(b)) if Arc::ptr_eq(&b.set, set) => b.values,
                        (false, Some(b)) => widen(&b.values, &b.set, set),
                        // Its predecessor was lost: the group resumes at its next full record.
                        (false, None) => {
                            orphans += 1;
                            return Ok(());
                        }
                    };
                    row::decode(entry.row, &mut values)?;
                    group.restore_row(inner, entry.number, entry.time, set, &values, *number)?;
                    rows.insert(entry.group, Replayed { number: entry.number, set: set.clone(), values });
                }
                Record::Samples(samples) => {
                    let mut added = 0;
                    for (id, time, value) in samples {
                        used.series.insert(id);
                        match inner.loose.by_id(id) {
                            Some(series) => added += u64::from(series.add(time, value)),
                            None => orphans += 1,
                        }
                    }
                    inner.loose.added(added, *number);
                }
                Record::Exemplars { are_all, exemplars } => inner.exemplars.restore(are_all, &exemplars, *number),
                Record::Histograms(samples) => {
                    let mut added = 0;
                    for (id, time, histogram) in samples {
                        used.series.insert(id);
                        let weight = Sample::weight(&histogram);
                        match inner.loose.by_id(id) {
                            Some(series) => added += if series.add(time, histogram) { weight } else { 0 },
                            None => orphans += 1,
                        }
                    }
                    inner.loose.added(added, *number);
                }
            }
            Ok(())
        };
        let lost = match wal::replay(path, &mut each) {
            Ok(lost) => lost,
            Err(e @ StorageError::Corrupt { .. }) => {
                inner.losses.lock().push(e.to_string());
                0
            }
            Err(e) => return Err(e),
        };
        if lost > 0 || orphans > 0 {
            let aside = frame::keep_damaged(path)?;
            let text = format!(
                "{}: {lost} bytes were damaged, {orphans} records could not be used; a copy is kept as {}",
                path.display(),
                aside.display()
            );
            inner.losses.lock().push(text);
            inner.counters.lost_bytes.fetch_add(lost as u64, Relaxed);
        }
    }
    Ok(())
}

fn take_lock(folder: &Path) -> Result<File> {
    let path = folder.join("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|e| StorageError::file("open", &path, &e))?;
    file.try_lock().map_err(|e| StorageError::Locked { path: folder.to_owned(), reason: e.to_string() })?;
    Ok(file)
}
