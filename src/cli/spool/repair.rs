//! `sls-relay spool repair`: what damage took that was still needed, and pulling it again.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::ask::At;
use super::order::{BATCHES, give_at};
use super::render::{Bar, printable};
use crate::cli::output;
use crate::inspect::Output;
use crate::orders::Order;
use crate::relay::refetch::{self, Pending};
use crate::spool::{self, Lost, Options, Spool, lost_of};

#[derive(Args, Debug)]
pub(super) struct RepairArgs {
    #[command(flatten)]
    at: At,
    /// Read everything first, and put what is damaged into the quarantine. The relay must be
    /// stopped; beside one that runs, see verify
    #[arg(long)]
    scan: bool,
    /// Pull from SLS again what was lost; consumes nothing and moves no checkpoint
    #[arg(long, requires = "reason")]
    refetch: bool,
    /// Why; kept in the spool's ledger
    #[arg(long, value_name = "TEXT", requires = "refetch")]
    reason: Option<String>,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

pub(super) fn repair(args: &RepairArgs) -> anyhow::Result<ExitCode> {
    if args.scan || !args.refetch {
        let dir = args.at.place()?.dir;
        if !dir.join("segments").is_dir() {
            anyhow::bail!("{} holds no spool; name its directory with --spool", dir.display());
        }
        if args.scan {
            scan(&dir)?;
        }
        if !args.refetch {
            list(&dir, args.json)?;
        }
    }
    if let Some(reason) = args.reason.clone().filter(|_| args.refetch) {
        pull_again(args, reason)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn scan(dir: &Path) -> Result<(), spool::Error> {
    let (spool, _) = Spool::open(&Options::keeping(dir))?;
    let done =
        spool.scan().and_then(|found| found.iter().try_for_each(|damage| spool.set_aside(damage)));
    spool.close();
    done
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

fn pull_again(args: &RepairArgs, reason: String) -> anyhow::Result<()> {
    let mut told = Told { json: args.json, bar: Bar::new(BATCHES) };
    let done = give_at(&args.at, &Order::Refetch { reason }, &mut told)?;
    drop(told);
    if args.json {
        output::line(&done.to_string());
    } else if done["ranges"] == 0 {
        output::line("nothing is left to pull again");
    }
    let number = |name: &str| done[name].as_u64().unwrap_or_default();
    let left = number("failed") + number("unfinished");
    if left > 0 {
        anyhow::bail!("{left} of {} lost ranges are not pulled again", done["ranges"]);
    }
    Ok(())
}

/// Shows the ranges as they come.
struct Told {
    json: bool,
    bar: Bar,
}

impl Output for Told {
    fn line(&mut self, line: &Value) -> io::Result<()> {
        self.bar.suspend(|| match (self.json, line["error"].as_str()) {
            (true, _) => output::line(&line.to_string()),
            (false, Some(error)) => output::error(&format!(
                "error: {}: {}",
                range_of(line),
                printable(error.as_bytes())
            )),
            (false, None) => {
                let gone = match line["gone"] == true {
                    true => "; SLS does not have all of it any more, see sls-relay spool gaps",
                    false => "",
                };
                let (logs, batches) = (&line["logs"], &line["batches"]);
                output::line(&format!(
                    "{}: {logs} logs in {batches} batches pulled again{gone}",
                    range_of(line)
                ));
            }
        });
        Ok(())
    }

    fn progress(&mut self, done: u64, of: u64) {
        self.bar.show(done, of);
    }
}

fn range_of(line: &Value) -> String {
    let lost = lost_of(&json!({ "lost": [line["refetch"]] }));
    lost.first().map_or_else(String::new, |lost| printable(lost.to_string().as_bytes()))
}
