//! What the emulated service answers, before it is written to a connection.

use bytes::Bytes;
use http::StatusCode;
use serde_json::json;

use super::group::GroupError;
use super::store::StoreError;

/// An answer: status, headers beyond those that every answer has, body.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: StatusCode,
    pub headers: Vec<(&'static str, String)>,
    pub body: Bytes,
}

/// A refusal with SLS's code and a sentence for the reader.
#[derive(Debug)]
pub(super) struct Refusal {
    pub status: StatusCode,
    pub code: &'static str,
    pub message: String,
}

impl Answer {
    /// 200 without a body.
    pub(super) fn empty() -> Answer {
        Answer { status: StatusCode::OK, headers: Vec::new(), body: Bytes::new() }
    }

    /// 200 with JSON.
    pub(super) fn json(value: &serde_json::Value) -> Answer {
        Answer {
            status: StatusCode::OK,
            headers: vec![("content-type", "application/json".to_owned())],
            body: Bytes::from(value.to_string()),
        }
    }

    /// 502 as a proxy writes it.
    pub(super) fn bad_gateway() -> Answer {
        Answer {
            status: StatusCode::BAD_GATEWAY,
            headers: vec![("content-type", "text/html".to_owned())],
            body: Bytes::from_static(
                b"<html><head><title>502 Bad Gateway</title></head></html>\r\n",
            ),
        }
    }
}

impl Refusal {
    pub(super) fn new(status: u16, code: &'static str, message: impl Into<String>) -> Refusal {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Refusal { status, code, message: message.into() }
    }

    pub(super) fn invalid(message: impl Into<String>) -> Refusal {
        Refusal::new(400, "ParameterInvalid", message)
    }
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Answer {
        let body = json!({"errorCode": refusal.code, "errorMessage": refusal.message});
        Answer { status: refusal.status, ..Answer::json(&body) }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Refusal {
        let code = match error {
            StoreError::NoShard(_) => "ShardNotExist",
            StoreError::InvalidCursor { .. } => "InvalidCursor",
            StoreError::ReadOnly(_) => "ShardWriteOnReadOnly",
            StoreError::SameShard(_) => "ParameterInvalid",
        };
        Refusal::new(400, code, error.to_string())
    }
}

impl From<GroupError> for Refusal {
    fn from(error: GroupError) -> Refusal {
        let (status, code) = match error {
            GroupError::NotExistConsumerWithBody(_) => (400, "NotExistConsumerWithBody"),
            GroupError::ConsumerNotMatch { .. } => (404, "ConsumerNotMatch"),
            GroupError::ShardNotExist(_) => (404, "ShardNotExist"),
        };
        Refusal::new(status, code, error.to_string())
    }
}
