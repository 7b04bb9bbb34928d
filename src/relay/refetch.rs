//! Pulling again what damage of the spool took. Nothing is consumed: no group is joined and no
//! checkpoint is touched.
//!
//! The spool's ledger is the plan and the progress. Damage lines name cursor ranges; each batch
//! that is durable again adds a line `refetched` with its range, and what SLS does not have any
//! more a line `refetch gone`. What is left of a range begins behind the last of these. A crash
//! between a batch and its line stores that batch twice.

use std::ops::ControlFlow;
use std::time::Duration;

use serde_json::{Value, json};

use super::answer::{batch, check};
use super::backoff::Backoff;
use super::chain;
use super::expired::range_unless_kept;
use super::unreadable;
use super::until::is_reached;
use crate::config::Source;
use crate::sls::{self, Advice, Client, Cursor, PullAnswer, PullRequest};
use crate::spool::{self, Item, Lost, Origin, Seq, ShardKey, Spool, lost_in};

/// Log groups asked for at once.
const COUNT: u32 = 100;
/// Largest answer, bytes after decompression; only a log group by itself may be larger.
const MAX_RAW: u64 = 16 << 20;
/// Failures in a row after which the caller has to try again.
const TRIES: u32 = 6;

/// A lost range, and what is left of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pending {
    /// What was lost.
    pub lost: Lost,
    /// Where what is left begins; [`Lost::cursor`] before anything was pulled again.
    pub at: String,
    /// Whether everything of it was pulled again, or is known to be gone.
    pub done: bool,
    /// SLS does not have all of it any more, or it could not be read.
    pub gone: bool,
}

/// What one call of [`refetch`] did.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Refetched {
    /// Batches stored.
    pub batches: u64,
    /// Logs in them.
    pub logs: u64,
    /// SLS does not have all of the range any more, or it could not be read: the ledger says
    /// what, and the gap stays.
    pub gone: bool,
    /// It ended before the end of the range, as `progress` wanted.
    pub stopped: bool,
}

/// Why a range could not be pulled again to its end. What was stored stays, and another call
/// goes on behind it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RefetchError {
    /// Nothing tells where the range begins.
    #[error("nothing tells where the lost logs of {0} begin: they cannot be pulled again")]
    Unknown(ShardKey),
    /// SLS.
    #[error(
        "cannot pull {key} again at cursor {cursor}; what was pulled is stored, and the same command goes on behind it"
    )]
    Sls {
        /// The shard.
        key: ShardKey,
        /// Where.
        cursor: String,
        /// What SLS said.
        source: sls::Error,
    },
    /// SLS answers without leading on.
    #[error(
        "SLS answers the pull of {key} at cursor {cursor} with a cursor that does not lead on; try again later"
    )]
    Stands {
        /// The shard.
        key: ShardKey,
        /// Where.
        cursor: String,
    },
    /// The spool.
    #[error(transparent)]
    Spool(#[from] spool::Error),
}

impl RefetchError {
    /// Stable name of this error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unknown(_) => "refetch.unknown",
            Self::Sls { source, .. } => source.code(),
            Self::Stands { .. } => "sls.cursor_stands",
            Self::Spool(error) => error.code(),
        }
    }
}

/// What damage took that was still needed, as the lines of a ledger tell, in their order, each
/// once.
pub fn pending(ledger: &[Value]) -> Vec<Pending> {
    let mut pending: Vec<Pending> = Vec::new();
    for line in ledger {
        for lost in lost_in(line).into_iter().filter(|lost| !lost.delivered) {
            if !pending.iter().any(|known| known.lost == lost) {
                let at = lost.cursor.clone();
                pending.push(Pending { lost, at, done: false, gone: false });
            }
        }
        let gone = line["what"] == "refetch gone";
        if !gone && line["what"] != "refetched" {
            continue;
        }
        let text = |name: &str| line[name].as_str().unwrap_or_default();
        for one in pending.iter_mut().filter(|one| !one.done) {
            let key = &one.lost.key;
            if text("source") == key.source
                && line["shard"].as_u64() == Some(key.shard.into())
                && line["cursor"].as_str() == Some(&one.at)
            {
                text("next_cursor").clone_into(&mut one.at);
                one.gone |= gone;
                // Ranges told by neighbours may overlap: each ends where its own line says so.
                let ends = line["ends"].as_str() == Some(&one.lost.next_cursor);
                one.done = ends
                    || is_reached(
                        &Cursor::new(one.at.as_str()),
                        &Cursor::new(&*one.lost.next_cursor),
                    );
            }
        }
    }
    pending
}

/// Pulls what is left of a lost range into the spool, up to its end. `progress` is told of each
/// batch, when it is durable, its number of logs, and says whether to go on.
///
/// # Errors
/// See [`RefetchError`].
pub async fn refetch(
    client: &Client,
    source: &Source,
    spool: &Spool,
    lost: &Lost,
    mut progress: impl FnMut(u32) -> ControlFlow<()>,
) -> Result<Refetched, RefetchError> {
    let known = pending(&blocking(spool, |spool| spool::read_ledger(spool.dir())).await?);
    let left = known.into_iter().find(|one| one.lost == *lost);
    let at = left.as_ref().map_or(&lost.cursor, |one| &one.at);
    let mut done =
        Refetched { gone: left.as_ref().is_some_and(|one| one.gone), ..Refetched::default() };
    if left.as_ref().is_some_and(|one| one.done) {
        return Ok(done);
    }
    if at.is_empty() {
        return Err(RefetchError::Unknown(lost.key.clone()));
    }
    let mut range = Range { client, source, spool, lost, key: &lost.key, end: Cursor::new("") };
    let mut cursor = Cursor::new(at.as_str());
    range.end = Cursor::new(match lost.next_cursor.as_str() {
        "" => range.went_on(lost.span.end).await?,
        end => end.to_owned(),
    });
    if is_reached(&cursor, &range.end) {
        range.note("refetched", &cursor, &range.end, true, json!({})).await?;
    }
    while !done.stopped && !is_reached(&cursor, &range.end) {
        cursor = match range.pull(&cursor).await? {
            Pulled::Batch { answer, summary } => {
                let next = answer.next_cursor.clone();
                let batch = batch(&cursor, *answer, &summary, source.filter.is_some());
                let seq = spool.insert(lost.key.clone(), batch, Origin::Refetch).await?;
                done.batches += 1;
                done.logs += u64::from(summary.logs);
                let more = json!({ "seq": seq, "logs": summary.logs });
                range.passed("refetched", &cursor, &next, more).await?;
                done.stopped = progress(summary.logs).is_break();
                next
            }
            // A filter left nothing of it, or there is nothing up to the end.
            Pulled::Nothing { next } => {
                range.passed("refetched", &cursor, &next, json!({ "logs": 0 })).await?;
                next
            }
            Pulled::Gone { next, why } => {
                done.gone = true;
                tracing::error!(source = %source.name, shard = lost.key.shard, code = "sls.gap", %cursor, %next, "what damage of the spool took cannot be pulled again: {why}; the gap stays");
                range.passed("refetch gone", &cursor, &next, json!({ "why": why })).await?;
                next
            }
        };
    }
    done.stopped &= !is_reached(&cursor, &range.end);
    Ok(done)
}

/// What a pull came to.
enum Pulled {
    Batch { answer: Box<PullAnswer>, summary: sls::walk::Summary },
    Nothing { next: Cursor },
    Gone { next: Cursor, why: String },
}

struct Range<'a> {
    client: &'a Client,
    source: &'a Source,
    spool: &'a Spool,
    lost: &'a Lost,
    key: &'a ShardKey,
    end: Cursor,
}

impl Range<'_> {
    /// One answer that checks, after as many tries as that takes, within reason.
    async fn pull(&self, cursor: &Cursor) -> Result<Pulled, RefetchError> {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        let (mut count, mut failures) = (COUNT, 0);
        loop {
            let request = PullRequest {
                end_cursor: Some(&self.end),
                filter: self.source.filter.as_ref(),
                max_raw_bytes: (count > 1).then_some(MAX_RAW),
                ..PullRequest::new(cursor, count)
            };
            let logstore = &self.source.logstore;
            let answer = match self.client.pull_logs(logstore, self.key.shard, request).await {
                Ok(answer) => answer,
                Err(sls::Error::TooLarge { .. }) if count > 1 => {
                    count = (count / 4).max(1);
                    continue;
                }
                Err(error) => {
                    if error.advice() == Advice::InvalidCursor
                        && let Some(gone) = self.deleted(cursor).await?
                    {
                        return Ok(gone);
                    }
                    failures += 1;
                    let hint = match error.advice() {
                        Advice::Retry { after } | Advice::Throttled { after } => after,
                        Advice::InvalidCursor => Duration::ZERO,
                        _ => return Err(self.failed(cursor, error)),
                    };
                    if failures >= TRIES {
                        return Err(self.failed(cursor, error));
                    }
                    tokio::time::sleep(backoff.next(hint)).await;
                    continue;
                }
            };
            let next = answer.next_cursor.clone();
            let stands = next == *cursor || next.is_before(cursor);
            if answer.groups == 0 && answer.raw_size == 0 {
                // Nothing is left between here and the end.
                let next = if stands { self.end.clone() } else { next };
                return Ok(Pulled::Nothing { next });
            }
            if stands {
                let (key, cursor) = (self.key.clone(), cursor.to_string());
                return Err(RefetchError::Stands { key, cursor });
            }
            match check(&answer) {
                Ok(summary) if summary.logs == 0 => return Ok(Pulled::Nothing { next }),
                Ok(summary) => return Ok(Pulled::Batch { answer: Box::new(answer), summary }),
                Err(error) => {
                    failures += 1;
                    if count == 1 && failures >= TRIES {
                        let why = chain(&error);
                        self.keep(cursor, answer, why.clone()).await?;
                        return Ok(Pulled::Gone { next, why });
                    }
                    count = (count / 4).max(1);
                    tokio::time::sleep(backoff.next(Duration::ZERO)).await;
                }
            }
        }
    }

    /// What to go on with where SLS has deleted the log at `cursor`; nothing where it has not.
    async fn deleted(&self, cursor: &Cursor) -> Result<Option<Pulled>, RefetchError> {
        let (logstore, shard) = (&self.source.logstore, self.key.shard);
        let range = range_unless_kept(self.client, logstore, shard, cursor).await;
        let Some((oldest, _)) = range.map_err(|error| self.failed(cursor, error))? else {
            return Ok(None);
        };
        // Cursors that are no numbers do not compare: then nothing of the range is believed to
        // be left.
        let next = if oldest.is_before(&self.end) { oldest } else { self.end.clone() };
        let why = "SLS has deleted these logs: the retention of the logstore has ended for them";
        Ok(Some(Pulled::Gone { next, why: why.to_owned() }))
    }

    /// Where the shard went on behind damage of which nothing tells the end: at the cursor of
    /// its first batch that lies behind, else where it stands.
    async fn went_on(&self, behind: Seq) -> Result<String, spool::Error> {
        let key = self.key.clone();
        let found = blocking(self.spool, move |spool| {
            let mut reader = spool.reader(behind);
            while let Some(item) = reader.read()? {
                if let Item::Batch(batch) = item
                    && batch.header.key == key
                    && batch.header.origin == Origin::Live
                {
                    return Ok(Some(batch.header.cursor));
                }
            }
            Ok(spool.shard(&key).map(|shard| shard.position))
        });
        Ok(found.await?.unwrap_or_default())
    }

    async fn keep(
        &self,
        cursor: &Cursor,
        answer: PullAnswer,
        why: String,
    ) -> Result<(), spool::Error> {
        let (key, cursor) = (self.key.clone(), cursor.clone());
        let kept = blocking(self.spool, move |spool| {
            unreadable::keep(spool, &key, &cursor, &answer, &why)
        });
        kept.await.map(drop)
    }

    async fn passed(
        &self,
        what: &str,
        from: &Cursor,
        to: &Cursor,
        more: Value,
    ) -> Result<(), spool::Error> {
        self.note(what, from, to, is_reached(to, &self.end), more).await
    }

    /// Notes that the range is done up to `to`; `ends` where that is all of it: the line then
    /// names the end that was lost.
    async fn note(
        &self,
        what: &str,
        from: &Cursor,
        to: &Cursor,
        ends: bool,
        more: Value,
    ) -> Result<(), spool::Error> {
        let mut line = json!({
            "what": what, "source": self.key.source, "shard": self.key.shard,
            "cursor": from.as_str(), "next_cursor": to.as_str(), "ends": ends.then_some(&self.lost.next_cursor),
        });
        if let (Some(line), Value::Object(more)) = (line.as_object_mut(), more) {
            line.extend(more);
        }
        blocking(self.spool, move |spool| spool.note(&line)).await
    }

    fn failed(&self, cursor: &Cursor, source: sls::Error) -> RefetchError {
        RefetchError::Sls { key: self.key.clone(), cursor: cursor.to_string(), source }
    }
}

async fn blocking<T: Send + 'static>(
    spool: &Spool,
    act: impl FnOnce(&Spool) -> Result<T, spool::Error> + Send + 'static,
) -> Result<T, spool::Error> {
    let spool = spool.clone();
    tokio::task::spawn_blocking(move || act(&spool)).await.unwrap_or(Err(spool::Error::Closed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn damage(lost: &[(u32, &str, &str, u64, bool)]) -> Value {
        let lost: Vec<Value> = lost
            .iter()
            .map(|(shard, cursor, next_cursor, seq, delivered)| {
                json!({
                    "source": "s", "shard": shard, "cursor": cursor, "next_cursor": next_cursor,
                    "first_seq": seq, "end_seq": seq + 1, "logs": null, "delivered": delivered,
                })
            })
            .collect();
        json!({ "what": "damage", "lost": lost })
    }

    fn passed(what: &str, shard: u32, cursor: &str, next: &str, ends: Option<&str>) -> Value {
        json!({
            "what": what, "source": "s", "shard": shard, "cursor": cursor, "next_cursor": next,
            "ends": ends,
        })
    }

    fn outline(ledger: &[Value]) -> Vec<(u64, String, bool, bool)> {
        let all = pending(ledger).into_iter();
        all.map(|one| (one.lost.span.first, one.at, one.done, one.gone)).collect()
    }

    fn told(seq: u64, at: &str, done: bool, gone: bool) -> (u64, String, bool, bool) {
        (seq, at.to_owned(), done, gone)
    }

    #[test]
    fn what_is_left_begins_behind_the_last_line_of_its_range() {
        let mut ledger = vec![damage(&[(0, "a", "d", 1, false), (1, "a", "d", 2, false)])];
        // Delivered already, and a line that was written twice.
        ledger.push(damage(&[(0, "x", "y", 7, true)]));
        ledger.push(ledger[0].clone());
        assert_eq!(outline(&ledger), [told(1, "a", false, false), told(2, "a", false, false)]);
        ledger.push(passed("refetched", 0, "a", "b", None));
        assert_eq!(outline(&ledger), [told(1, "b", false, false), told(2, "a", false, false)]);
        // A batch that was stored twice, and one that goes on elsewhere.
        ledger.push(passed("refetched", 0, "a", "b", None));
        ledger.push(passed("refetched", 0, "c", "d", Some("d")));
        assert_eq!(outline(&ledger)[0], told(1, "b", false, false));
        ledger.push(passed("refetch gone", 0, "b", "c", None));
        ledger.push(passed("refetched", 0, "c", "d", Some("d")));
        assert_eq!(outline(&ledger), [told(1, "d", true, true), told(2, "a", false, false)]);
        // The same range is damaged once more: what was done before says nothing of it.
        ledger.push(damage(&[(0, "a", "d", 9, false)]));
        assert_eq!(outline(&ledger)[2], told(9, "a", false, false));
    }

    #[test]
    fn ranges_with_one_beginning_end_each_at_its_own_end() {
        let open = damage(&[(0, "a", "", 1, false), (0, "a", "c", 2, false)]);
        let ledger = [open, passed("refetched", 0, "a", "b", Some(""))];
        assert_eq!(outline(&ledger), [told(1, "b", true, false), told(2, "b", false, false)]);
    }
}
