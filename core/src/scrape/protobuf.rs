//! Prometheus's protobuf format: `io.prometheus.client.MetricFamily`, each behind its length.
//!
//! What comes out is the text that says the same (see `transcode`), with the native histograms beside it. The wire format is
//! read by hand: the schema is a dozen messages that have not changed in years, and fields are taken from the body as
//! they lie, without a tree of objects between.

use super::convert::Collected;
use super::text::format_number;
use super::transcode::{HistogramSettings, Transcoded};
use crate::histogram::{bad_schema, Counts, Hint, Histogram, Numbers, Span, CUSTOM_SCHEMA, SCHEMA_MIN, SCHEMA_RESERVED_MAX};

type Result<T> = std::result::Result<T, String>;

#[derive(Clone, Copy)]
enum Field<'a> {
    Varint(u64),
    Fixed(u64),
    Bytes(&'a [u8]),
    /// Of a kind that the schema does not use.
    Other,
}

/// Walks the fields of a message.
struct Fields<'a> {
    rest: &'a [u8],
}

fn cut() -> String {
    "unexpected end of a protobuf message".into()
}

impl<'a> Fields<'a> {
    fn new(message: &'a [u8]) -> Fields<'a> {
        Fields { rest: message }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        if length > self.rest.len() {
            return Err(cut());
        }
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err("a protobuf number has more than 64 bits".into())
    }

    fn fixed(&mut self) -> Result<u64> {
        let bytes: [u8; 8] = self.take(8)?.try_into().map_err(|_| cut())?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn bytes(&mut self) -> Result<&'a [u8]> {
        let length = self.varint()?;
        self.take(usize::try_from(length).map_err(|_| cut())?)
    }

    /// The next field's number and value; None at the end.
    fn next(&mut self) -> Result<Option<(u64, Field<'a>)>> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let field = match tag & 7 {
            0 => Field::Varint(self.varint()?),
            1 => Field::Fixed(self.fixed()?),
            2 => Field::Bytes(self.bytes()?),
            5 => {
                self.take(4)?;
                Field::Other
            }
            kind => return Err(format!("a protobuf field has wire type {kind}, which this format does not use")),
        };
        Ok(Some((tag >> 3, field)))
    }
}

impl<'a> Field<'a> {
    fn wrong(what: &str) -> String {
        format!("a protobuf field is no {what}")
    }

    fn message(self) -> Result<Fields<'a>> {
        match self {
            Field::Bytes(bytes) => Ok(Fields::new(bytes)),
            _ => Err(Field::wrong("message")),
        }
    }

    fn text(self) -> Result<&'a str> {
        match self {
            Field::Bytes(bytes) => {
                std::str::from_utf8(bytes).map_err(|_| format!("{:?} is not UTF-8", String::from_utf8_lossy(bytes)))
            }
            _ => Err(Field::wrong("text")),
        }
    }

    fn float(self) -> Result<f64> {
        match self {
            Field::Fixed(bits) => Ok(f64::from_bits(bits)),
            _ => Err(Field::wrong("double")),
        }
    }

    fn integer(self) -> Result<u64> {
        match self {
            Field::Varint(value) => Ok(value),
            _ => Err(Field::wrong("integer")),
        }
    }

    fn signed(self) -> Result<i64> {
        self.integer().map(unzigzag)
    }

    /// A repeated number, one by one or packed.
    fn signed_all(self, out: &mut Vec<i64>) -> Result<()> {
        match self {
            Field::Bytes(packed) => {
                let mut fields = Fields::new(packed);
                while !fields.rest.is_empty() {
                    out.push(unzigzag(fields.varint()?));
                }
            }
            one => out.push(one.signed()?),
        }
        Ok(())
    }

    fn floats_all(self, out: &mut Vec<f64>) -> Result<()> {
        match self {
            Field::Bytes(packed) => {
                let mut fields = Fields::new(packed);
                while !fields.rest.is_empty() {
                    out.push(f64::from_bits(fields.fixed()?));
                }
            }
            one => out.push(one.float()?),
        }
        Ok(())
    }
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

const KINDS: [&str; 6] = ["counter", "gauge", "summary", "unknown", "histogram", "gaugehistogram"];
const SUMMARY: usize = 2;
const HISTOGRAM: usize = 4;
const GAUGE_HISTOGRAM: usize = 5;

#[derive(Default)]
struct Family<'a> {
    name: &'a str,
    help: &'a str,
    unit: &'a str,
    kind: usize,
    metrics: Vec<Fields<'a>>,
}

type Labels<'a> = Vec<(&'a str, &'a str)>;

#[derive(Clone, Default)]
struct Exemplar<'a> {
    labels: Labels<'a>,
    value: f64,
    time_ms: Option<i64>,
}

#[derive(Default)]
struct Bucket<'a> {
    bound: f64,
    count: f64,
    exemplar: Option<Exemplar<'a>>,
}

/// What a metric of any kind may have.
#[derive(Default)]
struct Metric<'a> {
    labels: Labels<'a>,
    time_ms: i64,
    value: f64,
    exemplar: Option<Exemplar<'a>>,
    /// Of a summary.
    quantiles: Vec<(f64, f64)>,
    /// Of a summary or a histogram.
    count: u64,
    sum: f64,
    count_float: f64,
    buckets: Vec<Bucket<'a>>,
    schema: i64,
    zero_threshold: f64,
    zero_count: u64,
    zero_count_float: f64,
    spans: [Vec<Span>; 2],
    deltas: [Vec<i64>; 2],
    counts: [Vec<f64>; 2],
    exemplars: Vec<Exemplar<'a>>,
}

const POSITIVE: usize = 0;
const NEGATIVE: usize = 1;
const SIDES: [&str; 2] = ["positive", "negative"];

fn family<'a>(mut fields: Fields<'a>) -> Result<Family<'a>> {
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
    fn read(mut fields: Fields<'a>, kind: usize) -> Result<Metric<'a>> {
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
                16 => self.exemplars.push(exemplar(field.message()?)?),
                _ => {}
            }
        }
        Ok(())
    }

    fn observations(&self) -> f64 {
        if self.count_float == 0.0 {
            self.count as f64
        } else {
            self.count_float
        }
    }

    /// Whether it says that it is a native histogram: one without observations has an empty span.
    fn is_native(&self) -> bool {
        self.spans.iter().any(|s| !s.is_empty()) || self.zero_threshold > 0.0 || self.zero_count > 0
    }

    fn is_float(&self) -> bool {
        self.count_float > 0.0 || self.zero_count_float > 0.0 || self.counts.iter().any(|c| !c.is_empty())
    }

    fn native(&self, gauge: bool) -> Result<Histogram> {
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

    fn converted(&self, gauge: bool) -> Result<Histogram> {
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

/// Where the lines of one family go.
struct Lines<'o> {
    out: &'o mut Transcoded,
    name: &'o str,
}

impl Lines<'_> {
    fn start(&mut self, metric: &Metric<'_>, suffix: &str, more: Option<(&str, &str)>) {
        let mut labels = metric.labels.clone();
        labels.extend(more);
        if suffix.is_empty() {
            self.out.key(self.name, &labels);
        } else {
            self.out.key(&format!("{}{suffix}", self.name), &labels);
        }
        self.out.text.push(b' ');
    }

    fn end<'e>(&mut self, metric: &Metric<'_>, exemplars: impl Iterator<Item = &'e Exemplar<'e>>) {
        // As Prometheus has it: 0 is no timestamp.
        if metric.time_ms != 0 {
            self.out.say(&format!(" {}", metric.time_ms));
        }
        exemplars.for_each(|e| self.out.exemplar(&e.labels, e.value, e.time_ms));
        self.out.text.push(b'\n');
    }

    fn line(
        &mut self,
        metric: &Metric<'_>,
        suffix: &str,
        more: Option<(&str, &str)>,
        value: f64,
        exemplar: Option<&Exemplar<'_>>,
    ) {
        self.start(metric, suffix, more);
        self.out.number(value);
        self.end(metric, exemplar.into_iter());
    }

    fn histogram(&mut self, metric: &Metric<'_>, histogram: Histogram) {
        self.start(metric, "", None);
        self.out.histogram(histogram);
        // Those of buckets only where there are no others; without a time none can be told from the one before.
        let own = metric.exemplars.iter();
        let of_buckets = metric.buckets.iter().filter_map(|b| b.exemplar.as_ref()).filter(|_| metric.exemplars.is_empty());
        self.end(metric, own.chain(of_buckets).filter(|e| e.time_ms.is_some()));
    }

    fn classic(&mut self, metric: &Metric<'_>) {
        let count = metric.observations();
        self.line(metric, "_count", None, count, None);
        self.line(metric, "_sum", None, metric.sum, None);
        for bucket in &metric.buckets {
            let bound = format_number(bucket.bound);
            self.line(metric, "_bucket", Some(("le", &bound)), bucket.count, bucket.exemplar.as_ref());
            if bucket.bound == f64::INFINITY {
                return;
            }
        }
        self.line(metric, "_bucket", Some(("le", "+Inf")), count, None);
    }
}

/// Reads a body; the error says what is wrong with it.
pub fn read(body: &[u8], settings: &HistogramSettings) -> Result<Transcoded> {
    let mut out = Transcoded { text: Vec::with_capacity(body.len() * 2), ..Transcoded::default() };
    let mut messages = Fields::new(body);
    while !messages.rest.is_empty() {
        let Family { name, help, unit, kind, metrics } = family(Fields::new(messages.bytes()?))?;
        if metrics.is_empty() {
            continue;
        }
        if name.is_empty() {
            return Err("invalid metric name: ".into());
        }
        let said = KINDS.get(kind).ok_or_else(|| format!("unknown metric type for metric {name:?}: {kind}"))?;
        out.say("# HELP ");
        out.name(name);
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        out.say(&format!(" {help}\n"));
        if !unit.is_empty() {
            out.say("# UNIT ");
            out.name(name);
            out.say(&format!(" {}\n", unit.replace('\n', " ")));
        }
        out.say("# TYPE ");
        out.name(name);
        out.say(&format!(" {said}\n"));
        let mut lines = Lines { out: &mut out, name };
        for fields in metrics {
            let metric = Metric::read(fields, kind)?;
            match kind {
                SUMMARY => {
                    lines.line(&metric, "_count", None, metric.count as f64, None);
                    lines.line(&metric, "_sum", None, metric.sum, None);
                    for (quantile, value) in &metric.quantiles {
                        lines.line(&metric, "", Some(("quantile", &format_number(*quantile))), *value, None);
                    }
                }
                HISTOGRAM | GAUGE_HISTOGRAM => {
                    let gauge = kind == GAUGE_HISTOGRAM;
                    let named = |e: String| format!("histogram {name:?}: {e}");
                    if settings.native && metric.is_native() {
                        lines.histogram(&metric, metric.native(gauge).map_err(named)?);
                        if settings.always_classic && !metric.buckets.is_empty() {
                            lines.classic(&metric);
                        }
                        continue;
                    }
                    if !settings.convert || settings.always_classic {
                        lines.classic(&metric);
                    }
                    if settings.convert {
                        lines.histogram(&metric, metric.converted(gauge).map_err(named)?);
                    }
                }
                _ => lines.line(&metric, "", None, metric.value, metric.exemplar.as_ref()),
            }
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A message in the wire format: numbers of fields, and what is in them.
    #[derive(Default)]
    struct Message(Vec<u8>);

    impl Message {
        fn put(mut self, mut value: u64) -> Message {
            while value >= 0x80 {
                self.0.push(value as u8 | 0x80);
                value >>= 7;
            }
            self.0.push(value as u8);
            self
        }

        fn number(self, field: u64, value: u64) -> Message {
            self.put(field << 3).put(value)
        }

        fn signed(self, field: u64, value: i64) -> Message {
            self.number(field, ((value << 1) ^ (value >> 63)) as u64)
        }

        fn float(self, field: u64, value: f64) -> Message {
            let mut out = self.put(field << 3 | 1);
            out.0.extend_from_slice(&value.to_bits().to_le_bytes());
            out
        }

        fn bytes(self, field: u64, value: &[u8]) -> Message {
            let mut out = self.put(field << 3 | 2).put(value.len() as u64);
            out.0.extend_from_slice(value);
            out
        }

        fn message(self, field: u64, value: Message) -> Message {
            self.bytes(field, &value.0)
        }
    }

    fn labelled(name: &str, value: &str) -> Message {
        Message::default().message(1, Message::default().bytes(1, name.as_bytes()).bytes(2, value.as_bytes()))
    }

    fn body(name: &str, kind: u64, metrics: Vec<Message>) -> Vec<u8> {
        let family = Message::default().bytes(1, name.as_bytes()).bytes(2, b"a\\b\nc").number(3, kind).bytes(5, b"seconds");
        let family = metrics.into_iter().fold(family, |f, m| f.message(4, m));
        Message::default().put(family.0.len() as u64).0.into_iter().chain(family.0).collect()
    }

    fn span(offset: i64, length: u64) -> Message {
        Message::default().signed(1, offset).number(2, length)
    }

    /// Classic and native: observations in buckets 1, 2 and 5.
    fn both() -> Message {
        let classic = |bound: f64, count: u64| Message::default().float(2, bound).number(1, count);
        Message::default()
            .number(1, 7)
            .float(2, 20.5)
            .message(3, classic(2.0, 3))
            .message(3, classic(f64::INFINITY, 7))
            .signed(5, 0)
            .float(6, 0.001)
            .number(7, 1)
            .message(12, span(1, 2))
            .message(12, span(2, 1))
            .signed(13, 1)
            .signed(13, 1)
            .signed(13, 1)
    }

    const NATIVE: HistogramSettings =
        HistogramSettings { native: true, always_classic: false, convert: false, bucket_limit: 0, schema_max: 8 };

    fn check(body: &[u8], settings: HistogramSettings, want: &str) -> Vec<Histogram> {
        let out = read(body, &settings).unwrap();
        let text = String::from_utf8(out.text).unwrap();
        let comments = text.lines().take_while(|l| l.starts_with('#')).map(|l| l.len() + 1).sum::<usize>();
        assert_eq!(&text[comments..], want);
        out.histograms
    }

    #[test]
    fn each_kind_of_metric_is_the_lines_that_say_the_same() {
        let value = |field: u64| labelled("x", "1").message(field, Message::default().float(1, 2.5));
        check(&body("a", 0, vec![value(3)]), NATIVE, "a{x=\"1\"} 2.5\n");
        check(&body("a", 1, vec![value(2).number(6, 17)]), NATIVE, "a{x=\"1\"} 2.5 17\n");
        check(&body("a.b", 3, vec![value(5), Message::default()]), NATIVE, "{\"a.b\",x=\"1\"} 2.5\n{\"a.b\"} 0\n");
        let exemplar = labelled("t", "u").float(2, 0.5).message(3, Message::default().number(1, 12).number(2, 7_000_000));
        let counter = Message::default().message(3, Message::default().float(1, 1e21).message(2, exemplar));
        check(&body("a", 0, vec![counter]), NATIVE, "a 1e21 # {\"t\"=\"u\"} 0.5 12007\n");
        let quantile = Message::default().float(1, 0.5).float(2, f64::NAN);
        let summary = Message::default().message(4, Message::default().number(1, 3).float(2, 1.5).message(3, quantile));
        check(&body("a", 2, vec![summary]), NATIVE, "a_count 3\na_sum 1.5\na{quantile=\"0.5\"} NaN\n");
    }

    #[test]
    fn comments_say_what_the_family_is() {
        let text = read(&body("a", 5, vec![Message::default()]), &NATIVE).unwrap().text;
        assert!(text.starts_with(b"# HELP a a\\\\b\\nc\n# UNIT a seconds\n# TYPE a gaugehistogram\n"));
        assert!(read(&body("a", 5, vec![]), &NATIVE).unwrap().text.is_empty());
    }

    #[test]
    fn a_histogram_is_what_the_pool_asks_for() {
        let body = body("a", 4, vec![Message::default().message(7, both())]);
        let classic = "a_count 7\na_sum 20.5\na_bucket{le=\"2.0\"} 3\na_bucket{le=\"+Inf\"} 7\n";
        let native = check(&body, NATIVE, "a h0\n");
        let buckets: Vec<(f64, f64)> = native[0].buckets().iter().map(|b| (b.upper, b.count)).collect();
        assert_eq!(buckets, [(0.001, 1.0), (2.0, 1.0), (4.0, 2.0), (32.0, 3.0)]);
        check(&body, HistogramSettings { always_classic: true, ..NATIVE }, &format!("a h0\n{classic}"));
        check(&body, HistogramSettings { native: false, ..NATIVE }, classic);
        let custom = check(&body, HistogramSettings { native: false, convert: true, ..NATIVE }, "a h0\n");
        assert_eq!((custom[0].schema, &custom[0].custom[..]), (CUSTOM_SCHEMA, &[2.0][..]));
        let settings = HistogramSettings { native: false, convert: true, always_classic: true, ..NATIVE };
        check(&body, settings, &format!("{classic}a h0\n"));
    }

    #[test]
    fn floats_gauges_and_fine_schemas_are_taken() {
        let float =
            Message::default().float(4, 1.5).float(2, 2.0).signed(5, 10).message(9, span(4, 2)).float(11, 1.0).float(11, 0.5);
        let body = body("a", 5, vec![Message::default().message(7, float)]);
        let got = check(&body, NATIVE, "a h0\n");
        assert_eq!((got[0].schema, got[0].hint), (8, Hint::Gauge));
        let Counts::Floats(n) = &got[0].counts else { panic!() };
        assert_eq!((n.count, &n.negative[..]), (1.5, &[1.0, 0.5][..]));
    }

    #[test]
    fn what_does_not_add_up_fails() {
        let check = |histogram: Message, want: &str| {
            let error = read(&body("a", 4, vec![Message::default().message(7, histogram)]), &NATIVE).err().unwrap();
            assert!(error.contains(want), "{error}");
        };
        check(both().message(12, span(1, 1)), "histogram \"a\": positive side: spans require 4 buckets, have 3");
        check(both().signed(13, -9).message(12, span(0, 1)), "bucket number 4 has observation count of -6");
        check(both().number(1, 8), "7 observations found in buckets, but the Count field is 8");
        check(both().signed(5, -5), "invalid schema");
        assert_eq!(read(&[5, 1], &NATIVE).err().unwrap(), "unexpected end of a protobuf message");
        assert!(read(&body("a", 9, vec![Message::default()]), &NATIVE).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..60), at in any::<prop::sample::Index>(), with in 1u8..) {
            let settings = HistogramSettings { always_classic: true, convert: true, ..NATIVE };
            let _ = read(&bytes, &settings);
            let mut body = body("a", 4, vec![labelled("x", "1").message(7, both())]);
            let at = at.index(body.len());
            body[at] ^= with;
            if let Ok(out) = read(&body, &settings) {
                prop_assert!(out.histograms.iter().all(|h| h.check().is_ok()));
            }
        }
    }
}
