//! Moves logs from Alibaba Cloud Simple Log Service (SLS) to a syslog receiver.
//!
//! A checkpoint is never ahead of durable data, and a log leaves the spool only
//! when the receiver has it. `ARCHITECTURE.md` follows one batch through the
//! modules; the three leaves [`sls`], `spool` and `syslog` know nothing of each
//! other and nothing of the rest of the crate.

pub mod cli;
pub mod config;
pub mod control;
pub mod emulator;
pub mod inspect;
pub mod orders;
pub mod relay;
pub mod sls;
pub mod spool;
pub mod syslog;
pub mod telemetry;
