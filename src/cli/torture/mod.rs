//! `sls-relay torture`: what is lost, repeated and out of order when receivers die, stall and
//! lie, one row a scenario.

mod daemon;
mod fault;
mod feed;
mod hole;
mod ours;
mod peer;
mod pki;
mod proxy;
mod receiver;
mod scenario;
mod sender;
mod stage;
mod tally;
mod tools;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::output::{self, Columns};
use super::{exit, interrupted};
use crate::config::{LogFormat, LogSettings};
use crate::telemetry;
use peer::Who;
use scenario::Scenario;
use stage::{Account, LeftOut, Stage};
use tools::Tools;

#[derive(Args, Debug)]
pub(crate) struct TortureArgs {
    /// Print the names of the scenarios and end
    #[arg(long)]
    list: bool,
    /// Play only scenarios with this name, or with these parts of it between slashes; repeatable
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Play each scenario with this sender, too, for comparison; repeatable
    #[arg(long, value_name = "SENDER")]
    peer: Vec<Who>,
    /// Logs of a run at full speed, and most logs of a paced one
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(100..=10_000_000))]
    logs: u64,
    /// Logs a second of a paced run, which is fed for 8 seconds
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    rate: u64,
    /// Directory with rsyslog and syslog-ng as tests/receivers/fetch.sh unpacks them, in place of
    /// the installed ones
    #[arg(long, value_name = "DIR")]
    tools: Option<PathBuf>,
    /// Virtual environment with aliyun-log-python-sdk, for --peer sample
    #[arg(long, value_name = "DIR")]
    sdk: Option<PathBuf>,
    /// Give a run up after so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=3600))]
    deadline: u64,
    /// Decides how many logs arrive before the fault
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object a row instead of a table
    #[arg(long)]
    json: bool,
    /// Also print what the relay logs
    #[arg(short, long)]
    verbose: bool,
}

/// The table. What does not fit its column pushes the rest to the right.
const COLUMNS: Columns = Columns(&[
    ("scenario", 48),
    ("sender", 9),
    ("logs", -8),
    ("lost", -7),
    ("twice", -7),
    ("disorder", -8),
    ("seconds", -7),
    ("", 1),
]);

pub(crate) fn run(args: &TortureArgs) -> ExitCode {
    let chosen: Vec<Scenario> = Scenario::all()
        .into_iter()
        .filter(|scenario| {
            args.only.is_empty() || args.only.iter().any(|name| scenario.is_called(name))
        })
        .collect();
    if chosen.is_empty() {
        output::error("error: no scenario is called that; --list prints their names");
        return ExitCode::from(exit::USAGE);
    }
    if args.list {
        chosen.iter().for_each(|scenario| output::line(&scenario.to_string()));
        return ExitCode::SUCCESS;
    }
    hole::enter();
    let level = if args.verbose { "info" } else { "off" };
    let log = LogSettings { level: level.to_owned(), format: LogFormat::Text };
    if let Err(error) = telemetry::init(&log) {
        output::error(&error);
    }
    let runtime = match super::runtime() {
        Ok(runtime) => runtime,
        Err(code) => return code,
    };
    let outcome = runtime.block_on(async {
        tokio::select! {
            good = torture(args, &chosen) => Some(good),
            () = interrupted() => None,
        }
    });
    match outcome {
        Some(true) => ExitCode::SUCCESS,
        Some(false) => ExitCode::FAILURE,
        None => {
            output::error("error: interrupted");
            ExitCode::from(exit::SOFTWARE)
        }
    }
}

/// Plays all of them; whether this relay did what it must.
async fn torture(args: &TortureArgs, chosen: &[Scenario]) -> bool {
    let stage = Stage {
        logs: args.logs,
        rate: args.rate,
        deadline: Duration::from_secs(args.deadline),
        seed: args.seed,
        tools: Tools::new(args.tools.as_deref(), args.sdk.as_deref()),
    };
    if !args.json {
        COLUMNS.headings();
    }
    let mut good = true;
    for scenario in chosen {
        for peer in std::iter::once(None).chain(args.peer.iter().copied().map(Some)) {
            let row = Row::of(*scenario, peer, stage.play(*scenario, peer).await);
            good &= row.good;
            row.print(args.json);
        }
    }
    good
}

/// One line of the report.
struct Row {
    scenario: Scenario,
    sender: &'static str,
    account: Option<Account>,
    /// What else is to be said.
    note: String,
    good: bool,
}

impl Row {
    fn of(scenario: Scenario, peer: Option<Who>, played: anyhow::Result<Account>) -> Self {
        let sender = peer.map_or("sls-relay", Who::name);
        let must_not_lose = peer.is_none() && scenario.must_not_lose();
        let row = |account, note, good| Self { scenario, sender, account, note, good };
        let account = match played {
            Ok(account) => account,
            Err(error) if error.is::<LeftOut>() => {
                return row(None, format!("left out: {error}"), true);
            }
            // What a peer does is reported and not judged.
            Err(error) => return row(None, format!("FAILED: {error:#}"), peer.is_some()),
        };
        let lost = account.report.lost > 0;
        let mut notes = Vec::new();
        if lost && must_not_lose {
            notes.push(format!("LOST, first {:?}", account.missing));
        } else if lost && peer.is_none() {
            notes.push("may lose".to_owned());
        }
        if !account.finished {
            notes.push("NOT DONE at the deadline".to_owned());
        }
        if account.damaged > 0 {
            notes.push(format!("{} damaged", account.damaged));
        }
        if account.unproven > 0 {
            notes.push(format!("{} unproven", account.unproven));
        }
        let good = peer.is_some() || account.finished && !(lost && must_not_lose);
        row(Some(account), notes.join(", "), good)
    }

    fn print(&self, as_json: bool) {
        let name = self.scenario.to_string();
        let account = self.account.as_ref();
        if as_json {
            let report = account.map(|account| &account.report);
            let row = json!({
                "scenario": name,
                "sender": self.sender,
                "logs": report.map(|report| report.expected),
                "lost": report.map(|report| report.lost),
                "duplicated": report.map(|report| report.duplicates),
                "out_of_order": report.map(|report| report.out_of_order),
                "damaged": account.map(|account| account.damaged),
                "unproven": account.map(|account| account.unproven),
                "finished": account.map(|account| account.finished),
                "seconds": account.map(|account| account.seconds),
                "note": self.note,
                "good": self.good,
            });
            return output::line(&row.to_string());
        }
        let mut cells = vec![name, self.sender.to_owned()];
        match account {
            Some(account) => {
                let report = &account.report;
                let numbers =
                    [report.expected, report.lost, report.duplicates, report.out_of_order];
                cells.extend(numbers.map(|number| number.to_string()));
                cells.push(format!("{:.1}", account.seconds));
            }
            None => cells.extend(std::iter::repeat_n("-".to_owned(), 5)),
        }
        cells.push(self.note.clone());
        COLUMNS.row(&cells);
    }
}
