//! RELP, the syslog transport that acknowledges every message.

pub mod frame;
pub mod session;
