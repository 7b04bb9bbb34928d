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
use crate::inspect::{self, Output, Question};
use crate::orders::{self, Configured, Giver, Order};
use crate::relay::status::Counters;
use crate::spool::Spool;

/// A relay that runs, as the control socket sees it.
pub struct Daemon {
    spool: Spool,
    dir: PathBuf,
    configured: Configured,
    counters: Arc<Counters>,
    started: Timestamp,
}

impl Daemon {
    /// For the spool of a relay that just started, what is configured, and what the relay counts.
    pub fn new(spool: Spool, configured: Configured, counters: Arc<Counters>) -> Self {
        let dir = std::path::absolute(spool.dir()).unwrap_or_else(|_| spool.dir().to_owned());
        Self { spool, dir, configured, counters, started: Timestamp::now() }
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
        let inspection = self.spool.inspection();
        let answer = match question {
            Question::Status => {
                let mut out = WithSenders { out, counters: &self.counters };
                inspect::answer(&inspection, &question, &mut out)
            }
            _ => inspect::answer(&inspection, &question, out),
        };
        answer.map_err(|error| match error {
            inspect::Error::Output(gone) => gone.into(),
            error => Refusal::new(error.code(), crate::relay::chain(&error)),
        })
    }

    fn order(&self, request: Value, peer: Peer, out: &mut dyn Output) -> Result<Value, Refusal> {
        let order: Order = serde_json::from_value(request).map_err(unknown)?;
        let giver = Giver { uid: peer.uid, pid: peer.pid };
        orders::obey(&self.spool, &self.configured, &order, giver, out)
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

/// Adds to a status what only the relay that runs knows: how it sends.
struct WithSenders<'a> {
    out: &'a mut dyn Output,
    counters: &'a Counters,
}

impl Output for WithSenders<'_> {
    fn line(&mut self, line: &Value) -> std::io::Result<()> {
        let mut line = line.clone();
        for (name, destination) in self.counters.snapshot().destinations {
            let shown = line.get_mut("destinations").and_then(|all| all.get_mut(&name));
            if let Some(fields) = shown.and_then(Value::as_object_mut)
                && let Ok(Value::Object(counted)) = serde_json::to_value(destination)
            {
                fields.extend(counted);
            }
        }
        self.out.line(&line)
    }

    fn is_wanted(&self) -> bool {
        self.out.is_wanted()
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

#[cfg(test)]
mod tests {
    use super::*;

    struct Lines(Vec<Value>);

    impl Output for Lines {
        fn line(&mut self, line: &Value) -> std::io::Result<()> {
            self.0.push(line.clone());
            Ok(())
        }
    }

    #[test]
    fn a_status_says_how_each_destination_is_sent_to_and_knows_no_others() {
        let counters = Counters::default();
        counters.destination("siem").sending.lock().unwrap().rate = Some(250);
        counters.destination("a replay of the past");
        let mut lines = Lines(Vec::new());
        let mut out = WithSenders { out: &mut lines, counters: &counters };
        let status = json!({ "destinations": { "siem": { "seq": 7 }, "gone": { "seq": 1 } } });
        out.line(&status).unwrap();
        let shown = &lines.0[0]["destinations"];
        assert_eq!((&shown["siem"]["seq"], &shown["siem"]["rate"]), (&json!(7), &json!(250)));
        assert_eq!(shown["siem"]["eta_seconds"], Value::Null, "not known");
        assert_eq!(shown["gone"], json!({ "seq": 1 }));
        assert_eq!(shown.as_object().unwrap().len(), 2);
    }
}
