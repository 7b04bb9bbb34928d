//! What a sender knows and does about one destination, whatever its transport: a state machine
//! without clock and socket.
//!
//! ```text
//!            connected ┌───────────┐  wrote, reached, tick
//!   Idle ─────────────▶│ Streaming │◀──┐
//!    ▲  ▲              └─────┬─────┘───┘
//!    │  │ ended              │ drain_due
//!    │  └─────── backoff ◀───┤
//!    │         drained ┌─────▼─────┐ unanswered: again, or a weaker proof
//!    └─────────────────│ Draining  │
//!                      └───────────┘
//! ```
//!
//! The caller owns sockets and time. It asks what may be sent ([`Delivery::room`]) and whether to
//! drain ([`Delivery::drain_due`]), and tells what happened. Three positions come of it
//! ([`Positions`]); only what [`Delivery::tick`] returns may leave the spool. Memory is bounded:
//! of what was written it remembers one offset for each write, and no message.

mod drain_plan;
mod isolation;
mod positions;
mod window;

pub use drain_plan::{DrainPlan, DrainReason, DrainSettings, MOST};
pub use isolation::{Death, Isolation, Step};
pub use positions::Positions;
pub use window::WindowEstimate;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Drains in a row without an answer before the receiver counts as one that never answers.
pub const UNANSWERED: u32 = 3;
/// Writes remembered apart; further ones are merged into the last, which only delays their proof.
const MOST_WRITES: usize = 4096;

/// What shows that the receiver has read something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// It ends the connection after we have ended our side.
    Drain,
    /// The window that its kernel offers ([`WindowEstimate`]); drained where nothing flows.
    Window,
    /// It says so, message by message (RELP).
    Acknowledged,
    /// Its kernel took all: a weak proof, for receivers that never answer a drain.
    Kernel,
    /// Nobody refused a datagram: no proof at all.
    Datagram,
}

impl Proof {
    /// Whether what it shows is to be counted as unproven.
    pub fn is_weak(self) -> bool {
        matches!(self, Self::Kernel | Self::Datagram)
    }

    /// The word for it in logs and status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Window => "window",
            Self::Acknowledged => "acknowledged",
            Self::Kernel => "kernel",
            Self::Datagram => "none",
        }
    }
}

/// What to do about a receiver that gives no proof.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Assurance {
    /// Go on with the best proof that there is, and count.
    #[default]
    Best,
    /// Hold.
    Strict,
}

/// How one destination is delivered to.
#[derive(Debug, Clone, Copy)]
pub struct DeliverySettings {
    /// The proof that is wanted.
    pub proof: Proof,
    /// What to do where there is none.
    pub assurance: Assurance,
    /// Age at which what is proven counts as confirmed.
    pub settle: Duration,
    /// Cadence of drains.
    pub drain: DrainSettings,
}

/// What became of a drain that the receiver did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unanswered {
    /// Everything unconfirmed is to be sent again.
    Again,
    /// As before, and as often before: the assurance is [`Assurance::Strict`].
    Holds,
    /// From now on this proof has to do; so many logs were written and stand on the kernel's word.
    Weaker {
        /// The proof.
        proof: Proof,
        /// Logs that are unproven because of it.
        unproven: u64,
    },
}

/// The delivery to one destination; `P` is a position in the stream of logs.
#[derive(Debug, Clone)]
pub struct Delivery<P> {
    settings: DeliverySettings,
    /// The proof in use.
    proof: Proof,
    positions: Positions<P>,
    plan: DrainPlan,
    isolation: Isolation<P>,
    /// What was written on this connection and is not proven.
    writes: VecDeque<Write<P>>,
    /// Logs written since the last abnormal end that are not confirmed.
    logs: VecDeque<(P, u64)>,
    unconfirmed: u64,
    /// Offset behind the last write on this connection.
    written: u64,
    unanswered: u32,
    /// When this connection was accepted.
    accepted: Option<Instant>,
    /// When this connection first took data.
    took_data: Option<Instant>,
}

/// One write.
#[derive(Debug, Clone, Copy)]
struct Write<P> {
    /// Offset behind it, in the unit of the transport.
    end: u64,
    after: P,
    logs: u64,
}

/// How soon after data a connection must end for the data to be suspected.
const SOON: Duration = Duration::from_secs(5);

impl<P: Copy + Ord> Delivery<P> {
    /// Starts where the spool says that the destination stands.
    pub fn new(confirmed: P, settings: DeliverySettings) -> Self {
        Self {
            settings,
            proof: settings.proof,
            positions: Positions::new(confirmed),
            plan: DrainPlan::new(settings.drain),
            isolation: Isolation::default(),
            writes: VecDeque::new(),
            logs: VecDeque::new(),
            unconfirmed: 0,
            written: 0,
            unanswered: 0,
            accepted: None,
            took_data: None,
        }
    }

    /// The three positions.
    pub fn positions(&self) -> &Positions<P> {
        &self.positions
    }

    /// The proof in use, which may be a weaker one than was wanted.
    pub fn proof(&self) -> Proof {
        self.proof
    }

    /// What is to be sent: logs, few of them, or a message of the relay's own.
    pub fn step(&self) -> Step {
        self.isolation.step()
    }

    /// Whether the receiver refuses even what the relay says itself.
    pub fn refuses_everything(&self) -> bool {
        self.isolation.refuses_everything()
    }

    /// Most logs and bytes that may be written now; `None` while what was written has to be
    /// confirmed first. At least one log may always exceed the bytes.
    pub fn room(&self) -> Option<Room> {
        let bytes = self.plan.quantum();
        match self.isolation.step() {
            Step::Flow => Some(Room { logs: u32::MAX, bytes }),
            Step::Control => None,
            Step::Few(most) => self.lot_is_open(most).then_some(Room { logs: most, bytes }),
        }
    }

    /// Another receiver is sent to from now on: what this one could prove says nothing about
    /// that. Nothing is written and unconfirmed.
    pub fn another_receiver(&mut self) {
        (self.proof, self.unanswered) = (self.settings.proof, 0);
        self.isolation.another_receiver();
    }

    /// Whether a lot of `most` logs, give or take one write, is not complete yet, or none is begun.
    fn lot_is_open(&self, most: u32) -> bool {
        let begun = self.positions.proven() == self.positions.confirmed();
        let grows = begun || self.proof == Proof::Acknowledged;
        self.unconfirmed == 0 || (grows && self.unconfirmed < u64::from(most))
    }

    /// A connection is asked for.
    pub fn connecting(&mut self, now: Instant) {
        self.plan.connecting(now);
    }

    /// A connection was accepted. That alone is no sign of life of the receiver: its kernel does
    /// that for a process that is stopped, and a proxy for one that is away.
    pub fn connected(&mut self, now: Instant) {
        self.plan.connected(now);
        self.accepted = Some(now);
        self.written = 0;
        self.writes.clear();
        self.took_data = None;
    }

    /// `logs` logs up to `after` were written in `bytes` bytes; the transport's offset is now
    /// `end`.
    pub fn wrote(&mut self, end: u64, after: P, bytes: u64, logs: u64, now: Instant) {
        self.positions.wrote(after);
        // A write that failed may have handed over nothing of its bytes.
        let nothing = bytes == 0 && end == self.written;
        self.written = end;
        self.took_data.get_or_insert(now);
        self.unconfirmed += logs;
        self.logs.push_back((after, logs));
        merge_last_two(&mut self.logs, |last, next| *last = (next.0, last.1 + next.1));
        match self.proof {
            Proof::Datagram => self.positions.prove(after, now),
            // Logs of which nothing is sent, behind nothing that is waited for: no answer comes.
            Proof::Acknowledged if nothing && self.writes.is_empty() => {
                self.positions.prove(after, now);
            }
            _ => {
                self.plan.wrote(bytes, now);
                self.writes.push_back(Write { end, after, logs });
                merge_last_two(&mut self.writes, |last, next| {
                    *last = Write { logs: last.logs + next.logs, ..next };
                });
            }
        }
    }

    /// The receiver has everything before the offset `end` of this connection, as far as the
    /// proof in use can tell. Returns the number of logs that this proves.
    pub fn reached(&mut self, end: u64, now: Instant) -> u64 {
        let (mut proven, mut logs) = (None, 0);
        while let Some(write) = self.writes.front().filter(|write| write.end <= end) {
            proven = Some(write.after);
            logs += write.logs;
            self.writes.pop_front();
        }
        if let Some(after) = proven {
            if self.proof == Proof::Acknowledged {
                self.positions.alive(now);
            }
            self.positions.prove(after, now);
            if self.writes.is_empty() {
                self.plan.reset();
            }
        }
        logs
    }

    /// Whether positions can be learnt from the connection now, by [`Self::reached`].
    pub fn wants_progress(&self) -> bool {
        !self.writes.is_empty() && matches!(self.proof, Proof::Window | Proof::Kernel)
    }

    /// The connection is open and undisturbed, or there is none after a drain. Returns the
    /// confirmed position if it moved: everything before it may leave the spool.
    pub fn tick(&mut self, now: Instant) -> Option<P> {
        // It stood for as long as something settles.
        if self.accepted.is_some_and(|at| at + self.settings.settle <= now) {
            self.positions.alive(now);
        }
        let confirmed = self.positions.settle(now, self.settings.settle)?;
        self.plan.confirmed();
        self.forget(confirmed);
        Some(confirmed)
    }

    /// Whether to end this connection with a drain now.
    pub fn drain_due(&self, now: Instant) -> bool {
        let few = match self.isolation.step() {
            Step::Few(most) => !self.writes.is_empty() && !self.lot_is_open(most),
            Step::Flow | Step::Control => false,
        };
        match self.proof {
            Proof::Drain => few || self.plan.due(now).is_some(),
            Proof::Window => few || self.plan.idle_at().is_some_and(|at| at <= now),
            Proof::Acknowledged | Proof::Kernel | Proof::Datagram => false,
        }
    }

    /// When to look again at the latest, if nothing happens.
    pub fn wake(&self) -> Option<Instant> {
        let drain = match self.proof {
            Proof::Drain => self.plan.due_at(),
            Proof::Window => self.plan.idle_at(),
            Proof::Acknowledged | Proof::Kernel | Proof::Datagram => None,
        };
        let settle = self.positions.next_settle(self.settings.settle);
        let alive = self.accepted.map(|at| at + self.settings.settle);
        let settle = settle.map(|at| alive.map_or(at, |alive| at.max(alive)));
        [drain, settle].into_iter().flatten().min()
    }

    /// When an unsettled proof needs a sign of life to count.
    pub fn probe_at(&self) -> Option<Instant> {
        self.positions.next_settle(self.settings.settle)
    }

    /// When everything proven has settled.
    pub fn last_settle(&self) -> Option<Instant> {
        self.positions.last_settle(self.settings.settle)
    }

    /// How long a connection has to stand to show that the receiver is alive.
    pub fn alive_after(&self) -> Duration {
        self.settings.settle
    }

    /// A drain begins.
    pub fn draining(&mut self, now: Instant) {
        self.plan.draining(now);
    }

    /// The receiver answered it: it has read everything.
    pub fn drained(&mut self, now: Instant) {
        self.unanswered = 0;
        self.writes.clear();
        self.accepted = None;
        self.positions.alive(now);
        self.positions.prove(self.positions.written(), now);
        self.plan.drained(now);
    }

    /// The receiver ended a connection on which everything was confirmed. It does so with idle
    /// ones, and whether it would answer a drain is as unknown as before.
    pub fn idle_end(&mut self) {
        self.writes.clear();
        (self.accepted, self.took_data) = (None, None);
        self.plan.reset();
    }

    /// The receiver's kernel took everything, but the receiver never ended its side.
    /// `window` says whether its window can be seen.
    pub fn unanswered(&mut self, window: bool, now: Instant) -> Unanswered {
        self.unanswered = self.unanswered.saturating_add(1);
        self.accepted = None;
        if self.unanswered < UNANSWERED {
            return Unanswered::Again;
        }
        if self.settings.assurance == Assurance::Strict {
            return Unanswered::Holds;
        }
        self.proof = if window { Proof::Window } else { Proof::Kernel };
        let unproven = self.writes.iter().map(|write| write.logs).sum();
        self.writes.clear();
        self.positions.prove(self.positions.written(), now);
        self.plan.reset();
        Unanswered::Weaker { proof: self.proof, unproven }
    }

    /// Whether the receiver is known not to answer a drain.
    pub fn is_deaf(&self) -> bool {
        self.unanswered >= UNANSWERED
    }

    /// The connection ended, or could not be made, in any way but a completed drain.
    pub fn ended(&mut self, death: Death, now: Instant) -> Ended<P> {
        let soon = self.took_data.is_some_and(|at| now.saturating_duration_since(at) <= SOON);
        let death = match death {
            Death::AfterData if !soon => Death::Unrelated,
            // Told for this connection, of which some is confirmed already.
            Death::Refused { before } => {
                Death::Refused { before: (before + self.unconfirmed).saturating_sub(self.written) }
            }
            other => other,
        };
        let (confirmed, written) = (self.positions.confirmed(), self.positions.written());
        let poison = self.isolation.died(death, confirmed, written, self.unconfirmed);
        let again = self.unconfirmed;
        self.writes.clear();
        self.logs.clear();
        self.unconfirmed = 0;
        (self.accepted, self.took_data) = (None, None);
        self.plan.broken();
        let after_data = again > 0 && death == Death::AfterData;
        Ended { resume: self.positions.abnormal_end(), again, after_data, poison }
    }

    /// The relay's own message was taken by the receiver, or not.
    pub fn control(&mut self, taken: bool) {
        self.isolation.control(taken);
    }

    /// Whatever stood before `p` is out of the way without having been delivered; nothing is
    /// written and unconfirmed.
    pub fn passed(&mut self, p: P) {
        self.positions = Positions::new(p);
        self.isolation.passed(p);
    }

    fn forget(&mut self, confirmed: P) {
        while let Some(&(_, logs)) = self.logs.front().filter(|(after, _)| *after <= confirmed) {
            self.unconfirmed -= logs;
            self.logs.pop_front();
        }
        self.isolation.passed(confirmed);
    }
}

/// What may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Most logs.
    pub logs: u32,
    /// Most bytes, where that is more than one log.
    pub bytes: u64,
}

/// After an abnormal end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended<P> {
    /// Where to go on.
    pub resume: P,
    /// Logs that are written again.
    pub again: u64,
    /// Whether the receiver ended the connection soon after it took data.
    pub after_data: bool,
    /// Whether the log at `resume` is one that the receiver ends every connection for.
    pub poison: bool,
}

/// Keeps a queue of writes short: the older of the last two waits for the newer one.
fn merge_last_two<T: Copy>(queue: &mut VecDeque<T>, merge: impl FnOnce(&mut T, T)) {
    if queue.len() > MOST_WRITES
        && let Some(next) = queue.pop_back()
        && let Some(last) = queue.back_mut()
    {
        merge(last, next);
    }
}

#[cfg(test)]
mod tests;
