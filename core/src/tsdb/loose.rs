//! Samples that do not come in rows: explicit timestamps, samples out of order or from elsewhere, and native histograms. The
//! general path.
//!
//! Each series has its own short log, kept sorted; the logs of many series are sealed together, so that the write-ahead
//! log can be cut. Of equal times the first sample wins, be it a number or a histogram.
//!
//! ```text
//! sealed series:  head | packs        (see packs.rs)
//! head:   kind 2, or 3 of histograms | count, then of each series: id as gap to the one before | samples | first time |
//!         last time
//! pack:   64 series: times, then values (see sample.rs), zstd
//! ```

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use rustc_hash::FxBuildHasher;

use super::chunkfile::Mapped;
use super::codec::{Decoder, Encoder};
use super::packs::{read_packs, Pack, Packs, PACK_ENTRIES};
use super::sample::Sample;
use super::varint::{put, put_signed, Cursor};
use super::{Result, StorageError};
use crate::histogram::Histogram;
use crate::labels::{Labels, NAME};

/// A series' log is sealed in pieces of at most this many samples.
const SAMPLES_LIMIT: usize = 1 << 20;

pub struct LooseSeries {
    pub id: u32,
    pub labels: Labels,
    state: Mutex<State>,
}

#[derive(Default)]
pub struct State {
    pub(super) floats: Log<f64>,
    pub(super) histograms: Log<Arc<Histogram>>,
}

/// A series' samples of one kind.
pub struct Log<T> {
    open: Vec<(i64, T)>,
    sealed: Vec<SealedPiece>,
}

impl<T> Default for Log<T> {
    fn default() -> Log<T> {
        Log { open: Vec::new(), sealed: Vec::new() }
    }
}

impl<T: Clone> Log<T> {
    fn has(&self, time: i64) -> bool {
        let is_open = self.open.last().is_some_and(|l| l.0 >= time) && self.open.binary_search_by_key(&time, |s| s.0).is_ok();
        is_open || self.sealed.iter().any(|(chunk, at)| chunk.entries[*at].end == time)
    }

    /// Adds a sample of another time than all that are there. Almost always it belongs at the end.
    fn add(&mut self, time: i64, value: T) {
        if self.open.last().is_none_or(|l| l.0 < time) {
            return self.open.push((time, value));
        }
        let at = self.open.partition_point(|s| s.0 < time);
        self.open.insert(at, (time, value));
    }

    fn time_range(&self) -> Option<(i64, i64)> {
        let open = self.open.first().zip(self.open.last()).map(|(first, last)| (first.0, last.0));
        let sealed = self.sealed.iter().map(|(chunk, at)| (chunk.entries[*at].start, chunk.entries[*at].end));
        sealed.chain(open).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }

    fn view(&self, start: i64, end: i64) -> View<T> {
        let open = self.open.partition_point(|s| s.0 < start)..self.open.partition_point(|s| s.0 <= end);
        let overlaps = |(chunk, at): &&SealedPiece| {
            chunk.entries[*at].start <= end && chunk.entries[*at].end >= start.max(chunk.compacted())
        };
        View { open: self.open[open].to_vec(), sealed: self.sealed.iter().filter(overlaps).cloned().collect() }
    }

    fn retire(&mut self) -> bool {
        self.sealed.retain(|(chunk, at)| chunk.entries[*at].end >= chunk.compacted() && !chunk.bytes.file.retired.load(Relaxed));
        !self.sealed.is_empty() || !self.open.is_empty()
    }
}

/// A sealed chunk of many series, and the entry in it.
pub type SealedPiece = (Arc<SealedSeries>, usize);

/// A series and the samples of it that are being sealed.
type Taken<T> = (Arc<LooseSeries>, Vec<(i64, T)>);

/// A reader's picture of a log: its sealed pieces and what is open.
pub struct View<T> {
    pub open: Vec<(i64, T)>,
    pub sealed: Vec<SealedPiece>,
}

/// A reader's picture of a series.
pub struct LooseView {
    pub floats: View<f64>,
    pub histograms: View<Arc<Histogram>>,
}

impl<T> View<T> {
    fn is_empty(&self) -> bool {
        self.open.is_empty() && self.sealed.is_empty()
    }
}

impl LooseView {
    pub fn is_empty(&self) -> bool {
        self.floats.is_empty() && self.histograms.is_empty()
    }
}

impl LooseSeries {
    /// Adds a sample unless there is one at its time.
    pub fn add<T: Sample>(&self, time: i64, value: T) -> bool {
        let mut state = self.state.lock();
        if state.floats.has(time) || state.histograms.has(time) {
            return false;
        }
        T::log_mut(&mut state).add(time, value);
        true
    }

    /// The times of the first and the last sample that are still held.
    fn time_range(&self) -> Option<(i64, i64)> {
        let state = self.state.lock();
        let ranges = state.floats.time_range().into_iter().chain(state.histograms.time_range());
        ranges.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }

    pub fn add_sealed(&self, chunk: Arc<SealedSeries>, at: usize) {
        let mut state = self.state.lock();
        let sealed = if chunk.has_histograms() { &mut state.histograms.sealed } else { &mut state.floats.sealed };
        sealed.push((chunk, at));
    }

    pub fn view(&self, start: i64, end: i64) -> LooseView {
        let state = self.state.lock();
        LooseView { floats: state.floats.view(start, end), histograms: state.histograms.view(start, end) }
    }

    /// Drops pieces that blocks have taken over, or whose file is gone; false when nothing is left.
    fn retire(&self) -> bool {
        let mut state = self.state.lock();
        let (floats, histograms) = (state.floats.retire(), state.histograms.retire());
        floats || histograms
    }
}

/// All such series, found by their labels.
#[derive(Default)]
pub struct LooseStore {
    inner: RwLock<Inner>,
    /// Samples in open logs.
    open: AtomicU64,
    /// The log segment of the oldest sample in an open log; `u64::MAX` when there is none.
    segment: AtomicU64,
    gate: RwLock<()>,
}

#[derive(Default)]
struct Inner {
    by_labels: HashMap<Labels, Arc<LooseSeries>, FxBuildHasher>,
    by_id: HashMap<u32, Arc<LooseSeries>, FxBuildHasher>,
    by_name: HashMap<Box<str>, Vec<Arc<LooseSeries>>, FxBuildHasher>,
    next_id: u32,
}

impl LooseStore {
    pub fn new() -> LooseStore {
        LooseStore { segment: AtomicU64::new(u64::MAX), ..LooseStore::default() }
    }

    /// The times of the first and the last sample that any series holds.
    pub fn time_range(&self) -> Option<(i64, i64)> {
        let ranges = self.inner.read().by_id.values().filter_map(|s| s.time_range()).collect::<Vec<_>>();
        ranges.into_iter().reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }

    /// The series with these labels; `record` is told of a new one before it can be referred to.
    pub fn series(&self, labels: &Labels, record: &mut dyn FnMut(u32)) -> Arc<LooseSeries> {
        if let Some(known) = self.inner.read().by_labels.get(labels) {
            return known.clone();
        }
        let mut inner = self.inner.write();
        if let Some(known) = inner.by_labels.get(labels) {
            return known.clone();
        }
        let id = inner.next_id;
        record(id);
        inner.insert(id, labels.clone())
    }

    pub fn restore(&self, id: u32, labels: Labels) {
        self.inner.write().insert(id, labels);
    }

    pub fn skip_ids(&self, count: u32) {
        self.inner.write().next_id += count;
    }

    /// No series that comes from here on has this id.
    pub fn pass_id(&self, id: u32) {
        let mut inner = self.inner.write();
        inner.next_id = inner.next_id.max(id.saturating_add(1));
    }

    pub fn by_id(&self, id: u32) -> Option<Arc<LooseSeries>> {
        self.inner.read().by_id.get(&id).cloned()
    }

    pub fn count(&self) -> usize {
        self.inner.read().by_id.len()
    }

    /// Counts samples that were added to open logs and stand in this segment.
    pub fn added(&self, count: u64, segment: u64) {
        self.open.fetch_add(count, Relaxed);
        self.segment.fetch_min(segment, Relaxed);
    }

    pub fn open_samples(&self) -> u64 {
        self.open.load(Relaxed)
    }

    /// Held from logging samples until they are counted: the log must not be cut in between.
    pub fn appending(&self) -> RwLockReadGuard<'_, ()> {
        self.gate.read()
    }

    /// The oldest segment that is needed for open logs.
    pub fn needed_segment(&self) -> u64 {
        let _none = self.gate.write();
        self.segment.load(Relaxed)
    }

    /// Series that may match: those of one metric, or all.
    pub fn candidates(&self, name: Option<&str>) -> Vec<Arc<LooseSeries>> {
        let inner = self.inner.read();
        match name {
            Some(name) => inner.by_name.get(name).cloned().unwrap_or_default(),
            None => inner.by_id.values().cloned().collect(),
        }
    }

    /// The sealed pieces of all series that no block has yet, of chunk files up to this number.
    pub fn sealed(&self, through: u64) -> Vec<(Arc<LooseSeries>, Vec<SealedPiece>)> {
        let mut all = self.candidates(None);
        all.sort_by_key(|s| s.id);
        let pieces = |series: &Arc<LooseSeries>| {
            let state = series.state.lock();
            let all = state.floats.sealed.iter().chain(&state.histograms.sealed);
            all.filter(|(chunk, _)| chunk.mapped().file.number <= through).cloned().collect::<Vec<_>>()
        };
        all.into_iter().map(|s| (pieces(&s), s)).filter(|(p, _)| !p.is_empty()).map(|(p, s)| (s, p)).collect()
    }

    /// Seals all open logs as chunks that `write` stores. Samples added meanwhile stay open.
    pub fn seal(
        &self,
        segment: u64,
        encoder: &mut Encoder,
        write: &mut dyn FnMut(&[u8]) -> Result<Arc<SealedSeries>>,
    ) -> Result<()> {
        let mut series = self.candidates(None);
        series.sort_by_key(|s| s.id);
        // From here on new samples count towards this segment or later.
        self.segment.store(segment, Relaxed);
        self.seal_kind::<f64>(&series, encoder, write)?;
        self.seal_kind::<Arc<Histogram>>(&series, encoder, write)?;
        if self.open_samples() == 0 {
            let _ = self.segment.compare_exchange(segment, u64::MAX, Relaxed, Relaxed);
        }
        Ok(())
    }

    fn seal_kind<T: Sample>(
        &self,
        series: &[Arc<LooseSeries>],
        encoder: &mut Encoder,
        write: &mut dyn FnMut(&[u8]) -> Result<Arc<SealedSeries>>,
    ) -> Result<()> {
        let taken: Vec<Taken<T>> = series
            .iter()
            .filter_map(|s| {
                let open = T::log(&s.state.lock()).open.clone();
                (!open.is_empty()).then_some((s.clone(), open))
            })
            .collect();
        for part in taken.chunks(4096) {
            let chunk = write(&encode(part, encoder)?)?;
            for (at, (series, samples)) in part.iter().enumerate() {
                let mut state = series.state.lock();
                let log = T::log_mut(&mut state);
                // What came in between lies among the sealed samples or behind them.
                log.open.retain(|s| samples.binary_search_by_key(&s.0, |t| t.0).is_err());
                self.open.fetch_sub(samples.iter().map(|s| s.1.weight()).sum(), Relaxed);
                log.sealed.push((chunk.clone(), at));
            }
        }
        Ok(())
    }

    /// Forgets series without samples and pieces whose file is gone.
    pub fn retire(&self) {
        let mut inner = self.inner.write();
        let inner = &mut *inner;
        let dead: Vec<Arc<LooseSeries>> = inner
            .by_id
            .values()
            .filter(|s| {
                let empty = !s.retire();
                // Held by the three tables only: nobody is about to add to it.
                empty && Arc::strong_count(s) == 3
            })
            .cloned()
            .collect();
        for series in dead {
            inner.by_id.remove(&series.id);
            inner.by_labels.remove(&series.labels);
            if let Some(list) = inner.by_name.get_mut(series.labels.get(NAME).unwrap_or("")) {
                list.retain(|s| s.id != series.id);
            }
        }
    }
}

impl Inner {
    fn insert(&mut self, id: u32, labels: Labels) -> Arc<LooseSeries> {
        let series = Arc::new(LooseSeries { id, labels: labels.clone(), state: Mutex::default() });
        self.next_id = self.next_id.max(id + 1);
        self.by_name.entry(labels.get(NAME).unwrap_or("").into()).or_default().push(series.clone());
        self.by_labels.insert(labels, series.clone());
        self.by_id.insert(id, series.clone());
        series
    }
}

fn encode<T: Sample>(part: &[Taken<T>], encoder: &mut Encoder) -> Result<Vec<u8>> {
    let mut head = vec![T::KIND];
    put(&mut head, part.len() as u64);
    let mut last = 0;
    let mut packs = Packs::default();
    for pack in part.chunks(PACK_ENTRIES) {
        packs.raw.clear();
        for (series, samples) in pack {
            put(&mut head, u64::from(series.id - last));
            last = series.id;
            put(&mut head, samples.len() as u64);
            put_signed(&mut head, samples[0].0);
            put_signed(&mut head, samples[samples.len() - 1].0);
            T::encode(samples, encoder, &mut packs.raw);
        }
        packs.close()?;
    }
    Ok(packs.finish(head))
}

#[derive(Clone, Copy)]
pub struct SealedEntry {
    pub series: u32,
    pub start: i64,
    pub end: i64,
    pub count: usize,
}

/// Sealed logs of many series, as the head describes them.
pub struct SealedSeries {
    pub start: i64,
    pub end: i64,
    pub entries: Vec<SealedEntry>,
    /// Which samples it holds.
    kind: u8,
    /// Samples before this are in a block.
    compacted: AtomicI64,
    packs: Vec<Pack>,
    bytes: Mapped,
}

impl SealedSeries {
    pub fn parse(kind: u8, cursor: &mut Cursor<'_>, head_end: usize, bytes: Mapped) -> Result<SealedSeries> {
        let count = cursor.count()?;
        let mut entries = Vec::with_capacity(count);
        let mut series = 0u32;
        let (mut start, mut end) = (i64::MAX, i64::MIN);
        for _ in 0..count {
            series = series
                .checked_add(cursor.number()?)
                .ok_or_else(|| StorageError::corrupt("a chunk", "a series id is too large"))?;
            let count = cursor.varint()? as usize;
            let entry = SealedEntry { series, count, start: cursor.signed()?, end: cursor.signed()? };
            if count == 0 || count > SAMPLES_LIMIT {
                return Err(StorageError::corrupt("a chunk", format!("a series claims {count} samples")));
            }
            start = start.min(entry.start);
            end = end.max(entry.end);
            entries.push(entry);
        }
        let packs = read_packs(cursor, head_end)?;
        if packs.len() != entries.len().div_ceil(PACK_ENTRIES) || entries.is_empty() {
            return Err(StorageError::corrupt("a chunk", "it has too few packs"));
        }
        let bytes = bytes.trimmed(packs.last().map_or(head_end, Pack::end));
        Ok(SealedSeries { start, end, entries, kind, compacted: AtomicI64::new(i64::MIN), packs, bytes })
    }

    pub fn compacted(&self) -> i64 {
        self.compacted.load(Relaxed)
    }

    pub fn set_compacted(&self, before: i64) {
        self.compacted.store(before, Relaxed);
    }

    pub fn mapped(&self) -> &Mapped {
        &self.bytes
    }

    pub fn has_histograms(&self) -> bool {
        self.kind == <Arc<Histogram> as Sample>::KIND
    }

    /// The samples of one entry.
    pub fn read<T: Sample>(&self, at: usize, decoder: &mut Decoder) -> Result<Vec<(i64, T)>> {
        let mut pack = self.read_to(at, decoder)?;
        pack.pop().ok_or_else(|| StorageError::corrupt("a chunk", "BUG: a series has no place in its pack"))
    }

    pub fn pack_count(&self) -> usize {
        self.packs.len()
    }

    /// The samples of each entry of a pack.
    pub fn read_pack<T: Sample>(&self, pack: usize, decoder: &mut Decoder) -> Result<Vec<Vec<(i64, T)>>> {
        self.read_to(((pack + 1) * PACK_ENTRIES).min(self.entries.len()) - 1, decoder)
    }

    /// The times of each entry of a pack, whatever its samples are.
    pub fn read_times(&self, pack: usize, decoder: &mut Decoder) -> Result<Vec<Vec<i64>>> {
        fn times<T>(pack: Vec<Vec<(i64, T)>>) -> Vec<Vec<i64>> {
            pack.into_iter().map(|samples| samples.into_iter().map(|s| s.0).collect()).collect()
        }
        if self.kind == <Arc<Histogram> as Sample>::KIND {
            return self.read_pack::<Arc<Histogram>>(pack, decoder).map(times);
        }
        self.read_pack::<f64>(pack, decoder).map(times)
    }

    /// The entries of a pack up to one of them.
    fn read_to<T: Sample>(&self, at: usize, decoder: &mut Decoder) -> Result<Vec<Vec<(i64, T)>>> {
        if self.kind != T::KIND {
            return Err(StorageError::corrupt("a chunk", format!("BUG: kind {} is read as {}", self.kind, T::KIND)));
        }
        let pack = at / PACK_ENTRIES;
        let inflated = self.packs[pack].inflate(&self.bytes)?;
        let mut cursor = Cursor::new(&inflated);
        let entries = &self.entries[pack * PACK_ENTRIES..=at];
        entries.iter().map(|entry| T::decode(&mut cursor, entry.count, decoder)).collect()
    }

    pub fn verify(&self) -> Result<()> {
        self.packs.iter().try_for_each(|p| p.inflate(&self.bytes).map(|_| ()))
    }
}
