//! From tables of values to settings: what each value means, and what the tables say about
//! each other.

use std::path::PathBuf;

use super::credentials;
use super::destination::destination;
use super::given::GivenTable;
use super::read::{Read, Reader};
use super::report::{Place, Report};
use super::schema::TABLES;
use super::settings::{LogFormat, LogSettings, Settings, Source, SpoolSettings};
use super::source::source;
use super::value::{choice, level};

/// The tables as settings, unless a problem was reported.
pub(super) fn resolve(
    tables: &[GivenTable],
    env: &dyn Fn(&str) -> Option<String>,
    hostname: &str,
    reports: &mut Vec<Report>,
) -> Option<Settings> {
    let named = |name: &'static str| tables.iter().filter(move |table| table.schema.name == name);
    let spool = match named("spool").next() {
        Some(table) => spool(table, reports).ok(),
        None => missing_table("spool", reports),
    };
    let sources = sources(&named("source").collect::<Vec<_>>(), env, reports);
    let destinations: Vec<_> = named("destination").collect();
    if destinations.is_empty() {
        missing_table::<()>("destination", reports);
    }
    report_duplicate_names(&destinations, reports);
    let only = destinations.len() == 1;
    let destinations: Vec<_> =
        destinations.iter().map(|table| destination(table, only, hostname, reports).ok()).collect();
    let default_log = GivenTable::new(&TABLES[3], Place::Nowhere);
    let log = log(named("log").next().unwrap_or(&default_log), reports).ok();
    Some(Settings {
        spool: spool?,
        sources: sources?,
        destinations: destinations.into_iter().collect::<Option<_>>()?,
        log: log?,
    })
}

fn spool(table: &GivenTable, reports: &mut Vec<Report>) -> Read<SpoolSettings> {
    let mut reader = Reader::new(table, reports);
    let dir = reader.text("dir", |text| Ok::<_, String>(PathBuf::from(text)));
    let max_bytes = reader.size("max_bytes");
    let min_free_bytes = reader.size("min_free_bytes");
    reader.finish();
    Ok(SpoolSettings { dir: dir?, max_bytes: max_bytes?, min_free_bytes: min_free_bytes? })
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
) -> Option<Vec<Source>> {
    if tables.is_empty() {
        return missing_table("source", reports);
    }
    report_duplicate_names(tables, reports);
    let own_key = |table: &&GivenTable| {
        table.is_environment()
            || table
                .values
                .keys()
                .any(|key| key.starts_with("access_key_") || *key == "security_token_file")
    };
    let around = if tables.iter().all(|table| own_key(table)) {
        Ok(None)
    } else {
        credentials::around(env, reports)
    };
    let around_key = around.as_ref().ok().and_then(Option::as_ref);
    let only = tables.len() == 1;
    let mut keyless = Vec::new();
    let mut sources = Vec::new();
    let mut reads = Vec::new();
    for table in tables {
        let resolved = source(table, only, around_key, reports);
        if matches!((&resolved.key, &around), (Ok(None), Ok(None))) {
            keyless.push(table.place.clone());
        }
        sources.push(resolved.source.ok());
        reads.push((resolved.reads, &table.place));
    }
    if !keyless.is_empty() {
        reports.push(credentials::no_key(&keyless));
    }
    report_equal_sources(&reads, reports);
    sources.into_iter().collect()
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

/// Two sources that read the same logs in the same group would share one position.
fn report_equal_sources<T: PartialEq>(reads: &[(Option<T>, &Place)], reports: &mut Vec<Report>) {
    for (later, (read, place)) in reads.iter().enumerate() {
        let same = |(other, _): &&(Option<T>, &Place)| read.is_some() && read == other;
        if let Some((_, first)) = reads[..later].iter().find(same) {
            reports.push(
                Report::problem("config.duplicate_source", "two sources read the same logs")
                    .at(place, "same endpoint, project, logstore and consumer group")
                    .at(first, "as this one")
                    .help(
                        "remove one of them: several relays may share a group, one needs it once",
                    ),
            );
        }
    }
}

fn missing_table<T>(name: &str, reports: &mut Vec<Report>) -> Option<T> {
    if let Some(table) = TABLES.iter().find(|table| table.name == name) {
        let title = format!("there is no {}", table.header());
        let required: Vec<_> = table.keys.iter().filter(|key| key.is_required()).collect();
        let keys: Vec<_> = required.iter().map(|key| key.name).collect();
        reports.push(Report::problem("config.missing_table", title).help(format!(
            "add {} with {}: {}",
            table.header(),
            keys.join(", "),
            table.doc
        )));
    }
    None
}
