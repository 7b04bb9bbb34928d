//! The syslog side: what a log looks like on the wire, and how it gets to the receiver.
//!
//! This leaf turns a log into a message ([`rfc5424`], whose text [`body`] describes), sets
//! messages apart on a stream ([`framing`]), carries them over a transport, and keeps the
//! three positions of a destination: written, proven, confirmed. Nothing here knows SLS,
//! the spool or the rest of the crate.

pub mod body;
mod decimal;
pub mod delivery;
pub mod drain_plan;
pub mod error;
pub mod framing;
pub mod message;
pub mod rfc5424;
mod sample;
mod settings;
mod sink;
mod stamp;
pub mod target;

pub use error::{SendError, TargetError};
pub use framing::{Format, Framing};
pub use message::{Facility, Pri, Severity, UnknownName};
pub use settings::{FormatSettings, MIN_MESSAGE_BYTES, SettingsError};
pub use target::{Scheme, Target};
