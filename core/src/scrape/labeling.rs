//! What a line of a body becomes in one pool: a column, after the target's labels, relabeling and limits, or nothing.
//!
//! It happens once for a line that is new, not once a scrape: `context` keeps what came of it.

use super::plan::PlanError;
use super::text::{self, Line, TextError};
use crate::labels::{Labels, Str, Strings, NAME};
use crate::relabel::{Draft, Rules};
use crate::tsdb::columns::Column;

/// Limits on the labels of a sample; 0 is none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LabelLimits {
    pub count: usize,
    pub name_length: usize,
    pub value_length: usize,
}

impl LabelLimits {
    fn any(&self) -> bool {
        self.count > 0 || self.name_length > 0 || self.value_length > 0
    }

    fn check(&self, draft: &Draft) -> Result<(), String> {
        let short = |text: &str| text.chars().take(50).collect::<String>();
        let metric = short(draft.get(NAME));
        if self.count > 0 && draft.len() > self.count {
            let (count, limit) = (draft.len(), self.count);
            return Err(format!("label_limit exceeded (metric: {metric}, number of labels: {count}, limit: {limit})"));
        }
        for entry in draft.iter() {
            let (name, length, limit) = (short(&entry.name), entry.name.len(), self.name_length);
            if limit > 0 && length > limit {
                return Err(format!(
                    "label_name_length_limit exceeded (metric: {metric}, label name: {name}, length: {length}, limit: {limit})"
                ));
            }
            let (value, length, limit) = (short(&entry.value), entry.value.len(), self.value_length);
            if limit > 0 && length > limit {
                return Err(format!(
                    "label_value_length_limit exceeded (metric: {metric}, label name: {name}, value: {value:?}, length: {length}, limit: {limit})"
                ));
            }
        }
        Ok(())
    }
}

/// How lines become columns in one pool.
#[derive(Debug, Default)]
pub struct Labeling {
    pub honor_labels: bool,
    pub rules: Rules,
    /// Names are letters, digits and `_`, as before Prometheus 3; others fail the scrape.
    pub legacy_names: bool,
    /// Series that a target may have; 0 is any number.
    pub budget: usize,
    /// Three more samples about each scrape.
    pub extra_metrics: bool,
    pub limits: LabelLimits,
}

impl Labeling {
    /// Whether scrapes say this of themselves, by its place in `REPORT`.
    pub fn reports(&self, place: usize) -> bool {
        match place {
            0..5 => true,
            5..8 => self.extra_metrics,
            _ => self.budget > 0,
        }
    }

    /// What a line becomes; None when relabeling drops it.
    pub fn column(&self, target: &Labels, body: &[u8], line: &Line, strings: &mut Strings) -> Result<Option<Column>, PlanError> {
        let key = &body[line.key.start as usize..line.key.end as usize];
        let fail = |reason: String| PlanError::Text(TextError::at(body, line.key.start as usize, reason));
        let exposed = text::read_key(key, line.family).map_err(fail)?;
        let mut draft = Draft::default();
        for (name, value) in &exposed {
            draft.push(strings.intern(name), strings.intern(value));
        }
        if self.honor_labels {
            for (name, value) in target.iter() {
                if !draft.contains(name) {
                    draft.set(name.clone(), value.clone(), true);
                }
            }
            draft.retain(|e| !e.value.is_empty());
        } else {
            draft.retain(|e| !e.value.is_empty());
            let mut conflicts: Vec<(Str, Str)> = Vec::new();
            for (name, value) in target.iter() {
                let existing = draft.get(name);
                if !existing.is_empty() {
                    conflicts.push((name.clone(), existing.into()));
                }
                draft.set(name.clone(), value.clone(), true);
            }
            conflicts.sort_by_key(|c| c.0.len());
            for (name, value) in conflicts {
                let mut renamed = format!("exported_{name}");
                while !draft.get(&renamed).is_empty() {
                    renamed.insert_str(0, "exported_");
                }
                draft.set(strings.intern(&renamed), value, false);
            }
        }
        if !self.rules.apply(&mut draft) || draft.is_empty() {
            return Ok(None);
        }
        if draft.get(NAME).is_empty() {
            return Err(fail("relabeling left no metric name (__name__ label)".into()));
        }
        if self.legacy_names {
            let is_wrong = |name: &Str, value: &Str| {
                !text::is_name(name.as_bytes(), false) || (&**name == NAME && !text::is_name(value.as_bytes(), true))
            };
            if let Some(wrong) = draft.iter().find(|e| is_wrong(&e.name, &e.value)) {
                let wrong = if &*wrong.name == NAME { &wrong.value } else { &wrong.name };
                return Err(fail(format!(
                    "invalid metric name or label name {wrong:?} under metric_name_validation_scheme legacy"
                )));
            }
        }
        self.limits.check(&draft).map_err(PlanError::Limit)?;
        let dropped = target.iter().filter(|l| !draft.contains(&l.0)).map(|l| l.0.clone()).collect();
        let own = draft.iter().filter(|e| !e.from_target).map(|e| (e.name.clone(), e.value.clone())).collect();
        Ok(Some(Column { own: Labels::from_pairs(own), dropped }))
    }
}

/// What of a target's labels can change what a line becomes: all names, and the values that relabeling reads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ContextKey {
    names: Vec<Str>,
    read: Vec<(Str, Str)>,
}

impl ContextKey {
    pub fn new(labeling: &Labeling, target: &Labels) -> ContextKey {
        let limited = labeling.limits.any();
        let read = target.iter().filter(|l| limited || labeling.rules.reads(&l.0));
        ContextKey { names: target.iter().map(|l| l.0.clone()).collect(), read: read.cloned().collect() }
    }
}
