//! How the lines of an answer are shown.

use std::io;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;

use super::ask::Asking;
use crate::cli::output;
use crate::inspect::{Octets, Output, logstore};

/// Shows each line as it comes: as JSON where that is asked for, else by `show`.
pub(super) struct Rendered<F> {
    json: bool,
    show: F,
    bar: Bar,
}

/// How far something is, where a person watches.
pub(super) struct Bar(ProgressBar);

impl Bar {
    /// A bar of this form.
    pub(super) fn new(template: &str) -> Self {
        if !output::interactive() {
            return Self(ProgressBar::hidden());
        }
        let style = ProgressStyle::with_template(template);
        let target = ProgressDrawTarget::stderr_with_hz(5);
        let bar = ProgressBar::with_draw_target(None, target);
        Self(bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())))
    }

    pub(super) fn show(&self, done: u64, of: u64) {
        if !self.0.is_hidden() {
            self.0.set_length(of);
            self.0.set_position(done);
        }
    }

    /// Prints in between.
    pub(super) fn suspend(&self, print: impl FnOnce()) {
        self.0.suspend(print);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

impl<F: FnMut(&Value)> Rendered<F> {
    pub(super) fn new(asking: &Asking, show: F) -> Self {
        Self { json: asking.json, show, bar: Bar(ProgressBar::hidden()) }
    }

    /// Shows how far it is, where a person watches and no lines come in between.
    pub(super) fn with_progress(mut self) -> Self {
        self.bar = Bar::new("{wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}, {eta}");
        self
    }
}

impl<F: FnMut(&Value)> Output for Rendered<F> {
    fn line(&mut self, line: &Value) -> io::Result<()> {
        let Self { json, show, bar } = self;
        bar.suspend(|| {
            if *json {
                output::line(&line.to_string());
            } else if !warned(line) {
                show(line);
            }
        });
        Ok(())
    }

    fn progress(&mut self, done: u64, of: u64) {
        self.bar.show(done, of);
    }
}

/// Says on standard error what of the spool could not be read, where the line tells of that.
fn warned(line: &Value) -> bool {
    if let Some(damage) = line.get("damage").filter(|damage| damage.is_object()) {
        output::error(&format!("DAMAGE     {}", damage_text(damage)));
    } else if let Some(told) = line.get("undecodable").filter(|told| told.is_object()) {
        output::error(&format!(
            "UNREADABLE batch {}: {}",
            told["seq"],
            printable(told["why"].as_str().unwrap_or_default().as_bytes())
        ));
    } else {
        return false;
    }
    true
}

/// Damage in words.
pub(super) fn damage_text(damage: &Value) -> String {
    let number = |name: &str| damage[name].as_u64().unwrap_or_default();
    let (first, end) = (number("first_seq"), number("end_seq"));
    let batches = match end.saturating_sub(first) {
        0 => "no batch".to_owned(),
        1 => format!("batch {first}"),
        _ => format!("batches {first} to {}", end - 1),
    };
    let why = damage["why"].as_str().map(|why| format!("; {}", printable(why.as_bytes())));
    format!(
        "segment {}, bytes {} to {}, {batches}{}",
        damage["segment"].as_str().unwrap_or_default(),
        number("from"),
        number("to"),
        why.unwrap_or_default()
    )
}

/// Runs of batches, each the first and the last, in words.
pub(super) fn batches(runs: &Value) -> String {
    let runs: Vec<String> = runs
        .as_array()
        .into_iter()
        .flatten()
        .map(|run| match (&run[0], &run[1]) {
            (first, last) if first == last => first.to_string(),
            (first, last) => format!("{first} to {last}"),
        })
        .collect();
    let one = runs.len() == 1 && runs.iter().all(|run| !run.contains(' '));
    format!("batch{} {}", if one { "" } else { "es" }, runs.join(", "))
}

/// A value of an answer for a cell.
pub(super) fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        other => match Octets::from_json(other) {
            Some(Octets(bytes)) => printable(&bytes),
            None => other.to_string(),
        },
    }
}

/// A source by its project and logstore, for a cell.
pub(super) fn source(value: &Value) -> String {
    match value.as_str() {
        Some(source) => printable(logstore(source).as_bytes()),
        None => cell(value),
    }
}

/// A number of bytes for a cell.
pub(super) fn size(value: &Value) -> String {
    value.as_u64().map_or_else(|| "-".to_owned(), output::size)
}

/// Writes the bytes that a line carries.
pub(super) fn write_bytes(line: &Value) {
    if let Some(Octets(bytes)) = Octets::from_json(line) {
        output::bytes(&bytes);
    }
}

/// Text as it is, everything else escaped: what is shown can do nothing to a terminal.
pub(super) fn printable(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() || is_format(c) {
                out.extend(c.escape_default());
            } else {
                out.push(c);
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02X}"));
        }
    }
    out
}

/// Marks that are not seen and turn the direction of what follows.
fn is_format(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_came_from_outside_can_do_nothing_to_a_terminal() {
        let bytes = b"text \x1b[2J\x07\xff \xe2\x80\xae\xc2\x9b|".as_slice();
        assert_eq!(printable(bytes), "text \\u{1b}[2J\\u{7}\\xFF \\u{202e}\\u{9b}|");
        assert_eq!(cell(&Octets::to_json(bytes)), printable(bytes));
        assert_eq!(source(&json!("https://h/p\u{1b}/l#g")), "p\\u{1b}/l");
    }

    #[test]
    fn damage_names_the_batches_in_it() {
        let damage = |first: u64, end: u64| json!({"segment": "01", "from": 5, "to": 9, "first_seq": first, "end_seq": end});
        for (first, end, said) in
            [(3, 3, "no batch"), (3, 4, "batch 3"), (3, 6, "batches 3 to 5"), (9, 3, "no batch")]
        {
            let text = damage_text(&damage(first, end));
            assert_eq!(text, format!("segment 01, bytes 5 to 9, {said}"));
        }
    }
}
