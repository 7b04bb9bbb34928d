//! How far the shards are behind what SLS has, and how long SLS keeps what they have not
//! pulled yet.
//!
//! A shard whose last answer reached its end lags by nothing, and is not asked about: idle
//! shards cost nothing here. For the others the lag in log groups is exact, being the
//! difference of two cursors of one shard.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::backoff::{Outage, Say};
use super::chain;
use super::status::{Counters, ShardCounters, UNKNOWN};
use crate::config;
use crate::sls::{Client, Cursor, CursorFrom, Error};
use crate::spool::{ShardKey, Spool};

/// How often the retention of the logstore is read again.
const RETENTION_EVERY: Duration = Duration::from_secs(3600);
const DAY: i64 = 86_400;
/// `ttl` of a logstore that keeps its logs for ever (GetLogStore).
const FOR_EVER: u32 = 3650;

/// What is needed to measure the lag of one source.
pub(crate) struct Lag {
    client: Client,
    source: Arc<config::Source>,
    spool: Spool,
    counters: Arc<Counters>,
    /// Seconds that SLS keeps a log; none when it is not known, or for ever.
    retention: Option<i64>,
    read: Option<Instant>,
    late: Outage,
}

impl Lag {
    pub(crate) fn new(
        client: Client,
        source: Arc<config::Source>,
        spool: Spool,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            client,
            source,
            spool,
            counters,
            retention: None,
            read: None,
            late: Outage::default(),
        }
    }

    /// Measures again and again. Runs until it is dropped.
    pub(crate) async fn watch(mut self) {
        loop {
            tokio::time::sleep(self.source.lag_every).await;
            let source = self.source.spool_key();
            let mut least: Option<(i64, u32)> = None;
            for (key, shard) in self.counters.shards() {
                if key.source != source || !shard.held.load(Ordering::Relaxed) {
                    continue;
                }
                let lag = match shard.at_end.load(Ordering::Relaxed) {
                    true => Ok((0, 0)),
                    false => self.measure(&key).await,
                };
                match lag {
                    Ok((groups, seconds)) => {
                        set(&shard, groups, seconds);
                        if let Some(left) = self.left(groups, seconds).await {
                            least =
                                Some(least.map_or((left, key.shard), |l| l.min((left, key.shard))));
                        }
                    }
                    Err(error) => {
                        tracing::debug!(source = %self.source.name, shard = key.shard, code = error.code(), "{}; the lag is not known", chain(&error));
                        set(&shard, UNKNOWN, UNKNOWN);
                    }
                }
            }
            self.warn(least);
        }
    }

    /// Log groups, and seconds since SLS received the first of them.
    async fn measure(&self, key: &ShardKey) -> Result<(i64, i64), Error> {
        let logstore = &self.source.logstore;
        let newest = self.client.get_cursor(logstore, key.shard, CursorFrom::End).await?;
        // Read after the newest cursor: the lag is never more than it was.
        let Some(state) = self.spool.shard(key) else { return Ok((UNKNOWN, UNKNOWN)) };
        let position = Cursor::new(state.position);
        let numbers = newest.number().zip(position.number());
        let groups = numbers.map_or(UNKNOWN, |(newest, at)| {
            i64::try_from(newest.saturating_sub(at)).unwrap_or(i64::MAX)
        });
        if groups == 0 || position == newest {
            return Ok((0, 0));
        }
        let received = self.client.get_cursor_time(logstore, key.shard, &position).await?;
        let now = jiff::Timestamp::now().as_second() + self.client.clock_offset();
        Ok((groups, (now - received).max(0)))
    }

    /// Seconds until SLS deletes the first log group that was not pulled yet.
    async fn left(&mut self, groups: i64, seconds: i64) -> Option<i64> {
        if groups == 0 || seconds < 0 {
            return None;
        }
        if self.read.is_none_or(|at| at.elapsed() >= RETENTION_EVERY) {
            self.read = Some(Instant::now());
            // The right to read the logstore's settings is not needed to run.
            let logstore = self.client.get_logstore(&self.source.logstore).await;
            if let Ok(logstore) = logstore {
                let days = Some(logstore.ttl_days).filter(|days| *days < FOR_EVER);
                self.retention = days.map(|days| i64::from(days) * DAY);
            }
        }
        self.retention.map(|retention| (retention - seconds).max(0))
    }

    /// Says ahead that logs will be lost, when less than a quarter of the retention is left.
    fn warn(&mut self, least: Option<(i64, u32)>) {
        let (Some((left, shard)), Some(retention)) = (least, self.retention) else {
            self.late = Outage::default();
            return;
        };
        if left > retention / 4 {
            self.late = Outage::default();
            return;
        }
        if self.late.failed(Instant::now()) != Say::Nothing {
            tracing::error!(source = %self.source.name, shard, code = "sls.retention_near", hours_left = left / 3600, retention_days = retention / DAY, "SLS will delete logs that were not pulled yet: make room in the spool or let the receiver catch up, or lengthen the retention of the logstore");
        }
    }
}

fn set(shard: &ShardCounters, groups: i64, seconds: i64) {
    shard.lag_groups.store(groups, Ordering::Relaxed);
    shard.lag_seconds.store(seconds, Ordering::Relaxed);
}
