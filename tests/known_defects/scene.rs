//! One emulated logstore with one receiver, for the SDK or for the relay.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use sls_relay::config::Settings;
use sls_relay::emulator::receiver::{Receiver, ReceiverConfig};
use sls_relay::emulator::sls::{Asked, Generator, SlsConfig, SlsEmulator, cursor_number};
use sls_relay::emulator::waf::Waf;
use sls_relay::sls::wire::{Content, Log, LogGroup};
use sls_relay::sls::{Client, ClientConfig, DEFAULT_MAX_RAW_BYTES, SignVersion};
use tempfile::TempDir;

use crate::pipeline::{Ends, Running, wait_for};

pub(crate) use crate::pipeline::GROUP;

pub(crate) const LOGSTORE: &str = "demo-logstore";
pub(crate) const LOGS_PER_GROUP: u64 = 3;

pub(crate) struct Scene {
    ends: Ends,
    pub(crate) receiver: Receiver,
    messages: Arc<Mutex<Vec<Vec<u8>>>>,
    dir: TempDir,
    /// The first cursor of each shard.
    first: Vec<i64>,
}

/// The SDK as a process of its own.
pub(crate) struct Sdk {
    child: Child,
    complaints: Option<JoinHandle<String>>,
}

/// The interpreter that has the SDK; without it only the relay plays, but not in CI.
pub(crate) fn python() -> Option<PathBuf> {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/venv/bin/python");
    if python.exists() {
        return Some(python);
    }
    assert!(std::env::var_os("CI").is_none(), "{} is missing, run ./test", python.display());
    // Not println: the test harness would keep that to itself.
    let mut stdout = std::io::stdout();
    writeln!(stdout, "LEFT OUT: official SDK (run ./test)").unwrap();
    None
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
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/official_sdk/forward.py");
        let endpoint = format!("localhost:{}", self.emulator().address().port());
        let mut child = Command::new(python)
            .arg(script)
            .args(["--endpoint", &endpoint, "--project", "demo-project"])
            .args(["--logstore", LOGSTORE, "--group", GROUP])
            .args(["--key-id", self.ends.key_id(), "--key-secret", self.ends.key_secret()])
            .args(["--syslog", &self.syslog().to_string()])
            .args(more)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let complaints = std::thread::spawn(move || {
            let mut complaints = Vec::new();
            let _ = stderr.read_to_end(&mut complaints);
            String::from_utf8_lossy(&complaints).into_owned()
        });
        Sdk { child, complaints: Some(complaints) }
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
            tls: None,
        };
        Client::new(config).unwrap()
    }

    pub(crate) async fn make_group(&self, timeout_s: u32, order: bool) {
        self.client().create_consumer_group(LOGSTORE, GROUP, timeout_s, order).await.unwrap();
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
        self.emulator().requests().into_iter().filter(|asked| asked.call == call).collect()
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
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
    }

    /// Waits for its end; gives its status and what it complained about.
    pub(crate) async fn end(mut self) -> (ExitStatus, String) {
        wait_for("the SDK to end", || self.child.try_wait().unwrap().is_some()).await;
        (self.child.wait().unwrap(), self.complaints.take().unwrap().join().unwrap())
    }
}

impl Drop for Sdk {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
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
