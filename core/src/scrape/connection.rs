//! An open connection: TCP or a proxy's tunnel, TLS where the URL says so, and HTTP/1.1 or, where TLS agrees on it, HTTP/2.
//!
//! The task that sends a request drives the connection while it waits, so that a scrape wakes one task and not two.

use std::future::{poll_fn, Future};
use std::io;
use std::pin::{pin, Pin};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::address::Address;
use super::fetcherror::FetchError;
use super::proxy::{self, ProxySettings};
use super::tls::{Tls, HTTP2};

/// What an open connection may buffer; every target has one, and between scrapes it is memory for nothing.
const BUFFER_BYTES: usize = 32 << 10;

pub type Body = Full<Bytes>;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

type Io = TokioIo<Box<dyn Stream>>;

enum Sender {
    One(http1::SendRequest<Body>),
    Two(http2::SendRequest<Body>),
}

enum Driver {
    One(Box<http1::Connection<Io, Body>>),
    Two(Box<http2::Connection<Io, Body, TokioExecutor>>),
}

impl Driver {
    fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        match self {
            Driver::One(one) => Pin::new(one.as_mut()).poll(cx).is_ready(),
            Driver::Two(two) => Pin::new(two.as_mut()).poll(cx).is_ready(),
        }
    }
}

/// How requests are written on a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Direct,
    /// A proxy reads them, and wants the whole URL.
    Proxied,
    Http2,
}

/// An open connection, with what moves its bytes.
pub struct Connection {
    pub to: Address,
    pub way: Way,
    sender: Sender,
    driver: Option<Driver>,
}

impl Connection {
    pub async fn open(to: &Address, tls: &Tls, proxies: &ProxySettings) -> Result<Connection, FetchError> {
        let proxy = proxies.of(to);
        let server = proxy.map_or(to, |proxy| &proxy.address);
        let mut stream = TcpStream::connect((server.host.as_str(), server.port)).await.map_err(|e| {
            let refused = matches!(
                e.kind(),
                io::ErrorKind::ConnectionRefused | io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable
            );
            let what = if proxy.is_some() { "the proxy " } else { "" };
            let text = format!("cannot connect to {what}{}:{}: {}", server.host, server.port, plain(&e));
            // A proxy that is away says nothing of the target.
            FetchError { refused: refused && proxy.is_none(), ..FetchError::new(text) }
        })?;
        // A request is one small packet that must not wait.
        stream.set_nodelay(true).map_err(|e| FetchError::new(format!("cannot set up the connection: {e}")))?;
        if !to.tls {
            let way = if proxy.is_some() { Way::Proxied } else { Way::Direct };
            return Connection::http1(to, way, Box::new(stream)).await;
        }
        if let Some(proxy) = proxy {
            proxy::tunnel(&mut stream, to, proxy, &proxies.connect_headers).await?;
        }
        let connector = TlsConnector::from(tls.config().map_err(FetchError::new)?);
        let name = tls.server_name(&to.host).map_err(FetchError::new)?;
        let handshake = connector.connect(name, stream).await;
        let stream = handshake.map_err(|e| FetchError::new(format!("cannot agree on TLS with {}: {e}", to.authority)))?;
        if stream.get_ref().1.alpn_protocol() != Some(HTTP2) {
            return Connection::http1(to, Way::Direct, Box::new(stream)).await;
        }
        let stream: Box<dyn Stream> = Box::new(stream);
        let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
        let (sender, driver) = handshake.map_err(|e| http_error(&e))?;
        let driver = Some(Driver::Two(Box::new(driver)));
        Ok(Connection { to: to.clone(), way: Way::Http2, sender: Sender::Two(sender), driver })
    }

    async fn http1(to: &Address, way: Way, stream: Box<dyn Stream>) -> Result<Connection, FetchError> {
        let handshake = http1::Builder::new().max_buf_size(BUFFER_BYTES).handshake(TokioIo::new(stream)).await;
        let (sender, driver) = handshake.map_err(|e| http_error(&e))?;
        Ok(Connection { to: to.clone(), way, sender: Sender::One(sender), driver: Some(Driver::One(Box::new(driver))) })
    }

    /// Waits for something of the connection, and moves its bytes meanwhile.
    async fn drive_one<F: Future>(driver: &mut Option<Driver>, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|cx| {
            if let Poll::Ready(out) = future.as_mut().poll(cx) {
                return Poll::Ready(out);
            }
            if let Some(running) = driver {
                if running.poll(cx) {
                    *driver = None;
                }
            }
            future.as_mut().poll(cx)
        })
        .await
    }

    /// Waits for something of an answer of this connection.
    pub async fn drive<F: Future>(&mut self, future: F) -> F::Output {
        Self::drive_one(&mut self.driver, future).await
    }

    pub async fn send(&mut self, request: Request<Body>) -> hyper::Result<Response<Incoming>> {
        match &mut self.sender {
            Sender::One(sender) => {
                Self::drive_one(&mut self.driver, sender.ready()).await?;
                Self::drive_one(&mut self.driver, sender.send_request(request)).await
            }
            Sender::Two(sender) => {
                Self::drive_one(&mut self.driver, sender.ready()).await?;
                Self::drive_one(&mut self.driver, sender.send_request(request)).await
            }
        }
    }

    /// Whether another request may be sent on it.
    pub fn is_open(&self) -> bool {
        let closed = match &self.sender {
            Sender::One(sender) => sender.is_closed(),
            Sender::Two(sender) => sender.is_closed(),
        };
        self.driver.is_some() && !closed
    }
}

/// The causes of an error in one line.
pub fn http_error(error: &hyper::Error) -> FetchError {
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
