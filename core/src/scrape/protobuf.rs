//! Prometheus's protobuf format: `io.prometheus.client.MetricFamily`, each behind its length.
//!
//! What comes out is the text that says the same (see `transcode`), with the native histograms beside it. `wire` walks the
//! bytes, `family` says what its fields mean.

use super::family::{family, Exemplar, Family, Metric, GAUGE_HISTOGRAM, HISTOGRAM, KINDS, SUMMARY};
use super::text::format_number;
use super::transcode::{HistogramSettings, Transcoded};
use super::wire::{Fields, Result};
use crate::histogram::Histogram;

/// Where the lines of one family go.
struct Lines<'o> {
    out: &'o mut Transcoded,
    name: &'o str,
    /// Lines say when their series began.
    starts: bool,
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
        if let Some(start_ms) = metric.start_ms.filter(|start_ms| self.starts && *start_ms != 0) {
            self.out.start(start_ms);
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

/// Reads a body; the error says what is wrong with it. With `starts`, lines say when their series began.
pub fn read(body: &[u8], settings: &HistogramSettings, starts: bool) -> Result<Transcoded> {
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
        let mut lines = Lines { out: &mut out, name, starts };
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
    use crate::histogram::{Counts, Hint, CUSTOM_SCHEMA};
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
        let out = read(body, &settings, true).unwrap();
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
        let started = Message::default().message(3, Message::default().float(1, 1.0).message(3, Message::default().number(1, 9)));
        check(&body("a", 0, vec![started]), NATIVE, "a 1 # @9000\n");
        let quantile = Message::default().float(1, 0.5).float(2, f64::NAN);
        let summary = Message::default().message(4, Message::default().number(1, 3).float(2, 1.5).message(3, quantile));
        check(&body("a", 2, vec![summary]), NATIVE, "a_count 3\na_sum 1.5\na{quantile=\"0.5\"} NaN\n");
    }

    #[test]
    fn comments_say_what_the_family_is() {
        let text = read(&body("a", 5, vec![Message::default()]), &NATIVE, true).unwrap().text;
        assert!(text.starts_with(b"# HELP a a\\\\b\\nc\n# UNIT a seconds\n# TYPE a gaugehistogram\n"));
        assert!(read(&body("a", 5, vec![]), &NATIVE, true).unwrap().text.is_empty());
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
            let error = read(&body("a", 4, vec![Message::default().message(7, histogram)]), &NATIVE, true).err().unwrap();
            assert!(error.contains(want), "{error}");
        };
        check(both().message(12, span(1, 1)), "histogram \"a\": positive side: spans require 4 buckets, have 3");
        check(both().signed(13, -9).message(12, span(0, 1)), "bucket number 4 has observation count of -6");
        check(both().number(1, 8), "7 observations found in buckets, but the Count field is 8");
        check(both().signed(5, -5), "invalid schema");
        assert_eq!(read(&[5, 1], &NATIVE, true).err().unwrap(), "unexpected end of a protobuf message");
        assert!(read(&body("a", 9, vec![Message::default()]), &NATIVE, true).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..60), at in any::<prop::sample::Index>(), with in 1u8..) {
            let settings = HistogramSettings { always_classic: true, convert: true, ..NATIVE };
            let _ = read(&bytes, &settings, true);
            let mut body = body("a", 4, vec![labelled("x", "1").message(7, both())]);
            let at = at.index(body.len());
            body[at] ^= with;
            if let Ok(out) = read(&body, &settings, true) {
                prop_assert!(out.histograms.iter().all(|h| h.check().is_ok()));
            }
        }
    }
}
