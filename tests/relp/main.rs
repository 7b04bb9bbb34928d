//! RELP: the client against a server that is late, refuses, lies and dies, and the whole relay
//! over it.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test ends at the first surprise")]

#[path = "../support/pipeline.rs"]
mod pipeline;

mod connection;
mod delivery;
