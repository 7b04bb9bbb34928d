//! Everything a command says: the only file that prints.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

/// Prints a line to standard output. A reader that went away ends the process quietly, as
/// for any command in a pipe.
pub(crate) fn line(text: &str) {
    bytes(format!("{text}\n").as_bytes());
}

/// Writes bytes to standard output. Where that fails for another reason than that nobody reads
/// any more, the process says so: what it wrote is not the whole answer.
pub(crate) fn bytes(bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    let Err(failed) = out.write_all(bytes).and_then(|()| out.flush()) else { return };
    if failed.kind() == std::io::ErrorKind::BrokenPipe {
        std::process::exit(0);
    }
    error(&format!("error: cannot write to standard output: {failed}"));
    std::process::exit(i32::from(super::exit::IO));
}

/// Prints to standard error.
pub(crate) fn error(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{}", text.trim_end());
}

/// Prints an error with its causes and ends with `code`.
pub(crate) fn fail(error_: &dyn std::error::Error, code: u8) -> ExitCode {
    error(&format!("error: {}", crate::relay::chain(error_)));
    ExitCode::from(code)
}

/// Whether a person watches.
pub(crate) fn interactive() -> bool {
    std::io::stderr().is_terminal()
}

/// Prints rows under headings, columns of numbers to the right.
pub(crate) fn table(headings: &[&str], rows: &[Vec<String>]) {
    let cell = |row: &Vec<String>, column: usize| row.get(column).cloned().unwrap_or_default();
    let columns: Vec<(usize, bool)> = headings
        .iter()
        .enumerate()
        .map(|(column, heading)| {
            let widths = rows.iter().map(|row| cell(row, column).chars().count());
            let numeric =
                rows.iter().all(|row| cell(row, column).starts_with(|c: char| c.is_ascii_digit()));
            (widths.max().unwrap_or(0).max(heading.chars().count()), numeric)
        })
        .collect();
    let print = |cells: Vec<String>| {
        let padded = cells.iter().zip(&columns).map(|(text, (width, numeric))| {
            if *numeric { format!("{text:>width$}") } else { format!("{text:<width$}") }
        });
        line(padded.collect::<Vec<_>>().join("  ").trim_end());
    };
    if headings.iter().any(|heading| !heading.is_empty()) {
        print(headings.iter().map(|heading| (*heading).to_owned()).collect());
    }
    for row in rows {
        print((0..headings.len()).map(|column| cell(row, column)).collect());
    }
}

/// Columns for rows that come one by one: heading and least width, negative ones to the right.
pub(crate) struct Columns(pub(crate) &'static [(&'static str, i8)]);

impl Columns {
    /// Prints the headings.
    pub(crate) fn headings(&self) {
        self.print(self.0.iter().map(|(heading, _)| *heading));
    }

    /// Prints a row.
    pub(crate) fn row(&self, cells: &[String]) {
        self.print(cells.iter().map(String::as_str));
    }

    fn print<'a>(&self, cells: impl Iterator<Item = &'a str>) {
        let padded = cells.zip(self.0).map(|(text, (_, width))| {
            let least = usize::from(width.unsigned_abs());
            if *width < 0 { format!("{text:>least$}") } else { format!("{text:<least$}") }
        });
        line(padded.collect::<Vec<_>>().join("  ").trim_end());
    }
}

/// Bytes for people.
pub(crate) fn size(bytes: u64) -> String {
    bytesize::ByteSize::b(bytes).display().iec().to_string()
}

/// Seconds for people.
pub(crate) fn age(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86400),
    }
}

/// Milliseconds since the epoch as a time in UTC.
pub(crate) fn time(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms)
        .map_or_else(|_| ms.to_string(), |time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}
