//! The protobuf messages of SLS (`sls_logs.proto`, proto2), written by hand.
//!
//! Every string is declared as bytes: field values come from attackers and are
//! often not UTF-8, and a decoder that insists would reject the whole answer.
//! Unknown fields are skipped. Reading logs out of an answer without allocating
//! is the business of [`super::walk`]; these types serve whoever writes answers.

use bytes::Bytes;

/// A PullLogs answer after decompression: the log groups in cursor order.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LogGroupList {
    /// Field 1.
    #[prost(message, repeated, tag = "1")]
    pub log_groups: Vec<LogGroup>,
}

/// What one writer sent in one request: logs that share topic, source and tags.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LogGroup {
    /// The logs, in the writer's order.
    #[prost(message, repeated, tag = "1")]
    pub logs: Vec<Log>,
    /// `Category`, reserved.
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub category: Option<Bytes>,
    /// `__topic__`.
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub topic: Option<Bytes>,
    /// `__source__`.
    #[prost(bytes = "bytes", optional, tag = "4")]
    pub source: Option<Bytes>,
    /// `MachineUUID`.
    #[prost(bytes = "bytes", optional, tag = "5")]
    pub machine_uuid: Option<Bytes>,
    /// `__tag__:KEY` pairs.
    #[prost(message, repeated, tag = "6")]
    pub tags: Vec<LogTag>,
}

/// One log: a time and its fields in the writer's order.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Log {
    /// Seconds since the epoch.
    #[prost(uint32, required, tag = "1")]
    pub time: u32,
    /// The fields.
    #[prost(message, repeated, tag = "2")]
    pub contents: Vec<Content>,
    /// Nanoseconds within the second, when the writer set them.
    #[prost(fixed32, optional, tag = "4")]
    pub time_ns: Option<u32>,
}

/// One field of a log.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Content {
    /// Field name.
    #[prost(bytes = "bytes", required, tag = "1")]
    pub key: Bytes,
    /// Field value.
    #[prost(bytes = "bytes", required, tag = "2")]
    pub value: Bytes,
}

/// One tag of a log group.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LogTag {
    /// Tag name.
    #[prost(bytes = "bytes", required, tag = "1")]
    pub key: Bytes,
    /// Tag value.
    #[prost(bytes = "bytes", required, tag = "2")]
    pub value: Bytes,
}
