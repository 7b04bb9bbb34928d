use std::collections::HashSet;
use std::sync::LazyLock;

use prost::Message;

use super::*;

const SEED: u64 = 7;

fn value<'a>(log: &'a Log, key: &str) -> &'a [u8] {
    let mut found = log.contents.iter().filter(|c| c.key == key.as_bytes());
    let value = &found.next().unwrap_or_else(|| panic!("no {key}")).value;
    assert!(found.next().is_none(), "{key} occurs twice");
    value
}

fn logs() -> &'static [Log] {
    static LOGS: LazyLock<Vec<Log>> = LazyLock::new(|| Waf::new(SEED).group(3, 0, 20_000).logs);
    &LOGS
}

#[test]
fn the_same_seed_shard_and_number_give_the_same_log() {
    for n in 0..500 {
        assert_eq!(Waf::new(SEED).log(1, n), Waf::new(SEED).log(1, n));
        assert_ne!(Waf::new(SEED).log(1, n), Waf::new(SEED + 1).log(1, n));
        assert_ne!(Waf::new(SEED).log(1, n), Waf::new(SEED).log(2, n));
    }
}

#[test]
fn logs_have_the_size_and_number_of_fields_of_real_ones() {
    let (mut octets, mut fields, mut inside) = (0, 0, 0);
    for log in logs() {
        let size = log.encoded_len();
        inside += usize::from((1_000..=2_500).contains(&size));
        octets += size;
        fields += log.contents.len();
    }
    assert!((1_000..=2_500).contains(&(octets / 20_000)), "mean of {} octets", octets / 20_000);
    assert!((33..=38).contains(&(fields / 20_000)), "mean of {} fields", fields / 20_000);
    assert!(inside > 19_800, "only {inside} of 20,000 between 1 and 2.5 KB");
}

#[test]
fn the_trace_id_gives_back_shard_and_number() {
    for (shard, n) in [(0, 0), (0, 1), (1, 0), (u32::MAX, u64::MAX), (7, 1 << 40)] {
        assert_eq!(id_of(&trace_id(shard, n)), Some((shard, n)));
    }
    for (n, log) in logs().iter().enumerate() {
        assert_eq!(id_of(value(log, "request_traceid")), Some((3, n as u64)));
    }
}

#[test]
fn neighbouring_trace_ids_look_unrelated() {
    let prefixes: HashSet<_> = (0..10_000).map(|n| trace_id(0, n)[..8].to_vec()).collect();
    assert!(prefixes.len() > 9_900, "{} prefixes", prefixes.len());
}

#[test]
fn a_damaged_trace_id_is_not_taken_for_another() {
    let id = trace_id(5, 99);
    assert_eq!(id_of(&id[..31]), None);
    assert_eq!(id_of(&id.to_ascii_uppercase()), None);
    assert_eq!(id_of(b"00000000000000000000000000000000"), None);
    for at in 0..32 {
        for digit in *b"0123456789abcdef" {
            let mut damaged = id;
            damaged[at] = digit;
            assert_eq!(id_of(&damaged).is_some(), damaged == id);
        }
    }
}

#[test]
fn every_kind_of_difficult_input_occurs() {
    let contains_bars = |text: &[u8]| text.windows(2).any(|pair| pair == b"||");
    let mut seen = HashSet::new();
    for log in logs() {
        let mut keys = HashSet::new();
        for content in &log.contents {
            let (key, value) = (&content.key[..], &content.value[..]);
            for byte in [",", "\"", "'", "=", "]", "\\", "\r", "\n", "\0", "\t", "\u{1b}"] {
                if value.contains(&byte.as_bytes()[0]) {
                    seen.insert(byte);
                }
            }
            let marks = [
                ("empty", value.is_empty()),
                ("not ASCII", std::str::from_utf8(value).is_ok_and(|text| !text.is_ascii())),
                ("not UTF-8", std::str::from_utf8(value).is_err()),
                ("64 KB", value.len() == 64 * 1024),
                ("ends in a backslash", value.ends_with(b"\\")),
                ("ends in a bar", value.ends_with(b"|")),
                ("__time__", key == b"__time__"),
                ("key twice", !keys.insert(key)),
                ("strange key", contains_bars(key)),
                ("separator", contains_bars(value)),
            ];
            seen.extend(marks.iter().filter(|(_, holds)| *holds).map(|(mark, _)| mark));
        }
    }
    assert_eq!(seen.len(), 11 + 10, "only {seen:?}");
}

#[test]
fn large_values_are_rare_and_bytes_that_are_not_utf8_are_not() {
    let large =
        logs().iter().filter(|log| log.contents.iter().any(|c| c.value.len() > 60_000)).count();
    assert!((3..=25).contains(&large), "{large} large values in 20,000 logs");
    let hostile = logs()
        .iter()
        .filter(|log| log.contents.iter().any(|c| std::str::from_utf8(&c.value).is_err()))
        .count();
    assert!((1_000..=6_000).contains(&hostile), "{hostile} logs that are not UTF-8");
}

#[test]
fn times_increase_and_some_have_nanoseconds() {
    let mut last = (0, 0);
    let (mut given, mut odd) = (0, 0);
    for log in logs() {
        assert!(log.time >= last.0);
        if let Some(ns) = log.time_ns {
            assert!(ns < 1_000_000_000);
            given += 1;
            odd += u32::from(ns % 1_000 != 0);
        }
        last = (log.time, log.time_ns.unwrap_or(0));
    }
    assert!((1_000..10_000).contains(&given), "{given} with nanoseconds");
    assert!(odd > 500, "{odd} not a multiple of 1,000");
    assert_eq!(value(&Waf::new(SEED).log(0, 0), "time"), b"2025-10-11T08:00:00+08:00");
    Waf::new(SEED).log(u32::MAX, u64::MAX);
}

#[test]
fn plain_logs_are_plain_and_small() {
    for n in 0..20_000 {
        let log = Waf::plain(SEED).log(1, n);
        assert!(log.encoded_len() < 6_000);
        let mut keys = HashSet::new();
        for content in &log.contents {
            assert!(content.key.iter().chain(&content.value).all(|&byte| is_plain(byte)));
            assert!(keys.insert(&content.key));
        }
        assert_eq!(id_of(value(&log, "request_traceid")), Some((1, n)));
    }
}

#[test]
fn a_group_holds_its_logs_and_survives_the_wire() {
    let group = Waf::new(SEED).group(2, 100, 50);
    assert_eq!(LogGroup::decode(&group.encode_to_vec()[..]).unwrap(), group);
    assert_eq!(group.logs.len(), 50);
    assert_eq!(group.logs[7], Waf::new(SEED).log(2, 107));
    assert_eq!(Waf::new(SEED).group(2, 0, 0).logs, []);
}

#[test]
fn expected_fields_start_with_topic_source_and_tags() {
    let group = Waf::new(SEED).group(2, 0, 1);
    let fields = fields_of(&group.logs[0], &group);
    let keys: Vec<&[u8]> = fields.iter().take(5).map(|(key, _)| &key[..]).collect();
    let expected: [&[u8]; 5] = [
        b"__topic__",
        b"__source__",
        b"__tag__:__client_ip__",
        b"__tag__:__receive_time__",
        b"time",
    ];
    assert_eq!(keys, expected);
    assert_eq!(fields.len(), 4 + group.logs[0].contents.len());
}
