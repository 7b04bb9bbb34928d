//! The control socket: how the command line, or anybody else on this host, talks to a relay
//! that runs.
//!
//! # The protocol, version 1
//!
//! A Unix stream socket. What may connect is decided by the mode of the socket, 0660: the
//! user and the group of the relay, and root. Both sides send lines: one JSON object in
//! UTF-8, ended by `\n`.
//!
//! 1. The server begins: `{"hello":{"version":1,"program":"sls-relay 0.1.0","dir":"…"}}`, with
//!    the absolute spool directory. A client that does not speak the version hangs up.
//! 2. The client sends one request within 10 seconds: an object of at most 64 KiB, its line end
//!    included, with `"version":1`. The other members are for who answers: see [`Daemon`].
//!    What follows the line is not read. The client may close its writing half.
//! 3. The server answers with any number of lines, each an object with one member:
//!    `{"line":…}`, a part of the answer, any JSON value;
//!    `{"progress":{"done":n,"of":m}}`, how far it is, for people; may be left out.
//! 4. The last line is one of `{"end":{…}}`, a summary, and
//!    `{"error":{"code":"…","message":"…"}}`. Then the connection is closed. A connection that
//!    ends without one of them was cut off, and the answer is not complete.
//!
//! An error may come in place of the answer at any time after the hello. The codes of this
//! layer:
//!
//! | code | what |
//! |---|---|
//! | `control.busy` | 16 connections are answered already; try again |
//! | `control.request_too_large` | the line of the request is longer than 64 KiB |
//! | `control.request_timeout` | no whole request within 10 seconds |
//! | `control.bad_request` | it is no JSON object, or ends before its line does |
//! | `control.version` | the request is of another version, or of none |
//! | `control.stopping` | the relay stops; the answer is not complete |
//! | `control.failed` | a defect of the relay; its log says more |
//!
//! No line of the server is longer than 32 MiB. A client that takes nothing for 30 seconds
//! while something waits for it is cut off.

mod client;
mod daemon;
pub mod fuzz;
mod protocol;
mod server;
mod socket;
#[cfg(test)]
mod tests;

pub use client::{Client, ClientError, Reply};
pub use daemon::Daemon;
pub use protocol::{Hello, LONGEST_LINE, LONGEST_REQUEST, Refusal, VERSION};
pub use server::{Answer, CONNECTIONS, Peer, serve};
pub use socket::{BindError, LONGEST_PATH, Listener};
