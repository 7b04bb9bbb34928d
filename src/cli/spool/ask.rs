//! Asking a question: where the spool is, and who answers.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use serde_json::Value;

use crate::cli::output;
use crate::cli::owner::become_owner;
use crate::config::{self, ControlSettings, KeyFileError, LocalSettings, SpoolSettings};
use crate::control::{Client, ClientError, Reply};
use crate::inspect::{self, Output, Question};
use crate::spool::inspect::Inspection;
use crate::spool::{Error, Keys, Options};

/// Where the spool is.
#[derive(Args, Clone, Debug)]
pub(super) struct At {
    /// Spool directory
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    spool: Option<PathBuf>,
    /// Configuration file that names the spool directory; of it only [spool] is read
    /// [default: /etc/sls-relay/sls-relay.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// File with the keys of an encrypted spool, one a line; what only reads the spool reads it
    /// here then, beside the relay that may have it open
    /// [default: encrypt_key_file of the configuration]
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
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
    /// What the configuration says of it; without one, no limits.
    pub(super) settings: SpoolSettings,
    socket: PathBuf,
    /// Read before root became the owner of the spool, who need not be able to.
    keys: Result<Keys, KeyFileError>,
    /// The keys were named, so that they are used and not those of a relay.
    reads_itself: bool,
}

impl At {
    /// Where the spool and the socket are. From here on root is the owner of the spool.
    pub(super) fn place(&self) -> anyhow::Result<Place> {
        let LocalSettings { spool: settings, control } = self.settings()?;
        let keys = settings.keys();
        let reads_itself = self.key_file.is_some();
        let keys = if reads_itself { Ok(keys?) } else { keys };
        become_owner(&settings.dir)?;
        let (dir, socket) = (settings.dir.clone(), control.socket);
        Ok(Place { dir, settings, socket, keys, reads_itself })
    }

    /// The settings of the spool and the socket, those of a directory alone without limits.
    pub(super) fn settings(&self) -> anyhow::Result<LocalSettings> {
        let mut local = match &self.spool {
            Some(dir) => LocalSettings {
                spool: SpoolSettings::new(dir, u64::MAX),
                control: ControlSettings::of_spool(dir),
            },
            None => config::load_spool(self.config_file())?,
        };
        if self.key_file.is_some() {
            local.spool.key_file.clone_from(&self.key_file);
        }
        Ok(local)
    }

    /// The keys alone: those that are named need neither a spool nor a configuration.
    pub(super) fn keys(&self) -> anyhow::Result<Keys> {
        let Some(file) = &self.key_file else { return Ok(self.settings()?.spool.keys()?) };
        let nowhere = SpoolSettings::new(Path::new(""), u64::MAX);
        let settings = SpoolSettings { key_file: Some(file.clone()), ..nowhere };
        Ok(settings.keys()?)
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

    /// How to open this spool where no relay has it open. Nothing is let go of.
    ///
    /// # Errors
    /// When the keys cannot be read: what is written must not be in the clear then.
    pub(super) fn options(self) -> Result<Options, KeyFileError> {
        Ok(Options { keys: self.keys?, ..Options::keeping(self.dir) })
    }
}

/// Asks, hands the lines of the answer to `out`, and returns what sums it up.
pub(super) fn ask(
    asking: &Asking,
    question: &Question,
    out: &mut dyn Output,
) -> anyhow::Result<Value> {
    let summary = answer(asking.at.place()?, question, out)?;
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
fn answer(place: Place, question: &Question, out: &mut dyn Output) -> anyhow::Result<Value> {
    let relay = if place.reads_itself { Ok(None) } else { place.relay() };
    let denied = match relay {
        Ok(Some(client)) => return through(client, question, out),
        Ok(None) => None,
        // Who may not use the socket may still be allowed to read the directory.
        Err(error @ ClientError::Denied { .. }) => Some(error),
        Err(error) => return Err(error.into()),
    };
    // Without the keys all is read but bodies.
    let keys = place.keys.as_ref().cloned().unwrap_or_default();
    let spool = match (Inspection::with_keys(&place.dir, keys), denied) {
        (Err(_), Some(denied)) => return Err(denied.into()),
        (opened, _) => opened?,
    };
    match (inspect::answer(&spool, question, out), place.keys) {
        (Err(inspect::Error::Spool(Error::KeyMissing { .. })), Err(unusable)) => {
            Err(unusable.into())
        }
        (answer, _) => Ok(answer?),
    }
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
