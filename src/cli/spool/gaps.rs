//! `sls-relay spool gaps`: what is missing or was put aside, as the spool's ledger tells it.

use std::collections::HashSet;
use std::path::Path;

use serde_json::Value;

use crate::cli::output;
use crate::spool;

/// What of the ledger is about logs.
const ABOUT_LOGS: [&str; 5] =
    ["gap", "unreadable answer", "unreadable batch", "damage", "unformattable"];

/// What makes two lines tell the same: one is written before what it tells is durable, and
/// once more after a crash in between.
const SAME: [&str; 8] =
    ["what", "source", "shard", "cursor", "segment", "from", "destination", "index"];

/// Reads the ledger of the spool in `dir`, which is changed by nothing.
pub(super) fn gaps(dir: &Path, as_json: bool) -> anyhow::Result<()> {
    if !dir.join("segments").is_dir() {
        anyhow::bail!("{} holds no spool; name its directory with --spool", dir.display());
    }
    let lines = of_logs(spool::read_ledger(dir)?);
    if as_json {
        lines.iter().for_each(|line| output::line(&line.to_string()));
    } else if lines.is_empty() {
        output::line("no gaps");
    } else {
        let rows: Vec<_> = lines.iter().map(row).collect();
        let headings =
            ["time", "source", "shard", "what", "cursor", "next cursor", "log groups", "copy"];
        output::table(&headings, &rows);
    }
    Ok(())
}

/// The lines about logs, each once.
fn of_logs(lines: Vec<Value>) -> Vec<Value> {
    let mut seen = HashSet::new();
    let about_logs =
        |line: &Value| line["what"].as_str().is_some_and(|what| ABOUT_LOGS.contains(&what));
    let first = |line: &Value| seen.insert(SAME.map(|name| line[name].to_string()));
    lines.into_iter().filter(about_logs).filter(first).collect()
}

fn row(line: &Value) -> Vec<String> {
    let shown = |name: &str| match &line[name] {
        Value::Null => "-".to_owned(),
        Value::String(text) => super::printable(text.as_bytes()),
        other => other.to_string(),
    };
    let time = shown("at").parse::<jiff::Timestamp>();
    let what = match line["what"].as_str() {
        Some("damage") => format!(
            "damage of segment {:016x}, batches {} to {}",
            line["segment"].as_u64().unwrap_or(0),
            shown("first_seq"),
            shown("end_seq")
        ),
        Some("unreadable batch") => format!("unreadable batch {}", shown("seq")),
        Some("unformattable") => {
            format!("log {} not formatted for {}", shown("index"), shown("destination"))
        }
        _ => shown("what"),
    };
    vec![
        time.map_or_else(|_| shown("at"), |time| output::time(time.as_millisecond())),
        logstore(&shown("source")).to_owned(),
        shown("shard"),
        what,
        shown("cursor"),
        shown("next_cursor"),
        shown("groups"),
        shown("copy"),
    ]
}

/// `PROJECT/LOGSTORE` of a source as the spool knows it: `ENDPOINT/PROJECT/LOGSTORE#GROUP`.
pub(super) fn logstore(source: &str) -> &str {
    let path = source.split('#').next().unwrap_or(source);
    let start = path.rmatch_indices('/').nth(1).map_or(0, |(slash, _)| slash + 1);
    path.get(start..).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_gap_that_was_written_twice_is_shown_once_and_other_lines_not_at_all() {
        let gap = |shard: u32, at: &str| json!({"what": "gap", "source": "s", "shard": shard, "cursor": "c", "at": at});
        let other = json!({"what": "forget destination", "destination": "d"});
        let damage = |from: u64| json!({"what": "damage", "segment": 1, "from": from});
        let lines = vec![
            gap(0, "first"),
            other,
            gap(0, "second"),
            gap(1, "first"),
            damage(8),
            damage(9),
            json!({}),
        ];
        let left = of_logs(lines);
        assert_eq!(left, [gap(0, "first"), gap(1, "first"), damage(8), damage(9)]);
    }

    #[test]
    fn a_source_is_shown_by_its_project_and_logstore() {
        for (source, shown) in [
            ("https://cn-x.log.aliyuncs.com/waf/logs#group/1#2", "waf/logs"),
            ("http://127.0.0.1:80/p/l#g", "p/l"),
            ("-", "-"),
            ("p/l", "p/l"),
            ("", ""),
        ] {
            assert_eq!(logstore(source), shown);
        }
    }

    #[test]
    fn what_came_from_outside_can_do_nothing_to_a_terminal() {
        let line = json!({"what": "gap\u{1b}[2J", "cursor": "\u{7}", "at": "\u{1b}"});
        assert!(row(&line).iter().all(|cell| !cell.chars().any(char::is_control)));
    }
}
