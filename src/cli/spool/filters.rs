//! The flags that say which logs are meant, the same for every command.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use clap::Args;
use jiff::Timestamp;

use super::Misuse;
use crate::cli::time::time;
use crate::inspect::{Clock, FieldTest, Octets, Only, Selection};
use crate::spool::Seq;

/// Which logs; all that is given must hold.
#[derive(Args, Clone, Debug)]
pub(super) struct Filters {
    #[command(flatten)]
    batches: BatchFilters,
    #[command(flatten)]
    contents: ContentFilters,
}

/// What headers of batches tell.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Which logs (all that is given must hold)")]
pub(super) struct BatchFilters {
    /// Not before this time: RFC 3339, now, or a span back from now such as 2h or 15min
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<Timestamp>,
    /// Before this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<Timestamp>,
    /// --since and --until are about when SLS received a log, not about the time in it
    #[arg(long)]
    received: bool,
    /// Source: PROJECT/LOGSTORE, LOGSTORE, or its whole name
    #[arg(long, value_name = "SOURCE")]
    source: Option<String>,
    /// Shard
    #[arg(long, value_name = "NUMBER")]
    shard: Option<u32>,
    /// The log group at this cursor, as messages and lists name it
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
    /// First batch
    #[arg(long, value_name = "SEQ")]
    first: Option<Seq>,
    /// Last batch
    #[arg(long, value_name = "SEQ")]
    last: Option<Seq>,
    /// Only what some destination still has to confirm
    #[arg(long, conflicts_with = "delivered")]
    waiting: bool,
    /// Only what every destination has confirmed
    #[arg(long)]
    delivered: bool,
}

/// What only the logs tell.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Which logs (all that is given must hold)")]
struct ContentFilters {
    /// Topic, exactly
    #[arg(long, value_name = "TOPIC")]
    topic: Option<OsString>,
    /// A field: NAME=VALUE is it, NAME~TEXT holds the text, NAME is there; may be repeated
    #[arg(long = "where", value_name = "TEST")]
    fields: Vec<OsString>,
    /// This text is in some key or value; may be repeated
    #[arg(long, value_name = "TEXT")]
    contains: Vec<OsString>,
}

impl Filters {
    /// The selection they make.
    ///
    /// # Errors
    /// [`Misuse`] where nothing could ever fulfil them.
    pub(super) fn selection(&self) -> Result<Selection, Misuse> {
        let ContentFilters { topic, fields, contains } = &self.contents;
        Ok(Selection {
            topic: topic.as_deref().map(octets),
            fields: fields.iter().map(|text| test(text)).collect(),
            contains: contains.iter().map(|text| octets(text)).collect(),
            ..self.batches.selection()?
        })
    }
}

impl BatchFilters {
    /// The selection they make.
    ///
    /// # Errors
    /// [`Misuse`] where nothing could ever fulfil them.
    pub(super) fn selection(&self) -> Result<Selection, Misuse> {
        if let (Some(since), Some(until)) = (self.since, self.until)
            && since >= until
        {
            return Err(Misuse(format!(
                "nothing lies between --since {since} and --until {until}"
            )));
        }
        if let (Some(from), Some(to)) = (self.first, self.last)
            && from > to
        {
            return Err(Misuse(format!("no batch lies between --first {from} and --last {to}")));
        }
        Ok(Selection {
            since: self.since,
            until: self.until,
            by: if self.received { Clock::Receive } else { Clock::Log },
            source: self.source.clone(),
            shard: self.shard,
            cursor: self.cursor.clone(),
            from_seq: self.first,
            to_seq: self.last.map(|last| last.saturating_add(1)),
            only: match (self.waiting, self.delivered) {
                (true, _) => Only::Waiting,
                (_, true) => Only::Delivered,
                _ => Only::All,
            },
            ..Selection::default()
        })
    }
}

/// An argument as bytes: what is looked for need not be UTF-8.
pub(super) fn octets(text: &OsStr) -> Octets {
    Octets(text.to_owned().into_vec())
}

/// Reads `NAME=VALUE`, `NAME~TEXT` or `NAME`; the first of the two signs counts.
fn test(text: &OsStr) -> FieldTest {
    let bytes = text.as_bytes();
    let Some(at) = bytes.iter().position(|byte| matches!(byte, b'=' | b'~')) else {
        return FieldTest { name: octets(text), is: None, contains: None };
    };
    let (name, value) = (Octets(bytes[..at].to_vec()), Octets(bytes[at + 1..].to_vec()));
    if bytes[at] == b'=' {
        FieldTest { name, is: Some(value), contains: None }
    } else {
        FieldTest { name, is: None, contains: Some(value) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_sign_parts_name_and_value() {
        for (text, name, is, contains) in [
            ("host=a=b~c", "host", Some("a=b~c"), None),
            ("host~a=b", "host", None, Some("a=b")),
            ("host", "host", None, None),
            ("host=", "host", Some(""), None),
        ] {
            let bytes = |text: &str| Octets(text.as_bytes().to_vec());
            let expected =
                FieldTest { name: bytes(name), is: is.map(bytes), contains: contains.map(bytes) };
            assert_eq!(test(OsStr::new(text)), expected, "{text}");
        }
    }
}
