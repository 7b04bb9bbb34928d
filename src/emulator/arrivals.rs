//! What arrived at a receiver, compared field by field with what was served.

use std::collections::HashMap;

use super::oracle::{Oracle, Report};
use super::waf::{fields_of, id_of};
use super::workload::Workload;
use crate::sls::wire::LogGroup;
use crate::syslog::body;

/// Reads messages of the `rfc5424` format back and feeds the oracle.
pub struct Arrivals {
    workload: Workload,
    separator: String,
    oracle: Oracle,
    /// The last group of each shard: logs arrive in order, so it serves many of them.
    groups: HashMap<u32, (u64, LogGroup)>,
    notices: Vec<Notice>,
}

/// What the relay itself had to say: the fields of its message by name.
pub type Notice = HashMap<String, String>;

impl Arrivals {
    /// Expects the logs of `workload`.
    pub fn new(workload: Workload, separator: impl Into<String>) -> Self {
        let oracle = Oracle::new(workload.logs_per_shard());
        Self {
            workload,
            separator: separator.into(),
            oracle,
            groups: HashMap::new(),
            notices: Vec::new(),
        }
    }

    /// Takes one message.
    pub fn message(&mut self, message: &[u8]) {
        let fields = body_of(message).and_then(|body| body::decode(body, &self.separator).ok());
        let Some(fields) = fields else { return self.oracle.unknown() };
        if fields.iter().any(|(key, value)| key == b"__topic__" && value == b"sls-relay") {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let notice = fields.iter().map(|(key, value)| (text(key), text(value)));
            let severity = message.get(1..3).map(text).unwrap_or_default();
            self.notices.push(notice.chain([("pri".to_owned(), severity)]).collect());
            return;
        }
        let id = fields.iter().rev().find(|(key, _)| key == b"request_traceid");
        let Some((shard, n)) = id.and_then(|(_, value)| id_of(value)) else {
            return self.oracle.unknown();
        };
        let intact = self.is_intact(shard, n, &fields);
        self.oracle.delivered(shard, n, intact);
    }

    /// The account so far.
    pub fn report(&self) -> Report {
        self.oracle.report()
    }

    /// Up to `limit` logs that have not arrived: shard and number.
    pub fn missing(&self, limit: usize) -> Vec<(u32, u64)> {
        self.oracle.missing(limit)
    }

    /// What the relay itself had to say, in the order of arrival.
    pub fn notices(&self) -> &[Notice] {
        &self.notices
    }

    /// Whether every log has arrived at least once.
    pub fn is_complete(&self) -> bool {
        self.oracle.is_complete()
    }

    fn is_intact(&mut self, shard: u32, n: u64, fields: &[(Vec<u8>, Vec<u8>)]) -> bool {
        let number = self.workload.group_of(n);
        if self.groups.get(&shard).is_none_or(|(known, _)| *known != number) {
            self.groups.insert(shard, (number, self.workload.group(shard, number)));
        }
        let Some((_, group)) = self.groups.get(&shard) else { return false };
        let index = n - self.workload.first_of(number);
        let Some(log) = usize::try_from(index).ok().and_then(|index| group.logs.get(index)) else {
            return false;
        };
        let expected = fields_of(log, group);
        expected.len() == fields.len()
            && expected.iter().zip(fields).all(|(a, b)| a.0 == b.0 && a.1 == b.1)
    }
}

/// The MSG part of an RFC 5424 message: what follows the structured data.
pub fn body_of(message: &[u8]) -> Option<&[u8]> {
    let mut rest = message;
    for _ in 0..6 {
        let space = rest.iter().position(|byte| *byte == b' ')?;
        rest = &rest[space + 1..];
    }
    if let Some(after) = rest.strip_prefix(b"-") {
        return after.strip_prefix(b" ");
    }
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in rest.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b']' if !quoted && rest.get(at + 1) != Some(&b'[') => {
                return rest[at + 1..].strip_prefix(b" ");
            }
            _ => {}
        }
    }
    None
}
