//! `sls-relay check` online: what it finds, and that it consumes and changes nothing. The real
//! binary against an emulator in this process.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

#[path = "support/pipeline.rs"]
mod pipeline;

use std::path::Path;
use std::process::{Command, Stdio};

use pipeline::{Ends, GROUP, Running, wait_for};
use serde_json::Value;
use sls_relay::emulator::sls::{Fault, FaultKind, Operation, cursor_number, cursor_text};

const DAY: i64 = 86_400;

/// What one run of `check` came to.
struct Checked {
    code: i32,
    text: String,
    document: Value,
}

impl Checked {
    /// The findings about this, with their levels.
    fn about(&self, what: &str) -> Vec<(&str, &str)> {
        let findings = self.document["findings"].as_array().unwrap();
        findings
            .iter()
            .filter(|one| one["what"] == what)
            .map(|one| (one["level"].as_str().unwrap(), one["detail"].as_str().unwrap()))
            .collect()
    }

    /// The only finding about this.
    #[track_caller]
    fn one(&self, what: &str) -> (&str, &str) {
        let about = self.about(what);
        assert_eq!(about.len(), 1, "{what}: {about:?}\n{}", self.text);
        about[0]
    }

    fn codes(&self) -> Vec<&str> {
        let findings = self.document["findings"].as_array().unwrap();
        findings.iter().filter_map(|one| one["code"].as_str()).collect()
    }
}

/// Something else in place of what a right configuration says.
#[derive(Default)]
struct Otherwise<'a> {
    endpoint: Option<&'a str>,
    project: Option<&'a str>,
    secret: Option<&'a str>,
    lines: &'a str,
    flags: &'a [&'a str],
}

async fn check(ends: &Ends, dir: &Path, other: Otherwise<'_>) -> Checked {
    let settings = ends.settings(&dir.join("spool"));
    let (source, spool) = (&settings.sources[0], &settings.spool.dir);
    let path = dir.join("relay.toml");
    let text = format!(
        "[spool]\ndir = \"{}\"\nmax_bytes = \"256 MiB\"\nmin_free_bytes = 0\n[[source]]\n\
         endpoint = \"{}\"\nproject = \"{}\"\nlogstore = \"{}\"\nconsumer_group = \"{GROUP}\"\n\
         {}\n[[destination]]\nto = \"{}\"\n\
         settle = \"200 ms\"\n",
        spool.display(),
        other.endpoint.map_or_else(|| ends.emulator.endpoint(), str::to_owned),
        other.project.unwrap_or(&source.project),
        source.logstore,
        other.lines,
        settings.destinations[0].target,
    );
    std::fs::write(&path, text).unwrap();
    let run = async |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sls-relay"));
        command.args(["check", "--config", path.to_str().unwrap()]).args(other.flags).args(more);
        command.stdin(Stdio::null()).env_clear();
        command.env("SLS_AK_ID", ends.key_id());
        command.env("SLS_AK_KEY", other.secret.unwrap_or(ends.key_secret()));
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let said = String::from_utf8([output.stdout.clone(), output.stderr].concat()).unwrap();
        for secret in [ends.key_secret(), "not-the-secret"] {
            assert!(!said.contains(secret), "{said}");
        }
        (output.status.code().unwrap(), output.stdout, said)
    };
    let (code, _, text) = run(&[]).await;
    let (json_code, document, said) = run(&["--json"]).await;
    assert_eq!(code, json_code, "{text}\n{said}");
    let document = serde_json::from_slice(&document).unwrap();
    Checked { code, text, document }
}

/// The calls that `check` made. All of them only read.
fn calls(ends: &Ends) -> Vec<&'static str> {
    let reads = [
        "GetProject",
        "GetLogStore",
        "ListConsumerGroup",
        "ListShards",
        "GetCheckPoint",
        "GetCursor",
        "GetCursorTime",
        "PullLogs",
    ];
    let requests = ends.emulator.requests();
    let checks = requests.iter().filter(|asked| asked.agent.ends_with("-check)"));
    let calls: Vec<_> = checks.map(|asked| asked.call).collect();
    assert!(calls.iter().all(|call| reads.contains(call)), "{calls:?}");
    calls
}

async fn make_group(ends: &Ends) {
    ends.client().create_consumer_group(ends.logstore(), GROUP, 30, false).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn where_all_is_well_everything_is_tried_and_nothing_consumed() {
    let ends = Ends::start(2, 100).await;
    let dir = tempfile::tempdir().unwrap();
    let checked = check(&ends, dir.path(), Otherwise::default()).await;
    assert_eq!(checked.code, 0, "{}", checked.text);
    assert!(checked.text.ends_with("Everything works.\n"), "{}", checked.text);
    assert_eq!(checked.document["works"], true);
    for what in ["resolve", "connect", "project", "consumer group", "shards", "pull", "clock"] {
        let about = checked.about(what);
        assert!(!about.is_empty() && about.iter().all(|(level, _)| *level == "ok"), "{what}");
    }
    assert!(checked.one("access key").1.contains(ends.key_id()), "{}", checked.text);
    assert!(
        checked.one("access key").1.contains("written in the configuration"),
        "{}",
        checked.text
    );
    assert!(checked.one("identity of a log").1.starts_with("exact"), "{}", checked.text);
    assert!(checked.one("a loss of the disk").1.contains("256.0 MiB"), "{}", checked.text);
    assert_eq!(checked.one("log:GetCursorOrData").0, "ok");
    assert!(checked.one("log:ConsumerGroupHeartBeat").1.starts_with("not tried"));
    assert!(checked.document["policies"].as_array().unwrap().is_empty());
    assert!(calls(&ends).contains(&"PullLogs"));
    let groups = ends.client().list_consumer_groups(ends.logstore()).await.unwrap();
    assert!(groups.is_empty() && ends.emulator.checkpoint_log().is_empty());
    assert!(!dir.path().join("spool").exists(), "check made something");
    let flags = &["--policy"][..];
    let checked = check(&ends, dir.path(), Otherwise { flags, ..Otherwise::default() }).await;
    let group = format!("consumergroup/{GROUP}");
    assert!(checked.document["policies"].to_string().contains(&group), "{}", checked.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_a_running_relay_its_consumer_is_named_and_keeps_its_shards() {
    let ends = Ends::start(2, 200).await;
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(ends.settings(&dir.path().join("spool"))).await;
    wait_for("every checkpoint", || ends.all_committed()).await;
    let before = (ends.emulator.holders(GROUP), ends.emulator.checkpoint_log());
    assert_eq!(before.0.len(), 2);
    let checked = check(&ends, dir.path(), Otherwise::default()).await;
    assert_eq!(checked.code, 0, "{}", checked.text);
    assert_eq!((ends.emulator.holders(GROUP), ends.emulator.checkpoint_log()), before);
    calls(&ends);
    let own = before.0[&0].clone();
    assert!(checked.one("consumer name").1.contains("this relay runs"), "{}", checked.text);
    let (_, consumer) = checked.one("consumer");
    assert!(consumer.contains(&own) && consumer.contains("this machine's own"), "{consumer}");
    assert!(consumer.contains("2 shards"), "{consumer}");
    let (level, group) = checked.one("consumer group");
    assert!(level == "warn" && group.contains("timeout 3 s"), "{group}");
    assert!(group.contains("group_timeout says 30 s"), "{group}");
    for shard in ["shard 0", "shard 1"] {
        assert_eq!(checked.one(shard), ("ok", "nothing waits"));
    }
    running.stop().await;
    let checked = check(&ends, dir.path(), Otherwise::default()).await;
    assert!(checked.one("consumer name").1.contains("does not run"), "{}", checked.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_name_or_region_is_named_with_what_to_do() {
    let ends = Ends::start(1, 10).await;
    let dir = tempfile::tempdir().unwrap();
    let wrong = async |other| check(&ends, dir.path(), other).await;

    let key = wrong(Otherwise { secret: Some("not-the-secret"), ..Otherwise::default() }).await;
    assert_eq!((key.code, key.one("signature").0), (69, "fail"), "{}", key.text);
    assert!(key.one("signature").1.contains("(request 0"), "{}", key.text);
    assert!(key.one("signature").1.contains("check the access key secret"), "{}", key.text);
    assert_eq!(key.codes(), ["sls.signature_mismatch"], "one cause, one failure");

    let project = wrong(Otherwise { project: Some("no-such"), ..Otherwise::default() }).await;
    assert_eq!(project.code, 69, "{}", project.text);
    assert!(project.one("project").1.contains("ProjectNotExist"), "{}", project.text);
    assert_eq!(project.codes(), ["sls.project_unknown"]);

    let endpoint = Some("http://cn-x.log.nowhere.invalid");
    let name = wrong(Otherwise { endpoint, ..Otherwise::default() }).await;
    assert_eq!((name.code, name.one("resolve").0), (69, "fail"), "{}", name.text);
    assert!(name.one("resolve").1.contains("cn-x.log.nowhere.invalid"), "{}", name.text);

    let endpoint = ends.emulator.endpoint().replace("http://", "https://");
    let tls = wrong(Otherwise { endpoint: Some(&endpoint), ..Otherwise::default() }).await;
    assert_eq!((tls.code, tls.one("TLS").0), (69, "fail"), "{}", tls.text);

    let lines = "region = \"cn-elsewhere\"\nsign_version = \"v4\"";
    let region = wrong(Otherwise { lines, ..Otherwise::default() }).await;
    assert_eq!(region.codes(), ["check.region"], "{}", region.text);
    assert!(region.text.contains("version 4 for the region cn-elsewhere"), "{}", region.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_off_is_corrected_and_told() {
    let ends = Ends::start(1, 10).await;
    let dir = tempfile::tempdir().unwrap();
    ends.emulator.faults().set_clock_skew(3600);
    let checked = check(&ends, dir.path(), Otherwise::default()).await;
    assert_eq!(checked.code, 0, "{}", checked.text);
    let (level, detail) = checked.one("clock");
    assert!(level == "warn" && detail.contains("ahead of this machine"), "{detail}");
    assert!(detail.contains("corrected"), "{detail}");
    assert_eq!(checked.one("pull").0, "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_right_is_named_with_the_policy_that_grants_it() {
    let ends = Ends::start(1, 10).await;
    let dir = tempfile::tempdir().unwrap();
    let faults = ends.emulator.faults();
    for call in ["GetProject", "GetLogStore", "ListShards"] {
        faults.add(Fault::new(FaultKind::Forbidden).on(Operation::Other(call)));
    }
    let discovery = check(&ends, dir.path(), Otherwise::default()).await;
    assert_eq!(discovery.code, 0, "not needed to run: {}", discovery.text);
    assert_eq!(discovery.codes(), ["check.right_missing"; 3]);
    assert_eq!(discovery.one("log:ListShards").0, "warn");
    assert_eq!(discovery.one("pull").0, "ok");

    faults.clear();
    faults.add(Fault::new(FaultKind::Forbidden).on(Operation::Pull));
    let pull = check(&ends, dir.path(), Otherwise::default()).await;
    assert_eq!(pull.code, 69, "{}", pull.text);
    let (level, detail) = pull.one("log:GetCursorOrData");
    assert!(level == "fail" && detail.contains("PullLogs") && detail.contains("(request 0"));
    assert_eq!(pull.codes(), ["check.right_missing"]);
    assert!(pull.text.contains("\"log:GetCursorOrData\""), "{}", pull.text);
    let statements = pull.document["policies"][0]["policy"]["Statement"].as_array().unwrap();
    assert!(statements.iter().any(|one| {
        one["Resource"][0].as_str().unwrap().ends_with(&format!("logstore/{}", ends.logstore()))
    }));
}

#[tokio::test(flavor = "multi_thread")]
async fn lag_is_exact_and_logs_near_their_end_or_gone_are_told() {
    let ends = Ends::start(3, 60).await;
    let dir = tempfile::tempdir().unwrap();
    make_group(&ends).await;
    let emulator = &ends.emulator;
    let number = |shard| cursor_number(&emulator.end_cursor(shard).unwrap()).unwrap();
    // Three log groups of shard 0 came 25 days ago; they are kept for 30.
    emulator.faults().set_clock_skew(-25 * DAY);
    let old = emulator.put_group(0, &Default::default()).unwrap();
    emulator.put_group(0, &Default::default()).unwrap();
    emulator.put_group(0, &Default::default()).unwrap();
    emulator.faults().set_clock_skew(0);
    emulator.set_checkpoint(GROUP, 0, &old).unwrap();
    emulator.set_checkpoint(GROUP, 1, &cursor_text(number(1) - 2)).unwrap();
    let checked = check(&ends, dir.path(), Otherwise::default()).await;
    assert_eq!(checked.code, 0, "{}", checked.text);
    let (level, detail) = checked.one("shard 0");
    assert_eq!(level, "warn", "{detail}");
    assert!(detail.starts_with("3 log groups behind, the oldest received 25 d ago"), "{detail}");
    let (level, detail) = checked.one("shard 1");
    assert!(level == "ok" && detail.starts_with("2 log groups behind"), "{detail}");
    assert!(checked.about("shard 2").is_empty(), "it has no checkpoint");
    assert!(checked.one("checkpoints").1.starts_with("1 shard has none"), "{}", checked.text);
    assert_eq!(checked.codes(), ["check.near_retention"]);

    let kept = number(1);
    emulator.expire_before(1, u64::MAX >> 1).unwrap();
    assert_eq!(number(1), kept, "only what was written is gone");
    let lines = "on_expired = \"stop\"";
    let checked = check(&ends, dir.path(), Otherwise { lines, ..Otherwise::default() }).await;
    assert_eq!(checked.code, 69, "{}", checked.text);
    let (level, detail) = checked.one("shard 1");
    assert!(level == "fail" && detail.contains("stands still"), "{detail}");
    assert_eq!(ends.emulator.checkpoint_log().len(), 2, "only those set above");
    calls(&ends);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_shards_are_summarised_with_the_worst_of_them() {
    let ends = Ends::start(25, 250).await;
    let dir = tempfile::tempdir().unwrap();
    make_group(&ends).await;
    for shard in 0..25 {
        let end = cursor_number(&ends.emulator.end_cursor(shard).unwrap()).unwrap();
        let behind = i64::from(shard == 13);
        ends.emulator.set_checkpoint(GROUP, shard, &cursor_text(end - behind)).unwrap();
    }
    let checked = check(&ends, dir.path(), Otherwise::default()).await;
    assert_eq!(checked.code, 0, "{}", checked.text);
    assert!(checked.one("shard 13").1.starts_with("1 log groups behind"), "{}", checked.text);
    let shown = (0..25).filter(|shard| !checked.about(&format!("shard {shard}")).is_empty());
    assert_eq!(shown.count(), 5, "{}", checked.text);
    let all = checked.one("lag of all").1;
    assert!(all.starts_with("25 shards with a checkpoint are 1 log groups behind"), "{all}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_hangs_ends_the_check() {
    let ends = Ends::start(1, 10).await;
    let dir = tempfile::tempdir().unwrap();
    ends.emulator.faults().add(Fault::new(FaultKind::NeverAnswers));
    let flags = &["--wait", "1"][..];
    let checked = check(&ends, dir.path(), Otherwise { flags, ..Otherwise::default() }).await;
    assert_eq!((checked.code, checked.one("answer").0), (69, "fail"), "{}", checked.text);
    assert_eq!(checked.codes(), ["sls.timeout"]);
    assert_eq!(ends.emulator.requests().len(), 2, "one in each of two runs");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_connection_it_is_said_what_survives_what() {
    let ends = Ends::start(1, 10).await;
    let dir = tempfile::tempdir().unwrap();
    let lines = "checkpoint = \"delivered\"\nhandover = \"delivered\"\nhandover_timeout = \"77 s\"\n\
                 query = \"* | where status = '403'\"";
    let flags = &["--offline", "--policy"][..];
    let checked =
        check(&ends, dir.path(), Otherwise { lines, flags, ..Otherwise::default() }).await;
    assert_eq!(checked.code, 0, "{}", checked.text);
    assert!(ends.emulator.requests().is_empty());
    assert!(checked.one("a loss of the disk").1.starts_with("loses nothing"), "{}", checked.text);
    assert!(checked.one("handover = delivered").1.contains("77 s"), "{}", checked.text);
    assert!(checked.one("identity").1.starts_with("none"), "{}", checked.text);
    assert_eq!(checked.document["policies"].as_array().unwrap().len(), 1);
}
