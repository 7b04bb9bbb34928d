//! Cursors, retention, split and merge of the emulated store.

use super::super::shard::{cursor_number, cursor_text};
use super::*;
use crate::sls::wire::{Content, Log, LogGroupList};

fn group(id: u64) -> LogGroup {
    let content = Content { key: "id".into(), value: id.to_string().into() };
    let log = Log { time: 1, contents: vec![content], time_ns: None };
    LogGroup { logs: vec![log], ..LogGroup::default() }
}

fn ids(body: &[u8]) -> Vec<String> {
    let list = LogGroupList::decode(body).unwrap();
    let logs = list.log_groups.iter().flat_map(|group| &group.logs);
    logs.map(|log| String::from_utf8(log.contents[0].value.to_vec()).unwrap()).collect()
}

fn generated(counts: &[u64]) -> Store {
    let make: Make = Arc::new(|shard, number| group(u64::from(shard) * 1000 + number));
    let generator = Generator { groups_per_shard: counts.to_vec(), make };
    Store::new(counts.len() as u32, Some(generator), 10_000)
}

fn read(store: &Store, shard: u32, cursor: i64, count: usize) -> Pulled {
    store.pull(shard, cursor, count, None).unwrap().encode(usize::MAX)
}

#[test]
fn generated_groups_come_before_those_that_were_put() {
    let mut store = generated(&[2, 1]);
    store.put(1, &group(7), 10_001).unwrap();
    let begin = store.shard(1).unwrap().begin();
    let pulled = read(&store, 1, begin, 10);
    assert_eq!(ids(&pulled.body), ["1000", "7"]);
    assert_eq!((pulled.groups, pulled.next, pulled.at_end), (2, begin + 2, true));
    assert_eq!(pulled.received, Some(10_001));
}

#[test]
fn a_pull_stops_at_count_stop_cursor_and_size_but_never_below_one_group() {
    let store = generated(&[5]);
    let begin = store.shard(0).unwrap().begin();
    assert_eq!(ids(&read(&store, 0, begin + 1, 2).body), ["1", "2"]);
    let stopped = store.pull(0, begin, 100, Some(begin + 3)).unwrap().encode(usize::MAX);
    assert_eq!((stopped.groups, stopped.at_end), (3, false));
    let tiny = store.pull(0, begin, 100, None).unwrap().encode(1);
    assert_eq!((tiny.groups, tiny.next), (1, begin + 1));
    let one = tiny.body.len();
    let two = store.pull(0, begin, 100, None).unwrap().encode(2 * one + 6);
    assert_eq!(two.groups, 2);
}

#[test]
fn expired_and_foreign_cursors_are_refused_and_the_end_is_not() {
    let mut store = generated(&[5]);
    let begin = store.shard(0).unwrap().begin();
    store.expire_before(0, 2).unwrap();
    assert_eq!(store.shard(0).unwrap().begin(), begin + 2);
    for cursor in [begin, begin + 1, begin + 6] {
        let refused = store.pull(0, cursor, 1, None).err();
        assert_eq!(refused, Some(StoreError::InvalidCursor { shard: 0, cursor }));
    }
    assert_eq!(read(&store, 0, begin + 5, 1).groups, 0);
    store.expire_before(0, 1).unwrap();
    assert_eq!(store.shard(0).unwrap().begin(), begin + 2, "retention never goes back");
}

#[test]
fn a_time_cursor_is_the_first_group_received_then_or_later() {
    let mut store = generated(&[3]);
    store.put(0, &group(9), 10_005).unwrap();
    let shard = store.shard(0).unwrap();
    let begin = shard.begin();
    let found: Vec<i64> = [0, 9_998, 9_999, 10_000, 10_001, 10_006]
        .iter()
        .map(|&unix| shard.cursor_at(unix) - begin)
        .collect();
    assert_eq!(found, [0, 0, 1, 2, 3, 4]);
    assert_eq!(shard.time_at(begin, 20_000), Ok(9_998));
    assert_eq!(shard.time_at(begin + 4, 20_000), Ok(20_000));
}

#[test]
fn split_and_merge_end_the_parents_and_keep_the_key_range_whole() {
    let mut store = generated(&[1]);
    assert_eq!(store.split(0, 10_001), Ok((1, 2)));
    assert_eq!(store.put(0, &group(1), 0), Err(StoreError::ReadOnly(0)));
    assert_eq!(store.split(0, 0), Err(StoreError::ReadOnly(0)));
    assert_eq!(store.split(9, 0), Err(StoreError::NoShard(9)));
    let (left, right) = (store.shard(1).unwrap().clone(), store.shard(2).unwrap().clone());
    assert_eq!((left.begin_key, right.end_key), (0, u128::MAX));
    assert_eq!(left.end_key, right.begin_key);
    assert_eq!(left.parents, [0]);
    assert_eq!(store.merge(1, 2, 10_002), Ok(3));
    let child = store.shard(3).unwrap();
    assert_eq!((child.begin_key, child.end_key), (0, u128::MAX));
    assert_eq!(child.parents, [1, 2]);
    assert!(store.merge(3, 3, 0).is_err(), "a shard does not merge with itself");
    assert!(!store.shard(3).unwrap().is_read_only());
}

#[test]
fn cursor_text_is_base64_of_the_decimal_number() {
    assert_eq!(cursor_text(1_447_299_606_896_632_356), "MTQ0NzI5OTYwNjg5NjYzMjM1Ng==");
    assert_eq!(cursor_number("MTQ0NzI5OTYwNjg5NjYzMjM1Ng=="), Some(1_447_299_606_896_632_356));
    for bad in ["", "x", "bm90IGEgbnVtYmVy", "MTQ0NzI5OTYwNjg5NjYzMjM1Ng"] {
        assert_eq!(cursor_number(bad), None, "{bad}");
    }
}
