//! A family of metrics as `io.prometheus.client` has it: its messages, read into what its lines are made of. The schema is a
//! dozen messages that have not changed in years.

use super::convert::Collected;
use super::wire::{Fields, Result};
use crate::histogram::{bad_schema, Counts, Hint, Histogram, Numbers, Span, CUSTOM_SCHEMA, SCHEMA_MIN, SCHEMA_RESERVED_MAX};

pub(super) const KINDS: [&str; 6] = ["counter", "gauge", "summary", "unknown", "histogram", "gaugehistogram"];
pub(super) const SUMMARY: usize = 2;
pub(super) const HISTOGRAM: usize = 4;
pub(super) const GAUGE_HISTOGRAM: usize = 5;

#[derive(Default)]
pub(super) struct Family<'a> {
    pub(super) name: &'a str,
    pub(super) help: &'a str,
    pub(super) unit: &'a str,
    pub(super) kind: usize,
    pub(super) metrics: Vec<Fields<'a>>,
}

pub(super) type Labels<'a> = Vec<(&'a str, &'a str)>;

#[derive(Clone, Default)]
pub(super) struct Exemplar<'a> {
    pub(super) labels: Labels<'a>,
    pub(super) value: f64,
    pub(super) time_ms: Option<i64>,
}

#[derive(Default)]
pub(super) struct Bucket<'a> {
    pub(super) bound: f64,
    pub(super) count: f64,
    pub(super) exemplar: Option<Exemplar<'a>>,
}

/// What a metric of any kind may have.
#[derive(Default)]
pub(super) struct Metric<'a> {
    pub(super) labels: Labels<'a>,
    pub(super) time_ms: i64,
    /// Since when it counts.
    pub(super) start_ms: Option<i64>,
    pub(super) value: f64,
    pub(super) exemplar: Option<Exemplar<'a>>,
    /// Of a summary.
    pub(super) quantiles: Vec<(f64, f64)>,
    /// Of a summary or a histogram.
    pub(super) count: u64,
    pub(super) sum: f64,
    pub(super) count_float: f64,
    pub(super) buckets: Vec<Bucket<'a>>,
    pub(super) schema: i64,
    pub(super) zero_threshold: f64,
    pub(super) zero_count: u64,
    pub(super) zero_count_float: f64,
    pub(super) spans: [Vec<Span>; 2],
    pub(super) deltas: [Vec<i64>; 2],
    pub(super) counts: [Vec<f64>; 2],
    pub(super) exemplars: Vec<Exemplar<'a>>,
}

pub(super) const POSITIVE: usize = 0;
pub(super) const NEGATIVE: usize = 1;
pub(super) const SIDES: [&str; 2] = ["positive", "negative"];

pub(super) fn family<'a>(mut fields: Fields<'a>) -> Result<Family<'a>> {
    let mut out = Family::default();
    while let Some((number, field)) = fields.next()? {
        match number {
            1 => out.name = field.text()?,
            2 => out.help = field.text()?,
            3 => out.kind = usize::try_from(field.integer()?).unwrap_or(usize::MAX),
            4 => out.metrics.push(field.message()?),
            5 => out.unit = field.text()?,
            _ => {}
        }
    }
    Ok(out)
}

fn label<'a>(mut fields: Fields<'a>) -> Result<(&'a str, &'a str)> {
    let (mut name, mut value) = ("", "");
    while let Some((number, field)) = fields.next()? {
        match number {
            1 => name = field.text()?,
            2 => value = field.text()?,
            _ => {}
        }
    }
    Ok((name, value))
}

fn timestamp_ms(mut fields: Fields<'_>) -> Result<i64> {
    let (mut seconds, mut nanos) = (0i64, 0i64);
    while let Some((number, field)) = fields.next()? {
        match number {
            1 => seconds = field.integer()? as i64,
            2 => nanos = i64::from(field.integer()? as i32),
            _ => {}
        }
    }
    Ok(seconds.wrapping_mul(1000).wrapping_add(nanos / 1_000_000))
}

fn exemplar<'a>(mut fields: Fields<'a>) -> Result<Exemplar<'a>> {
    let mut out = Exemplar::default();
    while let Some((number, field)) = fields.next()? {
        match number {
            1 => out.labels.push(label(field.message()?)?),
            2 => out.value = field.float()?,
            3 => out.time_ms = Some(timestamp_ms(field.message()?)?),
            _ => {}
        }
    }
    Ok(out)
}

fn bucket<'a>(mut fields: Fields<'a>) -> Result<Bucket<'a>> {
    let (mut out, mut count) = (Bucket::default(), 0);
    while let Some((number, field)) = fields.next()? {
        match number {
            1 => count = field.integer()?,
            2 => out.bound = field.float()?,
            3 => out.exemplar = Some(exemplar(field.message()?)?),
            4 => out.count = field.float()?,
            _ => {}
        }
    }
    if out.count == 0.0 {
        out.count = count as f64;
    }
    Ok(out)
}

fn span(mut fields: Fields<'_>) -> Result<Span> {
    let mut out = Span { offset: 0, length: 0 };
    while let Some((number, field)) = fields.next()? {
        match number {
            1 => out.offset = i32::try_from(field.signed()?).map_err(|_| "a span's offset has more than 32 bits")?,
            2 => out.length = u32::try_from(field.integer()?).map_err(|_| "a span's length has more than 32 bits")?,
            _ => {}
        }
    }
    Ok(out)
}

fn quantile(mut fields: Fields<'_>) -> Result<(f64, f64)> {
    let mut out = (0.0, 0.0);
    while let Some((number, field)) = fields.next()? {
        match number {
            1 => out.0 = field.float()?,
            2 => out.1 = field.float()?,
            _ => {}
        }
    }
    Ok(out)
}

impl<'a> Metric<'a> {
    pub(super) fn read(mut fields: Fields<'a>, kind: usize) -> Result<Metric<'a>> {
        let mut out = Metric::default();
        while let Some((number, field)) = fields.next()? {
            match (number, KINDS[kind]) {
                (1, _) => out.labels.push(label(field.message()?)?),
                (6, _) => out.time_ms = field.integer()? as i64,
                (3, "counter") | (2, "gauge") | (5, "unknown") => out.simple(field.message()?)?,
                (4, "summary") => out.summary(field.message()?)?,
                (7, "histogram" | "gaugehistogram") => out.histogram(field.message()?)?,
                _ => {}
            }
        }
        Ok(out)
    }

    fn simple(&mut self, mut fields: Fields<'a>) -> Result<()> {
        while let Some((number, field)) = fields.next()? {
            match number {
                1 => self.value = field.float()?,
                2 => self.exemplar = Some(exemplar(field.message()?)?),
                3 => self.start_ms = Some(timestamp_ms(field.message()?)?),
                _ => {}
            }
        }
        Ok(())
    }

    fn summary(&mut self, mut fields: Fields<'a>) -> Result<()> {
        while let Some((number, field)) = fields.next()? {
            match number {
                1 => self.count = field.integer()?,
                2 => self.sum = field.float()?,
                3 => self.quantiles.push(quantile(field.message()?)?),
                4 => self.start_ms = Some(timestamp_ms(field.message()?)?),
                _ => {}
            }
        }
        Ok(())
    }

    fn histogram(&mut self, mut fields: Fields<'a>) -> Result<()> {
        while let Some((number, field)) = fields.next()? {
            match number {
                1 => self.count = field.integer()?,
                2 => self.sum = field.float()?,
                3 => self.buckets.push(bucket(field.message()?)?),
                4 => self.count_float = field.float()?,
                5 => self.schema = field.signed()?,
                6 => self.zero_threshold = field.float()?,
                7 => self.zero_count = field.integer()?,
                8 => self.zero_count_float = field.float()?,
                9 => self.spans[NEGATIVE].push(span(field.message()?)?),
                10 => field.signed_all(&mut self.deltas[NEGATIVE])?,
                11 => field.floats_all(&mut self.counts[NEGATIVE])?,
                12 => self.spans[POSITIVE].push(span(field.message()?)?),
                13 => field.signed_all(&mut self.deltas[POSITIVE])?,
                14 => field.floats_all(&mut self.counts[POSITIVE])?,
                15 => self.start_ms = Some(timestamp_ms(field.message()?)?),
                16 => self.exemplars.push(exemplar(field.message()?)?),
                _ => {}
            }
        }
        Ok(())
    }

    pub(super) fn observations(&self) -> f64 {
        if self.count_float == 0.0 {
            self.count as f64
        } else {
            self.count_float
        }
    }

    /// Whether it says that it is a native histogram: one without observations has an empty span.
    pub(super) fn is_native(&self) -> bool {
        self.spans.iter().any(|s| !s.is_empty()) || self.zero_threshold > 0.0 || self.zero_count > 0
    }

    fn is_float(&self) -> bool {
        self.count_float > 0.0 || self.zero_count_float > 0.0 || self.counts.iter().any(|c| !c.is_empty())
    }

    pub(super) fn native(&self, gauge: bool) -> Result<Histogram> {
        let floats = self.is_float();
        for side in [POSITIVE, NEGATIVE] {
            let needed: u64 = self.spans[side].iter().map(|s| u64::from(s.length)).sum();
            let given = if floats { self.counts[side].len() } else { self.deltas[side].len() };
            if needed != given as u64 {
                return Err(format!("{} side: spans require {needed} buckets, have {given}", SIDES[side]));
            }
        }
        let known = self.schema == i64::from(CUSTOM_SCHEMA)
            || (i64::from(SCHEMA_MIN)..=i64::from(SCHEMA_RESERVED_MAX)).contains(&self.schema);
        if !known {
            return Err(bad_schema(i32::try_from(self.schema).unwrap_or(i32::MAX)));
        }
        let counts = if floats {
            let [positive, negative] = [POSITIVE, NEGATIVE].map(|side| self.counts[side].clone().into());
            Counts::Floats(Numbers { count: self.count_float, zero: self.zero_count_float, positive, negative })
        } else {
            let absolute = |side: usize| -> Result<Box<[u64]>> {
                let mut count = 0i64;
                let each = self.deltas[side].iter().enumerate().map(|(at, delta)| {
                    count = count.wrapping_add(*delta);
                    u64::try_from(count).map_err(|_| {
                        format!(
                            "{} side: bucket number {} has observation count of {count}: histogram has a bucket whose observation count is negative",
                            SIDES[side],
                            at + 1
                        )
                    })
                });
                each.collect()
            };
            let (positive, negative) = (absolute(POSITIVE)?, absolute(NEGATIVE)?);
            Counts::Integers(Numbers { count: self.count, zero: self.zero_count, positive, negative })
        };
        let mut histogram = Histogram {
            schema: self.schema as i8,
            hint: if gauge { Hint::Gauge } else { Hint::Unknown },
            zero_threshold: self.zero_threshold,
            sum: self.sum,
            positive: self.spans[POSITIVE].clone().into(),
            negative: self.spans[NEGATIVE].clone().into(),
            custom: Box::default(),
            counts,
        };
        histogram.reduce(crate::histogram::SCHEMA_MAX);
        histogram.check()?;
        histogram.compact(0);
        Ok(histogram)
    }

    pub(super) fn converted(&self, gauge: bool) -> Result<Histogram> {
        let mut collected = Collected::default();
        collected.count(self.observations());
        collected.sum(self.sum);
        self.buckets.iter().for_each(|b| collected.bucket(b.bound, b.count));
        let mut histogram = collected.convert()?;
        if gauge {
            histogram.hint = Hint::Gauge;
        }
        Ok(histogram)
    }
}
