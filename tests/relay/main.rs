//! The whole relay between an emulated SLS and a receiver, through everything that goes wrong.

#[path = "../support/pipeline.rs"]
mod pipeline;

mod faults;
mod outages;
mod review;
mod sharing;
