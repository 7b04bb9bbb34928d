//! The logs of one batch, walked without copying.

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::{Value, json};

use super::octets::Octets;
use crate::sls::{Cursor, body, walk};
use crate::spool::BatchHeader;

/// Largest decompressed body that is read. An answer of SLS has some tens of MiB.
const MAX_RAW: u64 = 1 << 30;

/// One log in its place.
pub(super) struct LogAt<'a> {
    pub(super) header: &'a BatchHeader,
    /// Number in the batch, as positions of delivery count.
    pub(super) index: u32,
    /// Number in its log group, as messages say where the cursor of the group is known.
    pub(super) group_index: u32,
    /// The log group from 0.
    pub(super) group: u32,
    /// Cursor of the log group; none where SLS does not tell it.
    pub(super) cursor: Option<&'a Cursor>,
    pub(super) topic: &'a [u8],
    source: &'a [u8],
    tags: &'a [(Vec<u8>, &'a [u8])],
    log: walk::Log<'a>,
}

impl LogAt<'_> {
    /// Nanoseconds since the epoch.
    pub(super) fn time_ns(&self) -> i128 {
        let within = self.log.time_ns.unwrap_or(0).min(999_999_999);
        i128::from(self.log.time) * NANOS + i128::from(within)
    }

    /// Seconds since the epoch.
    pub(super) fn time(&self) -> u32 {
        self.log.time
    }

    /// Keys and values: topic and source where the writer set them, tags, fields.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        of_group(self.topic, self.source, self.tags).chain(self.log.fields())
    }

    /// The log as it travels.
    pub(super) fn to_json(&self) -> Value {
        json!({
            "seq": self.header.seq, "index": self.index,
            "source": self.header.key.source, "shard": self.header.key.shard,
            "cursor": self.cursor.map_or(&*self.header.cursor, Cursor::as_str),
            "group_index": self.group_index,
            "time": self.log.time, "time_ns": self.log.time_ns, "fields": fields(self.pairs()),
        })
    }
}

/// The only log of a copy in the quarantine: its time and fields.
///
/// # Errors
/// Why there is none to show, in words.
pub(super) fn only(raw: &[u8]) -> Result<Value, String> {
    walk::summary(raw).map_err(|error| crate::relay::chain(&error))?;
    let found = walk::groups(raw).flatten().find_map(|group| Some((group, group.logs().next()?)));
    let (group, log) = found.ok_or("it holds no log")?;
    let tags = tags(&group);
    let pairs = of_group(group.topic, group.source, &tags).chain(log.fields());
    Ok(json!({ "time": log.time, "time_ns": log.time_ns, "fields": fields(pairs) }))
}

fn of_group<'a>(
    topic: &'a [u8],
    source: &'a [u8],
    tags: &'a [(Vec<u8>, &'a [u8])],
) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
    [(&b"__topic__"[..], topic), (b"__source__", source)]
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .chain(tags.iter().map(|(key, value)| (&key[..], *value)))
}

fn tags<'a>(group: &walk::Group<'a>) -> Vec<(Vec<u8>, &'a [u8])> {
    group.tags().map(|(key, value)| ([b"__tag__:", key].concat(), value)).collect()
}

fn fields<'a>(pairs: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Vec<Value> {
    pairs.map(|(key, value)| json!([Octets::to_json(key), Octets::to_json(value)])).collect()
}

/// Nanoseconds of a second.
pub(super) const NANOS: i128 = 1_000_000_000;

/// Decompresses the body of a batch into `raw` and checks all that [`each`] walks.
///
/// # Errors
/// Why it cannot be decoded, in words.
pub(super) fn decode(header: &BatchHeader, body: &[u8], raw: &mut Vec<u8>) -> Result<(), String> {
    if header.raw_size > MAX_RAW {
        return Err(format!("{} bytes are more than a body may have", header.raw_size));
    }
    let decoded = catch_unwind(AssertUnwindSafe(|| {
        body::decompress(crate::relay::compression(header), body, header.raw_size, raw)?;
        walk::summary(raw).map(drop)
    }));
    match decoded {
        Ok(result) => result.map_err(|error| crate::relay::chain(&error)),
        Err(_) => Err("the decoder panicked".to_owned()),
    }
}

/// Calls `visit` with each log of a decoded body until it says `false` or fails.
pub(super) fn each<E>(
    header: &BatchHeader,
    raw: &[u8],
    mut visit: impl FnMut(&LogAt<'_>) -> Result<bool, E>,
) -> Result<(), E> {
    let mut index = 0;
    for (number, group) in (0..).zip(walk::groups(raw).map_while(Result::ok)) {
        let tags = tags(&group);
        let first = header.first_group_cursor;
        let cursor = first.map(|first| Cursor::from_number(first.wrapping_add(u64::from(number))));
        for (group_index, log) in (0..).zip(group.logs()) {
            let log = LogAt {
                header,
                index,
                group_index,
                group: number,
                cursor: cursor.as_ref(),
                topic: group.topic,
                source: group.source,
                tags: &tags,
                log,
            };
            if !visit(&log)? {
                return Ok(());
            }
            index += 1;
        }
    }
    Ok(())
}
