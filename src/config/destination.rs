//! A `[[destination]]` table.

use std::sync::Arc;

use super::given::GivenTable;
use super::log_filter::{LogFilter, LogTest, SeverityField, meaning};
use super::read::{Read, Reader};
use super::report::{Place, Report};
use super::settings::Destination;
use super::tls::tls;
use super::value::{self, choice, header_field, name, start_at, zone};
use crate::syslog::rfc5424::MIN_MESSAGE_BYTES;
use crate::syslog::size::{self, MAX_DATAGRAM, MAX_RELP, MAX_STREAM};
use crate::syslog::transport::TlsProfile;
use crate::syslog::{
    Assurance, Format, FormatSettings, Framing, PacingSettings, Proof, Scheme, SettingsError,
    Severity, Target,
};

const DELIVERIES: [(&str, Proof); 2] = [("drain", Proof::Drain), ("window", Proof::Window)];
const ASSURANCES: [(&str, Assurance); 2] =
    [("best", Assurance::Best), ("strict", Assurance::Strict)];

/// Reads one destination; `only` tells that there is no other, so that it needs no name.
/// `hostname` is this machine's.
pub(super) fn destination(
    table: &GivenTable,
    only: bool,
    hostname: &str,
    reports: &mut Vec<Report>,
) -> Read<Destination> {
    let mut reader = Reader::new(table, reports);
    let name = match reader.optional("name", name) {
        Ok(None) if only => Ok("syslog".to_owned()),
        Ok(None) => Err(reader.missing("name")),
        Ok(Some(name)) => Ok(name),
        Err(reported) => Err(reported),
    };
    let target = reader.text("to", target_of);
    let framing = reader.optional("framing", str::parse::<Framing>);
    let format = reader.text("format", str::parse::<Format>);
    // Which separators work depends on the format.
    let judged_by = *format.as_ref().unwrap_or(&Format::Rfc5424);
    let separator = reader.text("separator", |text| separator(text, judged_by));
    let facility = reader.text("facility", str::parse);
    let severity = reader.text("severity", str::parse);
    let host = reader.optional("hostname", |text| header_field(text, 255));
    let app_name = reader.text("tag", |text| header_field(text, 48));
    let sd_id = reader.text("sd_id", sd_id);
    let zone = reader.text("timezone", zone);
    let required = reader.flag("required");
    let start = reader.optional("start", start_at);
    let failover = reader.list("failover", target_of);
    let failback_after = reader.span("failback_after");
    let logs = reader.optional_number("max_logs_per_second");
    let bytes = reader.optional_size("max_bytes_per_second");
    let catch_up = reader.optional_number("catch_up_logs_per_second");
    let timeout = reader.span("timeout");
    let delivery = reader.text("delivery", |text| choice(text, &DELIVERIES));
    let assurance = reader.text("assurance", |text| choice(text, &ASSURANCES));
    let dead_after = reader.span("dead_after");
    let stall_timeout = reader.span("stall_timeout");
    let settle = reader.span("settle");
    let drain_every = reader.span("drain_every");
    let drain_bytes = reader.size("drain_bytes");
    let drain_idle = reader.span("drain_idle");
    let udp_max_rate = reader.number("udp_max_rate");
    let relp_window = reader.number("relp_window");
    let most = match &target {
        Ok(target) if target.scheme == Scheme::Udp => MAX_DATAGRAM,
        Ok(target) if target.scheme.is_relp() => MAX_RELP,
        _ => MAX_STREAM,
    };
    let max_message = reader.text("max_message", |text| max_message(text, most));
    let oversize = reader.text("oversize", str::parse);
    let filter = filter(&mut reader);
    let tls = tls(&mut reader, target.as_ref().ok().map(|target| target.scheme));
    if let Ok(target) = &target {
        check_stream_keys(&mut reader, target);
        check_failover(&mut reader, target, failover.as_deref().unwrap_or_default());
    }
    reader.finish();
    let (target, format) = (target?, format?);
    Ok(Destination {
        name: name?,
        framing: framing?.unwrap_or(default_framing(target.scheme, format)),
        target,
        format,
        separator: separator?,
        facility: facility?,
        severity: severity?,
        hostname: host?.unwrap_or_else(|| hostname.to_owned()),
        app_name: app_name?,
        sd_id: sd_id?,
        zone: zone?,
        required: required?,
        start: start?.unwrap_or_default(),
        failover: failover?,
        failback_after: failback_after?,
        pacing: PacingSettings { logs: logs?, bytes: bytes?, catch_up: catch_up? },
        timeout: timeout?,
        delivery: delivery?,
        assurance: assurance?,
        dead_after: dead_after?,
        stall_timeout: stall_timeout?,
        settle: settle?,
        drain_every: drain_every?,
        drain_bytes: drain_bytes?,
        drain_idle: drain_idle?,
        udp_max_rate: udp_max_rate?,
        relp_window: relp_window?,
        max_message: max_message?,
        oversize: oversize?,
        filter: filter?,
        tls: Arc::new(TlsProfile::new(tls?)),
    })
}

/// The sample's receivers read lines.
fn default_framing(scheme: Scheme, format: Format) -> Framing {
    match (scheme, format) {
        (Scheme::Tcp | Scheme::Tls, Format::Sample) => Framing::Lf,
        _ => Framing::default(),
    }
}

fn target_of(text: &str) -> Result<Target, String> {
    // What stands before an @ may be a password: it must not get into the message.
    if text.contains('@') {
        return Err("a receiver has no user name: take out everything up to the @".to_owned());
    }
    text.parse().map_err(|error: crate::syslog::TargetError| error.to_string())
}

fn separator(text: &str, format: Format) -> Result<String, SettingsError> {
    let separator = text.to_owned();
    let settings = FormatSettings { format, separator, ..FormatSettings::default() };
    settings.check()?;
    Ok(settings.separator)
}

fn sd_id(text: &str) -> Result<String, SettingsError> {
    let settings = FormatSettings { sd_id: text.to_owned(), ..FormatSettings::default() };
    settings.check()?;
    Ok(settings.sd_id)
}

/// Nothing tells that a receiver of datagrams does not work, and what is framed for one
/// transport is not what another one takes.
fn check_failover(reader: &mut Reader<'_>, target: &Target, failover: &[Target]) {
    let table = reader.table;
    let place = table.place_of("failover");
    let Some(other) = failover.iter().find(|other| {
        target.scheme == Scheme::Udp || other.scheme != target.scheme || *other == target
    }) else {
        return;
    };
    let (title, label) = if *other == *target {
        ("a receiver cannot take over from itself".to_owned(), format!("{other} is in `to`"))
    } else if target.scheme == Scheme::Udp {
        let label = "nothing tells that a receiver on udp:// does not work";
        ("`failover` has no meaning on udp://".to_owned(), label.to_owned())
    } else {
        let title = "all receivers of a destination have the same transport".to_owned();
        (title, format!("{other} has another one"))
    };
    reader.reports.push(
        Report::problem("config.conflict", title)
            .at(&place, label)
            .at(&table.place_of("to"), "the receiver that comes first")
            .help("take it out of `failover`, or make it a destination of its own"),
    );
}

/// A limit in octets, by size or by name; one that has a name fits every transport.
fn max_message(text: &str, most: usize) -> Result<usize, String> {
    if let Some(octets) = size::preset(text) {
        return Ok(octets.min(most));
    }
    if !text.starts_with(|first: char| first.is_ascii_digit()) {
        let names: Vec<_> = size::PRESETS.iter().map(|(name, _)| *name).collect();
        return Err(format!("{text:?} is no size and none of {}", names.join(", ")));
    }
    let octets = usize::try_from(value::size(text)?).unwrap_or(usize::MAX);
    value::outside(octets, &(MIN_MESSAGE_BYTES..=most), |octets| format!("{octets} bytes"))
}

fn filter(reader: &mut Reader<'_>) -> Read<LogFilter> {
    let tests = reader.list("where", LogTest::parse);
    let name = reader.optional("severity_field", |text| Ok::<_, String>(text.as_bytes().to_vec()));
    let map = reader.list("severity_map", meaning);
    let at_least = reader.optional("severity_at_least", str::parse::<Severity>);
    let alone = |reader: &mut Reader<'_>, key: &str| {
        let place = reader.table.place_of(key);
        reader.reports.push(
            Report::problem("config.conflict", format!("`{key}` has no meaning here"))
                .at(&place, "every log of this destination is equally grave")
                .help("write `severity_field` and `severity_map`, too, or remove it"),
        );
    };
    match (reader.table.has("severity_field"), reader.table.has("severity_map")) {
        (true, false) => alone(reader, "severity_field"),
        (false, true) => alone(reader, "severity_map"),
        (false, false) if reader.table.has("severity_at_least") => {
            alone(reader, "severity_at_least");
        }
        _ => {}
    }
    let (map, name) = (map?, name?);
    let severity = name.map(|name| SeverityField { name, map });
    Ok(LogFilter { tests: tests?, severity, at_least: at_least? })
}

/// Keys of streams on a destination that is none.
fn check_stream_keys(reader: &mut Reader<'_>, target: &Target) {
    let table = reader.table;
    let why = match target.scheme {
        Scheme::Tcp | Scheme::Tls => return,
        Scheme::Udp => [
            ("framing", "a datagram holds one message and needs no framing"),
            ("delivery", "nothing proves that a datagram was read"),
            ("assurance", "nothing proves that a datagram was read"),
        ],
        Scheme::Relp | Scheme::RelpTls => [
            ("framing", "RELP sets messages apart by itself"),
            ("delivery", "the receiver acknowledges every message"),
            ("assurance", "the receiver acknowledges every message"),
        ],
    };
    for (key, why) in why {
        let place = table.place_of(key);
        if place == Place::Nowhere {
            continue;
        }
        let (shown, scheme) = (table.shown(key), target.scheme);
        reader.reports.push(
            Report::problem("config.conflict", format!("`{shown}` has no meaning on {scheme}://"))
                .at(&place, why)
                .at(&table.place_of("to"), "the transport chosen here")
                .help(format!("remove `{shown}`, or send to tcp://")),
        );
    }
}
