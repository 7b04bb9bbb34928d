//! From tables of values to settings: what each value means, and what the tables say about
//! each other.

use std::path::PathBuf;

use super::credentials;
use super::destination::destination;
use super::given::GivenTable;
use super::read::{Read, Reader, Reported};
use super::report::{Place, Report};
use super::schema::TABLES;
use super::settings::{
    Checkpoint, ControlSettings, Destination, LocalSettings, LogFormat, LogSettings, Settings,
    Source, SpoolSettings,
};
use super::source::{Resolved, source};
use super::spool_key;
use super::value::{choice, level};
use crate::control::LONGEST_PATH;
use crate::spool::Retention;

/// The tables as settings, unless a problem was reported.
pub(super) fn resolve(
    tables: &[GivenTable],
    env: &dyn Fn(&str) -> Option<String>,
    hostname: &str,
    reports: &mut Vec<Report>,
) -> Option<Settings> {
    let named = |name| tables.iter().filter(|table| table.schema.name == name).collect::<Vec<_>>();
    let local = local(tables, env, true, reports);
    let sources = sources(&named("source"), env, reports);
    let destinations = destinations(&named("destination"), hostname, reports);
    let default_log = GivenTable::new(&TABLES[3], Place::Nowhere);
    let log = log(named("log").first().copied().unwrap_or(&default_log), reports);
    let LocalSettings { spool, control } = local?;
    let (sources, destinations) = (sources.ok()?, destinations.ok()?);
    if destinations.iter().all(|destination| !destination.required) {
        report_nothing_required(&named("source"), &named("destination"), &sources, reports);
    }
    Some(Settings { spool, control, sources, destinations, log: log.ok()? })
}

/// The `[spool]` and `[control]` tables alone, unless a problem was reported. With `try_keys` a
/// file of keys that cannot be used is warned of.
pub(super) fn local(
    tables: &[GivenTable],
    env: credentials::Env<'_>,
    try_keys: bool,
    reports: &mut Vec<Report>,
) -> Option<LocalSettings> {
    let named = |name| tables.iter().find(|table| table.schema.name == name);
    let spool = match named("spool") {
        Some(table) => spool(table, env, try_keys, reports),
        None => missing_table("spool", reports),
    };
    let socket = named("control").map_or(Ok(None), |table| socket(table, reports));
    let spool = spool.ok()?;
    let control = match socket.ok()? {
        Some(socket) => ControlSettings { socket },
        None => ControlSettings::of_spool(&spool.dir),
    };
    Some(LocalSettings { spool, control })
}

fn spool(
    table: &GivenTable,
    env: credentials::Env<'_>,
    try_keys: bool,
    reports: &mut Vec<Report>,
) -> Read<SpoolSettings> {
    let mut reader = Reader::new(table, reports);
    let dir = reader.text("dir", |text| Ok::<_, String>(PathBuf::from(text)));
    let max_bytes = reader.size("max_bytes");
    let min_free_bytes = reader.size("min_free_bytes");
    let time = reader.span("retain");
    let bytes = reader.size("retain_bytes");
    let key_file = spool_key::file(&mut reader, env, try_keys);
    reader.finish();
    let retention = Retention { time: time?, bytes: bytes? };
    let (dir, max_bytes, min_free_bytes) = (dir?, max_bytes?, min_free_bytes?);
    Ok(SpoolSettings { dir, max_bytes, min_free_bytes, retention, key_file: key_file? })
}

fn socket(table: &GivenTable, reports: &mut Vec<Report>) -> Read<Option<PathBuf>> {
    let mut reader = Reader::new(table, reports);
    let socket = reader.optional("socket", |text| match text.len() {
        0..=LONGEST_PATH => Ok(PathBuf::from(text)),
        bytes => Err(format!("{bytes} bytes; the system takes at most {LONGEST_PATH}")),
    });
    reader.finish();
    socket
}

fn log(table: &GivenTable, reports: &mut Vec<Report>) -> Read<LogSettings> {
    let mut reader = Reader::new(table, reports);
    let level = reader.text("level", level);
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    let format = reader.text("format", |text| choice(text, &formats));
    reader.finish();
    Ok(LogSettings { level: level?, format: format? })
}

fn sources(
    tables: &[&GivenTable],
    env: &dyn Fn(&str) -> Option<String>,
    reports: &mut Vec<Report>,
) -> Read<Vec<Source>> {
    if tables.is_empty() {
        return missing_table("source", reports);
    }
    report_duplicate_names(tables, reports);
    let around = if tables.iter().all(|table| credentials::has_own(table)) {
        Ok(None)
    } else {
        credentials::around(env, reports)
    };
    let around_key = around.as_ref().ok().and_then(Option::as_ref);
    let only = tables.len() == 1;
    let resolved: Vec<_> =
        tables.iter().map(|table| source(table, only, around_key, env, reports)).collect();
    if matches!(around, Ok(None)) {
        let keyless = |(table, resolved): (&&GivenTable, &Resolved)| {
            matches!(resolved.key, Ok(None)).then(|| table.place.clone())
        };
        let keyless: Vec<_> = tables.iter().zip(&resolved).filter_map(keyless).collect();
        if !keyless.is_empty() {
            reports.push(credentials::no_key(&keyless));
        }
    }
    report_equal_sources(tables, &resolved, reports);
    resolved.into_iter().map(|resolved| resolved.source).collect()
}

fn destinations(
    tables: &[&GivenTable],
    hostname: &str,
    reports: &mut Vec<Report>,
) -> Read<Vec<Destination>> {
    if tables.is_empty() {
        return missing_table("destination", reports);
    }
    report_duplicate_names(tables, reports);
    let only = tables.len() == 1;
    // All of them are read before the first bad one counts.
    let read: Vec<_> =
        tables.iter().map(|table| destination(table, only, hostname, reports)).collect();
    read.into_iter().collect()
}

fn report_duplicate_names(tables: &[&GivenTable], reports: &mut Vec<Report>) {
    let mut seen: Vec<(&str, Place)> = Vec::new();
    for table in tables {
        let Some(name) = table.text("name") else { continue };
        let place = table.place_of("name");
        match seen.iter().find(|(other, _)| *other == name) {
            Some((_, first)) => reports.push(
                Report::problem(
                    "config.duplicate_name",
                    format!("two of {} have the name {name:?}", table.schema.header()),
                )
                .at(&place, "the second one")
                .at(first, "the first one")
                .help("give each its own name"),
            ),
            None => seen.push((name, place)),
        }
    }
}

/// A checkpoint that follows delivery follows the destinations that are required.
fn report_nothing_required(
    tables: &[&GivenTable],
    destinations: &[&GivenTable],
    sources: &[Source],
    reports: &mut Vec<Report>,
) {
    for (table, source) in tables.iter().zip(sources) {
        if source.checkpoint != Checkpoint::Delivered {
            continue;
        }
        let title = "`checkpoint = \"delivered\"` needs a destination that is required";
        let report = Report::problem("config.nothing_required", title)
            .at(&table.place_of("checkpoint"), "this waits for the required destinations");
        let places = destinations.iter().map(|table| table.place_of("required"));
        let report = places.fold(report, |report, place| report.at(&place, "not this one"));
        reports.push(report.help("write required = true at one of them, or leave checkpoint out"));
    }
}

/// Two sources that read the same logs in the same group would share one position.
fn report_equal_sources(tables: &[&GivenTable], resolved: &[Resolved], reports: &mut Vec<Report>) {
    for (later, one) in resolved.iter().enumerate() {
        let same = |other: &Resolved| one.reads.is_some() && one.reads == other.reads;
        if let Some(first) = resolved[..later].iter().position(same) {
            reports.push(
                Report::problem("config.duplicate_source", "two sources read the same logs")
                    .at(&tables[later].place, "same region, project, logstore and consumer group")
                    .at(&tables[first].place, "as this one")
                    .help("remove one of them: in one relay, one source of a group is enough"),
            );
        }
    }
}

fn missing_table<T>(name: &str, reports: &mut Vec<Report>) -> Read<T> {
    if let Some(table) = TABLES.iter().find(|table| table.name == name) {
        let title = format!("there is no {}", table.header());
        let required: Vec<_> = table.keys.iter().filter(|key| key.is_required()).collect();
        let keys: Vec<_> = required.iter().map(|key| format!("`{}`", key.name)).collect();
        let help = format!("{} Add {} with {}", table.doc, table.header(), keys.join(", "));
        reports.push(Report::problem("config.missing_table", title).help(help));
    }
    Err(Reported)
}
