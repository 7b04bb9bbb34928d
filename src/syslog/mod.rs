//! Sending syslog messages, and knowing what the receiver has.
//!
//! [`rfc5424`] turns one log into one message, whose text is described in [`body`];
//! [`framing`] sets messages apart on a stream; [`transport`] carries them; [`delivery`]
//! decides what that proves: written, proven, confirmed; [`pacing`] says how fast a destination
//! gets logs, and [`backlog`] how long what waits will take. This leaf
//! stores nothing and knows nothing of where logs come from.

pub mod backlog;
pub mod body;
mod decimal;
pub mod delivery;
pub mod error;
mod fit;
pub mod framing;
pub mod fuzz;
mod json;
pub mod message;
pub mod pacing;
pub mod rfc5424;
mod sample;
mod settings;
mod shrink;
mod sink;
pub mod size;
mod stamp;
pub mod target;
pub mod transport;

pub use backlog::Backlog;
pub use delivery::{Assurance, DeliverySettings, DrainSettings, Positions, Proof};
pub use error::{SendError, TargetError};
pub use framing::{Format, Framing};
pub use message::{Facility, Severity};
pub use pacing::{Pacing, PacingSettings};
pub use rfc5424::{Formatted, Formatter, Identity, LogLine, Outcome};
pub use settings::{FormatSettings, SettingsError};
pub use size::Oversize;
pub use target::{Scheme, Target};
pub use transport::{DrainError, Frames};
