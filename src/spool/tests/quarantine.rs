//! Single logs in the quarantine: kept once, bounded, encrypted, let go of when told to.

use std::sync::Arc;

use super::super::sim::SimDisk;
use super::super::{QUARANTINED_LOG, QuarantinedLog, read_ledger};
use super::*;

const LOG: &[u8] = b"a secret log";

fn log<'a>(key: &'a ShardKey, seq: u64, log: u32, body: &'a [u8]) -> QuarantinedLog<'a> {
    QuarantinedLog {
        destination: "siem",
        key,
        seq,
        log,
        cursor: "c7",
        index: 3,
        approximate: false,
        why: "a test",
        body,
    }
}

#[test]
fn a_log_is_kept_once_for_each_destination_with_its_identity_and_reason() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = Spool::open(&options(dir.path())).unwrap();
    let key = key(5);
    let one = log(&key, 7, 2, LOG);
    let name = spool.quarantine_log(&one).unwrap();
    assert_eq!(spool.quarantine_log(&one).unwrap(), name);
    let other = spool.quarantine_log(&QuarantinedLog { destination: "copy", ..one }).unwrap();
    assert_ne!(other, name);
    let lines = read_ledger(dir.path()).unwrap();
    assert_eq!(lines.len(), 2, "{lines:?}");
    let line = &lines[0];
    assert_eq!(line["what"], QUARANTINED_LOG);
    assert_eq!(line["copy"], format!("quarantine/{name}"));
    assert_eq!((&line["destination"], &line["why"]), (&"siem".into(), &"a test".into()));
    assert_eq!((&line["seq"], &line["log"]), (&7.into(), &2.into()));
    assert_eq!(
        (&line["shard"], &line["cursor"], &line["index"]),
        (&5.into(), &"c7".into(), &3.into())
    );
    let view = spool.inspection();
    assert_eq!(view.quarantine().unwrap().len(), 2);
    assert_eq!(view.copy_of(&name).unwrap(), LOG);
    spool.close();
}

#[test]
fn a_log_in_an_encrypted_spool_is_encrypted() {
    let dir = tempfile::tempdir().unwrap();
    let encrypted = Options { keys: keys(&[1]), ..options(dir.path()) };
    let (spool, _) = Spool::open(&encrypted).unwrap();
    let key = key(0);
    let name = spool.quarantine_log(&log(&key, 1, 0, LOG)).unwrap();
    let stored = std::fs::read(dir.path().join("quarantine").join(&name)).unwrap();
    assert!(!stored.windows(LOG.len()).any(|some| some == LOG));
    assert_eq!(spool.inspection().copy_of(&name).unwrap(), LOG);
    spool.close();
}

#[test]
fn single_logs_take_an_eighth_of_the_quota_and_what_is_removed_makes_room() {
    let dir = tempfile::tempdir().unwrap();
    let (key, body) = (key(0), vec![7; 500 << 10]);
    let (spool, _) = Spool::open(&options(dir.path())).unwrap();
    let mut names = Vec::new();
    let refused = loop {
        match spool.quarantine_log(&log(&key, names.len() as u64, 0, &body)) {
            Ok(name) => names.push(name),
            Err(error) => break error,
        }
        assert!(names.len() < 100, "nothing bounds it");
    };
    assert!(matches!(refused, Error::QuarantineFull { most, .. } if most == 2 << 20), "{refused}");
    assert_eq!(names.len(), 4);
    assert_eq!(read_ledger(dir.path()).unwrap().len(), 4, "what was refused is not told of");
    spool.close();

    // A new process counts what it finds.
    let (spool, _) = Spool::open(&options(dir.path())).unwrap();
    let next = log(&key, 9, 0, &body);
    assert!(matches!(spool.quarantine_log(&next), Err(Error::QuarantineFull { .. })));
    spool.quarantine_log(&log(&key, 0, 0, &body)).expect("it is there already");
    assert_eq!(spool.remove_quarantined(&[&names[0]]).unwrap(), 1);
    assert_eq!(spool.remove_quarantined(&[&names[0]]).unwrap(), 0, "it is gone");
    spool.quarantine_log(&next).unwrap();
    assert_eq!(spool.inspection().quarantine().unwrap().len(), 4);
    spool.close();
}

#[test]
fn the_first_log_is_kept_however_large_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = Spool::open(&options(dir.path())).unwrap();
    let (key, body) = (key(0), vec![7; 3 << 20]);
    spool.quarantine_log(&log(&key, 1, 0, &body)).unwrap();
    spool.quarantine_log(&log(&key, 1, 1, b"x")).unwrap_err();
    spool.close();
}

#[test]
fn no_name_removes_anything_outside_the_quarantine() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = Spool::open(&options(dir.path())).unwrap();
    spool.note(&serde_json::json!({"what": "kept"})).unwrap();
    for name in ["../ledger.jsonl", "/ledger.jsonl", "..", ".", "", "a/b"] {
        assert_eq!(spool.remove_quarantined(&[name]).unwrap(), 0, "{name}");
    }
    assert_eq!(read_ledger(dir.path()).unwrap().len(), 1);
    spool.close();
}

#[test]
fn what_is_kept_and_what_is_removed_survives_a_power_loss() {
    let mut rng = fastrand::Rng::with_seed(5);
    for _ in 0..50 {
        let disk = SimDisk::default();
        let open = |disk: &SimDisk| {
            let disk = Arc::new(disk.clone());
            Spool::open_simulated(disk, &options(Path::new("sim"))).unwrap().0
        };
        let spool = open(&disk);
        let key = key(0);
        let kept = spool.quarantine_log(&log(&key, 1, 0, LOG)).unwrap();
        let removed = spool.quarantine_log(&log(&key, 2, 0, LOG)).unwrap();
        assert_eq!(spool.remove_quarantined(&[&removed]).unwrap(), 1);
        let lost = disk.lose_power(&mut rng);
        let spool_after = open(&lost);
        assert_eq!(lost.names(Path::new("quarantine")), [kept.as_str()]);
        let bytes = lost.bytes(&Path::new("quarantine").join(&kept));
        assert_eq!(bytes.as_deref(), Some(LOG));
        spool_after.close();
        spool.close();
    }
}
