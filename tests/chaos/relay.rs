//! One relay of the group: the real binary with a spool, a way to SLS and a receiver of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use rustix::process::Signal;
use sls_relay::emulator::arrivals::{Arrivals, body_of};
use sls_relay::emulator::receiver::{Receiver, ReceiverConfig};
use sls_relay::emulator::sls::{SlsConfig, SlsEmulator};
use sls_relay::emulator::waf::id_of;
use sls_relay::spool::State;
use sls_relay::spool::inspect::Inspection;
use sls_relay::syslog::body;

use crate::link::Link;
use crate::process::{Process, sent_again};
use crate::{GROUP, PER_GROUP};

/// Every log that came, by connection.
type Came = Arc<Mutex<Vec<(u64, u32, u64)>>>;

pub(crate) struct Relay {
    pub(crate) link: Link,
    pub(crate) receiver: Receiver,
    came: Came,
    dir: tempfile::TempDir,
    config: PathBuf,
    running: Option<Process>,
    log: Vec<String>,
}

impl Relay {
    pub(crate) async fn new(
        sls: &SlsEmulator,
        config: &SlsConfig,
        more: &str,
        arrivals: &Arc<Mutex<Arrivals>>,
    ) -> Self {
        let link = Link::to(sls.address()).await;
        let came = Came::default();
        let (sink, all) = (Arc::clone(&came), Arc::clone(arrivals));
        let any = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let receiver = Receiver::start(
            ReceiverConfig { tcp: any, ..ReceiverConfig::default() },
            Arc::new(move |connection, message| {
                all.lock().unwrap().message(message);
                if let Some((shard, n)) = id(message) {
                    sink.lock().unwrap().push((connection, shard, n));
                }
            }),
        )
        .unwrap();
        let dir = tempfile::tempdir().unwrap();
        let secret = dir.path().join("secret");
        std::fs::write(&secret, &config.key_secret).unwrap();
        let text = format!(
            r#"
[spool]
dir = {spool:?}
max_bytes = "256 MiB"
min_free_bytes = "0"

[[source]]
endpoint = "http://{sls}"
project = "{project}"
logstore = "{logstore}"
consumer_group = "{GROUP}"
access_key_id = "{key_id}"
access_key_secret_file = {secret:?}
heartbeat_interval = "1 s"
group_timeout = "5 s"
idle_poll = "200 ms"
{more}

[[destination]]
to = "tcp://{to}"
max_message = 200000
settle = "200 ms"
drain_every = "1 s"
drain_bytes = "1 MiB"
drain_idle = "100 ms"
timeout = "10 s"
"#,
            spool = dir.path().join("spool"),
            sls = link.addr,
            project = config.project,
            logstore = config.logstore,
            key_id = config.key_id,
            to = receiver.tcp_addr().unwrap(),
        );
        let path = dir.path().join("relay.toml");
        std::fs::write(&path, text).unwrap();
        Self { link, receiver, came, dir, config: path, running: None, log: Vec::new() }
    }

    pub(crate) fn start(&mut self) {
        self.running = Some(Process::start(&self.config));
    }

    pub(crate) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Ends it, and returns its exit code where it has one.
    pub(crate) async fn end(&mut self, signal: Signal) -> Option<i32> {
        let process = self.running.take().unwrap();
        process.signal(signal);
        let (status, log) = tokio::task::spawn_blocking(|| process.wait()).await.unwrap();
        self.log.extend(log);
        status.code()
    }

    /// What the spool holds now; a live one may be a little ahead.
    pub(crate) fn spool(&self) -> State {
        let spool = self.dir.path().join("spool");
        Inspection::open(&spool).map(|spool| spool.state()).unwrap_or_default()
    }

    /// Whether everything in its spool is confirmed.
    pub(crate) fn has_delivered(&self) -> bool {
        let state = self.spool();
        state.destinations.get("syslog").is_some_and(|known| known.log == state.next_log)
    }

    /// Messages that came, less the logs that the spool knows to be confirmed.
    pub(crate) fn unconfirmed(&self) -> u64 {
        let confirmed = self.spool().destinations.get("syslog").map_or(0, |known| known.log);
        self.receiver.counts().messages.saturating_sub(confirmed)
    }

    /// Logs in the spool behind the group's checkpoints: another relay would read them again.
    pub(crate) fn uncommitted(&self, sls: &SlsEmulator) -> u64 {
        let groups = self.spool().shards.into_iter().map(|(key, shard)| {
            let position = sls_relay::emulator::sls::cursor_number(&shard.position).unwrap();
            let checkpoint = sls.checkpoint_number(GROUP, key.shard);
            let begin = sls.begin_cursor(key.shard).unwrap();
            let begin = sls_relay::emulator::sls::cursor_number(&begin).unwrap();
            u64::try_from(position - checkpoint.unwrap_or(begin)).unwrap_or(0)
        });
        groups.sum::<u64>() * PER_GROUP
    }

    /// On one connection the logs of a shard follow each other without a hole, except where
    /// the relay has taken the shard anew: then the first is the one at that cursor.
    pub(crate) fn check_order(&self, sls: &SlsEmulator) {
        let mut taken: BTreeMap<u32, BTreeSet<u64>> = BTreeMap::new();
        for line in self.log.iter().filter(|line| line.contains("shard taken, ")) {
            let field = |name: &str| {
                let words = &mut line.split_whitespace();
                words.find_map(|word| word.strip_prefix(name)).map(str::to_owned)
            };
            let shard: u32 = field("shard=").unwrap().parse().unwrap();
            let number = |cursor: &str| sls_relay::emulator::sls::cursor_number(cursor).unwrap();
            let from = number(&field("cursor=").unwrap());
            let group = from - number(&sls.begin_cursor(shard).unwrap());
            taken.entry(shard).or_default().insert(u64::try_from(group).unwrap() * PER_GROUP);
        }
        let mut last = BTreeMap::new();
        for (connection, shard, n) in self.came.lock().unwrap().iter() {
            let before = last.insert((*connection, *shard), *n);
            let anew = || taken.get(shard).is_some_and(|from| from.contains(n));
            assert!(
                before.is_none_or(|before| before + 1 == *n) || anew(),
                "connection {connection}: log {n} of shard {shard} came after {before:?}"
            );
        }
    }

    /// Logs that it says it has sent again, as it does where a drain was not answered in time.
    pub(crate) fn says_sent_again(&self) -> u64 {
        sent_again(&self.log)
    }

    /// Lines of its log that must not be there.
    pub(crate) fn check_log(&self) {
        let bad = ["spool.damage", "spool.behind", "sls.gap", "sls.handover_timeout", "panicked"];
        let found = self.log.iter().find(|line| bad.iter().any(|bad| line.contains(bad)));
        assert!(found.is_none(), "{found:?}");
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("relay at {} said:", self.link.addr);
            let quiet = |line: &&String| !line.contains(" INFO ") || line.contains("again");
            self.log.iter().filter(quiet).for_each(|line| println!("{line}"));
        }
    }
}

fn id(message: &[u8]) -> Option<(u32, u64)> {
    let fields = body::decode(body_of(message)?, "||").ok()?;
    fields.iter().rev().find(|(key, _)| key == b"request_traceid").and_then(|(_, id)| id_of(id))
}
