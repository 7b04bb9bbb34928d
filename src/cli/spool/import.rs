//! `sls-relay spool import`: batches that `spool export` brought out of another spool.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::bar::Bar;
use super::export::shown;
use super::gaps::logstore;
use super::{KeyFile, Where, output};
use crate::spool::portable::{self, Contents, Imported, WhenFull};
use crate::spool::{Options, Spool};

#[derive(Args, Debug)]
pub(super) struct ImportArgs {
    #[command(flatten)]
    at: Where,
    #[command(flatten)]
    keys: KeyFile,
    /// File that `spool export` wrote
    file: PathBuf,
    /// Why, for the spool's ledger
    #[arg(long, value_name = "TEXT", required_unless_present = "check")]
    reason: Option<String>,
    /// Only check the file and show what is in it
    #[arg(long, conflicts_with = "reason")]
    check: bool,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &ImportArgs) -> anyhow::Result<()> {
    if args.check {
        let bar = Bar::new("checked");
        let contents = portable::verify(&args.file, &mut |progress| bar.show(progress));
        bar.end();
        tell(args, &contents.map_err(shown)?);
        return Ok(());
    }
    let settings = args.at.with_keys(&args.keys)?;
    let options = Options {
        keys: settings.keys()?,
        dir: settings.dir,
        max_bytes: settings.max_bytes,
        min_free_bytes: settings.min_free_bytes,
        retention: settings.retention,
    };
    // A file that cannot be imported makes no spool.
    portable::verify(&args.file, &mut |_| ()).map_err(shown)?;
    let (spool, _) = Spool::open(&options)?;
    let reason = args.reason.as_deref().unwrap_or_default();
    let bar = Bar::new("imported");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut show = |progress| bar.show(progress);
    let imported =
        runtime.block_on(portable::import(&spool, &args.file, reason, WhenFull::Fail, &mut show));
    spool.close();
    bar.end();
    let Imported { contents, stored, before } = imported.map_err(shown)?;
    if args.json {
        let mut told = describe(&contents);
        told["stored"] = stored.into();
        told["stored_before"] = before.into();
        output::line(&told.to_string());
    } else {
        let earlier = match before {
            0 => String::new(),
            before => format!("; {before} were there from an earlier import of the same file"),
        };
        output::line(&format!("{stored} batches are stored{earlier}"));
    }
    Ok(())
}

fn tell(args: &ImportArgs, contents: &Contents) {
    if args.json {
        output::line(&describe(contents).to_string());
        return;
    }
    let Contents { batches, logs, bytes, .. } = contents;
    output::line(&format!("whole      {}", args.file.display()));
    output::line(&format!("export     {:016x}", contents.export));
    output::line(&format!("made       {}", output::time(made(contents))));
    output::line(&format!("holds      {batches} batches, {logs} logs, {}", output::size(*bytes)));
    if let Some(span) = contents.span {
        output::line(&format!("batches    {} to before {}", span.first, span.end));
    }
    if let Some((min, max)) = contents.times {
        let time = |seconds| output::time(i64::from(seconds) * 1000);
        output::line(&format!("log times  {} to {}", time(min), time(max)));
    }
    if !contents.keys.is_empty() {
        output::line(&format!("encrypted  with {}", keys(contents).join(", ")));
    }
    if !contents.shards.is_empty() {
        output::line("");
        let rows = contents.shards.iter().map(|(key, (batches, logs))| {
            let source = super::printable(logstore(&key.source).as_bytes());
            vec![source, key.shard.to_string(), batches.to_string(), logs.to_string()]
        });
        output::table(&["source", "shard", "batches", "logs"], &rows.collect::<Vec<_>>());
    }
}

fn describe(contents: &Contents) -> Value {
    let shards = contents.shards.iter().map(|(key, (batches, logs))| {
        json!({ "source": key.source, "shard": key.shard, "batches": batches, "logs": logs })
    });
    let time = |seconds| output::time(i64::from(seconds) * 1000);
    json!({
        "export": format!("{:016x}", contents.export), "made": output::time(made(contents)),
        "batches": contents.batches, "logs": contents.logs, "stored_bytes": contents.bytes,
        "file_bytes": contents.length,
        "first_seq": contents.span.map(|span| span.first),
        "end_seq": contents.span.map(|span| span.end),
        "oldest_log": contents.times.map(|(min, _)| time(min)),
        "newest_log": contents.times.map(|(_, max)| time(max)),
        "keys": keys(contents), "shards": shards.collect::<Vec<_>>(),
    })
}

fn made(contents: &Contents) -> i64 {
    i64::try_from(contents.created_ms).unwrap_or(i64::MAX)
}

fn keys(contents: &Contents) -> Vec<String> {
    contents.keys.iter().map(|id| format!("{id:016x}")).collect()
}
