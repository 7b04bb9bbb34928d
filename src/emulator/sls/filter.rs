//! The small part of SPL that the emulated service understands: `*`, and
//! `* | where KEY = 'VALUE'` or `!=`.
//!
//! Comparison is by bytes, and as in SQL a log without the field passes neither. Topic,
//! source and tags cannot be compared; a quote inside the value is written twice.

use bytes::Bytes;
use prost::Message as _;

use super::answer::Refusal;
use crate::sls::wire::{Log, LogGroup};

/// Which logs a pull lets through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Filter {
    All,
    Where { key: String, value: String, equal: bool },
}

/// What is left of a log group.
#[derive(Debug)]
pub(super) struct Sifted {
    /// The encoded group; none when no log is left.
    pub group: Option<Bytes>,
    /// Logs before.
    pub lines: u64,
    /// Logs left.
    pub left: u64,
}

impl Filter {
    /// Reads a query.
    pub(super) fn parse(query: &str) -> Result<Filter, Refusal> {
        read(query).ok_or_else(|| {
            Refusal::invalid(format!(
                "query {query:?} is none that the emulator knows: * or * | where KEY = 'VALUE' or !="
            ))
        })
    }

    /// Applies it to an encoded group, which the emulator has encoded itself.
    pub(super) fn sift(&self, encoded: Bytes) -> Sifted {
        let mut group = LogGroup::decode(encoded).unwrap_or_default();
        let lines = group.logs.len() as u64;
        group.logs.retain(|log| self.passes(log));
        let left = group.logs.len() as u64;
        let group = (left > 0).then(|| group.encode_to_vec().into());
        Sifted { group, lines, left }
    }

    fn passes(&self, log: &Log) -> bool {
        match self {
            Filter::All => true,
            Filter::Where { key, value, equal } => {
                let field = log.contents.iter().rfind(|field| *field.key == *key.as_bytes());
                field.is_some_and(|field| (*field.value == *value.as_bytes()) == *equal)
            }
        }
    }
}

fn read(query: &str) -> Option<Filter> {
    let rest = query.trim().strip_prefix('*')?.trim_start();
    if rest.is_empty() {
        return Some(Filter::All);
    }
    let rest = rest.strip_prefix('|')?.trim_start().strip_prefix("where")?;
    let condition = rest.strip_prefix(char::is_whitespace)?.trim_start();
    let end = condition.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')?;
    let (key, rest) = condition.split_at(end);
    let (equal, rest) = match rest.trim_start().strip_prefix("!=") {
        Some(rest) => (false, rest),
        None => (true, rest.trim_start().strip_prefix('=')?),
    };
    let text = rest.trim_start().strip_prefix('\'')?.strip_suffix('\'')?;
    let value = text.replace("''", "\0").replace('\0', "'");
    let balanced = !text.replace("''", "").contains('\'');
    (balanced && !key.is_empty() && !text.contains('\0')).then(|| Filter::Where {
        key: key.to_owned(),
        value,
        equal,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sls::wire::Content;

    fn condition(key: &str, value: &str, equal: bool) -> Filter {
        Filter::Where { key: key.into(), value: value.into(), equal }
    }

    #[test]
    fn the_documented_queries_are_read_and_no_other() {
        for (query, filter) in [
            ("*", Filter::All),
            (" * ", Filter::All),
            ("* | where status = '403'", condition("status", "403", true)),
            ("*|where status!='403'", condition("status", "403", false)),
            ("* | where a = 'it''s'", condition("a", "it's", true)),
            ("* | where a = ''", condition("a", "", true)),
        ] {
            assert_eq!(Filter::parse(query).expect(query), filter);
        }
        for query in [
            "",
            "status: 403",
            "* | select *",
            "* | where",
            "* | where = 'x'",
            "* | where status = 403",
            "* | where status > '403'",
            "* | where a = 'x' and b = 'y'",
            "* | where a = 'it's'",
            "* | wherea = 'x'",
        ] {
            assert_eq!(Filter::parse(query).expect_err(query).code, "ParameterInvalid");
        }
    }

    #[test]
    fn logs_that_do_not_pass_go_and_a_group_without_logs_goes_whole() {
        let log = |status: &'static str| Log {
            time: 1,
            contents: vec![Content { key: "status".into(), value: status.into() }],
            time_ns: None,
        };
        let bare = Log { time: 1, contents: Vec::new(), time_ns: None };
        let topic = Some("t".into());
        let group = LogGroup { logs: vec![log("200"), log("403"), bare], topic, ..<_>::default() };
        let encoded = Bytes::from(group.encode_to_vec());
        let one = condition("status", "403", true).sift(encoded.clone());
        let left = LogGroup { logs: vec![log("403")], ..group.clone() };
        assert_eq!((one.lines, one.left), (3, 1));
        assert_eq!(one.group, Some(left.encode_to_vec().into()));
        assert_eq!(condition("status", "403", false).sift(encoded.clone()).left, 1);
        assert_eq!(Filter::All.sift(encoded.clone()).group, Some(encoded.clone()));
        assert_eq!(condition("other", "403", false).sift(encoded).group, None);
    }
}
