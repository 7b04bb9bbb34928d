//! `sls-relay spool list`: batches.

use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::ask::{Asking, ask};
use super::filters::Filters;
use super::render::{Rendered, cell, size, source};
use crate::cli::output::{self, Columns};
use crate::inspect::Question;

#[derive(Args, Debug)]
pub(super) struct ListArgs {
    #[command(flatten)]
    asking: Asking,
    /// Most batches to list [default: 100, or with --follow no limit]
    #[arg(long, value_name = "NUMBER")]
    limit: Option<u64>,
    /// Go on with batches that come
    #[arg(long)]
    follow: bool,
    #[command(flatten)]
    filters: Filters,
}

const LIMIT: u64 = 100;

const COLUMNS: Columns = Columns(&[
    ("seq", -8),
    ("shard", -5),
    ("logs", -6),
    ("stored", -9),
    ("raw", -9),
    ("received", 20),
    ("oldest log", 20),
    ("newest log", 20),
    ("cursor", 24),
    ("source", 0),
]);

pub(super) fn list(args: &ListArgs) -> anyhow::Result<ExitCode> {
    let limit = args.limit.or((!args.follow).then_some(LIMIT));
    let selection = args.filters.selection()?;
    let question = Question::List { selection, limit, follow: args.follow };
    let mut headed = args.asking.json;
    let mut head = || {
        if !std::mem::replace(&mut headed, true) {
            COLUMNS.headings();
        }
    };
    let show = |batch: &Value| {
        head();
        show(batch);
    };
    let summary = ask(&args.asking, &question, &mut Rendered::new(&args.asking, show))?;
    head();
    if summary["more"] == true && !args.asking.json {
        output::error("there are more batches; --limit lists more");
    }
    Ok(ExitCode::SUCCESS)
}

fn show(batch: &Value) {
    COLUMNS.row(&[
        cell(&batch["seq"]),
        cell(&batch["shard"]),
        cell(&batch["logs"]),
        size(&batch["stored_bytes"]),
        size(&batch["raw_bytes"]),
        cell(&batch["received"]),
        cell(&batch["oldest_log"]),
        cell(&batch["newest_log"]),
        cell(&batch["cursor"]),
        source(&batch["source"]),
    ]);
}
