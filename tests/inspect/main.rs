//! Questions about a spool, asked through the real binary and of the open spool itself.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod asking;
mod commands;
mod damage;
mod docs;
mod filters;
mod live;
mod oracle;
mod scene;
