//! Every filter finds what a naive search over all logs finds.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use jiff::Timestamp;
use sls_relay::inspect::{By, Clock, FieldTest, Octets, Only, Question, Selection};
use sls_relay::spool::inspect::Inspection;

use crate::asking::{answer, json, places};
use crate::oracle::{has, is_meant};
use crate::scene::{Known, ONE, Scene};

#[test]
fn each_flag_finds_what_a_naive_search_finds() {
    let scene = Scene::new();
    let log = &scene.logs[200];
    let text = |text: &str| OsString::from(text);
    let octets = |text: &str| Octets(text.as_bytes().to_vec());
    let at = |log: &Known| Timestamp::from_second(i64::from(log.time)).unwrap();
    let (early, late) = (at(&scene.logs[90]), at(&scene.logs[300]));
    let received = Timestamp::from_millisecond(log.received).unwrap();
    let cursor = log.cursor.clone().unwrap();
    let host = String::from_utf8(value_of(log, b"host").to_vec()).unwrap();
    let all = Selection::default;
    let test = |is: Option<&str>, contains: Option<&str>| {
        vec![FieldTest { name: octets("host"), is: is.map(octets), contains: contains.map(octets) }]
    };
    let topic = FieldTest { name: octets("__topic__"), is: None, contains: None };
    let odd = |prefix: &[u8], bytes: &[u8]| OsString::from_vec([prefix, bytes].concat());
    for (flags, selection) in [
        (vec![], all()),
        (
            vec![text("--since"), text(&early.to_string())],
            Selection { since: Some(early), ..all() },
        ),
        (
            vec![
                text("--since"),
                text(&early.to_string()),
                text("--until"),
                text(&late.to_string()),
            ],
            Selection { since: Some(early), until: Some(late), ..all() },
        ),
        (
            vec![text("--received"), text("--since"), text(&received.to_string())],
            Selection { since: Some(received), by: Clock::Receive, ..all() },
        ),
        (
            vec![text("--received"), text("--until"), text(&received.to_string())],
            Selection { until: Some(received), by: Clock::Receive, ..all() },
        ),
        (
            vec![text("--source"), text("other")],
            Selection { source: Some("other".into()), ..all() },
        ),
        (
            vec![text("--source"), text("demo/waf")],
            Selection { source: Some("demo/waf".into()), ..all() },
        ),
        (vec![text("--source"), text(ONE)], Selection { source: Some(ONE.into()), ..all() }),
        (vec![text("--shard"), text("1")], Selection { shard: Some(1), ..all() }),
        (
            vec![text("--cursor"), text(&cursor)],
            Selection { cursor: Some(cursor.clone()), ..all() },
        ),
        (
            vec![odd(b"--topic=", b"topic \xff\n")],
            Selection { topic: Some(Octets(b"topic \xff\n".to_vec())), ..all() },
        ),
        (vec![text("--where"), text("__topic__")], Selection { fields: vec![topic], ..all() }),
        (
            vec![text("--where"), text(&format!("host={host}"))],
            Selection { fields: test(Some(&host), None), ..all() },
        ),
        (
            vec![text("--where"), text(&format!("host~{}", &host[..5]))],
            Selection { fields: test(None, Some(&host[..5])), ..all() },
        ),
        (
            vec![text("--contains"), text("curl")],
            Selection { contains: vec![octets("curl")], ..all() },
        ),
        (
            vec![odd(b"--contains=", b"\xff")],
            Selection { contains: vec![Octets(vec![0xff])], ..all() },
        ),
        (
            vec![text("--first"), text("7"), text("--last"), text("9")],
            Selection { from_seq: Some(7), to_seq: Some(10), ..all() },
        ),
        (vec![text("--waiting")], Selection { only: Only::Waiting, ..all() }),
        (vec![text("--delivered")], Selection { only: Only::Delivered, ..all() }),
    ] {
        let expected = meant(&scene, &selection);
        assert!(!expected.is_empty(), "{flags:?} is about nothing");
        assert!(flags.is_empty() || expected.len() < scene.logs.len(), "{flags:?} is about all");
        let asked = |command: &str| [&[OsString::from(command)], &flags[..]].concat();
        assert_eq!(places(&json(scene.path(), &asked("cat"))), expected, "{flags:?}");
        let listed = json(scene.path(), &asked("list"));
        let listed: Vec<u64> = listed.iter().map(|line| line["seq"].as_u64().unwrap()).collect();
        assert_eq!(listed, batches(&expected), "{flags:?}");
        let counted = json(scene.path(), &asked("stats"));
        let counted: u64 = counted.iter().map(|line| line["logs"].as_u64().unwrap()).sum();
        assert_eq!(counted, expected.len() as u64, "{flags:?}");
    }
}

/// `SLS_RELAY_SEED` repeats a run.
#[test]
fn any_combination_of_filters_finds_what_a_naive_search_finds() {
    let seed = std::env::var("SLS_RELAY_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("SLS_RELAY_SEED={seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let scene = Scene::new();
    let spool = Inspection::open(scene.path()).unwrap();
    let mut found = 0;
    for case in 0..60 {
        let selection = any(&mut rng, &scene.logs);
        let expected = meant(&scene, &selection);
        let asked = format!("case {case}: {selection:?}");
        found += usize::from(!expected.is_empty());
        let ask = |question: &Question| {
            let (lines, summary) = answer(&spool, question);
            assert_eq!(summary["damage"], 0, "{asked}");
            (lines, summary)
        };
        let question = Question::Cat { selection: selection.clone(), limit: None, follow: false };
        assert_eq!(places(&ask(&question).0), expected, "{asked}");
        let question = Question::List { selection: selection.clone(), limit: None, follow: false };
        let listed: Vec<u64> =
            ask(&question).0.iter().map(|line| line["seq"].as_u64().unwrap()).collect();
        assert_eq!(listed, batches(&expected), "{asked}");
        let by = *rng.choice(&[By::Source, By::Shard, By::Topic, By::Hour]).unwrap();
        let question = Question::Stats { by, selection: selection.clone() };
        assert_eq!(ask(&question).1["logs"], expected.len(), "{by:?} {asked}");
        let log = rng.choice(&scene.logs).unwrap();
        let value = &log.pairs[rng.usize(..log.pairs.len())].1;
        let pattern = piece(&mut rng, value);
        let holding = scene.logs.iter().filter(|log| has(log, &pattern));
        let holding = holding.filter(|log| is_meant(log, &selection, scene.needed)).count();
        let question = Question::Grep {
            pattern: Octets(pattern),
            ignore_case: false,
            count: true,
            selection,
            limit: None,
            follow: false,
        };
        assert_eq!(ask(&question).1["logs"], holding, "{asked}");
    }
    assert!(found > 8, "hardly any selection was about something: {found}");
}

/// A selection about things that occur, each filter in about every third.
fn any(rng: &mut fastrand::Rng, logs: &[Known]) -> Selection {
    let by = if rng.bool() { Clock::Log } else { Clock::Receive };
    let moment = |rng: &mut fastrand::Rng| {
        let log = &logs[rng.usize(..logs.len())];
        let ms = match by {
            Clock::Log => {
                i64::from(log.time) * 1000 + i64::from(log.time_ns.unwrap_or(0) / 1_000_000)
            }
            Clock::Receive => log.received,
        };
        Timestamp::from_millisecond(ms + rng.i64(-1..=1)).unwrap()
    };
    let log = &logs[rng.usize(..logs.len())];
    let (key, value) = log.pairs[rng.usize(..log.pairs.len())].clone();
    let mut some = |of: u32| rng.u32(..of) == 0;
    let (a, b, c, d, e, f, g, h) =
        (some(3), some(3), some(3), some(4), some(12), some(5), some(5), some(5));
    let mut selection = Selection {
        since: a.then(|| moment(rng)),
        until: b.then(|| moment(rng)),
        by,
        source: c.then(|| if rng.bool() { log.source.into() } else { "waf".into() }),
        shard: d.then_some(log.shard),
        cursor: e.then(|| log.cursor.clone().unwrap_or_else(|| log.batch_cursor.clone())),
        topic: f.then(|| Octets(log.topic.clone())),
        ..Selection::default()
    };
    if g {
        let (is, contains) = match rng.u8(..3) {
            0 => (None, None),
            1 => (Some(Octets(value.clone())), None),
            _ => (None, Some(Octets(piece(rng, &value)))),
        };
        selection.fields.push(FieldTest { name: Octets(key), is, contains });
    }
    if h {
        selection.contains.push(Octets(piece(rng, &value)));
    }
    if rng.u8(..4) == 0 {
        selection.from_seq = Some(rng.u64(..30));
        selection.to_seq = selection.from_seq.map(|from| from + rng.u64(..30));
    }
    selection.only = *rng.choice(&[Only::All, Only::All, Only::Waiting, Only::Delivered]).unwrap();
    selection
}

/// Some bytes out of a value.
fn piece(rng: &mut fastrand::Rng, value: &[u8]) -> Vec<u8> {
    let start = rng.usize(..=value.len());
    let end = (start + rng.usize(..6)).min(value.len());
    value[start..end].to_vec()
}

fn value_of<'a>(log: &'a Known, name: &[u8]) -> &'a [u8] {
    &log.pairs.iter().find(|(key, _)| key == name).unwrap().1
}

fn meant(scene: &Scene, selection: &Selection) -> Vec<(u64, u32)> {
    let meant = scene.logs.iter().filter(|log| is_meant(log, selection, scene.needed));
    meant.map(|log| (log.seq, log.index)).collect()
}

fn batches(places: &[(u64, u32)]) -> Vec<u64> {
    places.iter().map(|(seq, _)| *seq).collect::<BTreeSet<_>>().into_iter().collect()
}
