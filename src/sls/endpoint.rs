//! Where SLS answers: the endpoint of a region, or an address for tests.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// The address of SLS in one region, such as `https://cn-hangzhou.log.aliyuncs.com`.
///
/// Requests go to `{project}.{host}`. An IP literal or `localhost` is *direct*: requests
/// go to exactly that address, and only the `Host` header carries the project.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    https: bool,
    /// Lower case; an IPv6 literal keeps its brackets.
    host: String,
    port: Option<u16>,
    /// The address of an IP literal.
    address: Option<IpAddr>,
}

/// Why a text is not an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// Nothing but a scheme, or nothing at all.
    #[error("the endpoint has no host: write one like https://cn-hangzhou.log.aliyuncs.com")]
    NoHost,
    /// A scheme that SLS does not speak.
    #[error("the endpoint has the scheme {0:?}: only https:// (the default) and http:// work")]
    Scheme(String),
    /// Something in front of an `@`.
    #[error(
        "the endpoint contains a user name: take out everything up to the @, keys are configured apart"
    )]
    UserInfo,
    /// A path, a query or a fragment.
    #[error("the endpoint goes on after the host with {0:?}: end it after the host and port")]
    Trailing(String),
    /// A port that is not a number from 1 to 65535.
    #[error("the endpoint has the port {0:?}: a port is a number from 1 to 65535")]
    Port(String),
    /// A host that is neither a name nor an IP literal.
    #[error(
        "the endpoint has the host {0:?}, which is neither a host name nor an IP address (an IPv6 address goes in brackets)"
    )]
    Host(String),
}

impl EndpointError {
    /// The stable code of this error.
    pub fn code(&self) -> &'static str {
        "sls.endpoint_invalid"
    }
}

impl Endpoint {
    /// Reads `[https://|http://]host[:port]`; https when no scheme is written.
    ///
    /// # Errors
    /// Says what is wrong with the text: paths, queries and user names are refused
    /// rather than dropped.
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        let (https, rest) = match text.split_once("://") {
            None => (true, text),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (true, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (false, rest),
            Some((scheme, _)) => return Err(EndpointError::Scheme(scheme.to_owned())),
        };
        let (authority, trailing) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(EndpointError::UserInfo);
        }
        if !matches!(trailing, "" | "/") {
            return Err(EndpointError::Trailing(trailing.to_owned()));
        }
        let (host, port) = split_port(authority)?;
        if host.is_empty() {
            return Err(EndpointError::NoHost);
        }
        let host = host.to_ascii_lowercase();
        let address = parse_address(&host);
        if address.is_none() && !is_host_name(&host) {
            return Err(EndpointError::Host(host));
        }
        let default_port = if https { 443 } else { 80 };
        Ok(Self { https, host, port: port.filter(|port| *port != default_port), address })
    }

    /// The value of `Host`, which is also what a version 4 signature covers: no port.
    pub fn host_header(&self, project: &str) -> String {
        format!("{project}.{}", self.host)
    }

    /// Scheme, host and port to connect to, without a trailing slash.
    pub fn url_base(&self, project: &str) -> String {
        if self.is_direct() {
            self.to_string()
        } else {
            Self { host: self.host_header(project), ..self.clone() }.to_string()
        }
    }

    /// The same endpoint at the usual port of its scheme.
    #[must_use]
    pub(super) fn without_port(self) -> Self {
        Self { port: None, ..self }
    }

    /// The region's id, such as `cn-hangzhou`, where the host has the form
    /// `{region}[-intranet|-internal|-share].log.…` (or `.sls.…`).
    pub fn region(&self) -> Option<String> {
        if self.is_direct() {
            return None;
        }
        let mut labels = self.host.split('.');
        let first = labels.next()?;
        if !matches!(labels.next(), Some("log" | "sls")) || labels.next().is_none() {
            return None;
        }
        let region = ["-intranet", "-internal", "-share"]
            .iter()
            .find_map(|suffix| first.strip_suffix(suffix))
            .unwrap_or(first);
        (!region.is_empty()).then(|| region.to_owned())
    }

    /// Whether the connection is encrypted.
    pub fn is_https(&self) -> bool {
        self.https
    }

    /// Whether the address is this machine itself.
    pub fn is_loopback(&self) -> bool {
        self.address
            .map_or(self.host == "localhost", |address| address.to_canonical().is_loopback())
    }

    /// Whether it is an IP literal or `localhost`, connected to as written.
    pub fn is_direct(&self) -> bool {
        self.address.is_some() || self.host == "localhost"
    }
}

/// The canonical form, `https://host[:port]`, without a default port.
impl fmt::Display for Endpoint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}://{}", if self.https { "https" } else { "http" }, self.host)?;
        match self.port {
            Some(port) => write!(out, ":{port}"),
            None => Ok(()),
        }
    }
}

fn split_port(authority: &str) -> Result<(&str, Option<u16>), EndpointError> {
    // The colons inside the brackets of an IPv6 address are none of a port's.
    let after_brackets = authority.rfind(']').map_or(0, |end| end + 1);
    let Some(colon) = authority[after_brackets..].rfind(':') else {
        return Ok((authority, None));
    };
    let (host, port) = authority.split_at(after_brackets + colon);
    if host.contains(':') && after_brackets == 0 {
        return Err(EndpointError::Host(authority.to_owned()));
    }
    let port = &port[1..];
    match port.parse() {
        Ok(number) if number > 0 && port.bytes().all(|byte| byte.is_ascii_digit()) => {
            Ok((host, Some(number)))
        }
        _ => Err(EndpointError::Port(port.to_owned())),
    }
}

fn parse_address(host: &str) -> Option<IpAddr> {
    match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => host.parse().ok(),
    }
}

/// RFC 1123 host names. A last label of digits alone would be read as part of an IPv4
/// address by URL parsers, so it is no name.
fn is_host_name(host: &str) -> bool {
    let labels_fit = host.split('.').all(|label| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    });
    let numeric_end = host
        .rsplit('.')
        .next()
        .is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit()));
    labels_fit && !numeric_end && host.len() <= 253
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(text: &str) -> Endpoint {
        Endpoint::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn https_is_assumed_and_http_must_be_written() {
        assert!(endpoint("cn-hangzhou.log.aliyuncs.com").is_https());
        assert!(endpoint("HTTPS://cn-hangzhou.log.aliyuncs.com").is_https());
        assert!(!endpoint("http://cn-hangzhou.log.aliyuncs.com").is_https());
    }

    #[test]
    fn a_region_endpoint_gets_the_project_in_front_of_its_host() {
        let endpoint = endpoint("CN-Hangzhou.log.aliyuncs.com:8443/");
        assert_eq!(endpoint.host_header("waf"), "waf.cn-hangzhou.log.aliyuncs.com");
        assert_eq!(endpoint.url_base("waf"), "https://waf.cn-hangzhou.log.aliyuncs.com:8443");
        assert_eq!(endpoint.to_string(), "https://cn-hangzhou.log.aliyuncs.com:8443");
    }

    #[test]
    fn a_direct_endpoint_is_connected_to_as_written() {
        for (text, url, host) in [
            ("127.0.0.1", "https://127.0.0.1", "waf.127.0.0.1"),
            ("http://127.0.0.1:18080", "http://127.0.0.1:18080", "waf.127.0.0.1"),
            ("http://localhost:18080", "http://localhost:18080", "waf.localhost"),
            ("http://[::1]:18080", "http://[::1]:18080", "waf.[::1]"),
            ("[::1]", "https://[::1]", "waf.[::1]"),
            ("10.1.2.3:443", "https://10.1.2.3", "waf.10.1.2.3"),
        ] {
            let endpoint = endpoint(text);
            assert_eq!(endpoint.url_base("waf"), url);
            assert_eq!(endpoint.host_header("waf"), host);
            assert_eq!(endpoint.region(), None);
        }
    }

    #[test]
    fn the_region_is_the_first_label_without_its_network() {
        for (host, region) in [
            ("cn-hangzhou.log.aliyuncs.com", Some("cn-hangzhou")),
            ("ap-southeast-1-intranet.log.aliyuncs.com", Some("ap-southeast-1")),
            ("cn-beijing-internal.sls.aliyuncs.com", Some("cn-beijing")),
            ("cn-shanghai-share.log.aliyuncs.com", Some("cn-shanghai")),
            ("log-global.aliyuncs.com", None),
            ("sls.example", None),
        ] {
            assert_eq!(endpoint(host).region().as_deref(), region, "{host}");
        }
    }

    #[test]
    fn loopback_is_told_from_the_rest() {
        for text in ["127.0.0.1", "127.9.9.9:1", "localhost", "[::1]", "[::ffff:127.0.0.1]"] {
            assert!(endpoint(text).is_loopback(), "{text}");
        }
        for text in ["10.0.0.1", "localhost.example", "[::2]"] {
            assert!(!endpoint(text).is_loopback(), "{text}");
        }
    }

    #[test]
    fn anything_beyond_host_and_port_is_refused() {
        use EndpointError as E;
        for (text, expected) in [
            ("", E::NoHost),
            ("https://", E::NoHost),
            (":80", E::NoHost),
            ("ftp://host", E::Scheme("ftp".into())),
            ("https://id:secret@host", E::UserInfo),
            ("host/path", E::Trailing("/path".into())),
            ("host?x=1", E::Trailing("?x=1".into())),
            ("host#x", E::Trailing("#x".into())),
            ("host:0", E::Port("0".into())),
            ("host:", E::Port(String::new())),
            ("host:+80", E::Port("+80".into())),
            ("host:65536", E::Port("65536".into())),
            ("::1", E::Host("::1".into())),
            ("[::1", E::Host("[::1".into())),
            ("[::1]x", E::Host("[::1]x".into())),
            ("127.1", E::Host("127.1".into())),
            ("a..b", E::Host("a..b".into())),
            (" host", E::Host(" host".into())),
            ("hôst", E::Host("hôst".into())),
        ] {
            assert_eq!(Endpoint::parse(text), Err(expected), "{text:?}");
        }
    }

    #[test]
    fn a_refused_user_name_is_not_repeated() {
        let error = Endpoint::parse("https://id:secret@host").expect_err("user name");
        assert!(!format!("{error} {error:?}").contains("secret"));
    }
}
