//! A log as `cat` and `grep` print it.

use jiff::Timestamp;
use serde_json::Value;

use super::render::{printable, source};
use crate::cli::output;
use crate::inspect::Octets;

/// Which form, and which fields.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct Form {
    /// The values as they were received, nothing escaped: a tab between two, a line end behind
    /// each log
    #[arg(long, conflicts_with = "json")]
    raw: bool,
    /// Show only these fields, in this order
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', conflicts_with = "json")]
    keys: Vec<String>,
}

impl Form {
    /// Prints a log.
    pub(super) fn print(&self, log: &Value) {
        if self.raw {
            let mut line =
                self.chosen(log).map(|(_, value)| value).collect::<Vec<_>>().join(&b'\t');
            line.push(b'\n');
            output::bytes(&line);
            return;
        }
        let mut line = format!(
            "{}  {}/{}  {}+{} ",
            time_of(log),
            source(&log["source"]),
            log["shard"],
            log["seq"],
            log["index"]
        );
        for (key, value) in self.chosen(log) {
            line.push(' ');
            line.push_str(&quoted(&key));
            line.push('=');
            line.push_str(&quoted(&value));
        }
        output::line(&line);
    }

    /// The fields to show. One that is asked for and not there is empty, so that columns stay.
    fn chosen(&self, log: &Value) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
        let all: Vec<_> = pairs(log).collect();
        if self.keys.is_empty() {
            return all.into_iter();
        }
        let value = |name: &[u8]| {
            all.iter().find(|(key, _)| key == name).map_or(Vec::new(), |(_, value)| value.clone())
        };
        let names = self.keys.iter().map(|key| key.clone().into_bytes());
        names.map(|name| (name.clone(), value(&name))).collect::<Vec<_>>().into_iter()
    }
}

/// Keys and values of a log.
pub(super) fn pairs(log: &Value) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
    let bytes = |value: &Value| Octets::from_json(value).unwrap_or_default().0;
    let fields = log["fields"].as_array().into_iter().flatten();
    fields.map(move |pair| (bytes(&pair[0]), bytes(&pair[1])))
}

/// The time of a log, with what it has of a fraction.
pub(super) fn time_of(log: &Value) -> String {
    let nanoseconds = log["time_ns"].as_i64().unwrap_or(0).min(999_999_999);
    let time =
        Timestamp::new(log["time"].as_i64().unwrap_or(0), i32::try_from(nanoseconds).unwrap_or(0));
    time.map_or_else(|_| log["time"].to_string(), |time| time.to_string())
}

/// As it is where that can be read in one way only, else in quotes.
fn quoted(bytes: &[u8]) -> String {
    let text = printable(bytes);
    let plain = |c: char| !c.is_whitespace() && !matches!(c, '"' | '=' | '\\');
    if !text.is_empty() && text.chars().all(plain) {
        return text;
    }
    // A backslash of the value is doubled, one that escapes is not.
    let text = bytes.utf8_chunks().fold(String::new(), |mut out, chunk| {
        for part in chunk.valid().split_inclusive(['"', '\\']) {
            let (before, sign) = match part.strip_suffix(['"', '\\']) {
                Some(before) => (before, &part[before.len()..]),
                None => (part, ""),
            };
            out.push_str(&printable(before.as_bytes()));
            if !sign.is_empty() {
                out.push('\\');
                out.push_str(sign);
            }
        }
        out.push_str(&printable(chunk.invalid()));
        out
    });
    format!("\"{text}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_quoted_where_it_could_be_misread() {
        for (bytes, shown) in [
            (&b"plain/value?x"[..], "plain/value?x"),
            (b"", "\"\""),
            (b"two words", "\"two words\""),
            (b"a=b", "\"a=b\""),
            (b"say \"hi\" \\x", "\"say \\\"hi\\\" \\\\x\""),
            (b"\xff\x1b", "\"\\xFF\\u{1b}\""),
        ] {
            assert_eq!(quoted(bytes), shown, "{bytes:?}");
        }
    }
}
