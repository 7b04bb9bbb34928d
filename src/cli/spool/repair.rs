//! `sls-relay spool repair`: what damage took that was still needed, and pulling it again.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use indicatif::ProgressBar;
use serde_json::{Value, json};

use super::ask::At;
use super::render::printable;
use crate::cli::{machine_name, output};
use crate::config::{self, Settings, Source};
use crate::relay::refetch::{self, Pending};
use crate::relay::{chain, client_within};
use crate::spool::{self, Lost, Options, Spool};

/// Time for one call to SLS, its answer included.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Args, Debug)]
pub(super) struct RepairArgs {
    #[command(flatten)]
    at: At,
    /// Read everything first, and put what is damaged into the quarantine. The relay must be
    /// stopped
    #[arg(long)]
    scan: bool,
    /// Pull from SLS again what was lost; consumes nothing and moves no checkpoint. Reads all of
    /// the configuration. The relay must be stopped; its next start delivers what was pulled
    #[arg(long, requires = "reason")]
    refetch: bool,
    /// Why, for the spool's ledger
    #[arg(long, value_name = "TEXT", requires = "refetch")]
    reason: Option<String>,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

pub(super) fn repair(args: &RepairArgs) -> anyhow::Result<ExitCode> {
    let settings = if args.refetch { Some(load(&args.at)?) } else { None };
    let dir = args.at.place()?.dir;
    if !dir.join("segments").is_dir() {
        anyhow::bail!("{} holds no spool; name its directory with --spool", dir.display());
    }
    if args.scan || args.refetch {
        let (spool, _) = Spool::open(&Options::keeping(&dir))?;
        let done = with_spool(&spool, args, settings.as_ref());
        spool.close();
        done?;
    }
    if !args.refetch {
        list(&dir, args.json)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn with_spool(spool: &Spool, args: &RepairArgs, settings: Option<&Settings>) -> anyhow::Result<()> {
    if args.scan {
        for damage in spool.scan()? {
            spool.set_aside(&damage)?;
        }
    }
    match (settings, &args.reason) {
        (Some(settings), Some(reason)) => pull_again(spool, settings, reason, args.json),
        _ => Ok(()),
    }
}

/// All of the configuration, as `run` reads it.
fn load(at: &At) -> anyhow::Result<Settings> {
    let env = |name: &str| std::env::var(name).ok();
    Ok(config::load(at.config_file(), &env, &machine_name())?.settings)
}

fn list(dir: &Path, as_json: bool) -> Result<(), spool::Error> {
    let ledger = spool::read_ledger(dir)?;
    let places = ledger.iter().filter(|line| line["what"] == "damage");
    let harmless = places.clone().filter(|line| line["harmless"] == true).count();
    let pending = refetch::pending(&ledger);
    if as_json {
        pending.iter().for_each(|one| output::line(&line_of(one).to_string()));
        return Ok(());
    }
    let count = places.count();
    if count == 0 {
        output::line("no damage is known; --scan reads everything");
        return Ok(());
    }
    output::line(&format!("{count} damaged places, {harmless} of them harmless"));
    if pending.is_empty() {
        return Ok(());
    }
    output::line("");
    let rows: Vec<_> = pending.iter().map(row).collect();
    let headings = ["source", "shard", "batches", "logs", "cursor", "next cursor", "state"];
    output::table(&headings, &rows);
    if pending.iter().any(|one| !one.done) {
        output::line("");
        output::line("pull it again with: sls-relay spool repair --refetch --reason TEXT");
    }
    Ok(())
}

fn state_of(one: &Pending) -> &'static str {
    match (one.done, one.gone) {
        (true, true) => "gone",
        (true, false) => "pulled again",
        (false, _) if one.at.is_empty() => "unknown beginning",
        (false, _) if one.at != one.lost.cursor => "in part",
        (false, _) => "lost",
    }
}

fn row(one: &Pending) -> Vec<String> {
    let Lost { key, cursor, next_cursor, span, logs, .. } = &one.lost;
    let text = |text: &str| match text {
        "" => "unknown".to_owned(),
        text => printable(text.as_bytes()),
    };
    vec![
        text(&key.source),
        key.shard.to_string(),
        span.to_string(),
        logs.map_or_else(|| "-".to_owned(), |logs| logs.to_string()),
        text(cursor),
        text(next_cursor),
        state_of(one).to_owned(),
    ]
}

fn line_of(one: &Pending) -> Value {
    let Lost { key, cursor, next_cursor, span, logs, .. } = &one.lost;
    json!({
        "source": key.source, "shard": key.shard, "cursor": cursor, "next_cursor": next_cursor,
        "first_seq": span.first, "end_seq": span.end, "logs": logs, "at": one.at,
        "state": state_of(one),
    })
}

fn pull_again(
    spool: &Spool,
    settings: &Settings,
    reason: &str,
    as_json: bool,
) -> anyhow::Result<()> {
    let mut pending = refetch::pending(&spool::read_ledger(spool.dir())?);
    pending.retain(|one| !one.done);
    if pending.is_empty() {
        if !as_json {
            output::line("nothing is left to pull again");
        }
        return Ok(());
    }
    let uid = rustix::process::getuid().as_raw();
    spool.note(&json!({ "what": "refetch", "reason": reason, "uid": uid }))?;
    let identity = spool::identity(spool.dir())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let count = pending.len();
    let mut failed = 0;
    for one in &pending {
        if let Err(error) = runtime.block_on(range(spool, settings, &identity, one, as_json)) {
            output::error(&format!("error: {}: {}", one.lost, chain(error.as_ref())));
            failed += 1;
        }
    }
    if failed > 0 {
        anyhow::bail!("{failed} of {count} lost ranges are not pulled again");
    }
    Ok(())
}

async fn range(
    spool: &Spool,
    settings: &Settings,
    identity: &str,
    one: &Pending,
    as_json: bool,
) -> anyhow::Result<()> {
    let source = source_of(settings, &one.lost)?;
    let client = client_within(source, identity, CALL_TIMEOUT)?;
    let bar =
        if output::interactive() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    let mut sum = 0;
    let progress = |logs: u32| {
        sum += u64::from(logs);
        bar.set_message(format!("{} shard {}: {sum} logs", source.name, one.lost.key.shard));
        bar.tick();
    };
    let done = refetch::refetch(&client, source, spool, &one.lost, progress).await;
    bar.finish_and_clear();
    let done = done?;
    if as_json {
        let mut line = line_of(one);
        line["state"] = if done.gone { "gone" } else { "pulled again" }.into();
        line["pulled_logs"] = done.logs.into();
        line["pulled_batches"] = done.batches.into();
        output::line(&line.to_string());
    } else {
        let gone = match done.gone {
            true => "; SLS does not have all of it any more, see sls-relay spool gaps",
            false => "",
        };
        let (logs, batches) = (done.logs, done.batches);
        output::line(&format!("{}: {logs} logs in {batches} batches pulled again{gone}", one.lost));
    }
    Ok(())
}

fn source_of<'a>(settings: &'a Settings, lost: &Lost) -> anyhow::Result<&'a Source> {
    let found = settings.sources.iter().find(|source| source.spool_key() == lost.key.source);
    found.ok_or_else(|| {
        let known: Vec<String> = settings.sources.iter().map(Source::spool_key).collect();
        anyhow::anyhow!(
            "the configuration has no source {}; it has {}. Configure it again to pull its logs",
            printable(lost.key.source.as_bytes()),
            known.join(", ")
        )
    })
}
