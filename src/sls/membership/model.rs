//! Two to five consumers, each with a real [`Membership`], against a reference server, on a
//! virtual clock: heartbeats, pulls and commits that are slow, lost or refused, crashes,
//! partitions, processes that stand still, joins, leaves, splits, merges, an operator who
//! moves checkpoints or deletes the group.
//!
//! After every step: no checkpoint is ahead of what its consumer has durable, nothing below
//! a checkpoint is missing, no two consumers work on one shard, and a log is spooled again
//! only where a crash, a lost lease, a refused or unanswered commit, or an operator explains
//! it. When the faults end, everything is consumed and every read-only shard is over.

mod consumer;
mod ledger;
mod server;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::MembershipConfig;
use consumer::{Answer, Ask, Consumer, Did};
use ledger::Ledger;
use server::{Name, No, Server};

/// A call or its answer on its way.
struct Packet {
    at: Instant,
    from: Name,
    id: u64,
    what: What,
    /// The answer never arrives.
    lost: bool,
}

enum What {
    Ask(Ask),
    Answer(Answer),
}

struct World {
    rng: fastrand::Rng,
    epoch: Instant,
    now: Instant,
    server: Server,
    consumers: Vec<Consumer>,
    wire: Vec<Packet>,
    ledger: Ledger,
    config: MembershipConfig,
    /// Faults still happen.
    stormy: bool,
    /// Calls may reach the server after their sender has given them up.
    late_calls: bool,
    /// The server has forgotten who held what.
    blurred_until: Instant,
    trace: Option<Vec<String>>,
}

const MOST_SHARDS: usize = 12;

type Checked = Result<(), String>;

impl World {
    fn new(seed: u64, traced: bool) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let epoch = Instant::now();
        let heartbeat_interval = Duration::from_millis(rng.u64(250..3000));
        let group_timeout = heartbeat_interval * rng.u32(4..7);
        let config = MembershipConfig { heartbeat_interval, group_timeout };
        let mut server = Server::new(group_timeout, rng.bool(), rng.bool());
        for _ in 0..rng.u32(1..6) {
            server.add_shard(Vec::new());
        }
        let consumers = (0..rng.usize(2..6)).map(|name| {
            let joins = epoch + group_timeout.mul_f64(3.0 * rng.f64() * f64::from(name > 0));
            Consumer::new(name, config, rng.u32(995..=1005), joins)
        });
        let consumers = consumers.collect();
        let late_calls = rng.u8(..4) == 0;
        let trace = traced.then(Vec::new);
        let (wire, ledger) = (Vec::new(), Ledger::default());
        let (now, stormy, blurred_until) = (epoch, true, epoch);
        Self {
            rng,
            epoch,
            now,
            server,
            consumers,
            wire,
            ledger,
            config,
            stormy,
            late_calls,
            blurred_until,
            trace,
        }
    }

    fn say(&mut self, what: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            let at = self.now.duration_since(self.epoch).as_secs_f64();
            trace.push(format!("{at:9.3} {}", what()));
        }
    }

    fn run(&mut self) -> Checked {
        let storm_ends = self.epoch + self.config.group_timeout * self.rng.u32(3..9);
        let mut weather_at = self.epoch;
        while self.now < storm_ends {
            let next = self.next_at().min(weather_at);
            self.now = self.now.max(next);
            if weather_at <= self.now {
                weather_at = self.now + self.config.group_timeout.mul_f64(self.rng.f64() / 6.0);
                self.weather();
            } else {
                self.advance()?;
            }
            self.check_tasks()?;
        }
        self.calm();
        let patience = self.now + self.config.group_timeout * 20 + Duration::from_secs(300);
        while !self.is_done() {
            if self.now > patience {
                return Err(format!("it never gets done: {:?}", self.server.shards));
            }
            self.now = self.now.max(self.next_at());
            self.advance()?;
            self.check_tasks()?;
        }
        Ok(())
    }

    /// When something happens by itself.
    fn next_at(&self) -> Instant {
        let wakes = self.consumers.iter().map(|c| c.wakes_at().unwrap_or(c.up_at));
        let arrives = self.wire.iter().map(|packet| packet.at);
        wakes.chain(arrives).min().unwrap_or(self.now)
    }

    fn advance(&mut self) -> Checked {
        let due: Vec<usize> =
            (0..self.wire.len()).filter(|at| self.wire[*at].at <= self.now).collect();
        let up: Vec<Name> = (0..self.consumers.len())
            .filter(|name| self.consumers[*name].wakes_at().is_some_and(|at| at <= self.now))
            .collect();
        if !due.is_empty() && (up.is_empty() || self.rng.bool()) {
            let at = due[self.rng.usize(..due.len())];
            let packet = self.wire.swap_remove(at);
            return self.deliver(packet);
        }
        if !up.is_empty() {
            let name = up[self.rng.usize(..up.len())];
            let did = self.consumers[name].wake(self.now, &mut self.rng);
            return self.carry_out(name, did);
        }
        for name in 0..self.consumers.len() {
            if !self.consumers[name].is_up() && self.consumers[name].up_at <= self.now {
                self.say(|| format!("c{name} starts"));
                self.consumers[name].start(self.now);
            }
        }
        Ok(())
    }

    fn deliver(&mut self, packet: Packet) -> Checked {
        let Packet { from, id, what, lost, .. } = packet;
        let cut_off = self.now < self.consumers[from].cut_off;
        match what {
            What::Answer(answer) => {
                let stalled = self.consumers[from].stalled;
                if self.now < stalled {
                    let what = What::Answer(answer);
                    self.wire.push(Packet { at: stalled, from, id, what, lost });
                    return Ok(());
                }
                if cut_off || lost {
                    self.say(|| format!("c{from} never gets {answer:?}"));
                    return Ok(());
                }
                self.say(|| format!("c{from} gets {answer:?}"));
                let did = self.consumers[from].take(self.now, id, answer);
                self.carry_out(from, did)
            }
            What::Ask(ask) => {
                if cut_off {
                    self.say(|| format!("c{from} is cut off: {ask:?}"));
                    return Ok(());
                }
                let answer = self.serve(from, &ask)?;
                self.say(|| format!("server, to c{from}: {ask:?} {answer:?}"));
                let lost = self.stormy && self.rng.u8(..16) == 0;
                let at = self.now + self.latency(true);
                self.wire.push(Packet { at, from, id, what: What::Answer(answer), lost });
                Ok(())
            }
        }
    }

    fn serve(&mut self, from: Name, ask: &Ask) -> Result<Answer, String> {
        let broken = self.stormy && self.rng.u8(..16) == 0;
        Ok(match ask {
            Ask::Beat { .. } if broken => Answer::Beat(Err(No::Broken)),
            Ask::Read(_) if broken => Answer::Read(Err(No::Broken)),
            Ask::Commit { .. } if broken => Answer::Commit(Err(No::Broken)),
            Ask::Beat { body, make_group } => {
                self.server.exists |= make_group;
                Answer::Beat(self.server.heartbeat(self.now, from, body, &mut self.rng))
            }
            Ask::Read(shard) => Answer::Read(self.server.checkpoint(self.now, *shard)),
            Ask::Commit { shard, cursor } => {
                let before = self.server.shard(*shard).checkpoint;
                let answer = self.server.commit(self.now, Some(from), *shard, *cursor);
                if answer.is_ok() {
                    let ever = self.consumers[from].spool.get(shard).map_or(0, |own| own.ever);
                    let before = before.map_or(0, |(cursor, _)| cursor);
                    self.ledger.committed(*shard, before, *cursor, ever)?;
                }
                Answer::Commit(answer)
            }
        })
    }

    fn carry_out(&mut self, name: Name, did: Vec<Did>) -> Checked {
        for did in did {
            match &did {
                Did::Send(id, ask) => self.say(|| format!("c{name} sends {id}: {ask:?}")),
                Did::GaveUp(shard, why) => {
                    self.say(|| format!("c{name} gives shard {shard} up: {why}"));
                }
                Did::Started(shard, _) => self.say(|| format!("c{name} takes shard {shard}")),
                Did::Exited => self.say(|| format!("c{name} exits")),
                Did::Pull(..) | Did::Told => {}
            }
            match did {
                Did::Send(id, ask) => {
                    if self.stormy && self.rng.u8(..24) == 0 {
                        continue;
                    }
                    let late = self.stormy && self.late_calls && self.rng.u8(..8) == 0;
                    let at = self.now + self.latency(late);
                    self.wire.push(Packet {
                        at,
                        from: name,
                        id,
                        what: What::Ask(ask),
                        lost: false,
                    });
                }
                Did::Pull(shard, room) => self.pull(name, shard, room)?,
                Did::GaveUp(shard, _) => self.give_up(name, shard),
                Did::Started(shard, sent_at) => {
                    if self.now >= sent_at + self.config.group_timeout {
                        return Err(format!("c{name} starts shard {shard} without a lease"));
                    }
                }
                Did::Told if self.consumers[name].tasks.is_empty() => {}
                Did::Told => return Err(format!("c{name} works on after it was told of its loss")),
                Did::Exited => {
                    let away = self.config.group_timeout.mul_f64(2.0 * self.rng.f64());
                    self.consumers[name].up_at = self.now + away;
                }
            }
        }
        Ok(())
    }

    fn give_up(&mut self, name: Name, shard: u32) {
        let checkpoint = self.server.shard(shard).checkpoint.map_or(0, |(cursor, _)| cursor);
        self.ledger.given_up(shard, name, checkpoint);
    }

    fn pull(&mut self, name: Name, shard: u32, room: u64) -> Checked {
        let consumer = &self.consumers[name];
        if self.now < consumer.cut_off || (self.stormy && self.rng.u8(..16) == 0) {
            return Ok(());
        }
        let from = consumer.spool.get(&shard).map_or(0, |own| own.position);
        let end = self.server.shard(shard).end;
        let to = end.min(from + room);
        // What a consumer does that has just been asleep is only caught by the fence.
        let excused = consumer.dazed || self.late_calls || self.now < self.blurred_until;
        if from < to {
            self.say(|| format!("c{name} spools {from}..{to} of shard {shard}"));
            if self.server.ordered {
                for parent in self.server.shards[&shard].parents.clone() {
                    let parent_end = self.server.shards[&parent].end;
                    self.ledger.all_below(parent, parent_end).map_err(|what| {
                        format!("shard {shard} is read before its parent is done: {what}")
                    })?;
                }
            }
        }
        for log in from..to {
            self.ledger.spooled(shard, log, name, excused)?;
        }
        self.consumers[name].pulled(self.now, shard, to.saturating_sub(from));
        Ok(())
    }

    /// Usually quick; sometimes longer than a heartbeat may take.
    fn latency(&mut self, slow: bool) -> Duration {
        match self.rng.u8(..12) {
            0 if slow && self.stormy => self.config.group_timeout.mul_f64(self.rng.f64()),
            _ => Duration::from_millis(self.rng.u64(1..60)),
        }
    }

    /// Something happens to the world.
    fn weather(&mut self) {
        let names = self.consumers.len();
        let name = self.rng.usize(..names);
        let while_ = self.config.group_timeout.mul_f64(2.0 * self.rng.f64());
        let until = self.now + while_;
        let shards: Vec<u32> = self.server.shards.keys().copied().collect();
        let shard = shards[self.rng.usize(..shards.len())];
        match self.rng.u8(..40) {
            0..=3 if self.consumers[name].is_up() => {
                self.say(|| format!("c{name} crashes"));
                let did = self.consumers[name].crash(until + Duration::from_millis(100));
                let none = self.carry_out(name, did);
                debug_assert!(none.is_ok(), "giving up breaks nothing");
            }
            4..=7 => {
                self.say(|| format!("c{name} is cut off for {while_:?}"));
                self.consumers[name].cut_off = until;
            }
            8..=9 if self.consumers[name].is_up() => {
                self.say(|| format!("c{name} stands still for {while_:?}"));
                (self.consumers[name].stalled, self.consumers[name].dazed) = (until, true);
                let held: Vec<u32> = self.consumers[name].tasks.keys().copied().collect();
                held.into_iter().for_each(|shard| self.give_up(name, shard));
            }
            10..=12 => {
                self.say(|| format!("c{name} leaves"));
                self.consumers[name].leave(self.now);
            }
            13..=14 if shards.len() + 2 <= MOST_SHARDS && !self.server.shard(shard).read_only => {
                let open = |id: &&u32| **id != shard && !self.server.shards[*id].read_only;
                let other = shards.iter().find(open).copied().filter(|_| self.rng.bool());
                let parents: Vec<u32> = std::iter::once(shard).chain(other).collect();
                self.say(|| format!("shards {parents:?} are split or merged"));
                self.server.replace(&parents, 3 - parents.len());
            }
            15 => {
                let end = self.server.shard(shard).end;
                let to = self.rng.u64(..=end);
                self.say(|| format!("the operator sets shard {shard} to {to}"));
                let before = self.server.shard(shard).checkpoint.map_or(0, |(cursor, _)| cursor);
                if self.server.commit(self.now, None, shard, to).is_ok() {
                    self.ledger.reset(shard, before, to);
                }
            }
            16 if self.rng.u8(..4) == 0 => {
                self.say(|| "the group is deleted".to_owned());
                self.server.delete_group();
                self.ledger.forget_commits();
                self.blurred_until = self.now + self.config.group_timeout;
            }
            _ => {
                let logs = self.rng.u64(1..12);
                if !self.server.shard(shard).read_only {
                    self.say(|| format!("{logs} logs are written to shard {shard}"));
                    self.server.shard(shard).end += logs;
                }
            }
        }
    }

    /// The faults end, and everybody is back.
    fn calm(&mut self) {
        self.say(|| "the faults end".to_owned());
        self.stormy = false;
        for consumer in &mut self.consumers {
            consumer.cut_off = self.now;
            consumer.up_at = consumer.up_at.min(self.now + self.config.group_timeout);
        }
    }

    fn is_done(&mut self) -> bool {
        let (server, ledger) = (&self.server, &mut self.ledger);
        server.shards.iter().all(|(id, shard)| {
            shard.checkpoint.is_some_and(|(cursor, _)| cursor == shard.end)
                && (!shard.read_only || server.is_over(*id))
                && ledger.all_below(*id, shard.end).is_ok()
        })
    }

    /// No two consumers work on one shard.
    fn check_tasks(&self) -> Checked {
        if self.late_calls || self.now < self.blurred_until {
            return Ok(());
        }
        let awake = |c: &&Consumer| self.now >= c.stalled && !c.dazed;
        let mut holders = [None; MOST_SHARDS];
        for consumer in self.consumers.iter().filter(awake) {
            for shard in consumer.tasks.keys() {
                let holder = &mut holders[*shard as usize];
                if let Some(other) = holder.replace(consumer.name) {
                    let name = consumer.name;
                    return Err(format!("c{other} and c{name} both work on shard {shard}"));
                }
            }
        }
        Ok(())
    }
}

/// The lines of a trace that say something of the shard in question.
fn about(what: &str, trace: Vec<String>) -> Vec<String> {
    let words = |text: &str| -> Vec<String> {
        text.split(|c: char| !c.is_alphanumeric()).map(str::to_owned).collect()
    };
    let said = words(what);
    let shard = said.iter().position(|word| word == "shard").and_then(|at| said.get(at + 1));
    let Some(shard) = shard else { return trace };
    let tells = |line: &String| {
        let body = line.get(10..).unwrap_or_default();
        let other = ["shard", "Read", "Commit", "Beat"].iter().any(|word| body.contains(word));
        !other || words(body).contains(shard)
    };
    trace.into_iter().filter(tells).collect()
}

/// `SLS_RELAY_MODEL_CASES` runs more, `SLS_RELAY_SEED` one.
#[test]
fn consumers_never_lose_a_log_and_never_share_a_shard() {
    let env = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let cases = env("SLS_RELAY_MODEL_CASES").unwrap_or(2000);
    let seeds = env("SLS_RELAY_SEED").map_or(0..cases, |seed| seed..seed + 1);
    let next = AtomicU64::new(seeds.start);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let all = std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed));
                all.take_while(|seed| *seed < seeds.end).for_each(live);
            });
        }
    });
}

fn live(seed: u64) {
    if let Err(what) = World::new(seed, false).run() {
        let mut again = World::new(seed, true);
        let _ = again.run();
        let trace = about(&what, again.trace.unwrap_or_default());
        let last = &trace[trace.len().saturating_sub(80)..];
        panic!("seed {seed}: {what}\n{}", last.join("\n"));
    }
}
