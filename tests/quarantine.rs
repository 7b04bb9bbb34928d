//! Single logs in the quarantine, by the real commands: looked at, sent again, let go of; by a
//! relay that runs, and in the spool of one that is stopped.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

#[path = "support/config_file.rs"]
mod config_file;
#[path = "support/pipeline.rs"]
mod pipeline;
#[path = "support/process.rs"]
mod process;

use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use prost::Message as _;
use rustix::process::Signal;
use serde_json::{Value, json};
use sls_relay::emulator::receiver::{Mode, Receiver, ReceiverConfig};
use sls_relay::sls::Cursor;
use sls_relay::sls::wire::{Content, Log, LogGroup, LogGroupList};
use sls_relay::spool::{Options, QuarantinedLog, ShardKey, Spool, read_ledger};

use config_file::write_config;
use pipeline::{Ends, wait_for};
use process::Process;

const DRAINS: &str = "drain_every = \"1 s\"\ndrain_idle = \"100 ms\"";

/// A relay's surroundings, and a receiver that keeps what it gets.
struct Scene {
    dir: tempfile::TempDir,
    config: PathBuf,
    receiver: Receiver,
    messages: Arc<Mutex<Vec<String>>>,
    _ends: Ends,
}

impl Scene {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ends = Ends::start(1, 20).await;
        let messages = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&messages);
        let tcp = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let receiver = Receiver::start(
            ReceiverConfig { tcp, ..ReceiverConfig::default() },
            Arc::new(move |_, message| {
                sink.lock().unwrap().push(String::from_utf8_lossy(message).into_owned());
            }),
        )
        .unwrap();
        let config = write_config(&ends, dir.path(), "256 MiB", "", DRAINS);
        let text = std::fs::read_to_string(&config).unwrap();
        let (theirs, ours) = (ends.receiver.tcp_addr().unwrap(), receiver.tcp_addr().unwrap());
        std::fs::write(&config, text.replace(&theirs.to_string(), &ours.to_string())).unwrap();
        Self { dir, config, receiver, messages, _ends: ends }
    }

    fn spool_dir(&self) -> PathBuf {
        self.dir.path().join("spool")
    }

    /// Keeps logs with these texts for `destination`, in the spool of a stopped relay.
    fn keep(&self, destination: &str, texts: &[&str]) -> Vec<String> {
        let (spool, _) = Spool::open(&Options::keeping(self.spool_dir())).unwrap();
        let key = ShardKey { source: "https://h/proj/store#g".to_owned(), shard: 7 };
        let cursor = Cursor::from_number(4711);
        let keep = |(log, text): (u32, &&str)| {
            let body = body(text);
            let kept = QuarantinedLog {
                destination,
                key: &key,
                seq: 900,
                log,
                cursor: cursor.as_str(),
                index: 30 + log,
                approximate: false,
                why: "refused by the receiver",
                body: &body,
            };
            spool.quarantine_log(&kept).unwrap()
        };
        let names = (0..).zip(texts).map(keep).collect();
        spool.close();
        names
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sls-relay"));
        command.args(["spool", "quarantine"]).args(args).arg("--config").arg(&self.config);
        command.output().unwrap()
    }

    fn json(&self, args: &[&str]) -> Vec<Value> {
        let output = self.run(&[args, &["--json"]].concat());
        let text = String::from_utf8(output.stdout.clone()).unwrap();
        assert!(!text.is_empty() || output.status.success(), "{}", said(&output));
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn names(&self) -> Vec<String> {
        self.json(&["list"]).iter().map(|c| c["name"].as_str().unwrap().to_owned()).collect()
    }

    /// What came out of the quarantine.
    fn replayed(&self) -> Vec<String> {
        let all = self.messages.lock().unwrap();
        all.iter().filter(|message| message.contains("origin=\"replay\"")).cloned().collect()
    }

    fn orders(&self) -> Vec<Value> {
        let lines = read_ledger(&self.spool_dir()).unwrap();
        lines.into_iter().filter(|line| line["what"] == "order").collect()
    }
}

fn body(text: &str) -> Vec<u8> {
    let content = Content { key: "k".into(), value: text.to_owned().into() };
    let log = Log { time: 1_760_140_800, contents: vec![content], ..Log::default() };
    let group = LogGroup { logs: vec![log], topic: Some("waf".into()), ..LogGroup::default() };
    LogGroupList { log_groups: vec![group] }.encode_to_vec()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// A relay runs until what it pulls is delivered, and is stopped: the spool is there.
async fn once(scene: &Scene) {
    let process = Process::start(&scene.config);
    wait_for("the logs", || scene.messages.lock().unwrap().len() == 20).await;
    stop(process).await;
}

async fn stop(process: Process) {
    process.signal(Signal::TERM);
    let (status, log) = tokio::task::spawn_blocking(|| process.wait()).await.unwrap();
    assert_eq!(status.code(), Some(0), "{log:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_relay_shows_sends_and_lets_go_of_single_logs() {
    let scene = Scene::start().await;
    once(&scene).await;
    let names = scene.keep("syslog", &["first", "second", "third \u{1b}[2J"]);
    let process = Process::start(&scene.config);
    wait_for("the relay", || scene.spool_dir().join("control.sock").exists()).await;

    let list = said(&scene.run(&["list"]));
    assert!(list.contains("refused by the receiver") && list.contains("proj/store"), "{list}");
    let shown = said(&scene.run(&["show", &names[2]]));
    assert!(shown.contains("k = third \\u{1b}[2J") && shown.contains("__topic__ = waf"), "{shown}");
    let raw = scene.run(&["show", &names[0], "--raw"]);
    assert_eq!(raw.stdout, body("first"));

    let done = scene.json(&["retry", &names[1], "--reason", "a test"]).remove(0);
    let expected = json!({"sent": 1, "refused": 0, "left": 0, "unproven": 0, "complete": true});
    assert_eq!(done, expected);
    assert_eq!(scene.names(), [names[0].as_str(), names[2].as_str()]);
    let messages = scene.replayed();
    assert_eq!(messages.len(), 1, "{messages:?}");
    let cursor = Cursor::from_number(4711);
    let id = scene.orders()[0]["replay"].as_str().unwrap().to_owned();
    for part in [
        "src=\"proj/store\"".to_owned(),
        "shard=\"7\"".to_owned(),
        format!("cursor=\"{cursor}\""),
        "idx=\"31\"".to_owned(),
        format!("replay=\"{id}\""),
        "second".to_owned(),
    ] {
        assert!(messages[0].contains(&part), "{part} is not in {}", messages[0]);
    }

    let dropped = scene.json(&["drop", &names[0], "--reason", "known"]).remove(0);
    assert_eq!(dropped["copies"], 1);
    assert_eq!(scene.names(), [names[2].as_str()]);
    let orders = scene.orders();
    let given: Vec<_> = orders.iter().map(|line| line["order"].as_str().unwrap()).collect();
    assert_eq!(given, ["quarantine_retry", "quarantine_drop"]);
    assert_eq!((&orders[1]["copies"], &orders[1]["reason"]), (&json!([names[0]]), &json!("known")));
    let gaps = Command::new(env!("CARGO_BIN_EXE_sls-relay"))
        .args(["spool", "gaps", "--json", "--config"])
        .arg(&scene.config)
        .output()
        .unwrap();
    let gaps = said(&gaps);
    assert!(!gaps.contains(&names[1]), "a log that was sent is not missing: {gaps}");
    assert!(gaps.contains(&names[0]) && gaps.contains(&names[2]), "{gaps}");
    stop(process).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_relay_the_same_orders_work_and_what_cannot_be_is_refused() {
    let scene = Scene::start().await;
    once(&scene).await;
    let names = scene.keep("gone", &["0", "1", "2", "3"]);
    std::fs::write(scene.spool_dir().join("quarantine/batch-3.bin"), "no log").unwrap();
    for (args, code, text) in [
        (&["retry", "--reason", "x"][..], 64, "--all"),
        (&["retry", "x", "--all", "--reason", "x"], 64, "--all"),
        (&["drop", "--all"], 64, "--reason"),
        (&["drop", "../ledger.jsonl", "--reason", "x"], 69, "the quarantine holds no"),
        (&["retry", "nothing", "--reason", "x"], 69, "the quarantine holds no"),
        (&["retry", "batch-3.bin", "--reason", "x"], 69, "repair --refetch"),
        (
            &["retry", "--all", "--reason", "x"],
            69,
            "not configured any more; send it to another: --to syslog",
        ),
        (&["retry", "--all", "--to", "no", "--reason", "x"], 69, "it knows syslog"),
        (&["retry", "--all", "--to", "syslog", "--reason", " "], 69, "needs a reason"),
    ] {
        let output = scene.run(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", said(&output));
        assert!(said(&output).contains(text), "{args:?}: {}", said(&output));
    }
    assert!(scene.orders().is_empty(), "what was refused did not happen");

    // What is no log of SLS any more stays, the others go, in their order.
    std::fs::write(scene.spool_dir().join("quarantine").join(&names[1]), "\u{7}no log").unwrap();
    let lines = scene.json(&["retry", "--all", "--to", "syslog", "--reason", "moved"]);
    assert_eq!((&lines[0]["name"], &lines[0]["destination"]), (&json!(names[1]), &json!("syslog")));
    let done = &lines[1];
    assert_eq!((&done["sent"], &done["refused"], &done["left"]), (&json!(3), &json!(1), &json!(0)));
    assert_eq!(scene.names(), ["batch-3.bin", names[1].as_str()]);
    let messages = scene.replayed();
    let at = |text: &str| messages.iter().position(|one| one.contains(&format!("idx=\"{text}\"")));
    assert_eq!((at("30"), at("32"), at("33"), messages.len()), (Some(0), Some(1), Some(2), 3));

    let dropped = scene.json(&["drop", "--all", "--reason", "looked at"]).remove(0);
    assert_eq!(dropped["copies"], 2);
    assert!(said(&scene.run(&["list"])).contains("the quarantine is empty"));
    let none = scene.run(&["retry", "--all", "--reason", "x"]);
    assert!(said(&none).contains("holds no single log"), "{}", said(&none));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_confirmed_stays_in_the_quarantine() {
    let scene = Scene::start().await;
    once(&scene).await;
    let names = scene.keep("syslog", &["one", "two"]);
    scene.receiver.set_mode(Mode::Stall).await.unwrap();
    let process = Process::start(&scene.config);
    wait_for("the relay", || scene.spool_dir().join("control.sock").exists()).await;
    let mut asking = Command::new(env!("CARGO_BIN_EXE_sls-relay"))
        .args(["spool", "quarantine", "retry", "--all", "--reason", "x", "--config"])
        .arg(&scene.config)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for("the order", || scene.orders().len() == 1).await;
    let second = scene.run(&["retry", "--all", "--reason", "x"]);
    assert!(said(&second).contains("are being sent already"), "{}", said(&second));
    asking.kill().unwrap();
    asking.wait().unwrap();
    assert_eq!(scene.names(), names.as_slice(), "nobody has read them");
    scene.receiver.set_mode(Mode::Accept).await.unwrap();
    // The first order may still confirm them before it notices that nobody waits for it.
    wait_for("both to be sent", || {
        scene.run(&["retry", "--all", "--reason", "again"]);
        scene.names().is_empty()
    })
    .await;
    for text in ["one", "two"] {
        assert!(scene.replayed().iter().any(|message| message.contains(text)), "{names:?}");
    }
    stop(process).await;
}

/// A receiver that closes a connection as soon as it reads `toxic`, with the rest unread, as
/// syslog-ng does to a frame that is too long.
fn picky() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let at = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            std::thread::spawn(move || {
                let (mut seen, mut part) = (Vec::new(), [0; 1]);
                while let Ok(read @ 1..) = stream.read(&mut part) {
                    seen.extend_from_slice(&part[..read]);
                    if seen.ends_with(b"toxic") {
                        return;
                    }
                }
            });
        }
    });
    at
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_refused_again_stays_and_those_behind_it_are_sent() {
    let scene = Scene::start().await;
    once(&scene).await;
    let names = scene.keep("syslog", &["before", "toxic and more", "behind"]);
    let text = std::fs::read_to_string(&scene.config).unwrap();
    let ours = scene.receiver.tcp_addr().unwrap().to_string();
    std::fs::write(&scene.config, text.replace(&ours, &picky().to_string())).unwrap();
    let lines = scene.json(&["retry", "--all", "--reason", "does it take them now?"]);
    assert_eq!(lines[0]["name"], names[1], "{lines:?}");
    let why = lines[0]["refused"].as_str().unwrap();
    assert!(why.contains("ends every connection"), "{why}");
    let done = &lines[1];
    assert_eq!((&done["sent"], &done["refused"], &done["left"]), (&json!(2), &json!(1), &json!(0)));
    assert_eq!(scene.names(), [names[1].as_str()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_the_destination_leaves_out_stays_in_the_quarantine() {
    let scene = Scene::start().await;
    once(&scene).await;
    let names = scene.keep("syslog", &["wanted", "other"]);
    let text = std::fs::read_to_string(&scene.config).unwrap();
    assert!(text.contains(DRAINS));
    let filtered = format!("{DRAINS}\nwhere = [\"k=wanted\"]");
    std::fs::write(&scene.config, text.replace(DRAINS, &filtered)).unwrap();
    let lines = scene.json(&["retry", "--all", "--reason", "a filter was written meanwhile"]);
    assert_eq!(lines[0]["name"], names[1], "{lines:?}");
    assert!(lines[0]["refused"].as_str().unwrap().contains("where"), "{lines:?}");
    let done = &lines[1];
    assert_eq!((&done["sent"], &done["refused"], &done["left"]), (&json!(1), &json!(1), &json!(0)));
    assert_eq!(scene.names(), [names[1].as_str()]);
}
