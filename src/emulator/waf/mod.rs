//! Realistic Alibaba WAF access logs, the same ones for the same seed, shard and number.
//!
//! A log has about 35 fields (see the field lists of WAF 2.0 and 3.0) and 1 to 2.5 KB.
//! About every fourth carries what attackers send: text that is not ASCII, bytes that
//! are not UTF-8, separators, quotes, line ends. Each has a `request_traceid` from which
//! [`id_of`] reads shard and number back, so that a test can prove loss, repetition and
//! order.

mod data;
mod draft;
mod hostile;
#[cfg(test)]
mod tests;
mod text;
mod trace;

use bytes::Bytes;

use crate::sls::wire::{Log, LogGroup, LogTag};
use draft::Draft;
pub use trace::{id_of, trace_id};

/// The topic of every log group that WAF writes.
pub const TOPIC: &str = "waf_access_log";

/// A source of WAF access logs. Any log can be made at any time, in any order.
#[derive(Debug, Clone, Copy)]
pub struct Waf {
    seed: u64,
    plain: bool,
}

impl Waf {
    /// Logs as the internet makes them: now and then hostile, about 1 in 2,000 with a 64 KB value.
    pub const fn new(seed: u64) -> Waf {
        Waf { seed, plain: false }
    }

    /// Logs below 6 KB in which every byte of a value is [plain](is_plain) and no key repeats:
    /// they fit a datagram in every format, and no format has to escape anything.
    pub const fn plain(seed: u64) -> Waf {
        Waf { seed, plain: true }
    }

    /// Log `n` of `shard`. Times increase with `n`, 50 logs a second per shard.
    pub fn log(&self, shard: u32, n: u64) -> Log {
        let seed = trace::mix(self.seed ^ trace::mix(n ^ trace::mix(u64::from(shard))));
        let mut draft = Draft::new(seed);
        let time = Time::of(n);
        let time_ns = time.fraction(&mut draft);
        text::fill(&mut draft, time.seconds, &trace_id(shard, n));
        if !self.plain {
            hostile::spoil(&mut draft);
        }
        let mut contents = draft.finish();
        if self.plain {
            for content in &mut contents {
                make_plain(&mut content.value);
            }
        }
        Log { time: time.seconds, contents, time_ns }
    }

    /// `count` logs of `shard` from number `first_n` on, as WAF writes them in one request.
    pub fn group(&self, shard: u32, first_n: u64, count: usize) -> LogGroup {
        let logs: Vec<Log> = (first_n..).take(count).map(|n| self.log(shard, n)).collect();
        let received = logs.last().map_or(0, |log| log.time.saturating_add(1));
        let tag = |key: &'static str, value: String| LogTag {
            key: Bytes::from_static(key.as_bytes()),
            value: Bytes::from(value),
        };
        LogGroup {
            logs,
            category: None,
            topic: Some(Bytes::from_static(TOPIC.as_bytes())),
            source: Some(Bytes::from_static(b"log_service")),
            machine_uuid: None,
            tags: vec![
                tag("__client_ip__", format!("10.0.{}.17", shard % 256)),
                tag("__receive_time__", received.to_string()),
            ],
        }
    }
}

/// The fields of `log` as a receiver should decode them, in order: `__topic__`, `__source__` and
/// `__tag__:KEY` as far as `group` has them, then the contents.
pub fn fields_of(log: &Log, group: &LogGroup) -> Vec<(Bytes, Bytes)> {
    let mut fields = Vec::with_capacity(log.contents.len() + group.tags.len() + 2);
    for (key, value) in [("__topic__", &group.topic), ("__source__", &group.source)] {
        if let Some(value) = value {
            fields.push((Bytes::from_static(key.as_bytes()), value.clone()));
        }
    }
    for tag in &group.tags {
        let key = [b"__tag__:", &tag.key[..]].concat();
        fields.push((Bytes::from(key), tag.value.clone()));
    }
    fields.extend(log.contents.iter().map(|c| (c.key.clone(), c.value.clone())));
    fields
}

/// Whether no usual syslog format has to escape `byte`: printable ASCII that is neither a quote, a
/// backslash, nor one of `| = [ ] ,`.
pub const fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~')
        && !matches!(byte, b'"' | b'\'' | b'\\' | b'|' | b'=' | b'[' | b']' | b',')
}

fn make_plain(value: &mut Bytes) {
    if !value.iter().all(|&byte| is_plain(byte)) {
        *value = value.iter().map(|&byte| if is_plain(byte) { byte } else { b'_' }).collect();
    }
}

/// When log `n` was written.
struct Time {
    seconds: u32,
    nanoseconds: u32,
}

impl Time {
    const START: u64 = 1_760_140_800; // 2025-10-11T00:00:00Z
    const PER_SECOND: u64 = 50;

    fn of(n: u64) -> Time {
        Time {
            seconds: u32::try_from(Self::START + n / Self::PER_SECOND).unwrap_or(u32::MAX),
            nanoseconds: (n % Self::PER_SECOND) as u32 * 20_000_000,
        }
    }

    /// The fraction as few writers give it: most none, some milliseconds, some down to the last
    /// nanosecond.
    fn fraction(&self, draft: &mut Draft) -> Option<u32> {
        let nanoseconds = self.nanoseconds + draft.rng.u32(..20_000_000);
        match draft.rng.u32(..20) {
            0 => Some(nanoseconds),
            1 => Some(nanoseconds / 1_000 * 1_000),
            2 => Some(nanoseconds / 1_000_000 * 1_000_000),
            _ => None,
        }
    }
}
