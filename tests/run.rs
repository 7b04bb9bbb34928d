//! `sls-relay run` as its user meets it, beside what tests/crash.rs does to it.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

#[path = "support/pipeline.rs"]
mod pipeline;
#[path = "support/process.rs"]
mod process;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use pipeline::{Ends, GROUP, wait_for};
use process::Process;
use rustix::process::Signal;
use sls_relay::control::{Client, Listener};

/// A configuration file for the ends.
fn configuration(ends: &Ends, dir: &Path, spool: &Path) -> PathBuf {
    let source = &ends.settings(spool).sources[0];
    let text = format!(
        "[spool]\ndir = {spool:?}\nmin_free_bytes = 0\n\
         [[source]]\nendpoint = \"{}\"\nproject = \"{}\"\nlogstore = \"{}\"\n\
         consumer_group = \"{GROUP}\"\naccess_key_id = \"{}\"\naccess_key_secret = \"{}\"\n\
         idle_poll = \"200 ms\"\n\
         [[destination]]\nto = \"tcp://{}\"\nmax_message = 200000\nsettle = \"100 ms\"\ndrain_idle = \"200 ms\"\n",
        source.endpoint,
        source.project,
        source.logstore,
        ends.key_id(),
        ends.key_secret(),
        ends.receiver.tcp_addr().unwrap(),
    );
    let path = dir.join("sls-relay.toml");
    std::fs::write(&path, text).unwrap();
    path
}

fn run(config: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sls-relay"));
    command.arg("run").arg("--config").arg(config).args(more).env_clear().stdin(Stdio::null());
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_ends_by_itself_when_everything_is_delivered() {
    let ends = Ends::start(2, 1000).await;
    let dir = tempfile::tempdir().unwrap();
    let config = configuration(&ends, dir.path(), &dir.path().join("spool"));
    let mut export = run(&config, &["--until", "now"]);
    let output = tokio::task::spawn_blocking(move || export.output().unwrap()).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(ends.arrivals().is_complete() && ends.all_committed());
}

#[test]
fn a_time_that_is_none_and_an_export_of_nothing_are_refused() {
    let backwards = ["--since", "2026-02-01T00:00:00Z", "--until", "2026-01-01T00:00:00Z"];
    for wrong in [&["--until", "yesterday"][..], &["--until", "now", "--drain"], &backwards] {
        let output = run(Path::new("/no/such/file"), wrong).output().unwrap();
        assert_eq!(output.status.code(), Some(64), "{wrong:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_a_spool_does_not_start_beside_the_original() {
    let ends = Ends::start(1, 100).await;
    let dir = tempfile::tempdir().unwrap();
    let (original, copy) = (dir.path().join("spool"), dir.path().join("copy"));
    let config = configuration(&ends, dir.path(), &original);
    let mut first = run(&config, &[]).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    wait_for("the first to hold its shard", || !ends.emulator.holders(GROUP).is_empty()).await;
    std::fs::create_dir(&copy).unwrap();
    std::fs::copy(original.join("identity"), copy.join("identity")).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let config = configuration(&ends, elsewhere.path(), &copy);
    let output = tokio::task::spawn_blocking(move || run(&config, &[]).output().unwrap());
    let output = output.await.unwrap();
    first.kill().unwrap();
    first.wait().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(69), "{text}");
    assert!(text.contains("identity") && text.contains("copy"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_runs_answers_on_its_socket_and_removes_it_at_its_end() {
    let ends = Ends::start(1, 100).await;
    let dir = tempfile::tempdir().unwrap();
    let spool = dir.path().join("spool");
    let config = configuration(&ends, dir.path(), &spool);
    let socket = spool.join("control.sock");
    let relay = Process::start(&config);
    wait_for("the socket", || socket.exists()).await;
    ends.all_arrived().await;
    let ping = |socket: PathBuf| {
        tokio::task::spawn_blocking(move || {
            let client = Client::connect(&socket).unwrap().unwrap();
            assert_eq!(Path::new(&client.hello().dir), socket.parent().unwrap());
            let ask = |name: &str| {
                let request = serde_json::Map::from_iter([("ask".to_owned(), name.into())]);
                Client::connect(&socket).unwrap().unwrap().ask(request, &mut |_| {})
            };
            assert_eq!(ask("what").unwrap_err().code(), "control.unknown");
            ask("ping").unwrap()
        })
    };
    let pong = ping(socket.clone()).await.unwrap();
    assert_eq!(pong["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(pong["pid"], relay.id());
    assert!(pong["started"].as_str().unwrap().ends_with('Z'), "{pong:?}");

    // One that does not even ask does not hold up the end.
    let idle = std::os::unix::net::UnixStream::connect(&socket).unwrap();
    relay.signal(Signal::TERM);
    let (status, said) = tokio::task::spawn_blocking(move || relay.wait()).await.unwrap();
    assert!(status.success(), "{said:?}");
    drop(idle);
    assert!(!socket.exists() && Client::connect(&socket).unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_without_a_socket_moves_logs_and_says_why_there_is_none() {
    let ends = Ends::start(1, 100).await;
    let dir = tempfile::tempdir().unwrap();
    let (spool, socket) = (dir.path().join("spool"), dir.path().join("taken.sock"));
    let config = configuration(&ends, dir.path(), &spool);
    let taken = Listener::bind(&socket).unwrap();
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{text}[control]\nsocket = {socket:?}\n")).unwrap();
    let mut export = run(&config, &["--until", "now"]);
    let output = tokio::task::spawn_blocking(move || export.output().unwrap()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && ends.arrivals().is_complete(), "{said}");
    assert!(said.contains("control.unavailable") && said.contains("[control]"), "{said}");
    assert!(socket.exists(), "the other one's socket stays");
    drop(taken);
}
