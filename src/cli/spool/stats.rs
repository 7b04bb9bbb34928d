//! `sls-relay spool stats`: how many logs, in how many bytes, from when to when.

use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::ask::{Asking, ask};
use super::filters::Filters;
use super::render::{Rendered, cell, size, source};
use crate::cli::output;
use crate::inspect::{By, Question};

#[derive(Args, Debug)]
pub(super) struct StatsArgs {
    #[command(flatten)]
    asking: Asking,
    /// What is counted apart. Bytes are those of whole batches that hold such logs
    #[arg(long, value_enum, default_value = "shard")]
    by: ByArg,
    #[command(flatten)]
    filters: Filters,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum ByArg {
    Source,
    Shard,
    Topic,
    Hour,
}

pub(super) fn stats(args: &StatsArgs) -> anyhow::Result<ExitCode> {
    let by = match args.by {
        ByArg::Source => By::Source,
        ByArg::Shard => By::Shard,
        ByArg::Topic => By::Topic,
        ByArg::Hour => By::Hour,
    };
    let question = Question::Stats { by, selection: args.filters.selection()? };
    let mut rows = Vec::new();
    let show = |row: &Value| rows.push(cells(row, args.by));
    let summary =
        ask(&args.asking, &question, &mut Rendered::new(&args.asking, show).with_progress())?;
    if !args.asking.json {
        let name = match args.by {
            ByArg::Source | ByArg::Shard => "source",
            ByArg::Topic => "topic",
            ByArg::Hour => "hour",
        };
        let shard = if matches!(args.by, ByArg::Shard) { Some("shard") } else { None };
        let counts = ["logs", "batches", "stored", "raw", "oldest log", "newest log"];
        let headings: Vec<_> = [name].into_iter().chain(shard).chain(counts).collect();
        output::table(&headings, &rows);
        output::line(&format!("{} logs", summary["logs"]));
    }
    Ok(ExitCode::SUCCESS)
}

fn cells(row: &Value, by: ByArg) -> Vec<String> {
    let name = match by {
        _ if row["other"] == true => "(others)".to_owned(),
        ByArg::Source | ByArg::Shard => source(&row["source"]),
        ByArg::Topic => cell(&row["topic"]),
        ByArg::Hour => cell(&row["hour"]),
    };
    let mut cells = vec![name];
    if matches!(by, ByArg::Shard) {
        cells.push(cell(&row["shard"]));
    }
    cells.extend([cell(&row["logs"]), cell(&row["batches"])]);
    cells.extend([size(&row["stored_bytes"]), size(&row["raw_bytes"])]);
    cells.extend([cell(&row["oldest_log"]), cell(&row["newest_log"])]);
    cells
}
