//! Which logs a destination gets, and how grave each is.

use crate::config::{LogFilter, LogTest, Value};
use crate::syslog::{LogLine, Severity};

/// The severity of a log, or none where the destination does not get it.
pub(super) fn severity(filter: &LogFilter, log: &LogLine<'_>, usual: Severity) -> Option<Severity> {
    let severity = filter.severity.as_ref().map_or(usual, |field| {
        let meant = |value: &[u8]| field.map.iter().find(|(known, _)| *known == value);
        let meaning = values(log, &field.name).find_map(meant);
        meaning.map_or(usual, |(_, severity)| *severity)
    });
    // 0 is the gravest.
    let grave = filter.at_least.is_none_or(|least| severity.number() <= least.number());
    let wanted = grave && filter.tests.iter().all(|test| holds(test, log));
    wanted.then_some(severity)
}

fn holds(test: &LogTest, log: &LogLine<'_>) -> bool {
    let found = values(log, &test.name).any(|value| match &test.of {
        Value::Exists => true,
        Value::Is(is) => value == is,
        Value::Contains(text) => contains(value, text),
    });
    found != test.negated
}

/// The values under a name; a topic or source that is empty was never set.
fn values<'a>(log: &LogLine<'a>, name: &[u8]) -> impl Iterator<Item = &'a [u8]> {
    let own = match name {
        b"__topic__" => log.topic,
        b"__source__" => log.source,
        _ => b"",
    };
    let tag = name.strip_prefix(b"__tag__:");
    let tags = log.tags.iter().filter(move |(key, _)| Some(*key) == tag);
    let fields = log.fields.iter().filter(move |(key, _)| *key == name);
    let own = Some(own).filter(|own| !own.is_empty());
    own.into_iter().chain(tags.chain(fields).map(|(_, value)| *value))
}

fn contains(value: &[u8], text: &[u8]) -> bool {
    let Some((&first, _)) = text.split_first() else { return true };
    let mut rest = value;
    while let Some(at) = rest.iter().position(|&byte| byte == first) {
        if rest[at..].starts_with(text) {
            return true;
        }
        rest = &rest[at + 1..];
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SeverityField;
    use crate::syslog::Identity;

    const WARNING: u8 = 4;

    fn with<R>(fields: &[(&str, &str)], run: impl Fn(&LogLine<'_>) -> R) -> R {
        let fields: Vec<_> =
            fields.iter().map(|(key, value)| (key.as_bytes(), value.as_bytes())).collect();
        run(&LogLine {
            time: 0,
            time_ns: None,
            topic: b"waf",
            source: b"",
            tags: &[(b"zone", b"eu-1")],
            fields: &fields,
            identity: Identity {
                source: "p/l",
                shard: 0,
                cursor: "c",
                index: 0,
                approximate: false,
            },
            origin: None,
            replay: None,
            severity: None,
        })
    }

    fn test(negated: bool, name: &str, of: Value) -> LogTest {
        LogTest { negated, name: name.as_bytes().to_vec(), of }
    }

    fn is(text: &str) -> Value {
        Value::Is(text.as_bytes().to_vec())
    }

    fn within(text: &str) -> Value {
        Value::Contains(text.as_bytes().to_vec())
    }

    #[test]
    fn a_test_looks_at_fields_tags_topic_and_source() {
        for (holds, name, of) in [
            (true, "status", is("403")),
            (true, "status", is("200")),
            (false, "status", is("40")),
            (true, "status", within("0")),
            (true, "path", within("aab")),
            (false, "path", within("aabb")),
            (true, "empty", Value::Exists),
            (true, "empty", is("")),
            (false, "absent", Value::Exists),
            (true, "__topic__", is("waf")),
            (false, "__source__", Value::Exists),
            (true, "__tag__:zone", within("eu")),
            (false, "zone", Value::Exists),
        ] {
            let fields = [("status", "403"), ("status", "200"), ("path", "/aaab"), ("empty", "")];
            for negated in [false, true] {
                let filter = LogFilter {
                    tests: vec![test(negated, name, of.clone())],
                    ..LogFilter::default()
                };
                let got = with(&fields, |log| severity(&filter, log, Severity::INFO));
                assert_eq!(got.is_some(), holds != negated, "{negated} {name} {of:?}");
            }
        }
    }

    #[test]
    fn all_tests_must_hold() {
        let tests = vec![test(false, "a", is("1")), test(true, "b", Value::Exists)];
        let filter = LogFilter { tests, ..LogFilter::default() };
        for (fields, wanted) in
            [(&[("a", "1")][..], true), (&[("a", "1"), ("b", "")], false), (&[], false)]
        {
            let got = with(fields, |log| severity(&filter, log, Severity::INFO));
            assert_eq!(got.is_some(), wanted, "{fields:?}");
        }
    }

    #[test]
    fn severity_follows_a_field_and_the_less_grave_are_left_out() {
        let warning = Severity::from_number(WARNING).unwrap();
        let map = vec![(b"block".to_vec(), Severity::ERR), (b"captcha".to_vec(), warning)];
        let severity_of = |at_least, action: &str| {
            let field = SeverityField { name: b"action".to_vec(), map: map.clone() };
            let filter = LogFilter { tests: Vec::new(), severity: Some(field), at_least };
            with(&[("action", action)], |log| severity(&filter, log, Severity::INFO))
        };
        for (action, expected) in
            [("block", Severity::ERR), ("captcha", warning), ("pass", Severity::INFO)]
        {
            assert_eq!(severity_of(None, action), Some(expected));
            let kept = Some(expected).filter(|severity| severity.number() <= WARNING);
            assert_eq!(severity_of(Some(warning), action), kept);
        }
    }
}
