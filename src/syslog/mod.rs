//! The syslog side: what a log looks like on the wire, and how it gets there.
//!
//! [`message`] names facilities and severities, [`framing`] sets messages apart on a
//! stream. Nothing here knows SLS, the spool or the rest of the crate.

pub mod framing;
pub mod message;
