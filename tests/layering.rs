//! The borders inside the crate, read from its sources: leaves stay leaves, files stay short,
//! and no module is a drawer for everything.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::fs;
use std::path::{Path, PathBuf};

const LEAVES: [&str; 3] = ["sls", "spool", "syslog"];
const LONGEST: usize = 500;
const DRAWERS: [&str; 8] =
    ["util", "utils", "common", "helper", "helpers", "manager", "misc", "handler"];

#[test]
fn leaves_import_nothing_of_the_crate_outside_themselves() {
    let mut found = Vec::new();
    for leaf in LEAVES {
        for source in sources().iter().filter(|source| source.is_in(leaf)) {
            found.extend(source.foreign_paths(leaf));
        }
    }
    assert!(found.is_empty(), "a leaf knows the rest of the crate:\n{}", found.join("\n"));
}

#[test]
fn a_foreign_path_is_seen_however_it_is_written() {
    let source = |text: &str| Source { path: PathBuf::from("syslog/x.rs"), text: text.into() };
    for foreign in [
        "use crate::relay::Sender;",
        "fn f() { crate::config::load() }",
        "use crate::{syslog::Framing, sls::Error};",
        "use crate::syslogger::X;",
        "use sls_relay::sls;",
    ] {
        assert_eq!(source(foreign).foreign_paths("syslog").len(), 1, "{foreign}");
    }
    for own in [
        "use crate::syslog::Framing;",
        "use super::message::Message;",
        "pub(crate) fn f() {}",
        "// See crate::relay for who calls this.",
    ] {
        assert!(source(own).foreign_paths("syslog").is_empty(), "{own}");
    }
}

#[test]
fn no_source_file_outside_tests_is_longer_than_500_lines() {
    let long: Vec<String> = sources()
        .iter()
        .filter(|source| !source.is_test() && source.text.lines().count() > LONGEST)
        .map(|source| format!("{}: {}", source.path.display(), source.text.lines().count()))
        .collect();
    assert!(long.is_empty(), "split by purpose:\n{}", long.join("\n"));
}

#[test]
fn no_module_is_named_like_a_drawer() {
    let drawers: Vec<String> = sources()
        .iter()
        .filter(|source| {
            source.path.components().any(|part| {
                let name = Path::new(part.as_os_str()).file_stem().unwrap_or_default();
                DRAWERS.iter().any(|drawer| name == *drawer)
            })
        })
        .map(|source| source.path.display().to_string())
        .collect();
    assert!(drawers.is_empty(), "name it after what it does:\n{}", drawers.join("\n"));
}

/// A file under `src/`.
struct Source {
    /// Relative to `src/`.
    path: PathBuf,
    text: String,
}

impl Source {
    fn is_in(&self, leaf: &str) -> bool {
        self.path.starts_with(leaf) || self.path == Path::new(leaf).with_extension("rs")
    }

    /// Whole files of tests: `tests.rs` and what lies in a `tests` directory.
    fn is_test(&self) -> bool {
        self.path
            .components()
            .any(|part| Path::new(part.as_os_str()).file_stem().is_some_and(|name| name == "tests"))
    }

    /// The lines that name something of the crate outside `leaf`.
    fn foreign_paths(&self, leaf: &str) -> Vec<String> {
        let own = format!("crate::{leaf}");
        let is_foreign = |line: &str| {
            let code = line.split("//").next().unwrap_or_default();
            code.contains("sls_relay::")
                || code.match_indices("crate::").any(|(at, _)| {
                    let after = code[at..].strip_prefix(&own);
                    after.is_none_or(|rest| rest.starts_with(|c: char| is_name(c)))
                })
        };
        let lines = self.text.lines().enumerate().filter(|(_, line)| is_foreign(line));
        lines
            .map(|(at, line)| format!("src/{}:{}: {}", self.path.display(), at + 1, line.trim()))
            .collect()
    }
}

fn is_name(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut directories = vec![root.clone()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push(Source { path: path.strip_prefix(&root).unwrap().into(), text });
            }
        }
    }
    assert!(!found.is_empty(), "no sources under {}", root.display());
    found
}
