//! The rules of a consumer one by one, then all together under arbitrary interleavings.

use proptest::prelude::*;

use super::Action::{DropAll, Start, Stop};
use super::*;
use crate::sls::error::Context;
use crate::sls::refusal::{Answer, Refusal};

const INTERVAL: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(60);
const LEASE: Duration = Duration::from_secs(50);

fn membership() -> Membership {
    Membership::new(MembershipConfig { heartbeat_interval: INTERVAL, group_timeout: TIMEOUT })
}

impl Membership {
    /// A heartbeat that was answered at once.
    fn answered(&mut self, sent_at: Instant, reply: &[u32]) -> Vec<Action> {
        self.on_heartbeat(sent_at, sent_at, reply)
    }
}

/// A membership that was given these shards by a heartbeat sent at the instant.
fn holding(shards: &[u32]) -> (Membership, Instant) {
    let start = Instant::now();
    let mut membership = membership();
    assert_eq!(membership.heartbeat_body(), Vec::<u32>::new());
    let started: Vec<Action> = shards.iter().map(|shard| Start(*shard)).collect();
    assert_eq!(membership.answered(start, shards), started);
    (membership, start)
}

pub(super) fn refused(status: u16, code: &str) -> Error {
    let call = Context { operation: "HeartBeat", target: "p/l".into() };
    let body = format!(r#"{{"errorCode":"{code}","errorMessage":""}}"#);
    let answer =
        Answer { status, body: body.as_bytes(), request_id: "", date: None, retry_after: None };
    Error::Refused(Box::new(Refusal::new(call, answer)))
}

#[test]
fn new_shards_start_and_stay_without_further_ado() {
    let (mut membership, start) = holding(&[0, 1]);
    assert_eq!(membership.heartbeat_body(), [0, 1]);
    assert_eq!(membership.answered(start + INTERVAL, &[1, 0, 2, 2]), [Start(2)]);
    assert_eq!(membership.held(), [0, 1, 2]);
}

#[test]
fn a_revoked_shard_stays_in_the_body_until_it_is_drained() {
    let (mut membership, start) = holding(&[0, 1]);
    assert_eq!(membership.answered(start + INTERVAL, &[1]), [Stop(0)]);
    assert_eq!((membership.held(), membership.draining()), (vec![1], vec![0]));
    assert_eq!(membership.heartbeat_body(), [0, 1]);
    assert_eq!(membership.answered(start + 2 * INTERVAL, &[1]), [], "told only once");
    assert_eq!(membership.on_drained(0), []);
    assert_eq!(membership.heartbeat_body(), [1]);
}

#[test]
fn a_shard_given_back_while_draining_starts_again_only_when_drained() {
    let (mut membership, start) = holding(&[0]);
    assert_eq!(membership.answered(start + INTERVAL, &[]), [Stop(0)]);
    assert_eq!(membership.answered(start + 2 * INTERVAL, &[0]), []);
    assert_eq!(membership.draining(), [0]);
    assert_eq!(membership.on_drained(0), [Start(0)]);
    assert_eq!((membership.held(), membership.heartbeat_body()), (vec![0], vec![0]));
}

#[test]
fn a_shard_given_back_and_taken_again_while_draining_just_leaves() {
    let (mut membership, start) = holding(&[0]);
    membership.answered(start + INTERVAL, &[]);
    membership.answered(start + 2 * INTERVAL, &[0]);
    assert_eq!(membership.answered(start + 3 * INTERVAL, &[]), [], "it stops already");
    assert_eq!(membership.on_drained(0), []);
    assert_eq!(membership.heartbeat_body(), Vec::<u32>::new());
}

#[test]
fn a_lost_shard_leaves_at_once_and_a_later_answer_starts_it_again() {
    let (mut membership, start) = holding(&[0, 1]);
    membership.on_lost(0);
    assert_eq!(membership.held(), [1]);
    assert_eq!(membership.heartbeat_body(), [1]);
    assert_eq!(membership.answered(start + INTERVAL, &[0, 1]), [Start(0)]);
}

#[test]
fn an_answer_that_was_under_way_when_a_shard_was_lost_does_not_start_it() {
    let (mut membership, start) = holding(&[0, 1]);
    assert_eq!(membership.heartbeat_body(), [0, 1]);
    membership.on_lost(0);
    assert_eq!(membership.answered(start + INTERVAL, &[0, 1]), []);
    assert_eq!(membership.heartbeat_body(), [1]);
    assert_eq!(membership.answered(start + 2 * INTERVAL, &[0, 1]), [Start(0)]);
}

#[test]
fn the_lease_is_counted_from_the_sending_of_the_last_answered_heartbeat() {
    let (mut membership, start) = holding(&[0, 1]);
    membership.answered(start + INTERVAL, &[1]);
    assert_eq!(membership.deadline(), Some(start + INTERVAL + LEASE));
    assert_eq!(membership.on_tick(start + INTERVAL + LEASE - Duration::from_millis(1)), []);
    let dropped = membership.on_tick(start + INTERVAL + LEASE);
    assert_eq!(dropped, [DropAll(vec![0, 1])], "draining shards are dropped too");
    assert_eq!(membership.on_tick(start + 10 * LEASE), [], "only once");
    assert_eq!(membership.heartbeat_body(), Vec::<u32>::new());
    assert_eq!(membership.deadline(), None);
    assert_eq!(membership.answered(start + 11 * LEASE, &[1]), [Start(1)]);
}

#[test]
fn an_answer_that_comes_after_its_lease_starts_nothing_and_drops_all() {
    let (mut membership, start) = holding(&[0]);
    let sent_at = start + INTERVAL;
    // The process stood still, and hears of the answer before it looks at its clock.
    assert_eq!(membership.on_heartbeat(sent_at, sent_at + LEASE, &[0, 1]), [DropAll(vec![0])]);
    assert_eq!(membership.heartbeat_body(), Vec::<u32>::new());
    let now = sent_at + LEASE;
    assert_eq!(membership.on_heartbeat(now, now + INTERVAL, &[0, 1]), [Start(0), Start(1)]);
}

#[test]
fn one_slow_heartbeat_leaves_room_for_another_in_the_lease() {
    for millis in [1, 250, 300, 999, 1000, 2000, 5000, 60_000] {
        let heartbeat_interval = Duration::from_millis(millis);
        let config = MembershipConfig { heartbeat_interval, group_timeout: 4 * heartbeat_interval };
        let (lease, slow) = (config.lease(), config.heartbeat_timeout());
        // Sent an interval after the last good one, in vain, and again, in vain.
        assert!(heartbeat_interval + 2 * slow <= lease, "{config:?}: {slow:?}");
        assert!(slow >= heartbeat_interval / 2 && slow <= lease / 3 + heartbeat_interval / 2);
    }
    let (heartbeat_interval, group_timeout) = (Duration::from_secs(5), Duration::from_secs(30));
    let config = MembershipConfig { heartbeat_interval, group_timeout };
    assert_eq!(config.heartbeat_timeout(), Duration::from_millis(2500));
}

#[test]
fn a_failed_heartbeat_changes_nothing_before_the_deadline() {
    let (mut membership, _) = holding(&[0]);
    for error in [refused(500, "InternalServerError"), refused(403, "ReadQuotaExceed")] {
        assert_eq!(membership.on_heartbeat_error(&error), []);
    }
    assert_eq!(membership.held(), [0]);
}

#[test]
fn an_answer_that_proves_the_loss_drops_everything_at_once() {
    for error in [refused(400, "NotExistConsumerWithBody"), refused(404, "ConsumerGroupNotExist")] {
        let (mut membership, start) = holding(&[0, 1]);
        membership.answered(start + INTERVAL, &[0]);
        assert_eq!(membership.on_heartbeat_error(&error), [DropAll(vec![0, 1])]);
        assert_eq!(membership.on_heartbeat_error(&error), []);
        assert_eq!(membership.heartbeat_body(), Vec::<u32>::new());
        assert_eq!(membership.answered(start + 2 * INTERVAL, &[1]), [Start(1)]);
    }
}

#[test]
fn an_answer_older_than_the_last_one_is_ignored() {
    let (mut membership, start) = holding(&[0]);
    membership.answered(start + 2 * INTERVAL, &[1]);
    assert_eq!(membership.answered(start + INTERVAL, &[0, 7]), []);
    assert_eq!(membership.deadline(), Some(start + 2 * INTERVAL + LEASE));
}

#[test]
fn drained_means_nothing_for_a_shard_that_was_not_told_to_stop() {
    let (mut membership, _) = holding(&[0]);
    assert_eq!(membership.on_drained(0), []);
    assert_eq!(membership.on_drained(9), []);
    assert_eq!(membership.held(), [0]);
}

#[derive(Clone, Debug)]
enum Step {
    Body,
    Answer { delay: u64, reply: Vec<u32> },
    Fail { lost: bool },
    Tick { after: u64 },
    Drained(u32),
    Lost(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let shard = 0u32..5;
    prop_oneof![
        3 => Just(Step::Body),
        6 => (0u64..60, prop::collection::vec(shard.clone(), 0..5))
            .prop_map(|(delay, reply)| Step::Answer { delay, reply }),
        1 => any::<bool>().prop_map(|lost| Step::Fail { lost }),
        4 => (0u64..40).prop_map(|after| Step::Tick { after }),
        4 => shard.clone().prop_map(Step::Drained),
        1 => shard.prop_map(Step::Lost),
    ]
}

proptest! {
    /// What the owner sees of a shard: it runs from Start to Stop plus drained, lost,
    /// or dropped.
    #[test]
    fn no_interleaving_breaks_the_rules(steps in prop::collection::vec(step(), 0..60)) {
        let mut membership = membership();
        let start = Instant::now();
        let mut now = start;
        let (mut running, mut stopping) = (BTreeSet::new(), BTreeSet::new());
        let mut last_sent = None;
        for step in steps {
            let actions = match step {
                Step::Body => {
                    membership.heartbeat_body();
                    vec![]
                }
                Step::Answer { delay, reply } => {
                    let sent_at = now.checked_sub(Duration::from_secs(delay)).unwrap_or(now);
                    let actions = membership.on_heartbeat(sent_at, now, &reply);
                    let counts = last_sent.is_none_or(|last| sent_at >= last);
                    prop_assert!(counts || actions.is_empty());
                    if counts {
                        last_sent = Some(sent_at);
                        let late = now - sent_at >= LEASE;
                        prop_assert!(!late || membership.heartbeat_body().is_empty());
                        let held = membership.held();
                        prop_assert!(held.iter().all(|shard| reply.contains(shard)));
                    }
                    actions
                }
                Step::Fail { lost } => {
                    let error = if lost {
                        refused(400, "NotExistConsumerWithBody")
                    } else {
                        refused(500, "InternalServerError")
                    };
                    let actions = membership.on_heartbeat_error(&error);
                    prop_assert!(!lost || membership.heartbeat_body().is_empty());
                    actions
                }
                Step::Tick { after } => {
                    now += Duration::from_secs(after);
                    let actions = membership.on_tick(now);
                    let over = last_sent.is_none_or(|last| now >= last + LEASE);
                    prop_assert!(!over || membership.heartbeat_body().is_empty());
                    prop_assert!(over || actions.is_empty());
                    actions
                }
                Step::Drained(shard) => {
                    // The owner reports it only for what it was told to stop.
                    if !stopping.remove(&shard) {
                        continue;
                    }
                    membership.on_drained(shard)
                }
                Step::Lost(shard) => {
                    if !running.remove(&shard) && !stopping.remove(&shard) {
                        continue;
                    }
                    membership.on_lost(shard);
                    prop_assert!(!membership.held().contains(&shard));
                    vec![]
                }
            };
            for action in actions {
                match action {
                    Start(shard) => {
                        prop_assert!(!stopping.contains(&shard), "started while draining");
                        prop_assert!(running.insert(shard), "started twice");
                    }
                    Stop(shard) => {
                        prop_assert!(running.remove(&shard), "stopped without running");
                        prop_assert!(stopping.insert(shard), "stopped twice");
                    }
                    DropAll(shards) => {
                        let known: Vec<u32> = running.union(&stopping).copied().collect();
                        prop_assert_eq!(shards, known);
                        running.clear();
                        stopping.clear();
                    }
                }
            }
            prop_assert_eq!(membership.held(), Vec::from_iter(running.iter().copied()));
            prop_assert_eq!(membership.draining(), Vec::from_iter(stopping.iter().copied()));
            // Reading the body clears what was lost, so look at it on the side.
            let body: Vec<u32> = membership.shards.keys().copied().collect();
            prop_assert_eq!(body, Vec::from_iter(running.union(&stopping).copied()));
        }
    }
}
