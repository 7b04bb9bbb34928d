//! `sls-relay spool`: looking into a spool. What asks a question changes nothing and works beside
//! a running relay as well.

mod ask;
mod cat;
mod export;
mod filters;
mod gaps;
mod import;
mod keys;
mod list;
mod log_line;
mod order;
mod quarantine;
mod render;
mod repair;
mod show;
mod stats;
mod status;
mod verify;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::owner::OwnerError;
use super::{exit, output};
use crate::config;
use crate::control::ClientError;
use crate::{inspect, orders, spool};

#[derive(Args, Debug)]
pub(crate) struct SpoolArgs {
    #[command(subcommand)]
    command: SpoolCommand,
}

#[derive(Debug, Subcommand)]
enum SpoolCommand {
    /// What waits, for whom, and how much disk it takes
    Status(status::StatusArgs),
    /// Batches, oldest first
    List(list::ListArgs),
    /// One batch with its logs
    Show(show::ShowArgs),
    /// Logs, one a line
    Cat(cat::CatArgs),
    /// Logs that hold a text; ends with 1 where there are none
    Grep(cat::GrepArgs),
    /// How many logs, in how many bytes, from when to when
    Stats(stats::StatsArgs),
    /// What is missing: gaps, answers that could not be read, damage
    Gaps(gaps::GapsArgs),
    /// Read everything and compare every checksum; ends with 1 where something is damaged
    Verify(verify::VerifyArgs),
    /// The copies of what could not be read
    Quarantine(quarantine::QuarantineArgs),
    /// Stop delivery in front of batches until they are released
    Hold(order::BatchesArgs),
    /// Let delivery go on past held batches
    Release(order::BatchesArgs),
    /// Drop batches for good: nobody gets them
    Drop(order::BatchesArgs),
    /// Send logs again that a destination has had, marked as a replay
    Replay(order::ReplayArgs),
    /// What damage took, and pulling it from SLS again
    Repair(repair::RepairArgs),
    /// Let go of what waits for a destination that is not configured any more
    Forget(order::ForgetArgs),
    /// Copy batches into one file, for the spool of another relay; always whole ones
    Export(export::ExportArgs),
    /// Store the batches of an exported file, to be delivered from here
    Import(import::ImportArgs),
    /// Print a new random key for encrypt_key_file
    Key,
    /// Print what is in an encrypted copy of quarantine/
    Decrypt(keys::DecryptArgs),
}

/// Arguments that contradict one another.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Misuse(String);

pub(crate) fn run(args: &SpoolArgs) -> ExitCode {
    let done = match &args.command {
        SpoolCommand::Status(args) => status::status(args),
        SpoolCommand::List(args) => list::list(args),
        SpoolCommand::Show(args) => show::show(args),
        SpoolCommand::Cat(args) => cat::cat(args),
        SpoolCommand::Grep(args) => cat::grep(args),
        SpoolCommand::Stats(args) => stats::stats(args),
        SpoolCommand::Gaps(args) => gaps::gaps(args),
        SpoolCommand::Verify(args) => verify::verify(args),
        SpoolCommand::Quarantine(args) => quarantine::quarantine(args),
        SpoolCommand::Hold(args) => order::hold(args),
        SpoolCommand::Release(args) => order::release(args),
        SpoolCommand::Drop(args) => order::discard(args),
        SpoolCommand::Replay(args) => order::replay(args),
        SpoolCommand::Forget(args) => order::forget(args),
        SpoolCommand::Repair(args) => repair::repair(args),
        SpoolCommand::Export(args) => export::export(args),
        SpoolCommand::Import(args) => import::import(args),
        SpoolCommand::Key => keys::key(),
        SpoolCommand::Decrypt(args) => keys::decrypt(args),
    };
    done.unwrap_or_else(|error| {
        if let Some(problems) = error.downcast_ref::<config::Problems>() {
            output::error(&problems.to_string());
            return ExitCode::from(exit::CONFIG);
        }
        output::fail(error.as_ref(), code_of(&error))
    })
}

fn code_of(error: &anyhow::Error) -> u8 {
    let denied = |error: &std::io::Error| error.kind() == std::io::ErrorKind::PermissionDenied;
    let asked = match error.downcast_ref() {
        Some(orders::Error::Inspect(cause)) => Some(cause),
        _ => error.downcast_ref::<inspect::Error>(),
    };
    let cause = match (error.downcast_ref(), asked) {
        (Some(orders::Error::Spool(cause)), _) => Some(cause),
        (_, Some(inspect::Error::Spool(cause))) => Some(cause),
        _ => error.downcast_ref::<spool::Error>(),
    };
    match cause {
        Some(spool::Error::Io { source, .. }) if denied(source) => exit::NO_PERMISSION,
        _ if error.is::<Misuse>() => exit::USAGE,
        _ if error.is::<OwnerError>() => exit::NO_PERMISSION,
        _ if matches!(error.downcast_ref(), Some(ClientError::Denied { .. })) => {
            exit::NO_PERMISSION
        }
        _ => exit::UNAVAILABLE,
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn whoever_says_that_something_is_not_permitted_the_code_is_the_same() {
        let io = |kind: io::ErrorKind| {
            let path = "segments".into();
            spool::Error::Io { action: "open", path, source: kind.into() }
        };
        let denied = || io(io::ErrorKind::PermissionDenied);
        for error in [
            anyhow::Error::from(denied()),
            inspect::Error::Spool(denied()).into(),
            orders::Error::Spool(denied()).into(),
            orders::Error::Inspect(inspect::Error::Spool(denied())).into(),
            ClientError::Denied { path: "control.sock".into(), group: None }.into(),
        ] {
            assert_eq!(code_of(&error), exit::NO_PERMISSION, "{error}");
        }
        for error in [io(io::ErrorKind::NotFound).into(), ClientError::CutOff.into()] {
            assert_eq!(code_of(&error), exit::UNAVAILABLE, "{error}");
        }
    }
}
