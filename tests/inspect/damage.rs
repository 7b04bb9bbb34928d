//! Damage is named exactly, and everything around it is still answered.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use sls_relay::spool::Compression;
use sls_relay::spool::inspect::Inspection;

use crate::asking::{json, lines, places, run};
use crate::scene::{Maker, Scene, append, open, runtime};

/// Changes the bytes of a file, all of which are `length` at `at`.
fn spoil(path: &Path, at: usize, length: usize) {
    let mut contents = std::fs::read(path).unwrap();
    contents[at..at + length].iter_mut().for_each(|byte| *byte ^= 0xA5);
    std::fs::write(path, contents).unwrap();
}

fn position(contents: &[u8], text: &[u8]) -> usize {
    contents.windows(text.len()).position(|window| window == text).unwrap()
}

/// The lines of `verify`, apart from the last, which sums them up.
fn verify(dir: &Path) -> (Option<i32>, Vec<Value>, Value) {
    let output = run(dir, &["verify", "--json"]);
    let mut said = lines(&output.stdout);
    let summary = said.pop().unwrap()["verified"].clone();
    (output.status.code(), said, summary)
}

fn range(line: &Value) -> (u64, u64) {
    let damage = &line["damage"];
    (damage["first_seq"].as_u64().unwrap(), damage["end_seq"].as_u64().unwrap())
}

#[test]
fn a_whole_spool_verifies_and_says_what_it_read() {
    let scene = Scene::new();
    let (code, said, summary) = verify(scene.path());
    assert_eq!((code, said.len()), (Some(0), 0), "{said:?}");
    assert_eq!(summary["batches"], scene.bodies.len(), "{summary}");
    assert_eq!(summary["logs"], scene.logs.len(), "{summary}");
    let bytes: u64 = scene.segments().iter().map(|path| path.metadata().unwrap().len()).sum();
    assert_eq!(summary["bytes"], bytes, "{summary}");
}

#[test]
fn a_byte_of_a_body_costs_its_batch_and_no_other() {
    let scene = Scene::new();
    let path = &scene.segments()[0];
    let body = &scene.bodies[3];
    let at = position(&std::fs::read(path).unwrap(), body) + body.len() / 2;
    spoil(path, at, 1);

    let (code, said, summary) = verify(scene.path());
    assert_eq!((code, said.len(), &summary["lost_batches"]), (Some(1), 1, &1.into()), "{said:?}");
    assert_eq!(range(&said[0]), (3, 4));
    let damage = &said[0]["damage"];
    let (from, to) = (damage["from"].as_u64().unwrap(), damage["to"].as_u64().unwrap());
    assert!(from <= at as u64 && (at as u64) < to, "{damage} and {at}");
    let name = path.file_stem().unwrap().to_str().unwrap();
    assert_eq!(damage["segment"], name);

    let shown = json(scene.path(), &["cat"]);
    let (damaged, logs): (Vec<_>, Vec<_>) =
        shown.into_iter().partition(|line| line.get("damage").is_some());
    assert_eq!(damaged.iter().map(range).collect::<Vec<_>>(), [(3, 4)]);
    let others = scene.logs.iter().filter(|log| log.seq != 3);
    let others: Vec<_> = others.map(|log| (log.seq, log.index)).collect();
    assert_eq!(places(&logs), others);
    let output = run(scene.path(), &["show", "3"]);
    assert_eq!(output.status.code(), Some(69));
    assert!(String::from_utf8_lossy(&output.stderr).contains(name), "{output:?}");
    let output = run(scene.path(), &["cat"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("batch 3"), "{output:?}");
}

#[test]
fn anything_that_is_spoilt_is_named_and_what_is_lost_lies_in_what_is_named() {
    let scene = Scene::new();
    let seed = std::env::var("SLS_RELAY_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("SLS_RELAY_SEED={seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    // Not the newest: what is cut from its end was never acknowledged.
    let segments = scene.segments();
    let segments = &segments[..segments.len() - 1];
    let mut costly = 0;
    for case in 0..12 {
        let path = &segments[rng.usize(..segments.len())];
        let whole = std::fs::read(path).unwrap();
        let what = match rng.u8(..4) {
            0 => {
                std::fs::remove_file(path).unwrap();
                "removed".to_owned()
            }
            1 => {
                let length = rng.usize(..whole.len());
                std::fs::write(path, &whole[..length]).unwrap();
                format!("cut to {length}")
            }
            _ => {
                let length = rng.usize(1..4096).min(whole.len());
                let at = rng.usize(..=whole.len() - length);
                spoil(path, at, length);
                format!("spoilt {length} at {at}")
            }
        };
        let what = format!("case {case}: {path:?} {what}");
        let (code, said, summary) = verify(scene.path());
        assert_eq!(code, Some(1), "{what}");
        let named: BTreeSet<u64> =
            said.iter().flat_map(|line| range(line).0..range(line).1).collect();
        let read = json(scene.path(), &["list"]);
        let read = read.iter().filter_map(|line| line["seq"].as_u64());
        let kept = json(scene.path(), &["cat"]);
        let logs: BTreeSet<u64> = kept.iter().filter_map(|line| line["seq"].as_u64()).collect();
        let lost: BTreeSet<u64> =
            (0..scene.bodies.len() as u64).filter(|seq| !logs.contains(seq)).collect();
        assert!(lost.is_subset(&named), "{what}: lost {lost:?}, named {named:?}");
        assert_eq!(summary["lost_batches"], lost.len(), "{what}: lost {lost:?}, {said:?}");
        // A list reads no bodies, so it may name a batch whose body is lost, and never leave out
        // one that is there.
        assert!(logs.is_subset(&read.collect()), "{what}");
        costly += usize::from(!lost.is_empty());
        std::fs::write(path, &whole).unwrap();
        assert_eq!(verify(scene.path()).0, Some(0), "{what}, and put back");
    }
    assert!(costly > 0, "nothing was ever lost");
}

#[test]
fn a_body_that_checks_and_is_no_answer_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let mut maker = Maker::new(2);
    runtime().block_on(async {
        for seq in 0..5 {
            let (key, mut batch, _) = maker.next();
            match seq {
                1 => batch.body = vec![7; 300].into(),
                // Nothing of this size is ever allocated.
                3 => (batch.compression, batch.raw_size) = (Compression::Zstd, u64::MAX),
                _ => {}
            }
            append(&spool, key, batch).await;
        }
    });
    spool.close();
    let (code, said, summary) = verify(dir.path());
    assert_eq!(
        (code, &summary["undecodable"], &summary["damage"]),
        (Some(1), &2.into(), &0.into())
    );
    let seqs: Vec<_> = said.iter().map(|line| line["undecodable"]["seq"].as_u64()).collect();
    assert_eq!(seqs, [Some(1), Some(3)]);
    let shown = json(dir.path(), &["cat"]);
    let seqs: BTreeSet<_> = shown.iter().filter_map(|line| line["seq"].as_u64()).collect();
    assert_eq!(seqs, BTreeSet::from([0, 2, 4]));
    assert_eq!(run(dir.path(), &["show", "1", "--raw"]).stdout, vec![7; 300]);
    assert_eq!(run(dir.path(), &["show", "1"]).status.code(), Some(69));
}

#[test]
fn a_missing_segment_is_damage_from_the_start() {
    let scene = Scene::new();
    let segments = scene.segments();
    std::fs::remove_file(&segments[1]).unwrap();
    let spool = Inspection::open(scene.path()).unwrap();
    assert_eq!(spool.damage.len(), 1);
    let status = &json(scene.path(), &["status"])[0];
    assert_eq!(status["damaged_ranges"], 1, "{status}");
    let text = run(scene.path(), &["status"]).stdout;
    assert!(String::from_utf8_lossy(&text).contains("DAMAGE"), "{text:?}");
}

#[test]
fn a_segment_that_ends_early_or_holds_nothing_any_more_is_damage() {
    let scene = Scene::new();
    let path = &scene.segments()[1];
    let whole = std::fs::read(path).unwrap();
    // The last groups may be positions alone: cut before the one of the last batch.
    let body = position(&whole, &scene.bodies[23]);
    let group = whole[..body].windows(4).rposition(|window| window == b"SGRP").unwrap();
    for (contents, first) in
        [(whole[..group].to_vec(), 23), (Vec::new(), 12), (vec![0; whole.len()], 12)]
    {
        std::fs::write(path, &contents).unwrap();
        let (code, said, summary) = verify(scene.path());
        let length = contents.len();
        assert_eq!((code, said.len()), (Some(1), 1), "{length}: {said:?}");
        assert_eq!(range(&said[0]), (first, 24), "{length}");
        assert_eq!(summary["lost_batches"], 24 - first, "{length}");
        let shown = json(scene.path(), &["cat"]);
        let damaged: Vec<_> =
            shown.iter().filter(|line| line.get("damage").is_some()).map(range).collect();
        assert_eq!(damaged, [(first, 24)], "{length}");
    }
}
