//! `sls-relay spool quarantine`: the copies of what could not be read.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::ask::{Asking, ask};
use super::render::{Rendered, cell, size, source, write_bytes};
use crate::cli::output;
use crate::inspect::Question;

#[derive(Args, Debug)]
pub(super) struct QuarantineArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The copies, and what the ledger tells of each
    List {
        #[command(flatten)]
        asking: Asking,
    },
    /// One copy
    Show {
        #[command(flatten)]
        asking: Asking,
        /// Its name, as `quarantine list` prints it
        name: String,
        /// The copy byte for byte, to standard output
        #[arg(long, conflicts_with = "json")]
        raw: bool,
    },
}

pub(super) fn quarantine(args: &QuarantineArgs) -> anyhow::Result<ExitCode> {
    match &args.command {
        Command::List { asking } => list(asking)?,
        Command::Show { asking, name, raw } => {
            let question = Question::QuarantineShow { name: name.clone(), raw: *raw };
            let form = if *raw { write_bytes } else { show };
            ask(asking, &question, &mut Rendered::new(asking, form))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn list(asking: &Asking) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    let collect = |copy: &Value| {
        let told = &copy["told"];
        rows.push(vec![
            cell(&copy["name"]),
            size(&copy["bytes"]),
            cell(&told["at"]),
            cell(&told["what"]),
            source(&told["source"]),
            cell(&told["shard"]),
        ]);
    };
    ask(asking, &Question::QuarantineList, &mut Rendered::new(asking, collect))?;
    if asking.json {
        return Ok(());
    }
    if rows.is_empty() {
        output::line("the quarantine is empty");
    } else {
        output::table(&["name", "size", "time", "what", "source", "shard"], &rows);
    }
    Ok(())
}

fn show(copy: &Value) {
    let about = ["name", "bytes"].map(|name| (name.to_owned(), &copy[name]));
    let told = copy["told"].as_object().into_iter().flatten();
    for (key, value) in about.into_iter().chain(told.map(|(key, value)| (key.clone(), value))) {
        output::line(&format!("{:12} {}", cell(&Value::from(key)), cell(value)));
    }
}
