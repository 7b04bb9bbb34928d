//! Error answers of SLS, and the one table that says what each of them means.

use std::fmt;
use std::time::Duration;

use super::error::{Advice, Context, RETRY_AFTER};

/// An error answer: `{"errorCode": …, "errorMessage": …}`, or what a proxy in between
/// made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What was asked.
    pub call: Context,
    /// The HTTP status.
    pub status: u16,
    /// `errorCode` as SLS spells it; empty when the body is not JSON.
    pub error_code: String,
    /// `errorMessage`, or the beginning of a body that is not JSON; one line, shortened.
    pub message: String,
    /// `x-log-requestid`; empty when the answer had none.
    pub request_id: String,
    /// The server's time, seconds since the epoch, where it sent a `Date`.
    pub date: Option<i64>,
    meaning: &'static Meaning,
    retry_after: Option<Duration>,
}

/// The parts of an error answer as received.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// The HTTP status.
    pub status: u16,
    /// The body, or its beginning.
    pub body: &'a [u8],
    /// `x-log-requestid`, or empty.
    pub request_id: &'a str,
    /// `Date`, seconds since the epoch.
    pub date: Option<i64>,
    /// `Retry-After` in whole seconds.
    pub retry_after: Option<u64>,
}

impl Refusal {
    /// Reads an error answer. A body that is not JSON leaves only the status to go by.
    pub fn new(call: Context, answer: Answer<'_>) -> Self {
        let (error_code, message) = read_body(answer.body);
        Self {
            call,
            status: answer.status,
            meaning: look_up(answer.status, &error_code, &message),
            error_code,
            message,
            request_id: one_line(answer.request_id, LONGEST_ID),
            date: answer.date,
            retry_after: answer.retry_after.map(Duration::from_secs),
        }
    }

    /// The stable code used in logs, metrics and documents.
    pub fn code(&self) -> &'static str {
        self.meaning.code
    }

    /// What to do about it. `Retry-After` counts up to five minutes.
    pub fn advice(&self) -> Advice {
        let wait = |least: Duration| self.retry_after.unwrap_or(least).clamp(least, LONGEST_WAIT);
        match self.meaning.advice {
            Advice::Retry { after } => Advice::Retry { after: wait(after) },
            Advice::Throttled { after } => Advice::Throttled { after: wait(after) },
            advice => advice,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: refused with {}", self.call, self.status)?;
        for part in [&self.error_code, &self.message] {
            if !part.is_empty() {
                write!(out, " {part}")?;
            }
        }
        if !self.request_id.is_empty() {
            write!(out, " (request {})", self.request_id)?;
        }
        write!(out, ", {}", self.meaning.hint)
    }
}

const LONGEST_WAIT: Duration = Duration::from_secs(300);
const LONGEST_CODE: usize = 64;
const LONGEST_ID: usize = 64;
const LONGEST_MESSAGE: usize = 300;

/// Quotas are counted by the second or the minute.
const THROTTLED: Advice = Advice::Throttled { after: Duration::from_secs(2) };
const RETRY: Advice = Advice::Retry { after: RETRY_AFTER };

/// What an answer means to us.
#[derive(Debug, PartialEq, Eq)]
struct Meaning {
    code: &'static str,
    advice: Advice,
    hint: &'static str,
}

/// When a row of the table applies. Texts are compared in lower case.
enum When {
    /// The errorCode is one of these.
    Code(&'static [&'static str]),
    /// The status is this and the errorCode begins with one of these.
    StatusCode(u16, &'static [&'static str]),
    /// The status is this and the errorCode is the first and the message contains the second.
    Message(u16, &'static str, &'static str),
    /// The status is this and errorCode or message contain this.
    Contains(u16, &'static str),
    /// The status lies between these, both included.
    Status(u16, u16),
}

use When::{Code, Contains, Message, Status, StatusCode};

const fn meaning(code: &'static str, advice: Advice, hint: &'static str) -> Meaning {
    Meaning { code, advice, hint }
}

/// From the particular to the general; the first row that applies counts. SDKs and
/// servers disagree on spellings (`NotExsit`) and on some statuses, so both are listed
/// and a code that is unmistakable counts under any status.
static TABLE: &[(When, Meaning)] = &[
    (
        Code(&["requesttimeexpired", "requesttimetooskewed"]),
        meaning("sls.clock_skew", Advice::FixClock, "set the clock of this machine"),
    ),
    (Contains(400, "invalidcursor"), INVALID_CURSOR),
    (Message(400, "parameterinvalid", "invalid cursor"), INVALID_CURSOR),
    (
        Code(&["notexistconsumerwithbody"]),
        meaning(
            "sls.consumer_timed_out",
            Advice::Rejoin,
            "the lease on all shards has ended and they are taken anew",
        ),
    ),
    (
        Code(&["consumergroupalreadyexist", "consumergroupalreadyexists"]),
        meaning("sls.group_exists", Advice::Operator, "the existing consumer group can be used"),
    ),
    (
        Code(&["consumergroupnotexist", "consumergroupnotexsit"]),
        meaning(
            "sls.group_unknown",
            Advice::Rejoin,
            "the consumer group was deleted or never made",
        ),
    ),
    (
        Code(&["consumernotexist", "consumernotexsit", "consumernotmatch"]),
        meaning("sls.not_owner", Advice::NotOwner, "another consumer holds the shard by now"),
    ),
    (
        Code(&["shardnotexist", "shardnotexsit"]),
        meaning("sls.shard_unknown", Advice::NotOwner, "the shard is gone, or never was"),
    ),
    (
        Code(&["projectnotexist", "projectnotexists"]),
        meaning(
            "sls.project_unknown",
            Advice::Operator,
            "check the project's name and that the endpoint is the one of its region",
        ),
    ),
    (
        Code(&["logstorenotexist", "logstorenotexists"]),
        meaning("sls.logstore_unknown", Advice::Operator, "check the logstore's name"),
    ),
    (
        StatusCode(401, &["signaturenotmatch"]),
        meaning(
            "sls.signature_mismatch",
            Advice::RefreshCredentials,
            "check the access key secret and the region used for signing",
        ),
    ),
    (
        StatusCode(401, &["invalidaccesskeyid"]),
        meaning(
            "sls.key_unknown",
            Advice::RefreshCredentials,
            "check the access key id and that the key is enabled",
        ),
    ),
    (
        StatusCode(401, &["securitytoken"]),
        meaning("sls.token_expired", Advice::RefreshCredentials, "renew the temporary credentials"),
    ),
    (
        Status(401, 401),
        meaning(
            "sls.unauthorized",
            Advice::RefreshCredentials,
            "check the access key and, for temporary credentials, their age",
        ),
    ),
    (
        Code(&["consumergroupquotaexceed"]),
        meaning(
            "sls.group_quota",
            Advice::Operator,
            "the logstore has no room for another consumer group, delete one that is not used",
        ),
    ),
    (Contains(403, "quotaexceed"), QUOTA),
    (Contains(403, "exceedquota"), QUOTA),
    (Contains(403, "qps exceed"), QUOTA),
    (Status(429, 429), QUOTA),
    (
        Status(403, 403),
        meaning(
            "sls.forbidden",
            Advice::Operator,
            "grant the RAM user or role the actions that consuming needs",
        ),
    ),
    (
        Status(407, 407),
        meaning("sls.proxy_refused", Advice::Operator, "check the user and password of the proxy"),
    ),
    (Status(408, 408), UNAVAILABLE),
    (Status(500, 599), UNAVAILABLE),
    (
        Status(300, 399),
        meaning(
            "sls.redirected",
            Advice::Operator,
            "redirects are not followed, check that the endpoint is the one of SLS",
        ),
    ),
    (
        Status(0, u16::MAX),
        meaning(
            "sls.refused",
            Advice::Operator,
            "check the names in the configuration, and report this if they are right",
        ),
    ),
];

const INVALID_CURSOR: Meaning = meaning(
    "sls.invalid_cursor",
    Advice::InvalidCursor,
    "the position is no longer kept, or is one of another shard",
);
const QUOTA: Meaning = meaning(
    "sls.throttled",
    THROTTLED,
    "the quota is used up for the moment, ask for more if this goes on",
);
const UNAVAILABLE: Meaning = meaning("sls.unavailable", RETRY, "it is tried again");

fn look_up(status: u16, error_code: &str, message: &str) -> &'static Meaning {
    let code = error_code.to_ascii_lowercase();
    let message = message.to_ascii_lowercase();
    let applies = |when: &When| match *when {
        Code(codes) => codes.contains(&code.as_str()),
        StatusCode(of, codes) => status == of && codes.iter().any(|start| code.starts_with(start)),
        Message(of, name, part) => status == of && code == name && message.contains(part),
        Contains(of, part) => status == of && (code.contains(part) || message.contains(part)),
        Status(from, to) => (from..=to).contains(&status),
    };
    let fallback = TABLE.len() - 1;
    let row = TABLE.iter().position(|(when, _)| applies(when)).unwrap_or(fallback);
    &TABLE[row].1
}

fn read_body(body: &[u8]) -> (String, String) {
    let text = |value: Option<&serde_json::Value>| {
        value.and_then(serde_json::Value::as_str).unwrap_or_default().to_owned()
    };
    match serde_json::from_slice::<serde_json::Value>(body) {
        Ok(json) if json.is_object() => (
            one_line(&text(json.get("errorCode")), LONGEST_CODE),
            one_line(&text(json.get("errorMessage")), LONGEST_MESSAGE),
        ),
        _ => (String::new(), one_line(&String::from_utf8_lossy(body), LONGEST_MESSAGE)),
    }
}

/// One line without control characters, at most `longest` characters and a mark.
fn one_line(text: &str, longest: usize) -> String {
    let mut out = String::new();
    let mut kept = 0;
    let mut blank = false;
    for character in text.chars() {
        if character.is_whitespace() || character.is_control() {
            blank = kept > 0;
            continue;
        }
        if kept >= longest {
            out.push('…');
            break;
        }
        if std::mem::take(&mut blank) {
            out.push(' ');
            kept += 1;
        }
        out.push(character);
        kept += 1;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: u16, body: &str) -> Refusal {
        let call = Context { operation: "PullLogs", target: "waf/log/0".into() };
        let answer = Answer {
            status,
            body: body.as_bytes(),
            request_id: "R1",
            date: None,
            retry_after: None,
        };
        Refusal::new(call, answer)
    }

    #[test]
    fn display_names_call_answer_and_remedy() {
        let text = refusal(404, r#"{"errorCode":"LogStoreNotExist","errorMessage":"no l"}"#);
        assert_eq!(
            text.to_string(),
            "PullLogs waf/log/0: refused with 404 LogStoreNotExist no l (request R1), \
             check the logstore's name"
        );
    }

    #[test]
    fn both_spellings_and_any_case_count() {
        for code in ["ConsumerNotExist", "ConsumerNotExsit", "CONSUMERNOTMATCH", "shardnotexsit"] {
            let refusal = refusal(404, &format!(r#"{{"errorCode":"{code}"}}"#));
            assert_eq!(refusal.advice(), Advice::NotOwner, "{code}");
        }
    }

    #[test]
    fn an_expired_cursor_is_known_in_all_its_forms() {
        for body in [
            r#"{"errorCode":"InvalidCursor","errorMessage":"x"}"#,
            r#"{"errorCode":"SLSInvalidCursor"}"#,
            r#"{"errorCode":"ParameterInvalid","errorMessage":"Invalid cursor MTA="}"#,
            r#"{"errorCode":"BadRequest","errorMessage":"InvalidCursor: MTA="}"#,
        ] {
            assert_eq!(refusal(400, body).advice(), Advice::InvalidCursor, "{body}");
        }
        let other = r#"{"errorCode":"ParameterInvalid","errorMessage":"count"}"#;
        assert_eq!(refusal(400, other).advice(), Advice::Operator);
    }

    #[test]
    fn a_body_that_is_not_json_leaves_the_status() {
        let html = refusal(502, "<html>\r\n<body>\u{1b}[31m502 Bad Gateway</body></html>");
        assert_eq!((html.code(), html.error_code.as_str()), ("sls.unavailable", ""));
        assert_eq!(html.message, "<html> <body> [31m502 Bad Gateway</body></html>");
        for body in ["", "null", "[]", "{", r#"{"errorCode":7}"#] {
            assert_eq!(refusal(503, body).advice(), RETRY, "{body}");
            assert_eq!(refusal(403, body).code(), "sls.forbidden", "{body}");
        }
    }

    #[test]
    fn long_messages_are_shortened_between_characters() {
        let refusal = refusal(500, &"é ".repeat(10_000));
        assert!(refusal.message.chars().count() <= LONGEST_MESSAGE + 2);
        assert!(refusal.message.ends_with('…'));
    }

    #[test]
    fn retry_after_is_honoured_within_reason() {
        for (sent, expected) in [(None, 2), (Some(0), 2), (Some(30), 30), (Some(1 << 40), 300)] {
            let call = Context { operation: "PullLogs", target: "p".into() };
            let answer =
                Answer { status: 429, body: b"", request_id: "", date: None, retry_after: sent };
            let after = Duration::from_secs(expected);
            assert_eq!(Refusal::new(call, answer).advice(), Advice::Throttled { after });
        }
    }

    #[test]
    fn every_status_has_a_meaning() {
        for status in 0..=999 {
            assert!(refusal(status, "").code().starts_with("sls."));
        }
    }
}
