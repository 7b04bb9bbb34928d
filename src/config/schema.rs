//! The configuration file as a table: every key with its kind, default and meaning.
//!
//! This is the one description of the file. The reader checks names and types against it,
//! defaults are taken from it, and the commented example in `packaging/` is tested to
//! mention all of it.

mod destination;

use std::ops::RangeInclusive;
use std::time::Duration;

/// One `[table]` or `[[table]]` of the file.
#[derive(Debug)]
pub struct Table {
    /// Name between the brackets.
    pub name: &'static str,
    /// Whether it is written `[[name]]` and may come several times.
    pub many: bool,
    /// What it describes.
    pub doc: &'static str,
    /// Its keys, in the order of the example.
    pub keys: &'static [Key],
}

/// One `key = value`.
#[derive(Debug)]
pub struct Key {
    /// Name of the key.
    pub name: &'static str,
    /// What values it takes.
    pub kind: Kind,
    /// What holds when it is not written.
    pub default: Fallback,
    /// What it means, in one line.
    pub doc: &'static str,
}

/// What values a key takes.
#[derive(Debug)]
pub enum Kind {
    /// A string that is not empty.
    Text,
    /// A string that may also be written as a bare number, such as a facility.
    TextOrNumber,
    /// A string that may also be written as a bare TOML date and time.
    TextOrTime,
    /// A string; what stands before an `@` in it is never shown.
    Address,
    /// A list of such strings; there may be none in it.
    Addresses,
    /// A string that is never shown.
    Secret,
    /// A list of strings; there may be none in it.
    Texts,
    /// A path.
    Path,
    /// Bytes within limits: an integer, or a string such as `"10 GiB"`.
    Size(RangeInclusive<u64>),
    /// A time span within limits: a string such as `"30 s"`.
    Span(RangeInclusive<Duration>),
    /// An integer within limits.
    Number(RangeInclusive<u32>),
    /// `true` or `false`.
    Flag,
}

/// What holds when a key is not written.
#[derive(Debug)]
pub enum Fallback {
    /// Nothing: it must be written.
    Required,
    /// Nothing: it may be left out.
    Absent,
    /// This text, as if it were written.
    Text(&'static str),
    /// Something that depends on more than this file; described here.
    Derived(&'static str),
}

impl Table {
    /// The table as its header is written, `[spool]` or `[[source]]`.
    pub fn header(&self) -> String {
        if self.many { format!("[[{}]]", self.name) } else { format!("[{}]", self.name) }
    }

    /// The key of this name.
    pub fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

impl Key {
    /// A value as it could be written: the default, if it is one.
    pub fn example(&self) -> Option<String> {
        match (&self.default, &self.kind) {
            (Fallback::Text(text), Kind::Flag | Kind::Number(_)) => Some((*text).to_owned()),
            (Fallback::Text(text), _) => Some(format!("\"{text}\"")),
            _ => None,
        }
    }

    /// Whether it must be written.
    pub fn is_required(&self) -> bool {
        matches!(self.default, Fallback::Required)
    }
}

impl Kind {
    /// What to write, for messages: follows "expected".
    pub fn expected(&self) -> &'static str {
        match self {
            Self::Text | Self::Address | Self::Secret => "a string",
            Self::Addresses => "a list of strings",
            Self::TextOrNumber => "a string or a number",
            Self::TextOrTime => "a string or a time",
            Self::Texts => "a list of strings",
            Self::Path => "a path as a string",
            Self::Size(_) => "a size as a string, or a number of bytes",
            Self::Span(_) => "a time span as a string",
            Self::Number(_) => "a whole number",
            Self::Flag => "true or false",
        }
    }
}

const fn text(name: &'static str, default: Fallback, doc: &'static str) -> Key {
    Key { name, kind: Kind::Text, default, doc }
}

const fn address(name: &'static str, doc: &'static str) -> Key {
    Key { name, kind: Kind::Address, default: Required, doc }
}

const fn path(name: &'static str, default: Fallback, doc: &'static str) -> Key {
    Key { name, kind: Kind::Path, default, doc }
}

const fn size(
    name: &'static str,
    limits: RangeInclusive<u64>,
    default: &'static str,
    doc: &'static str,
) -> Key {
    Key { name, kind: Kind::Size(limits), default: Fallback::Text(default), doc }
}

/// Limits in milliseconds.
const fn span(
    name: &'static str,
    least_ms: u64,
    most_ms: u64,
    default: &'static str,
    doc: &'static str,
) -> Key {
    let limits = Duration::from_millis(least_ms)..=Duration::from_millis(most_ms);
    Key { name, kind: Kind::Span(limits), default: Fallback::Text(default), doc }
}

const SECOND: u64 = 1000;
const HOUR: u64 = 3600 * SECOND;

use Fallback::{Absent, Derived, Required, Text};

/// The whole file.
pub static TABLES: [Table; 5] = [
    Table { name: "spool", many: false, doc: "Where logs wait on disk.", keys: SPOOL },
    Table {
        name: "source",
        many: true,
        doc: "A logstore, read through a consumer group.",
        keys: SOURCE,
    },
    Table { name: "destination", many: true, doc: "A syslog receiver.", keys: destination::KEYS },
    Table { name: "log", many: false, doc: "The relay's own log.", keys: LOG },
    Table {
        name: "control",
        many: false,
        doc: "How commands reach the relay while it runs.",
        keys: CONTROL,
    },
];

static SPOOL: &[Key] = &[
    path("dir", Required, "Directory of the spool, used by one relay alone."),
    size(
        "max_bytes",
        crate::spool::MIN_QUOTA..=u64::MAX,
        "10 GiB",
        "Most the spool takes of the disk; when it is full, logs stay with SLS.",
    ),
    size("min_free_bytes", 0..=u64::MAX, "1 GiB", "What is left free of the file system."),
    span(
        "retain",
        0,
        // Ten years.
        3_652 * 24 * 3_600_000,
        "0 s",
        "How long delivered logs stay for `spool replay`; new logs take their room when it is short.",
    ),
    size(
        "retain_bytes",
        0..=u64::MAX,
        "10 GiB",
        "Most that delivered logs take; max_bytes covers them, too.",
    ),
    path(
        "encrypt_key_file",
        Derived("the systemd credential sls_spool-key, else logs are stored in the clear"),
        "File with the keys that logs in the spool are encrypted with, one a line, newest first.",
    ),
];

static SOURCE: &[Key] = &[
    text(
        "name",
        Derived("\"source\" when there is only one"),
        "Name in logs and in status; needed where there are several.",
    ),
    address("endpoint", "Endpoint of the region; https:// unless http:// is written."),
    text("project", Required, "SLS project that holds the logstore."),
    text("logstore", Required, "Logstore in the project."),
    text("consumer_group", Required, "Consumer group; it is made when it is missing."),
    Key {
        name: "start",
        kind: Kind::TextOrTime,
        default: Text("begin"),
        doc: "Where a shard without a checkpoint starts: begin, end, or a time (RFC 3339).",
    },
    text(
        "checkpoint",
        Text("spooled"),
        "When a checkpoint is committed: spooled (logs are safe on disk) or delivered.",
    ),
    text(
        "handover",
        Text("spooled"),
        "When a shard wanted elsewhere is given back: spooled (at once) or delivered.",
    ),
    span(
        "handover_timeout",
        SECOND,
        24 * HOUR,
        "2 min",
        "Longest wait for delivery before a shard is given back (handover = \"delivered\").",
    ),
    text(
        "on_expired",
        Text("oldest"),
        "Where to go on when SLS has deleted unread logs: oldest, newest or stop.",
    ),
    span(
        "unreadable_after",
        SECOND,
        24 * HOUR,
        "1 min",
        "How long an unreadable answer is pulled again before it is put aside.",
    ),
    size(
        "shard_bytes_per_second",
        100_000..=u64::MAX,
        "10 MB",
        "Most bytes a second read from one shard, decompressed.",
    ),
    text("query", Absent, "SPL query that SLS filters with, such as \"* | where status = '403'\"."),
    text("processor", Absent, "Name of a consume processor that SLS filters with."),
    text("region", Derived("taken from the endpoint"), "Region to sign for, in version 4."),
    text("sign_version", Text("auto"), "Version of signatures: auto, v1 or v4."),
    Key {
        name: "proxy",
        kind: Kind::Address,
        default: Absent,
        doc: "HTTP proxy: http://HOST:PORT or https://; or environment for HTTPS_PROXY and NO_PROXY.",
    },
    text("connect_to", Absent, "IP:PORT to connect to in place of the endpoint's own address."),
    path("ca_file", Absent, "PEM file of certificates to believe in place of the system's."),
    span(
        "heartbeat_interval",
        SECOND,
        HOUR,
        "5 s",
        "Time between heartbeats, at most a quarter of the group's timeout.",
    ),
    span(
        "group_timeout",
        5 * SECOND,
        24 * HOUR,
        "30 s",
        "Timeout of the consumer group, in whole seconds; see manage_group.",
    ),
    text(
        "order",
        Derived("as the group is; unordered for one that is made here"),
        "Whether shards wait for those they were split or merged from: ordered or unordered.",
    ),
    Key {
        name: "manage_group",
        kind: Kind::Flag,
        default: Text("false"),
        doc: "Whether an existing group is changed to group_timeout and order, for all its consumers.",
    },
    span("idle_poll", 100, HOUR, "1 s", "Pause before a shard with nothing new is asked again."),
    text(
        "credentials",
        Text("auto"),
        "Where the access key comes from: auto, chain, env, oidc, cli-profile, ini-profile, ecs-ram-role or uri.",
    ),
    text(
        "ram_role",
        Derived("asked for at the instance's metadata service"),
        "RAM role of this ECS instance, for credentials \"ecs-ram-role\" or \"chain\".",
    ),
    text("access_key_id", Absent, "Access key id."),
    path("access_key_id_file", Absent, "File with the access key id."),
    Key {
        name: "access_key_secret",
        kind: Kind::Secret,
        default: Absent,
        doc: "Access key secret. Prefer access_key_secret_file or a systemd credential.",
    },
    path("access_key_secret_file", Absent, "File with the access key secret."),
    path("security_token_file", Absent, "File with the security token of a temporary key."),
];

static LOG: &[Key] = &[
    text("level", Text("info"), "error, warn, info, debug, trace or off; or target=level pairs."),
    text("format", Text("text"), "Form of a line: text or json."),
];

static CONTROL: &[Key] = &[path(
    "socket",
    Derived("control.sock in the spool directory"),
    "Unix socket of the relay, for its user and group; a path of at most 104 bytes.",
)];
