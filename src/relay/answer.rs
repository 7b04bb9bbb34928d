//! What an answer of SLS must be to be stored, and the batch that it becomes.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::unreadable::compression;
use crate::sls::walk::{self, Summary};
use crate::sls::{Cursor, DecodeError, PullAnswer, body};
use crate::spool::Batch;

/// Raw bytes of an answer that the buffer of a thread is kept for.
const KEPT: usize = 8 << 20;

thread_local! {
    /// Where answers are decompressed to be checked: one for each thread, not for each shard.
    static RAW: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Never store what nobody can read back: the body must decompress and parse.
pub(super) fn check(answer: &PullAnswer) -> Result<Summary, DecodeError> {
    RAW.with_borrow_mut(|raw| {
        let checked = catch_unwind(AssertUnwindSafe(|| {
            body::decompress(answer.compression, &answer.body, answer.raw_size, raw)?;
            match walk::summary(raw)? {
                // What a filter's answer counts is only known from its description.
                Summary { groups: 0, .. } if answer.groups > 0 && answer.filtered.is_none() => {
                    let field = "first of the log groups that x-log-count announces";
                    Err(DecodeError::Missing { at: raw.len(), field })
                }
                summary => Ok(summary),
            }
        }));
        if raw.capacity() > KEPT {
            *raw = Vec::new();
        }
        checked.unwrap_or(Err(DecodeError::Protobuf { at: 0, problem: "the decoder panicked" }))
    })
}

pub(super) fn batch(
    cursor: &Cursor,
    answer: PullAnswer,
    summary: &Summary,
    filtered: bool,
) -> Batch {
    // x-log-read-last-cursor numbers the last group; the first follows from the count.
    let before_last = u64::from(summary.groups).saturating_sub(1);
    let first = answer.last_group_cursor.and_then(|last| last.checked_sub(before_last));
    let received = answer.cursor_time.or(answer.date).map_or_else(
        || jiff::Timestamp::now().as_millisecond(),
        |seconds| seconds.saturating_mul(1000),
    );
    Batch {
        cursor: cursor.as_str().to_owned(),
        next_cursor: answer.next_cursor.as_str().to_owned(),
        first_group_cursor: first,
        groups: summary.groups,
        logs: summary.logs,
        query: filtered,
        received_at: received,
        min_time: summary.min_time.unwrap_or(0),
        max_time: summary.max_time.unwrap_or(0),
        raw_size: answer.raw_size,
        compression: compression(answer.compression),
        body: answer.body,
    }
}
