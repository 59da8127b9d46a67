//! Fetching one body: HTTP/1.1 over a connection that the target keeps.
//!
//! The target's own task drives its connection while it waits for the answer, so that a scrape wakes one task and not two.
//! A body is cut off, inflated or not, as soon as it passes its limit. Redirects are followed without the credentials where
//! they lead to another server.

use std::future::{poll_fn, Future};
use std::io::{self, Write};
use std::path::PathBuf;
use std::pin::{pin, Pin};
use std::task::Poll;
use std::time::Duration;

use base64::Engine;
use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::text::Format;
use super::tls::{Tls, TlsSettings};

pub const USER_AGENT: &str = concat!("Bellbuoy/", env!("CARGO_PKG_VERSION"));
pub const ACCEPT: &str = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
const REDIRECTS_MAX: usize = 10;
/// What an open connection may buffer; every target has one, and between scrapes it is memory for nothing.
const BUFFER_BYTES: usize = 32 << 10;

/// A credential, given or in a file that is read for each request, since it may be rotated. Never printed.
#[derive(Clone, PartialEq)]
pub enum Secret {
    Text(String),
    File(PathBuf),
}

impl Secret {
    fn read(&self) -> Result<String, FetchError> {
        match self {
            Secret::Text(text) => Ok(text.clone()),
            Secret::File(path) => std::fs::read_to_string(path)
                .map(|text| text.trim().to_owned())
                .map_err(|e| FetchError::new(format!("cannot read the credentials in {}: {e}", path.display()))),
        }
    }
}

#[derive(Clone, Default, PartialEq)]
pub enum Credentials {
    #[default]
    None,
    /// An `Authorization` of this type.
    Header {
        kind: String,
        secret: Secret,
    },
    Basic {
        username: String,
        password: Option<Secret>,
    },
}

impl Credentials {
    fn header(&self) -> Result<Option<HeaderValue>, FetchError> {
        let text = match self {
            Credentials::None => return Ok(None),
            Credentials::Header { kind, secret } => format!("{kind} {}", secret.read()?),
            Credentials::Basic { username, password } => {
                let password = password.as_ref().map(Secret::read).transpose()?.unwrap_or_default();
                format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{username}:{password}")))
            }
        };
        let fail = |_| FetchError::new("the credentials hold a character that no HTTP header may have");
        let mut value = HeaderValue::from_str(&text).map_err(fail)?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

#[derive(Clone, PartialEq)]
pub struct FetchSettings {
    pub headers: Vec<(String, String)>,
    pub credentials: Credentials,
    pub tls: TlsSettings,
    pub follow_redirects: bool,
    pub compression: bool,
    pub accept: String,
    /// Of the body once it is inflated; 0 is none.
    pub body_size_limit: u64,
}

impl Default for FetchSettings {
    fn default() -> FetchSettings {
        FetchSettings {
            headers: Vec::new(),
            credentials: Credentials::None,
            tls: TlsSettings::default(),
            follow_redirects: true,
            compression: true,
            accept: ACCEPT.into(),
            body_size_limit: 0,
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct FetchError {
    pub text: String,
    /// Nobody listens there (any more).
    pub refused: bool,
}

impl FetchError {
    pub fn new(text: impl Into<String>) -> FetchError {
        FetchError { text: text.into(), refused: false }
    }
}

/// Where a request goes.
#[derive(Clone, Debug, PartialEq)]
pub struct Address {
    tls: bool,
    host: String,
    port: u16,
    authority: String,
    path: String,
}

impl Address {
    pub fn parse(url: &str) -> Result<Address, String> {
        let uri: Uri = url.parse().map_err(|e| format!("{url:?} is no URL: {e}"))?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(format!("{url:?} is no URL to scrape: it must start with http:// or https://")),
        };
        let authority = uri.authority().ok_or_else(|| format!("{url:?} has no host"))?;
        if authority.as_str().contains('@') {
            return Err("the URL holds a user: give it as basic_auth".into());
        }
        Ok(Address {
            tls,
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port: authority.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            authority: authority.as_str().to_owned(),
            path: uri.path_and_query().map_or("/", |p| p.as_str()).to_owned(),
        })
    }

    fn same_server(&self, other: &Address) -> bool {
        (self.tls, &self.host, self.port) == (other.tls, &other.host, other.port)
    }

    fn redirected(&self, location: &str) -> Result<Address, String> {
        let scheme = if self.tls { "https" } else { "http" };
        if location.starts_with("http://") || location.starts_with("https://") {
            Address::parse(location)
        } else if let Some(rest) = location.strip_prefix("//") {
            Address::parse(&format!("{scheme}://{rest}"))
        } else {
            let path = self.path.split('?').next().unwrap_or("/");
            let folder = if location.starts_with('/') { "" } else { &path[..=path.rfind('/').unwrap_or(0)] };
            Address::parse(&format!("{scheme}://{}{folder}{location}", self.authority))
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

type Driver = http1::Connection<TokioIo<Box<dyn Stream>>, Empty<Bytes>>;

/// An open connection, with what moves its bytes.
pub struct Connection {
    to: Address,
    sender: http1::SendRequest<Empty<Bytes>>,
    driver: Option<Driver>,
}

impl Connection {
    /// Waits for something of the connection, and moves its bytes meanwhile.
    async fn drive<F: Future>(driver: &mut Option<Driver>, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|cx| {
            if let Poll::Ready(out) = future.as_mut().poll(cx) {
                return Poll::Ready(out);
            }
            if let Some(running) = driver {
                if Pin::new(running).poll(cx).is_ready() {
                    *driver = None;
                }
            }
            future.as_mut().poll(cx)
        })
        .await
    }

    async fn send(&mut self, request: Request<Empty<Bytes>>) -> hyper::Result<Response<Incoming>> {
        Self::drive(&mut self.driver, self.sender.ready()).await?;
        Self::drive(&mut self.driver, self.sender.send_request(request)).await
    }
}

pub struct Answer {
    pub format: Format,
    /// Bytes of the body on the wire.
    pub wire_bytes: usize,
}

/// A buffer that refuses to grow past a limit.
struct Limited {
    body: Vec<u8>,
    limit: usize,
    passed: bool,
}

impl Write for Limited {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        if piece.len() > self.limit - self.body.len() {
            self.passed = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.body.extend_from_slice(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

enum Sink {
    Plain(Limited),
    Gzip(Box<MultiGzDecoder<Limited>>),
}

impl Sink {
    fn write(&mut self, piece: &[u8]) -> Result<(), FetchError> {
        let (written, passed) = match self {
            Sink::Plain(body) => (body.write_all(piece), body.passed),
            Sink::Gzip(inflate) => (inflate.write_all(piece), inflate.get_ref().passed),
        };
        written.map_err(|e| Sink::error(&e, passed))
    }

    fn finish(self) -> Result<Vec<u8>, FetchError> {
        match self {
            Sink::Plain(body) => Ok(body.body),
            Sink::Gzip(mut inflate) => {
                let done = inflate.try_finish();
                let passed = inflate.get_ref().passed;
                let done = done.and_then(|()| inflate.finish());
                done.map(|body| body.body).map_err(|e| Sink::error(&e, passed))
            }
        }
    }

    fn error(error: &io::Error, passed: bool) -> FetchError {
        if passed {
            FetchError::new("body size limit exceeded")
        } else {
            FetchError::new(format!("cannot inflate the body: {error}"))
        }
    }
}

/// The HTTP client of a pool.
pub struct Client {
    settings: FetchSettings,
    /// Sent to the target only.
    own_headers: HeaderMap,
    accept: HeaderValue,
    tls: Tls,
}

impl Client {
    pub fn new(settings: FetchSettings) -> Result<Client, String> {
        let mut own_headers = HeaderMap::new();
        for (name, value) in &settings.headers {
            let key: HeaderName = name.parse().map_err(|_| format!("headers: {name:?} is no name of an HTTP header"))?;
            let value = HeaderValue::from_str(value).map_err(|_| format!("headers: the value of {name} cannot be sent"))?;
            own_headers.append(key, value);
        }
        let accept = HeaderValue::from_str(&settings.accept).map_err(|_| "accept cannot be sent as an HTTP header".to_owned())?;
        let tls = Tls::new(settings.tls.clone());
        Ok(Client { settings, own_headers, accept, tls })
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
        let mut at = to.clone();
        for _ in 0..=REDIRECTS_MAX {
            let (mut connection, response) = self.request(to, &at, timeout, kept).await?;
            let status = response.status();
            if self.settings.follow_redirects && is_redirect(status) {
                if let Some(location) = response.headers().get(header::LOCATION) {
                    let location = location.to_str().map_err(|_| FetchError::new("the redirect's Location is no URL"))?;
                    at = at.redirected(location).map_err(|e| FetchError::new(format!("cannot follow the redirect: {e}")))?;
                    continue;
                }
            }
            if status != StatusCode::OK {
                let reason = status.canonical_reason().unwrap_or("");
                return Err(FetchError::new(format!("server returned HTTP status {} {reason}", status.as_u16()).trim_end()));
            }
            let answer = self.read(&mut connection, response, body).await?;
            if connection.driver.is_some() && !connection.sender.is_closed() {
                kept.push(connection);
            }
            return Ok(answer);
        }
        Err(FetchError::new(format!("stopped after {REDIRECTS_MAX} redirects")))
    }

    async fn request(
        &self,
        target: &Address,
        at: &Address,
        timeout: Duration,
        kept: &mut Vec<Connection>,
    ) -> Result<(Connection, Response<Incoming>), FetchError> {
        let known = kept.iter().position(|c| c.to.same_server(at)).map(|i| kept.swap_remove(i));
        if let Some(mut connection) = known {
            match connection.send(self.build(target, at, timeout)?).await {
                Ok(response) => return Ok((connection, response)),
                // The server closed it meanwhile: that says nothing, ask again.
                Err(e) if e.is_canceled() || e.is_closed() || e.is_incomplete_message() => {}
                Err(e) => return Err(http_error(&e)),
            }
        }
        let mut connection = self.connect(at).await?;
        let response = connection.send(self.build(target, at, timeout)?).await.map_err(|e| http_error(&e))?;
        Ok((connection, response))
    }

    fn build(&self, target: &Address, at: &Address, timeout: Duration) -> Result<Request<Empty<Bytes>>, FetchError> {
        let mut headers = HeaderMap::with_capacity(8);
        let text = |text: &str| HeaderValue::from_str(text).map_err(|_| FetchError::new("the URL's host cannot be sent"));
        headers.insert(header::HOST, text(&at.authority)?);
        headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        headers.insert(header::ACCEPT, self.accept.clone());
        let encoding = if self.settings.compression { "gzip" } else { "identity" };
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(encoding));
        headers.insert("x-prometheus-scrape-timeout-seconds", text(&timeout.as_secs_f64().to_string())?);
        if at.same_server(target) {
            for (name, value) in &self.own_headers {
                headers.insert(name.clone(), value.clone());
            }
            if let Some(value) = self.settings.credentials.header()? {
                headers.insert(header::AUTHORIZATION, value);
            }
        }
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = at.path.parse().map_err(|e| FetchError::new(format!("{:?} is no path: {e}", at.path)))?;
        *request.headers_mut() = headers;
        Ok(request)
    }

    async fn connect(&self, to: &Address) -> Result<Connection, FetchError> {
        let stream = TcpStream::connect((to.host.as_str(), to.port)).await.map_err(|e| {
            let refused = matches!(
                e.kind(),
                io::ErrorKind::ConnectionRefused | io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable
            );
            FetchError { text: format!("cannot connect to {}:{}: {}", to.host, to.port, plain(&e)), refused }
        })?;
        // A request is one small packet that must not wait.
        stream.set_nodelay(true).map_err(|e| FetchError::new(format!("cannot set up the connection: {e}")))?;
        let stream: Box<dyn Stream> = if to.tls {
            let connector = TlsConnector::from(self.tls.config().map_err(FetchError::new)?);
            let name = self.tls.server_name(&to.host).map_err(FetchError::new)?;
            let handshake = connector.connect(name, stream).await;
            Box::new(handshake.map_err(|e| FetchError::new(format!("cannot agree on TLS with {}: {e}", to.authority)))?)
        } else {
            Box::new(stream)
        };
        let (sender, driver) =
            http1::Builder::new().max_buf_size(BUFFER_BYTES).handshake(TokioIo::new(stream)).await.map_err(|e| http_error(&e))?;
        Ok(Connection { to: to.clone(), sender, driver: Some(driver) })
    }

    async fn read(
        &self,
        connection: &mut Connection,
        response: Response<Incoming>,
        body: &mut Vec<u8>,
    ) -> Result<Answer, FetchError> {
        let text = |name: HeaderName| response.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or("");
        let format = Format::of_content_type(text(header::CONTENT_TYPE));
        let encoding = text(header::CONTENT_ENCODING).trim().to_ascii_lowercase();
        // A line's offsets are 32 bits wide: a longer body cannot be read anyway.
        let longest = u32::MAX as usize - 1;
        let limit = match self.settings.body_size_limit {
            0 => longest,
            limit => usize::try_from(limit).unwrap_or(longest).min(longest),
        };
        let limited = Limited { body: std::mem::take(body), limit, passed: false };
        let mut sink = match encoding.as_str() {
            "" | "identity" => Sink::Plain(limited),
            "gzip" | "x-gzip" => Sink::Gzip(Box::new(MultiGzDecoder::new(limited))),
            other => return Err(FetchError::new(format!("the body's encoding is {other:?}: only gzip can be read"))),
        };
        let mut incoming = response.into_body();
        let mut wire_bytes = 0;
        while let Some(frame) = Connection::drive(&mut connection.driver, incoming.frame()).await {
            if let Ok(piece) = frame.map_err(|e| http_error(&e))?.into_data() {
                wire_bytes += piece.len();
                sink.write(&piece)?;
            }
        }
        *body = sink.finish()?;
        Ok(Answer { format, wire_bytes })
    }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// The causes of an error in one line.
fn http_error(error: &hyper::Error) -> FetchError {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    FetchError::new(text)
}

/// An I/O error without its number.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().collect::<String>() + letters.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_are_resolved_against_where_they_came_from() {
        let from = Address::parse("http://a:81/x/y?z=1").unwrap();
        let check = |location: &str, authority: &str, path: &str, tls: bool| {
            let got = from.redirected(location).unwrap();
            assert_eq!((&*got.authority, &*got.path, got.tls), (authority, path, tls), "{location}");
        };
        check("/m", "a:81", "/m", false);
        check("m?q", "a:81", "/x/m?q", false);
        check("//b/m", "b", "/m", false);
        check("https://c:8/m", "c:8", "/m", true);
        assert!(from.redirected("ftp://x/").is_err() || !from.redirected("ftp://x/").unwrap().tls);
    }

    #[test]
    fn addresses_have_the_scheme_s_port_and_no_user() {
        let check = |url: &str, want: (&str, u16)| {
            let got = Address::parse(url).unwrap();
            assert_eq!((&*got.host, got.port), want, "{url}");
        };
        check("http://h/metrics", ("h", 80));
        check("https://h/metrics", ("h", 443));
        check("http://[::1]:9/metrics", ("::1", 9));
        assert!(Address::parse("http://u:p@h/").is_err() && Address::parse("h:80/x").is_err());
    }
}
