//! What was asked of the service and how it answered, for tests to look at.

use std::collections::VecDeque;

use bytes::Bytes;

use super::answer::Answer;
use super::request::{Call, Request};

/// Requests kept; older ones are forgotten.
const KEPT: usize = 20_000;
/// Longer bodies are not kept.
const MAX_BODY_BYTES: usize = 4096;

/// One request and the answer that was made for it.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The SLS API's name of the operation; empty for what is none.
    pub call: &'static str,
    /// The shard in its path or body.
    pub shard: Option<u32>,
    /// `User-Agent`; consumers put their names there.
    pub agent: String,
    /// Status of the answer; none where a fault left the request without one.
    pub status: Option<u16>,
    parameters: Vec<(String, String)>,
    body: Bytes,
    answer: Bytes,
}

impl Asked {
    pub(super) fn new(request: &Request, call: Option<&Call>, shard: Option<u32>) -> Asked {
        Asked {
            call: call.map_or("", Call::name),
            shard,
            agent: request.header("user-agent").unwrap_or_default().to_owned(),
            status: None,
            parameters: request.query.clone(),
            body: kept(&request.body),
            answer: Bytes::new(),
        }
    }

    /// The same with its answer; the log groups of a pull are not kept.
    pub(super) fn answered(self, answer: &Answer) -> Asked {
        let answer_body = if self.call == "PullLogs" { Bytes::new() } else { kept(&answer.body) };
        Asked { status: Some(answer.status.as_u16()), answer: answer_body, ..self }
    }

    /// A query parameter.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The log groups a pull asked for.
    pub fn count(&self) -> Option<u32> {
        self.parameter("count")?.parse().ok()
    }

    /// The shards that a heartbeat reported.
    pub fn reported(&self) -> Option<Vec<u32>> {
        serde_json::from_slice(&self.body).ok()
    }

    /// The shards that the answer to a heartbeat listed.
    pub fn held(&self) -> Option<Vec<u32>> {
        serde_json::from_slice(&self.answer).ok()
    }
}

/// The newest requests, oldest first.
#[derive(Debug, Default)]
pub(super) struct Log {
    requests: VecDeque<Asked>,
}

impl Log {
    pub(super) fn add(&mut self, asked: Asked) {
        if self.requests.len() >= KEPT {
            self.requests.pop_front();
        }
        self.requests.push_back(asked);
    }

    pub(super) fn all(&self) -> Vec<Asked> {
        self.requests.iter().cloned().collect()
    }
}

fn kept(body: &Bytes) -> Bytes {
    if body.len() <= MAX_BODY_BYTES { body.clone() } else { Bytes::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_requests_make_room() {
        let mut log = Log::default();
        for number in 0..KEPT + 5 {
            let request = http::Request::builder().uri(format!("/?n={number}")).body(()).unwrap();
            let request = Request::new(&request.into_parts().0, Bytes::new());
            log.add(Asked::new(&request, None, None));
        }
        let all = log.all();
        assert_eq!(all.len(), KEPT);
        assert_eq!(all[0].parameter("n"), Some("5"));
    }
}
