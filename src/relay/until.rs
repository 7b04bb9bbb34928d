//! An export: pulling ends where SLS received logs at or after a time, and the relay ends
//! when everything before it is delivered.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::backoff::{Outage, Say};
use super::chain;
use super::status::Counters;
use crate::config;
use crate::sls::{Advice, Client, Cursor, CursorFrom, Error};

/// How long after the time the end is looked up: answers under way are made by then.
const AFTER: Duration = Duration::from_secs(2);
/// Pulls within this time before it could bring logs received after it.
const BEFORE: Duration = Duration::from_secs(5);

/// Where a shard's pulling ends.
pub(super) enum End {
    /// Nothing that could be pulled now lies behind it.
    NotYet,
    /// The time is near: pull nothing for so long.
    Wait(Duration),
    /// At this cursor.
    At(Cursor),
}

/// Finds the end of a shard for an export until `until`.
pub(super) async fn end_of(
    client: &Client,
    logstore: &str,
    shard: u32,
    until: Timestamp,
) -> Result<End, Error> {
    if !is_near(client, until) {
        return Ok(End::NotYet);
    }
    let left = milliseconds_until(client, until);
    let after = i64::try_from(AFTER.as_millis()).unwrap_or(i64::MAX);
    if let Some(wait) = u64::try_from(left + after).ok().filter(|wait| *wait > 0) {
        return Ok(End::Wait(Duration::from_millis(wait)));
    }
    // SLS counts in seconds: a part of one belongs to the export.
    let second = until.as_second() + i64::from(until.subsec_nanosecond() > 0);
    Ok(End::At(client.get_cursor(logstore, shard, CursorFrom::Time(second)).await?))
}

/// Whether an answer that is here now may hold logs that SLS received at that time or later.
pub(super) fn is_near(client: &Client, until: Timestamp) -> bool {
    milliseconds_until(client, until) <= i64::try_from(BEFORE.as_millis()).unwrap_or(i64::MAX)
}

/// By the clock of SLS.
fn milliseconds_until(client: &Client, until: Timestamp) -> i64 {
    let now = Timestamp::now().as_millisecond() + client.clock_offset() * 1000;
    until.as_millisecond() - now
}

/// Whether pulling at `cursor` has come to `end`.
pub(super) fn is_reached(cursor: &Cursor, end: &Cursor) -> bool {
    cursor == end || cursor.number().zip(end.number()).is_some_and(|(at, end)| at >= end)
}

/// Returns when every shard of a source was pulled to the end of its export, here or by
/// another relay of the group.
pub(super) async fn source_done(
    client: Client,
    source: Arc<config::Source>,
    counters: Arc<Counters>,
) {
    let Some(until) = source.until else { return };
    let mut outage = Outage::default();
    let mut done = BTreeSet::new();
    loop {
        tokio::time::sleep(source.idle_poll).await;
        match all_done(&client, &source, &counters, until, &mut done).await {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => {
                if outage.failed(Instant::now()) != Say::Nothing {
                    tracing::warn!(source = %source.name, code = error.code(), request_id = error.request_id(), "{}; whether the export is complete is looked at again", chain(&error));
                }
            }
        }
    }
}

async fn all_done(
    client: &Client,
    source: &config::Source,
    counters: &Counters,
    until: Timestamp,
    done: &mut BTreeSet<u32>,
) -> Result<bool, Error> {
    let key = source.spool_key();
    for (shard, counters) in counters.shards() {
        if shard.source == key && counters.exported.load(Ordering::Relaxed) {
            done.insert(shard.shard);
        }
    }
    let shards: Vec<u32> = match client.list_shards(&source.logstore).await {
        Ok(shards) => shards.into_iter().map(|shard| shard.shard).collect(),
        // Without the right to list them, those that were ever held are all that is known.
        Err(error) if error.code() == "sls.forbidden" || error.advice() == Advice::Operator => {
            let shards = counters.shards().into_iter().filter(|(shard, _)| shard.source == key);
            shards.map(|(shard, _)| shard.shard).collect()
        }
        Err(error) => return Err(error),
    };
    let open: Vec<u32> = shards.iter().copied().filter(|shard| !done.contains(shard)).collect();
    if open.is_empty() {
        return Ok(!shards.is_empty());
    }
    // Those may be another relay's.
    let config::Source { logstore, consumer_group, .. } = source;
    for state in client.get_checkpoints(logstore, consumer_group, None).await? {
        if let Some(checkpoint) = state.checkpoint.filter(|_| open.contains(&state.shard))
            && let End::At(end) = end_of(client, logstore, state.shard, until).await?
            && is_reached(&checkpoint, &end)
        {
            done.insert(state.shard);
        }
    }
    Ok(shards.iter().all(|shard| done.contains(shard)))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::relay::supervisor::client;
    use crate::sls::{CredentialSource, Credentials, Endpoint};
    use crate::spool::ShardKey;

    /// An SLS that lets nobody list shards, as it says so to some keys.
    async fn without_the_right_to_list() -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("listen");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(async move {
            let body = r#"{"errorCode":"Unauthorized","errorMessage":"denied by sts or ram, action: log:ListShards"}"#;
            let head = "HTTP/1.1 401 Unauthorized\r\nConnection: close";
            let length = body.len();
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 4096]).await;
                let answer = format!("{head}\r\nContent-Length: {length}\r\n\r\n{body}");
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        address
    }

    #[tokio::test]
    async fn without_the_right_to_list_shards_those_that_were_held_count() {
        let endpoint = without_the_right_to_list().await;
        let key = Credentials {
            key_id: "id".to_owned(),
            key_secret: "secret".to_owned(),
            security_token: None,
        };
        let endpoint = Endpoint::parse(&endpoint).expect("an endpoint");
        let source =
            config::Source::new(endpoint, "project", "l", "g", CredentialSource::Static(key));
        let client = client(&source, "test").expect("a client");
        let counters = Counters::default();
        let shard = counters.shard(&ShardKey { source: source.spool_key(), shard: 3 });
        shard.exported.store(true, Ordering::Relaxed);
        let mut done = BTreeSet::new();
        let all = all_done(&client, &source, &counters, Timestamp::UNIX_EPOCH, &mut done).await;
        assert!(all.expect("no error"), "the only shard that was held is exported");
    }
}
