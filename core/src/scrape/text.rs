//! The text formats of a scrape body: Prometheus's 0.0.4 and 1.0.0, and OpenMetrics 1.0.
//!
//! `scan` finds each sample line's key (name and labels, as they stand), value and timestamp, without reading the labels:
//! a key that a scan plan knows is never read again. `read_key` reads the labels of one key, and refuses what is no label.
//! HELP, TYPE and UNIT are read by `metadata` when somebody asks, exemplars by `exemplars` when one is new. Names that are
//! no identifiers are quoted, and a metric's then stands in the braces: `{"my.metric","la.bel"="x"} 1`.

use std::fmt;
use std::ops::Range;

use memchr::memchr;

use crate::histogram::mark;

/// What every NaN of a body becomes: the value space keeps its other NaNs for stale markers and absence.
pub const NAN: f64 = f64::from_bits(0x7ff8_0000_0000_0001);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    Prometheus,
    OpenMetrics,
    /// What `transcode` makes of a protobuf body: timestamps in milliseconds, exemplars, no end mark.
    Protobuf,
}

/// The kind of family that a line stands in, as far as its labels' meaning depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    Other,
    /// `le` is a number.
    Histogram,
    /// `quantile` is a number.
    Summary,
}

#[derive(Debug, PartialEq, Eq)]
pub struct TextError {
    pub line: usize,
    pub reason: String,
}

impl fmt::Display for TextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)
    }
}

impl TextError {
    /// An error at an offset of the body, with the text of its line.
    pub fn at(body: &[u8], offset: usize, reason: impl fmt::Display) -> TextError {
        let offset = offset.min(body.len());
        let start = memchr::memrchr(b'\n', &body[..offset]).map_or(0, |i| i + 1);
        let end = memchr(b'\n', &body[start..]).map_or(body.len(), |i| start + i);
        let text = String::from_utf8_lossy(&body[start..end]);
        let mut shown: String = text.chars().take(120).collect();
        if shown.len() < text.len() {
            shown.push('…');
        }
        let line = 1 + memchr::memchr_iter(b'\n', &body[..start]).count();
        TextError { line, reason: format!("{reason}: {shown:?}") }
    }
}

/// One sample line, as offsets into the body.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Name and labels with the blanks up to the value.
    pub key: Range<u32>,
    /// Past the value, the timestamp and the exemplar.
    pub end: u32,
    pub value: f64,
    pub timestamp_ms: Option<i64>,
    /// What stands behind ` # `, from its braces on.
    pub exemplar: Option<Range<u32>>,
    pub family: Family,
}

/// The value at the start of the text, and its length.
#[inline(always)]
pub fn read_value(text: &[u8]) -> Option<(f64, usize)> {
    let mut whole: u64 = 0;
    let mut i = 0;
    while i < text.len() && i < 15 {
        let digit = text[i].wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        whole = whole * 10 + u64::from(digit);
        i += 1;
    }
    if i > 0 && (i == text.len() || text[i] == b'\n' || text[i] == b' ') {
        return Some((whole as f64, i));
    }
    match fast_float2::parse_partial::<f64, _>(text) {
        Ok((value, length)) if length > 0 => Some((if value.is_nan() { NAN } else { value }, length)),
        _ => None,
    }
}

/// The histogram that a value refers to, as `transcode` writes it, as a mark and its length; there are so many of them.
#[cold]
pub fn read_histogram(text: &[u8], histograms: usize) -> Option<(f64, usize)> {
    let digits = text.strip_prefix(b"h")?;
    let length = digits.iter().take_while(|b| b.is_ascii_digit()).count();
    let number: usize = std::str::from_utf8(&digits[..length]).ok()?.parse().ok()?;
    (number < histograms).then_some((mark(u32::try_from(number).ok()?), length + 1))
}

/// The timestamp at the start of the text, and its length: milliseconds, or in OpenMetrics seconds.
#[inline(always)]
pub fn read_timestamp(text: &[u8], format: Format) -> Option<(i64, usize)> {
    if format == Format::OpenMetrics {
        let (seconds, length) = fast_float2::parse_partial::<f64, _>(text).ok()?;
        return (length > 0 && seconds.is_finite()).then_some(((seconds * 1000.0) as i64, length));
    }
    let negative = text.first() == Some(&b'-');
    let start = usize::from(negative);
    let mut value: i64 = 0;
    let mut i = start;
    while i < text.len() && text[i].is_ascii_digit() {
        value = value.checked_mul(10)?.checked_add(i64::from(text[i] - b'0'))?;
        i += 1;
    }
    (i > start).then_some((if negative { -value } else { value }, i))
}

/// Where the key that starts at `start` ends and its value begins; None when the line ends before.
#[inline]
pub fn key_end(body: &[u8], start: usize) -> Option<usize> {
    let mut i = start;
    loop {
        match body.get(i)? {
            b'\n' => return None,
            b'{' | b' ' | b'\t' => break,
            _ => i += 1,
        }
    }
    i = skip_blanks(body, i);
    if body.get(i) == Some(&b'{') {
        i += 1;
        let mut quoted = false;
        loop {
            match body.get(i)? {
                b'\n' => return None,
                b'\\' if quoted => i += 1,
                b'"' => quoted = !quoted,
                b'}' if !quoted => break,
                _ => {}
            }
            i += 1;
        }
        i = skip_blanks(body, i + 1);
    }
    Some(i)
}

#[inline]
pub fn skip_blanks(body: &[u8], mut at: usize) -> usize {
    while matches!(body.get(at), Some(b' ' | b'\t')) {
        at += 1;
    }
    at
}

/// Past the end of the line that `at` is in.
#[inline]
pub fn next_line(body: &[u8], at: usize) -> usize {
    memchr(b'\n', &body[at..]).map_or(body.len(), |i| at + i + 1)
}

/// The keyword of a comment that says something of a metric, the metric's name as it stands, and what follows.
pub fn comment(line: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let word = |text: &[u8]| text.iter().position(|b| matches!(b, b' ' | b'\t')).unwrap_or(text.len());
    let rest = line.strip_prefix(b"#")?;
    let rest = &rest[skip_blanks(rest, 0)..];
    let (keyword, rest) = rest.split_at(word(rest));
    let rest = &rest[skip_blanks(rest, 0)..];
    let end = if rest.first() == Some(&b'"') { quoted_end(rest)? } else { word(rest) };
    let (name, rest) = rest.split_at(end);
    Some((keyword, name, &rest[skip_blanks(rest, 0)..]))
}

/// The metric that a TYPE comment is of, and its type; None where the comment says no type.
pub fn type_of(line: &[u8]) -> Option<(String, &[u8])> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let (_, name, kind) = comment(&line[skip_blanks(line, 0)..]).filter(|c| c.0 == b"TYPE")?;
    let name = match name.first() {
        Some(b'"') => read_quoted(name, 0).ok()?.0,
        _ => std::str::from_utf8(name).ok()?.to_owned(),
    };
    Some((name, kind.trim_ascii()))
}

/// Past the quote that ends the text which begins with one.
fn quoted_end(text: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        match text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

fn family_of_comment(line: &[u8]) -> Option<Family> {
    let (_, _, kind) = comment(line).filter(|c| c.0 == b"TYPE")?;
    Some(match kind.split(|b| matches!(b, b' ' | b'\t')).next() {
        Some(b"histogram") => Family::Histogram,
        Some(b"summary") => Family::Summary,
        _ => Family::Other,
    })
}

/// All sample lines of a body, in its order.
pub fn scan(body: &[u8], format: Format) -> Result<Vec<Line>, TextError> {
    scan_with(body, format, 0)
}

/// The same of a body that refers to so many histograms.
pub fn scan_with(body: &[u8], format: Format, histograms: usize) -> Result<Vec<Line>, TextError> {
    if u32::try_from(body.len()).is_err() {
        return Err(TextError { line: 0, reason: "the body is longer than 4 GiB".into() });
    }
    let mut lines = Vec::new();
    let mut family = Family::Other;
    let mut at = 0;
    let mut ended = false;
    while at < body.len() {
        let start = skip_blanks(body, at);
        match body.get(start) {
            None => break,
            Some(b'\n') => {
                at = start + 1;
                continue;
            }
            Some(b'#') => {
                at = next_line(body, start);
                let comment = body[start..at].strip_suffix(b"\n").unwrap_or(&body[start..at]);
                if let Some(new) = family_of_comment(comment) {
                    family = new;
                } else if format == Format::OpenMetrics && comment == b"# EOF" {
                    ended = true;
                    if at < body.len() {
                        return Err(TextError::at(body, at, "unexpected data after # EOF"));
                    }
                }
                continue;
            }
            Some(_) => {}
        }
        let line = scan_line(body, start, format, family, histograms)?;
        at = line.end as usize;
        match body.get(at) {
            None => {}
            Some(b'\n') => at += 1,
            Some(_) => return Err(TextError::at(body, start, "unexpected text after the sample")),
        }
        lines.push(line);
    }
    if format == Format::OpenMetrics && !ended {
        return Err(TextError::at(body, body.len(), "data does not end with # EOF"));
    }
    Ok(lines)
}

fn scan_line(body: &[u8], start: usize, format: Format, family: Family, histograms: usize) -> Result<Line, TextError> {
    let fail = |reason: &str| TextError::at(body, start, reason);
    let value_at = key_end(body, start).ok_or_else(|| fail("expected a metric name, labels in braces and a value"))?;
    let token = value_at + body[value_at..].iter().take_while(|b| !matches!(b, b' ' | b'\t' | b'\n')).count();
    let value = match read_value(&body[value_at..]).or_else(|| read_histogram(&body[value_at..], histograms)) {
        Some((value, length)) if value_at + length == token => value,
        _ => return Err(fail("expected a number after the metric")),
    };
    let mut end = token;
    let mut timestamp_ms = None;
    let mut at = skip_blanks(body, token);
    if matches!(body.get(at), Some(b) if *b != b'\n' && *b != b'#') {
        let (time, length) = read_timestamp(&body[at..], format).ok_or_else(|| fail("expected a timestamp after the value"))?;
        timestamp_ms = Some(time);
        end = at + length;
        at = skip_blanks(body, end);
    }
    let mut exemplar = None;
    if body.get(at) == Some(&b'#') && at > end && format != Format::Prometheus {
        let start = skip_blanks(body, at + 1);
        at = memchr(b'\n', &body[at..]).map_or(body.len(), |i| at + i);
        end = at;
        exemplar = Some(start.min(end) as u32..end as u32);
    }
    if matches!(body.get(at), None | Some(b'\n')) {
        end = at; // trailing blanks belong to the line
    }
    Ok(Line { key: start as u32..value_at as u32, end: end as u32, value, timestamp_ms, exemplar, family })
}

/// Whether the body ends as OpenMetrics demands: a body cut short is no body.
pub fn ends_with_eof(body: &[u8]) -> bool {
    let body = body.strip_suffix(b"\n").unwrap_or(body);
    body == b"# EOF" || body.ends_with(b"\n# EOF")
}

pub fn is_name(name: &[u8], colons: bool) -> bool {
    let letter = |b: &u8| b.is_ascii_alphabetic() || *b == b'_' || (colons && *b == b':');
    name.first().is_some_and(letter) && name.iter().all(|b| letter(b) || b.is_ascii_digit())
}

/// The labels of a key, `__name__` among them, in no order; empty values are kept, since with `honor_labels` they unset a
/// target's label.
pub fn read_key(key: &[u8], family: Family) -> Result<Vec<(String, String)>, String> {
    let mut labels: Vec<(String, String)> = Vec::with_capacity(8);
    let name_end = key.iter().position(|b| matches!(b, b'{' | b' ' | b'\t')).unwrap_or(key.len());
    let name = &key[..name_end];
    if !name.is_empty() {
        if !is_name(name, true) {
            return Err(format!(
                "{:?} is no metric name; names in other characters are quoted in the braces",
                String::from_utf8_lossy(name)
            ));
        }
        labels.push(("__name__".into(), String::from_utf8_lossy(name).into_owned()));
    }
    let at = skip_blanks(key, name_end);
    if key.get(at) == Some(&b'{') {
        read_braces(key, at, family, &mut labels)?;
    }
    if !labels.iter().any(|l| l.0 == "__name__" && !l.1.is_empty()) {
        return Err("the sample has no metric name".into());
    }
    check_once(&labels)?;
    Ok(labels)
}

fn check_once(labels: &[(String, String)]) -> Result<(), String> {
    for (i, label) in labels.iter().enumerate() {
        if labels[..i].iter().any(|other| other.0 == label.0) {
            return Err(format!("the label {:?} is there twice", label.0));
        }
    }
    Ok(())
}

/// Names and values, as a body has them.
pub type Pairs = Vec<(String, String)>;

/// The labels in the braces that the text begins with, and what follows them.
pub fn read_labels(text: &[u8]) -> Result<(Pairs, &[u8]), String> {
    let mut labels = Vec::new();
    if text.first() != Some(&b'{') {
        return Err("expected labels in braces".into());
    }
    let end = read_braces(text, 0, Family::Other, &mut labels)?;
    check_once(&labels)?;
    Ok((labels, &text[end..]))
}

/// The pairs in the braces that open at `start`; returns where they end.
fn read_braces(key: &[u8], start: usize, family: Family, labels: &mut Vec<(String, String)>) -> Result<usize, String> {
    let mut at = skip_blanks(key, start + 1);
    while key.get(at) != Some(&b'}') {
        at = read_pair(key, at, family, labels)?;
        at = skip_blanks(key, at);
        match key.get(at) {
            Some(b',') => at = skip_blanks(key, at + 1),
            Some(b'}') => {}
            _ => return Err("expected a comma or a closing brace after a label".into()),
        }
    }
    Ok(at + 1)
}

/// One `name="value"`, or one `"metric name"`; returns where it ends.
fn read_pair(key: &[u8], start: usize, family: Family, labels: &mut Vec<(String, String)>) -> Result<usize, String> {
    let mut at;
    let name = if key.get(start) == Some(&b'"') {
        let (name, end) = read_quoted(key, start)?;
        at = skip_blanks(key, end);
        if key.get(at) != Some(&b'=') {
            labels.push(("__name__".into(), name));
            return Ok(at);
        }
        if name.is_empty() {
            return Err("a label has an empty name".into());
        }
        name
    } else {
        at = start + key[start..].iter().take_while(|b| !matches!(b, b'=' | b' ' | b'\t' | b',' | b'}' | b'"')).count();
        let name = &key[start..at];
        if !is_name(name, false) {
            return Err(format!("{:?} is no label name", String::from_utf8_lossy(name)));
        }
        String::from_utf8_lossy(name).into_owned()
    };
    at = skip_blanks(key, at);
    if key.get(at) != Some(&b'=') {
        return Err(format!("expected = after the label name {name:?}"));
    }
    at = skip_blanks(key, at + 1);
    if key.get(at) != Some(&b'"') {
        return Err(format!("expected a quoted value for the label {name:?}"));
    }
    let (value, end) = read_quoted(key, at)?;
    let value = match (family, name.as_str()) {
        (Family::Histogram, "le") | (Family::Summary, "quantile") => canonical_number(value),
        _ => value,
    };
    labels.push((name, value));
    Ok(end)
}

pub fn read_quoted(key: &[u8], start: usize) -> Result<(String, usize), String> {
    let mut out = Vec::with_capacity(24);
    let mut at = start + 1;
    loop {
        match key.get(at) {
            None => return Err("a quoted text does not end".into()),
            Some(b'"') => break,
            Some(b'\\') => {
                at += 1;
                match key.get(at) {
                    Some(b'n') => out.push(b'\n'),
                    Some(b'"') => out.push(b'"'),
                    Some(b'\\') => out.push(b'\\'),
                    Some(other) => out.extend_from_slice(&[b'\\', *other]),
                    None => return Err("a quoted text does not end".into()),
                }
            }
            Some(byte) => out.push(*byte),
        }
        at += 1;
    }
    let text = String::from_utf8(out).map_err(|e| format!("{:?} is not UTF-8", String::from_utf8_lossy(e.as_bytes())))?;
    Ok((text, at + 1))
}

/// `le` and `quantile` as Prometheus 3 stores them, whoever printed them: `1` and `1.00` are `1.0`.
fn canonical_number(text: String) -> String {
    match fast_float2::parse::<f64, _>(&text) {
        Ok(value) => format_number(value),
        Err(_) => text,
    }
}

pub fn format_number(value: f64) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf".into() } else { "-Inf".into() };
    }
    let scientific = format!("{value:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else {
        return scientific;
    };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    // Go's %g: an exponent from a million on.
    if (-4..6).contains(&exponent) {
        let plain = format!("{value}");
        return if plain.contains('.') { plain } else { plain + ".0" };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(body: &str, format: Format) -> Vec<(String, f64, Option<i64>)> {
        let lines = scan(body.as_bytes(), format).unwrap();
        let key = |l: &Line| body[l.key.start as usize..l.key.end as usize].trim_end().to_owned();
        lines.iter().map(|l| (key(l), l.value, l.timestamp_ms)).collect()
    }

    #[test]
    fn lines_comments_and_blank_lines_are_told_apart() {
        let body = "# HELP a text\n# TYPE a counter\n\na 1\n  # odd\na{x=\"} 5\"} 2.5e3 17\nb{} -Inf\nc\t 0x \n";
        let error = scan(body.as_bytes(), Format::Prometheus).unwrap_err();
        assert_eq!(error.to_string(), "line 8: expected a number after the metric: \"c\\t 0x \"");
        let got = samples(&body[..body.len() - 7], Format::Prometheus);
        let want =
            vec![("a".into(), 1.0, None), ("a{x=\"} 5\"}".into(), 2500.0, Some(17)), ("b{}".into(), f64::NEG_INFINITY, None)];
        assert_eq!(got, want);
    }

    #[test]
    fn openmetrics_has_seconds_exemplars_and_an_end() {
        let body = "a_bucket{le=\"1\"} 3 # {trace=\"x\"} 0.5 12.1\nb 1 12.5\n# EOF\n";
        let got = samples(body, Format::OpenMetrics);
        assert_eq!(got, vec![("a_bucket{le=\"1\"}".into(), 3.0, None), ("b".into(), 1.0, Some(12500))]);
        assert!(scan(b"a 1\n", Format::OpenMetrics).unwrap_err().reason.starts_with("data does not end with # EOF"));
        assert!(ends_with_eof(body.as_bytes()) && !ends_with_eof(b"a 1\n"));
    }

    #[test]
    fn every_nan_is_the_same() {
        for text in ["NaN\n", "nan\n", "-NaN\n"] {
            if let Some((value, _)) = read_value(text.as_bytes()) {
                assert_eq!(value.to_bits(), NAN.to_bits());
            }
        }
    }

    #[test]
    fn labels_are_read_with_escapes_and_quoted_names() {
        let check = |key: &str, want: &[(&str, &str)]| {
            let got = read_key(key.as_bytes(), Family::Histogram).unwrap();
            let got: Vec<(&str, &str)> = got.iter().map(|l| (&*l.0, &*l.1)).collect();
            assert_eq!(got, want, "{key}");
        };
        check("a ", &[("__name__", "a")]);
        check("a{} ", &[("__name__", "a")]);
        check("a { b = \"c\" , } ", &[("__name__", "a"), ("b", "c")]);
        check("a{b=\"x\\\\y\\\"z\\n\",c=\"\"}", &[("__name__", "a"), ("b", "x\\y\"z\n"), ("c", "")]);
        check("{\"a.b\",\"c d\"=\"é\"}", &[("__name__", "a.b"), ("c d", "é")]);
        check("a:b_bucket{le=\"1\"}", &[("__name__", "a:b_bucket"), ("le", "1.0")]);
        check("a{le=\"1000000\"}", &[("__name__", "a"), ("le", "1e+06")]);
        check("a{le=\"0.005\"}", &[("__name__", "a"), ("le", "0.005")]);
        check("a{le=\"+Inf\"}", &[("__name__", "a"), ("le", "+Inf")]);
    }

    #[test]
    fn what_is_no_label_is_refused() {
        let check = |key: &str, want: &str| {
            let got = read_key(key.as_bytes(), Family::Other).unwrap_err();
            assert!(got.contains(want), "{key}: {got}");
        };
        check("1a", "no metric name");
        check("a{1b=\"c\"}", "no label name");
        check("a{b:c=\"c\"}", "no label name");
        check("a{b=c}", "quoted value");
        check("a{b=\"c\" d=\"e\"}", "comma");
        check("a{b=\"c\",b=\"d\"}", "twice");
        check("{b=\"c\"}", "no metric name");
    }
}
