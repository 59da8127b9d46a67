//! Relabeling: rules that keep, drop and rewrite labels, as Prometheus's `relabel_configs` define them.
//!
//! One compiled list serves discovery (whole label sets, from Python) and metric relabeling (the labels of a scraped line,
//! once for each line of a scan plan). Labels that come from the target are marked, so that a scan plan knows what a line
//! brought itself; and rules tell which labels' values they read, so that targets that differ elsewhere share a plan.

use md5::{Digest, Md5};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyMapping};

use crate::labels::{Labels, Str, Strings};
use crate::pattern::Pattern;

const DEFAULT_REGEX: &str = "(.*)";
const DEFAULT_REPLACEMENT: &str = "$1";
const DEFAULT_SEPARATOR: &str = ";";

/// Labels while rules change them, in no order. Few, so that walking beats hashing.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
pub struct Entry {
    pub name: Str,
    pub value: Str,
    /// The target's label, untouched: not the line's own.
    pub from_target: bool,
}

impl Draft {
    pub fn clear(&mut self) {
        self.entries.clear();
    }

    pub fn get(&self, name: &str) -> &str {
        self.entries.iter().find(|e| &*e.name == name).map_or("", |e| &e.value)
    }

    pub fn contains(&self, name: &str) -> bool {
        self.entries.iter().any(|e| &*e.name == name)
    }

    /// An empty value removes the label.
    pub fn set(&mut self, name: Str, value: Str, from_target: bool) {
        if value.is_empty() {
            self.remove(&name);
            return;
        }
        match self.entries.iter_mut().find(|e| e.name == name) {
            Some(entry) => *entry = Entry { name, value, from_target },
            None => self.entries.push(Entry { name, value, from_target }),
        }
    }

    /// Adds without looking for the name, and keeps an empty value: what a line said, word for word.
    pub fn push(&mut self, name: Str, value: Str) {
        self.entries.push(Entry { name, value, from_target: false });
    }

    pub fn remove(&mut self, name: &str) {
        self.entries.retain(|e| &*e.name != name);
    }

    pub fn retain(&mut self, keep: impl FnMut(&Entry) -> bool) {
        self.entries.retain(keep);
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Entry> {
        self.entries.iter()
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn labels(&self) -> Labels {
        Labels::from_pairs(self.entries.iter().map(|e| (e.name.clone(), e.value.clone())).collect())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Replace,
    Keep,
    Drop,
    KeepEqual,
    DropEqual,
    HashMod,
    LabelMap,
    LabelDrop,
    LabelKeep,
    Lowercase,
    Uppercase,
}

const ACTIONS: [(&str, Action); 11] = [
    ("replace", Action::Replace),
    ("keep", Action::Keep),
    ("drop", Action::Drop),
    ("keepequal", Action::KeepEqual),
    ("dropequal", Action::DropEqual),
    ("hashmod", Action::HashMod),
    ("labelmap", Action::LabelMap),
    ("labeldrop", Action::LabelDrop),
    ("labelkeep", Action::LabelKeep),
    ("lowercase", Action::Lowercase),
    ("uppercase", Action::Uppercase),
];

#[derive(Debug)]
struct Rule {
    action: Action,
    source_labels: Vec<Str>,
    separator: String,
    regex: Pattern,
    modulus: u64,
    target_label: Str,
    /// `target_label` has groups of the regex in it.
    target_is_template: bool,
    replacement: String,
}

impl Rule {
    /// False when the labels are dropped.
    fn apply(&self, draft: &mut Draft, scratch: &mut String) -> bool {
        scratch.clear();
        for (i, name) in self.source_labels.iter().enumerate() {
            if i > 0 {
                scratch.push_str(&self.separator);
            }
            scratch.push_str(draft.get(name));
        }
        match self.action {
            Action::Keep => return self.regex.matches(scratch),
            Action::Drop => return !self.regex.matches(scratch),
            Action::KeepEqual => return draft.get(&self.target_label) == *scratch,
            Action::DropEqual => return draft.get(&self.target_label) != *scratch,
            Action::Replace => {
                let Some(value) = self.regex.expand(scratch, &self.replacement) else {
                    return true;
                };
                let name = if self.target_is_template {
                    match self.regex.expand(scratch, &self.target_label) {
                        Some(name) if !name.is_empty() => name.into(),
                        _ => return true,
                    }
                } else {
                    self.target_label.clone()
                };
                draft.set(name, value.into(), false);
            }
            Action::Lowercase => draft.set(self.target_label.clone(), scratch.to_lowercase().into(), false),
            Action::Uppercase => draft.set(self.target_label.clone(), scratch.to_uppercase().into(), false),
            Action::HashMod => {
                let hash = Md5::digest(scratch.as_bytes());
                let low = hash[8..].iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
                draft.set(self.target_label.clone(), (low % self.modulus).to_string().into(), false);
            }
            Action::LabelMap => {
                let mapped: Vec<(Str, Str)> = draft
                    .iter()
                    .filter_map(|e| Some((self.regex.expand(&e.name, &self.replacement)?.into(), e.value.clone())))
                    .collect();
                for (name, value) in mapped {
                    draft.set(name, value, false);
                }
            }
            Action::LabelDrop => draft.retain(|e| !self.regex.matches(&e.name)),
            Action::LabelKeep => draft.retain(|e| self.regex.matches(&e.name)),
        }
        true
    }

    fn reads(&self, name: &str) -> bool {
        match self.action {
            Action::LabelDrop | Action::LabelKeep => false,
            Action::LabelMap => self.regex.matches(name),
            Action::KeepEqual | Action::DropEqual if &*self.target_label == name => true,
            _ => self.source_labels.iter().any(|l| &**l == name),
        }
    }
}

/// A compiled list of rules.
#[derive(Debug, Default)]
pub struct Rules(Vec<Rule>);

impl Rules {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// False when a rule dropped the labels.
    pub fn apply(&self, draft: &mut Draft) -> bool {
        let mut scratch = String::new();
        self.0.iter().all(|rule| rule.apply(draft, &mut scratch))
    }

    /// Whether the outcome depends on the value of this label, and not only on its being there.
    pub fn reads(&self, name: &str) -> bool {
        self.0.iter().any(|rule| rule.reads(name))
    }

    pub fn from_python(rules: &Bound<'_, PyAny>) -> PyResult<Rules> {
        let compiled: PyResult<Vec<Rule>> = rules
            .try_iter()?
            .enumerate()
            .map(|(index, rule)| {
                let rule = rule?;
                let mapping = rule
                    .cast::<PyMapping>()
                    .map_err(|_| PyValueError::new_err(format!("relabel rule {index}: expected a mapping, not {rule}")))?;
                read_rule(mapping).map_err(|reason| PyValueError::new_err(format!("relabel rule {index}: {reason}")))
            })
            .collect();
        Ok(Rules(compiled?))
    }
}

/// The texts of one rule as Python gave them; None where a key is absent.
struct Given<'a, 'py>(&'a Bound<'py, PyMapping>);

impl Given<'_, '_> {
    fn item(&self, key: &str) -> Option<Bound<'_, PyAny>> {
        self.0.get_item(key).ok().filter(|v| !v.is_none())
    }

    fn text(&self, key: &str) -> Result<Option<String>, String> {
        let Some(value) = self.item(key) else {
            return Ok(None);
        };
        match value.extract::<String>() {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(format!("{key} is {value}: expected a string")),
        }
    }
}

fn read_rule(rule: &Bound<'_, PyMapping>) -> Result<Rule, String> {
    const KEYS: [&str; 7] = ["source_labels", "separator", "regex", "modulus", "target_label", "replacement", "action"];
    let keys = rule.keys().map_err(|e| e.to_string())?;
    for key in keys.iter() {
        let name = key.extract::<String>().map_err(|_| format!("the key {key} is no string"))?;
        if !KEYS.contains(&name.as_str()) {
            return Err(format!("{name} is no key of a rule; use one of {}", KEYS.join(", ")));
        }
    }
    let given = Given(rule);
    let action_text = given.text("action")?.unwrap_or_else(|| "replace".into()).to_lowercase();
    let action = ACTIONS.iter().find(|a| a.0 == action_text).map(|a| a.1).ok_or_else(|| {
        let known: Vec<&str> = ACTIONS.iter().map(|a| a.0).collect();
        format!("action is {action_text:?}; use one of {}", known.join(", "))
    })?;
    let regex_text = given.text("regex")?;
    let separator = given.text("separator")?;
    let replacement = given.text("replacement")?;
    let target_label = given.text("target_label")?.unwrap_or_default();
    let source_labels: Vec<String> = match given.item("source_labels") {
        None => Vec::new(),
        Some(value) => value.extract().map_err(|_| format!("source_labels is {value}: expected a list of label names"))?,
    };
    let modulus: u64 = match given.item("modulus") {
        None => 0,
        Some(value) => value.extract().map_err(|_| format!("modulus is {value}: expected a whole number of at least 1"))?,
    };

    let needs_target = matches!(
        action,
        Action::Replace | Action::HashMod | Action::Lowercase | Action::Uppercase | Action::KeepEqual | Action::DropEqual
    );
    if needs_target && target_label.is_empty() {
        return Err(format!("target_label is missing: {action_text} needs the name of the label that it acts on"));
    }
    if action == Action::HashMod && modulus == 0 {
        return Err("modulus is missing: hashmod needs a whole number of at least 1".into());
    }
    let refuse = |key: &str, is_set: bool| match is_set {
        true => Err(format!("{key} has no meaning for {action_text}: remove it")),
        false => Ok(()),
    };
    let own_separator = separator.as_deref().is_some_and(|s| s != DEFAULT_SEPARATOR);
    let own_replacement = replacement.as_deref().is_some_and(|r| r != DEFAULT_REPLACEMENT);
    match action {
        Action::Lowercase | Action::Uppercase => refuse("replacement", own_replacement)?,
        Action::KeepEqual | Action::DropEqual => {
            refuse("regex", regex_text.as_deref().is_some_and(|r| r != DEFAULT_REGEX))?;
            refuse("modulus", modulus != 0)?;
            refuse("separator", own_separator)?;
            refuse("replacement", own_replacement)?;
        }
        Action::LabelDrop | Action::LabelKeep => {
            refuse("source_labels", !source_labels.is_empty())?;
            refuse("target_label", !target_label.is_empty())?;
            refuse("modulus", modulus != 0)?;
            refuse("separator", own_separator)?;
            refuse("replacement", own_replacement)?;
        }
        _ => {}
    }

    let regex_text = regex_text.unwrap_or_else(|| DEFAULT_REGEX.into());
    let regex = Pattern::new(&regex_text).map_err(|e| format!("regex is {regex_text:?}: {e}"))?;
    Ok(Rule {
        action,
        source_labels: source_labels.iter().map(|l| Str::from(l.as_str())).collect(),
        separator: separator.unwrap_or_else(|| DEFAULT_SEPARATOR.into()),
        regex,
        modulus,
        target_is_template: target_label.contains('$'),
        target_label: target_label.into(),
        replacement: replacement.unwrap_or_else(|| DEFAULT_REPLACEMENT.into()),
    })
}

#[pyclass(frozen, module = "bellbuoy._core")]
pub struct Relabeler {
    rules: Rules,
}

fn draft_of(labels: &Bound<'_, PyAny>) -> PyResult<Draft> {
    let labels = Labels::from_mapping(labels, &mut Strings::default())?;
    let mut draft = Draft::default();
    for (name, value) in labels.iter() {
        draft.push(name.clone(), value.clone());
    }
    Ok(draft)
}

#[pymethods]
impl Relabeler {
    #[new]
    fn new(rules: &Bound<'_, PyAny>) -> PyResult<Relabeler> {
        Ok(Relabeler { rules: Rules::from_python(rules)? })
    }

    fn apply<'py>(&self, py: Python<'py>, labels: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let mut draft = draft_of(labels)?;
        if !self.rules.apply(&mut draft) {
            return Ok(None);
        }
        draft.labels().to_dict(py).map(Some)
    }

    fn steps<'py>(&self, py: Python<'py>, labels: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyList>> {
        let mut draft = draft_of(labels)?;
        let mut scratch = String::new();
        let steps = PyList::empty(py);
        for rule in &self.rules.0 {
            if !rule.apply(&mut draft, &mut scratch) {
                steps.append(py.None())?;
                break;
            }
            steps.append(draft.labels().to_dict(py)?)?;
        }
        Ok(steps)
    }
}

pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Relabeler>()
}
