//! What Python says of pools and targets, read and checked.
//!
//! Errors name the key and the cure: they end in a resource's status, where its author reads them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyMapping;

use super::fetch::{Address, Credentials, FetchSettings, Secret};
use super::labeling::{LabelLimits, Labeling};
use super::tls::TlsSettings;
use crate::labels::{Labels, Strings};
use crate::relabel::Rules;

pub struct PoolSettings {
    pub interval: Duration,
    pub timeout: Duration,
    pub honor_timestamps: bool,
    /// Of what remains after relabeling; 0 is none.
    pub sample_limit: usize,
    pub labeling: Arc<Labeling>,
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
    pub flags: Flags,
}

const POOL_KEYS: [&str; 17] = [
    "interval_seconds",
    "timeout_seconds",
    "honor_labels",
    "honor_timestamps",
    "metric_relabel_configs",
    "body_size_limit",
    "sample_limit",
    "label_limit",
    "label_name_length_limit",
    "label_value_length_limit",
    "headers",
    "authorization",
    "basic_auth",
    "tls",
    "follow_redirects",
    "enable_compression",
    "accept",
];
const TARGET_KEYS: [&str; 7] =
    ["url", "labels", "interval_seconds", "timeout_seconds", "every_second", "terminating", "not_ready"];

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
            let reader = Reader::new(&value, "basic_auth", &["username", "password", "password_file"])?;
            let username = reader.text("username")?.unwrap_or_default();
            Ok(Credentials::Basic { username, password: reader.secret("password", "password_file")? })
        }
        (None, None) => Ok(Credentials::None),
    }
}

fn tls(reader: &Reader<'_>) -> PyResult<TlsSettings> {
    let Some(value) = reader.item("tls")? else {
        return Ok(TlsSettings::default());
    };
    let keys = ["ca_file", "cert_file", "key_file", "server_name", "insecure_skip_verify"];
    let reader = Reader::new(&value, "tls", &keys)?;
    let settings = TlsSettings {
        ca_file: reader.path("ca_file")?,
        cert_file: reader.path("cert_file")?,
        key_file: reader.path("key_file")?,
        server_name: reader.text("server_name")?.filter(|n| !n.is_empty()),
        insecure_skip_verify: reader.flag("insecure_skip_verify", false)?,
    };
    if settings.cert_file.is_some() != settings.key_file.is_some() {
        return Err(reader.fail("cert_file", "cert_file and key_file belong together: set both or neither"));
    }
    Ok(settings)
}

impl PoolSettings {
    pub fn from_python(pool: &str, settings: &Bound<'_, PyAny>) -> PyResult<PoolSettings> {
        let reader = Reader::new(settings, &format!("pool {pool}"), &POOL_KEYS)?;
        let (interval, timeout) = reader.times(None, None)?;
        let defaults = FetchSettings::default();
        let headers = match reader.item("headers")? {
            None => Vec::new(),
            Some(value) => value.extract().map_err(|_| reader.fail("headers", "expected a list of (name, value)"))?,
        };
        let rules = match reader.item("metric_relabel_configs")? {
            None => Rules::default(),
            Some(value) => Rules::from_python(&value)
                .map_err(|e| reader.fail("metric_relabel_configs", &e.value(settings.py()).to_string()))?,
        };
        Ok(PoolSettings {
            interval,
            timeout,
            honor_timestamps: reader.flag("honor_timestamps", true)?,
            sample_limit: reader.count("sample_limit")?,
            labeling: Arc::new(Labeling {
                honor_labels: reader.flag("honor_labels", false)?,
                rules,
                limits: LabelLimits {
                    count: reader.count("label_limit")?,
                    name_length: reader.count("label_name_length_limit")?,
                    value_length: reader.count("label_value_length_limit")?,
                },
            }),
            fetch: FetchSettings {
                headers,
                credentials: credentials(&reader)?,
                tls: tls(&reader)?,
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
        Ok(TargetSettings { url, address, labels, interval, timeout, flags })
    }
}
