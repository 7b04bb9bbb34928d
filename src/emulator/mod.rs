//! Stand-ins for both ends of the relay: for the demo, the tests and users' own trials.
//!
//! Everything here listens on loopback only.

pub mod sls;
