//! Labels, and lists of label sets as Python holds them.
//!
//! A label set is a sorted, shared slice of shared strings: taking one from the index or giving it to Python copies
//! pointers, not text. `LabelSets` is what PromQL groups, joins and renames without making a dict for each series.

use std::fmt;
use std::sync::Arc;

use hashbrown::HashMap;
use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1};
use pyo3::exceptions::{PyIndexError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyMapping};
use rustc_hash::FxBuildHasher;

pub type Str = Arc<str>;
pub const NAME: &str = "__name__";

/// Label pairs sorted by name; no name twice, no empty value.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Labels(Arc<[(Str, Str)]>);

impl Labels {
    /// Sorts; of equal names the last wins; empty values are no labels.
    pub fn from_pairs(mut pairs: Vec<(Str, Str)>) -> Labels {
        if !pairs.windows(2).all(|w| w[0].0 < w[1].0) {
            pairs.reverse();
            pairs.sort_by(|a, b| a.0.cmp(&b.0));
            pairs.dedup_by(|b, a| a.0 == b.0);
        }
        pairs.retain(|p| !p.1.is_empty());
        Labels(pairs.into())
    }

    pub fn empty() -> Labels {
        Labels(Arc::from(Vec::new()))
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.position(name).map(|i| &*self.0[i].1)
    }

    /// The value itself, to be held on to.
    pub fn shared(&self, name: &str) -> Option<&Str> {
        self.position(name).map(|i| &self.0[i].1)
    }

    fn position(&self, name: &str) -> Option<usize> {
        // Sets are short: walking beats bisecting.
        self.0.iter().position(|p| &*p.0 == name)
    }

    pub fn iter(&self) -> std::slice::Iter<'_, (Str, Str)> {
        self.0.iter()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Own pairs win over those of the target; target labels named in `dropped` do not apply.
    pub fn merge(own: &Labels, target: &Labels, dropped: &[Str]) -> Labels {
        let mut out = Vec::with_capacity(own.len() + target.len());
        let (mut a, mut b) = (own.iter().peekable(), target.iter().peekable());
        loop {
            match (a.peek(), b.peek()) {
                (Some(x), Some(y)) if x.0 < y.0 => out.push(a.next().cloned()),
                (Some(x), Some(y)) if x.0 == y.0 => {
                    b.next();
                    out.push(a.next().cloned());
                }
                (_, Some(y)) if dropped.contains(&y.0) => {
                    b.next();
                }
                (_, Some(_)) => out.push(b.next().cloned()),
                (Some(_), None) => out.push(a.next().cloned()),
                (None, None) => break,
            }
        }
        Labels(out.into_iter().flatten().collect())
    }

    /// The same texts, held by others.
    pub fn map(&self, text: &mut impl FnMut(&Str) -> Str) -> Labels {
        Labels(self.iter().map(|(name, value)| (text(name), text(value))).collect())
    }

    pub fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        for (name, value) in self.iter() {
            dict.set_item(&**name, &**value)?;
        }
        Ok(dict)
    }

    pub fn from_mapping(mapping: &Bound<'_, PyAny>, strings: &mut Strings) -> PyResult<Labels> {
        let mut pairs = Vec::new();
        if let Ok(dict) = mapping.cast::<PyDict>() {
            for (name, value) in dict.iter() {
                pairs.push((strings.take(&name)?, strings.take(&value)?));
            }
        } else {
            for item in mapping.cast::<PyMapping>()?.items()?.iter() {
                let (name, value): (Bound<'_, PyAny>, Bound<'_, PyAny>) = item.extract()?;
                pairs.push((strings.take(&name)?, strings.take(&value)?));
            }
        }
        Ok(Labels::from_pairs(pairs))
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().map(|(n, v)| (n, v))).finish()
    }
}

/// Equal strings of one conversion share one allocation.
#[derive(Default)]
pub struct Strings(HashMap<Str, (), FxBuildHasher>);

impl Strings {
    pub fn intern(&mut self, text: &str) -> Str {
        if let Some((known, ())) = self.0.get_key_value(text) {
            return known.clone();
        }
        let new: Str = text.into();
        self.0.insert(new.clone(), ());
        new
    }

    /// Forgets what nobody else holds.
    pub fn sweep(&mut self) {
        self.0.retain(|text, ()| Arc::strong_count(text) > 1);
    }

    fn take(&mut self, text: &Bound<'_, PyAny>) -> PyResult<Str> {
        let text: &str = text.extract().map_err(|_| {
            PyTypeError::new_err(format!("cannot read a label: {text} is no string; labels map strings to strings"))
        })?;
        Ok(self.intern(text))
    }
}

/// Many label sets, in an order that means something to whoever holds them.
#[pyclass(frozen, module = "bellbuoy._core")]
pub struct LabelSets {
    pub sets: Vec<Labels>,
}

impl LabelSets {
    pub fn new(sets: Vec<Labels>) -> LabelSets {
        LabelSets { sets }
    }

    /// Each set through a function that may reuse pairs.
    fn map(&self, py: Python<'_>, f: impl Fn(&Labels) -> Labels + Sync + Send) -> LabelSets {
        py.detach(|| LabelSets::new(self.sets.iter().map(f).collect()))
    }
}

#[pymethods]
impl LabelSets {
    #[staticmethod]
    fn from_dicts(sets: &Bound<'_, PyAny>) -> PyResult<LabelSets> {
        let mut strings = Strings::default();
        let sets: PyResult<Vec<Labels>> = sets.try_iter()?.map(|one| Labels::from_mapping(&one?, &mut strings)).collect();
        Ok(LabelSets::new(sets?))
    }

    #[staticmethod]
    fn concat(parts: Vec<Bound<'_, LabelSets>>) -> LabelSets {
        LabelSets::new(parts.iter().flat_map(|p| p.get().sets.iter().cloned()).collect())
    }

    fn __len__(&self) -> usize {
        self.sets.len()
    }

    fn __getitem__<'py>(&self, py: Python<'py>, index: isize) -> PyResult<Bound<'py, PyDict>> {
        let at = if index < 0 { index + self.sets.len() as isize } else { index };
        match usize::try_from(at).ok().and_then(|i| self.sets.get(i)) {
            Some(labels) => labels.to_dict(py),
            None => Err(PyIndexError::new_err(format!("label set {index} of {}", self.sets.len()))),
        }
    }

    fn to_dicts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let dicts: PyResult<Vec<Bound<'py, PyDict>>> = self.sets.iter().map(|l| l.to_dict(py)).collect();
        PyList::new(py, dicts?)
    }

    fn take(&self, indexes: PyReadonlyArray1<'_, i64>) -> PyResult<LabelSets> {
        let taken: Option<Vec<Labels>> =
            indexes.as_array().iter().map(|&i| usize::try_from(i).ok().and_then(|i| self.sets.get(i)).cloned()).collect();
        let sets =
            taken.ok_or_else(|| PyIndexError::new_err(format!("an index is outside of {} label sets", self.sets.len())))?;
        Ok(LabelSets::new(sets))
    }

    fn keep(&self, py: Python<'_>, names: Vec<String>) -> LabelSets {
        self.map(py, |l| Labels(l.iter().filter(|p| names.iter().any(|n| **n == *p.0)).cloned().collect()))
    }

    fn drop(&self, py: Python<'_>, names: Vec<String>) -> LabelSets {
        self.map(py, |l| {
            if l.iter().any(|p| names.iter().any(|n| **n == *p.0)) {
                Labels(l.iter().filter(|p| !names.iter().any(|n| **n == *p.0)).cloned().collect())
            } else {
                l.clone()
            }
        })
    }

    fn get(&self, name: &str) -> Vec<&str> {
        self.sets.iter().map(|l| l.get(name).unwrap_or("")).collect()
    }

    fn set(&self, name: &str, values: Vec<String>) -> PyResult<LabelSets> {
        if values.len() != self.sets.len() {
            return Err(PyValueError::new_err(format!(
                "{} values for {} label sets: give one for each",
                values.len(),
                self.sets.len()
            )));
        }
        let name: Str = name.into();
        let mut strings = Strings::default();
        let sets = self.sets.iter().zip(values).map(|(labels, value)| {
            let mut pairs: Vec<(Str, Str)> = labels.iter().filter(|p| p.0 != name).cloned().collect();
            if !value.is_empty() {
                let at = pairs.partition_point(|p| p.0 < name);
                pairs.insert(at, (name.clone(), strings.intern(&value)));
            }
            Labels(pairs.into())
        });
        Ok(LabelSets::new(sets.collect()))
    }

    #[allow(clippy::type_complexity)]
    fn group<'py>(&self, py: Python<'py>) -> (Bound<'py, PyArray1<i64>>, Bound<'py, PyArray1<i64>>) {
        let (ids, firsts) = py.detach(|| {
            let mut seen: HashMap<&Labels, i64, FxBuildHasher> =
                HashMap::with_capacity_and_hasher(self.sets.len().min(1 << 16), FxBuildHasher);
            let mut firsts: Vec<i64> = Vec::new();
            let ids: Vec<i64> = self
                .sets
                .iter()
                .enumerate()
                .map(|(i, labels)| {
                    *seen.entry(labels).or_insert_with(|| {
                        firsts.push(i as i64);
                        firsts.len() as i64 - 1
                    })
                })
                .collect();
            (ids, firsts)
        });
        (ids.into_pyarray(py), firsts.into_pyarray(py))
    }

    fn order<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<i64>> {
        let order = py.detach(|| {
            let mut order: Vec<i64> = (0..self.sets.len() as i64).collect();
            order.sort_by(|&a, &b| self.sets[a as usize].cmp(&self.sets[b as usize]));
            order
        });
        order.into_pyarray(py)
    }

    fn __repr__(&self) -> String {
        format!("<LabelSets of {}>", self.sets.len())
    }
}

pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<LabelSets>()
}

#[cfg(test)]
mod tests {
    use super::*;

    pub fn labels(text: &[(&str, &str)]) -> Labels {
        Labels::from_pairs(text.iter().map(|(n, v)| (Str::from(*n), Str::from(*v))).collect())
    }

    #[test]
    fn pairs_are_sorted_and_the_last_of_a_name_wins() {
        let got = labels(&[("b", "1"), ("a", "2"), ("b", "3"), ("c", "")]);
        assert_eq!(got, labels(&[("a", "2"), ("b", "3")]));
        assert_eq!(got.get("b"), Some("3"));
        assert_eq!(got.get("c"), None);
    }

    #[test]
    fn own_labels_win_and_dropped_target_labels_do_not_apply() {
        let own = labels(&[("__name__", "up"), ("pod", "own")]);
        let target = labels(&[("job", "j"), ("node", "n"), ("pod", "target")]);
        let got = Labels::merge(&own, &target, &["node".into()]);
        assert_eq!(got, labels(&[("__name__", "up"), ("job", "j"), ("pod", "own")]));
    }
}
