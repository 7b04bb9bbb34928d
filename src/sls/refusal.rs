//! Error answers of SLS. What each of them means stands in one table.

mod table;

use std::fmt;
use std::time::Duration;

use super::error::{Advice, Context};
use table::{Meaning, look_up};

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
    /// `Retry-After`: seconds from the answer on.
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

    /// How long the server asked to be left alone (`Retry-After`); five minutes at most.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after.map(|after| after.min(LONGEST_WAIT))
    }

    /// What to do about it. `Retry-After` counts up to five minutes.
    pub fn advice(&self) -> Advice {
        let wait = |least: Duration| self.retry_after().unwrap_or(least).max(least);
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
        write!(out, ", {}", self.meaning.hint.replace("{action}", self.call.ram_action()))
    }
}

const LONGEST_WAIT: Duration = Duration::from_secs(300);
const LONGEST_CODE: usize = 64;
const LONGEST_ID: usize = 64;
const LONGEST_MESSAGE: usize = 300;

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
            assert_eq!(refusal(503, body).code(), "sls.unavailable", "{body}");
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
