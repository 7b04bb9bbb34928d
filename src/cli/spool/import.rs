//! `sls-relay spool import`: batches that `spool export` brought out of another spool.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::ask::At;
use super::export::{BYTES, shown};
use super::order::give;
use super::render::{Bar, printable};
use crate::cli::output;
use crate::inspect::logstore;
use crate::orders::Order;
use crate::spool::portable::{self, Contents};

#[derive(Args, Debug)]
pub(super) struct ImportArgs {
    #[command(flatten)]
    at: At,
    /// File that `spool export` wrote; a relay that runs reads it itself
    file: PathBuf,
    /// Why; kept in the spool's ledger
    #[arg(long, value_name = "TEXT", required_unless_present = "check")]
    reason: Option<String>,
    /// Only check the file and show what is in it
    #[arg(long, conflicts_with = "reason")]
    check: bool,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// Ends with 1 where not all of it is stored.
pub(super) fn import(args: &ImportArgs) -> anyhow::Result<ExitCode> {
    let Some(reason) = args.reason.clone().filter(|_| !args.check) else {
        let bar = Bar::new(BYTES);
        let contents = portable::verify(&args.file, &mut |at| bar.show(at.bytes, at.of_bytes));
        drop(bar);
        tell(args, &contents.map_err(shown)?);
        return Ok(ExitCode::SUCCESS);
    };
    let path = std::path::absolute(&args.file)?;
    let done = give(&args.at, &Order::Import { path, reason })?;
    let complete = done["complete"] == true;
    if args.json {
        output::line(&done.to_string());
    } else {
        let (stored, before) = (&done["stored"], done["stored_before"].as_u64());
        let earlier = before.filter(|before| *before > 0).map_or_else(String::new, |before| {
            format!("; {before} were there from an earlier import of the same file")
        });
        let rest = if complete {
            String::new()
        } else {
            format!("; of {}, it ended early: import the file again to go on", done["batches"])
        };
        output::line(&format!("{stored} batches are stored{earlier}{rest}"));
    }
    Ok(ExitCode::from(u8::from(!complete)))
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
            let source = printable(logstore(&key.source).as_bytes());
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
