//! One emulated logstore with one receiver, for the SDK or for the relay.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::Signal;
use sls_relay::config::Settings;
use sls_relay::emulator::receiver::{Receiver, ReceiverConfig};
use sls_relay::emulator::sls::{Asked, Generator, SlsConfig, SlsEmulator, cursor_number};
use sls_relay::emulator::waf::Waf;
use sls_relay::sls::wire::{Content, Log, LogGroup};
use sls_relay::sls::{Client, ClientConfig, DEFAULT_MAX_RAW_BYTES, SignVersion};
use tempfile::TempDir;

use crate::pipeline::{Ends, Running, wait_for};
use crate::sdk::Script;

pub(crate) use crate::pipeline::GROUP;
pub(crate) use crate::sdk::python;

pub(crate) const LOGSTORE: &str = "demo-logstore";
pub(crate) const OTHER: &str = "other";
pub(crate) const LOGS_PER_GROUP: u64 = 3;

pub(crate) struct Scene {
    ends: Ends,
    pub(crate) receiver: Receiver,
    messages: Arc<Mutex<Vec<Vec<u8>>>>,
    dir: TempDir,
    /// The first cursor of each shard.
    first: Vec<i64>,
}

/// The SDK with a processor that behaves as the sample does.
pub(crate) struct Sdk(Script);

/// Another consumer of the group, which sends heartbeats and reads nothing.
pub(crate) struct Other {
    task: tokio::task::JoinHandle<()>,
}

impl Scene {
    /// Shard 0, 1, … begins with so many groups of [`group`].
    pub(crate) async fn new(groups_per_shard: &[u64]) -> Self {
        Self::serve(groups_per_shard, group).await
    }

    pub(crate) async fn serve(
        groups_per_shard: &[u64],
        make: impl Fn(u32, u64) -> LogGroup + Send + Sync + 'static,
    ) -> Self {
        let generator =
            Generator { groups_per_shard: groups_per_shard.to_vec(), make: Arc::new(make) };
        let shards = u32::try_from(groups_per_shard.len()).unwrap();
        let adjust = |config: &mut SlsConfig| {
            config.generator = Some(generator);
            config.max_raw_bytes = SlsConfig::default().max_raw_bytes;
        };
        let ends = Ends::serve(Waf::new(7), shards, 0, adjust).await;
        let messages = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&messages);
        let tcp = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let receiver = Receiver::start(
            ReceiverConfig { tcp, ..ReceiverConfig::default() },
            Arc::new(move |_, message| sink.lock().unwrap().push(message.to_vec())),
        )
        .unwrap();
        let begin = |shard| cursor_number(&ends.emulator.begin_cursor(shard).unwrap()).unwrap();
        let first = (0..shards).map(begin).collect();
        Self { ends, receiver, messages, dir: tempfile::tempdir().unwrap(), first }
    }

    pub(crate) fn emulator(&self) -> &SlsEmulator {
        &self.ends.emulator
    }

    pub(crate) fn spool(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn settings(&self) -> Settings {
        self.ends.settings_to(self.dir.path(), &format!("tcp://{}", self.syslog()))
    }

    pub(crate) async fn relay(&self) -> Running {
        Running::start(self.settings()).await
    }

    pub(crate) fn sdk(&self, python: &Path, more: &[&str]) -> Sdk {
        let endpoint = format!("localhost:{}", self.emulator().address().port());
        let common = [
            ["--endpoint", &endpoint],
            ["--project", "demo-project"],
            ["--logstore", LOGSTORE],
            ["--key-id", self.ends.key_id()],
            ["--key-secret", self.ends.key_secret()],
            ["--group", GROUP],
            ["--syslog", &self.syslog().to_string()],
        ];
        Sdk(Script::start(python, "forward.py", &[common.as_flattened(), more].concat()))
    }

    /// A client of one's own: another consumer, or an operator.
    pub(crate) fn client(&self) -> Client {
        let settings = self.settings().sources.remove(0);
        let config = ClientConfig {
            endpoint: settings.endpoint,
            project: settings.project,
            credentials: settings.credentials,
            sign: SignVersion::V1,
            region: None,
            user_agent: "other".to_owned(),
            timeout: Duration::from_secs(30),
            max_raw_bytes: DEFAULT_MAX_RAW_BYTES,
            network: settings.network,
            tls: None,
        };
        Client::new(config).unwrap()
    }

    pub(crate) async fn make_group(&self, timeout_s: u32, order: bool) {
        self.client().create_consumer_group(LOGSTORE, GROUP, timeout_s, order).await.unwrap();
    }

    /// Lets another consumer join; its first heartbeat is answered by the time this returns.
    pub(crate) async fn other(&self) -> Other {
        let client = self.client();
        let beat = async move |reported: Vec<u32>| {
            let timeout = Duration::from_secs(30);
            client.heartbeat(LOGSTORE, GROUP, OTHER, &reported, timeout).await
        };
        let mut held = beat(Vec::new()).await.unwrap();
        let task = tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(200)).await;
                held = beat(std::mem::take(&mut held)).await.unwrap_or_default();
            }
        });
        Other { task }
    }

    /// Who holds a shard.
    pub(crate) fn holder(&self, shard: u32) -> Option<String> {
        self.emulator().holders(GROUP).remove(&shard)
    }

    /// Waits until a shard is held and gives the consumer's name.
    pub(crate) async fn held(&self, shard: u32) -> String {
        wait_for("someone to hold the shard", || self.holder(shard).is_some()).await;
        self.holder(shard).unwrap()
    }

    fn syslog(&self) -> SocketAddr {
        self.receiver.tcp_addr().unwrap()
    }

    /// Everything that arrived.
    pub(crate) fn messages(&self) -> Vec<Vec<u8>> {
        self.messages.lock().unwrap().clone()
    }

    /// The ids of the logs that arrived, in order.
    pub(crate) fn arrivals(&self) -> Vec<String> {
        self.messages().iter().filter_map(|message| id_of(message)).collect()
    }

    pub(crate) fn arrived(&self) -> BTreeSet<String> {
        self.arrivals().into_iter().collect()
    }

    pub(crate) async fn all_arrived(&self, wanted: &BTreeSet<String>) {
        wait_for("every log to arrive", || wanted.is_subset(&self.arrived())).await;
    }

    /// Puts a group of [`group`] with this number.
    pub(crate) fn put(&self, shard: u32, number: u64) {
        self.emulator().put_group(shard, &group(shard, number)).unwrap();
    }

    /// Puts groups with numbers from `first` on, one after the other, until a log of one
    /// of them has arrived: everything pulled before them has passed by then.
    pub(crate) async fn put_until_one_arrives(&self, shard: u32, first: u64) {
        let mut next = first;
        wait_for("a later log to arrive", || {
            self.put(shard, next);
            next += 1;
            self.arrived().iter().any(|id| is_from(id, shard, first))
        })
        .await;
    }

    /// All requests of one call.
    pub(crate) fn asked(&self, call: &str) -> Vec<Asked> {
        self.asked_since(0, call)
    }

    /// The requests of one call behind the first `start` of all.
    pub(crate) fn asked_since(&self, start: usize, call: &str) -> Vec<Asked> {
        let requests = self.emulator().requests().into_iter().skip(start);
        requests.filter(|asked| asked.call == call).collect()
    }

    /// The same for the heartbeats of one consumer.
    pub(crate) fn heartbeats_since(&self, start: usize, consumer: &str) -> Vec<Asked> {
        let mut heartbeats = self.asked_since(start, "HeartBeat");
        heartbeats.retain(|asked| asked.parameter("consumer") == Some(consumer));
        heartbeats
    }

    /// Number of groups that the checkpoint of a shard has passed.
    pub(crate) fn passed(&self, shard: u32) -> i64 {
        let checkpoint = self.emulator().checkpoint_number(GROUP, shard);
        checkpoint.map_or(0, |checkpoint| checkpoint - self.first[shard as usize])
    }

    /// Whether a shard's checkpoint is at its end.
    pub(crate) fn committed(&self, shard: u32) -> bool {
        self.emulator().checkpoint(GROUP, shard) == self.emulator().end_cursor(shard).ok()
    }
}

impl Sdk {
    pub(crate) fn terminate(&self) {
        self.0.signal(Signal::TERM);
    }

    /// Waits for its end; gives its status and what it complained about.
    pub(crate) async fn end(mut self) -> (ExitStatus, String) {
        wait_for("the SDK to end", || self.0.has_ended()).await;
        self.0.end()
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) fn content(key: &'static str, value: impl Into<Vec<u8>>) -> Content {
    Content { key: key.into(), value: value.into().into() }
}

/// A group of [`LOGS_PER_GROUP`] logs whose ids say shard, group and place.
pub(crate) fn group(shard: u32, number: u64) -> LogGroup {
    let log = |index| Log {
        time: 1_700_000_000,
        contents: vec![content("id", format!("{shard}/{number}/{index}"))],
        time_ns: None,
    };
    LogGroup { logs: (0..LOGS_PER_GROUP).map(log).collect(), ..LogGroup::default() }
}

/// The ids of the groups with these numbers.
pub(crate) fn ids(shard: u32, numbers: std::ops::Range<u64>) -> BTreeSet<String> {
    let of_group = |number| (0..LOGS_PER_GROUP).map(move |at| format!("{shard}/{number}/{at}"));
    numbers.flat_map(of_group).collect()
}

/// The value of the field `id`, in the relay's layout and in the sample's.
fn id_of(message: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(message);
    let body = text.split_once("id=")?.1;
    Some(body.split("||").next().unwrap_or_default().trim_end().to_owned())
}

fn is_from(id: &str, shard: u32, first: u64) -> bool {
    let mut parts = id.split('/').map(|part| part.parse::<u64>().unwrap_or_default());
    parts.next() == Some(u64::from(shard)) && parts.next().is_some_and(|number| number >= first)
}
