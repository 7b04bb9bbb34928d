//! The JSON documents that hold temporary keys.

use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;

use super::Credentials;
use super::error::CredentialError;
use super::http::Reply;
use super::provider::{Expiry, Issued, flaw_of};

/// The document of the metadata service and of a credentials URI.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Document {
    code: Option<String>,
    #[serde(flatten)]
    key: Key,
}

/// The answer of STS to AssumeRole and AssumeRoleWithOIDC.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Assumed {
    credentials: Option<Key>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Key {
    access_key_id: Option<String>,
    access_key_secret: Option<String>,
    security_token: Option<String>,
    expiration: Option<String>,
}

/// An error of STS or of the metadata service. Its message is left where it is: it may
/// repeat what was sent.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Refused {
    code: Option<String>,
    request_id: Option<String>,
}

/// Reads the document of the metadata service or of a credentials URI.
pub(super) fn read_document(reply: &Reply, place: &str) -> Result<Issued, CredentialError> {
    is_success(reply, place)?;
    let document: Document = parse(&reply.body, place)?;
    match document.code {
        Some(code) if code != "Success" => {
            let problem = format!("the answer has Code {} in place of Success", word(&code));
            Err(CredentialError::Fetch { place: place.to_owned(), problem, source: None })
        }
        _ => issued(document.key, reply.now, place),
    }
}

/// Reads the answer of STS.
pub(super) fn read_assumed(reply: &Reply, place: &str) -> Result<Issued, CredentialError> {
    is_success(reply, place)?;
    let assumed: Assumed = parse(&reply.body, place)?;
    let key = assumed.credentials.ok_or_else(|| garbage(place, "has no Credentials"))?;
    issued(key, reply.now, place)
}

/// Turns any status but 200 into an error with what can be shown of the answer.
pub(super) fn is_success(reply: &Reply, place: &str) -> Result<(), CredentialError> {
    let Reply { status, body, .. } = reply;
    if *status == 200 {
        return Ok(());
    }
    let mut problem = format!("status {status}");
    if let Ok(refused) = serde_json::from_slice::<Refused>(body) {
        if let Some(code) = &refused.code {
            problem.push_str(&format!(", {}", word(code)));
        }
        if let Some(id) = &refused.request_id {
            problem.push_str(&format!(", request {}", word(id)));
        }
    }
    let place = place.to_owned();
    // Asked the same, it answers the same; unless it is overloaded.
    Err(if (400..500).contains(status) && !matches!(status, 408 | 429) {
        CredentialError::Unusable { place, problem }
    } else {
        CredentialError::Fetch { place, problem, source: None }
    })
}

fn parse<'a, T: Deserialize<'a>>(body: &'a [u8], place: &str) -> Result<T, CredentialError> {
    // What serde says may quote a value.
    serde_json::from_slice(body).map_err(|_| garbage(place, "is not the JSON it should be"))
}

fn issued(key: Key, now: Timestamp, place: &str) -> Result<Issued, CredentialError> {
    let credentials = Credentials {
        key_id: key.access_key_id.unwrap_or_default(),
        key_secret: key.access_key_secret.unwrap_or_default(),
        security_token: key.security_token.filter(|token| !token.is_empty()),
    };
    if let Some(problem) = flaw_of(&credentials) {
        return Err(garbage(place, &format!("cannot be used: {problem}")));
    }
    let expiry = match key.expiration.as_deref().filter(|time| !time.is_empty()) {
        None => None,
        Some(time) => {
            let at: Timestamp =
                time.parse().map_err(|_| garbage(place, "has an Expiration that is no time"))?;
            let left = Duration::try_from(at.duration_since(now)).unwrap_or_default();
            Some(Expiry { at, left })
        }
    };
    Ok(Issued { credentials, expiry })
}

fn garbage(place: &str, problem: &str) -> CredentialError {
    let problem = format!("the answer {problem}");
    CredentialError::Fetch { place: place.to_owned(), problem, source: None }
}

/// A code or an id from outside, cut down to what one is made of.
pub(super) fn word(text: &str) -> String {
    let fits = |c: &char| c.is_ascii_alphanumeric() || "._-".contains(*c);
    text.chars().filter(fits).take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, body: &str) -> Reply {
        let now = "2026-01-31T08:00:00Z".parse().expect("a time");
        Reply { status, body: body.as_bytes().to_vec(), now }
    }

    const KEY: &str =
        r#""AccessKeyId":"STS.id","AccessKeySecret":"hidden1","SecurityToken":"hidden2""#;

    #[test]
    fn the_time_left_is_counted_by_the_clock_of_the_answer() {
        let body = format!(r#"{{{KEY},"Expiration":"2026-01-31T14:00:00Z","Code":"Success"}}"#);
        let issued = read_document(&reply(200, &body), "here").expect("a key");
        let expiry = issued.expiry.expect("it expires");
        assert_eq!(expiry.left, Duration::from_secs(6 * 3600));
        let body = format!(r#"{{{KEY},"Expiration":"2026-01-31T07:00:00Z"}}"#);
        let issued = read_document(&reply(200, &body), "here").expect("a key");
        assert_eq!(issued.expiry.expect("it expires").left, Duration::ZERO);
        let body = format!(r#"{{"Credentials":{{{KEY}}}}}"#);
        let issued = read_assumed(&reply(200, &body), "here").expect("a key");
        assert!(issued.expiry.is_none());
        assert_eq!(issued.credentials.security_token.as_deref(), Some("hidden2"));
    }

    #[test]
    fn what_is_no_key_is_refused_without_being_shown() {
        for (status, body, says) in [
            (200, "hidden".to_owned(), "not the JSON"),
            (200, r#"["hidden"]"#.to_owned(), "not the JSON"),
            (200, r#"{"AccessKeyId":{"hidden":1}}"#.to_owned(), "not the JSON"),
            (200, r#"{"AccessKeyId":"id"}"#.to_owned(), "the access key secret is empty"),
            (200, format!(r#"{{{KEY},"Code":"Failed"}}"#), "Code Failed"),
            (200, format!(r#"{{{KEY},"Expiration":"hidden"}}"#), "no time"),
            (200, KEY.replace("hidden2", "hid den").replace("\"A", "{\"A") + "}", "JSON"),
            (404, format!("{{{KEY}}}"), "status 404"),
            (
                403,
                r#"{"Code":"NoPermission","RequestId":"R-1","Message":"hidden"}"#.to_owned(),
                "status 403, NoPermission, request R-1",
            ),
            (503, String::new(), "tried again"),
        ] {
            let error = read_document(&reply(status, &body), "here").err().expect(&body);
            let text = format!("{} {error:?}", error.in_full());
            assert!(text.contains(says) && text.contains("here"), "{text}");
            assert!(!text.contains("hid"), "{text}");
        }
        let error = read_assumed(&reply(200, "{}"), "here").err().expect("no key");
        assert!(error.to_string().contains("no Credentials"));
    }
}
