//! The keys of a `[[destination]]` table.

use super::Fallback::{Absent, Derived, Text};
use super::{HOUR, Key, Kind, SECOND, address, path, size, span, text};

pub(super) static KEYS: &[Key] = &[
    text(
        "name",
        Derived("\"syslog\" when there is only one"),
        "Name, by which its place in the spool goes; needed where there are several.",
    ),
    address(
        "to",
        "Receiver: tls://HOST[:6514], relp:// or relp+tls://HOST[:2514], tcp://HOST[:1468] or udp://HOST[:514].",
    ),
    text(
        "framing",
        Derived("octet-counting; lf for format \"sample\""),
        "How messages are set apart on tcp:// and tls://: octet-counting, lf or nul.",
    ),
    text("format", Text("rfc5424"), "Format of messages: rfc5424, json or sample."),
    text("separator", Text("||"), "What stands between two key=value pairs."),
    Key {
        name: "facility",
        kind: Kind::TextOrNumber,
        default: Text("user"),
        doc: "Facility of every message, by name or number.",
    },
    Key {
        name: "severity",
        kind: Kind::TextOrNumber,
        default: Text("info"),
        doc: "Severity of every message, by name or number.",
    },
    text("hostname", Derived("this machine's name"), "HOSTNAME of every message."),
    text("tag", Text("sls-relay"), "APP-NAME of every message."),
    text("sd_id", Text("sls@32473"), "Id of the structured data that identifies a log."),
    text("timezone", Text("UTC"), "Zone of timestamps: UTC or an IANA name."),
    Key {
        name: "required",
        kind: Kind::Flag,
        default: Text("true"),
        doc: "Whether logs stay in the spool until this destination has them, however full it gets.",
    },
    Key {
        name: "start",
        kind: Kind::TextOrTime,
        default: Derived("now; oldest for the first destinations of a spool"),
        doc: "Where a destination new to the spool starts: now, oldest, or a time (RFC 3339).",
    },
    Key {
        name: "failover",
        kind: Kind::Addresses,
        default: Absent,
        doc: "Receivers to go to, in this order, while the one in `to` does not work.",
    },
    span(
        "failback_after",
        SECOND,
        24 * HOUR,
        "5 min",
        "How long the receiver in `to` is reachable before logs go to it again.",
    ),
    Key {
        name: "max_logs_per_second",
        kind: Kind::Number(1..=10_000_000),
        default: Absent,
        doc: "Most logs a second.",
    },
    Key {
        name: "max_bytes_per_second",
        kind: Kind::Size(1024..=u64::MAX),
        default: Absent,
        doc: "Most bytes a second.",
    },
    Key {
        name: "catch_up_logs_per_second",
        kind: Kind::Number(1..=10_000_000),
        default: Absent,
        doc: "Most logs a second of those that waited out an outage or a stop of the relay.",
    },
    span("timeout", 100, HOUR, "10 s", "Time for a connection attempt, and for a drain's answer."),
    text(
        "delivery",
        Text("drain"),
        "What proves on tcp:// and tls:// that logs were read: drain, or window (Linux, no proxy between).",
    ),
    text(
        "assurance",
        Text("best"),
        "For a receiver that proves nothing: best (go on with weaker proof, counted) or strict (hold).",
    ),
    span(
        "dead_after",
        SECOND,
        HOUR,
        "30 s",
        "Silence of the path after which a connection is given up.",
    ),
    span(
        "stall_timeout",
        SECOND,
        24 * HOUR,
        "10 min",
        "How long a receiver may read nothing while its machine answers.",
    ),
    span("settle", 0, HOUR, "2 s", "How long proven logs are kept before they are let go."),
    span("drain_every", 100, HOUR, "30 s", "Longest time between two drains (tcp://, tls://)."),
    size(
        "drain_bytes",
        1024..=u64::MAX,
        "16 MiB",
        "Bytes between two drains; up to 16 times as many where a drain takes long (tcp://, tls://).",
    ),
    span("drain_idle", 100, HOUR, "2 s", "Time without a log before a drain (tcp://, tls://)."),
    Key {
        name: "udp_max_rate",
        kind: Kind::Number(1..=1_000_000),
        default: Text("2000"),
        doc: "Most messages a second (udp://).",
    },
    Key {
        name: "relp_window",
        kind: Kind::Number(1..=100_000),
        default: Text("1024"),
        doc: "Most messages under way without an acknowledgement (relp://).",
    },
    Key {
        name: "max_message",
        kind: Kind::TextOrNumber,
        default: Text("rsyslog"),
        doc: "Longest message: a size, or rfc5424, rsyslog, syslog-ng, qradar, udp-mtu, rfc5426-v4 or -v6.",
    },
    text(
        "oversize",
        Text("shrink"),
        "What becomes of a longer message: shrink, truncate, split or quarantine.",
    ),
    Key {
        name: "where",
        kind: Kind::Texts,
        default: Absent,
        doc: "Which logs it gets: NAME=VALUE, NAME~TEXT or NAME, ! before one for not; all must hold.",
    },
    text("severity_field", Absent, "Field that the severity follows from, by severity_map."),
    Key {
        name: "severity_map",
        kind: Kind::Texts,
        default: Absent,
        doc: "What values of severity_field mean, such as \"block=warning\"; others mean `severity`.",
    },
    text("severity_at_least", Absent, "Leaves out logs less grave than this, by severity_field."),
    path(
        "ca_file",
        Absent,
        "PEM file of authorities to believe in place of the system's (tls://, relp+tls://).",
    ),
    text(
        "server_name",
        Derived("the host of to"),
        "Name the certificate must be for (tls://, relp+tls://).",
    ),
    text(
        "fingerprints",
        Absent,
        "Certificates to accept in place of any check, comma-separated: sha-256:AA:BB:... (tls://, relp+tls://).",
    ),
    path(
        "client_cert_file",
        Absent,
        "PEM file of our own certificate and its chain (tls://, relp+tls://).",
    ),
    path("client_key_file", Absent, "PEM file of its private key (tls://, relp+tls://)."),
];
