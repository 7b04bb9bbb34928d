//! One source: joins the consumer group, sends heartbeats, and runs the shards it is given.
//!
//! Heartbeats have their own timer and their own short timeout, apart from pulls. What to
//! do is decided by [`Membership`]; this file only carries it out.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::backoff::{Backoff, Outage, Say};
use super::chain;
use super::shard::{self, Ended, Shard};
use super::status::Counters;
use crate::config::{self, Start};
use crate::sls::{Action, Advice, Client, Error, Membership, MembershipConfig};
use crate::spool::{ShardKey, Spool};

/// Most time a graceful stop waits for the last commits.
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// Everything a source needs.
pub(crate) struct Source {
    pub(crate) settings: Arc<config::Source>,
    pub(crate) client: Client,
    pub(crate) spool: Spool,
    pub(crate) consumer: String,
    pub(crate) counters: Arc<Counters>,
    pub(crate) stop: CancellationToken,
}

/// The running shards.
struct Running {
    source: Source,
    times: MembershipConfig,
    membership: Membership,
    tasks: JoinSet<(u32, Ended)>,
    stops: HashMap<u32, (CancellationToken, AbortHandle)>,
    /// An aborted task ends a moment later: the next one of the shard waits for it, so that
    /// no old commit overtakes a new one.
    turns: HashMap<u32, Arc<Mutex<()>>>,
    group_lost: bool,
}

/// What came of a heartbeat.
struct Answered {
    sent_at: Instant,
    /// The timeout of the group, where it had to be found or made first.
    group_timeout: Option<Duration>,
    reply: Result<Vec<u32>, Error>,
}

/// Says where a source starts: the first thing that an operator should read.
pub(crate) fn announce(settings: &config::Source) {
    let how = match settings.start {
        Start::Begin => "; set start = \"end\" or a time to begin later",
        _ => "",
    };
    tracing::info!(
        source = %settings.name,
        endpoint = %settings.endpoint,
        project = %settings.project,
        logstore = %settings.logstore,
        group = %settings.consumer_group,
        "a shard without a checkpoint starts at {}{how}",
        settings.start,
    );
}

/// Consumes the source until told to stop; returns when everything pulled is committed.
pub(crate) async fn run(source: Source) {
    let stop = source.stop.clone();
    let settings = Arc::clone(&source.settings);
    let group_timeout = tokio::select! {
        timeout = ensure_group(&source) => timeout,
        () = stop.cancelled() => return,
    };
    let times = times(&settings, group_timeout);
    let running = Running {
        source,
        times,
        membership: Membership::new(times),
        tasks: JoinSet::new(),
        stops: HashMap::new(),
        turns: HashMap::new(),
        group_lost: false,
    };
    running.run(stop).await;
}

/// The group may have been made with a shorter timeout than ours: then we hurry.
fn times(settings: &config::Source, group_timeout: Duration) -> MembershipConfig {
    let heartbeat_interval = settings.heartbeat_interval.min(group_timeout / 4);
    MembershipConfig { heartbeat_interval, group_timeout }
}

fn heartbeat_timer(times: MembershipConfig) -> tokio::time::Interval {
    let mut timer = tokio::time::interval(times.heartbeat_interval);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    timer
}

/// Finds or makes the consumer group and returns its timeout.
async fn ensure_group(source: &Source) -> Duration {
    let settings = &source.settings;
    let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
    let mut outage = Outage::default();
    loop {
        match find_or_make_group(&source.client, settings).await {
            Ok(timeout) => {
                if let Some(lasted) = outage.recovered(Instant::now()) {
                    tracing::info!(source = %settings.name, seconds = lasted.as_secs(), "the consumer group is reached");
                }
                return timeout;
            }
            Err(error) => {
                if outage.failed(Instant::now()) != Say::Nothing {
                    tracing::error!(source = %settings.name, code = error.code(), request_id = error.request_id(), "{}; tried again until it works", chain(&error));
                }
                let slow = matches!(error.advice(), Advice::Operator | Advice::RefreshCredentials);
                let hint = if slow { Duration::from_secs(5) } else { Duration::ZERO };
                tokio::time::sleep(backoff.next(hint)).await;
            }
        }
    }
}

async fn find_or_make_group(client: &Client, settings: &config::Source) -> Result<Duration, Error> {
    let config::Source { logstore, consumer_group, group_timeout, name, .. } = settings;
    let groups = client.list_consumer_groups(logstore).await?;
    if let Some(group) = groups.into_iter().find(|group| group.name == *consumer_group) {
        return Ok(Duration::from_secs(u64::from(group.timeout_s.max(1))));
    }
    let seconds = u32::try_from(group_timeout.as_secs().max(1)).unwrap_or(u32::MAX);
    client.create_consumer_group(logstore, consumer_group, seconds, false).await?;
    tracing::info!(source = %name, group = %consumer_group, timeout_s = seconds, "consumer group made");
    Ok(Duration::from_secs(u64::from(seconds)))
}

impl Running {
    async fn run(mut self, stop: CancellationToken) {
        let mut timer = heartbeat_timer(self.times);
        let watch = Duration::from_millis(200).min(self.times.heartbeat_interval);
        let mut watch = tokio::time::interval(watch);
        let mut outage = Outage::default();
        let mut beat = None;
        let mut stopping: Option<Instant> = None;
        loop {
            if let Some(since) = stopping {
                if self.tasks.is_empty() {
                    break;
                }
                if since.elapsed() > STOP_WITHIN {
                    tracing::warn!(source = %self.source.settings.name, shards = ?self.stops.keys(), "some checkpoints could not be committed before the end; their logs are in the spool, and the next start goes on behind them");
                    break;
                }
            }
            let idle = beat.is_none();
            let under_way = async {
                match &mut beat {
                    Some(beat) => std::pin::Pin::as_mut(beat).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                answered = under_way => {
                    beat = None;
                    let well = self.on_answer(answered, &mut outage);
                    if timer.period() != self.times.heartbeat_interval {
                        timer = heartbeat_timer(self.times);
                    } else if !well {
                        timer.reset_after(self.times.retry_interval());
                    }
                }
                _ = timer.tick(), if idle => {
                    beat = Some(Box::pin(self.heartbeat()));
                }
                Some(ended) = self.tasks.join_next_with_id() => self.on_ended(ended),
                _ = watch.tick() => {
                    let actions = self.membership.on_tick(Instant::now());
                    self.act(actions);
                }
                () = stop.cancelled(), if stopping.is_none() => {
                    stopping = Some(Instant::now());
                    self.stops.values().for_each(|(stop, _)| stop.cancel());
                }
            }
        }
    }

    /// One heartbeat, with a body made now and a timeout that leaves room for another.
    fn heartbeat(&mut self) -> impl Future<Output = Answered> + use<> {
        let body = self.membership.heartbeat_body();
        let timeout = self.times.heartbeat_timeout();
        let client = self.source.client.clone();
        let settings = Arc::clone(&self.source.settings);
        let consumer = self.source.consumer.clone();
        let group_lost = std::mem::take(&mut self.group_lost);
        async move {
            let mut group_timeout = None;
            if group_lost {
                // Nothing is held: there is no lease that this could eat.
                match find_or_make_group(&client, &settings).await {
                    Ok(timeout) => group_timeout = Some(timeout),
                    Err(error) => {
                        return Answered {
                            sent_at: Instant::now(),
                            group_timeout,
                            reply: Err(error),
                        };
                    }
                }
            }
            let sent_at = Instant::now();
            let config::Source { logstore, consumer_group, .. } = &*settings;
            let reply = client.heartbeat(logstore, consumer_group, &consumer, &body, timeout).await;
            Answered { sent_at, group_timeout, reply }
        }
    }

    /// Returns whether the heartbeat was answered well.
    fn on_answer(&mut self, answered: Answered, outage: &mut Outage) -> bool {
        if let Some(group_timeout) = answered.group_timeout {
            self.times = times(&self.source.settings, group_timeout);
            self.membership.set_times(self.times);
        }
        let name = &self.source.settings.name;
        let well = answered.reply.is_ok();
        let actions = match answered.reply {
            Ok(shards) => {
                if let Some(lasted) = outage.recovered(Instant::now()) {
                    tracing::info!(source = %name, seconds = lasted.as_secs(), "heartbeats are answered again");
                }
                self.membership.on_heartbeat(answered.sent_at, Instant::now(), &shards)
            }
            Err(error) => {
                if outage.failed(Instant::now()) != Say::Nothing {
                    tracing::warn!(source = %name, code = error.code(), request_id = error.request_id(), "{}; the shards are kept until the lease ends", chain(&error));
                }
                let actions = self.membership.on_heartbeat_error(&error);
                // Someone deleted the group. It is made again with the next heartbeat.
                self.group_lost = error.code() == "sls.group_unknown";
                actions
            }
        };
        self.act(actions);
        well
    }

    fn act(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Start(shard) => self.start(shard),
                Action::Stop(shard) => {
                    tracing::info!(source = %self.source.settings.name, shard, "shard is wanted elsewhere: it is committed and given back");
                    if let Some((stop, _)) = self.stops.get(&shard) {
                        stop.cancel();
                    }
                }
                Action::DropAll(shards) => {
                    if !shards.is_empty() {
                        tracing::warn!(source = %self.source.settings.name, ?shards, code = "sls.lease_lost", "the lease on the shards has ended; what was not committed may be delivered twice");
                    }
                    for shard in shards {
                        if let Some((_, task)) = self.stops.remove(&shard) {
                            task.abort();
                        }
                    }
                }
            }
        }
    }

    fn start(&mut self, number: u32) {
        if self.source.stop.is_cancelled() {
            return;
        }
        let settings = &self.source.settings;
        let key = ShardKey { source: settings.spool_key(), shard: number };
        let stop = CancellationToken::new();
        let shard = Arc::new(Shard {
            source: Arc::clone(settings),
            client: self.source.client.clone(),
            spool: self.source.spool.clone(),
            counters: self.source.counters.shard(&key),
            key,
            consumer: self.source.consumer.clone(),
            stop: stop.clone(),
        });
        let turn = Arc::clone(self.turns.entry(number).or_default());
        let task = self.tasks.spawn(async move {
            let _turn = turn.lock_owned().await;
            (number, shard::run(shard).await)
        });
        self.stops.insert(number, (stop, task));
    }

    fn on_ended(&mut self, ended: Result<(tokio::task::Id, (u32, Ended)), tokio::task::JoinError>) {
        match ended {
            Ok((id, (shard, ended))) => {
                // A shard that was dropped and taken again has another task by now.
                if self.stops.get(&shard).is_none_or(|(_, task)| task.id() != id) {
                    return;
                }
                self.stops.remove(&shard);
                let actions = match ended {
                    Ended::Drained => self.membership.on_drained(shard),
                    Ended::Lost => {
                        self.membership.on_lost(shard);
                        Vec::new()
                    }
                };
                tracing::info!(source = %self.source.settings.name, shard, how = ?ended, "shard given up");
                self.act(actions);
            }
            Err(error) if error.is_cancelled() => {}
            // Recovery is the tested path: a task that dies takes the process with it.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}
