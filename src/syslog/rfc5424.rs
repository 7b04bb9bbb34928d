//! One log as one syslog message (RFC 5424).
//!
//! The time is the log's own. Structured data carries where the log comes from, so that
//! a receiver can tell a second copy from a second log:
//! `[sls@32473 src="project/logstore" shard="0" cursor="MTUx" idx="3"]`, with
//!
//! - `approx="1"` where `cursor` is that of the batch and `idx` counts from there, which
//!   may differ when the same logs are read again;
//! - `ns="123456789"`, the nanoseconds within the second, where six digits do not say it;
//! - `origin="refetch"` where the log was pulled again because the spool's own copy was
//!   damaged, `origin="import"` where it came from another spool, `origin="replay"` where it is
//!   sent again on purpose, with `replay="1f0c22aa"`, the name of the replay; logs that came
//!   straight from SLS have none;
//! - `truncated="250000"` where the message was cut at its end: its octets before that, without
//!   this mark; `truncated="request_body:5231,http_cookie:900"` where values were shortened: each
//!   with the octets that it has in the log, the first few by name and the number of the others;
//! - `part="1/3"` where it is sent as several messages, whose texts joined are the whole.
//!
//! The text is that of [`super::body`]. There is no BOM: a log is not known to be text.

use super::body::Escaper;
use super::framing::Format;
use super::message::{Pri, Severity};
use super::sink::Sink;
use super::stamp::Stamp;
use super::{decimal, json, sample};

pub use super::settings::{FormatSettings, MIN_MESSAGE_BYTES, SettingsError};

/// A log, as bytes borrowed from wherever it was decoded.
#[derive(Clone, Copy, Debug)]
pub struct LogLine<'a> {
    /// Unix time, seconds.
    pub time: u32,
    /// Nanoseconds within the second, where the log has them.
    pub time_ns: Option<u32>,
    /// Topic, may be empty.
    pub topic: &'a [u8],
    /// Source, usually an address, may be empty.
    pub source: &'a [u8],
    /// Tags of the log group, keys without the `__tag__:` prefix.
    pub tags: &'a [(&'a [u8], &'a [u8])],
    /// Contents of the log, in order.
    pub fields: &'a [(&'a [u8], &'a [u8])],
    /// Where the log comes from.
    pub identity: Identity<'a>,
    /// How it came here, where that was not straight from SLS.
    pub origin: Option<&'a str>,
    /// Name of the replay that it is a part of.
    pub replay: Option<&'a str>,
    /// Its severity, where that is not the one of all messages.
    pub severity: Option<Severity>,
}

/// Names a log the same way each time it is read.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    /// `project/logstore`.
    pub source: &'a str,
    /// Shard number.
    pub shard: u32,
    /// Cursor of the log group, or of the batch when `approximate`.
    pub cursor: &'a str,
    /// Index in what `cursor` names, from 0.
    pub index: u32,
    /// Whether the group's own cursor is unknown.
    pub approximate: bool,
}

/// What became of one log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a message that was cut has to be counted"]
pub struct Formatted {
    /// Octets of the whole message, when it was longer than the limit.
    pub truncated_from: Option<usize>,
    /// What was written.
    pub outcome: Outcome,
}

/// What was written of one log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// One message with everything.
    Whole,
    /// One message with all fields, some values shortened.
    Shrunk,
    /// One message that was cut at its end.
    Truncated,
    /// Several messages; where each ends, counted from where the first begins.
    Split(Vec<usize>),
    /// Nothing.
    Refused,
}

/// Writes messages, one after the other. Make one per destination and keep it.
#[derive(Clone, Debug)]
pub struct Formatter {
    pub(super) settings: FormatSettings,
    /// `<14>1 `.
    start: Vec<u8>,
    stamp: Stamp,
    /// ` host app - - `.
    origin: Vec<u8>,
    pub(super) escaper: Escaper,
    /// `__topic__=`, `||__source__=` and `||__tag__:`, escaped where they must be.
    topic: Vec<u8>,
    source: Vec<u8>,
    tag: Vec<u8>,
}

impl Formatter {
    /// Fails where [`FormatSettings::check`] does.
    pub fn new(settings: FormatSettings) -> Result<Self, SettingsError> {
        settings.check()?;
        let escaper = Escaper::new(&settings.separator);
        let known = |before: &str, name: &[u8], after: &[u8]| {
            let mut out = before.as_bytes().to_vec();
            escaper.key(name, &mut Sink::new(&mut out, usize::MAX));
            out.extend_from_slice(after);
            out
        };
        let pri = Pri::new(settings.facility, settings.severity);
        let mut origin = vec![b' '];
        push_name(&settings.hostname, 255, &mut origin);
        origin.push(b' ');
        push_name(&settings.app_name, 48, &mut origin);
        origin.extend_from_slice(b" - - ");
        Ok(Self {
            start: format!("{pri}1 ").into_bytes(),
            stamp: Stamp::new(settings.zone.clone()),
            origin,
            topic: known("", b"__topic__", b"="),
            source: known(&settings.separator, b"__source__", b"="),
            tag: known(&settings.separator, b"__tag__:", b""),
            escaper,
            settings,
        })
    }

    /// Appends the message of a log to `out`, valid UTF-8 without LF, CR and NUL and at most
    /// `max_bytes` long.
    ///
    /// A longer one is treated as [`FormatSettings::oversize`] says: it becomes one message that
    /// fits, or several, or none. What is cut is cut outside of characters and escapes, and
    /// marked. If the structured data alone is too long, the mark is all that is kept of it.
    /// Memory beyond the limit is taken for the parts of a split message alone.
    pub fn format(&mut self, log: &LogLine<'_>, out: &mut Vec<u8>) -> Formatted {
        let start = out.len();
        let limit = start.saturating_add(self.settings.max_bytes);
        let (length, at) = self.write(log, "", limit, out);
        if length <= self.settings.max_bytes {
            return Formatted { truncated_from: None, outcome: Outcome::Whole };
        }
        let outcome = self.fit(log, length, at, out);
        Formatted { truncated_from: Some(length), outcome }
    }

    /// Appends a message with these further parameters in its structured data. Its text is kept
    /// up to `end` octets of `out`. Returns the length of the whole message, and where it
    /// begins, its structured data, and its text.
    pub(super) fn write(
        &mut self,
        log: &LogLine<'_>,
        marks: &str,
        end: usize,
        out: &mut Vec<u8>,
    ) -> (usize, [usize; 3]) {
        let start = out.len();
        let nanos = log.time_ns.unwrap_or(0);
        // More than a second of nanoseconds is not a time; `ns` then says what SLS sent.
        let micros = if nanos < 1_000_000_000 { nanos / 1_000 } else { 0 };
        match log.severity {
            None => out.extend_from_slice(&self.start),
            Some(severity) => {
                out.push(b'<');
                let pri = Pri::new(self.settings.facility, severity);
                decimal::plain(pri.number().into(), out);
                out.extend_from_slice(b">1 ");
            }
        }
        self.stamp.write(log.time, micros, out);
        out.extend_from_slice(&self.origin);
        let data_at = out.len();
        match self.settings.format {
            Format::Rfc5424 | Format::Json => self.write_identity(log, out),
            Format::Sample if marks.is_empty() => out.push(b'-'),
            Format::Sample => {
                out.push(b'[');
                out.extend_from_slice(self.settings.sd_id.as_bytes());
            }
        }
        out.extend_from_slice(marks.as_bytes());
        if self.settings.format != Format::Sample || !marks.is_empty() {
            out.push(b']');
        }
        out.push(b' ');
        let text_at = out.len();
        let mut sink = Sink::new(out, end);
        self.write_text(log, &mut sink);
        (text_at - start + sink.total(), [start, data_at, text_at])
    }

    pub(super) fn write_text(&self, log: &LogLine<'_>, sink: &mut Sink<'_>) {
        match self.settings.format {
            Format::Rfc5424 => self.write_body(log, sink),
            Format::Json => json::object(log, sink),
            Format::Sample => self.write_sample(log, sink),
        }
    }

    fn write_identity(&self, log: &LogLine<'_>, out: &mut Vec<u8>) {
        let id = &log.identity;
        out.push(b'[');
        out.extend_from_slice(self.settings.sd_id.as_bytes());
        out.extend_from_slice(b" src=\"");
        push_param_value(id.source, out);
        out.extend_from_slice(b"\" shard=\"");
        decimal::plain(id.shard as usize, out);
        out.extend_from_slice(b"\" cursor=\"");
        push_param_value(id.cursor, out);
        out.extend_from_slice(b"\" idx=\"");
        decimal::plain(id.index as usize, out);
        out.push(b'"');
        if id.approximate {
            out.extend_from_slice(b" approx=\"1\"");
        }
        if let Some(nanos) =
            log.time_ns.filter(|nanos| nanos % 1_000 != 0 || *nanos >= 1_000_000_000)
        {
            out.extend_from_slice(b" ns=\"");
            decimal::padded(nanos, if nanos < 1_000_000_000 { 9 } else { 10 }, out);
            out.push(b'"');
        }
        let marks = [(&b" origin=\""[..], log.origin), (b" replay=\"", log.replay)];
        for (name, value) in marks {
            let Some(value) = value else { continue };
            out.extend_from_slice(name);
            push_param_value(value, out);
            out.push(b'"');
        }
    }

    fn write_body(&self, log: &LogLine<'_>, sink: &mut Sink<'_>) {
        sink.put(&self.topic);
        self.escaper.value(log.topic, sink);
        sink.put(&self.source);
        self.escaper.value(log.source, sink);
        for (key, value) in log.tags {
            sink.put(&self.tag);
            self.escaper.key(key, sink);
            sink.put(b"=");
            self.escaper.value(value, sink);
        }
        for (key, value) in log.fields {
            sink.put(self.settings.separator.as_bytes());
            self.escaper.key(key, sink);
            sink.put(b"=");
            self.escaper.value(value, sink);
        }
    }

    fn write_sample(&self, log: &LogLine<'_>, sink: &mut Sink<'_>) {
        let separator = &self.settings.separator;
        sample::pair(separator, &[b"__topic__"], log.topic, sink);
        sample::pair(separator, &[b"__source__"], log.source, sink);
        for (key, value) in log.tags {
            sample::pair(separator, &[b"__tag__:", key], value, sink);
        }
        for (key, value) in log.fields {
            sample::pair(separator, &[key], value, sink);
        }
    }
}

/// Appends a HOSTNAME or APP-NAME (RFC 5424, 6.2.4 and 6.2.5).
fn push_name(name: &str, limit: usize, out: &mut Vec<u8>) {
    if name.is_empty() {
        out.push(b'-');
    }
    let safe = |byte: u8| if byte.is_ascii_graphic() { byte } else { b'_' };
    out.extend(name.bytes().take(limit).map(safe));
}

/// Appends a PARAM-VALUE (RFC 5424, 6.3.3). Control characters become spaces.
fn push_param_value(value: &str, out: &mut Vec<u8>) {
    for byte in value.bytes() {
        match byte {
            b'"' | b'\\' | b']' => out.extend_from_slice(&[b'\\', byte]),
            _ if byte.is_ascii_control() => out.push(b' '),
            _ => out.push(byte),
        }
    }
}
