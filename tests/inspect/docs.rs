//! The reference of the commands names what there is.

use std::process::Command;

const REFERENCE: &str = include_str!("../../docs/spool-commands.md");

fn help(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_sls-relay")).args(args).arg("--help").output();
    let output = output.unwrap();
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The words of each command line in the reference that starts with `sls-relay spool`.
fn examples() -> Vec<Vec<&'static str>> {
    let lines = REFERENCE.lines().map(str::trim);
    let lines = lines.filter_map(|line| line.strip_prefix("sls-relay spool "));
    lines.map(|line| line.split(" #").next().unwrap_or(line).split_whitespace().collect()).collect()
}

#[test]
fn each_command_and_flag_of_the_reference_exists_and_each_command_is_in_it() {
    let examples = examples();
    assert!(examples.len() > 15, "{examples:?}");
    for words in &examples {
        let mut path = vec!["spool", words[0]];
        if words[0] == "quarantine" {
            path.push(words[1]);
        }
        let help = help(&path);
        let flags =
            words.iter().take_while(|word| **word != "|").filter(|word| word.starts_with("--"));
        for flag in flags.map(|flag| flag.split('=').next().unwrap()) {
            assert!(help.contains(flag), "{flag} of {words:?}");
        }
    }
    let overview = help(&["spool"]);
    let commands = overview.split("Commands:").nth(1).unwrap().lines();
    let commands = commands.take_while(|line| !line.starts_with("Options"));
    for name in commands.filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next()) {
        let is_shown = examples.iter().any(|words| words[0] == name);
        assert!(is_shown || name == "help", "{name} is not in docs/spool-commands.md");
    }
}
