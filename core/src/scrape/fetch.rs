//! Fetching one body: from a URL to its bytes and their format.
//!
//! Connections are the target's to keep. A body is cut off, inflated or not, as soon as it passes its limit. Redirects are
//! followed without the credentials where they lead to another server.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

use super::address::Address;
use super::connection::{http_error, Body, Connection, Way};
use super::credentials::Credentials;
use super::fetcherror::FetchError;
use super::inflate::{Limited, Sink};
use super::negotiation::format_of;
use super::oauth::{OAuth2, OAuth2Settings};
use super::proxy::ProxySettings;
use super::text::Format;
use super::tls::{Tls, TlsSettings};

pub const USER_AGENT: &str = concat!("Bellbuoy/", env!("CARGO_PKG_VERSION"));
/// As Prometheus 3.16 asks by default.
pub const ACCEPT: &str = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.7,\
application/openmetrics-text;version=0.0.1;q=0.6,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.5,\
text/plain;version=0.0.4;q=0.4,*/*;q=0.3";
const REDIRECTS_MAX: usize = 10;
/// An answer of a token server is short.
const POST_BYTES_MAX: usize = 1 << 20;

/// How to reach a server: the same for targets and for token servers.
#[derive(Clone, Default)]
pub struct ReachSettings {
    pub tls: TlsSettings,
    pub proxies: ProxySettings,
}

#[derive(Clone)]
pub struct FetchSettings {
    pub reach: ReachSettings,
    pub headers: Vec<(String, String)>,
    pub credentials: Credentials,
    /// Where the credentials come from a token server, and how to reach that.
    pub oauth2: Option<(OAuth2Settings, ReachSettings)>,
    pub follow_redirects: bool,
    pub compression: bool,
    pub accept: String,
    /// Of bodies whose Content-Type says none.
    pub fallback: Option<Format>,
    /// Of the body once it is inflated; 0 is none.
    pub body_size_limit: u64,
}

impl Default for FetchSettings {
    fn default() -> FetchSettings {
        FetchSettings {
            reach: ReachSettings::default(),
            headers: Vec::new(),
            credentials: Credentials::None,
            oauth2: None,
            follow_redirects: true,
            compression: true,
            accept: ACCEPT.into(),
            fallback: None,
            body_size_limit: 0,
        }
    }
}

pub struct Answer {
    pub format: Format,
    /// Bytes of the body on the wire.
    pub wire_bytes: usize,
}

/// An answer as a person sees it.
pub struct Look {
    pub status: u16,
    pub version: String,
    pub content_type: String,
    pub encoding: String,
    pub wire_bytes: usize,
    /// Inflated.
    pub body: Vec<u8>,
    /// There is more of it.
    pub truncated: bool,
}

/// The HTTP client of a pool.
pub struct Client {
    settings: FetchSettings,
    /// Sent to the target only.
    own_headers: HeaderMap,
    accept: HeaderValue,
    tls: Tls,
    oauth2: Option<Box<OAuth2>>,
}

impl Client {
    pub fn new(mut settings: FetchSettings) -> Result<Client, String> {
        let mut own_headers = HeaderMap::new();
        for (name, value) in &settings.headers {
            let key: HeaderName = name.parse().map_err(|_| format!("headers: {name:?} is no name of an HTTP header"))?;
            let value = HeaderValue::from_str(value).map_err(|_| format!("headers: the value of {name} cannot be sent"))?;
            own_headers.append(key, value);
        }
        let accept = HeaderValue::from_str(&settings.accept).map_err(|_| "accept cannot be sent as an HTTP header".to_owned())?;
        let tls = Tls::new(settings.reach.tls.clone());
        let oauth2 = match settings.oauth2.take() {
            None => None,
            Some((oauth2, reach)) => {
                let client = Client::new(FetchSettings { reach, ..FetchSettings::default() })?;
                Some(Box::new(OAuth2::new(oauth2, client)))
            }
        };
        Ok(Client { settings, own_headers, accept, tls, oauth2 })
    }

    /// Gets the body into `body`. Connections to use again are left in `kept`.
    pub async fn get(
        &self,
        to: &Address,
        timeout: Duration,
        kept: &mut Vec<Connection>,
        body: &mut Vec<u8>,
    ) -> Result<Answer, FetchError> {
        body.clear();
        let (mut connection, response) = self.ask(to, timeout, kept).await?;
        if response.status() != StatusCode::OK {
            let (status, reason) = (response.status(), response.status().canonical_reason().unwrap_or(""));
            return Err(FetchError::new(format!("server returned HTTP status {} {reason}", status.as_u16()).trim_end()));
        }
        let text = |name: HeaderName| response.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or("");
        let format = format_of(text(header::CONTENT_TYPE), self.settings.fallback).map_err(FetchError::new)?;
        let wire_bytes = self.read(&mut connection, response, body).await?;
        if connection.is_open() {
            kept.push(connection);
        }
        Ok(Answer { format, wire_bytes })
    }

    /// Asks as a scrape does, for a person to look at: the answer whatever it is, its body up to a limit.
    pub async fn look(&self, to: &Address, timeout: Duration, limit: usize) -> Result<Look, FetchError> {
        let (mut connection, response) = self.ask(to, timeout, &mut Vec::new()).await?;
        let text = |name: HeaderName| response.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or("").to_owned();
        let (content_type, encoding) = (text(header::CONTENT_TYPE), text(header::CONTENT_ENCODING));
        let status = response.status().as_u16();
        let version = format!("{:?}", response.version());
        let mut sink = Sink::new(&encoding, Limited::new(Vec::new(), limit))?;
        let mut incoming = response.into_body();
        let (mut truncated, mut wire_bytes) = (false, 0);
        while let Some(frame) = connection.drive(incoming.frame()).await {
            if let Ok(piece) = frame.map_err(|e| http_error(&e))?.into_data() {
                wire_bytes += piece.len();
                match sink.write(&piece) {
                    Ok(()) => {}
                    Err(e) if e.past_limit => {
                        truncated = true;
                        break;
                    }
                    Err(e) => return Err(e),
                }
            }
        }
        if !truncated {
            match sink.end() {
                Err(e) if e.past_limit => truncated = true,
                ended => ended?,
            }
        }
        let body = sink.so_far().to_vec();
        Ok(Look { status, version, content_type, encoding, wire_bytes, body, truncated })
    }

    /// The answer that redirects lead to.
    async fn ask(
        &self,
        to: &Address,
        timeout: Duration,
        kept: &mut Vec<Connection>,
    ) -> Result<(Connection, Response<Incoming>), FetchError> {
        let authorization = match &self.oauth2 {
            None => self.settings.credentials.header()?,
            Some(oauth2) => Some(oauth2.header().await?),
        };
        let mut at = to.clone();
        for _ in 0..=REDIRECTS_MAX {
            let own = at.same_server(to);
            let headers = self.headers(authorization.as_ref().filter(|_| own), own, timeout)?;
            let (connection, response) = self.request(&at, headers, kept).await?;
            let status = response.status();
            if self.settings.follow_redirects && is_redirect(status) {
                if let Some(location) = response.headers().get(header::LOCATION) {
                    let location = location.to_str().map_err(|_| FetchError::new("the redirect's Location is no URL"))?;
                    at = at.redirected(location).map_err(|e| FetchError::new(format!("cannot follow the redirect: {e}")))?;
                    continue;
                }
            }
            if let (StatusCode::UNAUTHORIZED, Some(oauth2), Some(refused)) = (status, &self.oauth2, &authorization) {
                oauth2.refused(refused).await;
            }
            return Ok((connection, response));
        }
        Err(FetchError::new(format!("stopped after {REDIRECTS_MAX} redirects")))
    }

    fn headers(&self, authorization: Option<&HeaderValue>, own: bool, timeout: Duration) -> Result<HeaderMap, FetchError> {
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(header::ACCEPT, self.accept.clone());
        let encoding = if self.settings.compression { "zstd,gzip" } else { "identity" };
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(encoding));
        headers.insert("x-prometheus-scrape-timeout-seconds", sendable(&timeout.as_secs_f64().to_string())?);
        if own {
            for (name, value) in &self.own_headers {
                headers.insert(name.clone(), value.clone());
            }
        }
        if let Some(value) = authorization {
            headers.insert(header::AUTHORIZATION, value.clone());
        }
        Ok(headers)
    }

    async fn request(
        &self,
        at: &Address,
        headers: HeaderMap,
        kept: &mut Vec<Connection>,
    ) -> Result<(Connection, Response<Incoming>), FetchError> {
        let known = kept.iter().position(|c| c.to.same_server(at)).map(|i| kept.swap_remove(i));
        if let Some(mut connection) = known {
            let request = self.build(&connection, Method::GET, at, headers.clone(), Full::default())?;
            match connection.send(request).await {
                Ok(response) => return Ok((connection, response)),
                // The server closed it meanwhile: that says nothing, ask again.
                Err(e) if e.is_canceled() || e.is_closed() || e.is_incomplete_message() || connection.way == Way::Http2 => {}
                Err(e) => return Err(http_error(&e)),
            }
        }
        let mut connection = Connection::open(at, &self.tls, &self.settings.reach.proxies).await?;
        let request = self.build(&connection, Method::GET, at, headers, Full::default())?;
        let response = connection.send(request).await.map_err(|e| http_error(&e))?;
        Ok((connection, response))
    }

    fn build(
        &self,
        connection: &Connection,
        method: Method,
        at: &Address,
        mut headers: HeaderMap,
        body: Body,
    ) -> Result<Request<Body>, FetchError> {
        headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        if connection.way != Way::Http2 {
            headers.insert(header::HOST, sendable(&at.authority)?);
        }
        let uri = if connection.way == Way::Direct { at.path.parse() } else { at.absolute().parse() };
        if connection.way == Way::Proxied {
            if let Some(value) = self.settings.reach.proxies.of(at).and_then(|proxy| proxy.authorization.clone()) {
                headers.insert(header::PROXY_AUTHORIZATION, value);
            }
        }
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = uri.map_err(|e| FetchError::new(format!("{:?} is no path: {e}", at.path)))?;
        *request.headers_mut() = headers;
        Ok(request)
    }

    /// Sends a form, and returns the answer's status and body.
    pub async fn post(&self, to: &Address, headers: HeaderMap, form: String) -> Result<(StatusCode, Vec<u8>), FetchError> {
        let mut connection = Connection::open(to, &self.tls, &self.settings.reach.proxies).await?;
        let request = self.build(&connection, Method::POST, to, headers, Full::new(Bytes::from(form)))?;
        let response = connection.send(request).await.map_err(|e| http_error(&e))?;
        let status = response.status();
        let mut body = Vec::new();
        self.read_up_to(POST_BYTES_MAX, &mut connection, response, &mut body).await?;
        Ok((status, body))
    }

    /// Reads the body; returns its bytes on the wire.
    async fn read(
        &self,
        connection: &mut Connection,
        response: Response<Incoming>,
        body: &mut Vec<u8>,
    ) -> Result<usize, FetchError> {
        // A line's offsets are 32 bits wide: a longer body cannot be read anyway.
        let longest = u32::MAX as usize - 1;
        let limit = match self.settings.body_size_limit {
            0 => longest,
            limit => usize::try_from(limit).unwrap_or(longest).min(longest),
        };
        self.read_up_to(limit, connection, response, body).await
    }

    async fn read_up_to(
        &self,
        limit: usize,
        connection: &mut Connection,
        response: Response<Incoming>,
        body: &mut Vec<u8>,
    ) -> Result<usize, FetchError> {
        let encoding = response.headers().get(header::CONTENT_ENCODING).and_then(|v| v.to_str().ok()).unwrap_or("");
        let mut sink = Sink::new(encoding, Limited::new(std::mem::take(body), limit))?;
        let mut incoming = response.into_body();
        let mut wire_bytes = 0;
        while let Some(frame) = connection.drive(incoming.frame()).await {
            if let Ok(piece) = frame.map_err(|e| http_error(&e))?.into_data() {
                wire_bytes += piece.len();
                sink.write(&piece)?;
            }
        }
        *body = sink.finish()?;
        Ok(wire_bytes)
    }
}

fn sendable(text: &str) -> Result<HeaderValue, FetchError> {
    HeaderValue::from_str(text).map_err(|_| FetchError::new("the URL's host cannot be sent"))
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}
