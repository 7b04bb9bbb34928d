//! A simulated relay: a real [`Membership`], and as little of a spool, a fetcher and a
//! checkpointer as its decisions rest on. It mirrors `relay/source.rs` and its tasks.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::super::tests::refused;
use super::super::{Action, Membership, MembershipConfig};
use super::server::{Checkpoint, Name, No};

const HAND_OVER: Duration = Duration::from_secs(10);
const STOP_WITHIN: Duration = Duration::from_secs(20);
const IDLE_COMMIT: Duration = Duration::from_secs(10);
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_millis(700);

/// A call to the server.
#[derive(Clone, Debug)]
pub(super) enum Ask {
    Beat { body: Vec<u32>, make_group: bool },
    Read(u32),
    Commit { shard: u32, cursor: u64 },
}

#[derive(Clone, Debug)]
pub(super) enum Answer {
    Beat(Result<Vec<u32>, No>),
    Read(Result<Checkpoint, No>),
    Commit(Result<(), No>),
}

/// A call under way. Its answer counts only while it is expected.
#[derive(Clone, Copy, Debug)]
struct Call {
    id: u64,
    sent_at: Instant,
    give_up: Instant,
}

/// What survives a crash.
#[derive(Clone, Debug, Default)]
pub(super) struct Spooled {
    pub(super) position: u64,
    committed: Option<u64>,
    chain: Vec<u64>,
    /// Everything below was durable here at some time.
    pub(super) ever: u64,
}

#[derive(Debug)]
pub(super) struct Task {
    acquired: bool,
    call: Option<Call>,
    /// The newest receipt, and the one that is being committed.
    newest: Option<u64>,
    committing: Option<u64>,
    stopped: Option<Instant>,
    idle_since: Option<Instant>,
    /// Nothing has moved for long: see whether the server's checkpoint has.
    look: bool,
    /// It has ended, lost or drained; the source does not know yet.
    ended: Option<Ended>,
    at: Instant,
}

#[derive(Clone, Copy, Debug)]
enum Due {
    Tick,
    Beat,
    Step(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Drained,
    Lost,
}

/// What a consumer did that the world has to carry out or to know.
#[derive(Debug)]
pub(super) enum Did {
    Send(u64, Ask),
    /// Room for so many logs of the shard from its position on.
    Pull(u32, u64),
    /// Logs of the shard that are not committed may come twice.
    GaveUp(u32, &'static str),
    Started(u32, Instant),
    /// An answer has proved that it holds nothing.
    Told,
    Exited,
}

#[derive(Debug)]
pub(super) struct Consumer {
    pub(super) name: Name,
    config: MembershipConfig,
    /// Its clock against the true one, in thousandths.
    pace: u32,
    epoch: Instant,
    membership: Option<Membership>,
    pub(super) spool: BTreeMap<u32, Spooled>,
    pub(super) tasks: BTreeMap<u32, Task>,
    beat: Option<Call>,
    group_lost: bool,
    beat_at: Instant,
    tick_at: Instant,
    stopping: Option<Instant>,
    calls: u64,
    /// Nothing happens here before: the process does not get to run.
    pub(super) stalled: Instant,
    /// It has not looked at its clock since it was stalled.
    pub(super) dazed: bool,
    pub(super) cut_off: Instant,
    pub(super) up_at: Instant,
    did: Vec<Did>,
}

impl Consumer {
    pub(super) fn new(name: Name, config: MembershipConfig, pace: u32, up_at: Instant) -> Self {
        let epoch = up_at;
        Self {
            name,
            config,
            pace,
            epoch,
            membership: None,
            spool: BTreeMap::new(),
            tasks: BTreeMap::new(),
            beat: None,
            group_lost: false,
            beat_at: epoch,
            tick_at: epoch,
            stopping: None,
            calls: 0,
            stalled: epoch,
            dazed: false,
            cut_off: epoch,
            up_at,
            did: Vec::new(),
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.membership.is_some()
    }

    pub(super) fn start(&mut self, now: Instant) {
        self.membership = Some(Membership::new(self.config));
        (self.beat_at, self.tick_at, self.stalled) = (now, now, now);
        (self.stopping, self.beat, self.group_lost, self.dazed) = (None, None, false, false);
    }

    pub(super) fn crash(&mut self, up_at: Instant) -> Vec<Did> {
        self.membership = None;
        self.up_at = up_at;
        let tasks = std::mem::take(&mut self.tasks);
        tasks.into_keys().map(|shard| Did::GaveUp(shard, "crash")).collect()
    }

    pub(super) fn leave(&mut self, now: Instant) {
        self.stopping.get_or_insert(now);
        for task in self.tasks.values_mut() {
            task.stop(now);
        }
    }

    /// When something is to be done next; never while it is down.
    pub(super) fn wakes_at(&self) -> Option<Instant> {
        self.membership.as_ref()?;
        let beat = self.beat.map_or(self.beat_at, |call| call.give_up);
        let tasks = self.tasks.values().map(Task::wakes_at);
        tasks.chain([beat, self.tick_at]).min().map(|at| at.max(self.stalled))
    }

    /// Does one of the things that are due, which one is left to chance.
    pub(super) fn wake(&mut self, now: Instant, rng: &mut fastrand::Rng) -> Vec<Did> {
        if self.stopping.is_some_and(|since| self.tasks.is_empty() || now >= since + STOP_WITHIN) {
            let mut did = self.crash(now);
            did.push(Did::Exited);
            return did;
        }
        let tasks = self.tasks.iter().filter(|(_, task)| task.wakes_at() <= now);
        let mut due: Vec<Due> = tasks.map(|(shard, _)| Due::Step(*shard)).collect();
        if self.tick_at <= now {
            due.push(Due::Tick);
        }
        if self.beat.map_or(self.beat_at, |call| call.give_up) <= now {
            due.push(Due::Beat);
        }
        match rng.choice(due) {
            Some(Due::Tick) => self.tick(now, rng),
            Some(Due::Beat) => self.beat(now),
            Some(Due::Step(shard)) => self.step(now, shard, rng),
            None => {}
        }
        std::mem::take(&mut self.did)
    }

    fn local(&self, now: Instant) -> Instant {
        self.epoch + now.duration_since(self.epoch) * self.pace / 1000
    }

    fn tick(&mut self, now: Instant, rng: &mut fastrand::Rng) {
        self.dazed = false;
        let local = self.local(now);
        let Some(membership) = &mut self.membership else { return };
        let actions = membership.on_tick(local);
        // The looks in between change nothing, so they are left out.
        let left = membership.deadline().map(|at| at.saturating_duration_since(local));
        let watch = Duration::from_millis(200).min(self.config.heartbeat_interval);
        let left = left.unwrap_or(self.config.heartbeat_interval) * 1000 / self.pace;
        self.tick_at = now + left + watch.mul_f64(rng.f64());
        self.act(now, now, actions);
    }

    fn beat(&mut self, now: Instant) {
        let Some(membership) = &mut self.membership else { return };
        if self.beat.take().is_some() {
            // No answer in time: a failed heartbeat like any other.
            self.beat_at = now + self.config.retry_interval();
            return;
        }
        let body = membership.heartbeat_body();
        self.beat_at = now + self.config.heartbeat_interval;
        let timeout = self.config.heartbeat_timeout();
        let make_group = std::mem::take(&mut self.group_lost);
        self.beat = Some(self.send(now, timeout, Ask::Beat { body, make_group }));
    }

    fn send(&mut self, now: Instant, timeout: Duration, ask: Ask) -> Call {
        self.calls += 1;
        self.did.push(Did::Send(self.calls, ask));
        Call { id: self.calls, sent_at: now, give_up: now + timeout }
    }

    /// An answer has arrived; one that nobody waits for is nothing.
    pub(super) fn take(&mut self, now: Instant, id: u64, answer: Answer) -> Vec<Did> {
        let expected = |call: &Option<Call>| call.filter(|call| call.id == id);
        if let (Some(call), Answer::Beat(answer)) = (expected(&self.beat), &answer) {
            self.beat = None;
            let (sent_at, local) = (self.local(call.sent_at), self.local(now));
            let Some(membership) = &mut self.membership else { return Vec::new() };
            let actions = match answer {
                Ok(reply) => membership.on_heartbeat(sent_at, local, reply),
                Err(no) => {
                    self.group_lost = *no == No::GroupUnknown;
                    self.beat_at = now + self.config.retry_interval();
                    membership.on_heartbeat_error(&error(*no))
                }
            };
            self.act(now, call.sent_at, actions);
            if matches!(answer, Err(No::UnknownWithBody | No::GroupUnknown)) {
                self.did.push(Did::Told);
            }
        }
        let task = self.tasks.iter_mut().find(|(_, task)| expected(&task.call).is_some());
        if let Some((shard, task)) = task {
            task.call = None;
            let spooled = self.spool.entry(*shard).or_default();
            match answer {
                Answer::Read(Ok(checkpoint)) if task.acquired => {
                    if !std::mem::take(&mut task.look) {
                        // Logs have come meanwhile, and will be committed.
                    } else if checkpoint.is_some_and(|(cursor, _)| cursor == spooled.position) {
                        task.newest.get_or_insert(spooled.position);
                    } else {
                        // An operator's: it is obeyed by taking the shard anew.
                        task.ended = Some(Ended::Lost);
                    }
                    task.at = now;
                }
                Answer::Read(Ok(checkpoint)) => {
                    task.acquired = true;
                    spooled.begin(self.name, checkpoint);
                    task.at = now;
                }
                Answer::Commit(Ok(())) => {
                    let cursor = task.committing.take();
                    spooled.committed(cursor);
                    task.at = now;
                }
                Answer::Commit(Err(No::NotMatch)) => {
                    task.ended = Some(Ended::Lost);
                    task.at = now + Duration::from_millis(20);
                    self.did.push(Did::GaveUp(*shard, "refused commit"));
                }
                _ => task.at = now + RETRY,
            }
        }
        std::mem::take(&mut self.did)
    }

    fn act(&mut self, now: Instant, sent_at: Instant, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Start(_) if self.stopping.is_some() => {}
                Action::Start(shard) => {
                    self.did.push(Did::Started(shard, sent_at));
                    let task = Task {
                        acquired: false,
                        call: None,
                        newest: None,
                        committing: None,
                        stopped: None,
                        idle_since: None,
                        look: false,
                        ended: None,
                        at: now,
                    };
                    assert!(self.tasks.insert(shard, task).is_none(), "{shard} started twice");
                }
                Action::Stop(shard) => {
                    self.tasks.get_mut(&shard).into_iter().for_each(|task| task.stop(now));
                }
                Action::DropAll(shards) => {
                    for shard in shards {
                        if self.tasks.remove(&shard).is_some() {
                            self.did.push(Did::GaveUp(shard, "lost lease"));
                        }
                    }
                }
            }
        }
    }

    /// One step of the tasks of one shard: fetcher and checkpointer.
    fn step(&mut self, now: Instant, shard: u32, rng: &mut fastrand::Rng) {
        let Some(task) = self.tasks.get_mut(&shard) else { return };
        if let Some(ended) = task.ended {
            self.tasks.remove(&shard);
            let Some(membership) = &mut self.membership else { return };
            let actions = match ended {
                Ended::Drained => membership.on_drained(shard),
                Ended::Lost => {
                    membership.on_lost(shard);
                    Vec::new()
                }
            };
            // A start that follows a drain rests on the last answer; the clock has been
            // looked at since.
            return self.act(now, now, actions);
        }
        if task.call.is_some_and(|call| call.give_up <= now) {
            task.call = None;
        }
        let late = task.stopped.is_some_and(|since| now >= since + HAND_OVER);
        let open = task.committing.is_some() || task.newest.is_some();
        if late && open {
            self.did.push(Did::GaveUp(shard, "hand-over without the last commit"));
        }
        if task.stopped.is_some() && (late || !task.acquired || !open) {
            task.ended = Some(Ended::Drained);
            task.at = now + Duration::from_millis(rng.u64(..50));
            return;
        }
        task.at = now + self.config.heartbeat_interval.mul_f64(rng.f64());
        if task.acquired && task.stopped.is_none() && rng.u8(..4) > 0 {
            return self.did.push(Did::Pull(shard, rng.u64(1..5)));
        }
        if task.call.is_some() {
            return;
        }
        if task.committing.is_none() {
            task.committing = task.newest.take();
        }
        let ask = match task.committing {
            _ if !task.acquired => Ask::Read(shard),
            Some(cursor) => Ask::Commit { shard, cursor },
            None if task.look => Ask::Read(shard),
            None => return,
        };
        let call = self.send(now, CALL_TIMEOUT, ask);
        self.tasks.get_mut(&shard).into_iter().for_each(|task| task.call = Some(call));
    }

    /// A pull brought so many logs, and they are durable; or nothing.
    pub(super) fn pulled(&mut self, now: Instant, shard: u32, logs: u64) {
        let Some(task) = self.tasks.get_mut(&shard) else { return };
        let spooled = self.spool.entry(shard).or_default();
        if logs > 0 {
            spooled.advance(logs);
            (task.idle_since, task.look) = (None, false);
        } else {
            let due = match task.idle_since {
                None => spooled.committed.is_none(),
                Some(since) if now < since + IDLE_COMMIT => return,
                Some(_) => {
                    task.look = spooled.committed == Some(spooled.position);
                    !task.look
                }
            };
            task.idle_since = Some(now);
            if !due {
                return;
            }
        }
        task.newest = Some(spooled.position);
    }
}

impl Task {
    fn wakes_at(&self) -> Instant {
        self.call.map_or(self.at, |call| call.give_up.min(self.at))
    }

    fn stop(&mut self, now: Instant) {
        if self.ended.is_none() {
            self.stopped.get_or_insert(now);
            self.at = now;
        }
    }
}

impl Spooled {
    fn is_ours(&self, me: Name, checkpoint: Checkpoint) -> bool {
        let known = match checkpoint {
            None => self.committed.is_none(),
            Some((at, _)) => self.committed == Some(at) || self.chain.contains(&at),
        };
        known && checkpoint.and_then(|(_, by)| by).is_none_or(|by| by == me)
    }

    /// The rule of `Fetcher::try_acquire` and what the spool makes of it.
    fn begin(&mut self, me: Name, checkpoint: Checkpoint) {
        let cursor = checkpoint.map(|(cursor, _)| cursor);
        let by = checkpoint.and_then(|(_, by)| by);
        let ours = self.is_ours(me, checkpoint);
        let behind = by == Some(me) && cursor.is_some_and(|at| self.position < at);
        if ours || behind {
            self.committed(cursor);
        } else {
            self.position = cursor.unwrap_or(0);
            (self.committed, self.chain) = (cursor, vec![self.position]);
        }
    }

    fn advance(&mut self, logs: u64) {
        self.position += logs;
        self.chain.push(self.position);
        self.ever = self.ever.max(self.position);
    }

    fn committed(&mut self, cursor: Option<u64>) {
        let Some(cursor) = cursor else { return };
        if let Some(at) = self.chain.iter().position(|known| *known == cursor) {
            self.chain.drain(..=at);
        }
        self.committed = Some(cursor);
    }
}

fn error(no: No) -> super::super::Error {
    match no {
        No::UnknownWithBody => refused(400, "NotExistConsumerWithBody"),
        No::NotMatch => refused(404, "ConsumerNotMatch"),
        No::GroupUnknown => refused(404, "ConsumerGroupNotExist"),
        No::Broken => refused(500, "InternalServerError"),
    }
}
