//! `sls-relay check`: the configuration, and then every connection, consuming nothing.

use std::process::ExitCode;

use clap::Args;

use super::{ConfigArgs, exit, output};
use crate::config::{Destination, Settings, Source, Start};
use crate::relay;
use crate::sls::{Client, CursorFrom, Error, PullRequest, Route};
use crate::syslog::{Scheme, transport};

#[derive(Args, Debug)]
pub(crate) struct CheckArgs {
    /// Only the configuration: connect to nothing
    #[arg(long)]
    offline: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

/// Results of the checks, printed as they come.
#[derive(Default)]
struct Findings {
    failed: u32,
    warned: u32,
}

impl Findings {
    fn ok(&mut self, what: &str, detail: &str) {
        output::line(&format!("  ok    {what:24} {detail}"));
    }

    fn note(&mut self, what: &str, detail: &str) {
        output::line(&format!("        {what:24} {detail}"));
    }

    fn warn(&mut self, what: &str, detail: &str) {
        self.warned += 1;
        output::line(&format!("  warn  {what:24} {detail}"));
    }

    fn fail(&mut self, what: &str, detail: &str) {
        self.failed += 1;
        output::line(&format!("  FAIL  {what:24} {detail}"));
    }
}

pub(crate) fn run(args: &CheckArgs) -> ExitCode {
    let loaded = match args.config.load() {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    for warning in &loaded.warnings {
        output::error(&format!("warning: {warning}"));
    }
    let settings = loaded.settings;
    let mut findings = Findings::default();
    if args.offline {
        for source in &settings.sources {
            output::line(&format!("source {}", source.name));
            describe_source(source, &mut findings);
        }
        for destination in &settings.destinations {
            output::line(&format!("destination {}", destination.name));
            describe_destination(destination, &mut findings);
        }
        output::line("The configuration is valid. Nothing was connected to.");
        return ExitCode::SUCCESS;
    }
    let runtime = match super::runtime() {
        Ok(runtime) => runtime,
        Err(code) => return code,
    };
    runtime.block_on(online(&settings, &mut findings));
    match (findings.failed, findings.warned) {
        (0, 0) => output::line("Everything works."),
        (0, warned) => output::line(&format!("Works, with {warned} warnings.")),
        (failed, _) => {
            output::line(&format!("{failed} checks failed."));
            return ExitCode::from(exit::UNAVAILABLE);
        }
    }
    ExitCode::SUCCESS
}

async fn online(settings: &Settings, findings: &mut Findings) {
    output::line("spool");
    check_spool(settings, findings);
    for source in &settings.sources {
        output::line(&format!("source {}", source.name));
        describe_source(source, findings);
        match relay::client(source, "check") {
            Ok(client) => check_source(source, &client, findings).await,
            Err(error) => findings.fail("access key", &relay::chain(&error)),
        }
    }
    for destination in &settings.destinations {
        output::line(&format!("destination {}", destination.name));
        describe_destination(destination, findings);
        check_destination(destination, findings).await;
    }
}

fn check_spool(settings: &Settings, findings: &mut Findings) {
    let dir = &settings.spool.dir;
    let existing = dir.ancestors().find(|path| path.is_dir());
    let Some(existing) = existing else {
        return findings.fail("directory", &format!("{} cannot be made", dir.display()));
    };
    match rustix::fs::statvfs(existing) {
        Ok(stat) => {
            let free = stat.f_bavail.saturating_mul(stat.f_frsize);
            let detail = format!(
                "{}: quota {}, {} free on its file system, {} to stay free",
                dir.display(),
                output::size(settings.spool.max_bytes),
                output::size(free),
                output::size(settings.spool.min_free_bytes)
            );
            if free < settings.spool.min_free_bytes.saturating_add(settings.spool.max_bytes) {
                findings.warn(
                    "disk",
                    &format!(
                        "{detail}; the disk is full before the quota is: pulling will hold early"
                    ),
                );
            } else {
                findings.ok("disk", &detail);
            }
        }
        Err(error) => findings.fail("disk", &format!("{}: {error}", existing.display())),
    }
    if let Some(holder) = crate::spool::Lock::holder(dir) {
        findings.note("held by", &holder);
    }
}

fn describe_source(source: &Source, findings: &mut Findings) {
    findings
        .note("logstore", &format!("{} {}/{}", source.endpoint, source.project, source.logstore));
    match &source.network.route {
        Route::Direct => {}
        Route::Address(address) => {
            findings.note("address", &format!("{address}, whatever the endpoint's name says"));
        }
        Route::Proxy(proxy) => findings.note("proxy", &proxy.to_string()),
        Route::Environment => {
            findings.note("proxy", "as HTTPS_PROXY, HTTP_PROXY and NO_PROXY say");
        }
    }
    if let Some(path) = &source.network.ca_file {
        let detail = format!("only those signed as {} says", path.display());
        findings.note("certificates", &detail);
    }
    let how = if source.start == Start::Begin {
        "; set start = \"end\" or a time to begin later"
    } else {
        ""
    };
    findings.note("without a checkpoint", &format!("a shard starts at {}{how}", source.start));
    findings.note(
        "checkpoints",
        "follow the spool: a crash or power loss of this machine loses nothing; the loss of its disk loses what the spool held",
    );
}

async fn check_source(source: &Source, client: &Client, findings: &mut Findings) {
    let Source { logstore, consumer_group, .. } = source;
    // The right to read the project, the logstore and the shard list is not needed to run.
    match client.get_project().await {
        Ok(project) => findings
            .ok("project", &format!("{} in {}, {}", project.name, project.region, project.status)),
        Err(error) => optional("project", &error, findings),
    }
    findings.note("clock", &format!("SLS is {} s ahead of this machine", client.clock_offset()));
    match client.get_logstore(logstore).await {
        Ok(store) => findings.ok(
            "logstore",
            &format!("{} shards, logs kept {} days", store.shard_count, store.ttl_days),
        ),
        Err(error) => optional("logstore", &error, findings),
    }
    match client.list_consumer_groups(logstore).await {
        Ok(groups) => match groups.iter().find(|group| group.name == *consumer_group) {
            Some(group) => findings.ok(
                "consumer group",
                &format!(
                    "{} exists, timeout {} s, {}",
                    group.name,
                    group.timeout_s,
                    if group.order { "in order" } else { "not in order" }
                ),
            ),
            None => findings.ok(
                "consumer group",
                &format!("{consumer_group} does not exist yet and will be made"),
            ),
        },
        Err(error) => findings.fail("consumer group", &relay::chain(&error)),
    }
    let shards = match client.list_shards(logstore).await {
        Ok(shards) => {
            findings.ok("shards", &format!("{} in all", shards.len()));
            shards.iter().map(|shard| shard.shard).collect()
        }
        Err(error) => {
            optional("shards", &error, findings);
            vec![0]
        }
    };
    let Some(shard) = shards.first().copied() else { return };
    let pulled = async {
        let cursor = client.get_cursor(logstore, shard, CursorFrom::Begin).await?;
        client.pull_logs(logstore, shard, PullRequest::new(&cursor, 1)).await
    };
    match pulled.await {
        Ok(answer) => {
            let identity = if answer.groups == 0 {
                "shard is empty"
            } else if answer.last_group_cursor.is_some() {
                "SLS numbers its log groups: every log gets an identity that stays the same when it is read again"
            } else {
                "SLS does not number its log groups: the identity of a log is approximate"
            };
            findings.ok(
                "pull",
                &format!(
                    "{} log groups, {} raw; nothing was consumed; {identity}",
                    answer.groups,
                    output::size(answer.raw_size)
                ),
            );
        }
        Err(error) => findings.fail("pull", &relay::chain(&error)),
    }
}

/// A failure that only matters when it is not a missing right.
fn optional(what: &str, error: &Error, findings: &mut Findings) {
    if error.code() == "sls.forbidden" {
        findings.warn(what, "the access key may not read this; it is not needed to run");
    } else {
        findings.fail(what, &relay::chain(error));
    }
}

fn describe_destination(destination: &Destination, findings: &mut Findings) {
    findings.note("receiver", &format!("{} as {}", destination.target, destination.format));
    match destination.target.scheme {
        Scheme::Tcp => {
            findings.note("proof", "drain: from time to time the connection is closed in one direction, and the receiver closing the other proves that it read everything");
            findings.note(
                "a crash of the receiver",
                &format!(
                    "repeats at most {} or {} s of logs, whichever is less, and {} s more",
                    output::size(destination.drain_bytes),
                    destination.drain_every.as_secs(),
                    destination.settle.as_secs()
                ),
            );
            findings.note("loss", "none that this side can see; a receiver killed with a full queue in memory loses what it had read more than the settle time ago");
        }
        Scheme::Udp => {
            findings.warn("proof", "none exists for UDP: a datagram that nobody refused counts as delivered after the settle time; use tcp:// where a loss matters");
        }
    }
}

async fn check_destination(destination: &Destination, findings: &mut Findings) {
    let connected = match destination.target.scheme {
        Scheme::Tcp => {
            let settings = transport::TcpSettings {
                connect_timeout: destination.timeout,
                ..transport::TcpSettings::default()
            };
            match transport::TcpConnection::connect(&destination.target, &settings).await {
                Ok(connection) => {
                    let peer = connection.peer();
                    findings.ok("connect", &peer.to_string());
                    match connection.drain(destination.timeout).await {
                        Ok(()) => findings.ok("answers a drain", "closes when we close"),
                        Err(error) => findings.warn(
                            "answers a drain",
                            &format!("{error}; delivery will go on with weaker proof"),
                        ),
                    }
                    Ok(())
                }
                Err(error) => Err(error),
            }
        }
        Scheme::Udp => transport::UdpConnection::connect(
            &destination.target,
            &transport::UdpSettings::default(),
        )
        .await
        .map(|connection| findings.ok("resolve", &connection.peer().to_string())),
    };
    if let Err(error) = connected {
        findings.fail("connect", &relay::chain(&error));
    }
}
