//! A request as it arrived, and which operation of the SLS API it calls.

use bytes::Bytes;
use http::Method;

use super::answer::Refusal;
use super::faults::Operation;

/// A request, read whole.
#[derive(Debug)]
pub(super) struct Request {
    pub method: Method,
    /// Decoded path.
    pub path: String,
    /// Decoded query parameters.
    pub query: Vec<(String, String)>,
    /// Headers with lower-case names, as sent.
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
}

/// The operations the emulator knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Call {
    GetProject,
    GetLogStore { logstore: String },
    ListShards { logstore: String },
    GetCursor { logstore: String, shard: u32 },
    GetCursorTime { logstore: String, shard: u32 },
    PullLogs { logstore: String, shard: u32 },
    PutLogs { logstore: String },
    CreateGroup { logstore: String },
    ListGroups { logstore: String },
    UpdateGroup { logstore: String, group: String },
    DeleteGroup { logstore: String, group: String },
    GetCheckpoints { logstore: String, group: String },
    Heartbeat { logstore: String, group: String },
    UpdateCheckpoint { logstore: String, group: String },
}

impl Request {
    /// Takes the head of an HTTP request and its body apart.
    pub(super) fn new(parts: &http::request::Parts, body: Bytes) -> Request {
        let query = parts.uri.query().unwrap_or_default();
        let query = query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                (decode(key, true), decode(value, true))
            })
            .collect();
        let header = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
            (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        Request {
            method: parts.method.clone(),
            path: decode(parts.uri.path(), false),
            query,
            headers: parts.headers.iter().map(header).collect(),
            body,
        }
    }

    /// A header by its lower-case name.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// A query parameter.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        find(&self.query, name)
    }

    /// A query parameter that must be there.
    pub(super) fn required(&self, name: &str) -> Result<&str, Refusal> {
        self.parameter(name).ok_or_else(|| Refusal::invalid(format!("parameter {name} is missing")))
    }

    /// The operation.
    pub(super) fn call(&self) -> Result<Call, Refusal> {
        let path = self.path.trim_start_matches('/');
        let segments: Vec<&str> = if path.is_empty() { vec![] } else { path.split('/').collect() };
        if segments.contains(&"") {
            return Err(self.no_such_call());
        }
        let kind = self.parameter("type").unwrap_or_default();
        let name = |segment: &str| segment.to_owned();
        let call = match (self.method.as_str(), segments.as_slice()) {
            ("GET", []) => Call::GetProject,
            ("GET", ["logstores", ls]) => Call::GetLogStore { logstore: name(ls) },
            ("POST", ["logstores", ls] | ["logstores", ls, "shards", "lb"]) => {
                Call::PutLogs { logstore: name(ls) }
            }
            ("GET", ["logstores", ls, "shards"]) => Call::ListShards { logstore: name(ls) },
            ("GET", ["logstores", ls, "shards", shard]) => {
                let logstore = name(ls);
                let shard = number(shard)?;
                match kind {
                    "cursor" => Call::GetCursor { logstore, shard },
                    "cursor_time" => Call::GetCursorTime { logstore, shard },
                    "log" | "logs" => Call::PullLogs { logstore, shard },
                    _ => return Err(unknown(kind)),
                }
            }
            ("POST", ["logstores", ls, "consumergroups"]) => {
                Call::CreateGroup { logstore: name(ls) }
            }
            ("GET", ["logstores", ls, "consumergroups"]) => Call::ListGroups { logstore: name(ls) },
            (method, ["logstores", ls, "consumergroups", group]) => {
                let (logstore, group) = (name(ls), name(group));
                match (method, kind) {
                    ("GET", _) => Call::GetCheckpoints { logstore, group },
                    ("PUT", _) => Call::UpdateGroup { logstore, group },
                    ("DELETE", _) => Call::DeleteGroup { logstore, group },
                    ("POST", "heartbeat") => Call::Heartbeat { logstore, group },
                    ("POST", "checkpoint") => Call::UpdateCheckpoint { logstore, group },
                    ("POST", _) => return Err(unknown(kind)),
                    _ => return Err(self.no_such_call()),
                }
            }
            _ => return Err(self.no_such_call()),
        };
        Ok(call)
    }

    fn no_such_call(&self) -> Refusal {
        let message = format!("{} {} is not an operation of this service", self.method, self.path);
        Refusal::new(405, "InvalidMethod", message)
    }
}

impl Call {
    /// The logstore it names; none for the project itself.
    pub(super) fn logstore(&self) -> Option<&str> {
        match self {
            Call::GetProject => None,
            Call::GetLogStore { logstore }
            | Call::ListShards { logstore }
            | Call::GetCursor { logstore, .. }
            | Call::GetCursorTime { logstore, .. }
            | Call::PullLogs { logstore, .. }
            | Call::PutLogs { logstore }
            | Call::CreateGroup { logstore }
            | Call::ListGroups { logstore }
            | Call::UpdateGroup { logstore, .. }
            | Call::DeleteGroup { logstore, .. }
            | Call::GetCheckpoints { logstore, .. }
            | Call::Heartbeat { logstore, .. }
            | Call::UpdateCheckpoint { logstore, .. } => Some(logstore),
        }
    }

    /// The SLS API's name of it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Call::GetProject => "GetProject",
            Call::GetLogStore { .. } => "GetLogStore",
            Call::ListShards { .. } => "ListShards",
            Call::GetCursor { .. } => "GetCursor",
            Call::GetCursorTime { .. } => "GetCursorTime",
            Call::PullLogs { .. } => "PullLogs",
            Call::PutLogs { .. } => "PutLogs",
            Call::CreateGroup { .. } => "CreateConsumerGroup",
            Call::ListGroups { .. } => "ListConsumerGroup",
            Call::UpdateGroup { .. } => "UpdateConsumerGroup",
            Call::DeleteGroup { .. } => "DeleteConsumerGroup",
            Call::GetCheckpoints { .. } => "GetCheckPoint",
            Call::Heartbeat { .. } => "HeartBeat",
            Call::UpdateCheckpoint { .. } => "UpdateCheckPoint",
        }
    }

    /// What faults call it.
    pub(super) fn operation(&self) -> Operation {
        match self {
            Call::PullLogs { .. } => Operation::Pull,
            Call::Heartbeat { .. } => Operation::Heartbeat,
            Call::UpdateCheckpoint { .. } => Operation::Checkpoint,
            other => Operation::Other(other.name()),
        }
    }
}

fn find<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

fn number(shard: &str) -> Result<u32, Refusal> {
    shard.parse().map_err(|_| Refusal::invalid(format!("shard {shard} is not a number")))
}

fn unknown(kind: &str) -> Refusal {
    Refusal::invalid(format!("parameter type={kind} is not known here"))
}

/// Undoes percent-encoding, and in forms also `+` for a blank.
fn decode(text: &str, form: bool) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        let escaped = (byte == b'%').then(|| tail.get(..2)).flatten();
        let value = escaped
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match value {
            Some(value) => {
                out.push(value);
                rest = &tail[2..];
            }
            None => out.push(if form && byte == b'+' { b' ' } else { byte }),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, uri: &str) -> Request {
        let request = http::Request::builder().method(method).uri(uri).body(()).unwrap();
        Request::new(&request.into_parts().0, Bytes::new())
    }

    #[test]
    fn both_encodings_of_a_blank_and_bad_escapes_are_read() {
        let request = request("GET", "/a%20b+c?consumer=a+b%20c%2Bd&empty=&bare&odd=100%zz%4");
        assert_eq!(request.path, "/a b+c");
        assert_eq!(request.parameter("consumer"), Some("a b c+d"));
        assert_eq!(request.parameter("empty"), Some(""));
        assert_eq!(request.parameter("bare"), Some(""));
        assert_eq!(request.parameter("odd"), Some("100%zz%4"));
    }

    #[test]
    fn both_spellings_of_a_pull_are_one_call() {
        let wanted = Call::PullLogs { logstore: "ls".into(), shard: 3 };
        for kind in ["log", "logs"] {
            let uri = format!("/logstores/ls/shards/3?type={kind}&cursor=x");
            assert_eq!(request("GET", &uri).call().unwrap(), wanted);
        }
    }

    #[test]
    fn unknown_operations_are_named() {
        let refusal = request("PATCH", "/logstores/ls").call().unwrap_err();
        assert_eq!(refusal.code, "InvalidMethod");
        let refusal = request("PUT", "/logstores/ls/consumergroups/").call().unwrap_err();
        assert_eq!(refusal.code, "InvalidMethod", "an empty name is no group");
        assert!(request("GET", "/logstores/ls/shards/x?type=log").call().is_err());
        assert!(request("POST", "/logstores/ls/consumergroups/g?type=leave").call().is_err());
    }
}
