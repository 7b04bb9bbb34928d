//! The syslog side: what a log looks like on the wire, and how it gets there.
//!
//! [`rfc5424`] turns one log into one message, whose text is described in [`body`];
//! [`framing`] sets messages apart on a stream. Nothing here knows SLS, the spool or the
//! rest of the crate.

pub mod body;
mod decimal;
pub mod framing;
pub mod message;
pub mod rfc5424;
mod sample;
mod settings;
mod sink;
mod stamp;
