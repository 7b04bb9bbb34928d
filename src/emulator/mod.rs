//! Stand-ins for both ends of the relay: for the demo, the tests and users' own trials.
//!
//! [`sls`] serves logs that [`waf`] makes and [`workload`] spreads over shards, and
//! [`receiver`] takes syslog messages. [`arrivals`] reads them back and [`oracle`] says what
//! was lost, repeated or disordered on the way. Everything here listens on loopback only.

pub mod arrivals;
pub mod oracle;
pub mod receiver;
pub mod sls;
pub mod waf;
pub mod workload;
