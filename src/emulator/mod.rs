//! Stand-ins for both ends of the relay, for the demo, the tests and users' own checks.
//!
//! [`waf`] writes the logs and [`oracle`] says what was lost, repeated or disordered on
//! the way. Everything listens on loopback only.

pub mod oracle;
pub mod waf;
