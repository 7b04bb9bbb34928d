//! Who may call: signatures of version 1 and 4, and the age of a request.
//!
//! The signature is computed again from what arrived, the host included, and compared.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::answer::Refusal;
use super::request::Request;
use crate::sls::sign;

/// How far a request's time may be from the service's.
const TOLERANCE_SECONDS: u64 = 15 * 60;

/// The one key the emulator knows.
#[derive(Clone)]
pub(super) struct Key {
    pub id: String,
    pub secret: String,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Key {
    /// Refuses a request that this key did not sign, or not at about `now` (seconds
    /// since the epoch, on the service's clock).
    pub(super) fn check(&self, request: &Request, now: i64) -> Result<(), Refusal> {
        let given = request.header("authorization").unwrap_or_default();
        let expected = if let Some(rest) = given.strip_prefix("LOG ") {
            self.check_id(rest.split_once(':').map_or(rest, |(id, _)| id))?;
            self.version_1(request, now)?
        } else if let Some(rest) = given.strip_prefix("SLS4-HMAC-SHA256 Credential=") {
            let scope = rest.split_once(",Signature=").map_or(rest, |(scope, _)| scope);
            let mut scope = scope.split('/');
            self.check_id(scope.next().unwrap_or_default())?;
            self.version_4(request, scope.nth(1).unwrap_or_default(), now)?
        } else {
            return Err(Refusal::new(401, "Unauthorized", "the request is not signed"));
        };
        if given == expected {
            return Ok(());
        }
        let message = "the signature does not match, check the secret, the host and the clock";
        Err(Refusal::new(401, "SignatureNotMatch", message))
    }

    fn check_id(&self, id: &str) -> Result<(), Refusal> {
        if id == self.id {
            return Ok(());
        }
        Err(Refusal::new(401, "InvalidAccessKeyId", "the access key id is not known here"))
    }

    fn version_1(&self, request: &Request, now: i64) -> Result<String, Refusal> {
        let date = request.header("date").or(request.header("x-log-date")).unwrap_or_default();
        check_time(http_date(date), date, now)?;
        if !request.body.is_empty()
            && request
                .header("content-md5")
                .is_some_and(|md5| md5 != sign::content_md5(&request.body))
        {
            let message = "content-md5 does not match the body";
            return Err(Refusal::new(400, "InvalidContentMD5", message));
        }
        let mut headers = request.headers.clone();
        if request.header("date").is_none() {
            headers.push(("date".to_owned(), date.to_owned()));
        }
        Ok(signed(request, &headers, |parts| sign::v1(&self.id, &self.secret, parts)))
    }

    fn version_4(&self, request: &Request, region: &str, now: i64) -> Result<String, Refusal> {
        if region.is_empty() {
            return Err(Refusal::new(401, "Unauthorized", "the credential's scope has no region"));
        }
        let datetime = request.header("x-log-date").unwrap_or_default();
        let time = DateTime::strptime("%Y%m%dT%H%M%SZ", datetime);
        check_time(time.ok().and_then(utc_seconds), datetime, now)?;
        if request.header("x-log-content-sha256") != Some(&*sign::sha256_hex(&request.body)) {
            let message = "x-log-content-sha256 does not match the body";
            return Err(Refusal::new(400, "InvalidContentSha256", message));
        }
        Ok(signed(request, &request.headers, |parts| {
            sign::v4(&self.id, &self.secret, region, datetime, parts)
        }))
    }
}

fn signed(
    request: &Request,
    headers: &[(String, String)],
    sign: impl Fn(&sign::Parts<'_>) -> String,
) -> String {
    sign(&sign::Parts {
        method: request.method.as_str(),
        path: &request.path,
        query: &request.query,
        headers,
        body: &request.body,
    })
}

fn check_time(time: Option<i64>, text: &str, now: i64) -> Result<(), Refusal> {
    let Some(time) = time else {
        let message = format!("the request's time <{text}> cannot be read");
        return Err(Refusal::new(400, "InvalidDateFormat", message));
    };
    if time.abs_diff(now) <= TOLERANCE_SECONDS {
        return Ok(());
    }
    let message = format!("the request's time <{text}> is too far from the server's <{now}>");
    Err(Refusal::new(400, "RequestTimeExpired", message))
}

/// Seconds since the epoch of an RFC 1123 date, always in GMT.
fn http_date(text: &str) -> Option<i64> {
    DateTime::strptime("%a, %d %b %Y %H:%M:%S GMT", text).ok().and_then(utc_seconds)
}

fn utc_seconds(time: DateTime) -> Option<i64> {
    TimeZone::UTC.to_timestamp(time).ok().map(|time| time.as_second())
}
