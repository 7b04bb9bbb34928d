//! Which logs a selection means, decided as early as possible: by the times of a segment, by
//! the header of a batch, by the log itself.

use jiff::Timestamp;

use super::logs::{LogAt, NANOS};
use super::question::{Clock, FieldTest, Only, Selection};
use crate::sls::Cursor;
use crate::spool::{BatchHeader, Position, SegmentInfo, State};

/// A selection at one state of the spool.
pub(super) struct Filter<'a> {
    selection: &'a Selection,
    /// The text that a grep looks for beside the selection, and whether case counts.
    pattern: Option<(&'a [u8], bool)>,
    /// The first log that some destination still has to confirm.
    needed: Position,
    cursor: Option<u64>,
}

/// What the header of a batch says about the logs in it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    /// None is meant.
    None,
    /// At least one is.
    Some,
    /// All are.
    All,
    /// Only the logs tell.
    Unknown,
}

impl<'a> Filter<'a> {
    pub(super) fn new(
        selection: &'a Selection,
        pattern: Option<(&'a [u8], bool)>,
        state: &State,
    ) -> Self {
        let positions = state.destinations.values().map(|delivered| delivered.position);
        Self {
            selection,
            pattern,
            needed: positions.min().unwrap_or_default(),
            cursor: selection.cursor.as_ref().and_then(|text| Cursor::new(text.clone()).number()),
        }
    }

    /// Whether a segment may hold a log that is meant.
    pub(super) fn segment(&self, info: &SegmentInfo) -> bool {
        let by_time = match self.selection.by {
            Clock::Log => {
                self.range(start_of(info.min_time), end_of(info.max_time)) != Verdict::None
            }
            Clock::Receive => {
                let ns = |ms: i64| i128::from(ms) * 1_000_000;
                self.range(ns(info.min_received), ns(info.max_received)) != Verdict::None
            }
        };
        let by_delivery = match self.selection.only {
            Only::All => true,
            Only::Waiting => info.end_seq > self.needed.seq,
            Only::Delivered => info.first_seq <= self.needed.seq,
        };
        by_time && by_delivery
    }

    /// What is known of a batch without its body.
    pub(super) fn batch(&self, header: &BatchHeader) -> Verdict {
        let selection = self.selection;
        let place = selection.source.as_ref().is_none_or(|name| is_named(&header.key.source, name))
            && selection.shard.is_none_or(|shard| shard == header.key.shard);
        let within = selection.topic.is_some()
            || !selection.fields.is_empty()
            || !selection.contains.is_empty()
            || self.pattern.is_some();
        let verdicts = [
            if place { Verdict::All } else { Verdict::None },
            self.time(header),
            self.delivery(header),
            self.cursor(header),
            if within { Verdict::Unknown } else { Verdict::All },
        ];
        if verdicts.contains(&Verdict::None) {
            return Verdict::None;
        }
        let mut open = verdicts.into_iter().filter(|verdict| *verdict != Verdict::All);
        match (open.next(), open.next()) {
            (None, _) => Verdict::All,
            // Where one thing is open, some logs fulfil it; where two are, maybe none does both.
            (Some(verdict), None) if header.logs > 0 => verdict,
            (Some(_), None) => Verdict::None,
            (Some(_), Some(_)) => Verdict::Unknown,
        }
    }

    /// Whether a log of a batch that may hold one is meant.
    pub(super) fn log(&self, log: &LogAt<'_>) -> bool {
        let selection = self.selection;
        let time = selection.by == Clock::Receive
            || self.range(log.time_ns(), log.time_ns()) == Verdict::All;
        let waits = Position { seq: log.header.seq, index: log.index } >= self.needed;
        let delivery = match selection.only {
            Only::All => true,
            Only::Waiting => waits,
            Only::Delivered => !waits,
        };
        let cursor = selection.cursor.as_ref().is_none_or(|cursor| {
            log.cursor.is_some_and(|own| own.as_str() == cursor)
                || (log.header.cursor == *cursor && (log.cursor.is_none() || log.group == 0))
        });
        time && delivery
            && cursor
            && selection.topic.as_ref().is_none_or(|topic| topic.0 == log.topic)
            && selection.fields.iter().all(|test| log.pairs().any(|pair| holds(test, pair)))
            && selection.contains.iter().all(|text| is_in_any(log, &text.0, false))
            && self.pattern.is_none_or(|(text, ignore_case)| is_in_any(log, text, ignore_case))
    }

    fn time(&self, header: &BatchHeader) -> Verdict {
        if self.selection.by == Clock::Receive {
            let received = i128::from(header.received_at) * 1_000_000;
            return self.range(received, received);
        }
        let (min, max) = (header.min_time, header.max_time);
        match self.range(start_of(min), end_of(max)) {
            // There is a log in the first second, and one in the last.
            Verdict::Unknown
                if [min, max]
                    .into_iter()
                    .any(|time| self.range(start_of(time), end_of(time)) == Verdict::All) =>
            {
                Verdict::Some
            }
            verdict => verdict,
        }
    }

    /// What the times allow of logs between two times in ns, both included.
    fn range(&self, from: i128, to: i128) -> Verdict {
        let since = self.selection.since.map_or(i128::MIN, Timestamp::as_nanosecond);
        let until = self.selection.until.map_or(i128::MAX, Timestamp::as_nanosecond);
        if to < since || from >= until {
            Verdict::None
        } else if from >= since && to < until {
            Verdict::All
        } else {
            Verdict::Unknown
        }
    }

    fn delivery(&self, header: &BatchHeader) -> Verdict {
        let begin = Position { seq: header.seq, index: 0 };
        let end = Position { seq: header.seq, index: header.logs };
        let waiting = if begin >= self.needed {
            Verdict::All
        } else if end > self.needed {
            Verdict::Some
        } else {
            Verdict::None
        };
        match (self.selection.only, waiting) {
            (Only::All, _) | (Only::Delivered, Verdict::None) => Verdict::All,
            (Only::Delivered, Verdict::All) => Verdict::None,
            (_, waiting) => waiting,
        }
    }

    fn cursor(&self, header: &BatchHeader) -> Verdict {
        let Some(text) = &self.selection.cursor else { return Verdict::All };
        let group = self.cursor.zip(header.first_group_cursor).is_some_and(|(cursor, first)| {
            cursor >= first && cursor - first < u64::from(header.groups)
        });
        if group || header.cursor == *text { Verdict::Unknown } else { Verdict::None }
    }
}

/// `PROJECT/LOGSTORE` of a source as the spool knows it: `ENDPOINT/PROJECT/LOGSTORE#GROUP`.
pub fn logstore(source: &str) -> &str {
    let path = source.split('#').next().unwrap_or(source);
    let start = path.rmatch_indices('/').nth(1).map_or(0, |(slash, _)| slash + 1);
    path.get(start..).unwrap_or(path)
}

fn is_named(source: &str, name: &str) -> bool {
    let short = logstore(source);
    source == name || short == name || short.rsplit('/').next() == Some(name)
}

fn start_of(seconds: u32) -> i128 {
    i128::from(seconds) * NANOS
}

fn end_of(seconds: u32) -> i128 {
    start_of(seconds) + NANOS - 1
}

fn holds(test: &FieldTest, (key, value): (&[u8], &[u8])) -> bool {
    key == test.name.0
        && test.is.as_ref().is_none_or(|is| value == is.0)
        && test.contains.as_ref().is_none_or(|text| is_in(value, &text.0, false))
}

fn is_in_any(log: &LogAt<'_>, text: &[u8], ignore_case: bool) -> bool {
    log.pairs().any(|(key, value)| is_in(value, text, ignore_case) || is_in(key, text, ignore_case))
}

/// Whether `text` is in `bytes`, where asked for with ASCII letters of either case.
fn is_in(bytes: &[u8], text: &[u8], ignore_case: bool) -> bool {
    let Some((&first, _)) = text.split_first() else { return true };
    if bytes.len() < text.len() {
        return false;
    }
    let starts = &bytes[..=bytes.len() - text.len()];
    if ignore_case {
        let is_first = |byte: &u8| byte.eq_ignore_ascii_case(&first);
        let matches = |at: usize| bytes[at..at + text.len()].eq_ignore_ascii_case(text);
        return starts.iter().enumerate().any(|(at, byte)| is_first(byte) && matches(at));
    }
    let matches = |at: usize| &bytes[at..at + text.len()] == text;
    starts.iter().enumerate().any(|(at, byte)| *byte == first && matches(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_found_wherever_it_is() {
        for (bytes, text, found, either_case) in [
            (&b""[..], &b""[..], true, true),
            (b"", b"a", false, false),
            (b"xaab", b"aab", true, true),
            (b"xaab", b"aaB", false, true),
            (b"aaa", b"aaaa", false, false),
            (b"\xff\x00K", b"\x00k", false, true),
        ] {
            assert_eq!(is_in(bytes, text, false), found, "{bytes:?} {text:?}");
            assert_eq!(is_in(bytes, text, true), either_case, "{bytes:?} {text:?}");
        }
    }

    #[test]
    fn a_source_is_known_by_its_project_and_logstore() {
        let whole = "https://cn-x.log.aliyuncs.com/waf/logs#group/1#2";
        for (source, shown) in [
            (whole, "waf/logs"),
            ("http://127.0.0.1:80/p/l#g", "p/l"),
            ("-", "-"),
            ("p/l", "p/l"),
            ("", ""),
        ] {
            assert_eq!(logstore(source), shown);
        }
        assert!(["waf/logs", "logs", whole].iter().all(|name| is_named(whole, name)));
        assert!(!["waf", "ogs", "group", ""].iter().any(|name| is_named(whole, name)));
    }
}
