//! A spool with realistic logs, and beside it all that was put in.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use sls_relay::emulator::waf::{Waf, fields_of};
use sls_relay::sls::Cursor;
use sls_relay::sls::wire::{LogGroup, LogGroupList};
use sls_relay::spool::{Batch, Compression, Error, MIN_QUOTA, Options, Position, ShardKey, Spool};

pub(crate) const ONE: &str = "https://cn-x.log.example.com/demo/waf#relay";
pub(crate) const TWO: &str = "https://cn-x.log.example.com/demo/other#relay";
pub(crate) const GROUPS: u64 = 3;
const LOGS: usize = 6;

/// A log as it was put in.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) seq: u64,
    pub(crate) index: u32,
    pub(crate) source: &'static str,
    pub(crate) shard: u32,
    pub(crate) batch_cursor: String,
    pub(crate) cursor: Option<String>,
    pub(crate) group: usize,
    pub(crate) time: u32,
    pub(crate) time_ns: Option<u32>,
    /// ms since the epoch.
    pub(crate) received: i64,
    pub(crate) topic: Vec<u8>,
    pub(crate) pairs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A directory with a spool in it, and what it holds.
pub(crate) struct Scene {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) logs: Vec<Known>,
    pub(crate) bodies: Vec<Vec<u8>>,
    /// The first log that is not confirmed.
    pub(crate) needed: (u64, u32),
}

/// What makes batches for both sources and three shards, in turn.
pub(crate) struct Maker {
    waf: Waf,
    pub(crate) made: u64,
}

impl Maker {
    pub(crate) fn new(seed: u64) -> Self {
        Self { waf: Waf::new(seed), made: 0 }
    }

    /// The key, the batch, and its logs, for the batch that will have this number.
    pub(crate) fn next(&mut self) -> (ShardKey, Batch, Vec<Known>) {
        let seq = self.made;
        self.made += 1;
        let (source, shard) = [(ONE, 0), (ONE, 1), (TWO, 0)][(seq % 3) as usize];
        let first = seq / 3 * GROUPS;
        // Each batch is some 100 s later than the one before, and the groups of one are apart.
        let group = |n: u64| {
            let mut group = self.waf.group(shard, seq * 5000 + n * 700, LOGS);
            match (seq + n) % 5 {
                0 => group.topic = None,
                1 => group.topic = Some(Bytes::from_static(b"topic \xff\n")),
                2 => group.source = Some(Bytes::new()),
                _ => {}
            }
            group
        };
        let list = LogGroupList { log_groups: (0..GROUPS).map(group).collect() };
        let known_cursors = !seq.is_multiple_of(4);
        let received = 1_760_140_800_000 + i64::try_from(seq).unwrap() * 60_000;
        let raw = list.encode_to_vec();
        let (compression, body) = match seq % 3 {
            0 => (Compression::Lz4, lz4_flex::block::compress(&raw)),
            1 => (Compression::Zstd, zstd(&raw)),
            _ => (Compression::None, raw.clone()),
        };
        let times = || list.log_groups.iter().flat_map(|group| &group.logs).map(|log| log.time);
        let batch = Batch {
            cursor: Cursor::from_number(first).to_string(),
            next_cursor: Cursor::from_number(first + GROUPS).to_string(),
            first_group_cursor: known_cursors.then_some(first),
            groups: u32::try_from(GROUPS).unwrap(),
            logs: u32::try_from(times().count()).unwrap(),
            query: false,
            received_at: received,
            min_time: times().min().unwrap(),
            max_time: times().max().unwrap(),
            raw_size: raw.len() as u64,
            compression,
            body: body.into(),
        };
        let mut logs = Vec::new();
        for (number, group) in list.log_groups.iter().enumerate() {
            let cursor = Cursor::from_number(first + number as u64).to_string();
            logs.extend(group.logs.iter().map(|log| Known {
                seq,
                index: 0,
                source,
                shard,
                batch_cursor: batch.cursor.clone(),
                cursor: known_cursors.then(|| cursor.clone()),
                group: number,
                time: log.time,
                time_ns: log.time_ns,
                received,
                topic: group.topic.clone().unwrap_or_default().to_vec(),
                pairs: pairs(log, group),
            }));
        }
        for (index, log) in (0..).zip(&mut logs) {
            log.index = index;
        }
        (ShardKey { source: source.to_owned(), shard }, batch, logs)
    }
}

/// What a log shows: fields that the writer left empty are not there.
fn pairs(log: &sls_relay::sls::wire::Log, group: &LogGroup) -> Vec<(Vec<u8>, Vec<u8>)> {
    let fields = fields_of(log, group).into_iter();
    let of_group = |key: &Bytes| &key[..] == b"__topic__" || &key[..] == b"__source__";
    fields
        .filter(|(key, value)| !(of_group(key) && value.is_empty()))
        .map(|(key, value)| (key.to_vec(), value.to_vec()))
        .collect()
}

fn zstd(raw: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(raw, ruzstd::encoding::CompressionLevel::Fastest)
}

/// Opens the spool in `dir`. A child that another test starts holds what this process has open,
/// the lock as well, until it becomes the program it is to be.
pub(crate) fn open(dir: &Path) -> Spool {
    let options = Options::new(dir, MIN_QUOTA);
    let mut opened = None;
    wait_for("the lock of the spool", || {
        opened = match Spool::open(&options) {
            Err(Error::InUse { .. }) => None,
            other => Some(other.unwrap().0),
        };
        opened.is_some()
    });
    opened.unwrap()
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Appends one batch to its shard.
pub(crate) async fn append(spool: &Spool, key: ShardKey, batch: Batch) {
    let tenure = spool.begin(key, batch.cursor.clone(), None).await.unwrap();
    spool.append(&tenure, batch).await.unwrap();
}

impl Scene {
    /// 36 batches in three segments and more, of which the first few logs are delivered.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut maker = Maker::new(5);
        let (mut logs, mut bodies) = (Vec::new(), Vec::new());
        let needed = Position { seq: 4, index: 5 };
        for life in 0..3 {
            let spool = open(dir.path());
            runtime().block_on(async {
                spool.set_destinations(&["syslog".to_owned()]).await.unwrap();
                for _ in 0..12 {
                    let (key, batch, known) = maker.next();
                    bodies.push(batch.body.to_vec());
                    logs.extend(known);
                    append(&spool, key, batch).await;
                }
                if life == 0 {
                    let confirmed =
                        |log: &&Known| (log.seq, log.index) < (needed.seq, needed.index);
                    spool.ack("syslog", needed, logs.iter().filter(confirmed).count() as u64);
                    spool.flush().await.unwrap();
                }
            });
            spool.close();
        }
        Self { dir, logs, bodies, needed: (needed.seq, needed.index) }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn segments(&self) -> Vec<PathBuf> {
        let files = std::fs::read_dir(self.path().join("segments")).unwrap();
        let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        paths.sort();
        paths
    }
}

/// Waits for `done` for as long as anything may take.
pub(crate) fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let end = std::time::Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(std::time::Instant::now() < end, "{what} did not come");
        std::thread::sleep(Duration::from_millis(5));
    }
}
