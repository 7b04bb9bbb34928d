//! Fingerprints of certificates as RFC 5425 section 4.2.2 writes them.

use std::fmt;
use std::str::FromStr;

use sha1::{Digest as _, Sha1};
use sha2::Sha256;

/// The hash of a whole certificate (DER).
///
/// Written `sha-256:AA:BB:…` or `sha-1:AA:BB:…`. Read in any case, with or without colons,
/// and with the labels `sha256` and `sha1` of other tools.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fingerprint {
    /// Of SHA-1. RFC 5425 asks for it; nothing new should use it.
    Sha1([u8; 20]),
    /// Of SHA-256.
    Sha256([u8; 32]),
}

/// Why a text is no fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is no fingerprint; write sha-256: and 64 hexadecimal digits in pairs, as `sls-relay cert fingerprint` prints them, or sha-1: and 40"
)]
pub struct FingerprintError {
    text: String,
}

impl FingerprintError {
    /// The stable name of the cause.
    pub fn code(&self) -> &'static str {
        "syslog.fingerprint"
    }
}

impl Fingerprint {
    /// The SHA-256 fingerprint of a certificate.
    pub fn sha256(certificate: &[u8]) -> Self {
        Self::Sha256(Sha256::digest(certificate).into())
    }

    /// The SHA-1 fingerprint of a certificate.
    pub fn sha1(certificate: &[u8]) -> Self {
        Self::Sha1(Sha1::digest(certificate).into())
    }

    /// Whether this is the fingerprint of `certificate`.
    pub fn is_of(&self, certificate: &[u8]) -> bool {
        match self {
            Self::Sha1(_) => *self == Self::sha1(certificate),
            Self::Sha256(_) => *self == Self::sha256(certificate),
        }
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (label, hash): (_, &[u8]) = match self {
            Self::Sha1(hash) => ("sha-1", hash),
            Self::Sha256(hash) => ("sha-256", hash),
        };
        f.write_str(label)?;
        hash.iter().try_for_each(|byte| write!(f, ":{byte:02X}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let error = || FingerprintError { text: text.chars().take(120).collect() };
        let (label, digits) = text.trim().split_once(':').ok_or_else(error)?;
        match label.to_ascii_lowercase().as_str() {
            "sha-256" | "sha256" => hash(digits).map(Self::Sha256),
            "sha-1" | "sha1" => hash(digits).map(Self::Sha1),
            _ => None,
        }
        .ok_or_else(error)
    }
}

/// `N` bytes as pairs of digits, either all set apart by colons or none.
fn hash<const N: usize>(text: &str) -> Option<[u8; N]> {
    let step = if text.contains(':') { 3 } else { 2 };
    let text = text.as_bytes();
    if text.len() != step * N - (step - 2) {
        return None;
    }
    let mut hash = [0; N];
    for (byte, pair) in hash.iter_mut().zip(text.chunks(step)) {
        if pair.len() == 3 && pair[2] != b':' {
            return None;
        }
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        *byte = u8::try_from(digit(0)? << 4 | digit(1)?).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // Of an empty text, as published everywhere.
    const SHA1: &str = "sha-1:DA:39:A3:EE:5E:6B:4B:0D:32:55:BF:EF:95:60:18:90:AF:D8:07:09";
    const SHA256: &str = "sha-256:E3:B0:C4:42:98:FC:1C:14:9A:FB:F4:C8:99:6F:B9:24:27:AE:41:E4:64:9B:93:4C:A4:95:99:1B:78:52:B8:55";

    #[test]
    fn known_hashes_are_written_as_the_standard_says() {
        assert_eq!(Fingerprint::sha1(b"").to_string(), SHA1);
        assert_eq!(Fingerprint::sha256(b"").to_string(), SHA256);
        assert!(Fingerprint::sha256(b"").is_of(b""));
        assert!(!Fingerprint::sha256(b"").is_of(b"x"));
    }

    #[test]
    fn forms_of_other_tools_are_read() {
        let expected = Fingerprint::sha1(b"");
        let digits = SHA1.trim_start_matches("sha-1:");
        for text in [
            SHA1.to_owned(),
            SHA1.to_lowercase(),
            format!("SHA1:{digits}"),
            format!(" sha1:{} ", digits.replace(':', "")),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused_with_what_to_write() {
        let digits = SHA1.trim_start_matches("sha-1:");
        for text in [
            String::new(),
            digits.to_owned(),
            format!("md5:{digits}"),
            format!("sha-256:{digits}"),
            format!("{SHA1}:00"),
            SHA1.replace("39:A3", "39-A3"),
            SHA1.replace("39:A3", "39A3:"),
            SHA1.replace("39", "3G"),
            SHA1.replace("39", "é"),
        ] {
            let error = text.parse::<Fingerprint>().unwrap_err();
            assert!(error.to_string().contains("sls-relay cert fingerprint"), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(hash: [u8; 32], short: [u8; 20]) {
            for fingerprint in [Fingerprint::Sha256(hash), Fingerprint::Sha1(short)] {
                prop_assert_eq!(fingerprint.to_string().parse(), Ok(fingerprint));
            }
        }

        #[test]
        fn no_text_panics(text in "(sha-?(1|256):)?[0-9a-fA-F:é]{0,100}") {
            let _ = text.parse::<Fingerprint>();
        }
    }
}
