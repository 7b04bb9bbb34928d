//! The consumer group of a source: found, made where it is missing, and changed only where
//! that was asked for.
//!
//! The group belongs to all its consumers. Two of them with different settings that both
//! change it would do so for ever, so a group is changed at most once for each start.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

use super::backoff::{Backoff, Outage, Say};
use super::chain;
use crate::config;
use crate::sls::{Advice, Client, ConsumerGroup, Error, GroupCreation};

/// How often the group's timeout is read again while all is well.
pub(crate) const READ_AGAIN: Duration = Duration::from_secs(180);

/// The consumer group of one source.
pub(crate) struct Group {
    client: Client,
    source: Arc<config::Source>,
    /// The settings that a warning was about.
    warned_of: Mutex<Option<(u32, bool)>>,
}

impl Group {
    pub(crate) fn new(client: Client, source: Arc<config::Source>) -> Self {
        Self { client, source, warned_of: Mutex::new(None) }
    }

    /// Finds, makes or changes the group, however long it takes, and returns its timeout.
    pub(crate) async fn ensure(&self) -> Duration {
        let name = &self.source.name;
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
        let mut outage = Outage::default();
        loop {
            match self.find_or_make().await {
                Ok(timeout) => {
                    if let Some(lasted) = outage.recovered(Instant::now()) {
                        tracing::info!(source = %name, seconds = lasted.as_secs(), "the consumer group is reached");
                    }
                    return timeout;
                }
                Err(error) => {
                    if outage.failed(Instant::now()) != Say::Nothing {
                        tracing::error!(source = %name, code = error.code(), request_id = error.request_id(), "{}; tried again until it works", chain(&error));
                    }
                    let hint = match error.advice() {
                        Advice::Operator | Advice::RefreshCredentials => Duration::from_secs(5),
                        Advice::Retry { after } | Advice::Throttled { after } => after,
                        _ => Duration::ZERO,
                    };
                    let hint = error.retry_after().map_or(hint, |asked| hint.max(asked));
                    tokio::time::sleep(backoff.next(hint)).await;
                }
            }
        }
    }

    /// Finds the group, makes it where it is missing, changes it where `manage_group` says
    /// so, and returns the timeout it has.
    ///
    /// # Errors
    /// As the calls; only that changing the group is not permitted is none.
    pub(crate) async fn find_or_make(&self) -> Result<Duration, Error> {
        let config::Source { logstore, consumer_group, name, .. } = &*self.source;
        let found = match self.find().await? {
            Some(found) => found,
            None => {
                let (seconds, order) = (self.wanted_timeout(), self.source.order.unwrap_or(false));
                let made =
                    self.client.create_consumer_group(logstore, consumer_group, seconds, order);
                if made.await? == GroupCreation::Created {
                    tracing::info!(source = %name, group = %consumer_group, timeout_s = seconds, ordered = order, "consumer group made");
                    return Ok(whole_seconds(seconds));
                }
                // Another consumer was quicker, with settings of its own.
                self.find().await?.unwrap_or_else(|| ConsumerGroup {
                    name: consumer_group.clone(),
                    timeout_s: seconds,
                    order,
                })
            }
        };
        if self.agrees(&found) {
            return Ok(whole_seconds(found.timeout_s));
        }
        if !self.source.manage_group {
            self.warn(&found);
            return Ok(whole_seconds(found.timeout_s));
        }
        let (seconds, order) = (self.wanted_timeout(), self.source.order.unwrap_or(found.order));
        match self.client.update_consumer_group(logstore, consumer_group, seconds, order).await {
            Ok(()) => {
                tracing::info!(source = %name, group = %consumer_group, timeout_s = seconds, ordered = order, before_timeout_s = found.timeout_s, before_ordered = found.order, "consumer group changed");
                Ok(whole_seconds(seconds))
            }
            Err(error) if error.code() == "sls.forbidden" || error.advice() == Advice::Operator => {
                tracing::warn!(source = %name, code = error.code(), request_id = error.request_id(), "{}; the consumer group is used as it is, with a timeout of {} s", chain(&error), found.timeout_s);
                Ok(whole_seconds(found.timeout_s))
            }
            Err(error) => Err(error),
        }
    }

    /// Reads the group's timeout again and again, `every` so long and whenever `at_once`
    /// says, and tells when it is another. Never changes the group. Runs until it is
    /// dropped.
    pub(crate) async fn watch(
        &self,
        timeout: watch::Sender<Duration>,
        every: Duration,
        at_once: &Notify,
    ) {
        loop {
            let _ = tokio::time::timeout(every, at_once.notified()).await;
            // That it cannot be read says nothing that heartbeats do not say better.
            let Ok(Some(found)) = self.find().await else { continue };
            self.warn(&found);
            let now = whole_seconds(found.timeout_s);
            let changed = timeout.send_if_modified(|known| std::mem::replace(known, now) != now);
            if changed {
                tracing::warn!(source = %self.source.name, group = %self.source.consumer_group, timeout_s = found.timeout_s, "the timeout of the consumer group was changed; heartbeats follow it");
            }
        }
    }

    async fn find(&self) -> Result<Option<ConsumerGroup>, Error> {
        let groups = self.client.list_consumer_groups(&self.source.logstore).await?;
        Ok(groups.into_iter().find(|group| group.name == self.source.consumer_group))
    }

    /// Says what is not as configured, once for each state of the group.
    fn warn(&self, found: &ConsumerGroup) {
        let now = (found.timeout_s, found.order);
        let mut warned_of = self.warned_of.lock().unwrap_or_else(PoisonError::into_inner);
        if self.agrees(found) || *warned_of == Some(now) {
            return;
        }
        *warned_of = Some(now);
        let word = |order| if order { "ordered" } else { "unordered" };
        let mut differences = Vec::new();
        if found.timeout_s != self.wanted_timeout() {
            differences.push(format!(
                "its timeout is {} s where group_timeout says {} s",
                found.timeout_s,
                self.wanted_timeout()
            ));
        }
        if let Some(wanted) = self.source.order.filter(|wanted| *wanted != found.order) {
            differences.push(format!(
                "it is {} where order says {}",
                word(found.order),
                word(wanted)
            ));
        }
        let way = if self.source.manage_group {
            "the next start changes it back"
        } else {
            "set manage_group = true to have it changed for all its consumers"
        };
        tracing::warn!(source = %self.source.name, group = %self.source.consumer_group, code = "sls.group_differs", "the consumer group is not as configured: {}. It is used as it is; {way}", differences.join(", and "));
    }

    fn agrees(&self, found: &ConsumerGroup) -> bool {
        found.timeout_s == self.wanted_timeout()
            && self.source.order.is_none_or(|order| order == found.order)
    }

    fn wanted_timeout(&self) -> u32 {
        u32::try_from(self.source.group_timeout.as_secs().max(1)).unwrap_or(u32::MAX)
    }
}

/// A timeout as SLS gives it; none is shorter than a second.
fn whole_seconds(seconds: u32) -> Duration {
    Duration::from_secs(u64::from(seconds.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emulator::sls::{SlsConfig, SlsEmulator};
    use crate::relay::supervisor::client;
    use crate::sls::{CredentialSource, Credentials, Endpoint};

    const SOON: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_timeout_changed_by_someone_is_told_whenever_the_group_is_read() {
        let emulator = SlsEmulator::start(SlsConfig::default()).await.expect("an emulator");
        let SlsConfig { project, logstore, key_id, key_secret, .. } = SlsConfig::default();
        let key = Credentials { key_id, key_secret, security_token: None };
        let source = Arc::new(config::Source::new(
            Endpoint::parse(&emulator.endpoint()).expect("an endpoint"),
            project,
            &logstore,
            "g",
            CredentialSource::Static(key),
        ));
        let client = client(&source, "test").expect("a client");
        let group = Group::new(client.clone(), source);
        assert_eq!(group.ensure().await, Duration::from_secs(30), "made as configured");

        let (sender, mut timeout) = watch::channel(Duration::from_secs(30));
        let look = Notify::new();
        let seen = async {
            client.update_consumer_group(&logstore, "g", 40, false).await.expect("changed");
            tokio::time::timeout(SOON, timeout.changed()).await.expect("in time").expect("open");
            *timeout.borrow_and_update()
        };
        let often = Duration::from_millis(10);
        tokio::select! {
            () = group.watch(sender, often, &look) => unreachable!("it never ends"),
            seen = seen => assert_eq!(seen, Duration::from_secs(40)),
        }

        let (sender, mut timeout) = watch::channel(Duration::from_secs(50));
        let seen = async {
            look.notify_one();
            tokio::time::timeout(SOON, timeout.changed()).await.expect("in time").expect("open");
            *timeout.borrow_and_update()
        };
        tokio::select! {
            () = group.watch(sender, Duration::from_secs(3600), &look) => unreachable!("it never ends"),
            seen = seen => assert_eq!(seen, Duration::from_secs(40), "asked for"),
        }
    }
}
