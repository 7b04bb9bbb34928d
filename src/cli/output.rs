//! Everything a command says: the only file that prints.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

/// Prints a line to standard output. A reader that went away ends the process quietly, as
/// for any command in a pipe.
pub(crate) fn line(text: &str) {
    bytes(format!("{text}\n").as_bytes());
}

/// Writes bytes to standard output.
pub(crate) fn bytes(bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    if out.write_all(bytes).and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
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

/// Prints rows under headings, numbers to the right.
pub(crate) fn table(headings: &[&str], rows: Vec<Vec<String>>) {
    use comfy_table::{CellAlignment, ContentArrangement, Table, presets::NOTHING};
    let mut table = Table::new();
    table.load_preset(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(headings);
    let numeric = |column: usize| {
        rows.iter().all(|row| {
            row.get(column).is_some_and(|cell| cell.starts_with(|c: char| c.is_ascii_digit()))
        })
    };
    let right: Vec<usize> = (0..headings.len()).filter(|column| numeric(*column)).collect();
    for row in rows {
        table.add_row(row);
    }
    for column in right {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for text in table.to_string().lines() {
        line(text.trim_end());
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
