//! Stand-ins for both ends of the relay, for the demo, the tests and users' own checks.
//!
//! [`waf`] writes the logs. Everything listens on loopback only.

pub mod waf;
