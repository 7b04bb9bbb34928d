//! The calls to SLS: everything a relay reads before it consumes, and one pull. Nothing is
//! written: no heartbeat, no checkpoint, no group.

use std::future::Future;
use std::time::Duration;

use super::findings::Findings;
use super::policy::{Policy, Rights};
use super::source::NOT_NUMBERED;
use super::{group, lag, reach};
use crate::cli::output;
use crate::config::{Settings, Source};
use crate::relay;
use crate::sls::{
    CheckpointState, Client, ConsumerGroup, CursorFrom, Error, Logstore, PullRequest, ShardInfo,
};

/// A clock that is off by more is worth a warning; SLS takes a quarter of an hour.
const CLOCK_OFF: u64 = 60;

/// One source under examination.
pub(super) struct Probe<'a> {
    pub(super) source: &'a Source,
    pub(super) client: Client,
    pub(super) findings: &'a mut Findings,
    rights: Rights,
    /// No call can succeed any more, or each would take its whole time.
    pub(super) ended: bool,
    answered: bool,
}

/// Examines a source; each step takes `wait` at most.
pub(super) async fn source(
    source: &Source,
    settings: &Settings,
    wait: Duration,
    always_policy: bool,
    findings: &mut Findings,
) {
    let lacks = examine(source, settings, wait, findings).await;
    if lacks || always_policy {
        findings.policy(&source.name, &Policy::new(source));
    }
}

/// Tells whether a right is missing.
async fn examine(
    source: &Source,
    settings: &Settings,
    wait: Duration,
    findings: &mut Findings,
) -> bool {
    let client = match relay::client_within(source, "check", wait) {
        Ok(client) => client,
        Err(error) => {
            let code = match &error {
                relay::RelayError::Source { source, .. } => source.code(),
                _ => "check.client",
            };
            findings.fail("access key", code, &relay::chain(&error));
            return false;
        }
    };
    if !reach::reach(source, wait, findings).await {
        return false;
    }
    let rights = Rights::new(source);
    let mut probe = Probe { source, client, findings, rights, ended: false, answered: false };
    probe.run(settings).await;
    probe.clock();
    probe.answered && probe.rights.report(probe.findings)
}

impl Probe<'_> {
    async fn run(&mut self, settings: &Settings) {
        self.project().await;
        let store = self.logstore().await;
        let group = self.group().await;
        let shards = self.shards().await;
        let checkpoints = match &group {
            Some(group) => self.checkpoints(group).await,
            None => None,
        };
        if let Some(checkpoints) = checkpoints {
            group::members(self, settings, &checkpoints);
            let retention = store.as_ref().map(|store| store.ttl_days);
            lag::report(self, shards.as_deref(), checkpoints, retention).await;
        }
        self.pull(shards.as_deref()).await;
    }

    /// Makes a call, unless none can succeed any more, and takes in what it says of rights.
    async fn ask<T>(
        &mut self,
        what: &str,
        operation: &'static str,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Option<T> {
        if self.ended {
            return None;
        }
        let answer = call.await;
        self.first(&answer);
        match answer {
            Ok(answer) => {
                self.rights.granted(operation);
                Some(answer)
            }
            Err(error) => {
                self.failed(what, &error);
                None
            }
        }
    }

    /// The first call shows which key was found, how it signs, and the certificate.
    fn first<T>(&mut self, answer: &Result<T, Error>) {
        if std::mem::replace(&mut self.answered, true) {
            return;
        }
        if !matches!(
            answer,
            Err(Error::Transport { .. } | Error::Timeout { .. } | Error::Credentials(_))
        ) {
            reach::verified(self.source, self.findings);
        }
        let status = self.client.credentials_status();
        if let Some(id) = status.key_id {
            let end = match status.expires_at {
                Some(end) => format!("ends at {end} and is replaced before"),
                None => "without an end that is known".to_owned(),
            };
            let from = match status.kind {
                "static" => "as it is written in the configuration or the environment",
                "files" => "from its files, which are read again when SLS refuses it",
                kind => &format!("from {kind}"),
            };
            self.findings.note("access key", &format!("{id}, {from}, {end}"));
        }
        let signing = match self.client.signing_region() {
            Some(region) => format!("version 4 for the region {region}"),
            None => "version 1".to_owned(),
        };
        self.findings.note("signing", &signing);
    }

    /// Writes down why a call failed, and whether others still make sense.
    pub(super) fn failed(&mut self, what: &str, error: &Error) {
        if self.rights.is_missing(error) {
            return;
        }
        if let Some(tls) = reach::failed(self.source, error) {
            self.ended = true;
            return self.findings.fail("TLS", "check.tls", &tls);
        }
        let (place, ends) = match error {
            Error::Transport { .. } | Error::Timeout { .. } => ("answer", true),
            Error::Credentials(_) => ("access key", true),
            error => match error.code() {
                "sls.signature_mismatch"
                | "sls.key_unknown"
                | "sls.token_expired"
                | "sls.unauthorized" => ("signature", true),
                "sls.clock_skew" => ("clock", true),
                "sls.proxy_refused" => ("proxy", true),
                "sls.project_unknown" | "sls.project_locked" => ("project", true),
                "sls.logstore_unknown" => ("logstore", true),
                _ => (what, false),
            },
        };
        self.ended |= ends;
        self.findings.error(place, error);
    }

    async fn project(&mut self) {
        let client = self.client.clone();
        let Some(project) = self.ask("project", "GetProject", client.get_project()).await else {
            return;
        };
        let detail = format!("{} in {}, {}", project.name, project.region, project.status);
        if project.status.is_empty() || project.status == "Normal" {
            self.findings.ok("project", &detail);
        } else {
            let detail = format!("{detail}: see in the console what is wrong with it");
            self.findings.warn("project", "check.project_status", &detail);
        }
        if let Some(region) = client.signing_region().filter(|region| {
            !project.region.is_empty() && !project.region.eq_ignore_ascii_case(region)
        }) {
            let detail = format!(
                "signatures are for {region} and the project is in {}: leave region out, or set it to that",
                project.region
            );
            self.findings.warn("signing", "check.region", &detail);
        }
    }

    async fn logstore(&mut self) -> Option<Logstore> {
        let client = self.client.clone();
        let call = client.get_logstore(&self.source.logstore);
        let store = self.ask("logstore", "GetLogStore", call).await?;
        let kept = match store.ttl_days {
            lag::FOR_EVER.. => "for ever".to_owned(),
            days => format!("{days} days"),
        };
        self.findings.ok("logstore", &format!("{} shards, logs kept {kept}", store.shard_count));
        Some(store)
    }

    async fn group(&mut self) -> Option<ConsumerGroup> {
        let client = self.client.clone();
        let call = client.list_consumer_groups(&self.source.logstore);
        let groups = self.ask("consumer group", "ListConsumerGroup", call).await?;
        let found = groups.into_iter().find(|group| group.name == self.source.consumer_group);
        match &found {
            Some(found) => {
                self.rights.group_exists();
                group::settings(self.source, found, self.findings);
            }
            None => {
                let name = &self.source.consumer_group;
                let detail = format!("{name} does not exist yet and will be made");
                self.findings.ok("consumer group", &detail);
            }
        }
        found
    }

    async fn shards(&mut self) -> Option<Vec<ShardInfo>> {
        let client = self.client.clone();
        let call = client.list_shards(&self.source.logstore);
        let shards = self.ask("shards", "ListShards", call).await?;
        let closed = shards.iter().filter(|shard| shard.is_read_only()).count();
        self.findings.ok("shards", &format!("{} in all, {closed} of them read-only", shards.len()));
        Some(shards)
    }

    async fn checkpoints(&mut self, group: &ConsumerGroup) -> Option<Vec<CheckpointState>> {
        let client = self.client.clone();
        let call = client.get_checkpoints(&self.source.logstore, &group.name, None);
        self.ask("checkpoints", "GetCheckPoint", call).await
    }

    /// Pulls one log group of a shard that is written to, where there is one.
    async fn pull(&mut self, shards: Option<&[ShardInfo]>) {
        let (client, source) = (self.client.clone(), self.source);
        let shard = match shards {
            None => 0,
            Some(shards) => {
                let open = shards.iter().find(|shard| !shard.is_read_only());
                match open.or(shards.first()) {
                    Some(shard) => shard.shard,
                    None => return,
                }
            }
        };
        let begin = client.get_cursor(&source.logstore, shard, CursorFrom::Begin);
        let Some(begin) = self.ask("pull", "GetCursor", begin).await else { return };
        let mut request = PullRequest::new(&begin, 1);
        request.filter = source.filter.as_ref();
        let call = client.pull_logs(&source.logstore, shard, request);
        let Some(answer) = self.ask("pull", "PullLogs", call).await else { return };
        let detail = format!(
            "shard {shard}: {} log groups, {} raw; nothing was consumed",
            answer.groups,
            output::size(answer.raw_size)
        );
        self.findings.ok("pull", &detail);
        let identity = match (source.filter.is_some(), answer.groups, answer.last_group_cursor) {
            (true, ..) => NOT_NUMBERED,
            (false, 0, _) => "not known yet: the shard is empty",
            (false, _, Some(_)) => {
                "exact: SLS numbers its log groups, and a log that is read again has the same identity"
            }
            (false, _, None) => {
                "approximate: SLS does not number its log groups here, and a log that is read again in another batch has another identity"
            }
        };
        self.findings.note("identity of a log", identity);
    }

    fn clock(&mut self) {
        let offset = self.client.clock_offset();
        let (seconds, way) =
            (offset.unsigned_abs(), if offset < 0 { "behind" } else { "ahead of" });
        let detail = format!("SLS is {seconds} s {way} this machine");
        if seconds > CLOCK_OFF {
            let detail = format!(
                "{detail}; signatures are corrected by it as soon as SLS refuses one, but set the clock, as logs are dated with it elsewhere"
            );
            self.findings.warn("clock", "check.clock", &detail);
        } else if self.answered && !self.ended {
            self.findings.ok("clock", &detail);
        }
    }

    /// Seconds since the epoch by the clock of SLS.
    pub(super) fn now(&self) -> i64 {
        jiff::Timestamp::now().as_second().saturating_add(self.client.clock_offset())
    }
}
