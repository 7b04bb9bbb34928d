//! Building the tasks, and ending them in the right order: sources first, while their
//! heartbeats go on; then the senders; then the spool.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::feed::Feed;
use super::name::{NameLock, consumer_name};
use super::sender::Sender;
use super::source::{self, Source};
use super::status::{Counters, read};
use super::until;
use crate::config::{Destination, Handover, Settings};
use crate::sls::{self, Client, ClientConfig, DEFAULT_MAX_RAW_BYTES, PullBudget};
use crate::spool::{self, GivenUp, Options, Spool, Terms};

/// Time for one call to SLS, its answer included.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Memory for answers on their way into the spool, of all shards together, and pulls of one
/// source at the same time.
const PULL_BYTES: u64 = 24 << 20;
const PULLS: usize = 64;
/// Time for batches on their way into the spool when the relay stops.
const PULLING_ENDS_WITHIN: Duration = Duration::from_secs(20);
/// Time that a stop gives to the delivery of what was pulled, where shards are handed over
/// delivered. It counts from the beginning of the stop, so that one is not much longer.
const REST_WITHIN: Duration = Duration::from_secs(15);
/// How often the progress of each shard is logged.
const PROGRESS_EVERY: Duration = Duration::from_secs(60);

/// Why the relay could not start, or cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// The spool.
    #[error(transparent)]
    Spool(#[from] spool::Error),
    /// The keys of the spool cannot be read.
    #[error(transparent)]
    Keys(#[from] crate::config::KeyFileError),
    /// A source, before its first call.
    #[error("source {name:?} cannot be used")]
    Source {
        /// Name of the source.
        name: String,
        /// What is wrong.
        source: sls::Error,
    },
    /// Another process of this host consumes under the same name.
    #[error(
        "another sls-relay on this host uses the consumer name {name:?}: one of the two spool directories is a copy of the other. Stop one of them, or stop it and remove the file \"identity\" from its spool directory"
    )]
    NameInUse {
        /// The name.
        name: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A task ended by itself. Recovery is a restart.
    #[error("a part of the relay ended by itself: {0}; a restart goes on where the spool ends")]
    TaskEnded(String),
}

/// A running relay.
pub struct Relay {
    spool: Spool,
    counters: Arc<Counters>,
    sources: JoinSet<()>,
    senders: JoinSet<std::io::Result<()>>,
    stop_sources: CancellationToken,
    stop_senders: CancellationToken,
    finish: CancellationToken,
    /// Ends when nothing is pulled any more.
    pulling: mpsc::Receiver<()>,
    _name: Option<NameLock>,
    /// The sources, to tell when their exports are complete.
    exports: Vec<(Client, Arc<crate::config::Source>)>,
}

impl Relay {
    /// Opens the spool and starts every source and destination. Must be called in a runtime.
    ///
    /// # Errors
    /// When the spool cannot be opened or the credentials of a source cannot be read. That
    /// SLS or a receiver does not answer is no error: it is tried until it works.
    pub async fn start(settings: Settings) -> Result<Self, RelayError> {
        settings.sources.iter().for_each(source::announce);
        let options = Options {
            dir: settings.spool.dir.clone(),
            max_bytes: settings.spool.max_bytes,
            min_free_bytes: settings.spool.min_free_bytes,
            retention: settings.spool.retention,
            keys: settings.spool.keys()?,
        };
        let opened = tokio::task::spawn_blocking(move || Spool::open(&options)).await;
        let (spool, opened) =
            opened.map_err(|error| RelayError::TaskEnded(error.to_string()))??;
        report(&spool, &opened);
        let terms: Vec<Terms> = settings.destinations.iter().map(terms).collect();
        for name in spool.set_terms(&terms).await? {
            tracing::warn!(destination = %name, code = "spool.destination_missing", "the spool holds logs for a destination that is not configured any more; configure it again, or let go of them with: sls-relay spool forget --destination {name} --reason TEXT");
        }
        let identity = spool::identity(spool.dir())?;
        let consumer = consumer_name(&identity);
        let name = match settings.sources.is_empty() {
            true => None,
            false => Some(
                NameLock::take(&consumer)
                    .map_err(|source| RelayError::NameInUse { name: consumer.clone(), source })?,
            ),
        };
        let counters = Arc::new(Counters::default());
        let (pulling, pulling_ends) = mpsc::channel(1);
        let budget = PullBudget::new(PULL_BYTES, PULLS);
        let mut relay = Self {
            spool: spool.clone(),
            counters: Arc::clone(&counters),
            sources: JoinSet::new(),
            senders: JoinSet::new(),
            stop_sources: CancellationToken::new(),
            stop_senders: CancellationToken::new(),
            finish: CancellationToken::new(),
            pulling: pulling_ends,
            _name: name,
            exports: Vec::new(),
        };
        for destination in settings.destinations {
            let stop = relay.stop_senders.clone();
            let feed = Feed { spool: spool.clone(), replay: None };
            let sender = Sender::new(Arc::new(destination), feed, Arc::clone(&counters), stop);
            relay.senders.spawn(sender.run());
        }
        for settings in settings.sources {
            let client = client(&settings, &identity)?;
            let consumer = consumer.clone();
            tracing::info!(source = %settings.name, %consumer, "joining the consumer group");
            let settings = Arc::new(settings);
            relay.exports.push((client.clone(), Arc::clone(&settings)));
            relay.sources.spawn(source::run(Source {
                client,
                settings,
                spool: spool.clone(),
                consumer,
                counters: Arc::clone(&counters),
                budget: budget.for_another(PULLS),
                stop: relay.stop_sources.clone(),
                finish: relay.finish.clone(),
                pulling: Some(pulling.clone()),
            }));
        }
        Ok(relay)
    }

    /// The counters of all tasks.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// The spool, for status.
    pub fn spool(&self) -> Spool {
        self.spool.clone()
    }

    /// Ends when every source with [`crate::config::Source::until`] was pulled up to it and
    /// everything in the spool is delivered. Sources without one do not count.
    pub fn exported(&self) -> impl Future<Output = ()> + Send + use<> {
        let (exports, counters) = (self.exports.clone(), Arc::clone(&self.counters));
        let spool = self.spool.clone();
        async move {
            for (client, source) in exports {
                until::source_done(client, source, Arc::clone(&counters)).await;
            }
            let mut needed = spool.needed();
            while spool.waiting() > 0 && needed.changed().await.is_ok() {}
        }
    }

    /// Runs until `stop` is cancelled, then stops gracefully.
    ///
    /// # Errors
    /// When a task ends by itself; the others are stopped as well.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), RelayError> {
        let mut progress = tokio::time::interval(PROGRESS_EVERY);
        progress.tick().await;
        let mut last = Vec::new();
        let mut given_up = self.spool.given_up();
        let outcome = loop {
            tokio::select! {
                () = stop.cancelled() => break Ok(()),
                Ok(()) = given_up.changed() => say_given_up(&self.counters, &given_up.borrow_and_update()),
                _ = progress.tick() => log_progress(&self.counters, &mut last),
                Some(ended) = self.sources.join_next() => break Err(ended_early(ended.map(Ok))),
                Some(ended) = self.senders.join_next() => break Err(ended_early(ended)),
            }
        };
        self.stop().await;
        outcome
    }

    async fn stop(mut self) {
        tracing::info!("stopping: pulling ends");
        let since = Instant::now();
        self.stop_sources.cancel();
        let _ = tokio::time::timeout(PULLING_ENDS_WITHIN, self.pulling.recv()).await;
        let mut sources = self.exports.iter().map(|(_, source)| source.handover);
        if sources.any(|handover| handover == Handover::Delivered) {
            tracing::info!("stopping: what was pulled is sent");
            let left = REST_WITHIN.saturating_sub(since.elapsed());
            let _ = tokio::time::timeout(left, self.all_sent()).await;
        }
        tracing::info!("stopping: what was sent is proven and confirmed");
        self.stop_senders.cancel();
        while self.senders.join_next().await.is_some() {}
        // What was confirmed last is durable before checkpoints that follow it are committed.
        let _ = self.spool.flush().await;
        tracing::info!("stopping: the last checkpoints are committed");
        self.finish.cancel();
        while self.sources.join_next().await.is_some() {}
        let snapshot = self.counters.snapshot();
        let spool = self.spool;
        let _ = tokio::task::spawn_blocking(move || spool.close()).await;
        tracing::info!(pulled = snapshot.pulled, spooled = snapshot.spooled, "stopped");
    }

    /// Ends when everything in the spool is written to every destination that can be reached.
    async fn all_sent(&self) {
        let end = *self.spool.durable().borrow();
        for destination in self.counters.destinations() {
            while read(&destination.next) < end && !destination.failing.load(Ordering::Relaxed) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

/// A client for one source.
pub(crate) fn client(
    settings: &crate::config::Source,
    identity: &str,
) -> Result<Client, RelayError> {
    client_within(settings, identity, CALL_TIMEOUT)
}

/// A client for one source whose calls take no longer than `timeout`, answer included.
pub(crate) fn client_within(
    settings: &crate::config::Source,
    identity: &str,
    timeout: Duration,
) -> Result<Client, RelayError> {
    let config = ClientConfig {
        endpoint: settings.endpoint.clone(),
        project: settings.project.clone(),
        credentials: settings.credentials.clone(),
        sign: settings.sign,
        region: settings.region.clone(),
        user_agent: format!(
            "sls-relay/{} ({}/{})",
            env!("CARGO_PKG_VERSION"),
            settings.consumer_group,
            consumer_name(identity)
        ),
        timeout,
        max_raw_bytes: DEFAULT_MAX_RAW_BYTES,
        network: settings.network.clone(),
        tls: None,
    };
    Client::new(config).map_err(|source| RelayError::Source { name: settings.name.clone(), source })
}

fn report(spool: &Spool, opened: &spool::Opened) {
    let state = spool.status().state;
    tracing::info!(dir = %spool.dir().display(), batches = state.next_seq - state.oldest_needed(), segments = state.segments.len(), "spool opened");
    if opened.cut_bytes > 0 {
        tracing::info!(
            bytes = opened.cut_bytes,
            "the end of an unfinished write was cut off the spool; it was never acknowledged and is pulled again"
        );
    }
    for damage in &opened.damage {
        super::say_damage(damage, None);
    }
}

fn terms(destination: &Destination) -> Terms {
    let Destination { name, required, start, .. } = destination;
    Terms { name: name.clone(), required: *required, start: *start }
}

/// Destinations that are not required lost logs.
fn say_given_up(counters: &Counters, given_up: &GivenUp) {
    for (name, logs) in given_up {
        let counter = &counters.destination(name).given_up;
        let before = counter.swap(*logs, Ordering::Relaxed);
        if *logs > before {
            tracing::warn!(destination = %name, code = "spool.gave_way", logs = logs - before, in_all = logs, "the spool was full, and this destination is not required: it does not get its oldest logs; `sls-relay spool gaps` lists them");
        }
    }
}

fn log_progress(counters: &Counters, last: &mut Vec<(spool::ShardKey, [u64; 3])>) {
    let mut now = Vec::new();
    for (key, shard) in counters.shards() {
        let sums = [read(&shard.pulled), read(&shard.spooled), read(&shard.delivered)];
        let before = last.iter().find(|(known, _)| *known == key).map_or([0; 3], |(_, sums)| *sums);
        if sums != before {
            tracing::info!(source = %key.source, shard = key.shard, pulled = sums[0] - before[0], spooled = sums[1] - before[1], delivered = sums[2] - before[2], "logs in the last minute");
        }
        now.push((key, sums));
    }
    *last = now;
}

fn ended_early(ended: Result<std::io::Result<()>, tokio::task::JoinError>) -> RelayError {
    RelayError::TaskEnded(match ended {
        Ok(Ok(())) => "a task ended".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    })
}
