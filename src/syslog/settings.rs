//! How messages are to look, and whether that can work.

use jiff::tz::TimeZone;

use super::body::separator_fault;
use super::framing::Format;
use super::message::{Facility, Severity};
use super::size::{MAX_STREAM, Oversize};

/// The least size limit: what every receiver takes (RFC 5424, 6.1).
pub const MIN_MESSAGE_BYTES: usize = 480;

/// How messages are to look. [`Self::default`] has the sample's separator, facility and
/// severity, no host name, no size limit below that of TCP, and cuts at the end.
#[derive(Clone, Debug)]
pub struct FormatSettings {
    /// Which text is written.
    pub format: Format,
    /// Stands between fields; see [`super::body`] for what works.
    pub separator: String,
    /// Facility of every message.
    pub facility: Facility,
    /// Severity of every message.
    pub severity: Severity,
    /// HOSTNAME. Bytes outside of `!` to `~` become `_`; cut at 255; empty is `-`.
    pub hostname: String,
    /// APP-NAME, the tag. Made safe like the host name; cut at 48.
    pub app_name: String,
    /// SD-ID of the structured data, at most 32 bytes, `name@number` where not registered.
    pub sd_id: String,
    /// Zone of the timestamp; `None` is UTC, written as `Z`.
    pub zone: Option<TimeZone>,
    /// Largest complete message without its framing, in octets, 480 or more.
    pub max_bytes: usize,
    /// What becomes of a message that would be longer.
    pub oversize: Oversize,
}

impl Default for FormatSettings {
    fn default() -> Self {
        Self {
            format: Format::Rfc5424,
            separator: "||".to_owned(),
            facility: Facility::USER,
            severity: Severity::INFO,
            hostname: String::new(),
            app_name: String::new(),
            sd_id: "sls@32473".to_owned(),
            zone: None,
            max_bytes: MAX_STREAM,
            oversize: Oversize::Truncate,
        }
    }
}

impl FormatSettings {
    /// Whether messages can be written like this. Reports the first thing that is wrong.
    pub fn check(&self) -> Result<(), SettingsError> {
        let why = match self.format {
            Format::Rfc5424 => separator_fault(&self.separator),
            // It has none.
            Format::Json => None,
            Format::Sample if self.separator.is_empty() => Some("is empty"),
            Format::Sample => self
                .separator
                .contains(['\n', '\r', '\0'])
                .then_some("holds LF, CR or NUL, which end a message"),
        };
        if let Some(why) = why {
            return Err(SettingsError::Separator { separator: self.separator.clone(), why });
        }
        let sd_name = |byte: u8| byte.is_ascii_graphic() && !b"=]\"".contains(&byte);
        if !(1..=32).contains(&self.sd_id.len()) || !self.sd_id.bytes().all(sd_name) {
            return Err(SettingsError::SdId { sd_id: self.sd_id.clone() });
        }
        if self.max_bytes < MIN_MESSAGE_BYTES {
            return Err(SettingsError::MaxBytes { max_bytes: self.max_bytes });
        }
        Ok(())
    }
}

/// What is wrong with [`FormatSettings`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// With this separator a receiver could not tell the fields apart.
    #[error("the separator {separator:?} cannot be used: it {why}; \"||\" is the usual one")]
    Separator {
        /// What was given.
        separator: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Not an SD-NAME of RFC 5424.
    #[error(
        "the structured data id {sd_id:?} cannot be used: give 1 to 32 ASCII characters without space, '=', ']' and '\"', for instance sls@32473"
    )]
    SdId {
        /// What was given.
        sd_id: String,
    },
    /// A limit no message may fit in.
    #[error(
        "a limit of {max_bytes} octets per message is too small: give {MIN_MESSAGE_BYTES} or more"
    )]
    MaxBytes {
        /// What was given.
        max_bytes: usize,
    },
}

impl SettingsError {
    /// Stable name of this error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Separator { .. } => "syslog.separator",
            Self::SdId { .. } => "syslog.sd_id",
            Self::MaxBytes { .. } => "syslog.max_bytes",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separators_that_cannot_work_are_refused_with_the_reason() {
        for (separator, word) in [
            ("", "empty"),
            ("\\", "backslash"),
            ("|\\", "backslash"),
            ("=", "equals"),
            ("|=|", "equals"),
            ("\n", "LF"),
            ("|\r", "LF"),
            ("\0", "NUL"),
            ("x", "letter"),
            ("0|", "digit"),
        ] {
            let settings =
                FormatSettings { separator: separator.to_owned(), ..FormatSettings::default() };
            let error = settings.check().unwrap_err();
            assert_eq!(error.code(), "syslog.separator");
            assert!(error.to_string().contains(word), "{separator:?}: {error}");
        }
        for separator in ["||", "|", ",", ", ", " ", "\t", "·", "。x", "|a|", "%n", "\u{1}"] {
            let settings =
                FormatSettings { separator: separator.to_owned(), ..FormatSettings::default() };
            assert_eq!(settings.check(), Ok(()), "{separator:?}");
        }
    }

    #[test]
    fn the_sample_takes_any_separator_that_ends_no_message() {
        let sample = |separator: &str| FormatSettings {
            format: Format::Sample,
            separator: separator.to_owned(),
            ..FormatSettings::default()
        };
        for separator in ["=", "\\", "x"] {
            assert_eq!(sample(separator).check(), Ok(()));
        }
        for separator in ["", "\n", "\r", "a\0"] {
            assert!(sample(separator).check().is_err(), "{separator:?}");
        }
    }

    #[test]
    fn a_bad_structured_data_id_or_limit_is_refused() {
        for sd_id in ["", "a b", "a=b", "a]", "a\"", "ü@1", &"x".repeat(33)] {
            let settings = FormatSettings { sd_id: sd_id.to_owned(), ..FormatSettings::default() };
            assert_eq!(settings.check().unwrap_err().code(), "syslog.sd_id", "{sd_id:?}");
        }
        let settings = FormatSettings { max_bytes: 479, ..FormatSettings::default() };
        assert_eq!(settings.check().unwrap_err().code(), "syslog.max_bytes");
    }
}
