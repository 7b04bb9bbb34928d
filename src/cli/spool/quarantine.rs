//! `sls-relay spool quarantine`: the copies of what could not be read, and logs that a
//! destination does not get.

use std::io;
use std::num::NonZeroU32;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::ask::{Asking, ask};
use super::log_line::{pairs, time_of};
use super::order::{Ordering, give, give_at};
use super::render::{Bar, Rendered, cell, printable, size, source, write_bytes};
use crate::cli::output;
use crate::inspect::{Output, Question};
use crate::orders::{Copies, Order};

/// Columns of `list`.
const COLUMNS: [&str; 8] =
    ["name", "size", "time", "what", "source", "shard", "destination", "why"];
/// How far sending is.
const LOGS: &str = "{wide_bar} {pos} of {len} logs, {eta}";

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
    /// One copy; of a single log its fields, too
    Show {
        #[command(flatten)]
        asking: Asking,
        /// Its name, as `quarantine list` prints it
        name: String,
        /// The copy byte for byte, to standard output
        #[arg(long, conflicts_with = "json")]
        raw: bool,
    },
    /// Let go of a copy for good
    Drop {
        #[command(flatten)]
        ordering: Ordering,
        #[command(flatten)]
        which: Which,
    },
    /// Send single logs again, marked as a replay; those that are confirmed leave the
    /// quarantine. Ends with 1 where not all were
    Retry {
        #[command(flatten)]
        ordering: Ordering,
        #[command(flatten)]
        which: Which,
        /// Destination in place of the one that did not get them
        #[arg(long, value_name = "DESTINATION")]
        to: Option<String>,
        /// Logs a second at most
        #[arg(long, value_name = "NUMBER")]
        rate: Option<NonZeroU32>,
    },
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct Which {
    /// Its name, as `quarantine list` prints it
    name: Option<String>,
    /// All copies; to be sent, all single logs
    #[arg(long)]
    all: bool,
}

impl Which {
    fn copies(&self) -> Copies {
        self.name.clone().map_or(Copies::All, Copies::Name)
    }
}

pub(super) fn quarantine(args: &QuarantineArgs) -> anyhow::Result<ExitCode> {
    match &args.command {
        Command::List { asking } => list(asking)?,
        Command::Show { asking, name, raw } => {
            let question = Question::QuarantineShow { name: name.clone(), raw: *raw };
            let form = if *raw { write_bytes } else { show };
            ask(asking, &question, &mut Rendered::new(asking, form))?;
        }
        Command::Drop { ordering, which } => {
            let (copies, reason) = (which.copies(), ordering.reason.clone());
            let done = give(&ordering.at, &Order::QuarantineDrop { copies, reason })?;
            return Ok(ordering.tell(&done, |done| {
                let (copies, bytes) = (&done["copies"], size(&done["bytes"]));
                format!("{copies} copies with {bytes} are let go of")
            }));
        }
        Command::Retry { ordering, which, to, rate } => {
            let (copies, reason) = (which.copies(), ordering.reason.clone());
            let order = Order::QuarantineRetry { copies, to: to.clone(), rate: *rate, reason };
            return retry(ordering, &order);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn retry(ordering: &Ordering, order: &Order) -> anyhow::Result<ExitCode> {
    let mut told = Told { json: ordering.json, bar: Bar::new(LOGS) };
    let done = give_at(&ordering.at, order, &mut told)?;
    drop(told);
    ordering.tell(&done, |done| {
        let unproven = match done["unproven"].as_u64() {
            Some(0) | None => String::new(),
            Some(some) => format!(", {some} of them without a proof"),
        };
        let (sent, refused, left) = (&done["sent"], &done["refused"], &done["left"]);
        format!("{sent} logs confirmed{unproven}; {refused} refused again, {left} not confirmed: those stay")
    });
    let all = done["refused"] == 0 && done["left"] == 0;
    Ok(ExitCode::from(u8::from(!all)))
}

/// Shows the logs that were refused again.
struct Told {
    json: bool,
    bar: Bar,
}

impl Output for Told {
    fn line(&mut self, line: &Value) -> io::Result<()> {
        self.bar.suspend(|| match self.json {
            true => output::line(&line.to_string()),
            false => output::error(&format!(
                "{} stays, {} refused it again: {}",
                cell(&line["name"]),
                cell(&line["destination"]),
                cell(&line["refused"])
            )),
        });
        Ok(())
    }

    fn progress(&mut self, done: u64, of: u64) {
        self.bar.show(done, of);
    }
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
            cell(&told["destination"]),
            cell(&told["why"]),
        ]);
    };
    ask(asking, &Question::QuarantineList, &mut Rendered::new(asking, collect))?;
    if asking.json {
        return Ok(());
    }
    if rows.is_empty() {
        output::line("the quarantine is empty");
    } else {
        output::table(&COLUMNS, &rows);
    }
    Ok(())
}

fn show(copy: &Value) {
    let about = ["name", "bytes"].map(|name| (name.to_owned(), &copy[name]));
    let told = copy["told"].as_object().into_iter().flatten();
    for (key, value) in about.into_iter().chain(told.map(|(key, value)| (key.clone(), value))) {
        output::line(&format!("{:12} {}", cell(&Value::from(key)), cell(value)));
    }
    let log = &copy["log"];
    if log["fields"].is_array() {
        output::line(&format!("\nlog  {}", time_of(log)));
        for (key, value) in pairs(log) {
            output::line(&format!("  {} = {}", printable(&key), printable(&value)));
        }
    }
}
