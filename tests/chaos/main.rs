//! Three relays share 16 shards while they are killed, stopped, cut off from SLS and left
//! without their receivers. Killed ones come back with their spool. All receivers feed one
//! account, so that it knows the order in which the logs of a shard came over all relays.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]
#![expect(clippy::print_stdout, reason = "shown where the test fails")]

mod link;
#[path = "../support/process.rs"]
mod process;
mod relay;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use sls_relay::emulator::arrivals::Arrivals;
use sls_relay::emulator::receiver::Mode;
use sls_relay::emulator::sls::{SlsConfig, SlsEmulator};
use sls_relay::emulator::waf::Waf;
use sls_relay::emulator::workload::Workload;

use relay::Relay;

pub(crate) const GROUP: &str = "chaos";
pub(crate) const PER_GROUP: u64 = 10;
const SHARDS: u32 = 16;
const RELAYS: usize = 3;
/// Log groups written to each shard in a second.
const RATE: u64 = 8;
/// How long each wait at the end may take, beside the time that logs were written: what was
/// read again is many times as much where a receiver was away for long.
const DEADLINE: Duration = Duration::from_secs(120);

/// What the relays are configured with, what is done to them, and what then must hold.
struct Plan {
    /// Lines of `[[source]]`, as `handover = "…"`.
    source: &'static str,
    /// Over all relays the logs of a shard arrive in their order.
    keeps_order: bool,
    /// Relays only leave politely and join again, and nothing arrives twice.
    graceful: bool,
    /// How long logs are written.
    seconds: u64,
}

/// Nothing but a kill or a partition takes a shard before its logs are delivered.
const DELIVERED: &str = r#"
checkpoint = "delivered"
handover = "delivered"
handover_timeout = "1 h"
"#;

/// `SLS_RELAY_CHAOS_SECONDS` for longer, `SLS_RELAY_SEED` for the same plan of faults.
#[tokio::test(flavor = "multi_thread")]
async fn relays_lose_nothing_through_kills_partitions_and_outages() {
    Chaos::run(Plan { source: "", keeps_order: false, graceful: false, seconds: 14 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn relays_that_follow_delivery_keep_the_order_of_a_shard_through_all_of_it() {
    let plan = Plan { source: DELIVERED, keeps_order: true, graceful: false, seconds: 14 };
    Chaos::run(plan).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn relays_that_join_and_leave_deliver_nothing_twice() {
    Chaos::run(Plan { source: "", keeps_order: false, graceful: true, seconds: 8 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn relays_that_join_and_leave_and_follow_delivery_keep_the_order_and_repeat_nothing() {
    let plan = Plan { source: DELIVERED, keeps_order: true, graceful: true, seconds: 8 };
    Chaos::run(plan).await;
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    /// The process ends at once, or starts again.
    Kill,
    /// It ends politely, or starts again.
    Stop,
    Cut(link::State),
    ReceiverAway,
    /// What was wrong is mended.
    None,
}

struct Chaos {
    rng: fastrand::Rng,
    sls: SlsEmulator,
    relays: Vec<Relay>,
    deadline: Duration,
    /// Duplicates that faults explain: sent again, and read again by another relay.
    sent_again: [u64; RELAYS],
    read_again: u64,
}

impl Chaos {
    async fn run(plan: Plan) {
        let env = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        let seconds = env("SLS_RELAY_CHAOS_SECONDS").unwrap_or(plan.seconds);
        let seed = env("SLS_RELAY_SEED").unwrap_or_else(|| fastrand::u64(..));
        println!("seed {seed}, {seconds} s");
        let groups = (seconds * RATE).max(1);
        let logs = groups * PER_GROUP * u64::from(SHARDS);
        let workload = Workload::new(Waf::new(seed), SHARDS, logs, PER_GROUP);
        let arrivals = Arc::new(Mutex::new(Arrivals::new(workload.clone(), "||")));
        let config = SlsConfig { shards: SHARDS, ..SlsConfig::default() };
        let sls = SlsEmulator::start(config.clone()).await.unwrap();
        let mut relays = Vec::new();
        for _ in 0..RELAYS {
            relays.push(Relay::new(&sls, &config, plan.source, &arrivals).await);
        }
        relays.iter_mut().for_each(Relay::start);
        let rng = fastrand::Rng::with_seed(seed);
        let deadline = DEADLINE + Duration::from_secs(seconds);
        let mut chaos = Self { rng, sls, relays, deadline, sent_again: [0; RELAYS], read_again: 0 };
        let begun = Instant::now();
        let mut written = 0;
        let mut next_fault = Duration::from_secs(3);
        // While one has no receiver, shards move to it and away from it.
        let mut opening = std::collections::VecDeque::from([
            (0, Fault::ReceiverAway),
            (1, Fault::Kill),
            (0, Fault::Cut(link::State::Silent)),
            (1, Fault::Kill),
        ]);
        if plan.graceful {
            opening.clear();
        }
        while written < groups {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let due = begun.elapsed().as_millis() * u128::from(RATE) / 1000;
            while written < groups && u128::from(written) < due {
                for shard in 0..SHARDS {
                    chaos.sls.put_group(shard, &workload.group(shard, written)).unwrap();
                }
                written += 1;
            }
            if begun.elapsed() >= next_fault {
                let (at, fault) =
                    opening.pop_front().unwrap_or_else(|| chaos.any_fault(plan.graceful));
                chaos.fault(at, fault).await;
                next_fault = begun.elapsed() + Duration::from_millis(chaos.rng.u64(300..2500));
            }
        }
        chaos.end(seed, &plan, &arrivals).await;
    }

    fn any_fault(&mut self, graceful: bool) -> (usize, Fault) {
        let at = self.rng.usize(..RELAYS);
        if graceful {
            return (at, Fault::Stop);
        }
        let fault = match self.rng.u8(..10) {
            0..=2 => Fault::Kill,
            3 => Fault::Stop,
            4 => Fault::Cut(link::State::Down),
            5..=6 => Fault::Cut(link::State::Silent),
            7 => Fault::ReceiverAway,
            _ => Fault::None,
        };
        (at, fault)
    }

    async fn fault(&mut self, at: usize, fault: Fault) {
        println!("relay {at}, running {}: {fault:?}", self.relays[at].is_running());
        match fault {
            Fault::ReceiverAway => {
                self.relays[at].receiver.set_mode(Mode::Refuse).await.unwrap();
                self.explain(at);
            }
            Fault::None => self.heal(at).await,
            _ if !self.relays[at].is_running() => self.start(at),
            Fault::Kill => {
                self.relays[at].end(Signal::KILL).await;
                self.explain(at);
            }
            Fault::Stop => {
                let code = self.relays[at].end(Signal::TERM).await;
                assert_eq!(code, Some(0));
                self.explain(at);
            }
            Fault::Cut(state) => {
                self.relays[at].link.set(state);
                // What was pulled before is in the spool by then, and the lease has not ended.
                tokio::time::sleep(Duration::from_millis(300)).await;
                self.explain(at);
            }
        }
    }

    fn start(&mut self, at: usize) {
        // What was under way to the receiver when it was killed has come by now.
        self.explain_sending(at);
        self.relays[at].start();
    }

    async fn heal(&self, at: usize) {
        self.relays[at].link.set(link::State::Up);
        self.relays[at].receiver.set_mode(Mode::Accept).await.unwrap();
    }

    fn explain(&mut self, at: usize) {
        self.explain_sending(at);
        self.read_again += self.relays[at].uncommitted(&self.sls);
    }

    /// All that came and was not new to the spool's count, or is not confirmed: what the
    /// relay has sent again by then, and what it may send again now.
    fn explain_sending(&mut self, at: usize) {
        self.sent_again[at] = self.sent_again[at].max(self.relays[at].unconfirmed());
    }

    async fn end(mut self, seed: u64, plan: &Plan, arrivals: &Mutex<Arrivals>) {
        println!("the faults end");
        for at in 0..RELAYS {
            self.heal(at).await;
            if !self.relays[at].is_running() {
                self.start(at);
            }
        }
        let complete = || arrivals.lock().unwrap().is_complete();
        let missing = || format!("{:?}", arrivals.lock().unwrap().missing(10));
        self.wait_for("every log", complete, missing).await;
        let committed =
            |shard| self.sls.checkpoint(GROUP, shard) == self.sls.end_cursor(shard).ok();
        let all_committed = || (0..SHARDS).all(committed);
        self.wait_for("the checkpoints to reach the ends", all_committed, String::new).await;
        // Also what others have delivered meanwhile.
        let delivered = || self.relays.iter().all(Relay::has_delivered);
        self.wait_for("every spool to be delivered", delivered, String::new).await;
        let mut spooled = 0;
        for at in 0..RELAYS {
            assert_eq!(self.relays[at].end(Signal::TERM).await, Some(0), "seed {seed}");
            let state = self.relays[at].spool();
            let confirmed = state.destinations["syslog"].log;
            assert_eq!(confirmed, state.next_log, "relay {at} has delivered its spool");
            spooled += state.next_log;
            let again = self.relays[at].receiver.counts().messages - confirmed;
            // On a busy machine a drain may take too long without any fault of ours.
            let explained = self.sent_again[at] + self.relays[at].says_sent_again();
            assert!(
                again <= explained,
                "seed {seed}: relay {at} sent {again} again, {explained} explained"
            );
            self.relays[at].check_log();
            self.relays[at].check_order(&self.sls);
        }
        let report = arrivals.lock().unwrap().report();
        println!("{report}");
        // A commit that comes late may take a checkpoint back.
        let mut last = std::collections::BTreeMap::new();
        let mut late = 0;
        for commit in self.sls.checkpoint_log() {
            let before = last.insert(commit.shard, commit.cursor).unwrap_or(commit.cursor);
            late += u64::try_from(before - commit.cursor).unwrap_or(0) * PER_GROUP;
        }
        let again = spooled - report.expected;
        let explained = self.read_again + late;
        println!("{again} read again, {explained} explained ({late} by late commits)");
        assert!(again <= explained, "seed {seed}: {again} read again, {explained} explained");
        let wrong = (report.lost, report.corrupted, report.unknown);
        assert_eq!(wrong, (0, 0, 0), "seed {seed}: {report}");
        assert!(!plan.keeps_order || report.out_of_order == 0, "seed {seed}: {report}");
        assert!(!plan.graceful || report.duplicates == 0, "seed {seed}: {report}");
    }

    async fn wait_for(&self, what: &str, done: impl Fn() -> bool, else_say: impl Fn() -> String) {
        let begun = Instant::now();
        while !done() {
            assert!(begun.elapsed() < self.deadline, "waited in vain for {what}: {}", else_say());
            // Looking costs the relays time, too.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}
