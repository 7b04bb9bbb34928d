//! Where a destination listens, as the configuration writes it: `udp://host:514`,
//! `tcp://host:1468`, `tls://host:6514`, `tcp://[2001:db8::1]:1468`.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use super::error::TargetError;

/// How messages travel to a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scheme {
    /// One message per datagram (RFC 5426). Nothing proves that it arrived.
    Udp,
    /// A stream of frames (RFC 6587). A drain proves what was read.
    Tcp,
    /// The same, encrypted (RFC 5425).
    Tls,
    /// RELP: the receiver acknowledges every message.
    Relp,
    /// The same, encrypted from the first byte.
    RelpTls,
}

impl Scheme {
    /// As written before `://`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Relp => "relp",
            Self::RelpTls => "relp+tls",
        }
    }

    /// Whether certificates are shown and messages encrypted.
    pub fn is_encrypted(self) -> bool {
        matches!(self, Self::Tls | Self::RelpTls)
    }

    /// Whether the receiver acknowledges messages.
    pub fn is_relp(self) -> bool {
        matches!(self, Self::Relp | Self::RelpTls)
    }

    /// The port when none is written: 514 for UDP (RFC 5426 section 3.3), 1468 for TCP, 6514
    /// for TLS (RFC 5425 section 4.1), 2514 for RELP, encrypted or not.
    ///
    /// No port is registered for syslog over plain TCP and for RELP: 514/tcp belongs to
    /// `rsh`, and these are what most receivers of each kind listen on.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Udp => 514,
            Self::Tcp => 1468,
            Self::Tls => 6514,
            Self::Relp | Self::RelpTls => 2514,
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The address of a destination. The name is resolved at every connection, not here.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// Transport.
    pub scheme: Scheme,
    /// Host name, IPv4 address, or IPv6 address without brackets (a zone may follow `%`).
    pub host: String,
    /// Port, never 0 when parsed.
    pub port: u16,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "{}://[{}]:{}", self.scheme, self.host, self.port)
        } else {
            write!(f, "{}://{}:{}", self.scheme, self.host, self.port)
        }
    }
}

impl FromStr for Target {
    type Err = TargetError;

    /// Parses `SCHEME://HOST[:PORT]`. Nothing is looked up.
    fn from_str(text: &str) -> Result<Self, TargetError> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(TargetError::NoScheme { text: text.to_owned() });
        };
        let scheme = parse_scheme(scheme)?;
        let (host, port) = split_port(rest)?;
        let port = match port {
            None => scheme.default_port(),
            Some(digits) => parse_port(digits)?,
        };
        Ok(Self { scheme, host: host.to_owned(), port })
    }
}

fn parse_scheme(text: &str) -> Result<Scheme, TargetError> {
    match text.to_ascii_lowercase().as_str() {
        "udp" => Ok(Scheme::Udp),
        "tcp" => Ok(Scheme::Tcp),
        "tls" => Ok(Scheme::Tls),
        "relp" => Ok(Scheme::Relp),
        "relp+tls" => Ok(Scheme::RelpTls),
        _ => Err(TargetError::UnknownScheme { scheme: text.to_owned() }),
    }
}

/// Separates the host (without brackets) from the port.
fn split_port(rest: &str) -> Result<(&str, Option<&str>), TargetError> {
    let bad_host = |host: &str| TargetError::BadHost { host: host.to_owned() };
    if let Some(inner) = rest.strip_prefix('[') {
        let (host, after) = inner.split_once(']').ok_or_else(|| bad_host(rest))?;
        let (address, zone) = host.split_once('%').unwrap_or((host, "zone"));
        if address.parse::<Ipv6Addr>().is_err() || !is_plain(zone) {
            return Err(bad_host(rest));
        }
        return match after.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if after.is_empty() => Ok((host, None)),
            None => Err(bad_host(rest)),
        };
    }
    if rest.matches(':').count() > 1 {
        return Err(TargetError::NoBrackets { host: rest.to_owned() });
    }
    let (host, port) = match rest.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (rest, None),
    };
    if is_plain(host) { Ok((host, port)) } else { Err(bad_host(host)) }
}

/// Whether this can be a host name or an IPv4 address: no path, user, query or space.
fn is_plain(host: &str) -> bool {
    (1..=253).contains(&host.len())
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
}

fn parse_port(digits: &str) -> Result<u16, TargetError> {
    let bad = || TargetError::BadPort { port: digits.to_owned() };
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    digits.parse().ok().filter(|&port| port != 0).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Target {
        text.parse().unwrap()
    }

    fn refusal(text: &str) -> String {
        text.parse::<Target>().unwrap_err().to_string()
    }

    #[test]
    fn reads_scheme_host_and_port() {
        let target = parse("tcp://siem.example:6514");
        assert_eq!(target.scheme, Scheme::Tcp);
        assert_eq!(target.host, "siem.example");
        assert_eq!(target.port, 6514);
        assert_eq!(parse("UDP://10.0.0.1:514").scheme, Scheme::Udp);
    }

    #[test]
    fn default_ports_depend_on_the_scheme() {
        assert_eq!(parse("udp://siem").port, 514);
        assert_eq!(parse("tcp://siem").port, 1468);
        assert_eq!(parse("relp://siem").port, 2514);
        assert_eq!(parse("tcp://[::1]").port, 1468);
        assert_eq!(parse("tls://siem").port, 6514);
        assert_eq!(parse("RELP+TLS://siem").port, 2514);
    }

    #[test]
    fn ipv6_is_written_in_brackets() {
        let target = parse("tcp://[2001:db8::1]:1468");
        assert_eq!(target.host, "2001:db8::1");
        assert_eq!(target.to_string(), "tcp://[2001:db8::1]:1468");
        assert_eq!(parse("udp://[fe80::1%eth0]:514").host, "fe80::1%eth0");
        assert!(refusal("tcp://2001:db8::1").contains("brackets"));
        assert!(refusal("tcp://[2001:db8::1").contains("[2001:db8::1"));
        assert!(refusal("tcp://[siem]:1").contains("[siem]"));
        assert!(refusal("tcp://[::1]1468").contains("1468"));
    }

    #[test]
    fn everything_else_is_refused_with_its_reason() {
        assert!(refusal("siem:514").contains("udp://"));
        assert!(refusal("http://siem").contains("http"));
        for port in ["0", "65536", "x", "", "+5"] {
            assert!(refusal(&format!("tcp://siem:{port}")).contains("port"), "{port}");
        }
        for host in ["", "a b", "user@siem", "siem/path", "siem?x", "a\nb"] {
            assert!(refusal(&format!("tcp://{host}")).contains("host"), "{host}");
        }
    }

    proptest! {
        #[test]
        fn display_is_read_back(
            scheme in prop::sample::select(vec![
                Scheme::Udp, Scheme::Tcp, Scheme::Tls, Scheme::Relp, Scheme::RelpTls,
            ]),
            name in "[a-z0-9][a-z0-9.-]{0,30}", v6: Option<u128>, port in 1..=u16::MAX
        ) {
            let host = v6.map_or(name, |bits| Ipv6Addr::from_bits(bits).to_string());
            let target = Target { scheme, host, port };
            prop_assert_eq!(parse(&target.to_string()), target);
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,60}", rest in "[\\[\\]:%a-f0-9.@/]{0,40}") {
            let _ = text.parse::<Target>();
            let _ = format!("tcp://{rest}").parse::<Target>();
        }
    }
}
