//! One source: joins the consumer group, sends heartbeats, and runs the shards it is given.
//!
//! Heartbeats have their own timer and their own short timeout, apart from pulls. What to
//! do is decided by [`Membership`]; this file only carries it out.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, Notify, mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::backoff::{Outage, Say};
use super::chain;
use super::group::{Group, READ_AGAIN};
use super::lag::Lag;
use super::shard::{self, Ended, Shard};
use super::status::Counters;
use crate::config::{self, Start};
use crate::sls::{Action, Client, Error, Membership, MembershipConfig, PullBudget};
use crate::spool::{ShardKey, Spool};

/// Most time a stop waits for the last commits once delivery has ended.
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// Everything a source needs.
pub(crate) struct Source {
    pub(crate) settings: Arc<config::Source>,
    pub(crate) client: Client,
    pub(crate) spool: Spool,
    pub(crate) consumer: String,
    pub(crate) counters: Arc<Counters>,
    pub(crate) budget: PullBudget,
    /// Stop pulling.
    pub(crate) stop: CancellationToken,
    /// Nothing more will be delivered: commit what is, and end.
    pub(crate) finish: CancellationToken,
    /// Dropped when nothing is pulled any more.
    pub(crate) pulling: Option<mpsc::Sender<()>>,
}

/// The running shards.
struct Running {
    source: Source,
    times: MembershipConfig,
    membership: Membership,
    group: Arc<Group>,
    look_again: Arc<Notify>,
    tasks: JoinSet<(u32, Ended)>,
    stops: HashMap<u32, (CancellationToken, AbortHandle)>,
    /// An aborted task ends a moment later: the next one of the shard waits for it, so that
    /// no old commit overtakes a new one.
    turns: HashMap<u32, Arc<Mutex<()>>>,
    group_lost: bool,
    /// Shards that another process consumes under our name.
    twins: BTreeSet<u32>,
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
    let group = Arc::new(Group::new(source.client.clone(), Arc::clone(&settings)));
    let Some(group_timeout) = stop.run_until_cancelled(group.ensure()).await else { return };
    let (changed, group_timeout) = watch::channel(group_timeout);
    let look_again = Arc::new(Notify::new());
    let times = times(&settings, *group_timeout.borrow());
    let lag = Lag::new(
        source.client.clone(),
        Arc::clone(&settings),
        source.spool.clone(),
        Arc::clone(&source.counters),
    );
    let running = Running {
        source,
        times,
        membership: Membership::new(times),
        group: Arc::clone(&group),
        look_again: Arc::clone(&look_again),
        tasks: JoinSet::new(),
        stops: HashMap::new(),
        turns: HashMap::new(),
        group_lost: false,
        twins: BTreeSet::new(),
    };
    tokio::select! {
        () = lag.watch() => {}
        () = group.watch(changed, READ_AGAIN, &look_again) => {}
        () = running.run(group_timeout, stop) => {}
    }
}

/// The group's timeout decides, whatever was configured.
fn times(settings: &config::Source, group_timeout: Duration) -> MembershipConfig {
    let heartbeat_interval = settings.heartbeat_interval.min(group_timeout / 4);
    MembershipConfig { heartbeat_interval, group_timeout }
}

fn heartbeat_timer(times: MembershipConfig) -> tokio::time::Interval {
    let mut timer = tokio::time::interval(times.heartbeat_interval);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    timer
}

impl Running {
    async fn run(mut self, mut group_timeout: watch::Receiver<Duration>, stop: CancellationToken) {
        let mut timer = heartbeat_timer(self.times);
        let ticks = Duration::from_millis(200).min(self.times.heartbeat_interval);
        let mut ticks = tokio::time::interval(ticks);
        let mut outage = Outage::default();
        let mut beat = None;
        let mut stopping = false;
        let finish = self.source.finish.clone();
        let mut finishing: Option<Instant> = None;
        loop {
            if stopping && self.tasks.is_empty() {
                break;
            }
            if let Some(since) = finishing
                && since.elapsed() > STOP_WITHIN
            {
                tracing::warn!(source = %self.source.settings.name, shards = ?self.stops.keys(), "some checkpoints could not be committed before the end; their logs are in the spool, and the next start goes on behind them");
                break;
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
                Ok(()) = group_timeout.changed() => {
                    self.times = times(&self.source.settings, *group_timeout.borrow_and_update());
                    self.membership.set_times(self.times);
                    timer = heartbeat_timer(self.times);
                }
                _ = ticks.tick() => {
                    let actions = self.membership.on_tick(Instant::now());
                    self.act(actions);
                }
                () = stop.cancelled(), if !stopping => {
                    stopping = true;
                    self.source.pulling = None;
                    self.stops.values().for_each(|(stop, _)| stop.cancel());
                }
                () = finish.cancelled(), if finishing.is_none() => {
                    finishing = Some(Instant::now());
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
        let group = Arc::clone(&self.group);
        async move {
            let mut group_timeout = None;
            if group_lost {
                // Nothing is held: there is no lease that this could eat.
                match group.find_or_make().await {
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
                // A timeout made shorter by someone shows itself by a lease that has ended.
                self.look_again.notify_one();
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
        if self.twins.contains(&number) {
            self.membership.on_lost(number);
            return;
        }
        let Some(pulling) = self.source.pulling.clone() else { return };
        let settings = &self.source.settings;
        let key = ShardKey { source: settings.spool_key(), shard: number };
        let stop = CancellationToken::new();
        let shard = Arc::new(Shard {
            source: Arc::clone(settings),
            client: self.source.client.clone(),
            spool: self.source.spool.clone(),
            counters: self.source.counters.shard(&key),
            of_source: self.source.counters.source(&settings.name),
            key,
            consumer: self.source.consumer.clone(),
            budget: self.source.budget.clone(),
            found: std::sync::Mutex::default(),
            stop: stop.clone(),
            stopping: self.source.stop.clone(),
            finish: self.source.finish.clone(),
        });
        let turn = Arc::clone(self.turns.entry(number).or_default());
        let task = self.tasks.spawn(async move {
            let _turn = turn.lock_owned().await;
            (number, shard::run(shard, pulling).await)
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
                        // Perhaps because somebody made the group's timeout shorter.
                        self.look_again.notify_one();
                        self.membership.on_lost(shard);
                        Vec::new()
                    }
                    Ended::Twin => {
                        self.twins.insert(shard);
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
