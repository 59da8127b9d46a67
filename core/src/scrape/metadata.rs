//! What bodies say about their metrics: type, help and unit, read from the comments that scan plans hold.
//!
//! Nothing is kept for it: the texts are read when the metadata API asks, and equal plans are read once.

use super::plan::Plan;
use super::text;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    pub metric: String,
    pub kind: String,
    pub help: String,
    pub unit: String,
}

/// The metadata of a plan's body, in its order.
pub fn read(plan: &Plan) -> Vec<Metadata> {
    let mut found: Vec<Metadata> = Vec::new();
    for text in plan.texts() {
        for line in text.split(|b| *b == b'\n') {
            let Some((keyword, metric, rest)) = comment(line) else {
                continue;
            };
            // A family's comments follow each other; one that comes back is taken again.
            if found.last().is_none_or(|last| last.metric != metric) {
                found.push(Metadata { metric, kind: "unknown".into(), ..Metadata::default() });
            }
            let Some(last) = found.last_mut() else {
                continue;
            };
            match keyword {
                "HELP" => last.help = unescape(&rest),
                "UNIT" => last.unit = rest,
                _ => last.kind = if rest == "untyped" { "unknown".into() } else { rest },
            }
        }
    }
    found
}

fn comment(line: &[u8]) -> Option<(&'static str, String, String)> {
    let line = &line[text::skip_blanks(line, 0)..];
    let (keyword, name, text) = text::comment(line)?;
    let keyword = ["HELP", "TYPE", "UNIT"].into_iter().find(|k| k.as_bytes() == keyword)?;
    let name = match name.first() {
        None => return None,
        Some(b'"') => text::read_quoted(name, 0).ok()?.0,
        Some(_) => std::str::from_utf8(name).ok()?.to_owned(),
    };
    let text = std::str::from_utf8(text).ok()?;
    let text = if keyword == "HELP" { text } else { text.trim_end_matches([' ', '\t']) };
    Some((keyword, name, text.to_owned()))
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => match letters.next() {
                Some('n') => out.push('\n'),
                Some('\\') | None => out.push('\\'),
                Some(other) => out.extend(['\\', other]),
            },
            _ => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_name_a_metric_and_say_something_of_it() {
        let check = |line: &str, want: Option<(&str, &str, &str)>| {
            let got = comment(line.as_bytes());
            assert_eq!(got.as_ref().map(|c| (c.0, &*c.1, &*c.2)), want, "{line}");
        };
        check("# HELP a some text ", Some(("HELP", "a", "some text ")));
        check("# TYPE a counter", Some(("TYPE", "a", "counter")));
        check("#  TYPE \"a b\" gauge", Some(("TYPE", "a b", "gauge")));
        check("# TYPE \"a \\\"b\\\"\" histogram", Some(("TYPE", "a \"b\"", "histogram")));
        check("# HELP a", Some(("HELP", "a", "")));
        check("# just a remark", None);
        check("# EOF", None);
        check("a 1", None);
    }

    #[test]
    fn escapes_of_help_are_resolved() {
        assert_eq!(unescape("a\\nb\\\\c\\d"), "a\nb\\c\\d");
    }
}
