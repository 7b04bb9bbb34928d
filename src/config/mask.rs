//! Hides secrets in the text of a configuration file, so that it can be shown.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::schema::{Key, TABLES};

/// The text with secrets overwritten by `*`, every other byte at its old place.
///
/// A value is shown only when its key is known and no secret: so a misspelt key of a
/// secret hides its value too. Where the syntax is wrong nobody knows where a value ends;
/// then lines are judged by what they begin with, as well.
pub(super) fn masked(text: &str, root: &DeTable<'_>, broken: bool) -> String {
    let mut hidden = Vec::new();
    for (_, value) in root {
        hide_values(text, value, false, &mut hidden);
    }
    if broken {
        hide_lines(text, &mut hidden);
    }
    let mut bytes = text.as_bytes().to_vec();
    for byte in hidden.into_iter().flatten() {
        if !matches!(bytes[byte], b'\n' | b'\r' | b'"' | b'\'') {
            bytes[byte] = b'*';
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Collects what is to be hidden of a value.
fn hide_values(
    text: &str,
    value: &Spanned<DeValue<'_>>,
    shown: bool,
    hidden: &mut Vec<Range<usize>>,
) {
    match value.get_ref() {
        DeValue::Table(table) => {
            for (key, value) in table {
                hide_values(text, value, is_shown(key.get_ref()), hidden);
            }
        }
        DeValue::Array(array) => {
            for value in array {
                hide_values(text, value, shown, hidden);
            }
        }
        _ if !shown => hidden.push(value.span()),
        _ => hidden.extend(user_info(text, value.span())),
    }
}

/// Whether values of a key with this name may be seen.
fn is_shown(name: &str) -> bool {
    known(name).is_some_and(|key| !key.is_secret())
}

fn known(name: &str) -> Option<&'static Key> {
    TABLES.iter().find_map(|table| table.key(name))
}

/// What stands between `://` and the last `@`: it may hold a password.
fn user_info(text: &str, span: Range<usize>) -> Option<Range<usize>> {
    let value = text.get(span.clone())?;
    let from = value.find("://")? + 3;
    let to = value.rfind('@').filter(|to| *to > from)?;
    Some(span.start + from..span.start + to)
}

fn hide_lines(text: &str, hidden: &mut Vec<Range<usize>>) {
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let visible = visible_part(line);
        hidden.push(start + visible..start + line.len());
        start += line.len();
    }
}

/// How many bytes of a line may be seen when it cannot be parsed.
fn visible_part(line: &str) -> usize {
    let trimmed = line.trim();
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if trimmed.starts_with('[') && trimmed.trim_matches(['[', ']']).chars().all(is_name) {
        return line.len();
    }
    let indent = line.len() - line.trim_start().len();
    let name_length = line[indent..].find(|c| !is_name(c)).unwrap_or(line.len() - indent);
    let name_end = indent + name_length;
    // A second pair on the line, or part of a key, could be anything.
    let rest = line[name_end..].to_ascii_lowercase();
    let suspicious = ["secret", "token", "passw", "key"].iter().any(|word| rest.contains(word));
    match known(&line[indent..name_end]) {
        Some(key) if !key.is_secret() && !suspicious => line.len(),
        Some(_) => name_end,
        None => indent,
    }
}
