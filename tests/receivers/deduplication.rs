//! The recipes of docs/deduplication.md, as they stand there, against the real programs.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sls_relay::syslog::{FormatSettings, Formatter, Framing, Identity, LogLine};

use crate::receivers::left_out;
use crate::send;

const PAGE: &str = include_str!("../../docs/deduplication.md");
const DEADLINE: Duration = Duration::from_secs(30);

/// The block of the page in this language.
fn block(language: &str) -> &'static str {
    let begin = format!("```{language}\n");
    let rest = PAGE.split_once(&begin).unwrap().1;
    assert!(!rest.contains(&begin), "the page has two of {language}");
    rest.split_once("```").unwrap().0
}

/// Kills a daemon with its test.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a daemon with a whole configuration; nothing where it was never unpacked.
fn start(kind: &str, program: &str, dir: &Path, config: &str, port: SocketAddr) -> Option<Daemon> {
    let here = env!("CARGO_MANIFEST_DIR");
    let tools = std::env::var("SLS_RELAY_TOOLS").unwrap_or_else(|_| format!("{here}/target/tools"));
    let tools = Path::new(&tools).join("receivers");
    if !tools.join("root/usr/sbin").join(program).exists() {
        left_out(&format!("{kind}: run ./test tools to fetch it"));
        return None;
    }
    let template = dir.join("recipe.conf");
    std::fs::write(&template, config).unwrap();
    let log = std::fs::File::create(dir.join("stdout.log")).unwrap();
    let child = Command::new(format!("{here}/tests/receivers/run.sh"))
        .arg(tools)
        .arg(kind)
        .arg(dir)
        .env("RX_CONF", template)
        .env("RX_UDP", "0")
        .env("RX_TCP", port.port().to_string())
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    let daemon = Daemon(child);
    wait_for("the daemon to listen", dir, || TcpStream::connect(port).is_ok());
    Some(daemon)
}

fn wait_for(what: &str, dir: &Path, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        let said = || std::fs::read_to_string(dir.join("stdout.log")).unwrap_or_default();
        assert!(begun.elapsed() < DEADLINE, "waited for {what}: {}", said());
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn port() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

/// Frames as the relay writes them: log `idx` of a log group, as many copies as are named.
fn frames(indexes: &[u32], replay: Option<&str>) -> Vec<u8> {
    let settings = FormatSettings { app_name: "sls-relay".to_owned(), ..FormatSettings::default() };
    let mut formatter = Formatter::new(settings).unwrap();
    let mut out = Vec::new();
    for index in indexes {
        let value = format!("value \"{index}\" \\ ]");
        let line = LogLine {
            time: 1_760_140_800,
            time_ns: None,
            topic: b"",
            source: b"",
            tags: &[],
            fields: &[(b"k", value.as_bytes())],
            identity: Identity {
                source: "my-project/waf-logstore",
                shard: 3,
                cursor: "MTczNjg5OTIwMA==",
                index: *index,
                approximate: false,
            },
            severity: None,
            origin: replay.map(|_| "replay"),
            replay,
        };
        let mut message = Vec::new();
        let _ = formatter.format(&line, &mut message);
        Framing::OctetCounting.append(&message, &mut out);
    }
    out
}

/// Ten logs, some of them again on the same and on another connection, then one more.
fn send_with_copies(port: SocketAddr) {
    let first: Vec<u32> = (0..10).chain(4..8).collect();
    send(port, &String::from_utf8(frames(&first, None)).unwrap());
    send(port, &String::from_utf8(frames(&[2, 9, 2], Some("1f0c22aa"))).unwrap());
    send(port, &String::from_utf8(frames(&[10], None)).unwrap());
}

fn lines(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn the_recipe_for_syslog_ng_passes_each_log_once_and_what_is_not_ours_as_often_as_it_comes() {
    let (dir, port) = (tempfile::tempdir().unwrap(), port());
    let (database, out) = (dir.path().join("sls-copies.xml"), dir.path().join("sls.log"));
    std::fs::write(&database, block("xml")).unwrap();
    let recipe = block("syslog-ng")
        .replace("/etc/syslog-ng/sls-copies.xml", database.to_str().unwrap())
        .replace("/var/log/sls.log", out.to_str().unwrap())
        .replace("ip(\"0.0.0.0\") port(601)", "ip(\"127.0.0.1\") port(@TCP@)");
    let options =
        "@version: @VERSION@\noptions { stats-freq(0); use-dns(no); keep-hostname(yes); };\n";
    let config = format!("{options}{recipe}");
    let Some(_daemon) = start("syslog-ng", "syslog-ng", dir.path(), &config, port) else { return };
    let other = "<14>1 2026-11-23T13:50:00Z h other - - - not ours";
    let empty = "<14>1 2026-11-23T13:50:00Z h sls-relay - - -";
    let theirs = format!("{} {other}{} {other}{} {empty}", other.len(), other.len(), empty.len());
    send(port, &theirs);
    send_with_copies(port);
    wait_for("the last log", dir.path(), || {
        lines(&out).iter().any(|line| line.contains("idx=\"10\""))
    });
    let all = lines(&out);
    let ours: Vec<&String> = all.iter().filter(|line| line.contains("idx=")).collect();
    assert_eq!(ours.len(), 11, "{all:#?}");
    for (line, index) in ours.iter().zip(0..) {
        assert!(line.contains(&format!("idx=\"{index}\"")), "{all:#?}");
        assert!(line.contains(&format!("k=value \"{index}\" ")), "{all:#?}");
    }
    assert_eq!(all.len() - ours.len(), 3, "what is not ours, or is empty, passes: {all:#?}");
}

#[test]
fn the_recipe_for_rsyslog_writes_an_identity_by_which_awk_leaves_copies_out() {
    let (dir, port) = (tempfile::tempdir().unwrap(), port());
    let out = dir.path().join("sls.jsonl");
    let recipe = block("rsyslog")
        .replace("/var/log/sls.jsonl", out.to_str().unwrap())
        .replace("port=\"1468\"", "address=\"127.0.0.1\" port=\"@TCP@\"");
    let options = "global(workDirectory=\"@DIR@\" net.enableDNS=\"off\")\n\
                   main_queue(queue.type=\"LinkedList\" queue.workerThreads=\"1\")\n";
    let config = format!("{options}{recipe}action(type=\"omfile\" file=\"@DIR@/own.log\")\n");
    let Some(_daemon) = start("rsyslog", "rsyslogd", dir.path(), &config, port) else { return };
    send_with_copies(port);
    wait_for("the last log", dir.path(), || lines(&out).len() == 18);
    let command = block("sh").replace("/var/log/sls.jsonl", out.to_str().unwrap());
    let left = Command::new("sh").arg("-c").arg(command).output().unwrap();
    assert!(left.status.success(), "{left:?}");
    let left = String::from_utf8(left.stdout).unwrap();
    let ids: Vec<String> = left
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["id"].to_string())
        .collect();
    let expected: Vec<String> = (0..11)
        .map(|index| format!("\"my-project/waf-logstore/3/MTczNjg5OTIwMA==/{index}\""))
        .collect();
    assert_eq!(ids, expected, "{left}");
}
