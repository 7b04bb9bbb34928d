//! What the relay itself has to tell every receiver: logs that will not come. A notice is a
//! batch of one log, so that it is durable, in its place among the logs of its shard, and
//! delivered like them.

use bytes::Bytes;
use jiff::Timestamp;
use prost::Message as _;

use crate::sls::wire::{Content, Log, LogGroup, LogGroupList};
use crate::spool::{Batch, BatchHeader, Compression};

/// Topic of a notice. SLS compresses its answers, and a notice is not compressed: no log of
/// a logstore can pass for one.
const TOPIC: &[u8] = b"sls-relay";

/// One notice.
#[derive(Debug)]
pub(crate) struct Notice<'a> {
    /// `gap` or `unreadable`.
    pub(crate) what: &'static str,
    /// The same code as in the relay's own log.
    pub(crate) code: &'static str,
    /// For people.
    pub(crate) message: &'a str,
    /// Details, in order.
    pub(crate) fields: Vec<(&'static str, String)>,
}

impl Notice<'_> {
    /// The notice as the batch that moves its shard from `cursor` to `next_cursor`.
    pub(crate) fn batch(&self, cursor: &str, next_cursor: &str) -> Batch {
        let now = Timestamp::now();
        let time = u32::try_from(now.as_second()).unwrap_or(0);
        let first = [("notice", self.what), ("code", self.code), ("message", self.message)];
        let more = self.fields.iter().map(|(key, value)| (*key, value.as_str()));
        let content = |(key, value): (&str, &str)| Content {
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: Bytes::copy_from_slice(value.as_bytes()),
        };
        let contents = first.into_iter().chain(more).map(content).collect();
        let group = LogGroup {
            logs: vec![Log { time, contents, time_ns: None }],
            topic: Some(Bytes::from_static(TOPIC)),
            source: Some(Bytes::from_static(TOPIC)),
            ..LogGroup::default()
        };
        let body = LogGroupList { log_groups: vec![group] }.encode_to_vec();
        Batch {
            cursor: cursor.to_owned(),
            next_cursor: next_cursor.to_owned(),
            first_group_cursor: None,
            groups: 1,
            logs: 1,
            query: false,
            received_at: now.as_millisecond(),
            min_time: time,
            max_time: time,
            raw_size: body.len() as u64,
            compression: Compression::None,
            body: body.into(),
        }
    }
}

/// Whether a log group with this topic, in a batch with this header, is a notice.
pub(crate) fn is_notice(header: &BatchHeader, topic: &[u8]) -> bool {
    header.compression == Compression::None
        && header.first_group_cursor.is_none()
        && (header.groups, header.logs) == (1, 1)
        && topic == TOPIC
}
