//! Request signatures, versions 1 and 4 ("Request signatures" in the SLS API reference).
//!
//! Pure functions over exactly what goes out on the wire: the emulator recomputes the
//! same value to check a client, so both sides share this file. Sign every attempt
//! anew; a signature carries the time it was made.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use hmac::{Hmac, KeyInit, Mac};
use md5::Digest;
use sha2::Sha256;

/// The parts of a request that a signature covers.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// HTTP method in upper case.
    pub method: &'a str,
    /// Path without query, not encoded.
    pub path: &'a str,
    /// Decoded query parameters, in any order.
    pub query: &'a [(String, String)],
    /// Headers as sent; names in any case. Only those a version signs are read.
    pub headers: &'a [(String, String)],
    /// Body as sent.
    pub body: &'a [u8],
}

/// The `Authorization` value of signature version 1 (`LOG id:base64`).
///
/// The time comes from the `Date` header. An `x-log-date` header is not signed, as the
/// official SDKs add it after signing.
pub fn v1(key_id: &str, key_secret: &str, parts: &Parts<'_>) -> String {
    let mut signed: Vec<(String, &str)> = lower_case(parts.headers)
        .filter(|(name, _)| {
            (name.starts_with("x-log-") && name != "x-log-date") || name.starts_with("x-acs-")
        })
        .collect();
    signed.sort();
    let mut text = String::new();
    text.push_str(parts.method);
    for name in ["content-md5", "content-type", "date"] {
        text.push('\n');
        text.push_str(header(parts.headers, name).unwrap_or_default());
    }
    text.push('\n');
    for (name, value) in signed {
        text.push_str(&format!("{name}:{value}\n"));
    }
    text.push_str(parts.path);
    let mut query: Vec<_> = parts.query.iter().collect();
    query.sort();
    for (position, (key, value)) in query.into_iter().enumerate() {
        text.push(if position == 0 { '?' } else { '&' });
        text.push_str(&format!("{key}={value}"));
    }
    let mut mac = new_mac::<Hmac<sha1::Sha1>>(key_secret.as_bytes());
    mac.update(text.as_bytes());
    format!("LOG {key_id}:{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()))
}

/// The `Authorization` value of signature version 4 (`SLS4-HMAC-SHA256 Credential=…`).
///
/// `datetime` is the value of `x-log-date`, `yyyyMMddTHHmmssZ` in UTC. The signed
/// headers are `content-type`, `host`, and every `x-log-*` and `x-acs-*`.
pub fn v4(
    key_id: &str,
    key_secret: &str,
    region: &str,
    datetime: &str,
    parts: &Parts<'_>,
) -> String {
    let date = datetime.get(..8).unwrap_or(datetime);
    let mut signed: Vec<(String, &str)> = lower_case(parts.headers)
        .filter(|(name, _)| {
            name == "content-type"
                || name == "host"
                || name.starts_with("x-log-")
                || name.starts_with("x-acs-")
        })
        .map(|(name, value)| (name, value.trim()))
        .collect();
    signed.sort();
    let mut query: Vec<_> = parts.query.iter().collect();
    query.sort();
    let query: Vec<String> = query
        .into_iter()
        .map(|(key, value)| {
            if value.is_empty() { key.clone() } else { format!("{key}={}", percent_encode(value)) }
        })
        .collect();
    let names: Vec<&str> = signed.iter().map(|(name, _)| name.as_str()).collect();
    let mut canonical =
        format!("{}\n{}\n{}\n", parts.method, encode_path(parts.path), query.join("&"));
    for (name, value) in &signed {
        canonical.push_str(&format!("{name}:{value}\n"));
    }
    canonical.push_str(&format!("\n{}\n{}", names.join(";"), sha256_hex(parts.body)));

    let scope = format!("{date}/{region}/sls/aliyun_v4_request");
    let text =
        format!("SLS4-HMAC-SHA256\n{datetime}\n{scope}\n{}", sha256_hex(canonical.as_bytes()));
    let mut key = hmac_sha256(format!("aliyun_v4{key_secret}").as_bytes(), date.as_bytes());
    for part in [region, "sls", "aliyun_v4_request"] {
        key = hmac_sha256(&key, part.as_bytes());
    }
    let signature = hex(&hmac_sha256(&key, text.as_bytes()));
    format!("SLS4-HMAC-SHA256 Credential={key_id}/{scope},Signature={signature}")
}

/// `Content-MD5` as SLS wants it: upper-case hex, not base64.
pub fn content_md5(body: &[u8]) -> String {
    hex(&md5::Md5::digest(body)).to_ascii_uppercase()
}

/// Lower-case hex SHA-256, the form of `x-log-content-sha256`.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// RFC 3986 percent-encoding of a query value: unreserved characters stay, all else is `%XX`.
pub fn percent_encode(value: &str) -> String {
    encode(value, b"-_.~")
}

/// Percent-encoding of a path: as [`percent_encode`], but slashes stay, and `+` and `*`
/// too, as the official SDKs have it.
pub fn encode_path(path: &str) -> String {
    encode(path, b"-_.~/+*")
}

fn encode(text: &str, keep: &[u8]) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || keep.contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn lower_case(headers: &[(String, String)]) -> impl Iterator<Item = (String, &str)> {
    headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.as_str()))
}

fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

fn hmac_sha256(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut mac = new_mac::<Hmac<Sha256>>(key);
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

#[expect(clippy::expect_used, reason = "HMAC accepts a key of any length (RFC 2104)")]
pub(super) fn new_mac<M: Mac + KeyInit>(key: &[u8]) -> M {
    <M as KeyInit>::new_from_slice(key).expect("HMAC takes any key length")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
