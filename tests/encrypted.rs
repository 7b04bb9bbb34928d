//! A whole relay whose spool is encrypted: no byte of a log is anywhere in its directory.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

#[path = "support/pipeline.rs"]
mod pipeline;

use std::path::Path;
use std::process::{Command, Output};

use sls_relay::emulator::receiver::Mode;
use sls_relay::emulator::sls::{Fault, FaultKind, Operation};
use sls_relay::sls::{self, body, walk};
use sls_relay::spool::inspect::Inspection;
use sls_relay::spool::{Item, Keys, StoredBatch, read_ledger};

use pipeline::{Ends, Running, wait_for};

const LOGS: u64 = 1000;

/// A spool with logs that wait and answers that were put aside, and how to read it.
struct Scene {
    ends: Ends,
    dir: tempfile::TempDir,
    keys: Keys,
}

impl Scene {
    async fn new(encrypted: bool) -> Self {
        let ends = Ends::start(2, LOGS).await;
        ends.receiver.set_mode(Mode::Refuse).await.unwrap();
        ends.emulator.faults().add(Fault::new(FaultKind::Corrupt).on(Operation::Pull).shard(0));
        let dir = tempfile::tempdir().unwrap();
        let line = Keys::random().unwrap();
        let keys = if encrypted { Keys::parse(&line).unwrap() } else { Keys::default() };
        std::fs::write(dir.path().join("keys"), line.as_str()).unwrap();
        let scene = Self { ends, dir, keys };
        let relay = Running::start(scene.settings()).await;
        wait_for("an answer to be put aside", || relay.counters.snapshot().unreadable > 0).await;
        scene.ends.emulator.faults().clear();
        wait_for("all logs to be spooled", || scene.ends.all_committed()).await;
        relay.stop().await;
        scene
    }

    fn settings(&self) -> sls_relay::config::Settings {
        let mut settings = self.ends.settings(&self.spool());
        let encrypted = self.keys.ids().count() > 0;
        settings.spool.key_file = encrypted.then(|| self.dir.path().join("keys"));
        settings
    }

    fn spool(&self) -> std::path::PathBuf {
        self.dir.path().join("spool")
    }

    fn batches(&self) -> Vec<StoredBatch> {
        let mut reader = Inspection::with_keys(&self.spool(), self.keys.clone()).unwrap().reader(0);
        let mut batches = Vec::new();
        while let Some(Item::Batch(batch)) = reader.read().unwrap() {
            batches.push(*batch);
        }
        batches
    }

    /// Bytes that are to be found nowhere: values of fields, pieces of bodies as SLS sent
    /// them, and of the answers that were put aside.
    fn secrets(&self) -> [Vec<Vec<u8>>; 3] {
        let (mut values, mut bodies, mut aside) = (Vec::new(), Vec::new(), Vec::new());
        for batch in self.batches().iter().filter(|batch| batch.header.groups > 1) {
            let mut raw = Vec::new();
            let (size, lz4) = (batch.header.raw_size, sls::Compression::Lz4);
            assert_eq!(batch.header.compression, sls_relay::spool::Compression::Lz4);
            body::decompress(lz4, &batch.body, size, &mut raw).unwrap();
            let groups: Vec<_> = walk::groups(&raw).map(Result::unwrap).collect();
            let fields = groups.iter().flat_map(|group| group.logs()).flat_map(|log| {
                let long = log.fields().filter(|(_, value)| value.len() >= 16);
                long.map(|(_, value)| value.to_vec()).collect::<Vec<_>>()
            });
            values.extend(fields.take(40));
            bodies.extend(batch.body.chunks_exact(24).step_by(7).map(<[u8]>::to_vec));
        }
        for line in read_ledger(&self.spool()).unwrap() {
            let Some(copy) = line["copy"].as_str() else { continue };
            let name = Path::new(copy).file_name().unwrap().to_str().unwrap();
            let copy = std::fs::read(self.spool().join(copy)).unwrap();
            let content = self.keys.open_copy(name, copy).unwrap();
            aside.extend(content.chunks_exact(24).map(<[u8]>::to_vec));
        }
        assert!(values.len() > 30 && bodies.len() > 30 && aside.len() > 3);
        [values, bodies, aside]
    }

    /// How many of these stand in some file of the spool.
    fn found(&self, secrets: &[Vec<u8>]) -> usize {
        let files = files(&self.spool());
        let heads: std::collections::HashSet<[u8; 8]> =
            secrets.iter().map(|secret| *secret.first_chunk().unwrap()).collect();
        let mut found = std::collections::HashSet::new();
        for file in &files {
            for at in 0..file.len().saturating_sub(8) {
                if heads.contains(file[at..].first_chunk::<8>().unwrap()) {
                    found.extend(secrets.iter().filter(|secret| file[at..].starts_with(secret)));
                }
            }
        }
        found.len()
    }
}

fn files(dir: &Path) -> Vec<Vec<u8>> {
    let below = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let files = below.flat_map(|path| match path.is_dir() {
        true => files(&path),
        false => vec![std::fs::read(path).unwrap()],
    });
    files.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_log_stands_in_any_file_of_an_encrypted_spool() {
    let scene = Scene::new(true).await;
    let [values, bodies, aside] = scene.secrets();
    for (what, secrets) in [("values", &values), ("bodies", &bodies), ("aside", &aside)] {
        assert_eq!(scene.found(secrets), 0, "{what}");
    }
    // And all of it is delivered all the same, but for what was put aside.
    let left: u64 = scene.batches().iter().map(|batch| u64::from(batch.header.logs)).sum();
    scene.ends.receiver.set_mode(Mode::Accept).await.unwrap();
    let relay = Running::start(scene.settings()).await;
    wait_for("all that waits to be confirmed", || relay.confirmed() == left).await;
    relay.stop().await;
    let report = scene.ends.arrivals().report();
    assert_eq!((report.corrupted, report.unknown, report.out_of_order), (0, 0, 0), "{report}");
    assert!(report.delivered > LOGS / 2, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_search_finds_what_stands_in_a_spool_in_the_clear() {
    let scene = Scene::new(false).await;
    let [values, bodies, aside] = scene.secrets();
    assert!(scene.found(&values) > 0, "lz4 leaves what is new as it is");
    for secrets in [&bodies, &aside] {
        let unique: std::collections::HashSet<_> = secrets.iter().collect();
        assert_eq!(scene.found(secrets), unique.len());
    }
}

fn relay(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sls-relay")).args(words).env_clear().output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_shows_headers_to_everybody_and_logs_to_who_has_the_key() {
    let scene = Scene::new(true).await;
    let (dir, keys) = (scene.spool(), scene.dir.path().join("keys"));
    let (dir, keys) = (dir.to_str().unwrap(), keys.to_str().unwrap());
    let id = format!("{:016x}", scene.keys.ids().next().unwrap());
    let text = |output: &Output| {
        String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
    };
    for words in [&["spool", "status", "--spool", dir][..], &["spool", "list", "--spool", dir]] {
        let output = relay(words);
        assert!(output.status.success(), "{}", text(&output));
    }
    let json = relay(&["spool", "list", "--spool", dir, "--json"]);
    assert!(text(&json).contains(&format!("\"key\":\"{id}\"")), "{}", text(&json));
    let show = ["spool", "show", "0", "--spool", dir];
    let refused = relay(&show);
    assert_eq!(refused.status.code(), Some(69));
    assert!(text(&refused).contains(&id) && text(&refused).contains("--key-file"));
    let shown = relay(&[&show[..], &["--key-file", keys]].concat());
    assert!(shown.status.success() && text(&shown).contains("log 0"), "{}", text(&shown));

    let unread = relay(&["spool", "cat", "--spool", dir]);
    assert!(unread.status.code() == Some(69) && text(&unread).contains(&id), "{}", text(&unread));
    let (unopened, opened) = (
        relay(&["spool", "verify", "--spool", dir]),
        relay(&["spool", "verify", "--spool", dir, "--key-file", keys]),
    );
    assert!(unopened.status.success() && text(&unopened).contains("with a key that is not here"));
    assert!(text(&unopened).contains(" and 0 logs check"), "{}", text(&unopened));
    assert!(opened.status.success() && !text(&opened).contains("key"), "{}", text(&opened));
    let config = scene.dir.path().join("relay.toml");
    let configured = |keys: &str| {
        let text = format!("[spool]\ndir = {dir:?}\nencrypt_key_file = {keys:?}\n");
        std::fs::write(&config, text).unwrap();
    };
    configured("/no/such/file");
    let config = config.to_str().unwrap();
    assert!(relay(&["spool", "status", "--config", config]).status.success());
    let unusable = relay(&["spool", "cat", "--config", config]);
    assert!(text(&unusable).contains("/no/such/file"), "{}", text(&unusable));
    let order = ["spool", "hold", "--reason", "x", "--config", config];
    assert!(text(&relay(&order)).contains("/no/such/file"), "nothing is written without the key");
    configured(keys);
    let read = relay(&["spool", "cat", "--config", config, "--json"]);
    assert!(read.status.success() && read.stdout.len() > 1000, "{}", text(&read));

    let line = read_ledger(Path::new(dir)).unwrap().swap_remove(0);
    let copy = Path::new(dir).join(line["copy"].as_str().unwrap());
    let decrypt = ["spool", "decrypt", copy.to_str().unwrap(), "--spool", dir];
    assert!(text(&relay(&decrypt)).contains(&id));
    let copied = relay(&[&decrypt[..], &["--key-file", keys]].concat());
    assert_eq!(copied.stdout.len() as u64, line["bytes"].as_u64().unwrap());
    // Elsewhere there is neither the spool nor a configuration.
    let elsewhere = relay(&["spool", "decrypt", copy.to_str().unwrap(), "--key-file", keys]);
    assert!(elsewhere.stdout == copied.stdout, "{}", text(&elsewhere));

    let name = copy.file_name().unwrap().to_str().unwrap();
    let aside = ["spool", "quarantine", "show", name, "--raw", "--spool", dir];
    assert!(text(&relay(&aside)).contains(&id));
    assert_eq!(relay(&[&aside[..], &["--key-file", keys]].concat()).stdout, copied.stdout);

    let made = relay(&["spool", "key"]);
    assert_eq!(Keys::parse(&text(&made)).unwrap().ids().count(), 1);
}
