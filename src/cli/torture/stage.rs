//! One run: a receiver, a sender, a fault, and the account at the end.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::feed::Schedule;
use super::hole;
use super::ours::{self, Ours};
use super::peer::{Peer, Who};
use super::pki::Pki;
use super::proxy::Proxy;
use super::receiver::Receiving;
use super::scenario::{Fault, Pace, Scenario, Transport};
use super::sender::Sender;
use super::tally::Tally;
use super::tools::Tools;
use crate::emulator::oracle::Report;

/// Between two looks at what has arrived.
const LOOK: Duration = Duration::from_millis(20);
/// Time in which nothing more arrives at the end of a run.
const QUIET: Duration = Duration::from_millis(1500);
/// Time without an arrival after which a peer's missing logs count as lost.
const GIVEN_UP: Duration = Duration::from_secs(10);
/// How long a paced run is fed, in seconds.
const PACED_SECONDS: u64 = 8;

/// What all runs have in common.
#[derive(Clone, Debug)]
pub(super) struct Stage {
    /// Logs of a run at full speed, and the most of a paced one.
    pub(super) logs: u64,
    /// Logs a second of a paced run.
    pub(super) rate: u64,
    /// Longest run.
    pub(super) deadline: Duration,
    /// Decides when the fault begins.
    pub(super) seed: u64,
    /// Where the real daemons are.
    pub(super) tools: Tools,
}

/// What one run came to.
#[derive(Clone, Debug)]
pub(super) struct Account {
    pub(super) report: Report,
    /// Messages that arrived cut or merged.
    pub(super) damaged: u64,
    /// Numbers of lost logs, the first few.
    pub(super) missing: Vec<u64>,
    /// Logs that the sender counted as delivered on a weaker proof.
    pub(super) unproven: u64,
    /// Whether the sender was done before the deadline.
    pub(super) finished: bool,
    pub(super) seconds: f64,
}

impl Stage {
    /// Plays a scenario with this relay as the sender, or with a peer.
    pub(super) async fn play(
        &self,
        scenario: Scenario,
        peer: Option<Who>,
    ) -> anyhow::Result<Account> {
        if scenario.fault == Fault::Hole {
            hole::available()?;
        }
        let started = Instant::now();
        let schedule = self.schedule(scenario.pace);
        let dir = Scratch::new()?;
        let tally = Tally::new(schedule.logs);
        if peer.is_some() && scenario.transport != Transport::TcpDrain {
            return Err(left_out("peers send over plain TCP alone here"));
        }
        let pki = match scenario.transport {
            Transport::Tls => Some(Pki::new(&dir.0.join("pki"))?),
            _ => None,
        };
        let pki = pki.as_ref();
        let receiver_dir = dir.0.join("receiver");
        let mut receiver =
            Receiving::start(&scenario, pki, &self.tools, &receiver_dir, &tally).await?;
        let target = match peer {
            Some(who) if who.sends_lines() => receiver.lf()?,
            _ => match scenario.transport {
                Transport::TcpDrain | Transport::TcpWindow | Transport::Tls => receiver.tcp()?,
                Transport::Relp => receiver.relp()?,
                Transport::Udp => receiver.udp()?,
            },
        };
        let proxy = Proxy::start(scenario.path, &self.tools, &dir.0.join("proxy"), target).await?;
        let target = proxy.as_ref().map_or(target, Proxy::address);
        let mut sender = match peer {
            None => {
                let destination = ours::destination(&scenario, target, pki)?;
                Sender::Ours(Ours::start(&dir.0, destination, schedule).await?)
            }
            Some(who) => {
                let dir = dir.0.join("peer");
                Sender::Peer(Peer::start(who, &self.tools, &dir, target, schedule).await?)
            }
        };

        let mut watch = Watch { deadline: started + self.deadline, tally: tally.clone() };
        let ahead = self.ahead(schedule.logs);
        watch.until(&mut sender, &mut receiver, |_, arrived| arrived >= ahead).await?;
        scenario.fault.play(&mut receiver).await?;
        let finished = watch
            .until(&mut sender, &mut receiver, |sender, _| sender.says_done(schedule.logs))
            .await?;
        let unproven = sender.unproven();
        sender.stop().await?;
        watch.quiet(&mut receiver).await?;
        receiver.end().await?;
        Ok(Account {
            report: tally.report(),
            damaged: tally.damaged(),
            missing: tally.missing(5),
            unproven,
            finished,
            seconds: started.elapsed().as_secs_f64(),
        })
    }

    fn schedule(&self, pace: Pace) -> Schedule {
        match pace {
            Pace::Paced => Schedule {
                logs: self.logs.min(self.rate.saturating_mul(PACED_SECONDS)),
                rate: Some(self.rate),
            },
            Pace::Full => Schedule { logs: self.logs, rate: None },
        }
    }

    /// Logs that arrive before the fault: 15 to 25 of a hundred.
    fn ahead(&self, logs: u64) -> u64 {
        logs * fastrand::Rng::with_seed(self.seed).u64(15..=25) / 100
    }
}

/// A scenario that this machine cannot play, and what that takes.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct LeftOut(String);

/// Says why a scenario is left out.
pub(super) fn left_out(why: impl Into<String>) -> anyhow::Error {
    LeftOut(why.into()).into()
}

/// Waiting for what arrives.
struct Watch {
    deadline: Instant,
    tally: Tally,
}

impl Watch {
    /// Waits for `condition`, which is told how many logs have arrived. A sender that will not
    /// say more is given up when all has arrived, or nothing for a while. False at the deadline.
    async fn until(
        &mut self,
        sender: &mut Sender,
        receiver: &mut Receiving,
        condition: impl Fn(&Sender, u64) -> bool,
    ) -> anyhow::Result<bool> {
        let (mut seen, mut since) = (self.tally.report(), Instant::now());
        while !condition(sender, seen.delivered) {
            anyhow::ensure!(!sender.has_ended(), "the sender ended before its time");
            if sender.is_silent() && (seen.lost == 0 || since.elapsed() > GIVEN_UP) {
                return Ok(true);
            }
            if Instant::now() > self.deadline {
                return Ok(false);
            }
            tokio::time::sleep(LOOK).await;
            receiver.count()?;
            let now = self.tally.report();
            if now != seen {
                (seen, since) = (now, Instant::now());
            }
        }
        Ok(true)
    }

    /// Waits until nothing more arrives.
    async fn quiet(&self, receiver: &mut Receiving) -> anyhow::Result<()> {
        let (mut seen, mut since) = (self.tally.report(), Instant::now());
        while since.elapsed() < QUIET {
            tokio::time::sleep(LOOK).await;
            receiver.count()?;
            let now = self.tally.report();
            if now != seen {
                (seen, since) = (now, Instant::now());
            }
        }
        Ok(())
    }
}

/// A directory of one run; removed at its end, however it ends.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> std::io::Result<Self> {
        let name = format!("sls-relay-torture-{}-{:08x}", std::process::id(), fastrand::u32(..));
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir(&dir)?;
        Ok(Self(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
