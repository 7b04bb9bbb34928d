//! `sls-relay spool gaps`: what is missing or was put aside, as the spool's ledger tells it.

use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::ask::{Asking, ask};
use super::render::{Rendered, cell, printable, source};
use crate::cli::output;
use crate::inspect::Question;
use crate::spool::{QUARANTINED_LOG, lost_in};

#[derive(Args, Debug)]
pub(super) struct GapsArgs {
    #[command(flatten)]
    asking: Asking,
}

pub(super) fn gaps(args: &GapsArgs) -> anyhow::Result<ExitCode> {
    let mut rows = Vec::new();
    let collect = |line: &Value| rows.extend(rows_of(line));
    let mut rendered = Rendered::new(&args.asking, collect);
    ask(&args.asking, &Question::Gaps, &mut rendered)?;
    drop(rendered);
    if args.asking.json {
        return Ok(ExitCode::SUCCESS);
    }
    if rows.is_empty() {
        output::line("no gaps");
    } else {
        let headings =
            ["time", "source", "shard", "what", "cursor", "next cursor", "log groups", "copy"];
        output::table(&headings, &rows);
    }
    Ok(ExitCode::SUCCESS)
}

/// One row, and one below it for each cursor range that damage took.
fn rows_of(line: &Value) -> Vec<Vec<String>> {
    let lost = lost_in(line).into_iter().map(|lost| {
        let text = |text: &str| match text {
            "" => "unknown".to_owned(),
            text => printable(text.as_bytes()),
        };
        let what = if lost.delivered { "  held, all delivered" } else { "  lost" };
        vec![
            String::new(),
            source(&Value::from(lost.key.source.as_str())),
            lost.key.shard.to_string(),
            format!("{what}: batches {}", lost.span),
            text(&lost.cursor),
            text(&lost.next_cursor),
        ]
    });
    std::iter::once(row(line)).chain(lost).collect()
}

fn row(line: &Value) -> Vec<String> {
    let shown = |name: &str| cell(&line[name]);
    let time = shown("at").parse::<jiff::Timestamp>();
    let what = match line["what"].as_str() {
        Some("damage") => format!(
            "damage of segment {:016x}, {}",
            line["segment"].as_u64().unwrap_or(0),
            match line["harmless"].as_bool() {
                Some(true) => "harmless".to_owned(),
                _ => format!("batches {} to {}", shown("first_seq"), shown("end_seq")),
            }
        ),
        Some("unreadable batch") => format!("unreadable batch {}", shown("seq")),
        Some("unformattable") => {
            format!("log {} not formatted for {}", shown("index"), shown("destination"))
        }
        Some(QUARANTINED_LOG) => {
            let (index, to) = (shown("index"), shown("destination"));
            format!("log {index} in the quarantine, not sent to {to}: {}", shown("why"))
        }
        Some("dropped") => {
            format!("{} logs dropped by an operator: {}", shown("logs"), shown("why"))
        }
        Some("gave way") => format!(
            "{} logs not delivered to {}: {}",
            shown("logs"),
            shown("destination"),
            shown("why")
        ),
        Some("refetch gone") => format!("not pulled again: {}", shown("why")),
        _ => shown("what"),
    };
    vec![
        time.map_or_else(|_| shown("at"), |time| output::time(time.as_millisecond())),
        source(&line["source"]),
        shown("shard"),
        what,
        shown("cursor"),
        shown("next_cursor"),
        shown("groups"),
        shown("copy"),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_destination_that_gave_way_is_named_with_what_it_lost() {
        let line = json!({"what": "gave way", "destination": "archive", "logs": 1234, "why": "full", "first_seq": 7, "end_seq": 9});
        assert_eq!(row(&line)[3], "1234 logs not delivered to archive: full");
    }

    #[test]
    fn what_came_from_outside_can_do_nothing_to_a_terminal() {
        let line = json!({"what": "gap\u{1b}[2J", "cursor": "\u{7}", "at": "\u{1b}"});
        assert!(row(&line).iter().all(|cell| !cell.chars().any(char::is_control)));
    }
}
