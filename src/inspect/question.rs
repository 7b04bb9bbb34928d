//! What can be asked, in the form in which it travels: one JSON object.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::octets::Octets;
use crate::spool::Seq;

/// A question about a spool. None changes anything. A field that is not known is refused: a
/// filter that one side does not understand must not be left out.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "ask", rename_all = "snake_case", deny_unknown_fields)]
pub enum Question {
    /// What waits, for whom, and how much disk it takes: one line.
    Status,
    /// Batches that hold a selected log, one a line, oldest first.
    List {
        /// Which.
        #[serde(default)]
        selection: Selection,
        /// Lines at most.
        #[serde(default)]
        limit: Option<u64>,
        /// Go on with batches that come, until nobody wants them.
        #[serde(default)]
        follow: bool,
    },
    /// One batch: a line about it, then one for each log, or its body.
    Show {
        /// Its number.
        seq: Seq,
        /// Logs at most.
        #[serde(default)]
        limit: Option<u64>,
        /// In place of everything else the body as SLS sent it, as lines of base64.
        #[serde(default)]
        raw: bool,
    },
    /// Logs, one a line, in the order of the spool.
    Cat {
        /// Which.
        #[serde(default)]
        selection: Selection,
        /// Lines at most.
        #[serde(default)]
        limit: Option<u64>,
        /// Go on with logs that come, until nobody wants them.
        #[serde(default)]
        follow: bool,
    },
    /// Logs that hold a text in a key or a value.
    Grep {
        /// The text.
        pattern: Octets,
        /// Take ASCII letters of either case for the same.
        #[serde(default)]
        ignore_case: bool,
        /// Only count them.
        #[serde(default)]
        count: bool,
        /// Which of all logs.
        #[serde(default)]
        selection: Selection,
        /// Logs at most.
        #[serde(default)]
        limit: Option<u64>,
        /// Go on with logs that come, until nobody wants them.
        #[serde(default)]
        follow: bool,
    },
    /// Counts, bytes and times, one line for each value of `by`.
    Stats {
        /// What is counted apart.
        by: By,
        /// Which logs.
        #[serde(default)]
        selection: Selection,
    },
    /// What the ledger tells of logs that are missing or were put aside, one a line.
    Gaps,
    /// Reads everything and checks every checksum: a line for each damage.
    Verify,
    /// The copies in the quarantine, one a line.
    QuarantineList,
    /// One copy of the quarantine: a line about it, or its bytes.
    QuarantineShow {
        /// Its name, as [`Question::QuarantineList`] gives it.
        name: String,
        /// In place of the line the bytes, as lines of base64.
        #[serde(default)]
        raw: bool,
    },
}

/// Which logs are meant: those that fulfil all of it. Without anything, all.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Selection {
    /// Not before this time.
    #[serde(with = "moment", skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Before this time.
    #[serde(with = "moment", skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Which time that is.
    pub by: Clock,
    /// The source: its whole name, `PROJECT/LOGSTORE`, or `LOGSTORE`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The shard.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shard: Option<u32>,
    /// The log group at this cursor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// The topic, exactly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<Octets>,
    /// Each must hold for some field of the log. `__topic__`, `__source__` and `__tag__:KEY` are
    /// fields, too.
    pub fields: Vec<FieldTest>,
    /// Each must be in a key or a value.
    pub contains: Vec<Octets>,
    /// First batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_seq: Option<Seq>,
    /// One past the last batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_seq: Option<Seq>,
    /// Whether it is delivered.
    pub only: Only,
}

/// A test of one field. With neither `is` nor `contains`, the field must be there.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FieldTest {
    /// Key of the field, exactly.
    pub name: Octets,
    /// Its value, exactly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is: Option<Octets>,
    /// What is in its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contains: Option<Octets>,
}

/// The time that a selection is about.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Clock {
    /// The time in the log.
    #[default]
    Log,
    /// When SLS received the batch of the log.
    Receive,
}

/// Delivered or not. A log waits until every destination has confirmed it.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Only {
    /// Either.
    #[default]
    All,
    /// Some destination still has to confirm it.
    Waiting,
    /// All destinations have.
    Delivered,
}

/// What statistics are kept apart by.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// Source.
    Source,
    /// Shard of a source.
    Shard,
    /// Topic.
    Topic,
    /// Hour in UTC of the time that the selection is about.
    Hour,
}

/// A time as RFC 3339.
mod moment {
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    use super::Timestamp;

    pub(super) fn serialize<S: Serializer>(
        time: &Option<Timestamp>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => serializer.collect_str(time),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, T: Deserializer<'de>>(
        deserializer: T,
    ) -> Result<Option<Timestamp>, T::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| text.parse().map_err(T::Error::custom)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_comes_back_as_it_was_asked() {
        let selection = Selection {
            since: Some("2026-01-31T08:00:00.000000001Z".parse().unwrap()),
            by: Clock::Receive,
            topic: Some(Octets(vec![0xff, 0])),
            fields: vec![FieldTest {
                name: Octets(b"host".to_vec()),
                is: None,
                contains: Some(Octets(b"\x80".to_vec())),
            }],
            contains: vec![Octets(b"text".to_vec()), Octets(Vec::new())],
            only: Only::Waiting,
            ..Selection::default()
        };
        for question in [
            Question::Status,
            Question::Verify,
            Question::Cat { selection: selection.clone(), limit: Some(3), follow: true },
            Question::Stats { by: By::Hour, selection },
        ] {
            let text = serde_json::to_string(&question).unwrap();
            assert_eq!(serde_json::from_str::<Question>(&text).unwrap(), question, "{text}");
        }
    }

    #[test]
    fn what_is_not_known_is_refused_and_what_is_left_out_is_nothing() {
        let plain = Question::Cat { selection: Selection::default(), limit: None, follow: false };
        assert_eq!(serde_json::from_str::<Question>(r#"{"ask":"cat"}"#).unwrap(), plain);
        for wrong in [
            r#"{"ask":"no such thing"}"#,
            r#"{"ask":"cat","no_such":1}"#,
            r#"{"ask":"cat","selection":{"no_such":1}}"#,
            r#"{"ask":"cat","selection":{"since":"yesterday"}}"#,
            r#"{"ask":"cat","selection":{"topic":{"bytes":"?"}}}"#,
            r#"{"ask":"cat","selection":{"topic":{"bytes":"","more":1}}}"#,
            r#"{"ask":"show"}"#,
        ] {
            assert!(serde_json::from_str::<Question>(wrong).is_err(), "{wrong}");
        }
    }
}
