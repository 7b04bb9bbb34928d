//! What the daemon answers: the one place where requests become calls.
//!
//! A request has either a member `ask`, the name of a question, which changes nothing, or a
//! member `order`, the name of something that changes the spool. See [`Question`] and [`Order`]. The other members are what the question or order needs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::protocol::Refusal;
use super::server::{Answer, Peer};
use crate::config::Destination;
use crate::inspect::{self, Output, Question};
use crate::orders::{self, Giver, Order};
use crate::spool::Spool;

/// A relay that runs, as the control socket sees it.
pub struct Daemon {
    spool: Spool,
    dir: PathBuf,
    destinations: Vec<Arc<Destination>>,
    started: Timestamp,
}

impl Daemon {
    /// For the spool of a relay that just started.
    pub fn new(spool: Spool, destinations: &[Destination]) -> Self {
        let dir = std::path::absolute(spool.dir()).unwrap_or_else(|_| spool.dir().to_owned());
        let destinations = destinations.iter().cloned().map(Arc::new).collect();
        Self { spool, dir, destinations, started: Timestamp::now() }
    }

    fn ping(&self) -> Value {
        json!({
            "pid": std::process::id(),
            "version": env!("CARGO_PKG_VERSION"),
            "started": self.started.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            "dir": self.dir.to_string_lossy(),
            "batches_waiting": self.spool.waiting(),
        })
    }

    fn ask(&self, request: Value, out: &mut dyn Output) -> Result<Value, Refusal> {
        let question: Question = serde_json::from_value(request).map_err(unknown)?;
        inspect::answer(&self.spool.inspection(), &question, out).map_err(|error| match error {
            inspect::Error::Output(gone) => gone.into(),
            error => Refusal::new(error.code(), crate::relay::chain(&error)),
        })
    }

    fn order(&self, request: Value, peer: Peer, out: &mut dyn Output) -> Result<Value, Refusal> {
        let order: Order = serde_json::from_value(request).map_err(unknown)?;
        let giver = Giver { uid: peer.uid, pid: peer.pid };
        orders::obey(&self.spool, &self.destinations, &order, giver, out)
            .map_err(|error| Refusal::new(error.code(), crate::relay::chain(&error)))
    }
}

impl Answer for Daemon {
    fn dir(&self) -> &Path {
        &self.dir
    }

    fn answer(&self, request: Value, peer: Peer, out: &mut dyn Output) -> Result<Value, Refusal> {
        match (&request["ask"], &request["order"]) {
            (Value::String(name), Value::Null) if name == "ping" => Ok(self.ping()),
            (Value::String(_), Value::Null) => self.ask(request, out),
            (Value::Null, Value::String(_)) => self.order(request, peer, out),
            _ => Err(Refusal::new(
                "control.bad_request",
                "a request names one question as \"ask\" or one order as \"order\", as a string",
            )),
        }
    }
}

/// A request that this version does not know, or not in this form.
fn unknown(error: serde_json::Error) -> Refusal {
    Refusal::new(
        "control.unknown",
        format!(
            "this relay ({}) does not understand the request ({error}); use the sls-relay command of the same installation as the relay, and restart the relay after an upgrade",
            env!("CARGO_PKG_VERSION")
        ),
    )
}
