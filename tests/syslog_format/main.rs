//! Messages as other people's parsers see them, and bodies as an independent decoder does.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

mod decoder;
mod exact;
mod framing;
mod json;
mod oversize;
mod properties;

use sls_relay::syslog::rfc5424::{FormatSettings, Formatted, Formatter, Identity, LogLine};

/// A field: key and value.
pub(crate) type Field = (Vec<u8>, Vec<u8>);

/// A log that owns its fields.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    pub(crate) time: u32,
    pub(crate) time_ns: Option<u32>,
    pub(crate) topic: Vec<u8>,
    pub(crate) source: Vec<u8>,
    pub(crate) tags: Vec<Field>,
    pub(crate) fields: Vec<Field>,
    pub(crate) cursor: String,
    pub(crate) approximate: bool,
    pub(crate) origin: Option<&'static str>,
    pub(crate) replay: Option<&'static str>,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            time: 1_709_210_096,
            time_ns: None,
            topic: b"waf_access_log".to_vec(),
            source: b"10.0.0.1".to_vec(),
            tags: Vec::new(),
            fields: Vec::new(),
            cursor: "MTcwOTIxMDA5Ng==".to_owned(),
            approximate: false,
            origin: None,
            replay: None,
        }
    }
}

impl Log {
    /// A log with these contents.
    pub(crate) fn with(fields: &[(&str, &str)]) -> Self {
        let own =
            |(key, value): &(&str, &str)| (key.as_bytes().to_vec(), value.as_bytes().to_vec());
        Self { fields: fields.iter().map(own).collect(), ..Self::default() }
    }

    /// Every field in the order a body has them, tags with their prefix.
    pub(crate) fn all_fields(&self) -> Vec<Field> {
        let mut all = vec![
            (b"__topic__".to_vec(), self.topic.clone()),
            (b"__source__".to_vec(), self.source.clone()),
        ];
        all.extend(
            self.tags
                .iter()
                .map(|(key, value)| ([b"__tag__:", key.as_slice()].concat(), value.clone())),
        );
        all.extend(self.fields.iter().cloned());
        all
    }

    /// Formats it with a fresh formatter.
    pub(crate) fn format(&self, settings: &FormatSettings) -> (Vec<u8>, Formatted) {
        let mut formatter = Formatter::new(settings.clone()).expect("settings that work");
        let mut out = Vec::new();
        let formatted = self.append(&mut formatter, &mut out);
        (out, formatted)
    }

    /// Formats it behind what is there.
    pub(crate) fn append(&self, formatter: &mut Formatter, out: &mut Vec<u8>) -> Formatted {
        let tags: Vec<_> = self.tags.iter().map(|(k, v)| (k.as_slice(), v.as_slice())).collect();
        let fields: Vec<_> =
            self.fields.iter().map(|(k, v)| (k.as_slice(), v.as_slice())).collect();
        let line = LogLine {
            time: self.time,
            time_ns: self.time_ns,
            topic: &self.topic,
            source: &self.source,
            tags: &tags,
            fields: &fields,
            identity: Identity {
                source: "waf-project/waf-logstore",
                shard: 0,
                cursor: &self.cursor,
                index: 3,
                approximate: self.approximate,
            },
            origin: self.origin,
            replay: self.replay,
            severity: None,
        };
        formatter.format(&line, out)
    }
}

/// Settings with a host and a tag.
pub(crate) fn settings() -> FormatSettings {
    FormatSettings {
        hostname: "relay1".to_owned(),
        app_name: "waf".to_owned(),
        ..FormatSettings::default()
    }
}

/// The text behind the structured data.
pub(crate) fn body(message: &str) -> &str {
    let mut quoted = false;
    let mut escaped = false;
    let start = message.find(" - - ").expect("PROCID and MSGID") + 5;
    for (at, byte) in message.bytes().enumerate().skip(start) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => quoted = !quoted,
            b']' if !quoted => return message.get(at + 2..).unwrap_or(""),
            b'-' if at == start => return message.get(at + 2..).unwrap_or(""),
            _ => {}
        }
    }
    panic!("no structured data in {message}");
}
