//! A body as scan plans can walk it: text for what is a number, and a list of histograms that the text refers to.
//!
//! Plans know lines. So a protobuf body becomes the lines that say the same (`protobuf`), and a body whose classic histograms
//! are to be converted one without them (`convert`); a line of a native histogram has `h` and the histogram's number for
//! a value. Relabeling, limits, budgets, staleness and metadata are then as they are for text, and a format costs its
//! reader only. No body from outside can say `h0`: there, it refers to nothing.

use super::text::{self, Family, Pairs};
use crate::histogram::Histogram;

/// What a pool makes of histograms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HistogramSettings {
    /// Native histograms count; else a histogram that has classic buckets, too, is a classic one.
    pub native: bool,
    /// Classic histograms are there beside the native ones that they also are or become.
    pub always_classic: bool,
    /// Classic histograms become native ones with custom buckets.
    pub convert: bool,
    /// Buckets that a native histogram may have; 0 is any number.
    pub bucket_limit: usize,
    /// Finer schemas are merged down to this one.
    pub schema_max: i8,
}

impl HistogramSettings {
    /// As fine as buckets that grow by this factor, at least.
    pub fn schema_of(bucket_factor: f64) -> i8 {
        let factor = if bucket_factor <= 1.0 { 1.00271 } else { bucket_factor };
        let wanted = (-factor.log2().log2()).floor();
        wanted.clamp(f64::from(crate::histogram::SCHEMA_MIN), f64::from(crate::histogram::SCHEMA_MAX)) as i8
    }

    /// Brings a histogram into the pool's limits; the error is Prometheus's.
    pub fn limit(&self, histogram: &mut Histogram) -> Result<(), String> {
        histogram.reduce(self.schema_max);
        if self.bucket_limit > 0 && !histogram.limit(self.bucket_limit) {
            return Err("histogram bucket limit exceeded".into());
        }
        Ok(())
    }
}

#[derive(Default)]
pub struct Transcoded {
    pub text: Vec<u8>,
    pub histograms: Vec<Histogram>,
}

impl Transcoded {
    /// The key of a line: a metric's name and its labels.
    pub fn key(&mut self, name: &str, labels: &[(&str, &str)]) {
        let plain = text::is_name(name.as_bytes(), true);
        if plain {
            self.text.extend_from_slice(name.as_bytes());
        }
        if plain && labels.is_empty() {
            return;
        }
        self.text.push(b'{');
        if !plain {
            self.quoted(name);
        }
        for (at, (label, value)) in labels.iter().enumerate() {
            if at > 0 || !plain {
                self.text.push(b',');
            }
            if text::is_name(label.as_bytes(), false) {
                self.text.extend_from_slice(label.as_bytes());
            } else {
                self.quoted(label);
            }
            self.text.push(b'=');
            self.quoted(value);
        }
        self.text.push(b'}');
    }

    pub fn name(&mut self, name: &str) {
        if text::is_name(name.as_bytes(), true) {
            self.text.extend_from_slice(name.as_bytes());
        } else {
            self.quoted(name);
        }
    }

    fn quoted(&mut self, value: &str) {
        self.text.push(b'"');
        for byte in value.bytes() {
            match byte {
                b'"' | b'\\' => self.text.extend_from_slice(&[b'\\', byte]),
                b'\n' => self.text.extend_from_slice(b"\\n"),
                _ => self.text.push(byte),
            }
        }
        self.text.push(b'"');
    }

    pub fn say(&mut self, text: &str) {
        self.text.extend_from_slice(text.as_bytes());
    }

    /// A number that reads back to the same one.
    pub fn number(&mut self, value: f64) {
        let text = match value {
            v if v.is_nan() => "NaN".into(),
            v if v.is_infinite() => if v > 0.0 { "+Inf" } else { "-Inf" }.into(),
            v if v == 0.0 || (1e-5..1e15).contains(&v.abs()) => format!("{v}"),
            v => format!("{v:e}"),
        };
        self.say(&text);
    }

    /// Takes a histogram, and writes what a line has for its value.
    pub fn histogram(&mut self, histogram: Histogram) {
        self.say(&format!("h{}", self.histograms.len()));
        self.histograms.push(histogram);
    }

    /// Behind a line's value, before its exemplars: when its series began (see `starts`).
    pub fn start(&mut self, start_ms: i64) {
        self.say(&format!(" # @{start_ms}"));
    }

    /// An exemplar behind a line's value. Its time is in the format's unit.
    pub fn exemplar(&mut self, labels: &[(&str, &str)], value: f64, time: Option<i64>) {
        self.say(" # {");
        for (at, (name, value)) in labels.iter().enumerate() {
            if at > 0 {
                self.text.push(b',');
            }
            self.quoted(name);
            self.text.push(b'=');
            self.quoted(value);
        }
        self.say("} ");
        self.number(value);
        if let Some(time) = time {
            self.say(&format!(" {time}"));
        }
    }
}

/// The labels of a key, with `le` as it is stored.
pub fn histogram_labels(key: &[u8]) -> Option<Pairs> {
    text::read_key(key, Family::Histogram).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bucket_factor_picks_a_schema() {
        let check = |factor: f64, want: i8| assert_eq!(HistogramSettings::schema_of(factor), want, "{factor}");
        check(0.0, 8);
        check(1.1, 2);
        check(1.00271, 8);
        check(2.0, 0);
        check(4.0, -1);
        check(1e9, -4);
    }

    #[test]
    fn keys_and_numbers_read_back() {
        let mut out = Transcoded::default();
        out.key("a.b", &[("c", "x\"\\\ny"), ("d e", "")]);
        let want = [("__name__", "a.b"), ("c", "x\"\\\ny"), ("d e", "")];
        let got = text::read_key(&out.text, Family::Other).unwrap();
        assert_eq!(got.iter().map(|l| (&*l.0, &*l.1)).collect::<Vec<_>>(), want);
        for value in [0.0, -0.0, 1.5, 1e300, -5e-324, f64::INFINITY, 123456789012345680.0] {
            let mut out = Transcoded::default();
            out.number(value);
            let (read, length) = text::read_value(&out.text).unwrap();
            assert_eq!((read.to_bits(), length), (value.to_bits(), out.text.len()));
        }
    }
}
