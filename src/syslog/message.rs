//! Facility, severity and the number they make together (RFC 5424, 6.2.1).

use std::fmt;
use std::str::FromStr;

/// The part of a system a message comes from (RFC 5424, table 1).
///
/// Parsed from its usual short name in any case, or from its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Facility(u8);

/// Short names, at the index that is their number.
const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv",
    "ftp", "ntp", "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4",
    "local5", "local6", "local7",
];

impl Facility {
    /// Number 1, user-level messages: what the sample sends.
    pub const USER: Self = Self(1);

    /// The facility with this number, if it is one of 0 to 23.
    pub fn from_number(number: u8) -> Option<Self> {
        (usize::from(number) < FACILITIES.len()).then_some(Self(number))
    }

    /// 0 to 23.
    pub fn number(self) -> u8 {
        self.0
    }

    /// The short name.
    pub fn name(self) -> &'static str {
        FACILITIES[usize::from(self.0)]
    }
}

/// How grave a message is (RFC 5424, table 2).
///
/// Parsed from its short name or the RFC's long name in any case, or from its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Severity(u8);

/// Short names, at the index that is their number.
const SEVERITIES: [&str; 8] =
    ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];

/// The RFC's words, where they differ from the short names, and one in common use.
const SEVERITY_ALIASES: [(&str, u8); 5] =
    [("emergency", 0), ("critical", 2), ("error", 3), ("warn", 4), ("informational", 6)];

impl Severity {
    /// Number 3, error conditions.
    pub const ERR: Self = Self(3);

    /// Number 6, informational: what the sample sends.
    pub const INFO: Self = Self(6);

    /// The severity with this number, if it is one of 0 to 7.
    pub fn from_number(number: u8) -> Option<Self> {
        (usize::from(number) < SEVERITIES.len()).then_some(Self(number))
    }

    /// 0 (gravest) to 7.
    pub fn number(self) -> u8 {
        self.0
    }

    /// The short name.
    pub fn name(self) -> &'static str {
        SEVERITIES[usize::from(self.0)]
    }
}

/// The number at the start of a message: facility times eight plus severity, 0 to 191.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pri(u8);

impl Pri {
    /// Puts both parts together.
    pub fn new(facility: Facility, severity: Severity) -> Self {
        Self(facility.0 * 8 + severity.0)
    }

    /// 0 to 191.
    pub fn number(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Pri {
    /// As it stands in a message: `<14>`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", self.0)
    }
}

/// A word that is none of the choices; the text lists them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what} {given:?}: use one of {}", choices.join(", "))]
pub struct UnknownName {
    /// What was being chosen, for instance `facility`.
    pub what: &'static str,
    /// What was given, at most 64 characters of it.
    pub given: String,
    /// Every valid name.
    pub choices: &'static [&'static str],
}

impl UnknownName {
    pub(super) fn new(
        what: &'static str,
        given: &str,
        choices: &'static [&'static str],
    ) -> UnknownName {
        UnknownName { what, given: given.chars().take(64).collect(), choices }
    }

    /// Stable name of this error.
    pub fn code(&self) -> &'static str {
        "syslog.unknown_name"
    }
}

impl FromStr for Facility {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        number_of(text, &FACILITIES)
            .map(Self)
            .ok_or_else(|| UnknownName::new("facility", text, &FACILITIES))
    }
}

impl FromStr for Severity {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        let alias = SEVERITY_ALIASES.iter().find(|(name, _)| text.eq_ignore_ascii_case(name));
        alias
            .map(|&(_, number)| number)
            .or_else(|| number_of(text, &SEVERITIES))
            .map(Self)
            .ok_or_else(|| UnknownName::new("severity", text, &SEVERITIES))
    }
}

impl fmt::Display for Facility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The index of a name, or of the decimal number of one.
fn number_of(text: &str, names: &[&str]) -> Option<u8> {
    let by_name = names.iter().position(|name| text.eq_ignore_ascii_case(name));
    let index = by_name.or_else(|| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|index| digits && *index < names.len())
    })?;
    u8::try_from(index).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_name_the_same_facility() {
        for number in 0..24 {
            let facility = Facility::from_number(number).unwrap();
            assert_eq!(facility.name().parse(), Ok(facility));
            assert_eq!(number.to_string().parse(), Ok(facility));
            assert_eq!(facility.name().to_uppercase().parse(), Ok(facility));
        }
        assert_eq!(Facility::from_number(24), None);
        assert_eq!("local7".parse::<Facility>().unwrap().number(), 23);
    }

    #[test]
    fn severities_parse_from_short_long_and_numeric_form() {
        for (text, number) in
            [("emerg", 0), ("Error", 3), ("err", 3), ("warn", 4), ("informational", 6), ("7", 7)]
        {
            assert_eq!(text.parse::<Severity>().unwrap().number(), number, "{text}");
        }
        assert_eq!(Severity::from_number(8), None);
    }

    #[test]
    fn a_wrong_name_gets_the_list_of_right_ones() {
        let error = "usr".parse::<Facility>().unwrap_err().to_string();
        assert!(error.starts_with("unknown facility \"usr\": use one of kern, user, "), "{error}");
        let error = "8".parse::<Severity>().unwrap_err().to_string();
        assert_eq!(
            error,
            "unknown severity \"8\": use one of emerg, alert, crit, err, warning, notice, info, debug"
        );
        for text in ["", "+1", "-1", "24", "99999999999999999999", " user"] {
            assert!(text.parse::<Facility>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn pri_is_eight_facilities_apart() {
        assert_eq!(Pri::new(Facility::USER, Severity::INFO).to_string(), "<14>");
        let highest = Pri::new(Facility::from_number(23).unwrap(), Severity(7));
        assert_eq!(highest.number(), 191);
    }
}
