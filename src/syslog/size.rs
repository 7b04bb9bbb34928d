//! How long a message may be, and what becomes of a longer one.
//!
//! Receivers have limits of their own, and what they do beyond them is never good: one splits
//! the rest into bogus messages, one cuts and still says that all is well, one closes the
//! connection. The decision is therefore made here, before anything is sent.

use std::fmt;
use std::str::FromStr;

use super::message::UnknownName;

/// The most octets of a message on a stream: rsyslog takes no longer frame.
pub const MAX_STREAM: usize = 200_000;
/// The most octets of a message in a datagram over IPv4.
pub const MAX_DATAGRAM: usize = 65_507;
/// The largest message on RELP: what librelp takes by default, ending the session at more.
pub const MAX_RELP: usize = 128 << 10;

/// Limits of known receivers by name, in octets of a message without its framing.
pub const PRESETS: [(&str, usize); 7] = [
    // What RFC 5426 lets every receiver take over IPv4, and over IPv6.
    ("rfc5426-v4", 480),
    ("rfc5426-v6", 1_180),
    // A packet of Ethernet, with room for a tunnel.
    ("udp-mtu", 1_400),
    // What RFC 5424 asks of receivers.
    ("rfc5424", 2_048),
    ("qradar", 4_096),
    ("rsyslog", 8_096),
    ("syslog-ng", 65_536),
];

/// The limit of this name.
pub fn preset(name: &str) -> Option<usize> {
    PRESETS.iter().find(|(known, _)| *known == name).map(|(_, octets)| *octets)
}

/// What becomes of a message that is longer than its receiver takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Oversize {
    /// Values are shortened, bodies and cookies first, then the longest; every field stays and
    /// the text can still be read. What cannot be made to fit so is cut at the end.
    #[default]
    Shrink,
    /// The text is cut at its end.
    Truncate,
    /// It is sent as several messages, numbered `part="1/3"`, whose texts joined are the whole.
    /// Only for receivers that join them. A text of more than [`MAX_PARTS`] parts is shortened.
    Split,
    /// It is not sent.
    Quarantine,
}

/// The most messages that one log is split into.
pub const MAX_PARTS: usize = 100;

const NAMES: [(&str, Oversize); 4] = [
    ("shrink", Oversize::Shrink),
    ("truncate", Oversize::Truncate),
    ("split", Oversize::Split),
    ("quarantine", Oversize::Quarantine),
];

impl FromStr for Oversize {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        let found = NAMES.iter().find(|(name, _)| *name == text);
        let names = &["shrink", "truncate", "split", "quarantine"];
        found.map(|(_, policy)| *policy).ok_or_else(|| UnknownName::new("policy", text, names))
    }
}

impl fmt::Display for Oversize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = NAMES.iter().find(|(_, policy)| policy == self);
        f.write_str(found.map_or("", |(name, _)| name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_parse_from_what_they_print_and_presets_are_known() {
        for (name, policy) in NAMES {
            assert_eq!(policy.to_string(), name);
            assert_eq!(name.parse(), Ok(policy));
        }
        assert!("drop".parse::<Oversize>().unwrap_err().to_string().contains("shrink, truncate"));
        assert_eq!(preset("rsyslog"), Some(8_096));
        assert_eq!(preset("Rsyslog"), None);
        assert!(PRESETS.iter().all(|(_, octets)| (480..=MAX_STREAM).contains(octets)));
    }
}
