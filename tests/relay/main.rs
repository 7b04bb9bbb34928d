//! The whole relay between an emulated SLS and a receiver, through everything that goes wrong.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

#[path = "../support/pipeline.rs"]
mod pipeline;

mod checkpoints;
mod delivered;
mod destinations;
mod exports;
mod faults;
mod filters;
mod gaps;
mod groups;
mod handover;
mod lag;
mod membership;
mod messages;
mod outages;
mod refetch;
mod regressions;
mod replay;
mod sharing;
mod unreadable;
