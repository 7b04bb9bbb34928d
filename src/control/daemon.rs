//! What the daemon answers: the one place where requests become calls.
//!
//! A request has either a member `ask`, the name of a question, which changes nothing, or a
//! member `order`, the name of something that changes the relay or its spool. Every order is
//! in the log with who gave it. The other members are what the question or order needs.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::protocol::Refusal;
use super::server::{Answer, Output, Peer};
use crate::spool::Spool;

/// A relay that runs, as the control socket sees it.
pub struct Daemon {
    spool: Spool,
    dir: PathBuf,
    started: Timestamp,
}

impl Daemon {
    /// For the spool of a relay that just started.
    pub fn new(spool: Spool) -> Self {
        let dir = std::path::absolute(spool.dir()).unwrap_or_else(|_| spool.dir().to_owned());
        Self { spool, dir, started: Timestamp::now() }
    }

    /// Questions.
    fn ask(&self, name: &str, _out: &mut dyn Output) -> Result<Value, Refusal> {
        match name {
            "ping" => Ok(json!({
                "pid": std::process::id(),
                "version": env!("CARGO_PKG_VERSION"),
                "started": self.started.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
                "dir": self.dir.to_string_lossy(),
                "batches_waiting": self.spool.waiting(),
            })),
            unknown => Err(unknown_name("ask", unknown)),
        }
    }

    /// Orders. There are none yet.
    fn order(&self, name: &str, peer: Peer) -> Result<Value, Refusal> {
        tracing::info!(
            order = name,
            uid = peer.uid,
            pid = peer.pid,
            "an order came through the control socket"
        );
        Err(unknown_name("order", name))
    }
}

impl Answer for Daemon {
    fn dir(&self) -> &Path {
        &self.dir
    }

    fn answer(&self, request: Value, peer: Peer, out: &mut dyn Output) -> Result<Value, Refusal> {
        match (&request["ask"], &request["order"]) {
            (Value::String(name), Value::Null) => self.ask(name, out),
            (Value::Null, Value::String(name)) => self.order(name, peer),
            _ => Err(Refusal::new(
                "control.bad_request",
                "a request names one question as \"ask\" or one order as \"order\", as a string",
            )),
        }
    }
}

fn unknown_name(kind: &str, name: &str) -> Refusal {
    let name: String = name.chars().take(40).collect();
    Refusal::new(
        "control.unknown",
        format!(
            "this relay ({}) does not know {kind} {name:?}; use the sls-relay command of the same installation as the relay, and restart the relay after an upgrade",
            env!("CARGO_PKG_VERSION")
        ),
    )
}
