//! The machine against a receiver that reads, buffers, dies, and answers drains or not.

use proptest::prelude::*;

use super::*;

const SETTLE: Duration = Duration::from_secs(2);

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn settings(proof: Proof) -> DeliverySettings {
    let drain = DrainSettings { bytes: 1000, ..DrainSettings::default() };
    DeliverySettings { proof, assurance: Assurance::Best, settle: SETTLE, drain }
}

#[test]
fn a_drain_proves_and_a_connection_that_stands_a_settle_time_later_confirms() {
    let t = Instant::now();
    let mut delivery = Delivery::new(0u64, settings(Proof::Drain));
    delivery.connecting(t);
    delivery.connected(t);
    delivery.wrote(1000, 10, 1000, 10, t);
    assert!(delivery.drain_due(t));
    delivery.draining(t);
    delivery.drained(t + ms(5));
    assert_eq!(delivery.probe_at(), Some(t + ms(5) + SETTLE));
    delivery.connected(t + ms(2005));
    assert_eq!(delivery.tick(t + ms(2006)), None, "a kernel or a proxy accepts connections, too");
    assert_eq!(delivery.wake(), Some(t + ms(2005) + SETTLE));
    assert_eq!(delivery.tick(t + ms(4004)), None);
    assert_eq!(delivery.tick(t + ms(4005)), Some(10));
    assert_eq!(delivery.ended(Death::AfterData, t + ms(4006)).again, 0);
}

#[test]
fn an_answered_drain_confirms_what_was_proven_a_settle_time_before() {
    let (t, mut delivery) = (Instant::now(), Delivery::new(0u64, settings(Proof::Drain)));
    for n in 0..10u64 {
        // Connections that stand for less than something settles.
        let now = t + ms(n * 500);
        delivery.connected(now);
        delivery.wrote(1000, n + 1, 1000, 1, now);
        delivery.tick(now);
        delivery.drained(now);
    }
    assert_eq!(delivery.tick(t + ms(4500)), Some(6), "what is proven since 2500 ms");
}

#[test]
fn in_window_mode_only_idleness_is_a_reason_to_drain() {
    let t = Instant::now();
    let mut delivery = Delivery::new(0u64, settings(Proof::Window));
    delivery.connected(t);
    for n in 1..100u64 {
        let now = t + ms(n * 1000);
        delivery.wrote(n * 5000, n, 5000, 1, now);
        assert!(!delivery.drain_due(now), "neither bytes nor age");
        delivery.reached(n * 5000 - 1, now);
    }
    let last = t + ms(99_000);
    assert!(!delivery.drain_due(last + ms(1999)));
    assert_eq!(delivery.wake(), Some(delivery.probe_at().unwrap().min(last + ms(2000))));
    assert!(delivery.drain_due(last + ms(2000)));
}

#[test]
fn acknowledgements_prove_write_by_write() {
    let t = Instant::now();
    let mut delivery = Delivery::new(0u64, settings(Proof::Acknowledged));
    delivery.connected(t);
    for n in 1..=5 {
        delivery.wrote(n * 40, n * 10, 100_000, 10, t);
    }
    assert!(!delivery.drain_due(t + ms(60_000)), "nothing to drain");
    assert_eq!(delivery.reached(119, t), 20);
    assert_eq!(delivery.reached(119, t), 0);
    assert_eq!(delivery.positions().proven(), 20);
    let ended = delivery.ended(Death::Unrelated, t + ms(1));
    assert_eq!((ended.resume, ended.again, ended.poison), (0, 50, false));
    delivery.connected(t + ms(2));
    assert_eq!(delivery.reached(1000, t + ms(2)), 0, "offsets of the last connection are void");
    assert_eq!(delivery.positions().proven(), 0);
}

#[test]
fn logs_of_which_nothing_is_sent_wait_for_no_acknowledgement() {
    let t = Instant::now();
    let mut delivery = Delivery::new(0u64, settings(Proof::Acknowledged));
    delivery.connected(t);
    delivery.wrote(0, 10, 0, 0, t);
    assert_eq!(delivery.tick(t + SETTLE), Some(10), "the first on a connection");
    let t = t + SETTLE;
    delivery.wrote(5, 15, 100, 5, t);
    delivery.wrote(5, 20, 0, 1, t);
    assert_eq!(delivery.positions().proven(), 10, "not ahead of what was sent before");
    delivery.reached(5, t);
    delivery.wrote(5, 30, 0, 0, t);
    assert_eq!(delivery.positions().proven(), 30);
    assert_eq!(delivery.tick(t + SETTLE), Some(30));
}

#[test]
fn a_receiver_that_never_answers_is_delivered_to_with_weaker_proof_or_not_at_all() {
    let t = Instant::now();
    for (window, proof) in [(true, Proof::Window), (false, Proof::Kernel)] {
        let mut delivery = Delivery::new(0u64, settings(Proof::Drain));
        for _ in 1..UNANSWERED {
            delivery.connected(t);
            delivery.wrote(1000, 10, 1000, 10, t);
            assert_eq!(delivery.unanswered(window, t), Unanswered::Again);
            delivery.ended(Death::Unrelated, t);
        }
        delivery.connected(t);
        delivery.wrote(1000, 10, 1000, 10, t);
        assert_eq!(delivery.unanswered(window, t), Unanswered::Weaker { proof, unproven: 10 });
        assert_eq!((delivery.proof(), delivery.is_deaf()), (proof, true));
        assert_eq!(delivery.positions().proven(), 10);

        let strict = DeliverySettings { assurance: Assurance::Strict, ..settings(Proof::Drain) };
        let mut delivery = Delivery::new(0u64, strict);
        for n in 1..10 {
            delivery.connected(t);
            delivery.wrote(1000, 10, 1000, 10, t);
            let expected = if n < UNANSWERED { Unanswered::Again } else { Unanswered::Holds };
            assert_eq!(delivery.unanswered(window, t), expected);
            delivery.ended(Death::Unrelated, t);
        }
        assert_eq!(delivery.tick(t + ms(60_000)), None, "strict confirms nothing");
    }
}

#[test]
fn an_idle_connection_that_the_receiver_ends_answers_no_drain() {
    let t = Instant::now();
    let mut delivery = Delivery::new(0u64, settings(Proof::Drain));
    for n in 1..=u64::from(UNANSWERED) {
        delivery.connected(t);
        delivery.wrote(1000, 10 * n, 1000, 10, t);
        delivery.unanswered(true, t);
    }
    let later = t + SETTLE;
    delivery.connected(later);
    assert_eq!(delivery.tick(later + SETTLE), Some(10 * u64::from(UNANSWERED)));
    delivery.idle_end();
    assert!(delivery.is_deaf());
    assert_eq!((delivery.wake(), delivery.probe_at()), (None, None));
}

#[test]
fn one_answered_drain_makes_up_for_those_before() {
    let t = Instant::now();
    let mut delivery = Delivery::new(0u64, settings(Proof::Drain));
    for round in 0..10u64 {
        delivery.connected(t);
        delivery.wrote(1000, 10 * (round + 1), 1000, 10, t);
        if round % 3 == 2 {
            delivery.drained(t);
        } else {
            assert_eq!(delivery.unanswered(true, t), Unanswered::Again);
        }
    }
    assert_eq!(delivery.proof(), Proof::Drain);
}

#[test]
fn the_log_that_kills_every_connection_is_found_and_passed() {
    let poison = 777u64;
    let mut delivery = Delivery::new(0u64, settings(Proof::Drain));
    let (mut now, mut found, mut delivered) = (Instant::now(), Vec::new(), 0);
    for _ in 0..300 {
        now += ms(5000);
        if delivery.step() == Step::Control {
            delivery.control(true);
            continue;
        }
        delivery.connecting(now);
        delivery.connected(now);
        if let Some(confirmed) = delivery.tick(now + SETTLE) {
            delivered = confirmed;
        }
        let Some(room) = delivery.room() else { continue };
        let from = delivery.positions().written();
        let to = (from + u64::from(room.logs).min(500)).min(2000);
        if from == to {
            break;
        }
        delivery.wrote(to - from, to, to - from, to - from, now);
        if (from..to).contains(&poison) {
            let ended = delivery.ended(Death::AfterData, now + ms(3));
            assert_eq!(ended.resume, delivered);
            if ended.poison {
                found.push(ended.resume);
                delivery.passed(ended.resume + 1);
                delivered = ended.resume + 1;
            }
        } else {
            delivery.draining(now + ms(1));
            delivery.drained(now + ms(2));
        }
    }
    assert_eq!(found, [poison]);
    assert_eq!(delivery.step(), Step::Flow);
    assert_eq!(delivered, 2000);
}

#[test]
fn a_refused_message_is_counted_from_what_is_confirmed() {
    let t = Instant::now();
    let mut delivery = Delivery::new(0u64, settings(Proof::Acknowledged));
    delivery.connected(t);
    delivery.wrote(1000, 1000, 9, 1000, t);
    delivery.reached(1000, t);
    assert_eq!(delivery.tick(t + SETTLE), Some(1000));
    delivery.wrote(1100, 1100, 9, 100, t + SETTLE);
    delivery.ended(Death::Refused { before: 1040 }, t + SETTLE);
    assert_eq!(delivery.room().unwrap().logs, 40, "those before it, which are fine");
}

#[test]
fn a_lot_of_many_writes_is_drained_once() {
    for proof in [Proof::Drain, Proof::Window, Proof::Acknowledged] {
        let drain = DrainSettings { bytes: 1 << 30, ..DrainSettings::default() };
        let mut delivery = Delivery::new(0u64, DeliverySettings { drain, ..settings(proof) });
        let mut now = Instant::now();
        for _ in 0..3 {
            delivery.connected(now);
            delivery.wrote(10_000, 10_000, 1, 10_000, now);
            delivery.ended(Death::AfterData, now);
        }
        assert_eq!(delivery.room().unwrap().logs, 5000, "suspicion: half of them");
        // A receiver that was only restarted: what it was suspected of goes through in lots.
        let mut connections = 0;
        while delivery.step() != Step::Flow {
            connections += 1;
            assert!(connections < 6, "{} of 10000", delivery.positions().confirmed());
            now += ms(10);
            delivery.connected(now);
            delivery.tick(now + SETTLE);
            let (mut sent, from) = (0, delivery.positions().written());
            while let Some(room) = delivery.room()
                && !delivery.drain_due(now)
                && delivery.step() != Step::Flow
            {
                // One write carries a small part of a lot.
                sent += u64::from(room.logs.min(60));
                delivery.wrote(sent, from + sent, 1, u64::from(room.logs.min(60)), now);
                if proof == Proof::Acknowledged {
                    delivery.reached(sent, now);
                }
            }
            delivery.draining(now);
            delivery.drained(now);
            now += SETTLE + SETTLE;
        }
    }
}

#[test]
fn a_connection_that_dies_long_after_data_raises_no_suspicion() {
    let (mut now, mut delivery) = (Instant::now(), Delivery::new(0u64, settings(Proof::Drain)));
    for _ in 0..20 {
        delivery.connected(now);
        delivery.wrote(10, 10, 10, 10, now);
        now += ms(5001);
        delivery.ended(Death::AfterData, now);
        assert_eq!(delivery.step(), Step::Flow);
    }
}

#[test]
fn endless_writes_without_proof_take_bounded_memory() {
    let t = Instant::now();
    let mut delivery = Delivery::new(0u64, settings(Proof::Acknowledged));
    delivery.connected(t);
    for n in 1..20_000u64 {
        delivery.wrote(n, n, 1, 1, t);
    }
    assert!(delivery.writes.len() <= MOST_WRITES && delivery.logs.len() <= MOST_WRITES);
    assert_eq!(delivery.reached(19_998, t), MOST_WRITES as u64 - 1, "the last ones wait");
    assert_eq!(delivery.reached(19_999, t), 19_999 - (MOST_WRITES as u64 - 1));
    assert_eq!(delivery.ended(Death::Unrelated, t).again, 19_999);
}

/// What a receiver does.
#[derive(Debug, Clone)]
enum Does {
    Write(u64),
    Read(u64),
    Settle,
    Drain { answers: bool },
    Die,
    Wait(u64),
}

fn does() -> impl Strategy<Value = Does> {
    prop_oneof![
        6 => (1..400u64).prop_map(Does::Write),
        5 => (0..500u64).prop_map(Does::Read),
        4 => Just(Does::Settle),
        2 => any::<bool>().prop_map(|answers| Does::Drain { answers }),
        2 => Just(Does::Die),
        4 => (0..3000u64).prop_map(Does::Wait),
    ]
}

proptest! {
    /// The promise: what is confirmed was read by a receiver that lived on for a settle time.
    /// A receiver that dies forgets what it read within the settle time before.
    #[test]
    fn nothing_is_confirmed_that_the_receiver_does_not_have(
        proof in prop_oneof![
            Just(Proof::Drain), Just(Proof::Window), Just(Proof::Acknowledged)
        ],
        steps in prop::collection::vec(does(), 1..300),
    ) {
        let strict = DeliverySettings { assurance: Assurance::Strict, ..settings(proof) };
        let mut delivery = Delivery::new(0u64, strict);
        let mut now = Instant::now();
        // The receiver: what it has read, by time; what it keeps whatever happens.
        let (mut base, mut read, mut reads) = (0u64, 0u64, Vec::<(Instant, u64)>::new());
        delivery.connected(now);
        for step in steps {
            match step {
                Does::Write(logs) => {
                    if let Some(room) = delivery.room() {
                        let logs = logs.min(room.logs.into());
                        let after = delivery.positions().written() + logs;
                        delivery.wrote(after - base, after, logs, logs, now);
                    }
                }
                Does::Read(logs) => {
                    read = (read + logs).min(delivery.positions().written() - base);
                    reads.push((now, base + read));
                    if proof != Proof::Drain {
                        delivery.reached(read, now);
                    }
                }
                Does::Settle => {
                    delivery.tick(now);
                    delivery.wake();
                }
                Does::Drain { answers } => {
                    delivery.draining(now);
                    if answers {
                        reads.push((now, delivery.positions().written()));
                        delivery.drained(now);
                    } else {
                        delivery.unanswered(true, now);
                        delivery.ended(Death::Unrelated, now);
                    }
                    base = delivery.positions().written();
                    (read, now) = (0, now + ms(1));
                    delivery.connecting(now);
                    delivery.connected(now);
                }
                Does::Die => {
                    // What it had read in the last moments is gone with it.
                    reads.retain(|(at, _)| *at + SETTLE <= now);
                    let ended = delivery.ended(Death::AfterData, now);
                    prop_assert_eq!(ended.resume, delivery.positions().confirmed());
                    if delivery.step() == Step::Control {
                        delivery.control(true);
                    }
                    base = ended.resume;
                    (read, now) = (0, now + ms(1));
                    delivery.connected(now);
                }
                Does::Wait(n) => now += ms(n),
            }
            let has = reads.iter().map(|(_, up_to)| *up_to).max().unwrap_or(0);
            prop_assert!(delivery.positions().confirmed() <= has, "{} > {has}", delivery.positions().confirmed());
        }
    }
}
