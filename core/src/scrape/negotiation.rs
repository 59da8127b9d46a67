//! Which format a body has, by its Content-Type: as Prometheus 3 judges it, in its words.
//!
//! A body without a type, or of one that is not known, is refused rather than guessed at, unless the pool names a format to
//! fall back to.

use super::text::Format;

/// The format of a body with this Content-Type; the error is what Prometheus says.
pub fn format_of(content_type: &str, fallback: Option<Format>) -> Result<Format, String> {
    if content_type.is_empty() {
        return fallback.ok_or_else(|| {
            "non-compliant scrape target sending blank Content-Type and no fallback_scrape_protocol specified for target".into()
        });
    }
    let Some((media, version)) = parse(content_type) else {
        return fallback
            .ok_or_else(|| format!("cannot parse Content-Type {content_type:?} and no fallback_scrape_protocol for target"));
    };
    match (media.as_str(), version.as_deref()) {
        ("text/plain", _) => Ok(Format::Prometheus),
        ("application/vnd.google.protobuf", _) => Ok(Format::Protobuf),
        // OpenMetrics 2 is an experiment, and written differently.
        ("application/openmetrics-text", version) if version != Some("2.0.0") => Ok(Format::OpenMetrics),
        _ => fallback.ok_or_else(|| {
            format!("received unsupported Content-Type {content_type:?} and no fallback_scrape_protocol specified for target")
        }),
    }
}

/// The media type in small letters, and its parameter `version`; None for what RFC 9110 does not call a media type.
fn parse(content_type: &str) -> Option<(String, Option<String>)> {
    let (media, mut rest) = content_type.split_once(';').unwrap_or((content_type, ""));
    let media = media.trim().to_ascii_lowercase();
    let mut parts = media.split('/');
    if !parts.by_ref().take(2).all(is_token) || parts.next().is_some() {
        return None;
    }
    let mut parameters: Vec<(String, String)> = Vec::new();
    rest = rest.trim_start();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=')?;
        let name = name.trim_end().to_ascii_lowercase();
        if !is_token(&name) || parameters.iter().any(|p| p.0 == name) {
            return None;
        }
        let (value, after) = if after.starts_with('"') {
            quoted(after)?
        } else {
            let end = after.find(|c: char| c == ';' || c.is_whitespace()).unwrap_or(after.len());
            (after[..end].to_owned(), &after[end..])
        };
        if value.is_empty() {
            return None;
        }
        parameters.push((name, value));
        rest = after.trim_start();
        if !rest.is_empty() {
            rest = rest.strip_prefix(';')?.trim_start();
        }
    }
    let version = parameters.into_iter().find(|p| p.0 == "version").map(|p| p.1);
    Some((media, version))
}

/// A quoted text and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut out = String::new();
    let mut letters = text.char_indices().skip(1);
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((out, &text[at + 1..])),
            '\\' => out.push(letters.next()?.1),
            _ => out.push(letter),
        }
    }
    None
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_types_have_a_format() {
        let check = |content_type: &str, want: Format| assert_eq!(format_of(content_type, None), Ok(want), "{content_type}");
        check("text/plain", Format::Prometheus);
        check("Text/Plain; Version=0.0.4; charset=utf-8", Format::Prometheus);
        check("text/plain;version=1.0.0;escaping=allow-utf-8", Format::Prometheus);
        check("text/plain; version=\"0.0.4\" ;", Format::Prometheus);
        check("application/openmetrics-text; version=1.0.0; charset=utf-8", Format::OpenMetrics);
        check("application/openmetrics-text", Format::OpenMetrics);
        check("application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited", Format::Protobuf);
    }

    #[test]
    fn other_types_are_refused_or_fall_back() {
        let check = |content_type: &str, want: &str| {
            let error = format_of(content_type, None).unwrap_err();
            assert!(error.starts_with(want), "{content_type}: {error}");
            assert_eq!(format_of(content_type, Some(Format::OpenMetrics)), Ok(Format::OpenMetrics), "{content_type}");
        };
        check("", "non-compliant scrape target sending blank Content-Type and no fallback_scrape_protocol");
        check("text/html; charset=utf-8", "received unsupported Content-Type \"text/html; charset=utf-8\" and no fallback");
        check("application/openmetrics-text; version=2.0.0", "received unsupported Content-Type");
        check("text/plain; version", "cannot parse Content-Type \"text/plain; version\" and no fallback_scrape_protocol");
        check("text/plain; a=1; a=2", "cannot parse Content-Type");
        check("text/", "cannot parse Content-Type");
        check("te xt/plain", "cannot parse Content-Type");
        check("text/plain; a=\"", "cannot parse Content-Type");
    }
}
