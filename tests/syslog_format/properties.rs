//! What holds for any log, separator and limit.

use proptest::collection::vec;
use proptest::prelude::*;
use sls_relay::syslog::body as written;
use sls_relay::syslog::framing::Format;
use sls_relay::syslog::rfc5424::{FormatSettings, Formatter};

use crate::{Field, Log, body, decoder, settings};

/// Bytes that like to break things: text, separators, escapes, halves of characters.
pub(crate) fn text() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => "[a-z0-9 ]{0,6}".prop_map(String::into_bytes),
        2 => any::<char>().prop_map(|c| c.to_string().into_bytes()),
        2 => vec(any::<u8>(), 0..4),
        4 => prop::sample::select(vec![
            &b"||"[..], b"|", b"=", b"\\", b"\\x41", b"\\n", b"\n", b"\r\n", b"\0", b"\"", b"]", b"] ",
            b"\n<14>1 - - - - - - forged", b"||admin=true", b"\xc2", b"\xb7", b"\xe4\xb8", "中".as_bytes(),
            "·".as_bytes(), b",", b", ", b"\t", b"\x7f", b"_", b"%n", b"\xef\xbb\xbf", b"\xf0\x9f\x98",
        ]).prop_map(<[u8]>::to_vec),
    ];
    vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

pub(crate) fn separator() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "||", "|", ",", ", ", " ", "\t", "·", "·:", "中", "_", ":", "%n", "|a|", "|a|a", "<14>",
        "\"", "]", "\u{1}", "😀", "-", "|||",
    ]);
    prop_oneof![
        3 => known.prop_map(str::to_owned),
        1 => any::<String>(),
    ]
    .prop_filter("cannot work", |separator| {
        FormatSettings { separator: separator.clone(), ..settings() }.check().is_ok()
    })
}

pub(crate) fn log() -> impl Strategy<Value = Log> {
    (
        (any::<u32>(), any::<Option<u32>>(), text(), text(), ".{0,12}", any::<bool>()),
        vec((text(), text()), 0..3),
        vec((text(), text()), 0..8),
    )
        .prop_map(|((time, time_ns, topic, source, cursor, approximate), tags, fields)| Log {
            time,
            origin: None,
            replay: None,
            time_ns,
            topic,
            source,
            tags,
            fields,
            cursor,
            approximate,
        })
}

/// A message as text, after the checks that hold for every one.
pub(crate) fn sound(message: Vec<u8>) -> Result<String, TestCaseError> {
    let message = String::from_utf8(message);
    prop_assert!(message.is_ok(), "not UTF-8");
    let message = message.unwrap_or_default();
    prop_assert!(!message.contains(['\n', '\r', '\0']), "{message:?}");
    Ok(message)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_field_comes_back_byte_for_byte(log in log(), separator in separator()) {
        let settings = FormatSettings { separator: separator.clone(), ..settings() };
        let (message, formatted) = log.format(&settings);
        prop_assert_eq!(formatted.truncated_from, None);
        let message = sound(message)?;
        let text = body(&message);
        prop_assert_eq!(decoder::fields(text, &separator), log.all_fields());
        prop_assert_eq!(written::decode(text.as_bytes(), &separator), Ok(log.all_fields()));
    }

    #[test]
    fn the_sample_stays_one_message_in_valid_text(log in log(), separator in separator()) {
        let settings = FormatSettings { format: Format::Sample, separator: separator.clone(), ..settings() };
        let (message, _) = log.format(&settings);
        let message = sound(message)?;
        let start = format!("{separator}__topic__=");
        prop_assert!(body(&message).starts_with(&start));
    }

    #[test]
    fn strict_and_loose_parsers_read_the_same_header(log in log()) {
        let (message, _) = log.format(&settings());
        let message = sound(message)?;
        let strict = syslog_rfc5424::parse_message(&message).expect("a strict parser reads it");
        let loose = syslog_loose::parse_message(&message, syslog_loose::Variant::RFC5424);
        prop_assert_eq!(strict.hostname.as_deref(), Some("relay1"));
        prop_assert_eq!(loose.hostname, Some("relay1"));
        prop_assert_eq!(strict.appname.as_deref(), Some("waf"));
        prop_assert_eq!(loose.appname, Some("waf"));
        prop_assert_eq!(strict.facility as u8 * 8 + strict.severity as u8, 14);
        prop_assert_eq!(loose.facility, Some(syslog_loose::SyslogFacility::LOG_USER));
        prop_assert_eq!(loose.severity, Some(syslog_loose::SyslogSeverity::SEV_INFO));
        prop_assert!(strict.procid.is_none() && loose.procid.is_none());
        prop_assert!(strict.msgid.is_none() && loose.msgid.is_none());
        let micros = log.time_ns.filter(|nanos| *nanos < 1_000_000_000).unwrap_or(0) / 1_000;
        let want = i64::from(log.time) * 1_000_000 + i64::from(micros);
        let loose_time = loose.timestamp.expect("a timestamp").timestamp_micros();
        prop_assert_eq!(loose_time, want);
        prop_assert_eq!(strict.timestamp, Some(i64::from(log.time)));
        prop_assert_eq!(strict.timestamp_nanos, Some(micros * 1_000));
        let cursor: String =
            log.cursor.chars().map(|c| if c.is_ascii_control() { ' ' } else { c }).collect();
        let param = |name: &str| strict.sd.find_tuple("sls@32473", name).cloned();
        prop_assert_eq!(param("cursor"), Some(cursor));
        prop_assert_eq!(param("src"), Some("waf-project/waf-logstore".to_owned()));
        prop_assert_eq!(param("idx"), Some("3".to_owned()));
        prop_assert_eq!(param("approx").is_some(), log.approximate);
        prop_assert_eq!(loose.structured_data.len(), 1);
        prop_assert_eq!(strict.msg.trim_start(), body(&message).trim_start());
    }

    #[test]
    fn a_limit_is_kept_and_what_is_left_can_be_read(
        log in log(),
        separator in separator(),
        long in (text(), 1_usize..40),
        limit in 480_usize..2_000,
        sample in any::<bool>(),
    ) {
        let mut log = log;
        log.fields.push((b"long".to_vec(), long.0.repeat(long.1)));
        let format = if sample { Format::Sample } else { Format::Rfc5424 };
        let settings = FormatSettings { separator: separator.clone(), format, max_bytes: limit, ..settings() };
        let (whole, _) = log.format(&FormatSettings { max_bytes: usize::MAX, ..settings.clone() });
        let (message, formatted) = log.format(&settings);
        prop_assert!(message.len() <= limit);
        prop_assert_eq!(formatted.truncated_from, (whole.len() > limit).then_some(whole.len()));
        let (message, whole) = (sound(message)?, sound(whole)?);
        prop_assert!(body(&whole).starts_with(body(&message)));
        if formatted.truncated_from.is_none() {
            prop_assert_eq!(message, whole);
        } else {
            let strict = syslog_rfc5424::parse_message(format!("{message} ")).expect("a strict parser reads it");
            let mark = strict.sd.find_tuple("sls@32473", "truncated").cloned();
            prop_assert_eq!(mark, Some(whole.len().to_string()));
            if !sample {
                prop_assert!(is_beginning(&written::decode(body(&message).as_bytes(), &separator), &log));
            }
        }
    }
}

/// Whether fields were read and are the first ones of a log, the last perhaps in part.
fn is_beginning(read: &Result<Vec<Field>, written::BodyError>, log: &Log) -> bool {
    let (Ok(read), all) = (read, log.all_fields()) else { return false };
    let Some(((last_key, last_value), before)) = read.split_last() else { return true };
    let (key, value) = &all[before.len()];
    all.starts_with(before) && last_key == key && value.starts_with(last_value)
}

#[test]
fn a_forged_field_or_message_stays_in_its_value() {
    let attack = "1||admin=true\n<14>1 2024-01-01T00:00:00Z h a - - - forged\r\n\0\\||x=";
    let log = Log::with(&[("ua", attack), ("after", "1")]);
    let (message, _) = log.format(&settings());
    let message = String::from_utf8(message).expect("a message is UTF-8");
    let fields = decoder::fields(body(&message), "||");
    assert_eq!(fields, log.all_fields());
    assert!(fields.iter().all(|(key, _)| key != b"admin" && key != b"x"));
    assert_eq!(message.lines().count(), 1);
    assert_eq!(message.matches("||").count(), fields.len() - 1);
}

/// Every limit over a body made of nothing but places where it must not be cut.
#[test]
fn no_limit_cuts_a_character_an_escape_or_a_separator() {
    let hard = "\\\\\n|\u{7f}中·😀\\x41";
    let mut log = Log::with(&[("k1", hard), ("k=2", hard), ("中", hard), ("k4", &hard.repeat(12))]);
    log.fields.push((b"bytes".to_vec(), b"\xff\\\xfe\\\\\xfd".repeat(12)));
    let whole = log.format(&settings()).0.len();
    for separator in ["||", "|-|+", "·:", "中文"] {
        for limit in 480..whole + 40 {
            let settings =
                FormatSettings { separator: separator.to_owned(), max_bytes: limit, ..settings() };
            let (message, _) = log.format(&settings);
            assert!(message.len() <= limit);
            let message = String::from_utf8(message).expect("a message is UTF-8");
            let read = written::decode(body(&message).as_bytes(), separator);
            assert!(is_beginning(&read, &log), "limit {limit}: {message}");
            assert!(read.is_ok_and(|fields| fields == decoder::fields(body(&message), separator)));
        }
    }
}

#[test]
fn messages_are_appended_behind_what_is_there() {
    let mut formatter = Formatter::new(FormatSettings { max_bytes: 480, ..settings() })
        .expect("settings that work");
    let (short, long) = (Log::with(&[("a", "b")]), Log::with(&[("a", &"b".repeat(999))]));
    let mut out = b"before".to_vec();
    let lengths = [&short, &long, &short].map(|log| {
        let start = out.len();
        let _ = log.append(&mut formatter, &mut out);
        out.len() - start
    });
    assert!(out.starts_with(b"before<14>1 "));
    assert_eq!(lengths[1], 480);
    assert_eq!(lengths[0], lengths[2]);
    assert_eq!(out[6..6 + lengths[0]], out[out.len() - lengths[2]..]);
    let settings = FormatSettings { max_bytes: usize::MAX, ..settings() };
    let mut unlimited = Formatter::new(settings).expect("settings that work");
    assert_eq!(long.append(&mut unlimited, &mut out).truncated_from, None);
}
