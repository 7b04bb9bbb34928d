//! `sls-relay spool export`: batches of a spool in one file. Only segments are read and
//! nothing in the spool is changed, so it works beside a running relay.

use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use serde_json::json;

use super::bar::Bar;
use super::gaps::logstore;
use super::{Where, output};
use crate::spool::inspect::Inspection;
use crate::spool::portable::{self, Exported, PortableError};
use crate::spool::{BatchHeader, Seq, Span, State};

#[derive(Args, Debug)]
pub(super) struct ExportArgs {
    #[command(flatten)]
    at: Where,
    /// File to write; it must not be there yet
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// First batch
    #[arg(long, value_name = "SEQ")]
    from: Option<Seq>,
    /// First batch that stays out
    #[arg(long, value_name = "SEQ")]
    to: Option<Seq>,
    /// Batches with logs of this time or later (RFC 3339)
    #[arg(long, value_name = "TIME")]
    since: Option<Timestamp>,
    /// Batches with logs of before this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    until: Option<Timestamp>,
    /// Batches of this source, as `spool status` shows it, or PROJECT/LOGSTORE
    #[arg(long)]
    source: Option<String>,
    /// Batches of the shard with this number
    #[arg(long)]
    shard: Option<u32>,
    /// What some destination still needs [default]
    #[arg(long, conflicts_with = "all")]
    waiting: bool,
    /// What is delivered and still kept as well
    #[arg(long)]
    all: bool,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &ExportArgs) -> anyhow::Result<()> {
    let spool = Inspection::open(&args.at.dir()?)?;
    let span = args.span(&spool.state());
    let bar = Bar::new("exported");
    let wanted = |header: &BatchHeader| args.wants(header);
    let exported =
        portable::export(&spool, span, &wanted, &args.out, &mut |progress| bar.show(progress));
    bar.end();
    let exported = exported.map_err(shown)?;
    tell(args, &exported);
    if !exported.damage.is_empty() {
        for damage in &exported.damage {
            output::error(&format!(
                "damage: segment {:016x}, bytes {} to {}, batches {} to {}",
                damage.segment, damage.from, damage.to, damage.first_seq, damage.end_seq
            ));
        }
        anyhow::bail!(
            "{} is whole, but what the spool holds in damaged bytes is not in it: keep the spool",
            args.out.display()
        );
    }
    Ok(())
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

impl ExportArgs {
    /// The batches that may be wanted, as their numbers and their segments' times tell.
    fn span(&self, state: &State) -> Span {
        let oldest = if self.all { 0 } else { state.oldest_needed() };
        let first = oldest.max(self.from.unwrap_or(0));
        let end = state.next_seq.min(self.to.unwrap_or(Seq::MAX));
        if self.since.is_none() && self.until.is_none() {
            return Span { first, end };
        }
        let touched =
            state.segments.values().filter(|info| self.overlaps(info.min_time, info.max_time));
        let (from, to) = touched.fold((Seq::MAX, 0), |(from, to), info| {
            (info.first_seq.min(from), info.end_seq.max(to))
        });
        Span { first: first.max(from), end: end.min(to) }
    }

    fn wants(&self, header: &BatchHeader) -> bool {
        let source = &header.key.source;
        self.source.as_ref().is_none_or(|wanted| wanted == source || wanted == logstore(source))
            && self.shard.is_none_or(|shard| shard == header.key.shard)
            && self.overlaps(header.min_time, header.max_time)
    }

    /// Whether logs of these times, s since the epoch, may lie in the time asked for.
    fn overlaps(&self, min: u32, max: u32) -> bool {
        self.since.is_none_or(|since| i64::from(max) >= since.as_second())
            && self.until.is_none_or(|until| i64::from(min) * 1000 < until.as_millisecond())
    }
}
