//! The calls about the project, the logstore and its consumer groups.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::answer::{Answer, Refusal};
use super::group::{Commit, Group};
use super::request::{Call, Request};
use super::service::{AcceptedCheckpoint, Service};
use super::shard::{Shard, cursor_number, cursor_text};

/// Consumer groups a logstore may have.
const MAX_GROUPS: usize = 30;

#[derive(Deserialize)]
struct GroupSettings {
    #[serde(rename = "consumerGroup")]
    name: Option<String>,
    timeout: Option<u64>,
    order: Option<bool>,
}

#[derive(Deserialize)]
struct Position {
    shard: u32,
    checkpoint: String,
}

impl Service {
    /// Carries out one call whose caller is known and whose logstore exists.
    pub(super) fn route(&self, request: &Request, call: Call) -> Result<Answer, Refusal> {
        match call {
            Call::GetProject => Ok(self.project()),
            Call::GetLogStore { .. } => Ok(self.logstore()),
            Call::ListShards { .. } => Ok(self.list_shards()),
            Call::GetCursor { shard, .. } => self.cursor(request, shard),
            Call::GetCursorTime { shard, .. } => self.cursor_time(request, shard),
            Call::PullLogs { shard, .. } => self.pull(request, shard),
            Call::PutLogs { .. } => self.put(request),
            Call::CreateGroup { .. } => self.create_group(request),
            Call::ListGroups { .. } => Ok(self.list_groups()),
            Call::UpdateGroup { group, .. } => self.update_group(request, &group),
            Call::DeleteGroup { group, .. } => self.delete_group(&group),
            Call::GetCheckpoints { group, .. } => self.checkpoints(request, &group),
            Call::Heartbeat { group, .. } => self.heartbeat(request, &group),
            Call::UpdateCheckpoint { group, .. } => self.update_checkpoint(request, &group),
        }
    }

    fn project(&self) -> Answer {
        Answer::json(&json!({
            "projectName": self.project,
            "status": "Normal",
            "region": "emulator",
            "owner": "",
            "description": "emulated, on loopback",
        }))
    }

    fn logstore(&self) -> Answer {
        let shards = self.state().store.shards().filter(|shard| !shard.is_read_only()).count();
        Answer::json(&json!({
            "logstoreName": self.logstore,
            "ttl": 30,
            "shardCount": shards,
            "autoSplit": false,
            "maxSplitShard": 64,
            "enable_tracking": false,
            "mode": "standard",
        }))
    }

    fn list_shards(&self) -> Answer {
        let key = |key: u128| format!("{key:032x}");
        let describe = |shard: &Shard| {
            json!({
                "shardID": shard.id,
                "status": if shard.is_read_only() { "readonly" } else { "readwrite" },
                "inclusiveBeginKey": key(shard.begin_key),
                "exclusiveEndKey": key(shard.end_key),
                "createTime": shard.created,
            })
        };
        Answer::json(&self.state().store.shards().map(describe).collect())
    }

    fn cursor(&self, request: &Request, shard: u32) -> Result<Answer, Refusal> {
        let state = self.state();
        let shard = state.store.shard(shard)?;
        let cursor = match request.required("from")? {
            "begin" => shard.begin(),
            "end" => shard.end(),
            unix => shard.cursor_at(unix.parse().map_err(|_| {
                Refusal::invalid(format!("from={unix} is not begin, end or a time in seconds"))
            })?),
        };
        Ok(Answer::json(&json!({"cursor": cursor_text(cursor)})))
    }

    fn cursor_time(&self, request: &Request, shard: u32) -> Result<Answer, Refusal> {
        let cursor = required_cursor(request.required("cursor")?)?;
        let time = self.state().store.shard(shard)?.time_at(cursor, self.unix())?;
        Ok(Answer::json(&json!({"cursor_time": time})))
    }

    fn create_group(&self, request: &Request) -> Result<Answer, Refusal> {
        let settings: GroupSettings = parse(request)?;
        let name = settings.name.filter(|name| !name.is_empty()).ok_or_else(|| {
            Refusal::new(400, "JsonInfoInvalid", "consumerGroup is missing or empty")
        })?;
        let timeout = settings.timeout.filter(|timeout| *timeout > 0).ok_or_else(|| {
            Refusal::new(400, "JsonInfoInvalid", "timeout is missing or not at least a second")
        })?;
        let mut state = self.state();
        if state.groups.contains_key(&name) {
            let message = format!("consumer group {name} exists already");
            return Err(Refusal::new(400, "ConsumerGroupAlreadyExist", message));
        }
        if state.groups.len() >= MAX_GROUPS {
            let message = format!("a logstore has at most {MAX_GROUPS} consumer groups");
            return Err(Refusal::new(403, "ConsumerGroupQuotaExceed", message));
        }
        let timeout = Duration::from_secs(timeout);
        state.groups.insert(name, Group::new(timeout, settings.order.unwrap_or(false)));
        Ok(Answer::empty())
    }

    fn list_groups(&self) -> Answer {
        let describe = |(name, group): (&String, &Group)| json!({"name": name, "timeout": group.timeout().as_secs(), "order": group.order()});
        Answer::json(&self.state().groups.iter().map(describe).collect())
    }

    fn update_group(&self, request: &Request, name: &str) -> Result<Answer, Refusal> {
        let settings: GroupSettings = parse(request)?;
        let timeout = settings.timeout.filter(|timeout| *timeout > 0).map(Duration::from_secs);
        self.state().with_group(name, |group, _, _| group.update(timeout, settings.order))?;
        Ok(Answer::empty())
    }

    pub(super) fn delete_group(&self, name: &str) -> Result<Answer, Refusal> {
        let mut state = self.state();
        state.with_group(name, |_, _, _| ())?;
        state.groups.remove(name);
        Ok(Answer::empty())
    }

    fn checkpoints(&self, request: &Request, name: &str) -> Result<Answer, Refusal> {
        let wanted = match request.parameter("shard") {
            None => None,
            Some(shard) => Some(shard.parse::<u32>().map_err(|_| {
                Refusal::invalid(format!("parameter shard={shard} is not a number"))
            })?),
        };
        let all =
            self.state().with_group(name, |group, now, facts| group.checkpoints(now, facts))?;
        let list: Value = all
            .into_iter()
            .filter(|(shard, _)| wanted.is_none_or(|wanted| wanted == *shard))
            .map(|(shard, checkpoint)| match checkpoint {
                None => json!({"shard": shard, "checkpoint": "", "updateTime": 0, "consumer": ""}),
                Some(checkpoint) => json!({
                    "shard": shard,
                    "checkpoint": cursor_text(checkpoint.cursor),
                    "updateTime": checkpoint.update_micros,
                    "consumer": checkpoint.consumer,
                }),
            })
            .collect();
        Ok(Answer::json(&list))
    }

    fn heartbeat(&self, request: &Request, name: &str) -> Result<Answer, Refusal> {
        let consumer = consumer(request)?;
        let reported: Vec<u32> = parse(request)?;
        let held = self.state().with_group(name, |group, now, facts| {
            group.heartbeat(now, facts, consumer, &reported)
        })??;
        self.counters.heartbeats.fetch_add(1, Ordering::Relaxed);
        Ok(Answer::json(&json!(held)))
    }

    fn update_checkpoint(&self, request: &Request, name: &str) -> Result<Answer, Refusal> {
        let force = request.parameter("forceSuccess");
        let force = force.is_some_and(|force| force.eq_ignore_ascii_case("true"));
        let consumer = if force {
            request.parameter("consumer").unwrap_or_default()
        } else {
            consumer(request)?
        };
        let position: Position = parse(request)?;
        let cursor = cursor_number(&position.checkpoint).ok_or_else(|| {
            Refusal::new(400, "InvalidShardCheckPoint", "the checkpoint is not a cursor")
        })?;
        self.commit(name, consumer, position.shard, cursor, force)?;
        Ok(Answer::empty())
    }

    /// Commits a checkpoint and notes that it was accepted.
    pub(super) fn commit(
        &self,
        group: &str,
        consumer: &str,
        shard: u32,
        cursor: i64,
        force: bool,
    ) -> Result<(), Refusal> {
        let update_micros = u64::try_from(self.clock().as_microsecond()).unwrap_or_default();
        let commit = Commit { consumer, shard, cursor, force, update_micros };
        let mut state = self.state();
        state.with_group(group, |group, now, facts| group.commit(now, facts, &commit))??;
        state.accepted.push(AcceptedCheckpoint {
            group: group.to_owned(),
            consumer: consumer.to_owned(),
            shard,
            cursor,
            forced: force,
        });
        Ok(())
    }
}

/// Reads a cursor's text; what is no cursor at all is refused like an expired one.
pub(super) fn required_cursor(text: &str) -> Result<i64, Refusal> {
    cursor_number(text)
        .ok_or_else(|| Refusal::new(400, "InvalidCursor", format!("{text} is not a cursor")))
}

fn consumer(request: &Request) -> Result<&str, Refusal> {
    match request.required("consumer")? {
        "" => Err(Refusal::invalid("parameter consumer is empty")),
        consumer => Ok(consumer),
    }
}

fn parse<T: DeserializeOwned>(request: &Request) -> Result<T, Refusal> {
    serde_json::from_slice(&request.body).map_err(|error| {
        Refusal::new(400, "JsonInfoInvalid", format!("the body cannot be read: {error}"))
    })
}
