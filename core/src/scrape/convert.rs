//! Classic histograms made into native ones with custom buckets: `_bucket`, `_sum` and `_count` of one histogram become a
//! sample, as `convert_classic_histograms_to_nhcb` asks for.
//!
//! Of a text body only families that say `# TYPE … histogram` are converted, and of them what adds up; the rest stays as it is
//! or, where it was to become a histogram and cannot, is dropped, as Prometheus has it.

use super::exemplars;
use super::starts;
use super::text::{self, Family, Format, TextError};
use super::transcode::{histogram_labels, Transcoded};
use crate::histogram::{Counts, Hint, Histogram, Numbers, Span, CUSTOM_SCHEMA};

/// What is known of a histogram that is being put together.
#[derive(Default)]
pub struct Collected {
    /// Upper bounds ascending, with cumulative counts.
    buckets: Vec<(f64, f64)>,
    count: Option<f64>,
    sum: f64,
    error: Option<String>,
}

impl Collected {
    fn fail(&mut self, reason: String) {
        self.error.get_or_insert(reason);
    }

    pub fn bucket(&mut self, bound: f64, count: f64) {
        if bound.is_nan() {
            return self.fail("bucket boundary must not be NaN".into());
        }
        if count < 0.0 {
            return self.fail(format!("bucket count must be non-negative: le={bound}, count={count}"));
        }
        let at = self.buckets.partition_point(|b| b.0 < bound);
        if self.buckets.get(at).is_some_and(|b| b.0 == bound) {
            return;
        }
        if let Some(before) = at.checked_sub(1).map(|i| self.buckets[i].1).filter(|b| count < *b) {
            return self.fail(format!("count is not cumulative: {count} < {before}"));
        }
        if let Some(after) = self.buckets.get(at).map(|b| b.1).filter(|b| count > *b) {
            return self.fail(format!("count is not cumulative: {count} > {after}"));
        }
        self.buckets.insert(at, (bound, count));
    }

    pub fn count(&mut self, count: f64) {
        if count < 0.0 {
            return self.fail(format!("count must be non-negative: count={count}"));
        }
        self.count = Some(count);
    }

    pub fn sum(&mut self, sum: f64) {
        self.sum = sum;
    }

    pub fn convert(mut self) -> Result<Histogram, String> {
        if let Some(reason) = self.error {
            return Err(reason);
        }
        let count = self.count.or(self.buckets.last().map(|b| b.1));
        let count = count.ok_or("count must be provided when no buckets are present")?;
        if self.buckets.last().is_none_or(|b| b.0 != f64::INFINITY) {
            self.buckets.push((f64::INFINITY, count));
        }
        let last = self.buckets[self.buckets.len() - 1].1;
        if count != last {
            return Err(format!("count mismatch: count={count} != le=+Inf count={last}"));
        }
        let single = self.buckets.iter().scan(0.0, |before, (_, c)| Some(c - std::mem::replace(before, *c)));
        let single: Vec<f64> = single.collect();
        let whole = |c: f64| c.fract() == 0.0 && c.abs() < 9.0e18;
        let integers = self.buckets.iter().all(|b| whole(b.1)) && single.iter().all(|c| *c >= 0.0);
        let counts = if integers {
            // From the cumulative ones: their differences as floats may be rounded.
            let cumulative = self.buckets.iter().map(|b| b.1 as u64);
            let single = cumulative.scan(0, |before, c| Some(c - std::mem::replace(before, c)));
            Counts::Integers(Numbers { count: count as u64, positive: single.collect(), ..Numbers::default() })
        } else {
            Counts::Floats(Numbers { count, positive: single.into(), ..Numbers::default() })
        };
        let mut histogram = Histogram {
            schema: CUSTOM_SCHEMA,
            hint: Hint::Unknown,
            zero_threshold: 0.0,
            sum: self.sum,
            positive: [Span { offset: 0, length: self.buckets.len() as u32 }].into(),
            negative: Box::default(),
            custom: self.buckets[..self.buckets.len() - 1].iter().map(|b| b.0).collect(),
            counts,
        };
        histogram.compact(if integers { 2 } else { 0 });
        histogram.check().map_err(|e| format!("invalid histogram: {e}"))?;
        Ok(histogram)
    }
}

/// Which part of a classic histogram a line is.
enum Part {
    Bucket(f64),
    Sum,
    Count,
}

/// The lines of one histogram, as long as they follow each other.
struct Group<'a> {
    name: &'a str,
    labels: Vec<(String, String)>,
    collected: Collected,
    /// What stands behind the value, from a blank on.
    timestamp: &'a [u8],
    exemplars: Vec<&'a [u8]>,
    /// Where lines say when their series began: what they say.
    start_ms: Option<i64>,
}

impl Group<'_> {
    fn finish(self, out: &mut Transcoded) {
        let Ok(histogram) = self.collected.convert() else { return };
        let labels: Vec<(&str, &str)> = self.labels.iter().map(|(n, v)| (&**n, &**v)).collect();
        out.key(self.name, &labels);
        out.text.push(b' ');
        out.histogram(histogram);
        out.text.extend_from_slice(self.timestamp);
        if let Some(start_ms) = self.start_ms {
            out.start(start_ms);
        }
        for exemplar in self.exemplars {
            out.say(" # ");
            out.text.extend_from_slice(exemplar);
        }
        out.text.push(b'\n');
    }
}

/// A text body with its classic histograms converted; they themselves stay if `keep` says so.
pub fn convert(body: &[u8], format: Format, keep: bool) -> Result<Transcoded, TextError> {
    let lines = text::scan(body, format)?;
    let mut out = Transcoded { text: Vec::with_capacity(body.len()), ..Transcoded::default() };
    let mut family: Option<String> = None;
    let mut group: Option<Group<'_>> = None;
    let mut at = 0;
    for line in &lines {
        let (start, key_end, end) = (line.key.start as usize, line.key.end as usize, line.end as usize);
        for comment in body[at..start].split_inclusive(|b| *b == b'\n') {
            if comment.trim_ascii().is_empty() {
                continue;
            }
            if let Some(group) = group.take() {
                group.finish(&mut out);
            }
            if let Some((name, kind)) = text::type_of(comment) {
                family = (kind == b"histogram").then_some(name);
            }
            out.text.extend_from_slice(comment);
        }
        at = end;
        let key = &body[start..key_end];
        let part = family.as_deref().filter(|_| line.family == Family::Histogram).and_then(|name| part(key, name));
        let Some((part, labels)) = part else {
            if let Some(group) = group.take() {
                group.finish(&mut out);
            }
            out.text.extend_from_slice(&body[start..end]);
            out.text.push(b'\n');
            continue;
        };
        if let Some(other) = group.take_if(|g| g.labels != labels) {
            other.finish(&mut out);
        }
        let name = family.as_deref().unwrap_or_default();
        let group = group.get_or_insert_with(|| Group {
            name: key_name(key, name),
            labels,
            collected: Collected::default(),
            timestamp: &[],
            exemplars: Vec::new(),
            start_ms: None,
        });
        match part {
            Part::Bucket(bound) => group.collected.bucket(bound, line.value),
            Part::Sum => group.collected.sum(line.value),
            Part::Count => group.collected.count(line.value),
        }
        group.timestamp = timestamp(&body[key_end..end], line.timestamp_ms.is_some());
        if let Some(behind) = line.exemplar.as_ref().map(|e| &body[e.start as usize..e.end as usize]) {
            let (start_ms, exemplar) = starts::split(behind);
            group.start_ms = group.start_ms.or(start_ms);
            // Without a time of its own it could not be told from the one before.
            if exemplars::read(exemplar, format).is_ok_and(|e| e.2.is_some()) {
                group.exemplars.push(exemplar.trim_ascii_end());
            }
        }
        if keep {
            out.text.extend_from_slice(&body[start..end]);
            out.text.push(b'\n');
        }
    }
    if let Some(group) = group {
        group.finish(&mut out);
    }
    out.text.extend_from_slice(body[at..].trim_ascii_start());
    Ok(out)
}

/// The name of the family, from the body: it lives as long as that.
fn key_name<'a>(key: &'a [u8], name: &str) -> &'a str {
    let found = memchr::memmem::find(key, name.as_bytes()).map(|at| &key[at..at + name.len()]);
    found.and_then(|name| std::str::from_utf8(name).ok()).unwrap_or_default()
}

/// What a line is of the histogram with this name, and the histogram's labels.
fn part(key: &[u8], family: &str) -> Option<(Part, Vec<(String, String)>)> {
    let mut labels = histogram_labels(key)?;
    let at = labels.iter().position(|l| l.0 == crate::labels::NAME)?;
    let name = labels.swap_remove(at).1;
    let part = match name.strip_prefix(family)? {
        "_bucket" => {
            let at = labels.iter().position(|l| l.0 == "le")?;
            let bound: f64 = fast_float2::parse(&labels[at].1).ok().filter(|b: &f64| !b.is_nan())?;
            labels.swap_remove(at);
            Part::Bucket(bound)
        }
        "_sum" => Part::Sum,
        "_count" => Part::Count,
        _ => return None,
    };
    labels.sort();
    Some((part, labels))
}

/// What of a line stands behind its value and is its timestamp.
fn timestamp(rest: &[u8], is_there: bool) -> &[u8] {
    if !is_there {
        return &[];
    }
    let value = rest.iter().position(|b| matches!(b, b' ' | b'\t')).unwrap_or(rest.len());
    let time = text::skip_blanks(rest, value);
    let end = time + rest[time..].iter().take_while(|b| !matches!(b, b' ' | b'\t' | b'\r')).count();
    // From one blank on, as a line that plans walk has it.
    &rest[time - 1..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(body: &str, format: Format, keep: bool) -> (String, Vec<Histogram>) {
        let out = convert(body.as_bytes(), format, keep).unwrap();
        (String::from_utf8(out.text).unwrap(), out.histograms)
    }

    const BODY: &str = "# HELP a text\n# TYPE a histogram\na_bucket{x=\"1\",le=\"0.5\"} 2 # {t=\"u\"} 0.1 12.5\na_bucket{x=\"1\",le=\"+Inf\"} 5\n\
        a_sum{x=\"1\"} 7.5\na_count{x=\"1\"} 5\na_bucket{x=\"2\",le=\"+Inf\"} 0.5\na_count{x=\"2\"} 0.5\n# TYPE b gauge\nb_sum 1\n# EOF\n";

    #[test]
    fn a_classic_histogram_becomes_one_with_its_buckets() {
        let (text, histograms) = converted(BODY, Format::OpenMetrics, false);
        assert_eq!(
            text,
            "# HELP a text\n# TYPE a histogram\na{x=\"1\"} h0 # {t=\"u\"} 0.1 12.5\na{x=\"2\"} h1\n# TYPE b gauge\nb_sum 1\n# EOF\n"
        );
        assert_eq!((histograms[0].sum, histograms[0].numbers().count), (7.5, 5.0));
        let buckets: Vec<(f64, f64)> = histograms[0].buckets().iter().map(|b| (b.upper, b.count)).collect();
        assert_eq!(buckets, [(0.5, 2.0), (f64::INFINITY, 3.0)]);
        assert!(matches!(&histograms[1].counts, Counts::Floats(n) if n.count == 0.5));
    }

    #[test]
    fn the_classic_lines_stay_if_they_are_to() {
        let (text, histograms) = converted(BODY, Format::OpenMetrics, true);
        assert!(text.contains("a_count{x=\"1\"} 5\na{x=\"1\"} h0"), "{text}");
        assert_eq!((histograms.len(), text.lines().count()), (2, BODY.lines().count() + 2));
    }

    #[test]
    fn what_is_no_histogram_stays_and_what_does_not_add_up_goes() {
        let check = |body: &str, want: &str| assert_eq!(converted(body, Format::Prometheus, false).0, want);
        check("a_bucket{le=\"1\"} 1\na_count 1\n", "a_bucket{le=\"1\"} 1\na_count 1\n");
        check("# TYPE a histogram\na_bucket{le=\"1\"} 3\na_bucket{le=\"+Inf\"} 2\n", "# TYPE a histogram\n");
        check("# TYPE a histogram\na_bucket{le=\"x\"} 3\n", "# TYPE a histogram\na_bucket{le=\"x\"} 3\n");
        check("# TYPE a histogram\na_count 3 17 \nb 1", "# TYPE a histogram\na h0 17\nb 1\n");
    }

    #[test]
    fn buckets_in_any_order_add_up() {
        let mut one = Collected::default();
        for (bound, count) in [(2.0, 4.0), (f64::INFINITY, 9.0), (1.0, 3.0), (2.0, 8.0)] {
            one.bucket(bound, count);
        }
        one.sum(f64::NAN);
        let Counts::Integers(n) = one.convert().unwrap().counts else { panic!() };
        assert_eq!((n.count, &n.positive[..]), (9, &[3, 1, 5][..]));
    }
}
