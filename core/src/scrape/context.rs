//! The plans of all targets whose labels relabeling cannot tell apart: how a plan grows, and that equal ones are one.
//!
//! A body that no plan could walk is scanned in full. The new plan is the old one with the body's new lines in it, in the
//! body's order; old lines that the target has not shown for long are left out. `labeling` says what a new line becomes.

use std::sync::{Arc, OnceLock, Weak};

use hashbrown::HashMap;
use parking_lot::Mutex;
use rustc_hash::FxBuildHasher;

use super::labeling::Labeling;
use super::plan::{hash, Body, Plan, PlanError, PlanLine, Reading, Seen, DROPPED, OVER_BUDGET, REPORT};
use super::text::{self, Format, Line};
use crate::labels::{Labels, Strings, NAME};
use crate::tsdb::columns::{Column, ColumnSet};
use crate::tsdb::StorageError;

/// Gives the interned set of some columns, and each one's position in it.
pub type Intern<'a> = dyn Fn(Vec<Column>) -> Result<(Arc<ColumnSet>, Vec<u32>), StorageError> + 'a;

/// The plans of all targets that share a `ContextKey`.
pub struct Context {
    labeling: Arc<Labeling>,
    /// The labels of one such target: no line's columns depend on what differs between them.
    target: Labels,
    plans: Mutex<HashMap<u64, Vec<Weak<Plan>>, FxBuildHasher>>,
}

/// Where a line of a new plan comes from.
#[derive(Clone, Copy)]
enum Origin {
    /// A line of the old plan that the body does not have.
    Kept(u32),
    /// A line of the body, which the old plan has.
    Known { body: u32, old: u32 },
    /// A line of the body that is new.
    New(u32),
}

impl Context {
    pub fn new(labeling: Arc<Labeling>, target: Labels) -> Context {
        Context { labeling, target, plans: Mutex::default() }
    }

    pub fn plan_count(&self) -> (usize, usize) {
        let plans = self.plans.lock();
        let alive = plans.values().flatten().filter_map(Weak::upgrade);
        alive.fold((0, 0), |sum, plan| (sum.0 + 1, sum.1 + plan.bytes()))
    }

    /// The plan of a target that has said nothing yet.
    pub fn empty(&self, intern: &Intern<'_>) -> Result<Arc<Plan>, PlanError> {
        self.finish(None, Format::Prometheus, &[], &[], &[], intern).map(|p| p.0)
    }

    /// Reads a body in full, and gives the plan for the next: the old one with the body's new lines in it. Old lines that the
    /// target has not seen for long are left out.
    pub fn scan(
        &self,
        old: Option<&Plan>,
        body: &Body<'_>,
        out: &mut Reading,
        seen: &mut Seen,
        intern: &Intern<'_>,
    ) -> Result<Arc<Plan>, PlanError> {
        let Body { text: body, format, histograms, honor_timestamps } = *body;
        let scanned = text::scan_with(body, format, histograms).map_err(PlanError::Text)?;
        let old = old.filter(|p| p.format == format);
        let origins = arrange(old, body, &scanned, seen);
        let (plan, origins) = self.finish(old, format, body, &scanned, &origins, intern)?;
        out.start(plan.columns.columns.len());
        let mut marks = vec![seen.window; plan.lines.len()];
        let mut slots = vec![DROPPED; scanned.len()];
        for (line, origin) in origins.iter().enumerate() {
            match *origin {
                Origin::Kept(old) => marks[line] = seen.marks.get(old as usize).copied().unwrap_or(seen.window),
                Origin::Known { body, .. } | Origin::New(body) => slots[body as usize] = plan.lines[line].slot,
            }
        }
        seen.marks = marks;
        for (line, slot) in scanned.iter().zip(slots) {
            if let Some(at) = &line.exemplar {
                out.exemplars.push((slot, at.start as usize..at.end as usize));
            }
            out.put(slot, line.value, line.timestamp_ms.filter(|_| honor_timestamps));
        }
        Ok(plan)
    }

    /// Writes the plan's text, and takes the plan from those known or resolves the new lines' labels.
    fn finish<'o>(
        &self,
        old: Option<&Plan>,
        format: Format,
        body: &[u8],
        scanned: &[Line],
        origins: &'o [Origin],
        intern: &Intern<'_>,
    ) -> Result<(Arc<Plan>, &'o [Origin]), PlanError> {
        let mut text: Vec<u8> = Vec::with_capacity(body.len());
        let mut lines: Vec<PlanLine> = Vec::with_capacity(origins.len());
        // What was first in its body and is not first in the plan begins a line there, too: a walk must not find it behind a value.
        let put = |text: &mut Vec<u8>, literal: &[u8], first: bool| {
            if !first && !literal.starts_with(b"\n") {
                text.push(b'\n');
            }
            text.extend_from_slice(literal);
        };
        for origin in origins {
            let first = lines.is_empty();
            let key_length = match *origin {
                Origin::Kept(line) => {
                    let Some(old) = old else { continue };
                    let line = line as usize;
                    put(&mut text, &old.text[old.start(line)..old.lines[line].end as usize], first);
                    old.lines[line].end - old.lines[line].key
                }
                Origin::Known { body: line, .. } | Origin::New(line) => {
                    let start = (line as usize).checked_sub(1).map_or(0, |i| scanned[i].end as usize);
                    let key = &scanned[line as usize].key;
                    put(&mut text, &body[start..key.end as usize], first);
                    key.end - key.start
                }
            };
            let end = u32::try_from(text.len()).map_err(|_| PlanError::Limit("the body's text is longer than 4 GiB".into()))?;
            lines.push(PlanLine { key: end - key_length, end, slot: DROPPED });
        }
        let mut tail = Vec::new();
        let rest = &body[scanned.last().map_or(0, |l| l.end as usize)..];
        put(&mut tail, rest, lines.is_empty() || rest.is_empty());

        let fingerprint = hash(&text);
        let same = |p: &Plan, lines: &[PlanLine]| {
            let same_line = |a: &PlanLine, b: &PlanLine| (a.key, a.end) == (b.key, b.end);
            p.format == format
                && p.lines.len() == lines.len()
                && *p.text == *text
                && *p.tail == *tail
                && p.lines.iter().zip(lines).all(|(a, b)| same_line(a, b))
        };
        let find = |fits: &dyn Fn(&Plan) -> bool| {
            self.plans.lock().get(&fingerprint).and_then(|all| all.iter().filter_map(Weak::upgrade).find(|p| fits(p)))
        };
        // Where all fit into the budget, all are kept; what else is over it depends on what the target had before.
        if let Some(plan) = find(&|p| same(p, &lines) && (self.labeling.budget == 0 || p.over_budget() == 0)) {
            return Ok((plan, origins));
        }

        let mut strings = Strings::default();
        let reported: Vec<usize> = (0..REPORT.len()).filter(|place| self.labeling.reports(*place)).collect();
        let mut columns: Vec<Column> = reported.iter().map(|place| report_column(REPORT[*place], &mut strings)).collect();
        let mut column_of: Vec<usize> = Vec::with_capacity(lines.len());
        const NONE: usize = usize::MAX;
        const OVER: usize = usize::MAX - 1;
        let held = |origin: &&Origin| match (**origin, old) {
            (Origin::Kept(line) | Origin::Known { old: line, .. }, Some(old)) => old.lines[line as usize].slot < OVER_BUDGET,
            _ => false,
        };
        // Those that were there before have their place.
        let mut room = match self.labeling.budget {
            0 => usize::MAX,
            budget => budget.saturating_sub(origins.iter().filter(held).count()),
        };
        for origin in origins {
            let is_held = held(&origin);
            let column = match (*origin, old) {
                (Origin::Kept(line) | Origin::Known { old: line, .. }, Some(old)) if is_held => {
                    let slot = old.lines[line as usize].slot;
                    old.columns.columns.get(slot as usize).map(|c| Column::clone(c))
                }
                (Origin::Kept(line) | Origin::Known { old: line, .. }, Some(old))
                    if room == 0 || matches!(origin, Origin::Kept(_)) || old.lines[line as usize].slot == DROPPED =>
                {
                    // Still out, by relabeling or for want of room.
                    column_of.push(if old.lines[line as usize].slot == OVER_BUDGET { OVER } else { NONE });
                    continue;
                }
                (Origin::Known { body: line, .. } | Origin::New(line) | Origin::Kept(line), _) => {
                    let line = &scanned[line as usize];
                    self.labeling.column(&self.target, body, line, &mut strings)?
                }
            };
            match column {
                Some(_) if !is_held && room == 0 => column_of.push(OVER),
                Some(column) => {
                    room -= usize::from(!is_held);
                    column_of.push(columns.len());
                    columns.push(column);
                }
                None => column_of.push(NONE),
            }
        }
        let (set, positions) = intern(columns)?;
        for (line, column) in lines.iter_mut().zip(column_of) {
            line.slot = match column {
                OVER => OVER_BUDGET,
                column => positions.get(column).copied().unwrap_or(DROPPED),
            };
        }
        let same_slots = |p: &Plan| p.lines.iter().zip(&lines).all(|(a, b)| a.slot == b.slot);
        if let Some(plan) = find(&|p| self.labeling.budget > 0 && same(p, &lines) && same_slots(p)) {
            return Ok((plan, origins));
        }
        let mut report = [DROPPED; REPORT.len()];
        for (place, slot) in reported.into_iter().zip(&positions) {
            report[place] = *slot;
        }
        let plan = Arc::new(Plan {
            format,
            text: text.into(),
            lines: lines.into(),
            tail: tail.into(),
            columns: set,
            report,
            index: OnceLock::new(),
        });
        let mut plans = self.plans.lock();
        plans.retain(|_, all| {
            all.retain(|p| p.strong_count() > 0);
            !all.is_empty()
        });
        plans.entry(fingerprint).or_default().push(Arc::downgrade(&plan));
        Ok((plan, origins))
    }
}

fn report_column(name: &str, strings: &mut Strings) -> Column {
    Column { own: Labels::from_pairs(vec![(strings.intern(NAME), strings.intern(name))]), dropped: Box::default() }
}

/// The order of the lines in the new plan: the body's, and old lines that it does not have behind those they followed.
fn arrange(old: Option<&Plan>, body: &[u8], scanned: &[Line], seen: &Seen) -> Vec<Origin> {
    let Some(old) = old else {
        return (0..scanned.len() as u32).map(Origin::New).collect();
    };
    // Lines of the old plan by key, until a line of the body takes them; a key that stands twice belongs to its first line.
    let mut by_key: HashMap<&[u8], u32, FxBuildHasher> = HashMap::with_capacity_and_hasher(old.lines.len(), FxBuildHasher);
    for line in (0..old.lines.len()).rev() {
        by_key.insert(old.key(line), line as u32);
    }
    let key = |line: &Line| &body[line.key.start as usize..line.key.end as usize];
    let mut placed = vec![false; old.lines.len()];
    let mut matched: Vec<Option<u32>> = Vec::with_capacity(scanned.len());
    for line in scanned {
        let known = by_key.get(key(line)).copied().filter(|i| !placed[*i as usize]);
        if let Some(line) = known {
            placed[line as usize] = true;
        }
        matched.push(known);
    }
    // A second line of a key that the body has follows from the body itself.
    for (line, placed) in placed.iter_mut().enumerate() {
        let first = by_key.get(old.key(line)).copied().unwrap_or(line as u32);
        *placed |= first as usize != line || !seen.is_recent(line);
    }
    let mut out = Vec::with_capacity(scanned.len() + 16);
    let keep_from = |mut line: usize, placed: &mut Vec<bool>, out: &mut Vec<Origin>| {
        while placed.get(line) == Some(&false) {
            placed[line] = true;
            out.push(Origin::Kept(line as u32));
            line += 1;
        }
    };
    keep_from(0, &mut placed, &mut out);
    for (line, known) in matched.iter().enumerate() {
        match *known {
            None => out.push(Origin::New(line as u32)),
            Some(old) => {
                out.push(Origin::Known { body: line as u32, old });
                keep_from(old as usize + 1, &mut placed, &mut out);
            }
        }
    }
    // Those whose predecessor is gone for good.
    for line in 0..placed.len() {
        keep_from(line, &mut placed, &mut out);
    }
    out
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;
    use crate::labels::Str;
    use crate::tsdb::columns::ColumnSets;
    use crate::tsdb::ABSENT_BITS;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        Labels::from_pairs(pairs.iter().map(|(n, v)| (Str::from(*n), Str::from(*v))).collect())
    }

    fn intern(columns: Vec<Column>) -> Result<(Arc<ColumnSet>, Vec<u32>), StorageError> {
        static SETS: LazyLock<ColumnSets> = LazyLock::new(ColumnSets::default);
        SETS.intern(columns, &mut |_| Ok(()))
    }

    fn body(text: &[u8]) -> Body<'_> {
        Body { text, format: Format::Prometheus, histograms: 0, honor_timestamps: true }
    }

    fn context(honor_labels: bool, target: &[(&str, &str)]) -> Context {
        Context::new(Arc::new(Labeling { honor_labels, ..Labeling::default() }), labels(target))
    }

    /// Series and values of a reading, with the bits of its floats.
    fn series(plan: &Plan, reading: &Reading, target: &Labels) -> BTreeMap<Labels, u64> {
        let full = |slot: usize| {
            let column = &plan.columns.columns[slot];
            Labels::merge(&column.own, target, &column.dropped)
        };
        let present = reading.row.iter().enumerate().filter(|(_, v)| v.to_bits() != ABSENT_BITS);
        present.map(|(slot, value)| (full(slot), value.to_bits())).collect()
    }

    fn read(
        context: &Context,
        plan: &mut Option<Arc<Plan>>,
        seen: &mut Seen,
        text: &str,
    ) -> (BTreeMap<Labels, u64>, Reading, bool) {
        let mut reading = Reading::default();
        let walked = plan.as_ref().is_some_and(|p| p.walk(&body(text.as_bytes()), &mut reading, seen).is_ok());
        if !walked {
            let new = context.scan(plan.as_deref(), &body(text.as_bytes()), &mut reading, seen, &intern);
            *plan = Some(new.unwrap());
        }
        (series(plan.as_ref().unwrap(), &reading, &context.target), reading, walked)
    }

    #[test]
    fn target_labels_win_and_what_was_exposed_is_renamed() {
        let check = |honor: bool, body: &str, want: &[(&str, &str)]| {
            let context = context(honor, &[("instance", "i"), ("job", "j")]);
            let (got, _, _) = read(&context, &mut None, &mut Seen::default(), body);
            assert_eq!(got.keys().collect::<Vec<_>>(), [&labels(want)], "{body}");
        };
        check(false, "a 1\n", &[("__name__", "a"), ("instance", "i"), ("job", "j")]);
        check(false, "a{job=\"x\"} 1\n", &[("__name__", "a"), ("exported_job", "x"), ("instance", "i"), ("job", "j")]);
        check(
            false,
            "a{job=\"x\",exported_job=\"y\"} 1\n",
            &[("__name__", "a"), ("exported_exported_job", "x"), ("exported_job", "y"), ("instance", "i"), ("job", "j")],
        );
        check(true, "a{job=\"x\"} 1\n", &[("__name__", "a"), ("instance", "i"), ("job", "x")]);
        check(true, "a{instance=\"\"} 1\n", &[("__name__", "a"), ("job", "j")]);
        check(false, "a{instance=\"\"} 1\n", &[("__name__", "a"), ("instance", "i"), ("job", "j")]);
    }

    #[test]
    fn the_first_of_equal_series_wins_and_the_rest_are_counted() {
        let context = context(false, &[]);
        let (mut plan, mut seen) = (None, Seen::default());
        for _ in 0..2 {
            let (got, reading, _) = read(&context, &mut plan, &mut seen, "a 1\na{b=\"\"} 2\na 3\n");
            assert_eq!(got.values().copied().collect::<Vec<_>>(), [1f64.to_bits()]);
            assert_eq!((reading.lines, reading.duplicates, reading.kept()), (3, 2, 1));
        }
    }

    #[test]
    fn timestamps_leave_the_row_only_when_they_are_honoured() {
        let context = context(false, &[]);
        let (mut plan, mut seen) = (None, Seen::default());
        for _ in 0..2 {
            let (got, reading, _) = read(&context, &mut plan, &mut seen, "a 1 17\nb 2\n");
            assert_eq!((got.len(), reading.timed.len(), reading.timed[0].time_ms), (1, 1, 17));
        }
        let mut reading = Reading::default();
        let ignoring = Body { honor_timestamps: false, ..body(b"a 1 17\nb 2\n") };
        plan.unwrap().walk(&ignoring, &mut reading, &mut seen).unwrap();
        assert_eq!((reading.kept(), reading.timed.len()), (2, 0));
    }

    #[test]
    fn what_was_first_in_a_body_is_not_taken_for_the_rest_of_a_line() {
        let context = context(false, &[]);
        let (mut plan, mut seen) = (None, Seen::default());
        for body in ["a 1\n", "b 1\n", "c 1\n# no more", "# nothing"] {
            read(&context, &mut plan, &mut seen, body);
        }
        let plan = plan.unwrap();
        assert_eq!(plan.line_count(), 3);
        for broken in ["c 5a 1\n", "c 1b 1\n", "a 1b 1\n", "a 1 2b 1\n", "a 1# nothing", "c 1# no more"] {
            assert!(plan.walk(&body(broken.as_bytes()), &mut Reading::default(), &mut seen).is_err(), "{broken}");
        }
        for whole in ["a 1\nb 2\nc 3\n", "b 1\na 2\n# nothing", "c 1\n\na 2"] {
            assert!(plan.walk(&body(whole.as_bytes()), &mut Reading::default(), &mut seen).is_ok(), "{whole}");
        }
    }

    #[test]
    fn equal_targets_share_a_plan() {
        let context = context(false, &[]);
        let (mut one, mut two) = (None, None);
        read(&context, &mut one, &mut Seen::default(), "# TYPE a gauge\na 1\n");
        read(&context, &mut two, &mut Seen::default(), "# TYPE a gauge\na 2\n");
        assert!(Arc::ptr_eq(&one.unwrap(), &two.unwrap()));
    }

    #[test]
    fn a_line_that_is_gone_for_long_leaves_the_plan() {
        let context = context(false, &[]);
        let (mut plan, mut seen) = (None, Seen::default());
        read(&context, &mut plan, &mut seen, "a 1\nb 2\nc 3\n");
        assert!(!seen.turn());
        read(&context, &mut plan, &mut seen, "a 1\nc 3\n");
        assert!(seen.turn());
        let mut reading = Reading::default();
        let pruned = context.scan(plan.as_deref(), &body(b"a 1\nc 3\n"), &mut reading, &mut seen, &intern).unwrap();
        assert_eq!((pruned.line_count(), reading.kept()), (2, 2));
    }

    fn bodies() -> impl Strategy<Value = String> {
        let line = (0..24u8, 0..5u8, -3i64..1000);
        prop::collection::vec(line, 0..40).prop_map(|lines| {
            let text = |(key, form, value): (u8, u8, i64)| match form {
                0 => format!("# HELP m{key} text {value}\nm{key} {value}\n"),
                1 => format!("m{key}{{a=\"{{\",b=\"\\\"}} 1\"}} {value}e-1\n"),
                2 => format!("m{key}{{}} NaN\n\n"),
                3 => format!("m{key}  {value}.5 \n"),
                _ => format!("m{key} {value}\n"),
            };
            lines.into_iter().map(text).collect()
        })
    }

    fn openmetrics() -> impl Strategy<Value = String> {
        let line = (0..12u8, 0..5u8, -3i64..1000);
        prop::collection::vec(line, 0..20).prop_map(|lines| {
            let text = |(key, form, value): (u8, u8, i64)| match form {
                0 => format!("# TYPE m{key} counter\nm{key}_total {value} # {{a=\"b{value}\"}} {value}\n"),
                1 => format!("m{key}{{le=\"1\"}} {value} # {{}} 1 {value}.5\n"),
                2 => format!("m{key}{{a=\" # \"}} {value} {value}.25\n"),
                3 => format!("m{key} {value} {value} #  {{a=\"b\"}} 2\n"),
                _ => format!("m{key} {value}\n"),
            };
            lines.into_iter().map(text).collect::<String>() + "# EOF\n"
        })
    }

    type Told = (BTreeMap<Labels, u64>, Vec<(Labels, i64, u64)>, Vec<(Labels, String)>);

    /// Series, samples with timestamps and exemplars.
    fn read_openmetrics(context: &Context, plan: &mut Option<Arc<Plan>>, seen: &mut Seen, text: &str) -> Told {
        let mut reading = Reading::default();
        let body = Body { format: Format::OpenMetrics, ..body(text.as_bytes()) };
        if plan.as_ref().is_none_or(|p| p.walk(&body, &mut reading, seen).is_err()) {
            *plan = Some(context.scan(plan.as_deref(), &body, &mut reading, seen, &intern).unwrap());
        }
        let plan = plan.as_ref().unwrap();
        let name = |slot: u32| plan.columns.columns[slot as usize].series(&context.target);
        let timed = reading.timed.iter().map(|t| (name(t.slot), t.time_ms, t.value.to_bits())).collect();
        let exemplars = reading.exemplars.iter().map(|(slot, at)| (name(*slot), text[at.clone()].to_owned())).collect();
        (series(plan, &reading, &context.target), timed, exemplars)
    }

    proptest! {
        #[test]
        fn a_walk_says_what_a_scan_says(bodies in prop::collection::vec(bodies(), 1..8)) {
            let context = context(false, &[("job", "j")]);
            let (mut plan, mut seen) = (None, Seen::default());
            for body in &bodies {
                for _ in 0..2 {
                    let (got, reading, _) = read(&context, &mut plan, &mut seen, body);
                    let (want, scanned, _) = read(&context, &mut None, &mut Seen::default(), body);
                    prop_assert_eq!(got, want);
                    prop_assert_eq!((reading.lines, reading.duplicates), (scanned.lines, scanned.duplicates));
                }
            }
        }

        #[test]
        fn a_walk_says_what_a_scan_says_of_openmetrics(bodies in prop::collection::vec(openmetrics(), 1..8)) {
            let context = context(false, &[("job", "j")]);
            let (mut plan, mut seen) = (None, Seen::default());
            for body in &bodies {
                for _ in 0..2 {
                    let got = read_openmetrics(&context, &mut plan, &mut seen, body);
                    let want = read_openmetrics(&context, &mut None, &mut Seen::default(), body);
                    prop_assert_eq!(got, want);
                }
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in "[a-c{}\"\\\\=,# \n0-9.eE+-]{0,60}", other in "[a-c{}\"=# \n0-9]{0,60}") {
            let context = context(false, &[]);
            let mut reading = Reading::default();
            for format in [Format::Prometheus, Format::OpenMetrics] {
                let mut seen = Seen::default();
                let body = |text, format| Body { text, format, histograms: 0, honor_timestamps: true };
                if let Ok(plan) = context.scan(None, &body(text.as_bytes(), format), &mut reading, &mut seen, &intern) {
                    let walked = plan.walk(&body(text.as_bytes(), format), &mut reading, &mut seen);
                    let _ = plan.walk(&body(other.as_bytes(), format), &mut reading, &mut seen);
                    prop_assert!(walked.is_ok() || text.contains('\t') || text.contains(' '));
                }
            }
        }
    }
}
