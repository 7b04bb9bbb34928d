//! A position in a shard.

use std::fmt;

use base64::prelude::{BASE64_STANDARD, Engine as _};

/// A position in one shard, as SLS gives it out: it names the *next* log group to read.
///
/// The text is opaque and goes back to SLS as it came. Underneath it has always been
/// base64 of a decimal number that grows by one per log group; [`Cursor::number`] reads
/// it for lag and identity, where not knowing it does no harm. Numbers compare only
/// within one shard, and they are not a time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cursor(String);

impl Cursor {
    /// Takes the text as SLS sent it.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The cursor in front of log group number `number`.
    pub fn from_number(number: u64) -> Self {
        Self(BASE64_STANDARD.encode(number.to_string()))
    }

    /// The text to send to SLS.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The number of the log group this cursor points at, where the text has that form.
    pub fn number(&self) -> Option<u64> {
        let decoded = BASE64_STANDARD.decode(&self.0).ok()?;
        if !decoded.iter().all(u8::is_ascii_digit) {
            return None;
        }
        std::str::from_utf8(&decoded).ok()?.parse().ok()
    }

    /// Whether this cursor certainly lies before `other` of the same shard.
    pub fn is_before(&self, other: &Cursor) -> bool {
        self.number().zip(other.number()).is_some_and(|(one, other)| one < other)
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_survives_the_round_trip() {
        for number in [0, 1, 1_736_899_200_123_456_790, u64::MAX] {
            assert_eq!(Cursor::from_number(number).number(), Some(number));
        }
    }

    #[test]
    fn a_cursor_is_before_another_only_where_both_have_numbers() {
        let (one, two, other) = (Cursor::from_number(9), Cursor::from_number(10), Cursor::new("x"));
        assert!(one.is_before(&two));
        assert!(!two.is_before(&one) && !one.is_before(&one));
        assert!(!other.is_before(&two) && !one.is_before(&other));
    }

    #[test]
    fn text_of_another_form_has_no_number() {
        // Not base64, empty, signed, not a number, too large.
        for text in ["?", "", "LTE=", "KzE=", "YWJj", "MTg0NDY3NDQwNzM3MDk1NTE2MTY="] {
            assert_eq!(Cursor::new(text).number(), None, "{text}");
        }
    }
}
