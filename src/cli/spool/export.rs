//! `sls-relay spool export`: batches of a spool in one file. Only segments are read and
//! nothing in the spool is changed, so it works beside a running relay.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::ask::At;
use super::filters::BatchFilters;
use super::render::{Bar, damage_text};
use crate::cli::output;
use crate::inspect::{Whole, damage};
use crate::spool::BatchHeader;
use crate::spool::inspect::Inspection;
use crate::spool::portable::{self, Exported, PortableError};

/// How far an export or the check of one is, where a person watches.
pub(super) const BYTES: &str = "{wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}, {eta}";

/// A batch of which only some logs are meant is exported whole.
#[derive(Args, Debug)]
pub(super) struct ExportArgs {
    #[command(flatten)]
    at: At,
    /// File to write; it must not be there yet
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// One JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    filters: BatchFilters,
}

pub(super) fn export(args: &ExportArgs) -> anyhow::Result<ExitCode> {
    let selection = args.filters.selection()?;
    // Whoever gives the order owns the file, and the spool is only read: root stays root.
    let spool = Inspection::open(&args.at.settings()?.spool.dir)?;
    let state = spool.state();
    let meant = Whole::new(&selection, &state);
    let wanted = |header: &BatchHeader| meant.wants(header);
    let bar = Bar::new(BYTES);
    let show = &mut |at: portable::Progress| bar.show(at.bytes, at.of_bytes);
    let exported = portable::export(&spool, meant.span(&state), &wanted, &args.out, show);
    drop(bar);
    let exported = exported.map_err(shown)?;
    tell(args, &exported);
    if !exported.damage.is_empty() {
        for met in &exported.damage {
            output::error(&format!("DAMAGE     {}", damage_text(&damage(met))));
        }
        anyhow::bail!(
            "{} is whole, but what the spool holds in damaged bytes is not in it: keep the spool",
            args.out.display()
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// An error with the spool's own ones as such: exit codes go by them.
pub(super) fn shown(error: PortableError) -> anyhow::Error {
    match error {
        PortableError::Spool(error) => error.into(),
        other => other.into(),
    }
}

fn tell(args: &ExportArgs, exported: &Exported) {
    let Exported { export, batches, logs, length, damage, let_go } = exported;
    let delivered: u64 = let_go.iter().map(|span| span.end - span.first).sum();
    if args.json {
        let told = json!({
            "file": args.out, "export": format!("{export:016x}"), "batches": batches,
            "logs": logs, "bytes": length, "damaged_ranges": damage.len(),
            "delivered_meanwhile": delivered,
        });
        output::line(&told.to_string());
        return;
    }
    output::line(&format!(
        "{batches} batches with {logs} logs in {}, {}",
        args.out.display(),
        output::size(*length)
    ));
    if delivered > 0 {
        output::line(&format!("{delivered} batches were delivered meanwhile and are not in it"));
    }
}
