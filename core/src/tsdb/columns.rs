//! Column sets: the series of a scrape body without their values, interned.
//!
//! A column has the pairs that the body itself gives and knows which target labels do not apply to it; together with a
//! target's labels it is a series. A hundred pods of one Deployment expose the same columns, so they share one set. Ids
//! stand in files; the catalog says what they mean. A set is known by its content, compared in full.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::sync::{Arc, Weak};

use hashbrown::hash_map::Entry::{Occupied, Vacant};
use hashbrown::{HashMap, HashSet};
use parking_lot::Mutex;
use rustc_hash::{FxBuildHasher, FxHasher};

use super::catalog::Entry;
use super::{Result, StorageError};
use crate::labels::{Labels, Str, Strings, NAME};

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Column {
    /// The body's own pairs, `__name__` among them, after relabeling.
    pub own: Labels,
    /// Names of target labels that do not apply to this column, beyond those that `own` overrides.
    pub dropped: Box<[Str]>,
}

impl Column {
    pub fn name(&self) -> &str {
        self.own.get(NAME).unwrap_or("")
    }

    pub fn series(&self, target: &Labels) -> Labels {
        Labels::merge(&self.own, target, &self.dropped)
    }
}

// By metric name first: a metric's columns lie side by side, in sets as in chunks.
impl Ord for Column {
    fn cmp(&self, other: &Column) -> Ordering {
        self.name().cmp(other.name()).then_with(|| self.own.cmp(&other.own)).then_with(|| self.dropped.cmp(&other.dropped))
    }
}

impl PartialOrd for Column {
    fn partial_cmp(&self, other: &Column) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Sorted, without repetition.
#[derive(Debug)]
pub struct ColumnSet {
    pub id: u32,
    pub columns: Box<[Arc<Column>]>,
    /// The catalog's id of each column.
    pub ids: Box<[u32]>,
    pub metrics: Arc<Metrics>,
}

/// The metrics of a set's columns and where each of them begins. Targets of one program have the same, whatever else
/// their columns say: it is shared, so that a metric is looked up once for all of them.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Metrics {
    starts: Box<[(Str, u32)]>,
    columns: u32,
}

impl Metrics {
    fn of(columns: &[(Arc<Column>, u32)]) -> Metrics {
        let mut starts: Vec<(Str, u32)> = Vec::new();
        for (at, (column, _)) in columns.iter().enumerate() {
            let name = column.own.shared(NAME);
            if !starts.last().is_some_and(|last| name.map_or(last.0.is_empty(), |name| *name == last.0)) {
                starts.push((name.cloned().unwrap_or_else(|| "".into()), at as u32));
            }
        }
        Metrics { starts: starts.into(), columns: columns.len() as u32 }
    }

    /// The places of a metric's columns.
    pub fn of_metric(&self, name: &str) -> Range<usize> {
        let at = self.starts.partition_point(|s| *s.0 < *name);
        match self.starts.get(at).filter(|s| *s.0 == *name) {
            Some((_, start)) => *start as usize..self.starts.get(at + 1).map_or(self.columns, |s| s.1) as usize,
            None => 0..0,
        }
    }
}

impl ColumnSet {
    pub fn len(&self) -> usize {
        self.columns.len()
    }

    pub fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    /// Where each column of this set stands in the other; `MISSING` where it does not.
    pub fn positions_in(&self, other: &ColumnSet) -> Vec<u32> {
        let mut at = 0;
        let place = |(column, id): (&Arc<Column>, &u32)| {
            // Equal columns have one id. Texts are compared only where one set has what the other has not.
            while at < other.len() && other.ids[at] != *id && other.columns[at] < *column {
                at += 1;
            }
            if at < other.len() && other.ids[at] == *id {
                at as u32
            } else {
                MISSING
            }
        };
        self.columns.iter().zip(&self.ids).map(place).collect()
    }

    /// Where a column of this set stands in a set that has no other columns than this one.
    pub fn place_in_part(&self, column: u32, part: &ColumnSet) -> Option<u32> {
        if std::ptr::eq(self, part) {
            return Some(column);
        }
        let (id, last) = (self.ids[column as usize], column as usize);
        let first = last.saturating_sub(self.len() - part.len());
        let range = first..(last + 1).min(part.len());
        part.ids.get(range)?.iter().position(|i| *i == id).map(|at| (first + at) as u32)
    }
}

pub const MISSING: u32 = u32::MAX;

/// All column sets in use. What is new is given to `record` as catalog entries, before anyone can refer to it.
#[derive(Default)]
pub struct ColumnSets(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    columns: HashMap<Arc<Column>, u32, FxBuildHasher>,
    by_hash: HashMap<u64, Vec<Weak<ColumnSet>>, FxBuildHasher>,
    metrics: HashSet<Arc<Metrics>, FxBuildHasher>,
    strings: Strings,
    next_column: u32,
    next_set: u32,
}

impl ColumnSets {
    /// The set of these columns, and where each of them stands in it. Equal columns stand in one place.
    pub fn intern(
        &self,
        columns: Vec<Column>,
        record: &mut dyn FnMut(Entry<'_>) -> Result<()>,
    ) -> Result<(Arc<ColumnSet>, Vec<u32>)> {
        let mut inner = self.0.lock();
        let mut shared = Vec::with_capacity(columns.len());
        for column in columns {
            shared.push(inner.column(column, record)?);
        }
        let mut order: Vec<u32> = (0..shared.len() as u32).collect();
        order.sort_by(|&a, &b| shared[a as usize].0.cmp(&shared[b as usize].0));
        let mut positions = vec![0u32; shared.len()];
        let mut sorted: Vec<(Arc<Column>, u32)> = Vec::with_capacity(shared.len());
        for i in order {
            let column = &shared[i as usize];
            if sorted.last().is_none_or(|last| last.1 != column.1) {
                sorted.push(column.clone());
            }
            positions[i as usize] = sorted.len() as u32 - 1;
        }
        Ok((inner.set(sorted, None, record)?, positions))
    }

    /// The set of all columns of `base` for which `keep` holds, and all of `other`.
    pub fn union(
        &self,
        base: &ColumnSet,
        keep: impl Fn(usize) -> bool,
        other: &ColumnSet,
        record: &mut dyn FnMut(Entry<'_>) -> Result<()>,
    ) -> Result<Arc<ColumnSet>> {
        let mut sorted: Vec<(Arc<Column>, u32)> = Vec::with_capacity(base.len() + 16);
        let (mut a, mut b) = (0, 0);
        while a < base.len() || b < other.len() {
            let order = match (base.columns.get(a), other.columns.get(b)) {
                (Some(_), None) => Ordering::Less,
                (None, _) => Ordering::Greater,
                (Some(x), Some(y)) if Arc::ptr_eq(x, y) => Ordering::Equal,
                (Some(x), Some(y)) => x.cmp(y),
            };
            if order == Ordering::Less {
                if keep(a) {
                    sorted.push((base.columns[a].clone(), base.ids[a]));
                }
                a += 1;
            } else {
                sorted.push((other.columns[b].clone(), other.ids[b]));
                b += 1;
                a += usize::from(order == Ordering::Equal);
            }
        }
        self.0.lock().set(sorted, Some(base), record)
    }

    /// The set of those columns of `base` for which `keep` holds.
    pub fn subset(
        &self,
        base: &ColumnSet,
        keep: impl Fn(usize) -> bool,
        record: &mut dyn FnMut(Entry<'_>) -> Result<()>,
    ) -> Result<Arc<ColumnSet>> {
        let sorted = (0..base.len()).filter(|i| keep(*i)).map(|i| (base.columns[i].clone(), base.ids[i])).collect();
        self.0.lock().set(sorted, Some(base), record)
    }

    /// Makes room for columns that the catalog will have.
    pub fn expect_columns(&self, count: usize) {
        self.0.lock().columns.reserve(count);
    }

    /// Takes a column as the catalog has it. One that was forgotten and met again has two ids: the first goes for both.
    pub fn restore_column(&self, id: u32, column: Column) -> (Arc<Column>, u32) {
        let mut inner = self.0.lock();
        inner.next_column = inner.next_column.max(id + 1);
        match inner.columns.entry(Arc::new(column)) {
            Occupied(known) => (known.key().clone(), *known.get()),
            Vacant(place) => {
                let column = place.key().clone();
                place.insert(id);
                (column, id)
            }
        }
    }

    /// Takes a set as the catalog has it.
    pub fn restore_set(&self, id: u32, columns: Vec<(Arc<Column>, u32)>) -> Arc<ColumnSet> {
        let mut inner = self.0.lock();
        inner.next_set = inner.next_set.max(id + 1);
        let hash = hash_of(&columns);
        inner.insert(id, columns, hash)
    }

    /// Leaves a gap before the next ids.
    pub fn skip_ids(&self, count: u32) {
        let mut inner = self.0.lock();
        inner.next_column = inner.next_column.saturating_add(count);
        inner.next_set = inner.next_set.saturating_add(count);
    }

    /// No set that comes from here on has this id.
    pub fn pass_set(&self, id: u32) {
        let mut inner = self.0.lock();
        inner.next_set = inner.next_set.max(id.saturating_add(1));
    }

    /// Forgets what nobody holds any more. Returns how many sets and columns are left.
    pub fn sweep(&self) -> (usize, usize) {
        let mut inner = self.0.lock();
        inner.by_hash.retain(|_, sets| {
            sets.retain(|s| s.strong_count() > 0);
            !sets.is_empty()
        });
        inner.columns.retain(|column, _| Arc::strong_count(column) > 1);
        inner.metrics.retain(|metrics| Arc::strong_count(metrics) > 1);
        inner.strings.sweep();
        (inner.by_hash.values().map(Vec::len).sum(), inner.columns.len())
    }
}

impl Inner {
    fn column(&mut self, column: Column, record: &mut dyn FnMut(Entry<'_>) -> Result<()>) -> Result<(Arc<Column>, u32)> {
        if let Some((known, id)) = self.columns.get_key_value(&column) {
            return Ok((known.clone(), *id));
        }
        let id = self.next_column;
        // Targets that differ in one label have their own columns, and all other texts in common.
        let mut share = |text: &Str| self.strings.intern(text);
        let column = Column { own: column.own.map(&mut share), dropped: column.dropped.iter().map(share).collect() };
        record(Entry::Column { id, column: &column })?;
        self.next_column = id.checked_add(1).ok_or_else(|| StorageError::corrupt("the catalog", "it has no more column ids"))?;
        let column = Arc::new(column);
        self.columns.insert(column.clone(), id);
        Ok((column, id))
    }

    fn set(
        &mut self,
        sorted: Vec<(Arc<Column>, u32)>,
        base: Option<&ColumnSet>,
        record: &mut dyn FnMut(Entry<'_>) -> Result<()>,
    ) -> Result<Arc<ColumnSet>> {
        let hash = hash_of(&sorted);
        for known in self.by_hash.get(&hash).into_iter().flatten().filter_map(Weak::upgrade) {
            if known.len() == sorted.len() && known.ids.iter().zip(&sorted).all(|(id, new)| *id == new.1) {
                return Ok(known);
            }
        }
        let id = self.next_set;
        let ids: Vec<u32> = sorted.iter().map(|c| c.1).collect();
        record(Entry::Set { id, base: base.map(|b| (b.id, &*b.ids)), ids: &ids })?;
        self.next_set = id.checked_add(1).ok_or_else(|| StorageError::corrupt("the catalog", "it has no more set ids"))?;
        Ok(self.insert(id, sorted, hash))
    }

    fn insert(&mut self, id: u32, sorted: Vec<(Arc<Column>, u32)>, hash: u64) -> Arc<ColumnSet> {
        let metrics = self.metrics.get_or_insert(Arc::new(Metrics::of(&sorted))).clone();
        let (columns, ids): (Vec<_>, Vec<_>) = sorted.into_iter().unzip();
        let set = Arc::new(ColumnSet { id, columns: columns.into(), ids: ids.into(), metrics });
        self.by_hash.entry(hash).or_default().push(Arc::downgrade(&set));
        set
    }
}

fn hash_of(columns: &[(Arc<Column>, u32)]) -> u64 {
    let mut hasher = FxHasher::default();
    columns.iter().for_each(|c| c.1.hash(&mut hasher));
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    pub fn column(name: &str, code: &str) -> Column {
        let pairs = vec![(NAME.into(), name.into()), ("code".into(), code.into())];
        Column { own: Labels::from_pairs(pairs), dropped: Box::new([]) }
    }

    #[test]
    fn equal_columns_make_one_set_whatever_their_order() {
        let sets = ColumnSets::default();
        let mut entries = 0;
        let mut record = |_: Entry<'_>| {
            entries += 1;
            Ok(())
        };
        let (a, at) = sets.intern(vec![column("b", "1"), column("a", "1"), column("b", "1")], &mut record).unwrap();
        let (b, _) = sets.intern(vec![column("a", "1"), column("b", "1")], &mut record).unwrap();
        assert!(Arc::ptr_eq(&a, &b));
        assert_eq!(at, [1, 0, 1]);
        let more = sets.intern(vec![column("c", "1"), column("a", "1")], &mut record).unwrap().0;
        let all = sets.union(&a, |i| i != 0, &more, &mut record).unwrap();
        assert_eq!(all.columns.iter().map(|c| c.name()).collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(more.positions_in(&all), [0, 2]);
        assert_eq!(a.positions_in(&more), [0, MISSING]);
        assert_eq!(all.metrics.of_metric("b"), 1..2);
        assert_eq!(all.metrics.of_metric("bb"), 0..0);
        assert_eq!(entries, 3 + 3);
    }
}
