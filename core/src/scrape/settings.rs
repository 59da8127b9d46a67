//! What Python says of pools and targets, read and checked.
//!
//! Errors name the key and the cure: they end in a resource's status, where its author reads them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyMapping;

use super::address::Address;
use super::credentials::{authorization, Credentials, Secret};
use super::failures::FailureLog;
use super::fetch::{FetchSettings, ReachSettings};
use super::labeling::{LabelLimits, Labeling};
use super::oauth::OAuth2Settings;
use super::proxy::{Proxy, ProxySettings};
use super::text::Format;
use super::tls::TlsSettings;
use super::transcode::HistogramSettings;
use crate::labels::{Labels, Strings};
use crate::relabel::Rules;

pub struct PoolSettings {
    pub interval: Duration,
    pub timeout: Duration,
    pub honor_timestamps: bool,
    /// A series with timestamps of its own ends in a stale marker as well, once it is gone.
    pub track_timestamps_staleness: bool,
    /// Counters that say when they began get a zero there.
    pub start_timestamps: bool,
    /// Of what remains after relabeling; 0 is none.
    pub sample_limit: usize,
    pub labeling: Arc<Labeling>,
    pub histograms: HistogramSettings,
    pub failures: Option<FailureLog>,
    pub fetch: FetchSettings,
}

/// What discovery knows of a target's life; a change of it does not restart the target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    pub every_second: bool,
    pub terminating: bool,
    pub not_ready: bool,
}

pub struct TargetSettings {
    pub url: String,
    pub address: Address,
    pub labels: Labels,
    pub interval: Duration,
    pub timeout: Duration,
    pub histograms: HistogramSettings,
    pub flags: Flags,
}

const POOL_KEYS: [&str; 31] = [
    "interval_seconds",
    "timeout_seconds",
    "honor_labels",
    "honor_timestamps",
    "track_timestamps_staleness",
    "metric_relabel_configs",
    "legacy_names",
    "body_size_limit",
    "sample_limit",
    "series_budget",
    "extra_scrape_metrics",
    "scrape_failure_log_file",
    "label_limit",
    "label_name_length_limit",
    "label_value_length_limit",
    "headers",
    "authorization",
    "basic_auth",
    "oauth2",
    "proxy",
    "tls",
    "follow_redirects",
    "enable_compression",
    "accept",
    "fallback_format",
    "scrape_native_histograms",
    "always_scrape_classic_histograms",
    "convert_classic_histograms_to_nhcb",
    "native_histogram_bucket_limit",
    "native_histogram_min_bucket_factor",
    "start_timestamps",
];
const TLS_KEYS: [&str; 8] =
    ["ca_file", "cert_file", "key_file", "server_name", "insecure_skip_verify", "min_version", "max_version", "http2"];
const TARGET_KEYS: [&str; 10] = [
    "url",
    "labels",
    "interval_seconds",
    "timeout_seconds",
    "scrape_native_histograms",
    "always_scrape_classic_histograms",
    "convert_classic_histograms_to_nhcb",
    "every_second",
    "terminating",
    "not_ready",
];

/// A mapping whose keys are known; None counts as absent.
struct Reader<'py> {
    mapping: Bound<'py, PyMapping>,
    name: String,
}

impl<'py> Reader<'py> {
    fn new(value: &Bound<'py, PyAny>, name: &str, keys: &[&str]) -> PyResult<Reader<'py>> {
        let fail = |reason: String| PyValueError::new_err(format!("{name}: {reason}"));
        let mapping = value.cast::<PyMapping>().map_err(|_| fail("expected a mapping".into()))?;
        for key in mapping.keys()?.iter() {
            let key: String = key.extract().map_err(|_| fail(format!("the key {key} is no string")))?;
            if !keys.contains(&key.as_str()) {
                return Err(fail(format!("{key} is no key here; use one of {}", keys.join(", "))));
            }
        }
        Ok(Reader { mapping: mapping.clone(), name: name.to_owned() })
    }

    fn fail(&self, key: &str, reason: &str) -> PyErr {
        PyValueError::new_err(format!("{}: {key}: {reason}", self.name))
    }

    fn item(&self, key: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
        if !self.mapping.contains(key)? {
            return Ok(None);
        }
        Ok(Some(self.mapping.get_item(key)?).filter(|v| !v.is_none()))
    }

    fn flag(&self, key: &str, default: bool) -> PyResult<bool> {
        match self.item(key)? {
            None => Ok(default),
            Some(value) => value.extract().map_err(|_| self.fail(key, "expected True or False")),
        }
    }

    /// A value that is not shown in errors, since it may be secret.
    fn text(&self, key: &str) -> PyResult<Option<String>> {
        let Some(value) = self.item(key)? else {
            return Ok(None);
        };
        value.extract().map(Some).map_err(|_| self.fail(key, "expected a string"))
    }

    fn path(&self, key: &str) -> PyResult<Option<PathBuf>> {
        Ok(self.text(key)?.filter(|p| !p.is_empty()).map(PathBuf::from))
    }

    fn count(&self, key: &str) -> PyResult<usize> {
        let Some(value) = self.item(key)? else {
            return Ok(0);
        };
        value.extract().map_err(|_| self.fail(key, "expected a whole number of at least 0; 0 is no limit"))
    }

    /// What is said of histograms, and else as given.
    fn histograms(&self, usual: &HistogramSettings) -> PyResult<HistogramSettings> {
        Ok(HistogramSettings {
            native: self.flag("scrape_native_histograms", usual.native)?,
            always_classic: self.flag("always_scrape_classic_histograms", usual.always_classic)?,
            convert: self.flag("convert_classic_histograms_to_nhcb", usual.convert)?,
            ..*usual
        })
    }

    fn number(&self, key: &str) -> PyResult<f64> {
        let Some(value) = self.item(key)? else {
            return Ok(0.0);
        };
        let number: f64 = value.extract().map_err(|_| self.fail(key, "expected a number"))?;
        Some(number).filter(|n| n.is_finite()).ok_or_else(|| self.fail(key, "expected a finite number"))
    }

    fn seconds(&self, key: &str) -> PyResult<Option<Duration>> {
        let Some(value) = self.item(key)? else {
            return Ok(None);
        };
        let seconds: f64 = value.extract().map_err(|_| self.fail(key, "expected a number of seconds"))?;
        if !(0.001..1e9).contains(&seconds) {
            return Err(self.fail(key, "expected at least 0.001 seconds"));
        }
        Ok(Some(Duration::from_secs_f64(seconds)))
    }

    fn pairs(&self, key: &str) -> PyResult<Vec<(String, String)>> {
        match self.item(key)? {
            None => Ok(Vec::new()),
            Some(value) => value.extract().map_err(|_| self.fail(key, "expected a list of (name, value)")),
        }
    }

    fn secret(&self, key: &str, file_key: &str) -> PyResult<Option<Secret>> {
        match (self.text(key)?, self.path(file_key)?) {
            (Some(_), Some(_)) => Err(self.fail(key, &format!("{file_key} is set as well: keep one"))),
            (Some(text), None) => Ok(Some(Secret::Text(text))),
            (None, Some(path)) => Ok(Some(Secret::File(path))),
            (None, None) => Ok(None),
        }
    }

    fn times(&self, interval: Option<Duration>, timeout: Option<Duration>) -> PyResult<(Duration, Duration)> {
        let interval = self.seconds("interval_seconds")?.or(interval);
        let interval = interval.ok_or_else(|| self.fail("interval_seconds", "is missing"))?;
        // A target with a shorter interval of its own need not repeat the timeout.
        let timeout = match self.seconds("timeout_seconds")? {
            Some(timeout) => timeout,
            None => timeout.unwrap_or(interval).min(interval),
        };
        if timeout > interval {
            return Err(self.fail("timeout_seconds", "is longer than interval_seconds: make it at most as long"));
        }
        Ok((interval, timeout))
    }
}

fn credentials(reader: &Reader<'_>) -> PyResult<Credentials> {
    let (header, basic) = (reader.item("authorization")?, reader.item("basic_auth")?);
    match (header, basic) {
        (Some(_), Some(_)) => Err(reader.fail("authorization", "basic_auth is set as well: keep one")),
        (Some(value), None) => {
            let reader = Reader::new(&value, "authorization", &["type", "credentials", "credentials_file"])?;
            let kind = reader.text("type")?.unwrap_or_else(|| "Bearer".into());
            let secret = reader.secret("credentials", "credentials_file")?;
            let secret = secret.ok_or_else(|| reader.fail("credentials_file", "is missing"))?;
            Ok(Credentials::Header { kind, secret })
        }
        (None, Some(value)) => {
            let keys = ["username", "username_file", "password", "password_file"];
            let reader = Reader::new(&value, "basic_auth", &keys)?;
            let username = reader.secret("username", "username_file")?;
            Ok(Credentials::Basic { username, password: reader.secret("password", "password_file")? })
        }
        (None, None) => Ok(Credentials::None),
    }
}

fn tls(reader: &Reader<'_>) -> PyResult<TlsSettings> {
    let Some(value) = reader.item("tls")? else {
        return Ok(TlsSettings::default());
    };
    let reader = Reader::new(&value, "tls", &TLS_KEYS)?;
    let version = |key: &str| -> PyResult<Option<bool>> {
        match reader.text(key)?.as_deref() {
            None => Ok(None),
            Some("TLS12") => Ok(Some(false)),
            Some("TLS13") => Ok(Some(true)),
            Some(_) => Err(reader.fail(key, "expected TLS12 or TLS13")),
        }
    };
    let settings = TlsSettings {
        ca_file: reader.path("ca_file")?,
        cert_file: reader.path("cert_file")?,
        key_file: reader.path("key_file")?,
        server_name: reader.text("server_name")?.filter(|n| !n.is_empty()),
        insecure_skip_verify: reader.flag("insecure_skip_verify", false)?,
        only_13: version("min_version")? == Some(true),
        only_12: version("max_version")? == Some(false),
        http2: reader.flag("http2", false)?,
    };
    if settings.only_12 && settings.only_13 {
        return Err(reader.fail("max_version", "is older than min_version: no version is left"));
    }
    if settings.cert_file.is_some() != settings.key_file.is_some() {
        return Err(reader.fail("cert_file", "cert_file and key_file belong together: set both or neither"));
    }
    Ok(settings)
}

fn proxies(reader: &Reader<'_>) -> PyResult<ProxySettings> {
    let Some(value) = reader.item("proxy")? else {
        return Ok(ProxySettings::default());
    };
    let reader = Reader::new(&value, "proxy", &["http", "https", "no_proxy", "connect_headers"])?;
    let one = |key: &str| -> PyResult<Option<Proxy>> {
        let Some(value) = reader.item(key)? else {
            return Ok(None);
        };
        let reader = Reader::new(&value, "proxy", &["url", "authorization"])?;
        let url = reader.text("url")?.ok_or_else(|| reader.fail("url", "is missing"))?;
        let address = Address::parse(&url).map_err(|e| reader.fail("url", &e))?;
        if address.tls {
            return Err(reader.fail("url", "a proxy is reached by http://"));
        }
        let value = reader.text("authorization")?.map(|text| authorization(&text)).transpose();
        Ok(Some(Proxy { address, authorization: value.map_err(|e| reader.fail("authorization", &e.text))? }))
    };
    let headers = reader.pairs("connect_headers")?;
    for (name, value) in &headers {
        let wrong = name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if wrong || value.contains(['\r', '\n']) {
            return Err(reader.fail("connect_headers", &format!("{name:?} cannot be sent as an HTTP header")));
        }
    }
    Ok(ProxySettings { http: one("http")?, https: one("https")?, spared: reader.text("no_proxy")?, connect_headers: headers })
}

fn oauth2(reader: &Reader<'_>) -> PyResult<Option<(OAuth2Settings, ReachSettings)>> {
    let Some(value) = reader.item("oauth2")? else {
        return Ok(None);
    };
    let keys = ["client_id", "client_secret", "client_secret_file", "token_url", "scopes", "endpoint_params", "tls", "proxy"];
    let reader = Reader::new(&value, "oauth2", &keys)?;
    let url = reader.text("token_url")?.ok_or_else(|| reader.fail("token_url", "is missing"))?;
    let scopes = match reader.item("scopes")? {
        None => Vec::new(),
        Some(value) => value.extract().map_err(|_| reader.fail("scopes", "expected a list of strings"))?,
    };
    let settings = OAuth2Settings {
        client_id: reader.text("client_id")?.ok_or_else(|| reader.fail("client_id", "is missing"))?,
        client_secret: reader.secret("client_secret", "client_secret_file")?,
        token_url: Address::parse(&url).map_err(|e| reader.fail("token_url", &e))?,
        scopes,
        endpoint_params: reader.pairs("endpoint_params")?,
    };
    Ok(Some((settings, ReachSettings { tls: tls(&reader)?, proxies: proxies(&reader)? })))
}

impl PoolSettings {
    pub fn from_python(pool: &str, settings: &Bound<'_, PyAny>) -> PyResult<PoolSettings> {
        let reader = Reader::new(settings, &format!("pool {pool}"), &POOL_KEYS)?;
        let (interval, timeout) = reader.times(None, None)?;
        let defaults = FetchSettings::default();
        let fallback = match reader.text("fallback_format")?.as_deref() {
            None => None,
            Some("text") => Some(Format::Prometheus),
            Some("openmetrics") => Some(Format::OpenMetrics),
            Some("protobuf") => Some(Format::Protobuf),
            Some(_) => return Err(reader.fail("fallback_format", "expected text, openmetrics or protobuf")),
        };
        let oauth2 = oauth2(&reader)?;
        if oauth2.is_some() && (reader.item("authorization")?.is_some() || reader.item("basic_auth")?.is_some()) {
            return Err(reader.fail("oauth2", "authorization or basic_auth is set as well: keep one"));
        }
        let rules = match reader.item("metric_relabel_configs")? {
            None => Rules::default(),
            Some(value) => Rules::from_python(&value)
                .map_err(|e| reader.fail("metric_relabel_configs", &e.value(settings.py()).to_string()))?,
        };
        Ok(PoolSettings {
            interval,
            timeout,
            honor_timestamps: reader.flag("honor_timestamps", true)?,
            track_timestamps_staleness: reader.flag("track_timestamps_staleness", false)?,
            start_timestamps: reader.flag("start_timestamps", false)?,
            sample_limit: reader.count("sample_limit")?,
            labeling: Arc::new(Labeling {
                honor_labels: reader.flag("honor_labels", false)?,
                rules,
                legacy_names: reader.flag("legacy_names", false)?,
                budget: reader.count("series_budget")?,
                extra_metrics: reader.flag("extra_scrape_metrics", false)?,
                limits: LabelLimits {
                    count: reader.count("label_limit")?,
                    name_length: reader.count("label_name_length_limit")?,
                    value_length: reader.count("label_value_length_limit")?,
                },
            }),
            histograms: reader.histograms(&HistogramSettings {
                bucket_limit: reader.count("native_histogram_bucket_limit")?,
                schema_max: HistogramSettings::schema_of(reader.number("native_histogram_min_bucket_factor")?),
                ..HistogramSettings::default()
            })?,
            failures: reader.path("scrape_failure_log_file")?.map(|path| FailureLog::new(path, pool)),
            fetch: FetchSettings {
                reach: ReachSettings { tls: tls(&reader)?, proxies: proxies(&reader)? },
                headers: reader.pairs("headers")?,
                credentials: credentials(&reader)?,
                oauth2,
                fallback,
                follow_redirects: reader.flag("follow_redirects", true)?,
                compression: reader.flag("enable_compression", true)?,
                accept: reader.text("accept")?.unwrap_or(defaults.accept),
                body_size_limit: reader.count("body_size_limit")? as u64,
            },
        })
    }
}

impl TargetSettings {
    pub fn from_python(
        pool: &str,
        settings: &PoolSettings,
        target: &Bound<'_, PyAny>,
        strings: &mut Strings,
    ) -> PyResult<TargetSettings> {
        let reader = Reader::new(target, &format!("pool {pool}: target"), &TARGET_KEYS)?;
        let url = reader.text("url")?.ok_or_else(|| reader.fail("url", "is missing"))?;
        let address = Address::parse(&url).map_err(|e| reader.fail("url", &e))?;
        let labels = match reader.item("labels")? {
            None => Labels::empty(),
            Some(value) => Labels::from_mapping(&value, strings)?,
        };
        let (interval, timeout) = reader.times(Some(settings.interval), Some(settings.timeout))?;
        let flags = Flags {
            every_second: reader.flag("every_second", false)?,
            terminating: reader.flag("terminating", false)?,
            not_ready: reader.flag("not_ready", false)?,
        };
        let histograms = reader.histograms(&settings.histograms)?;
        Ok(TargetSettings { url, address, labels, interval, timeout, histograms, flags })
    }
}
