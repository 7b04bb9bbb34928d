//! Misbehaviour of the emulated service, switched by tests while it runs.
//!
//! Each fault applies to requests that match its operation and shard, a number of
//! times or until cleared. The oldest matching fault is used, one for each request.
//! Faults that spoil an answer pass by answers without a body, and are not used up by
//! them, since there is nothing to spoil at the end of a shard.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// 500 `InternalServerError`.
    InternalServerError,
    /// 502 with an HTML page, as a proxy in between would answer.
    BadGateway,
    /// 503 `ServerBusy`.
    ServerBusy,
    /// 403 `ReadQuotaExceed`.
    ReadQuotaExceed,
    /// 403 `ShardReadQuotaExceed`.
    ShardReadQuotaExceed,
    /// 401 `Unauthorized`.
    Unauthorized,
    /// 403 `Unauthorized`, as for a right that is missing.
    Forbidden,
    /// 400 `InvalidCursor`, as for a cursor out of retention.
    InvalidCursor,
    /// The request is read, then the connection is reset (RST).
    Reset,
    /// The request is carried out, its answer comes this much later.
    Slow(Duration),
    /// The request is read and never answered.
    NeverAnswers,
    /// Half of the body that `content-length` announces, then the end of the connection.
    Truncated,
    /// A body of the right length that does not decompress.
    Corrupt,
    /// `x-log-bodyrawsize` is one more than the uncompressed size.
    WrongRawSize,
    /// `x-log-bodyrawsize` is a terabyte.
    HugeRawSize,
    /// `x-log-cursor` is empty, the rest of the answer right.
    EmptyCursor,
}

/// Which requests a fault is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// PullLogs.
    Pull,
    /// HeartBeat.
    Heartbeat,
    /// UpdateCheckPoint.
    Checkpoint,
    /// Another, by its name in the SLS API, such as `GetCheckPoint`.
    Other(&'static str),
    /// Every request, whatever it asks for.
    Any,
}

/// A fault and when it applies.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    kind: FaultKind,
    operation: Operation,
    shard: Option<u32>,
    times: Option<u32>,
}

impl Fault {
    /// A fault of every request, until cleared.
    pub fn new(kind: FaultKind) -> Fault {
        Fault { kind, operation: Operation::Any, shard: None, times: None }
    }

    /// Limits it to one operation.
    #[must_use]
    pub fn on(self, operation: Operation) -> Fault {
        Fault { operation, ..self }
    }

    /// Limits it to requests that name this shard.
    #[must_use]
    pub fn shard(self, shard: u32) -> Fault {
        Fault { shard: Some(shard), ..self }
    }

    /// Limits it to this many requests.
    #[must_use]
    pub fn times(self, times: u32) -> Fault {
        Fault { times: Some(times), ..self }
    }

    fn matches(&self, operation: Operation, shard: Option<u32>) -> bool {
        (self.operation == Operation::Any || self.operation == operation)
            && (self.shard.is_none() || self.shard == shard)
    }
}

/// The switchboard. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    board: Arc<Mutex<Board>>,
}

#[derive(Debug, Default)]
struct Board {
    active: Vec<Fault>,
    hits: u64,
    clock_skew: i64,
}

impl Faults {
    /// Switches a fault on.
    pub fn add(&self, fault: Fault) {
        self.with(|board| board.active.push(fault));
    }

    /// Switches every fault off; the clock skew stays.
    pub fn clear(&self) {
        self.with(|board| board.active.clear());
    }

    /// Requests that met a fault so far.
    pub fn hits(&self) -> u64 {
        self.with(|board| board.hits)
    }

    /// No fault is waiting for a request any more.
    pub fn is_clear(&self) -> bool {
        self.with(|board| board.active.is_empty())
    }

    /// Sets the service's clock `seconds` ahead of the real one (behind, if negative):
    /// the `Date` header of every answer and the check of request times.
    pub fn set_clock_skew(&self, seconds: i64) {
        self.with(|board| board.clock_skew = seconds);
    }

    /// Seconds the service's clock is ahead.
    pub fn clock_skew(&self) -> i64 {
        self.with(|board| board.clock_skew)
    }

    /// Uses up one fault for this request, out of those that `wanted` lets through.
    pub(super) fn take(
        &self,
        operation: Operation,
        shard: Option<u32>,
        wanted: impl Fn(FaultKind) -> bool,
    ) -> Option<FaultKind> {
        self.with(|board| {
            let found = board.active.iter().position(|fault| {
                fault.times != Some(0) && fault.matches(operation, shard) && wanted(fault.kind)
            })?;
            let fault = board.active.get_mut(found)?;
            let kind = fault.kind;
            fault.times = fault.times.map(|times| times - 1);
            board.active.retain(|fault| fault.times != Some(0));
            board.hits += 1;
            Some(kind)
        })
    }

    fn with<T>(&self, change: impl FnOnce(&mut Board) -> T) -> T {
        change(&mut self.board.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl FaultKind {
    /// Spoils an answer that was made, rather than taking its place.
    pub(super) fn spoils_the_answer(self) -> bool {
        matches!(
            self,
            FaultKind::Truncated
                | FaultKind::Corrupt
                | FaultKind::WrongRawSize
                | FaultKind::HugeRawSize
                | FaultKind::EmptyCursor
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_used_up_by_matching_requests_only() {
        let faults = Faults::default();
        faults.add(Fault::new(FaultKind::Reset).on(Operation::Pull).shard(1).times(2));
        assert_eq!(faults.take(Operation::Heartbeat, None, |_| true), None);
        assert_eq!(faults.take(Operation::Pull, Some(0), |_| true), None);
        assert_eq!(faults.take(Operation::Pull, Some(1), |_| false), None);
        for _ in 0..2 {
            assert_eq!(faults.take(Operation::Pull, Some(1), |_| true), Some(FaultKind::Reset));
        }
        assert_eq!(faults.take(Operation::Pull, Some(1), |_| true), None);
        assert!(faults.is_clear());
        assert_eq!(faults.hits(), 2);
    }

    #[test]
    fn a_fault_without_a_count_stays_until_cleared() {
        let faults = Faults::default();
        faults.add(Fault::new(FaultKind::ServerBusy));
        for operation in [Operation::Pull, Operation::Heartbeat, Operation::Any] {
            assert_eq!(faults.take(operation, None, |_| true), Some(FaultKind::ServerBusy));
        }
        faults.clear();
        assert_eq!(faults.take(Operation::Pull, None, |_| true), None);
    }
}
