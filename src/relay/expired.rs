//! A cursor that SLS refuses: either a passing error, or logs were deleted before they were
//! pulled. Then a gap is written down, told to every receiver, and pulling goes on behind it.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::backoff::{Outage, Say};
use super::fetcher::Fetcher;
use super::notice::Notice;
use super::status::add;
use crate::config::OnExpired;
use crate::sls::{Advice, Client, Cursor, CursorFrom, Error, Room};
use crate::spool::Tenure;

/// How often a shard that stands still before a gap looks for a decision.
const LOOK_AGAIN: Duration = Duration::from_secs(15);

/// More log groups than a shard can take in within a retention of ten years, at 500 writes a
/// second: then the logstore was deleted and made anew, and its numbers say nothing of the old.
const MOST_GROUPS: u64 = 1_000_000_000_000;

/// Where to go on after a refused cursor.
pub(super) enum Onward {
    /// At this cursor, in the same tenure.
    At(Cursor),
    /// Behind this gap, once it is written down.
    Behind(Gap),
    /// The checkpoint was set by hand: take the shard anew.
    Anew,
}

/// What is known about the deleted logs.
pub(super) struct Gap {
    pub(super) to: Cursor,
    /// Log groups between the cursors; unknown when they are not of one shard.
    pub(super) groups: Option<u64>,
    /// When the checkpoint behind which logs are missing was committed, if it was.
    since: Option<Timestamp>,
    /// When SLS received the first log that is left.
    until: Option<Timestamp>,
}

impl Fetcher {
    /// SLS says that the cursor is expired. Where that is so, finds out where to go on, as
    /// configured, and what is missing.
    pub(super) async fn onward(&mut self, expired: &Cursor) -> Onward {
        let shard = std::sync::Arc::clone(&self.shard);
        let (client, logstore, number) = (&shard.client, &shard.source.logstore, shard.key.shard);
        let mut halted = Outage::default();
        loop {
            let (oldest, newest) = match range_unless_kept(client, logstore, number, expired).await
            {
                Ok(Some(range)) => range,
                Ok(None) => {
                    // SLS still has it: the refusal was a passing one.
                    self.invalid = 0;
                    tokio::time::sleep(self.backoff.next(Duration::from_secs(1))).await;
                    return Onward::At(expired.clone());
                }
                Err(error) => {
                    tokio::time::sleep(self.failed(&error)).await;
                    continue;
                }
            };
            let to = match self.shard.source.on_expired {
                OnExpired::Oldest => oldest,
                OnExpired::Newest => newest,
                OnExpired::Stop => {
                    if halted.failed(Instant::now()) != Say::Nothing {
                        let shard = &self.shard;
                        tracing::error!(source = %shard.source.name, shard = shard.key.shard, code = "sls.gap_stop", %expired, %oldest, "SLS has deleted logs that were not pulled yet, and on_expired = \"stop\": the shard stands still. Write on_expired = \"oldest\" to go on at the oldest log that is left, or set the shard's checkpoint by hand");
                    }
                    tokio::time::sleep(LOOK_AGAIN.min(self.shard.source.idle_poll * 15)).await;
                    match self.is_set_by_hand(expired).await {
                        Ok(true) => return Onward::Anew,
                        Ok(false) => {}
                        Err(error) => tokio::time::sleep(self.failed(&error)).await,
                    }
                    continue;
                }
            };
            return Onward::Behind(self.measure(expired, to).await);
        }
    }

    async fn is_set_by_hand(&self, expired: &Cursor) -> Result<bool, Error> {
        let server = self.shard.server_checkpoint().await?;
        let checkpoint = server.and_then(|state| state.checkpoint);
        let known = self.shard.spool.shard(&self.shard.key);
        Ok(checkpoint.is_some_and(|checkpoint| {
            let ours = known.is_some_and(|known| known.is_ours(Some(checkpoint.as_str())));
            !ours && checkpoint != *expired
        }))
    }

    async fn measure(&self, expired: &Cursor, to: Cursor) -> Gap {
        let (client, number) = (&self.shard.client, self.shard.key.shard);
        let until = client.get_cursor_time(&self.shard.source.logstore, number, &to).await;
        let since = self.shard.server_checkpoint().await.ok().flatten();
        let micros = since.and_then(|state| i64::try_from(state.update_time_us).ok());
        let groups = to.number().zip(expired.number());
        Gap {
            groups: groups
                .and_then(|(to, from)| to.checked_sub(from))
                .filter(|groups| *groups < MOST_GROUPS),
            to,
            since: micros.filter(|us| *us > 0).and_then(|us| Timestamp::from_microsecond(us).ok()),
            until: until.ok().and_then(|seconds| Timestamp::from_second(seconds).ok()),
        }
    }

    /// The gap is in the ledger before the position moves over it, and moves with the notice.
    /// False when the shard cannot go on, or is to stop before.
    pub(super) async fn pass(&mut self, tenure: &Tenure, expired: &Cursor, gap: &Gap) -> bool {
        let shard = std::sync::Arc::clone(&self.shard);
        let (to, groups) = (&gap.to, gap.groups);
        let message = match shard.source.on_expired {
            OnExpired::Newest => {
                "SLS has deleted logs that were not pulled yet: the retention of the logstore is shorter than the outage was. What it still has of them is passed over, as on_expired = \"newest\" says"
            }
            _ => {
                "SLS has deleted logs that were not pulled yet: the retention of the logstore is shorter than the outage was"
            }
        };
        tracing::error!(source = %shard.source.name, shard = shard.key.shard, code = "sls.gap", %expired, next = %to, groups, "{message}. Pulling goes on behind the gap");
        let time = |time: Option<Timestamp>| time.map(|time| time.to_string());
        let line = serde_json::json!({
            "what": "gap", "source": shard.key.source, "shard": shard.key.shard,
            "cursor": expired.as_str(), "next_cursor": to.as_str(), "groups": groups,
            "since": time(gap.since), "until": time(gap.until),
        });
        while let Err(error) = shard.note(line.clone()).await {
            if !self.is_tried_again(&error).await {
                return false;
            }
        }
        self.invalid = 0;
        add(&shard.counters.gaps, 1);
        add(&shard.counters.gap_groups, groups.unwrap_or(0));
        let unknown = || "unknown".to_owned();
        let fields = vec![
            ("cursor", expired.as_str().to_owned()),
            ("next_cursor", to.as_str().to_owned()),
            ("log_groups", groups.map_or_else(unknown, |groups| groups.to_string())),
            ("last_commit", time(gap.since).unwrap_or_else(unknown)),
            ("next_received", time(gap.until).unwrap_or_else(unknown)),
        ];
        let notice = Notice { what: "gap", code: "sls.gap", message, fields };
        self.store(tenure, notice.batch(expired.as_str(), to.as_str()), Room::default()).await
    }
}

/// The oldest and the newest cursor of the shard, unless SLS does keep `cursor`.
pub(super) async fn range_unless_kept(
    client: &Client,
    logstore: &str,
    number: u32,
    cursor: &Cursor,
) -> Result<Option<(Cursor, Cursor)>, Error> {
    let oldest = client.get_cursor(logstore, number, CursorFrom::Begin).await?;
    let newest = client.get_cursor(logstore, number, CursorFrom::End).await?;
    let numbers = (oldest.number(), cursor.number(), newest.number());
    let kept = match numbers {
        _ if oldest == *cursor || newest == *cursor => true,
        (Some(first), Some(at), Some(last)) => (first..=last).contains(&at),
        // Cursors that are no numbers: SLS can tell the time of what it keeps.
        _ => match client.get_cursor_time(logstore, number, cursor).await {
            Ok(_) => true,
            Err(error) if error.advice() == Advice::InvalidCursor => false,
            Err(error) => return Err(error),
        },
    };
    Ok((!kept).then_some((oldest, newest)))
}
