//! Query results as Prometheus's JSON. In Python a point costs 190 ns, here about 30.

use std::sync::Arc;

use numpy::ndarray::ArrayView1;
use numpy::{PyReadonlyArray1, PyReadonlyArray2};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::histogram::python::PyHistograms;
use crate::histogram::{marked, Histogram};
use crate::labels::{LabelSets, Labels};
use crate::promql::threads;

/// Plain decimals from 1e-6 to 1e21, exponents beyond: the form that Prometheus's API gives and clients compare with.
pub fn push_value(out: &mut Vec<u8>, value: f64) {
    if value.is_nan() {
        return out.extend_from_slice(b"NaN");
    }
    if value.is_infinite() {
        return out.extend_from_slice(if value > 0.0 { b"+Inf" } else { b"-Inf" });
    }
    let magnitude = value.abs();
    if value == value.trunc() && magnitude < 9.007e15 {
        if value == 0.0 && value.is_sign_negative() {
            out.push(b'-');
        }
        return out.extend_from_slice(itoa(value as i64, &mut [0; 20]));
    }
    let mut buffer = zmij::Buffer::new();
    let text = buffer.format_finite(value);
    if !text.bytes().any(|b| b == b'e') {
        return out.extend_from_slice(text.strip_suffix(".0").unwrap_or(text).as_bytes());
    }
    push_far(out, value);
}

/// A value so large or small that its shortest form has an exponent, here or elsewhere.
fn push_far(out: &mut Vec<u8>, value: f64) {
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-6..21).contains(&exponent) {
        out.extend_from_slice(format!("{value}").as_bytes());
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        out.extend_from_slice(format!("{digits}e{sign}{:02}", exponent.abs()).as_bytes());
    }
}

fn itoa(value: i64, buffer: &mut [u8; 20]) -> &[u8] {
    let mut rest = value.unsigned_abs();
    let mut at = buffer.len();
    loop {
        at -= 1;
        buffer[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        at -= 1;
        buffer[at] = b'-';
    }
    &buffer[at..]
}

/// Seconds with as many decimals as the milliseconds need.
fn push_time(out: &mut Vec<u8>, time_ms: i64) {
    if time_ms < 0 {
        out.push(b'-');
    }
    let magnitude = time_ms.unsigned_abs();
    out.extend_from_slice(itoa((magnitude / 1000) as i64, &mut [0; 20]));
    let rest = magnitude % 1000;
    if rest != 0 {
        let digits = [b'.', b'0' + (rest / 100) as u8, b'0' + (rest / 10 % 10) as u8, b'0' + (rest % 10) as u8];
        let used = 4 - digits.iter().rev().take_while(|d| **d == b'0').count();
        out.extend_from_slice(&digits[..used]);
    }
}

fn push_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..=0x1f => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

fn push_metric(out: &mut Vec<u8>, labels: &Labels) {
    out.extend_from_slice(b"{\"metric\":{");
    for (i, (name, value)) in labels.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        push_string(out, name);
        out.push(b':');
        push_string(out, value);
    }
    out.push(b'}');
}

fn push_point(out: &mut Vec<u8>, time_ms: i64, value: f64) {
    out.push(b'[');
    push_time(out, time_ms);
    out.extend_from_slice(b",\"");
    push_value(out, value);
    out.extend_from_slice(b"\"]");
}

/// A histogram with its buckets: how they are bounded (0 to the left open, 1 to the right, 2 on both sides, 3 on none),
/// lower and upper bound, count.
fn push_histogram(out: &mut Vec<u8>, time_ms: i64, histogram: &Histogram) {
    out.push(b'[');
    push_time(out, time_ms);
    for (name, value) in [(&b",{\"count\":\""[..], histogram.numbers().count), (b",\"sum\":\"", histogram.sum)] {
        out.extend_from_slice(name);
        push_value(out, value);
        out.push(b'"');
    }
    let buckets = histogram.buckets();
    for (at, bucket) in buckets.iter().enumerate() {
        out.extend_from_slice(if at == 0 { &b",\"buckets\":[["[..] } else { b",[" });
        let bounds = match (bucket.lower_inclusive, bucket.upper_inclusive) {
            (false, true) => b'0',
            (true, false) => b'1',
            (false, false) => b'2',
            (true, true) => b'3',
        };
        out.push(bounds);
        for value in [bucket.lower, bucket.upper, bucket.count] {
            out.extend_from_slice(b",\"");
            push_value(out, value);
            out.push(b'"');
        }
        out.extend_from_slice(if at + 1 == buckets.len() { &b"]]"[..] } else { b"]" });
    }
    out.extend_from_slice(b"}]");
}

/// The histogram that a value stands for.
fn native(value: f64, histograms: &[Arc<Histogram>]) -> Option<&Histogram> {
    let number = marked(value).filter(|_| !histograms.is_empty())?;
    histograms.get(number as usize).map(|h| &**h)
}

/// Writes a series' points, the numbers and then the histograms; returns how many there were.
fn push_points(out: &mut Vec<u8>, points: impl Iterator<Item = (i64, f64)> + Clone, histograms: &[Arc<Histogram>]) -> usize {
    let (mut numbers, mut natives) = (0, 0);
    for (time, value) in points.clone() {
        if native(value, histograms).is_some() {
            natives += 1;
            continue;
        }
        out.extend_from_slice(if numbers == 0 { &b",\"values\":["[..] } else { b"," });
        push_point(out, time, value);
        numbers += 1;
    }
    if numbers > 0 {
        out.push(b']');
    }
    if natives > 0 {
        let all = points.filter_map(|(time, value)| native(value, histograms).map(|h| (time, h)));
        for (at, (time, histogram)) in all.enumerate() {
            out.extend_from_slice(if at == 0 { &b",\"histograms\":["[..] } else { b"," });
            push_histogram(out, time, histogram);
        }
        out.push(b']');
    }
    numbers + natives
}

/// Points that are worth a thread.
const POINTS_A_THREAD: usize = 1 << 15;

/// Writes an array of series, in parts that follow each other; `points` writes one series' points and says how many there
/// were. Large arrays are written by two threads.
fn series(sets: &[Labels], size: usize, points: impl Fn(usize, &mut Vec<u8>) -> usize + Sync) -> Vec<Vec<u8>> {
    let part = |range: std::ops::Range<usize>| {
        let mut out = Vec::new();
        for i in range {
            let start = out.len();
            if start > 0 {
                out.push(b',');
            }
            push_metric(&mut out, &sets[i]);
            if points(i, &mut out) == 0 {
                out.truncate(start);
                continue;
            }
            out.push(b'}');
        }
        out
    };
    if threads(size / POINTS_A_THREAD).min(sets.len()) < 2 {
        return vec![part(0..sets.len())];
    }
    let half = sets.len() / 2;
    std::thread::scope(|scope| {
        let first = scope.spawn(|| part(0..half));
        let second = part(half..sets.len());
        match first.join() {
            Ok(first) => vec![first, second],
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// The parts as one array, in a result of this kind unless that is empty; the memory is taken once.
fn array<'py>(py: Python<'py>, kind: &str, mut parts: Vec<Vec<u8>>) -> PyResult<Bound<'py, PyBytes>> {
    parts.retain(|p| !p.is_empty());
    let (head, tail) = match kind {
        "" => ("[".to_string(), "]"),
        kind => (format!("{{\"resultType\":\"{kind}\",\"result\":["), "]}"),
    };
    let between = parts.len().saturating_sub(1);
    let length = head.len() + parts.iter().map(Vec::len).sum::<usize>() + between + tail.len();
    PyBytes::new_with(py, length, |bytes| {
        let mut left = bytes;
        let mut put = |text: &[u8]| {
            let (here, rest) = std::mem::take(&mut left).split_at_mut(text.len());
            here.copy_from_slice(text);
            left = rest;
        };
        put(head.as_bytes());
        for (i, part) in parts.iter_mut().enumerate() {
            if i > 0 {
                put(b",");
            }
            put(part);
            // Large results are not there twice for longer than need be.
            *part = Vec::new();
        }
        put(tail.as_bytes());
        Ok(())
    })
}

/// The numbers of a series that has one value a step.
fn push_numbers(out: &mut Vec<u8>, times: &Times, values: ArrayView1<'_, f64>, present: ArrayView1<'_, bool>) -> usize {
    let mut count = 0;
    out.reserve(times.text.len() + values.len() * 8);
    for ((step, value), there) in values.iter().enumerate().zip(present) {
        if !*there {
            continue;
        }
        out.extend_from_slice(if count == 0 { &b",\"values\":["[..] } else { b"," });
        out.extend_from_slice(times.of(step));
        push_value(out, *value);
        out.extend_from_slice(b"\"]");
        count += 1;
    }
    if count > 0 {
        out.push(b']');
    }
    count
}

/// What stands before a value at each step.
struct Times {
    text: Vec<u8>,
    ends: Vec<usize>,
}

impl Times {
    fn new(times: impl Iterator<Item = i64>) -> Times {
        let (mut text, mut ends) = (Vec::new(), vec![0]);
        for time in times {
            text.push(b'[');
            push_time(&mut text, time);
            text.extend_from_slice(b",\"");
            ends.push(text.len());
        }
        Times { text, ends }
    }

    fn of(&self, step: usize) -> &[u8] {
        &self.text[self.ends[step]..self.ends[step + 1]]
    }
}

fn check_length(what: &str, got: usize, want: usize) -> PyResult<()> {
    if got == want {
        return Ok(());
    }
    Err(PyValueError::new_err(format!("BUG: {what} has length {got}, not {want}")))
}

#[pyfunction]
#[pyo3(signature = (labels, times, values, present, histograms = None, *, kind = ""))]
fn matrix_json<'py>(
    py: Python<'py>,
    labels: &LabelSets,
    times: PyReadonlyArray1<'py, i64>,
    values: PyReadonlyArray2<'py, f64>,
    present: PyReadonlyArray2<'py, bool>,
    histograms: Option<&PyHistograms>,
    kind: &str,
) -> PyResult<Bound<'py, PyBytes>> {
    let (times, values, present) = (times.as_array(), values.as_array(), present.as_array());
    check_length("values", values.nrows(), labels.sets.len())?;
    check_length("values' steps", values.ncols(), times.len())?;
    check_length("present", present.len(), values.len())?;
    let histograms = histograms.map_or(&[][..], |h| &h.0);
    let parts = py.detach(|| {
        let text = Times::new(times.iter().copied());
        series(&labels.sets, values.len(), |i, out| {
            let (values, present) = (values.row(i), present.row(i));
            if histograms.is_empty() {
                return push_numbers(out, &text, values, present);
            }
            let there = times.iter().zip(values).zip(present).filter(|(_, there)| **there);
            push_points(out, there.map(|((time, value), _)| (*time, *value)), histograms)
        })
    });
    array(py, kind, parts)
}

#[pyfunction]
#[pyo3(signature = (labels, offsets, timestamps, values, histograms = None, *, kind = ""))]
fn samples_json<'py>(
    py: Python<'py>,
    labels: &LabelSets,
    offsets: PyReadonlyArray1<'py, i64>,
    timestamps: PyReadonlyArray1<'py, i64>,
    values: PyReadonlyArray1<'py, f64>,
    histograms: Option<&PyHistograms>,
    kind: &str,
) -> PyResult<Bound<'py, PyBytes>> {
    let (offsets, timestamps, values) = (offsets.as_array(), timestamps.as_array(), values.as_array());
    check_length("offsets", offsets.len(), labels.sets.len() + 1)?;
    check_length("values", values.len(), timestamps.len())?;
    if offsets.iter().any(|&o| o < 0 || o as usize > values.len()) {
        return Err(PyValueError::new_err("BUG: an offset is outside of the samples"));
    }
    let histograms = histograms.map_or(&[][..], |h| &h.0);
    let parts = py.detach(|| {
        series(&labels.sets, values.len(), |i, out| {
            let range = offsets[i] as usize..offsets[i + 1] as usize;
            push_points(out, range.map(|at| (timestamps[at], values[at])), histograms)
        })
    });
    array(py, kind, parts)
}

#[pyfunction]
#[pyo3(signature = (labels, time, values, histograms = None))]
fn vector_json<'py>(
    py: Python<'py>,
    labels: &LabelSets,
    time: i64,
    values: PyReadonlyArray1<'py, f64>,
    histograms: Option<&PyHistograms>,
) -> PyResult<Bound<'py, PyBytes>> {
    let values = values.as_array();
    check_length("values", values.len(), labels.sets.len())?;
    let histograms = histograms.map_or(&[][..], |h| &h.0);
    let out = py.detach(|| {
        let mut out = vec![b'['];
        for (labels, &value) in labels.sets.iter().zip(values) {
            if out.len() > 1 {
                out.push(b',');
            }
            push_metric(&mut out, labels);
            match native(value, histograms) {
                Some(histogram) => {
                    out.extend_from_slice(b",\"histogram\":");
                    push_histogram(&mut out, time, histogram);
                }
                None => {
                    out.extend_from_slice(b",\"value\":");
                    push_point(&mut out, time, value);
                }
            }
            out.push(b'}');
        }
        out.push(b']');
        out
    });
    Ok(PyBytes::new(py, &out))
}

pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    for function in [wrap_pyfunction!(matrix_json, m)?, wrap_pyfunction!(samples_json, m)?, wrap_pyfunction!(vector_json, m)?] {
        m.add_function(function)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_print_as_prometheus_prints_them() {
        let check = |value: f64, want: &str| {
            let mut out = Vec::new();
            push_value(&mut out, value);
            assert_eq!(String::from_utf8(out).unwrap(), want);
        };
        check(1.0, "1");
        check(-0.0, "-0");
        check(0.1, "0.1");
        check(1e21, "1e+21");
        check(1.5e20, "150000000000000000000");
        check(1e-7, "1e-07");
        check(-1.25e-9, "-1.25e-09");
        check(f64::INFINITY, "+Inf");
        check(f64::NAN, "NaN");
        check(i64::MAX as f64, "9223372036854776000");
    }

    #[test]
    fn a_histogram_has_its_buckets() {
        let mut histogram = crate::histogram::tests::simple(&[(0, 2), (2, 3)]);
        (histogram.negative, histogram.positive) = (histogram.positive.clone(), Box::default());
        if let crate::histogram::Counts::Integers(n) = &mut histogram.counts {
            (n.negative, n.positive) = (n.positive.clone(), Box::default());
            (n.zero, n.count) = (1, 6);
        }
        let mut out = Vec::new();
        push_histogram(&mut out, 1500, &histogram);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            r#"[1.5,{"count":"6","sum":"1.5","buckets":[[1,"-4","-2","3"],[1,"-1","-0.5","2"],[3,"-1e-128","1e-128","1"]]}]"#
        );
    }

    #[test]
    fn times_have_the_decimals_they_need() {
        let check = |time: i64, want: &str| {
            let mut out = Vec::new();
            push_time(&mut out, time);
            assert_eq!(String::from_utf8(out).unwrap(), want);
        };
        check(1_700_000_000_000, "1700000000");
        check(1_700_000_000_120, "1700000000.12");
        check(-1_500, "-1.5");
        check(5, "0.005");
    }
}
