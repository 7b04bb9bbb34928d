//! Whole messages, to the byte.

use jiff::tz::TimeZone;
use sls_relay::syslog::body;
use sls_relay::syslog::framing::Format;
use sls_relay::syslog::message::{Facility, Severity};
use sls_relay::syslog::rfc5424::FormatSettings;

use crate::{Log, settings};

const DATA: &str =
    r#"[sls@32473 src="waf-project/waf-logstore" shard="0" cursor="MTcwOTIxMDA5Ng==" idx="3"]"#;

fn text(log: &Log, settings: &FormatSettings) -> String {
    let (message, formatted) = log.format(settings);
    assert_eq!(formatted.truncated_from, None);
    String::from_utf8(message).expect("a message is UTF-8")
}

#[test]
fn a_plain_log_is_a_header_its_identity_and_its_fields_in_order() {
    let mut log = Log::with(&[("status", "200"), ("request_path", "/a?b=c")]);
    log.tags = vec![(b"__receive_time__".to_vec(), b"1709210097".to_vec())];
    assert_eq!(
        text(&log, &settings()),
        format!(
            "<14>1 2024-02-29T12:34:56.000000Z relay1 waf - - {DATA} __topic__=waf_access_log||\
             __source__=10.0.0.1||__tag__:__receive_time__=1709210097||status=200||request_path=/a?b=c"
        )
    );
}

#[test]
fn nanoseconds_are_six_digits_in_the_time_and_whole_in_the_structured_data() {
    for (nanos, fraction, data) in [
        (123_456_789, "123456", " ns=\"123456789\""),
        (123_456_000, "123456", ""),
        (0, "000000", ""),
        (1, "000000", " ns=\"000000001\""),
        (999_999_999, "999999", " ns=\"999999999\""),
        // Not a time. Nothing is made up, and nothing is lost.
        (4_000_000_000, "000000", " ns=\"4000000000\""),
    ] {
        let log = Log { time_ns: Some(nanos), ..Log::default() };
        let identity = DATA.trim_end_matches(']');
        assert_eq!(
            text(&log, &settings()),
            format!(
                "<14>1 2024-02-29T12:34:56.{fraction}Z relay1 waf - - {identity}{data}] \
                 __topic__=waf_access_log||__source__=10.0.0.1"
            )
        );
    }
}

#[test]
fn the_zone_changes_the_way_the_time_is_written() {
    for (zone, time) in [
        ("Asia/Shanghai", "2024-02-29T20:34:56.500000+08:00"),
        ("America/New_York", "2024-02-29T07:34:56.500000-05:00"),
        ("Asia/Kolkata", "2024-02-29T18:04:56.500000+05:30"),
        ("America/St_Johns", "2024-02-29T09:04:56.500000-03:30"),
    ] {
        let zone = Some(TimeZone::get(zone).expect("a time zone database"));
        let settings = FormatSettings { zone, ..settings() };
        let log = Log { time_ns: Some(500_000_000), ..Log::default() };
        let message = text(&log, &settings);
        assert!(message.starts_with(&format!("<14>1 {time} relay1 waf - - [")), "{message}");
    }
}

#[test]
fn names_are_made_printable_and_cut_and_structured_data_is_escaped() {
    let settings = FormatSettings {
        hostname: format!("my host\n{}", "h".repeat(300)),
        app_name: "日志".to_owned() + &"a".repeat(60),
        facility: "local7".parse::<Facility>().expect("a facility"),
        severity: "debug".parse::<Severity>().expect("a severity"),
        sd_id: "origin@1".to_owned(),
        ..settings()
    };
    let mut log = Log { cursor: "a\"b\\c]d\ne\u{7f}".to_owned(), ..Log::default() };
    log.approximate = true;
    let (host, app) = (format!("my_host_{}", "h".repeat(247)), format!("______{}", "a".repeat(42)));
    assert_eq!(
        text(&log, &settings),
        format!(
            r#"<191>1 2024-02-29T12:34:56.000000Z {host} {app} - - [origin@1 src="waf-project/waf-logstore" shard="0" cursor="a\"b\\c\]d e " idx="3" approx="1"] __topic__=waf_access_log||__source__=10.0.0.1"#
        )
    );
    let nameless = FormatSettings {
        hostname: String::new(),
        app_name: String::new(),
        ..FormatSettings::default()
    };
    assert!(text(&log, &nameless).starts_with("<14>1 2024-02-29T12:34:56.000000Z - - - - ["));
}

#[test]
fn what_did_not_come_straight_from_sls_says_so_behind_everything_else() {
    let long = "v".repeat(2000);
    let mut log = Log::with(&[("k", &long)]);
    (log.time_ns, log.origin) = (Some(1), Some("refetch"));
    log.approximate = true;
    let message = text(&log, &settings());
    assert!(
        message.contains(r#" idx="3" approx="1" ns="000000001" origin="refetch"] __"#),
        "{message}"
    );
    let cut = FormatSettings { max_bytes: message.len() - 1, ..settings() };
    let message = String::from_utf8(log.format(&cut).0).expect("a message is UTF-8");
    assert!(message.contains(r#" origin="refetch" truncated=""#), "{message}");
    let sample = FormatSettings { format: Format::Sample, ..settings() };
    let message = text(&log, &sample);
    assert!(message.contains(" waf - - - ||__topic__"), "{message}");
    (log.origin, log.replay) = (Some("replay"), Some("r]1"));
    let message = text(&log, &settings());
    assert!(message.contains(r#" origin="replay" replay="r\]1"] __"#), "{message}");
}

#[test]
fn every_kind_of_escape_is_written_as_documented() {
    let mut log = Log::with(&[]);
    log.fields = vec![
        (b"a=b|c\\".to_vec(), b"x=y|z\\".to_vec()),
        (b"".to_vec(), b"".to_vec()),
        (b"c".to_vec(), b"1\n2\r3\x004\t5\x1b6\x7f7".to_vec()),
        (b"u".to_vec(), "中文 é \u{85}".as_bytes().to_vec()),
        // A lone continuation byte, a character without its end, an overlong slash.
        (b"i".to_vec(), b"\x80<\xe4\xb8>\xc0\xaf\xff".to_vec()),
    ];
    let message = text(&log, &settings());
    let (_, body) = message.split_once("] ").expect("structured data");
    assert_eq!(
        body,
        concat!(
            r"__topic__=waf_access_log||__source__=10.0.0.1||a\x3db\x7cc\\=x=y\x7cz\\||=",
            r"||c=1\n2\r3\x004\x095\x1b6\x7f7||u=中文 é ",
            "\u{85}",
            r"||i=\x80<\xe4\xb8>\xc0\xaf\xff"
        )
    );
}

#[test]
fn the_separator_s_first_character_is_escaped_in_names_of_our_own_too() {
    let settings = FormatSettings { separator: "_".to_owned(), ..settings() };
    let message = text(&Log::with(&[("a_b", "c_d")]), &settings);
    let (_, body) = message.split_once("] ").expect("structured data");
    assert_eq!(
        body,
        r"\x5f\x5ftopic\x5f\x5f=waf\x5faccess\x5flog_\x5f\x5fsource\x5f\x5f=10.0.0.1_a\x5fb=c\x5fd"
    );
}

#[test]
fn a_first_character_of_several_bytes_is_escaped_whole_and_its_neighbours_are_not() {
    // U+00B7 and U+00B0 share their first byte.
    let settings = FormatSettings { separator: "·:".to_owned(), ..settings() };
    let message = text(&Log::with(&[("k", "a·b°c")]), &settings);
    let (_, body) = message.split_once("] ").expect("structured data");
    assert_eq!(body, r"__topic__=waf_access_log·:__source__=10.0.0.1·:k=a\xc2\xb7b°c");
}

#[test]
fn the_sample_has_the_separator_first_and_values_on_one_line() {
    let settings = FormatSettings { format: sls_relay::syslog::Format::Sample, ..settings() };
    let mut log = Log::with(&[("a", "1\r\n2\0"), ("b", "x||y=z\\"), ("c", "中\ttab")]);
    log.tags = vec![(b"k".to_vec(), b"v\xff".to_vec())];
    assert_eq!(
        text(&log, &settings),
        "<14>1 2024-02-29T12:34:56.000000Z relay1 waf - - - ||__topic__=waf_access_log\
         ||__source__=10.0.0.1||__tag__:k=v\\xff||a=1  2 ||b=x||y=z\\||c=中\ttab"
    );
}

#[test]
fn a_cut_sample_says_so_in_structured_data() {
    let settings = FormatSettings { format: Format::Sample, max_bytes: 480, ..settings() };
    let log = Log::with(&[("a", &"é".repeat(400))]);
    let (message, formatted) = log.format(&settings);
    let message = String::from_utf8(message).expect("a message is UTF-8");
    let whole = text(&log, &FormatSettings { max_bytes: 10_000, ..settings });
    assert_eq!(formatted.truncated_from, Some(whole.len()));
    let head = format!(
        "<14>1 2024-02-29T12:34:56.000000Z relay1 waf - - [sls@32473 truncated=\"{}\"] \
         ||__topic__=waf_access_log||__source__=10.0.0.1||a=é",
        whole.len()
    );
    assert!(message.starts_with(&head), "{message}");
    assert!((479..=480).contains(&message.len()), "{}", message.len());
}

#[test]
fn a_cut_sample_ends_in_whole_escapes_at_every_limit() {
    let mut log = Log::with(&[]);
    log.fields = vec![(b"a".to_vec(), vec![0xff; 200])];
    for max_bytes in 480..500 {
        let settings = FormatSettings { format: Format::Sample, max_bytes, ..settings() };
        let (message, formatted) = log.format(&settings);
        assert!(formatted.truncated_from.is_some());
        let message = String::from_utf8(message).expect("a message is UTF-8");
        assert!(message.len() <= max_bytes && message.len() > max_bytes - 4);
        let (_, value) = message.rsplit_once("||a=").expect("the field");
        assert_eq!(value.replace("\\xff", ""), "", "limit {max_bytes}");
    }
}

#[test]
fn structured_data_that_leaves_no_room_is_reduced_to_the_mark() {
    let settings = FormatSettings { max_bytes: 480, ..settings() };
    let log = Log { cursor: "c".repeat(1_000), ..Log::default() };
    let (message, formatted) = log.format(&settings);
    let whole = log.format(&FormatSettings { max_bytes: 10_000, ..settings }).0.len();
    assert_eq!(formatted.truncated_from, Some(whole));
    assert_eq!(
        String::from_utf8(message).expect("a message is UTF-8"),
        format!(
            "<14>1 2024-02-29T12:34:56.000000Z relay1 waf - - [sls@32473 truncated=\"{whole}\"]"
        )
    );
}

#[test]
fn the_reader_says_where_a_body_is_broken() {
    for (text, code) in [
        (&b"a=1||b"[..], "syslog.body_no_equals"),
        (b"a=1||", "syslog.body_no_equals"),
        (b"a=\\q", "syslog.body_escape"),
        (b"a=\\", "syslog.body_escape"),
        (b"a=\\x4", "syslog.body_escape"),
        (b"a=\\xg0", "syslog.body_escape"),
        (b"a=1|2", "syslog.body_unescaped"),
        (b"a=1\n", "syslog.body_unescaped"),
        (b"a=\xff", "syslog.body_not_utf8"),
    ] {
        let error = body::decode(text, "||").expect_err("a broken body");
        assert_eq!(error.code(), code, "{:?}", String::from_utf8_lossy(text));
    }
    assert_eq!(
        body::decode(b"a=1|2", "").expect_err("no separator").code(),
        "syslog.body_separator"
    );
    assert_eq!(body::decode(b"", "||"), Ok(Vec::new()));
}
