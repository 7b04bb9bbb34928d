//! Sending syslog messages, and knowing what the receiver has.
//!
//! This leaf turns a log into a message, a message into a frame, carries frames over a
//! transport, and keeps the three positions of a destination: written, proven,
//! confirmed. It stores nothing and knows nothing of where logs come from.

pub mod delivery;
pub mod drain_plan;
pub mod error;
pub mod target;
pub mod transport;

pub use error::{SendError, TargetError};
pub use target::{Scheme, Target};
