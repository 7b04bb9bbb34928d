//! An SLS service on loopback, good enough for the official SDKs to consume from.
//!
//! One project with one logstore and one access key. `store` and `shard` are what
//! is in it, `group` decides who consumes what, `request`, `auth`, `routes` and
//! `logs` are its API, `http` its connections. [`Faults`] make it misbehave, and
//! the methods of [`SlsEmulator`] look at it and change it from the inside.

mod answer;
mod asked;
mod auth;
mod faults;
mod filter;
mod group;
mod http;
mod logs;
mod repeat;
mod request;
mod routes;
mod service;
mod shard;
mod spoil;
mod store;

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use asked::Asked;
pub use faults::{Fault, FaultKind, Faults, Operation};
pub use group::{Checkpoint, Commit, Group, GroupError, ShardFacts, ShardState};
pub use service::{AcceptedCheckpoint, SlsStats};
pub use shard::{Shard, cursor_number, cursor_text};
pub use store::{Generator, Make, Store, StoreError};

use crate::sls::wire::LogGroup;

/// What to emulate.
#[derive(Clone)]
pub struct SlsConfig {
    /// Where to listen; loopback only, port 0 for any free port.
    pub listen: SocketAddr,
    /// The project's name.
    pub project: String,
    /// The logstore's name.
    pub logstore: String,
    /// Shards at the start.
    pub shards: u32,
    /// The access key's id.
    pub key_id: String,
    /// The access key's secret.
    pub key_secret: String,
    /// Log groups that are there from the start.
    pub generator: Option<Generator>,
    /// Generated log groups repeat after so many, in every shard alike, and the answers with
    /// them are kept as they are sent: for measuring a client beside a service that costs
    /// little. Without it all are made anew at every pull.
    pub repeat: Option<u64>,
    /// Answer with zstd to those who accept it.
    pub zstd: bool,
    /// Most uncompressed bytes in one pull, unless a single group is larger.
    pub max_raw_bytes: usize,
}

impl Default for SlsConfig {
    fn default() -> SlsConfig {
        SlsConfig {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            project: "demo-project".to_owned(),
            logstore: "demo-logstore".to_owned(),
            shards: 1,
            key_id: "demo-key-id".to_owned(),
            key_secret: "demo-key-secret".to_owned(),
            generator: None,
            repeat: None,
            zstd: false,
            max_raw_bytes: 4 * 1024 * 1024,
        }
    }
}

impl std::fmt::Debug for SlsConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SlsConfig")
            .field("listen", &self.listen)
            .field("project", &self.project)
            .field("logstore", &self.logstore)
            .field("shards", &self.shards)
            .field("key_id", &self.key_id)
            .field("generator", &self.generator)
            .field("repeat", &self.repeat)
            .field("zstd", &self.zstd)
            .field("max_raw_bytes", &self.max_raw_bytes)
            .finish_non_exhaustive()
    }
}

/// A running service. It ends when dropped.
pub struct SlsEmulator {
    service: Arc<service::Service>,
    address: SocketAddr,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl SlsEmulator {
    /// Starts it; must be called inside a tokio runtime, which then runs it.
    ///
    /// # Errors
    /// An address that is not loopback, or one that cannot be listened on.
    pub async fn start(config: SlsConfig) -> io::Result<SlsEmulator> {
        if !config.listen.ip().is_loopback() {
            let message = format!("{} is not loopback, listen on 127.0.0.1", config.listen);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let listener = TcpListener::bind(config.listen).await?;
        let address = listener.local_addr()?;
        let identity = service::Identity {
            project: config.project,
            logstore: config.logstore,
            key: auth::Key { id: config.key_id, secret: config.key_secret },
        };
        let (shards, mut generator) = (config.shards, config.generator);
        if let (Some(period), Some(generator)) = (config.repeat, &mut generator) {
            let make = Arc::clone(&generator.make);
            generator.make = Arc::new(move |_, number| make(0, number % period.max(1)));
        }
        let store = |now| Store::new(shards, generator, now);
        let mut service = service::Service::new(identity, config.zstd, config.max_raw_bytes, store);
        service.repeated = config.repeat.map(repeat::Repeated::new);
        let (service, stop, tasks) =
            (Arc::new(service), CancellationToken::new(), TaskTracker::new());
        let serving = http::serve(listener, Arc::clone(&service), stop.clone(), tasks.clone());
        tasks.spawn(serving);
        Ok(SlsEmulator { service, address, stop, tasks })
    }

    /// `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The switchboard of its faults.
    pub fn faults(&self) -> Faults {
        self.service.faults.clone()
    }

    /// What was asked of it so far.
    pub fn stats(&self) -> SlsStats {
        self.service.stats()
    }

    /// Adds a log group to a shard; gives the group's cursor.
    ///
    /// # Errors
    /// No such shard, or it is read-only.
    pub fn put_group(&self, shard: u32, group: &LogGroup) -> Result<String, StoreError> {
        let now = self.service.unix();
        self.service.state().store.put(shard, group, now).map(cursor_text)
    }

    /// Cursor of the oldest group a shard retains.
    ///
    /// # Errors
    /// No such shard.
    pub fn begin_cursor(&self, shard: u32) -> Result<String, StoreError> {
        Ok(cursor_text(self.service.state().store.shard(shard)?.begin()))
    }

    /// Cursor of the next group written to a shard, or behind a read-only one's last.
    ///
    /// # Errors
    /// No such shard.
    pub fn end_cursor(&self, shard: u32) -> Result<String, StoreError> {
        Ok(cursor_text(self.service.state().store.shard(shard)?.end()))
    }

    /// Lets the first `groups` groups ever written to a shard fall out of retention.
    ///
    /// # Errors
    /// No such shard.
    pub fn expire_before(&self, shard: u32, groups: u64) -> Result<(), StoreError> {
        self.service.state().store.expire_before(shard, groups)
    }

    /// Splits a shard; gives its children.
    ///
    /// # Errors
    /// No such shard, or it is read-only already.
    pub fn split(&self, shard: u32) -> Result<(u32, u32), StoreError> {
        let now = self.service.unix();
        self.service.state().store.split(shard, now)
    }

    /// Merges two shards; gives the child.
    ///
    /// # Errors
    /// One of them does not exist or is read-only already, or both are the same.
    pub fn merge(&self, a: u32, b: u32) -> Result<u32, StoreError> {
        let now = self.service.unix();
        self.service.state().store.merge(a, b, now)
    }

    /// Keeps a consume processor: pulls that name it answer as if they had this query.
    ///
    /// # Errors
    /// A query that the emulator does not know.
    pub fn set_processor(&self, name: &str, query: &str) -> io::Result<()> {
        let filter = filter::Filter::parse(query)
            .map_err(|refusal| io::Error::new(io::ErrorKind::InvalidInput, refusal.message))?;
        self.service.state().processors.insert(name.to_owned(), filter);
        Ok(())
    }

    /// A group's checkpoint of a shard as text; `None` without group, shard or commit.
    pub fn checkpoint(&self, group: &str, shard: u32) -> Option<String> {
        self.checkpoint_number(group, shard).map(cursor_text)
    }

    /// A group's checkpoint of a shard as a number; `None` without group, shard or commit.
    pub fn checkpoint_number(&self, group: &str, shard: u32) -> Option<i64> {
        let mut state = self.service.state();
        let all =
            state.with_group(group, |group, now, facts| group.checkpoints(now, facts)).ok()?;
        let (_, checkpoint) = all.into_iter().find(|(id, _)| *id == shard)?;
        checkpoint.map(|checkpoint| checkpoint.cursor)
    }

    /// Every checkpoint accepted so far, in order.
    pub fn checkpoint_log(&self) -> Vec<AcceptedCheckpoint> {
        self.service.state().accepted.clone()
    }

    /// Sets a checkpoint as an operator would: forced, in nobody's name.
    ///
    /// # Errors
    /// No such group or shard, or a text that is no cursor.
    pub fn set_checkpoint(&self, group: &str, shard: u32, cursor: &str) -> io::Result<()> {
        let refused =
            |refusal: answer::Refusal| io::Error::new(io::ErrorKind::InvalidInput, refusal.message);
        let cursor = routes::required_cursor(cursor).map_err(refused)?;
        self.service.commit(group, "", shard, cursor, true).map_err(refused)
    }

    /// The newest requests (some ten thousand), oldest first, each as it was answered.
    pub fn requests(&self) -> Vec<Asked> {
        self.service.state().asked.all()
    }

    /// Forgets a consumer of a group as if its heartbeats had stayed away for the timeout.
    pub fn expel(&self, group: &str, consumer: &str) {
        let mut state = self.service.state();
        let _ = state.with_group(group, |group, now, _| group.expel(now, consumer));
    }

    /// Deletes a group with its checkpoints, as an operator would.
    ///
    /// # Errors
    /// No such group.
    pub fn delete_group(&self, group: &str) -> io::Result<()> {
        let refused =
            |refusal: answer::Refusal| io::Error::new(io::ErrorKind::InvalidInput, refusal.message);
        self.service.delete_group(group).map(drop).map_err(refused)
    }

    /// Who holds which shard of a group, hand-overs under way counted for the old holder.
    pub fn holders(&self, group: &str) -> BTreeMap<u32, String> {
        let mut state = self.service.state();
        state.with_group(group, |group, now, facts| group.holders(now, facts)).unwrap_or_default()
    }

    /// Ends it and waits until its port and connections are closed.
    pub async fn shutdown(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for SlsEmulator {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
