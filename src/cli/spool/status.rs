//! `sls-relay spool status`: what waits, for whom, and how much disk it takes.

use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::ask::{Asking, ask};
use super::render::{Rendered, batches, cell, damage_text, size};
use crate::cli::output;
use crate::inspect::Question;

#[derive(Args, Debug)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    asking: Asking,
}

pub(super) fn status(args: &StatusArgs) -> anyhow::Result<ExitCode> {
    ask(&args.asking, &Question::Status, &mut Rendered::new(&args.asking, show))?;
    Ok(ExitCode::SUCCESS)
}

fn show(status: &Value) {
    let line = |name: &str, text: String| output::line(&format!("{name:10} {text}"));
    let known = |name: &str| !status[name].is_null();
    let some = |name: &str| status[name].as_u64().is_some_and(|count| count > 0);
    line("spool", cell(&status["dir"]));
    line(
        "held by",
        status["held_by"].as_str().map_or("nobody".to_owned(), |_| cell(&status["held_by"])),
    );
    let quota = known("max_bytes").then(|| format!(" of {}", size(&status["max_bytes"])));
    line(
        "disk",
        format!(
            "{}{} in {} segments",
            size(&status["used_bytes"]),
            quota.unwrap_or_default(),
            status["segments"]
        ),
    );
    line("waiting", format!("{} batches", status["batches_waiting"]));
    if let Some(age) = status["oldest_age_seconds"].as_u64() {
        line("oldest", format!("received {} ago", output::age(age)));
    }
    let any = |name: &str| status[name].as_array().is_some_and(|runs| !runs.is_empty());
    if any("holds") {
        let held = batches(&status["holds"]);
        line("HELD", format!("{held}; delivery stops in front of that until `spool release`"));
    }
    if any("drops") {
        line("dropped", batches(&status["drops"]));
    }
    if known("oldest_log") {
        line(
            "log times",
            format!("{} to {}", cell(&status["oldest_log"]), cell(&status["newest_log"])),
        );
    }
    if some("unfinished_bytes") && !known("held_by") {
        let bytes = size(&status["unfinished_bytes"]);
        line("unfinished", format!("{bytes} behind the last whole group; never acknowledged"));
    }
    for damage in status["damage"].as_array().into_iter().flatten() {
        line("DAMAGE", damage_text(damage));
    }
    if some("damage_noted") || some("gaps") || some("quarantined") {
        line(
            "noted",
            format!(
                "{} times damage, {} gaps, {} copies in the quarantine; see `sls-relay spool gaps`",
                status["damage_noted"], status["gaps"], status["quarantined"]
            ),
        );
    }
    if known("last_error") {
        line("ERROR", cell(&status["last_error"]));
    }
    let destinations = || status["destinations"].as_object().into_iter().flatten();
    // Only a relay that runs knows how it sends.
    let sends = destinations().any(|(_, at)| at.get("written").is_some());
    let headings = [
        "destination",
        "next log",
        "batches waiting",
        "logs waiting",
        "logs/s",
        "done in",
        "receiver",
    ];
    table(
        if sends { &headings } else { &headings[..4] },
        destinations().map(|(name, at)| destination(name, at, sends)),
    );
    for (name, at) in destinations() {
        let name = cell(&Value::from(name.as_str()));
        if let Some(rate) = at["slowed_to"].as_u64() {
            line("slowed", format!("{name} to {rate} logs a second, as its receiver was"));
        }
        if at["given_up"].as_u64().is_some_and(|logs| logs > 0) {
            let logs = &at["given_up"];
            line("NOT SENT", format!("{name} lost {logs} logs to a full spool; see `spool gaps`"));
        }
    }
    table(
        &["source", "shard", "position", "checkpoint"],
        status["shards"].as_array().into_iter().flatten().map(|shard| {
            ["source", "shard", "position", "committed"].map(|name| cell(&shard[name])).to_vec()
        }),
    );
}

fn destination(name: &str, at: &Value, sends: bool) -> Vec<String> {
    let mut row = vec![
        cell(&Value::from(name)),
        format!("{}+{}", at["seq"], at["index"]),
        cell(&at["batches_waiting"]),
        cell(&at["logs_waiting"]),
    ];
    if sends {
        let eta = at["eta_seconds"].as_u64();
        row.push(cell(&at["rate"]));
        row.push(eta.map_or_else(|| "-".to_owned(), output::age));
        row.push(cell(&at["receiver"]));
    }
    row
}

fn table(headings: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let rows: Vec<_> = rows.collect();
    if !rows.is_empty() {
        output::line("");
        output::table(headings, &rows);
    }
}
