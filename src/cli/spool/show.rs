//! `sls-relay spool show`: one batch with its logs, or its body.

use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::ask::{Asking, ask};
use super::log_line::{pairs, time_of};
use super::render::{Rendered, cell, printable, write_bytes};
use crate::cli::output;
use crate::inspect::Question;
use crate::spool::Seq;

#[derive(Args, Debug)]
pub(super) struct ShowArgs {
    #[command(flatten)]
    asking: Asking,
    /// Number of the batch
    seq: Seq,
    /// Most logs to show
    #[arg(long, value_name = "NUMBER", default_value_t = 20)]
    limit: u64,
    /// The body as SLS sent it, to standard output
    #[arg(long, conflicts_with = "json")]
    raw: bool,
}

pub(super) fn show(args: &ShowArgs) -> anyhow::Result<ExitCode> {
    let question = Question::Show { seq: args.seq, limit: Some(args.limit), raw: args.raw };
    let form = if args.raw { write_bytes } else { show_line };
    let summary = ask(&args.asking, &question, &mut Rendered::new(&args.asking, form))?;
    if let Some(left) = summary["left"].as_u64().filter(|left| *left > 0 && !args.asking.json) {
        output::line(&format!("\n{left} more logs; --limit shows more"));
    }
    Ok(ExitCode::SUCCESS)
}

/// The batch comes first, then its logs.
fn show_line(line: &Value) {
    if line.get("fields").is_none() {
        for (key, value) in line.as_object().into_iter().flatten() {
            output::line(&format!("{key:20} {}", cell(value)));
        }
        return;
    }
    output::line(&format!("\nlog {}  {}", line["index"], time_of(line)));
    for (key, value) in pairs(line) {
        output::line(&format!("  {} = {}", printable(&key), printable(&value)));
    }
}
