//! Scan plans: how a body reads, so that the next one is walked and not parsed.
//!
//! A plan holds the text between the values of a body, and for each line the slot of its value in the row of the plan's
//! column set. A body is walked by comparing that text and reading the values in between. Where lines came, went or moved,
//! the walk finds its place again by the line's key; a key that the plan does not know ends it, and `context` makes another
//! plan. A plan never changes.

use std::hash::Hasher;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use hashbrown::HashTable;
use rustc_hash::FxHasher;

use super::text::{self, Format, TextError};
use crate::tsdb::columns::ColumnSet;
use crate::tsdb::{StorageError, ABSENT_BITS};

/// Samples that a scrape adds to the target's row, in the order of `Plan::report`: five always, three if the pool wants more
/// of them, the last one if it has a budget.
pub const REPORT: [&str; 9] = [
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
    "scrape_timeout_seconds",
    "scrape_sample_limit",
    "scrape_body_size_bytes",
    "scrape_series_dropped",
];

/// The slot of a line that relabeling drops.
pub(super) const DROPPED: u32 = u32::MAX;
/// The slot of a line that the target's budget has no room for.
pub(super) const OVER_BUDGET: u32 = u32::MAX - 1;
/// How many lines ahead the walk looks for its place before it asks the index.
const LOOK_AHEAD_LINES: usize = 16;

#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    #[error("{0}")]
    Text(TextError),
    /// A limit of the pool, in Prometheus's words.
    #[error("{0}")]
    Limit(String),
    #[error("{0}")]
    Storage(#[from] StorageError),
}

/// A body, and how to read it.
#[derive(Clone, Copy)]
pub struct Body<'a> {
    pub text: &'a [u8],
    pub format: Format,
    /// How many histograms the text refers to.
    pub histograms: usize,
    /// Timestamps in the body count; else the scrape's does.
    pub honor_timestamps: bool,
}

/// A sample with a timestamp of its own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timed {
    pub slot: u32,
    pub time_ms: i64,
    pub value: f64,
}

/// What a body says: filled by a walk or a scan, and used again for the next body.
#[derive(Default)]
pub struct Reading {
    /// One value for each column of the plan's set; absent where the body has none, a mark where it has a histogram.
    pub row: Vec<f64>,
    pub timed: Vec<Timed>,
    /// Exemplars: the slot of the line's series, and where the exemplar stands in the body.
    pub exemplars: Vec<(u32, Range<usize>)>,
    /// Sample lines of the body.
    pub lines: usize,
    /// By relabeling, or for want of room.
    pub dropped: usize,
    /// Those of the dropped that the budget has no room for.
    pub over_budget: usize,
    /// Lines whose series another line had filled before.
    pub duplicates: usize,
}

impl Reading {
    /// Nothing read yet, into a row of this width.
    pub fn start(&mut self, width: usize) {
        self.row.clear();
        self.row.resize(width, f64::from_bits(ABSENT_BITS));
        self.timed.clear();
        self.exemplars.clear();
        (self.lines, self.dropped, self.duplicates, self.over_budget) = (0, 0, 0, 0);
    }

    #[inline(always)]
    pub(super) fn put(&mut self, slot: u32, value: f64, time_ms: Option<i64>) {
        self.lines += 1;
        if let Some(time_ms) = time_ms {
            if slot >= OVER_BUDGET {
                self.drop(slot);
            } else {
                self.timed.push(Timed { slot, time_ms, value });
            }
            return;
        }
        match self.row.get_mut(slot as usize) {
            Some(cell) if cell.to_bits() == ABSENT_BITS => *cell = value,
            Some(_) => self.duplicates += 1,
            None => self.drop(slot),
        }
    }

    #[inline(always)]
    fn drop(&mut self, slot: u32) {
        self.dropped += 1;
        self.over_budget += usize::from(slot == OVER_BUDGET);
    }

    /// What remains after relabeling, and within the budget.
    pub fn kept(&self) -> usize {
        self.lines - self.dropped - self.duplicates
    }
}

/// When a target last saw each line of its plan, in windows of scrapes.
#[derive(Default)]
pub struct Seen {
    pub window: u8,
    pub(super) marks: Vec<u8>,
}

impl Seen {
    pub(super) fn is_recent(&self, line: usize) -> bool {
        self.marks.get(line).is_some_and(|m| self.window.wrapping_sub(*m) < 2)
    }

    /// Starts the next window; true when lines have not been seen for the whole of this one.
    pub fn turn(&mut self) -> bool {
        let stale = self.marks.iter().any(|m| *m != self.window);
        self.window = self.window.wrapping_add(1);
        stale
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PlanLine {
    /// Where the line's key starts in the plan's text; it ends where the literal ends.
    pub(super) key: u32,
    /// Where the literal of this line ends, and that of the next starts.
    pub(super) end: u32,
    pub(super) slot: u32,
}

pub struct Plan {
    pub(super) format: Format,
    pub(super) text: Box<[u8]>,
    pub(super) lines: Box<[PlanLine]>,
    /// What follows the last value.
    pub(super) tail: Box<[u8]>,
    pub columns: Arc<ColumnSet>,
    /// Slots of the samples in `REPORT`; `DROPPED` for those that the pool does not have.
    pub report: [u32; REPORT.len()],
    /// Line numbers by key, made when a walk first needs them.
    pub(super) index: OnceLock<HashTable<u32>>,
}

/// The walk met a key that the plan does not know, or text that only a scan can judge.
#[derive(Debug)]
pub struct Unknown;

pub(super) fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = FxHasher::default();
    hasher.write(bytes);
    hasher.finish()
}

impl Plan {
    pub(super) fn key(&self, line: usize) -> &[u8] {
        let line = &self.lines[line];
        &self.text[line.key as usize..line.end as usize]
    }

    pub(super) fn start(&self, line: usize) -> usize {
        if line == 0 {
            0
        } else {
            self.lines[line - 1].end as usize
        }
    }

    /// How many lines the budget has no room for.
    pub(super) fn over_budget(&self) -> usize {
        self.lines.iter().filter(|line| line.slot == OVER_BUDGET).count()
    }

    fn index(&self) -> &HashTable<u32> {
        self.index.get_or_init(|| {
            let mut index = HashTable::with_capacity(self.lines.len());
            for line in 0..self.lines.len() {
                let key = self.key(line);
                let same = |other: &u32| self.key(*other as usize) == key;
                index.entry(hash(key), same, |other| hash(self.key(*other as usize))).or_insert(line as u32);
            }
            index
        })
    }

    fn find(&self, key: &[u8]) -> Option<usize> {
        self.index().find(hash(key), |line| self.key(*line as usize) == key).map(|line| *line as usize)
    }

    pub fn bytes(&self) -> usize {
        self.text.len() + self.tail.len() + self.lines.len() * std::mem::size_of::<PlanLine>()
    }

    pub fn line_count(&self) -> usize {
        self.lines.len()
    }

    /// The body's comments, as far as the plan has read them.
    pub fn texts(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.lines.len()).map(|i| &self.text[self.start(i)..self.lines[i].key as usize]).chain([&*self.tail])
    }

    /// Reads a body by the plan. On `Unknown` the reading is worth nothing.
    pub fn walk(&self, body: &Body<'_>, out: &mut Reading, seen: &mut Seen) -> Result<(), Unknown> {
        let Body { text: body, format, histograms, honor_timestamps } = *body;
        if format != self.format || (format == Format::OpenMetrics && !text::ends_with_eof(body)) {
            return Err(Unknown);
        }
        out.start(self.columns.columns.len());
        seen.marks.resize(self.lines.len(), seen.window);
        let mut at = 0;
        let mut line = 0;
        let mut start = 0;
        loop {
            let expected = match self.lines.get(line) {
                Some(expected) => {
                    let literal = &self.text[start..expected.end as usize];
                    body[at..].starts_with(literal).then_some((line, at + literal.len()))
                }
                None if body[at..] == *self.tail => return Ok(()),
                None => None,
            };
            (line, at) = match expected {
                Some(found) => found,
                None => match self.resync(body, at, line)? {
                    Some(found) => found,
                    None => return Ok(()),
                },
            };
            start = self.value(body, &mut at, line, (histograms, honor_timestamps), out, seen)?;
            line += 1;
        }
    }

    /// Takes the value of a line; returns where the next line's literal starts.
    #[inline(always)]
    fn value(
        &self,
        body: &[u8],
        at: &mut usize,
        line: usize,
        (histograms, honor_timestamps): (usize, bool),
        out: &mut Reading,
        seen: &mut Seen,
    ) -> Result<usize, Unknown> {
        let (value, length) = match text::read_value(&body[*at..]) {
            Some(number) => number,
            None => text::read_histogram(&body[*at..], histograms).ok_or(Unknown)?,
        };
        *at += length;
        let mut time = None;
        let expected = &self.lines[line];
        if body.get(*at) == Some(&b' ') {
            if matches!(body.get(*at + 1), Some(b'0'..=b'9' | b'-')) {
                let (time_ms, length) = text::read_timestamp(&body[*at + 1..], self.format).ok_or(Unknown)?;
                *at += 1 + length;
                time = honor_timestamps.then_some(time_ms);
            }
            if self.format != Format::Prometheus && body[*at..].starts_with(b" # ") {
                let start = text::skip_blanks(body, *at + 3);
                *at = memchr::memchr(b'\n', &body[start..]).map_or(body.len(), |i| start + i);
                out.exemplars.push((expected.slot, start..*at));
            }
        }
        out.put(expected.slot, value, time);
        seen.marks[line] = seen.window;
        Ok(expected.end as usize)
    }

    /// The line that the body goes on with after `at`, and where its value starts; None at the end of the body.
    #[cold]
    #[inline(never)]
    fn resync(&self, body: &[u8], at: usize, line: usize) -> Result<Option<(usize, usize)>, Unknown> {
        let mut start = at;
        if at > 0 {
            start = text::skip_blanks(body, at);
            match body.get(start) {
                None => return Ok(None),
                Some(b'\n') => start += 1,
                Some(_) => return Err(Unknown),
            }
        }
        loop {
            match body.get(start) {
                None => return Ok(None),
                Some(b'\n') => start += 1,
                Some(b'#') => {
                    let comment = start;
                    start = text::next_line(body, start);
                    // An end before the end: the scan says what is wrong.
                    if self.format == Format::OpenMetrics && start < body.len() && body[comment..].starts_with(b"# EOF\n") {
                        return Err(Unknown);
                    }
                }
                Some(_) => break,
            }
        }
        let rest = &body[start..];
        for ahead in line..self.lines.len().min(line + LOOK_AHEAD_LINES) {
            let key = self.key(ahead);
            if rest.starts_with(key) {
                return Ok(Some((ahead, start + key.len())));
            }
        }
        let value_at = text::key_end(body, start).ok_or(Unknown)?;
        let found = self.find(&body[start..value_at]).ok_or(Unknown)?;
        Ok(Some((found, value_at)))
    }
}
