//! Asking a question: where the spool is, and who answers.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;

use crate::cli::output;
use crate::cli::owner::become_owner;
use crate::config;
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

impl At {
    /// The spool directory. From here on root is its owner.
    pub(super) fn dir(&self) -> anyhow::Result<PathBuf> {
        let dir = self.named()?;
        become_owner(&dir)?;
        Ok(dir)
    }

    fn named(&self) -> anyhow::Result<PathBuf> {
        if let Some(dir) = &self.spool {
            return Ok(dir.clone());
        }
        let path = self.config.as_deref().unwrap_or(Path::new("/etc/sls-relay/sls-relay.toml"));
        Ok(config::load_spool(path)?.spool.dir)
    }
}

/// Asks, hands the lines of the answer to `out`, and returns what sums it up.
pub(super) fn ask(
    asking: &Asking,
    question: &Question,
    out: &mut dyn Output,
) -> anyhow::Result<Value> {
    let summary = answer(&asking.at.dir()?, question, out)?;
    if asking.counted {
        let (read, of) = (&summary["read_bytes"], &summary["spool_bytes"]);
        let share = read.as_f64().zip(of.as_f64()).filter(|(_, of)| *of > 0.0);
        let share = share.map_or(0.0, |(read, of)| 100.0 * read / of);
        output::error(&format!("read {read} of {of} bytes ({share:.3} %)"));
    }
    Ok(summary)
}

/// The answer by whoever can give it: the segments themselves, which no running process minds.
fn answer(dir: &Path, question: &Question, out: &mut dyn Output) -> anyhow::Result<Value> {
    let spool = Inspection::open(dir)?;
    Ok(inspect::answer(&spool, question, out)?)
}
