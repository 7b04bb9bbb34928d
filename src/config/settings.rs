//! What the configuration means: every value checked, every default filled in.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::log_filter::LogFilter;
use crate::sls::{CredentialSource, Endpoint, Filter, Network, SignVersion};
use crate::spool::{Retention, StartAt};
use crate::syslog::transport::{TlsProfile, TlsSettings};
use crate::syslog::{
    Assurance, DeliverySettings, DrainSettings, Facility, Format, Framing, Oversize,
    PacingSettings, Proof, Scheme, Severity, Target,
};

/// Everything the relay needs to run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where logs wait.
    pub spool: SpoolSettings,
    /// Where logs come from; at least one.
    pub sources: Vec<Source>,
    /// Where logs go; at least one.
    pub destinations: Vec<Destination>,
    /// How the relay logs.
    pub log: LogSettings,
    /// How commands reach it.
    pub control: ControlSettings,
}

/// What concerns this machine alone: enough for commands about a spool.
#[derive(Clone, Debug)]
pub struct LocalSettings {
    /// Where logs wait.
    pub spool: SpoolSettings,
    /// How a relay that runs is reached.
    pub control: ControlSettings,
}

/// The `[spool]` table.
#[derive(Clone, Debug)]
pub struct SpoolSettings {
    /// Directory.
    pub dir: PathBuf,
    /// Quota in bytes.
    pub max_bytes: u64,
    /// Bytes of the file system to leave free.
    pub min_free_bytes: u64,
    /// What is kept of delivered segments.
    pub retention: Retention,
    /// File with the keys that logs are encrypted with; in the clear without one.
    pub key_file: Option<PathBuf>,
}

impl SpoolSettings {
    /// A spool of `max_bytes` in `dir` that may fill the disk, keeps nothing delivered, and
    /// encrypts nothing.
    pub fn new(dir: impl Into<PathBuf>, max_bytes: u64) -> Self {
        let (dir, retention) = (dir.into(), Retention::default());
        Self { dir, max_bytes, min_free_bytes: 0, retention, key_file: None }
    }
}

/// Two small reads for each shard that is behind.
pub(super) const LAG_EVERY: Duration = Duration::from_secs(30);
/// One small read for each held shard.
pub(super) const CHECKPOINT_LOOK: Duration = Duration::from_secs(60);

/// One `[[source]]` table: a logstore read through a consumer group.
#[derive(Clone, Debug)]
pub struct Source {
    /// Name, unique among the sources.
    pub name: String,
    /// Endpoint of the region.
    pub endpoint: Endpoint,
    /// Region for version 4 signatures, where the endpoint does not tell it.
    pub region: Option<String>,
    /// Version of signatures.
    pub sign: SignVersion,
    /// The way to the endpoint.
    pub network: Network,
    /// Project.
    pub project: String,
    /// Logstore.
    pub logstore: String,
    /// Consumer group; made when it is missing.
    pub consumer_group: String,
    /// Where to start a shard that has no checkpoint.
    pub start: Start,
    /// When a checkpoint is committed.
    pub checkpoint: Checkpoint,
    /// When a shard that is wanted elsewhere is given back.
    pub handover: Handover,
    /// Longest wait for delivery before a shard is given back.
    pub handover_timeout: Duration,
    /// Where to go on when SLS has deleted the log at the cursor.
    pub on_expired: OnExpired,
    /// How long an answer that cannot be read is pulled again before it is put aside.
    pub unreadable_after: Duration,
    /// Bytes a second pulled from one shard at most, decompressed and before any filter.
    pub shard_bytes_per_second: u64,
    /// For an export: logs that SLS received at or after this time are not pulled.
    pub until: Option<jiff::Timestamp>,
    /// What SLS leaves out of its answers.
    pub filter: Option<Filter>,
    /// Access key.
    pub credentials: CredentialSource,
    /// Longest time between heartbeats; a quarter of the group's timeout if that is less.
    pub heartbeat_interval: Duration,
    /// Timeout of a group that is made here, or changed because of `manage_group`.
    pub group_timeout: Duration,
    /// How often it is checked that nobody else has moved a held shard's checkpoint.
    pub checkpoint_look: Duration,
    /// Whether the group is ordered; as it is, or not where it is made, if that is none.
    pub order: Option<bool>,
    /// Whether an existing group is changed to `group_timeout` and `order`.
    pub manage_group: bool,
    /// How often the lag of shards that are behind is measured.
    pub lag_every: Duration,
    /// Pause between two pulls of a shard that has nothing new.
    pub idle_poll: Duration,
}

impl Source {
    /// A source with every default filled in.
    pub fn new(
        endpoint: Endpoint,
        project: impl Into<String>,
        logstore: impl Into<String>,
        consumer_group: impl Into<String>,
        credentials: CredentialSource,
    ) -> Self {
        Self {
            name: "sls".to_owned(),
            endpoint,
            region: None,
            sign: SignVersion::Auto,
            network: Network::default(),
            project: project.into(),
            logstore: logstore.into(),
            consumer_group: consumer_group.into(),
            start: Start::Begin,
            until: None,
            checkpoint: Checkpoint::Spooled,
            handover: Handover::Spooled,
            handover_timeout: Duration::from_secs(120),
            on_expired: OnExpired::Oldest,
            unreadable_after: Duration::from_secs(60),
            shard_bytes_per_second: 10_000_000,
            filter: None,
            credentials,
            heartbeat_interval: Duration::from_secs(5),
            group_timeout: Duration::from_secs(30),
            checkpoint_look: CHECKPOINT_LOOK,
            lag_every: LAG_EVERY,
            order: None,
            manage_group: false,
            idle_poll: Duration::from_secs(1),
        }
    }

    /// The key of this source in the spool: positions of one are void for another.
    pub fn spool_key(&self) -> String {
        let Self { endpoint, project, logstore, consumer_group, .. } = self;
        format!("{endpoint}/{project}/{logstore}#{consumer_group}")
    }
}

/// Where a shard without a checkpoint starts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Start {
    /// At the oldest log that SLS keeps.
    Begin,
    /// At what is written from now on.
    End,
    /// At the first log received at or after this time.
    Time(jiff::Timestamp),
}

impl std::fmt::Display for Start {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Begin => f.write_str("the oldest log that SLS keeps"),
            Self::End => f.write_str("logs written from now on"),
            Self::Time(time) => write!(f, "logs received at or after {time}"),
        }
    }
}

/// When a checkpoint is committed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Checkpoint {
    /// When the logs are durable in the spool: survives crashes and power loss here.
    Spooled,
    /// When every destination has confirmed the logs: survives the loss of the spool, too.
    Delivered,
}

/// When a shard that is wanted by another relay is given back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Handover {
    /// At once: the next relay may deliver newer logs while this one still drains.
    Spooled,
    /// When every destination has confirmed what was pulled: the order of a shard holds over
    /// relays.
    Delivered,
}

/// Where to go on when SLS has deleted the log at the cursor.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OnExpired {
    /// At the oldest log that is left.
    Oldest,
    /// At what is written from now on.
    Newest,
    /// Nowhere, until somebody sets the checkpoint or the configuration.
    Stop,
}

/// One `[[destination]]` table: a syslog receiver.
#[derive(Clone, Debug)]
pub struct Destination {
    /// Name, unique among the destinations; its position in the spool goes by it.
    pub name: String,
    /// Transport and address.
    pub target: Target,
    /// Framing on TCP and TLS.
    pub framing: Framing,
    /// Message format.
    pub format: Format,
    /// Between two `key=value` pairs.
    pub separator: String,
    /// Facility of every message.
    pub facility: Facility,
    /// Severity of every message.
    pub severity: Severity,
    /// HOSTNAME of every message.
    pub hostname: String,
    /// APP-NAME of every message.
    pub app_name: String,
    /// SD-ID of the structured data that identifies a log.
    pub sd_id: String,
    /// Zone of the timestamps; UTC written as `Z` without one.
    pub zone: Option<jiff::tz::TimeZone>,
    /// Whether its position holds the spool.
    pub required: bool,
    /// Where it starts when the spool does not know it.
    pub start: StartAt,
    /// Where to go, in this order, while [`Self::target`] does not work; of the same scheme.
    pub failover: Vec<Target>,
    /// How long [`Self::target`] is reachable before logs go to it again.
    pub failback_after: Duration,
    /// How fast it gets logs.
    pub pacing: PacingSettings,
    /// Time for one connection attempt, and for the answer to a drain.
    pub timeout: Duration,
    /// What is to prove that logs were read, on a stream.
    pub delivery: Proof,
    /// What to do about a receiver that proves nothing.
    pub assurance: Assurance,
    /// Silence of the path after which a connection is given up.
    pub dead_after: Duration,
    /// How long a receiver may read nothing.
    pub stall_timeout: Duration,
    /// How long what is proven is kept before it counts as confirmed.
    pub settle: Duration,
    /// Longest time between two drains while logs flow.
    pub drain_every: Duration,
    /// Most bytes between two drains.
    pub drain_bytes: u64,
    /// Time without a log after which the connection is drained.
    pub drain_idle: Duration,
    /// Messages a second on UDP.
    pub udp_max_rate: u32,
    /// Messages under way without an acknowledgement on RELP.
    pub relp_window: u32,
    /// Longest message in octets, without its framing.
    pub max_message: usize,
    /// What becomes of a longer one.
    pub oversize: Oversize,
    /// Which logs it gets, and how grave each is.
    pub filter: LogFilter,
    /// Whom to believe on TLS, and who we are; of no meaning elsewhere. Copies of this
    /// destination share what was read from files.
    pub tls: Arc<TlsProfile>,
}

impl Destination {
    /// A destination with every default filled in.
    pub fn new(target: Target, hostname: impl Into<String>) -> Self {
        Self {
            name: "syslog".to_owned(),
            target,
            framing: Framing::OctetCounting,
            format: Format::Rfc5424,
            separator: "||".to_owned(),
            facility: Facility::USER,
            severity: Severity::INFO,
            hostname: hostname.into(),
            app_name: "sls-relay".to_owned(),
            sd_id: "sls@32473".to_owned(),
            zone: None,
            required: true,
            start: StartAt::default(),
            failover: Vec::new(),
            failback_after: Duration::from_secs(300),
            pacing: PacingSettings::default(),
            timeout: Duration::from_secs(10),
            delivery: Proof::Drain,
            assurance: Assurance::Best,
            dead_after: Duration::from_secs(30),
            stall_timeout: Duration::from_secs(600),
            settle: Duration::from_secs(2),
            drain_every: Duration::from_secs(30),
            drain_bytes: 16 << 20,
            drain_idle: Duration::from_secs(2),
            udp_max_rate: 2000,
            relp_window: 1024,
            max_message: 8_096,
            oversize: Oversize::Shrink,
            filter: LogFilter::default(),
            tls: Arc::new(TlsProfile::new(TlsSettings::default())),
        }
    }
}

impl Destination {
    /// How it is delivered to.
    pub fn delivery(&self) -> DeliverySettings {
        let proof = match self.target.scheme {
            Scheme::Udp => Proof::Datagram,
            Scheme::Relp | Scheme::RelpTls => Proof::Acknowledged,
            Scheme::Tcp | Scheme::Tls => self.delivery,
        };
        let drain = DrainSettings {
            bytes: self.drain_bytes,
            every: self.drain_every,
            idle: self.drain_idle,
        };
        DeliverySettings { proof, assurance: self.assurance, settle: self.settle, drain }
    }
}

/// The `[log]` table.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// Filter in the syntax of `tracing`: a level, or `target=level` pairs.
    pub level: String,
    /// Form of a line.
    pub format: LogFormat,
}

/// The `[control]` table.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ControlSettings {
    /// Path of the control socket. One that was written has at most
    /// [`crate::control::LONGEST_PATH`] bytes; one that follows from the spool may have more.
    pub socket: PathBuf,
}

impl ControlSettings {
    /// What holds where nothing is written: `control.sock` in the spool directory.
    pub fn of_spool(dir: &Path) -> Self {
        Self { socket: dir.join("control.sock") }
    }
}

/// Form of the relay's own log lines.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}
