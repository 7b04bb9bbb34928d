//! `sls-relay torture` in short: a real rsyslog and a real syslog-ng are ended, killed, and
//! stopped and killed, and nothing is lost.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test ends at the first surprise, and says what it leaves out"
)]

use std::env;
use std::path::PathBuf;
use std::process::Command;

#[path = "support/left_out.rs"]
mod left_out;

use left_out::left_out;

const TOOLS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools");

/// Plays the scenarios that `names` choose, with few logs; the rows of the report.
fn torture(names: &[&str]) -> Vec<serde_json::Value> {
    let tools = PathBuf::from(env::var_os("SLS_RELAY_TOOLS").unwrap_or(TOOLS.into()));
    let mut command = Command::new(env!("CARGO_BIN_EXE_sls-relay"));
    command.args(["torture", "--json", "--logs", "6000", "--rate", "1500", "--tools"]);
    command.arg(tools.join("receivers"));
    command.args(names.iter().flat_map(|name| ["--only", name]));
    let output = command.output().unwrap();
    let rows = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "a scenario failed:\n{rows}{errors}");
    rows.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn loses_nothing(daemon: &str) {
    let names = ["term", "kill", "stop-kill"]
        .map(|fault| format!("tcp-drain/direct/{daemon}/{fault}/paced"));
    let rows = torture(&names.each_ref().map(String::as_str));
    assert_eq!(rows.len(), 3);
    for row in rows {
        if row["note"].as_str().unwrap().starts_with("left out") {
            left_out(&format!("{row}: run ./test tools to fetch it"));
            continue;
        }
        assert_faithful(&row);
    }
}

/// Nothing was lost, although the fault came while logs were under way: else it proves nothing.
fn assert_faithful(row: &serde_json::Value) {
    assert_eq!(
        (&row["logs"], &row["lost"], &row["out_of_order"]),
        (&6000.into(), &0.into(), &0.into()),
        "{row}"
    );
    assert!(row["duplicated"].as_u64().unwrap() > 0, "{row}");
}

#[test]
fn an_rsyslog_that_ends_or_is_killed_costs_nothing() {
    loses_nothing("rsyslog");
}

#[test]
fn a_syslog_ng_that_ends_or_is_killed_costs_nothing() {
    loses_nothing("syslog-ng");
}

#[test]
fn a_receiver_that_refuses_our_certificate_for_a_while_costs_nothing() {
    let rows = torture(&["tls/hostile/client-cert-foreign/paced"]);
    let [row] = rows.as_slice() else { panic!("one scenario is called that: {rows:?}") };
    assert_faithful(row);
}

#[test]
fn a_loss_that_must_not_be_ends_with_1_and_names_what_is_missing() {
    // A receiver that is gone when the time is over has not got what is left.
    let output = Command::new(env!("CARGO_BIN_EXE_sls-relay"))
        .args(["torture", "--logs", "20000", "--deadline", "1"])
        .args(["--only", "tcp-drain/hostile/refuse/paced"])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("LOST, first [") && said.contains("NOT DONE"), "{said}");
}

#[test]
fn a_name_that_is_no_scenario_is_refused_and_real_ones_are_listed() {
    let torture = |args: &[&str]| {
        let output =
            Command::new(env!("CARGO_BIN_EXE_sls-relay")).arg("torture").args(args).output();
        output.unwrap()
    };
    let refused = torture(&["--only", "rsyslog/nonsense"]);
    assert_eq!(refused.status.code(), Some(64));
    assert!(String::from_utf8(refused.stderr).unwrap().contains("--list"));
    let listed = torture(&["--list", "--only", "tcp-drain/hostile/reset"]);
    let names = String::from_utf8(listed.stdout).unwrap();
    assert_eq!(
        names,
        "tcp-drain/direct/hostile/reset/paced\ntcp-drain/direct/hostile/reset/full\n"
    );
}
