//! `sls-relay spool key` and `decrypt`: keys of an encrypted spool, and copies that were put
//! aside under one.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::ask::At;
use crate::cli::output;
use crate::spool::{Error, Keys};

#[derive(Args, Debug)]
pub(super) struct DecryptArgs {
    #[command(flatten)]
    at: At,
    /// File, with the name that it had in quarantine/
    file: PathBuf,
}

pub(super) fn key() -> anyhow::Result<ExitCode> {
    output::line(&Keys::random()?);
    Ok(ExitCode::SUCCESS)
}

pub(super) fn decrypt(args: &DecryptArgs) -> anyhow::Result<ExitCode> {
    let keys = args.at.keys()?;
    let path = args.file.clone();
    let copy = std::fs::read(&args.file);
    let copy = copy.map_err(|source| Error::Io { action: "read", path, source })?;
    let name = args.file.file_name().unwrap_or_default().to_string_lossy();
    output::bytes(&keys.open_copy(&name, copy)?);
    Ok(ExitCode::SUCCESS)
}
