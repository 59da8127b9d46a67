//! Who we are to a target: secrets that are given or read from files, and the header that says them. Never printed.

use std::path::PathBuf;

use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use hyper::header::HeaderValue;

use super::fetcherror::FetchError;

/// A credential, given or in a file that is read for each request, since it may be rotated.
#[derive(Clone)]
pub enum Secret {
    Text(String),
    File(PathBuf),
}

impl Secret {
    pub fn read(&self) -> Result<String, FetchError> {
        match self {
            Secret::Text(text) => Ok(text.clone()),
            Secret::File(path) => std::fs::read_to_string(path)
                .map(|text| text.trim().to_owned())
                .map_err(|e| FetchError::new(format!("cannot read the credentials in {}: {e}", path.display()))),
        }
    }
}

#[derive(Clone, Default)]
pub enum Credentials {
    #[default]
    None,
    /// An `Authorization` of this type.
    Header {
        kind: String,
        secret: Secret,
    },
    Basic {
        username: Option<Secret>,
        password: Option<Secret>,
    },
}

impl Credentials {
    pub fn header(&self) -> Result<Option<HeaderValue>, FetchError> {
        match self {
            Credentials::None => Ok(None),
            Credentials::Header { kind, secret } => authorization(&format!("{kind} {}", secret.read()?)).map(Some),
            Credentials::Basic { username, password } => {
                let read = |secret: &Option<Secret>| Ok(secret.as_ref().map(Secret::read).transpose()?.unwrap_or_default());
                basic(&read(username)?, &read(password)?).map(Some)
            }
        }
    }
}

pub fn basic(username: &str, password: &str) -> Result<HeaderValue, FetchError> {
    authorization(&format!("Basic {}", STANDARD.encode(format!("{username}:{password}"))))
}

pub fn authorization(text: &str) -> Result<HeaderValue, FetchError> {
    let fail = |_| FetchError::new("the credentials hold a character that no HTTP header may have");
    let mut value = HeaderValue::from_str(text).map_err(fail)?;
    value.set_sensitive(true);
    Ok(value)
}
