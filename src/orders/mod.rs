//! What operators order: everything that changes a spool on purpose.
//!
//! The same orders are obeyed by a relay that runs, through its control socket, and by a
//! command that has opened the spool of a stopped one. Each needs a reason, and is written
//! into the spool's ledger with who gave it before it is carried out. What would break the
//! order of a shard in silence is refused.

mod batches;
mod error;
mod import;
mod quarantine;
mod refetch;
mod resend;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use error::Error;
pub use quarantine::Copies;

use crate::config::{Destination, Source};
use crate::inspect::{Output, Selection};
use crate::spool::Spool;

/// An order, in the form in which it travels. A member that is not known is refused.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "order", rename_all = "snake_case", deny_unknown_fields)]
pub enum Order {
    /// Stop delivery in front of batches until they are released.
    Hold {
        /// Which batches.
        selection: Selection,
        /// Why.
        reason: String,
    },
    /// Let delivery go on past held batches.
    Release {
        /// Which; those that are not held stay as they are.
        selection: Selection,
        /// Why.
        reason: String,
    },
    /// Drop batches for good: no destination gets them.
    Drop {
        /// Which batches.
        selection: Selection,
        /// Why.
        reason: String,
    },
    /// Let go of what waits for a destination that is not configured any more.
    Forget {
        /// Its name in the spool.
        destination: String,
        /// Why.
        reason: String,
    },
    /// Send logs again to one destination, marked as a replay.
    Replay {
        /// Which logs of those that it has already.
        selection: Selection,
        /// Name of the destination; may be left out where there is only one.
        #[serde(default)]
        to: Option<String>,
        /// Logs a second at most.
        #[serde(default)]
        rate: Option<std::num::NonZeroU32>,
        /// Why.
        reason: String,
    },
    /// Let go of copies in the quarantine.
    QuarantineDrop {
        /// Which.
        copies: Copies,
        /// Why.
        reason: String,
    },
    /// Send single logs out of the quarantine, marked as a replay. What is confirmed leaves it.
    QuarantineRetry {
        /// Which.
        copies: Copies,
        /// Name of a destination in place of those that did not get them.
        #[serde(default)]
        to: Option<String>,
        /// Logs a second at most.
        #[serde(default)]
        rate: Option<std::num::NonZeroU32>,
        /// Why.
        reason: String,
    },
    /// Pull from SLS again what damage of the spool took. Consumes nothing and moves no
    /// checkpoint.
    Refetch {
        /// Why.
        reason: String,
    },
    /// Store what was exported from another spool, to be delivered from here.
    Import {
        /// The file, absolute; who obeys opens it.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// Longest reason, in bytes.
const LONGEST_REASON: usize = 1000;

/// Who gives an order.
#[derive(Clone, Copy, Debug)]
pub struct Giver {
    /// User id, as the system tells it.
    pub uid: u32,
    /// Process id, where the system tells it.
    pub pid: Option<i32>,
}

/// What orders need of the configuration.
#[derive(Debug, Default)]
pub struct Configured {
    destinations: Vec<Arc<Destination>>,
    sources: Vec<Source>,
    /// Held while logs are pulled again.
    refetching: Mutex<()>,
    /// Held while an export is brought in.
    importing: Mutex<()>,
    /// Held while logs of the quarantine are sent.
    retrying: Mutex<()>,
}

impl Configured {
    /// These destinations and sources.
    pub fn new(destinations: &[Destination], sources: &[Source]) -> Self {
        let destinations = destinations.iter().cloned().map(Arc::new).collect();
        Self { destinations, sources: sources.to_vec(), ..Self::default() }
    }
}

/// Obeys `order`, blocking. Must be called in a runtime, on a thread that may block. An order
/// that takes long reports progress and ends early when `out` does not want it any more.
///
/// # Errors
/// Why it was not carried out; then nothing has changed, unless the error says so.
pub fn obey(
    spool: &Spool,
    configured: &Configured,
    order: &Order,
    giver: Giver,
    out: &mut dyn Output,
) -> Result<Value, Error> {
    let reason = order.reason().trim();
    if reason.is_empty() || reason.len() > LONGEST_REASON {
        return Err(Error::Reason { longest: LONGEST_REASON });
    }
    let audit = Audit { spool, giver, reason };
    let destinations = &configured.destinations;
    match order {
        Order::Hold { selection, .. } => batches::hold(&audit, selection),
        Order::Release { selection, .. } => batches::release(&audit, selection),
        Order::Drop { selection, .. } => batches::discard(&audit, selection),
        Order::Forget { destination, .. } => forget(&audit, destinations, destination),
        Order::Replay { selection, to, rate, .. } => {
            let to = resend::destination(destinations, to.as_deref())?;
            resend::replay(&audit, selection, to, *rate, out)
        }
        Order::QuarantineDrop { copies, .. } => quarantine::discard(&audit, copies),
        Order::QuarantineRetry { copies, to, rate, .. } => {
            quarantine::retry(&audit, configured, copies, to.as_deref(), *rate, out)
        }
        Order::Refetch { .. } => refetch::refetch(&audit, configured, out),
        Order::Import { path, .. } => import::import(&audit, configured, path, out),
    }
}

impl Order {
    fn reason(&self) -> &str {
        match self {
            Self::Hold { reason, .. }
            | Self::Release { reason, .. }
            | Self::Drop { reason, .. }
            | Self::Forget { reason, .. }
            | Self::Replay { reason, .. }
            | Self::QuarantineDrop { reason, .. }
            | Self::QuarantineRetry { reason, .. }
            | Self::Import { reason, .. }
            | Self::Refetch { reason } => reason,
        }
    }
}

/// Writes down what was ordered, by whom and why.
struct Audit<'a> {
    spool: &'a Spool,
    giver: Giver,
    reason: &'a str,
}

impl Audit<'_> {
    /// Into the ledger, durable, and into the log.
    fn note(&self, order: &str, what: &Value) -> Result<(), Error> {
        let (uid, pid) = (self.giver.uid, self.giver.pid);
        tracing::warn!(order, uid, pid, reason = self.reason, %what, "an operator's order");
        let mut line = json!({
            "what": "order", "order": order, "uid": uid, "pid": pid, "reason": self.reason,
        });
        if let (Some(line), Some(what)) = (line.as_object_mut(), what.as_object()) {
            line.extend(what.clone());
        }
        Ok(self.spool.note(&line)?)
    }
}

/// The right to do what only one may do at a time; none while another has it.
fn alone(one: &Mutex<()>) -> Option<MutexGuard<'_, ()>> {
    match one.try_lock() {
        Ok(alone) => Some(alone),
        // One that panicked is over, too.
        Err(TryLockError::Poisoned(over)) => Some(over.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// Waits for what the spool does.
fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Handle::current().block_on(future)
}

fn forget(
    audit: &Audit<'_>,
    destinations: &[Arc<Destination>],
    name: &str,
) -> Result<Value, Error> {
    let state = audit.spool.status().state;
    let Some(delivered) = state.destinations.get(name) else {
        let known = state.destinations.keys().cloned().collect();
        return Err(Error::NoDestination { name: name.to_owned(), known });
    };
    if destinations.iter().any(|destination| destination.name == name) {
        return Err(Error::InUse { name: name.to_owned() });
    }
    let waiting = state.next_log.saturating_sub(delivered.log);
    let what = json!({ "destination": name, "logs_waiting": waiting });
    audit.note("forget", &what)?;
    wait(audit.spool.forget_destination(name))?;
    Ok(what)
}
