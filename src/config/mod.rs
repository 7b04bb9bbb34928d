//! The configuration: a TOML file, or the environment of the SLS SDK's sample, becomes
//! [`Settings`].
//!
//! Every problem is reported, all at once, with its place and what to do. A file goes
//! through `parse` (syntax, names and types, against [`schema`]), `resolve` (meaning, and
//! what tables say about each other) and, if anything is wrong, `report`. Nothing falls
//! back to a default because something could not be read.

mod credentials;
mod destination;
mod environment;
mod given;
mod log_filter;
mod mask;
mod nearest;
mod network;
mod parse;
mod read;
mod report;
mod resolve;
pub mod schema;
mod settings;
mod source;
mod spool_key;
mod tls;
mod value;

use std::io::Read as _;
use std::ops::Range;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

pub use environment::{SampleFlags, from_environment};
pub use log_filter::{LogFilter, LogTest, SeverityField, Value};
pub use report::Problems;
pub use settings::{
    Checkpoint, ControlSettings, Destination, Handover, LocalSettings, LogFormat, LogSettings,
    OnExpired, Settings, Source, SpoolSettings, Start,
};
pub use spool_key::KeyFileError;

use parse::Parsed;
use report::{File, Place, Report};
use resolve::resolve;

/// Longest file that is read, in bytes.
const LONGEST_FILE: u64 = 1 << 20;

/// A configuration that can be used.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What it means.
    pub settings: Settings,
    /// What works but should be changed, a line each; for the log.
    pub warnings: Vec<String>,
}

/// Reads a configuration file.
///
/// `env` looks up an environment variable; `hostname` is this machine's.
///
/// # Errors
/// Everything that is wrong with the file, or that it cannot be read.
pub fn load(
    path: &Path,
    env: &dyn Fn(&str) -> Option<String>,
    hostname: &str,
) -> Result<Loaded, Problems> {
    let name = path.display().to_string();
    let (text, mode) = read(path).map_err(Problems::one)?;
    let mut parsed = parse::parse(&text, &name);
    let readable_by_others = mode & 0o004 != 0;
    if readable_by_others && parsed.tables.iter().any(|table| table.has("access_key_secret")) {
        let title = format!("{name} holds a secret, and every user of this machine can read it");
        let report = Report::warning("config.readable_by_others", title);
        parsed.reports.push(report.help(format!("chmod o-r {name}")));
    }
    finish(parsed, env, hostname)
}

/// Reads only the `[spool]` and `[control]` tables of a configuration file, for commands about
/// a spool: they need no access key, and work while something else in the file is wrong. The
/// file of keys is only named: who looks at headers needs none.
///
/// # Errors
/// What is wrong with these tables, or that the file cannot be read.
pub fn load_spool(path: &Path) -> Result<LocalSettings, Problems> {
    let (text, _) = read(path).map_err(Problems::one)?;
    let parsed = parse::parse(&text, &path.display().to_string());
    let Parsed { tables, mut reports, file, broken_lines } = parsed;
    let local = resolve::local(&tables, &|_| None, false, &mut reports);
    if file.broken {
        reports.retain(|report| is_certain(report, &broken_lines));
    }
    local.ok_or_else(|| {
        reports.sort_by_key(|report| report.span().map_or(usize::MAX, |span| span.start));
        Problems { file: Some(file), reports }
    })
}

/// Reads the text of a configuration file; `file_name` is what problems call it.
///
/// # Errors
/// Everything that is wrong with the text.
pub fn parse(
    text: &str,
    file_name: &str,
    env: &dyn Fn(&str) -> Option<String>,
    hostname: &str,
) -> Result<Loaded, Problems> {
    finish(parse::parse(text, file_name), env, hostname)
}

fn finish(
    parsed: Parsed,
    env: &dyn Fn(&str) -> Option<String>,
    hostname: &str,
) -> Result<Loaded, Problems> {
    let Parsed { tables, mut reports, file, broken_lines } = parsed;
    let settings = resolve(&tables, env, hostname, &mut reports);
    if file.broken {
        reports.retain(|report| is_certain(report, &broken_lines));
    }
    settings_or_problems(settings, reports, Some(file))
}

/// Where the syntax is wrong, something may be missing only because it was not understood.
fn is_certain(report: &Report, broken_lines: &[Range<usize>]) -> bool {
    let on_broken_line = report.span().is_some_and(|span| {
        broken_lines.iter().any(|line| span.start <= line.end && line.start <= span.end)
    });
    match report.code {
        "config.syntax" => true,
        "config.unknown_key"
        | "config.unknown_table"
        | "config.wrong_type"
        | "config.empty"
        | "config.invalid_value"
        | "config.not_available" => !on_broken_line,
        _ => false,
    }
}

fn settings_or_problems(
    settings: Option<Settings>,
    mut reports: Vec<Report>,
    file: Option<File>,
) -> Result<Loaded, Problems> {
    reports.sort_by_key(|report| report.span().map_or(usize::MAX, |span| span.start));
    match settings.filter(|_| reports.iter().all(|report| report.warning)) {
        Some(settings) => {
            let warnings = reports.iter().map(|report| report.line(file.as_ref())).collect();
            Ok(Loaded { settings, warnings })
        }
        None => Err(Problems { file, reports }),
    }
}

/// The text of a file and its mode.
fn read(path: &Path) -> Result<(String, u32), Report> {
    let unreadable = |error: &std::io::Error| {
        let help = match error.kind() {
            std::io::ErrorKind::NotFound => "name another file with --config",
            std::io::ErrorKind::PermissionDenied => {
                "run as the user the relay runs as, or let that user's group read the file"
            }
            _ => "name a file that can be read with --config",
        };
        Report::problem("config.unreadable", format!("cannot read {}", path.display()))
            .at(&Place::Named("file"), error.to_string())
            .help(help)
    };
    let mut bytes = Vec::new();
    let mode = std::fs::File::open(path)
        .and_then(|file| {
            let mode = file.metadata()?.mode();
            file.take(LONGEST_FILE + 1).read_to_end(&mut bytes)?;
            Ok(mode)
        })
        .map_err(|error| unreadable(&error))?;
    if bytes.len() as u64 > LONGEST_FILE {
        let title = format!("{} is too long for a configuration", path.display());
        return Err(Report::problem("config.unreadable", title)
            .help("check the path given with --config; one MiB is the most that is read"));
    }
    String::from_utf8(bytes).map(|text| (text, mode)).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..valid].iter().filter(|byte| **byte == b'\n').count() + 1;
        let title = format!("{}:{line} is not UTF-8", path.display());
        Report::problem("config.not_utf8", title).help("save the file as UTF-8, as TOML requires")
    })
}
