//! How the messages of a destination are written.

use super::encoder::Mark;
use crate::config::Destination;
use crate::spool::{BatchHeader, Origin};
use crate::syslog::{
    FormatSettings, Formatter, Frames, Framing, Identity, LogLine, Oversize, Scheme, SettingsError,
    Severity,
};

/// Severity of what the relay itself has to say: logs are missing.
const NOTICE: Severity = Severity::ERR;

/// For its logs.
pub(super) fn logs(destination: &Destination) -> Result<Formatter, SettingsError> {
    Formatter::new(settings(destination, destination.severity))
}

/// For what the relay itself has to say, which is told whatever becomes of long logs.
pub(super) fn notices(destination: &Destination) -> Result<Formatter, SettingsError> {
    let oversize = Oversize::Shrink;
    Formatter::new(FormatSettings { oversize, ..settings(destination, NOTICE) })
}

/// How its messages are set apart; a datagram needs nothing.
pub(super) fn framing(destination: &Destination) -> Option<Framing> {
    match destination.target.scheme {
        Scheme::Tcp | Scheme::Tls => Some(destination.framing),
        Scheme::Udp | Scheme::Relp | Scheme::RelpTls => None,
    }
}

/// A message of the relay's own, about the log at `at` for which the receiver ends every
/// connection, as this destination is written to.
pub(crate) fn control(destination: &Destination, at: Mark) -> Result<Frames, SettingsError> {
    let position = at.position.to_string();
    let fields: [(&[u8], &[u8]); 4] = [
        (b"notice", b"test"),
        (b"code", b"syslog.poison"),
        (b"message", b"connections end soon after a log is sent; this message tells whether the receiver takes others"),
        (b"position", position.as_bytes()),
    ];
    let now = jiff::Timestamp::now();
    let line = LogLine {
        time: u32::try_from(now.as_second()).unwrap_or(0),
        time_ns: None,
        topic: b"sls-relay",
        source: b"sls-relay",
        tags: &[],
        fields: &fields,
        identity: Identity {
            source: "sls-relay/test",
            shard: 0,
            cursor: &position,
            index: 0,
            approximate: true,
        },
        origin: Some("relay"),
        replay: None,
        severity: None,
    };
    let mut message = Vec::new();
    let _ = notices(destination)?.format(&line, &mut message);
    let (mut frames, framing) = (Frames::default(), framing(destination));
    frames.push(|out| match framing {
        Some(framing) => framing.append(&message, out),
        None => out.extend_from_slice(&message),
    });
    Ok(frames)
}

/// `project/logstore` out of the spool's name for the source.
pub(super) fn source_name(header: &BatchHeader) -> String {
    let source = header.key.source.split('#').next().unwrap_or_default();
    let mut parts = source.rsplitn(3, '/');
    let (logstore, project) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    format!("{project}/{logstore}")
}

/// The mark of logs that did not come straight from SLS.
pub(super) fn origin(header: &BatchHeader) -> Option<&'static str> {
    match header.origin {
        Origin::Live => None,
        Origin::Refetch => Some("refetch"),
        Origin::Import => Some("import"),
    }
}

fn settings(destination: &Destination, severity: Severity) -> FormatSettings {
    FormatSettings {
        format: destination.format,
        separator: destination.separator.clone(),
        facility: destination.facility,
        severity,
        hostname: destination.hostname.clone(),
        app_name: destination.app_name.clone(),
        sd_id: destination.sd_id.clone(),
        zone: destination.zone.clone(),
        max_bytes: destination.max_message,
        oversize: destination.oversize,
    }
}
