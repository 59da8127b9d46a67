//! Bodies of one target, one after the other: however they are read, they say the same.
//!
//! The first byte holds switches, the rest is bodies with a zero byte between them. Each is read twice by the plan of the one
//! before, as a scrape reads it, and by a scan from nothing, and both must agree: on series, values, times, exemplars, counts and
//! refusals. What a body says, printed again in quoted names, must read as the same.

#![no_main]

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock};

use bellbuoy_core::labels::{Labels, Str};
use bellbuoy_core::scrape::context::Context;
use bellbuoy_core::scrape::labeling::Labeling;
use bellbuoy_core::scrape::plan::{Body, Plan, Reading, Seen};
use bellbuoy_core::scrape::text::{self, Family, Format};
use bellbuoy_core::scrape::{exemplars, metadata};
use bellbuoy_core::tsdb::columns::{Column, ColumnSet, ColumnSets};
use bellbuoy_core::tsdb::{is_absent, StorageError};
use libfuzzer_sys::fuzz_target;

/// What a body says: series and values; those with times of their own; exemplars; lines, dropped ones, duplicates.
type Told = (BTreeMap<Labels, u64>, Vec<(Labels, i64, u64)>, Vec<(Labels, Vec<u8>)>, [usize; 3]);

fn intern(columns: Vec<Column>) -> Result<(Arc<ColumnSet>, Vec<u32>), StorageError> {
    static SETS: LazyLock<ColumnSets> = LazyLock::new(ColumnSets::default);
    SETS.sweep();
    SETS.intern(columns, &mut |_| Ok(()))
}

struct Target {
    context: Context,
    labels: Labels,
    plan: Option<Arc<Plan>>,
    seen: Seen,
}

impl Target {
    fn new(honor_labels: bool) -> Target {
        let pairs = [("instance", "i"), ("job", "j")];
        let labels = Labels::from_pairs(pairs.map(|(n, v)| (Str::from(n), Str::from(v))).to_vec());
        let labeling = Labeling { honor_labels, ..Labeling::default() };
        Target { context: Context::new(Arc::new(labeling), labels.clone()), labels, plan: None, seen: Seen::default() }
    }

    /// As a scrape reads it: by the plan if that goes.
    fn read(&mut self, body: &Body<'_>) -> Result<Told, String> {
        let mut reading = Reading::default();
        let walked = self.plan.as_ref().is_some_and(|plan| plan.walk(body, &mut reading, &mut self.seen).is_ok());
        if !walked {
            reading = Reading::default();
            let new = self.context.scan(self.plan.as_deref(), body, &mut reading, &mut self.seen, &intern);
            self.plan = Some(new.map_err(|e| e.to_string())?);
        }
        let plan = self.plan.as_ref().unwrap();
        metadata::read(plan);
        let series = |slot: usize| plan.columns.columns[slot].series(&self.labels);
        let present = reading.row.iter().enumerate().filter(|(_, v)| !is_absent(**v));
        let exemplars = reading.exemplars.iter().filter(|e| (e.0 as usize) < plan.columns.len());
        Ok((
            present.map(|(slot, v)| (series(slot), v.to_bits())).collect(),
            reading.timed.iter().map(|t| (series(t.slot as usize), t.time_ms, t.value.to_bits())).collect(),
            exemplars.map(|(slot, at)| (series(*slot as usize), body.text[at.clone()].to_vec())).collect(),
            [reading.lines, reading.dropped, reading.duplicates],
        ))
    }
}

/// Whether a line's key stands in families of two kinds: `le` is read as a number in one of them, and a plan has read it once.
fn is_ambiguous<'a>(body: &'a [u8], format: Format, families: &mut HashMap<&'a [u8], Family>) -> bool {
    let Ok(lines) = text::scan(body, format) else { return false };
    lines.iter().any(|line| {
        let key = &body[line.key.start as usize..line.key.end as usize];
        *families.entry(key).or_insert(line.family) != line.family
    })
}

fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

fn number(value: f64) -> String {
    match value {
        v if v.is_nan() => "NaN".into(),
        v if v.is_infinite() => if v > 0.0 { "+Inf" } else { "-Inf" }.into(),
        v => format!("{v:?}"),
    }
}

/// The time as the format has it, if it reads back to the same.
fn time(time_ms: i64, format: Format) -> Option<String> {
    let text = match format {
        Format::Prometheus | Format::Protobuf => time_ms.to_string(),
        Format::OpenMetrics => format!("{:?}", time_ms as f64 / 1000.0),
    };
    (text::read_timestamp(text.as_bytes(), format)? == (time_ms, text.len())).then_some(text)
}

type Sample = (Vec<(String, String)>, u64, Option<i64>, Option<(Labels, u64, Option<i64>)>);

/// The samples of a body, as `read_exposition` gives them.
fn samples(body: &[u8], format: Format) -> Option<Vec<Sample>> {
    let lines = text::scan(body, format).ok()?;
    let read = |line: &text::Line| {
        let labels = text::read_key(&body[line.key.start as usize..line.key.end as usize], line.family).ok()?;
        let exemplar =
            line.exemplar.as_ref().and_then(|at| exemplars::read(&body[at.start as usize..at.end as usize], format).ok());
        let exemplar =
            exemplar.map(|(labels, value, time_ms)| (labels, value.to_bits(), time_ms.filter(|t| time(*t, format).is_some())));
        Some((labels, line.value.to_bits(), line.timestamp_ms.filter(|t| time(*t, format).is_some()), exemplar))
    };
    lines.iter().map(read).collect()
}

fn print(samples: &[Sample], format: Format) -> String {
    let mut out = String::new();
    for (labels, value, time_ms, exemplar) in samples {
        let pair = |(name, value): (&str, &str)| match name {
            "__name__" => quote(value),
            _ => format!("{}={}", quote(name), quote(value)),
        };
        let pairs: Vec<String> = labels.iter().map(|l| pair((&l.0, &l.1))).collect();
        out += &format!("{{{}}} {}", pairs.join(","), number(f64::from_bits(*value)));
        out.extend(time_ms.and_then(|t| time(t, format)).map(|t| format!(" {t}")));
        if let Some((labels, value, time_ms)) = exemplar {
            let pairs: Vec<String> = labels.iter().map(|l| pair((&l.0, &l.1))).collect();
            out += &format!(" # {{{}}} {}", pairs.join(","), number(f64::from_bits(*value)));
            out.extend(time_ms.and_then(|t| time(t, format)).map(|t| format!(" {t}")));
        }
        out.push('\n');
    }
    if format == Format::OpenMetrics {
        out += "# EOF\n";
    }
    out
}

fuzz_target!(|input: &[u8]| {
    let Some((&switches, rest)) = input.split_first() else { return };
    let format = if switches & 1 == 0 { Format::Prometheus } else { Format::OpenMetrics };
    let (honor_labels, honor_timestamps, whole, turns) =
        (switches & 2 != 0, switches & 4 != 0, switches & 8 != 0, switches & 16 != 0);
    let end: &[u8] = if whole && format == Format::OpenMetrics { b"\n# EOF\n" } else { b"" };
    let bodies: Vec<Vec<u8>> = rest.split(|b| *b == 0).take(6).map(|b| [b, end].concat()).collect();
    let mut families = HashMap::new();
    let ambiguous = bodies.iter().any(|body| is_ambiguous(body, format, &mut families));
    let mut target = Target::new(honor_labels);
    for text in &bodies {
        let body = Body { text, format, histograms: 0, honor_timestamps };
        let want = Target::new(honor_labels).read(&body);
        for again in [false, true] {
            let got = target.read(&body);
            if !ambiguous {
                assert_eq!(got, want, "again: {again}");
            }
        }
        if turns {
            target.seen.turn();
        }
        if let Some(said) = samples(text, format) {
            let printed = print(&said, format);
            assert_eq!(samples(printed.as_bytes(), format).as_ref(), Some(&said), "{printed}");
        }
    }
});
