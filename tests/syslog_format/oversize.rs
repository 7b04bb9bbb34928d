//! What is done with messages that are longer than their receiver takes.

use proptest::collection::vec;
use proptest::prelude::*;
use sls_relay::syslog::rfc5424::{FormatSettings, Formatted, Outcome};
use sls_relay::syslog::{Format, Oversize, body as written};

use crate::properties::{log, separator, sound, text};
use crate::{Log, body, settings};

fn with(oversize: Oversize, max_bytes: usize) -> FormatSettings {
    FormatSettings { oversize, max_bytes, ..settings() }
}

/// The messages of a log.
fn messages(log: &Log, settings: &FormatSettings) -> (Vec<Vec<u8>>, Formatted) {
    let (bytes, formatted) = log.format(settings);
    let messages = match &formatted.outcome {
        Outcome::Refused => {
            assert!(bytes.is_empty());
            Vec::new()
        }
        Outcome::Split(ends) => {
            assert_eq!(ends.last(), Some(&bytes.len()));
            let starts = std::iter::once(0).chain(ends.iter().copied());
            starts.zip(ends).map(|(start, &end)| bytes[start..end].to_vec()).collect()
        }
        _ => vec![bytes],
    };
    (messages, formatted)
}

/// A parameter of our structured data, read by the strict parser.
fn param(message: &str, name: &str) -> Option<String> {
    // The parser wants something behind structured data.
    let strict = syslog_rfc5424::parse_message(format!("{message} ")).expect("a strict parser");
    let loose = syslog_loose::parse_message(message, syslog_loose::Variant::RFC5424);
    assert_eq!(loose.hostname, Some("relay1"));
    strict.sd.find_tuple("sls@32473", name).cloned()
}

#[test]
fn the_request_body_is_shortened_before_anything_else() {
    let long = "b".repeat(3_000);
    let fields = [("status", "403"), ("request_body", &long), ("host", &"h".repeat(300))];
    let (messages, formatted) = messages(&Log::with(&fields), &with(Oversize::Shrink, 1_400));
    assert_eq!(formatted.outcome, Outcome::Shrunk);
    let message = String::from_utf8(messages[0].clone()).expect("UTF-8");
    assert!((1_300..=1_400).contains(&message.len()), "{}", message.len());
    assert_eq!(param(&message, "truncated").as_deref(), Some("request_body:3000"));
    let read = written::decode(body(&message).as_bytes(), "||").expect("a body");
    for (key, value) in &fields[..] {
        let (_, got) = read.iter().find(|(name, _)| name == key.as_bytes()).expect("every field");
        if *key == "request_body" {
            assert!(value.as_bytes().starts_with(got) && got.len() > 256);
        } else {
            assert_eq!(got, value.as_bytes());
        }
    }
}

#[test]
fn the_sample_tells_what_was_shortened_in_an_element_of_its_own() {
    let log = Log::with(&[("a", &"x".repeat(900)), ("b", "y")]);
    let settings = FormatSettings { format: Format::Sample, ..with(Oversize::Shrink, 600) };
    let (messages, _) = messages(&log, &settings);
    let message = String::from_utf8(messages[0].clone()).expect("UTF-8");
    assert!(message.len() <= 600);
    assert!(message.contains(" - - [sls@32473 truncated=\"a:900\"] ||__topic__="), "{message}");
    assert!(message.ends_with("x||b=y"));
}

#[test]
fn keys_that_do_not_fit_are_cut_at_the_end() {
    let fields = (0..90).map(|n| (format!("some_long_key_{n}").into_bytes(), vec![])).collect();
    let log = Log { fields, ..Log::default() };
    let (messages, formatted) = messages(&log, &with(Oversize::Shrink, 480));
    assert_eq!(formatted.outcome, Outcome::Truncated);
    let message = String::from_utf8(messages[0].clone()).expect("UTF-8");
    assert_eq!(param(&message, "truncated"), formatted.truncated_from.map(|n| n.to_string()));
}

#[test]
fn what_is_too_long_for_a_hundred_parts_is_shortened() {
    let log = Log::with(&[("a", &"x".repeat(480 * 100))]);
    let (messages, formatted) = messages(&log, &with(Oversize::Split, 480));
    assert_eq!((messages.len(), formatted.outcome), (1, Outcome::Shrunk));
}

#[test]
fn a_log_of_a_megabyte_takes_no_more_memory_than_the_limit() {
    let log = Log::with(&[("a", &"\u{1}".repeat(256 << 10)), ("b", "c")]);
    for oversize in [Oversize::Shrink, Oversize::Truncate, Oversize::Quarantine, Oversize::Split] {
        let (bytes, formatted) = log.format(&with(oversize, 2_048));
        assert!(formatted.truncated_from.is_some_and(|length| length > 1 << 20));
        assert!(bytes.len() <= 2_048 && bytes.capacity() <= 64 << 10, "{}", bytes.capacity());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn whatever_the_policy_all_messages_fit_and_can_be_read(
        log in log(),
        separator in separator(),
        long in vec((text(), 1_usize..40), 1..4),
        limit in 480_usize..2_000,
        policy in prop::sample::select(vec![
            Oversize::Shrink, Oversize::Truncate, Oversize::Split, Oversize::Quarantine,
        ]),
        format in prop::sample::select(vec![Format::Rfc5424, Format::Json, Format::Sample]),
    ) {
        let mut log = log;
        for (number, (text, times)) in long.iter().enumerate() {
            let name = ["long", "request_body", "http_cookie"][number];
            log.fields.push((name.as_bytes().to_vec(), text.repeat(*times)));
        }
        let settings = FormatSettings { separator: separator.clone(), format, ..with(policy, limit) };
        let (whole, _) = log.format(&FormatSettings { max_bytes: usize::MAX, ..settings.clone() });
        let whole_text = body(&sound(whole.clone())?).to_owned();
        let (messages, formatted) = messages(&log, &settings);
        prop_assert_eq!(formatted.truncated_from, (whole.len() > limit).then_some(whole.len()));
        prop_assert_eq!(formatted.outcome == Outcome::Whole, whole.len() <= limit);
        let mut texts = Vec::new();
        for message in &messages {
            prop_assert!(message.len() <= limit);
            let message = sound(message.clone())?;
            if formatted.outcome != Outcome::Whole {
                let name = if matches!(formatted.outcome, Outcome::Split(_)) { "part" } else { "truncated" };
                prop_assert!(param(&message, name).is_some(), "no {name} in {message}");
            }
            texts.push(body(&message).to_owned());
        }
        match formatted.outcome {
            Outcome::Whole | Outcome::Split(_) => prop_assert_eq!(texts.concat(), whole_text),
            Outcome::Shrunk | Outcome::Truncated if format == Format::Json => {
                let kept: serde_json::Value = serde_json::from_str(&texts[0]).expect("JSON");
                prop_assert_eq!(&kept["_sls"]["idx"], 3);
            }
            Outcome::Shrunk if format == Format::Rfc5424 => {
                let read = written::decode(texts[0].as_bytes(), &separator);
                let (read, all) = (read.expect("a body"), log.all_fields());
                prop_assert_eq!(read.len(), all.len());
                for ((name, kept), (key, value)) in read.iter().zip(&all) {
                    prop_assert_eq!(name, key);
                    prop_assert!(value.starts_with(kept));
                }
            }
            Outcome::Shrunk => {}
            Outcome::Truncated => prop_assert!(whole_text.starts_with(&texts[0])),
            Outcome::Refused => prop_assert_eq!((policy, messages.len()), (Oversize::Quarantine, 0)),
        }
    }

    #[test]
    fn shortening_is_not_more_than_needed(value in "[a-z]{600,3000}", limit in 480_usize..700) {
        let log = Log::with(&[("short", "1"), ("long", &value)]);
        let (messages, formatted) = messages(&log, &with(Oversize::Shrink, limit));
        prop_assert_eq!(formatted.outcome, Outcome::Shrunk);
        prop_assert_eq!(messages[0].len(), limit);
    }

    #[test]
    fn parts_are_numbered_from_one_and_full(value in "[a-z]{600,9000}", limit in 480_usize..700) {
        let log = Log::with(&[("long", &value)]);
        let (messages, _) = messages(&log, &with(Oversize::Split, limit));
        for (number, message) in (1..).zip(&messages) {
            let message = sound(message.clone())?;
            prop_assert_eq!(param(&message, "part"), Some(format!("{number}/{}", messages.len())));
            // Room is kept for the longest number.
            prop_assert!(number == messages.len() || message.len() + 6 >= limit);
        }
    }
}
