//! The lines of the protocol, as both sides read and write them.

use std::io;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// Version of the protocol.
pub const VERSION: u32 = 1;
/// Bytes of the longest request, its line end included.
pub const LONGEST_REQUEST: usize = 64 << 10;
/// Bytes of the longest line of an answer, its line end included.
pub const LONGEST_LINE: usize = 32 << 20;

/// How the server begins.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Hello {
    /// Version of the protocol it speaks.
    pub version: u32,
    /// Its name and version, such as `sls-relay 0.1.0`.
    pub program: String,
    /// Absolute path of the spool it owns.
    pub dir: String,
}

/// Why there is no answer, or no more of it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    code: &'static str,
    message: String,
}

impl Refusal {
    /// A refusal with a stable code, such as `spool.held`, and what is wrong and what to do,
    /// in the form of an error's text. It holds no secret.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// What programs tell it by.
    pub fn code(&self) -> &'static str {
        self.code
    }
}

/// The answer could not be passed on: nobody is there to see this either.
impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::new("control.cut_off", error.to_string())
    }
}

/// What the server sends.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Message {
    Hello(Hello),
    Line(Value),
    Progress { done: u64, of: u64 },
    End(Map<String, Value>),
    Error { code: String, message: String },
}

/// Reads a line of the server, without its end.
pub(super) fn message(line: &[u8]) -> Result<Message, String> {
    serde_json::from_slice(line).map_err(|error| error.to_string())
}

/// Reads the line of a request, without its end: what was asked, without the version.
pub(super) fn request(line: &[u8]) -> Result<Value, Refusal> {
    let object: Value = serde_json::from_slice(line)
        .map_err(|error| bad_request(&format!("the request is not understood: {error}")))?;
    let Value::Object(mut members) = object else {
        return Err(bad_request("the request is no JSON object"));
    };
    match members.remove("version") {
        Some(version) if version == VERSION => Ok(Value::Object(members)),
        given => {
            let given = match given {
                Some(Value::Number(number)) => format!("version {number}"),
                Some(_) => "a version that is no number".to_owned(),
                None => "no version".to_owned(),
            };
            Err(Refusal::new(
                "control.version",
                format!(
                    "the request has {given} and this relay speaks version {VERSION} of the control protocol; use the sls-relay command of the same installation as the relay, and restart the relay after an upgrade"
                ),
            ))
        }
    }
}

pub(super) fn bad_request(what: &str) -> Refusal {
    Refusal::new(
        "control.bad_request",
        format!("{what}; send one line, a JSON object such as {{\"version\":1,\"ask\":\"ping\"}}"),
    )
}

/// The line of a request, with its version and end.
pub(super) fn request_line(mut members: Map<String, Value>) -> Vec<u8> {
    members.insert("version".to_owned(), VERSION.into());
    encoded(&Value::Object(members))
}

pub(super) fn hello_line(hello: &Hello) -> Vec<u8> {
    encoded(&json!({ "hello": hello }))
}

pub(super) fn part_line(part: &Value) -> Vec<u8> {
    // Without a copy of the part, which may be large.
    let mut line = b"{\"line\":".to_vec();
    line.extend_from_slice(part.to_string().as_bytes());
    line.extend_from_slice(b"}\n");
    line
}

pub(super) fn progress_line(done: u64, of: u64) -> Vec<u8> {
    encoded(&json!({ "progress": { "done": done, "of": of } }))
}

/// The last line. A summary is an object: anything else is put into one.
pub(super) fn last_line(outcome: Result<Value, Refusal>) -> Vec<u8> {
    encoded(&match outcome {
        Ok(end @ Value::Object(_)) => json!({ "end": end }),
        Ok(Value::Null) => json!({ "end": {} }),
        Ok(other) => json!({ "end": { "result": other } }),
        Err(Refusal { code, message }) => json!({ "error": { "code": code, "message": message } }),
    })
}

fn encoded(value: &Value) -> Vec<u8> {
    let mut line = value.to_string().into_bytes();
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_comes_out_as_it_went_in_and_any_other_version_is_told_what_to_do() {
        let Value::Object(members) = json!({ "ask": "list", "from": 7 }) else { unreachable!() };
        let line = request_line(members);
        assert_eq!(request(&line).unwrap(), json!({ "ask": "list", "from": 7 }));
        for (other, said) in [
            (r#"{"ask":"ping"}"#, "no version"),
            (r#"{"version":2,"ask":"ping"}"#, "version 2"),
            (r#"{"version":"1"}"#, "no number"),
        ] {
            let refusal = request(other.as_bytes()).unwrap_err();
            assert_eq!(refusal.code(), "control.version");
            assert!(refusal.to_string().contains(said), "{refusal}");
            assert!(refusal.to_string().contains("restart the relay"), "{refusal}");
        }
    }

    #[test]
    fn every_line_of_the_server_is_understood_by_the_client() {
        let hello = Hello { version: 1, program: "p 1".to_owned(), dir: "/s".to_owned() };
        let read = |line: &[u8]| message(line.strip_suffix(b"\n").expect("a line end")).unwrap();
        assert!(matches!(read(&hello_line(&hello)), Message::Hello(same) if same == hello));
        for part in [json!(null), json!("a\nb"), json!({ "x": [1, 2.5, "ü"] })] {
            let line = part_line(&part);
            assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
            assert!(matches!(read(&line), Message::Line(same) if same == part));
        }
        assert!(matches!(
            read(&progress_line(3, u64::MAX)),
            Message::Progress { done: 3, of: u64::MAX }
        ));
        for end in [json!({ "n": 1 }), json!(null), json!(5)] {
            assert!(matches!(read(&last_line(Ok(end))), Message::End(_)));
        }
        let refused = last_line(Err(Refusal::new("a.b", "no")));
        let Message::Error { code, message } = read(&refused) else { panic!("an error") };
        assert_eq!((code.as_str(), message.as_str()), ("a.b", "no"));
    }
}
