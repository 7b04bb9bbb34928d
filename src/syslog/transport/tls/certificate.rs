//! What operators need to know of a certificate: fingerprints, names, the time it ends.

use std::fmt;
use std::net::IpAddr;

use jiff::Timestamp;
use x509_parser::asn1_rs::{Any, FromDer as _};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};

use super::fingerprint::Fingerprint;

/// Names shown of one certificate; those of large hosters have hundreds.
const MOST_NAMES: usize = 20;
/// Characters shown of one name.
const LONGEST_NAME: usize = 253;

/// What a certificate says of itself, believed or not.
///
/// Names and times are missing where the certificate cannot be read; the fingerprints never
/// are. Texts come from the peer: control characters in them are written as escapes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The fingerprint to pin.
    pub sha256: Fingerprint,
    /// The fingerprint that older receivers and RFC 5425 use.
    pub sha1: Fingerprint,
    /// DNS names and addresses that it is for (subjectAltName), at most 20.
    pub names: Vec<String>,
    /// Common name of the subject. It names nothing as far as checks go.
    pub common_name: Option<String>,
    /// Before this it does not count.
    pub not_before: Option<Timestamp>,
    /// After this it does not count.
    pub not_after: Option<Timestamp>,
}

impl Certificate {
    /// Reads a certificate in DER. Bytes that are none give the fingerprints of these bytes.
    pub fn from_der(der: &[u8]) -> Self {
        let mut read = Self {
            sha256: Fingerprint::sha256(der),
            sha1: Fingerprint::sha1(der),
            names: Vec::new(),
            common_name: None,
            not_before: None,
            not_after: None,
        };
        let Ok((_, parsed)) = X509Certificate::from_der(der) else { return read };
        let time = |at: i64| Timestamp::from_second(at).ok();
        read.not_before = time(parsed.validity().not_before.timestamp());
        read.not_after = time(parsed.validity().not_after.timestamp());
        let common_name = parsed.subject().iter_common_name().next();
        read.common_name = common_name.and_then(|name| name.as_str().ok()).map(shown);
        for extension in parsed.extensions() {
            if let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() {
                read.names.extend(names.general_names.iter().filter_map(name));
            }
        }
        read.names.truncate(MOST_NAMES);
        read
    }

    /// The names, or what stands in for them, as one text.
    pub fn shown_names(&self) -> String {
        match (&self.common_name, self.names.is_empty()) {
            (_, false) => self.names.join(", "),
            (Some(name), true) => format!("no names but the common name {name}"),
            (None, true) => "no names".to_owned(),
        }
    }

    /// Whether it ends within `span` of `now`, or has ended.
    pub fn ends_within(&self, span: jiff::SignedDuration, now: Timestamp) -> bool {
        self.not_after.is_some_and(|end| end.duration_since(now) < span)
    }
}

impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}), {}", self.sha256, self.sha1, self.shown_names())?;
        match (self.not_before, self.not_after) {
            (Some(start), Some(end)) => write!(f, ", valid from {start} to {end}"),
            _ => Ok(()),
        }
    }
}

/// The public key with its algorithm (SubjectPublicKeyInfo). `None` where the certificate
/// cannot be read.
pub(super) fn public_key_info(der: &[u8]) -> Option<&[u8]> {
    X509Certificate::from_der(der).ok().map(|(_, parsed)| parsed.subject_pki.raw)
}

/// Algorithm identifier (what is inside of it) and bits of the public key.
pub(super) fn public_key(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (_, whole) = Any::from_der(public_key_info(der)?).ok()?;
    let (rest, algorithm) = Any::from_der(whole.data).ok()?;
    let (_, bits) = Any::from_der(rest).ok()?;
    // The first octet counts unused bits, which keys have none of.
    match bits.data.split_first() {
        Some((0, key)) => Some((algorithm.data, key)),
        _ => None,
    }
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some(shown(name)),
        GeneralName::IPAddress(octets) => {
            let v4 = <[u8; 4]>::try_from(*octets).map(IpAddr::from);
            let v6 = <[u8; 16]>::try_from(*octets).map(IpAddr::from);
            v4.or(v6).ok().map(|address| address.to_string())
        }
        _ => None,
    }
}

fn shown(text: &str) -> String {
    text.chars().take(LONGEST_NAME).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn certificate() -> Vec<u8> {
        use rustls::pki_types::CertificateDer;
        use rustls::pki_types::pem::PemObject as _;
        let pem = include_bytes!("../../../../tests/fixtures/syslog/tls/v1.pem");
        CertificateDer::from_pem_slice(pem).unwrap().to_vec()
    }

    #[test]
    fn names_are_shown_without_control_characters() {
        assert_eq!(shown("a\x1b[31m\nb"), "a\\u{1b}[31m\\nb");
        assert_eq!(shown(&"x".repeat(1000)).len(), LONGEST_NAME);
    }

    #[test]
    fn what_is_no_certificate_still_has_fingerprints() {
        let read = Certificate::from_der(b"");
        assert!(read.sha1.to_string().starts_with("sha-1:DA:39:A3:EE"));
        assert_eq!((read.shown_names().as_str(), read.not_after), ("no names", None));
        assert!(public_key(b"").is_none());
    }

    proptest! {
        #[test]
        fn no_damage_of_a_certificate_panics(
            at in 0..700_usize, byte: u8, cut in 0..900_usize
        ) {
            let mut der = certificate();
            if let Some(old) = der.get_mut(at) {
                *old = byte;
            }
            der.truncate(cut);
            let _ = Certificate::from_der(&der).to_string();
            let _ = public_key(&der);
        }
    }
}
