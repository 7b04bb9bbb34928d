//! The commands that change a spool: each gives one order, to the relay that has the spool
//! open, else by opening it.

use std::num::NonZeroU32;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use serde_json::Value;

use super::ask::{At, through};
use super::export::shown;
use super::filters::Filters;
use super::render::{Bar, batches};
use crate::cli::{machine_name, output};
use crate::config;
use crate::inspect::Output;
use crate::orders::{self, Configured, Giver, Order};
use crate::spool::inspect::Inspection;
use crate::spool::{Spool, portable};

/// How far an order is.
pub(super) const BATCHES: &str = "{wide_bar} {pos} of {len} batches, {eta}";

/// What every order takes.
#[derive(Args, Debug)]
pub(super) struct Ordering {
    #[command(flatten)]
    pub(super) at: At,
    /// Why; kept in the spool's ledger
    #[arg(long, value_name = "TEXT")]
    pub(super) reason: String,
    /// One JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Args, Debug)]
pub(super) struct BatchesArgs {
    #[command(flatten)]
    ordering: Ordering,
    #[command(flatten)]
    filters: Filters,
}

#[derive(Args, Debug)]
pub(super) struct ForgetArgs {
    #[command(flatten)]
    ordering: Ordering,
    /// Name of the destination
    #[arg(long, value_name = "NAME")]
    destination: String,
}

#[derive(Args, Debug)]
pub(super) struct ReplayArgs {
    #[command(flatten)]
    ordering: Ordering,
    /// Destination, as the configuration names it; needed where there are several
    #[arg(long, value_name = "NAME")]
    to: Option<String>,
    /// Logs a second at most
    #[arg(long, value_name = "NUMBER")]
    rate: Option<NonZeroU32>,
    #[command(flatten)]
    filters: Filters,
}

pub(super) fn hold(args: &BatchesArgs) -> anyhow::Result<ExitCode> {
    let (selection, reason) = (args.filters.selection()?, args.ordering.reason.clone());
    let done = give(&args.ordering.at, &Order::Hold { selection, reason })?;
    Ok(args.ordering.tell(&done, |done| {
        format!("held: {}; delivery stops in front of that until it is released", what(done))
    }))
}

pub(super) fn release(args: &BatchesArgs) -> anyhow::Result<ExitCode> {
    let (selection, reason) = (args.filters.selection()?, args.ordering.reason.clone());
    let done = give(&args.ordering.at, &Order::Release { selection, reason })?;
    Ok(args.ordering.tell(&done, |done| format!("released: {}", what(done))))
}

pub(super) fn discard(args: &BatchesArgs) -> anyhow::Result<ExitCode> {
    let (selection, reason) = (args.filters.selection()?, args.ordering.reason.clone());
    if selection == crate::inspect::Selection::default() {
        return Err(super::Misuse(
            "name what to drop: without any filter that would be everything".to_owned(),
        )
        .into());
    }
    let done = give(&args.ordering.at, &Order::Drop { selection, reason })?;
    Ok(args
        .ordering
        .tell(&done, |done| format!("dropped: {}; `sls-relay spool gaps` shows what", what(done))))
}

pub(super) fn forget(args: &ForgetArgs) -> anyhow::Result<ExitCode> {
    let (destination, reason) = (args.destination.clone(), args.ordering.reason.clone());
    let done = give(&args.ordering.at, &Order::Forget { destination, reason })?;
    Ok(args.ordering.tell(&done, |_| {
        format!("{} is forgotten; the spool keeps nothing for it any more", args.destination)
    }))
}

/// Ends with 1 where not all was confirmed.
pub(super) fn replay(args: &ReplayArgs) -> anyhow::Result<ExitCode> {
    let (selection, reason) = (args.filters.selection()?, args.ordering.reason.clone());
    let order = Order::Replay { selection, to: args.to.clone(), rate: args.rate, reason };
    let done = give(&args.ordering.at, &order)?;
    let complete = done["complete"] == true;
    args.ordering.tell(&done, |done| {
        format!(
            "replay {}: {} logs confirmed by {}{}{}",
            done["replay"].as_str().unwrap_or_default(),
            done["logs"],
            done["destination"].as_str().unwrap_or_default(),
            match done["unproven"].as_u64() {
                Some(0) | None => String::new(),
                Some(some) => format!(", {some} of them without a proof"),
            },
            if complete { "" } else { "; it ended early" }
        )
    });
    Ok(ExitCode::from(u8::from(!complete)))
}

impl Ordering {
    pub(super) fn tell(&self, done: &Value, text: impl FnOnce(&Value) -> String) -> ExitCode {
        output::line(&if self.json { done.to_string() } else { text(done) });
        ExitCode::SUCCESS
    }
}

/// The batches of an order in words.
fn what(done: &Value) -> String {
    format!("{} with {} logs", batches(&done["batches"]), done["logs"])
}

/// Gives the order to whoever has the spool, and shows how far it is.
pub(super) fn give(at: &At, order: &Order) -> anyhow::Result<Value> {
    give_at(at, order, &mut Bar::new(BATCHES))
}

/// Gives the order to whoever has the spool.
pub(super) fn give_at(at: &At, order: &Order, out: &mut dyn Output) -> anyhow::Result<Value> {
    let place = at.place()?;
    if let Some(client) = place.relay()? {
        return through(client, order, out);
    }
    let configured = match order {
        // Only these need to know how somebody is reached.
        Order::Replay { .. } | Order::QuarantineRetry { .. } | Order::Refetch { .. } => {
            configured(at)?
        }
        _ => Configured::default(),
    };
    let limits = (place.settings.max_bytes, place.settings.min_free_bytes);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("cannot start")?;
    let _within = runtime.enter();
    let opened = Inspection::open(&place.dir);
    let mut options = place.options()?;
    match (order, opened) {
        // Moving in makes the spool where there is none, but only for a file that is one.
        (Order::Import { path, .. }, Err(_)) => {
            portable::verify(path, &mut |_| ()).map_err(shown)?;
        }
        // A spool that is not there is not made.
        (_, opened) => drop(opened?),
    }
    if matches!(order, Order::Import { .. }) {
        (options.max_bytes, options.min_free_bytes) = limits;
    }
    let (spool, _) = Spool::open(&options)?;
    let uid = rustix::process::getuid().as_raw();
    let giver = Giver { uid, pid: i32::try_from(std::process::id()).ok() };
    let done = orders::obey(&spool, &configured, order, giver, out);
    spool.close();
    Ok(done?)
}

/// What the configuration file says of destinations and sources; nothing else of it is used.
fn configured(at: &At) -> anyhow::Result<Configured> {
    let env = |name: &str| std::env::var(name).ok();
    let settings = config::load(at.config_file(), &env, &machine_name())?.settings;
    Ok(Configured::new(&settings.destinations, &settings.sources))
}

impl Output for Bar {
    fn line(&mut self, line: &Value) -> std::io::Result<()> {
        self.suspend(|| output::line(&line.to_string()));
        Ok(())
    }

    fn progress(&mut self, done: u64, of: u64) {
        self.show(done, of);
    }
}
