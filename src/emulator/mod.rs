//! Stand-ins for both ends of the relay, for the demo, the tests and users' own checks.
//!
//! [`waf`] writes the logs, [`receiver`] is a syslog receiver with outages, and
//! [`oracle`] says what was lost, repeated or disordered on the way. Everything
//! listens on loopback only.

pub mod oracle;
pub mod receiver;
pub mod waf;
