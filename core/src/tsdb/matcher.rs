//! Matchers, compiled once a query and asked for each column set and each target, not for each series.

use hashbrown::HashMap;
use parking_lot::Mutex;
use rustc_hash::FxBuildHasher;

use super::columns::Column;
use super::{Result, StorageError};
use crate::labels::{Labels, NAME};
use crate::pattern::Pattern;

enum Test {
    Equal(String),
    Match(Pattern),
}

pub struct Matcher {
    name: String,
    test: Test,
    negated: bool,
    /// Answers of a regular expression: values repeat from target to target.
    known: Mutex<HashMap<Box<str>, bool, FxBuildHasher>>,
}

impl Matcher {
    pub fn new(name: String, operator: &str, value: String) -> Result<Matcher> {
        let test = match operator {
            "=" | "!=" => Test::Equal(value),
            _ => Test::Match(Pattern::new(&value).map_err(|reason| StorageError::Pattern { pattern: value, reason })?),
        };
        Ok(Matcher { name, test, negated: operator.starts_with('!'), known: Mutex::default() })
    }

    fn equal(&self) -> Option<&str> {
        match &self.test {
            Test::Equal(value) => Some(value),
            Test::Match(_) => None,
        }
    }

    pub fn matches(&self, value: &str) -> bool {
        let found = match &self.test {
            Test::Equal(want) => want == value,
            Test::Match(pattern) => {
                let mut known = self.known.lock();
                match known.get(value) {
                    Some(answer) => *answer,
                    None => *known.entry(value.into()).insert(pattern.matches(value)).get(),
                }
            }
        };
        found != self.negated
    }
}

/// All matchers of a selector; a series must satisfy each.
pub struct Selector {
    matchers: Vec<Matcher>,
    /// The matcher that gives the metric's name, when only one can match.
    named: Option<usize>,
}

/// More matchers than bits is no selector that anybody writes.
pub const MATCHERS_LIMIT: usize = 64;

impl Selector {
    pub fn new(matchers: Vec<(String, String, String)>) -> Result<Selector> {
        if matchers.len() > MATCHERS_LIMIT {
            return Err(StorageError::corrupt(
                "a selector",
                format!("it has {} matchers, more than {MATCHERS_LIMIT}", matchers.len()),
            ));
        }
        let compiled: Result<Vec<Matcher>> = matchers.into_iter().map(|(n, o, v)| Matcher::new(n, &o, v)).collect();
        let matchers = compiled?;
        let named = matchers.iter().position(|m| m.name == NAME && !m.negated && m.equal().is_some_and(|v| !v.is_empty()));
        Ok(Selector { matchers, named })
    }

    /// The metric's name, when only one can match. Who looks for columns looks for it first.
    pub fn metric(&self) -> Option<&str> {
        self.named.and_then(|i| self.matchers[i].equal())
    }

    pub fn matches(&self, labels: &Labels) -> bool {
        self.matchers.iter().all(|m| m.matches(labels.get(&m.name).unwrap_or("")))
    }

    /// A bit for each matcher that the target's labels satisfy.
    pub fn satisfied(&self, target: &Labels) -> u64 {
        self.matchers
            .iter()
            .enumerate()
            .fold(0, |bits, (i, m)| bits | u64::from(m.matches(target.get(&m.name).unwrap_or(""))) << i)
    }

    /// The matchers that the target has to satisfy for this column to match; None when it cannot. A column that was found
    /// by its metric's name is not asked for it again.
    pub fn residue(&self, column: &Column) -> Option<u64> {
        let mut residue = 0;
        for (i, matcher) in self.matchers.iter().enumerate().filter(|(i, _)| Some(*i) != self.named) {
            let own = match column.own.get(&matcher.name) {
                Some(value) => Some(value),
                None if column.dropped.iter().any(|n| **n == *matcher.name) => Some(""),
                None => None,
            };
            match own {
                Some(value) if !matcher.matches(value) => return None,
                Some(_) => {}
                None => residue |= 1 << i,
            }
        }
        Some(residue)
    }
}
