//! The calls of the SLS API that a consumer needs, but for PullLogs.

use std::time::Duration;

use http::Method;
use serde::Deserialize;

use super::client::Client;
use super::cursor::Cursor;
use super::error::Error;
use super::request::{Call, check_name};

/// A project (GetProject).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Project {
    /// Its name.
    #[serde(rename = "projectName")]
    pub name: String,
    /// `Normal`, unless something is wrong with it.
    #[serde(default)]
    pub status: String,
    /// The region it is in.
    #[serde(default)]
    pub region: String,
}

/// A logstore (GetLogStore).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Logstore {
    /// Its name.
    #[serde(rename = "logstoreName")]
    pub name: String,
    /// How many days logs are kept; 3650 means for ever.
    #[serde(rename = "ttl")]
    pub ttl_days: u32,
    /// How many shards it has.
    #[serde(rename = "shardCount")]
    pub shard_count: u32,
}

/// A shard as ListShards shows it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ShardInfo {
    /// Its number.
    #[serde(rename = "shardID")]
    pub shard: u32,
    /// `readwrite`, or `readonly` after a split or merge.
    pub status: String,
    /// When it was made, seconds since the epoch.
    #[serde(rename = "createTime")]
    pub created: Option<i64>,
}

/// Where to place a cursor (`from` of GetCursor).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CursorFrom {
    /// At the oldest log group kept.
    Begin,
    /// Behind the newest.
    End,
    /// At the first log group that SLS *received* at or after this time, seconds since
    /// the epoch.
    Time(i64),
}

/// What became of CreateConsumerGroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupCreation {
    /// The group is new.
    Created,
    /// A group of this name was there already, with settings of its own.
    AlreadyExists,
}

/// A consumer group (ListConsumerGroup).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ConsumerGroup {
    /// Its name.
    pub name: String,
    /// Seconds without a heartbeat after which a consumer's shards go to others.
    #[serde(rename = "timeout")]
    pub timeout_s: u32,
    /// Whether the children of a split or merged shard wait for their parents.
    #[serde(default)]
    pub order: bool,
}

/// The checkpoint of one shard (GetCheckPoint).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointState {
    /// The shard.
    pub shard: u32,
    /// The next log group to read; none when nothing was ever committed.
    pub checkpoint: Option<Cursor>,
    /// The consumer that holds the shard or wrote the checkpoint; empty when there is none.
    pub consumer: String,
    /// When it was written, microseconds since the epoch; 0 when it never was.
    pub update_time_us: u64,
}

impl ShardInfo {
    /// Whether nothing more will be written to it.
    pub fn is_read_only(&self) -> bool {
        self.status.eq_ignore_ascii_case("readonly")
    }
}

impl Client {
    /// GetProject.
    ///
    /// # Errors
    /// As every call: see [`Error::advice`].
    pub async fn get_project(&self) -> Result<Project, Error> {
        self.json(&Call::new("GetProject", Method::GET, self.project(), None, &[])?, None).await
    }

    /// GetLogStore.
    ///
    /// # Errors
    /// As every call: see [`Error::advice`].
    pub async fn get_logstore(&self, logstore: &str) -> Result<Logstore, Error> {
        self.json(&self.on("GetLogStore", Method::GET, logstore, &[])?, None).await
    }

    /// ListShards.
    ///
    /// # Errors
    /// As every call: see [`Error::advice`].
    pub async fn list_shards(&self, logstore: &str) -> Result<Vec<ShardInfo>, Error> {
        self.json(&self.on("ListShards", Method::GET, logstore, &["shards"])?, None).await
    }

    /// GetCursor.
    ///
    /// # Errors
    /// As every call: see [`Error::advice`].
    pub async fn get_cursor(
        &self,
        logstore: &str,
        shard: u32,
        from: CursorFrom,
    ) -> Result<Cursor, Error> {
        #[derive(Deserialize)]
        struct Answer {
            cursor: String,
        }
        let from = match from {
            CursorFrom::Begin => "begin".to_owned(),
            CursorFrom::End => "end".to_owned(),
            CursorFrom::Time(time) => time.to_string(),
        };
        let call = self.on_shard("GetCursor", logstore, shard)?;
        let call = call.query("type", "cursor").query("from", from);
        let answer: Answer = self.json(&call, None).await?;
        Ok(Cursor::new(answer.cursor))
    }

    /// GetCursorTime: when SLS received the log group the cursor points at, seconds since
    /// the epoch.
    ///
    /// # Errors
    /// As every call: see [`Error::advice`].
    pub async fn get_cursor_time(
        &self,
        logstore: &str,
        shard: u32,
        cursor: &Cursor,
    ) -> Result<i64, Error> {
        #[derive(Deserialize)]
        struct Answer {
            cursor_time: i64,
        }
        let call = self.on_shard("GetCursorTime", logstore, shard)?;
        let call = call.query("type", "cursor_time").query("cursor", cursor);
        let answer: Answer = self.json(&call, None).await?;
        Ok(answer.cursor_time)
    }

    /// CreateConsumerGroup; `timeout_s` is the time without a heartbeat after which SLS
    /// takes a consumer's shards away.
    ///
    /// # Errors
    /// As every call: see [`Error::advice`].
    pub async fn create_consumer_group(
        &self,
        logstore: &str,
        group: &str,
        timeout_s: u32,
        order: bool,
    ) -> Result<GroupCreation, Error> {
        check_name("consumer group", group)?;
        let body =
            serde_json::json!({ "consumerGroup": group, "timeout": timeout_s, "order": order });
        let call = self.on("CreateConsumerGroup", Method::POST, logstore, &["consumergroups"])?;
        match self.accepted(&call.json(&body)).await {
            Ok(()) => Ok(GroupCreation::Created),
            Err(error) if error.code() == "sls.group_exists" => Ok(GroupCreation::AlreadyExists),
            Err(error) => Err(error),
        }
    }

    /// ListConsumerGroup.
    ///
    /// # Errors
    /// As every call: see [`Error::advice`].
    pub async fn list_consumer_groups(&self, logstore: &str) -> Result<Vec<ConsumerGroup>, Error> {
        let call = self.on("ListConsumerGroup", Method::GET, logstore, &["consumergroups"])?;
        self.json(&call, None).await.map(GroupList::groups)
    }

    /// UpdateConsumerGroup: changes the settings of a group for all its consumers.
    ///
    /// # Errors
    /// As every call: see [`Error::advice`].
    pub async fn update_consumer_group(
        &self,
        logstore: &str,
        group: &str,
        timeout_s: u32,
        order: bool,
    ) -> Result<(), Error> {
        let call = self.on_group("UpdateConsumerGroup", Method::PUT, logstore, group)?;
        let body = serde_json::json!({ "timeout": timeout_s, "order": order });
        self.accepted(&call.json(&body)).await
    }

    /// HeartBeat: reports the shards this consumer still touches, and returns all it may
    /// hold. Give it a `timeout` well below the heartbeat interval: a heartbeat that
    /// lingers costs the lease.
    ///
    /// # Errors
    /// As every call: see [`Error::advice`].
    pub async fn heartbeat(
        &self,
        logstore: &str,
        group: &str,
        consumer: &str,
        shards: &[u32],
        timeout: Duration,
    ) -> Result<Vec<u32>, Error> {
        let call = self.on_group("HeartBeat", Method::POST, logstore, group)?;
        let call = call.query("type", "heartbeat").query("consumer", consumer);
        let call = call.json(&serde_json::json!(shards));
        self.json(&call, Some(timeout)).await.map(HeartbeatReply::shards)
    }

    /// GetCheckPoint, of one shard or of all. A shard that the group does not know is
    /// absent from the answer.
    ///
    /// # Errors
    /// As every call: see [`Error::advice`].
    pub async fn get_checkpoints(
        &self,
        logstore: &str,
        group: &str,
        shard: Option<u32>,
    ) -> Result<Vec<CheckpointState>, Error> {
        let mut call = self.on_group("GetCheckPoint", Method::GET, logstore, group)?;
        if let Some(shard) = shard {
            call = call.query("shard", shard).about(shard);
        }
        let answers: Vec<CheckpointAnswer> = self.json(&call, None).await?;
        Ok(answers.into_iter().map(CheckpointAnswer::state).collect())
    }

    /// UpdateCheckPoint with `forceSuccess=false`: refused with [`super::Advice::NotOwner`]
    /// unless this consumer holds the shard.
    ///
    /// # Errors
    /// As every call: see [`Error::advice`].
    pub async fn update_checkpoint(
        &self,
        logstore: &str,
        group: &str,
        consumer: &str,
        shard: u32,
        cursor: &Cursor,
    ) -> Result<(), Error> {
        let call = self.on_group("UpdateCheckPoint", Method::POST, logstore, group)?.about(shard);
        let call = call
            .query("type", "checkpoint")
            .query("consumer", consumer)
            .query("forceSuccess", "false");
        let body = serde_json::json!({ "shard": shard, "checkpoint": cursor.as_str() });
        self.accepted(&call.json(&body)).await
    }

    pub(super) fn on_shard(
        &self,
        operation: &'static str,
        logstore: &str,
        shard: u32,
    ) -> Result<Call, Error> {
        let call = self.on(operation, Method::GET, logstore, &["shards", &shard.to_string()])?;
        Ok(call.about(shard))
    }

    fn on(
        &self,
        operation: &'static str,
        method: Method,
        logstore: &str,
        rest: &[&str],
    ) -> Result<Call, Error> {
        Call::new(operation, method, self.project(), Some(logstore), rest)
    }

    fn on_group(
        &self,
        operation: &'static str,
        method: Method,
        logstore: &str,
        group: &str,
    ) -> Result<Call, Error> {
        check_name("consumer group", group)?;
        self.on(operation, method, logstore, &["consumergroups", group])
    }
}

/// A heartbeat's answer. The documents show an object, the SDKs read a bare array.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum HeartbeatReply {
    Bare(Vec<u32>),
    Named { shards: Vec<u32> },
}

/// ListConsumerGroup's answer, in the same two forms.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum GroupList {
    Bare(Vec<ConsumerGroup>),
    Counted {
        #[serde(rename = "consumerGroups", alias = "consumergroups")]
        groups: Vec<ConsumerGroup>,
    },
}

/// One element of GetCheckPoint's answer.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CheckpointAnswer {
    shard: u32,
    checkpoint: Option<String>,
    update_time: Option<u64>,
    consumer: Option<String>,
}

impl HeartbeatReply {
    pub(super) fn shards(self) -> Vec<u32> {
        match self {
            Self::Bare(shards) | Self::Named { shards } => shards,
        }
    }
}

impl GroupList {
    pub(super) fn groups(self) -> Vec<ConsumerGroup> {
        match self {
            Self::Bare(groups) | Self::Counted { groups } => groups,
        }
    }
}

impl CheckpointAnswer {
    pub(super) fn state(self) -> CheckpointState {
        CheckpointState {
            shard: self.shard,
            checkpoint: self.checkpoint.filter(|text| !text.is_empty()).map(Cursor::new),
            consumer: self.consumer.unwrap_or_default(),
            update_time_us: microseconds(self.update_time.unwrap_or(0)),
        }
    }
}

/// A time in seconds, milliseconds, microseconds or nanoseconds: documents, READMEs and
/// samples disagree, and the magnitudes do not overlap between 1973 and 5138.
fn microseconds(time: u64) -> u64 {
    match time {
        0..100_000_000_000 => time * 1_000_000,
        100_000_000_000..100_000_000_000_000 => time * 1000,
        100_000_000_000_000..100_000_000_000_000_000 => time,
        _ => time / 1000,
    }
}

#[cfg(test)]
mod tests {
    use super::microseconds;

    #[test]
    fn an_update_time_of_any_unit_becomes_microseconds() {
        let expected = 1_524_224_984_000_000;
        for time in [1_524_224_984, 1_524_224_984_000, expected, 1_524_224_984_000_000_000] {
            assert_eq!(microseconds(time), expected, "{time}");
        }
        assert_eq!(microseconds(0), 0);
        assert!(microseconds(u64::MAX) > 0);
    }
}
