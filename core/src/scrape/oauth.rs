//! OAuth2 client credentials: a token from a token server, kept until it is about to expire.
//!
//! Whoever needs the token asks; the first that finds none fetches it, and those that come meanwhile wait for it. A target
//! that refuses the token has it thrown away.

use std::time::{Duration, Instant};

use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::StatusCode;
use tokio::sync::Mutex;

use super::address::Address;
use super::credentials::{authorization, basic, Secret};
use super::fetch::Client;
use super::fetcherror::FetchError;

/// A token is renewed this long before it expires, so that it is good when it arrives.
const RENEW_BEFORE: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub struct OAuth2Settings {
    pub client_id: String,
    pub client_secret: Option<Secret>,
    pub token_url: Address,
    pub scopes: Vec<String>,
    pub endpoint_params: Vec<(String, String)>,
}

struct Token {
    header: HeaderValue,
    /// None: it does not.
    expires: Option<Instant>,
}

#[derive(Default)]
struct Held {
    token: Option<Token>,
    /// The server wants the client's secret in the form, not in a header.
    secret_in_form: bool,
}

pub struct OAuth2 {
    settings: OAuth2Settings,
    client: Client,
    held: Mutex<Held>,
}

impl OAuth2 {
    /// `client` reaches the token server: its TLS and proxy, no credentials.
    pub fn new(settings: OAuth2Settings, client: Client) -> OAuth2 {
        OAuth2 { settings, client, held: Mutex::default() }
    }

    /// The `Authorization` to send now.
    pub async fn header(&self) -> Result<HeaderValue, FetchError> {
        let mut held = self.held.lock().await;
        if let Some(token) = &held.token {
            if token.expires.is_none_or(|at| at > Instant::now() + RENEW_BEFORE) {
                return Ok(token.header.clone());
            }
        }
        let fail = |e: FetchError| {
            FetchError::new(format!("cannot get an OAuth2 token from {}: {}", self.settings.token_url.absolute_host(), e.text))
        };
        let token = match self.fetch(held.secret_in_form).await.map_err(fail)? {
            Ok(token) => token,
            // Servers differ in where they look for the secret, and do not say so.
            Err(_) if !held.secret_in_form => match self.fetch(true).await.map_err(fail)? {
                Ok(token) => {
                    held.secret_in_form = true;
                    token
                }
                Err(refusal) => return Err(fail(refusal)),
            },
            Err(refusal) => {
                held.secret_in_form = false;
                return Err(fail(refusal));
            }
        };
        let header = token.header.clone();
        held.token = Some(token);
        Ok(header)
    }

    /// A target did not take this one.
    pub async fn refused(&self, refused: &HeaderValue) {
        let mut held = self.held.lock().await;
        if held.token.as_ref().is_some_and(|token| token.header == *refused) {
            held.token = None;
        }
    }

    /// A token, or the server's word against it.
    async fn fetch(&self, secret_in_form: bool) -> Result<Result<Token, FetchError>, FetchError> {
        let settings = &self.settings;
        let secret = settings.client_secret.as_ref().map(Secret::read).transpose()?.unwrap_or_default();
        let mut form = vec![("grant_type", "client_credentials".to_owned())];
        if !settings.scopes.is_empty() {
            form.push(("scope", settings.scopes.join(" ")));
        }
        form.extend(settings.endpoint_params.iter().map(|(name, value)| (name.as_str(), value.clone())));
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        if secret_in_form {
            form.push(("client_id", settings.client_id.clone()));
            form.push(("client_secret", secret));
        } else {
            headers.insert(header::AUTHORIZATION, basic(&encode(&settings.client_id), &encode(&secret))?);
        }
        let form: Vec<String> = form.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
        let asked = Instant::now();
        let (status, body) = self.client.post(&settings.token_url, headers, form.join("&")).await?;
        let answer: Option<serde_json::Value> = serde_json::from_slice(&body).ok();
        let text = |key: &str| answer.as_ref().and_then(|a| a.get(key)).and_then(|v| v.as_str()).unwrap_or("");
        if status != StatusCode::OK {
            let refusal = FetchError::new(format!("it answered {status} {}", short(text("error"))).trim_end());
            // Only a refusal may be about where the secret was; a server that is broken is not asked twice.
            return if status.is_client_error() { Ok(Err(refusal)) } else { Err(refusal) };
        }
        if text("access_token").is_empty() {
            return Err(FetchError::new("its answer has no access_token; is this a token_url?"));
        }
        let kind = match text("token_type") {
            kind if kind.is_empty() || kind.eq_ignore_ascii_case("bearer") => "Bearer",
            kind => kind,
        };
        let seconds = answer.as_ref().and_then(|a| a.get("expires_in")).and_then(|v| match v {
            serde_json::Value::String(text) => text.parse().ok(),
            other => other.as_f64(),
        });
        let seconds = seconds.filter(|s: &f64| *s > 0.0 && *s < 1e9);
        let expires = seconds.map(|s| asked + Duration::from_secs_f64(s));
        Ok(Ok(Token { header: authorization(&format!("{kind} {}", text("access_token")))?, expires }))
    }
}

/// An error's code as RFC 6749 has it: one word.
fn short(error: &str) -> String {
    error.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').take(40).collect()
}

/// As `application/x-www-form-urlencoded` has it.
fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'*' => out.push(byte as char),
            b' ' => out.push('+'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_encoded() {
        assert_eq!(encode("a b&c=ä*~"), "a+b%26c%3D%C3%A4*%7E");
        assert_eq!(short("invalid_client <script>"), "invalid_clientscript");
    }
}
