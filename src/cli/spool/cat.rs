//! `sls-relay spool cat` and `grep`: logs, one a line.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Args;

use super::ask::{Asking, ask};
use super::filters::{Filters, octets};
use super::log_line::Form;
use super::render::Rendered;
use crate::cli::output;
use crate::inspect::Question;

#[derive(Args, Debug)]
pub(super) struct CatArgs {
    #[command(flatten)]
    asking: Asking,
    #[command(flatten)]
    form: Form,
    #[command(flatten)]
    extent: Extent,
    #[command(flatten)]
    filters: Filters,
}

#[derive(Args, Debug)]
pub(super) struct GrepArgs {
    #[command(flatten)]
    asking: Asking,
    /// Text to look for in keys and values, byte by byte
    pattern: OsString,
    /// Take ASCII letters of either case for the same
    #[arg(short, long)]
    ignore_case: bool,
    /// Only print how many logs hold it
    #[arg(short, long, conflicts_with_all = ["follow", "raw", "keys"])]
    count: bool,
    #[command(flatten)]
    form: Form,
    #[command(flatten)]
    extent: Extent,
    #[command(flatten)]
    filters: Filters,
}

/// How many logs.
#[derive(Args, Debug)]
pub(super) struct Extent {
    /// Most logs to print
    #[arg(long, value_name = "NUMBER")]
    limit: Option<u64>,
    /// Go on with logs that come
    #[arg(long)]
    follow: bool,
}

pub(super) fn cat(args: &CatArgs) -> anyhow::Result<ExitCode> {
    let selection = args.filters.selection()?;
    let Extent { limit, follow } = args.extent;
    let question = Question::Cat { selection, limit, follow };
    ask(&args.asking, &question, &mut Rendered::new(&args.asking, |log| args.form.print(log)))?;
    Ok(ExitCode::SUCCESS)
}

/// Ends like `grep`: with 1 where nothing was found.
pub(super) fn grep(args: &GrepArgs) -> anyhow::Result<ExitCode> {
    let Extent { limit, follow } = args.extent;
    let question = Question::Grep {
        pattern: octets(&args.pattern),
        ignore_case: args.ignore_case,
        count: args.count,
        selection: args.filters.selection()?,
        limit,
        follow,
    };
    let mut rendered = Rendered::new(&args.asking, |log| args.form.print(log));
    if args.count {
        rendered = rendered.with_progress();
    }
    let summary = ask(&args.asking, &question, &mut rendered)?;
    drop(rendered);
    if args.count && args.asking.json {
        output::line(&serde_json::json!({ "logs": summary["logs"] }).to_string());
    } else if args.count {
        output::line(&summary["logs"].to_string());
    }
    Ok(ExitCode::from(u8::from(summary["logs"] == 0)))
}
