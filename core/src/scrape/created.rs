//! OpenMetrics says when a counter began in a line of its own, `_created`, somewhere in its family. Here these lines go, and
//! the lines that they are of say it themselves, behind their values (see `starts`), so that plans can walk them.

use hashbrown::HashMap;

use super::starts;
use super::text::{self, Format, Pairs, TextError};
use super::transcode::Transcoded;
use crate::labels::NAME;

/// Families whose samples count from a beginning, and the label that tells their lines apart beyond those of a series.
const KINDS: [(&[u8], &str); 3] = [(b"counter", ""), (b"histogram", "le"), (b"summary", "quantile")];
const SUFFIX: &str = "_created";

/// What a line is in its family.
enum Line {
    /// It stands in none that has a beginning.
    Plain,
    /// It says the beginning of others.
    Created,
    /// One of the series with this number.
    Of(usize),
}

/// A body of OpenMetrics without its `_created` lines, which its other lines say instead.
pub fn attach(body: &[u8]) -> Result<Transcoded, TextError> {
    let scanned = text::scan(body, Format::OpenMetrics)?;
    let mut numbers: HashMap<(usize, Pairs), usize> = HashMap::new();
    let mut starts_ms: HashMap<usize, i64> = HashMap::new();
    let mut lines = Vec::with_capacity(scanned.len());
    let (mut of, mut families, mut at) = (None, 0, 0);
    for line in &scanned {
        let (start, key_end) = (line.key.start as usize, line.key.end as usize);
        for comment in body[at..start].split_inclusive(|b| *b == b'\n') {
            if let Some((name, kind)) = text::type_of(comment) {
                of = KINDS.iter().find(|k| k.0 == kind).map(|k| (name, k.1));
                families += 1;
            }
        }
        at = line.end as usize;
        let read = of.as_ref().and_then(|f| Some((f, text::read_key(&body[start..key_end], line.family).ok()?)));
        let Some(((name, apart), mut labels)) = read else {
            lines.push(Line::Plain);
            continue;
        };
        let own = labels.iter().position(|l| l.0 == NAME).map(|at| labels.swap_remove(at).1).unwrap_or_default();
        labels.retain(|l| l.0 != *apart);
        labels.sort();
        let next = numbers.len();
        let number = *numbers.entry((families, labels)).or_insert(next);
        if own.strip_suffix(SUFFIX) == Some(name) {
            // As Prometheus has it: 0 is none.
            starts_ms.extend(Some((number, (line.value * 1000.0) as i64)).filter(|s| s.1 != 0));
            lines.push(Line::Created);
        } else {
            lines.push(Line::Of(number));
        }
    }
    let mut out = Transcoded { text: Vec::with_capacity(body.len() * 2), ..Transcoded::default() };
    let mut at = 0;
    for (line, of) in scanned.iter().zip(lines) {
        let (start, end) = (line.key.start as usize, line.end as usize);
        out.text.extend_from_slice(body[at..start].trim_ascii_start());
        at = end;
        let start_ms = match of {
            Line::Created => continue,
            Line::Plain => None,
            Line::Of(number) => starts_ms.get(&number),
        };
        let exemplar = line.exemplar.as_ref().map(|e| &body[e.start as usize..e.end as usize]);
        let head = match &line.exemplar {
            None => &body[start..end],
            Some(at) => body[start..at.start as usize].trim_ascii_end().strip_suffix(b"#").unwrap_or_default(),
        };
        out.text.extend_from_slice(head.trim_ascii_end());
        if let Some(start_ms) = start_ms {
            out.start(*start_ms);
        }
        // What only we may say is no exemplar.
        if let Some(exemplar) = exemplar.filter(|e| starts::split(e).0.is_none()) {
            out.say(" # ");
            out.text.extend_from_slice(exemplar.trim_ascii_end());
        }
        out.text.push(b'\n');
    }
    out.text.extend_from_slice(body[at..].trim_ascii_start());
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_say_when_their_series_began() {
        let check = |body: &str, want: &str| {
            let out = attach(body.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(out.text).unwrap(), want);
            text::scan(want.as_bytes(), Format::OpenMetrics).unwrap();
        };
        check(
            "# TYPE a counter\na_total{x=\"1\"} 2 12.5 # {t=\"u\"} 1\na_created{x=\"1\"} 12.25\na_total{x=\"2\"} 3\n# EOF\n",
            "# TYPE a counter\na_total{x=\"1\"} 2 12.5 # @12250 # {t=\"u\"} 1\na_total{x=\"2\"} 3\n# EOF\n",
        );
        check(
            "# TYPE h histogram\nh_bucket{le=\"1\",a=\"b\"} 1\nh_bucket{a=\"b\",le=\"+Inf\"} 2\nh_count{a=\"b\"} 2\nh_created{a=\"b\"} 0.5\n# EOF",
            "# TYPE h histogram\nh_bucket{le=\"1\",a=\"b\"} 1 # @500\nh_bucket{a=\"b\",le=\"+Inf\"} 2 # @500\nh_count{a=\"b\"} 2 # @500\n# EOF",
        );
        check(
            "# TYPE s summary\ns{quantile=\"0.5\"} 1\ns_sum 3\ns_created 1\n# TYPE g gauge\ng_created 7\n# EOF\n",
            "# TYPE s summary\ns{quantile=\"0.5\"} 1 # @1000\ns_sum 3 # @1000\n# TYPE g gauge\ng_created 7\n# EOF\n",
        );
        // Nobody but us says so.
        check("a 1 # @5\n# TYPE b counter\nb_total 1  #  {} 2 \n# EOF\n", "a 1\n# TYPE b counter\nb_total 1 # {} 2\n# EOF\n");
    }

    proptest! {
        #[test]
        fn what_is_attached_is_a_body_with_the_same_samples(lines in prop::collection::vec(
            ("[ab](_total|_created|_bucket)?(\\{(le|x)=\"1\"\\})?", -3i64..9, prop::option::of("@[0-9]{1,3}|\\{\\} 1|x"), 0..5u8), 0..12)
        ) {
            let text = |(key, value, behind, kind): (String, i64, Option<String>, u8)| {
                let comment = ["counter", "histogram", "gauge"].get(usize::from(kind)).map(|kind| format!("# TYPE a {kind}\n"));
                let behind = behind.map(|behind| format!("  # {behind} ")).unwrap_or_default();
                format!("{}{key} {value}{behind}\n", comment.unwrap_or_default())
            };
            let body = lines.into_iter().map(text).collect::<String>() + "# EOF\n";
            let made = attach(body.as_bytes()).unwrap().text;
            let told = |body: &[u8]| -> Vec<(String, u64)> {
                let lines = text::scan(body, Format::OpenMetrics).unwrap();
                let key = |l: &text::Line| String::from_utf8_lossy(&body[l.key.start as usize..l.key.end as usize]).into_owned();
                lines.iter().map(|l| (key(l), l.value.to_bits())).collect()
            };
            let (before, after) = (told(body.as_bytes()), told(&made));
            let mut rest = before.iter();
            // In their order, without some that say a beginning.
            prop_assert!(after.iter().all(|one| rest.any(|other| other == one)));
            prop_assert!(before.iter().filter(|l| !l.0.contains("_created")).count() <= after.len());
        }

        #[test]
        fn no_text_makes_it_panic(text in "(# TYPE a counter\n)?[a_created{}\"\\\\=,@# \n0-9.eE+-]{0,60}(# EOF\n)?") {
            let _ = attach(text.as_bytes());
        }
    }

    #[test]
    fn a_body_that_is_none_is_refused() {
        assert!(attach(b"# TYPE a counter\na_created 1\n").is_err());
    }
}
