//! The quota on a real file system: what all files take never passes it, and what a full spool
//! still has to write always fits.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::super::{Error, Item, Spool};
use super::{after, batch, begin, runtime};

/// Bytes allocated by everything below `dir`.
fn allocated(dir: &Path) -> u64 {
    let Ok(files) = std::fs::read_dir(dir) else { return 0 };
    let sizes = files.flatten().map(|file| match file.file_type() {
        Ok(kind) if kind.is_dir() => allocated(&file.path()),
        _ => file.metadata().map_or(0, |metadata| metadata.blocks() * 512),
    });
    sizes.sum()
}

/// Fills, drains and fills again; bodies up to `largest` bytes.
fn fill_and_drain(max_bytes: u64, largest: usize) {
    let dir = tempfile::tempdir().unwrap();
    let options = super::Options::new(dir.path(), max_bytes);
    let mut rng = fastrand::Rng::with_seed(max_bytes);
    let within = |when: &str| {
        let used = allocated(dir.path());
        assert!(used <= max_bytes, "{used} of {max_bytes} bytes allocated {when}");
    };
    runtime().block_on(async {
        let (spool, _) = Spool::open(&options).unwrap();
        spool.set_destinations(&["siem".to_owned()]).await.unwrap();
        let tenure = begin(&spool, 0).await;
        let mut reader = spool.reader(0);
        let mut number = 0;
        for round in 0..3 {
            loop {
                let size = rng.usize(largest / 2..largest);
                match spool.append(&tenure, batch(number, vec![1; size])).await {
                    Ok(_) => number += 1,
                    Err(Error::Full { needed, .. }) => {
                        assert_eq!(needed, size as u64, "what is needed is not told");
                        break;
                    }
                    Err(error) => panic!("{error}"),
                }
                within("while it fills");
            }
            let held = allocated(dir.path());
            assert!(held > max_bytes / 2, "round {round}: full with {held} bytes");
            // One ack at a time, each durable by itself: all of it while the spool is full.
            while let Some(Item::Batch(read)) = reader.read().unwrap() {
                let (position, log) = after(&read);
                spool.ack("siem", position, log);
                spool.flush().await.unwrap();
                within("while acks are written");
            }
            reader.release();
            let left = allocated(&dir.path().join("segments"));
            assert!(left <= 2 * (max_bytes / 16), "round {round}: {left} bytes of segments left");
        }
        spool.close();
        within("after the end");
    });
}

#[test]
fn a_quota_of_16_mib_holds_through_filling_and_draining() {
    fill_and_drain(16 << 20, 400_000);
}

#[test]
fn a_quota_of_64_mib_holds_through_filling_and_draining() {
    fill_and_drain(64 << 20, 3 << 20);
}
