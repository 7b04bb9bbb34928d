//! What a selection means, by looking at every log and nothing else.

use jiff::Timestamp;
use sls_relay::inspect::{Clock, FieldTest, Only, Selection};

use crate::scene::Known;

/// Whether a log is meant.
pub(crate) fn is_meant(log: &Known, selection: &Selection, needed: (u64, u32)) -> bool {
    let time = match selection.by {
        Clock::Log => {
            let within = i32::try_from(log.time_ns.unwrap_or(0)).unwrap();
            Timestamp::new(i64::from(log.time), within).unwrap()
        }
        Clock::Receive => Timestamp::from_millisecond(log.received).unwrap(),
    };
    let waits = (log.seq, log.index) >= needed;
    let short = log.source.rsplit_once('#').unwrap().0.splitn(4, '/').last().unwrap();
    let names = [log.source, short, short.split_once('/').unwrap().1];
    selection.since.is_none_or(|since| time >= since)
        && selection.until.is_none_or(|until| time < until)
        && selection.source.as_deref().is_none_or(|name| names.contains(&name))
        && selection.shard.is_none_or(|shard| log.shard == shard)
        && selection.from_seq.is_none_or(|from| log.seq >= from)
        && selection.to_seq.is_none_or(|to| log.seq < to)
        && selection.topic.as_ref().is_none_or(|topic| log.topic == topic.0)
        && selection.cursor.as_ref().is_none_or(|cursor| match &log.cursor {
            Some(own) => own == cursor || (log.group == 0 && log.batch_cursor == *cursor),
            None => log.batch_cursor == *cursor,
        })
        && match selection.only {
            Only::All => true,
            Only::Waiting => waits,
            Only::Delivered => !waits,
        }
        && selection.fields.iter().all(|test| log.pairs.iter().any(|pair| holds(test, pair)))
        && selection.contains.iter().all(|text| has(log, &text.0))
}

/// Whether a text is in a key or a value.
pub(crate) fn has(log: &Known, text: &[u8]) -> bool {
    log.pairs.iter().any(|(key, value)| is_in(key, text) || is_in(value, text))
}

fn holds(test: &FieldTest, (key, value): &(Vec<u8>, Vec<u8>)) -> bool {
    *key == test.name.0
        && test.is.as_ref().is_none_or(|is| *value == is.0)
        && test.contains.as_ref().is_none_or(|text| is_in(value, &text.0))
}

fn is_in(bytes: &[u8], text: &[u8]) -> bool {
    text.is_empty() || bytes.windows(text.len()).any(|window| window == text)
}
