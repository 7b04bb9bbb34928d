//! The commands as their user meets them: what they print, how they end, what they leave alone.

use serde_json::{Value, json};
use sls_relay::spool::{Batch, Damage, MIN_QUOTA, StoredBatch};

use crate::asking::{bytes, json, lines, picture, places, run};
use crate::oracle::has;
use crate::scene::{Maker, Scene, open, runtime};

/// Every command, for a spool that has a batch 3 and something in the quarantine.
const COMMANDS: [&[&str]; 14] = [
    &["status"],
    &["list", "--contains", "curl"],
    &["show", "3"],
    &["show", "3", "--raw"],
    &["cat", "--since", "2025-10-11T00:00:00Z"],
    &["cat", "--raw"],
    &["grep", "curl"],
    &["grep", "curl", "--count"],
    &["stats", "--by", "topic"],
    &["stats", "--by", "hour", "--stats"],
    &["gaps"],
    &["verify"],
    &["quarantine", "list"],
    &["quarantine", "show", "batch-7.bin", "--raw"],
];

/// Puts the body of batch 7 into the quarantine and a gap into the ledger.
fn with_quarantine(scene: &Scene) {
    let spool = open(scene.path());
    let (key, batch, _) = std::iter::repeat_with({
        let mut maker = Maker::new(5);
        move || maker.next()
    })
    .nth(7)
    .unwrap();
    let Batch { cursor, next_cursor, body, .. } = batch;
    let found = spool.reader(7).read().unwrap().unwrap();
    let sls_relay::spool::Item::Batch(stored) = found else { panic!("{found:?}") };
    assert_eq!((&stored.header.cursor, &stored.body[..]), (&cursor, &body[..]));
    spool
        .quarantine(&StoredBatch { header: stored.header, body: body.to_vec() }, "why \u{1b}[2J")
        .unwrap();
    let gap = json!({
        "what": "gap", "source": key.source, "shard": key.shard,
        "cursor": cursor, "next_cursor": next_cursor, "groups": 3,
    });
    spool.note(&gap).unwrap();
    spool
        .set_aside(&Damage {
            segment: 1,
            from: 32,
            to: 64,
            first_seq: 0,
            end_seq: 0,
            harmless: true,
            lost: vec![],
        })
        .unwrap();
    spool.close();
}

#[test]
fn no_question_changes_anything() {
    let scene = Scene::new();
    with_quarantine(&scene);
    let before = picture(scene.path());
    for command in COMMANDS {
        for form in [&[][..], &["--json"]] {
            let raw = command.contains(&"--raw");
            if raw && !form.is_empty() {
                continue;
            }
            let output = run(scene.path(), &[command, form].concat());
            assert!(output.status.success(), "{command:?} {form:?}: {output:?}");
            assert!(raw || !output.stdout.is_empty(), "{command:?} {form:?} says nothing");
            // What is in the logs can do nothing to a terminal.
            let harmless = |byte: &u8| *byte == b'\n' || *byte == b'\t' || *byte >= b' ';
            assert!(raw || output.stdout.iter().all(harmless), "{command:?} {form:?}");
            if !form.is_empty() {
                lines(&output.stdout);
            }
            assert!(picture(scene.path()) == before, "{command:?} {form:?} changed something");
        }
    }
}

#[test]
fn every_byte_of_a_log_and_of_a_body_comes_out_as_it_went_in() {
    let scene = Scene::new();
    let shown = json(scene.path(), &["cat"]);
    assert_eq!(shown.len(), scene.logs.len());
    let (mut odd, mut raw) = (0, Vec::new());
    for (line, log) in shown.iter().zip(&scene.logs) {
        let fields = line["fields"].as_array().unwrap();
        let pairs: Vec<_> = fields.iter().map(|pair| (bytes(&pair[0]), bytes(&pair[1]))).collect();
        assert_eq!(pairs, log.pairs, "{line}");
        assert_eq!((&line["time"], &line["time_ns"]), (&json!(log.time), &json!(log.time_ns)));
        assert_eq!((&line["source"], &line["shard"]), (&json!(log.source), &json!(log.shard)));
        let cursor = log.cursor.as_ref().unwrap_or(&log.batch_cursor);
        assert_eq!(line["cursor"], **cursor);
        odd += usize::from(log.pairs.iter().any(|(_, value)| std::str::from_utf8(value).is_err()));
        let values: Vec<&[u8]> = log.pairs.iter().map(|(_, value)| &value[..]).collect();
        raw.extend(values.join(&b'\t'));
        raw.push(b'\n');
    }
    assert!(odd > 10, "hardly any log has bytes that are no text: {odd}");
    assert!(run(scene.path(), &["cat", "--raw"]).stdout == raw);
    for (seq, body) in scene.bodies.iter().enumerate() {
        let raw = run(scene.path(), &["show", &seq.to_string(), "--raw"]);
        assert!(raw.stdout == *body, "batch {seq}");
    }
    with_quarantine(&scene);
    let copy = run(scene.path(), &["quarantine", "show", "batch-7.bin", "--raw"]);
    assert!(copy.stdout == scene.bodies[7]);
    let about = &json(scene.path(), &["quarantine", "show", "batch-7.bin"])[0];
    assert_eq!(
        (&about["bytes"], &about["told"]["seq"]),
        (&json!(scene.bodies[7].len()), &json!(7))
    );
    for name in ["no-such.bin", "../ledger.jsonl", "", "batch-7.partial"] {
        let output = run(scene.path(), &["quarantine", "show", name]);
        assert_eq!(output.status.code(), Some(69), "{name}");
    }
}

#[test]
fn an_answer_that_cannot_be_written_does_not_end_as_a_whole_one() {
    let scene = Scene::new();
    for command in [&["cat"][..], &["status"], &["show", "3", "--raw"]] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let output = crate::asking::command(scene.path(), command)
            .stdout(full)
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap()
            .wait_with_output()
            .unwrap();
        assert_eq!(output.status.code(), Some(74), "{command:?}: {output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("No space left"), "{output:?}");
    }
}

#[test]
fn a_grep_ends_as_grep_does() {
    let scene = Scene::new();
    let holding = |text: &[u8]| scene.logs.iter().filter(|log| has(log, text)).count();
    let ends = |args: &[&str]| {
        let output = run(scene.path(), &[&["grep"], args].concat());
        (output.status.code().unwrap(), output.stdout.iter().filter(|byte| **byte == b'\n').count())
    };
    let curl = holding(b"curl");
    assert!(curl > 0);
    assert_eq!(ends(&["curl"]), (0, curl));
    assert_eq!(ends(&["CuRl"]), (1, 0));
    let either = ends(&["-i", "CuRl"]);
    assert!(either.0 == 0 && either.1 >= curl, "{either:?}");
    assert_eq!(ends(&["curl", "--limit", "2"]), (0, 2));
    assert_eq!(ends(&["no such text anywhere"]), (1, 0));
    assert_eq!(ends(&["curl", "--last", "0", "--since", "now"]), (1, 0));
    for (pattern, count, code) in [("curl", curl, 0), ("no such text anywhere", 0, 1)] {
        let output = run(scene.path(), &["grep", pattern, "--count"]);
        assert_eq!(output.stdout, format!("{count}\n").into_bytes());
        assert_eq!(output.status.code(), Some(code));
    }
    let absent = run(&scene.path().join("nothing"), &["grep", "curl"]);
    assert_eq!(absent.status.code(), Some(69), "{absent:?}");
    let misused = run(scene.path(), &["grep", "curl", "--first", "3", "--last", "2"]);
    assert_eq!(misused.status.code(), Some(64), "{misused:?}");
}

#[test]
fn a_limit_ends_an_answer_and_says_so() {
    let scene = Scene::new();
    let first: Vec<_> = scene.logs.iter().take(25).map(|log| (log.seq, log.index)).collect();
    assert_eq!(places(&json(scene.path(), &["cat", "--limit", "25"])), first);
    assert_eq!(json(scene.path(), &["cat", "--limit", "0"]), [] as [Value; 0]);
    let listed = json(scene.path(), &["list", "--limit", "5"]);
    assert_eq!(listed.iter().map(|line| &line["seq"]).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    let said = run(scene.path(), &["list", "--limit", "5"]);
    assert_eq!(said.stdout.iter().filter(|byte| **byte == b'\n').count(), 6);
    assert!(String::from_utf8_lossy(&said.stderr).contains("more batches"), "{said:?}");
    let all = run(scene.path(), &["list", "--limit", &scene.bodies.len().to_string()]);
    assert_eq!(all.stderr, b"", "nothing is left out");
    let shown =
        String::from_utf8(run(scene.path(), &["show", "3", "--limit", "4"]).stdout).unwrap();
    assert!(shown.ends_with("\n14 more logs; --limit shows more\n"), "{shown}");
    let keys = run(scene.path(), &["cat", "--keys", "host,none", "--limit", "1", "--raw"]).stdout;
    let host = &scene.logs[0].pairs.iter().find(|(key, _)| key == b"host").unwrap().1;
    assert_eq!(keys, [&host[..], b"\t\n"].concat());
}

#[test]
fn an_empty_spool_answers_everything_with_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    spool.close();
    for command in COMMANDS {
        let output = run(dir.path(), command);
        let code = match command[0] {
            "show" => 69,
            "quarantine" if command[1] == "show" => 69,
            "grep" => 1,
            _ => 0,
        };
        assert_eq!(output.status.code(), Some(code), "{command:?}: {output:?}");
    }
    let status = &json(dir.path(), &["status"])[0];
    assert_eq!(status["batches_waiting"], 0, "{status}");
    assert!(status["oldest_log"].is_null() && status["oldest_age_seconds"].is_null(), "{status}");
}

#[test]
fn a_status_tells_what_waits_for_whom_and_from_when_it_is() {
    let scene = Scene::new();
    with_quarantine(&scene);
    let status = &json(scene.path(), &["status"])[0];
    let confirmed = scene.logs.iter().filter(|log| (log.seq, log.index) < scene.needed).count();
    let batches = scene.bodies.len() as u64 - scene.needed.0;
    let expected = json!({
        "seq": scene.needed.0, "index": scene.needed.1,
        "batches_waiting": batches, "logs_waiting": scene.logs.len() - confirmed,
    });
    assert_eq!(status["destinations"], json!({ "syslog": expected }), "{status}");
    let time = |time: u32| {
        let time = jiff::Timestamp::from_second(i64::from(time)).unwrap();
        json!(time.to_string())
    };
    let times = || scene.logs.iter().map(|log| log.time);
    assert_eq!(status["oldest_log"], time(times().min().unwrap()));
    assert_eq!(status["newest_log"], time(times().max().unwrap()));
    assert_eq!((&status["quarantined"], &status["gaps"]), (&json!(2), &json!(1)), "{status}");
    assert_eq!(status["shards"].as_array().unwrap().len(), 3);
    assert!(status.get("last_error").is_none(), "only who holds the spool knows it");
    // The process that has the spool open knows more.
    let spool = open(scene.path());
    let (lines, _) =
        crate::asking::answer(&spool.inspection(), &sls_relay::inspect::Question::Status);
    assert_eq!(lines[0]["max_bytes"], MIN_QUOTA);
    assert_eq!(lines[0]["destinations"], status["destinations"]);
    assert!(lines[0]["last_error"].is_null() && lines[0]["held_by"].is_string(), "{}", lines[0]);
    spool.close();
}

#[test]
fn what_lies_elsewhere_in_time_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let mut maker = Maker::new(1);
    let mut small = 0;
    runtime().block_on(async {
        for round in 0..12u32 {
            let (key, batch, _) = maker.next();
            small += batch.body.len();
            let time = batch.min_time;
            crate::scene::append(&spool, key.clone(), batch.clone()).await;
            // Something large between the small ones, at another time.
            let mut large = batch;
            large.cursor = large.next_cursor.clone();
            large.next_cursor = format!("large {round}");
            large.first_group_cursor = None;
            large.body = vec![0; 1 << 20].into();
            large.raw_size = 1 << 20;
            large.compression = sls_relay::spool::Compression::None;
            (large.min_time, large.max_time) = (time - 10_000_000, time - 10_000_000);
            let other = sls_relay::spool::ShardKey { shard: 10 + round, ..key };
            crate::scene::append(&spool, other, large).await;
        }
    });
    spool.close();
    let spool = open(dir.path());
    spool.close();
    let output = run(dir.path(), &["cat", "--since", "2025-10-11T00:00:00Z", "--stats", "--json"]);
    assert_eq!(lines(&output.stdout).len(), 12 * 18);
    let said = String::from_utf8(output.stderr).unwrap();
    let numbers: Vec<u64> = said.split(' ').filter_map(|word| word.parse().ok()).collect();
    let [read, of] = numbers[..] else { panic!("{said}") };
    assert!(of > 12 << 20, "{said}");
    assert!(read > small as u64 && read < small as u64 + of / 100, "{said}");
}
