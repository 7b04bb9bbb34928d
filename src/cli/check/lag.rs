//! How far the checkpoints are behind, and how long SLS will keep what was not read yet.

use std::cmp::Reverse;

use tokio::task::JoinSet;

use super::findings::Level;
use super::probe::Probe;
use crate::cli::output;
use crate::config::OnExpired;
use crate::sls::{Advice, CheckpointState, Client, Cursor, CursorFrom, Error, ShardInfo};

/// `ttl` in days from which on SLS keeps logs for ever.
pub(super) const FOR_EVER: u32 = 3650;
/// Most shards that get a line of their own.
const SHOWN: usize = 20;
/// How many of more are shown: the worst.
const WORST: usize = 5;
/// Shards asked about at the same time.
const AT_ONCE: usize = 8;
/// Shards that may not answer before the rest are left alone.
const ERRORS: u32 = 3;

/// How far one checkpoint is behind.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Lag {
    shard: u32,
    /// SLS does not keep what comes next any more.
    expired: bool,
    /// Log groups; unknown where the cursors are no numbers.
    groups: Option<u64>,
    /// Seconds since SLS received what comes next; none where nothing waits.
    seconds: Option<u64>,
}

/// Reads and reports the lag of every shard that has a checkpoint and is still there.
pub(super) async fn report(
    probe: &mut Probe<'_>,
    shards: Option<&[ShardInfo]>,
    states: Vec<CheckpointState>,
    ttl_days: Option<u32>,
) {
    let listed =
        |shard: u32| shards.is_none_or(|shards| shards.iter().any(|known| known.shard == shard));
    let (at, without): (Vec<_>, Vec<_>) = states
        .into_iter()
        .filter(|state| listed(state.shard))
        .partition(|state| state.checkpoint.is_some());
    if !without.is_empty() {
        let many = match without.len() {
            1 => "1 shard has none and starts".to_owned(),
            many => format!("{many} shards have none and start"),
        };
        let detail = format!("{many} at {}", probe.source.start);
        probe.findings.note("checkpoints", &detail);
    }
    let at: Vec<(u32, Cursor)> =
        at.into_iter().filter_map(|state| Some((state.shard, state.checkpoint?))).collect();
    let wanted = at.len();
    let mut lags = read_all(probe, at).await;
    if lags.len() < wanted {
        let detail = format!("known for {} of {wanted} shards", lags.len());
        probe.findings.warn("lag", "check.lag", &detail);
    }
    let retention = ttl_days.filter(|days| *days < FOR_EVER).map(|days| u64::from(days) * 86_400);
    if retention.is_none() && ttl_days.is_none() && !lags.is_empty() {
        probe
            .findings
            .note("retention", "not known: whether logs are near their end is not checked");
    }
    say(probe, &mut lags, retention);
}

/// Asks for all of them, some at once, until too many cannot be had.
async fn read_all(probe: &mut Probe<'_>, at: Vec<(u32, Cursor)>) -> Vec<Lag> {
    let mut waiting = at.into_iter();
    let mut asked = JoinSet::new();
    let mut lags = Vec::new();
    let mut errors = 0;
    loop {
        while asked.len() < AT_ONCE
            && !probe.ended
            && errors < ERRORS
            && let Some((shard, checkpoint)) = waiting.next()
        {
            let (client, now) = (probe.client.clone(), probe.now());
            let logstore = probe.source.logstore.clone();
            asked.spawn(async move { read(&client, &logstore, shard, &checkpoint, now).await });
        }
        match asked.join_next().await {
            None => return lags,
            Some(Ok(Ok(lag))) => lags.push(lag),
            Some(Ok(Err(error))) => {
                // Those asked at the same time most likely fail for the same reason.
                if !probe.ended && errors < ERRORS {
                    probe.failed("lag", &error);
                }
                errors += 1;
            }
            Some(Err(_)) => errors += 1,
        }
    }
}

async fn read(
    client: &Client,
    logstore: &str,
    shard: u32,
    checkpoint: &Cursor,
    now: i64,
) -> Result<Lag, Error> {
    let begin = client.get_cursor(logstore, shard, CursorFrom::Begin).await?;
    let end = client.get_cursor(logstore, shard, CursorFrom::End).await?;
    let (at, end_number) = (checkpoint.number(), end.number());
    let groups = end_number.zip(at).and_then(|(end, at)| end.checked_sub(at));
    let lag = Lag { shard, expired: false, groups, seconds: None };
    if *checkpoint == end {
        return Ok(Lag { groups: Some(0), ..lag });
    }
    if begin.number().zip(at).is_some_and(|(begin, at)| at < begin) {
        return Ok(Lag { expired: true, ..lag });
    }
    match client.get_cursor_time(logstore, shard, checkpoint).await {
        Ok(received) => {
            let seconds = u64::try_from(now.saturating_sub(received)).unwrap_or(0);
            Ok(Lag { seconds: Some(seconds), ..lag })
        }
        Err(error) if error.advice() == Advice::InvalidCursor => Ok(Lag { expired: true, ..lag }),
        Err(error) => Err(error),
    }
}

fn say(probe: &mut Probe<'_>, lags: &mut [Lag], retention: Option<u64>) {
    lags.sort_by_key(|lag| lag.shard);
    let summarised = lags.len() > SHOWN;
    if summarised {
        lags.sort_by_key(|lag| Reverse((lag.expired, lag.seconds, lag.groups)));
    }
    let shown = if summarised { WORST } else { lags.len() };
    for lag in &lags[..shown] {
        let (level, detail, code) = judge(lag, retention, probe.source.on_expired);
        probe.findings.add(level, &format!("shard {}", lag.shard), &detail, code);
    }
    if !summarised {
        return;
    }
    let rest = &lags[shown..];
    for (level, what, code) in [
        (Level::Fail, "more shards whose checkpoints are expired", "check.expired"),
        (Level::Warn, "more shards whose logs are near their end", "check.near_retention"),
    ] {
        let count =
            rest.iter().filter(|lag| judge(lag, retention, OnExpired::Stop).0 == level).count();
        if count > 0 {
            probe.findings.add(level, "shards", &format!("{count} {what}"), Some(code));
        }
    }
    let groups: u64 = lags.iter().filter_map(|lag| lag.groups).sum();
    let detail = format!(
        "{} shards with a checkpoint are {groups} log groups behind; the oldest that waits was received {} ago",
        lags.len(),
        output::age(lags.iter().filter_map(|lag| lag.seconds).max().unwrap_or(0))
    );
    probe.findings.note("lag of all", &detail);
}

/// How bad a lag is, in words.
fn judge(
    lag: &Lag,
    retention: Option<u64>,
    on_expired: OnExpired,
) -> (Level, String, Option<&'static str>) {
    let behind = match lag.groups {
        Some(0) => "nothing waits".to_owned(),
        Some(groups) => format!("{groups} log groups behind"),
        None => "behind by an unknown number of log groups".to_owned(),
    };
    if lag.expired {
        let then = match on_expired {
            OnExpired::Oldest => "goes on at the oldest log that is left",
            OnExpired::Newest => "goes on at what is written from then on, and skips what is left",
            OnExpired::Stop => "stands still until the checkpoint is set by hand",
        };
        let word = match on_expired {
            OnExpired::Oldest => "oldest",
            OnExpired::Newest => "newest",
            OnExpired::Stop => "stop",
        };
        let detail = format!(
            "the checkpoint is expired: SLS has deleted logs behind it that were not read; with on_expired = \"{word}\" the relay writes the gap down and {then}"
        );
        return (Level::Fail, detail, Some("check.expired"));
    }
    let Some(seconds) = lag.seconds else { return (Level::Ok, behind, None) };
    let detail = format!("{behind}, the oldest received {} ago", output::age(seconds));
    match retention {
        Some(kept) if kept.saturating_sub(seconds) < kept / 4 => {
            let left = output::age(kept.saturating_sub(seconds));
            let detail = format!(
                "{detail}; SLS deletes it in {left}: lengthen the logstore's ttl until the relay has caught up"
            );
            (Level::Warn, detail, Some("check.near_retention"))
        }
        _ => (Level::Ok, detail, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;

    fn lag(seconds: Option<u64>, expired: bool) -> Lag {
        Lag { shard: 0, expired, groups: Some(7), seconds }
    }

    #[test]
    fn the_last_quarter_of_the_retention_is_worth_a_warning() {
        let of = |seconds, kept| judge(&lag(seconds, false), kept, OnExpired::Oldest).0;
        assert_eq!(of(Some(22 * DAY), Some(30 * DAY)), Level::Ok);
        assert_eq!(of(Some(23 * DAY), Some(30 * DAY)), Level::Warn);
        assert_eq!(of(Some(31 * DAY), Some(30 * DAY)), Level::Warn, "SLS deletes when it pleases");
        assert_eq!(of(Some(5000 * DAY), None), Level::Ok, "kept for ever");
        assert_eq!(of(None, Some(DAY)), Level::Ok, "nothing waits");
    }

    #[test]
    fn an_expired_checkpoint_says_what_the_relay_will_do() {
        for (policy, word) in [
            (OnExpired::Oldest, "oldest"),
            (OnExpired::Newest, "newest"),
            (OnExpired::Stop, "stands still"),
        ] {
            let (level, detail, code) = judge(&lag(None, true), None, policy);
            assert_eq!((level, code), (Level::Fail, Some("check.expired")));
            assert!(detail.contains(word), "{detail}");
        }
    }
}
