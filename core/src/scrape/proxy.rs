//! Proxies: which addresses are reached through one, and the tunnel that TLS is spoken in.
//!
//! What `no_proxy` spares is decided as Go's programs do it: hosts with all below them, `.below` or `*.below` only, addresses,
//! networks, each with a port if it has one, and `*` for all.

use std::net::IpAddr;

use hyper::header::HeaderValue;
use pyo3::prelude::*;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::address::Address;
use super::fetcherror::FetchError;

/// A proxy's answer to CONNECT has headers only.
const ANSWER_BYTES_MAX: usize = 16 << 10;

/// One proxy.
#[derive(Clone)]
pub struct Proxy {
    pub address: Address,
    /// What its URL said of a user.
    pub authorization: Option<HeaderValue>,
}

#[derive(Clone, Default)]
pub struct ProxySettings {
    /// For targets without TLS.
    pub http: Option<Proxy>,
    /// For targets with it.
    pub https: Option<Proxy>,
    /// As `no_proxy` has it; None spares nothing, not even this machine.
    pub spared: Option<String>,
    /// Sent with CONNECT.
    pub connect_headers: Vec<(String, String)>,
}

impl ProxySettings {
    pub fn of(&self, to: &Address) -> Option<&Proxy> {
        let proxy = if to.tls { &self.https } else { &self.http };
        proxy.as_ref().filter(|_| !self.spared.as_deref().is_some_and(|spared| is_spared(spared, &to.host, to.port)))
    }
}

/// Whether `no_proxy` says to reach this host without the proxy. This machine always is.
pub fn is_spared(no_proxy: &str, host: &str, port: u16) -> bool {
    let host = host.trim_matches(['[', ']']).trim_end_matches('.').to_ascii_lowercase();
    let address: Option<IpAddr> = host.parse().ok();
    if host == "localhost" || address.is_some_and(|a| a.is_loopback()) {
        return true;
    }
    no_proxy.split(',').map(|rule| rule.trim().to_ascii_lowercase()).filter(|rule| !rule.is_empty()).any(|rule| {
        if rule == "*" {
            return true;
        }
        if let Some((network, bits)) = rule.split_once('/') {
            return matches!((network.parse(), bits.parse(), address), (Ok(n), Ok(b), Some(a)) if is_within(a, n, b));
        }
        let (name, only) = split_port(&rule);
        if only.is_some_and(|only| only != port) {
            return false;
        }
        if let Ok(one) = name.trim_matches(['[', ']']).parse::<IpAddr>() {
            return address == Some(one);
        }
        let name = name.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(name);
        match name.strip_prefix('.') {
            Some(_) => host.ends_with(name),
            None => host == name || host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.')),
        }
    })
}

fn split_port(rule: &str) -> (&str, Option<u16>) {
    if rule.parse::<IpAddr>().is_ok() {
        return (rule, None);
    }
    match rule.rsplit_once(':') {
        Some((name, port)) => port.parse().map_or((rule, None), |port| (name, Some(port))),
        None => (rule, None),
    }
}

fn is_within(address: IpAddr, network: IpAddr, bits: u32) -> bool {
    match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(n)) if bits <= 32 => {
            let shift = |ip: std::net::Ipv4Addr| u64::from(u32::from(ip)) >> (32 - bits);
            shift(a) == shift(n)
        }
        (IpAddr::V6(a), IpAddr::V6(n)) if bits <= 128 => {
            let shift = |ip: std::net::Ipv6Addr| u128::from(ip).checked_shr(128 - bits).unwrap_or(0);
            shift(a) == shift(n)
        }
        _ => false,
    }
}

/// Asks the proxy at the other end for a tunnel to an address.
pub async fn tunnel<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    to: &Address,
    proxy: &Proxy,
    headers: &[(String, String)],
) -> Result<(), FetchError> {
    let name = &proxy.address.authority;
    let fail = |reason: &str| FetchError::new(format!("cannot reach {} through the proxy {name}: {reason}", to.host_port()));
    let target = to.host_port();
    let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n").into_bytes();
    for (name, value) in headers {
        request.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    if let Some(value) = &proxy.authorization {
        request.extend_from_slice(b"Proxy-Authorization: ");
        request.extend_from_slice(value.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    stream.write_all(&request).await.map_err(|e| fail(&e.to_string()))?;
    let mut answer = Vec::with_capacity(256);
    // Byte by byte: what follows the headers is the tunnel's, and belongs to TLS.
    while !answer.ends_with(b"\r\n\r\n") {
        let byte = stream.read_u8().await.map_err(|_| fail("it closed the connection; is it an HTTP proxy?"))?;
        answer.push(byte);
        if answer.len() > ANSWER_BYTES_MAX {
            return Err(fail("its answer does not end; is it an HTTP proxy?"));
        }
    }
    let status = String::from_utf8_lossy(&answer);
    let status = status.lines().next().unwrap_or("").trim_end();
    match status.split_once(' ') {
        Some((version, rest)) if version.starts_with("HTTP/1.") && rest.starts_with("200") => Ok(()),
        Some((version, rest)) if version.starts_with("HTTP/1.") => Err(fail(&format!("it answered {rest}"))),
        _ => Err(fail("its answer is no HTTP; is it an HTTP proxy?")),
    }
}

#[pyfunction]
fn spared_by_no_proxy(no_proxy: &str, host: &str, port: u16) -> bool {
    is_spared(no_proxy, host, port)
}

pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(spared_by_no_proxy, m)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_proxy_spares_what_it_names() {
        let check = |rules: &str, host: &str, want: bool| {
            assert_eq!(is_spared(rules, host, 9100), want, "{rules:?} {host}");
        };
        check("", "localhost", true);
        check("", "127.0.0.2", true);
        check("", "::1", true);
        check("", "a.example", false);
        check("*", "a.example", true);
        check("example, other", "a.example", true);
        check("example", "example", true);
        check("example", "anexample", false);
        check(".example", "a.EXAMPLE", true);
        check(".example", "example", false);
        check("*.example", "a.example", true);
        check("*.example", "example", false);
        check("example:9100", "a.example", true);
        check("example:9101", "a.example", false);
        check("10.0.0.1", "10.0.0.1", true);
        check("10.0.0.1:9100", "10.0.0.1", true);
        check("10.0.0.1:80", "10.0.0.1", false);
        check("10.0.0.0/8", "10.9.9.9", true);
        check("10.0.0.0/8", "11.9.9.9", false);
        check("0.0.0.0/0", "11.9.9.9", true);
        check("10.0.0.0/8", "a.example", false);
        check("fd00::/8", "fd00::7", true);
        check("fd00::/8", "[fe00::7]", false);
        check("::/0", "fe00::7", true);
    }
}
