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
        Ok(Selector { matchers: compiled? })
    }

    /// The metric's name, when only one can match.
    pub fn metric(&self) -> Option<&str> {
        self.matchers.iter().find_map(|m| match &m.test {
            Test::Equal(value) if m.name == NAME && !m.negated && !value.is_empty() => Some(value.as_str()),
            _ => None,
        })
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

    /// The matchers that the target has to satisfy for this column to match; None when it cannot.
    pub fn residue(&self, column: &Column) -> Option<u64> {
        let mut residue = 0;
        for (i, matcher) in self.matchers.iter().enumerate() {
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
