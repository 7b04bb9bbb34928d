//! Any text at all is answered with settings or problems, never with a panic, and never
//! with the secret in it. `PROPTEST_CASES` makes it longer.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;
use sls_relay::config;

const SECRET: &str = "wJalrXUtnFEMIhidden";

const FILE: &str = r#"
[spool]
dir = "/var/lib/sls-relay/spool"
max_bytes = "500 MB"
[[source]]
name = "wäf"
endpoint = "https://cn-hangzhou.log.aliyuncs.com"
project = "waf-project"
logstore = "waf-logs"
consumer_group = "siem"
start = 2026-01-31T08:00:00Z
access_key_id = "LTAI"
access_key_secret = "wJalrXUtnFEMIhidden"
heartbeat_interval = "2 s"
[[destination]]
to = "tcp://siem.example"
facility = 16
required = true
[log]
level = "info"
"#;

/// What is taken away or put in: the signs TOML is made of, and some of several bytes.
const SIGNS: [&str; 18] = [
    "", "", "", "\"", "'", "\"\"\"", "=", "[", "]", "{", "}", "#", "\n", "\r\n", ",", ".", "ö€",
    "\u{0}",
];

fn show(text: &str) -> String {
    match config::parse(text, "sls-relay.toml", &|_| None, "this-host") {
        Ok(loaded) => format!("{loaded:?}"),
        Err(problems) => format!("{problems}{}", problems.render(true)),
    }
}

/// Anywhere, but as often around the secret.
fn position() -> impl Strategy<Value = usize> {
    let secret = FILE.chars().count() - FILE[FILE.find("access_key_id").unwrap()..].chars().count();
    prop_oneof![0..FILE.chars().count(), secret..secret + 100]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_file_shows_no_secret(
        edits in prop::collection::vec((position(), 0..3_usize, 0..SIGNS.len()), 1..6)
    ) {
        let mut text: Vec<char> = FILE.chars().collect();
        for (at, removed, sign) in edits {
            let at = at.min(text.len());
            let end = (at + removed).min(text.len());
            text.splice(at..end, SIGNS[sign].chars());
        }
        let text: String = text.into_iter().collect();
        let shown = show(&text);
        prop_assert!(!shown.contains(SECRET), "{text}\n\n{shown}");
    }

    #[test]
    fn no_text_panics(text in "[\\[\\]{}=\"'#.,:a-c0-9\\n \\rö€\\\\]{0,80}") {
        show(&text);
        show(&format!("[[source]]\n{text}"));
    }
}
