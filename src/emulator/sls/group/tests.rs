//! Every rule of the consumer group, on a clock of its own.

use super::*;

const TIMEOUT: u64 = 30;

/// A group, its logstore's shards and a clock that the test moves.
struct Bench {
    group: Group,
    facts: Vec<ShardFacts>,
    now: Instant,
}

impl Bench {
    fn new(shards: u32, order: bool) -> Bench {
        let facts = (0..shards).map(|id| ShardFacts { id, parents: vec![], end: None }).collect();
        let group = Group::new(Duration::from_secs(TIMEOUT), order);
        Bench { group, facts, now: Instant::now() }
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    fn beat(&mut self, consumer: &str, reported: &[u32]) -> Vec<u32> {
        self.group.heartbeat(self.now, &self.facts, consumer, reported).unwrap()
    }

    fn commit(&mut self, consumer: &str, shard: u32, force: bool) -> Result<(), GroupError> {
        self.commit_at(consumer, shard, 7, force)
    }

    fn commit_at(
        &mut self,
        consumer: &str,
        shard: u32,
        cursor: i64,
        force: bool,
    ) -> Result<(), GroupError> {
        let commit = Commit { consumer, shard, cursor, force, update_micros: 1 };
        self.group.commit(self.now, &self.facts, &commit)
    }

    fn checkpoint(&mut self, shard: u32) -> Option<Checkpoint> {
        let all = self.group.checkpoints(self.now, &self.facts);
        all.into_iter().find(|(id, _)| *id == shard).and_then(|(_, checkpoint)| checkpoint)
    }

    fn split(&mut self, parent: u32, end: i64, children: [u32; 2]) {
        self.facts.iter_mut().find(|shard| shard.id == parent).unwrap().end = Some(end);
        for id in children {
            self.facts.push(ShardFacts { id, parents: vec![parent], end: None });
        }
    }
}

fn not_match(shard: u32, consumer: &str) -> Result<(), GroupError> {
    Err(GroupError::ConsumerNotMatch { shard, consumer: consumer.to_owned() })
}

#[test]
fn the_first_consumer_gets_every_shard() {
    let mut bench = Bench::new(3, false);
    assert_eq!(bench.beat("a", &[]), [0, 1, 2]);
    assert_eq!(bench.beat("a", &[0, 1, 2]), [0, 1, 2]);
}

#[test]
fn an_unknown_consumer_that_reports_shards_is_refused() {
    let mut bench = Bench::new(1, false);
    let refused = bench.group.heartbeat(bench.now, &bench.facts, "a", &[0]);
    assert_eq!(refused, Err(GroupError::NotExistConsumerWithBody("a".into())));
    assert!(bench.group.holders(bench.now, &bench.facts).is_empty(), "and is not registered");
}

#[test]
fn a_shard_moves_only_after_its_holder_stops_reporting_it() {
    let mut bench = Bench::new(2, false);
    assert_eq!(bench.beat("a", &[]), [0, 1]);
    assert_eq!(bench.beat("b", &[]), Vec::<u32>::new());
    let kept = bench.beat("a", &[0, 1]);
    assert_eq!(kept.len(), 1);
    let moved = 1 - kept[0];
    assert_eq!(bench.group.state(moved), Some(ShardState::Transfer));
    assert_eq!(bench.beat("b", &[]), Vec::<u32>::new(), "still reported by a");
    assert_eq!(bench.beat("a", &[0, 1]), kept, "reporting it does not win it back");
    assert_eq!(bench.beat("a", &kept), kept);
    assert_eq!(bench.beat("b", &[]), [moved]);
}

#[test]
fn omitting_an_allocated_shard_does_not_release_it() {
    let mut bench = Bench::new(2, false);
    bench.beat("a", &[]);
    assert_eq!(bench.beat("a", &[]), [0, 1]);
}

#[test]
fn a_restart_under_the_same_name_resumes_at_once() {
    let mut bench = Bench::new(2, false);
    bench.beat("a", &[]);
    bench.beat("a", &[0, 1]);
    bench.pass(TIMEOUT - 1);
    assert_eq!(bench.beat("a", &[]), [0, 1]);
}

#[test]
fn shares_never_differ_by_more_than_one_once_transfers_are_done() {
    let mut bench = Bench::new(10, false);
    let names = ["a", "b", "c", "d"];
    let mut held: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
    for joined in 1..=names.len() {
        for _ in 0..3 {
            for name in &names[..joined] {
                let before = held.get(name).cloned().unwrap_or_default();
                held.insert(name, bench.beat(name, &before));
            }
        }
        let sizes: Vec<usize> = held.values().map(Vec::len).collect();
        let (low, high) = (sizes.iter().min().unwrap(), sizes.iter().max().unwrap());
        assert!(high - low <= 1, "{sizes:?}");
        assert_eq!(sizes.iter().sum::<usize>(), 10);
    }
}

#[test]
fn a_silent_holder_loses_its_shards_at_the_timeout_and_not_before() {
    let mut bench = Bench::new(2, false);
    bench.beat("a", &[]);
    bench.pass(TIMEOUT);
    assert_eq!(bench.group.holders(bench.now, &bench.facts).len(), 2);
    bench.pass(1);
    assert!(bench.group.holders(bench.now, &bench.facts).is_empty());
    assert_eq!(bench.group.state(0), Some(ShardState::NotAlloc));
    assert_eq!(bench.beat("b", &[]), [0, 1]);
    let refused = bench.group.heartbeat(bench.now, &bench.facts, "a", &[0, 1]);
    assert_eq!(refused, Err(GroupError::NotExistConsumerWithBody("a".into())));
    assert_eq!(bench.commit("a", 0, false), not_match(0, "a"));
}

#[test]
fn a_holder_that_dies_during_a_transfer_frees_the_shard() {
    let mut bench = Bench::new(2, false);
    bench.beat("a", &[]);
    bench.pass(20);
    bench.beat("b", &[]);
    bench.pass(20);
    assert_eq!(bench.beat("b", &[]), [0, 1], "a timed out holding both");
}

#[test]
fn a_shard_goes_back_to_its_holder_when_the_next_owner_dies() {
    let mut bench = Bench::new(2, false);
    bench.beat("a", &[]);
    bench.beat("b", &[]);
    assert_eq!(bench.beat("a", &[0, 1]).len(), 1);
    bench.pass(20);
    bench.beat("a", &[0, 1]);
    bench.pass(20);
    assert_eq!(bench.beat("a", &[0, 1]), [0, 1]);
}

#[test]
fn a_fenced_commit_is_the_holders_alone() {
    let mut bench = Bench::new(2, false);
    bench.beat("a", &[]);
    assert_eq!(bench.commit("a", 0, false), Ok(()));
    assert_eq!(bench.commit("b", 0, false), not_match(0, "b"));
    assert_eq!(bench.checkpoint(0).unwrap().consumer, "a");
    assert_eq!(bench.checkpoint(1), None);
    assert_eq!(bench.commit("a", 9, true), Err(GroupError::ShardNotExist(9)));
}

#[test]
fn a_holder_may_commit_in_transfer_until_it_stops_reporting_the_shard() {
    let mut bench = Bench::new(2, false);
    bench.beat("a", &[]);
    bench.beat("b", &[]);
    let kept = bench.beat("a", &[0, 1]);
    let moved = 1 - kept[0];
    assert_eq!(bench.commit("a", moved, false), Ok(()));
    assert_eq!(bench.commit("b", moved, false), not_match(moved, "b"));
    bench.beat("a", &kept);
    assert_eq!(bench.commit("a", moved, false), not_match(moved, "a"));
    assert_eq!(bench.commit("b", moved, false), Ok(()));
}

#[test]
fn a_forced_commit_needs_no_tenure() {
    let mut bench = Bench::new(1, false);
    assert_eq!(bench.commit("", 0, true), Ok(()));
    bench.beat("a", &[]);
    assert_eq!(bench.commit("stranger", 0, true), Ok(()));
    assert_eq!(bench.checkpoint(0).unwrap().consumer, "stranger");
}

#[test]
fn a_read_only_shard_is_over_when_its_end_is_committed() {
    let mut bench = Bench::new(1, false);
    bench.beat("a", &[]);
    bench.split(0, 50, [1, 2]);
    assert_eq!(bench.beat("a", &[0]), [0, 1, 2]);
    bench.commit_at("a", 0, 49, false).unwrap();
    assert_eq!(bench.group.state(0), Some(ShardState::AlreadyAlloc));
    bench.commit_at("a", 0, 50, false).unwrap();
    assert_eq!(bench.group.state(0), Some(ShardState::Over));
    assert_eq!(bench.commit_at("a", 0, 50, false), Ok(()), "a repeat is harmless");
    assert_eq!(bench.beat("a", &[0, 1, 2]), [1, 2]);
    bench.beat("a", &[1, 2]);
    assert_eq!(bench.commit_at("a", 0, 50, false), not_match(0, "a"));
}

#[test]
fn a_forced_step_back_opens_a_finished_shard_again() {
    let mut bench = Bench::new(1, false);
    bench.split(0, 50, [1, 2]);
    bench.commit_at("", 0, 50, true).unwrap();
    assert_eq!(bench.beat("a", &[]), [1, 2]);
    bench.commit_at("", 0, 10, true).unwrap();
    assert_eq!(bench.beat("a", &[1, 2]), [0, 1, 2]);
}

#[test]
fn in_order_groups_make_children_wait_for_all_their_ancestors() {
    let mut bench = Bench::new(1, true);
    assert_eq!(bench.beat("a", &[]), [0]);
    bench.split(0, 50, [1, 2]);
    bench.split(1, 60, [3, 4]);
    assert_eq!(bench.beat("a", &[0]), [0]);
    assert_eq!(bench.group.state(3), Some(ShardState::Wait));
    bench.commit_at("", 1, 60, true).unwrap();
    assert_eq!(bench.beat("a", &[0]), [0], "the grandparent is not over");
    bench.commit_at("a", 0, 50, false).unwrap();
    assert_eq!(bench.beat("a", &[0]), [2, 3, 4]);
}

#[test]
fn settings_can_be_changed_one_at_a_time() {
    let mut bench = Bench::new(1, false);
    bench.group.update(Some(Duration::from_secs(5)), None);
    assert_eq!((bench.group.timeout().as_secs(), bench.group.order()), (5, false));
    bench.group.update(None, Some(true));
    assert_eq!((bench.group.timeout().as_secs(), bench.group.order()), (5, true));
}

#[test]
fn an_expelled_consumer_loses_its_shards_and_must_begin_anew() {
    let mut bench = Bench::new(1, false);
    assert_eq!(bench.beat("a", &[]), [0]);
    bench.group.expel(bench.now, "a");
    assert_eq!(bench.group.state(0), Some(ShardState::NotAlloc));
    let refused = bench.group.heartbeat(bench.now, &bench.facts, "a", &[0]);
    assert_eq!(refused, Err(GroupError::NotExistConsumerWithBody("a".to_owned())));
    assert_eq!(bench.beat("a", &[]), [0]);
}
