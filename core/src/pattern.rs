//! Regular expressions as PromQL and relabeling use them: RE2's language, anchored at both ends, linear time.
//!
//! One engine for all of Bellbuoy: Python's `re` backtracks, so a user's pattern never reaches it.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use regex::{Regex as Engine, RegexBuilder};

/// Memory that a compiled pattern may take.
const SIZE_LIMIT_BYTES: usize = 10 << 20;

/// A pattern that must match the whole of a value.
#[derive(Clone, Debug)]
pub struct Pattern {
    engine: Engine,
    /// A pattern that is an alternation of plain words is answered by comparing.
    words: Option<Vec<String>>,
}

impl Pattern {
    pub fn new(text: &str) -> Result<Pattern, String> {
        let engine = RegexBuilder::new(&format!("^(?:{text})$"))
            .dot_matches_new_line(true)
            .size_limit(SIZE_LIMIT_BYTES)
            .build()
            .map_err(|e| reason(&e))?;
        let plain = |word: &str| !word.contains(|c: char| "\\.+*?()|[]{}^$".contains(c));
        let words: Vec<String> = text.split('|').map(str::to_owned).collect();
        let words = words.iter().all(|w| plain(w)).then_some(words);
        Ok(Pattern { engine, words })
    }

    pub fn matches(&self, value: &str) -> bool {
        match &self.words {
            Some(words) => words.iter().any(|w| w == value),
            None => self.engine.is_match(value),
        }
    }

    /// The template with its groups filled, or None when the value does not match.
    pub fn expand(&self, value: &str, template: &str) -> Option<String> {
        let captures = self.engine.captures(value)?;
        let mut out = String::new();
        captures.expand(template, &mut out);
        Some(out)
    }

    /// The values, when nothing else can match.
    pub fn words(&self) -> Option<&[String]> {
        self.words.as_deref()
    }
}

/// The last line of the engine's message says what is wrong; those above draw the pattern.
fn reason(error: &regex::Error) -> String {
    let text = error.to_string();
    text.lines().last().unwrap_or("").trim_start_matches("error: ").to_owned()
}

#[pyclass(frozen, name = "Regex", module = "bellbuoy._core")]
struct PyPattern(Pattern);

#[pymethods]
impl PyPattern {
    #[new]
    fn new(pattern: &str) -> PyResult<PyPattern> {
        Pattern::new(pattern)
            .map(PyPattern)
            .map_err(|e| PyValueError::new_err(format!("cannot read the regular expression {pattern:?}: {e}")))
    }

    fn matches(&self, value: &str) -> bool {
        self.0.matches(value)
    }

    fn expand(&self, value: &str, template: &str) -> Option<String> {
        self.0.expand(value, template)
    }
}

pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<PyPattern>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_the_whole_value_only() {
        let check = |pattern: &str, value: &str, want: bool| {
            assert_eq!(Pattern::new(pattern).unwrap().matches(value), want, "{pattern} {value}")
        };
        check("a|b", "a", true);
        check("a|b", "ab", false);
        check("a.*", "a\nb", true);
        check("", "", true);
        check("x|", "", true);
        assert!(Pattern::new("(a").is_err());
    }

    #[test]
    fn groups_fill_the_template() {
        let p = Pattern::new("(.*)-(?P<n>\\d+)").unwrap();
        assert_eq!(p.expand("web-7", "${1}/$n/$2"), Some("web/7/7".into()));
        assert_eq!(p.expand("web", "$1"), None);
    }
}
