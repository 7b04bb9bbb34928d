//! Hides secrets in the text of a configuration file, so that it can be shown.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::schema::{Kind, TABLES};

/// What is always seen, wherever it stands.
const SIGNS: &[u8] = b" \t\r\n\"'=[]{},.#";

/// The text with all that may be a secret overwritten by `*`, every other byte at its old
/// place.
///
/// Seen are headers, keys, and the values of keys that are known and no secret. So a
/// misspelt key of a secret hides its value too, and comments are hidden: they may hold
/// an old key. On `broken_lines` nobody knows where a value ends; they, and what follows
/// them, are judged by what they begin with.
pub(super) fn masked(text: &str, root: &DeTable<'_>, broken_lines: &[Range<usize>]) -> String {
    let mut mask = Mask { text, seen: text.bytes().map(|byte| SIGNS.contains(&byte)).collect() };
    mask.show_table(root);
    if !broken_lines.is_empty() {
        mask.judge_lines(broken_lines);
    }
    let byte = |(byte, seen): (u8, bool)| if seen { byte } else { b'*' };
    let bytes = text.bytes().zip(mask.seen).map(byte).collect();
    // What is seen or not is whole characters; otherwise, nothing is shown.
    String::from_utf8(bytes).unwrap_or_default()
}

struct Mask<'a> {
    text: &'a str,
    /// For each byte of the text, whether it is shown.
    seen: Vec<bool>,
}

impl Mask<'_> {
    fn show_table(&mut self, table: &DeTable<'_>) {
        for (key, value) in table {
            self.set(key.span(), true);
            self.show_value(value, Sight::of(key.get_ref()));
        }
    }

    fn show_value(&mut self, value: &Spanned<DeValue<'_>>, sight: Sight) {
        let span = value.span();
        // No value of ours has several lines. What looks like one has swallowed others.
        let one_line = self.text.get(span.clone()).is_some_and(|text| !text.contains('\n'));
        match value.get_ref() {
            DeValue::Table(table) => {
                if self.text[span.clone()].starts_with('[') && one_line {
                    self.set(span, true);
                }
                self.show_table(table);
            }
            DeValue::Array(array) => {
                for value in array {
                    self.show_value(value, sight);
                }
            }
            _ if !one_line || sight == Sight::Hidden => {}
            _ => {
                self.set(span.clone(), true);
                if sight == Sight::Address {
                    self.hide_user(span);
                }
            }
        }
    }

    /// Hides what stands before the last `@` of an address: it may hold a password.
    fn hide_user(&mut self, span: Range<usize>) {
        let value = &self.text[span.clone()];
        let from = value.find("://").map_or(1, |scheme| scheme + 3);
        if let Some(to) = value.rfind('@').filter(|to| *to > from) {
            self.set(span.start + from..span.start + to, false);
        }
    }

    /// Judges the lines of a file with wrong syntax.
    fn judge_lines(&mut self, broken_lines: &[Range<usize>]) {
        let mut start = 0;
        for line in self.text.split_inclusive('\n') {
            let range = start..start + line.len();
            let visible = start + visible_part(line);
            if broken_lines
                .iter()
                .any(|broken| broken.start < range.end && range.start <= broken.end)
            {
                self.set(start..visible, true);
            }
            for offset in visible..range.end {
                self.seen[offset] = SIGNS.contains(&self.text.as_bytes()[offset]);
            }
            start = range.end;
        }
    }

    fn set(&mut self, span: Range<usize>, seen: bool) {
        if let Some(bytes) = self.seen.get_mut(span) {
            bytes.fill(seen);
        }
    }
}

/// What may be seen of a value.
#[derive(Clone, Copy, PartialEq)]
enum Sight {
    Shown,
    /// All but a user name and a password.
    Address,
    Hidden,
}

impl Sight {
    fn of(key: &str) -> Self {
        match known(key) {
            None | Some(Kind::Secret) => Self::Hidden,
            Some(Kind::Address | Kind::Addresses) => Self::Address,
            Some(_) => Self::Shown,
        }
    }
}

fn known(key: &str) -> Option<&'static Kind> {
    TABLES.iter().find_map(|table| table.key(key)).map(|key| &key.kind)
}

/// How many bytes of a line may be seen when it cannot be parsed.
fn visible_part(line: &str) -> usize {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let indent = line.len() - line.trim_start().len();
    let trimmed = line.trim();
    if let Some(table) = trimmed.strip_prefix('[') {
        let name = table.trim_matches(['[', ']']);
        return if TABLES.iter().any(|table| table.name == name) { line.len() } else { indent };
    }
    let name_length = line[indent..].find(|c| !is_name(c)).unwrap_or(line.len() - indent);
    let name_end = indent + name_length;
    let rest = &line[name_end..];
    let key = known(&line[indent..name_end]);
    // A second pair on the line, a user name, or a comment could be anything.
    let lower = rest.to_ascii_lowercase();
    let suspicious =
        ["secret", "token", "passw", "key", "@", "#"].iter().any(|word| lower.contains(word))
            || rest.matches('=').count() > 1
            || rest.matches(['"', '\'']).count() > 2;
    match key {
        None => indent,
        Some(Kind::Secret) => name_end,
        Some(_) if suspicious => name_end,
        Some(_) => line.len(),
    }
}
