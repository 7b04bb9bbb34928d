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
//! - `truncated="250000"` where the message was cut: its octets before that, without this
//!   mark.
//!
//! The text is that of [`super::body`]. There is no BOM: a log is not known to be text.

use super::body::{self, Escaper};
use super::framing::Format;
use super::message::Pri;
use super::sink::Sink;
use super::stamp::Stamp;
use super::{decimal, sample};

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a message that was cut has to be counted"]
pub struct Formatted {
    /// Octets of the whole message, when it was longer than the limit and was cut.
    pub truncated_from: Option<usize>,
}

/// Writes messages, one after the other. Make one per destination and keep it.
#[derive(Clone, Debug)]
pub struct Formatter {
    settings: FormatSettings,
    /// `<14>1 `.
    start: Vec<u8>,
    stamp: Stamp,
    /// ` host app - - `.
    origin: Vec<u8>,
    escaper: Escaper,
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

    /// Appends exactly one message of at most `max_bytes` to `out`, which is valid UTF-8
    /// and holds no LF, CR or NUL.
    ///
    /// A longer one is cut at the end, outside of characters and escapes, and marked. If
    /// the structured data alone is too long, the mark is all that is kept of it.
    pub fn format(&mut self, log: &LogLine<'_>, out: &mut Vec<u8>) -> Formatted {
        let start = out.len();
        let nanos = log.time_ns.unwrap_or(0);
        // More than a second of nanoseconds is not a time; `ns` then says what SLS sent.
        let micros = if nanos < 1_000_000_000 { nanos / 1_000 } else { 0 };
        out.extend_from_slice(&self.start);
        self.stamp.write(log.time, micros, out);
        out.extend_from_slice(&self.origin);
        let data_at = out.len();
        match self.settings.format {
            Format::Rfc5424 => {
                self.write_identity(log, out);
                out.push(b']');
            }
            Format::Sample => out.push(b'-'),
        }
        out.push(b' ');
        let body_at = out.len();
        let mut sink = Sink::new(out, start.saturating_add(self.settings.max_bytes));
        match self.settings.format {
            Format::Rfc5424 => self.write_body(log, &mut sink),
            Format::Sample => self.write_sample(log, &mut sink),
        }
        let length = body_at - start + sink.total();
        if length <= self.settings.max_bytes {
            return Formatted { truncated_from: None };
        }
        self.truncate(length, [start, data_at, body_at], out);
        Formatted { truncated_from: Some(length) }
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

    /// Cuts a message that was `length` octets and marks it.
    fn truncate(&self, length: usize, at: [usize; 3], out: &mut Vec<u8>) {
        let [start, data_at, body_at] = at;
        let limit = self.settings.max_bytes - (data_at - start);
        let mark = format!(" truncated=\"{length}\"]");
        // Without the `] ` behind it; the sample's `- ` leaves nothing.
        let mut data = out[data_at..body_at - 2].to_vec();
        if data.is_empty() || data.len() + mark.len() > limit {
            data.clear();
            data.push(b'[');
            data.extend_from_slice(self.settings.sd_id.as_bytes());
        }
        data.extend_from_slice(mark.as_bytes());
        let room = limit.saturating_sub(data.len() + 1);
        let text = &out[body_at..];
        let keep = match self.settings.format {
            Format::Rfc5424 => body::cut(text, room, &self.settings.separator),
            Format::Sample => sample::cut(text, room),
        };
        out.truncate(body_at + keep);
        if keep > 0 {
            data.push(b' ');
        }
        out.splice(data_at..body_at, data);
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
