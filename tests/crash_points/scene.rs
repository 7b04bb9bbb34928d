//! One relay between its two ends: what it finds, where it dies, and what comes of it.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;

use rustix::process::Signal;
use sls_relay::emulator::receiver::Mode;
use sls_relay::emulator::sls::{Fault, FaultKind, Operation, SlsConfig};
use sls_relay::emulator::waf::Waf;
use sls_relay::spool::inspect::Inspection;
use sls_relay::spool::read_ledger;

use crate::config_file::write_config;
use crate::harm;
use crate::pipeline::{Ends, wait_for};
use crate::plan::{Before, During, Harm, Plan};
use crate::process::{Process, sent_again};

const SHARDS: u32 = 2;
/// Logs of each log group.
const PER_GROUP: u64 = 10;

pub(crate) struct Scene {
    ends: Ends,
    dir: tempfile::TempDir,
    config: PathBuf,
    /// Logs that may arrive twice: those that had arrived when a process died and were not
    /// confirmed.
    explained: u64,
}

impl Scene {
    /// Brings a relay to `point`, and sees that the next one makes up for its death.
    pub(crate) async fn play(point: &'static str, plan: Plan, seed: u64) {
        let adjust = |sls: &mut SlsConfig| sls.max_raw_bytes = plan.answer_bytes;
        let ends = Ends::serve(Waf::new(seed), SHARDS, plan.logs, adjust).await;
        let dir = tempfile::tempdir().unwrap();
        let config = write_config(&ends, dir.path(), "16 MiB", plan.source, plan.drains);
        let mut scene = Self { ends, dir, config, explained: 0 };
        let damaged = scene.prepare(plan.before).await;
        scene.die_in(point, &plan).await;
        scene.ends.emulator.faults().clear();
        scene.recover(damaged.is_some()).await;
        scene.check(damaged);
    }

    fn spool(&self) -> PathBuf {
        self.dir.path().join("spool")
    }

    /// Makes what the relay is to find. Returns a segment that was damaged.
    async fn prepare(&mut self, before: Before) -> Option<(PathBuf, Vec<u8>)> {
        self.receive(Mode::Refuse).await;
        let lives = match before {
            Before::Nothing | Before::Then(Harm::HalfIdentity) => 0,
            Before::Lives(lives) => lives,
            Before::Then(Harm::HalfRemoved) => 5,
            Before::Then(_) => 3,
        };
        for life in 0..lives {
            let process =
                Process::start_to_crash(&self.config, "group-published", 5 + u64::from(life % 2));
            self.ends_dead(process, "group-published").await;
        }
        let (spool, Before::Then(harm)) = (self.spool(), before) else { return None };
        match harm {
            Harm::HalfIdentity => harm::half_identity(&spool),
            Harm::TornTail => harm::torn_tail(&spool),
            Harm::UnfinishedSegments => harm::unfinished_segments(&spool),
            Harm::HalfRemoved => {
                self.receive(Mode::Accept).await;
                let process = Process::start_to_crash(&self.config, "between-removals", 1);
                self.ends_dead(process, "between-removals").await;
            }
            Harm::CatalogGone => harm::catalog_gone(&spool),
            Harm::CatalogUnreadable { again } => harm::catalog_unreadable(&spool, again),
            Harm::FlippedBit => return Some(harm::flipped_bit(&spool)),
        }
        None
    }

    async fn die_in(&mut self, point: &'static str, plan: &Plan) {
        let away =
            matches!(plan.during, During::ReceiverAway | During::Stop { receiver_away: true });
        self.receive(if away { Mode::Refuse } else { Mode::Accept }).await;
        if plan.during == During::SpoiledAnswers {
            let fault = Fault::new(FaultKind::Corrupt).on(Operation::Pull).shard(0);
            self.ends.emulator.faults().add(fault);
        }
        let process = Process::start_to_crash(&self.config, point, plan.pass);
        if let During::Stop { .. } = plan.during {
            wait_for("a commit", || self.ends.committed(0) > 0).await;
            if !away {
                wait_for("a log", || self.ends.arrivals().report().delivered > 0).await;
            }
            process.signal(Signal::TERM);
        }
        self.ends_dead(process, point).await;
    }

    /// Waits until a process has killed itself at `point`, and takes account of what may
    /// arrive twice for it.
    async fn ends_dead(&mut self, process: Process, point: &'static str) {
        let (status, log) = tokio::task::spawn_blocking(|| process.wait()).await.unwrap();
        assert_eq!(status.signal(), Some(Signal::KILL.as_raw()), "{status}: {log:#?}");
        let last = log.last().unwrap();
        assert!(last.starts_with(&format!("crash point {point},")), "died elsewhere: {log:#?}");
        self.explained += sent_again(&log);
        // Nothing that it sent is still on its way after this.
        self.receive(Mode::Refuse).await;
        let confirmed = match Inspection::open(&self.spool()) {
            Ok(spool) => spool.state().destinations.get("syslog").map_or(0, |d| d.log),
            Err(_) => 0,
        };
        let logs = self.ends.arrivals().report().delivered;
        let arrived = logs + self.noticed().len() as u64;
        self.explained += arrived.saturating_sub(confirmed);
    }

    /// A relay that does not die brings everything to its end.
    async fn recover(&mut self, damaged: bool) {
        self.receive(Mode::Accept).await;
        let pulls = self.ends.emulator.stats().pulls;
        let process = Process::start(&self.config);
        // Before it pulls it may not listen to signals yet.
        wait_for("a pull", || self.ends.emulator.stats().pulls > pulls).await;
        wait_for("every log to arrive", || self.missing() == 0).await;
        wait_for("all to be confirmed", || self.all_confirmed()).await;
        wait_for("the checkpoints to reach the ends", || self.ends.all_committed()).await;
        process.signal(Signal::TERM);
        let (status, log) = tokio::task::spawn_blocking(|| process.wait()).await.unwrap();
        assert_eq!(status.code(), Some(0), "{log:#?}");
        self.explained += sent_again(&log);
        let reported = log.iter().any(|line| line.contains("spool.damage"));
        assert!(damaged || !reported, "damage: {log:#?}");
    }

    fn check(&self, damaged: Option<(PathBuf, Vec<u8>)>) {
        let report = self.ends.arrivals().report();
        let wrong = (report.out_of_order, report.corrupted, report.unknown);
        assert_eq!(wrong, (0, 0, 0), "{report}");
        assert_eq!(report.lost, PER_GROUP * self.noticed().len() as u64, "{report}");
        let explained = self.explained;
        assert!(report.duplicates <= explained, "{report}; {explained} duplicates are explained");
        let spool = Inspection::open(&self.spool()).unwrap();
        assert_eq!((spool.damage.len(), spool.unfinished_bytes), (0, 0), "{:?}", spool.damage);
        let ledger = read_ledger(&self.spool()).unwrap();
        for notice in self.ends.notices() {
            let noted = ledger.iter().any(|line| line["copy"] == notice["copy"].as_str());
            assert!(noted, "not in the ledger: {notice:?}");
            assert!(self.spool().join(&notice["copy"]).is_file(), "no copy: {notice:?}");
        }
        let Some((segment, bytes)) = damaged else { return };
        let line = ledger.iter().find(|line| line["what"] == "damage").unwrap();
        let id = u64::from_str_radix(segment.file_stem().unwrap().to_str().unwrap(), 16).unwrap();
        assert_eq!(line["segment"], id, "{line}");
        let place = |name: &str| usize::try_from(line[name].as_u64().unwrap()).unwrap();
        let copy = std::fs::read(self.spool().join(line["copy"].as_str().unwrap())).unwrap();
        assert!(copy == bytes[place("from")..place("to")], "other bytes were kept: {line}");
    }

    /// Logs that have not arrived, but for those of answers that were put aside.
    fn missing(&self) -> u64 {
        let lost = self.ends.arrivals().report().lost;
        lost.saturating_sub(PER_GROUP * self.noticed().len() as u64)
    }

    /// Whether the spool, which a relay may have open, has nothing left to deliver.
    fn all_confirmed(&self) -> bool {
        // A segment may go while it is looked for.
        let Ok(spool) = Inspection::open(&self.spool()) else { return false };
        let state = spool.state();
        state.destinations["syslog"].log == state.next_log
    }

    /// Cursors of the answers that were put aside, one log group each.
    fn noticed(&self) -> BTreeSet<String> {
        self.ends.notices().iter().map(|notice| notice["cursor"].clone()).collect()
    }

    async fn receive(&self, mode: Mode) {
        self.ends.receiver.set_mode(mode).await.unwrap();
    }
}
