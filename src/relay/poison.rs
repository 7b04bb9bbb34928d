//! Logs that one destination does not get: they go to the quarantine, with the reason, and
//! delivery goes on behind them.

use bytes::Bytes;
use prost::Message as _;

use super::encoder::{Mark, compression};
use super::feed::Feed;
use crate::config::Destination;
use crate::sls::wire::{Content, Log, LogGroup, LogGroupList, LogTag};
use crate::sls::{Cursor, DecodeError, body, walk};
use crate::spool::{self, BatchHeader, Item, Position, QuarantinedLog, Spool};

/// Why a log is not put into the quarantine. Nothing was passed over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PoisonError {
    /// The copy cannot be kept, or the batch not be read.
    #[error(transparent)]
    Spool(#[from] spool::Error),
    /// The spool has no such log.
    #[error("the spool holds no log {at} to be put into the quarantine")]
    NoLog {
        /// Where it should be.
        at: Position,
    },
    /// The batch is not what was stored.
    #[error("batch {seq} cannot be decoded")]
    Decode {
        /// The batch.
        seq: u64,
        /// What is wrong.
        source: DecodeError,
    },
    /// The thread that reads the spool ended.
    #[error("the log cannot be read: the thread that reads it ended")]
    Thread,
}

impl PoisonError {
    /// Stable name of the kind of error.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Spool(error) => error.code(),
            Self::NoLog { .. } => "poison.no_log",
            Self::Decode { .. } => "poison.decode",
            Self::Thread => "poison.thread",
        }
    }
}

/// Puts the log at `at` into the quarantine, durably, and returns the mark behind it. `at` is
/// the place of the log itself, counted in all logs of its batch. `why` goes into the ledger
/// in the clear and must hold nothing of the log.
///
/// Of a replay out of the quarantine nothing is kept a second time: the copy stays, and the
/// replay tells of it.
///
/// # Errors
/// See [`PoisonError`]; the log must not be passed over then.
pub(crate) async fn quarantine(
    feed: &Feed,
    destination: &Destination,
    at: Mark,
    why: String,
) -> Result<Mark, PoisonError> {
    let (feed, name) = (feed.clone(), destination.name.clone());
    let kept = tokio::task::spawn_blocking(move || keep(&feed, &name, at, &why));
    kept.await.map_err(|_| PoisonError::Thread)?
}

fn keep(feed: &Feed, destination: &str, at: Mark, why: &str) -> Result<Mark, PoisonError> {
    let Position { seq, index } = at.position;
    let after = |logs: u32| Mark {
        position: match index + 1 < logs {
            true => Position { seq, index: index + 1 },
            false => Position { seq: seq + 1, index: 0 },
        },
        log: at.log + 1,
    };
    if let Some(kept) = feed.replay.as_ref().and_then(|replay| replay.kept()) {
        kept.refuse(seq, why);
        return Ok(after(1));
    }
    let read = feed.spool.reader(seq).read()?;
    let Some(Item::Batch(batch)) = read else { return Err(PoisonError::NoLog { at: at.position }) };
    let header = &batch.header;
    let mut raw = Vec::new();
    body::decompress(compression(header), &batch.body, header.raw_size, &mut raw)
        .and_then(|()| walk::summary(&raw))
        .map_err(|source| PoisonError::Decode { seq, source })?;
    let found = (header.seq == seq).then(|| find(&raw, index)).flatten();
    let Some(found) = found else { return Err(PoisonError::NoLog { at: at.position }) };
    store(&feed.spool, destination, header, &found, why)?;
    Ok(after(header.logs))
}

/// A log and where it is.
pub(crate) struct Found<'a> {
    pub(crate) group: walk::Group<'a>,
    pub(crate) log: walk::Log<'a>,
    /// Its place among all logs of the batch.
    pub(crate) index: u32,
    /// The number of its log group in the batch, and its place there.
    pub(crate) in_group: (u64, u32),
}

fn find(raw: &[u8], index: u32) -> Option<Found<'_>> {
    let mut at = 0;
    for (number, group) in (0..).zip(walk::groups(raw).flatten()) {
        for (place, log) in (0..).zip(group.logs()) {
            if at == index {
                return Some(Found { group, log, index, in_group: (number, place) });
            }
            at += 1;
        }
    }
    None
}

/// Keeps one log of a batch; blocks. Doing it twice does nothing.
pub(crate) fn store(
    spool: &Spool,
    destination: &str,
    header: &BatchHeader,
    found: &Found<'_>,
    why: &str,
) -> Result<(), spool::Error> {
    let (number, place) = found.in_group;
    let cursor = header.first_group_cursor.map(|first| Cursor::from_number(first + number));
    let name = spool.quarantine_log(&QuarantinedLog {
        destination,
        key: &header.key,
        seq: header.seq,
        log: found.index,
        cursor: cursor.as_ref().map_or(&header.cursor, Cursor::as_str),
        index: if cursor.is_some() { place } else { found.index },
        approximate: cursor.is_none(),
        why,
        body: &alone(&found.group, &found.log),
    })?;
    tracing::error!(destination, code = "relay.quarantined", seq = header.seq, log = found.index, shard = header.key.shard, cursor = %header.cursor, name, "a log is not delivered: {why}; it is kept in the spool's quarantine. Look at it with `sls-relay spool quarantine show {name}`");
    Ok(())
}

/// What [`walk`] reads of `log` and its group, and nothing else.
fn alone(group: &walk::Group<'_>, log: &walk::Log<'_>) -> Vec<u8> {
    let bytes = Bytes::copy_from_slice;
    let present = |text: &[u8]| (!text.is_empty()).then(|| bytes(text));
    let content = |(key, value)| Content { key: bytes(key), value: bytes(value) };
    let tag = |(key, value)| LogTag { key: bytes(key), value: bytes(value) };
    let contents = log.fields().map(content).collect();
    let group = LogGroup {
        logs: vec![Log { time: log.time, contents, time_ns: log.time_ns }],
        topic: present(group.topic),
        source: present(group.source),
        tags: group.tags().map(tag).collect(),
        ..LogGroup::default()
    };
    LogGroupList { log_groups: vec![group] }.encode_to_vec()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::super::encoder::{self, Chunk};
    use super::super::status::{DestinationCounters, read};
    use super::*;
    use crate::config;
    use crate::spool::{Batch, Compression, MIN_QUOTA, Options, Origin, ShardKey};
    use crate::syslog::delivery::Room;
    use crate::syslog::{Formatted, Formatter, LogLine};

    const ROOM: Room = Room { logs: u32::MAX, bytes: u64::MAX };

    fn text(text: &str) -> Bytes {
        Bytes::copy_from_slice(text.as_bytes())
    }

    fn group(topic: &str, values: &[&str]) -> LogGroup {
        let log = |value: &&str| Log {
            time: 1_760_140_800,
            contents: vec![Content { key: text("k"), value: text(value) }],
            time_ns: Some(7),
        };
        LogGroup {
            logs: values.iter().map(log).collect(),
            topic: Some(text(topic)),
            source: Some(text("here")),
            tags: vec![LogTag { key: text("host"), value: text("web-1") }],
            ..LogGroup::default()
        }
    }

    /// One batch of two groups with two logs each, from `first` on.
    fn batch(number: u64, first: Option<u64>) -> Batch {
        let groups = vec![group("good", &["0", "1"]), group("bad", &["2", "3"])];
        let raw = LogGroupList { log_groups: groups }.encode_to_vec();
        Batch {
            cursor: format!("c{number}"),
            next_cursor: format!("c{}", number + 1),
            first_group_cursor: first,
            groups: 2,
            logs: 4,
            query: false,
            received_at: 1_760_140_800_000,
            min_time: 1_760_140_800,
            max_time: 1_760_140_800,
            raw_size: raw.len() as u64,
            compression: Compression::None,
            body: raw.into(),
        }
    }

    struct Scene {
        dir: tempfile::TempDir,
        feed: Feed,
        destination: Arc<Destination>,
    }

    async fn scene(first: Option<u64>) -> Scene {
        let dir = tempfile::tempdir().unwrap();
        let (spool, _) = Spool::open(&Options::new(dir.path(), MIN_QUOTA)).unwrap();
        spool.set_destinations(&["siem".to_owned()]).await.unwrap();
        for number in 0..2 {
            let key = ShardKey { source: "h/p/l#g".to_owned(), shard: 3 };
            spool.insert(key, batch(number, first), Origin::Import).await.unwrap();
        }
        let settings = "[spool]\ndir = \"/nowhere\"\n[[source]]\nendpoint = \"http://127.0.0.1:1\"\n\
                    project = \"p\"\nlogstore = \"logs\"\nconsumer_group = \"g\"\n\
                    access_key_id = \"i\"\naccess_key_secret = \"s\"\n\
                    [[destination]]\nname = \"siem\"\nto = \"tcp://127.0.0.1:9\"\n";
        let parsed = config::parse(settings, "test", &|_| None, "host").unwrap();
        let destination = Arc::new(parsed.settings.destinations[0].clone());
        Scene { dir, feed: Feed { spool, replay: None }, destination }
    }

    impl Scene {
        fn at(seq: u64, index: u32) -> Mark {
            Mark { position: Position { seq, index }, log: 4 * seq + u64::from(index) }
        }

        /// What is kept, with the value of its only field and the line about it.
        fn kept(&self) -> Vec<(String, serde_json::Value)> {
            let view = self.feed.spool.inspection();
            let lines = spool::read_ledger(self.dir.path()).unwrap();
            let copies = view.quarantine().unwrap();
            let one = |(name, _): (String, u64)| {
                let raw = view.copy_of(&name).unwrap();
                let counted = walk::summary(&raw).unwrap();
                assert_eq!((counted.groups, counted.logs), (1, 1));
                let group = walk::groups(&raw).next().unwrap().unwrap();
                let log = group.logs().next().unwrap();
                assert_eq!((log.time, log.time_ns), (1_760_140_800, Some(7)));
                assert_eq!(group.source, b"here");
                assert_eq!(group.tags().collect::<Vec<_>>(), [(&b"host"[..], &b"web-1"[..])]);
                let (_, value) = log.fields().next().unwrap();
                let value = String::from_utf8(value.to_vec()).unwrap();
                let copy = format!("quarantine/{name}");
                let line = lines.iter().find(|line| line["copy"] == copy.as_str()).unwrap();
                (value, line.clone())
            };
            copies.into_iter().map(one).collect()
        }
    }

    #[tokio::test]
    async fn the_log_at_a_mark_is_kept_with_its_group_and_delivery_goes_on_behind_it() {
        let scene = scene(Some(40)).await;
        let put = |at| quarantine(&scene.feed, &scene.destination, at, "refused".to_owned());
        assert_eq!(put(Scene::at(0, 2)).await.unwrap(), Scene::at(0, 3));
        assert_eq!(put(Scene::at(0, 2)).await.unwrap(), Scene::at(0, 3), "again");
        assert_eq!(put(Scene::at(0, 3)).await.unwrap(), Scene::at(1, 0));
        let kept = scene.kept();
        assert_eq!(kept.len(), 2);
        assert_eq!((kept[0].0.as_str(), kept[1].0.as_str()), ("2", "3"));
        let line = &kept[1].1;
        let cursor = Cursor::from_number(41);
        assert_eq!((&line["cursor"], &line["index"]), (&cursor.as_str().into(), &1.into()));
        assert_eq!((&line["seq"], &line["log"]), (&0.into(), &3.into()));
        assert_eq!((&line["why"], &line["approximate"]), (&"refused".into(), &false.into()));
    }

    #[tokio::test]
    async fn without_numbered_groups_the_identity_is_the_cursor_of_the_batch() {
        let scene = scene(None).await;
        quarantine(&scene.feed, &scene.destination, Scene::at(1, 2), "no".to_owned())
            .await
            .unwrap();
        let (value, line) = scene.kept().remove(0);
        assert_eq!(
            (value.as_str(), &line["cursor"], &line["index"]),
            ("2", &"c1".into(), &2.into())
        );
        assert_eq!(line["approximate"], true);
    }

    #[tokio::test]
    async fn what_is_not_there_is_not_passed_over() {
        let scene = scene(None).await;
        for at in [Scene::at(0, 4), Scene::at(2, 0)] {
            let put = quarantine(&scene.feed, &scene.destination, at, "no".to_owned()).await;
            assert_eq!(put.unwrap_err().code(), "poison.no_log");
        }
        assert_eq!(scene.kept(), []);
    }

    fn panics_on_bad(
        formatter: &mut Formatter,
        line: &LogLine<'_>,
        out: &mut Vec<u8>,
    ) -> Formatted {
        assert_ne!(line.topic, b"bad", "a defect of the formatter");
        formatter.format(line, out)
    }

    async fn next(chunks: &mut tokio::sync::mpsc::Receiver<Chunk>) -> Chunk {
        let chunk = tokio::time::timeout(Duration::from_secs(30), chunks.recv()).await;
        chunk.expect("a chunk within 30 seconds").expect("the encoder goes on")
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_log_that_cannot_be_formatted_is_kept_and_the_others_are_sent() {
        let scene = scene(Some(40)).await;
        let (feed, destination) = (scene.feed.clone(), Arc::clone(&scene.destination));
        let counters = Arc::new(DestinationCounters::default());
        let counted = Arc::clone(&counters);
        let from = Mark::default();
        let mut chunks =
            encoder::spawn_with(panics_on_bad, feed, destination, counters, from, ROOM).unwrap();
        for seq in 0..2 {
            let chunk = next(&mut chunks).await;
            assert_eq!((chunk.after, chunk.logs), (Scene::at(seq + 1, 0), 4));
            assert_eq!(chunk.frames.iter().count(), 2);
        }
        let values: Vec<_> = scene.kept().into_iter().map(|(value, _)| value).collect();
        assert_eq!(values, ["2", "3", "2", "3"]);
        assert_eq!(read(&counted.quarantined), 4);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn delivery_waits_while_the_quarantine_is_full() {
        let scene = scene(Some(40)).await;
        let spool = scene.feed.spool.clone();
        let key = ShardKey { source: "h/p/l#g".to_owned(), shard: 9 };
        let all = vec![0; usize::try_from(MIN_QUOTA / 8).unwrap()];
        let other = QuarantinedLog {
            destination: "other",
            key: &key,
            seq: 99,
            log: 0,
            cursor: "c",
            index: 0,
            approximate: true,
            why: "a test",
            body: &all,
        };
        let name = spool.quarantine_log(&other).unwrap();
        let (feed, destination) = (scene.feed.clone(), Arc::clone(&scene.destination));
        let counters = Arc::default();
        let from = Mark::default();
        let mut chunks =
            encoder::spawn_with(panics_on_bad, feed, destination, counters, from, ROOM).unwrap();
        let early = tokio::time::timeout(Duration::from_secs(2), chunks.recv()).await;
        assert!(early.is_err(), "a log was passed over that is not kept");
        assert_eq!(spool.remove_quarantined(&[&name]).unwrap(), 1);
        assert_eq!(next(&mut chunks).await.after, Scene::at(1, 0));
        assert!(scene.kept().len() >= 2);
    }
}
