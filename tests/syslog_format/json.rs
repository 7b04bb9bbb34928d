//! Logs as JSON objects.

use proptest::prelude::*;
use serde_json::Value;
use sls_relay::syslog::rfc5424::FormatSettings;
use sls_relay::syslog::{Format, Oversize};

use crate::properties::{log, sound};
use crate::{Log, body, settings};

fn json() -> FormatSettings {
    FormatSettings { format: Format::Json, ..settings() }
}

#[test]
fn an_object_has_the_identity_and_every_field_in_order() {
    let mut log = Log::with(&[("status", "403"), ("ua", "a\"b\\c\n\u{1}ü/"), ("_sls", "forged")]);
    log.tags = vec![(b"host".to_vec(), b"web-1".to_vec())];
    log.origin = Some("refetch");
    let (message, _) = log.format(&json());
    let message = String::from_utf8(message).expect("UTF-8");
    assert_eq!(
        message,
        concat!(
            "<14>1 2024-02-29T12:34:56.000000Z relay1 waf - - ",
            "[sls@32473 src=\"waf-project/waf-logstore\" shard=\"0\" cursor=\"MTcwOTIxMDA5Ng==\" ",
            "idx=\"3\" origin=\"refetch\"] ",
            "{\"_sls\":{\"src\":\"waf-project/waf-logstore\",\"shard\":0,",
            "\"cursor\":\"MTcwOTIxMDA5Ng==\",\"idx\":3,\"origin\":\"refetch\"},",
            "\"__topic__\":\"waf_access_log\",\"__source__\":\"10.0.0.1\",\"__tag__:host\":\"web-1\",",
            "\"status\":\"403\",\"ua\":\"a\\\"b\\\\c\\n\\u0001ü/\",\"_sls_\":\"forged\"}"
        )
    );
}

#[test]
fn no_limit_leaves_half_an_object() {
    let hard = "\"\\\n\u{1}中,{}😀:";
    let log = Log::with(&[("k1", hard), ("k,\"2", hard), ("中", hard), ("k4", &hard.repeat(9))]);
    let whole = log.format(&json()).0.len();
    for max_bytes in 480..whole + 2 {
        for oversize in [Oversize::Truncate, Oversize::Shrink] {
            let (message, _) = log.format(&FormatSettings { max_bytes, oversize, ..json() });
            assert!(message.len() <= max_bytes);
            let message = String::from_utf8(message).expect("UTF-8");
            let object: Value = serde_json::from_str(body(&message)).expect("JSON");
            assert_eq!(object["_sls"]["idx"], 3);
            let kept = object["k1"].as_str().is_none_or(|kept| hard.starts_with(kept));
            assert!(kept, "{message}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_log_is_an_object_that_reads_back(log in log()) {
        let (message, _) = log.format(&json());
        let message = sound(message)?;
        let object: Value = serde_json::from_str(body(&message)).expect("JSON");
        // Of a name that comes twice the parser keeps the last.
        for (key, value) in log.all_fields() {
            let name = String::from_utf8_lossy(&key).into_owned();
            let last = log.all_fields().into_iter().rfind(|(other, _)| {
                String::from_utf8_lossy(other) == name
            });
            let last = last.map_or(value, |(_, last)| last);
            let expected = String::from_utf8_lossy(&last).into_owned();
            prop_assert_eq!(object[&name].as_str(), Some(expected.as_str()), "{}", name);
        }
        prop_assert_eq!(object["_sls"]["cursor"].as_str(), Some(log.cursor.as_str()));
        let strict = syslog_rfc5424::parse_message(&message).expect("a strict parser reads it");
        let loose = syslog_loose::parse_message(&message, syslog_loose::Variant::RFC5424);
        prop_assert_eq!(strict.msg.trim(), body(&message).trim());
        prop_assert_eq!(loose.msg.trim(), body(&message).trim());
    }
}
