//! Asking: through the binary, and in this process.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::SystemTime;

use serde_json::Value;
use sls_relay::inspect::{self, Octets, Question};
use sls_relay::spool::inspect::Inspection;

/// `sls-relay spool ARGS --spool DIR`.
pub(crate) fn command(dir: &Path, args: &[impl AsRef<OsStr>]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sls-relay"));
    command.arg("spool").args(args).arg("--spool").arg(dir).stdin(Stdio::null()).env_clear();
    command
}

pub(crate) fn run(dir: &Path, args: &[impl AsRef<OsStr>]) -> Output {
    command(dir, args).output().unwrap()
}

/// The lines of an answer that must succeed.
pub(crate) fn json(dir: &Path, args: &[impl AsRef<OsStr>]) -> Vec<Value> {
    let mut all: Vec<OsString> = args.iter().map(|arg| arg.as_ref().to_owned()).collect();
    all.push("--json".into());
    let output = run(dir, &all);
    assert!(output.status.success(), "{all:?}: {output:?}");
    lines(&output.stdout)
}

pub(crate) fn lines(text: &[u8]) -> Vec<Value> {
    let lines = text.split_inclusive(|byte| *byte == b'\n');
    lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
}

/// Keeps the lines of an answer.
#[derive(Default)]
pub(crate) struct Kept(pub(crate) Vec<Value>);

impl inspect::Output for Kept {
    fn line(&mut self, line: &Value) -> io::Result<()> {
        self.0.push(line.clone());
        Ok(())
    }
}

/// Asks in this process; lines and summary.
pub(crate) fn answer(spool: &Inspection, question: &Question) -> (Vec<Value>, Value) {
    let mut kept = Kept::default();
    let summary = inspect::answer(spool, question, &mut kept).unwrap();
    (kept.0, summary)
}

/// Batch and index of each log among the lines.
pub(crate) fn places(lines: &[Value]) -> Vec<(u64, u32)> {
    let number = |line: &Value, name: &str| line[name].as_u64().unwrap();
    let place = |line: &Value| (number(line, "seq"), u32::try_from(number(line, "index")).unwrap());
    lines.iter().map(place).collect()
}

pub(crate) fn bytes(value: &Value) -> Vec<u8> {
    Octets::from_json(value).unwrap().0
}

/// All that could change about a directory: names, contents, times, modes.
pub(crate) fn picture(dir: &Path) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime, u32)> {
    use std::os::unix::fs::PermissionsExt as _;
    let mut seen = BTreeMap::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        let about = std::fs::metadata(&dir).unwrap();
        seen.insert(
            dir.clone(),
            (Vec::new(), about.modified().unwrap(), about.permissions().mode()),
        );
        for file in std::fs::read_dir(&dir).unwrap() {
            let path = file.unwrap().path();
            let about = std::fs::metadata(&path).unwrap();
            if about.is_dir() {
                dirs.push(path);
            } else {
                let contents = std::fs::read(&path).unwrap();
                seen.insert(
                    path,
                    (contents, about.modified().unwrap(), about.permissions().mode()),
                );
            }
        }
    }
    seen
}
