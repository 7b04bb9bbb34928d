//! A `[[source]]` table.

use super::credentials;
use super::given::GivenTable;
use super::network::network;
use super::read::{Read, Reader, Reported};
use super::report::Report;
use super::settings::{CHECKPOINT_LOOK, Checkpoint, Handover, LAG_EVERY, OnExpired, Source, Start};
use super::value::{choice, name, path_part, project, region, start};
use crate::sls::{CredentialSource, Endpoint, Filter, SignVersion};

const SIGN_VERSIONS: [(&str, SignVersion); 3] =
    [("auto", SignVersion::Auto), ("v1", SignVersion::V1), ("v4", SignVersion::V4)];

/// What is known of a source, also where something is wrong with it.
pub(super) struct Resolved {
    pub(super) source: Read<Source>,
    /// The access key of its own.
    pub(super) key: Read<Option<CredentialSource>>,
    /// Region, or the endpoint where it names none; project, logstore, consumer group.
    pub(super) reads: Option<Reads>,
}

const CHECKPOINTS: [(&str, Checkpoint); 2] =
    [("spooled", Checkpoint::Spooled), ("delivered", Checkpoint::Delivered)];

const HANDOVERS: [(&str, Handover); 2] =
    [("spooled", Handover::Spooled), ("delivered", Handover::Delivered)];

const ON_EXPIRED: [(&str, OnExpired); 3] =
    [("oldest", OnExpired::Oldest), ("newest", OnExpired::Newest), ("stop", OnExpired::Stop)];

type Reads = (String, String, String, String);

/// Reads one source; `only` tells that there is no other, so that it needs no name.
/// `around` is the key for those that have none of their own.
pub(super) fn source(
    table: &GivenTable,
    only: bool,
    around: Option<&CredentialSource>,
    env: credentials::Env<'_>,
    reports: &mut Vec<Report>,
) -> Resolved {
    let mut reader = Reader::new(table, reports);
    let name = match reader.optional("name", name) {
        Ok(None) if only => Ok("source".to_owned()),
        Ok(None) => Err(reader.missing("name")),
        Ok(Some(name)) => Ok(name),
        Err(reported) => Err(reported),
    };
    let endpoint = reader.text("endpoint", Endpoint::parse);
    let project = reader.text("project", project);
    let logstore = reader.text("logstore", path_part);
    let consumer_group = reader.text("consumer_group", path_part);
    let start: Read<Start> = reader.text("start", start);
    let checkpoint = reader.text("checkpoint", |text| choice(text, &CHECKPOINTS));
    let handover = reader.text("handover", |text| choice(text, &HANDOVERS));
    let handover_timeout = reader.span("handover_timeout");
    let on_expired = reader.text("on_expired", |text| choice(text, &ON_EXPIRED));
    let unreadable_after = reader.span("unreadable_after");
    let shard_bytes_per_second = reader.size("shard_bytes_per_second");
    let filter = filter(&mut reader);
    let region = reader.optional("region", region);
    let sign = reader.text("sign_version", |text| choice(text, &SIGN_VERSIONS));
    let network = network(&mut reader, endpoint.as_ref().ok());
    let heartbeat_interval = reader.span("heartbeat_interval");
    let group_timeout = reader.span("group_timeout");
    let order = reader.optional("order", order);
    let manage_group = reader.flag("manage_group");
    let idle_poll = reader.span("idle_poll");
    let key = credentials::written(&mut reader, env);
    if let Ok(endpoint) = &endpoint {
        warn_of_http(&mut reader, endpoint);
        if let (Ok(sign), Ok(region)) = (&sign, &region) {
            check_region(&mut reader, endpoint, *sign, region.as_deref());
        }
    }
    let policies = (&checkpoint, &handover);
    if let (Ok(Checkpoint::Spooled), Ok(Handover::Delivered)) = policies {
        report_handover(&mut reader);
    }
    if let (Ok(interval), Ok(timeout)) = (&heartbeat_interval, &group_timeout) {
        // The default is made shorter where it does not fit; what was written is not.
        if reader.table.has("heartbeat_interval") && *interval > *timeout / 4 {
            report_heartbeat(&mut reader);
        }
        if timeout.subsec_nanos() != 0 {
            reader.report("config.invalid_value", "group_timeout", "SLS takes whole seconds only");
        }
    }
    reader.finish();
    let credentials = match &key {
        Ok(Some(own)) => Ok(own.clone()),
        Ok(None) => around.cloned().ok_or(Reported),
        Err(_) => Err(Reported),
    };
    let reads = match (&endpoint, &project, &logstore, &consumer_group) {
        (Ok(endpoint), Ok(project), Ok(logstore), Ok(group)) => {
            // A region has several endpoints, and SLS knows this relay by one name on all of them.
            let place = endpoint.region().unwrap_or_else(|| endpoint.to_string());
            Some((place, project.clone(), logstore.clone(), group.clone()))
        }
        _ => None,
    };
    let source = (|| {
        Ok(Source {
            name: name?,
            endpoint: endpoint?,
            region: region?,
            sign: sign?,
            network: network?,
            project: project?,
            logstore: logstore?,
            consumer_group: consumer_group?,
            start: start?,
            until: None,
            checkpoint: checkpoint?,
            handover: handover?,
            handover_timeout: handover_timeout?,
            on_expired: on_expired?,
            unreadable_after: unreadable_after?,
            shard_bytes_per_second: shard_bytes_per_second?,
            filter: filter?,
            credentials: credentials?,
            heartbeat_interval: heartbeat_interval?,
            group_timeout: group_timeout?,
            checkpoint_look: CHECKPOINT_LOOK,
            lag_every: LAG_EVERY,
            order: order?,
            manage_group: manage_group?,
            idle_poll: idle_poll?,
        })
    })();
    Resolved { source, key, reads }
}

/// Both words are alike and mean the opposite: none is suggested for the other.
fn order(text: &str) -> Result<bool, String> {
    match text {
        "ordered" => Ok(true),
        "unordered" => Ok(false),
        _ => Err(format!("{text:?} is neither ordered nor unordered")),
    }
}

/// A query or a processor: SLS takes one of them.
fn filter(reader: &mut Reader<'_>) -> Read<Option<Filter>> {
    let query = reader.optional("query", |text| match text.trim() {
        "" => Err("a query is not blank: leave it out to read everything"),
        query => Ok(Filter::Query(query.to_owned())),
    });
    let processor = reader.optional("processor", path_part);
    let table = reader.table;
    if table.has("query") && table.has("processor") {
        reader.reports.push(
            Report::problem("config.conflict", "`query` and `processor` exclude each other")
                .at(&table.place_of("query"), "")
                .at(&table.place_of("processor"), "")
                .help("keep one of them: a processor holds a query of its own"),
        );
        return Err(Reported);
    }
    Ok(query?.or(processor?.map(Filter::Processor)))
}

fn warn_of_http(reader: &mut Reader<'_>, endpoint: &Endpoint) {
    if endpoint.is_https() || endpoint.is_loopback() {
        return;
    }
    let title = format!("`{}` is not encrypted", reader.table.shown("endpoint"));
    reader.reports.push(
        Report::warning("config.plain_http", title)
            .at(
                &reader.table.place_of("endpoint"),
                format!("logs from {endpoint} can be read on the way"),
            )
            .help("write https://"),
    );
}

fn check_region(
    reader: &mut Reader<'_>,
    endpoint: &Endpoint,
    sign: SignVersion,
    region: Option<&str>,
) {
    if sign == SignVersion::V4 && region.is_none() && endpoint.region().is_none() {
        reader.reports.push(
            Report::problem("config.no_region", "version 4 signs for a region, and none is known")
                .at(&reader.table.place_of("sign_version"), "asked for here")
                .at(&reader.table.place_of("endpoint"), "this does not begin with a region")
                .help("write region = \"cn-hangzhou\", or whichever the project is in"),
        );
    }
}

/// The next relay takes a shard at its checkpoint. Where that runs ahead of delivery, a
/// killed relay leaves older logs behind that come later.
fn report_handover(reader: &mut Reader<'_>) {
    let table = reader.table;
    let title = "`handover = \"delivered\"` needs `checkpoint = \"delivered\"`";
    let mut report = Report::problem("config.handover", title)
        .at(&table.place_of("handover"), "keeps a shard's order over relays");
    if table.has("checkpoint") {
        let label = "with this, what a killed relay had spooled is delivered after newer logs";
        report = report.at(&table.place_of("checkpoint"), label);
    }
    reader
        .reports
        .push(report.help("write checkpoint = \"delivered\", too, or leave handover out"));
}

fn report_heartbeat(reader: &mut Reader<'_>) {
    let table = reader.table;
    let timeout = table.schema.key("group_timeout").and_then(|key| key.example());
    let mut report = Report::problem(
        "config.heartbeat_too_slow",
        "`heartbeat_interval` is more than a quarter of `group_timeout`",
    )
    .at(&table.place_of("heartbeat_interval"), "one late heartbeat could cost the shards")
    .at(&table.place_of("group_timeout"), "the timeout");
    if let (false, Some(timeout)) = (table.has("group_timeout"), timeout) {
        report = report.help(format!("`group_timeout` is {timeout} unless written"));
    }
    reader.reports.push(report.help("shorten the interval, or lengthen the timeout"));
}
