//! Where a request goes: the parts of a URL that a client needs, and what a redirect makes of them.

use hyper::Uri;

/// Where a request goes.
#[derive(Clone, Debug, PartialEq)]
pub struct Address {
    pub tls: bool,
    pub host: String,
    pub port: u16,
    pub authority: String,
    pub path: String,
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

    /// As a proxy is asked for it.
    pub fn absolute(&self) -> String {
        format!("{}://{}{}", if self.tls { "https" } else { "http" }, self.authority, self.path)
    }

    /// Without the path, whose parameters may be secret.
    pub fn absolute_host(&self) -> String {
        format!("{}://{}", if self.tls { "https" } else { "http" }, self.authority)
    }

    /// Host and port, as CONNECT names them.
    pub fn host_port(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    pub fn same_server(&self, other: &Address) -> bool {
        (self.tls, &self.host, self.port) == (other.tls, &other.host, other.port)
    }

    pub fn redirected(&self, location: &str) -> Result<Address, String> {
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
