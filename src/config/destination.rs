//! A `[[destination]]` table.

use super::given::GivenTable;
use super::read::{Read, Reader};
use super::report::{Place, Report};
use super::settings::Destination;
use super::value::{choice, header_field, name, zone};
use crate::syslog::{
    Assurance, Format, FormatSettings, Framing, Proof, Scheme, SettingsError, Target,
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
    let target = reader.text("to", target);
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
    let required = required(&mut reader);
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
    if let Ok(target) = &target {
        check_stream_keys(&mut reader, target);
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
    })
}

/// The sample's receivers read lines.
fn default_framing(scheme: Scheme, format: Format) -> Framing {
    match (scheme, format) {
        (Scheme::Tcp, Format::Sample) => Framing::Lf,
        _ => Framing::default(),
    }
}

fn target(text: &str) -> Result<Target, String> {
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

fn required(reader: &mut Reader<'_>) -> Read<bool> {
    let required = reader.flag("required")?;
    if !required {
        let label = "write true";
        return Err(reader.report("config.not_available", "required", label));
    }
    Ok(required)
}

/// Keys of streams on a destination that is none.
fn check_stream_keys(reader: &mut Reader<'_>, target: &Target) {
    let table = reader.table;
    let why = [
        ("framing", "a datagram holds one message and needs no framing"),
        ("delivery", "nothing proves that a datagram was read"),
        ("assurance", "nothing proves that a datagram was read"),
    ];
    for (key, why) in why {
        let place = table.place_of(key);
        if target.scheme != Scheme::Udp || place == Place::Nowhere {
            continue;
        }
        let shown = table.shown(key);
        reader.reports.push(
            Report::problem("config.conflict", format!("`{shown}` has no meaning on udp://"))
                .at(&place, why)
                .at(&table.place_of("to"), "the transport chosen here")
                .help(format!("remove `{shown}`, or send to tcp://")),
        );
    }
}
