//! Reading the logs of a decompressed PullLogs answer without copying them.
//!
//! The answer is a `LogGroupList` (see [`super::wire`]), in which every string is taken
//! as bytes, fields come in any order, unknown ones are skipped, and of a repeated
//! single field the last counts. A group is checked in full before it is handed out, so
//! nothing fails halfway through one.

use super::error::DecodeError;

mod reader;

use reader::{Fault, Reader};

/// What one writer sent in one request: logs that share topic, source and tags.
#[derive(Clone, Copy, Debug)]
pub struct Group<'a> {
    /// `__topic__`; empty when the writer set none.
    pub topic: &'a [u8],
    /// `__source__`; empty when the writer set none.
    pub source: &'a [u8],
    fields: Reader<'a>,
}

/// One log: a time and its fields in the writer's order.
#[derive(Clone, Copy, Debug)]
pub struct Log<'a> {
    /// Seconds since the epoch.
    pub time: u32,
    /// Nanoseconds within the second as the writer set them, not checked against 10^9.
    pub time_ns: Option<u32>,
    fields: Reader<'a>,
}

/// What [`summary`] counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Log groups.
    pub groups: u32,
    /// Logs in all groups.
    pub logs: u32,
    /// The smallest log time, seconds since the epoch; none without logs.
    pub min_time: Option<u32>,
    /// The largest log time, seconds since the epoch; none without logs.
    pub max_time: Option<u32>,
}

/// The log groups of a decompressed answer in cursor order, each checked in full.
///
/// After an error nothing follows.
pub fn groups(raw: &[u8]) -> impl Iterator<Item = Result<Group<'_>, DecodeError>> {
    let mut list = Reader::new(raw);
    std::iter::from_fn(move || match next_group(&mut list) {
        Ok(group) => group.map(Ok),
        Err(fault) => {
            list = Reader::new(&[]);
            Some(Err(fault.within(raw)))
        }
    })
}

/// Counts groups and logs and checks everything that the iterators later walk: when
/// this succeeds, [`groups`] yields no error on the same bytes.
///
/// # Errors
/// The first place where the bytes are not a `LogGroupList`.
pub fn summary(raw: &[u8]) -> Result<Summary, DecodeError> {
    summarise(raw).map_err(|fault| fault.within(raw))
}

impl<'a> Group<'a> {
    /// The tags of the group (`__tag__:KEY`), in the writer's order.
    pub fn tags(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        self.fields.messages(GROUP_TAG).filter_map(|pair| read_pair(pair).ok())
    }

    /// The logs of the group, in the writer's order.
    pub fn logs(&self) -> impl Iterator<Item = Log<'a>> + use<'a> {
        self.fields.messages(GROUP_LOG).filter_map(|log| read_log(log, |_| Ok(())).ok())
    }
}

impl<'a> Log<'a> {
    /// Keys and values in the writer's order; keys may repeat.
    pub fn fields(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        self.fields.messages(LOG_CONTENT).filter_map(|pair| read_pair(pair).ok())
    }
}

// Field numbers of `sls_logs.proto`.
const LIST_GROUP: u32 = 1;
const GROUP_LOG: u32 = 1;
const GROUP_CATEGORY: u32 = 2;
const GROUP_TOPIC: u32 = 3;
const GROUP_SOURCE: u32 = 4;
const GROUP_MACHINE: u32 = 5;
const GROUP_TAG: u32 = 6;
const LOG_TIME: u32 = 1;
const LOG_CONTENT: u32 = 2;
const LOG_TIME_NS: u32 = 4;
const PAIR_KEY: u32 = 1;
const PAIR_VALUE: u32 = 2;

fn summarise(raw: &[u8]) -> Result<Summary, Fault> {
    let mut list = Reader::new(raw);
    let mut summary = Summary::default();
    while let Some(group) = next_group_bytes(&mut list)? {
        // A group takes two bytes at least, a log four: the counts fit for any raw size
        // below 8 GiB, and saturating there harms nobody.
        summary.groups = summary.groups.saturating_add(1);
        check_group(group, |time| {
            summary.logs = summary.logs.saturating_add(1);
            summary.min_time = Some(summary.min_time.map_or(time, |known| known.min(time)));
            summary.max_time = Some(summary.max_time.map_or(time, |known| known.max(time)));
        })?;
    }
    Ok(summary)
}

fn next_group<'a>(list: &mut Reader<'a>) -> Result<Option<Group<'a>>, Fault> {
    let Some(group) = next_group_bytes(list)? else {
        return Ok(None);
    };
    let (topic, source) = check_group(group, |_| {})?;
    Ok(Some(Group { topic, source, fields: Reader::new(group) }))
}

fn next_group_bytes<'a>(list: &mut Reader<'a>) -> Result<Option<&'a [u8]>, Fault> {
    while let Some(field) = list.next_field()? {
        if field.number == LIST_GROUP {
            return field.bytes().map(Some);
        }
    }
    Ok(None)
}

/// Checks everything in a group; returns topic and source and shows every log's time.
fn check_group(group: &[u8], mut seen: impl FnMut(u32)) -> Result<(&[u8], &[u8]), Fault> {
    let (mut topic, mut source) = (&[][..], &[][..]);
    let mut fields = Reader::new(group);
    while let Some(field) = fields.next_field()? {
        match field.number {
            GROUP_LOG => {
                let log = read_log(field.bytes()?, |pair| read_pair(pair).map(drop))?;
                seen(log.time);
            }
            GROUP_TOPIC => topic = field.bytes()?,
            GROUP_SOURCE => source = field.bytes()?,
            GROUP_CATEGORY | GROUP_MACHINE => {
                field.bytes()?;
            }
            GROUP_TAG => {
                read_pair(field.bytes()?)?;
            }
            _ => {}
        }
    }
    Ok((topic, source))
}

/// Reads the times of a log, and shows each of its fields to be checked.
#[inline]
fn read_log<'a>(
    log: &'a [u8],
    mut check: impl FnMut(&'a [u8]) -> Result<(), Fault>,
) -> Result<Log<'a>, Fault> {
    let (mut time, mut time_ns) = (None, None);
    let mut fields = Reader::new(log);
    while let Some(field) = fields.next_field()? {
        match field.number {
            LOG_TIME => time = Some(field.uint32()?),
            LOG_CONTENT => check(field.bytes()?)?,
            LOG_TIME_NS => time_ns = Some(field.fixed32()?),
            _ => {}
        }
    }
    let time = time.ok_or_else(|| Fault::missing(log, "time of a log"))?;
    Ok(Log { time, time_ns, fields: Reader::new(log) })
}

#[inline]
fn read_pair(pair: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    let (mut key, mut value) = (None, None);
    let mut fields = Reader::new(pair);
    while let Some(field) = fields.next_field()? {
        match field.number {
            PAIR_KEY => key = Some(field.bytes()?),
            PAIR_VALUE => value = Some(field.bytes()?),
            _ => {}
        }
    }
    let key = key.ok_or_else(|| Fault::missing(pair, "key of a field"))?;
    let value = value.ok_or_else(|| Fault::missing(pair, "value of a field"))?;
    Ok((key, value))
}

#[cfg(test)]
mod tests;
