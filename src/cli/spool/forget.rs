//! `sls-relay spool forget`: lets go of what waits for a destination.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::ask::At;
use crate::cli::output;
use crate::spool::inspect::Inspection;
use crate::spool::{Options, Spool};

#[derive(Args, Debug)]
pub(super) struct ForgetArgs {
    #[command(flatten)]
    at: At,
    /// Name of the destination
    #[arg(long, value_name = "NAME")]
    destination: String,
}

pub(super) fn forget(args: &ForgetArgs) -> anyhow::Result<ExitCode> {
    let (dir, destination) = (args.at.dir()?, &args.destination);
    if !Inspection::open(&dir)?.state().destinations.contains_key(destination) {
        anyhow::bail!(
            "the spool knows no destination {destination:?}; `sls-relay spool status` shows those it knows"
        );
    }
    let (spool, _) = Spool::open(&Options::new(dir, u64::MAX))?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    spool.note(&json!({ "what": "forget destination", "destination": destination }))?;
    runtime.block_on(spool.forget_destination(destination))?;
    spool.close();
    output::line(&format!("{destination} is forgotten; the spool keeps nothing for it any more"));
    Ok(ExitCode::SUCCESS)
}
