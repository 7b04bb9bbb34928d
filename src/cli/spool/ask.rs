//! Asking a question: where the spool is, and who answers.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use serde_json::Value;

use crate::cli::output;
use crate::cli::owner::become_owner;
use crate::config::{self, ControlSettings};
use crate::control::{Client, ClientError, Reply};
use crate::inspect::{self, Output, Question};
use crate::spool::inspect::Inspection;

/// Where the spool is.
#[derive(Args, Clone, Debug)]
#[group(multiple = false)]
pub(super) struct At {
    /// Spool directory
    #[arg(long, value_name = "DIR")]
    spool: Option<PathBuf>,
    /// Configuration file that names the spool directory; of it only [spool] is read
    /// [default: /etc/sls-relay/sls-relay.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// What every question takes.
#[derive(Args, Clone, Debug)]
pub(super) struct Asking {
    #[command(flatten)]
    pub(super) at: At,
    /// One JSON object a line
    #[arg(long)]
    pub(super) json: bool,
    /// Say at the end how many bytes were read, of how many that the spool holds
    #[arg(long = "stats")]
    counted: bool,
}

/// The spool that is meant, and the socket of the relay that may have it open.
pub(super) struct Place {
    pub(super) dir: PathBuf,
    pub(super) socket: PathBuf,
}

impl At {
    /// Where the spool and the socket are. From here on root is the owner of the spool.
    pub(super) fn place(&self) -> anyhow::Result<Place> {
        let place = match &self.spool {
            Some(dir) => Place { dir: dir.clone(), socket: ControlSettings::of_spool(dir).socket },
            None => {
                let local = config::load_spool(self.config_file())?;
                Place { dir: local.spool.dir, socket: local.control.socket }
            }
        };
        become_owner(&place.dir)?;
        Ok(place)
    }

    /// The configuration file that is meant, if none is named the usual one.
    pub(super) fn config_file(&self) -> &Path {
        self.config.as_deref().unwrap_or(Path::new("/etc/sls-relay/sls-relay.toml"))
    }
}

impl Place {
    /// A connection to the relay that has this spool open; none where none has.
    pub(super) fn relay(&self) -> Result<Option<Client>, ClientError> {
        let Some(client) = Client::connect(&self.socket)? else { return Ok(None) };
        let same = |dir: &Path| std::fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
        // A spool that was copied has a socket of the same name, which may be another relay's.
        let ours = same(Path::new(&client.hello().dir)) == same(&self.dir);
        Ok(ours.then_some(client))
    }
}

/// Asks, hands the lines of the answer to `out`, and returns what sums it up.
pub(super) fn ask(
    asking: &Asking,
    question: &Question,
    out: &mut dyn Output,
) -> anyhow::Result<Value> {
    let summary = answer(&asking.at.place()?, question, out)?;
    if asking.counted {
        let (read, of) = (&summary["read_bytes"], &summary["spool_bytes"]);
        let share = read.as_f64().zip(of.as_f64()).filter(|(_, of)| *of > 0.0);
        let share = share.map_or(0.0, |(read, of)| 100.0 * read / of);
        output::error(&format!("read {read} of {of} bytes ({share:.3} %)"));
    }
    Ok(summary)
}

/// The answer by whoever can give it: the relay that has the spool open, else the segments
/// themselves, which no running process minds.
fn answer(place: &Place, question: &Question, out: &mut dyn Output) -> anyhow::Result<Value> {
    let denied = match place.relay() {
        Ok(Some(client)) => return through(client, question, out),
        Ok(None) => None,
        // Who may not use the socket may still be allowed to read the directory.
        Err(error @ ClientError::Denied { .. }) => Some(error),
        Err(error) => return Err(error.into()),
    };
    let spool = match (Inspection::open(&place.dir), denied) {
        (Err(_), Some(denied)) => return Err(denied.into()),
        (opened, _) => opened?,
    };
    Ok(inspect::answer(&spool, question, out)?)
}

/// What the relay answers to a question or an order.
pub(super) fn through(
    client: Client,
    request: &impl Serialize,
    out: &mut dyn Output,
) -> anyhow::Result<Value> {
    let Value::Object(request) = serde_json::to_value(request)? else {
        anyhow::bail!("a request is an object");
    };
    let mut failed = Ok(());
    let end = client.ask(request, &mut |reply| match reply {
        Reply::Line(line) if failed.is_ok() => failed = out.line(&line),
        Reply::Line(_) => {}
        Reply::Progress(done, of) => out.progress(done, of),
    })?;
    failed?;
    Ok(Value::Object(end))
}
